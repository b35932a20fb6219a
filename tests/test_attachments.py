"""Evidence from outside: every row parses or nothing is taken, and a packet holds what was attached, and no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import simulator
import test_standalone_verifier as standalone
from command_line import command
from packets import ROOT, DictBag, Packet, approval, check, event, fired, read_folder, trail_of, vault_of
from test_report_browser import CHROMIUM, Browser, browser, page_of
from test_report_check import ran

from auditlib import evidence
from auditlib.approvals import Policy, match_approvals
from auditlib.attachments import (
    PLACE,
    UNSEALED,
    Attached,
    Attachment,
    decisions,
    for_matching,
    gather,
    is_unsealed,
    load,
    parse,
    pass_on,
    persons,
)
from auditlib.attachments import declaration as declarations
from auditlib.attachments import files as files_of
from auditlib.attachments import table as tables
from auditlib.attachments.shapes import SHAPES
from auditlib.errors import MalformedError, MismatchError
from auditlib.formats.times import format_time, parse_time, to_datetime
from auditlib.packet.build import build_packet
from auditlib.packet.reproduce import reproduce_packet
from auditlib.population import COLUMNS, draw

__all__ = ["browser"]  # a fixture
KEY = simulator.KEY.verifier
PACKET, FOLDER = "data/packet.json", "data/attachments/"
ROWS = {  # a good row of each known list
    "approvals": {
        **{"request": "REQ-1", "grantee": "u_1", "entitlement": "admin", "decision": "approved", "approver": "u_5"},
        **{"approved_at": "2026-03-09T12:00:00Z", "requester": "u_7", "requested_at": "2026-03-08 12:00"},
        **{"valid_from": "2026-03-01", "valid_until": "2026-12-31", "uses": "2", "authority": "manager"},
    },
    "leavers": {"person_id": "E1", "account": "u_1", "last_day": "2026-03-31", "department": "it", "job": "dev"},
    "roster": {"person_id": "E1", "account": "u_1", "first_day": "2026-03-31", "department": "it", "job": "dev"},
    "identities": {
        **{"person_id": "E1", "account": "bmiller", "source": "okta", "valid_from": "2026-01-01"},
        **{"valid_until": "", "case_rule": "fold"},
    },
    "responses": {
        **{"item": "g-1", "cause": "a mistake", "compensating_evidence": "INC-7", "remediation": "training"},
        **{"owner": "Ada", "date": "2026-06-10"},
    },
    "listing": {"subject": "u_1", "entitlement": "admin", "as_of": "2026-03-31"},
}


def csv_of(*rows: Mapping[str, str]) -> bytes:
    """CSV with a header; the headers are our names."""
    lines = [rows[0].keys(), *(row.values() for row in rows)]
    return "".join(",".join(map(str, line)) + "\r\n" for line in lines).encode()


def declared(name: str, columns: Mapping[str, str] | None = None, rows: int = 1, **more: Any) -> bytes:
    """A declaration; `more` replaces a key, None leaves it out."""
    headers = dict.fromkeys(ROWS.get(name, {})) if columns is None else columns
    stated = {
        "format": "auditlib/attachment/v1",
        "name": name,
        "system": "Jira at acme.example",
        "query": "project = ACCESS",
        "exporter": "Grace Lee",
        "exported_at": "2026-07-01T09:15:00+02:00",
        "time_zone": "Europe/Berlin",
        "rows": rows,
        **more,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in stated.items() if value is not None]
    lines += ["[columns]", *(f"{column} = {json.dumps(header or column)}" for column, header in headers.items())]
    return "\n".join(lines).encode()


def of(name: str, *rows: Mapping[str, str], **more: Any) -> Attachment:
    """An attachment of these rows, each a good one with changes."""
    whole = [ROWS.get(name, {}) | dict(row) for row in rows]
    columns = dict.fromkeys(whole[0])
    return parse(name, csv_of(*whole), declared(name, columns, len(whole), **more))  # type: ignore[arg-type]


def lay(folder: Path, name: str, data: bytes, declaration: bytes | None) -> Path:
    """A list in a folder, with its declaration beside it."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.csv").write_bytes(data)
    if declaration is not None:
        (folder / f"{name}.csv.toml").write_bytes(declaration)
    return folder / f"{name}.csv"


def moment(name: str, column: str, text: str, **more: Any) -> str:
    """The time that a cell is read as."""
    found = of(name, {column: text}, **more).frame[column].astype("int64")[0]
    return format_time(int(found))


# --- what is read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_every_known_list_is_read_with_all_its_columns(name: str) -> None:
    """Columns in the known order, texts as str, times aware to the microsecond; one not in the file is missing."""
    whole, least = of(name, {}), {column for column, shape in SHAPES[name].items() if shape.required}
    row = {column: text for column, text in ROWS[name].items() if column in least}
    short = parse(name, csv_of(row), declared(name, dict.fromkeys(row)))  # type: ignore[arg-type]
    for one in (whole, short):
        assert list(one.frame) == ["line", *SHAPES[name]] and one.frame["line"].tolist() == [2]
        for column, shape in SHAPES[name].items():
            time = shape.kind in ("moment", "begin", "end")
            wanted = "datetime64[us, UTC]" if time else "Int64" if shape.kind == "whole" else "str"
            assert str(one.frame[column].dtype) == wanted
    optional = [column for column in SHAPES[name] if column not in least and column != "case_rule"]
    assert short.frame[optional].isna().all(axis=None)
    assert whole.sha256 == sha256(whole.data).hexdigest()
    assert whole.frame[list(least)].notna().sum(axis=None) >= len(least) - 1


