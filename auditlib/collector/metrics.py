"""What a collector counts, for Prometheus, in a registry of its own.

    auditlib_events_total{source="billing-api",status="recorded"} 17

A label is a token's source, never what a client wrote: so there are as many as there are tokens.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # histogram bounds


class Metrics:
    """One collector's counters."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "auditlib_events", "Events answered, by what became of them.", ["source", "status"], registry=self.registry
        )
        self.refused_bodies = Counter(
            "auditlib_refused_bodies",
            "Requests refused and quarantined as a whole.",
            ["source"],
            registry=self.registry,
        )
        self.auth_failures = Counter(
            "auditlib_auth_failures", "Requests without a token, or with a wrong one.", registry=self.registry
        )
        self.store_errors = Counter(
            "auditlib_store_errors", "Requests that the store could not serve.", registry=self.registry
        )
        self.responses = Counter("auditlib_responses", "Responses by HTTP status.", ["code"], registry=self.registry)
        self.seconds = Histogram(
            "auditlib_request_seconds",
            "Seconds from the head of an authenticated request to its answer.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("auditlib_requests_in_flight", "Requests being served.", registry=self.registry)
        self.buffered = Gauge("auditlib_buffered_bytes", "Bytes of their bodies.", registry=self.registry)

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)
