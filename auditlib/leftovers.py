"""What no seal names, and what seals alone say: checks 1 (other versions), 4 (pages), 6 (unlisted), 8, 9 (counts)."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import chain, pairwise

import numpy as np

from auditlib.errors import AuditlibError, MalformedError, MismatchError, MissingError, UnavailableError
from auditlib.formats import layout, merkle
from auditlib.formats.checkpoint import MAX_NOTE_BYTES, parse_checkpoint
from auditlib.formats.times import format_time
from auditlib.history import History, check_extends
from auditlib.reading import MAX_PAGE_BYTES

_UNLISTED_SHOWN = 5  # actions named that no catalogue lists


def check_counted_numbers(history: History) -> None:
    """Check 9 from the seals alone: how many numbers of a source are missing, not which."""
    sources, lasts = history.seals.sources, history.seals.spans[:, 1]
    for name in sorted(sources.names):
        of = sources.of(name) & (lasts > 0)
        highest, events = int(lasts[of].max(initial=0)), int(sources.counts[of].sum())
        if events < highest:
            history.add(
                9,
                name,
                f"{highest - events:,} sequence number(s) of {name} never arrived, by the seals' counts.",
                f"numbers 1 to {highest}",
                f"{events} records",
                "warning",
            )


def check_listed(history: History) -> None:
    """Check 6, from the seals' counts: actions that no catalogue in force lists; they are accepted, and told."""
    unlisted: Counter[str] = Counter()
    seals, actions = history.seals, history.seals.actions
    changes = seals.changes
    for (place, trail), (end, _) in pairwise([*changes, (len(seals), "")]):
        document = history.document_named(trail)
        catalog = history.catalogs.get(document.catalog) if document else None
        some = slice(*actions.starts[[place, end]].tolist())
        totals = np.bincount(actions.entries[some], actions.counts[some], len(actions.names))
        for action, events in zip(actions.names, totals.tolist(), strict=True):
            if events and catalog is not None and action not in catalog.actions:
                unlisted[action] += int(events)
    if unlisted:
        shown = ", ".join(f"{action} ({events:,})" for action, events in unlisted.most_common(_UNLISTED_SHOWN))
        more = f" and {len(unlisted) - _UNLISTED_SHOWN:,} more" if len(unlisted) > _UNLISTED_SHOWN else ""
        message = f"{unlisted.total():,} events are of actions that the catalogue does not list: {shown}{more}."
        history.add(6, layout.CATALOGS, message, severity="info")


def check_leftovers(history: History) -> None:
    """Check 8: what stands in the vault and is no part of the trail, or no plain file; then the pages (check 4)."""
    named = {entry.seal.batch.object for entry in chain(history.seals, history.beyond)}  # one page in memory at a time
    for key in sorted(history.stored):
        stored = history.stored[key]
        if stored.odd:
            history.add(8, key, f"this is {stored.odd}; a vault holds plain files alone.", "a plain file", stored.odd)
        elif key.startswith(layout.BATCHES) and key not in named:
            history.add(
                8,
                key,
                "no seal names this batch; a crash before its seal leaves one, and it is no evidence.",
                severity="info",
            )
        elif not key.startswith(layout.KNOWN_PREFIXES):
            history.add(8, key, "this object is no part of the trail.", severity="info")
        elif not _in_place(key):
            history.add(8, key, "no object of a trail has this name.", severity="warning")
    _check_pages(history)


def check_shadows(history: History) -> None:
    """Check 8: newer versions and delete markers over what was read: the original stands, the attempt is told."""
    for shadow in history.shadows:
        what = "a delete marker" if shadow.marker else f"another version of {shadow.size:,} bytes"
        if shadow.version == history.read_versions.get(shadow.key):  # the sealer's own, put past what was planted there
            shadow = history.stored[shadow.key]  # noqa: PLW2901
            what = f"an older version of {shadow.size:,} bytes that nobody validly signed"
        who = f" by {shadow.owner}" if shadow.owner else ""
        when = f" at {format_time(shadow.modified)}" if shadow.modified else ""
        history.add(
            8,
            shadow.key,
            f"{what} was put beside this object{who}{when}, as the storage says; the version that fits was read.",
            "one version",
            f"version {shadow.version}",
            "warning",
        )


def check_equivocation(history: History) -> None:
    """Check 1 on every version of a checkpoint that was not read: one that a key of the trail signed is its word too.

    A key holder who signed two histories is convicted by either of them, wherever the storage keeps the second.
    """
    keys = (*history.trusted, *(key for document in history.documents for key in document.verifiers))
    keys = tuple(dict.fromkeys(keys))
    for key in sorted({shadow.key for shadow in history.shadows if not shadow.marker}):
        if layout.number_of("checkpoint", key) is None:
            continue
        for version in history.versions_of(key):
            if version == history.version_of(key):
                continue
            with suppress(MalformedError, MismatchError, MissingError):  # nobody's word; check 8 tells that it is there
                signed = parse_checkpoint(history.vault.get(key, MAX_NOTE_BYTES, version), keys)
                check_extends(history, signed, f"{key} (version {version})")


def _in_place(key: str) -> bool:
    return any(
        layout.number_of(kind, key) is not None
        for kind in ("trail", "catalog", "batch", "seal", "checkpoint", "page", "packet")
    )


def _check_pages(history: History) -> None:
    """A page is a cache: one that differs from the seals misleads nobody, and is reported."""
    pages, leaves = history.seals.numbers // layout.PAGE, history.seals.leaves
    for key in sorted(key for key in history.stored if key.startswith(layout.PAGES)):
        page = layout.number_of("page", key)
        if page is None:
            continue  # reported as what it is
        expected = [leaves[place] for place in np.flatnonzero(pages == page)]
        try:
            found = history.vault.get(key, MAX_PAGE_BYTES)
        except UnavailableError as error:
            if not isinstance(error, MissingError):
                raise
            found = b""
        except AuditlibError:
            found = b""  # too large, or no plain file
        *lines, rest = found.split(b"\n")
        if rest or not expected or [*map(merkle.leaf_hash, lines)] != expected:
            history.add(
                4,
                key,
                "the page does not hold its seals; readers fall back to the seals.",
                severity="warning",
            )