def test_other_names_are_free_tables_of_text() -> None:
    """Only what the declaration names is taken, as text, by our names."""
    columns = {"asset": "Asset Tag", "owner": "Owner"}
    data = "\ufeffOwner,Asset Tag,Price\nAda,00012,3\n,=2+2,4\n".encode()
    frame = parse("assets", data, declared("assets", columns, 2)).frame
    assert frame.to_dict("list") == {"line": [2, 3], "asset": ["00012", "=2+2"], "owner": ["Ada", frame["owner"][1]]}
    assert pd.isna(frame["owner"][1])


@pytest.mark.parametrize(
    ("column", "text", "zone", "cutoff", "expected"),
    [
        ("last_day", "2026-03-31", "Europe/Berlin", "18:00", "2026-03-31T16:00:00Z"),
        ("last_day", "2026-03-31", "Europe/Berlin", None, "2026-03-31T22:00:00Z"),  # the midnight that ends the day
        ("last_day", "2026-03-28", "Europe/Berlin", None, "2026-03-28T23:00:00Z"),
        ("last_day", "2026-03-29", "Europe/Berlin", None, "2026-03-29T22:00:00Z"),  # a day of 23 hours
        ("last_day", "2028-02-29", "UTC", None, "2028-03-01T00:00:00Z"),
        ("last_day", "2026-03-31 16:30", "America/New_York", "18:00", "2026-03-31T20:30:00Z"),
        ("last_day", "2026-03-31T16:30:00.1234567-05:00", "Europe/Berlin", "18:00", "2026-03-31T21:30:00.123456Z"),
        ("last_day", "9999-12-31", "UTC", None, "9999-12-31T23:59:59.999999Z"),
        ("last_day", "9999-12-31", "America/New_York", "18:00", "9999-12-31T23:00:00Z"),
        ("first_day", "2026-03-31", "Europe/Berlin", None, "2026-03-30T22:00:00Z"),
        ("first_day", "2026-03-31", "Europe/Berlin", "06:30", "2026-03-31T04:30:00Z"),
        ("first_day", "1900-01-01", "Asia/Kathmandu", None, "1970-01-01T00:00:00Z"),
    ],
)
def test_a_day_ends_and_begins_at_its_hour_in_its_zone(
    column: str, text: str, zone: str, cutoff: str | None, expected: str
) -> None:
    """The cut-off hour where one is declared, else midnight: the one that ends a last day, that begins a first one."""
    name = "leavers" if column == "last_day" else "roster"
    assert moment(name, column, text, time_zone=zone, cutoff=cutoff) == expected


def test_lines_are_counted_as_an_editor_counts_them() -> None:
    """A cell may hold several lines; the row keeps the line at which it begins."""
    data = b'item,cause,x\r\n"a","one\ntwo\r\nthree",1\r\nb,four,2\r\n'
    frame = parse("notes", data, declared("notes", {"item": "item", "cause": "cause"}, 2)).frame
    assert frame["line"].tolist() == [2, 5] and frame["cause"][0] == "one\ntwo\r\nthree"


# --- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "column", "text", "sentence"),
    [
        ("leavers", "last_day", "31.03.2026", "is no time"),
        ("leavers", "last_day", "2026-02-29", "is no day"),
        ("leavers", "last_day", "2026-03-31T25:00:00Z", "is not a time"),
        ("leavers", "last_day", "2026-03-29 02:30", "did not happen in Europe/Berlin"),
        ("leavers", "last_day", "2026-10-25 02:30", "happened twice in Europe/Berlin"),
        ("leavers", "last_day", "1969-12-31T23:59:59Z", "outside the years"),
        ("leavers", "last_day", "", "the cell is empty"),
        ("leavers", "person_id", "", "the cell is empty"),
        ("approvals", "decision", "Approved", "is none of approved, denied, withdrawn"),
        ("approvals", "decision", "", "the cell is empty"),
        ("approvals", "approver", "", "the cell is empty"),
        ("approvals", "approved_at", "2026-03-09", "is a day; state the time as well"),
        ("approvals", "approved_at", "2026-07-01T07:15:01Z", "lies after exported_at"),
        ("approvals", "uses", "-1", "is no whole number"),
        ("approvals", "uses", "\u0663", "is no whole number"),
        ("identities", "case_rule", "lower", "is none of exact, fold"),
        ("responses", "date", "next week", "is no day"),
    ],
)
def test_a_cell_that_does_not_parse_is_named_by_line_and_column(
    name: str, column: str, text: str, sentence: str
) -> None:
    """The line of the file, our name of the column and the header; nothing is taken."""
    others: list[dict[str, str]] = [{}, {"item": "g-2"} if name == "responses" else {}]
    with pytest.raises(MalformedError) as caught:
        of(name, *others, (others[1] and {"item": "g-3"}) | {column: text})
    message = caught.value.message
    assert message.startswith("1 fault; nothing of it is taken.\nline 4: " + column) and repr(column) in message
    assert sentence in message


