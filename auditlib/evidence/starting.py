"""The grants of those who began or moved, each beside its approval: from the trail, and from an attached list.

    first, approvals = approved(trail, starters, policy, tickets, identities)
    first       the first grant of each entitlement to each starter, `n` the starter's number, `sealed` or not

The attached list counts only where it changes an outcome; that outcome then rests on unsealed evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pandas as pd

from auditlib.approvals import Policy, match_approvals
from auditlib.attachments import Attachment, decisions, for_matching
from auditlib.evidence.accounts import Account, among, meant, micros
from auditlib.evidence.starters import Starter
from auditlib.formats.times import parse_time, to_datetime
from auditlib.population import draw
from auditlib.trail import Trail

APPROVAL = [  # attributes of an approval that are tested here; removal is another request's
    *("approval_exists", "approved_before_grant", "same_subject", "same_entitlement", "independent_approver"),
    *("approver_authorised", "within_validity", "within_uses"),
]
_MATCHED = ["approval", "approver", "approved_at", *APPROVAL, "verdict", "reason"]
_RECORD = ["event_id", "source", "recorded_at", "sequence", "row", "actor_type"]


class Approved(msgspec.Struct, frozen=True):
    """What was granted, and every record that an approval's outcome rests on."""

    first: pd.DataFrame  # n, the grant with its record, the approval's outcome, `sealed`
    decisions: pd.DataFrame
    requests: pd.DataFrame
    people: pd.DataFrame  # leavings and joinings of the starters and the approvers


def approved(
    trail: Trail,
    starters: Sequence[Starter],
    policy: Policy,
    tickets: Attachment | None,
    identities: Attachment | None,
) -> Approved:
    """Match every grant to the starters' accounts; the whole trail is searched for approvals."""
    everything = draw(trail, "grant").items
    accounts = [account for starter in starters for account in starter.accounts]
    own = among(everything, "grantee", accounts)
    asked = everything["request"].isin(own["request"].dropna()) & everything["request"].fillna("").ne("")
    grants = everything[asked | everything.index.isin(own.index)].reset_index(drop=True)
    sealed, requests = draw(trail, "approval").items, draw(trail, "request").items
    leaves, joins = draw(trail, "leave").items, draw(trail, "join").items
    more: dict[str, Any] = {
        "policy": policy,
        "observed_until": to_datetime(parse_time(trail.recorded[1])),
        "requests": requests,
        "leaves": leaves if len(leaves) else None,
        "joins": joins,
        "identities": _identities(identities, grants, sealed, requests, tickets),
    }
    matched = match_approvals(grants, sealed, **more).items.assign(sealed=True)
    if tickets is not None and len(grants):
        both = pd.concat([sealed, decisions(tickets)], ignore_index=True) if len(sealed) else decisions(tickets)
        wider = match_approvals(grants, both, **more).items.assign(sealed=False)
        same = (matched[APPROVAL] == wider[APPROVAL]).all(axis=1)
        matched = matched.where(same, wider).astype(matched.dtypes.to_dict())
    told = pd.concat([grants[_RECORD], matched[["item", "occurred_at", "action", "actor_id", "grantee", "entitlement",
                                                "request", *_MATCHED, "sealed"]]], axis=1)  # fmt: skip
    first = _first(told, starters)
    given = _decisions(sealed, first)
    named = pd.concat([first["request"], given["request"]]).dropna()
    who = [*accounts, *(Account(name) for name in sorted(set(given["actor_id"])))]
    people = [among(frame, "grantee", who) for frame in (leaves, joins) if len(frame)]
    return Approved(
        first=first,
        decisions=given,
        requests=requests[requests["request"].isin(named[named != ""])].reset_index(drop=True),
        people=pd.concat(people, ignore_index=True) if people else leaves,
    )


def _first(told: pd.DataFrame, starters: Sequence[Starter]) -> pd.DataFrame:
    """The first grant of each entitlement to each starter from `since` to `until`, in the order of the starters."""
    keys = told["grantee"].fillna("").map(str.casefold)
    by_name: dict[str, list[int]] = {
        str(name): list(rows) for name, rows in told.groupby(keys, sort=True).indices.items()
    }
    at = micros(told["occurred_at"], 0)
    names, sources, entitlements = (told[name].tolist() for name in ("grantee", "source", "entitlement"))
    order = told[["sequence", "row"]].to_numpy().tolist()
    kept: list[tuple[int, int]] = []
    for n, starter in enumerate(starters):
        seen: set[Any] = set()
        places = sorted(
            {p for account in starter.accounts for p in by_name.get(account.name.casefold(), ())},
            key=lambda p: (at[p], order[p], p),
        )
        for p in places:
            account = meant(starter.accounts, names[p], at[p], sources[p])
            if account is None or not starter.since <= at[p] < starter.until:
                continue
            what = account.name, entitlements[p]
            if what in seen:
                continue
            if isinstance(entitlements[p], str):  # one that is not stated may be another each time
                seen.add(what)
            kept.append((n, p))
    rows = told.iloc[[p for _, p in kept]].reset_index(drop=True)
    return rows.assign(n=pd.Series([n for n, _ in kept], rows.index, dtype="int64"))


def _decisions(sealed: pd.DataFrame, first: pd.DataFrame) -> pd.DataFrame:
    """Every decision of the trail that an outcome can rest on: by request, by use, by subject and entitlement."""
    silent = sealed["request"].fillna("") == ""
    unasked = first[first["request"].fillna("") == ""]
    chosen = (
        (sealed["request"].isin(first["request"].dropna()) & ~silent)
        | sealed["event_id"].isin(first["approval"].dropna())
        | _paired(sealed, unasked)
        | (silent & _paired(sealed, first))
    )
    return sealed[chosen].reset_index(drop=True)


def _paired(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series[bool]:
    there = set(others[["grantee", "entitlement"]].itertuples(index=False, name=None))
    found = [pair in there for pair in rows[["grantee", "entitlement"]].itertuples(index=False, name=None)]
    return pd.Series(found, rows.index, dtype=bool)


def _identities(
    listed: Attachment | None,
    grants: pd.DataFrame,
    sealed: pd.DataFrame,
    requests: pd.DataFrame,
    tickets: Attachment | None,
) -> pd.DataFrame | None:
    """The list as `match_approvals` takes it, with every spelling that the records use."""
    if listed is None:
        return None
    columns = [grants["grantee"], grants["actor_id"], sealed["actor_id"], sealed["requester"], requests["requester"]]
    if tickets is not None:
        columns += [tickets.frame["approver"], tickets.frame["requester"], tickets.frame["grantee"]]
    return for_matching(listed.frame, {name for column in columns for name in column.dropna().unique()})
