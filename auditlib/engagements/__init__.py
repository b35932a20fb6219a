"""Who may look, at what, and for how long: engagements.toml (0600, beside the dashboard that reads it).

    format = "auditlib/engagements/v1"

    [[engagements]]
    id = "soc2-2026"
    identity = "ines@auditor.example"
    role = "auditor"
    vaults = ["acme.example/audit"]
    since = "2026-01-01"
    until = "2026-07-01"
    kinds = ["grant", "revoke"]
    redact = ["context.ip"]
    requests = ["AC-*"]
    rows_per_export = 10000
    valid_from = "2026-07-01T00:00:00Z"
    valid_until = "2026-10-01T00:00:00Z"
    set_by = "maria"
    set_at = "2026-06-28T09:12:00Z"

model.py  one engagement: its fields, their bounds, whether it holds now
words.py  the same in plain words, as every page and export states it
file.py   the file: read again when it has changed, added to and revoked in without touching anything else
"""

from auditlib.engagements.file import Engagements, add_engagement, read_engagements, revoke_engagement
from auditlib.engagements.model import ROLES, Engagement, check_engagement, current
from auditlib.engagements.words import in_a_line, in_words, why_not

__all__ = [
    "ROLES",
    "Engagement",
    "Engagements",
    "add_engagement",
    "check_engagement",
    "current",
    "in_a_line",
    "in_words",
    "read_engagements",
    "revoke_engagement",
    "why_not",
]
