"""Checks 5 and 6 over every batch of a vault, in threads or processes, and what only all of them together can show."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import lru_cache

import numpy as np

from auditlib import pipeline
from auditlib.announce import Announced
from auditlib.contents import BatchResult, check_batch, check_bytes, ids_of
from auditlib.errors import AuditlibError, MissingError, UnavailableError
from auditlib.findings import Finding
from auditlib.formats.batch import parse_batch
from auditlib.formats.catalog import Catalog, parse_catalog
from auditlib.formats.seal import MAX_BATCH_BYTES, Seal
from auditlib.formats.times import DAY, format_time, parse_time
from auditlib.history import History
from auditlib.locks import CONNECTIONS
from auditlib.vault import Vault, is_remote, open_vault

_KEY_BYTES = 32
_READERS = 4  # threads that read and hash; as many batches are in memory
_READ_BYTES = _READERS * MAX_BATCH_BYTES  # in memory at a time


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
        result = check_bytes(data, seal)
        if not result.findings:
            return check_batch(data, seal, catalog, key) if deep else result
        results.append(result)
    return results[0]


def _missing_batch(seal: Seal) -> Finding:
    return Finding(5, "error", seal.batch.object, "the batch is missing.", seal.batch.sha256, "no object")


def check_batches(
    history: History,
    said: Announced,
    deep: bool,
    executor: Executor | None,
    progress: Callable[[int, int], None] | None,
    now: int,
) -> None:
    """Check every batch under the checkpoint; the findings go into the history, in the order of the seals.

    `deep` reads every record. `now` is microseconds since 1970 UTC; `progress(done, total)` counts bytes.
    """
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
        for pair in ids_of(table.take(rows)):
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
