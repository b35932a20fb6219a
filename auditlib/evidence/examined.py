"""What the requests of the evidence library have in common: items, each tested for attributes, and their answer.

A request's module draws the items, judges them (`judge`), and hands over what it `Found`; `Examined` is what its
notebook shows and what its packet holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from html import escape
from typing import Any

import msgspec
import pandas as pd

from auditlib.evidence.answer import Answer, Attribute, Column, Listing, Page, Period, Section, Table, many, rows_of
from auditlib.evidence.charts import BLUE, GREY, VERMILION, Picture, timeline
from auditlib.evidence.coverage import alive_sentences, coverage, sources_that_record
from auditlib.evidence.integrity import Integrity, integrity
from auditlib.evidence.responses import RESPONSES, Responses, responses_to
from auditlib.evidence.statement import Statement, state
from auditlib.formats.times import format_time, parse_time, to_datetime
from auditlib.pipeline import SILENCE
from auditlib.population import COLUMNS, draw
from auditlib.query import Filter
from auditlib.sampling import Sample, population_digest
from auditlib.trail import Selection, Trail

PASS, FAIL, NOT_APPLICABLE, NOT_TESTABLE = "pass", "fail", "n/a", "not-testable"
TESTED = (PASS, NOT_TESTABLE)  # verdicts that are no potential exception
PLACE = ["event_id", "source", "occurred_at", "recorded_at", "sequence", "row"]  # where an item's event stands
MAX_ROWS_TOLD = 5  # exceptions that the conclusion names one by one


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A question of the library: its name, title, criteria (TSC 2017, points of focus 2022) and what corresponds."""

    name: str
    title: str
    criteria: tuple[str, ...]
    references: tuple[str, ...] = ()  # "ISO/IEC 27001:2022 A.5.18", where it truly corresponds
    one: str  # "release"
    several: str  # "releases"


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What a request's module found.

    `items` has `item`, the columns of PLACE (empty for who stands on a list from outside and in no record), a column
    for each attribute, `verdict` and `reason` (see `judge`), and whatever else is known of an item.
    """

    question: str
    kind: str  # of the items; their table is its plural: "release" -> releases
    items: pd.DataFrame
    attributes: dict[str, str]  # name -> what it means, in the order in which they decide
    columns: list[Column]  # of the table of all items
    noted: list[Column]  # of the table of potential exceptions
    query: dict[str, Any]  # how the items were drawn, as packet.json states it
    actions: tuple[str, ...]  # those whose events are items
    read: int  # batches that were read for the items
    procedure: list[str]  # how items were drawn and judged, in words
    parameters: dict[str, Any]
    told: list[str] = []  # facts for the conclusion
    tables: dict[str, pd.DataFrame] = {}  # further tables; their records go into the packet where they have a place
    sections: list[Section] = []  # how the report shows them
    picture: Picture | None = None  # else a time line of the items by verdict
    limits: list[str] = []
    page: Page | None = None  # for an answer whose items need no attributes


def judge(items: pd.DataFrame, attributes: dict[str, str], reasons: pd.DataFrame) -> pd.DataFrame:
    """The items with `verdict` and `reason`.

    Each attribute's column of `items` holds pass, fail, n/a or not-testable, the same column of `reasons` a sentence
    for a fail or a not-testable. The verdict is the first attribute that fails, else not-testable where one is, else
    pass.
    """
    verdict = pd.Series(PASS, items.index, dtype=object)
    reason = pd.Series("", items.index, dtype=object)
    for result, said in ((NOT_TESTABLE, NOT_TESTABLE), (FAIL, None)):
        for name in reversed(attributes):
            here = items[name] == result
            verdict[here] = said or name
            reason[here] = reasons.loc[here, name]
    return items.assign(verdict=verdict, reason=reason)


def with_further(judged: pd.DataFrame, attributes: dict[str, str], reasons: pd.DataFrame) -> pd.DataFrame:
    """The judged items; where several attributes fail, the reason tells of each, in the order of the attributes."""
    fails = judged[list(attributes)] == FAIL
    told = pd.Series("", judged.index, dtype=object)
    for name in attributes:
        told[fails[name]] = told[fails[name]] + " " + reasons.loc[fails[name], name]
    return judged.assign(reason=judged["reason"].where(fails.sum(axis=1) < 2, told.str.lstrip()))


def empty_items(*columns: str) -> pd.DataFrame:
    """No items, with the columns that items have, of the right types."""
    names = ["item", *PLACE, *columns]
    times = {name: "datetime64[us, UTC]" for name in names if name.endswith("_at")}
    numbers = dict.fromkeys(("sequence", "row"), "Int64")
    return pd.DataFrame({name: pd.Series([], dtype=(times | numbers).get(name, "str")) for name in names})


class Examined:
    """The answer; its properties are what a notebook shows, one after the other."""

    def __init__(
        self, request: Request, trail: Trail, period: Period, found: Found, sample: Sample | None = None
    ) -> None:
        self.request, self.trail, self.period, self.found, self.sample = request, trail, period, found, sample

    @property
    def integrity(self) -> Integrity:
        """What was checked of the trail before anything was read from it."""
        return integrity(self.trail)

    @property
    def population(self) -> Words:
        """How the items were drawn, and how they were judged."""
        return Words(self._procedure(), plain=True)

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """Whether the sources were alive in the period."""
        return coverage(self.trail, self.period.since, self.period.until)

    @property
    def items(self) -> Table:
        """Each item with its verdict, as the report shows them."""
        shown = [column.name for column in self.found.columns]
        return Table(self.found.items[shown])

    @property
    def attributes(self) -> Table:
        """Each item with every attribute's result."""
        return Table(self.found.items[["item", *self.found.attributes, "verdict"]])

    @property
    def exceptions(self) -> pd.DataFrame:
        """The potential exceptions, each with its reason; every column an item has."""
        return self.found.items[~self.found.items["verdict"].isin(TESTED)].reset_index(drop=True)

    @property
    def noted(self) -> Table:
        """The potential exceptions as the report shows them."""
        return Table(self.exceptions[[column.name for column in self.found.noted]])

    @property
    def counts(self) -> dict[str, int]:
        """Verdict -> items."""
        counted = self.found.items["verdict"].value_counts()
        return {name: int(counted.get(name, 0)) for name in (PASS, *self.found.attributes, NOT_TESTABLE)}

    @cached_property
    def statement(self) -> Statement:
        """How the population was drawn, for whoever asks about its completeness and accuracy."""
        return state(
            self.trail,
            self.period,
            query=self.found.query,
            actions=self.found.actions,
            read=self.found.read,
            items=_with_events(self.found.items),
        )

    @cached_property
    def relevant_sources(self) -> list[str]:
        """The sources that record such items; where none ever did, all that are in the period."""
        return sources_that_record(self.trail, self.found.actions) or self.coverage["source"].tolist()

    @property
    def picture(self) -> Picture | None:
        """What says more than a table: the module's own picture, else the items in time, one lane a verdict."""
        if self.found.picture is not None:
            return self.found.picture
        items = _with_events(self.found.items)
        if items.empty:
            return None
        present = set(items["verdict"])
        lanes = [
            (
                name.replace("_", " "),
                items.loc[items["verdict"] == name, "occurred_at"].tolist(),
                {PASS: BLUE, NOT_TESTABLE: GREY}.get(name, VERMILION),
            )
            for name in (PASS, *self.found.attributes, NOT_TESTABLE)
            if name in present
        ]
        first, last = (parse_time(text) for text in self.trail.recorded)
        span = to_datetime(self.period.since or first), to_datetime(self.period.until or last)
        silent = self.coverage[self.coverage["longest_silence_seconds"] * 1_000_000 > SILENCE]
        gaps = list(zip(silent["silent_from"].tolist(), silent["silent_until"].tolist(), strict=True))
        title = f"{self.request.several.capitalize()} by verdict (UTC; grey: a source was silent)"
        return timeline(lanes, span=span, silences=gaps, title=title)

    @cached_property
    def headline(self) -> str:
        """The answer in one sentence."""
        number, exceptions = len(self.found.items), len(self.exceptions)
        if not number:
            if set(self.relevant_sources) & set(self.coverage["source"]):
                return f"No {self.request.one} was recorded in the period; the operation is not testable."
            return f"Not answerable: no source that records {self.request.several} was alive in the period."
        untested = self.counts[NOT_TESTABLE]
        rest = f", {untested:,} could not be tested fully" if untested else ""
        were, are = ("was", "is a potential exception") if number == 1 else ("were", "are potential exceptions")
        noted = "1 is a potential exception" if exceptions == 1 else f"{exceptions:,} {are}"
        return (
            f"{many(number, self.request.one, self.request.several)} {were} found: {self.counts[PASS]:,} passed every "
            f"attribute, {noted}{rest}."
        )

    @cached_property
    def responses(self) -> Responses | None:
        """What management says to the items, where a list `responses` is attached; it changes no verdict."""
        return responses_to(self.found.items)

    @property
    def conclusion(self) -> Words:
        """Facts in plain words."""
        return Words([self.headline, *self._conclusion()])

    def _conclusion(self) -> list[str]:
        told = [
            f"{attribute.replace('_', ' ')}: not met by {many(number, self.request.one, self.request.several)}."
            for attribute, number in self.counts.items()
            if number and attribute not in TESTED
        ]
        if 0 < len(self.exceptions) <= MAX_ROWS_TOLD:
            told += [f"{row['item']}: {row['reason']}" for row in self.exceptions.to_dict("records")]
        told = [*self.found.told, *told, *self._answered(), *self._reach()]
        return [*told, *alive_sentences(self.coverage, self.relevant_sources)]

    def _answered(self) -> list[str]:
        return self.responses.sentences() if self.responses else []

    def _reach(self) -> list[str]:
        """Where the trail does not reach over the whole period."""
        first, last = format_time(self.trail.history.seals.begins), self.trail.recorded[1]
        told = []
        if self.period.since is not None and parse_time(first) > self.period.since:
            told.append(f"The trail begins at {first}, after the period does: what came before is not in it.")
        if self.period.until is not None and parse_time(last) < self.period.until:
            told.append(f"The trail ends at {last}, before the period does: what came after is not in it.")
        return told

    def _procedure(self) -> list[str]:
        sampled = self.sample.sentences() if self.sample else []
        return [*self.found.procedure, *self.statement.sentences, *sampled]

    def answer(self) -> Answer:
        """Everything a packet holds of it."""
        found, items = self.found, self.found.items
        events = _with_events(items)
        refused = self.statement.refused
        tables = {
            **found.tables,
            f"{found.kind}s": items,
            "exceptions": self.exceptions,
            "refused": refused,
            "sources": self.coverage,
        }
        tables |= {"sample": self.sample.items} if self.sample and self.sample.rule.method != "whole" else {}
        tables |= {RESPONSES: self.responses.table} if self.responses else {}
        placed = [
            frame for frame in (events, refused, *found.tables.values()) if {"sequence", "row"} <= set(frame.columns)
        ]
        figure, said = self.picture, [self.responses.section()] if self.responses else []
        return Answer(
            request=self.request.name,
            title=self.request.title,
            question=found.question,
            criteria=self.request.criteria,
            references=self.request.references,
            parameters=found.parameters | {"tz": self.period.tz},
            period=self.period,
            headline=self.headline,
            conclusion=self._conclusion(),
            procedure=self._procedure(),
            limits=[*self.integrity.limits(), *found.limits],
            population={
                "actions": list(found.actions),
                "digest": population_digest(items),  # recorded before a sample is drawn, it cannot be chosen after
                "events": len(events[["source", "event_id"]].drop_duplicates()),
                "integrity": self.integrity.statement(),
                "items": len(items),
                "kind": found.kind,
                "statement": self.statement.facts,
                "verdicts": self.counts,
            }
            | ({"sample": self.sample.facts()} if self.sample else {}),
            exceptions=len(self.exceptions),
            tables=tables,
            figures={"picture": figure.svg} if figure else {},
            rows=rows_of(*(frame.dropna(subset=["sequence", "row"]) for frame in placed)),
            page=found.page and Page(found.page.tiles, [*found.page.sections, *said]),
            listing=None if found.page else self._listing(said),
        )

    def _listing(self, said: list[Section]) -> Listing:
        attributes = [Attribute(name, meaning) for name, meaning in self.found.attributes.items()]
        sections = [*said, *self.found.sections]
        return Listing(items=self.found.columns, exceptions=self.found.noted, attributes=attributes, sections=sections)

    def submit(self) -> None:
        """Hand the answer to the packet builder, where one is waiting."""
        self.answer().submit()


