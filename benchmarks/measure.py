"""One row of the table, and how a time is taken: ours and the limit in turns, the best of each.

The machine is shared and noisy. What runs in turns meets the same noise, and the best of several runs is the one that
met least of it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

import msgspec

most_rounds = 99  # the tests want one: that everything runs, not how long it takes


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
    gc.collect()
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
