"""The store in a PostgreSQL database, in a schema of its own, `auditlib`.

    auditlib_writer   INSERT into records, refusals and clocks, by column, never the position. To tell a repeat from a
                      conflict it may SELECT source, event_id, sha256, recorded_at and source_seq of records: what a
                      receipt holds, and never an event
    auditlib_sealer   SELECT, and UPDATE of the lease
    auditlib_keeper   SELECT, and DELETE of records as far as the trigger lets it
    auditlib_reader   SELECT

They are group roles without login: `GRANT auditlib_writer TO collector`. A store acts in its role alone, by SET ROLE,
whatever else its login may do. The owner can drop triggers and tables; nobody should log in as the owner in daily work.
A connection pool that hands out transactions (not sessions) between here and the database would lose SET ROLE.

Order: positions are given out before their transactions commit, so a lower one may become visible after a higher one
was read. Every INSERT therefore shares an advisory lock until its transaction ends (a trigger takes it before the first
position is given), and `settled` takes it alone for a moment: then no position up to the greatest is still to come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import Format
from sqlalchemy import (
    ARRAY,
    URL,
    BigInteger,
    Connection,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    select,
)

from auditlib.store import rows as values
from auditlib.store import schema
from auditlib.store.faults import closing_on_error, faults
from auditlib.store.schema import records

CONNECTIONS = 8  # at once for one store; appends are joined and need one
CONNECT_SECONDS = 5
WAIT_SECONDS = 10  # for a connection, a lock, or a transaction that its client forgot
# The reader gives up sooner than the writers that wait behind it.
SETTLE_SECONDS = 3
STATEMENT_SECONDS = 60
DEAD_PEER_MS = 15_000  # milliseconds that sent bytes may stay unacknowledged (tcp(7), TCP_USER_TIMEOUT)

# Advisory locks are one space a database; ours are two arbitrary constants, and pairs for the sources.
INSERTING = 0x61756469746C6962  # "auditlib"
SETTING_UP = INSERTING + 1
_SOURCES = 0x61756469  # "audi"

ROLES = ("writer", "sealer", "keeper", "reader")

_SETUP = (
    *(
        # Roles belong to the whole cluster: another database's init may make them at this moment.
        f"""DO $$ BEGIN
          IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'auditlib_{role}') THEN
            CREATE ROLE auditlib_{role} NOLOGIN;
          END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"""
        for role in ROLES
    ),
    f"GRANT USAGE ON SCHEMA auditlib TO {', '.join(f'auditlib_{role}' for role in ROLES)}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA auditlib TO auditlib_sealer, auditlib_keeper, auditlib_reader",
    "GRANT INSERT (recorded_at, source, source_seq, event_id, sha256, event),"
    " SELECT (recorded_at, source, source_seq, event_id, sha256) ON auditlib.records TO auditlib_writer",
    "GRANT INSERT (source, source_seq, received_at, sha256, reason, body) ON auditlib.refusals TO auditlib_writer",
    "GRANT INSERT ON auditlib.clocks TO auditlib_writer",
    "GRANT SELECT ON auditlib.identity TO auditlib_writer",
    "GRANT UPDATE (number, holder, until) ON auditlib.lease TO auditlib_sealer",
    "GRANT DELETE ON auditlib.records, auditlib.clocks TO auditlib_keeper",
    f"""CREATE OR REPLACE FUNCTION auditlib.join_inserters() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      PERFORM pg_catalog.pg_advisory_xact_lock_shared({INSERTING});
      RETURN NULL;
    END $$""",
    """CREATE OR REPLACE FUNCTION auditlib.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      RAISE EXCEPTION 'auditlib: what is recorded is never changed or deleted';
    END $$""",
    """CREATE OR REPLACE FUNCTION auditlib.refuse_unless_pruned() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF current_user = 'auditlib_keeper'
          AND OLD.position <= nullif(pg_catalog.current_setting('auditlib.prune_through', true), '')::bigint
          AND OLD.position < (SELECT max(position) FROM auditlib.records) THEN
        RETURN OLD;
      END IF;
      RAISE EXCEPTION 'auditlib: what is recorded is never changed or deleted';
    END $$""",
)


def _triggers() -> Iterator[str]:
    yield from _trigger("records", "join", "BEFORE INSERT", "STATEMENT", "join_inserters")
    yield from _trigger("records", "delete", "BEFORE DELETE", "ROW", "refuse_unless_pruned")
    for table in schema.NEVER_CHANGED:
        yield from _trigger(table, "change", "BEFORE UPDATE OR TRUNCATE", "STATEMENT", "refuse")
    for table in schema.NEVER_DELETED:
        yield from _trigger(table, "delete", "BEFORE DELETE", "STATEMENT", "refuse")


def _trigger(table: str, name: str, when: str, each: str, function: str) -> Iterator[str]:
    yield (
        f"CREATE OR REPLACE TRIGGER {table}_{name} {when} ON auditlib.{table}"
        f" FOR EACH {each} EXECUTE FUNCTION auditlib.{function}()"
    )
    # ALWAYS: also where a superuser's session says it only replicates.
    yield f"ALTER TABLE auditlib.{table} ENABLE ALWAYS TRIGGER {table}_{name}"


# As text for the driver: %b sends an array in binary form, which halves the time of a multi-row INSERT. One array a
# column is one statement, always the same, whatever the number of rows.
_KNOWN = """SELECT source, event_id, sha256, recorded_at, source_seq FROM auditlib.records
    WHERE source = %s AND event_id = ANY (%b::text[])"""
_INSERT = """INSERT INTO auditlib.records (recorded_at, source, source_seq, event_id, sha256, event)
    SELECT * FROM unnest(%b::bigint[], %b::text[], %b::bigint[], %b::text[], %b::bytea[], %b::bytea[])"""
_DELETE = delete(records).where(
    records.c.position == func.any(bindparam("positions", type_=ARRAY(BigInteger))),
    records.c.recorded_at < bindparam("before"),
    records.c.position < select(func.max(records.c.position)).scalar_subquery(),
)


class _BinaryCursor(psycopg.Cursor[Any]):
    """Results as bytes, not spelled out: an event as text is twice as long, and reading takes a third longer."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.format = Format.BINARY


