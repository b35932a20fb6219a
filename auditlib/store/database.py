"""What differs between SQLite and PostgreSQL, and which of them a URL names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError

from auditlib.errors import MalformedError
from auditlib.store.rows import Row

Role = Literal["writer", "sealer", "keeper", "reader"]


class Database(Protocol):
    """One database. `name` is its URL as a person may read it: without password and options."""

    name: str
    engine: Engine

    def setup(self) -> None:
        """Tables, triggers and rights, where they are missing."""

    def begin(self, write: bool = False) -> AbstractContextManager[Connection]:
        """One transaction, committed at its end; every failure of the database leaves it as UnavailableError."""

    def known(self, connection: Connection, sources: Mapping[str, Sequence[str]]) -> Iterable[Any]:
        """What is stored under each source's event ids: source, event_id, sha256, recorded_at, source_seq."""

    def insert(self, connection: Connection, rows: Sequence[Row]) -> None:
        """The rows, in this order."""

    def settled(self) -> int:
        """The position up to which no record will appear any more."""

    def delete(self, connection: Connection, positions: Sequence[int], recorded_before: int) -> int:
        """Delete what prune may; how many rows that were."""


def database_of(url: str, role: Role | None) -> Database:
    """The database that a URL names, not connected yet; `role` is None for the owner who sets it up."""
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):  # their sentences may hold the password
        backend = ""
    if backend == "sqlite" and parsed.database not in {None, "", ":memory:"}:
        from auditlib.store.sqlite import SQLite

        return SQLite(Path(str(parsed.database)), role)
    if backend == "postgresql":
        from auditlib.store.postgres import Postgres

        return Postgres(parsed, role)
    raise MalformedError("this is no store's URL; write sqlite:///path or postgresql://user:password@host/database.")
