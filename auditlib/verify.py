"""The numbered checks over a vault (DESIGN 5). It distrusts whoever wrote the vault, and shares no code with it
but the formats.

Every check is made and every fault reported, not only the first; what could not be checked is named in `unchecked`.
Checks 0 to 4 are made by `history`; here come 5 to 9 and the report.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from auditlib import pipeline
from auditlib.announce import Announced, announced
from auditlib.errors import AuditlibError, MissingError, UnavailableError
from auditlib.findings import NO_ANCHOR, Finding, Report, duration, sorted_findings
from auditlib.formats import layout, merkle
from auditlib.formats.batch import (
    ParsedBatch,
    counts_of,
    id_digests,
    parse_batch,
    sources_of,
    time_range,
)
from auditlib.formats.catalog import Catalog, parse_catalog
from auditlib.formats.checkpoint import Checkpoint
from auditlib.formats.columns import faults
from auditlib.formats.keys import VerifierKey
from auditlib.formats.seal import MAX_BATCH_BYTES, Seal
from auditlib.formats.times import DAY, format_time, parse_time
from auditlib.history import CONNECTIONS, History, check_extends, read_history
from auditlib.locks import EXPIRING, check_locks
from auditlib.vault import Vault, is_remote, open_vault

MAX_FAULTS = 20  # invalid records named in one batch; the rest are counted
_KEY_BYTES = 32
_UNLISTED_SHOWN = 5  # actions named that no catalogue lists
_READERS = 4  # threads that read and hash; as many batches are in memory
_READ_BYTES = _READERS * MAX_BATCH_BYTES  # in memory at a time


class BatchResult(msgspec.Struct):
    """What checking one batch found: findings, id digests (uint64, 8 bytes an event), and its pulse."""

    findings: list[Finding]
    digests: bytes = b""
    pulse: pipeline.Pulse | None = None


def verify(
    vault: Vault,
    *,
    keys: Iterable[VerifierKey] = (),
    deep: bool = False,
    against: Sequence[tuple[str, Checkpoint]] = (),
    now: int,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
    lock_progress: Callable[[int, int], None] | None = None,
    expiring: int = EXPIRING,
) -> Report:
    """Make every check that can be made and report every fault.

    `keys` are the verifier keys the user trusts; without any, the vault's own are used and said to be unconfirmed.
    `against` are older checkpoints (name, checkpoint) from outside. `deep` reads every record. `now` is microseconds
    since 1970 UTC. `progress(done, total)` counts bytes of batches, `lock_progress` objects whose lock was asked for.
    Locks that end within `expiring` microseconds are named. Raises UnavailableError alone.
    """
    history = read_history(vault, keys, thorough=True)
    for name, older in against:
        check_extends(history, older, name)
    said = announced(history)
    _check_batches(history, said, deep, executor, progress, now)
    _check_compromised(history, said)
    if not deep:
        _check_counted_numbers(history)
    _check_listed(history)
    _check_leftovers(history)
    _check_shadows(history)
    if deep:
        check_locks(history, now, expiring, lock_progress)
    last = history.seals[-1].seal.sealed_at if history.seals else None
    return Report(
        vault=vault.url,
        origin=history.origin,
        events=sum(entry.seal.batch.events for entry in history.seals),
        seals=len(history.seals),
        checkpoint=history.checkpoint,
        key_confirmed=history.key_confirmed and history.checkpoint is not None,
        last_sealed_at=last,
        verified_at=format_time(now),
        deep=deep,
        findings=sorted_findings(history.findings),
        unchecked=tuple(_unchecked(history, said, deep, against)),
    )


def check_batch(data: bytes, seal: Seal, catalog: Catalog | None, key: bytes) -> BatchResult:
    """Checks 5 and 6 on one batch's bytes; `key` keys the id digests.

    Bytes that are not those sealed are no evidence, and nothing more is asked of them: whoever can write to the
    storage could make them cost any amount of memory to unpack.
    """
    result = _check_bytes(data, seal)
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


def _check_bytes(data: bytes, seal: Seal) -> BatchResult:
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
    for pair, count in sorted(Counter(_ids(batch.table)).items()):
        if count > 1:
            yield pair


def _ids(table: pa.Table) -> Iterator[tuple[str, str]]:
    """(source, event_id) of each row, as text that can be printed even where it is no UTF-8."""
    cells = [table.column(name).cast(pa.binary()).to_pylist() for name in ("source", "event_id")]
    for source, event_id in zip(*cells, strict=True):
        yield source.decode(errors="backslashreplace"), event_id.decode(errors="backslashreplace")


# --- every batch of a vault --------------------------------------------------------------------------------------


def _work(url: str, versions: Sequence[str], seal: Seal, catalog: bytes | None, key: bytes, deep: bool) -> BatchResult:
    """One batch, by name, in whatever process: what an executor runs."""
    return _check_stored(open_vault(url), versions, seal, _catalog(catalog) if catalog else None, key, deep)


_catalog = lru_cache(maxsize=16)(parse_catalog)  # once a process, not once a batch


def _check_stored(
    vault: Vault,
    versions: Sequence[str],
    seal: Seal,
    catalog: Catalog | None,
    key: bytes,
    deep: bool,
    limit: int = MAX_BATCH_BYTES,
) -> BatchResult:
    """The oldest version that is the batch its seal states; where none is, the faults of the oldest."""
    results: list[BatchResult] = []
    for version in versions:
        try:
            data = vault.get(seal.batch.object, limit, version)
        except MissingError:
            results.append(BatchResult([_missing_batch(seal)]))
            continue
        except UnavailableError:
            raise
        except AuditlibError as error:
            results.append(BatchResult([Finding(5, "error", seal.batch.object, error.message)]))
            continue
        result = _check_bytes(data, seal)
        if not result.findings:
            return check_batch(data, seal, catalog, key) if deep else result
        results.append(result)
    return results[0]


def _missing_batch(seal: Seal) -> Finding:
    return Finding(5, "error", seal.batch.object, "the batch is missing.", seal.batch.sha256, "no object")


def _check_batches(
    history: History,
    said: Announced,
    deep: bool,
    executor: Executor | None,
    progress: Callable[[int, int], None] | None,
    now: int,
) -> None:
    key = secrets.token_bytes(_KEY_BYTES)
    seals = [entry.seal for entry in history.seals]
    total, done = sum(seal.batch.size for seal in seals), 0
    results: list[BatchResult] = []
    for seal, result in zip(seals, _results(history, seals, key, deep, executor), strict=True):
        results.append(_expire(result, seal, history, said, now))
        history.findings.extend(result.findings)
        done += seal.batch.size
        if progress:
            progress(done, total)
    if deep:
        _check_ids_across(history, seals, results)
        pulses = (result.pulse or pipeline.stated(seal) for seal, result in zip(seals, results, strict=True))
        history.findings.extend(pipeline.judge(pulses))


def _results(
    history: History, seals: Sequence[Seal], key: bytes, deep: bool, executor: Executor | None
) -> Iterator[BatchResult]:
    versions = [history.versions_of(seal.batch.object) for seal in seals]
    if executor is None and not deep:  # reading and hashing leave the interpreter's lock, so that threads do
        readers = _readers(history.vault, seals)
        limit = _READ_BYTES // readers
        with ThreadPoolExecutor(readers) as pool:
            yield from pool.map(
                lambda tried, seal: _check_stored(history.vault, tried, seal, None, key, False, limit), versions, seals
            )
        return
    if executor is None:
        for tried, seal in zip(versions, seals, strict=True):
            yield _check_stored(history.vault, tried, seal, history.catalog_of(seal), key, deep)
        return
    catalogs = [catalog.data if (catalog := history.catalog_of(seal)) else None for seal in seals]
    count = len(seals)
    urls, keys, deeps = [history.vault.url] * count, [key] * count, [deep] * count
    yield from executor.map(_work, urls, versions, seals, catalogs, keys, deeps)


def _readers(vault: Vault, seals: Sequence[Seal]) -> int:
    """Over the network as many as there are connections, if that many of the largest batch fit into memory."""
    largest = max((seal.batch.size for seal in seals), default=1)
    return max(_READERS, min(CONNECTIONS, _READ_BYTES // largest)) if is_remote(vault) else _READERS


def _expire(result: BatchResult, seal: Seal, history: History, said: Announced, now: int) -> BatchResult:
    """A batch that is gone after its own lock ended is expired (information), not missing (DESIGN 4.6).

    Its lock ended when the trail document in force promised, or later where a sealed `vault.extend` lengthened it.
    """
    document = history.document_of(seal)
    if document and result.findings == [_missing_batch(seal)]:
        # Not before the last record either: who signs a seal could date it back to be rid of its batch.
        ends = max(parse_time(seal.sealed_at), parse_time(seal.recorded[1])) + document.retention.days * DAY
        ends = max([ends, *(until for sequence, until in said.extended if sequence > seal.sequence)])
        if ends < now:
            message = f"the batch has expired: its retention ended at {format_time(ends)}."
            result.findings[:] = [Finding(5, "info", seal.batch.object, message, "", "no object")]
    return result


def _check_ids_across(history: History, seals: Sequence[Seal], results: Sequence[BatchResult]) -> None:
    """Check 6 over the whole history: no (source, event_id) in two batches. Digests propose, the ids decide."""
    digests = [np.frombuffer(result.digests, np.uint64) for result in results]
    if not any(map(len, digests)):
        return
    joined = np.sort(np.concatenate(digests))
    twice = np.unique(joined[1:][joined[1:] == joined[:-1]])
    if not len(twice):
        return
    places: dict[tuple[str, str], list[int]] = {}
    for number, part in enumerate(digests):
        rows = np.flatnonzero(np.isin(part, twice))
        if not len(rows):
            continue
        where = seals[number].batch.object
        try:
            table = parse_batch(history.vault.get(where, MAX_BATCH_BYTES), columns=["source", "event_id"]).table
        except AuditlibError as error:  # it changed since it was read a moment ago
            history.add_error(5, where, error)
            continue
        for pair in _ids(table.take(rows)):
            places.setdefault(pair, []).append(number)
    for (source, event_id), numbers in sorted(places.items()):
        if len(set(numbers)) > 1:
            history.add(
                6,
                seals[numbers[-1]].batch.object,
                f"the event id {event_id} of {source} was sealed before, in batch {numbers[0]}.",
                "once",
                f"batches {', '.join(map(str, numbers))}",
            )


# --- what is left: checks 8, 9 and the unchecked ---------------------------------------------------------------------


def _check_counted_numbers(history: History) -> None:
    """Check 9 from the seals alone: how many numbers of a source are missing, not which."""
    spans: dict[str, list[tuple[int, int, int]]] = {}
    for entry in history.seals:
        for name, source in entry.seal.sources.items():
            if source.first_seq is not None and source.last_seq is not None:
                spans.setdefault(name, []).append((source.first_seq, source.last_seq, source.events))
    for name, parts in sorted(spans.items()):
        highest, events = max(last for _, last, _ in parts), sum(count for _, _, count in parts)
        if events < highest:
            history.add(
                9,
                name,
                f"{highest - events:,} sequence number(s) of {name} never arrived, by the seals' counts.",
                f"numbers 1 to {highest}",
                f"{events} records",
                "warning",
            )


def _check_listed(history: History) -> None:
    """Check 6, from the seals' counts: actions that no catalogue in force lists; they are accepted, and told."""
    unlisted: Counter[str] = Counter()
    for entry in history.seals:
        catalog = history.catalog_of(entry.seal)
        for action, events in (entry.seal.counts.actions or {}).items():
            if catalog is not None and action not in catalog.actions:
                unlisted[action] += events
    if unlisted:
        shown = ", ".join(f"{action} ({events:,})" for action, events in unlisted.most_common(_UNLISTED_SHOWN))
        more = f" and {len(unlisted) - _UNLISTED_SHOWN:,} more" if len(unlisted) > _UNLISTED_SHOWN else ""
        message = f"{unlisted.total():,} events are of actions that the catalogue does not list: {shown}{more}."
        history.add(6, layout.CATALOGS, message, severity="info")


