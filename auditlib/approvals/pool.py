"""Grants and approvals as arrays of numbers, and for each item the approvals that may serve it (rule 1)."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import translate
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from auditlib.approvals.codes import (
    FAIL,
    NA,
    NEVER,
    NT,
    PASS,
    Bools,
    Ints,
    asof,
    codes,
    dense,
    inverse,
    micros,
    pairs,
    pick,
    runs,
    starts,
)
from auditlib.approvals.frames import Frames
from auditlib.approvals.people import persons
from auditlib.approvals.policy import Policy
from auditlib.approvals.refusals import Stated, refusals
from auditlib.formats.times import DAY, SECOND

UNLIMITED = 1 << 62  # uses


@dataclass(frozen=True)
class Candidates:
    """For each item the approvals that may serve it: rows[start : start + count]."""

    rows: Ints
    start: Ints
    count: Ints

    @staticmethod
    def by(row_code: Ints, rows: Ints, code: Ints, wanted: Bools) -> Candidates:
        """The `rows` of the same code, for the items `wanted`; codes below 0 match nothing."""
        rows = rows[row_code[rows] >= 0]
        rows = rows[np.argsort(row_code[rows], kind="stable")]
        size = int(max(row_code.max(initial=0), code.max(initial=0))) + 1
        number = np.bincount(row_code[rows], minlength=size)
        some = wanted & (code >= 0)
        return Candidates(rows, np.where(some, starts(number)[code], 0), np.where(some, number[code], 0))

    def plus(self, other: Candidates) -> Candidates:
        """Both, for items of which each has candidates in one of them at most."""
        start = np.where(other.count > 0, other.start + len(self.rows), self.start)
        return Candidates(np.concatenate([self.rows, other.rows]), start, self.count + other.count)

    def of(self, items: Ints) -> Ints:
        """The approvals of these items, one item after another."""
        return self.rows[runs(self.start[items], self.count[items])]


@dataclass(frozen=True)
class Items(Stated):
    """Grants in grant order; a pair that stands twice in one event is one item."""

    latest: Ints  # an approval after this is late
    until: Ints
    person: Ints  # the subject
    granter: Ints
    refused_at: Ints  # row of the latest refusal at or before the grant, -1
    refused: Bools  # no approval came between that refusal and the grant
    removed: Ints
    standing: Bools


@dataclass(frozen=True)
class Approvals(Stated):
    """Approvals in time order."""

    decision: Ints  # row of the decisions
    approver: Ints
    asked: Bools  # the approver asked for it
    asker_known: Bools
    authority: npt.NDArray[np.int8]
    left: Bools  # the approver had left
    since: Ints
    until: Ints
    last: Ints  # the last moment that max_age allows
    uses: Ints
    rank: Ints  # its place among all: the newest first, then by sequence, row
    by_order: Ints  # what a key's `order` means: all by rank, then all in time order, then -1


@dataclass(frozen=True)
class Pool:
    """Everything that the choice needs."""

    items: Items
    approvals: Approvals
    twin: Ints  # row of the grants -> item
    exact: Candidates  # of this subject and entitlement
    loose: Candidates  # of the request, stating no subject or no entitlement
    whole: Candidates  # of the request
    observed: int
    end_required: bool


def encode(frames: Frames, policy: Policy, observed: int) -> Pool:
    """Frames -> Pool."""
    grants, decisions, revokes = frames.grants, frames.decisions, frames.revokes
    g_request, d_request, filed_request = codes(*(f["request"] for f in (grants, decisions, frames.requests)))
    g_subject, d_subject, r_subject = codes(*(f["grantee"] for f in (grants, decisions, revokes)))
    g_entitled, d_entitled, r_entitled = codes(*(f["entitlement"] for f in (grants, decisions, revokes)))
    g_pair, d_pair, r_pair = pairs((g_subject, g_entitled), (d_subject, d_entitled), (r_subject, r_entitled))
    # An event that names the same pair twice grants, or approves, it once.
    twin = dense((*_place(grants), g_request, g_subject, g_entitled))[0]
    first = np.unique(twin, return_index=True)[1]
    again = dense((*_place(decisions), d_subject, d_entitled))[0]
    once = np.zeros(len(decisions), dtype=bool)
    once[np.unique(again, return_index=True)[1]] = True
    approving = (decisions["decision"] == "approved").to_numpy()

    said = Stated(micros(decisions["occurred_at"]), d_request, d_subject, d_entitled, d_pair)
    item = Stated(micros(grants["occurred_at"]), g_request, g_subject, g_entitled, g_pair).at(first)
    rows = np.flatnonzero(approving & once)
    stated, given, kept = said.at(rows), decisions.iloc[rows], grants.iloc[first]
    who = persons(frames, kept, given, stated.request, filed_request)
    refused_at, refused = refusals(item, said, np.flatnonzero(~approving), rows)
    grace = (policy.emergency_hours or 0) * 3600 * SECOND
    items = Items(
        **vars(item),
        latest=item.time + np.where(kept["emergency"].to_numpy(), grace, 0),
        until=micros(kept["valid_until"], NEVER),
        person=who.subject,
        granter=who.granter,
        refused_at=refused_at,
        refused=refused,
        removed=_removed(kept, item.pair, revokes, r_pair),
        standing=_standing(kept["entitlement"], policy.standing),
    )
    uses = given["uses"].fillna(UNLIMITED if policy.default_uses is None else policy.default_uses)
    every, newest = np.arange(len(rows)), np.argsort(-stated.time, kind="stable")
    approvals = Approvals(
        **vars(stated),
        decision=rows,
        approver=who.approver,
        asked=who.asked,
        asker_known=who.asker_known,
        authority=_authority(given["authority"], who.left, policy.authorities),
        left=who.left,
        since=micros(given["valid_from"]),
        until=micros(given["valid_until"], NEVER),
        last=np.full(len(rows), NEVER) if policy.max_age_days is None else stated.time + policy.max_age_days * DAY,
        uses=uses.to_numpy(dtype=np.int64),
        rank=inverse(newest),
        by_order=np.concatenate([newest, every, [-1]]),
    )
    paired, asking = stated.pair >= 0, item.request >= 0
    row_both, both = dense((stated.request, stated.pair), (item.request, item.pair))
    by_both = Candidates.by(row_both, every[paired], both, asking & (item.pair >= 0))
    by_pair = Candidates.by(stated.pair, every, item.pair, ~asking)
    return Pool(
        items=items,
        approvals=approvals,
        twin=twin,
        exact=by_both.plus(by_pair),
        loose=Candidates.by(stated.request, every[~paired], item.request, item.pair >= 0),
        whole=Candidates.by(stated.request, every, item.request, asking),
        observed=observed,
        end_required=policy.time_bound_required,
    )


def _place(frame: pd.DataFrame) -> tuple[Ints, Ints]:
    return frame["sequence"].to_numpy(), frame["row"].to_numpy()


def _authority(held: pd.Series[Any], left: Bools, accepted: tuple[str, ...]) -> npt.NDArray[np.int8]:
    """approver_authorised of each approval."""
    found = np.full(len(held), NA, dtype=np.int8)
    if accepted:
        found[:] = np.where(held.isna().to_numpy(), NT, np.where(held.isin(accepted).to_numpy(), PASS, FAIL))
    found[left] = FAIL
    return found


def _removed(kept: pd.DataFrame, pair: Ints, revokes: pd.DataFrame, revoked: Ints) -> Ints:
    """The time of the first revoke of each item's pair after the grant, in the order of the trail; else NEVER."""
    place = ["row", "sequence", "occurred_at"]
    trail = pd.concat([kept[place], revokes[place]])
    rank = inverse(np.lexsort(trail.astype("int64").to_numpy().T))
    following = asof(revoked, -rank[len(kept) :], pair, -rank[: len(kept)])
    return pick(micros(revokes["occurred_at"]), following, NEVER)


def _standing(entitlements: pd.Series[Any], globs: tuple[str, ...]) -> Bools:
    """Which entitlements the policy approves in advance."""
    code, names = pd.factorize(entitlements)
    known = pd.Series(names, dtype=object)
    hit = np.zeros(len(known) + 1, dtype=bool)
    for glob in globs:
        hit[:-1] |= known.str.fullmatch(translate(glob)).to_numpy(dtype=bool)
    found: Bools = hit[code]
    return found
