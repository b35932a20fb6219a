"""The chain of seals and the tree over it: checks 2 to 4, and 1 for the checkpoints in the vault.

Full pages stand in for their seals where their leaves lead to the root; all seals of a folder are judged at once, and
one by one where anything about them is odd.
"""

from __future__ import annotations

from binascii import hexlify
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from itertools import pairwise

import msgspec
import numpy as np

from auditlib.errors import AuditlibError, MalformedError, MismatchError, UnavailableError
from auditlib.findings import Finding, Severity
from auditlib.formats import layout, merkle
from auditlib.formats.checkpoint import Checkpoint
from auditlib.formats.document import Document
from auditlib.formats.keys import VerifierKey
from auditlib.formats.lines import Lines, Page
from auditlib.formats.page import parse_page
from auditlib.formats.seal import MAX_SEAL_BYTES, NO_PREVIOUS, Seal, check_signature, parse_seal, seal_hash
from auditlib.reading import MAX_PAGE_BYTES, History, Judged
from auditlib.seals import SealedBytes, Seals

_MANY_PAGES = 16  # from so many on their columns are kept: fewer are parsed in a tenth of a second
_PAGES_AHEAD = 4  # pages read over the network before they are judged


def read_chain(history: History, at: int | None, *, thorough: bool) -> None:
    """Read the seals under the checkpoint, and those past it where no `at` was asked for; check chain and root."""
    folders = history.listing.pages(layout.SEALS)
    size = history.checkpoint.size if history.checkpoint else _size_unsigned(history, folders)
    full = [] if thorough else history.listing.numbers("page", layout.PAGES)
    pages = [page for page in full if (page + 1) * layout.PAGE <= size]
    before = len(history.findings)
    unusable = _read_seals(history, size, folders, pages)
    _check_root(history)
    if pages and any(finding.severity == "error" for finding in history.findings[before:]):
        # A page is believed only where it leads to the root: where it does not, the seals themselves decide.
        paged, history.seals = history.seals, Seals(history.seals_again)
        history.findings[before:] = unusable
        _read_seals(history, size, folders, [])
        _check_root(history)
        _report_pages(history, paged, {finding.object for finding in unusable})
    if at is None:
        for folder in (folder for folder in folders if (folder + 1) * layout.PAGE > size):
            for sequence in _numbers(history, folder):
                if sequence >= size:
                    _read_beyond(history, sequence)


def first_unfinished(history: History) -> bool:
    """Whether this is what a crash between the very first seal and its checkpoint leaves."""
    listing = history.listing
    return (
        listing.pages(layout.SEALS) == [0]
        and _numbers(history, 0) == [0]
        and not any(
            listing.numbers("checkpoint", f"{layout.CHECKPOINTS}{page:06}/")
            for page in listing.pages(layout.CHECKPOINTS)
        )
    )


def last_seal(history: History, folders: Sequence[int]) -> int:
    """The greatest sequence number there is a seal of; -1 where there is none."""
    for folder in reversed(folders):
        if numbers := _numbers(history, folder):
            return numbers[-1]
    return -1


def _size_unsigned(history: History, folders: Sequence[int]) -> int:
    """How many seals there are, where no checkpoint says it."""
    return 0 if first_unfinished(history) else last_seal(history, folders) + 1


def _numbers(history: History, folder: int) -> list[int]:
    return history.listing.numbers("seal", f"{layout.SEALS}{folder:06}/")


def _read_seals(history: History, size: int, folders: Sequence[int], pages: Sequence[int]) -> list[Finding]:
    """Read all seals below `size`, those of these pages from them; the findings about pages that cannot be used."""
    previous, following, unusable = NO_PREVIOUS, 0, list[Finding]()
    ahead = history.reading_ahead(pages, layout.page_key, MAX_PAGE_BYTES, _PAGES_AHEAD)
    paged = set(pages)
    judged = history.judged if len(pages) >= _MANY_PAGES else None
    for folder in sorted({*pages, *(folder for folder in folders if folder * layout.PAGE < size)}):
        numbers: Sequence[int] = range(folder * layout.PAGE, (folder + 1) * layout.PAGE)
        found = _read_page(history, next(ahead), unusable, judged) if folder in paged else None
        from_page = found is not None
        if found is None:
            numbers = [number for number in _numbers(history, folder) if number < size]
        if not numbers:
            continue
        _tell_missing(history, [following - 1, *numbers], size)
        known = previous if numbers[0] == following else ""
        found = found or _read_together(history, numbers)
        if found and _goes_on(history, found.page, numbers, known):
            history.seals.extend(numbers, found.lines, found.page)
            previous = history.seals.hash_of(len(history.seals) - 1)
        else:
            previous = _read_each(history, numbers, known, found.lines if found and from_page else [])
        following = numbers[-1] + 1
    _tell_missing(history, [following - 1, size], size)
    if judged:
        judged.settle()
    return unusable


