"""A list of events as an answer: every event that a selection holds, with its proof; nothing is tested.

    answer = event_list(trail.events(kind="grant", since=since, until=until, tz=tz), name="my-request", title="...",
                        question="...", tz=tz)
    answer.items

The beginning of a request of one's own (`auditlib requests new`); one that tests attributes builds on `examined`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from auditlib.errors import MalformedError
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import Answer, Column, Page, Period, Section, Tile, many
from auditlib.evidence.examined import NOT_TESTABLE, Examined, Found, Request
from auditlib.trail import Selection

MAX_LISTED = 100_000  # events of one list: their proofs are held in memory while the packet is built

_COLUMNS = [
    Column("item", "Event", "code"),
    Column("occurred_at", "Occurred (UTC)", "time"),
    Column("actor_type", "Actor"),
    Column("actor_id", "Actor's id"),
    Column("action", "Action"),
    Column("target_type", "Target"),
    Column("target_id", "Target's id"),
    Column("outcome", "Outcome"),
    Column("source", "Source"),
]
# The context stands in events.jsonl. A packet holds a verdict for each item; here no attribute leads to another.
_KEPT = [*(column.name for column in _COLUMNS), "event_id", "recorded_at", "sequence", "row", "verdict", "reason"]
_UNTESTED = "it was listed; no attribute was tested"


class EventList(Examined):
    """The answer; its properties are what the notebook shows, one after the other."""

    @property
    def picture(self) -> None:
        """None."""
        return None

    @cached_property
    def headline(self) -> str:
        """The answer in one sentence."""
        number = len(self.found.items)
        if number:
            were = "was" if number == 1 else "were"
            return f"{many(number, 'event')} {were} recorded in the period; none of them was tested."
        if set(self.relevant_sources) & set(self.coverage["source"]):
            return "No such event was recorded in the period."
        return "Not answerable: no source that records such events was alive in the period."

    def answer(self) -> Answer:
        """As every answer; its population is what one filter holds, and that filter is stated."""
        answer = super().answer()
        return msgspec.structs.replace(answer, population=answer.population | {"filter": self.found.query})


@over_trails
def event_list(
    selection: Selection,
    *,
    name: str,
    title: str,
    question: str,
    criteria: Sequence[str] = (),
    tz: str = "UTC",
    parameters: Mapping[str, Any] | None = None,
) -> EventList:
    """Answer a request with every event of a selection, whose period it takes; `tz` is the zone it was asked in.

    `parameters`: what packet.json states of how it was asked.
    MalformedError where there are more than MAX_LISTED events.
    """
    if (number := selection.count()) > MAX_LISTED:
        raise MalformedError(
            f"{number:,} events answer; a list holds at most {MAX_LISTED:,}.",
            remedy="Narrow the selection or the period.",
        )
    events = selection.df()
    items = events.assign(item=events["event_id"], verdict=NOT_TESTABLE, reason=_UNTESTED)[_KEPT]
    stated = selection.filter.actions or ()
    actions = tuple(stated) if stated and not set("*?") & set("".join(stated)) else tuple(sorted(set(items["action"])))
    found = Found(
        question=question,
        kind="event",
        items=items,
        attributes={},
        columns=_COLUMNS,
        noted=_COLUMNS,
        query=selection.filter.describe(),
        actions=actions,
        read=len(selection.seals),
        procedure=[
            f"Every event that answers the query was taken, in the order it was sealed: {many(number, 'event')}."
        ],
        parameters=dict(parameters or {}),
        limits=["The events are listed; no attribute of them was tested."],
        page=Page(
            [Tile(number, "events in the period"), Tile(items["actor_id"].nunique(), "actors")],
            [Section(title="Every event", table="events", columns=_COLUMNS, empty="No such event was recorded.")],
        ),
    )
    request = Request(name=name, title=title, criteria=tuple(criteria), one="event", several="events")
    return EventList(request, selection.trail, Period(selection.filter.since, selection.filter.until, tz), found)
