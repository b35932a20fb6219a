"""The event and the record: what DESIGN 4.1 and 4.2 accept and refuse."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext, suppress
from typing import Any

import msgspec
import pytest
import reference
import rfc8785
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical
from auditlib.formats.event import (
    MAX_CONTEXT_BYTES,
    MAX_EVENT_BYTES,
    Event,
    Receipt,
    Record,
    check_event,
    check_record,
    event_bytes,
    parse_event,
    parse_record,
    record_bytes,
    source_name,
)
from auditlib.formats.times import (
    LATEST,
    canonical_time,
    format_time,
    from_datetime,
    parse_canonical_time,
    parse_time,
    to_datetime,
)

EXAMPLE: dict[str, Any] = {
    "action": "role.grant",
    "actor": {"id": "u_8842", "session": "s_1f9c", "type": "user"},
    "context": {"granted_role": "admin", "ip": "203.0.113.40"},
    "event_id": "01JH2K8Q9R3W",
    "occurred_at": "2026-01-08T14:32:07Z",
    "outcome": "success",
    "target": {"id": "u_9013", "type": "user"},
}
RECEIPT = Receipt("2026-01-08T14:32:08Z", "billing-api/7f3a", 17)


def changed(**fields: Any) -> dict[str, Any]:
    """EXAMPLE with fields replaced; `actor__id` reaches inside."""
    event = copy.deepcopy(EXAMPLE)
    for name, value in fields.items():
        outer, _, inner = name.partition("__")
        if inner:
            event[outer][inner] = value
        else:
            event[outer] = value
    return event


@settings(max_examples=200, deadline=None)
@given(strategies.records)
def test_a_record_is_its_canonical_bytes(record: Record) -> None:
    """Every accepted record is RFC 8785 JSON, reads back equal, and is left as it is by its own rules."""
    data = record_bytes(record)
    assert data == reference.canonical_record(record) == rfc8785.dumps(reference.plain_record(record))
    assert data == reference.canonical_json(reference.plain_record(record)).encode()
    assert parse_record(data) == record == check_record(record)
    assert parse_record(data.decode()) == record
    assert event_bytes(record.event) == rfc8785.dumps(reference.plain_event(record.event))


@settings(max_examples=100, deadline=None)
@given(strategies.events)
def test_an_event_may_be_spelled_in_any_json(event: Event) -> None:
    """Escapes, white space and order of keys do not matter on the way in; the canonical form is one."""
    plain = reference.plain_event(event)
    assert parse_event(plain) == event
    assert parse_event(event_bytes(event)) == event
    assert parse_event(json.dumps(plain, ensure_ascii=True, indent=1).encode()) == event
    assert parse_event(json.dumps(dict(reversed(plain.items())), ensure_ascii=False)) == event


@settings(max_examples=200, deadline=None)
@given(strategies.records, st.data())
def test_a_record_with_one_byte_changed_is_another_record_or_none(record: Record, data: st.DataObject) -> None:
    """No two byte strings are the same record: what still parses re-encodes to the changed bytes."""
    raw = bytearray(record_bytes(record))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[at]))
    try:
        found = parse_record(bytes(raw))
    except MalformedError:
        return
    assert record_bytes(found) == bytes(raw)
    assert found != record


def parsed(text: bytes | str) -> Event | None:
    """The event, or None where it is refused."""
    try:
        return parse_event(text)
    except MalformedError:
        return None


spellings: Any = st.sampled_from([event_bytes, lambda event: json.dumps(reference.plain_event(event)).encode()])


@settings(max_examples=300, deadline=None)
@given(strategies.events, spellings, st.data())
def test_what_is_read_fast_is_read_the_same_slowly(event: Event, spell: Any, data: st.DataObject) -> None:
    """Canonical bytes are read by a shorter way, which a space before them bars; both read and refuse the same."""
    raw = bytearray(spell(event))
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(PIECES))
    assert parsed(bytes(raw)) == parsed(b" " + raw)


PIECES = [
    b"",
    b"0",
    b"e1",
    b".5",
    b'"',
    b"\\",
    b"\\u0000",
    b"\0",
    b"\xff",
    "é".encode(),
    b"[",
    b"{",
    b"}",
    b",",
    b" ",
    b"Z",
]


def test_a_canonical_spelling_excuses_nothing() -> None:
    """What is refused is refused also in the bytes that the short way reads, and a float is still a float."""
    for event in REFUSED.values():
        with suppress(MalformedError, UnicodeError):
            raw = canonical(event)
            assert parsed(raw) is None and parsed(raw.decode()) is None
    for value in (
        *("[1.0]", "[1e2]", "[-0]", "[0.10]", "[1E-7]", "[12345678901234567890]", "[100000000000000000000000]"),
        *('"\\u0000"', '"\\ud800"', '"\\u00e9"', '"\\/"', '"\0"', '{"$enc":1}', '[{"$enc":[]}]', "[[[[[[[[1]]]]]]]]"),
    ):
        raw = event_bytes(parse_event(EXAMPLE)).replace(b'"203.0.113.40"', value.encode())
        found = parsed(raw)
        assert found == parsed(b" " + raw)
        assert found is None or event_bytes(found) != raw
    twice = event_bytes(parse_event(EXAMPLE)).replace(b'"ip":', b'"granted_role":"admin","ip":')
    assert parsed(twice) is None


REFUSED: dict[str, dict[str, Any]] = {
    "an unknown field": changed(severity="high"),
    "an unknown inner field": changed(actor__name="Eve"),
    "no actor": {name: value for name, value in EXAMPLE.items() if name != "actor"},
    "a null actor": changed(actor=None),
    "no session field": changed(actor={"id": "u", "type": "user"}),
    "an empty session": changed(actor__session=""),
    "an empty actor id": changed(actor__id=""),
    "an empty target id": changed(target__id=""),
    "an actor id of 1,025 bytes": changed(actor__id="x" * 1025),
    "a session of 1,026 bytes in 513 characters": changed(actor__session="é" * 513),
    "U+0000 in an id": changed(target__id="a\0b"),
    "a lone surrogate in an id": changed(actor__id="\ud800"),
    "a lone surrogate in a session": changed(actor__session="\udfff"),
    "an integer id": changed(actor__id=7),
    "an unknown actor type": changed(actor__type="robot"),
    "an upper-case actor type": changed(actor__type="User"),
    "an empty target type": changed(target__type=""),
    "an upper-case target type": changed(target__type="User"),
    "a target type of 129 characters": changed(target__type="a" * 129),
    "an upper-case action": changed(action="Role.Grant"),
    "an action of one word": changed(action="grant"),
    "an action with an empty word": changed(action="role..grant"),
    "an action that ends in a dot": changed(action="role.grant."),
    "an action of 129 characters": changed(action="a." + "b" * 127),
    "an action with a newline at its end": changed(action="role.grant\n"),
    "an action beyond ASCII": changed(action="rôle.grant"),
    "an action in other digits": changed(action="role.grant\u0663"),
    "an unknown outcome": changed(outcome="ok"),
    "an empty event id": changed(event_id=""),
    "an event id of 129 characters": changed(event_id="e" * 129),
    "an event id with a space": changed(event_id="a b"),
    "an event id with a newline at its end": changed(event_id="a\n"),
    "an event id beyond ASCII": changed(event_id="é"),
    "an event id with DEL": changed(event_id="a\x7f"),
    "a context that is a list": changed(context=[]),
    "a context that is null": changed(context=None),
    "a reserved context": changed(context={"$enc": 1}),
    "a reserved object inside": changed(context={"a": [{"$enc": "x"}]}),
    "a context of nine levels": changed(context=strategies.nested(9)),
    "a context of nine levels that ends in an empty list": changed(context=strategies.nested(8, [])),
    "a context of 16,385 bytes": changed(context={"k": "x" * (MAX_CONTEXT_BYTES - 7)}),
    "a context of 16,385 bytes once escaped": changed(context={"k": "\n" * ((MAX_CONTEXT_BYTES - 6) // 2)}),
    "2^53 in a context": changed(context={"n": 2**53}),
    "U+0000 in a context": changed(context={"a": ["\0"]}),
    "a lone surrogate in a context's key": changed(context={"\ud800": 1}),
    "NaN in a context": changed(context={"n": float("nan")}),
    "a time without an offset": changed(occurred_at="2026-01-08T14:32:07"),
    "a leap second": changed(occurred_at="2016-12-31T23:59:60Z"),
    "a time that is a number": changed(occurred_at=1767882727),
}


@pytest.mark.parametrize("event", REFUSED.values(), ids=REFUSED.keys())
def test_an_event_outside_the_frozen_schema_is_refused(event: dict[str, Any]) -> None:
    """As a mapping and as JSON, with MalformedError and nothing else."""
    with pytest.raises(MalformedError):
        parse_event(event)
    with pytest.raises(MalformedError):
        parse_event(json.dumps(event))


@pytest.mark.parametrize("context", [{1: 2}, strategies.nested(5000), {"a": {1}}], ids=["key", "deep", "set"])
def test_a_mapping_that_json_could_not_hold_is_refused(context: dict[Any, Any]) -> None:
    """An application that passes Python values gets MalformedError too, however deep they are."""
    with pytest.raises(MalformedError):
        parse_event(changed(context=context))


@pytest.mark.parametrize("levels", [9, 100, *range(150, 1200, 50), 5000])
@pytest.mark.parametrize("opening", ['{"k":', "["])
def test_any_depth_is_malformed_however_it_is_read(levels: int, opening: str) -> None:
    """Where one reader gives up for want of stack and the next does not, it is MalformedError all the same."""
    closing = {"[": "]"}.get(opening, "}")
    raw = event_bytes(parse_event(EXAMPLE)).decode()
    deep = raw.replace('"203.0.113.40"', opening * (levels - 1) + "1" + closing * (levels - 1))
    for text in (deep, deep.encode(), " " + deep):
        with pytest.raises(MalformedError):
            parse_event(text)


def test_the_limits_themselves_are_accepted() -> None:
    """What stands exactly at a limit of DESIGN 4.1 is kept."""
    for event in (
        changed(actor__id="é" * 512, actor__session="x" * 1024, target__id="𝄞" * 256),
        changed(action="a." + "b" * 126, target__type="a" * 128, event_id="~" * 128),
        changed(context={"k": "x" * (MAX_CONTEXT_BYTES - 8)}),
        changed(context=strategies.nested(8)),
        changed(context={"$enc": 1, "other": 2}),
        changed(context={"n": [2**53 - 1, 1 - 2**53, 5e-324, 0.1]}),
        changed(actor__session=None),
    ):
        assert parse_event(event) == parse_event(json.dumps(event))


def test_a_python_value_is_kept_as_json_keeps_it() -> None:
    """A tuple or a 1.0 in a context does not make another hash than the same event from JSON."""
    event = parse_event(changed(context={"a": (1.0, -0.0)}))
    assert event_bytes(event) == event_bytes(parse_event(changed(context={"a": [1, 0]})))


def test_duplicate_keys_are_refused_at_every_level() -> None:
    """Two readers could each take another one of them."""
    text = json.dumps(EXAMPLE)
    for twice in (text[:-1] + ',"action":"role.grant"}', text.replace('"id":', '"id":"x","id":', 1)):
        with pytest.raises(MalformedError, match="twice"):
            parse_event(twice)


@pytest.mark.parametrize("data", [b"[]", b"null", b'"x"', b"", b"\xff", b" " * (MAX_EVENT_BYTES + 1), "\ud800"])
def test_what_is_no_event_at_all_is_malformed(data: bytes | str) -> None:
    """Never another exception, whatever the intake is sent."""
    with pytest.raises(MalformedError):
        parse_event(data)
    with pytest.raises(MalformedError):
        parse_record(data)


@pytest.mark.parametrize("seq", [0, -1, 2**53, 2**70, True, "1", 1.5])
def test_a_source_sequence_counts_from_one(seq: Any) -> None:
    """A number that is no count is refused, built in Python or read as JSON."""
    record = Record(parse_event(EXAMPLE), RECEIPT)
    plain = reference.plain_record(record)
    plain["receipt"]["source_seq"] = seq
    with pytest.raises(MalformedError):
        parse_record(json.dumps(plain, separators=(",", ":"), sort_keys=True))
    if type(seq) is int:
        with pytest.raises(MalformedError):
            check_record(msgspec.structs.replace(record, receipt=msgspec.structs.replace(RECEIPT, source_seq=seq)))


@pytest.mark.parametrize(
    "receipt",
    [
        Receipt("2026-01-08T14:32:08Z", "", 1),
        Receipt("2026-01-08T14:32:08Z", "Billing", 1),
        Receipt("2026-01-08T14:32:08Z", "a" * 129, 1),
        Receipt("2026-01-08T14:32:08.0Z", "a", 1),
        Receipt("2026-01-08T15:32:08+01:00", "a", 1),
    ],
)
def test_a_receipt_is_canonical(receipt: Receipt) -> None:
    """Source and time of a receipt obey the same rules as the event's."""
    record = Record(parse_event(EXAMPLE), receipt)
    with pytest.raises(MalformedError, match=r"^receipt"):
        check_record(record)
    with pytest.raises(MalformedError):
        parse_record(record_bytes(record))


