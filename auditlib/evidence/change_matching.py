"""Releases beside the approvals of their changes: frames in, frames out.

The rules:

1. A release that names no change fails `approval_exists`: nothing links it to an approval, and whoever releases could
   otherwise leave every test out by leaving the change out.
2. The latest refusal (denied, withdrawn) at or before the release voids the approvals before it. A refused release is
   not made good by an approval after it.
3. Of the approvals left the best one counts: the fewest failures, then the failure that comes last in ATTRIBUTES, then
   the fewest not-testable, then one of the trail before one of a list from outside, then the latest at or before the
   release, else the earliest after it.
4. The approver must not be an author: the one whom the release states, or any decision on its change. Accounts are
   compared as persons where the frames name these.
5. An emergency may be approved within the agreed hours after it; until they are over, it is not testable.
6. A bypass of the same change counts whenever it happened, one of the same target where it happened at most the agreed
   hours before the release, whatever change it names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from auditlib.evidence.examined import FAIL, NOT_APPLICABLE, NOT_TESTABLE, PASS, judge, with_further
from auditlib.formats.times import to_datetime

ATTRIBUTES = {
    "approval_exists": "the release names its change, and an approval of that change stood when it was released",
    "approved_before_release": "the approval came before the release, that of an emergency within the agreed hours",
    "author_is_not_approver": "whoever approved the change is not its author",
    "approver_authorised": "the approver, or the authority by which it was approved, is among those named; n/a where "
    "none is named",
    "no_protection_bypass": "no protection was bypassed for the change, nor for the same target shortly before",
}
MAX_PAIRS = 5_000_000  # releases times approvals that are compared, about 2 GB; larger changes are not testable
UNSEALED, SEALED = "unsealed evidence", "sealed"

_EXISTS, _BEFORE, _AUTHOR, _AUTHORISED, _BYPASS = ATTRIBUTES
_ORDER = ["occurred_at", "sequence", "row"]
_SERVED = {
    "approval": "approval",
    "actor_id": "approver",
    "occurred_at": "approved_at",
    "authority": "authority",
    "author": "author_stated",
    "unsealed": "unsealed",
    "by_person": "by_person",
    _BEFORE: _BEFORE,
    _AUTHOR: _AUTHOR,
    _AUTHORISED: _AUTHORISED,
}


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What the company says of approvals of changes; spans in microseconds, `observed_until` since 1970 UTC."""

    emergency: int | None  # after an emergency; None: no such policy
    bypass: int
    approvers: tuple[str, ...]
    authorities: tuple[str, ...]
    observed_until: int


