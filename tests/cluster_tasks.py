"""What the tests of the cluster run on workers: importable there, because they start in this folder."""

from __future__ import annotations

import os
from collections.abc import Sequence


def doubled(parts: Sequence[int]) -> list[int]:
    return [2 * part for part in parts]


def doubled_but_for_seven(parts: Sequence[int]) -> list[int]:
    """Seven ends the process, as running out of memory would."""
    if 7 in parts:
        os._exit(137)
    return doubled(parts)


def doubled_once_killed(parts: Sequence[str]) -> list[str]:
    """The first worker that takes a part is ended; whoever comes next does it. Each part is a file's path."""
    for part in parts:
        try:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        os._exit(137)
    return [part * 2 for part in parts]
