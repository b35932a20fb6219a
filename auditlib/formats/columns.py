"""Columns <-> canonical records, a whole slice at a time (DESIGN 4.2, 4.3).

    event_id | occurred_at | actor_type | actor_id | ... | context | recorded_at | source | source_seq

The columns are the only copy of a record, so its canonical JSON is spliced together from them: the fixed keys are
ASCII and sorted once here, strings are escaped where RFC 8785 asks, and `context` stands in it as it is stored,
which is why `context` is checked by parsing and re-encoding every row. Everything here agrees with the slow way,
`record_bytes(record_at(table, row))`; the tests hold the two together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256, shake_256
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditlib.errors import MalformedError
from auditlib.formats.canonical import MAX_INTEGER, canonical, parse_json
from auditlib.formats.catalog import Catalog
from auditlib.formats.event import (
    ACTOR_TYPES,
    MAX_CONTEXT_BYTES,
    MAX_CONTEXT_DEPTH,
    MAX_EVENT_ID_CHARS,
    MAX_ID_BYTES,
    OUTCOMES,
    Actor,
    Event,
    Receipt,
    Record,
    Target,
    check_context,
    check_record,
)
from auditlib.formats.times import DAY, LATEST, SECOND, format_time, parse_canonical_time

BLIND_BYTES = 32  # random bytes a batch, DESIGN 4.2
ROW_BLIND_BYTES = 16  # bytes of SHAKE-256 a record, DESIGN 4.2
SLICE = 8192  # rows worked on at a time, and a row group, DESIGN 4.3
CODED = ["actor_type", "actor_session", "action", "target_type", "outcome", "source"]  # columns of few distinct values

_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("occurred_at", _TIME, nullable=False),
        pa.field("actor_type", pa.string(), nullable=False),
        pa.field("actor_id", pa.string(), nullable=False),
        pa.field("actor_session", pa.string()),
        pa.field("action", pa.string(), nullable=False),
        pa.field("target_type", pa.string(), nullable=False),
        pa.field("target_id", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("context", pa.string(), nullable=False),
        pa.field("recorded_at", _TIME, nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_seq", pa.int64()),
    ]
)

# A context with none of these is canonical exactly when msgspec's sorted re-encoding gives it back; any other is
# left to rfc8785 and the slow checks: floats, long integers, keys beyond ASCII, U+0000, `$enc`.
_ODD_CONTEXT = r"(?:\":|[\[,])-?[0-9]+(?:[.eE]|[0-9]{15})|[^\x00-\x7f](?:[^\"\\]|\\.)*\":|\\u0000|\{\"\$enc\":|[\x00]"
_ESCAPED = re.compile(rb'["\\\x00-\x1f]')  # RFC 8785 3.2.2.2
_NAME_RULE = re.compile(r"[a-z0-9_.:/-]{1,128}")
_ACTION_RULE = re.compile(r"[a-z0-9_:/-]+(?:\.[a-z0-9_:/-]+)+")

_decoder, _encoder = msgspec.json.Decoder(), msgspec.json.Encoder(order="sorted")
_ROW_BY_ROW = 64  # rows; the columns of fewer cost as much as reading them one by one
_AT_ONCE = 512  # entries hashed and contexts decoded at a time, while they stay in the processor's cache
PREPARED = 8 * SLICE  # rows whose parts are made ready at a time: every call of Arrow's costs as much as a hundred rows


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """An event whose context is left as it is written."""

    action: str
    actor: Actor
    context: msgspec.Raw
    event_id: str
    occurred_at: str
    outcome: str
    target: Target


_part = msgspec.json.Decoder(_Part).decode


def table_of(records: Sequence[Record]) -> pa.Table:
    """Records, in order -> a table of SCHEMA."""
    events = [record.event for record in records]
    receipts = [record.receipt for record in records]
    columns: list[list[Any]] = [
        [event.event_id for event in events],
        [parse_canonical_time(event.occurred_at) for event in events],
        [event.actor.type for event in events],
        [event.actor.id for event in events],
        [event.actor.session for event in events],
        [event.action for event in events],
        [event.target.type for event in events],
        [event.target.id for event in events],
        [event.outcome for event in events],
        [canonical(event.context).decode() for event in events],
        [parse_canonical_time(receipt.recorded_at) for receipt in receipts],
        [receipt.source for receipt in receipts],
        [receipt.source_seq for receipt in receipts],
    ]
    return _table(columns)


def table_of_events(
    texts: Sequence[bytes], recorded: Sequence[int], sources: Sequence[str], numbers: Sequence[int | None]
) -> pa.Table:
    """Canonical events and their receipts' parts (recorded_at in microseconds), row by row -> a table of SCHEMA.

    The columns give back each text byte for byte, or MalformedError is raised for all: no field is unknown or stands
    twice, nothing is spelled in another way. Whether the values are allowed, and the contexts, which are laid into
    their column as they are, canonical at all, is for `faults` to say of the table.
    """
    try:
        parts = [_part(text) for text in texts]
        times = pa.array([part.occurred_at for part in parts], pa.string()).cast(_TIME)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, pa.ArrowException) as error:
        raise MalformedError(f"an event cannot be laid out in columns: {error}.") from None
    columns: list[Any] = [
        [part.event_id for part in parts],
        times,
        [part.actor.type for part in parts],
        [part.actor.id for part in parts],
        [part.actor.session for part in parts],
        [part.action for part in parts],
        [part.target.type for part in parts],
        [part.target.id for part in parts],
        [part.outcome for part in parts],
        [bytes(part.context) for part in parts],
        recorded,
        sources,
        numbers,
    ]
    table = _table(columns)
    if not event_texts(table).equals(pa.array(texts, pa.binary())):
        raise MalformedError("an event is not written canonically (RFC 8785).")
    return table


def _table(columns: Sequence[Any]) -> pa.Table:
    try:
        arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    except (UnicodeError, OverflowError, TypeError, pa.ArrowException) as error:
        raise MalformedError(f"a value does not fit its column: {error}.") from None
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def record_at(table: pa.Table, row: int) -> Record:
    """One row -> its Record, unchecked: the slow, obvious inverse of table_of."""
    cells: dict[str, Any] = {}
    for name in SCHEMA.names:
        cell = table.column(name)[row]
        cells[name] = cell.cast(pa.int64()).as_py() if pa.types.is_timestamp(cell.type) else cell.as_py()
    event = Event(
        action=cells["action"],
        actor=Actor(cells["actor_id"], cells["actor_session"], cells["actor_type"]),
        context=parse_json(cells["context"]),
        event_id=cells["event_id"],
        occurred_at=format_time(cells["occurred_at"]),
        outcome=cells["outcome"],
        target=Target(cells["target_id"], cells["target_type"]),
    )
    return Record(event, Receipt(format_time(cells["recorded_at"]), cells["source"], cells["source_seq"]))


def record_texts(table: pa.Table, before: pa.Array | bytes = b"") -> pa.Array:
    """A table -> its canonical records as one binary array (at most 2 GiB: pass slices), each after `before`.

    Every part of the join costs as much as a short string, so that a column of few values carries the keys around it.
    """
    return _join(before, *_record_parts(_cells(table)))


def _record_parts(cells: dict[str, pa.Array]) -> list[Any]:
    return [
        *_event_parts(cells, b'{"event":', b',"receipt":'),
        time_texts(cells["recorded_at"], b'{"recorded_at":"'),
        _framed(cells["source"], b'","source":"', b'","source_seq":'),
        pc.fill_null(cells["source_seq"].cast(pa.string()), "null").cast(pa.binary()),
        b"}}",
    ]


def event_texts(table: pa.Table) -> pa.Array:
    """A table -> its canonical events, without their receipts, as record_texts gives the records."""
    return _join(*_event_parts(_cells(table), b"", b""))


def _event_parts(cells: dict[str, pa.Array], before: bytes, after: bytes) -> list[Any]:
    return [
        _framed(cells["action"], before + b'{"action":"', b'","actor":{"id":"'),
        _escaped(cells["actor_id"]),
        _framed(cells["actor_session"], b'","session":"', b'","type":"', null=b'","session":null,"type":"'),
        _framed(cells["actor_type"], b"", b'"},"context":'),
        _raw(cells["context"]),
        b',"event_id":"',
        _escaped(cells["event_id"]),
        time_texts(cells["occurred_at"], b'","occurred_at":"'),
        _framed(cells["outcome"], b'","outcome":"', b'","target":{"id":"'),
        _escaped(cells["target_id"]),
        _framed(cells["target_type"], b'","type":"', b'"}}' + after),
    ]


def row_blinds(blind: bytes, rows: int) -> bytes:
    """The 16 bytes of every row, one after the other: SHAKE-256 over the batch's 32 random bytes (DESIGN 4.2)."""
    return shake_256(blind).digest(ROW_BLIND_BYTES * rows)


