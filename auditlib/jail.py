"""A statement of the user's own, in a jail: one SELECT over verified files, and nothing else can be reached.

    jailed(files.parts(seals, every), "SELECT action, count(*) FROM events GROUP BY ALL")

No file but those, no network, no settings; the time, the memory and the size of the answer are bounded.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from auditlib.errors import MalformedError, UnavailableError
from auditlib.files import Part
from auditlib.scan import ROWS_A_BATCH, connect, in_utc, literal, source

SQL_MEMORY = "4GB"  # for one statement of the user's own
SQL_SECONDS = 60  # before a statement of the user's own is stopped
SQL_RESULT_BYTES = 1024 * 1024 * 1024  # of the answer to one statement of the user's own
_SELECT_NODES = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")  # what a SELECT is made of
_TABLE_FUNCTIONS = ("generate_series", "json_each", "json_tree", "range", "unnest")  # those that reach nothing else


def jailed(parts: Sequence[Part], statement: str) -> pa.Table:
    """The answer to one SELECT over the view `events`: these parts.

    MalformedError where it is none, fails, or asks for too much; UnavailableError where it runs past SQL_SECONDS.
    """
    jail = connect(memory_limit=SQL_MEMORY, temp_directory="")  # a folder to spill into could be written to
    try:
        _check_select(jail, statement)
        jail.execute(f"CREATE VIEW events AS SELECT * FROM ({source(parts)})")
        jail.execute("SET allowed_paths = " + literal([path for part in parts for path in part.paths]))
        jail.execute("SET enable_external_access = false")
        jail.execute("SET lock_configuration = true")
        stop = threading.Timer(SQL_SECONDS, jail.interrupt)
        stop.start()
        try:
            return in_utc(_bounded(jail.sql(statement).to_arrow_reader(ROWS_A_BATCH)))
        except duckdb.InterruptException:
            raise UnavailableError(f"the statement ran past {SQL_SECONDS} s and was stopped.") from None
        except (duckdb.Error, pa.ArrowException) as error:
            raise MalformedError(str(error).splitlines()[0], where="sql") from None
        finally:
            stop.cancel()
    finally:
        jail.close()


def _check_select(database: duckdb.DuckDBPyConnection, statement: str) -> None:
    """One SELECT, and so is every part of it: a CTE's body may be a COPY, and query() takes a statement as text."""
    try:
        text = statement.encode()
        statements = database.extract_statements(statement)
        single = len(statements) == 1 and statements[0].type == duckdb.StatementType.SELECT and b"\0" not in text
        parsed = json.loads(_one(database, "SELECT json_serialize_sql(?)", statement)) if single else {"error": True}
    except (duckdb.Error, UnicodeEncodeError) as error:
        raise MalformedError(str(error).splitlines()[0], where="sql") from None
    except RecursionError:
        raise MalformedError("the statement is nested too deeply.", where="sql") from None
    if parsed["error"]:
        raise MalformedError("give exactly one SELECT over the view events.", where="sql")
    parts = list(_parts(parsed["statements"]))
    known = {"events"} | {entry["key"].lower() for part in parts for entry in part.get("cte_map", {}).get("map", ())}
    for part in parts:
        kind = str(part.get("type", ""))
        if kind.endswith("_NODE") and kind not in _SELECT_NODES:
            raise MalformedError("give exactly one SELECT over the view events.", where="sql")
        if kind == "BASE_TABLE" and part["table_name"].lower() not in known:
            raise MalformedError(f"{part['table_name']!r} is not here; only the view events is.", where="sql")
        if kind == "TABLE_FUNCTION" and part["function"]["function_name"].lower() not in _TABLE_FUNCTIONS:
            name = part["function"]["function_name"]
            raise MalformedError(f"{name}() is not allowed here; only the view events can be read.", where="sql")


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a parsed statement, however deep."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
        if isinstance(value, dict | list):
            waiting.extend(value.values() if isinstance(value, dict) else value)


def _one(database: duckdb.DuckDBPyConnection, statement: str, value: str) -> str:
    ((text,),) = database.execute(statement, [value]).fetchall()
    return str(text)


def _bounded(reader: pa.RecordBatchReader) -> pa.Table:
    """A stream as a table, as long as it stays within SQL_RESULT_BYTES."""
    batches, size = [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > SQL_RESULT_BYTES:
            raise MalformedError(
                f"the answer is larger than {SQL_RESULT_BYTES // 2**20:,} MiB.", where="sql", remedy="Ask for less."
            )
    return pa.Table.from_batches(batches, reader.schema)
