"""Many seals matched at once: exactly what is accepted one by one, and the same values."""

from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_long_history import SIZE, SPOILT, described, lines, long, sealed

from auditlib.errors import MalformedError
from auditlib.formats.lines import Lines, Named
from auditlib.formats.page import parse_page
from auditlib.formats.scan import OtherError, scan
from auditlib.formats.seal import MAX_SEAL_BYTES, parse_seal, seal_bytes
from auditlib.formats.times import format_time

__all__ = ["lines", "long"]  # fixtures

ODD = b'"\\{}[],:.-+/ \n\0\x7f\xc3_aAfFgz019nZT'  # bytes that mean something somewhere, or nothing anywhere


def slowly(some):
    """The columns of these seals, as `parse_seal` and nothing else reads them."""
    spaced = msgspec.structs.replace(parse_seal(some[0]), signature="é")  # in no seal that is matched at once
    page = parse_page([*some, seal_bytes(spaced)])
    return {name: value[:-1] for name, value in stated(page).items()}


def stated(page):
    """What each seal says, in a form that can be compared."""
    found = {
        "leaves": [page.leaves[at : at + 32] for at in range(0, len(page.leaves), 32)],
        "hashes": [page.hashes[at : at + 32] for at in range(0, len(page.hashes), 32)],
        "previous": [page.previous[at : at + 64] for at in range(0, len(page.previous), 64)],
        "trails": [page.trails[code] for code in page.trail_codes],
    }
    spans = page.spans.tolist()
    for name in ("sequences", "sealed_at", "occurred", "recorded", "events", "sizes", "uncounted"):
        found[name] = getattr(page, name).tolist()
    for name in ("actions", "outcomes", "sources"):
        named = getattr(page, name)
        pairs = [(named.names[code], count) for code, count in zip(named.codes, named.counts.tolist(), strict=True)]
        starts = named.starts.tolist()
        found[name] = [pairs[a:b] for a, b in pairwise(starts)]
        if name == "sources":
            found["spans"] = [spans[a:b] for a, b in pairwise(starts)]
    return found


def matched(some):
    """What `scan` makes of these seals."""
    return scan(Lines.of(some))


@settings(max_examples=60, deadline=None)
@given(said=st.lists(described(), min_size=1, max_size=6))
def test_what_is_matched_at_once_is_what_each_seal_says(lines, said):
    """Every column, against the slow reference."""
    found = sealed(lines[0], said)
    page = matched(found)
    assert stated(page) == slowly(found) and page.origins == [parse_seal(lines[0]).origin]


def test_a_whole_page_is_matched_at_once(lines):
    """Ordinary seals take the fast way, and state there what they state alone."""
    assert stated(matched(lines[:1024])) == slowly(lines[:1024])


def changed(line, **fields):
    return seal_bytes(msgspec.structs.replace(parse_seal(line), **fields))


BIG = 2**53 - 1


@pytest.mark.parametrize(
    "fields",
    [
        {"sealed_at": "1970-01-01T00:00:00Z"},
        {"sealed_at": "9999-12-31T23:59:59.999999Z"},
        {"sealed_at": "2024-02-29T00:00:00.000001Z"},
        {"sealed_at": "2000-02-29T12:00:00.100000Z"},
        {"spans": (1, BIG)},
        {"spans": (10**7, 10**8)},
        {"spans": (99_999_999, 10**15)},
    ],
    ids=str,
)
def test_the_ends_of_what_is_allowed_are_read_at_once(lines, fields):
    """The longest numbers, the first and last times, leap days."""
    seal = parse_seal(lines[0])
    if spans := fields.pop("spans", None):
        source = type(next(iter(seal.sources.values())))
        fields["sources"] = {name: source(of.events, *spans) for name, of in seal.sources.items()}
    line = changed(lines[0], **fields)
    assert stated(matched([line])) == slowly([line])


@settings(max_examples=400, deadline=None)
@given(data=st.data(), which=st.integers(0, SIZE - 1))
@example(data=None, which=0)
def test_no_change_of_a_byte_is_taken_at_once_that_is_refused_alone(lines, data, which):
    """A byte put in another's place, put in or taken out, anywhere in a seal: accepted or refused as alone."""
    line = lines[which]
    if data is not None:
        at = data.draw(st.integers(0, len(line) - 1))
        new = bytes([data.draw(st.sampled_from(ODD))])
        old, rest = line[at : at + 1], line[at + 1 :]
        line = line[:at] + data.draw(st.sampled_from([new, new + old, b"", old + old])) + rest
    some = [lines[1], line, lines[2]]
    try:
        parse_seal(line)
    except MalformedError as alone:
        with pytest.raises(MalformedError) as together:
            parse_page(some)
        assert str(together.value) == str(alone)
    else:
        assert stated(parse_page(some)) == slowly(some)


