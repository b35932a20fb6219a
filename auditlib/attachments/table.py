"""A list from outside -> a frame with our column names, typed; or every row that does not parse, with its line.

Texts are `str` with an empty cell as missing, times `datetime64[us, UTC]`, whole numbers `Int64`. The column `line` is
the line of the file at which a row begins (the header is line 1, a cell may hold several lines).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd

from auditlib.attachments.cells import Clock, Value
from auditlib.attachments.declaration import MAX_COLUMNS, Declaration
from auditlib.attachments.shapes import Column, Kind
from auditlib.errors import MalformedError, MismatchError
from auditlib.query import zone_of

MAX_CSV_BYTES = 64 * 1024 * 1024  # bytes; 500,000 rows of a roster take some 40 MB
MAX_ROWS = 500_000  # data rows; as lists of texts they take about 1 GB of memory
MAX_LINES = 2_000_000  # lines, those inside cells too: the packet verifiers read no more
MAX_CELL_CHARS = 32_767  # characters; what a cell of a spreadsheet can hold
MAX_FAULTS = 20  # faults that are told one by one
_TIMES: tuple[Kind, ...] = ("moment", "begin", "end")

Row = tuple[int, list[str]]  # the line at which it begins, its cells


def read_rows(data: bytes) -> tuple[list[str], list[Row]]:
    """CSV (RFC 4180, UTF-8, a byte order mark allowed) -> the headers and the rows. MalformedError: every fault."""
    if len(data) > MAX_CSV_BYTES:
        raise MalformedError(f"has {len(data):,} bytes; at most {MAX_CSV_BYTES:,} are read.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MalformedError(f"line {line}: this is no UTF-8.", remedy="Export it as CSV in UTF-8.") from None
    if "\0" in text:
        raise MalformedError(f"line {text.count(chr(10), 0, text.index(chr(0))) + 1}: U+0000 is not allowed.")
    if text.count("\n") + text.count("\r") > 2 * MAX_LINES:
        raise MalformedError(f"has more than {MAX_LINES:,} lines.")
    faults = Faults()
    rows: list[Row] = []
    reader = _reader(text, faults)
    _, headers = next(reader, (1, []))
    if not headers or len(headers) > MAX_COLUMNS or len(set(headers)) != len(headers):
        raise MalformedError(f"line 1 is no header: 1 to {MAX_COLUMNS} names, none of them twice.")
    for line, cells in reader:
        if len(rows) == MAX_ROWS:
            raise MalformedError(f"has more than {MAX_ROWS:,} data rows.", remedy="Narrow the export.")
        if len(cells) != len(headers):
            told = f"has {len(cells)} cells under {len(headers)} headers" if cells else "is empty"
            faults.add(line, f"the row {told}.")
        elif long := [header for header, cell in zip(headers, cells, strict=True) if len(cell) > MAX_CELL_CHARS]:
            faults.add(line, f"column {long[0][:80]!r}: more than {MAX_CELL_CHARS:,} characters.")
        rows.append((line, cells))
    faults.refuse()
    return headers, rows


def read_frame(declaration: Declaration, data: bytes) -> pd.DataFrame:
    """The file of a declaration -> its frame.

    Raises MalformedError with every fault, MismatchError where there are more or fewer rows than were declared.
    """
    headers, rows = read_rows(data)
    for name, header in declaration.columns.items():
        if header not in headers:
            near = get_close_matches(header, headers, n=1)
            hint = f" Did you mean {near[0][:80]!r}?" if near else ""
            raise MalformedError(f"it has no header {header[:80]!r}, declared for {name}.{hint}")
    clock = Clock(zone_of(declaration.time_zone), declaration.cutoff, declaration.exported_at)
    faults, lines = Faults(), [line for line, _ in rows]
    columns: dict[str, Any] = {"line": np.array(lines, dtype=np.int64)}
    for name, column in declaration.kinds.items():
        values: list[Value | None] = [None] * len(rows)
        if name in declaration.columns:
            at = headers.index(declaration.columns[name])
            texts = [(line, cells[at]) for line, cells in rows]
            values = _values(f"{name} (column {headers[at][:80]!r})", column, clock, texts, faults)
        columns[name] = _typed(column.kind, values)
    if declaration.name == "responses":
        _once("item", lines, columns["item"], faults)
    faults.refuse()
    if len(rows) != declaration.rows:
        raise MismatchError(
            "the file holds another number of data rows than its declaration states.",
            remedy="Export it again, whole, and state the number that the system gave.",
            expected=declaration.rows,
            found=len(rows),
        )
    return pd.DataFrame(columns)


class Faults:
    """What does not parse: the first MAX_FAULTS in the order of the lines, and how many more."""

    def __init__(self) -> None:
        self._first: list[tuple[int, str]] = []
        self._number = 0

    def add(self, line: int, sentence: str) -> None:
        """One more; they may come in any order."""
        self._number += 1
        self._first.append((line, sentence))
        if len(self._first) > 100 * MAX_FAULTS:  # a file of nothing but faults must not fill the memory
            self._first = sorted(self._first)[:MAX_FAULTS]

    def refuse(self) -> None:
        """MalformedError where there was any."""
        if not self._number:
            return
        told = [f"line {line}: {sentence}" for line, sentence in sorted(self._first)[:MAX_FAULTS]]
        more = [f"and {self._number - len(told):,} more."] if self._number > len(told) else []
        count = "1 fault" if self._number == 1 else f"{self._number:,} faults"
        raise MalformedError("\n".join([f"{count}; nothing of it is taken.", *told, *more]))


def _reader(text: str, faults: Faults) -> Iterator[Row]:
    """The rows, each with the line at which it begins; what breaks the file off is a fault."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            faults.add(line, f"this is no CSV ({error}); the rest was not read.")
            return
        if cells is None:
            return
        yield line, cells


def _values(
    where: str, column: Column, clock: Clock, texts: Sequence[tuple[int, str]], faults: Faults
) -> list[Value | None]:
    read = clock.reader(column.kind)
    known: dict[str, Value] = {}  # the same text is read once: days and decisions repeat
    values: list[Value | None] = []
    for line, text in texts:
        value: Value | None = None
        try:
            if text:
                value = known[text] if text in known else known.setdefault(text, read(text))
            elif column.filled:
                raise MalformedError("the cell is empty.")
        except MalformedError as error:
            faults.add(line, f"{where}: {error.message}")
        values.append(value)
    return values


def _typed(kind: Kind, values: Sequence[Any]) -> Any:
    if kind in _TIMES:
        micros = np.array([np.iinfo(np.int64).min if value is None else value for value in values], dtype=np.int64)
        return pd.Series(micros.astype("datetime64[us]")).dt.tz_localize("UTC")  # the least int64 is NaT
    if kind == "whole":
        return pd.array(values, dtype="Int64")
    if kind == "rule":
        return pd.array([value or "exact" for value in values], dtype="str")
    return pd.array(values, dtype="str")


def _once(name: str, lines: Sequence[int], values: Sequence[Any], faults: Faults) -> None:
    first: dict[Any, int] = {}
    for line, value in zip(lines, values, strict=True):
        before = first.setdefault(value, line)
        if before != line and not pd.isna(value):
            faults.add(line, f"{name}: {str(value)[:80]!r} stands at line {before} already.")
