"""The evidence library: every request over one year of a trail, against empty kernels and DuckDB's bare queries.

The bare queries fetch to Arrow, from the same files and unverified, the rows that each request answers from: those of
its kinds that occur at all, of the year or of all the history as the answer needs it, with every column of a batch,
because its packet holds the records; and for an answer that tells whether the sources were alive, each record's source
and time. For trail-integrity that is every record, for pipeline-health their times and numbers. Nothing is
matched, hashed, proved or reported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from auditlib.formats.catalog import Catalog
from auditlib.packet.notebook import find_notebook, request_names
from auditlib.packet.parameters import declared
from auditlib.trail import ROWS_A_BATCH
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
        queries = _queries(lab.catalog, set(lab.table.column("action").unique().to_pylist()))
        bare = len(names) * seconds_of_nothing(Path(folder)) + sum(_raw(lab, queries[name]) for name in names)
    what = f"{len(names)} requests over the year 2026 of {lab.events:,} events, a kernel each, one after the other"
    note = f"{what}; limit: as many empty notebooks by papermill, and DuckDB's bare queries for the rows. Aim: {AIM}"
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


def _raw(lab: Lab, queries: list[str]) -> float:
    """Seconds for the bare queries of a request, to Arrow, streamed so that none is limited by memory."""
    files = list(map(str, lab.files))
    of_year = [str(file) for file in lab.files if file.parent.name <= f"recorded_date={YEAR['until']}"]
    start = time.perf_counter()
    with duckdb.connect() as database:
        database.read_parquet(files).create_view("history")
        within = f"occurred_at >= '{YEAR['since']}' AND occurred_at < '{YEAR['until']}'"
        database.read_parquet(of_year).filter(within).create_view("year")
        for query in queries:
            for _ in database.sql(query).to_arrow_reader(ROWS_A_BATCH):
                pass
    return time.perf_counter() - start


def _queries(catalog: Catalog, there: set[str]) -> dict[str, list[str]]:
    """What a user who trusts the files, and knows which actions are `there`, would ask for each request."""

    def acts(names: Iterable[str]) -> str:
        return "action IN (" + ", ".join(f"'{name}'" for name in sorted(there.intersection(names))) + ")"

    def of(source: str, *kinds: str) -> list[str]:
        known = there.intersection(action for kind in kinds for action in catalog.kinds.get(kind, ()))
        return [f"SELECT * FROM {source} WHERE {acts(known)}"] if known else []

    access, logins = of("history", "grant", "join", "leave", "revoke", "snapshot"), acts(catalog.kinds["login"])
    asked = {
        "access-provisioning": of("history", "approval", "grant", "join", "leave", "request"),
        "access-removals": access,
        "access-review": access,
        "actor-activity": ["SELECT * FROM year WHERE actor_id = 'u_7'", *access],
        "approver-conduct": of("year", "approval", "request") + of("history", "join", "leave"),
        "change-management": of("year", "change-approval", "protection-bypass", "release"),
        "denied-access": [f"SELECT * FROM year WHERE outcome = 'denied' OR (outcome = 'failure' AND {logins})"],
        "events": ["SELECT * FROM year WHERE actor_id = 'u_1028' AND outcome = 'denied'"],
        "privileged-actions": [f"SELECT * FROM year WHERE {acts(catalog.privileged)}"],
        "review-performed": of("history", "review", "review-decision", "revoke"),
        "role-grants": of("year", "grant") + of("history", "approval", "join", "leave", "request", "revoke"),
    }
    alive = "SELECT source, recorded_at FROM year"
    return {name: [*queries, alive] for name, queries in asked.items()} | {
        "pipeline-health": ["SELECT source, source_seq, recorded_at, occurred_at, action FROM history"],
        "trail-integrity": ["SELECT * FROM history"],
    }
