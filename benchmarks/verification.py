"""Verification: the chain against bare SHA-256 of the files, the records against bare hashing of leaves and nodes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pyarrow.parquet as pq

from auditlib.formats import merkle
from auditlib.formats.batch import parse_batch
from auditlib.formats.columns import ROW_BLIND_BYTES, SLICE, record_texts
from auditlib.sealer import DEFAULT_MAX_EVENTS
from auditlib.vault import open_vault
from auditlib.verify import verify
from benchmarks.data import NOW, Lab
from benchmarks.measure import Row, best, race, row, seconds

CORES = len(os.sched_getaffinity(0))
BARE_BATCHES = 4  # batches of ready-made entries a process hashes: more would be the same, with more memory


def rows(lab: Lab) -> Iterator[Row]:
    yield _chain(lab)
    for processes in sorted({1, CORES}):
        yield from _deep(lab, processes)
    yield from _roots(lab)
    yield _again(lab)


def _chain(lab: Lab) -> Row:
    size = sum(path.stat().st_size for path in lab.files)
    ours, limit = race(lambda: _verify(lab, deep=False), lambda: hash_files(lab.files), rounds=15)
    note = (
        f"{lab.events:,} events, {len(lab.files)} batches, {size / 1e6:.1f} MB; limit: the batch files read whole and "
        f"hashed on {CORES} threads. Ours reads and checks keys, catalogue, checkpoints and seals besides: some ms"
    )
    return row("chain verification", ours * 1e3, limit * 1e3, "ms", note)


def hash_files(paths: list[Path]) -> None:
    """The least that checking the files can take."""
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(_hash_file, paths))


def _hash_file(path: Path) -> bytes:
    return sha256(path.read_bytes()).digest()


def _deep(lab: Lab, processes: int) -> Iterator[Row]:
    """All of check 6 on every batch, and what goes with it, against hashing alone."""
    context = get_context("forkserver")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        executor: Executor | None = pool if processes > 1 else None
        ours, limit = best(
            lambda: _taken(lambda: _verify(lab, deep=True, executor=executor), processes) / lab.events,
            lambda: _bare(lab, pool, processes),
            rounds=3,
        )
    kind = "processor time, which the neighbours' work disturbs least" if processes == 1 else "time on the clock"
    on = f"{processes} process" + "es" * (processes > 1)
    note = (
        f"verify(deep=True) of {lab.events:,} events in batches of {DEFAULT_MAX_EVENTS:,} on {on}; limit: SHA-256 of "
        f"ready-made leaf entries and of the nodes above them, a bare loop in as many processes; {kind}. Aim: 2.8"
    )
    yield row(f"deep verification, {on}", ours * 1e6, limit * 1e6, "us/event", note)
    yield row(f"deep verification rate, {on}", 1 / ours, 1 / limit, "events/s", "the same, as a rate")


def _roots(lab: Lab) -> Iterator[Row]:
    """Every leaf and root rebuilt from the columns, against the same hashing of entries that lie ready."""
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        ours, limit = best(
            lambda: _taken(lambda: _rebuild(lab.files), 1) / lab.events, lambda: _bare(lab, pool, 1), rounds=3
        )
    note = (
        f"{lab.events:,} events in batches of {DEFAULT_MAX_EVENTS:,} on 1 process: Parquet decoded, records spelled "
        "out, leaves and nodes hashed; limit: the same hashing of ready entries, a bare loop; processor time. Aim: 2.2"
    )
    yield row("leaves and roots of all batches", ours * 1e6, limit * 1e6, "us/event", note)


def _rebuild(files: list[Path]) -> None:
    for path in files:
        batch = parse_batch(path.read_bytes(), coded=True)
        assert merkle.root(batch.subtrees()) == merkle.root(batch.nodes)


def _again(lab: Lab) -> Row:
    """Deep verification of a trail that was verified before, against its part of a whole one."""
    part = lab.events // 10
    with TemporaryDirectory(prefix="auditlib-bench-") as folder, _own_state(folder):
        state = Path(folder) / "verified.json"
        _verify(lab, deep=True, state=state)
        ours, limit = best(
            lambda: seconds(lambda: _verify(lab, deep=True, state=state, recheck=part)),
            lambda: seconds(lambda: _verify(lab, deep=True)) * part / lab.events,
            rounds=3,
        )
    note = (
        f"verify(deep=True, state=..., recheck={part:,}) where nothing is new: chain, listing, and {part:,} of "
        f"{lab.events:,} events in whole batches; limit: that part of the time of a whole deep verification"
    )
    return row("deep verification again", ours * 1e3, limit * 1e3, "ms", note)


@contextmanager
def _own_state(folder: str) -> Iterator[None]:
    """The local key of the benchmark, and not the user's."""
    before = os.environ.get("AUDITLIB_STATE")
    os.environ["AUDITLIB_STATE"] = folder
    try:
        yield
    finally:
        del os.environ["AUDITLIB_STATE"]
        if before is not None:
            os.environ["AUDITLIB_STATE"] = before


def _verify(lab: Lab, *, deep: bool, **options: Any) -> None:
    report = verify(open_vault(lab.vault), keys=[lab.key], deep=deep, now=NOW, **options)
    assert report.ok, report.errors


def _taken(work: Callable[[], object], processes: int) -> float:
    if processes > 1:
        return seconds(work)
    start = time.process_time()
    work()
    return time.process_time() - start


def _bare(lab: Lab, pool: Executor, processes: int) -> float:
    """Seconds an event: each process makes its entries ready, then all hash at the same time."""
    batches = max(1, min(BARE_BATCHES, len(lab.files)) // processes)
    paths = [lab.files[number * batches : (number + 1) * batches] or lab.files[:1] for number in range(processes)]
    times = max(1, len(lab.files) // (batches * processes))  # so that both runs last long enough to be disturbed alike
    start = time.monotonic() + 1.2 * batches  # making ready takes less
    runs = list(pool.map(_hash_entries, paths, [times] * processes, [start] * processes))
    events = sum(run.events for run in runs)
    if processes == 1:
        return runs[0].processor / events
    return (max(run.end for run in runs) - min(run.begin for run in runs)) / events


class _Run(msgspec.Struct):
    events: int
    begin: float
    end: float
    processor: float


def _hash_entries(paths: list[Path], times: int, start: float) -> _Run:
    entries = [list(_entries(path)) for path in paths]
    time.sleep(max(0.0, start - time.monotonic()))
    begin, processor = time.monotonic(), time.process_time()
    for _ in range(times):
        for batch in entries:
            _bare_root(batch)
    return _Run(sum(map(len, entries)) * times, begin, time.monotonic(), time.process_time() - processor)


def _entries(path: Path) -> Iterator[bytes]:
    """Leaf entries of the right length: prefix, 16 bytes in a blind's place, canonical record."""
    table = pq.read_table(path, partitioning=None)
    for at in range(0, table.num_rows, SLICE):
        for text in record_texts(table.slice(at, SLICE)).to_pylist():
            yield b"\x00" + bytes(ROW_BLIND_BYTES) + text


def _bare_root(entries: list[bytes]) -> Any:
    level = [sha256(entry).digest() for entry in entries]
    while len(level) > 1:
        joined = b"".join(level)
        odd = level[len(level) & ~1 :]
        level = [sha256(b"\x01" + joined[i : i + 64]).digest() for i in range(0, len(joined) - 63, 64)] + odd
    return level
