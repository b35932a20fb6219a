"""evidence.xlsx: the tables of a packet for people who live in a spreadsheet, and a worksheet to test on.

    Cover | Population | Sample | Potential exceptions | Integrity | Testing | every other table

An item's number is its place in the population's table, from 1: on every sheet the same. Times stand twice: a date that
a spreadsheet can reckon with, to the millisecond, and the exact text. Everything a record says is text: nothing becomes
a formula, a link or a number, and what would run as a formula gets the CSV's apostrophe. The Parquet is the authority.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditlib.errors import UnavailableError
from auditlib.evidence.answer import many
from auditlib.export import XLSX_ROWS
from auditlib.packet.report import visible
from auditlib.packet.sheet_rows import (
    HIGHEST,
    LINE,
    Cells,
    Kind,
    cell_text,
    cells_of,
    lengths,
    letters,
    rows_xml,
)
from auditlib.packet.tables import population_table

SHEET_NAME = 31  # characters, Excel specifications and limits
MAX_LISTED = 100  # objects of a list that are told one by one
_CHUNK = 2_048  # rows whose XML is in memory at once
_MEASURED = 2_000  # rows whose cells set the width of a column
_WIDEST = 60  # characters of a column
_COVER = (24, 110)  # characters of the cover's columns
_FITTING = 8  # columns that can be read when a page's width holds them all
_NAMED = {"No.": "No.", "event_id": "Event", "actor_id": "Actor", "row": "Row in the batch", "sequence": "Seal"}
_TITLES = {"sample": "Sample", "exceptions": "Potential exceptions"}
_PLACE = ("trail", "item", "event_id", "source", "sequence", "row")  # by which an item of a population is known
_REFERENCE = (*_PLACE, "recorded_at")  # said by the evidence reference, or not needed where one tests
_SAID = (("sequence", "seal "), ("row", ", row "), ("event_id", ": "), ("source", " of "), ("trail", ", trail "))
_ENTERED = (("Tester", 16), ("Date", 12), ("Conclusion", 30), ("Workpaper reference", 24))  # heading, width
_DIMENSION = re.compile(rb'<dimension ref="[^"]*"/>')
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can say


class _Column(NamedTuple):
    heading: str
    kind: Kind
    width: int = 0  # characters; 0: as wide as what stands in it


class _View(NamedTuple):
    """What becomes a sheet, or several: its title, its columns, its rows, and where they stand whole.

    A time of the table takes two columns; those for the auditor to fill in, at the end, have none in the table.
    """

    title: str
    columns: list[_Column]
    table: pa.Table
    whole: str  # the file that holds what a cell has no room for

    @property
    def rows_in_all(self) -> int:
        return int(self.table.num_rows)


class _Part(NamedTuple):
    """The rows of one sheet below its headings: its last cell, like `S17447`, and their XML."""

    last: str
    rows: Iterable[bytes]


def workbook(
    facts: Mapping[str, Any], tables: Mapping[str, pa.Table], created: datetime, *, most_rows: int = XLSX_ROWS
) -> bytes:
    """packet.json's fields as far as they are known, the tables, the last `sealed_at` -> the file's bytes.

    Equal arguments give equal bytes. A table past `most_rows` rows goes on on further sheets, and both say so.
    Raises UnavailableError where the disk has no room for the sheets on their way.
    """
    import xlsxwriter

    views = _views(facts, tables)
    options = {
        "constant_memory": True,  # texts stand in their cells, and not in one list of all that a book says
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
    }
    buffer = io.BytesIO()
    try:
        with xlsxwriter.Workbook(buffer, options) as book:
            book.set_properties({"title": visible(str(facts["title"]))[:120], "created": created})
            styles = _styles(book)
            names = _sheet_names([("Cover", 1), *((view.title, _parts(view.rows_in_all, most_rows)) for view in views)])
            _cover(book.add_worksheet(names[0][0]), styles, facts, views, names[1:])
            parts = [
                part
                for view, own in zip(views, names[1:], strict=True)
                for part in _parts_of(book, styles, view, own, most_rows)
            ]
        return _with_rows(buffer.getvalue(), parts)
    except (OSError, xlsxwriter.exceptions.FileCreateError) as error:
        raise UnavailableError(f"evidence.xlsx cannot be written ({error}).", remedy="Make room on the disk.") from None


# --- what stands on the sheets -----------------------------------------------------------------------------------


def _views(facts: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> list[_View]:
    name = population_table(facts)
    population = _numbered(tables[name], tables[name]) if name in tables else None
    views = []
    if population is not None:
        views.append(_view("Population", name, population))
    for special in ("sample", "exceptions"):
        if special in tables:
            table = tables[special] if population is None else _numbered(tables[special], population)
            views.append(_view(_TITLES[special], special, table))
        else:
            said = "No sample was drawn: every item was tested." if special == "sample" else "This answer notes none."
            views.append(_View(_TITLES[special], [_Column("Note", "text")], pa.table({"note": [said]}), "packet.json"))
    views.append(_integrity(facts))
    if population is not None:
        tested = population
        if "sample" in tables:
            chosen = [number - 1 for number in _numbered(tables["sample"], population)["No."].to_pylist() if number]
            tested = population.take(pa.array(chosen, pa.int64()))
        views.append(_testing(name, tested, [attribute["name"] for attribute in facts["attributes"]]))
    return views + [
        _view(_words(other), other, table)
        for other, table in sorted(tables.items())
        if other not in (name, *_TITLES) and table.num_columns
    ]


def _numbered(table: pa.Table, population: pa.Table) -> pa.Table:
    """A table whose first column is the number that each of its items has in the population; none where it is not."""
    names = [name for name in _PLACE if name in table.column_names and name in population.column_names]
    known = "item" in names or "event_id" in names  # a source alone tells nothing apart
    if not known:
        found = pa.nulls(table.num_rows, pa.int64())
    elif table is population:
        found = pa.array(np.arange(1, table.num_rows + 1))
    else:
        places: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        sought = list(_tuples(table.select(names)))
        wanted = set(sought)
        for number, key in enumerate(_tuples(population.select(names)), 1):
            if key in wanted:
                places[key].append(number)
        for numbers in places.values():
            numbers.reverse()  # equal rows keep their order
        found = pa.array([places[key].pop() if places.get(key) else None for key in sought], pa.int64())
    return table.add_column(0, "No.", found)


def _view(title: str, name: str, table: pa.Table) -> _View:
    return _View(title, _columns(table.schema), table, f"tables/{name}.csv")


def _testing(name: str, table: pa.Table, tested: Sequence[str]) -> _View:
    """Each item with where its evidence is and what was found, then what the auditor enters, blank."""
    present = table.column_names
    attributes = [attribute for attribute in tested if attribute in present]
    last = [column for column in ("verdict", *attributes, "reason") if column in present]
    what = [column for column in present if column not in (*last, *_REFERENCE, "No.")]
    first = [column for column in ("No.", "trail", "item") if column in present]
    shown = table.select([*first, *what, *last])
    ours = {"verdict": "Our verdict", "reason": "What we noted"}
    columns = _columns(shown.schema, ours | {name: f"Our result: {_words(name).lower()}" for name in attributes})
    columns.insert(len(first), _Column("Evidence reference", "text"))
    shown = shown.add_column(len(first), "Evidence reference", _references(table))
    ticks = [_Column(f"Tick: {_words(attribute).lower()}", "tick", 11) for attribute in attributes]
    columns += ticks or [_Column("Tick", "tick", 11)]
    columns += [_Column(heading, "day" if heading == "Date" else "entry", width) for heading, width in _ENTERED]
    return _View("Testing", columns, shown, f"tables/{name}.csv")


def _references(table: pa.Table) -> pa.ChunkedArray:
    """`seal 21, row 887: 01KSMQAP1KW72C1S30C3PFS66Q of admin-console/2b6e`, as far as the table says so."""
    said = pa.chunked_array([pa.array([""] * table.num_rows, pa.string())])
    for name, before in _SAID:
        if name in table.column_names:
            more = pc.binary_join_element_wise(before, table.column(name).cast(pa.string()), "")
            said = pc.binary_join_element_wise(said, pc.fill_null(more, ""), "")
    return pc.replace_substring_regex(said, "^: ", "")


def _integrity(facts: Mapping[str, Any]) -> _View:
    lines: list[tuple[str, str, str]] = []
    for one in facts["checkpoints"]:
        lines += [
            ("Trail", one["origin"], ""),
            ("Checkpoint", many(one["size"], "seal"), f"root {one['root']}"),
            *(("Signed by", key, "") for key in one["keys"]),
            ("Last seal (UTC)", one["last_sealed_at"], ""),
        ]
    checks = facts["population"].get("integrity", {}).get("checks", {})
    for number, check in sorted(checks.items(), key=lambda pair: int(pair[0])):
        lines.append((f"Check {number}", check["check"], check["done"]))
    lines += [("Not proven", sentence, "") for sentence in facts["limits"]]
    columns = [_Column("What", "text"), _Column("What it says", "text"), _Column("When this was built", "text")]
    texts = [pa.array(cells, pa.string()) for cells in zip(*lines, strict=True)]
    table = pa.table(texts, names=["what", "says", "done"])
    return _View("Integrity", columns, table, "packet.json")


def _words(name: str) -> str:
    return _NAMED.get(name) or name.replace("_", " ").capitalize()


def _columns(schema: pa.Schema, headings: Mapping[str, str] | None = None) -> list[_Column]:
    found = []
    for field in schema:
        heading = (headings or {}).get(field.name) or _words(field.name)
        if pa.types.is_timestamp(field.type):
            found += [_Column(f"{heading} (UTC)", "date", 22), _Column(f"{heading} (UTC, exact text)", "text")]
        else:
            number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
            found.append(_Column(heading, "number" if number or pa.types.is_decimal(field.type) else "text"))
    return found


def _tuples(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    if not table.num_columns:
        return iter([()] * table.num_rows)
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


# --- writing -----------------------------------------------------------------------------------------------------


def _styles(book: Any) -> dict[str, Any]:
    top = {"valign": "top"}
    entry = {**top, "bg_color": "#FFF9E5", "border": 1, "border_color": "#D9DEE5"}
    styles = {
        "text": {**top, "num_format": "@", "text_wrap": True},  # `@`: still text after somebody edited the cell
        "number": {**top, "num_format": "General", "align": "left"},
        "date": {**top, "num_format": "yyyy-mm-dd hh:mm:ss.000", "align": "left"},
        "head": {"bold": True, "bg_color": "#E8EEF3", "bottom": 2, "text_wrap": True, "valign": "bottom"},
        "entry": {**entry, "num_format": "@", "text_wrap": True},
        "tick": {**entry, "num_format": "@", "align": "center"},
        "day": {**entry, "num_format": "yyyy-mm-dd"},
        "title": {"bold": True, "font_size": 18, "font_color": "#00538A", "text_wrap": True, **top},
        "label": {"bold": True, "font_color": "#5A6473", "text_wrap": True, **top},
        "note": {"italic": True, "font_color": "#5A6473"},
        "link": {"font_color": "#00538A", "underline": 1, **top},
    }
    return {name: book.add_format(style) for name, style in styles.items()}


def _parts_of(
    book: Any, styles: Mapping[str, Any], view: _View, names: Sequence[str], most_rows: int
) -> Iterator[_Part]:
    """A view's sheets, laid out but for their rows; the last line of a sheet that is full says where it goes on."""
    widths = _widths(view)
    kinds = [column.kind for column in view.columns] if view.rows_in_all else []
    _, *numbers = [styles[name]._get_xf_index() for name in ("head", *kinds)]  # numbered in the order of their use
    start = 0
    for number, name in enumerate(names):
        page = book.add_worksheet(name)
        _set_up(page, styles, view, widths)
        more = number < len(names) - 1
        here = most_rows - 2 if more else view.rows_in_all - start  # a line for the headings, one for the note
        rows: Iterable[bytes] = _written(view, start, here, numbers, widths)
        if more:
            said = f"These are {here:,} rows; Excel has no room for more on a sheet. They go on on {names[number + 1]}."
            note = Cells(pa.array([said]), np.zeros(1, bool))
            # Of any width: the note runs over the cells beside it, which are empty.
            rows = chain(rows, [rows_xml([note], [styles["note"]._get_xf_index()], [len(said)], here + 2)])
        page.autofilter(0, 0, max(here, 1), len(view.columns) - 1)
        yield _Part(f"{letters(len(view.columns) - 1)}{here + 1 + more}", rows)
        start += here


