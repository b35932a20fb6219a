"""Locked storage: what a vault does, whatever keeps it (DESIGN 4.6).

What is immutable: everything. What may be written: a key that is not there yet. Each method's docstring is the
contract that the local and the object-storage vault both keep; one behaviour suite in the tests runs over both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec

from auditlib.errors import MalformedError, MismatchError

MAX_DOCUMENT_BYTES = 1024 * 1024  # bytes read at most for any object but a batch or a page


class ExistsError(MismatchError):
    """An object stands at this key already; nothing is ever overwritten."""


class Lock(msgspec.Struct, frozen=True):
    """A retention lock: its mode ('' for none), until when (microseconds since 1970 UTC), and a legal hold."""

    mode: str
    until: int
    hold: bool = False


class Protection(msgspec.Struct, frozen=True):
    """What storage says of its own locking: versions kept, locks taken, and what it locks by default (mode, days)."""

    versioning: bool
    locking: bool
    default_mode: str = ""
    default_days: int = 0


class Stored(msgspec.Struct, frozen=True):
    """One object version as the storage lists it; `odd` says what is odd about it ('' if nothing).

    Storage that keeps versions gives each a `version`; a delete `marker` is one without bytes. `modified` (microseconds
    since 1970 UTC) and `owner` are the storage's word on when and who.
    """

    key: str
    size: int
    odd: str = ""
    version: str = ""
    marker: bool = False
    modified: int = 0
    owner: str = ""


class Vault(Protocol):
    """Where a trail is kept."""

    url: str
    lock_enforced: bool  # whether the storage itself refuses to change or delete before the retention ends

    def put(self, key: str, data: bytes, lock: Lock | None = None) -> None:
        """Store `data` durably at a new key, whole or not at all; ExistsError if the key is taken.

        Storage that enforces locks locks it and reads the lock back: MismatchError if it was dropped.
        """

    def get(self, key: str, limit: int = MAX_DOCUMENT_BYTES, version: str = "") -> bytes:
        """The object's bytes (of one version; else the oldest); MissingError if there is none.

        MismatchError past `limit` bytes or if it is no file.
        """

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Every version and delete marker below the prefix, sorted by key, the oldest of a key first."""


def is_remote(vault: Vault) -> bool:
    """Whether each read is a way over the network, so that reading several at once, and keeping batches, pays."""
    return vault.url.startswith("s3://")


def address_of(vault: Vault) -> str:
    """How a process with another working folder opens it."""
    return vault.url if is_remote(vault) else str(Path(vault.url).absolute())


@runtime_checkable
class Versioned(Protocol):
    """Storage that keeps every version: an object planted where one is to be written does not stop the writer.

    `fits` raises AuditlibError for bytes that nobody with the key made. Readers take the oldest version that fits.
    """

    def put_past(self, key: str, data: bytes, lock: Lock, fits: Callable[[bytes], Any]) -> None:
        """As Vault.put, but past versions that do not fit; ExistsError where an older one does."""

    def get_past(self, key: str, limit: int, fits: Callable[[bytes], Any]) -> bytes:
        """The oldest version that fits; MissingError if none does."""


@runtime_checkable
class Foldered(Protocol):
    """Storage that can name the folders below a prefix without listing what is in them."""

    def folders(self, prefix: str) -> Sequence[str]:
        """The names of the folders right below a prefix (`seals/`), sorted."""


@runtime_checkable
class Copying(Protocol):
    """Storage whose bytes the system itself can copy, without a way through this process."""

    def copy(self, key: str, limit: int, descriptor: int) -> int:
        """Append the object's bytes to an open file, and return how many; raises as Vault.get does."""


def folders_of(vault: Vault, prefix: str) -> Sequence[str]:
    """The names of the folders right below a prefix, sorted; where the storage cannot name them, from its listing."""
    if isinstance(vault, Foldered):
        return vault.folders(prefix)
    return sorted({rest[0] for stored in vault.list(prefix) if (rest := stored.key[len(prefix) :].split("/"))[1:]})


def open_vault(url: str, *, create: bool = False) -> Vault:
    """A path, a `file://` or an `s3://bucket/prefix` URL -> its Vault.

    MalformedError where there is none, unless `create` asks to make a directory. Each kind is loaded when it is used,
    by name, so that reading a directory needs no library for object storage.
    """
    if url.startswith("s3://"):
        try:
            vault: Vault = import_module("auditlib.vault.s3").S3Vault(url)
        except ModuleNotFoundError:
            raise MalformedError(
                "object storage needs boto3.", where=url, remedy="pip install 'auditlib[s3]'"
            ) from None
        return vault
    if not url.removeprefix("file://") or ("://" in url and not url.startswith("file://")):
        raise MalformedError(
            "no vault can be kept there.", where=url, remedy="Give a path, file:// or s3://bucket/prefix."
        )
    local: Vault = import_module("auditlib.vault.local").LocalVault(url.removeprefix("file://"), create=create)
    return local
