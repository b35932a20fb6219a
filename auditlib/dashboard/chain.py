"""The chain of a trail as it is drawn: its newest seals as blocks, all of them over time, and the checkpoints.

    seal 24 --- seal 25 --- seal 26 --- checkpoint over 27 seals
    (a seal carries the hash of the one before; the checkpoint is signed over all of them)

A batch or seal in which a check found an error stands among the blocks, however old it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from itertools import pairwise

import msgspec

from auditlib.errors import AuditlibError
from auditlib.findings import Finding
from auditlib.formats import layout
from auditlib.formats.checkpoint import MAX_NOTE_BYTES
from auditlib.formats.times import DAY, format_time, parse_time
from auditlib.history import History, SealedBytes, fitting_checkpoint

BLOCKS = 12  # the newest seals, drawn one by one
FAULTY = 6  # older ones in which an error was found, drawn before them
BARS = 160  # of the strip over time
ROWS = 200  # of the table; every seal stands in the vault
CHECKPOINTS = 20  # the newest


class Block(msgspec.Struct, frozen=True):
    """One seal; `after`: how many stand before it that are not drawn, since the block before or the beginning."""

    sequence: int
    sealed_at: str
    recorded: tuple[str, str]
    events: int
    sha256: str
    previous: str
    checkpoint: bool  # whether one over exactly so many seals is at hand
    fault: bool
    after: int = 0


class Bar(msgspec.Struct, frozen=True):
    """Seals made in one span of time: how many, from when, and how high of 1."""

    place: int
    seals: int
    since: str
    height: float
    fault: bool


class Chain(msgspec.Struct, frozen=True):
    """The chain. `rows` are the newest first; `longest`: microseconds between two seals, and which came after."""

    size: int
    first: str
    last: str
    blocks: tuple[Block, ...]
    rows: tuple[Block, ...]
    bars: tuple[Bar, ...]
    places: int
    faults: tuple[int, ...]
    longest: tuple[int, int] | None
    beyond: int  # seals past the checkpoint: no evidence yet


class Signed(msgspec.Struct, frozen=True):
    """One checkpoint: over how many seals, when the newest of them was made, who signed; or why it cannot be read."""

    size: int
    sealed_at: str
    root: str
    signers: tuple[str, ...]
    trouble: str = ""


def chain_of(history: History, findings: Sequence[Finding]) -> Chain:
    """The chain under the checkpoint, which has a seal; errors among the findings mark theirs."""
    seals, size = history.seals, len(history.seals)
    faults = sorted({number for finding in findings if finding.severity == "error" for number in _about(finding, size)})
    shown = sorted({*range(max(0, size - BLOCKS), size), *faults[:FAULTY]})
    blocks = [
        _block(history, seals[number], number in faults, number - before - 1)
        for before, number in pairwise([-1, *shown])
    ]
    times = [parse_time(entry.seal.sealed_at) for entry in seals]
    waits = [(later - earlier, number) for number, (earlier, later) in enumerate(pairwise(times), 1)]
    bars, places = _bars(times, set(faults))
    return Chain(
        size=size,
        first=format_time(min(times)),
        last=format_time(max(times)),
        blocks=tuple(blocks),
        rows=tuple(_block(history, entry, entry.seal.sequence in faults) for entry in seals[: -ROWS - 1 : -1]),
        bars=bars,
        places=places,
        faults=tuple(faults),
        longest=max(waits, default=None),
        beyond=len(history.beyond),
    )


def checkpoints_of(history: History, size: int) -> tuple[Signed, ...]:
    """The newest checkpoints up to that of `size`, each read, its signatures checked; newest first."""
    keys = tuple(
        dict.fromkeys((*history.trusted, *(key for document in history.documents for key in document.verifiers)))
    )
    numbers = sorted((number for number in map(_checkpoint, history.stored) if 0 < number <= size), reverse=True)
    return tuple(_signed(history, number, keys) for number in numbers[:CHECKPOINTS])


def _signed(history: History, size: int, keys: tuple[object, ...]) -> Signed:
    at = history.seals[size - 1].seal.sealed_at
    try:
        fits = partial(fitting_checkpoint, keys=keys, size=size)  # type: ignore[arg-type]
        _, note = history.read(layout.checkpoint_key(size), MAX_NOTE_BYTES, fits)
    except AuditlibError as error:
        return Signed(size, at, "", (), error.message)
    return Signed(size, at, note.root.hex(), tuple(key.name for key in note.signers))


def _checkpoint(key: str) -> int:
    number = layout.number_of("checkpoint", key)
    return 0 if number is None else number


def _about(finding: Finding, size: int) -> list[int]:
    numbers = [layout.number_of(kind, finding.object) for kind in ("seal", "batch")]
    return [number for number in numbers if number is not None and number < size]


def _block(history: History, entry: SealedBytes, fault: bool, after: int = 0) -> Block:
    seal = entry.seal
    return Block(
        sequence=seal.sequence,
        sealed_at=seal.sealed_at,
        recorded=seal.recorded,
        events=seal.batch.events,
        sha256=sha256(entry.data).hexdigest(),
        previous=seal.previous,
        checkpoint=layout.checkpoint_key(seal.sequence + 1) in history.stored,
        fault=fault,
        after=after,
    )


def _bars(times: list[int], faults: set[int]) -> tuple[tuple[Bar, ...], int]:
    """Bars of whole days where that is few enough, else of equal spans."""
    first, last = min(times), max(times)
    width = DAY if (last // DAY - first // DAY) < BARS else (last - first) // BARS + 1
    start = first // DAY * DAY if width == DAY else first
    places = (last - start) // width + 1
    counted: dict[int, list[int]] = {}
    for number, at in enumerate(times):
        counted.setdefault((at - start) // width, []).append(number)
    most = max(map(len, counted.values()))
    bars = (
        Bar(
            place, len(numbers), format_time(start + place * width), len(numbers) / most, not faults.isdisjoint(numbers)
        )
        for place, numbers in sorted(counted.items())
    )
    return tuple(bars), places
