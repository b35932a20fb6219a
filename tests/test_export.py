"""Files for people and programs: whole or not at all, and never run by whoever opens them."""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference import canonical_record
from simulator import CATALOG, KEY, MemoryVault, record
from simulator import Trail as Simulated

from auditlib import export
from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.columns import SCHEMA
from auditlib.history import read_history
from auditlib.trail import Trail

ALL = ("csv", "jsonl", "parquet", "xlsx")
HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1",
    "=cmd|' /C calc'!A0",
    '"=1',
    "a,b",
    'a"b',
    "a\r\nb",
]
HOSTILE += [
    "http://evil.example",
    "mailto:x@y",
    "internal:Sheet1!A1",
    "file:///etc/passwd",
    "{=1}",
    "123456789012",
    "0012",
]
HOSTILE += [
    "1e5",
    "TRUE",
    "2026-01-01",
    "_x0041_",
    "\x01\x1f\x7f\x85\u2028\ufeff\uffff\U0010ffff",
    " lead",
    "trail ",
    "'x",
]
HOSTILE += ["</t><script>alert(1)</script>", "&amp;", "😀", "e\u0301"]
NAMES = ["sequence", "row", *SCHEMA.names, "recorded_after_seconds"]
SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
RECORDS = [
    record(number, actor_id=text, session=text if number % 2 else None, context={"granted_role": text, "n": number})
    for number, text in enumerate(HOSTILE)
]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    simulated = Simulated(None, MemoryVault(), tmp_path_factory.mktemp("state")).create()
    with simulated.sealer() as sealer:
        for some in (RECORDS[:10], RECORDS[10:]):
            sealer.add(some)
            sealer.flush()
    with Trail(read_history(simulated.vault, [KEY.verifier]), CATALOG) as found:
        yield found


def cells(data: bytes, sheet: int = 1) -> list[list[str | float | None]]:
    """The cells of a worksheet by XML alone: inline strings and numbers, in order of their columns."""
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        root = ElementTree.fromstring(book.read(f"xl/worksheets/sheet{sheet}.xml"))
    rows = []
    for row in root.iter(f"{SHEET}row"):
        found: dict[int, str | float | None] = {}
        for cell in row:
            assert cell.find(f"{SHEET}f") is None, "a formula"
            letters = re.match("[A-Z]+", cell.get("r", ""))
            assert letters is not None and len(letters[0]) == 1
            place = ord(letters[0]) - ord("A")
            if cell.get("t") == "inlineStr":
                text = "".join(part.text or "" for part in cell.iter(f"{SHEET}t"))
                found[place] = re.sub(
                    "_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), text
                )  # ECMA-376 22.9.2.19
            else:
                value = cell.find(f"{SHEET}v")
                assert value is not None and cell.get("t") is None
                found[place] = float(value.text or "")
        rows.append([found.get(place) for place in range(max(found) + 1)])
    return rows


# --- csv ---------------------------------------------------------------------------------------------------------


