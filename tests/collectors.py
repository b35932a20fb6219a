"""A real collector on a free loopback port, for the tests: in a thread, or as a process of its own.

    with running(tmp_path) as collector:
        token = collector.add("billing-api")
        status, answer = collector.post(token, [event("e-1")])
        collector.records()

The thread shares the test's memory, so that a test can hand it a clock, limits, or a store that fails; the process is
what SIGTERM is sent to. Both listen on port 0, and are used once /health has answered.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3

import auditlib
from auditlib.collector import Limits, create_app
from auditlib.collector.server import Server, address_of, open_socket
from auditlib.formats.catalog import Catalog, parse_catalog
from auditlib.formats.event import Record
from auditlib.store import Refusal, init_store, open_store
from auditlib.tokens import Tokens, add_token

WAIT = 30.0  # seconds after which a condition that is waited for counts as failed
CATALOG = parse_catalog((Path(auditlib.__file__).parent / "catalog.toml").read_bytes())


def clock() -> int:
    return time.time_ns() // 1000


def event(event_id: str, **changes: Any) -> dict[str, Any]:
    """A good event, of an action that no catalogue lists."""
    return {
        "action": "invoice.pay",
        "actor": {"id": "u_8842", "session": None, "type": "user"},
        "context": {"amount": 17},
        "event_id": event_id,
        "occurred_at": "2026-01-08T14:32:07Z",
        "outcome": "success",
        "target": {"id": "i_9013", "type": "invoice"},
    } | changes


def wait_for(condition: Callable[[], Any]) -> Any:
    """What the condition returns once it is true; fails after WAIT seconds."""
    end = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < end, "the condition that was waited for did not come true"
        time.sleep(0.01)
    return found


class Collector:
    """A collector that listens at `url`, its file of tokens, and its store."""

    def __init__(self, url: str, tokens: Path, store_url: str, **pool: Any) -> None:
        self.url = url
        self.tokens = tokens
        self.store_url = store_url
        self.http = urllib3.PoolManager(maxsize=64, retries=False, timeout=urllib3.Timeout(WAIT), **pool)

    def add(self, source: str) -> str:
        return add_token(self.tokens, source, now=clock)

    def request(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        return self.http.request(method, self.url + path, **options)

    def raw(self, token: str | None, body: Any, **headers: str) -> urllib3.BaseHTTPResponse:
        """POST these bytes (or chunks); headers by their names with `_` for `-`."""
        sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        return self.request("POST", "/v1/events", body=body, headers=sent)

    def post(self, token: str | None, events: Any, **headers: str) -> tuple[int, Any]:
        response = self.raw(token, json.dumps(events).encode(), **headers)
        return response.status, response.json()

    def results(self, token: str, events: Any, **headers: str) -> list[dict[str, Any]]:
        status, answer = self.post(token, events, **headers)
        assert status == 200, answer
        return answer["results"]

    def records(self, action: str | None = None) -> list[Record]:
        """What the store holds, read beside the collector."""
        store = open_store(self.store_url, role="sealer")
        try:
            found: list[Record] = []
            after = 0
            while entries := store.read(after, 10_000):
                found += [entry.record for entry in entries]
                after = entries[-1].position
        finally:
            store.close()
        return [record for record in found if action in (None, record.event.action)]

    def refusals(self) -> list[Refusal]:
        store = open_store(self.store_url, role="sealer")
        try:
            return store.refusals(0)
        finally:
            store.close()

    def clocks(self) -> list[Any]:
        store = open_store(self.store_url, role="sealer")
        try:
            return store.clocks(0)
        finally:
            store.close()

    def metric(self, line: str) -> float:
        """The value of one line of /metrics, 0 where it is not there."""
        for found in self.request("GET", "/metrics").data.decode().splitlines():
            if found.startswith(f"{line} "):
                return float(found.rsplit(" ", 1)[1])
        return 0.0


@contextmanager
def running(
    folder: Path,
    *,
    store_url: str | None = None,
    store: Any = None,
    catalog: Catalog = CATALOG,
    now: Callable[[], int] = clock,
    limits: Limits | None = None,
    tls: tuple[Path, Path] | None = None,
    **pool: Any,
) -> Iterator[Collector]:
    """A collector in a thread; its store is made in the folder unless a URL is given, and opened unless one is."""
    url = store_url or f"sqlite:///{folder / 'store.sqlite'}"
    init_store(url)
    tokens = folder / "tokens"
    tokens.touch(0o600)
    opened = store or open_store(url, role="writer")
    limits = limits or Limits()
    listener = open_socket("127.0.0.1:0")
    app = create_app(opened, Tokens(tokens), catalog, now=now, limits=limits)
    started = threading.Event()
    server = Server(app, limits, *(tls or (None, None)), started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    collector = Collector(address_of(listener, "https" if tls else "http"), tokens, url, **pool)
    thread.start()
    try:
        assert started.wait(WAIT)
        yield collector
    finally:
        collector.http.clear()
        server.should_exit = True
        thread.join(WAIT)
        listener.close()
        if store is None:
            opened.close()
    assert not thread.is_alive(), "the collector did not stop"


_MAIN = """
import sys, time
from pathlib import Path
from auditlib.collector import serve
from auditlib.store import open_store
from auditlib.tokens import Tokens
from tests.collectors import CATALOG, clock
store, tokens, listen = sys.argv[1:4]
serve(open_store(store, role="writer"), Tokens(Path(tokens)), CATALOG, now=clock, listen=listen,
      announce=lambda address: print(address, flush=True))
"""


@contextmanager
def process(folder: Path, listen: str = "127.0.0.1:0") -> Iterator[tuple[Collector, subprocess.Popen[str]]]:
    """A collector as a process of its own; killed at the end where the test has not stopped it."""
    url = f"sqlite:///{folder / 'store.sqlite'}"
    init_store(url)
    tokens = folder / "tokens"
    tokens.touch(0o600)
    root = Path(auditlib.__file__).parent.parent
    child = subprocess.Popen(
        [sys.executable, "-c", _MAIN, url, str(tokens), listen],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    try:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        assert address, child.communicate(timeout=WAIT)[1]
        collector = Collector(address, tokens, url)
        if not address.startswith("unix:"):
            assert collector.request("GET", "/health").status == 200
        yield collector, child
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=WAIT)
