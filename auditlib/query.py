"""What is asked -> SQL and the batches that can hold an answer.

Batches are chosen from the seals' ranges and counts, as an explicit list, never by glob. Values are always bound as
parameters; only names from this module stand in the SQL itself.
"""

from __future__ import annotations

import warnings
from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import numpy as np

from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical
from auditlib.formats.catalog import Catalog
from auditlib.formats.event import OUTCOMES
from auditlib.formats.lines import Mask
from auditlib.formats.seal import Seal
from auditlib.formats.times import format_time, from_datetime, parse_time
from auditlib.seals import Seals

Values = str | Sequence[str] | None
Moment = str | date | datetime | None
Where = Mapping[str | tuple[str, ...], Any]

_MACHINES_OWN = ("localtime", "posixrules")  # zones that are others on other machines: nothing could be made again
_ZONES = "Write one like UTC or Europe/Berlin."


class Filter(msgspec.Struct, frozen=True):
    """What is asked, in canonical form: None asks for everything; times are microseconds since 1970 UTC.

    `actions`, `actors`, `targets`, `outcomes`, `sources` are values or globs; `where` is (path into context, texts).
    """

    actions: tuple[str, ...] | None = None
    actors: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None
    outcomes: tuple[str, ...] | None = None
    sources: tuple[str, ...] | None = None
    since: int | None = None
    until: int | None = None
    where: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = ()

    def may_hold(self, seal: Seal) -> bool:
        """Whether a batch can hold an answer, on its seal's word."""
        if self.since is not None and parse_time(seal.occurred[1]) < self.since:
            return False
        if self.until is not None and parse_time(seal.occurred[0]) >= self.until:
            return False
        return all(
            wanted is None or there is None or any(_any_like(name, wanted) for name in there)
            for wanted, there in (
                (self.actions, seal.counts.actions),
                (self.outcomes, seal.counts.outcomes),
                (self.sources, seal.sources),
            )
        )

    def holding(self, seals: Seals) -> Mask:
        """Of each seal, whether its batch can hold an answer: `may_hold`, by the columns."""
        holding: Mask = np.ones(len(seals), np.bool_)
        if self.since is not None:
            holding &= seals.occurred[:, 1] >= self.since
        if self.until is not None:
            holding &= seals.occurred[:, 0] < self.until
        for wanted, there in (
            (self.actions, seals.actions),
            (self.outcomes, seals.outcomes),
            (self.sources, seals.sources),
        ):
            if wanted is not None:
                named = there.having(partial(_any_like, patterns=wanted))
                holding &= named | seals.uncounted if there is seals.actions else named
        return holding

    def sql(self) -> tuple[str, list[Any]]:
        """The condition (`TRUE` when nothing is asked) and its parameters."""
        parts: list[str] = []
        values: list[Any] = []
        for column, wanted in (("action", self.actions), ("outcome", self.outcomes), ("source", self.sources)):
            if wanted is not None:
                parts.append(_any([_match(column, value, values) for value in wanted]))
        for party, wanted in (("actor", self.actors), ("target", self.targets)):
            if wanted is not None:
                parts.append(_any([_match_party(party, value, values) for value in wanted]))
        if self.since is not None:
            parts.append("occurred_at >= make_timestamptz(?)")
            values.append(self.since)
        if self.until is not None:
            parts.append("occurred_at < make_timestamptz(?)")
            values.append(self.until)
        for path, texts in self.where:
            parts.append(_match_context(path, texts, values))
        return " AND ".join(parts) or "TRUE", values

    def describe(self) -> dict[str, Any]:
        """The filter as evidence states it: JSON values, times as canonical text, nothing that was not asked."""
        stated: dict[str, Any] = {
            name: list(value)
            for name in ("actions", "actors", "targets", "outcomes", "sources")
            if (value := getattr(self, name)) is not None
        }
        for name in ("since", "until"):
            moment = getattr(self, name)
            if moment is not None:
                stated[name] = format_time(moment)
        if self.where:
            stated["where"] = {".".join(path): list(texts) for path, texts in self.where}
        return stated


