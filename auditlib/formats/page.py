"""Many seals at once: the lines of a page -> their hashes and what their fields state, as columns.

    {"batch":{"events":50000,...},...,"sequence":1024,...}        one seal a line, canonical bytes
    {"batch":{"events":61200,...},...,"sequence":1025,...}

Every rule of `formats.seal` holds here too. `scan` matches the bytes of all of them with the canonical form, and what
the fields state is judged in one go. Where anything is odd, `parse_seal` is asked, one after the other, and decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec
import numpy as np

from auditlib.formats.canonical import MAX_INTEGER
from auditlib.formats.event import OUTCOMES
from auditlib.formats.lines import Lines, Named, Numbers, Page
from auditlib.formats.scan import OtherError, scan
from auditlib.formats.seal import MAX_ACTIONS, MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_SEAL_BYTES, Seal, parse_seal
from auditlib.formats.times import parse_canonical_time

_decode = msgspec.json.Decoder(Seal).decode


def parse_page(lines: Sequence[bytes]) -> Page:
    """Seals' canonical bytes (at least one seal) -> columns; MalformedError where `parse_seal` refuses one of them."""
    lines = Lines.of(lines)
    if lines.longest <= MAX_SEAL_BYTES:
        with suppress(OtherError):
            page = scan(lines)
            if _holds(page):
                return page
    return _one_by_one(lines)


def decode_seals(lines: Iterable[bytes]) -> list[Seal]:
    """Seals that `parse_page` took before."""
    return [_decode(line) for line in lines]


def _holds(page: Page) -> bool:
    """What `formats.seal` asks of each seal's numbers and outcomes, but for how they are spelt."""
    numbered = page.spans[:, 1] > 0
    return bool(
        ((page.events >= 1) & (page.events <= MAX_BATCH_EVENTS)).all()
        and ((page.sizes >= 1) & (page.sizes <= MAX_BATCH_BYTES)).all()
        and (page.occurred[:, 0] <= page.occurred[:, 1]).all()
        and (page.recorded[:, 0] <= page.recorded[:, 1]).all()
        and all(_adds_up(page, named) for named in (page.actions, page.outcomes, page.sources))
        and (np.diff(page.actions.starts) <= MAX_ACTIONS).all()
        and {*page.outcomes.names} <= {*OUTCOMES}
        and (page.spans[numbered, 0] <= page.spans[numbered, 1]).all()
        and (page.spans <= MAX_INTEGER).all()
    )


def _adds_up(page: Page, named: Named) -> bool:
    # None is past the events of its batch: that also keeps the sums from running over.
    if not ((named.counts >= 1) & (named.counts <= MAX_BATCH_EVENTS)).all():
        return False
    totals = np.concatenate([[0], np.cumsum(named.counts)])[named.starts]
    right = np.diff(totals) == page.events
    return bool((right | page.uncounted if named is page.actions else right).all())


def _one_by_one(lines: Lines) -> Page:
    """The same, slowly and obviously."""
    seals = [parse_seal(line) for line in lines]
    leaves, hashes = lines.hashes()
    trails = list(dict.fromkeys(seal.trail for seal in seals))
    sources = [source for seal in seals for source in seal.sources.values()]
    return Page(
        leaves=leaves,
        hashes=hashes,
        sequences=_numbers([seal.sequence for seal in seals]),
        previous="".join(seal.previous for seal in seals).encode(),
        origins=list(dict.fromkeys(seal.origin for seal in seals)),
        trails=trails,
        trail_codes=_numbers([trails.index(seal.trail) for seal in seals]),
        sealed_at=_numbers([parse_canonical_time(seal.sealed_at) for seal in seals]),
        occurred=_numbers([[parse_canonical_time(time) for time in seal.occurred] for seal in seals]),
        recorded=_numbers([[parse_canonical_time(time) for time in seal.recorded] for seal in seals]),
        events=_numbers([seal.batch.events for seal in seals]),
        sizes=_numbers([seal.batch.size for seal in seals]),
        actions=_named([seal.counts.actions or {} for seal in seals]),
        uncounted=np.array([seal.counts.actions is None for seal in seals], np.bool_),
        outcomes=_named([seal.counts.outcomes for seal in seals]),
        sources=_named([{name: source.events for name, source in seal.sources.items()} for seal in seals]),
        spans=_numbers([[source.first_seq or 0, source.last_seq or 0] for source in sources]),
    )


def _named(counted: Sequence[dict[str, int]]) -> Named:
    names = {name: code for code, name in enumerate(dict.fromkeys(name for counts in counted for name in counts))}
    return Named(
        starts=_numbers(np.cumsum([0, *map(len, counted)])),
        codes=_numbers([names[name] for counts in counted for name in counts]),
        names=list(names),
        counts=_numbers([count for counts in counted for count in counts.values()]),
    )


def _numbers(values: object) -> Numbers:
    return np.array(values, np.int64)
