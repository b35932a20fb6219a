"""A status as OpenMetrics, for Prometheus: to be scraped from a file (node_exporter's textfile collector) or a job.

    auditlib_trail_sealed_timestamp_seconds 1.7678827e+09
    auditlib_alarms{judged="seal_age"} 0.0
    auditlib_source_alarms{judged="silence",source="billing-api",state="now"} 1.0

Times are given as times, so that an alert can see a status that is itself old. The values of labels are the names of
sources, at most MAX_SOURCES of them, and the closed list of what is judged.
"""

from __future__ import annotations

from collections import Counter

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.exposition import generate_latest

from auditlib.formats.event import source_name
from auditlib.formats.times import SECOND
from auditlib.monitor.report import JUDGED, Judged, SourceStatus, Status

MAX_SOURCES = 200  # sources with a label of their own; the rest, the quietest, goes by OTHERS
OTHERS = "(others)"
_OF_SOURCES: tuple[Judged, ...] = ("silence", "schedule", "sequence_gap", "skew", "lateness")


def openmetrics(status: Status) -> bytes:
    """The OpenMetrics text of a status; it ends with `# EOF`."""
    registry = CollectorRegistry()
    _trail(status, registry)
    _alarms(status, registry)
    _sources(status, registry)
    text: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return text


def _trail(status: Status, registry: CollectorRegistry) -> None:
    for name, says, time in (
        ("status", "When this status was taken", status.at),
        ("trail_sealed", "When the last seal was made", status.sealed_at),
        ("trail_checkpoint", "When the last seal under a checkpoint was made", status.checkpoint_at),
        ("trail_heartbeat", "When the last sealed heartbeat was recorded", status.heartbeat_at),
        ("trail_retention_end", "When the first retention ends", status.retention_end),
        ("store_oldest_unsealed", "When the oldest record that waits was recorded", status.oldest_unsealed),
    ):
        if time is not None:
            _gauge(registry, f"{name}_timestamp_seconds", says).set(time / SECOND)
    _gauge(registry, "trail_events", "Events under the checkpoint").set(status.events)
    _gauge(registry, "trail_seals", "Seals under the checkpoint").set(status.seals)
    if status.unsealed is not None:
        _gauge(registry, "store_unsealed_records", "Records that wait to be sealed").set(status.unsealed)
    own = _gauge(registry, "trail_own_events", "Events of the pipeline's own in the period", "action")
    for action in ("audit.refused", "audit.auth_failure", "audit.conflict"):
        own.labels(action).set(status.own_events.get(action, 0))


def _alarms(status: Status, registry: CollectorRegistry) -> None:
    every = _gauge(registry, "alarms", "What is past its threshold, by what it is judged", "judged")
    counted = Counter(alarm.judged for alarm in status.broken)
    for judged in JUDGED:
        every.labels(judged).set(counted[judged])


def _sources(status: Status, registry: CollectorRegistry) -> None:
    loudest = sorted(status.sources, key=lambda source: (-source.records, source.name))[:MAX_SOURCES]
    named = {source.name for source in loudest}

    def label(name: str) -> str:
        return name if name in named else OTHERS

    last = _gauge(registry, "source_last_record_timestamp_seconds", "When a source last recorded", "source")
    records = _gauge(registry, "source_records", "Records of a source in the period", "source")
    lost = _gauge(registry, "source_lost_numbers", "Sequence numbers that never arrived in the period", "source")
    late = _gauge(registry, "source_late_records", "Records that arrived late in the period", "source")
    for source in status.sources:
        name = label(source.name)
        if name != OTHERS:
            last.labels(name).set(source.last / SECOND)
        records.labels(name).inc(source.records)
        lost.labels(name).inc(_lost(source))
        late.labels(name).inc(source.late)
    skew = _gauge(registry, "source_skew_seconds", "The clock of a source's worst instance, by size", "source", "stat")
    worst: dict[tuple[str, str], float] = {}
    for clock in status.clocks:
        for stat in ("median", "p99", "most"):
            place = label(source_name(clock.source)), stat
            worst[place] = max(worst.get(place, 0.0), abs(getattr(clock, stat)) / SECOND)
    for place, seconds in worst.items():
        skew.labels(*place).set(seconds)
    says = "What of a source is past its threshold: now, or earlier in the period and over"
    alarms = _gauge(registry, "source_alarms", says, "source", "judged", "state")
    counted = Counter(
        (label(alarm.source), alarm.judged, "now" if alarm.now else "over") for alarm in status.broken if alarm.source
    )
    for name in sorted({label(source.name) for source in status.sources} | {name for name, _, _ in counted}):
        for judged in _OF_SOURCES:
            for state in ("now", "over"):
                alarms.labels(name, judged, state).set(counted[name, judged, state])


def _lost(source: SourceStatus) -> int:
    return sum(lost.count for lost in source.lost)


def _gauge(registry: CollectorRegistry, name: str, says: str, *labels: str) -> Gauge:
    return Gauge(f"auditlib_{name}", f"{says}.", labels, registry=registry)
