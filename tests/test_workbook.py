"""evidence.xlsx: the same bytes everywhere, nothing of a record becomes a formula, and an auditor can test on it."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packets import ROOT, sample

from auditlib.approvals import ATTRIBUTES
from auditlib.export import XLSX_CELL
from auditlib.formats.times import parse_time, to_datetime
from auditlib.packet.workbook import workbook

Tables = dict[str, pa.Table]
SEALED = datetime(2026, 7, 6, 0, 5, tzinfo=UTC)
ENTERED = ["Tester", "Date", "Conclusion", "Workpaper reference"]


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(sample()["data/packet.json"])
    return told


@pytest.fixture(scope="module")
def tables() -> Tables:
    return {
        Path(name).stem: pq.read_table(io.BytesIO(data))
        for name, data in sample().items()
        if name.startswith("data/tables/") and name.endswith(".parquet")
    }


@pytest.fixture(scope="module")
def book(facts: dict[str, Any], tables: Tables) -> Any:
    return opened(workbook(facts, tables, SEALED))


def opened(data: bytes) -> Any:
    return openpyxl.load_workbook(io.BytesIO(data))


def rows(sheet: Any) -> list[dict[str, Any]]:
    """A sheet's rows by heading."""
    head, *rest = sheet.iter_rows(values_only=True)
    return [dict(zip(head, row, strict=True)) for row in rest]


def small(facts: Mapping[str, Any], **columns: Any) -> tuple[dict[str, Any], Tables]:
    """The same facts about a population of these columns, without attributes."""
    table = pa.table(columns)
    return {**facts, "population": {**facts["population"], "kind": "thing"}}, {"things": table}


# --- the same bytes everywhere -----------------------------------------------------------------------------------

MAKE = """
import hashlib, json, os, sys
from pathlib import Path
import pyarrow.parquet as pq
from auditlib.formats.times import parse_time, to_datetime
from auditlib.packet.workbook import workbook
os.umask(int(sys.argv[2], 8))
folder = Path(sys.argv[1])
tables = {path.stem: pq.read_table(path) for path in sorted(folder.glob("*.parquet"), reverse=True)}
facts = json.loads((folder / "packet.json").read_bytes())
print(hashlib.sha256(workbook(facts, tables, to_datetime(parse_time("2026-07-06T00:05:00Z")))).hexdigest())
"""


