"""The one schema of both databases.

records    one row a record, in the order of position; never changed, deleted by the keeper's prune alone
refusals   what was refused, redacted; never changed, never deleted
clocks     clients' clock offsets, at most one a source and minute
lease      one row: who may seal, until when, and the fencing number
identity   one row: which store this is; never changed
"""

from __future__ import annotations

import secrets

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    exists,
    insert,
    literal,
    select,
)

from auditlib.formats.event import MAX_EVENT_BYTES
from auditlib.formats.times import LATEST

FORMAT = "auditlib/store/v1"
MINUTE = 60 * 1_000_000  # microseconds

# A strict SQLite table calls every integer INTEGER. On PostgreSQL byte order compares faster than a language's.
_Number = BigInteger().with_variant(Integer, "sqlite")
_Name = Text().with_variant(Text(collation="C"), "postgresql")

metadata = MetaData()


def _position() -> Column[int]:
    return Column("position", _Number, Identity(always=True), primary_key=True)


records = Table(
    "records",
    metadata,
    _position(),
    Column("recorded_at", _Number, CheckConstraint(f"recorded_at BETWEEN 0 AND {LATEST}"), nullable=False),
    Column("source", _Name, nullable=False),
    Column("source_seq", _Number, CheckConstraint("source_seq > 0")),
    Column("event_id", _Name, nullable=False),
    Column("sha256", LargeBinary, CheckConstraint("length(sha256) = 32"), nullable=False),  # of the event
    Column("event", LargeBinary, CheckConstraint(f"length(event) <= {MAX_EVENT_BYTES}"), nullable=False),  # canonical
    # A repeat is one body twice; two bodies under one id are a conflict, and both are kept (DESIGN 4.1).
    UniqueConstraint("source", "event_id", "sha256", name="records_body"),
    sqlite_autoincrement=True,  # a position is never given twice
    sqlite_strict=True,
)

refusals = Table(
    "refusals",
    metadata,
    _position(),
    Column("source", _Name, nullable=False),
    Column("source_seq", _Number),
    Column("received_at", _Number, nullable=False, index=True),
    Column("sha256", LargeBinary, nullable=False),
    Column("reason", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
    sqlite_strict=True,
)

clocks = Table(
    "clocks",
    metadata,
    Column("source", _Name, primary_key=True),
    Column("minute", _Number, primary_key=True, autoincrement=False),
    Column("at", _Number, nullable=False, index=True),
    Column("offset", _Number, nullable=False),
    sqlite_strict=True,
)

lease = Table(
    "lease",
    metadata,
    Column("one", Integer, CheckConstraint("one = 1"), primary_key=True, autoincrement=False),
    Column("number", _Number, nullable=False),
    Column("holder", Text, nullable=False),
    Column("until", _Number, nullable=False),
    sqlite_strict=True,
)

identity = Table(
    "identity",
    metadata,
    Column("one", Integer, CheckConstraint("one = 1"), primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False),
    Column("format", Text, nullable=False),
    sqlite_strict=True,
)

NEVER_CHANGED = ("records", "refusals", "identity")  # no UPDATE, no TRUNCATE, by anyone
NEVER_DELETED = ("refusals", "identity")


def create(connection: Connection) -> None:
    """Tables and their first rows, where they are missing; triggers and rights are each database's own."""
    metadata.create_all(connection)
    for table, row in (
        (identity, {"one": 1, "id": secrets.token_hex(16), "format": FORMAT}),
        (lease, {"one": 1, "number": 0, "holder": "", "until": 0}),
    ):
        values = select(*(literal(value) for value in row.values())).where(~exists(select(table.c.one)))
        connection.execute(insert(table).from_select(list(row), values))
