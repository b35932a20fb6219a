"""The proof in a packet: records lead to their batch's root, seals to the checkpoint's (DESIGN 4.7).

    data/proof/<origin>/checkpoint         the signed note
    data/proof/<origin>/seals.jsonl        every seal of the period up to 2,000, else those used
    data/proof/<origin>/seals-proof.json   {"hashes":[...],"leaf_indexes":[...],"tree_size":27}
    data/proof/<origin>/inclusion.jsonl    a line a batch: {"blinds":[...],"hashes":[...],"leaf_indexes":[...],
                                           "lines":[...],"sequence":8,"tree_size":2301}

`lines` are the numbers of lines of data/events.jsonl, from 0. Hashes and blinds are hex. Of a record from which a field
was left out the leaf hash (64 digits) stands in place of the blind (32): its place is proven, its content is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

import msgspec

from auditlib.errors import MalformedError, MismatchError
from auditlib.formats import merkle
from auditlib.formats.canonical import canonical
from auditlib.formats.seal import Seal, parse_seal

T = TypeVar("T")

Hex32 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Blind = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{32}|[0-9a-f]{64})\Z")]
BLIND_DIGITS = 32  # of a blind; a leaf hash has 64
Index = Annotated[int, msgspec.Meta(ge=0)]


class SealsProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The checkpoint's tree with holes: which seals are shown, and the hashes of the rest."""

    hashes: list[Hex32]
    leaf_indexes: list[Index]
    tree_size: Index


class Inclusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One batch's tree with holes: which rows are shown on which lines of events.jsonl, and their blinds."""

    blinds: list[Blind]
    hashes: list[Hex32]
    leaf_indexes: list[Index]
    lines: list[Index]
    sequence: Index
    tree_size: Index

    @property
    def redacted(self) -> list[int]:
        """The lines whose record lacks a field."""
        pairs = zip(self.lines, self.blinds, strict=True)
        return [line for line, blind in pairs if len(blind) != BLIND_DIGITS]


def check_inclusion(line: bytes, seals: Mapping[int, Seal], records: Sequence[bytes]) -> Inclusion:
    """One line of inclusion.jsonl against its seal and the records. MismatchError where they do not lead there."""
    inclusion = _decode(line, Inclusion)
    seal = seals.get(inclusion.sequence)
    if seal is None:
        raise MismatchError(f"the seal of batch {inclusion.sequence} is not in the packet.")
    if not len(inclusion.blinds) == len(inclusion.leaf_indexes) == len(inclusion.lines):
        raise MismatchError("there are not as many blinds and lines as leaves.")
    if inclusion.lines != sorted(set(inclusion.lines)):
        raise MismatchError("the lines of events.jsonl are not distinct and in order.")
    if any(number >= len(records) for number in inclusion.lines):
        raise MismatchError("a line of events.jsonl is named that is not there.", expected=f"below {len(records)}")
    if inclusion.tree_size != seal.batch.events:
        raise MismatchError(
            "the tree has another size than the seal states.", expected=seal.batch.events, found=inclusion.tree_size
        )
    leaves = [
        (index, _leaf(bytes.fromhex(blind), records[number]))
        for index, blind, number in zip(inclusion.leaf_indexes, inclusion.blinds, inclusion.lines, strict=True)
    ]
    found = merkle.root_from_holes(inclusion.tree_size, leaves, [bytes.fromhex(node) for node in inclusion.hashes])
    if found.hex() != seal.batch.root:
        raise MismatchError("the records do not lead to the batch's root.", expected=seal.batch.root, found=found.hex())
    return inclusion


def _leaf(blind: bytes, record: bytes) -> bytes:
    return blind if len(blind) == merkle.HASH_BYTES else merkle.leaf_hash(blind + record)


def check_seals(seals_jsonl: bytes, proof_json: bytes, size: int, root: bytes) -> dict[int, Seal]:
    """The seals of a packet against its checkpoint. MismatchError where they do not lead there."""
    proof = _decode(proof_json, SealsProof)
    count = seals_jsonl.count(b"\n")
    if not seals_jsonl.endswith(b"\n"):
        raise MalformedError("seals.jsonl does not end with a newline.")
    if count != len(proof.leaf_indexes):
        raise MismatchError("there are not as many seals as leaves.", expected=len(proof.leaf_indexes), found=count)
    lines = seals_jsonl.split(b"\n")[:-1]
    if proof.tree_size != size:
        raise MismatchError("the proof is for another tree size.", expected=size, found=proof.tree_size)
    leaves = list(zip(proof.leaf_indexes, map(merkle.leaf_hash, lines), strict=True))
    found = merkle.root_from_holes(size, leaves, [bytes.fromhex(node) for node in proof.hashes])
    if found != root:
        raise MismatchError("the seals do not lead to the checkpoint's root.", expected=root.hex(), found=found.hex())
    seals = {index: parse_seal(line) for index, line in zip(proof.leaf_indexes, lines, strict=True)}
    for index, seal in seals.items():
        if seal.sequence != index:
            raise MismatchError("a seal states another number than its place.", expected=index, found=seal.sequence)
    return seals


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        found = msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedError(f"not a proof: {error}.") from None
    if canonical(msgspec.to_builtins(found)) != data:
        raise MalformedError("the proof is not written canonically (RFC 8785).")
    return found
