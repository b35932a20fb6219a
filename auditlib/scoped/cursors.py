"""A position in an answer as a text that the browser carries: it can neither make one, nor change it, nor read it.

    urlsafe base64 of nonce (12 bytes) || AES-256-GCM of recorded_at, sequence, row (three signed 64 bit, big-endian)

Encrypted and not only signed, because sequence and row would tell how many records lie between two events, those
outside the scope among them. What it was made for (trail, engagement, question) is bound to it as associated data.
The key is this process's own: after a restart a reader begins at the first page again.
"""

from __future__ import annotations

import base64
import secrets
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from auditlib.errors import MalformedError

Cursor = str
_NONCE_BYTES = 12  # NIST SP 800-38D 8.2: 96 bits, drawn at random for each
_LAYOUT = struct.Struct(">qqq")
_CHARS = 4 * (_NONCE_BYTES + _LAYOUT.size + 16) // 3 + 1  # of base64 without padding; 16: the tag of GCM
_cipher = AESGCM(AESGCM.generate_key(256))


class Position(NamedTuple):
    """Where a record stands in the order of answers: recorded_at in microseconds, then its place in the trail."""

    recorded: int
    sequence: int
    row: int


def make_cursor(position: Position, about: bytes) -> Cursor:
    """The text for a position in the answer to `about`."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    sealed = nonce + _cipher.encrypt(nonce, _LAYOUT.pack(*position), about)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def read_cursor(text: object, about: bytes) -> Position:
    """The position; MalformedError, always in the same words, for any text not made here for `about`."""
    try:
        if not isinstance(text, str) or len(text) > _CHARS:
            raise ValueError
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return Position(*_LAYOUT.unpack(_cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], about)))
    except (InvalidTag, ValueError, struct.error):
        raise MalformedError(
            "this is no position in this answer.", where="after", remedy="Begin at the first page."
        ) from None