def chosen(actions: Sequence[str], selection: Selection) -> dict[str, Any]:
    """How items were drawn: the query, their actions, the batches read; for `Found(**chosen(...))`."""
    return {"actions": tuple(actions), "query": selection.filter.describe(), "read": len(selection.seals)}


def drawn(trail: Trail, kinds: Sequence[str], period: Period) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The items of several kinds (see `population.draw`) by (sequence, row), and how they were drawn, for `Found`.

    A kind that the catalogue in force does not know adds nothing. Columns and types are the same where there is none.
    """
    since, until = (None if moment is None else to_datetime(moment) for moment in (period.since, period.until))
    populations = [draw(trail, kind, since=since, until=until) for kind in sorted(set(kinds))]
    frames = [population.items for population in populations if len(population.items)]
    items = pd.concat(frames, ignore_index=True) if frames else _nothing_drawn()
    actions = tuple(sorted(action for population in populations for action in population.actions))
    asked = Filter(actions=actions, outcomes=("success",), since=period.since, until=period.until)
    items = items.sort_values(["sequence", "row"], kind="stable", ignore_index=True)
    return items, chosen(actions, Selection(trail, asked))


def _nothing_drawn() -> pd.DataFrame:
    empty = empty_items(*(name for name in COLUMNS if name not in ("item", *PLACE)))
    moment, number = "datetime64[us, UTC]", "int64"
    types: Any = {"emergency": "bool", "uses": "Int64", "sequence": number, "row": number}
    return empty.astype(types | dict.fromkeys(("valid_from", "valid_until"), moment))[COLUMNS]


def _with_events(items: pd.DataFrame) -> pd.DataFrame:
    return items[items["event_id"].notna() & (items["event_id"] != "")]


class Words:
    """Sentences, shown as a list; the first stands out unless they are `plain`."""

    def __init__(self, sentences: list[str], *, plain: bool = False) -> None:
        self.sentences = sentences
        self._plain = plain

    def __repr__(self) -> str:
        return "\n".join(self.sentences)

    def _repr_html_(self) -> str:
        first, rest = ([], self.sentences) if self._plain else (self.sentences[:1], self.sentences[1:])
        strong = "".join(f"<p><strong>{escape(sentence)}</strong></p>" for sentence in first)
        return strong + "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in rest) + "</ul>"
