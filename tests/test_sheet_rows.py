"""The rows of a worksheet: spelled as XlsxWriter spells them, cell by cell; a text stays a text."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

import pyarrow as pa
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlib.packet.sheet_rows import HIGHEST, LINE, Cells, cell_text, cells_of, lengths, rows_xml

TEXTS = st.one_of(
    st.none(),
    st.sampled_from(["", " ", " a", "b ", "=1+1", "<b>&", "_x0041_", "\u202e", "a\nb", "@x", "é", "𝄞" * 9, "x" * 40]),
    st.text(max_size=30),
)
NUMBERS = st.one_of(st.none(), st.integers(-(2**62), 2**62), st.integers(-9, 9))
WIDTHS, FIRST = [8, 12, 5], 2


def by_xlsxwriter(columns: list[Cells], widths: list[int]) -> bytes:
    """The same rows, written one cell at a time; what XlsxWriter takes for markup of its own is no part of this."""
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"constant_memory": True, "strings_to_formulas": False}) as book:
        page = book.add_worksheet()
        for line in range(len(columns[0].texts)):
            texts = [column.texts[line].as_py() for column in columns]
            numbers = [bool(column.numbers[line]) for column in columns]
            high = max(
                1 if number or not text else -(-len(text) // width)
                for text, number, width in zip(texts, numbers, widths, strict=True)
            )
            if high > 1:
                page.set_row(line + FIRST - 1, min(high * LINE, HIGHEST))
            for place, (text, number) in enumerate(zip(texts, numbers, strict=True)):
                if number:
                    page.write_number(line + FIRST - 1, place, float(text))
                elif text:
                    page.write_string(line + FIRST - 1, place, text)
    with zipfile.ZipFile(io.BytesIO(buffer.getvalue())) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml")
    found = re.search(b"<sheetData>(.*)</sheetData>", sheet, re.DOTALL)
    return found.group(1) if found else b""


@given(st.lists(st.tuples(TEXTS, NUMBERS, TEXTS), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_rows_are_spelled_as_xlsxwriter_spells_them(rows: list[tuple[Any, ...]]) -> None:
    """Whatever stands in the cells, the XML is the one that XlsxWriter writes cell by cell."""
    first, numbers, last = (list(column) for column in zip(*rows, strict=True))
    columns = [
        *cells_of(pa.array(first, pa.string()), "text", "t.csv"),
        *cells_of(pa.array(numbers, pa.int64()), "number", "t.csv"),
        *cells_of(pa.array(last, pa.string()), "text", "t.csv"),
    ]
    ours = rows_xml(columns, [0, 0, 0], WIDTHS, FIRST).replace(b' s="0"', b"")
    assert ours == by_xlsxwriter(columns, WIDTHS)


def test_a_text_that_looks_like_a_rich_string_stays_a_text() -> None:
    """XlsxWriter would take `<r>...</r>` for markup of its own, and write it into the sheet as it stands."""
    evil = '<r><t>no</t></r></is></c><c r="Z9"><v>1</v></c><c><is><r></r>'
    cells = cells_of(pa.array([evil]), "text", "t.csv")
    told = rows_xml(cells, [0], [200], FIRST)
    assert b"<r>" not in told
    assert told.count(b"<c ") == 1


def test_each_text_is_what_a_cell_can_hold() -> None:
    """Column by column gives the texts that one by one gives; nothing stands where there is no text."""
    texts = ["=1", "+1", "plain", "a\tb", "\uff1d1", "é", "y" * 40_000, "", None]
    cells = cells_of(pa.array(texts), "text", "t.csv")[0]
    expected = [cell_text(text, "t.csv") if text else None for text in texts]
    assert cells.texts.to_pylist() == expected
    assert lengths(cells).tolist() == [len(text or "") for text in expected]
