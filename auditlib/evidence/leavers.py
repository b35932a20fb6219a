"""Who left and when: the leave events of a trail beside an attached list of leavers.

An event and a row of the list speak of one leaving where they name one person and no joining lies between them. The
leaving is the sealed event's moment; the list's last day where there is no event; the earlier of the two where they lie
more than APART apart, so that neither can be moved to hide what came between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pandas as pd

from auditlib.attachments import Attachment
from auditlib.evidence.accounts import Account, Accounts, meant, micros
from auditlib.evidence.answer import Period
from auditlib.formats.times import DAY

APART = DAY  # microseconds: a leave event and a last day that lie further apart disagree

Row = Mapping[str, Any]


class Leaver(msgspec.Struct, kw_only=True):
    """One leaving: the event, the row of the list or both; times in microseconds since 1970 UTC."""

    event: Row | None = None  # as `population.draw` gives it
    line: int | None = None  # of the attached list
    person: str | None = None  # None where nobody says whose account it is
    accounts: list[Account] = []  # none: it cannot be told which
    event_at: int | None = None
    list_at: int | None = None
    returned_at: int | None = None  # the first joining afterwards

    @property
    def left_at(self) -> int:
        """When access should have ended."""
        if self.event_at is None or (self.list_at is not None and self.disagrees):
            return min(at for at in (self.event_at, self.list_at) if at is not None)
        return self.event_at

    @property
    def disagrees(self) -> bool:
        """Whether event and list both speak, of moments that lie too far apart."""
        return self.event_at is not None and self.list_at is not None and abs(self.event_at - self.list_at) > APART

    @property
    def unsealed(self) -> bool:
        """Whether `left_at` rests on the list."""
        return self.left_at != self.event_at


def leavers_of(
    leaves: pd.DataFrame, joins: pd.DataFrame, listed: Attachment | None, known: Accounts, period: Period
) -> list[Leaver]:
    """Everybody whose leave event or last day lies in the period: events in the trail's order, then lines of the list.

    `leaves` and `joins` are drawn from the whole trail.
    """
    events = [_from_event(row, at, known) for row, at in timed(leaves)]
    rows = [] if listed is None else [_from_row(row, at, known) for row, at in timed(listed.frame, "last_day")]
    joined = Moments(joins)
    taken = _pair(events, rows, joined)
    alone = [row for number, row in enumerate(rows) if number not in taken]
    asked = [one for one in [*events, *alone] if any(within(at, period) for at in (one.event_at, one.list_at))]
    for one in asked:
        one.returned_at = joined.after(one.accounts, one.left_at)
    return asked


def _from_event(row: Row, at: int, known: Accounts) -> Leaver:
    name = row["grantee"]
    if not isinstance(name, str):
        return Leaver(event=row, event_at=at)
    person = known.person(name, at, row["source"])
    return Leaver(event=row, event_at=at, person=person, accounts=known.of(person, name))


def _from_row(row: Row, at: int, known: Accounts) -> Leaver:
    names = [row["account"]] if isinstance(row["account"], str) else []
    accounts = known.of(row["person_id"], *names)
    return Leaver(line=int(row["line"]), list_at=at, person=row["person_id"], accounts=accounts)


def _pair(events: Sequence[Leaver], rows: Sequence[Leaver], joined: Moments) -> set[int]:
    """Give each event the nearest row that speaks of the same leaving; the numbers of the rows that were given."""
    by_name: dict[str, list[int]] = {}
    by_person: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_person.setdefault(row.person or "", []).append(number)
        for account in row.accounts:
            by_name.setdefault(account.name.casefold(), []).append(number)
    taken: set[int] = set()
    for event in events:
        told = event.event or {}
        name, source, at = told.get("grantee"), told.get("source", ""), event.event_at or 0
        if not isinstance(name, str):
            continue
        numbers = {
            *by_person.get(event.person or "", ()),
            *(n for n in by_name.get(name.casefold(), ()) if meant(rows[n].accounts, name, at, source)),
        }
        same = [n for n in numbers if not joined.between(rows[n].accounts, at, rows[n].list_at or 0)]
        taken.update(same)
        if same:
            row = rows[min(same, key=lambda n: (abs((rows[n].list_at or 0) - at), n))]
            event.line, event.list_at, event.person = row.line, row.list_at, row.person
            event.accounts += [one for one in row.accounts if not any(a.spells(one.name) for a in event.accounts)]
    return taken


class Moments:
    """When accounts joined, or left: a drawn population of such events, by account."""

    def __init__(self, events: pd.DataFrame) -> None:
        self._rows = [(row["grantee"], at, row["source"]) for row, at in timed(events)]
        self._by_name: dict[str, list[int]] = {}
        for number, (name, _, _) in enumerate(self._rows):
            if isinstance(name, str):
                self._by_name.setdefault(name.casefold(), []).append(number)

    def of(self, accounts: Iterable[Account]) -> list[int]:
        """The moments of some accounts, in order."""
        found = []
        for account in accounts:
            for number in self._by_name.get(account.name.casefold(), ()):
                name, at, source = self._rows[number]
                if account.means(name, at, source):
                    found.append(at)
        return sorted(found)

    def after(self, accounts: Iterable[Account], at: int) -> int | None:
        """The first after a moment."""
        return next((moment for moment in self.of(accounts) if moment > at), None)

    def between(self, accounts: Iterable[Account], one: int, other: int) -> bool:
        """Whether one lies after the earlier and up to the later of two moments."""
        return any(min(one, other) < at <= max(one, other) for at in self.of(accounts))


def timed(frame: pd.DataFrame, column: str = "occurred_at") -> list[tuple[Row, int]]:
    """The rows of a frame, each with its time in microseconds since 1970 UTC."""
    rows: list[Any] = frame.to_dict("records")
    return list(zip(rows, micros(frame[column], 0), strict=True))


def within(at: int | None, period: Period) -> bool:
    """Whether a moment is known and lies in the period."""
    if at is None:
        return False
    return (period.since is None or at >= period.since) and (period.until is None or at < period.until)
