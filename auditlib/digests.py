"""Which id digests stand in two batches, over histories whose digests do not fit into memory (check 6).

    <temporary folder>/3f.ids        8 bytes a digest whose highest byte is 3f
    <temporary folder>/3f.batches    4 bytes each: the number of its batch

Up to a bound they are kept in memory; past it they go to files by their highest byte, each small enough to be sorted
alone. The digests are keyed with bytes drawn for one run, so that the files say nothing to anybody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from auditlib.errors import UnavailableError

IN_MEMORY = 4_194_304  # digests kept before they go to files: 32 MiB, and as much again while they are sorted
_PARTS = 256  # one a highest byte; 100 million events make files of 3 MB

Numbers = np.ndarray[Any, np.dtype[np.uint32]]
Digests = np.ndarray[Any, np.dtype[np.uint64]]


class DigestStore:
    """Digests with the numbers of their batches; a context manager, whose files are gone at its end."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._digests: list[Digests] = []
        self._numbers: list[tuple[int, int]] = []  # (batch, how many of its digests), in the same order
        self._count = 0
        self._folder: TemporaryDirectory[str] | None = None

    def __enter__(self) -> DigestStore:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, number: int, digests: Digests) -> None:
        """The digests (uint64) of one batch; UnavailableError where the disk refuses them."""
        self._digests.append(digests)
        self._numbers.append((number, len(digests)))
        self._count += len(digests)
        if self._count > self._in_memory:
            self._spill()

    def repeated(self) -> Iterator[tuple[Digests, Numbers]]:
        """Every digest that was added from more than one batch, once with each, a part of them at a time."""
        if self._folder is None:
            yield from _repeated(*self._joined())
            return
        self._spill()
        for part in range(_PARTS):
            ids, batches = _paths(self._folder.name, part)
            if ids.exists():
                try:
                    found = np.fromfile(ids, np.uint64), np.fromfile(batches, np.uint32)
                except OSError as error:
                    raise _unusable(error) from None
                yield from _repeated(*found)

    def _joined(self) -> tuple[Digests, Numbers]:
        """What is in memory."""
        numbers = np.array([number for number, _ in self._numbers], np.uint32)
        counts = [count for _, count in self._numbers]
        return np.concatenate([np.empty(0, np.uint64), *self._digests]), np.repeat(numbers, counts)

    def _spill(self) -> None:
        digests, numbers = self._joined()
        self._digests, self._numbers, self._count = [], [], 0
        parts = (digests >> np.uint64(56)).astype(np.uint8)
        order = np.argsort(parts, kind="stable")
        digests, numbers = digests[order], numbers[order]
        edges = np.concatenate(([0], np.cumsum(np.bincount(parts, minlength=_PARTS)))).tolist()
        try:
            if self._folder is None:
                self._folder = TemporaryDirectory(prefix="auditlib-ids-")
            for part in range(_PARTS):
                mine = slice(edges[part], edges[part + 1])
                if mine.start < mine.stop:
                    ids, batches = _paths(self._folder.name, part)
                    with ids.open("ab") as file:
                        digests[mine].tofile(file)
                    with batches.open("ab") as file:
                        numbers[mine].tofile(file)
        except OSError as error:
            raise _unusable(error) from None


def _paths(folder: str, part: int) -> tuple[Path, Path]:
    return Path(folder, f"{part:02x}.ids"), Path(folder, f"{part:02x}.batches")


def _repeated(digests: Digests, numbers: Numbers) -> Iterator[tuple[Digests, Numbers]]:
    ordered = np.sort(digests)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return
    rows = np.isin(digests, twice)
    digests, numbers = digests[rows], numbers[rows]
    order = np.lexsort((numbers, digests))
    digests, numbers = digests[order], numbers[order]
    fresh = np.ones(len(digests), bool)  # twice in one batch is that batch's own fault, and was told there
    fresh[1:] = (digests[1:] != digests[:-1]) | (numbers[1:] != numbers[:-1])
    digests, numbers = digests[fresh], numbers[fresh]
    rows = np.isin(digests, digests[1:][digests[1:] == digests[:-1]])
    if rows.any():
        yield digests[rows], numbers[rows]


def _unusable(error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the digests of the events' ids cannot be kept on the disk ({error.strerror}).",
        remedy="Verification needs 12 bytes an event there. Set TMPDIR to a folder that has them.",
    )
