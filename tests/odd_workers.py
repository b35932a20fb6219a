"""Preloaded by the workers of a test's cluster: they do with a batch what the file AUDITLIB_TEST_WORKERS says.

`SEQUENCE lies` tells a wrong root, `SEQUENCE hides` tells the seal's own root and no fault without a look at the
batch, `SEQUENCE kills` ends every process that takes it, `SEQUENCE kills-once` the first one alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from auditlib import batches
from auditlib.contents import BatchResult

_honest = batches._check_group


def _odd(vault: Any, key: bytes, deep: bool, catalogs: Any, group: Iterable[batches.Named]) -> Iterator[BatchResult]:
    place = Path(os.environ["AUDITLIB_TEST_WORKERS"])
    sequence, _, deed = place.read_text().partition(" ")
    for named in group:
        (result,) = _honest(vault, key, deep, catalogs, [named])
        if str(named.seal.sequence) == sequence:
            if deed == "kills-once":
                place.write_text("")
            if deed.startswith("kills"):
                os._exit(137)
            result = msgspec.structs.replace(result, root="00" * 32)
            if deed == "hides":
                result = BatchResult([], named.seal.batch.root)
        yield result


batches._check_group = _odd
