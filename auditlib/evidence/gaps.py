"""What is missing between records: silences of sources, numbers that never arrived, numbers that stand twice.

    silences(trail, seals, {"since": ..., "until": ...}, end)       microseconds since 1970 UTC; where the trail ends
    lost_numbers(trail, seals, numbers_of(trail, seals), {"since": ..., "until": ...})

Each gives cases as `observations` tells them: what, judged (a source, or its name), beats (whether a silence can be
told from quiet), began_at, ended_at, events, micros, low, high, and the places of the records that show it: the
first_sequence, first_row, last_sequence and last_row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from auditlib.evidence.series import Numbers, series
from auditlib.formats.seal import Seal
from auditlib.formats.times import from_datetime
from auditlib.pipeline import HEARTBEAT, OWN, REFUSING, SILENCE, UNPACED
from auditlib.scan import in_utc
from auditlib.trail import Trail

Place = tuple[int, int]  # (sequence, row) of a record
Record = tuple[int, datetime, int, int]  # what is judged of one (a time, a number), recorded_at, and its place
Case = dict[str, Any]

UNPACED_SOURCES = " OR ".join(f"starts_with(source, '{prefix}')" for prefix in UNPACED)
AT = "epoch_us({})".format
_ORDER = "recorded_at, sequence, row"
ENDS = ", ".join(
    f"{end}({column} ORDER BY {_ORDER}) AS {end}_{column}"
    for end in ("first", "last")
    for column in ("sequence", "row")
)
PERIOD = "recorded_at >= make_timestamptz($since) AND recorded_at < make_timestamptz($until)"

# Two records further apart than SILENCE never lie in the same span of that length, so that only its ends matter.
_SILENCES = f"""
    , spans AS (SELECT split_part(source, '/', 1) AS judged, min(recorded_at) AS first, max(recorded_at) AS last,
                       count_if(action = '{HEARTBEAT}') AS beats
                FROM batches WHERE NOT ({UNPACED_SOURCES}) GROUP BY judged, {AT("recorded_at")} // {SILENCE}),
    pairs AS (SELECT judged, sum(beats) OVER (PARTITION BY judged) > 0 AS beats, last AS began_at,
                     lead(first) OVER (PARTITION BY judged ORDER BY first) AS ended_at FROM spans)
    SELECT *, coalesce({AT("ended_at")}, $end) - {AT("began_at")} AS micros FROM pairs
    WHERE micros > {SILENCE} AND began_at < make_timestamptz($until) AND coalesce({AT("ended_at")}, $end) > $since
    ORDER BY judged, began_at"""  # noqa: S608 - constants of this module alone

_NUMBERS = "SELECT source, source_seq FROM batches WHERE source_seq IS NOT NULL"
# What was refused arrived: its number stands in what tells of the refusal.
_REFUSED = f"""
    , told AS (SELECT context ->> '$.source' AS judged, try_cast(context ->> '$.source_seq' AS BIGINT) AS n,
                      recorded_at, sequence, row
               FROM batches WHERE action IN {REFUSING} AND starts_with(source, '{OWN}'))
    SELECT * FROM told WHERE judged IS NOT NULL AND n IS NOT NULL"""  # noqa: S608
_WANTED = ", wanted AS (SELECT unnest($names) AS judged, unnest($numbers) AS n)"
_AT_TIMES = f"""{_WANTED}
    SELECT judged, n, recorded_at, sequence, row
    FROM (SELECT split_part(source, '/', 1) AS judged, {AT("recorded_at")} AS n, recorded_at, sequence, row
          FROM batches WHERE NOT ({UNPACED_SOURCES})) JOIN wanted USING (judged, n)"""  # noqa: S608
_AT_NUMBERS = f"""{_WANTED}
    SELECT judged, n, recorded_at, sequence, row FROM batches JOIN wanted ON source = judged AND source_seq = n"""  # noqa: S608

_REPEATED = f"""{_WANTED},
    counted AS (SELECT *, row_number() OVER (PARTITION BY source, source_seq ORDER BY sequence, row) AS times
                FROM (SELECT source, source_seq, recorded_at, sequence, row FROM batches
                      JOIN wanted ON source = judged AND source_seq = n))
    SELECT TRUE AS beats, 'repeated_numbers' AS what, source AS judged, min(recorded_at) AS began_at,
           max(recorded_at) AS ended_at, count(*) AS events, 0 AS micros, min(source_seq) AS low,
           max(source_seq) AS high, {ENDS}
    FROM counted WHERE times > 1 AND {PERIOD} GROUP BY source ORDER BY source"""  # noqa: S608


def silences(trail: Trail, seals: Sequence[Seal], period: Mapping[str, int], end: int) -> list[Case]:
    """Each with the last record before it and the first after it."""
    cases = ask(trail, seals, _SILENCES, {**period, "end": end})
    ends = [(case["judged"], case[end]) for case in cases for end in ("began_at", "ended_at") if case[end]]
    stand = _standing(trail, seals, _AT_TIMES, {(judged, from_datetime(at)) for judged, at in ends})
    found = []
    for case in cases:
        judged, began, ended = case["judged"], case["began_at"], case["ended_at"]
        before = stand[judged, from_datetime(began)][-1]
        after = stand[judged, from_datetime(ended)][0] if ended else None
        found.append(case | {"what": "silence", "events": 0, "low": None, "high": None} | _between(before, after))
    return found


def numbers_of(trail: Trail, seals: Sequence[Seal]) -> dict[str, Numbers]:
    """The sequence numbers of each source, ascending."""
    return series(trail, seals, _NUMBERS, {})


def lost_numbers(
    trail: Trail, seals: Sequence[Seal], numbers: Mapping[str, Numbers], period: Mapping[str, int]
) -> list[Case]:
    """Every run of numbers that never arrived, with the record of the number before it and of that after it."""
    refused: dict[str, list[Record]] = defaultdict(list)
    for told in ask(trail, seals, _REFUSED, {}):
        refused[told["judged"]].append(_record(told))
    gaps = []
    for judged in sorted({*numbers, *refused}):
        arrived = numbers.get(judged, np.empty(0, np.int64))
        if judged in refused:
            arrived = np.sort(np.concatenate((arrived, [number for number, *_ in refused[judged]])))
        before = np.concatenate(([min(0, arrived[0])], arrived[:-1]))
        gaps += [(judged, int(before[place]), int(arrived[place])) for place in np.flatnonzero(arrived - before > 1)]
    stand = _standing(trail, seals, _AT_NUMBERS, {(judged, n) for judged, low, high in gaps for n in (low, high)})
    for judged, records in refused.items():
        for record in records:
            stand[judged, record[0]].append(record)
    found = []
    for judged, low, high in gaps:
        following = min(stand[judged, high], key=_place)
        preceding = max(stand.get((judged, low)) or [following], key=_place)  # none came before the first
        began, ended = preceding[1], following[1]
        if from_datetime(began) < period["until"] and from_datetime(ended) >= period["since"]:
            missing = {"events": high - low - 1, "low": low + 1, "high": high - 1, "micros": 0, "beats": True}
            case = {"what": "lost_numbers", "judged": judged, "began_at": began, "ended_at": ended}
            found.append(case | missing | _between(preceding, following))
    return found


def repeated_numbers(
    trail: Trail, seals: Sequence[Seal], numbers: Mapping[str, Numbers], period: Mapping[str, int]
) -> list[Case]:
    """Of each source's `numbers` those that stand more than once, all of them one case."""
    twice = [(judged, n) for judged, held in numbers.items() for n in np.unique(held[1:][held[1:] == held[:-1]])]
    if not twice:
        return []
    asked = {"names": [judged for judged, _ in twice], "numbers": [int(n) for _, n in twice]}
    return ask(trail, seals, _REPEATED, {**period, **asked})


def _standing(
    trail: Trail, seals: Sequence[Seal], statement: str, wanted: set[tuple[str, int]]
) -> dict[tuple[str, int], list[Record]]:
    """The records that stand at each (judged, number), by their places."""
    stand: dict[tuple[str, int], list[Record]] = defaultdict(list)
    if wanted:
        asked = sorted(wanted)
        values = {"names": [judged for judged, _ in asked], "numbers": [number for _, number in asked]}
        for told in ask(trail, seals, f"{statement} ORDER BY sequence, row", values):
            stand[told["judged"], told["n"]].append(_record(told))
    return stand


def _record(told: dict[str, Any]) -> Record:
    return told["n"], told["recorded_at"], told["sequence"], told["row"]


def _place(record: Record) -> Place:
    return record[2:]


def _between(before: Record, after: Record | None) -> dict[str, int | None]:
    """Where the records on both sides of a case stand."""
    (first_sequence, first_row), (last_sequence, last_row) = _place(before), _place(after) if after else (None, None)
    return {
        "first_sequence": first_sequence,
        "first_row": first_row,
        "last_sequence": last_sequence,
        "last_row": last_row,
    }


def ask(trail: Trail, seals: Sequence[Seal], statement: str, values: Any) -> list[Case]:
    """The rows that a statement gives, as dictionaries."""
    found: list[Case] = in_utc(trail.run(seals, statement, values).to_arrow_table()).to_pylist()
    return found