def _tell_missing(history: History, present: Sequence[int], size: int) -> None:
    """Say which of the numbers between these, sorted, there is no seal of."""
    for low, high in pairwise(present):
        if high > low + 1:
            named = f"seals {low + 1} to {high - 1} are" if high > low + 2 else f"seal {low + 1} is"
            history.add(2, layout.seal_key(low + 1), f"{named} missing.", f"seals 0 to {size - 1}", "no object")


class _Found(msgspec.Struct):
    """The bytes of some seals, and what they say."""

    lines: Lines
    page: Page


def _read_page(history: History, page: int, unusable: list[Finding], judged: Judged | None) -> _Found | None:
    """The seals of a full page: a cache, believed only because their leaves must lead to the root."""
    key, first = layout.page_key(page), page * layout.PAGE
    try:
        found = history.read(key, MAX_PAGE_BYTES, partial(_page_of_seals, judged=judged))
    except AuditlibError as error:
        history.add(4, key, f"the page cannot be used ({error.message}); its seals were read.", severity="warning")
    else:
        if np.array_equal(found.page.sequences, np.arange(first, first + layout.PAGE)):
            return found
        history.add(4, key, "the page holds other seals than its own; they were read.", severity="warning")
    unusable.append(history.findings[-1])
    return None


def _page_of_seals(data: bytes, judged: Judged | None) -> _Found:
    lines = Lines.split(data)
    if len(lines) != layout.PAGE:
        raise MalformedError(f"not {layout.PAGE} lines.")
    if judged is None:
        return _Found(lines, parse_page(lines))
    name = sha256(data).hexdigest()
    page = judged.page(name)
    if page is None:
        page = parse_page(lines)
        judged.keep(name, page)
    return _Found(lines, page)


def _read_together(history: History, numbers: Sequence[int]) -> _Found | None:
    """Seals without a gap, of each the only version; None where that is not all there is to it."""
    if len(numbers) != numbers[-1] - numbers[0] + 1:
        return None
    lines: list[bytes] = []
    try:
        for number in history.reading_ahead(numbers, layout.seal_key, MAX_SEAL_BYTES):
            key = layout.seal_key(number)
            if len(history.versions_of(key)) > 1:
                return None
            lines.append(history.read(key, MAX_SEAL_BYTES, bytes))
        together = Lines.of(lines)
        return _Found(together, parse_page(together))
    except AuditlibError as error:
        if type(error) is UnavailableError:
            raise
        return None  # one by one it is told which, and why


def _goes_on(history: History, page: Page, numbers: Sequence[int], previous: str) -> bool:
    """Whether nothing about the chain of these seals has to be told; `previous` is '' where it is not known."""
    before, document = history.document, history.document_named(page.trails[0])
    return (
        np.array_equal(page.sequences, numbers)
        and page.origins == [history.origin or page.origins[0]]
        and (not previous or page.previous.startswith(previous.encode()))
        and page.previous[2 * merkle.HASH_BYTES :] == hexlify(page.hashes[: -merkle.HASH_BYTES])
        and len(page.trails) == 1
        and document is not None
        and document == (before or document)
    )


def _read_each(history: History, numbers: Sequence[int], previous: str, lines: Sequence[bytes]) -> str:
    """Read and judge one after the other, from a page's lines if there are any; the hash of the last, '' if unknown."""
    taken: dict[int, bytes] = {}
    document, before = history.document, numbers[0] - 1
    ahead = history.reading_ahead(numbers if not lines else (), layout.seal_key, MAX_SEAL_BYTES)
    for place, sequence in enumerate(numbers):
        previous, before = (previous if sequence == before + 1 else ""), sequence
        if lines:
            entry: SealedBytes | None = SealedBytes(parse_seal(lines[place]), lines[place])
        else:
            entry = _read_seal(history, next(ahead), previous, document)
        if entry is None:
            previous = ""
            continue
        _check_chain(history, layout.seal_key(sequence), entry.seal, sequence, previous, document)
        previous, document = seal_hash(entry.data), history.document_of(entry.seal)
        taken[sequence] = entry.data
    history.seals.extend([*taken], [*taken.values()])
    return previous


