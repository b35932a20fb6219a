"""Make the sample trail: Acme, 2026-01-01 to 2026-07-01 UTC. Run it; the same seed gives the same bytes.

    python data-samples/generate.py     writes data-samples/planted.json, data-samples/lists/ and data-samples/vault/

`acme/` is the company: clock (calendar), people, trail (what records), traffic (ordinary days), cases and grants
(who was given which role, on whose word), incidents; staff (joiners, movers, leavers), conduct (approvers), changes
(releases), reviews, holdings (who holds what), lists (what other systems export). planted.json says what an auditor
should find: written down as it is planted and never worked out by auditlib, so that auditlib can be held against it.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # `acme`, also when this file is loaded by its path

from acme import conduct, grants, holdings, incidents, lists, reviews, staff, traffic
from acme.cases import EMERGENCY_HOURS, WINDOW, desk_cases
from acme.changes import Changes
from acme.clock import HOUR, SINCE, UNTIL, text
from acme.grants import Desk
from acme.people import APPROVER_ROLES, LEFT
from acme.trail import SEED, Trail

import auditlib
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.document import DEFAULT_RETENTION_DAYS, Retention
from auditlib.formats.event import Record, source_name
from auditlib.formats.keys import SigningKey
from auditlib.formats.times import DAY, SECOND, parse_time
from auditlib.sealer import create_trail, open_sealer
from auditlib.state import SealerState
from auditlib.vault import open_vault

HERE = Path(__file__).parent
ORIGIN = "acme.example/audit"
SECOND_DESK = 1001  # the number of the first request of the second desk
SEALING_DELAY = 300 * SECOND  # microseconds from the end of a week to its seal


def generate() -> tuple[list[Record], dict[str, Any]]:
    """The whole trail in the order recorded, and what was planted in it."""
    trail, changes = Trail(), Changes()
    desk = Desk(trail, desk_cases(), "grants")
    desk.play()
    staff.before_leaving(trail)
    found = incidents.play(trail)
    traffic.play(trail, changes)
    trail.heartbeats()
    found |= play_audit(trail, desk, changes, found)
    records = trail.finish()
    approved = incidents.terminated("u_1005", desk.after_leaving, "approved an admin grant after leaving")
    found["terminated_active"].append(approved)
    planted = {
        **found,
        **trail.pipeline(),
        "policy": {"approver_roles": APPROVER_ROLES, "emergency_hours": EMERGENCY_HOURS},
        "trail": {
            "actions": dict(Counter(record.event.action for record in records)),
            "events": len(records),
            "origin": ORIGIN,
            "outcomes": dict(Counter(record.event.outcome for record in records)),
            "seed": SEED,
            "since": text(SINCE),
            "sources": dict(Counter(record.receipt.source for record in records)),
            "until": text(UNTIL),
        },
        "window": {"since": WINDOW[0], "until": WINDOW[1]},
    }
    return records, planted


def play_audit(trail: Trail, desk: Desk, changes: Changes, found: dict[str, Any]) -> dict[str, Any]:
    """What an auditor asks beside the role grants, after everything ordinary: each part draws from its own stream."""
    trail.part("staff and conduct")
    second = Desk(trail, [*staff.cases(), *conduct.cases()], "second desk", first=SECOND_DESK)
    second.play()
    staff.after_leaving(trail)
    redefined = conduct.redefine(trail, second)
    trail.part("changes")
    released = changes.play(trail)
    trail.part("reviews")
    glass = reviews.break_glass(trail, found["break_glass"])
    unidentified = reviews.unidentified(trail)
    holdings.last_seen(trail)
    reviewed = reviews.play(trail)
    trail.part("holdings")
    desks = [desk, second]
    return {
        **grants.planted(desk.admin + second.admin, desk.others + second.others),
        "access_reviews": reviewed,
        "admin_grants_that_did_not_happen": desk.not_granted + second.not_granted,
        "approver_conduct": conduct.planted(desks),
        "break_glass_uses": glass,
        "changes": released,
        "holdings": holdings.play(trail),
        "privileged_without_identity": [unidentified],
        "provisioning": staff.provisioning(trail, desks),
        "removals": removals(trail, desk, found),
        "roles_redefined": [redefined],
        "tickets": lists.tickets(desks),
    }


def removals(trail: Trail, desk: Desk, found: dict[str, Any]) -> dict[str, Any]:
    """What the leavers held on their last day, when it was removed, and what they did afterwards."""
    held = {
        user: {role for subject, role in holdings.held_at(trail, left - 2 * HOUR) if subject == user}
        for user, left in LEFT.items()
    }
    active = {line["actor"]: [event["event_id"] for event in line["events"]] for line in found["terminated_active"]}
    active["u_1005"] = [event.event_id for event in desk.after_leaving]
    return staff.removals(trail, held, active)


def planted_text(planted: dict[str, Any]) -> str:
    """planted.json."""
    return json.dumps(planted, indent=1, sort_keys=True) + "\n"


# --- the vault ----------------------------------------------------------------------------------------------


def seal_vault(records: list[Record]) -> None:
    """Seal the records into data-samples/vault/, one batch a week, with the public sample key."""
    key = SigningKey(ORIGIN, hashlib.sha256(b"auditlib sample key: public and worthless").digest())
    note = "# The key of the sample trail: public and worthless. Never sign anything of yours with it.\n"
    (HERE / "sample.key").write_text(f"{note}{key.secret_text()}\n")
    (HERE / "sample.vkey").write_text(f"{key.verifier}\n")
    shutil.rmtree(HERE / "vault", ignore_errors=True)
    vault = open_vault(str(HERE / "vault"), create=True)
    catalog = parse_catalog(Path(auditlib.__file__).with_name("catalog.toml").read_bytes())
    create_trail(vault, key, Retention(DEFAULT_RETENTION_DAYS, "COMPLIANCE"), catalog, now=parse_time(WINDOW[0]))
    weeks: dict[int, list[Record]] = {}
    for record in records:
        weeks.setdefault(_week_end(parse_time(record.receipt.recorded_at)), []).append(record)
    with tempfile.TemporaryDirectory() as memory:
        now = 0
        state = SealerState(Path(memory), key.verifier)
        blinds = random.Random(f"{SEED}:blinds")
        with open_sealer(vault, key, state, now=lambda: now, random=blinds.randbytes) as sealer:
            for end in sorted(weeks):
                now = end + SEALING_DELAY
                sealer.add(weeks[end])
                sealer.flush()
    shutil.rmtree(HERE / "vault" / ".incoming", ignore_errors=True)


def _week_end(micros: int) -> int:
    """The next Monday 00:00 UTC; 1970-01-01 was a Thursday."""
    return ((micros - 4 * DAY) // (7 * DAY) + 1) * 7 * DAY + 4 * DAY


# ------------------------------------------------------------------------------------------------------------


def main() -> None:
    """Write planted.json and the lists, say what there is, seal."""
    records, planted = generate()
    (HERE / "planted.json").write_text(planted_text(planted), encoding="utf-8", newline="\n")
    shutil.rmtree(HERE / "lists", ignore_errors=True)
    (HERE / "lists").mkdir()
    for name, content in lists.files(records, planted).items():
        (HERE / "lists" / name).write_text(content, encoding="utf-8", newline="\n")
    print(f"{len(records):,} events")
    for source, count in sorted(Counter(source_name(record.receipt.source) for record in records).items()):
        print(f"  {source:<20}{count:>8,}")
    for action, count in sorted(planted["trail"]["actions"].items()):
        print(f"  {action:<20}{count:>8,}")
    seal_vault(records)


if __name__ == "__main__":
    main()
