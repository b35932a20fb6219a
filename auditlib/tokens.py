"""Tokens: which source a sender is. One file beside the collector; it holds hashes, never a token.

    billing-api 5f1d...64 hex digits... 2026-01-08T14:32:07Z

One line a token: its source, the SHA-256 of the token, when it was made. A token is 256 random bits, so that a plain
hash of it can be neither guessed nor looked up. A source may have several, which is how one is exchanged without a
pause: add the new one, hand it out, revoke, add again.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec

from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.formats.times import format_time, parse_canonical_time
from auditlib.ownfiles import file_state, one_writer, replace_file

TOKEN_BYTES = 32  # random bytes, 256 bits
PREFIX = "auditlib_"  # so that a scanner for leaked secrets knows a token, and none starts with a dash
MAX_TOKEN_CHARS = 256  # characters of a token that is looked at; ours have 52
MAX_SOURCE_CHARS = 95  # characters; a slash and an instance of 32 fit into DESIGN 4.2's 128
MAX_FILE_BYTES = 4 * 1024 * 1024  # bytes, some 25,000 tokens
RESERVED = "auditlib"  # names of what auditlib records itself: auditlib:collector, auditlib:sealer, auditlib:import

_SOURCE = re.compile(rf"[a-z0-9_.:-]{{1,{MAX_SOURCE_CHARS}}}")  # no slash: the client's instance follows it
_HASH = re.compile(r"[0-9a-f]{64}")


class _Entry(msgspec.Struct, frozen=True):
    source: str
    sha256: str
    created_at: str


def add_token(path: Path, source: str, *, now: Callable[[], int]) -> str:
    """Make a token for `source` and keep its hash in the file (0600, made if need be); the token is shown only here.

    Raises MalformedError for a name that is none, or is reserved; then nothing is written.
    """
    check_source(source)
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    with one_writer(path, _unreadable):
        entries = _read(path) if path.exists() else []
        _write(path, [*entries, _Entry(source, _digest(token), format_time(now()))])
    return token


def revoke_tokens(path: Path, source: str) -> int:
    """Remove every token of `source`, and say how many; a running collector refuses them from its next request on."""
    with one_writer(path, _unreadable):
        entries = _read(path)
        kept = [entry for entry in entries if entry.source != source]
        if len(kept) < len(entries):
            _write(path, kept)
    return len(entries) - len(kept)


def check_source(source: str) -> str:
    """The name of a source as a token may carry it, or MalformedError."""
    if not _SOURCE.fullmatch(source):
        raise MalformedError(
            f"{source[:160]!r} is no name of a source.",
            remedy=f"Take 1 to {MAX_SOURCE_CHARS} characters of a-z 0-9 _ . : -, like billing-api.",
        )
    if source == RESERVED or source.startswith(f"{RESERVED}:"):
        raise MalformedError(f"{source!r} is reserved for what auditlib records itself.", remedy="Take another name.")
    return source


class Tokens:
    """The file of tokens as a running collector sees it: read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, int, int] | None = None
        self._entries: list[tuple[bytes, str]] = []
        self._refresh()

    def source_of(self, token: str) -> str | None:
        """The source that this token names, or None.

        Raises MalformedError or UnavailableError where the file has become unreadable: nobody is let in by what was
        read before, because that may have been revoked.
        """
        self._refresh()
        if len(token) > MAX_TOKEN_CHARS:
            return None
        given = _digest(token).encode()
        found = None
        for digest, source in self._entries:  # all of them, each in constant time: the time says nothing
            if hmac.compare_digest(digest, given):
                found = source
        return found

    def _refresh(self) -> None:
        state = file_state(self._path, _unreadable)
        if state == self._state:
            return
        self._state = None
        self._entries = [(entry.sha256.encode(), entry.source) for entry in _read(self._path)]
        self._state = state  # of before the reading: a change in between is seen the next time


def _digest(token: str) -> str:
    return sha256(token.encode(errors="surrogatepass")).hexdigest()


def _read(path: Path) -> list[_Entry]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(data) > MAX_FILE_BYTES:
        raise MalformedError(f"past {MAX_FILE_BYTES:,} bytes, this is no file of tokens.", where=str(path))
    entries = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if line.strip():
            try:
                entries.append(_entry(line))
            except AuditlibError as error:
                raise error.at(f"{path}:{number}") from None
    return entries


def _entry(line: str) -> _Entry:
    words = line.split()
    if len(words) != 3 or not _HASH.fullmatch(words[1]):
        raise MalformedError(  # the line is not shown: somebody may have put a token into it
            "no token stands here.", remedy="Remove the line and run `auditlib token add` again."
        )
    parse_canonical_time(words[2])
    return _Entry(check_source(words[0]), words[1], words[2])


def _write(path: Path, entries: list[_Entry]) -> None:
    text = "".join(f"{entry.source} {entry.sha256} {entry.created_at}\n" for entry in entries)
    replace_file(path, text.encode(), _unreadable)


def _unreadable(path: Path, error: OSError, what: str = "read") -> UnavailableError:
    return UnavailableError(
        f"the file of tokens cannot be {what} ({error.strerror}).",
        where=str(path),
        remedy="Make it with `auditlib token add SOURCE --tokens FILE`, and give its owner the right to it.",
    )
