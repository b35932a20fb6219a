"""Merkle trees against a slow transcription of RFC 6962 (tests/reference.py)."""

from __future__ import annotations

import random

import pytest
import reference

from auditlib.errors import MismatchError
from auditlib.formats import merkle

SIZES = [*range(71), 127, 128, 129, 255, 256, 257, 511, 512, 513, 600]


def entries(size: int) -> list[bytes]:
    return [f"entry {index}".encode() for index in range(size)]


def leaves(size: int) -> list[bytes]:
    return [merkle.leaf_hash(entry) for entry in entries(size)]


def flip(path: list[bytes], at: int) -> list[bytes]:
    return [*path[:at], bytes([path[at][0] ^ 1]) + path[at][1:], *path[at + 1 :]]


@pytest.mark.parametrize("size", SIZES)
def test_the_root_is_the_one_of_rfc_6962(size: int) -> None:
    """root, Frontier and aligned subtrees all give MTH(D[n])."""
    mine, expected = leaves(size), reference.mth(entries(size))
    assert merkle.root(mine) == expected
    grown = merkle.Frontier()
    for leaf in mine:
        grown.append(leaf)
    assert (grown.size, grown.root()) == (size, expected)
    for width in (1, 2, 16, 256):
        assert merkle.root(merkle.aligned_roots(mine, width)) == expected


