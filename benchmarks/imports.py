"""Importing AWS CloudTrail, against reading and parsing the same files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from auditlib.formats.document import Retention
from auditlib.imports import import_files
from auditlib.intakes import Direct
from auditlib.sealer import create_trail, open_sealer
from auditlib.state import SealerState
from auditlib.vault import open_vault
from benchmarks.data import CATALOG, KEY, NOW
from benchmarks.measure import Row, best, row

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "cloudtrail-lab"


def rows(folder: Path = FOLDER) -> Iterator[Row]:
    name = "import of CloudTrail"
    if not folder.is_dir():
        yield row(name, 0, 0, "events/s", f"left out: the sample logs are not at {folder}")
        return
    paths = sorted(path for path in folder.rglob("*.json") if path.is_file())
    ours, limit = best(lambda: _import(folder), lambda: _parse(paths), rounds=3)
    note = (
        f"{len(paths)} files: read, mapped, checked, sealed, written and flushed to disk; limit: the same files read "
        "and json.loads, records counted"
    )
    yield row(name, 1 / ours, 1 / limit, "events/s", note)


def _import(folder: Path) -> float:
    """Seconds an event, from the open sealer to the checkpoint."""
    with TemporaryDirectory() as temporary:
        vault = open_vault(str(Path(temporary) / "vault"), create=True)
        create_trail(vault, KEY, Retention(2557, "COMPLIANCE"), CATALOG, now=0)
        state = SealerState(Path(temporary) / "state", KEY.verifier)
        with open_sealer(vault, KEY, state, now=lambda: NOW) as sealer:
            start = time.perf_counter()
            intake = Direct(sealer, KEY.verifier, lambda: NOW)
            done = import_files("cloudtrail", [str(folder)], intake, rejects=None, who="bench")
            return (time.perf_counter() - start) / done.added.new


def _parse(paths: list[Path]) -> float:
    start, records = time.perf_counter(), 0
    for path in paths:
        records += len(json.loads(path.read_bytes())["Records"])
    return (time.perf_counter() - start) / records
