"""Run every benchmark, print the table, write benchmarks/results.json.

AUDITLIB_BENCH_EVENTS=100000 python -m benchmarks: fewer events, done sooner.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks import dashboard, data, imports, library, packets, queries, sizes, storage, verification, writing
from benchmarks.measure import Row

EVENTS = 1_000_000
RESULTS = Path(__file__).with_name("results.json")


def run(events: int) -> Iterator[Row]:
    """Every row, as it is measured."""
    with data.lab(events) as lab:
        yield from verification.rows(lab)
        yield from queries.rows(lab)
        yield from dashboard.rows(lab)
        yield from sizes.rows(lab)
        yield from packets.rows(lab)
        yield from library.rows(lab)
    yield from imports.rows()
    yield from storage.rows(max(4, min(storage.SEALS, events // 1000)))
    yield from writing.rows(*(min(events, most) for most in (writing.EVENTS, writing.SINGLES, writing.RECORDS)))


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
    results.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=1) + b"\n")
    console.print(table)
    console.print(
        "A ratio is how many times worse than the limit. The machine is shared and noisy: ours and the limit ran in "
        f"turns, and each figure is the best of several runs. What was measured: {results}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