def test_equal_tables_are_equal_files_on_any_machine(facts: Any, tables: Tables, tmp_path: Path) -> None:
    """Another zone, locale, hash seed, folder, umask, temporary folder, and order of the tables."""
    for name, data in sample().items():
        if name.endswith((".parquet", "packet.json")):
            (tmp_path / Path(name).name).write_bytes(data)
    cwd = tmp_path / "elsewhere"
    cwd.mkdir()
    own = {"TZ": "Asia/Kathmandu", "LC_ALL": "C.utf8", "PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, "-c", MAKE, str(tmp_path), "077"]
    environment = os.environ | own | {"TMPDIR": str(cwd)}
    done = subprocess.run(arguments, cwd=cwd, env=environment, check=True, capture_output=True, timeout=110, text=True)
    assert done.stdout.strip() == sha256(workbook(facts, tables, SEALED)).hexdigest()
    assert list(cwd.iterdir()) == []  # no temporary file stays


def test_nothing_of_the_machine_stands_in_it(facts: dict[str, Any], tables: Tables) -> None:
    """No path, host or clock; the time it was made is the last `sealed_at`, its members are of 1980."""
    with zipfile.ZipFile(io.BytesIO(workbook(facts, tables, SEALED))) as archive:
        for member in archive.infolist():
            assert (member.date_time, member.create_system) == ((1980, 1, 1, 0, 0, 0), 3)
            data = archive.read(member)
            assert not re.findall(rb"/(?:tmp|home|root|usr|work|var)/", data), member.filename
            assert socket.gethostname().encode() not in data or len(socket.gethostname()) < 5
        core = archive.read("docProps/core.xml").decode()
    assert set(re.findall(r"\d{4}-\d\d-\d\dT[\d:]+Z", core)) == {"2026-07-06T00:05:00Z"}


# --- what is said stays text -------------------------------------------------------------------------------------

HOSTILE = [
    *(
        "=cmd|' /C calc'!A0",
        "+1+1",
        "-2+3",
        "@SUM(1)",
        "\t=1+1",
        "\r=1+1",
        "\n=1+1",
        "\uff1d1+1",
        '=HYPERLINK("http://e")',
    ),
    *("http://evil.example", "mailto:x@evil.example", "internal:Cover!A1", "{=1+1}", "1e5", "0012", "TRUE", "#REF!"),
    *("_x0041_", "<b>&amp;", "]]>", "\u202egnp.exe", "x\x00y", "\ufeff", "שלום", "中文", "123456789012", " lead"),
]


def test_no_record_becomes_a_formula_a_link_or_a_number(facts: dict[str, Any]) -> None:
    """Whatever a cell begins with: text, with the CSV's apostrophe where a spreadsheet could run it."""
    told, tables = small(facts, item=HOSTILE, grantee=HOSTILE, verdict=HOSTILE)
    told = {**told, "question": HOSTILE[0], "title": HOSTILE[1], "conclusion": HOSTILE, "limits": HOSTILE}
    data = workbook(told, {**tables, "exceptions": tables["things"], "a_table_of_=1": tables["things"]}, SEALED)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            text = archive.read(name).decode()
            assert not re.search(r"<f[ >]|TargetMode|ddeLink|externalLink", text), name
    for sheet in opened(data):
        for line in sheet.iter_rows():
            for cell in line:
                if cell.value is None or isinstance(cell.value, int) or cell.column_letter == "A":
                    continue
                assert cell.data_type in ("s", "inlineStr"), cell.value
                assert not cell.value.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d")), cell.value
    shown = [row["Grantee"] for row in rows(opened(data)["Population"])]
    for before, after in zip(HOSTILE, shown, strict=True):
        if before.isprintable() and not before.startswith(("=", "+", "-", "@", "\uff1d")):
            assert after.replace("_x005F_", "_") == before  # ECMA-376 22.9.2.19; openpyxl leaves it escaped
    assert "\\u{202e}gnp.exe" in shown and "x\\u{0}y" in shown and "'=cmd|' /C calc'!A0" in shown


def test_account_numbers_survive(facts: dict[str, Any]) -> None:
    """Twelve digits, leading zeros, digits past a double's: text, in cells that stay text when they are edited."""
    ids = ["123456789012", "000456789012", "12345678901234567890"]
    sheet = opened(workbook(*small(facts, item=ids, count=[1, 2**53 + 1, None]), SEALED))["Population"]
    assert [row["Item"] for row in rows(sheet)] == ids
    assert {(cell.data_type, cell.number_format) for (cell,) in sheet["B2:B4"]} <= {("s", "@"), ("inlineStr", "@")}
    assert [row["Count"] for row in rows(sheet)] == [1, "9007199254740993", None]


def test_a_text_too_long_for_a_cell_is_cut_and_that_is_said(facts: dict[str, Any]) -> None:
    """Excel counts UTF-16 units; the note names the file that has the whole text, here and where it just fits."""
    long = ["x" * (XLSX_CELL + 1), "😀" * XLSX_CELL, "y" * XLSX_CELL]
    shown = [row["Item"] for row in rows(opened(workbook(*small(facts, item=long), SEALED))["Population"])]
    for text in shown[:2]:
        assert len(text.encode("utf-16-le")) // 2 <= XLSX_CELL
        assert text.endswith("the whole text stands in tables/things.csv)")
    assert shown[2] == long[2]


# --- what an auditor needs ---------------------------------------------------------------------------------------


def test_the_sheets_are_those_asked_for(book: Any, tables: Tables) -> None:
    """Cover, population, sample, potential exceptions, integrity, testing; then every other table."""
    named = ["Cover", "Population", "Sample", "Potential exceptions", "Integrity", "Testing"]
    others = sorted(set(tables) - {"grants", "exceptions", "sample"})
    assert book.sheetnames == [*named, *(name.replace("_", " ").capitalize() for name in others)]
    assert {"Approvals", "Other uses", "Sources"} <= set(book.sheetnames)
    for sheet in book.worksheets[1:]:
        assert sheet.freeze_panes in ("A2", "C2") and sheet.auto_filter.ref.startswith("A1:"), sheet.title
        assert all(sheet.column_dimensions[cell.column_letter].width >= 5 for cell in sheet[1]), sheet.title
    cover = " ".join(str(cell) for row in book["Cover"].iter_rows(values_only=True) for cell in row if cell)
    for said in (
        "44 grants of admin were recorded",
        "CC6.2, CC6.3",
        "2026-03-01T00:00:00Z (inclusive)",
        "policy, lookback days: 90",
    ):
        assert said in cover


def test_times_stand_as_dates_and_as_exact_text(book: Any, tables: Tables) -> None:
    """A date cut to the millisecond, never rounded into another period; microseconds in the text; UTC in both heads."""
    shown = rows(book["Population"])
    for row, exact in zip(shown, tables["grants"]["occurred_at"].to_pylist(), strict=True):
        assert to_datetime(parse_time(row["Occurred at (UTC, exact text)"])) == exact
        cut = exact.replace(microsecond=exact.microsecond // 1000 * 1000, tzinfo=None)
        assert row["Occurred at (UTC)"] == cut
    assert any("59.999999Z" in row["Occurred at (UTC, exact text)"] for row in shown)
    for sheet in book.worksheets[1:]:
        for cell in sheet[2]:
            if cell.is_date and cell.value is not None:
                assert "UTC" in sheet.cell(1, cell.column).value, (sheet.title, cell.coordinate)


def test_an_item_has_one_number_on_every_sheet(facts: dict[str, Any], tables: Tables, book: Any) -> None:
    """Its place in the population's table, from 1; also in a sample in another order."""
    number = {row["Item"]: row["No."] for row in rows(book["Population"])}
    assert list(number.values()) == list(range(1, 45))
    for name in ("Potential exceptions", "Testing"):
        shown = rows(book[name])
        assert shown and all(row["No."] == number[row["Item"]] for row in shown)
    chosen = tables["grants"].take([30, 2, 17]).select(["item", "occurred_at", "grantee"])
    sampled = opened(workbook(facts, {**tables, "sample": chosen}, SEALED))
    assert [row["No."] for row in rows(sampled["Sample"])] == [31, 3, 18]
    assert [row["No."] for row in rows(sampled["Testing"])] == [31, 3, 18]
    assert [row["No."] for row in rows(sampled["Population"])] == list(range(1, 45))


def test_equal_items_of_two_sources_keep_their_own_numbers(facts: dict[str, Any]) -> None:
    """An event id is unique within its source alone; equal rows keep their order."""
    told, tables = small(facts, item=["a", "a", "b", "b"], source=["x/1", "y/1", "z/1", "z/1"])
    shuffled = tables["things"].take([1, 0, 2, 3])
    book = opened(workbook(told, {**tables, "exceptions": shuffled}, SEALED))
    assert [row["No."] for row in rows(book["Potential exceptions"])] == [2, 1, 3, 4]


def test_the_worksheet_gives_our_results_and_leaves_the_rest_blank(book: Any, tables: Tables) -> None:
    """Each attribute as we found it, a reference to the sealed record, and nothing where the auditor enters."""
    shown = rows(book["Testing"])
    grants = tables["grants"].to_pylist()
    ticks = [f"Tick: {name.replace('_', ' ')}" for name in ATTRIBUTES]
    assert list(shown[0])[-len(ticks) - 4 :] == [*ticks, *ENTERED]
    for row, grant in zip(shown, grants, strict=True):
        assert all(row[name] is None for name in [*ticks, *ENTERED])
        assert [row[f"Our result: {name.replace('_', ' ')}"] for name in ATTRIBUTES] == [grant[n] for n in ATTRIBUTES]
        place = f"seal {grant['sequence']}, row {grant['row']}: {grant['event_id']} of {grant['source']}"
        assert (row["Evidence reference"], row["Our verdict"]) == (place, grant["verdict"])


def test_an_answer_without_attributes_can_be_tested_too(facts: dict[str, Any]) -> None:
    """One tick an item; empty tables, columns without a type, and no place in the trail do no harm."""
    told, tables = small(facts, item=["a"], verdict=["silence"], reason=["no record"], seconds=[float("nan")])
    nothing = pa.table({"key": pa.nulls(0), "until": pa.array([], pa.timestamp("us", "UTC"))})
    book = opened(workbook(told, {**tables, "locks": nothing, "exceptions": nothing}, SEALED))
    (row,) = rows(book["Testing"])
    given = {"No.": 1, "Item": "a", "Seconds": None, "Our verdict": "silence", "What we noted": "no record"}
    assert row == given | {"Evidence reference": None} | dict.fromkeys(["Tick", *ENTERED])
    assert rows(book["Locks"]) == []
    assert "Testing" not in opened(workbook(told, {}, SEALED)).sheetnames  # no population, nothing to test


@pytest.mark.parametrize("most", [10, 22, 44, 45])
def test_a_table_past_the_row_limit_goes_on_on_further_sheets(most: int, facts: Any, tables: Tables) -> None:
    """Every row once, in order; each full sheet says where it goes on, and the cover names them all."""
    book = opened(workbook(facts, tables, SEALED, most_rows=most))
    parts = [name for name in book.sheetnames if re.fullmatch(r"Population( \d+)?", name)]
    assert len(parts) == {10: 6, 22: 3, 44: 2, 45: 1}[most]
    numbers = []
    for name, following in zip(parts, [*parts[1:], None], strict=True):
        assert book[name].max_row <= most
        shown = rows(book[name])
        if following:
            assert f"They go on on {following}." in shown.pop()["No."]
        numbers += [row["No."] for row in shown]
    assert numbers == list(range(1, 45))
    assert set(parts) <= {row[0] for row in book["Cover"].iter_rows(values_only=True)}


def test_any_name_of_a_table_makes_a_sheet_name(facts: dict[str, Any]) -> None:
    """Too long, forbidden signs, alike but for the case, `History`, the names of our own sheets."""
    told, tables = small(facts, item=["a"])
    names = ["x" * 40, "x" * 40 + "y", "a/b[c]:d*e?", "COVER", "cover", "history", "population", "'quoted'", "\u202e"]
    names += ["\U0001f600" * 20, "   ", ""]
    found = opened(workbook(told, tables | dict.fromkeys(names, tables["things"]), SEALED)).sheetnames
    assert len(found) == len({name.lower() for name in found}) == 6 + len(names)
    assert all(0 < len(name) <= 31 and not set(name) & set("[]:*?/\\'") for name in found)
    assert "history" not in {name.lower() for name in found}
    assert not [name for name in found if name.startswith("Sheet")]  # what a sheet without a name is called


def test_a_column_may_have_any_heading(facts: dict[str, Any]) -> None:
    """None at all, blanks, or a long one: what stands below is there."""
    told, tables = small(facts, item=["a"])
    odd = pa.table([["x"], ["y"], ["z"]], names=["", " ", "long " * 30])
    page = opened(workbook(told, tables | {"odd": odd}, SEALED))["Odd"]
    assert [cell.value for cell in page[2]] == ["x", "y", "z"]
