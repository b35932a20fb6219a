"""Long work beside the pages: evidence requests in processes of their own, exports in threads of their own.

    works = Works(state / "works", {"main": source}, listed, packets)
    work = works.run(identity, engagement, "main", size, call)         waits for its turn; look at work.state
    made = await works.export(identity, lambda: trail.export(...))

    state/works/                 0700, emptied at start
      <id>/packet.zip            what was answered, until it is evicted: the oldest first

A work is known by its object here, in memory. What the child says is bounded, and what it leaves is taken away: its
processes by their mark, its scratch folder by its name. A packet is handed over only under the very engagement that it
was judged by.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import msgspec

from auditlib.dashboard.answered import Answered
from auditlib.dashboard.asked import Call
from auditlib.dashboard.ending import MARK, SCRATCH, end_all
from auditlib.dashboard.lanes import DONE, FAILED, RUNNING, WAITING, WITHHELD, Lane, Task
from auditlib.dashboard.work_child import Job, Word
from auditlib.engagements import Engagement
from auditlib.engagements.words import limits_in_words
from auditlib.errors import UnavailableError
from auditlib.evidence.scope import Scope
from auditlib.requests.model import RequestList
from auditlib.requests.places import Source
from auditlib.scoped import RefusedError

WORK_SECONDS = 15 * 60  # of one work, before it is ended; the sample's longest takes half a minute
KEPT_BYTES = 2 * 1024 * 1024 * 1024  # of all packets kept; four of 10,000 files, some hundred of the usual
KEPT_WORKS = 200  # of everybody, ended ones; the oldest are forgotten
MAX_LINE_BYTES = 8 * 1024 * 1024  # of what the child says at once; an answer of 50 rows by 30 cells of 300, escaped
PACKET = "packet.zip"
_ENDING_SECONDS = 10  # for a process to be gone after it said its last, or was killed
_T = TypeVar("_T")
_here = threading.local()


class Work(Task):
    """One packet that is asked for; `answer` and `path` are there once it is done."""

    def __init__(self, folder: Path, job: Job, identity: str, request: str) -> None:
        super().__init__(identity)
        self.request, self.job = request, msgspec.structs.replace(job, out=str(folder / self.id / PACKET))
        self.folder, self.path = folder / self.id, folder / self.id / PACKET
        self.cells: tuple[int, int] | None = None
        self.stage = ""
        self.answer: Answered | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def engagement(self) -> Engagement:
        """The engagement that it was judged by."""
        return self.job.engagement

    def began(self, process: subprocess.Popen[bytes]) -> None:
        """It runs as this process; ended at once where it was cancelled meanwhile."""
        with self._lock:
            self._process = process
        if self.stopped.is_set():
            self.kill()

    def kill(self) -> None:
        """End the process, its group and whatever carries its mark."""
        with self._lock:
            if self._process is None:
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
        end_all(self.id)

    def reap(self) -> None:
        """Kill it, and wait until it is gone."""
        self.kill()
        with self._lock:
            if self._process is not None:
                self._process.wait(_ENDING_SECONDS)
                self._process = None

    def stop(self) -> None:
        """See Task."""
        super().stop()
        self.kill()

    def drop(self) -> None:
        """See Task."""
        self.answer = None
        shutil.rmtree(self.folder, ignore_errors=True)


class Export(Task, Generic[_T]):
    """A file that is made in a thread; `result` is set, in the loop that waits for it, once it has ended."""

    def __init__(self, identity: str, make: Callable[[], _T]) -> None:
        super().__init__(identity)
        self.make = make
        self.result: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self.made: _T | None = None
        self.error: Exception = RefusedError("It was cancelled.")

    def over(self) -> None:
        """See Task."""
        super().over()
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self.result.get_loop().call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if self.result.done():
            return
        if self.state == DONE:
            self.result.set_result(cast(_T, self.made))
        else:
            self.result.set_exception(self.error)


class Works:
    """Everybody's work, on these vaults and this request list."""

    def __init__(
        self,
        folder: Path,
        sources: Mapping[str, Source],
        listed: RequestList | None = None,
        packets: Path | None = None,
        *,
        scope: Scope | None = None,
        seconds: float = WORK_SECONDS,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """`sources`: what the server calls each vault -> where it is; `scope`: the systems that packets tell of.

        One server a folder: what is in it is deleted.
        """
        self.listed, self.packets, self.scope = listed, packets, scope
        self._folder, self._sources = folder, dict(sources)
        self._seconds, self._kept_bytes = seconds, kept_bytes
        self._scratch = f"{SCRATCH}{sha256(str(folder.resolve()).encode()).hexdigest()[:12]}-"
        self._lane: Lane[Work] = Lane(self._do)
        self._exports: Lane[Export[Any]] = Lane(_export)
        self._works: dict[str, Work] = {}
        self._lock = threading.Lock()
        self._clean()

    def run(self, identity: str, engagement: Engagement, vault: str, size: int, call: Call) -> Work:
        """Run a request; RefusedError where too much is waiting."""
        return self._add(identity, call.request, self._job(engagement, vault, size, call=call))

    def take(self, identity: str, engagement: Engagement, vault: str, size: int, request: str, packet: Path) -> Work:
        """Take a packet that stands in the folder of packets, if it lies within the engagement."""
        return self._add(identity, request, self._job(engagement, vault, size, standing=str(packet)))

    def latest(self, identity: str, engagement: Engagement, vault: str, request: str) -> Work | None:
        """Somebody's newest work on this request, under this very engagement and vault."""
        with self._lock:
            mine = [
                work
                for work in self._works.values()
                if (work.identity, work.engagement, work.job.name, work.request)
                == (identity, engagement, vault, request)
            ]
        return mine[-1] if mine else None

    def cancel(self, work: Work) -> None:
        """End it; nothing of it is kept."""
        self._lane.cancel(work)

    def before(self, work: Work) -> int:
        """How many wait before it."""
        return self._lane.place(work)

    async def export(self, identity: str, make: Callable[[], _T]) -> _T:
        """What `make` gives, or raises, in a thread of the exports' own. RefusedError where too much is waiting.

        Where the awaiting task is cancelled, one that waits is dropped and one that runs ends where it calls `check`.
        """
        task = Export(identity, make)
        self._exports.add(task)
        try:
            return await task.result
        finally:
            self._exports.cancel(task)

    def close(self) -> None:
        """End everything and take it away."""
        self._lane.close()
        self._exports.close()
        self._clean()

    def _job(self, engagement: Engagement, vault: str, size: int, **what: Any) -> Job:
        source = self._sources.get(vault)
        if source is None:
            raise RefusedError("This engagement is not for this vault.")
        return Job(
            vault=source.vault,
            keys=source.keys,
            name=vault,
            size=size,
            engagement=engagement,
            out="",
            scope=None if self.scope is None else self.scope.data,
            **what,
        )

    def _add(self, identity: str, request: str, job: Job) -> Work:
        work = Work(self._folder, job, identity, request)
        with self._lock:
            self._works[work.id] = work
        try:
            self._lane.add(work)
        except RefusedError:
            with self._lock:
                del self._works[work.id]
            raise
        return work

    def _do(self, work: Work) -> str:
        """Run the child, hear what it says, and take away what it leaves."""
        try:
            work.folder.mkdir(mode=0o700)
            scratch = tempfile.mkdtemp(prefix=self._scratch)  # short: a kernel's sockets lie in it, unix(7): 108 bytes
        except OSError as error:
            raise UnavailableError(f"there is no place to work in ({error.strerror}).") from None
        state = FAILED
        try:
            if not work.stopped.is_set():
                state = self._heard(work, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if state != DONE:
                shutil.rmtree(work.folder, ignore_errors=True)
        self._evict(work)
        return state

    def _heard(self, work: Work, scratch: str) -> str:
        environment = {**os.environ, MARK: work.id, "TMPDIR": scratch, "JUPYTER_RUNTIME_DIR": scratch}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "auditlib.dashboard.work_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=work.folder,
            env=environment,
            start_new_session=True,
        )
        late = threading.Event()

        def time_is_up() -> None:
            late.set()
            work.kill()

        limit = threading.Timer(self._seconds, time_is_up)
        last: Word | None = None
        try:
            work.began(process)
            limit.start()
            last = _listen(work, process)
        finally:
            limit.cancel()
            work.reap()
            for stream in (process.stdin, process.stdout):
                if stream:
                    with suppress(OSError):
                        stream.close()
        told = f"It took longer than {self._seconds:,.0f} s and was ended." if late.is_set() else ""
        return _outcome(work, last, told)

    def _evict(self, newest: Work) -> None:
        """Forget the oldest that have ended, until what is kept is within its bounds."""
        with self._lock:
            ended = [work for work in self._works.values() if work.state not in (WAITING, RUNNING)]
            sizes = {work: _size(work.path) for work in [*ended, newest]}
            total, many = sum(sizes.values()), len(ended) + 1
            for work in ended:
                if total <= self._kept_bytes and many <= KEPT_WORKS:
                    break
                total, many = total - sizes[work], many - 1
                del self._works[work.id]
                shutil.rmtree(work.folder, ignore_errors=True)

    def _clean(self) -> None:
        """What an earlier server left, in its folder and among the scratch folders."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            for path in self._folder.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as error:
            raise UnavailableError(f"cannot be emptied ({error.strerror}).", where=str(self._folder)) from None
        for path in Path(tempfile.gettempdir()).glob(f"{self._scratch}*"):
            if not path.is_symlink() and path.stat().st_uid == os.geteuid():
                shutil.rmtree(path, ignore_errors=True)


def _listen(work: Work, process: subprocess.Popen[bytes]) -> Word | None:
    """What the child says until it is gone; its last word, if it had one."""
    last = None
    with suppress(OSError, msgspec.MsgspecError):
        assert process.stdin and process.stdout  # noqa: S101 - both are pipes
        process.stdin.write(msgspec.json.encode(work.job) + b"\n")
        process.stdin.flush()  # and not closed: where it ends, the child ends itself
        while line := process.stdout.readline(MAX_LINE_BYTES):
            word = msgspec.json.decode(line, type=Word)
            work.cells, work.stage = word.cells or work.cells, word.stage or work.stage
            if word.answer or word.withheld or word.error:
                last = word
                break
    return last


def _outcome(work: Work, last: Word | None, late: str) -> str:
    """The state, and the sentence that this person may read."""
    ask = f"ask {work.engagement.set_by}"
    if last is not None and last.answer:
        work.answer = last.answer
        return DONE
    if last is not None and last.withheld:
        work.sentence = f"This answer rests on events outside your engagement; {ask}."
        return WITHHELD
    if last is None and not late:
        work.sentence = f"The process that answered it ended before it was done; run it again, or {ask}."
    elif last is not None and may_read_errors(work.engagement):
        work.sentence = str(last.error)
    else:
        work.sentence = late or f"It could not be answered; {ask}."
    return FAILED


def may_read_errors(engagement: Engagement) -> bool:
    """Whether what a notebook says of its failure may be read: it can quote any event, and name places."""
    return engagement.role != "auditor" and not (limits_in_words(engagement) or engagement.redact)


def check() -> None:
    """RefusedError in the thread of an export that was cancelled: called wherever it may end, between two batches."""
    task: Task | None = getattr(_here, "task", None)
    if task is not None and task.stopped.is_set():
        raise RefusedError("It was cancelled.")


def _export(task: Export[Any]) -> str:
    _here.task = task
    try:
        task.made = task.make()
    except Exception as error:
        task.error = error
        return FAILED
    return DONE


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
