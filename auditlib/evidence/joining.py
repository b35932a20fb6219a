"""Answers to one question over several trails, put together: the answer that a packet over them holds.

    joined([("acme.example/audit", answer), ("acme.example/cloud", other)])

Each trail was asked by itself. Tables are joined with a first column `trail`; numbers of the whole are sums; what is
true of one trail alone names it, and what all of them say is said once. Ids are unique within a trail only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pandas as pd

from auditlib.errors import MalformedError
from auditlib.evidence.answer import Answer, Column, Listing, Page, Period, Section, Tile, many
from auditlib.sampling import Rule, Sample, draw_sample, population_digest

TRAIL = "trail"  # the column that names an item's trail
LIMIT = (
    "Each trail was asked by itself: what requests, approves or takes back in one trail is not looked for in another, "
    "only in the item's own trail and in what was attached."
)
KEYS = (
    "Ids are unique within a trail alone: in the keys that make the population's digest, and by which a sample "
    "is drawn, an item's id has its trail and a space before it."
)
LISTED = "Somebody or something that stands on an attached list and in no record is an item of each trail."
_COLUMN = Column(TRAIL, "Trail", "code")


def joined(answers: Mapping[str, Answer], rule: Rule | None = None, strange: Sequence[str] = ()) -> Answer:
    """The answers by origin, in the order in which they are shown -> one answer.

    `rule` draws a sample from all items together, in whose keys every item id has its trail before it. `strange` are
    sentences for the conclusion about what was attached and belongs to no trail's items.
    """
    first = next(iter(answers.values()))
    kind = first.population["kind"]
    tables = _tables(answers)
    items = tables[f"{kind}s"]
    sample = None if rule is None else _sample(items, rule, first.request)
    if sample is not None and sample.rule.method != "whole":
        tables["sample"] = _unqualified(sample.items)
    outside = "event_id" in items and (items["event_id"].fillna("") == "").any()
    return Answer(
        request=first.request,
        title=first.title,
        question=f"{first.question} Over {many(len(answers), 'trail')}: {', '.join(answers)}.",
        criteria=first.criteria,
        references=first.references,
        parameters=_each({origin: answer.parameters for origin, answer in answers.items()}),
        period=_period([answer.period for answer in answers.values()]),
        headline=_headline(answers),
        conclusion=[*_said({origin: answer.conclusion for origin, answer in answers.items()}), *strange],
        procedure=[
            *_said({origin: answer.procedure for origin, answer in answers.items()}),
            *(sample.sentences() if sample else []),
            *([KEYS] if "digest" in first.population else []),
        ],
        limits=[
            LIMIT,
            *([LISTED] if outside else []),
            *_said({origin: answer.limits for origin, answer in answers.items()}),
        ],
        population=_population({origin: answer.population for origin, answer in answers.items()})
        | ({"digest": population_digest(_qualified(items))} if "digest" in first.population else {})
        | ({"sample": sample.facts()} if sample else {}),
        exceptions=sum(answer.exceptions for answer in answers.values()),
        tables=tables,
        figures={
            _figure(name, origin): svg for origin, answer in answers.items() for name, svg in answer.figures.items()
        },
        rows=set(),
        rows_by_trail={origin: answer.rows for origin, answer in answers.items()},
        every_seal=any(answer.every_seal for answer in answers.values()),
        page=_page(answers),
        listing=_listing(answers),
    )


def _headline(answers: Mapping[str, Answer]) -> str:
    """The whole in numbers, then each trail's own; where there is no item, why is for each trail to say."""
    first = next(iter(answers.values()))
    number, noted = (sum(numbers) for numbers in zip(*map(_numbers, answers.values()), strict=True))
    tested = f", {many(noted, 'potential exception')}" if noted or first.listing else ""
    told = f"{many(number, first.population['kind'])}{tested} over {many(len(answers), 'trail')}."
    return " ".join(
        [*([told] if number else []), *(f"{origin}: {answer.headline}" for origin, answer in answers.items())]
    )


