"""Spool -> collector: runs of events in order, each confirmed only by an answer for that very event.

    POST /v1/events           200 {"results": [{"status": "recorded", "event_id": ...}, ...]}     one answer an event
    recorded, repeated        done
    conflict, refused         done: the collector keeps the event where an auditor sees it; counted and reported here
    429, 5xx, no answer       everything stays; again after a while, which doubles up to a minute, or after Retry-After
    401, 403, other           everything stays; again every minute or so, until a person has put it right
    400, 413                  half of it, then half of that; an event that fails alone while others pass is set aside

The answer is as untrusted as any input: bounded, of the right length, about these events, or it counts as none.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from auditlib.client.exchange import LONGEST_WAIT, Collector, Later, NotTaken, Result
from auditlib.client.folder import Folder
from auditlib.client.spool import Run, Spool
from auditlib.errors import UnavailableError

BATCH = 500  # events of one request; a collector takes 1,000
LINGER = 0.02  # seconds for which events gather into one request
SCAN = 15  # seconds between two looks for what ended processes have left
FIRST_WAIT = 0.5  # seconds; from here to LONGEST_WAIT the wait doubles, with full jitter
MAX_SKIPPED = 8  # events tried past one that fails alone, to learn whether it is the event or the collector
ENDING = 1.0  # seconds that close() gives the thread at least, so that the next process finds the spool free
POLL = 0.005  # seconds between two looks of flush() at what was answered for
HURRIED = 0.25  # seconds between attempts while somebody waits in flush()
MAX_TOLD_CHARS = 600  # characters of one report, whatever the other side says

_chance = random.SystemRandom()  # the application's own `random` is not disturbed, nor shared with forked children
_logger = logging.getLogger("auditlib.client")


class _Lane:
    """One spool on its way: how many events at once, what is known of an event that fails alone, when to go on."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.size = BATCH
        self.skipped = 0  # events at the head of the line that failed alone
        self.others_pass = False  # one after them was taken: it is the event
        self.problem = ""  # why nothing can be sent at present
        self.failures = 0  # since something was last answered
        self.resume, self.hard = 0.0, False  # time.monotonic() of the next attempt, and whether flush() hurries it

    @property
    def waiting(self) -> int:
        """Events to send."""
        return self.spool.last - self.spool.sent


