"""A packet is the same bytes everywhere, and whatever its maker changes shows, or is named as unchecked."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import bagit
import msgspec
import pytest
import simulator
from packets import ORIGIN, PROOF, ROOT, SAMPLE_KEY, Packet, check, fired, planted, read_folder, sample, sample_vault
from strength import LONG

from auditlib.errors import AuditlibError, MalformedError
from auditlib.formats.canonical import canonical
from auditlib.formats.checkpoint import sign_checkpoint
from auditlib.formats.event import parse_record, record_bytes
from auditlib.formats.keys import SigningKey
from auditlib.formats.times import parse_time
from auditlib.packet import bag as bags
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet
from auditlib.packet.transmittal import sign_packet

EVIL = SigningKey(ORIGIN, bytes(range(32)))  # the origin's name, another's key
EVENTS, GRANTS, EXCEPTIONS = "data/events.jsonl", "data/tables/grants.csv", "data/tables/exceptions.csv"


@pytest.fixture(scope="module")
def files() -> Mapping[str, bytes]:
    return sample()


@pytest.fixture
def packet(files: Mapping[str, bytes]) -> Packet:
    return Packet(files)


def write(files: Mapping[str, bytes], path: Path) -> Path:
    bags.write_bag(files, path)
    return path


# --- the same bytes everywhere -------------------------------------------------------------------------------

BUILD = """
import os, sys
os.umask(int(sys.argv[4], 8))
from auditlib.packet.build import build_packet
from pathlib import Path
build_packet("role-grants", sys.argv[1], {}, Path(sys.argv[3]), keys=sys.argv[2])
"""


def build_elsewhere(tmp_path: Path, out: Path) -> None:
    """Another machine, as far as one can tell: home, profile, start-up files, zone, locale, seed, width, umask."""
    home = tmp_path / "another-home"
    startup = home / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("import pandas; pandas.options.display.max_rows = 3; print('hello from home')\n")
    (home / ".config" / "matplotlib").mkdir(parents=True)
    (home / ".config" / "matplotlib" / "matplotlibrc").write_text("axes.facecolor: 000000\nlines.linewidth: 9\n")
    (home / "start.py").write_text("print('PYTHONSTARTUP ran')\n")
    cwd = tmp_path / "another-folder"
    cwd.mkdir()
    environment = {
        **os.environ,
        **{"HOME": str(home), "TZ": "Asia/Kathmandu", "LC_ALL": "C.utf8", "PYTHONHASHSEED": "4711", "COLUMNS": "37"},
        **{"XDG_CONFIG_HOME": str(home / ".config"), "PYTHONSTARTUP": str(home / "start.py"), "USER": "somebody-else"},
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("MPLCONFIGDIR", None)
    arguments = [sys.executable, "-c", BUILD, str(sample_vault()), str(SAMPLE_KEY), str(out), "077"]
    subprocess.run(arguments, cwd=cwd, env=environment, check=True, timeout=110)


def test_two_builds_are_identical_byte_for_byte(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """Folder here, zip with another home, zone, locale, hash seed, umask and width: the same members."""
    build_elsewhere(tmp_path, tmp_path / "packet.zip")
    with zipfile.ZipFile(tmp_path / "packet.zip") as archive:
        other = {member.filename: archive.read(member) for member in archive.infolist()}
        assert archive.namelist() == sorted(other, key=str.encode)
        for member in archive.infolist():
            assert (member.compress_type, member.date_time) == (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))
            assert (member.create_system, member.external_attr, member.extra) == (3, 0o644 << 16, b"")
    assert set(other) == set(files)
    assert [name for name in files if other[name] != files[name]] == []
    write(files, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "packet.zip").read_bytes()
    assert check_packet(tmp_path / "packet.zip", [SAMPLE_KEY]).ok


def test_the_bag_is_a_bag_to_bagit(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """The reference implementation of RFC 8493 validates it, Payload-Oxum and all."""
    bag = bagit.Bag(str(write(files, tmp_path / "packet")))
    bag.validate()
    assert bag.info["External-Identifier"] == sha256(files["data/packet.json"]).hexdigest()
    assert bag.info["Bagging-Date"] == json.loads(files["data/packet.json"])["checkpoints"][0]["last_sealed_at"][:10]


def test_nothing_of_the_machine_stands_in_it(files: Mapping[str, bytes]) -> None:
    """No host, user, path, process, memory address or wall clock, in any file, parquet pages included."""
    strange = re.compile(
        rb"0x7f[0-9a-f]{6,}|/(tmp|home|root|usr|work|proc)/|site-packages|(?<!verify)\.py\b(?!thon)|ipykernel_\d"
    )
    last = json.loads(files["data/packet.json"])["checkpoints"][0]["last_sealed_at"].encode()
    names = [name.encode() for name in (socket.gethostname(), os.environ.get("USER", "")) if len(name) > 4]
    for name, data in files.items():
        if name == "data/verify.py":
            continue
        assert strange.findall(data) == [], name
        assert not [n for n in names if n in data], name
        if name == EVENTS or name.startswith("data/tables/"):
            continue  # an access may be granted until any day to come
        for moment in re.findall(rb"\b20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d", data):
            assert moment <= last, (name, moment)


def test_the_answer_in_the_packet_is_what_was_planted(files: Mapping[str, bytes]) -> None:
    """packet.json counts what the generator planted."""
    told = json.loads(files["data/packet.json"])
    wrong = [grant for grant in planted()["admin_grants"] if grant["verdict"] not in ("pass", "not-testable")]
    assert (told["population"]["items"], told["exceptions"]) == (len(planted()["admin_grants"]), len(wrong))
    assert len(wrong) == 19


def test_nothing_is_overwritten_or_written_outside(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """An existing path is left alone; an origin made of `..` writes nothing above the packet."""
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(MalformedError, match="exists already"):
        bags.write_bag(files, there)
    for name in ("../evil", "data/proof/../../../evil/checkpoint", "/tmp/evil", "data//x", "a\\b"):
        with pytest.raises(MalformedError):
            bags.write_bag({**files, name: b"x"}, tmp_path / "out" / "packet")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["there"]


# --- a single change, nothing put right ----------------------------------------------------------------------


def test_the_untouched_packet_passes(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """Benign: as it is, put right again without a change, zipped by others, with and without a key."""
    assert check(files).findings == ()
    assert Packet(files).fix().files == dict(files)
    unconfirmed = check(files, ())
    assert unconfirmed.ok and not unconfirmed.key_confirmed and "not confirmed" in unconfirmed.unchecked[0]
    assert check_packet(write(files, tmp_path / "packet"), [SAMPLE_KEY]).findings == ()
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("my packet".replace(" ", "-"))
        for name, data in files.items():
            archive.writestr(f"my-packet/{name}", data)
    assert check_packet(tmp_path / "zipped.zip", [SAMPLE_KEY]).findings == ()


SMALL = (  # every byte of these
    *(f"{PROOF}/checkpoint", f"{PROOF}/seals-proof.json", "data/packet.json"),
    *("bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"),
)


def flips(data: bytes, places: range | list[int]) -> Any:
    for place in places:
        yield place, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def cheap_manifests(files: Mapping[str, bytes], name: str, data: bytes) -> bool:
    """Whether check 1 sees it: as check_manifests does, hashing the changed file alone."""
    listed = files["tagmanifest-sha256.txt"] + files["manifest-sha256.txt"]
    return f"{sha256(data).hexdigest()}  {name}\n".encode() not in listed


@pytest.mark.parametrize("name", SMALL)
def test_every_changed_byte_of_what_proves_is_found(name: str, files: Mapping[str, bytes]) -> None:
    """Exhaustive: no byte can change unseen, in the files that carry the proof."""
    small = {n: d for n, d in files.items() if not n.startswith("data/") or n == name}  # fewer files, same checks
    assert name in small
    unseen = []
    for place, data in flips(files[name], range(len(files[name]))):
        found = _manifest_errors({**small, name: data}, name)
        if not found:
            unseen.append(place)
    assert unseen == []


def _manifest_errors(files: Mapping[str, bytes], name: str) -> list[Any]:
    from packets import DictBag

    found = list(bags.check_manifests(DictBag(files)))
    missing = [e for e in found if getattr(e, "found", None) == "no file"]
    wrong_oxum = [e for e in found if e.where == "bag-info.txt" and "number of files" in e.message]
    return [e for e in found if e not in missing and (e not in wrong_oxum or name == "bag-info.txt")]


@pytest.mark.parametrize("name", [f"{PROOF}/inclusion.jsonl", f"{PROOF}/seals.jsonl", EVENTS, GRANTS])
def test_every_changed_byte_of_the_evidence_is_found(name: str, files: Mapping[str, bytes]) -> None:
    """Exhaustive too: the manifest's hash sees it, whatever the byte."""
    assert all(cheap_manifests(files, name, data) for _, data in flips(files[name], range(0, len(files[name]), 7)))
    draw = random.Random(7)
    for _, data in flips(files[name], sorted(draw.sample(range(len(files[name])), 8))):
        assert {1, 2} <= fired(check({**files, name: data}))


