"""What waits in the store to be sealed, and by what that is known.

    the sealer's memory    exact: the position up to which it has sealed
    a sealed heartbeat     where that memory is elsewhere. A sealer's round reads the store to its end before it makes
                           the heartbeat that it seals, so that what was recorded a minute or more before a heartbeat
                           was dealt with. Of what came later, the records found in the newest batches are sealed, and
                           the rest waits.
    neither                nothing in the vault says that this store was ever sealed: all of it waits

By a heartbeat, a record whose collector's clock lags the sealer's by more than a minute may be passed over until the
next heartbeat, and a refused one counted until then. Seals alone would not do: an import straight into the vault says
nothing of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from auditlib.errors import AuditlibError
from auditlib.formats.event import Record
from auditlib.formats.times import SECOND
from auditlib.state import SealerState
from auditlib.store import Entry, Store

SLACK = 60 * SECOND  # microseconds before a heartbeat in which a record may have come too late for its round
MAX_READ = 20_000  # records of the store read; what is past them is counted
Basis = Literal["the sealer's memory", "the last sealed heartbeat", "nothing sealed of this store"]
Key = tuple[str, str, str]  # source, event_id, recorded_at


class Waiting(msgspec.Struct, frozen=True):
    """What waits: how many records, the oldest recorded_at (microseconds), by what that is known, and the records.

    `whole` says whether all of them were read; else `read` holds the newest alone.
    """

    records: int
    oldest: int | None
    basis: Basis
    read: list[Record]
    whole: bool


def waiting(
    store: Store,
    states: list[SealerState],
    heartbeat: int | None,
    sealed_since: Callable[[int], set[Key]],
) -> Waiting:
    """What of a store is not sealed yet.

    `states` are the memories of the trail's sealers, as far as they are here; `heartbeat` is the recorded_at of the
    newest sealed heartbeat of a sealer; `sealed_since(time)` names what is sealed of the records from that time on.
    """
    remembered = _remembered(store, states)
    if remembered is not None:
        return _past(store, remembered, "the sealer's memory", set())
    if heartbeat is None:
        return _past(store, 0, "nothing sealed of this store", set())
    since = heartbeat - SLACK
    return _past(store, _before(store, since), "the last sealed heartbeat", sealed_since(since), since)


def key_of(record: Record) -> Key:
    """By what a record is found again."""
    return record.receipt.source, record.event.event_id, record.receipt.recorded_at


def _remembered(store: Store, states: list[SealerState]) -> int | None:
    """The greatest position that a sealer of this store remembers, where the store still holds that record."""
    found = []
    for state in states:
        try:
            position = state.position()
        except AuditlibError:
            continue  # another account's memory: it cannot be read, and the heartbeats decide
        if position and position.identity == store.identity and store.digest_at(position.position) == position.digest:
            found.append(position.position)
    return max(found, default=None)


def _past(store: Store, after: int, basis: Basis, sealed: set[Key], since: int = 0) -> Waiting:
    """What waits past a position: not what is sealed, and not what was recorded before `since`."""
    backlog = store.backlog(after)
    first = store.read(after, MAX_READ)
    whole = backlog.records <= len(first)

    def waits(entry: Entry) -> bool:
        return entry.is_record and entry.recorded_at >= since and key_of(entry.record) not in sealed

    kept = [entry for entry in first if waits(entry)]
    if whole:
        times = [entry.recorded_at for entry in kept]
        return Waiting(len(kept), min(times, default=None), basis, [entry.record for entry in kept], True)
    times = [entry.recorded_at for entry in kept]
    newest = store.read(_last_but(store, MAX_READ), MAX_READ)
    records = backlog.records - (len(first) - len(kept))
    oldest = min(times, default=backlog.oldest)
    return Waiting(records, oldest, basis, [entry.record for entry in newest if waits(entry)], False)


def _before(store: Store, time: int) -> int:
    """The position before the first record recorded from `time` on; positions follow the order of recording closely."""
    return _least(lambda entry: entry is None or entry.recorded_at >= time, store)


def _last_but(store: Store, count: int) -> int:
    """A position with at most `count` records past it."""
    return max(0, _least(lambda entry: entry is None, store) - count)


def _least(reached: Callable[[Entry | None], bool], store: Store) -> int:
    """The least position past which the first record (None: there is none) has `reached`; in O(log n) reads."""

    def there(position: int) -> bool:
        found = store.read(position, 1)
        return reached(found[0] if found else None)

    if there(0):
        return 0
    low, high = 0, 1  # never there, and perhaps there
    while not there(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if there(middle) else (middle, high)
    return high
