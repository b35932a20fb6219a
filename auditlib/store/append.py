"""Many calls, one commit: what arrives while one transaction is being synced goes into the next.

One thread writes; the callers prepare their rows meanwhile, and wait. The thread starts with the first call.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import insert, text

from auditlib.errors import AuditlibError
from auditlib.formats.event import Receipt
from auditlib.formats.times import format_time
from auditlib.store import schema
from auditlib.store.database import Database
from auditlib.store.rows import Clock, Outcome, Row

MAX_GROUP = 8192  # records in one transaction, unless a single call brings more

Ids = set[tuple[str, str]]  # (source, event_id)
Bodies = dict[tuple[str, str, bytes], Receipt]  # (source, event_id, SHA-256 of a body) -> its receipt

_CLOCK = text(
    'INSERT INTO clocks (source, minute, at, "offset") VALUES (:source, :minute, :at, :offset) ON CONFLICT DO NOTHING'
)


class Call(NamedTuple):
    """One call of append: rows of records, rows of refusals, and what its caller waits for."""

    kept: Sequence[tuple[Row, Receipt]]
    refused: Sequence[dict[str, Any]]
    clock: Clock | None
    done: Future[list[Outcome]]


class Appender:
    """The queue in front of one database; safe to share between threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: deque[Call] = deque()
        self._changed = Condition()  # guards what follows, and the queue
        self._thread: Thread | None = None
        self._closing = False

    def append(
        self, kept: Sequence[tuple[Row, Receipt]], refused: Sequence[dict[str, Any]], clock: Clock | None
    ) -> list[Outcome]:
        """Return when the rows are durably committed; raise when they are not."""
        call = Call(kept, refused, clock, Future())
        with self._changed:
            self._queue.append(call)
            self._changed.notify()
            if self._thread is None or not self._thread.is_alive():  # not alive: this process was forked
                self._thread = Thread(target=self._run, name="auditlib-store", daemon=True)
                self._thread.start()
        return call.done.result()

    def close(self) -> None:
        """Commit what is queued and end the thread; a later append starts another."""
        with self._changed:
            thread = self._thread
            self._closing = thread is not None
            self._changed.notify()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            self._commit(group)

    def _next_group(self) -> list[Call]:
        group: list[Call] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            while self._queue and (not group or size + len(self._queue[0].kept) <= MAX_GROUP):
                group.append(self._queue.popleft())
                size += len(group[-1].kept)
            if not group:
                self._thread, self._closing = None, False
        return group

    def _commit(self, group: Sequence[Call]) -> None:
        try:
            found = self._write(group)
        except Exception as error:  # whatever it is, the callers must hear of it and the thread go on
            for call in group:
                # A raised exception belongs to the thread that carries its traceback; only ours are sure to be copied.
                call.done.set_exception(copy.copy(error) if isinstance(error, AuditlibError) else error)
        else:
            for call, outcomes in zip(group, found, strict=True):
                call.done.set_result(outcomes)

    def _write(self, group: Sequence[Call]) -> list[list[Outcome]]:
        sources: dict[str, list[str]] = {}
        for call in group:
            for row, _ in call.kept:
                sources.setdefault(row.source, []).append(row.event_id)
        fresh: list[Row] = []
        ids: Ids = set()
        bodies: Bodies = {}
        with self._database.begin(write=True) as connection:
            for source, event_id, sha256, recorded_at, source_seq in self._database.known(connection, sources):
                ids.add((source, event_id))
                bodies[source, event_id, sha256] = Receipt(format_time(recorded_at), source, source_seq)
            outcomes = [[_judge(row, receipt, ids, bodies, fresh) for row, receipt in call.kept] for call in group]
            if fresh:
                self._database.insert(connection, fresh)
            if refused := [row for call in group for row in call.refused]:
                connection.execute(insert(schema.refusals).inline(), refused)  # RETURNING would ask for SELECT
            if measured := [call.clock for call in group if call.clock]:
                minutes = ({"minute": clock.at // schema.MINUTE} | msgspec.structs.asdict(clock) for clock in measured)
                connection.execute(_CLOCK, list(minutes))
        return outcomes


def _judge(row: Row, receipt: Receipt, ids: Ids, bodies: Bodies, fresh: list[Row]) -> Outcome:
    _, source, _, event_id, sha256, _ = row
    if first := bodies.get((source, event_id, sha256)):
        return Outcome("repeated", first)
    bodies[source, event_id, sha256] = receipt
    fresh.append(row)
    known = (source, event_id) in ids
    ids.add((source, event_id))
    return Outcome("conflict" if known else "recorded", receipt)
