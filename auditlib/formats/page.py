"""Many seals at once: the lines of a page -> their hashes and what their fields state, as columns.

    {"batch":{"events":50000,...},...,"sequence":1024,...}        one seal a line, canonical bytes
    {"batch":{"events":61200,...},...,"sequence":1025,...}

Every rule of `formats.seal` holds here too. The bytes are compared seal by seal; what the fields state is judged for
all of them in one go. Where anything is wrong, `parse_seal` is asked, one after the other, and says what.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from auditlib.errors import MalformedError
from auditlib.formats.canonical import MAX_INTEGER
from auditlib.formats.event import NAME, OUTCOMES, RECORD_SCHEMA
from auditlib.formats.keys import check_name
from auditlib.formats.layout import BATCHES
from auditlib.formats.seal import (
    MAX_ACTIONS,
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    MAX_SEAL_BYTES,
    SEAL_FORMAT,
    Seal,
    parse_seal,
)
from auditlib.formats.times import SECOND

Numbers = np.ndarray[Any, np.dtype[np.int64]]

_HEX_CHARS = 64  # characters of a SHA-256 in hex
_TEXTS, _NUMBERS = 5, 4  # texts and numbers gathered a seal
_SHA256 = re.compile(r"[0-9a-f]{64}")
_decode = msgspec.json.Decoder(Seal).decode
_encode = msgspec.json.Encoder(order="sorted").encode  # as in formats.seal


class Named(msgspec.Struct):
    """Names and their counts, some a seal: seal i has entries starts[i] to starts[i + 1] of `names` and `counts`."""

    starts: Numbers  # one more than seals
    names: list[str]
    counts: Numbers


class Page(msgspec.Struct):
    """Seals as columns, one row a seal. Times are microseconds since 1970 UTC; ranges are two columns, least, greatest.

    `leaves` and `hashes` hold 32 bytes a seal: the leaf hash of its bytes, and their plain SHA-256. Where a seal counts
    no actions (past 256 distinct), `actions` has none of it and `uncounted` says so. `spans` are the least and the
    greatest sequence number beside each source, 0 and 0 where it has none.
    """

    leaves: bytes
    hashes: bytes
    sequences: Numbers
    previous: list[str]
    origins: list[str]
    trails: list[str]
    sealed_at: Numbers
    occurred: Numbers
    recorded: Numbers
    events: Numbers
    sizes: Numbers
    actions: Named
    uncounted: np.ndarray[Any, np.dtype[np.bool_]]
    outcomes: Named
    sources: Named
    spans: Numbers


def parse_page(lines: Sequence[bytes]) -> Page:
    """Seals' canonical bytes (at least one seal) -> columns; MalformedError where `parse_seal` refuses one of them."""
    try:
        page = _columns(lines)
    except (MalformedError, ValueError, OverflowError, pa.ArrowException, msgspec.MsgspecError):
        for line in lines:
            parse_seal(line)
        raise MalformedError("the seals cannot be read together.") from None
    return page


def decode_seals(lines: Iterable[bytes]) -> list[Seal]:
    """Seals that `parse_page` took before."""
    return [_decode(line) for line in lines]


def _columns(lines: Sequence[bytes]) -> Page:
    # Flat lists of numbers and texts: of objects that hold others, Python's garbage collector would look at each.
    texts: list[str] = []  # _TEXTS a seal
    times: list[str] = []  # 5 a seal
    numbers: list[int] = []  # _NUMBERS a seal
    described: list[int | None] = []  # 3 a source
    action_names, outcome_names, source_names = list[str](), list[str](), list[str]()
    action_counts, outcome_counts = list[int](), list[int]()
    lengths: list[int] = []  # 3 a seal: how many of each
    leaves: list[bytes] = []
    hashes: list[bytes] = []
    no_counts: dict[str, int] = {}
    for line in lines:  # one at a time, while it is in the processor's cache
        leaves.append(sha256(b"\x00" + line).digest())  # RFC 6962 2.1: leaf prefix 0x00
        hashes.append(sha256(line).digest())
        seal = _decode(line)
        if _encode(seal) != line:
            raise MalformedError("the seal is not written canonically (RFC 8785).")
        batch, counts, sequence = seal.batch, seal.counts, seal.sequence
        # The canonical text of the first recorded_at begins with its date: what `layout.batch_key` builds.
        if batch.object != f"{BATCHES}recorded_date={seal.recorded[0][:10]}/{sequence:012}-{batch.sha256[:16]}.parquet":
            raise MalformedError("the batch's object is not where it must be.")
        if seal.format != SEAL_FORMAT or seal.schema != RECORD_SCHEMA:
            raise MalformedError("another version made the seal.")
        times += (seal.sealed_at, *seal.occurred, *seal.recorded)
        texts += (seal.previous, batch.root, batch.sha256, seal.origin, seal.trail)
        numbers += (sequence, batch.events, batch.size, counts.actions is None)
        actions, outcomes, sources = counts.actions or no_counts, counts.outcomes, seal.sources
        lengths += (len(actions), len(outcomes), len(sources))
        action_names += actions
        action_counts += actions.values()
        outcome_names += outcomes
        outcome_counts += outcomes.values()
        source_names += sources
        for source in sources.values():
            described += (source.events, source.first_seq, source.last_seq)
    previous, roots, digests, origins, trails = (texts[n::_TEXTS] for n in range(_TEXTS))
    _require(max(map(len, lines)) <= MAX_SEAL_BYTES)
    for name in {*origins}:
        check_name(name)
    _require(all(map(_SHA256.fullmatch, {*trails})))
    for column in (previous, roots, digests):
        _check_hex(column)
    when = _times(times).reshape(-1, 5)
    stated = _integers(numbers).reshape(-1, _NUMBERS)
    ends = np.vstack([[0, 0, 0], np.cumsum(_integers(lengths).reshape(-1, 3), axis=0)])
    page = Page(
        leaves=b"".join(leaves),
        hashes=b"".join(hashes),
        sequences=stated[:, 0].copy(),
        previous=previous,
        origins=origins,
        trails=trails,
        sealed_at=when[:, 0].copy(),
        occurred=when[:, 1:3].copy(),
        recorded=when[:, 3:5].copy(),
        events=stated[:, 1].copy(),
        sizes=stated[:, 2].copy(),
        actions=Named(ends[:, 0], action_names, _integers(action_counts)),
        uncounted=stated[:, 3] > 0,
        outcomes=Named(ends[:, 1], outcome_names, _integers(outcome_counts)),
        sources=Named(ends[:, 2], source_names, _integers(described[::3])),
        spans=_spans(described[1::3], described[2::3]),
    )
    _check(page)
    return page


