"""The bytes that are queried are the bytes that were hashed (DESIGN 5).

An object is read once, hashed, and kept where nobody can change it any more: in a sealed memfd (Linux), or, past a
budget, in a private 0600 file of this process. DuckDB reads it from there, by an explicit path. Where a cache is given
(`vault.cache`), a batch that it holds is read and hashed there, and the storage is not asked.

Stretches of many small batches are rolled up into one file (rollup.py), made of the same hashed bytes. Where that
cannot be done, one of its batches being gone for one, the batches that are asked for are read one by one.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import sys
import tempfile
import threading
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import islice
from operator import ge
from pathlib import Path

import msgspec
import pyarrow as pa

from auditlib.errors import AuditlibError, MismatchError, UnavailableError
from auditlib.formats.batch import parse_batch
from auditlib.formats.seal import MAX_BATCH_BYTES, Seal
from auditlib.rollup import ASKED_PART, name_of, pays, roll_up, rollup_cache, stretch_of
from auditlib.seals import Chosen
from auditlib.vault import Copying, Vault, is_remote
from auditlib.vault.cache import BatchCache

MAX_MEMORY_FILES = 256  # memfds; each takes a descriptor
MAX_MEMORY_BYTES = 1024 * 1024 * 1024  # bytes of batches kept in memory; the rest lies in private files
_READERS = 4  # threads; hashing and reading leave the interpreter's lock
_REMOTE_READERS = 16  # threads; each waits for the storage most of the time
_FEW = 8  # batches of a stretch; fewer are read one by one without a look for its roll-up
_AHEAD = 64  # batches read ahead of the one that is rolled up
_SEALS = (
    fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE if sys.platform == "linux" else 0
)

Progress = Callable[[int, int], None]


class Part(msgspec.Struct, frozen=True):
    """Files to read one after the other.

    Either each is a batch, of the sequence at its place in `sequences`; or, `rolled`, they are roll-ups, that say
    each row's sequence and row themselves, of the sequences in `extent`. Of these only `sequences` are asked, or all
    where there are none.
    """

    paths: list[str]
    sequences: list[int]
    rolled: bool = False
    extent: range = range(0)


class VerifiedFiles:
    """Batches hashed earlier by this process ("warm"), by sequence; freed when closed, or when nobody holds them.

    `progress`, if set, is told how many of the batches that a question needs were read, and of how many.
    """

    def __init__(self, vault: Vault, cache: BatchCache | None = None) -> None:
        self._vault = vault
        self._cache = cache
        self._rollups = rollup_cache()
        self._readers = _REMOTE_READERS if is_remote(vault) else _READERS
        self._paths: dict[int, str] = {}
        self._rolled: dict[range, str] = {}
        self._unrolled: set[range] = set()  # stretches that are no good as one file
        self._descriptors: list[int] = []
        self._memory = 0
        self._folders: list[Path] = []
        self._lock = threading.Lock()
        self._rolling = threading.Lock()  # one at a time: another thread is likely to need the same
        self.progress: Progress | None = None
        weakref.finalize(self, _free, self._descriptors, self._folders)

    def parts(self, seals: Sequence[Seal], every: Sequence[Seal]) -> list[Part]:
        """What to read for these batches, in the order of their sequences; `every` is the whole history they are of.

        Raises MismatchError (check 5) where a batch is not what its seal states.
        """
        numbers = _numbers(seals)
        if any(map(ge, numbers, islice(numbers, 1, None))):
            seals = sorted(seals, key=lambda seal: seal.sequence)
            numbers = _numbers(seals)
        groups = _grouped(numbers, len(every))
        wanted = [(stretch, len(places)) for stretch, places in groups if stretch and len(places) >= _FEW]
        self._roll([(s, asked) for s, asked in wanted if s not in self._rolled and s not in self._unrolled], every)
        rolled = dict(self._rolled)  # as it is now: another thread may go on
        single = [place for stretch, places in groups if stretch not in rolled for place in places]
        self._fetch_all([seals[place] for place in single if numbers[place] not in self._paths])
        parts: list[Part] = []
        for stretch, places in groups:
            asked = numbers[places.start : places.stop]
            if stretch in rolled:
                part = Part([rolled[stretch]], asked if len(asked) < len(stretch) else [], True, stretch)
            else:
                part = Part([self._paths[number] for number in asked], asked)
            last = parts[-1] if parts else None
            if last and (last.rolled, not last.sequences) == (part.rolled, not part.sequences):
                extent = range(last.extent.start, part.extent.stop)
                parts[-1] = Part(last.paths + part.paths, last.sequences + part.sequences, part.rolled, extent)
            else:
                parts.append(part)
        return parts

    def paths(self, seals: Sequence[Seal]) -> list[str]:
        """A path for each batch, in order; those not yet at hand are read, hashed and kept.

        Raises MismatchError (check 5) where a batch is not what its seal states.
        """
        self._fetch_all([seal for seal in seals if seal.sequence not in self._paths])
        return [self._paths[seal.sequence] for seal in seals]

    def read(self, seal: Seal) -> bytes:
        """One batch's verified bytes."""
        (path,) = self.paths([seal])
        return Path(path).read_bytes()

    def close(self) -> None:
        """Give memory and files back."""
        _free(self._descriptors, self._folders)
        self._paths, self._rolled, self._memory = {}, {}, 0

    def _tell(self, done: int, total: int) -> None:
        if self.progress:
            self.progress(done, total)

    # --- many at once ------------------------------------------------------------------------------------------

    def _roll(self, stretches: list[tuple[range, int]], every: Sequence[Seal]) -> None:
        """Have these stretches rolled up, of which so many batches are asked; those that cannot be stay as they are.

        What is wrong with a batch that nobody asked for is no fault of the answer; of one that was, reading it says so.
        """
        if not stretches:
            return
        total, done = sum(len(stretch) for stretch, _ in stretches), 0
        with self._rolling, ThreadPoolExecutor(self._readers) as pool:
            try:
                for stretch, asked in stretches:
                    seals = every[stretch.start : stretch.stop]
                    if not pays(seals):
                        self._unrolled.add(stretch)
                    elif stretch not in self._rolled:
                        made = self._told(seals, pool, done, total) if asked * ASKED_PART >= len(stretch) else None
                        self._roll_one(stretch, name_of(seals), made)
                    done += len(stretch)
                    self._tell(done, total)
            finally:
                for cache in (self._cache, self._rollups):
                    if cache:
                        cache.settle()

    def _roll_one(self, stretch: range, name: str, batches: Iterator[tuple[int, pa.Table]] | None) -> None:
        """From the cache; else of these batches, if any are given."""
        data = self._rollups.get(name) if self._rollups else None
        if data is None and batches is not None:
            try:
                data = roll_up(batches)
            except UnavailableError:
                return  # it may answer the next time
            except AuditlibError:
                self._unrolled.add(stretch)
                return
            if self._rollups:
                self._rollups.put(name, data)
        if data is not None:
            with self._lock:
                self._rolled[stretch] = self._kept(data, name, "batches that were rolled up")

    def _told(
        self, seals: Sequence[Seal], pool: ThreadPoolExecutor, done: int, total: int
    ) -> Iterator[tuple[int, pa.Table]]:
        """(sequence, verified rows) of each batch, a few read ahead; once they are rolled up they can go."""
        for start in range(0, len(seals), _AHEAD):
            some = seals[start : start + _AHEAD]
            yield from zip((seal.sequence for seal in some), pool.map(self._rows, some), strict=True)
            self._tell(done + start + len(some), total)

    def _rows(self, seal: Seal) -> pa.Table:
        return parse_batch(self._verified(seal)).table

    # --- one batch ---------------------------------------------------------------------------------------------

    def _verified(self, seal: Seal) -> bytes:
        """A batch's bytes, hashed now."""
        batch = seal.batch
        data = self._cache.get(batch.sha256, batch.size) if self._cache else None
        if data is None:
            data = self._vault.get(batch.object, MAX_BATCH_BYTES)
            _check_sealed(data, seal)
            if self._cache and len(data) == batch.size:  # by which it is asked for again
                self._cache.put(batch.sha256, data)
        return data

    def _fetch_all(self, cold: list[Seal]) -> None:
        if not cold:
            return
        try:
            with ThreadPoolExecutor(self._readers) as pool:
                for done, _ in enumerate(pool.map(self._fetch, cold), 1):
                    self._tell(done, len(cold))
        finally:
            if self._cache:
                self._cache.settle()

    def _fetch(self, seal: Seal) -> None:
        if isinstance(self._vault, Copying) and self._has_room(seal.batch.size):
            self._copy(self._vault, seal)
            return
        data = self._verified(seal)
        parse_batch(data, columns=[])  # no statistics, no other file's path: nothing an engine could be misled by
        with self._lock:
            if seal.sequence not in self._paths:
                self._paths[seal.sequence] = self._kept(data, f"{seal.sequence:012}", seal.batch.object)

    def _copy(self, vault: Copying, seal: Seal) -> None:
        """As _fetch, by one copy less: the bytes are hashed where they stay, after nobody can change them."""
        name, where = f"{seal.sequence:012}", seal.batch.object
        try:
            descriptor = os.memfd_create(f"auditlib-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise _unkept(error, where) from None
        try:
            size = vault.copy(where, MAX_BATCH_BYTES, descriptor)
            try:
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
                data = memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ) if size else b"")
            except OSError as error:
                raise _unkept(error, where) from None
            _check_sealed(data, seal)
            parse_batch(data, columns=[])
            with self._lock:
                if seal.sequence in self._paths:
                    return
                if not self._has_room(size):  # other threads were sooner
                    self._paths[seal.sequence] = self._kept(data, name, where)
                    return
                self._descriptors.append(descriptor)
                self._memory += size
                self._paths[seal.sequence], descriptor = f"/proc/self/fd/{descriptor}", -1
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _kept(self, data: bytes | memoryview, name: str, where: str) -> str:
        try:
            return self._keep(data, name)
        except OSError as error:
            raise _unkept(error, where) from None

    def _has_room(self, size: int) -> bool:
        """Whether a file of so many bytes is kept in memory."""
        return bool(_SEALS) and len(self._descriptors) < MAX_MEMORY_FILES and self._memory + size <= MAX_MEMORY_BYTES

    def _keep(self, data: bytes | memoryview, name: str) -> str:
        if self._has_room(len(data)):
            descriptor = os.memfd_create(f"auditlib-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            self._descriptors.append(descriptor)
            self._memory += len(data)
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(data)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            return f"/proc/self/fd/{descriptor}"
        if not self._folders:
            self._folders.append(Path(tempfile.mkdtemp(prefix="auditlib-")))  # 0700
        path = self._folders[0] / f"{name}.parquet"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
        return str(path)


def _check_sealed(data: bytes | memoryview, seal: Seal) -> None:
    found = sha256(data).hexdigest()
    if found != seal.batch.sha256:
        raise MismatchError(
            "the batch is not the one that was sealed (check 5).",
            where=seal.batch.object,
            remedy="Run `auditlib verify`.",
            expected=seal.batch.sha256,
            found=found,
        )


def _unkept(error: OSError, where: str) -> UnavailableError:
    return UnavailableError(
        f"the verified copy of a batch cannot be kept ({error.strerror}).",
        where=where,
        remedy="Close trails that are done with, or make room in the temporary folder.",
    )


def _numbers(seals: Sequence[Seal]) -> list[int]:
    """Their sequences; of those chosen from a long history without reading any of them."""
    return list(seals.places) if isinstance(seals, Chosen) else [seal.sequence for seal in seals]


def _grouped(numbers: list[int], size: int) -> list[tuple[range | None, range]]:
    """Ascending sequences by the stretch of a history of `size` seals that they belong to: (stretch, their places)."""
    groups: list[tuple[range | None, range]] = []
    start = 0
    while start < len(numbers):
        stretch = stretch_of(numbers[start], size)
        end = bisect_left(numbers, stretch.stop, start) if stretch else len(numbers)
        groups.append((stretch, range(start, end)))
        start = end
    return groups


def _free(descriptors: list[int], folders: list[Path]) -> None:
    while descriptors:
        os.close(descriptors.pop())
    while folders:
        shutil.rmtree(folders.pop(), ignore_errors=True)
