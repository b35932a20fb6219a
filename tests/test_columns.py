"""Columns against records: the vectorised way accepts and writes exactly what the slow way does.

This is what deep verification rests on: a row that `faults` passes over is evidence.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import reference
import strategies
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_event import EXAMPLE, RECEIPT, changed

import auditlib
from auditlib.errors import MalformedError
from auditlib.formats import columns
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.columns import (
    CODED,
    SCHEMA,
    SLICE,
    faults,
    leaf_hashes,
    record_at,
    record_texts,
    row_blinds,
    table_of,
)
from auditlib.formats.event import Record, parse_event, parse_record, record_bytes
from auditlib.formats.times import LATEST, format_time

CATALOG = parse_catalog((Path(auditlib.__file__).parent / "catalog.toml").read_bytes())
BLIND = bytes(range(32))
RECORD = Record(parse_event(EXAMPLE), RECEIPT)

Cells = dict[str, bytes | int | None]  # one row: text as raw bytes, times in microseconds


def cells_of(record: Record) -> Cells:
    """A record's cells, without auditlib.formats.columns."""
    event, receipt = record.event, record.receipt
    texts = {
        "event_id": event.event_id,
        "actor_type": event.actor.type,
        "actor_id": event.actor.id,
        "actor_session": event.actor.session,
        "action": event.action,
        "target_type": event.target.type,
        "target_id": event.target.id,
        "outcome": event.outcome,
        "context": reference.canonical_json(event.context),
        "source": receipt.source,
    }
    cells: Cells = {name: None if text is None else text.encode() for name, text in texts.items()}
    cells["occurred_at"] = reference.parse_time(event.occurred_at)
    cells["recorded_at"] = reference.parse_time(receipt.recorded_at)
    cells["source_seq"] = receipt.source_seq
    return {name: cells[name] for name in SCHEMA.names}


