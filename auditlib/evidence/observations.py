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
from auditlib.findings import duration
from auditlib.formats.event import source_name
from auditlib.formats.seal import Seal, Source
from auditlib.formats.times import SECOND, from_datetime, parse_time
from auditlib.pipeline import AHEAD, HEARTBEAT, LATE, OWN, REFUSING, SILENCE, UNPACED
from auditlib.scan import in_utc
from auditlib.trail import Trail

Place = tuple[int, int]  # (sequence, row) of a record

COLUMNS = [
    *("item", "verdict", "what", "judged", "began_at", "ended_at", "events", "seconds", "numbers", "reason"),
    *("event_id", "source", "occurred_at", "recorded_at", "sequence", "row"),
]
RECORDS = ["item", "shows", "event_id", "source", "occurred_at", "recorded_at", "sequence", "row"]

_UNPACED = " OR ".join(f"starts_with(source, '{prefix}')" for prefix in UNPACED)
_AT = "epoch_us({})".format
_ORDER = "recorded_at, sequence, row"
_ENDS = ", ".join(
    f"{end}({column} ORDER BY {_ORDER}) AS {end}_{column}"
    for end in ("first", "last")
    for column in ("sequence", "row")
)
_NEXT = ", ".join(f"lead({column}) OVER w AS next_{column}" for column in ("recorded_at", "sequence", "row"))
_PERIOD = "recorded_at >= make_timestamptz($since) AND recorded_at < make_timestamptz($until)"
_CASE = (
    "what, judged, began_at, ended_at, events, micros, low, high, first_sequence, first_row, last_sequence, last_row"
)
_OVERLAPS = "began_at < make_timestamptz($until) AND coalesce(ended_at, began_at) >= make_timestamptz($since)"

# Every statement gives _CASE (judged: a source, or its name), and whether a silence can be told from quiet (beats).
_SILENCES = f"""
    , named AS (SELECT split_part(source, '/', 1) AS judged, recorded_at, sequence, row, action FROM batches
                WHERE NOT ({_UNPACED})),
    paced AS (SELECT *, count_if(action = '{HEARTBEAT}') OVER (PARTITION BY judged) > 0 AS beats FROM named),
    pairs AS (SELECT *, {_NEXT} FROM paced WINDOW w AS (PARTITION BY judged ORDER BY {_ORDER})),
    cases AS (SELECT 'silence' AS what, judged, beats, recorded_at AS began_at, next_recorded_at AS ended_at,
                     0 AS events, coalesce({_AT("next_recorded_at")}, $end) - {_AT("recorded_at")} AS micros,
                     NULL AS low, NULL AS high, sequence AS first_sequence, row AS first_row,
                     next_sequence AS last_sequence, next_row AS last_row FROM pairs)
    SELECT beats, {_CASE} FROM cases
    WHERE micros > {SILENCE} AND began_at < make_timestamptz($until) AND coalesce({_AT("ended_at")}, $end) > $since
    ORDER BY judged, began_at"""  # noqa: S608 - constants of this module alone

_SKEWED = """
    SELECT TRUE AS beats, '{what}' AS what, source AS judged, min(recorded_at) AS began_at,
           max(recorded_at) AS ended_at, count(*) AS events, max({micros}) AS micros, NULL AS low, NULL AS high, {ends}
    FROM batches WHERE {micros} > {limit} AND {period} AND {sources} GROUP BY source ORDER BY source"""

_AHEAD = _SKEWED.format(
    what="clock_ahead",
    micros=f"({_AT('occurred_at')} - {_AT('recorded_at')})",
    limit=AHEAD,
    ends=_ENDS,
    period=_PERIOD,
    sources="TRUE",
)
_LATE = _SKEWED.format(
    what="late_arrival",
    micros=f"({_AT('recorded_at')} - {_AT('occurred_at')})",
    limit=LATE,
    ends=_ENDS,
    period=_PERIOD,
    sources=f"NOT ({_UNPACED})",
)
# What was refused arrived: its number stands in what tells of the refusal.
_LOST = f"""
    , numbered AS (SELECT source, source_seq, recorded_at, sequence, row FROM batches UNION ALL
                   SELECT context ->> '$.source', try_cast(context ->> '$.source_seq' AS BIGINT), recorded_at,
                          sequence, row
                   FROM batches WHERE action IN {REFUSING} AND starts_with(source, '{OWN}')),
    pairs AS (SELECT source AS judged, source_seq AS n, recorded_at, sequence, row, lag(source_seq) OVER w AS before,
                       lag(recorded_at) OVER w AS began_at, lag(sequence) OVER w AS first_sequence,
                       lag(row) OVER w AS first_row FROM numbered WHERE source_seq IS NOT NULL
                WINDOW w AS (PARTITION BY source ORDER BY source_seq, sequence, row)),
    cases AS (SELECT 'lost_numbers' AS what, judged, coalesce(began_at, recorded_at) AS began_at,
                     recorded_at AS ended_at, n - coalesce(before, 0) - 1 AS events, 0 AS micros,
                     coalesce(before, 0) + 1 AS low, n - 1 AS high,
                     coalesce(first_sequence, sequence) AS first_sequence, coalesce(first_row, row) AS first_row,
                     sequence AS last_sequence, row AS last_row FROM pairs WHERE n - coalesce(before, 0) > 1)
    SELECT TRUE AS beats, {_CASE} FROM cases WHERE {_OVERLAPS} ORDER BY judged, low"""  # noqa: S608

