"""What is known of holders at a moment: whether they had left, and when they last did something."""

from __future__ import annotations

from typing import Any

import pandas as pd

from auditlib.formats.times import to_datetime
from auditlib.population import draw
from auditlib.trail import Trail


def looked_up(times: pd.Series[Any], names: pd.Series[Any]) -> pd.Series[Any]:
    """The time of each name, from times by name; NaT where there is none."""
    return times.reindex(names).set_axis(names.index)


_FACTS = [
    *("event_id", "source", "occurred_at", "recorded_at", "sequence", "row", "actor_type", "actor_id", "action"),
    "grantee",
]


class Staff:
    """Who had left before a moment and not come back, by the trail's own events of leaving and joining."""

    def __init__(self, trail: Trail, at: int) -> None:
        before = to_datetime(at)
        leaves, joins = (draw(trail, kind).items for kind in ("leave", "join"))
        self.recorded = len(leaves) > 0  # at any time: a trail that tells of nobody's leaving tells nothing here
        frames = [frame.assign(leaves=gone) for frame, gone in ((leaves, True), (joins, False)) if len(frame)]
        moves = pd.concat(frames or [leaves.assign(leaves=True)], ignore_index=True)
        moves = moves[(moves["occurred_at"] < before) & (moves["grantee"].fillna("") != "")]
        moves = moves.sort_values(["occurred_at", "sequence", "row"], kind="stable", ignore_index=True)
        last = moves.drop_duplicates("grantee", keep="last")
        self.moves = moves
        self._left = last[last["leaves"]].set_index("grantee")["occurred_at"]

    def left(self, subjects: pd.Series[Any]) -> pd.Series[Any]:
        """When each of them left; NaT for who was there."""
        return looked_up(self._left, subjects)

    def records(self, subjects: pd.Series[Any]) -> pd.DataFrame:
        """The leavings and joinings of these accounts, with their places."""
        rows: pd.DataFrame = self.moves.loc[self.moves["grantee"].isin(subjects), _FACTS].reset_index(drop=True)
        return rows
