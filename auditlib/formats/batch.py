"""The batch: one Parquet file of records in the order they were recorded; row number = leaf index (DESIGN 4.3).

batches/recorded_date=2026-03-01/000000000042-1f0c2b3a4d5e6f70.parquet
  event_id, occurred_at, actor_type, actor_id, actor_session, action, target_type, target_id, outcome,
  context, recorded_at, source, source_seq      and two lines of file metadata:
  auditlib.blind = <32 bytes in hex>
  auditlib.nodes = <base64 of the hash of each aligned 256-leaf subtree>
"""

from __future__ import annotations

import base64
from collections import Counter
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from auditlib.errors import MalformedError, MismatchError
from auditlib.formats import layout, merkle
from auditlib.formats.columns import (
    BLIND_BYTES,
    CODED,
    PREPARED,
    ROW_BLIND_BYTES,
    SCHEMA,
    SLICE,
    leaf_hashes,
    record_texts,
    row_blinds,
)
from auditlib.formats.event import MAX_EVENT_ID_CHARS, MAX_NAME_CHARS
from auditlib.formats.footer import check_footer
from auditlib.formats.keys import decode_base64
from auditlib.formats.seal import MAX_ACTIONS, MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Batch, Counts, Source
from auditlib.formats.times import format_time

NODE_LEAVES = 256  # leaves under one stored node, DESIGN 4.3
BLIND_NAME, NODES_NAME = b"auditlib.blind", b"auditlib.nodes"
_MAX_MIXED_BYTES = MAX_NAME_CHARS + 1 + MAX_EVENT_ID_CHARS  # bytes of source, newline and event_id
COMPRESSION_LEVEL = 9  # zstd; smaller than 3 by a tenth, and writing is not where the time goes

# Encodings chosen for size, then for speed of reading: numbers in near order as deltas, ids as shared fronts, contexts
# without a dictionary (few repeat, and zstd finds those that do).
_ENCODINGS = {
    "context": "DELTA_LENGTH_BYTE_ARRAY",
    "event_id": "DELTA_BYTE_ARRAY",
    "occurred_at": "DELTA_BINARY_PACKED",
    "recorded_at": "DELTA_BINARY_PACKED",
    "source_seq": "DELTA_BINARY_PACKED",
}
_CODED_SCHEMA = pa.schema(
    [field.with_type(pa.dictionary(pa.int32(), field.type)) if field.name in CODED else field for field in SCHEMA]
)


class EncodedBatch(msgspec.Struct, frozen=True):
    """A batch ready to be put: its bytes, and what its seal says of it but for the object's key."""

    data: bytes
    batch: Batch
    counts: Counts
    occurred: tuple[str, str]
    recorded: tuple[str, str]
    sources: dict[str, Source]


