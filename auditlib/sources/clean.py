"""Other systems' records -> what the context of an event can hold (DESIGN 4.1), without credentials."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any
from urllib.parse import unquote

from auditlib.errors import MalformedError
from auditlib.formats.canonical import MAX_INTEGER, canonical, depth
from auditlib.formats.event import MAX_CONTEXT_BYTES, MAX_CONTEXT_DEPTH
from auditlib.sources.redact import (
    ACCESS,
    CREDENTIALS,
    POLICY,
    REDACTED,
    SECRET,
    VARIABLES,
    hide,
    rule,
    scrub,
)

MAX_NESTING = 100  # levels of one record; deeper is no log that any service wrote
MARKER_BYTES = 160  # canonical bytes; a marker for omitted data is shorter, so smaller parts are never replaced

# Keys, lower-case without punctuation, whose values stay inside credentials and variables.
_KEPT_IN_CREDENTIALS = frozenset({"accesskeyid", "expiration"})
_KEPT_IN_VARIABLES = frozenset({"name", "key", "type", "kmskeyarn"})
# In [{"name": "password", "value": ...}] the name says what the value is.
_NAME_KEYS = frozenset(
    {"name", "Name", "key", "Key", "parameterKey", "ParameterKey", "fieldName", "headerName", "attribute"}
)
_VALUE_KEYS = frozenset({"value", "values", "parametervalue", "fieldvalue", "headervalue", "stringvalue"})


def clean(record: dict[str, Any], secret: frozenset[str]) -> dict[str, Any]:
    """The record without credentials, every value fit for a context; levels count as they will there.

    `secret`: keys, lower-case without punctuation, whose values are secret in this record. Raises MalformedError
    past MAX_NESTING levels.
    """
    found: dict[str, Any]
    found, _ = _object(record, 1, None, secret)
    return found


def _value(value: Any, level: int, kept: frozenset[str] | None, extra: frozenset[str]) -> tuple[Any, int]:
    """A value and its height. `kept` is set inside credentials and variables: the rest of them is hidden."""
    if isinstance(value, str):
        return (scrub(value) if kept is None else hide(value)), 0
    if isinstance(value, dict):
        return _object(value, level, kept, extra)
    if isinstance(value, list):
        _check_nesting(level)
        pairs = [_value(item, level + 1, kept, extra) for item in value]
        items = [item for item, _ in pairs]
        return _cut(items, level, 1 + max((height for _, height in pairs), default=0))
    if value is None or isinstance(value, bool):
        return value, 0
    if kept is not None:
        return REDACTED, 0
    if isinstance(value, float) and not math.isfinite(value):
        return str(value), 0
    return (value if -MAX_INTEGER <= value <= MAX_INTEGER else str(value)), 0


def _object(value: dict[str, Any], level: int, kept: frozenset[str] | None, extra: frozenset[str]) -> tuple[Any, int]:
    _check_nesting(level)
    result: dict[str, Any] = {}
    height = 0
    names = [value[key] for key in _NAME_KEYS & value.keys()]
    named = any(rule(name)[0] == SECRET for name in names if isinstance(name, str))
    for key, item in value.items():
        kind, plain = rule(key)
        found: Any
        below = 0
        if plain in extra:
            found = hide(item, references=False)
        elif kind == SECRET or (named and plain in _VALUE_KEYS) or (kind == ACCESS and isinstance(item, str)):
            found = hide(item)
        else:
            item_kept, inner = kept, item
            if kept is not None and plain in kept:
                item_kept = None
            elif kind == CREDENTIALS:
                item_kept = _KEPT_IN_CREDENTIALS
            elif kind == VARIABLES and not isinstance(item, str):
                item_kept = _KEPT_IN_VARIABLES
            elif kind == POLICY and isinstance(item, str):
                inner = _policy(item)
            found, below = _value(inner, level + 1, item_kept, extra)
        name = scrub(key)
        while name in result:
            name += "~"
        result[name] = found
        height = max(height, below)
    if list(result) == ["$enc"]:  # reserved, DESIGN 4.1
        result = {"$$enc": result["$enc"]}
    return _cut(result, level, 1 + height)


def _cut(value: Any, level: int, height: int) -> tuple[Any, int]:
    """At the last level that an event holds, a marker for what has more below it."""
    if level == MAX_CONTEXT_DEPTH and height > 1:
        return _marker(value, "too deep"), 1
    return value, height


def _check_nesting(level: int) -> None:
    if level > MAX_NESTING:
        raise MalformedError(f"it is nested more than {MAX_NESTING} levels deep.")


def _policy(text: str) -> Any:
    """A policy written as JSON in a text, URL-encoded or not -> the object; anything else as it stands."""
    source = unquote(text) if text[:3].upper() == "%7B" else text
    if source.lstrip()[:1] != "{":
        return text
    try:
        return json.loads(source, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice")
    return value


def _refuse(text: str) -> Any:
    raise ValueError(text)


def fit(context: dict[str, Any]) -> None:
    """Replaces the largest parts by markers until the context is within its limit (DESIGN 4.1)."""
    while len(canonical(context)) > MAX_CONTEXT_BYTES:
        node: Any = context
        while True:
            items = list(node.items()) if isinstance(node, dict) else list(enumerate(node))
            key, value = max(items, key=lambda item: len(canonical(item[1])))
            size = len(canonical(value))
            inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
            largest = max((len(canonical(item)) for item in inner), default=0)
            if largest <= MARKER_BYTES or largest * 2 < size:
                break
            node = value
        node[key] = _marker(value, "too large")


def within(value: dict[str, Any], level: int) -> dict[str, Any]:
    """Fields that stand at this level of a context, not where they were cleaned for: markers for what is too deep."""
    return {
        key: _marker(item, "too deep") if depth(item) + level > MAX_CONTEXT_DEPTH else item
        for key, item in value.items()
    }


def _marker(value: Any, reason: str) -> dict[str, Any]:
    """What stands in place of a value left out: why, and the size and hash of its canonical bytes."""
    data = canonical(value)
    return {"omitted": reason, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
