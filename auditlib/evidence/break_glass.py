"""Break-glass uses, each beside the review that names it: by somebody else, and in time.

    glass = review_uses(uses, reviews, within=5 * DAY, observed_until=...)
    glass.results, glass.reasons, glass.uses

A review names the use by its event id (the catalogue's `request` of kind `break-glass-review`). One by who used it is
none, and neither is one by nobody (anonymous) or from before the use.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pandas as pd

from auditlib.attachments import Attachment, persons
from auditlib.evidence.answer import Period
from auditlib.evidence.examined import FAIL, NOT_TESTABLE, PASS, PLACE, drawn
from auditlib.evidence.frames import PLACED, Kind, typed
from auditlib.findings import duration
from auditlib.formats.times import format_time, from_datetime, to_datetime
from auditlib.trail import Trail

USE, REVIEW = "break-glass", "break-glass-review"  # kinds
REVIEWS = ["review", "use", *PLACE, "actor_type", "actor_id", "action", "conclusion"]

_USES: dict[str, Kind] = {
    "use": "text",
    **PLACED,
    **dict.fromkeys(("actor_type", "actor_id", "action", "target", "stated"), "text"),
    **dict.fromkeys(("review", "reviewer", "conclusion"), "text"),
    "reviewed_at": "time",
    "after": "text",
    "reviewed": "text",
}


class Glass(msgspec.Struct, frozen=True):
    """Each use's result and its sentence, in the order of the uses; and the table that shows them."""

    results: list[str]
    reasons: list[str]
    uses: pd.DataFrame
    by_person: int  # uses reviewed by their own user by the list of identities alone


def reviews_of(trail: Trail, period: Period, uses: pd.DataFrame) -> pd.DataFrame:
    """The reviews of these uses from the period's beginning up to the checkpoint, columns REVIEWS, in order of time."""
    wide = Period(period.since, None, period.tz)
    items, how = drawn(trail, [REVIEW], wide)
    items = items[items["request"].isin(set(uses["event_id"]))].drop_duplicates(["source", "event_id"])
    if items.empty:
        return items.assign(review=items["event_id"], use=items["request"], conclusion=items["request"])[REVIEWS]
    since = None if period.since is None else to_datetime(period.since)
    selection = trail.events(action=list(how["actions"]), outcome="success", since=since)
    said = trail.scan(
        selection.seals, "sequence, row, context ->> '$.conclusion' AS conclusion", *selection.filter.sql()
    ).to_arrow_table()
    items = items.merge(said.to_pandas(), on=["sequence", "row"], how="left", validate="one_to_one")
    items = items.assign(review=items["event_id"], use=items["request"])
    return items.sort_values(["occurred_at", "sequence", "row"], kind="stable", ignore_index=True)[REVIEWS]


def review_uses(
    uses: pd.DataFrame, reviews: pd.DataFrame, identities: Attachment | None, *, within: int, observed_until: int
) -> Glass:
    """Judge each use (a row with PLACE, who, `target` and `stated`, its reason); `within` and times in microseconds."""
    by_use: dict[str, list[Any]] = {}
    for review in _by_person(reviews, identities):
        by_use.setdefault(review["use"], []).append(review)
    results, reasons, rows, by_person = [], [], [], 0
    for use in _by_person(uses, identities):
        named = [one for one in by_use.get(use["event_id"], []) if one["occurred_at"] >= use["occurred_at"]]
        known = [one for one in named if one["actor_type"] != "anonymous"]
        other = next((one for one in known if one["person"] != use["person"]), None)
        result, reason = _judged(use, other, known, within, observed_until)
        by_person += result == FAIL and other is None and any(one["actor_id"] != use["actor_id"] for one in known)
        shown = other or next(iter(named), None)
        results.append(result)
        reasons.append(reason)
        rows.append(use | {"use": use["event_id"], "reviewed": result} | (_shown(use, shown) if shown else {}))
    return Glass(results, reasons, typed(rows, _USES), by_person)


def _judged(use: Any, other: Any, known: list[Any], within: int, observed_until: int) -> tuple[str, str]:
    """PASS, FAIL or NOT_TESTABLE, and why."""
    due = from_datetime(use["occurred_at"]) + within
    if other is not None and from_datetime(other["occurred_at"]) <= due:
        return PASS, ""
    if other is not None:
        return FAIL, f"{_said(use, other)}; it was due within {duration(within)}."
    if due > observed_until:
        return NOT_TESTABLE, f"No review yet: it is due by {format_time(due)}, after this trail ends."
    if not known:
        return FAIL, f"No review by anybody names this use of {use['actor_type']}:{use['actor_id']}."
    own = known[0]
    alias = "" if own["actor_id"] == use["actor_id"] else ", an account of the same person (unsealed evidence)"
    return FAIL, f"{_said(use, own)}, who had used it{alias}; nobody else did."


def _said(use: Any, review: Any) -> str:
    after = duration(from_datetime(review["occurred_at"]) - from_datetime(use["occurred_at"]))
    return f"Reviewed {after} after the use by {review['actor_type']}:{review['actor_id']}"


def _shown(use: Any, review: Any) -> dict[str, Any]:
    return {
        "review": review["event_id"],
        "reviewer": f"{review['actor_type']}:{review['actor_id']}",
        "conclusion": review["conclusion"],
        "reviewed_at": review["occurred_at"],
        "after": duration(from_datetime(review["occurred_at"]) - from_datetime(use["occurred_at"])),
    }


def _by_person(frame: pd.DataFrame, identities: Attachment | None) -> list[dict[Any, Any]]:
    """The rows with the person behind the actor as of the event; without a list an account is a person."""
    who = frame["actor_id"]
    if identities is not None and len(frame):
        who = persons(identities.frame).named(who, frame["occurred_at"], frame["source"])
    return frame.assign(person=who).to_dict("records")
