"""Verified files -> a DuckDB relation: what a statement of this library reads as the table `batches`.

    database = connect()
    ask(database, files.parts(seals, every), "SELECT count(*) FROM batches WHERE outcome = ?", ["denied"])

A row has its sequence, its row in the batch, and the columns of a batch, in the order (sequence, row).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from auditlib.errors import MalformedError
from auditlib.files import Part
from auditlib.formats.columns import SCHEMA

COLUMNS = ", ".join(SCHEMA.names)
ROWS_A_BATCH = 65_536  # rows of a result held at a time while it streams
_DUCKDB_TYPES = {"sequence": "BIGINT", "row": "BIGINT"} | {
    field.name: "TIMESTAMPTZ"
    if pa.types.is_timestamp(field.type)
    else "BIGINT"
    if field.type == pa.int64()
    else "VARCHAR"
    for field in SCHEMA
}


def connect(**config: str) -> duckdb.DuckDBPyConnection:
    """An empty database in memory that looks at no Python variable and speaks UTC."""
    database = duckdb.connect(config={"python_enable_replacements": False, **config})
    database.execute("SET TimeZone = 'UTC'")
    return database


def ask(
    database: duckdb.DuckDBPyConnection, parts: Sequence[Part], statement: str, values: Any, rows: str = ""
) -> duckdb.DuckDBPyRelation:
    """Run a SELECT, or `, name AS (...) SELECT`, over `batches`: these parts, of them where given only some `rows`.

    `values` are the statement's parameters. MalformedError where it is none that gives rows.
    """
    batches = f"SELECT * FROM ({source(parts)}) WHERE {rows}" if rows else source(parts)
    return _related(database, f"WITH batches AS ({batches}) {statement}", values)


def ask_table(
    database: duckdb.DuckDBPyConnection, parts: pa.Table, statement: str, values: Any = None
) -> duckdb.DuckDBPyRelation:
    """Run a SELECT over the table `parts`: rows that are here already."""
    database.register("parts", parts)
    return _related(database, statement, values)


def in_utc(table: pa.Table) -> pa.Table:
    """The same table with every time zone named plain UTC (DuckDB writes Etc/UTC)."""
    kinds = [
        field.with_type(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(field.type) and field.type.tz else field
        for field in table.schema
    ]
    return table.cast(pa.schema(kinds))


def rechunked(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows as tables of one chunk and ROWS_A_BATCH rows each, the last of fewer; at least one table."""
    waiting: list[pa.Table] = []
    held = told = 0
    for table in tables:
        waiting.append(table)
        held += table.num_rows
        while held >= ROWS_A_BATCH:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, ROWS_A_BATCH).combine_chunks()
            waiting = [joined.slice(ROWS_A_BATCH)]
            held -= ROWS_A_BATCH
            told += 1
    if held or not told:
        yield pa.concat_tables(waiting).combine_chunks()


def source(parts: Sequence[Part]) -> str:
    """A SELECT of sequence, row and the columns of a batch from verified files, in the order (sequence, row)."""
    if not parts:
        names = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _DUCKDB_TYPES.items())
        return f"SELECT {names} WHERE false"
    return " UNION ALL ".join(map(_source_of, parts))


def literal(values: Sequence[Any]) -> str:
    """A list of this library's own paths or numbers as an SQL literal."""
    return "[" + ", ".join(str(v) if isinstance(v, int) else "'" + v.replace("'", "''") + "'" for v in values) + "]"


def _related(database: duckdb.DuckDBPyConnection, statement: str, values: Any) -> duckdb.DuckDBPyRelation:
    try:
        relation = database.sql(statement, params=values)
    except duckdb.InvalidInputException as error:
        raise MalformedError(str(error).splitlines()[0], where="query") from None
    if relation is None:
        raise MalformedError("the statement gives no rows.", where="query")
    return relation


def _source_of(part: Part) -> str:
    files = f"read_parquet({literal(part.paths)}, hive_partitioning = false)"
    if not part.rolled:
        numbers = literal(part.sequences)
        return (
            f"SELECT {numbers}[(file_index + 1)::BIGINT]::BIGINT AS sequence, file_row_number::BIGINT AS row, "
            f"{COLUMNS} FROM {files}"
        )
    return f"SELECT sequence, row, {COLUMNS} FROM {files}{_asked(part)}"


def _asked(part: Part) -> str:
    """A WHERE that leaves of roll-ups the batches that are asked: by a bit for each, because a list takes long."""
    if not part.sequences:
        return ""
    bits = ["0"] * len(part.extent)
    for sequence in part.sequences:
        bits[sequence - part.extent.start] = "1"
    ends = f"sequence BETWEEN {part.sequences[0]} AND {part.sequences[-1]}"  # by which files are passed over
    return f" WHERE {ends} AND get_bit('{''.join(bits)}'::BIT, (sequence - {part.extent.start})::INTEGER) = 1"