def _written(view: _View, start: int, rows: int, styles: Sequence[int], widths: Sequence[int]) -> Iterator[bytes]:
    """The XML of some rows of a view, which stand on a sheet from its second line on."""
    for at in range(0, rows, _CHUNK):
        cells = _cells(view, start + at, min(_CHUNK, rows - at))
        blank = [None] * (len(view.columns) - len(cells))
        yield rows_xml([*cells, *blank], styles, widths, at + 2)


def _cells(view: _View, start: int, rows: int) -> list[Cells]:
    part = view.table.slice(start, rows).combine_chunks()
    kinds = iter(column.kind for column in view.columns)
    found: list[Cells] = []
    for column in part.columns:
        own = cells_of(column.chunk(0) if column.num_chunks else pa.array([], column.type), next(kinds), view.whole)
        found += own
        for _ in own[1:]:
            next(kinds)
    return found


def _set_up(page: Any, styles: Mapping[str, Any], view: _View, widths: Sequence[int]) -> None:
    for place, column in enumerate(view.columns):
        page.set_column(place, place, widths[place])
        page.write_string(0, place, _plain(column.heading, view.whole), styles["head"])
    page.freeze_panes(1, 2 if view.columns[0].heading == "No." else 0)
    page.ignore_errors({"number_stored_as_text": "A1:XFD1048576"})  # 12-digit accounts are text on purpose
    page.repeat_rows(0)
    _paper(page, fit=len(view.columns) <= _FITTING)


