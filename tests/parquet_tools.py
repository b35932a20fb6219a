"""Parquet files that no honest writer makes: any writer option, and any field of the footer rewritten.

A footer is Thrift compact (apache/thrift doc/specs/thrift-compact-protocol.md); here a struct is a dict of
field number -> (type, value), a list is (element type, values), so that what is read can be changed and written.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from auditlib.formats.columns import SLICE

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 12
Fields = dict[int, tuple[int, Any]]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def struct(self) -> Fields:
        fields: Fields = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.zigzag()
            fields[number] = (head & 15, self.value(head & 15))
        return fields

    def value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE):
            return None
        if kind == BYTE:
            return self.byte()
        if kind in (I16, I32, I64):
            return self.zigzag()
        if kind in (BINARY, DOUBLE):
            size = 8 if kind == DOUBLE else self.varint()
            self.at += size
            return self.data[self.at - size : self.at]
        if kind == LIST:
            head = self.byte()
            size = head >> 4 if head >> 4 < 15 else self.varint()
            return head & 15, [self.byte() if head & 15 <= 3 else self.value(head & 15) for _ in range(size)]
        assert kind == STRUCT, kind
        return self.struct()


def varint(value: int) -> bytes:
    """Little-endian groups of seven bits."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def zigzag(value: int) -> bytes:
    """A signed number as a varint."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def write_struct(fields: Fields) -> bytes:
    """The bytes of a struct, fields in ascending order."""
    out, last = b"", 0
    for number, (kind, value) in sorted(fields.items()):
        delta = number - last
        out += bytes([delta << 4 | kind]) if 0 < delta < 16 else bytes([kind]) + zigzag(number)
        out += write_value(kind, value)
        last = number
    return out + b"\0"


def write_value(kind: int, value: Any) -> bytes:
    """The bytes of one value."""
    if kind in (TRUE, FALSE):
        return b""
    if kind == BYTE:
        return bytes([value])
    if kind in (I16, I32, I64):
        return zigzag(value)
    if kind == DOUBLE:
        return bytes(value)
    if kind == BINARY:
        return varint(len(value)) + bytes(value)
    if kind == LIST:
        inner, items = value
        head = bytes([len(items) << 4 | inner]) if len(items) < 15 else bytes([0xF0 | inner]) + varint(len(items))
        return head + b"".join(bytes([item]) if inner <= 3 else write_value(inner, item) for item in items)
    return write_struct(value)


def split(data: bytes) -> tuple[bytes, bytes]:
    """A file -> what stands before its footer, and the footer's bytes."""
    size = int.from_bytes(data[-8:-4], "little")
    return data[: -8 - size], data[-8 - size : -8]


def join(body: bytes, footer: bytes) -> bytes:
    """The inverse of split."""
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def footer_of(data: bytes) -> Fields:
    """The FileMetaData of a file."""
    return _Reader(split(data)[1]).struct()


def with_footer(data: bytes, change: Callable[[Fields], None]) -> bytes:
    """The same file with its FileMetaData changed."""
    body, raw = split(data)
    fields = _Reader(raw).struct()
    change(fields)
    return join(body, write_struct(fields))


def groups(footer: Fields) -> list[Fields]:
    """FileMetaData.row_groups."""
    found: list[Fields] = footer[4][1][1]
    return found


def chunks(footer: Fields) -> list[Fields]:
    """Every ColumnChunk of every row group."""
    return [chunk for group in groups(footer) for chunk in group[1][1][1]]


def column(chunk: Fields) -> Fields:
    """ColumnChunk.meta_data."""
    found: Fields = chunk[3][1]
    return found


def write(table: pa.Table, metadata: dict[str, str], **options: Any) -> bytes:
    """A Parquet file as encode_batch writes it, but for the options given."""
    size = options.pop("row_group_size", SLICE)
    plain: dict[str, Any] = {"compression": "zstd", "write_statistics": False, "store_schema": False}
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **(plain | options)) as writer:
        writer.write_table(table, row_group_size=size)
        writer.add_key_value_metadata(metadata)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def base64_of(data: bytes) -> str:
    """As auditlib.nodes is written."""
    return base64.b64encode(data).decode()
