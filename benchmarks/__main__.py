"""Run every benchmark, print the table, write benchmarks/results.json.

AUDITLIB_BENCH_EVENTS=100000 AUDITLIB_BENCH_ROUNDS=3 python -m benchmarks: fewer events and repetitions, done sooner.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.table import Table

from auditlib.formats.layout import PAGE
from benchmarks import (
    dashboard,
    data,
    history,
    imports,
    library,
    measure,
    packets,
    peers,
    queries,
    rollup,
    sizes,
    storage,
    verification,
    writing,
)
from benchmarks.machine import record_machine
from benchmarks.measure import Row

EVENTS = 1_000_000
FEW_BATCHES = 4 * PAGE  # many small ones; `make bench-large` takes a quarter's
A_YEAR = history.FIVE_YEARS // 5  # seals; `make bench-large` takes all
RESULTS = Path(__file__).with_name("results.json")


def run(events: int) -> Iterator[Row]:
    """Every row, as it is measured."""
    get_context("forkserver").set_forkserver_preload(["benchmarks.verification"])  # so that workers start at once
    with data.lab(events) as lab:
        yield from verification.rows(lab)
        yield from queries.rows(lab)
        yield from dashboard.rows(lab)
        yield from sizes.rows(lab)
        yield from packets.rows(lab)
        yield from library.rows(lab)
        yield from rollup.rows(lab, max(8, min(FEW_BATCHES, events // rollup.EVENTS)))
    yield from history.rows(max(2 * PAGE, min(A_YEAR, events)))
    yield from imports.rows()
    yield from storage.rows(max(4, min(storage.SEALS, events // 1000)))
    yield from writing.rows(*(min(events, most) for most in (writing.EVENTS, writing.SINGLES, writing.RECORDS)))
    with data.lab(min(events, peers.EVENTS)) as lab:
        yield from peers.rows(lab)


def main(results: Path = RESULTS) -> None:
    events = int(os.environ.get("AUDITLIB_BENCH_EVENTS") or EVENTS)
    console = Console()
    table = Table("what", "ours", "limit", "ratio", "unit", title=f"{events:,} events", title_justify="left")
    for column in table.columns[1:4]:
        column.justify = "right"
    rows = []
    with console.status("making events") as status:
        for row in run(events):
            rows.append(row)
            table.add_row(row.name, f"{row.ours:,.4g}", f"{row.limit:,.4g}", f"{row.ratio:.2f}", row.unit)
            status.update(f"measured: {row.name}")
    measure.write(rows, results)
    record_machine(results, events)
    console.print(table)
    console.print(
        "A ratio is how many times worse than the limit. The machine is shared and noisy: ours and the limit ran in "
        f"turns, and each figure is the best of several runs. What was measured: {results}",
        highlight=False,
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
