"""The systems in scope, and for each of them and each month whether the trail covers it: `scope.toml`.

    format = "auditlib/scope/v1"

    [[systems]]
    name = "billing"
    owner = "Head of payments"
    sources = ["billing-api"]            # what stands before the slash of a source that is expected to record
    kinds = ["login", "change"]          # kinds of action that it is expected to record
    from = 2026-01-01                    # optional; a day is its midnight in the zone of the period
    until = 2026-07-01                   # optional, exclusive
    carve_out = "..."                    # optional: the reason why it is left out; it stays in the table

A month is covered where every expected source recorded something in it, none was silent for more than QUIET, and
every expected kind was seen in the period; else partly covered, with what is missing. It is uncovered where none of the
sources recorded anything: a system that was never connected stands there, month by month.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pandas as pd

from auditlib.errors import MalformedError
from auditlib.evidence.answer import Period, listed, many
from auditlib.findings import duration
from auditlib.formats.event import NAME, source_name
from auditlib.formats.times import DAY, from_datetime, parse_time, to_datetime
from auditlib.query import parse_moment, zone_of
from auditlib.tomlfiles import parse_toml, read_bytes, to_struct
from auditlib.trail import Trail

SCOPE_FORMAT = "auditlib/scope/v1"
QUIET = DAY  # microseconds without a record before a month is covered in part only (the request list's own rule)
MAX_SYSTEMS = 500
COVERED, PARTLY, UNCOVERED, CARVED_OUT = "covered", "partly covered", "uncovered", "carved out"
COLUMNS = ["system", "owner", "month", "state", "missing"]
_BEST = (COVERED, PARTLY, UNCOVERED, CARVED_OUT)  # a system that is carved out is so in every trail
_SHOWN = 3  # silences named in one cell

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000)]

# An import carries the times at which things occurred elsewhere; every other source lives by when it was recorded.
_CLOCK = "CASE WHEN starts_with(source, 'import:') THEN occurred_at ELSE recorded_at END"
# Two records of one UTC day are never QUIET apart: the first and the last of each day say where the silences are.
_DAYS = f"""
    , seen AS (SELECT split_part(source, '/', 1) AS name, action, epoch_us({_CLOCK}) AS t FROM batches)
    SELECT name, action, min(t) AS first, max(t) AS last FROM seen
    WHERE t >= $since AND t < $until AND list_contains($names, name)
    GROUP BY name, action, t // {DAY} ORDER BY ALL"""  # noqa: S608 - constants of this module alone


class System(msgspec.Struct, frozen=True, rename={"since": "from"}):
    """One system in scope, as it was written down."""

    name: Name
    owner: Name
    sources: Annotated[tuple[Name, ...], msgspec.Meta(max_length=100)]
    kinds: Annotated[tuple[Name, ...], msgspec.Meta(max_length=100)] = ()
    since: date | None = None
    until: date | None = None
    carve_out: Words | None = None


class Scope(msgspec.Struct, frozen=True):
    """The systems in scope, in the order in which they were written down."""

    systems: tuple[System, ...]
    data: bytes  # the file as it was written


class _Heard(msgspec.Struct):
    """What one source recorded in one month: (first, last) of each day in microseconds, and its actions."""

    days: list[tuple[int, int]] = []
    actions: set[str] = set()


Month = tuple[str, int, int]  # 2026-03, since, until
Recorded = dict[tuple[str, str], _Heard]  # (source, month)


def read_scope(path: Path) -> Scope:
    """A `scope.toml`. MalformedError that names the system and the key."""
    data = read_bytes(path)
    try:
        return parse_scope(data)
    except MalformedError as error:
        raise error.at(str(path)) from None


def parse_scope(data: bytes) -> Scope:
    """The bytes of a `scope.toml`."""
    return Scope(_systems(parse_toml(data, SCOPE_FORMAT, ("systems",))), data)


