"""The trails that requests are asked of: opened once, so that all of them are answered at one checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from auditlib.errors import AuditlibError
from auditlib.formats.keys import VerifierKey
from auditlib.keyfiles import load_verifier_keys
from auditlib.packet.vaults import Vault
from auditlib.requests.model import Place, Request, RequestList
from auditlib.trail import Trail
from auditlib.trail import open as open_trail


class Source(msgspec.Struct, frozen=True):
    """A vault and the keys it is read with, as texts that reach another process."""

    vault: str
    keys: tuple[str, ...]

    def open(self, at: int | None = None) -> Trail:
        """The trail, checks 0 to 4 made."""
        return open_trail(self.vault, keys=load_verifier_keys(self.keys), at=at)


class Opened(msgspec.Struct, frozen=True):
    """A trail as it was found: its origin, and the size of its newest checkpoint."""

    source: Source
    origin: str
    size: int

    @property
    def vault(self) -> Vault:
        """The vault, to be read at this checkpoint."""
        return Vault(self.source.vault, load_verifier_keys(self.source.keys), self.size)


Places = dict[str | None, Opened | AuditlibError]  # by the trail's name; None is the one on the command line


def source_of(vault: str, keys: Iterable[str | Path | VerifierKey] | None) -> Source:
    """The vault and keys of the command line."""
    return Source(vault, tuple(map(str, load_verifier_keys(keys))))


def source_at(place: Place, folder: Path) -> Source:
    """The vault and keys of a [trails.NAME] table, whose paths begin at the list's folder."""
    vault = place.vault if "://" in place.vault else str(folder / place.vault)
    keys = [] if place.key is None else [place.key if "+" in place.key else folder / place.key]
    return source_of(vault, keys)


def open_places(listed: RequestList, chosen: Sequence[Request], given: Source | None) -> Places:
    """Open every trail that these requests are asked of, once; without `given`, not that of the command line.

    Every request on a trail is answered at the checkpoint found here, whatever is sealed meanwhile.
    """
    found: Places = {}
    for trail in dict.fromkeys(trail for request in chosen for trail in request.asked_of):
        try:
            source = given if trail is None else source_at(listed.trails[trail], listed.folder)
            if source is not None:
                with source.open() as opened:
                    found[trail] = Opened(source, opened.origin, opened.checkpoint.size)
        except AuditlibError as error:
            found[trail] = error
    return found
