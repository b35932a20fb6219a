"""data/verify.py and `auditlib packet verify` agree on every packet, and the file is what it says it is.

The differential test compares the numbers of the checks that fail, on thousands of changed packets. Where the file is
stricter on purpose, the case stands in a test of its own that names it.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from types import ModuleType
from typing import Any

import packets
import pytest
import reference
import rfc8785
import simulator
import strategies
import test_packet as forgeries
import verifier_mutations as mutations
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from packets import PROOF, SAMPLE_KEY, Packet, check, fired, sample
from strength import LONG

from auditlib.errors import AuditlibError, MalformedError
from auditlib.formats.canonical import canonical
from auditlib.formats.checkpoint import parse_checkpoint, sign_checkpoint
from auditlib.formats.event import parse_record, record_bytes
from auditlib.formats.keys import SigningKey, VerifierKey, parse_verifier_key
from auditlib.formats.seal import parse_seal
from auditlib.formats.times import parse_canonical_time, parse_time
from auditlib.packet import bag as bags
from auditlib.packet.build import build_packet
from auditlib.packet.check import PACKET_CHECKS, check_packet

SOURCE = packets.ROOT / "auditlib" / "packet" / "templates" / "verify.py"
Files = Mapping[str, bytes]
STRIDE = 7 if LONG else 23  # bytes
FEWER = 1 if LONG else 2  # one in so many of the changes


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("standalone_verify", SOURCE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


alone = load()


@pytest.fixture(scope="module")
def files() -> Files:
    return sample()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A packet of three batches and a few records, odd numbers and letters in them; signed by simulator.KEY."""
    folder = tmp_path_factory.mktemp("small")
    odd = {
        "granted_role": "admin",
        "\ufb33\n": -0.000001,
        "\U0001f600": [1e-7, {"x": 2**53 - 1}, None, True],
        "e": "=\t€",
    }
    batches = [
        [
            packets.approval("A1", "2026-03-09T12:00:00Z", ["u_1"], ["admin"]),
            packets.event("G1", context={"granted_role": "admin", "request_id": "REQ-1"}),
            packets.event("+G2", at="2026-03-11T12:00:00.500000Z", context=odd, actor="=u_9"),
            *(packets.event(f"L{n}", "user.login", "2026-03-11T13:00:00Z", {}) for n in range(3)),
        ],
        [packets.event("G1", at="2026-04-01T00:00:00Z", source="admin-console/b2", actor="u_2")],
        [packets.event("G4", at="2026-05-01T00:00:00Z"), packets.event("L9", "user.login", "2026-05-02T13:00:00Z", {})],
    ]
    vault = packets.vault_of(folder, *batches)
    dates = {"since": "2026-03-01", "until": "2026-06-01"}
    build_packet("role-grants", str(vault), dates, folder / "packet", keys=simulator.KEY.verifier)
    return packets.read_folder(folder / "packet")


def keys_of(keys: Iterable[VerifierKey]) -> list[Any]:
    return [alone.parse_key(str(key)) for key in keys]


def run(files: Files, keys: tuple[VerifierKey, ...]) -> Any:
    """The stand-alone checks over a dictionary of files."""
    bag = alone.Files({name: len(data) for name, data in files.items()}, lambda name: io.BytesIO(files[name]))
    return alone.Verifier(bag, keys_of(keys)).run()


def faulty(files: Files, keys: tuple[VerifierKey, ...]) -> set[int]:
    return {number for number, _, _ in run(files, keys).faults}


def differences(cases: Iterable[mutations.Case], keys: tuple[VerifierKey, ...]) -> tuple[list[Any], int, int]:
    """The cases where the two disagree, how many there were, and in how many both found a fault."""
    found, cases_seen, refused = [], 0, 0
    for name, files in cases:
        theirs, ours = fired(check(files, keys)) - {7}, faulty(files, keys)  # 7, the transmittal, is not read here
        cases_seen += 1
        refused += bool(theirs and ours)
        if theirs != ours:
            found.append((name, theirs, ours))
    return found, cases_seen, refused


