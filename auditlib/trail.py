"""The trail: a vault, read and verified at one checkpoint, and asked.

    trail = auditlib.open("data-samples/vault", keys="data-samples/sample.vkey")
    grants = trail.events(kind="grant", since="2026-03-01", until="2026-06-01", where={"granted_role": "admin"})
    grants.df()

Opening makes checks 0 to 4; every batch that a question reads is hashed first (check 5). Which batches can hold an
answer is chosen from the seals' ranges and counts; that rests on the sealer's word until `verify(deep=True)`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from auditlib import export as exports
from auditlib import verify as verification
from auditlib.checked import RECHECK_EVENTS
from auditlib.errors import MalformedError, MismatchError, UnavailableError
from auditlib.files import Part, VerifiedFiles
from auditlib.findings import Report, duration
from auditlib.formats.catalog import Catalog, parse_catalog
from auditlib.formats.checkpoint import Checkpoint
from auditlib.formats.columns import SCHEMA
from auditlib.formats.keys import VerifierKey
from auditlib.formats.seal import Seal
from auditlib.formats.times import format_time
from auditlib.history import History, read_history
from auditlib.keyfiles import load_verifier_keys
from auditlib.pagecache import page_cache
from auditlib.query import Filter, Moment, Values, Where, build_filter
from auditlib.vault import open_vault
from auditlib.vault.cache import batch_cache

if TYPE_CHECKING:
    import pandas as pd

Keys = str | Path | VerifierKey | Iterable[str | Path | VerifierKey] | None

SQL_MEMORY = "4GB"  # for one statement of the user's own
SQL_SECONDS = 60  # before a statement of the user's own is stopped
SQL_RESULT_BYTES = 1024 * 1024 * 1024  # of the answer to one statement of the user's own
ROWS_A_BATCH = 65_536  # rows of a result held at a time while it streams
_PREVIEW_ROWS = 20  # rows a notebook shows of a selection
_LAG = "(epoch_us(recorded_at) - epoch_us(occurred_at)) / 1e6 AS recorded_after_seconds"
_COLUMNS = ", ".join(SCHEMA.names)
_SELECT_NODES = ("SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE")  # what a SELECT is made of
_TABLE_FUNCTIONS = ("generate_series", "json_each", "json_tree", "range", "unnest")  # those that reach nothing else


def open(vault: str | Path, *, keys: Keys = None, at: int | None = None, catalog: Path | None = None) -> Trail:
    """Open a vault and make checks 0 to 4.

    `keys`: verifier keys or files of them that you trust; without any, those found in the vault are used and stay
    unconfirmed. `at`: the size of an older checkpoint to read the trail at. `catalog`: a catalogue file that answers
    questions by kind, in place of the one in force.

    Raises MalformedError where there is no vault, MismatchError where its history has a fault, UnavailableError where
    the storage does not answer.
    """
    history = read_history(open_vault(str(vault)), load_verifier_keys(keys), at=at, judged=page_cache())
    if history.errors:
        worst = history.errors[0]
        raise MismatchError(
            f"check {worst.check}: {worst.message} ({len(history.errors)} fault(s) in all)",
            where=worst.object,
            remedy="Run `auditlib verify` for all of them.",
            expected=worst.expected,
            found=worst.found,
        )
    if history.checkpoint is None:
        raise MalformedError("nothing has been sealed in this vault yet.", where=str(vault))
    return Trail(history, _read_catalog(catalog) if catalog else history.catalog)


def _read_catalog(path: Path) -> Catalog:
    try:
        return parse_catalog(Path(path).read_bytes())
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror}).", where=str(path)) from None
    except MalformedError as error:
        raise error.at(str(path)) from None


class Trail:
    """One origin at one checkpoint; several threads may ask at once.

    Use it as a context manager, or `close()` it, to give memory back.
    """

    def __init__(self, history: History, catalog: Catalog | None) -> None:
        if history.checkpoint is None:
            raise MalformedError("a trail needs a checkpoint.")
        self.history = history
        self.checkpoint: Checkpoint = history.checkpoint
        self.catalog = catalog
        self.seals: Sequence[Seal] = history.seals.chosen()
        self.files = VerifiedFiles(history.vault, batch_cache(history.vault))
        self._database: duckdb.DuckDBPyConnection | None = None
        self._connecting = threading.Lock()

    @property
    def origin(self) -> str:
        """The trail's name."""
        return self.history.origin

    @property
    def recorded(self) -> tuple[str, str]:
        """From the first to the last recorded_at, on the seals' word."""
        recorded = self.history.seals.recorded
        return format_time(int(recorded[:, 0].min())), format_time(int(recorded[:, 1].max()))

    @property
    def count(self) -> int:
        """How many events the seals state."""
        return int(self.history.seals.events.sum())

    def verify(
        self,
        *,
        deep: bool = False,
        executor: Executor | None = None,
        progress: Callable[[int, int], None] | None = None,
        state: Path | None = None,
        recheck: int = RECHECK_EVENTS,
    ) -> Report:
        """Make all the numbered checks now; see `auditlib.verify`."""
        return verification.verify(
            self.history.vault,
            keys=self.history.given,
            deep=deep,
            against=[("the checkpoint this trail was opened at", self.checkpoint)],
            now=time.time_ns() // 1000,
            executor=executor,
            progress=progress,
            state=state,
            recheck=recheck,
        )

    def events(
        self,
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
    ) -> Selection:
        """Choose events; nothing is read yet.

        Each filter takes a value, a list, or a glob (`role.*`). Actors and targets are `id` or `type:id`. `where`
        holds dotted paths into the context. `since` is inclusive, `until` exclusive, `through` a last day; a date is
        its midnight in `tz`.
        """
        chosen = build_filter(
            self.catalog,
            kind=kind,
            action=action,
            actor=actor,
            target=target,
            outcome=outcome,
            source=source,
            since=since,
            until=until,
            through=through,
            where=where,
            tz=tz,
        )
        return Selection(self, chosen)

    def sql(self, statement: str) -> Answer:
        """One SELECT of your own over the view `events`, in a jail: no file, no network, no settings, 60 seconds."""
        parts = self.files.parts(self.seals, self.seals)
        jail = _connect(memory_limit=SQL_MEMORY, temp_directory="")  # a folder to spill into could be written to
        try:
            _check_select(jail, statement)
            jail.execute(f"CREATE VIEW events AS SELECT * FROM ({_source(parts)})")
            jail.execute("SET allowed_paths = " + _literal([path for part in parts for path in part.paths]))
            jail.execute("SET enable_external_access = false")
            jail.execute("SET lock_configuration = true")
            stop = threading.Timer(SQL_SECONDS, jail.interrupt)
            stop.start()
            try:
                return Answer(in_utc(_bounded(jail.sql(statement).to_arrow_reader(ROWS_A_BATCH))))
            except duckdb.InterruptException:
                raise UnavailableError(f"the statement ran past {SQL_SECONDS} s and was stopped.") from None
            except (duckdb.Error, pa.ArrowException) as error:
                raise MalformedError(str(error).splitlines()[0], where="sql") from None
            finally:
                stop.cancel()
        finally:
            jail.close()

    def __repr__(self) -> str:
        return f"Trail({self.origin!r}, {self.checkpoint.size} seals, {self.count:,} events)"

    def close(self) -> None:
        """Give the verified copies back."""
        if self._database:
            self._database.close()
            self._database = None
        self.files.close()

    def __enter__(self) -> Trail:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def scan(self, seals: Sequence[Seal], select: str, condition: str, values: list[Any]) -> duckdb.DuckDBPyRelation:
        """Run `SELECT select FROM these batches WHERE condition`, in the order (sequence, row)."""
        return self.run(seals, f"SELECT {select} FROM batches WHERE {condition}", values)

    def run(self, seals: Sequence[Seal], statement: str, values: list[Any]) -> duckdb.DuckDBPyRelation:
        """Run a statement of this library's own (a SELECT, or `, name AS (...) SELECT`) over the table `batches`."""
        parts = self.files.parts(seals, self.seals)
        with self._connecting:
            if self._database is None:
                self._database = _connect()
                # The files never change and keep their paths as long as the database lives: footers are parsed once.
                self._database.execute("SET parquet_metadata_cache = true")
            cursor = self._database.cursor()
        try:
            relation = cursor.sql(f"WITH batches AS ({_source(parts)}) {statement}", params=values)
        except duckdb.InvalidInputException as error:
            raise MalformedError(str(error).splitlines()[0], where="query") from None
        if relation is None:
            raise MalformedError("the statement gives no rows.", where="query")
        return relation

    def _repr_html_(self) -> str:
        first, last = self.recorded
        rows = {
            "trail": self.origin,
            "checkpoint": f"{self.checkpoint.size} seals, root {self.checkpoint.root.hex()[:16]}...",
            "signed by": ", ".join(map(str, self.checkpoint.signers)),
            "events": f"{self.count:,}",
            "recorded": f"{first} to {last}",
        }
        cells = "".join(f"<tr><th style='text-align:left'>{k}</th><td>{escape(v)}</td></tr>" for k, v in rows.items())
        return f"<table>{cells}</table>"


