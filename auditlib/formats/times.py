"""Times as text: `2026-01-08T14:32:07Z` or `2026-01-08T14:32:07.120000Z`, and nothing between (DESIGN 4.1).

Inside the library a time is an `int`: microseconds since 1970-01-01T00:00:00Z.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from auditlib.errors import MalformedError

SECOND = 1_000_000  # microseconds
DAY = 86_400 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = 253_402_300_800 * SECOND - 1  # 9999-12-31T23:59:59.999999Z, DESIGN 4.1
MAX_TIME_CHARS = 64  # characters; digits past six are cut off, so more say nothing

_BARE_EPOCH = EPOCH.replace(tzinfo=None)  # datetime is twice as fast where no offset is asked for
_MICROSECOND = timedelta(microseconds=1)
_CANONICAL_CHARS = (20, 27)  # characters of a canonical time: whole seconds, or six digits

_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)


def parse_time(text: str) -> int:
    """RFC 3339 text with an offset -> microseconds since 1970 UTC; digits past six are cut off.

    Raises MalformedError for anything else: no offset, a leap second `:60`, a year outside 1970 to 9999.
    """
    known = _canonical(text)
    return _parse(text) if known is None else known


def _canonical(text: str) -> int | None:
    """The time that a canonical text states; None for any other text, whether it states a time or not.

    What `fromisoformat` reads is far more than RFC 3339; only what it writes again to the same letter is taken.
    """
    if len(text) not in _CANONICAL_CHARS or text[-1] != "Z":
        return None
    bare = text[:-1]
    try:
        moment = datetime.fromisoformat(bare)
    except ValueError:
        return None
    if moment.tzinfo is not None or moment < _BARE_EPOCH or moment.isoformat() != bare:
        return None
    return (moment - _BARE_EPOCH) // _MICROSECOND


def _parse(text: str) -> int:
    """See parse_time: any spelling, a part at a time."""
    match = _RFC3339.fullmatch(text) if len(text) <= MAX_TIME_CHARS else None
    if match is None:
        raise MalformedError(
            f"{text[:80]!r} is not a time; write it like 2026-01-08T14:32:07Z or 2026-01-08T15:32:07.5+01:00."
        )
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, offset = match.group(7) or "", match.group(8)
    micros = int(fraction[:6].ljust(6, "0"))
    try:
        moment = datetime(year, month, day, hour, minute, second, micros, tzinfo=UTC)
    except ValueError as error:
        raise MalformedError(f"{text!r} is not a time: {error}.") from None
    shift = 0
    if offset != "Z":
        hours, minutes = int(offset[1:3]), int(offset[4:6])
        if hours > 23 or minutes > 59:
            raise MalformedError(f"{text!r} has an offset past 23:59.")
        shift = (hours * 3600 + minutes * 60) * (-1 if offset[0] == "-" else 1)
    value = (moment - EPOCH) // _MICROSECOND - shift * SECOND
    if not 0 <= value <= LATEST:
        raise MalformedError(f"{text!r} lies outside the years 1970 to 9999 in UTC.")
    return value


def format_time(micros: int) -> str:
    """Microseconds since 1970 UTC -> the one canonical text: whole seconds, or exactly six digits."""
    try:
        moment = _BARE_EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        raise MalformedError(f"{micros} microseconds after 1970 lie outside the years 1 to 9999.") from None
    return f"{moment.isoformat()}Z"  # isoformat leaves out a fraction of zero


def parse_canonical_time(text: str) -> int:
    """Like parse_time, but refuses any spelling other than the canonical one."""
    known = _canonical(text)
    if known is None:
        raise MalformedError(f"{text!r} is not the canonical spelling {format_time(_parse(text))!r}.")
    return known


def canonical_time(text: str) -> str:
    """Any text that parse_time reads -> the canonical text of the same time."""
    return text if _canonical(text) is not None else format_time(_parse(text))


def to_datetime(micros: int) -> datetime:
    """Microseconds since 1970 UTC -> an aware datetime."""
    return EPOCH + timedelta(microseconds=micros)


def from_datetime(moment: datetime) -> int:
    """An aware datetime -> microseconds since 1970 UTC. Raises MalformedError without an offset."""
    if moment.tzinfo is None:
        raise MalformedError(f"{moment.isoformat()} has no offset from UTC; say which time zone it is in.")
    return (moment - EPOCH) // _MICROSECOND
