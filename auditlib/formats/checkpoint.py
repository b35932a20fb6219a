"""The checkpoint: a signed statement of how many seals there are and their root (DESIGN 4.5).

    acme.example/audit
    43
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — acme.example/audit zQynjPDVo8Gd032UrZd7gmviXsHd4sDNRizmqMAm08vLXWCM17TtoN3fHd0vJXKlzfsC1QuUZjafi9jwsaqLIxD9uA0=

A C2SP `tlog-checkpoint` in a C2SP `signed-note`. What is signed is the text above the blank line with its last
newline; the signature line carries base64 of the 4-byte key hash and the Ed25519 signature.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

import msgspec

from auditlib.errors import MalformedError, MismatchError
from auditlib.formats.keys import (
    KEY_HASH_BYTES,
    SIGNATURE_BYTES,
    SigningKey,
    VerifierKey,
    check_name,
    decode_base64,
)
from auditlib.formats.merkle import HASH_BYTES

MAX_NOTE_BYTES = 256 * 1024  # bytes, DESIGN 4.5
MAX_SIGNATURES = 16  # by keys we know, DESIGN 4.5: "at least 16 signatures are read"
_SIGNATURE = re.compile(r"— ([^ +\n]+) ([A-Za-z0-9+/=]+)")
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


class Checkpoint(msgspec.Struct, frozen=True):
    """Origin, tree size (number of seals), root (32 bytes), and the keys that were seen to have signed it."""

    origin: str
    size: int
    root: bytes
    signers: tuple[VerifierKey, ...] = ()

    def text(self) -> str:
        """The note text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(origin: str, size: int, root: bytes, keys: Iterable[SigningKey]) -> bytes:
    """The note's bytes, signed by every key in order."""
    text = Checkpoint(check_name(origin), size, root).text()
    lines = [f"— {key.name} {_signature(key, text)}\n" for key in keys]
    return (text + "\n" + "".join(lines)).encode()


def parse_checkpoint(data: bytes, keys: Iterable[VerifierKey]) -> Checkpoint:
    """A note's bytes and the keys one trusts -> the Checkpoint and which of them signed it.

    MalformedError where it is no such note; MismatchError where none of the keys signed it, or where a line of a
    known key does not verify (one bad line rejects the note). Lines of unknown keys are passed over.
    """
    checkpoint, lines = _read(data)
    text = checkpoint.text().encode()
    known = {(key.name, key.hash): key for key in keys}
    signers: list[VerifierKey] = []
    for name, blob in lines:
        key = known.get((name, blob[:KEY_HASH_BYTES]))
        if key is None:
            continue
        if len(signers) == MAX_SIGNATURES:
            raise MalformedError(f"more than {MAX_SIGNATURES} signatures by known keys.")
        signature = blob[KEY_HASH_BYTES:]
        if len(signature) != SIGNATURE_BYTES or not key.verifies(signature, text):
            raise MismatchError(
                f"the signature by {name} does not verify; the checkpoint was altered or forged.",
                expected=f"a signature by {key}",
                found=base64.b64encode(blob).decode()[:120],
            )
        if key not in signers:
            signers.append(key)
    if not signers:
        raise MismatchError(
            "no signature by a trusted key.",
            expected=" or ".join(sorted(str(key) for key in known.values())) or "a trusted key",
            found=", ".join(f"{name}+{blob[:KEY_HASH_BYTES].hex()}" for name, blob in lines[:MAX_SIGNATURES]),
        )
    return msgspec.structs.replace(checkpoint, signers=tuple(signers))


def read_unverified(data: bytes) -> Checkpoint:
    """The note's statement without looking at its signatures: for messages, never for trust."""
    return _read(data)[0]


def _read(data: bytes) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    if len(data) > MAX_NOTE_BYTES:
        raise MalformedError(f"{len(data):,} bytes; a checkpoint has at most {MAX_NOTE_BYTES:,}.")
    try:
        note = data.decode()
    except UnicodeDecodeError:
        raise MalformedError("not UTF-8.") from None
    if any(ord(character) < 0x20 and character != "\n" for character in note):
        raise MalformedError("a control character stands in the note.")  # C2SP signed-note
    text, blank, signatures = note.rpartition("\n\n")
    if not blank or not signatures.endswith("\n"):
        raise MalformedError("not a signed note: text, an empty line, signature lines.")
    fields = text.split("\n")
    if len(fields) != 3:
        raise MalformedError("a checkpoint has three lines: origin, size, root; nothing follows them.")
    origin, size, root = fields
    if not _SIZE.fullmatch(size):
        raise MalformedError(f"{size[:40]!r} is no tree size.")
    digest = decode_base64(root)
    if len(digest) != HASH_BYTES:
        raise MalformedError("the root is not 32 bytes.")
    lines: list[tuple[str, bytes]] = []
    for line in signatures[:-1].split("\n"):
        match = _SIGNATURE.fullmatch(line)
        if match is None:
            raise MalformedError("a signature line is not '— name base64'.")
        lines.append((match.group(1), decode_base64(match.group(2))))
    return Checkpoint(check_name(origin), int(size), digest), lines


def _signature(key: SigningKey, text: str) -> str:
    return base64.b64encode(key.verifier.hash + key.sign(text.encode())).decode()
