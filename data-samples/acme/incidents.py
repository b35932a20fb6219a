"""What an auditor should notice beside the grants: each function plants one thing and says what."""

from __future__ import annotations

from typing import Any

from acme.clock import MS, berlin, text
from acme.people import LEFT
from acme.traffic import NOBODY
from acme.trail import Trail, stream
from auditlib.formats.event import Event
from auditlib.formats.times import DAY, SECOND

ATTACKER = "192.0.2.66"
FAILURES = 240
DENIED = 60


def play(trail: Trail) -> dict[str, Any]:
    """Plant everything; the sections of planted.json."""
    return {
        "break_glass": break_glass(trail),
        "brute_force": brute_force(trail),
        "denied_burst": denied_burst(trail),
        "late_arrival": late_arrival(trail),
        "terminated_active": [terminated_active(trail)],
    }


def break_glass(trail: Trail) -> dict[str, Any]:
    """A Sunday night: the engineer on call takes the emergency account and changes two settings."""
    user, at, session = "user:u_1010", berlin("2026-03-22 02:40"), trail.session("u_1010", "198.51.100.10")
    trail.add("identity", at, "user.login", user, user, {"ip": session.ip}, session=session)
    at, reason = at + 400 * SECOND, "payments stopped, no approver could be reached"
    context = {"incident": "I-217", "reason": reason}
    used = trail.add("admin-console", at, "breakglass.use", user, "system:billing", context, session=session)
    changes = []
    for setting in ("payout.limit", "retry.interval"):
        at, context = at + 612 * SECOND, {"setting": setting, "ticket": "I-217"}
        target = "service:billing-api"
        changes.append(trail.add("admin-console", at, "config.change", user, target, context, session=session))
    return {"actor": "u_1010", **seen(used), "changes_after": [change.event_id for change in changes]}


def brute_force(trail: Trail) -> dict[str, Any]:
    """A Saturday before dawn: one address tries passwords of one person until one is right."""
    random, at, user = stream("brute force"), berlin("2026-05-16 03:12"), "user:u_1021"
    session = trail.session("u_1021", ATTACKER)
    context, failures, looked = {"ip": ATTACKER}, [], []
    for _ in range(FAILURES):
        at += random.randrange(1_500, 4_500) * MS
        failures.append(trail.add("identity", at, "user.login", NOBODY, user, context, outcome="failure", lane=0))
    at += 2_750 * MS
    success = trail.add("identity", at, "user.login", user, user, context, session=session, lane=0)
    for customer in ("customer:c_150", "customer:c_151", "customer:c_152"):
        at, read = at + 47_300 * MS, {"permission": "customer.read"}
        check = trail.add("billing-api", at, "permission.check", user, customer, read, session=session, lane=0)
        looked.append(check)
    return {
        "events_after": [event.event_id for event in looked],
        "failures": {"count": FAILURES, "first": seen(failures[0]), "last": seen(failures[-1])},
        "ip": ATTACKER,
        "session": session.id,
        "success": seen(success),
        "user": "u_1021",
    }


def denied_burst(trail: Trail) -> dict[str, Any]:
    """A support agent asks again and again for what support may not do."""
    random, at, events = stream("denied burst"), berlin("2026-05-12 12:20"), []
    session = trail.day("u_1028", at)
    how: dict[str, Any] = {"session": session, "lane": 0, "outcome": "denied"}
    for number in range(DENIED):
        at += random.randrange(4_000, 14_000) * MS
        target, context = f"invoice:i_{110 + number}", {"permission": "payout.write"}
        events.append(trail.add("billing-api", at, "permission.check", "user:u_1028", target, context, **how))
    ends = {"first": seen(events[0]), "last": seen(events[-1])}
    return {"actor": "u_1028", "count": DENIED, **ends, "ip": session.ip, "permission": "payout.write"}


def late_arrival(trail: Trail) -> dict[str, Any]:
    """An export made while the machine was offline, recorded when it came back."""
    at, late = berlin("2026-04-09 14:12") + 8_217 * MS, 9 * DAY
    how: dict[str, Any] = {"session": trail.day("u_1034", at), "lane": 0, "latency": late}
    context = {"format": "csv", "rows": 1900}
    event = trail.add("billing-api", at, "data.export", "user:u_1034", "table:invoices", context, **how)
    return {**seen(event), "actor": "u_1034", "recorded_at": text(at + late), "seconds": late // SECOND}


def terminated_active(trail: Trail) -> dict[str, Any]:
    """A support agent left on 2026-04-30; nobody closed the account."""
    user, events = "user:u_1030", []
    for moment, doings in (("2026-05-04 09:12", 4), ("2026-05-06 18:40", 3)):
        at, session = berlin(moment), trail.session("u_1030", "198.51.100.30")
        how: dict[str, Any] = {"session": session, "lane": 0}
        events.append(trail.add("identity", at, "user.login", user, user, {"ip": session.ip}, **how))
        for number in range(doings):
            at, target, read = at + 95_400 * MS, f"customer:c_{201 + number}", {"permission": "customer.read"}
            events.append(trail.add("billing-api", at, "permission.check", user, target, read, **how))
        at, context = at + 121_700 * MS, {"format": "csv", "rows": 200}
        events.append(trail.add("billing-api", at, "data.export", user, "table:customers", context, **how))
    return terminated("u_1030", events, "the account was used after its owner had left")


def terminated(user: str, events: list[Event], note: str) -> dict[str, Any]:
    """What somebody did after leaving."""
    return {
        "actor": user,
        "events": [seen(event) for event in events],
        "left_at": text(LEFT[user]),
        "note": note,
    }


def seen(event: Event) -> dict[str, Any]:
    """An event, as planted.json names it."""
    return {"event_id": event.event_id, "occurred_at": event.occurred_at}
