"""What a vault says of itself, read with distrust: trail documents, checkpoints, seals (checks 0 to 4).

Reading never stops at the first fault: every one becomes a finding, and what could be read stands beside them.
The sealer, verification and the trail all start here; none of them believes more than this module has checked.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import msgspec

from auditlib.errors import AuditlibError, MalformedError, MismatchError, MissingError, UnavailableError
from auditlib.findings import Finding, Severity
from auditlib.formats import layout, merkle
from auditlib.formats.catalog import MAX_CATALOG_BYTES, Catalog, parse_catalog
from auditlib.formats.checkpoint import MAX_NOTE_BYTES, Checkpoint, parse_checkpoint
from auditlib.formats.document import MAX_DOCUMENT_BYTES, Document, document_hash, parse_document
from auditlib.formats.keys import VerifierKey
from auditlib.formats.seal import MAX_SEAL_BYTES, NO_PREVIOUS, Seal, check_signature, parse_seal, seal_hash
from auditlib.vault import Stored, Vault, Versioned, is_remote

T = TypeVar("T")
CONNECTIONS = 16  # objects read at once over the network
_AHEAD = 2 * CONNECTIONS  # objects read, or being read, before they are judged; bounds what waits in memory


class SealedBytes(msgspec.Struct, frozen=True):
    """A seal as read: its object, its exact bytes (the leaf of the checkpoint's tree)."""

    seal: Seal
    data: bytes


class History(msgspec.Struct):
    """A vault's own account, and every fault found in it."""

    vault: Vault
    given: tuple[VerifierKey, ...] = ()  # the keys the user brought along
    trusted: tuple[VerifierKey, ...] = ()  # given, and introduced by those; without any given, the vault's own
    introduced: dict[VerifierKey, int] = msgspec.field(default_factory=dict)  # key: the checkpoint that introduced it
    documents: list[Document] = msgspec.field(default_factory=list)
    document_hashes: list[str] = msgspec.field(default_factory=list)
    catalogs: dict[str, Catalog] = msgspec.field(default_factory=dict)
    checkpoint: Checkpoint | None = None
    checkpoint_data: bytes = b""
    checkpoints: list[tuple[str, Checkpoint]] = msgspec.field(default_factory=list)  # those read, greatest first
    seals: list[SealedBytes] = msgspec.field(default_factory=list)  # under the checkpoint, in order
    beyond: list[SealedBytes] = msgspec.field(default_factory=list)  # validly signed, past the checkpoint
    stored: dict[str, Stored] = msgspec.field(default_factory=dict)  # the oldest version of each object
    shadows: list[Stored] = msgspec.field(default_factory=list)  # newer versions, and delete markers
    read_versions: dict[str, str] = msgspec.field(default_factory=dict)  # where it was not the oldest that fitted
    findings: list[Finding] = msgspec.field(default_factory=list)
    ahead: dict[str, Future[bytes]] = msgspec.field(default_factory=dict)  # oldest versions that are being read

    @property
    def origin(self) -> str:
        """The trail's name, as the checkpoint or the first document says."""
        if self.checkpoint:
            return self.checkpoint.origin
        return self.documents[0].origin if self.documents else ""

    @property
    def key_confirmed(self) -> bool:
        """Whether the checkpoint taken (without one: the trail) stands on a key that came from outside."""
        return bool(self.given) and (
            self.checkpoint is None or any(key in self.given for key in self.checkpoint.signers)
        )

    @property
    def errors(self) -> list[Finding]:
        """The findings that say the evidence is wrong."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def document(self) -> Document | None:
        """The trail document in force for the next seal: the one the last seal names, else the first (DESIGN 4.6)."""
        if self.seals or self.beyond:
            return self.document_of([*self.seals[-1:], *self.beyond[-1:]][-1].seal)
        return self.documents[0] if self.documents else None

    @property
    def leaves(self) -> list[bytes]:
        """The leaf hashes of the checkpoint's tree."""
        return [merkle.leaf_hash(entry.data) for entry in self.seals]

    def document_of(self, seal: Seal) -> Document | None:
        """The trail document in force for a seal."""
        if seal.trail not in self.document_hashes:
            return None
        return self.documents[self.document_hashes.index(seal.trail)]

    def catalog_of(self, seal: Seal) -> Catalog | None:
        """The catalogue in force for a seal."""
        document = self.document_of(seal)
        return self.catalogs.get(document.catalog) if document else None

    @property
    def catalog(self) -> Catalog | None:
        """The catalogue in force at the checkpoint: that of the last seal, or of the last document while none is."""
        if self.seals:
            return self.catalog_of(self.seals[-1].seal)
        return self.catalogs.get(self.documents[-1].catalog) if self.documents else None

    def version_of(self, key: str) -> str:
        """The version of an object that was read, or is to be: the oldest, unless only a newer one fitted."""
        return self.read_versions.get(key, self.stored[key].version if key in self.stored else "")

    def versions_of(self, key: str) -> list[str]:
        """Every version of an object, the oldest first; one that is not listed has the version ''."""
        newer = [stored.version for stored in self.shadows if stored.key == key and not stored.marker]
        return [self.stored[key].version if key in self.stored else "", *newer]

    def read(self, key: str, limit: int, fits: Callable[[bytes], T]) -> T:
        """What `fits` makes of the oldest version of an object that it takes; else the first version's error.

        Nothing is ever overwritten, so that a newer version is somebody's shadow over the one that was sealed.
        """
        failed: AuditlibError | None = None
        for version in self.versions_of(key):
            try:
                early = self.ahead.pop(key, None)  # of the first version here, the oldest
                found = fits(early.result() if early else self.vault.get(key, limit, version))
            except AuditlibError as error:
                if isinstance(error, UnavailableError) and type(error) is UnavailableError:
                    raise
                failed = failed or error
                continue
            if failed:
                self.read_versions[key] = version
            return found
        raise failed or MismatchError("no version of the object fits.", where=key)

    def reading_ahead(self, numbers: Iterable[int], key_of: Callable[[int], str], limit: int) -> Iterator[int]:
        """The same numbers in the same order, while the objects that come next are read; `read` takes them from there.

        Over the network alone: from a disk each is there sooner than a thread.
        """
        if not is_remote(self.vault):
            yield from numbers
            return
        waiting: deque[int] = deque()
        pool = ThreadPoolExecutor(CONNECTIONS)
        try:
            for number in numbers:
                key = key_of(number)
                self.ahead[key] = pool.submit(self.vault.get, key, limit, self.versions_of(key)[0])
                waiting.append(number)
                if len(waiting) > _AHEAD:
                    yield waiting.popleft()
            yield from waiting
        finally:
            pool.shutdown(cancel_futures=True)
            self.ahead.clear()

    def add(
        self,
        check: int,
        where: str,
        message: str,
        expected: Any = "",
        found: Any = "",
        severity: Severity = "error",
    ) -> None:
        """Note one finding."""
        self.findings.append(Finding(check, severity, where, message, str(expected)[:400], str(found)[:400]))

    @property
    def planted(self) -> Severity:
        """How grave it is that somebody without the key put an object where the trail has not come to yet.

        Where storage keeps versions the sealer writes its own beside it; elsewhere it stands in the way.
        """
        return "warning" if isinstance(self.vault, Versioned) else "error"

    def add_error(self, check: int, where: str, error: AuditlibError, severity: Severity = "error") -> None:
        """Note an error as a finding; unavailable storage is no finding and goes on up."""
        if isinstance(error, UnavailableError) and type(error) is UnavailableError:
            raise error
        message = f"{error.where}: {error.message}" if error.where and where not in error.where else error.message
        expected, found = getattr(error, "expected", None) or "", getattr(error, "found", None) or ""
        self.add(check, where, message, expected, found, severity)


def read_history(
    vault: Vault, keys: Iterable[VerifierKey] = (), *, at: int | None = None, thorough: bool = False
) -> History:
    """Read documents, checkpoints and seals up to the newest trusted checkpoint (or the one of size `at`).

    `keys` are those the user trusts; without any, the vault's own are used and stay unconfirmed. `thorough` reads
    every checkpoint and every seal object, and not the pages that stand in for them.
    """
    history = History(vault)
    for entry in vault.list():
        if entry.marker or entry.key in history.stored:
            history.shadows.append(entry)
        else:
            history.stored[entry.key] = entry
    _read_documents(history)
    history.given = tuple(keys)
    history.trusted = history.given or _own_keys(history)
    if history.given:
        _introduce(history)
    _read_checkpoints(history, at, thorough)
    paged = {} if thorough else _read_pages(history)
    before = len(history.findings)
    _read_seals(history, at, paged)
    _check_root(history)
    if paged and any(finding.severity == "error" for finding in history.findings[before:]):
        # A page is believed only where it leads to the root: where it does not, the seals themselves decide.
        del history.findings[before:], history.seals[:], history.beyond[:]
        _read_seals(history, at, {})
        _check_root(history)
        _report_pages(history, paged)
    _check_documents(history)
    _check_signers(history)
    return history


def check_extends(history: History, older: Checkpoint, where: str) -> None:
    """Check 1: that an older checkpoint's tree is a prefix of this one."""
    if older.origin != history.origin:
        history.add(1, where, "this checkpoint is of another trail.", history.origin, older.origin)
    elif history.checkpoint is None or older.size > history.checkpoint.size:
        size = history.checkpoint.size if history.checkpoint else 0
        history.add(
            1,
            where,
            f"the trail was rolled back: this checkpoint covers {older.size} seals, the vault's newest only {size}.",
            f"at least {older.size} seals",
            size,
        )
    elif len(history.seals) != history.checkpoint.size:
        history.add(
            1,
            where,
            "the trail cannot be held against this checkpoint, because seals are missing or unreadable.",
            older.root.hex(),
            f"{len(history.seals)} of {history.checkpoint.size} seals",
        )
    else:
        found = merkle.root(history.leaves[: older.size]) if older.size else merkle.EMPTY_ROOT
        if found != older.root:
            history.add(
                1,
                where,
                f"the first {older.size} seals are not those this checkpoint was signed over: history was rewritten.",
                older.root.hex(),
                found.hex(),
            )


def _read_documents(history: History) -> None:
    previous = NO_PREVIOUS
    numbers = _numbers(history, "trail")
    for first, last in _missing(numbers, max(1, len(numbers) and numbers[-1] + 1)):
        named = f"trail documents {first} to {last} are" if last > first else f"trail document {first} is"
        history.add(4, layout.trail_key(first), f"{named} missing.", "the document", "no object")
    for n in numbers:
        key = layout.trail_key(n)
        try:
            data, document = history.read(key, MAX_DOCUMENT_BYTES, lambda data: (data, parse_document(data)))
        except AuditlibError as error:
            history.add_error(4, key, error)
            continue
        if document.n != n:
            history.add(4, key, "the trail document states another number.", n, document.n)
        if document.previous != previous:
            history.add(4, key, "the trail document does not follow the one before.", previous, document.previous)
        if history.documents and document.origin != history.documents[0].origin:
            history.add(4, key, "the origin changed.", history.documents[0].origin, document.origin)
        previous = document_hash(data)
        history.documents.append(document)
        history.document_hashes.append(previous)
        _read_catalog(history, document)


def _own_keys(history: History) -> tuple[VerifierKey, ...]:
    return tuple({key: None for document in history.documents for key in document.verifiers})


def _introduce(history: History) -> None:
    """Keys that a trusted one vouched for: a change of documents whose checkpoint both signed (DESIGN 4.6).

    Such a key is told as introduced and not as confirmed: who stole the one could have brought in the other. A key
    that a later document names no more is not led back in.
    """
    trusted, current = list(history.trusted), None
    for earlier, later in pairwise(history.documents):
        keys = dict.fromkeys((*earlier.verifiers, *later.verifiers))
        size = _first_under(history, later.n) + 1
        with suppress(MalformedError, MismatchError, MissingError):  # then nobody was introduced
            _, note = history.read(
                layout.checkpoint_key(size), MAX_NOTE_BYTES, partial(fitting_checkpoint, keys=tuple(keys), size=size)
            )
            if any(key in trusted for key in note.signers):
                current = later
                new = [key for key in note.signers if key not in trusted]
                history.introduced.update(dict.fromkeys(new, size))
                trusted += new
    if current:
        history.introduced = {k: size for k, size in history.introduced.items() if k in current.verifiers}
        history.trusted += tuple(history.introduced)


def _first_under(history: History, n: int) -> int:
    """The first seal that names trail document n or a later one, in O(log n) reads; else the number of seals."""
    numbers = {digest: number for number, digest in enumerate(history.document_hashes)}

    def reached(sequence: int) -> bool:
        with suppress(MalformedError, MismatchError, MissingError):
            seal = history.read(layout.seal_key(sequence), MAX_SEAL_BYTES, parse_seal)
            return numbers.get(seal.trail, -1) >= n
        return False

    return bisect_left(range(max(_numbers(history, "seal"), default=-1) + 1), True, key=reached)


def _numbers(history: History, kind: str) -> list[int]:
    return sorted(n for key in history.stored if (n := layout.number_of(kind, key)) is not None)


def _missing(present: list[int], size: int) -> list[tuple[int, int]]:
    """The runs [first, last] of 0 to size - 1 that are not among the sorted `present`."""
    edges = [-1, *present, size]
    return [(low + 1, high - 1) for low, high in pairwise(edges) if high > low + 1]


def _read_catalog(history: History, document: Document) -> None:
    if document.catalog in history.catalogs:
        return
    key = layout.catalog_key(document.catalog)
    try:
        # rules that nobody sealed are applied to nothing
        history.catalogs[document.catalog] = history.read(
            key, MAX_CATALOG_BYTES, lambda data: _named_catalog(data, document.catalog)
        )
    except AuditlibError as error:
        history.add_error(4, key, error)


def _named_catalog(data: bytes, sha256: str) -> Catalog:
    catalog = parse_catalog(data)
    if catalog.sha256 != sha256:
        message = "the catalogue is not the one the trail document names."
        raise MismatchError(message, expected=sha256, found=catalog.sha256)
    return catalog


def _read_checkpoints(history: History, at: int | None, thorough: bool) -> None:
    """Keep the validly signed checkpoints, greatest first; the first (or that of size `at`) is taken."""
    signing = history.trusted  # once the newest is taken, keys since retired may have signed those before
    sizes = [size for size in reversed(_numbers(history, "checkpoint")) if at is None or size <= at]
    # Where one is enough, those after it are not read ahead.
    for size in history.reading_ahead(sizes, layout.checkpoint_key, MAX_NOTE_BYTES) if thorough else sizes:
        key = layout.checkpoint_key(size)
        try:
            data, checkpoint = history.read(key, MAX_NOTE_BYTES, partial(fitting_checkpoint, keys=signing, size=size))
        except AuditlibError as error:
            history.add_error(0, key, error, "error" if history.checkpoint else history.planted)
            continue
        history.checkpoints.append((key, checkpoint))
        if history.checkpoint is None and (at is None or size == at):
            history.checkpoint, history.checkpoint_data = checkpoint, data
            signing = tuple(dict.fromkeys((*history.trusted, *_own_keys(history))))
        if not thorough:
            break
    if at is not None and history.checkpoint is None:
        raise MalformedError(
            f"the vault has no checkpoint of size {at} signed by a trusted key.", where=history.vault.url
        )
    if history.checkpoint is None:
        sealed = any(key.startswith(layout.SEALS) for key in history.stored) and not _first_unfinished(history)
        history.add(
            0,
            layout.CHECKPOINTS,
            "no checkpoint is signed by a trusted key." if sealed else "nothing has been sealed yet.",
            " or ".join(map(str, history.trusted)) or "a key",
            "none",
            "error" if sealed or (history.key_confirmed and not _keys_fit(history)) else "warning",
        )


def fitting_checkpoint(data: bytes, keys: Sequence[VerifierKey], size: int) -> tuple[bytes, Checkpoint]:
    """The checkpoint, if one of these keys signed it over that many seals; else MalformedError or MismatchError."""
    checkpoint = parse_checkpoint(data, keys)
    if checkpoint.size != size:
        raise MismatchError("the checkpoint lies under another size's name.", expected=size, found=checkpoint.size)
    return data, checkpoint


def _keys_fit(history: History) -> bool:
    return any(key in history.trusted for document in history.documents for key in document.verifiers)


def _first_unfinished(history: History) -> bool:
    """Whether this is what a crash between the very first seal and its checkpoint leaves."""
    return _numbers(history, "seal") == [0] and not _numbers(history, "checkpoint")


def _read_seals(history: History, at: int | None, paged: dict[int, SealedBytes]) -> None:
    listed = _numbers(history, "seal")
    size = history.checkpoint.size if history.checkpoint else (listed[-1] + 1 if listed else 0)
    if _first_unfinished(history):
        size = 0
    present = sorted({*(n for n in listed if n < size), *paged})
    for first, last in _missing(present, size):
        named = f"seals {first} to {last} are" if last > first else f"seal {first} is"
        history.add(2, layout.seal_key(first), f"{named} missing.", f"seals 0 to {size - 1}", "no object")
    previous, before = NO_PREVIOUS, -1
    unpaged = (sequence for sequence in present if sequence not in paged)
    ahead = history.reading_ahead(unpaged, layout.seal_key, MAX_SEAL_BYTES)
    for sequence in present:
        previous, before = (previous if sequence == before + 1 else ""), sequence
        key = layout.seal_key(sequence)
        entry = paged.get(sequence) or _read_seal(history, next(ahead), previous)
        if entry is None:
            previous = ""
            continue
        _check_chain(history, key, entry.seal, sequence, previous)
        previous = seal_hash(entry.data)
        history.seals.append(entry)
    if at is None:
        for sequence in (n for n in listed if n >= size):
            _read_beyond(history, sequence)


def _check_chain(history: History, key: str, seal: Seal, sequence: int, previous: str) -> None:
    if seal.sequence != sequence:
        history.add(2, key, "the seal states another sequence number.", sequence, seal.sequence)
    if history.origin and seal.origin != history.origin:
        history.add(2, key, "the seal is of another origin.", history.origin, seal.origin)
    if previous and seal.previous != previous:
        history.add(3, key, "the seal does not carry the hash of the one before.", previous, seal.previous)
    document, before = history.document_of(seal), history.document
    if document is None:
        history.add(
            4,
            key,
            "the seal names a trail document that is not in the vault.",
            seal.trail,
            "no such document",
        )
    elif before is not None and document != before:
        # DESIGN 4.6: document n+1 takes effect with a seal that names it and is signed by a key of document n.
        if document.n != before.n + 1:
            message = "the seal names a trail document that does not follow the one in force."
            history.add(4, key, message, before.n + 1, document.n)
        try:
            check_signature(seal, before.verifiers)
        except MismatchError as error:
            history.add_error(4, key, error)


def fitting_seal(data: bytes, keys: Sequence[VerifierKey], sequence: int, previous: str) -> SealedBytes:
    """The seal, if one of these keys signed it for that place in the chain; else MalformedError or MismatchError.

    `previous` is '' where the seal before is not known.
    """
    seal = parse_seal(data)
    if seal.sequence != sequence or seal.previous != (previous or seal.previous):
        raise MismatchError("the seal does not continue the chain.", expected=previous, found=seal.previous)
    check_signature(seal, keys)
    return SealedBytes(seal, data)


def _read_seal(history: History, sequence: int, previous: str = "", severity: Severity = "error") -> SealedBytes | None:
    """The seal at its place in the chain; where no version goes on there, the oldest that is a seal at all."""
    key = layout.seal_key(sequence)
    keys = history.document.verifiers if history.document else history.trusted
    try:
        if len(history.versions_of(key)) > 1:
            with suppress(MismatchError, MalformedError):
                fits = partial(fitting_seal, keys=keys, sequence=sequence, previous=previous)
                return history.read(key, MAX_SEAL_BYTES, fits)
        return history.read(key, MAX_SEAL_BYTES, lambda data: SealedBytes(parse_seal(data), data))
    except AuditlibError as error:
        history.add_error(2, key, error, severity)
        return None


def _read_pages(history: History) -> dict[int, SealedBytes]:
    """The seals of full pages: a cache, believed only because their leaves must lead to the root."""
    found: dict[int, SealedBytes] = {}
    full = history.checkpoint.size // layout.PAGE if history.checkpoint else 0
    for page in (page for page in _numbers(history, "page") if page < full):
        key = layout.page_key(page)
        try:
            seals = history.read(key, layout.PAGE * (MAX_SEAL_BYTES + 1), _page_of_seals)
        except AuditlibError as error:
            history.add(4, key, f"the page cannot be used ({error.message}); its seals were read.", severity="warning")
            continue
        first = page * layout.PAGE
        if [entry.seal.sequence for entry in seals] == list(range(first, first + layout.PAGE)):
            found.update(zip(range(first, first + layout.PAGE), seals, strict=True))
        else:
            history.add(4, key, "the page holds other seals than its own; they were read.", severity="warning")
    return found


def _page_of_seals(data: bytes) -> list[SealedBytes]:
    lines = data.split(b"\n")
    if len(lines) != layout.PAGE + 1 or lines.pop():
        raise MalformedError(f"not {layout.PAGE} lines.")
    return [SealedBytes(parse_seal(line), line) for line in lines]


def _report_pages(history: History, paged: dict[int, SealedBytes]) -> None:
    """Say which pages held other seals than those that were read instead."""
    seals = {entry.seal.sequence: entry.data for entry in history.seals}
    wrong = {number // layout.PAGE for number, entry in paged.items() if seals.get(number, entry.data) != entry.data}
    for page in sorted(wrong):
        message = "the page does not hold its seals; they were read instead."
        history.add(4, layout.page_key(page), message, severity="warning")


def _check_documents(history: History) -> None:
    """Check 4 once the seals are known: one origin, and nothing in force that no seal names."""
    if history.checkpoint and history.documents and history.documents[0].origin != history.checkpoint.origin:
        history.add(
            4,
            layout.trail_key(history.documents[0].n),
            "the trail document is of another origin than the checkpoint.",
            history.checkpoint.origin,
            history.documents[0].origin,
        )
    current = history.document
    for document in history.documents:
        if current is not None and document.n > current.n:
            history.add(
                4,
                layout.trail_key(document.n),
                "no seal names this trail document: it is not in force, and anybody could have put it here.",
                severity="warning",
            )


def _check_signers(history: History) -> None:
    """Check 0 once the seals are known: a key signs while a document in force names it, not after it retired."""
    changes: list[tuple[int, Document]] = []  # (the size from which it is in force, document)
    for size, entry in enumerate(history.seals, 1):
        document = history.document_of(entry.seal)
        if document and (not changes or changes[-1][1] != document):
            changes.append((size, document))
    for key, checkpoint in history.checkpoints:
        place = bisect_left(changes, checkpoint.size + 1, key=lambda change: change[0]) - 1
        if place < 0:
            continue  # its seals are missing, and were reported
        size, document = changes[place]
        allowed = set(document.verifiers)
        if size == checkpoint.size and place:
            allowed |= set(changes[place - 1][1].verifiers)  # the change itself is signed by a key of the one before
        if not allowed & set(checkpoint.signers):
            message = "the checkpoint is signed by a key that the trail document then in force does not name."
            history.add(0, key, message, " or ".join(document.keys), ", ".join(map(str, checkpoint.signers)))


def _read_beyond(history: History, sequence: int) -> None:
    key = layout.seal_key(sequence)
    entry = _read_seal(history, sequence, severity=history.planted)
    if entry is None:
        return
    # The chain vouches for the document in force; before the first seal only the trusted keys do.
    document = history.document if history.seals else None
    try:
        fitting_seal(entry.data, document.verifiers if document else history.trusted, sequence, "")
    except MismatchError as error:
        history.add_error(2, key, error, history.planted)
        return
    history.beyond.append(entry)
    history.add(
        2,
        key,
        "this seal is past the newest checkpoint and is no evidence yet; the next run of the sealer finishes it.",
        f"a checkpoint over {sequence + 1} seals",
        f"one over {history.checkpoint.size if history.checkpoint else 0}",
        "warning",
    )


def _check_root(history: History) -> None:
    """Check 4 for the checkpoint taken, check 1 for every other that was read; one pass over the leaves."""
    if history.checkpoint is None:
        return
    wanted: dict[int, list[tuple[str, Checkpoint]]] = {}
    for key, checkpoint in history.checkpoints:
        wanted.setdefault(checkpoint.size, []).append((key, checkpoint))
    frontier = merkle.Frontier()
    whole = len(history.seals) == history.checkpoint.size
    for entry in history.seals if whole else ():
        frontier.append(merkle.leaf_hash(entry.data))
        for key, checkpoint in wanted.get(frontier.size, ()):
            newest = checkpoint.size == history.checkpoint.size
            if checkpoint.origin != history.checkpoint.origin:
                history.add(0, key, "the checkpoint is of another origin.", history.origin, checkpoint.origin)
            elif checkpoint.root != frontier.root():
                message = (
                    "the seals do not lead to the checkpoint's root."
                    if newest
                    else "an earlier signed checkpoint is not a prefix of this history: a fork or a rewriting."
                )
                history.add(4 if newest else 1, key, message, checkpoint.root.hex(), frontier.root().hex())
    if not whole:
        history.add(
            4,
            layout.checkpoint_key(history.checkpoint.size),
            "the root cannot be rebuilt, because seals are missing or unreadable.",
            history.checkpoint.root.hex(),
            f"{len(history.seals)} of {history.checkpoint.size} seals",
        )
