"""Local accounts: names and Argon2id hashes of passwords, in one file that only its owner reads (0600).

    format = "auditlib/accounts/v1"

    [[accounts]]
    name = "ines@auditor.example"
    hash = "$argon2id$v=19$m=65536,t=3,p=4$..."
    set_at = "2026-06-28T09:12:00Z"

The file is written by `auditlib account` and by a sign-in that renews a hash made with older parameters; comments in it
are not kept. `set_at` is when the password was set: a sign-in from before it holds no more.
"""

from __future__ import annotations

import json
import os
import threading
import unicodedata
from collections.abc import Callable
from pathlib import Path

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from auditlib.engagements.model import Line
from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.formats.times import format_time, parse_time
from auditlib.ownfiles import file_state, one_writer, replace_file
from auditlib.tomlfiles import MAX_TOML_BYTES, parse_toml, to_struct

ACCOUNTS_FORMAT = "auditlib/accounts/v1"
MAX_ACCOUNTS = 1_000  # as many as there may be engagements
MIN_PASSWORD_CHARS = 12  # characters; NIST SP 800-63B-4 3.1.1.2 asks for 8, and for 15 where nothing else is asked
MAX_PASSWORD_CHARS = 256  # characters; the same requires that at least 64 be allowed


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """One account. `hash` is PHC text by argon2-cffi, which names its own parameters; `set_at` is RFC 3339."""

    name: Line
    hash: Line
    set_at: Line


class Accounts:
    """The file as a running server sees it: read again whenever it has changed. Safe to call from several threads."""

    def __init__(self, path: Path, *, hasher: PasswordHasher | None = None) -> None:
        """`hasher`: argon2-cffi's own defaults, RFC 9106's second recommended option (64 MiB), unless given."""
        self._path = path
        self._hasher = hasher or PasswordHasher()
        self._dummy = self._hasher.hash(os.urandom(32))  # what a password is compared with where there is no account
        self._lock = threading.Lock()
        self._state: tuple[int, int, int] | None = None
        self._known: dict[str, Account] = {}
        self._look()

    def known(self, name: str) -> bool:
        """Whether there is an account of this name now."""
        return name in self._look()

    def verify(self, name: str, password: str) -> bool:
        """Whether this is the password of this account: one Argon2 verification, be there such an account or not.

        Raises MalformedError or UnavailableError where the file has become unreadable: nobody is let in then.
        """
        account = self._look().get(name)
        usable = 0 < len(password) <= MAX_PASSWORD_CHARS
        given = normal(password) if usable else ""
        try:
            self._hasher.verify(account.hash if account else self._dummy, given)
        except (VerificationError, InvalidHashError):
            return False
        return account is not None and usable

    def renew(self, name: str, password: str) -> None:
        """After a right password: make its hash anew where it was made with other parameters than today's.

        Where the file cannot be written the old hash stays, and the next sign-in tries again.
        """
        account = self._look().get(name)
        if account is None or not self._hasher.check_needs_rehash(account.hash):
            return
        fresh = Account(name=account.name, hash=self._hasher.hash(normal(password)), set_at=account.set_at)
        try:
            with one_writer(self._path, _unusable):
                _write(self._path, [fresh if other == account else other for other in _read(self._path)])
        except UnavailableError:
            return

    def stands(self, name: str, since: int) -> bool:
        """Whether what was begun with this account at `since` (microseconds) still holds: not removed, not set anew."""
        account = self._look().get(name)
        return account is not None and parse_time(account.set_at) <= since

    def _look(self) -> dict[str, Account]:
        with self._lock:
            state = file_state(self._path, _unusable)
            if state != self._state:
                self._state = None
                self._known = {account.name: account for account in _read(self._path)}
                self._state = state  # of before the reading: a change in between is seen the next time
            return self._known


def read_accounts(path: Path) -> list[Account]:
    """The accounts in a file, in its order. MalformedError that names the place; UnavailableError."""
    return _read(path)


