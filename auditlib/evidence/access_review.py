"""Who holds what at a moment, replayed from a listing and reconciled to another (TSC CC6.2, CC6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

import pandas as pd

from auditlib.attachments import Attachment
from auditlib.errors import MalformedError
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import Period, many
from auditlib.evidence.examined import NOT_TESTABLE, PASS, PLACE, Examined, Found, Request, chosen
from auditlib.evidence.holders import Staff, looked_up
from auditlib.evidence.holding_verdicts import (
    ATTRIBUTES,
    HOLDS,
    LATER,
    LISTED,
    Compared,
    judge_holdings,
    reach_of,
    unlogged_changes,
)
from auditlib.evidence.holdings import PAIR, Replay, among
from auditlib.evidence.holdings_page import (
    COLUMNS,
    NOTED,
    Asked,
    facts,
    holders_chart,
    limits,
    procedure,
    sections,
)
from auditlib.evidence.last_seen import last_seen
from auditlib.evidence.listings import RECORD, Listed, Listings, attached_listing
from auditlib.formats.times import DAY, format_time, to_datetime
from auditlib.query import Filter, Moment, parse_moment, zone_of
from auditlib.sampling import Rule, draw_sample
from auditlib.trail import Selection, Trail

REQUEST = Request(
    name="access-review",
    title="Who holds what",
    criteria=("CC6.2", "CC6.3"),
    references=("ISO/IEC 27001:2022 A.5.18", "ISO/IEC 27001:2022 A.8.2"),
    one="holding",
    several="holdings",
)
End = Literal["opening", "closing"]
_ITEM = [
    *("item", *PLACE, "actor_type", "actor_id", "action", *PAIR, "privileged", "state", "basis", "evidence"),
    *("held_since", "valid_until"),
]


class AccessReview(Examined):
    """The answer; its properties are what the notebook shows, one after the other."""

    @cached_property
    def headline(self) -> str:
        """The answer in one sentence."""
        items = self.found.items
        held = items[items["state"] == HOLDS]
        shown = f"{many(len(held), 'holding')} of {many(held['subject'].nunique(), 'holder')}"
        if not self.found.query["opening"]:
            return f"Not testable: no opening listing. The trail's grants alone show {shown}."
        untested, others = self.counts[NOT_TESTABLE], len(items) - len(held)
        rest = f", {untested:,} could not be tested fully" if untested else ""
        beside = f", and {others:,} more that the closing listing shows or lacks" if others else ""
        return (
            f"{shown} at {self.found.query['held_at']}{beside}: {self.counts[PASS]:,} passed every attribute, "
            f"{many(len(self.exceptions), 'potential exception')}{rest}."
        )


@over_trails
def access_review(
    trail: Trail,
    *,
    at_date: Moment,
    tz: str = "UTC",
    privileged: Sequence[str] = ("admin", "billing-admin", "deployer"),
    dormant_days: int = 90,
    listing: Attachment | None = None,
    listing_is: End = "closing",
    sample: Rule | None = None,
) -> AccessReview:
    """Answer "show me who holds what at DATE, and what gave it to each"; a day is its midnight in `tz`.

    From the newest listing at or before the date, or the attached `listing` where it is the opening; reconciled to the
    first listing after it, or to the attached one where it is the closing. Where no listing is later, the newest is the
    closing one, and the one before it the opening. `privileged` are values or globs.
    """
    at = parse_moment(at_date or "", zone_of(tz), "at_date")
    listings = Listings(trail)
    opening, closing = _ends(listings, at, listing, listing_is)
    first, last = listings.rows(opening), listings.rows(closing)
    replay = Replay(trail, first, max([at, *(one.at for one in closing)]))
    now, compared = replay.at(at), _compared(replay, last, [one.at for one in closing])
    later, extra = compared.beside(now.held)
    staff, reach = Staff(trail, at), reach_of(trail, at - dormant_days * DAY, at)
    items = _items({HOLDS: now.held, LATER: later, LISTED: extra}, privileged)
    wanted = items.loc[items["privileged"] & (items["state"] != LATER), "subject"]
    seen = last_seen(trail, wanted, reach.since, at)
    times = looked_up(seen.set_index("actor_id")["occurred_at"], items["subject"])
    items = items.assign(left_at=staff.left(items["subject"]), last_seen_at=times)
    judged = judge_holdings(items, compared, staff, reach, opened=bool(opening))
    held, unlogged = judged[judged["state"] == HOLDS], unlogged_changes(judged, compared)
    since = min((one.at for one in opening), default=at)
    actions = tuple(sorted({*replay.actions, *listings.actions}))
    period = Period(since if since < at else None, at, tz)
    how = chosen(actions, Selection(trail, Filter(actions, outcomes=("success",), since=period.since, until=at)))
    stated = {"held_at": format_time(at)} | {
        name: [one.words for one in ends] for name, ends in (("opening", opening), ("closing", closing))
    }
    asked = Asked(at, tuple(privileged), dormant_days, opening, closing, staff.recorded)
    found = Found(
        question=f"Show me who holds what at {format_time(at)}, and what gave it to each.",
        kind="holding",
        items=judged,
        attributes=ATTRIBUTES,
        columns=COLUMNS,
        noted=NOTED,
        **how | {"query": how["query"] | stated},
        procedure=procedure(asked),
        parameters={"at_date": format_time(at), "dormant_days": dormant_days}
        | {"listing_is": listing_is, "privileged": list(privileged)},
        told=[*facts(held, unlogged, now.ended, replay.unread, asked), *listings.sentences()],
        tables={
            "changes": _placed(replay.changes[among(replay.changes, judged)], *PAIR, "item", "gives", "valid_until"),
            "ended": _placed(now.ended, *PAIR, "item", "valid_until"),
            "last_seen": seen,
            "listings": _sealed(opening=first, closing=last),
            "people": staff.records(items["subject"]),
            "unlogged": unlogged,
            "unread": _placed(replay.unread, *PAIR, "item"),
        },
        sections=sections(),
        picture=holders_chart(held, format_time(at)),
        limits=limits(asked),
    )
    drawn = None if sample is None else draw_sample(judged, sample, request=REQUEST.name)
    return AccessReview(REQUEST, trail, period, found, drawn)


def _ends(
    listings: Listings, at: int, listing: Attachment | None, listing_is: End
) -> tuple[list[Listed], list[Listed]]:
    """The listings to begin from and to end at."""
    given = None if listing is None else attached_listing(listing)
    if given is not None and listing_is == "opening":
        if given.at > at:
            message = f"it holds for {format_time(given.at)}, after {format_time(at)}: it cannot open that."
            raise MalformedError(message, where="listing")
        return [given], listings.following(at)
    closing = (listings.following(at) or listings.newest(at)) if given is None else [given]
    opening = listings.newest(min([at, *(one.at - 1 for one in closing)]))
    if not opening and given is None and all(one.at <= at for one in closing):
        return closing, []
    systems = [{part.system for one in ends for part in one.parts} for ends in (opening, closing)]
    # What a system holds that has no closing listing would be missed in those of the others.
    whole = given is not None or not opening or systems[0] == systems[1]
    return opening, closing if whole else []


def _compared(replay: Replay, rows: pd.DataFrame, moments: list[int]) -> Compared:
    changes = replay.changes
    if not moments:
        return Compared(None, rows, changes[:0])
    first, last = to_datetime(min(moments)), to_datetime(max(moments))
    between = (changes["occurred_at"] >= first) & (changes["occurred_at"] < last)
    return Compared(replay.at(min(moments)), rows, changes[between])


def _items(by_state: dict[str, pd.DataFrame], privileged: Sequence[str]) -> pd.DataFrame:
    """A row a holding, by subject and entitlement."""
    frames = [frame.assign(state=pd.Series(state, frame.index, dtype="str")) for state, frame in by_state.items()]
    rows = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    rows = rows.sort_values([*PAIR, "state"], kind="stable", ignore_index=True)
    names = [name for name in rows["entitlement"].unique() if any(fnmatchcase(name, glob) for glob in privileged)]
    basis = pd.Series("grant", rows.index, dtype="str").mask(rows["since"] != rows["occurred_at"], "opening listing")
    return rows.assign(
        privileged=rows["entitlement"].isin(names),
        basis=basis.mask(rows["state"] == LISTED, "closing listing"),
        evidence=pd.Series("sealed", rows.index, dtype="str").mask(rows["event_id"] == "", "unsealed"),
        held_since=rows["since"],
    )[_ITEM]


def _sealed(**ends: pd.DataFrame) -> pd.DataFrame:
    """The events in which listings were sealed."""
    frames = [rows.assign(listing=pd.Series(name, rows.index, dtype="str")) for name, rows in ends.items()]
    rows = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
    rows = rows[rows["event_id"] != ""].drop_duplicates(["listing", "sequence", "row"])
    return _placed(rows, "listing")


def _placed(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return rows[[*columns, *RECORD]].reset_index(drop=True)