@pytest.mark.parametrize(("old", "new"), SPOILT, ids=[new.decode() for _, new in SPOILT])
def test_what_is_spoilt_is_never_matched_as_good(lines, old, new):
    """Without the second look by `parse_seal`: at most numbers that do not fit are left to the checks after it."""
    spoilt = lines[0].replace(old, new, 1)
    try:
        page = matched([lines[2], spoilt, lines[1]])
    except OtherError:
        return
    decoded = msgspec.json.decode(spoilt, type=type(parse_seal(lines[0])))
    assert seal_bytes(decoded) == spoilt  # canonical it is
    assert page.sequences[1] == decoded.sequence and page.events[1] == decoded.batch.events


def escaped(line):
    return line.replace(b'"user.login"', b'"user.\\u006cogin"', 1)


def a_name_with_a_zero(line):
    return line.replace(b'"user.login"', b'"user.login\0"', 1)


def a_source_with_a_zero(line):
    return line.replace(b'"idp/a1"', b'"idp/a1\0\0"', 1)


def an_origin_with_a_plus(line):
    return line.replace(b'"origin":"bench', b'"origin":"+ench', 1)


def two_in_one(line):
    return line + b"\n" + line


def unsorted_names(line):
    return line.replace(b'"audit.heartbeat":1,"role.grant":1', b'"role.grant":1,"audit.heartbeat":1', 1)


def the_same_name_twice(line):
    return line.replace(b'"audit.heartbeat":1,"role.grant":1', b'"audit.heartbeat":1,"audit.heartbeat":1', 1)


def too_long(line):
    return line.replace(b'"signature":"', b'"signature":"' + b"A" * MAX_SEAL_BYTES, 1)


def a_year_too_far(line):
    return line.replace(b'"sealed_at":"2021', b'"sealed_at":"1969', 1)


OTHERS = [escaped, a_name_with_a_zero, a_source_with_a_zero, an_origin_with_a_plus, two_in_one, unsorted_names]
OTHERS += [the_same_name_twice, too_long, a_year_too_far]


@pytest.mark.parametrize("spoil", OTHERS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_another_spelling_is_refused_at_once_as_alone(lines, spoil, first):
    """What would be read, but is not the one canonical text."""
    assert b'"audit.heartbeat":1,"role.grant":1' in lines[0]
    spoilt = spoil(lines[0])
    assert spoilt != lines[0]
    some = [spoilt, lines[1]] if first else [lines[1], spoilt]
    with pytest.raises(OtherError):
        matched(some)
    with pytest.raises(MalformedError) as alone:
        parse_seal(spoilt)
    with pytest.raises(MalformedError) as together:
        parse_page(some)
    assert str(together.value) == str(alone.value)


@pytest.mark.parametrize("signature", ["", "é", "A" * 91, 'A"' * 46, "\\" * 92])
def test_a_rare_spelling_is_read_all_the_same(lines, signature):
    """A signature may be any text: under a checkpoint nobody looks at it. Such a seal is read alone."""
    line = changed(lines[0], signature=signature)
    with pytest.raises(OtherError):
        matched([line])
    assert stated(parse_page([line, lines[1]]))["sequences"] == [0, 1]


def test_an_origin_that_json_escapes_is_read_all_the_same(lines):
    """A quotation mark and a backslash are visible characters: such a seal is read alone."""
    some = [changed(line, origin='a"b\\c') for line in lines[:2]]
    with pytest.raises(OtherError):
        matched(some)
    assert parse_page(some).origins == ['a"b\\c']


def test_names_that_are_mixed_to_the_same_are_told_apart(lines, monkeypatch):
    """The mixing only sorts; where it cannot tell two names apart, the seals are read one by one."""
    monkeypatch.setattr("auditlib.formats.scan._MIXED", np.zeros(16, np.uint64))
    with pytest.raises(OtherError):
        matched(lines[:2])
    assert stated(parse_page(lines[:2]))["actions"] == slowly(lines[:2])["actions"]


def test_the_lines_of_a_page_are_those_between_its_newlines(lines):
    """One piece of bytes, and each line of it."""
    data = b"".join(line + b"\n" for line in lines[:5])
    split = Lines.split(data)
    assert [*split] == lines[:5] == [*Lines.of(lines[:5])] and split[1:3] == lines[1:3] and len(split) == 5
    assert np.array_equal(split.bounds, Lines.of(lines[:5]).bounds)
    for wrong in (data[:-1], b"x"):
        with pytest.raises(MalformedError):
            Lines.split(wrong)


def test_every_day_of_the_calendar_is_read_as_alone(lines):
    """Times at once are those that `format_time` writes: a day of each month over four centuries."""
    days = [n * 86_400_000_000 * 17 + n for n in range(0, 8_600)]
    some = [changed(lines[n % 2], sealed_at=format_time(day)) for n, day in enumerate(days)]
    assert matched(some).sealed_at.tolist() == days
    assert isinstance(matched(some[:1]).actions, Named)
