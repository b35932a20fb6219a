"""Checks 5 and 6 over the batches of a vault, in threads, processes or on a cluster, and what only all of them show.

A task is a run of batches, by name: whoever works on it reads the vault itself, and only findings, id digests and
pulses come back. No list here is as long as the history but for the id digests, which go to the disk (`digests`).
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import groupby

import msgspec
import numpy as np

from auditlib import pipeline
from auditlib.announce import Announced
from auditlib.cluster import Cluster, spread
from auditlib.contents import BatchResult, check_bytes, check_records, ids_of
from auditlib.digests import DigestStore
from auditlib.errors import AuditlibError, MissingError, UnavailableError
from auditlib.findings import Finding
from auditlib.formats.batch import id_digests, parse_batch
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.seal import MAX_BATCH_BYTES, Seal
from auditlib.formats.times import DAY, format_time, parse_time
from auditlib.history import History
from auditlib.locks import CONNECTIONS
from auditlib.vault import Vault, address_of, is_remote, open_vault

TASK_EVENTS = 1_000_000  # events from which a run of batches is a task: some seconds of one core
TASK_BATCHES = 256  # batches that are a task, however small
_TASKS = 16  # at least so many, where there are as many batches: every core of one machine has some
_TOGETHER_EVENTS = 16_384  # events from which batches are judged and hashed: joining larger ones gains nothing
_TOGETHER_BYTES = 8 * 1024**2  # of files, whatever their seals say of the events in them
_KEY_BYTES = 32
_READERS = 4  # threads that read and hash; as many batches are in memory
_READ_BYTES = _READERS * MAX_BATCH_BYTES  # in memory at a time
DOUBTED = 64  # one batch of so many, by chance, is read again here after a cluster's worker read it
_MAX_REPEATED = 1000  # ids sealed in two batches that are named; the rest are counted


class Named(msgspec.Struct, frozen=True):
    """One batch to be checked: its seal, the object versions to try, and the SHA-256 of its catalogue ('': none)."""

    seal: Seal
    versions: list[str]
    catalog: str


class Turn(msgspec.Struct, frozen=True):
    """What is read now: the batches in these ranges. Of the first `known` others an earlier reading tells.

    `pulse` is what those `known` batches showed together when they were read.
    """

    ranges: tuple[range, ...]
    known: int = 0
    pulse: pipeline.Pulse | None = None

    def __contains__(self, number: int) -> bool:
        return any(number in each for each in self.ranges)


def check_batches(
    history: History,
    said: Announced,
    deep: bool,
    executor: Executor | None,
    progress: Callable[[int, int], None] | None,
    now: int,
    turn: Turn | None = None,
) -> pipeline.Pulse | None:
    """Check the batches under the checkpoint; the findings go into the history, in the order of the seals.

    `deep` reads every record. `now` is microseconds since 1970 UTC; `progress(done, total)` counts bytes. Batches whose
    `turn` it is not are only looked for in the listing. Returns what the pipeline showed, None where it is not known.
    """
    key = secrets.token_bytes(_KEY_BYTES)
    turn = turn or Turn((range(len(history.seals)),))
    pulse: pipeline.Pulse | None = {}
    if not deep or (turn.known and turn.pulse is None):
        pulse = None
    elif turn.pulse is not None:
        pulse = dict(turn.pulse)
    done, total = 0, sum(entry.seal.batch.size for number, entry in enumerate(history.seals) if number in turn)
    results = _results(history, turn, key, deep, executor)
    with DigestStore() as digests:
        for number, entry in enumerate(history.seals):
            seal = entry.seal
            read = number in turn
            result = next(results) if read else BatchResult(_listed(history, seal))
            _expire(result, seal, history, said, now)
            history.findings.extend(result.findings)
            if read:
                digests.add(number, np.frombuffer(result.digests, np.uint64))
                done += seal.batch.size
                if progress:
                    progress(done, total)
            if pulse is not None and number >= turn.known:
                pipeline.join(pulse, result.pulse or pipeline.stated(seal))
        if deep:
            _check_ids_across(history, digests, key)
    if pulse is not None:
        history.findings.extend(pipeline.judge(pulse))
    return pulse


def _results(history: History, turn: Turn, key: bytes, deep: bool, executor: Executor | None) -> Iterator[BatchResult]:
    """Of every batch whose turn it is, in order."""
    named = _named(history, turn)
    if executor is None and deep:
        yield from _check_group(history.vault, key, deep, _catalogs(history), named)
    elif executor is None:  # reading and hashing leave the interpreter's lock, so that threads do
        readers = _readers(history, turn)
        with ThreadPoolExecutor(readers) as pool:
            yield from _ahead(pool, partial(_check_bytes, history.vault, _READ_BYTES // readers), named, 2 * readers)
    else:
        catalogs = _catalogs(history)
        work = partial(_work, address_of(history.vault), key, deep, catalogs)
        handed: deque[list[Named]] = deque()  # in the order in which their results come back
        groups = _noted(_groups(named, history, turn), handed)
        again = partial(_check_group, history.vault, key, deep, catalogs)
        for number, results in enumerate(spread(executor, work, groups, _killed)):
            if isinstance(executor, Cluster):
                _doubt(handed[0], results, again, deep, sure=number == 0)
            handed.popleft()
            yield from results


def _named(history: History, turn: Turn) -> Iterator[Named]:
    for number, entry in enumerate(history.seals):
        if number in turn:
            catalog = history.catalog_of(entry.seal)
            versions = history.versions_of(entry.seal.batch.object)
            yield Named(entry.seal, versions, catalog.sha256 if catalog else "")


def _catalogs(history: History) -> dict[str, bytes]:
    return {catalog.sha256: catalog.data for catalog in history.catalogs.values()}


def _groups(named: Iterable[Named], history: History, turn: Turn) -> Iterator[list[Named]]:
    """Runs of batches that are worth a task."""
    events = sum(entry.seal.batch.events for number, entry in enumerate(history.seals) if number in turn)
    most = min(TASK_EVENTS, events // _TASKS)
    group: list[Named] = []
    held = 0
    for each in named:
        group.append(each)
        held += each.seal.batch.events
        if held >= most or len(group) == TASK_BATCHES:
            yield group
            group, held = [], 0
    if group:
        yield group


def _noted(groups: Iterable[list[Named]], handed: deque[list[Named]]) -> Iterator[list[Named]]:
    for group in groups:
        handed.append(group)
        yield group


def _doubt(
    group: Sequence[Named],
    results: Sequence[BatchResult],
    again: Callable[[Sequence[Named]], Iterator[BatchResult]],
    deep: bool,
    *,
    sure: bool,
) -> None:
    """What other machines say of batches, held against the seals, and by chance against a reading of one's own.

    A root or a fault that does not fit the seal is looked at here, and so is one batch in DOUBTED, `sure` at least one
    of these. UnavailableError where this process finds otherwise: then nothing that the cluster said is used.
    """
    chance = secrets.randbelow(len(group)) if sure else None
    for number, (named, result) in enumerate(zip(group, results, strict=True)):
        if result == _killed(named):
            continue  # it might end this process too
        fits = not result.findings and (not deep or result.root == named.seal.batch.root)
        if fits and number != chance and secrets.randbelow(DOUBTED):
            continue
        if [result] != list(again([named])):
            raise UnavailableError(
                "a worker of the cluster told of this batch what is not so, by its fault or on purpose; nothing that "
                "the cluster said is used.",
                where=named.seal.batch.object,
                remedy="Verify without --scheduler, and look at the workers.",
            )


def _ahead(
    pool: Executor, work: Callable[[Named], BatchResult], named: Iterable[Named], most: int
) -> Iterator[BatchResult]:
    """work(each) in order, while at most so many are done or being done before they are asked for."""
    waiting: deque[Future[BatchResult]] = deque()
    for each in named:
        waiting.append(pool.submit(work, each))
        if len(waiting) == most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _work(url: str, key: bytes, deep: bool, catalogs: Mapping[str, bytes], group: Sequence[Named]) -> list[BatchResult]:
    """One task, in whatever process: what an executor runs."""
    return list(_check_group(open_vault(url), key, deep, catalogs, group))


def _killed(named: Named) -> BatchResult:
    message = "every process that read the batch was ended from outside; it may need more memory than they have."
    return BatchResult([Finding(6, "error", named.seal.batch.object, message, "records that can be read", "")])


_catalog = lru_cache(maxsize=16)(parse_catalog)  # once a process, not once a task


def _check_group(
    vault: Vault, key: bytes, deep: bool, catalogs: Mapping[str, bytes], group: Iterable[Named]
) -> Iterator[BatchResult]:
    """Each batch's result, in order; small ones are read one after the other and judged together."""
    waiting: list[tuple[Named, bytes | None, BatchResult]] = []
    events = size = 0
    for each in group:
        data, result = _fitting(vault, each, MAX_BATCH_BYTES)
        waiting.append((each, data if deep else None, result))
        events += each.seal.batch.events
        size += len(data or b"")
        if events >= _TOGETHER_EVENTS or size >= _TOGETHER_BYTES:
            yield from _judged(waiting, catalogs, key)
            waiting, events, size = [], 0, 0
    yield from _judged(waiting, catalogs, key)


