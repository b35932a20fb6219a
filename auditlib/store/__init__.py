"""The dedicated store: records between the collector's acknowledgement and the seal.

    collector -> append -> [ 1 | 2 | 3 | ... ] -> read -> sealer -> vault
                                          keeper: prune what is sealed and old

One schema on SQLite (`sqlite:///path`) and PostgreSQL (`postgresql://...`). Nothing in it is changed, and only the
keeper deletes. The commit point of `append` is the database's own commit, synced to disk: a crash before it leaves
nothing of the call, a crash after it loses an acknowledgement, and the client's next try is answered "repeated".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import msgspec
from sqlalchemy import ColumnElement, delete, func, or_, select, update

from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.formats.event import Record
from auditlib.formats.times import SECOND, format_time
from auditlib.store import schema
from auditlib.store.append import Appender
from auditlib.store.database import Database, Role, database_of
from auditlib.store.rows import (
    Backlog,
    Clock,
    Entry,
    Lease,
    Outcome,
    Refusal,
    check_clock,
    digest_of,
    entry_of,
    refusal_of,
    refusal_row,
    row_of,
)

__all__ = ["Backlog", "Clock", "Entry", "Lease", "Outcome", "Refusal", "Store", "init_store", "open_store"]

_STORED = select(
    schema.records.c.position,
    schema.records.c.recorded_at,
    schema.records.c.source,
    schema.records.c.source_seq,
    schema.records.c.event_id,
    schema.records.c.sha256,
    schema.records.c.event,
)


def init_store(url: str) -> None:
    """Make the store: tables, triggers, roles, identity. On one that is there already, nothing changes."""
    database = database_of(url, None)
    try:
        database.setup()
    finally:
        database.engine.dispose()


def open_store(url: str, role: Role = "writer") -> Store:
    """An existing store, to act in one role.

    Raises MalformedError for a URL or role that is none, UnavailableError where no store answers.
    """
    if role not in get_args(Role):
        raise MalformedError(f"{role!r} is no role; take one of {', '.join(get_args(Role))}.")
    store = Store(database_of(url, role), role)
    try:
        store._check_format()
    except AuditlibError:
        store.close()
        raise
    return store


class Store:
    """An open store in one role; safe to share between threads. `close()` when done."""

    def __init__(self, database: Database, role: Role) -> None:
        self._database = database
        self._role = role
        self._appender = Appender(database)

    def __repr__(self) -> str:
        return f"Store({self._database.name!r}, role={self._role!r})"

    def close(self) -> None:
        """Finish what was appended and close every connection; a later call opens new ones."""
        self._appender.close()
        self._database.engine.dispose()

    @property
    def identity(self) -> str:
        """The store's random id, made once by init_store; a copy restored from a backup keeps it."""
        with self._database.begin() as connection:
            return str(connection.execute(select(schema.identity.c.id)).scalar_one())

    def _check_format(self) -> None:
        with self._database.begin() as connection:
            found = connection.execute(select(schema.identity.c.format)).scalar()
        if found != schema.FORMAT:
            raise UnavailableError(f"no {schema.FORMAT} is here.", where=self._database.name, remedy="See init_store.")

    def _only(self, *roles: Role) -> None:
        if self._role not in roles:
            raise MalformedError(
                f"a {self._role} may not do this.",
                where=self._database.name,
                remedy=f"Open the store as {' or '.join(roles)}.",
            )

    # ---------------------------------------------------------------------------------------------- the writer

    def append(
        self, records: Sequence[Record], *, refusals: Sequence[Refusal] = (), clock: Clock | None = None
    ) -> list[Outcome]:
        """Keep records durably, each as `check_record` returns it; one outcome each, in order.

        All or nothing, in one transaction with the refusals and the clock (of which one a source and minute is kept).
        The same body again under its (source, event_id) is "repeated" and not kept twice; another body is kept, as
        "conflict". On any error nothing of this call was acknowledged, and sending it again is safe.
        """
        self._only("writer")
        kept = [(row_of(record), record.receipt) for record in records]
        refused = [refusal_row(refusal) for refusal in refusals]
        return self._appender.append(kept, refused, check_clock(clock) if clock else None)

    # ------------------------------------------------------------------------------------- sealer, keeper, reader

    def read(self, after: int, limit: int) -> list[Entry]:
        """At most `limit` records past the position `after`, in order of position.

        Never returns, later, a position below one that it has returned. Rows come as they stand: `Entry.record` checks
        one, and raises MismatchError that names its position where it is no valid record.
        """
        self._only("sealer", "keeper", "reader")
        through = self._database.settled()
        asked = _STORED.where(schema.records.c.position > after, schema.records.c.position <= through)
        with self._database.begin() as connection:
            found = connection.execute(asked.order_by(schema.records.c.position).limit(limit)).all()
        return [entry_of(row) for row in found]

    def digest_at(self, position: int) -> str | None:
        """SHA-256, in hex, of the record at a position, or of a row's values where it is none; None: no row.

        A store that was restored from an older backup has none, or another record, where one was read before.
        """
        self._only("sealer", "keeper", "reader")
        with self._database.begin() as connection:
            row = connection.execute(_STORED.where(schema.records.c.position == position)).one_or_none()
        return None if row is None else digest_of(entry_of(row))

    def backlog(self, after: int) -> Backlog:
        """The records past the position `after`: how many, and the oldest recorded_at in microseconds."""
        self._only("sealer", "keeper", "reader")
        asked = select(func.count(), func.min(schema.records.c.recorded_at)).where(schema.records.c.position > after)
        with self._database.begin() as connection:
            return Backlog(*connection.execute(asked).one())

    def refusals(self, since: int) -> list[Refusal]:
        """What was refused from `since` on (microseconds), in the order of refusal."""
        self._only("sealer", "keeper", "reader")
        table = schema.refusals
        asked = select(*(table.c[name] for name in Refusal.__struct_fields__)).where(table.c.received_at >= since)
        with self._database.begin() as connection:
            return [refusal_of(row) for row in connection.execute(asked.order_by(table.c.position))]

    def clocks(self, since: int) -> list[Clock]:
        """Clock measurements from `since` on (microseconds), in order of time."""
        self._only("sealer", "keeper", "reader")
        table = schema.clocks
        asked = select(table.c.source, table.c.at, table.c.offset).where(table.c.at >= since)
        with self._database.begin() as connection:
            return [Clock(*row) for row in connection.execute(asked.order_by(table.c.at, table.c.source))]

    # ---------------------------------------------------------------------------------------------- the sealer

    def lease(self, holder: str, seconds: int, now: int) -> Lease:
        """The right to seal for some seconds from `now` (microseconds); UnavailableError while another holds it.

        The same holder takes its own lease over at once, under a greater number: what it was before was killed, since
        whoever knows the name has the lock that goes with it (see `SealerState.holder`).
        """
        self._only("sealer")
        until = now + seconds * SECOND
        take = (
            update(schema.lease)
            .where(or_(schema.lease.c.until <= now, schema.lease.c.holder == holder))
            .values(number=schema.lease.c.number + 1, holder=holder, until=until)
            .returning(schema.lease.c.number)
        )
        with self._database.begin(write=True) as connection:
            number = connection.execute(take).scalar()
            if number is not None:
                return Lease(number, holder, seconds, until)
            other, ends = connection.execute(select(schema.lease.c.holder, schema.lease.c.until)).one()
        raise UnavailableError(
            f"{other} holds the lease until {format_time(ends)}.",
            where=self._database.name,
            remedy="One sealer at a time; try again when it is done.",
        )

    def renew(self, held: Lease, now: int) -> Lease:
        """The same lease, running for its seconds from `now`; UnavailableError where it was taken over or released.

        A lease that ran out and that nobody took may be renewed: its number still fences off all others.
        """
        until = now + held.seconds * SECOND
        with self._database.begin(write=True) as connection:
            changed = connection.execute(update(schema.lease).where(*_still(held)).values(until=until)).rowcount
        if not changed:
            raise UnavailableError(
                f"lease {held.number} of {held.holder} is lost: another took it, or it was released.",
                where=self._database.name,
                remedy="Write nothing more under it; take a new one.",
            )
        return msgspec.structs.replace(held, until=until)

    def release(self, held: Lease) -> None:
        """Give the lease back before it ends; one that is lost already stays with who has it."""
        with self._database.begin(write=True) as connection:
            connection.execute(update(schema.lease).where(*_still(held)).values(until=0, holder=""))

    # ---------------------------------------------------------------------------------------------- the keeper

    def prune(self, positions: Sequence[int], recorded_before: int) -> int:
        """Delete the records at these positions that were recorded before a time (microseconds); how many went.

        Never the newest record: where it stands, no position is given twice. Clock measurements from before that time
        go too. That the records are sealed is for the caller to know.
        """
        self._only("keeper")
        if not positions:
            return 0
        with self._database.begin(write=True) as connection:
            connection.execute(delete(schema.clocks).where(schema.clocks.c.at < recorded_before))
            return self._database.delete(connection, positions, recorded_before)


def _still(held: Lease) -> tuple[ColumnElement[bool], ...]:
    return schema.lease.c.number == held.number, schema.lease.c.holder == held.holder