def table_from(rows: list[Cells]) -> pa.Table:
    """Any cells -> a table, with nothing looked at: as a hostile file would give it."""
    arrays = []
    for field in SCHEMA:
        values = [row[field.name] for row in rows]
        if pa.types.is_string(field.type):
            arrays.append(pa.array(values, pa.binary()).view(pa.string()))
        else:
            arrays.append(pa.array(values, pa.int64()).view(field.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


ELSEWHERE: Cells = {  # what a dictionary may hold besides a slice's own values
    **dict.fromkeys(SCHEMA.names, b"\xff"), "occurred_at": 0, "recorded_at": 0, "source_seq": 0,
}  # fmt: skip


def coded_from(rows: list[Cells]) -> pa.Table:
    """The same table with its columns of few values as dictionaries, which hold a row's values that is not in it."""
    table = table_from([ELSEWHERE, *rows])
    for place, name in enumerate(SCHEMA.names):
        if name in CODED:
            coded = table.column(name).chunk(0).view(pa.binary()).dictionary_encode()
            values = pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.view(pa.string()))
            table = table.set_column(place, pa.field(name, values.type, SCHEMA.field(name).nullable), values)
    return table.slice(1)


def slow_text(cells: Cells) -> bytes:
    """The record spelled out of its cells, by hand; MalformedError where a cell has no spelling."""
    if any(cells[field.name] is None and not field.nullable for field in SCHEMA):
        raise MalformedError("null")

    def text(name: str) -> str:
        value = cells[name]
        assert isinstance(value, bytes)
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise MalformedError("not UTF-8") from None

    def quoted(name: str) -> str:
        return "null" if cells[name] is None else reference.json_string(text(name))

    def time(name: str) -> str:
        micros = cells[name]
        assert isinstance(micros, int)
        if not 0 <= micros <= LATEST:
            raise MalformedError("out of range")
        return f'"{format_time(micros)}"'

    seq = "null" if cells["source_seq"] is None else str(cells["source_seq"])
    return (
        f'{{"event":{{"action":{quoted("action")},"actor":{{"id":{quoted("actor_id")},'
        f'"session":{quoted("actor_session")},"type":{quoted("actor_type")}}},"context":{text("context")},'
        f'"event_id":{quoted("event_id")},"occurred_at":{time("occurred_at")},"outcome":{quoted("outcome")},'
        f'"target":{{"id":{quoted("target_id")},"type":{quoted("target_type")}}}}},'
        f'"receipt":{{"recorded_at":{time("recorded_at")},"source":{quoted("source")},"source_seq":{seq}}}}}'
    ).encode()


def slow_accepts(cells: Cells) -> bool:
    """parse_record on the spelled-out record, and the catalogue: no column code takes part."""
    try:
        text = slow_text(cells)
        record = parse_record(text)
        CATALOG.check(record.event)
    except MalformedError:
        return False
    return cells_of(record) == cells


def assert_same_judgement(rows: list[Cells]) -> None:
    """faults names exactly the rows that the slow rules refuse; accepted rows have the slow bytes and leaves."""
    table = table_from(rows)
    wrong = dict(faults(table, CATALOG))
    expected = {row for row, cells in enumerate(rows) if not slow_accepts(cells)}
    assert set(wrong) == expected
    assert all(wrong.values())
    if any(row[field.name] is None for row in rows for field in SCHEMA if not field.nullable):
        return  # has no leaves; no Parquet file of the batch's schema gives such a table
    coded = coded_from(rows)
    assert dict(faults(coded, CATALOG)) == wrong
    leaves = leaf_hashes(table, row_blinds(BLIND, len(rows)))
    assert len(leaves) == len(rows) and leaf_hashes(coded, row_blinds(BLIND, len(rows))) == leaves
    for row in set(range(len(rows))) - expected:
        text = slow_text(rows[row])
        assert record_texts(table.slice(row, 1)).to_pylist() == [text]
        assert leaves[row] == reference.leaf(BLIND, row, text)
        assert record_bytes(record_at(table, row)) == text


@settings(max_examples=150, deadline=None)
@given(st.lists(strategies.records, min_size=1, max_size=6))
def test_columns_lose_nothing(records: list[Record]) -> None:
    """table_of and back: the same records, the same canonical bytes, the same leaves."""
    table = table_of(records)
    assert table.schema == SCHEMA
    expected = [reference.canonical_record(record) for record in records]
    assert record_texts(table).to_pylist() == expected
    assert [record_at(table, row) for row in range(len(records))] == records
    leaves = leaf_hashes(table, row_blinds(BLIND, len(records)))
    assert leaves == [reference.leaf(BLIND, row, text) for row, text in enumerate(expected)]
    assert table.equals(table_from([cells_of(record) for record in records]))


@settings(max_examples=150, deadline=None)
@given(st.lists(strategies.records, min_size=1, max_size=6))
def test_valid_rows_have_no_fault(records: list[Record]) -> None:
    """Whatever the event rules accept, deep verification accepts; the catalogue alone may object."""
    rows = [cells_of(record) for record in records]
    listed = [row for row, record in enumerate(records) if record.event.action in CATALOG.actions]
    assert all(slow_accepts(cells) for row, cells in enumerate(rows) if row not in listed)
    assert_same_judgement(rows)


BAD_CONTEXTS = [
    " {}", "{} ", "{ }", "\n{}", "{}\n", "{}{}", "{},{}", "[]", "null", "true", "1", '"x"', "", "{", "}", "[{}]",
    "\ufeff{}", '{"a":1.0}', '{"a":-0}', '{"a":-0.0}', '{"a":0.0}', '{"a":1e5}', '{"a":1E5}', '{"a":1e-7}',
    '{"a":1E-7}', '{"a":1.50}', '{"a":0.1}', '{"a":0.10}', '{"a":01}', '{"a":+1}', '{"a":.5}', '{"a":1.}',
    '{"a":NaN}', '{"a":Infinity}', '{"a":1e400}', '{"a":5e-324}', '{"a":2e-324}', '{"a":9007199254740991}',
    '{"a":9007199254740992}', '{"a":-9007199254740992}', '{"a":9007199254740993}', '{"a":18446744073709551616}',
    '{"a":[9007199254740992]}', '{"a":' + "9" * 5000 + "}", '{"a":1e21}', '{"a":123456789012345680000}',
    '{"a":333333333.33333329}', '{"a":333333333.3333333}', '{"a":1e+22}', '{"a":1,"a":1}', '{"a":1,"a":2}',
    '{"a":1,"\\u0061":2}', '{"x":{"a":1,"a":1}}', '{"b":1,"a":2}', '{"a":2,"b":1}', '{"B":1,"a":2}',
    '{"a":1,"B":2}', '{"a":{"b":1,"a":2}}', '{"\\u00e9":1}', '{"é":1}', '{"a":"\\u00e9"}', '{"a":"é"}',
    '{"\ufb33":1,"𝄞":2}', '{"𝄞":2,"\ufb33":1}', '{"\uffff":1,"\U00010000":2}', '{"\U00010000":2,"\uffff":1}',
    '{"\\"é":1,"\\"z":1}', '{"\\"z":1,"\\"é":1}', '{"\\\\é\\n":1,"a":2}', '{"a":2,"\\\\é\\n":1}',
    '{"x":[{"𝄞":2,"\ufb33":1}]}', '{"x":[{"\ufb33":1,"𝄞":2}]}', '{"a":"\\/"}', '{"a":"/"}', '{"a":"\\u002f"}',
    '{"a":"\\u000a"}', '{"a":"\\n"}', '{"a":"\n"}', '{"a":"\\b\\f\\r\\t"}', '{"a":"\\u001F"}', '{"a":"\\u001f"}',
    '{"a":"\x7f"}', '{"a":"\\u007f"}', '{"a":"\u2028"}', '{"a":"\\u2028"}', '{"a":"\\u0000"}', '{"\\u0000":1}',
    '{"a":"\0"}', '{"a":"\\ud800"}', '{"\\udc00":1}', '{"a":"\\ud834\\udd1e"}', '{"a":"𝄞"}', '{"$enc":1}',
    '{"a":{"$enc":1}}', '{"a":[{"$enc":{}}]}', '{"$enc":1,"a":2}', '{"a":1,"$enc":2}', '{"\\u0024enc":1}',
    '{"a":"{\\"$enc\\":"}', '{"$enc":{"$enc":1}}', '{"$encx":1}', '{"a":tru}', '{"a":True}', '{"a":null}',
    '{"a":1,}', "{'a':1}", "{a:1}", '{"a":1}/**/', '{"":1}', '{"":{"":[]}}', '{"a":[1,]}', '{"a": 1}', '{"a" :1}',
    '{"a":[1, 2]}', '{"a":[1.5]}', '{"a":[1,1.5]}', '{"a":[1.0]}', '{"a":["[[[[[[[[[[{{{{"]}', '{"a":"x:1.5,2"}',
    '{"a":"1234567890123456"}', json.dumps(strategies.nested(8), separators=(",", ":")),
    json.dumps(strategies.nested(9), separators=(",", ":")),
    json.dumps(strategies.nested(8, []), separators=(",", ":")),
    json.dumps(strategies.nested(7, {}), separators=(",", ":")), '{"a":' * 600 + "1" + "}" * 600,
    "[" * 600 + "]" * 600, "{" * 20_000, '{"k":"' + "x" * 16_376 + '"}', '{"k":"' + "x" * 16_377 + '"}',
    '{"k":"' + "é" * 8_189 + '"}', '{"k":[' + "1," * 8_300 + "1]}", '{},"event_id":"evil"', '{"a":1},"context":{}',
    '{}},"receipt":{', '{"granted_role":"x"}', '{"revoked_role":"x"}',
]  # fmt: skip
BAD_BYTES = [
    b'{"a":"\xff"}', b'{"a":"\xc0\xaf"}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xf4\x90\x80\x80"}', b'{"a":"\xe2\x82"}',
    b"\xff", b"{}\xff", b"\xfe\xff\x00{\x00}",
]  # fmt: skip
TEXT_ODDS = [
    b"", b"A.B", b"a.b", b"a..b", b".a", b"a.", b"a", b"a.b\n", b"a.b\0", b"a b", b"role.grant", b"role.revoke",
    b"access.request", b"Role.grant", "é".encode(), "\u0663.\u0663".encode(), b"user", b"User", b"success", b"ok",
    b"denied",
    b"x" * 128, b"x" * 129, b"x" * 1024, b"x" * 1025, "é".encode() * 512, "é".encode() * 513, b"a." + b"b" * 126,
    b"a." + b"b" * 127, b'a.b"', b'a.b","x":"', b"\\", b'"', b"\x1f", b"\x7f", b"\xff", b"\xff\"\n", b"\xc0\x80",
    b"\xed\xa0\x80", b"\0", b"a\0b", "\u2028".encode(), "a\u0085".encode(), b"~", b"!", b" ", b"a/b", b"a\nb.c",
    b"\na.b", b"null",
]  # fmt: skip
TIME_ODDS = [
    0,
    1,
    -1,
    -(10**6),
    LATEST,
    LATEST + 1,
    253_402_300_860 * 10**6,
    2**62,
    -(2**62),
    2**63 - 1,
    -(2**63),
    None,
]
SEQ_ODDS = [None, 0, 1, -1, 2**53 - 1, 2**53, 2**63 - 1, -(2**63)]
TEXT_COLUMNS = [field.name for field in SCHEMA if pa.types.is_string(field.type) and field.name != "context"]
TOKENS = [
    "{", "}", "[", "]", '"', ":", ",", "\\", "1", "0", "-", ".", "e5", "$enc", '{"$enc":1}', "\\u0000", "\\u00e9",
    "é", "𝄞", " ", "\0", "9007199254740992", "1.5", "1.0", "null", '"a":1', "\n", "\x7f", "\\n", "[[[[[[[[",
]  # fmt: skip


@st.composite
def damaged_contexts(draw: st.DrawFn) -> bytes:
    """A canonical context with a few tokens put in, taken out or put in another's place."""
    text = reference.canonical_json(draw(strategies.contexts.filter(lambda value: len(repr(value)) < 3000)))
    for _ in range(draw(st.integers(1, 3))):
        at, gone = draw(st.integers(0, len(text))), draw(st.integers(0, 2))
        text = text[:at] + draw(st.sampled_from(["", *TOKENS])) + text[at + gone :]
    return text.encode()


odd_contexts = st.one_of(
    st.sampled_from([text.encode() for text in BAD_CONTEXTS]),
    st.sampled_from(BAD_BYTES),
    damaged_contexts(),
    strategies.values.map(lambda value: json.dumps(value, ensure_ascii=False).encode()),
    strategies.values.map(lambda value: reference.canonical_json({"a": value}).encode()),
    st.none(),
)


@st.composite
def damaged_rows(draw: st.DrawFn) -> Cells:
    """A valid row with one to three cells of any content."""
    cells = cells_of(draw(st.one_of(strategies.records, st.just(RECORD))))
    for name in draw(st.lists(st.sampled_from([*SCHEMA.names, "context", "context"]), min_size=1, max_size=3)):
        if name == "context":
            cells[name] = draw(odd_contexts)
        elif name in TEXT_COLUMNS:
            any_text = strategies.texts.map(str.encode)
            cells[name] = draw(st.one_of(st.sampled_from(TEXT_ODDS), st.binary(max_size=8), any_text, st.none()))
        elif name == "source_seq":
            cells[name] = draw(st.one_of(st.sampled_from(SEQ_ODDS), st.integers(-(2**63), 2**63 - 1)))
        else:
            cells[name] = draw(
                st.one_of(st.sampled_from(TIME_ODDS), st.integers(-(2**63), 2**63 - 1), strategies.times)
            )
    return cells


@settings(max_examples=500, deadline=None)
@given(damaged_rows())
@example({**cells_of(RECORD), "context": b"null"})
@example({**cells_of(RECORD), "context": b"[]"})
@example({**cells_of(RECORD), "action": None})
def test_one_damaged_row_is_judged_as_the_slow_rules_judge_it(cells: Cells) -> None:
    """Any cell, any content: accepted by one means accepted by the other."""
    assert_same_judgement([cells])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(damaged_rows(), strategies.records.map(cells_of)), min_size=2, max_size=5))
