"""Trail documents: what a trail promises, canonical and in one spelling."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest
import rfc8785
from test_checkpoint import VKEY

from auditlib.errors import MalformedError
from auditlib.formats.document import (
    DEFAULT_RETENTION_DAYS,
    MAX_DOCUMENT_BYTES,
    Document,
    Retention,
    check_retention,
    document_bytes,
    document_hash,
    parse_document,
)
from auditlib.formats.keys import SigningKey

FIRST = Document(
    catalog="a" * 64,
    format="auditlib/trail/v1",
    keys=(VKEY,),
    n=0,
    origin="acme.example/audit",
    previous="0" * 64,
    retention=Retention(DEFAULT_RETENTION_DAYS, "COMPLIANCE"),
    schema="auditlib/record/v1",
)
NEW_KEY = str(SigningKey("acme.example/audit", bytes(32)).verifier)


def test_a_document_is_rfc_8785_and_reads_back() -> None:
    """Documents 0 and 1, the second with a rotated key."""
    second = msgspec.structs.replace(FIRST, n=1, previous=document_hash(document_bytes(FIRST)), keys=(VKEY, NEW_KEY))
    for document in (FIRST, second):
        data = document_bytes(document)
        assert data == rfc8785.dumps(msgspec.to_builtins(document))
        assert parse_document(data) == document
        assert tuple(map(str, document.verifiers)) == document.keys
        assert document_hash(data) == hashlib.sha256(data).hexdigest()


CHANGES: dict[str, dict[str, Any]] = {
    "another format": {"format": "auditlib/trail/v2"},
    "another schema": {"schema": "auditlib/record/v2"},
    "an unknown field": {"note": ""},
    "no key": {"keys": []},
    "a key of another name": {"keys": [str(SigningKey("evil.example", bytes(32)).verifier)]},
    "a key with another hash": {"keys": [VKEY.replace("cd0ca78c", "cd0ca78d")]},
    "a key with a space behind it": {"keys": [VKEY + " "]},
    "a key with a newline before it": {"keys": ["\n" + VKEY]},
    "a key that is no text": {"keys": [7]},
    "an upper-case catalogue": {"catalog": "A" * 64},
    "a short previous": {"previous": "0" * 63},
    "a first document that has a previous one": {"previous": "1" * 64},
    "a second document without a previous one": {"n": 1},
    "a negative number": {"n": -1, "previous": "1" * 64},
    "an origin with a plus": {"origin": "acme+audit"},
    "no retention": {"retention": {"days": 0, "mode": "COMPLIANCE"}},
    "a retention of 101 years": {"retention": {"days": 36_865, "mode": "COMPLIANCE"}},
    "a retention of half a day": {"retention": {"days": 0.5, "mode": "COMPLIANCE"}},
    "another mode": {"retention": {"days": 1, "mode": "compliance"}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_document_that_cannot_be_true_is_refused(change: dict[str, Any]) -> None:
    """Canonical JSON of the wrong contents is MalformedError."""
    document = msgspec.to_builtins(FIRST) | change
    with pytest.raises(MalformedError):
        parse_document(rfc8785.dumps(document))


@pytest.mark.parametrize(
    "spell", [json.dumps, lambda value: rfc8785.dumps(value).decode() + "\n", lambda value: "[" * 9999]
)
def test_a_document_in_another_spelling_is_refused(spell: Any) -> None:
    """Seals name a document by its hash: one document, one spelling."""
    with pytest.raises(MalformedError):
        parse_document(spell(msgspec.to_builtins(FIRST)).encode())


def test_a_document_past_64_kib_is_not_read() -> None:
    """Size is bounded before anything is parsed."""
    with pytest.raises(MalformedError, match="at most"):
        parse_document(b" " * (MAX_DOCUMENT_BYTES + 1))


def test_retention_is_whole_days_in_a_mode_that_locks_have() -> None:
    """1 day to 100 years, COMPLIANCE or GOVERNANCE."""
    for retention in (Retention(1, "GOVERNANCE"), Retention(36_500, "COMPLIANCE")):
        assert check_retention(retention) == retention
    for retention in (Retention(0, "GOVERNANCE"), Retention(36_501, "COMPLIANCE"), Retention(1, "")):
        with pytest.raises(MalformedError):
            check_retention(retention)
