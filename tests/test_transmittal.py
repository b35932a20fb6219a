"""Who prepared a packet is signed for, standard tools verify it, and nothing of it can be moved or changed unseen."""

from __future__ import annotations

import base64
import json
import stat
import zipfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import simulator
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from packets import SAMPLE_KEY, DictBag, Packet, read_folder, sample
from securesystemslib.dsse import Envelope as StandardEnvelope
from securesystemslib.signer import SSlibKey
from typer.testing import CliRunner

from auditlib.cli import handover
from auditlib.errors import AuditlibError, MalformedError, MismatchError
from auditlib.formats.canonical import canonical
from auditlib.formats.keys import SigningKey, VerifierKey
from auditlib.formats.times import parse_time
from auditlib.keyfiles import write_key_files
from auditlib.packet.bag import open_bag, packet_digest, write_bag
from auditlib.packet.check import check_packet
from auditlib.packet.dsse import MAX_SIGNATURES, Envelope, envelope_bytes, parse_envelope
from auditlib.packet.transmittal import PAYLOAD_TYPE, Checked, Supersedes, check_transmittal, sign_packet

ADA = SigningKey("ada@acme.example", bytes(range(64, 96)))  # prepares
GRACE = SigningKey("grace@acme.example", bytes(range(96, 128)))  # reviews
EVE = SigningKey("ada@acme.example", bytes(range(128, 160)))  # another's key under the preparer's name
BOTH = (ADA.verifier, GRACE.verifier)
NOW = parse_time("2026-07-06T09:05:00.5Z")  # nine hours after the sample's last seal
NAME = "transmittal.json"


@pytest.fixture(scope="module")
def files() -> Mapping[str, bytes]:
    return sample()


@pytest.fixture(scope="module")
def signed(files: Mapping[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """The sample packet, signed by its preparer and its reviewer."""
    folder = tmp_path_factory.mktemp("signed") / "packet"
    write_bag(files, folder)
    sign(folder)
    sign_packet(folder, GRACE, now=NOW + 1)
    return read_folder(folder)


def sign(path: Path, key: SigningKey = ADA, **more: Any) -> Any:
    return sign_packet(path, key, **{"now": NOW, "preparer": "Ada Okafor", "reviewer": "Grace Lee", **more})


def check(files: Mapping[str, bytes], keys: tuple[VerifierKey, ...] = BOTH) -> Checked:
    return check_transmittal(DictBag(files), keys)


def errors(checked: Checked) -> list[str]:
    return [finding.message for finding in checked.findings if finding.severity == "error"]


def statement_of(files: Mapping[str, bytes]) -> Any:
    return json.loads(parse_envelope(files[NAME]).payload)


# --- what is signed, and by standard tools --------------------------------------------------------------------


def test_securesystemslib_verifies_both_signatures(signed: Mapping[str, bytes]) -> None:
    """The DSSE implementation of the in-toto and TUF projects takes the envelope as it is."""
    envelope = StandardEnvelope.from_dict(json.loads(signed[NAME]))
    keys = [
        SSlibKey(key.hash.hex(), "ed25519", "ed25519", {"public": key.public.hex()}) for key in (*BOTH, EVE.verifier)
    ]
    assert set(envelope.verify(keys[:2], threshold=2)) == {key.hash.hex() for key in BOTH}
    assert envelope.payload_type == PAYLOAD_TYPE
    envelope.payload += b" "
    with pytest.raises(Exception, match="do not match threshold"):
        envelope.verify(keys, threshold=1)


def test_twenty_lines_of_the_specification_verify_it(signed: Mapping[str, bytes]) -> None:
    """Nothing of this library is needed: PAE as DSSE v1 writes it, Ed25519 as RFC 8032 does."""
    envelope = json.loads(signed[NAME])
    payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    pae = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(payload)).encode(), payload])
    for signature, key in zip(envelope["signatures"], BOTH, strict=True):
        assert signature["keyid"] == str(key).split("+")[1]
        Ed25519PublicKey.from_public_bytes(key.public).verify(base64.b64decode(signature["sig"]), pae)


