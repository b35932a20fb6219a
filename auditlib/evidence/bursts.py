"""Bursts of refusals: many within minutes at one account, by one account, or from one address.

    asked = Burst(events=20, minutes=10, follow_hours=24)
    bursts = find_bursts(refusals, asked)
    bursts.rows, bursts.members, bursts.refused

A refusal belongs to the account that acted (nobody's where the actor is anonymous), to the account that a login names
as its target, and to the address `ip` of its context. A burst of one of these is a run of refusals of which each lies
in some `events` refusals that follow each other within `minutes`, both ends included. Bursts that share a refusal are
one. One that reaches over an end of the period is seen for `minutes` beyond it, so that none hides at the edge.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pandas as pd

from auditlib.evidence.answer import Period
from auditlib.evidence.refusals import ADDRESS, REFUSED, Refusals
from auditlib.formats.times import LATEST, SECOND
from auditlib.scan import in_utc

ACCOUNTS = (
    "account",
    "support",
    "user",
)  # types of a login's target that are an account; a system signed in to is none
_MINUTE = 60 * SECOND  # microseconds

# What a refusal belongs to, and what was refused by it: a login is a login wherever; anything else is this action under
# this permission, where one is stated, else this action on this target.
KEYS = f"""list_distinct(list_filter([
        CASE WHEN actor_type <> 'anonymous' THEN 'account ' || actor_type || ':' || actor_id END,
        CASE WHEN login AND target_type IN {ACCOUNTS} THEN 'account ' || target_type || ':' || target_id END,
        'address ' || {ADDRESS}], lambda key: key IS NOT NULL)) AS keys"""
THING = """CASE WHEN login THEN 'login'
        WHEN json_type(context, '$.permission') = 'VARCHAR'
        THEN action || ' permission ' || (context ->> '$.permission')
        ELSE action || ' target ' || target_type || ':' || target_id END AS thing"""
_MEMBERS = f"""{REFUSED},
    keyed AS (SELECT sequence, row, epoch_us(occurred_at) AS t, login, thing, unnest(keys) AS key
              FROM (SELECT *, {KEYS}, {THING} FROM refused)),
    first AS (SELECT *, coalesce(lead(t, $events - 1) OVER w - t <= $span, false) AS begins
              FROM keyed WINDOW w AS (PARTITION BY key ORDER BY t, sequence, row)),
    covered AS (SELECT *, bool_or(begins) OVER (w ROWS BETWEEN $events - 1 PRECEDING AND CURRENT ROW) AS inside,
                       bool_or(begins) OVER (w ROWS BETWEEN $events - 1 PRECEDING AND 1 PRECEDING) AS joined
                FROM first WINDOW w AS (PARTITION BY key ORDER BY t, sequence, row)),
    runs AS (SELECT *, count_if(NOT coalesce(joined, false)) OVER w AS run
             FROM covered WHERE inside WINDOW w AS (PARTITION BY key ORDER BY t, sequence, row))
    SELECT key, run, t, sequence, row, login, thing FROM runs ORDER BY key, t, sequence, row"""  # noqa: S608


class Burst(msgspec.Struct, frozen=True):
    """What makes a burst, and for how long after it a success is looked for."""

    events: int
    minutes: int
    follow_hours: int


class Bursts(msgspec.Struct, frozen=True):
    """The bursts that have a refusal in the period, numbered by `burst` from 0 in the order of their items.

    `rows`: burst, sequence and row of its first refusal in the period (its item), `keys` (a list), refusals,
    failed_logins, denied, began, ended, and `since`, the time of the refusal that made it one (microseconds).
    `members`: burst, t, sequence, row, login of every refusal, in order. `refused`: burst, key, thing.
    """

    rows: pd.DataFrame
    members: pd.DataFrame
    refused: pd.DataFrame


def find_bursts(refusals: Refusals, asked: Burst) -> Bursts:
    """The bursts of the period."""
    runs = _asked(refusals, asked)
    things = runs[["key", "run", "thing"]].drop_duplicates().sort_values(["key", "run", "thing"], ignore_index=True)
    runs["group"] = runs.groupby(["key", "run"], sort=False).ngroup()
    runs["whole"] = runs["group"].map(_joined(runs)).astype("int64")
    period = refusals.period
    until = LATEST + 1 if period.until is None else period.until
    within = (runs["t"] >= (period.since or 0)) & (runs["t"] < until)
    order = ["t", "sequence", "row"]
    items = runs[within].sort_values(order, kind="stable").drop_duplicates("whole")
    numbers = dict(zip(items["whole"].tolist(), range(len(items)), strict=True))
    runs = runs[runs["whole"].isin(list(numbers))]
    runs = runs.assign(burst=runs["whole"].map(numbers).astype("int64"))
    members = runs.drop_duplicates(["sequence", "row"]).sort_values(["burst", *order], kind="stable", ignore_index=True)
    groups = runs[["key", "run", "burst"]].drop_duplicates()
    return Bursts(
        rows=_rows(items, members, groups, asked),
        members=members[["burst", *order, "login"]],
        refused=things.merge(groups, on=["key", "run"])[["burst", "key", "thing"]].drop_duplicates(ignore_index=True),
    )


def _rows(items: pd.DataFrame, members: pd.DataFrame, groups: pd.DataFrame, asked: Burst) -> pd.DataFrame:
    by_burst = members.groupby("burst")
    keys = groups.groupby("burst")["key"].agg(lambda names: sorted(set(names)))
    nth = members[by_burst.cumcount() == asked.events - 1].set_index("burst")["t"]
    refused, logins = by_burst.size(), by_burst["login"].sum()
    return pd.DataFrame(
        {
            "burst": range(len(items)),
            "sequence": items["sequence"].tolist(),
            "row": items["row"].tolist(),
            "keys": keys.tolist(),
            "refusals": refused.tolist(),
            "failed_logins": logins.astype("int64").tolist(),
            "denied": (refused - logins).astype("int64").tolist(),
            "began": by_burst["t"].min().tolist(),
            "ended": by_burst["t"].max().tolist(),
            "since": nth.tolist(),
        }
    )


def _joined(runs: pd.DataFrame) -> dict[int, int]:
    """Each group -> the least group that it shares refusals with, directly or through others."""
    least = {int(group): int(group) for group in runs["group"].unique()}

    def root(group: int) -> int:
        while least[group] != group:
            least[group] = group = least[least[group]]
        return group

    together = runs.groupby(["sequence", "row"], sort=False)["group"].transform("min")
    for one, other in _pairs(runs["group"].tolist(), together.tolist()):
        low, high = sorted((root(one), root(other)))
        least[high] = low
    return {group: root(group) for group in least}


def _pairs(groups: Iterable[int], others: Iterable[int]) -> list[tuple[int, int]]:
    return sorted({(one, other) for one, other in zip(groups, others, strict=True) if one != other})


def _asked(refusals: Refusals, asked: Burst) -> pd.DataFrame:
    """Every refusal of every burst, once for each key that it belongs to, with the run that it is in."""
    span, period = asked.minutes * _MINUTE, refusals.period
    wide = Period(
        None if period.since is None else max(0, period.since - span),
        None if period.until is None else min(LATEST, period.until + span),
        period.tz,
    )
    values: Any = refusals.values(wide) | {"events": asked.events, "span": span}
    table = refusals.trail.run(refusals.seals_of(wide), _MEMBERS, values).to_arrow_table()
    frame: pd.DataFrame = in_utc(table).to_pandas()
    return frame
