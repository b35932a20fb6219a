"""What goes into the store and comes out of it, and the way between a record and its row.

    (17, 1767882728000000, 'billing-api/7f3a', 3, '01JH2K8Q9R3W...', <32 bytes>, b'{"action":"role.grant",...}')

A row is position, recorded_at, source, source_seq, event_id, the SHA-256 of the event, and the canonical event.
Reading gives the row as it stands. Who checks it: `Entry.record`, by itself; or the sealer, many rows at a time, which
lays them out as columns by `formats.columns.table_of_events` and compares `event_id` and `sha256` by `check_claims`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

from auditlib.errors import MalformedError, MismatchError
from auditlib.formats.canonical import MAX_INTEGER, canonical_struct
from auditlib.formats.event import (
    MAX_EVENT_BYTES,
    NAME,
    Event,
    Receipt,
    Record,
    check_record,
    event_bytes,
)
from auditlib.formats.times import LATEST, format_time, parse_canonical_time

MAX_REFUSAL_BYTES = 1024 * 1024  # UTF-8 bytes of one quarantined body or reason; a quarter of the largest request


class Entry(msgspec.Struct, frozen=True, dict=True):
    """One row as the database gives it: its place in the order of sealing, and what nobody has looked at yet."""

    position: int
    recorded_at: int
    source: str
    source_seq: int | None
    event_id: str
    sha256: bytes
    event: bytes

    @cached_property
    def record(self) -> Record:
        """The record that the row holds, wholly checked.

        Raises MismatchError that names the position, unless the row is exactly what `row_of` makes of a valid record.
        """
        return _record_of(self)

    @property
    def is_record(self) -> bool:
        """Whether the row holds a valid record; one that does not is sealed by its digest alone."""
        try:
            return self.record is not None
        except MismatchError:
            return False


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one record; the receipt is the first one's where the record is a repeat."""

    status: Literal["recorded", "repeated", "conflict"]
    receipt: Receipt


class Refusal(msgspec.Struct, frozen=True):
    """A quarantined event: redacted `body`, and a `reason` that is a sentence; `received_at` in microseconds."""

    source: str
    source_seq: int | None
    received_at: int
    sha256: str
    reason: str
    body: str


class Clock(msgspec.Struct, frozen=True):
    """How far a client's clock was off: collector minus client; both in microseconds."""

    source: str
    at: int
    offset: int


class Backlog(msgspec.Struct, frozen=True):
    """What waits to be sealed: how many records, and the oldest recorded_at in microseconds (None: none waits)."""

    records: int
    oldest: int | None


class Lease(msgspec.Struct, frozen=True):
    """The right to seal until `until` (microseconds); `number` grows with each new lease and fences off older ones."""

    number: int
    holder: str
    seconds: int
    until: int


class Row(NamedTuple):
    """A record as it is inserted; the position is the database's to give."""

    recorded_at: int
    source: str
    source_seq: int | None
    event_id: str
    sha256: bytes
    event: bytes


_STORED = tuple[int, int, str, int | None, str, bytes, bytes]  # position and the columns of Row
_events = msgspec.json.Decoder(Event)
_ANOTHER = "the event is not written canonically, or is not the one that event_id names."


def row_of(record: Record) -> Row:
    """A record that `check_record` accepts -> its row. Raises MalformedError for a receipt that could not be read."""
    receipt = record.receipt
    _check_source(receipt.source)
    _check_number(receipt.source_seq)
    event = event_bytes(record.event)
    if len(event) > MAX_EVENT_BYTES:
        raise MalformedError(f"an event of {len(event):,} bytes is past the limit of {MAX_EVENT_BYTES:,}.")
    digest = hashlib.sha256(event).digest()
    recorded_at = _micros(receipt.recorded_at)
    return Row(recorded_at, receipt.source, receipt.source_seq, record.event.event_id, digest, event)


def entry_of(stored: Sequence[Any]) -> Entry:
    """Position and row as the database gives them -> an Entry, unchecked."""
    return Entry(*stored)


