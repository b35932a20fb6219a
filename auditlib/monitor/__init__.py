"""The watch on the pipeline: is it recording and sealing, now and over the last days?

    settings = read_settings(Path("monitor.toml"))
    found = take_status(open_vault("vault"), settings=settings, since=now - 7 * DAY, now=now, store=store)
    found.ok, found.alarms

    settings.py      what is expected: monitor.toml
    hearing.py       what the records of the newest batches show of their sources
    waiting.py       what waits in the store
    clocks.py        how far clocks are off
    retained.py      when the first retention ends
    status.py        a status is taken
    judging.py       its figures, each held against its threshold
    report.py        what comes out
    openmetrics.py   the same for Prometheus

What the chain says is read whole and believed no more than `history` has checked; of the batches only those of the
period are read, each hashed first, and the last one of a source that stopped before. It is about now, so it uses the
real clock; evidence does not.
"""

from auditlib.monitor.report import JUDGED, Alarm, Status
from auditlib.monitor.settings import Settings, parse_length, parse_settings, read_settings
from auditlib.monitor.status import take_status

__all__ = [
    "JUDGED",
    "Alarm",
    "Settings",
    "Status",
    "parse_length",
    "parse_settings",
    "read_settings",
    "take_status",
]
