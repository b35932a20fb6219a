"""The trail document: what a trail promises, in force from the first seal that names it (DESIGN 4.6).

{"catalog":"<64 hex>","format":"auditlib/trail/v1","keys":["acme.example/audit+cd0ca78c+AQOh..."],"n":0,
 "origin":"acme.example/audit","previous":"<64 zeros, or the SHA-256 of document n-1>",
 "retention":{"days":2557,"mode":"COMPLIANCE"},"schema":"auditlib/record/v1"}
"""

from __future__ import annotations

import re
from hashlib import sha256

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.event import RECORD_SCHEMA
from auditlib.formats.keys import VerifierKey, check_name, parse_verifier_key
from auditlib.formats.seal import NO_PREVIOUS

DOCUMENT_FORMAT = "auditlib/trail/v1"
MAX_DOCUMENT_BYTES = 64 * 1024  # bytes
DEFAULT_RETENTION_DAYS = 2557  # 7 years in whole days, DESIGN 4.6
MAX_RETENTION_DAYS = 36_500  # 100 years; the longest lock S3 takes
MODES = ("COMPLIANCE", "GOVERNANCE")


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how many days every object is locked, and in which mode."""

    days: int
    mode: str


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Trail document n."""

    catalog: str
    format: str
    keys: tuple[str, ...]
    n: int
    origin: str
    previous: str
    retention: Retention
    schema: str

    @property
    def verifiers(self) -> tuple[VerifierKey, ...]:
        """The keys that may sign seals and checkpoints under this document."""
        return tuple(map(parse_verifier_key, self.keys))


_decoder = msgspec.json.Decoder(Document)
_encoder = msgspec.json.Encoder(order="sorted")


def document_bytes(document: Document) -> bytes:
    """A trail document -> its canonical bytes."""
    return _encoder.encode(document)


def document_hash(data: bytes) -> str:
    """SHA-256 of the document's bytes: how seals and the next document name it."""
    return sha256(data).hexdigest()


def parse_document(data: bytes) -> Document:
    """Canonical bytes -> Document, or MalformedError."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise MalformedError(f"{len(data):,} bytes; a trail document has at most {MAX_DOCUMENT_BYTES:,}.")
    try:
        document = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise MalformedError(f"not a trail document: {error}.") from None
    if document_bytes(document) != data:
        raise MalformedError("the trail document is not written canonically (RFC 8785).")
    if document.format != DOCUMENT_FORMAT:
        raise MalformedError(f"{document.format[:80]!r}; this version reads {DOCUMENT_FORMAT!r}.", where="format")
    if document.schema != RECORD_SCHEMA:
        raise MalformedError(f"{document.schema[:80]!r} is not known.", where="schema")
    check_name(document.origin)
    for field in ("catalog", "previous"):
        if not re.fullmatch(r"[0-9a-f]{64}", getattr(document, field)):
            raise MalformedError("is no SHA-256 in lower-case hex.", where=field)
    if document.keys != tuple(map(str, document.verifiers)):
        raise MalformedError("a verifier key is not spelled as auditlib spells it.", where="keys")
    if not document.verifiers or any(key.name != document.origin for key in document.verifiers):
        raise MalformedError(
            "a trail document names at least one key, and each carries the origin's name.", where="keys"
        )
    if document.n < 0 or (document.n == 0) != (document.previous == NO_PREVIOUS):
        raise MalformedError("number and previous hash do not fit.", where="n")
    check_retention(document.retention)
    return document


def check_retention(retention: Retention) -> Retention:
    """MalformedError for a mode or a number of days that no lock can have."""
    if retention.mode not in MODES:
        raise MalformedError(f"{retention.mode[:40]!r} is none of {', '.join(MODES)}.", where="retention.mode")
    if not 1 <= retention.days <= MAX_RETENTION_DAYS:
        raise MalformedError(f"{retention.days} days is outside 1 to {MAX_RETENTION_DAYS:,}.", where="retention.days")
    return retention
