"""The vaults that a packet is made from, opened: one trail, or several (see `evidence.across`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from auditlib.errors import MalformedError
from auditlib.evidence.across import Trails, open_trails
from auditlib.keyfiles import load_verifier_keys
from auditlib.trail import Keys, Trail
from auditlib.trail import open as open_trail


class Vault(NamedTuple):
    """A vault's place, the keys it is read with, and the size of the checkpoint to read it at; None: the newest."""

    place: str
    keys: Keys = None
    at: int | None = None


@contextmanager
def open_vaults(vaults: Sequence[Vault]) -> Iterator[Trail | Trails]:
    """The trail of one vault, or those of several. Raises as `auditlib.open` does."""
    places = [(vault.place, load_verifier_keys(vault.keys)) for vault in vaults]
    sizes = [vault.at for vault in vaults]
    if len({bool(keys) for _, keys in places}) > 1:  # one list of keys reaches the notebook
        raise MalformedError(
            "some of the trails have a verifier key and others have none.", remedy="Give a key for each, or none."
        )
    if len(places) > 1:
        with open_trails(places, sizes) as trails:
            yield trails
    else:
        with open_trail(places[0][0], keys=places[0][1], at=sizes[0]) as trail:
            yield trail


def trails_of(trail: Trail | Trails) -> list[Trail]:
    """The one, or all of them, in byte order of their origins."""
    return trail.trails if isinstance(trail, Trails) else [trail]
