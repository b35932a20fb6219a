"""One packet over several trails: each item's trail is a checked fact, and what was true of one trail stays true."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packets import Packet, fired
from several import AUDIT, CLOUD, KEYS, both, packed
from test_report_browser import CHROMIUM, Browser, browser, page_of
from test_report_check import ran
from test_standalone_verifier import faulty

from auditlib.errors import MalformedError, MismatchError
from auditlib.packet.diff import diff_packets
from auditlib.packet.reproduce import reproduce_packet

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
    assert "at" not in stated["parameters"] and stated["scope"]["every_seal_of_period"]
    assert stated["headline"].startswith("7 grants, 6 potential exceptions over 2 trails.")
    for name, data in packet.files.items():
        if name.endswith((".html", ".json", ".ipynb", ".toml", ".csv")):
            assert b"auditlib-several-" not in data, name  # no place of a vault


def test_it_is_the_same_whatever_the_order_of_the_vaults(tmp_path: Path) -> None:
    """Made again, from vaults named the other way round, and made at the same checkpoints after more was sealed."""
    vaults, files = both()
    first, again = tmp_path / "first", tmp_path / "again"
    for name, data in files.items():
        (first / name).parent.mkdir(parents=True, exist_ok=True)
        (first / name).write_bytes(data)
    packed(vaults[::-1], again)
    comparison = diff_packets(first, again, KEYS)
    assert comparison.ok and comparison.identical
    reproduced = reproduce_packet(first, vaults)
    assert reproduced.ok, reproduced.headline()
    with pytest.raises(MalformedError, match="is over 2 trail"):
        reproduce_packet(first, vaults[0].place, keys=KEYS)
    with pytest.raises(MismatchError, match="none of the vaults holds a trail of the packet"):
        reproduce_packet(first, (vaults[0], vaults[0]._replace(keys=KEYS)))
