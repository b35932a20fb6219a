"""What the records say of how they were recorded (check 9), as tables with a strip over time; made once a checkpoint.

    silences        clocks ahead        late arrivals        lost numbers        repeated numbers

It reads every record, so it waits until each was found to be one (the deep verification), and it is made in a thread
once for everybody who asks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Executor, Future
from typing import Any
from weakref import WeakKeyDictionary

import duckdb
import msgspec
import pandas as pd

from auditlib.approvals import NOT_TESTABLE
from auditlib.errors import UnavailableError
from auditlib.evidence.observations import observe
from auditlib.findings import Finding, duration
from auditlib.formats.times import SECOND, format_time, from_datetime, parse_time
from auditlib.pipeline import AHEAD, LATE, SILENCE
from auditlib.trail import Trail

MAX_ROWS = 100  # of one table; check 9's own sentences count all
MAX_EVENTS = 2_000_000  # records that are read for a page; so many took 2 s on two cores, and 0.7 GiB for that time
STRIP = 1000.0  # units from the first record to the last
LEAST = 4.0  # units; a moment is still seen
KINDS = {
    "silence": ("Silences", f"no source was silent for more than {duration(SILENCE)}"),
    "clock_ahead": ("Clocks ahead", f"no clock was ahead by more than {duration(AHEAD)}"),
    "late_arrival": ("Late arrivals", f"no record arrived more than {duration(LATE)} late"),
    "lost_numbers": ("Numbers that never arrived", "no number of a source is missing"),
    "repeated_numbers": ("Numbers that stand twice", "no number of a source stands twice"),
}


class Case(msgspec.Struct, frozen=True):
    """One observation: of which source, from when to when (None: it goes on), in words, and the record that shows it.

    `x` and `width` are its place on the strip, in STRIP's units. `untested`: quiet and broken look alike.
    """

    judged: str
    began: str
    ended: str | None
    words: str
    event_id: str
    source: str
    untested: bool
    x: float
    width: float


class Kind(msgspec.Struct, frozen=True):
    """All cases of one kind, as many as are shown, and how many there are."""

    name: str
    title: str
    cases: tuple[Case, ...]
    number: int


class Observed(msgspec.Struct, frozen=True):
    """The kinds with a case, what was looked for and not found, the strip's ends, batches that were not read."""

    kinds: tuple[Kind, ...]
    absent: tuple[str, ...]
    first: str
    last: str
    unread: int


def observed(trail: Trail, findings: Iterable[Finding]) -> Observed:
    """Read every record that can be read: not those of batches in which check 5 or 6 found an error.

    UnavailableError where there are too many for a page, or where the engine cannot read them.
    """
    if trail.count > MAX_EVENTS:
        raise UnavailableError(
            f"{trail.count:,} records are too many to be read for a page.",
            remedy="A packet of the notebook pipeline-health answers it; what check 9 found stands below.",
        )
    bad = {each.object for each in findings if each.check == 5 or (each.check, each.severity) == (6, "error")}
    read = [seal for seal in trail.seals if seal.batch.object not in bad]
    unread = [seal for seal in trail.seals if seal.batch.object in bad]
    first, last = map(parse_time, trail.recorded)
    try:
        cases, _ = observe(trail, read, unread, first, last + 1)
    except duckdb.Error as error:
        raise UnavailableError(f"the records could not be read ({type(error).__name__}).") from error
    rows: list[Any] = cases.to_dict("records")
    kinds, absent = [], []
    for name, (title, nothing) in KINDS.items():
        mine = [row for row in rows if row["what"] == name]
        if mine:
            shown = tuple(_case(row, first, last) for row in mine[:MAX_ROWS])
            kinds.append(Kind(name, title, shown, len(mine)))
        else:
            absent.append(nothing)
    return Observed(tuple(kinds), tuple(absent), format_time(first), format_time(last), len(unread))


class Once:
    """`observed` of each trail, made once for everybody; what failed is made again when it is asked for again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: WeakKeyDictionary[Trail, Future[Observed]] = WeakKeyDictionary()

    def ask(self, pool: Executor, trail: Trail, findings: Iterable[Finding]) -> Future[Observed]:
        """Under way in the pool, or done already."""
        with self._lock:
            known = self._made.get(trail)
            if known is None or known.cancelled() or (known.done() and known.exception() is not None):
                known = self._made[trail] = pool.submit(observed, trail, tuple(findings))
            return known


def _case(row: dict[str, Any], first: int, last: int) -> Case:
    began, ended = _micros(row["began_at"]), _micros(row["ended_at"])
    start, end = (
        min(max(at, first), last) for at in (first if began is None else began, last if ended is None else ended)
    )
    span = max(1, last - first)
    width = max(LEAST, STRIP * (end - start) / span)
    return Case(
        judged=str(row["judged"]),
        began=_minute(began),
        ended=None if ended is None else _minute(ended),
        words=str(row["reason"]),
        event_id=str(row["event_id"]),
        source=str(row["source"]),
        untested=row["verdict"] == NOT_TESTABLE,
        x=round(min(STRIP * (start - first) / span, STRIP - width), 1),
        width=round(width, 1),
    )


def _micros(value: Any) -> int | None:
    return None if pd.isna(value) else from_datetime(value)


def _minute(at: int | None) -> str:
    return "" if at is None else format_time(at - at % SECOND)
