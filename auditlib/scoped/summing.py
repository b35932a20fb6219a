"""All that is said of the events that answer, from one reading of them: how many, when, and the values of columns.

    sums                         each column's values with how many events have each, and the bars, by GROUPING SETS
    SELECT ... FROM sums         of each column the values that most have, and of the bars all

A reading for each column, for the count, for the first and last and for the bars would evaluate the condition that many
times. The bars are read narrower than they are shown, because how wide they are to be is known once they were read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from auditlib.formats.catalog import Catalog
from auditlib.formats.times import DAY, SECOND
from auditlib.scoped.answers import Bars, Facets, Summary
from auditlib.scoped.scope import Asked

FACETS = {
    "actor": "actor_type || ':' || actor_id",
    "action": "action",
    "kind": "action",
    "target_type": "target_type",
    "outcome": "outcome",
    "source": "source",
}
_GROUPS = {"actor": ("actor_type", "actor_id")}  # what is grouped by; of the others the column itself
_MINUTE, _HOUR = 60 * SECOND, 3600 * SECOND
_WIDTHS = [n * SECOND for n in (1, 5, 15)] + [n * _MINUTE for n in (1, 5, 15)] + [n * _HOUR for n in (1, 3, 6, 12)]
_WIDTHS += [n * DAY for n in (1, 7, 28, 91, 364, 3640, 36_400, 364_000)]  # whole weeks; the last takes 9,999 years
_NARROW = [width for width in _WIDTHS if all(max(width, other) % min(width, other) == 0 for other in _WIDTHS)]
_NARROWER = 16  # times as many bars are read as are shown, so that an answer over a part of the time has enough
_BARS, _KINDS = "*bars", "*kinds"  # no column's names


class Statement(NamedTuple):
    """SQL over the table `batches`, its parameters, and how wide the bars are that it reads (microseconds)."""

    sql: str
    values: list[Any]
    width: int


def fitting(first: int, last: int, most: int) -> int:
    """The least of the round widths by which at most `most` bars take all from `first` to `last` (microseconds)."""
    return next((width for width in _WIDTHS if last // width - first // width < most), _WIDTHS[-1] * 2)


def statement(
    asked: Asked, columns: Sequence[str], limit: int, most: int, ends: tuple[int, int], catalog: Catalog | None
) -> Statement:
    """What reads it all at once; every event that answers lies within `ends`."""
    enough = fitting(*ends, most * _NARROWER)
    width = max(narrow for narrow in _NARROW if narrow <= enough)
    sets = {column: _GROUPS.get(column, (FACETS[column],)) for column in columns} | {_BARS: ("bar",)}
    names = sorted({name for group in sets.values() for name in group})
    masks = {column: _mask(names, group) for column, group in sets.items()}
    grouped = ", ".join(f"({', '.join(group)})" for group in sorted(set(sets.values())))
    parts = [f"SELECT '{_BARS}', bar, NULL, events, NULL, NULL FROM sums WHERE mask = {masks[_BARS]}"]  # noqa: S608
    known = list(catalog.actions) if catalog else []
    values = [width, *asked.values]
    for column in columns:
        if column == "kind":
            parts.append(
                f"SELECT '{_KINDS}', NULL, action, events, NULL, NULL FROM sums "  # noqa: S608 - names of this module
                f"WHERE mask = {masks[column]} AND list_contains(?::VARCHAR[], action)"
            )
            values.append(known)
        else:
            parts.append(
                f"(SELECT '{column}', NULL, {FACETS[column]} AS value, sum(events) AS most, "  # noqa: S608 - likewise
                f"sum(sum(events)) OVER (), count(*) OVER () FROM sums WHERE mask = {masks[column]} "
                f"GROUP BY value ORDER BY most DESC, value LIMIT {int(limit)})"
            )
    whole = [name for name in names if name != "bar"]
    select = ", ".join([*whole, "epoch_us(occurred_at) // ? AS bar", "count(*) AS events"])
    sql = (
        f", sums AS MATERIALIZED (SELECT {select}, grouping({', '.join(names)}) AS mask FROM batches "  # noqa: S608
        f"WHERE {asked.condition} GROUP BY GROUPING SETS ({grouped})) {' UNION ALL '.join(parts)}"
    )
    return Statement(sql, values, width)


def summary(
    rows: Sequence[Sequence[Any]],
    width: int,
    columns: Sequence[str],
    limit: int,
    again: Callable[[], Bars],
    most: int,
    catalog: Catalog | None,
) -> Summary:
    """What a statement's rows say; `again` reads the bars where those read are too wide."""
    found: dict[str, list[Sequence[Any]]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row[1:])
    counted = {bar: events for bar, _, events, *_ in found.get(_BARS, ())}
    events = sum(counted.values())
    facets = {}
    for column in columns:
        if column == "kind":
            actions = [(action, many) for _, action, many, *_ in found.get(_KINDS, ())]
            facets[column] = by_kind(actions, events, limit, catalog)
            continue
        values = tuple((value, int(many)) for _, value, many, *_ in found.get(column, ()))
        distinct = int(found[column][0][-1]) if values else 0
        facets[column] = Facets(values, distinct, events - sum(many for _, many in values))
    return Summary(events, _merged(counted, width, most) or again(), facets)


def by_kind(actions: Sequence[tuple[str, int]], events: int, limit: int, catalog: Catalog | None) -> Facets:
    """Facets by kind, of actions that the catalogue knows; of all `events` the others have no kind."""
    counted: dict[str | None, int] = {}
    for action, many in actions:
        entry = catalog.actions.get(action) if catalog else None
        kind = entry.kind if entry else None
        counted[kind] = counted.get(kind, 0) + many
    unknown = events - sum(counted.values())
    if unknown:
        counted[None] = counted.get(None, 0) + unknown
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0] or ""))
    return Facets(tuple(ordered[:limit]), len(ordered), sum(many for _, many in ordered[limit:]))


def _mask(names: Sequence[str], group: Sequence[str]) -> int:
    """What grouping() gives: a bit for each name that is not grouped by, the first name's the highest."""
    return sum(1 << (len(names) - 1 - place) for place, name in enumerate(names) if name not in group)


def _merged(counted: dict[int, int], width: int, most: int) -> Bars | None:
    """Narrow bars as at most `most` of a round width; None where a narrower width than theirs may do."""
    if not counted:
        return Bars(0, SECOND, ())
    first, last = min(counted) * width, max(counted) * width
    wide = fitting(first, last, most)
    if wide < width or (wide == width and width != _WIDTHS[0]):
        return None
    merged = [0] * (last // wide - first // wide + 1)
    for bar, events in counted.items():
        merged[bar * width // wide - first // wide] += events
    return Bars(first // wide * wide, wide, tuple(merged))
