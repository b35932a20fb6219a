"""What an application imports to record an event.

    audit = Client("https://collector.example", token, spool="/var/lib/billing/audit")
    audit.record(action="user.login", actor="user:u_8842", target="service:billing")
    with audit.attempt("role.grant", actor="user:u_8842", target="user:u_9013", context={"granted_role": "admin"}):
        grant(...)

record() checks the event and returns when it is in the spool on this machine; a thread sends it. Nothing is dropped:
what the collector has not answered for stays in the spool, and where the spool is full record() raises. With durability
"process" (what returned survives the end of the process, however it ends) it takes some tens of microseconds, and may
be called from a coroutine; with "disk" (it survives a power cut too) it waits for the disk.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import msgspec
from ulid import ULID

from auditlib.client.attempt import Attempt
from auditlib.client.exchange import Collector
from auditlib.client.folder import Folder
from auditlib.client.sending import Sender
from auditlib.client.settings import check_token, endpoint, load_catalog
from auditlib.client.spool import MIN_SPOOL_BYTES
from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.catalog import Catalog
from auditlib.formats.event import Actor, Event, Target, event_bytes, parse_event
from auditlib.formats.times import format_time, from_datetime

__all__ = ["Attempt", "Client", "Status"]

MAX_SPOOL_BYTES = 256 * 1024 * 1024  # bytes; some half a million events
FLUSH_AT_EXIT = 2.0  # seconds that the end of the process waits at most for the collector

_acting: ContextVar[str | Actor | Mapping[str, Any] | None] = ContextVar("auditlib_acting", default=None)
_clients: set[Client] = set()  # those not closed: flushed at exit, and told of a fork


class Status(msgspec.Struct, frozen=True):
    """How a client is getting on: its instance, the last number recorded, and how many of those wait to be sent.

    `problem` says why nothing can be sent at present ('' where it can). `conflict`, `refused` and `aside` count events
    that the collector keeps under another body's id, keeps as refused, and cannot take at all, since the process began.
    """

    instance: str
    recorded: int
    waiting: int
    problem: str
    conflict: int
    refused: int
    aside: int


def _now() -> int:
    return time.time_ns() // 1000


class Client:
    """Records events for one application. Threads, coroutines and forked children may share one."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        spool: str | Path,
        durability: Literal["process", "disk"] = "process",
        catalog: Catalog | str | Path | None = None,
        max_spool_bytes: int = MAX_SPOOL_BYTES,
        problems: Callable[[str], None] | None = None,
        allow_insecure: bool = False,
        now: Callable[[], int] = _now,
    ) -> None:
        """`spool` is a folder of this application's own. `catalog` is a catalogue, or a file of your own actions that
        is added to the built-in one. `problems` gets a sentence, from another thread, about what a person should know
        (else it goes to the log `auditlib.client`). http:// is for this machine alone unless `allow_insecure`.

        Raises MalformedError for what is wrong with these, UnavailableError where the spool cannot be used.
        """
        self._url, self._token = endpoint(url, allow_insecure), check_token(token)
        if durability not in ("process", "disk"):
            raise MalformedError(f"{durability!r} is neither 'process' nor 'disk'.", where="durability")
        if max_spool_bytes < MIN_SPOOL_BYTES:
            raise MalformedError(f"at least {MIN_SPOOL_BYTES:,} bytes.", where="max_spool_bytes")
        self._problems, self._now = problems, now
        self._catalog = load_catalog(catalog)
        self._folder = Folder(Path(spool).absolute(), disk=durability == "disk", limit=max_spool_bytes)
        self._opening = Lock()
        self._closed = False
        self._sender: Sender | None = None
        self._open()
        _clients.add(self)

    def __repr__(self) -> str:
        """Without the token."""
        return f"Client({self._url!r}, spool={str(self._folder.path)!r})"

    def record(
        self,
        *,
        action: str,
        actor: str | Actor | Mapping[str, Any] | None = None,
        target: str | Target | Mapping[str, Any],
        outcome: str = "success",
        context: Mapping[str, Any] | None = None,
        occurred_at: str | datetime | None = None,
        event_id: str | None = None,
    ) -> str:
        """Keep one event and return its id. `actor` and `target` are `type:id`, a mapping, or Actor and Target.

        Raises MalformedError where the schema or the catalogue refuses it, UnavailableError where it is not kept.
        """
        event = self.event(action, actor, target, outcome, context, occurred_at, event_id)
        self.keep(event)
        return event.event_id

    def attempt(
        self,
        action: str,
        *,
        actor: str | Actor | Mapping[str, Any] | None = None,
        target: str | Target | Mapping[str, Any],
        context: Mapping[str, Any] | None = None,
        denied: type[BaseException] | tuple[type[BaseException], ...] = (),
    ) -> Attempt:
        """A context manager (also `async with`) and decorator that records how what it surrounds came out; see Attempt.

        `denied` are the application's own exceptions that mean "not authorised", beside PermissionError.
        """
        return Attempt(self, action, actor, target, context, denied)

    @contextmanager
    def acting(self, actor: str | Actor | Mapping[str, Any]) -> Iterator[None]:
        """Who acts, for every event within that names no actor: bound once a request, in this thread or task alone."""
        bound = _acting.set(actor)
        try:
            yield
        finally:
            _acting.reset(bound)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all recorded so far, and what ended processes had left, is answered for.

        False where it was not within `timeout` seconds.
        """
        sender = self._sender
        return sender is None or sender.flush(timeout)

    def close(self, timeout: float = FLUSH_AT_EXIT) -> None:
        """Flush for at most `timeout` seconds and stop; the rest stays spooled for the next process."""
        with self._opening:
            sender = None if self._closed else self._sender
            self._closed = True
        if sender:
            sender.flush(timeout)
            sender.close(timeout)
        _clients.discard(self)

    def __enter__(self) -> Client:
        """Close it at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """See close."""
        self.close()

    def status(self) -> Status:
        """How it is getting on, for monitoring."""
        sender = self._sender or self._open()
        spool = sender.spool
        return Status(spool.instance, spool.last, spool.last - spool.sent, sender.problem, **sender.counts)

    def event(
        self,
        action: str,
        actor: str | Actor | Mapping[str, Any] | None,
        target: str | Target | Mapping[str, Any],
        outcome: str,
        context: Any,
        occurred_at: str | datetime | None = None,
        event_id: str | None = None,
    ) -> Event:
        """What record() would keep, checked against the schema and the catalogue."""
        if actor is None:
            actor = _acting.get()
        if actor is None:
            raise MalformedError("nobody is named as actor.", where="actor", remedy="Give one, or use audit.acting().")
        if isinstance(occurred_at, datetime):
            occurred_at = format_time(from_datetime(occurred_at))
        now = self._now()
        event = parse_event(
            {
                "action": action,
                "actor": {"session": None, **_party(actor, "actor")},
                "context": {} if context is None else dict(context) if isinstance(context, Mapping) else context,
                "event_id": _new_id(now) if event_id is None else event_id,
                "occurred_at": format_time(now) if occurred_at is None else occurred_at,
                "outcome": outcome,
                "target": _party(target, "target"),
            }
        )
        self._catalog.check(event)
        return event

    def keep(self, event: Event) -> None:
        """Put a checked event into the spool, and see that it is sent."""
        sender = self._sender or self._open()
        sender.spool.append(event_bytes(event))
        sender.wake()

    def report(self, message: str) -> None:
        """Tell whoever is to know of problems."""
        (self._sender or self._open()).report(message)

    def check_room(self, event: Event) -> None:
        """UnavailableError where the spool would not take this event now."""
        (self._sender or self._open()).spool.check_room(len(event_bytes(event)))

    def _open(self) -> Sender:
        """Hold an instance: at the start, and again in a forked child when it first records."""
        with self._opening:
            if self._closed:
                raise UnavailableError("the client is closed; nothing more is recorded.")
            if self._sender is None:
                collector = Collector(self._url, self._token, self._now)
                self._sender = Sender(collector, self._folder, self._problems)
            return self._sender

    def _forked(self) -> None:
        """In the child of os.fork: the parent's instance, connection and locks are the parent's."""
        self._opening = Lock()
        sender, self._sender = self._sender, None
        if sender:
            sender.abandon()


def _party(value: str | Actor | Target | Mapping[str, Any], where: str) -> dict[str, Any]:
    if isinstance(value, str):
        kind, colon, name = value.partition(":")
        if not colon:
            raise MalformedError(f"{value[:80]!r} has no type; write type:id, like user:u_8842.", where=where)
        return {"type": kind, "id": name}
    if isinstance(value, Actor | Target):
        return msgspec.structs.asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise MalformedError(f"{type(value).__name__} is no {where}; write type:id, like user:u_8842.", where=where)


def _new_id(now: int) -> str:
    # ULID() would take a lock and a counter that a forked child shares with its parent.
    return str(ULID((now // 1000).to_bytes(6, "big") + os.urandom(10)))


def _at_exit() -> None:
    for client in list(_clients):
        client.flush(FLUSH_AT_EXIT)


def _after_fork() -> None:
    for client in _clients:
        client._forked()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