def test_csv_opens_in_a_spreadsheet_and_runs_nothing(opened, tmp_path):
    """A BOM, CRLF, quoting by RFC 4180, canonical times, nulls empty; formulas get an apostrophe."""
    path = tmp_path / "x.csv"
    assert opened.events().export(path) == len(RECORDS)
    data = path.read_bytes()
    assert data.startswith(b"\xef\xbb\xbfsequence,row,event_id,")
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert list(rows[0]) == NAMES and len(rows) == len(RECORDS)
    for row, (place, sealed) in zip(rows, enumerate(RECORDS), strict=True):
        assert row["actor_id"].removeprefix("'") == sealed.event.actor.id.removeprefix("'")
        assert not row["actor_id"].startswith(tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))
        assert row["occurred_at"] == sealed.event.occurred_at and row["recorded_at"] == sealed.receipt.recorded_at
        assert row["source_seq"] == ("" if sealed.receipt.source_seq is None else str(sealed.receipt.source_seq))
        assert (row["sequence"], row["row"]) == (
            str(place // 10) if place < 10 else "1",
            str(place if place < 10 else place - 10),
        )
        assert row["context"].encode() in canonical_record(sealed)


def test_negative_numbers_are_no_formulas():
    """Only texts are defused: a lag of -3 s stays a number."""
    stream = io.StringIO()
    export.write_csv([pa.RecordBatch.from_pydict({"n": [-3, None], "t": ["-3", None]})], stream)
    assert stream.getvalue() == "n,t\r\n-3,'-3\r\n,\r\n"


def test_the_header_stands_once_whatever_the_batches():
    """An empty batch first, in the middle, or alone."""
    some, none = (pa.RecordBatch.from_pydict({"n": pa.array(values, pa.int64())}) for values in ([1], []))
    for batches, text in (([none, some, none, some], "n\r\n1\r\n1\r\n"), ([none], "n\r\n"), ([none, none], "n\r\n")):
        stream = io.StringIO()
        export.write_csv(batches, stream)
        assert stream.getvalue() == text


# --- jsonl, parquet ----------------------------------------------------------------------------------------------


def test_jsonl_is_the_canonical_records_byte_for_byte(opened, tmp_path):
    """What was hashed, one a line, in order."""
    opened.events().export(tmp_path / "x.jsonl")
    assert (tmp_path / "x.jsonl").read_bytes() == b"".join(canonical_record(sealed) + b"\n" for sealed in RECORDS)


def test_parquet_keeps_types_and_tells_nothing_of_its_maker(opened, tmp_path):
    """Typed columns; no pandas metadata, no path, no host."""
    opened.events().export(tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.equals(opened.events().arrow())
    kinds = {field.name: str(field.type) for field in table.schema}
    assert [kinds[name] for name in ("sequence", "row", "source_seq")] == ["int64"] * 3
    assert kinds["occurred_at"] == kinds["recorded_at"] == "timestamp[us, tz=UTC]"
    assert kinds["event_id"] == kinds["context"] == "string" and kinds["recorded_after_seconds"] == "double"
    data = (tmp_path / "x.parquet").read_bytes()
    assert table.schema.metadata is None
    assert b"pandas" not in data and str(tmp_path).encode() not in data and os.uname().nodename.encode() not in data


# --- xlsx --------------------------------------------------------------------------------------------------------


def test_xlsx_holds_texts_and_numbers_and_nothing_that_acts(opened, tmp_path):
    """No formula, no link, no macro; what looks like a number, a date or a link stays the text it is."""
    opened.events().export(tmp_path / "x.xlsx")
    data = (tmp_path / "x.xlsx").read_bytes()
    rows = cells(data)
    assert rows[0] == NAMES
    assert [row[NAMES.index("actor_id")] for row in rows[1:]] == HOSTILE
    sessions = [text if number % 2 else None for number, text in enumerate(HOSTILE)]
    assert [row[NAMES.index("actor_session")] for row in rows[1:]] == sessions
    assert [row[NAMES.index("occurred_at")] for row in rows[1:]] == [sealed.event.occurred_at for sealed in RECORDS]
    assert [row[0] for row in rows[1:]] == [0.0] * 10 + [1.0] * (len(RECORDS) - 10)
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        assert {entry.date_time for entry in book.infolist()} == {(1980, 1, 31, 0, 0, 0)}
        whole = b"".join(book.read(name) for name in book.namelist())
        assert not [name for name in book.namelist() if re.search(r"vba|external|hyperlink|drawing", name, re.I)]
        assert [name for name in book.namelist() if name.endswith(".rels")] == [
            "_rels/.rels",
            "xl/_rels/workbook.xml.rels",
        ]
    assert b"<f>" not in whole and b"<hyperlink" not in whole and b"1980-01-01T00:00:00Z" in whole


def test_xlsx_keeps_the_largest_source_sequence_number(tmp_path):
    """2^53 - 1 has 16 digits and is exact as a double."""
    export.export([pa.RecordBatch.from_pydict({"n": [2**53 - 1]})], tmp_path / "x.xlsx", None, sheet="s")
    assert b"<v>9007199254740991</v>" in zipfile.ZipFile(tmp_path / "x.xlsx").read("xl/worksheets/sheet1.xml")


def test_xlsx_past_the_row_limit_goes_on_in_further_sheets(opened, tmp_path, monkeypatch):
    """No row is lost; every sheet has the header."""
    monkeypatch.setattr(export, "XLSX_ROWS", 11)  # a header and ten rows
    opened.events().export(tmp_path / "x.xlsx")
    data = (tmp_path / "x.xlsx").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        titles = re.findall(r'<sheet name="([^"]*)"', book.read("xl/workbook.xml").decode())
    pages = -(-len(RECORDS) // 10)
    assert titles == ["events", *(f"events {number}" for number in range(2, pages + 1))]
    sheets = [cells(data, number + 1) for number in range(pages)]
    assert all(rows[0] == NAMES and len(rows) <= 11 for rows in sheets)
    assert [row[NAMES.index("actor_id")] for rows in sheets for row in rows[1:]] == HOSTILE


# --- every format ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ALL)
def test_an_empty_answer_is_a_usable_file(opened, tmp_path, form):
    """The header alone, whether batches were read in vain or none could answer."""
    for number, asked in enumerate(({"action": "no.thing"}, {"actor": "nobody"})):
        path = tmp_path / f"{number}.{form}"
        assert opened.events(**asked).export(path) == 0
        if form == "csv":
            assert path.read_bytes() == b"\xef\xbb\xbf" + ",".join(NAMES).encode() + b"\r\n"
        elif form == "jsonl":
            assert path.read_bytes() == b""
        elif form == "parquet":
            assert pq.read_table(path).schema.equals(opened.events().arrow().schema)
        else:
            assert cells(path.read_bytes()) == [NAMES]


@pytest.mark.parametrize("form", ALL)
def test_equal_answers_are_equal_files(opened, tmp_path, form):
    """No clock, no randomness, no path gets in."""
    (tmp_path / "elsewhere").mkdir()
    first, second = tmp_path / f"a.{form}", tmp_path / "elsewhere" / f"b.{form}"
    opened.events().export(first)
    os.environ["TZ"], before = "Asia/Tokyo", os.environ.get("TZ")
    try:
        opened.events().export(second)
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("form", ALL)
def test_nothing_is_overwritten(opened, tmp_path, form):
    """Neither a file, nor a folder, nor a link that leads nowhere."""
    file, folder, link = (tmp_path / f"{name}.{form}" for name in ("file", "folder", "link"))
    file.write_bytes(b"mine")
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    for path in (file, folder, link):
        with pytest.raises(MalformedError, match="not overwritten"):
            opened.events().export(path)
    assert file.read_bytes() == b"mine" and link.is_symlink() and len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("form", ALL)
@pytest.mark.parametrize("error", [RuntimeError("midway"), OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_stays(opened, tmp_path, monkeypatch, form, error):
    """Neither in the folder nor among the temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()

    def breaking():
        yield from opened.events().batches()
        raise error

    expected = UnavailableError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        export.export(breaking(), tmp_path / f"x.{form}", None, sheet="events")
    assert [path.name for path in tmp_path.rglob("*")] == ["scratch"]


@pytest.mark.parametrize("form", ALL)
def test_a_place_that_cannot_be_written_is_unavailable(opened, tmp_path, form):
    """No folder, a file for a folder, a name too long, a device that takes nothing."""
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "no", tmp_path / "file", Path("/proc/self")):
        with pytest.raises(UnavailableError, match="cannot be written"):
            opened.events().export(place / f"x.{form}")
    with pytest.raises(UnavailableError, match="cannot be written"):
        opened.events().export(tmp_path / f"{'x' * 300}.{form}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_format_is_given_or_the_files_ending(opened, tmp_path):
    """Upper case is an ending too; anything else is named and nothing is written."""
    opened.events().export(tmp_path / "A.CSV")
    opened.events().export(tmp_path / "plain", format="jsonl")
    for name, form in (("x", None), ("x.doc", None), ("x.csv", "CSVX"), ("x.csv.gz", None)):
        with pytest.raises(MalformedError, match=r"is no format; use csv, jsonl, parquet, xlsx"):
            opened.events().export(tmp_path / name, form)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.CSV", "plain"]


def test_times_are_canonical_to_the_microsecond():
    """Whole seconds, or six digits, as everywhere (DESIGN 4.1); nulls are nothing."""
    moments = [
        datetime(2026, 1, 8, 14, 32, 7, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        None,
    ]
    stream = io.StringIO()
    export.write_csv(
        [pa.RecordBatch.from_pydict({"at": pa.array(moments, pa.timestamp("us", "UTC")), "n": [1, 2, 3]})], stream
    )
    assert stream.getvalue().split() == ["at,n", "2026-01-08T14:32:07Z,1", "9999-12-31T23:59:59.999999Z,2", ",3"]
