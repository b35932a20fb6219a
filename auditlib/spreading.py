"""A question asked of batches apart: an executor's tasks read them, and only answers travel.

    task      Question(vault, statement, values), runs of batches    -> one answer a run: rows as an Arrow stream
    here      the answers' rows, one run after the other, in the order of the sequences

A task opens the vault itself, reads and hashes its batches (check 5), and runs the statement over one run at a time.
What it gives back at once is bounded; runs that it had no room for are asked again. What a cluster's worker says is a
claim: of every question one task, by chance, is done again here, and a fault that a worker tells of is looked at here.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import closing
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa

from auditlib.cluster import Cluster, ahead_of, spread
from auditlib.errors import AuditlibError, UnavailableError
from auditlib.files import Part, VerifiedFiles
from auditlib.formats.seal import Seal
from auditlib.scan import ask, connect, in_utc
from auditlib.seals import Chosen
from auditlib.vault import Vault, address_of, open_vault
from auditlib.vault.cache import batch_cache

GROUP_BATCHES = 64  # batches that are a task, however small
GROUP_EVENTS = 1_000_000  # events from which fewer are one: about a second of one core
RUN_EVENTS = 262_144  # events that a statement is run over at a time: some 100 MB if it gives all of their rows
WAITING_BYTES = 2 * 1024**3  # of answers that lie here until it is their turn, those of all tasks ahead
_LEAST_BYTES = 4 * 1024**2  # that a task may give back, however many are ahead
_SAID = 300  # characters of a worker's own words that are passed on
_READ_TOGETHER = 4  # runs whose batches are read at the same time, and in vain where there is no room for them


class Run(msgspec.Struct, frozen=True):
    """Consecutive batches of some RUN_EVENTS events in all; or a stretch of rows of one that has more."""

    seals: list[Seal]
    first: int = 0
    end: int | None = None

    @property
    def events(self) -> int:
        """How many, on the seals' word."""
        every = sum(seal.batch.events for seal in self.seals)
        return (every if self.end is None else self.end) - self.first


class Question(msgspec.Struct, frozen=True):
    """What is asked of every run; `vault` is its address, `most` the bytes after which a task takes no further run."""

    vault: str
    statement: str
    values: Any
    most: int


def pays(seals: Sequence[Seal]) -> bool:
    """Whether these batches are more than one task."""
    return len(seals) > GROUP_BATCHES or (len(seals) > 1 and _events(seals) > GROUP_EVENTS)


