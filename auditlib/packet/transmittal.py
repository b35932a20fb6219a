"""transmittal.json: who prepared and reviewed a packet, when, and what it takes the place of (DESIGN 4.7).

    {"payload": ...,"payloadType":"application/vnd.in-toto+json","signatures":[{"keyid":"...","sig":"..."}]}

    payload = {"_type":"https://in-toto.io/Statement/v1",
               "predicate":{"checkpoints":[{"age_seconds":3600,"last_sealed_at":"...","origin":"acme.example/audit",
                            "size":27}],"evidence_digest":"...","packet_digest":"...",
                            "preparer":{"key":"ada@acme.example+...","name":"Ada Okafor"},"reviewer":"Grace Lee",
                            "signed_at":"...","supersedes":{"packet_digest":"...","reason":"..."}},
               "predicateType":"urn:auditlib:transmittal:v1","subject":[{"digest":{"sha256":"..."},"name":"bag-info.txt"},
               ...]}

An in-toto statement over every file of the bag, in a DSSE envelope that standard tools verify. The preparer signs first
and names the key; whoever signs after that (the reviewer) signs the same payload. It is the only place for a clock.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from auditlib.errors import AuditlibError, MalformedError, MismatchError, UnavailableError
from auditlib.findings import Finding, moment
from auditlib.formats.canonical import canonical, parse_json
from auditlib.formats.keys import SigningKey, VerifierKey, parse_verifier_key
from auditlib.formats.times import SECOND, parse_canonical_time
from auditlib.packet.bag import (
    MANIFEST,
    TAGMANIFEST,
    TRANSMITTAL,
    Bag,
    check_manifests,
    open_bag,
    packet_digest,
    read_manifest,
    write_bag,
)
from auditlib.packet.dsse import Envelope, envelope_bytes, parse_envelope

TRANSMITTAL_CHECK = 7
TRANSMITTAL_SAYS = "transmittal.json, where there is one, speaks of these files and is signed by its preparer"
PAYLOAD_TYPE = "application/vnd.in-toto+json"  # in-toto attestation 1.0, envelope layer
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "urn:auditlib:transmittal:v1"
MAX_BYTES = 16 * 1024 * 1024  # bytes of transmittal.json, and of packet.json; 10,000 files of long names take 15 MB
MAX_TEXT_BYTES = 1024  # bytes of a name or a reason, as of an actor's id (DESIGN 4.1)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_Subject = dict[str, str | dict[str, str]]  # no deeper, so that whatever is nested is refused where it is read


class Preparer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who prepared the packet, as the signer says, and the verifier key that the first signature is by."""

    key: str
    name: str


