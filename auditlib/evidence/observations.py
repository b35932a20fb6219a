"""What the records themselves say of how they were recorded (check 9), each beside the records that show it.

    silence            no record of a source, by the name before the slash, for longer than SILENCE
    clock_ahead        occurred_at past recorded_at by more than AHEAD
    late_arrival       recorded_at past occurred_at by more than LATE
    lost_numbers       a run of source_seq that never arrived
    repeated_numbers   a source_seq that stands more than once

The limits are those of `auditlib.pipeline`; here every case is a row, and a source that fell silent for good is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil
from typing import Any

import pandas as pd

from auditlib.approvals import NOT_TESTABLE
from auditlib.evidence.charts import Mark, Picture, strips
from auditlib.evidence.gaps import (
    AT,
    ENDS,
    PERIOD,
    UNPACED_SOURCES,
    Case,
    Place,
    ask,
    lost_numbers,
    numbers_of,
    repeated_numbers,
    silences,
)
from auditlib.findings import duration
from auditlib.formats.event import source_name
from auditlib.formats.seal import Seal, Source
from auditlib.formats.times import SECOND, from_datetime, parse_time
from auditlib.pipeline import AHEAD, LATE
from auditlib.trail import Trail

COLUMNS = [
    *("item", "verdict", "what", "judged", "began_at", "ended_at", "events", "seconds", "numbers", "reason"),
    *("event_id", "source", "occurred_at", "recorded_at", "sequence", "row"),
]
RECORDS = ["item", "shows", "event_id", "source", "occurred_at", "recorded_at", "sequence", "row"]

_SKEWED = """
    SELECT TRUE AS beats, '{what}' AS what, source AS judged, min(recorded_at) AS began_at,
           max(recorded_at) AS ended_at, count(*) AS events, max({micros}) AS micros, NULL AS low, NULL AS high, {ends}
    FROM batches WHERE {micros} > {limit} AND {period} AND {sources} GROUP BY source ORDER BY source"""

_AHEAD = _SKEWED.format(
    what="clock_ahead",
    micros=f"({AT('occurred_at')} - {AT('recorded_at')})",
    limit=AHEAD,
    ends=ENDS,
    period=PERIOD,
    sources="TRUE",
)
_LATE = _SKEWED.format(
    what="late_arrival",
    micros=f"({AT('recorded_at')} - {AT('occurred_at')})",
    limit=LATE,
    ends=ENDS,
    period=PERIOD,
    sources=f"NOT ({UNPACED_SOURCES})",
)
_RECORDS = """
    , wanted AS (SELECT unnest($sequences) AS sequence, unnest($rows) AS row)
    SELECT sequence, row, event_id, source, occurred_at, recorded_at
    FROM batches JOIN wanted USING (sequence, row) ORDER BY sequence, row"""

_DAYS = f"""
    SELECT split_part(source, '/', 1) AS source, date_trunc('day', recorded_at) AS day, count(*) AS events
    FROM batches WHERE {PERIOD} GROUP BY ALL ORDER BY source, day"""  # noqa: S608


MAX_LANES = 24  # source names drawn; the rest stands in the table
MAX_BARS = 400  # bars of one source drawn; past that, one stands for several days

_SIGNS = {"silence": "v", "clock_ahead": "D", "late_arrival": "o", "lost_numbers": "X", "repeated_numbers": "s"}
_ROLES = {"silence": ("before", "after"), "lost_numbers": ("before", "after")}  # else: the first and the last of them


def events_per_day(trail: Trail, seals: Sequence[Seal], since: int, until: int) -> pd.DataFrame:
    """How many records of each source name were recorded on each day (UTC) of the period: source, day, events."""
    found = ask(trail, seals, _DAYS, {"since": since, "until": until})
    return pd.DataFrame(found, columns=["source", "day", "events"])


def observe(
    trail: Trail, seals: Sequence[Seal], unread: Sequence[Seal], since: int, until: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(a row a case, columns COLUMNS; the records that show it, columns RECORDS), by when it was recorded.

    `seals` are those whose batches can be read; what one of the `unread` may explain is no case.
    """
    period = {"since": since, "until": until}
    found = silences(trail, seals, period, parse_time(trail.recorded[1]))
    for statement in (_AHEAD, _LATE):
        found += ask(trail, seals, statement, period)
    numbers = numbers_of(trail, seals)
    found += lost_numbers(trail, seals, numbers, period) + repeated_numbers(trail, seals, numbers, period)
    cases = [case for case in found if not _explained(case, unread)]
    facts = _facts(trail, seals, {place for case in cases for place in _places(case).values()})
    seen: Counter[str] = Counter()
    rows, records = [], []
    for case in cases:
        seen[case["what"]] += 1
        item, places = f"{case['what']}-{seen[case['what']]}", _places(case)
        shown = places.get("after") or places.get("first") or places["before"]
        rows.append({"item": item, "reason": _reason(case), "numbers": _numbers(case), **_stated(case), **facts[shown]})
        records += [{"item": item, "shows": role, **facts[place]} for role, place in places.items()]
    return pd.DataFrame(rows, columns=COLUMNS), pd.DataFrame(records, columns=RECORDS)


