"""The footer of a Parquet file, read strictly: a file that says more than DESIGN 4.3 allows is refused.

    PAR1 ... column chunks ... <Thrift compact FileMetaData> <4 bytes its length> PAR1

Column statistics, bloom filters and page indexes let an engine skip rows on the file's own word, and a `file_path`
sends it to another file; lying ones hide rows. Readers differ in which of them they look at (pyarrow passes over
statistics of writers it holds for buggy, DuckDB does not), so the question is not put to one: any field of the
footer that is not known to be harmless is a fault.

Row groups as the library itself writes them are recognised by one regular expression, a tenth of the time that reading
them field by field takes; whatever it does not match is read, and judged, field by field.
"""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from auditlib.errors import MalformedError
from auditlib.formats.columns import SCHEMA

MAGIC = b"PAR1"
MAX_FOOTER_BYTES = 1024 * 1024  # bytes; 128 row groups of 13 columns and 4,096 nodes take some 400 kB
_MAX_DEPTH = 12  # levels; FileMetaData has 7

# Field numbers of parquet.thrift (apache/parquet-format) that a batch may use; names for the messages.
_FILE = {1: "version", 2: "schema", 3: "num_rows", 4: "row_groups", 5: "key_value_metadata", 6: "created_by"}
_FILE_IGNORED = {7}  # column_orders: only says how statistics would sort
_ROW_GROUP = {1, 2, 3, 5, 6, 7}  # columns, sizes, num_rows, file_offset, ordinal; not 4 sorting_columns
_CHUNK = {2, 3}  # file_offset, meta_data; not 1 file_path, 4 to 7 page indexes, 8 and 9 encryption
_COLUMN = {
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    9,
    11,
    13,
    16,
}  # not 8 metadata, 10 index page, 12 statistics, 14 15 bloom, 17 geo
# 16 (sizes for memory planning) is written by pyarrow without a way to turn it off; it holds no values to skip by.
_NAMES = {
    ("chunk", 1): "a path to another file",
    ("chunk", 4): "a page index",
    ("chunk", 5): "a page index",
    ("chunk", 6): "a page index",
    ("chunk", 7): "a page index",
    ("column", 12): "column statistics",
    ("column", 14): "a bloom filter",
    ("column", 15): "a bloom filter",
    ("column", 17): "geospatial statistics",
    ("row group", 4): "a sort order",
}


def check_footer(data: bytes | memoryview) -> None:
    """Raises MalformedError where the footer of a whole Parquet file holds anything an engine could be misled by."""
    view = memoryview(data)
    if len(view) < 12 or bytes(view[:4]) != MAGIC or bytes(view[-4:]) != MAGIC:
        raise MalformedError("not a Parquet file.")
    size = int.from_bytes(view[-8:-4], "little")
    if not 0 < size <= min(MAX_FOOTER_BYTES, len(view) - 12):
        raise MalformedError(f"the Parquet footer claims {size:,} bytes.")
    raw = bytes(view[-8 - size : -8])
    footer = _read(_Compact(raw, _USUAL_GROUP))
    if _kinds(footer) != _USUAL_KINDS:  # the expression holds a batch's names and types
        footer = _read(_Compact(raw))
    _only("file", footer, set(_FILE) | _FILE_IGNORED)
    names = [_struct(pair).get(1) for pair in _list(footer.get(5))]
    if not all(isinstance(name, bytes) for name in names) or len(set(names)) < len(names):
        raise MalformedError("a key of the file metadata is no text or stands twice; readers would differ.")
    kinds = _kinds(footer)
    for group in _list(footer.get(4)):
        if group is _USUAL:
            continue
        _only("row group", group, _ROW_GROUP)
        for chunk in _list(group.get(1)):
            _only("chunk", chunk, _CHUNK)
            _only("column", chunk.get(3), _COLUMN)
        # Some engines go by the schema and the group's rows, some by type, name and values that the chunk gives itself.
        expected = [(kind, [name], group.get(3)) for name, kind in kinds]
        if [(chunk[3].get(1), chunk[3].get(3), chunk[3].get(5)) for chunk in group[1]] != expected:
            raise MalformedError("the column chunks are not those of the schema: other order, type, name or row count.")


def _read(reader: _Compact) -> dict[int, Any]:
    try:
        footer = reader.struct(0)
    except (IndexError, RecursionError):
        raise MalformedError("the Parquet footer is cut short or damaged.") from None
    if reader.at != len(reader.data):
        raise MalformedError("the Parquet footer has bytes left over.")
    return footer


def _kinds(footer: dict[int, Any]) -> list[tuple[Any, Any]]:
    """Each column's name and physical type, as the schema states them."""
    return [(fields.get(4), fields.get(1)) for fields in map(_struct, _list(footer.get(2))[1:])]