def test_a_changed_byte_anywhere_else_is_found(files: Mapping[str, bytes]) -> None:
    """A few places in each file, through the whole check."""
    draw = random.Random(11)
    for name, data in files.items():
        for place in sorted(draw.sample(range(len(data)), 2)):
            (changed,) = (d for _, d in flips(data, [place]))
            report = check({**files, name: changed})
            assert 1 in fired(report), (name, place)


def test_a_removed_added_renamed_or_swapped_file_is_found(files: Mapping[str, bytes]) -> None:
    """Check 1, for every file of the packet."""
    names = list(files)
    for place, name in enumerate(names):
        less = {n: d for n, d in files.items() if n != name}
        assert 1 in fired(check(less)), f"{name} removed"
        assert 1 in fired(check({**less, name + ".bak": files[name]})), f"{name} renamed"
        other = names[place - 1]
        assert 1 in fired(check({**files, name: files[other], other: files[name]})), f"{name} swapped"
    for added in ("data/x.txt", "fetch.txt", "manifest-md5.txt", "README", f"{PROOF}/x", "data/proof/evil/checkpoint"):
        assert 1 in fired(check({**files, added: b"x"})), added


# --- the same with everything put right that can be put right ------------------------------------------------


def forged_record(data: bytes) -> bytes:
    record = parse_record(data)
    event = msgspec.structs.replace(record.event, actor=msgspec.structs.replace(record.event.actor, id="u_0001"))
    return record_bytes(msgspec.structs.replace(record, event=event))


def forge_record(packet: Packet) -> Packet:
    """Another actor in a record; its leaf is worked out again by whoever checks."""
    return packet.lines(EVENTS, lambda lines: [forged_record(lines[0]), *lines[1:]])


