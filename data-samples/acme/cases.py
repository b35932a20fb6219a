"""Who was given which role, on whose word: what an auditor should find, among much that is in order.

A case is one line: asked, decided, granted, removed. What is wrong with it stands beside it (`verdict`,
`note`) and goes into planted.json as it stands; nothing is worked out from the events.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from typing import Any

from acme.clock import DAYS, berlin, berlin_day, is_working_day
from acme.people import BROKER, PEOPLE
from acme.trail import stream
from auditlib.formats.times import parse_time

WINDOW = ("2026-03-01T00:00:00Z", "2026-06-01T00:00:00Z")  # what the auditor asks about; the end is outside
EMERGENCY_HOURS = 24  # the policy: an emergency grant may be approved this much later
REASONS = ["customer escalation", "incident", "migration", "new duties", "quarter close", "rotation"]


@dataclass(frozen=True)
class Case:
    """One grant and what belongs to it. Hours count from the grant; None: it did not happen."""

    granted: str  # 2026-03-12 14:30 in Berlin (and some minutes), or exactly 2026-03-12T13:30:00Z
    grantee: str
    note: str = "in order"
    verdict: str = "pass"  # or the first attribute that fails
    roles: tuple[str, ...] = ("admin",)
    second: str = ""  # the verdict of the second of two roles
    outcome: str = "success"  # of the grant; "": nobody tried
    granter: str = ""  # else the administrators in turn
    emergency: bool = False
    asked: float | None = -4
    requester: str = ""  # else the grantee
    decided: float | None = -2
    decision: str = "approve"
    decided_at: str = ""  # exactly, instead of `decided`
    approver: str = ""  # else the approvers in turn
    subjects: tuple[str, ...] = ()  # else the grantee
    entitlements: tuple[str, ...] = ()  # else the roles
    uses: int | None = None
    valid_until: float | None = None  # of the approval alone
    withdrawn: float | None = None
    expires: float | None = None  # of the grant and of the approval
    revoked: float | None = 72  # moved to a working day, unless the access was bound in time
    label: str = ""
    under: str = ""  # granted on the request that has this label
    group: str = ""  # granted by adding the grantee to this group, which confers the role

    @property
    def at(self) -> int:
        """The moment from which the hours count."""
        return parse_time(self.granted) if self.granted.endswith("Z") else berlin(self.granted)


# Whoever is given a role without a request id has no approval for that role from any other time either.
UNASKED: dict[str, Any] = {"asked": None, "decided": None}
MIDNIGHT: dict[str, Any] = {"granter": BROKER, "asked": -64, "decided": -60}  # fixed in advance
PLANTED = [
    Case("2026-03-01T00:00:00Z", "u_1009", "in order: the window's first instant", **MIDNIGHT),
    Case("2026-03-03 14:10", "u_1025", "no request id, no approval", "approval_exists", **UNASKED),
    Case("2026-03-05 15:20", "u_1011", "in order: approved weeks before the window", asked=-672, decided=-648),
    Case("2026-03-09 14:00", "u_1012", "in order: first use of an approval for one use", uses=1, label="once"),
    Case("2026-03-10 14:30", "u_1002", "approved by its own subject", "independent_approver",
         approver="u_1002"),
    Case("2026-03-12 15:00", "u_1014", "asked for, never decided", "approval_exists", decided=None),
    Case("2026-03-16 15:30", "u_1015", "approved by who asked for it", "independent_approver",
         requester="u_1001", approver="u_1001"),
    Case("2026-03-18 14:20", "u_1016", "approved by who granted it", "independent_approver",
         approver="u_1004", granter="u_1004"),
    Case("2026-03-20 16:00", "u_1012", "second use of an approval for one use", "within_uses", under="once"),
    Case("2026-03-23 14:45", "u_1017", "the request was denied", "approval_exists", decision="deny"),
    Case("2026-03-25 14:30", "u_1018", "approved 3 hours after the grant", "approved_before_grant",
         decided=3),
    Case("2026-03-27 14:00", "u_1022", "bound in time, never removed", "removed_in_time",
         expires=120, revoked=None),
    Case("2026-04-01 14:15", "u_1019", "approval withdrawn before the grant", "approval_exists",
         asked=-5, decided=-4, withdrawn=-1),
    Case("2026-04-02 14:40", "u_1020", "in order: approval withdrawn only after the grant",
         withdrawn=120, revoked=144),
    Case("2026-04-08 15:10", "u_1013", "approved was editor", "same_entitlement", entitlements=("editor",)),
    Case("2026-04-09 14:20", "u_1014", "approved was u_1015", "same_subject",
         requester="u_1015", subjects=("u_1015",)),
    Case("2026-04-14 16:00", "u_1009", "the approver had left on 2026-03-31", "approver_authorised",
         approver="u_1005"),
    Case("2026-04-16 15:40", "u_1010", "an engineer approved", "approver_authorised", approver="u_1011"),
    Case("2026-04-17 14:05", "u_1021", "bound in time, removed 6 days late", "removed_in_time",
         expires=72, revoked=216),
    Case("2026-04-20 14:00", "u_1016", "the approval had expired 2 days before", "within_validity",
         asked=-290, decided=-288, valid_until=-48),
    Case("2026-04-23 14:00", "u_1017", "in order: bound in time, removed before the end",
         expires=96, revoked=28),
    Case("2026-04-24 23:40", "u_1018", "in order under the emergency policy: approved 20 hours later",
         emergency=True, asked=1, requester="u_1001", decided=20, approver="u_1004"),
    Case("2026-04-28 14:10", "u_1019", "two roles in one grant, only admin was approved",
         roles=("admin", "billing-admin"), second="same_entitlement", entitlements=("admin",)),
    Case("2026-05-05 22:50", "u_1020", "an emergency approved 40 hours later", "approved_before_grant",
         emergency=True, asked=1, requester="u_1001", decided=40, approver="u_1004"),
    Case("2026-05-07 14:30", "u_1011", "in order: first of two subjects of one approval", uses=2,
         requester="u_1016", subjects=("u_1011", "u_1012"), label="pair"),
    Case("2026-05-07 15:10", "u_1012", "in order: second of two subjects of one approval", under="pair"),
    Case("2026-05-08 15:00", "u_1013", decision="deny", outcome=""),
    Case("2026-05-11 14:30", "u_1013", "in order: denied once, asked again under a new id and approved"),
    Case("2026-05-13 14:20", "u_1015", "in order: one of two roles approved",
         entitlements=("admin", "editor")),
    Case("2026-05-18 14:00", "u_1014", "in order: bound in time, the end lies past the trail",
         expires=2520, revoked=None),
    Case("2026-05-20 14:35", "u_1011", "the grant failed", outcome="failure", revoked=None),
    Case("2026-05-21 15:25", "u_1012", "the grant was denied", outcome="denied", granter="u_1025",
         revoked=None, **UNASKED),
    Case("2026-05-29 15:00", "u_1016", "approved on 2026-06-02, after the window", "approved_before_grant",
         decided=96, revoked=144),
    Case("2026-05-31T23:59:59.999999Z", "u_1010", "in order: the window's last instant", **MIDNIGHT),
    Case("2026-06-01T00:00:00Z", "u_1017", "in order: the first instant after the window", **MIDNIGHT),
    Case("2026-02-11 14:50", "u_1026", "before the window: no request id, no approval", "approval_exists",
         **UNASKED),
    Case("2026-06-17 14:25", "u_1019", "after the window: approved 5 hours late", "approved_before_grant",
         decided=5),
]  # fmt: skip
IN_ORDER = [  # admin grants with nothing wrong: days of 2026
    "01-08", "01-13", "01-16", "01-21", "01-26", "01-30", "02-04", "02-09", "02-12", "02-17", "02-20",
    "02-25",
    "03-04", "03-11", "03-19", "03-31", "04-07", "04-15", "04-30", "05-06", "05-19", "05-27",
    "06-03", "06-09", "06-11", "06-16", "06-19", "06-23",
]  # fmt: skip
ORDINARY_ROLES = ["viewer", "viewer", "editor", "editor", "billing-admin", "support", "deployer"]
ORDINARY_EXCEPTIONS: dict[int, dict[str, Any]] = {  # the how manieth ordinary grant -> what is wrong with it
    7: {"verdict": "approved_before_grant", "note": "approved 3 hours after the grant", "decided": 3},
    46: {"verdict": "approval_exists", "note": "no request id, no approval", "grantee": "u_1040",
         "roles": ("deployer",), **UNASKED},
    63: {"verdict": "same_entitlement", "note": "approved was viewer", "entitlements": ("viewer",),
         "roles": ("deployer",)},
    71: {"verdict": "approver_authorised", "note": "an engineer approved", "approver": "u_1013"},
}  # fmt: skip


def desk_cases() -> list[Case]:
    """Everything that the access desk decides."""
    return [*PLANTED, *in_order(), *ordinary()]


def in_order() -> list[Case]:
    """Admin grants with nothing wrong; every third is bound in time and removed before its end."""
    engineers = cycle([f"u_{number}" for number in range(1009, 1021)])
    bound: dict[str, Any] = {"expires": 48, "revoked": 26, "note": "in order: bound in time, removed in time"}
    return [
        Case(f"2026-{day} 14:{15 + n}", next(engineers), **(bound if n % 3 == 1 else {}))
        for n, day in enumerate(IN_ORDER)
    ]


def ordinary() -> list[Case]:
    """Viewer, editor and the like: joiners on their first day, and some others every week."""
    random = stream("ordinary")
    on_joining: dict[str, Any] = {"requester": "u_1002", "revoked": None}
    joiners: list[Case] = []
    for user in ("u_1024", "u_1041", "u_1042", "u_1043"):
        day = berlin_day(PEOPLE[user].joined).isoformat()
        for minute, role in ((10, "viewer"), (25, "editor")):
            joiners.append(Case(f"{day} 14:{minute}", user, roles=(role,), **on_joining))
    cases: list[Case] = []
    for today in DAYS[12:]:
        if not is_working_day(today) or random.random() < 0.15:
            continue
        granted = f"{today.isoformat()} 15:{random.randrange(10, 50)}"
        there = [person for person in PEOPLE.values() if person.active(berlin(granted))]
        staff = [person.id for person in there if person.job in ("engineer", "agent", "analyst")]
        more: dict[str, Any] = {
            "grantee": random.choice(staff),
            "roles": (random.choice(ORDINARY_ROLES),),
            "revoked": random.randrange(10, 60) * 24 if random.random() < 0.4 else None,
        }
        cases.append(Case(granted, **(more | ORDINARY_EXCEPTIONS.get(len(cases), {}))))
    return joiners + cases
