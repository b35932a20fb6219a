"""Preloaded by the workers of a test's cluster: they answer a question as the file AUDITLIB_TEST_WORKERS says.

`DEED` for every run of batches, `DEED SEQUENCE` for the one with that batch: `hides` leaves the first row out, `adds`
tells the last one twice, `blames` says that a batch is not the one that was sealed, `fails` has no words of auditlib's,
`kills` ends every process that takes it, `kills-once` the first one alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from auditlib import spreading
from auditlib.errors import MismatchError

_honest = spreading._asked


def _odd(database: Any, files: Any, question: Any, run: Any) -> pa.Table:
    place = Path(os.environ["AUDITLIB_TEST_WORKERS"])
    deed, _, sequence = place.read_text().partition(" ")
    told = _honest(database, files, question, run)
    if sequence and int(sequence) not in [seal.sequence for seal in run.seals]:
        return told
    if deed == "kills-once":
        place.write_text("")
    if deed.startswith("kills"):
        os._exit(137)
    if deed == "blames":
        raise MismatchError("the batch is not the one that was sealed (check 5).", where=run.seals[0].batch.object)
    if deed == "fails":
        raise ModuleNotFoundError("No module named 'x'")
    if deed == "hides":
        return told.slice(1)
    return pa.concat_tables([told, told.slice(told.num_rows - 1)]) if deed == "adds" and told.num_rows else told


spreading._asked = _odd
