"""What was looked at afterwards: periodic reviews of access, and the uses of the emergency account.

2026-Q1-admin      in time by somebody who is no subject; of two removals decided, one was carried out
2026-H1-deployer   due on 2026-05-15, performed on 2026-06-02
2026-Q2-admin      the reviewer is one of those reviewed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from acme.clock import HOUR, MS, berlin
from acme.holdings import holders, listing_sha256
from acme.incidents import seen
from acme.trail import Trail
from auditlib.formats.event import Event
from auditlib.formats.times import SECOND, parse_time


@dataclass(frozen=True)
class Review:
    """One periodic review: of whom, by whom, when, and what was decided."""

    id: str
    entitlement: str
    listed_at: str  # the holders of that moment were reviewed
    performed: str  # Berlin
    due: str
    reviewer: str
    findings: tuple[str, ...] = ()
    remove: tuple[tuple[str, str], ...] = ()  # whom, and when it was carried out (Berlin; "": never)


REVIEWS = [
    Review("2026-Q1-admin", "admin", "2026-04-01T00:00:00Z", "2026-04-07 10:05", "2026-04-15", "u_1004",
           ("removal not carried out",), (("u_1003", "2026-04-09 16:20"), ("u_1029", ""))),
    Review("2026-H1-deployer", "deployer", "2026-06-01T00:00:00Z", "2026-06-02 15:10", "2026-05-15", "u_1004",
           ("performed late",)),
    Review("2026-Q2-admin", "admin", "2026-06-22T00:00:00Z", "2026-06-24 11:30", "2026-06-30", "u_1001",
           ("reviewer is a subject",)),
]  # fmt: skip
ACCOUNT = "system:billing"  # what the emergency account opens
UNIDENTIFIED = "system:unknown"  # a machine that says no job


def play(trail: Trail) -> list[dict[str, Any]]:
    """Every review in the order of time, so that a removal of one shows in the next."""
    return [review(trail, planned) for planned in REVIEWS]


def review(trail: Trail, planned: Review) -> dict[str, Any]:
    """The listing, a decision on each holder a few seconds apart, then the review itself; its line of planted.json."""
    subjects = holders(trail, planned.entitlement, parse_time(planned.listed_at))
    at, removals, decided = berlin(planned.performed), dict(planned.remove), {}
    assert removals.keys() <= set(subjects)
    for subject in subjects:
        at += 41 * SECOND + len(decided) * 307 * MS
        decided[subject] = decide(trail, planned, subject, at, "remove" if subject in removals else "keep")
    sha256 = listing_sha256([(subject, planned.entitlement) for subject in subjects])
    context = {
        "due": planned.due,
        "entitlement": planned.entitlement,
        "listed_at": planned.listed_at,
        "listing_rows": len(subjects),
        "listing_sha256": sha256,
        "review_id": planned.id,
    }
    at, target = at + 90 * SECOND, f"review:{planned.id}"
    event = trail.user("identity", at, "access.review", planned.reviewer, target, context=context)
    return {
        "decisions": {subject: event.event_id for subject, event in decided.items()},
        "due": planned.due,
        "entitlement": planned.entitlement,
        "findings": list(planned.findings),
        "holders": subjects,
        "listed_at": planned.listed_at,
        "listing_sha256": sha256,
        "removals": [
            carry_out(trail, planned, subject, moment, decided[subject]) for subject, moment in planned.remove
        ],
        "review_id": planned.id,
        "reviewer": planned.reviewer,
        **seen(event),
    }


def decide(trail: Trail, planned: Review, subject: str, at: int, decision: str) -> Event:
    """One line of a review."""
    context = {"decision": decision, "entitlement": planned.entitlement, "review_id": planned.id}
    return trail.user("identity", at, "access.review.decide", planned.reviewer, f"user:{subject}", context=context)


def carry_out(trail: Trail, planned: Review, subject: str, moment: str, decided: Event) -> dict[str, Any]:
    """The removal that was decided, where somebody did it."""
    line: dict[str, Any] = {"decision": decided.event_id, "hours": None, "removed": None, "subject": subject}
    if not moment:
        return line
    at, context = berlin(moment), {"revoked_role": planned.entitlement}
    removed = trail.user("admin-console", at, "role.revoke", "u_1006", f"user:{subject}", context=context)
    hours = round((at - parse_time(decided.occurred_at)) / HOUR, 3)
    return {**line, "hours": hours, "removed": removed.event_id}


# --- the emergency account ------------------------------------------------------------------------------------


def break_glass(trail: Trail, first: dict[str, Any]) -> list[dict[str, Any]]:
    """Three uses of the emergency account: `first` reviewed, one never reviewed, one reviewed by its own user."""
    second = use(trail, "u_1012", "2026-04-11 03:10", "I-231", "invoices were sent twice")
    third = use(trail, "u_1014", "2026-05-20 23:05", "I-248", "the queue stood still")
    looked = look(trail, "u_1004", "2026-03-24 10:15", first["event_id"])
    himself = look(trail, "u_1014", "2026-05-21 10:40", third.event_id)
    return [
        {**told(first["actor"], first, looked), "finding": ""},
        {**told("u_1012", seen(second), None), "finding": "not reviewed"},
        {**told("u_1014", seen(third), himself), "finding": "reviewed by its own user"},
    ]


def use(trail: Trail, user: str, moment: str, incident: str, reason: str) -> Event:
    """At night somebody signs in, takes the emergency account and changes a setting."""
    at, account = berlin(moment), f"user:{user}"
    session = trail.session(user, f"198.51.100.{int(user[2:]) - 1000}")
    trail.add("identity", at, "user.login", account, account, {"ip": session.ip}, session=session)
    at, context = at + 312 * SECOND, {"incident": incident, "reason": reason}
    used = trail.add("admin-console", at, "breakglass.use", account, ACCOUNT, context, session=session)
    at, context = at + 541 * SECOND, {"setting": "retry.interval", "ticket": incident}
    trail.add("admin-console", at, "config.change", account, "service:billing-api", context, session=session)
    return used


def look(trail: Trail, user: str, moment: str, event_id: str) -> Event:
    """Somebody looks at a use and says what came of it."""
    context = {"conclusion": "justified", "event_id": event_id}
    return trail.user("admin-console", berlin(moment), "breakglass.review", user, f"event:{event_id}", context=context)


def told(actor: str, used: dict[str, Any], review: Event | None) -> dict[str, Any]:
    """One line of planted.json."""
    hours = review and round((parse_time(review.occurred_at) - parse_time(used["occurred_at"])) / HOUR, 3)
    return {
        "actor": actor,
        "event_id": used["event_id"],
        "hours_to_review": hours,
        "occurred_at": used["occurred_at"],
        "review": review and review.event_id,
        "reviewer": review and review.actor.id,
    }


def unidentified(trail: Trail) -> dict[str, Any]:
    """A machine changes a setting and does not say which job it is."""
    at, context = berlin("2026-04-18 03:11") + 9_120 * MS, {"setting": "payout.limit"}
    event = trail.add("admin-console", at, "config.change", UNIDENTIFIED, "service:billing-api", context)
    return {"actor": UNIDENTIFIED, "finding": "a system actor without a job identity", **seen(event)}
