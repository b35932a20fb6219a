"""Joiners, movers and leavers: who had access before it was approved, and whose access was removed too late."""

from __future__ import annotations

from typing import Any

from acme.cases import Case
from acme.clock import HOUR, MS, UNTIL, berlin, berlin_day, text
from acme.grants import Desk
from acme.holdings import words
from acme.incidents import seen
from acme.people import BROKER, JOINED, LEFT, MOVES
from acme.trail import Trail
from auditlib.formats.event import Event
from auditlib.formats.times import parse_time

REMOVAL_HOURS = 24  # the policy: from the end of the last day to the last removal
LATE_DAYS = 5
EARLY = Case("2026-03-30 16:00", "u_1042", "in order, but for access before the first day", roles=("editor",),
             requester="u_1002", approver="u_1001", asked=-72, decided=-70, revoked=None, label="early")  # fmt: skip
MOVED = Case("2026-05-04 09:40", "u_1039", "the first access in the new job, approved a day later",
             "approved_before_grant", roles=("billing-admin",), requester="u_1003", approver="u_1004", asked=-1,
             decided=25, revoked=None, label="moved")  # fmt: skip


def cases() -> list[Case]:
    """A joiner who could work before the first day, and a mover whose approval came late."""
    return [EARLY, MOVED]


def before_leaving(trail: Trail) -> None:
    """An hour before the end of the last day, two of the three leavers lose what everybody has."""
    for user in ("u_1005", "u_1023"):
        at, context = LEFT[user] - HOUR, {"revoked_role": ["viewer", "editor"]}
        trail.user("admin-console", at, "role.revoke", "u_1006", f"user:{user}", context=context)


def after_leaving(trail: Trail) -> None:
    """What else they held goes in time from one, late from the other; nobody thinks of the third."""
    for user, hours in (("u_1023", 16), ("u_1005", LATE_DAYS * 24)):
        at, context = LEFT[user] + hours * HOUR + 17_300 * MS, {"revoked_role": "billing-admin"}
        trail.add("identity", at, "role.revoke", f"service:{BROKER}", f"user:{user}", context)


def provisioning(trail: Trail, desks: list[Desk]) -> list[dict[str, Any]]:
    """Joiners and movers: the first grant to each from 30 days before the first day on, and what is wrong with it."""
    starts = {user: (berlin(f"{berlin_day(at)} 00:00"), "joiner") for user, at in JOINED.items()}
    starts |= {user: (berlin(f"{day} 00:00"), "mover") for user, (day, _, _) in MOVES.items()}
    findings = {"u_1042": "access before the first day", "u_1039": "approved after the first access"}
    lines = []
    for user, (start, kind) in starts.items():
        grants = [(case, event) for desk in desks for case, event in desk.granted if case.grantee == user]
        grants = [(case, event) for case, event in grants if parse_time(event.occurred_at) > start - 30 * 24 * HOUR]
        if kind == "mover":
            grants = [(case, event) for case, event in grants if parse_time(event.occurred_at) >= start]
        case, first = min(grants, key=lambda pair: parse_time(pair[1].occurred_at))
        lines.append(
            {
                "account": user,
                "entitlements": list(case.roles),
                "finding": findings.get(user, ""),
                "first_access": seen(first),
                "first_own_event": seen(own_event(trail, user, start)),
                "hours_from_start": round((parse_time(first.occurred_at) - start) / HOUR, 3),
                "kind": kind,
                "start": text(start),
                "verdict": case.verdict,
            }
        )
    return lines


def own_event(trail: Trail, user: str, since: int) -> Event:
    """The first thing that somebody does from a moment on."""
    own = (draft for draft in trail.happened() if draft.event.actor.id == user and draft.at >= since)
    return min(own, key=lambda draft: draft.at).event


def removals(trail: Trail, held: dict[str, set[str]], active: dict[str, list[str]]) -> dict[str, Any]:
    """Leavers: what each held two hours before the end of the last day (`held`), and when it was removed."""
    verdicts = {"u_1023": "in time", "u_1005": "late", "u_1030": "never"}
    lines = []
    for user, left in LEFT.items():
        removed = {role: removal(trail, user, role, left - 2 * HOUR) for role in sorted(held[user])}
        hours = {role: event and (parse_time(event.occurred_at) - left) / HOUR for role, event in removed.items()}
        last = None if None in hours.values() else max(hour for hour in hours.values() if hour is not None)
        lines.append(
            {
                "account": user,
                "events_after_leaving": active.get(user, []),
                "hours_to_last_removal": last and round(last, 3),
                "left_at": text(left),
                "roles": {
                    role: event and {**seen(event), "hours": round((parse_time(event.occurred_at) - left) / HOUR, 3)}
                    for role, event in removed.items()
                },
                "verdict": verdicts[user],
            }
        )
    return {"leavers": lines, "removal_hours": REMOVAL_HOURS}


def removal(trail: Trail, user: str, role: str, since: int) -> Event | None:
    """The first removal of a role from somebody after a moment."""
    found = [
        draft
        for draft in trail.happened()
        if draft.event.action == "role.revoke"
        and draft.event.target.id == user
        and since < draft.at < UNTIL
        and role in words(draft.event.context["revoked_role"])
    ]
    return min(found, key=lambda draft: draft.at).event if found else None