def test_damaged_rows_do_not_hide_behind_others(rows: list[Cells]) -> None:
    """Each row is judged alone: contexts that only parse joined, or a fault beside a fault, are all named."""
    assert_same_judgement(rows)


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 999), max_size=5), st.integers(1, 1000))
def test_faults_are_found_among_many_rows(bad: set[int], size: int) -> None:
    """However the rows are divided to find them: every faulty row is named, by its own number, in order."""
    good: Cells = cells_of(RECORD)
    rows = [{**good, "context": b"{} "} if row in bad else good for row in range(size)]
    assert [row for row, _ in faults(table_from(rows), CATALOG)] == sorted(row for row in bad if row < size)


@pytest.mark.parametrize("action", [b"role.grant", b"x.y"])
def test_every_odd_context_is_judged_as_the_slow_rules_judge_it(action: bytes) -> None:
    """The whole list, one by one and all at once."""
    rows = []
    for context in [*(text.encode() for text in BAD_CONTEXTS), *BAD_BYTES]:
        rows.append({**cells_of(RECORD), "action": action, "context": context})
        assert_same_judgement(rows[-1:])
    assert_same_judgement(rows)
    assert 0 < sum(map(slow_accepts, rows)) < len(rows)


@pytest.mark.parametrize("name", TEXT_COLUMNS)
def test_every_odd_text_is_judged_as_the_slow_rules_judge_it(name: str) -> None:
    """In every text column, one by one and all at once."""
    rows: list[Cells] = []
    for text in [*TEXT_ODDS, None]:
        rows.append({**cells_of(RECORD), name: text})
        assert_same_judgement(rows[-1:])
    assert_same_judgement(rows)
    assert 0 < sum(map(slow_accepts, rows)) < len(rows)


