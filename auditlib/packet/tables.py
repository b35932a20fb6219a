"""Check 6: the tables of a packet speak of records that are here, and agree with packet.json.

    fault = (file, sentence, expected, found)

A row with an `event_id` is held against its record in every column that a record has; one whose `event_id` is empty
stands for something that no record speaks of (somebody on a list from outside). In a packet over several trails every
such table has a column `trail`: the one under which the proof of the row's record lies, and ids count within it. What
only matching can say (grantee, entitlement, approval, verdict, reason) is counted, not worked out again; `unchecked`
names it.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from auditlib.errors import MalformedError
from auditlib.export import defuse
from auditlib.formats.event import Record
from auditlib.formats.times import parse_time

FOLDER = "data/tables/"
MAX_ROWS = 2_000_000  # rows of one table
_PLACE, _ANY = ("trail", "sequence", "row"), "*"  # what its proof says of a record
_FACTS = (
    *("event_id", "occurred_at", "recorded_at", "source", "actor_type", "actor_id", "action", "outcome"),
    *_PLACE,
)  # what a row can say of a record
_TESTED = ("pass", "not-testable")  # verdicts that are no potential exception

Fault = tuple[str, str, object, object]
Rows = list[dict[str, str]]


class Head(NamedTuple):
    """The first rows of a table, and how many it has in all."""

    rows: Rows
    in_all: int


class Shown(NamedTuple):
    """A record of events.jsonl, and the (trail, sequence, row) that its proof gives it."""

    record: Record
    place: tuple[str, int, int] | None


def read_table(data: bytes) -> Rows:
    """A CSV table's rows; MalformedError where it is none, a name stands twice, or a row has another length."""
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        names = next(reader, [])
        if not names or len(set(names)) != len(names):
            raise MalformedError("there are no columns, or one stands twice.")
        rows = []
        for number, row in enumerate(reader, 2):
            if len(row) != len(names):
                raise MalformedError(f"row {number} has {len(row)} cells under {len(names)} columns.")
            rows.append(dict(zip(names, row, strict=True)))
            if len(rows) > MAX_ROWS:
                raise MalformedError(f"more than {MAX_ROWS:,} rows are not read.")
    except (UnicodeDecodeError, csv.Error) as error:
        raise MalformedError(f"not a CSV table: {error}.") from None
    return rows


def read_heads(payload: Mapping[str, bytes], most: int) -> dict[str, Head]:
    """The CSV tables among a packet's own files, by name: of each the first rows, `most` of them, are kept."""
    heads = {}
    for name, data in payload.items():
        if name.startswith("tables/") and name.endswith(".csv"):
            reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline=""))
            names = next(reader, [])
            rows = [dict(zip(names, row, strict=True)) for row in islice(reader, most)]
            heads[name.removeprefix("tables/").removesuffix(".csv")] = Head(rows, len(rows) + sum(1 for _ in reader))
    return heads


def check_tables(
    packet: Mapping[str, Any], tables: Mapping[str, Rows], shown: Sequence[Shown], origins: Sequence[str]
) -> Iterator[Fault]:
    """Every way in which tables, records and packet.json disagree; `origins` are those of the packet's trails."""
    facts = [_facts(one) for one in shown]
    by_id: dict[str, list[int]] = defaultdict(list)
    for line, fact in enumerate(facts):
        by_id[fact["event_id"]].append(line)
    trails = list(map(defuse, origins))
    spoken: set[int] = set()
    indexed: dict[tuple[str, ...], dict[tuple[str, ...], list[int]]] = {}  # by the columns that a table has
    for name, rows in tables.items():
        yield from _trails(f"{FOLDER}{name}.csv", rows, trails)
        for number, row in enumerate(rows, 2):
            if not row.get("event_id"):  # an item of a list from outside, which no record speaks of
                continue
            there = by_id.get(row["event_id"], [])
            columns = tuple(column for column in _FACTS if column in row)
            if columns not in indexed:
                indexed[columns] = _indexed(facts, columns)
            placed = tuple(row[column] for column in columns)
            unplaced = tuple(_ANY if column in _PLACE else row[column] for column in columns)
            agree = [line for key in {placed, unplaced} for line in indexed[columns].get(key, ())]
            spoken.update(agree)
            if not agree:
                own = [line for line in there if facts[line].get("trail") == row.get("trail")] or there
                known = facts[own[0]] if own else {}
                differ = {column: fact for column, fact in known.items() if row.get(column, fact) != fact}
                yield (
                    f"{FOLDER}{name}.csv",
                    f"row {number} speaks of the event {row['event_id'][:140]} otherwise than the records here.",
                    differ or "no such record",
                    {column: row[column] for column in differ} or "a row",
                )
    yield from _population(packet, tables, shown, spoken)
    yield from _exceptions(packet, tables)


