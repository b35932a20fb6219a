"""What grants and decisions state, and which grant a denial or withdrawal refuses (rule 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditlib.approvals.codes import Bools, Ints, asof, dense, pick


@dataclass(frozen=True)
class Stated:
    """What each grant or decision states, as numbers; -1 where it states nothing."""

    time: Ints
    request: Ints
    subject: Ints
    entitlement: Ints
    pair: Ints  # subject and entitlement, where both are stated

    def at(self, rows: Ints) -> Stated:
        """These rows of them."""
        return Stated(self.time[rows], self.request[rows], self.subject[rows], self.entitlement[rows], self.pair[rows])


def refusals(items: Stated, decisions: Stated, refusing: Ints, approving: Ints) -> tuple[Ints, Bools]:
    """For each item the latest refusal at or before it, else -1; and whether no approval came between.

    `decisions` are in time order; `refusing` and `approving` are rows of them.
    """
    last = _latest(items, decisions, refusing, loose_pairs=True)
    refused = last >= 0
    touched = np.flatnonzero(refused)
    refused[touched] = _latest(items.at(touched), decisions, approving, loose_pairs=False) < last[touched]
    return last, refused


def _latest(items: Stated, decisions: Stated, which: Ints, *, loose_pairs: bool) -> Ints:
    """The latest of the decisions `which` that answers each item by the item's time, else -1."""
    bound = np.searchsorted(decisions.time, items.time, side="right") - 1
    found = np.full(len(bound), -1)

    def look(row_code: Ints, rows: Ints, code: Ints, who: Ints) -> None:
        best = asof(row_code, rows, code, bound[who])
        found[who] = np.maximum(found[who], pick(rows, best, -1))

    named = which[decisions.request[which] >= 0]
    stated = decisions.at(named)
    who = np.flatnonzero((items.request >= 0) & np.isin(items.request, stated.request))
    nothing = np.full(len(who), -1)
    for subject in (items.subject[who], nothing):
        for entitlement in (items.entitlement[who], nothing):
            row_code, code = dense(
                (stated.request, stated.subject, stated.entitlement),
                (items.request[who], subject, entitlement),
            )
            look(row_code, named, code, who)
    paired = which[decisions.pair[which] >= 0]
    who = np.flatnonzero((items.request < 0) & (items.pair >= 0))
    look(decisions.pair[paired], paired, items.pair[who], who)
    if loose_pairs:  # a refusal that names no request answers the pair it states, whatever request a grant names
        paired = paired[decisions.request[paired] < 0]
        who = np.flatnonzero((items.request >= 0) & (items.pair >= 0))
        look(decisions.pair[paired], paired, items.pair[who], who)
    return found
