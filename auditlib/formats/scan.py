"""Many seals read at once: a strict match of their bytes with the canonical form, which yields what the fields state.

    {"batch":{"events":60,"object":"batches/recorded_date=2021-06-27/000000051200-e6534fc8a3875f66.parquet","root":...

A cursor stands in every seal. All of them move on together, over bytes that must be there and over fields that are
spelt in the one canonical way, until each has come to the end of its line: then every byte was looked at, and each seal
is what `msgspec` would write of the fields. What is spelt in another way, wrong or only rare (an escaped character, a
signature of another length), is left to `formats.seal`, one seal after the other.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from auditlib.errors import MalformedError
from auditlib.formats.event import MAX_NAME_CHARS, NAME, RECORD_SCHEMA
from auditlib.formats.keys import KEY_HASH_BYTES, SIGNATURE_BYTES, check_name
from auditlib.formats.layout import BATCHES
from auditlib.formats.lines import Lines, Mask, Named, Numbers, Page
from auditlib.formats.seal import SEAL_FORMAT
from auditlib.formats.times import SECOND

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Words = np.ndarray[Any, np.dtype[np.uint64]]

_COUNT_DIGITS, _SIZE_DIGITS, _SEQUENCE_DIGITS = 7, 9, 12  # formats.seal: up to 2^20, 2^29 and 10^12 - 1
_NUMBER_DIGITS = 16  # of the greatest integer that a double holds exactly, formats.canonical
_HEX = 64  # characters of a SHA-256 in hex
_SIGNATURE = 4 * -(-(KEY_HASH_BYTES + SIGNATURE_BYTES) // 3)  # characters of base64 of key hash || signature
_TIME = np.frombuffer(b"0000-00-00T00:00:00.000000Z", np.uint8)
_DIGIT_PLACES: Mask = np.equal(_TIME, ord("0"))
_PAIR_PLACES = np.array([0, 2, 5, 8, 11, 14, 17, 20, 22, 24])
_SHORT, _LONG = 20, 27  # characters of a canonical time: whole seconds, or six digits
_BEYOND = bytes(256)  # after the last line: a look ahead, always shorter, ends there
_WORD = 8  # bytes
_MAX_NAME = -(-MAX_NAME_CHARS // _WORD) * _WORD  # bytes
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, Knuth, The Art of Computer Programming 6.4
_MIXED = np.arange(1, 1 + _MAX_NAME // _WORD, dtype=np.uint64) * _GOLDEN | np.uint64(1)
_POWERS = 10 ** np.arange(_WORD + 1)


class OtherError(Exception):
    """The bytes are not spelt as nearly all seals are; whether they are right is not said."""


def _require(*holds: Any) -> None:
    """Each an array of truths, or one; to count them is faster than `all`."""
    for truths in holds:
        if np.count_nonzero(truths) != np.size(truths):
            raise OtherError


class _Form:
    """Bytes that must be there, and between them fields of so many bytes."""

    def __init__(self, *parts: bytes | int) -> None:
        pieces = [bytes(part) if isinstance(part, int) else part for part in parts]
        ends = np.cumsum([0, *map(len, pieces)]).tolist()
        self.bytes = np.frombuffer(b"".join(pieces), np.uint8)
        self.free = self.bytes == 0
        self.fields = [slice(ends[n], ends[n + 1]) for n, part in enumerate(parts) if isinstance(part, int)]


_EVENTS = _Form(b'{"batch":{"events":')
_BATCH = _Form(
    f',"object":"{BATCHES}recorded_date='.encode(), 10, b"/", _SEQUENCE_DIGITS, b"-", 16, b'.parquet","root":"', _HEX,
    b'","sha256":"', _HEX, b'","size":',
)  # fmt: skip
_ACTIONS, _NONE, _OPEN = _Form(b'},"counts":{"actions":'), _Form(b"null"), _Form(b"{")
_OUTCOMES = _Form(b'},"outcomes":{'), _Form(b',"outcomes":{')
_OCCURRED = _Form(f'}}}},"format":"{SEAL_FORMAT}","occurred":["'.encode())
_UNTIL = _Form(b'","')
_SEALED_AT = _Form(f'"],"schema":"{RECORD_SCHEMA}","sealed_at":"'.encode())
_SEQUENCE = _Form(b'","sequence":')
_SOURCES = _Form(b',"signature":"', _SIGNATURE, b'","sources":{')
_TRAIL = _Form(b'},"trail":"', _HEX, b'"}\n')
_COUNT = _Form(b'":')
_SOURCE, _FIRST, _LAST = _Form(b'":{"events":'), _Form(b',"first_seq":'), _Form(b',"last_seq":')
_NEITHER = _Form(b'null,"last_seq":null')


class _Cursors:
    """One place in the data for each of some things that are spelt alike; all move on together."""

    def __init__(self, data: Bytes, at: Numbers) -> None:
        self.data = data
        self.at = at.copy()

    def ahead(self, width: int) -> Bytes:
        """The next bytes, (cursors, width)."""
        # As things of so many bytes each, one after another by a byte: they are copied whole, not byte by byte.
        windows = np.ndarray((len(self.data) - width + 1,), f"V{width}", self.data, strides=(1,))
        return windows[self.at].view(np.uint8).reshape(-1, width)

    def match(self, form: _Form) -> list[Bytes]:
        """Move over bytes of this form; its fields, each (cursors, width)."""
        found = self.ahead(len(form.bytes))
        _require((found == form.bytes) | form.free if form.fields else found == form.bytes)
        self.at += len(form.bytes)
        return [found[:, field] for field in form.fields]

    def number(self, most: int) -> Numbers:
        """An integer as JSON writes it, without a sign and of at most so many digits (no more than 16)."""
        word = self._word()
        length = _length(word)
        value = _value(word, length)
        if (long := length == _WORD).any():
            rest = self.some(long)
            rest.at += _WORD
            word_after = rest._word()
            more = _length(word_after)
            value[long] = value[long] * _POWERS[more] + _value(word_after, more)
            length[long] += more
        zero = word & np.uint64(0xFF) == 0
        _require(length - 1 < np.uint64(most), ~zero | (length == 1))  # without a digit, 0 - 1 wraps round
        self.at += length.view(np.int64)
        return value

    def _word(self) -> Words:
        """The next eight bytes as one integer, the first lowest; a digit is its value."""
        return self.ahead(_WORD).view("<u8")[:, 0] ^ np.uint64(0x3030303030303030)

    def time(self) -> Bytes:
        """A time, (cursors, 27), that `_micros` must find canonical; one of whole seconds has other bytes after it."""
        found = self.ahead(_LONG)
        self.at += np.where(found[:, _SHORT - 1] == ord("Z"), _SHORT, _LONG)
        return found

    def some(self, mask: Mask) -> _Cursors:
        """Those that a mask names, to be moved on their own."""
        return _Cursors(self.data, self.at[mask])


def _length(word: Words) -> Words:
    """With how many digits eight bytes begin; all are looked at at once (Lamport 1975, "Multiple byte processing with
    full-word instructions"). What a carry makes of bytes after the first that is no digit does not count.
    """
    others = ((word + np.uint64(0x7676767676767676)) | word) & np.uint64(0x8080808080808080)
    return (np.bitwise_count((others - np.uint64(1)) & ~others) >> 3).astype(np.uint64)


def _value(word: Words, length: Words) -> Numbers:
    """The number that so many digits, at most eight, state: in pairs first, then in fours, then all."""
    digits = word << (64 - 8 * length)
    digits = digits * np.uint64(10) + (digits >> np.uint64(8))  # pairs, in every second byte
    low = np.uint64(0x000000FF000000FF)
    value = (digits & low) * np.uint64(1_000_000 << 32 | 100)
    value += (digits >> np.uint64(16) & low) * np.uint64(10_000 << 32 | 1)
    return (value >> np.uint64(32)).view(np.int64)


def scan(lines: Lines) -> Page:
    """At least one seal's bytes -> columns; OtherError where they are not spelt as nearly all are.

    What the numbers and outcomes must be beside their spelling, `formats.page` checks.
    """
    try:
        return _Scan(lines).page()
    except (IndexError, ValueError, MalformedError):  # a place past the end, other characters, no name of an origin
        raise OtherError from None


class _Scan:
    """One pass over some seals."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._data = np.frombuffer(lines.data + _BEYOND, np.uint8)
        self._quotes, self._closes = (np.flatnonzero(self._data == ord(mark)) for mark in '"}')
        self._seals = _Cursors(self._data, lines.bounds[:-1])

    def page(self) -> Page:
        """Field by field, in the order of the canonical form."""
        seals = self._seals
        seals.match(_EVENTS)
        events = seals.number(_COUNT_DIGITS)
        date, padded, short, root, sha256 = seals.match(_BATCH)
        sizes = seals.number(_SIZE_DIGITS)
        seals.match(_ACTIONS)
        actions, uncounted = self._actions()
        outcomes = self._named(seals)
        seals.match(_OCCURRED)
        times = [seals.time()]
        seals.match(_UNTIL)
        times.append(seals.time())
        origin = self._origin()
        (previous,) = seals.match(_Form(f'"],"origin":"{origin}","previous":"'.encode(), _HEX, b'","recorded":["'))
        times.append(seals.time())
        seals.match(_UNTIL)
        times.append(seals.time())
        seals.match(_SEALED_AT)
        times.append(seals.time())
        seals.match(_SEQUENCE)
        sequences = seals.number(_SEQUENCE_DIGITS)
        (signature,) = seals.match(_SOURCES)
        _require(_plain(signature))
        sources, spans = self._sources()
        (trails,) = seals.match(_TRAIL)
        _require(seals.at == self._lines.bounds[1:], *map(_hex, (root, sha256, previous, trails)))
        # DESIGN 4.6: the object is named by the date of the first recorded_at, the sequence and the hash.
        _require(date == times[2][:, :10], short == sha256[:, :16], padded == _digits(sequences, _SEQUENCE_DIGITS))
        when = _micros(np.concatenate(times)).reshape(5, -1)
        codes, names = _distinct(trails)
        leaves, hashes = self._lines.hashes()
        return Page(
            leaves=leaves,
            hashes=hashes,
            sequences=sequences,
            previous=previous.tobytes(),
            origins=[origin],
            trails=names,
            trail_codes=codes,
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
        start = int(self._seals.at[0]) + len(b'"],"origin":"')
        end = int(self._quotes[np.searchsorted(self._quotes, start)])
        origin = check_name(self._data[start:end].tobytes().decode("ascii"))
        _require("\\" not in origin)
        return origin

    def _actions(self) -> tuple[Named, Mask]:
        """Actions and their counts, or null; the cursors move on into the outcomes."""
        seals = self._seals
        uncounted: Mask = self._data[seals.at] == ord("n")
        if not uncounted.any():
            seals.match(_OPEN)
            named = self._named(seals)
            seals.match(_OUTCOMES[0])
            return named, uncounted
        without, counted = seals.some(uncounted), seals.some(~uncounted)
        without.match(_NONE)
        without.match(_OUTCOMES[1])
        counted.match(_OPEN)
        named = self._named(counted)
        counted.match(_OUTCOMES[0])
        seals.at[uncounted], seals.at[~uncounted] = without.at, counted.at
        lengths = np.zeros(len(uncounted), np.int64)
        lengths[~uncounted] = np.diff(named.starts)
        named.starts = _starts(lengths)
        return named, uncounted

    def _named(self, holders: _Cursors) -> Named:
        """What is in objects of names and counts, from after `{`; the cursors move on to `}`."""
        if not len(holders.at):
            none = np.zeros(0, np.int64)
            return Named(_starts(none), none, [], none)
        begin, end = holders.at, self._closes[np.searchsorted(self._closes, holders.at)]
        low = np.searchsorted(self._quotes, begin)
        quotes = np.searchsorted(self._quotes, end) - low
        _require(quotes % 2 == 0, quotes >= 2)
        starts = _starts(quotes // 2)
        marks = self._quotes[_ranges(low, quotes)]
        opens, entries = marks[::2], _Cursors(self._data, marks[1::2])
        codes, names = self._names(starts, opens, entries.at)
        entries.match(_COUNT)
        counts = entries.number(_COUNT_DIGITS)
        # Each follows on the one before: no byte but a comma lies between.
        last = starts[1:] - 1
        stops = np.append(opens[1:] - 1, 0)
        stops[last] = end
        commas = self._data[stops] == ord(",")
        commas[last] = True
        _require(opens[starts[:-1]] == begin, entries.at == stops, commas)
        holders.at = end.copy()
        return Named(starts, codes, names, counts)

    def _sources(self) -> tuple[Named, Numbers]:
        """The sources, from after `{`, with the numbers beside them; the cursors move on to `}`."""
        seals = self._seals
        low = np.searchsorted(self._closes, seals.at)
        lengths = np.searchsorted(self._closes, self._lines.bounds[1:]) - low - 2  # two more close sources and seal
        _require(lengths >= 1)
        starts = _starts(lengths)
        ends = self._closes[_ranges(low, lengths)]
        opens = np.append(0, ends[:-1] + 2)
        commas = self._data[opens - 1] == ord(",")
        opens[starts[:-1]], commas[starts[:-1]] = seals.at, True
        _require(commas, self._data[opens] == ord('"'))
        entries = _Cursors(self._data, self._quotes[np.searchsorted(self._quotes, opens) + 1])
        codes, names = self._names(starts, opens, entries.at)
        entries.match(_SOURCE)
        counts = entries.number(_COUNT_DIGITS)
        entries.match(_FIRST)
        numbered: Mask = self._data[entries.at] != ord("n")
        spans = np.zeros((len(opens), 2), np.int64)
        both, neither = entries.some(numbered), entries.some(~numbered)
        neither.match(_NEITHER)
        spans[numbered, 0] = both.number(_NUMBER_DIGITS)
        both.match(_LAST)
        spans[numbered, 1] = both.number(_NUMBER_DIGITS)
        _require(spans[numbered] >= 1)  # 0 would be taken for none
        _require(both.at == ends[numbered], neither.at == ends[~numbered])
        seals.at = ends[starts[1:] - 1] + 1
        return Named(starts, codes, names, counts), spans

    def _names(self, starts: Numbers, opens: Numbers, shuts: Numbers) -> tuple[Numbers, list[str]]:
        """The names between these quotation marks: which of the distinct ones each is, and those, sorted.

        They must be sorted within each seal as RFC 8785 asks, and each there once; the characters of a name are those
        that JSON writes as themselves.
        """
        lengths = shuts - opens - 1
        width = _WORD * -(-int(lengths.max()) // _WORD)
        _require(width <= _MAX_NAME)
        found = _Cursors(self._data, opens + 1).ahead(width)
        inside = np.arange(width) < lengths[:, None]
        _require((found > 0) | ~inside)  # a zero at a name's end would be taken for what follows it
        found *= inside
        codes, names = _distinct(found)
        _require(all(map(NAME.fullmatch, names)))
        rises = np.diff(codes) > 0
        rises[starts[1:-1] - 1] = True
        _require(rises)
        return codes, names


def _hex(found: Bytes) -> Mask:
    """Whether each is a digit of lower-case hex."""
    digits: Mask = (found - np.uint8(ord("0")) < 10) | (found - np.uint8(ord("a")) < 6)
    return digits


def _plain(found: Bytes) -> Mask:
    """Whether JSON writes each of these characters as itself."""
    plain: Mask = (found - np.uint8(0x20) < 0x5F) & (found != ord('"')) & (found != ord("\\"))
    return plain


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


def _distinct(found: Bytes) -> tuple[Numbers, list[str]]:
    """Rows of ASCII characters, zeros after them -> which of the distinct ones each is, and those as texts, sorted."""
    words = np.ascontiguousarray(found).view("<u8")
    codes, firsts = np.zeros(len(found), np.int64), np.zeros(1, np.int64)
    if (words != words[0]).any():
        mixed = words @ _MIXED[: words.shape[1]]
        _, firsts, codes = np.unique(mixed, return_index=True, return_inverse=True)
        _require(words == words[firsts][codes])  # two that are mixed to the same
    texts = [found[first].tobytes().rstrip(b"\0").decode("ascii") for first in firsts.tolist()]
    names = sorted(texts)
    return np.array([names.index(text) for text in texts])[codes], names


def _micros(times: Bytes) -> Numbers:
    """Canonical times, (times, 27), -> microseconds since 1970 UTC."""
    whole = times[:, _SHORT - 1] == ord("Z")
    times[whole, _SHORT - 1 :] = _TIME[_SHORT - 1 :]
    digits = times - np.uint8(ord("0"))
    _require((times == _TIME) | _DIGIT_PLACES, (digits < 10) | ~_DIGIT_PLACES)
    pairs = (10 * digits[:, _PAIR_PLACES] + digits[:, _PAIR_PLACES + 1]).astype(np.int64)
    century, decade, month, day, hour, minute, second, *fraction = np.ascontiguousarray(pairs.T)
    year = 100 * century + decade
    _require(year >= 1970, month - 1 < 12, month >= 1, day >= 1, hour < 24, minute < 60, second < 60)
    months = _months()
    place = 12 * (year - 1970) + month - 1
    days = months[place] + day - 1
    micros: Numbers = (100 * fraction[0] + fraction[1]) * 100 + fraction[2]
    _require(days < months[place + 1], (micros > 0) | whole)  # a fraction of zero is not written
    micros += (((24 * days + hour) * 60 + minute) * 60 + second) * SECOND
    return micros


@cache
def _months() -> Numbers:
    """The first day of each month from 1970 to 9999, and of the one after, in days since 1970."""
    months = np.arange("1970-01", "10000-02", dtype="datetime64[M]")
    return months.astype("datetime64[D]").astype(np.int64)