def scope_table(trail: Trail, scope: Scope, period: Period) -> pd.DataFrame:
    """Each system and month of the period, columns as COLUMNS, in the order of the scope and of time.

    Months are those of the period's time zone, cut to the period and to the system's own `from` and `until`; an open
    period is the trail's own. Raises MismatchError where a batch is not the one that was sealed.
    """
    months = list(_months(trail, period))
    zone = zone_of(period.tz)
    recorded = _recorded(trail, months, sorted({source for system in scope.systems for source in system.sources}))
    rows: list[dict[str, Any]] = []
    for system in scope.systems:
        begins, ends = (
            None if moment is None else parse_moment(moment, zone, f"systems {system.name}")
            for moment in (system.since, system.until)
        )
        own = [
            (name, max(since, begins or since), min(until, ends or until))
            for name, since, until in months
            if (begins is None or until > begins) and (ends is None or since < ends)
        ]
        rows += _rows(trail, system, own, recorded)
    return pd.DataFrame(rows, columns=COLUMNS)


def scope_over(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The tables of several trails as one: a system and month is as well covered as in the trail that covers it best.

    `trails` names the one, or those that are alike in it; what is missing is told of each of these. The table of a
    single trail stays as it is.
    """
    if len(tables) == 1:
        return next(iter(tables.values()))
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for origin, table in tables.items():
        for row in table.to_dict("records"):
            found.setdefault((row["system"], row["month"]), {})[origin] = {str(name): row[name] for name in COLUMNS}
    order = list(dict.fromkeys(system for system, _ in found))
    rows: list[dict[str, Any]] = []
    for _, by_trail in sorted(found.items(), key=lambda pair: (order.index(pair[0][0]), pair[0][1])):
        state = min((row["state"] for row in by_trail.values()), key=_BEST.index)
        best = {origin: row for origin, row in by_trail.items() if row["state"] == state}
        said = {origin: row["missing"] for origin, row in best.items() if row["missing"]}
        alike = set(said.values())
        missing = alike.pop() if len(alike) == 1 else "; ".join(f"{origin}: {text}" for origin, text in said.items())
        trails = ", ".join(best) if state in (COVERED, PARTLY) else ""
        rows += [row | {"missing": missing, "trails": trails} for row in list(best.values())[:1]]
    return pd.DataFrame(rows, columns=[*COLUMNS, "trails"])


def scope_sentences(table: pd.DataFrame) -> list[str]:
    """What the table says, in words: the count of each state, then each system that is not covered throughout."""
    states = table["state"].value_counts()
    counted = [f"{int(states[state])} {state}" for state in (COVERED, PARTLY, UNCOVERED, CARVED_OUT) if state in states]
    systems, months = table["system"].nunique(), many(len(table), "system and month", "systems and months")
    told = [f"{many(systems, 'system')} in scope, {months} in the period: {listed(counted)}."]
    rest = table[table["state"] != COVERED]
    names = ["system", "state", "missing", *(["trails"] if "trails" in rest else [])]  # of several trails, which say so
    for (system, state, missing, *trails), rows in rest.groupby(names, sort=False):
        by = f" (by {trails[0]})" if any(trails) else ""
        told.append(f"{system}: {state} in {listed(rows['month'].tolist())}{by}: {missing}.")
    return told


def _systems(tables: dict[str, Any]) -> tuple[System, ...]:
    given = tables.get("systems", [])
    if not isinstance(given, list) or not 0 < len(given) <= MAX_SYSTEMS:
        raise MalformedError(f"there must be 1 to {MAX_SYSTEMS} [[systems]].", where="systems")
    systems = tuple(to_struct(table, System, f"systems[{number}]") for number, table in enumerate(given))
    for number, system in enumerate(systems):
        where = f"systems[{number}] ({system.name})"
        if any(system.name == other.name for other in systems[:number]):
            raise MalformedError("another system has this name.", where=where)
        if not system.sources and system.carve_out is None:
            raise MalformedError("no source is expected, so that it can never be covered.", where=where)
        for source in system.sources:
            if not NAME.fullmatch(source) or "/" in source:
                raise MalformedError(f"{source!r} is no source; write what stands before the slash.", where=where)
        if system.since and system.until and system.since >= system.until:
            raise MalformedError("it ends before it begins (until is exclusive).", where=where)
    return systems


def _months(trail: Trail, period: Period) -> Iterator[Month]:
    """The months of the period in its time zone, the first and the last cut to it."""
    zone = zone_of(period.tz)
    first, last = (parse_time(text) for text in trail.recorded)
    since = min(first, trail.history.seals.begins) if period.since is None else period.since
    until = max(last, since) + 1 if period.until is None else period.until
    local = to_datetime(since).astimezone(zone)
    year, month = local.year, local.month
    begin = since
    while begin < until:
        name = f"{year:04}-{month:02}"
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
        end = min(until, from_datetime(datetime(year, month, 1, tzinfo=zone).astimezone(UTC)))
        yield name, begin, end
        begin = end


def _recorded(trail: Trail, months: list[Month], names: list[str]) -> Recorded:
    """What these sources recorded, month by month, from the batches whose seals say that they could hold it."""
    found: Recorded = defaultdict(lambda: _Heard([], set()))
    for month, since, until in months:
        every = trail.history.seals
        there = every.sources.having(lambda source: source_name(source) in names)
        seals = every.chosen(every.within(since, until) & there)
        values: Any = {"since": since, "until": until, "names": names}
        for name, action, first, last in trail.run(seals, _DAYS, values).fetchall():
            heard = found[name, month]
            heard.days.append((int(first), int(last)))
            heard.actions.add(action)
    return found


def _rows(trail: Trail, system: System, months: list[Month], recorded: Recorded) -> Iterator[dict[str, Any]]:
    known = set(map(source_name, trail.history.seals.sources.names))
    actions = trail.catalog.actions if trail.catalog else {}
    seen = {
        actions[action].kind
        for source in system.sources
        for name, _, _ in months
        for action in (recorded[source, name].actions if (source, name) in recorded else ())
        if action in actions
    }
    unseen = [kind for kind in system.kinds if kind not in seen]
    silences = {source: _silences(source, months, recorded) for source in system.sources}
    for name, since, until in months:
        heard = {source for source in system.sources if _heard(recorded.get((source, name)), since, until)}
        missing = []
        for source in system.sources:
            if source not in heard:
                when = "recorded nothing" if source in known else "was never connected: the trail holds no record of it"
                missing.append(f"{source} {when}")
                continue
            quiet = [(a, b) for a, b in silences[source] if a < until and b > since]
            missing += [
                f"{source} was silent from {_minute(a)} to {_minute(b)} UTC ({duration(b - a)})"
                for a, b in quiet[:_SHOWN]
            ]
            missing += [f"and {len(quiet) - _SHOWN} more times"] if len(quiet) > _SHOWN else []
        if heard and unseen:
            missing.append(f"no action of kind {listed(unseen)} was recorded in the period")
        state = UNCOVERED if not heard else PARTLY if missing else COVERED
        if system.carve_out is not None:
            state, missing = CARVED_OUT, [system.carve_out.rstrip(".")]
        yield {
            "system": system.name,
            "owner": system.owner,
            "month": name,
            "state": state,
            "missing": "; ".join(missing),
        }


def _heard(recorded: _Heard | None, since: int, until: int) -> bool:
    """Whether anything was recorded; where a system begins or ends within a month, that part of it counts."""
    return recorded is not None and any(last >= since and first < until for first, last in recorded.days)


def _silences(source: str, months: list[Month], recorded: Recorded) -> list[tuple[int, int]]:
    """Where a source was silent for more than QUIET, the edges of the period included; a month's edge is none."""
    if not months:
        return []
    days = [day for name, _, _ in months if (source, name) in recorded for day in recorded[source, name].days]
    found = []
    before = months[0][1]
    for first, last in [*sorted(days), (months[-1][2], months[-1][2])]:
        if first - before > QUIET:
            found.append((before, first))
        before = max(before, last)
    return found


def _minute(micros: int) -> str:
    return f"{to_datetime(micros):%Y-%m-%d %H:%M}"