def _paper(page: Any, *, fit: bool) -> None:
    page.set_landscape()
    page.set_paper(9)  # A4, ECMA-376 18.3.1.63
    page.set_footer("&L&A&RPage &P of &N")
    if fit:
        page.fit_to_pages(1, 0)


def _widths(view: _View) -> list[int]:
    """Characters: as wide as the longest word of the heading and the longest cell, within reason."""
    found = [column.width for column in view.columns]
    for place, cells in enumerate(_cells(view, 0, _MEASURED)):
        if not found[place]:
            numbers = [len(f"{float(text):.10g}") for text in cells.texts.filter(pa.array(cells.numbers)).to_pylist()]
            words = map(len, view.columns[place].heading.split())
            longest = max([*words, *numbers, int(lengths(cells).max(initial=0))], default=0)
            found[place] = min(longest + 2, _WIDEST)
    return found


def _set_height(page: Any, line: int, cells: Sequence[str], widths: Sequence[int]) -> None:
    """As high as its longest text needs: Excel finds that out by itself, others do not."""
    lines = max(-(-len(cell) // width) for cell, width in zip(cells, widths, strict=True))
    if lines > 1:
        page.set_row(line, min(lines * LINE, HIGHEST))


def _plain(value: Any, whole: str) -> str:
    """A cell's text for XlsxWriter, which takes `<r>...</r>` for markup; with a space behind it that is a text."""
    text = cell_text(value, whole)
    return f"{text} " if text.endswith("</r>") else text


def _cover(
    page: Any, styles: Mapping[str, Any], facts: Mapping[str, Any], views: Sequence[_View], names: Sequence[list[str]]
) -> None:
    for place, width in enumerate(_COVER):
        page.set_column(place, place, width)
    page.hide_gridlines(2)
    _paper(page, fit=True)
    page.write_string(0, 1, _plain(facts["title"], "packet.json"), styles["title"])
    line = 2

    def tell(label: str, texts: Sequence[str]) -> None:
        nonlocal line
        for number, text in enumerate(texts):
            cells = ("" if number else label, _plain(text, "packet.json"))
            _set_height(page, line, cells, _COVER)
            page.write_string(line, 0, cells[0], styles["label"])
            page.write_string(line, 1, cells[1], styles["text"])
            line += 1

    for label, text in _answered(facts):
        tell(label, [text])
    for view, own in zip(views, names, strict=True):
        for number, name in enumerate(own):
            page.write_url(line, 0, f"internal:'{name}'!A1", styles["link"], name)  # our name, not a record's
            more = (
                f"goes on from {own[number - 1]}" if number else f"{many(view.rows_in_all, 'row')}, from {view.whole}"
            )
            page.write_string(line, 1, more, styles["text"])
            line += 1
    tell("What was found", facts["conclusion"])
    tell("How it was drawn", facts["procedure"])
    tell("What this does not prove", facts["limits"])
    for title, pairs in statements(facts):
        tell(title, [": ".join(pair) for pair in pairs])
    tell("Parameters", [": ".join(pair) for pair in flat(facts["parameters"])])
    tell("Software", [", ".join(f"{name} {version}" for name, version in sorted(facts["software"].items()))])
    tell("How to read this", _READING)


def _answered(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    period, population = facts["period"], facts["population"]
    ends = [period["utc"]["since"] or "the beginning", period["utc"]["until"] or "the checkpoint"]
    yield "Question", facts["question"]
    yield "Answer", facts["headline"]
    yield "Request", facts["request"]
    yield "Criteria", ", ".join(facts["criteria"]) or "none claimed"
    yield "Period (UTC)", f"{ends[0]} (inclusive) to {ends[1]} (exclusive)"
    if period["time_zone"] != "UTC":
        local = [period["local"]["since"] or ends[0], period["local"]["until"] or ends[1]]
        yield f"Period ({period['time_zone']})", f"{local[0]} (inclusive) to {local[1]} (exclusive)"
    for one in facts["checkpoints"]:
        sealed = f"{many(one['size'], 'seal')}, last sealed at {one['last_sealed_at']} (UTC)"
        yield "Checkpoint", f"{one['origin']}, {sealed}"
    yield "Population", f"{many(population['items'], 'item')} in {many(population['events'], 'event')}"
    yield "Potential exceptions", f"{facts['exceptions']:,}"


def statements(facts: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The population statement of packet.json as lines, under its title; of several trails that of each."""
    told, title = facts["population"].get("statement", {}), "Population statement"
    if len(facts["checkpoints"]) == 1 or not told:
        return [(title, list(flat(told)))]
    return [(f"{title}, {origin}", list(flat(stated))) for origin, stated in sorted(told.items())]


def flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """An object of packet.json as lines, by name: `rows, items` and `41`; of a list of objects each is a line."""
    for name, inner in sorted(value.items()):
        label = before + name.replace("_", " ")
        if isinstance(inner, dict):
            yield from flat(inner, f"{label}, ")
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            for number, one in enumerate(inner[:MAX_LISTED], 1):
                yield f"{label} {number}", "; ".join(f"{part} {text}" for part, text in flat(one))
            if len(inner) > MAX_LISTED:
                yield label, f"and {len(inner) - MAX_LISTED:,} more, in packet.json"
        else:
            yield label, _given(inner)


def _given(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_given, value)) or "none"
    return "none" if value is None else ("yes" if value else "no") if isinstance(value, bool) else str(value)


_READING = [
    "No. is the place of an item in the population's table, from 1; it is the same on every sheet.",
    "Every time is UTC. A date holds the time cut to the millisecond; the exact text beside it has the microseconds.",
    "A text that a spreadsheet could run as a formula has an apostrophe before it; control and formatting characters "
    "are written as \\u{...}. The Parquet files beside this one hold every text as it was recorded.",
    "Seals, and rows within a batch, are counted from 0.",
    "What is entered on the sheet Testing stays in the copy that it was entered in. To check that no evidence was "
    "changed, use the packet: its manifests hold the hash of this file as it was handed over.",
    "The evidence digest is the SHA-256 of packet.json, which holds the hash of this file: it stands in the report.",
]


def _parts(count: int, most_rows: int) -> int:
    """The sheets that so many rows take: one with its headings, or several that give up a line to the note as well."""
    return 1 if count < most_rows else -(-count // (most_rows - 2))


def _sheet_names(wanted: Sequence[tuple[str, int]]) -> list[list[str]]:
    """Names that Excel takes: at most 31 characters, none of `[]:*?/\\'`, no two alike whatever the case."""
    taken: set[str] = {"history"}  # Excel keeps it for itself
    found = []
    for title, parts in wanted:
        # Excel counts UTF-16 units: without what takes two of them a character is one.
        plain = (
            "".join(c for c in title if c.isprintable() and c <= "\uffff" and c not in "[]:*?/\\'").strip() or "Table"
        )
        own: list[str] = []
        number = 0
        while len(own) < parts:
            number += 1
            end = f" {number}" if number > 1 else ""
            name = plain[: SHEET_NAME - len(end)].strip() + end
            if name.lower() not in taken:
                taken.add(name.lower())
                own.append(name)
        found.append(own)
    return found


def _with_rows(data: bytes, parts: Sequence[_Part]) -> bytes:
    """The book that XlsxWriter made, whose sheets but the cover get their rows below the headings.

    Without the times and modes of the temporary files that its members came from.
    """
    buffer = io.BytesIO()
    rows = {f"xl/worksheets/sheet{number}.xml": part for number, part in enumerate(parts, 2)}
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            member = zipfile.ZipInfo(name, _ZIP_TIME)
            member.create_system, member.compress_type = 3, zipfile.ZIP_DEFLATED
            if name not in rows:
                new.writestr(member, old.read(name))
                continue
            before, end, after = old.read(name).partition(b"</sheetData>")
            with new.open(member, "w") as stream:
                # ECMA-376 18.3.1.35: the range of cells, which some readers go by
                stream.write(_DIMENSION.sub(f'<dimension ref="A1:{rows[name].last}"/>'.encode(), before))
                for text in rows[name].rows:
                    stream.write(text)
                stream.write(end + after)
    return buffer.getvalue()
