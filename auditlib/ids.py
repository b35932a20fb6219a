"""Which (source, event_id) was sealed in which batch: a rebuildable index beside the sealer (DESIGN 5).

    <state>/ids.sqlite    one row an event: 64-bit digest of its id under a random key, sequence of its batch

It holds nothing that the vault does not; deleting it costs one reading of the batches. It only proposes: whether an
id is really there is decided by reading the batch.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from auditlib.errors import UnavailableError
from auditlib.formats.batch import id_digests

_KEY_BYTES = 32
_SCHEMA = """
CREATE TABLE IF NOT EXISTS ids (digest INTEGER, sequence INTEGER, PRIMARY KEY (digest, sequence)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (sequence INTEGER PRIMARY KEY, seal TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS secret (key BLOB NOT NULL);
"""


class IdIndex:
    """The index in one SQLite file; `path` None keeps it in memory."""

    def __init__(self, path: Path | None) -> None:
        self._where = ":memory:" if path is None else str(path)
        with self._usable():
            self._database = sqlite3.connect(self._where, isolation_level=None)
        try:
            with self._usable():
                self._database.executescript(_SCHEMA)
                row = self._database.execute("SELECT key FROM secret").fetchone()
                if row is None:
                    row = (secrets.token_bytes(_KEY_BYTES),)
                    self._database.execute("INSERT INTO secret VALUES (?)", row)
                self._key: bytes = row[0]
        except UnavailableError:
            self._database.close()
            raise

    def covered(self) -> dict[int, str]:
        """The batches that are in the index: sequence -> hash of its seal."""
        with self._usable():
            return dict(self._database.execute("SELECT sequence, seal FROM batches ORDER BY sequence"))

    def add(self, sequence: int, seal: str, table: pa.Table) -> None:
        """Index one batch's ids, in one transaction."""
        rows = [(digest, sequence) for digest in self._digests(table)]
        with self._usable():
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?)", rows)
            self._database.execute("INSERT INTO batches VALUES (?, ?)", (sequence, seal))
            self._database.execute("COMMIT")

    def clear(self) -> None:
        """Forget everything: the vault is not the one that was indexed."""
        with self._usable():
            self._database.executescript("DELETE FROM ids; DELETE FROM batches;")

    def candidates(self, table: pa.Table) -> dict[int, list[int]]:
        """Rows of `table` whose id may be sealed already: batch sequence -> rows."""
        digests = self._digests(table)
        found: dict[int, list[int]] = {}
        for start in range(0, len(digests), 500):  # below SQLite's limit on bound variables
            part = digests[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT digest, sequence FROM ids WHERE digest IN ({marks})"  # noqa: S608 - marks are '?' alone
            hits: dict[int, list[int]] = {}
            with self._usable():
                for digest, sequence in self._database.execute(query, part):
                    hits.setdefault(digest, []).append(sequence)
            for row, digest in enumerate(part, start):
                for sequence in hits.get(digest, ()):
                    found.setdefault(sequence, []).append(row)
        return found

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise UnavailableError(
                f"the index of sealed ids cannot be used ({error}).",
                where=self._where,
                remedy="It is safe to delete: the next run builds it again from the vault.",
            ) from None

    def _digests(self, table: pa.Table) -> list[int]:
        digests: np.ndarray[Any, np.dtype[np.int64]] = id_digests(table, self._key).view(np.int64)
        found: list[int] = digests.tolist()
        return found


def pairs(table: pa.Table) -> Iterable[tuple[str, str]]:
    """(source, event_id) of each row."""
    return zip(table.column("source").to_pylist(), table.column("event_id").to_pylist(), strict=True)