def days_picture(days: pd.DataFrame, cases: pd.DataFrame, since: datetime, until: datetime) -> Picture:
    """Records a day of each source name, and every case marked in its strip."""
    noted = Counter(source_name(judged) for judged in cases["judged"])
    totals = days.groupby("source")["events"].sum()
    names = sorted(sorted(totals.index, key=lambda name: (-noted[name], -totals[name], name))[:MAX_LANES])
    width = max(1, ceil((until - since).days / MAX_BARS))  # days a bar
    origin, step = days["day"].min(), timedelta(days=width)
    lanes = []
    for name in names:
        part = days[days["source"] == name]
        bars = part.groupby(origin + (part["day"] - origin) // step * step)["events"].sum()
        lanes.append((name, bars.index.tolist(), bars.tolist()))
    marks = [
        Mark(
            names.index(source_name(case["judged"])),
            case["what"].replace("_", " "),
            _SIGNS[case["what"]],
            max(since, case["began_at"]),
            until if pd.isna(case["ended_at"]) else min(until, case["ended_at"]),
        )
        for case in cases.to_dict("records")
        if source_name(case["judged"]) in names
    ]
    every = "day" if width == 1 else f"{width} days"
    more = f"; {len(names)} of {len(totals)} sources" if len(totals) > len(names) else ""
    title = f"Records each {every} by source, and what was noted (UTC{more})"
    return strips(lanes, marks, span=(since, until), title=title, days=width)


def _explained(case: Case, unread: Sequence[Seal]) -> bool:
    """Whether a batch that cannot be read may hold what is missing."""
    return any(_may_hold(case, seal, name, source) for seal in unread for name, source in seal.sources.items())


def _may_hold(case: Case, seal: Seal, name: str, source: Source) -> bool:
    if case["what"] == "silence" and source_name(name) == case["judged"]:
        first, last = map(parse_time, seal.recorded)
        began, ended = case["began_at"], case["ended_at"]
        return bool(last >= from_datetime(began) and (ended is None or first <= from_datetime(ended)))
    if case["what"] == "lost_numbers" and name == case["judged"]:
        return bool((source.first_seq or 0) <= case["high"] and (source.last_seq or 0) >= case["low"])
    return False


def _places(case: Case) -> dict[str, Place]:
    """The records that show a case, by what they show; one where both are the same."""
    early, late = _ROLES.get(case["what"], ("first", "last"))
    first, last = ((case[f"{end}_sequence"], case[f"{end}_row"]) for end in ("first", "last"))
    if last[0] is None:
        return {early: first}
    if first == last:
        return {late if late == "after" else early: last}
    return {early: first, late: last}


def _facts(trail: Trail, seals: Sequence[Seal], places: set[Place]) -> dict[Place, dict[str, Any]]:
    values = {"sequences": [sequence for sequence, _ in sorted(places)], "rows": [row for _, row in sorted(places)]}
    wanted = {sequence for sequence, _ in places}
    found = ask(trail, [seal for seal in seals if seal.sequence in wanted], _RECORDS, values) if places else []
    return {(fact["sequence"], fact["row"]): fact for fact in found}


def _stated(case: Case) -> dict[str, Any]:
    seconds = case["micros"] / SECOND
    stated = {name: case[name] for name in ("what", "judged", "began_at", "ended_at", "events")}
    return stated | {"seconds": seconds, "verdict": case["what"] if case["beats"] else NOT_TESTABLE}


def _numbers(case: Case) -> str:
    low, high = case["low"], case["high"]
    return "" if low is None else str(low) if low == high else f"{low} to {high}"


def _reason(case: Case) -> str:
    """The case in one sentence."""
    judged, events, length = case["judged"], case["events"], duration(case["micros"])
    if case["what"] == "silence":
        still = " and for as long as the trail goes on" if case["ended_at"] is None else ""
        alike = "" if case["beats"] else "; it sends no heartbeat, so that quiet and broken look alike"
        return f"no record of {judged} for {length}{still}{alike}"
    if case["what"] == "lost_numbers":
        return f"{events:,} sequence number(s) of {judged} never arrived: {_numbers(case)}"
    if case["what"] == "repeated_numbers":
        return f"{events:,} record(s) of {judged} carry a sequence number that stands already"
    if case["what"] == "clock_ahead":
        return f"{events:,} record(s) of {judged} say they occurred up to {length} after they were recorded"
    return f"{events:,} record(s) of {judged} arrived up to {length} after they occurred"
