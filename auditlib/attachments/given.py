"""Evidence from outside the trail: read where somebody attached it, handed to a notebook's kernel, put into a packet.

    tickets.csv  tickets.csv.toml                what --attach approvals=tickets.csv reads
    AUDITLIB_ATTACHMENTS/approvals.csv[.toml]    where a notebook finds it: evidence.attached("approvals")
    data/attachments/approvals.csv[.toml]        where it lies in a packet, byte for byte as given
    data/attachments/files/INC-7.pdf             a file of --attach-dir

None of it was sealed: its hash shows that it was not changed since it was attached, and nothing about before.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from auditlib.attachments.declaration import (
    MAX_DECLARATION_BYTES,
    Declaration,
    check_name,
    parse_declaration,
    template,
)
from auditlib.attachments.files import read_files
from auditlib.attachments.table import MAX_CSV_BYTES, read_frame, read_rows
from auditlib.errors import AuditlibError, MalformedError

PLACE = "AUDITLIB_ATTACHMENTS"  # the environment variable that names the folder in which a notebook finds them
FOLDER = "attachments/"  # in a packet, below data/
FILES = f"{FOLDER}files/"
MAX_ATTACHED = 50  # lists of one packet


class Attachment(msgspec.Struct, frozen=True):
    """A list from outside, parsed, and the very bytes of it and of its declaration; `sha256` is that of the list."""

    name: str
    declaration: Declaration
    frame: pd.DataFrame
    data: bytes
    declared: bytes
    sha256: str

    def stated(self) -> dict[str, Any]:
        """As packet.json lists it."""
        digests = {"sha256": self.sha256, "declaration_sha256": sha256(self.declared).hexdigest()}
        return self.declaration.stated() | digests

    def files(self) -> dict[str, bytes]:
        """Its two files, by name."""
        return {f"{self.name}.csv": self.data, f"{self.name}.csv.toml": self.declared}


class Attached(msgspec.Struct, frozen=True):
    """All that was attached to a request: lists, and other files by name."""

    lists: tuple[Attachment, ...] = ()
    files: Mapping[str, bytes] = {}

    def payload(self) -> dict[str, bytes]:
        """The files of a packet, by name below data/."""
        payload = {f"{FOLDER}{name}": data for one in self.lists for name, data in one.files().items()}
        return payload | {f"{FILES}{name}": data for name, data in self.files.items()}

    def stated(self) -> dict[str, Any]:
        """What packet.json says of it."""
        return {
            "attachments": [one.stated() for one in sorted(self.lists, key=lambda one: one.name)],
            "attached_files": {name: sha256(data).hexdigest() for name, data in sorted(self.files.items())},
        }

    def responses(self) -> list[dict[str, str]]:
        """The rows of `responses`, management's word on items, as texts."""
        frames = [one.frame.drop(columns="line").fillna("") for one in self.lists if one.name == "responses"]
        return [{str(name): text for name, text in row.items()} for frame in frames for row in frame.to_dict("records")]


NOTHING = Attached()


def parse(name: str, data: bytes, declared: bytes) -> Attachment:
    """A list and its declaration -> Attachment. MalformedError, or MismatchError for another number of rows."""
    try:
        declaration = parse_declaration(name, declared)
    except MalformedError as error:
        raise error.at("its declaration (.toml)") from None
    return Attachment(name, declaration, read_frame(declaration, data), data, declared, sha256(data).hexdigest())


def load(name: str, path: Path) -> Attachment:
    """The list at `path`, with its declaration beside it (`path` + .toml).

    Raises MalformedError: no such file, no declaration (the remedy is one to paste), every row that does not parse.
    MismatchError: another number of rows than were declared.
    """
    check_name(name)
    data, beside = _read(path, MAX_CSV_BYTES), path.with_name(f"{path.name}.toml")
    if not beside.exists():
        raise _undeclared(name, path, data)
    declared = _read(beside, MAX_DECLARATION_BYTES)
    try:
        return parse(name, data, declared)
    except AuditlibError as error:
        raise error.at(str(path)) from None


def gather(given: Mapping[str, Path], folder: Path | None = None) -> Attached:
    """The paths of lists by name, and a folder of other files -> Attached; raises as `load` does."""
    if len(given) > MAX_ATTACHED:
        raise MalformedError(f"{len(given)} lists are attached; at most {MAX_ATTACHED} are.")
    lists = tuple(load(name, path) for name, path in given.items())
    return Attached(lists, read_files(folder) if folder is not None else {})


def pass_on(attachments: Iterable[Attachment], folder: Path) -> None:
    """Lay lists into a new folder, for the kernel whose `AUDITLIB_ATTACHMENTS` names it."""
    folder.mkdir()
    for one in attachments:
        for name, data in one.files().items():
            (folder / name).write_bytes(data)


def attached(name: str) -> Attachment | None:
    """The list of that name in the folder of `AUDITLIB_ATTACHMENTS`; None where none was attached."""
    place = os.environ.get(PLACE)
    path = Path(place or "", f"{check_name(name)}.csv")
    return load(name, path) if place and path.exists() else None


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise MalformedError("is no file.", where=str(path))
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror}).", where=str(path)) from None
    if len(data) > limit:
        raise MalformedError(f"has more than {limit:,} bytes.", where=str(path))
    return data


def _undeclared(name: str, path: Path, data: bytes) -> MalformedError:
    try:
        headers, rows = read_rows(data)
    except MalformedError as error:
        raise error.at(str(path)) from None
    return MalformedError(
        "there is no declaration beside it, which says where it comes from and how it is read.",
        where=str(path),
        remedy=f"Save this as {path.name}.toml, filled in:\n{template(name, headers, len(rows))}",
    )
