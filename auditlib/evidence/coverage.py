"""Were the sources alive? The proof that stands beside "nothing was recorded"."""

from __future__ import annotations

from typing import Any

import pandas as pd

from auditlib.findings import duration
from auditlib.formats.times import parse_time
from auditlib.pipeline import SILENCE
from auditlib.scan import in_utc
from auditlib.trail import Trail

COLUMNS = ["source", "events", "first", "last", "longest_silence_seconds", "silences", "silent_from", "silent_until"]

# An import carries the times at which things occurred elsewhere; every other source lives by when it was recorded.
_CLOCK = "CASE WHEN starts_with(source, 'import:') THEN occurred_at ELSE recorded_at END"

_STATEMENT = f"""
    , seen AS (SELECT split_part(source, '/', 1) AS name, {_CLOCK} AS t FROM batches),
    within AS (SELECT name, t FROM seen WHERE t >= make_timestamptz($since) AND t < make_timestamptz($until)),
    marks AS (SELECT name, t, true AS event FROM within
              UNION ALL SELECT DISTINCT name, make_timestamptz($since), false FROM within
              UNION ALL SELECT DISTINCT name, make_timestamptz($until), false FROM within),
    gaps AS (SELECT name, event, t, lag(t) OVER (PARTITION BY name ORDER BY t, event) AS before FROM marks)
    SELECT name AS source, count_if(event) AS events,
           min(t) FILTER (event) AS first, max(t) FILTER (event) AS last,
           max(epoch_us(t) - epoch_us(before)) / 1e6 AS longest_silence_seconds,
           count_if(epoch_us(t) - epoch_us(before) > {SILENCE}) AS silences,
           first(before ORDER BY epoch_us(t) - epoch_us(before) DESC NULLS LAST, t) AS silent_from,
           first(t ORDER BY epoch_us(t) - epoch_us(before) DESC NULLS LAST, t) AS silent_until
    FROM gaps GROUP BY name ORDER BY name"""  # noqa: S608 - constants of this module alone


def coverage(trail: Trail, since: int | None, until: int | None) -> pd.DataFrame:
    """Each source's records in the period: how many, first, last, and its longest silence (edges included).

    One row a source name, columns as COLUMNS; a source without a record in the period has no row. An open period
    ends where the trail does.
    """
    first, last = (parse_time(text) for text in trail.recorded)
    since = min(first, trail.history.seals.begins) if since is None else since
    until = last + 1 if until is None else min(until, max(last + 1, since + 1))
    seals = trail.history.seals.chosen(trail.history.seals.within(since, until))
    values: Any = {"since": since, "until": until}
    frame: pd.DataFrame = in_utc(trail.run(seals, _STATEMENT, values).to_arrow_table()).to_pandas()
    return frame[COLUMNS]


def sources_that_record(trail: Trail, actions: tuple[str, ...]) -> list[str]:
    """The source names that recorded any of these actions, ever, up to the checkpoint."""
    if not actions:
        return []
    selection = trail.events(action=actions)
    found = selection.count_by("source").column("source").to_pylist()
    return sorted({source.split("/", 1)[0] for source in found})


def alive_sentences(frame: pd.DataFrame, relevant: list[str]) -> list[str]:
    """What the coverage says of the relevant sources, in words."""
    told = []
    present = frame[frame["source"].isin(relevant)]
    for row in present.to_dict("records"):
        silence = duration(int(row["longest_silence_seconds"] * 1_000_000))
        text = f"{row['source']} recorded {row['events']:,} events in the period; its longest silence was {silence}"
        if row["longest_silence_seconds"] * 1_000_000 > SILENCE:
            text += f", from {row['silent_from']:%Y-%m-%d %H:%M} to {row['silent_until']:%Y-%m-%d %H:%M} UTC"
        told.append(text + ".")
    told += [f"{name} recorded nothing in the period." for name in relevant if name not in set(present["source"])]
    return told