class Age(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint of the packet, and the seconds from its last seal to the signing."""

    age_seconds: int
    last_sealed_at: str
    origin: str
    size: int


class Supersedes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The packet that this one corrects, and why."""

    packet_digest: str
    reason: str


class Transmittal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The predicate: what the signers say of the packet."""

    checkpoints: list[Age]
    evidence_digest: str
    packet_digest: str
    preparer: Preparer
    reviewer: str | None
    signed_at: str
    supersedes: Supersedes | None


class _Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"predicate_type": "predicateType"}):
    predicate: Transmittal
    predicate_type: Literal["urn:auditlib:transmittal:v1"]
    subject: list[_Subject]
    type: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")


class _Facts(msgspec.Struct, frozen=True):
    """What a bag says of itself, as far as a transmittal repeats it."""

    subject: list[_Subject]
    packet_digest: str
    evidence_digest: str
    checkpoints: list[tuple[str, int, str]]  # origin, size, last_sealed_at
    sealers: set[str]  # names of the keys that sealed


class Checked(msgspec.Struct, frozen=True):
    """Check 7: what was found, what was not checked, and the keys given that signed; None without a transmittal."""

    transmittal: Transmittal | None
    findings: tuple[Finding, ...] = ()
    unchecked: tuple[str, ...] = ()
    signers: tuple[VerifierKey, ...] = ()


class BagFiles(Mapping[str, bytes]):
    """Every file of a bag, with some put in their places, read one at a time."""

    def __init__(self, bag: Bag, more: Mapping[str, bytes]) -> None:
        self._bag, self._more = bag, more
        self._names = sorted({*bag.sizes, *more})

    def __getitem__(self, name: str) -> bytes:
        return self._more[name] if name in self._more else self._bag.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def sign_packet(
    path: Path,
    key: SigningKey,
    *,
    now: int,
    preparer: str | None = None,
    reviewer: str | None = None,
    supersedes: Supersedes | None = None,
) -> Transmittal:
    """Sign a packet (a folder or zip), or add a signature to a signed one; nothing of it but transmittal.json changes.

    `now` is microseconds since 1970 UTC. A packet that is signed already keeps what its preparer stated: whatever is
    given here must be the same. Raises MalformedError for the user's mistakes, MismatchError where the bag is not what
    its manifests say or the transmittal is of another packet; then nothing is written.
    """
    with open_bag(path) as bag:
        for error in check_manifests(bag):
            raise error
        facts = _facts(bag)
        if key.name in facts.sealers:
            raise MalformedError(
                f"{key.name} is a key that seals; who prepares a packet signs with a key of their own.",
                where="--key",
                remedy="Make one with `auditlib keygen NAME`.",
            )
        if TRANSMITTAL in bag.sizes:
            envelope = parse_envelope(bag.read(TRANSMITTAL, MAX_BYTES))
            transmittal = _standing(bag, {"preparer": preparer, "reviewer": reviewer, "supersedes": supersedes})
        else:
            transmittal = _stated(facts, key, now, preparer, reviewer, supersedes)
            statement = _Statement(transmittal, PREDICATE_TYPE, facts.subject, STATEMENT_TYPE)
            envelope = Envelope(canonical(msgspec.to_builtins(statement)), PAYLOAD_TYPE)
            _parse_statement(envelope)
        try:
            signed = envelope.signed(key)
        except MalformedError as error:
            raise error.at(TRANSMITTAL) from None
        _write(path.resolve(), bag, envelope_bytes(signed))
    return transmittal


def check_transmittal(bag: Bag, keys: Iterable[VerifierKey] = ()) -> Checked:
    """Check 7. `keys` are those you trust; it rests on check 1, which holds the files against the manifests.

    The signature by the key that the transmittal names itself must be right in any case; that the key is the preparer's
    is confirmed by `keys` alone.
    """
    if TRANSMITTAL not in bag.sizes:
        return Checked(
            None, unchecked=(f"there is no {TRANSMITTAL}: nobody has signed for the packet as its preparer",)
        )
    keys = tuple(keys)
    try:
        envelope = parse_envelope(bag.read(TRANSMITTAL, MAX_BYTES))
        stated = _parse_statement(envelope)
        facts = _facts(bag)
    except AuditlibError as error:
        return Checked(None, (_finding(str(error)),))
    transmittal = stated.predicate
    findings = [*_signature_faults(envelope, transmittal, keys), *_other_facts(stated, facts)]
    signers = tuple(key for key in keys if any(envelope.verified(each, key) for each in envelope.signatures))
    return Checked(transmittal, tuple(findings), tuple(_unchecked(envelope, transmittal, signers)), signers)


# --- what is stated ----------------------------------------------------------------------------------------------


def _stated(
    facts: _Facts,
    key: SigningKey,
    now: int,
    preparer: str | None,
    reviewer: str | None,
    supersedes: Supersedes | None,
) -> Transmittal:
    if preparer is None:
        raise MalformedError("the packet is not signed yet; say who prepared it.", where="--preparer")
    signed_at = moment(now)
    return Transmittal(
        checkpoints=[
            Age(_age(signed_at, sealed_at), sealed_at, origin, size) for origin, size, sealed_at in facts.checkpoints
        ],
        evidence_digest=facts.evidence_digest,
        packet_digest=facts.packet_digest,
        preparer=Preparer(str(key.verifier), preparer),
        reviewer=reviewer,
        signed_at=signed_at,
        supersedes=supersedes,
    )


def _standing(bag: Bag, given: Mapping[str, str | Supersedes | None]) -> Transmittal:
    """What a signed packet states, once it is known to speak of these files and to say nothing else than is given."""
    checked = check_transmittal(bag)
    faults = [finding for finding in checked.findings if finding.severity == "error"]
    if checked.transmittal is None or faults:
        raise MismatchError(
            f"the packet is signed already, and not rightly: {faults[0].message}",
            where=TRANSMITTAL,
            remedy="Nothing was written. Delete transmittal.json to sign the packet anew.",
            expected=faults[0].expected,
            found=faults[0].found,
        )
    stated = {**msgspec.structs.asdict(checked.transmittal), "preparer": checked.transmittal.preparer.name}
    for name, value in given.items():
        if value is not None and value != stated[name]:
            raise MalformedError(
                f"the packet is signed already, and states {stated[name]!r}; others sign the same words.",
                where=f"--{name}",
                remedy="Give --key alone, or delete transmittal.json to sign the packet anew.",
            )
    return checked.transmittal


def _parse_statement(envelope: Envelope) -> _Statement:
    """The payload, strictly read: MalformedError for another type, unknown fields, another spelling, odd values."""
    if envelope.payload_type != PAYLOAD_TYPE:
        raise MalformedError(f"the payload is said to be {envelope.payload_type[:80]!r}, not {PAYLOAD_TYPE}.")
    try:
        statement = msgspec.json.decode(envelope.payload, type=_Statement)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedError(f"no statement of {PREDICATE_TYPE}: {error}.") from None
    if canonical(msgspec.to_builtins(statement)) != envelope.payload:
        raise MalformedError("the statement is not written canonically (RFC 8785).")
    stated = statement.predicate
    parse_canonical_time(stated.signed_at)
    if str(parse_verifier_key(stated.preparer.key)) != stated.preparer.key:
        raise MalformedError("the preparer's key is not written as a verifier key is.")
    texts = [stated.preparer.name]
    if stated.reviewer is not None:
        texts.append(stated.reviewer)
    if stated.supersedes:
        texts.append(stated.supersedes.reason)
        if not _DIGEST.fullmatch(stated.supersedes.packet_digest):
            raise MalformedError("what it supersedes is named by a packet digest, 64 hex characters.")
        if stated.supersedes.packet_digest == stated.packet_digest:
            raise MalformedError("a packet cannot supersede itself.")
    for text in texts:
        if not text.strip() or len(text.encode()) > MAX_TEXT_BYTES:
            raise MalformedError(f"a name or a reason is 1 to {MAX_TEXT_BYTES:,} bytes of text.")
    return statement


def _facts(bag: Bag) -> _Facts:
    tags, payload = read_manifest(bag, TAGMANIFEST), read_manifest(bag, MANIFEST)
    files = {**payload, **tags, TAGMANIFEST: packet_digest(bag)}
    packet = parse_json(bag.read("data/packet.json", MAX_BYTES))
    try:
        checkpoints = [(one["origin"], one["size"], one["last_sealed_at"]) for one in packet["checkpoints"]]
        sealers = {origin for origin, _, _ in checkpoints} | {
            parse_verifier_key(key).name for one in packet["checkpoints"] for key in one["keys"]
        }
        for _, _, sealed_at in checkpoints:
            parse_canonical_time(sealed_at)
        evidence = payload["data/packet.json"]
    except (LookupError, TypeError, ValueError, AttributeError):
        raise MalformedError("packet.json names no checkpoints as a packet does.") from None
    subject: list[_Subject] = [{"digest": {"sha256": digest}, "name": name} for name, digest in sorted(files.items())]
    return _Facts(subject, files[TAGMANIFEST], evidence, checkpoints, sealers)


def _age(signed_at: str, sealed_at: str) -> int:
    return (parse_canonical_time(signed_at) - parse_canonical_time(sealed_at)) // SECOND


# --- what is checked ---------------------------------------------------------------------------------------------


def _signature_faults(envelope: Envelope, stated: Transmittal, keys: tuple[VerifierKey, ...]) -> Iterator[Finding]:
    named = parse_verifier_key(stated.preparer.key)
    if not any(each.keyid == named.hash.hex() for each in envelope.signatures):
        yield _finding("it is not signed by the key that it names as its preparer's.", named, "no such signature")
    for each in envelope.signatures:
        hinted = [key for key in {named, *keys} if key.hash.hex() == each.keyid]
        if any(envelope.verified(each, key) for key in hinted):
            continue
        if hinted:
            yield _finding("a signature is not that of the key it names.", hinted[0], "another signature")
        elif any(envelope.verified(each, key) for key in keys):
            yield _finding("a signature names another key than the one it is by.", found=each.keyid)


def _other_facts(stated: _Statement, facts: _Facts) -> Iterator[Finding]:
    told = stated.predicate
    for what, expected, found in (
        ("files", _differing(facts.subject, stated.subject), _differing(stated.subject, facts.subject)),
        ("packet digest", facts.packet_digest, told.packet_digest),
        ("evidence digest", facts.evidence_digest, told.evidence_digest),
        ("checkpoints", facts.checkpoints, [(one.origin, one.size, one.last_sealed_at) for one in told.checkpoints]),
    ):
        if expected != found:
            yield _finding(f"it is of another packet: its {what} are not those here.", expected, found)
    if stated.subject != facts.subject and not _differing(facts.subject, stated.subject):
        yield _finding("it does not name each file once, in the order of their names.")
    ages = [_age(told.signed_at, sealed_at) for _, _, sealed_at in facts.checkpoints]
    if ages != [one.age_seconds for one in told.checkpoints]:
        yield _finding("the ages it states are not those of its own times.", ages, told.checkpoints)
    if any(age < 0 for age in ages):
        message = "it was signed before the last seal was made, by the clocks of signer and sealer."
        yield Finding(TRANSMITTAL_CHECK, "warning", TRANSMITTAL, message, str(facts.checkpoints), told.signed_at)
    if (name := parse_verifier_key(told.preparer.key).name) in facts.sealers:
        yield _finding("it is signed with a key that seals, not with one of whoever prepared it.", found=name)


def _differing(some: list[_Subject], others: list[_Subject]) -> list[str]:
    """The files of the one that are not, or not with this hash, among the other, as `name hash`."""
    lines = [{canonical(one).decode() for one in part} for part in (some, others)]
    return sorted(lines[0] - lines[1])


def _unchecked(envelope: Envelope, stated: Transmittal, signers: tuple[VerifierKey, ...]) -> Iterator[str]:
    named = parse_verifier_key(stated.preparer.key)
    if named not in signers:
        yield (
            f"the preparer's key {named} stands in {TRANSMITTAL} itself and is not confirmed: compare it with what the "
            "company gave you by another way (--key)"
        )
    known = {key.hash.hex() for key in (*signers, named)}
    strangers = [each.keyid for each in envelope.signatures if each.keyid not in known]
    if strangers:
        yield f"{TRANSMITTAL} carries signatures by keys that you did not give: {', '.join(strangers)}"
    if stated.reviewer is not None and not any(key != named for key in signers):
        yield f"that {stated.reviewer} reviewed the packet is the preparer's word: no signature of theirs was checked"
    yield f"the names in {TRANSMITTAL}, and when it was signed, are its signers' word"


def _finding(message: str, expected: object = "", found: object = "") -> Finding:
    return Finding(TRANSMITTAL_CHECK, "error", TRANSMITTAL, message, str(expected)[:400], str(found)[:400])


def _write(path: Path, bag: Bag, data: bytes) -> None:
    """Put transmittal.json into a folder, or into a zip that is written anew, whole or not at all."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.zip")
    try:
        if path.is_dir():
            fresh.write_bytes(data)
            fresh.replace(path / TRANSMITTAL)
        else:
            write_bag(BagFiles(bag, {TRANSMITTAL: data}), fresh)
            shutil.copymode(path, fresh)
            fresh.replace(path)
    except OSError as error:
        raise UnavailableError(f"the packet cannot be written ({error.strerror}).", where=str(path)) from None
    finally:
        fresh.unlink(missing_ok=True)
