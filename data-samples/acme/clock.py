"""Acme's calendar: one time zone (Europe/Berlin), German public holidays, 2026-01-01 to 2026-07-01 UTC.

The offset is written out, not read from a time zone database, so that no machine can make another trail.
"""

from __future__ import annotations

from datetime import date, timedelta

from auditlib.formats.times import DAY, SECOND, format_time, parse_time, to_datetime

MS = 1_000  # microseconds
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
SINCE = parse_time("2026-01-01T00:00:00Z")
UNTIL = parse_time("2026-07-01T00:00:00Z")
SUMMER_TIME = "2026-03-29 03:00"  # Berlin wall clock; UTC+1 before, UTC+2 from here on
DAYS = [date(2026, 1, 1) + timedelta(days=n) for n in range((UNTIL - SINCE) // DAY)]
HOLIDAYS = {
    date(2026, 1, 1),
    date(2026, 4, 3),  # Good Friday
    date(2026, 4, 6),  # Easter Monday
    date(2026, 5, 1),
    date(2026, 5, 14),  # Ascension Day
    date(2026, 5, 25),  # Whit Monday
}


def berlin(text: str) -> int:
    """`2026-03-12 14:30` on a wall clock in Berlin -> microseconds since 1970 UTC."""
    offset = "+02:00" if text >= SUMMER_TIME else "+01:00"
    return parse_time(f"{text[:10]}T{text[11:]}:00{offset}")


def at_minute(day: date, minute: int) -> int:
    """A day and a minute of it in Berlin (720 is noon, 1,500 is 01:00 the next day) -> microseconds UTC."""
    day += timedelta(days=minute // 1440)
    return berlin(f"{day.isoformat()} {minute % 1440 // 60:02d}:{minute % 60:02d}")


def berlin_day(at: int) -> date:
    """The day on which a moment falls in Berlin."""
    summer = at >= berlin(SUMMER_TIME)
    return to_datetime(at + (2 if summer else 1) * HOUR).date()


def is_working_day(day: date) -> bool:
    """Monday to Friday and no public holiday."""
    return day.weekday() < 5 and day not in HOLIDAYS


def next_working_time(at: int) -> int:
    """The same time of day, on this day if it is a working day, else on the next that is."""
    while not is_working_day(berlin_day(at)):
        at += DAY
    return at


def text(at: int) -> str:
    """Microseconds since 1970 UTC -> canonical text."""
    return format_time(at)
