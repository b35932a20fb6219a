"""The bytes that are queried are the bytes that were hashed (DESIGN 5).

An object is read once, hashed, and kept where nobody can change it any more: in a sealed memfd (Linux), or, past a
budget, in a private 0600 file of this process. DuckDB reads it from there, by an explicit path. Where a cache is given
(`vault.cache`), a batch that it holds is read and hashed there, and the storage is not asked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

from auditlib.errors import MismatchError, UnavailableError
from auditlib.formats.batch import parse_batch
from auditlib.formats.seal import MAX_BATCH_BYTES, Seal
from auditlib.vault import Vault
from auditlib.vault.cache import BatchCache

MAX_MEMORY_FILES = 256  # memfds; each takes a descriptor
MAX_MEMORY_BYTES = 1024 * 1024 * 1024  # bytes of batches kept in memory; the rest lies in private files
_READERS = 4  # threads; hashing and reading leave the interpreter's lock
_SEALS = (
    fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE if sys.platform == "linux" else 0
)


class VerifiedFiles:
    """Batches hashed earlier by this process ("warm"), by sequence; freed when closed, or when nobody holds them."""

    def __init__(self, vault: Vault, cache: BatchCache | None = None) -> None:
        self._vault = vault
        self._cache = cache
        self._paths: dict[int, str] = {}
        self._descriptors: list[int] = []
        self._memory = 0
        self._folders: list[Path] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _free, self._descriptors, self._folders)

    def paths(self, seals: Sequence[Seal], progress: Callable[[int, int], None] | None = None) -> list[str]:
        """A path for each batch, in order; those not yet at hand are read, hashed and kept.

        Raises MismatchError (check 5) where a batch is not what its seal states.
        """
        cold = [seal for seal in seals if seal.sequence not in self._paths]
        try:
            with ThreadPoolExecutor(_READERS) as pool:
                for done, _ in enumerate(pool.map(self._fetch, cold), 1):
                    if progress:
                        progress(done, len(cold))
        finally:
            if self._cache and cold:
                self._cache.settle()
        return [self._paths[seal.sequence] for seal in seals]

    def read(self, seal: Seal) -> bytes:
        """One batch's verified bytes."""
        (path,) = self.paths([seal])
        return Path(path).read_bytes()

    def close(self) -> None:
        """Give memory and files back."""
        _free(self._descriptors, self._folders)
        self._paths, self._memory = {}, 0

    def _fetch(self, seal: Seal) -> None:
        batch = seal.batch
        data = self._cache.get(batch.sha256, batch.size) if self._cache else None
        if data is None:
            data = self._vault.get(batch.object, MAX_BATCH_BYTES)
            found = sha256(data).hexdigest()
            if found != batch.sha256:
                raise MismatchError(
                    "the batch is not the one that was sealed (check 5).",
                    where=batch.object,
                    remedy="Run `auditlib verify`.",
                    expected=batch.sha256,
                    found=found,
                )
            if self._cache and len(data) == batch.size:  # by which it is asked for again
                self._cache.put(batch.sha256, data)
        parse_batch(data, columns=[])  # no statistics, no other file's path: nothing an engine could be misled by
        with self._lock:
            if seal.sequence not in self._paths:
                try:
                    self._paths[seal.sequence] = self._keep(data, seal.sequence)
                except OSError as error:
                    raise UnavailableError(
                        f"the verified copy of a batch cannot be kept ({error.strerror}).",
                        where=batch.object,
                        remedy="Close trails that are done with, or make room in the temporary folder.",
                    ) from None

    def _keep(self, data: bytes, sequence: int) -> str:
        if _SEALS and len(self._descriptors) < MAX_MEMORY_FILES and self._memory + len(data) <= MAX_MEMORY_BYTES:
            descriptor = os.memfd_create(f"auditlib-{sequence}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            self._descriptors.append(descriptor)
            self._memory += len(data)
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(data)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            return f"/proc/self/fd/{descriptor}"
        if not self._folders:
            self._folders.append(Path(tempfile.mkdtemp(prefix="auditlib-")))  # 0700
        path = self._folders[0] / f"{sequence:012}.parquet"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        return str(path)


def _free(descriptors: list[int], folders: list[Path]) -> None:
    while descriptors:
        os.close(descriptors.pop())
    while folders:
        shutil.rmtree(folders.pop(), ignore_errors=True)
