"""`requests.toml`, the auditor's request list.

    format = "auditlib/requests/v1"

    [trails.cloud]                        # optional: trails other than the one on the command line
    vault = "../cloud-vault"              # a path from this file on, file:// or s3://bucket/prefix
    key = "cloud.vkey"                    # a verifier key, or a file of them from this file on

    [[requests]]
    id = "AC-03"
    question = "Show me all admin role grants in the period, with approval evidence for each."
    control = { id = "AC-03", wording = "Privileged access is approved before it is granted." }
    frequency = "quarterly"
    owner = "Head of operations"
    framework = "TSC 2017 (points of focus 2022)"
    criteria = ["CC6.2", "CC6.3"]
    notebook = "role-grants"              # one of the library's, or a path from this file on that ends in .ipynb
    due = 2026-07-15
    trails = ["cloud"]
    parameters = { entitlement = "admin", lookback_days = 90 }
    sample = { method = "simple", size = 25, word = "..." }
    attach = { approvals = "lists/tickets.csv" }  # lists from outside, with their declarations beside them
    attach_dir = "tickets"                # PDFs and screenshots

A request that names several trails is answered by one packet over all of them, in which every item names its trail
(decision 29). Every text is bounded; unknown keys are refused with the closest right one.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from auditlib.errors import MalformedError
from auditlib.tomlfiles import parse_toml, read_toml, to_struct

REQUESTS_FORMAT = "auditlib/requests/v1"
REQUESTS_FILE = "requests.toml"
MAX_REQUESTS = 1_000
MAX_PARAMETERS = 100  # of one request
RESERVED = ("index.html", "index.json")  # in the folder of the packets

Line = Annotated[str, msgspec.Meta(max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]  # no control characters
Words = Annotated[str, msgspec.Meta(max_length=2_000)]
# It names a file on any system: no leading or trailing dot, no separator, nothing a shell or a URL reads.
ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)


class Control(msgspec.Struct, frozen=True):
    """The company's control that the request tests."""

    id: Line
    wording: Words = ""


class Sample(msgspec.Struct, frozen=True):
    """The sample size rule; plain data for the notebook."""

    method: Line
    size: Annotated[int, msgspec.Meta(ge=0)] | None = None
    strata: Line | Annotated[list[Line], msgspec.Meta(max_length=20)] | None = None
    word: Line | None = None


class Place(msgspec.Struct, frozen=True):
    """A trail other than the one on the command line."""

    vault: Line
    key: Annotated[str, msgspec.Meta(max_length=1_000)] | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list."""

    id: Line
    question: Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]
    control: Control
    notebook: Line
    frequency: Words = ""
    owner: Words = ""
    framework: Words = ""
    criteria: Annotated[list[Line], msgspec.Meta(max_length=100)] = []
    parameters: dict[str, Any] = {}
    due: date | None = None
    sample: Sample | None = None
    attach: Annotated[dict[str, Line], msgspec.Meta(max_length=20)] = {}
    attach_dir: Line | None = None
    trails: Annotated[list[str], msgspec.Meta(max_length=20)] = []

    @property
    def asked_of(self) -> tuple[str | None, ...]:
        """The names of the trails that answer it together; None is the trail on the command line."""
        return tuple(self.trails) or (None,)


class RequestList(msgspec.Struct, frozen=True):
    """The list, the trails it names, and the folder it lies in."""

    folder: Path
    requests: tuple[Request, ...]
    trails: dict[str, Place]

    def chosen(self, ids: list[str]) -> tuple[Request, ...]:
        """The requests of these ids in the list's order; MalformedError for one that is not there."""
        there = [request.id for request in self.requests]
        for wanted in ids:
            if wanted not in there:
                raise MalformedError(
                    f"there is no request {wanted!r} in the list. It has {', '.join(there) or 'none'}."
                )
        return tuple(request for request in self.requests if request.id in ids)


