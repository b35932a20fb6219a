"""Minimal disclosure: fields left out of a packet, and nothing from which they could be guessed back (DESIGN 4.2).

    --redact context.ip --redact actor.session

A record without its field keeps its place in the proof by its leaf hash, in place of the blind: that a record was
sealed there is still proven, what it said is not. Without its blind, 128 random bits, the leaf tells nothing. That no
value left out stands elsewhere in the packet is looked for before anything is written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow.parquet as pq

from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical, parse_json
from auditlib.formats.catalog import PATHS, Catalog

_FIELD = re.compile(r"context(\.[^.]+)+|actor\.session")
_LEAST_CHARS = 4  # characters of a value that is looked for; shorter ones stand everywhere


class Cut(msgspec.Struct):
    """What was left out: the values by field, and how many records lack something."""

    fields: tuple[str, ...]
    values: dict[str, set[str]] = msgspec.field(default_factory=dict)

    def record(self, text: bytes) -> bytes:
        """A canonical record without the fields; the very same bytes where it has none of them."""
        if not self.fields:
            return text
        record = parse_json(text)
        found = [field for field in self.fields if _remove(record, field, self.values.setdefault(field, set()))]
        return canonical(record) if found else text


def check_fields(fields: Sequence[str], catalog: Catalog | None) -> tuple[str, ...]:
    """The fields, sorted; MalformedError for one that cannot be left out, because the answer rests on it."""
    for field in fields:
        if not _FIELD.fullmatch(field):
            raise MalformedError(
                f"{field!r} cannot be left out.", where="--redact", remedy="Name context.SOMETHING or actor.session."
            )
        for name, action in (catalog.actions if catalog else {}).items():
            paths = [path for path in (getattr(action, kind) for kind in PATHS) if path]
            if any(path == field or path.startswith(f"{field}.") or field.startswith(f"{path}.") for path in paths):
                raise MalformedError(f"{field} of {name} is what answers rest on.", where="--redact")
    return tuple(sorted(set(fields)))


def check_leaks(cut: Cut, payload: Mapping[str, bytes]) -> None:
    """MalformedError where a value that was left out stands in some file all the same, as text or in a table."""
    for field, values in sorted(cut.values.items()):
        sought = sorted(value for value in values if len(value) >= _LEAST_CHARS)
        if not sought:
            continue
        pattern = re.compile("|".join(re.escape(value) for value in sought))
        for name, data in sorted(payload.items()):
            if any(pattern.search(text) for text in _texts(name, data)):
                raise MalformedError(
                    f"a value of {field} stands in {name} all the same.",
                    where="--redact",
                    remedy="The notebook shows it, or another field holds it: leave that out too.",
                )


def _remove(record: dict[str, Any], field: str, values: set[str]) -> bool:
    if field == "actor.session":
        actor = record["event"]["actor"]
        gone, actor["session"] = actor["session"], None
        values.update(_scalars(gone))
        return gone is not None
    return _remove_path(record["event"], field.split("."), values)


def _remove_path(place: Any, path: Sequence[str], values: set[str]) -> bool:
    """Take the field out of a place and, where a list stands on the way, out of each of its elements."""
    if isinstance(place, list):
        removed = [_remove_path(element, path, values) for element in place]  # of all, not only up to the first
        return any(removed)
    if not isinstance(place, dict) or path[0] not in place:
        return False
    if len(path) > 1:
        return _remove_path(place[path[0]], path[1:], values)
    values.update(_scalars(place.pop(path[0])))
    return True


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _scalars(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _scalars(inner)


def _texts(name: str, data: bytes) -> Iterator[str]:
    if name.startswith("tables/") and name.endswith(".parquet"):
        table = pq.read_table(io.BytesIO(data))
        for column in table.columns:
            yield "\n".join(map(str, column.to_pylist()))
    else:
        yield data.decode(errors="replace")
