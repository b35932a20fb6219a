"""Changes of a trail's keys and catalogue: trail document n+1, in force from the seal that tells of the change.

    rotate      a new key signs from here on; the checkpoint over the change carries both signatures
    retire      a key signs no more; one that was stolen is retired with the time from which it is not believed
    catalogue   other rules for actions

Each stands in a batch of its own, as a `key.rotate`, `key.retire` or `catalog.change` event. Running one again
finishes what a crash left, and changes nothing where it was done already.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from auditlib.announce import own_record
from auditlib.errors import MalformedError
from auditlib.formats import layout
from auditlib.formats.catalog import Catalog
from auditlib.formats.checkpoint import MAX_NOTE_BYTES
from auditlib.formats.document import Document, document_bytes, document_hash
from auditlib.formats.event import Actor, Record, Target
from auditlib.formats.keys import SigningKey, VerifierKey
from auditlib.formats.times import format_time
from auditlib.sealer import Sealer, open_sealer
from auditlib.state import SealerState
from auditlib.vault import Vault

Now = Callable[[], int]  # microseconds since 1970 UTC


def rotate_key(vault: Vault, old: SigningKey, new: SigningKey, states: Path, *, who: str, now: Now) -> Document:
    """Bring a new key into force; the old one may sign until it is retired. `states` holds the sealers' memories."""
    if new.name != old.name:
        raise MalformedError(f"the new key is of {new.name}, the trail of {old.name}.", remedy="Make it with keygen.")
    if new.verifier == old.verifier:
        raise MalformedError("the new key is the old one.", remedy="Make another with `auditlib keygen`.")
    with open_sealer(vault, old, SealerState(states, old.verifier), now=now, amending=[new]) as sealer:
        if str(new.verifier) not in sealer.document.keys:
            context = {"new_key": str(new.verifier), "old_key": str(old.verifier)}
            document = _following(sealer, keys=(str(new.verifier), *sealer.document.keys))
            sealer.amend(document, _record(sealer, "key.rotate", context, who, now))
        note = vault.get(layout.checkpoint_key(sealer.size), MAX_NOTE_BYTES)
        document = sealer.document
    state = SealerState(states, new.verifier)
    with state.lock():  # the new key remembers where the old one came to
        if state.last() is None:
            state.remember(note)
    return document


def retire_key(
    vault: Vault,
    key: SigningKey,
    retired: VerifierKey,
    state: SealerState,
    *,
    who: str,
    now: Now,
    compromised_since: int | None = None,
) -> Document:
    """Take a key out of force; `compromised_since` (microseconds) says from when on its signatures prove nothing."""
    if retired == key.verifier:
        raise MalformedError(
            "a key cannot retire itself: no other would be left to sign.", remedy="Rotate to a new key first."
        )
    with open_sealer(vault, key, state, now=now, amending=[]) as sealer:
        if str(retired) in sealer.document.keys:
            context = {"key": str(retired)}
            if compromised_since is not None:
                context["compromised_since"] = format_time(compromised_since)
            kept = tuple(name for name in sealer.document.keys if name != str(retired))
            sealer.amend(_following(sealer, keys=kept), _record(sealer, "key.retire", context, who, now))
        return sealer.document


def change_catalog(
    vault: Vault, key: SigningKey, catalog: Catalog, state: SealerState, *, who: str, now: Now
) -> Document:
    """Put another catalogue in force for what is sealed from here on; what was sealed stays under its own."""
    with open_sealer(vault, key, state, now=now, amending=[]) as sealer:
        if sealer.document.catalog != catalog.sha256:
            context = {"new_catalog": catalog.sha256, "old_catalog": sealer.document.catalog}
            record = _record(sealer, "catalog.change", context, who, now)
            sealer.amend(_following(sealer, catalog=catalog.sha256), record, catalog)
        return sealer.document


def _following(sealer: Sealer, **changes: Any) -> Document:
    previous = document_hash(document_bytes(sealer.document))
    return msgspec.structs.replace(sealer.document, n=sealer.document.n + 1, previous=previous, **changes)


def _record(sealer: Sealer, action: str, context: dict[str, Any], who: str, now: Now) -> Record:
    return own_record(action, Actor(who, None, "user"), Target(sealer.document.origin, "trail"), context, now())