@pytest.mark.parametrize(
    "respell",
    [
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace(":17", ":17.0"),
        lambda text: text.replace('"role', '"\\u0072ole'),
        lambda text: text.replace("07Z", "07.000000Z"),
        lambda text: text.replace(
            '"granted_role":"admin","ip":"203.0.113.40"', '"ip":"203.0.113.40","granted_role":"admin"'
        ),
        lambda text: text.replace('"type":"user"}},"receipt"', '"type":"user"},"x":1},"receipt"'),
    ],
)
def test_a_record_in_another_spelling_is_refused(respell: Any) -> None:
    """Strict inverse: a record has one spelling only."""
    text = record_bytes(Record(parse_event(EXAMPLE), RECEIPT)).decode()
    assert parse_record(text)
    assert respell(text) != text
    with pytest.raises(MalformedError):
        parse_record(respell(text))


def test_check_event_refuses_a_context_that_is_no_object() -> None:
    """An Event built in Python can hold anything; a list is no context."""
    event = parse_event(EXAMPLE)
    for context in ([], None, "x", 5):
        with pytest.raises(MalformedError, match="context"):
            check_event(msgspec.structs.replace(event, context=context))


def test_silence_is_judged_by_the_name_before_the_slash() -> None:
    """DESIGN 4.2."""
    assert source_name("billing-api/7f3a") == "billing-api"
    assert source_name("import:cloudtrail:1234") == "import:cloudtrail:1234"


