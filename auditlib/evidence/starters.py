"""Who began, or moved to another job, and when: the join events of a trail beside an attached roster.

A row of the roster is a joiner where it is the person's first, or follows with the same department and job; it is a
mover where department or job are others than in the person's row before. A first row of somebody whom the trail saw
join more than NEAR earlier is a mover too: that roster holds only what people do now.

A first day is the day of the sealed event, from its midnight on; the roster's where there is no event; the later of the
two where they lie more than APART apart, so that no date can be moved to let early access pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pandas as pd

from auditlib.attachments import Attachment
from auditlib.evidence.accounts import EVER, NEVER, Account, Accounts, meant
from auditlib.evidence.answer import Period
from auditlib.evidence.leavers import Moments, Row, timed, within
from auditlib.formats.times import DAY, from_datetime, to_datetime
from auditlib.query import zone_of

APART = DAY  # microseconds: a join event and a first day that lie further apart disagree
NEAR = 31 * DAY  # microseconds between a join event and the first day of the same joining, in either order
JOINER, MOVER = "joiner", "mover"


class Starter(msgspec.Struct, kw_only=True):
    """Somebody who began or moved: the event, the row of the roster or both; microseconds since 1970 UTC."""

    kind: str  # JOINER or MOVER
    event: Row | None = None  # as `population.draw` gives it
    line: int | None = None  # of the attached roster
    person: str | None = None
    accounts: list[Account] = []
    event_at: int | None = None
    event_day: int | None = None  # the midnight before, in the time zone that was asked in
    list_at: int | None = None
    job: str = ""
    since: int = EVER  # from where on access counts: the last leaving before, for a mover the first day
    until: int = NEVER  # the next leaving or the next first day

    @property
    def first_day(self) -> int:
        """From when on access is in order."""
        known = [at for at in (self.event_day, self.list_at) if at is not None]
        apart = len(known) == 2 and abs(known[0] - known[1]) > APART
        return max(known) if apart else known[0]

    @property
    def unsealed(self) -> bool:
        """Whether `first_day` rests on the roster."""
        return self.first_day != self.event_day


def starters_of(
    joins: pd.DataFrame, leaves: pd.DataFrame, roster: Attachment | None, known: Accounts, period: Period
) -> list[Starter]:
    """Everybody whose join event or first day lies in the period: events in the trail's order, then lines.

    `joins` and `leaves` are drawn from the whole trail.
    """
    joined, left = Moments(joins), Moments(leaves)
    events = [_from_event(row, at, known, period) for row, at in timed(joins)]
    rows = [] if roster is None else _from_roster(roster.frame, known, joined, left)
    taken = _pair(events, [row for row in rows if row.kind == JOINER], left)
    everybody = [*events, *(row for row in rows if row.line not in taken)]
    days: dict[str, list[int]] = {}
    for one in everybody:
        if one.person:
            days.setdefault(one.person, []).append(one.first_day)
    asked = [one for one in everybody if any(within(at, period) for at in (one.event_at, one.list_at))]
    for one in asked:
        if one.kind == JOINER:
            one.since = max((at for at in left.of(one.accounts) if at < one.first_day), default=EVER)
        else:
            one.since = one.first_day
        ends = [at for at in (*left.of(one.accounts), *days.get(one.person or "", ())) if at > one.first_day]
        one.until = min(ends, default=NEVER)
    return asked


def _from_event(row: Row, at: int, known: Accounts, period: Period) -> Starter:
    name = row["grantee"]
    day = to_datetime(at).astimezone(zone_of(period.tz)).date()
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone_of(period.tz)).astimezone(UTC)
    found = Starter(kind=JOINER, event=row, event_at=at, event_day=from_datetime(midnight))
    if isinstance(name, str):
        found.person = known.person(name, at, row["source"])
        found.accounts = known.of(found.person, name)
    return found


def _from_roster(frame: pd.DataFrame, known: Accounts, joined: Moments, left: Moments) -> list[Starter]:
    found: list[Starter] = []
    before: dict[str, tuple[str, str]] = {}  # person -> (department, job) of the row before
    ordered = frame.sort_values(["first_day", "line"], kind="stable")
    for row, at in timed(ordered, "first_day"):
        names = [row["account"]] if isinstance(row["account"], str) else []
        accounts = known.of(row["person_id"], *names)
        cells: list[Any] = [row["department"], row["job"]]
        department, position = (cell if isinstance(cell, str) else "" for cell in cells)
        job = department, position
        person = row["person_id"]
        if person in before:
            kind = MOVER if before[person] != job else JOINER
        else:
            seen = [moment for moment in joined.of(accounts) if moment < at - NEAR]
            kind = MOVER if seen and not left.between(accounts, max(seen), at) else JOINER
        before[person] = job
        words = ", ".join(filter(None, job))
        found.append(Starter(kind=kind, line=int(row["line"]), person=person, accounts=accounts, list_at=at, job=words))
    return sorted(found, key=lambda one: one.line or 0)


def _pair(events: Sequence[Starter], rows: Sequence[Starter], left: Moments) -> set[int | None]:
    """Give each event the nearest row of the same joining; the lines that were given."""
    by_name: dict[str, list[Starter]] = {}
    for row in rows:
        for account in row.accounts:
            by_name.setdefault(account.name.casefold(), []).append(row)
    taken: set[int | None] = set()
    for event in events:
        told, at = event.event or {}, event.event_at or 0
        name, source = told.get("grantee"), told.get("source", "")
        if not isinstance(name, str):
            continue
        same = [
            row
            for row in by_name.get(name.casefold(), ())
            if meant(row.accounts, name, at, source)
            and abs((row.list_at or 0) - at) <= NEAR
            and not left.between(row.accounts, at, row.list_at or 0)
        ]
        taken.update(row.line for row in same)
        if same:
            row = min(same, key=lambda one: (abs((one.list_at or 0) - at), one.line or 0))
            event.line, event.list_at, event.job, event.person = row.line, row.list_at, row.job, row.person
            event.accounts += [one for one in row.accounts if not any(a.spells(one.name) for a in event.accounts)]
    return taken
