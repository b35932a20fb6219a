"""Who holds what at a moment: an opening listing, plus grants, minus removals, in the order in which they occurred.

    changes = Replay(trail, opening.rows, until)
    changes.at(moment).held       subject, entitlement and the record that gave it, a row a holding
    changes.at(moment).ended      whose grants had all ended by then, by their own terms; no removal is recorded

A moment is exclusive: what happens at it comes after. A listing counts from the moment for which it holds on. Of
listings of several systems each counts from its own; a pair in none of them is replayed from the earliest.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from auditlib.evidence.listings import COLUMNS
from auditlib.formats.times import to_datetime
from auditlib.population import draw
from auditlib.trail import Trail

PAIR = ["subject", "entitlement"]
HELD = [*COLUMNS, "gives"]
Bools = npt.NDArray[np.bool_]


class Held(msgspec.Struct, frozen=True):
    """What was held at a moment, and what had ended by itself; both with the columns HELD, by subject, entitlement."""

    held: pd.DataFrame
    ended: pd.DataFrame


class Replay:
    """Grants and removals up to a moment (microseconds since 1970 UTC, exclusive), over the rows of a listing."""

    def __init__(self, trail: Trail, opening: pd.DataFrame, until: int) -> None:
        before = to_datetime(until)
        grants, revokes = draw(trail, "grant", until=before), draw(trail, "revoke", until=before)
        self.actions = tuple(sorted({*grants.actions, *revokes.actions}))
        frames = [_changes(grants.items, gives=True), _changes(revokes.items, gives=False)]
        changes = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
        changes = changes.sort_values(["occurred_at", "sequence", "row"], kind="stable", ignore_index=True)
        if len(opening):
            changes = changes[changes["occurred_at"] >= _since(changes, opening)]
        said = (changes[PAIR].fillna("") != "").all(axis=1)
        self.unread = changes[~said].reset_index(drop=True)  # nobody can say whose access these changed, or which
        self.changes = changes[said].reset_index(drop=True)
        self._opening = opening.assign(gives=True)[HELD]

    def at(self, moment: int) -> Held:
        """What was held at a moment, up to that of the replay."""
        when = to_datetime(moment)
        changes = self.changes[self.changes["occurred_at"] < when]
        order = pd.Series(np.arange(len(changes)), changes.index)
        keys = [changes["subject"], changes["entitlement"]]
        taken = order.where(~changes["gives"]).groupby(keys).transform("max").fillna(-1)
        given = changes[changes["gives"] & (order > taken)]
        # An end at or before its own grant is none that could be read: nothing is taken off the list for it.
        over = (given["valid_until"] > given["occurred_at"]) & (given["valid_until"] <= when)
        removed = changes.loc[~changes["gives"], PAIR]
        listed = self._opening[~among(self._opening, removed)]
        live = given[~over].drop_duplicates(PAIR)
        live = live[~among(live, listed)]
        held = pd.concat([frame for frame in (listed, live) if len(frame)] or [listed], ignore_index=True)
        ended = given[over].drop_duplicates(PAIR, keep="last")
        return Held(_sorted(held), _sorted(ended[~among(ended, held)]))


def among(rows: pd.DataFrame, others: pd.DataFrame) -> Bools:
    """Which rows are of a subject and entitlement that stands among the others."""
    there = pd.MultiIndex.from_frame(others[PAIR].astype("str"))
    return np.asarray(pd.MultiIndex.from_frame(rows[PAIR].astype("str")).isin(there), dtype=bool)


_TIME: Any = "datetime64[us, UTC]"


def _changes(items: pd.DataFrame, *, gives: bool) -> pd.DataFrame:
    """Drawn items as changes of what their grantee holds."""
    places = {name: items[name].astype("Int64") for name in ("sequence", "row")}
    ends = items["valid_until"].astype(_TIME) if gives else pd.Series(pd.NaT, items.index, _TIME)
    named = items.rename(columns={"grantee": "subject"}).assign(**places)
    return named.assign(since=named["occurred_at"], valid_until=ends, gives=gives)[HELD]


def _since(changes: pd.DataFrame, opening: pd.DataFrame) -> pd.Series[Any]:
    """From when on each change counts."""
    own = opening.set_index(PAIR)["since"]
    found = own.reindex(pd.MultiIndex.from_frame(changes[PAIR])).fillna(opening["since"].min())
    return found.set_axis(changes.index)


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.sort_values(PAIR, kind="stable", ignore_index=True)
