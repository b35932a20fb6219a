"""Listings of who holds what at a moment: those that the system sealed itself, and one that somebody attached.

    sealed = Listings(trail)
    sealed.newest(at), sealed.following(at)     of each system the last listing up to a moment, the first after it
    attached_listing(listing)                   the rows of an attached list `listing`: unsealed

A listing of several parts counts where each part is there exactly once. It holds for the moment that it states; one
that states none, or a moment after itself, holds for its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import pandas as pd

from auditlib.attachments import Attachment
from auditlib.errors import MalformedError
from auditlib.evidence.answer import listed, many
from auditlib.evidence.examined import PLACE, empty_items
from auditlib.formats.times import format_time, from_datetime, parse_time, to_datetime
from auditlib.query import Filter
from auditlib.scan import in_utc
from auditlib.trail import Selection, Trail

RECORD = [*PLACE, "actor_type", "actor_id", "action"]  # of the event that a row rests on; empty for an attached list
COLUMNS = ["item", *RECORD, "subject", "entitlement", "since", "valid_until"]
MAX_NAMED = 5  # listings that one sentence names

_HEADS = """
    , told AS (SELECT *, epoch_us(occurred_at) AS own FROM batches
               WHERE list_contains($actions, action) AND outcome = 'success')
    SELECT sequence, row, own, coalesce(context ->> '$.system', '') AS system, coalesce(context ->> '$.at', '') AS at,
           coalesce(try_cast(context ->> '$.part' AS BIGINT), 0) AS part,
           coalesce(try_cast(context ->> '$.parts' AS BIGINT), 0) AS parts
    FROM told ORDER BY sequence, row"""
_ROWS = f"""
    , told AS (SELECT *, json_extract(context, '$.holdings[*]') AS pairs FROM batches
               WHERE list_contains($places, sequence || '/' || row)),
    apart AS (SELECT * EXCLUDE pairs, unnest(pairs) AS pair, generate_subscripts(pairs, 1) AS n FROM told)
    SELECT event_id || '#' || n AS item, {", ".join(RECORD)}, pair ->> '$.subject' AS subject,
           pair ->> '$.entitlement' AS entitlement
    FROM apart ORDER BY sequence, row, n"""  # noqa: S608 - constants of this module alone


class Part(NamedTuple):
    """One event of a listing; `own` is when it occurred."""

    sequence: int
    row: int
    own: int
    system: str
    at: str
    part: int
    parts: int


class Listed(msgspec.Struct, frozen=True):
    """A listing: the moment for which it holds (microseconds since 1970 UTC), what it is, and the places of its parts;
    `rows` is given where it was attached."""

    at: int
    words: str
    parts: tuple[Part, ...] = ()
    rows: pd.DataFrame | None = None


class Listings:
    """Every listing that a trail holds, by system and moment; `partial` tells of those that lack a part."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self.actions = tuple(trail.catalog.kinds.get("snapshot", ())) if trail.catalog else ()
        asked = Filter(actions=self.actions, outcomes=("success",))
        seals = Selection(trail, asked).seals if self.actions else []
        values: Any = {"actions": list(self.actions)}
        parts = [Part(*row) for row in trail.run(seals, _HEADS, values, apart=True).fetchall()]
        whole: dict[tuple[str, str], list[Part]] = defaultdict(list)
        for part in parts:
            whole[part.system, part.at].append(part)
        self._by_system: dict[str, list[Listed]] = defaultdict(list)
        self.partial: list[str] = []
        for (system, _), found in sorted(whole.items()):
            at = _moment(found)
            name = f"the listing of {system or 'a system without a name'} at {format_time(at)}"
            if sorted(part.part for part in found) == list(range(1, found[0].parts + 1)):
                self._by_system[system].append(Listed(at, f"{name} ({many(len(found), 'event')})", tuple(found)))
            else:
                self.partial.append(name)
        for listings in self._by_system.values():
            listings.sort(key=lambda one: one.at)

    def newest(self, at: int) -> list[Listed]:
        """Of each system the last listing that holds for this moment or an earlier one."""
        found = [[one for one in listings if one.at <= at] for listings in self._by_system.values()]
        return [listings[-1] for listings in found if listings]

    def following(self, at: int) -> list[Listed]:
        """Of each system the first listing that holds for a later moment."""
        found = [[one for one in listings if one.at > at] for listings in self._by_system.values()]
        return [listings[0] for listings in found if listings]

    def rows(self, listings: Iterable[Listed]) -> pd.DataFrame:
        """What some listings list, in their order: COLUMNS, each pair once; `since` is the listing's moment."""
        frames = [_nothing(), *(self._rows(one) for one in listings)]
        rows = pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)
        return rows.drop_duplicates(["subject", "entitlement"], ignore_index=True)

    def _rows(self, one: Listed) -> pd.DataFrame:
        if one.rows is not None:
            return one.rows
        places = {(part.sequence, part.row) for part in one.parts}
        seals = [seal for seal in self._trail.seals if seal.sequence in {sequence for sequence, _ in places}]
        values: Any = {"places": sorted(f"{sequence}/{row}" for sequence, row in places)}
        rows: pd.DataFrame = in_utc(self._trail.run(seals, _ROWS, values, apart=True).to_arrow_table()).to_pandas()
        rows = rows[(rows["subject"].fillna("") != "") & (rows["entitlement"].fillna("") != "")]
        return _as_listed(rows, one.at)

    def sentences(self) -> list[str]:
        """That listings were left out, in words."""
        if not self.partial:
            return []
        more = [f"{len(self.partial) - MAX_NAMED:,} more"] if len(self.partial) > MAX_NAMED else []
        return [f"Not used, because a part is missing or stands twice: {listed([*self.partial[:MAX_NAMED], *more])}."]