def build_filter(
    catalog: Catalog | None,
    *,
    kind: Values = None,
    action: Values = None,
    actor: Values = None,
    target: Values = None,
    outcome: Values = None,
    source: Values = None,
    since: Moment = None,
    until: Moment = None,
    through: Moment = None,
    where: Where | None = None,
    tz: str = "UTC",
) -> Filter:
    """The user's words -> a Filter. MalformedError for an unknown kind or outcome, or a period that is none."""
    actions = _values("action", action)
    if kind is not None:
        if catalog is None:
            raise MalformedError("the trail has no catalogue, so that nothing can be asked by kind; ask by action.")
        of_kind = catalog.actions_of(_values("kind", kind) or ())
        actions = (
            of_kind if actions is None else tuple(a for a in of_kind if any(_like(a, p) for p in actions)) or ("",)
        )
    outcomes = _values("outcome", outcome)
    for value in outcomes or ():
        if not any(_like(known, value) for known in OUTCOMES):
            raise MalformedError(f"{value!r} is no outcome; ask for {', '.join(OUTCOMES)}.")
    start, end = parse_period(since, until, through, tz)
    return Filter(
        actions=actions,
        actors=_values("actor", actor),
        targets=_values("target", target),
        outcomes=outcomes,
        sources=_values("source", source),
        since=start,
        until=end,
        where=tuple(sorted((_path(key), _texts(key, value)) for key, value in (where or {}).items())),
    )


def parse_period(
    since: Moment, until: Moment, through: Moment = None, tz: str = "UTC"
) -> tuple[int | None, int | None]:
    """(since, until) in microseconds: `since` inclusive, `until` exclusive, `through` a last day that still counts."""
    zone = zone_of(tz)
    if until is not None and through is not None:
        raise MalformedError("give until (exclusive) or through (inclusive), not both.")
    start = None if since is None else parse_moment(since, zone, "since")
    end = None if until is None else parse_moment(until, zone, "until")
    if through is not None:
        end = parse_moment(_day(through, "through"), zone, "through", days=1)
    elif _is_month_end(until):
        warnings.warn(
            f"until={until} leaves {until} itself out (until is exclusive); write through={until} to take it in.",
            stacklevel=2,
        )
    if start is not None and end is not None and start >= end:
        raise MalformedError(f"the period is empty: since {format_time(start)} is not before until {format_time(end)}.")
    return start, end


def parse_moment(value: str | date | datetime, zone: ZoneInfo, where: str, days: int = 0) -> int:
    """A date (its midnight in the zone, `days` later), a time with an offset, or the same as text -> microseconds."""
    if isinstance(value, datetime):
        return from_datetime(value)
    try:
        if isinstance(value, date):
            midnight = datetime.combine(value + timedelta(days), time(), zone)
            return from_datetime(midnight.astimezone(UTC))
        return parse_moment(date.fromisoformat(value), zone, where) if len(value) == 10 else parse_time(value)
    except OverflowError:
        raise MalformedError(f"{value} lies outside the years 1 to 9999.", where=where) from None
    except (MalformedError, TypeError, ValueError):
        raise MalformedError(
            f"{value!r} is neither a date like 2026-03-01 nor a time like 2026-03-01T09:00:00Z.", where=where
        ) from None


def like_pattern(glob: str) -> str:
    """A glob with `*` and `?` -> an SQL LIKE pattern with backslash as escape."""
    quoted = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return quoted.replace("*", "%").replace("?", "_")


def context_path(path: Iterable[str]) -> str:
    """Keys -> a JSON path for DuckDB, each key quoted."""
    return "$" + "".join(f'."{key}"' for key in path)


def _is_month_end(until: Moment) -> bool:
    """Whether a date, not a time, was given, and it is its month's last."""
    if until is None or isinstance(until, datetime) or (isinstance(until, str) and len(until) != 10):
        return False
    day = _day(until, "until")
    return day.day == monthrange(day.year, day.month)[1]


def _day(value: Moment, where: str) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise MalformedError(f"{value!r} is no date like 2026-05-31.", where=where) from None


def zone_of(name: str) -> ZoneInfo:
    """The time zone of that name (IANA); MalformedError where there is none, or where each machine has another."""
    if name in _MACHINES_OWN:
        raise MalformedError(f"{name!r} is no time zone but the machine's own.", where="tz", remedy=_ZONES)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise MalformedError(f"{name!r} is no time zone.", where="tz", remedy=_ZONES) from None


