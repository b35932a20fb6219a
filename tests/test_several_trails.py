"""One packet over several trails: each item's trail is a checked fact, and what was true of one trail stays true."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import several
import simulator
from lists import attachment
from packets import Packet, event, fired, read_folder
from several import AUDIT, CLOUD, KEYS, PERIOD, SEALERS, both, opened, packed
from test_report_browser import CHROMIUM, Browser, browser, page_of
from test_report_check import ran
from test_standalone_verifier import faulty
from typer.testing import CliRunner

from auditlib import evidence
from auditlib.attachments import Attached
from auditlib.cli import app
from auditlib.dashboard.exceptions import _of
from auditlib.errors import MalformedError, MismatchError
from auditlib.evidence.scope import parse_scope
from auditlib.formats.catalog import extend_catalog
from auditlib.formats.checkpoint import sign_checkpoint
from auditlib.formats.keys import SigningKey
from auditlib.formats.layout import checkpoint_key
from auditlib.packet.bag import write_bag
from auditlib.packet.build import Asked, _pack
from auditlib.packet.check import check_packet
from auditlib.packet.diff import compare_tables
from auditlib.packet.notebook import Executed
from auditlib.packet.redaction import Cut
from auditlib.packet.reproduce import reproduce_packet
from auditlib.packet.vaults import Vault
from auditlib.requests.model import parse_requests
from auditlib.requests.standing import standings
from auditlib.trail import open as open_trail

__all__ = ["browser"]  # a fixture
GRANTS, EXCEPTIONS = "data/tables/grants.csv", "data/tables/exceptions.csv"
PROOFS = ("checkpoint", "inclusion.jsonl", "seals-proof.json", "seals.jsonl")
Change = Callable[[Packet], Any]


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))


def table(name: str, change: Callable[[list[dict[str, str]]], Any]) -> Change:
    """Change the rows of a table."""

    def changed(data: bytes) -> bytes:
        there = rows(data)
        change(there)
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, there[0].keys(), lineterminator="\r\n")
        writer.writeheader()
        writer.writerows(there)
        return stream.getvalue().encode("utf-8-sig")

    return lambda packet: packet.edit(name, changed)


def claimed(event_id: str, trail: str, other: str, *names: str) -> Change:
    """What one trail holds is said to be the other's, in every table that speaks of it."""

    def change(there: list[dict[str, str]]) -> None:
        for row in there:
            if (row["event_id"], row["trail"]) == (event_id, trail):
                row["trail"] = other

    return lambda packet: [table(name, change)(packet) for name in names]


def swapped(*names: str) -> Change:
    """Files of the two trails' proofs in each other's place."""

    def change(packet: Packet) -> None:
        for name in names:
            ours, theirs = f"data/proof/{AUDIT}/{name}", f"data/proof/{CLOUD}/{name}"
            packet.files[ours], packet.files[theirs] = packet.files[theirs], packet.files[ours]

    return change


def left_out(*, files: bool) -> Change:
    """The cloud's checkpoint is not named; with `files`, its proof is gone as well, and its seals are not named."""

    def change(packet: Packet) -> None:
        seals = packet.files[f"data/proof/{AUDIT}/seals.jsonl"].count(b"\n")
        packet.json("data/packet.json", lambda told: told | {"checkpoints": told["checkpoints"][:1]})
        if files:
            packet.json("data/packet.json", lambda told: told | {"seals": told["seals"][:seals]})
            for name in PROOFS:
                del packet.files[f"data/proof/{CLOUD}/{name}"]

    return change


def without_column(there: list[dict[str, str]]) -> None:
    for row in there:
        del row["trail"]


def one_trail(packet: Packet) -> None:
    """Everything of the cloud is left out, but the rows of its grants are said to be the other's."""
    left_out(files=True)(packet)
    records = packet.files["data/events.jsonl"].splitlines(keepends=True)
    proofs = packet.files[f"data/proof/{AUDIT}/inclusion.jsonl"].splitlines()
    kept = sum(len(json.loads(line)["lines"]) for line in proofs)
    packet.files["data/events.jsonl"] = b"".join(records[:kept])
    packet.json("data/packet.json", lambda told: told | {"records": kept})
    for name in (GRANTS, EXCEPTIONS):
        table(name, lambda there: [row.update(trail=AUDIT) for row in there])(packet)


def told(**more: Any) -> Change:
    return lambda packet: packet.json("data/packet.json", lambda found: found["population"].update(more))


