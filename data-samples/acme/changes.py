"""Releases and the approval before each: what an auditor of changes should find.

Every release names its change, the author and whether it was an emergency. Most were approved hours before by
another engineer; what is wrong with the others stands in FAULTS and in `play`, and goes into planted.json.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from acme.cases import WINDOW
from acme.clock import HOUR, MINUTE, MS, berlin
from acme.people import CI, PEOPLE
from acme.trail import Trail, stream
from auditlib.formats.event import Event
from auditlib.formats.times import parse_time

FIRST = 1001  # the number of the first change
FAULTS = {  # the how manieth release -> what is wrong with it
    40: "no approval",
    52: "approved by its author",
    61: "approved after the release",
}
LATE_HOURS = 5
EMERGENCY_HOURS = 24  # the policy, as for grants: an emergency may be approved this much later


@dataclass(frozen=True)
class Release:
    """A release that happened, and of what."""

    at: int
    change: str
    author: str
    event: Event


@dataclass
class Changes:
    """Numbers the changes as they are released; `play` adds the approvals."""

    releases: list[Release] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """A stream of its own: the traffic draws what it drew before there were changes."""
        self.random = stream("changes")

    def release(self, trail: Trail, at: int, target: str, commit: str, version: str, **more: Any) -> Release:
        """One release by the build service; an engineer who is there wrote the change, unless `author` is given."""
        change = f"C-{FIRST + len(self.releases)}"
        author = more.pop("author", None) or self.random.choice(engineers(at))
        context = {"author": author, "change_id": change, "commit": commit, "emergency": False, "version": version}
        event = trail.add("admin-console", at, "release.deploy", f"service:{CI}", target, context | more)
        self.releases.append(Release(at, change, author, event))
        return self.releases[-1]

    def play(self, trail: Trail) -> dict[str, Any]:
        """The approvals of all releases so far, then two emergencies and one protection bypassed."""
        for number, release in enumerate(list(self.releases)):
            self.ordinary(trail, release, FAULTS.get(number, ""))
        self.emergency(trail, "2026-04-16 22:40", "u_1010", "26.105.e", 10)
        self.emergency(trail, "2026-05-13 23:15", "u_1013", "26.132.e", None)
        bypass = self.bypass(trail, "2026-03-26 20:05", "u_1015", "26.84.b")
        since, until = (parse_time(end) for end in WINDOW)
        return {
            "bypasses": [bypass],
            "emergency_hours": EMERGENCY_HOURS,
            "in_window": sum(since <= release.at < until for release in self.releases),
            "not_ordinary": sorted(self.lines, key=lambda line: (line["occurred_at"], line["event_id"])),
            "total": len(self.releases),
        }

    def ordinary(self, trail: Trail, release: Release, fault: str) -> None:
        """One approval by another engineer, one to four hours before; or what FAULTS says."""
        others = [user for user in engineers(release.at - 4 * HOUR) if user != release.author]
        approver, hours = self.random.choice(others), -self.random.uniform(1, 4)
        if fault == "approved by its author":
            approver = release.author
        if fault == "approved after the release":
            hours = LATE_HOURS
        approval = None if fault == "no approval" else self.approve(trail, release, approver, hours)
        if fault:
            self.note(release, approval, "exception", fault)

    def emergency(self, trail: Trail, moment: str, author: str, version: str, hours: float | None) -> None:
        """A release at night, approved so many hours after it or never."""
        commit = f"{self.random.getrandbits(28):07x}"
        at = berlin(moment)
        release = self.release(trail, at, "service:billing-api", commit, version, author=author, emergency=True)
        if hours is None:
            self.note(release, None, "exception", "an emergency that was never approved")
            return
        approval = self.approve(trail, release, "u_1001", hours)
        self.note(release, approval, "pass", f"in order: an emergency approved {hours:g} hours after the release")

    def bypass(self, trail: Trail, moment: str, user: str, version: str) -> dict[str, Any]:
        """Somebody switches the protection of the main branch off and releases, without any approval."""
        at, change = berlin(moment), f"C-{FIRST + len(self.releases)}"
        context = {"change_id": change, "protection": "required-review", "reason": "pipeline stuck"}
        bypassed = trail.user("admin-console", at, "change.bypass", user, "repository:billing", context=context)
        commit = f"{self.random.getrandbits(28):07x}"
        release = self.release(trail, at + 4 * MINUTE, "service:billing-api", commit, version, author=user)
        self.note(release, None, "exception", "no approval: the protection was bypassed 4 minutes before")
        return {
            "actor": user,
            "change_id": change,
            "event_id": bypassed.event_id,
            "occurred_at": bypassed.occurred_at,
            "release": release.event.event_id,
        }

    def approve(self, trail: Trail, release: Release, approver: str, hours: float) -> Event:
        """The approval, so many hours from the release."""
        at = release.at + int(hours * HOUR) // MS * MS
        context = {"author": release.author, "change_id": release.change}
        target = f"change:{release.change}"
        return trail.user("admin-console", at, "change.approve", approver, target, context=context)

    def note(self, release: Release, approval: Event | None, verdict: str, what: str) -> None:
        """One line of planted.json."""
        self.lines.append(
            {
                "approval": approval and approval.event_id,
                "approver": approval and approval.actor.id,
                "author": release.author,
                "change_id": release.change,
                "event_id": release.event.event_id,
                "note": what,
                "occurred_at": release.event.occurred_at,
                "verdict": verdict,
            }
        )


def engineers(at: int) -> list[str]:
    """Who writes and reviews changes then."""
    return [person.id for person in PEOPLE.values() if person.job == "engineer" and person.active(at)]
