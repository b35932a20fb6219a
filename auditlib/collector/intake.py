"""The bytes of one request -> records and refusals in the store, and the answer: no HTTP here, no event loop.

    {...}                 one event
    [{...}, {...}]        several, as application/json
    {...}\\n{...}\\n        several, as application/x-ndjson

Commit point: `Store.append`. Before it nothing of the request is kept, and the client, unanswered, sends it again;
after it everything is, and the same request sent again is acknowledged as a repeat.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

import msgspec

from auditlib.collector.answers import Answer, Conflict, Recorded, Refused, Repeated, Result
from auditlib.collector.refusals import refuse
from auditlib.errors import MalformedError
from auditlib.formats.catalog import Catalog
from auditlib.formats.event import Event, Receipt, Record, parse_event
from auditlib.formats.times import format_time
from auditlib.store import Clock, Outcome, Refusal, Store

MAX_EVENTS = 1000  # events of one request
MAX_BODY_BYTES = 4 * 1024 * 1024  # bytes of one request's body

Form: TypeAlias = Literal["json", "ndjson"]


class Delivery(msgspec.Struct, frozen=True):
    """What a request says of its events besides their bytes; times in microseconds since 1970 UTC."""

    source: str  # the token's, with account and instance
    form: Form
    first_seq: int | None  # the number of its first event
    arrived_at: int  # by the collector's clock, when the head of the request was there
    sent_at: int | None  # by the client's clock


class TooMany(MalformedError):
    """More events than one request may hold."""


class Intake:
    """Takes requests into a store; thread-safe, as the store is."""

    def __init__(self, store: Store, catalog: Catalog, now: Callable[[], int]) -> None:
        self._store = store
        self._catalog = catalog
        self._now = now

    def take(self, delivery: Delivery, body: bytes) -> Answer:
        """Every event is recorded or refused, durably, before the answer is returned.

        Raises MalformedError where the body is neither JSON nor few enough events (TooMany), and whatever the store
        raises; nothing is stored then.
        """
        pieces = list(split(body, delivery.form))
        at = self._now()
        moment = format_time(at)
        records: list[Record] = []
        refusals: list[Refusal] = []
        results: list[Result | int] = []  # a number stands for the outcome of that record
        for index, raw in enumerate(pieces):
            number = None if delivery.first_seq is None else delivery.first_seq + index
            try:
                event = self._event(raw)
            except MalformedError as error:
                refusal, record, event_id = refuse(
                    raw, str(error), source=delivery.source, source_seq=number, received_at=at
                )
                refusals.append(refusal)
                results.append(Refused(event_id, refusal.reason))
            else:
                record = Record(event, Receipt(moment, delivery.source, number))
                results.append(len(records))
            records.append(record)
        if not records:
            return Answer([])
        sent_at = delivery.sent_at
        clock = None if sent_at is None else Clock(delivery.source, delivery.arrived_at, delivery.arrived_at - sent_at)
        outcomes = self._store.append(records, refusals=refusals, clock=clock)  # the commit point
        return Answer([_result(outcomes[item], records[item]) if isinstance(item, int) else item for item in results])

    def quarantine(self, delivery: Delivery, body: bytes, reason: str) -> None:
        """Keep a body of which not even the events can be told apart, as one refusal."""
        refusal, record, _ = refuse(
            body, reason, source=delivery.source, source_seq=delivery.first_seq, received_at=self._now()
        )
        self._store.append([record], refusals=[refusal])

    def _event(self, raw: bytes) -> Event:
        event = parse_event(raw)
        self._catalog.check(event)
        return event


def split(body: bytes, form: Form) -> Iterator[bytes]:
    """A body -> the exact bytes of each event. Raises MalformedError where it is not JSON, TooMany past 1,000."""
    pieces = _lines(body) if form == "ndjson" else _values(body)
    for count, piece in enumerate(pieces, 1):
        if count > MAX_EVENTS:
            raise TooMany(f"more than {MAX_EVENTS:,} events in one request.", remedy="Send them in several.")
        yield piece


def _lines(body: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        line = body[start:end]
        if line.strip(b" \t\r"):
            yield line
        start = end + 1


def _values(body: bytes) -> Iterator[bytes]:
    """The one object, or what stands in the array. They are only told apart: parse_event reads each strictly."""
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedError(f"the body is not UTF-8 at byte {error.start}.") from None
    at = _space(text, 0)
    if text[at : at + 1] == "{":
        end = _end(text, at)
        yield text[at:end].encode()
        at = end
    elif text[at : at + 1] == "[":
        at = _space(text, at + 1)
        mark = "," if text[at : at + 1] != "]" else "]"
        while mark == ",":
            end = _end(text, at)
            yield text[at:end].encode()
            end = _space(text, end)
            mark = text[end : end + 1]
            at = _space(text, end + 1) if mark == "," else end
        if mark != "]":
            raise MalformedError(f"the body is not valid JSON: the array goes on neither nor ends at character {at}.")
        at += 1
    else:
        raise MalformedError("the body is neither a JSON object, one event, nor an array of events.")
    if _space(text, at) < len(text):
        raise MalformedError(f"the body is not valid JSON: more follows at character {at}.")


_SPACE = re.compile(r"[ \t\r\n]*")  # RFC 8259 2
_scanner = json.JSONDecoder(parse_int=len, parse_float=len)  # where a value ends is all that is asked of it here


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _end(text: str, at: int) -> int:
    try:
        _, end = _scanner.raw_decode(text, at)
    except json.JSONDecodeError as error:
        raise MalformedError(f"the body is not valid JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise MalformedError("the body is JSON nested too deeply to be read.") from None
    return end


def _result(outcome: Outcome, record: Record) -> Result:
    event_id, receipt = record.event.event_id, outcome.receipt
    if outcome.status == "conflict":
        reason = f"{event_id} was recorded before with another body; both are kept and the conflict will be sealed."
        return Conflict(event_id, reason)
    kind = Recorded if outcome.status == "recorded" else Repeated
    return kind(event_id, receipt.recorded_at, receipt.source, receipt.source_seq)
