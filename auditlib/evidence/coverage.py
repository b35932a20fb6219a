"""Were the sources alive? The proof that stands beside "nothing was recorded"."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from auditlib.evidence.series import Numbers, series
from auditlib.findings import duration
from auditlib.formats.event import source_name
from auditlib.formats.times import SECOND, parse_time
from auditlib.pipeline import SILENCE
from auditlib.query import Filter
from auditlib.trail import Trail

_GROWTH = 8  # times as many batches are read in each turn as in the one before

COLUMNS = ["source", "events", "first", "last", "longest_silence_seconds", "silences", "silent_from", "silent_until"]

# An import carries the times at which things occurred elsewhere; every other source lives by when it was recorded.
_CLOCK = "CASE WHEN starts_with(source, 'import:') THEN occurred_at ELSE recorded_at END"

_TIMES = f"""
    , seen AS (SELECT split_part(source, '/', 1) AS name, epoch_us({_CLOCK}) AS t FROM batches)
    SELECT name, t FROM seen WHERE t >= $since AND t < $until"""  # noqa: S608 - constants of this module alone
_TIME = pa.timestamp("us", "UTC")
_COUNT = pa.decimal128(38)  # what packets have held since they were first built: their bytes stay the same
_TYPES = [pa.string(), _COUNT, _TIME, _TIME, pa.float64(), _COUNT, _TIME, _TIME]  # of COLUMNS


def coverage(trail: Trail, since: int | None, until: int | None) -> pd.DataFrame:
    """Each source's records in the period: how many, first, last, and its longest silence (edges included).

    One row a source name, columns as COLUMNS; a source without a record in the period has no row. An open period
    ends where the trail does.
    """
    first, last = (parse_time(text) for text in trail.recorded)
    since = min(first, trail.history.seals.begins) if since is None else since
    until = last + 1 if until is None else min(until, max(last + 1, since + 1))
    seals = trail.history.seals.chosen(trail.history.seals.within(since, until))
    heard = series(trail, seals, _TIMES, {"since": since, "until": until})
    rows = [_row(name, times, since, until) for name, times in heard.items()]
    schema = pa.schema(list(zip(COLUMNS, _TYPES, strict=True)))
    frame: pd.DataFrame = pa.Table.from_pylist(rows, schema).to_pandas()
    return frame


def _row(name: str, times: Numbers, since: int, until: int) -> dict[str, Any]:
    """What one source's times (ascending, at least one) show; of silences as long as each other the first is named."""
    edges = np.concatenate(([since], times, [until]))
    gaps = np.diff(edges)
    longest = int(gaps.argmax())
    first, last, silent_from, silent_until = map(int, (times[0], times[-1], edges[longest], edges[longest + 1]))
    silences = int(np.count_nonzero(gaps > SILENCE))
    cells = [name, len(times), first, last, int(gaps[longest]) / SECOND, silences, silent_from, silent_until]
    return dict(zip(COLUMNS, cells, strict=True))


def sources_that_record(trail: Trail, actions: tuple[str, ...]) -> list[str]:
    """The source names that recorded any of these actions, ever, up to the checkpoint."""
    if not actions:
        return []
    every, asked = trail.history.seals, Filter(actions=actions)
    condition, values = asked.sql()
    statement = f"SELECT DISTINCT split_part(source, '/', 1) FROM batches WHERE {condition}"  # noqa: S608 - bound
    found: set[str] = set()
    left, most = asked.holding(every), 1
    while left.any():  # a few batches name most sources; the rest are read only where they can name another
        here = np.zeros_like(left)
        here[np.flatnonzero(left)[:most]] = True
        found.update(name for (name,) in trail.run(every.chosen(here), statement, values).fetchall())
        left &= ~here & every.sources.having(lambda source: source_name(source) not in found)
        most *= _GROWTH
    return sorted(found)


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