class Selection:
    """Events chosen from a trail; every method asks anew."""

    def __init__(self, trail: Trail, chosen: Filter) -> None:
        self.trail = trail
        self.filter = chosen
        seals = trail.history.seals
        self.seals: Sequence[Seal] = seals.chosen(chosen.holding(seals))

    def __repr__(self) -> str:
        return f"Selection({self.filter.describe()})"

    @property
    def skipped(self) -> int:
        """Batches not read, because their seals say that they hold no answer."""
        return len(self.trail.seals) - len(self.seals)

    def count(self) -> int:
        """How many events answer."""
        condition, values = self.filter.sql()
        ((count,),) = self.trail.scan(self.seals, "count(*)", condition, values).fetchall()
        return int(count)

    def arrow(self) -> pa.Table:
        """The events as an Arrow table: sequence, row, the columns of a batch, recorded_after_seconds."""
        return in_utc(self._relation(f"sequence, row, {_COLUMNS}, {_LAG}").to_arrow_table())

    def df(self) -> pd.DataFrame:
        """The events as a DataFrame; times are UTC-aware, `context` is its canonical JSON text."""
        frame: pd.DataFrame = self.arrow().to_pandas()
        return frame

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The events as a stream of Arrow batches, in bounded memory; a single empty one where nothing answers."""
        reader = self._relation(f"sequence, row, {_COLUMNS}, {_LAG}").to_arrow_reader(ROWS_A_BATCH)
        empty = True
        for batch in reader:
            for part in in_utc(pa.Table.from_batches([batch])).to_batches():
                empty = empty and not part.num_rows
                if part.num_rows:
                    yield part
        if empty:
            yield pa.RecordBatch.from_pylist([], in_utc(reader.schema.empty_table()).schema)

    def head(self, rows: int) -> pa.Table:
        """The first events alone."""
        condition, values = self.filter.sql()
        return in_utc(self.trail.scan(self.seals, _COLUMNS, f"{condition} LIMIT {int(rows)}", values).to_arrow_table())

    def export(
        self,
        path: str | Path,
        format: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Write the events to a new file as csv, jsonl (canonical records), parquet or xlsx; returns their number.

        `progress` is told how many are written, and of how many: they are counted before.
        """
        batches = self.batches() if progress is None else self._told(progress)
        return exports.export(batches, Path(path), format, sheet="events")

    def _told(self, progress: Callable[[int, int], None]) -> Iterator[pa.RecordBatch]:
        total, done = self.count(), 0
        for batch in self.batches():
            yield batch
            done += batch.num_rows
            progress(done, total)

    def count_by(self, *columns: str) -> pa.Table:
        """How many events by the values of some columns (names of a batch's columns), most first."""
        unknown = [column for column in columns if column not in SCHEMA.names]
        if unknown or not columns:
            raise MalformedError(f"{', '.join(unknown) or 'nothing'} is no column; use {', '.join(SCHEMA.names)}.")
        condition, values = self.filter.sql()
        names = ", ".join(columns)
        grouped = f"SELECT {names}, count(*) AS events FROM batches WHERE {condition} GROUP BY ALL"
        return self.trail.run(self.seals, f"{grouped} ORDER BY events DESC, {names}", values).to_arrow_table()

    def lag(self) -> str:
        """How long after `occurred_at` these records were recorded, in one sentence."""
        condition, values = self.filter.sql()
        span = (
            "median(epoch_us(recorded_at) - epoch_us(occurred_at)), max(epoch_us(recorded_at) - epoch_us(occurred_at))"
        )
        ((median, most),) = self.trail.scan(self.seals, span, condition, values).fetchall()
        if median is None:
            return "No event answers."
        return (
            f"Recorded {duration(int(median))} after they occurred (median; at most {duration(int(most))}). "
            "Before a record was recorded, its integrity rests on its source."
        )

    def _relation(self, select: str) -> duckdb.DuckDBPyRelation:
        condition, values = self.filter.sql()
        return self.trail.scan(self.seals, select, condition, values)

    def _repr_html_(self) -> str:
        preview = self.head(_PREVIEW_ROWS)
        total = self.count()
        note = f"{total:,} events" + (f", the first {_PREVIEW_ROWS} shown" if total > _PREVIEW_ROWS else "")
        return f"<p>{note}. {escape(self.lag())}</p>" + exports.html_table(preview)


