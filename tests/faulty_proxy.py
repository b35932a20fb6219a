"""A proxy on loopback that breaks chosen requests on their way to an S3 endpoint, and counts all of them.

    with FaultyProxy(service.endpoint) as proxy:
        s3 = service.client(endpoint=proxy.endpoint)
        proxy.add(Status(503), method="PUT", path="/seals/", nth=2)     # the second PUT of a seal
        proxy.add(Reset(after=True), method="PUT", times=1)             # stored, but the client never hears of it
        ...
        assert proxy.count(method="PUT") == 3

Signatures: SigV4 signs the Host header, here the proxy's own host and port. The proxy passes every header on unchanged,
so the signature stays the client's; Ceph computes it over the Host header it was sent and never compares that with the
port it listens on. (AWS reads the bucket's place from Host: there the proxy is of no use.) A client must use path-style
addresses, and `Expect: 100-continue`, which is not signed, ends at the proxy.

A fault strikes before the request reaches the server, or with `after=True` once the server has done its work: that is
the put which happened although its answer was lost. Bodies are held in memory.
"""

import contextlib
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

UPSTREAM_SECONDS = 60


@dataclass(frozen=True)
class Status:
    """Answer with this status and S3 error code; with `after`, although the server did the work."""

    status: int = 503
    code: str = "SlowDown"
    after: bool = False


@dataclass(frozen=True)
class Reset:
    """Reset the connection (RST) without an answer."""

    after: bool = False


@dataclass(frozen=True)
class Hang:
    """Never answer; the connection stays open for `seconds`, until the client's own timeout."""

    seconds: float = 60
    after: bool = False


@dataclass(frozen=True)
class Delay:
    """Pass the request on after `seconds`; nothing else is wrong."""

    seconds: float


@dataclass(frozen=True)
class Truncate:
    """Send the answer's head whole and `keep` bytes of its body, then close the connection."""

    keep: int


@dataclass(frozen=True)
class Drip:
    """Send the answer's body in pieces of `size` bytes with `pause` seconds between them."""

    size: int = 1
    pause: float = 0.1


@dataclass(frozen=True)
class CutUpload:
    """Pass on `keep` bytes of the request's body, then reset both connections."""

    keep: int


Fault = Status | Reset | Hang | Delay | Truncate | Drip | CutUpload


@dataclass
class Rule:
    """Which requests a fault strikes: of those that match, the `nth` (from 1) or all, at most `times` of them."""

    fault: Fault
    method: str | None = None
    path: str = ""  # a regular expression, searched for in path and query
    nth: int | None = None
    times: int | None = None
    matched: int = 0
    struck: int = 0

    def strikes(self, method: str, target: str) -> bool:
        """Count the request if it matches; whether it is struck."""
        if (self.method and self.method != method) or not re.search(self.path, target):
            return False
        self.matched += 1
        if self.nth not in (None, self.matched) or (self.times is not None and self.struck >= self.times):
            return False
        self.struck += 1
        return True


@dataclass
class Request:
    """One request as it came in, the fault that struck it, and the server's status if it got there."""

    method: str
    target: str
    fault: Fault | None = None
    status: int | None = None