def _values(where: str, given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    values = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else ()
    if not values or not all(isinstance(value, str) and value for value in values):
        raise MalformedError("give a value, a list of values, or a glob like role.*", where=where)
    return tuple(_utf8(value, where) for value in values)


def _utf8(text: str, where: str) -> str:
    """The text itself: what came in as bytes that are no UTF-8 (a lone surrogate) stands in no record."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedError(f"{text!r} is no valid text (UTF-8).", where=where) from None
    return text


def _path(key: Any) -> tuple[str, ...]:
    path = tuple(key.removeprefix("context.").split(".")) if isinstance(key, str) else key
    if not isinstance(path, tuple) or not path or not all(isinstance(part, str) and part for part in path):
        raise MalformedError(f"{key!r} is no path into the context; write keys joined by dots.", where="where")
    if any('"' in part or "\\" in part or "\0" in part or part == "*" for part in path):  # to DuckDB "*" is any key
        raise MalformedError(f"{key!r} holds a character that no path into the context can name.", where="where")
    return tuple(_utf8(part, "where") for part in path)


def _texts(key: object, value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple | set | frozenset) else [value]
    if not values or not all(isinstance(item, str | int | float) for item in values):
        raise MalformedError(f"{key} takes a text, a number, true, false, or a list of them.", where="where")
    texts = (_utf8(item, "where") if isinstance(item, str) else canonical(item).decode() for item in values)
    return tuple(sorted(texts))


def _like(name: str, pattern: str) -> bool:
    return name == pattern or (("*" in pattern or "?" in pattern) and fnmatchcase(name, pattern.replace("[", "[[]")))


def _any_like(name: str, patterns: Iterable[str]) -> bool:
    return any(_like(name, pattern) for pattern in patterns)


def _any(parts: list[str]) -> str:
    return "(" + " OR ".join(parts) + ")"


def _match(expression: str, value: str, values: list[Any]) -> str:
    if "*" in value or "?" in value:
        values.append(like_pattern(value))
        return f"{expression} LIKE ? ESCAPE '\\'"
    values.append(value)
    return f"{expression} = ?"


def _match_party(party: str, value: str, values: list[Any]) -> str:
    """An id, or `type:id`; an id may hold colons itself, so that both readings count."""
    parts = [_match(f"{party}_id", value, values)]
    kind, colon, rest = value.partition(":")
    if colon and kind and rest:
        parts.append(f"({_match(f'{party}_type', kind, values)} AND {_match(f'{party}_id', rest, values)})")
    return _any(parts)


def _match_context(path: tuple[str, ...], texts: tuple[str, ...], values: list[Any]) -> str:
    """The value at a path, or an element of the array there, is one of the texts."""
    likely = _may_match(path, texts, values)
    pointer = context_path(path)
    parts = []
    for text in texts:
        values.append(pointer)
        single = _match("json_extract_string(context, ?)", text, values)
        values.append(pointer + "[*]")
        if "*" in text or "?" in text:
            values.append(like_pattern(text))
            element = "x LIKE ? ESCAPE '\\'"
        else:
            values.append(text)
            element = "x = ?"
        listed = f"len(list_filter(json_extract_string(context, ?), lambda x: {element})) > 0"
        parts.append(f"({single} OR (contains(context, '[') AND {listed}))")
    return f"({likely} AND {_any(parts)})"


def _may_match(path: tuple[str, ...], texts: tuple[str, ...], values: list[Any]) -> str:
    """What every context that matches fulfils, found without parsing it: a tenth of the time.

    JSON text without a backslash holds each of its keys and strings as they are (RFC 8259 section 7). Numbers and what
    is made of them may be written in several ways, so that a text that could be one is not looked for.
    """
    parts = [_contains(f'"{key}"', values) for key in path]
    if not any("*" in text or "?" in text or _maybe_written_otherwise(text) for text in texts):
        parts.append(_any([_contains(text, values) for text in texts]))
    return f"(contains(context, '\\') OR ({' AND '.join(parts)}))"


def _contains(text: str, values: list[Any]) -> str:
    values.append(text)
    return "contains(context, ?)"


def _maybe_written_otherwise(text: str) -> bool:
    """Whether it could be what an engine makes of a number (NaN and Infinity are some to it), an array or an object."""
    return text[:1] in ("[", "{") or not set(text) - set("+-.0123456789eEnaitfyNI")