ATTACKS: dict[str, tuple[Change, set[int]]] = {
    "the proofs of the two trails swapped": (swapped(*PROOFS), {3, 4}),
    "the seals of the two trails swapped": (swapped("seals.jsonl", "seals-proof.json"), {4, 5}),
    "which records are whose swapped": (swapped("inclusion.jsonl"), {5}),
    "a record of one claimed under the other": (claimed("g-3", AUDIT, CLOUD, GRANTS, EXCEPTIONS), {6}),
    "a record whose id both have claimed under the other": (claimed("g-2", AUDIT, CLOUD, GRANTS, EXCEPTIONS), {6}),
    "a record that both have alike claimed twice of one": (claimed("g-0", AUDIT, CLOUD, GRANTS, EXCEPTIONS), {6}),
    "a row's trail changed in one table": (claimed("g-3", AUDIT, CLOUD, EXCEPTIONS), {6}),
    "a trail that the packet does not have": (claimed("g-3", AUDIT, "acme.example/other", GRANTS, EXCEPTIONS), {6}),
    "no trail": (claimed("g-3", AUDIT, "", GRANTS, EXCEPTIONS), {6}),
    "a table without the column": (table("data/tables/approvals.csv", without_column), {6}),
    "one checkpoint left out": (left_out(files=False), {3, 4, 5}),
    "one checkpoint left out with its proof": (left_out(files=True), {5}),
    "one trail left out, its items kept as the other's": (one_trail, {6}),
    "events of one id counted once over both trails": (told(events=4), {6}),
}


def forged(fault: str) -> Packet:
    """The packet after the attack, every hash put right that anyone can put right."""
    packet = Packet(both()[1])
    ATTACKS[fault][0](packet)
    return packet.fix()


@pytest.mark.parametrize("fault", ATTACKS)
def test_no_item_passes_as_another_trails(fault: str) -> None:
    """Both verifiers name the same checks, whatever the tables and proofs say of whose a record is."""
    packet = forged(fault)
    assert fired(packet.check(KEYS)) == faulty(packet.files, KEYS) == ATTACKS[fault][1]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian package `chromium`)")
def test_the_page_finds_the_same(browser: Browser, tmp_path: Path) -> None:
    """report.html itself, in a browser, over the untouched packet and after every attack."""
    files = both()[1]
    browser.open(page_of(files["data/report.html"], tmp_path))
    found = ran(browser, files, [files, *(forged(fault).files for fault in ATTACKS)], KEYS)
    assert [set(one) for one in found] == [set(), *(checks for _, checks in ATTACKS.values())]


def test_the_packet_is_sound_and_names_each_items_trail() -> None:
    """No finding with both keys; with one of them the other trail's checkpoint is by nobody that is trusted."""
    packet = Packet(both()[1])
    assert packet.check(KEYS).findings == () and faulty(packet.files, KEYS) == set()
    assert fired(packet.check(KEYS[:1])) == faulty(packet.files, KEYS[:1])
    assert 3 in fired(packet.check(KEYS[:1]))
    stated = json.loads(packet.files["data/packet.json"])
    assert [one["origin"] for one in stated["checkpoints"]] == stated["scope"]["origins"] == [AUDIT, CLOUD]
    assert stated["population"]["items"] == stated["population"]["events"] == 7
    named = [(row["trail"], row["item"], row["verdict"]) for row in rows(packet.files[GRANTS])]
    assert [pair[:2] for pair in named] == [
        *((AUDIT, item) for item in ("g-0", "g-1", "g-2", "g-3")),
        *((CLOUD, item) for item in ("g-0", "g-1", "g-2")),
    ]
    assert next(verdict for _, item, verdict in named if item == "g-1") == "pass"  # approved in its own trail
    book = openpyxl.load_workbook(io.BytesIO(packet.files["data/evidence.xlsx"]), read_only=True)
    noted = list(book["Potential exceptions"].iter_rows(values_only=True))
    assert noted[0][:2] == ("No.", "Trail") and [row[0] for row in noted[1:]] == [1, 3, 4, 5, 6, 7]
    assert "at" not in stated["parameters"] and stated["scope"]["every_seal_of_period"]
    assert stated["headline"].startswith("7 grants, 6 potential exceptions over 2 trails.")
    for name, data in packet.files.items():
        if name.endswith((".html", ".json", ".ipynb", ".toml", ".csv")):
            assert b"auditlib-several-" not in data, name  # no place of a vault


