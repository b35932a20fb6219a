"""Who holds what: a listing at the opening, a listing at the close, and what was granted and removed in between.

The two listings differ by what the trail tells, but for two changes that nobody logged. Holdings are replayed here
from the events by the plainest of readings, so that planted.json can say who held what on a day.
"""

from __future__ import annotations

import hashlib
from typing import Any

from acme.clock import DAYS, HOUR, MINUTE, MS, SINCE, UNTIL, berlin, text
from acme.incidents import seen
from acme.people import MIGRATION, ON_LEAVE, PEOPLE
from acme.trail import Trail
from auditlib.formats.event import Event
from auditlib.formats.times import DAY, SECOND

Holding = tuple[str, str]  # subject, entitlement

SYSTEM = "acme"
JOB = "system:cron:access-listing"
OPENING = SINCE  # the moment for which it holds; the events follow some seconds later
CLOSING = UNTIL - 30 * MINUTE
PER_PART = 60  # holdings in one event; 16 KiB of context would hold some 350
PRIVILEGED = ["admin", "billing-admin", "deployer"]
DORMANT_DAYS = 90
DORMANT = {ON_LEAVE: "billing-admin", MIGRATION: "deployer"}
LAST_SEEN = "2026-01-19 16:50"  # Berlin; the day before a long leave begins
APPEARED = ("u_1034", "billing-admin")  # in the closing listing, and no grant explains it
VANISHED = ("u_1040", "support-lead")  # not in the closing listing, and no removal explains it
EXTRA = {  # beyond what the department gives
    "u_1001": ["admin"],
    "u_1003": ["admin", "billing-admin"],
    "u_1005": ["billing-admin"],
    "u_1006": ["admin"],
    "u_1007": ["admin"],
    "u_1008": ["admin"],
    "u_1009": ["deployer"],
    "u_1012": ["deployer"],
    "u_1017": ["deployer"],
    "u_1029": ["admin"],
    "u_1033": ["billing-admin"],
    VANISHED[0]: [VANISHED[1]],
}
BY_DEPARTMENT = {"engineering": ["editor"], "finance": ["editor"], "operations": ["editor"], "support": ["support"]}


def opening() -> set[Holding]:
    """Who held what when the trail began."""
    held = {(person.id, "viewer") for person in PEOPLE.values() if person.joined == SINCE}
    for person in PEOPLE.values():
        if person.joined == SINCE:
            held |= {(person.id, role) for role in BY_DEPARTMENT.get(person.department, [])}
    held |= {(user, role) for user, roles in EXTRA.items() for role in roles}
    return held | set(DORMANT.items()) | {(ON_LEAVE, "viewer")}


def held_at(trail: Trail, at: int) -> set[Holding]:
    """The opening and every grant and removal before a moment, one after the other."""
    held = opening()
    for draft in sorted(trail.happened(), key=lambda draft: (draft.at, draft.event.event_id)):
        event = draft.event
        if draft.at >= at or event.outcome != "success":
            continue
        if event.action in ("role.grant", "group.add"):
            held |= {(event.target.id, role) for role in conferred(event)}
        elif event.action == "role.revoke":
            held -= {(event.target.id, role) for role in words(event.context["revoked_role"])}
    return held


def holders(trail: Trail, entitlement: str, at: int) -> list[str]:
    """Who held an entitlement, sorted."""
    return sorted(subject for subject, role in held_at(trail, at) if role == entitlement)


def conferred(event: Event) -> list[str]:
    """What a grant grants."""
    return words(event.context.get("granted_role", event.context.get("confers", [])))


def words(value: str | list[str]) -> list[str]:
    """One text or several, as several."""
    return [value] if isinstance(value, str) else value


def listing_sha256(pairs: list[Holding]) -> str:
    """The hash of a listing: `subject,entitlement` a line, sorted."""
    return hashlib.sha256("".join(f"{subject},{role}\n" for subject, role in sorted(pairs)).encode()).hexdigest()


def last_seen(trail: Trail) -> None:
    """She signs in once more, and out; then her long leave begins."""
    at, user = berlin(LAST_SEEN), f"user:{ON_LEAVE}"
    session = trail.session(ON_LEAVE)
    trail.add("identity", at, "user.login", user, user, {"ip": session.ip}, session=session)
    trail.add("identity", at + 20 * MINUTE, "user.logout", user, user, session=session)


def play(trail: Trail) -> dict[str, Any]:
    """Both listings and the section of planted.json; when everything else is played."""
    closing = held_at(trail, CLOSING)
    assert APPEARED not in closing
    assert VANISHED in closing
    first, last = opening(), (closing | {APPEARED}) - {VANISHED}
    return {
        "closing": snapshot(trail, CLOSING, last),
        "dormant": [
            {"entitlement": role, "last_seen_before": text(berlin(LAST_SEEN) + HOUR), "subject": subject}
            if subject == ON_LEAVE
            else {"entitlement": role, "last_seen_before": None, "subject": subject}
            for subject, role in DORMANT.items()
        ],
        "dormant_days": DORMANT_DAYS,
        "held_at": {
            day: {role: holders(trail, role, SINCE + number * DAY) for role in PRIVILEGED}
            for number, day in enumerate(map(str, DAYS))
            if day in ("2026-03-01", "2026-04-01", "2026-06-01")
        },
        "opening": snapshot(trail, OPENING, first),
        "privileged": PRIVILEGED,
        "unlogged": [
            {"change": "appeared", "entitlement": APPEARED[1], "subject": APPEARED[0]},
            {"change": "vanished", "entitlement": VANISHED[1], "subject": VANISHED[0]},
        ],
    }


def snapshot(trail: Trail, at: int, held: set[Holding]) -> dict[str, Any]:
    """One listing, in as many events as it needs."""
    pairs = sorted(held)
    parts = [pairs[start : start + PER_PART] for start in range(0, len(pairs), PER_PART)]
    events = []
    for number, part in enumerate(parts, 1):
        holdings = [{"entitlement": role, "subject": subject} for subject, role in part]
        context = {"at": text(at), "holdings": holdings, "part": number, "parts": len(parts), "system": SYSTEM}
        moment = at + (4 + number) * SECOND + 137 * MS
        events.append(trail.add("identity", moment, "access.snapshot", JOB, f"system:{SYSTEM}", context))
    return {
        "at": text(at),
        "events": [seen(event) for event in events],
        "rows": len(pairs),
        "sha256": listing_sha256(pairs),
    }
