"""What is expected of the pipeline: `monitor.toml`, everything in it optional.

    [thresholds]
    seal_age = "1h"
    skew = "never"                       # not judged

    [sources."billing-api"]              # a source's name: what stands before the slash
    silence = "30m"
    lateness = "2d"                      # its client may spool for a weekend

    [sources."import:cloudtrail:123456789012"]
    schedule = "26h"                     # its newest event may be at most this old

A length of time is a whole number and s, m, h or d; "never" switches a judgement off.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.event import NAME
from auditlib.formats.times import DAY, SECOND
from auditlib.locks import EXPIRING
from auditlib.pipeline import AHEAD, LATE, SILENCE, UNPACED

HOUR = 3600 * SECOND  # microseconds
NEVER = "never"
MAX_SETTINGS_BYTES = 1024 * 1024  # of a monitor.toml
_LENGTH = re.compile(r"([1-9][0-9]{0,6})([smhd])", re.ASCII)
_UNITS = {"s": SECOND, "m": 60 * SECOND, "h": HOUR, "d": DAY}


class Thresholds(msgspec.Struct, frozen=True):
    """Lengths of time in microseconds past which something is wrong; None: never."""

    seal_age: int | None = HOUR  # a sealer seals every five minutes unless told otherwise, a heartbeat at least
    heartbeat_age: int | None = HOUR
    unsealed_age: int | None = HOUR
    skew: int | None = AHEAD
    lateness: int | None = LATE
    retention_left: int | None = EXPIRING
    checkpoint_age: int | None = HOUR
    silence: int | None = SILENCE


class Expected(msgspec.Struct, frozen=True):
    """What is declared of one source, in microseconds; UNSET: nothing, None: never."""

    silence: int | msgspec.UnsetType | None = msgspec.UNSET
    lateness: int | msgspec.UnsetType | None = msgspec.UNSET
    schedule: int | msgspec.UnsetType | None = msgspec.UNSET


class Settings(msgspec.Struct, frozen=True):
    """Thresholds, and what is declared of sources by name."""

    thresholds: Thresholds = Thresholds()
    sources: dict[str, Expected] = {}

    def silence(self, name: str) -> int | None:
        """How long a source may record nothing."""
        declared = self.sources.get(name, Expected()).silence
        return self.thresholds.silence if isinstance(declared, msgspec.UnsetType) else declared

    def lateness(self, name: str) -> int | None:
        """How long after it occurred an event of a source may be recorded; an import has no such limit."""
        if is_import(name):
            return None
        declared = self.sources.get(name, Expected()).lateness
        return self.thresholds.lateness if isinstance(declared, msgspec.UnsetType) else declared

    def schedule(self, name: str) -> int | None:
        """How old the newest event of an import may be; None where nothing is declared."""
        declared = self.sources.get(name, Expected()).schedule
        return None if isinstance(declared, msgspec.UnsetType) else declared

    def declares_silence(self, name: str) -> bool:
        """Whether somebody said how long this source may be silent, so that it is judged without a heartbeat too."""
        return not isinstance(self.sources.get(name, Expected()).silence, msgspec.UnsetType)

    @property
    def longest(self) -> int:
        """The longest time back that any declared silence or schedule looks."""
        lengths = [length for name in self.sources for length in (self.silence(name), self.schedule(name))]
        return max([0, *(length for length in lengths if length is not None)])


def is_import(name: str) -> bool:
    """Whether a source brings in another system's log."""
    return name.startswith("import:")


def is_paced(name: str) -> bool:
    """Whether a source has a rhythm of its own: neither an import nor the pipeline itself."""
    return not name.startswith(UNPACED)


def read_settings(path: Path) -> Settings:
    """A `monitor.toml` -> Settings. Raises MalformedError that names the key, and the closest right one."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SETTINGS_BYTES + 1)
        if len(data) > MAX_SETTINGS_BYTES:
            raise MalformedError(f"more than {MAX_SETTINGS_BYTES:,} bytes.", where=str(path))
        return parse_settings(data.decode())
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror}).", where=str(path)) from None
    except UnicodeDecodeError:
        raise MalformedError("this is no text in UTF-8.", where=str(path)) from None
    except MalformedError as error:
        raise error if error.where == str(path) else error.at(str(path)) from None


def parse_settings(text: str) -> Settings:
    """The text of a `monitor.toml` -> Settings."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MalformedError(f"this is no TOML: {error}.") from None
    _known(given, ("thresholds", "sources"), "")
    thresholds = _lengths(given.get("thresholds", {}), Thresholds.__struct_fields__, "thresholds")
    named = given.get("sources", {})
    if not isinstance(named, dict):
        raise MalformedError('this must be tables like [sources."billing-api"].', where="sources")
    sources = {name: _expected(name, table) for name, table in named.items()}
    return Settings(Thresholds(**thresholds), sources)


def parse_length(text: Any, where: str) -> int:
    """`30s`, `15m`, `4h`, `2d` -> microseconds."""
    match = _LENGTH.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise MalformedError(f"{text!r} is no length of time; write it like 30s, 15m, 4h or 2d.", where=where)
    return int(match[1]) * _UNITS[match[2]]


def _expected(name: str, table: Any) -> Expected:
    where = f'sources."{name}"'
    if not NAME.fullmatch(name) or "/" in name:
        raise MalformedError("this is no name of a source; write what stands before the slash.", where=where)
    found = _lengths(table, Expected.__struct_fields__, where)
    if is_import(name) and found.keys() - {"schedule"}:
        unfit = sorted(found.keys() - {"schedule"})
        raise MalformedError(
            "an import has no rhythm and may bring in old events.",
            where=f"{where}: {unfit[0]}",
            remedy="Declare its schedule: how old its newest event may be.",
        )
    if not is_import(name) and "schedule" in found:
        raise MalformedError(
            "only imports (import:...) have one.", where=f"{where}: schedule", remedy="Declare its silence."
        )
    return Expected(**found)


def _lengths(table: Any, allowed: tuple[str, ...], where: str) -> dict[str, int | None]:
    if not isinstance(table, dict):
        raise MalformedError("this must be a table of names and lengths of time.", where=where)
    _known(table, allowed, where)
    return {
        name: None if text == NEVER else parse_length(text, f"{where}: {name}") for name, text in sorted(table.items())
    }


def _known(given: Iterable[str], allowed: tuple[str, ...], where: str) -> None:
    for name in given:
        if name not in allowed:
            near = get_close_matches(name, allowed, 1, 0.5)
            remedy = f"Did you mean {near[0]}?" if near else f"There are {', '.join(allowed)}."
            raise MalformedError(f"{name!r} is not known here.", where=where, remedy=remedy)
