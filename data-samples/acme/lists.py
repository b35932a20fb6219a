"""What other systems export and an analyst attaches: a CSV file each, and beside it what its exporter declares.

leavers, roster, identities    the personnel system        tickets    approvals that the trail never saw
listing                        who holds what at the end   responses  what management says to an exception
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from acme.clock import HOUR, SINCE, berlin_day, text
from acme.grants import Desk
from acme.people import ACCOUNTS, JOINED, LEFT, MOVES, ON_LEAVE, PEOPLE, person
from auditlib.formats.event import Record
from auditlib.formats.times import parse_time

EXPORTED_AT = "2026-07-01T09:15:00+02:00"
HR = "Personio at acme.example"
END_OF_WORK = "18:30"  # Berlin: on a last day, access ends here
SECOND_ACCOUNT_UNTIL = "2026-06-15"


@dataclass(frozen=True)
class List:
    """A list: its file, the name under which it is attached, where it comes from, its columns and rows."""

    file: str
    name: str
    system: str
    query: str
    columns: dict[str, str]  # our name -> theirs
    rows: list[tuple[str, ...]]
    exporter: str = "u_1037, people operations"
    cutoff: str = ""

    def csv(self) -> str:
        """The file."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns.values())
        writer.writerows(self.rows)
        return out.getvalue()

    def declaration(self) -> str:
        """The TOML file beside it; no text in it needs escaping."""
        lines = [
            'format = "auditlib/attachment/v1"',
            f'name = "{self.name}"',
            f'system = "{self.system}"',
            f'query = "{self.query}"',
            f'exporter = "{self.exporter}"',
            f'exported_at = "{EXPORTED_AT}"',
            'time_zone = "Europe/Berlin"',
            f"rows = {len(self.rows)}",
            *([f'cutoff = "{self.cutoff}"'] if self.cutoff else []),
            "",
            "[columns]",
            *(f'{ours} = "{theirs}"' for ours, theirs in self.columns.items()),
        ]
        return "\n".join(lines) + "\n"


def files(records: list[Record], planted: dict[str, Any]) -> dict[str, str]:
    """File names and contents."""
    found: dict[str, str] = {}
    for made in (leavers(), roster(), identities(), approvals(planted), responses(planted), listing(records, planted)):
        found[f"{made.file}.csv"], found[f"{made.file}.csv.toml"] = made.csv(), made.declaration()
    return found


def leavers() -> List:
    """Who left, and the last day."""
    rows = [(person_id(user), user, str(berlin_day(left)), PEOPLE[user].department) for user, left in LEFT.items()]
    columns = {"person_id": "Employee", "account": "Login", "last_day": "Last day", "department": "Department"}
    query = "Report LV-7: terminations, 2026-01-01 to 2026-06-30"
    return List("leavers", "leavers", HR, query, columns, sorted(rows), cutoff=END_OF_WORK)


def roster() -> List:
    """Everybody once, and once more from the day on which the department or the job changed."""
    rows = [
        (person_id(p.id), p.id, str(berlin_day(p.joined)) if p.id in JOINED else hired(p.number), p.department, p.job)
        for p in PEOPLE.values()
    ]
    rows.append((person_id(ON_LEAVE), ON_LEAVE, hired(1044), "sales", "agent"))
    rows += [(person_id(user), user, day, department, job) for user, (day, department, job) in MOVES.items()]
    columns = {"person_id": "Employee", "account": "Login", "first_day": "From", "department": "Department"}
    query = "Report HC-2: staff and changes of position, as of 2026-06-30"
    return List("roster", "roster", HR, query, columns | {"job": "Position"}, sorted(rows))


def identities() -> List:
    """Whose account is whose, at every source: Acme signs on once for all, so that no directory is named."""
    rows = [(person_id(user), user, "", "", "") for user in (*PEOPLE, ON_LEAVE)]
    for account, user in ACCOUNTS.items():
        rows.append((person_id(user), account, "", str(berlin_day(JOINED[user])), SECOND_ACCOUNT_UNTIL))
    columns = {"person_id": "Employee", "account": "Account", "source": "Directory"}
    columns |= {"valid_from": "Created", "valid_until": "Closed"}
    return List("identities", "identities", HR, "Report ID-1: accounts by employee", columns, sorted(rows))


