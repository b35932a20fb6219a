"""The recorder's own list of what it recorded, for the Access page: events show in a trail only once they are sealed.

    <state>/journal.jsonl, journal.1.jsonl

    {"action":"evidence.search","at":"2026-07-15T12:00:00Z","engagement":"soc2-2026","event_id":"01K0...",
     "identity":"ines@auditor.example","outcome":"success","role":"auditor","rows":null,
     "target":"vault:acme.example/audit"}

It holds no more than the events do, is bounded (the older file goes), and is no evidence: the sealed trail is.
"""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec

from auditlib.dashboard.appended import Appended
from auditlib.errors import UnavailableError
from auditlib.formats.canonical import canonical

MAX_FILE_BYTES = 4 * 1024 * 1024  # bytes of each of the two files, some 15,000 acts


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One act: `rows` where its event tells them, `engagement` and `role` None for signing in and out."""

    action: str
    at: str
    engagement: str | None
    event_id: str
    identity: str
    outcome: str
    role: str | None
    rows: int | None
    target: str


class Journal:
    """The list, for the threads of one process."""

    def __init__(self, path: Path, limit: int = MAX_FILE_BYTES) -> None:
        self._file = Appended(path, limit=2 * limit, durable=False)
        self._old = Appended(path.with_suffix(".1.jsonl"), limit=2 * limit, durable=False)
        self._limit = limit
        self._lock = threading.Lock()
        self.missed = 0  # acts recorded since the start that could not be noted here

    def note(self, entry: Entry) -> None:
        """Add an act whose event is recorded. Where that fails it is counted: the event is what counts."""
        try:
            with self._lock:
                if self._file.size() > self._limit:
                    self._file.path.replace(self._old.path)
                self._file.append(canonical(msgspec.to_builtins(entry)))
        except (UnavailableError, OSError):
            self.missed += 1

    def entries(self) -> list[Entry]:
        """What is noted, newest first; lines that cannot be read are left out."""
        with self._lock:
            lines = [*self._old.lines(), *self._file.lines()]
        found = []
        for line in reversed(lines):
            try:
                found.append(msgspec.json.decode(line, type=Entry))
            except (msgspec.MsgspecError, UnicodeError):
                continue
        return found
