"""Verified queries against DuckDB reading the same files without any check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import duckdb

import auditlib
from auditlib.trail import Trail
from benchmarks.data import Lab
from benchmarks.measure import Row, race, row
from benchmarks.verification import CORES, hash_files

_SELECTIVE = "SELECT * FROM {files} WHERE actor_id = 'u_42' AND action = 'data.export'"
_GROUPED = "SELECT action, outcome, count(*) AS events FROM {files} GROUP BY ALL ORDER BY events DESC, action, outcome"
_ADMIN = "json_extract_string(context, '$.granted_role') = 'admin'"
_WHERE = f"SELECT * FROM {{files}} WHERE action = 'role.grant' AND {_ADMIN}"

_Question = Callable[[Trail], Any]
QUESTIONS: dict[str, tuple[_Question, str]] = {
    "selective filter": (lambda trail: trail.events(actor="u_42", action="data.export").arrow(), _SELECTIVE),
    "group by, count": (lambda trail: trail.events().count_by("action", "outcome"), _GROUPED),
    "where= on the context": (
        lambda trail: trail.events(action="role.grant", where={"granted_role": "admin"}).arrow(),
        _WHERE,
    ),
}


def rows(lab: Lab) -> Iterator[Row]:
    paths = ", ".join(f"'{path}'" for path in lab.files)
    files = f"read_parquet([{paths}], hive_partitioning = false)"
    asked = f"{lab.events:,} events, {len(lab.files)} batches"
    with duckdb.connect() as raw, auditlib.open(lab.vault, keys=lab.key) as trail:
        for name, (question, statement) in QUESTIONS.items():
            plain = statement.format(files=files)
            assert question(trail).num_rows == raw.sql(plain).to_arrow_table().num_rows
            ours, limit = race(
                lambda question=question: question(trail),
                lambda plain=plain: raw.sql(plain).to_arrow_table(),
                rounds=25,
            )
            note = f"{asked}, hashed earlier by this process; limit: DuckDB read_parquet, connection open. Aim: 1.15"
            yield row(f"warm query: {name}", ours * 1e3, limit * 1e3, "ms", note)
        for name, (question, statement) in QUESTIONS.items():
            yield _cold(lab, name, question, statement.format(files=files), asked)


def _cold(lab: Lab, name: str, question: _Question, plain: str, asked: str) -> Row:
    def fresh() -> None:
        with auditlib.open(lab.vault, keys=lab.key) as trail:
            question(trail)

    def bare() -> None:
        hash_files(lab.files)
        with duckdb.connect() as raw:
            raw.sql(plain).to_arrow_table()

    ours, limit = race(fresh, bare, rounds=9)
    note = (
        f"{asked}; a trail opened anew (checks 0 to 4) and every batch hashed and kept; limit: the files hashed on "
        f"{CORES} threads, then DuckDB with a connection of its own. Aim: 1.2"
    )
    return row(f"cold query: {name}", ours * 1e3, limit * 1e3, "ms", note)
