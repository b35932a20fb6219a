"""What a collector does beside answering: record failed authentications, and know whether its store answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

from auditlib.collector.refusals import COLLECTOR, own_record
from auditlib.formats.event import Record, Target
from auditlib.formats.times import format_time
from auditlib.store import Store

MAX_ADDRESSES = 16  # addresses that one audit.auth_failure names; the attempts are all counted
HEALTH_SECONDS = 5.0  # seconds after which a store that has not answered counts as away
FRESH_SECONDS = 1.0  # seconds for which an answer holds, so that asking for health costs the store nothing

log = logging.getLogger("auditlib.collector")


class FailedLogins:
    """Failed authentications -> audit.auth_failure records: the first at once, then one an interval with the count.

    An attacker who sends a million wrong tokens causes a record every ten seconds, not a million. Attempts that could
    not be recorded (the store is away) are counted into the next record.
    """

    def __init__(self, append: Callable[[Record], object], now: Callable[[], int], seconds: float) -> None:
        self._append = append
        self._now = now
        self._seconds = seconds
        self._attempts = 0
        self._first = 0
        self._addresses: dict[str, None] = {}
        self._noted = asyncio.Event()
        self._stopping = asyncio.Event()

    def note(self, address: str | None) -> None:
        """One more attempt, from this address (None: a Unix socket)."""
        if not self._attempts:
            self._first = self._now()
        self._attempts += 1
        if address is not None and len(self._addresses) < MAX_ADDRESSES:
            self._addresses[address] = None
        self._noted.set()

    def stop(self) -> None:
        """Let `run` end once what was counted is recorded."""
        self._stopping.set()
        self._noted.set()

    async def run(self, executor: Executor) -> None:
        """Record until told to stop; the last attempts then too, where the store still takes them."""
        while not self._stopping.is_set():
            await self._noted.wait()
            self._noted.clear()
            await self._record(executor)
            try:
                async with asyncio.timeout(self._seconds):
                    await self._stopping.wait()
            except TimeoutError:
                pass
        await self._record(executor)

    async def _record(self, executor: Executor) -> None:
        if not self._attempts:
            return
        attempts, addresses = self._attempts, list(self._addresses)
        context = {"addresses": addresses, "attempts": attempts, "first_at": format_time(self._first)}
        record = own_record("audit.auth_failure", Target(COLLECTOR, "service"), context, self._now())
        self._attempts = 0
        self._addresses = {}
        try:
            await asyncio.get_running_loop().run_in_executor(executor, self._append, record)
        except Exception:
            log.exception(
                "%d failed authentications could not be recorded; they are counted into the next record", attempts
            )
            self._attempts += attempts
            self._addresses = dict.fromkeys([*addresses, *self._addresses][:MAX_ADDRESSES])
            self._noted.set()


class Pulse:
    """Whether the store answers: asked at most once a second, by one thread, whoever asks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked_at = 0.0
        self._answer: Future[bool] | None = None

    async def beats(self, executor: Executor) -> bool:
        """True where the store has answered within the last second, or does so within five."""
        if self._answer is None or (self._answer.done() and time.monotonic() - self._asked_at > FRESH_SECONDS):
            self._asked_at = time.monotonic()
            self._answer = executor.submit(self._ask)
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                return await asyncio.shield(asyncio.wrap_future(self._answer))
        except TimeoutError:
            return False

    def _ask(self) -> bool:
        try:
            _ = self._store.identity  # one row, read from the database each time
        except Exception:
            log.exception("the store does not answer")
            return False
        return True
