"""What a retention lock commits to, said before it is chosen: until when, about how much it costs, what stays inside.

Whatever is sealed today cannot be deleted or changed by anybody before 2033-11-23 ...
1,000,000 events a day: about 22 GB a year, 152 GB once 7.0 years are kept, about 42 USD a year then ...
"""

from __future__ import annotations

from collections.abc import Iterator

from auditlib.formats.document import Retention
from auditlib.formats.times import DAY, format_time

BYTES_PER_EVENT = 60  # bytes; 46 measured for batches of 50,000 (benchmarks/sizes.py), more in small ones
USD_PER_GB_MONTH = 0.023  # AWS S3 Standard, us-east-1, 2026
USD_PER_1000_PUTS = 0.005  # AWS S3 Standard, us-east-1, 2026
_BATCHES_PER_DAY = 288  # one each five minutes
_PUTS_PER_BATCH = 3  # batch, seal, checkpoint


def outlook(retention: Retention, events_per_day: int, now: int) -> Iterator[str]:
    """Sentences for the person who decides; `now` is microseconds since 1970 UTC."""
    last = format_time(now + retention.days * DAY)[:10]
    if retention.mode == "COMPLIANCE":
        yield (
            f"COMPLIANCE: whatever is sealed today cannot be deleted, changed or unlocked by anybody before {last}: "
            "not by you, not by the root account, not by the storage's vendor on your request. "
            "The bucket cannot be deleted either while it holds such an object."
        )
    else:
        yield (
            f"GOVERNANCE: whatever is sealed today is locked until {last}, BUT whoever holds "
            "s3:BypassGovernanceRetention can delete it before. An auditor will ask who does."
        )
    yearly = events_per_day * 365.25 * BYTES_PER_EVENT / 1e9  # gigabytes
    kept = yearly * retention.days / 365.25
    puts = _BATCHES_PER_DAY * 365.25 * _PUTS_PER_BATCH / 1000 * USD_PER_1000_PUTS
    yield (
        f"{events_per_day:,} events a day: about {yearly:,.3g} GB a year, {kept:,.3g} GB once {retention.days:,} days "
        f"are kept, then about {kept * 12 * USD_PER_GB_MONTH + puts:,.0f} USD a year "
        f"(at {USD_PER_GB_MONTH} USD per GB and month and a batch each five minutes; your prices differ)."
    )
    yield (
        "Personal data in an event stays as long as the lock: nobody can erase it, whoever asks. Record ids, not "
        "names; keep what a person may have erased in a system of its own."
    )
