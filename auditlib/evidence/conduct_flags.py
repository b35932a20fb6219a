"""What of an approval is unusual: frames in, flags out.

approvals   a row an approval: `person` who approved, `request`, `authority`, occurred_at, sequence, row
parties     `n` (an approval's label), `person` who asked for it or whose access it is

The rules:

1. Self-dealing: who approves is among the parties, or filed the request.
2. A ring: who approves did so at least `ring_times` times for somebody who did so for them, directly or over others, at
   most `ring_size` members in all; every step of it at least `ring_times` times.
3. Rubber-stamping: at least `stamp_run` approvals of one person, each at most `stamp` after the one before.
4. Authority: the one by which it was approved is among `authorities`, and who approved had not left: no leaving before
   the approval without a joining since.
"""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pandas as pd

from auditlib.evidence.rings import Edge, Ring, edges_of, find_rings

FLAGS = ("self_dealing", "on_ring", "stamped", "outside_authority")


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as unusual; `stamp` in microseconds."""

    ring_times: int
    ring_size: int
    stamp_run: int
    stamp: int
    authorities: tuple[str, ...]


class Flagged(msgspec.Struct, frozen=True):
    """What is unusual of each approval; the rings; how often who approved for whom."""

    flags: pd.DataFrame  # FLAGS; `after_leaving`; `run`: the number of its run, `run_length`: of how many approvals
    rings: list[Ring]
    times: dict[Edge, int]  # (approver, for whom) -> approvals


def flag(
    approvals: pd.DataFrame, parties: pd.DataFrame, filers: pd.DataFrame, staff: pd.DataFrame, rules: Rules
) -> Flagged:
    """The flags of approvals. `filers`: `request`, `person`; `staff`: `person`, `occurred_at`, `left` (else joined)."""
    pairs = parties.dropna().drop_duplicates().assign(approver=lambda rows: rows["n"].map(approvals["person"]))
    own = pairs.loc[pairs["approver"] == pairs["person"], "n"]
    filed = set(filers[["request", "person"]].dropna().itertuples(index=False, name=None))
    by_filing = [pair in filed for pair in zip(approvals["request"], approvals["person"], strict=True)]
    others = pairs[pairs["approver"] != pairs["person"]]
    times = Counter(zip(others["approver"], others["person"], strict=True))
    rings = find_rings([edge for edge, number in times.items() if number >= rules.ring_times], rules.ring_size)
    around = {edge for ring in rings for edge in edges_of(ring)}
    on_ring = [edge in around for edge in zip(others["approver"], others["person"], strict=True)]
    run = _runs(approvals, rules)
    length = run.map(run.value_counts()).astype("int64")
    authority, left = approvals["authority"], _had_left(approvals, staff)
    unfit = authority.notna() & ~authority.isin(rules.authorities) & bool(rules.authorities)
    flags = pd.DataFrame(
        {
            "self_dealing": approvals.index.isin(own) | np.array(by_filing, dtype=bool),
            "on_ring": approvals.index.isin(others["n"][on_ring]),
            "stamped": length >= rules.stamp_run,
            "outside_authority": unfit | left,
            "after_leaving": left,
            "run": run,
            "run_length": length,
        },
        index=approvals.index,
    )
    return Flagged(flags, rings, times)


def _runs(approvals: pd.DataFrame, rules: Rules) -> pd.Series[int]:
    """The number of the run in which each approval stands; one that stands alone is a run."""
    ordered = approvals.sort_values(["person", "occurred_at", "sequence", "row"], kind="stable")
    apart = ordered["occurred_at"].diff() > pd.Timedelta(rules.stamp, "us")
    run = (apart | (ordered["person"] != ordered["person"].shift())).cumsum()
    return run.reindex(approvals.index).astype("int64")


def _had_left(approvals: pd.DataFrame, staff: pd.DataFrame) -> pd.Series[bool]:
    """Whether whoever approved had left, and had not joined again."""
    left = approvals[["person", "occurred_at"]].rename_axis("n").reset_index().sort_values("occurred_at", kind="stable")
    for name, leaving in (("gone", True), ("back", False)):
        moves = staff.loc[staff["left"] == leaving, ["person", "occurred_at"]].dropna()
        moves = moves.assign(**{name: moves["occurred_at"]}).sort_values("occurred_at", kind="stable")
        left = pd.merge_asof(left, moves, on="occurred_at", by="person", allow_exact_matches=not leaving)
    gone = left.set_index("n").reindex(approvals.index)
    found: pd.Series[bool] = gone["gone"].notna() & ~(gone["back"] > gone["gone"])
    return found