def _judged(
    waiting: Sequence[tuple[Named, bytes | None, BatchResult]], catalogs: Mapping[str, bytes], key: bytes
) -> Iterator[BatchResult]:
    for sha256, run in groupby(waiting, key=lambda each: each[0].catalog):
        alike = list(run)
        catalog = _catalog(catalogs[sha256]) if sha256 else None
        fitting = [(data, named.seal) for named, data, _ in alike if data is not None]
        found = iter(check_records(fitting, catalog, key))
        yield from (result if data is None else next(found) for _, data, result in alike)


def _check_bytes(vault: Vault, limit: int, named: Named) -> BatchResult:
    return _fitting(vault, named, limit)[1]


def _fitting(vault: Vault, named: Named, limit: int) -> tuple[bytes | None, BatchResult]:
    """The oldest version that is the batch its seal states; where none is, None and the faults of the oldest."""
    seal = named.seal
    results: list[BatchResult] = []
    for version in named.versions:
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
        findings = check_bytes(data, seal)
        if not findings:
            return data, BatchResult([])
        results.append(BatchResult(findings))
    return None, results[0]


def _listed(history: History, seal: Seal) -> list[Finding]:
    """Check 5 as far as the listing tells: whether an object of the size that the seal states is there."""
    where = seal.batch.object
    stored = history.stored.get(where)
    if stored is None:
        return [_missing_batch(seal)]
    if stored.odd or seal.batch.size not in (
        stored.size,
        *(shadow.size for shadow in history.shadows if shadow.key == where),
    ):
        message = "the batch has another size than its seal states."
        return [Finding(5, "error", where, message, str(seal.batch.size), str(stored.size))]
    return []


