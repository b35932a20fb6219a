"""Periodic reviews of access: performed, of the whole listing, independently, and carried out (TSC CC6.2, CC6.3)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from auditlib.attachments import Attachment, Persons, persons
from auditlib.evidence.accounts import micros
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import Period, period_of
from auditlib.evidence.examined import Examined, Found, Request, chosen, judge, with_further
from auditlib.evidence.frames import PLACED, Kind, typed
from auditlib.evidence.leavers import within
from auditlib.evidence.review_frequency import missing_reviews
from auditlib.evidence.review_verdicts import ATTRIBUTES, REMOVE, Decision, Review, Row, due_time
from auditlib.evidence.reviews_page import COLUMNS, NOTED, SECTIONS, decisions_counted, reviews_procedure
from auditlib.formats.times import parse_time, to_datetime
from auditlib.population import Population, draw
from auditlib.query import Filter, Moment, zone_of
from auditlib.sampling import Rule, draw_sample
from auditlib.trail import Selection, Trail

REQUEST = Request(
    name="review-performed",
    title="Periodic reviews of access",
    criteria=("CC6.2", "CC6.3"),
    references=("ISO/IEC 27001:2022 A.5.18",),
    one="review",
    several="reviews",
)
_STATED = """
    SELECT sequence, row, context ->> '$.due' AS due, try_cast(context ->> '$.listing_rows' AS BIGINT) AS listing_rows,
           context ->> '$.decision' AS decided
    FROM batches WHERE list_contains($actions, action) AND outcome = 'success' ORDER BY sequence, row"""
_RECORD: dict[str, Kind] = {**PLACED, "actor_type": "text", "actor_id": "text", "action": "text"}
_TEXTS: dict[str, Kind] = dict.fromkeys(("review_id", "entitlement"), "text")
_NUMBERS: dict[str, Kind] = dict.fromkeys(("listing_rows", "decided", "to_remove", "removed"), "whole")
_ITEM: dict[str, Kind] = {"item": "text", **_RECORD, **_TEXTS, "due": "text", "due_at": "time", **_NUMBERS}
_DECISION: dict[str, Kind] = {
    **{"review": "text", **_TEXTS, "grantee": "text", "decision": "text", "last": "flag"},
    **{"removed_at": "time", "removal": "text", **_RECORD},
}
_REMOVAL: dict[str, Kind] = {"review": "text", "grantee": "text", "entitlement": "text", **_RECORD}


@over_trails
def review_performed(
    trail: Trail,
    *,
    since: Moment,
    until: Moment = None,
    through: Moment = None,
    tz: str = "UTC",
    removal_days: int = 14,
    every_months: int | None = 3,
    identities: Attachment | None = None,
    sample: Rule | None = None,
) -> Examined:
    """Answer "show me every periodic review of access between SINCE and UNTIL, and that it was carried out".

    Decisions are linked by the review's id, whenever they were made; removals count up to the checkpoint. `identities`
    is the attached list of that name. Raises MalformedError for a list that contradicts itself.
    """
    period, zone = period_of(since, until, through, tz), zone_of(tz)
    drawn, lines, removals = (draw(trail, kind) for kind in ("review", "review-decision", "revoke"))
    observed, known = parse_time(trail.recorded[1]), persons(identities.frame) if identities else None
    reviews = _reviews(_stated(trail, drawn), _decisions(_stated(trail, lines), removals.items, known), known, zone)
    asked = [review for review in reviews if within(review.at, period)]
    items = _judged(asked, removal_days, observed)
    how = chosen(drawn.actions, Selection(trail, _filter(drawn.actions, period)))
    found = Found(
        question=f"Show me every periodic review of access from {period.words()}, and that it was carried out.",
        kind="review",
        items=items,
        attributes=ATTRIBUTES,
        columns=COLUMNS,
        noted=NOTED,
        **how,
        procedure=reviews_procedure(drawn.actions, removal_days, every_months, by_person=known is not None),
        parameters={"every_months": every_months, "removal_days": removal_days},
        told=[*decisions_counted(asked), *missing_reviews(reviews, trail, period, every_months)],
        tables={"decisions": _decision_table(asked), "removals": _removal_table(asked)},
        sections=SECTIONS,
        limits=[
            "That the listing that was reviewed named every holder is not shown here: access-review answers who holds "
            "what at a moment."
        ],
    )
    taken = None if sample is None else draw_sample(items, sample, request=REQUEST.name)
    return Examined(REQUEST, trail, period, found, taken)


# --- what is read --------------------------------------------------------------------------------------------


def _filter(actions: Sequence[str], period: Period) -> Filter:
    return Filter(actions=tuple(actions), outcomes=("success",), since=period.since, until=period.until)


def _stated(trail: Trail, drawn: Population) -> pd.DataFrame:
    """The drawn items with what only the context says: due, listing_rows, decided; by (sequence, row)."""
    values: Any = {"actions": list(drawn.actions)}
    seals = Selection(trail, Filter(actions=tuple(drawn.actions), outcomes=("success",))).seals if drawn.actions else []
    told = trail.run(seals, _STATED, values, apart=True).to_arrow_table().to_pandas().astype({"listing_rows": "Int64"})
    texts = {name: drawn.items[name].fillna("") for name in ("request", "grantee", "entitlement")}
    return drawn.items.assign(**texts).merge(told, on=["sequence", "row"], how="left")


def _decisions(lines: pd.DataFrame, removals: pd.DataFrame, known: Persons | None) -> dict[str, list[Decision]]:
    """Review id -> its decisions in the order of time."""
    gone: dict[tuple[str, str], list[tuple[int, int, int, Row]]] = defaultdict(list)
    for at, row in _timed(removals):
        gone[row["grantee"], row["entitlement"]].append((at, row["sequence"], row["row"], row))
    for changes in gone.values():
        changes.sort(key=lambda change: change[:3])
    found: dict[str, list[Decision]] = defaultdict(list)
    rows = sorted(_timed(lines), key=lambda one: (one[0], one[1]["sequence"], one[1]["row"]))
    last = {(row["request"], row["grantee"], row["entitlement"]): row["item"] + row["source"] for _, row in rows}
    for at, row in rows:
        place = (at, row["sequence"], row["row"])
        after = [change for change in gone.get((row["grantee"], row["entitlement"]), ()) if change[:3] > place]
        taken = after[0] if after and row["decided"] == REMOVE else None
        final = last[row["request"], row["grantee"], row["entitlement"]] == row["item"] + row["source"]
        found[row["request"]].append(
            Decision(
                row=row,
                review_id=row["request"],
                at=at,
                decision=row["decided"] if isinstance(row["decided"], str) else "",
                own=_person(known, row["actor_id"], row, at) == _person(known, row["grantee"], row, at),
                last=final,
                removal=taken and taken[3],
                removed_at=taken and taken[0],
            )
        )
    return found


def _reviews(
    rows: pd.DataFrame, decisions: dict[str, list[Decision]], known: Persons | None, zone: ZoneInfo
) -> list[Review]:
    """Every review, one an event, whatever it lists, in the order of the trail."""
    names = {place: sorted(set(texts) - {""}) for place, texts in rows.groupby(["sequence", "row"])["entitlement"]}
    once = rows.drop_duplicates(["sequence", "row"])
    ids = Counter(once["request"])
    found = []
    for at, row in _timed(once):
        own = decisions.get(row["request"], []) if row["request"] else []
        reviewer = _person(known, row["actor_id"], row, at)
        accounts = {one.name for one in own}
        due = row["due"] if isinstance(row["due"], str) else None
        reviewed_self = any(_person(known, name, row, at) == reviewer for name in accounts)
        found.append(
            Review(
                row={**row, "item": row["event_id"]},
                entitlements=names[row["sequence"], row["row"]],
                at=at,
                due=due,
                due_at=due_time(due, zone),
                listing_rows=row["listing_rows"] if isinstance(row["listing_rows"], int) else None,
                decisions=own,
                reviews_of_id=ids[row["request"]],
                reviewed_self=reviewed_self,
                by_person=reviewed_self and row["actor_id"] not in accounts,
            )
        )
    return found


def _person(known: Persons | None, account: str, row: Row, at: int) -> str:
    """Who an account is; itself where nobody says."""
    return (known.of(account, at, row["source"]) if known else None) or account


def _timed(frame: pd.DataFrame) -> list[tuple[int, Row]]:
    rows: list[Any] = frame.to_dict("records")
    return list(zip(micros(frame["occurred_at"], 0), rows, strict=True))


# --- what is shown -------------------------------------------------------------------------------------------


def _judged(reviews: Sequence[Review], days: int, observed: int) -> pd.DataFrame:
    rows, outcomes, reasons = [], [], []
    for review in reviews:
        results = review.results(days, observed)
        counts = {"decided": len(review.final), "to_remove": len(review.removals)}
        counts["removed"] = sum(one.removed_at is not None for one in review.removals)
        due_at = None if review.due_at is None else to_datetime(review.due_at)
        stated = {"review_id": review.row["request"], "due": review.due, "due_at": due_at}
        stated["entitlement"] = ", ".join(review.entitlements)
        rows.append({**review.row, **stated, "listing_rows": review.listing_rows, **counts})
        outcomes.append({name: outcome for name, (outcome, _) in results.items()})
        reasons.append({name: reason for name, (_, reason) in results.items()})
    items = typed(rows, _ITEM)
    told = pd.DataFrame(reasons, items.index, columns=list(ATTRIBUTES), dtype="str")
    judged = judge(items.join(pd.DataFrame(outcomes, items.index, list(ATTRIBUTES), "str")), ATTRIBUTES, told)
    return with_further(judged, ATTRIBUTES, told).astype({"verdict": "str", "reason": "str"})


def _decision_table(reviews: Sequence[Review]) -> pd.DataFrame:
    rows = [
        {
            **one.row,
            "review": review.row["item"],
            "review_id": one.review_id,
            "decision": one.decision,
            "last": one.last,
            "removed_at": None if one.removed_at is None else to_datetime(one.removed_at),
            "removal": None if one.removal is None else one.removal["event_id"],
        }
        for review in reviews
        for one in review.decisions
    ]
    return typed(rows, _DECISION)


def _removal_table(reviews: Sequence[Review]) -> pd.DataFrame:
    taken = [
        {**one.removal, "review": review.row["item"]}
        for review in reviews
        for one in review.removals
        if one.removal is not None
    ]
    return typed(taken, _REMOVAL)
