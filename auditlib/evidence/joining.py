"""Answers to one question over several trails, put together: the answer that a packet over them holds.

    joined([("acme.example/audit", answer), ("acme.example/cloud", other)])

Each trail was asked by itself. Tables are joined with a first column `trail`; numbers of the whole are sums; what is
true of one trail alone names it, and what all of them say is said once. Ids are unique within a trail only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from auditlib.errors import MalformedError
from auditlib.evidence.answer import Answer, Period, many
from auditlib.evidence.joined_page import TRAIL, figure_of, listing_of, page_of, said_of
from auditlib.sampling import Rule, Sample, draw_sample, population_digest

LIMIT = (
    "Each trail was asked by itself: what requests, approves or takes back in one trail is not looked for in another, "
    "only in the item's own trail and in what was attached."
)
KEYS = (
    "Ids are unique within a trail alone: in the keys that make the population's digest, and by which a sample "
    "is drawn, an item's id has its trail and a space before it."
)
LISTED = "Somebody or something that stands on an attached list and in no record is an item of each trail."


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
        conclusion=[*said_of({origin: answer.conclusion for origin, answer in answers.items()}), *strange],
        procedure=[
            *said_of({origin: answer.procedure for origin, answer in answers.items()}),
            *(sample.sentences() if sample else []),
            *([KEYS] if "digest" in first.population else []),
        ],
        limits=[
            LIMIT,
            *([LISTED] if outside else []),
            *said_of({origin: answer.limits for origin, answer in answers.items()}),
        ],
        population=_population({origin: answer.population for origin, answer in answers.items()})
        | ({"digest": population_digest(_qualified(items))} if "digest" in first.population else {})
        | ({"sample": sample.facts()} if sample else {}),
        exceptions=sum(answer.exceptions for answer in answers.values()),
        tables=tables,
        figures={
            figure_of(name, origin): svg for origin, answer in answers.items() for name, svg in answer.figures.items()
        },
        rows=set(),
        rows_by_trail={origin: answer.rows for origin, answer in answers.items()},
        every_seal=any(answer.every_seal for answer in answers.values()),
        page=page_of(answers),
        listing=listing_of(answers),
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