def approvals(planted: dict[str, Any]) -> List:
    """The history of tickets: each decision with its own time, not the last state."""
    columns = {
        "request": "Request",
        "grantee": "For",
        "entitlement": "Access",
        "decision": "Decision",
        "approver": "Decided by",
        "approved_at": "Decided at",
        "requester": "Asked by",
        "requested_at": "Asked at",
        "authority": "Position",
    }
    rows = [tuple(str(row[column]) for column in columns) for row in planted["tickets"]["rows"]]
    query = "project = ACCESS, history of field Decision, 2026-01-01 to 2026-06-30"
    return List("tickets", "approvals", "Jira at acme.example", query, columns, rows, "u_1004, security")


def responses(planted: dict[str, Any]) -> List:
    """What management says to four of the exceptions among the admin grants."""
    said = {
        "no request id, no approval": (
            "asked for by phone during an escalation",
            "the support manager confirmed the need on 2026-03-03",
            "grants without a request id are refused since 2026-06-10",
        ),
        "approved by its own subject": (
            "the approver was the only manager on duty",
            "the security lead looked at the session afterwards",
            "the desk refuses a decision by the subject",
        ),
        "bound in time, never removed": ("the removal job failed", "", "the job tells the desk when it fails"),
        "an engineer approved": ("the manager's deputy was not registered as one", "", "deputies are registered"),
    }
    items = {line["note"]: line["item"] for line in planted["admin_grants"]}
    owners = ["u_1002", "u_1001", "u_1043", "u_1001"]
    rows = [
        (items[note], *texts, owner, f"2026-06-{10 + number}")
        for number, ((note, texts), owner) in enumerate(zip(said.items(), owners, strict=True))
    ]
    names = ["item", "cause", "compensating_evidence", "remediation", "owner", "date"]
    columns = {name: name.replace("_", " ").capitalize() for name in names}
    return List(
        "responses", "responses", "Jira at acme.example", "filter 1187: audit", columns, rows, "u_1004, security"
    )


def listing(records: list[Record], planted: dict[str, Any]) -> List:
    """The listing at the close, as the identity system exports it to a file."""
    at = planted["holdings"]["closing"]["at"]
    parts = [r.event.context for r in records if r.event.action == "access.snapshot" and r.event.context["at"] == at]
    rows = [(line["subject"], line["entitlement"], at) for part in parts for line in part["holdings"]]
    columns = {"subject": "Account", "entitlement": "Role", "as_of": "As of"}
    return List("listing", "listing", "identity", "accounts and roles", columns, sorted(rows), "u_1006, operations")


# --- approvals outside the trail ------------------------------------------------------------------------------


def tickets(desks: list[Desk]) -> dict[str, Any]:
    """The rows of the ticket list, and the verdict of each grant that they are about once the list counts."""
    rows: list[dict[str, str]] = []
    verdicts: dict[str, str] = {}

    def ticket(grantee: str, note: str, decisions: Iterable[tuple[float, str, str]], verdict: str) -> None:
        case, event = next(
            (case, event)
            for desk in desks
            for case, event in desk.granted
            if (case.grantee, case.note) == (grantee, note)
        )
        at, request = parse_time(event.occurred_at), event.context.get("request_id", "")
        for hours, decision, approver in decisions:
            rows.append(
                {
                    "approved_at": minute(at + int(hours * HOUR)),
                    "approver": approver,
                    "authority": person(approver).job,
                    "decision": decision,
                    "entitlement": case.roles[0],
                    "grantee": grantee,
                    "request": request,
                    "requested_at": minute(at - 50 * HOUR),
                    "requester": grantee,
                }
            )
        verdicts[event.event_id] = verdict

    ticket("u_1025", "no request id, no approval", [(-3, "approved", "u_1004")], "pass")
    ticket("u_1014", "asked for, never decided", [(-1, "approved", "u_1004")], "pass")
    # The trail denied it an hour after the ticket approved it; the latest word counts.
    ticket("u_1017", "the request was denied", [(-3, "approved", "u_1001")], "approval_exists")
    ticket("u_1040", "no request id, no approval", [(-40, "approved", "u_1001"), (-20, "withdrawn", "u_1040")],
           "approval_exists")  # fmt: skip
    ticket("u_1035", "added to a group that confers admin; no request id, no approval", [(21, "approved", "u_1004")],
           "approved_before_grant")  # fmt: skip
    return {"rows": sorted(rows, key=lambda row: row["approved_at"]), "verdicts": verdicts}


def minute(at: int) -> str:
    """To the minute, as ticket systems write it, in UTC."""
    return text(at)[:16] + ":00Z"


def person_id(user: str) -> str:
    """P-1012 of u_1012."""
    return f"P-{user[2:]}"


def hired(number: int) -> str:
    """A first day before the trail begins."""
    day = f"{2017 + number % 8}-{1 + number % 12:02d}-01"
    assert parse_time(f"{day}T00:00:00Z") < SINCE
    return day