def drop_record(packet: Packet) -> Packet:
    """A record removed, the line numbers of all that follow put right, its leaf taken out."""

    def shift(lines: list[bytes]) -> list[bytes]:
        out = []
        for line in lines:
            proof = json.loads(line)
            for column in ("leaf_indexes", "blinds"):
                proof[column] = [x for x, at in zip(proof[column], proof["lines"], strict=True) if at != 3]
            proof["lines"] = [at - (at > 3) for at in proof["lines"] if at != 3]
            out.append(canonical(proof))
        return out

    packet.lines(EVENTS, lambda lines: lines[:3] + lines[4:])
    packet.json("data/packet.json", lambda told: told.update(records=told["records"] - 1))
    return packet.lines(f"{PROOF}/inclusion.jsonl", shift)


def drop_row(name: str, count: bool = False) -> Callable[[Packet], Packet]:
    def change(packet: Packet) -> Packet:
        """A row removed from a table."""
        if count:
            packet.json("data/packet.json", lambda told: told.update(exceptions=told["exceptions"] - 1))
        return packet.edit(name, lambda data: b"\r\n".join(data.split(b"\r\n")[:-2]) + b"\r\n")

    return change


def told(**changes: Any) -> Callable[[Packet], Packet]:
    return lambda packet: packet.json("data/packet.json", lambda value: value.update(changes))


def population(**changes: Any) -> Callable[[Packet], Packet]:
    return lambda packet: packet.json("data/packet.json", lambda value: value["population"].update(changes))


def checkpoint_fact(**changes: Any) -> Callable[[Packet], Packet]:
    return lambda packet: packet.json("data/packet.json", lambda value: value["checkpoints"][0].update(changes))


def other_checkpoint(key: SigningKey, **changes: Any) -> Callable[[Packet], Packet]:
    """A checkpoint signed by another key, or over another root or origin; packet.json agrees with it."""

    def change(packet: Packet) -> Packet:
        stands = json.loads(packet.files["data/packet.json"])["checkpoints"][0]
        new = {**stands, "keys": [str(key.verifier)], **changes}
        note = sign_checkpoint(new["origin"], new["size"], bytes.fromhex(new["root"]), [key])
        packet.files[f"{PROOF}/checkpoint"] = note
        return packet.json("data/packet.json", lambda value: value["checkpoints"].__setitem__(0, new))

    return change


def proof(change: Callable[[dict[str, Any]], Any], line: int = 2) -> Callable[[Packet], Packet]:
    return lambda packet: packet.proof(line, change)


def seals_proof(change: Callable[[Any], Any]) -> Callable[[Packet], Packet]:
    return lambda packet: packet.json(f"{PROOF}/seals-proof.json", change)


def raw(change: Callable[[bytes], bytes]) -> Callable[[Packet], Packet]:
    return lambda packet: packet.edit("data/packet.json", change)


def proof_bytes(old: bytes, new: bytes, name: str = "inclusion.jsonl") -> Callable[[Packet], Packet]:
    return lambda packet: packet.edit(f"{PROOF}/{name}", lambda data: data.replace(old, new, 1))


def checkpoint_text(change: Callable[[str], str]) -> Callable[[Packet], Packet]:
    return lambda packet: packet.edit(f"{PROOF}/checkpoint", lambda data: change(data.decode()).encode())


def swap_seals(packet: Packet) -> Packet:
    return packet.lines(f"{PROOF}/seals.jsonl", lambda lines: [lines[1], lines[0], *lines[2:]])


def forge_seal(packet: Packet) -> Packet:
    return packet.edit(f"{PROOF}/seals.jsonl", lambda data: data.replace(b'"role.grant":', b'"role.grunt":', 1))


def double(packet: Packet) -> Packet:
    """One record on two lines, proven by two lines over the same batch: one grant counts twice."""
    lines = packet.files[EVENTS].splitlines()
    last = json.loads(packet.files[f"{PROOF}/inclusion.jsonl"].splitlines()[-1])
    packet.lines(EVENTS, lambda _: [*lines, *(lines[at] for at in last["lines"])])
    again = {**last, "lines": [len(lines) + n for n in range(len(last["lines"]))]}
    packet.json("data/packet.json", lambda told: told.update(records=len(lines) + len(last["lines"])))
    return packet.lines(f"{PROOF}/inclusion.jsonl", lambda some: [*some, canonical(again)])


def empty_and_unsigned(packet: Packet) -> Packet:
    """No checkpoint, no record, no row: "nothing was recorded", with nothing behind it."""
    for name in [n for n in packet.files if n.startswith(("data/proof/", "data/tables/"))]:
        del packet.files[name]
    packet.files[EVENTS] = b""
    zeros = {"items": 0, "events": 0, "verdicts": {}}
    packet.json("data/packet.json", lambda told: told["population"].update(zeros))
    return told_(packet, checkpoints=[], exceptions=0, records=0, seals=[])


def told_(packet: Packet, **changes: Any) -> Packet:
    return told(**changes)(packet)


def cell(name: str, column: str, value: str, row: int = 1) -> Callable[[Packet], Packet]:
    """One cell of a CSV table."""

    def change(packet: Packet) -> Packet:
        def changed(data: bytes) -> bytes:
            lines = [line.split(",") for line in data.decode("utf-8-sig").split("\r\n")]
            lines[row][lines[0].index(column)] = value
            return ("\ufeff" + "\r\n".join(map(",".join, lines))).encode()

        return packet.edit(name, changed)

    return change


