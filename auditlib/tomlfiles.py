"""TOML that somebody wrote by hand: bounded, its format named, and no key that is not known.

    tables = read_toml(Path("requests.toml"), "auditlib/requests/v1", ("requests", "trails"))
    request = to_struct(tables["requests"][0], Request, "requests[0]")

Every fault is a MalformedError that names the place, and for a wrong key the closest right one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from auditlib.errors import MalformedError

MAX_TOML_BYTES = 1024 * 1024  # of one file; a thousand requests with their wording take a third of it
Kind = TypeVar("Kind", bound=msgspec.Struct)


def read_toml(path: Path, format: str, names: Iterable[str]) -> dict[str, Any]:
    """A file's top-level tables; only `format` and `names` may stand there."""
    data = read_bytes(path)
    try:
        return parse_toml(data, format, names)
    except MalformedError as error:
        raise error.at(str(path)) from None


def read_bytes(path: Path) -> bytes:
    """A file's bytes, no more than a byte too many of them."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_TOML_BYTES + 1)
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror}).", where=str(path)) from None


def parse_toml(data: bytes, format: str, names: Iterable[str]) -> dict[str, Any]:
    """The same for a file's bytes."""
    if len(data) > MAX_TOML_BYTES:
        raise MalformedError(f"more than {MAX_TOML_BYTES:,} bytes are not read.")
    try:
        found = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise MalformedError(f"this is no text in UTF-8 (byte {error.start}).") from None
    except (ValueError, RecursionError) as error:  # ValueError: TOMLDecodeError, and Python's limit on digits
        raise MalformedError(f"this is no TOML: {error}.") from None
    if found.get("format") != format:
        raise MalformedError(f"its format is {found.get('format')!r}; this version reads format = {format!r}.")
    check_names(found, ("format", *names), "")
    return found


def to_struct(table: Any, kind: type[Kind], where: str) -> Kind:
    """One table as a struct of that kind; its types and bounds are the struct's."""
    if not isinstance(table, dict):
        raise MalformedError("this must be a table of names and values.", where=where)
    check_names(table, [field.encode_name for field in msgspec.structs.fields(kind)], where)
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        raise MalformedError(f"{message}.", where=where + place.rstrip("`")) from None


def check_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """MalformedError for the first name that is not known, with the closest that is."""
    allowed = list(known)
    for name in given:
        if name not in allowed:
            near = get_close_matches(name, allowed, 1, 0.5)
            remedy = f"Did you mean {near[0]}?" if near else f"There are {', '.join(allowed)}."
            raise MalformedError(f"{name[:80]!r} is not known here.", where=where, remedy=remedy)
