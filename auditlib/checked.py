"""What was read in depth before, so that verifying again costs what is new and a part of the rest.

    {"batches":[{"checked_at":"2026-03-01T06:00:00Z","first":0,"last":41}],"checkpoint":"acme.example/audit\\n42\\n...",
     "format":"auditlib/checked/v1","mac":"<hex>","next":17,"pulse":{...},"vault":"s3://acme-audit/trail"}

`batches` says which were last read when; `checkpoint` is the signed note that the next verification must extend (check
1); `next` is the batch at which the rolling re-check goes on; `pulse` is what check 9 needs of the batches before.
`mac` is HMAC-SHA256 (RFC 2104) over the format's line and the canonical text without it, under the local key: nobody
else can claim that a batch was read. An older state of one's own is true as well, and costs more reading.

The file is put in the old one's place whole, after a verification without an error, and never otherwise: a fault that
was found is found again by the next one.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from auditlib.batches import Turn
from auditlib.errors import MalformedError, UnavailableError
from auditlib.findings import Stretch
from auditlib.formats.canonical import canonical
from auditlib.formats.times import format_time
from auditlib.localkey import local_key
from auditlib.ownfiles import replace_file
from auditlib.pipeline import Pulse
from auditlib.vault import Vault, is_remote

RECHECK_EVENTS = 1_000_000  # events of old batches that are read again each time: some seconds
MAX_STATE_BYTES = 4 * 1024**2  # past it the pulse is left out
MAX_STRETCHES = 1000  # kept apart; past it neighbours are joined under the older date
_FORMAT: Literal["auditlib/checked/v1"] = "auditlib/checked/v1"


class Checked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One state file."""

    batches: list[Stretch]
    checkpoint: str
    format: Literal["auditlib/checked/v1"]
    mac: str
    next: int
    pulse: Pulse | None
    vault: str

    @property
    def size(self) -> int:
        """How many batches it tells of, from the first on."""
        return self.batches[-1].last + 1


def read_checked(path: Path, vault: Vault) -> Checked | None:
    """The state in the file, None where there is no file yet.

    MalformedError where this account on this machine did not write it, or wrote it of another vault; UnavailableError
    where it cannot be read, or no state could be put there afterwards.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_STATE_BYTES + 1)
    except FileNotFoundError:
        data = None
    except OSError as error:
        raise _unusable(path, error, "read") from None
    if not os.access(path.parent, os.W_OK):
        raise UnavailableError("no state can be written there.", where=str(path), remedy="Name another --state.")
    if data is None:
        return None
    try:
        found = msgspec.json.decode(data, type=Checked)
        fits = len(data) <= MAX_STATE_BYTES and canonical(msgspec.to_builtins(found)) == data
    except (msgspec.MsgspecError, MalformedError, UnicodeError, RecursionError):
        fits = False
    if not fits or not hmac.compare_digest(found.mac.encode(), _mac(found).encode()):
        raise _refused(path, "this state was not written by this account on this machine")
    if found.vault != _place(vault):
        raise _refused(path, f"this state is of another vault, {found.vault}")
    return found


def write_checked(
    path: Path, vault: Vault, batches: Sequence[Stretch], checkpoint: bytes, next_: int, pulse: Pulse | None
) -> None:
    """Put the state in the file's place, 0600; without the pulse where that would make it too large."""
    place, note = _place(vault), checkpoint.decode()
    state = Checked(list(batches), note, _FORMAT, "", next_, pulse, place)
    data = canonical(msgspec.to_builtins(msgspec.structs.replace(state, mac=_mac(state))))
    if len(data) > MAX_STATE_BYTES and pulse is not None:
        write_checked(path, vault, batches, checkpoint, next_, None)
        return
    replace_file(path, data, _unusable)


def turn_of(before: Checked | None, events: Sequence[int], recheck: int) -> tuple[Turn, int]:
    """What is to be read now of batches with so many events each, and where the next re-check goes on.

    That is every new batch, and of those before as many as hold `recheck` events, at least one if it is not 0.
    """
    if before is None:
        return Turn((range(len(events)),)), 0
    known, read, at = before.size, 0, before.next
    due: list[range] = []
    while read < recheck and sum(map(len, due)) < known:
        start = at
        while at < known and read < recheck and sum(map(len, due)) + at - start < known:
            read += events[at]
            at += 1
        due.append(range(start, at))
        at %= known
    return Turn((*sorted(due, key=lambda each: each.start), range(known, len(events))), known, before.pulse), at


def stretches_after(before: Iterable[Stretch], turn: Turn, now: int) -> list[Stretch]:
    """Which batches were last read when, now that those of this turn have been (`now`: microseconds since 1970 UTC)."""
    fresh = [Stretch(each.start, each.stop - 1, format_time(now)) for each in turn.ranges if each]
    pieces = sorted([*fresh, *_rest(before, turn)], key=lambda each: each.first)
    joined: list[Stretch] = []
    for piece in pieces:
        if joined and joined[-1].checked_at == piece.checked_at:
            joined[-1] = Stretch(joined[-1].first, piece.last, piece.checked_at)
        else:
            joined.append(piece)
    while len(joined) > MAX_STRETCHES:
        pairs = zip(joined[::2], joined[1::2], strict=False)
        halved = [Stretch(a.first, b.last, min(a.checked_at, b.checked_at)) for a, b in pairs]
        joined = halved + joined[len(joined) & ~1 :]
    return joined


def _rest(before: Iterable[Stretch], turn: Turn) -> Iterator[Stretch]:
    """What of these stretches it is not the turn of."""
    for stretch in before:
        first = stretch.first
        for each in sorted(turn.ranges, key=lambda each: each.start):
            if each and first <= stretch.last and each.start <= stretch.last and first < each.stop:
                if first < each.start:
                    yield Stretch(first, each.start - 1, stretch.checked_at)
                first = each.stop
        if first <= stretch.last:
            yield Stretch(first, stretch.last, stretch.checked_at)


def _mac(state: Checked) -> str:
    fields: dict[str, Any] = msgspec.to_builtins(state)
    del fields["mac"]
    return hmac.digest(local_key(), f"{_FORMAT}\n".encode() + canonical(fields), "sha256").hex()


def _place(vault: Vault) -> str:
    return vault.url if is_remote(vault) else str(Path(vault.url).resolve())


def _refused(path: Path, why: str) -> MalformedError:
    remedy = "Name another --state, or delete it: then everything is read once more."
    return MalformedError(f"{why}.", where=str(path), remedy=remedy)


def _unusable(path: Path, error: OSError, done: str) -> UnavailableError:
    return UnavailableError(f"the state cannot be {done} ({error.strerror}).", where=str(path))