def read_requests(path: Path) -> RequestList:
    """A `requests.toml` -> the list. MalformedError that names the request and the key."""
    try:
        return _list(read_toml(path, REQUESTS_FORMAT, ("requests", "trails")), path.parent)
    except MalformedError as error:
        raise error if error.where.startswith(str(path)) else error.at(str(path)) from None


def parse_requests(data: bytes, folder: Path) -> RequestList:
    """The bytes of a `requests.toml` that lies in `folder`."""
    return _list(parse_toml(data, REQUESTS_FORMAT, ("requests", "trails")), folder)


def check_id(text: str, where: str) -> str:
    """The id of a request, or the name of a trail: it becomes a file's name."""
    if not ID.fullmatch(text) or text.lower() in RESERVED or text.lower().endswith(".zip"):
        raise MalformedError(
            f"{text[:80]!r} cannot be used; write 1 to 64 letters, digits, dots, dashes and underscores.",
            where=where,
            remedy=f"It becomes a file's name: no dash or dot at either end, no .zip, not {' or '.join(RESERVED)}.",
        )
    return text


def _list(tables: dict[str, Any], folder: Path) -> RequestList:
    given, named = tables.get("requests", []), tables.get("trails", {})
    if not isinstance(given, list) or len(given) > MAX_REQUESTS:
        raise MalformedError(f"there may be up to {MAX_REQUESTS:,} [[requests]].", where="requests")
    if not isinstance(named, dict):
        raise MalformedError("these must be tables like [trails.cloud].", where="trails")
    trails = {
        check_id(name, "trails"): to_struct(table, Place, f"trails.{name}") for name, table in sorted(named.items())
    }
    requests: list[Request] = []
    taken: dict[str, str] = {}
    for number, table in enumerate(given):
        place = f"requests[{number}]"
        request = to_struct(table, Request, place)
        place = f"{place} ({check_id(request.id, f'{place}.id')})"
        other = taken.setdefault(request.id.lower(), request.id)
        if other is not request.id:
            raise MalformedError(f"another request is called {other!r}; capitals do not tell them apart.", where=place)
        for trail in request.trails:
            if trail not in trails:
                raise MalformedError(f"there is no [trails.{trail}] in this file.", where=f"{place}.trails")
        if len(set(request.trails)) != len(request.trails):
            raise MalformedError("a trail is named twice.", where=f"{place}.trails")
        _check_notebook(request.notebook, folder, f"{place}.notebook")
        for path in (*request.attach.values(), *([request.attach_dir] if request.attach_dir else [])):
            _check_below(path, folder, f"{place}.attach")
        values = _values(request.parameters, f"{place}.parameters")
        requests.append(msgspec.structs.replace(request, parameters=values))
    return RequestList(folder, tuple(requests), trails)


def _check_notebook(notebook: str, folder: Path, where: str) -> None:
    if notebook.endswith(".ipynb"):
        _check_below(notebook, folder, where)
    elif not ID.fullmatch(notebook):
        raise MalformedError(f"{notebook!r} is neither a notebook's name nor a path ending in .ipynb.", where=where)


def _check_below(text: str, folder: Path, where: str) -> None:
    """A path that stays below the list's own folder, by its links too: whoever sends a list chooses no other file."""
    path = PurePosixPath(text)
    leaves = path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text
    try:
        leaves = leaves or not (folder / path).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        leaves = True
    if leaves:
        raise MalformedError(f"{text[:80]!r} is not in the folder of this file or below it.", where=where)


def _values(given: dict[str, Any], where: str) -> dict[str, Any]:
    """TOML values as a notebook takes them: days and times as texts; texts, numbers, true, false, lists of texts."""
    if len(given) > MAX_PARAMETERS:
        raise MalformedError(f"at most {MAX_PARAMETERS} parameters.", where=where)
    return {name: _value(value, f"{where}.{name}") for name, value in given.items()}


def _value(value: Any, where: str) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise MalformedError("a time needs an offset from UTC; a day needs none.", where=where)
        return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if isinstance(value, dict | list | time) or not isinstance(value, str | int | float):
        raise MalformedError("this is no text, number, day, true, false or list of texts.", where=where)
    return value
