"""When the first lock of a trail ends: from the seals' promises, and where storage keeps locks, by its own word.

Storage is asked about a few objects alone: the oldest batch, and the documents and firsts of each kind, whose locks end
first. All of them is check 7's work (`auditlib verify --deep`).
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from auditlib.announce import announced
from auditlib.findings import duration, moment
from auditlib.formats import layout
from auditlib.formats.document import Document
from auditlib.formats.lines import Numbers
from auditlib.formats.seal import Seal
from auditlib.formats.times import DAY, LATEST, parse_time
from auditlib.history import History
from auditlib.locks import Locking
from auditlib.monitor.report import Alarm


class Kept(msgspec.Struct, frozen=True):
    """The object whose lock ends first, when (microseconds; None: there is none), and how long is promised."""

    key: str
    ends: int | None
    promise: int
    unlocked: tuple[str, ...] = ()

    def alarms(self, limit: int | None, now: int) -> list[Alarm]:
        """What is to be told; a retention that is shorter than the threshold as a whole is not judged by it."""
        told = [Alarm("fault", key, "check 7: the object is under no retention lock.") for key in self.unlocked]
        if self.ends is not None and limit is not None and self.ends - now < limit < self.promise:
            left = f"in {duration(self.ends - now)}" if self.ends > now else f"{duration(now - self.ends)} ago"
            message = f"the first retention ends {left}, at {moment(self.ends)}: lengthen it, or let it go."
            told.append(Alarm("retention_left", self.key, message))
        return told


def promised_until(seal: Seal, document: Document) -> int:
    """When the retention of a batch ends by its seal, in microseconds since 1970 UTC."""
    return parse_time(seal.sealed_at) + document.retention.days * DAY


def kept_until(history: History) -> Kept:
    """The first end of a retention among what is still there."""
    document, vault, locking = history.document, history.vault, isinstance(history.vault, Locking)
    if document is None:
        return Kept("", None, 0)
    ends = _ends(history)
    order = range(len(ends)) if locking else np.argsort(ends, kind="stable").tolist()
    for place in order:
        seal = history.seals[place].seal
        if seal.batch.object in history.listing:
            if locking:
                return _stated(history, vault, seal)
            return Kept(seal.batch.object, int(ends[place]), document.retention.days * DAY)
    return Kept("", None, 0)


def _ends(history: History) -> Numbers:
    """When the retention of each batch ends, by what the trail promises; as late as can be where nothing is known."""
    seals, ends = history.seals, history.seals.sealed_at.copy()
    for place, trail in seals.changes:
        under = history.document_named(trail)
        ends[place:] = seals.sealed_at[place:] + under.retention.days * DAY if under else LATEST
    for sequence, until in announced(history).extended:
        earlier = seals.numbers < sequence
        ends[earlier] = np.maximum(ends[earlier], until)
    return ends


def _stated(history: History, vault: Any, oldest: Seal) -> Kept:
    keys = [oldest.batch.object, layout.seal_key(0), layout.checkpoint_key(1)]
    keys += [key for folder in (layout.TRAIL, layout.CATALOGS) for key in history.listing.keys(folder)]
    ends: list[tuple[int, str]] = []
    unlocked = []
    for key in sorted(key for key in set(keys) if key in history.listing):
        lock = vault.lock_of(key, history.version_of(key))
        if lock is None or not lock.mode:
            unlocked.append(key)
        elif not lock.hold:
            ends.append((lock.until, key))
    least = min(ends, default=(None, ""))
    document = history.document
    return Kept(least[1], least[0], document.retention.days * DAY if document else 0, tuple(unlocked))
