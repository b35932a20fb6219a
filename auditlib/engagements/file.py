"""engagements.toml on disk: read when it has changed, added to, revoked in.

What a person wrote stays byte for byte: an engagement is added at the end, a revocation is put right after its
`[[engagements]]` line. The new text is read back before it takes the old one's place; renaming it is the commit:
before it the old file stands, after it the new one.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec

from auditlib.engagements.model import Engagement, check_engagement
from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.formats.times import format_time
from auditlib.ownfiles import file_state, one_writer, replace_file
from auditlib.tomlfiles import MAX_TOML_BYTES, parse_toml, to_struct

ENGAGEMENTS_FORMAT = "auditlib/engagements/v1"
MAX_ENGAGEMENTS = 1_000

_HEADER = re.compile(rb"^[ \t]*\[\[[ \t]*engagements[ \t]*\]\][ \t]*(#[^\n]*)?\r?$", re.MULTILINE)


class Engagements:
    """The file as a running server sees it: read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, int, int] | None = None
        self._known: tuple[Engagement, ...] = ()
        self._lock = threading.Lock()
        self.all()

    def all(self) -> tuple[Engagement, ...]:
        """Every engagement in the file, revoked and expired ones too.

        Raises MalformedError or UnavailableError where the file has become unreadable: nobody is let in by what was
        read before, because that may have been revoked.
        """
        with self._lock:
            state = file_state(self._path, _unusable)
            if state != self._state:
                self._state = None
                self._known = read_engagements(self._path)
                self._state = state  # of before the reading: a change in between is seen the next time
            return self._known

    def find(self, engagement_id: str) -> Engagement | None:
        """The engagement with this id as it stands now; None where it is gone."""
        return next((engagement for engagement in self.all() if engagement.id == engagement_id), None)


def read_engagements(path: Path) -> tuple[Engagement, ...]:
    """The engagements in a file. MalformedError that names the engagement and the field."""
    try:
        return _parse(_bytes(path))
    except MalformedError as error:
        raise error.at(str(path)) from None


def add_engagement(path: Path, engagement: Engagement) -> None:
    """Write an engagement at the end of the file (0600, made if need be).

    MalformedError, and nothing written, where the id is taken or the engagement is none.
    """
    with one_writer(path, _unusable):
        old = _bytes(path) if path.exists() else f'format = "{ENGAGEMENTS_FORMAT}"\n'.encode()
        known = _read(path, old)
        if any(engagement.id.lower() == other.id.lower() for other in known):
            raise MalformedError(f"there is an engagement {engagement.id!r} already.", where=str(path))
        engagement = check_engagement(to_struct(msgspec.to_builtins(engagement), Engagement, engagement.id))
        new = old + (b"" if old.endswith(b"\n") else b"\n") + b"\n" + _block(engagement)
        _replace(path, new, (*known, engagement))


def revoke_engagement(path: Path, engagement_id: str, *, by: str, reason: str, now: Callable[[], int]) -> Engagement:
    """Revoke an engagement; it takes effect with the next reading of the file. Returns it as it stands then.

    MalformedError, and nothing written, where there is none, or it is revoked already.
    """
    with one_writer(path, _unusable):
        old = _bytes(path)
        known = _read(path, old)
        place = next((number for number, engagement in enumerate(known) if engagement.id == engagement_id), None)
        if place is None:
            raise MalformedError(f"there is no engagement {engagement_id[:80]!r}.", where=str(path))
        if known[place].revoked_at is not None:
            raise MalformedError(f"{engagement_id} was revoked at {known[place].revoked_at} already.", where=str(path))
        told = {"revoked_at": format_time(now()), "revoked_by": by, **({"reason": reason} if reason else {})}
        revoked = to_struct({**msgspec.to_builtins(known[place]), **told}, Engagement, engagement_id)
        headers = list(_HEADER.finditer(old))
        if len(headers) != len(known):
            raise _by_hand(path)
        at = headers[place].end()
        lines = "".join(f"\n{name} = {_toml(value)}" for name, value in told.items())
        new = old[:at] + lines.encode() + old[at:]
        _replace(path, new, (*known[:place], revoked, *known[place + 1 :]))
        return revoked


def _parse(data: bytes) -> tuple[Engagement, ...]:
    given = parse_toml(data, ENGAGEMENTS_FORMAT, ("engagements",)).get("engagements", [])
    if not isinstance(given, list) or len(given) > MAX_ENGAGEMENTS:
        raise MalformedError(f"there may be up to {MAX_ENGAGEMENTS:,} [[engagements]].", where="engagements")
    known: list[Engagement] = []
    taken: set[str] = set()
    for number, table in enumerate(given):
        place = f"engagements[{number}]"
        plain = {name: _plain(value) for name, value in table.items()} if isinstance(table, dict) else table
        engagement = to_struct(plain, Engagement, place)
        try:
            known.append(check_engagement(engagement))
        except MalformedError as error:
            raise error.at(f"{place} ({engagement.id[:80]})") from None
        if engagement.id.lower() in taken:
            raise MalformedError(f"another engagement is called {engagement.id!r}.", where=place)
        taken.add(engagement.id.lower())
    return tuple(known)


def _plain(value: Any) -> Any:
    """TOML's own days and times as text, which is read as strictly as any other."""
    return value.isoformat() if isinstance(value, date | datetime) else value


def _read(path: Path, data: bytes) -> tuple[Engagement, ...]:
    try:
        return _parse(data)
    except MalformedError as error:
        raise error.at(str(path)) from None


def _block(engagement: Engagement) -> bytes:
    lines = [f"{name} = {_toml(value)}\n" for name, value in msgspec.to_builtins(engagement).items()]
    return ("[[engagements]]\n" + "".join(lines)).encode()


def _toml(value: Any) -> str:
    """Texts without control characters, numbers, lists of them: there JSON is TOML."""
    try:
        return json.dumps(value, ensure_ascii=False).encode().decode()
    except UnicodeEncodeError:
        raise MalformedError("a value is no valid text (UTF-8).") from None


def _by_hand(path: Path) -> MalformedError:
    return MalformedError(
        "it is not laid out as [[engagements]] tables that can be edited.", where=str(path), remedy="Edit it by hand."
    )


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOML_BYTES + 1)
    except OSError as error:
        raise _unusable(path, error, "read") from None


def _replace(path: Path, data: bytes, expected: tuple[Engagement, ...]) -> None:
    """Write the new text if it reads as expected; whole, durable, and for its owner alone."""
    try:
        found = _parse(data)
    except AuditlibError as error:
        raise error.at(str(path)) from None
    if found != expected:
        raise _by_hand(path)
    replace_file(path, data, _unusable)


def _unusable(path: Path, error: OSError, what: str) -> UnavailableError:
    return UnavailableError(
        f"the file of engagements cannot be {what} ({error.strerror}).",
        where=str(path),
        remedy="Make it with `auditlib engagement add ... --engagements FILE`, and give its owner the right to it.",
    )
