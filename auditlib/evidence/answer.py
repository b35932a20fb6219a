"""An answer: everything a packet and a notebook show of it, in one place (DESIGN 4.7, packet.json)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from auditlib.export import html_table, write_csv
from auditlib.formats.canonical import canonical
from auditlib.formats.times import format_time, to_datetime
from auditlib.query import Moment, parse_period, zone_of

ANSWER_FILE = "answer.json"
TABLES = "tables"
MAX_SHOWN = 200  # rows of a table that a notebook shows; all stand in the packet
Kind = Literal["text", "wide", "time", "number", "code", "verdict"]  # how the cells of a column are set
HANDOVER = "AUDITLIB_PACKET"  # the folder in which a packet is being built, set by the packet builder alone


class Period(msgspec.Struct, frozen=True):
    """[since, until) in microseconds since 1970 UTC, and the time zone it was asked in; None is open."""

    since: int | None
    until: int | None
    tz: str

    def as_json(self) -> dict[str, Any]:
        """In UTC and in the zone it was asked in."""
        zone = zone_of(self.tz)
        local = {
            name: None if value is None else to_datetime(value).astimezone(zone).isoformat()
            for name, value in (("since", self.since), ("until", self.until))
        }
        utc = {name: None if value is None else format_time(value) for name, value in self._ends()}
        return {"local": local, "time_zone": self.tz, "utc": utc}

    def words(self) -> str:
        """`2026-03-01 (inclusive) to 2026-06-01 (exclusive), UTC`; the time of day only where it is not midnight."""
        texts = [None if value is None else format_time(value).removesuffix("T00:00:00Z") for _, value in self._ends()]
        return f"{texts[0] or 'the beginning'} (inclusive) to {texts[1] or 'the checkpoint'} (exclusive), UTC"

    def _ends(self) -> tuple[tuple[str, int | None], tuple[str, int | None]]:
        return ("since", self.since), ("until", self.until)


class Column(msgspec.Struct, frozen=True):
    """A column of a table as a report shows it."""

    name: str
    heading: str
    kind: Kind = "text"


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a report: sentences, one of the answer's figures, some columns of one of its tables."""

    title: str
    sentences: list[str] = []
    figure: str | None = None
    table: str | None = None
    columns: list[Column] = []
    empty: str = ""  # what stands in the place of a table without rows


class Attribute(msgspec.Struct, frozen=True):
    """What each item is tested for; its column holds pass, fail, n/a or not-testable."""

    name: str
    meaning: str


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """How a report shows an answer that is a list of items, each with its attributes and its verdict."""

    items: list[Column]  # of the population's table
    exceptions: list[Column]
    attributes: list[Attribute]  # the first that is not met is the verdict
    sections: list[Section] = []  # what else belongs to the answer


class Tile(msgspec.Struct, frozen=True):
    """A number that a report shows large; `flag` where somebody should look."""

    number: int
    words: str
    flag: bool = False


class Page(msgspec.Struct, frozen=True):
    """How a report shows an answer that is no list of items."""

    tiles: list[Tile]
    sections: list[Section]


class Answer(msgspec.Struct, kw_only=True):
    """The answer to one evidence request, before it is packed."""

    request: str
    title: str
    question: str
    criteria: tuple[str, ...]
    references: tuple[str, ...] = ()  # what corresponds in other frameworks
    parameters: dict[str, Any]
    period: Period
    headline: str  # the answer in one sentence
    conclusion: list[str]  # facts in plain words
    procedure: list[str]  # how the population was drawn and tested
    limits: list[str]  # what this answer does not show
    population: dict[str, Any]
    exceptions: int
    tables: dict[str, pd.DataFrame]  # written as CSV and Parquet
    figures: dict[str, str]  # name -> SVG text
    rows: set[tuple[int, int]]  # (sequence, row) of every record the answer rests on
    rows_by_trail: dict[str, set[tuple[int, int]]] = {}  # of an answer over several trails, by origin, in place of rows
    every_seal: bool = False  # whether the proof holds the seals of the whole trail, not of the period alone
    page: Page | None = None  # how it is shown; else by `listing`
    listing: Listing | None = None

    def submit(self) -> None:
        """Hand the answer to the packet builder, where one is waiting (`AUDITLIB_PACKET`); else do nothing."""
        waiting = os.environ.get(HANDOVER)
        if waiting:
            self.write(Path(waiting))

    def write(self, folder: Path) -> None:
        """Lay answer.json, tables/ and the figures into a folder."""
        (folder / TABLES).mkdir(parents=True, exist_ok=True)
        for name, frame in sorted(self.tables.items()):
            write_table(folder / TABLES, name, frame)
        stated = {
            name: getattr(self, name)
            for name in (
                "request",
                "title",
                "question",
                "criteria",
                "references",
                "parameters",
                "headline",
                "conclusion",
                "procedure",
                "limits",
                "population",
                "exceptions",
                "figures",
                "listing",
                "every_seal",
                "page",
            )
        }
        stated["period"] = self.period.as_json()
        by_trail = {origin: [list(pair) for pair in sorted(rows)] for origin, rows in self.rows_by_trail.items()}
        stated["rows"] = by_trail or [list(pair) for pair in sorted(self.rows)]
        (folder / ANSWER_FILE).write_bytes(canonical(msgspec.to_builtins(stated)))


def write_table(folder: Path, name: str, frame: pd.DataFrame) -> None:
    """NAME.parquet and NAME.csv; equal frames are equal bytes."""
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, folder / f"{name}.parquet", compression="zstd", store_schema=False)
    with (folder / f"{name}.csv").open("w", encoding="utf-8-sig", newline="") as stream:
        write_csv(table.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)], stream)


class Table:
    """A table that a notebook shows with every cell in full, up to MAX_SHOWN rows."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def __repr__(self) -> str:
        return self.frame.head(MAX_SHOWN).to_string(index=False)

    def _repr_html_(self) -> str:
        more = f"<p>The first {MAX_SHOWN:,} of {len(self.frame):,} rows.</p>" if len(self.frame) > MAX_SHOWN else ""
        table = html_table(pa.Table.from_pandas(self.frame.head(MAX_SHOWN), preserve_index=False))
        for tag in ("th", "td"):  # Jupyter sets cells to the right; a cell's own text holds no tag, it is escaped
            table = table.replace(f"<{tag}>", f'<{tag} style="text-align:left">')
        return more + table


def period_of(since: Moment, until: Moment, through: Moment, tz: str) -> Period:
    """The period of a request; MalformedError where it is none."""
    start, end = parse_period(since, until, through, tz)
    return Period(start, end, tz)


def rows_of(*frames: pd.DataFrame) -> set[tuple[int, int]]:
    """The (sequence, row) of the records in some frames."""
    found: set[tuple[int, int]] = set()
    for frame in frames:
        found.update(zip(frame["sequence"].tolist(), frame["row"].tolist(), strict=True))
    return found


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    items = list(words)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def many(number: int, one: str, several: str = "") -> str:
    """`1 seal`, `27 seals`."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"
