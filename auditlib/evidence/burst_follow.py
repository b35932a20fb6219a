"""What came after a burst of refusals: the first success at what had been refused, and what was done from there on.

    successes = first_successes(trail, refusals, bursts, hours=24)
    followed = done_after(trail, successes, hours=24, most=100)

A success answers a burst where it belongs to one of its accounts or addresses (see `bursts`) and is what was refused to
just that: a login, or the same action under the same permission, on the same target where no permission is stated. It
counts from the refusal that made the burst one.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from auditlib.evidence.bursts import KEYS, THING, Bursts
from auditlib.evidence.refusals import Refusals
from auditlib.formats.times import DAY, LATEST
from auditlib.query import Filter
from auditlib.scan import in_utc
from auditlib.trail import Selection, Trail

HOUR = DAY // 24  # microseconds
FACTS = (
    "event_id, source, occurred_at, recorded_at, sequence, row, actor_type, actor_id, actor_session, action, "
    "target_type || ':' || target_id AS target, outcome"
)
_FIRST = f"""
    , wanted AS (SELECT unnest($bursts) AS burst, unnest($keys) AS key, unnest($things) AS thing),
    spans AS (SELECT unnest($numbers) AS burst, unnest($after) AS after, unnest($until) AS until),
    good AS (SELECT {FACTS}, epoch_us(occurred_at) AS t, unnest(keys) AS key, thing
             FROM (SELECT *, {KEYS}, {THING}
                   FROM (SELECT *, list_contains($logins, action) AS login FROM batches
                         WHERE outcome = 'success' AND occurred_at >= make_timestamptz($low)
                           AND occurred_at <= make_timestamptz($high)))),
    hits AS (SELECT burst, good.*, row_number() OVER (PARTITION BY burst ORDER BY t, sequence, row) AS place
             FROM good JOIN wanted USING (key, thing) JOIN spans USING (burst) WHERE t >= after AND t <= until)
    SELECT * EXCLUDE (t, key, thing, place) FROM hits WHERE place = 1 ORDER BY burst"""  # noqa: S608 - constants
# Where a session is stated it is followed, whoever acts in it; else whoever succeeded, unless that is nobody.
_AFTER = f"""
    , asked AS (SELECT unnest($numbers) AS burst, unnest($sessions) AS session, unnest($types) AS kind,
                       unnest($ids) AS id, unnest($after) AS after, unnest($until) AS until,
                       unnest($places) AS first_sequence, unnest($rows) AS first_row),
    within AS (SELECT *, epoch_us(occurred_at) AS t FROM batches
               WHERE occurred_at >= make_timestamptz($low) AND occurred_at <= make_timestamptz($high)),
    by_session AS (SELECT asked.*, within.* FROM within JOIN asked ON actor_session = session),
    by_actor AS (SELECT asked.*, within.* FROM within JOIN asked ON actor_id = id AND actor_type = kind
                 WHERE session IS NULL AND kind <> 'anonymous'),
    later AS (SELECT * FROM (FROM by_session UNION ALL FROM by_actor)
              WHERE (t, sequence, row) > (after, first_sequence, first_row) AND t <= until),
    placed AS (SELECT burst, {FACTS}, count(*) OVER (PARTITION BY burst) AS in_all,
                      row_number() OVER (PARTITION BY burst ORDER BY t, sequence, row) AS place FROM later)
    SELECT * EXCLUDE place FROM placed WHERE place <= $most ORDER BY burst, occurred_at, sequence, row"""  # noqa: S608


def first_successes(trail: Trail, refusals: Refusals, bursts: Bursts, hours: int) -> pd.DataFrame:
    """The first success that answers each burst, up to `hours` after its last refusal: burst and FACTS, a row each."""
    rows = bursts.rows
    until = [min(LATEST, ended + hours * HOUR) for ended in rows["ended"].tolist()]
    low, high = min(rows["since"].tolist(), default=0), max(until, default=0)
    values: Any = {
        "bursts": [*bursts.refused["burst"].tolist(), -1],  # one row at least, so that every list has a type
        "keys": [*bursts.refused["key"].tolist(), ""],
        "things": [*bursts.refused["thing"].tolist(), ""],
        "numbers": [*rows["burst"].tolist(), -1],
        "after": [*rows["since"].tolist(), 0],
        "until": [*until, 0],
        "logins": list(refusals.logins),
        "low": low,
        "high": high,
    }
    return _asked(trail, Filter(outcomes=("success",), since=low, until=high + 1), _FIRST, values, none=rows.empty)


def done_after(trail: Trail, successes: pd.DataFrame, hours: int, most: int) -> pd.DataFrame:
    """What was done in the session of each success, else by its actor, up to `hours` after it.

    The first `most` events of each: burst, FACTS, and `in_all`, how many there were.
    """
    at = successes["occurred_at"].astype("datetime64[us, UTC]").astype("int64").tolist()
    until = [min(LATEST, moment + hours * HOUR) for moment in at]
    low, high = min(at, default=0), max(until, default=0)
    sessions = [text if isinstance(text, str) else None for text in successes["actor_session"].tolist()]
    values: Any = {
        "numbers": [*successes["burst"].tolist(), -1],
        "sessions": [*sessions, ""],
        "types": [*successes["actor_type"].tolist(), ""],
        "ids": [*successes["actor_id"].tolist(), ""],
        "after": [*at, 0],
        "until": [*until, 0],
        "places": [*successes["sequence"].tolist(), 0],
        "rows": [*successes["row"].tolist(), 0],
        "low": low,
        "high": high,
        "most": most,
    }
    return _asked(trail, Filter(since=low, until=high + 1), _AFTER, values, none=successes.empty)


def _asked(trail: Trail, asked: Filter, statement: str, values: Any, *, none: bool) -> pd.DataFrame:
    seals = [] if none else Selection(trail, asked).seals
    frame: pd.DataFrame = in_utc(trail.run(seals, statement, values).to_arrow_table()).to_pandas()
    return frame
