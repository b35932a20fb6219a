"""What a notebook calls: open the trail, answer a request, hand the answer over.

    from auditlib import evidence

    trail = evidence.open(at=at)                       # the vault comes from AUDITLIB_VAULT, the key from AUDITLIB_KEY
    tickets = evidence.attached("approvals")           # from AUDITLIB_ATTACHMENTS; None where nothing was attached
    answer = evidence.role_grants(trail, since="2026-03-01", until="2026-06-01", entitlement="admin")
    answer.exceptions

Where AUDITLIB_VAULT names several vaults, one a line, every function answers over all of their trails (see `across`).

Logic lives here, notebooks stay thin. An answer shows itself as tables and pictures, and holds no clock, host name
or path, so that the same question at the same checkpoint gives the same bytes.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from auditlib.attachments import attached
from auditlib.cluster import from_environment
from auditlib.errors import MalformedError, MismatchError
from auditlib.evidence.access_provisioning import access_provisioning
from auditlib.evidence.access_removals import access_removals
from auditlib.evidence.access_review import AccessReview, access_review
from auditlib.evidence.across import Trails, open_trails
from auditlib.evidence.actor_activity import ActorActivity, actor_activity
from auditlib.evidence.answer import Answer
from auditlib.evidence.approver_conduct import ApproverConduct, approver_conduct
from auditlib.evidence.change_management import change_management
from auditlib.evidence.denied_access import DeniedAccess, denied_access
from auditlib.evidence.event_list import EventList
from auditlib.evidence.events import events
from auditlib.evidence.pipeline_health import PipelineHealth, pipeline_health
from auditlib.evidence.privileged_actions import PrivilegedActions, privileged_actions
from auditlib.evidence.review_performed import review_performed
from auditlib.evidence.role_grants import RoleGrants, role_grants
from auditlib.evidence.trail_integrity import TrailIntegrity, trail_integrity
from auditlib.history import read_history
from auditlib.keyfiles import load_verifier_keys
from auditlib.trail import Keys, Trail
from auditlib.trail import open as open_trail
from auditlib.vault import open_vault

__all__ = [
    "AccessReview",
    "ActorActivity",
    "Answer",
    "ApproverConduct",
    "DeniedAccess",
    "EventList",
    "PipelineHealth",
    "PrivilegedActions",
    "RoleGrants",
    "TrailIntegrity",
    "Trails",
    "access_provisioning",
    "access_removals",
    "access_review",
    "actor_activity",
    "approver_conduct",
    "attached",
    "change_management",
    "denied_access",
    "events",
    "open",
    "pipeline_health",
    "privileged_actions",
    "review_performed",
    "role_grants",
    "trail_integrity",
]


def open(at: int | None = None, *, faulty: bool = False) -> Trail | Trails:
    """The trail of `AUDITLIB_VAULT`, read with the key(s) of `AUDITLIB_KEY` at checkpoint `at` (None: the newest).

    Several vaults, one a line, are read as `Trails`, at the checkpoints that `AUDITLIB_AT` names, a number a line; `at`
    speaks of one trail and is refused then. Where `AUDITLIB_SCHEDULER` names a cluster, its workers read the batches of
    long questions (`Trail.run`). `faulty` opens a trail also where checks 0 to 4 found faults, for who reports them;
    what can be read is then not proven.
    """
    vault = os.environ.get("AUDITLIB_VAULT")
    if not vault:
        raise MalformedError(
            "the notebook does not know which vault to read.", remedy="Set AUDITLIB_VAULT to the vault's path."
        )
    given = os.environ.get("AUDITLIB_KEY")
    keys = given.split("\n") if given else None
    vaults = [line for line in vault.split("\n") if line]
    if len(vaults) == 1:
        return _opened(vaults[0], keys, at, faulty=faulty)
    if at is not None:
        raise MalformedError(
            "a checkpoint's size says nothing of several trails.", where="at", remedy="Give none, or ask one trail."
        )
    sizes = [line for line in os.environ.get("AUDITLIB_AT", "").split("\n") if line]
    if sizes and (len(sizes) != len(vaults) or not all(size.isascii() and size.isdigit() for size in sizes)):
        raise MalformedError(
            f"it names no checkpoint for each of the {len(vaults)} vaults.",
            where="AUDITLIB_AT",
            remedy="Write the number of seals, one a line, in the order of AUDITLIB_VAULT; or nothing.",
        )
    places = [(one, keys) for one in vaults]
    return open_trails(places, [*map(int, sizes)] or [None] * len(vaults), partial(_opened, faulty=faulty))


def _opened(vault: str, keys: Keys, at: int | None, *, faulty: bool) -> Trail:
    place = Path(vault) if "://" not in vault else vault
    executor = from_environment()
    try:
        return open_trail(place, keys=keys, at=at, executor=executor)
    except MismatchError:
        history = read_history(open_vault(str(place)), load_verifier_keys(keys), at=at) if faulty else None
        if history is None or history.checkpoint is None or not history.seals:
            raise
        return Trail(history, history.catalog, executor)
