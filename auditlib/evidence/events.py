"""Events as they were sealed: whatever a search finds, each event an item with its proof; nothing is tested.

    answer = events(trail, kind=["grant"], where=["granted_role=admin"], since="2026-03-01", until="2026-06-01")
    answer.items

It supports no criterion by itself: it is for whoever wants to see, and keep, what lies behind a question of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from auditlib.errors import MalformedError
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import listed, period_of
from auditlib.evidence.event_list import EventList, event_list
from auditlib.query import Moment, build_filter
from auditlib.trail import Selection, Trail

NAME = "events"
TITLE = "Events, with proof that they are what was sealed"
Words = Sequence[str]


@over_trails
def events(
    trail: Trail,
    *,
    kind: Words = (),
    action: Words = (),
    actor: Words = (),
    target: Words = (),
    outcome: Words = (),
    source: Words = (),
    where: Words = (),
    since: Moment = None,
    until: Moment = None,
    through: Moment = None,
    tz: str = "UTC",
) -> EventList:
    """Answer "show me these events, with proof": filters as `Trail.events` takes them, none given asks for all.

    `where`: KEY=VALUE, a path into the context and what stands there; a key that stands twice takes either value.
    MalformedError for what is no filter, and for more events than a list holds.
    """
    period = period_of(since, until, through, tz)
    paths = _paths(where)
    asked = {
        **{"kind": list(kind), "action": list(action), "actor": list(actor)},
        **{"target": list(target), "outcome": list(outcome), "source": list(source)},
    }
    chosen = build_filter(
        trail.catalog,
        **{name: values or None for name, values in asked.items()},
        where=paths,
        since=since,
        until=until,
        through=through,
        tz=tz,
    )
    words = _words(asked, paths)
    return event_list(
        Selection(trail, chosen),
        name=NAME,
        title=TITLE,
        question=f"Show me {words} from {period.words()}, with proof that they are what was sealed.",
        tz=tz,
        parameters={**asked, "where": list(where)},
    )


def _paths(where: Words) -> dict[str | tuple[str, ...], list[str]]:
    found: dict[str | tuple[str, ...], list[str]] = {}
    for text in where:
        path, equals, value = text.partition("=")
        if not (path.strip() and equals and value.strip()):
            raise MalformedError("write a path into the context, =, and its value: granted_role=admin", where="where")
        found.setdefault(path.strip().removeprefix("context."), []).append(value.strip())
    return found


def _words(asked: Mapping[str, Words], paths: Mapping[Any, Words]) -> str:
    """`every event` or `the events with kind grant, granted_role admin`."""
    told = [f"{name} {' or '.join(values)}" for name, values in {**asked, **paths}.items() if values]
    return f"the events with {listed(told)}" if told else "every event"
