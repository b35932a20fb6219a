"""The access desk: turns cases into requests, approvals, grants and removals, and lists what it granted."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from acme.cases import REASONS, WINDOW, Case
from acme.clock import HOUR, MINUTE, MS, UNTIL, next_working_time, text
from acme.people import ADMINISTRATORS, APPROVER_ROLES, APPROVERS, BROKER, person
from acme.trail import Trail, stream
from auditlib.formats.event import Event
from auditlib.formats.times import parse_time


@dataclass
class Desk:
    """The access desk: turns cases into events and keeps the list of what it did."""

    trail: Trail
    cases: list[Case]
    name: str  # of its stream of random numbers
    first: int = 1  # the number of its first request
    admin: list[dict[str, Any]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)
    not_granted: list[dict[str, Any]] = field(default_factory=list)
    after_leaving: list[Event] = field(default_factory=list)
    approvals: list[Event] = field(default_factory=list)
    granted: list[tuple[Case, Event]] = field(default_factory=list)

    def play(self) -> None:
        """Every case, in the order of the requests, so that their numbers grow with time."""
        self.random = stream(self.name)
        self.administrators, self.approvers = cycle(ADMINISTRATORS), cycle(APPROVERS)
        self.requests: dict[str, str] = {}
        for case in sorted(self.cases, key=lambda c: (c.at + int((c.asked or 0) * HOUR), c.grantee, c.roles)):
            request = self.requests[case.under] if case.under else self.request(case)
            if case.outcome:
                self.grant(case, request)

    def moment(self, case: Case, hours: float) -> int:
        """Some minutes past so many hours from the grant."""
        return case.at + int(hours * HOUR) + self.random.randrange(9 * 60_000) * MS

    def request(self, case: Case) -> str | None:
        """What was asked for and how it was decided; the request id."""
        if case.asked is None:
            return None
        request_id = f"REQ-{len(self.requests) + self.first:04d}"
        self.requests[case.label or request_id] = request_id
        requester, target = case.requester or case.grantee, f"access-request:{request_id}"
        scope = {
            "entitlements": list(case.entitlements or case.roles),
            "request_id": request_id,
            "subjects": list(case.subjects or [case.grantee]),
        }
        at = self.moment(case, case.asked)
        context = {**scope, "reason": self.random.choice(REASONS)}
        asked = self.trail.user("identity", at, "access.request", requester, target, context=context)
        approver = case.approver or next(self.approvers)
        if case.decided is not None and case.decision == "deny":
            at, context = self.moment(case, case.decided), {"reason": "not needed", "request_id": request_id}
            self.trail.user("identity", at, "access.deny", approver, target, context=context)
        elif case.decided is not None:
            at = parse_time(case.decided_at) if case.decided_at else self.moment(case, case.decided)
            context = {
                **scope,
                "approver_role": person(approver).job,
                "requested_at": asked.occurred_at,
                "requester": requester,
                **self.limits(case, at),
            }
            event = self.trail.user("identity", at, "access.approve", approver, target, context=context)
            self.approvals.append(event)
            if not person(approver).active(at):
                self.after_leaving.append(event)
        if case.withdrawn is not None:
            at, context = self.moment(case, case.withdrawn), {"request_id": request_id}
            self.trail.user("identity", at, "access.withdraw", requester, target, context=context)
        return request_id

    def limits(self, case: Case, approved: int) -> dict[str, Any]:
        """What an approval is limited to."""
        hours = case.expires if case.valid_until is None else case.valid_until
        limits: dict[str, Any] = {} if case.uses is None else {"uses": case.uses}
        if hours is not None:
            limits |= {"valid_from": text(approved), "valid_until": text(case.at + int(hours * HOUR))}
        return limits

    def grant(self, case: Case, request_id: str | None) -> None:
        """The grant and, some time later, its removal."""
        granter = case.granter or next(self.administrators)
        named = {} if request_id is None else {"request_id": request_id}
        role: str | list[str] = list(case.roles) if len(case.roles) > 1 else case.roles[0]
        conferred = {"confers": role, "group": case.group} if case.group else {"granted_role": role}
        context: dict[str, Any] = {**conferred, **named}
        if case.emergency:
            context["emergency"] = True
        if case.expires is not None:
            context["expires_at"] = text(case.at + int(case.expires * HOUR))
        at = case.at if case.granted.endswith("Z") else self.moment(case, 0)
        target = f"user:{case.grantee}"
        action = "group.add" if case.group else "role.grant"
        event = self.act(granter, at, action, target, context=context, outcome=case.outcome)
        self.granted.append((case, event))
        self.note(case, event.event_id, at)
        if case.revoked is None or case.outcome != "success":
            return
        at = self.moment(case, case.revoked)
        if case.expires is None:
            at = next_working_time(at)
        if at < UNTIL - MINUTE:
            context = {"revoked_role": role, **named}
            self.act(granter, at, "role.revoke", f"user:{case.grantee}", context=context)

    def act(self, granter: str, at: int, action: str, target: str, **more: Any) -> Event:
        """A grant or a removal: by a person in the console, or by the broker in identity."""
        if granter == BROKER:
            return self.trail.add("identity", at, action, f"service:{BROKER}", target, **more)
        return self.trail.user("admin-console", at, action, granter, target, **more)

    def note(self, case: Case, event_id: str, at: int) -> None:
        """One line of planted.json for each item that was granted."""
        line = {"event_id": event_id, "grantee": case.grantee, "note": case.note, "occurred_at": text(at)}
        if case.outcome != "success":
            self.not_granted.append({**line, "entitlement": case.roles[0], "outcome": case.outcome})
            return
        for number, role in enumerate(case.roles, 1):
            item = f"{event_id}#{number}" if len(case.roles) > 1 else event_id
            verdict = case.second if number == 2 else case.verdict
            into = self.admin if role == "admin" else self.others
            into.append({**line, "entitlement": role, "item": item, "verdict": verdict})

    @property
    def outside_authority(self) -> list[Event]:
        """Its approvals by somebody whom the policy does not let approve."""
        return [event for event in self.approvals if event.context["approver_role"] not in APPROVER_ROLES]


def planted(admin: list[dict[str, Any]], others: list[dict[str, Any]]) -> dict[str, Any]:
    """The lists of grants for planted.json, each in the order of time."""

    def inside(line: dict[str, Any]) -> bool:
        return parse_time(WINDOW[0]) <= parse_time(line["occurred_at"]) < parse_time(WINDOW[1])

    def ordered(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(lines, key=lambda line: (parse_time(line["occurred_at"]), line["item"]))

    return {
        "admin_grants": ordered([line for line in admin if inside(line)]),
        "admin_grants_outside": ordered([line for line in admin if not inside(line)]),
        "other_grants": {
            "exceptions": ordered([line for line in others if line["verdict"] != "pass"]),
            "in_window": sum(map(inside, others)),
            "total": len(others),
        },
    }
