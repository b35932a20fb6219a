"""A quarter of five-minute batches, answered from roll-ups, against the same rows in one file.

The limit of a warm question is DuckDB over one file of a single batch's form that holds all of the rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa

import auditlib
from auditlib.formats import layout, merkle
from auditlib.formats.batch import encode_batch
from auditlib.formats.checkpoint import sign_checkpoint
from auditlib.formats.document import Retention, document_bytes, document_hash
from auditlib.formats.event import RECORD_SCHEMA
from auditlib.formats.seal import NO_PREVIOUS, SEAL_FORMAT, Seal, seal_bytes, seal_hash, sign_seal
from auditlib.sealer import create_trail
from auditlib.vault.local import LocalVault
from benchmarks.data import CATALOG, KEY, Lab, generate
from benchmarks.measure import Row, race, row, seconds
from benchmarks.queries import QUESTIONS
from benchmarks.verification import hash_files

EVENTS = 25  # a batch: one every twelve seconds
BATCHES = 26_000  # a quarter of them, every five minutes; `make bench` takes fewer


def rows(lab: Lab, batches: int) -> Iterator[Row]:
    """`lab` gives the events; a history of so many batches is made of them, and taken away."""
    with TemporaryDirectory(prefix="auditlib-bench-rollup-") as name, _cache(Path(name) / "cache"):
        folder = Path(name) / "vault"
        table = lab.table if lab.events >= batches * EVENTS else generate(batches * EVENTS)
        table = table.slice(0, batches * EVENTS)
        make(folder, table, EVENTS)
        yield from measured(folder, _one_file(Path(name), table), batches)


def measured(folder: Path, single: Path, batches: int) -> Iterator[Row]:
    """The rows over a vault that is there; `single` holds the same events."""
    files = f"read_parquet(['{single}'], hive_partitioning = false)"
    paths = sorted((folder / "batches").glob("*/*.parquet"))
    asked = f"{batches:,} batches of {EVENTS} events"
    made: list[float] = []
    bare = seconds(lambda: hash_files(paths))
    with auditlib.open(folder, keys=KEY.verifier) as trail:
        made.append(seconds(trail.events().count))
    note = f"{asked}, every one read, hashed and rolled up, nothing cached; limit: reading and hashing them"
    yield row("many small batches: first question", made[0], bare, "s", note)
    with auditlib.open(folder, keys=KEY.verifier) as trail:
        again = seconds(trail.events().count)
    note = f"{asked}; the first question of another process, from the roll-ups in the cache; limit: as above"
    yield row("many small batches: first question, roll-ups cached", again, bare, "s", note)
    with duckdb.connect() as raw, auditlib.open(folder, keys=KEY.verifier) as trail:
        raw.execute("SET TimeZone = 'UTC'")
        raw.execute("SET parquet_metadata_cache = true")
        for name, (question, statement) in QUESTIONS.items():
            plain = statement.format(files=files)
            assert question(trail).num_rows == raw.sql(plain).to_arrow_table().num_rows
            ours, limit = race(
                lambda question=question: question(trail),
                lambda plain=plain: raw.sql(plain).to_arrow_table(),
                rounds=15,
            )
            note = f"{asked}, rolled up earlier; limit: DuckDB over one file with the same rows. Aim: 2"
            yield row(f"many small batches, warm: {name}", ours * 1e3, limit * 1e3, "ms", note)


def make(folder: Path, table: pa.Table, events: int) -> None:
    """A vault of these events in batches of so many: what the sealer writes, but of the checkpoints only the last."""
    vault = LocalVault(folder, create=True)
    document = document_hash(document_bytes(create_trail(vault, KEY, Retention(2557, "COMPLIANCE"), CATALOG, now=0)))
    previous, tree, page = NO_PREVIOUS, merkle.Frontier(), []
    for number, start in enumerate(range(0, table.num_rows, events)):
        encoded = encode_batch(table.slice(start, events).combine_chunks(), number, number.to_bytes(32, "big"))
        seal = Seal(
            batch=encoded.batch,
            counts=encoded.counts,
            format=SEAL_FORMAT,
            occurred=encoded.occurred,
            origin=KEY.name,
            previous=previous,
            recorded=encoded.recorded,
            schema=RECORD_SCHEMA,
            sealed_at=encoded.recorded[1],
            sequence=number,
            signature="",
            sources=encoded.sources,
            trail=document,
        )
        data = seal_bytes(sign_seal(seal, KEY))
        previous = seal_hash(data)
        tree.append(merkle.leaf_hash(data))
        _write(folder / encoded.batch.object, encoded.data)
        _write(folder / layout.seal_key(number), data)
        page.append(data + b"\n")
        if len(page) == layout.PAGE:
            _write(folder / layout.page_key(number // layout.PAGE), b"".join(page))
            page.clear()
    note = sign_checkpoint(KEY.name, tree.size, tree.root(), [KEY])
    _write(folder / layout.checkpoint_key(tree.size), note)


def _one_file(folder: Path, table: pa.Table) -> Path:
    path = folder / "one.parquet"
    path.write_bytes(encode_batch(table.combine_chunks(), 0, bytes(32)).data)
    return path


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """A cache and a local key of this run's own."""
    own = {"AUDITLIB_CACHE": str(folder), "AUDITLIB_STATE": str(folder / "state")}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