def _check_leftovers(history: History) -> None:
    named = {entry.seal.batch.object for entry in [*history.seals, *history.beyond]}
    for key, stored in sorted(history.stored.items()):
        if stored.odd:
            history.add(8, key, f"this is {stored.odd}; a vault holds plain files alone.", "a plain file", stored.odd)
        elif key.startswith(layout.BATCHES) and key not in named:
            history.add(
                8,
                key,
                "no seal names this batch; a crash before its seal leaves one, and it is no evidence.",
                severity="info",
            )
        elif not key.startswith(layout.KNOWN_PREFIXES):
            history.add(8, key, "this object is no part of the trail.", severity="info")
        elif not _in_place(key):
            history.add(8, key, "no object of a trail has this name.", severity="warning")
    _check_pages(history)


def _check_shadows(history: History) -> None:
    """Check 8: newer versions and delete markers over what was read: the original stands, the attempt is told."""
    for shadow in history.shadows:
        what = "a delete marker" if shadow.marker else f"a newer version of {shadow.size:,} bytes"
        who = f" by {shadow.owner}" if shadow.owner else ""
        when = f" at {format_time(shadow.modified)}" if shadow.modified else ""
        history.add(
            8,
            shadow.key,
            f"{what} was put over this object{who}{when}, as the storage says; the version that fits was read.",
            "one version",
            f"version {shadow.version}",
            "warning",
        )


