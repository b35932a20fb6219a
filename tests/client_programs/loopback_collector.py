"""A collector on loopback that answers as the wire contract says, and can be told to answer otherwise."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from auditlib.errors import MalformedError
from auditlib.formats.event import event_bytes, parse_event

Answer = tuple[int, dict[str, str], bytes]


class Collector:
    """Keeps what it was sent while it goes down and comes up again. `fault(headers, lines)` may answer in its place."""

    def __init__(self) -> None:
        self.tokens = {"test-token-4711": "billing-api"}
        self.events: dict[tuple[str, str], bytes] = {}  # (source, event id) -> canonical event
        self.numbers: dict[str, dict[int, str]] = {}  # source -> number -> event id
        self.requests = 0
        self.fault: Callable[[Any, list[bytes]], Answer | None] = lambda headers, lines: None
        self.changed = threading.Condition()
        self._port = 0
        self._connections: list[socket.socket] = []
        self.start()

    def start(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5

            def do_POST(self) -> None:
                lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
                status, headers, body = collector._answer(self.headers, lines)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def get_request(self) -> Any:
                connection = super().get_request()
                collector._connections.append(connection[0])
                return connection

            def handle_error(self, *_: Any) -> None:
                pass  # the client was killed

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for connection in self._connections:
            with suppress(OSError):  # it was closed by the other side
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def wait(self, condition: Callable[[], bool], timeout: float = 60) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout), "the collector never got there"

    def instances(self) -> dict[str, list[int]]:
        """Instance -> the numbers seen, sorted."""
        with self.changed:
            return {source.partition("/")[2]: sorted(numbers) for source, numbers in self.numbers.items()}

    def contexts(self) -> dict[str, dict[str, Any]]:
        with self.changed:
            return {event_id: json.loads(event)["context"] for (_, event_id), event in self.events.items()}

    def parsed(self) -> list[dict[str, Any]]:
        with self.changed:
            return [json.loads(event) for event in self.events.values()]

    def _answer(self, headers: Any, lines: list[bytes]) -> Answer:
        with self.changed:
            self.requests += 1
            self.changed.notify_all()
            faulty = self.fault(headers, lines)
            if faulty is not None:
                return faulty
            source = self.tokens.get(headers["Authorization"].removeprefix("Bearer "))
            if source is None:
                return 401, {}, b"{}"
            source += "/" + headers["Audit-Instance"]
            first = int(headers["Audit-First-Seq"])
            results = [self._keep(source, first + index, line) for index, line in enumerate(lines)]
            self.changed.notify_all()
            return 200, {"Content-Type": "application/json"}, json.dumps({"results": results}).encode()

    def _keep(self, source: str, number: int, line: bytes) -> dict[str, Any]:
        try:
            event = parse_event(line)
        except MalformedError as error:
            return {"status": "refused", "event_id": None, "reason": str(error)}
        assert event_bytes(event) == line, "the client sends canonical events"
        kept = self.events.setdefault((source, event.event_id), line)
        if kept != line:
            return {"status": "conflict", "event_id": event.event_id, "reason": "another body"}
        assert self.numbers.setdefault(source, {}).setdefault(number, event.event_id) == event.event_id, "number reused"
        receipt = {"recorded_at": "2026-01-08T14:32:08Z", "source": source, "source_seq": number}
        return {"status": "recorded", "event_id": event.event_id, **receipt}
