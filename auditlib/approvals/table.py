"""The chosen approvals as a table: nine outcomes, a verdict and a reason beside every item."""

from __future__ import annotations

import numpy as np
import pandas as pd

from auditlib.approvals.codes import FAIL, NA, NT, PASS, Bools, Ints, pick, texts
from auditlib.approvals.frames import Frames
from auditlib.approvals.keys import approval_of, field, removal
from auditlib.approvals.pool import Pool
from auditlib.approvals.reasons import reasons
from auditlib.approvals.verdicts import ATTRIBUTES, NOT_TESTABLE, STANDING


def table(frames: Frames, pool: Pool, keys: Ints, crowded: Bools) -> pd.DataFrame:
    """One row per grant item, in trail order, with the columns that `Verdicts` tells."""
    standing = pool.items.standing
    linked = (pool.items.request >= 0) | (pool.items.pair >= 0)
    chosen = (field(keys, "void") == 0) & ~crowded & ~standing
    outcomes = np.full((len(keys), len(ATTRIBUTES)), NA, dtype=np.int8)
    for column, name in enumerate(ATTRIBUTES):
        if name == "approval_exists":
            outcomes[:, column] = np.where(chosen | standing, PASS, np.where(crowded | ~linked, NT, FAIL))
        else:
            outcomes[chosen, column] = field(keys[chosen], name)
    alone = np.flatnonzero(standing)  # no approval: the grant's own end is what counts
    outcomes[alone, list(ATTRIBUTES).index("removed_in_time")] = removal(pool, alone, pool.items.until[alone])
    approval = np.where(chosen, approval_of(pool, keys), -1)
    failed, unclear = outcomes == FAIL, (outcomes == NT).any(axis=1)
    verdict = np.where(failed.any(axis=1), failed.argmax(axis=1) + 1, unclear * (len(ATTRIBUTES) + 1))
    reason = reasons(pool, outcomes, verdict, approval, keys, crowded)

    grants = frames.grants
    order = np.lexsort([grants[name].to_numpy() for name in ("number", "row", "sequence")])
    item = pool.twin[order]
    told = grants.iloc[order][["item", "occurred_at", "action", "actor_id", "grantee", "entitlement", "request"]]
    told = told.reset_index(drop=True)
    given = frames.decisions[["event_id", "actor_id", "occurred_at"]]
    given = given.reindex(pick(pool.approvals.decision, approval[item], -1)).reset_index(drop=True)
    told["approval"] = given["event_id"].mask(pd.Series(standing[item]), STANDING)
    told["approver"], told["approved_at"] = given["actor_id"], given["occurred_at"]
    for column, name in enumerate(ATTRIBUTES):
        told[name] = texts(("pass", "n/a", NOT_TESTABLE, "fail"), outcomes[item, column])  # of PASS, NA, NT, FAIL
    told["verdict"] = texts(("pass", *ATTRIBUTES, NOT_TESTABLE), verdict[item])
    told["reason"] = reason.take(item)
    return told
