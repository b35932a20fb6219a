"""Everything that names one actor: what they did, what was done to their access, and what they held.

record = Activity(trail, period, "u_1030")          an id, or type:id; never a pattern
record.events, record.done_to, record.held
"""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any

import pandas as pd

from auditlib.errors import MalformedError
from auditlib.evidence.accounts import Account
from auditlib.evidence.answer import Period
from auditlib.evidence.examined import PLACE, drawn
from auditlib.evidence.frames import PLACED, Kind, typed
from auditlib.evidence.held import HELD, Changes
from auditlib.evidence.refusals import ADDRESS
from auditlib.formats.event import ACTOR_TYPES, MAX_ID_BYTES
from auditlib.formats.times import LATEST, parse_time, to_datetime
from auditlib.query import Filter
from auditlib.scan import in_utc
from auditlib.trail import Selection, Trail

MAX_LISTED = 100_000  # events of one actor: their proofs are held in memory while the packet is built

_EVENTS = f"""
    SELECT event_id AS item, event_id, source, occurred_at, recorded_at, sequence, row, actor_type, actor_id,
           actor_session AS session, action, target_type || ':' || target_id AS target, outcome, {ADDRESS} AS ip
    FROM batches WHERE (actor_id = $actor OR (actor_type = $kind AND actor_id = $id))
      AND epoch_us(occurred_at) >= $since AND epoch_us(occurred_at) < $until
    ORDER BY occurred_at, sequence, row LIMIT {MAX_LISTED + 1}"""  # noqa: S608 - constants of this library alone
_CHANGE = ["item", "what", "entitlement", *PLACE, "actor_type", "actor_id", "action"]
_HELD: dict[str, Kind] = {
    "item": "text",
    "entitlement": "text",
    "since": "time",
    **PLACED,
    **dict.fromkeys(("actor_type", "actor_id", "action"), "text"),
}


class Activity:
    """What the trail says of one actor in a period. MalformedError for no id, and for more than MAX_LISTED events."""

    def __init__(self, trail: Trail, period: Period, actor: str) -> None:
        if not actor or len(actor.encode(errors="surrogatepass")) > MAX_ID_BYTES + max(map(len, ACTOR_TYPES)) + 1:
            raise MalformedError("name one actor, as an id or as type:id.", where="actor")
        self.trail, self.period, self.actor = trail, period, actor
        self.kind, _, self.id = actor.partition(":")  # an id may hold colons itself, so that both readings count
        self.names = [actor, *([self.id] if self.kind in ACTOR_TYPES and self.id else [])]

    @cached_property
    def selection(self) -> Selection:
        """The batches of the period."""
        return Selection(self.trail, Filter(since=self.period.since, until=self.period.until))

    @cached_property
    def events(self) -> pd.DataFrame:
        """What they did, whatever the outcome, in the order of time: item, PLACE, who, session, action, target, ip."""
        values: Any = {
            "actor": self.actor,
            "id": self.id,
            "kind": self.kind,
            "since": self.period.since or 0,
            "until": LATEST + 1 if self.period.until is None else self.period.until,
        }
        frame: pd.DataFrame = in_utc(self.trail.run(self.selection.seals, _EVENTS, values).to_arrow_table()).to_pandas()
        if len(frame) > MAX_LISTED:
            raise MalformedError(
                f"{self.actor[:160]} did more than {MAX_LISTED:,} things in the period; that many are listed at most.",
                remedy="Narrow the period.",
            )
        return frame

    @cached_property
    def done_to(self) -> pd.DataFrame:
        """The changes of their access in the period, by the catalogue's word, in the order of time."""
        return self._changes(("grant", "revoke", "join", "leave"), self.period)

    @cached_property
    def left_at(self) -> datetime | None:
        """When they left, if they did by the period's end and have not come back."""
        moves = self._changes(("join", "leave"), Period(None, self.period.until, self.period.tz))
        gone = len(moves) and moves["what"].iloc[-1] == "leave"
        return moves["occurred_at"].iloc[-1].to_pydatetime() if gone else None

    @cached_property
    def held(self) -> pd.DataFrame:
        """What they held at the period's end: entitlement, `since`, and the record that gave it (see `held`)."""
        last = parse_time(self.trail.recorded[1])
        at = last if self.period.until is None else self.period.until - 1
        accounts = [Account(name) for name in self.names]
        spans = [span for span in Changes(self.trail, accounts).until(accounts, at, None) if span.when == HELD]
        rows = [dict(span.given) | {"item": span.given["event_id"], "since": to_datetime(span.since)} for span in spans]
        return typed(rows, _HELD)

    def _changes(self, kinds: tuple[str, ...], period: Period) -> pd.DataFrame:
        frames = []
        for kind in kinds:
            items, _ = drawn(self.trail, [kind], period)
            frames.append(items[items["grantee"].isin(self.names)].assign(what=kind).astype({"what": "str"}))
        found = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
        return found.sort_values(["occurred_at", "sequence", "row"], kind="stable", ignore_index=True)[_CHANGE]
