"""report.pdf: what report.html says, on paper. Set by Typst from templates/report.typ; nothing is downloaded.

Everything a record says goes to Typst as JSON and is set as text, never read as markup. The fonts are Typst's own and
matplotlib's, whatever the machine has; what none of them can draw is written as \\u{...}. Equal input is equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any, cast

from auditlib.errors import MalformedError
from auditlib.evidence.answer import many
from auditlib.findings import duration
from auditlib.formats.times import SECOND, parse_time, to_datetime
from auditlib.packet.report import visible
from auditlib.packet.tables import Head, population_table, read_heads
from auditlib.packet.workbook import flat, statements

MAX_ROWS = 200  # rows of a table on paper, some 6 pages; the rest stands in the CSV, and the report says so
MAX_CELL = 300  # characters of a cell on paper; one record must not fill a page
_TEMPLATE = Path(__file__).parent / "templates" / "report.typ"
_SIGNS = {"pass": "✓", "fail": "✗", "n/a": "–", "not-testable": "?"}
_PLAIN = ("pass", "not-testable", "info", "noted", "held", "")  # verdicts nobody need look at
_WIDEST = {"time": 20, "number": 9, "code": 31, "verdict": 16, "wide": 38, "text": 18, "sign": 4}  # letters

Column = tuple[str, str, str]  # name in the table, heading, kind
_NO_ROWS = Head([], 0)

_SOURCES: tuple[Column, ...] = (
    ("trail", "Trail", "text"),  # where there are several
    ("source", "Source", "text"),
    ("events", "Records", "number"),
    ("first", "First (UTC)", "time"),
    ("last", "Last (UTC)", "time"),
    ("longest_silence", "Longest silence", "text"),
    ("silent_from", "From (UTC)", "time"),
    ("silent_until", "Until (UTC)", "time"),
)


def render_pdf(
    packet: Mapping[str, Any],
    evidence_digest: str,
    payload: Mapping[str, bytes],
    figures: Mapping[str, str],
    shape: Mapping[str, Any],
) -> bytes:
    """packet.json's content, its digest, the payload files, the figures (SVG) -> a PDF/A-2a; as `render_report`.

    Raises MalformedError where a figure is no SVG.
    """
    import typst

    told = report_content(packet, evidence_digest, payload, list(figures), shape)
    told["figures"] = {_drawn(name): _svg(svg) for name, svg in figures.items()}
    moment = to_datetime(_last_sealed(packet)).replace(microsecond=0)
    compiler = typst.Compiler(
        _TEMPLATE.read_bytes(),
        root=_TEMPLATE.parent,
        font_paths=typst.Fonts(include_system_fonts=False, font_paths=[_fonts()]),
        ignore_system_fonts=True,
        sys_inputs={"told": json.dumps(told)},
    )
    try:
        # ISO 19005-2, PDF/A-2a: fonts inside, text that can be read out, for the years it is kept
        pdf = compiler.compile(format="pdf", pdf_standards=["a-2a"], timestamp=moment)
    except typst.TypstError as error:
        raise MalformedError(
            f"the report cannot be set ({error.message[:200]}).", where="report.pdf", remedy="Look at its figures."
        ) from None
    return cast(bytes, pdf)  # one document, and no file to write it to


def report_content(
    packet: Mapping[str, Any],
    evidence_digest: str,
    payload: Mapping[str, bytes],
    figures: Sequence[str],
    shape: Mapping[str, Any],
) -> dict[str, Any]:
    """What the template sets, in texts that can be drawn: sections one after the other, `wide` ones on broad pages."""
    tables = read_heads(payload, MAX_ROWS)
    page = shape if "tiles" in shape else None
    sections_of = _page_sections if page else _item_sections
    middle, wide = sections_of(packet, shape, tables, figures)
    found = _section(bullets=packet["conclusion"])
    sections = [found, *middle, *_last_sections(packet, checks=not page)]
    moment = to_datetime(_last_sealed(packet)).replace(microsecond=0)
    names = ("year", "month", "day", "hour", "minute", "second")
    told = {
        "date": {name: getattr(moment, name) for name in names},
        "digest": evidence_digest,
        "facts": _facts(packet, evidence_digest),
        "failed": _SIGNS["fail"],
        "headline": packet["headline"],
        "origin": ", ".join(one["origin"] for one in packet["checkpoints"]),
        "question": packet["question"],
        "request": _short(packet["request"], 40),
        "sections": sections,
        "short": _short(packet["title"], 90),
        "tiles": _tiles(packet, page),
        "title": packet["title"],
        "wide": wide,
    }
    drawn: dict[str, Any] = _drawn(told)
    return drawn


# --- sections ----------------------------------------------------------------------------------------------------


def _section(title: str = "", **more: Any) -> dict[str, Any]:
    blank: dict[str, Any] = {
        "sentences": [],
        "pairs": [],
        "bullets": [],
        "commands": [],
        "figure": None,
        "note": "",
        "table": None,
    }
    return blank | {"title": title} | more


def _item_sections(
    packet: Mapping[str, Any], listing: Mapping[str, Any], tables: Mapping[str, Head], figures: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The sections of an answer that is a list of items with attributes (`evidence.answer.Listing`)."""
    name = population_table(packet)
    items = tables.get(name, _NO_ROWS)
    numbered = [{"No.": f"{number}", **row} for number, row in enumerate(items.rows, 1)]
    heard = tables.get("sources", _NO_ROWS)
    sources = [
        row | {"longest_silence": duration(round(float(row.get("longest_silence_seconds") or 0) * SECOND))}
        for row in heard.rows
    ]
    signs = "✓ met   ✗ not met   – not applicable   ? not testable. The verdict is the first attribute not met. "
    legend = " ".join(
        f"{attribute['name'].replace('_', ' ')}: {attribute['meaning']}." for attribute in listing["attributes"]
    )
    shown = [("No.", "No.", "number"), *_columns(listing["items"])]
    tested = [attribute["name"] for attribute in listing["attributes"]]
    shown += [(attribute, attribute.replace("_", " "), "sign") for attribute in tested]
    noted = _columns(listing["exceptions"])
    return [
        *(_section(name if len(packet["checkpoints"]) > 1 else "", figure=name) for name in figures),
        _tabled("Potential exceptions", "exceptions", tables.get("exceptions", _NO_ROWS), noted, "None was noted."),
        *_parts(listing["sections"], tables, ()),
        _section("The population and how it was drawn", bullets=packet["procedure"]),
        *_statement(packet, tables),
        _tabled(
            "The period and its known gaps",
            "sources",
            heard._replace(rows=sources),
            _SOURCES,
            "No source recorded anything in the period.",
        )
        | {"sentences": [_period_sentence(packet)]},
    ], [
        _tabled(
            "Every item, attribute by attribute",
            name,
            items._replace(rows=numbered),
            shown,
            "The population is empty.",
            signs + legend,
        ),
    ]


