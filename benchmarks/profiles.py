"""`python -m benchmarks.profiles`: where the time goes for verify, query, seal and packet; a sampler of our own.

Every millisecond or so the stack of each thread is looked at, and the innermost function of auditlib on it is counted,
with what it called into outside. Unlike cProfile it sees all threads and does not make small functions look slow.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

import auditlib
from auditlib.formats.document import Retention
from auditlib.packet.build import build_packet
from auditlib.sealer import create_trail, open_sealer
from auditlib.state import SealerState
from auditlib.vault import open_vault
from auditlib.verify import verify
from benchmarks import data
from benchmarks.data import CATALOG, KEY, NOW, SEED, Lab

EVENTS = 1_000_000
EVERY = 0.001  # seconds between two looks
SHOWN = 8  # places of each work
PROFILES = Path(__file__).with_name("profiles.json")
PACKAGE = str(Path(auditlib.__file__).parent)
ELSEWHERE = "waiting for another process"
# Files of the standard library where a thread stands that has nothing to do.
_IDLE = ("threading.py", "queue.py", "selectors.py", "subprocess.py", "futures/thread.py", "futures/_base.py")


class Profile(msgspec.Struct, frozen=True):
    """One work: seconds on the clock, and the share of the samples by place, greatest first."""

    work: str
    seconds: float
    places: list[tuple[str, float]]


@contextmanager
def _watched(found: Counter[str]) -> Iterator[None]:
    """Count where the threads are while the block runs."""
    stopped, own, main = threading.Event(), set[int](), threading.get_ident()

    def watch() -> None:
        own.add(threading.get_ident())
        while not stopped.wait(EVERY):
            frames = {thread: frame for thread, frame in sys._current_frames().items() if thread not in own}
            busy = [_place(frame) for frame in frames.values() if not _idle(frame)]
            found.update(busy if busy or main not in frames else [ELSEWHERE])

    watcher = threading.Thread(target=watch, daemon=True)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(EVERY / 2)
    watcher.start()
    try:
        yield
    finally:
        stopped.set()
        watcher.join()
        sys.setswitchinterval(interval)


def _idle(frame: FrameType) -> bool:
    return frame.f_code.co_filename.endswith(_IDLE)


def _place(frame: FrameType) -> str:
    """`formats/columns.leaf_hashes`, with `-> pyarrow` where the thread stood in a library that it called."""
    library, at = "", frame
    while not at.f_code.co_filename.startswith(PACKAGE):
        if not library and "site-packages" in at.f_code.co_filename:
            library = Path(at.f_code.co_filename.partition("site-packages/")[2]).parts[0]
        if at.f_back is None:
            return "outside auditlib"
        at = at.f_back
    module = os.path.relpath(at.f_code.co_filename, PACKAGE).removesuffix(".py")
    return f"{module}.{at.f_code.co_qualname}" + (f" -> {library}" if library else "")


def profiles(events: int) -> Iterator[Profile]:
    with data.lab(events) as lab, TemporaryDirectory(prefix="auditlib-bench-profiles-") as folder:
        yield _profile("verify, chain", lambda: _verify(lab, deep=False), 10)
        yield _profile("verify --deep, one process", lambda: _verify(lab, deep=True))
        yield _profile("query, cold: one actor's exports", lambda: _ask(lab), 10)
        with auditlib.open(lab.vault, keys=lab.key) as trail:
            question = trail.events(action="role.grant", where={"granted_role": "admin"})
            question.arrow()
            yield _profile("query, warm: where= on the context", question.arrow, 10)
        yield _profile("seal", lambda: _seal(lab, Path(folder)))
        yield _profile(
            "packet, role-grants of the year",
            lambda: build_packet(
                "role-grants",
                lab.vault,
                {"since": "2026-01-01", "until": "2027-01-01", "entitlement": "none"},
                Path(folder) / "packet",
                keys=lab.key,
            ),
        )


def _profile(work: str, run: Callable[[], object], times: int = 1) -> Profile:
    """Of so many runs, one after the other; seconds of one."""
    found: Counter[str] = Counter()
    start = time.perf_counter()
    with _watched(found):
        for _ in range(times):
            run()
    taken = (time.perf_counter() - start) / times
    looks = max(1, found.total())
    return Profile(work, round(taken, 3), [(name, round(n / looks, 3)) for name, n in found.most_common(SHOWN)])


def _verify(lab: Lab, *, deep: bool) -> None:
    assert verify(open_vault(lab.vault), keys=[lab.key], deep=deep, now=NOW).ok


def _ask(lab: Lab) -> None:
    with auditlib.open(lab.vault, keys=lab.key) as trail:
        trail.events(actor="u_42", action="data.export").arrow()


def _seal(lab: Lab, folder: Path) -> None:
    """All that a sealer does with a fifth of the events: checks, repeats, batch, seal, checkpoint, index."""
    vault = open_vault(str(folder / "vault"), create=True)
    create_trail(vault, KEY, Retention(2557, "COMPLIANCE"), CATALOG, now=0)
    state = SealerState(folder / "state", KEY.verifier)
    draw = np.random.default_rng(SEED)
    with open_sealer(vault, KEY, state, now=lambda: NOW, random=draw.bytes) as sealer:
        sealer.take(lab.table.slice(0, max(1, lab.events // 5)).combine_chunks())
        sealer.flush()


def main(path: Path = PROFILES) -> None:
    events = int(os.environ.get("AUDITLIB_BENCH_EVENTS") or EVENTS)
    found = []
    for each in profiles(events):
        found.append(each)
        table = Table("where", "share", title=f"{each.work}: {each.seconds:,.2f} s", title_justify="left")
        for place, share in each.places:
            table.add_row(place, f"{share:.0%}")
        Console().print(table)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