def test_all_faults_are_told_up_to_twenty_and_how_many_more() -> None:
    """In the order of the lines, whatever the column."""
    rows = [{"person_id": "" if n % 2 else "E", "last_day": "soon"} for n in range(30)]
    with pytest.raises(MalformedError) as caught:
        of("leavers", *rows)
    first, *told, more = caught.value.message.split("\n")
    assert first == "45 faults; nothing of it is taken." and more == "and 25 more."
    lines = [int(line.split(":")[0].removeprefix("line ")) for line in told]
    assert len(told) == tables.MAX_FAULTS and lines == sorted(lines) and lines[0] == 2


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"a,b\n1\n", "line 2: the row has 1 cells under 2 headers"),
        (b"a,b\n1,2,3\n", "line 2: the row has 3 cells under 2 headers"),
        (b"a,b\n1,2\n\n3,4\n", "line 3: the row is empty"),
        (b'a,b\n1,"2\n', "line 2: this is no CSV"),
        (b'a,b\n1,"2"3\n', "line 2: this is no CSV"),
        (b"a,b\n1,\xff\n", "line 2: this is no UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1: this is no UTF-8"),
        (b"a,b\n1,\0\n", "line 2: U+0000"),
        (b"a,a\n1,2\n", "line 1 is no header"),
        (b"", "line 1 is no header"),
        (b"\n1,2\n", "line 1 is no header"),
        (b"aa,b\n1,2\n", "it has no header 'a', declared for a. Did you mean 'aa'?"),
    ],
)
def test_a_file_that_is_no_table_is_refused(data: bytes, sentence: str) -> None:
    """Rows of another length, quotes left open, other encodings, headers that are none."""
    with pytest.raises(MalformedError) as caught:
        parse("free", data, declared("free", {"a": "a", "b": "b"}))
    assert sentence in caught.value.message


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, rows, columns, cells and lines are bounded, each with a sentence."""
    columns = {"a": "a"}
    for bound, value, data, sentence in (
        ("MAX_CSV_BYTES", 5, b"a\n1\n2\n", "has 6 bytes; at most 5 are read"),
        ("MAX_ROWS", 2, b"a\n1\n2\n3\n", "more than 2 data rows"),
        ("MAX_LINES", 1, b'a\n"\n\n"\n', "more than 1 lines"),
        ("MAX_CELL_CHARS", 3, b"a\n1\n1234\n", "line 3: column 'a': more than 3 characters"),
        ("MAX_COLUMNS", 1, b"a,b\n1,2\n", "1 to 1 names"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(tables, bound, value)
            with pytest.raises(MalformedError, match=sentence):
                parse("free", data, declared("free", columns, 2))
    with pytest.raises(MalformedError, match="at most 65,536 are read"):
        parse("free", b"a\n", declared("free", columns, 0) + b"#" * declarations.MAX_DECLARATION_BYTES)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_an_export_that_was_cut_does_not_pass_for_whole(rows: int) -> None:
    """Another number of rows than the system counted is wrong evidence."""
    with pytest.raises(MismatchError) as caught:
        parse("leavers", csv_of(ROWS["leavers"], ROWS["leavers"]), declared("leavers", rows=rows))
    assert (caught.value.expected, caught.value.found) == (rows, 2)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"format": "auditlib/attachment/v2"}, "format"),
        ({"name": "roster"}, "given as 'leavers'"),
        ({"system": ""}, "system"),
        ({"query": None}, "query"),
        ({"exporter": 7}, "exporter"),
        ({"exported_at": "2026-07-01T09:15:00"}, "exported_at"),
        ({"exported_at": None}, "exported_at"),
        ({"time_zone": "Mars/Olympus"}, "time_zone: 'Mars/Olympus' is no time zone"),
        ({"time_zone": "../../etc/passwd"}, "is no time zone"),
        ({"time_zone": "localtime"}, "machine's own"),
        ({"time_zone": "posixrules"}, "machine's own"),
        ({"system": "a\0b"}, "system"),
        ({"rows": "1"}, "rows"),
        ({"rows": True}, "rows"),
        ({"rows": -1}, "rows"),
        ({"cutoff": "24:00"}, "cutoff"),
        ({"cutof": "18:00"}, "Did you mean cutoff?"),
        ({"columns": {"person_id": "a", "account": "b"}}, "leavers lacks last_day"),
        ({"columns": {"person_id": "a", "account": "b", "last_dey": "c"}}, "Did you mean last_day?"),
        ({"columns": {"person_id": "a", "account": "b", "last_day": ""}}, "last_day"),
        ({"columns": {}}, "1 to 200 columns"),
    ],
)
def test_a_declaration_that_is_none_is_refused(change: dict[str, Any], sentence: str) -> None:
    """Every key is needed, none is guessed, and the nearest right name is told."""
    columns = change.pop("columns", dict.fromkeys(ROWS["leavers"]))
    stated = tomllib.loads(declared("leavers", {}).decode()) | change
    lines = [f"{key} = {json.dumps(value)}" for key, value in stated.items() if value is not None and key != "columns"]
    lines += [
        "[columns]",
        *(f"{key} = {json.dumps(key if value is None else value)}" for key, value in columns.items()),
    ]
    with pytest.raises(MalformedError) as caught:
        parse("leavers", csv_of(ROWS["leavers"]), "\n".join(lines).encode())
    assert sentence in str(caught.value) and ".toml" in caught.value.where


@pytest.mark.parametrize("name", ["../x", "Leavers", "", "a" * 41, "a.b", "a/b", "1a"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    """It becomes the name of a file, in the packet and for the kernel."""
    with pytest.raises(MalformedError, match="no name of an attachment"):
        load(name, tmp_path / "x.csv")
    with pytest.raises(MalformedError, match="no name of an attachment"):
        evidence.attached(name)


def test_without_a_declaration_there_is_one_to_paste(tmp_path: Path) -> None:
    """It has the headers of the file, and reads once it is filled in; until then it is refused."""
    path = lay(tmp_path, "leavers", b'Person ID,"Acc""ount",Last Day\nE1,u_1,2026-03-31\n', None)
    with pytest.raises(MalformedError) as caught:
        load("leavers", path)
    first, template = caught.value.remedy.split("\n", 1)
    assert "leavers.csv.toml" in first
    beside = path.with_name("leavers.csv.toml")
    beside.write_text(template)
    with pytest.raises(MalformedError, match="system"):
        load("leavers", path)
    for key, value in {
        **{"system": "HR", "query": "q", "exporter": "me", "account": 'Acc\\"ount'},
        **{"exported_at": "2026-07-01T09:15:00Z"},
    }.items():
        template = template.replace(f'{key} = ""', f'{key} = "{value}"')
    beside.write_text(template)
    assert load("leavers", path).frame["account"].tolist() == ["u_1"]


def test_the_declaration_to_paste_of_a_free_table_reads_once_it_is_filled_in(tmp_path: Path) -> None:
    """Whatever the headers are: `line` is a name of ours, and is not proposed."""
    path = lay(tmp_path, "tickets", b'Line,"Quote "" and \\","\xf0\x9f\x98\x80",Ticket,ticket\n1,2,3,4,5\n', None)
    with pytest.raises(MalformedError) as caught:
        load("tickets", path)
    template = caught.value.remedy.split("\n", 1)[1].replace('= ""', '= "2026-07-01T09:15:00Z"')
    path.with_name("tickets.csv.toml").write_text(template)
    assert load("tickets", path).frame.to_dict("list") == {"line": [2], "quote_and": ["2"], "ticket": ["4"]}


def test_a_response_stands_once_for_an_item() -> None:
    """Of two responses to one item nobody could say which is meant."""
    with pytest.raises(MalformedError, match="line 3: item: 'g-1' stands at line 2 already"):
        of("responses", {}, {"owner": "Eve"})


# --- files of a folder ---------------------------------------------------------------------------------------


def test_files_are_taken_as_they_are(tmp_path: Path) -> None:
    """By name, in order, byte for byte."""
    for name, data in (("b.pdf", b"%PDF"), ("INC-7_a.png", b"\x89PNG"), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
    assert list(files_of.read_files(tmp_path).items()) == [
        ("INC-7_a.png", b"\x89PNG"),
        ("b.pdf", b"%PDF"),
        ("empty", b""),
    ]


def _link(folder: Path) -> None:
    (folder / "secret").write_text("x")
    (folder / "in").mkdir()
    (folder / "in" / "link.pdf").symlink_to(folder / "secret")


TRAPS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link": (_link, "is a link"),
    "a dangling link": (
        lambda folder: [(folder / "in").mkdir(), (folder / "in" / "x").symlink_to("/nowhere")],
        "is a link",
    ),
    "a folder": (lambda folder: (folder / "in" / "sub").mkdir(parents=True), "is no plain file"),
    "a pipe": (lambda folder: [(folder / "in").mkdir(), os.mkfifo(folder / "in" / "pipe")], "is no plain file"),
    "hidden": (lambda folder: [(folder / "in").mkdir(), (folder / "in" / ".env").touch()], "begin with a dot"),
    "a blank": (lambda folder: [(folder / "in").mkdir(), (folder / "in" / "a b").touch()], "cannot be attached"),
    "a letter": (lambda folder: [(folder / "in").mkdir(), (folder / "in" / "\u00e4").touch()], "cannot be attached"),
    "capitals": (
        lambda folder: [(folder / "in").mkdir(), (folder / "in" / "A").touch(), (folder / "in" / "a").touch()],
        "in capitals alone",
    ),
    "nothing there": (lambda folder: None, "cannot be read"),
    "large": (
        lambda folder: [(folder / "in").mkdir(), (folder / "in" / "x").write_bytes(b"12345")],
        "more than 4 bytes",
    ),
    "large together": (
        lambda folder: [(folder / "in").mkdir(), *((folder / "in" / n).write_bytes(b"123") for n in "abc")],
        "more than 8 bytes",
    ),
    "many": (
        lambda folder: [(folder / "in").mkdir(), *((folder / "in" / f"{n}").touch() for n in range(5))],
        "5 files",
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_what_is_no_plain_file_of_a_flat_folder_is_refused(
    trap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links, folders, pipes, hidden files, odd names, and too much."""
    make, sentence = TRAPS[trap]
    for bound, value in (("MAX_FILE_BYTES", 4), ("MAX_BYTES", 8), ("MAX_FILES", 4)):
        monkeypatch.setattr(files_of, bound, value)
    make(tmp_path)
    with pytest.raises(MalformedError, match=sentence):
        gather({}, tmp_path / "in")


