"""Batches: what goes in comes out, every leaf where the design puts it, and no damage gives another exception."""

from __future__ import annotations

import hashlib
import io
import random
from collections import Counter
from pathlib import Path

import numpy as np
import parquet_tools as pt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reference
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from test_event import EXAMPLE, RECEIPT, changed

import auditlib
from auditlib.errors import MalformedError, MismatchError
from auditlib.formats import merkle
from auditlib.formats.batch import (
    counts_of,
    encode_batch,
    id_digests,
    parse_batch,
    sources_of,
    time_range,
)
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.columns import SCHEMA, faults, record_at, record_texts, row_blinds, table_of
from auditlib.formats.event import Receipt, Record, parse_event, record_bytes
from auditlib.formats.layout import batch_key
from auditlib.formats.seal import MAX_ACTIONS, MAX_BATCH_EVENTS, Source
from auditlib.formats.times import parse_time

CATALOG = parse_catalog((Path(auditlib.__file__).parent / "catalog.toml").read_bytes())
BLIND = bytes(range(32))


def record(number: int) -> Record:
    """One of many that differ in every column that may."""
    event = changed(
        event_id=f"e{number:06}",
        occurred_at=f"2026-01-08T14:{number // 60 % 60:02}:{number % 60:02}" + (".5Z" if number % 3 else "Z"),
        actor__session=None if number % 4 == 0 else f"s{number}",
        context={"granted_role": "admin", "n": number, "ø": number / 7},
        outcome=("success", "failure", "denied")[number % 3],
    )
    return Record(
        parse_event(event), Receipt("2026-01-08T15:00:00Z", f"api/{number % 3}", number + 1 if number % 5 else None)
    )


RECORDS = [record(number) for number in range(600)]
TABLE = table_of(RECORDS)
ENCODED = encode_batch(TABLE, 42, BLIND)
TEXTS = [reference.canonical_record(one) for one in RECORDS]
ENTRIES = [reference.entry(BLIND, row, text) for row, text in enumerate(TEXTS)]


@settings(max_examples=60, deadline=None)
@given(st.lists(strategies.records, min_size=1, max_size=5), st.binary(min_size=32, max_size=32))
def test_a_batch_loses_nothing(records: list[Record], blind: bytes) -> None:
    """records -> table -> Parquet -> table: the same bytes of every record, and the root of RFC 6962 over them."""
    encoded = encode_batch(table_of(records), 7, blind)
    batch = parse_batch(encoded.data)
    expected = [reference.canonical_record(one) for one in records]
    assert record_texts(batch.table).to_pylist() == expected == batch.texts(list(range(len(records))))
    assert [record_at(batch.table, row) for row in range(len(records))] == records
    entries = [reference.entry(blind, row, text) for row, text in enumerate(expected)]
    assert encoded.batch.root == reference.mth(entries).hex()
    assert merkle.root(batch.leaves()).hex() == encoded.batch.root
    assert not [row for row, _ in faults(batch.table, CATALOG) if records[row].event.action not in CATALOG.actions]


def test_what_the_seal_says_of_a_batch_is_so() -> None:
    """Size, hash, key, root, counts, ranges and sources, each counted by hand."""
    batch = ENCODED.batch
    assert (batch.events, batch.size) == (600, len(ENCODED.data))
    assert batch.sha256 == hashlib.sha256(ENCODED.data).hexdigest()
    assert batch.object == batch_key(42, parse_time("2026-01-08T15:00:00Z"), batch.sha256)
    assert batch.root == reference.mth(ENTRIES).hex()
    events = [one.event for one in RECORDS]
    assert ENCODED.counts.actions == {"role.grant": 600}
    assert ENCODED.counts.outcomes == dict(sorted(Counter(event.outcome for event in events).items()))
    times = sorted(events, key=lambda event: parse_time(event.occurred_at))
    assert ENCODED.occurred == (times[0].occurred_at, times[-1].occurred_at)
    assert ENCODED.recorded == ("2026-01-08T15:00:00Z", "2026-01-08T15:00:00Z")
    for name, source in ENCODED.sources.items():
        mine = [one.receipt.source_seq for one in RECORDS if one.receipt.source == name]
        numbers = [seq for seq in mine if seq is not None]
        assert source == Source(len(mine), min(numbers), max(numbers))
    assert list(ENCODED.sources) == ["api/0", "api/1", "api/2"]


