"""The rows of a worksheet as XML, a column at a time: a population of 70,000 items is 3 million cells.

    <row r="2"><c r="A2" s="6"><v>1</v></c><c r="B2" s="5" t="inlineStr"><is><t>01KSMQAP1KW72C1S30C3</t></is></c></row>

XlsxWriter lays out the book, its styles and its headings (see workbook.py); these rows go below the headings of its
sheets, spelled as XlsxWriter spells them (ECMA-376 18.3.1.73, 18.3.1.4). Whatever a cell says is text, never markup.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isnan
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditlib.export import XLSX_CELL, defuse
from auditlib.formats.columns import time_texts
from auditlib.formats.times import DAY
from auditlib.packet.report import visible

LINE, HIGHEST = 15, 405  # points; Excel shows rows of at most 409
EPOCH = 25_569  # days from Excel's day 0 to 1970-01-01, ECMA-376 18.17.4.1 (1900 date system)
MOST_EXACT = 2**53  # past it a spreadsheet's numbers lose digits

# A text that needs a look: past printable ASCII, or what a spreadsheet would run at its beginning (see `defuse`).
_LOOK = r"[^ -~]|^[=+\-@]"
_MARKED = r"[&<>]|_x|[^ -~]|^ | $"  # a text that XML, or Excel, would not read as it stands
_CODED = re.compile("(_x[0-9a-fA-F]{4}_)")  # Excel reads `_x0041_` as `A`

Kind = Literal["text", "number", "date", "tick", "entry", "day"]


class Cells(NamedTuple):
    """A column's cells: texts as they are shown (null: nothing is written), and which of them are numbers."""

    texts: pa.Array
    numbers: np.ndarray[Any, np.dtype[np.bool_]]


