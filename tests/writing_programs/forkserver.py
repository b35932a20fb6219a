"""Real processes without a second of imports each: a process that has imported everything, and forks on demand.

    -> {"program": "cli", "arguments": ["seal", ...], "out": "/path", "environment": {}, "faults": {}}      <- 4711
    -> 4711                                  <- null while it runs, else its exit code (-9: ended by SIGKILL)

An order and its answer are a line of JSON each. `program` is `cli`, which is `python -m auditlib.cli`, or
`application`; `faults` are for faults.py. What a program says goes to the file `out`. None outlives this process.
"""

import ctypes
import gc
import json
import os
import signal
import sys
import traceback

import application
import faults
import psycopg  # noqa: F401 - imported for the children, as all below
import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.sqlite.pysqlite  # noqa: F401

import auditlib.collector
import auditlib.drain
import auditlib.keeping
import auditlib.keyfiles
import auditlib.meter
import auditlib.store.postgres
import auditlib.store.sqlite
import auditlib.tokens
import auditlib.vault.s3  # noqa: F401
from auditlib import cli

PR_SET_PDEATHSIG = 1  # prctl(2)

_libc = ctypes.CDLL(None)


def start(order):
    """Fork; the child's pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 70  # EX_SOFTWARE of sysexits.h: a traceback
    try:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        out = os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, out)):
            os.dup2(source, descriptor)
        os.environ.update(order["environment"])
        sys.argv = [order["program"], *order["arguments"]]
        faults.install(order["faults"])
        {"cli": cli.main, "application": application.main}[order["program"]]()
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def status(pid):
    """Its exit code; None while it runs."""
    ended, found = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(found) if ended else None


if __name__ == "__main__":
    gc.freeze()
    for line in sys.stdin:
        said = json.loads(line)
        print(json.dumps(status(said) if isinstance(said, int) else start(said)), flush=True)
