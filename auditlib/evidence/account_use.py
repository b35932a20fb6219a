"""What accounts did in a span of time each: every event counted, the first of them listed with their places.

used = Use(trail, [Asked(0, account, left_at, returned_at), ...], decisions=("access.approve",))
used.counted, used.listed       both with `n`, the number that was asked about
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from auditlib.evidence.accounts import Account
from auditlib.query import Filter
from auditlib.scan import in_utc
from auditlib.trail import Selection, Trail

MAX_LISTED = 100  # events that are listed of each number asked about

_ASKED = """
    , asked AS (SELECT unnest($n) AS n, unnest($names) AS name, unnest($folds) AS fold, unnest($after) AS after,
                       unnest($before) AS before, unnest($elsewhere) AS elsewhere),
    found AS (SELECT * FROM batches JOIN asked ON lower(actor_id) = lower(name)
              WHERE (fold OR actor_id = name) AND actor_type <> 'anonymous'
                AND epoch_us(occurred_at) > after AND epoch_us(occurred_at) < before
                AND NOT list_contains(string_split(elsewhere, ' '), split_part(source, '/', 1)))"""
_COUNTED = f"""{_ASKED}
    SELECT n, actor_id AS account, split_part(source, '/', 1) AS system, action AS did, outcome AS result,
           count(*) AS events, min(occurred_at) AS first_at, max(occurred_at) AS last_at
    FROM found GROUP BY ALL ORDER BY ALL"""  # noqa: S608 - a constant of this module
_LISTED = f"""{_ASKED},
    told AS (SELECT *, list_contains($decisions, action) AND outcome = 'success' AS decision FROM found),
    placed AS (SELECT *, row_number() OVER (PARTITION BY n ORDER BY occurred_at, sequence, row) AS place,
                      count(*) OVER (PARTITION BY n) AS many FROM told)
    SELECT n, event_id, source, occurred_at, recorded_at, sequence, row, actor_type, actor_id, action, outcome, decision
    FROM placed WHERE place <= $most OR (place = many AND $most > 1) OR decision
    ORDER BY n, occurred_at, sequence, row"""  # noqa: S608 - the same


class Asked(NamedTuple):
    """An account and a span of time, both ends exclusive, in microseconds since 1970 UTC."""

    n: int
    account: Account
    after: int
    before: int


class Use:
    """Events that name the accounts as their actors, whatever the outcome.

    An anonymous actor is nobody's account. `counted` is by account, source name, action and outcome; `listed` holds
    the first `most` of each n; where that is more than one also its last, and every success of `decisions`.
    """

    def __init__(
        self, trail: Trail, asked: Sequence[Asked], decisions: Sequence[str] = (), most: int = MAX_LISTED
    ) -> None:
        rows = asked or [Asked(-1, Account(""), 0, 0)]  # typed, so that a question about nobody has its columns
        values: Any = {
            "n": [row.n for row in rows],
            "names": [row.account.name for row in rows],
            "folds": [row.account.fold for row in rows],
            "after": [max(row.after, row.account.since - 1, -1) for row in rows],
            "before": [min(row.before, row.account.until) for row in rows],
            "elsewhere": [" ".join(row.account.elsewhere) for row in rows],
        }
        asked_about = Filter(since=max(0, min(values["after"])), until=max(1, *values["before"]))
        seals = Selection(trail, asked_about).seals if asked else []
        self.counted: pd.DataFrame = in_utc(trail.run(seals, _COUNTED, values).to_arrow_table()).to_pandas()
        more = values | {"decisions": ["", *decisions], "most": most}
        self.listed: pd.DataFrame = in_utc(trail.run(seals, _LISTED, more).to_arrow_table()).to_pandas()
        self._by_number = {int(n): rows for n, rows in self.counted.groupby("n")}

    def of(self, n: int) -> pd.DataFrame:
        """The counts of one number."""
        found: pd.DataFrame = self._by_number.get(n, self.counted.iloc[:0])
        return found
