"""How a trail is locked: what it promises, what the storage says, and how long the oldest and newest are still held."""

from __future__ import annotations

import msgspec

from auditlib.announce import announced
from auditlib.findings import duration
from auditlib.formats.seal import Seal
from auditlib.formats.times import format_time
from auditlib.history import History
from auditlib.locks import EXPIRING, Locking
from auditlib.monitor.retained import kept_until, promised_until
from auditlib.vault import Protection

LOCAL = (
    "The vault is a local directory: it records locks and cannot enforce them. Who owns it can change every file; a "
    "change shows, and nothing prevents it."
)


class Held(msgspec.Struct, frozen=True):
    """One object: what it is, its name, under which mode, until when, and how long that still is, in words."""

    what: str
    object: str
    mode: str
    until: str
    left: str
    ended: bool


class Locks(msgspec.Struct, frozen=True):
    """What is told of the locks: all of it in one line, in sentences, object by object, and what is to be looked at."""

    line: str
    sentences: tuple[str, ...]
    held: tuple[Held, ...]
    alarms: tuple[str, ...]


def locks_of(history: History, now: int) -> Locks:
    """Asks the storage about a few objects. UnavailableError where it does not answer; `now` in microseconds."""
    document, vault = history.document, history.vault
    if document is None:
        return Locks("The trail promises no lock.", ("The trail promises no lock.",), (), ())
    retention = document.retention
    promise = f"{retention.mode} for {retention.days:,} days from the sealing of each batch"
    enforced = isinstance(vault, Locking)
    kept = kept_until(history)
    there = [entry.seal for entry in history.seals if entry.seal.batch.object in history.stored]
    held = [_batch(history, what, seal, now) for what, seal in _ends(there)]
    if kept.ends is not None:
        held.insert(0, _held("The lock that ends first", kept.key, retention.mode, kept.ends, now))
    gone = len(history.seals) - len(there)
    said = [
        f"The trail promises {promise}.",
        *([_protection(vault.protection)] if isinstance(vault, Locking) else [LOCAL]),
        *([f"{gone:,} of {len(history.seals):,} batches are not there any more; check 5 says why."] if gone else []),
    ]
    first = f"; the first ends {format_time(kept.ends)[:10]}" if kept.ends is not None else ""
    where = "asked of the storage" if enforced else "recorded in a local directory, which cannot enforce it"
    alarms = tuple(f"{alarm.where}: {alarm.message}" for alarm in kept.alarms(EXPIRING, now))
    return Locks(f"{promise}, {where}{first}.", tuple(said), tuple(held), alarms)


def _ends(there: list[Seal]) -> list[tuple[str, Seal]]:
    """The oldest and the newest batch that are still there."""
    if len(there) < 2:
        return [("The only batch", seal) for seal in there]
    return [("The oldest batch", there[0]), ("The newest batch", there[-1])]


def _batch(history: History, what: str, seal: Seal, now: int) -> Held:
    """By the storage's word where it keeps locks, else by the seal's promise and what lengthened it."""
    key, vault, document = seal.batch.object, history.vault, history.document_of(seal)
    if isinstance(vault, Locking):
        lock = vault.lock_of(key, history.version_of(key))
        if lock is None or not lock.mode:
            return Held(what, key, "no lock", "", "", True)
        return _held(what, key, lock.mode + (", legal hold" if lock.hold else ""), lock.until, now)
    if document is None:
        return Held(what, key, "no lock", "", "", True)
    later = [until for sequence, until in announced(history).extended if sequence > seal.sequence]
    return _held(what, key, document.retention.mode, max([promised_until(seal, document), *later]), now)


def _held(what: str, key: str, mode: str, until: int, now: int) -> Held:
    left = duration(until - now)
    return Held(what, key, mode, format_time(until), left if until > now else f"ended {left} ago", until <= now)


def _protection(found: Protection) -> str:
    default = (
        f"by default it locks {found.default_mode} for {found.default_days:,} days"
        if found.default_mode
        else "by default it locks nothing"
    )
    versions = "keeps every version" if found.versioning else "keeps NO versions"
    return f"The bucket {versions}, its Object Lock is {'on' if found.locking else 'OFF'}, and {default}."