def _numbers(answer: Answer) -> tuple[int, int]:
    return answer.population["items"], answer.exceptions


def _said(told: Mapping[str, Sequence[str]]) -> list[str]:
    """What each trail says for itself, with its name; then what all of them say, once.

    A sentence with a number in it counts something of one trail, also where another trail counts as much.
    """
    every = [sentence for sentence in next(iter(told.values())) if all(sentence in said for said in told.values())]
    own = [f"{origin}: {sentence}" for origin, said in told.items() for sentence in said if sentence not in every]
    shared = dict.fromkeys(f"Each trail: {said}" if re.search(r"\d", said) else said for said in every)
    return [*own, *shared]


def _each(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """By name what every trail has alike; what they have otherwise by name and trail."""
    found: dict[str, Any] = {}
    for name in sorted({name for stated in values.values() for name in stated}):
        stated = {origin: each.get(name) for origin, each in values.items()}
        same = all(value == next(iter(stated.values())) for value in stated.values())
        found[name] = next(iter(stated.values())) if same else stated
    return found


def _period(periods: Sequence[Period]) -> Period:
    """The period that was asked for; where a trail's own is another, one that holds all of them."""
    since, until = [period.since for period in periods], [period.until for period in periods]
    return Period(
        None if None in since else min(moment for moment in since if moment is not None),
        None if None in until else max(moment for moment in until if moment is not None),
        periods[0].tz,
    )


# --- the population --------------------------------------------------------------------------------------------------


def _population(stated: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers are added up, verdicts one by one; a statement of how items were drawn stands by trail."""
    verdicts: Counter[str] = Counter()
    for each in stated.values():
        verdicts.update(each["verdicts"])
    numbers = {name for each in stated.values() for name, value in each.items() if type(value) is int}
    statements = {origin: each["statement"] for origin, each in stated.items() if "statement" in each}
    return (
        _each(stated)
        | {name: sum(each.get(name, 0) for each in stated.values()) for name in sorted(numbers)}
        | {
            "actions": sorted({action for each in stated.values() for action in each["actions"]}),
            "integrity": _integrity({origin: each["integrity"] for origin, each in stated.items()}),
            "verdicts": dict(verdicts),
        }
        | ({"statement": statements} if statements else {})
    )


def _integrity(stated: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The numbered checks, whose outcome names the trail where it differs."""
    checks = {}
    for number in next(iter(stated.values()))["checks"]:
        each = {origin: one["checks"][number] for origin, one in stated.items()}
        says, done = next(iter(each.values()))["check"], {origin: one["done"] for origin, one in each.items()}
        alike = len(set(done.values())) == 1
        told = next(iter(done.values())) if alike else "; ".join(f"{origin}: {said}" for origin, said in done.items())
        checks[number] = {"check": says, "done": told}
    return {
        "checks": checks,
        "events": sum(one["events"] for one in stated.values()),
        "last_sealed_at": max(one["last_sealed_at"] for one in stated.values()),
    }


# --- tables and the sample -------------------------------------------------------------------------------------------


def _tables(answers: Mapping[str, Answer]) -> dict[str, pd.DataFrame]:
    names = dict.fromkeys(name for answer in answers.values() for name in answer.tables)
    return {
        name: with_trail({origin: answer.tables[name] for origin, answer in answers.items() if name in answer.tables})
        for name in names
    }


def with_trail(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One frame, `trail` first: the rows of each in its own order. Columns keep the type of those that hold values."""
    named = [frame.assign(**{TRAIL: origin})[[TRAIL, *frame.columns]] for origin, frame in frames.items()]
    filled = [frame for frame in named if len(frame)]
    if len(filled) < 2:
        return (filled or named)[0].reset_index(drop=True)
    for name in dict.fromkeys(column for frame in filled for column in frame.columns):
        having = [frame for frame in filled if name in frame.columns]
        types = {str(frame[name].dtype): frame[name].dtype for frame in having if frame[name].notna().any()}
        if len(types) == 1:  # a column without a value has no type of its own
            (kind,) = types.values()
            for place, frame in enumerate(filled):
                if name in frame.columns and frame[name].isna().all() and frame[name].dtype != kind:
                    empty = pd.Series([None] * len(frame), frame.index, dtype=_nullable(kind))
                    filled[place] = frame.assign(**{name: empty})
    return pd.concat(filled, ignore_index=True)


def _nullable(kind: Any) -> Any:
    """A type that has room for no value: that of a column of numbers or of yes and no has none."""
    return {"int64": "Int64", "bool": "boolean"}.get(str(kind), kind)


def _qualified(items: pd.DataFrame) -> pd.DataFrame:
    return items.assign(item=items[TRAIL] + " " + items["item"])


def _unqualified(items: pd.DataFrame) -> pd.DataFrame:
    names = zip(items[TRAIL], items["item"], strict=True)
    return items.assign(item=[item.removeprefix(f"{trail} ") for trail, item in names])


def _sample(items: pd.DataFrame, rule: Rule, request: str) -> Sample:
    """One sample over all trails, as `draw_sample`; a chosen item is written as `TRAIL ITEM`."""
    try:
        return draw_sample(_qualified(items), rule, request=request)
    except MalformedError as error:
        if error.where in ("chosen", "kept"):
            example = next(iter(_qualified(items)["item"]), "TRAIL ITEM")
            error.remedy = f"Write each item's id with its trail before it, like {example!r}. {error.remedy}".strip()
        raise


# --- how it is shown -------------------------------------------------------------------------------------------------


def _figure(name: str, origin: str) -> str:
    return origin if name == "picture" else f"{name} of {origin}"  # `picture` is all that a list of items shows


def _page(answers: Mapping[str, Answer]) -> Page | None:
    pages = {origin: answer.page for origin, answer in answers.items() if answer.page is not None}
    if not pages:
        return None
    tiles = [
        msgspec.structs.replace(tile, words=f"{tile.words}: {origin}")
        for number in range(max(len(page.tiles) for page in pages.values()))
        for origin, page in pages.items()
        for tile in _at(page.tiles, number)
    ]
    return Page(tiles, _sections(answers, {origin: page.sections for origin, page in pages.items()}))


def _at(tiles: Sequence[Tile], number: int) -> Sequence[Tile]:
    return tiles[number : number + 1]


def _listing(answers: Mapping[str, Answer]) -> Listing | None:
    listings = {origin: answer.listing for origin, answer in answers.items() if answer.listing is not None}
    if not listings:
        return None
    every = list(listings.values())
    attributes = {attribute.name: attribute for listing in every for attribute in listing.attributes}
    return Listing(
        items=[_COLUMN, *_columns(listing.items for listing in every)],
        exceptions=[_COLUMN, *_columns(listing.exceptions for listing in every)],
        attributes=list(attributes.values()),
        sections=_sections(answers, {origin: listing.sections for origin, listing in listings.items()}),
    )


def _columns(columns: Iterable[Sequence[Column]]) -> list[Column]:
    return list({column.name: column for some in columns for column in some}.values())


def _sections(answers: Mapping[str, Answer], sections: Mapping[str, Sequence[Section]]) -> list[Section]:
    """Sections of one title become one, its figures one a trail before it, each under its trail's name."""
    found: list[Section] = []
    for title in dict.fromkeys(section.title for some in sections.values() for section in some):
        own = {origin: one for origin, some in sections.items() for one in some if one.title == title}
        found += [
            Section(title=f"{title}: {origin}", figure=_figure(one.figure, origin))
            for origin, one in own.items()
            if one.figure in answers[origin].figures
        ]
        one = next(iter(own.values()))
        if one.table or any(section.sentences for section in own.values()):
            found.append(
                Section(
                    title=title,
                    sentences=_said({origin: section.sentences for origin, section in own.items()}),
                    table=one.table,
                    columns=[_COLUMN, *_columns(section.columns for section in own.values())] if one.table else [],
                    empty=one.empty,
                )
            )
    return found
