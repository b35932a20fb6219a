"""What somebody held, from the records that say so: grants, removals, and the listings that the system sealed itself.

    changes = Changes(trail, accounts)
    changes.until(accounts, left_at, returned_at)       what was held then or granted later, and when it was removed

A holding of a snapshot counts as a grant at the moment for which the snapshot holds, so that access from before the
trail began is seen. An end that a grant states is no removal: only a removal is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pandas as pd

from auditlib.evidence.accounts import NEVER, Account, among, meant, micros
from auditlib.formats.times import DAY
from auditlib.population import draw
from auditlib.query import Filter
from auditlib.scan import in_utc
from auditlib.trail import Selection, Trail

RECENT = DAY  # microseconds before leaving in which a removal belongs to it

Row = Mapping[str, Any]
FACTS = [
    *("event_id", "source", "occurred_at", "recorded_at", "sequence", "row", "actor_type", "actor_id", "action"),
    *("grantee", "entitlement"),
]
HELD, REMOVED, LATER = "held at leaving", "removed in the day before", "granted after leaving"

# A moment that is none, or that lies after the listing itself, is the listing's own.
_LISTED = f"""
    , told AS (SELECT *, unnest(json_extract(context, '$.holdings[*]')) AS pair,
                      try_cast(context ->> '$.at' AS TIMESTAMPTZ) AS stated
               FROM batches WHERE list_contains($actions, action) AND outcome = 'success'),
    apart AS (SELECT *, pair ->> '$.subject' AS grantee, pair ->> '$.entitlement' AS entitlement FROM told)
    SELECT {", ".join(FACTS)},
           CASE WHEN stated BETWEEN make_timestamptz(0) AND occurred_at THEN stated ELSE occurred_at END AS since
    FROM apart WHERE list_contains($names, lower(grantee)) ORDER BY sequence, row, grantee, entitlement"""  # noqa: S608


class Held(msgspec.Struct, frozen=True):
    """An entitlement of one account: the record that gave it, the first that took it away, in microseconds."""

    account: str
    entitlement: str | None  # None: the grant does not say which
    when: str  # HELD, REMOVED or LATER
    given: Row
    since: int
    taken: Row | None
    removed: int | None


class Changes:
    """Every grant, removal and listing of some accounts, in the order in which they took effect."""

    def __init__(self, trail: Trail, accounts: Iterable[Account]) -> None:
        wanted = list(accounts)
        grants = draw(trail, "grant").items
        self.nameless = grants[grants["grantee"].fillna("") == ""]  # nobody can say whose access these changed
        given, taken = among(grants, "grantee", wanted), among(draw(trail, "revoke").items, "grantee", wanted)
        listed = _listed(trail, sorted({account.name.lower() for account in wanted}))
        self._by_name: dict[str, list[tuple[int, int, int, bool, Row]]] = defaultdict(list)
        for frame, gives, column in (
            (given, True, "occurred_at"),
            (taken, False, "occurred_at"),
            (listed, True, "since"),
        ):
            rows: list[Any] = frame.to_dict("records")
            for at, row in zip(micros(frame[column], 0), rows, strict=True):
                self._by_name[row["grantee"].casefold()].append((at, row["sequence"], row["row"], gives, row))

    def until(self, accounts: Sequence[Account], left_at: int, returned_at: int | None) -> list[Held]:
        """What the accounts held at a moment, lost in the RECENT time before or were given later, up to a return."""
        found: list[Held] = []
        for (name, entitlement), changes in sorted(self._of(accounts).items(), key=lambda pair: str(pair[0])):
            found += _spans(name, entitlement, changes, left_at, NEVER if returned_at is None else returned_at)
        return found

    def _of(self, accounts: Sequence[Account]) -> dict[tuple[str, str | None], list[tuple[int, bool, Row]]]:
        told: dict[tuple[str, str | None], list[tuple[int, bool, Row]]] = defaultdict(list)
        names = dict.fromkeys(account.name.casefold() for account in accounts)
        changes = [change for name in names for change in self._by_name.get(name, ())]
        for at, _, _, gives, row in sorted(changes, key=lambda change: change[:3]):
            account = meant(accounts, row["grantee"], at, row["source"])
            if account is not None:
                entitlement = row["entitlement"] if isinstance(row["entitlement"], str) else None
                told[account.name, entitlement].append((at, gives, row))
        return told


def _spans(
    account: str, entitlement: str | None, changes: list[tuple[int, bool, Row]], left_at: int, end: int
) -> list[Held]:
    """The changes of one entitlement, in order -> from which record to which it was held."""
    spans: list[tuple[int, Row, int | None, Row | None]] = []
    since: tuple[int, Row] | None = None
    for at, gives, row in changes:
        late = at > left_at
        if at >= end or (late and "since" in row):  # a later listing gives nothing: it says what still stands
            continue
        if gives and since is not None and late and since[0] <= left_at:  # given again, though gone
            spans.append((at, row, None, None))
        elif gives and since is None:
            since = at, row
        elif not gives and entitlement is not None:
            spans = [(a, b, at, row) if c is None else (a, b, c, d) for a, b, c, d in spans]
            spans += [(*since, at, row)] if since is not None else []
            since = None
    spans += [(*since, None, None)] if since is not None else []
    return [
        Held(account, entitlement, _when(began, ended, left_at), given, began, taken, ended)
        for began, given, ended, taken in sorted(spans, key=lambda span: span[0])
        if ended is None or ended > left_at - RECENT
    ]


def _when(began: int, ended: int | None, left_at: int) -> str:
    if began > left_at:
        return LATER
    return REMOVED if ended is not None and ended <= left_at else HELD


def _listed(trail: Trail, names: list[str]) -> pd.DataFrame:
    """The holdings of these names in the trail's own listings, with `since`, the moment for which each holds."""
    actions = tuple(trail.catalog.kinds.get("snapshot", ())) if trail.catalog else ()
    seals = Selection(trail, Filter(actions=actions, outcomes=("success",))).seals if names and actions else []
    values: Any = {"actions": list(actions), "names": names}
    frame: pd.DataFrame = in_utc(trail.run(seals, _LISTED, values).to_arrow_table()).to_pandas()
    return frame
