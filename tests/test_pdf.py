"""report.pdf: the same bytes everywhere, its digest on every page, and nothing of a record is read as markup."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import socket
import subprocess
import sys
import zlib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
from packets import ROOT, sample

from auditlib.approvals import ATTRIBUTES
from auditlib.errors import MalformedError
from auditlib.evidence.role_grants import LISTING
from auditlib.packet import pdf as pdfs
from auditlib.packet.pdf import drawable, render_pdf
from auditlib.packet.workbook import flat

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="20">'
    '<text x="5" y="15" style="font: 9px \'DejaVu Sans\'">a figure {}</text></svg>'
)
PAGE = {
    "tiles": [{"number": 27, "words": "seals in the chain", "flag": False}],
    "sections": [
        {
            "title": "The chain",
            "sentences": ["It has 27 seals."],
            "figure": "chain",
            "table": "sources",
            "columns": [{"name": "source", "heading": "Source", "kind": "text"}],
            "empty": "",
        },
        {"title": "Locks", "sentences": [], "figure": "none", "table": "locks", "columns": [], "empty": "No locks."},
    ],
}


SHAPE = msgspec.to_builtins(LISTING)


@pytest.fixture(scope="module")
def packet() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(sample()["data/packet.json"])
    return told


@pytest.fixture(scope="module")
def digest() -> str:
    return sha256(sample()["data/packet.json"]).hexdigest()


@pytest.fixture(scope="module")
def payload() -> dict[str, bytes]:
    return {name.removeprefix("data/"): data for name, data in sample().items() if name.startswith("data/tables/")}


@pytest.fixture(scope="module")
def report(packet: dict[str, Any], digest: str, payload: dict[str, bytes]) -> bytes:
    return render_pdf(packet, digest, payload, {"timeline": SVG.format("of time")}, SHAPE)


# --- reading a PDF: what a person would see, page by page (ISO 32000-1, 7.3 and 9.10) ----------------------------


_PLAIN = rb"\\.|[^\\()]"
_NESTED = (
    rb"(?:" + _PLAIN + rb"|\((?:" + _PLAIN + rb"|\((?:" + _PLAIN + rb")*\))*\))*"
)  # balanced brackets stand as they are
_SHOWN = re.compile(rb"/(f\d+) [\d.]+ Tf|(\(" + _NESTED + rb"\)|<[0-9A-Fa-f]+>)", re.S)


def pages(pdf: bytes) -> list[str]:
    """The text of each page without its spaces: setting a line breaks where it likes."""
    objects = {int(n): body for n, body in re.findall(rb"\n(\d+) 0 obj\n(.*?)\nendobj", pdf, re.S)}
    texts = []
    for resources, contents in re.findall(rb"/Type/Page/Resources (\d+) 0 R[^\n]*?/Contents (\d+) 0 R", pdf):
        listed = re.search(rb"/Font<<(.*?)>>", objects[int(resources)])
        assert listed is not None
        fonts = {name: _glyphs(objects, int(n)) for name, n in re.findall(rb"/(f\d+) (\d+) 0 R", listed[1])}
        glyphs, text = {}, ""
        for font, shown in _SHOWN.findall(_stream(objects, int(contents))):
            if font:
                glyphs = fonts[font]
            elif glyphs:
                codes = _string(shown)
                text += "".join(glyphs.get(codes[i : i + 2].hex().upper(), "") for i in range(0, len(codes), 2))
        texts.append(text.replace(" ", ""))
    return texts


def _stream(objects: Mapping[int, bytes], number: int) -> bytes:
    return zlib.decompress(objects[number].split(b"stream\n", 1)[1])


def _glyphs(objects: Mapping[int, bytes], font: int) -> dict[str, str]:
    found = re.search(rb"/ToUnicode (\d+) 0 R", objects[font])
    assert found is not None
    listed = re.findall(r"<([0-9A-F]{4})> <([0-9A-F]+)>\n", _stream(objects, int(found[1])).decode())
    return {glyph: bytes.fromhex(text).decode("utf-16-be") for glyph, text in listed}


def _string(token: bytes) -> bytes:
    if token.startswith(b"<"):
        return bytes.fromhex(token[1:-1].decode())
    named = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}
    escape = re.compile(rb"\\([0-7]{1,3}|.)", re.S)
    return escape.sub(lambda m: bytes([int(m[1], 8)]) if m[1].isdigit() else named.get(m[1], m[1]), token[1:-1])


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


def with_rows(payload: Mapping[str, bytes], name: str, rows: list[dict[str, str]]) -> dict[str, bytes]:
    """The payload with other rows in a table."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0].keys(), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return {**payload, f"tables/{name}.csv": stream.getvalue().encode("utf-8-sig")}


def grants(payload: Mapping[str, bytes]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(payload["tables/grants.csv"].decode("utf-8-sig"), newline="")))


# --- the same bytes everywhere -----------------------------------------------------------------------------------

