"""Lines that are only ever added to a file on this machine (0600), each whole or not there.

A crash in the middle of a line leaves one without an end, whose append() never returned: it is not read, and the next
append ends it, so that it becomes one line that nobody can read and not the beginning of another. Nothing is deleted.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from auditlib.errors import UnavailableError

MAX_LINE_BYTES = 128 * 1024  # bytes of one line; longer ones are not written, and skipped where they stand


class Appended:
    """One such file, for the threads of one process. `durable`: what returned survives a power cut."""

    def __init__(self, path: Path, *, limit: int, durable: bool) -> None:
        """`limit` is the most bytes that the file may have. The folder must be there; the file is made when needed."""
        self.path = path
        self._limit, self._durable = limit, durable
        self._lock = threading.Lock()

    def append(self, line: bytes) -> None:
        """Add a line without line breaks. UnavailableError, and nothing kept, where it does not fit or fails."""
        if len(line) > MAX_LINE_BYTES:
            raise UnavailableError(f"a line of {len(line):,} bytes is past {MAX_LINE_BYTES:,}.", where=str(self.path))
        with self._lock:
            try:
                self._append(line + b"\n")
            except OSError as error:
                raise self._unavailable(error, "written") from None

    def lines(self) -> Iterator[bytes]:
        """The lines from the oldest on, without their ends; what has no end is not one."""
        try:
            with self.path.open("rb") as file:
                whole = True
                while part := file.readline(MAX_LINE_BYTES + 1):
                    ended = part.endswith(b"\n")
                    if whole and ended:
                        yield part[:-1]
                    whole = ended
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._unavailable(error, "read") from None

    def size(self) -> int:
        """Its bytes; 0 where it is not there."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._unavailable(error, "read") from None

    def _append(self, data: bytes) -> None:
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data
            if size + len(data) > self._limit:
                raise UnavailableError(
                    f"the file has reached its limit of {self._limit:,} bytes.",
                    where=str(self.path),
                    remedy="Move it to where it is kept, and go on with a new one.",
                )
            try:
                if os.write(descriptor, data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if self._durable:
                    os.fsync(descriptor)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if self._durable and not size:
            _sync_folder(self.path.parent)

    def _unavailable(self, error: OSError, what: str) -> UnavailableError:
        return UnavailableError(
            f"cannot be {what} ({error.strerror}).",
            where=str(self.path),
            remedy="Make room on this disk, and give the folder to the dashboard's user alone.",
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
