"""Overview: is the trail sound, is anything overdue, what is open, and how far does it reach.

Errors come first; where a batch is not what was sealed, nothing is counted, and the page still says what it knows.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from auditlib.dashboard.exceptions import exceptions_of
from auditlib.dashboard.markup import pane, render
from auditlib.dashboard.overdue import seal_age
from auditlib.dashboard.pages.integrity import CLASSES, SIGNS, part, sentence, wrong
from auditlib.dashboard.visit import Visit
from auditlib.dashboard.whole import Whole
from auditlib.findings import duration
from auditlib.formats.times import DAY, SECOND, parse_time
from auditlib.scoped import Question
from auditlib.scoped.answers import Activity
from auditlib.scoped.told import sees_all, told

BINS = 53  # a week each over a year
STEPS = 4  # shades of a cell
UNREAD = "what would have to be read for it is not as it was sealed, or the storage does not answer."


class Overview:
    """The page."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._pane = pane()
        self.panes = [self._pane]

    async def show(self) -> None:
        """See View."""
        visit = self._visit
        engagement, trail, vault = visit.engagement(), visit.trail(), visit.vault()
        whole = Whole(visit) if sees_all(engagement) else None
        counted = await visit.run(lambda: part(lambda: trail.activity(Question(), BINS)))
        exceptions = await visit.run(lambda: exceptions_of(visit))
        locks = None if whole is None else await visit.run(lambda: part(whole.locks))
        standing, verified = trail.standing(), told(visit.desk.vaults.report(vault), engagement)
        seen = (visit.identity, visit.signin, engagement, vault, "page", "overview")
        await visit.run(lambda: visit.desk.recorder.viewed(*seen))
        expected = visit.desk.settings.thresholds
        activity, age = counted["told"], seal_age(standing.last_sealed_at, visit.desk.now(), expected)
        if whole is not None:
            whole.check()  # it may have changed while it was asked
        self._pane.object = render(
            "overview.html",
            visit=visit,
            trouble=visit.desk.vaults.trouble(vault),
            sentence=sentence(verified),
            wrong=wrong(verified),
            verified=verified,
            signs=SIGNS,
            classes=CLASSES,
            standing=standing,
            age=duration(visit.desk.now() - parse_time(standing.last_sealed_at)),
            overdue=age.overdue,
            health=[age] if whole is None else [age, whole.heartbeat()],
            locks=locks,
            exceptions=exceptions,
            events=0 if activity is None else sum(sum(counts) for _, counts in activity.streams),
            reading=visit.desk.vaults.reading(vault),
            calendar=None if activity is None else calendar(activity),
            unread=counted["trouble"] if whole is not None else UNREAD,
        )

    def clear(self) -> None:
        """See View."""
        self._pane.object = ""


def calendar(activity: Activity) -> dict[str, Any]:
    """One row a source, one cell a bar, shaded by how many events it has beside the source's fullest bar."""
    days = [_day(activity.start + place * activity.width) for place in range(_places(activity))]
    rows = []
    for name, counts in activity.streams:
        most = max(counts)
        cells = [
            {"day": day, "events": events, "shade": 0 if not events else 1 + (STEPS - 1) * events // most}
            for day, events in zip(days, counts, strict=True)
        ]
        rows.append({"name": name, "cells": cells, "events": sum(counts), "empty": sum(not each for each in counts)})
    return {"rows": rows, "first": days[0] if days else "", "last": days[-1] if days else "", "width": _width(activity)}


def _places(activity: Activity) -> int:
    return len(activity.streams[0][1]) if activity.streams else 0


def _width(activity: Activity) -> str:
    days = activity.width // DAY
    return duration(activity.width) if not days else "a day" if days == 1 else f"{days:,} days"


def _day(microseconds: int) -> str:
    at = datetime.fromtimestamp(microseconds // SECOND, UTC)
    return at.strftime("%Y-%m-%d" if (at.hour, at.minute) == (0, 0) else "%Y-%m-%d %H:%M")
