"""The spool folder of one application: which instances there are, and which of them no process holds.

    spool/7f3a9c01/  spool/b2210d4e/     one each for the processes that ran at the same time

A starting process goes on with the first instance that is free, and so with its numbers; what ended processes have
left unsent is sent by those that run. One application, one folder: another one would send the events as its own.
An instance's folder is never removed, and must not be copied: its numbers would be used twice.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from auditlib.client.lines import segment_name, segments_of
from auditlib.client.spool import Spool
from auditlib.errors import MalformedError, UnavailableError

_NEW_INSTANCES = 100  # random names tried before giving up
_INSTANCE = re.compile(r"[0-9a-f]{8}")


class Folder:
    """A spool folder: the instances of one application on this machine."""

    def __init__(self, path: Path, *, disk: bool, limit: int) -> None:
        """Make the folder (0700), or MalformedError where others can write into it, UnavailableError where it fails."""
        self.path = path
        self._disk, self._limit = disk, limit
        self._drained: dict[str, tuple[int, int]] = {}  # instance -> its last file and size when nothing was to be sent
        with self._usable():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = path.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise MalformedError(
                "others can write into the audit spool.",
                where=str(path),
                remedy="Give the client a folder of its own user with mode 0700.",
            )

    def claim(self, report: Callable[[str], None]) -> Spool:
        """An instance that no process holds, so that its numbers go on; else a new one."""
        with self._usable():
            for name in self._instances():
                if spool := self._hold(self.path / name, report):
                    return spool
            for _ in range(_NEW_INSTANCES):
                home = self.path / secrets.token_hex(4)
                with suppress(FileExistsError):
                    home.mkdir(mode=0o700)
                    if spool := self._hold(home, report):
                        _sync_folder(self.path)
                        return spool
        raise UnavailableError("no new instance could be made.", where=str(self.path))

    def leftovers(self, report: Callable[[str], None]) -> Iterator[Spool]:
        """The instances that no process holds and that have events to send; the caller sends, and closes each."""
        with self._usable():
            for name in self._instances():
                home = self.path / name
                segments = segments_of(home)
                if not segments:
                    continue
                state = segments[-1], (home / segment_name(segments[-1])).stat().st_size
                # Not held again and again for nothing: a process that starts just then would make a new instance.
                if self._drained.get(name) == state:
                    continue
                if spool := self._hold(home, report):
                    if spool.last > spool.sent:
                        yield spool
                    else:
                        self._drained[name] = state
                        spool.close()

    def _hold(self, home: Path, report: Callable[[str], None]) -> Spool | None:
        descriptor = os.open(home / "sent", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Spool(home, descriptor, disk=self._disk, limit=self._limit, report=report)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise

    def _instances(self) -> list[str]:
        return sorted(entry.name for entry in self.path.iterdir() if _INSTANCE.fullmatch(entry.name))

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnavailableError(
                f"the audit spool cannot be used ({error.strerror}).",
                where=str(error.filename or self.path),
                remedy="Give the client a spool folder on this machine that it can read and write.",
            ) from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
