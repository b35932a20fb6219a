"""Many seals read at once: a strict match of their bytes with the canonical form, which yields what the fields state.

    {"batch":{"events":60,"object":"batches/recorded_date=2021-06-27/000000051200-e6534fc8a3875f66.parquet","root":...

A cursor stands in every seal. All of them move on together, over bytes that must be there and over fields that are
spelt in the one canonical way, until each has come to the end of its line: then every byte was looked at, and each seal
is what `msgspec` would write of the fields. What is spelt in another way, wrong or only rare (an escaped character, a
signature of another length), is left to `formats.seal`, one seal after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from auditlib.formats.event import RECORD_SCHEMA
from auditlib.formats.keys import KEY_HASH_BYTES, SIGNATURE_BYTES, check_name
from auditlib.formats.layout import BATCHES
from auditlib.formats.lines import Lines, Mask, Named, Numbers, Page
from auditlib.formats.seal import SEAL_FORMAT
from auditlib.formats.times import SECOND

Bytes = np.ndarray[Any, np.dtype[np.uint8]]

_COUNT_DIGITS, _SIZE_DIGITS, _SEQUENCE_DIGITS = 7, 9, 12  # formats.seal: up to 2^20, 2^29 and 10^12 - 1
_NUMBER_DIGITS = 16  # of the greatest integer that a double holds exactly, formats.canonical
_HEX_CHARS = 64  # characters of a SHA-256 in hex
_SIGNATURE_CHARS = 4 * -(-(KEY_HASH_BYTES + SIGNATURE_BYTES) // 3)  # base64 of key hash || signature
_TIME = np.frombuffer(b"0000-00-00T00:00:00.000000Z", np.uint8)
_SHORT, _LONG = 20, 27  # characters of a canonical time: whole seconds, or six digits
_BEYOND = bytes(256)  # after the last line: a look ahead, always shorter, ends there


def _table(allowed: bytes) -> Mask:
    """Of each byte, whether it is one of these."""
    table = np.zeros(256, np.bool_)
    table[list(allowed)] = True
    return table


_HEX = _table(b"0123456789abcdef")
_PLAIN = _table(bytes(set(range(0x20, 0x7F)) - set(b'"\\')))  # characters that JSON writes as themselves
_DIGIT_PLACES = _TIME == ord("0")


class OtherError(Exception):
    """The bytes are not spelt as nearly all seals are; whether they are right is not said."""


def _require(holds: object) -> None:
    if not holds:
        raise OtherError


class _Cursors:
    """One place in the data for each of some things that are spelt alike; all move on together."""

    def __init__(self, data: Bytes, at: Numbers) -> None:
        self.data = data
        self.at = at.copy()

    def ahead(self, width: int) -> Bytes:
        """The next bytes, (cursors, width)."""
        windows: Bytes = np.ndarray((len(self.data) - width + 1, width), np.uint8, self.data, strides=(1, 1))
        return windows[self.at]

    def skip(self, literal: bytes) -> None:
        """Move over bytes that must be these."""
        _require((self.ahead(len(literal)) == np.frombuffer(literal, np.uint8)).all())
        self.at += len(literal)

    def run(self, width: int, allowed: Mask) -> Bytes:
        """So many bytes, each of which is allowed."""
        found = self.ahead(width)
        _require(allowed[found].all())
        self.at += width
        return found

    def number(self, most: int) -> Numbers:
        """An integer as JSON writes it, without a sign and of at most so many digits."""
        digits = np.ascontiguousarray(self.ahead(most + 1).T) - np.uint8(ord("0"))  # other bytes wrap round past 9
        is_digit = np.logical_and.accumulate(digits < 10, axis=0)
        length = is_digit.sum(axis=0)
        _require((length >= 1).all() and (length <= most).all() and ((digits[0] > 0) | (length == 1)).all())
        value = np.zeros(len(self.at), np.int64)
        for place in range(length.max(initial=0)):
            value = np.where(is_digit[place], 10 * value + digits[place], value)
        self.at += length
        return value

    def time(self) -> Bytes:
        """A time in canonical form, (cursors, 27): one of whole seconds is given a fraction of zeros."""
        found = self.ahead(_LONG)
        whole = found[:, _SHORT - 1] == ord("Z")
        fraction = found[:, _SHORT - 1 :]
        fraction[whole] = _TIME[_SHORT - 1 :]
        _require((found[:, ~_DIGIT_PLACES] == _TIME[~_DIGIT_PLACES]).all())
        _require((found[:, _DIGIT_PLACES] - np.uint8(ord("0")) < 10).all())
        _require(((fraction[:, 1:-1] > ord("0")).any(axis=1) | whole).all())  # a fraction of zero is not written
        self.at += np.where(whole, _SHORT, _LONG)
        return found

    def some(self, mask: Mask) -> _Cursors:
        """Those that a mask names, to be moved on their own."""
        return _Cursors(self.data, self.at[mask])


def scan(lines: Lines) -> Page:
    """At least one seal's bytes -> columns; OtherError where they are not spelt as nearly all are.

    What the numbers and names must be beside their spelling, `formats.page` checks.
    """
    try:
        return _Scan(lines).page()
    except (IndexError, ValueError):  # a place past the end, a month of 13, a name in other characters
        raise OtherError from None


class _Scan:
    """One pass over some seals."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._data = np.frombuffer(lines.data + _BEYOND, np.uint8)
        self._text = lines.data.decode("ascii")
        self._quotes, self._closes = (np.flatnonzero(self._data == ord(mark)) for mark in '"}')
        self._seals = _Cursors(self._data, lines.bounds[:-1])

    def page(self) -> Page:
        """Field by field, in the order of the canonical form."""
        seals = self._seals
        seals.skip(b'{"batch":{"events":')
        events = seals.number(_COUNT_DIGITS)
        seals.skip(f',"object":"{BATCHES}recorded_date='.encode())
        date = seals.run(10, _PLAIN)
        seals.skip(b"/")
        padded = seals.run(12, _PLAIN)
        seals.skip(b"-")
        short = seals.run(16, _HEX)
        seals.skip(b'.parquet","root":"')
        seals.run(_HEX_CHARS, _HEX)
        seals.skip(b'","sha256":"')
        sha256 = seals.run(_HEX_CHARS, _HEX)
        seals.skip(b'","size":')
        sizes = seals.number(_SIZE_DIGITS)
        seals.skip(b'},"counts":{"actions":')
        actions, uncounted = self._actions()
        seals.skip(b',"outcomes":{')
        outcomes = self._named(seals)
        seals.skip(f'}}}},"format":"{SEAL_FORMAT}","occurred":["'.encode())
        times = [seals.time()]
        seals.skip(b'","')
        times.append(seals.time())
        seals.skip(b'"],"origin":"')
        origin = self._origin()
        seals.skip(f'{origin}","previous":"'.encode())
        previous = seals.run(_HEX_CHARS, _HEX)
        seals.skip(b'","recorded":["')
        times.append(seals.time())
        seals.skip(b'","')
        times.append(seals.time())
        seals.skip(f'"],"schema":"{RECORD_SCHEMA}","sealed_at":"'.encode())
        times.append(seals.time())
        seals.skip(b'","sequence":')
        sequences = seals.number(_SEQUENCE_DIGITS)
        seals.skip(b',"signature":"')
        seals.run(_SIGNATURE_CHARS, _PLAIN)
        seals.skip(b'","sources":{')
        sources, spans = self._sources()
        seals.skip(b'},"trail":"')
        trails = seals.run(_HEX_CHARS, _HEX)
        seals.skip(b'"}\n')
        _require((seals.at == self._lines.bounds[1:]).all())
        # DESIGN 4.6: the object is named by the date of the first recorded_at, the sequence and the hash.
        _require((date == times[2][:, :10]).all() and (short == sha256[:, :16]).all())
        _require((padded == _digits(sequences, 12)).all())
        when = _micros(np.concatenate(times)).reshape(5, -1)
        leaves, hashes = self._lines.hashes()
        return Page(
            leaves=leaves,
            hashes=hashes,
            sequences=sequences,
            previous=previous.tobytes(),
            origins=[origin],
            trails=_texts(trails),
            sealed_at=when[4],
            occurred=when[:2].T,
            recorded=when[2:4].T,
            events=events,
            sizes=sizes,
            actions=actions,
            uncounted=uncounted,
            outcomes=outcomes,
            sources=sources,
            spans=spans,
        )

    def _origin(self) -> str:
        """The origin that the first seal states; all must."""
        start = int(self._seals.at[0])
        origin = check_name(self._text[start : self._text.index('"', start)])
        _require("\\" not in origin)
        return origin

    def _actions(self) -> tuple[Named, Mask]:
        """Actions and their counts, or null."""
        seals = self._seals
        uncounted: Mask = self._data[seals.at] == ord("n")
        without, counted = seals.some(uncounted), seals.some(~uncounted)
        without.skip(b"null")
        counted.skip(b"{")
        named = self._named(counted)
        counted.skip(b"}")
        seals.at[uncounted], seals.at[~uncounted] = without.at, counted.at
        lengths = np.zeros(len(uncounted), np.int64)
        lengths[~uncounted] = np.diff(named.starts)
        named.starts = _starts(lengths)
        return named, uncounted

    def _named(self, holders: _Cursors) -> Named:
        """What is in objects of names and counts, from after `{`; the cursors move on to `}`."""
        begin, end = holders.at, self._closes[np.searchsorted(self._closes, holders.at)]
        low, high = np.searchsorted(self._quotes, begin), np.searchsorted(self._quotes, end)
        lengths, odd = np.divmod(high - low, 2)
        _require((odd == 0).all() and (lengths >= 1).all())
        marks = self._quotes[_ranges(low, high - low)]
        opens, entries = marks[::2], _Cursors(self._data, marks[1::2])
        starts = _starts(lengths)
        names = self._names(starts, opens, entries.at)
        entries.skip(b'":')
        counts = entries.number(_COUNT_DIGITS)
        # Each follows on the one before: no byte lies between.
        first, last = starts[:-1], starts[1:] - 1
        inner = np.ones(len(opens), np.bool_)
        inner[first] = False
        _require((opens[first] == begin).all() and (entries.at[last] == end).all())
        _require((opens[inner] == np.delete(entries.at, last) + 1).all())
        _require((self._data[opens[inner] - 1] == ord(",")).all())
        holders.at = end.copy()
        return Named(starts, names, counts)

    def _sources(self) -> tuple[Named, Numbers]:
        """The sources, from after `{`, with the numbers beside them; the cursors move on to `}`."""
        seals = self._seals
        low = np.searchsorted(self._closes, seals.at)
        lengths = np.searchsorted(self._closes, self._lines.bounds[1:]) - low - 2  # two more close sources and seal
        _require((lengths >= 1).all())
        starts = _starts(lengths)
        ends = self._closes[_ranges(low, lengths)]
        opens = np.concatenate([[0], ends[:-1] + 2])
        inner = np.ones(len(opens), np.bool_)
        inner[starts[:-1]] = False
        _require((self._data[opens[inner] - 1] == ord(",")).all())
        opens[starts[:-1]] = seals.at
        _require((self._data[opens] == ord('"')).all())
        entries = _Cursors(self._data, self._quotes[np.searchsorted(self._quotes, opens + 1)])
        names = self._names(starts, opens, entries.at)
        entries.skip(b'":{"events":')
        counts = entries.number(_COUNT_DIGITS)
        entries.skip(b',"first_seq":')
        numbered: Mask = self._data[entries.at] != ord("n")
        spans = np.zeros((len(opens), 2), np.int64)
        with_, without = entries.some(numbered), entries.some(~numbered)
        without.skip(b'null,"last_seq":null')
        spans[numbered, 0] = with_.number(_NUMBER_DIGITS)
        with_.skip(b',"last_seq":')
        spans[numbered, 1] = with_.number(_NUMBER_DIGITS)
        # A number beside a source is at least 1: 0 would be taken for none.
        _require((spans[numbered] >= 1).all())
        _require((with_.at == ends[numbered]).all() and (without.at == ends[~numbered]).all())
        seals.at = ends[starts[1:] - 1] + 1
        return Named(starts, names, counts), spans

    def _names(self, starts: Numbers, opens: Numbers, shuts: Numbers) -> list[str]:
        """The names between quotation marks, which are sorted within each seal as RFC 8785 asks, and each there once.

        That they are names at all, and so are spelt as they stand, `formats.page` checks.
        """
        text = self._text
        names = [text[start:end] for start, end in zip((opens + 1).tolist(), shuts.tolist(), strict=True)]
        rank = {name: place for place, name in enumerate(sorted({*names}))}
        ranks = np.fromiter(map(rank.__getitem__, names), np.int64, len(names))
        rises = np.diff(ranks) > 0
        rises[starts[1:-1] - 1] = True
        _require(rises.all())
        return names