def judge_releases(releases: pd.DataFrame, given: pd.DataFrame, bypasses: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """The releases with the approval that serves each, the bypass that counts against it, attributes and verdict.

    All three have `change`, `occurred_at`, `sequence`, `row`; releases and bypasses `target`; releases and decisions
    `author`, `author_person`, `actor_id`, `actor_person`; decisions `decision`, `authority`, `approval`, `unsealed`
    and `order`, in which they are sorted.
    """
    items = releases.drop(columns=["authority"]).reset_index(drop=True)
    best, crowded, refused = _best(items, given, policy)
    items = items.join(best)
    items["author"] = items["author"].fillna(items["author_stated"])
    none = items["approval"].isna()
    items["evidence"] = np.select([none, _true(items["unsealed"])], ["", UNSEALED], SEALED)
    pending = _pending(items, policy) & none & ~refused & items["change"].notna()
    items[_EXISTS] = np.select([crowded | pending, none], [NOT_TESTABLE, FAIL], PASS)
    for name in (_BEFORE, _AUTHOR, _AUTHORISED):
        items[name] = items[name].astype(object).where(~none, NOT_APPLICABLE)
    items = _bypassed(items, bypasses, policy)
    reasons = _reasons(items, policy, crowded=crowded, pending=pending, refused=refused & none)
    judged = with_further(judge(items, ATTRIBUTES, reasons), ATTRIBUTES, reasons)
    passed = judged["verdict"] == PASS
    return judged.assign(by_person=_true(judged["by_person"]), reason=judged["reason"].where(~passed, _praise(judged)))


def nearest(rows: pd.DataFrame, others: pd.DataFrame, direction: Any, reach: int) -> pd.Series[Any]:
    """For each row the event id of the nearest of the others of the same target, at most `reach` microseconds away."""
    left = rows[["target", "occurred_at"]].rename_axis("n").reset_index().sort_values("occurred_at", kind="stable")
    right = others.sort_values(_ORDER, kind="stable")[["target", "occurred_at", "event_id"]]
    found = pd.merge_asof(
        left, right, on="occurred_at", by="target", direction=direction, tolerance=pd.Timedelta(reach, "us")
    )
    return found.set_index("n")["event_id"].reindex(rows.index)


def first_of_change(rows: pd.DataFrame, changes: pd.Series[Any]) -> pd.Series[Any]:
    """For each of the changes the event id of its first row."""
    ordered = rows.dropna(subset=["change"]).sort_values(_ORDER, kind="stable").drop_duplicates("change")
    found: pd.Series[Any] = changes.map(ordered.set_index("change")["event_id"]).astype("str")
    return found


def _best(
    items: pd.DataFrame, given: pd.DataFrame, policy: Policy
) -> tuple[pd.DataFrame, pd.Series[bool], pd.Series[bool]]:
    """By item: the approval that serves it best, with its attributes; what was not compared; what was refused."""
    wanted = items.loc[items["change"].notna(), ["change", "occurred_at", "emergency"]]
    wanted = wanted.set_axis(["change", "released_at", "urgent"], axis=1).rename_axis("n").reset_index()
    pairs = wanted["change"].map(given["change"].value_counts()).fillna(0).astype("int64")
    by_change = pairs.groupby(wanted["change"]).sum().sort_values(kind="stable")  # equal ones by the change's name
    too_many = by_change.index[by_change.cumsum() > MAX_PAIRS]
    both = wanted[~wanted["change"].isin(too_many)].merge(given, on="change")
    early = both["occurred_at"] <= both["released_at"]
    refusals = both[early & (both["decision"] != "approved")].groupby("n")["order"].max()
    stands = both["order"] > both["n"].map(refusals).fillna(-1)
    both = both[(both["decision"] == "approved") & stands & (early | ~both["n"].isin(refusals.index))]
    both = _compared(both, _authors(items, given), policy)
    failed = [both[name] == FAIL for name in (_BEFORE, _AUTHOR, _AUTHORISED)]
    both = both.assign(
        failures=np.sum(failed, axis=0, dtype=int),
        worst=np.select(failed, [3, 2, 1], 0),
        unsure=np.sum([both[name] == NOT_TESTABLE for name in (_AUTHOR, _AUTHORISED)], axis=0, dtype=int),
        late=both["occurred_at"] > both["released_at"],
        away=(both["occurred_at"] - both["released_at"]).abs(),
    )
    both = both.sort_values(["n", "failures", "worst", "unsure", "unsealed", "late", "away", "order"], kind="stable")
    best = both.drop_duplicates("n").set_index("n")[list(_SERVED)].rename(columns=_SERVED)
    refused = pd.Series(items.index.isin(refusals.index), items.index)
    return best, items["change"].isin(too_many), refused


def _compared(both: pd.DataFrame, authors: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """Each release beside an approval of its change, with the attributes that only both together have."""
    after = both["occurred_at"] - both["released_at"]
    late = after > pd.Timedelta(0)
    if policy.emergency is not None:
        late &= ~both["urgent"] | (after > pd.Timedelta(policy.emergency, "us"))
    by_person = _among(both[["change", "actor_person"]], authors[["change", "author_person"]])
    by_account = _among(both[["change", "actor_id"]], authors[["change", "author"]])
    may = both["actor_id"].isin(policy.approvers) | both["authority"].isin(policy.authorities)
    unsaid = both["authority"].isna() & bool(policy.authorities)
    tested = bool(policy.approvers or policy.authorities)
    return both.assign(
        by_person=by_person & ~by_account,
        **{
            _BEFORE: np.where(late, FAIL, PASS),
            _AUTHOR: np.select([by_person, ~both["change"].isin(authors["change"])], [FAIL, NOT_TESTABLE], PASS),
            _AUTHORISED: np.select([may, unsaid], [PASS, NOT_TESTABLE], FAIL) if tested else NOT_APPLICABLE,
        },
    )


def _authors(items: pd.DataFrame, given: pd.DataFrame) -> pd.DataFrame:
    """Everybody whom a release or a decision states as the author of a change."""
    columns = ["change", "author", "author_person"]
    return pd.concat([items[columns], given[columns]]).dropna().drop_duplicates(ignore_index=True)


def _pending(items: pd.DataFrame, policy: Policy) -> pd.Series[bool]:
    """The emergencies that may still be approved when the trail ends."""
    if policy.emergency is None:
        return pd.Series(data=False, index=items.index)
    last = to_datetime(policy.observed_until)
    found: pd.Series[bool] = items["emergency"] & (last - items["occurred_at"] < pd.Timedelta(policy.emergency, "us"))
    return found


def _bypassed(items: pd.DataFrame, bypasses: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """The items with `bypass`, the event that counts against each: the first of its change, else of its target."""
    own = first_of_change(bypasses, items["change"])
    bypass = own.fillna(nearest(items, bypasses, "backward", policy.bypass))
    return items.assign(bypass=bypass, bypass_of_change=own.notna(), **{_BYPASS: np.where(bypass.isna(), PASS, FAIL)})


def _reasons(
    items: pd.DataFrame,
    policy: Policy,
    *,
    crowded: pd.Series[bool],
    pending: pd.Series[bool],
    refused: pd.Series[bool],
) -> pd.DataFrame:
    """Why each attribute is not met, in one sentence."""
    agreed = items["emergency"] & (policy.emergency is not None)
    bypass = items["bypass"].fillna("")
    said: dict[str, list[tuple[Any, Any]]] = {
        _EXISTS: [
            (items["change"].isna(), "The release names no change: no approval can be linked to it."),
            (crowded, "Too many releases and decisions name this change: they were not compared."),
            (pending, "No approval is recorded; the hours in which an emergency may be approved were not over."),
            (refused, "The change was denied, or its approval withdrawn, by the time of the release."),
            (agreed, "No approval of the change is recorded, not even after the emergency."),
            (True, "No approval of the change is recorded."),
        ],
        _BEFORE: [
            (agreed, "The approval came after the emergency, later than the agreed hours."),
            (True, "The approval came after the release."),
        ],
        _AUTHOR: [
            (items[_AUTHOR] == NOT_TESTABLE, "Who wrote the change is not recorded."),
            (_true(items["by_person"]), "The approver is the author, by the attached identities (unsealed evidence)."),
            (True, "The approver is the author of the change."),
        ],
        _AUTHORISED: [
            (items[_AUTHORISED] == NOT_TESTABLE, "By which authority it was approved is not recorded."),
            (True, "The approver is none of those who may approve."),
        ],
        _BYPASS: [
            (items["bypass_of_change"], "A protection was bypassed for this change: " + bypass + "."),
            (True, "A protection of this target was bypassed shortly before: " + bypass + "."),
        ],
    }
    return pd.DataFrame({name: _first(cases, items.index) for name, cases in said.items()}, items.index)


def _praise(items: pd.DataFrame) -> pd.Series[Any]:
    """What is worth saying of an item that passed."""
    late, unsealed = items["approved_at"] > items["occurred_at"], items["evidence"] == UNSEALED
    return _first(
        [
            (late & unsealed, "Approved (unsealed evidence) after the emergency, within the agreed hours."),
            (late, "Approved after the emergency, within the agreed hours."),
            (unsealed, "Approved (unsealed evidence)."),
        ],
        items.index,
    )


def _first(cases: Sequence[tuple[Any, Any]], index: pd.Index[Any]) -> pd.Series[Any]:
    """Of each row the first text whose condition holds, else an empty one."""
    said = pd.Series("", index, dtype=object)
    for holds, text in reversed(cases):
        said = said.mask(pd.Series(holds, index), text)
    return said


def _among(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series[bool]:
    """Which rows stand among the others."""
    there = set(others.itertuples(index=False, name=None))
    return pd.Series([key in there for key in rows.itertuples(index=False, name=None)], rows.index, dtype=bool)


def _true(flags: pd.Series[Any]) -> pd.Series[bool]:
    """Flags of which some are missing, which are none."""
    return flags.astype("boolean").fillna(value=False).astype(bool)
