"""`python -m auditlib.packet.warm FD`: a process that has imported what notebooks import; kernels are forked from it.

    -> {"start": {"argv": ["-f", ".../kernel.json"], "cwd": "/tmp/x", "env": {"TZ": "UTC"}}}      <- 4711
    -> {"poll": 4711}                                            <- null while it runs, else its exit status

Questions come on the standard input, a line each; answers go to the file descriptor FD. Importing takes three times as
long as starting a kernel; a fork takes none of it. It runs nothing itself, and ends when its standard input does.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any, NoReturn

_LIBRARIES = ("ipykernel.kernelapp", "ipykernel.ipkernel", "auditlib.evidence")  # evidence: pandas, DuckDB, matplotlib


def main(answers: int) -> None:
    """Answer until nobody asks any more."""
    # What ipykernel sets in every kernel, before matplotlib reads it.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name in _LIBRARIES:
        importlib.import_module(name)
    # As pandas sets it where a kernel imports it; without IPython around it, it sets 0, as for a terminal.
    importlib.import_module("pandas").set_option("display.max_columns", 20)
    del sys.path[0]  # the folder that this was started in; ipykernel_launcher leaves it out as well
    while line := sys.stdin.buffer.readline():
        asked: dict[str, Any] = json.loads(line)
        if "start" in asked:
            told: int | None = os.fork()
            if told == 0:
                os.close(answers)
                _become_kernel(**asked["start"])
        else:
            pid, status = os.waitpid(asked["poll"], os.WNOHANG)
            told = os.waitstatus_to_exitcode(status) if pid else None
        os.write(answers, json.dumps(told).encode() + b"\n")


def _become_kernel(argv: list[str], cwd: str, env: dict[str, str]) -> NoReturn:
    """In the forked process: a session, an environment and a folder of its own, then the kernel until it ends."""
    status = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        os.chdir(cwd)
        parent = f"--IPKernelApp.parent_handle={os.getppid()}"  # it ends when this process does
        sys.argv = ["ipykernel_launcher", *argv, parent]
        importlib.import_module("ipykernel.kernelapp").launch_new_instance(sys.argv[1:])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # what the parent process would do at its end is not this one's to do


if __name__ == "__main__":
    main(int(sys.argv[1]))
