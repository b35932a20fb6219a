"""Hypothesis strategies: any event and record that DESIGN 4.1 accepts, the odd corners more often than chance."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from auditlib.formats.canonical import canonical, depth
from auditlib.formats.event import (
    ACTOR_TYPES,
    MAX_CONTEXT_BYTES,
    OUTCOMES,
    Actor,
    Event,
    Receipt,
    Record,
    Target,
)
from auditlib.formats.times import LATEST, SECOND, format_time

MAX_INTEGER = 2**53 - 1
NAME_CHARS = "abcdefghijklmnopqrstuvwxyz0123456789_.:/-"

# Quotes, escapes, controls, DEL, a C1 control, line separators, BOM, beyond the BMP, both sides of the surrogates.
ODD_CHARS = '"\\/\b\t\n\f\r\x01\x1f\x7f\x85\u2028\u2029\ufeff\ufffd\uffff\ud7ff\ue000é€𝄞😀\U0010ffff'
# UTF-16 puts U+1D11E (D834 DD1E) before U+FB33; code points put it after (RFC 8785 3.2.3).
ODD_KEYS = [
    "",
    "$enc",
    "\ufb33",
    "𝄞",
    "\U00010000",
    "\uffff",
    "é",
    "e\u0301",
    "a\nb",
    '"',
    "\\",
    "\x1f",
    "\x7f",
    "1",
    "10",
]

characters = st.one_of(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from(ODD_CHARS))
texts = st.text(characters, max_size=12)
ids = st.one_of(
    st.text(characters, min_size=1, max_size=20), st.sampled_from(["x" * 1024, "é" * 512, "𝄞" * 256, '"' * 1024])
)
event_ids = st.one_of(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=24),
    st.sampled_from(['"' * 128, "\\" * 128, "~"]),
)
names = st.one_of(st.text(NAME_CHARS, min_size=1, max_size=20), st.just("a" * 128))
words = st.text(NAME_CHARS.replace(".", ""), min_size=1, max_size=8)
actions = st.one_of(st.lists(words, min_size=2, max_size=4).map(".".join), st.just("a." * 63 + "bc"), st.just("x.y"))
times = st.one_of(
    st.integers(0, LATEST),
    st.integers(0, LATEST // SECOND).map(lambda second: second * SECOND),
    st.sampled_from([0, 1, 999_999, SECOND, LATEST, LATEST - SECOND + 1, 951_782_400 * SECOND, 1_000]),
)
integers = st.one_of(
    st.integers(-MAX_INTEGER, MAX_INTEGER), st.sampled_from([0, -1, MAX_INTEGER, -MAX_INTEGER, 10**15, 10**15 - 1])
)
floats = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer()),
    st.sampled_from(
        [5e-324, -5e-324, 2.2250738585072014e-308, 1e-7, 9.999e-7, 1e-6, 0.1, 1.5, math.pi, 2**52 - 0.5, 1 / 3e-9]
    ),
)
scalars = st.one_of(st.none(), st.booleans(), integers, floats, texts)
keys = st.one_of(texts, st.sampled_from(ODD_KEYS))


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4))


def has_reserved(value: Any) -> bool:
    """Whether an object whose only key is `$enc` stands in it (DESIGN 4.1)."""
    if isinstance(value, dict):
        return set(value) == {"$enc"} or any(has_reserved(item) for item in value.values())
    return isinstance(value, list) and any(has_reserved(item) for item in value)


def nested(levels: int, inner: Any = 1) -> Any:
    """`levels` levels of objects and arrays in turn, the outermost an object."""
    for level in range(levels, 0, -1):
        inner = {"k": inner} if level % 2 else [inner]
    return inner


values = st.recursive(scalars, _containers, max_leaves=12)
contexts = st.one_of(
    st.just({}),
    st.dictionaries(keys, values, max_size=5),
    st.builds(nested, st.integers(1, 8), scalars),
    st.dictionaries(st.sampled_from(ODD_KEYS), scalars, min_size=2, max_size=8),
    st.just({"k": "x" * (MAX_CONTEXT_BYTES - 8)}),
).filter(lambda value: depth(value) <= 8 and not has_reserved(value) and len(canonical(value)) <= MAX_CONTEXT_BYTES)

events = st.builds(
    Event,
    action=actions,
    actor=st.builds(Actor, id=ids, session=st.one_of(st.none(), ids), type=st.sampled_from(ACTOR_TYPES)),
    context=contexts,
    event_id=event_ids,
    occurred_at=times.map(format_time),
    outcome=st.sampled_from(OUTCOMES),
    target=st.builds(Target, id=ids, type=names),
)
records = st.builds(
    Record,
    event=events,
    receipt=st.builds(
        Receipt,
        recorded_at=times.map(format_time),
        source=names,
        source_seq=st.one_of(st.none(), st.integers(1, MAX_INTEGER)),
    ),
)