# --- both verifiers, on every case ---------------------------------------------------------------------------


def test_both_pass_what_is_untouched(files: Files, small: Files) -> None:
    """The sample's packet and the small one, with and without a key; and without one it is said."""
    for packet, key in ((files, SAMPLE_KEY), (small, simulator.KEY.verifier)):
        for keys in ((key,), ()):
            assert faulty(packet, keys) == fired(check(packet, keys)) == set()
            said = " ".join(run(packet, keys).unchecked())
            assert ("proves nothing" in said) is not bool(keys)
            assert "Parquet, XLSX and PDF" in said and "verdicts" in said and "reproduce" in said
        assert faulty(packet, (simulator.EVIL_KEY.verifier,)) == fired(check(packet, (simulator.EVIL_KEY.verifier,)))
    assert alone.CHECKS == PACKET_CHECKS


def test_both_agree_on_every_forgery(files: Files) -> None:
    """Every forgery and every junk file of tests/test_packet.py, as it is and put right."""
    found, cases, refused = differences(mutations.forged_packets(files), (SAMPLE_KEY,))
    assert found == []
    assert cases > 120 and refused > 120


def test_both_agree_on_what_is_moved(small: Files) -> None:
    """Every file removed, renamed, swapped, emptied; others added."""
    found, cases, refused = differences(mutations.moved_files(small), (simulator.KEY.verifier,))
    assert found == []
    assert cases > 150 and refused > 130


def test_both_agree_on_checkpoints_and_proofs(small: Files, files: Files) -> None:
    """Another trail's checkpoint, an older one, base64 spelled otherwise; proofs too long, too short, for another."""
    cases = chain(mutations.checkpoints(small, files), mutations.proof_parts(small))
    found, number, refused = differences(cases, (simulator.KEY.verifier,))
    assert found == []
    assert number > 100 and refused > 100
    assert differences(mutations.checkpoints(small, files), ())[0] == []


