"""How privileged actions are shown and told: columns, sections, sentences, the picture."""

from __future__ import annotations

import pandas as pd

from auditlib.evidence.answer import Column, Period, Section, many
from auditlib.evidence.break_glass import Glass
from auditlib.evidence.by_day import by_day, day_picture, one_a_day
from auditlib.evidence.charts import Mark, Picture
from auditlib.evidence.examined import FAIL, NOT_TESTABLE, TESTED
from auditlib.trail import Trail

ATTRIBUTES = {
    "has_actor": "it is known who acted: not anonymous, and a system actor has a job's identity",
    "human_has_session": "a person acted in a session",
    "break_glass_reviewed": "a break-glass use was reviewed by somebody else in time",
}
WHO = {  # actor type -> in the words of a report
    "user": "people",
    "support": "support tooling",
    "service": "services",
    "system": "jobs",
    "anonymous": "nobody known",
}
COLUMNS = [
    Column("item", "Event", "code"),
    Column("occurred_at", "Occurred (UTC)", "time"),
    Column("actor_type", "Actor"),
    Column("actor_id", "Actor's id"),
    Column("action", "Action"),
    Column("target", "Target"),
    Column("outcome", "Outcome"),
    Column("verdict", "Verdict", "verdict"),
]
NOTED = [*COLUMNS[:5], Column("verdict", "Attribute not met", "verdict"), Column("reason", "What was noted", "wide")]
LIMITS = [
    "Which actions are privileged is the word of the catalogue in force, which is in this packet.",
    "Whether whoever acted was allowed to is answered by role-grants and access-review, not here.",
    "A session or a job's identity is what the source stated: that it was there is tested, not that it was true.",
]
_ENDS = [Column("first_at", "First (UTC)", "time"), Column("last_at", "Last (UTC)", "time")]


def sections(unlisted: pd.DataFrame) -> list[Section]:
    """Who did what; break-glass uses; what the catalogue does not list."""
    number = int(unlisted["in_all"].max()) if len(unlisted) else 0
    more = [f"Those with the most events of {number:,}: {len(unlisted):,}."] if number > len(unlisted) else []
    return [
        Section(
            title="Who did what",
            table="summary",
            columns=[
                Column("who", "Who"),
                Column("action", "Action"),
                Column("outcome", "Outcome"),
                Column("events", "Events", "number"),
                Column("actors", "Actors", "number"),
                *_ENDS,
            ],
            empty="Nothing.",
        ),
        Section(
            title="Break-glass uses and their reviews",
            table="uses",
            columns=[
                Column("use", "Use", "code"),
                Column("occurred_at", "Used (UTC)", "time"),
                Column("actor_id", "By"),
                Column("stated", "Reason as stated", "wide"),
                Column("reviewer", "Reviewed by"),
                Column("after", "After"),
                Column("conclusion", "Conclusion"),
                Column("reviewed", "Reviewed in time", "verdict"),
            ],
            empty="None is recorded.",
        ),
        Section(
            title="Actions that the catalogue does not list",
            sentences=["Nobody has said whether these are privileged; they are not in the population.", *more],
            table="unlisted",
            columns=[
                Column("action", "Action"),
                Column("events", "Events", "number"),
                Column("actors", "Actors", "number"),
                *_ENDS,
            ],
            empty="None: every action of the period is listed.",
        ),
    ]


def procedure(actions: int, review_days: int, *, narrowed: bool) -> list[str]:
    """How items were drawn and judged, in words."""
    of = (
        "the privileged actions that were asked for" if narrowed else "every action that the catalogue calls privileged"
    )
    return [
        f"Items are all events of the period, of whatever outcome, of {of} ({many(actions, 'action')}; the population "
        "statement names them).",
        "A system actor has a job's identity where its id names what runs it and the job, like cron:nightly-backup.",
        "A session is asked of actors of type user; what this library's own command line records knows none.",
        f"A break-glass use that succeeded needs a review that names its event id, by somebody else, within "
        f"{review_days:,} d ({review_days * 24:,} h). Reviews were searched from the period's beginning up to the "
        "checkpoint.",
    ]


def told(items: pd.DataFrame, glass: Glass, unlisted: pd.DataFrame) -> list[str]:
    """Facts for the conclusion."""
    sentences = []
    for kind, who in WHO.items():
        own = items[items["actor_type"] == kind]
        if len(own):
            sentences.append(f"By {who}: {many(len(own), 'event')} of {many(own['actor_id'].nunique(), 'actor')}.")
    if glass.results:
        met = sum(result not in (FAIL, NOT_TESTABLE) for result in glass.results)
        uses = many(len(glass.results), "break-glass use")
        sentences.append(f"{uses}, {met:,} of them reviewed by somebody else in time.")
    if glass.by_person:
        sentences.append(f"{many(glass.by_person, 'verdict')} by the attached identities alone (unsealed evidence).")
    if refused := int((items["outcome"] != "success").sum()):
        sentences.append(f"{refused:,} of them failed or were denied.")
    if len(unlisted):
        number = int(unlisted["in_all"].max())
        sentences.append(f"{many(number, 'recorded action is', 'recorded actions are')} not in the catalogue.")
    return sentences


def summary(items: pd.DataFrame) -> pd.DataFrame:
    """Events by who, action and outcome: who, action, outcome, events, actors, first_at, last_at."""
    named = items.assign(who=items["actor_type"].map(WHO).astype("str"))
    counted = named.groupby(["who", "action", "outcome"], sort=True, as_index=False).agg(
        events=("item", "size"),
        actors=("actor_id", "nunique"),
        first_at=("occurred_at", "min"),
        last_at=("occurred_at", "max"),
    )
    rank = counted["who"].map({who: place for place, who in enumerate(WHO.values())})
    order = ["rank", "events", "action", "outcome"]
    ranked = counted.assign(rank=rank).sort_values(order, ascending=[True, False, True, True], ignore_index=True)
    return ranked.drop(columns="rank")


def picture(items: pd.DataFrame, period: Period, trail: Trail) -> Picture | None:
    """Events a day, a strip for each kind of actor; potential exceptions marked."""
    if items.empty:
        return None
    lanes = {kind: who for kind, who in WHO.items() if (items["actor_type"] == kind).any()}
    times = {kind: items.loc[items["actor_type"] == kind, "occurred_at"] for kind in lanes}
    noted = items[~items["verdict"].isin(TESTED)]
    signs = dict(zip(ATTRIBUTES, "Dv^", strict=True))
    marks = [
        Mark(list(lanes).index(kind), verdict.replace("_", " "), signs[verdict], at, at)
        for kind, verdict, at in zip(noted["actor_type"], noted["verdict"], noted["occurred_at"], strict=True)
    ]
    title = "Privileged actions a day (UTC); marked: an attribute was not met"
    return day_picture(by_day(times, period, trail), lanes, one_a_day(marks), title=title)
