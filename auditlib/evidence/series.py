"""Long columns of whole numbers (times, sequence numbers) by source, to look between neighbours for what is missing.

    series(trail, seals, "SELECT source, epoch_us(recorded_at) FROM batches", {})      {"web": array([...]), ...}

A window over every record would hold all of it several times; here a record takes 8 bytes, while it is read and after.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from auditlib.formats.seal import Seal
from auditlib.scan import ROWS_A_BATCH
from auditlib.trail import Trail

Numbers = npt.NDArray[np.int64]


def series(trail: Trail, seals: Sequence[Seal], statement: str, values: Any) -> dict[str, Numbers]:
    """Of a statement that gives (text, whole number), neither of them null: the numbers of each text, ascending."""
    held: dict[str, list[Numbers]] = defaultdict(list)
    for batch in trail.run(seals, statement, values).to_arrow_reader(ROWS_A_BATCH):
        coded = batch.column(0).dictionary_encode()
        codes, numbers = np.asarray(coded.indices).astype(np.uint16), np.asarray(batch.column(1))  # 65,536 rows at most
        ends = np.cumsum(np.bincount(codes, minlength=len(coded.dictionary)))
        parts = np.split(numbers[np.argsort(codes, kind="stable")], ends[:-1])
        for text, part in zip(coded.dictionary.to_pylist(), parts, strict=True):
            held[text].append(part)
    return {text: _ascending(held.pop(text)) for text in sorted(held)}


def _ascending(parts: list[Numbers]) -> Numbers:
    numbers = np.concatenate(parts)
    parts.clear()
    if not (numbers[1:] >= numbers[:-1]).all():
        numbers.sort()
    return numbers