# --- accounts and persons ------------------------------------------------------------------------------------


def at(text: str) -> int:
    return parse_time(text)


def test_an_account_is_a_person_in_its_source_at_a_time() -> None:
    """By source and case rule, from valid_from (inclusive) until valid_until (exclusive)."""
    known = persons(
        of(
            "identities",
            {"account": "BMiller", "valid_until": "2026-03-31T00:00:00Z"},
            {"account": "bmiller", "person_id": "E2", "valid_from": "2026-03-31T00:00:00Z"},
            {"account": "root", "person_id": "E3", "source": "aws", "case_rule": "exact"},
            {"account": "root", "person_id": "E4", "source": "gcp", "case_rule": ""},
            {"account": "ada", "person_id": "E5", "source": "", "case_rule": "", "valid_from": ""},
        ).frame
    )
    day = at("2026-03-30T23:59:59.999999Z")
    assert known.of("bmiller", day, "okta/1") == known.of("BMILLER", day, "okta") == "E1"
    assert known.of("bmiller", day + 1, "okta/1") == "E2" and known.of("bmiller", day) is None
    assert known.of("bmiller", at("2025-12-31T00:00:00Z"), "okta") is None
    assert [known.of("root", day, source) for source in ("aws", "gcp/7", "okta", "")] == ["E3", "E4", None, None]
    assert known.of("Root", day, "aws") is None
    assert known.of("ada", 0, "anything/1") == known.of("ada", 0) == "E5" and known.of("Ada", 0) is None
    frame = pd.DataFrame(
        {"who": ["bMiller", "nobody", None], "when": [to_datetime(day)] * 3, "source": ["okta/2", "okta", "okta"]}
    )
    found = known.named(frame["who"], frame["when"], frame["source"]).tolist()
    assert found[:2] == ["E1", "nobody"] and pd.isna(found[2])


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ({}, {}, True),
        ({"account": "BMiller"}, {"person_id": "E2"}, True),
        ({"case_rule": "exact", "account": "BMiller"}, {"case_rule": "exact", "person_id": "E2"}, False),
        ({"source": "okta"}, {"source": "aws", "person_id": "E2"}, False),
        ({"source": "okta/1"}, {"source": "okta", "person_id": "E2"}, True),
        ({"source": ""}, {"source": "aws", "person_id": "E2"}, True),
        ({"source": "", "case_rule": "exact"}, {"source": "aws", "account": "BMILLER"}, True),
        ({"valid_until": "2026-02-01T00:00:00Z"}, {"valid_from": "2026-02-01T00:00:00Z"}, False),
        ({"valid_until": "2026-02-01T00:00:00Z"}, {"valid_from": "2026-01-31T23:59:59.999999Z"}, True),
        ({"valid_from": ""}, {"valid_until": "2026-02-01"}, True),
        ({"case_rule": "exact"}, {"account": "x"}, True),
        ({"account": "x"}, {"valid_from": "2026-02-01", "valid_until": "2026-01-01"}, True),
    ],
)
def test_two_holders_at_once_are_refused(first: dict[str, str], second: dict[str, str], refused: bool) -> None:
    """Whoever shares an account, or has it under two case rules, cannot be told from the other."""
    frame = of("identities", first, second).frame
    for order in (frame, frame[::-1]):
        if refused:
            with pytest.raises(MalformedError, match=r"line"):
                persons(order)
        else:
            persons(order)


