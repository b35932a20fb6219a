"""Faults inside of one process, set from outside the library: a signal to itself at a step, another clock.

{"at": "seal put", "after": false, "nth": 2, "signal": 9}     before the second seal is put
{"clock": "/path"}                                        the clock is off by the seconds that stand in the file
{"page": 4}                                               a page holds 4 seals and not 1,024
"""

import functools
import os
import time
from pathlib import Path

from auditlib.client.exchange import Collector
from auditlib.client.spool import Spool
from auditlib.collector.intake import Intake
from auditlib.formats import layout
from auditlib.ids import IdIndex
from auditlib.state import SealerState
from auditlib.store import Store
from auditlib.store.append import Appender
from auditlib.store.postgres import Postgres
from auditlib.store.sqlite import SQLite
from auditlib.vault.local import LocalVault

_PREFIXES = {"batch": layout.BATCHES, "seal": layout.SEALS, "checkpoint": layout.CHECKPOINTS, "page": layout.PAGES}


def _puts(prefix):
    return lambda _, key, *__: key.startswith(prefix)


def _links(folder):
    return lambda _, target: f"/{folder}" in str(target)


def _any(*_, **__):
    return True


# Steps on the way of an event, by who takes them: where the code is, and which calls count.
STEPS = {
    "application": {
        "event spooled": [(Spool, "append", _any)],
        "spool's file begun": [(Spool, "_begin", _any)],
        "events read": [(Spool, "read", _any)],
        "events posted": [(Collector, "post", _any)],
        "events confirmed": [(Spool, "confirm", _any)],
        "spool's file removed": [(Spool, "_drop", _any)],
    },
    "collector": {
        "request taken": [(Intake, "take", _any)],
        "rows inserted": [(SQLite, "insert", _any), (Postgres, "insert", _any)],
        "rows committed": [(Appender, "_write", _any)],
    },
    "sealer": {
        "lease taken": [(Store, "lease", _any)],
        "lease renewed": [(Store, "renew", _any)],
        **{f"{name} put": [(LocalVault, "put", _puts(prefix))] for name, prefix in _PREFIXES.items()},
        **{f"{name} linked": [(os, "link", _links(prefix))] for name, prefix in _PREFIXES.items()},
        "checkpoint remembered": [(SealerState, "remember", _any)],
        "ids indexed": [(IdIndex, "add", _any)],
        "position remembered": [(SealerState, "remember_position", _any)],
        "memory replaced": [(Path, "replace", _any)],
        "lease released": [(Store, "release", _any)],
    },
}


_WHERE = {step: where for steps in STEPS.values() for step, where in steps.items()}


def install(faults):
    """Take effect in this process."""
    if "page" in faults:
        layout.PAGE = faults["page"]
    if "clock" in faults:
        _shift(Path(faults["clock"]))
    if "at" in faults:
        for owner, name, counts in _WHERE[faults["at"]]:
            _strike(owner, name, counts, faults)


def _strike(owner, name, counts, faults):
    call, seen = getattr(owner, name), [0]

    def count(*arguments, **named):
        if counts(*arguments, **named):
            seen[0] += 1
            if seen[0] == faults["nth"]:
                os.kill(os.getpid(), faults["signal"])

    @functools.wraps(call)
    def struck(*arguments, **named):
        if not faults["after"]:
            count(*arguments, **named)
        done = call(*arguments, **named)
        if faults["after"]:  # a call that raised does not count
            count(*arguments, **named)
        return done

    setattr(owner, name, struck)


def _shift(path):
    seconds, nanoseconds = time.time, time.time_ns
    time.time = lambda: seconds() + int(path.read_text())
    time.time_ns = lambda: nanoseconds() + int(path.read_text()) * 10**9
