"""How denied access is shown and told: columns, sections, sentences."""

from __future__ import annotations

import pandas as pd

from auditlib.evidence.answer import Column, Section, many
from auditlib.evidence.bursts import Burst
from auditlib.evidence.refusals import MAX_NAMED, Refusals

COLUMNS = [
    Column("item", "Burst", "code"),
    Column("began_at", "Began (UTC)", "time"),
    Column("ended_at", "Ended (UTC)", "time"),
    Column("common", "In common", "wide"),
    Column("failed_logins", "Failed logins", "number"),
    Column("denied", "Denied", "number"),
    Column("success_at", "First success after (UTC)", "time"),
    Column("verdict", "Verdict", "verdict"),
]
NOTED = [
    *COLUMNS[:2],
    Column("verdict", "Attribute not met", "verdict"),
    Column("reason", "What was noted", "wide"),
]
LIMITS = [
    "Whether anybody noticed a burst, looked into it and acted (CC7.3, CC7.4) is evidenced outside this answer: the "
    "trail names no event for it.",
    "A login or a check that was never recorded as refused cannot be seen here, nor can a slow attempt that stays "
    "below what makes a burst.",
    "That the same account or address succeeded afterwards does not say that it was the same person.",
]
_COUNTS = [
    Column("failed_logins", "Failed logins", "number"),
    Column("denied", "Denied", "number"),
    Column("first_at", "First (UTC)", "time"),
    Column("last_at", "Last (UTC)", "time"),
]
_EVENT = [
    Column("burst", "Burst", "code"),
    Column("occurred_at", "Occurred (UTC)", "time"),
    Column("actor_type", "Actor"),
    Column("actor_id", "Actor's id"),
    Column("action", "Action"),
    Column("target", "Target"),
    Column("outcome", "Outcome"),
]
_SHOWN_OF = {  # table -> title, what it is counted by
    "actions": ("Refusals by action", [Column("action", "Action"), Column("outcome", "Outcome")]),
    "actors": ("Refusals by actor", [Column("actor_type", "Actor"), Column("actor_id", "Actor's id")]),
    "targets": ("Refusals by target", [Column("target_type", "Target"), Column("target_id", "Target's id")]),
    "addresses": ("Refusals by address", [Column("ip", "Address")]),
}


def sections(refusals: Refusals) -> list[Section]:
    """Successes after bursts, what was done then, and the counts."""
    shown = [
        Section(
            title="The first success after a burst",
            table="successes",
            columns=_EVENT,
            empty="None was recorded.",
        ),
        Section(
            title="What was done after that success",
            table="followed",
            columns=_EVENT,
            empty="Nothing was recorded.",
        ),
    ]
    for name, (title, columns) in _SHOWN_OF.items():
        number = refusals.number[name]
        more = [f"Those with the most of {number:,}: {MAX_NAMED:,}."] if number > MAX_NAMED else []
        shown.append(
            Section(title=title, sentences=more, table=name, columns=[*columns, *_COUNTS], empty="None was recorded.")
        )
    days = [Column("day", "Day"), *_COUNTS[:2]]
    return [*shown, Section(title=f"Refusals by day ({refusals.period.tz})", table="days", columns=days, empty="None.")]


def procedure(refusals: Refusals, asked: Burst, left_out: int) -> list[str]:
    """How it was drawn and judged, in words."""
    logins = ", ".join(refusals.logins) or "no listed action"
    return [
        f"Refusals are logins ({logins}) that failed or were denied, and any other action that was denied. They are "
        "counted, not listed.",
        f"A burst is a run of refusals of which each lies among at least {asked.events:,} that follow each other "
        f"within {asked.minutes:,} min, of one account (who acted, unless anonymous; or whom a login names as its "
        "target, of type account, support or user) or of one address (`ip` of the context). Bursts that share a "
        "refusal are one. One that reaches over an end of the period is seen as far beyond it.",
        f"Up to {asked.follow_hours:,} h after the last refusal of a burst, and from the refusal on that made it a "
        "burst, the first success was looked for: a login, or the same action under the same permission (on the same "
        "target where no permission is stated), by the same account or address. What followed it is what was done in "
        f"its session, else by its actor, within {asked.follow_hours:,} h.",
        f"The records of the bursts stand in the table 'refusals'; {many(left_out, 'record')} of them were left out."
        if left_out
        else "The records of the bursts stand in the table 'refusals', every one of them.",
    ]


def told(refusals: Refusals, days: pd.DataFrame, followed: pd.DataFrame) -> list[str]:
    """Facts for the conclusion."""
    sentences = []
    if not refusals.logins:
        sentences.append("The catalogue in force knows no action of kind login: no failed login could be drawn.")
    number = refusals.number
    if len(refusals.moments):
        total = days["failed_logins"] + days["denied"]
        busiest = int(total.argmax())
        sentences.append(
            f"They came from {many(number['actors'], 'actor')} and {many(number['addresses'], 'address', 'addresses')}"
            f", against {many(number['targets'], 'target')}; most on {days['day'][busiest]} ({total[busiest]:,})."
        )
    hidden = int((followed.groupby("burst")["in_all"].max() - followed.groupby("burst").size()).sum())
    if hidden:
        sentences.append(f"Of what was done after a success, {many(hidden, 'later event')} are not listed.")
    return sentences