@pytest.mark.parametrize("name", ["occurred_at", "recorded_at", "source_seq"])
def test_every_odd_number_is_judged_as_the_slow_rules_judge_it(name: str) -> None:
    """Times outside 1970 to 9999 and counts outside 1 to 2^53 - 1, to the ends of 64 bits."""
    rows: list[Cells] = [
        {**cells_of(RECORD), name: value} for value in (SEQ_ODDS if name == "source_seq" else TIME_ODDS)
    ]
    for row in rows:
        assert_same_judgement([row])
    assert_same_judgement(rows)
    assert 0 < sum(map(slow_accepts, rows)) < len(rows)


def test_three_rows_that_only_parse_joined_are_three_faults() -> None:
    """DESIGN 5: `[` + `,`.join + `]` would accept these."""
    rows: list[Cells] = [{**cells_of(RECORD), "context": text} for text in (b'{"a":[1', b"2", b"3]}")]
    assert [row for row, _ in faults(table_from(rows), CATALOG)] == [0, 1, 2]


def test_a_cell_cannot_write_itself_into_the_next() -> None:
    """Raw columns are spliced into the leaf: text that would close its string and go on is a fault."""
    evil = b'role.grant","actor":{"id":"x","session":null,"type":"user"},"context":{},"event_id":"e'
    for name in TEXT_COLUMNS:
        cells: Cells = {**cells_of(RECORD), name: evil}
        assert_same_judgement([cells])
        if name not in ("event_id", "actor_id", "actor_session", "target_id"):  # those are escaped
            assert [row for row, _ in faults(table_from([cells]), CATALOG)] == [0]


