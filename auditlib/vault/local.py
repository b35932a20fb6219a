"""A vault in a local directory: create-only, read-only files, flushed to disk; the lock is not enforced.

    vault/
      trail/000000.json  catalogs/  batches/  seals/  checkpoints/  pages/
      .incoming/          files being written; never part of the trail

Whoever owns the directory can change it: this vault detects alteration, it cannot prevent it. Object storage under a
retention lock can.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from auditlib.errors import MalformedError, MismatchError, MissingError, UnavailableError
from auditlib.formats.layout import TRAIL, check_key
from auditlib.vault import MAX_DOCUMENT_BYTES, ExistsError, Lock, Stored

INCOMING = ".incoming"


class LocalVault:
    """A directory as a vault; see `auditlib.vault.Vault` for the contract."""

    lock_enforced = False

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.root = Path(path)
        self.url = str(path)
        if create:
            _make_folder(self.root)
        if not self.root.is_dir():
            raise MalformedError(
                "there is no such directory.",
                where=self.url,
                remedy="Give the vault's path, or make one with `auditlib init`.",
            )
        if not create and not (self.root / TRAIL).is_dir():
            raise MalformedError(
                "this directory is no vault: it has no trail/ folder.",
                where=self.url,
                remedy="Give the vault's path, or make one with `auditlib init`.",
            )

    def put(self, key: str, data: bytes, lock: Lock | None = None) -> None:
        """See Vault.put. A hard link from a finished, flushed, read-only file makes it appear whole or not at all."""
        check_key(key)
        incoming = self.root / INCOMING / secrets.token_hex(8)
        try:
            target = self._path(key)
            for folder in (incoming.parent, *reversed(target.parents)):
                if folder.is_relative_to(self.root) and not folder.exists():
                    _make_folder(folder)
            descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.link(incoming, target)  # the commit point: fails where the key is taken
            finally:
                incoming.unlink(missing_ok=True)
            _flush_folder(target.parent)
        except FileExistsError:
            raise ExistsError(
                "an object stands here already, and nothing is ever overwritten.", where=f"{self.url}: {key}"
            ) from None
        except OSError as error:
            raise _unavailable(error, f"{self.url}: {key}") from None

    def get(self, key: str, limit: int = MAX_DOCUMENT_BYTES, version: str = "") -> bytes:
        """See Vault.get."""
        with self._opened(key) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            # As much as there is: memory for the whole limit would be taken first. What grew meanwhile comes after.
            size = os.fstat(descriptor).st_size
            data = file.read(min(size, limit) + 1)
            if len(data) > size:
                data += file.read(limit + 1 - len(data))
            self._check_size(key, len(data), limit)
        return data

    def copy(self, key: str, limit: int, descriptor: int) -> int:
        """See Copying.copy."""
        done = 0
        with self._opened(key) as source:
            while done <= limit and (part := os.sendfile(descriptor, source, done, limit + 1 - done)):
                done += part
            self._check_size(key, done, limit)
        return done

    @contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        """The object's file, open for reading."""
        check_key(key)
        where = f"{self.url}: {key}"
        try:
            # O_NONBLOCK: a pipe put in an object's place must not hang the reader
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise MismatchError("this is no plain file.", where=where)
                yield descriptor
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            raise MissingError("there is no such object.", where=where) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO):
                raise MismatchError("this is no plain file.", where=where) from None
            raise _unavailable(error, where) from None

    def _check_size(self, key: str, size: int, limit: int) -> None:
        if size > limit:
            raise MismatchError(
                "the object is larger than it may be.",
                where=f"{self.url}: {key}",
                expected=f"at most {limit} bytes",
                found=self._path(key).lstat().st_size,
            )

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """See Vault.list."""
        start = self.root / check_key(prefix.rstrip("/")) if prefix else self.root
        try:
            if not self._leaves(start):
                yield from self._walk(start)
        except OSError as error:
            raise _unavailable(error, f"{self.url}: {prefix}") from None

    def folders(self, prefix: str) -> Sequence[str]:
        """See Foldered.folders."""
        start = self.root / check_key(prefix.rstrip("/"))
        try:
            if self._leaves(start) or not start.is_dir():
                return []
            with os.scandir(start) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError as error:
            raise _unavailable(error, f"{self.url}: {prefix}") from None

    def _leaves(self, folder: Path) -> bool:
        """Whether a symbolic link leads there: what is behind it is no part of the vault."""
        path = self.root
        for part in folder.relative_to(self.root).parts:
            path /= part
            if path.is_symlink():
                return True
        return False

    def _path(self, key: str) -> Path:
        """Where the object lies; MismatchError where a symbolic link on the way would lead out of the vault."""
        *folders, name = key.split("/")
        path = self.root
        for folder in folders:
            path /= folder
            if path.is_symlink():
                raise MismatchError("a symbolic link stands on the way to this object.", where=f"{self.url}: {key}")
        return path / name

    def _walk(self, folder: Path) -> Iterator[Stored]:
        if not folder.is_dir():
            return
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name + "/" * entry.is_dir(follow_symlinks=False))
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                if path != self.root / INCOMING:
                    yield from self._walk(path)
                continue
            plain = entry.is_file(follow_symlinks=False)
            size = entry.stat(follow_symlinks=False).st_size
            # A name that is no UTF-8 is listed with backslashes: a report must be able to print it.
            key = os.fsencode(path.relative_to(self.root)).decode(errors="backslashreplace")
            yield Stored(key, size, "" if plain else "not a plain file")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unavailable(error, str(folder)) from None
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unavailable(error: OSError, where: str) -> UnavailableError:
    return UnavailableError(
        f"the storage refused ({error.strerror or error}).",
        where=where,
        remedy="Check space and permissions.",
    )
