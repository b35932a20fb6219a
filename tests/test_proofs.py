"""Proofs: any rows of any trail lead to its checkpoint, no other does, and nothing more is disclosed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
import simulator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlib.errors import AuditlibError, MismatchError
from auditlib.formats import merkle
from auditlib.formats.batch import encode_batch, parse_batch
from auditlib.formats.canonical import canonical
from auditlib.formats.columns import record_texts, row_blinds, table_of
from auditlib.formats.seal import seal_bytes
from auditlib.packet.proofs import check_inclusion, check_seals
from auditlib.packet.prove import Proof, build_proof, proof_hashes
from auditlib.trail import Trail
from auditlib.trail import open as open_trail

SIZES = (1, 2, 3, 7, 300, 256, 257, 12)  # records of each batch: across the 256-leaf subtrees, and not


@pytest.fixture(scope="module")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trail]:
    folder = tmp_path_factory.mktemp("trail")
    made = simulator.Trail(folder).create()
    made.clock = simulator.Clock(simulator.START + 4 * simulator.DAY)
    first = 0
    with made.sealer() as sealer:
        for size in SIZES:
            sealer.add(simulator.records(size, first))
            sealer.flush()
            first += size
    with open_trail(folder / "vault", keys=simulator.KEY.verifier) as opened:
        yield opened


def check(proof: Proof, size: int, root: bytes) -> set[tuple[int, int]]:
    """Everything the packet checks of a proof: the (sequence, row) that are proven."""
    seals = check_seals(proof.files["seals.jsonl"], proof.files["seals-proof.json"], size, root)
    shown: set[tuple[int, int]] = set()
    for line in proof.files["inclusion.jsonl"].splitlines():
        found = check_inclusion(line, seals, proof.records)
        shown |= {(found.sequence, row) for row in found.leaf_indexes}
    return shown


ALL = [(sequence, row) for sequence, size in enumerate(SIZES) for row in range(size)]
row_sets = st.one_of(
    st.sets(st.sampled_from(ALL), max_size=12),
    st.sets(st.sampled_from(ALL), min_size=60, max_size=200),
    st.sampled_from(
        [set(ALL), {ALL[0]}, {ALL[-1]}, {(4, row) for row in range(300)}, {(6, 256)}, {(6, 255), (6, 256)}]
    ),
)
periods = st.one_of(
    st.just((None, None)),
    st.tuples(*2 * [st.integers(simulator.START - simulator.DAY, simulator.START + 3 * simulator.DAY)]).map(sorted),
)
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(rows=row_sets, period=periods)
def test_any_rows_verify_and_are_the_records_asked_for(trail: Trail, rows: set[tuple[int, int]], period: Any) -> None:
    """Any subset of rows, in any order, under any period; each batch's line is one proof of the RFC's tree."""
    proof = build_proof(trail, sorted(rows, reverse=True), *period)
    assert check(proof, len(SIZES), trail.checkpoint.root) == rows
    expected = [text for sequence, row in sorted(rows) for text in _texts(trail, sequence)[row : row + 1]]
    assert proof.records == expected


@quick
@given(rows=row_sets.filter(bool))
def test_a_proof_is_small(trail: Trail, rows: set[tuple[int, int]]) -> None:
    """At most k * log2(n) + 1 hashes for k of n rows, and none for a whole batch."""
    proof = build_proof(trail, rows, None, None)
    for line in map(json.loads, proof.files["inclusion.jsonl"].splitlines()):
        k, n = len(line["leaf_indexes"]), line["tree_size"]
        assert len(line["hashes"]) <= k * max(0, math.ceil(math.log2(n)))
        assert (len(line["hashes"]) == 0) == (k == n)


@quick
@given(rows=row_sets)
def test_blinds_of_rows_not_shown_are_nowhere(trail: Trail, rows: set[tuple[int, int]]) -> None:
    """Neither the 32 bytes of a batch nor any row's blind but those of rows shown; nor a leaf's hash with a blind."""
    proof = build_proof(trail, rows, None, None)
    text = b"\n".join([*proof.files.values(), *proof.records])
    hexes = {text[at : at + 32] for at in range(len(text) - 31)}
    for sequence, seal in enumerate(trail.seals):
        batch = parse_batch(trail.files.read(seal))
        assert batch.blind.hex().encode() not in text
        blinds = row_blinds(batch.blind, seal.batch.events)
        for row in range(seal.batch.events):
            there = blinds[16 * row : 16 * row + 16].hex().encode() in hexes
            assert there == ((sequence, row) in rows)


@quick
@given(rows=row_sets.filter(bool), data=st.data())
def test_any_single_change_fails(trail: Trail, rows: set[tuple[int, int]], data: st.DataObject) -> None:
    """A byte of a record, of a proof line, of a seal, of the seals' proof; a record, hash, blind, index or line out."""
    proof = build_proof(trail, rows, None, None)
    root = trail.checkpoint.root
    part = data.draw(st.sampled_from(["record", "inclusion.jsonl", "seals.jsonl", "seals-proof.json", "structure"]))
    if part == "record":
        at = data.draw(st.integers(0, len(proof.records) - 1))
        proof.records[at] = _flip(proof.records[at], data)
    elif part == "structure":
        lines = proof.files["inclusion.jsonl"].splitlines()
        at = data.draw(st.integers(0, len(lines) - 1))
        line = json.loads(lines[at])
        field = data.draw(st.sampled_from(["blinds", "hashes", "leaf_indexes", "lines"]))
        if not line[field]:
            return
        place = data.draw(st.integers(0, len(line[field]) - 1))
        how = data.draw(st.sampled_from(["out", "twice", "swap"]))
        if how == "swap" and len(line[field]) < 2:
            return
        if how == "out":
            del line[field][place]
        elif how == "twice":
            line[field].insert(place, line[field][place])
        else:
            line[field][place], line[field][place - 1] = line[field][place - 1], line[field][place]
        proof.files["inclusion.jsonl"] = b"".join(
            (canonical(line) if n == at else other) + b"\n" for n, other in enumerate(lines)
        )
    else:
        proof.files[part] = _flip(proof.files[part], data)
    with pytest.raises(AuditlibError):
        if check(proof, len(SIZES), root) != rows:
            raise AuditlibError("other rows are proven than those asked for")


