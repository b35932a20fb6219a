"""Where imported events go: straight into the sealer, or to the collector (see `imports.Intake`)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from auditlib.announce import own_record
from auditlib.client.exchange import Collector, Later, NotTaken, Result
from auditlib.errors import MalformedError, MismatchError, UnavailableError
from auditlib.formats.event import Actor, Event, Receipt, Record, Target, event_bytes
from auditlib.formats.keys import VerifierKey
from auditlib.formats.times import format_time
from auditlib.imports import Imported
from auditlib.sealer import Added, Sealer

IMPORT_SOURCE = "auditlib:import"  # the source of audit.import events that were sealed directly
MAX_SENT, MAX_SENT_BYTES = 500, 3 * 1024 * 1024  # events and bytes of one request; a collector takes 1,000 and 4 MiB
ATTEMPTS, FIRST_WAIT = 5, 0.5  # requests tried, and seconds before the second; then twice as long each time


class Direct:
    """Straight into the sealer, by whoever holds its key and its lease."""

    def __init__(self, sealer: Sealer, key: VerifierKey, now: Callable[[], int]) -> None:
        self._sealer, self._key, self._now = sealer, key, now

    @property
    def seals(self) -> int:
        """How many seals the trail has."""
        return self._sealer.size

    def take(self, items: Sequence[tuple[str, Event]]) -> tuple[Added, list[tuple[int, str]]]:
        """See Intake.take."""
        records: list[Record] = []
        refused: list[tuple[int, str]] = []
        for place, (source, event) in enumerate(items):
            try:
                self._sealer.catalog.check(event)
            except MalformedError as error:
                refused.append((place, str(error)))
                continue
            records.append(Record(event, Receipt(format_time(self._now()), source, None)))
        return self._sealer.add(records), refused

    def finish(self, outcome: Imported, context: dict[str, Any], who: str) -> None:
        """Seal what waits, and with it whose key signed."""
        if outcome.added.new or outcome.added.conflicts:
            actor, target = Actor(who, None, "user"), Target(self._key.name, "trail")
            context = {**context, "key": str(self._key)}
            record = own_record("audit.import", actor, target, context, self._now(), source=IMPORT_SOURCE)
            self._sealer.flush(closing=record)


class ThroughCollector:
    """To the collector, with the token of a source like `import:cloudtrail`: no signing key is needed here."""

    seals = None  # not known here

    def __init__(self, collector: Collector, log_format: str, now: Callable[[], int]) -> None:
        self._collector, self._source, self._now = collector, f"import:{log_format}", now

    def take(self, items: Sequence[tuple[str, Event]]) -> tuple[Added, list[tuple[int, str]]]:
        """See Intake.take. UnavailableError where the collector takes nothing; sending it all again is safe."""
        counted: Counter[str] = Counter()
        refused: list[tuple[int, str]] = []
        for account, places in self._by_account(items).items():
            for chosen in _batches(places, items):
                results = self._send([items[place][1] for place in chosen], account)
                counted.update(result.status for result in results)
                refused += [
                    (place, f"the collector refused it: {result.reason}")
                    for place, result in zip(chosen, results, strict=True)
                    if result.status == "refused"
                ]
        return Added(counted["recorded"], counted["repeated"], counted["conflict"]), sorted(refused)

    def finish(self, outcome: Imported, context: dict[str, Any], who: str) -> None:
        """Send what tells of the import; the collector's receipt says which source it came from."""
        if outcome.added.new or outcome.added.conflicts:
            actor, target = Actor(who, None, "user"), Target(self._source, "source")
            record = own_record("audit.import", actor, target, context, self._now())
            (result,) = self._send([record.event], "")
            if result.status != "recorded":
                raise MismatchError("the record of the import was not taken.", found=f"{result.status} {result.reason}")

    def _by_account(self, items: Sequence[tuple[str, Event]]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for place, (source, _) in enumerate(items):
            found.setdefault(source.removeprefix(self._source).removeprefix(":"), []).append(place)
        return found

    def _send(self, events: Sequence[Event], account: str) -> list[Result]:
        bodies, about = list(map(event_bytes, events)), {"Audit-Account": account} if account else {}
        wait = FIRST_WAIT
        for attempt in range(ATTEMPTS):
            try:
                return self._collector.deliver(bodies, about)
            except NotTaken as error:
                raise MalformedError(
                    f"the collector takes no such request ({error}).",
                    remedy=f"Its token must be of the source {self._source}.",
                ) from None
            except Later as error:
                if attempt == ATTEMPTS - 1:
                    raise UnavailableError(
                        self._collector.plain(error.message), remedy="Import again: nothing is taken twice."
                    ) from None
                time.sleep(error.wait or wait)
                wait *= 2
        raise AssertionError("unreachable")


def _batches(places: Sequence[int], items: Sequence[tuple[str, Event]]) -> Iterator[list[int]]:
    """Runs that one request takes, by number and by bytes."""
    chosen: list[int] = []
    size = 0
    for place in places:
        length = len(event_bytes(items[place][1])) + 1
        if chosen and (len(chosen) == MAX_SENT or size + length > MAX_SENT_BYTES):
            yield chosen
            chosen, size = [], 0
        chosen.append(place)
        size += length
    if chosen:
        yield chosen