def check_claims(entries: Sequence[Entry], event_ids: Sequence[str]) -> None:
    """MismatchError where a row's event_id is not the one of its event, or its SHA-256 not that of its bytes."""
    for entry, event_id in zip(entries, event_ids, strict=True):
        if entry.event_id != event_id:
            raise _no_record(entry, _ANOTHER)
        found = hashlib.sha256(entry.event).digest()
        if found != entry.sha256:
            raise _no_record(entry, "the event is not the one that was stored.", entry.sha256.hex(), found.hex())


def digest_of(entry: Entry) -> str:
    """SHA-256, in hex, of the entry's canonical record; of the row's values where it is none."""
    try:
        receipt = canonical_struct(Receipt(format_time(entry.recorded_at), entry.source, entry.source_seq), None)
        data = b'{"event":%b,"receipt":%b}' % (entry.event, receipt)
    except (MalformedError, TypeError):
        data = repr(msgspec.structs.astuple(entry)).encode()
    return hashlib.sha256(data).hexdigest()


def _record_of(entry: Entry) -> Record:
    try:
        msgspec.convert(msgspec.structs.astuple(entry), _STORED)
        if len(entry.event) > MAX_EVENT_BYTES:
            raise MalformedError(f"an event of {len(entry.event):,} bytes is past the limit of {MAX_EVENT_BYTES:,}.")
        event = _events.decode(entry.event)
        record = check_record(Record(event, Receipt(format_time(entry.recorded_at), entry.source, entry.source_seq)))
        # What a lenient reader lets pass (a key twice, 1.0, spaces) does not re-encode to itself.
        same = event_bytes(record.event) == entry.event
    except (MalformedError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _no_record(entry, str(error)) from None
    if not same:
        raise _no_record(entry, _ANOTHER)
    check_claims([entry], [record.event.event_id])
    return record


def refusal_row(refusal: Refusal) -> dict[str, Any]:
    """A refusal -> its row; bytes, because what was refused may hold U+0000 and lone surrogates."""
    _check_source(refusal.source)
    _check_number(refusal.source_seq)
    _check_time(refusal.received_at)
    row = msgspec.structs.asdict(refusal)
    row["sha256"], row["reason"], row["body"] = (
        text.encode(errors="surrogatepass") for text in (refusal.sha256, refusal.reason, refusal.body)
    )
    if max(len(row["reason"]), len(row["body"])) > MAX_REFUSAL_BYTES:
        raise MalformedError(f"a refusal keeps at most {MAX_REFUSAL_BYTES:,} bytes; cut the body shorter.")
    return row


def refusal_of(row: Sequence[Any]) -> Refusal:
    """The columns of a Refusal as the database gives them, in its order -> the Refusal."""
    source, source_seq, received_at, *texts = row
    digest, reason, body = (bytes(text).decode(errors="surrogatepass") for text in texts)
    return Refusal(source, source_seq, received_at, digest, reason, body)


def check_clock(clock: Clock) -> Clock:
    """The same clock, or MalformedError."""
    _check_source(clock.source)
    _check_time(clock.at)
    _check_time(abs(clock.offset))
    return clock


@lru_cache(maxsize=1024)  # one request has one source and one time
def _check_source(source: str) -> None:
    if not NAME.fullmatch(source):
        raise MalformedError(f"{source[:160]!r} is no source: 1 to 128 characters of a-z 0-9 _ . : / -.")


_micros = lru_cache(maxsize=1024)(parse_canonical_time)


def _check_number(number: int | None) -> None:
    if number is not None and not 1 <= number <= MAX_INTEGER:
        raise MalformedError("counts from 1 to 2^53 - 1, or is null.", where="source_seq")


def _check_time(micros: int) -> None:
    if not 0 <= micros <= LATEST:
        raise MalformedError(f"{micros} microseconds are past the year 9999, or before 1970.")


def _no_record(entry: Entry, reason: str, expected: object = None, found: object = None) -> MismatchError:
    return MismatchError(
        f"the stored row is no valid record: {reason}",
        where=f"position {entry.position}",
        remedy="Find out who wrote to the database other than the collector.",
        expected=expected,
        found=found,
    )
