"""Results to files, for people and programs: csv, jsonl, parquet, xlsx, and an HTML table for notebooks.

A file appears whole or not at all. What a record says is never taken for a formula, a link or markup.
"""

from __future__ import annotations

import csv
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.columns import SCHEMA, record_texts, time_texts

FORMATS = ("csv", "jsonl", "parquet", "xlsx")
XLSX_ROWS = 1_048_576  # rows of one worksheet, Excel specifications and limits
XLSX_CELL = 32_767  # characters of one cell, Excel specifications and limits
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")  # OWASP, CSV injection
_EPOCH = datetime(1980, 1, 1, tzinfo=UTC)  # a fixed creation time, so that equal tables are equal files


def export(batches: Iterable[pa.RecordBatch], path: Path, format: str | None, *, sheet: str) -> int:
    """Write a stream of Arrow batches to a new file; the format is given or the file's ending. Returns the rows.

    At least one batch, if need be an empty one, says what the columns are. Raises MalformedError where the format is
    unknown or the file exists, UnavailableError where it cannot be written; nothing half-written stays.
    """
    chosen = format or path.suffix.removeprefix(".").lower()
    if chosen not in _WRITERS:
        raise MalformedError(f"{chosen!r} is no format; use {', '.join(FORMATS)}.", where=str(path))
    fresh = path.with_name(f".auditlib-{secrets.token_hex(4)}")
    try:
        if os.path.lexists(path):
            raise MalformedError(
                "exists already and is not overwritten.", where=str(path), remedy="Choose another name."
            )
        try:
            rows = _WRITERS[chosen](batches, fresh, sheet)
            fresh.rename(path)
        finally:
            with suppress(OSError):
                fresh.unlink()
    except OSError as error:
        raise UnavailableError(f"cannot be written ({error.strerror or error}).", where=str(path)) from None
    return rows


def write_csv(batches: Iterable[pa.RecordBatch], stream: IO[str]) -> int:
    """CSV text: times canonical, nulls empty, and no cell that a spreadsheet would run (RFC 4180, defused)."""
    writer = csv.writer(stream, lineterminator="\r\n")
    rows = 0
    for number, batch in enumerate(batches):
        if not number:
            writer.writerow(batch.schema.names)
        writer.writerows([_defused(cell) for cell in row] for row in _rows(batch))
        rows += batch.num_rows
    return rows


def write_jsonl(batches: Iterable[pa.RecordBatch], stream: IO[bytes]) -> int:
    """Canonical records, one a line."""
    rows = 0
    for batch in batches:
        table = pa.Table.from_batches([batch]).select(SCHEMA.names).cast(SCHEMA)
        for start in range(0, table.num_rows, 8192):
            stream.writelines(text + b"\n" for text in record_texts(table.slice(start, 8192)).to_pylist())
        rows += batch.num_rows
    return rows


def html_table(table: pa.Table) -> str:
    """A small table as HTML; every cell is escaped and stays text."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.column_names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape('' if cell is None else str(cell))}</td>" for cell in row) + "</tr>"
        for batch in table.to_batches()
        for row in _rows(batch)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def defuse(text: str) -> str:
    """A text that a spreadsheet would run as a formula gets an apostrophe before it."""
    return "'" + text if text.startswith(_FORMULA) else text


def _defused(cell: Any) -> Any:
    return defuse(cell) if isinstance(cell, str) else cell


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[Any, ...]]:
    return zip(*(_cells(column) for column in batch.columns), strict=True)


def _cells(column: pa.Array) -> list[Any]:
    """Python values; times as canonical text."""
    if pa.types.is_timestamp(column.type):
        valid = pc.fill_null(column.cast(pa.timestamp("us", "UTC")), datetime(1970, 1, 1, tzinfo=UTC))
        texts = time_texts(valid).cast(pa.string())
        column = pc.if_else(column.is_valid(), texts, None)
    cells: list[Any] = column.to_pylist()
    return cells


def _write_csv(batches: Iterable[pa.RecordBatch], path: Path, sheet: str) -> int:
    with path.open("w", encoding="utf-8-sig", newline="") as stream:  # a BOM, or Excel takes it for Latin-1
        return write_csv(batches, stream)


def _write_jsonl(batches: Iterable[pa.RecordBatch], path: Path, sheet: str) -> int:
    with path.open("wb") as stream:
        return write_jsonl(batches, stream)


def _write_parquet(batches: Iterable[pa.RecordBatch], path: Path, sheet: str) -> int:
    with ExitStack() as stack:
        writer, rows = None, 0
        for batch in batches:
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(path, batch.schema, compression="zstd"))
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _write_xlsx(batches: Iterable[pa.RecordBatch], path: Path, sheet: str) -> int:
    import xlsxwriter

    options = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    with path.open("wb") as stream:
        book = xlsxwriter.Workbook(stream, options)
        try:
            rows = _fill(book, batches, sheet)
        finally:  # frees the rows it keeps in temporary files as well
            try:
                book.close()
            except xlsxwriter.exceptions.FileCreateError as error:
                raise OSError(str(error)) from None
    return rows


def _fill(book: Any, batches: Iterable[pa.RecordBatch], sheet: str) -> int:
    book.set_properties({"created": _EPOCH})
    bold = book.add_format({"bold": True, "bottom": 1})
    page, line, rows, pages = None, 0, 0, 0

    def turn(names: list[str]) -> Any:
        page = book.add_worksheet(f"{sheet} {pages + 1}" if pages else sheet)
        page.freeze_panes(1, 0)
        page.write_row(0, 0, names, bold)
        page.set_column(0, len(names) - 1, 20)
        return page

    for batch in batches:
        if page is None:
            page, line, pages = turn(batch.schema.names), 1, 1
        for row in _rows(batch):
            if line == XLSX_ROWS:
                page, line, pages = turn(batch.schema.names), 1, pages + 1
            for place, cell in enumerate(row):
                if isinstance(cell, str):
                    page.write_string(line, place, cell[:XLSX_CELL])
                elif cell is not None:
                    page.write(line, place, cell)
            line += 1
        rows += batch.num_rows
    return rows


_WRITERS: dict[str, Callable[[Iterable[pa.RecordBatch], Path, str], int]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
    "xlsx": _write_xlsx,
}
