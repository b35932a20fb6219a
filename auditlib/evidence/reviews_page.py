"""What a report says and shows of periodic reviews."""

from __future__ import annotations

from collections.abc import Sequence

from auditlib.evidence.answer import Column, Section, listed, many
from auditlib.evidence.review_frequency import expected
from auditlib.evidence.review_verdicts import KEEP, Review

COLUMNS = [
    Column("review_id", "Review"),
    Column("entitlement", "Entitlement"),
    Column("actor_id", "Reviewer"),
    Column("occurred_at", "Performed (UTC)", "time"),
    Column("due", "Due"),
    Column("listing_rows", "Listed", "number"),
    Column("decided", "Decided on", "number"),
    Column("to_remove", "To remove", "number"),
    Column("removed", "Removed", "number"),
    Column("verdict", "Verdict", "verdict"),
]
NOTED = [
    Column("review_id", "Review"),
    Column("item", "Item", "code"),
    Column("occurred_at", "Performed (UTC)", "time"),
    Column("actor_id", "Reviewer"),
    Column("verdict", "Attribute not met", "verdict"),
    Column("reason", "What was noted", "wide"),
]
SECTIONS = [
    Section(
        title="What was decided, and what was removed",
        table="decisions",
        columns=[
            Column("review_id", "Review"),
            Column("grantee", "Holder"),
            Column("entitlement", "Entitlement"),
            Column("decision", "Decided"),
            Column("occurred_at", "Decided (UTC)", "time"),
            Column("actor_id", "By"),
            Column("removed_at", "Removed (UTC)", "time"),
        ],
        empty="No decision is recorded.",
    )
]


def reviews_procedure(actions: Sequence[str], days: int, months: int | None, *, by_person: bool) -> list[str]:
    """How reviews were drawn and judged."""
    told = [
        f"Reviews are the successful events of kind review that occurred in the period "
        f"({listed(actions) if actions else 'no listed action'}); decisions belong to the review whose id they name, "
        "and of several on one holding the last counts.",
        "A day that is stated as due ends at its midnight in the time zone of the request.",
        f"A decision to remove is carried out by the first recorded removal of that entitlement from that holder after "
        f"it, within {many(days, 'day')}; one whose days are not over is not yet due.",
        "Who reviewed was compared with who was reviewed "
        + ("as persons, by the attached identities (unsealed evidence)." if by_person else "by account only."),
    ]
    if months:
        told.append(
            f"Of each entitlement that was ever reviewed, a review {expected(months)} is expected, from the beginning "
            "of the period on; a shorter rest at its end is not counted."
        )
    return told


def decisions_counted(reviews: Sequence[Review]) -> list[str]:
    """What was decided, in one sentence."""
    removals = [one for review in reviews for one in review.removals]
    if not removals:
        return []
    done = sum(one.removed_at is not None for one in removals)
    kept = sum(one.decision == KEEP for review in reviews for one in review.final)
    were = "was" if done == 1 else "were"
    return [f"Decided: {kept:,} to keep, {len(removals):,} to remove, of which {done:,} {were} removed."]
