"""How far the clocks of the sources are off: as the collector measured it, else as the records show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from auditlib.findings import duration, moment
from auditlib.formats.event import source_name
from auditlib.monitor.report import Alarm
from auditlib.monitor.report import Clock as ClockStatus

if TYPE_CHECKING:
    from auditlib.store import Clock

Series = list[tuple[int, int]]  # (time, microseconds ahead of the collector), in order of time


def clocks_of(
    measured: Iterable[Clock], recorded: Mapping[str, Mapping[int, int]], limit: int | None
) -> list[ClockStatus]:
    """One entry an instance: by the collector's measurements, and for who was not measured by the records.

    `recorded` are, by instance and minute, the most that occurred_at passed recorded_at, in microseconds.
    """
    series: dict[str, Series] = {}
    for clock in measured:
        series.setdefault(clock.source, []).append((clock.at, -clock.offset))  # collector minus client, turned round
    found = [_clock(source, "measured", points, limit) for source, points in series.items()]
    for source, minutes in recorded.items():
        if minutes and source not in series:
            found.append(_clock(source, "records", [(at, max(0, minutes[at])) for at in sorted(minutes)], limit))
    return sorted(found, key=lambda clock: clock.source)


def clock_alarms(clocks: Iterable[ClockStatus], limit: int | None) -> Iterable[Alarm]:
    """Clocks that were off by more than the threshold."""
    for clock in clocks:
        if limit is None or clock.since is None:
            continue
        when = f"since {moment(clock.since)}"
        if clock.until is not None:
            when = f"from {moment(clock.since)} to {moment(clock.until)}, no longer"
        median, p99, most = (signed(value) for value in (clock.median, clock.p99, clock.most))
        message = (
            f"the clock of {clock.source} is off by up to {most} (median {median}, 99th percentile {p99}), {when}; "
            f"at most {duration(limit)}."
        )
        yield Alarm("skew", clock.source, message, source=source_name(clock.source), now=clock.until is None)


def signed(micros: int) -> str:
    """`140 s ahead`, `3 s behind`, `less than 1 s`."""
    text = duration(micros)
    return text if text == duration(0) else f"{text} {'ahead' if micros > 0 else 'behind'}"


def _clock(source: str, basis: Literal["measured", "records"], points: Series, limit: int | None) -> ClockStatus:
    ordered = sorted(value for _, value in points)
    by_size = sorted(ordered, key=abs)
    since, until = _run(points, limit)
    return ClockStatus(
        source=source,
        basis=basis,
        measurements=len(points),
        median=ordered[(len(ordered) - 1) // 2],
        p99=by_size[-(-99 * len(by_size) // 100) - 1],  # nearest rank
        most=by_size[-1],
        since=since,
        until=until,
    )


def _run(points: Series, limit: int | None) -> tuple[int | None, int | None]:
    """The newest unbroken run of measurements past the limit: its beginning, and its end unless it goes on."""
    past = [limit is not None and abs(value) > limit for _, value in points]
    if not any(past):
        return None, None
    last = len(past) - 1 - past[::-1].index(True)
    first = last
    while first and past[first - 1]:
        first -= 1
    return points[first][0], None if last == len(points) - 1 else points[last][0]
