"""Checks 5 and 6 on batches' bytes: the sealed ones, and every record in them.

    check_bytes(data, seal) -> findings
    check_records([(data, seal), ...], catalog, key) -> of each: findings, id digests, and what check 9 needs of it

Whatever cells an evil batch holds, the outcome is findings and no crash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
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
    NODE_LEAVES,
    ParsedBatch,
    counts_of,
    id_digests,
    parse_batch,
    sources_of,
    time_range,
)
from auditlib.formats.catalog import Catalog
from auditlib.formats.columns import faults, leaf_hashes, row_blinds
from auditlib.formats.seal import Seal

MAX_FAULTS = 20  # invalid records named in one batch; the rest are counted


class BatchResult(msgspec.Struct):
    """What checking one batch found: findings, its Merkle root, id digests (uint64, 8 bytes an event), its pulse."""

    findings: list[Finding]
    root: str = ""  # rebuilt from the records, hex; '' where none could be
    digests: bytes = b""
    pulse: pipeline.Pulse | None = None


def check_bytes(data: bytes, seal: Seal) -> list[Finding]:
    """Check 5 on one batch's bytes.

    Bytes that are not those sealed are no evidence, and nothing more is to be asked of them: whoever can write to the
    storage could make them cost any amount of memory to unpack.
    """
    findings: list[Finding] = []
    where, found = seal.batch.object, sha256(data).hexdigest()
    if len(data) != seal.batch.size:
        message = "the batch has another size than its seal states."
        findings.append(Finding(5, "error", where, message, str(seal.batch.size), str(len(data))))
    if found != seal.batch.sha256:
        message = "the batch is not the one that was sealed: its SHA-256 differs."
        findings.append(Finding(5, "error", where, message, seal.batch.sha256, found))
    return findings


def check_records(batches: Sequence[tuple[bytes, Seal]], catalog: Catalog | None, key: bytes) -> list[BatchResult]:
    """Check 6 on batches whose bytes are those sealed, all under one catalogue; `key` keys the id digests.

    They are held in memory together: pass few records at a time, or one batch.
    """
    results = [BatchResult([]) for _ in batches]
    parsed: list[ParsedBatch | None] = []
    for (data, seal), result in zip(batches, results, strict=True):
        try:
            parsed.append(parse_batch(data, coded=True))
        except AuditlibError as error:
            message = f"the batch cannot be read: {error.message}"
            result.findings.append(Finding(6, "error", seal.batch.object, message))
            parsed.append(None)
    nodes = _together(parsed, catalog or _NO_CATALOG)
    for (_, seal), batch, known, result in zip(batches, parsed, nodes, results, strict=True):
        if batch is not None:
            _check_parsed(batch, seal, catalog, key, known, result)
    return results


def _together(batches: Sequence[ParsedBatch | None], catalog: Catalog) -> list[list[bytes] | None]:
    """The subtree hashes of the batches, if every record of all of them is sound; else None for each.

    A call of Arrow's costs as much as a hundred rows: small batches are joined to be judged and hashed. Where that
    finds a fault, or cannot be done, each is looked at alone, so that the fault is told of the batch it is in.
    """
    whole = [batch for batch in batches if batch is not None]
    if len(whole) < 2:
        return [None] * len(batches)
    try:
        table = pa.concat_tables([batch.table for batch in whole]).unify_dictionaries()
        if next(faults(table, catalog), None) is not None:
            return [None] * len(batches)
        leaves = leaf_hashes(table, b"".join(row_blinds(batch.blind, batch.table.num_rows) for batch in whole))
    except _UNREADABLE:
        return [None] * len(batches)
    found: list[list[bytes] | None] = []
    start = 0
    for batch in batches:
        end = start + (0 if batch is None else batch.table.num_rows)
        found.append(None if batch is None else merkle.aligned_roots(leaves[start:end], NODE_LEAVES))
        start = end
    return found


def _check_parsed(
    batch: ParsedBatch, seal: Seal, catalog: Catalog | None, key: bytes, nodes: list[bytes] | None, result: BatchResult
) -> None:
    """`nodes` are the subtree hashes where they are known, and then every record is sound."""
    add = _adder(result.findings, seal.batch.object)
    if catalog is None:
        add("the catalogue in force is not known, so that its rules were not applied.", seal.trail, "none")
    if nodes is None:
        with _readable(add):
            _check_records(batch, catalog or _NO_CATALOG, add)
    with _readable(add):
        result.root = _check_tree(batch, batch.subtrees() if nodes is None else nodes, seal, add)
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


_UNREADABLE = (AuditlibError, pa.ArrowException, ArithmeticError, MemoryError, RecursionError, ValueError)


@contextmanager
def _readable(add: Callable[[str, object, object], None]) -> Iterator[None]:
    """Whatever cells an evil batch holds (no text, no time, too large, too deep): a finding and no crash."""
    try:
        yield
    except _UNREADABLE as error:
        add(f"its cells cannot be read: {str(error)[:200]}", "valid text and times", type(error).__name__)


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


def _check_tree(batch: ParsedBatch, nodes: list[bytes], seal: Seal, add: Callable[[str, object, object], None]) -> str:
    found = merkle.root(nodes).hex()
    if found != seal.batch.root:
        add("the records do not lead to the Merkle root in the seal.", seal.batch.root, found)
    if tuple(nodes) != batch.nodes:
        add(
            "the stored subtree hashes (auditlib.nodes) are not those of the records.",
            "the records' own",
            "others",
        )
    return found


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
