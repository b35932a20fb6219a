"""Locks lengthened and legal holds set, object by object; what was done is sealed as an event of the trail.

    extend           documents, catalogues, seals, checkpoints and pages follow the newest batch; with a date the
                     batches too, and all of them to that date at least
    hold, release    a legal hold on every object, which lasts until it is lifted, whatever the retention

A lock can be lengthened at any time and, in COMPLIANCE mode, shortened by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import msgspec

from auditlib.errors import MalformedError, MismatchError
from auditlib.formats import layout
from auditlib.formats.times import DAY, parse_time
from auditlib.history import History, read_history
from auditlib.locks import CONNECTIONS, SLACK, Locking
from auditlib.vault import Lock, Stored, Vault

Progress = Callable[[int, int], None] | None  # (done, total) objects


@runtime_checkable
class Lockable(Locking, Protocol):
    """A vault whose locks can be lengthened, and that takes legal holds."""

    def extend_lock(self, key: str, version: str, lock: Lock) -> None:
        """Lengthen the retention of one object version, and read it back."""

    def set_hold(self, key: str, version: str, on: bool) -> None:
        """Set or lift the legal hold of one object version."""


class Extended(msgspec.Struct, frozen=True):
    """How many objects there are, how many locks were lengthened, and to when (microseconds since 1970 UTC)."""

    objects: int
    changed: int
    until: int


def extend(vault: Vault, until: int | None, now: int, progress: Progress = None) -> Extended:
    """Lengthen every lock that ends before `until`; without one, those of all but the batches follow the newest batch.

    `now` and `until` are microseconds since 1970 UTC. Raises MalformedError for storage without locks or a time that
    has passed, MismatchError where the trail has faults; running it again goes on where it stopped.
    """
    store, history = _lockable(vault), _sound(vault)
    document = history.document or history.documents[0]
    if until is not None and until <= now:
        raise MalformedError("this time has passed; a lock can only be lengthened.", where="--until")
    # What tells of this is sealed right after it, and locked as long as a batch of that moment: a day is ample.
    newest = now + document.retention.days * DAY + DAY
    for entry in history.seals:
        sealed_under = history.document_of(entry.seal)
        if sealed_under:
            newest = max(newest, parse_time(entry.seal.sealed_at) + sealed_under.retention.days * DAY)
    others = max(until or 0, newest)

    def lengthen(stored: Stored) -> bool:
        wanted = until if stored.key.startswith(layout.BATCHES) else others
        version = history.version_of(stored.key)
        found = store.lock_of(stored.key, version)
        if wanted is None or (found and found.mode == document.retention.mode and found.until + SLACK >= wanted):
            return False
        wanted = max(wanted, found.until if found else 0)
        store.extend_lock(stored.key, version, Lock(document.retention.mode, wanted))
        return True

    changed = list(_each(history, lengthen, progress))
    return Extended(len(changed), sum(changed), until or others)


def set_holds(vault: Vault, on: bool, progress: Progress = None) -> Extended:
    """Set or lift the legal hold of every object of the trail that is not held, or held, already."""
    store, history = _lockable(vault), _sound(vault)

    def switch(stored: Stored) -> bool:
        version = history.version_of(stored.key)
        found = store.lock_of(stored.key, version)
        if on == bool(found and found.hold):
            return False
        store.set_hold(stored.key, version, on)
        return True

    changed = list(_each(history, switch, progress))
    return Extended(len(changed), sum(changed), 0)


def _lockable(vault: Vault) -> Lockable:
    if not isinstance(vault, Lockable):
        raise MalformedError("a local directory has no locks.", where=vault.url, remedy="Give s3://bucket/prefix.")
    return vault


def _sound(vault: Vault) -> History:
    """A history whose versions are known: a lock on a shadow would protect what somebody planted."""
    history = read_history(vault, thorough=True)
    if history.errors or not history.documents:
        raise MismatchError(
            "the locks of a trail that does not verify are left alone.",
            where=vault.url,
            remedy="Run `auditlib verify` on it.",
            found=history.errors[0].message if history.errors else "no trail",
        )
    return history


def _each(history: History, work: Callable[[Stored], bool], progress: Progress) -> Iterator[bool]:
    objects = [stored for key, stored in sorted(history.stored.items()) if key.startswith(layout.KNOWN_PREFIXES)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for done, changed in enumerate(pool.map(work, objects), 1):
            if progress:
                progress(done, len(objects))
            yield changed
