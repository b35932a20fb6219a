"""What a ScopedTrail answers: events within the scope, and nothing that counts others."""

from __future__ import annotations

import msgspec
import pyarrow as pa


class Page(msgspec.Struct, frozen=True):
    """Some events, newest recorded first.

    `rows`: the columns of a batch, without the fields left out. Their places in the trail are not here: two places
    tell how many events lie between, in the scope or not. `next`: the cursor of what follows, None at the end.
    `narrowed`: how the scope is narrower than the request, in sentences; empty where it is not.
    """

    rows: pa.Table
    next: str | None
    narrowed: tuple[str, ...]


class Found(msgspec.Struct, frozen=True):
    """One event in full: its record as canonical JSON, whether fields were left out of it, and its row as in a Page.

    `sequence` and `row` are for its proof alone, which by its nature tells the leaf's place: show them nowhere else.
    """

    record: bytes
    redacted: bool
    rows: pa.Table
    sequence: int
    row: int


class Facets(msgspec.Struct, frozen=True):
    """The values of one column and how many events have each, most first.

    `rest`: how many events have other values than those listed. A value of None: an action without a kind.
    """

    values: tuple[tuple[str | None, int], ...]
    distinct: int
    rest: int


class Bars(msgspec.Struct, frozen=True):
    """Events over `occurred_at`: bar i counts those from start + i * width until before the next (microseconds UTC).

    From the first to the last event that answers; no bars where none does.
    """

    start: int
    width: int
    counts: tuple[int, ...]


class Summary(msgspec.Struct, frozen=True):
    """All events that answer, whichever page of them is shown: how many, over time, and the values of some columns."""

    events: int
    bars: Bars
    facets: dict[str, Facets]


class Activity(msgspec.Struct, frozen=True):
    """Events over `occurred_at` for each source without its instance, by name; bars as in Bars, the same for all."""

    start: int
    width: int
    streams: tuple[tuple[str, tuple[int, ...]], ...]


class Stream(msgspec.Struct, frozen=True):
    """A source without its instance: its events, and when the first and the last occurred (microseconds UTC)."""

    name: str
    events: int
    first: int
    last: int


class Exported(msgspec.Struct, frozen=True):
    """A file: how many events, its SHA-256 in hex, the scope in words, how it is narrower than the request."""

    rows: int
    sha256: str
    scope: tuple[str, ...]
    narrowed: tuple[str, ...]


class Standing(msgspec.Struct, frozen=True):
    """What was verified, told to everybody: the origin, the checkpoint, who signed it, when the last seal was made.

    `size` counts seals. How many events the trail or a batch has, their actions and sources, and when they were
    recorded or occurred is not told: that counts or dates what may lie outside the scope.
    """

    origin: str
    size: int
    root: str
    keys: tuple[str, ...]
    last_sealed_at: str