def test_known_answers_of_the_certificate_transparency_test_vectors() -> None:
    """The roots that every RFC 6962 implementation publishes (certificate-transparency-go, testonly/reference)."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    mine = [merkle.leaf_hash(bytes.fromhex(text)) for text in inputs]
    assert merkle.root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle.root(mine[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle.root(mine[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert merkle.root(mine).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@pytest.mark.parametrize("size", [*range(1, 34), 63, 64, 65, 70, 301])
def test_inclusion_proofs_are_the_paths_of_rfc_6962(size: int) -> None:
    """Every path is PATH(m, D[n]) and leads from its own leaf at its own index to the root, and from no other."""
    mine, root = leaves(size), reference.mth(entries(size))
    for index in range(size) if size < 100 else (0, 1, 150, 255, 256, 299, 300):
        path = merkle.inclusion_proof(mine, index)
        assert path == reference.path(index, entries(size))
        assert merkle.root_from_inclusion(mine[index], index, size, path) == root
        assert merkle.root_from_inclusion(merkle.leaf_hash(b"forged"), index, size, path) != root
        for at in range(len(path)):
            assert merkle.root_from_inclusion(mine[index], index, size, flip(path, at)) != root
        with pytest.raises(MismatchError, match="too long"):
            merkle.root_from_inclusion(mine[index], index, size, [*path, bytes(32)])
        if path:
            with pytest.raises(MismatchError, match="too short"):
                merkle.root_from_inclusion(mine[index], index, size, path[:-1])
            other = (index + 1) % size
            try:
                assert merkle.root_from_inclusion(mine[index], other, size, path) != root
            except MismatchError:
                assert len(path) != len(reference.path(other, entries(size)))


@pytest.mark.parametrize(("index", "size"), [(-1, 5), (5, 5), (0, 0), (0, -1)])
def test_a_leaf_outside_the_tree_is_refused(index: int, size: int) -> None:
    """An index that the tree cannot hold is an error, whatever the path."""
    with pytest.raises(MismatchError, match="no leaf"):
        merkle.root_from_inclusion(bytes(32), index, size, [])
    with pytest.raises(IndexError):
        merkle.inclusion_proof(leaves(max(size, 0)), index)


@pytest.mark.parametrize("second", [1, 2, 3, 7, 8, 9, 31, 64, 65, 70])
def test_consistency_proofs_are_those_of_rfc_6962(second: int) -> None:
    """Every proof is PROOF(m, D[n]) and holds for the two true roots only."""
    mine, new = leaves(second), reference.mth(entries(second))
    for first in range(1, second + 1):
        old = reference.mth(entries(first))
        path = merkle.consistency_proof(mine, first)
        assert path == reference.proof(first, entries(second))
        merkle.check_consistency(first, second, old, new, path)
        attacks = [(old, bytes(32), path), (bytes(32), new, path), (old, new, [*path, bytes(32)])]
        attacks += [(old, new, flip(path, at)) for at in range(len(path))]
        attacks += [(old, new, path[:-1])] if path else []
        for root1, root2, attack in attacks:
            with pytest.raises(MismatchError):
                merkle.check_consistency(first, second, root1, root2, attack)


def test_a_rewritten_history_has_no_consistency_proof() -> None:
    """The honest proof of a forked tree does not tie it to the old root."""
    forked = leaves(20)
    forked[3] = merkle.leaf_hash(b"rewritten")
    for first in range(4, 20):
        with pytest.raises(MismatchError):
            merkle.check_consistency(
                first, 20, merkle.root(leaves(first)), merkle.root(forked), merkle.consistency_proof(forked, first)
            )


@pytest.mark.parametrize(("first", "second"), [(0, 4), (-1, 4), (5, 4)])
def test_a_rollback_is_never_consistent(first: int, second: int) -> None:
    """A smaller tree, or none, extends nothing."""
    with pytest.raises(MismatchError, match="sizes"):
        merkle.check_consistency(first, second, bytes(32), bytes(32), [])
    with pytest.raises(IndexError):
        merkle.consistency_proof(leaves(second), first)


def subsets(size: int, chance: random.Random) -> list[list[int]]:
    some = [sorted(chance.sample(range(size), chance.randint(1, size))) for _ in range(4)]
    return [[0], [size - 1], list(range(size)), list(range(size // 2, size)), *some]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13, 31, 32, 33, 70, 255, 256, 257, 600])
def test_a_tree_with_holes_is_the_one_of_the_design(size: int) -> None:
    """The hashes are the reference's, lead to the root, and follow just as well from 16-leaf subtrees alone."""
    mine, all_entries = leaves(size), entries(size)
    expected, chance = reference.mth(all_entries), random.Random(size)
    nodes = merkle.aligned_roots(mine, 16)
    for shown in subsets(size, chance):
        hashes = merkle.holes(mine, shown)
        assert hashes == reference.holes(all_entries, set(shown))
        assert merkle.root_from_holes(size, [(index, mine[index]) for index in shown], hashes) == expected
        assert reference.root_with_holes(size, {i: all_entries[i] for i in shown}, hashes) == expected
        blocks = {index // 16 for index in shown}
        known = [leaf if index // 16 in blocks else b"" for index, leaf in enumerate(mine)]
        assert merkle.holes_over(known, nodes, 16, shown) == hashes
    assert merkle.holes(mine, list(range(size))) == []


@pytest.mark.parametrize("size", [2, 3, 8, 33, 257])
def test_a_tampered_tree_with_holes_does_not_lead_to_the_root(size: int) -> None:
    """A wrong leaf, a wrong, missing or added hash, a leaf at another's index: refused, or another root."""
    mine, chance = leaves(size), random.Random(size)
    expected = merkle.root(mine)
    for index in {0, size // 2, size - 1, chance.randrange(size)}:
        shown, hashes = [(index, mine[index])], merkle.holes(mine, [index])
        assert merkle.root_from_holes(size, shown, hashes) == expected
        assert merkle.root_from_holes(size, [(index, merkle.leaf_hash(b"forged"))], hashes) != expected
        for at in range(len(hashes)):
            assert merkle.root_from_holes(size, shown, flip(hashes, at)) != expected
        with pytest.raises(MismatchError, match="left over"):
            merkle.root_from_holes(size, shown, [*hashes, bytes(32)])
        with pytest.raises(MismatchError, match="too few"):
            merkle.root_from_holes(size, shown, hashes[:-1])
        moved = (index + 1) % size
        try:
            assert merkle.root_from_holes(size, [(moved, mine[index])], hashes) != expected
        except MismatchError:
            assert len(merkle.holes(mine, [moved])) != len(hashes)


@pytest.mark.parametrize("indexes", [[], [1, 0], [1, 1], [-1], [4], [0, 4], [0, 2, 1]])
def test_indexes_that_are_unsorted_doubled_or_outside_are_refused(indexes: list[int]) -> None:
    """A proof that shows one leaf twice would count an event twice."""
    mine = leaves(4)
    with pytest.raises(MismatchError, match="indexes"):
        merkle.root_from_holes(4, [(index, mine[index % 4]) for index in indexes], [bytes(32)] * 4)
    with pytest.raises(MismatchError, match="indexes"):
        merkle.root_from_holes(0, [], [])


def test_a_leaf_is_no_node() -> None:
    """RFC 6962's prefixes keep an inner node from being passed off as an entry (second preimage)."""
    left, right = leaves(2)
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
    assert merkle.leaf_hash(b"\x01" + left + right) != merkle.root([left, right])
