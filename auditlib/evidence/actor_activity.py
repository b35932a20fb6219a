"""Actor activity: everything that one actor did in a period, for an investigation or a leaver (supports TSC CC7.3).

    answer = actor_activity(trail, since="2026-03-01", until="2026-06-01", actor="u_1030")
    answer.items

An item is an event of the actor, whatever its outcome; nothing is tested. What was done to the actor's access and what
they held at the end of the period stand beside it.
"""

from __future__ import annotations

from functools import cached_property

from auditlib.evidence.across import over_trails
from auditlib.evidence.activity import MAX_LISTED, Activity
from auditlib.evidence.activity_page import COLUMNS, page, picture, tables
from auditlib.evidence.answer import Table, many, period_of
from auditlib.evidence.charts import Picture
from auditlib.evidence.examined import NOT_TESTABLE, Examined, Found, Request
from auditlib.formats.times import format_time, from_datetime
from auditlib.query import Moment
from auditlib.trail import Trail

REQUEST = Request(
    name="actor-activity",
    title="Everything one actor did",
    criteria=("CC7.3",),
    references=("ISO/IEC 27001:2022 A.5.28", "HIPAA 164.312(b)"),
    one="event",
    several="events",
)
_UNTESTED = "it was listed; no attribute was tested"
_LIMITS = [
    "The events are listed; no attribute of them was tested.",
    "Other accounts of the same person are not in it: ask for each.",
    "What is held is what grants, removals and sealed listings in this trail say; other access from before it began is "
    "not seen, and an end that a grant states is no removal.",
]


class ActorActivity(Examined):
    """The answer; its properties are what the notebook shows, one after the other."""

    activity: Activity

    @property
    def picture(self) -> Picture | None:
        """Events a day, a strip for each outcome."""
        return self.found.picture

    @cached_property
    def headline(self) -> str:
        """The answer in one sentence."""
        name, events = self.activity.actor, self.found.items
        if events.empty:
            if len(self.coverage):
                return f"Nothing that {name} did was recorded in the period."
            return "Not answerable: no source was alive in the period."
        first, last = (
            format_time(from_datetime(at)) for at in (events["occurred_at"].min(), events["occurred_at"].max())
        )
        counts = events["outcome"].value_counts()
        failed, denied = (int(counts.get(outcome, 0)) for outcome in ("failure", "denied"))
        were = "was" if len(events) == 1 else "were"
        return (
            f"{many(len(events), 'event')} of {name} {were} recorded in the period, from {first} to {last}: "
            f"{int(counts.get('success', 0)):,} succeeded, {failed:,} failed, {denied:,} were denied; none was tested."
        )

    @property
    def summary(self) -> Table:
        """Events by action and outcome."""
        return Table(self.found.tables["summary"])

    @property
    def sessions(self) -> Table:
        """Events by session, with the addresses that they state."""
        return Table(self.found.tables["sessions"])

    @property
    def not_done(self) -> Table:
        """What failed or was denied."""
        return Table(self.found.tables["not_done"])

    @property
    def done_to(self) -> Table:
        """What was done to the actor's access."""
        return Table(self.found.tables["done_to"])

    @property
    def held(self) -> Table:
        """What the actor held at the end of the period."""
        return Table(self.found.tables["held"])


@over_trails
def actor_activity(
    trail: Trail,
    *,
    actor: str,
    since: Moment,
    until: Moment = None,
    through: Moment = None,
    tz: str = "UTC",
) -> ActorActivity:
    """Answer "show me everything that ACTOR did between SINCE and UNTIL"; `actor` is an id, or type:id."""
    period = period_of(since, until, through, tz)
    activity = Activity(trail, period, actor)
    events = activity.events
    shown = tables(activity)
    found = Found(
        question=f"Show me everything that {actor} did from {period.words()}.",
        kind="event",
        items=events.assign(verdict=NOT_TESTABLE, reason=_UNTESTED).astype({"verdict": "str", "reason": "str"}),
        attributes={},
        columns=COLUMNS,
        noted=COLUMNS,
        query={"actor": actor} | activity.selection.filter.describe(),
        actions=tuple(sorted(set(events["action"]))),
        read=len(activity.selection.seals),
        procedure=[
            f"Every event of the period whose actor is {actor} was taken, whatever its action and outcome, in the "
            f"order of time (at most {MAX_LISTED:,}).",
            "What was done to the actor's access are the successful grants, removals, joins and leaves that name the "
            "actor as the catalogue says. What is held at the end of the period is what grants and sealed listings "
            "gave and no later removal of the same entitlement took back.",
        ],
        parameters={"actor": actor},
        told=_told(activity),
        tables=shown,
        picture=picture(activity, shown["days"]),
        limits=_LIMITS,
        page=page(activity),
    )
    answer = ActorActivity(REQUEST, trail, period, found)
    answer.activity = activity
    return answer


def _told(activity: Activity) -> list[str]:
    events, told = activity.events, []
    if len(events):
        types = sorted(set(events["actor_type"]))
        told.append(
            f"As {', '.join(types)}; in {many(events['session'].nunique(), 'session')} and from "
            f"{many(events['ip'].nunique(), 'address', 'addresses')} that were stated."
        )
    names = sorted(set(activity.held["entitlement"].dropna()))
    told.append(
        f"Held at the end of the period: {', '.join(names)}." if names else "Nothing is seen to be held at the end."
    )
    if activity.left_at is not None:
        after = int((events["occurred_at"] > activity.left_at).sum())
        told.append(
            f"Left at {format_time(from_datetime(activity.left_at))}; {many(after, 'event')} of the period came after "
            "that."
        )
    return told
