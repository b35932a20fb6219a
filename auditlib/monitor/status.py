"""A status is taken: the chain whole, the batches of the period, what waits in the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditlib.announce import OWN_SOURCE
from auditlib.errors import AuditlibError, MismatchError, UnavailableError
from auditlib.formats.batch import parse_batch
from auditlib.formats.columns import table_of
from auditlib.formats.event import source_name
from auditlib.formats.keys import VerifierKey
from auditlib.formats.seal import MAX_BATCH_BYTES, Seal
from auditlib.formats.times import format_time, parse_time, to_datetime
from auditlib.history import History, read_history
from auditlib.monitor.clocks import clocks_of
from auditlib.monitor.hearing import COLUMNS, Hearing
from auditlib.monitor.judging import judge, some_of
from auditlib.monitor.report import Alarm, Clock, Lost, SourceStatus, Status
from auditlib.monitor.retained import kept_until, promised_until
from auditlib.monitor.settings import Settings
from auditlib.pagecache import page_cache
from auditlib.pipeline import HEARTBEAT
from auditlib.state import SealerState
from auditlib.vault import Vault

if TYPE_CHECKING:
    from auditlib.monitor.waiting import Key, Waiting
    from auditlib.store import Store

MAX_RUNS = 20  # runs of lost numbers told of one instance
_ROWS = 65_536  # rows heard at once
_READERS = 4  # threads that read and hash; as many batches are in memory


def take_status(
    vault: Vault,
    *,
    keys: Iterable[VerifierKey] = (),
    settings: Settings,
    since: int,
    now: int,
    store: Store | None = None,
    states: Path | None = None,
) -> Status:
    """How the pipeline is `now`, and how it was since `since` (microseconds since 1970 UTC).

    `keys` are the verifier keys you trust; `states` is the folder of the sealers' memories, where it is on this
    machine. Raises UnavailableError where vault or store do not answer; faults of the vault are alarms.
    """
    history = read_history(vault, keys, judged=page_cache())
    watch = _Watch(history, settings, since, now)
    watch.listen()
    waits = None if store is None else watch.wait(store, states)
    clocks = [] if store is None else store.clocks(since)
    return watch.status(waits, clocks_of(clocks, watch.hearing.clocks, settings.thresholds.skew))


class _Watch:
    """One status while it is taken."""

    def __init__(self, history: History, settings: Settings, since: int, now: int) -> None:
        self._history, self._settings, self._since, self._now = history, settings, since, now
        self._horizon = min(since, now - settings.longest)
        self.hearing = Hearing(settings, since, self._horizon)
        seals, every = history.seals, history.seals.chosen()
        reached = np.flatnonzero(seals.recorded[:, 1] >= self._horizon)
        begun = int(reached[0]) if len(reached) else len(seals)
        self._older, self._read = every[:begun], every[begun:]
        self._begun = int(seals.sources.starts[begun])  # where the sources of the batches that are read begin
        names = seals.sources.names
        self._known = {source_name(names[code]) for code in np.unique(seals.sources.entries[: self._begun])}
        self._faults: list[Alarm] = []
        self._heartbeat: tuple[int, str] | None = None
        self._sealers_heartbeat: int | None = None

    # --- reading -----------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Hear the batches of the period, and the last of each source that stopped before."""
        together: list[pa.Table] = []  # a sealer makes many small batches, and each costs as much as a large one
        for seal, table in self._tables(self._read):
            if table is not None:
                together.append(table)
            if table is None or sum(map(len, together)) >= _ROWS:
                self._hear(together)
            if table is None:
                self.hearing.assume(seal)
        self._hear(together)
        missing = self._known - self.hearing.sources.keys()
        beats = any(heard.heartbeats for heard in self.hearing.sources.values())
        wanted: list[tuple[Seal, set[str]]] = []
        for seal in reversed(self._older):
            names = {source_name(name) for name in seal.sources}
            newest_beat = not beats and HEARTBEAT in (seal.counts.actions or {})
            if newest_beat or names & missing:
                wanted.append((seal, names if newest_beat else names & missing))
            missing, beats = missing - names, beats or newest_beat
            if beats and not missing:
                break
        names_of = {seal.sequence: names for seal, names in wanted}
        for seal, table in self._tables([seal for seal, _ in wanted]):
            if table is None:
                self.hearing.assume(seal)
            else:
                self.hearing.recall(table, names_of[seal.sequence])
        found = [(heard.last_heartbeat, name) for name, heard in self.hearing.sources.items() if heard.last_heartbeat]
        self._heartbeat = max(found, default=None)
        own = self.hearing.sources.get(OWN_SOURCE)
        self._sealers_heartbeat = own.last_heartbeat if own else None

    def _hear(self, tables: list[pa.Table]) -> None:
        if tables:
            self.hearing.hear(pa.concat_tables(tables).combine_chunks(), self._known)
            tables.clear()

    def wait(self, store: Store, states: Path | None) -> Waiting:
        """What waits in the store; it is heard too, for who waits is not silent."""
        from auditlib.monitor.waiting import waiting

        keys = {key: None for document in self._history.documents for key in document.verifiers}
        memories = [SealerState(states, key) for key in keys] if states else []
        waits = waiting(store, memories, self._sealers_heartbeat, self._sealed_since)
        if waits.read:
            table = table_of(waits.read)
            if waits.whole:
                self.hearing.hear(table, self._known)
            else:
                self.hearing.recall(table, sorted({source_name(record.receipt.source) for record in waits.read}))
        return waits

    def _sealed_since(self, time: int) -> set[Key]:
        """The records sealed that were recorded from `time` on."""
        every = self._history.seals
        seals = every.chosen(every.recorded[:, 1] >= time)
        found: set[Key] = set()
        for _, table in self._tables(seals):
            if table is not None:
                late = table.filter(pc.greater_equal(table.column("recorded_at"), to_datetime(time)))
                times = map(format_time, late.column("recorded_at").cast(pa.int64()).to_pylist())
                named = (late.column(name).to_pylist() for name in ("source", "event_id"))
                found.update(zip(*named, times, strict=True))
        return found

    def _tables(self, seals: Sequence[Seal]) -> Iterator[tuple[Seal, pa.Table | None]]:
        """The columns that are looked at; None for a batch that is gone or is not what its seal states."""
        with ThreadPoolExecutor(_READERS) as pool:
            pending = iter(seals)
            running = [(seal, pool.submit(self._table, seal)) for seal in islice(pending, _READERS)]
            while running:
                seal, future = running.pop(0)
                table = None
                try:
                    table = future.result()
                except AuditlibError as error:
                    if type(error) is UnavailableError:
                        raise
                    self._fault(seal, error)
                yield seal, table
                for following in islice(pending, 1):
                    running.append((following, pool.submit(self._table, following)))

    def _table(self, seal: Seal) -> pa.Table:
        data = self._history.read(seal.batch.object, MAX_BATCH_BYTES, lambda data: _as_sealed(data, seal))
        return parse_batch(data, columns=COLUMNS).table

    def _fault(self, seal: Seal, error: AuditlibError) -> None:
        document = self._history.document_of(seal)
        ended = document and promised_until(seal, document) < self._now
        if not (ended and seal.batch.object not in self._history.listing):
            self._faults.append(Alarm("fault", seal.batch.object, f"check 5: {error.message}"))

    # --- what was found ----------------------------------------------------------------------------------------------

    def status(self, waits: Waiting | None, clocks: list[Clock]) -> Status:
        """All of it, held against the thresholds."""
        history = self._history
        under = history.seals.sealed_at.tolist()[-1:]
        sealed = [*under, *(parse_time(entry.seal.sealed_at) for entry in history.beyond)]
        kept = kept_until(history)
        heartbeat_at, heartbeat_source = self._heartbeat or (None, "")
        found = Status(
            vault=history.vault.url,
            origin=history.origin,
            at=self._now,
            since=self._since,
            events=int(history.seals.events.sum()),
            seals=len(history.seals),
            sealed_at=sealed[-1] if sealed else None,
            checkpoint_size=history.checkpoint.size if history.checkpoint else None,
            checkpoint_at=under[-1] if under else None,
            heartbeat_at=heartbeat_at,
            heartbeat_source=heartbeat_source,
            unsealed=waits.records if waits else None,
            oldest_unsealed=waits.oldest if waits else None,
            unsealed_basis=waits.basis if waits else "",
            retention_end=kept.ends,
            sources=[self._source(name) for name in sorted(self.hearing.sources)],
            clocks=clocks,
            own_events=dict(sorted(self.hearing.actions.items())),
            alarms=[],
        )
        told = [Alarm("fault", f.object, f"check {f.check}: {f.message}") for f in history.errors]
        told += dict.fromkeys(self._faults)
        told += kept.alarms(self._settings.thresholds.retention_left, self._now)
        return msgspec.structs.replace(found, alarms=[*some_of(told, found.vault), *judge(found, self._settings)])

    def _source(self, name: str) -> SourceStatus:
        heard = self.hearing.sources[name]
        lost = []
        for instance in self.hearing.instances:
            if source_name(instance) == name:
                runs = self.hearing.lost(instance, self._greatest(instance))
                if runs:
                    lost.append(Lost(instance, sum(last - first + 1 for first, last in runs), runs[:MAX_RUNS]))
        return SourceStatus(
            name=name,
            records=heard.records,
            last=heard.last,
            silent=max(0, self._now - heard.last),
            heartbeats=heard.heartbeats,
            last_heartbeat=heard.last_heartbeat,
            newest=heard.newest,
            silences=heard.silences,
            late=heard.late,
            late_most=heard.late_most,
            late_last=heard.late_last or None,
            late_ids=heard.late_ids,
            lost=lost,
        )

    def _greatest(self, instance: str) -> int:
        """The greatest number of an instance in the seals before those that were read."""
        seals = self._history.seals
        seen = seals.spans[: self._begun, 1][seals.sources.of(instance)[: self._begun]]
        return int(seen.max(initial=0))


def _as_sealed(data: bytes, seal: Seal) -> bytes:
    found = sha256(data).hexdigest()
    if found != seal.batch.sha256:
        raise MismatchError("the batch is not the one that was sealed.", expected=seal.batch.sha256, found=found)
    return data
