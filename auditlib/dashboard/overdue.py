"""Is anything overdue? The ages of a trail beside what is expected of a pipeline, in sentences.

What is expected is what `auditlib status` expects: the thresholds of its monitor.toml, or its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from auditlib.findings import duration
from auditlib.formats.seal import Seal
from auditlib.formats.times import SECOND, parse_time
from auditlib.monitor.settings import Thresholds
from auditlib.pipeline import HEARTBEAT

SLACK = 60 * SECOND  # microseconds by which two clocks may differ before one is called wrong


class Health(msgspec.Struct, frozen=True):
    """One sentence, and whether something is overdue; None where there is nothing to hold it against."""

    words: str
    overdue: bool | None


def seal_age(last_sealed_at: str, now: int, expected: Thresholds) -> Health:
    """How old the last seal is; that time is told to everybody."""
    age = now - parse_time(last_sealed_at)
    if age < -SLACK:
        return Health(
            f"The last seal is dated {duration(age)} after this server's clock: one of the two is wrong.", True
        )
    return _aged("The last seal", age, expected.seal_age, "One is expected at least every")


def heartbeat_age(seals: Sequence[Seal], now: int, expected: Thresholds) -> Health:
    """How old the last heartbeat is, by the seals' counts: it lies in the newest batch that has one."""
    for seal in reversed(seals):
        if HEARTBEAT in (seal.counts.actions or {}):
            age = now - parse_time(seal.recorded[1])
            return _aged(
                "The batch with the last heartbeat", age, expected.heartbeat_age, "One is expected at least every"
            )
    return Health(
        "No seal counts a heartbeat: that all stands still would show in the age of the last seal alone.",
        None,
    )


def _aged(what: str, age: int, most: int | None, who: str) -> Health:
    old = f"{what} is {duration(max(0, age))} old"
    if most is None:
        return Health(f"{old}.", None)
    late = age > most
    return Health(f"{old}: {'overdue' if late else 'on time'}. {who} {duration(most)}.", late)
