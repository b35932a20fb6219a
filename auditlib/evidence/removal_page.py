"""How the answer about leavers is told: its columns, sections and sentences."""

from __future__ import annotations

import pandas as pd

from auditlib.attachments import Attachment
from auditlib.evidence.account_use import MAX_LISTED
from auditlib.evidence.answer import Column, Section, listed, many

COLUMNS = [
    Column("item", "Item", "code"),
    Column("accounts", "Accounts"),
    Column("left_at", "Left (UTC)", "time"),
    Column("rests_on", "By"),
    Column("held", "Held", "number"),
    Column("hours_to_removal", "Hours to removal", "number"),
    Column("events_after", "Events after", "number"),
    Column("hours_to_last_use", "Hours to last use", "number"),
    Column("verdict", "Verdict", "verdict"),
]
NOTED = [
    Column("item", "Item", "code"),
    Column("accounts", "Accounts"),
    Column("left_at", "Left (UTC)", "time"),
    Column("verdict", "Attribute not met", "verdict"),
    Column("reason", "What was noted", "wide"),
]
_HELD = [
    Column("item", "Item", "code"),
    Column("account", "Account"),
    Column("entitlement", "Entitlement"),
    Column("state", "State"),
    Column("held_since", "Held since (UTC)", "time"),
    Column("removed_at", "Removed (UTC)", "time"),
    Column("hours", "Hours from leaving", "number"),
]
_USED = [
    Column("item", "Item", "code"),
    Column("account", "Account"),
    Column("system", "Source"),
    Column("did", "Action"),
    Column("result", "Outcome"),
    Column("events", "Events", "number"),
    Column("first_at", "First (UTC)", "time"),
    Column("last_at", "Last (UTC)", "time"),
]


def removal_facts(
    items: pd.DataFrame, after: pd.DataFrame, leavers: Attachment | None, identities: Attachment | None
) -> list[str]:
    """What the conclusion says beside the verdicts."""
    told = []
    unsealed = int(items["rests_on"].str.contains("unsealed").sum())
    if leavers is None:
        told.append("No list of leavers is attached: who left without a leave event in the trail does not show here.")
    elif unsealed:
        one = f"{many(unsealed, 'leaver')} of {len(items):,}"
        told.append(f"For {one} the moment of leaving rests on the attached list (unsealed evidence).")
    if identities is None:
        told.append("No list of identities is attached: a second account of a leaver would not show.")
    for item, events in after[after["decision"]].groupby("item", sort=True):
        who, ids = listed(sorted(set(events["actor_id"]))), listed(events["event_id"])
        told.append(f"{who} gave {many(len(events), 'approval')} after leaving ({item}): {ids}.")
    return told


def removal_procedure(hours: int, leavers: Attachment | None, identities: Attachment | None) -> list[str]:
    """How leavers were drawn and judged."""
    listing = (
        f"The attached list of leavers ({leavers.declaration.system}: {leavers.declaration.query}) has "
        f"{many(len(leavers.frame), 'row')}; a row and an event of one person with no joining between them are one "
        "leaving. Where they lie more than a day apart the earlier counts."
        if leavers
        else "No list of leavers was attached; leavers are the people whom a leave event names."
    )
    accounts = (
        f"Accounts were taken together by person as the attached identities say ({identities.declaration.system})."
        if identities
        else "Each account stands for itself; no identities were attached."
    )
    return [
        "Every leave event of the period is an item, and every row of the attached list whose last day lies in it.",
        listing,
        accounts,
        "What was held at leaving: grants, and the trail's own listings, less the removals up to then, over the whole "
        "trail; what was removed in the day before leaving is shown too. An end that a grant states is no removal.",
        f"Everything held at leaving or granted afterwards should have been removed {many(hours, 'hour')} after "
        "leaving; removals count up to the checkpoint, or to the day the person came back.",
        "Use after leaving is every event, whatever its outcome, that names an account of the leaver as its actor. "
        f"Of each leaver the first {MAX_LISTED:,}, the last and every approval are in the packet; the rest is counted.",
    ]


def removal_limits(nameless: pd.DataFrame, leavers: Attachment | None) -> list[str]:
    """What does not show; `nameless` are grants that name nobody."""
    told = [
        "Access that was granted before the trail began shows only where the trail holds a listing of it (kind "
        "snapshot); access of systems that are not recorded in this trail does not show."
    ]
    if len(nameless):
        told.append(
            f"{many(len(nameless), 'grant')} in the trail name nobody who got the access: whether a leaver held it "
            "cannot be told."
        )
    if leavers:
        told.append("The attached list was never sealed: whether it names everybody who left rests on its exporter.")
    return told


def removal_sections() -> list[Section]:
    """What stands in the report beside the leavers."""
    return [
        Section(
            title="What each leaver held, and when it was removed",
            sentences=["Hours count from leaving; below zero, it was removed before."],
            table="entitlements",
            columns=_HELD,
            empty="No leaver held anything that the trail knows of.",
        ),
        Section(
            title="What was done with the accounts after leaving",
            table="activity",
            columns=_USED,
            empty="No event after leaving names an account of a leaver as its actor.",
        ),
    ]
