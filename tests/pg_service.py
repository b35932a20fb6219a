"""A real PostgreSQL for the tests: databases by the dozen, and its life and death.

Where it comes from:

1. `AUDITLIB_TEST_PG_URL` names one: postgresql://superuser:password@host:port/database. It is not ours to kill.
2. Otherwise `tests/services/postgres-start` starts one, in `AUDITLIB_TEST_PG_FOLDER` or its default folder. Several
   test processes (xdist, two checkouts) share it; the last to leave stops it. One that ran before, started by hand, is
   used and left running; its `pg.env` holds the variable of 1.
3. Where neither can be, the tests are skipped with the reason. With CI=true they fail instead.

    url = pg_service().new_database()

`kill9()` takes the server away from whoever else is using it; tests that crash it take their own by `own_pg_service()`.
"""

import atexit
import contextlib
import fcntl
import functools
import os
import shlex
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

SERVICES = Path(__file__).parent / "services"
PREFIX = "AUDITLIB_TEST_PG_"
NO_SERVICE = 77  # postgres-start's exit code: it cannot be had on this machine
START_SECONDS = 600  # the packages may have to come first; without that it takes 2 s


def unavailable(reason: str) -> NoReturn:
    """Skip the test with the reason; on CI, where the service belongs, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, and there is no PostgreSQL: {reason}", pytrace=False)
    pytest.skip(f"no PostgreSQL: {reason}")


class PgService:
    """A server, its superuser's URL, and, where the tests started it, its life and death."""

    def __init__(self, variables: dict[str, str]):
        """Take the variables of the module's docstring, without their common prefix."""
        self.url = variables["URL"]
        self.folder = Path(variables["FOLDER"]) if "FOLDER" in variables else None
        self._databases: list[str] = []
        self._logins: list[str] = []

    def url_of(self, database: str, user: str | None = None, password: str | None = None) -> str:
        """The URL of a database, for the superuser or another login."""
        parts = urlsplit(self.url)
        place = f"{user}:{password}@{parts.hostname}:{parts.port}" if user else parts.netloc
        return parts._replace(netloc=place, path=f"/{database}").geturl()

    def connect(self, url: str | None = None):
        """A psycopg connection in autocommit mode, as the superuser unless the URL says otherwise."""
        import psycopg

        return psycopg.connect(url or self.url, autocommit=True, connect_timeout=5)

    def new_database(self) -> str:
        """The URL of an empty database with a new name, for the superuser."""
        name = f"auditlib_test_{uuid.uuid4().hex}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}")
        self._databases.append(name)
        return self.url_of(name)

    def new_login(self, *roles: str) -> tuple[str, str]:
        """Name and password of a new login that is a member of these roles."""
        name, password = f"auditlib_test_{uuid.uuid4().hex}", uuid.uuid4().hex
        with self.connect() as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
            for role in roles:
                connection.execute(f"GRANT {role} TO {name}")
        self._logins.append(name)
        return name, password

    def clean(self) -> None:
        """Drop the databases and logins that were made here; a server that is gone keeps them."""
        with contextlib.suppress(Exception), self.connect() as connection:
            while self._databases:
                connection.execute(f"DROP DATABASE IF EXISTS {self._databases.pop()} WITH (FORCE)")
            while self._logins:
                connection.execute(f"DROP ROLE IF EXISTS {self._logins.pop()}")

    # -------------------------------------------------------------------------------------------- life and death

    def pids(self) -> list[int]:
        """The processes of a running server that the tests may kill, the postmaster first."""
        if self.folder is None:
            pytest.skip(f"the PostgreSQL that {PREFIX}URL names is not ours to kill")
        data = str(self.folder / "data")
        found = []
        for entry in Path("/proc").iterdir():
            # Every process of the cluster works in its data folder, and nothing else does.
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "cwd").readlink() == Path(data):
                    found.append(int(entry.name))
        return sorted(found)

    def kill9(self) -> None:
        """End every process of the server at once, as a power cut does to them; `restart()` recovers."""
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def restart(self) -> None:
        """Start it again, if it is dead, over its old data; return once it has recovered."""
        self.pids()
        start(self.folder)