def set_password(path: Path, name: str, password: str, *, new: bool, now: Callable[[], int]) -> None:
    """Write an account (`new`: it must not be there yet; else it must be), making the file (0600) if need be.

    MalformedError, and nothing written, for a name or a password that cannot be one, or where `new` does not fit.
    """
    check_password(name, password)
    with one_writer(path, _unusable):
        known = _read(path) if path.exists() else []
        there = any(account.name == name for account in known)
        if new and there:
            remedy = "Set another password with `auditlib account password`."
            raise MalformedError(f"there is an account {name[:80]!r} already.", where=str(path), remedy=remedy)
        if not new and not there:
            raise _nobody(path, name)
        made = {"name": name, "hash": PasswordHasher().hash(normal(password)), "set_at": format_time(now())}
        account = to_struct(made, Account, "account")
        _write(path, [*(other for other in known if other.name != name), account])


def remove_account(path: Path, name: str) -> None:
    """Take an account away; who is signed in with it is signed out with the next click. MalformedError without one."""
    with one_writer(path, _unusable):
        known = _read(path)
        kept = [account for account in known if account.name != name]
        if len(kept) == len(known):
            raise _nobody(path, name)
        _write(path, kept)


def check_password(name: str, password: str) -> None:
    """MalformedError for a password that nobody should have; it never stands in the message."""
    size = len(normal(password))
    if size < MIN_PASSWORD_CHARS or len(password) > MAX_PASSWORD_CHARS:
        raise MalformedError(
            f"a password has {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters; this one has {size:,}.",
            remedy="Take several words that do not belong together.",
        )
    if not password.isprintable():
        raise MalformedError("a password has no line breaks, tabs or other control characters.")
    if len(name) > 3 and name.casefold() in password.casefold():
        raise MalformedError("the name stands in the password.", remedy="Take another one.")


def normal(password: str) -> str:
    """NFC, so that every keyboard gives the same password (RFC 8265 4.2.2)."""
    return unicodedata.normalize("NFC", password)


def _nobody(path: Path, name: str) -> MalformedError:
    return MalformedError(f"there is no account {name[:80]!r}.", where=str(path))


def _read(path: Path) -> list[Account]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOML_BYTES + 1)
    except OSError as error:
        raise _unusable(path, error, "read") from None
    try:
        return _parse(data)
    except AuditlibError as error:
        raise error.at(str(path)) from None


def _parse(data: bytes) -> list[Account]:
    given = parse_toml(data, ACCOUNTS_FORMAT, ("accounts",)).get("accounts", [])
    if not isinstance(given, list) or len(given) > MAX_ACCOUNTS:
        raise MalformedError(f"there may be up to {MAX_ACCOUNTS:,} [[accounts]].", where="accounts")
    accounts: dict[str, Account] = {}
    for number, table in enumerate(given):
        where = f"accounts[{number}]"
        account = to_struct(table, Account, where)
        if not account.hash.startswith("$argon2id$"):  # it is not shown: it may be a password
            raise MalformedError("no Argon2id hash stands here.", where=where, remedy="Use `auditlib account add`.")
        try:
            parse_time(account.set_at)
        except MalformedError as error:
            raise error.at(where) from None
        if account.name in accounts:
            raise MalformedError(f"another account is called {account.name[:80]!r}.", where=where)
        accounts[account.name] = account
    return list(accounts.values())


def _write(path: Path, accounts: list[Account]) -> None:
    lines = [f'format = "{ACCOUNTS_FORMAT}"\n']
    for account in accounts:
        fields = (f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in _fields(account))
        lines.append("\n[[accounts]]\n" + "".join(fields))  # texts without control characters: there JSON is TOML
    data = "".join(lines).encode()
    if _parse(data) != accounts:
        raise MalformedError("an account cannot be written as it is.", where=str(path))
    replace_file(path, data, _unusable)


def _fields(account: Account) -> list[tuple[str, str]]:
    return [("name", account.name), ("hash", account.hash), ("set_at", account.set_at)]


def _unusable(path: Path, error: OSError, what: str) -> UnavailableError:
    return UnavailableError(
        f"the file of accounts cannot be {what} ({error.strerror}).",
        where=str(path),
        remedy="Make it with `auditlib account add NAME --accounts FILE`, and give its owner the right to it.",
    )
