"""Checks 5 and 6 on one batch's bytes: the sealed ones, and every record in them.

    check_batch(data, seal, catalog, key) -> findings, id digests, and what the pipeline's check needs of the batch

Whatever cells an evil batch holds, the outcome is findings and no crash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from auditlib import pipeline
from auditlib.errors import AuditlibError
from auditlib.findings import Finding
from auditlib.formats import merkle
from auditlib.formats.batch import (
    ParsedBatch,
    counts_of,
    id_digests,
    parse_batch,
    sources_of,
    time_range,
)
from auditlib.formats.catalog import Catalog
from auditlib.formats.columns import faults
from auditlib.formats.seal import Seal

MAX_FAULTS = 20  # invalid records named in one batch; the rest are counted


class BatchResult(msgspec.Struct):
    """What checking one batch found: findings, id digests (uint64, 8 bytes an event), and its pulse."""

    findings: list[Finding]
    digests: bytes = b""
    pulse: pipeline.Pulse | None = None


def check_batch(data: bytes, seal: Seal, catalog: Catalog | None, key: bytes) -> BatchResult:
    """Checks 5 and 6 on one batch's bytes; `key` keys the id digests.

    Bytes that are not those sealed are no evidence, and nothing more is asked of them: whoever can write to the
    storage could make them cost any amount of memory to unpack.
    """
    result = check_bytes(data, seal)
    if result.findings:
        return result
    where = seal.batch.object
    try:
        batch = parse_batch(data)
    except AuditlibError as error:
        result.findings.append(Finding(6, "error", where, f"the batch cannot be read: {error.message}"))
        return result
    add = _adder(result.findings, where)
    if catalog is None:
        add("the catalogue in force is not known, so that its rules were not applied.", seal.trail, "none")
    with _readable(add):
        _check_records(batch, catalog or _NO_CATALOG, add)
    with _readable(add):
        _check_tree(batch, seal, add)
    with _readable(add):
        _check_described(batch, seal, add)
    with _readable(add):
        digests = id_digests(batch.table, key)
        ordered = np.sort(digests)
        if (ordered[1:] == ordered[:-1]).any():
            for source, event_id in _repeated_ids(batch):
                add(f"the event id {event_id} of {source} stands more than once.", "once", "more than once")
        result.digests = digests.tobytes()
        result.pulse = pipeline.observe(batch.table)
    return result


@contextmanager
def _readable(add: Callable[[str, object, object], None]) -> Iterator[None]:
    """Whatever cells an evil batch holds (no text, no time, too large, too deep): a finding and no crash."""
    try:
        yield
    except (AuditlibError, pa.ArrowException, ArithmeticError, MemoryError, RecursionError, ValueError) as error:
        add(f"its cells cannot be read: {str(error)[:200]}", "valid text and times", type(error).__name__)


def check_bytes(data: bytes, seal: Seal) -> BatchResult:
    """Check 5 on bytes in hand."""
    result = BatchResult([])
    where, found = seal.batch.object, sha256(data).hexdigest()
    if len(data) != seal.batch.size:
        message = "the batch has another size than its seal states."
        result.findings.append(Finding(5, "error", where, message, str(seal.batch.size), str(len(data))))
    if found != seal.batch.sha256:
        message = "the batch is not the one that was sealed: its SHA-256 differs."
        result.findings.append(Finding(5, "error", where, message, seal.batch.sha256, found))
    return result


def _adder(findings: list[Finding], where: str) -> Callable[[str, object, object], None]:
    def add(message: str, expected: object, found: object) -> None:
        findings.append(Finding(6, "error", where, message, str(expected)[:400], str(found)[:400]))

    return add


_NO_CATALOG = Catalog(b"", {})


def _check_records(batch: ParsedBatch, catalog: Catalog, add: Callable[[str, object, object], None]) -> None:
    count = 0
    for row, message in faults(batch.table, catalog):
        count += 1
        if count <= MAX_FAULTS:
            add(f"row {row} is no valid record: {message}", "a canonical, valid record", "")
    if count > MAX_FAULTS:
        add(f"{count - MAX_FAULTS:,} more rows are no valid records.", "canonical, valid records", "")


def _check_tree(batch: ParsedBatch, seal: Seal, add: Callable[[str, object, object], None]) -> None:
    nodes = batch.subtrees()
    found = merkle.root(nodes).hex()
    if found != seal.batch.root:
        add("the records do not lead to the Merkle root in the seal.", seal.batch.root, found)
    if tuple(nodes) != batch.nodes:
        add(
            "the stored subtree hashes (auditlib.nodes) are not those of the records.",
            "the records' own",
            "others",
        )


def _check_described(batch: ParsedBatch, seal: Seal, add: Callable[[str, object, object], None]) -> None:
    for what, expected, found in (
        ("number of events", seal.batch.events, batch.table.num_rows),
        ("counts", seal.counts, counts_of(batch.table)),
        ("range of occurred_at", seal.occurred, time_range(batch.table, "occurred_at")),
        ("range of recorded_at", seal.recorded, time_range(batch.table, "recorded_at")),
        ("sources", seal.sources, sources_of(batch.table)),
    ):
        if expected != found:
            add(f"the seal's {what} is not what the records give.", _plain(expected), _plain(found))


def _plain(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def _repeated_ids(batch: ParsedBatch) -> Iterator[tuple[str, str]]:
    for pair, count in sorted(Counter(ids_of(batch.table)).items()):
        if count > 1:
            yield pair


def ids_of(table: pa.Table) -> Iterator[tuple[str, str]]:
    """(source, event_id) of each row, as text that can be printed even where it is no UTF-8."""
    cells = [table.column(name).cast(pa.binary()).to_pylist() for name in ("source", "event_id")]
    for source, event_id in zip(*cells, strict=True):
        yield source.decode(errors="backslashreplace"), event_id.decode(errors="backslashreplace")
