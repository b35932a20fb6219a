"""A request of one's own: a notebook that runs as it is, and the lines of `requests.toml` that ask for it.

The list is kept byte for byte; the lines are appended to it. What the list would be afterwards is read first: where it
would not be a list, nothing is written. The notebook is written before the lines (the commit point): a crash between
the two leaves a notebook that nobody asks for.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from auditlib.errors import MalformedError, UnavailableError
from auditlib.packet.notebook import find_notebook, request_names
from auditlib.packet.parameters import declared
from auditlib.requests.model import REQUESTS_FORMAT, check_id, parse_requests
from auditlib.tomlfiles import MAX_TOML_BYTES

PLACEHOLDER = "my-request"  # in the template, where the request's name belongs
_TEMPLATE = Path(__file__).parent / "templates" / "request.ipynb"


class Laid(msgspec.Struct, frozen=True):
    """What was laid down: the list, whether it is new, the lines, and the notebook where one was written."""

    requests: Path
    started: bool
    lines: str
    notebook: Path | None


def lay_down(name: str, requests: Path, notebook: str | None = None) -> Laid:
    """Append a request called `name` to a list, and write its notebook beside it.

    With `notebook`, one of the library's or a file below the list's folder, none is written. MalformedError where the
    name is taken, or something stands there already; then nothing is written.
    """
    check_id(name, "NAME")
    started = not requests.exists()
    before = b"" if started else _read(requests)
    new = requests.parent / f"{name}.ipynb" if notebook is None else None
    lines = _lines(name, f"{name}.ipynb" if notebook is None else _reference(notebook, requests.parent))
    head = (
        f'# The auditor\'s request list: `auditlib requests` shows it.\nformat = "{REQUESTS_FORMAT}"\n'
        if started
        else ""
    )
    if before and not before.endswith(b"\n"):
        head = "\n"
    added = f"{head}\n{lines}".encode(errors="surrogateescape")  # a path that is no text makes a list that is none
    if not started:
        parse_requests(before, requests.parent)
    try:
        parse_requests(before + added, requests.parent)
    except MalformedError as error:
        raise error.at(f"{requests}, with the new request") from None
    if new is not None:
        data = _TEMPLATE.read_bytes().replace(PLACEHOLDER.encode(), name.encode())
        _write_new(new, data, "Give --notebook to use it.")
    try:
        with requests.open("xb" if started else "ab") as file:
            file.write(added)
    except OSError as error:
        with suppress(OSError):
            if not started:
                os.truncate(requests, len(before))  # half of the lines would make it no list
            elif not isinstance(error, FileExistsError):  # nobody else's
                requests.unlink(missing_ok=True)
        if new is not None:
            new.unlink(missing_ok=True)
        raise UnavailableError(f"cannot be written ({error.strerror}).", where=str(requests)) from None
    return Laid(requests, started, lines, new)


def lay_notebook(path: Path) -> None:
    """Write a notebook that runs as it is, named after its file; MalformedError where something stands there."""
    if path.suffix != ".ipynb":
        raise MalformedError("a notebook's name ends with .ipynb.", where=str(path))
    check_id(path.stem, "NAME")
    _write_new(path, _TEMPLATE.read_bytes().replace(PLACEHOLDER.encode(), path.stem.encode()), "Choose another name.")


def _reference(notebook: str, folder: Path) -> str:
    """How the list names a notebook; MalformedError where there is none, or it lies elsewhere."""
    if notebook in request_names():
        return notebook
    path = find_notebook(notebook)
    declared(path)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise MalformedError("a notebook lies in the folder of the request list or below it.", where=notebook)
    return path.resolve().relative_to(folder.resolve()).as_posix()


def _lines(name: str, notebook: str) -> str:
    question = "Show me every role grant of the period." if notebook == f"{name}.ipynb" else "Write the question here."
    return f"""[[requests]]
id = "{name}"
question = "{question}"
control = {{ id = "{name}", wording = "" }}
frequency = ""
owner = ""
framework = "TSC 2017 (points of focus 2022)"
criteria = []
notebook = {json.dumps(notebook, ensure_ascii=False)}
parameters = {{}}
"""


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOML_BYTES + 1)
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror}).", where=str(path)) from None


def _write_new(path: Path, data: bytes, remedy: str) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise MalformedError("exists already and is not overwritten.", where=str(path), remedy=remedy) from None
    except OSError as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        raise UnavailableError(f"cannot be written ({error.strerror}).", where=str(path)) from None
