"""Other systems' logs -> events: one module a log format (DESIGN 6).

    for item in reader("cloudtrail")(["cloudtrail-lab/"]):
        (source, Event)   ("import:cloudtrail:123837392027", Event(action="iam.attach_role_policy", ...))
        Reject            what could not become an event, why, and its text as found
        SourceFile        after the last item of each file: its name, SHA-256 and counts

A reader never drops anything in silence: each record becomes an event, a reject, or a counted skip. Rejects
are verbatim, credentials included, because only the original bytes let somebody find out what went wrong;
so they go to a file of their own that only its owner can read (`files.create_rejects`), never into the vault.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeAlias

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.event import Event

MAX_REJECT_BYTES = 1024 * 1024  # bytes kept verbatim of one reject; of more, size and SHA-256 alone

Progress: TypeAlias = Callable[[int, int], None]  # (bytes of stored files done, bytes in all), after each file


class Entry(msgspec.Struct, frozen=True):
    """One raw record as found: where it stood (line from 1, index from 0), its text and its value."""

    file: str
    line: int | None
    index: int | None
    raw: bytes
    value: Any


class Reject(msgspec.Struct, frozen=True):
    """What could not become an event. `raw` is the text as found, or empty where `size` is past 1 MiB.

    Without line and index it is the whole file, and size and SHA-256 are those of the file as stored.
    """

    file: str
    line: int | None
    index: int | None
    reason: str
    raw: bytes
    size: int
    sha256: str

    @classmethod
    def of(cls, file: str, line: int | None, index: int | None, reason: str, raw: bytes) -> Reject:
        """A reject of these bytes, kept verbatim up to 1 MiB."""
        kept = raw if len(raw) <= MAX_REJECT_BYTES else b""
        return cls(file, line, index, reason, kept, len(raw), hashlib.sha256(raw).hexdigest())

    def jsonl(self) -> bytes:
        """One line for `--rejects FILE`: `raw` as text, or `raw_base64` where it is not UTF-8."""
        line: dict[str, Any] = {
            "file": self.file,
            "line": self.line,
            "index": self.index,
            "reason": self.reason,
            "bytes": self.size,
            "sha256": self.sha256,
        }
        if len(self.raw) == self.size:
            try:
                line["raw"] = self.raw.decode()
            except UnicodeDecodeError:
                line["raw_base64"] = base64.b64encode(self.raw).decode()
        return msgspec.json.encode(line) + b"\n"


class SourceFile(msgspec.Struct, frozen=True):
    """One file that was met: its name relative to what the user gave, and what came of it.

    `sha256` and `size` are of the bytes as stored (None and 0 where it was not opened); `skipped` counts
    records that are no actions, such as CloudTrail Insights; `note` says why the whole file was not read.
    """

    name: str
    sha256: str | None
    size: int
    events: int = 0
    rejects: int = 0
    skipped: int = 0
    note: str | None = None


Item: TypeAlias = tuple[str, Event] | Reject | SourceFile
Paths: TypeAlias = Iterable[str | os.PathLike[str]]


class Reader(Protocol):
    """What every format offers; bad paths raise MalformedError at the call, before the first item."""

    def __call__(self, paths: Paths, *, progress: Progress | None = None) -> Iterator[Item]:
        """Files and folders -> what they hold, item by item."""


def _cloudtrail(paths: Paths, *, progress: Progress | None = None) -> Iterator[Item]:
    from auditlib.sources import cloudtrail

    return cloudtrail.read(paths, progress=progress)


FORMATS: dict[str, Reader] = {"cloudtrail": _cloudtrail}  # the FORMAT of `auditlib import`, each loaded when used


def reader(name: str) -> Reader:
    """The reader of one format. Raises MalformedError that lists the formats there are."""
    try:
        return FORMATS[name]
    except KeyError:
        raise MalformedError(f"{name!r} is no log format; known are {', '.join(sorted(FORMATS))}.") from None
