"""The event, frozen as version 1: who did what, to which resource, when, with what outcome (DESIGN 4.1, 4.2).

    {"action":"role.grant","actor":{"id":"u_8842","session":"s_1f9c","type":"user"},
     "context":{"granted_role":"admin","ip":"203.0.113.40"},"event_id":"01JH2K8Q9R3W",
     "occurred_at":"2026-01-08T14:32:07Z","outcome":"success","target":{"id":"u_9013","type":"user"}}

A record is the event and what the collector adds, and is what gets hashed:

    {"event":{...},"receipt":{"recorded_at":"2026-01-08T14:32:08Z","source":"billing-api/7f3a","source_seq":17}}
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, TypeVar, get_args

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.canonical import (
    MAX_INTEGER,
    canonical,
    canonical_struct,
    check_value,
    depth,
    parse_json,
    read_canonical,
)
from auditlib.formats.times import canonical_time, parse_canonical_time

RECORD_SCHEMA = "auditlib/record/v1"
MAX_EVENT_ID_CHARS = 128  # characters, DESIGN 4.1
MAX_ID_BYTES = 1024  # UTF-8 bytes of actor.id, actor.session, target.id, DESIGN 4.1
MAX_NAME_CHARS = 128  # characters of action, types and source, DESIGN 4.1
MAX_CONTEXT_BYTES = 16 * 1024  # canonical bytes, DESIGN 4.1
MAX_CONTEXT_DEPTH = 8  # levels, the context itself the first, DESIGN 4.1
MAX_EVENT_BYTES = 128 * 1024  # bytes of JSON text read at most for one event; every field at its limit fits

_Time = TypeVar("_Time", int, str)
ActorType = Literal["user", "service", "system", "support", "anonymous"]
Outcome = Literal["success", "failure", "denied"]
ACTOR_TYPES: tuple[str, ...] = get_args(ActorType)
OUTCOMES: tuple[str, ...] = get_args(Outcome)

EVENT_ID = re.compile(rf"[!-~]{{1,{MAX_EVENT_ID_CHARS}}}")
NAME = re.compile(rf"[a-z0-9_.:/-]{{1,{MAX_NAME_CHARS}}}")
ACTION = re.compile(r"[a-z0-9_:/-]+(\.[a-z0-9_:/-]+)+")  # dotted lower-case words, noun.verb


class Actor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Who acted: a stable `id`, the `session` it acted in or None, and its `type`."""

    id: str
    session: str | None
    type: str


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The resource acted on."""

    id: str
    type: str


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One event, in canonical form: `occurred_at` is canonical text, `context` holds only JSON values."""

    action: str
    actor: Actor
    context: dict[str, Any]
    event_id: str
    occurred_at: str
    outcome: str
    target: Target


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What the collector adds: when it was recorded, by which source, and that source's own number or None."""

    recorded_at: str
    source: str
    source_seq: int | None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Event and receipt: the unit that is hashed, one Merkle leaf."""

    event: Event
    receipt: Receipt


def parse_event(data: bytes | str | dict[str, Any]) -> Event:
    """JSON text or a mapping -> an Event in canonical form.

    `occurred_at` may carry any offset and precision and is rewritten as canonical UTC. Raises MalformedError
    that names the field, for anything DESIGN 4.1 refuses.
    """
    if isinstance(data, dict):
        event = _convert(data, Event)
        return check_event(_in_utc(event))
    if len(data) > MAX_EVENT_BYTES:
        raise MalformedError(f"an event of {len(data):,} bytes is past the limit of {MAX_EVENT_BYTES:,}.")
    raw = data.encode(errors="surrogatepass") if isinstance(data, str) else data
    known = read_canonical(raw, _decoder, _context)
    event = _in_utc(_convert(parse_json(data), Event) if known is None else known)
    _check_fields(event)
    if known is None or not _surely_within(raw):
        _check_kept(event.context)  # parse_json, or canonical bytes, left nothing else to look at
    return event


def check_event(event: Event) -> Event:
    """Every rule of DESIGN 4.1 on one event; returns it with its context as JSON keeps it."""
    _check_fields(event)
    _at("occurred_at", parse_canonical_time, event.occurred_at)
    return msgspec.structs.replace(event, context=check_context(event.context))


def _check_fields(event: Event) -> None:
    """Every rule but those of the context and of the time."""
    actor, target = event.actor, event.target
    _match("event_id", event.event_id, EVENT_ID, "1 to 128 visible ASCII characters")
    _check_names(event.action, actor.type, event.outcome, target.type)
    _id("actor.id", actor.id)
    if actor.session is not None:
        _id("actor.session", actor.session)
    _id("target.id", target.id)


@lru_cache(maxsize=1024)  # few are distinct; what is refused is not kept, so that one is at most 512 characters long
def _check_names(action: str, actor_type: str, outcome: str, target_type: str) -> None:
    _match("action", action, NAME, "at most 128 characters of a-z 0-9 _ . : / -")
    _match("action", action, ACTION, "dotted lower-case words, noun.verb, like role.grant")
    _one_of("actor.type", actor_type, ACTOR_TYPES)
    _one_of("outcome", outcome, OUTCOMES)
    _match("target.type", target_type, NAME, "1 to 128 characters of a-z 0-9 _ . : / -")


def _in_utc(event: Event) -> Event:
    """The same event with `occurred_at` in its canonical spelling."""
    text = _at("occurred_at", canonical_time, event.occurred_at)
    return event if text == event.occurred_at else msgspec.structs.replace(event, occurred_at=text)


def _surely_within(data: bytes) -> bool:
    """Whether an event's canonical bytes show at a glance that its context keeps the rules of _check_kept."""
    # Each level opens with a bracket, and three are the event's own: its, the actor's and the target's.
    brackets = data.count(b"{") + data.count(b"[") - 3
    return len(data) <= MAX_CONTEXT_BYTES and brackets <= MAX_CONTEXT_DEPTH and b'"$enc"' not in data


def check_context(context: Any) -> dict[str, Any]:
    """The context as JSON keeps it, or MalformedError: size, depth, numbers, characters, the reserved `$enc`."""
    if not isinstance(context, dict):  # a batch's cell, unlike an event's field, may hold any JSON value
        raise MalformedError("is not a JSON object.", where="context")
    try:
        kept: dict[str, Any] = check_value(context, "context")
    except RecursionError:
        raise MalformedError(f"is nested past {MAX_CONTEXT_DEPTH} levels.", where="context") from None
    _check_kept(kept)
    return kept


def _check_kept(kept: dict[str, Any]) -> None:
    """The rules on a context that holds nothing but what JSON keeps: size, depth, the reserved `$enc`."""
    try:
        levels = depth(kept)
    except RecursionError:
        raise MalformedError(f"is nested past {MAX_CONTEXT_DEPTH} levels.", where="context") from None
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


def _at(where: str, parse: Callable[[str], _Time], text: str) -> _Time:
    try:
        return parse(text)
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
    if len(text) <= MAX_ID_BYTES and text.isascii() and "\0" not in text:
        return  # as nearly every id is
    check_value(text, where)
    size = len(text.encode())
    if size > MAX_ID_BYTES:
        raise MalformedError(f"{size:,} UTF-8 bytes; at most {MAX_ID_BYTES:,} are kept.", where=where)


def _has_reserved(value: Any) -> bool:
    if isinstance(value, dict):
        return ("$enc" in value and len(value) == 1) or any(map(_has_reserved, value.values()))
    return isinstance(value, list) and any(map(_has_reserved, value))


def _context(event: Event) -> dict[str, Any]:
    return event.context


_decoder = msgspec.json.Decoder(Event)
