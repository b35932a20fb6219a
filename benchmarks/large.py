"""`make bench-large`: 100 million events of one year, made on the spot, every leaf hashed; gone afterwards.

The columns of a million events are drawn once. Each further million is the same company under other ids, at other
times, numbered on; it is encoded into batches by processes of its own, and this one chains, seals and signs.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import Progress

import auditlib
from auditlib.formats import layout, merkle
from auditlib.formats.batch import EncodedBatch, encode_batch
from auditlib.formats.checkpoint import sign_checkpoint
from auditlib.formats.columns import BLIND_BYTES, SCHEMA
from auditlib.formats.document import Retention, document_bytes, document_hash
from auditlib.formats.event import RECORD_SCHEMA
from auditlib.formats.seal import NO_PREVIOUS, SEAL_FORMAT, Seal, seal_bytes, seal_hash, sign_seal
from auditlib.formats.times import DAY, format_time
from auditlib.sealer import DEFAULT_MAX_EVENTS, create_trail
from auditlib.vault import open_vault
from auditlib.vault.local import LocalVault
from auditlib.verify import verify
from benchmarks import data, history, measure, peers, queries, rollup, verification
from benchmarks.data import CATALOG, KEY, NOW, SEED, SINCE, Lab, generate, ulids
from benchmarks.machine import record_machine
from benchmarks.measure import CORES, Row, at_most, race, row

EVENTS = 100_000_000
BLOCK = 1_000_000  # events drawn once
SPAN = 364 * DAY  # microseconds that the events are spread over
BYTES_PER_EVENT = 60  # of disk; 46 measured (benchmarks/sizes.py), and the index of ids besides
SPARE = 2 * 1024**3  # bytes of disk left to others
MEMORY_AIM = 1024  # MiB, whatever the length
MADE_AIM = 3600  # seconds
TENTH = 10  # the shorter history is this part of the longer
ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results-large.json")


def main(results: Path = RESULTS) -> None:
    events = int(os.environ.get("AUDITLIB_BENCH_EVENTS") or EVENTS)
    folder = Path(os.environ.get("TMPDIR") or ROOT / "build")
    folder.mkdir(exist_ok=True)
    needed, free = events * BYTES_PER_EVENT + SPARE, shutil.disk_usage(folder).free
    if free < needed:
        sys.exit(
            f"{events:,} events take about {needed / 1e9:.0f} GB of disk while they are measured, and {folder} has "
            f"{free / 1e9:.0f} GB free. Set TMPDIR to a folder on a larger disk, or AUDITLIB_BENCH_EVENTS to fewer "
            "events. Nothing was written."
        )
    get_context("forkserver").set_forkserver_preload(["benchmarks.verification"])  # so that workers start at once
    console, rows = Console(), []
    for each in run(events, folder, console):
        rows.append(each)
        console.print(f"{each.ratio:9.2f}  {each.ours:>12,.4g} beside {each.limit:,.4g} {each.unit}: {each.name}")
    measure.write(rows, results)
    record_machine(results, events)


def run(events: int, folder: Path, console: Console) -> Iterator[Row]:
    """Every row, as it is measured."""
    with TemporaryDirectory(prefix="bench-large-", dir=folder) as place:
        start = time.perf_counter()
        lab = make(Path(place) / "vault", events, console)
        note = f"{lab.events:,} events drawn, encoded on {CORES} processes, each leaf hashed, sealed, flushed to disk"
        yield row("made on the spot", time.perf_counter() - start, MADE_AIM, "s", f"{note}; limit: the aim, an hour")
        with at_most(1):
            yield from verification.rows(lab)
        yield from _memory(lab)
        with at_most(3):
            yield from queries.rows(lab)
            yield from _period(lab, Path(place) / "tenth")
    yield from history.rows(max(2 * layout.PAGE, min(history.FIVE_YEARS, events)))
    with data.lab(min(events, peers.EVENTS)) as small:
        yield from rollup.rows(small, max(8, min(rollup.BATCHES, events // rollup.EVENTS)))
        yield from peers.rows(small)


# --- making -------------------------------------------------------------------------------------------------------


def make(folder: Path, events: int, console: Console) -> Lab:
    """So many whole blocks of events in a vault, in batches of the sealer's size; pages and one checkpoint."""
    block = min(BLOCK, events)
    blocks = events // block
    vault = LocalVault(folder, create=True)
    trail = document_hash(
        document_bytes(create_trail(vault, KEY, Retention(2557, "COMPLIANCE"), CATALOG, now=0)),
    )
    previous, tree, page, files = NO_PREVIOUS, merkle.Frontier(), [], []
    with (
        Progress(console=console, transient=True) as progress,
        ProcessPoolExecutor(min(CORES, blocks), mp_context=get_context("forkserver")) as pool,
    ):
        jobs = [pool.submit(_encode, str(folder), number, blocks, block) for number in range(blocks)]
        for job in progress.track(jobs, description=f"making {blocks * block:,} events"):
            for encoded in job.result():
                data = seal_bytes(sign_seal(_describe(encoded, len(files), previous, trail), KEY))
                vault.put(layout.seal_key(len(files)), data)
                previous = seal_hash(data)
                tree.append(merkle.leaf_hash(data))
                page.append(data + b"\n")
                files.append(folder / encoded.batch.object)
                if len(page) == layout.PAGE:
                    vault.put(layout.page_key(len(files) // layout.PAGE - 1), b"".join(page))
                    page.clear()
    vault.put(layout.checkpoint_key(tree.size), sign_checkpoint(KEY.name, tree.size, tree.root(), [KEY]))
    return Lab(vault.url, KEY.verifier, CATALOG, blocks * block, SCHEMA.empty_table(), files)


def _encode(folder: str, number: int, blocks: int, block: int) -> list[EncodedBatch]:
    """In a process of its own: the batches of one block, put; what their seals say of them."""
    vault, table = LocalVault(folder), stamped(number, blocks, block)
    random = np.random.default_rng([SEED, number, 1])
    done: list[EncodedBatch] = []
    for start in range(0, block, DEFAULT_MAX_EVENTS):
        sequence = number * -(-block // DEFAULT_MAX_EVENTS) + len(done)
        part = table.slice(start, DEFAULT_MAX_EVENTS).combine_chunks()
        encoded = encode_batch(part, sequence, random.bytes(BLIND_BYTES))
        vault.put(encoded.batch.object, encoded.data)
        done.append(msgspec.structs.replace(encoded, data=b""))
    return done


_drawn = cache(generate)


def stamped(number: int, blocks: int, block: int) -> pa.Table:
    """Block `number`: the events that were drawn once, under new ids, in its own part of the year, numbered on."""
    table = _drawn(block)
    recorded, occurred = (table.column(name).cast(pa.int64()).to_numpy() for name in ("recorded_at", "occurred_at"))
    part = SPAN / blocks
    times = SINCE + (number * part + (recorded - SINCE) * (part / (recorded[-1] - SINCE + 1))).astype(np.int64)
    source = pc.dictionary_encode(table.column("source").combine_chunks())
    codes = source.indices.to_numpy()
    counted = table.column("source_seq").to_numpy() + number * np.bincount(codes)[codes]
    happened = np.maximum(times - (recorded - occurred), SINCE)
    fresh: dict[str, Any] = {
        "event_id": ulids(happened // 1000, np.random.default_rng([SEED, number])),
        "occurred_at": pa.array(happened, pa.timestamp("us", "UTC")),
        "recorded_at": pa.array(times, pa.timestamp("us", "UTC")),
        "source_seq": pa.array(counted),
    }
    return pa.table([fresh.get(name, table.column(name)) for name in SCHEMA.names], schema=SCHEMA)


def _describe(encoded: EncodedBatch, number: int, previous: str, trail: str) -> Seal:
    return Seal(
        batch=encoded.batch,
        counts=encoded.counts,
        format=SEAL_FORMAT,
        occurred=encoded.occurred,
        origin=KEY.name,
        previous=previous,
        recorded=encoded.recorded,
        schema=RECORD_SCHEMA,
        sealed_at=format_time(NOW),
        sequence=number,
        signature="",
        sources=encoded.sources,
        trail=trail,
    )


# --- measuring ----------------------------------------------------------------------------------------------------


def _memory(lab: Lab) -> Iterator[Row]:
    """The most that verification holds, in a process that did nothing else."""
    for name, deep in (("chain verification", False), ("deep verification", True)):
        mine, child = _alone(_peak_of_verify, lab.vault, deep)
        processes = CORES if deep and CORES > 1 else 0
        note = (
            f"{lab.events:,} events: the process itself {mine:,.0f} MiB, and the largest of its {processes} others "
            f"{child:,.0f} MiB, taken as often as there are; limit: the aim, whatever the length"
        )
        yield row(f"{name}, peak memory", mine + processes * child, MEMORY_AIM, "MiB", note)


def _alone(work: Callable[..., Any], *given: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as pool:
        return pool.submit(work, *given).result()


def _peak_of_verify(vault: str, deep: bool) -> tuple[float, float]:
    """MiB of this process and of the largest one under it."""
    if deep and CORES > 1:
        with ProcessPoolExecutor(CORES, mp_context=get_context("forkserver")) as pool:
            report = verify(open_vault(vault), keys=[KEY.verifier], deep=True, now=NOW, executor=pool)
            found = max(pool.map(_peak, range(CORES)))
    else:
        report, found = verify(open_vault(vault), keys=[KEY.verifier], deep=deep, now=NOW), 0.0
    assert report.ok, report.errors
    return _peak(0), found


def _peak(_: int) -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux gives KiB


def _period(lab: Lab, folder: Path) -> Iterator[Row]:
    """The same question over the same days, asked of the whole history and of its first tenth."""
    tenth = _shortened(lab, folder)
    asked = {"since": "2026-01-08", "until": "2026-01-22", "actor": "u_42"}

    def ask(vault: str) -> int:
        with auditlib.open(vault, keys=lab.key) as trail:
            return int(trail.events(**asked).arrow().num_rows)

    assert ask(lab.vault) == ask(tenth)
    ours, limit = race(lambda: ask(lab.vault), lambda: ask(tenth))
    note = (
        f"{lab.events:,} events, two weeks of one actor, the trail opened anew; limit: the first tenth alone. Aim: 1.2"
    )
    yield row("a history ten times as long, cold", ours * 1e3, limit * 1e3, "ms", note)
    with auditlib.open(lab.vault, keys=lab.key) as long, auditlib.open(tenth, keys=lab.key) as short:
        ours, limit = race(lambda: long.events(**asked).arrow(), lambda: short.events(**asked).arrow())
    yield row("a history ten times as long, warm", ours * 1e3, limit * 1e3, "ms", note.replace("opened anew", "open"))


def _shortened(lab: Lab, folder: Path) -> str:
    """A vault of the first tenth of the seals, its batches the same files."""
    vault, whole = LocalVault(folder, create=True), LocalVault(lab.vault)
    create_trail(vault, KEY, Retention(2557, "COMPLIANCE"), CATALOG, now=0)
    tree = merkle.Frontier()
    for number, path in enumerate(lab.files[: max(1, len(lab.files) // TENTH)]):
        seal = whole.get(layout.seal_key(number))
        vault.put(layout.seal_key(number), seal)
        tree.append(merkle.leaf_hash(seal))
        linked = folder / path.relative_to(whole.root)
        linked.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, linked)
    vault.put(layout.checkpoint_key(tree.size), sign_checkpoint(KEY.name, tree.size, tree.root(), [KEY]))
    return vault.url


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
