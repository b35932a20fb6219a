"""What a sealer at work counts, for Prometheus: an endpoint of its own, in a registry of its own.

auditlib_sealed_events_total 1234
auditlib_last_seal_timestamp_seconds 1.7678827e+09
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from auditlib.drain import Round
from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.times import SECOND


class Meter:
    """One sealer's counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._events = Counter("auditlib_sealed_events", "Events sealed.", registry=self.registry)
        self._repeats = Counter("auditlib_repeated_events", "Events that were sealed before.", registry=self.registry)
        self._conflicts = Counter("auditlib_conflicts", "Events under another's id.", registry=self.registry)
        self._refused = Counter(
            "auditlib_refused_records", "Records that the catalogue in force refused.", registry=self.registry
        )
        self._failures = Counter(
            "auditlib_seal_failures", "Rounds that storage did not let come to their end.", registry=self.registry
        )
        self._seals = Gauge("auditlib_seals", "Seals of the trail.", registry=self.registry)
        self._last = Gauge(
            "auditlib_last_seal_timestamp_seconds", "When the last round came to its end.", registry=self.registry
        )

    def sealed(self, done: Round, now: int) -> None:
        """Count a round; `now` is microseconds since 1970 UTC."""
        self._events.inc(done.added.new)
        self._repeats.inc(done.added.repeats)
        self._conflicts.inc(done.added.conflicts)
        self._refused.inc(done.refused)
        self._seals.set(done.seals)
        self._last.set(now / SECOND)

    def failed(self) -> None:
        """Count a round that failed."""
        self._failures.inc()


@contextmanager
def metering(listen: str | None) -> Iterator[Meter]:
    """A Meter, served at `HOST:PORT` under /metrics while the block runs (not at all where None)."""
    meter = Meter()
    if listen is None:
        yield meter
        return
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise MalformedError(f"{listen!r} is no HOST:PORT.", where="--metrics")
    try:
        server, thread = start_http_server(int(port), host, meter.registry)
    except OSError as error:
        raise UnavailableError(f"cannot be listened on ({error.strerror}).", where=listen) from None
    try:
        yield meter
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
