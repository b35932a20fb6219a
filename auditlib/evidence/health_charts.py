"""Pictures of the pipeline's health: the hours in which a source was heard, and how far its times were off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from matplotlib.dates import date2num
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from auditlib.evidence.charts import BLUE, GREY, VERMILION, Picture, drawing, in_time

_TICKS = {"0": 0.01, "0.1 s": 0.1, "1 s": 1, "1 min": 60, "1 h": 3600, "1 d": 86_400, "30 d": 30 * 86_400}  # in seconds
_LEAST = 0.01  # seconds; below, times are alike in these pictures

Run = tuple[datetime, int, int]  # a day (its midnight), from hour, until hour
Point = tuple[datetime, float]  # a day, and seconds


def calendar(
    lanes: Sequence[tuple[str, Sequence[Run]]],
    silences: Sequence[tuple[int, datetime, datetime]],
    *,
    span: tuple[datetime, datetime],
    title: str,
) -> Picture:
    """A strip a source, days across and the hours of a day down: filled where it recorded something in the hour.

    `silences` (lane, from, until) are framed, day by day, to the minute.
    """
    with drawing(0.7 + 0.95 * max(1, len(lanes)), title) as (axes, save):
        for place, (_, runs) in enumerate(lanes):
            cells = [_cell(place, day, first / 24, last / 24) for day, first, last in runs]
            if cells:
                axes.add_patch(PathPatch(Path.make_compound_path(*cells), facecolor=BLUE, alpha=0.6, linewidth=0))
        cells = [
            _cell(place, midnight, low, high)
            for place, start, end in silences
            for midnight, low, high in _parts_of_days(start, end)
        ]
        if cells:
            framed = Path.make_compound_path(*cells)
            axes.add_patch(PathPatch(framed, facecolor="none", edgecolor=VERMILION, linewidth=1.1))
        ticks = [(place + hour / 24 * 0.8, hour) for place in range(len(lanes)) for hour in (0, 12)]
        axes.set_yticks([at for at, _ in ticks], [f"{hour:02}:00" for _, hour in ticks], fontsize=7)
        for place, (name, _) in enumerate(lanes):
            axes.annotate(name, (1.005, place + 0.4), xycoords=("axes fraction", "data"), fontsize=8.5, va="center")
        axes.set_ylim(max(1, len(lanes)) - 0.1, -0.1)
        in_time(axes, span)
        axes.spines["left"].set_visible(False)
        return save()


def levels(
    lanes: Sequence[tuple[str, Sequence[Point]]], *, limit: float, span: tuple[datetime, datetime], title: str
) -> Picture:
    """Seconds a day on a logarithmic scale, and the limit; what is past it stands out and is named."""
    with drawing(2.7, title) as (axes, save):
        every = [point for _, points in lanes for point in points]
        within: Any = [(day, max(_LEAST, seconds)) for day, seconds in every if seconds <= limit]
        if within:
            axes.plot(*zip(*within, strict=True), "o", color=BLUE, alpha=0.45, markersize=3.2, markeredgewidth=0)
        for number, (name, points) in enumerate(lanes):
            past: Any = [(day, seconds) for day, seconds in points if seconds > limit]
            if past:
                axes.plot(*zip(*past, strict=True), "DsX^vP"[number % 6], color=VERMILION, markersize=4.5)
                left = past[-1][0] - span[0] < (span[1] - span[0]) * 0.7  # room for its name to the right
                place, aside, beside = (past[-1], 8, "left") if left else (past[0], -8, "right")
                offset: Any = {"xytext": (aside, 0), "textcoords": "offset points"}
                axes.annotate(name, place, **offset, ha=beside, va="center", fontsize=8.5)
        most = max([limit, *(seconds for _, seconds in every)])
        axes.axhline(limit, color=GREY, linewidth=1, linestyle="--")
        axes.set_yscale("log")
        axes.set_ylim(_LEAST * 0.8, most * 2.5)
        shown = {label: at for label, at in _TICKS.items() if at <= most * 2.5}
        axes.set_yticks(list(shown.values()), list(shown))
        axes.minorticks_off()
        axes.annotate("limit", (1.005, limit), xycoords=("axes fraction", "data"), fontsize=8, va="center")
        in_time(axes, span)
        return save()


def _cell(place: int, day: datetime, low: float, high: float) -> Path:
    """One day's cell from `low` to `high` of the day, in the strip of that place."""
    x = float(date2num(day))  # type: ignore[no-untyped-call]
    top, bottom = place + 0.8 * low, place + 0.8 * high
    return Path([(x, top), (x + 1, top), (x + 1, bottom), (x, bottom), (x, top)], closed=True)


def _parts_of_days(start: datetime, end: datetime) -> list[tuple[datetime, float, float]]:
    """(midnight, from, until) as parts of that day, for each day that a span touches."""
    midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
    parts, day = [], timedelta(days=1)
    while midnight < end:
        parts.append((midnight, max(0.0, (start - midnight) / day), min(1.0, (end - midnight) / day)))
        midnight += day
    return parts
