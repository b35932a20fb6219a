"""The evidence library: every request over one year of a trail, against nothing but a kernel and the bare scan."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from auditlib.packet.notebook import find_notebook, request_names
from auditlib.packet.parameters import declared
from benchmarks import measure
from benchmarks.data import Lab
from benchmarks.measure import Row, row
from benchmarks.packets import seconds_of_nothing

YEAR = {"since": "2026-01-01", "until": "2027-01-01"}
ASKED = {"actor-activity": {"actor": "u_7"}, "access-review": {"at_date": "2027-01-01"}}  # what else they must be told
AIM, MEMORY_AIM = 1.5, 2048  # times the bare work; MiB
# In a process of its own: a child's peak counts what its parent held when it started it, and this one holds the data.
_ALL = """
import json, resource, sys, time
from pathlib import Path
from auditlib.packet import kernels
from auditlib.packet.build import build_packet
vault, key, asked = json.load(sys.stdin)
start = time.perf_counter()
for name, given, out in asked:
    build_packet(name, vault, given, Path(out), keys=key)
took = time.perf_counter() - start
kernels.end()
status = Path("/proc/self/status").read_text()
own = int(status.partition("VmHWM:")[2].split()[0])
print(json.dumps([took, own / 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))
"""


def rows(lab: Lab) -> Iterator[Row]:
    names = request_names()[: measure.most_rounds]
    with TemporaryDirectory(prefix="auditlib-bench-library-") as folder:
        ours, packing, kernel = _built(lab, names, Path(folder))
        bare = len(names) * seconds_of_nothing(Path(folder)) + len(names) * _scan(lab)
    what = f"{len(names)} requests over the year 2026 of {lab.events:,} events, a kernel each, one after the other"
    note = f"{what}; limit: as many empty notebooks by papermill and as many bare scans by DuckDB. Aim: {AIM}"
    yield row("evidence library", ours, bare, "s", note)
    for who, peak in (("what packs", packing), ("largest kernel", kernel)):
        yield row(f"evidence library, peak memory ({who})", peak, MEMORY_AIM, "MiB", f"{what}. Limit: the aim")


def _built(lab: Lab, names: list[str], folder: Path) -> list[float]:
    """Seconds for all requests, and the peaks in MiB of the process that packs and of its largest kernel."""
    periods = {name: YEAR if "since" in declared(find_notebook(name)) else {} for name in names}
    asked = [(name, {**periods[name], **ASKED.get(name, {})}, str(folder / name)) for name in names]
    told = json.dumps([lab.vault, str(lab.key), asked])
    done = subprocess.run([sys.executable, "-c", _ALL], input=told, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found


def _scan(lab: Lab) -> float:
    """Every column of the year's denied events, as a user would ask for them."""
    start = time.perf_counter()
    with duckdb.connect() as database:
        database.sql(
            "SELECT * FROM read_parquet(?) WHERE occurred_at BETWEEN ? AND ? AND outcome = 'denied'",
            params=[list(map(str, lab.files)), YEAR["since"], YEAR["until"]],
        ).to_arrow_table()
    return time.perf_counter() - start
