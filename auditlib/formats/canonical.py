"""Canonical JSON, RFC 8785: one value, one spelling, so that equal things have equal hashes.

    {"a":[1,-0.5,"\\u20ac"],"b":null}

msgspec writes it fast; it agrees with RFC 8785 except on floats and on the order of keys that are not ASCII
(RFC 8785 3.2.3 sorts by UTF-16 code units). There the `rfc8785` package decides.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import rfc8785

from auditlib.errors import MalformedError

MAX_INTEGER = 2**53 - 1  # RFC 8785 3.2.2.3: what an IEEE double holds exactly

_NUL = b"\\u0000"  # the spelling of U+0000, RFC 8785 3.2.2.2

_Read = TypeVar("_Read", bound=msgspec.Struct)
_encoder = msgspec.json.Encoder(order="sorted")


def canonical(value: Any) -> bytes:
    """A JSON value (None, bool, int, float, str, list, dict with str keys) -> its RFC 8785 bytes.

    Raises MalformedError for what RFC 8785 cannot spell: NaN, integers past 2^53 - 1, lone surrogates.
    """
    try:
        if _needs_rfc8785(value):
            return rfc8785.dumps(value)
        return _encoder.encode(value)
    except (rfc8785.CanonicalizationError, msgspec.MsgspecError, ValueError, TypeError) as error:
        raise MalformedError(f"this value has no canonical JSON: {error}.") from None
    except RecursionError:
        raise MalformedError("this value is nested too deeply for canonical JSON.") from None


def canonical_struct(value: msgspec.Struct, free: Any) -> bytes:
    """A struct of texts, integers and `free`, its one part that can be any JSON -> its RFC 8785 bytes."""
    if _needs_rfc8785(free):
        return canonical(msgspec.to_builtins(value))
    try:
        return _encoder.encode(value)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise MalformedError(f"this value has no canonical JSON: {error}.") from None


def _needs_rfc8785(value: Any) -> bool:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return False
    if kind is dict:
        for key, item in value.items():
            if not (type(key) is str and key.isascii()) or (type(item) is not str and _needs_rfc8785(item)):
                return True
        return False
    if kind is list:
        return any(map(_needs_rfc8785, value))
    return kind is not int or not -MAX_INTEGER <= value <= MAX_INTEGER


def read_canonical(data: bytes, decoder: msgspec.json.Decoder[_Read], free: Callable[[_Read], Any]) -> _Read | None:
    """A struct of texts, integers and one free part, out of bytes that are canonical for sure; None for any others.

    For sure: neither rfc8785 nor a slow reader need be asked, because the fast encoder, which only plain values reach,
    gives back the same bytes. Then no key stands twice, and nothing is spelled otherwise than RFC 8785 asks. U+0000,
    which canonical JSON spells in one way alone, is not in it either. `free` gives the free part.
    """
    if _NUL in data:
        return None
    try:
        value = decoder.decode(data)
        if _needs_rfc8785(free(value)) or _encoder.encode(value) != data:
            return None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return value


def parse_json(data: bytes | str) -> Any:
    """JSON text -> a value, as strictly as DESIGN 4.1 asks.

    Numbers become int where integral (1.0 is 1, -0 is 0), float otherwise. Refused, as MalformedError:
    duplicate keys, lone surrogates, U+0000, integers past 2^53 - 1, numbers that are no finite double.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        return check_value(json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant))
    except UnicodeDecodeError as error:
        raise MalformedError(f"not UTF-8 at byte {error.start}.") from None
    except json.JSONDecodeError as error:
        raise MalformedError(f"not valid JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise MalformedError("JSON nested too deeply to be read.") from None
    except ValueError as error:  # Python's own limit on the digits of one integer
        raise MalformedError(f"not valid JSON: {error}.") from None


def check_value(value: Any, where: str = "") -> Any:
    """A value made in Python -> the same value as JSON keeps it (1.0 becomes 1), or MalformedError saying where."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _check_string(value, where)
    if isinstance(value, int):
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            text = str(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length():,} bits"
            raise MalformedError(
                f"{text} is past 2^53 - 1 and would not survive other JSON readers; write it as a string.",
                where=where,
            )
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise MalformedError(f"{value} is not a finite number.", where=where)
        return check_value(int(value), where) if value.is_integer() else value
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise MalformedError(f"the key {key!r} is not a string.", where=where)
        return {_check_string(k, where): check_value(v, f"{where}.{k}" if where else k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [check_value(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise MalformedError(f"{type(value).__name__} is not a JSON value.", where=where)


def depth(value: Any) -> int:
    """Levels of objects and arrays: 0 for a plain value, 1 for `{}` (DESIGN 4.1)."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def _check_string(text: str, where: str) -> str:
    if "\0" in text:
        raise MalformedError("the character U+0000 is not allowed.", where=where)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedError("a lone surrogate is not a character.", where=where) from None
    return text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise MalformedError(f"the key {key[:80]!r} stands twice in one JSON object; keep one of them.")
        found[key] = value
    return found


def _refuse_constant(text: str) -> Any:
    raise MalformedError(f"{text} is not JSON.")
