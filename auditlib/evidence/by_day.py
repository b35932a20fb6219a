"""How many events on each day of a period, in the time zone in which it was asked; days without any stand there too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

import pandas as pd

from auditlib.evidence.answer import Period
from auditlib.evidence.charts import Mark, Picture, strips
from auditlib.formats.times import to_datetime
from auditlib.query import zone_of
from auditlib.trail import Trail

MAX_DAYS = 3_660  # days that are listed one by one, ten years; of a longer span those alone on which anything happened


def by_day(times: Mapping[str, pd.Series[pd.Timestamp]], period: Period, trail: Trail) -> pd.DataFrame:
    """`day` (2026-03-01), `begins_at` (UTC) and a number for each name of `times`, a row a day.

    The days run from the first of the period to its last, but not past the last record of the trail; an open period
    begins with the first event.
    """
    zone = zone_of(period.tz)
    local = {name: moments.dt.tz_convert(zone).dt.date for name, moments in times.items()}
    seen = sorted({day for days in local.values() for day in days.unique()})
    days = _span(period, trail, seen)
    counts = {name: days_of.value_counts() for name, days_of in local.items()}
    begins = [datetime.combine(day, time(), zone).astimezone(UTC) for day in days]
    columns = {
        "day": pd.Series([day.isoformat() for day in days], dtype="str"),
        "begins_at": pd.to_datetime(pd.Series(begins, dtype=object), utc=True).astype("datetime64[us, UTC]"),
    }
    numbers = {
        name: pd.Series([int(count.get(day, 0)) for day in days], dtype="int64") for name, count in counts.items()
    }
    return pd.DataFrame(columns | numbers)


def day_picture(days: pd.DataFrame, lanes: Mapping[str, str], marks: Sequence[Mark], *, title: str) -> Picture | None:
    """The days as strips, one a lane (column -> label); None where there is no day."""
    if days.empty:
        return None
    starts = days["begins_at"].tolist()
    drawn = [(label, starts, days[name].tolist()) for name, label in lanes.items()]
    return strips(drawn, marks, span=(starts[0], starts[-1] + timedelta(days=1)), title=title)


def one_a_day(marks: Iterable[Mark]) -> list[Mark]:
    """The first mark of each lane, label and UTC day: a picture of thousands would say no more."""
    return list({(mark.lane, mark.label, mark.start.date()): mark for mark in reversed(list(marks))}.values())[::-1]


def _span(period: Period, trail: Trail, seen: list[date]) -> list[date]:
    zone = zone_of(period.tz)
    last = pd.Timestamp(trail.recorded[1]).to_pydatetime()
    if period.until is not None:
        last = min(last, to_datetime(period.until - 1))
    ends = [last.astimezone(zone).date(), *seen[-1:]]
    begins = seen[:1] if period.since is None else [to_datetime(period.since).astimezone(zone).date()]
    if not begins or (max(ends) - min(begins)).days >= MAX_DAYS:
        return seen
    return [min(begins) + timedelta(days=n) for n in range((max(ends) - min(begins)).days + 1)]