def leaf_hashes(table: pa.Table, blinds: bytes) -> list[bytes]:
    """A table and its rows' blinds -> the leaf hashes: SHA-256(0x00 || blind_i || canonical record)."""
    leaves: list[bytes] = []
    for start in range(0, table.num_rows, PREPARED):
        part = table.slice(start, PREPARED)
        prefix = np.zeros((part.num_rows, 1 + ROW_BLIND_BYTES), np.uint8)  # RFC 6962 2.1: leaf prefix 0x00
        mine = blinds[start * ROW_BLIND_BYTES : (start + part.num_rows) * ROW_BLIND_BYTES]
        prefix[:, 1:] = np.frombuffer(mine, np.uint8).reshape(-1, ROW_BLIND_BYTES)
        parts = [_fixed(prefix), *_record_parts(_cells(part))]
        for at in range(0, part.num_rows, SLICE):
            entries = _join(*(each if isinstance(each, bytes) else each.slice(at, SLICE) for each in parts))
            for first in range(0, len(entries), _AT_ONCE):
                leaves += [sha256(entry).digest() for entry in entries.slice(first, _AT_ONCE).to_pylist()]
    return leaves


def time_texts(times: pa.Array, before: bytes = b"") -> pa.Array:
    """timestamp[us, UTC] within 1970 to 9999 -> canonical time texts, as binary, each after `before`."""
    micros = np.asarray(times.cast(pa.int64()))
    seconds = micros // SECOND  # twice `//` and a product: numpy divides so several times faster than by divmod
    fraction = micros - seconds * SECOND
    days = seconds // _DAY_SECONDS
    coded = pa.array(days).dictionary_encode()
    names = np.datetime_as_string(np.asarray(coded.dictionary).astype("datetime64[D]")).astype("S10")
    cells = np.empty(len(micros), [("before", f"S{len(before)}"), *_TIME_TEXT])
    cells["before"] = before
    cells["day"] = names[np.asarray(coded.indices)]
    cells["T"], cells["dot"], cells["Z"] = b"T", b".", b"Z"
    cells["clock"] = _CLOCK[seconds - days * _DAY_SECONDS]
    millis = fraction // 1000
    cells["ms"] = _DIGITS3[millis]
    cells["us"] = _DIGITS3[fraction - millis * 1000]
    text = cells.view(np.uint8).reshape(len(micros), len(before) + 27)
    whole = fraction == 0
    if not whole.any():
        return _fixed(text)
    short = np.ascontiguousarray(text[:, : len(before) + 20])
    short[:, -1] = ord("Z")
    return _fixed(short) if whole.all() else pc.if_else(pa.array(whole), _fixed(short), _fixed(text))


