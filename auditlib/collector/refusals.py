"""What is kept of an event that is refused: the act happened, only its record is malformed.

In the same transaction as the good events of its request go the body, redacted and bounded, with the SHA-256 of the
bytes exactly as they came, and one event that the sealer seals like any other:

    {"action":"audit.refused","actor":{"id":"auditlib:collector","session":null,"type":"system"},
     "context":{"claimed":{"action":"role.grant","event_id":"01JH2K8Q9R3W","occurred_at":"yesterday"},
      "reason":"occurred_at: 'yesterday' is not a time; ...","sha256":"...","source":"billing-api/7f3a",
      "source_seq":17},
     "outcome":"failure","target":{"id":"billing-api/7f3a","type":"source"},...}
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from auditlib import announce
from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical
from auditlib.formats.event import Actor, Record, Target
from auditlib.sources.clean import clean
from auditlib.sources.redact import scrub
from auditlib.store import Refusal

COLLECTOR = "auditlib:collector"  # the source of what the collector itself records
MAX_KEPT_BYTES = 64 * 1024  # UTF-8 bytes kept of one refused body
MAX_REASON_CHARS = 1000  # characters of a reason, in the answer and in the trail
_CLAIMED = {"action": 128, "event_id": 128, "occurred_at": 64}  # characters; DESIGN 4.1's limits for a good one


def refuse(
    raw: bytes, reason: str, *, source: str, source_seq: int | None, received_at: int
) -> tuple[Refusal, Record, str | None]:
    """One refused body -> what is quarantined, the record that is sealed, and the event id it claimed (or None).

    `received_at` is in microseconds since 1970 UTC.
    """
    value = _lenient(raw)
    claimed = _claimed(value)
    reason = scrub(reason)[:MAX_REASON_CHARS]
    digest = sha256(raw).hexdigest()
    refusal = Refusal(source, source_seq, received_at, digest, reason, _redacted(raw, value))
    context = {"claimed": claimed, "reason": reason, "sha256": digest, "source": source, "source_seq": source_seq}
    return refusal, own_record("audit.refused", Target(source, "source"), context, received_at), claimed.get("event_id")


def own_record(action: str, target: Target, context: dict[str, Any], now: int) -> Record:
    """A record that the collector makes itself, at `now` (microseconds since 1970 UTC)."""
    actor = Actor(COLLECTOR, None, "system")
    return announce.own_record(action, actor, target, context, now, source=COLLECTOR, outcome="failure")


def _lenient(raw: bytes) -> Any:
    """The JSON value, were it ever so unfit for an event; None where it is no JSON at all."""
    try:
        return json.loads(raw, object_pairs_hook=_every_pair)
    except (ValueError, RecursionError):
        return None


def _every_pair(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that stands twice is kept twice: which of them counts is what made the event refused."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        name = key
        while name in found:
            name += "~"
        found[name] = value
    return found


def _claimed(value: Any) -> dict[str, str]:
    """Which event it says it is, as far as that is readable: text, cleaned and cut."""
    if not isinstance(value, dict):
        return {}
    return {
        key: scrub(found[:limit])
        for key, limit in _CLAIMED.items()
        if isinstance(found := value.get(key), str) and found
    }


def _redacted(raw: bytes, value: Any) -> str:
    """The body as text without credentials: by its keys where it is JSON, else by what looks like one."""
    if isinstance(value, dict):
        try:
            return _cut(canonical(clean(value, frozenset())))
        except (MalformedError, RecursionError):
            pass  # nested past what any log does
    return _cut(scrub(_cut(raw)).encode())


def _cut(data: bytes) -> str:
    return data[:MAX_KEPT_BYTES].decode(errors="replace")
