"""When somebody was last seen to do something: the last successful event of each of some accounts before a moment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from auditlib.query import Filter
from auditlib.scan import in_utc
from auditlib.trail import Selection, Trail

# A failed or denied attempt may be anybody's; an anonymous actor is nobody's account.
_LAST = """
    , seen AS (SELECT * FROM batches
               WHERE list_contains($accounts, actor_id) AND actor_type <> 'anonymous' AND outcome = 'success'
                 AND epoch_us(occurred_at) >= $since AND epoch_us(occurred_at) < $until),
    latest AS (SELECT actor_id, max(occurred_at) AS occurred_at FROM seen GROUP BY actor_id)
    SELECT event_id, source, occurred_at, recorded_at, sequence, row, actor_type, actor_id, action, outcome
    FROM seen JOIN latest USING (actor_id, occurred_at)
    QUALIFY row_number() OVER (PARTITION BY actor_id ORDER BY sequence DESC, row DESC) = 1 ORDER BY actor_id"""


def last_seen(trail: Trail, accounts: Iterable[str], since: int, until: int) -> pd.DataFrame:
    """The last event of each account before `until`, with its place; a row for who was seen at all.

    Events from `since` on are looked through first, older ones only for who is not among them (microseconds since
    1970 UTC).
    """
    wanted = sorted(set(accounts))
    recent = _last(trail, wanted, since, until)
    older = _last(trail, sorted(set(wanted) - set(recent["actor_id"])), 0, since)
    rows = pd.concat([frame for frame in (recent, older) if len(frame)] or [recent], ignore_index=True)
    return rows.sort_values("actor_id", kind="stable", ignore_index=True)


def _last(trail: Trail, accounts: list[str], since: int, until: int) -> pd.DataFrame:
    asked = Filter(outcomes=("success",), since=since, until=until)
    seals = Selection(trail, asked).seals if accounts and since < until else []
    values: Any = {"accounts": [*accounts, ""], "since": since, "until": until}
    rows: pd.DataFrame = in_utc(trail.run(seals, _LAST, values).to_arrow_table()).to_pandas()
    return rows
