"""The figures held against their thresholds.

Everything past a threshold within the period is broken, also what is over by now: `Alarm.now` tells the two apart.
A source that sends no heartbeat and of which nobody declared how long it may be silent is told and not judged, because
for it quiet and broken look alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditlib.findings import duration, moment
from auditlib.monitor.clocks import clock_alarms
from auditlib.monitor.report import Alarm, Judged, SourceStatus, Status
from auditlib.monitor.settings import Settings, is_import, is_paced

MAX_FAULTS = 20  # faults told one by one
_SHOWN = 3  # silences and runs named in one sentence


def judge(status: Status, settings: Settings) -> Iterator[Alarm]:
    """What is to be told of a status: first the trail, then its sources, then their clocks."""
    if status.sealed_at is None:
        if settings.thresholds.seal_age is not None:
            yield Alarm("seal_age", status.vault, "nothing has been sealed yet.")
    else:
        yield from _aged(status, settings, "seal_age", "the last seal", status.sealed_at)
    yield from _aged(status, settings, "checkpoint_age", "the last seal under a checkpoint", status.checkpoint_at)
    yield from _aged(status, settings, "heartbeat_age", "the last heartbeat that was sealed", status.heartbeat_at)
    if status.heartbeat_at is None and status.seals:
        message = "no heartbeat is sealed: that everything stands still would show in nothing but the age of the seal."
        yield Alarm("heartbeat_age", status.vault, message, broken=False)
    yield from _aged(status, settings, "unsealed_age", "the oldest record that waits", status.oldest_unsealed)
    for source in status.sources:
        yield from _of_source(source, settings, status.at)
    yield from _unheard(status, settings)
    yield from clock_alarms(status.clocks, settings.thresholds.skew)


def some_of(told: Sequence[Alarm], vault: str) -> list[Alarm]:
    """The first faults, and how many more there are."""
    more = len(told) - MAX_FAULTS
    return [
        *told[:MAX_FAULTS],
        *([Alarm("fault", vault, f"{more:,} more; run `auditlib verify`.")] if more > 0 else []),
    ]


def _aged(status: Status, settings: Settings, judged: Judged, what: str, time: int | None) -> Iterator[Alarm]:
    limit = getattr(settings.thresholds, judged)
    age = status.age(time)
    if limit is not None and time is not None and age is not None and age > limit:
        message = f"{what} is of {moment(time)}, {duration(age)} ago; at most {duration(limit)}."
        yield Alarm(judged, status.vault, message)


def _of_source(source: SourceStatus, settings: Settings, now: int) -> Iterator[Alarm]:
    name, limit = source.name, settings.silence(source.name)
    if is_paced(name) and limit is not None:
        yield from _silent(source, limit, settings.declares_silence(name))
    schedule = settings.schedule(name)
    if is_import(name) and schedule is not None and now - source.newest > schedule:
        age = duration(now - source.newest)
        message = f"the newest event of {name} is {age} old; by its schedule at most {duration(schedule)}."
        yield Alarm("schedule", name, message, source=name)
    for lost in source.lost:
        shown = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in lost.runs[:_SHOWN])
        more = " ..." if len(lost.runs) > _SHOWN else ""
        message = f"{lost.count:,} sequence number(s) of {lost.source} never arrived: {shown}{more}."
        yield Alarm("sequence_gap", lost.source, message, source=name)
    expected = settings.lateness(name)
    if source.late and source.late_last is not None and expected is not None:
        message = (
            f"{source.late:,} record(s) of {name} arrived up to {duration(source.late_most)} after they occurred, "
            f"at most {duration(expected)} is expected; the last at {moment(source.late_last)}: "
            f"{', '.join(source.late_ids)}{' ...' if source.late > len(source.late_ids) else ''}."
        )
        yield Alarm("lateness", name, message, source=name, now=False)


def _silent(source: SourceStatus, limit: int, declared: bool) -> Iterator[Alarm]:
    judged = bool(source.heartbeats) or declared
    alike = "" if judged else " It sends no heartbeat and no silence is declared for it: not judged."
    if source.silent > limit:
        message = (
            f"no record of {source.name} since {moment(source.last)}, for {duration(source.silent)}; "
            f"at most {duration(limit)}.{alike}"
        )
        yield Alarm("silence", source.name, message, judged, source.name)
    if source.silences:
        shown = "; ".join(f"{moment(a)} to {moment(b)} ({duration(b - a)})" for a, b in source.silences[:_SHOWN])
        more = f" and {len(source.silences) - _SHOWN:,} more" if len(source.silences) > _SHOWN else ""
        message = (
            f"{len(source.silences):,} silence(s) of {source.name} of more than {duration(limit)}, over by now: "
            f"{shown}{more}.{alike}"
        )
        yield Alarm("silence", source.name, message, judged, source.name, now=False)


def _unheard(status: Status, settings: Settings) -> Iterator[Alarm]:
    """Sources that somebody declared and that have never recorded anything."""
    for name in sorted(settings.sources.keys() - {source.name for source in status.sources}):
        judged: Judged = "schedule" if is_import(name) else "silence"
        limit = settings.schedule(name) if is_import(name) else settings.silence(name)
        if limit is not None:
            yield Alarm(judged, name, f"{name} is declared and has never recorded anything.", source=name)