def _only(what: str, fields: Any, allowed: set[int]) -> None:
    for number in sorted(set(_struct(fields)) - allowed):
        name = _NAMES.get((what, number), f"field {number} of a {what}")
        raise MalformedError(
            f"the file holds {name}; batches hold none, because a query engine would trust it and could skip rows."
        )


def _struct(value: Any) -> dict[int, Any]:
    if not isinstance(value, dict):
        raise MalformedError("the Parquet footer is not built as it must be.")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedError("the Parquet footer is not built as it must be.")
    return value


def _usual_group() -> re.Pattern[bytes]:
    """A row group as pyarrow writes it for a batch: of every chunk only allowed fields, its own type and name, and one
    number of values, the group's. No token is the beginning of another, so that a match is the one way to read it."""
    number = rb"[\x80-\xff]{0,8}[\x00-\x7f]"
    counted = [rb"(?:%b){%d}" % (number, count) for count in range(6)]
    encodings = rb"(?:%b)" % b"|".join(bytes([count << 4 | 5]) + counted[count] for count in range(1, 6))
    stat = rb"\x15%b\x15%b\x15%b\x00" % (number, number, number)
    stats = rb"(?:%b)" % b"|".join(re.escape(bytes([count << 4 | 12])) + (stat * count) for count in range(1, 4))
    sizes = rb"(?:%b)" % b"|".join(bytes([count << 4 | 6]) + counted[count] for count in range(4))
    memory = rb"(?:\x3c(?:\x16%b\x19|\x29)%b\x19%b\x00)?" % (number, sizes, sizes)  # field 16
    places = rb"(?:\x26%b\x26%b\x29|\x26%b\x49)" % (number, number, number)  # fields 9 and perhaps 11, then 13
    chunks = []
    for place, (name, kind) in enumerate(_USUAL_KINDS):
        rows = rb"(?P=rows)" if place else rb"(?P<rows>%b)" % number
        named = re.escape(bytes([len(name)]) + name)
        chunks.append(
            rb"\x26%b\x1c\x15%b\x19%b\x19\x18%b\x15%b\x16%b\x16%b\x16%b%b%b%b\x00\x00"
            % (number, bytes([kind * 2]), encodings, named, number, rows, number, number, places, stats, memory)
        )
    head = re.escape(b"\x19" + bytes([len(chunks) << 4 | 12]))
    tail = rb"\x16%b\x16(?P=rows)\x26%b\x16%b(?:\x14%b)?\x00" % (number, number, number, number)
    return re.compile(head + b"".join(chunks) + tail, re.DOTALL)


_USUAL_KINDS = [
    (field.name.encode(), 6 if pa.types.is_string(field.type) else 2) for field in SCHEMA
]  # BYTE_ARRAY, INT64
_USUAL_GROUP = _usual_group()
_USUAL = object()  # stands for a row group that matched


class _Compact:
    """Thrift compact protocol (apache/thrift doc/specs/thrift-compact-protocol.md), values by field number.

    A struct in a list of the outermost struct that matches `usual` is passed over, and _USUAL stands for it.
    """

    def __init__(self, data: bytes, usual: re.Pattern[bytes] | None = None) -> None:
        self.data = data
        self.usual = usual
        self.at = 0

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise MalformedError("the Parquet footer is nested too deeply.")
        fields: dict[int, Any] = {}
        number = 0
        while True:
            head = self.data[self.at]
            self.at += 1
            if not head:
                return fields
            kind = head & 0x0F
            number = number + (head >> 4) if head > 0x0F else self._zigzag()
            if number in fields:
                raise MalformedError("a field stands twice in the Parquet footer.")
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind in (1, 2, 3):  # booleans inside a list, and bytes, take one byte
            return self._byte()
        if kind == 7:
            return self._take(8)
        if kind == 8:
            return self._take(self._varint())
        if kind in (9, 10):
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._varint()
            if size > len(self.data):
                raise IndexError(size)
            return [
                self._element(depth + 1) if head & 0x0F == 12 else self._value(head & 0x0F, depth + 1)
                for _ in range(size)
            ]
        if kind == 12:
            return self.struct(depth + 1)
        raise MalformedError(f"the Parquet footer holds an unknown type {kind}.")

    def _element(self, depth: int) -> Any:
        found = self.usual.match(self.data, self.at) if self.usual and depth == 1 else None
        if found is None:
            return self.struct(depth)
        self.at = found.end()
        return _USUAL

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise IndexError(size)
        self.at += size
        return self.data[self.at - size : self.at]

    def _varint(self) -> int:
        value = shift = 0
        data, at = self.data, self.at
        while (byte := data[at]) >= 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            at += 1
            if shift > 63:
                raise MalformedError("the Parquet footer holds a number past 64 bits.")
        self.at = at + 1
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