def test_it_is_made_again_whatever_the_order_of_the_vaults(tmp_path: Path) -> None:
    """Byte for byte, each trail at its own checkpoint; not from one vault alone, nor from another trail's."""
    vaults, files = both()
    first = tmp_path / "first"
    write_bag(files, first)
    for order in (vaults, vaults[::-1]):
        with opened(order) as found:
            assert [trail.origin for trail in found.trails] == [AUDIT, CLOUD]
    reproduced = reproduce_packet(first, vaults[::-1])
    assert reproduced.ok, reproduced.headline()
    with pytest.raises(MalformedError, match="is over 2 trail"):
        reproduce_packet(first, vaults[0].place, keys=KEYS)
    with pytest.raises(MismatchError, match="none of the vaults holds a trail of the packet"):
        reproduce_packet(first, (vaults[0], vaults[0]._replace(keys=KEYS)))


# --- what a packet over several trails can and cannot be ---------------------------------------------------------


def test_lists_fields_left_out_and_systems_in_scope_go_in(tmp_path: Path) -> None:
    """A response to no trail's item is counted once, a field is left out of every trail, a system is as well covered
    as in the trail that covers it best; and the packet is made again from all of it, after one trail has grown."""
    vaults = several.vaults_in(tmp_path)
    said = [(item, "cause", "none", "fix", "Ada", "2026-04-02") for item in ("g-3", "g-9")]
    columns = ("item", "cause", "compensating_evidence", "remediation", "owner", "date")
    attached = Attached((attachment("responses", columns, said),), {"ticket.pdf": b"%PDF"})
    scope = parse_scope(
        b'format = "auditlib/scope/v1"\n'
        b'[[systems]]\nname = "console"\nowner = "Ada"\nsources = ["admin-console"]\nkinds = ["grant"]\n'
        b'[[systems]]\nname = "payroll"\nowner = "Ada"\nsources = ["payroll"]\n'
    )
    out = tmp_path / "packet"
    packed(vaults, out, attached=attached, redact=["context.ip"], scope=scope)
    report = check_packet(out, KEYS)
    stated = report.packet
    assert report.findings == () and report.redacted == len(stated["redacted"]["lines"]) == 2
    assert faulty(read_folder(out), KEYS) == set()
    strange = [said for said in stated["conclusion"] if "name no item" in said]
    assert strange == ["1 response of the attached list name no item of this answer."]
    assert [(row["trail"], row["item"]) for row in rows((out / "data/tables/responses.csv").read_bytes())] == [
        (AUDIT, "g-3")
    ]
    systems = rows((out / "data/tables/systems.csv").read_bytes())
    assert [(row["system"], row["state"], row["trails"]) for row in systems] == [
        *[("console", "partly covered", f"{AUDIT}, {CLOUD}"), ("payroll", "uncovered", "")]
    ]
    assert any(f"console: partly covered in 2026-03 (by {AUDIT}, {CLOUD})" in said for said in stated["systems"])
    assert any(said.startswith("Each trail was asked by itself") for said in stated["limits"])
    several.seal_more(tmp_path / "cloud", CLOUD, [[event("g-9", at="2026-03-20T10:00:00Z", target="u_9")]])
    assert reproduce_packet(out, vaults).ok


def test_a_row_that_differs_is_named_with_its_trail() -> None:
    """Of two rows of one id, from one source, the one that was changed."""
    packet = Packet(both()[1])
    before = packet.files[GRANTS]
    table(GRANTS, lambda there: there[4].update(verdict="pass"))(packet)
    found = compare_tables(GRANTS, before, packet.files[GRANTS])
    assert (found.added, found.removed, found.changed) == (0, 0, 1)
    assert (found.rows[0].key["trail"], found.rows[0].key["item"]) == (CLOUD, "g-0")


def test_a_catalogue_that_one_trail_alone_has_answers_for_that_one(tmp_path: Path) -> None:
    """No one catalogue answered, so none is named as if it had; both are in the packet."""
    own = extend_catalog(simulator.CATALOG, b'[actions."role.lend"]\nkind = "grant"\nprivileged = true\n')
    vaults = [
        Vault(str(several.sealed(tmp_path / name, origin, several.GRANTS[origin], catalog)), SEALERS[origin].verifier)
        for name, origin, catalog in (("a", AUDIT, simulator.CATALOG), ("c", CLOUD, own))
    ]
    with opened(vaults) as found:
        folder = tmp_path / "scratch"
        answer = evidence.role_grants(found, **PERIOD)
        answer.answer().write(folder)
        _pack(found, Executed("role-grants", "0" * 64, b"{}\n"), {}, Cut(()), folder, tmp_path / "packet", Asked({}))
    report = check_packet(tmp_path / "packet", KEYS)
    assert report.findings == ()
    assert report.packet["catalogs"] == {
        "answered": None,
        "in_force": sorted([simulator.CATALOG.sha256, own.sha256]),
    }


