"""Many small batches as one file, because opening a file takes longer than reading a small one.

    <cache>/rollups/a0/a07c...55      32 bytes of HMAC-SHA256, then one Parquet file: sequence, row, the batch's columns

A stretch is 1,024 consecutive batches, those of one page of seals, or 64 of them in the page that is not full yet. It
is rolled up from their hashed bytes when a question asks a good part of it, and named by a SHA-256 over what it stands
for: the sequences and SHA-256s in the seals. It stands under the mark of this account's key (marked.py): whoever can
write to the cache can cost time and mislead nobody, and the folder may go at any time.

Unlike a batch the file holds column statistics: the library wrote them itself, from the rows that are in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from auditlib.errors import MalformedError
from auditlib.formats.columns import SCHEMA, SLICE
from auditlib.formats.layout import PAGE
from auditlib.formats.seal import MAX_BATCH_BYTES, Seal
from auditlib.marked import MarkedCache
from auditlib.vault.cache import cache_place

LENGTHS = (PAGE, 64)  # batches in a stretch: of a full page, and of one that is not full yet
ASKED_PART = 8  # of its batches must be asked for a stretch to be rolled up: an eighth
MAX_EVENTS = 2048  # a batch, in the mean: past it a file is read about as fast as its rows from a larger one
_WAITING_ROWS = 8 * SLICE  # rows joined before they are written, in row groups as a batch has them
_TAG = b"auditlib/rollup/v1\n"  # another number where the file would be another for the same batches
_FIELDS = pa.schema([pa.field("sequence", pa.int64(), False), pa.field("row", pa.int64(), False), *SCHEMA])
_REPEATING = ["sequence", "actor_type", "actor_id", "actor_session", "action", "target_type", "target_id", "outcome"]
_REPEATING += ["source"]  # what a dictionary makes smaller, as in a batch
_ORDERED = ["sequence", "occurred_at", "recorded_at"]  # what a range is asked of


def stretch_of(sequence: int, size: int) -> range | None:
    """The stretch of a history of `size` seals that a batch belongs to; None for one of the last few."""
    for length in LENGTHS:
        first = sequence - sequence % length
        if first + length <= size:
            return range(first, first + length)
    return None


def pays(seals: Sequence[Seal]) -> bool:
    """Whether these batches are small, so that rolling them up saves something."""
    return sum(seal.batch.events for seal in seals) <= MAX_EVENTS * len(seals)


def name_of(seals: Sequence[Seal]) -> str:
    """What a roll-up of these batches is called: 64 hex digits."""
    stated = "".join(f"{seal.sequence} {seal.batch.sha256}\n" for seal in seals)
    return sha256(_TAG + stated.encode()).hexdigest()


def roll_up(batches: Iterable[tuple[int, pa.Table]]) -> bytes:
    """(sequence, rows) of each batch in order, from bytes just hashed -> one Parquet file of all rows in their order.

    MalformedError where the file would be larger than a batch may be.
    """
    sink = pa.BufferOutputStream()
    waiting: list[pa.Table] = []
    rows = 0
    with pq.ParquetWriter(
        sink,
        _FIELDS,
        compression="zstd",
        use_dictionary=_REPEATING,
        write_statistics=_ORDERED,
        store_schema=False,
    ) as writer:
        for sequence, table in batches:
            waiting.append(_numbered(sequence, table))
            rows += table.num_rows
            if rows >= _WAITING_ROWS:
                _write(writer, waiting)
                rows = 0
            if sink.tell() > MAX_BATCH_BYTES:
                raise MalformedError("these batches are too large to be rolled up.")
        _write(writer, waiting)
    return bytes(sink.getvalue())


def _numbered(sequence: int, table: pa.Table) -> pa.Table:
    rows = table.num_rows
    places = [pa.array(np.full(rows, sequence)), pa.array(np.arange(rows))]
    return pa.Table.from_arrays([*places, *table.columns], schema=_FIELDS)


def _write(writer: pq.ParquetWriter, waiting: list[pa.Table]) -> None:
    if waiting:
        writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=SLICE)
        waiting.clear()


def rollup_cache() -> RollupCache | None:
    """Where roll-ups are kept for the next process; None where there is no cache."""
    place = cache_place()
    return RollupCache(*place) if place else None


class RollupCache(MarkedCache):
    """Roll-ups by name: each a Parquet file."""

    kind = "rollups"
    wrong = "cached roll-up(s) of batches were not what was written there; they were discarded and made again"
    unkept = "roll-ups of batches cannot be kept in the cache, so that they are made again by every process"
    tag = _TAG
    most = MAX_BATCH_BYTES
