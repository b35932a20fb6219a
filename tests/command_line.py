"""The command line in this process: what a command says and its exit code, without two seconds of imports each.

What only a process of its own can show (signals, pipes, a shell, what is imported) is tested with one.
"""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from unittest import mock

from auditlib import cli


def command(*arguments: object, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """`auditlib ARGUMENTS` with these variables besides those that are set, `given` piped in; it met no traceback."""
    words = ["auditlib", *map(str, arguments)]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", words),
        mock.patch.object(sys, "stdin", io.StringIO(given)),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        warnings.simplefilter("default")
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
    assert isinstance(code, int), code
    for stream in (out, err):
        stream.flush()
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]
    assert "Traceback" not in "".join(said)
    return subprocess.CompletedProcess(words, code, *said)
