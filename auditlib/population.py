"""Populations: from events of a kind to the items an auditor tests (DESIGN 3).

    items = draw(trail, "grant", since=..., until=..., entitlement="admin").items

An item is an event, or `event_id#n` where one event grants several things; where grantee, entitlement, request id and
the rest stand in an event is the catalogue's to say. Everything is done in the query: no loop over the population.
"""

from __future__ import annotations

from html import escape
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa

from auditlib.formats.catalog import PATHS, Action
from auditlib.formats.times import LATEST, format_time
from auditlib.query import Filter, Moment, build_filter, context_path, like_pattern
from auditlib.scan import in_utc
from auditlib.trail import Selection, Trail

# A time or a number that cannot be read must not read as "none stated": it becomes the one that lets a test fail.
_UNREADABLE_TIME = "TIMESTAMPTZ '1970-01-01 00:00:00+00'"  # an end that was over before anything began
_UNREADABLE_START = "TIMESTAMPTZ '9999-12-31 00:00:00+00'"  # a beginning that never comes
_UNREADABLE_USES = "0"
# RFC 3339, or a date alone, which is its midnight in UTC. DuckDB would take `infinity`, the year 290000 and times
# without an offset as well.
_TIME = r"\d{4}-\d\d-\d\d(T([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d))?"

MAX_ITEMS = 10_000  # items of one event; past that it is one item whose subject and entitlement are not read

_BASE = "event_id, source, occurred_at, recorded_at, sequence, row, actor_type, actor_id, action"
_TIMES = {"requested_at": _UNREADABLE_TIME, "valid_from": _UNREADABLE_START, "valid_until": _UNREADABLE_TIME}
_TEXTS = ("request", "requester", "authority")
_LISTS = ("grantee", "entitlement")
_READ = (*_LISTS, *_TEXTS, *_TIMES, "uses", "emergency")  # read at a path of the catalogue's
_CONTEXT = "context."  # how a path into the context begins

COLUMNS = ["item", *_BASE.split(", "), *_LISTS, *_TEXTS, *_TIMES, "uses", "emergency", "decision"]


_TYPES = {"sequence": "int64", "row": "int64", "uses": "float64", "emergency": "bool"} | dict.fromkeys(
    ("occurred_at", "recorded_at", *_TIMES), "datetime64[us, UTC]"
)  # of the columns that hold no texts


class Population(msgspec.Struct, frozen=True):
    """What was drawn, and how: the items, and the numbers an auditor asks for about them."""

    kind: str
    filter: Filter
    actions: tuple[str, ...]
    entitlement: str | None
    items: pd.DataFrame
    events: int
    batches_read: int
    batches_skipped: int

    def statement(self) -> dict[str, Any]:
        """The population as packet.json states it."""
        return {
            "actions": list(self.actions),
            "batches_read": self.batches_read,
            "batches_skipped": self.batches_skipped,
            "entitlement": self.entitlement,
            "events": self.events,
            "filter": self.filter.describe(),
            "items": len(self.items),
            "kind": self.kind,
            "order": "sequence, row, item number",
        }

    def sentences(self) -> list[str]:
        """How it was drawn, in words."""
        since, until = (
            None if moment is None else format_time(moment) for moment in (self.filter.since, self.filter.until)
        )
        period = f"from {since or 'the beginning'} (inclusive) to {until or 'the checkpoint'} (exclusive)"
        limit = f" whose entitlement is {self.entitlement!r}" if self.entitlement else ""
        return [
            f"Population: every successful event of kind {self.kind!r} "
            f"({', '.join(self.actions) or 'no listed action'}) "
            f"that occurred {period}{limit}: {len(self.items):,} items in {self.events:,} events.",
            f"{self.batches_read:,} sealed batches were read in full and hashed; {self.batches_skipped:,} were "
            "skipped, because their seals state that they hold no such event (a statement that deep verification "
            "recomputes).",
        ]

    def __repr__(self) -> str:
        return "\n".join(self.sentences())

    def _repr_html_(self) -> str:
        return "".join(f"<p>{escape(sentence)}</p>" for sentence in self.sentences())


def draw(
    trail: Trail,
    kind: str,
    *,
    since: Moment = None,
    until: Moment = None,
    through: Moment = None,
    tz: str = "UTC",
    entitlement: str | None = None,
    outcome: str | None = "success",
) -> Population:
    """The items of a kind that occurred in the period, in the order (sequence, row, item number).

    `entitlement` is a value or a glob. A kind that the catalogue in force does not know gives an empty population.
    """
    catalog = trail.catalog
    actions = catalog.kinds.get(kind, ()) if catalog else ()
    chosen = msgspec.structs.replace(
        build_filter(catalog, outcome=outcome, since=since, until=until, through=through, tz=tz), actions=actions
    )
    selection = Selection(trail, chosen)
    parts = []
    for names, entry in _alike(trail, actions):
        alike = msgspec.structs.replace(chosen, actions=tuple(names))
        seals = [seal for seal in selection.seals if alike.may_hold(seal)]
        if seals:  # most of a catalogue's actions never occur in a trail
            parts.append(_items(trail, seals, alike, entry, entitlement))
    nothing = pd.DataFrame({name: pd.Series([], dtype=_TYPES.get(name, "str")) for name in COLUMNS})
    items = pd.concat(parts, ignore_index=True) if parts else nothing
    items = items.sort_values(["sequence", "row", "n"], kind="stable", ignore_index=True) if parts else items
    return Population(
        kind=kind,
        filter=chosen,
        actions=tuple(actions),
        entitlement=entitlement,
        items=items[COLUMNS],
        events=len(items[["sequence", "row"]].drop_duplicates()),
        batches_read=len(selection.seals),
        batches_skipped=selection.skipped,
    )


