"""From the store into the vault: read, seal, remember how far; again and again, and never past a record.

    store [ 1 | 2 | 3 | 4 | 5 ] --read--> sealer --batch, seal, checkpoint--> vault
                    ^ position

The position is remembered only after everything before it is sealed, batch by batch. A crash in between makes the next
run read some records twice; the sealer drops them as repeats. A store restored from an older backup is noticed, because
the record at the remembered position is another or missing, and is read from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from hashlib import sha256

import msgspec

from auditlib.announce import OWN_SOURCE, own_record
from auditlib.conflicts import refused_records
from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.event import Actor, Record, Target, record_bytes
from auditlib.formats.keys import SigningKey
from auditlib.sealer import Added, Sealer, sealer_at_work
from auditlib.state import Position, SealerState
from auditlib.store import Entry, Lease, Store
from auditlib.vault import Vault

CHUNK = 5_000  # records read from the store at once
LEASE_SECONDS = 120  # seconds a lease runs at least; renewed before each chunk and each seal
POLL = 5.0  # seconds between two looks at how much waits
RETRY_LEAST, RETRY_MOST = 1.0, 60.0  # seconds to wait after storage did not answer, doubled each time

Wait = Callable[[float], bool]  # waits so many seconds, or until told to stop; whether it was


class Round(msgspec.Struct, frozen=True):
    """What one round sealed, how many seals the trail has, and how many records the catalogue in force refused."""

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
            fit, unfit = self._judge(entries)
            added += self._sealer.add(fit)
            self._sealer.add(unfit)
            refused += len(entries) - len(fit)
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
        self._state.remember_position(Position(self._identity, last.position, _digest(last.record)))

    def _renew(self) -> None:
        self._lease = self._store.renew(self._lease, self._now())

    def _judge(self, entries: list[Entry]) -> tuple[list[Record], list[Record]]:
        """(records that the catalogue in force takes, what tells of the others)."""
        fit: list[Record] = []
        unfit: list[Record] = []
        for entry in entries:
            try:
                self._sealer.catalog.check(entry.record.event)
                fit.append(entry.record)
            except MalformedError as error:
                unfit += refused_records(entry.record, str(error))
        return fit, unfit

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


def _digest(record: Record) -> str:
    return sha256(record_bytes(record)).hexdigest()
