"""Records of any actor, action, outcome and target, for the tests of what people, services and jobs did."""

from __future__ import annotations

from typing import Any

from auditlib.formats.event import Actor, Event, Receipt, Record, Target
from auditlib.formats.times import DAY, SECOND, format_time, parse_time

NOON = parse_time("2026-03-10T12:00:00Z")
MINUTE = 60 * SECOND


def happened(
    event_id: str,
    at: int,
    action: str = "user.login",
    outcome: str = "failure",
    *,
    actor: str = "anonymous:anonymous",
    target: str = "user:u_1",
    session: str | None = None,
    source: str = "identity/a1",
    recorded: int | None = None,
    **context: Any,
) -> Record:
    """A record; actor and target are `type:id`, times are microseconds since 1970 UTC."""
    kind, _, name = actor.partition(":")
    target_type, _, target_id = target.partition(":")
    told = Event(
        action, Actor(name, session, kind), context, event_id, format_time(at), outcome, Target(target_id, target_type)
    )
    return Record(told, Receipt(format_time(at if recorded is None else recorded), source, None))


def late(days: int = 5) -> Record:
    """A record long after, so that the trail does not end before everything has had its time."""
    return happened("late", NOON + days * DAY, "user.logout", "success", actor="user:u_8")