def _alike(trail: Trail, actions: tuple[str, ...]) -> list[tuple[list[str], Action]]:
    """The actions grouped by the places where their facts stand: one query a group."""
    groups: dict[tuple[object, ...], tuple[list[str], Action]] = {}
    for name in actions:
        entry = trail.catalog.actions[name] if trail.catalog else Action("")
        key = (*(getattr(entry, path) for path in PATHS), entry.decision)
        groups.setdefault(key, ([], entry))[0].append(name)
    return list(groups.values())


def _items(trail: Trail, seals: list[Any], chosen: Filter, entry: Action, entitlement: str | None) -> pd.DataFrame:
    condition, values = chosen.sql()
    paths: dict[str, str | None] = {name: getattr(entry, name) for name in _READ}
    pointers = [_keys(path) for path in paths.values() if path and path.startswith(_CONTEXT)]
    listed = ", ".join(_quoted(context_path(keys)) for keys in pointers)
    told = "contains(context, '[') AS arrays"
    if listed:  # a context is parsed at every call: twice for all paths, and again only where it may hold an array
        told += f", json_extract_string(context, [{listed}]) AS texts, json_type(context, [{listed}]) AS types"
    lists = ", ".join(f"{_list(path, pointers)} AS {name}" for name, path in paths.items())
    cells = [f"{name}[1] AS {name}" for name in _TEXTS]
    cells += [f"{_time(f'{name}[1]', unreadable)} AS {name}" for name, unreadable in _TIMES.items()]
    cells.append(
        f"CASE WHEN uses[1] IS NOT NULL THEN coalesce(try_cast(uses[1] AS BIGINT), {_UNREADABLE_USES}) END AS uses"
    )
    cells.append("coalesce(emergency[1] = 'true', false) AS emergency")
    cells.append(f"{_quoted(entry.decision)} AS decision")
    pairs = (
        f"CASE WHEN len(grantee) * len(entitlement) > {MAX_ITEMS} THEN [{{'g': NULL::VARCHAR, 'e': NULL::VARCHAR}}] "
        "ELSE flatten(list_transform(grantee, lambda g: list_transform(entitlement, lambda e: {'g': g, 'e': e}))) END"
    )
    wanted = "TRUE"
    if entitlement is not None:  # an entitlement that cannot be read is kept: it may be the one that was asked for
        wanted = "(pair.e IS NULL OR pair.e LIKE ? ESCAPE '\\')"
        values = [*values, like_pattern(entitlement)]
    statement = f"""
        , told AS (SELECT *, {told} FROM batches WHERE {condition}),
        lists AS (SELECT {_BASE}, {lists} FROM told),
        found AS (SELECT {_BASE}, {", ".join(cells)}, {pairs} AS pairs FROM lists),
        apart AS (SELECT * EXCLUDE pairs, unnest(pairs) AS pair, generate_subscripts(pairs, 1) AS n, len(pairs) AS many
                  FROM found)
        SELECT CASE WHEN many = 1 THEN event_id ELSE event_id || '#' || n END AS item, {_BASE},
               pair.g AS grantee, pair.e AS entitlement, * EXCLUDE ({_BASE}, pair, many)
        FROM apart WHERE {wanted} ORDER BY sequence, row, n"""
    table: pa.Table = in_utc(trail.run(seals, statement, values, apart=True).to_arrow_table())
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _time(text: str, unreadable: str) -> str:
    read = f"CASE WHEN regexp_full_match({text}, '{_TIME}') THEN try_cast({text} AS TIMESTAMPTZ) END"
    within = f"CASE WHEN epoch_us({read}) BETWEEN 0 AND {LATEST} THEN {read} END"
    return f"CASE WHEN {text} IS NOT NULL THEN coalesce({within}, {unreadable}) END"


def _list(path: str | None, pointers: list[list[str]]) -> str:
    """The texts at a path as a list; [NULL] where there is none. Arrays on the way yield every element.

    `pointers` are the paths of `texts` and `types`, by which a context without an array is read.
    """
    if path is None:
        return "[NULL::VARCHAR]"
    if not path.startswith(_CONTEXT):
        party, _, rest = path.partition(".")
        return f"[{party}_{rest}]" if rest else f"[strftime({party}, '%Y-%m-%dT%H:%M:%S.%fZ')]"
    keys = _keys(path)
    place = pointers.index(keys) + 1
    plain = f"[CASE WHEN types[{place}] NOT IN ('OBJECT', 'NULL') THEN texts[{place}] END]"
    every = [context_path(keys)]
    for level in range(1, len(keys) + 1):  # an array may stand at any one level
        every.append(context_path(keys[:level]) + "[*]" + context_path(keys[level:])[1:])
    found = [f"list_value(json_extract(context, {_quoted(every[0])}))"]
    found += [f"json_extract(context, {_quoted(pointer)})" for pointer in every[1:]]
    scalars = "lambda j: j IS NOT NULL AND json_type(j) NOT IN ('ARRAY', 'OBJECT', 'NULL')"
    texts = f"list_transform(list_filter(list_concat({', '.join(found)}), {scalars}), lambda j: j ->> '$')"
    return f"CASE WHEN NOT arrays THEN {plain} ELSE coalesce(nullif({texts}, []), [NULL::VARCHAR]) END"


def _keys(path: str) -> list[str]:
    return path.removeprefix(_CONTEXT).split(".")


def _quoted(text: str | None) -> str:
    return "NULL::VARCHAR" if text is None else "'" + text.replace("'", "''") + "'"
