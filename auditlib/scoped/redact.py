"""Fields taken out of rows that were read, at every depth and in every element of a list on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from auditlib.errors import MismatchError
from auditlib.formats.canonical import canonical
from auditlib.formats.columns import SCHEMA

SESSION = "actor.session"
Path = tuple[str, ...]


def context_paths(fields: Sequence[str]) -> tuple[Path, ...]:
    """`context.a.b` -> ("a", "b"); other fields are left to the caller."""
    return tuple(tuple(field.split(".")[1:]) for field in fields if field.startswith("context."))


def meets(path: Path, hidden: Sequence[Path]) -> bool:
    """Whether a filter on this path would tell something of a field left out: it is that, holds it, or lies in it."""
    return any(path[: len(other)] == other[: len(path)] for other in hidden)


def without(table: pa.Table, fields: Sequence[str]) -> pa.Table:
    """The same rows without the fields; a context that has none of them stays the very same text."""
    if SESSION in fields:
        place = table.schema.get_field_index("actor_session")
        empty = pa.nulls(table.num_rows, pa.string())
        table = table.set_column(place, SCHEMA.field("actor_session"), empty)
    hidden = context_paths(fields)
    if hidden:
        place = table.schema.get_field_index("context")
        texts = [_cut(text, hidden) for text in table.column("context").to_pylist()]
        table = table.set_column(place, table.schema.field(place), pa.array(texts, pa.string()))
    return table


def _cut(text: str, hidden: Sequence[Path]) -> str:
    try:
        context = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        raise MismatchError("a context is no JSON (check 6).", remedy="Run `auditlib verify --deep`.") from None
    cut = [_remove(context, path) for path in hidden]  # each of them
    return canonical(context).decode() if any(cut) else text


def _remove(value: Any, path: Path) -> bool:
    if isinstance(value, list):
        removed = [_remove(item, path) for item in value]  # in every element, not only up to the first
        return any(removed)
    if not isinstance(value, dict) or path[0] not in value:
        return False
    if len(path) == 1:
        del value[path[0]]
        return True
    return _remove(value[path[0]], path[1:])
