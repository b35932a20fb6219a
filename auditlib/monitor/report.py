"""What a watch says: figures, sources, clocks, and alarms; stable keys for programs, sentences for people."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from auditlib.formats.times import SECOND, format_time

Judged = Literal[
    "seal_age",
    "checkpoint_age",
    "heartbeat_age",
    "unsealed_age",
    "retention_left",
    "silence",
    "schedule",
    "sequence_gap",
    "skew",
    "lateness",
    "fault",
]
JUDGED: tuple[Judged, ...] = Judged.__args__  # type: ignore[attr-defined]


class Alarm(msgspec.Struct, frozen=True):
    """Something to tell: by which threshold, of what, in a sentence. Not `broken`: told, and not judged.

    `source` is the name of the source it is about, or "". `now` says whether it goes on at this moment.
    """

    judged: Judged
    where: str
    message: str
    broken: bool = True
    source: str = ""
    now: bool = True


class Clock(msgspec.Struct, frozen=True):
    """How far the clock of a source instance is ahead (+) or behind (-) the collector's, in microseconds.

    `basis`: "measured" by the collector, once a minute; or "records": how far occurred_at passed recorded_at, at least
    0, by which only a clock that is ahead can be seen. Of `measurements`: the median, the 99th percentile and the
    greatest by size. `since`: the beginning of the newest run past the threshold; `until`: its end, None: it goes on.
    """

    source: str
    basis: Literal["measured", "records"]
    measurements: int
    median: int
    p99: int
    most: int
    since: int | None
    until: int | None


class Lost(msgspec.Struct, frozen=True):
    """Numbers of an instance that never arrived: how many, and the runs [first, last], at most 20 of them."""

    source: str
    count: int
    runs: list[tuple[int, int]]


class SourceStatus(msgspec.Struct, frozen=True):
    """One source by its name; times in microseconds. `silent` is how long it has recorded nothing by now."""

    name: str
    records: int
    last: int
    silent: int
    heartbeats: int
    last_heartbeat: int | None
    newest: int
    silences: list[tuple[int, int]]
    late: int
    late_most: int
    late_last: int | None
    late_ids: list[str]
    lost: list[Lost]


class Status(msgspec.Struct, frozen=True):
    """How the pipeline is at `at`, and how it was since `since` (both microseconds since 1970 UTC).

    `unsealed` and `oldest_unsealed` are None without a store, `oldest_unsealed` also where nothing waits.
    `retention_end` is the least end of a lock; None where nothing is kept, or nothing is sealed.
    """

    vault: str
    origin: str
    at: int
    since: int
    events: int
    seals: int
    sealed_at: int | None
    checkpoint_size: int | None
    checkpoint_at: int | None
    heartbeat_at: int | None
    heartbeat_source: str
    unsealed: int | None
    oldest_unsealed: int | None
    unsealed_basis: str
    retention_end: int | None
    sources: list[SourceStatus]
    clocks: list[Clock]
    own_events: dict[str, int]
    alarms: list[Alarm]

    @property
    def broken(self) -> list[Alarm]:
        """What is past a threshold."""
        return [alarm for alarm in self.alarms if alarm.broken]

    @property
    def ok(self) -> bool:
        """Whether nothing is past a threshold."""
        return not self.broken

    def age(self, time: int | None) -> int | None:
        """Microseconds from a time to this status."""
        return None if time is None else max(0, self.at - time)

    def as_json(self) -> dict[str, Any]:
        """The stable keys of `auditlib status --json`; times as text, lengths of time in seconds."""
        return {
            "ok": self.ok,
            "vault": self.vault,
            "origin": self.origin,
            "at": format_time(self.at),
            "since": format_time(self.since),
            "events": self.events,
            "seals": self.seals,
            "seal": self._aged(self.sealed_at),
            "checkpoint": self._aged(self.checkpoint_at) | {"size": self.checkpoint_size},
            "heartbeat": self._aged(self.heartbeat_at) | {"source": self.heartbeat_source or None},
            "unsealed": None
            if self.unsealed is None
            else {"records": self.unsealed, "basis": self.unsealed_basis, **self._aged(self.oldest_unsealed)},
            "retention": {"ends": _text(self.retention_end)},
            "sources": [self._source(source) for source in self.sources],
            "clocks": [_clock(clock) for clock in self.clocks],
            "own_events": self.own_events,
            "alarms": [msgspec.to_builtins(alarm) for alarm in self.alarms],
        }

    def _aged(self, time: int | None) -> dict[str, Any]:
        age = self.age(time)
        return {"at": _text(time), "age_seconds": None if age is None else age / SECOND}

    def _source(self, source: SourceStatus) -> dict[str, Any]:
        return {
            "name": source.name,
            "records": source.records,
            "last_record": self._aged(source.last),
            "newest_event": self._aged(source.newest),
            "heartbeats": source.heartbeats,
            "last_heartbeat": self._aged(source.last_heartbeat),
            "silences": [
                {"from": _text(first), "until": _text(last), "seconds": (last - first) / SECOND}
                for first, last in source.silences
            ],
            "late": {"records": source.late, "most_seconds": source.late_most / SECOND, "events": source.late_ids},
            "lost": [{"source": lost.source, "count": lost.count, "runs": lost.runs} for lost in source.lost],
        }


def _clock(clock: Clock) -> dict[str, Any]:
    seconds = {f"{name}_seconds": getattr(clock, name) / SECOND for name in ("median", "p99", "most")}
    told = {"source": clock.source, "basis": clock.basis, "measurements": clock.measurements, **seconds}
    return told | {"since": _text(clock.since), "until": _text(clock.until)}


def _text(time: int | None) -> str | None:
    return None if time is None else format_time(time)