def test_the_statement_names_every_file_of_the_bag(signed: Mapping[str, bytes]) -> None:
    """An in-toto statement v1: payload and tag files by SHA-256, and all that DESIGN 4.7 asks of a transmittal."""
    statement = statement_of(signed)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert {one["name"]: one["digest"] for one in statement["subject"]} == {
        name: {"sha256": sha256(data).hexdigest()} for name, data in signed.items() if name != NAME
    }
    assert statement["predicate"] == {
        "checkpoints": [
            {
                "age_seconds": 9 * 3600,
                "last_sealed_at": "2026-07-06T00:05:00Z",
                "origin": "acme.example/audit",
                "size": 27,
            }
        ],
        "evidence_digest": sha256(signed["data/packet.json"]).hexdigest(),
        "packet_digest": sha256(signed["tagmanifest-sha256.txt"]).hexdigest(),
        "preparer": {"key": str(ADA.verifier), "name": "Ada Okafor"},
        "reviewer": "Grace Lee",
        "signed_at": "2026-07-06T09:05:00Z",
        "supersedes": None,
    }
    assert check(signed).findings == ()
    assert check(signed).signers == BOTH


def test_a_signed_packet_is_the_same_packet(files: Mapping[str, bytes], signed: Mapping[str, bytes]) -> None:
    """Payload, manifests and digest stay; the packet's own checks pass."""
    assert {name: data for name, data in signed.items() if name != NAME} == dict(files)


