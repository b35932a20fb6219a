"""Who comes in, and how much at once: memory is bounded by refusing, never by waiting in a queue."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from auditlib.collector.answers import NotNow, Refusing
from auditlib.collector.intake import MAX_BODY_BYTES
from auditlib.collector.metrics import Metrics

_BEARER = re.compile(r"Bearer +([!-~]+)", re.IGNORECASE)  # RFC 6750 2.1; the scheme's case does not matter


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a collector takes on at once; what is past it gets 429 or 503 with Retry-After."""

    requests: int = 128  # in flight
    requests_a_source: int = 64  # in flight, so that one source leaves room for the others
    buffered: int = 32 * 1024 * 1024  # bytes of their bodies; parsed they take some ten times as much
    threads: int = 32  # requests in the store at once; SQLite makes one commit of what waits together
    connections: int = 1000  # open
    read_seconds: float = 30.0  # from the head of a request to the end of its body
    head_seconds: float = 10.0  # from the first byte of a request to the end of its head
    stop_seconds: int = 30  # for the requests in flight when told to stop
    auth_seconds: float = 10.0  # at most one audit.auth_failure record in so many


class Admission:
    """One request's share of the room there is."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.bytes = 0

    def reserve(self, size: int) -> None:
        """Room for so many bytes more, or 503."""
        if self._gate.buffered + size > self._gate.limits.buffered:
            raise NotNow(503, "too many bytes are being received at once; send it again shortly.")
        self.bytes += size
        self._gate.buffered += size


class Gate:
    """Counts what is in flight; used by the event loop's thread alone, so that it needs no lock."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.buffered = 0
        self._requests: Counter[str] = Counter()
        self._total = 0
        metrics.in_flight.set_function(lambda: self._total)
        metrics.buffered.set_function(lambda: self.buffered)

    @contextmanager
    def admit(self, source: str) -> Iterator[Admission]:
        """A place for one request of this source; 429 where the source has its share, 503 where all is taken."""
        if self._requests[source] >= self.limits.requests_a_source:
            raise NotNow(429, f"{source} has {self._requests[source]} requests in flight already.")
        if self._total >= self.limits.requests:
            raise NotNow(503, f"{self._total} requests are in flight already.")
        admission = Admission(self)
        self._requests[source] += 1
        self._total += 1
        try:
            yield admission
        finally:
            self._total -= 1
            self._requests[source] -= 1
            if not self._requests[source]:
                del self._requests[source]
            self.buffered -= admission.bytes


def bearer(values: list[str]) -> str | None:
    """The token in the `Authorization` headers; None without one, with two, or with another scheme."""
    match = _BEARER.fullmatch(values[0]) if len(values) == 1 else None
    return match[1] if match else None


class Body(msgspec.Struct, frozen=True):
    """What was read of a body; `fault` says why that is not all of it."""

    data: bytes
    fault: str = ""


async def read_body(
    receive: Callable[[], Awaitable[Any]], admission: Admission, announced: int | None, seconds: float
) -> Body:
    """Read a body by ASGI messages, at most 4 MiB whatever was announced; past it, what had come until then.

    Raises Refusing: 408 when it takes too long, 503 when there is no room. A client that leaves gets 400, unread.
    """
    fault = f"the body is longer than {MAX_BODY_BYTES:,} bytes, and was not read whole."
    if announced is not None and announced > MAX_BODY_BYTES:
        return Body(b"", fault)
    parts = bytearray()
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refusing(400, "the connection ended before the body did.", {"Connection": "close"})
                chunk = message.get("body", b"")
                admission.reserve(len(chunk))
                parts += chunk
                if len(parts) > MAX_BODY_BYTES:
                    return Body(bytes(parts), fault)
                if not message.get("more_body", False):
                    return Body(bytes(parts))
    except TimeoutError:
        raise Refusing(408, f"the body took longer than {seconds:g} seconds.", {"Connection": "close"}) from None
