"""The trail: a vault, read and verified at one checkpoint, and asked.

    trail = auditlib.open("data-samples/vault", keys="data-samples/sample.vkey")
    grants = trail.events(kind="grant", since="2026-03-01", until="2026-06-01", where={"granted_role": "admin"})
    grants.df()

Opening makes checks 0 to 4; every batch that a question reads is hashed first (check 5). Which batches can hold an
answer is chosen from the seals' ranges and counts; that rests on the sealer's word until `verify(deep=True)`.
"""

from __future__ import annotations

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
from auditlib import spreading
from auditlib import verify as verification
from auditlib.checked import RECHECK_EVENTS
from auditlib.errors import MalformedError, MismatchError
from auditlib.files import VerifiedFiles
from auditlib.findings import Report, duration
from auditlib.formats.catalog import Catalog, parse_catalog
from auditlib.formats.checkpoint import Checkpoint
from auditlib.formats.columns import SCHEMA
from auditlib.formats.keys import VerifierKey
from auditlib.formats.seal import Seal
from auditlib.formats.times import format_time
from auditlib.history import History, read_history
from auditlib.jail import jailed
from auditlib.keyfiles import load_verifier_keys
from auditlib.pagecache import page_cache
from auditlib.query import Filter, Moment, Values, Where, build_filter
from auditlib.scan import COLUMNS, ROWS_A_BATCH, ask, ask_table, connect, in_utc, rechunked
from auditlib.vault import open_vault
from auditlib.vault.cache import batch_cache

if TYPE_CHECKING:
    import pandas as pd

Keys = str | Path | VerifierKey | Iterable[str | Path | VerifierKey] | None

_PREVIEW_ROWS = 20  # rows a notebook shows of a selection
_LAG = "(epoch_us(recorded_at) - epoch_us(occurred_at)) / 1e6 AS recorded_after_seconds"
_SHOWN = f"sequence, row, {COLUMNS}, {_LAG}"  # of a selection