# --- times --------------------------------------------------------------------------------------------------

time_texts = st.builds(
    "{}-{}-{}{}{}:{}:{}{}{}".format,
    st.one_of(st.integers(1968, 2400), st.sampled_from([0, 9998, 9999, 10000])).map(lambda year: f"{year:04}"),
    st.integers(0, 13).map(lambda month: f"{month:02}"),
    st.integers(0, 32).map(lambda day: f"{day:02}"),
    st.sampled_from("TTTTTt "),
    *(st.integers(0, top).map(lambda number: f"{number:02}") for top in (24, 60, 60)),
    st.sampled_from(["", "", ".5", ".000000", ".123456", ".1234569", ".", ".0000009", ",5", ".\u0663"]),
    st.sampled_from(
        [
            "Z",
            "Z",
            "+00:00",
            "-00:00",
            "+01:00",
            "-23:59",
            "+24:00",
            "+01:60",
            "",
            "z",
            "+0100",
            "Z\n",
            "+\u0660\u0661:\u0660\u0660",
        ]
    ),
)


@settings(max_examples=800, deadline=None)
@given(time_texts)
def test_times_are_read_as_a_reader_by_hand_reads_them(text: str) -> None:
    """Accepted, refused and understood the same as a parser without datetime or regular expressions."""
    try:
        expected: int | None = reference.parse_time(text)
    except ValueError:
        expected = None
    if expected is None:
        for parse in (parse_time, parse_canonical_time, canonical_time):
            with pytest.raises(MalformedError):
                parse(text)
    else:
        assert parse_time(text) == expected
        assert canonical_time(text) == format_time(expected)
        with nullcontext() if text == format_time(expected) else pytest.raises(MalformedError, match="canonical"):
            assert parse_canonical_time(text) == expected
        assert parse_canonical_time(format_time(expected)) == expected
        assert reference.parse_time(format_time(expected)) == expected