def _missing_batch(seal: Seal) -> Finding:
    return Finding(5, "error", seal.batch.object, "the batch is missing.", seal.batch.sha256, "no object")


def _readers(history: History, turn: Turn) -> int:
    """Over the network as many as there are connections, if that many of the largest batch fit into memory."""
    if not is_remote(history.vault):
        return _READERS
    sizes = (entry.seal.batch.size for number, entry in enumerate(history.seals) if number in turn)
    return max(_READERS, min(CONNECTIONS, _READ_BYTES // max(sizes, default=1)))


def _expire(result: BatchResult, seal: Seal, history: History, said: Announced, now: int) -> None:
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


def _check_ids_across(history: History, digests: DigestStore, key: bytes) -> None:
    """Check 6 over all batches read: no (source, event_id) in two of them. Digests propose, the ids decide."""
    suspected: dict[int, list[int]] = {}  # by batch
    named = counted = 0
    for repeated, numbers in digests.repeated():
        distinct = np.unique(repeated)
        chosen = np.isin(repeated, distinct[: _MAX_REPEATED - named])
        named, counted = min(named + len(distinct), _MAX_REPEATED), counted + len(distinct)
        for digest, number in zip(repeated[chosen].tolist(), numbers[chosen].tolist(), strict=True):
            suspected.setdefault(number, []).append(digest)
    places: dict[tuple[str, str], list[int]] = {}
    for number, wanted in sorted(suspected.items()):
        seal = history.seals[number].seal
        where = seal.batch.object
        data, result = _fitting(history.vault, Named(seal, history.versions_of(where), ""), MAX_BATCH_BYTES)
        history.findings.extend(result.findings)  # it changed since it was read a moment ago
        if data is not None:
            table = parse_batch(data, columns=["source", "event_id"]).table
            rows = np.flatnonzero(np.isin(id_digests(table, key), np.array(wanted, np.uint64)))
            for pair in ids_of(table.take(rows)):
                places.setdefault(pair, []).append(number)
    for (source, event_id), batches in sorted(places.items()):
        if len(set(batches)) > 1:
            history.add(
                6,
                history.seals[batches[-1]].seal.batch.object,
                f"the event id {event_id} of {source} was sealed before, in batch {batches[0]}.",
                "once",
                f"batches {', '.join(map(str, batches))}",
            )
    if counted > named:
        message = f"{counted - named:,} more event ids seem to have been sealed in two batches."
        history.add(6, history.vault.url, message, "once")