_REPEATED = f"""
    , counted AS (SELECT *, row_number() OVER (PARTITION BY source, source_seq ORDER BY sequence, row) AS times
                  FROM batches WHERE source_seq IS NOT NULL)
    SELECT TRUE AS beats, 'repeated_numbers' AS what, source AS judged, min(recorded_at) AS began_at,
           max(recorded_at) AS ended_at, count(*) AS events, 0 AS micros, min(source_seq) AS low,
           max(source_seq) AS high, {_ENDS}
    FROM counted WHERE times > 1 AND {_PERIOD} GROUP BY source ORDER BY source"""  # noqa: S608

_RECORDS = """
    , wanted AS (SELECT unnest($sequences) AS sequence, unnest($rows) AS row)
    SELECT sequence, row, event_id, source, occurred_at, recorded_at
    FROM batches JOIN wanted USING (sequence, row) ORDER BY sequence, row"""

_DAYS = f"""
    SELECT split_part(source, '/', 1) AS source, date_trunc('day', recorded_at) AS day, count(*) AS events
    FROM batches WHERE {_PERIOD} GROUP BY ALL ORDER BY source, day"""  # noqa: S608


MAX_LANES = 24  # source names drawn; the rest stands in the table
MAX_BARS = 400  # bars of one source drawn; past that, one stands for several days

_SIGNS = {"silence": "v", "clock_ahead": "D", "late_arrival": "o", "lost_numbers": "X", "repeated_numbers": "s"}
_ROLES = {"silence": ("before", "after"), "lost_numbers": ("before", "after")}  # else: the first and the last of them


def events_per_day(trail: Trail, seals: Sequence[Seal], since: int, until: int) -> pd.DataFrame:
    """How many records of each source name were recorded on each day (UTC) of the period: source, day, events."""
    found = _ask(trail, seals, _DAYS, {"since": since, "until": until})
    return pd.DataFrame(found, columns=["source", "day", "events"])


def observe(
    trail: Trail, seals: Sequence[Seal], unread: Sequence[Seal], since: int, until: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(a row a case, columns COLUMNS; the records that show it, columns RECORDS), by when it was recorded.

    `seals` are those whose batches can be read; what one of the `unread` may explain is no case.
    """
    period = {"since": since, "until": until}
    found = _ask(trail, seals, _SILENCES, {**period, "end": parse_time(trail.recorded[1])})
    for statement in (_AHEAD, _LATE, _LOST, _REPEATED):
        found += _ask(trail, seals, statement, period)
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


def _ask(trail: Trail, seals: Sequence[Seal], statement: str, values: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = in_utc(trail.run(seals, statement, values).to_arrow_table()).to_pylist()
    return found


def _explained(case: dict[str, Any], unread: Sequence[Seal]) -> bool:
    """Whether a batch that cannot be read may hold what is missing."""
    return any(_may_hold(case, seal, name, source) for seal in unread for name, source in seal.sources.items())


def _may_hold(case: dict[str, Any], seal: Seal, name: str, source: Source) -> bool:
    if case["what"] == "silence" and source_name(name) == case["judged"]:
        first, last = map(parse_time, seal.recorded)
        began, ended = case["began_at"], case["ended_at"]
        return bool(last >= from_datetime(began) and (ended is None or first <= from_datetime(ended)))
    if case["what"] == "lost_numbers" and name == case["judged"]:
        return bool((source.first_seq or 0) <= case["high"] and (source.last_seq or 0) >= case["low"])
    return False


def _places(case: dict[str, Any]) -> dict[str, Place]:
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
    found = _ask(trail, [seal for seal in seals if seal.sequence in wanted], _RECORDS, values) if places else []
    return {(fact["sequence"], fact["row"]): fact for fact in found}


def _stated(case: dict[str, Any]) -> dict[str, Any]:
    seconds = case["micros"] / SECOND
    stated = {name: case[name] for name in ("what", "judged", "began_at", "ended_at", "events")}
    return stated | {"seconds": seconds, "verdict": case["what"] if case["beats"] else NOT_TESTABLE}


def _numbers(case: dict[str, Any]) -> str:
    low, high = case["low"], case["high"]
    return "" if low is None else str(low) if low == high else f"{low} to {high}"


def _reason(case: dict[str, Any]) -> str:
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
