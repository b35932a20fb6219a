"""Kernels that need not import what a kernel before them has imported: one process imports, and each is forked from it.

Each is a process of its own all the same, with an environment and a folder of its own. See warm.py for the other end.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner


class _Server:
    """The process that forks, started by whoever asks first. Raises OSError where it is gone."""

    def __init__(self) -> None:
        asked, asking = os.pipe()
        answering, answered = os.pipe()
        self.owner = os.getpid()  # after a fork of this process the server is still the first one's
        self._lock = threading.Lock()
        self._questions, self._answers = os.fdopen(asking, "wb", 0), os.fdopen(answering, "rb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "auditlib.packet.warm", str(answered)],
            stdin=asked,
            pass_fds=[answered],
            start_new_session=True,  # an interrupt at the terminal is for this process to answer
        )
        os.close(asked)
        os.close(answered)

    def ask(self, question: dict[str, Any]) -> int | None:
        with self._lock:
            self._questions.write(json.dumps(question).encode() + b"\n")
            line = self._answers.readline()
        if not line:
            raise OSError("the process that starts kernels ended")
        told: int | None = json.loads(line)
        return told

    def ended(self) -> bool:
        return self._process.poll() is not None

    def close(self) -> None:
        """Ends the process, and with it kernels that still run; in a fork of its owner, lets go of it."""
        self._questions.close()
        self._answers.close()
        if self.owner == os.getpid():
            self._process.wait()
        else:
            self._process.returncode = 0  # no child of this process, which can neither wait for it nor end it


class _Kernel:
    """A forked kernel, as jupyter_client asks a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, server: _Server, argv: list[str], cwd: str, env: dict[str, str]) -> None:
        self._server = server
        self.returncode: int | None = None
        pid = server.ask({"start": {"argv": argv, "cwd": cwd, "env": env}})
        if not pid:
            raise OSError("no kernel was started")
        self.pid = pid

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask({"poll": self.pid})
        return self.returncode

    def wait(self) -> int | None:
        """Asked for only once `poll` has told."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class _Provisioner(LocalProvisioner):
    """Starts a kernel of this interpreter by asking the server, and any other as it always was."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        if cmd[: len(_FORKED)] != _FORKED:
            return await super().launch_kernel(cmd, **kwargs)
        self.cwd = kwargs.get("cwd") or str(Path.cwd())
        kernel = _Kernel(_the_server(), cmd[len(_FORKED) :], self.cwd, kwargs["env"])
        self.process: Any = kernel
        self.pid = self.pgid = kernel.pid  # a session of its own, and so the first of its group
        return self.connection_info


_FORKED = [sys.executable, "-m", "ipykernel_launcher"]  # how the kernels begin that warm.py can become
_starting = threading.Lock()
_server: _Server | None = None


def _the_server() -> _Server:
    """This process's own server; a new one where it ended, or where this process was itself forked."""
    global _server  # noqa: PLW0603 - one for the whole process
    with _starting:
        if _server is not None and (_server.owner != os.getpid() or _server.ended()):
            _server.close()
            _server = None
        _server = _server or _Server()
        return _server


def end() -> None:
    """End the process that forks kernels, where there is one; the next kernel starts another."""
    global _server  # noqa: PLW0603
    with _starting:
        if _server is not None:
            _server.close()
        _server = None


atexit.register(end)


class WarmKernels(AsyncKernelManager):
    """A kernel manager whose kernels are forked."""

    async def _async_pre_start_kernel(self, **kw: Any) -> tuple[list[str], dict[str, Any]]:
        self.kernel_id = str(uuid4())
        self.provisioner = _Provisioner(kernel_id=self.kernel_id, kernel_spec=self.kernel_spec, parent=self)
        return await super()._async_pre_start_kernel(**kw)