def answers(
    executor: Executor,
    vault: Vault,
    files: VerifiedFiles,
    seals: Sequence[Seal],
    statement: str,
    values: Any,
) -> Iterator[pa.Table]:
    """What a statement over `batches` gives of each run of these batches, in the order of their sequences.

    `files` serves what is asked again here, and is told the progress. Raises MismatchError (check 5) where a batch is
    not what its seal states; UnavailableError where a batch ends every process that reads it, or a worker told what is
    not so: then what came before is not to be used either.
    """
    if not isinstance(seals, Chosen):
        seals = sorted(seals, key=lambda seal: seal.sequence)
    most = max(_LEAST_BYTES, WAITING_BYTES // ahead_of(executor))
    question = Question(address_of(vault), statement, values, most)
    doubted = secrets.randbelow(_events(seals)) if isinstance(executor, Cluster) else -1
    events = batches = 0
    schema: pa.Schema | None = None
    with closing(_tasks(executor, question, _groups(seals), files)) as tasks:
        for runs, tables in tasks:
            schema = schema or tables[0].schema
            if any(table.schema != schema for table in tables):
                raise _untrue(runs)
            here = sum(run.events for run in runs)
            if events <= doubted < events + here:
                for run, table, own in zip(runs, tables, _again(files, question, runs), strict=True):
                    if not table.equals(own):
                        raise _untrue([run])
            events += here
            batches += sum(len(run.seals) for run in runs if not run.first)
            if files.progress:
                files.progress(batches, len(seals))
            yield from tables


# --- here --------------------------------------------------------------------------------------------------------


def _tasks(
    executor: Executor, question: Question, groups: Iterable[list[Run]], files: VerifiedFiles
) -> Generator[tuple[list[Run], list[pa.Table]], None, None]:
    """The runs that a task answered, and its answers, in order."""
    handed: deque[list[Run]] = deque()  # in the order in which their results come back

    def noted() -> Iterator[list[Run]]:
        for group in groups:
            handed.append(group)
            yield group

    work = partial(_work, question)
    with closing(spread(executor, work, noted(), partial(_killed, executor, work))) as told:
        while True:
            try:
                found = next(told, None)
            except UnavailableError:
                raise
            except Exception as error:
                if isinstance(executor, Cluster):
                    deque(_again(files, question, handed[0]), maxlen=0)  # raises what is wrong, if it is
                    raise _unable(handed[0], error) from None
                raise
            if found is None:
                return
            runs = handed.popleft()
            tables = _parsed(runs, found)
            yield runs[: len(tables)], tables
            if len(tables) < len(runs):
                yield from _tasks(executor, question, [runs[len(tables) :]], files)


def _again(files: VerifiedFiles, question: Question, runs: Iterable[Run]) -> Iterator[pa.Table]:
    """The answers to these runs, by this process."""
    with connect() as database:
        for run in runs:
            yield _asked(database, files, question, run)


def _parsed(runs: Sequence[Run], found: Any) -> list[pa.Table]:
    """The answers of those runs that a task had room for: at least the first, and none after one that it had not."""
    if not isinstance(found, list) or len(found) != len(runs) or found[0] is None:
        raise _untrue(runs)
    told = found[: found.index(None)] if None in found else found
    try:
        return [pa.ipc.open_stream(answer).read_all() for answer in told]
    except (pa.ArrowException, TypeError, OSError):
        raise _untrue(runs) from None


def _killed(executor: Executor, work: Callable[[Sequence[Run]], list[bytes | None]], run: Run) -> bytes | None:
    """Every process that took this run was ended: find the batch."""
    if len(run.seals) > 1:
        for seal in run.seals:
            list(spread(executor, work, [[Run([seal])]], partial(_killed, executor, work)))
    raise UnavailableError(
        "every process that read the batch was ended from outside; it may need more memory than they have.",
        where=_named([run]),
        remedy="Ask without the cluster, or give its workers more memory.",
    )


def _untrue(runs: Sequence[Run]) -> UnavailableError:
    return UnavailableError(
        "a worker of the cluster told of these batches what is not so, by its fault or on purpose; nothing that the "
        "cluster said is used.",
        where=_named(runs),
        remedy="Ask without the cluster, and look at the workers.",
    )


def _unable(runs: Sequence[Run], error: Exception) -> UnavailableError:
    said = str(error)[:_SAID] if isinstance(error, AuditlibError) else f"{type(error).__name__}: {str(error)[:_SAID]}"
    return UnavailableError(
        f"a worker of the cluster says that it cannot read these batches, and this process can: {said}",
        where=_named(runs),
        remedy="Every worker needs the same software, and the vault under the same name; look at its machine.",
    )


def _named(runs: Sequence[Run]) -> str:
    first, last = runs[0].seals[0], runs[-1].seals[-1]
    return first.batch.object if first == last else f"{first.batch.object} to {last.batch.object}"


def _events(seals: Sequence[Seal]) -> int:
    """How many in all, on the seals' word; of those chosen from a long history without reading any of them."""
    return seals.events if isinstance(seals, Chosen) else sum(seal.batch.events for seal in seals)


def _groups(seals: Iterable[Seal]) -> Iterator[list[Run]]:
    """Batches that are worth a task, as runs."""
    group: list[Seal] = []
    events = 0
    for seal in seals:
        group.append(seal)
        events += seal.batch.events
        if events >= GROUP_EVENTS or len(group) == GROUP_BATCHES:
            yield list(_runs(group))
            group, events = [], 0
    if group:
        yield list(_runs(group))


def _runs(seals: Iterable[Seal]) -> Iterator[Run]:
    waiting: list[Seal] = []
    events = 0
    for seal in seals:
        if waiting and events + seal.batch.events > RUN_EVENTS:
            yield Run(waiting)
            waiting, events = [], 0
        *starts, last = range(0, seal.batch.events, RUN_EVENTS)
        if starts:
            yield from (Run([seal], start, start + RUN_EVENTS) for start in starts)
            yield Run([seal], last)  # open: what the seal says of the number is not checked before (check 6)
        else:
            waiting.append(seal)
            events += seal.batch.events
    if waiting:
        yield Run(waiting)


# --- in whatever process -----------------------------------------------------------------------------------------


def _work(question: Question, runs: Sequence[Run]) -> list[bytes | None]:
    """One task: what an executor runs. None for every run from that on for which there was no room."""
    vault = open_vault(question.vault)
    told: list[bytes | None] = []
    left = question.most
    with closing(VerifiedFiles(vault, batch_cache(vault))) as files, connect(threads="1") as database:
        for start in range(0, len(runs), _READ_TOGETHER):
            some = runs[start : start + _READ_TOGETHER]
            files.paths(list({seal.sequence: seal for run in some for seal in run.seals}.values()))
            for run in some:
                told.append(_stream(_asked(database, files, question, run)))
                left -= len(told[-1] or b"")
                if left <= 0:
                    return told + [None] * (len(runs) - len(told))
    return told


def _asked(database: Any, files: VerifiedFiles, question: Question, run: Run) -> pa.Table:
    part = Part(files.paths(run.seals), [seal.sequence for seal in run.seals])
    ends = [f"row >= {run.first}"] * bool(run.first) + [f"row < {run.end}"] * (run.end is not None)
    return in_utc(ask(database, [part], question.statement, question.values, " AND ".join(ends)).to_arrow_table())


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]
