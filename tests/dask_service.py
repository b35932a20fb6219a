"""A real dask scheduler and real workers, each a process of its own, on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.collectors import wait_for


class DaskService:
    """One scheduler; `workers` processes of one thread each, started anew by their nanny when they die."""

    def __init__(self, folder: Path, workers: int, *preload: str) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        place = folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place))
        wait_for(lambda: place.exists() and place.stat().st_size)
        self.address: str = json.loads(place.read_text())["address"]
        for number in range(workers):
            self._start(
                *("worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard"),
                *("--local-directory", str(folder / f"worker-{number}"), "--memory-limit", "0"),
                *(part for module in preload for part in ("--preload", module)),
            )

    def _start(self, *arguments: str) -> None:
        environment = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}
        with (self._folder / f"{arguments[0]}-{len(self._processes)}.log").open("wb") as log:
            command = [sys.executable, "-m", "dask", *arguments]
            self._processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
            )

    def stop(self) -> None:
        """End all of them at once, a worker with its nanny."""
        while self._processes:
            process = self._processes.pop()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def dask_service(workers: int = 2, *preload: str) -> Iterator[DaskService]:
    """`preload`: modules that a worker imports before it works."""
    with tempfile.TemporaryDirectory() as folder:
        service = DaskService(Path(folder), workers, *preload)
        try:
            yield service
        finally:
            service.stop()
