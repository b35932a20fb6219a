"""The sealer: an ordered run of records -> batch -> seal -> checkpoint -> page.

The seal is the commit point. What a crash leaves, and what the next run does about it:

    after the batch        an unreferenced object; harmless, reported as information; the records are sealed again
    after the seal         committed: the next run checks its signature and its batch, and signs the checkpoint
    after the checkpoint   sealed; a missing page is written by the next run

Recovery runs the same code as normal work. The sealer never adopts a seal that no key of the trail signed, and never
signs a history that is smaller than, or inconsistent with, the last one it signed.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from auditlib.conflicts import conflict_records
from auditlib.errors import AuditlibError, MalformedError, MismatchError, UnavailableError
from auditlib.findings import Finding
from auditlib.formats import layout, merkle
from auditlib.formats.batch import EncodedBatch, encode_batch, parse_batch
from auditlib.formats.catalog import Catalog
from auditlib.formats.checkpoint import MAX_NOTE_BYTES, Checkpoint, sign_checkpoint
from auditlib.formats.columns import BLIND_BYTES, SCHEMA, event_texts, faults, record_at, table_of
from auditlib.formats.document import (
    DOCUMENT_FORMAT,
    Document,
    Retention,
    check_retention,
    document_bytes,
    document_hash,
)
from auditlib.formats.event import (
    RECORD_SCHEMA,
    Event,
    Record,
    event_bytes,
)
from auditlib.formats.keys import SigningKey
from auditlib.formats.seal import (
    MAX_BATCH_BYTES,
    MAX_BATCH_EVENTS,
    NO_PREVIOUS,
    SEAL_FORMAT,
    Seal,
    seal_bytes,
    seal_hash,
    sign_seal,
)
from auditlib.formats.times import DAY, format_time
from auditlib.history import History, SealedBytes, fitting_checkpoint, fitting_seal, read_history
from auditlib.ids import IdIndex, pairs
from auditlib.state import SealerState
from auditlib.vault import ExistsError, Lock, Vault, Versioned

DEFAULT_MAX_EVENTS = 50_000  # events a batch
MAX_SOURCES = 1000  # distinct sources a batch, so that its seal stays below 256 KiB (DESIGN 4.4)
MAX_TABLE_BYTES = 256 * 1024 * 1024  # bytes of columns a batch, so that its file stays below 512 MiB (DESIGN 4.3)

_EVENT_COLUMNS = [name for name in SCHEMA.names if name not in ("recorded_at", "source", "source_seq")]


class Added(msgspec.Struct, frozen=True):
    """What became of some records: newly taken, dropped as exact repeats, refused as conflicts."""

    new: int = 0
    repeats: int = 0
    conflicts: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(self.new + other.new, self.repeats + other.repeats, self.conflicts + other.conflicts)


def create_trail(vault: Vault, key: SigningKey, retention: Retention, catalog: Catalog, *, now: int) -> Document:
    """Lay down a new trail: the catalogue and trail document 0, locked from `now` (microseconds since 1970 UTC) on.

    Doing it again with the same values changes nothing.
    """
    document = Document(
        catalog=catalog.sha256,
        format=DOCUMENT_FORMAT,
        keys=(str(key.verifier),),
        n=0,
        origin=key.name,
        previous=NO_PREVIOUS,
        retention=check_retention(retention),
        schema=RECORD_SCHEMA,
    )
    lock = Lock(retention.mode, now + retention.days * DAY)
    _put_same(vault, layout.catalog_key(catalog.sha256), catalog.data, lock)
    _put_same(vault, layout.trail_key(0), document_bytes(document), lock)
    return document


@contextmanager
def open_sealer(vault: Vault, key: SigningKey, state: SealerState, **options: Any) -> Iterator[Sealer]:
    """The one sealer at work on this vault: takes the lock of its memory; see `sealer_at_work` for the rest."""
    with state.lock(), sealer_at_work(vault, key, state, **options) as sealer:
        yield sealer


@contextmanager
def sealer_at_work(
    vault: Vault,
    key: SigningKey,
    state: SealerState,
    *,
    now: Callable[[], int],
    random: Callable[[int], bytes] = secrets.token_bytes,
    max_events: int = DEFAULT_MAX_EVENTS,
    amending: Sequence[SigningKey] | None = None,
) -> Iterator[Sealer]:
    """A sealer under a lock that the caller holds: checks the history, finishes what a crash left.

    `now` gives microseconds since 1970 UTC. `amending`, for `Sealer.amend`, are the keys that come into force. Raises
    MismatchError, and writes nothing, where the history has any fault or is not an extension of the last checkpoint
    this sealer signed.
    """
    sealer = Sealer(vault, key, state, now=now, random=random, max_events=max_events, amending=amending)
    try:
        yield sealer
    finally:
        sealer.close()


class Sealer:
    """See `open_sealer`, which makes one. `add` takes records and seals full batches; `flush` seals the rest."""

    def __init__(
        self,
        vault: Vault,
        key: SigningKey,
        state: SealerState,
        *,
        now: Callable[[], int],
        random: Callable[[int], bytes],
        max_events: int,
        amending: Sequence[SigningKey] | None,
    ) -> None:
        self._vault, self._key, self._state = vault, key, state
        self._amending = amending
        self._now, self._random, self._max_events = now, random, max_events
        if not 1 <= max_events <= MAX_BATCH_EVENTS:
            raise MalformedError(f"{max_events:,} events a batch is outside 1 to {MAX_BATCH_EVENTS:,}.")
        self._tree = merkle.Frontier()
        self._waiting: pa.Table = SCHEMA.empty_table()
        self._waiting_rows: dict[tuple[str, str], int] = {}
        self._next_cosigners: tuple[SigningKey, ...] = ()
        history = self._checked_history()
        self.document = self._in_force(history)
        self._signers = (key.verifier, *self.document.verifiers)  # whose seals and checkpoints are not planted
        self._unfinished = False
        self.catalog = self._catalog_in_force(history)
        self._sealed = history.seals  # under the checkpoint that was there
        self._fresh = list(history.beyond)  # and those after
        for leaf in [*history.seals.leaves, *(merkle.leaf_hash(entry.data) for entry in history.beyond)]:
            self._tree.append(leaf)
        self._ids = IdIndex(self._state.ids)
        try:
            self._index_batches()
            if history.beyond:
                self._sign(self._cosigners(history))
            self._write_pages(history)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """How many seals the trail has."""
        return self._tree.size

    def close(self) -> None:
        """Let go of the index. Records added and not flushed are not sealed."""
        self._ids.close()

    def add(self, records: Sequence[Record]) -> Added:
        """Take records in the order they were recorded: repeats are dropped, conflicts become `audit.conflict`.

        A batch is sealed whenever more than a batch is waiting. Raises MalformedError, and takes none of them, where
        one is invalid under the catalogue in force.
        """
        table = table_of(records)
        for row, message in faults(table, self.catalog):
            raise MalformedError(message, where=f"record {row + 1} ({records[row].event.event_id})")
        return self._take(table)

    def take(self, table: pa.Table) -> tuple[Added, dict[int, str]]:
        """Like `add`, for a table of SCHEMA with any rows: (what became of the valid ones, each other row's fault).

        A row whose very event is sealed already, or waits, is a repeat, whatever the catalogue in force says of it now.
        """
        wrong = dict(faults(table, self.catalog))
        if not wrong:
            return self._take(table), {}
        held = self._held(table.take(pa.array(list(wrong), pa.int64())))
        left = {row: fault for (row, fault), known in zip(wrong.items(), held, strict=True) if not known}
        fit = pa.array([row not in wrong for row in range(table.num_rows)], pa.bool_())
        return self._take(table.filter(fit)) + Added(repeats=sum(held)), left

    def _take(self, table: pa.Table) -> Added:
        """Rows that `faults` has nothing against."""
        if not table.num_rows:
            return Added()
        fresh, added, conflicts = self._sift(table)
        self._wait(fresh)
        for first, second in conflicts:
            fresh_one = self._record_conflict(first, second)
            added += Added(conflicts=1) if fresh_one else Added(repeats=1)
        while self._waiting.num_rows > self._max_events:
            self._seal_waiting(self._max_events)
        return added

    def flush(self, closing: Record | None = None) -> None:
        """Seal everything that waits; a `closing` record goes into the same batch as the last of it.

        Raises MalformedError, and seals nothing, where the closing record is invalid or its id is taken.
        """
        most = self._max_events
        if closing is not None:
            table, where = table_of([closing]), f"closing record ({closing.event.event_id})"
            for _, message in faults(table, self.catalog):
                raise MalformedError(message, where=where)
            if self._sift(table)[1] != Added(new=1):
                raise MalformedError("an event of this id was recorded before.", where=where)
            self._wait(table)
            most = min(most + 1, MAX_BATCH_EVENTS)
        while self._waiting.num_rows:
            self._seal_waiting(most)

    def amend(self, document: Document, closing: Record, catalog: Catalog | None = None) -> None:
        """Put trail document n+1 in force: the batch that ends with the `closing` record is the first to name it.

        Keys that it names anew sign the checkpoint over that batch too; they are those that the sealer was opened with
        (`amending`). A crash on the way is finished by the same call again. Raises MalformedError, and writes nothing,
        where the document does not follow the one in force.
        """
        if document.n != self.document.n + 1 or document.previous != self._document_hash:
            raise MalformedError(
                "the trail document does not follow the one in force.", where=layout.trail_key(document.n)
            )
        if self._amending is None or {str(key.verifier) for key in self._amending} != _new_keys(
            self.document, document
        ):
            raise MalformedError("every key that comes into force signs too.", where=layout.trail_key(document.n))
        self.flush()
        if catalog is not None:
            self._put(layout.catalog_key(catalog.sha256), catalog.data)
        self._put(layout.trail_key(document.n), document_bytes(document))
        self.document, self.catalog = document, catalog or self.catalog
        self._signers += document.verifiers
        self._next_cosigners = tuple(self._amending)
        self.flush(closing)

    # --- opening ---------------------------------------------------------------------------------------------

    def _checked_history(self) -> History:
        history = read_history(self._vault, [self._key.verifier])
        if not history.documents:
            raise MalformedError(
                "this vault holds no trail yet.",
                where=self._vault.url,
                remedy="Make one with `auditlib init`.",
            )
        if history.origin != self._key.name:
            raise MalformedError(
                f"the key is of {self._key.name}, the trail of {history.origin}.", where=self._vault.url
            )
        current = self._in_force(history)
        if self._key.verifier not in {
            key for document in (current, *self._before(history)) for key in document.verifiers
        }:
            raise MalformedError(
                f"the trail does not name the key {self._key.verifier}, or it was retired.", where=self._vault.url
            )
        for document in history.documents:
            if document.n > current.n and self._amending is None:
                history.add(
                    4,
                    layout.trail_key(document.n),
                    "no seal names this trail document: a change of keys or catalogue was not finished (run that "
                    "command again), or it was planted here.",
                )
        for number, entry in enumerate(history.beyond, len(history.seals)):
            self._check_own(history, entry, number)
        self._check_memory(history)
        if history.errors:
            worst = history.errors[0]
            raise MismatchError(
                f"the sealer refuses to go on: {worst.message} ({len(history.errors)} fault(s) in all)",
                where=f"{self._vault.url}: {worst.object}",
                remedy="Nothing was written. Run `auditlib verify` and keep the vault as it is.",
                expected=worst.expected,
                found=worst.found,
            )
        return history

    def _in_force(self, history: History) -> Document:
        """The trail document that the last seal names, signed over or not; before any seal the first."""
        found = history.document or history.documents[0]
        for entry in history.beyond[-1:]:
            found = history.document_of(entry.seal) or found
        return found

    def _before(self, history: History) -> Sequence[Document]:
        """The document before the one in force, where a last seal without a checkpoint put that in force."""
        below = history.document_of(history.seals[-1].seal) if history.seals and history.beyond else None
        return [below] if below else []

    def _cosigners(self, history: History) -> Sequence[SigningKey]:
        """Who must sign the checkpoint that a crash kept from being written, besides this key."""
        wanted = {name for before in self._before(history) for name in _new_keys(before, self.document)}
        wanted -= {str(self._key.verifier)}
        keys = {str(key.verifier): key for key in self._amending or ()}
        if not wanted <= set(keys):
            raise MismatchError(
                "a change of keys was not finished: the checkpoint over it needs the signatures of both keys.",
                where=self._vault.url,
                remedy="Nothing was written. Run `auditlib key rotate` again, with the same keys.",
                expected=", ".join(sorted(wanted)),
                found=str(self._key.verifier),
            )
        return [keys[name] for name in sorted(wanted)]

    def _check_own(self, history: History, entry: SealedBytes, number: int) -> None:
        """A seal past the checkpoint is adopted only if it goes on where the chain ends and its batch fits."""
        key, seal = layout.seal_key(number), entry.seal
        before, under = history.beyond[: number - len(history.seals)], len(history.seals)
        previous = seal_hash(before[-1].data) if before else history.seals.hash_of(under - 1) if under else NO_PREVIOUS
        if seal.sequence != number or seal.previous != previous:
            history.add(3, key, "the seal past the checkpoint does not continue the chain.", previous, seal.previous)
            return
        try:
            data = self._vault.get(seal.batch.object, MAX_BATCH_BYTES)
            root = merkle.root(parse_batch(data).leaves()).hex()
        except AuditlibError as error:
            history.add_error(5, seal.batch.object, error)
            return
        if hashlib.sha256(data).hexdigest() != seal.batch.sha256 or root != seal.batch.root:
            history.add(5, seal.batch.object, "the batch is not the one its seal describes.", seal.batch.sha256)

    def _check_memory(self, history: History) -> None:
        last = self._state.last()
        if last is None or (history.checkpoint and len(history.seals) != history.checkpoint.size):
            return  # nothing to compare with; seals that are missing are faults already
        leaves = [*history.seals.leaves, *(merkle.leaf_hash(entry.data) for entry in history.beyond)]
        if last.size > len(leaves) or merkle.root(leaves[: last.size]) != last.root:
            history.findings.insert(0, _memory_finding(last, len(leaves)))

    def _catalog_in_force(self, history: History) -> Catalog:
        catalog = history.catalogs.get(self.document.catalog)
        if catalog is None:
            raise MismatchError("the catalogue in force cannot be read.", where=self._vault.url)
        return catalog

    def _write_pages(self, history: History) -> None:
        for page in range(self.size // layout.PAGE):
            if layout.page_key(page) not in history.listing:
                self._write_page(page)

    def _index_batches(self) -> None:
        covered = self._ids.covered()
        if any(number >= self.size or self._hash_of(number) != seal for number, seal in covered.items()):
            self._ids.clear()
            covered = {}
        for number in range(self.size):
            if number not in covered:
                self._ids.add(number, self._hash_of(number), self._batch_table(number))

    def _entry(self, number: int) -> SealedBytes:
        under = len(self._sealed)
        return self._sealed[number] if number < under else self._fresh[number - under]

    def _hash_of(self, number: int) -> str:
        under = len(self._sealed)
        return self._sealed.hash_of(number) if number < under else seal_hash(self._fresh[number - under].data)

    def _batch_table(self, number: int) -> pa.Table:
        batch = self._entry(number).seal.batch
        data = self._vault.get(batch.object, MAX_BATCH_BYTES)
        found = hashlib.sha256(data).hexdigest()
        if found != batch.sha256:
            raise MismatchError(
                "the batch is not the one that was sealed.",
                where=batch.object,
                expected=batch.sha256,
                found=found,
            )
        return parse_batch(data).table

    # --- repeats and conflicts -------------------------------------------------------------------------------

    def _sift(self, table: pa.Table) -> tuple[pa.Table, Added, list[tuple[Event, Record]]]:
        """(rows that are new, counts, conflicts as (event that stands, record that was refused))."""
        standing = self._standing(table)
        keep: list[int] = []
        seen: dict[tuple[str, str], int] = {}
        conflicts: list[tuple[Event, Record]] = []
        repeats = 0
        for row, pair in enumerate(pairs(table)):
            first = standing.get(pair)
            if first is None and pair in seen:
                first = record_at(table, seen[pair]).event
            if first is None:
                seen[pair] = row
                keep.append(row)
                continue
            second = record_at(table, row)
            if event_bytes(first) == event_bytes(second.event):
                repeats += 1
            else:
                conflicts.append((first, second))
        fresh = table if len(keep) == table.num_rows else table.take(pa.array(keep, pa.int64()))
        return fresh, Added(len(keep), repeats), conflicts

    def _standing(self, table: pa.Table) -> dict[tuple[str, str], Event]:
        """The events already sealed, or waiting, under an id that stands in `table`."""
        found: dict[tuple[str, str], Event] = {}
        wanted = list(pairs(table))
        for number, rows in self._ids.candidates(table).items():
            sealed = self._batch_table(number)
            places = {pair: place for place, pair in enumerate(pairs(sealed))}
            for pair in (wanted[row] for row in rows):
                if pair in places:
                    found[pair] = record_at(sealed, places[pair]).event
        for pair in wanted:
            if pair in self._waiting_rows:
                found.setdefault(pair, record_at(self._waiting, self._waiting_rows[pair]).event)
        return found

    def _held(self, table: pa.Table) -> list[bool]:
        """Of each row, whether the very same event is sealed already, or waits, under its id."""
        standing = self._standing(table)
        return [
            pair in standing and event_bytes(standing[pair]) == text
            for pair, text in zip(pairs(table), event_texts(table).to_pylist(), strict=True)
        ]

    def _record_conflict(self, first: Event, second: Record) -> bool:
        """Add what tells of a conflict; False where the same one was recorded before."""
        table = table_of(conflict_records(first, second, self._now()))
        if self._standing(table):
            return False
        self._wait(table)
        return True

    def _wait(self, table: pa.Table) -> None:
        for row, pair in enumerate(pairs(table), self._waiting.num_rows):
            self._waiting_rows[pair] = row
        self._waiting = pa.concat_tables([self._waiting, table]).combine_chunks()

    # --- sealing ---------------------------------------------------------------------------------------------

    def _seal_waiting(self, most: int) -> None:
        if self._unfinished:
            raise UnavailableError(
                "sealing failed half way, and this sealer does not know how far it came.",
                where=self._vault.url,
                remedy="Open it again: what was committed is finished then.",
            )
        self._unfinished = True
        rows = _rows_that_fit(self._waiting, most)
        table = self._waiting.slice(0, rows).combine_chunks()
        self._seal(table)
        self._waiting = self._waiting.slice(rows).combine_chunks()
        self._waiting_rows = {pair: row for row, pair in enumerate(pairs(self._waiting))}
        self._unfinished = False

    def _seal(self, table: pa.Table) -> None:
        number = self.size
        encoded = encode_batch(table, number, self._random(BLIND_BYTES))
        seal = sign_seal(self._describe(encoded, number), self._key)
        data = seal_bytes(seal)
        self._put(encoded.batch.object, encoded.data)
        fits = partial(fitting_seal, keys=self._signers, sequence=number, previous=seal.previous)
        self._put(layout.seal_key(number), data, fits)  # the commit point
        self._tree.append(merkle.leaf_hash(data))
        self._fresh.append(SealedBytes(seal, data))
        cosigners, self._next_cosigners = self._next_cosigners, ()
        self._sign(cosigners)
        self._ids.add(number, seal_hash(data), table)
        if self.size % layout.PAGE == 0:
            self._write_page(number // layout.PAGE)

    def _describe(self, encoded: EncodedBatch, number: int) -> Seal:
        return Seal(
            batch=encoded.batch,
            counts=encoded.counts,
            format=SEAL_FORMAT,
            occurred=encoded.occurred,
            origin=self._key.name,
            previous=self._hash_of(number - 1) if number else NO_PREVIOUS,
            recorded=encoded.recorded,
            schema=RECORD_SCHEMA,
            sealed_at=format_time(self._now()),
            sequence=number,
            signature="",
            sources=encoded.sources,
            trail=self._document_hash,
        )

    @property
    def _document_hash(self) -> str:
        return document_hash(document_bytes(self.document))

    def _sign(self, cosigners: Sequence[SigningKey]) -> None:
        """Sign the checkpoint over all seals: remembered first, then put, then read back."""
        note = sign_checkpoint(self._key.name, self.size, self._tree.root(), [self._key, *cosigners])
        self._state.remember(note)
        key = layout.checkpoint_key(self.size)
        fits = partial(fitting_checkpoint, keys=self._signers, size=self.size)
        self._put(key, note, fits)
        if _stored(self._vault, key, MAX_NOTE_BYTES, fits) != note:
            raise MismatchError("another checkpoint was read back than was put.", where=f"{self._vault.url}: {key}")

    def _write_page(self, page: int) -> None:
        numbers = range(page * layout.PAGE, (page + 1) * layout.PAGE)
        data = b"".join(self._entry(number).data + b"\n" for number in numbers)
        with suppress(ExistsError):  # a cache: where it is not the seals, readers turn to these
            self._vault.put(layout.page_key(page), data, self._lock())

    def _put(self, key: str, data: bytes, fits: Callable[[bytes], Any] | None = None) -> None:
        """Under the lock that the trail document in force promises."""
        _put_same(self._vault, key, data, self._lock(), fits)

    def _lock(self) -> Lock:
        retention = self.document.retention
        return Lock(retention.mode, self._now() + retention.days * DAY)


def _put_same(vault: Vault, key: str, data: bytes, lock: Lock, fits: Callable[[bytes], Any] | None = None) -> None:
    """Put, or find the very same bytes there already; anything else there is somebody else's.

    Where storage keeps versions, those that do not fit were planted by somebody without the key, and are passed by.
    """
    try:
        if fits and isinstance(vault, Versioned):
            vault.put_past(key, data, lock, fits)
        else:
            vault.put(key, data, lock)
    except ExistsError as error:
        if _stored(vault, key, len(data) + 1, fits) != data:
            raise MismatchError(
                "another object stands where the sealer must write; it was planted, or a second sealer is at work.",
                where=error.where,
                remedy="Nothing was overwritten. Run `auditlib verify` before sealing again.",
                expected=hashlib.sha256(data).hexdigest(),
                found="other bytes",
            ) from None


def _new_keys(before: Document, after: Document) -> set[str]:
    return set(after.keys) - set(before.keys)


def _stored(vault: Vault, key: str, limit: int, fits: Callable[[bytes], Any] | None) -> bytes:
    """What readers will find there; nothing where it is too large to be what was put."""
    with suppress(MismatchError):
        return vault.get_past(key, limit, fits) if fits and isinstance(vault, Versioned) else vault.get(key, limit)
    return b""


def _memory_finding(last: Checkpoint, size: int) -> Finding:
    return Finding(
        1,
        "error",
        layout.checkpoint_key(last.size),
        f"this sealer last signed a checkpoint over {last.size} seals, and the vault's {size} do not extend it: "
        "it was rolled back, rewritten, or is another vault.",
        last.root.hex(),
        f"{size} seals",
    )


def _rows_that_fit(table: pa.Table, most: int) -> int:
    """How many rows, from the first, make one batch within every limit."""
    rows: int = min(most, table.num_rows)
    sources = pc.index_in(table.column("source"), pc.unique(table.column("source")))
    if pc.max(sources).as_py() >= MAX_SOURCES:
        rows = min(rows, int(pc.index(sources, MAX_SOURCES).as_py()))
    while rows > 1 and table.slice(0, rows).nbytes > MAX_TABLE_BYTES:
        rows //= 2
    return rows
