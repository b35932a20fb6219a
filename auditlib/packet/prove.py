"""Drawing the proof for a packet: from the vault's batches and seals (see proofs.py for what it looks like)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import msgspec

from auditlib.formats import merkle
from auditlib.formats.batch import parse_batch
from auditlib.formats.canonical import canonical
from auditlib.formats.seal import Seal
from auditlib.formats.times import parse_time
from auditlib.packet.proofs import Inclusion, SealsProof
from auditlib.packet.redaction import Cut
from auditlib.trail import Trail

MAX_PERIOD_SEALS = 2000  # DESIGN 4.7


class Proof(msgspec.Struct, frozen=True):
    """The records, canonical, in order, and the proof files by name."""

    records: list[bytes]
    files: dict[str, bytes]
    seals: list[Seal]
    every_seal_of_period: bool
    redacted: list[int]  # lines whose record lacks a field


def build_proof(
    trail: Trail, rows: Iterable[tuple[int, int]], since: int | None, until: int | None, cut: Cut | None = None
) -> Proof:
    """The proof for these (sequence, row) of a trail; the period chooses which seals go in.

    Of a record that lacks a field its leaf hash is given in place of its blind.
    """
    records: list[bytes] = []
    lines: list[bytes] = []
    used: set[int] = set()
    redacted: list[int] = []
    for sequence, group in groupby(sorted(set(rows)), key=lambda pair: pair[0]):
        indexes = [row for _, row in group]
        seal = trail.seals[sequence]
        batch = parse_batch(trail.files.read(seal))
        first = len(records)
        blinds = []
        for blind, text in zip(batch.blinds(indexes), batch.texts(indexes), strict=True):
            kept = text if cut is None else cut.record(text)
            if kept != text:
                redacted.append(len(records))
            blinds.append((blind if kept == text else merkle.leaf_hash(blind + text)).hex())
            records.append(kept)
        inclusion = Inclusion(
            blinds=blinds,
            hashes=[node.hex() for node in batch.proof(indexes, seal.batch.root)],
            leaf_indexes=indexes,
            lines=list(range(first, len(records))),
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


def _seals_shown(trail: Trail, used: set[int], since: int | None, until: int | None) -> tuple[list[int], bool]:
    """The seals of the period (by when their records occurred) and those used; or those used alone past 2,000."""
    of_period = {
        seal.sequence
        for seal in trail.seals
        if (since is None or parse_time(seal.occurred[1]) >= since)
        and (until is None or parse_time(seal.occurred[0]) < until)
    }
    every = len(of_period) <= MAX_PERIOD_SEALS
    shown = sorted(used | of_period if every else used) or [trail.seals[-1].sequence]
    return shown, every