def test_a_batch_is_the_parquet_of_the_design() -> None:
    """Columns, types, compression, metadata and row groups as DESIGN 4.3 lists them; no statistics of any kind."""
    file = pq.ParquetFile(io.BytesIO(ENCODED.data))
    assert file.schema_arrow.equals(SCHEMA)
    assert [field.name for field in SCHEMA if field.nullable] == ["actor_session", "source_seq"]
    assert set(file.metadata.metadata) == {b"auditlib.blind", b"auditlib.nodes"}
    for index in range(file.metadata.num_columns):
        column = file.metadata.row_group(0).column(index)
        assert (column.compression, column.is_stats_set, column.has_column_index) == ("ZSTD", False, False)
    parsed = parse_batch(memoryview(ENCODED.data))
    assert (parsed.blind, len(parsed.nodes)) == (BLIND, 3)
    assert [node.hex() for node in parsed.nodes] == [
        reference.mth(ENTRIES[at : at + 256]).hex() for at in (0, 256, 512)
    ]


def test_the_same_records_give_the_same_bytes() -> None:
    """Writing depends on nothing but table, sequence and blind; another blind gives another root."""
    assert encode_batch(TABLE, 42, BLIND) == ENCODED
    other = encode_batch(pa.concat_tables([TABLE.slice(0, 7), TABLE.slice(7)]), 42, BLIND)
    assert other.batch.root == ENCODED.batch.root
    assert encode_batch(TABLE, 42, bytes(32)).batch.root != ENCODED.batch.root


def test_row_groups_of_8192_rows() -> None:
    """A batch past one row group: the groups are of 8,192 and the rest, and every leaf is where it was."""
    table = pa.concat_tables([TABLE] * 28)
    encoded = encode_batch(table, 0, BLIND)
    metadata = pq.ParquetFile(io.BytesIO(encoded.data)).metadata
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [8192, 8192, 416]
    batch = parse_batch(encoded.data)
    leaves = batch.leaves()
    for row in (0, 8191, 8192, 16_383, 16_384, 16_799):
        assert leaves[row] == reference.leaf(BLIND, row, TEXTS[row % 600])
    shown = [8191, 8192, 16_799]
    proof = batch.proof(shown, encoded.batch.root)
    assert proof == merkle.holes(leaves, shown)
    assert merkle.root_from_holes(16_800, [(row, leaves[row]) for row in shown], proof).hex() == encoded.batch.root


@pytest.mark.parametrize("rows", [[0], [599], [255, 256], [0, 1, 2, 511, 512], list(range(600)), list(range(100, 400))])
def test_a_proof_is_the_tree_with_holes(rows: list[int]) -> None:
    """Proof, texts and blinds of some rows are all that an auditor needs to come to the root."""
    batch = parse_batch(ENCODED.data)
    proof = batch.proof(rows, ENCODED.batch.root)
    assert proof == reference.holes(ENTRIES, set(rows))
    texts, blinds = batch.texts(rows), batch.blinds(rows)
    assert texts == [TEXTS[row] for row in rows]
    entries = {row: blind + text for row, blind, text in zip(rows, blinds, texts, strict=True)}
    assert reference.root_with_holes(600, entries, proof).hex() == ENCODED.batch.root


def test_stored_nodes_are_not_believed() -> None:
    """Subtree hashes that do not lead to the seal's root are refused, and so are those of other rows than theirs."""
    metadata = pq.ParquetFile(io.BytesIO(ENCODED.data)).metadata.metadata
    nodes = parse_batch(ENCODED.data).nodes
    lied = nodes[0] + bytes(32) + nodes[2]
    blind = metadata[b"auditlib.blind"].decode()
    batch = parse_batch(pt.write(TABLE, {"auditlib.blind": blind, "auditlib.nodes": pt.base64_of(lied)}))
    with pytest.raises(MismatchError, match="do not lead to the seal's root"):
        batch.proof([0], ENCODED.batch.root)
    with pytest.raises(MismatchError, match="rows 256 to 511"):
        batch.proof([0, 300], merkle.root(batch.nodes).hex())


def test_no_rows_shown_are_no_texts() -> None:
    """An empty choice is an empty answer."""
    batch = parse_batch(ENCODED.data)
    assert batch.texts([]) == batch.blinds([]) == []