@dataclass
class FaultyProxy:
    """The proxy; a context manager. `requests` is everything that came in, in order."""

    upstream: str
    requests: list[Request] = field(default_factory=list)

    def __enter__(self):
        self._rules: list[Rule] = []
        self._guard = threading.Lock()
        self._closing = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="faulty-proxy")
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._closing.set()
        self._server.shutdown()
        with self._guard:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self._server.server_close()  # waits for the requests under way
        self._thread.join()

    @property
    def endpoint(self) -> str:
        """Where clients go instead of `upstream`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(
        self, fault: Fault, method: str | None = None, path: str = "", nth: int | None = None, times: int | None = None
    ):
        """Strike the requests a `Rule` describes; of several rules the first that strikes counts."""
        rule = Rule(fault, method, path, nth, times)
        with self._guard:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget the rules and the requests; from now on nothing is broken."""
        with self._guard:
            self._rules.clear()
            self.requests.clear()

    def count(self, method: str | None = None, path: str = "") -> int:
        """How many requests came in, struck or not."""
        with self._guard:
            return sum(r.method == (method or r.method) and bool(re.search(path, r.target)) for r in self.requests)

    def _take(self, method: str, target: str) -> Request:
        with self._guard:
            request = Request(method, target)
            self.requests.append(request)
            for rule in self._rules:
                if rule.strikes(method, target):
                    request.fault = rule.fault
                    break
            return request


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close joins them
    request_queue_size = 64

    def __init__(self, proxy: FaultyProxy):
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def shutdown_request(self, request):
        """Close; without the FIN that shutdown() sends if the connection is to be reset."""
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER):
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request, client_address):
        """A client that went away is what this proxy is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self):
        super().setup()
        with self.server.proxy._guard:
            self.server.proxy._sockets.add(self.connection)
            if self.server.proxy._closing.is_set():
                self.connection.shutdown(socket.SHUT_RDWR)

    def finish(self):
        with self.server.proxy._guard:
            self.server.proxy._sockets.discard(self.connection)
        super().finish()

    def log_message(self, format, *args):
        """Say nothing; the tests read `requests`."""

    def handle_request(self):
        proxy = self.server.proxy
        request = proxy._take(self.command, self.path)
        body = self._body()
        match request.fault:
            case Delay(seconds):
                proxy._closing.wait(seconds)
            case CutUpload(keep):
                self._forward(body, keep)
                return self._reset()
            case Status(after=False) | Reset(after=False) | Hang(after=False):
                return self._spoil(request.fault)
        try:
            status, reason, headers, answer = self._forward(body)
        except (OSError, HTTPException):
            return self._reset()  # the server is dead: so is its proxy
        request.status = status
        match request.fault:
            case Status() | Reset() | Hang():
                return self._spoil(request.fault)
            case Truncate(keep):
                self._head(status, reason, headers, answer)
                self.wfile.write(answer[:keep])
                self.close_connection = True
            case Drip(size, pause):
                self._head(status, reason, headers, answer)
                for start in range(0, len(answer), size):
                    self.wfile.write(answer[start : start + size])
                    if proxy._closing.wait(pause):
                        return None
            case _:
                self._head(status, reason, headers, answer)
                self.wfile.write(answer)
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(pieces)

    def _forward(self, body: bytes, keep: int | None = None):
        """Status, reason, headers and body of the server's answer; with `keep` the server waits, then is reset."""
        place = urlsplit(self.server.proxy.upstream)
        with contextlib.closing(HTTPConnection(place.hostname, place.port, timeout=UPSTREAM_SECONDS)) as connection:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection", "transfer-encoding"):
                    connection.putheader(name, value)
            if "Content-Length" not in self.headers and body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders()
            connection.send(body[:keep])
            if keep is not None:
                _close_by_reset(connection.sock)
                return None
            answer: HTTPResponse = connection.getresponse()
            return answer.status, answer.reason, answer.getheaders(), answer.read()

    def _head(self, status: int, reason: str, headers: list[tuple[str, str]], answer: bytes) -> None:
        self.send_response_only(status, reason)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        length = {n.lower(): v for n, v in headers}.get("content-length")
        if self.command == "HEAD":
            if length is not None:
                self.send_header("Content-Length", length)
        elif status not in (204, 304):
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()

    def _spoil(self, fault: Status | Reset | Hang) -> None:
        match fault:
            case Status(status, code):
                text = b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code></Error>".encode()
                self._head(status, "", [("Content-Type", "application/xml"), ("Content-Length", "0")], text)
                self.wfile.write(text)
            case Reset():
                self._reset()
            case Hang(seconds):
                self.connection.settimeout(seconds)
                with contextlib.suppress(OSError):
                    self.connection.recv(1)  # the client gave up, or close() of the proxy
                self.close_connection = True

    def _reset(self) -> None:
        self.close_connection = True
        _close_by_reset(self.connection)


def _close_by_reset(connection: socket.socket) -> None:
    """Make the closing of this socket send RST at once, not FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