def test_what_cannot_be_one_packet_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    """One trail under two names, one size for several, a key for some, and an answer of one trail for several."""
    vaults, out = both()[0], tmp_path / "packet"
    for given, more, sentence in (
        ([vaults[0], vaults[0]], {}, "two of the vaults hold one trail"),
        (vaults, {"given": PERIOD | {"at": "2"}}, "a checkpoint's size says nothing of several trails"),
        ([vaults[0], vaults[1]._replace(keys=None)], {}, "some of the trails have a verifier key"),
    ):
        with pytest.raises(MalformedError, match=sentence):
            packed(given, out, **more)
    with opened(vaults) as found, pytest.raises(MismatchError, match="of other trails than those it was asked of"):
        evidence.role_grants(found.trails[0], **PERIOD).answer().write(tmp_path / "scratch")
        _pack(found, Executed("x", "0" * 64, b"{}\n"), {}, Cut(()), tmp_path / "scratch", out, Asked({}))
    with pytest.raises(MismatchError, match="signed by a key that the trail document then in force does not name"):
        opened([vaults[0], impostor(tmp_path)])
    assert not out.exists()


def test_trails_whose_proofs_would_lie_in_one_another_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One whose name goes on where another's files lie, and one that differs in capitals alone."""
    for number, origin in enumerate((f"{AUDIT}/checkpoint", AUDIT.upper())):
        folder, key = tmp_path / str(number), SigningKey(origin, bytes(32))
        monkeypatch.setitem(SEALERS, origin, key)
        other = Vault(str(several.sealed(folder, origin, several.GRANTS[CLOUD])), key.verifier)
        with opened([both()[0][1], other]) as found:
            evidence.role_grants(found, **PERIOD).answer().write(folder / "scratch")
            with pytest.raises(MalformedError, match="cannot lie beside one another"):
                _pack(found, Executed("x", "0" * 64, b""), {}, Cut(()), folder / "scratch", folder / "out", Asked({}))
        assert not (folder / "out").exists()


def impostor(folder: Path) -> Vault:
    """The audit trail under a checkpoint that the cloud's key alone signed, opened with the keys of both."""
    vault = several.sealed(folder / "impostor", AUDIT, several.GRANTS[AUDIT])
    with open_trail(vault, keys=KEYS) as trail:
        size, root = trail.checkpoint.size, trail.checkpoint.root
    note = sign_checkpoint(AUDIT, size, root, [SEALERS[CLOUD]])
    simulator.Tamper(vault).write(checkpoint_key(size), note)
    return Vault(str(vault), KEYS)


def test_verification_takes_the_checkpoint_that_is_its_trails(tmp_path: Path) -> None:
    """`verify --against` a packet over two trails holds each vault against its own; delivery into one is refused."""
    vaults, files = both()
    out = tmp_path / "packet.zip"
    write_bag(files, out)
    for vault in vaults:
        ran_ = CliRunner().invoke(app, ["verify", vault.place, "--key", str(vault.keys), "--against", str(out)])
        assert ran_.exit_code == 0, ran_.output
    other = several.sealed(tmp_path / "third", several.OTHER, several.GRANTS[AUDIT])
    key = str(SEALERS[several.OTHER].verifier)
    ran_ = CliRunner().invoke(app, ["verify", str(other), "--key", key, "--against", str(out)])
    assert ran_.exit_code or ran_.exception


def test_the_dashboard_takes_no_packet_over_others_for_an_answer(tmp_path: Path) -> None:
    """Of a vault that is looked at alone: the packet is there, and shows what the engagement may not be for."""
    write_bag(both()[1], tmp_path / "A-1")
    named = "".join(f'[trails.{name}]\nvault = "{name}"\n' for name in ("a", "b"))
    listed = parse_requests(
        'format = "auditlib/requests/v1"\n[[requests]]\nid = "A-1"\nquestion = "?"\ncontrol = { id = "C" }\n'
        f'notebook = "role-grants"\ntrails = ["a", "b"]\n{named}'.encode(),
        tmp_path,
    )
    (one,) = standings(listed, tmp_path, {None: (AUDIT, 2), "a": (AUDIT, 2)})
    assert one.packet is not None and one.since is None
    assert not _of(one, AUDIT)
    (both_asked,) = standings(listed, tmp_path, {"a": (AUDIT, 3), "b": (CLOUD, 2)})
    assert both_asked.words() == "built at checkpoints 2 and 2 (of now 3 and 2; 1 seal since)"