def test_both_agree_on_changed_bytes(small: Files) -> None:
    """Bytes changed, put in, taken out of every file that is read, most of them with every hash put right."""
    names = [
        *mutations.PROOFS,
        *mutations.TAGS,
        mutations.EVENTS,
        mutations.PACKET,
        forgeries.GRANTS,
        forgeries.EXCEPTIONS,
    ]
    changes = mutations.changed_bytes(small, names, 130 // FEWER, 5)
    found, cases, refused = differences(changes, (simulator.KEY.verifier,))
    assert found == []
    assert cases > 1000 // FEWER and refused > 800 // FEWER


def test_both_agree_on_changed_values(small: Files) -> None:
    """Every value of packet.json, of a record, a seal and a proof replaced by values of every shape."""
    cases = chain(
        mutations.forged_values(small, mutations.PACKET, None, 17),
        mutations.forged_values(small, mutations.EVENTS, 1, 11),
        mutations.forged_values(small, mutations.PROOFS[1], 1, 11),
        mutations.forged_values(small, mutations.PROOFS[2], None, 3),
        mutations.forged_values(small, mutations.PROOFS[3], 0, 5),
        mutations.cells(small, 3),
    )
    found, number, refused = differences(islice(cases, 0, None, FEWER), (simulator.KEY.verifier,))
    assert found == []
    assert number > 500 // FEWER and refused > 300 // FEWER


@pytest.mark.slow
def test_both_agree_on_a_bit_anywhere(small: Files) -> None:
    """A bit of every STRIDE-th byte of the proofs, of packet.json and of the records, every hash put right.

    Of every byte (STRIDE 1) it takes three minutes; that was run, and is to be run when either reader is changed.
    """

    def every() -> Iterator[mutations.Case]:
        for name in (*mutations.PROOFS, mutations.PACKET, mutations.EVENTS):
            data = small[name]
            for at in range(0, len(data), STRIDE):
                forged = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
                yield f"{name} {at}", mutations.put_right({**small, name: forged}, name)

    assert differences(every(), (simulator.KEY.verifier,))[0] == []


def test_every_byte_of_manifests_is_seen(small: Files) -> None:
    """Exhaustive: one bit of every byte of the tag files; both find it."""
    for name in mutations.TAGS:
        data = small[name]
        for at in range(0, len(data), 3):
            forged = {**small, name: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}
            bag = alone.Files({n: len(d) for n, d in forged.items()}, lambda n, forged=forged: io.BytesIO(forged[n]))
            verifier = alone.Verifier(bag, [])
            verifier._check_bag()
            assert verifier.faults, (name, at)


# --- both readings of every small format, byte by byte -------------------------------------------------------


def accepts(read: Callable[[Any], Any], data: Any) -> bool:
    try:
        read(data)
    except (AuditlibError, alone.Fault, *alone.STRANGE):
        return False
    return True


def neighbours(data: bytes, seed: int) -> Iterator[bytes]:
    """Every byte: each bit flipped, one left out, and a few that mean something put in its place or before it."""
    draw = random.Random(seed)
    for at in range(len(data)):
        yield from (data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for bit in range(8))
        yield data[:at] + data[at + 1 :]
        for new in (draw.choice([b'"', b",", b"0", b"\\", b" ", b"-", b"."]), bytes([draw.randrange(256)])):
            yield data[:at] + new + data[at + 1 :]
            yield data[:at] + new + data[at:]


@pytest.mark.parametrize("what", ["record", "seal", "note", "key"])
def test_both_read_the_same_records_seals_checkpoints_and_keys(what: str, small: Files) -> None:
    """Exhaustive over the bytes: whatever one reads the other reads, and whatever one refuses so does the other."""
    keys = [simulator.KEY.verifier]
    data, ours, theirs = {
        "record": (small[mutations.EVENTS].splitlines()[2], alone.check_record, parse_record),
        "seal": (small[mutations.PROOFS[1]].splitlines()[1], alone.check_seal, parse_seal),
        "note": (
            small[mutations.PROOFS[0]],
            lambda note: alone.check_note(note, keys_of(keys)),
            lambda note: parse_checkpoint(note, keys),
        ),
        "key": (
            str(keys[0]).encode(),
            lambda key: alone.parse_key(key.decode()),
            lambda key: parse_verifier_key(key.decode()),
        ),
    }[what]
    assert accepts(ours, data) and accepts(theirs, data)
    assert [each for each in neighbours(data, 3) if accepts(ours, each) != accepts(theirs, each)] == []


@settings(max_examples=150, deadline=None)
@given(strategies.records)
def test_every_record_there_can_be_is_read(record: Any) -> None:
    """The strategies' odd corners, canonical."""
    event, receipt = alone.check_record(record_bytes(record))
    assert (event["event_id"], receipt["source"]) == (record.event.event_id, record.receipt.source)


TIMES = [
    *("2026-01-08T14:32:07Z", "2026-01-08T14:32:07.120000Z", "2026-01-08T14:32:07.000000Z", "2026-01-08T14:32:07.12Z"),
    *(
        "2026-01-08T14:32:60Z",
        "2026-01-08T24:00:00Z",
        "2026-02-29T00:00:00Z",
        "2024-02-29T00:00:00Z",
        "1969-12-31T23:59:59Z",
    ),
    *(
        "1970-01-01T00:00:00+00:01",
        "1969-12-31T23:59:59-00:01",
        "9999-12-31T23:59:59.9999999Z",
        "9999-12-31T23:59:59-00:01",
    ),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "2026-01-08T14:32:07+24:00", "2026-01-08T14:32:07-23:60"),
    *("2026-01-08t14:32:07z", "2026-01-08 14:32:07Z", "2026-01-08T14:32:07", "٢026-01-08T14:32:07Z", "", "x" * 70),
    *("2026-01-08T14:32:07." + "1" * 44 + "Z", "2026-01-08T14:32:07." + "1" * 43 + "Z", "2026-01-08T14:32:07-00:00"),
]


