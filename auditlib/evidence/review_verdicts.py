"""One periodic review judged: in time, of the whole listing, by somebody who was not reviewed, removals carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from auditlib.errors import MalformedError
from auditlib.evidence.answer import listed, many
from auditlib.evidence.examined import FAIL, NOT_APPLICABLE, NOT_TESTABLE, PASS
from auditlib.formats.times import DAY, format_time, parse_time
from auditlib.query import parse_moment

ATTRIBUTES = {
    "performed_on_time": "the review was performed by the day that it states as due",
    "listing_matches": "as many holders were decided on as the listing that was reviewed has rows",
    "reviewer_not_subject": "nobody reviewed their own access",
    "removals_carried_out": "each holding that was to be removed was removed within the agreed days",
}
KEEP, REMOVE = "keep", "remove"
MAX_NAMED = 5  # holders that one sentence names

Outcome = tuple[str, str]  # of an attribute, and the sentence for a fail or a not-testable
Row = Mapping[str, Any]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a review; times in microseconds since 1970 UTC."""

    row: Row  # of the drawn population
    review_id: str
    at: int
    decision: str
    own: bool  # who decided is who is reviewed, as accounts or as persons
    last: bool  # no later one of this review decides on the same holding
    removal: Row | None = None  # the first removal after it, where it says so
    removed_at: int | None = None

    @property
    def name(self) -> str:
        """Whose access."""
        return str(self.row["grantee"] or "")


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A review with its decisions."""

    row: Row
    entitlements: Sequence[str]
    at: int
    due: str | None  # as it states it
    due_at: int | None
    listing_rows: int | None
    decisions: Sequence[Decision]
    reviews_of_id: int  # how many reviews name this id
    reviewed_self: bool  # the reviewer is one of those decided on
    by_person: bool  # that shows by the attached identities alone

    @property
    def final(self) -> list[Decision]:
        """The last decision on each holding."""
        return [one for one in self.decisions if one.last]

    @property
    def removals(self) -> list[Decision]:
        """Those that say: remove."""
        return [one for one in self.final if one.decision == REMOVE]

    def results(self, days: int, observed: int) -> dict[str, Outcome]:
        """Each attribute's outcome; removals within `days`, as far as the trail reaches (microseconds, UTC)."""
        return {
            "performed_on_time": self._on_time(),
            "listing_matches": self._matches(),
            "reviewer_not_subject": self._independent(),
            "removals_carried_out": self._carried_out(days, observed),
        }

    def _on_time(self) -> Outcome:
        if self.due is None:
            return NOT_APPLICABLE, ""
        if self.due_at is None:
            return NOT_TESTABLE, "The day that it states as due cannot be read."
        if self.at <= self.due_at:
            return PASS, ""
        return FAIL, f"Due {self.due}, performed at {format_time(self.at)}."

    def _matches(self) -> Outcome:
        if not self.row["request"]:
            return NOT_TESTABLE, "The review has no id, so that no decision can be linked to it."
        if self.reviews_of_id > 1:
            return NOT_TESTABLE, f"{self.reviews_of_id:,} reviews have this id: whose decisions are whose is unclear."
        if self.listing_rows is None:
            return NOT_TESTABLE, "How many rows the listing has cannot be read."
        found = len(self.final)
        if found == self.listing_rows:
            return PASS, ""
        return FAIL, f"The listing has {many(self.listing_rows, 'row')}; decided on: {many(found, 'holding')}."

    def _independent(self) -> Outcome:
        if not self.decisions:
            return NOT_TESTABLE, "No decision says whose access was reviewed."
        own = sorted({one.name for one in self.decisions if one.own})
        if not self.reviewed_self and not own:
            return PASS, ""
        told = (
            "The reviewer is one of those reviewed." if self.reviewed_self else f"{_named(own)} decided on their own."
        )
        return FAIL, told + (" By the attached identities (unsealed evidence)." if self.by_person else "")

    def _carried_out(self, days: int, observed: int) -> Outcome:
        unread = sorted({one.name for one in self.final if one.decision not in (KEEP, REMOVE)})
        never = [one for one in self.removals if one.removed_at is None and one.at + days * DAY <= observed]
        late = [one for one in self.removals if one.removed_at is not None and one.removed_at > one.at + days * DAY]
        if never or late:
            parts = [f"not removed within {many(days, 'day')}: {_named([one.name for one in never])}"] if never else []
            parts += [f"removed later than that: {_named([one.name for one in late])}"] if late else []
            told = "; ".join(parts)
            return FAIL, f"{told[0].upper()}{told[1:]}."
        if unread:
            return NOT_TESTABLE, f"A decision is neither {KEEP} nor {REMOVE}: {_named(unread)}."
        waiting = any(one.removed_at is None for one in self.removals)  # not yet due
        return (NOT_APPLICABLE if waiting or not self.removals else PASS), ""


def due_time(due: str | None, zone: ZoneInfo) -> int | None:
    """The last moment of what a review states as due: a day, or a time; None where that cannot be read."""
    if due is None:
        return None
    try:
        if len(due) == len("2026-04-15"):
            return parse_moment(date.fromisoformat(due), zone, "due", days=1) - 1
        return parse_time(due)
    except (MalformedError, ValueError):
        return None


def _named(names: Sequence[str]) -> str:
    found = sorted(names)
    more = [f"{len(found) - MAX_NAMED:,} more"] if len(found) > MAX_NAMED else []
    return listed([*(name or "(nobody named)" for name in found[:MAX_NAMED]), *more])
