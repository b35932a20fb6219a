"""Item against approval: one number a pair, of which the least is the best (rules 3 to 7)."""

from __future__ import annotations

import numpy as np

from auditlib.approvals.codes import FAIL, NA, NEVER, NT, PASS, Ints
from auditlib.approvals.pool import UNLIMITED, Pool

NOTHING = np.iinfo(np.int64).max  # no candidate; every bit is set, so it is void and for others too

# Lowest bit and number of bits, from what decides last to what decides first.
_FIELDS = {
    "removed_in_time": (0, 2),  # decides nothing: no two orders are equal
    "order": (2, 32),
    "within_uses": (34, 2),
    "within_validity": (36, 2),
    "approver_authorised": (38, 2),
    "independent_approver": (40, 2),
    "approved_before_grant": (42, 2),
    "not_testable": (44, 3),  # how many
    "failures": (47, 3),
    "same_entitlement": (50, 2),
    "same_subject": (52, 2),
    "void": (54, 1),
    "others": (55, 1),  # names another subject or entitlement
}
_SIX = np.arange(1 << 12)  # every outcome of before, approver, authority, validity, uses, removed
_TALLY = sum(  # their failures and not-testable
    ((_SIX >> shift & 3) == FAIL).astype(np.int64) * 8 + ((_SIX >> shift & 3) == NT) for shift in range(0, 12, 2)
)


def field(keys: Ints, name: str) -> Ints:
    """One field of each key; an attribute's is its outcome."""
    lowest, bits = _FIELDS[name]
    value: Ints = keys >> lowest & ((1 << bits) - 1)
    return value


def judge(pool: Pool, i: Ints, a: Ints, left: Ints) -> Ints:
    """Item i against approval a, with `left` uses of each approval left -> the key of each pair."""
    items, approvals = pool.items, pool.approvals
    time, given = items.time[i], approvals.time[a]
    before = given <= time
    late = given > items.latest[i]
    subject = _compare(items.subject[i], approvals.subject[a])
    entitlement = _compare(items.entitlement[i], approvals.entitlement[a])
    others = (subject == FAIL) | (entitlement == FAIL)
    void = np.where(before, approvals.decision[a] < items.refused_at[i], items.refused[i])
    approver, person, granter = approvals.approver[a], items.person[i], items.granter[i]
    own = approvals.asked[a] | (approver == person) | (approver == granter)
    unknown = (approver < 0) | (person < 0) | (granter < 0) | ~approvals.asker_known[a]
    independent = np.where(own, FAIL, np.where(unknown, NT, PASS))
    outside = (time < approvals.since[a]) | (time >= approvals.until[a]) | (time > approvals.last[a])
    spent = np.where(left[a] > 0, PASS, FAIL)
    spent[(items.pair[i] < 0) & (left[a] < UNLIMITED)] = NT
    spent[others | late | outside] = NA
    removed = removal(pool, i, np.minimum(items.until[i], approvals.until[a]))
    six = late * (FAIL << 10) | independent << 8 | approvals.authority[a].astype(np.int64) << 6
    six |= outside * (FAIL << 4) | spent << 2 | removed
    order = np.where(before, approvals.rank[a], len(approvals.time) + a)
    key = others.astype(np.int64) << 1 | void
    key = (key << 2 | subject) << 2 | entitlement
    key = (key << 6 | _TALLY[six]) << 10 | six >> 2
    result: Ints = (key << 32 | order) << 2 | six & 3
    return result


def removal(pool: Pool, i: Ints, end: Ints) -> Ints:
    """removed_in_time of item i, whose access should have ended at `end`."""
    found = np.where(pool.items.pair[i] < 0, NT, FAIL)
    found[end > pool.observed] = NA  # not yet due, unless it was removed already
    found[pool.items.removed[i] <= end] = PASS
    found[end == NEVER] = FAIL if pool.end_required else NA
    return found


def approval_of(pool: Pool, keys: Ints) -> Ints:
    """The approval behind each key, -1 where there is none."""
    by_order = pool.approvals.by_order
    return by_order[np.minimum(field(keys, "order"), len(by_order) - 1)]


def uses_up(keys: Ints) -> Ints:
    """Where the item of the key takes a use of its approval (rule 5)."""
    return np.flatnonzero((field(keys, "within_uses") == PASS) & (field(keys, "void") == 0))


def _compare(mine: Ints, theirs: Ints) -> Ints:
    return np.where((mine < 0) | (theirs < 0), NT, np.where(mine == theirs, PASS, FAIL))
