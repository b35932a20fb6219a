"""The other files that are attached: PDFs and screenshots of one flat folder, kept as they are.

INC-7.pdf  01JH2K8Q9R3W.png    letters, digits, `.`, `_` and `-`; no folder, link or hidden file
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from auditlib.errors import MalformedError

MAX_FILES = 2_000  # files; a packet holds 10,000 in all
MAX_FILE_BYTES = 50 * 1024 * 1024  # bytes of one; a screenshot has one, a scanned contract some ten
MAX_BYTES = 500 * 1024 * 1024  # bytes of all: they are held in memory until the packet is written
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


def check_file_name(name: str) -> str:
    """A name that is safe in every file system; MalformedError for a path, a hidden file, another character."""
    if not _FILE.fullmatch(name):
        raise MalformedError(
            f"{name[:200]!r} cannot be attached: its name must be 1 to 200 of A-Z, a-z, 0-9, `.`, `_`, `-`, and not "
            "begin with a dot."
        )
    return name


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file of a flat folder, by name, sorted. MalformedError for whatever is no plain file, or too much."""
    files: dict[str, bytes] = {}
    seen: dict[str, str] = {}
    total = 0
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror}).", where=str(folder)) from None
    if len(names) > MAX_FILES:
        raise MalformedError(f"holds {len(names):,} files; at most {MAX_FILES:,} are attached.", where=str(folder))
    for name in names:
        try:
            other = seen.setdefault(check_file_name(name).lower(), name)
            if other != name:
                raise MalformedError(f"{name} differs from {other} in capitals alone.")
            files[name] = _read(folder / name)
        except MalformedError as error:
            raise error.at(str(folder)) from None
        total += len(files[name])
        if total > MAX_BYTES:
            raise MalformedError(f"holds more than {MAX_BYTES:,} bytes; no more are attached.", where=str(folder))
    return files


def _read(path: Path) -> bytes:
    """A plain file's bytes; neither a link nor a pipe is opened, whatever is put there meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise MalformedError(f"{path.name} is a link; attach the file itself.") from None
        raise MalformedError(f"{path.name} cannot be read ({error.strerror}).") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MalformedError(f"{path.name} is no plain file; folders are not gone into.")
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise MalformedError(f"{path.name} has more than {MAX_FILE_BYTES:,} bytes.")
    return data
