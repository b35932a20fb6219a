"""Fields left out of a packet: what is gone cannot be guessed back, and what can still be checked is said."""

import hashlib
import json
import re
import runpy

import msgspec
import pytest
from packets import Packet, read_folder
from simulator import KEY, Trail, record

from auditlib.errors import MalformedError
from auditlib.formats import merkle
from auditlib.formats.canonical import canonical
from auditlib.formats.event import record_bytes
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet

GIVEN = {"since": "2026-03-01", "until": "2026-06-01"}
ADDRESS = "203.0.113.{}"


def grant(number):
    return record(
        number,
        action="role.grant",
        outcome="success",
        context={
            "granted_role": "admin",
            "ip": ADDRESS.format(number % 200),
            "nested": {"mail": f"x{number}@example.org"},
            "told": [{"mail": f"y{number}@example.org", "how": "post"}, 7, [{"mail": []}, {"how": "call"}]],
        },
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("redaction")
    trail = Trail(folder).create()
    with trail.sealer() as sealer:
        sealer.add([grant(number) for number in range(40)])
        sealer.flush()
    return folder


@pytest.fixture(scope="module")
def packed(place):
    def build(name, *fields):
        out = place / name
        if not out.exists():
            build_packet("role-grants", str(place / "vault"), GIVEN, out, keys=KEY.verifier, redact=fields)
        return out

    return build


def proof_of(files):
    (name,) = (name for name in files if name.endswith("inclusion.jsonl"))
    return json.loads(files[name])


def windows(files):
    """Every 16 bytes that stand anywhere in the packet, as bytes or as hex digits."""
    found = set()
    for data in files.values():
        found.update(data[start : start + 16] for start in range(len(data) - 15))
        for run in re.findall(rb"[0-9a-f]{32,}", data):
            found.update(bytes.fromhex(run[start : start + 32].decode()) for start in range(len(run) - 31))
    return found


def confirmed(files, true):
    """The records that somebody can confirm who already holds them whole and knows every byte of the packet."""
    blinds = windows(files)
    proof = proof_of(files)
    leaves = (
        {bytes.fromhex(blind) for blind in proof["blinds"] if len(blind) == 64}
        | {
            merkle.leaf_hash(bytes.fromhex(blind) + line)
            for blind, line in zip(proof["blinds"], files["data/events.jsonl"].splitlines(), strict=True)
            if len(blind) == 32
        }
        | {bytes.fromhex(node) for node in proof["hashes"]}
    )
    return [
        number
        for number, text in enumerate(true)
        if any(hashlib.sha256(b"\x00" + blind + text).digest() in leaves for blind in blinds)
        or hashlib.sha256(b"\x00" + text).digest() in leaves
    ]


def test_an_address_left_out_cannot_be_guessed_from_any_byte_of_the_packet(packed):
    """Not even whoever guesses right can confirm it: the blind is not here. With the blinds here, he can."""
    true = [record_bytes(grant(number)) for number in range(3)]
    whole, cut = read_folder(packed("whole")), read_folder(packed("cut", "context.ip"))
    assert confirmed(whole, true) == [0, 1, 2]
    assert confirmed(cut, true) == []
    for name, data in cut.items():
        assert b"203.0.113." not in data, name


def test_both_verifiers_pass_it_and_say_what_is_not_proven(packed, capsys):
    """Every place is proven, no content of a cut record is; the rest is checked as ever."""
    path = packed("cut", "context.ip")
    report = check_packet(path, [KEY.verifier])
    assert report.ok and (report.records, report.redacted) == (40, 40)
    (said,) = [text for text in report.unchecked if "lack fields" in text]
    assert said.startswith("40 of 40 records lack fields that were left out")
    packet = json.loads((path / "data" / "packet.json").read_text())
    assert packet["redacted"] == {"fields": ["context.ip"], "lines": list(range(40))}
    verifier = runpy.run_path(str(path / "data" / "verify.py"))
    assert verifier["main"]([str(path), "--key", str(KEY.verifier)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith("The contents of 40 records are NOT proven: fields were left out of them.")


def test_nested_fields_and_sessions_can_be_left_out_together(packed):
    """Each record lacks what it had of them, in every element of a list too."""
    files = read_folder(packed("both", "context.nested.mail", "context.told.mail", "actor.session"))
    for line in files["data/events.jsonl"].splitlines():
        event = json.loads(line)["event"]
        assert event["actor"]["session"] is None and event["context"]["nested"] == {}
        assert event["context"]["told"] == [{"how": "post"}, 7, [{}, {"how": "call"}]]
    assert b"example.org" not in files["data/events.jsonl"]


@pytest.mark.parametrize(
    "field", ["context.granted_role", "context", "actor.id", "event_id", "context..x", "context.request_id.x"]
)
def test_what_an_answer_rests_on_cannot_be_left_out(place, field):
    """Nothing is written."""
    out = place / "refused"
    with pytest.raises(MalformedError):
        build_packet("role-grants", str(place / "vault"), GIVEN, out, keys=KEY.verifier, redact=[field])
    assert not out.exists()


def test_a_value_that_stands_elsewhere_stops_the_packet(tmp_path):
    """The address is the actor's id as well: leaving out one of the two would leave it in."""
    trail = Trail(tmp_path).create()
    replace, grants = msgspec.structs.replace, grant(1)
    event = replace(grants.event, target=replace(grants.event.target, id="203.0.113.1"))
    with trail.sealer() as sealer:
        sealer.add([replace(grants, event=event)])
        sealer.flush()
    with pytest.raises(MalformedError, match=r"a value of context.ip stands in .* all the same"):
        build_packet("role-grants", trail.vault.url, GIVEN, tmp_path / "p", keys=KEY.verifier, redact=["context.ip"])
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("cheat", ["hide", "undeclared", "put back", "put back into a list", "an empty one put back"])
def test_redaction_hides_no_forgery(packed, cheat):
    """A record marked as cut that is not declared so, one less declared, a field put back: both verifiers see it."""
    packet = Packet(read_folder(packed("lists", "context.ip", "context.told.mail")))
    if cheat == "hide":
        packet.json("data/packet.json", lambda found: {**found, "redacted": None})
    elif cheat == "undeclared":
        packet.json("data/packet.json", lambda found: {**found, "redacted": {**found["redacted"], "lines": [0]}})
    else:
        lines = packet.files["data/events.jsonl"].splitlines()
        first = json.loads(lines[0])
        context = first["event"]["context"]
        if cheat == "put back":
            context["ip"] = "198.51.100.1"
        else:
            context["told"][2][1]["mail"] = "z@example.org" if "into" in cheat else []
        packet.files["data/events.jsonl"] = b"".join(line + b"\n" for line in [canonical(first), *lines[1:]])
    report = packet.fix().check((KEY.verifier,))
    assert not report.ok and {finding.check for finding in report.findings} == {5}