def added(name: str, data: bytes = b"x") -> Callable[[Packet], Packet]:
    def change(packet: Packet) -> Packet:
        packet.files[name] = data
        return packet

    return change


def foreign_catalog(packet: Packet) -> Packet:
    name = next(name for name in packet.files if name.startswith("data/catalogs/"))
    return packet.edit(name, lambda data: data + b"\n# one more line\n")


FORGERIES: dict[str, tuple[int, Callable[[Packet], Packet]]] = {
    "a record with another actor": (5, forge_record),
    "a record removed, line numbers put right": (5, drop_record),
    "a record twice": (5, double),
    "a record with spaces in it": (5, lambda p: p.edit(EVENTS, lambda d: d.replace(b'"action":', b'"action": ', 1))),
    "an empty line among the records": (5, lambda p: p.edit(EVENTS, lambda d: b"\n" + d)),
    "records without a last newline": (5, lambda p: p.edit(EVENTS, lambda d: d[:-1])),
    "no proofs at all": (5, lambda p: p.edit(f"{PROOF}/inclusion.jsonl", lambda d: b"")),
    "a row removed from the grants": (6, drop_row(GRANTS)),
    "a row removed from the exceptions": (6, drop_row(EXCEPTIONS)),
    "a row removed from the exceptions, counted so": (6, drop_row(EXCEPTIONS, count=True)),
    "a table removed": (6, lambda p: (p.files.pop(GRANTS), p)[1]),
    "an exception's item swapped": (6, cell(EXCEPTIONS, "item", "01KJKB3Q00SEHY4T20DHJ4J5NT")),
    "a grant's actor": (6, cell(GRANTS, "actor_id", "u_0001")),
    "a grant's source": (6, cell(GRANTS, "source", "elsewhere/1")),
    "a grant's time": (6, cell(GRANTS, "occurred_at", "2026-03-01T00:00:01Z")),
    "a grant's event": (6, cell(GRANTS, "event_id", "01KJKB3Q00SEHY4T20DHJ4J5NX")),
    "a grant's place": (6, cell(GRANTS, "row", "0")),
    "a verdict alone": (6, cell(GRANTS, "verdict", "pass", row=2)),
    "a column renamed": (6, lambda p: p.edit(GRANTS, lambda d: d.replace(b",event_id,", b",event-id,", 1))),
    "a column twice": (6, lambda p: p.edit(GRANTS, lambda d: d.replace(b",event_id,", b",source,", 1))),
    "a row of another length": (6, lambda p: p.edit(GRANTS, lambda d: d + b"a,b\r\n")),
    "a table that is no text": (6, lambda p: p.edit(GRANTS, lambda d: d + b"\xff")),
    "a forged count of exceptions": (6, told(exceptions=0)),
    "a forged count of items": (6, population(items=40)),
    "a forged count of verdicts": (6, population(verdicts={"pass": 41})),
    "a forged count of records": (6, told(records=166)),
    "no population": (6, told(population=None)),
    "a checkpoint of another trail": (
        3,
        other_checkpoint(SigningKey("evil.example", bytes(32)), origin="evil.example"),
    ),
    "a checkpoint signed by another key": (3, other_checkpoint(EVIL)),
    "a checkpoint over another root": (3, other_checkpoint(EVIL, root="00" * 32)),
    "another checkpoint in packet.json": (3, checkpoint_fact(root="00" * 32)),
    "another size in packet.json": (3, checkpoint_fact(size=26)),
    "a key named that did not sign": (3, checkpoint_fact(keys=[str(EVIL.verifier)])),
    "no key named": (3, checkpoint_fact(keys=[])),
    "no checkpoint named": (3, told(checkpoints=[])),
    "checkpoints that are a number": (3, told(checkpoints=5)),
    "checkpoints that are texts": (3, told(checkpoints=["x"])),
    "checkpoints that are null": (3, told(checkpoints=None)),
    "nothing behind an empty answer": (3, empty_and_unsigned),
    "a proof of a trail not named": (3, added("data/proof/evil.example/checkpoint")),
    "base64 of the root with a bit too many": (
        3,
        checkpoint_text(lambda t: re.sub(r"(.)=\n", next_letter, t, count=1)),
    ),
    "base64 of the signature without padding": (3, checkpoint_text(lambda t: t[:-2] + "\n")),
    "a size with a zero before it": (3, checkpoint_text(lambda t: t.replace("\n27\n", "\n027\n"))),
    "an extension line": (3, checkpoint_text(lambda t: t.replace("\n\n", "\nmore\n\n"))),
    "line ends of another kind": (3, checkpoint_text(lambda t: t.replace("\n", "\r\n"))),
    "a proof one hash too long": (5, proof(lambda p: p["hashes"].append("00" * 32))),
    "a proof one hash too short": (5, proof(lambda p: p["hashes"].pop())),
    "hashes in another order": (5, proof(lambda p: p["hashes"].reverse())),
    "hashes in capitals": (5, proof(lambda p: p.update(hashes=[h.upper() for h in p["hashes"]]))),
    "another blind": (5, proof(lambda p: p["blinds"].__setitem__(0, "00" * 16))),
    "a blind too few": (5, proof(lambda p: p["blinds"].pop())),
    "a proof for another record": (5, proof(lambda p: p["lines"].__setitem__(0, 0))),
    "a line that is not there": (5, proof(lambda p: p["lines"].__setitem__(-1, 10**9))),
    "a line below none": (5, proof(lambda p: p["lines"].__setitem__(0, -1))),
    "leaf indexes out of order": (5, proof(lambda p: p["leaf_indexes"].reverse(), line=0)),
    "a leaf index twice": (5, proof(lambda p: p["leaf_indexes"].__setitem__(1, p["leaf_indexes"][0]), line=0)),
    "a leaf index past the tree": (5, proof(lambda p: p["leaf_indexes"].__setitem__(-1, 2**52))),
    "a tree of another size": (5, proof(lambda p: p.update(tree_size=p["tree_size"] + 1))),
    "a proof under another batch": (5, proof(lambda p: p.update(sequence=p["sequence"] + 1))),
    "a proof under no batch": (5, proof(lambda p: p.update(sequence=10**9))),
    "a proof with a field more": (5, proof(lambda p: p.update(note="x"))),
    "a proof with a field less": (5, proof(lambda p: p.pop("blinds"))),
    "a proof with spaces": (5, proof_bytes(b'"blinds":', b'"blinds": ')),
    "a proof with a key twice": (5, proof_bytes(b'{"blinds":', b'{"blinds":[],"blinds":')),
    "numbers written as floats": (5, proof_bytes(b'"lines":[0,', b'"lines":[0.0,')),
    "a proof that is deep": (5, proof_bytes(b'{"blinds":', b'{"blinds":' + b"[" * 100_000)),
    "two seals swapped": (4, swap_seals),
    "a forged seal": (4, forge_seal),
    "a seal removed": (4, lambda p: p.lines(f"{PROOF}/seals.jsonl", lambda lines: lines[1:])),
    "a seal twice": (4, lambda p: p.lines(f"{PROOF}/seals.jsonl", lambda lines: [lines[0], *lines])),
    "seals without a last newline": (4, lambda p: p.edit(f"{PROOF}/seals.jsonl", lambda d: d[:-1])),
    "no seals": (4, lambda p: p.edit(f"{PROOF}/seals.jsonl", lambda d: b"")),
    "a seal's proof a hash too short": (4, seals_proof(lambda v: v["hashes"].pop() and None)),
    "a seal's proof a hash too long": (4, seals_proof(lambda v: v["hashes"].append("0" * 64))),
    "a seal's proof of another size": (4, seals_proof(lambda v: v.update(tree_size=28))),
    "seal indexes unsorted": (4, seals_proof(lambda v: v["leaf_indexes"].reverse())),
    "a seal's proof with a newline": (4, lambda p: p.edit(f"{PROOF}/seals-proof.json", lambda d: d + b"\n")),
    "seals named that are not here": (4, told(seals=[1, 2, 3])),
    "a catalogue under another's name": (2, foreign_catalog),
    "a catalogue named that is not here": (2, told(catalogs={"answered": "0" * 64, "in_force": []})),
    "no catalogues named": (2, lambda p: p.json("data/packet.json", lambda v: v.pop("catalogs") and None)),
    "another format": (2, told(format="auditlib/packet/v2")),
    "packet.json with a newline": (2, raw(lambda d: d + b"\n")),
    "packet.json with a key twice": (2, raw(lambda d: b'{"title":"","title":' + d[1:])),
    "packet.json that is a list": (2, raw(lambda d: b"[]")),
    "packet.json that is deep": (2, raw(lambda d: b"[" * 3_000_000)),
    "packet.json with a giant number": (2, raw(lambda d: b'{"n":' + b"9" * 100_000 + b"}")),
    "packet.json that is not UTF-8": (2, raw(lambda d: d.replace(b"admin", b"adm\xff\xff", 1))),
    "packet.json with 200,000 keys, one twice": (2, raw(lambda d: _many_keys())),
    "a tag file more": (1, added("fetch.txt", b"https://evil.example/ 1 data/packet.json\n")),
    "a manifest more": (1, added("manifest-md5.txt", b"")),
}


