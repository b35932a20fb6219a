"""Entries of the cache that this account made itself: each stands under a mark made with its local key.

    <cache>/<kind>/a0/a07c...55      32 bytes of HMAC-SHA256, then the entry

The mark is made over the tag of the kind, the name and the entry's SHA-256, with a key that this account alone can read
(localkey.py), and is compared before an entry is used. So whoever can write to the cache can cost time and mislead
nobody, and the folder may go at any time.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from auditlib.errors import AuditlibError
from auditlib.localkey import local_key
from auditlib.vault.cache import Cache

_MARK_BYTES = 32  # SHA-256, FIPS 180-4


class MarkedCache(Cache):
    """Entries of one kind by name, each under the mark of this account's key."""

    tag: bytes  # another one where the entry would be another for the same name
    most: int  # bytes of an entry
    _key = b""

    def get(self, name: str) -> bytes | None:
        """The entry of that name, its mark compared now; None where it is not here."""
        if not self._has_key():
            return None
        entry = self.read(name, _MARK_BYTES + self.most, lambda data: self._fits(name, data))
        return None if entry is None else entry[_MARK_BYTES:]

    def put(self, name: str, data: bytes) -> None:
        """Keep an entry that was just made."""
        if self._has_key():
            self.write(name, self._mark(name, data) + data)

    def _has_key(self) -> bool:
        if not self._key:
            try:
                self._key = local_key()
            except AuditlibError as error:
                self.refuse(f"{error.message}")
        return bool(self._key)

    def _fits(self, name: str, entry: bytes) -> bool:
        return hmac.compare_digest(entry[:_MARK_BYTES], self._mark(name, entry[_MARK_BYTES:]))

    def _mark(self, name: str, data: bytes) -> bytes:
        return hmac.digest(self._key, self.tag + name.encode() + sha256(data).digest(), "sha256")