def faults(table: pa.Table, catalog: Catalog) -> Iterator[tuple[int, str]]:
    """The rows that are no canonical, valid record under the catalogue: (row, sentence), in order.

    The columns are judged whole first; only where that finds something are the rows around it read one by one.
    Columns may be dictionaries. What a dictionary holds besides a slice's own values is judged with the slice, so that
    one that is found unsound is judged again by its own values alone.
    """
    plain = pa.schema([pa.field(field.name, field.type) for field in SCHEMA])
    for start in range(0, table.num_rows, SLICE):
        part = table.slice(start, SLICE)
        if not _sound(part, catalog):
            yield from _faults(
                pa.Table.from_arrays([_decoded(column) for column in part.columns], schema=plain), start, catalog
            )


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same values without a dictionary; the bytes as they are, UTF-8 or not."""
    if not pa.types.is_dictionary(column.type):
        return column
    return pa.chunked_array([_raw(chunk).view(pa.string()) for chunk in column.chunks], pa.string())


def _faults(part: pa.Table, start: int, catalog: Catalog) -> Iterator[tuple[int, str]]:
    """Halved until few rows are left around a fault: reading one row takes as long as judging a hundred in columns."""
    if _sound(part, catalog):
        return
    if part.num_rows <= _ROW_BY_ROW:
        yield from _slow_faults(part, start, catalog)
        return
    half = part.num_rows // 2
    yield from _faults(part.slice(0, half), start, catalog)
    yield from _faults(part.slice(half), start + half, catalog)


def _slow_faults(part: pa.Table, start: int, catalog: Catalog) -> Iterator[tuple[int, str]]:
    for row in range(part.num_rows):
        try:
            for field in SCHEMA:
                if not field.nullable and not part.column(field.name)[row].is_valid:
                    raise MalformedError("is null.", where=field.name)
            record = check_record(record_at(part, row))
            catalog.check(record.event)
            if canonical(record.event.context) != part.column("context")[row].as_py().encode():
                raise MalformedError("is not written canonically (RFC 8785).", where="context")
        except MalformedError as error:
            yield start + row, str(error)
        except (UnicodeDecodeError, OverflowError, pa.ArrowException) as error:
            yield start + row, f"a cell is not valid text or time ({error})."


def _sound(part: pa.Table, catalog: Catalog) -> bool:
    try:
        part.validate(full=True)  # UTF-8 and nulls, which reading alone does not look at
    except pa.ArrowInvalid:
        return False
    cells = _cells(part)
    if any(cells[field.name].null_count for field in SCHEMA if not field.nullable):
        return False
    coded = {name: cells[name].dictionary_encode() for name in CODED}
    distinct = {name: column.dictionary for name, column in coded.items()}
    return (
        not any(values.null_count for values in distinct.values())
        and _all_match(distinct["action"], _NAME_RULE)
        and _all_match(distinct["action"], _ACTION_RULE)
        and _all_match(distinct["target_type"], _NAME_RULE)
        and _all_match(distinct["source"], _NAME_RULE)
        and set(distinct["actor_type"].to_pylist()) <= set(ACTOR_TYPES)
        and set(distinct["outcome"].to_pylist()) <= set(OUTCOMES)
        and _visible(cells["event_id"])
        and all(map(_good_ids, (cells["actor_id"], distinct["actor_session"], cells["target_id"])))
        and all(_within(cells[name], 0, LATEST) for name in ("occurred_at", "recorded_at"))
        and _within(cells["source_seq"], 1, MAX_INTEGER)
        and _contexts_sound(cells["context"], coded["action"], catalog)
    )


def _contexts_sound(contexts: pa.Array, actions: pa.DictionaryArray, catalog: Catalog) -> bool:
    edges = _edges(contexts)
    lengths = np.diff(edges)
    if lengths.min() < len("{}") or lengths.max() > MAX_CONTEXT_BYTES:
        return False
    text = _bytes(contexts)
    if not (text[edges[:-1] - edges[0]] == ord("{")).all() or (text == ord("\n")).any():
        return False  # and RFC 8785 3.2 leaves no place for a line's end
    entries = [catalog.actions.get(action) for action in actions.dictionary.to_pylist()]
    demanding = {code: set(entry.required) for code, entry in enumerate(entries) if entry and entry.required}
    codes = np.asarray(actions.indices)
    texts = _raw(contexts)
    try:
        odd = _odd(contexts)
        if len(odd):
            for judged in texts.take(pa.array(odd)).to_pylist():
                if canonical(check_context(parse_json(judged))) != judged:
                    return False
            texts = texts.take(pa.array(np.delete(np.arange(len(texts)), odd)))
        if not all(_plainly_canonical(texts.slice(start, _AT_ONCE)) for start in range(0, len(texts), _AT_ONCE)):
            return False
        wanted = np.flatnonzero(np.isin(codes, list(demanding)))
        held = _raw(contexts.take(pa.array(wanted))).to_pylist()
        return all(
            demanding[code] <= _decoder.decode(cell).keys()
            for code, cell in zip(codes[wanted].tolist(), held, strict=True)
        )
    except (MalformedError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return False


def _plainly_canonical(texts: pa.Array) -> bool:
    """Whether each text, none of which holds a line's end, is what msgspec writes for some value.

    A joined parse alone would accept three rows of which none is valid (DESIGN 5). What decides is the comparison: the
    encoder writes one whole value a line, and a line here is a row.
    """
    lines = b"\n".join([*texts.to_pylist(), b""])
    return bool(_encoder.encode_lines(_decoder.decode_lines(lines)) == lines)


def _all_match(texts: pa.Array, rule: re.Pattern[str]) -> bool:
    return all(map(rule.fullmatch, texts.to_pylist()))


def _odd(contexts: pa.Array) -> np.ndarray[Any, np.dtype[np.intp]]:
    """The rows that the slow way must decide: those that match _ODD_CONTEXT or may be nested too deeply.

    The expression is put only to rows that hold a byte without which it cannot match.
    """
    text, edges = _bytes(contexts), _edges(contexts)
    edges = edges - edges[0]
    hint = (text | 0x20) == ord("{")  # either bracket
    hint[edges[:-1]] = False  # but not the one that every context opens with
    number = text - ord("-") <= ord("9") - ord("-")
    hint[2:] |= number[2:] & (text[1:-1] == ord(":")) & (text[:-2] == ord('"'))
    hint[1:] |= number[1:] & ((text[:-1] == ord("[")) | (text[:-1] == ord(",")))
    data = text.tobytes()
    for byte in b"\\$\0":
        if byte in data:
            hint |= text == byte
    if not data.isascii():
        hint |= text >= 0x80
    places = np.flatnonzero(hint)
    holders = np.searchsorted(edges, places, side="right") - 1
    rows = np.flatnonzero(np.bincount(holders, minlength=len(contexts)))
    levels = 1 + np.bincount(holders[(text[places] | 0x20) == ord("{")], minlength=len(contexts))[rows]
    matched = np.asarray(pc.match_substring_regex(contexts.take(pa.array(rows)), _ODD_CONTEXT))
    return rows[matched | (levels > MAX_CONTEXT_DEPTH)]


def _good_ids(ids: pa.Array) -> bool:
    lengths = pc.min_max(pc.binary_length(ids)).as_py()
    if lengths["min"] is None:
        return True
    return lengths["min"] >= 1 and lengths["max"] <= MAX_ID_BYTES and bool(_bytes(ids).all())


def _visible(ids: pa.Array) -> bool:
    """Event ids: 1 to 128 visible ASCII characters (DESIGN 4.1)."""
    lengths = pc.min_max(pc.binary_length(ids)).as_py()
    if not lengths["min"] >= 1 or lengths["max"] > MAX_EVENT_ID_CHARS:
        return False
    text = _bytes(ids)
    return bool(text.min() >= ord("!") and text.max() <= ord("~"))


def _within(values: pa.Array, low: int, high: int) -> bool:
    span = pc.min_max(values.cast(pa.int64())).as_py()
    return span["min"] is None or (low <= span["min"] and span["max"] <= high)


def _escaped(texts: pa.Array) -> pa.Array:
    """The inside of each JSON string, as binary; nulls stay null."""
    text = _bytes(texts)
    if not ((text < ord(" ")) | (text == ord('"')) | (text == ord("\\"))).any():
        return _raw(texts)
    cells = _raw(texts).to_pylist()
    return pa.array([None if cell is None else _ESCAPED.sub(_escape, cell) for cell in cells], pa.binary())


def _escape(match: re.Match[bytes]) -> bytes:
    return canonical(match.group().decode())[1:-1]


def _framed(texts: pa.Array, before: bytes, after: bytes, null: bytes | None = None) -> pa.Array:
    """`before`, each text escaped, `after`; `null` in place of all three. Worked out once a distinct text."""
    coded = texts if isinstance(texts, pa.DictionaryArray) else texts.dictionary_encode()
    values = _join(before, _escaped(coded.dictionary), after)
    framed = values.take(coded.indices)
    return framed if null is None else pc.fill_null(framed, null)


def _bytes(texts: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The UTF-8 bytes of all values, one after the other, without a copy."""
    edges, data = _edges(texts), texts.buffers()[2]
    if data is None or edges[0] == edges[-1]:
        return np.empty(0, np.uint8)
    return np.frombuffer(data, np.uint8)[edges[0] : edges[-1]]