def test_some_columns_can_be_read_alone() -> None:
    """The shape is checked whole, the asked columns are read."""
    batch = parse_batch(ENCODED.data, columns=["event_id", "source"])
    assert batch.table.column_names == ["event_id", "source"]
    assert batch.table.column("event_id").to_pylist() == [one.event.event_id for one in RECORDS]


@pytest.mark.parametrize("rows", [0, MAX_BATCH_EVENTS + 1])
def test_a_batch_holds_1_to_1048576_records(rows: int) -> None:
    """DESIGN 4.3; a seal could not describe another."""
    table = TABLE.slice(0, 1).take(pa.array(np.zeros(rows, np.int64)))
    with pytest.raises(MalformedError, match="1 to 1,048,576"):
        encode_batch(table, 0, BLIND)


def test_more_than_256_actions_are_null() -> None:
    """DESIGN 4.4: counted up to 256 distinct, in the order of their names."""
    records = [Record(parse_event(changed(action=f"a.b{number}")), RECEIPT) for number in range(MAX_ACTIONS + 1)]
    assert counts_of(table_of(records)).actions is None
    actions = counts_of(table_of(records[:-1])).actions
    assert actions is not None
    assert list(actions) == sorted(f"a.b{number}" for number in range(256))


def test_a_source_without_numbers_has_none() -> None:
    """first_seq and last_seq are the least and greatest that are not null."""
    records = [Record(parse_event(EXAMPLE), Receipt("2026-01-08T15:00:00Z", "s", seq)) for seq in (None, 9, None, 3)]
    assert sources_of(table_of(records)) == {"s": Source(4, 3, 9)}
    assert sources_of(table_of(records[:1])) == {"s": Source(1, None, None)}


def test_a_time_past_every_calendar_is_malformed() -> None:
    """A hostile file's timestamps reach to the ends of 64 bits."""
    times = pa.array([2**62], pa.int64()).view(SCHEMA.field("occurred_at").type)
    with pytest.raises(MalformedError):
        time_range(pa.table({"occurred_at": times}), "occurred_at")


# --- damage -------------------------------------------------------------------------------------------------


def read_all(data: bytes) -> int:
    """Everything a reader does with a batch that it distrusts; the number of rows that were named as faults."""
    batch = parse_batch(data)
    assert len(batch.leaves()) == batch.table.num_rows
    id_digests(batch.table, BLIND)
    return sum(1 for _ in faults(batch.table, CATALOG))