def _statement(packet: Mapping[str, Any], tables: Mapping[str, Head]) -> list[dict[str, Any]]:
    """How the list was drawn, in figures; what was refused and could have been in it; the parameters as given."""
    stated = statements(packet)
    refused = tables.get("refused", _NO_ROWS)
    columns = [(name, name.replace("_", " "), "wide") for name in (refused.rows[0] if refused.rows else {})]
    sections = [
        *(_section(title, pairs=[(name, text, False) for name, text in pairs]) for title, pairs in stated),
        _tabled("Refused, and could have belonged to the population", "refused", refused, columns, ""),
        _section(
            "Parameters as they were given", pairs=[(name, text, False) for name, text in flat(packet["parameters"])]
        ),
    ]
    return [section for section in sections if section["pairs"] or section["table"]]


def _page_sections(
    packet: Mapping[str, Any], page: Mapping[str, Any], tables: Mapping[str, Head], figures: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The sections that an answer asks for by itself (`evidence.answer.Page`)."""
    sections = _parts(page["sections"], tables, figures)
    worked_out = _section("How this was worked out", bullets=packet["procedure"])
    return [*sections, worked_out, *_statement(packet, tables)], []


def _parts(
    parts: Sequence[Mapping[str, Any]], tables: Mapping[str, Head], figures: Sequence[str]
) -> list[dict[str, Any]]:
    sections = []
    for one in parts:
        section = _section(one["title"])
        if one["table"]:
            section = _tabled(
                one["title"], one["table"], tables.get(one["table"], _NO_ROWS), _columns(one["columns"]), one["empty"]
            )
        section["sentences"] = [*one["sentences"], *section["sentences"]]
        section["figure"] = one["figure"] if one["figure"] in figures else None
        sections.append(section)
    return sections


def _columns(columns: Iterable[Mapping[str, Any]]) -> list[Column]:
    return [(column["name"], column["heading"], column["kind"]) for column in columns]


def _last_sections(packet: Mapping[str, Any], *, checks: bool) -> list[dict[str, Any]]:
    pairs = []
    for one in packet["checkpoints"]:
        pairs += [
            ("Trail", one["origin"], False),
            ("Checkpoint", f"{many(one['size'], 'seal')}, last sealed at {one['last_sealed_at']}", False),
            ("Root", one["root"], True),
            *(("Signed by", key, True) for key in one["keys"]),
        ]
    pairs.append(("Records here", f"{packet['records']:,}, each with its proof of inclusion", False))
    made = packet["population"].get("integrity", {}).get("checks", {}) if checks else {}
    rows = [
        {"number": number, "check": check["check"], "done": check["done"]}
        for number, check in sorted(made.items(), key=lambda pair: int(pair[0]))
    ]
    shown = (("number", "Check", "number"), ("check", "What it says", "wide"), ("done", "When this was built", "wide"))
    limits = list(packet["limits"])
    if not packet["scope"]["every_seal_of_period"]:
        limits.append(
            "Not every seal of the period is in this packet; whether nothing was left out of the population needs the "
            "vault."
        )
    if packet.get("redacted"):
        lacking, fields = len(packet["redacted"]["lines"]), ", ".join(packet["redacted"]["fields"])
        limits.append(
            f"{many(lacking, 'record')} here lack fields that were left out ({fields}): that they were sealed is "
            "proven, what they say is not."
        )
    commands = [
        "auditlib packet verify PACKET --key KEY",
        "# inside the packet's folder: every file is as listed, and the evidence digest is that of this page",
        "sha256sum -c manifest-sha256.txt && sha256sum data/packet.json",
        "# with read access to the vault, and the software named below: the same bytes again",
        _command(packet),
    ]
    software = ", ".join(f"{name} {version}" for name, version in sorted(packet["software"].items()))
    return [
        *_outside(packet),
        *([_section("Systems in scope", bullets=packet["systems"])] if packet.get("systems") else []),
        _tabled("Integrity of the trail", "", Head(rows, len(rows)), shown, "") | {"pairs": pairs},
        _section(
            "Check it yourself",
            sentences=["Compare the key above with the one the company gave you by another way. Then, offline:"],
            commands=commands,
        ),
        _section("What this packet does not prove", bullets=limits),
        _section(
            "Made with",
            note=f"{software}. Notebook {packet['notebook']['name']}, SHA-256 {packet['notebook']['sha256']}. "
            "A character that the fonts of this document do not have is written as \\u{...}, and a cell past "
            f"{MAX_CELL} characters ends with …; the tables of the packet hold both. "
            "This document states facts and potential exceptions; it gives no opinion.",
        ),
    ]


def _outside(packet: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was attached, as it was declared; management's responses, which decide nothing."""
    lists, files = packet.get("attachments", []), packet.get("attached_files", {})
    if not lists and not files:
        return []
    told = [
        f"{one['name']}: {many(one['rows'], 'row')} of {one['system']} ({one['query']}), exported by "
        f"{one['exporter']} at {one['exported_at']}. SHA-256 {one['sha256']}"
        for one in lists
    ]
    sections = [
        _section(
            "Evidence from outside the trail (unsealed)",
            sentences=["None of this was sealed when it happened: what it says rests on whoever exported it."],
            bullets=[*told, *(f"{name}: SHA-256 {digest}" for name, digest in sorted(files.items()))],
        )
    ]
    responses = packet.get("responses", [])
    if responses:
        shown = tuple((name, name.replace("_", " ").capitalize(), "text") for name in responses[0])
        shortened = responses[:MAX_ROWS]
        sections.append(_tabled("Management response, untested", "", Head(shortened, len(shortened)), shown, ""))
    return sections


def _facts(packet: Mapping[str, Any], evidence_digest: str) -> list[tuple[str, str, bool]]:
    period = packet["period"]
    criteria = ", ".join(packet["criteria"])
    facts = [
        ("Criteria", f"{criteria} (TSC 2017, points of focus 2022)" if criteria else "none claimed", False),
        ("Period, UTC", _ends(period["utc"]), False),
    ]
    if period["time_zone"] != "UTC":
        facts.append((f"Period, {period['time_zone']}", _ends(period["local"]), False))
    facts += [
        ("Sealed until", _sealed_until(packet["checkpoints"]), False),
        ("Evidence digest", evidence_digest, True),
    ]
    return facts


def _sealed_until(checkpoints: Sequence[Mapping[str, Any]]) -> str:
    if len(checkpoints) == 1:
        return str(checkpoints[0]["last_sealed_at"])
    return " and ".join(f"{one['last_sealed_at']} ({one['origin']})" for one in checkpoints)


def _tiles(packet: Mapping[str, Any], page: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if page:
        tiles = [(tile["number"], tile["words"], tile["flag"]) for tile in page["tiles"]]
    else:
        verdicts = packet["population"]["verdicts"]
        tiles = [
            (packet["population"]["items"], "items in the population", False),
            (verdicts["pass"], "passed every attribute", False),
            (packet["exceptions"], "potential exceptions", packet["exceptions"] > 0),
            (verdicts["not-testable"], "not fully testable", False),
        ]
    return [{"number": f"{number:,}", "words": words, "flag": flag} for number, words, flag in tiles]


def _ends(period: Mapping[str, str | None]) -> str:
    since, until = period["since"] or "the beginning", period["until"] or "the checkpoint"
    return f"{since} (inclusive) to {until} (exclusive)"


def _period_sentence(packet: Mapping[str, Any]) -> str:
    return (
        f"Asked for: {_ends(packet['period']['utc'])}, UTC. Each source with the longest time in it without a record; "
        "what was never recorded cannot be seen here."
    )


def _command(packet: Mapping[str, Any]) -> str:
    """The command that builds the packet again; of several trails, each at its own checkpoint."""
    if len(packet["checkpoints"]) > 1:
        return " ".join(["auditlib packet reproduce PACKET", *("--vault VAULT" for _ in packet["checkpoints"])])
    words = [f"auditlib packet build {quote(packet['request'])}"]
    for name, value in sorted(packet["parameters"].items()):
        if name == "policy":
            continue  # its fields are parameters of their own
        text = ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
        words.append(f"-p {name}={quote(text)}")
    return " ".join(words)


# --- tables ------------------------------------------------------------------------------------------------------


def _tabled(title: str, name: str, head: Head, columns: Iterable[Column], empty: str, note: str = "") -> dict[str, Any]:
    """A section with the first MAX_ROWS rows of a table; `empty` says it where there are none."""
    rows = head.rows
    if not rows:
        return _section(title, sentences=[empty] if empty else [])
    if head.in_all > len(rows):
        note = f"The first {len(rows):,} of {head.in_all:,} are shown; all stand in tables/{name}.csv. {note}"
    shown = [column for column in columns if column[0] in rows[0]]
    texts = [[_shown(row[column], kind) for column, _, kind in shown] for row in rows]
    table = {
        "columns": [
            {
                "name": column,
                "heading": heading,
                "kind": kind,
                "width": _width(heading, kind, [row[at] for row in texts]),
            }
            for at, (column, heading, kind) in enumerate(shown)
        ],
        "rows": [{"cells": cells, "flagged": _flagged(row, shown)} for cells, row in zip(texts, rows, strict=True)],
    }
    return _section(title, note=note, table=table)


def _shown(text: str, kind: str) -> str:
    if kind == "time":
        return text[:19].replace("T", " ")
    if kind == "sign":
        return _SIGNS.get(text, text)
    return _short(text.replace("_", " ") if kind == "verdict" else text, MAX_CELL)


def _flagged(row: Mapping[str, str], columns: Iterable[Column]) -> str | None:
    """The column of a verdict that somebody should look at."""
    return next((name for name, _, kind in columns if kind == "verdict" and row[name] not in _PLAIN), None)


def _width(heading: str, kind: str, cells: Sequence[str]) -> float:
    """The share of the paper, in letters: what the longest cell needs, but no more than its kind is given."""
    longest = max(len(cell) for cell in cells) * (1.12 if kind == "code" else 1)
    return 2 + max(
        3, min(longest, _WIDEST[kind]), *(0 if kind == "sign" else len(word) * 1.25 for word in heading.split())
    )


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


# --- what can be drawn -------------------------------------------------------------------------------------------


def _drawn(value: Any) -> Any:
    """A value all of whose texts can be drawn."""
    if isinstance(value, str):
        return drawable(value)
    if isinstance(value, dict):
        return {name: _drawn(inner) for name, inner in value.items()}
    return [_drawn(inner) for inner in value] if isinstance(value, list | tuple) else value


def drawable(text: str) -> str:
    """A text as the document can show it: what is unseen, or in no font of ours, stands as \\u{...}."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if ord(c) in _glyphs() else f"\\u{{{ord(c):x}}}" for c in visible(text))


def _svg(svg: str) -> str:
    """A figure whose labels can be drawn."""
    return "".join(c if c.isascii() or ord(c) in _glyphs() else drawable(c) for c in svg)


def _fonts() -> str:
    """matplotlib's own fonts: DejaVu Sans, in which the figures were laid out."""
    import matplotlib as mpl

    return str(Path(mpl.get_data_path()) / "fonts" / "ttf")


@cache
def _glyphs() -> frozenset[int]:
    """What every style of DejaVu Sans that is used can draw: the last resort of each font list in the template."""
    from matplotlib.ft2font import FT2Font

    files = [Path(_fonts()) / name for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")]
    return frozenset.intersection(*(frozenset(FT2Font(str(file)).get_charmap()) for file in files))


def _last_sealed(packet: Mapping[str, Any]) -> int:
    return max(parse_time(one["last_sealed_at"]) for one in packet["checkpoints"])
