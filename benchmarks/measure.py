"""One row of the table, and how a time is taken: ours and the limit in turns, the best of each.

The machine is shared and noisy. What runs in turns meets the same noise, and the best of several runs is the one that
met least of it.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

CORES = len(os.sched_getaffinity(0))
# The tests want one: that everything runs, not how long it takes.
most_rounds = int(os.environ.get("AUDITLIB_BENCH_ROUNDS") or 99)


class Row(msgspec.Struct, frozen=True):
    """What we take and what the limit takes, both in `unit`; `ratio` is how many times worse than the limit we are."""

    name: str
    ours: float
    limit: float
    ratio: float
    unit: str
    note: str


def row(name: str, ours: float, limit: float, unit: str, note: str) -> Row:
    """A row where less is better, but for a unit a second."""
    ratio = limit / ours if unit.endswith("/s") and ours else ours / limit if limit else 0.0
    return Row(name, float(f"{ours:.4g}"), float(f"{limit:.4g}"), round(ratio, 3), unit, note)


def seconds(work: Callable[[], object]) -> float:
    """How long one run takes."""
    if most_rounds > 1:
        gc.collect()  # so that nobody pays for another's rubbish
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def best(ours: Callable[[], float], limit: Callable[[], float], rounds: int) -> tuple[float, float]:
    """The least of what each gives, in turns, after one run of each that does not count."""
    if most_rounds > 1:
        ours(), limit()
    pairs = [(ours(), limit()) for _ in range(min(rounds, most_rounds))]
    return min(a for a, _ in pairs), min(b for _, b in pairs)


def race(ours: Callable[[], object], limit: Callable[[], object], rounds: int = 7) -> tuple[float, float]:
    """The same for work that is timed from outside."""
    return best(lambda: seconds(ours), lambda: seconds(limit), rounds)


@contextmanager
def at_most(rounds: int) -> Iterator[None]:
    """Fewer rounds for work so long that noise is a small part of it."""
    global most_rounds  # noqa: PLW0603
    before, most_rounds = most_rounds, min(most_rounds, rounds)
    try:
        yield
    finally:
        most_rounds = before


def write(rows: list[Row], path: Path) -> None:
    """The results as DESIGN 7 wants them: a JSON list of rows."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
