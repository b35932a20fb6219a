"""What a vault says of itself, read with distrust: trail documents, checkpoints, seals (checks 0 to 4).

Reading never stops at the first fault: every one becomes a finding, and what could be read stands beside them.
The sealer, verification and the trail all start here; none of them believes more than this module has checked.

listing    what lies in the vault, folder by folder          seals      the seals as columns
reading    History: what was read, and its faults            chain      the chain of seals and the tree over it
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise

import msgspec

from auditlib.chain import check_signers, first_unfinished, fitting_seal, last_seal, read_chain
from auditlib.errors import AuditlibError, MalformedError, MismatchError, MissingError
from auditlib.formats import layout, merkle
from auditlib.formats.catalog import MAX_CATALOG_BYTES, Catalog, parse_catalog
from auditlib.formats.checkpoint import MAX_NOTE_BYTES, Checkpoint, parse_checkpoint
from auditlib.formats.document import MAX_DOCUMENT_BYTES, Document, document_hash, parse_document
from auditlib.formats.keys import VerifierKey
from auditlib.formats.seal import MAX_SEAL_BYTES, NO_PREVIOUS, parse_seal
from auditlib.reading import History, Judged
from auditlib.seals import SealedBytes
from auditlib.vault import Vault

__all__ = [
    "History",
    "SealedBytes",
    "check_extends",
    "fitting_checkpoint",
    "fitting_seal",
    "read_history",
]


def read_history(
    vault: Vault,
    keys: Iterable[VerifierKey] = (),
    *,
    at: int | None = None,
    thorough: bool = False,
    judged: Judged | None = None,
) -> History:
    """Read documents, checkpoints and seals up to the newest trusted checkpoint (or the one of size `at`).

    `keys` are those the user trusts; without any, the vault's own are used and stay unconfirmed. `thorough` lists the
    whole vault and reads every checkpoint and every seal object, and not the pages that stand in for them. `judged`
    spares the parsing of pages of a long history whose bytes this account parsed before.
    """
    history = History(vault, judged)
    if thorough:
        _ = history.stored
    _read_documents(history)
    history.given = tuple(keys)
    history.trusted = history.given or _own_keys(history)
    if history.given:
        _introduce(history)
    _read_checkpoints(history, at, thorough)
    read_chain(history, at, thorough=thorough)
    _check_documents(history)
    check_signers(history)
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
        found = history.seals.root(older.size) if older.size else merkle.EMPTY_ROOT
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
    numbers = history.listing.numbers("trail", layout.TRAIL)
    for low, high in pairwise([-1, *(numbers or [1])]):
        first, last = low + 1, high - 1
        if first > last:
            continue
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

    return bisect_left(range(last_seal(history, history.listing.pages(layout.SEALS)) + 1), True, key=reached)


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
    sizes = _sizes(history, at)
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
        sealed = any(True for _ in history.vault.list(layout.SEALS)) and not first_unfinished(history)
        history.add(
            0,
            layout.CHECKPOINTS,
            "no checkpoint is signed by a trusted key." if sealed else "nothing has been sealed yet.",
            " or ".join(map(str, history.trusted)) or "a key",
            "none",
            "error" if sealed or (history.key_confirmed and not _keys_fit(history)) else "warning",
        )


def _sizes(history: History, at: int | None) -> Iterator[int]:
    """The sizes of the checkpoints there are, greatest first; each of their folders is listed when it is come to."""
    for folder in reversed(history.listing.pages(layout.CHECKPOINTS)):
        if at is None or folder * layout.PAGE < at:
            for size in reversed(history.listing.numbers("checkpoint", f"{layout.CHECKPOINTS}{folder:06}/")):
                if at is None or size <= at:
                    yield size


def fitting_checkpoint(data: bytes, keys: Sequence[VerifierKey], size: int) -> tuple[bytes, Checkpoint]:
    """The checkpoint, if one of these keys signed it over that many seals; else MalformedError or MismatchError."""
    checkpoint = parse_checkpoint(data, keys)
    if checkpoint.size != size:
        raise MismatchError("the checkpoint lies under another size's name.", expected=size, found=checkpoint.size)
    return data, checkpoint


def _keys_fit(history: History) -> bool:
    return any(key in history.trusted for document in history.documents for key in document.verifiers)


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
    if current is not None:  # nor does what nobody could read stop a reader, where no seal names what would be there
        history.findings[:] = [
            msgspec.structs.replace(found, severity="warning")
            if found.check == 4 and (layout.number_of("trail", found.object) or 0) > current.n
            else found
            for found in history.findings
        ]
    for document in history.documents:
        if current is not None and document.n > current.n:
            history.add(
                4,
                layout.trail_key(document.n),
                "no seal names this trail document: it is not in force, and anybody could have put it here.",
                severity="warning",
            )