# ------------------------------------------------------------------------------------------------ starting, stopping


def start(folder: Path) -> dict[str, str]:
    """Run postgres-start; the variables it wrote, without their prefix."""
    # Its output goes to a file: a pipe would stay open for as long as the server holds it.
    with tempfile.TemporaryFile() as said:
        script = [SERVICES / "postgres-start", folder]
        done = subprocess.run(script, stdout=subprocess.DEVNULL, stderr=said, timeout=START_SECONDS, check=False)
        said.seek(0)
        complaint = said.read().decode(errors="replace").strip()
    if done.returncode == NO_SERVICE:
        unavailable(complaint)
    if done.returncode:
        pytest.fail(f"postgres-start ended with {done.returncode}:\n{complaint}", pytrace=False)
    return variables_of((folder / "pg.env").read_text())


def stop(folder: Path) -> None:
    """Run postgres-stop: no process and no file is left."""
    subprocess.run([SERVICES / "postgres-stop", folder], timeout=180, check=True)


def variables_of(text: str) -> dict[str, str]:
    """`AUDITLIB_TEST_PG_A=b` lines as {"A": "b"}."""
    pairs = (line.split("=", 1) for line in shlex.split(text))
    return {name.removeprefix(PREFIX): value for name, value in pairs if name.startswith(PREFIX)}


def require_psycopg() -> None:
    """Skip or fail like a missing service."""
    try:
        import psycopg  # noqa: F401
    except ImportError:
        unavailable("psycopg is not installed")


def default_folder() -> Path:
    """Where postgres-start starts it unless told otherwise."""
    default = Path(os.environ.get("TMPDIR") or "/tmp") / f"auditlib-pg-{os.getuid()}"
    return Path(os.environ.get(f"{PREFIX}FOLDER") or default)


@functools.cache
def _shared() -> tuple[PgService, contextlib.ExitStack]:
    stack = contextlib.ExitStack()
    given = {name.removeprefix(PREFIX): value for name, value in os.environ.items() if name.startswith(PREFIX)}
    service = PgService(given if given.get("URL") else stack.enter_context(_joined(default_folder())))
    stack.callback(service.clean)
    atexit.register(stack.close)
    return service, stack


@contextlib.contextmanager
def _joined(folder: Path):
    """The variables of the server in this folder, started unless it runs; the last process to leave stops it.

    Each process holds a shared lock on `<folder>.users` while it uses the server; who gets it alone is the last. The
    kernel drops the lock of a killed process, and the next session finds, uses and stops what that one left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    started_by_tests = folder / "started-by-tests"
    with Path(f"{folder}.users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        found = (folder / "pg.env").exists()
        variables = start(folder)
        if not found:
            started_by_tests.touch()
        try:
            yield variables
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if started_by_tests.exists():
                    stop(folder)


def pg_service() -> PgService:
    """The PostgreSQL of this test session; skips, or on CI fails, where there is none."""
    require_psycopg()
    return _shared()[0]


def leave_pg_service() -> None:
    """End this process's use of it: for a session fixture's teardown; a process that forgets does so at its exit."""
    if _shared.cache_info().currsize:
        _shared()[1].close()
        _shared.cache_clear()


@contextlib.contextmanager
def own_pg_service():
    """A second server that nobody else uses, for tests that crash it; takes 2 s to start, and is removed at the end.

    Its folder lies beside the default one: the server's user could not reach one inside pytest's.
    """
    require_psycopg()
    folder = Path(f"{default_folder()}-own-{uuid.uuid4().hex[:8]}")
    try:
        yield PgService(start(folder))
    finally:
        stop(folder)
