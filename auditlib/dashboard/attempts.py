"""Every attempt to sign in goes into the trail before its answer does; failures no faster than a bound.

Who fails a thousand times a minute gets twenty events and a sentence: the next event says how many were not recorded
one by one. A name that is no account's is not written down: people type passwords into the wrong field.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from auditlib.dashboard.signins import SignIn
from auditlib.errors import AuditlibError, UnavailableError

SECOND = 1_000_000  # microseconds
BURST = 20  # failures that are recorded one by one
EVERY = 30  # seconds after which one more is; 2,880 a day at most
NOBODY = "unknown"  # who failed, where no account has the name
_log = logging.getLogger("auditlib.dashboard")


class Records(Protocol):
    """The part of the recorder that is used here. Both raise UnavailableError where the event could not be kept."""

    def signed_in(
        self, identity: str, outcome: str, how: str, reason: str | None = None, *, session: SignIn | None = None
    ) -> object:
        """`outcome`: success, then of a session that begins, or denied."""

    def signed_out(self, identity: str, why: str, *, session: SignIn | None = None) -> object:
        """Somebody signed out."""


class Attempts:
    """The recorder under that bound, in a thread of its own: keeping an event waits for a disk."""

    def __init__(self, records: Records, now: Callable[[], int]) -> None:
        self._records, self._now = records, now
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sign-in-record")
        self._left, self._since = float(BURST), now()
        self._suppressed = 0
        self._down = False

    async def signed_in(self, signin: SignIn) -> None:
        """Record a success. UnavailableError: nobody is let in then."""
        await self._keep(signin.identity, "success", signin.how, None, signin)

    async def denied(self, identity: str | None, how: str, reason: str) -> None:
        """Record a failure, or count it where there were too many.

        While nothing can be recorded this raises for each, so that a failure looks no different from a success then.
        """
        now = self._now()
        self._left = min(BURST, self._left + max(0, now - self._since) / (EVERY * SECOND))
        self._since = now
        if self._left < 1 and not self._down:
            self._suppressed += 1
            return
        self._left = max(0, self._left - 1)
        await self._keep(identity or NOBODY, "denied", how, reason, None)

    async def signed_out(self, signin: SignIn, why: str) -> None:
        """Record a sign-out. UnavailableError."""
        await self._run(partial(self._records.signed_out, signin.identity, why, session=signin))

    def ended(self, signin: SignIn, why: str) -> None:
        """Record that a sign-in ended by itself, soon, without waiting; the log says where that failed."""
        self._thread.submit(self._tell, signin, why)

    def close(self) -> None:
        """Wait until all of it is recorded; nothing is taken after it."""
        self._thread.shutdown()

    def _tell(self, signin: SignIn, why: str) -> None:
        try:
            self._records.signed_out(signin.identity, why, session=signin)
        except AuditlibError as error:
            _log.error("the end of a sign-in (%s) could not be recorded: %s", why, error)

    async def _keep(self, identity: str, outcome: str, how: str, reason: str | None, signin: SignIn | None) -> None:
        told, self._suppressed = self._suppressed, 0
        if told:
            more = f"{told:,} failed attempts before it were not recorded one by one"
            reason = f"{reason}; {more}" if reason else more
        try:
            await self._run(partial(self._records.signed_in, identity, outcome, how, reason, session=signin))
        except UnavailableError:
            self._suppressed += told
            self._down = True
            raise
        self._down = False

    async def _run(self, work: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work)