def _integers(values: list[Any]) -> Numbers:
    """Python's integers -> an array; OverflowError where one is past 64 bits."""
    numbers: Numbers = np.array(array("q", values))  # half the time that numpy takes to look at each
    return numbers


def _require(holds: object) -> None:
    if not holds:
        raise MalformedError("a seal is not as it must be.")  # which and how, `parse_seal` says


def _check(page: Page) -> None:
    """What `formats.seal` asks of each seal's numbers and names."""
    _require(((page.sequences >= 0) & (page.sequences < 10**12)).all())
    _require(((page.events >= 1) & (page.events <= MAX_BATCH_EVENTS)).all())
    _require(((page.sizes >= 1) & (page.sizes <= MAX_BATCH_BYTES)).all())
    _require((page.occurred[:, 0] <= page.occurred[:, 1]).all() and (page.recorded[:, 0] <= page.recorded[:, 1]).all())
    for named in (page.actions, page.outcomes, page.sources):
        # None is past the events of its batch: that also keeps the sums below from running over.
        _require(((named.counts >= 1) & (named.counts <= MAX_BATCH_EVENTS)).all())
        totals = np.concatenate([[0], np.cumsum(named.counts)])[named.starts]
        right = np.diff(totals) == page.events
        _require((right | page.uncounted if named is page.actions else right).all())
    _require((np.diff(page.actions.starts) <= MAX_ACTIONS).all())
    _require(all(map(NAME.fullmatch, {*page.actions.names, *page.sources.names})))
    _require(set(page.outcomes.names) <= set(OUTCOMES))


def _spans(lows: Sequence[int | None], highs: Sequence[int | None]) -> Numbers:
    """The sequence numbers beside each source; both or none."""
    missing = [low is None for low in lows]
    _require(missing == [high is None for high in highs])
    spans = np.column_stack([_integers([low or 0 for low in lows]), _integers([high or 0 for high in highs])])
    numbered = spans[~np.array(missing, np.bool_)]
    _require(((numbered[:, 0] >= 1) & (numbered[:, 0] <= numbered[:, 1]) & (numbered[:, 1] <= MAX_INTEGER)).all())
    return spans


def _check_hex(texts: Sequence[str]) -> None:
    joined = "".join(texts)
    _require(set(map(len, texts)) == {_HEX_CHARS} and bytes.fromhex(joined).hex() == joined)


def _times(texts: list[str]) -> Numbers:
    """Canonical times -> microseconds; ValueError where one is none.

    Arrow reads more than the canonical spelling; of what it reads, the length and three characters leave only that.
    """
    stated = pa.array(texts, pa.string())
    _, offsets, characters = stated.buffers()
    starts = np.frombuffer(offsets, np.int32)[: len(texts) + 1]
    begin, length = starts[:-1], np.diff(starts)
    micros: Numbers = np.asarray(stated.cast(pa.timestamp("us", "UTC")).cast(pa.int64()))
    whole = micros % SECOND == 0
    _require((micros >= 0).all() and (length == np.where(whole, 20, 27)).all())
    letters = np.frombuffer(characters, np.uint8)
    _require((letters[begin + 10] == ord("T")).all() and (letters[begin + length - 1] == ord("Z")).all())
    _require((whole | (letters[begin + 19] == ord("."))).all())
    return micros
