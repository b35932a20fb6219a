"""Approval matching: every grant beside the approval that serves it best, attribute by attribute (DESIGN 3).

    verdicts = match_approvals(grants, approvals, revokes, policy=Policy(), observed_until=sealed_at)
    verdicts.exceptions     # item, approval, approver, nine attributes, verdict, reason

DataFrames in, DataFrames out: no clock, no files, no queries. The way of the data:

policy.py    what an approval must be          frames.py    what came in, checked
people.py    who asked, who had left           refusals.py  which grants were refused
pool.py      all of it as arrays (codes.py)    keys.py      one item against one approval: one number
choice.py    the best approval of each item    table.py     outcomes, with reasons.py, as verdicts.py

The rules, in the order in which they bite:

1. Link. A grant with a request id is served by approvals of that request alone; a grant without one by the
   approvals of its (grantee, entitlement), whatever request they answer. A grant with neither cannot be
   tested. An empty text counts as missing.
2. Refusals. The latest decision at or before the grant counts: a denial or withdrawal voids every approval
   before it, so that only a newer approval serves; one after the grant voids nothing. It answers the
   request it names (all of it, or the subject and entitlement it states), or, naming none, the pair it
   states. A refused grant stays refused when the approval comes after the grant. Where only void approvals
   name the subject and entitlement, approval_exists fails.
3. Choice, among the approvals left: those of this subject and entitlement (or stating none) before those of
   others; then the fewest failures; then the fewest not-testable; then the failure that comes last in
   ATTRIBUTES; then the latest at or before the grant, else the earliest after it; then (sequence, row).
4. Before. Decided by `occurred_at` alone; equal counts as before. A later approval is late, not missing; it
   passes where the grant is an emergency and the policy's hours are not over.
5. Uses. Counted per approval, subject and entitlement, over the items in the order (occurred_at, sequence,
   row, item number). An item uses an approval up that is not for others, not late and within its validity,
   whoever gave it; for any other item within_uses is n/a. An item prefers an approval with a use left. The
   same pair twice in one event counts once. An approval that states no subject or no entitlement covers
   `uses` items in all.
6. Persons. The approver may be neither subject, granter nor requester: the requester that the approval
   states and whoever filed the request. A left approver (a leave before the approval, no join since) is not
   authorised. Accounts are compared as persons where `identities` are given: as of the approval for
   approver, requester and the grant for subject and granter.
7. Removal. Due at the earlier of the grant's and the approval's `valid_until`; met by the first revoke of
   the same grantee and entitlement after the grant, at or before that end. An end after `observed_until` is
   not yet due: n/a.
8. Standing. An entitlement that the policy approves in advance needs no event: approval_exists passes,
   `approval` is STANDING, and what only an event could show is n/a.

Where so many grants meet so many approvals that comparing them is past MAX_PAIRS or MAX_TURNS, their items
are not-testable and say so: a flood of events can hide nothing and stop nothing.
"""

from __future__ import annotations

from datetime import datetime

import pandas as pd

from auditlib.approvals.choice import MAX_PAIRS, MAX_TURNS, choose
from auditlib.approvals.frames import check_frames
from auditlib.approvals.policy import Policy
from auditlib.approvals.pool import encode
from auditlib.approvals.table import table
from auditlib.approvals.verdicts import ATTRIBUTES, NOT_TESTABLE, STANDING, Verdicts
from auditlib.formats.times import from_datetime

__all__ = [
    "ATTRIBUTES",
    "MAX_PAIRS",
    "MAX_TURNS",
    "NOT_TESTABLE",
    "STANDING",
    "Policy",
    "Verdicts",
    "match_approvals",
]


def match_approvals(
    grants: pd.DataFrame,
    approvals: pd.DataFrame,
    revokes: pd.DataFrame | None = None,
    *,
    policy: Policy,
    observed_until: datetime,
    requests: pd.DataFrame | None = None,
    leaves: pd.DataFrame | None = None,
    joins: pd.DataFrame | None = None,
    identities: pd.DataFrame | None = None,
) -> Verdicts:
    """Grants and decisions -> Verdicts, by the rules in the package's docstring. No frame is changed.

    `grants`: one row per item. `approvals`: one row per decision event, subject and entitlement, refusals
    included. `revokes`: successful ones. `requests`: occurred_at, request, requester. `leaves`, `joins`:
    occurred_at, grantee. `identities`: account, person, and if need be valid_from, valid_until.
    `observed_until`: aware, to where the trail reaches. Raises MalformedError that names the frame, for a
    missing column or time and for an unknown decision.
    """
    until = from_datetime(observed_until)
    frames = check_frames(
        {
            "grants": grants,
            "approvals": approvals,
            "revokes": revokes,
            "requests": requests,
            "leaves": leaves,
            "joins": joins,
            "identities": identities,
        }
    )
    pool = encode(frames, policy, until)
    keys, crowded = choose(pool)
    items = table(frames, pool, keys, crowded)
    return Verdicts(items, policy, observed_until, identities is not None, leaves is not None)
