"""What was refused: failed or denied logins, and whatever else was denied; counted, never listed one by one.

    refusals = Refusals(trail, period)
    refusals.moments            when each was, and whether it was a login: a row a refusal
    refusals.actors, refusals.targets, refusals.addresses, refusals.actions

There may be hundreds of thousands: what is kept of each is its place and its two times.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pandas as pd

from auditlib.evidence.answer import Period
from auditlib.formats.seal import Seal
from auditlib.formats.times import LATEST
from auditlib.pipeline import LATE
from auditlib.query import Filter
from auditlib.scan import in_utc
from auditlib.trail import Selection, Trail

MAX_NAMED = 10_000  # actors, targets or addresses in a table, those with the most refusals
REFUSED = """
    , refused AS (SELECT *, list_contains($logins, action) AS login FROM batches
                  WHERE (outcome = 'denied' OR (outcome = 'failure' AND list_contains($logins, action)))
                    AND occurred_at >= make_timestamptz($since) AND occurred_at < make_timestamptz($until))"""
ADDRESS = "CASE WHEN json_type(context, '$.ip') = 'VARCHAR' THEN nullif(context ->> '$.ip', '') END"
_MOMENTS = f"""{REFUSED}
    SELECT sequence, row, occurred_at, recorded_at, login,
           CASE WHEN epoch_us(recorded_at) - epoch_us(occurred_at) > {LATE} THEN event_id END AS event_id
    FROM refused ORDER BY sequence, row"""  # noqa: S608 - constants of this library alone; only late ones are named
_COUNTED = """
    , counted AS (SELECT {what}, count_if(login) AS failed_logins, count_if(NOT login) AS denied,
                         min(occurred_at) AS first_at, max(occurred_at) AS last_at
                  FROM refused {where} GROUP BY {by})
    SELECT *, count(*) OVER () AS in_all FROM counted
    ORDER BY failed_logins + denied DESC, {by} LIMIT $most"""
_TABLES = {  # name -> what is counted by, and which of the refusals
    "actors": ("actor_type, actor_id", ""),
    "targets": ("target_type, target_id", ""),
    "addresses": ("ip", "WHERE ip IS NOT NULL"),
    "actions": ("action, outcome", ""),
}


class Refusals:
    """The refusals of a period; an open one reaches as far as the trail."""

    def __init__(self, trail: Trail, period: Period) -> None:
        self.trail, self.period = trail, period
        self.logins = trail.catalog.kinds.get("login", ()) if trail.catalog else ()

    @cached_property
    def seals(self) -> Sequence[Seal]:
        """The batches that can hold one, on their seals' word."""
        return self.seals_of(self.period)

    def seals_of(self, period: Period) -> Sequence[Seal]:
        """The same for another period."""
        asked = Filter(outcomes=("denied", "failure"), since=period.since, until=period.until)
        return Selection(self.trail, asked).seals

    def values(self, period: Period) -> dict[str, Any]:
        """What REFUSED asks for."""
        until = LATEST + 1 if period.until is None else period.until
        return {"logins": list(self.logins), "since": period.since or 0, "until": until}

    @cached_property
    def moments(self) -> pd.DataFrame:
        """`sequence`, `row`, `occurred_at`, `recorded_at`, `login`, a row a refusal; `event_id` of late ones alone."""
        return self._asked(_MOMENTS, apart=True)

    @property
    def failed_logins(self) -> int:
        """How many logins failed or were denied."""
        return int(self.moments["login"].sum())

    @property
    def denied(self) -> int:
        """How many other actions were denied."""
        return len(self.moments) - self.failed_logins

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Refusals by actor, target, address and action, those with the most first, MAX_NAMED rows at most."""
        return {name: frame.drop(columns="in_all") for name, frame in self._counted.items()}

    @cached_property
    def number(self) -> dict[str, int]:
        """How many actors, targets, addresses and actions there are."""
        return {name: int(frame["in_all"].max()) if len(frame) else 0 for name, frame in self._counted.items()}

    @cached_property
    def _counted(self) -> dict[str, pd.DataFrame]:
        return {
            name: self._asked(
                REFUSED.replace("SELECT *,", f"SELECT *, {ADDRESS} AS ip,")
                + _COUNTED.format(what=by, by=by, where=where),
                most=MAX_NAMED,
            )
            for name, (by, where) in _TABLES.items()
        }

    def _asked(self, statement: str, *, apart: bool = False, **more: Any) -> pd.DataFrame:
        values: Any = self.values(self.period) | more
        frame: pd.DataFrame = in_utc(
            self.trail.run(self.seals, statement, values, apart=apart).to_arrow_table()
        ).to_pandas()
        return frame