# --- approvals beside those of the trail ---------------------------------------------------------------------


def test_attached_approvals_stand_beside_the_drawn_ones(tmp_path: Path) -> None:
    """They decide verdicts, are told apart by an id that no event can have, and count a repeated row once."""
    grants = [event(f"g-{n}", at=f"2026-03-1{n}T12:00:00Z", target=f"u_{n}") for n in range(4)]
    sealed = approval("a-1", "2026-03-09T12:00:00Z", ["u_0"], ["admin"])
    ticket = {"grantee": "u_1", "uses": "1"}
    tickets = of(
        "approvals", ticket, ticket, {"grantee": "u_2", "approver": "u_2"}, {"grantee": "u_3", "decision": "denied"}
    )
    outside = decisions(tickets)
    assert outside["row"].tolist() == [2, 4, 5] and set(outside["sequence"]) == {UNSEALED}
    with trail_of(tmp_path, [sealed, *grants]) as trail:
        drawn = draw(trail, "approval").items
        assert list(outside) == list(drawn) == COLUMNS
        both = pd.concat([drawn, outside], ignore_index=True)
        kinds = both.dtypes.drop("uses").astype(str)  # a drawn number is a float where some event states none
        assert kinds.to_dict() == drawn.dtypes.drop("uses").astype(str).to_dict()
        given = draw(trail, "grant").items
        found = match_approvals(given, both, policy=Policy(), observed_until=to_datetime(at("2026-06-01T00:00:00Z")))
    items = found.items.set_index("item")
    assert items.loc["g-0", "approval"] == "a-1" and not is_unsealed(items.loc["g-0", "approval"])
    assert items.loc["g-1", "approval"] == "approvals.csv line 2" and is_unsealed(items.loc["g-1", "approval"])
    assert items["approval_exists"].tolist()[:3] == ["pass", "pass", "pass"] and items.loc["g-3", "verdict"] != "pass"
    assert not is_unsealed(None) and not is_unsealed(float("nan"))