@pytest.mark.parametrize("text", TIMES)
def test_both_read_the_same_times(text: str) -> None:
    """The same value or a refusal, of any spelling and of the canonical one."""
    for ours, theirs in ((alone.moment, parse_time), (alone.canonical_time, parse_canonical_time)):
        assert accepts(ours, text) == accepts(theirs, text)
        if accepts(ours, text):
            assert ours(text) == theirs(text)


# --- the building blocks against the published ones ----------------------------------------------------------


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_ed25519_agrees_with_openssl_on_signatures_and_their_neighbours() -> None:
    """Random keys and messages; a bit of key, signature or message changed; S past the order; R or S zero."""
    draw = random.Random(1)
    for _ in range(30):
        key, message = Ed25519PrivateKey.from_private_bytes(draw.randbytes(32)), draw.randbytes(draw.randrange(200))
        public, signature = key.public_key().public_bytes_raw(), key.sign(message)
        assert alone.ed25519(public, signature, message)
        s = int.from_bytes(signature[32:], "little")
        for times in range(1, 16):
            if s + times * alone.ORDER < 2**256:
                other = signature[:32] + (s + times * alone.ORDER).to_bytes(32, "little")
                assert not alone.ed25519(public, other, message) and not verifies(public, other, message)
        for _ in range(12):
            parts = [bytearray(part) for part in (public, signature, message or b"x")]
            part = draw.choice(parts)
            part[draw.randrange(len(part))] ^= 1 << draw.randrange(8)
            forged = tuple(map(bytes, parts))
            assert alone.ed25519(*forged) == verifies(*forged)
    for short in (b"", signature[:63], signature + b"\0", bytes(64)):
        assert alone.ed25519(public, short, message) == verifies(public, short, message) is False


def test_ed25519_agrees_with_openssl_on_small_order_and_odd_encodings() -> None:
    """Keys and R of order 1, 2, 4 and 8, in their canonical and every other encoding."""

    def multiple(number: int, point: Any) -> Any:
        total = (0, 1, 1, 0)
        for bit in f"{number:b}":
            total = alone.point_add(total, total)
            total = alone.point_add(total, point) if bit == "1" else total
        return total

    def encoded(point: Any) -> bytes:
        inverse = pow(point[2], alone.P - 2, alone.P)
        x, y = point[0] * inverse % alone.P, point[1] * inverse % alone.P
        return (y | (x & 1) << 255).to_bytes(32, "little")

    start = next(p for y in range(3, 99) if (p := alone.point_decode(y.to_bytes(32, "little"))) and order8(multiple, p))
    torsion = [multiple(n, multiple(alone.ORDER, start)) for n in range(8)]
    spelled = {encoded(point) for point in torsion}
    spelled |= {bytes([*one[:31], one[31] ^ 0x80]) for one in spelled}
    spelled |= {(y + alone.P | sign << 255).to_bytes(32, "little") for y in range(19) for sign in (0, 1)}
    good, draw = 0, random.Random(4)
    for public in spelled:
        for number in range(1, 9):
            for point in torsion[:3]:
                r = encoded(alone.point_add(multiple(number, alone.BASE), point))
                signature = r + number.to_bytes(32, "little")
                assert alone.ed25519(public, signature, b"m") == verifies(public, signature, b"m")
                good += verifies(public, signature, b"m")
        for r in draw.sample(sorted(spelled), 12):
            assert alone.ed25519(public, r + bytes(32), b"m") == verifies(public, r + bytes(32), b"m"), (public, r)
    assert good > 20


def order8(multiple: Any, point: Any) -> bool:
    x, y, z, _ = multiple(4 * alone.ORDER, point)
    return bool(x % alone.P or (y - z) % alone.P)


def test_numbers_are_those_of_ecmascript() -> None:
    """Random doubles of every exponent, against the rfc8785 package and the transcription by hand."""
    draw = random.Random(2)
    for _ in range(4000):
        value = draw.choice([-1, 1]) * draw.random() * 10.0 ** draw.randrange(-320, 308)
        assert alone.number(value) == rfc8785.dumps(value).decode() == reference.json_number(value)


