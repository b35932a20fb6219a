"""The formats once more, slow and obvious: every definition transcribed as its standard writes it.

Nothing here imports auditlib, so that the two can only agree by both being right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import rfc8785

# --- RFC 6962 2.1: D[n] is a list of entries -----------------------------------------------------------------


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def largest_power_of_two_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(entries: Sequence[bytes]) -> bytes:
    """MTH(D[n])."""
    n = len(entries)
    if n == 0:
        return sha256(b"")
    if n == 1:
        return sha256(b"\x00" + entries[0])
    k = largest_power_of_two_below(n)
    return sha256(b"\x01" + mth(entries[0:k]) + mth(entries[k:n]))


def path(m: int, entries: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]), RFC 6962 2.1.1."""
    n = len(entries)
    if n == 1:
        return []
    k = largest_power_of_two_below(n)
    if m < k:
        return [*path(m, entries[0:k]), mth(entries[k:n])]
    return [*path(m - k, entries[k:n]), mth(entries[0:k])]


def proof(m: int, entries: Sequence[bytes]) -> list[bytes]:
    """PROOF(m, D[n]), RFC 6962 2.1.2."""
    return subproof(m, entries, True)


def subproof(m: int, entries: Sequence[bytes], b: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b), RFC 6962 2.1.2."""
    n = len(entries)
    if m == n:
        return [] if b else [mth(entries)]
    k = largest_power_of_two_below(n)
    if m <= k:
        return [*subproof(m, entries[0:k], b), mth(entries[k:n])]
    return [*subproof(m - k, entries[k:n], False), mth(entries[0:k])]


# --- DESIGN 4.7: the tree with holes ------------------------------------------------------------------------


def holes(entries: Sequence[bytes], shown: set[int]) -> list[bytes]:
    """The hashes of the maximal subtrees without a shown entry, left to right."""
    return list(_holes(entries, shown, 0))


def _holes(entries: Sequence[bytes], shown: set[int], start: int) -> Iterator[bytes]:
    n = len(entries)
    if not any(start <= index < start + n for index in shown):
        yield mth(entries)
    elif n > 1:
        k = largest_power_of_two_below(n)
        yield from _holes(entries[:k], shown, start)
        yield from _holes(entries[k:], shown, start + k)


def root_with_holes(size: int, shown: dict[int, bytes], hashes: list[bytes]) -> bytes:
    """The root over `size` leaves; shown entries by index, one of `hashes` for each subtree without one."""
    rest = list(hashes)

    def walk(start: int, n: int) -> bytes:
        if not any(start <= index < start + n for index in shown):
            return rest.pop(0)
        if n == 1:
            return sha256(b"\x00" + shown[start])
        k = largest_power_of_two_below(n)
        left = walk(start, k)
        return sha256(b"\x01" + left + walk(start + k, n - k))

    found = walk(0, size)
    assert not rest
    return found


# --- DESIGN 4.2: record and leaf ----------------------------------------------------------------------------


def plain_event(event: Any) -> dict[str, Any]:
    """An event as a plain dict."""
    return {
        "action": event.action,
        "actor": {"id": event.actor.id, "session": event.actor.session, "type": event.actor.type},
        "context": event.context,
        "event_id": event.event_id,
        "occurred_at": event.occurred_at,
        "outcome": event.outcome,
        "target": {"id": event.target.id, "type": event.target.type},
    }


def plain_record(record: Any) -> dict[str, Any]:
    """A record as a plain dict."""
    receipt = record.receipt
    return {
        "event": plain_event(record.event),
        "receipt": {
            "recorded_at": receipt.recorded_at,
            "source": receipt.source,
            "source_seq": receipt.source_seq,
        },
    }


def canonical_record(record: Any) -> bytes:
    """RFC 8785 over the plain dict."""
    return rfc8785.dumps(plain_record(record))


def entry(batch_blind: bytes, index: int, record: bytes) -> bytes:
    """RFC 6962 entry i: blind_i || canonical record."""
    stream = hashlib.shake_256(batch_blind).digest(16 * (index + 1))
    return stream[16 * index :] + record


def leaf(batch_blind: bytes, index: int, record: bytes) -> bytes:
    """SHA-256(0x00 || blind_i || canonical record)."""
    return sha256(b"\x00" + entry(batch_blind, index, record))


# --- RFC 8785 3.2.2: strings and numbers, by hand -----------------------------------------------------------

_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def json_string(text: str) -> str:
    """RFC 8785 3.2.2.2."""
    return '"' + "".join(_SHORT.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 0x20 else c) for c in text) + '"'


def json_number(value: float) -> str:
    """ECMAScript Number::toString (RFC 8785 3.2.2.3), from the shortest digits that Python's repr finds."""
    if value == 0:
        return "0"
    mantissa, _, exponent = f"{value!r}".lower().lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = whole + fraction
    point = len(whole) + int(exponent or 0)  # 0.digits * 10^point
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.lstrip("0").rstrip("0")
    k, n, sign = len(digits), point, "-" if value < 0 else ""
    if k <= n <= 21:
        return sign + digits + "0" * (n - k)
    if 0 < n <= 21:
        return sign + digits[:n] + "." + digits[n:]
    if -6 < n <= 0:
        return sign + "0." + "0" * -n + digits
    power = f"e{'+' if n > 0 else '-'}{abs(n - 1)}"
    return sign + digits[0] + ("." + digits[1:] if k > 1 else "") + power


