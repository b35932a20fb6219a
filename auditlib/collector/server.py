"""A collector as a process: socket, TLS, uvicorn, and a stop that answers what is in flight.

serve(store, tokens, catalog, listen="127.0.0.1:8321", now=clock, announce=print)
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from auditlib.collector.app import create_app
from auditlib.collector.gate import Limits
from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.catalog import Catalog
from auditlib.store import Store
from auditlib.tokens import Tokens

DEFAULT_LISTEN = "127.0.0.1:8321"
UNIX = "unix:"
SOCKET_MODE = 0o660  # of a Unix socket: its owner and group
BACKLOG = 2048  # connections that wait to be accepted
KEEP_ALIVE = 30  # seconds an idle connection stays open
MAX_HEAD_BYTES = 64 * 1024  # bytes of a request's line and headers


def serve(
    store: Store,
    tokens: Tokens,
    catalog: Catalog,
    *,
    now: Callable[[], int],
    listen: str = DEFAULT_LISTEN,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    limits: Limits | None = None,
    announce: Callable[[str], Any] = print,
) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is in flight and return.

    `announce` gets the address once, when requests are taken: http://127.0.0.1:8321, https://..., or unix:/path.
    Raises MalformedError for an address or certificate that is none, UnavailableError where it cannot be listened on.
    """
    limits = limits or Limits()
    check_tls(tls_cert, tls_key)
    listener = open_socket(listen)
    scheme = "https" if tls_cert else "http"
    app = create_app(store, tokens, catalog, now=now, limits=limits)
    server = Server(app, limits, tls_cert, tls_key, lambda: announce(address_of(listener, scheme)))
    try:
        server.run(sockets=[listener])
    finally:
        if listen.startswith(UNIX):
            Path(listen.removeprefix(UNIX)).unlink(missing_ok=True)


class Server(uvicorn.Server):
    """uvicorn with no log of requests, limits on its connections, and signals that end in a normal return."""

    def __init__(
        self, app: Any, limits: Limits, tls_cert: Path | None, tls_key: Path | None, started: Callable[[], Any]
    ) -> None:
        class Protocol(_Connection):
            """A connection under these limits; uvicorn makes one a connection from the class alone."""

            max_connections = limits.connections
            head_seconds = limits.head_seconds

        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,  # a log of requests would hold what no log may hold
                server_header=False,
                proxy_headers=False,  # X-Forwarded-For is whatever a client writes
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=limits.stop_seconds,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                ssl_certfile=tls_cert,
                ssl_keyfile=tls_key,
            )
        )
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then say where."""
        await super().startup(sockets=sockets)
        self._announce()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gracefully; unlike in uvicorn the signal is not raised again afterwards, so that the exit code is 0."""
        self.should_exit = True


async def _full(_: Any, __: Any, send: Any) -> None:
    headers = [(b"connection", b"close"), (b"content-type", b"application/json"), (b"retry-after", b"1")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"error":"too many connections."}'})


class _Connection(H11Protocol):
    """A connection that is told when there are too many, and ended when a request's head does not come to its end."""

    max_connections: int
    head_seconds: float
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.app = _full
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._serving():
            self._forget()
        elif self._late is None:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _serving(self) -> bool:
        return not getattr(self.cycle, "response_complete", True)  # uvicorn has None there before the first request

    def _expect(self) -> None:
        self._late = self.loop.call_later(self.head_seconds, self._end)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        self._late = None
        if not self._serving():
            self.transport.abort()


def check_tls(cert: Path | None, key: Path | None) -> None:
    """MalformedError unless there is a certificate with its key, or neither."""
    if cert is None and key is None:
        return
    if cert is None or key is None:
        raise MalformedError("TLS needs both a certificate and its key.", remedy="Give --tls-cert and --tls-key.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")  # rather than ask for one
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise MalformedError(
            f"the certificate or its key cannot be used ({reason}).",
            where=f"{cert}, {key}",
            remedy="Both are PEM files, the key without a passphrase.",
        ) from None


def open_socket(listen: str) -> socket.socket:
    """`HOST:PORT`, `[IPv6]:PORT` or `unix:/path` -> a listening socket; port 0 takes a free one."""
    try:
        if listen.startswith(UNIX):
            return _unix_socket(Path(listen.removeprefix(UNIX)))
        host, port = _host_and_port(listen)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)  # asyncio sets TCP_NODELAY only where TCP is named
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener
    except OSError as error:
        raise UnavailableError(
            f"cannot be listened on ({error.strerror}).", where=listen, remedy="Give another --listen."
        ) from None


def address_of(listener: socket.socket, scheme: str) -> str:
    """How a client names it."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"{UNIX}{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{scheme}://{host}:{name[1]}"


def _host_and_port(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise MalformedError(f"{listen!r} is no address.", remedy=f"Write {DEFAULT_LISTEN}, [::1]:8321 or unix:/path.")
    return host, int(port)


def _unix_socket(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and _abandoned(path):
            path.unlink()
        mask = os.umask(0o777 & ~SOCKET_MODE)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _abandoned(path: Path) -> bool:
    """Whether nobody answers at a socket that is there: what is left of a process that was killed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(str(path)) != 0
