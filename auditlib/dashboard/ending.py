"""End a process and whatever it started, however far that has gone: a notebook's kernel leaves its parent's group.

Each work's processes carry a mark of its own in their environment, which children inherit. Where there is no /proc,
only the group is ended; a kernel then notices that its parent is gone, and ends itself.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "AUDITLIB_DASHBOARD_WORK"
SCRATCH = "auditlib-work-"  # how the name of a work's scratch folder begins
_ROUNDS = 20  # looks; each finds what was started while the one before was ended


def end_all(mark: str, spare: int = 0) -> None:
    """Kill every process of this user whose environment carries the mark, but for `spare`."""
    for _ in range(_ROUNDS):
        if not sum(_kill(pid, mark) for pid in _processes() if pid != spare):
            return


def _processes() -> Iterator[int]:
    with suppress(OSError):
        yield from (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())


def _kill(pid: int, mark: str) -> bool:
    """Whether it was one. Held by a descriptor, so that no other process that gets its number is meant."""
    try:
        held = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        if f"{MARK}={mark}".encode() not in environment.split(b"\0"):
            return False
        signal.pidfd_send_signal(held, signal.SIGKILL)
        return True
    except OSError:  # of another user, or gone
        return False
    finally:
        os.close(held)
