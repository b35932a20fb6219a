"""Seals: canonical, signed, adding up, and each in one spelling only."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlib.errors import AuditlibError, MalformedError, MismatchError
from auditlib.formats.keys import SigningKey
from auditlib.formats.seal import (
    MAX_SEAL_BYTES,
    NO_PREVIOUS,
    Batch,
    Counts,
    Seal,
    Source,
    check_signature,
    parse_seal,
    seal_bytes,
    seal_hash,
    sign_seal,
)

KEY = SigningKey("acme.example/audit", bytes(range(32)))
OTHER = SigningKey("acme.example/audit", bytes(32))
DIGEST = "1f0c2b3a4d5e6f70" + "a" * 48
UNSIGNED = Seal(
    batch=Batch(
        events=3,
        object="batches/recorded_date=2026-03-01/000000000042-1f0c2b3a4d5e6f70.parquet",
        root="b" * 64,
        sha256=DIGEST,
        size=612345,
    ),
    counts=Counts({"role.grant": 2, "user.login": 1}, {"denied": 1, "success": 2}),
    format="auditlib/seal/v1",
    occurred=("2026-02-28T23:00:00Z", "2026-03-01T23:59:59.500000Z"),
    origin="acme.example/audit",
    previous=NO_PREVIOUS,
    recorded=("2026-03-01T00:00:00Z", "2026-03-01T23:59:59.500000Z"),
    schema="auditlib/record/v1",
    sealed_at="2026-03-02T00:00:00Z",
    sequence=42,
    signature="",
    sources={"billing-api/7f3a": Source(2, 101, 140), "import:okta": Source(1, None, None)},
    trail="c" * 64,
)
SEAL = sign_seal(UNSIGNED, KEY)


def plain(seal: Seal = SEAL) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(seal_bytes(seal))
    return value


def test_a_seal_is_rfc_8785_and_reads_back() -> None:
    """Canonical bytes without a newline; `previous` is their SHA-256."""
    data = seal_bytes(SEAL)
    assert data == rfc8785.dumps(plain())
    assert not data.endswith(b"\n")
    assert parse_seal(data) == SEAL
    assert seal_hash(data) == hashlib.sha256(data).hexdigest()
    assert check_signature(parse_seal(data), [OTHER.verifier, KEY.verifier]) == KEY.verifier


def test_signed_is_the_format_line_and_the_seal_without_its_signature() -> None:
    """DESIGN 4.4, transcribed: so that another program can check it."""
    fields = plain()
    blob = base64.b64decode(fields.pop("signature"))
    assert blob[:4] == KEY.verifier.hash
    assert KEY.verifier.verifies(blob[4:], b"auditlib/seal/v1\n" + rfc8785.dumps(fields))


def test_a_planted_seal_is_refused() -> None:
    """Unsigned, signed by a stranger, signed for other contents, or by a key nobody trusts."""
    planted = [
        UNSIGNED,
        sign_seal(UNSIGNED, OTHER),
        msgspec.structs.replace(SEAL, sequence=43),
        msgspec.structs.replace(SEAL, signature=SEAL.signature[:-4]),
        msgspec.structs.replace(SEAL, signature=SEAL.signature + "AAAA"),
        msgspec.structs.replace(SEAL, signature=base64.b64encode(KEY.verifier.hash + bytes(64)).decode()),
        msgspec.structs.replace(SEAL, signature="— not base64"),
    ]
    for seal in planted:
        with pytest.raises(MismatchError, match="planted or altered"):
            check_signature(seal, [KEY.verifier])
    with pytest.raises(MismatchError):
        check_signature(SEAL, [])


def test_a_checkpoint_signature_is_no_seal_signature() -> None:
    """The format line separates the domains: the same key over the bare seal does not sign it."""
    fields = plain()
    del fields["signature"]
    blob = KEY.verifier.hash + KEY.sign(rfc8785.dumps(fields))
    with pytest.raises(MismatchError):
        check_signature(msgspec.structs.replace(SEAL, signature=base64.b64encode(blob).decode()), [KEY.verifier])


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(seal_bytes(SEAL)) - 1), st.integers(1, 255))
def test_a_seal_with_one_changed_byte_is_refused(at: int, mask: int) -> None:
    """By its form or by its signature; nothing else can come of it."""
    altered = bytearray(seal_bytes(SEAL))
    altered[at] ^= mask
    with pytest.raises(AuditlibError):
        check_signature(parse_seal(bytes(altered)), [KEY.verifier])


def put(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(seal: dict[str, Any]) -> None:
        place: Any = seal
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


def many(seal: dict[str, Any]) -> None:
    seal["batch"]["events"] = 300
    seal["counts"] = {"actions": {f"a.b{n}": 1 for n in range(300)}, "outcomes": {"success": 300}}
    seal["sources"] = {"s": {"events": 300, "first_seq": None, "last_seq": None}}


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "another format": put("format", to="auditlib/seal/v2"),
    "another schema": put("schema", to="auditlib/record/v2"),
    "an unknown field": put("note", to="x"),
    "an unknown inner field": put("batch", "rows", to=3),
    "an origin with a space": put("origin", to="acme audit"),
    "an empty origin": put("origin", to=""),
    "a negative sequence": put("sequence", to=-1),
    "a sequence of 13 digits": put("sequence", to=10**12),
    "no events": put("batch", "events", to=0),
    "more events than a batch has": put("batch", "events", to=1_048_577),
    "no bytes": put("batch", "size", to=0),
    "more bytes than a batch has": put("batch", "size", to=512 * 1024 * 1024 + 1),
    "an upper-case hash": put("batch", "root", to="B" * 64),
    "a hash of 63 digits": put("previous", to="0" * 63),
    "a hash with a newline": put("trail", to="c" * 64 + "\n"),
    "another object": put(
        "batch", "object", to="batches/recorded_date=2026-03-01/000000000042-" + "0" * 16 + ".parquet"
    ),
    "an object of another day": put("batch", "object", to=SEAL.batch.object.replace("03-01", "03-02")),
    "an object of another sequence": put("batch", "object", to=SEAL.batch.object.replace("42-", "43-")),
    "an object outside": put("batch", "object", to="../" + SEAL.batch.object),
    "a time with an offset": put("sealed_at", to="2026-03-02T01:00:00+01:00"),
    "a time with a short fraction": put("occurred", 1, to="2026-03-01T23:59:59.5Z"),
    "a range backwards": put("occurred", to=["2026-03-02T00:00:00Z", "2026-03-01T00:00:00Z"]),
    "a recorded range backwards": put("recorded", 1, to="2026-02-01T00:00:00Z"),
    "a range of three": put("occurred", to=["2026-03-01T00:00:00Z"] * 3),
    "actions that do not add up": put("counts", "actions", "role.grant", to=3),
    "outcomes that do not add up": put("counts", "outcomes", "denied", to=0),
    "outcomes that add up by a negative one": put("counts", "outcomes", to={"denied": -1, "success": 4}),
    "actions that add up by a zero": put("counts", "actions", "a.b", to=0),
    "sources that do not add up": put("sources", "import:okta", "events", to=2),
    "sources that add up by a negative one": put("sources", "x", to={"events": 0, "first_seq": None, "last_seq": None}),
    "an unknown outcome": put("counts", "outcomes", to={"ok": 3}),
    "an action in capitals": put("counts", "actions", to={"Role.grant": 3}),
    "more than 256 actions": many,
    "a source beyond ASCII": put("sources", to={"é": {"events": 3, "first_seq": None, "last_seq": None}}),
    "half a range of numbers": put("sources", "import:okta", "first_seq", to=1),
    "numbers backwards": put("sources", "billing-api/7f3a", "last_seq", to=100),
    "numbers from zero": put("sources", "billing-api/7f3a", "first_seq", to=0),
    "numbers past 2^53 - 1": put("sources", "billing-api/7f3a", "last_seq", to=2**53),
    "a count that is a double": put("batch", "size", to=612345.5),
    "a count that is true": put("sequence", to=True),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_seal_that_cannot_be_true_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    """Canonical JSON of the wrong contents is MalformedError before any signature is looked at."""
    seal = plain()
    assert parse_seal(json.dumps(seal, sort_keys=True, separators=(",", ":")).encode())
    change(seal)
    with pytest.raises(MalformedError):
        parse_seal(json.dumps(seal, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


@pytest.mark.parametrize(
    "respell",
    [
        lambda data: data + b"\n",
        lambda data: data.replace(b'"sequence":42', b'"sequence": 42'),
        lambda data: data.replace(b'"sequence":42', b'"sequence":42.0'),
        lambda data: data.replace(b'"sequence":42', b'"sequence":41,"sequence":42'),
        lambda data: data.replace(b'"origin":"acme', b'"origin":"\\u0061cme'),
        lambda data: data.replace(b'"denied":1,"success":2', b'"success":2,"denied":1'),
        lambda data: data[:-1],
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data + data,
        lambda data: b"[" * 5000,
    ],
)
def test_a_seal_in_another_spelling_is_refused(respell: Callable[[bytes], bytes]) -> None:
    """The leaf of the checkpoint's tree is the bytes: one seal, one spelling."""
    data = seal_bytes(SEAL)
    assert respell(data) != data
    with pytest.raises(MalformedError):
        parse_seal(respell(data))


def test_256_actions_are_counted_and_more_are_null() -> None:
    """DESIGN 4.4: null past 256 distinct."""
    counts = Counts({f"a.b{n}": 1 for n in range(256)}, {"success": 256})
    seal = msgspec.structs.replace(
        SEAL,
        batch=msgspec.structs.replace(SEAL.batch, events=256),
        counts=counts,
        sources={"s": Source(256, 1, 256)},
    )
    assert parse_seal(seal_bytes(seal)) == seal
    without = msgspec.structs.replace(seal, counts=msgspec.structs.replace(counts, actions=None))
    assert parse_seal(seal_bytes(without)) == without


def test_a_seal_past_256_kib_is_neither_read_nor_signed() -> None:
    """Size is bounded before anything is parsed; signing one would make a trail that nobody can read back."""
    with pytest.raises(MalformedError, match="at most"):
        parse_seal(b"[" * (MAX_SEAL_BYTES + 1))
    sources = {f"a{number:0127}": Source(1, 1, 1) for number in range(2000)}
    huge = msgspec.structs.replace(UNSIGNED, sources=sources)
    with pytest.raises(MalformedError, match="at most"):
        sign_seal(huge, KEY)
