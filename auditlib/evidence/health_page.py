"""How the report shows the health of the pipeline: tiles, sections, their tables and pictures."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from auditlib.evidence.answer import Column, Page, Section, Tile


def health_page(records: int, exceptions: pd.DataFrame) -> Page:
    """The page; `exceptions` are the observations that are potential exceptions."""
    counted = Counter(exceptions["what"])
    lost = int(exceptions.loc[exceptions["what"] == "lost_numbers", "events"].sum())
    tiles = [
        Tile(records, "records in the period"),
        Tile(counted["silence"], "silences of sources", bool(counted["silence"])),
        Tile(lost, "numbers that never arrived", bool(lost)),
        Tile(counted["clock_ahead"], "clocks ahead", bool(counted["clock_ahead"])),
        Tile(counted["late_arrival"], "sources with late arrivals", bool(counted["late_arrival"])),
    ]
    nothing = "No silence, lost number, clock ahead or late arrival was found in the period."
    return Page(
        tiles,
        [
            Section(title="Coverage", figure="calendar", table="sources", columns=_COVERAGE, empty="No record."),
            Section(title="What was observed", figure="days", table="observations", columns=_OBSERVED, empty=nothing),
            Section(title="Clocks", figure="skew", table="clocks", columns=_CLOCK, empty="No source to measure."),
            Section(title="Delays", figure="lateness"),
        ],
    )


_COVERAGE = [
    Column("source", "Source"),
    Column("events", "Records", "number"),
    Column("first", "First (UTC)", "time"),
    Column("last", "Last (UTC)", "time"),
    Column("silences", "Silences", "number"),
    Column("silent_from", "Longest: from (UTC)", "time"),
    Column("silent_until", "Until (UTC)", "time"),
]
_OBSERVED = [
    Column("verdict", "Verdict", "verdict"),
    Column("judged", "Source"),
    Column("began_at", "From (UTC)", "time"),
    Column("ended_at", "Until (UTC)", "time"),
    Column("reason", "What was observed", "wide"),
    Column("event_id", "Event that shows it", "code"),
]
_CLOCK = [
    Column("source", "Instance"),
    Column("events", "Records", "number"),
    Column("ahead_median_seconds", "Ahead, median (s)", "number"),
    Column("ahead_p99_seconds", "99th percentile (s)", "number"),
    Column("ahead_most_seconds", "Most (s)", "number"),
    Column("late_most_seconds", "Longest delay (s)", "number"),
]
