"""The event, frozen as version 1: who did what, to which resource, when, with what outcome (DESIGN 4.1, 4.2).

    {"action":"role.grant","actor":{"id":"u_8842","session":"s_1f9c","type":"user"},
     "context":{"granted_role":"admin","ip":"203.0.113.40"},"event_id":"01JH2K8Q9R3W",
     "occurred_at":"2026-01-08T14:32:07Z","outcome":"success","target":{"id":"u_9013","type":"user"}}

A record is the event and what the collector adds, and is what gets hashed:

    {"event":{...},"receipt":{"recorded_at":"2026-01-08T14:32:08Z","source":"billing-api/7f3a","source_seq":17}}
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.canonical import MAX_INTEGER, canonical, canonical_struct, check_value, depth, parse_json
from auditlib.formats.times import format_time, parse_canonical_time, parse_time

RECORD_SCHEMA = "auditlib/record/v1"
MAX_EVENT_ID_CHARS = 128  # characters, DESIGN 4.1
MAX_ID_BYTES = 1024  # UTF-8 bytes of actor.id, actor.session, target.id, DESIGN 4.1
MAX_NAME_CHARS = 128  # characters of action, types and source, DESIGN 4.1
MAX_CONTEXT_BYTES = 16 * 1024  # canonical bytes, DESIGN 4.1
MAX_CONTEXT_DEPTH = 8  # levels, the context itself the first, DESIGN 4.1
MAX_EVENT_BYTES = 128 * 1024  # bytes of JSON text read at most for one event; every field at its limit fits

ActorType = Literal["user", "service", "system", "support", "anonymous"]
Outcome = Literal["success", "failure", "denied"]
ACTOR_TYPES: tuple[str, ...] = get_args(ActorType)
OUTCOMES: tuple[str, ...] = get_args(Outcome)

EVENT_ID = re.compile(rf"[!-~]{{1,{MAX_EVENT_ID_CHARS}}}")
NAME = re.compile(rf"[a-z0-9_.:/-]{{1,{MAX_NAME_CHARS}}}")
ACTION = re.compile(r"[a-z0-9_:/-]+(\.[a-z0-9_:/-]+)+")  # dotted lower-case words, noun.verb


class Actor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who acted: a stable `id`, the `session` it acted in or None, and its `type`."""

    id: str
    session: str | None
    type: str


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The resource acted on."""

    id: str
    type: str


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One event, in canonical form: `occurred_at` is canonical text, `context` holds only JSON values."""

    action: str
    actor: Actor
    context: dict[str, Any]
    event_id: str
    occurred_at: str
    outcome: str
    target: Target


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the collector adds: when it was recorded, by which source, and that source's own number or None."""

    recorded_at: str
    source: str
    source_seq: int | None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Event and receipt: the unit that is hashed, one Merkle leaf."""

    event: Event
    receipt: Receipt


def parse_event(data: bytes | str | dict[str, Any]) -> Event:
    """JSON text or a mapping -> an Event in canonical form.

    `occurred_at` may carry any offset and precision and is rewritten as canonical UTC. Raises MalformedError
    that names the field, for anything DESIGN 4.1 refuses.
    """
    if not isinstance(data, dict):
        if len(data) > MAX_EVENT_BYTES:
            raise MalformedError(f"an event of {len(data):,} bytes is past the limit of {MAX_EVENT_BYTES:,}.")
        data = parse_json(data)
    event = _convert(data, Event)
    return check_event(msgspec.structs.replace(event, occurred_at=_at("occurred_at", parse_time, event.occurred_at)))


def check_event(event: Event) -> Event:
    """Every rule of DESIGN 4.1 on one event; returns it with its context as JSON keeps it."""
    _match("event_id", event.event_id, EVENT_ID, "1 to 128 visible ASCII characters")
    _match("action", event.action, NAME, "at most 128 characters of a-z 0-9 _ . : / -")
    _match("action", event.action, ACTION, "dotted lower-case words, noun.verb, like role.grant")
    _one_of("actor.type", event.actor.type, ACTOR_TYPES)
    _one_of("outcome", event.outcome, OUTCOMES)
    _match("target.type", event.target.type, NAME, "1 to 128 characters of a-z 0-9 _ . : / -")
    _id("actor.id", event.actor.id)
    if event.actor.session is not None:
        _id("actor.session", event.actor.session)
    _id("target.id", event.target.id)
    _at("occurred_at", parse_canonical_time, event.occurred_at)
    return msgspec.structs.replace(event, context=check_context(event.context))


def check_context(context: Any) -> dict[str, Any]:
    """The context as JSON keeps it, or MalformedError: size, depth, numbers, characters, the reserved `$enc`."""
    if not isinstance(context, dict):  # a batch's cell, unlike an event's field, may hold any JSON value
        raise MalformedError("is not a JSON object.", where="context")
    try:
        kept: dict[str, Any] = check_value(context, "context")
    except RecursionError:
        raise MalformedError(f"is nested past {MAX_CONTEXT_DEPTH} levels.", where="context") from None
    levels = depth(kept)
    if levels > MAX_CONTEXT_DEPTH:
        raise MalformedError(f"{levels} levels deep; at most {MAX_CONTEXT_DEPTH} are kept.", where="context")
    if _has_reserved(kept):
        raise MalformedError("an object whose only key is $enc is reserved; name the key otherwise.", where="context")
    size = len(canonical(kept))
    if size > MAX_CONTEXT_BYTES:
        raise MalformedError(
            f"{size:,} canonical bytes; at most {MAX_CONTEXT_BYTES:,} are kept.",
            where="context",
            remedy="Keep the state that made the action privileged and put a reference for the rest.",
        )
    return kept


def parse_record(data: bytes | str) -> Record:
    """Canonical record bytes -> a Record. Raises MalformedError unless it re-encodes to the same bytes."""
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    if len(raw) > MAX_EVENT_BYTES:
        raise MalformedError(f"a record of {len(raw):,} bytes is past the limit of {MAX_EVENT_BYTES:,}.")
    record = check_record(_convert(parse_json(raw), Record))
    if record_bytes(record) != raw:
        raise MalformedError("the record is not written canonically (RFC 8785).")
    return record


def check_record(record: Record) -> Record:
    """Every rule of DESIGN 4.1 and 4.2 on one record."""
    receipt = record.receipt
    _match("receipt.source", receipt.source, NAME, "1 to 128 characters of a-z 0-9 _ . : / -")
    _at("receipt.recorded_at", parse_canonical_time, receipt.recorded_at)
    if receipt.source_seq is not None and not 1 <= receipt.source_seq <= MAX_INTEGER:
        raise MalformedError("counts from 1 to 2^53 - 1, or is null.", where="receipt.source_seq")
    return Record(check_event(record.event), receipt)


def event_bytes(event: Event) -> bytes:
    """An event -> its canonical JSON."""
    return canonical_struct(event, event.context)


def record_bytes(record: Record) -> bytes:
    """A record -> its canonical JSON, the second part of its Merkle entry (DESIGN 4.2)."""
    return canonical_struct(record, record.event.context)


def source_name(source: str) -> str:
    """`billing-api/7f3a` -> `billing-api`: the name by which silence is judged (DESIGN 4.2)."""
    return source.split("/", 1)[0]


def _convert(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at ")
        where = path.strip("`").removeprefix("$.").removeprefix("$")
        raise MalformedError(f"{text}.", where=where) from None
    except RecursionError:
        raise MalformedError("nested too deeply to be read.") from None


def _at(where: str, parse: Any, text: str) -> str:
    try:
        return format_time(parse(text))
    except MalformedError as error:
        raise error.at(where) from None


def _match(where: str, text: str, pattern: re.Pattern[str], rule: str) -> None:
    if not pattern.fullmatch(text):
        raise MalformedError(f"{text[:160]!r} is refused: it must be {rule}.", where=where)


def _one_of(where: str, text: str, allowed: tuple[str, ...]) -> None:
    if text not in allowed:
        raise MalformedError(f"{text[:160]!r} is none of {', '.join(allowed)}.", where=where)


def _id(where: str, text: str) -> None:
    if not text:
        raise MalformedError("is empty; every id names somebody or something.", where=where)
    check_value(text, where)
    size = len(text.encode())
    if size > MAX_ID_BYTES:
        raise MalformedError(f"{size:,} UTF-8 bytes; at most {MAX_ID_BYTES:,} are kept.", where=where)


def _has_reserved(value: Any) -> bool:
    if isinstance(value, dict):
        return list(value) == ["$enc"] or any(map(_has_reserved, value.values()))
    return isinstance(value, list) and any(map(_has_reserved, value))