def test_a_fault_in_the_second_slice_has_its_row_number() -> None:
    """Rows are counted through the batch and not through the slice; valid slices are passed over."""
    rows = [cells_of(RECORD)] * (SLICE + 3)
    rows[SLICE + 1] = {**rows[0], "context": b"{ }"}
    table = table_from(rows)
    assert [row for row, _ in faults(table, CATALOG)] == [SLICE + 1]
    leaves = leaf_hashes(table, row_blinds(BLIND, len(rows)))
    for row in (0, SLICE - 1, SLICE, SLICE + 2):
        assert leaves[row] == reference.leaf(BLIND, row, record_bytes(RECORD))


def test_a_chunked_and_sliced_table_is_the_same_table() -> None:
    """How Arrow cuts the columns says nothing about the records."""
    records = [
        Record(parse_event(changed(event_id=f"e{n}", actor__session=f"\n{n}" if n % 2 else None)), RECEIPT)
        for n in range(9)
    ]
    whole = table_of(records)
    cut = pa.concat_tables([table_of(records[:2]), table_of(records[2:7]), table_of(records[7:])])
    padded = pa.concat_tables([table_of(records[5:]), whole]).slice(4)
    for table in (cut, padded):
        assert record_texts(table).to_pylist() == [reference.canonical_record(record) for record in records]
        assert leaf_hashes(table, row_blinds(BLIND, 9)) == leaf_hashes(whole, row_blinds(BLIND, 9))
        assert not list(faults(table, CATALOG))


def test_blinds_are_shake_256_of_the_batch() -> None:
    """Byte 16i to 16i+15, and never the same twice."""
    stream = row_blinds(BLIND, 1000)
    assert stream == hashlib.shake_256(BLIND).digest(16_000)
    assert len({stream[at : at + 16] for at in range(0, 16_000, 16)}) == 1000


@settings(max_examples=100, deadline=None)
@given(st.lists(strategies.times, min_size=1, max_size=20))
def test_times_are_written_as_one_by_one(times: list[int]) -> None:
    """The vectorised text of a time is format_time's."""
    found = columns.time_texts(pa.array(times, pa.int64()).view(SCHEMA.field("occurred_at").type))
    assert found.to_pylist() == [format_time(micros).encode() for micros in times]


@pytest.mark.parametrize(
    "record",
    [
        msgspec.structs.replace(RECORD, receipt=msgspec.structs.replace(RECEIPT, source_seq=2**70)),
        msgspec.structs.replace(RECORD, receipt=msgspec.structs.replace(RECEIPT, source="\ud800")),
        msgspec.structs.replace(RECORD, event=msgspec.structs.replace(RECORD.event, context={"a": 2**60})),
        msgspec.structs.replace(RECORD, event=msgspec.structs.replace(RECORD.event, event_id=7)),
        msgspec.structs.replace(RECORD, event=msgspec.structs.replace(RECORD.event, occurred_at="now")),
    ],
    ids=["seq", "surrogate", "context", "type", "time"],
)
def test_an_unchecked_record_that_no_column_holds_is_malformed(record: Any) -> None:
    """The sealer is handed Python objects: what does not fit is our error, not Arrow's."""
    with pytest.raises(MalformedError):
        table_of([record])