class Answer:
    """The result of `Trail.sql`."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def arrow(self) -> pa.Table:
        """As an Arrow table."""
        return self._table

    def df(self) -> pd.DataFrame:
        """As a DataFrame."""
        frame: pd.DataFrame = self._table.to_pandas()
        return frame

    def _repr_html_(self) -> str:
        shown = self._table.slice(0, _PREVIEW_ROWS)
        more = f"<p>{self._table.num_rows:,} rows, the first {_PREVIEW_ROWS} shown</p>"
        return (more if self._table.num_rows > _PREVIEW_ROWS else "") + exports.html_table(shown)


_DUCKDB_TYPES = {"sequence": "BIGINT", "row": "BIGINT"} | {
    field.name: "TIMESTAMPTZ"
    if pa.types.is_timestamp(field.type)
    else "BIGINT"
    if field.type == pa.int64()
    else "VARCHAR"
    for field in SCHEMA
}


def in_utc(table: pa.Table) -> pa.Table:
    """The same table with every time zone named plain UTC (DuckDB writes Etc/UTC)."""
    kinds = [
        field.with_type(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(field.type) and field.type.tz else field
        for field in table.schema
    ]
    return table.cast(pa.schema(kinds))


def _connect(**config: str) -> duckdb.DuckDBPyConnection:
    """An empty database in memory that looks at no Python variable and speaks UTC."""
    database = duckdb.connect(config={"python_enable_replacements": False, **config})
    database.execute("SET TimeZone = 'UTC'")
    return database


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


def _source(parts: list[Part]) -> str:
    """A SELECT of sequence, row and the columns of a batch from verified files, in the order (sequence, row)."""
    if not parts:
        names = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _DUCKDB_TYPES.items())
        return f"SELECT {names} WHERE false"
    return " UNION ALL ".join(map(_source_of, parts))


def _source_of(part: Part) -> str:
    files = f"read_parquet({_literal(part.paths)}, hive_partitioning = false)"
    if not part.rolled:
        numbers = _literal(part.sequences)
        return (
            f"SELECT {numbers}[(file_index + 1)::BIGINT]::BIGINT AS sequence, file_row_number::BIGINT AS row, "
            f"{_COLUMNS} FROM {files}"
        )
    return f"SELECT sequence, row, {_COLUMNS} FROM {files}{_asked(part)}"


def _asked(part: Part) -> str:
    """A WHERE that leaves of roll-ups the batches that are asked: by a bit for each, because a list takes long."""
    if not part.sequences:
        return ""
    bits = ["0"] * len(part.extent)
    for sequence in part.sequences:
        bits[sequence - part.extent.start] = "1"
    ends = f"sequence BETWEEN {part.sequences[0]} AND {part.sequences[-1]}"  # by which files are passed over
    return f" WHERE {ends} AND get_bit('{''.join(bits)}'::BIT, (sequence - {part.extent.start})::INTEGER) = 1"


def _literal(values: list[Any]) -> str:
    """A list of this library's own paths or numbers as an SQL literal."""
    return "[" + ", ".join(str(v) if isinstance(v, int) else "'" + v.replace("'", "''") + "'" for v in values) + "]"
