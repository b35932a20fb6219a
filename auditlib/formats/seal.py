"""The seal: the signed canonical JSON that describes a batch and carries the hash of the seal before (DESIGN 4.4).

    {"batch":{"events":50000,"object":"batches/recorded_date=2026-03-01/000000000042-1f0c2b3a4d5e6f70.parquet",
              "root":"<64 hex>","sha256":"<64 hex>","size":612345},
     "counts":{"actions":{"role.grant":3},"outcomes":{"success":3}},"format":"auditlib/seal/v1",
     "occurred":["2026-03-01T00:00:00Z","2026-03-01T23:59:59.500000Z"],"origin":"acme.example/audit",
     "previous":"<64 hex>","recorded":["...","..."],"schema":"auditlib/record/v1","sealed_at":"...","sequence":42,
     "signature":"<base64 of key hash || signature>",
     "sources":{"billing-api/7f3a":{"events":40,"first_seq":101,"last_seq":140}},"trail":"<64 hex>"}

Signed is the line `auditlib/seal/v1` with its newline, then the canonical seal without `signature`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec

from auditlib.errors import MalformedError, MismatchError
from auditlib.formats import layout
from auditlib.formats.canonical import MAX_INTEGER, canonical
from auditlib.formats.event import NAME, OUTCOMES, RECORD_SCHEMA
from auditlib.formats.keys import (
    KEY_HASH_BYTES,
    SIGNATURE_BYTES,
    SigningKey,
    VerifierKey,
    check_name,
    decode_base64,
)
from auditlib.formats.times import parse_canonical_time

SEAL_FORMAT = "auditlib/seal/v1"
MAX_SEAL_BYTES = 256 * 1024  # bytes, DESIGN 4.4
MAX_ACTIONS = 256  # distinct actions counted, DESIGN 4.4
MAX_BATCH_EVENTS = 1_048_576  # rows, DESIGN 4.3
MAX_BATCH_BYTES = 512 * 1024 * 1024  # bytes, DESIGN 4.3
NO_PREVIOUS = "0" * 64  # DESIGN 4.4: the first seal's previous

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the seal says of its batch object: rows, key, Merkle root, SHA-256 and size in bytes."""

    events: int
    object: str
    root: str
    sha256: str
    size: int


class Counts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Events by action (None past 256 distinct actions) and by outcome."""

    actions: dict[str, int] | None
    outcomes: dict[str, int]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One source in the batch: its events, and its least and greatest sequence number (None where it has none)."""

    events: int
    first_seq: int | None
    last_seq: int | None


class Seal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One seal. Times are canonical text; ranges are [least, greatest]."""

    batch: Batch
    counts: Counts
    format: str
    occurred: tuple[str, str]
    origin: str
    previous: str
    recorded: tuple[str, str]
    schema: str
    sealed_at: str
    sequence: int
    signature: str
    sources: dict[str, Source]
    trail: str


_decoder = msgspec.json.Decoder(Seal)
_encoder = msgspec.json.Encoder(order="sorted")  # every key is ASCII and no value a float: RFC 8785


def seal_bytes(seal: Seal) -> bytes:
    """A seal -> its canonical bytes, without a newline."""
    return _encoder.encode(seal)


def seal_hash(data: bytes) -> str:
    """SHA-256 of the seal's bytes: the next seal's `previous`."""
    return sha256(data).hexdigest()


def parse_seal(data: bytes) -> Seal:
    """Canonical bytes -> Seal. Raises MalformedError for any deviation of form; the signature is not looked at."""
    if len(data) > MAX_SEAL_BYTES:
        raise MalformedError(f"{len(data):,} bytes; a seal has at most {MAX_SEAL_BYTES:,}.")
    try:
        seal = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise MalformedError(f"not a seal: {error}.") from None
    if seal_bytes(seal) != data:
        raise MalformedError("the seal is not written canonically (RFC 8785).")
    _check(seal)
    return seal


def sign_seal(seal: Seal, key: SigningKey) -> Seal:
    """The same seal with this key's signature; MalformedError for one too long to be read back."""
    blob = key.verifier.hash + key.sign(_signed_bytes(seal))
    signed = msgspec.structs.replace(seal, signature=base64.b64encode(blob).decode())
    size = len(seal_bytes(signed))
    if size > MAX_SEAL_BYTES:
        raise MalformedError(
            f"the seal would take {size:,} bytes; at most {MAX_SEAL_BYTES:,} can be read back.",
            remedy="Its batch comes from too many sources: put fewer events into it (--max-events).",
        )
    return signed