def open(
    vault: str | Path,
    *,
    keys: Keys = None,
    at: int | None = None,
    catalog: Path | None = None,
    executor: Executor | None = None,
) -> Trail:
    """Open a vault and make checks 0 to 4.

    `keys`: verifier keys or files of them that you trust; without any, those found in the vault are used and stay
    unconfirmed. `at`: the size of an older checkpoint to read the trail at. `catalog`: a catalogue file that answers
    questions by kind, in place of the one in force. `executor`: processes of this machine, or a cluster
    (`auditlib.cluster.connect`), whose tasks read the batches of long questions; see `Trail.run` for which.

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
    return Trail(history, _read_catalog(catalog) if catalog else history.catalog, executor)


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

    def __init__(self, history: History, catalog: Catalog | None, executor: Executor | None = None) -> None:
        if history.checkpoint is None:
            raise MalformedError("a trail needs a checkpoint.")
        self.history = history
        self.checkpoint: Checkpoint = history.checkpoint
        self.catalog = catalog
        self.executor = executor
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
        return Answer(jailed(self.files.parts(self.seals, self.seals), statement))

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
        """Run `SELECT select FROM these batches WHERE condition`, row by row, in the order (sequence, row)."""
        return self.run(seals, f"SELECT {select} FROM batches WHERE {condition}", values, apart=True)

    def run(
        self, seals: Sequence[Seal], statement: str, values: Any, *, apart: bool = False
    ) -> duckdb.DuckDBPyRelation:
        """Run a statement of this library's own (a SELECT, or `, name AS (...) SELECT`) over the table `batches`.

        `apart` says that what it gives of some batches, put after what it gives of those before, is what it gives of
        all: it looks at row by row, and orders by nothing but (sequence, row). Then, where the trail has an executor
        and the batches are more than one task, its tasks read them, and the rows come here. Everything else, joins,
        windows, aggregates and the user's own SQL, runs here, over batches that are read here.
        """
        if apart and (tables := self.apart(seals, statement, values)):
            return ask_table(self._cursor(), pa.concat_tables(tables), "SELECT * FROM parts")
        return ask(self._cursor(), self.files.parts(seals, self.seals), statement, values)

    def added(self, seals: Sequence[Seal], statement: str, values: Any, total: str) -> duckdb.DuckDBPyRelation:
        """Run `total`, a SELECT over the table `parts`, over what a SELECT gives of batches apart, in any order."""
        tables = self.apart(seals, f"SELECT * FROM ({statement}) ORDER BY ALL", values)  # so that two can be compared
        if tables is None:
            return self.run(seals, f", parts AS ({statement}) {total}", values)
        return ask_table(self._cursor(), pa.concat_tables(tables), total)

    def apart(self, seals: Sequence[Seal], statement: str, values: Any) -> Iterator[pa.Table] | None:
        """What the executor's tasks give of runs of batches, in their order; None where it is to be asked here."""
        if self.executor is None or not spreading.pays(seals):
            return None
        return spreading.answers(self.executor, self.history.vault, self.files, seals, statement, values)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._connecting:
            if self._database is None:
                self._database = connect()
                # The files never change and keep their paths as long as the database lives: footers are parsed once.
                self._database.execute("SET parquet_metadata_cache = true")
            return self._database.cursor()

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
        counted = f"SELECT count(*) AS events FROM batches WHERE {condition}"
        ((count,),) = self.trail.added(self.seals, counted, values, "SELECT sum(events) FROM parts").fetchall()
        return int(count or 0)

    def arrow(self) -> pa.Table:
        """The events as an Arrow table: sequence, row, the columns of a batch, recorded_after_seconds."""
        condition, values = self.filter.sql()
        return in_utc(self.trail.scan(self.seals, _SHOWN, condition, values).to_arrow_table())

    def df(self) -> pd.DataFrame:
        """The events as a DataFrame; times are UTC-aware, `context` is its canonical JSON text."""
        frame: pd.DataFrame = self.arrow().to_pandas()
        return frame

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The events as a stream of Arrow batches, in bounded memory; a single empty one where nothing answers.

        Each has ROWS_A_BATCH rows, the last fewer, however they were read: equal events are equal files.
        """
        condition, values = self.filter.sql()
        statement = f"SELECT {_SHOWN} FROM batches WHERE {condition}"
        tables = self.trail.apart(self.seals, statement, values)
        if tables is None:
            reader = self.trail.run(self.seals, statement, values).to_arrow_reader(ROWS_A_BATCH)
            tables = (in_utc(part) for part in _tables(reader))
        for table in rechunked(tables):
            yield from table.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]

    def head(self, rows: int) -> pa.Table:
        """The first events alone."""
        condition, values = self.filter.sql()
        found = self.trail.scan(self.seals, COLUMNS, f"{condition} LIMIT {int(rows)}", values).limit(int(rows))
        return in_utc(found.to_arrow_table())

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
        counted = f"SELECT {names}, count(*) AS events FROM batches WHERE {condition} GROUP BY ALL"
        total = f"SELECT {names}, sum(events)::BIGINT AS events FROM parts GROUP BY ALL ORDER BY events DESC, {names}"
        return self.trail.added(self.seals, counted, values, total).to_arrow_table()

    def lag(self) -> str:
        """How long after `occurred_at` these records were recorded, in one sentence."""
        condition, values = self.filter.sql()
        lags = f"SELECT epoch_us(recorded_at) - epoch_us(occurred_at) AS lag FROM batches WHERE {condition}"
        total = "SELECT median(lag), max(lag) FROM parts"
        ((median, most),) = self.trail.added(self.seals, lags, values, total).fetchall()
        if median is None:
            return "No event answers."
        return (
            f"Recorded {duration(int(median))} after they occurred (median; at most {duration(int(most))}). "
            "Before a record was recorded, its integrity rests on its source."
        )

    def _repr_html_(self) -> str:
        preview = self.head(_PREVIEW_ROWS)
        total = self.count()
        note = f"{total:,} events" + (f", the first {_PREVIEW_ROWS} shown" if total > _PREVIEW_ROWS else "")
        return f"<p>{note}. {escape(self.lag())}</p>" + exports.html_table(preview)


def _tables(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    yield reader.schema.empty_table()
    yield from (pa.Table.from_batches([batch]) for batch in reader)


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
