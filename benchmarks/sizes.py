"""Bytes an event in the vault, against two plain ways of keeping the same records."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from auditlib.formats.columns import SLICE, record_texts
from auditlib.sealer import DEFAULT_MAX_EVENTS
from auditlib.state import SealerState
from benchmarks.data import Lab
from benchmarks.measure import Row, row

DIGEST_BYTES = 8  # of an id, auditlib/ids.py
BATCHES = 4  # the first ones; packing all of them says no more


def rows(lab: Lab) -> Iterator[Row]:
    table = lab.table.slice(0, BATCHES * DEFAULT_MAX_EVENTS)
    events = table.num_rows
    ours = sum(path.stat().st_size for path in lab.files[:BATCHES]) / events
    plain = gzip = 0
    packer = zlib.compressobj(6, wbits=31)  # gzip's own default level and header
    for start in range(0, events, SLICE):
        text = b"".join(line + b"\n" for line in record_texts(table.slice(start, SLICE)).to_pylist())
        plain, gzip = plain + len(text), gzip + len(packer.compress(text))
    gzip += len(packer.flush())
    note = f"batch files of {events:,} events (blinds and subtree hashes in them); {plain / events:.0f} bytes as JSON"
    yield row("size beside gzip'd JSON lines", ours, gzip / events, "bytes/event", f"{note}; limit: gzip -6")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "plain.parquet"
        pq.write_table(table, path, compression="zstd")
        parquet = path.stat().st_size / events
    yield row("size beside plain Parquet", ours, parquet, "bytes/event", f"{note}; limit: pyarrow's defaults with zstd")
    index = SealerState(Path(lab.vault).parent / "state", lab.key).ids
    size = index.stat().st_size / lab.events
    note = f"{lab.events:,} events, the SQLite file that finds repeats, beside the sealer; limit: the digests alone"
    yield row("size of the sealer's index of ids", size, DIGEST_BYTES, "bytes/event", note)
