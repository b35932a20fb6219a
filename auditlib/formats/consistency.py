"""That a checkpoint extends an older one, in O(log n) hashes: for who holds the older one and not the vault (DESIGN 6).

    old 24
    glp4cZ4IbgiJh+qAf0QAPseaUwiNYhTx4q7hKHHS6WE=
    i1Vb11tcSSg4YspISdGrTsnYg6VK6pRJ5iN3IYiYw+0=
    1vtH/6rAyMSkW2wNpm2FURh0elbmQuoVpXgjc0EY5Ek=

    acme.example/audit
    27
    1Txwmb+3tW/DMNscq6xr48sY1G1MeAuXsIQ/ysFQbMk=

    — acme.example/audit p0eFFMMvALSYSN2Y1cLZtowbZVg82NfBi33m6hHNm0OnRl2nIVihpyQ+GYS24+3BwZtbEriD1aHQGFw00dyruGxmHQI=

The body of a C2SP `tlog-witness` request: the size of the older checkpoint, the consistency proof of RFC 6962 2.1.2 a
hash a line, an empty line, the newer checkpoint as it was signed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence

from auditlib.errors import MalformedError, MismatchError
from auditlib.formats.checkpoint import MAX_NOTE_BYTES, Checkpoint, parse_checkpoint
from auditlib.formats.keys import VerifierKey, decode_base64
from auditlib.formats.merkle import EMPTY_ROOT, HASH_BYTES, check_consistency

MAX_HASHES = 63  # C2SP tlog-witness: no tree that a checkpoint can name needs more
MAX_PROOF_BYTES = MAX_NOTE_BYTES + (MAX_HASHES + 2) * 64  # a line is shorter than that
_OLD = re.compile(r"old (0|[1-9][0-9]{0,15})")


def consistency_bytes(older: int, path: Sequence[bytes], newer: bytes) -> bytes:
    """The proof file: from the first `older` seals, by these hashes, to the checkpoint whose bytes `newer` is."""
    lines = [f"old {older}", *(base64.b64encode(node).decode() for node in path), "", ""]
    return "\n".join(lines).encode() + newer


def check_extension(data: bytes, older: Checkpoint, keys: Iterable[VerifierKey]) -> Checkpoint:
    """The newer checkpoint, shown by the proof file `data` to extend the `older` one that the reader holds.

    MalformedError where the file is none; MismatchError where none of the keys signed the newer checkpoint, or it is
    not shown to extend the older.
    """
    first, path, note = _parse(data)
    newer = parse_checkpoint(note, keys)
    for what, expected, found in (("trail", older.origin, newer.origin), ("size", older.size, first)):
        if expected != found:
            raise MismatchError(
                f"the proof is about another {what} than your checkpoint.", expected=expected, found=found
            )
    if older.size:
        check_consistency(older.size, newer.size, older.root, newer.root, path)
    elif path or older.root != EMPTY_ROOT:
        raise MismatchError("nothing precedes a first seal.", expected=EMPTY_ROOT.hex(), found=older.root.hex())
    return newer


def _parse(data: bytes) -> tuple[int, list[bytes], bytes]:
    if len(data) > MAX_PROOF_BYTES:
        raise MalformedError(f"{len(data):,} bytes; a consistency proof has at most {MAX_PROOF_BYTES:,}.")
    head, blank, note = data.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise MalformedError("no consistency proof: its first lines are not ASCII.") from None
    size = _OLD.fullmatch(first)
    if not blank or size is None:
        raise MalformedError("no consistency proof: it begins with `old SIZE`, hashes, and an empty line.")
    if len(lines) > MAX_HASHES:
        raise MalformedError(f"{len(lines)} hashes; a consistency proof has at most {MAX_HASHES}.")
    path = [decode_base64(line) for line in lines]
    if any(len(node) != HASH_BYTES for node in path):
        raise MalformedError(f"a line of the proof is not the base64 of {HASH_BYTES} bytes.")
    return int(size[1]), path, note