def test_self_approval_under_another_spelling_shows_by_person(tmp_path: Path) -> None:
    """Two accounts of one person, one of them written in other capitals, are one approver and grantee."""
    known = of("identities", {"account": "U_1"}, {"account": "u_5"}).frame
    with trail_of(tmp_path, [event("g-1")]) as trail:
        given = draw(trail, "grant").items
    outside = decisions(of("approvals", {}))
    until = to_datetime(at("2026-06-01T00:00:00Z"))
    judged = [
        match_approvals(given, outside, policy=Policy(), observed_until=until, identities=identities).items
        for identities in (None, for_matching(known, [*given["grantee"], *outside["actor_id"]]))
    ]
    assert [items["verdict"][0] == "pass" for items in judged] == [True, False]
    assert judged[1]["verdict"][0] == "independent_approver"


# --- in a notebook and in a packet ---------------------------------------------------------------------------


def test_a_notebook_finds_what_was_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, from the folder that the environment names; None without one, and for a name that is not there."""
    monkeypatch.delenv(PLACE, raising=False)
    assert evidence.attached("leavers") is None
    given = [of("leavers", {}), of("assets", {"tag": "1"})]
    pass_on(given, tmp_path / "handed")
    monkeypatch.setenv(PLACE, str(tmp_path / "handed"))
    for one in given:
        found = evidence.attached(one.name)
        assert found is not None and (found.data, found.declared, found.sha256) == (one.data, one.declared, one.sha256)
        pd.testing.assert_frame_equal(found.frame, one.frame)
    assert evidence.attached("roster") is None


NOTEBOOK = """from auditlib import evidence
trail = evidence.open(at=at)
tickets = evidence.attached("approvals")
print(tickets.declaration.system, len(tickets.frame), evidence.attached("roster"))
evidence.role_grants(trail, since="2026-03-01", until="2026-06-01").submit()"""
RESPONSE = "<script>alert(1)</script> \u202etold to"


class Made:
    """A packet with attachments, and what it was made of."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.vault = folder, vault_of(folder, [event("g-1"), event("g-2", target="u_2")])
        source = folder / "given"
        (folder / "shots").mkdir()
        (folder / "shots" / "g-1.png").write_bytes(b"\x89PNG")
        (folder / "shots" / "rows.parquet").write_bytes(b"no parquet")
        self.given = {
            "approvals": lay(source, "tickets", csv_of(ROWS["approvals"]), declared("approvals")),
            "responses": lay(source, "answers", csv_of(ROWS["responses"] | {"cause": RESPONSE}), declared("responses")),
        }
        cells = [nbformat.v4.new_code_cell('at: "int[1,] or none" = None  # the checkpoint')]
        cells[0].metadata["tags"] = ["parameters"]
        book = nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(NOTEBOOK)])
        self.notebook = folder / "asks.ipynb"
        nbformat.write(book, self.notebook)
        self.packet = folder / "packet"
        build_packet(str(self.notebook), str(self.vault), {}, self.packet, keys=KEY, attached=self.attached())
        self.files = read_folder(self.packet)

    def attached(self) -> Attached:
        return gather(self.given, self.folder / "shots")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("made")
    yield Made(folder)
    shutil.rmtree(folder)


def test_a_packet_holds_what_was_attached_byte_for_byte(made: Made) -> None:
    """The lists under their names, their declarations and the other files; packet.json lists each with its hashes."""
    there = {name.removeprefix(FOLDER): data for name, data in made.files.items() if name.startswith(FOLDER)}
    expected = {"files/g-1.png": b"\x89PNG", "files/rows.parquet": b"no parquet"}
    for name, path in made.given.items():
        expected |= {f"{name}.csv": path.read_bytes(), f"{name}.csv.toml": Path(f"{path}.toml").read_bytes()}
    assert there == expected
    packet = json.loads(made.files[PACKET])
    assert packet["attachments"] == [
        {
            "name": name,
            "system": "Jira at acme.example",
            "query": "project = ACCESS",
            "exporter": "Grace Lee",
            "exported_at": "2026-07-01T07:15:00Z",
            "time_zone": "Europe/Berlin",
            "rows": 1,
            "sha256": sha256(expected[f"{name}.csv"]).hexdigest(),
            "declaration_sha256": sha256(expected[f"{name}.csv.toml"]).hexdigest(),
        }
        for name in ("approvals", "responses")
    ]
    assert packet["attached_files"] == {
        name: sha256(expected[f"files/{name}"]).hexdigest() for name in ("g-1.png", "rows.parquet")
    }
    assert "Jira at acme.example 1 None" in made.files["data/notebook.ipynb"].decode()
    assert str(made.folder).encode() not in b"".join(made.files.values())