def check_signature(seal: Seal, keys: Iterable[VerifierKey]) -> VerifierKey:
    """The key among `keys` that signed the seal; MismatchError where none did."""
    keys = tuple(keys)
    try:
        blob = decode_base64(seal.signature)
    except MalformedError:
        blob = b""
    if len(blob) == KEY_HASH_BYTES + SIGNATURE_BYTES:
        message = _signed_bytes(seal)
        for key in keys:
            if key.hash == blob[:KEY_HASH_BYTES] and key.verifies(blob[KEY_HASH_BYTES:], message):
                return key
    raise MismatchError(
        "the seal is not signed by a key of the trail; it was planted or altered.",
        expected=" or ".join(sorted(map(str, keys))),
        found=seal.signature[:120] or "no signature",
    )


def _signed_bytes(seal: Seal) -> bytes:
    fields: dict[str, Any] = msgspec.to_builtins(seal)
    del fields["signature"]
    return SEAL_FORMAT.encode() + b"\n" + canonical(fields)


def _check(seal: Seal) -> None:
    batch = seal.batch
    if seal.format != SEAL_FORMAT:
        raise MalformedError(f"{seal.format[:80]!r}; this version reads {SEAL_FORMAT!r}.", where="format")
    if seal.schema != RECORD_SCHEMA:
        raise MalformedError(
            f"{seal.schema[:80]!r} is not known; this version reads {RECORD_SCHEMA!r}.", where="schema"
        )
    check_name(seal.origin)
    if not 0 <= seal.sequence < 10**12:
        raise MalformedError(f"{seal.sequence} is no sequence number.", where="sequence")
    if not 1 <= batch.events <= MAX_BATCH_EVENTS:
        raise MalformedError(f"{batch.events:,} is outside 1 to {MAX_BATCH_EVENTS:,}.", where="batch.events")
    if not 1 <= batch.size <= MAX_BATCH_BYTES:
        raise MalformedError(f"{batch.size:,} is outside 1 to {MAX_BATCH_BYTES:,} bytes.", where="batch.size")
    for where, text in (
        ("batch.root", batch.root),
        ("batch.sha256", batch.sha256),
        ("previous", seal.previous),
        ("trail", seal.trail),
    ):
        if not _SHA256.fullmatch(text):
            raise MalformedError(f"{text[:80]!r} is no SHA-256 in lower-case hex.", where=where)
    parse_canonical_time(seal.sealed_at)
    for where, (low, high) in (("occurred", seal.occurred), ("recorded", seal.recorded)):
        if parse_canonical_time(low) > parse_canonical_time(high):
            raise MalformedError(f"{low} is later than {high}.", where=where)
    _check_counts(seal)
    # DESIGN 4.6 dates the object by the first recorded_at: the least, the one that the seal states.
    expected = layout.batch_key(seal.sequence, parse_canonical_time(seal.recorded[0]), batch.sha256)
    if batch.object != expected:
        raise MalformedError(f"{batch.object[:160]!r} is not the key {expected!r}.", where="batch.object")


def _check_counts(seal: Seal) -> None:
    actions, outcomes = seal.counts.actions, seal.counts.outcomes
    totals = [sum(outcomes.values()), sum(source.events for source in seal.sources.values())]
    if actions is not None:
        if len(actions) > MAX_ACTIONS:
            raise MalformedError(f"more than {MAX_ACTIONS} distinct; write null.", where="counts.actions")
        totals.append(sum(actions.values()))
    if any(total != seal.batch.events for total in totals):
        raise MalformedError(f"do not add up to {seal.batch.events:,} events.", where="counts")
    every = [
        *(actions or {}).values(),
        *outcomes.values(),
        *(source.events for source in seal.sources.values()),
    ]
    if min(every, default=1) < 1:
        raise MalformedError("a count is below 1.", where="counts")
    if not all(map(NAME.fullmatch, actions or ())):
        raise MalformedError("an action is not written as it must be.", where="counts.actions")
    if not set(outcomes) <= set(OUTCOMES):
        raise MalformedError(f"only {', '.join(OUTCOMES)} are outcomes.", where="counts.outcomes")
    for name, source in seal.sources.items():
        numbered = source.first_seq is not None and source.last_seq is not None
        if not NAME.fullmatch(name) or (source.first_seq is None) != (source.last_seq is None):
            raise MalformedError(f"the source {name[:160]!r} is not described as it must be.", where="sources")
        if numbered and not 1 <= source.first_seq <= source.last_seq <= MAX_INTEGER:  # type: ignore[operator]
            raise MalformedError(f"the sequence numbers of {name} are out of order.", where="sources")