class ParsedBatch(msgspec.Struct, frozen=True):
    """A batch as read: its table, the 32 blind bytes, and the stored subtree hashes, not yet checked against a root."""

    table: pa.Table
    blind: bytes
    nodes: tuple[bytes, ...]

    def leaves(self) -> list[bytes]:
        """All leaf hashes, in row order."""
        return leaf_hashes(self.table, row_blinds(self.blind, self.table.num_rows))

    def subtrees(self) -> list[bytes]:
        """The hashes of each aligned 256-leaf subtree, rebuilt from the records."""
        return _subtrees(self.table, self.blind)

    def proof(self, rows: list[int], root: str) -> list[bytes]:
        """The hashes of the tree with holes around `rows`; rebuilds only the 256-leaf subtrees they stand in.

        MismatchError where the stored subtree hashes do not lead to the seal's `root` (hex), or are not the rows' own.
        """
        if merkle.root(self.nodes).hex() != root:
            message = "the stored subtree hashes do not lead to the seal's root."
            raise MismatchError(message, where="batch", expected=root)
        size = self.table.num_rows
        blinds = row_blinds(self.blind, size)
        leaves: list[bytes] = [b""] * size
        for block in sorted({row // NODE_LEAVES for row in rows}):
            low = block * NODE_LEAVES
            part = self.table.slice(low, NODE_LEAVES)
            high = low + part.num_rows
            leaves[low:high] = leaf_hashes(part, blinds[low * ROW_BLIND_BYTES : high * ROW_BLIND_BYTES])
            if merkle.root(leaves[low:high]) != self.nodes[block]:
                raise MismatchError(f"the stored hash of rows {low} to {high - 1} is not theirs.", where="batch")
        return merkle.holes_over(leaves, self.nodes, NODE_LEAVES, rows)

    def texts(self, rows: list[int]) -> list[bytes]:
        """The canonical records of these rows."""
        texts: list[bytes] = record_texts(self.table.take(pa.array(rows, pa.int64()))).to_pylist()
        return texts

    def blinds(self, rows: list[int]) -> list[bytes]:
        """The 16-byte blinds of these rows."""
        blinds = row_blinds(self.blind, self.table.num_rows)
        return [blinds[row * ROW_BLIND_BYTES : (row + 1) * ROW_BLIND_BYTES] for row in rows]


def encode_batch(table: pa.Table, sequence: int, blind: bytes) -> EncodedBatch:
    """A table of SCHEMA, the seal's sequence and 32 random bytes -> the batch file and its description."""
    if not 1 <= table.num_rows <= MAX_BATCH_EVENTS:
        raise MalformedError(f"a batch holds 1 to {MAX_BATCH_EVENTS:,} records, not {table.num_rows:,}.")
    nodes = _subtrees(table, blind)
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        SCHEMA,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=[name for name in SCHEMA.names if name not in _ENCODINGS],
        column_encoding=_ENCODINGS,
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.write_table(table, row_group_size=SLICE)
        nodes_text = base64.b64encode(b"".join(nodes)).decode()
        writer.add_key_value_metadata({BLIND_NAME.decode(): blind.hex(), NODES_NAME.decode(): nodes_text})
    data = sink.getvalue().to_pybytes()
    if len(data) > MAX_BATCH_BYTES:
        raise MalformedError(f"the batch takes {len(data):,} bytes; put fewer events into it (--max-events).")
    digest = sha256(data).hexdigest()
    occurred, recorded = time_range(table, "occurred_at"), time_range(table, "recorded_at")
    return EncodedBatch(
        data=data,
        batch=Batch(
            events=table.num_rows,
            object=layout.batch_key(sequence, _least(table, "recorded_at"), digest),
            root=merkle.root(nodes).hex(),
            sha256=digest,
            size=len(data),
        ),
        counts=counts_of(table),
        occurred=occurred,
        recorded=recorded,
        sources=sources_of(table),
    )


def parse_batch(data: bytes | memoryview, *, columns: list[str] | None = None, coded: bool = False) -> ParsedBatch:
    """A batch file's bytes -> ParsedBatch (of all columns, or of some). Nothing it says is believed yet.

    `coded` leaves the columns of few values as dictionaries, each value once, for who judges all rows.
    Raises MalformedError unless it is exactly the Parquet of DESIGN 4.3: columns, metadata, row groups, no statistics.
    """
    check_footer(data)
    try:
        file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)), read_dictionary=CODED if coded else None)
        _check_shape(file, _CODED_SCHEMA if coded else SCHEMA)
        blind, nodes = _metadata(file)
        table = file.read(columns=columns, use_threads=False).unify_dictionaries()
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise MalformedError(f"the Parquet file cannot be read: {reason}.") from None
    if table.num_rows != file.metadata.num_rows:
        raise MalformedError("the Parquet file holds another number of rows than it states.")
    return ParsedBatch(table, blind, nodes)


def _subtrees(table: pa.Table, blind: bytes) -> list[bytes]:
    blinds = row_blinds(blind, table.num_rows)
    nodes: list[bytes] = []
    for start in range(0, table.num_rows, PREPARED):
        mine = blinds[start * ROW_BLIND_BYTES : (start + PREPARED) * ROW_BLIND_BYTES]
        nodes += merkle.aligned_roots(leaf_hashes(table.slice(start, PREPARED), mine), NODE_LEAVES)
    return nodes


def counts_of(table: pa.Table) -> Counts:
    """Events by action (None past 256 distinct) and by outcome."""
    actions = _counted(table.column("action"))
    return Counts(actions if len(actions) <= MAX_ACTIONS else None, _counted(table.column("outcome")))


def sources_of(table: pa.Table) -> dict[str, Source]:
    """Events and least and greatest sequence number by source."""
    coded = _binary(table.column("source")).combine_chunks().dictionary_encode()
    codes, names = np.asarray(coded.indices), coded.dictionary.to_pylist()
    numbers = table.column("source_seq")
    numbered = np.asarray(numbers.is_valid())
    held, whose = np.asarray(numbers.fill_null(0))[numbered], codes[numbered]
    events = np.bincount(codes, minlength=len(names)).tolist()
    least = np.full(len(names), np.iinfo(np.int64).max)
    greatest = np.full(len(names), np.iinfo(np.int64).min)
    np.minimum.at(least, whose, held)
    np.maximum.at(greatest, whose, held)
    some = np.bincount(whose, minlength=len(names)).tolist()
    spans = [(a, b) if n else (None, None) for a, b, n in zip(least.tolist(), greatest.tolist(), some, strict=True)]
    rows = sorted(zip(names, events, spans, strict=True), key=lambda row: row[0])
    return {_text(name): Source(count, *span) for name, count, span in rows if count}


def time_range(table: pa.Table, column: str) -> tuple[str, str]:
    """[least, greatest] of a time column, as canonical text."""
    span = pc.min_max(table.column(column).cast(pa.int64())).as_py()
    return format_time(span["min"]), format_time(span["max"])