def next_letter(match: re.Match[str]) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return alphabet[alphabet.index(match[1]) + 1] + "=\n"


def _many_keys() -> bytes:
    return b"{" + b",".join(b'"k%d":0' % n for n in range(200_000)) + b',"k7":1}'


@pytest.mark.parametrize("fault", FORGERIES)
def test_a_forgery_with_all_hashes_put_right_is_found(fault: str, packet: Packet) -> None:
    """Bag manifests, bag-info and packet.json's hashes agree with the forgery; the named check fires all the same."""
    number, change = FORGERIES[fault]
    change(packet)
    packet = packet.bag() if "packet.json" in fault or fault == "another format" else _fix(packet)
    if number == 1:
        for name in ("fetch.txt", "manifest-md5.txt"):
            if name in packet.files:
                line = f"{sha256(packet.files[name]).hexdigest()}  {name}\n".encode()
                packet.files["tagmanifest-sha256.txt"] += line
    report = packet.check()
    assert not report.ok
    assert number in fired(report), report.findings
    if number > 2 and b'"checkpoints":[{' in packet.files["data/packet.json"]:  # the shallow checks are blind to it
        assert not [f for f in report.findings if f.check <= 2 and f.object not in ("bag-info.txt", "data/catalogs/")]


def _fix(packet: Packet) -> Packet:
    try:
        return packet.fix()
    except (ValueError, TypeError, LookupError, RecursionError):
        return packet.bag()


