"""From the store into the vault: read, seal, remember how far; again and again, and never past a record.

    store [ 1 | 2 | 3 | 4 | 5 ] --read--> sealer --batch, seal, checkpoint--> vault
                    ^ position

The position is remembered only after everything before it is sealed, batch by batch. A crash in between makes the next
run read some records twice; the sealer drops them as repeats. A store restored from an older backup is noticed, because
the record at the remembered position is another or missing, and is read from its beginning.

Who checks: this module, that each row is what its columns say and its event spelled canonically; the sealer, that the
records are valid, under the catalogue in force too. What is not is told of by `audit.refused`, and the sealer goes on.
A row that is no record at all was written past the collector, by somebody with the writer's credentials; it stays in
the store, which gives up nothing that was not sealed:

    {"action":"audit.refused","context":{"event_id":"e-17","position":42,"reason":"the stored row is no valid ...",
     "sha256":"<of the bytes that stand where the event should>","source":"billing-api/7f3a","source_seq":17},
     "outcome":"failure","target":{"id":"position:42","type":"row"},...}
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import sha256

import msgspec
import pyarrow as pa

from auditlib.announce import OWN_SOURCE, own_record
from auditlib.conflicts import MAX_REASON_CHARS, refused_records
from auditlib.errors import MalformedError, MismatchError, UnavailableError
from auditlib.formats.canonical import MAX_INTEGER
from auditlib.formats.columns import table_of, table_of_events
from auditlib.formats.event import Actor, Event, Receipt, Record, Target
from auditlib.formats.keys import SigningKey
from auditlib.formats.times import format_time
from auditlib.sealer import Added, Sealer, sealer_at_work
from auditlib.state import Position, SealerState
from auditlib.store import Entry, Lease, Store
from auditlib.store.rows import check_claims, digest_of
from auditlib.vault import Vault

CHUNK = 5_000  # records read from the store at once
LEASE_SECONDS = 120  # seconds a lease runs at least; renewed before each chunk and each seal
POLL = 5.0  # seconds between two looks at how much waits
RETRY_LEAST, RETRY_MOST = 1.0, 60.0  # seconds to wait after storage did not answer, doubled each time

Wait = Callable[[float], bool]  # waits so many seconds, or until told to stop; whether it was


class Round(msgspec.Struct, frozen=True):
    """What one round sealed, how many seals the trail has, and how many rows became `audit.refused` instead."""

    added: Added
    seals: int
    refused: int


class Drain:
    """One sealer of one store at work; see `open_drain`, which makes one."""

    def __init__(
        self,
        store: Store,
        sealer: Sealer,
        state: SealerState,
        lease: Lease,
        *,
        now: Callable[[], int],
        max_events: int,
    ) -> None:
        self._store, self._sealer, self._state = store, sealer, state
        self._lease, self._now, self._max_events = lease, now, max_events
        self._identity, self._after = self._start()

    def round(self, interval: int, stopped: Callable[[], bool] = lambda: False) -> Round:
        """Seal everything that the store holds now, or less where `stopped` says so meanwhile, and one heartbeat.

        `interval` is the seconds between two rounds.
        """
        # Before each round: a database may be restored from a backup while its sealer waits.
        self._identity, self._after = self._start()
        added, refused, unsealed = Added(), 0, 0
        last: Entry | None = None
        left = self._store.backlog(self._after).records  # what comes meanwhile is for the next round
        while left > 0 and not stopped():
            entries = self._store.read(last.position if last else self._after, min(CHUNK, self._max_events - unsealed))
            if not entries:
                break
            self._renew()
            taken, left_out = self._take(entries)
            added += taken
            refused += left_out
            last = entries[-1]
            left -= len(entries)
            unsealed += len(entries)
            if unsealed == self._max_events and left > 0:
                self._sealer.flush()
                self._remember(last)
                unsealed = 0
        self._renew()
        self._sealer.flush(closing=self._heartbeat(added, interval))
        if last is not None:
            self._remember(last)
        return Round(added, self._sealer.size, refused)

    def backlog(self) -> int:
        """How many records wait to be sealed."""
        return self._store.backlog(self._after).records

    def _start(self) -> tuple[str, int]:
        """The store's identity, and the position to read on from; 0 where the store is not the one remembered."""
        identity, found = self._store.identity, self._state.position()
        if found is None or found.identity != identity or self._store.digest_at(found.position) != found.digest:
            return identity, 0
        return identity, found.position

    def _remember(self, last: Entry) -> None:
        self._after = last.position
        self._state.remember_position(Position(self._identity, last.position, digest_of(last)))

    def _renew(self) -> None:
        self._lease = self._store.renew(self._lease, self._now())

    def _take(self, entries: list[Entry]) -> tuple[Added, int]:
        """What became of the records among these rows, and how many rows were refused instead."""
        strange: list[tuple[Entry, str]] = []
        try:
            table = _laid_out(entries)
        except (MalformedError, MismatchError):  # one of them at least; which one, the slow way tells
            entries, strange = _sorted_out(entries)
            table = table_of([entry.record for entry in entries])
        added, wrong = self._sealer.take(table)
        refused = len(strange) + len(wrong)
        told: list[Record] = []
        for row, fault in wrong.items():
            try:
                told += refused_records(entries[row].record, fault)
            except MismatchError as error:
                strange.append((entries[row], error.message))
        told += [_strange_record(entry, fault) for entry, fault in strange]
        self._sealer.add(told)
        return added, refused

    def _heartbeat(self, added: Added, interval: int) -> Record:
        actor, target = Actor(OWN_SOURCE, None, "system"), Target(self._sealer.document.origin, "trail")
        context = {"interval_seconds": interval, "sealed": added.new}
        return own_record("audit.heartbeat", actor, target, context, self._now())


