"""A vault to another place: object by object, verified on both sides, and taken up again where it stopped.

Order of writing: catalogues and trail documents, then every batch before its seal, then checkpoints, then pages, so
that a copy that stopped half way is a vault that was cut, and never one that claims more than it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

import msgspec

from auditlib.errors import MismatchError
from auditlib.findings import Report
from auditlib.formats import layout
from auditlib.formats.keys import VerifierKey
from auditlib.formats.seal import MAX_BATCH_BYTES, MAX_SEAL_BYTES
from auditlib.formats.times import DAY, parse_time
from auditlib.history import History, read_history
from auditlib.vault import ExistsError, Lock, Vault
from auditlib.verify import verify

_MAX_OBJECT_BYTES = max(MAX_BATCH_BYTES, layout.PAGE * (MAX_SEAL_BYTES + 1))  # bytes of the largest object there is


class Copied(msgspec.Struct, frozen=True):
    """What was put, what stood there already, and the verification of the copy against the source's checkpoint."""

    put: int
    there: int
    report: Report


def copy_vault(
    source: Vault,
    target: Vault,
    *,
    keys: Iterable[VerifierKey] = (),
    now: int,
    progress: Callable[[int, int], None] | None = None,
) -> Copied:
    """Copy a trail up to its newest checkpoint, locked in the target as long as the trail promises.

    `keys` are those you trust; `now` is microseconds since 1970 UTC. Raises MismatchError where the source has a fault
    (then nothing is written), or where another object stands in the target.
    """
    trusted = tuple(keys)
    history = read_history(source, trusted, thorough=True)
    if history.errors or history.checkpoint is None:
        raise MismatchError(
            "the source cannot be copied, because it does not verify.",
            where=source.url,
            remedy="Run `auditlib verify` on it.",
            found=history.errors[0].message if history.errors else "no checkpoint",
        )
    objects = list(_objects(history))
    put = 0
    for done, (key, expected, until) in enumerate(objects, 1):
        data = source.get(key, _MAX_OBJECT_BYTES, history.version_of(key))
        if expected and sha256(data).hexdigest() != expected:
            raise MismatchError(
                "the batch is not the one that was sealed (check 5).",
                where=f"{source.url}: {key}",
                expected=expected,
                found=sha256(data).hexdigest(),
            )
        put += _put(target, key, data, _lock(history, until, now))
        if progress:
            progress(done, len(objects))
    anchor = [(f"the newest checkpoint of {source.url}", history.checkpoint)]
    return Copied(put, len(objects) - put, verify(target, keys=trusted, against=anchor, now=now))


def _objects(history: History) -> Iterator[tuple[str, str, int]]:
    """(key, SHA-256 where a seal states it, end of the lock) of every object of the trail, in the order of writing."""
    ends = []
    for entry in history.seals:
        document = history.document_of(entry.seal)
        ends.append(parse_time(entry.seal.sealed_at) + (document.retention.days * DAY if document else 0))
    newest = max(ends, default=0)
    stored = sorted(history.stored)
    before = (layout.CATALOGS, layout.TRAIL, layout.PACKETS)  # no event of a copy tells of a packet that is not there
    yield from ((key, "", newest) for key in stored if key.startswith(before))
    for entry, end in zip(history.seals, ends, strict=True):
        yield entry.seal.batch.object, entry.seal.batch.sha256, end
        yield layout.seal_key(entry.seal.sequence), "", newest
    for kind, prefix in (("checkpoint", layout.CHECKPOINTS), ("page", layout.PAGES)):
        for key in stored:
            number = layout.number_of(kind, key)
            covered = len(history.seals) if kind == "checkpoint" else len(history.seals) // layout.PAGE - 1
            if key.startswith(prefix) and number is not None and number <= covered:
                yield key, "", newest


def _lock(history: History, until: int, now: int) -> Lock | None:
    """The lock that the trail promises, where it has not ended already."""
    return Lock(history.document.retention.mode, until) if history.document and until > now else None


def _put(target: Vault, key: str, data: bytes, lock: Lock | None) -> int:
    try:
        target.put(key, data, lock)
    except ExistsError as error:
        if target.get(key, len(data) + 1) != data:
            raise MismatchError(
                "another object stands in the target; nothing is overwritten.",
                where=error.where,
                remedy="Copy to an empty place, or to one that an earlier copy of this vault began.",
                expected=sha256(data).hexdigest(),
                found="other bytes",
            ) from None
        return 0
    return 1
