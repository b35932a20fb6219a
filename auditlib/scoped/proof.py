"""One event's proof: from its record, by its batch and seal, to the signed checkpoint (DESIGN 4.2 to 4.5).

    blind and record -> leaf -> path -> root of the batch        which stands in the seal
    seal             -> leaf -> path -> root of the checkpoint   which is signed

A path is RFC 6962's audit path (2.1.1), lowest first, with the side on which each hash stands; so it tells the leaf's
place in its batch, and the seal counts all events of the batch, with their actions and sources. Outside a narrow scope
neither must be learned: a proof is given where the engagement says so, or limits nothing. That the server itself went
the whole way just now is told to everybody (`Checked`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from auditlib.engagements import Engagement
from auditlib.engagements.words import limits_in_words
from auditlib.errors import AuditlibError, MismatchError, UnavailableError
from auditlib.formats import merkle
from auditlib.formats.batch import NODE_LEAVES, parse_batch
from auditlib.formats.checkpoint import parse_checkpoint
from auditlib.formats.columns import ROW_BLIND_BYTES, SLICE, leaf_hashes, record_texts, row_blinds
from auditlib.formats.keys import VerifierKey
from auditlib.formats.seal import parse_seal
from auditlib.scoped.answers import Found
from auditlib.scoped.scope import RefusedError
from auditlib.trail import Trail

STEPS = {
    1: "the record and its blind give the leaf",
    2: "the leaf and its path lead to the batch's root",
    3: "the seal states this root",
    4: "the seal gives its own leaf",
    5: "this leaf and its path lead to the checkpoint's root",
    6: "the checkpoint is signed by a key that is trusted",
}
_MAX_PATH = 64  # hashes; a batch of 2^20 leaves takes 20

Side = Literal["left", "right"]


class Step(msgspec.Struct, frozen=True):
    """One hash of a path (hex), and the side of it that it stands on."""

    side: Side
    hash: str


class Proof(msgspec.Struct, frozen=True):
    """Everything between a record and a signature; hashes and the blind in hex.

    `record` and `blind` are None where fields were left out: the leaf's place is proven, what it says is not. `seal`
    and `checkpoint` are their exact bytes as text, `keys` those that signed, `confirmed` whether one of them came from
    outside the vault.
    """

    record: str | None
    blind: str | None
    leaf: str
    path: tuple[Step, ...]
    root: str
    seal: str
    seal_leaf: str
    seal_path: tuple[Step, ...]
    checkpoint_root: str
    checkpoint: str
    keys: tuple[str, ...]
    confirmed: bool


class Checked(msgspec.Struct, frozen=True):
    """What the server found a moment ago: every one of STEPS held. Facts without a number.

    `redacted`: the server checked the whole record, of which only a part is shown.
    """

    origin: str
    root: str
    keys: tuple[str, ...]
    confirmed: bool
    redacted: bool


def check_may_prove(engagement: Engagement) -> None:
    """RefusedError where a proof would tell of events outside the scope, or of fields that are left out."""
    if not engagement.proofs and (limits_in_words(engagement) or engagement.redact):
        raise RefusedError(
            "Your engagement shows no proofs: a proof holds the seal of its batch, which counts all its events, also "
            "those outside your scope.",
            remedy=f"Ask {engagement.set_by} for an engagement that shows them.",
        )


def draw_proof(trail: Trail, found: Found) -> Proof:
    """The proof of an event that was found, after all its STEPS were checked.

    MismatchError where they do not hold, UnavailableError where the batch cannot be read; neither says where in the
    trail, because that counts what lies before.
    """
    seal = trail.seals[found.sequence]
    sealed = trail.history.seals[found.sequence].data
    try:
        text, blind, hashes = in_batch(trail.files.read(seal), found.row)
        leaves = trail.history.leaves
        if not found.redacted and text != found.record:
            raise MismatchError("the record shown is not the one at its place.")
        proof = Proof(
            record=None if found.redacted else text.decode(),
            blind=None if found.redacted else blind.hex(),
            leaf=merkle.leaf_hash(blind + text).hex(),
            path=_by_holes(found.row, seal.batch.events, hashes),
            root=seal.batch.root,
            seal=sealed.decode(),
            seal_leaf=leaves[found.sequence].hex(),
            seal_path=_by_holes(found.sequence, len(leaves), merkle.holes(leaves, [found.sequence])),
            checkpoint_root=trail.checkpoint.root.hex(),
            checkpoint=trail.history.checkpoint_data.decode(),
            keys=tuple(map(str, trail.checkpoint.signers)),
            confirmed=trail.history.key_confirmed,
        )
        check_proof(proof, trail.checkpoint.signers)
    except (UnavailableError, pa.ArrowException, OSError):
        raise UnavailableError("the proof could not be drawn.", remedy="Tell who runs the vault.") from None
    except AuditlibError:
        raise MismatchError(
            "this record does not lead to the checkpoint (checks 4 to 6).", remedy="Run `auditlib verify --deep`."
        ) from None
    return proof


def checked(trail: Trail, found: Found) -> Checked:
    """The same way gone by the server alone; raises as `draw_proof`."""
    proof = draw_proof(trail, found)
    return Checked(trail.origin, proof.checkpoint_root, proof.keys, proof.confirmed, found.redacted)


def check_proof(proof: Proof, keys: Iterable[VerifierKey]) -> None:
    """Every one of STEPS, with the keys one trusts. MismatchError names the first that does not hold."""
    if (proof.record is None) != (proof.blind is None):
        raise MismatchError("the blind is there without its record, or the record without its blind.")
    if proof.record is not None and proof.blind is not None:
        entry = bytes.fromhex(proof.blind) + proof.record.encode()
        _same(1, proof.leaf, merkle.leaf_hash(entry).hex())
    _same(2, proof.root, climb(proof.leaf, proof.path)[-1])
    stated = parse_seal(proof.seal.encode())
    _same(3, stated.batch.root, proof.root)
    _same(4, proof.seal_leaf, merkle.leaf_hash(proof.seal.encode()).hex())
    _same(5, proof.checkpoint_root, climb(proof.seal_leaf, proof.seal_path)[-1])
    checkpoint = parse_checkpoint(proof.checkpoint.encode(), keys)
    _same(6, (checkpoint.origin, checkpoint.root.hex()), (stated.origin, proof.checkpoint_root))
    _same(6, True, any(key.name == checkpoint.origin for key in checkpoint.signers))  # not by another trail's key


def climb(leaf: str, path: Sequence[Step]) -> list[str]:
    """The nodes from a leaf to its root, both among them (hex)."""
    if len(path) > _MAX_PATH:
        raise MismatchError("the path is longer than any tree is high.", expected=_MAX_PATH, found=len(path))
    nodes = [leaf]
    for step in path:
        pair = [bytes.fromhex(step.hash), bytes.fromhex(nodes[-1])]
        nodes.append(merkle.node_hash(*(pair if step.side == "left" else reversed(pair))).hex())
    return nodes


def in_batch(data: bytes, row: int) -> tuple[bytes, bytes, list[bytes]]:
    """A batch's bytes -> one record, its blind, and the holes around its leaf; reads one row group, hashes 256 leaves.

    What the stored subtree hashes say is judged by the root that the path leads to.
    """
    batch = parse_batch(data, columns=[])
    group = pq.ParquetFile(pa.BufferReader(data)).read_row_group(row // SLICE, use_threads=False)
    first = row // NODE_LEAVES * NODE_LEAVES
    block = group.slice(first % SLICE, NODE_LEAVES)
    blinds = row_blinds(batch.blind, first + block.num_rows)[first * ROW_BLIND_BYTES :]
    leaves: list[bytes] = [b""] * batch.table.num_rows
    leaves[first : first + block.num_rows] = leaf_hashes(block, blinds)
    at = row - first
    text: bytes = record_texts(block.slice(at, 1))[0].as_py()
    blind = blinds[at * ROW_BLIND_BYTES : (at + 1) * ROW_BLIND_BYTES]
    return text, blind, merkle.holes_over(leaves, batch.nodes, NODE_LEAVES, [row])


def _by_holes(index: int, size: int, hashes: Sequence[bytes]) -> tuple[Step, ...]:
    """A tree's holes around one leaf, left to right -> its audit path, lowest first."""
    sides: list[Side] = []  # of the siblings, highest first
    while size > 1:
        split = 1 << ((size - 1).bit_length() - 1)  # RFC 6962 2.1: the largest power of two below size
        sides.append("right" if index < split else "left")
        index, size = (index, split) if index < split else (index - split, size - split)
    lefts = iter(hashes)  # from left to right the left ones come down, and then the right ones go up
    rights = iter(reversed(hashes))
    steps = [Step(side, next(lefts if side == "left" else rights).hex()) for side in sides]
    return tuple(reversed(steps))


def _same(step: int, expected: object, found: object) -> None:
    if expected != found:
        raise MismatchError(f"step {step}: it does not hold that {STEPS[step]}.", expected=expected, found=found)
