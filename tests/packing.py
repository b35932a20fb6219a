"""A packet of an answer, without its notebook, which takes seconds; and a trail imported from CloudTrail alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import simulator
from packets import CLOUDTRAIL, check, read_folder

from auditlib.formats.times import parse_time
from auditlib.imports import import_files
from auditlib.intakes import Direct
from auditlib.packet.build import Asked, _pack
from auditlib.packet.notebook import Executed
from auditlib.packet.redaction import Cut
from auditlib.trail import Trail
from auditlib.trail import open as open_trail


def packed(trail: Trail, answer: Any, folder: Path) -> dict[str, bytes]:
    """The packet's files by name, after every packet check accepted them."""
    answer.answer().write(folder / "scratch")
    done, parameters = Executed(answer.request.name, "0" * 64, b"{}\n"), {"at": trail.checkpoint.size}
    _pack(trail, done, parameters, Cut(()), folder / "scratch", folder / "packet", Asked(parameters))
    files = read_folder(folder / "packet")
    assert check(files, tuple(trail.history.given)).findings == ()
    return files


@contextmanager
def cloudtrail(folder: Path) -> Iterator[Trail]:
    """A trail that holds nothing but an import."""
    if not CLOUDTRAIL.is_dir():
        pytest.skip(f"{CLOUDTRAIL} is not here")
    made, now = simulator.Trail(folder).create(), parse_time("2026-11-01T00:00:00Z")
    made.clock = simulator.Clock(now)
    with made.sealer() as sealer:
        direct = Direct(sealer, simulator.KEY.verifier, lambda: now)
        import_files("cloudtrail", [str(CLOUDTRAIL)], direct, rejects=None, who="t")
    with open_trail(folder / "vault", keys=simulator.KEY.verifier) as trail:
        yield trail