def test_every_verifier_says_that_attachments_are_checked_by_hash_only(made: Made) -> None:
    """No fault, and the sentence; no such sentence where nothing was attached is needed by the library's own."""
    report = check(made.files, (KEY,))
    assert report.ok and not report.findings
    assert any(text.startswith("attachments are evidence from outside") for text in report.unchecked)
    alone = standalone.run(made.files, (KEY,))
    assert not alone.faults and any("attachments" in text and "hashes only" in text for text in alone.unchecked())


def test_the_report_shows_it_as_unsealed_and_responses_as_untested(made: Made) -> None:
    """Declarations and responses stand in the page, as text that can be seen; the command to repeat it names them."""
    page = made.files["data/report.html"].decode()
    assert "Evidence from outside the trail (unsealed)" in page and "Management response, untested" in page
    assert page.count("Grace Lee") == 2 and "project = ACCESS" in page and "g-1.png" in page
    assert RESPONSE not in page and "&lt;script&gt;alert(1)&lt;/script&gt; \\u{202e}told to" in page
    assert "--attach approvals=data/attachments/approvals.csv" in page and "--attach-dir" in page


def test_a_packet_is_made_again_with_its_own_attachments(made: Made, tmp_path: Path) -> None:
    """Byte for byte, from the packet alone: what was given once is not asked for."""
    comparison = reproduce_packet(
        made.packet, str(made.vault), keys=KEY, permit=lambda foreign: True, out=tmp_path / "again"
    )
    assert comparison.identical and read_folder(tmp_path / "again") == made.files


def test_an_attachment_that_was_swapped_is_not_run_with(made: Made, tmp_path: Path) -> None:
    """Not even where faults are accepted: the same swapped file would come out the same."""
    for name, data in (("approvals.csv", b"x"), ("approvals.csv.toml", b"x"), ("files/g-1.png", b"x")):
        forged = tmp_path / "forged"
        shutil.copytree(made.packet, forged)
        (forged / FOLDER / name).write_bytes(data)
        for despite in (False, True):
            with pytest.raises(MismatchError, match="nothing was run"):
                reproduce_packet(
                    forged,
                    str(made.vault),
                    keys=KEY,
                    permit=lambda foreign: True,
                    despite_faults=despite,
                    out=tmp_path / "again",
                )
            assert not (tmp_path / "again").exists()
        shutil.rmtree(forged)


def _listed(change: Callable[[dict[str, Any]], object]) -> Callable[[Packet], Packet]:
    """packet.json changed, and every hash put right."""
    return lambda packet: packet.json(PACKET, lambda told: change(told) and None).fix()


def _without(name: str) -> Callable[[Packet], Packet]:
    def forge(packet: Packet) -> Packet:
        del packet.files[name]
        return packet.fix()

    return forge


def _with(name: str, data: bytes) -> Callable[[Packet], Packet]:
    def forge(packet: Packet) -> Packet:
        packet.files[name] = data
        return packet.fix()

    return forge


FORGERIES: dict[str, Callable[[Packet], Packet]] = {
    "a list hidden from packet.json": _listed(lambda told: told["attachments"].pop()),
    "every list hidden": _listed(lambda told: told.pop("attachments")),
    "a list stated twice": _listed(lambda told: told["attachments"].append(told["attachments"][0])),
    "another number of rows": _listed(lambda told: told["attachments"][0].update(rows=2)),
    "rows that are true": _listed(lambda told: told["attachments"][0].update(rows=True)),
    "rows that are text": _listed(lambda told: told["attachments"][0].update(rows="1")),
    "another hash": _listed(lambda told: told["attachments"][0].update(sha256="0" * 64)),
    "another declaration": _listed(lambda told: told["attachments"][1].update(declaration_sha256="0" * 64)),
    "another name": _listed(lambda told: told["attachments"][0].update(name="grants")),
    "a name outside": _listed(lambda told: told["attachments"][0].update(name="../tables/grants")),
    "lists as an object": _listed(lambda told: told.update(attachments={})),
    "lists as nothing": _listed(lambda told: told.update(attachments=None)),
    "lists as text": _listed(lambda told: told.update(attachments="")),
    "lists of texts": _listed(lambda told: told.update(attachments=["approvals"])),
    "a file hidden from packet.json": _listed(lambda told: told["attached_files"].pop("g-1.png")),
    "files as a list": _listed(lambda told: told.update(attached_files=[])),
    "files as nothing": _listed(lambda told: told.update(attached_files=None)),
    "a file stated that is not there": _listed(lambda told: told["attached_files"].update(x="0" * 64)),
    "a file's other hash": _listed(lambda told: told["attached_files"].update({"g-1.png": "0" * 64})),
    "a list taken out": _without(f"{FOLDER}approvals.csv"),
    "a declaration taken out": _without(f"{FOLDER}approvals.csv.toml"),
    "a file taken out": _without(f"{FOLDER}files/g-1.png"),
    "a list put in": _with(f"{FOLDER}leavers.csv", b"a\n1\n"),
    "a file put in": _with(f"{FOLDER}files/x.png", b"x"),
    "a folder put in": _with(f"{FOLDER}x/y.csv", b"x"),
    "a list changed": _with(f"{FOLDER}approvals.csv", csv_of(ROWS["approvals"] | {"decision": "denied"})),
    "a row put in": _with(f"{FOLDER}approvals.csv", csv_of(ROWS["approvals"], ROWS["approvals"])),
    "no CSV any more": _with(f"{FOLDER}approvals.csv", b'a,"b\n'),
    "emptied": _with(f"{FOLDER}approvals.csv", b""),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_both_verifiers_find_it_where_what_was_attached_was_forged(forgery: str, made: Made) -> None:
    """With every hash of files and manifests put right, check 2 still fails, in both and nowhere else."""
    files = FORGERIES[forgery](Packet(made.files)).files
    assert fired(check(files, (KEY,))) == standalone.faulty(files, (KEY,)) == {2}


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian package `chromium`)")
def test_the_page_finds_the_same(made: Made, browser: Browser, tmp_path: Path) -> None:
    """The report's own script: no fault in the packet as it is, check 2 in every forgery."""
    browser.open(page_of(made.files["data/report.html"], tmp_path))
    cases = [made.files, *(forge(Packet(made.files)).files for forge in FORGERIES.values())]
    found = ran(browser, made.files, cases, (KEY,))
    assert dict(zip(["as it is", *FORGERIES], found, strict=True)) == {
        "as it is": [],
        **{name: [2] for name in FORGERIES},
    }


