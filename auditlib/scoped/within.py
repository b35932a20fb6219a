"""Whether what was made from the whole trail, a packet for one, lies within a scope: in Python over its own bytes.

    holds(scope, records)              each record is one that ScopedTrail would give
    asks_within(engagement, catalog, packet)     and what the packet asked of the trail is no more than the scope

The second is not in the first: an answer without a single record tells that there was none, which outside the scope is
not to be learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import duckdb

from auditlib.engagements import Engagement
from auditlib.errors import MalformedError
from auditlib.formats.catalog import Catalog
from auditlib.formats.columns import SLICE, table_of
from auditlib.formats.event import parse_record
from auditlib.formats.times import parse_time
from auditlib.query import parse_moment, zone_of
from auditlib.scoped.question import by_kinds
from auditlib.scoped.scope import Scope, covers, instances


def holds(scope: Scope, records: Iterable[bytes]) -> bool:
    """Whether every canonical record lies within the scope, by the very condition that a ScopedTrail puts.

    MalformedError for a record that is none.
    """
    asked = scope.within("TRUE", [])
    database = duckdb.connect(config={"python_enable_replacements": False})
    try:
        database.execute("SET TimeZone = 'UTC'")
        for part in _slices(records):
            database.register("batches", table_of([parse_record(record) for record in part]))
            statement = f"SELECT count(*) FROM batches WHERE ({asked.condition}) IS NOT TRUE"  # noqa: S608 - bound values
            ((outside,),) = database.execute(statement, asked.values).fetchall()
            if outside:
                return False
        return True
    finally:
        database.close()


def asks_within(engagement: Engagement, catalog: Catalog | None, packet: Mapping[str, Any]) -> bool:
    """Whether the period and population that packet.json states lie within the engagement; in doubt, no.

    An engagement that limits the actions takes only an answer that names its actions, one that limits targets or
    streams only one that names those: what is drawn from all is not what is drawn from these.
    """
    try:
        period, population = packet["period"]["utc"], packet["population"]
        stated = population.get("filter") or {}
        since, until = (None if period[end] is None else parse_time(period[end]) for end in ("since", "until"))
        if not within_period(engagement, since, until):
            return False
        actions = by_kinds(catalog, engagement.kinds, action=engagement.actions or None).actions
        return (
            _named(population.get("actions"), actions)
            and _named(stated.get("targets"), engagement.targets or None)
            and _named(stated.get("sources"), [each for one in engagement.streams for each in instances(one)] or None)
            and set(engagement.redact) <= set((packet.get("redacted") or {}).get("fields") or ())
        )
    except (LookupError, TypeError, AttributeError):
        raise MalformedError("packet.json does not state its period and population as a packet does.") from None


def within_period(engagement: Engagement, since: int | None, until: int | None) -> bool:
    """Whether from `since` until before `until` (microseconds, None is open) lies in what the engagement covers."""
    first, last = covered(engagement)
    return (first is None or (since is not None and since >= first)) and (
        last is None or (until is not None and until <= last)
    )


def covered(engagement: Engagement) -> tuple[int | None, int | None]:
    """The engagement's own period, in microseconds; None is open."""
    zone = zone_of("UTC")
    since, until = engagement.since, engagement.until
    return (
        None if since is None else parse_moment(since, zone, "since"),
        None if until is None else parse_moment(until, zone, "until"),
    )


def _named(asked: Any, allowed: Sequence[str] | None) -> bool:
    if allowed is None:
        return True
    return bool(asked) and all(isinstance(one, str) and any(covers(glob, one) for glob in allowed) for one in asked)


def _slices(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(records)
    while part := list(islice(rest, SLICE)):
        yield part