@settings(max_examples=150, deadline=None)
@given(strategies.records)
def test_canonical_json_is_that_of_the_library(record: Any) -> None:
    """Contexts with odd keys and numbers."""
    context = record.event.context
    assert alone.canonical(context).encode() == canonical(context)
    assert alone.parse(canonical(context)) == context


def test_the_vectors_are_run_and_a_broken_step_fails_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The self-test notices a signature check that passes everything or nothing, another hash, another spelling."""
    assert alone.self_test()
    for name, broken in (
        ("ed25519", lambda *a: True),
        ("ed25519", lambda *a: False),
        ("leaf_hash", lambda entry: alone.sha256(entry).digest()),
        ("number", repr),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(alone, name, broken)
            assert not alone.self_test(), name


# --- where the file is stricter than the library, on purpose -------------------------------------------------


def test_a_key_speaks_for_its_own_trail_alone(small: Files) -> None:
    """Of two trusted keys, A's cannot sign a checkpoint that says B."""
    mallory = SigningKey("mallory.example", bytes(32))
    stands = json.loads(small[mutations.PACKET])["checkpoints"][0]
    note = sign_checkpoint(stands["origin"], stands["size"], bytes.fromhex(stands["root"]), [mallory])
    packet = Packet({**small, mutations.PROOFS[0]: note})
    packet.json(mutations.PACKET, lambda told: told["checkpoints"][0].update(keys=[str(mallory.verifier)]))
    assert faulty(packet.fix().files, (simulator.KEY.verifier, mallory.verifier)) == {3}


def test_a_file_named_as_missing_is_missed(small: Files) -> None:
    """A file that packet.json names with the text "no such file" for its hash."""
    packet = Packet(small).json(mutations.PACKET, lambda told: told["files"].update({"x": "no such file"}))
    assert 2 in faulty(packet.bag().files, (simulator.KEY.verifier,))


# --- containers ----------------------------------------------------------------------------------------------


def outcome(path: Path, keys: tuple[VerifierKey, ...]) -> Any:
    """What the file says of a path: the checks that fail, or its exit code."""
    try:
        return {number for number, _, _ in alone.verify(path, keys_of(keys)).faults}
    except alone.Refused as refused:
        return refused.args[0]


def library(path: Path, keys: tuple[VerifierKey, ...]) -> Any:
    try:
        return fired(check_packet(path, keys))
    except MalformedError:
        return 2


