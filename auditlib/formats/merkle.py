"""RFC 6962 Merkle trees: leaf and node hashes, roots, inclusion and consistency proofs, and trees with holes.

    leaf = SHA-256(0x00 || entry)        node = SHA-256(0x01 || left || right)

The root is a list of 32-byte leaf hashes folded pairwise; a packet's proof is a tree with holes (DESIGN 4.7): the
leaves that are shown are computed, a subtree that shows none is one hash.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from hashlib import sha256

from auditlib.errors import MismatchError

HASH_BYTES = 32  # SHA-256
EMPTY_ROOT = sha256(b"").digest()  # RFC 6962 2.1: the hash of an empty list


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry."""
    return sha256(b"\x00" + entry).digest()  # RFC 6962 2.1: leaf prefix 0x00


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()  # RFC 6962 2.1: node prefix 0x01


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, in one pass a level.

    RFC 6962 splits at the largest power of two below n; pairing level by level and carrying an odd last node up
    unchanged is the same tree.
    """
    if not leaves:
        return EMPTY_ROOT
    level = leaves
    while len(level) > 1:
        level = _paired(level)
    return level[0]


def aligned_roots(leaves: Sequence[bytes], width: int) -> list[bytes]:
    """The roots of each aligned run of `width` (a power of two) leaves, the last perhaps smaller.

    They are the tree's nodes of that level: `root(aligned_roots(leaves, w)) == root(leaves)`.
    """
    level = list(leaves)
    for _ in range(width.bit_length() - 1):
        level = _paired(level)
    return level


def _paired(level: Sequence[bytes]) -> list[bytes]:
    """The level above: each two nodes hashed, an odd last one carried up."""
    fresh = sha256(b"\x01").copy  # RFC 6962 2.1: node prefix 0x01; to copy it is a fifth cheaper than to join the three
    upper = []
    for left, right in zip(level[::2], level[1::2], strict=False):
        node = fresh()
        node.update(left)
        node.update(right)
        upper.append(node.digest())
    if len(level) % 2:
        upper.append(level[-1])
    return upper


class Frontier:
    """A tree that grows leaf by leaf and knows its root at any time, in O(log n) memory."""

    def __init__(self) -> None:
        self.size = 0
        self._full: list[tuple[int, bytes]] = []  # (leaves under it, hash) of the full subtrees, left to right

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        width, node = 1, leaf
        while self._full and self._full[-1][0] == width:
            node = node_hash(self._full.pop()[1], node)
            width *= 2
        self._full.append((width, node))
        self.size += 1

    def root(self) -> bytes:
        """The root over all leaves so far."""
        if not self._full:
            return EMPTY_ROOT
        node = self._full[-1][1]
        for _, left in reversed(self._full[:-1]):
            node = node_hash(left, node)
        return node


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """RFC 6962 2.1.1: the audit path for the leaf at `index`, lowest level first."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} in a tree of {len(leaves)}")
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), root(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), root(leaves[:split])]


