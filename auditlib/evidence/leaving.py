"""One leaver judged: what was held, when it went, what was done afterwards, and whether the two sources agree."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pandas as pd

from auditlib.evidence.answer import listed, many
from auditlib.evidence.examined import FAIL, NOT_APPLICABLE, NOT_TESTABLE, PASS
from auditlib.evidence.held import Held
from auditlib.evidence.leavers import Leaver
from auditlib.findings import duration
from auditlib.formats.times import SECOND, format_time, from_datetime

HOUR = 3600 * SECOND
ATTRIBUTES = {
    "all_removed": "everything that was held at leaving, or granted afterwards, was removed",
    "removed_in_time": "it was removed within the agreed hours",
    "no_activity_after_leaving": "no event after leaving names an account of the leaver as its actor",
    "agrees_with_list": "the leave event and the attached list of leavers agree, to a day",
}
MAX_NAMED = 5  # entitlements that one sentence names

Outcome = tuple[str, str]  # of an attribute, and the sentence for a fail or a not-testable


class Case(msgspec.Struct, kw_only=True):
    """A leaver with what is known of the access; times in microseconds since 1970 UTC."""

    leaver: Leaver
    hours: int  # agreed, from leaving to the last removal
    observed: int  # to where the trail reaches
    held: list[Held]
    used: pd.DataFrame  # counts of events after leaving, see account_use

    @property
    def item(self) -> str:
        """The item's id: the event's, or the line of the list."""
        return str(self.leaver.event["item"]) if self.leaver.event else f"leavers:{self.leaver.line}"

    @property
    def seen(self) -> int:
        """To where removals count: as far as the trail reaches, or to the day the person came back."""
        return self.observed if self.leaver.returned_at is None else min(self.observed, self.leaver.returned_at)

    @property
    def due(self) -> int:
        """When the agreed hours are over."""
        return self.leaver.left_at + self.hours * HOUR

    @property
    def last_removed(self) -> int | None:
        """When the last of it was removed; None where something was not, or nothing was held."""
        times = [one.removed for one in self.held]
        return max((at for at in times if at is not None), default=None) if None not in times else None

    def results(self, *, listing: bool, recorded: bool) -> dict[str, Outcome]:
        """Each attribute's outcome; `listing`: a list is attached, `recorded`: the trail records leavings at all."""
        agrees = self._agrees(listing=listing, recorded=recorded)
        if not self.leaver.accounts:
            unknown = NOT_TESTABLE, "No account of this person is known, so that nothing can be looked up."
            return dict.fromkeys(ATTRIBUTES, unknown) | ({"agrees_with_list": agrees} if not listing else {})
        return {
            "all_removed": self._all_removed(),
            "removed_in_time": self._in_time(),
            "no_activity_after_leaving": self._unused(),
            "agrees_with_list": agrees,
        }

    def _all_removed(self) -> Outcome:
        left = [one for one in self.held if one.removed is None]
        if not left:
            return (PASS if self.held else NOT_APPLICABLE), ""
        if self.seen < self.due:
            return NOT_APPLICABLE, ""  # not yet due
        known = [one for one in left if one.entitlement is not None]
        if not known:
            return NOT_TESTABLE, "A grant does not say what it granted, so that its removal cannot be found."
        names = _names(known)
        when = "by the return" if self.seen == self.leaver.returned_at else f"by {format_time(self.seen)}"
        return FAIL, f"Not removed {when}: {names}."

    def _in_time(self) -> Outcome:
        known = [one for one in self.held if one.entitlement is not None]
        late = [one for one in known if one.removed is not None and one.removed > self.due]
        if self.seen >= self.due:
            late += [one for one in known if one.removed is None]
        if not late:
            return (PASS if any(one.removed is not None for one in known) else NOT_APPLICABLE), ""
        gone = [one.removed for one in late if one.removed is not None]
        if not gone:
            return FAIL, f"The agreed {many(self.hours, 'hour')} were over at {format_time(self.due)}."
        after = duration(max(gone) - self.leaver.left_at)
        names = _names([one for one in late if one.removed is not None])
        return FAIL, f"Removed {after} after leaving, later than the agreed {many(self.hours, 'hour')}: {names}."

    def _unused(self) -> Outcome:
        if self.used.empty:
            return PASS, ""
        first, last = (from_datetime(at) for at in (self.used["first_at"].min(), self.used["last_at"].max()))
        did = listed(sorted(set(self.used["did"]))[:MAX_NAMED])
        events = many(int(self.used["events"].sum()), "event")
        when = f"at {format_time(first)}" if first == last else f"from {format_time(first)} to {format_time(last)}"
        return FAIL, f"{events} after leaving, {when}: {did}."

    def _agrees(self, *, listing: bool, recorded: bool) -> Outcome:
        leaver = self.leaver
        if not listing or (leaver.event_at is None and not recorded):
            return NOT_APPLICABLE, ""
        if leaver.list_at is None:
            return FAIL, "The attached list of leavers (unsealed evidence) does not name this person."
        if leaver.event_at is None:
            return FAIL, "The attached list (unsealed evidence) names this leaver; the trail holds no leave event."
        if leaver.disagrees:
            day, event = format_time(leaver.list_at), format_time(leaver.event_at)
            return (
                FAIL,
                f"By the attached list (unsealed evidence) the last day ended at {day}, by the event at {event}.",
            )
        return PASS, ""


def _names(held: Sequence[Held]) -> str:
    names = sorted({str(one.entitlement) for one in held})
    more = [f"{len(names) - MAX_NAMED:,} more"] if len(names) > MAX_NAMED else []
    return listed([*names[:MAX_NAMED], *more])
