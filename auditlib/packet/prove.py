"""Drawing the proof for a packet: from the vault's batches and seals (see proofs.py for what it looks like)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import groupby, permutations
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from auditlib.errors import MalformedError, MismatchError
from auditlib.formats import merkle
from auditlib.formats.batch import NODE_LEAVES, ParsedBatch, parse_batch
from auditlib.formats.canonical import canonical
from auditlib.formats.columns import ROW_BLIND_BYTES, leaf_hashes, row_blinds
from auditlib.formats.seal import Seal
from auditlib.packet.check import PROOF_FILES
from auditlib.packet.proofs import Inclusion, SealsProof
from auditlib.packet.redaction import Cut
from auditlib.query import Filter
from auditlib.trail import Trail

MAX_PERIOD_SEALS = 2000  # DESIGN 4.7
_BLOCK_LEVEL = (NODE_LEAVES - 1).bit_length()  # of the tree, counted from its leaves: where the stored hashes stand


class Proof(msgspec.Struct, frozen=True):
    """The records, canonical, in order, and the proof files by name."""

    records: list[bytes]
    files: dict[str, bytes]
    seals: list[Seal]
    every_seal_of_period: bool
    redacted: list[int]  # lines whose record lacks a field


def build_proofs(trails: Sequence[Trail], rows: Any, shown: tuple[int | None, int | None], cut: Cut) -> list[Proof]:
    """Of each trail its records and their proof, for `rows` of one trail or, by origin, of several.

    `shown` is the period whose seals go in. Raises MismatchError where the rows are of other trails than these, and
    MalformedError where two of the trails cannot have folders in one packet.
    """
    by_trail = rows if isinstance(rows, dict) else {trails[0].origin: rows}
    origins = [trail.origin for trail in trails]
    if sorted(by_trail) != origins:
        raise MismatchError(
            "the notebook's answer is of other trails than those it was asked of.",
            remedy="Let it answer by a function of auditlib.evidence, over what evidence.open() gives.",
            expected=", ".join(origins),
            found=", ".join(sorted(by_trail)),
        )
    places = [f"{origin}/{name}/".lower() for origin in origins for name in PROOF_FILES]
    if any(other.startswith(one) for one, other in permutations(places, 2)):
        message = "the proofs of these trails cannot lie beside one another: a file of one is a folder of another."
        raise MalformedError(message, where=", ".join(origins), remedy="Make a packet for each.")
    proofs: list[Proof] = []
    for trail in trails:
        pairs = [(sequence, row) for sequence, row in by_trail[trail.origin]]
        proofs.append(build_proof(trail, pairs, *shown, cut, sum(len(proof.records) for proof in proofs)))
    return proofs


def build_proof(
    trail: Trail,
    rows: Iterable[tuple[int, int]],
    since: int | None,
    until: int | None,
    cut: Cut | None = None,
    before: int = 0,
) -> Proof:
    """The proof for these (sequence, row) of a trail; the period chooses which seals go in.

    `before` lines of events.jsonl hold the records of other trails, in front of these. Of a record that lacks a field
    its leaf hash is given in place of its blind.
    """
    records: list[bytes] = []
    lines: list[bytes] = []
    used: set[int] = set()
    redacted: list[int] = []
    for sequence, group in groupby(sorted(set(rows)), key=lambda pair: pair[0]):
        indexes = [row for _, row in group]
        seal, batch = _holding(trail, sequence, indexes)
        first = before + len(records)
        blinds = []
        for blind, text in zip(batch.blinds(indexes), batch.texts(indexes), strict=True):
            kept = text if cut is None else cut.record(text)
            if kept != text:
                redacted.append(before + len(records))
            blinds.append((blind if kept == text else merkle.leaf_hash(blind + text)).hex())
            records.append(kept)
        inclusion = Inclusion(
            blinds=blinds,
            hashes=[node.hex() for node in proof_hashes(batch, indexes, seal.batch.root)],
            leaf_indexes=indexes,
            lines=list(range(first, before + len(records))),
            sequence=sequence,
            tree_size=batch.table.num_rows,
        )
        lines.append(canonical(msgspec.to_builtins(inclusion)) + b"\n")
        used.add(sequence)
    shown, every = _seals_shown(trail, used, since, until)
    proof = SealsProof(
        hashes=[node.hex() for node in merkle.holes(trail.history.leaves, shown)],
        leaf_indexes=shown,
        tree_size=len(trail.seals),
    )
    files = {
        "checkpoint": trail.history.checkpoint_data,
        "inclusion.jsonl": b"".join(lines),
        "seals-proof.json": canonical(msgspec.to_builtins(proof)),
        "seals.jsonl": b"".join(trail.history.seals[number].data + b"\n" for number in shown),
    }
    return Proof(records, files, [trail.seals[number] for number in shown], every, redacted)


def _holding(trail: Trail, sequence: int, rows: list[int]) -> tuple[Seal, ParsedBatch]:
    """The seal and the batch, hashed here, that hold these rows (sorted); MismatchError where none does."""
    if 0 <= sequence < len(trail.seals):
        seal = trail.seals[sequence]
        batch = parse_batch(trail.files.read(seal), coded=True)
        if rows[0] >= 0 and rows[-1] < batch.table.num_rows:
            return seal, batch
    message = "the answer rests on a record that is not in the trail: it was told what is not so."
    raise MismatchError(message, where=f"batch {sequence}, rows {rows[0]} to {rows[-1]}")


def proof_hashes(batch: ParsedBatch, rows: list[int], root: str) -> list[bytes]:
    """The hashes of the tree with holes around these rows (sorted, distinct), left to right (DESIGN 4.7).

    Only the 256-leaf subtrees in which the rows stand are rebuilt from the records, all of them in one pass.
    MismatchError where the stored subtree hashes do not lead to the seal's `root` (hex), or are not the rows' own.
    """
    if merkle.root(batch.nodes).hex() != root:
        message = "the stored subtree hashes do not lead to the seal's root."
        raise MismatchError(message, where="batch", expected=root)
    blocks = sorted({row // NODE_LEAVES for row in rows})
    levels = _levels(_leaves(batch, blocks), _BLOCK_LEVEL)
    for block, node in zip(blocks, levels[_BLOCK_LEVEL], strict=True):
        if node != batch.nodes[block]:
            message = f"the stored hash of the {NODE_LEAVES} rows from {block * NODE_LEAVES} on is not theirs."
            raise MismatchError(message, where="batch")
    size = batch.table.num_rows
    levels[_BLOCK_LEVEL:] = _levels(list(batch.nodes), (size - 1).bit_length() - _BLOCK_LEVEL)
    found: list[tuple[int, bytes]] = []
    here = np.asarray(rows, np.int64)
    for level in range((size - 1).bit_length()):
        above = np.unique(here >> 1)
        children = np.stack([above << 1, (above << 1) + 1], axis=1).ravel()
        # A last node without a sibling is its own parent (RFC 6962 2.1), and so has no hole beside it.
        missing = np.setdiff1d(children[children < -(-size >> level)], here, assume_unique=True)
        at = missing
        if level < _BLOCK_LEVEL:  # of these levels only the blocks' own nodes are there, one block after the other
            width = _BLOCK_LEVEL - level
            at = (np.searchsorted(blocks, missing >> width) << width) + (missing & ((1 << width) - 1))
        nodes = levels[level]
        found += [(first, nodes[place]) for first, place in zip((missing << level).tolist(), at.tolist(), strict=True)]
        here = above
    return [node for _, node in sorted(found)]


def _leaves(batch: ParsedBatch, blocks: list[int]) -> list[bytes]:
    """The leaf hashes of some aligned subtrees, one after the other."""
    blinds = row_blinds(batch.blind, batch.table.num_rows)
    width = NODE_LEAVES * ROW_BLIND_BYTES
    return leaf_hashes(
        pa.concat_tables([batch.table.slice(block * NODE_LEAVES, NODE_LEAVES) for block in blocks]),
        b"".join(blinds[block * width : (block + 1) * width] for block in blocks),
    )


def _levels(nodes: list[bytes], up: int) -> list[list[bytes]]:
    """The nodes, and those of so many levels above them; an odd last node is carried up unchanged (RFC 6962 2.1)."""
    levels = [nodes]
    for _ in range(up):
        joined = b"".join(levels[-1])
        pairs = range(0, len(joined) // 64 * 64, 64)
        upper = [sha256(b"\x01" + joined[at : at + 64]).digest() for at in pairs]  # RFC 6962 2.1: node prefix 0x01
        levels.append(upper + levels[-1][len(pairs) * 2 :])
    return levels


def _seals_shown(trail: Trail, used: set[int], since: int | None, until: int | None) -> tuple[list[int], bool]:
    """The seals of the period (by when their records occurred) and those used; or those used alone past 2,000."""
    of_period = set(trail.history.seals.chosen(Filter(since=since, until=until).holding(trail.history.seals)).places)
    every = len(of_period) <= MAX_PERIOD_SEALS
    shown = sorted(used | of_period if every else used) or [trail.seals[-1].sequence]
    return shown, every