def root_from_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to (RFC 9162 2.1.3.2); MismatchError if its length is wrong."""
    if not 0 <= index < size:
        raise MismatchError(f"no leaf {index} can be in a tree of {size}.", expected=f"below {size}", found=index)
    node, low, high = leaf, index, size - 1
    for step, sibling in enumerate(path):
        if high == 0:
            raise MismatchError("the proof is too long.", expected=step, found=len(path))
        if low % 2 or low == high:
            node = node_hash(sibling, node)
            while low % 2 == 0 and low:
                low, high = low >> 1, high >> 1
        else:
            node = node_hash(node, sibling)
        low, high = low >> 1, high >> 1
    if high:
        raise MismatchError("the proof is too short.", expected="more hashes", found=len(path))
    return node


def consistency_proof(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """RFC 6962 2.1.2: that the first `first` leaves are a prefix of all of them."""
    if not 0 < first <= len(leaves):
        raise IndexError(f"a tree of {first} is no prefix of one of {len(leaves)}")
    return _subproof(leaves, first, True)


def _subproof(leaves: Sequence[bytes], first: int, whole: bool) -> list[bytes]:
    if first == len(leaves):
        return [] if whole else [root(leaves)]
    split = _split(len(leaves))
    if first <= split:
        return [*_subproof(leaves[:split], first, whole), root(leaves[split:])]
    return [*_subproof(leaves[split:], first - split, False), root(leaves[:split])]


def check_consistency(first: int, second: int, root1: bytes, root2: bytes, path: Sequence[bytes]) -> None:
    """RFC 9162 2.1.4.2: raises MismatchError unless the tree of `second` leaves extends that of `first`."""
    if not 0 < first <= second:
        raise MismatchError("the sizes do not fit.", expected=f"1 to {second}", found=first)
    if first == second:
        if path or root1 != root2:
            raise MismatchError("same size, other root.", expected=root1.hex(), found=root2.hex())
        return
    nodes = list(path)
    if first & (first - 1) == 0:
        nodes.insert(0, root1)
    if not nodes:
        raise MismatchError("the consistency proof is empty.", expected="at least one hash", found=0)
    low, high = first - 1, second - 1
    while low % 2:
        low, high = low >> 1, high >> 1
    old = new = nodes[0]
    for sibling in nodes[1:]:
        if high == 0:
            raise MismatchError("the consistency proof is too long.", expected="fewer hashes", found=len(path))
        if low % 2 or low == high:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while low % 2 == 0 and low:
                low, high = low >> 1, high >> 1
        else:
            new = node_hash(new, sibling)
        low, high = low >> 1, high >> 1
    if high:
        raise MismatchError("the consistency proof is too short.", expected="more hashes", found=len(path))
    for expected, found in ((root1, old), (root2, new)):
        if expected != found:
            raise MismatchError("the roots are not consistent.", expected=expected.hex(), found=found.hex())


def holes(leaves: Sequence[bytes], shown: Sequence[int]) -> list[bytes]:
    """The hashes of the subtrees that hold none of `shown` (sorted, distinct indexes), left to right (DESIGN 4.7)."""
    return list(_holes(leaves, shown, 0, len(leaves), 0, len(shown)))


def holes_over(leaves: Sequence[bytes], nodes: Sequence[bytes], width: int, shown: Sequence[int]) -> list[bytes]:
    """The same where leaves are known only in the aligned subtrees that hold a shown one.

    `nodes` are the roots of all aligned subtrees of `width` leaves; they stand in for the others.
    """
    found: list[bytes] = []

    def walk(start: int, size: int, low: int, high: int) -> None:
        if low == high and (size > width or start % width == 0):
            first = start // width
            found.append(root(nodes[first : first + -(-size // width)]))
        elif size <= width:
            found.extend(_holes(leaves, shown, start, size, low, high))
        elif high - low < size:
            split = _split(size)
            middle = bisect_left(shown, start + split, low, high)
            walk(start, split, low, middle)
            walk(start + split, size - split, middle, high)

    walk(0, len(leaves), 0, len(shown))
    return found


def _holes(
    leaves: Sequence[bytes], shown: Sequence[int], start: int, size: int, low: int, high: int
) -> Iterator[bytes]:
    if low == high:
        yield root(leaves[start : start + size])
    elif high - low < size:
        split = _split(size)
        middle = bisect_left(shown, start + split, low, high)
        yield from _holes(leaves, shown, start, split, low, middle)
        yield from _holes(leaves, shown, start + split, size - split, middle, high)


def root_from_holes(size: int, shown: Sequence[tuple[int, bytes]], hashes: Sequence[bytes]) -> bytes:
    """The root that a tree with holes leads to: `shown` are (index, leaf hash), sorted; every hash must be used.

    Raises MismatchError for indexes out of order or range and for a hash too many or too few.
    """
    indexes = [index for index, _ in shown]
    if size < 1 or not indexes or indexes[0] < 0 or indexes[-1] >= size or sorted(set(indexes)) != indexes:
        raise MismatchError("the leaf indexes are not distinct, sorted and within the tree.", expected=size)
    rest = iter(hashes)
    found = _from_holes(shown, indexes, rest, 0, size, 0, len(shown))
    left = sum(1 for _ in rest)
    if left:
        raise MismatchError("the proof has hashes left over.", expected=len(hashes) - left, found=len(hashes))
    return found


def _from_holes(
    shown: Sequence[tuple[int, bytes]],
    indexes: Sequence[int],
    rest: Iterator[bytes],
    start: int,
    size: int,
    low: int,
    high: int,
) -> bytes:
    if low == high:
        node = next(rest, None)
        if node is None:
            raise MismatchError("the proof has too few hashes.", expected="one more", found="none")
        return node
    if high - low == size:
        return root([leaf for _, leaf in shown[low:high]])
    split = _split(size)
    middle = bisect_left(indexes, start + split, low, high)
    left = _from_holes(shown, indexes, rest, start, split, low, middle)
    return node_hash(left, _from_holes(shown, indexes, rest, start + split, size - split, middle, high))


def _split(size: int) -> int:
    """The largest power of two below size (RFC 6962 2.1)."""
    return 1 << ((size - 1).bit_length() - 1)
