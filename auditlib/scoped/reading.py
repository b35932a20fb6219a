"""Newest first, a page at a time (recorded_at, sequence, row, all descending), from as few batches as will do.

The batches are taken from the newest on, twice as many at each step; the seals' ranges say when no batch that is
left can hold anything newer than what was found. A page of a common filter so reads one batch, however long the trail;
a filter that nothing answers reads each once. Positions are found first and whole rows only where they are shown:
an engine that sorts thirteen columns to keep fifty rows takes several times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import duckdb
import pyarrow as pa

from auditlib.errors import MismatchError, UnavailableError
from auditlib.formats.columns import SCHEMA
from auditlib.formats.seal import Seal
from auditlib.scan import ROWS_A_BATCH, in_utc
from auditlib.scoped.cursors import Position
from auditlib.trail import Trail

_COLUMNS = ", ".join(SCHEMA.names)
_AFTER = (
    "recorded_at <= make_timestamptz(?) AND (recorded_at < make_timestamptz(?) OR sequence < ? OR "
    "(sequence = ? AND row < ?))"
)
_Result = TypeVar("_Result")


class Dated(NamedTuple):
    """A batch by when its last and first record were recorded, in microseconds, on its seal's word."""

    last: int
    first: int
    seal: Seal


def newest(
    trail: Trail,
    batches: Sequence[Dated],
    condition: str,
    values: list[Any],
    limit: int,
    after: Position | None = None,
) -> list[Position]:
    """The positions of the newest `limit` records that fit, after a position if given; `batches` newest first."""
    waiting = [dated for dated in batches if after is None or dated.first <= after.recorded]
    if after is not None:
        condition = f"({condition}) AND {_AFTER}"
        values = [*values, after.recorded, after.recorded, after.sequence, after.sequence, after.row]
    found: list[Position] = []
    taken = 1
    while waiting:
        seals, waiting = [dated.seal for dated in waiting[:taken]], waiting[taken:]
        statement = (
            f"SELECT epoch_us(recorded_at), sequence, row FROM batches WHERE {condition} "  # noqa: S608 - bound values
            f"ORDER BY recorded_at DESC, sequence DESC, row DESC LIMIT {int(limit)}"
        )
        rows = fetch(trail, seals, statement, values, lambda relation: relation.fetchall())
        found = sorted([*found, *(Position(*row) for row in rows)], reverse=True)[:limit]
        if len(found) == limit and (not waiting or found[-1].recorded > waiting[0].last):
            break
        taken *= 2
    return found


def rows_at(trail: Trail, batches: Sequence[Dated], positions: Sequence[Position]) -> pa.Table:
    """The records at these positions, in their order, as the columns of a batch."""
    chosen: dict[int, list[int]] = {}
    for position in positions:
        chosen.setdefault(position.sequence, []).append(position.row)
    parts, values = [], []
    for sequence, rows in chosen.items():
        parts.append(f"(sequence = ? AND row IN ({', '.join('?' * len(rows))}))")
        values += [sequence, *rows]
    seals = [dated.seal for dated in batches if dated.seal.sequence in chosen]
    statement = f"SELECT sequence, row, {_COLUMNS} FROM batches WHERE {' OR '.join(parts) or 'FALSE'}"  # noqa: S608
    table = fetch(trail, seals, statement, values, lambda relation: in_utc(relation.to_arrow_table()))
    places = zip(table.column("sequence").to_pylist(), table.column("row").to_pylist(), strict=True)
    order = {place: number for number, place in enumerate(places)}
    taken = [order[position.sequence, position.row] for position in positions]
    return table.select(SCHEMA.names).take(pa.array(taken, pa.int64())).cast(SCHEMA)


def stream(trail: Trail, seals: list[Seal], condition: str, values: list[Any]) -> Iterator[pa.Table]:
    """The records that fit, in the order they were sealed, as tables of the columns of a batch; at least one table."""
    statement = f"SELECT {_COLUMNS} FROM batches WHERE {condition}"  # noqa: S608 - only names of this library
    reader = fetch(trail, seals, statement, values, lambda relation: relation.to_arrow_reader(ROWS_A_BATCH))
    yield SCHEMA.empty_table()
    while True:
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            return
        except (pa.ArrowException, OSError):
            raise _failed() from None
        yield in_utc(pa.Table.from_batches([batch])).cast(SCHEMA)


def fetch(
    trail: Trail,
    seals: list[Seal],
    statement: str,
    values: list[Any],
    take: Callable[[duckdb.DuckDBPyRelation], _Result],
) -> _Result:
    """Run a statement; what engine and storage say of a fault is kept back: it may quote a record, or name a place."""
    try:
        return take(trail.run(seals, statement, values))
    except (duckdb.Error, pa.ArrowException, UnavailableError):
        raise _failed() from None
    except MismatchError as error:
        message = "a batch is not the one that was sealed (check 5)."
        raise MismatchError(message, expected=error.expected, found=error.found) from None


def _failed() -> UnavailableError:
    return UnavailableError("this question could not be answered.", remedy="Ask for less, or tell who runs the vault.")
