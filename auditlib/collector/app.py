"""The HTTP face: one way in, none to read, change or delete. What is taken is decided in intake.py.

    POST /v1/events    GET /schema    GET /metrics    GET /health

The order of the checks: token (401, body unread), room (429, 503), body (408), then the headers, the form and each
event. From there on nothing is dropped in silence: whatever an authenticated source sent and cannot be recorded is
quarantined and sealed as a refusal, and only then answered.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.types import Message, Scope

from auditlib.collector.answers import Answer, Health, NotNow, Problem, Refusing
from auditlib.collector.gate import Admission, Gate, Limits, bearer, read_body
from auditlib.collector.headers import content_length, delivery_of
from auditlib.collector.intake import Delivery, Intake, TooMany
from auditlib.collector.metrics import Metrics
from auditlib.collector.openapi import POST_RESPONSES, PostEvents, description, health_responses
from auditlib.collector.watch import FailedLogins, Pulse
from auditlib.errors import AuditlibError, MalformedError
from auditlib.formats.catalog import Catalog
from auditlib.store import Store
from auditlib.tokens import Tokens

METRICS_TYPE = "text/plain; version=0.0.4"  # Prometheus's text exposition format; litestar adds the charset
_STORE_AWAY = 5  # seconds after which to come again when the store did not take it
_SECURITY_HEADERS = [  # OWASP's list for a REST service
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=63072000"),  # browsers heed it over TLS alone (RFC 6797 8.1)
    (b"x-content-type-options", b"nosniff"),
]

log = logging.getLogger("auditlib.collector")

AnyRequest = Request[Any, Any, Any]


def create_app(
    store: Store, tokens: Tokens, catalog: Catalog, *, now: Callable[[], int], limits: Limits | None = None
) -> Litestar:
    """The collector as an ASGI application; `now` gives microseconds since 1970 UTC."""
    desk = _Desk(store, tokens, catalog, now, limits or Limits())

    @post("/v1/events", status_code=200, operation_class=PostEvents, responses=POST_RESPONSES)
    async def post_events(request: AnyRequest) -> Answer:
        """Record events: one, an array of them, or NDJSON; at most 1,000 and 4 MiB.

        The answer comes after the durable commit, with one result an event in the order in which they came. Sending
        the same request again is safe: what is stored already is answered as `repeated`.
        """
        return await desk.post(request)

    @get("/health", responses=health_responses(Health))
    async def get_health() -> Response[Health]:
        """Whether the store answers: 200 when it does, else 503."""
        beats = await desk.pulse.beats(desk.aside)
        return Response(Health(beats), status_code=200 if beats else 503)

    @get("/metrics", media_type=MediaType.TEXT, sync_to_thread=False)
    def get_metrics() -> Response[bytes]:
        """Counters for Prometheus; they name the sources, never what an event says."""
        return Response(desk.metrics.text(), media_type=METRICS_TYPE)

    return Litestar(
        [post_events, get_health, get_metrics],
        openapi_config=description(),
        exception_handlers={HTTPException: _problem, Exception: desk.unexpected},
        before_send=[desk.before_send],
        lifespan=[desk.lifespan],
        logging_config=None,
        debug=False,
    )


class _Desk:
    """What the handlers share."""

    def __init__(self, store: Store, tokens: Tokens, catalog: Catalog, now: Callable[[], int], limits: Limits) -> None:
        self._tokens = tokens
        self._now = now
        self._limits = limits
        self._intake = Intake(store, catalog, now)
        self.metrics = Metrics()
        self._gate = Gate(limits, self.metrics)
        self._failed = FailedLogins(lambda record: store.append([record]), now, limits.auth_seconds)
        self.pulse = Pulse(store)
        self._threads = ThreadPoolExecutor(limits.threads, "auditlib-intake")
        self.aside = ThreadPoolExecutor(2, "auditlib-watch")  # so that neither waits behind the requests

    @asynccontextmanager
    async def lifespan(self, _: Litestar) -> AsyncIterator[None]:
        """Failed authentications are recorded beside; at the end what was counted is recorded too."""
        watching = asyncio.create_task(self._failed.run(self.aside))
        try:
            yield
        finally:
            self._failed.stop()
            await watching
            self._threads.shutdown()
            self.aside.shutdown()

    async def before_send(self, message: Message, _: Scope) -> None:
        """Every response, errors too, is counted and carries the security headers."""
        if message["type"] == "http.response.start":
            self.metrics.responses.labels(str(message["status"])).inc()
            message["headers"] = [*message["headers"], *_SECURITY_HEADERS]

    async def post(self, request: AnyRequest) -> Answer:
        """One request from its head to its answer."""
        arrived_at, started = self._now(), time.perf_counter()
        source = self._authenticate(request)
        try:
            with self._gate.admit(source) as admission:
                return await self._answer(request, source, arrived_at, admission)
        except asyncio.CancelledError:  # the time for stopping is over
            raise NotNow(503, "the collector is stopping; whether it was stored is not known.") from None
        finally:
            self.metrics.seconds.observe(time.perf_counter() - started)

    def _authenticate(self, request: AnyRequest) -> str:
        token = bearer(request.headers.getall("Authorization", []))
        try:
            source = None if token is None else self._tokens.source_of(token)
        except AuditlibError as error:
            log.error("no request can be authenticated: %s", error)
            raise NotNow(503, "tokens cannot be checked at the moment.", _STORE_AWAY) from None
        if source is None:
            self.metrics.auth_failures.inc()
            self._failed.note(request.client.host if request.client else None)
            why = "a token is needed: `Authorization: Bearer TOKEN`." if token is None else "the token is not valid."
            raise Refusing(401, why, {"WWW-Authenticate": "Bearer"})
        return source

    async def _answer(self, request: AnyRequest, source: str, arrived_at: int, admission: Admission) -> Answer:
        def headers(name: str) -> list[str]:
            return request.headers.getall(name, [])

        body = await read_body(request.receive, admission, content_length(headers), self._limits.read_seconds)
        known = Delivery(source, "json", None, arrived_at, None)  # until its headers are read
        try:
            if body.fault:
                raise Refusing(413, body.fault)
            known = delivery_of(source, headers, arrived_at)
            answer: Answer = await self._in_thread(self._intake.take, known, body.data)
        except MalformedError as error:
            refusal = Refusing(413 if isinstance(error, TooMany) else 400, str(error))
        except Refusing as error:
            refusal = error
        else:
            for status, count in Counter(map(_status, answer.results)).items():
                self.metrics.events.labels(source, status).inc(count)
            return answer
        await self._in_thread(self._intake.quarantine, known, body.data, refusal.detail)
        self.metrics.refused_bodies.labels(source).inc()
        raise refusal

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def unexpected(self, request: AnyRequest, error: Exception) -> Response[Problem]:
        """The store is away, or something is wrong here: nothing was acknowledged, so that coming again is safe."""
        self.metrics.store_errors.inc()
        if isinstance(error, AuditlibError):
            log.error("a request could not be served: %s", error)
        else:
            log.error("a request could not be served", exc_info=error)
        return _problem(request, NotNow(503, "the store did not take it; nothing was acknowledged.", _STORE_AWAY))


def _problem(_: AnyRequest, error: HTTPException) -> Response[Problem]:
    return Response(Problem(error.detail), status_code=error.status_code, headers=error.headers)


def _status(result: object) -> str:
    return type(result).__name__.lower()
