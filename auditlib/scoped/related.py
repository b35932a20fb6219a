"""What ties events together: the same target, the same session, the same request (an approval and what it approved)."""

from __future__ import annotations

from typing import Any

import msgspec

from auditlib.formats.catalog import Catalog
from auditlib.query import context_path

Condition = tuple[str, list[Any]]
_COLUMNS = {"actor.id": "actor_id", "target.id": "target_id"}


def relations(row: dict[str, Any], catalog: Catalog | None) -> dict[str, Condition]:
    """One record's columns -> by `request`, `session`, `target` the condition of the events tied to it."""
    found: dict[str, Condition] = {}
    request = _request(row, catalog) if catalog else None
    if request:
        found["request"] = request
    if row["actor_session"] is not None:
        found["session"] = "actor_session = ?", [row["actor_session"]]
    found["target"] = "target_type = ? AND target_id = ?", [row["target_type"], row["target_id"]]
    return found


def _request(row: dict[str, Any], catalog: Catalog) -> Condition | None:
    """The same request id, in each action where the catalogue says that it stands."""
    ways: dict[str, list[str]] = {}
    for name, action in catalog.actions.items():
        if action.request and (action.request in _COLUMNS or action.request.startswith("context.")):
            ways.setdefault(action.request, []).append(name)
    mine = next((way for way, names in ways.items() if row["action"] in names), None)
    value = None if mine is None else _value(row, mine)
    if not isinstance(value, str):
        return None
    parts: list[str] = []
    values: list[Any] = []
    for way, names in ways.items():
        column = _COLUMNS.get(way, "json_extract_string(context, ?)")
        parts.append(f"(action IN ({', '.join('?' * len(names))}) AND {column} = ?)")
        values += [*names, *([] if way in _COLUMNS else [context_path(way.split(".")[1:])]), value]
    return " OR ".join(parts), values


def _value(row: dict[str, Any], way: str) -> Any:
    if way in _COLUMNS:
        return row[_COLUMNS[way]]
    value = msgspec.json.decode(row["context"])
    for key in way.split(".")[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    return value
