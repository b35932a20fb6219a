"""What the health of the pipeline is drawn from: hours heard, clocks and delays, spans in which everything stood still.

A clock is measured once a minute and instance, by the record of that minute that arrived soonest: the delay of the
others hides it. Imports and the pipeline's own events have no clock and no rhythm, and are left out of all but hours.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from auditlib.pipeline import SILENCE, UNPACED
from auditlib.scan import in_utc
from auditlib.trail import Trail

_PERIOD = "recorded_at >= make_timestamptz($since) AND recorded_at < make_timestamptz($until)"
_PACED = " AND ".join(f"NOT starts_with(source, '{prefix}')" for prefix in UNPACED)
_HOURS = f"""
    SELECT DISTINCT split_part(source, '/', 1) AS source, date_trunc('day', recorded_at) AS day,
           extract('hour' FROM recorded_at)::INTEGER AS hour
    FROM batches WHERE {_PERIOD} ORDER BY source, day, hour"""  # noqa: S608 - constants of this module alone
_CLOCKS = f"""
    , minutes AS (SELECT source, time_bucket(INTERVAL '1 minute', recorded_at) AS minute, count(*) AS events,
                         max(epoch_us(occurred_at) - epoch_us(recorded_at)) AS lead,
                         max(epoch_us(recorded_at) - epoch_us(occurred_at)) AS lag
                  FROM batches WHERE {_PERIOD} AND {_PACED} GROUP BY ALL)
    SELECT source, date_trunc('day', minute) AS day, sum(events)::BIGINT AS events,
           greatest(max(lead), 0) / 1e6 AS ahead_seconds, greatest(max(lag), 0) / 1e6 AS late_seconds
    FROM minutes GROUP BY ALL ORDER BY source, day"""  # noqa: S608
_SKEWS = f"""
    , minutes AS (SELECT source, time_bucket(INTERVAL '1 minute', recorded_at) AS minute, count(*) AS events,
                         greatest(max(epoch_us(occurred_at) - epoch_us(recorded_at)), 0) AS lead,
                         max(epoch_us(recorded_at) - epoch_us(occurred_at)) AS lag
                  FROM batches WHERE {_PERIOD} AND {_PACED} GROUP BY ALL)
    SELECT source, sum(events)::BIGINT AS events, count(*) AS minutes,
           quantile_disc(lead, 0.5) / 1e6 AS ahead_median_seconds, quantile_disc(lead, 0.99) / 1e6 AS ahead_p99_seconds,
           max(lead) / 1e6 AS ahead_most_seconds, greatest(max(lag), 0) / 1e6 AS late_most_seconds
    FROM minutes GROUP BY source ORDER BY source"""  # noqa: S608
# Two records further apart than SILENCE never lie in the same span of that length, so that only its ends matter.
_STILL = f"""
    , spans AS (SELECT min(recorded_at) AS first, max(recorded_at) AS last FROM batches WHERE {_PACED}
                GROUP BY epoch_us(recorded_at) // {SILENCE}),
    ends AS (SELECT last AS began_at, lead(first) OVER (ORDER BY first) AS ended_at FROM spans)
    SELECT *, epoch_us(ended_at) - epoch_us(began_at) AS micros FROM ends
    WHERE micros > {SILENCE} AND began_at < make_timestamptz($until) AND ended_at > make_timestamptz($since)
    ORDER BY began_at"""  # noqa: S608


def hours_heard(trail: Trail, since: int, until: int) -> pd.DataFrame:
    """The hours (UTC) in which each source name recorded something: source, day, hour."""
    return _ask(trail, _HOURS, since, until)


def clocks_by_day(trail: Trail, since: int, until: int) -> pd.DataFrame:
    """Each instance and day: source, day, events, and in seconds the most ahead and the longest delay."""
    return _ask(trail, _CLOCKS, since, until)


def clock_table(trail: Trail, since: int, until: int) -> pd.DataFrame:
    """Each instance: source, events, minutes, and in seconds how far ahead (median, p99, most), the longest delay."""
    return _ask(trail, _SKEWS, since, until)


def still_spans(trail: Trail, since: int, until: int) -> pd.DataFrame:
    """Spans that reach into the period in which no source recorded anything: began_at, ended_at, micros."""
    return _ask(trail, _STILL, since, until)


def _ask(trail: Trail, statement: str, since: int, until: int) -> pd.DataFrame:
    values: Any = {"since": since, "until": until}
    frame: pd.DataFrame = in_utc(trail.run(trail.seals, statement, values).to_arrow_table()).to_pandas()
    return frame
