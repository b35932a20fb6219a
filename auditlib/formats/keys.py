"""Ed25519 keys as C2SP signed notes name them: `name+<8 hex of the key hash>+<base64 of 0x01 || public key>`.

    acme.example/audit+cd0ca78c+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4

The secret half is the same line with `PRIVATE+KEY+` before it and the 32 secret bytes in place of the public ones,
as Go's `sumdb/note` writes it.
"""

from __future__ import annotations

import base64
import binascii
import re
from hashlib import sha256

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from auditlib.errors import MalformedError

ALGORITHM = b"\x01"  # C2SP signed-note: Ed25519
KEY_BYTES = 32  # RFC 8032 5.1.5
KEY_HASH_BYTES = 4  # C2SP signed-note: first bytes of SHA-256(name || 0x0A || key)
SIGNATURE_BYTES = 64  # RFC 8032 5.1.6
SECRET_PREFIX = "PRIVATE+KEY+"  # noqa: S105 - a public marker, golang.org/x/mod/sumdb/note
NAME = re.compile(r"[!-*,-~]{1,255}")  # DESIGN 4.5: visible ASCII, no space, no +


class VerifierKey(msgspec.Struct, frozen=True):
    """The public half: what an auditor holds."""

    name: str
    public: bytes

    @property
    def hash(self) -> bytes:
        """The 4 bytes by which a signature line names its key."""
        return sha256(self.name.encode() + b"\n" + ALGORITHM + self.public).digest()[:KEY_HASH_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(ALGORITHM + self.public).decode()}"

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the signature over the message is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class SigningKey:
    """The secret half: what the sealer holds. It never shows its secret in a repr or an error."""

    def __init__(self, name: str, secret: bytes) -> None:
        check_name(name)
        self._secret = secret
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.verifier = VerifierKey(name, self._key.public_key().public_bytes_raw())

    @property
    def name(self) -> str:
        """The key's name: the origin it signs for."""
        return self.verifier.name

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over the message."""
        return self._key.sign(message)

    def secret_text(self) -> str:
        """The one line of the key file; whoever reads it can sign."""
        key = base64.b64encode(ALGORITHM + self._secret).decode()
        return f"{SECRET_PREFIX}{self.name}+{self.verifier.hash.hex()}+{key}"

    def __repr__(self) -> str:
        return f"SigningKey({self.name!r}, secret not shown)"


def parse_verifier_key(text: str) -> VerifierKey:
    """A verifier key line -> VerifierKey; MalformedError says what is off."""
    name, key_hash, public = _parts(text, "a verifier key")
    key = VerifierKey(name, public)
    if key.hash != key_hash:
        raise MalformedError(
            f"the verifier key's hash is {key_hash.hex()}, but its name and key give {key.hash.hex()}."
        )
    return key


def parse_signing_key(text: str) -> SigningKey:
    """A key file's line -> SigningKey; its errors never repeat the text."""
    if not text.startswith(SECRET_PREFIX):
        raise MalformedError("this is no signing key; the file made by `auditlib keygen` ends in .key.")
    name, key_hash, secret = _parts(text.removeprefix(SECRET_PREFIX), "a signing key")
    key = SigningKey(name, secret)
    if key.verifier.hash != key_hash:
        raise MalformedError("the signing key's hash does not fit its name and secret; the file is damaged.")
    return key


def check_name(name: str) -> str:
    """A key name or origin: 1 to 255 visible ASCII characters without `+` (DESIGN 4.5)."""
    if not NAME.fullmatch(name):
        raise MalformedError(
            f"{name[:80]!r} is no origin; write 1 to 255 visible ASCII characters without space or '+', "
            "like acme.example/audit."
        )
    return name


def decode_base64(text: str) -> bytes:
    """Base64 -> bytes; MalformedError unless it re-encodes to itself."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("not base64.") from None
    if base64.b64encode(data).decode() != text:
        raise MalformedError("base64 that does not re-encode to itself.")
    return data


def _parts(text: str, what: str) -> tuple[str, bytes, bytes]:
    parts = text.strip().split("+", 2)
    if len(parts) != 3 or not re.fullmatch(r"[0-9a-f]{8}", parts[1]):
        raise MalformedError(f"this is not {what}; it looks like acme.example/audit+cd0ca78c+AQOhB7...")
    try:
        key = decode_base64(parts[2])
    except MalformedError:
        raise MalformedError(f"the key part of {what} is not base64.") from None
    if key[:1] != ALGORITHM or len(key) != 1 + KEY_BYTES:
        raise MalformedError(f"{what} must be Ed25519: 0x01 and 32 bytes.")
    return check_name(parts[0]), bytes.fromhex(parts[1]), key[1:]
