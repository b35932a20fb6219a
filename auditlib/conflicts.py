"""What the sealer cannot seal as it came becomes events that tell of it; no body is lost.

An id that came with another body:

    {"action":"audit.conflict","context":{"event_id":"e-17","first_sha256":"...","part":1,"parts":1,
     "refused":"<the refused event's canonical JSON>","second_sha256":"...","source":"billing-api/7f3a",
     "source_seq":17},"outcome":"denied",...}

A record that the catalogue in force refuses, though the collector's took it, becomes `audit.refused` in the same way.
A body too long for one context goes on in the next part. The events' ids are made from the hashes, so that the same
conflict or refusal, met again, is the same event.
"""

from __future__ import annotations

from hashlib import sha256

from auditlib.announce import OWN_SOURCE
from auditlib.formats.event import Actor, Event, Receipt, Record, Target, event_bytes
from auditlib.formats.times import format_time

MAX_REASON_CHARS = 400  # characters of a reason
PART_BYTES = 7000  # UTF-8 bytes of one part; JSON may double them within the 16 KiB of a context


def conflict_records(first: Event, second: Record, now: int) -> list[Record]:
    """The events that tell of a conflict: `first` stands, `second` was refused at `now` (microseconds, 1970 UTC)."""
    hashes = [sha256(event_bytes(event)).hexdigest() for event in (first, second.event)]
    source, event_id = second.receipt.source, second.event.event_id
    name = sha256("\n".join([source, event_id, *hashes]).encode()).hexdigest()[:32]
    parts = _parts(event_bytes(second.event))
    moment = format_time(now)
    return [
        Record(
            Event(
                action="audit.conflict",
                actor=Actor(OWN_SOURCE, None, "system"),
                context={
                    "event_id": event_id,
                    "first_sha256": hashes[0],
                    "part": number,
                    "parts": len(parts),
                    "refused": part,
                    "second_sha256": hashes[1],
                    "source": source,
                    "source_seq": second.receipt.source_seq,
                },
                event_id=f"conflict-{name}-{number}",
                occurred_at=moment,
                outcome="denied",
                target=Target(event_id, "event"),
            ),
            Receipt(moment, OWN_SOURCE, None),
        )
        for number, part in enumerate(parts, 1)
    ]


def refused_records(record: Record, reason: str) -> list[Record]:
    """The events that tell of a record which the catalogue in force refuses; they bear its own recorded_at."""
    body, receipt = event_bytes(record.event), record.receipt
    digest = sha256(body).hexdigest()
    name = sha256("\n".join([receipt.source, record.event.event_id, digest]).encode()).hexdigest()[:32]
    parts = _parts(body)
    return [
        Record(
            Event(
                action="audit.refused",
                actor=Actor(OWN_SOURCE, None, "system"),
                context={
                    "event_id": record.event.event_id,
                    "part": number,
                    "parts": len(parts),
                    "reason": reason[:MAX_REASON_CHARS],
                    "refused": part,
                    "sha256": digest,
                    "source": receipt.source,
                    "source_seq": receipt.source_seq,
                },
                event_id=f"refused-{name}-{number}",
                occurred_at=receipt.recorded_at,
                outcome="failure",
                target=Target(record.event.event_id, "event"),
            ),
            Receipt(receipt.recorded_at, OWN_SOURCE, None),
        )
        for number, part in enumerate(parts, 1)
    ]


def _parts(body: bytes) -> list[str]:
    """Cut between characters, never inside one."""
    parts = []
    while body:
        end = min(PART_BYTES, len(body))
        while end < len(body) and body[end] & 0xC0 == 0x80:  # RFC 3629: a continuation byte
            end -= 1
        parts.append(body[:end].decode())
        body = body[end:]
    return parts
