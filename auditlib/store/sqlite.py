"""The store in one SQLite file: WAL, every commit synced, one writer at a time.

SQLite knows no roles. What the keeper alone may do hangs on an SQL function that only a keeper's connection has:
without it a DELETE of records does not even compile, whatever tool sends it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection, Select, bindparam, create_engine, delete, event, func, select
from sqlalchemy.pool import QueuePool

from auditlib.errors import UnavailableError
from auditlib.store import rows as values
from auditlib.store import schema
from auditlib.store.faults import closing_on_error, faults
from auditlib.store.schema import records

WAIT = 10.0  # seconds to wait for another process's transaction
CONNECTIONS = 8  # at once; one writes, the others read

_NEVER = "what is recorded is never changed or deleted"

# A replacing INSERT (OR REPLACE) would delete without firing a DELETE trigger, and a position of one's own choice
# could lie below what the sealer has already read.
_TRIGGERS = {
    "records_replace": "BEFORE INSERT ON records WHEN EXISTS (SELECT 1 FROM records WHERE position = NEW.position)"
    " OR EXISTS (SELECT 1 FROM records"
    " WHERE source = NEW.source AND event_id = NEW.event_id AND sha256 = NEW.sha256)",
    "records_order": "AFTER INSERT ON records WHEN NEW.position <> (SELECT max(position) FROM records)",
    "records_delete": "BEFORE DELETE ON records"
    " WHEN OLD.position > auditlib_prune_through() OR OLD.position = (SELECT max(position) FROM records)",
    "refusals_replace": "BEFORE INSERT ON refusals WHEN EXISTS (SELECT 1 FROM refusals WHERE position = NEW.position)",
    "identity_replace": "BEFORE INSERT ON identity WHEN EXISTS (SELECT 1 FROM identity)",
    **{f"{table}_update": f"BEFORE UPDATE ON {table}" for table in schema.NEVER_CHANGED},
    **{f"{table}_delete": f"BEFORE DELETE ON {table}" for table in schema.NEVER_DELETED},
}


def _among(name: str) -> Select[Any]:
    """The values of a JSON array that is bound as one parameter."""
    return select(func.json_each(bindparam(name)).table_valued("value").c.value)


def _json(found: Sequence[Any]) -> str:
    return msgspec.json.encode(found).decode()


_KNOWN = select(
    records.c.source, records.c.event_id, records.c.sha256, records.c.recorded_at, records.c.source_seq
).where(records.c.source == bindparam("source"), records.c.event_id.in_(_among("ids")))
# As text: the driver takes the rows as they are, in half the time that Core needs to name their values.
_INSERT = "INSERT INTO records (recorded_at, source, source_seq, event_id, sha256, event) VALUES (?, ?, ?, ?, ?, ?)"
_DELETE = delete(records).where(
    records.c.position.in_(_among("positions")),
    records.c.recorded_at < bindparam("before"),
    records.c.position < select(func.max(records.c.position)).scalar_subquery(),
)


class SQLite:
    """One database file; see `auditlib.store.Database`."""

    def __init__(self, path: Path, role: str | None) -> None:
        self._path = path.absolute()
        self._role = role
        self.name = f"sqlite:///{self._path}"
        self._prune_through = 0  # positions up to this one may be deleted; 0 outside of prune
        self.engine = create_engine(
            "sqlite+pysqlite://",
            creator=self._connect,
            poolclass=QueuePool,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=WAIT,
            hide_parameters=True,
        )
        event.listen(self.engine, "connect", self._connected)

    def _connect(self) -> sqlite3.Connection:
        # mode=rw: a file that is gone is an error, never a new and empty store.
        uri = f"file:{quote(str(self._path))}?mode=rw"
        return sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)

    def _connected(self, connection: sqlite3.Connection, pooled: Any) -> None:
        # Text that is not UTF-8 must reach the check that names its position, not end in the driver.
        connection.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        if self._role == "keeper":
            connection.create_function("auditlib_prune_through", 0, lambda: self._prune_through)
        with closing_on_error(connection):
            pooled.info["file"] = self._file()
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # WAL: each commit is synced before it is visible
            connection.execute("PRAGMA fullfsync = ON")  # macOS: a plain fsync stops at the disk's own cache
            if self._role == "reader":
                connection.execute("PRAGMA query_only = ON")

    def _file(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_dev, found.st_ino

    @contextmanager
    def begin(self, write: bool = False) -> Iterator[Connection]:
        """One transaction, committed at its end; a writing one waits for its turn before it reads anything."""
        with faults(self.name), self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
            yield connection
            connection.commit()
            # An open file may have been moved away: what was committed to it is then not in the store.
            if not self._path.exists() or connection.info["file"] != self._file():
                self.engine.dispose()
                connection.invalidate()
                raise UnavailableError("the database file is no longer where it was.", where=self.name)

    def setup(self) -> None:
        """Tables and triggers, where they are missing; a new file is for its owner alone."""
        with faults(self.name):  # SQLite gives -wal and -shm the rights of the file
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        with self.begin(write=True) as connection:
            schema.create(connection)
            for name, when in _TRIGGERS.items():
                action = f"SELECT RAISE(ABORT, 'auditlib: {_NEVER}')"
                connection.exec_driver_sql(f"CREATE TRIGGER IF NOT EXISTS {name} {when} BEGIN {action}; END")

    def known(self, connection: Connection, sources: Mapping[str, Sequence[str]]) -> Iterator[Any]:
        """What is stored under these event ids: source, event_id, sha256, recorded_at, source_seq."""
        for source, ids in sources.items():
            yield from connection.execute(_KNOWN, {"source": source, "ids": _json(ids)})

    def insert(self, connection: Connection, rows: Sequence[values.Row]) -> None:
        """The rows, in this order."""
        connection.exec_driver_sql(_INSERT, list(rows))

    def settled(self) -> int:
        """The position up to which nothing will appear any more: writers take turns, so the greatest."""
        with self.begin() as connection:
            return connection.scalar(select(func.max(records.c.position))) or 0

    def delete(self, connection: Connection, positions: Sequence[int], recorded_before: int) -> int:
        """Delete what prune may; how many rows that were."""
        self._prune_through = max(positions)
        try:
            given = {"positions": _json(positions), "before": recorded_before}
            return connection.execute(_DELETE, given).rowcount
        finally:
            self._prune_through = 0
