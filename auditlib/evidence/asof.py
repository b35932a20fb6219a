"""A vault as it stood at a checkpoint: whatever came later is left out, so that the same checkpoint says the same.

    seen = as_of(trail.history)         batches and seals up to the checkpoint; nothing that was put after it
    verify(seen, ...)                   names no path and no bucket: its url is "the vault"

What an intruder puts over an object that belongs to the checkpoint is still seen; a lock that was lengthened later,
too: storage says what it says today.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from auditlib.errors import MismatchError
from auditlib.formats import layout
from auditlib.history import History
from auditlib.locks import Locking
from auditlib.vault import MAX_DOCUMENT_BYTES, Lock, Stored, Vault

CANARIES = "probe/"  # where `auditlib probe` keeps its own objects, which hold no evidence
PLACE = "the vault"  # what evidence says instead of a path or a bucket


def as_of(history: History) -> AsOf:
    """The vault of a history, up to the checkpoint that was read."""
    shows = _belongs(history)
    vault = history.vault
    return LockedAsOf(vault, shows, vault) if isinstance(vault, Locking) else AsOf(vault, shows)


class AsOf:
    """A vault that lists only what belongs to a checkpoint; see `auditlib.vault.Vault`. It is never written to."""

    url = PLACE

    def __init__(self, vault: Vault, shows: Callable[[str], bool]) -> None:
        self.shows = shows  # whether an object of this key belongs to the checkpoint
        self.lock_enforced = vault.lock_enforced
        self._vault = vault

    def put(self, key: str, data: bytes, lock: Lock | None = None) -> None:
        """Refused."""
        raise MismatchError("a vault seen as of a checkpoint is not written to.", where=key)

    def get(self, key: str, limit: int = MAX_DOCUMENT_BYTES, version: str = "") -> bytes:
        """See Vault.get."""
        return self._vault.get(key, limit, version)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """See Vault.list."""
        return (stored for stored in self._vault.list(prefix) if self.shows(stored.key))


class LockedAsOf(AsOf):
    """The same for storage that keeps locks; each lock is asked for once."""

    def __init__(self, vault: Vault, shows: Callable[[str], bool], locking: Locking) -> None:
        super().__init__(vault, shows)
        self.protection = locking.protection
        self._locking = locking
        self._locks: dict[tuple[str, str], Lock | None] = {}

    def lock_of(self, key: str, version: str) -> Lock | None:
        """The lock of one object version."""
        place = key, version
        if place not in self._locks:
            self._locks[place] = self._locking.lock_of(key, version)
        return self._locks[place]


def _belongs(history: History) -> Callable[[str], bool]:
    """Which keys stood in the vault when its checkpoint was signed, by the number that each names."""
    size = history.checkpoint.size if history.checkpoint else 0
    current = history.document_of(history.seals[-1].seal) if history.seals else None
    later = [document for document in history.documents if current and document.n > current.n]
    kept = {document.catalog for document in history.documents if document not in later}
    catalogs = {layout.catalog_key(document.catalog) for document in later if document.catalog not in kept}
    documents = {layout.trail_key(document.n) for document in later}

    def shows(key: str) -> bool:
        if key.startswith(CANARIES) or key in catalogs or key in documents:
            return False
        numbers = {kind: layout.number_of(kind, key) for kind in ("seal", "batch", "checkpoint", "page")}
        return (
            (numbers["seal"] is None or numbers["seal"] < size)
            and (numbers["batch"] is None or numbers["batch"] < size)
            and (numbers["checkpoint"] is None or numbers["checkpoint"] <= size)
            and (numbers["page"] is None or (numbers["page"] + 1) * layout.PAGE <= size)
        )

    return shows
