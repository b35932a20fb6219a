"""Access of leavers: when it was removed, and whether it was used afterwards (TSC CC6.2, CC6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from auditlib.attachments import Attachment
from auditlib.evidence.account_use import Asked, Use
from auditlib.evidence.accounts import NEVER, Accounts
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import period_of
from auditlib.evidence.charts import Picture
from auditlib.evidence.day_chart import Lane, day_chart
from auditlib.evidence.examined import PASS, PLACE, Examined, Found, Request, chosen, judge
from auditlib.evidence.frames import PLACED, Kind, typed
from auditlib.evidence.held import FACTS, Changes
from auditlib.evidence.leavers import leavers_of
from auditlib.evidence.leaving import ATTRIBUTES, HOUR, Case
from auditlib.evidence.removal_page import (
    COLUMNS,
    NOTED,
    removal_facts,
    removal_limits,
    removal_procedure,
    removal_sections,
)
from auditlib.formats.times import from_datetime, parse_time, to_datetime
from auditlib.population import draw
from auditlib.query import Filter, Moment
from auditlib.sampling import Rule, draw_sample
from auditlib.trail import Selection, Trail

REQUEST = Request(
    name="access-removals",
    title="Removal of access when people leave",
    criteria=("CC6.2", "CC6.3"),
    references=("ISO/IEC 27001:2022 A.5.18", "ISO/IEC 27001:2022 A.6.5"),
    one="leaver",
    several="leavers",
)
_UNSEALED = "The moment of leaving rests on the attached list: unsealed evidence."
_ITEM: dict[str, Kind] = {
    "item": "text",
    **PLACED,
    "person": "text",
    "accounts": "text",
    "left_at": "time",
    "rests_on": "text",
    "leave_event_at": "time",
    "last_day_at": "time",
    "due_at": "time",
    "returned_at": "time",
    "held": "whole",
    "last_removal_at": "time",
    "hours_to_removal": "number",
    "events_after": "whole",
    "decisions_after": "whole",
    "last_use_at": "time",
    "hours_to_last_use": "number",
}
_RECORD: dict[str, Kind] = {**PLACED, "actor_type": "text", "actor_id": "text", "action": "text"}


@over_trails
def access_removals(
    trail: Trail,
    *,
    since: Moment,
    until: Moment = None,
    through: Moment = None,
    tz: str = "UTC",
    within_hours: int = 24,
    leavers: Attachment | None = None,
    identities: Attachment | None = None,
    sample: Rule | None = None,
) -> Examined:
    """Answer "show me everybody who left between SINCE and UNTIL, and when their access ended".

    What was held is read from the whole trail; removals and use count up to the checkpoint. `leavers` and `identities`
    are the attached lists of these names. Raises MalformedError for a list that contradicts itself.
    """
    period = period_of(since, until, through, tz)
    leaves = draw(trail, "leave")
    known = Accounts(identities.frame if identities else None)
    people = leavers_of(leaves.items, draw(trail, "join").items, leavers, known, period)
    changes = Changes(trail, [account for leaver in people for account in leaver.accounts])
    used = Use(
        trail,
        [
            Asked(number, account, leaver.left_at, NEVER if leaver.returned_at is None else leaver.returned_at)
            for number, leaver in enumerate(people)
            for account in leaver.accounts
        ],
        decisions=_approving(trail),
    )
    observed = parse_time(trail.recorded[1])
    cases = [
        Case(
            leaver=leaver,
            hours=within_hours,
            observed=observed,
            held=changes.until(leaver.accounts, leaver.left_at, leaver.returned_at),
            used=used.of(number),
        )
        for number, leaver in enumerate(people)
    ]
    items = _items(cases, used, listing=leavers is not None, recorded=len(leaves.items) > 0)
    held, taken = _held(cases), _taken(cases)
    names = dict(enumerate(items["item"]))
    counted, after = (_named(frame, names) for frame in (used.counted, used.listed))
    asked = Filter(actions=tuple(leaves.actions), outcomes=("success",), since=period.since, until=period.until)
    found = Found(
        question=f"Show me everybody who left from {period.words()}, when their access was removed, and whether their "
        "accounts were used afterwards.",
        kind="leaver",
        items=items,
        attributes=ATTRIBUTES,
        columns=COLUMNS,
        noted=NOTED,
        **chosen(leaves.actions, Selection(trail, asked)),
        procedure=removal_procedure(within_hours, leavers, identities),
        parameters={"within_hours": within_hours},
        told=removal_facts(items, after, leavers, identities),
        tables={"activity": counted, "after_leaving": after, "entitlements": held, "removals": taken},
        sections=removal_sections(),
        picture=_picture(items, held, after, within_hours),
        limits=removal_limits(changes.nameless, leavers),
    )
    drawn = None if sample is None else draw_sample(items, sample, request=REQUEST.name)
    return Examined(REQUEST, trail, period, found, drawn)


def _named(frame: pd.DataFrame, names: dict[int, str]) -> pd.DataFrame:
    """The item in the place of its number."""
    items = frame["n"].map(names).astype("str")
    return frame.assign(n=items).rename(columns={"n": "item"})


def _approving(trail: Trail) -> list[str]:
    """The actions that are approvals, of whatever kind."""
    actions = trail.catalog.actions if trail.catalog else {}
    return [name for name, action in actions.items() if action.decision == "approved"]


def _items(cases: Sequence[Case], used: Use, *, listing: bool, recorded: bool) -> pd.DataFrame:
    rows, outcomes, reasons = [], [], []
    decisions = used.listed.loc[used.listed["decision"], "n"].value_counts()
    for number, case in enumerate(cases):
        leaver, results = case.leaver, case.results(listing=listing, recorded=recorded)
        place = {name: leaver.event[name] for name in PLACE} if leaver.event else {"event_id": "", "source": ""}
        last_used = None if case.used.empty else case.used["last_at"].max()
        rows.append(
            {
                "item": case.item,
                **place,
                "person": leaver.person or "",
                "accounts": ", ".join(account.name for account in leaver.accounts),
                "left_at": to_datetime(leaver.left_at),
                "rests_on": "list (unsealed)" if leaver.unsealed else "event",
                "leave_event_at": _time(leaver.event_at),
                "last_day_at": _time(leaver.list_at),
                "due_at": to_datetime(case.due),
                "returned_at": _time(leaver.returned_at),
                "held": len(case.held),
                "last_removal_at": _time(case.last_removed),
                "hours_to_removal": _hours(case.last_removed, leaver.left_at),
                "events_after": int(case.used["events"].sum()),
                "last_use_at": last_used,
                "hours_to_last_use": None if last_used is None else _hours(from_datetime(last_used), leaver.left_at),
                "decisions_after": int(decisions.get(number, 0)),
            }
        )
        outcomes.append({name: outcome for name, (outcome, _) in results.items()})
        reasons.append({name: reason for name, (_, reason) in results.items()})
    items = typed(rows, _ITEM)
    attributes = pd.DataFrame(outcomes, items.index, columns=list(ATTRIBUTES), dtype="str")
    judged = judge(items.join(attributes), ATTRIBUTES, pd.DataFrame(reasons, items.index, columns=list(ATTRIBUTES)))
    told = [" ".join(filter(None, each.values())) for each in reasons]  # all that was noted, not the first alone
    told = [
        f"{text} {_UNSEALED}".strip() if case.leaver.unsealed else text for text, case in zip(told, cases, strict=True)
    ]
    return judged.assign(verdict=judged["verdict"].astype("str"), reason=pd.Series(told, judged.index, dtype="str"))


def _picture(items: pd.DataFrame, held: pd.DataFrame, after: pd.DataFrame, hours: int) -> Picture | None:
    """A lane for each leaver, those with a potential exception first."""
    first = items.assign(sound=items["verdict"] == PASS).sort_values(["sound", "left_at", "item"], kind="stable")
    removals, uses = (dict(iter(frame.groupby("item"))) for frame in (held, after))
    lanes = []
    for row in first.to_dict("records"):
        own, used = removals.get(row["item"], held.iloc[:0]), uses.get(row["item"], after.iloc[:0])
        kept = int(own["removed_at"].isna().sum())
        lanes.append(
            Lane(
                (row["accounts"] or row["person"]) + (f" ({kept} not removed)" if kept else ""),
                (own["hours"].dropna() / 24).tolist(),
                ((used["occurred_at"] - row["left_at"]).dt.total_seconds() / 86_400).tolist(),
            )
        )
    title = "From leaving to the last access (dashed: the agreed hours)"
    return day_chart(lanes, title=title, sound="removed", noted="used after leaving", agreed=hours / 24)


def _held(cases: Sequence[Case]) -> pd.DataFrame:
    """What each leaver held, beside the record that gave it."""
    rows = [
        {
            "item": case.item,
            "account": one.account,
            "entitlement": one.entitlement or "(not stated)",
            "state": one.when,
            "held_since": to_datetime(one.since),
            "removed_at": _time(one.removed),
            "removal": "" if one.taken is None else one.taken["event_id"],
            "hours": _hours(one.removed, case.leaver.left_at),
            **{name: one.given[name] for name in _RECORD},
        }
        for case in cases
        for one in case.held
    ]
    texts = ("item", "account", "entitlement", "state", "removal")
    told: dict[str, Kind] = dict.fromkeys(texts, "text")
    return typed(rows, {**told, "held_since": "time", "removed_at": "time", "hours": "number", **_RECORD})


def _taken(cases: Sequence[Case]) -> pd.DataFrame:
    """The removals, each with its record."""
    rows = [
        {"item": case.item, **{name: one.taken[name] for name in FACTS}}
        for case in cases
        for one in case.held
        if one.taken is not None
    ]
    return typed(rows, {"item": "text", "grantee": "text", "entitlement": "text", **_RECORD})


def _time(micros: int | None) -> Any:
    return None if micros is None else to_datetime(micros)


def _hours(micros: int | None, left_at: int) -> float | None:
    return None if micros is None else round((micros - left_at) / HOUR, 3)
