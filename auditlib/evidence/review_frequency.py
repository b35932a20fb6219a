"""How often access is reviewed: the spans of the period in which a review is expected and none is recorded."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from auditlib.evidence.answer import Period, listed
from auditlib.evidence.review_verdicts import Review
from auditlib.formats.times import format_time, from_datetime, parse_time, to_datetime
from auditlib.query import zone_of
from auditlib.trail import Trail

MAX_SPANS = 8  # spans without a review that one sentence names
_LAST_YEAR = 9999  # DESIGN 4.1


def expected(months: int) -> str:
    """How often, in words."""
    return "every month" if months == 1 else f"every {months} months"


def missing_reviews(reviews: Sequence[Review], trail: Trail, period: Period, months: int | None) -> Iterator[str]:
    """A sentence for each entitlement that was ever reviewed, where whole spans of the period lack a review of it.

    `reviews` are all of the trail. Spans that end before the trail begins, or after it ends, are not judged.
    """
    if months is None:
        return
    first, last = trail.history.seals.begins, parse_time(trail.recorded[1])
    since = first if period.since is None else period.since
    until = last if period.until is None else min(period.until, last)
    spans = [(a, b) for a, b in _spans(since, until, months, zone_of(period.tz)) if b > first]
    names: list[str | None] = [*sorted({name for review in reviews for name in review.entitlements})]
    for name in names or [None]:
        times = [review.at for review in reviews if name is None or name in review.entitlements]
        empty = [(a, b) for a, b in spans if not any(a <= at < b for at in times)]
        if empty:
            named = [f"from {_day(a)} to {_day(b)}" for a, b in empty[:MAX_SPANS]]
            more = [f"{len(empty) - MAX_SPANS:,} more times"] if len(empty) > MAX_SPANS else []
            what = "" if name is None else f" of {name}"
            spans_told = listed([*named, *more])
            yield f"No review{what} is recorded {spans_told} (exclusive, UTC); one {expected(months)} is expected."


def _spans(since: int, until: int, months: int, zone: ZoneInfo) -> Iterator[tuple[int, int]]:
    """The whole spans of so many months, from the beginning on."""
    local, start, number = to_datetime(since).astimezone(zone).replace(tzinfo=None), since, months
    while (end := _later(local, number, zone)) is not None and end <= until:
        yield start, end
        start, number = end, number + months


def _later(local: datetime, months: int, zone: ZoneInfo) -> int | None:
    year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    if year > _LAST_YEAR:
        return None
    day = min(local.day, monthrange(year, month + 1)[1])
    return from_datetime(local.replace(year=year, month=month + 1, day=day, tzinfo=zone).astimezone(UTC))


def _day(at: int) -> str:
    return format_time(at).removesuffix("T00:00:00Z")
