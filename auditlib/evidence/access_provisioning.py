"""Access of joiners and movers: was it approved before it was given, and given before the first day (TSC CC6.2)?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from auditlib.approvals import Policy
from auditlib.attachments import Attachment, decisions
from auditlib.evidence.account_use import Asked, Use
from auditlib.evidence.accounts import Accounts
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import period_of
from auditlib.evidence.charts import Picture
from auditlib.evidence.day_chart import Lane, day_chart
from auditlib.evidence.examined import FAIL, PASS, PLACE, Examined, Found, Request, chosen, judge
from auditlib.evidence.first_access import ATTRIBUTES, results
from auditlib.evidence.frames import PLACED, Kind, typed
from auditlib.evidence.provisioning_page import (
    COLUMNS,
    NOTED,
    provisioning_facts,
    provisioning_limits,
    provisioning_procedure,
    provisioning_sections,
)
from auditlib.evidence.starters import MOVER, Starter, starters_of
from auditlib.evidence.starting import APPROVAL, Approved, approved
from auditlib.formats.times import SECOND, from_datetime, to_datetime
from auditlib.population import draw
from auditlib.query import Filter, Moment
from auditlib.sampling import Rule, draw_sample
from auditlib.trail import Selection, Trail

REQUEST = Request(
    name="access-provisioning",
    title="Access of joiners and movers",
    criteria=("CC6.2",),
    references=("ISO/IEC 27001:2022 A.5.18",),
    one="joiner or mover",
    several="joiners and movers",
)
_UNSEALED_DAY = "The first day rests on the attached roster: unsealed evidence."
_UNSEALED_APPROVAL = "Approved (unsealed evidence): what the attached approvals say decides here."
_HOUR = 3600 * SECOND

_ITEM: dict[str, Kind] = {
    "item": "text",
    **PLACED,
    "kind": "text",
    "person": "text",
    "accounts": "text",
    "job": "text",
    "first_day_at": "time",
    "rests_on": "text",
    "join_event_at": "time",
    "listed_first_day_at": "time",
    "granted": "whole",
    "granted_unsealed": "whole",
    "first_access_at": "time",
    "hours_to_first_access": "number",
    "first_use_at": "time",
    "events_before": "whole",
}
_RECORD: dict[str, Kind] = {**PLACED, "actor_type": "text", "actor_id": "text", "action": "text"}


@over_trails
def access_provisioning(
    trail: Trail,
    *,
    since: Moment,
    until: Moment = None,
    through: Moment = None,
    tz: str = "UTC",
    policy: Policy | None = None,
    roster: Attachment | None = None,
    identities: Attachment | None = None,
    approvals: Attachment | None = None,
    sample: Rule | None = None,
) -> Examined:
    """Answer "show me everybody who joined or moved between SINCE and UNTIL, and who approved their access".

    Grants count up to the person's next first day or leaving, else up to the checkpoint; approvals are searched in the
    whole trail. `roster`, `identities` and `approvals` are the attached lists of these names. Raises MalformedError for
    a list that contradicts itself.
    """
    period, policy = period_of(since, until, through, tz), policy or Policy()
    joins = draw(trail, "join")
    known = Accounts(identities.frame if identities else None)
    people = starters_of(joins.items, draw(trail, "leave").items, roster, known, period)
    found = approved(trail, people, policy, approvals, identities)
    early, first = _use(trail, people)
    items = _items(people, found.first, early, first)
    names = dict(enumerate(items["item"]))
    asked = Filter(actions=tuple(joins.actions), outcomes=("success",), since=period.since, until=period.until)
    answer = Found(
        question=f"Show me everybody who joined or changed jobs from {period.words()}, what access they were given, "
        "and who approved it before they had it.",
        kind="starter",
        items=items,
        attributes=ATTRIBUTES,
        columns=COLUMNS,
        noted=NOTED,
        **chosen(joins.actions, Selection(trail, asked)),
        procedure=provisioning_procedure(policy, roster, identities, approvals),
        parameters={},
        told=provisioning_facts(items, roster, identities, approvals),
        tables=_tables(found, early, first, names, approvals),
        sections=provisioning_sections(),
        picture=_picture(items, found.first, early),
        limits=provisioning_limits(roster),
    )
    drawn = None if sample is None else draw_sample(items, sample, request=REQUEST.name)
    return Examined(REQUEST, trail, period, answer, drawn)


def _use(trail: Trail, people: Sequence[Starter]) -> tuple[Use, Use]:
    """What the accounts did before the first day, and the first that they did from then on."""
    early = [
        Asked(n, account, one.since - (one.since >= 0), one.first_day)
        for n, one in enumerate(people)
        for account in one.accounts
        if one.kind != MOVER
    ]
    later = [
        Asked(n, account, one.first_day - 1, one.until) for n, one in enumerate(people) for account in one.accounts
    ]
    return Use(trail, early), Use(trail, later, most=1)


def _items(people: Sequence[Starter], grants: pd.DataFrame, early: Use, later: Use) -> pd.DataFrame:
    own = {n: grants[grants["n"] == n] for n in grants["n"].unique().tolist()}
    rows, outcomes, reasons, notes = [], [], [], []
    for n, one in enumerate(people):
        granted, used = own.get(n, grants.iloc[:0]), early.of(n)
        first_grant = None if granted.empty else from_datetime(granted["occurred_at"].min())
        uses = [from_datetime(frame["first_at"].min()) for frame in (used, later.of(n)) if len(frame)]
        access = min([*uses, *([] if first_grant is None else [first_grant])], default=None)
        place = {name: one.event[name] for name in PLACE} if one.event else {"event_id": "", "source": ""}
        unsealed = int((~granted["sealed"].astype(bool)).sum())
        rows.append(
            {
                "item": one.event["item"] if one.event else f"roster:{one.line}",
                **place,
                "kind": one.kind,
                "person": one.person or "",
                "accounts": ", ".join(account.name for account in one.accounts),
                "job": one.job,
                "first_day_at": to_datetime(one.first_day),
                "rests_on": "roster (unsealed)" if one.unsealed else "event",
                "join_event_at": None if one.event_at is None else to_datetime(one.event_at),
                "listed_first_day_at": None if one.list_at is None else to_datetime(one.list_at),
                "granted": len(granted),
                "granted_unsealed": unsealed,
                "first_access_at": None if access is None else to_datetime(access),
                "hours_to_first_access": None if access is None else round((access - one.first_day) / _HOUR, 3),
                "first_use_at": None if not uses else to_datetime(min(uses)),
                "events_before": int(used["events"].sum()),
            }
        )
        found = results(one, granted, used)
        outcomes.append({name: outcome for name, (outcome, _) in found.items()})
        reasons.append({name: reason for name, (_, reason) in found.items()})
        rests = [_UNSEALED_APPROVAL] * (unsealed > 0) + [_UNSEALED_DAY] * one.unsealed
        notes.append(" ".join([*filter(None, reasons[-1].values()), *rests]))
    items = typed(rows, _ITEM)
    attributes = pd.DataFrame(outcomes, items.index, columns=list(ATTRIBUTES), dtype="str")
    judged = judge(items.join(attributes), ATTRIBUTES, pd.DataFrame(reasons, items.index, columns=list(ATTRIBUTES)))
    return judged.assign(verdict=judged["verdict"].astype("str"), reason=pd.Series(notes, judged.index, dtype="str"))


def _picture(items: pd.DataFrame, granted: pd.DataFrame, early: Use) -> Picture | None:
    """A lane for each, those with a potential exception first."""
    first = items.assign(sound=items["verdict"] == PASS).sort_values(["sound", "first_day_at", "item"], kind="stable")
    lanes = []
    for n, row in zip(first.index, first.to_dict("records"), strict=True):
        own, used = granted[granted["n"] == n], early.listed[early.listed["n"] == n]
        days = (own["occurred_at"] - row["first_day_at"]).dt.total_seconds() / 86_400
        sound = (own[APPROVAL] != FAIL).all(axis=1) & ((days >= 0) | (row["kind"] == MOVER))
        before = (used["occurred_at"] - row["first_day_at"]).dt.total_seconds() / 86_400
        label = f"{row['accounts'] or row['person']} ({row['kind']})"
        lanes.append(Lane(label, days[sound].tolist(), [*days[~sound], *before]))
    return day_chart(
        lanes,
        title="Grants from the first day on",
        sound="granted",
        noted="before the first day, or not approved as it should be",
    )


def _tables(
    found: Approved, early: Use, later: Use, names: dict[int, str], approvals: Attachment | None
) -> dict[str, pd.DataFrame]:
    grants = found.first.drop(columns=["verdict"]).rename(columns={"item": "grant", "reason": "noted"})
    grants["rests_on"] = grants.pop("sealed").map({True: "trail", False: "list (unsealed)"}).astype("str")
    grants.insert(0, "item", grants.pop("n").map(names).astype("str"))
    tables = {
        "approvals": found.decisions.drop(columns=["emergency"]),
        "early_use": _named(early.listed, names),
        "first_use": _named(later.listed, names),
        "grants": grants,
        "people": found.people[["grantee", *_RECORD]],
        "requests": found.requests[["request", "requester", "grantee", "entitlement", *_RECORD]],
    }
    if approvals is not None:  # under another name than event_id: no record of the trail speaks of them
        outside = decisions(approvals).rename(columns={"event_id": "approval", "actor_id": "approver"})
        outside = outside[outside["approval"].isin(grants["approval"])]
        kept = ["approval", "request", "grantee", "entitlement", "decision", "approver", "occurred_at", "authority"]
        tables["attached_approvals"] = (
            outside[kept].rename(columns={"occurred_at": "decided_at"}).reset_index(drop=True)
        )
    return tables


def _named(frame: pd.DataFrame, names: dict[int, str]) -> pd.DataFrame:
    """The item in the place of its number."""
    items = frame["n"].map(names).astype("str")
    return frame.assign(n=items).rename(columns={"n": "item"}).drop(columns=["decision"])
