"""What somebody declares of a list before it counts as evidence: FILE.toml beside FILE.

    format = "auditlib/attachment/v1"
    name = "leavers"
    system = "Workday"
    query = "Report LV-7, all terminations"
    exporter = "Grace Lee"
    exported_at = "2026-06-02T09:15:00+02:00"    # with its offset from UTC
    time_zone = "Europe/Berlin"                  # of times in the file that state no offset, and of days
    rows = 12                                    # data rows, as the system counted them
    cutoff = "18:00"                             # optional: the hour at which a day without a time begins and ends

    [columns]                                    # our name = the header in the file
    person_id = "Employee"
    account = "Login"
    last_day = "Last day"

Without `cutoff` a day begins at its midnight and ends at the next.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from typing import Any

import msgspec

from auditlib.attachments.shapes import SHAPES, Column
from auditlib.errors import MalformedError
from auditlib.formats.times import format_time, from_datetime, parse_time
from auditlib.query import zone_of
from auditlib.tomlfiles import check_names, parse_toml

FORMAT = "auditlib/attachment/v1"
MAX_DECLARATION_BYTES = 64 * 1024  # bytes; a declaration has a dozen lines
MAX_TEXT_CHARS = 4096  # characters of a text in it: a query can be long
MAX_COLUMNS = 200  # columns of a file; exports of ticket systems have some 80
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_COLUMN = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LINE = "line"  # the column of our own in every frame: where a row begins in the file
_HOUR = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_TEXTS = ("system", "query", "exporter")
_KEYS = ("name", *_TEXTS, "exported_at", "time_zone", "rows", "cutoff", "columns")  # besides `format`


class Declaration(msgspec.Struct, frozen=True):
    """Where a list comes from, and how it is read; `exported_at` in microseconds since 1970 UTC."""

    name: str
    system: str
    query: str
    exporter: str
    exported_at: int
    time_zone: str
    rows: int
    cutoff: time | None
    columns: dict[str, str]  # our name -> the header in the file

    @property
    def kinds(self) -> dict[str, Column]:
        """Our columns in order: every known one of this list, whether or not the file has it, else the declared."""
        return SHAPES.get(self.name) or dict.fromkeys(self.columns, Column())

    def stated(self) -> dict[str, Any]:
        """As packet.json states it."""
        told = {field: getattr(self, field) for field in ("name", *_TEXTS, "time_zone", "rows")}
        return told | {"exported_at": format_time(self.exported_at)}


def check_name(name: str) -> str:
    """The name of an attachment, which becomes the name of a file; MalformedError where it is none."""
    if not _NAME.fullmatch(name):
        raise MalformedError(
            f"{name[:80]!r} is no name of an attachment.",
            remedy=f"Known are {', '.join(SHAPES)}; any other is lower-case letters, digits, - and _.",
        )
    return name


def parse_declaration(name: str, data: bytes) -> Declaration:
    """The bytes of FILE.toml -> Declaration of the list called `name`. MalformedError names the key."""
    if len(data) > MAX_DECLARATION_BYTES:
        raise MalformedError(f"has {len(data):,} bytes; at most {MAX_DECLARATION_BYTES:,} are read.")
    stated = parse_toml(data.removeprefix(codecs.BOM_UTF8), FORMAT, _KEYS)
    if stated.get("name") != check_name(name):
        raise MalformedError(f"says {str(stated.get('name'))[:80]!r}; the list was given as {name!r}.", where="name")
    texts = {key: _text(stated, key) for key in _TEXTS}
    zone = _text(stated, "time_zone")
    try:
        zone_of(zone)
    except MalformedError as error:
        raise MalformedError(error.message, where="time_zone", remedy=error.remedy) from None
    rows = stated.get("rows")
    if type(rows) is not int or rows < 0:
        raise MalformedError("is no whole number: state how many data rows the system exported.", where="rows")
    return Declaration(
        name=name,
        **texts,
        exported_at=_exported_at(stated.get("exported_at")),
        time_zone=zone,
        rows=rows,
        cutoff=_cutoff(stated.get("cutoff")),
        columns=_columns(name, stated.get("columns")),
    )


def template(name: str, headers: Sequence[str], rows: int) -> str:
    """A declaration to paste and fill in, with the headers of the file where they can be guessed."""
    wanted = [column for column, shape in SHAPES[name].items() if shape.required] if name in SHAPES else []
    plain = {re.sub(r"[^a-z0-9]+", "_", header.lower()).strip("_"): header for header in reversed(headers)}
    columns = {column: plain.get(column, "") for column in wanted} or {
        column: header for column, header in reversed(plain.items()) if _COLUMN.fullmatch(column) and column != _LINE
    }
    lines = [
        f'format = "{FORMAT}"',
        f'name = "{name}"',
        'system = ""         # the system it was exported from',
        'query = ""          # the report, filter or query that gave it',
        'exporter = ""       # who exported it',
        'exported_at = ""    # when, with the offset: 2026-06-02T09:15:00+02:00',
        'time_zone = "UTC"   # of times without an offset, and of days: Europe/Berlin',
        f"rows = {rows}  # data rows in the file; compare it with what the system said",
        '# cutoff = "18:00"  # the hour at which a day without a time begins and ends',
        "",
        "[columns]  # our name = the header in the file",
        *(f"{column} = {_quoted(header)}" for column, header in columns.items()),
    ]
    return "\n".join(lines)


def _text(stated: Mapping[str, Any], key: str) -> str:
    value = stated.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT_CHARS or "\0" in value:
        raise MalformedError(f"is no text of 1 to {MAX_TEXT_CHARS:,} characters.", where=key)
    return value


def _exported_at(value: Any) -> int:
    try:
        moment = from_datetime(value) if isinstance(value, datetime) else parse_time(str(value))
        format_time(moment)
    except MalformedError as error:
        raise MalformedError(error.message, where="exported_at") from None
    return moment


def _cutoff(value: Any) -> time | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _HOUR.fullmatch(value):
        raise MalformedError(f"{str(value)[:80]!r} is no hour of a day; write it like 18:00.", where="cutoff")
    return time.fromisoformat(value)


def _columns(name: str, stated: Any) -> dict[str, str]:
    if not isinstance(stated, dict) or not 0 < len(stated) <= MAX_COLUMNS:
        raise MalformedError(f"is no table of 1 to {MAX_COLUMNS} columns: our name = the header.", where="columns")
    shape = SHAPES.get(name)
    check_names(stated, shape or stated, "columns")
    for column, header in stated.items():
        if not _COLUMN.fullmatch(column) or column == _LINE or not isinstance(header, str) or not header:
            raise MalformedError(
                f"{column[:80]!r} cannot be a column: our name is lower-case letters, digits and _ (not `line`), "
                "and what stands behind it the header in the file.",
                where="columns",
            )
    lacking = [column for column, known in (shape or {}).items() if known.required and column not in stated]
    if lacking:
        raise MalformedError(f"{name} lacks {', '.join(lacking)}: name their headers in the file.", where="columns")
    return dict(stated)


def _quoted(text: str) -> str:
    """A TOML basic string."""
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in text) + '"'
