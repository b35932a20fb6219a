"""The evidence library: every request over one year of a trail, against nothing but a kernel and the bare scan."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from auditlib.packet.build import build_packet
from auditlib.packet.notebook import find_notebook, request_names
from auditlib.packet.parameters import declared
from benchmarks import measure
from benchmarks.data import Lab
from benchmarks.measure import Row, row
from benchmarks.packets import seconds_of_nothing

YEAR = {"since": "2026-01-01", "until": "2027-01-01"}
ASKED = {"actor-activity": {"actor": "u_7"}, "access-review": {"at_date": "2027-01-01"}}  # what else they must be told
AIM, MEMORY_AIM = 1.5, 2048  # times the bare work; MiB


def rows(lab: Lab) -> Iterator[Row]:
    names = request_names()[: measure.most_rounds]
    with TemporaryDirectory(prefix="auditlib-bench-library-") as folder:
        start = time.perf_counter()
        for name in names:
            given = YEAR if "since" in declared(find_notebook(name)) else {}
            build_packet(name, lab.vault, {**given, **ASKED.get(name, {})}, Path(folder) / name, keys=lab.key)
        ours = time.perf_counter() - start
        bare = len(names) * seconds_of_nothing(Path(folder)) + len(names) * _scan(lab)
    what = f"{len(names)} requests over the year 2026 of {lab.events:,} events, a kernel each, one after the other"
    note = f"{what}; limit: as many empty notebooks by papermill and as many bare scans by DuckDB. Aim: {AIM}"
    yield row("evidence library", ours, bare, "s", note)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    yield row("evidence library, peak memory", peak, MEMORY_AIM, "MiB", f"{what}; the largest kernel. Limit: the aim")


def _scan(lab: Lab) -> float:
    """Every column of the year's denied events, as a user would ask for them."""
    start = time.perf_counter()
    with duckdb.connect() as database:
        database.sql(
            "SELECT * FROM read_parquet(?) WHERE occurred_at BETWEEN ? AND ? AND outcome = 'denied'",
            params=[list(map(str, lab.files)), YEAR["since"], YEAR["until"]],
        ).to_arrow_table()
    return time.perf_counter() - start