class Sender:
    """Sends one process's spool, and what ended processes left in the folder, from a daemon thread."""

    def __init__(self, collector: Collector, folder: Folder, problems: Callable[[str], None] | None) -> None:
        self._collector, self._folder, self._problems = collector, folder, problems
        self.spool = folder.claim(self.report)
        self.counts = dict.fromkeys(("conflict", "refused", "aside"), 0)
        self._lanes = [_Lane(self.spool)]
        self._thread: threading.Thread | None = None
        self._starting, self._running = threading.Lock(), threading.Lock()
        # An interrupt in the midst of threading.Event.set() can leave it locked for ever; a SimpleQueue cannot be.
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._rung = self._hurry = self._stop = False
        self._look_for_leftovers()
        if any(lane.waiting for lane in self._lanes):
            self.wake()

    @property
    def problem(self) -> str:
        """Why this process's events cannot be sent at present; '' where they can."""
        return self._lanes[0].problem

    def wake(self) -> None:
        """There is something to send."""
        if not self._rung:
            self._rung = True
            self._bell.put(None)
        if self._thread is None:
            self._start()

    def flush(self, timeout: float) -> bool:
        """Wait until all that is held by now is answered for; False where `timeout` seconds did not suffice."""
        last, deadline = self.spool.last, time.monotonic() + timeout

        def waiting() -> bool:
            return self.spool.sent < last or any(lane.waiting for lane in self._lanes[1:])

        hurry = 0.0
        while waiting() and (now := time.monotonic()) < deadline:
            if now >= hurry:
                hurry = now + HURRIED
                self._hurry = True
                self._bell.put(None)
                self.wake()
            time.sleep(POLL)
        return not waiting()

    def close(self, timeout: float) -> None:
        """Stop sending and let go of the spools; what was not sent stays in them."""
        with self._starting:
            self._stop = True
        self.spool.refuse()
        self._bell.put(None)
        if self._thread is not None:
            self._thread.join(max(timeout, ENDING))
        elif self._running.acquire(blocking=False):
            self._close_spools()

    def abandon(self) -> None:
        """In a forked child: close the copies of the parent's descriptors, and touch nothing else of the parent's."""
        for lane in self._lanes:
            lane.spool.abandon()

    def report(self, message: str) -> None:
        """Tell the application's `problems`, else the log; never raises."""
        text = self._collector.plain(message)[:MAX_TOLD_CHARS]
        try:
            if self._problems is not None:
                self._problems(text)
            else:
                _logger.warning("%s", text)
        except Exception:
            _logger.exception("the client's `problems` failed on: %s", text)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._stop:
                thread = threading.Thread(target=self._run, name="auditlib-client", daemon=True)
                try:
                    thread.start()
                    self._thread = thread
                except RuntimeError as error:  # no threads left, or the interpreter is ending: it stays spooled
                    self.report(f"no thread to send events with could be started ({error}).")

    def _run(self) -> None:
        if not self._running.acquire(blocking=False):
            return  # an interrupt in the midst of _start() made it start a second thread
        while not self._stop:
            self._rung = False
            hurried, self._hurry = self._hurry, False
            sent = [self._try(lane, hurried) for lane in self._lanes]
            if not any(sent) and not self._look_for_leftovers():
                self._rest()
        self._close_spools()

    def _try(self, lane: _Lane, hurried: bool) -> bool:
        """Send from one spool if it is time; whether there was anything to do."""
        if time.monotonic() < lane.resume and (lane.hard or not hurried):
            return False
        try:
            if not self._send(lane):
                return False
            lane.failures, lane.problem = 0, ""
        except Exception as error:
            later = error if isinstance(error, Later) else Later(f"{type(error).__name__}: {error}")
            wait, lane.hard = later.wait, later.hard
            if wait is None:
                longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(lane.failures, 10))
                wait = _chance.uniform(0, longest)
            lane.failures += 1
            lane.resume = time.monotonic() + wait
            if later.message != lane.problem:  # told once, not at every attempt
                self.report(f"{later.message} {lane.waiting:,} events wait in the spool.")
            lane.problem = later.message
            return False
        return True

    def _rest(self) -> None:
        """Until there is work, or the next attempt is due."""
        due = min([lane.resume for lane in self._lanes if lane.waiting], default=float("inf"))
        failed = self._lanes[0].waiting > 0  # then new events change nothing
        if self._pause(min(SCAN, due - time.monotonic()), heed_work=not failed) and not failed:
            self._pause(LINGER, heed_work=False)

    def _pause(self, seconds: float, *, heed_work: bool) -> bool:
        """Wait, less where somebody hurries or closes, or with `heed_work` records; whether one of these came."""
        until = time.monotonic() + seconds
        while not (self._stop or self._hurry):
            left = until - time.monotonic()
            if left <= 0:
                return False
            try:
                self._bell.get(timeout=left)
            except Empty:
                return False
            if heed_work:
                return True
        return True

    def _send(self, lane: _Lane) -> bool:
        """One request from one spool; whether there was anything to do. Raises Later."""
        run = lane.spool.read(lane.skipped + lane.size)
        if lane.skipped and lane.skipped >= min(len(run.events), MAX_SKIPPED):
            lane.skipped = 0
            raise Later(f"the collector takes no event from {run.first} on, not even one at a time.", LONGEST_WAIT)
        tried = Run(run.first + lane.skipped, run.events[lane.skipped :], run.ends[lane.skipped :])
        if not tried.events:
            return False
        try:
            results = self._collector.post(lane.spool.instance, tried)
        except NotTaken as refusal:
            if len(tried.events) > 1:
                lane.size = len(tried.events) // 2
            elif lane.others_pass:
                path = lane.spool.set_aside(tried)
                self.counts["aside"] += 1
                self.report(f"the collector cannot take event {tried.first} ({refusal}); it is kept in {path}.")
                lane.spool.confirm(tried, 1)
            else:
                lane.skipped += 1
            return True
        if lane.skipped:  # not confirmed: the skipped ones are tried once more, alone, before they are set aside
            lane.skipped, lane.others_pass, lane.size = 0, True, 1
            return True
        lane.others_pass, lane.size = False, min(BATCH, 2 * lane.size)
        self._count(lane.spool.instance, tried.first, results)  # first: after flush() the counts are right
        lane.spool.confirm(tried, len(tried.events))
        return True

    def _count(self, instance: str, first: int, results: list[Result]) -> None:
        bad = [(first + i, result) for i, result in enumerate(results) if result.status in self.counts]
        for _, result in bad:
            self.counts[result.status] += 1
        if bad:
            number, result = bad[0]
            self.report(
                f"the collector keeps {len(bad)} of {len(results)} events for review and not as recorded; the first, "
                f"number {number} of instance {instance}: {result.status}, {result.reason}"
            )

    def _look_for_leftovers(self) -> bool:
        """Let go of other instances that are sent, and hold those that have something to send; whether any is new."""
        for lane in [lane for lane in self._lanes[1:] if not lane.waiting]:
            self._lanes.remove(lane)
            lane.spool.close()
        held = len(self._lanes)
        try:
            for spool in self._folder.leftovers(self.report):
                self._lanes.append(_Lane(spool))
        except UnavailableError as error:
            self.report(str(error))
        return len(self._lanes) > held

    def _close_spools(self) -> None:
        for lane in self._lanes:
            lane.spool.close()
        self._collector.close()
