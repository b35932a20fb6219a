"""What the full pages of a long history state, kept as columns, so that opening it again parses none of them.

    <cache>/pages/5e/5e02...91      the mark (marked.py), then the columns of one page in MessagePack

An entry is named by the SHA-256 of the page's bytes, which are read from the vault and hashed at every opening: columns
are a function of these bytes alone, and the mark says that this account computed them. Chain, root and everything else
that is no matter of one page's form is checked each time. Verification uses no pages, and so none of this.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from auditlib.formats.layout import PAGE
from auditlib.formats.lines import Named, Page
from auditlib.formats.seal import MAX_SEAL_BYTES
from auditlib.marked import MarkedCache
from auditlib.vault.cache import cache_place

# Counts, codes and places are below 2^31: formats.seal and layout.PAGE bound them.
_KINDS = {
    **dict.fromkeys(("sequences", "sealed_at", "occurred", "recorded", "spans"), "<i8"),
    **dict.fromkeys(("events", "sizes", "trail_codes", "starts", "codes", "counts"), "<i4"),
    "uncounted": "?",
}
_PAIRS = ("occurred", "recorded", "spans")  # two numbers a row


class PageCache(MarkedCache):
    """The columns of pages by the SHA-256 of their bytes."""

    kind = "pages"
    wrong = "cached page(s) of seals were not what was written there; they were discarded and made again"
    unkept = "what pages of seals state cannot be kept in the cache, so that every opening parses them again"
    tag = b"auditlib/page/v1\n"
    most = PAGE * MAX_SEAL_BYTES  # columns take less than the bytes they were made of

    def page(self, name: str) -> Page | None:
        """The columns of the page with this SHA-256 (hex); None where they are not here."""
        data = self.get(name)
        return None if data is None else _unpacked(data)

    def keep(self, name: str, page: Page) -> None:
        """Keep what `parse_page` just made of the bytes with this SHA-256."""
        self.put(name, msgspec.msgpack.encode(_plain(page)))


def page_cache() -> PageCache | None:
    """Where columns of pages are kept for the next process; None where there is no cache."""
    place = cache_place()
    return PageCache(*place) if place else None


def _plain(columns: Page | Named) -> dict[str, Any]:
    plain = {}
    for name, value in msgspec.structs.asdict(columns).items():
        if isinstance(value, Named):
            plain[name] = _plain(value)
        else:
            plain[name] = value.astype(_KINDS[name]).tobytes() if name in _KINDS else value
    return plain


def _unpacked(data: bytes) -> Page:
    plain = msgspec.msgpack.decode(data)
    named = {name: Named(**_columns(value)) for name, value in plain.items() if isinstance(value, dict)}
    return Page(**{**_columns(plain), **named})


def _columns(plain: dict[str, Any]) -> dict[str, Any]:
    return {name: _column(name, value) if name in _KINDS else value for name, value in plain.items()}


def _column(name: str, data: bytes) -> Any:
    column = np.frombuffer(data, _KINDS[name])
    wide = column if name == "uncounted" else column.astype(np.int64)
    return wide.reshape(-1, 2) if name in _PAIRS else wide