@settings(max_examples=300, deadline=None)
@given(strategies.times)
def test_a_time_has_one_text(micros: int) -> None:
    """Whole seconds, or exactly six digits; every other spelling of the same moment is not canonical."""
    text = format_time(micros)
    assert len(text) == (27 if micros % 1_000_000 else 20)
    assert parse_canonical_time(text) == micros == reference.parse_time(text)
    assert from_datetime(to_datetime(micros)) == micros
    for other in (text[:-1] + "+00:00", text[:-1] + ("0Z" if "." in text else ".0Z")):
        assert parse_time(other) == micros
        with pytest.raises(MalformedError, match="canonical"):
            parse_canonical_time(other)


def test_the_years_are_1970_to_9999_in_utc() -> None:
    """The range is judged after conversion, to the microsecond."""
    assert parse_time("1969-12-31T23:00:00-01:00") == 0
    assert parse_time("9999-12-31T23:59:59.9999999Z") == LATEST
    for text in ("1970-01-01T00:59:59+01:00", "9999-12-31T23:00:00-01:00", "1969-12-31T23:59:59.999999Z"):
        with pytest.raises(MalformedError, match="1970"):
            parse_time(text)


def test_a_moment_without_an_offset_is_refused() -> None:
    """Nobody guesses a time zone, and a number past every calendar has no text."""
    with pytest.raises(MalformedError, match="time zone"):
        from_datetime(to_datetime(0).replace(tzinfo=None))
    for micros in (2**62, -(2**62)):
        with pytest.raises(MalformedError):
            format_time(micros)
