"""How approvers behave: two who approve for each other, one who does not read, one with two accounts; and groups.

All of it goes over the access desk, as cases; planted.json gets what an auditor should notice.
"""

from __future__ import annotations

from typing import Any

from acme.cases import UNASKED, Case
from acme.clock import MS, berlin, text
from acme.grants import Desk
from acme.incidents import seen
from acme.trail import Trail, stream
from auditlib.formats.event import Event
from auditlib.formats.times import SECOND, parse_time

RING = ("u_1001", "u_1043")
RING_DAYS = ["04-13", "04-15", "05-05", "05-07", "05-26", "05-28"]  # of 2026; the two in turn
RING_ROLES = ["deployer", "deployer", "support", "support", "report-reader", "report-reader"]
STAMPER = "u_1004"
STAMPED_FROM = "2026-04-22 16:02"  # Berlin
STAMPED = [f"u_{number}" for number in (1009, 1010, 1025, 1026, 1027, 1028, 1029, 1031, 1032, 1033, 1034, 1035)]
SECOND_ACCOUNT = "u_1143"


def cases() -> list[Case]:
    """Every case of this part."""
    return [*ring(), *stamped(), second_account(), *groups()]


def ring() -> list[Case]:
    """Two managers approve for each other, three times each way; each approval alone is in order."""
    return [
        Case(f"2026-{day} 11:10", RING[(turn + 1) % 2], roles=(role,), approver=RING[turn % 2], asked=-3,
             decided=-1, revoked=None, label=f"ring {turn}")
        for turn, (day, role) in enumerate(zip(RING_DAYS, RING_ROLES, strict=True))
    ]  # fmt: skip


def stamped() -> list[Case]:
    """Twelve requests of one morning, decided one right after the other; each approval alone is in order."""
    random, at, found = stream("stamped"), berlin(STAMPED_FROM), []
    for number, user in enumerate(STAMPED):
        found.append(
            Case("2026-04-22 16:20", user, roles=("report-reader",), approver=STAMPER, asked=-7,
                 decided_at=text(at), revoked=None, label=f"stamp {number}")
        )  # fmt: skip
        at += random.randrange(4_200, 7_800) * MS
    return found


def second_account() -> Case:
    """By account in order; by person the approver is the subject."""
    return Case("2026-05-19 11:30", "u_1043", roles=("editor",), approver=SECOND_ACCOUNT, asked=-3, decided=-1,
                revoked=None, label="second account")  # fmt: skip


def groups() -> list[Case]:
    """Two people join a group that confers admin, one of them with an approval."""
    group = "platform-admins"
    return [
        Case("2026-04-21 11:00", "u_1027", "in order: added to a group that confers admin", group=group),
        Case("2026-05-12 11:00", "u_1035", "added to a group that confers admin; no request id, no approval",
             "approval_exists", group=group, revoked=None, **UNASKED),
    ]  # fmt: skip


def redefine(trail: Trail, desk: Desk) -> dict[str, Any]:
    """A role is redefined so that it confers admin; whoever holds it is not named, so nobody can test it."""
    at, context = berlin("2026-05-19 10:05"), {"confers": "admin"}
    event = trail.user("admin-console", at, "role.define", "u_1007", "role:deployer", context=context)
    line = {
        "entitlement": "admin",
        "event_id": event.event_id,
        "grantee": None,
        "item": event.event_id,
        "note": "the role deployer confers admin from here on; its members are not named",
        "occurred_at": event.occurred_at,
        "verdict": "not-testable",
    }
    desk.admin.append(line)
    return {**seen(event), "confers": "admin", "role": "deployer"}


def planted(desks: list[Desk]) -> dict[str, Any]:
    """What to notice, over the approvals of every desk."""
    approvals = sorted((event for desk in desks for event in desk.approvals), key=lambda e: parse_time(e.occurred_at))
    stamps = [labelled(desks, f"stamp {number}") for number in range(len(STAMPED))]
    outside = sorted({event.event_id: event for desk in desks for event in desk.outside_authority}.items())
    first, last = (parse_time(event.occurred_at) for event in (stamps[0], stamps[-1]))
    return {
        "after_leaving": [{"actor": e.actor.id, **seen(e)} for desk in desks for e in desk.after_leaving],
        "approvals": len(approvals),
        "outside_authority": [
            {"actor": e.actor.id, "approver_role": e.context["approver_role"], **seen(e)} for _, e in outside
        ],
        "ring": {
            "approvals": {
                f"{approver} for {subject}": [
                    event.event_id
                    for event in approvals
                    if event.actor.id == approver and subject in event.context["subjects"]
                ]
                for approver, subject in (RING, RING[::-1])
            },
            "members": list(RING),
            "planted": [labelled(desks, f"ring {turn}").event_id for turn in range(len(RING_DAYS))],
        },
        "rubber_stamping": {
            "approvals": [event.event_id for event in stamps],
            "approver": STAMPER,
            "first": seen(stamps[0]),
            "gaps_below_seconds": 8,
            "last": seen(stamps[-1]),
            "seconds": (last - first) / SECOND,
        },
        "second_account": {
            "account": SECOND_ACCOUNT,
            "grant": next(event.event_id for event in granted(desks, "second account")),
            "approval": labelled(desks, "second account").event_id,
            "verdict_by_person": "independent_approver",
        },
    }


def labelled(desks: list[Desk], label: str) -> Event:
    """The approval of the case of that label."""
    request = next(desk.requests[label] for desk in desks if label in desk.requests)
    return next(e for desk in desks for e in desk.approvals if e.context["request_id"] == request)


def granted(desks: list[Desk], label: str) -> list[Event]:
    """The grants of the case of that label."""
    return [event for desk in desks for case, event in desk.granted if case.label == label]
