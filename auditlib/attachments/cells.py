"""One cell of a list from outside -> a value of its kind; times in microseconds since 1970 UTC.

2026-03-31T16:00:00+02:00   a moment; also with a blank for the T, without seconds
2026-03-31 16:00            the same in the declared time zone, where that hour happens exactly once
2026-03-31                  where a day may stand: it begins or ends at the cut-off hour, else at midnight
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from auditlib.attachments.shapes import DECISIONS, RULES, Kind
from auditlib.errors import MalformedError
from auditlib.formats.times import LATEST, from_datetime, parse_time, to_datetime

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d(?:\.\d+)?)? ?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,9}")
MAX_CHARS = 64  # characters of a cell that is read as a time

Value = str | int


class Clock(msgspec.Struct, frozen=True):
    """How the times of one list are read: its zone, the hour that ends a day, and when it was exported."""

    zone: ZoneInfo
    cutoff: time | None
    exported_at: int

    def reader(self, kind: Kind) -> Callable[[str], Value]:
        """The function that reads a cell of a kind; it raises MalformedError, a sentence without a place."""
        readers: dict[Kind, Callable[[str], Value]] = {
            "text": str,
            "decision": lambda text: _one_of(DECISIONS, text),
            "rule": lambda text: _one_of(RULES, text),
            "moment": self._past,
            "begin": lambda text: self._begin_or_end(text, ends=False),
            "end": lambda text: self._begin_or_end(text, ends=True),
            "day": lambda text: _day(text).isoformat(),
            "whole": _whole,
        }
        return readers[kind]

    def _past(self, text: str) -> int:
        """What happened: it cannot lie after the export that tells of it."""
        if _DAY.fullmatch(text):
            raise MalformedError(f"{text!r} is a day; state the time as well, like 2026-03-31T16:00:00+02:00.")
        at = self._moment(text)
        if at > self.exported_at:
            raise MalformedError(f"{text!r} lies after exported_at.")
        return at

    def _begin_or_end(self, text: str, *, ends: bool) -> int:
        if not _DAY.fullmatch(text):
            return self._moment(text)
        day = _day(text)
        if self.cutoff is None and ends:
            if day == date.max:
                return LATEST
            day += timedelta(days=1)
        # Systems write "since ever" as 1900-01-01 and "open" as 9999-12-31: the ends of what a time can be here.
        moment = datetime.combine(day, self.cutoff or time(0), self.zone)
        return min(max(from_datetime(moment), 0), LATEST)

    def _moment(self, text: str) -> int:
        match = _MOMENT.fullmatch(text) if len(text) <= MAX_CHARS else None
        if match is None:
            raise MalformedError(f"{text[:80]!r} is no time; write it like 2026-03-31T16:00:00+02:00.")
        day, hour, second, offset = match.groups()
        at = parse_time(f"{day}T{hour}{second or ':00'}{offset or 'Z'}")
        return at if offset else self._local(text, to_datetime(at).replace(tzinfo=None))

    def _local(self, text: str, wall: datetime) -> int:
        """A wall-clock time in the declared zone; PEP 495: the two folds differ where clocks were put on or back."""
        first, second = (wall.replace(tzinfo=self.zone, fold=fold) for fold in (0, 1))
        if first.utcoffset() != second.utcoffset():
            there = first.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None) == wall
            happens = "happened twice" if there else "did not happen"
            raise MalformedError(f"{text!r} {happens} in {self.zone.key}; export it with its offset from UTC.")
        at = from_datetime(first)
        if not 0 <= at <= LATEST:
            raise MalformedError(f"{text!r} lies outside the years 1970 to 9999 in UTC.")
        return at


def _day(text: str) -> date:
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise MalformedError(f"{text[:80]!r} is no day; write it like 2026-03-31.")


def _one_of(known: tuple[str, ...], text: str) -> str:
    if text not in known:
        raise MalformedError(f"{text[:80]!r} is none of {', '.join(known)}.")
    return text


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise MalformedError(f"{text[:80]!r} is no whole number.")
    return int(text)
