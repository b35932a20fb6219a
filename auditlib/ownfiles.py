"""Files of one's own that several commands change and a running server reads: tokens, engagements, accounts.

A new text takes the old one's place whole. Renaming it is the commit: before it the old file stands, after it the new
one, also after a power cut. Each function takes `unusable`, which makes the caller's own sentence of an OSError.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from auditlib.errors import UnavailableError

Unusable = Callable[[Path, OSError, str], UnavailableError]  # of the file, the fault, "read" or "written"


def replace_file(path: Path, data: bytes, unusable: Unusable) -> None:
    """Put `data` in the place of the file, durable, for its owner alone (0600)."""
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)  # the commit
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise unusable(path, error, "written") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def one_writer(path: Path, unusable: Unusable) -> Iterator[None]:
    """One writer at a time, by a lock on a file beside: the file itself is replaced."""
    try:
        descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unusable(path, error, "written") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def file_state(path: Path, unusable: Unusable) -> tuple[int, int, int]:
    """What changes when the file is replaced or written: its time (nanoseconds), size and inode."""
    try:
        found = path.stat()
    except OSError as error:
        raise unusable(path, error, "read") from None
    return found.st_mtime_ns, found.st_size, found.st_ino
