"""Small batches judged together: whatever any of them holds, each has the result it has alone."""

import base64
import hashlib

import msgspec
import pytest
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import CATALOG, evil_parquet, record
from test_columns import Cells, cells_of, damaged_rows, table_from

from auditlib.contents import BatchResult, check_bytes, check_records
from auditlib.formats import layout
from auditlib.formats.batch import encode_batch, parse_batch
from auditlib.formats.columns import table_of
from auditlib.formats.seal import NO_PREVIOUS, Batch, Seal

BLIND, KEY = bytes(range(32)), bytes(range(32, 64))


def sealed(number: int, rows: list[Cells]) -> tuple[bytes, Seal]:
    """A batch of any cells, and a seal that holds its bytes; what else the seal says is of an honest batch."""
    honest = encode_batch(table_of([record(number)]), number, BLIND)
    nodes = base64.b64encode(b"".join(parse_batch(honest.data).nodes)).decode()
    data = evil_parquet(table_from(rows), BLIND, nodes, write_statistics=False)
    digest = hashlib.sha256(data).hexdigest()
    batch = Batch(len(rows), layout.batch_key(number, 0, digest), honest.batch.root, digest, len(data))
    return data, Seal(
        batch=batch, counts=honest.counts, format="auditlib/seal/v1", occurred=honest.occurred, origin="o",
        previous=NO_PREVIOUS, recorded=honest.recorded, schema="auditlib/record/v1", sealed_at=honest.recorded[1],
        sequence=number, signature="", sources=honest.sources, trail="0" * 64,
    )  # fmt: skip


def assert_alike(batches: list[tuple[bytes, Seal]]) -> list[BatchResult]:
    """Together and one by one: the same findings, digests and pulses."""
    together = check_records(batches, CATALOG, KEY)
    assert together == [check_records([batch], CATALOG, KEY)[0] for batch in batches]
    return together


def filled(cells: Cells) -> Cells:
    """The row with something in every cell that Parquet wants filled."""
    held = {"occurred_at": 0, "recorded_at": 0, "actor_session": None, "source_seq": None}
    return {name: held.get(name, b"") if cell is None else cell for name, cell in cells.items()}


rows = st.one_of(damaged_rows().map(filled), strategies.records.map(cells_of))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(rows, min_size=1, max_size=3), min_size=2, max_size=4))
def test_no_batch_hides_or_blames_another(parts: list[list[Cells]]) -> None:
    """Any cells in any of them."""
    assert_alike([sealed(number, part) for number, part in enumerate(parts)])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 600), min_size=2, max_size=5))
def test_sound_batches_are_sound_together(sizes: list[int]) -> None:
    """However many rows each has: its own root, its own subtree hashes, its own blind."""
    batches = []
    for number, size in enumerate(sizes):
        made = encode_batch(table_of([record(1000 * number + n) for n in range(size)]), number, bytes([number]) * 32)
        data, seal = sealed(number, [cells_of(record(0))])
        told = {name: getattr(made, name) for name in ("batch", "counts", "occurred", "recorded", "sources")}
        seal = msgspec.structs.replace(seal, **told)
        assert not check_bytes(made.data, seal) and check_bytes(data, seal)
        batches.append((made.data, seal))
    for (data, _), result in zip(batches, assert_alike(batches), strict=True):
        assert not result.findings and len(result.digests) == 8 * parse_batch(data).table.num_rows


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_batch_that_is_no_parquet_spoils_no_other(place: int) -> None:
    """It alone is told as unreadable."""
    batches = [sealed(number, [cells_of(record(number))]) for number in range(3)]
    batches[place] = (b"PAR1 or not", batches[place][1])
    found = assert_alike(batches)
    assert ["cannot be read" in str(result.findings) for result in found] == [n == place for n in range(3)]
