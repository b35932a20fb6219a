"""How the answer about joiners and movers is told: its columns, sections and sentences."""

from __future__ import annotations

import pandas as pd

from auditlib.approvals import Policy
from auditlib.attachments import Attachment
from auditlib.evidence.account_use import MAX_LISTED
from auditlib.evidence.answer import Column, Section, many
from auditlib.evidence.examined import PASS

COLUMNS = [
    Column("item", "Item", "code"),
    Column("kind", "Who"),
    Column("accounts", "Accounts"),
    Column("first_day_at", "First day (UTC)", "time"),
    Column("rests_on", "By"),
    Column("granted", "Granted", "number"),
    Column("hours_to_first_access", "Hours to access", "number"),
    Column("verdict", "Verdict", "verdict"),
]
NOTED = [
    Column("item", "Item", "code"),
    Column("kind", "Who"),
    Column("accounts", "Accounts"),
    Column("first_day_at", "First day (UTC)", "time"),
    Column("verdict", "Attribute not met", "verdict"),
    Column("reason", "What was noted", "wide"),
]
_GRANTS = [
    Column("item", "Item", "code"),
    Column("grantee", "Granted to"),
    Column("entitlement", "Entitlement"),
    Column("occurred_at", "Granted (UTC)", "time"),
    Column("approver", "Approver"),
    Column("approved_at", "Approved (UTC)", "time"),
    Column("rests_on", "Approval by"),
    Column("noted", "What was noted", "wide"),
]
_EARLY = [
    Column("item", "Item", "code"),
    Column("actor_id", "Account"),
    Column("occurred_at", "Occurred (UTC)", "time"),
    Column("action", "Action"),
    Column("outcome", "Outcome"),
]


def provisioning_facts(
    items: pd.DataFrame, roster: Attachment | None, identities: Attachment | None, approvals: Attachment | None
) -> list[str]:
    """What the conclusion says beside the verdicts."""
    joiners, movers = (int((items["kind"] == kind).sum()) for kind in ("joiner", "mover"))
    told = [
        f"{many(joiners, 'joiner')}, {many(movers, 'mover')}; {many(int(items['granted'].sum()), 'entitlement')} given."
    ]
    nothing = int(((items["granted"] == 0) & (items["accounts"] != "")).sum())
    if nothing:
        told.append(f"{nothing:,} of them were granted nothing that this trail records; there was no approval to test.")
    if roster is None:
        told.append("No roster is attached: who moved to another job, or joined without a join event, does not show.")
    else:
        unsealed = int(items["rests_on"].str.contains("unsealed").sum())
        told.append(
            f"For {unsealed:,} of {len(items):,} the first day rests on the attached roster (unsealed evidence)."
        )
    if approvals is not None:
        passed = items[(items["granted_unsealed"] > 0) & (items["verdict"] == PASS)]
        told.append(
            f"Approved (unsealed evidence): {len(passed):,} of those that passed rest on the attached approvals."
        )
    if identities is None:
        told.append("No list of identities is attached: self-approval by a second account would not show.")
    return told


def provisioning_procedure(
    policy: Policy, roster: Attachment | None, identities: Attachment | None, approvals: Attachment | None
) -> list[str]:
    """How joiners and movers were drawn and judged."""
    lists = [
        f"Attached, unsealed: {one.name} ({one.declaration.system}: {one.declaration.query}), {len(one.frame):,} rows."
        for one in (roster, identities, approvals)
        if one is not None
    ]
    return [
        "Every join event of the period is an item, and every row of the attached roster whose first day lies in it: a "
        "joiner where it is the person's first row, a mover where department or job changed.",
        *lists,
        "A first day begins at the midnight before the join event, in the time zone asked; at the roster's moment "
        "where there is no event. Where they lie more than a day apart the later counts.",
        "Of each person the first grant of each entitlement was taken: from the first day on, of joiners also before "
        "it, up to the next leaving or first day, else up to the checkpoint. Approvals were searched in "
        "the whole trail.",
        "The attached approvals count where they change an outcome, which then rests on unsealed evidence; a denial in "
        "the trail stands against them."
        if approvals
        else "No approvals from outside were attached.",
        "First access is the earlier of the first grant and the first event that names the account as its actor. Of "
        f"each joiner the first {MAX_LISTED:,} events before the first day, and the last, are in the packet.",
        *policy.sentences()[1:],  # the first speaks of a look-back, and there is none
    ]


def provisioning_limits(roster: Attachment | None) -> list[str]:
    """What does not show."""
    told = ["Access that systems give without an event in this trail, or gave before it began, does not show."]
    if roster:
        told.append(
            "The roster was never sealed: whether it names everybody who joined or moved rests on its exporter."
        )
    return told


def provisioning_sections() -> list[Section]:
    """What stands in the report beside the items."""
    return [
        Section(
            title="What each was given, and on whose word",
            table="grants",
            columns=_GRANTS,
            empty="Nothing was granted to them that this trail records.",
        ),
        Section(
            title="Use of joiners' accounts before the first day",
            table="early_use",
            columns=_EARLY,
            empty="No event before a first day names a joiner's account as its actor.",
        ),
    ]