def test_a_proof_holds_under_its_own_checkpoint_alone(trail: Trail) -> None:
    """Another root, another size, an empty tree."""
    proof = build_proof(trail, [(4, 7)], None, None)
    for size, root in ((len(SIZES), bytes(32)), (len(SIZES) - 1, trail.checkpoint.root), (0, merkle.EMPTY_ROOT)):
        with pytest.raises(AuditlibError):
            check(proof, size, root)


@pytest.mark.parametrize("place", [(-1, 0), (len(SIZES), 0), (10**12, 0), (4, -1), (4, SIZES[4])])
def test_a_record_that_is_not_in_the_trail_is_not_proven(trail: Trail, place: tuple[int, int]) -> None:
    """A notebook, or a cluster's worker that told it so, may name any place."""
    with pytest.raises(MismatchError, match="not in the trail"):
        build_proof(trail, [(4, 0), place], None, None)


def test_an_empty_answer_still_leads_to_the_checkpoint(trail: Trail) -> None:
    """No rows and a period without seals: the last seal stands for the checkpoint."""
    proof = build_proof(trail, [], 0, 1)
    assert proof.records == [] and proof.files["inclusion.jsonl"] == b""
    assert [seal.sequence for seal in proof.seals] == [len(SIZES) - 1]
    assert check(proof, len(SIZES), trail.checkpoint.root) == set()


def test_the_period_brings_every_seal_that_touches_it(trail: Trail) -> None:
    """Its ends included and excluded, and those used besides."""
    seals = trail.seals
    low = simulator.parse_time(seals[4].occurred[0])
    high = simulator.parse_time(seals[4].occurred[1])
    assert [seal.sequence for seal in build_proof(trail, [], low, high).seals] == [4]
    assert [seal.sequence for seal in build_proof(trail, [(0, 0)], low, high).seals] == [0, 4]
    assert 5 in [seal.sequence for seal in build_proof(trail, [], high, None).seals]
    assert [seal.sequence for seal in build_proof(trail, [], high + 1, high + 2).seals] == [len(SIZES) - 1]


def test_past_two_thousand_seals_only_those_used(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packet then says that completeness needs the vault."""
    monkeypatch.setattr("auditlib.packet.prove.MAX_PERIOD_SEALS", 3)
    proof = build_proof(trail, [(2, 1), (6, 256)], None, None)
    assert not proof.every_seal_of_period
    assert [seal.sequence for seal in proof.seals] == [2, 6]
    assert check(proof, len(SIZES), trail.checkpoint.root) == {(2, 1), (6, 256)}


def test_a_seal_of_another_place_is_found(trail: Trail) -> None:
    """The tree proves bytes at a place; the seal must state that place."""
    data = seal_bytes(trail.seals[3])
    leaf = merkle.leaf_hash(data)
    proof = canonical({"hashes": [], "leaf_indexes": [0], "tree_size": 1})
    with pytest.raises(AuditlibError, match="another number"):
        check_seals(data + b"\n", proof, 1, leaf)


@cache
def _texts(trail: Trail, sequence: int) -> list[bytes]:
    texts: list[bytes] = record_texts(parse_batch(trail.files.read(trail.seals[sequence])).table).to_pylist()
    return texts


def _flip(data: bytes, draw: st.DataObject) -> bytes:
    at = draw.draw(st.integers(0, len(data) - 1))
    return data[:at] + bytes([data[at] ^ 1 << draw.draw(st.integers(0, 7))]) + data[at + 1 :]


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 300, 511, 513, 769])
def test_the_hashes_of_a_proof_are_those_of_the_tree_with_holes(size: int) -> None:
    """Block by block in one pass gives what the recursion over all leaves gives."""
    encoded = encode_batch(table_of(simulator.records(size, 0)), 0, bytes(range(32)))
    batch = parse_batch(encoded.data)
    leaves = batch.leaves()
    some = [[0], [size - 1], sorted({0, size // 2, size - 1}), list(range(size)), list(range(size // 2, size))]
    for rows in [*some, list(range(0, size, 7))]:
        assert proof_hashes(batch, rows, encoded.batch.root) == merkle.holes(leaves, rows)


def test_stored_subtree_hashes_are_not_believed() -> None:
    """Those that do not lead to the seal's root are refused, and so are those of other rows than theirs."""
    encoded = encode_batch(table_of(simulator.records(600, 0)), 0, bytes(range(32)))
    batch = parse_batch(encoded.data)
    lied = msgspec.structs.replace(batch, nodes=(batch.nodes[0], bytes(32), batch.nodes[2]))
    with pytest.raises(MismatchError, match="do not lead to the seal's root"):
        proof_hashes(lied, [0], encoded.batch.root)
    with pytest.raises(MismatchError, match="from 256 on is not theirs"):
        proof_hashes(lied, [0, 300], merkle.root(lied.nodes).hex())