MAKE = """
import hashlib, json, sys
from pathlib import Path
import msgspec
from auditlib.evidence.role_grants import LISTING
from auditlib.packet.pdf import render_pdf
folder = Path(sys.argv[1])
payload = {f"tables/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.csv"), reverse=True)}
packet = json.loads((folder / "packet.json").read_bytes())
shape = msgspec.to_builtins(LISTING)
print(hashlib.sha256(render_pdf(packet, sys.argv[2], payload, {"timeline": sys.argv[3]}, shape)).hexdigest())
"""


def test_equal_answers_are_equal_files_on_any_machine(
    report: bytes, digest: str, payload: Mapping[str, bytes], tmp_path: Path
) -> None:
    """Another home, zone, locale, hash seed, folder, and order of the tables; no fonts but those of the libraries."""
    for name, data in {**payload, "packet.json": sample()["data/packet.json"]}.items():
        (tmp_path / Path(name).name).write_bytes(data)
    cwd = tmp_path / "elsewhere"
    cwd.mkdir()
    own = {"TZ": "Asia/Kathmandu", "LC_ALL": "C.utf8", "PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)}
    own |= {
        "HOME": str(cwd),
        "SOURCE_DATE_EPOCH": "7",
        "FONTCONFIG_FILE": "/nowhere",
        "TYPST_FONT_PATHS": str(tmp_path),
    }
    arguments = [sys.executable, "-c", MAKE, str(tmp_path), digest, SVG.format("of time")]
    environment = os.environ | own
    done = subprocess.run(arguments, cwd=cwd, env=environment, check=True, capture_output=True, timeout=110, text=True)
    assert done.stdout.strip() == sha256(report).hexdigest()


def test_nothing_of_the_machine_stands_in_it(report: bytes) -> None:
    """No path, host or clock, in the file or in any of its streams; its dates are the last `sealed_at`."""
    streams = [report]
    for found in re.finditer(rb"stream\n(.*?)\nendstream", report, re.S):
        try:
            streams.append(zlib.decompress(found[1]))
        except zlib.error:
            streams.append(found[1])
    for data in streams:
        assert not re.findall(rb"/(?:tmp|home|root|usr|work|var)/|site-packages", data)
        assert socket.gethostname().encode() not in data or len(socket.gethostname()) < 5
    assert set(re.findall(rb"\(D:(\d{14})", report)) == {b"20260706000500"}
    assert set(re.findall(rb"<xmp:(?:Create|Modify)Date>([^<]*)", report)) <= {b"2026-07-06T00:05:00Z"}


# --- what it says ------------------------------------------------------------------------------------------------


def test_the_evidence_digest_stands_on_every_page(report: bytes, digest: str) -> None:
    """With the request and the page of how many, so that a loose sheet can be told."""
    found = pages(report)
    assert len(found) > 3
    for number, text in enumerate(found, 1):
        assert f"Evidencedigest{digest}" in text
        assert f"role-grants,page{number}of{len(found)}" in text


def test_it_says_what_the_page_says(report: bytes, packet: dict[str, Any], payload: Mapping[str, bytes]) -> None:
    """The answer on the first page, then exceptions, population, period, integrity, checking, limits, every item."""
    first, *rest = pages(report)
    text = first + "".join(rest)
    for sentence in (packet["title"], packet["question"], packet["headline"], *packet["criteria"]):
        assert without_spaces(sentence) in first
    for sentence in (*packet["conclusion"], *packet["procedure"], *packet["limits"], "a figure of time"):
        assert without_spaces(sentence) in text
    order = ["Potentialexceptions", "Thepopulationandhow", "Theperiodandits", "Integrityofthetrail", "Checkityourself"]
    order += ["Whatthispacketdoes", "Madewith", "Everyitem,attributebyattribute"]
    assert [text.index(title) for title in order] == sorted(text.index(title) for title in order)
    assert all(without_spaces(part) in text for pair in flat(packet["parameters"]) for part in pair)
    checkpoint = packet["checkpoints"][0]
    assert checkpoint["root"] in text and checkpoint["keys"][0] in text
    assert all(row["item"] in text for row in grants(payload))
    assert all(without_spaces(meaning) in text for meaning in ATTRIBUTES.values())


def test_an_answer_with_a_page_of_its_own_is_set_by_it(packet: Any, digest: str, payload: Any) -> None:
    """Its tiles, sections, tables and figures; a figure or a table that is not there does no harm."""
    text = "".join(pages(render_pdf(packet, digest, payload, {"chain": SVG.format("of seals")}, PAGE)))
    for said in (
        "sealsinthechain",
        "Ithas27seals.",
        "afigureofseals",
        "admin-console",
        "Nolocks.",
        without_spaces(packet["procedure"][-1]),
    ):
        assert said in text
    assert "Everyitem,attributebyattribute" not in text


def test_it_is_a4_and_keeps_within_letter(report: bytes) -> None:
    """Nothing is set in the strip that US Letter, 279.4 mm high, does not have of A4's 297 mm."""
    boxes = {tuple(round(float(n)) for n in box.split()) for box in re.findall(rb"/MediaBox\[([^\]]*)\]", report)}
    assert boxes == {(0, 0, 595, 842), (0, 0, 842, 595)}
    assert b"pdfaid:part" in report  # PDF/A, as it says of itself


# --- what is said stays text -------------------------------------------------------------------------------------

HOSTILE = [
    *(
        '#eval("40002+30003")',
        '#image("/etc/passwd")',
        "#panic()",
        "]) #panic() [",
        "$x^2$ *b* _i_ `c` <lab> @ref",
        "\\",
    ),
    *(
        "= A heading",
        "- a list",
        "// not a comment",
        "/* nor this */",
        "'=cmd|' /C calc'!A0",
        "<svg onload=1>",
        "~--'\"",
    ),
    *("https://evil.example/#top", "#" * 30, "<a href='x'>", "{{7*7}}", '", "panic": "', "\\u{202e}"),
]


def test_no_record_is_read_as_markup(packet: Any, digest: str, payload: Any) -> None:
    """Code, headings, links, quotes: in every place a record can reach, set letter by letter as it was recorded."""
    rows = [dict(grants(payload)[0]) for _ in HOSTILE]
    for number, row in enumerate(rows):
        row["item"], row["grantee"], row["request"], row["approver"], row["entitlement"] = (
            HOSTILE[(number + shift) % len(HOSTILE)] for shift in range(5)
        )
    told = {**packet, "title": HOSTILE[0], "question": HOSTILE[1], "headline": HOSTILE[2], "request": HOSTILE[3]}
    told |= {"conclusion": HOSTILE, "limits": HOSTILE, "parameters": {"entitlement": HOSTILE[3]}}
    pdf = render_pdf(told, digest, with_rows(payload, "grants", rows), {"#panic()": SVG.format("#panic()")}, SHAPE)
    text = "".join(pages(pdf))
    for hostile in HOSTILE:
        assert text.count(without_spaces(hostile)) >= 5 + 2, hostile
    assert "70005" not in text
    assert b"/URI" not in pdf and b"/JavaScript" not in pdf and b"/Launch" not in pdf


def test_what_the_fonts_lack_is_shown_escaped(packet: Any, digest: str, payload: Any) -> None:
    """Chinese, emoji and what is not seen never vanish; Cyrillic, Greek, Hebrew and Arabic are drawn."""
    assert drawable("é Ж Ω ✓ – …") == "é Ж Ω ✓ – …"
    assert drawable("中\u202e\x00👩") == "\\u{4e2d}\\u{202e}\\u{0}\\u{1f469}"
    told = {**packet, "conclusion": ["中文 Ж", "שלום", "سلام", "a\u202eb\x1b[31m", "👩\u200d👧", "e\u0301"]}
    pdf = render_pdf(told, digest, payload, {"t": SVG.format("中文")}, SHAPE)
    text = "".join(pages(pdf))
    for shown in ("\\u{4e2d}\\u{6587}Ж", "a\\u{202e}b\\u{1b}[31m", "\\u{1f469}\\u{200d}\\u{1f467}"):
        assert shown in text
    assert "afigure\\u{4e2d}\\u{6587}" in text
    assert not any(character in text for character in "中文\u202e\x1b")


def test_fields_left_out_are_told(packet: Any, digest: str, payload: Any) -> None:
    """A redacted packet says on paper which fields it lacks, and of how many records."""
    told = {**packet, "redacted": {"fields": ["context.ip", "actor.session"], "lines": [0, 3]}}
    text = "".join(pages(render_pdf(told, digest, payload, {}, SHAPE)))
    assert "2recordsherelackfieldsthatwereleftout(context.ip,actor.session)" in text


def test_a_long_table_is_cut_and_that_is_said(packet: Any, digest: str, payload: Any, monkeypatch: Any) -> None:
    """The first rows, how many there are, and where all of them stand; a giant cell fills no page."""
    monkeypatch.setattr(pdfs, "MAX_ROWS", 3)
    rows = [row | {"grantee": "g" * 100_000} for row in grants(payload)]
    text = "".join(pages(render_pdf(packet, digest, with_rows(payload, "grants", rows), {}, SHAPE)))
    assert "Thefirst3of44areshown;allstandintables/grants.csv." in text
    assert "Thefirst3of19areshown;allstandintables/exceptions.csv." in text
    assert rows[2]["item"] in text and rows[3]["item"] not in text.split("Everyitem")[1]
    assert "g" * 299 + "…" in text and "g" * 300 not in text


def test_a_figure_that_is_none_is_named(packet: Any, digest: str, payload: Any) -> None:
    """A notebook's own figure may be anything; it is refused with a sentence."""
    for figure in ("", "<svg", "not a picture", '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg>&e;</svg>'):
        with pytest.raises(MalformedError, match="cannot be set"):
            render_pdf(packet, digest, payload, {"timeline": figure}, SHAPE)