def test_a_zip_stays_as_it_was_but_for_the_member(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """Every other member has the same bytes and header; signing the same again gives the same zip; the mode stays."""
    for name in ("one.zip", "two.zip"):
        write_bag(files, tmp_path / name)
    (tmp_path / "one.zip").chmod(0o600)
    with open_bag(tmp_path / "one.zip") as bag:
        digest = packet_digest(bag)
    before = (tmp_path / "one.zip").read_bytes()
    assert sign(tmp_path / "one.zip").packet_digest == digest
    sign(tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    assert stat.S_IMODE((tmp_path / "one.zip").stat().st_mode) == 0o600
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        data = archive.read(NAME)
        assert [member.filename for member in archive.infolist()] == sorted([*files, NAME])
        start = archive.getinfo(NAME).header_offset  # the new member is the last, and before it nothing changed
    assert start > 300_000 and (tmp_path / "one.zip").read_bytes()[:start] == before[:start]
    with open_bag(tmp_path / "one.zip") as bag:
        assert check_transmittal(bag, [ADA.verifier]).findings == ()
        assert bag.read(NAME) == data
    assert check_packet(tmp_path / "one.zip", [SAMPLE_KEY, ADA.verifier]).ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.zip", "two.zip"]


def test_somebody_elses_zip_of_the_folder_can_be_signed(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """Deflated, with a folder around everything, without the suffix: written anew as a packet's zip is."""
    with zipfile.ZipFile(tmp_path / "packet", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(f"outer/{name}", data)
    sign(tmp_path / "packet")
    with open_bag(tmp_path / "packet") as bag:
        assert check_transmittal(bag, [ADA.verifier]).findings == ()
        assert {name: bag.read(name) for name in files} == dict(files)


# --- what is found --------------------------------------------------------------------------------------------


def test_every_changed_byte_is_found(signed: Mapping[str, bytes]) -> None:
    """Each byte of transmittal.json in turn, to another character of base64 or JSON, with both keys given."""
    whole = signed[NAME]
    for at, byte in enumerate(whole):
        other = b"B" if byte == ord("A") else b"A"
        assert errors(check({**signed, NAME: whole[:at] + other + whole[at + 1 :]})), at
    for changed in (whole + b"\n", whole[:-1], b" " + whole, b"", b"{}", b"[" * 200_000, whole[:1000] + b"\xff"):
        assert errors(check({**signed, NAME: changed})), changed[:20]


def test_a_key_that_was_not_given_is_said_to_be_unconfirmed(signed: Mapping[str, bytes]) -> None:
    """Without the preparer's key, or with another one: no error, no confirmation, and both are named."""
    for keys in ((), (SAMPLE_KEY,), (EVE.verifier,)):
        checked = check(signed, keys)
        assert checked.findings == () and checked.signers == ()
        said = " ".join(checked.unchecked)
        assert f"the preparer's key {ADA.verifier} stands in transmittal.json itself and is not confirmed" in said
        assert f"signatures by keys that you did not give: {GRACE.verifier.hash.hex()}" in said
        assert "that Grace Lee reviewed the packet is the preparer's word" in said
    assert "preparer's key" not in " ".join(check(signed, (ADA.verifier,)).unchecked)
    assert "Grace Lee" not in " ".join(check(signed).unchecked)
    assert "are its signers' word" in " ".join(check(signed).unchecked)


def test_a_packet_nobody_signed_says_so(files: Mapping[str, bytes]) -> None:
    """A transmittal that was taken away is no fault that shows, but its absence is told."""
    checked = check(files)
    assert checked == Checked(None, unchecked=checked.unchecked)
    assert "nobody has signed" in checked.unchecked[0]


def test_another_packets_transmittal_is_found(signed: Mapping[str, bytes]) -> None:
    """The files are others, or one more, or one less, with manifests put right: the statement is not of them."""
    other = Packet(signed)
    other.json("data/packet.json", lambda value: value.update(headline="Nothing to see."))
    found = errors(check(other.fix().files))
    assert [message.split(" its ")[-1] for message in found] == [
        "files are not those here.",
        "packet digest are not those here.",
        "evidence digest are not those here.",
    ]
    for change in ({"data/tables/new.csv": b"a\r\n"}, {"data/events.jsonl": b""}):
        assert errors(check(Packet({**signed, **change}).fix().files))


def test_a_signature_under_a_wrong_name_is_found(signed: Mapping[str, bytes]) -> None:
    """Eve's signature under Ada's key hash; Grace's under a stranger's; Ada's own taken away."""
    envelope = parse_envelope(signed[NAME])
    ada, grace = envelope.signatures
    eve = msgspec.structs.replace(ada, sig=EVE.sign(envelope.pae()))
    strange = msgspec.structs.replace(grace, keyid="00000000")
    for signatures, message in (
        ((eve, grace), "a signature is not that of the key it names."),
        ((ada, strange), "a signature names another key than the one it is by."),
        ((grace,), "it is not signed by the key that it names as its preparer's."),
        ((), "signatures; 1 to 16 are read."),
        ((ada, ada), "two signatures name the same key."),
    ):
        forged = msgspec.structs.replace(envelope, signatures=signatures)
        assert message in " ".join(errors(check({**signed, NAME: envelope_bytes(forged)})))


def changed(files: Mapping[str, bytes], change: Callable[[Any], Any], key: SigningKey = ADA) -> dict[str, bytes]:
    """The packet with a statement that whoever holds the key changed and signed again."""
    statement = statement_of(files)
    change(statement)
    return {**files, NAME: envelope_bytes(Envelope(canonical(statement), PAYLOAD_TYPE).signed(key))}


FALSE: dict[str, Callable[[Any], Any]] = {
    "an unknown field": lambda s: s["predicate"].update(opinion="effective"),
    "an unknown field outside": lambda s: s.update(more=1),
    "a missing field": lambda s: s["predicate"].pop("reviewer"),
    "another statement type": lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
    "another predicate": lambda s: s.update(predicateType="urn:auditlib:transmittal:v2"),
    "a file more": lambda s: s["subject"].append({"name": "x", "digest": {"sha256": "0" * 64}}),
    "a file less": lambda s: s["subject"].pop(),
    "a file twice": lambda s: s["subject"].append(s["subject"][-1]),
    "another hash": lambda s: s["subject"][3]["digest"].update(sha256="0" * 64),
    "a second hash": lambda s: s["subject"][3]["digest"].update(md5="0" * 32),
    "another packet digest": lambda s: s["predicate"].update(packet_digest="0" * 64),
    "another evidence digest": lambda s: s["predicate"].update(evidence_digest="0" * 64),
    "a younger checkpoint": lambda s: s["predicate"]["checkpoints"][0].update(age_seconds=60),
    "another checkpoint": lambda s: s["predicate"]["checkpoints"][0].update(size=26),
    "no checkpoint": lambda s: s["predicate"].update(checkpoints=[]),
    "a time that is none": lambda s: s["predicate"].update(signed_at="2026-07-06 09:05"),
    "no name": lambda s: s["predicate"]["preparer"].update(name=" "),
    "a name without end": lambda s: s["predicate"].update(reviewer="G" * 1025),
    "a key that is none": lambda s: s["predicate"]["preparer"].update(key="ada"),
    "a key with a space": lambda s: s["predicate"]["preparer"].update(key=f"{ADA.verifier} "),
    "superseding itself": lambda s: s["predicate"].update(
        supersedes={"packet_digest": s["predicate"]["packet_digest"], "reason": "because"}
    ),
    "superseding a name": lambda s: s["predicate"].update(supersedes={"packet_digest": "the first", "reason": "so"}),
    "superseding for no reason": lambda s: s["predicate"].update(supersedes={"packet_digest": "0" * 64, "reason": ""}),
}


@pytest.mark.parametrize("fault", FALSE)
def test_a_false_statement_is_found_though_rightly_signed(fault: str, signed: Mapping[str, bytes]) -> None:
    """Whoever holds the key cannot state what these files do not bear out, nor anything that is not asked for."""
    assert errors(check(changed(signed, FALSE[fault]))), fault


def test_a_statement_nested_past_every_limit_is_a_finding_and_no_crash(signed: Mapping[str, bytes]) -> None:
    """However deep, also where one more level is just too many for one of the readers."""
    head, tail = canonical(statement_of(signed)).split(b'"subject":[', 1)
    for depth in range(880, 1010):
        payload = head + b'"subject":[' + b'{"a":' * depth + b"1" + b"}" * depth + b"," + tail
        forged = {**signed, NAME: envelope_bytes(Envelope(payload, PAYLOAD_TYPE).signed(ADA))}
        assert check_transmittal(DictBag(forged)).findings, depth


def test_other_spellings_of_the_same_words_are_refused(signed: Mapping[str, bytes]) -> None:
    """White space, a payload type of another kind, a field twice: one statement, one spelling."""
    statement = statement_of(signed)
    for payload, kind in (
        (json.dumps(statement).encode(), PAYLOAD_TYPE),
        (canonical(statement), "application/json"),
        (canonical(statement)[:-1] + b',"_type":"x"}', PAYLOAD_TYPE),
    ):
        forged = {**signed, NAME: envelope_bytes(Envelope(payload, kind).signed(ADA))}
        assert errors(check(forged)), payload[:40]


def test_the_sealers_key_signs_for_no_preparer(signed: Mapping[str, bytes]) -> None:
    """Made with it all the same, it is an error: the two keys vouch for different things."""
    sealer = SigningKey("acme.example/audit", bytes(32))
    forged = changed(signed, lambda s: s["predicate"]["preparer"].update(key=str(sealer.verifier)), sealer)
    assert errors(check(forged, (sealer.verifier,))) == [
        "it is signed with a key that seals, not with one of whoever prepared it."
    ]


def test_signing_before_the_last_seal_is_told(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """Two clocks disagree: a warning, because nobody can say which is wrong."""
    write_bag(files, tmp_path / "packet")
    sign(tmp_path / "packet", now=parse_time("2026-07-01T00:00:00Z"))
    (finding,) = check(read_folder(tmp_path / "packet")).findings
    assert finding.severity == "warning" and "before the last seal" in finding.message


# --- what is refused ------------------------------------------------------------------------------------------


def test_signing_again_adds_a_signature_or_nothing(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """The same words may be given again; other words, the same key and the sealer's are refused; nothing is written."""
    path = tmp_path / "packet.zip"
    write_bag(files, path)
    with pytest.raises(MalformedError, match="say who prepared it"):
        sign_packet(path, ADA, now=NOW)
    with pytest.raises(MalformedError, match="is a key that seals"):
        sign(path, simulator.KEY)
    sign(path)
    once = path.read_bytes()
    for key, more in (
        (ADA, {}),
        (GRACE, {"preparer": "Eve"}),
        (GRACE, {"reviewer": "Eve"}),
        (GRACE, {"supersedes": Supersedes("0" * 64, "because")}),
    ):
        with pytest.raises(MalformedError):
            sign(path, key, **more)
        assert path.read_bytes() == once
    assert sign(path, GRACE, now=NOW + 10**9).signed_at == "2026-07-06T09:05:00Z"
    with open_bag(path) as bag:
        assert check_transmittal(bag, BOTH).signers == BOTH
    for number in range(MAX_SIGNATURES - 2):
        sign(path, SigningKey(f"more{number}", bytes([number]) * 32))
    full = path.read_bytes()
    with pytest.raises(MalformedError, match="no more are read"):
        sign(path, EVE)
    assert path.read_bytes() == full
    assert [p.name for p in tmp_path.iterdir()] == ["packet.zip"]


def test_a_false_transmittal_is_not_signed_as_well(signed: Mapping[str, bytes], tmp_path: Path) -> None:
    """A reviewer's signature is never put beside one that is wrong, or over another packet's words."""
    for number, wrong in enumerate((changed(signed, FALSE["a file less"]), {**signed, NAME: b"{}"})):
        write_bag(wrong, tmp_path / f"{number}")
        with pytest.raises(AuditlibError):
            sign_packet(tmp_path / f"{number}", GRACE, now=NOW)
        assert read_folder(tmp_path / f"{number}") == dict(wrong)


def test_a_packet_that_is_not_its_manifests_is_not_signed(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """A file changed, missing or added: an error, and no transmittal."""
    for number, wrong in enumerate(
        (
            {**files, "data/events.jsonl": b""},
            {n: d for n, d in files.items() if n != "data/report.html"},
            {**files, "data/x": b""},
        )
    ):
        write_bag(wrong, tmp_path / f"{number}")
        with pytest.raises(MismatchError):
            sign(tmp_path / f"{number}")
        assert read_folder(tmp_path / f"{number}") == wrong


@pytest.mark.parametrize(
    "more",
    [
        {"preparer": ""},
        {"preparer": "A" * 1025},
        {"preparer": "\ud800"},
        {"reviewer": " "},
        {"supersedes": Supersedes("abc", "because")},
        {"supersedes": Supersedes("0" * 64, " ")},
    ],
)
def test_words_that_no_reader_would_take_are_not_signed(
    more: dict[str, Any], files: Mapping[str, bytes], tmp_path: Path
) -> None:
    """What the check refuses is refused before it is written."""
    write_bag(files, tmp_path / "packet")
    with pytest.raises(MalformedError):
        sign(tmp_path / "packet", **more)
    assert read_folder(tmp_path / "packet") == dict(files)


# --- the command ----------------------------------------------------------------------------------------------


def test_the_command_signs_and_signs_again(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """As an analyst and a reviewer run it; a packet at fault is refused with the check's number."""
    app = typer.Typer()
    app.add_typer(handover.app)
    write_bag(files, tmp_path / "packet.zip")
    for key in (ADA, GRACE):
        write_key_files(key, tmp_path)
    instead = ["--supersedes", "0" * 64, "--reason", "The period was wrong."]
    first = ["sign", str(tmp_path / "packet.zip"), "--key", str(tmp_path / "ada@acme.example.key"), "--preparer", "Ada"]
    told = CliRunner().invoke(app, [*first, *instead], catch_exceptions=False)
    assert told.exit_code == 0 and "nobody is named" in told.stdout and str(ADA.verifier) in told.stdout
    second = ["sign", str(tmp_path / "packet.zip"), "--key", str(tmp_path / "grace@acme.example.key"), "--json"]
    said = json.loads(CliRunner().invoke(app, second, catch_exceptions=False).stdout)
    assert said["supersedes"] == {"packet_digest": "0" * 64, "reason": "The period was wrong."}
    assert said["signed_by"] == str(GRACE.verifier)
    with open_bag(tmp_path / "packet.zip") as bag:
        assert check_transmittal(bag, BOTH).signers == BOTH
    with pytest.raises(MalformedError, match="for a reason"):
        CliRunner().invoke(app, [*first, "--supersedes", "0" * 64], catch_exceptions=False)
    broken = Packet(files).edit("data/events.jsonl", lambda data: data[1:]).fix().files
    write_bag(broken, tmp_path / "broken")
    with pytest.raises(MismatchError, match="check 5"):
        CliRunner().invoke(app, ["sign", str(tmp_path / "broken"), *first[2:]], catch_exceptions=False)
    assert not (tmp_path / "broken" / NAME).exists()
