"""What a notebook calls: open the trail, answer a request, hand the answer over.

    from auditlib import evidence

    trail = evidence.open(at=at)                       # the vault comes from AUDITLIB_VAULT, the key from AUDITLIB_KEY
    answer = evidence.role_grants(trail, since="2026-03-01", until="2026-06-01", entitlement="admin")
    answer.exceptions

Logic lives here, notebooks stay thin. An answer shows itself as tables and pictures, and holds no clock, host name
or path, so that the same question at the same checkpoint gives the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path

from auditlib.errors import MalformedError
from auditlib.evidence.answer import Answer
from auditlib.evidence.role_grants import RoleGrants, role_grants
from auditlib.trail import Trail
from auditlib.trail import open as open_trail

__all__ = ["Answer", "RoleGrants", "open", "role_grants"]


def open(at: int | None = None) -> Trail:
    """The trail of `AUDITLIB_VAULT`, read with the key(s) of `AUDITLIB_KEY` at checkpoint `at` (None: the newest)."""
    vault = os.environ.get("AUDITLIB_VAULT")
    if not vault:
        raise MalformedError(
            "the notebook does not know which vault to read.", remedy="Set AUDITLIB_VAULT to the vault's path."
        )
    keys = os.environ.get("AUDITLIB_KEY")
    return open_trail(Path(vault) if "://" not in vault else vault, keys=keys.split("\n") if keys else None, at=at)
