"""A cluster in place of one machine: dask.distributed behind the standard library's Executor (DESIGN 6).

    with connect("tcp://scheduler:8786") as cluster:
        verify(vault, deep=True, executor=cluster, ...)

Workers read the vault themselves, with credentials of their own; only results travel. A worker that dies takes its task
with it: the scheduler gives the task to others, and where it kills those too (dask's `allowed-failures`), `spread`
takes its parts one by one, so that the one that kills is known. What a worker says is a claim; who asks compares it.
"""

from __future__ import annotations

import atexit
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from importlib.metadata import version
from platform import python_version
from typing import Any, TypeVar

from auditlib.errors import AuditlibError, MalformedError, UnavailableError

T = TypeVar("T")
R = TypeVar("R")

CONNECT_SECONDS = 10  # for the scheduler, and for its first worker, to answer
_WAITING = 2  # tasks handed over for each thread at work: the next lies ready, and no more wait in memory


class Cluster(Executor):
    """The workers of one dask scheduler; a task whose workers all died raises BrokenExecutor."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @property
    def width(self) -> int:
        """How many tasks run at once, as the cluster is now; UnavailableError where the scheduler is gone."""
        try:
            return int(sum(self._client.nthreads().values())) or 1
        except OSError:
            raise _gone() from None

    def submit(self, work: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Run work(*args, **kwargs) on some worker; both must pickle."""
        outer: Future[R] = Future()
        outer.set_running_or_notify_cancel()
        task = self._client.submit(work, *args, pure=False, **kwargs)
        task.add_done_callback(lambda done: _pass_on(done, outer))
        return outer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which goes on; what it still does for this client is dropped."""
        self._client.close()


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """The cluster of the scheduler at `tcp://host:port` (`tls://` with dask's own configuration of keys).

    MalformedError where dask is not installed, the address is none, or a worker has other software than this process;
    UnavailableError where no scheduler or no worker answers.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise MalformedError(
            "a cluster needs dask.", where="--scheduler", remedy="pip install 'auditlib[dask]'"
        ) from None
    if not address.startswith(("tcp://", "tls://")):
        raise MalformedError(f"{address[:80]!r} is no scheduler; write tcp://host:8786.", where="--scheduler")
    try:
        client: Any = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UnavailableError(f"no scheduler answers ({str(error)[:200]}).", where=address) from None
    try:
        _check_workers(client, address)
        yield Cluster(client)
    finally:
        client.close()


def from_environment() -> Cluster | None:
    """The cluster of `AUDITLIB_SCHEDULER`, reached once and left when this process ends; None where none is named.

    Raises as `connect` does.
    """
    address = os.environ.get("AUDITLIB_SCHEDULER")
    return _lasting(address) if address else None


@lru_cache(maxsize=1)
def _lasting(address: str) -> Cluster:
    stack = ExitStack()
    cluster = stack.enter_context(connect(address))
    atexit.register(stack.close)
    return cluster


def ahead_of(executor: Executor) -> int:
    """How many tasks are handed over, or done and not yet asked for, at a time."""
    return _WAITING * (executor.width if isinstance(executor, Cluster) else os.cpu_count() or 1)


def spread(
    executor: Executor, work: Callable[[Sequence[T]], list[R]], groups: Iterable[Sequence[T]], dead: Callable[[T], R]
) -> Generator[list[R], None, None]:
    """work(group) for every group, in order, some ahead; a list of one result a part each.

    A group whose worker died is done again, part by part; of a part that kills its worker alone, `dead(part)` is the
    result. UnavailableError where the executor itself is gone.
    """
    most = ahead_of(executor)
    ahead: deque[tuple[Sequence[T], Future[list[R]]]] = deque()
    rest = iter(groups)
    try:
        while True:
            while len(ahead) < most and (group := next(rest, None)) is not None:
                ahead.append((group, _submit(executor, work, group)))
            if not ahead:
                return
            group, future = ahead.popleft()
            try:
                yield future.result()
            except BrokenExecutor:
                yield [_alone(executor, work, part, dead) for part in group]
    finally:
        for _, future in ahead:
            future.cancel()


def _alone(executor: Executor, work: Callable[[Sequence[T]], list[R]], part: T, dead: Callable[[T], R]) -> R:
    try:
        (result,) = _submit(executor, work, [part]).result()
    except BrokenExecutor:
        return dead(part)
    return result


def _submit(executor: Executor, work: Callable[[Sequence[T]], list[R]], group: Sequence[T]) -> Future[list[R]]:
    try:
        return executor.submit(work, group)
    except BrokenExecutor:  # a pool of processes of this machine does not come back
        raise UnavailableError(
            "the processes at work were ended from outside (out of memory?).",
            remedy="Run it again with fewer (--workers 1).",
        ) from None


def _check_workers(client: Any, address: str) -> None:
    """Every worker has this process's auditlib and Python; else it would read other formats than this one."""
    from distributed import TimeoutError as TimedOut

    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimedOut:
        raise UnavailableError("the scheduler has no worker.", where=address, remedy="Start `dask worker`.") from None
    try:
        told = client.run(_software)
    except ModuleNotFoundError:
        raise MalformedError("a worker has no auditlib.", where=address, remedy=_remedy()) from None
    except OSError as error:
        raise UnavailableError(f"a worker does not answer ({str(error)[:200]}).", where=address) from None
    for worker, found in sorted(told.items()):
        if found != _software():
            raise MalformedError(f"its software is another than here: {found}.", where=worker, remedy=_remedy())


def _software() -> str:
    return f"auditlib {version('auditlib')}, Python {python_version()}"


def _remedy() -> str:
    return f"Install {_software()} on every worker, from the same requirements.lock."


def _gone() -> UnavailableError:
    return UnavailableError("the cluster's scheduler is gone.", remedy="Start it, and run this again.")


def _pass_on(done: Any, outer: Future[Any]) -> None:
    """What became of a dask future, told in the standard library's words."""
    try:
        outer.set_result(done.result())
    except AuditlibError as error:
        outer.set_exception(error)
    except (CancelledError, OSError):  # distributed's own CommClosedError among them
        outer.set_exception(_gone())
    except Exception as error:
        killed = type(error).__name__ == "KilledWorker"
        outer.set_exception(BrokenExecutor(str(error)) if killed else error)
