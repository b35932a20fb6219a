"""One joiner or mover judged: what was granted, on whose word, and whether anything came before the first day."""

from __future__ import annotations

import pandas as pd

from auditlib.evidence.answer import listed, many
from auditlib.evidence.examined import FAIL, NOT_APPLICABLE, NOT_TESTABLE, PASS
from auditlib.evidence.starters import MOVER, Starter
from auditlib.findings import duration
from auditlib.formats.times import format_time, from_datetime, to_datetime

ATTRIBUTES = {
    "approval_exists": "an approval answers each grant and stands",
    "approved_before_access": "each approval was given at or before the grant, or in time after an emergency",
    "not_before_first_day": "nothing was granted, and no account used, before the first day",
    "approval_covers_access": "each approval names this person and this access, holds at the grant and was not used up",
    "independent_approver": "no approver is the subject, the requester or the granter",
    "approver_authorised": "each approver held an authority that the policy names, and had not left",
}
_RESTS_ON = {  # attribute -> the outcomes of each grant's approval that decide it
    "approval_exists": ("approval_exists",),
    "approved_before_access": ("approved_before_grant",),
    "approval_covers_access": ("same_subject", "same_entitlement", "within_validity", "within_uses"),
    "independent_approver": ("independent_approver",),
    "approver_authorised": ("approver_authorised",),
}
_SAID = {  # attribute -> the sentence of a fail and of a not-testable, before the entitlements
    "approval_exists": ("No approval stands for", "No approval can be linked to"),
    "approved_before_access": ("Approved only after it was granted", "When it was approved cannot be told"),
    "approval_covers_access": ("The approval names another person or access, or did not hold, for",
                               "Whether the approval names this person and access cannot be told for"),
    "independent_approver": ("Approved by the subject, the requester or the granter", "Who asked is not recorded for"),
    "approver_authorised": ("Approved by somebody who may not", "By which authority is not recorded for"),
}  # fmt: skip
_UNKNOWN = "No account of this person is known, so that nothing can be looked up; a list of identities would say."
_MAX_NAMED = 5  # entitlements that one sentence names

Outcome = tuple[str, str]  # of an attribute, and the sentence for a fail or a not-testable


def results(one: Starter, granted: pd.DataFrame, used: pd.DataFrame) -> dict[str, Outcome]:
    """Each attribute's outcome; `granted`: see `starting`, `used`: the counts of use before the first day."""
    if not one.accounts:
        return dict.fromkeys(ATTRIBUTES, (NOT_TESTABLE, _UNKNOWN if one.event is None else "The event names nobody."))
    results = {name: _worst(name, granted) for name in ATTRIBUTES if name in _RESTS_ON}
    results["not_before_first_day"] = _early(one, granted, used)
    return {name: results[name] for name in ATTRIBUTES}


def _worst(attribute: str, granted: pd.DataFrame) -> Outcome:
    """The worst outcome over all grants, and which of them have it."""
    outcomes = granted[list(_RESTS_ON[attribute])]
    for result, said in zip((FAIL, NOT_TESTABLE), _SAID[attribute], strict=True):
        here = (outcomes == result).any(axis=1)
        if here.any():
            return result, f"{said}: {_names(granted[here])}."
    return (PASS if (outcomes == PASS).any(axis=None) else NOT_APPLICABLE), ""


def _early(one: Starter, granted: pd.DataFrame, used: pd.DataFrame) -> Outcome:
    if one.kind == MOVER:
        return NOT_APPLICABLE, ""
    told = []
    before = granted[granted["occurred_at"] < to_datetime(one.first_day)]
    if len(before):
        ahead = duration(one.first_day - from_datetime(before["occurred_at"].min()))
        told.append(f"Granted up to {ahead} before the first day: {_names(before)}.")
    if len(used):
        events, first = many(int(used["events"].sum()), "event"), format_time(from_datetime(used["first_at"].min()))
        told.append(f"{events} of the account before the first day, the first at {first}.")
    return (FAIL, " ".join(told)) if told else (PASS, "")


def _names(granted: pd.DataFrame) -> str:
    names = sorted(set(granted["entitlement"].fillna("an entitlement that is not stated")))
    more = [f"{len(names) - _MAX_NAMED:,} more"] if len(names) > _MAX_NAMED else []
    return listed([*names[:_MAX_NAMED], *more])