SMALL = encode_batch(TABLE.slice(0, 40), 0, BLIND).data


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_with_flipped_bytes_is_another_or_malformed(seed: int) -> None:
    """No damage gives another exception, a hang or a blow-up; what is still read is not the same batch by its hash."""
    chance, outcomes = random.Random(seed), Counter[str]()
    before = pa.default_memory_pool().max_memory()
    for _ in range(300):
        data = bytearray(SMALL)
        for _ in range(chance.choice((1, 1, 2, 8))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            read_all(bytes(data))
        except MalformedError:
            outcomes["malformed"] += 1
        else:
            outcomes["read"] += 1
    assert min(outcomes["malformed"], outcomes["read"]) > 0
    assert pa.default_memory_pool().max_memory() < max(before, 2**28)


def test_a_batch_cut_anywhere_is_malformed() -> None:
    """Truncated at the end, at the front, or in the middle with its footer kept."""
    body, footer = pt.split(SMALL)
    for at in [*range(0, len(SMALL), 37), len(SMALL) - 1]:
        with pytest.raises(MalformedError):
            read_all(SMALL[:at])
    whole = parse_batch(SMALL).leaves()
    for at in range(5, len(body), 53):
        for data in (pt.join(body[:at], footer), pt.join(b"PAR1" + body[at:], footer)):
            try:
                assert parse_batch(data).leaves() != whole
            except MalformedError:
                continue
            read_all(data)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(pt.split(SMALL)[1]) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_batch_with_a_damaged_footer_is_another_or_malformed(damage: list[tuple[int, int]]) -> None:
    """The footer steers the reader: offsets, sizes, types and counts of any value."""
    body, footer = pt.split(SMALL)
    altered = bytearray(footer)
    for at, byte in damage:
        altered[at] = byte
    try:
        read_all(pt.join(body, bytes(altered)))
    except MalformedError:
        return
    assert len(altered) == len(footer)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_no_batch(junk: bytes) -> None:
    """With and without the magic."""
    for data in (junk, b"PAR1" + junk + b"PAR1", pt.join(b"PAR1", junk)):
        with pytest.raises(MalformedError):
            parse_batch(data)


def hostile(**cells: bytes) -> bytes:
    """A well-formed file of 40 rows, one of which holds these raw cells."""
    table = TABLE.slice(0, 40)
    for name, cell in cells.items():
        values = table.column(name).cast(pa.binary()).to_pylist()
        values[17] = cell
        at = table.schema.get_field_index(name)
        table = table.set_column(at, SCHEMA.field(name), pa.array(values, pa.binary()).view(pa.string()))
    return encode_batch(table, 0, BLIND).data


@pytest.mark.parametrize(
    "cells",
    [
        {"actor_id": b'\xff"'},
        {"event_id": b"\xff\n"},
        {"source": b"\xc0\xaf"},
        {"context": b'{"a":"\xed\xa0\x80"}'},
        {"action": b"\xff", "outcome": b"\xfe", "target_type": b"\x80"},
        {"context": b'{"a":' * 600 + b"1" + b"}" * 600},
        {"context": b"[]"},
        {"context": b"null"},
    ],
    ids=["actor", "event", "source", "context", "several", "deep", "list", "null"],
)
def test_a_file_with_cells_that_are_no_text_is_read_and_its_row_is_named(cells: dict[str, bytes]) -> None:
    """Reading goes on to the end: leaves for every row, digests for every row, and the one fault at its place."""
    data = hostile(**cells)
    assert read_all(data) == 1
    batch = parse_batch(data)
    assert [row for row, _ in faults(batch.table, CATALOG)] == [17]
    assert batch.leaves()[16] == reference.leaf(BLIND, 16, TEXTS[16])
    assert batch.leaves()[17] != reference.leaf(BLIND, 17, TEXTS[17])


# --- digests of ids -----------------------------------------------------------------------------------------


def digests(pairs: list[tuple[str, str]], key: bytes) -> list[int]:
    table = pa.table({"source": [source for source, _ in pairs], "event_id": [event_id for _, event_id in pairs]})
    found: list[int] = id_digests(table, key).tolist()
    return found


def test_equal_ids_have_equal_digests_and_others_do_not() -> None:
    """However the table is cut; source and event id do not run into one another; the key matters."""
    pairs = [(f"s{number % 7}", f"e{number}") for number in range(2000)] + [("s", "1e5"), ("s1", "e5"), ("s1e", "5")]
    mine = digests(pairs, BLIND)
    assert len(set(mine)) == len(set(pairs)) == len(pairs) - (("s1", "e5") in pairs[:2000])
    assert digests(list(reversed(pairs)), BLIND) == mine[::-1]
    assert digests([*pairs, ("s", "x" * 100)], BLIND)[:-1] == mine
    assert not set(digests(pairs, bytes(reversed(BLIND)))) & set(mine)
    table = table_of(RECORDS)
    cut = pa.concat_tables([table.slice(0, 5), table.slice(5)])
    assert id_digests(cut, BLIND).tolist() == id_digests(table, BLIND).tolist()


def test_nobody_makes_digests_collide_without_the_key() -> None:
    """High bits set and taken back in the next word once collided under every other key."""
    head, q = "0000", "qqqqqqqq"
    family = [head + q + q, head + "qqqqqqq1qqq1qqq1", head + "qqqqqqq1qqq1qqqq", head + "qqqqqqq1qqqqqqq1"]
    for seed in range(200):
        found = digests([("abc", event_id) for event_id in family], random.Random(seed).randbytes(32))
        assert len(set(found)) == len(family)


def test_one_overlong_id_does_not_make_every_id_as_long() -> None:
    """A cell of a megabyte among 8,000 rows would have asked for eight gigabytes."""
    before = pa.total_allocated_bytes()
    pairs = [("s", f"e{number}") for number in range(8000)]
    found = digests([*pairs, ("s", "x" * 2**20)], BLIND)
    assert found[:-1] == digests(pairs, BLIND)
    assert pa.default_memory_pool().max_memory() - before < 2**28


def test_a_record_of_a_batch_is_the_record_that_was_put_in() -> None:
    """The one-sentence promise, at its ends: the first and the last of 600."""
    batch = parse_batch(ENCODED.data)
    for row in (0, 599):
        assert record_bytes(record_at(batch.table, row)) == TEXTS[row]
    assert row_blinds(BLIND, 600)[16 * 599 :] == batch.blinds([599])[0]
