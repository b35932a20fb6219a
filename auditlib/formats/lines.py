"""Seals' bytes held as one piece, and what seals state as columns: what `page` and `scan` give, and `seals` keeps."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Any, overload

import msgspec
import numpy as np

from auditlib.errors import MalformedError

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

_LEAF = sha256(b"\x00")  # RFC 6962 2.1: leaf prefix 0x00


class Lines(Sequence[bytes]):
    """Some seals' bytes, one a line in `data`; line i lies from bounds[i] to bounds[i + 1] - 1, where a newline is.

    A line from elsewhere may hold a newline itself; no seal does.
    """

    def __init__(self, data: bytes, bounds: Numbers) -> None:
        self.data = data
        self.bounds = bounds

    @classmethod
    def split(cls, data: bytes) -> Lines:
        """The lines of a page; MalformedError where the last does not end in a newline."""
        if not data.endswith(b"\n"):
            raise MalformedError("the last line has no end.")
        bounds, end = [0], 0
        while (end := data.find(b"\n", end) + 1) > 0:
            bounds.append(end)
        return cls(data, np.array(bounds, np.int64))

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> Lines:
        """The same lines in one piece."""
        if isinstance(lines, Lines):
            return lines
        ends = np.cumsum([0, *(len(line) + 1 for line in lines)])
        return cls(b"\n".join([*lines, b""]), ends)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...

    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        return self.data[self.bounds[number] : self.bounds[number + 1] - 1]

    @property
    def longest(self) -> int:
        """The bytes of the longest line."""
        return int(np.diff(self.bounds).max()) - 1

    def hashes(self) -> tuple[bytes, bytes]:
        """The leaf hash of each line, and the SHA-256 of each; 32 bytes a line."""
        leaves, hashes = [], []
        view, fresh, leaf = memoryview(self.data), sha256().copy, _LEAF.copy
        for start, end in pairwise(self.bounds.tolist()):
            line = view[start : end - 1]  # both while it is in the processor's cache; a copied hash starts sooner
            plain = fresh()
            plain.update(line)
            hashes.append(plain.digest())
            prefixed = leaf()
            prefixed.update(line)
            leaves.append(prefixed.digest())
        return b"".join(leaves), b"".join(hashes)


class Named(msgspec.Struct):
    """Names and their counts, some a seal: seal i has entries starts[i] to starts[i + 1] of `codes` and `counts`.

    The name of an entry is names[code].
    """

    starts: Numbers  # one more than seals
    codes: Numbers
    names: list[str]  # each once
    counts: Numbers


class Page(msgspec.Struct):
    """Seals as columns, one row a seal. Times are microseconds since 1970 UTC; ranges are two columns, least, greatest.

    `leaves` and `hashes` hold 32 bytes a seal: the leaf hash of its bytes, and their plain SHA-256; `previous` holds 64
    hex digits a seal. Where a seal counts no actions (past 256 distinct), `actions` has none of it and `uncounted` says
    so. `spans` are the least and the greatest sequence number beside each source, 0 and 0 where it has none.
    """

    leaves: bytes
    hashes: bytes
    sequences: Numbers
    previous: bytes
    origins: list[str]  # each once
    trails: list[str]  # each once
    trail_codes: Numbers  # which of them
    sealed_at: Numbers
    occurred: Numbers
    recorded: Numbers
    events: Numbers
    sizes: Numbers
    actions: Named
    uncounted: Mask
    outcomes: Named
    sources: Named
    spans: Numbers
