"""Canonical JSON is RFC 8785, by the package, by hand, and by the fast path."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import reference
import rfc8785
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlib.errors import MalformedError
from auditlib.formats.canonical import MAX_INTEGER, canonical, check_value, depth, parse_json


@settings(max_examples=300, deadline=None)
@given(strategies.values)
def test_canonical_json_is_rfc_8785(value: Any) -> None:
    """The fast path, the rfc8785 package and a transcription by hand write the same bytes."""
    written = canonical(value)
    assert written == rfc8785.dumps(value)
    assert written == reference.canonical_json(value).encode()


@settings(max_examples=300, deadline=None)
@given(strategies.values)
def test_what_is_written_is_read_back(value: Any) -> None:
    """parse_json undoes canonical, and what it gives is written the same way again."""
    again = parse_json(canonical(value))
    assert again == value
    assert canonical(again) == canonical(value)


@settings(max_examples=500, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_are_written_as_ecmascript_writes_them(value: float) -> None:
    """RFC 8785 3.2.2.3: the shortest digits, in ECMAScript's layout, integral or not."""
    assert rfc8785.dumps(value).decode() == reference.json_number(value)
    if not value.is_integer():
        assert canonical(value).decode() == reference.json_number(value)


def test_known_answers_of_rfc_8785() -> None:
    """RFC 8785 3.2.3 (order of keys) and appendix B (numbers)."""
    keys = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\x80": 6, "\u00f6": 7}
    assert list(json.loads(canonical(keys)).values()) == [2, 4, 6, 7, 1, 5, 3]
    numbers = {5e-324: "5e-324", 1e-7: "1e-7", 0.000001: "0.000001", 333333333.33333329: "333333333.3333333"}
    for value, text in numbers.items():
        assert canonical(value).decode() == text
    assert canonical('€$\x0f\nA\'B"\\\\"/') == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


@pytest.mark.parametrize(
    ("text", "value"), [("1.0", 1), ("-0", 0), ("-0.0", 0), ("1e5", 100_000), ("0.5e1", 5), ("1E-2", 0.01)]
)
def test_one_number_has_one_spelling(text: str, value: float) -> None:
    """DESIGN 4.1: 1.0 is 1, -0 is 0."""
    found = parse_json(text)
    assert (type(found), found, math.copysign(1, found)) == (type(value), value, 1)


REFUSED = {
    "a key twice": b'{"a":1,"a":1}',
    "a key twice by another spelling": b'{"a":1,"\\u0061":2}',
    "a key twice deep inside": b'[{"x":{"a":1,"b":2,"a":3}}]',
    "a lone high surrogate": b'"\\ud800"',
    "a lone low surrogate as a key": b'{"\\udc00":1}',
    "surrogates the wrong way round": b'"\\ude00\\ud83d"',
    "U+0000 in a string": b'"a\\u0000"',
    "U+0000 in a key": b'{"\\u0000":1}',
    "2^53": b"9007199254740992",
    "-2^53": b"-9007199254740992",
    "2^53 as a double": b"9007199254740992.0",
    "an integral double far out": b"1e308",
    "more than a double": b"1e400",
    "NaN": b"NaN",
    "Infinity": b"[-Infinity]",
    "an integer past Python's limit of digits": b"9" * 5000,
    "two values": b"{}{}",
    "nothing": b"",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "not UTF-8": b'"\xff"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "an overlong slash": b'"\xc0\xaf"',
    "a raw control character": b'"\n"',
    "600 levels": b"[" * 600 + b"]" * 600,
    "600 objects": b'{"a":' * 600 + b"1" + b"}" * 600,
    "100,000 levels": b"[" * 100_000,
    "a trailing comma": b"[1,]",
    "a leading zero": b"01",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_json_that_two_readers_could_read_two_ways_is_refused(text: bytes) -> None:
    """Only MalformedError, for bytes and for text alike."""
    with pytest.raises(MalformedError):
        parse_json(text)
    with pytest.raises(MalformedError):
        parse_json(text.decode(errors="surrogatepass") if b"\xff" not in text and b"\xc0" not in text else "\x00")


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=40), st.text('{}[]":,\\u0123e-+.tfn ', max_size=30).map(str.encode)))
def test_any_bytes_parse_or_are_malformed(data: bytes) -> None:
    """No other exception comes out, and what parses has a canonical form that parses to the same."""
    try:
        value = parse_json(data)
    except MalformedError:
        return
    assert parse_json(canonical(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        [10**5000],
        {1: 2},
        {"a": {1}},
        b"a",
        "\ud800",
        {"\ud800": 1},
        object(),
    ],
    ids=["nan", "inf", "2^53", "-2^53", "10^5000", "key", "set", "bytes", "surrogate", "surrogate-key", "object"],
)
def test_what_json_cannot_spell_is_refused(value: Any) -> None:
    """Whoever writes canonical JSON without checking first still gets no bytes that others could not read."""
    with pytest.raises(MalformedError):
        canonical(value)
    with pytest.raises(MalformedError):
        check_value(value)


def test_errors_say_where_and_stay_short() -> None:
    """The path to the value is named; a number of 5,000 digits is not repeated."""
    with pytest.raises(MalformedError, match=r"^a\.b\[1\]: ") as caught:
        check_value({"a": {"b": [1, 10**5000]}})
    assert len(str(caught.value)) < 200


def test_python_values_become_what_json_keeps() -> None:
    """Tuples are lists, integral floats integers, and booleans stay booleans."""
    kept = check_value({"a": (1.0, True, -0.0, 0.5)})
    assert repr(kept) == "{'a': [1, True, 0, 0.5]}"


@pytest.mark.parametrize(
    ("value", "levels"), [(1, 0), ("[{", 0), ({}, 1), ([], 1), ({"a": [{}]}, 3), ([[], [[]]], 3), ({"a": 1}, 1)]
)
def test_depth_counts_objects_and_arrays(value: Any, levels: int) -> None:
    """DESIGN 4.1: the context is the first level, arrays count."""
    assert depth(value) == levels


def test_the_integer_bound_is_that_of_a_double() -> None:
    """±(2^53 - 1) are kept, one more is not."""
    assert parse_json(str(MAX_INTEGER)) == MAX_INTEGER == 2**53 - 1
    assert canonical(-MAX_INTEGER) == b"-9007199254740991"
