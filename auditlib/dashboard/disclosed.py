"""What auditors searched, kept apart from the trail, whose event holds a commitment to it and nothing else of it.

    <state>/disclosed/soc2-2026.jsonl       0600, append only, each line on disk before the event is recorded

    {"action":"evidence.search","at":"2026-07-15T12:00:00Z","engagement":"soc2-2026","event_id":"01K0...",
     "identity":"ines@auditor.example","salt":"<64 hex>","withheld":{"filters":{"kind":"grant"},"rows":37}}

withheld_sha256 of the event = SHA-256(salt, 32 random bytes || canonical JSON of `withheld`). Without the salt no guess
of the filters can be tried against it; with the line, anybody who has the sealed event can check that this, and nothing
else, was searched then. One file an engagement: it can be handed over, or deleted, when the engagement has ended, and
an auditor who fills theirs stops nobody else.

A line without its event is a search that was begun and not shown: the event could not be recorded.
"""

from __future__ import annotations

import hmac
from collections import deque
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from auditlib.dashboard.appended import Appended
from auditlib.engagements import Engagement
from auditlib.errors import AuditlibError, MalformedError, MismatchError, UnavailableError
from auditlib.formats.canonical import canonical
from auditlib.formats.event import Event
from auditlib.scoped import RefusedError

SALT_BYTES = 32  # random bytes, 256 bits
MAX_WITHHELD_BYTES = 64 * 1024  # canonical bytes of what one act may say; nobody types more by hand
MAX_FILE_BYTES = 256 * 1024 * 1024  # bytes of one engagement's file, some half a million searches
MAX_READ = 500  # lines read at once, the newest
COMMITMENT = "withheld_sha256"  # its key in the event's context


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one event withholds: `withheld` is JSON, `salt` hex, `at` the event's occurred_at."""

    action: str
    at: str
    engagement: str
    event_id: str
    identity: str
    salt: str
    withheld: dict[str, Any]


class Disclosures(msgspec.Struct, frozen=True):
    """Lines, newest first; how many there are in all, and how many places of the file could not be read."""

    lines: tuple[Line, ...]
    total: int
    unreadable: int


class Disclosed:
    """The folder of these files. Threads of one process may share it."""

    def __init__(self, folder: Path) -> None:
        """Made (0700) where it is not there; UnavailableError where it cannot be."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"cannot be made ({error.strerror}).", where=str(folder)) from None
        self._folder = folder
        self._files: dict[str, Appended] = {}

    def keep(self, line: Line) -> None:
        """Add a line, durably. UnavailableError where it is not kept."""
        self._file(line.engagement).append(canonical(msgspec.to_builtins(line)))

    def read(self, engagement_id: str, identity: str | None = None, limit: int = MAX_READ) -> Disclosures:
        """The newest lines of an engagement, of one identity where it is given. Recorder.disclosures asks who reads."""
        newest: deque[Line] = deque(maxlen=min(max(limit, 1), MAX_READ))
        total = unreadable = 0
        for text in self._file(engagement_id).lines():
            try:
                line = msgspec.json.decode(text, type=Line)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                unreadable += 1
                continue
            if identity in (None, line.identity):
                total += 1
                newest.append(line)
        return Disclosures(tuple(reversed(newest)), total, unreadable)

    def _file(self, engagement_id: str) -> Appended:
        # An engagement's id is letters, digits, dots, dashes and underscores between two that are letters or digits,
        # and no two differ in case alone (engagements/model.py, file.py): it is a file name.
        path = self._folder / f"{engagement_id}.jsonl"
        return self._files.setdefault(engagement_id, Appended(path, limit=MAX_FILE_BYTES, durable=True))


def commitment(salt: bytes, withheld: dict[str, Any]) -> str:
    """SHA-256 over the salt and the canonical JSON of what is withheld, in hex."""
    return sha256(salt + canonical(withheld)).hexdigest()


def check_line(line: Line, event: Event) -> None:
    """MismatchError where the line is not what this event committed to, MalformedError where it commits to nothing."""
    where = f"{line.engagement} {line.event_id}"
    stated = event.context.get(COMMITMENT)
    if not isinstance(stated, str):
        raise MalformedError("this event commits to nothing.", where=where)
    told = (line.event_id, line.action, line.at, line.identity, line.engagement)
    sealed = (event.event_id, event.action, event.occurred_at, event.actor.id, event.context.get("engagement"))
    for name, expected, found in zip(("event_id", "action", "at", "identity", "engagement"), sealed, told, strict=True):
        if expected != found:
            raise MismatchError(f"the line's {name} is not the event's.", where=where, expected=expected, found=found)
    try:
        opened = commitment(bytes.fromhex(line.salt), line.withheld)
    except (ValueError, AuditlibError):
        opened = "nothing that can be hashed"
    if not hmac.compare_digest(opened, stated):
        raise MismatchError(
            "the line is not what the event committed to: it was changed.", where=where, expected=stated, found=opened
        )


def check_reader(identity: str, reader: Engagement, whose: Engagement) -> None:
    """RefusedError unless an admin reads, or an auditor their own."""
    own = reader.role == "auditor" and identity == whose.identity
    if not own and reader.role != "admin":
        raise RefusedError(
            "What auditors searched is read by an administrator, or by themselves.",
            remedy="That they looked, and when, stands in the trail.",
        )
