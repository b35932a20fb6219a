"""One parameter: the type it is declared with, and whether a value fits it.

    parse_type("int[0, 3650] or none").type_words()     "whole number, 0 to 3650, or none"

Types: date (a day or an RFC 3339 time), int and number (bounds may be left out: `int[1,]`), text, words (a list of
texts), bool, zone (IANA), choice; each may end in `or none`. What fits is what packet.json gives back unchanged, so
that a packet made again gets the same values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.canonical import check_value
from auditlib.formats.times import MAX_TIME_CHARS, format_time, from_datetime
from auditlib.query import parse_moment, zone_of

MAX_VALUE_CHARS = 65_536  # characters of one value; a context of 16 KiB (DESIGN 4.1) fits four times
_SHOWN = 60  # characters of a refused value that are repeated to who gave it
_TYPE = re.compile(r"(date|int|number|text|words|bool|zone|choice)\s*(?:\[([^\[\]]*)\])?(\s+or\s+none)?", re.ASCII)
_INT = re.compile(r"[+-]?\d{1,16}", re.ASCII)  # 2^53 - 1 has 16 digits
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)  # Python reads weeks like 2026-W10-1 too
_WORDS = {
    "bool": "true or false",
    "date": "day or time",
    "int": "whole number",
    "number": "number",
    "text": "text",
    "words": "texts joined by commas",
    "zone": "time zone",
}


class Parameter(msgspec.Struct, frozen=True):
    """One declared parameter: `kind` is the word that its type begins with; `default` has that type."""

    name: str
    kind: str
    low: int | float | None = None
    high: int | float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False
    default: Any = None
    help: str = ""

    def type_words(self) -> str:
        """The type as people read it: `whole number, 0 to 3650, or none`."""
        words = ", ".join(self.choices) if self.kind == "choice" else _WORDS[self.kind]
        if self.low is not None and self.high is not None:
            words += f", {self.low} to {self.high}"
        elif self.low is not None or self.high is not None:
            words += f", at least {self.low}" if self.high is None else f", at most {self.high}"
        return f"{words}, or none" if self.optional and self.kind != "words" else words

    @property
    def example(self) -> str:
        """The default, spelled as the command line takes it."""
        if self.kind == "words":
            return ",".join(self.default) or "none"
        if self.kind == "bool" or self.default is None:
            return str(self.default).lower()
        return str(self.default)


def parse_type(text: str) -> Parameter:
    """A type as it is declared -> a parameter that has no name yet. MalformedError says which types there are."""
    found = _TYPE.fullmatch(text.strip())
    kind, inner, optional = (found.group(1), found.group(2), bool(found.group(3))) if found else ("", None, False)
    parts = None if inner is None else [part.strip() for part in inner.split(",")]
    if kind == "choice" and parts and all(parts) and len(set(parts)) == len(parts):
        return Parameter("", kind, choices=tuple(parts), optional=optional)
    if kind in ("int", "number") and parts and len(parts) == 2:
        free = Parameter("", kind)
        low, high = (checked(free, parsed(free, part)) if part else None for part in parts)
        if low is None or high is None or low <= high:
            return Parameter("", kind, low=low, high=high, optional=optional)
    elif kind not in ("", "choice") and parts is None:
        return Parameter("", kind, optional=optional)
    raise MalformedError(
        f"{shown(text)} is no type; there are date, int[low, high], number[low, high], text, words, bool, zone and "
        "choice[a, b], each with `or none` where none may be given."
    )


def parsed(parameter: Parameter, text: str) -> Any:
    """A text of the command line -> the value that it spells; one that spells none stays a text, to be refused."""
    if parameter.kind == "words":
        return [] if _is_none(text) else text.split(",")
    if parameter.kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    if parameter.kind == "int" and _INT.fullmatch(text):
        return int(text)
    if parameter.kind == "number" and len(text) <= MAX_TIME_CHARS and _NUMBER.fullmatch(text):
        return float(text)
    return text


def checked(parameter: Parameter, given: Any) -> Any:
    """A typed value -> the same as packet.json keeps it (1.0 is 1). MalformedError, naming the parameter, else."""
    try:
        if isinstance(given, date):  # TOML has dates of its own
            given = format_time(from_datetime(given)) if isinstance(given, datetime) else given.isoformat()
        value = check_value(given)
        if (length := len(str(value))) > MAX_VALUE_CHARS:
            raise MalformedError(f"{length:,} characters are refused; at most {MAX_VALUE_CHARS:,} are read.")
        if parameter.kind == "words" or not _is_none(value):
            return _CHECKS[parameter.kind](parameter, value)
        if not parameter.optional:
            raise MalformedError(f"needs a value: {parameter.type_words()}.")
        return None
    except MalformedError as error:
        error.where = parameter.name
        raise


def shown(value: Any) -> str:
    """A value as an error repeats it: quoted, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def meant(word: str, among: Iterable[str], otherwise: str = "") -> str:
    """` Did you mean 'until'?` where one of them is close."""
    near = get_close_matches(word[:_SHOWN], list(among), n=1)
    return f" Did you mean {near[0]!r}?" if near else otherwise


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.lower() in ("", "none"))


def _text(parameter: Parameter, value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedError(f"{shown(value)} is no text; write it in quotes.")
    return value


def _words(parameter: Parameter, value: Any) -> list[str]:
    if _is_none(value):
        return []
    if not isinstance(value, list) or not all(isinstance(word, str) and "," not in word for word in value):
        raise MalformedError(f"{shown(value)} is no list of texts without commas.")
    return [word.strip() for word in value if word.strip()]


def _bool(parameter: Parameter, value: Any) -> bool:
    if not isinstance(value, bool):
        raise MalformedError(f"{shown(value)} is neither true nor false.")
    return value


def _amount(parameter: Parameter, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int if parameter.kind == "int" else int | float):
        raise MalformedError(f"{shown(value)} is no {parameter.type_words()}.")
    low, high = parameter.low, parameter.high
    if (low is not None and value < low) or (high is not None and value > high):
        raise MalformedError(f"{value} is out of range: {parameter.type_words()}.")
    return value


def _date(parameter: Parameter, value: Any) -> str:
    """The text as it was given, so that the packet states what was asked."""
    fits = isinstance(value, str) and (_DAY.fullmatch(value) or 10 < len(value) <= MAX_TIME_CHARS)
    try:
        if fits and parse_moment(value, ZoneInfo("UTC"), parameter.name) >= 0:
            return str(value)
    except MalformedError:
        pass
    raise MalformedError(
        f"{shown(value)} is no day like 2026-02-28 and no time like 2026-02-28T09:00:00Z, of the years 1970 to 9999."
    )


def _zone(parameter: Parameter, value: Any) -> str:
    name = _text(parameter, value)
    try:
        if len(name) <= MAX_TIME_CHARS:
            return zone_of(name).key
    except MalformedError:
        pass
    hint = meant(name, sorted(available_timezones()), " Write one like UTC or Europe/Berlin.")
    raise MalformedError(f"{shown(name)} is no time zone.{hint}")


def _choice(parameter: Parameter, value: Any) -> str:
    if value not in parameter.choices:
        hint = meant(str(value), parameter.choices)
        raise MalformedError(f"{shown(value)} is none of {', '.join(parameter.choices)}.{hint}")
    return str(value)


_CHECKS: dict[str, Callable[[Parameter, Any], Any]] = {
    "bool": _bool,
    "choice": _choice,
    "date": _date,
    "int": _amount,
    "number": _amount,
    "text": _text,
    "words": _words,
    "zone": _zone,
}