class Postgres:
    """One database; see `auditlib.store.Database`. `role` is one of ROLES, or None for the owner who sets it up."""

    def __init__(self, url: URL, role: str | None) -> None:
        self._role = role
        self._secrets = _secrets(url)
        self.name = _name(url)
        defaults = {
            "connect_timeout": CONNECT_SECONDS,
            "tcp_user_timeout": DEAD_PEER_MS,
            "target_session_attrs": "read-write",  # a standby neither takes records nor knows the lock on its primary
            "application_name": f"auditlib {role or 'init'}",
        }
        with faults(self.name, self._secrets):
            self.engine = create_engine(
                url.set(drivername="postgresql+psycopg"),
                connect_args={name: value for name, value in defaults.items() if name not in url.query},
                # Each statement must see what committed while it waited for a lock.
                isolation_level="READ COMMITTED",
                pool_pre_ping=True,  # after a restart the first append works, not the second
                pool_size=CONNECTIONS,
                max_overflow=0,
                pool_timeout=WAIT_SECONDS,
                hide_parameters=True,
            )
        event.listen(self.engine, "connect", self._connected)

    def _connected(self, connection: Any, pooled: Any) -> None:
        settings = {
            "search_path": "auditlib, pg_temp",  # pg_temp last: a temporary table must not stand in for ours
            "statement_timeout": f"{STATEMENT_SECONDS}s",
            "lock_timeout": f"{WAIT_SECONDS}s",
            "idle_in_transaction_session_timeout": f"{WAIT_SECONDS}s",
            # Everything asked here goes by an index, in its order. A plan made while the table was small would be kept
            # while it grows by millions, and a sort would spill to a disk that may be full.
            "enable_seqscan": "off",
            "enable_bitmapscan": "off",
            "enable_sort": "off",
            # What is off is priced so high that the smallest query over the lease would be compiled first, for 30 ms.
            "jit": "off",
        }
        connection.cursor_factory = _BinaryCursor
        with closing_on_error(connection), connection.cursor() as cursor:
            for name, value in settings.items():
                cursor.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
            cursor.execute(
                "SELECT pg_catalog.set_config('synchronous_commit', 'on', false)"
                " WHERE pg_catalog.current_setting('synchronous_commit') = 'off'"
            )
            if self._role:
                cursor.execute(f"SET ROLE auditlib_{self._role}")
            connection.commit()

    @contextmanager
    def begin(self, write: bool = False) -> Iterator[Connection]:
        """One transaction, committed at its end; `write` is for SQLite, here rows are locked one by one."""
        with faults(self.name, self._secrets), self.engine.begin() as connection:
            yield connection

    def setup(self) -> None:
        """Schema, tables, roles, rights and triggers, where they are missing."""
        with self.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(SETTING_UP)))
            connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS auditlib")
            schema.create(connection)
            for statement in (*_SETUP, *_triggers()):
                connection.exec_driver_sql(statement)

    def known(self, connection: Connection, sources: Mapping[str, Sequence[str]]) -> Iterator[Any]:
        """What is stored under these event ids: source, event_id, sha256, recorded_at, source_seq.

        Until the transaction ends no other append inserts for these sources: two bodies sent at once under one id
        would else not see one another, and two transactions could wait for each other's rows.
        """
        for key in sorted(map(_lock_key, sources)):
            connection.execute(select(func.pg_advisory_xact_lock(_SOURCES, key)))
        for source, ids in sources.items():
            yield from connection.exec_driver_sql(_KNOWN, (source, list(ids)))

    def insert(self, connection: Connection, rows: Sequence[values.Row]) -> None:
        """The rows, in this order."""
        connection.exec_driver_sql(_INSERT, tuple(map(list, zip(*rows, strict=True))))

    def settled(self) -> int:
        """The position up to which no record will appear any more. Waits for the transactions that are inserting."""
        with self.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{SETTLE_SECONDS}s'")
            connection.execute(select(func.pg_advisory_xact_lock(INSERTING)))
            return connection.scalar(select(func.max(records.c.position))) or 0

    def delete(self, connection: Connection, positions: Sequence[int], recorded_before: int) -> int:
        """Delete what prune may; how many rows that were."""
        connection.execute(select(func.set_config("auditlib.prune_through", str(max(positions)), True)))
        return connection.execute(_DELETE, {"positions": list(positions), "before": recorded_before}).rowcount


def _lock_key(source: str) -> int:
    """A source as a signed 32-bit number; two that meet only wait for one another."""
    return int.from_bytes(hashlib.sha256(source.encode()).digest()[:4], signed=True)


def _name(url: URL) -> str:
    """The database for a person: without its password, and without options that may hold one."""
    user = f"{url.username}@" if url.username else ""
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{user}{url.host or ''}{port}/{url.database or ''}"


def _secrets(url: URL) -> list[str]:
    found = [url.password, *(value for name, value in url.query.items() if "password" in name)]
    return [str(secret) for secret in found if secret]
