"""Other systems' logs into the vault: read, check, seal, and seal a record of the import itself.

Nothing is lost: what cannot become an event goes, verbatim, to the rejects; what is there already is dropped as a
repeat and counted. An import that adds something seals one `audit.import` event: which files, their SHA-256, how much
came of each, who ran it and whose key signed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from auditlib.announce import own_record
from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical
from auditlib.formats.event import MAX_CONTEXT_BYTES, Actor, Receipt, Record, Target, event_bytes
from auditlib.formats.keys import VerifierKey
from auditlib.formats.times import format_time
from auditlib.sealer import Added, Sealer
from auditlib.sources import Reject, SourceFile, reader
from auditlib.sources.files import create_rejects

IMPORT_SOURCE = "auditlib:import"  # the source of audit.import events
CHUNK = 10_000  # events held before they are handed to the sealer


class Imported(msgspec.Struct):
    """What an import did."""

    files: list[SourceFile]
    added: Added = Added()
    rejects: int = 0
    first_reject: str = ""


def import_files(
    log_format: str,
    paths: list[str],
    sealer: Sealer,
    *,
    rejects: Path | None,
    who: str,
    key: VerifierKey,
    now: Callable[[], int],
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Import files and folders of one log format. `rejects` is a new file for what could not be taken.

    Raises MalformedError for an unknown format or a path that is not there; then nothing was written.
    """
    items = reader(log_format)(paths, progress=progress)
    outcome = Imported([])
    _import_record(log_format, outcome, who, key, now())  # a name that is none must not stop it midway
    waiting: list[Record] = []
    with ExitStack() as stack:
        sink = stack.enter_context(_create(rejects)) if rejects else None

        def refuse(reject: Reject) -> None:
            outcome.rejects += 1
            outcome.first_reject = outcome.first_reject or f"{reject.file}: {reject.reason}"
            if sink:
                sink.write(reject.jsonl())

        for item in items:
            if isinstance(item, SourceFile):
                outcome.files.append(item)
            elif isinstance(item, Reject):
                refuse(item)
            else:
                source, event = item
                try:
                    sealer.catalog.check(event)
                except MalformedError as error:
                    refuse(Reject.of(source, None, None, str(error), event_bytes(event)))
                    continue
                waiting.append(Record(event, Receipt(format_time(now()), source, None)))
                if len(waiting) >= CHUNK:
                    outcome.added += sealer.add(waiting)
                    waiting = []
    outcome.added += sealer.add(waiting)
    if outcome.added.new or outcome.added.conflicts:
        sealer.flush(closing=_import_record(log_format, outcome, who, key, now()))
    return outcome


def _import_record(log_format: str, outcome: Imported, who: str, key: VerifierKey, now: int) -> Record:
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
        "key": str(key),
        "rejects": outcome.rejects,
        "repeats": outcome.added.repeats,
    }
    _fit(context)
    actor, target = Actor(who, None, "user"), Target(key.name, "trail")
    return own_record("audit.import", actor, target, context, now, source=IMPORT_SOURCE)


def _fit(context: dict[str, Any]) -> None:
    """Past the size of a context, the last files are named only by their number and one hash over the whole list."""
    files = context["files"]
    while len(canonical(context)) > MAX_CONTEXT_BYTES:
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