def test_folders_and_zips_pass(files: Files, tmp_path: Path) -> None:
    """A folder, a zip, a zip with one folder around everything, deflated."""
    folder = bags_written(files, tmp_path / "packet")
    assert outcome(folder, (SAMPLE_KEY,)) == set()
    assert outcome(bags_written(files, tmp_path / "packet.zip"), (SAMPLE_KEY,)) == set()
    with zipfile.ZipFile(tmp_path / "around.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("around")
        for name, data in files.items():
            archive.writestr(f"around/{name}", data)
    assert outcome(tmp_path / "around.zip", (SAMPLE_KEY,)) == set()


def bags_written(files: Files, path: Path) -> Path:
    bags.write_bag(files, path)
    return path


def claims_a_lot(archive: zipfile.ZipFile) -> None:
    """2 GiB said, one byte there."""
    archive.writestr("data/huge", b"x")
    archive.filelist[-1].file_size = archive.filelist[-1].compress_size = 2 * 1024**3


HOSTILE: dict[str, Callable[[zipfile.ZipFile], None]] = {
    **forgeries.HOSTILE_ZIPS,
    "a huge size": claims_a_lot,
    "many folders up": lambda a: a.writestr("data/" + "../" * 40 + "etc/passwd", "x"),
    "a dot": lambda a: a.writestr("data/./x", "x"),
    "an empty part": lambda a: a.writestr("data//x", "x"),
    "a long name": lambda a: a.writestr("data/" + "x" * 1100, "x"),
    "a control character": lambda a: a.writestr("data/\x1b[2J", "x"),
    "a hundred bombs": lambda a: (
        [a.writestr(f"data/b{n}", bytes(3_000_000), zipfile.ZIP_DEFLATED) for n in range(9)] and None
    ),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_both_refuse_a_hostile_zip(fault: str, small: Files, tmp_path: Path) -> None:
    """Exit code 2 from both, before anything is opened; nothing is written."""
    path = forgeries.zipped(small, tmp_path / "packet.zip", HOSTILE[fault])
    assert outcome(path, (simulator.KEY.verifier,)) == library(path, (simulator.KEY.verifier,)) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["packet.zip"]


def test_names_that_differ_in_capitals_alone_are_refused(small: Files, tmp_path: Path) -> None:
    """On a file system that ignores case one of them would hide the other (stricter than the library)."""
    both = mutations.put_right({**small, "data/tables/Grants.csv": small[forgeries.GRANTS]})
    assert outcome(forgeries.zipped(both, tmp_path / "packet.zip"), ()) == 2
    assert outcome(bags_written(both, tmp_path / "packet"), ()) == 2


def test_a_name_that_ends_in_a_zero_byte_is_refused(small: Files, tmp_path: Path) -> None:
    """Python cuts such a name, other tools do not: they would see another packet (stricter than the library)."""
    path = forgeries.zipped(small, tmp_path / "packet.zip")
    long = forgeries.zipped(
        {name + ("_x" if name == forgeries.GRANTS else ""): data for name, data in small.items()}, tmp_path / "l.zip"
    )
    path.write_bytes(long.read_bytes().replace(b"grants.csv_x", b"grants.csv\0x"))
    assert outcome(path, ()) == 2


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "broken link", "pipe", "odd name", "backslash"])
def test_both_refuse_a_hostile_folder(kind: str, small: Files, tmp_path: Path) -> None:
    """No link is followed, no pipe is opened."""
    folder = bags_written(small, tmp_path / "packet")
    place = folder / "data" / "odd"
    if kind == "link to a file":
        (folder / mutations.EVENTS).rename(tmp_path / "events")
        (folder / mutations.EVENTS).symlink_to(tmp_path / "events")
    elif kind == "link to a folder":
        place.symlink_to("/")
    elif kind == "broken link":
        place.symlink_to("/nowhere/at/all")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "backslash":
        (folder / "data" / "a\\b").write_text("x")
    else:
        os.close(os.open(os.fsencode(folder / "data") + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    assert outcome(folder, ()) == library(folder, ()) == 2


def test_both_agree_on_a_zip_damaged_anywhere(small: Files, tmp_path: Path) -> None:
    """Bytes of the headers and the directory changed, the end cut off: never a strange exception, the same outcome."""
    some = {name: small[name] for name in ("bagit.txt", "bag-info.txt", f"{PROOF}/checkpoint", mutations.PACKET)}
    draw, path = random.Random(3), tmp_path / "packet.zip"
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            for name, data in some.items():
                archive.writestr(name, data)
        whole = buffer.getvalue()
        start = whole.index(b"PK\x01\x02")
        damaged = [
            whole[:at] + bytes([draw.randrange(1, 256)]) + whole[at + 1 :]  # a zero cuts a name: see above
            for at in [*range(start, len(whole)), *range(120), *draw.sample(range(start), 40)]
        ]
        for data in [*damaged, *(whole[:at] for at in range(0, len(whole), 301)), b"", b"PK", whole[start:], whole * 2]:
            path.write_bytes(data)
            ours = outcome(path, ())
            assert ours
            try:
                theirs = library(path, ())
            except AuditlibError:  # the digest of a tag manifest that cannot be unpacked
                continue
            assert ours == theirs


def test_ten_thousand_and_one_files_are_refused(tmp_path: Path) -> None:
    """The bound on files."""
    path = forgeries.zipped({f"data/{n}": b"" for n in range(alone.MAX_FILES + 1)}, tmp_path / "packet.zip")
    assert outcome(path, ()) == library(path, ()) == 2


def test_bounds_are_those_of_the_library() -> None:
    """Files, bytes, ratio, lines, findings."""
    from auditlib.packet import check as checks

    assert (*(bags.MAX_FILES, bags.MAX_FILE_BYTES, bags.MAX_PACKET_BYTES),) == (
        alone.MAX_FILES,
        alone.MAX_FILE,
        alone.MAX_PACKET,
    )
    assert (alone.MAX_RATIO, alone.MIN_DEFLATED, alone.BAGIT) == (bags.MAX_RATIO, bags._MIN_DEFLATED, bags.BAGIT)
    assert (alone.MAX_JSON, alone.MAX_LINES) == (checks.MAX_PACKET_JSON_BYTES, checks.MAX_LINES)
    assert (alone.MAX_FAULTS, set(alone.NOT_HASHED)) == (checks.MAX_FINDINGS, set(checks.REPORTS))


# --- the command line, as an auditor runs it -----------------------------------------------------------------


def ran(*arguments: object, python: str = sys.executable, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *map(str, arguments)], capture_output=True, text=True, timeout=110, check=False, **more
    )


def python_39() -> str | None:
    """One that runs; a version manager's stand-in may not."""
    kept = (Path.home() / ".pyenv" / "versions").glob("3.9.*/bin/python3.9")
    for found in filter(None, [shutil.which("python3.9"), *map(str, kept)]):
        if ran("-V", python=found).returncode == 0:
            return found
    return None


@pytest.mark.parametrize("python", [sys.executable, python_39()], ids=["this Python", "Python 3.9"])
def test_it_runs_alone_and_its_exit_codes_are_ours(python: str | None, files: Files, tmp_path: Path) -> None:
    """Isolated, from another folder: 0 fine, 1 wrong, 2 no packet, no key or wrong usage; nothing is written."""
    if python is None:
        pytest.skip("no Python 3.9 here")
    script = Path(shutil.copy(SOURCE, tmp_path / "verify.py"))
    folder = bags_written(files, tmp_path / "packet")
    bags_written(files, tmp_path / "packet.zip")
    (tmp_path / "keys").write_text(f"# ours\n\n{SAMPLE_KEY}\n{simulator.KEY.verifier}\n")
    bags_written({**files, mutations.EVENTS: files[mutations.EVENTS].replace(b"u_", b"v_", 1)}, tmp_path / "forged")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    for path in (folder, tmp_path / "packet.zip"):
        for key in (SAMPLE_KEY, tmp_path / "keys"):
            done = ran("-I", script, path, "--key", key, python=python)
            assert (done.returncode, done.stderr) == (0, ""), done
            assert "No fault was found" in done.stdout and "NOT CONFIRMED" not in done.stdout
            assert check_packet(path).digest in done.stdout and check_packet(path).evidence_digest in done.stdout
    done = ran("-I", script, folder, python=python)
    assert done.returncode == 0 and "NOT CONFIRMED" in done.stdout and "proves nothing alone" in done.stdout
    done = ran("-I", script, tmp_path / "forged", "--key", SAMPLE_KEY, python=python)
    assert done.returncode == 1 and "data/events.jsonl" in done.stdout and "Traceback" not in done.stderr
    assert ran("-I", script, folder, "--key", simulator.EVIL_KEY.verifier, python=python).returncode == 1
    for wrong in (
        *(
            [tmp_path / "nowhere"],
            [],
            [tmp_path / "keys"],
            [folder, "--key", "x+y"],
            [folder, "--key", tmp_path / "none"],
        ),
        *([folder, "--key", folder], [folder, "--nonsense"], ["\x1b[2J"]),
    ):
        done = ran("-I", script, *wrong, python=python)
        assert done.returncode == 2 and done.stderr and "Traceback" not in done.stderr, wrong
        assert "\x1b" not in done.stdout + done.stderr
    done = ran("-I", script, "--self-test", python=python)
    assert done.returncode == 0 and "8032" in done.stdout
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_a_secret_key_is_not_repeated(tmp_path: Path, files: Files) -> None:
    """Somebody gives the .key file: refused, and nothing of it is printed."""
    (tmp_path / "secret.key").write_text(simulator.KEY.secret_text() + "\n")
    for given_ in (tmp_path / "secret.key", simulator.KEY.secret_text()):
        done = ran("-I", SOURCE, tmp_path, "--key", given_)
        assert done.returncode == 2
        assert simulator.KEY.secret_text()[-20:] not in done.stdout + done.stderr


def test_a_file_beside_it_is_not_imported(files: Files, tmp_path: Path) -> None:
    """A packet that carries data/json.py and data/zlib.py: they do not run when data/verify.py does."""
    folder = bags_written(files, tmp_path / "packet")
    shutil.copy(SOURCE, folder / "data" / "verify.py")
    for name in ("json", "csv", "hashlib", "argparse", "typing", "zipfile", "struct"):
        (folder / "data" / f"{name}.py").write_text("print('EVIL')\nraise SystemExit(0)\n")
    for where in (folder / "data", tmp_path):
        done = ran(folder / "data" / "verify.py", folder, cwd=where)
        assert done.returncode == 1 and "EVIL" not in done.stdout + done.stderr
        assert "data/json.py" in done.stdout


def test_names_and_sentences_are_shown_escaped(files: Files, tmp_path: Path) -> None:
    """What a packet says moves no cursor and turns no text around."""
    packet = Packet(files).json(
        mutations.PACKET, lambda told: told.update(headline="\x1b[2J\u202eevil\u2028ä", records="\x07")
    )
    folder = bags_written(packet.bag().files, tmp_path / "packet")
    done = ran(SOURCE, folder, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert "\\x1b[2J\\u202eevil\\u2028\\xe4" in done.stdout
    assert not set(done.stdout) & set("\x1b\u202e\u2028\x07")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_is_a_storage_error(files: Files, tmp_path: Path) -> None:
    """Exit code 3: nothing is said of the evidence."""
    folder = bags_written(files, tmp_path / "packet")
    (folder / mutations.EVENTS).chmod(0)
    assert outcome(folder, ()) == 3


def test_a_file_that_goes_away_is_a_storage_error(files: Files, tmp_path: Path) -> None:
    """The same for a file that is gone when it is read."""
    folder = bags_written(files, tmp_path / "packet")
    bag = alone.open_folder(folder)
    (folder / mutations.EVENTS).unlink()
    with pytest.raises(alone.Refused) as refused:
        alone.Verifier(bag, []).run()
    assert refused.value.args[0] == 3


def test_deep_and_giant_json_is_a_fault(small: Files) -> None:
    """No recursion error and no minutes spent on digits."""
    for junk in (
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b"9" * 2_000_000,
        b"[" * 102 + b"]" * 102,
        b"-" * 9,
        b"1e999",
        b"NaN",
    ):
        with pytest.raises(alone.Fault):
            alone.parse(junk)
        for name in (mutations.PACKET, mutations.EVENTS, *mutations.PROOFS):
            assert faulty({**small, name: junk}, ()) >= {1}


# --- the file itself -----------------------------------------------------------------------------------------


def test_it_is_python_3_9_and_the_standard_library_alone() -> None:
    """Parsed as 3.9; every import is of the standard library and none can reach a network or start a program."""
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 9))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module
            imported.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__", "open")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in (
                "write_bytes",
                "write_text",
                "mkdir",
                "unlink",
                "extract",
                "extractall",
                "rename",
            )
    assert imported <= set(sys.stdlib_module_names)
    assert not imported & {"socket", "urllib", "http", "subprocess", "ctypes", "pickle", "shutil", "tempfile", "ssl"}
    assert stat.S_ISREG(SOURCE.stat().st_mode)


def test_it_can_be_read_in_one_sitting() -> None:
    """A bound on its lines, their length, and its characters."""
    text = SOURCE.read_text()
    assert max(map(len, text.splitlines())) <= 120
    assert len([line for line in text.splitlines() if line.strip()]) <= 990
    assert text.isascii()
