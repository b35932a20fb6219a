"""What the tests of joiners, movers and leavers share: lists from outside, and packets of small trails."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import simulator
from packets import check, event, read_folder

from auditlib.attachments import Attachment, parse
from auditlib.evidence.examined import Examined
from auditlib.formats.event import Record
from auditlib.imports import import_files
from auditlib.intakes import Direct
from auditlib.packet.build import Asked, _pack
from auditlib.packet.notebook import Executed
from auditlib.packet.redaction import Cut
from auditlib.trail import Trail

COLUMNS = {
    "leavers": ("person_id", "account", "last_day"),
    "roster": ("person_id", "account", "first_day", "department", "job"),
    "identities": ("person_id", "account", "source", "valid_from", "valid_until", "case_rule"),
    "approvals": ("request", "grantee", "entitlement", "decision", "approver", "approved_at", "requester"),
}


def attachment(name: str, *rows: tuple[str, ...], zone: str = "UTC", cutoff: str = "") -> Attachment:
    """A list of these rows, exported after everything."""
    columns = COLUMNS[name]
    padded = [(*row, *[""] * (len(columns) - len(row))) for row in rows]
    data = "".join(",".join(row) + "\n" for row in [columns, *padded])
    declared = [
        'format = "auditlib/attachment/v1"',
        f'name = "{name}"',
        'system = "HR"',
        'query = "all"',
        'exporter = "u_1"',
        'exported_at = "2027-01-01T00:00:00Z"',
        f'time_zone = "{zone}"',
        f"rows = {len(rows)}",
        *([f'cutoff = "{cutoff}"'] if cutoff else []),
        "[columns]",
        *(f'{column} = "{column}"' for column in columns),
    ]
    return parse(name, data.encode(), "\n".join(declared).encode())


def leave(event_id: str, at: str, target: str = "u_1", **more: Any) -> Record:
    """A leave event."""
    return event(event_id, "employee.leave", at, target=target, actor="hr", **more)


def join(event_id: str, at: str, target: str = "u_1", **more: Any) -> Record:
    """A join event."""
    return event(event_id, "employee.join", at, target=target, actor="hr", **more)


def grant(event_id: str, at: str, role: str = "admin", request: str = "", **more: Any) -> Record:
    """A grant."""
    context = {"granted_role": role} | ({"request_id": request} if request else {})
    return event(event_id, "role.grant", at, context, **more)


def revoke(event_id: str, at: str, role: str = "admin", **more: Any) -> Record:
    """A removal."""
    return event(event_id, "role.revoke", at, {"revoked_role": role}, **more)


def packed(trail: Trail, answer: Examined, out: Path) -> Mapping[str, Any]:
    """A packet's files by name, and the `report` of its checks; built without running the notebook."""
    answer.answer().write(out.with_name("scratch"))
    executed = Executed(answer.request.name, "0" * 64, b"{}\n")
    _pack(trail, executed, {"at": trail.checkpoint.size}, Cut(()), out.with_name("scratch"), out, Asked({}))
    files: dict[str, Any] = read_folder(out)
    return {**files, "report": check(files, (simulator.KEY.verifier,))}


def cloudtrail_vault(folder: Path, logs: Path, now: int) -> Path:
    """A vault into which CloudTrail logs alone were imported."""
    made = simulator.Trail(folder).create()
    made.clock = simulator.Clock(now)
    with made.sealer() as sealer:
        key = simulator.KEY.verifier
        import_files("cloudtrail", [str(logs)], Direct(sealer, key, lambda: now), rejects=None, who="t")
    return folder / "vault"


def verdicts(answer: Examined) -> dict[str, str]:
    """Item -> verdict."""
    return dict(zip(answer.found.items["item"], answer.found.items["verdict"], strict=True))


def outcome(answer: Examined, item: str, attribute: str) -> str:
    """One attribute of one item."""
    items = answer.found.items
    return str(items.loc[items["item"] == item, attribute].iat[0])


def reason(answer: Examined, item: str) -> str:
    """The reason of one item."""
    return outcome(answer, item, "reason")