def _starts(lengths: Numbers) -> Numbers:
    """How many each has -> where each one's begin, and the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths)])


def _ranges(first: Numbers, lengths: Numbers) -> Numbers:
    """The places first[i], first[i] + 1, ... of each, so many."""
    starts = _starts(lengths)
    return np.arange(starts[-1]) + np.repeat(first - starts[:-1], lengths)


def _digits(values: Numbers, width: int) -> Bytes:
    """Numbers as digits with zeros before them, (numbers, width)."""
    places = 10 ** np.arange(width - 1, -1, -1)
    return (values[:, None] // places % 10 + ord("0")).astype(np.uint8)


def _texts(found: Bytes) -> list[str]:
    """Rows of ASCII characters as texts."""
    width = found.shape[1]
    if (found == found[0]).all():
        return [found[0].tobytes().decode("ascii")] * len(found)
    joined = found.tobytes().decode("ascii")
    return [joined[start : start + width] for start in range(0, len(joined), width)]


def _micros(times: Bytes) -> Numbers:
    """Canonical times, (times, 27), -> microseconds since 1970 UTC; ValueError for what is no time of the calendar."""
    digits = np.ascontiguousarray(times.T).astype(np.int64) - ord("0")

    def number(start: int, end: int) -> Numbers:
        value = digits[start]
        for place in range(start + 1, end):
            value = 10 * value + digits[place]
        return value

    year, month, day, hour, minute, second = (number(at, at + 2) for at in (2, 5, 8, 11, 14, 17))
    year += 100 * number(0, 2)
    _require((year >= 1970).all() and (month >= 1).all() and (month <= 12).all() and (day >= 1).all())
    months = (12 * (year - 1970) + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    _require((days.astype("datetime64[M]") == months).all())
    _require((hour < 24).all() and (minute < 60).all() and (second < 60).all())
    seconds = ((24 * days.astype(np.int64) + hour) * 60 + minute) * 60 + second
    micros: Numbers = seconds * SECOND + number(20, 26)
    return micros
