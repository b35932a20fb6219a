"""Other systems' logs into the trail: read, check, hand on (see intakes.py), and record the import itself.

Nothing is lost: what cannot become an event goes, verbatim, to the rejects; what is there already is dropped as a
repeat and counted. An import that adds something seals one `audit.import` event: which files, their SHA-256, how much
came of each, who ran it and, where it sealed by itself, whose key signed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import msgspec

from auditlib.announce import own_record
from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical
from auditlib.formats.event import MAX_CONTEXT_BYTES, Actor, Event, Target, event_bytes
from auditlib.sealer import Added
from auditlib.sources import Reject, SourceFile, reader
from auditlib.sources.files import create_rejects

CHUNK = 10_000  # events held before they are handed on
_KEY_BYTES = 512  # kept free in a context for the key's name


class Imported(msgspec.Struct):
    """What an import did."""

    files: list[SourceFile]
    added: Added = Added()
    rejects: int = 0
    first_reject: str = ""


class Intake(Protocol):
    """Where imported events go: straight into the sealer, or to the collector."""

    def take(self, items: Sequence[tuple[str, Event]]) -> tuple[Added, list[tuple[int, str]]]:
        """Keep (source, event) pairs; what became of them, and (place, reason) of those that are refused."""

    def finish(self, outcome: Imported, context: dict[str, Any], who: str) -> None:
        """Record the import itself, if anything came of it."""


def import_files(
    log_format: str,
    paths: list[str],
    intake: Intake,
    *,
    rejects: Path | None,
    who: str,
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Import files and folders of one log format. `rejects` is a new file for what could not be taken.

    Raises MalformedError for an unknown format or a path that is not there; then nothing was written.
    """
    items = reader(log_format)(paths, progress=progress)
    outcome = Imported([])
    check_person(who)  # a name that is none must not stop it midway
    waiting: list[tuple[str, Event]] = []
    with ExitStack() as stack:
        sink = stack.enter_context(_create(rejects)) if rejects else None

        def refuse(reject: Reject) -> None:
            outcome.rejects += 1
            outcome.first_reject = outcome.first_reject or f"{reject.file}: {reject.reason}"
            if sink:
                sink.write(reject.jsonl())

        def hand_over() -> None:
            added, refused = intake.take(waiting)
            outcome.added += added
            for place, reason in refused:
                source, event = waiting[place]
                refuse(Reject.of(source, None, None, reason, event_bytes(event)))
            waiting.clear()

        for item in items:
            if isinstance(item, SourceFile):
                outcome.files.append(item)
            elif isinstance(item, Reject):
                refuse(item)
            else:
                waiting.append(item)
                if len(waiting) >= CHUNK:
                    hand_over()
        hand_over()
    intake.finish(outcome, _context(log_format, outcome), who)
    return outcome


def check_person(who: str) -> None:
    """MalformedError for a name that no actor can have."""
    own_record("audit.import", Actor(who, None, "user"), Target("x", "trail"), {}, 0)


def _context(log_format: str, outcome: Imported) -> dict[str, Any]:
    context: dict[str, Any] = {
        "conflicts": outcome.added.conflicts,
        "events": outcome.added.new,
        "files": [
            {
                "events": file.events,
                "name": file.name,
                "rejects": file.rejects,
                "sha256": file.sha256,
                **({"note": file.note} if file.note else {}),
            }
            for file in outcome.files
        ],
        "format": log_format,
        "rejects": outcome.rejects,
        "repeats": outcome.added.repeats,
    }
    _fit(context)
    return context


def _fit(context: dict[str, Any]) -> None:
    """Past the size of a context, the last files are named only by their number and one hash over the whole list."""
    files = context["files"]
    while len(canonical(context)) > MAX_CONTEXT_BYTES - _KEY_BYTES:
        kept = context["files"][: len(context["files"]) * 9 // 10]
        context |= {
            "files": kept,
            "files_omitted": len(files) - len(kept),
            "files_sha256": sha256(canonical(files)).hexdigest(),
        }


def _create(path: Path) -> BinaryIO:
    if path.exists():
        raise MalformedError(
            "exists already and is not overwritten.", where=str(path), remedy="Choose another --rejects."
        )
    return create_rejects(path)