def test_a_forged_bag_info_is_found(packet: Packet) -> None:
    """Check 1: who wrote it, when, and how much: it says what packet.json says and nothing else."""
    for old, new in (
        (b"Source-Organization: acme", b"Source-Organization: evil"),
        (b"Bagging-Date: 2026", b"Bagging-Date: 2027"),
        (b"Payload-Oxum: ", b"Payload-Oxum: 1"),
        (b"External-Identifier: ", b"Certified-By: Somebody\nExternal-Identifier: "),
    ):
        forged = Packet(packet.files).edit("bag-info.txt", lambda data, old=old, new=new: data.replace(old, new))
        line = f"{sha256(forged.files['bag-info.txt']).hexdigest()}  bag-info.txt".encode()
        forged.edit("tagmanifest-sha256.txt", lambda d, line=line: re.sub(rb"[0-9a-f]{64}  bag-info.txt", line, d))
        assert fired(forged.check()) == {1}, new


def test_what_cannot_be_seen_is_named(packet: Packet) -> None:
    """A consistent forgery of what matching alone can say passes every check, and `unchecked` says so."""
    column = packet.files[GRANTS].decode("utf-8-sig").split("\r\n")[0].split(",").index("reason")
    assert column >= 0
    for name in (GRANTS, EXCEPTIONS):
        packet.edit(name, lambda data: data.replace(b"The approver is the subject.", b"The approver is on holiday.", 1))
    packet.json("data/packet.json", lambda value: value.update(headline="Nothing to see."))
    packet.edit("data/report.html", lambda data: data.replace(b"potential exceptions", b"good things"))
    report = packet.fix().check()
    assert report.ok
    unchecked = " ".join(report.unchecked)
    for named in (
        "verdicts",
        "entitlements",
        "reasons",
        "sentences of packet.json",
        "the report",
        "Parquet",
        "notebook",
    ):
        assert named in unchecked
    assert "left out of the population needs the vault" in unchecked
    assert "sources.csv names no events" in unchecked
    assert "not that every act was recorded" in unchecked


def test_a_transmittal_is_read_where_there_is_one(files: Mapping[str, bytes]) -> None:
    """It stands outside every manifest and is check 7; that nobody signed is said (tests/test_transmittal.py)."""
    assert any("nobody has signed" in sentence for sentence in check(files).unchecked)
    assert fired(check({**files, "transmittal.json": b"{}"})) == {7}


