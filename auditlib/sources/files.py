"""Files and folders -> the files to read, and how they are opened.

By the name only the files of a folder are chosen; a file given by name is read whatever its suffix. In a folder no
symbolic link is followed and nothing but regular files is opened.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import BinaryIO

import msgspec

from auditlib.errors import MalformedError, UnavailableError
from auditlib.sources import Paths

SUFFIXES = (".json", ".jsonl", ".ndjson", ".log")  # each also with .gz


class Found(msgspec.Struct, frozen=True):
    """One file to read: its path, the name it goes by, its size; `note` says why it is not to be opened."""

    path: Path
    name: str
    size: int
    note: str | None = None


def find(paths: Paths) -> list[Found]:
    """Files and folders -> the files below them, in the order given and by name inside a folder.

    Raises MalformedError for a path that is not there or a folder without a log. A file given by name is read
    whatever its suffix; a file reached twice is read once.
    """
    found: list[Found] = []
    seen: set[tuple[int, int]] = set()
    for given in paths:
        path = Path(given)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise MalformedError(
                "there is no such file or folder.",
                where=str(path),
                remedy="Give the folder that holds the logs.",
            ) from None
        except OSError as error:
            raise UnavailableError(f"cannot be read: {error.strerror}.", where=str(path)) from None
        if stat.S_ISDIR(status.st_mode):
            below = _below(path)
            if all(file.note for file in below):
                raise MalformedError(
                    f"no log is in this folder: no name ends in {', '.join(SUFFIXES)}, with or without .gz.",
                    where=str(path),
                    remedy="Give the folder that holds the logs, or name the file itself.",
                )
        elif stat.S_ISREG(status.st_mode):
            below = [Found(path.resolve(), _name(path.name), status.st_size)]
        else:
            raise MalformedError("is neither a file nor a folder.", where=str(path))
        for file in below:
            key = _identity(file.path)
            if key not in seen:
                seen.add(key)
                found.append(file)
    if not found:
        raise MalformedError("no path was given.", remedy="Name the files or folders to import.")
    return found


def create_rejects(path: str | os.PathLike[str]) -> BinaryIO:
    """An empty file for rejects that its owner alone can read: it holds what was found, verbatim."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        os.fchmod(handle, 0o600)  # the file may have been there with a wider mode
    except OSError as error:
        raise UnavailableError(f"cannot be written: {error.strerror}.", where=str(path)) from None
    return os.fdopen(handle, "wb")


def _below(folder: Path) -> list[Found]:
    names: list[Found] = []
    try:
        for parent, folders, files in os.walk(folder, followlinks=False, onerror=_raise):
            for name in files + [name for name in folders if (Path(parent) / name).is_symlink()]:
                path = Path(parent) / name
                status = path.lstat()
                note = None
                if stat.S_ISLNK(status.st_mode):
                    note = "a symbolic link; not followed"
                elif not stat.S_ISREG(status.st_mode):
                    note = "not a regular file"
                elif not name.lower().removesuffix(".gz").endswith(SUFFIXES):
                    note = "not a log by its name"
                names.append(Found(path, _name(path.relative_to(folder).as_posix()), status.st_size, note))
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}.", where=str(folder)) from None
    return sorted(names, key=lambda file: file.name)


def _raise(error: OSError) -> None:
    raise error


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _name(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def open_regular(path: Path) -> io.BufferedReader:
    """Opens a regular file for reading. Raises OSError for anything else, symbolic links included."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    file = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise OSError(0, "it is no longer a regular file")
    return file