def attached_listing(listing: Attachment) -> Listed:
    """An attached list `listing`; it holds for `as_of`, or, where it states none, for when it was exported.

    MalformedError where its rows state different moments.
    """
    frame = listing.frame
    stated = frame.drop_duplicates("as_of")
    if len(stated) > 1:
        raise MalformedError(
            f"lines {stated['line'].iloc[0]} and {stated['line'].iloc[1]} state different moments; a listing has one.",
            where="listing.as_of",
        )
    moments = stated["as_of"].dropna()
    at = from_datetime(moments.iloc[0].to_pydatetime()) if len(moments) else listing.declaration.exported_at
    rows = frame.drop_duplicates(["subject", "entitlement"]).reset_index(drop=True)
    nowhere = empty_items("actor_type", "actor_id", "action").reindex(rows.index)
    texts = ("event_id", "source", "actor_type", "actor_id", "action")
    rows = nowhere.assign(
        item="listing:" + rows["line"].astype("str"),
        subject=rows["subject"],
        entitlement=rows["entitlement"],
        **{name: pd.Series("", rows.index, dtype="str") for name in texts},
    )
    words = f"the attached listing of {listing.declaration.system} at {format_time(at)} (unsealed evidence)"
    return Listed(at, words, rows=_as_listed(rows, at))


def _as_listed(rows: pd.DataFrame, at: int) -> pd.DataFrame:
    times = {
        name: pd.Series(moment, rows.index, dtype="datetime64[us, UTC]")
        for name, moment in (("since", to_datetime(at)), ("valid_until", pd.NaT))
    }
    places = {name: rows[name].astype("Int64") for name in ("sequence", "row")}
    return rows.assign(**times, **places)[COLUMNS].reset_index(drop=True)


def _nothing() -> pd.DataFrame:
    return _as_listed(empty_items("actor_type", "actor_id", "action", "subject", "entitlement"), 0)


def _moment(parts: list[Part]) -> int:
    first = min(part.own for part in parts)
    try:
        stated = parse_time(parts[0].at)
    except MalformedError:
        return first
    return stated if stated <= first else first