def _trails(where: str, rows: Rows, trails: Sequence[str]) -> Iterator[Fault]:
    """Of several trails every row of a table that names events says which it is of, also where no record speaks."""
    if len(trails) < 2 or not rows or "event_id" not in rows[0]:
        return
    for number, row in enumerate(rows, 2):
        if row.get("trail") not in trails:
            message = f"row {number} names none of the packet's trails as the one that it is of."
            yield where, message, trails, row.get("trail", "no column trail")


def _indexed(facts: Sequence[Mapping[str, str]], columns: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    """The lines of each combination of values; a record without a proof has no place, and stands under `_ANY`."""
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for line, fact in enumerate(facts):
        found[tuple(fact.get(column, _ANY) for column in columns)].append(line)
    return found


def population_table(packet: Mapping[str, Any]) -> str:
    """The table that holds a row for each item of the population: its kind in the plural."""
    return f"{packet.get('population', {}).get('kind')}s"


def without_events(tables: Mapping[str, Rows]) -> list[str]:
    """The tables that name no events, so that nothing in them is held against a record."""
    return sorted(name for name, rows in tables.items() if rows and "event_id" not in rows[0])


def _population(
    packet: Mapping[str, Any], tables: Mapping[str, Rows], shown: Sequence[Shown], spoken: set[int]
) -> Iterator[Fault]:
    stated, name = packet["population"], population_table(packet)
    rows = tables.get(name, [])
    where = f"{FOLDER}{name}.csv"
    if rows and not {"event_id", "source", "verdict"} <= set(rows[0]):
        yield where, "the table has no column event_id, source or verdict.", "event_id, source, verdict", list(rows[0])
        return
    events = {(row.get("trail"), row["source"], row["event_id"]) for row in rows if row["event_id"]}
    for what, expected, found in (("items", stated["items"], len(rows)), ("events", stated["events"], len(events))):
        if expected != found:
            yield where, f"there are not as many {what} as packet.json states.", expected, found
    verdicts = Counter(row["verdict"] for row in rows)
    counted = {verdict: number for verdict, number in stated["verdicts"].items() if number}
    if counted != dict(verdicts):
        yield where, "the verdicts are not as many as packet.json states.", counted, dict(verdicts)
    since, until = (None if end is None else parse_time(end) for end in map(packet["period"]["utc"].get, _ENDS))
    for line, one in enumerate(shown):
        event = one.record.event
        at = parse_time(event.occurred_at)
        within = (since is None or at >= since) and (until is None or at < until)
        if within and event.action in stated["actions"] and event.outcome == "success" and line not in spoken:
            message = f"line {line} is a {event.action} of the period, and no table speaks of it."
            yield "data/events.jsonl", message, "a row", "none"


_ENDS = ("since", "until")


def _exceptions(packet: Mapping[str, Any], tables: Mapping[str, Rows]) -> Iterator[Fault]:
    where, rows = f"{FOLDER}exceptions.csv", tables.get("exceptions", [])
    if len(rows) != packet.get("exceptions"):
        message = "there are not as many potential exceptions as packet.json states."
        yield where, message, packet.get("exceptions"), len(rows)
    population = [row for row in tables.get(population_table(packet), []) if row.get("verdict") not in _TESTED]
    columns = [column for column in (rows[0] if rows else ()) if not population or column in population[0]]
    expected, found = (Counter(tuple(row[column] for column in columns) for row in some) for some in (population, rows))
    if expected != found:
        message = "these are not the items of the population whose verdict is no pass."
        yield where, message, list((expected - found) or expected)[:1], list((found - expected) or found)[:1]


def _facts(one: Shown) -> dict[str, str]:
    """What a row can say of this record, spelled as tables spell it."""
    event, receipt = one.record.event, one.record.receipt
    facts = {
        "event_id": event.event_id,
        "occurred_at": event.occurred_at,
        "recorded_at": receipt.recorded_at,
        "source": receipt.source,
        "actor_type": event.actor.type,
        "actor_id": event.actor.id,
        "action": event.action,
        "outcome": event.outcome,
    }
    place = {} if one.place is None else dict(zip(_PLACE, map(str, one.place), strict=True))
    return {name: defuse(fact) for name, fact in (facts | place).items()}
