"""One request to the collector and its answer, which is as untrusted as any input: bounded, and about these events.

POST /v1/events                    200 {"results": [{"status": "recorded", "event_id": "01JH...", ...}, ...]}
{"action":"role.grant",...}
{"action":"user.login",...}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
import urllib3
from urllib3.util import Retry, Timeout

from auditlib.client.spool import Run
from auditlib.formats.times import format_time

MAX_ANSWER_BYTES = 4 * 1024 * 1024  # bytes; 500 answers of some 8 KiB
TIMEOUT = Timeout(connect=5, read=30)  # seconds
LONGEST_WAIT = 60.0  # seconds between two attempts, unless the collector asks for more
LONGEST_RETRY_AFTER = 600  # seconds; a collector that asks for more is asked again all the same


class Result(msgspec.Struct):
    """What became of one event."""

    status: Literal["recorded", "repeated", "conflict", "refused"]
    event_id: str | None = None
    reason: str = ""


class _Answer(msgspec.Struct):
    results: list[Result]


class _Id(msgspec.Struct):
    event_id: str


class Later(Exception):
    """Nothing was answered for; `wait` seconds, else the usual backoff, and `hard` where flush() must not hurry it."""

    def __init__(self, message: str, wait: float | None = None, *, hard: bool = False) -> None:
        super().__init__(message)
        self.message, self.wait, self.hard = message, wait, hard


class NotTaken(Exception):
    """The collector takes no request of this size, or holding this event (400, 413)."""


class Collector:
    """The collector at one URL, as seen with one token."""

    def __init__(self, url: str, token: str, now: Callable[[], int]) -> None:
        self._url, self._token, self._now = url, token, now
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=1, timeout=TIMEOUT)

    def plain(self, text: str) -> str:
        """What may be shown of a text: the other side's words may hold anything, even the token."""
        return "".join(c if c.isprintable() else "?" for c in text.replace(self._token, "[token]"))

    def close(self) -> None:
        """Close the connection."""
        self._pool.clear()

    def post(self, instance: str, run: Run) -> list[Result]:
        """Send the events of a run; one result each, in order. Raises Later or NotTaken."""
        return self.deliver(run.events, {"Audit-Instance": instance, "Audit-First-Seq": str(run.first)})

    def deliver(self, events: Sequence[bytes], about: Mapping[str, str]) -> list[Result]:
        """Send events with headers about them; one result each, in order. Raises Later or NotTaken."""
        headers = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": "application/x-ndjson",
            "Audit-Sent-At": format_time(self._now()),
            **about,
        }
        try:
            with self._pool.request(
                "POST",
                self._url,
                body=b"\n".join(events) + b"\n",
                headers=headers,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,  # a compressed answer could unfold past any bound
            ) as response:
                status, after = response.status, response.headers.get("Retry-After")
                data = response.read(MAX_ANSWER_BYTES + 1)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise Later(f"the collector does not answer ({error}).") from None
        if status == 200:
            return _results(data, events)
        if status in (400, 413):
            raise NotTaken(f"HTTP {status}")
        if status in (401, 403):
            raise Later(f"the collector refuses the token (HTTP {status}); see that it is valid.", LONGEST_WAIT)
        if status == 429 or status >= 500:
            wait = _retry_after(after)
            raise Later(f"the collector cannot take events now (HTTP {status}).", wait, hard=wait is not None)
        raise Later(f"HTTP {status} is no answer of a collector; see that the URL is right.", LONGEST_WAIT)


def _results(data: bytes, events: Sequence[bytes]) -> list[Result]:
    """The answer, if it is one answer for each event that was sent."""
    if len(data) > MAX_ANSWER_BYTES:
        raise Later(f"the collector's answer is past {MAX_ANSWER_BYTES:,} bytes; it is not read.")
    try:
        results = msgspec.json.decode(data, type=_Answer).results
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise Later("the collector's answer is not the JSON that was agreed; see that the URL is right.") from None
    ids = [msgspec.json.decode(event, type=_Id).event_id for event in events]
    if len(results) != len(ids) or any(
        result.event_id != sent and (result.event_id is not None or result.status != "refused")
        for result, sent in zip(results, ids, strict=True)
    ):
        raise Later(f"the collector's answer is not about the {len(ids)} events that were sent.")
    return results


def _retry_after(text: str | None) -> float | None:
    """Seconds to wait as RFC 9110 10.2.3 writes them, a number or a date; None where nothing sensible stands there."""
    if not text or len(text) > 64:
        return None
    try:
        return Retry(retry_after_max=LONGEST_RETRY_AFTER).parse_retry_after(text)
    except (urllib3.exceptions.HTTPError, ValueError, OverflowError):
        return None
