"""Who works at Acme, and which machines act there.

u_1001            engineering manager           u_1009 to u_1024   engineers
u_1002            support manager               u_1025 to u_1031   support
u_1003            finance manager               u_1032 to u_1036   finance
u_1004            security lead                 u_1037, u_1038     human resources
u_1005, u_1043    operations managers           u_1039 to u_1042   sales
u_1006 to u_1008  operations: they grant roles   u_1044             sales, on leave since January

u_1039 moves from sales to finance on 2026-05-04. u_1143 is a second account of the person behind u_1043.
"""

from __future__ import annotations

from dataclasses import dataclass

from acme.clock import SINCE, UNTIL, berlin

JOINED = {  # start of the first day
    "u_1024": berlin("2026-03-16 07:30"),
    "u_1041": berlin("2026-02-02 07:30"),
    "u_1042": berlin("2026-04-01 07:30"),
    "u_1043": berlin("2026-04-01 07:30"),
}
LEFT = {  # end of the last day
    "u_1005": berlin("2026-03-31 18:30"),
    "u_1023": berlin("2026-02-27 18:30"),
    "u_1030": berlin("2026-04-30 18:30"),
}
TEAMS = {  # department and job -> the last digits of the user ids
    ("engineering", "manager"): [1001],
    ("support", "manager"): [1002],
    ("finance", "manager"): [1003],
    ("security", "security-lead"): [1004],
    ("operations", "manager"): [1005, 1043],
    ("operations", "administrator"): [1006, 1007, 1008],
    ("engineering", "engineer"): list(range(1009, 1025)),
    ("support", "agent"): list(range(1025, 1032)),
    ("finance", "analyst"): list(range(1032, 1037)),
    ("human-resources", "analyst"): [1037, 1038],
    ("sales", "agent"): list(range(1039, 1043)),
}


@dataclass(frozen=True)
class Person:
    """One employee; `joined` and `left` are SINCE and UNTIL for those who were there all the time."""

    id: str
    department: str
    job: str
    joined: int
    left: int

    @property
    def number(self) -> int:
        """1012 of u_1012."""
        return int(self.id[2:])

    def active(self, at: int) -> bool:
        """Whether the person was employed then."""
        return self.joined <= at < self.left


PEOPLE = {
    f"u_{number}": Person(f"u_{number}", *team, JOINED.get(f"u_{number}", SINCE), LEFT.get(f"u_{number}", UNTIL))
    for team, numbers in TEAMS.items()
    for number in numbers
}
ON_LEAVE = "u_1044"  # not in PEOPLE: no working day of hers is in the trail
ACCOUNTS = {"u_1143": "u_1043"}  # second accounts -> the account by which the person is known
MOVES = {"u_1039": ("2026-05-04", "finance", "analyst")}  # first day, department and job after a change of job
ADMINISTRATORS = ["u_1006", "u_1007", "u_1008"]
APPROVERS = ["u_1001", "u_1004"]
APPROVER_ROLES = ["manager", "security-lead"]  # the policy: who may approve
HR_SYNC = "svc_hr-sync"  # tells of joiners and leavers
BROKER = "svc_access-broker"  # activates grants at a time fixed in advance
CI = "svc_ci"  # releases
PAYMENTS = "svc_payments"
MIGRATION = "svc_migration"  # left over from a migration in 2025; it does nothing any more


def person(account: str) -> Person:
    """Whose account it is."""
    return PEOPLE[ACCOUNTS.get(account, account)]