def _check_chain(history: History, key: str, seal: Seal, sequence: int, previous: str, before: Document | None) -> None:
    """Checks 2 to 4 on one seal; `before` is the trail document in force until it."""
    if seal.sequence != sequence:
        history.add(2, key, "the seal states another sequence number.", sequence, seal.sequence)
    if history.origin and seal.origin != history.origin:
        history.add(2, key, "the seal is of another origin.", history.origin, seal.origin)
    if previous and seal.previous != previous:
        history.add(3, key, "the seal does not carry the hash of the one before.", previous, seal.previous)
    document = history.document_of(seal)
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


def _read_seal(
    history: History, sequence: int, previous: str, document: Document | None, severity: Severity = "error"
) -> SealedBytes | None:
    """The seal at its place in the chain; where no version goes on there, the oldest that is a seal at all."""
    key = layout.seal_key(sequence)
    keys = document.verifiers if document else history.trusted
    try:
        if len(history.versions_of(key)) > 1:
            with suppress(MismatchError, MalformedError):
                fits = partial(fitting_seal, keys=keys, sequence=sequence, previous=previous)
                return history.read(key, MAX_SEAL_BYTES, fits)
        return history.read(key, MAX_SEAL_BYTES, lambda data: SealedBytes(parse_seal(data), data))
    except AuditlibError as error:
        history.add_error(2, key, error, severity)
        return None


def _report_pages(history: History, paged: Seals, told: set[str]) -> None:
    """Say which pages held other seals than those that were read instead; `told` are those that were told of."""
    seals = dict(zip(history.seals.numbers.tolist(), history.seals.leaves, strict=True))
    held = zip(paged.numbers.tolist(), paged.leaves, strict=True)
    wrong = {number // layout.PAGE for number, leaf in held if seals.get(number, leaf) != leaf}
    for key in sorted({layout.page_key(page) for page in wrong} - told):
        message = "the page does not hold its seals; they were read instead."
        history.add(4, key, message, severity="warning")


def _read_beyond(history: History, sequence: int) -> None:
    key = layout.seal_key(sequence)
    entry = _read_seal(history, sequence, "", history.document, history.planted)
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


def check_signers(history: History) -> None:
    """Check 0 once the seals are known: a key signs while a document in force names it, not after it retired."""
    changes: list[tuple[int, Document]] = []  # (the size from which it is in force, document)
    for place, trail in history.seals.changes:
        document = history.document_named(trail)
        if document and (not changes or changes[-1][1] != document):
            changes.append((place + 1, document))
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


def _check_root(history: History) -> None:
    """Check 4 for the checkpoint taken, check 1 for every other that was read; one pass over the leaves."""
    if history.checkpoint is None:
        return
    wanted: dict[int, list[tuple[str, Checkpoint]]] = {}
    for key, checkpoint in history.checkpoints:
        wanted.setdefault(checkpoint.size, []).append((key, checkpoint))
    whole = len(history.seals) == history.checkpoint.size
    for size, root in _roots(history.seals, sorted(wanted)) if whole else ():
        for key, checkpoint in wanted[size]:
            newest = checkpoint.size == history.checkpoint.size
            if checkpoint.origin != history.checkpoint.origin:
                history.add(0, key, "the checkpoint is of another origin.", history.origin, checkpoint.origin)
            elif checkpoint.root != root:
                message = (
                    "the seals do not lead to the checkpoint's root."
                    if newest
                    else "an earlier signed checkpoint is not a prefix of this history: a fork or a rewriting."
                )
                history.add(4 if newest else 1, key, message, checkpoint.root.hex(), root.hex())
    if not whole:
        history.add(
            4,
            layout.checkpoint_key(history.checkpoint.size),
            "the root cannot be rebuilt, because seals are missing or unreadable.",
            history.checkpoint.root.hex(),
            f"{len(history.seals)} of {history.checkpoint.size} seals",
        )


def _roots(seals: Seals, sizes: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """The root at each of these sizes, which are sorted, in one pass over the leaves."""
    if len(sizes) == 1:
        yield sizes[0], seals.root(sizes[0])
        return
    frontier, wanted = merkle.Frontier(), set(sizes)
    for number in range(len(seals)):
        frontier.append(seals.leaf(number))
        if frontier.size in wanted:
            yield frontier.size, frontier.root()
