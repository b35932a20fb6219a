"""Peers on the same events in the same run: two hash-chained logs, CloudTrail's own check, and what needs no library.

    make bench-peers     installs them into build/peers, an environment of their own; without it they are left out

In a peer's row `limit` is the peer's figure: a ratio below 1 says that ours takes less.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import msgspec

import auditlib
from auditlib.formats.columns import SLICE, record_texts
from auditlib.vault import open_vault
from auditlib.verify import verify
from benchmarks import cloudtrail, measure
from benchmarks.data import NOW, Lab
from benchmarks.measure import CORES, Row, best, race, row, seconds

# The newest on PyPI on 2026-11-23.
PINNED = ("auditchain==0.3.0", "rust-py-audit==0.4.2", "awscli==1.46.3")
PLACE = Path(__file__).parents[1] / "build" / "peers"
SIDE = Path(__file__).with_name("peer_side.py")
EVENTS = 500_000  # the peers hold all of it in memory: a million take 6 GB
LOG_EVENTS = 5_000  # of one CloudTrail log file
_WANTED = {"actor": "u_42", "action": "data.export"}
_PANDAS = """
import sys, time, pandas
start = time.perf_counter()
events = pandas.json_normalize(pandas.read_json(sys.argv[1], lines=True)["event"].to_list(), max_level=1)
found = events[(events["actor.id"] == "u_42") & (events["action"] == "data.export")]
(line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(time.perf_counter() - start, len(found), int(line.split()[1]) / 1024)
"""
_DUCKDB = (
    "SELECT event FROM read_json('{path}', format = 'newline_delimited') "
    "WHERE event.actor.id = 'u_42' AND event.action = 'data.export'"
)


class Told(msgspec.Struct, frozen=True):
    """What peer_side.py prints: seconds of writing, seconds of verifying, MiB at most."""

    wrote: float
    verified: float
    peak: float


def rows(lab: Lab) -> Iterator[Row]:
    with TemporaryDirectory(prefix="auditlib-bench-peers-") as folder:
        lines = Path(folder) / "events.jsonl"
        _write_lines(lab, lines)
        yield from _raw(lab, lines)
        if not (PLACE / "bin" / "python").exists():
            print("The peers were left out: make bench-peers installs them into build/peers.")
            return
        yield from _chains(lab, lines)
        yield _validated(lab, lines)


def _write_lines(lab: Lab, path: Path) -> None:
    with path.open("wb") as file:
        for start in range(0, lab.events, SLICE):
            file.writelines(text + b"\n" for text in record_texts(lab.table.slice(start, SLICE)).to_pylist())


# --- what a user would do otherwise -------------------------------------------------------------------------------


def _raw(lab: Lab, lines: Path) -> Iterator[Row]:
    """One actor's exports, asked of JSON lines that nobody checks, beside a trail opened anew."""

    def ours() -> int:
        with auditlib.open(lab.vault, keys=lab.key) as trail:
            return int(trail.events(**_WANTED).arrow().num_rows)

    def bare() -> int:
        with duckdb.connect() as database:
            return int(database.sql(_DUCKDB.format(path=lines)).to_arrow_table().num_rows)

    found = ours()
    assert found == bare()
    note = f"{lab.events:,} events, {found:,} answer; ours opens the trail and hashes every batch that can hold one"
    size = f"{lines.stat().st_size / 1e6:,.0f} MB of JSON lines, unchecked"
    mine, theirs = race(ours, bare, rounds=3)
    yield row("peer: DuckDB on raw JSON lines", mine * 1e3, theirs * 1e3, "ms", f"{note}; theirs reads {size}")
    done = subprocess.run([sys.executable, "-c", _PANDAS, lines], capture_output=True, text=True, check=True)
    taken, rows_found, peak = map(float, done.stdout.split())
    assert rows_found == found
    note = f"{note}; theirs reads {size}, once, in {peak:,.0f} MiB"
    yield row("peer: pandas on raw JSON lines", mine * 1e3, taken * 1e3, "ms", note)


# --- hash-chained logs --------------------------------------------------------------------------------------------


def _chains(lab: Lab, lines: Path) -> Iterator[Row]:
    rounds = min(2, measure.most_rounds)
    for peer in ("auditchain", "rust-py-audit"):
        told = [_told(peer, lines, number) for number in range(rounds)]
        theirs = min(each.verified for each in told)
        note = (
            f"{lab.events:,} events; theirs: a chain of SHA-256 over JSON lines, one process, "
            f"{max(each.peak for each in told):,.0f} MiB (writing it took {min(each.wrote for each in told):,.0f} s); "
            "ours: every check with deep=True"
        )
        for processes in sorted({1, CORES}):
            mine = min(_deep(lab, processes) for _ in range(rounds))
            on = f"ours on {processes} process" + "es" * (processes > 1)
            yield row(f"peer: {peer}, verifying, {on}", lab.events / mine, lab.events / theirs, "events/s", note)


def _told(peer: str, lines: Path, number: int) -> Told:
    log = lines.with_name(f"{peer}-{number}.jsonl")
    command = [PLACE / "bin" / "python", "-I", SIDE, peer, lines, log]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        return msgspec.json.decode(done.stdout, type=Told)
    finally:
        log.unlink(missing_ok=True)


def _deep(lab: Lab, processes: int) -> float:
    """Seconds, the processes there already."""
    if processes == 1:
        return seconds(lambda: _verify(lab, None))
    with ProcessPoolExecutor(processes, mp_context=get_context("forkserver")) as pool:
        list(pool.map(_import_all, range(processes)))
        return seconds(lambda: _verify(lab, pool))


def _import_all(_: int) -> None:
    """A worker that has run this has imported what verification needs."""
    time.sleep(0.2)  # so that each of them takes one


def _verify(lab: Lab, executor: Executor | None) -> None:
    report = verify(open_vault(lab.vault), keys=[lab.key], deep=True, now=NOW, executor=executor)
    assert report.ok, report.errors


# --- aws cloudtrail validate-logs ---------------------------------------------------------------------------------


def _validated(lab: Lab, lines: Path) -> Row:
    """Whole commands on the same records: signatures and hashes of files, which is checks 0 to 5 here."""
    with lines.open("rb") as file:
        texts = file.read().splitlines()
    bucket = cloudtrail.delivered([b",".join(texts[at : at + LOG_EVENTS]) for at in range(0, len(texts), LOG_EVENTS)])
    del texts
    with cloudtrail.served(bucket) as address:
        theirs = _validate(bucket, address)
        command = [sys.executable, "-m", "auditlib.cli", "verify", lab.vault, "--key", str(lab.key), "--json"]
        mine, other = best(lambda: _run(command), theirs, rounds=3)
    files = len(bucket.objects) // 2
    note = (
        f"{lab.events:,} events; ours: the command `auditlib verify` on {len(lab.files)} batches in a folder; theirs: "
        f"the command on {files} log files of {LOG_EVENTS:,} events and as many digests, from a server on this machine"
    )
    return row("peer: aws cloudtrail validate-logs", mine, other, "s", note)


def _validate(bucket: cloudtrail.Bucket, address: str) -> Callable[[], float]:
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": cloudtrail.REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    command = [PLACE / "bin" / "python", PLACE / "bin" / "aws", "cloudtrail", "validate-logs"]
    command += ["--trail-arn", cloudtrail.ARN, "--start-time", bucket.since, "--end-time", bucket.until]
    files = len(bucket.objects) // 2

    def run() -> float:
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        taken = time.perf_counter() - start
        assert f"{files}/{files} digest files valid" in done.stdout, done.stdout
        assert f"{files}/{files} log files valid" in done.stdout, done.stdout
        return taken

    return run


def _run(command: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=True)
    assert json.loads(done.stdout)["ok"]
    return time.perf_counter() - start


def install() -> None:
    """The peers in an environment of their own, from PyPI, at the versions named here; done again, nothing changes."""
    if not (PLACE / "bin" / "python").exists():
        venv.create(PLACE, with_pip=True)
    subprocess.run([PLACE / "bin" / "python", "-m", "pip", "install", "--quiet", *PINNED], check=True)


if __name__ == "__main__":
    install()
