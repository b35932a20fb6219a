"""The approvers, from what is unusual of their approvals: counts, attributes, verdicts, reasons."""

from __future__ import annotations

import numpy as np
import pandas as pd

from auditlib.evidence.answer import many
from auditlib.evidence.conduct_flags import FLAGS, Flagged, Rules
from auditlib.evidence.examined import FAIL, NOT_APPLICABLE, NOT_TESTABLE, PASS, PLACE, empty_items, judge, with_further
from auditlib.evidence.rings import Ring, edges_of
from auditlib.findings import duration
from auditlib.formats.times import SECOND

ATTRIBUTES = {  # in the order of FLAGS
    "no_self_dealing": "nobody approves what they asked for, or access of their own",
    "no_ring": "no two approve for each other again and again, nor do several in a ring",
    "no_rubber_stamping": "no long run of approvals follows so fast that little can have been read",
    "within_authority": "every approval was given by one of the authorities that are named, and by nobody who had left",
}
UNSEALED, SEALED = "unsealed evidence", "sealed"
MAX_NAMED = 3  # approvals that a reason names one by one
WHO = ["actor_type", "actor_id", "action"]

_COUNTED = ["approvals", "denials", "median_seconds", *FLAGS, "longest_run"]
_ITEM = ["item", *PLACE, *WHO, "accounts", *_COUNTED, "evidence", *ATTRIBUTES, "verdict", "reason"]
_ORDER = ["occurred_at", "sequence", "row"]


def judge_approvers(
    decisions: pd.DataFrame, found: Flagged, by_account: Flagged, rules: Rules, *, moved: bool
) -> pd.DataFrame:
    """The approvers with their verdicts, in the order of their first approval."""
    approved = decisions[decisions["decision"] == "approved"].sort_values(_ORDER, kind="stable")
    if approved.empty:
        return empty_items(*_ITEM[len(PLACE) + 1 :])[_ITEM]
    approved = approved.assign(unsaid=approved["authority"].isna() & bool(rules.authorities))
    by = approved.groupby("person", sort=False)
    accounts = approved.drop_duplicates(["person", "actor_id"]).sort_values("actor_id", kind="stable")
    items = approved.drop_duplicates("person").set_index("person")[[*PLACE, *WHO]]
    items = items.assign(
        accounts=accounts.groupby("person")["actor_id"].agg(", ".join),
        approvals=by.size(),
        denials=decisions.loc[decisions["decision"] == "denied", "person"].value_counts(),
        median_seconds=by["seconds_from_request"].median(),
        longest_run=by["run_length"].max(),
        **{name: by[name].sum() for name in FLAGS},
    )
    items["denials"] = items["denials"].fillna(0).astype("int64")
    open_questions = {"no_self_dealing": "untold", "no_ring": "untold", "within_authority": "unsaid"}
    unclear = {name: by[column].any() for name, column in open_questions.items()}
    for name, flagged in zip(ATTRIBUTES, FLAGS, strict=True):
        items[name] = np.select([items[flagged] > 0, unclear.get(name, False)], [FAIL, NOT_TESTABLE], PASS)
    if not rules.authorities and not moved:
        items["within_authority"] = NOT_APPLICABLE
    sealed = by_account.flags[list(FLAGS)].groupby(approved["person"]).any().set_axis(list(ATTRIBUTES), axis=1)
    sealed = sealed.reindex(items.index) | (items[list(ATTRIBUTES)] != FAIL)
    results = items[list(ATTRIBUTES)].to_dict("index")
    told = [
        [_reason(str(name), str(result), own, str(person), found, rules) for name, result in results[person].items()]
        for person, own in by
    ]
    reasons = pd.DataFrame(told, items.index, list(ATTRIBUTES))
    reasons = reasons.where(sealed, reasons + " By the attached identities (unsealed evidence).")
    judged = with_further(judge(items, ATTRIBUTES, reasons), ATTRIBUTES, reasons)
    rests = [name in ATTRIBUTES and not sealed.at[str(one), name] for one, name in judged["verdict"].items()]
    judged["evidence"] = np.where(rests, UNSEALED, SEALED)
    return judged.rename_axis("item").reset_index()[_ITEM]


def _reason(attribute: str, result: str, own: pd.DataFrame, person: str, found: Flagged, rules: Rules) -> str:
    """Why an approver does not meet an attribute; empty where they do."""
    if result not in (FAIL, NOT_TESTABLE):
        return ""
    if result == NOT_TESTABLE and attribute == "within_authority":
        return f"{many(int(own['unsaid'].sum()), 'approval')} without the authority by which it was given."
    if result == NOT_TESTABLE:
        return f"{many(int(own['untold'].sum()), 'approval')} without who asked for it, or without whose access it is."
    if attribute == "no_self_dealing":
        return f"{_several(own[own['self_dealing']])} of an own request, or of own access."
    if attribute == "no_ring":
        return _ring(person, found, rules)
    return _run(own) if attribute == "no_rubber_stamping" else _outside(own)


def _several(rows: pd.DataFrame) -> str:
    """`2 approvals (01JH..., 01JK...)`."""
    ids = rows["event_id"].tolist()
    more = ", ..." if len(ids) > MAX_NAMED else ""
    return f"{many(len(ids), 'approval')} ({', '.join(ids[:MAX_NAMED])}{more})"


def _ring(person: str, found: Flagged, rules: Rules) -> str:
    """The shortest ring that the approver is on."""
    rings = [ring for ring in found.rings if person in ring]
    ring = rings[0][rings[0].index(person) :] + rings[0][: rings[0].index(person)]
    more = f" On {len(rings) - 1:,} more." if len(rings) > 1 else ""
    if len(ring) == 2:
        given, taken = (found.times[edge] for edge in edges_of(ring))
        return f"Approved {times(given)} for {ring[1]}, who approved {times(taken)} for {ring[0]}.{more}"
    return f"On the ring {arrows(ring)}, each step at least {times(rules.ring_times)}.{more}"


def _run(own: pd.DataFrame) -> str:
    """The longest run, the first of several."""
    run = own[own["run"] == own.sort_values("run_length", kind="stable", ascending=False)["run"].iloc[0]]
    first, last = run["occurred_at"].min(), run["occurred_at"].max()
    span = duration(round((last - first).total_seconds() * SECOND))
    return f"{many(len(run), 'approval')} in a run that took {span}, from {first:%Y-%m-%d %H:%M:%S} UTC."


def _outside(own: pd.DataFrame) -> str:
    """Approvals after leaving, and by an authority that is not named."""
    left, unfit = own[own["after_leaving"]], own[own["outside_authority"] & ~own["after_leaving"]]
    told = [f"{_several(left)} after leaving."] if len(left) else []
    if len(unfit):
        told.append(
            f"{_several(unfit)} by an authority that is not named: {', '.join(sorted(set(unfit['authority'])))}."
        )
    return " ".join(told)


def arrows(ring: Ring) -> str:
    """`A → B → A`."""
    return " → ".join([*ring, ring[0]])


def times(number: int) -> str:
    """`once`, `twice`, `3 times`."""
    return "once" if number == 1 else "twice" if number == 2 else f"{number:,} times"
