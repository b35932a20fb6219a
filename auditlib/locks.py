"""Check 7: is every object under the retention lock that the trail promises? The storage's word, object by object.

Batches must be locked at least `retention.days` from their seal on. Trail documents, catalogues, seals, checkpoints
and pages must be kept at least as long as the newest batch (DESIGN 4.6): each is put with a lock of its own, so that
theirs must be lengthened before it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, runtime_checkable

from auditlib.findings import Severity, moment
from auditlib.formats import layout
from auditlib.formats.document import Retention
from auditlib.formats.seal import Seal
from auditlib.formats.times import DAY, SECOND, parse_time
from auditlib.history import History
from auditlib.vault import Lock, Protection, Stored

EXPIRING = 30 * DAY  # microseconds before the end of a lock from which it is reported
SLACK = 2 * SECOND  # microseconds; storage keeps whole seconds
CONNECTIONS = 16  # objects asked about at once
_SHOWN = 20  # objects named one by one for each fault; the rest are counted


@runtime_checkable
class Locking(Protocol):
    """What a vault under a retention lock can say of itself."""

    protection: Protection

    def lock_of(self, key: str, version: str) -> Lock | None:
        """The lock of one object version."""


def check_locks(
    history: History, now: int, expiring: int = EXPIRING, progress: Callable[[int, int], None] | None = None
) -> None:
    """Ask the storage for the lock of every object that was read, and of the bucket; faults become findings.

    `expiring` is in microseconds: locks that end within it are named.
    """
    vault, document = history.vault, history.document
    if not isinstance(vault, Locking) or document is None:
        return
    _check_bucket(history, vault.protection, document.retention)
    ends = {
        seal.batch.object: parse_time(seal.sealed_at) + _kept(history, seal)
        for seal in (entry.seal for entry in history.seals)
    }
    newest = max(ends.values(), default=now)
    stored = [entry for key, entry in sorted(history.stored.items()) if _of_trail(history, key, ends)]
    faults: dict[tuple[Severity, str], list[tuple[Stored, str, str]]] = {}
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        locks = pool.map(lambda entry: vault.lock_of(entry.key, history.version_of(entry.key)), stored)
        for done, (entry, lock) in enumerate(zip(stored, locks, strict=True), 1):
            for severity, message, expected, found in _faults(
                entry, lock, document.retention, ends, newest, now, expiring
            ):
                faults.setdefault((severity, message), []).append((entry, expected, found))
            if progress:
                progress(done, len(stored))
    for (severity, message), objects in faults.items():
        shown = 1 if severity == "info" else _SHOWN
        for entry, expected, found in objects[:shown]:
            history.add(7, entry.key, message, expected, found, severity)
        if len(objects) > shown:
            history.add(7, history.vault.url, f"{len(objects) - shown:,} more objects: {message}", severity=severity)


def _of_trail(history: History, key: str, batches: Collection[str]) -> bool:
    """Whether the trail rests on the object: what anybody put beside it may be locked or not."""
    numbers = {"seal": len(history.seals) + len(history.beyond), "checkpoint": len(history.seals) + 1}
    for kind, end in numbers.items():
        if (number := layout.number_of(kind, key)) is not None:
            return number < end
    return key in batches or key.startswith((layout.TRAIL, layout.CATALOGS))


def _kept(history: History, seal: Seal) -> int:
    document = history.document_of(seal)
    return document.retention.days * DAY if document else 0


def _check_bucket(history: History, protection: Protection, retention: Retention) -> None:
    where = history.vault.url
    if not protection.versioning:
        history.add(
            7, where, "the bucket keeps no versions: an overwritten object would be lost.", "Enabled", "not enabled"
        )
    if not protection.locking:
        history.add(7, where, "the bucket has no Object Lock.", "Enabled", "not enabled")
    elif not protection.default_mode:
        message = "the bucket locks nothing by default: an object put without a lock can be deleted."
        history.add(7, where, message, f"{retention.mode}, {retention.days} days", "no default retention", "info")


def _faults(
    entry: Stored, lock: Lock | None, retention: Retention, ends: dict[str, int], newest: int, now: int, expiring: int
) -> Iterator[tuple[Severity, str, str, str]]:
    promised = ends.get(entry.key, newest)
    wanted = f"{retention.mode} until {moment(promised)}"
    if lock is None or not lock.mode:
        if promised > now:
            yield "error", "the object is under no retention lock.", wanted, "no lock"
        return
    found = f"{lock.mode} until {moment(lock.until)}"
    if retention.mode == "COMPLIANCE" and lock.mode != "COMPLIANCE":
        yield "error", "the lock is one that some may lift.", wanted, found
    if lock.until + SLACK < promised:
        if entry.key in ends:
            yield "error", "the lock is shorter than the trail promises.", wanted, found
        else:
            message = "the lock ends before the newest batch's, and must be lengthened before it ends."
            yield "info", message, wanted, found
    elif lock.until - now < expiring < retention.days * DAY:
        yield "warning", f"the lock ends within {expiring // DAY} days.", wanted, found
    if lock.hold:
        yield "info", "the object is under a legal hold.", "", found