def test_the_preparers_key_alone_confirms_the_preparer_alone(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """Either key may be given: the sealer's, the preparer's, or both; one does not stand in for the other."""
    ada = SigningKey("ada@acme.example", bytes(range(64, 96)))
    path = write(files, tmp_path / "packet.zip")
    sign_packet(path, ada, now=parse_time("2026-07-07T00:00:00Z"), preparer="Ada Okafor")
    for keys, confirmed, said in (
        ([], False, True),
        ([SAMPLE_KEY], True, True),
        ([ada.verifier], False, False),
        ([SAMPLE_KEY, ada.verifier], True, False),
    ):
        report = check_packet(path, keys)
        assert report.ok and report.key_confirmed is confirmed
        assert any("preparer's key" in sentence for sentence in report.unchecked) is said
        assert report.as_json()["transmittal"]["preparer"]["name"] == "Ada Okafor"


def test_every_seal_of_the_period_is_claimed_only_where_asked(packet: Packet) -> None:
    """Without the claim, completeness is the vault's to say."""
    packet.json("data/packet.json", lambda value: value["scope"].update(every_seal_of_period=False))
    report = packet.fix().check()
    assert any("not every seal of the period is here" in sentence for sentence in report.unchecked)


# --- hostile containers --------------------------------------------------------------------------------------


def zipped(files: Mapping[str, bytes], path: Path, change: Callable[[zipfile.ZipFile], None] | None = None) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # a name twice
        for name, data in files.items():
            archive.writestr(name, data)
        if change:
            change(archive)
    return path


def symlink(archive: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo("data/link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(member, "/etc/passwd")


def pipe(archive: zipfile.ZipFile) -> None:
    member = zipfile.ZipInfo("data/pipe")
    member.external_attr = (stat.S_IFIFO | 0o777) << 16
    archive.writestr(member, "")


def bomb(archive: zipfile.ZipFile) -> None:
    archive.writestr("data/bomb", bytes(20_000_000), zipfile.ZIP_DEFLATED)


HOSTILE_ZIPS: dict[str, Callable[[zipfile.ZipFile], None]] = {
    "a name that climbs out": lambda a: a.writestr("../../evil", "x"),
    "a name that climbs out inside": lambda a: a.writestr("data/../../evil", "x"),
    "an absolute name": lambda a: a.writestr("/etc/evil", "x"),
    "a drive's name": lambda a: a.writestr("C:\\evil", "x"),
    "a folder that climbs out": lambda a: a.writestr("../evil/", ""),
    "a name twice": lambda a: a.writestr("data/packet.json", "{}"),
    "a link": symlink,
    "a pipe": pipe,
    "a bomb": bomb,
    "a name with a newline": lambda a: a.writestr("data/a\nb", "x"),
    "a name that is not ASCII": lambda a: a.writestr("data/ä", "x"),
    "a member packed by bzip2": lambda a: a.writestr("data/b", "x" * 99, zipfile.ZIP_BZIP2),
    "a member packed by LZMA": lambda a: a.writestr("data/l", "x" * 99, zipfile.ZIP_LZMA),
}


@pytest.mark.parametrize("fault", HOSTILE_ZIPS)
def test_a_hostile_zip_is_refused(fault: str, files: Mapping[str, bytes], tmp_path: Path) -> None:
    """Refused as malformed before anything in it is opened; nothing is written."""
    path = zipped(files, tmp_path / "packet.zip", HOSTILE_ZIPS[fault])
    with pytest.raises(MalformedError):
        check_packet(path, [SAMPLE_KEY])
    assert [p.name for p in tmp_path.iterdir()] == ["packet.zip"]


def test_a_zip_damaged_anywhere_raises_nothing_strange(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """Bytes changed, cut off or put in, headers first: a report with an error, or MalformedError; never else."""
    small = {name: files[name] for name in ("bagit.txt", "bag-info.txt", f"{PROOF}/checkpoint", "data/packet.json")}
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", kind) as archive:
            for name, data in small.items():
                archive.writestr(name, data)
        whole = buffer.getvalue()
        start = whole.index(b"PK\x01\x02")
        draw = random.Random(3)
        places = [*range(start, len(whole)), *range(120), *draw.sample(range(start), 60)]
        damaged = [whole[:at] + bytes([draw.randrange(256)]) + whole[at + 1 :] for at in places]
        damaged += [whole[:at] for at in range(0, len(whole), 211)] + [b"PK", b"", whole[start:], whole + whole]
        path = tmp_path / "packet.zip"
        for data in damaged:
            path.write_bytes(data)
            try:
                assert not check_packet(path, [SAMPLE_KEY]).ok
            except AuditlibError:
                continue


def test_an_encrypted_member_is_refused(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """Bit 0 of the flags, in both headers."""
    path = zipped(files, tmp_path / "packet.zip")
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, data.rindex(b"PK\x05\x06") + 16)  # a spreadsheet inside is a zip as well
    struct.pack_into("<H", data, at + 8, 1)
    path.write_bytes(data)
    with pytest.raises(MalformedError, match="encrypted"):
        check_packet(path, [SAMPLE_KEY])


def test_ten_thousand_members_are_judged_at_once(tmp_path: Path) -> None:
    """Past the limit it is refused, and quickly."""
    path = zipped({f"data/{n}": b"" for n in range(bags.MAX_FILES + 1)}, tmp_path / "packet.zip")
    with pytest.raises(MalformedError, match="larger than a packet"):
        check_packet(path)


@pytest.mark.parametrize("kind", ["link to a file", "link to a folder", "broken link", "pipe", "socket", "odd name"])
def test_a_hostile_folder_is_refused(kind: str, files: Mapping[str, bytes], tmp_path: Path) -> None:
    """No link is followed and no pipe is opened (which would wait for ever)."""
    folder = write(files, tmp_path / "packet")
    place = folder / "data" / "odd"
    if kind == "link to a file":
        (folder / EVENTS).rename(tmp_path / "events")
        (folder / EVENTS).symlink_to(tmp_path / "events")
    elif kind == "link to a folder":
        place.symlink_to("/")
    elif kind == "broken link":
        place.symlink_to("/nowhere/at/all")
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        with server:
            before = Path.cwd()
            os.chdir(place.parent)
            try:
                server.bind("odd")
            finally:
                os.chdir(before)
            with pytest.raises(MalformedError):
                check_packet(folder)
        return
    else:
        os.close(os.open(os.fsencode(folder / "data") + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    with pytest.raises(MalformedError) as caught:
        check_packet(folder, [SAMPLE_KEY])
    str(caught.value).encode()


def test_a_file_that_cannot_be_read_is_an_error_of_ours(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """A file that goes away between the look and the reading is a finding, not a crash."""
    folder = write(files, tmp_path / "packet")
    with bags.open_bag(folder) as bag:
        (folder / EVENTS).unlink()
        found = list(bags.check_manifests(bag))
    assert [error.where for error in found] == [EVENTS]


@pytest.mark.parametrize("name", ["manifest-sha256.txt", "tagmanifest-sha256.txt", "bagit.txt", "bag-info.txt"])
def test_missing_or_garbled_tag_files_are_found(name: str, files: Mapping[str, bytes]) -> None:
    """Check 1: gone, empty, not UTF-8, CR LF, a path that climbs, a line twice."""
    assert 1 in fired(check({n: d for n, d in files.items() if n != name}))
    line = files[name].split(b"\n")[0] + b"\n"
    for data in (
        *(b"", b"\xff\xfe", b"\0" * 100, files[name].replace(b"\n", b"\r\n"), files[name] + line, files[name][:-1]),
        *(files[name] + b"0" * 64 + b"  ../../etc/passwd\n", b"x" * 100_000),
    ):
        assert 1 in fired(check({**files, name: data})), data[:40]


def test_nothing_at_all(tmp_path: Path) -> None:
    """No path, an empty folder, an empty file, a text, another zip."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "text.zip").write_text("hello")
    assert not check_packet(tmp_path / "folder").ok
    assert not check_packet(zipped({"x": b"y"}, tmp_path / "other.zip")).ok
    for name in ("nowhere", "file", "text.zip"):
        with pytest.raises(MalformedError):
            check_packet(tmp_path / name)


JUNK: dict[str, bytes] = {
    "nothing": b"",
    "newlines": b"\n" * 3_000_000,
    "braces": b"{" * 1_000_000,
    "brackets on every line": b"[[[[[[[[\n" * 2_000,
    "not UTF-8": b"\xff\xfe\xfd\n" * 100,
    "zeros": b"\0" * 100_000,
    "a giant number": b'{"tree_size":' + b"9" * 1_000_000 + b"}\n",
    "NaN": b"NaN\n",
    "lone surrogates": b'"\\ud800"\n',
    "null": b"null\n",
    "a long line": b"a" * 5_000_000,
}


@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_any_file_is_a_finding_and_never_a_hang(junk: str, files: Mapping[str, bytes]) -> None:
    """Every JSON, CSV and text file in turn; also with the hashes put right. Within seconds, nothing but findings."""
    names = [
        *(EVENTS, GRANTS, EXCEPTIONS, "data/packet.json", f"{PROOF}/checkpoint", f"{PROOF}/seals.jsonl"),
        *(f"{PROOF}/seals-proof.json", f"{PROOF}/inclusion.jsonl", "manifest-sha256.txt"),
    ]
    done: list[str] = []

    def run() -> None:
        for name in names:
            assert not check({**files, name: JUNK[junk]}).ok, name
            packet = Packet({**files, name: JUNK[junk]})
            packet = packet.bag() if name == "data/packet.json" else packet.fix()
            report = packet.check()
            assert not report.ok or name == "manifest-sha256.txt", name
            assert len(report.findings) <= 6 * 1_001
            json.dumps(report.as_json())
        done.append("done")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert done == ["done"], "it took more than a minute, or raised"


SHAPES = [None, 0, "x", [], {"a": 1}, True, *([{}, [1], -1, 2**53 - 1] if LONG else [])]


@pytest.mark.parametrize("value", SHAPES)
def test_packet_json_of_any_shape_is_a_finding(value: Any, files: Mapping[str, bytes]) -> None:
    """Every field of packet.json, and of what lies in it, replaced by anything: no exception, and an error where
    a check reads it."""
    told = json.loads(files["data/packet.json"])
    for name in told:
        packet = Packet(files)
        packet.files["data/packet.json"] = canonical({**told, name: value})
        report = packet.bag().check()
        json.dumps(report.as_json())
        checked = name in ("checkpoints", "files", "format", "population", "records", "seals", "catalogs")
        assert not (checked and value != told[name] and report.ok), name
    for outer, inner in [("population", k) for k in told["population"]] + [("scope", k) for k in told["scope"]]:
        packet = Packet(files)
        packet.files["data/packet.json"] = canonical({**told, outer: {**told[outer], inner: value}})
        json.dumps(packet.bag().check().as_json())
    for inner in told["checkpoints"][0]:
        packet = Packet(files)
        forged = {**told["checkpoints"][0], inner: value}
        packet.files["data/packet.json"] = canonical({**told, "checkpoints": [forged]})
        assert not packet.bag().check().ok or inner == "last_sealed_at", inner


# --- what the builder refuses --------------------------------------------------------------------------------


def test_parameters_never_become_code(tmp_path: Path) -> None:
    """A value that looks like Python, or like a path, is a value."""
    value = '"; import os; os.abort() #\n\nraise SystemExit\n\\\'\'\'"""{{7*7}}${HOME}\n%env\n!exit 1'
    out = tmp_path / "packet"
    built = build_packet("role-grants", str(sample_vault()), {"entitlement": value}, out, keys=SAMPLE_KEY)
    assert "No occurrence" in built.headline
    assert json.loads((out / "data/packet.json").read_bytes())["parameters"]["entitlement"] == value
    assert check_packet(out, [SAMPLE_KEY]).findings == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"untill": "2026-06-01"}, "Did you mean 'until'"),
        ({"lookback_days": "many"}, "no whole number"),
        ({"since": "2026-06-01", "until": "2026-03-01"}, "period is empty"),
        ({"tz": "Mars/Olympus"}, "no time zone"),
    ],
)
def test_wrong_parameters_write_nothing(given: dict[str, str], message: str, tmp_path: Path) -> None:
    """The user's mistakes are named, and nothing is written."""
    with pytest.raises(MalformedError, match=message):
        build_packet("role-grants", str(sample_vault()), given, tmp_path / "packet", keys=SAMPLE_KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_vault_at_fault_gives_no_packet(tmp_path: Path) -> None:
    """A batch changed in the vault: refused, nothing is written."""
    shutil.copytree(sample_vault(), tmp_path / "vault")
    batch = sorted((tmp_path / "vault" / "batches").rglob("*.parquet"))[12]
    batch.chmod(0o644)
    data = bytearray(batch.read_bytes())
    data[len(data) // 2] ^= 1
    batch.write_bytes(data)
    with pytest.raises(AuditlibError):
        build_packet("role-grants", str(tmp_path / "vault"), {}, tmp_path / "packet", keys=SAMPLE_KEY)
    assert not (tmp_path / "packet").exists()
    with pytest.raises(AuditlibError):
        evil = simulator.EVIL_KEY.verifier
        build_packet("role-grants", str(sample_vault()), {}, tmp_path / "packet", keys=evil)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["vault"]


def test_a_notebook_that_is_none_is_named(tmp_path: Path) -> None:
    """Not JSON, no notebook, no such request."""
    bad = tmp_path / "bad.ipynb"
    for text in ("", "{}", "[]", '{"cells": 3}', "\x00"):
        bad.write_text(text)
        with pytest.raises(AuditlibError):
            build_packet(str(bad), str(sample_vault()), {"since": "x"}, tmp_path / "packet", keys=SAMPLE_KEY)
    with pytest.raises(MalformedError, match="Did you mean 'role-grants'"):
        build_packet("role-grant", str(sample_vault()), {}, tmp_path / "packet", keys=SAMPLE_KEY)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.ipynb"]


def test_a_folder_reads_back_as_it_was_written(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """write_bag and reading are inverse."""
    assert read_folder(write(files, tmp_path / "packet")) == dict(files)
