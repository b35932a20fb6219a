"""Holdings judged: what gave each, whether the closing listing shows it, whether its holder was there and active."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pandas as pd

from auditlib.evidence.examined import FAIL, NOT_APPLICABLE, NOT_TESTABLE, PASS, judge, with_further
from auditlib.evidence.holders import Staff
from auditlib.evidence.holdings import PAIR, Held, among
from auditlib.evidence.listings import RECORD
from auditlib.formats.times import format_time, from_datetime, parse_time, to_datetime
from auditlib.trail import Trail

ATTRIBUTES = {
    "explained": "the opening listing or a grant gives it",
    "in_closing": "the closing listing shows it, unless something that was recorded changed it in between",
    "holder_active": "the holder had not left before the date, or had come back",
    "not_dormant": "the holder of a privileged entitlement did something, with success, in the agreed days before",
}
HOLDS, LATER, LISTED = "held at the date", "granted after the date", "in the closing listing alone"
APPEARED, VANISHED, OUTLIVED = "appeared", "vanished", "outlived its end"
_UNLOGGED = ["change", *PAIR, "item", *RECORD, "reason"]


class Compared(msgspec.Struct, frozen=True):
    """A closing listing, and what should be in it: those holdings of which it has a say."""

    known: Held | None  # by replay, at the moment of the closing listing; None where there is none
    rows: pd.DataFrame  # of the closing listing
    unclear: pd.DataFrame  # changes between the moments of several closing listings

    @property
    def by(self) -> str:
        """The closing listing in words."""
        return "The closing listing" + (" (unsealed evidence)" if any(self.rows["event_id"] == "") else "")

    def shown(self, held: pd.DataFrame) -> pd.Series[Any]:
        """The attribute in_closing of holdings at the date."""
        outcome = pd.Series(NOT_APPLICABLE, held.index, dtype="str")
        if self.known is not None:
            asked = among(held, self.known.held) & ~among(held, self.unclear)
            outcome[asked] = FAIL
            outcome[asked & among(held, self.rows)] = PASS
        return outcome

    def beside(self, held: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What it should show and does not, granted after the date; what it shows and nothing explains."""
        if self.known is None:
            return held[:0], self.rows[:0]
        then = self.known.held
        gone = ~among(then, self.rows) & ~among(then, self.unclear) & ~among(then, held)
        extra = ~among(self.rows, then) & ~among(self.rows, self.unclear)
        return then[gone], self.rows[extra]

    def ends(self, items: pd.DataFrame) -> Iterator[Any]:
        """When the grants of each had ended, by their own terms; NaT where they had not, or there was none."""
        if self.known is None:
            yield from [pd.NaT] * len(items)
        else:
            over = self.known.ended.set_index(PAIR)["valid_until"]
            yield from over.reindex(pd.MultiIndex.from_frame(items[PAIR]))


class Reach(msgspec.Struct, frozen=True):
    """The days in which a holder must have been seen, and from when to when the trail reaches; microseconds, UTC."""

    since: int
    until: int
    begins: int
    ends: int

    @property
    def short(self) -> bool:
        """Whether the trail does not reach over all of them."""
        return self.begins > self.since or self.ends < self.until


def reach_of(trail: Trail, since: int, until: int) -> Reach:
    """The reach of a trail over some days."""
    begins = trail.history.seals.begins
    return Reach(max(0, since), until, begins, parse_time(trail.recorded[1]))


def judge_holdings(
    items: pd.DataFrame, compared: Compared, staff: Staff, reach: Reach, *, opened: bool
) -> pd.DataFrame:
    """The items with every attribute, verdict and reason; `opened`: there is an opening listing."""
    listed, later = items["state"] == LISTED, items["state"] == LATER
    explained = pd.Series(PASS, items.index, dtype="str").mask(listed, FAIL if opened else NOT_TESTABLE)
    active = pd.Series(PASS if staff.recorded else NOT_APPLICABLE, items.index, dtype="str")
    unseen = ~(items["last_seen_at"] >= to_datetime(reach.since))
    awake = pd.Series(PASS, items.index, dtype="str").mask(unseen, NOT_TESTABLE if reach.short else FAIL)
    outcomes = {
        "explained": explained,
        "in_closing": compared.shown(items).mask(listed, PASS).mask(later, FAIL),
        "holder_active": active.mask(items["left_at"].notna(), FAIL),
        "not_dormant": awake.mask(~items["privileged"] | later, NOT_APPLICABLE),
    }
    said = {
        "explained": [_unexplained(compared, end, opened=opened) for end in compared.ends(items)],
        "in_closing": [f"{compared.by} does not show it, and no removal was recorded."] * len(items),
        "holder_active": ["" if pd.isna(at) else f"The holder left at {_time(at)}." for at in items["left_at"]],
        "not_dormant": [_unseen(reach, at) for at in items["last_seen_at"]],
    }
    reasons = pd.DataFrame(said, items.index, columns=list(ATTRIBUTES), dtype="str")
    judged = with_further(judge(items.assign(**outcomes), ATTRIBUTES, reasons), ATTRIBUTES, reasons)
    return judged.astype({"verdict": "str", "reason": "str"})


def unlogged_changes(items: pd.DataFrame, compared: Compared) -> pd.DataFrame:
    """The changes that nobody logged: what the closing listing shows too much, and what it lacks."""
    failed = items[(items["explained"] == FAIL) | (items["in_closing"] == FAIL)]
    too_much = failed["explained"] == FAIL
    over = pd.Series([not pd.isna(end) for end in compared.ends(failed)], failed.index, dtype=bool)
    change = pd.Series(VANISHED, failed.index, dtype="str").mask(too_much, APPEARED).mask(too_much & over, OUTLIVED)
    return failed.assign(change=change)[_UNLOGGED].reset_index(drop=True)


def _unexplained(compared: Compared, end: Any, *, opened: bool) -> str:
    if not pd.isna(end):
        return f"{compared.by} shows it, though its grant had ended at {_time(end)}."
    if opened:
        return f"{compared.by} shows it; neither the opening listing nor a grant gives it."
    return f"{compared.by} shows it; without an opening listing nobody can tell whether it is older than the trail."


def _unseen(reach: Reach, at: Any) -> str:
    told = "The holder was never seen before the date" if pd.isna(at) else f"The holder was last seen at {_time(at)}"
    span = f"{format_time(reach.begins)} to {format_time(reach.ends)}"
    return f"{told}; the trail reaches from {span} only." if reach.short else f"{told}."


def _time(at: Any) -> str:
    return format_time(from_datetime(at.to_pydatetime()))
