"""Why: the one sentence that tells an item's verdict."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pandas.api.extensions import ExtensionArray

from auditlib.approvals.codes import ALWAYS, NA, NEVER, NT, Bools, Ints, pick, texts
from auditlib.approvals.keys import NOTHING
from auditlib.approvals.pool import Pool
from auditlib.approvals.verdicts import ATTRIBUTES


def reasons(
    pool: Pool, outcomes: npt.NDArray[np.int8], verdict: Ints, approval: Ints, keys: Ints, crowded: Bools
) -> ExtensionArray:
    """The sentence of each item, empty where a plain pass needs none.

    `outcomes`: a row an item, a column an attribute. `verdict`: 0 pass, n the n-th attribute failed, then
    not-testable. `approval`: the chosen one, -1 for none.
    """
    items, given = pool.items, pool.approvals
    unclear = np.where(verdict > len(ATTRIBUTES), (outcomes == NT).argmax(axis=1), -1)
    fails = {name: verdict == number for number, name in enumerate(ATTRIBUTES, start=1)}
    opens = {name: unclear == number for number, name in enumerate(ATTRIBUTES)}
    removed = outcomes[:, list(ATTRIBUTES).index("removed_in_time")]
    passed = verdict == 0
    approver = pick(given.approver, approval, -2)
    end = np.minimum(items.until, pick(given.until, approval, NEVER))
    why = [  # the first that holds
        (fails["approval_exists"] & (keys == NOTHING), "No approval answers the grant."),
        (fails["approval_exists"], "It was denied or withdrawn by the time of the grant."),
        (
            opens["approval_exists"] & crowded,
            "Too many grants and approvals share one request or one subject and entitlement: they were not compared.",
        ),
        (
            opens["approval_exists"],
            "The grant names no request and not both subject and entitlement: no approval can be linked.",
        ),
        (
            fails["approved_before_grant"] & (items.latest > items.time),
            "The approval came after the emergency grant, later than the policy allows.",
        ),
        (fails["approved_before_grant"], "The approval came after the grant."),
        (fails["same_subject"], "The approval names another subject."),
        (opens["same_subject"] & (items.subject < 0), "The grant does not say who got the access."),
        (opens["same_subject"], "The approval does not say whose access it approves."),
        (fails["same_entitlement"], "The approval names another entitlement."),
        (opens["same_entitlement"] & (items.entitlement < 0), "The grant does not say which access was granted."),
        (opens["same_entitlement"], "The approval does not say which access it approves."),
        (fails["independent_approver"] & (approver == items.person), "The approver is the subject."),
        (fails["independent_approver"] & (approver == items.granter), "The approver is the granter."),
        (fails["independent_approver"], "The approver is the requester."),
        (opens["independent_approver"], "Who asked for the access is not recorded."),
        (
            fails["approver_authorised"] & (pick(given.left, approval, 0) > 0),
            "The approver had left before approving.",
        ),
        (fails["approver_authorised"], "The approver's authority is none of those that the policy names."),
        (opens["approver_authorised"], "By which authority it was approved is not recorded."),
        (
            fails["within_validity"] & (items.time < pick(given.since, approval, ALWAYS)),
            "The grant lies before the time for which the approval holds.",
        ),
        (
            fails["within_validity"] & (items.time > pick(given.last, approval, NEVER)),
            "The approval was older than the policy allows.",
        ),
        (fails["within_validity"], "The grant lies after the time for which the approval holds."),
        (fails["within_uses"], "The approval was used up by earlier grants."),
        (opens["within_uses"], "Without subject and entitlement the uses cannot be counted."),
        (fails["removed_in_time"] & (end == NEVER), "The policy requires an end and none was set."),
        (fails["removed_in_time"], "The access was not revoked by its end."),
        (opens["removed_in_time"], "Without subject and entitlement no revoke can be found."),
        (passed & items.standing, "Approved in advance by standing policy."),
        (
            passed & (pick(given.time, approval, ALWAYS) > items.time),
            "Approved after the grant, within the time that the emergency policy allows.",
        ),
        (
            passed & (end != NEVER) & (removed == NA),
            "Its end lies past what was observed: the removal is not yet due.",
        ),
    ]
    holds, sentences = zip(*why, strict=True)
    return texts(["", *sentences], np.select(holds, range(1, len(why) + 1), 0))