def _text(cell: bytes) -> str:
    """What a hostile file holds instead of UTF-8 becomes a name that no seal can state, and no error."""
    return cell.decode(errors="replace")


def _least(table: pa.Table, column: str) -> int:
    return int(pc.min(table.column(column).cast(pa.int64())).as_py())


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    found: Counter[str] = Counter()
    for pair in pc.value_counts(_binary(column)).to_pylist():
        found[_text(pair["values"])] += pair["counts"]
    return dict(sorted(found.items()))


def _binary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values as bytes, UTF-8 or not; a dictionary stays one."""
    if pa.types.is_dictionary(column.type):
        return column.cast(pa.dictionary(pa.int32(), pa.binary()))
    return column.cast(pa.binary())


def _check_shape(file: pq.ParquetFile, schema: pa.Schema) -> None:
    metadata = file.metadata
    if not 1 <= metadata.num_rows <= MAX_BATCH_EVENTS:
        raise MalformedError(f"{metadata.num_rows:,} rows is outside 1 to {MAX_BATCH_EVENTS:,}.")
    if not file.schema_arrow.equals(schema, check_metadata=False):
        raise MalformedError(
            f"the columns are not those of a batch: {', '.join(map(str, file.schema_arrow))}.",
            remedy="See docs/format.md.",
        )
    groups = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
    full, rest = divmod(metadata.num_rows, SLICE)
    if groups != [SLICE] * full + [rest] * (rest > 0):
        raise MalformedError(f"the row groups are not of {SLICE:,} rows.")


def _metadata(file: pq.ParquetFile) -> tuple[bytes, tuple[bytes, ...]]:
    found: dict[bytes, Any] = dict(file.metadata.metadata or {})
    if set(found) != {BLIND_NAME, NODES_NAME}:
        raise MalformedError("the file metadata is not exactly auditlib.blind and auditlib.nodes.")
    blind = bytes.fromhex(found[BLIND_NAME].decode())
    if len(blind) != BLIND_BYTES or blind.hex().encode() != found[BLIND_NAME]:
        raise MalformedError("auditlib.blind is not 32 bytes in lower-case hex.")
    joined = decode_base64(found[NODES_NAME].decode())
    nodes = tuple(joined[at : at + merkle.HASH_BYTES] for at in range(0, len(joined), merkle.HASH_BYTES))
    if len(joined) != merkle.HASH_BYTES * -(-file.metadata.num_rows // NODE_LEAVES):
        raise MalformedError("auditlib.nodes has not one hash for each 256 rows.")
    return blind, nodes


def id_digests(table: pa.Table, key: bytes) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A 64-bit digest of each row's (source, event_id) under a 32-byte key, for finding repeats.

    Equal ids have equal digests; unequal ones rarely, and without the key nobody can make them on purpose. Whoever
    finds two alike compares the ids themselves.
    """
    ids = pc.binary_join_element_wise(
        table.column("source").cast(pa.binary()), table.column("event_id").cast(pa.binary()), b"\n"
    )
    digests = np.empty(table.num_rows, np.uint64)
    at = 0
    for chunk in ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]:
        digests[at : at + len(chunk)] = _mix(chunk, key)
        at += len(chunk)
    return digests


def _mix(ids: pa.Array, key: bytes) -> np.ndarray[Any, np.dtype[np.uint64]]:
    lengths = np.asarray(pc.binary_length(ids)).astype(np.int64)
    if lengths.max(initial=1) > _MAX_MIXED_BYTES:  # no valid id; one long cell must not make all of them as wide
        ids = pc.binary_slice(ids, 0, _MAX_MIXED_BYTES)
    width = -(-min(int(lengths.max(initial=1)), _MAX_MIXED_BYTES) // 8) * 8
    padded = pc.ascii_rpad(ids.view(pa.string()), width, "\x00")  # a view: what is no UTF-8 has a digest too
    words = np.frombuffer(padded.buffers()[2], np.uint64, len(ids) * width // 8).reshape(len(ids), -1)
    odd = np.frombuffer(key, np.uint64) | np.uint64(1)
    mixed: np.ndarray[Any, np.dtype[np.uint64]] = lengths.astype(np.uint64) * odd[0]
    shortest = int(lengths.min(initial=0))
    for column in range(words.shape[1]):
        step = (mixed ^ words[:, column]) * odd[1 + column % 3]
        step ^= step >> np.uint64(32)
        step *= odd[0]  # without it two ids that differ in a few high bits collide under every other key
        step ^= step >> np.uint64(32)
        # Only an id's own words count, and not the padding that its longest neighbour asks for.
        mixed = step if shortest > 8 * column else np.where(lengths > 8 * column, step, mixed)
    return mixed
