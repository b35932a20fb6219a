"""What the sealer remembers outside the vault: its last checkpoint, its id index, and that it is the only one.

    <state>/acme.example_audit-cd0ca78c/
      checkpoint     the last checkpoint it signed, byte for byte
      position       how far the store is sealed; where it is lost, everything is read again and repeats are dropped
      ids.sqlite     see ids.py; safe to delete
      holder         its name for the store's lease
      lock           held while sealing

Whoever can cut the vault's tail cannot also reach this, if it lies on another machine or under another user.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from auditlib.errors import MalformedError, MismatchError, UnavailableError
from auditlib.formats.checkpoint import Checkpoint, parse_checkpoint
from auditlib.formats.keys import VerifierKey


def default_state() -> Path:
    """`$AUDITLIB_STATE`, else `auditlib` below `$XDG_STATE_HOME` or `~/.local/state` (XDG base directories)."""
    chosen = os.environ.get("AUDITLIB_STATE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "auditlib"


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last record of a store that is sealed: the store's identity, the place, the SHA-256 of the record there."""

    identity: str
    position: int
    digest: str


class SealerState:
    """One sealer's memory, for one origin and key."""

    def __init__(self, root: Path, key: VerifierKey) -> None:
        self._key = key
        self.folder = root / f"{key.name.replace('/', '_')}-{key.hash.hex()}"
        self.ids = self.folder / "ids.sqlite"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lease of the direct form: UnavailableError where another sealer has it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unavailable(error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._fresh.open("ab").close()  # that it can be written is found out before anything is sealed
        except BlockingIOError:
            os.close(descriptor)
            raise UnavailableError(
                f"another sealer of {self._key.name} is at work.",
                where=str(self.folder),
                remedy="Try again when it is done.",
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise self._unavailable(error) from None
        try:
            yield
        finally:
            os.close(descriptor)

    def last(self) -> Checkpoint | None:
        """The last checkpoint signed, or None before the first."""
        path = self.folder / "checkpoint"
        try:
            return parse_checkpoint(path.read_bytes(), [self._key])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unavailable(error) from None
        except (MalformedError, MismatchError) as error:
            raise error.at(str(path)) from None

    def remember(self, checkpoint: bytes) -> None:
        """Keep the checkpoint durably; it replaces the one before."""
        self._keep("checkpoint", checkpoint)

    def position(self) -> Position | None:
        """How far the store is sealed; None where it is not known, or what is kept cannot be read."""
        try:
            return msgspec.json.decode((self.folder / "position").read_bytes(), type=Position)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        except OSError as error:
            raise self._unavailable(error) from None

    def remember_position(self, position: Position) -> None:
        """Keep it durably; it replaces the one before."""
        self._keep("position", msgspec.json.encode(position))

    def holder(self) -> str:
        """The name under which a store's lease is taken: random, made once. Who has it holds this folder's lock."""
        try:
            if not (self.folder / "holder").exists():
                self._keep("holder", secrets.token_hex(16).encode())
            return f"{self._key.name} {(self.folder / 'holder').read_text()}"
        except OSError as error:
            raise self._unavailable(error) from None

    def _keep(self, name: str, data: bytes) -> None:
        try:
            with self._fresh.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._fresh.replace(self.folder / name)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._unavailable(error) from None

    @property
    def _fresh(self) -> Path:
        return self.folder / "fresh"

    def _unavailable(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"the sealer's memory cannot be used ({error.strerror}).",
            where=str(self.folder),
            remedy="Set AUDITLIB_STATE to a folder that can be read and written.",
        )
