"""Work that waits for its turn: so many at a time, one of each person, and so many that may wait.

    waiting -> running -> done | withheld | failed | cancelled

A task that waits or runs can be cancelled at any moment; what has ended stays as it ended.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from auditlib.errors import AuditlibError
from auditlib.scoped import RefusedError

AT_ONCE = 2  # of one lane; the cores that such a server is meant for
WAITING_EACH = 3  # of one person, besides the one that runs
WAITING_ALL = 60  # of everybody; 20 people, each with theirs

WAITING, RUNNING, DONE, WITHHELD, FAILED, CANCELLED = "waiting", "running", "done", "withheld", "failed", "cancelled"
_log = logging.getLogger("auditlib.dashboard")


class Task:
    """One piece of work of one person. Only its lane changes `state`."""

    def __init__(self, identity: str) -> None:
        self.id = secrets.token_urlsafe(16)
        self.identity = identity
        self.state = WAITING
        self.sentence = ""  # what is said of how it ended
        self.stopped = threading.Event()  # cancelled: whoever does it looks here
        self.ended = threading.Event()

    def stop(self) -> None:
        """Called once, when it is cancelled; more than a look at `stopped` is for those who override it."""
        self.stopped.set()

    def over(self) -> None:
        """Called once when it has ended, however."""
        self.ended.set()

    def drop(self) -> None:
        """Called once when it ended cancelled: nothing of it is to stay."""


_Task = TypeVar("_Task", bound=Task)


class Lane(Generic[_Task]):
    """Does tasks by `do`, which gives the state that one ended in."""

    def __init__(self, do: Callable[[_Task], str], at_once: int = AT_ONCE) -> None:
        self._do, self._at_once = do, at_once
        self._lock = threading.Lock()
        self._waiting: list[_Task] = []
        self._running: dict[_Task, threading.Thread] = {}
        self._closed = False

    def add(self, task: _Task) -> None:
        """Let it wait for its turn. RefusedError where too many wait already."""
        with self._lock:
            mine = sum(other.identity == task.identity for other in self._waiting)
            if self._closed or len(self._waiting) >= WAITING_ALL:
                raise RefusedError("Too much is waiting here already.", remedy="Try again in some minutes.")
            if mine >= WAITING_EACH:
                remedy = "Wait until one is done, or cancel one."
                raise RefusedError(f"{WAITING_EACH} of yours are waiting already.", remedy=remedy)
            self._waiting.append(task)
            self._next()

    def cancel(self, task: _Task) -> None:
        """End it, whether it waits or runs."""
        with self._lock:
            if task in self._waiting:
                self._waiting.remove(task)
                self._end(task, CANCELLED)
            elif task not in self._running or task.stopped.is_set():
                return
        task.stop()

    def place(self, task: _Task) -> int:
        """How many wait before it."""
        with self._lock:
            return self._waiting.index(task) if task in self._waiting else 0

    def close(self) -> None:
        """Cancel everything, and wait until nothing runs."""
        with self._lock:
            self._closed = True
            tasks = [*self._waiting, *self._running]
            threads = list(self._running.values())
        for task in tasks:
            self.cancel(task)
        for thread in threads:
            thread.join()

    def _next(self) -> None:
        for task in list(self._waiting):
            busy = {other.identity for other in self._running}
            if len(self._running) >= self._at_once or self._closed:
                return
            if task.identity not in busy:
                self._waiting.remove(task)
                task.state = RUNNING
                self._running[task] = threading.Thread(target=self._run, args=(task,), daemon=True)
                self._running[task].start()

    def _run(self, task: _Task) -> None:
        try:
            state = self._do(task)
        except AuditlibError as error:
            state, task.sentence = FAILED, str(error)
        except Exception:
            _log.exception("a task failed")
            state, task.sentence = FAILED, "It failed in a way that was not foreseen; the server's log says how."
        if task.stopped.is_set():
            task.drop()
            state = CANCELLED
        with self._lock:
            del self._running[task]
            self._end(task, state)
            self._next()

    def _end(self, task: _Task, state: str) -> None:
        task.state = state
        if state == CANCELLED:
            task.sentence = "It was cancelled; nothing of it was kept."
        task.over()