@contextmanager
def open_drain(
    store: Store,
    vault: Vault,
    key: SigningKey,
    state: SealerState,
    *,
    now: Callable[[], int],
    every: int,
    max_events: int,
) -> Iterator[Drain]:
    """The one sealer of this store and vault: holds the lock of its memory, then the store's lease.

    `every` is the seconds between two rounds. UnavailableError where another sealer is at work, MismatchError where the
    vault's history has a fault; then nothing was written.
    """
    with state.lock():
        lease = store.lease(state.holder(), max(LEASE_SECONDS, 2 * every), now())
        try:
            with sealer_at_work(vault, key, state, now=now, max_events=max_events) as sealer:
                yield Drain(store, sealer, state, lease, now=now, max_events=max_events)
        finally:
            with suppress(UnavailableError):  # then it runs out
                store.release(lease)


def watch(
    open_one: Callable[[], AbstractContextManager[Drain]],
    *,
    every: int,
    max_events: int,
    wait: Wait,
    tell: Callable[[Round], None],
    complain: Callable[[UnavailableError, float], None],
) -> None:
    """Rounds `every` so many seconds, or when `max_events` records wait, until `wait` is told to stop.

    Storage that does not answer, and another sealer at work, are told and tried again, ever more slowly.
    """
    delay = RETRY_LEAST
    while True:
        try:
            with open_one() as drain:
                while not wait(0):  # also where so much waits that no round is followed by a pause
                    tell(drain.round(every, lambda: wait(0)))
                    delay = RETRY_LEAST
                    waited = 0.0
                    while waited < every and drain.backlog() < max_events:
                        if wait(min(POLL, every - waited)):
                            return
                        waited += POLL
                return
        except UnavailableError as error:
            complain(error, delay)
            if wait(delay):
                return
            delay = min(2 * delay, RETRY_MOST)


def _laid_out(entries: Sequence[Entry]) -> pa.Table:
    """Rows whose events are canonical and are those that their columns name, as a table; or an error for them all."""
    table = table_of_events(
        [entry.event for entry in entries],
        [entry.recorded_at for entry in entries],
        [entry.source for entry in entries],
        [entry.source_seq for entry in entries],
    )
    check_claims(entries, table.column("event_id").to_pylist())
    return table


def _sorted_out(entries: Sequence[Entry]) -> tuple[list[Entry], list[tuple[Entry, str]]]:
    """(rows that are records, rows that are none and why)."""
    sound: list[Entry] = []
    strange: list[tuple[Entry, str]] = []
    for entry in entries:
        try:
            _ = entry.record
            sound.append(entry)
        except MismatchError as error:
            strange.append((entry, error.message))
    return sound, strange


def _strange_record(entry: Entry, reason: str) -> Record:
    """What tells of a row that is no record; made of the row alone, so that the same row, met again, is the same event.

    Nothing in it is believed but its recorded_at, whose bounds the database holds to.
    """
    moment = format_time(entry.recorded_at)
    name = sha256(repr(msgspec.structs.astuple(entry)).encode()).hexdigest()[:32]
    number = entry.source_seq
    context = {
        "event_id": _shown(entry.event_id),
        "position": entry.position,
        "reason": _shown(reason),
        "sha256": sha256(entry.event).hexdigest(),
        "source": _shown(entry.source),
        "source_seq": number if number is not None and number <= MAX_INTEGER else None,
    }
    actor, target = Actor(OWN_SOURCE, None, "system"), Target(f"position:{entry.position}", "row")
    event = Event("audit.refused", actor, context, f"refused-{name}-1", moment, "failure", target)
    return Record(event, Receipt(moment, OWN_SOURCE, None))


def _shown(text: str) -> str:
    """Any text, cut, with what JSON cannot hold spelled out."""
    return text[:MAX_REASON_CHARS].replace("\0", "\\0").encode(errors="backslashreplace").decode()