def cells_of(column: pa.Array, kind: Kind, whole: str) -> list[Cells]:
    """What is written of a column: of times both a day number, cut to the millisecond, and the exact text.

    `whole` is the file that holds what a cell has no room for.
    """
    if pa.types.is_timestamp(column.type):
        times = column.cast(pa.timestamp("us", "UTC"))
        micros = times.cast(pa.int64()).to_pylist()
        days = [None if us is None else _spelled(EPOCH + us // 1000 * 1000 / DAY) for us in micros]
        there = times.is_valid()
        exact = time_texts(pc.fill_null(times, pa.scalar(0, pa.int64()).cast(times.type))).cast(pa.string())
        dated = Cells(pa.array(days, pa.string()), np.asarray(there))
        return [dated, Cells(pc.if_else(there, exact, None), np.zeros(len(column), bool))]
    if kind == "number":
        if pa.types.is_int64(column.type) and column.null_count < len(column):
            low, high = (end.as_py() for end in pc.min_max(column).values())
            if low > -MOST_EXACT and high < MOST_EXACT:
                return [Cells(column.cast(pa.string()), np.asarray(column.is_valid()))]  # as _spelled would give them
        return [_numbers(column.to_pylist(), whole)]
    return [Cells(_texts(column, whole), np.zeros(len(column), bool))]


def cell_text(value: Any, whole: str) -> str:
    """What a cell can hold of a value: nothing hidden, nothing that runs, cut where it is too long, and that said."""
    text = value if isinstance(value, str) else str(value)
    text = defuse(text if text.isprintable() else visible(text))
    if len(text) * 2 <= XLSX_CELL or len(text.encode("utf-16-le")) <= 2 * XLSX_CELL:  # Excel counts UTF-16 units
        return text
    note = f" ... (cut: a cell holds {XLSX_CELL:,} characters; the whole text stands in {whole})"
    return text.encode("utf-16-le")[: 2 * (XLSX_CELL - len(note))].decode("utf-16-le", "ignore") + note


def lengths(cells: Cells) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The characters of each text; 0 for a number, and where there is nothing."""
    found = np.asarray(pc.fill_null(pc.utf8_length(cells.texts), 0)).astype(np.int64)
    found[cells.numbers] = 0
    return found


def rows_xml(columns: Sequence[Cells | None], styles: Sequence[int], widths: Sequence[int], first: int) -> bytes:
    """The XML of some rows, of which the first is line `first` of the sheet, counted from 1.

    A column is its cells, or None where every row has a blank, styled cell. `styles` are its cells' numbers in the
    book's styles, `widths` its characters: rows are as high as their longest text needs, which Excel finds out by
    itself and others do not. A row in which nothing stands is left out.
    """
    rows = next(len(cells.texts) for cells in columns if cells is not None)
    numbers = pa.array(np.arange(first, first + rows)).cast(pa.string())
    high = np.ones(rows, np.int64)
    parts = []
    for place, (cells, style, width) in enumerate(zip(columns, styles, widths, strict=True)):
        begin, end = f'<c r="{letters(place)}', f'" s="{style}"'
        if cells is None:
            parts.append(_join(begin, numbers, f"{end}/>"))
            continue
        high = np.maximum(high, -(-lengths(cells) // width))
        told = _join(begin, numbers, f'{end} t="inlineStr"><is>', _told(cells.texts), "</t></is></c>")
        if cells.numbers.any():
            number = _join(begin, numbers, f"{end}><v>", cells.texts, "</v></c>")
            told = pc.if_else(pa.array(cells.numbers), number, told)
        parts.append(pc.fill_null(told, ""))
    tall = [f'" ht="{min(lines * LINE, HIGHEST)}" customHeight="1">' if lines > 1 else '">' for lines in high.tolist()]
    inside = _join(*parts)
    lines = _join('<row r="', numbers, pa.array(tall), inside, "</row>")
    return b"".join(lines.filter(pc.not_equal(inside, "")).cast(pa.binary()).to_pylist())


def _numbers(values: Sequence[Any], whole: str) -> Cells:
    """Numbers as XlsxWriter spells them; one that is too large is a text, and what is none is nothing."""
    texts: list[str | None] = []
    exact = np.zeros(len(values), bool)
    for place, value in enumerate(values):
        if value is None or (isinstance(value, float) and isnan(value)):
            texts.append(None)
        elif abs(value) < MOST_EXACT:
            exact[place] = True
            texts.append(_spelled(value))
        else:
            texts.append(cell_text(value, whole))
    return Cells(pa.array(texts, pa.string()), exact)


def _spelled(value: float) -> str:
    return f"{float(value):.16G}"


def _texts(column: pa.Array, whole: str) -> pa.Array:
    if not pa.types.is_string(column.type):
        column = pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    there = pc.greater(pc.binary_length(column), 0)
    look = pc.or_(pc.match_substring_regex(column, _LOOK), pc.greater(pc.binary_length(column), XLSX_CELL // 2))
    return _replaced(pc.if_else(there, column, None), look, lambda text: cell_text(text, whole))


def _told(texts: pa.Array) -> pa.Array:
    """`<t>` and the text as XML spells it."""
    return _replaced(_join("<t>", texts), pc.match_substring_regex(texts, _MARKED), lambda text: _marked(text[3:]))


def _marked(text: str) -> str:
    text = _CODED.sub(r"_x005F\1", text)
    keep = ' xml:space="preserve"' if text[0].isspace() or text[-1].isspace() else ""
    return f"<t{keep}>" + text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _replaced(texts: pa.Array, where: pa.Array, change: Any) -> pa.Array:
    """The texts, those that are marked changed one by one."""
    places = np.flatnonzero(np.asarray(pc.fill_null(where, False)))
    if not len(places):
        return texts
    mask = np.zeros(len(texts), bool)
    mask[places] = True
    changed = [None if text is None else change(text) for text in texts.take(pa.array(places)).to_pylist()]
    return pc.replace_with_mask(texts, pa.array(mask), pa.array(changed, pa.string()))


def _join(*parts: Any) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def letters(place: int) -> str:
    """A column's name: A, B, ..., Z, AA."""
    name = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        name = chr(ord("A") + rest) + name
    return name
