"""What was fetched or made before, kept on the reader's own disk and believed no more than the storage.

    ~/.cache/auditlib/      $AUDITLIB_CACHE, else auditlib below $XDG_CACHE_HOME or ~/.cache (XDG base directories)
      batches/
        3f/3f29...c1        one batch, named by the SHA-256 that its seal states; folders 0700, files 0600
      rollups/
        a0/a07c...55        many small batches in one file, see rollup.py
      pages/
        5e/5e02...91        what a full page of seals states, as columns, see pagecache.py

A batch is asked for by the SHA-256 in a seal of the verified chain, read whole and hashed; a roll-up, or a page's
columns, are read whole and held against the mark that this account's own key put on them (marked.py): whoever can write
here can cost time, and mislead nobody.
What does not fit is removed and fetched or made again. The folder may go at any time.

Listing, trail documents, checkpoints, seals and pages are read from the storage at every opening; verification reads
everything there, because what the storage holds is its question. A batch that is gone from the storage can so still
answer a query from here. Batches are kept of object storage alone: a directory would gain nothing.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from auditlib.errors import MalformedError
from auditlib.vault import Vault, is_remote

DEFAULT_BYTES = 10 * 1024**3  # kept in all, unless AUDITLIB_CACHE_BYTES says otherwise
_OTHERS_WRITE = 0o022  # group and others may write
_KINDS = ("batches", "rollups", "pages")  # the folders that share the limit
_TRIM_PART = 16  # of the limit: after so much was added, the size is looked at again, within a query too


def batch_cache(vault: Vault) -> BatchCache | None:
    """The cache for a vault in object storage; None for any other, and where cache_place gives none."""
    place = cache_place() if is_remote(vault) else None
    return BatchCache(*place) if place else None


def cache_place() -> tuple[Path, int] | None:
    """The folder and how many bytes may lie in it; None where the limit is 0, or where no home is known.

    MalformedError where AUDITLIB_CACHE_BYTES is no number of bytes.
    """
    text = os.environ.get("AUDITLIB_CACHE_BYTES") or str(DEFAULT_BYTES)
    if not (text.isascii() and text.isdecimal()):
        raise MalformedError(
            "this is no number of bytes.", where="AUDITLIB_CACHE_BYTES", remedy="Give a whole number; 0 for no cache."
        )
    try:
        return (_folder(), int(text)) if int(text) else None
    except RuntimeError:
        message = "no home folder is known for the cache, so that every query reads the storage. Set AUDITLIB_CACHE."
        warnings.warn(message, UserWarning, stacklevel=2)
        return None


def _folder() -> Path:
    chosen = os.environ.get("AUDITLIB_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auditlib"


class Cache:
    """Entries of one kind by name, at most `limit` bytes of all kinds; safe for several threads and processes at once.

    No method fails a query: what cannot be read is not there, what cannot be written is not kept; `settle` tells it.
    While a query is under way the limit may be passed by a sixteenth for each process.
    """

    kind: str  # its folder, one of _KINDS
    wrong: str  # what is said of entries that did not fit
    unkept: str  # and where nothing can be written

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder / self.kind
        self.limit = limit
        self._added = 0  # bytes since the size was looked at
        self._discarded = 0  # entries that were not what their name says, since the last warning
        self._refused = ""  # why nothing more is written
        self._told = False  # of that
        self._lock = threading.Lock()

    def read(self, name: str, most: int, fits: Callable[[bytes], bool]) -> bytes | None:
        """The entry, if it has at most `most` bytes and fits; one that does not is discarded."""
        path = self._path(name)
        try:
            # O_NONBLOCK: a pipe put in an entry's place must not hang the reader
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                data = _read(descriptor, most)
                if fits(data):
                    with suppress(OSError):  # a cache that can only be read
                        os.utime(descriptor)
                    return data
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            pass  # a symbolic link, a socket, no permission, a disk that cannot be read
        self._discard(path)
        return None

    def write(self, name: str, data: bytes) -> None:
        """Keep an entry; it appears whole or not at all."""
        if self._refused or len(data) > self.limit:
            return
        path = self._path(name)
        part = path.with_name(f".{secrets.token_hex(8)}")
        try:
            self._make_folder(path.parent)
            try:
                descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                part.rename(path)
            finally:
                part.unlink(missing_ok=True)
        except FileNotFoundError:
            return  # somebody empties the cache meanwhile
        except OSError as error:
            self.refuse(error.strerror or str(error))
            return
        with self._lock:
            self._added += len(data)
            if self._added > self.limit // _TRIM_PART:
                self._trim()

    def refuse(self, why: str) -> None:
        """Write nothing more; `settle` says why."""
        self._refused = why

    def settle(self) -> None:
        """After a query: back within the limit, and one UserWarning for each kind of trouble there was."""
        with self._lock:
            if self._added:
                self._trim()
            count, self._discarded = self._discarded, 0
            refused, self._told = self._refused if not self._told else "", bool(self._refused)
        if count:
            warnings.warn(f"{count:,} {self.wrong} ({self.folder}).", UserWarning, stacklevel=2)
        if refused:
            warnings.warn(f"{self.unkept} ({self.folder}: {refused}).", UserWarning, stacklevel=2)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _make_folder(self, folder: Path) -> None:
        """Make what is missing, 0700; refuse a place where another user could swap a folder for a symbolic link."""
        above = self.folder.parent
        above.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for status in (above.stat(), self.folder.lstat()):
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
                raise PermissionError(errno.EPERM, "it is another user's, or others may write there")
        folder.mkdir(mode=0o700, exist_ok=True)

    def _discard(self, path: Path) -> None:
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            self.refuse(error.strerror or str(error))  # the query goes on all the same
            return
        with self._lock:
            self._discarded += 1

    def _trim(self) -> None:
        """Remove the least recently read until the limit holds; no process waits for another.

        Of two at it, both go down the same list and count what the other removed: no more goes than must.
        """
        self._added = 0
        entries = sorted(entry for kind in _KINDS for entry in _entries(self.folder.with_name(kind)))
        excess = sum(size for _, _, size in entries) - self.limit
        for _, path, size in entries:
            if excess <= 0:
                return
            with suppress(OSError):
                Path(path).unlink(missing_ok=True)
                excess -= size


class BatchCache(Cache):
    """Batches by SHA-256."""

    kind = "batches"
    wrong = "cached batch(es) were not what was sealed; they were discarded and fetched again"
    unkept = "batches cannot be kept in the cache, so that the storage is read again for every query"

    def get(self, digest: str, size: int) -> bytes | None:
        """The batch with this SHA-256 (hex) and size in bytes, hashed now; None where it is not here."""
        return self.read(digest, size, lambda data: len(data) == size and sha256(data).hexdigest() == digest)

    def put(self, digest: str, data: bytes) -> None:
        """Keep a batch whose SHA-256 (hex) was just compared."""
        self.write(digest, data)


def _read(descriptor: int, most: int) -> bytes:
    """The bytes of a plain file of at most so many; nothing of any other."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > most:
        return b""
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return file.read(most + 1)


def _entries(folder: Path) -> Iterator[tuple[int, str, int]]:
    """(when last read in nanoseconds, path, bytes) of every file, unfinished ones too; others may be at work here."""
    for path in _listed(folder):
        for name in _listed(path):
            with suppress(OSError):
                status = os.lstat(name)
                yield status.st_mtime_ns, name, status.st_size


def _listed(folder: Path | str) -> list[str]:
    try:
        with os.scandir(folder) as listing:
            return [entry.path for entry in listing]
    except OSError:
        return []
