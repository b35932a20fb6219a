"""The seals of a trail, held as columns: five years of five-minute batches in some 120 MB.

    seals = read_history(vault, keys).seals
    seals.events.sum()                    what all of them state: a column
    seals[525_599].seal.sealed_at         one of them: its page is read again, and compared with its leaf hash

A short history's bytes stay in memory. Those of a long one are read from the vault again when they are asked for, and
are believed only where their leaf hashes are those that led to the checkpoint's root.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import msgspec
import numpy as np

from auditlib.formats import layout, merkle
from auditlib.formats.lines import Lines, Mask, Named, Numbers, Page
from auditlib.formats.page import decode_seals, parse_page
from auditlib.formats.seal import Seal

Fetch = Callable[[Sequence[int], Sequence[bytes]], list[bytes]]  # (sequence numbers, leaf hashes) -> the seals' bytes

KEPT_BYTES = 16 * 1024 * 1024  # of seals kept in memory; decoded they take four times as much


class SealedBytes(msgspec.Struct, frozen=True):
    """A seal as read: its object, its exact bytes (the leaf of the checkpoint's tree)."""

    seal: Seal
    data: bytes


class Column:
    """Numbers that are added part by part and read as one array."""

    def __init__(self, kind: Any, width: tuple[int, ...] = ()) -> None:
        self._parts: list[Any] = [np.empty((0, *width), kind)]

    def add(self, part: Any) -> None:
        """Add rows; those that the kind cannot hold were refused before."""
        self._parts.append(part.astype(self._parts[0].dtype))

    @property
    def array(self) -> Any:
        """All rows."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]


class Coded:
    """Names and their counts, some a seal, each name written once: the actions, outcomes or sources of all seals."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._lengths, self._entries, self._counts = Column(np.int32), Column(np.int32), Column(np.int32)

    def add(self, named: Named) -> None:
        """Add a page's."""
        self._lengths.add(np.diff(named.starts))
        self._entries.add(_codes_of(self._codes, named.names)[named.codes])
        self._counts.add(named.counts)

    @property
    def names(self) -> list[str]:
        """Every name, in the order of its code."""
        return list(self._codes)

    @property
    def starts(self) -> Numbers:
        """Where each seal's entries begin, and the end of the last."""
        starts: Numbers = np.concatenate([[0], np.cumsum(self._lengths.array, dtype=np.int64)])
        return starts

    @property
    def entries(self) -> Any:
        """The code of the name of each entry (int32)."""
        return self._entries.array

    @property
    def counts(self) -> Any:
        """The count beside each entry (int32)."""
        return self._counts.array

    def of(self, name: str) -> Mask:
        """Of each entry, whether it is of that name."""
        of: Mask = self.entries == self._codes.get(name, -1)
        return of

    def having(self, wanted: Callable[[str], bool]) -> Mask:
        """Of each seal, whether one of its names is wanted."""
        chosen = np.array([wanted(name) for name in self._codes], np.bool_)
        found = np.concatenate([[0], np.cumsum(chosen[self.entries] if len(chosen) else self.entries)])[self.starts]
        having: Mask = np.diff(found) > 0
        return having


def _codes_of(codes: dict[str, int], names: Sequence[str]) -> Numbers:
    """The code of each of these names; those that are new get the next ones."""
    return np.array([codes.setdefault(name, len(codes)) for name in names], np.int64)


class Seals(Sequence[SealedBytes]):
    """Seals in order, one column a field; safe for several threads once they are read.

    Times are microseconds since 1970 UTC; a range is two columns, least and greatest.
    """

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._bounds = [0]  # of the blocks: what is read again together
        self._kept: OrderedDict[int, _Block] = OrderedDict()  # by number of the block, the last used last
        self._lock = threading.RLock()
        self._leaves, self._hashes = bytearray(), bytearray()
        self._trails: dict[str, int] = {}
        self._trail_codes, self._numbers = Column(np.int32), Column(np.int64)
        self._sealed_at, self._events, self._sizes = Column(np.int64), Column(np.int32), Column(np.int32)
        self._occurred, self._recorded = Column(np.int64, (2,)), Column(np.int64, (2,))
        self._uncounted, self._spans = Column(np.bool_), Column(np.int64, (2,))
        self.actions, self.outcomes, self.sources = Coded(), Coded(), Coded()

    # --- filling -----------------------------------------------------------------------------------------------------

    def extend(self, numbers: Sequence[int], lines: Sequence[bytes], page: Page | None = None) -> None:
        """Add seals by the sequence numbers they were found under; `page` is what `parse_page` made of the lines."""
        if not lines:
            return
        page = page or parse_page(lines)
        self._keep(len(self._bounds) - 1, _Block(Lines.of(lines)))
        self._bounds.append(self._bounds[-1] + len(lines))
        self._leaves += page.leaves
        self._hashes += page.hashes
        self._numbers.add(np.array(numbers, np.int64))
        self._trail_codes.add(_codes_of(self._trails, page.trails)[page.trail_codes])
        self._sealed_at.add(page.sealed_at)
        self._occurred.add(page.occurred)
        self._recorded.add(page.recorded)
        self._events.add(page.events)
        self._sizes.add(page.sizes)
        self._uncounted.add(page.uncounted)
        self._spans.add(page.spans)
        for coded, named in (
            (self.actions, page.actions),
            (self.outcomes, page.outcomes),
            (self.sources, page.sources),
        ):
            coded.add(named)

    # --- columns -----------------------------------------------------------------------------------------------------

    @property
    def numbers(self) -> Numbers:
        """The sequence number each was found under."""
        return self._numbers.array  # type: ignore[no-any-return]

    @property
    def sealed_at(self) -> Numbers:
        """When each was sealed."""
        return self._sealed_at.array  # type: ignore[no-any-return]

    @property
    def occurred(self) -> Numbers:
        """The range of occurred_at of each, (seals, 2)."""
        return self._occurred.array  # type: ignore[no-any-return]

    @property
    def recorded(self) -> Numbers:
        """The range of recorded_at of each, (seals, 2)."""
        return self._recorded.array  # type: ignore[no-any-return]

    @property
    def events(self) -> Any:
        """How many events each states (int32)."""
        return self._events.array

    @property
    def sizes(self) -> Any:
        """How many bytes the batch of each has (int32)."""
        return self._sizes.array

    @property
    def uncounted(self) -> Mask:
        """Whether each counts no actions, because it has too many distinct ones."""
        return self._uncounted.array  # type: ignore[no-any-return]

    @property
    def spans(self) -> Numbers:
        """The least and greatest sequence number beside each entry of `sources`; 0 and 0 where it has none."""
        return self._spans.array  # type: ignore[no-any-return]

    @property
    def begins(self) -> int:
        """The least occurred_at of all."""
        return int(self.occurred[:, 0].min())

    def within(self, since: int, until: int) -> Mask:
        """Whether something in each may have been recorded, or have occurred, from `since` until before `until`."""
        within: Mask = self.recorded_within(since, until)
        within |= (self.occurred[:, 0] < until) & (self.occurred[:, 1] >= since)
        return within

    def recorded_within(self, since: int, until: int) -> Mask:
        """The same of what was recorded alone."""
        recorded: Mask = (self.recorded[:, 0] < until) & (self.recorded[:, 1] >= since)
        return recorded

    @property
    def leaves(self) -> list[bytes]:
        """The leaf hashes."""
        return self._leaves_between(0, len(self))

    def root(self, size: int) -> bytes:
        """The Merkle root over the first `size` seals, a page at a time."""
        nodes = [
            merkle.root(self._leaves_between(start, min(start + layout.PAGE, size)))
            for start in range(0, size, layout.PAGE)
        ]
        return merkle.root(nodes)  # a full page is an aligned subtree

    def _leaves_between(self, first: int, end: int) -> list[bytes]:
        joined = bytes(self._leaves[32 * first : 32 * end])
        return [joined[at : at + 32] for at in range(0, len(joined), 32)]

    def leaf(self, number: int) -> bytes:
        """One seal's leaf hash, by its place."""
        return bytes(self._leaves[32 * number : 32 * number + 32])

    def hash_of(self, number: int) -> str:
        """The SHA-256 of one seal's bytes, in hex, by its place: the next one's `previous`."""
        return self._hashes[32 * number : 32 * number + 32].hex()

    @property
    def last_trail(self) -> str:
        """The hash of the trail document that the last seal names."""
        return list(self._trails)[int(self._trail_codes.array[-1])]

    @property
    def changes(self) -> list[tuple[int, str]]:
        """(place, hash of the trail document) of each seal that names another document than the one before it."""
        codes, names = self._trail_codes.array, list(self._trails)
        places = np.flatnonzero(np.diff(codes, prepend=-1))
        return [(int(place), names[codes[place]]) for place in places]

    def chosen(self, mask: Mask | None = None) -> Chosen:
        """Those that a mask names (without one: all), as their seals alone."""
        return Chosen(self, range(len(self)) if mask is None else np.flatnonzero(mask).tolist())

    # --- one by one --------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._bounds[-1]

    @overload
    def __getitem__(self, place: int) -> SealedBytes: ...

    @overload
    def __getitem__(self, place: slice) -> list[SealedBytes]: ...

    def __getitem__(self, place: int | slice) -> SealedBytes | list[SealedBytes]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        block = bisect_right(self._bounds, number) - 1
        return self._block(block)[number - self._bounds[block]]

    def __iter__(self) -> Iterator[SealedBytes]:
        for block in range(len(self._bounds) - 1):
            yield from self._block(block)

    def _block(self, number: int) -> list[SealedBytes]:
        """The seals of one block, from memory or from the vault again."""
        with self._lock:
            block = self._kept.get(number)
            if block is None:
                first, end = self._bounds[number], self._bounds[number + 1]
                lines = self._fetch(self.numbers[first:end].tolist(), self._leaves_between(first, end))
                block = _Block(Lines.of(lines))
                self._keep(number, block)
            self._kept.move_to_end(number)
            if not block.sealed:
                pairs = zip(decode_seals(block.lines), block.lines, strict=True)
                block.sealed = [SealedBytes(seal, data) for seal, data in pairs]
            return block.sealed

    def _keep(self, number: int, block: _Block) -> None:
        """Keep a block, and let go of those used longest ago; one that is no full page costs most to read again."""
        self._kept[number] = block
        total = sum(kept.size for kept in self._kept.values())
        for other, kept in list(self._kept.items()):
            if total <= KEPT_BYTES:
                return
            if other != number and len(kept.lines) == layout.PAGE:
                del self._kept[other]
                total -= kept.size


class _Block:
    """The bytes of some seals, and what they say once somebody asked."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.size = len(lines.data)
        self.sealed: list[SealedBytes] = []


class Chosen(Sequence[Seal]):
    """Some of the seals, in order, without their bytes; `places` are theirs among all."""

    def __init__(self, seals: Seals, places: Sequence[int]) -> None:
        self._seals = seals
        self.places = places

    @property
    def events(self) -> int:
        """How many events they state in all."""
        return int(self._seals.events[list(self.places)].sum())

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> Seal: ...

    @overload
    def __getitem__(self, place: slice) -> Chosen: ...

    def __getitem__(self, place: int | slice) -> Seal | Chosen:
        if isinstance(place, slice):
            return Chosen(self._seals, self.places[place])
        return self._seals[self.places[place]].seal

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
