"""The one-line start's own collector: a child process, for a dashboard on one machine that was given none.

    <state>/            0700, one dashboard at a time
      lock              held while a dashboard runs
      audit.db          the store, which a sealer empties into a vault (`auditlib seal --store sqlite:///<state>/audit.db`)
      tokens            hashes, as `auditlib token add` writes them
      token             the one token, 0600, made once
      spool/            what the collector has not answered for
      collector.log     what the child said last

The child listens on a free port of the loopback and is sent nothing but events. It ends when its standard input does:
that is a pipe whose other end only this process has, so that it ends with this process however that ends (a signal at
the parent's death, PR_SET_PDEATHSIG, would come at the end of the thread that started it). It is in a session of its
own, so that Ctrl-C reaches the dashboard first, which records what it has to, and then closes the pipe.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from auditlib.client import Client
from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.tokens import Tokens, add_token

SOURCE = "dashboard"  # the source of its events in the trail
START_SECONDS = 60.0  # in which the collector must say where it listens
STOP_IN_FLIGHT_SECONDS = 10  # for which it answers what is in flight when it is to end
STOP_SECONDS = 15.0  # after which it is killed
FLUSH_SECONDS = 5.0  # for what is spooled to be answered for, at the end
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before a collector that ended is started again; twice as long each time
MAX_SAID = 400  # characters of its log in a sentence


@contextmanager
def state_folder(path: Path) -> Iterator[Path]:
    """The dashboard's folder (0700, made if need be), held by this process alone.

    Raises MalformedError where others can get at it, UnavailableError where another dashboard has it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise MalformedError(
                "others can get at the dashboard's folder.",
                where=str(path),
                remedy="Give it a folder of its own user with mode 0700.",
            )
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path
    except BlockingIOError:
        raise UnavailableError(
            "another dashboard uses this folder.", where=str(path), remedy="Stop it, or give this one another --state."
        ) from None
    finally:
        os.close(descriptor)


def store_url(state: Path) -> str:
    """The URL of the store that the collector fills. MalformedError where the path cannot stand in one."""
    path = (state / "audit.db").absolute()
    if "?" in str(path):
        raise MalformedError("a store's URL cannot hold this path.", where=str(path), remedy="Take one without `?`.")
    return f"sqlite:///{path}"


@contextmanager
def own_collector(
    state: Path, *, now: Callable[[], int], problems: Callable[[str], None] | None = None
) -> Iterator[Client]:
    """A running collector, and a client of it that waits for the disk; both are stopped at the end.

    The collector is started again where it ends by itself; until then what is recorded waits in the spool. `problems`
    gets sentences from other threads. Raises UnavailableError where it cannot be started.
    """
    from auditlib.store import init_store

    url, tokens = store_url(state), state / "tokens"
    init_store(url)
    token = _token(state, now)
    child = _Child([url, str(tokens)], state / "collector.log", problems or _ignore)
    try:
        client = Client(child.url, token, spool=state / "spool", durability="disk", problems=problems, now=now)
        try:
            yield client
        finally:
            client.close(FLUSH_SECONDS)
    finally:
        child.stop()


class _Child:
    """The collector's process, and the thread that starts it again."""

    def __init__(self, arguments: list[str], log: Path, problems: Callable[[str], None]) -> None:
        self._arguments, self._log, self._problems = arguments, log, problems
        self._stopping = threading.Event()
        self._process, self.url = self._start("127.0.0.1:0")
        self._watcher = threading.Thread(target=self._watch, name="auditlib-collector", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Let it answer what is in flight, and end."""
        self._stopping.set()
        _end(self._process)
        self._watcher.join(STOP_SECONDS)

    def _watch(self) -> None:
        wait = FIRST_WAIT
        while True:
            code = self._process.wait()
            if self._stopping.is_set():
                return
            _end(self._process)  # its pipes
            self._problems(f"the dashboard's collector ended ({code}) and is started again; events wait in the spool.")
            while not self._stopping.wait(wait):
                wait = min(2 * wait, LONGEST_WAIT)
                try:
                    # The same port: the client keeps its address.
                    self._process, _ = self._start(self.url.removeprefix("http://"))
                    break
                except UnavailableError as error:
                    self._problems(str(error))
            if self._stopping.is_set():
                _end(self._process)
                return

    def _start(self, listen: str) -> tuple[subprocess.Popen[bytes], str]:
        """A process that takes events, and where."""
        descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, *self._arguments, listen],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=descriptor,
                start_new_session=True,
            )
        except OSError as error:
            raise _unusable(Path(sys.executable), error) from None
        finally:
            os.close(descriptor)
        url = _first_line(process)
        if url.startswith("http://"):
            return process, url
        _end(process)
        said = self._log.read_text(errors="replace").strip()[-MAX_SAID:]
        raise UnavailableError(
            f"the dashboard's collector did not start ({said or 'it said nothing'}).", where=str(self._log.parent)
        )


def _first_line(process: subprocess.Popen[bytes]) -> str:
    """What it says first on its standard output; '' where it ends, or says nothing in time."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    said, end = b"", time.monotonic() + START_SECONDS
    while not said.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
        part = os.read(process.stdout.fileno(), 1024) if ready else b""
        if not part:
            return ""
        said += part
    return said.decode(errors="replace").strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _token(state: Path, now: Callable[[], int]) -> str:
    """The token that is kept, if the collector still takes it; else a new one."""
    path, tokens = state / "token", state / "tokens"
    try:
        if path.exists() and tokens.exists():
            kept = path.read_text().strip()
            if kept and Tokens(tokens).source_of(kept) == SOURCE:
                return kept
        # Its hash comes first: a crash in between leaves a hash whose token nobody has.
        token = add_token(tokens, SOURCE, now=now)
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise _unusable(state, error) from None
    return token


def _unusable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"the dashboard's folder cannot be used ({error.strerror}).",
        where=str(error.filename or path),
        remedy="Give it a --state folder that it can read and write.",
    )


def _ignore(_: str) -> None:
    """Nobody asked to be told."""


def _until_left_alone() -> None:
    """Stop this process once nobody holds the other end of its standard input."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """The child: STORE TOKENS LISTEN; says its URL on standard output, and serves until it is left alone."""
    from auditlib.client.settings import load_catalog
    from auditlib.collector import Limits, serve
    from auditlib.store import open_store

    store, tokens, listen = arguments
    threading.Thread(target=_until_left_alone, daemon=True).start()
    try:
        opened = open_store(store, "writer")
        try:
            serve(
                opened,
                Tokens(Path(tokens)),
                load_catalog(None),
                now=lambda: time.time_ns() // 1000,
                listen=listen,
                limits=Limits(stop_seconds=STOP_IN_FLIGHT_SECONDS),
                announce=lambda address: os.write(1, f"{address}\n".encode()),
            )
        finally:
            opened.close()
    except AuditlibError as error:
        os.write(2, f"{error}\n".encode())
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