def canonical_json(value: Any) -> str:
    """RFC 8785 by hand, independent of the package."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json_string(value)
    if isinstance(value, int | float):
        return str(value) if isinstance(value, int) else json_number(value)
    if isinstance(value, list):
        return "[" + ",".join(map(canonical_json, value)) + "]"
    keys = sorted(value, key=lambda key: key.encode("utf-16-be"))  # RFC 8785 3.2.3: UTF-16 code units
    return "{" + ",".join(f"{json_string(key)}:{canonical_json(value[key])}" for key in keys) + "}"


# --- RFC 3339, by hand --------------------------------------------------------------------------------------


def days_before(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date at or after it, counted one year and one month at a time."""

    def leap(y: int) -> bool:
        return y % 4 == 0 and (y % 100 != 0 or y % 400 == 0)

    years = sum(366 if leap(y) else 365 for y in range(1970, year)) - (365 if year == 1969 else 0)
    lengths = [31, 29 if leap(year) else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    if not 1 <= month <= 12 or not 1 <= day <= lengths[month - 1]:
        raise ValueError("no such day")
    return years + sum(lengths[: month - 1]) + day - 1


def parse_time(text: str) -> int:
    """`YYYY-MM-DDThh:mm:ss[.f+](Z|±hh:mm)` -> microseconds since 1970; ValueError for anything else.

    Years 1969 to 9999 as written (1969 only with an offset that carries it into 1970).
    """

    def number(part: str, width: int) -> int:
        if len(part) != width or any(c not in "0123456789" for c in part):
            raise ValueError("not digits")
        return int(part)

    if any(text[at : at + 1] != c for at, c in ((4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":"))):
        raise ValueError("not RFC 3339")
    year, month, day = number(text[0:4], 4), number(text[5:7], 2), number(text[8:10], 2)
    hour, minute, second = (number(text[at : at + 2], 2) for at in (11, 14, 17))
    if hour > 23 or minute > 59 or second > 59 or year < 1969:
        raise ValueError("out of range")
    rest, micros = text[19:], 0
    if rest.startswith("."):
        end = 1
        while rest[end : end + 1] in tuple("0123456789"):
            end += 1
        if end == 1:
            raise ValueError("no fraction")
        micros = int((rest[1:end] + "000000")[:6])
        rest = rest[end:]
    shift = 0
    if rest != "Z":
        if len(rest) != 6 or rest[0] not in "+-" or rest[3] != ":":
            raise ValueError("no offset")
        hours, minutes = number(rest[1:3], 2), number(rest[4:6], 2)
        if hours > 23 or minutes > 59:
            raise ValueError("offset out of range")
        shift = (hours * 60 + minutes) * 60 * (1 if rest[0] == "+" else -1)
    seconds = ((days_before(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - shift
    if not 0 <= seconds < 253_402_300_800:
        raise ValueError("outside 1970 to 9999")
    return seconds * 1_000_000 + micros