def _in_place(key: str) -> bool:
    return any(
        layout.number_of(kind, key) is not None for kind in ("trail", "catalog", "batch", "seal", "checkpoint", "page")
    )


def _check_pages(history: History) -> None:
    """A page is a cache: one that differs from the seals misleads nobody, and is reported."""
    by_page: dict[int, list[bytes]] = {}
    for entry in history.seals:
        by_page.setdefault(entry.seal.sequence // layout.PAGE, []).append(entry.data)
    for key in sorted(key for key in history.stored if key.startswith(layout.PAGES)):
        page = layout.number_of("page", key)
        if page is None:
            continue  # reported as what it is
        expected = b"".join(data + b"\n" for data in by_page.get(page, []))
        try:
            found = history.vault.get(key, max(len(expected), 1))
        except UnavailableError as error:
            if not isinstance(error, MissingError):
                raise
            found = b""
        except AuditlibError:
            found = b""  # too large, or no plain file
        if found != expected or not expected:
            history.add(
                4,
                key,
                "the page does not hold its seals; readers fall back to the seals.",
                severity="warning",
            )


def _check_compromised(history: History, said: Announced) -> None:
    """Check 0: checkpoints signed by a key after the time from which the trail itself says it was not safe."""
    times = [parse_time(entry.seal.sealed_at) for entry in history.seals]
    for name, since in said.compromised:
        sizes = sorted(
            checkpoint.size
            for _, checkpoint in history.checkpoints
            if name in map(str, checkpoint.signers) and 0 < checkpoint.size <= len(times)
            if times[checkpoint.size - 1] >= since
        )
        if sizes:
            named = f"{sizes[0]:,} to {sizes[-1]:,}" if len(sizes) > 1 else f"{sizes[0]:,}"
            message = (
                f"{len(sizes):,} checkpoint(s), of sizes {named}, were signed by the key {name} after "
                f"{format_time(since)}, since when it is stated to be compromised: "
                "what they cover needs an anchor from elsewhere."
            )
            history.add(0, layout.checkpoint_key(sizes[0]), message, "", name, "warning")


def _unchecked(
    history: History, said: Announced, deep: bool, against: Sequence[tuple[str, Checkpoint]]
) -> Iterator[str]:
    if against:
        size = max(older.size for _, older in against)
        yield f"the outside anchor covers the first {size:,} seals: past it, {NO_ANCHOR.partition(': ')[2]}"
    else:
        yield NO_ANCHOR
    if not history.key_confirmed:
        for key in history.checkpoint.signers if history.checkpoint else history.trusted:
            if key in history.introduced:
                yield (
                    f"the key {key} was introduced by a key you gave, with checkpoint {history.introduced[key]:,}; it "
                    "is not confirmed: compare it with what the company gave you by another way (--key)"
                )
                continue
            yield (
                f"the key {key} was found in the vault and is not confirmed: compare it with what the "
                "company gave you by another way (--key)"
            )
    for origin, older, root in said.continues:
        yield (
            f"unproven continuity: this trail says that it goes on from {origin} at checkpoint {older}, root {root}; "
            "hold that against the other trail"
        )
    if not deep:
        yield "6: the records inside the batches; use --deep"
        yield "9: silences, clock skew and late arrivals; use --deep"
    else:
        unread = {finding.object for finding in history.errors if finding.check == 5}
        if unread:
            yield f"6 and 9: the records of {len(unread):,} batch(es) that are not, or not there, as they were sealed"
    if history.vault.lock_enforced and not deep:
        yield "7: the retention lock of every object; use --deep"
    elif not history.vault.lock_enforced:
        yield "7: retention locks; a local directory cannot enforce one, and its owner can change every file"
    yield "what was never recorded cannot be seen here"


def sentence(report: Report) -> str:
    """The report in one sentence of facts."""
    if not report.ok:
        return f"{len(report.errors)} fault(s) were found in {report.origin or report.vault}."
    if report.checkpoint is None:
        return f"Nothing has been sealed in {report.origin or report.vault} yet."
    age = report.age_seconds or 0
    return (
        f"{report.events:,} events in {report.seals:,} sealed batches of {report.origin}: no gap or alteration was "
        f"detected in what was recorded. Last sealed {report.last_sealed_at}, "
        f"{duration(age * 1_000_000)} before this check."
    )