def test_an_attached_table_is_not_held_against_events(made: Made) -> None:
    """A list with a column event_id names events that no record here is, and that is no fault."""
    data = b"event_id,verdict\nnowhere,pass\n"
    columns = {"event_id": "event_id", "verdict": "verdict"}
    one = parse("events", data, declared("events", columns))
    packet = Packet(made.files)
    packet.files |= {f"{FOLDER}{name}": data for name, data in one.files().items()}
    packet.json(PACKET, lambda told: told["attachments"].append(one.stated())).fix()
    assert check(packet.files, (KEY,)).ok and not standalone.faulty(packet.files, (KEY,))


def test_an_older_packet_without_the_keys_still_checks(made: Made) -> None:
    """Packets from before there were attachments state neither key."""

    def older(told: dict[str, Any]) -> None:
        del told["attachments"], told["attached_files"]

    packet = Packet({name: data for name, data in made.files.items() if not name.startswith(FOLDER)})
    packet.json(PACKET, older).fix()
    assert check(packet.files, (KEY,)).ok and not standalone.faulty(packet.files, (KEY,))
    assert DictBag(packet.files).sizes[PACKET]


# --- the command line ----------------------------------------------------------------------------------------


def test_the_command_attaches_the_same(made: Made, tmp_path: Path) -> None:
    """--attach NAME=FILE and --attach-dir DIR give the very packet that Python gives."""
    lists = [part for name, path in made.given.items() for part in ("--attach", f"{name}={path}")]
    out = tmp_path / "packet"
    built = ["build", made.notebook, "--vault", made.vault, "--key", KEY, "-o", out]
    given = [*lists, "--attach-dir", made.folder / "shots", "--json"]
    ran = subprocess.run(  # as a user has it: a process of its own
        [sys.executable, "-m", "auditlib.cli", "packet", *map(str, [*built, *given])],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0 and json.loads(ran.stdout)["ok"] and b"Traceback" not in ran.stderr
    assert read_folder(out) == made.files


def test_the_command_shows_each_fault_on_a_line_and_writes_nothing(made: Made, tmp_path: Path) -> None:
    """A list that does not parse, one without a declaration, one given twice, one whose count is wrong."""
    bad = lay(tmp_path, "bad", csv_of(ROWS["leavers"] | {"last_day": "soon"}), declared("leavers"))
    bare = lay(tmp_path, "bare", csv_of(ROWS["leavers"]), None)
    cut = lay(tmp_path, "cut", csv_of(ROWS["leavers"]), declared("leavers", rows=2))
    asked = ("packet", "build", made.notebook, "--vault", made.vault, "--key", KEY, "-o", tmp_path / "packet")
    for attach, exit_code, line in (
        ([f"leavers={bad}"], 2, "line 2: last_day (column 'last_day'): 'soon' is no time"),
        ([f"leavers={bare}"], 2, 'person_id = "person_id"'),
        ([f"leavers={cut}"], 1, "auditlib: "),
        ([f"leavers={bad}", f"leavers={bare}"], 2, "auditlib: leavers: is given twice"),
        ([f"leavers={tmp_path}"], 2, "auditlib: "),
        (["leavers"], 2, "auditlib: 'leavers' is not NAME=VALUE"),
    ):
        given = [part for one in attach for part in ("--attach", one)]
        ran = command(*asked, *given, COLUMNS="200")
        assert ran.returncode == exit_code
        assert any(said.startswith(line) for said in ran.stderr.splitlines()), ran.stderr
    ran = command(*asked, "--attach", f"leavers={bad}", "--json")
    assert ran.returncode == 2 and "\nline 2: last_day" in json.loads(ran.stdout)["error"]["message"]
    assert not (tmp_path / "packet").exists()
