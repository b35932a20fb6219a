"""The keeper: what the store holds is deleted only after the same record was read back from the vault, verified.

    store [ 1 | 2 | 3 | 4 | ... ]        vault [ batch 17: its bytes hashed, its root rebuilt ]
            x   x   x                                 records 1, 2, 3

A record that is not in a verified batch byte for byte stays, whatever its age: it was a repeat, a conflict, was
refused, or was never sealed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

import msgspec
import pyarrow as pa

from auditlib.errors import AuditlibError, MismatchError, UnavailableError
from auditlib.formats import merkle
from auditlib.formats.batch import parse_batch
from auditlib.formats.columns import record_at
from auditlib.formats.event import Record, record_bytes
from auditlib.formats.keys import VerifierKey
from auditlib.formats.seal import MAX_BATCH_BYTES, Seal
from auditlib.formats.times import parse_canonical_time
from auditlib.history import History, read_history
from auditlib.store import Entry, Store
from auditlib.vault import Vault

CHUNK = 50_000  # records of the store looked up at once


class Pruned(msgspec.Struct, frozen=True):
    """How many records went, and how many of that age stayed because no verified batch holds them."""

    pruned: int
    kept: int


def prune(
    store: Store,
    vault: Vault,
    keys: Iterable[VerifierKey],
    *,
    before: int,
    progress: Callable[[int, int], None] | None = None,
) -> Pruned:
    """Delete what was recorded before a time (microseconds since 1970 UTC) and stands in the vault, verified.

    `keys` are the verifier keys you trust. Raises MismatchError, and deletes nothing, where the vault has a fault.
    """
    history = read_history(vault, keys, thorough=True)
    if history.errors or history.checkpoint is None:
        raise MismatchError(
            "nothing is pruned, because the vault does not verify.",
            where=vault.url,
            remedy="Run `auditlib verify` on it.",
            found=history.errors[0].message if history.errors else "nothing was sealed",
        )
    total = store.backlog(0).records
    pruned, kept, done, after = 0, 0, 0, 0
    while entries := store.read(after, CHUNK):
        after = entries[-1].position
        old = [entry for entry in entries if entry.recorded_at < before]
        sealed = _sealed(history, old)
        pruned += store.prune(sealed, before)
        kept += len(old) - len(sealed)
        done += len(entries)
        if progress:
            progress(done, total)
    return Pruned(pruned, kept)


def _sealed(history: History, entries: list[Entry]) -> list[int]:
    """The positions of those that stand, byte for byte, in a batch that is what its seal states."""
    valid = [entry for entry in entries if entry.is_record]  # any other stays for whoever looks into it
    wanted = {sha256(record_bytes(entry.record)).digest(): entry.position for entry in valid}
    if not wanted:
        return []
    times = [entry.recorded_at for entry in valid]
    sources = {entry.source for entry in valid}
    found: list[int] = []
    for seal in (entry.seal for entry in history.seals):
        first, last = map(parse_canonical_time, seal.recorded)
        if first <= max(times) and last >= min(times) and not sources.isdisjoint(seal.sources):
            for record in _records(history, seal, sources):
                position = wanted.pop(sha256(record_bytes(record)).digest(), None)
                if position is not None:
                    found.append(position)
    return sorted(found)


def _records(history: History, seal: Seal, sources: set[str]) -> Iterator[Record]:
    """The records of these sources in a batch whose bytes and root are those its seal states; none otherwise."""
    table = _table(history, seal)
    if table is not None:
        for row, source in enumerate(table.column("source").to_pylist()):
            if source in sources:
                yield record_at(table, row)


def _table(history: History, seal: Seal) -> pa.Table | None:
    for version in history.versions_of(seal.batch.object):
        try:
            data = history.vault.get(seal.batch.object, MAX_BATCH_BYTES, version)
            if sha256(data).hexdigest() != seal.batch.sha256:
                continue
            batch = parse_batch(data)
        except AuditlibError as error:
            if type(error) is UnavailableError:
                raise
            continue
        if merkle.root(batch.leaves()).hex() == seal.batch.root:
            return batch.table
    return None
