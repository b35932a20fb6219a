"""Make the sample trail: Acme, 2026-01-01 to 2026-07-01 UTC. Run it; the same seed gives the same bytes.

    python data-samples/generate.py     writes data-samples/planted.json and data-samples/vault/

`acme/` is the company: clock (calendar), people, trail (what records), traffic (ordinary days), cases and grants
(who was given which role, on whose word) and incidents. planted.json says what an auditor should find: written
down as it is planted and never worked out by auditlib, so that auditlib can be held against it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # `acme`, also when this file is loaded by its path

from acme import incidents, traffic
from acme.cases import EMERGENCY_HOURS, WINDOW
from acme.clock import SINCE, UNTIL, text
from acme.grants import Desk
from acme.people import APPROVER_ROLES
from acme.trail import SEED, Trail

from auditlib.formats.event import Record, source_name

HERE = Path(__file__).parent
ORIGIN = "acme.example/audit"


def generate() -> tuple[list[Record], dict[str, Any]]:
    """The whole trail in the order recorded, and what was planted in it."""
    trail = Trail()
    desk = Desk(trail)
    desk.play()
    found = incidents.play(trail)
    traffic.play(trail)
    trail.heartbeats()
    records = trail.finish()
    approved = incidents.terminated("u_1005", desk.after_leaving, "approved an admin grant after leaving")
    found["terminated_active"].append(approved)
    planted = {
        **desk.planted(),
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


def planted_text(planted: dict[str, Any]) -> str:
    """planted.json."""
    return json.dumps(planted, indent=1, sort_keys=True) + "\n"


# --- the vault ----------------------------------------------------------------------------------------------


def seal_vault(records: list[Record]) -> None:
    """Seal the records into data-samples/vault/, with the public sample key."""
    raise SystemExit(f"seal_vault is not written yet: none of the {len(records):,} records was sealed.")


# ------------------------------------------------------------------------------------------------------------


def main() -> None:
    """Write planted.json, say what there is, seal."""
    records, planted = generate()
    (HERE / "planted.json").write_text(planted_text(planted), encoding="utf-8", newline="\n")
    print(f"{len(records):,} events")
    for source, count in sorted(Counter(source_name(record.receipt.source) for record in records).items()):
        print(f"  {source:<20}{count:>8,}")
    for action, count in sorted(planted["trail"]["actions"].items()):
        print(f"  {action:<20}{count:>8,}")
    seal_vault(records)


if __name__ == "__main__":
    main()
