"""What records show of the sources that sent them, heard a batch at a time in the order of the seals.

Kept is a little for each source and minute, whatever the number of records: a clock is measured, as the collector
measures it, once a minute at most, by the record of that minute that arrived soonest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditlib import pipeline
from auditlib.formats.event import source_name
from auditlib.formats.seal import Seal
from auditlib.formats.times import SECOND, parse_time
from auditlib.monitor.settings import Settings, is_paced
from auditlib.pipeline import HEARTBEAT, Runs

COLUMNS = ["event_id", "occurred_at", "action", "context", "recorded_at", "source", "source_seq"]
MINUTE = 60 * SECOND  # microseconds: one measurement of a clock
MAX_IDS = 5  # late events named of one source
MAX_SILENCES = 1000  # silences kept of one source


class Heard(msgspec.Struct):
    """What was heard of a source, by its name; times in microseconds since 1970 UTC."""

    last: int = 0  # recorded_at
    newest: int = 0  # occurred_at
    records: int = 0  # of the period
    heartbeats: int = 0
    last_heartbeat: int | None = None
    silences: Runs = msgspec.field(default_factory=list)
    late: int = 0
    late_most: int = 0
    late_last: int = 0
    late_ids: list[str] = msgspec.field(default_factory=list)


class Hearing:
    """Batches in, in the order of their seals; what they show of each source out.

    `since` is where the period begins, `horizon` where reading begins (at or before it), both in microseconds.
    """

    def __init__(self, settings: Settings, since: int, horizon: int) -> None:
        self._settings, self._since, self._horizon = settings, since, horizon
        self.sources: dict[str, Heard] = {}
        self.actions: Counter[str] = Counter()  # events of the pipeline's own, in the period
        self.clocks: dict[str, dict[int, int]] = {}  # instance: {minute: the most that occurred_at passed recorded_at}
        self._runs: dict[str, Runs] = {}  # instance: its numbers

    def hear(self, table: pa.Table, known: Iterable[str]) -> None:
        """One batch; `known` are the names of sources that had recorded before reading began."""
        recorded, occurred, codes, names = _columns(table)
        short = np.array([source_name(source) for source in names], dtype=object)
        beats = np.asarray(pc.equal(table.column("action"), HEARTBEAT).combine_chunks().cast(pa.int8())).astype(bool)
        for name in sorted(set(short)):
            rows = np.flatnonzero(np.isin(codes, np.flatnonzero(short == name)))
            new = name not in self.sources
            heard = self.sources.setdefault(name, Heard())
            times = np.sort(recorded[rows])
            if is_paced(name):
                self._listen_for_silence(name, heard, times, new and name in known)
            _note(heard, times, occurred[rows], beats[rows], recorded[rows])
            within = rows[recorded[rows] >= self._since]
            heard.records += len(within)
            self._listen_for_lateness(name, heard, table, within, recorded, occurred)
        for code, source in enumerate(names):
            if is_paced(source):
                rows = np.flatnonzero((codes == code) & (recorded >= self._since))
                self._measure(source, recorded[rows], occurred[rows])
        for source, pulse in pipeline.observe(table).items():
            self._runs.setdefault(source, []).extend([*pulse.numbers, *pulse.refused])
            if pulse.refused:  # whose events are refused is not silent
                heard = self.sources.setdefault(source_name(source), Heard())
                heard.last = max(heard.last, pulse.last)
        own = table.filter(pa.array(recorded >= self._since)).column("action").value_counts().to_pylist()
        self.actions.update({each["values"]: each["counts"] for each in own if each["values"].startswith("audit.")})

    def recall(self, table: pa.Table, names: Iterable[str]) -> None:
        """An older batch, the last in which these sources stand: when they were heard last, and no more."""
        recorded, occurred, codes, there = _columns(table)
        beats = np.asarray(pc.equal(table.column("action"), HEARTBEAT).combine_chunks().cast(pa.int8())).astype(bool)
        for name in names:
            wanted = [code for code, source in enumerate(there) if source_name(source) == name]
            rows = np.flatnonzero(np.isin(codes, wanted))
            if len(rows):
                heard = self.sources.setdefault(name, Heard())
                _note(heard, recorded[rows], occurred[rows], beats[rows], recorded[rows])

    def assume(self, seal: Seal) -> None:
        """A batch that is gone or cannot be read: what its seal alone says, so that nothing of it is called lost."""
        for source, pulse in pipeline.stated(seal).items():
            self._runs.setdefault(source, []).extend(pulse.numbers)
            if source == source_name(source):
                heard = self.sources.setdefault(source, Heard())
                heard.last = max(heard.last, pulse.last)
                heard.newest = max(heard.newest, parse_time(seal.occurred[1]))

    def lost(self, source: str, before: int) -> Runs:
        """The numbers of an instance that never arrived, as runs; `before` is the greatest known from older seals."""
        gaps, reached = [], before
        for first, last in sorted(self._runs.get(source, ())):
            if first > reached + 1:
                gaps.append((reached + 1, first - 1))
            reached = max(reached, last)
        return gaps

    @property
    def instances(self) -> list[str]:
        """The instances whose numbers were heard."""
        return sorted(source for source, runs in self._runs.items() if runs)

    def _listen_for_silence(self, name: str, heard: Heard, times: Any, known: bool) -> None:
        limit = self._settings.silence(name)
        if limit is None:
            return
        before = [heard.last] if heard.last else [self._horizon] if known else []
        times = np.concatenate((np.array(before, np.int64), times))
        for gap in np.flatnonzero((np.diff(times) > limit) & (times[1:] >= self._since)):
            if len(heard.silences) < MAX_SILENCES:
                heard.silences.append((int(times[gap]), int(times[gap + 1])))

    def _listen_for_lateness(
        self, name: str, heard: Heard, table: pa.Table, rows: Any, recorded: Any, occurred: Any
    ) -> None:
        limit = self._settings.lateness(name) if is_paced(name) else None
        lags = recorded[rows] - occurred[rows]
        late: Any = np.flatnonzero(lags > limit) if limit is not None else ()
        if len(late):
            heard.late += len(late)
            heard.late_most = max(heard.late_most, int(lags[late].max()))
            heard.late_last = max(heard.late_last, int(recorded[rows[late]].max()))
            room = MAX_IDS - len(heard.late_ids)
            heard.late_ids += table.column("event_id").take(rows[late[:room]]).to_pylist() if room else []

    def _measure(self, source: str, recorded: Any, occurred: Any) -> None:
        minutes = self.clocks.setdefault(source, {})
        order = np.argsort(recorded, kind="stable")
        starts, first = np.unique(recorded[order] // MINUTE, return_index=True)
        most: Any = np.maximum.reduceat((occurred - recorded)[order], first) if len(starts) else ()
        for minute, ahead in zip(starts.tolist(), list(map(int, most)), strict=True):
            minutes[minute * MINUTE] = max(ahead, minutes.get(minute * MINUTE, ahead))


def _columns(table: pa.Table) -> tuple[Any, Any, Any, list[str]]:
    """recorded_at and occurred_at in microseconds, a code a row, and the source of each code."""
    recorded = np.asarray(table.column("recorded_at").cast(pa.int64()))
    occurred = np.asarray(table.column("occurred_at").cast(pa.int64()))
    sources = pc.dictionary_encode(table.column("source").combine_chunks())
    return recorded, occurred, np.asarray(sources.indices), sources.dictionary.to_pylist()


def _note(heard: Heard, times: Any, occurred: Any, beats: Any, recorded: Any) -> None:
    heard.last = max(heard.last, int(times.max()))
    heard.newest = max(heard.newest, int(occurred.max()))
    if beats.any():
        heard.heartbeats += int(beats.sum())
        heard.last_heartbeat = max(heard.last_heartbeat or 0, int(recorded[beats].max()))