def _edges(texts: pa.Array) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Where each value starts in the buffer, and where the last one ends."""
    return np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]


def _raw(texts: pa.Array) -> pa.Array:
    return texts.cast(pa.binary())


def _join(*parts: Any) -> pa.Array:
    return pc.binary_join_element_wise(*parts, b"")


def _fixed(matrix: np.ndarray[Any, np.dtype[np.uint8]]) -> pa.Array:
    """A (n, width) byte matrix -> n binary values without a copy."""
    rows, width = matrix.shape
    offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(matrix)])


def _cells(table: pa.Table) -> dict[str, pa.Array]:
    return {name: _one_chunk(table.column(name)) for name in SCHEMA.names}


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _clocks() -> np.ndarray[Any, np.dtype[np.bytes_]]:
    """hh:mm:ss of every second of a day."""
    two = np.array([f"{number:02}" for number in range(60)], "S2")
    text = np.empty((24, 60, 60), [("h", "S2"), ("_", "S1"), ("m", "S2"), ("__", "S1"), ("s", "S2")])
    text["h"], text["m"], text["s"] = two[:24, None, None], two[:, None], two
    text["_"] = text["__"] = b":"
    return text.view("S8").ravel()


_DAY_SECONDS = DAY // SECOND
_CLOCK = _clocks()
_DIGITS3 = np.array([f"{number:03}" for number in range(1000)], "S3")
# YYYY-MM-DDThh:mm:ss.ffffffZ, piece by piece
_TIME_TEXT = [("day", "S10"), ("T", "S1"), ("clock", "S8"), ("dot", "S1"), ("ms", "S3"), ("us", "S3"), ("Z", "S1")]
