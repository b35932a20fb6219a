"""Pipeline health: whether recording itself went on through the period, source by source.

What is judged, and the limits, are those of check 9 (`auditlib.pipeline`). The clock is the last `sealed_at`, never the
wall's: the same trail says the same. For how it is now there is `auditlib status`.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any

import pandas as pd

from auditlib.approvals import NOT_TESTABLE
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import (
    Answer,
    Period,
    Table,
    listed,
    many,
    period_of,
    rows_of,
)
from auditlib.evidence.charts import Picture
from auditlib.evidence.coverage import coverage
from auditlib.evidence.examined import Words
from auditlib.evidence.health_charts import calendar, levels
from auditlib.evidence.health_page import health_page
from auditlib.evidence.health_tables import clock_table, clocks_by_day, hours_heard, still_spans
from auditlib.evidence.integrity import Integrity, integrity
from auditlib.evidence.observations import MAX_LANES, days_picture, events_per_day, observe
from auditlib.findings import duration
from auditlib.formats.times import SECOND, from_datetime, parse_time, to_datetime
from auditlib.pipeline import AHEAD, LATE, SILENCE
from auditlib.query import Moment
from auditlib.trail import Trail

REQUEST = "pipeline-health"
TITLE = "Health of the audit pipeline"
QUESTION = "Was the audit trail recorded without interruption, by every source, with clocks that can be relied on?"
MAX_HOURS = 100_000  # hours of the calendar that are drawn: a year of eleven sources
MAX_SAID = 20  # observations named one by one in the conclusion; all stand in the table
MAX_GAPS = 4  # gaps that the one sentence names


@over_trails
def pipeline_health(
    trail: Trail, *, since: Moment = None, until: Moment = None, through: Moment = None, tz: str = "UTC"
) -> PipelineHealth:
    """Answer how recording went in the period, by when records were recorded."""
    return PipelineHealth(trail, period_of(since, until, through, tz))


class PipelineHealth:
    """The answer; its properties are what the notebook shows, one after the other."""

    question = QUESTION

    def __init__(self, trail: Trail, period: Period) -> None:
        self.trail, self.period = trail, period
        first, last = (parse_time(text) for text in trail.recorded)
        self._since = first if period.since is None else period.since
        self._until = last + 1 if period.until is None else period.until
        self._begin, self._end = max(first, self._since), min(last, self._until)  # what the trail reaches over
        self._cases, self._records = observe(trail, trail.seals, [], self._since, self._until)

    @property
    def integrity(self) -> Integrity:
        """What was checked of the trail before anything was read from it."""
        return integrity(self.trail)

    # --- tables ------------------------------------------------------------------------------------------------------

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """Each source's records in the period: how many, first, last, and its longest silence."""
        return coverage(self.trail, self._since, self._until)

    @property
    def sources(self) -> Table | Words:
        """The same as a notebook shows it; in words where nothing was recorded."""
        if self.coverage.empty:
            return Words(["No record was recorded in the period."])
        return Table(self.coverage[["source", "events", "first", "last", "silences", "silent_from", "silent_until"]])

    @property
    def observations(self) -> pd.DataFrame:
        """Silences, lost and repeated numbers, clocks ahead, late arrivals; one row each, beside a record of it."""
        return self._cases

    @cached_property
    def still(self) -> pd.DataFrame:
        """Spans in which no source at all recorded anything, imports and the pipeline's own events aside."""
        return still_spans(self.trail, self._since, self._until)

    @cached_property
    def clocks(self) -> pd.DataFrame:
        """Each instance's clock and delay: how far its times passed the collector's, measured once a minute."""
        return clock_table(self.trail, self._since, self._until)

    @cached_property
    def day_table(self) -> pd.DataFrame:
        """Records a day of each source name in the period."""
        return events_per_day(self.trail, self.trail.seals, self._since, self._until)

    @property
    def found(self) -> Table | Words:
        """What was observed; in words where that is nothing."""
        if self._cases.empty:
            return Words(["No silence, lost number, clock ahead or late arrival was found in the period."])
        return Table(self._cases[["what", "judged", "began_at", "ended_at", "reason", "verdict"]])

    # --- pictures ----------------------------------------------------------------------------------------------------

    @property
    def _span(self) -> Any:
        return to_datetime(max(0, self._since)), to_datetime(max(self._until, self._since + SECOND))

    @cached_property
    def calendar(self) -> Picture | Words:
        """The hours in which each source recorded something, and its silences."""
        hours = hours_heard(self.trail, self._since, self._until)
        if hours.empty:
            return Words(["No record was recorded in the period."])
        if len(hours) > MAX_HOURS:
            return Words([f"{len(hours):,} hours of sources are too many to draw; ask for a shorter period."])
        names = hours["source"].value_counts().index.tolist()
        names = sorted(sorted(names)[:MAX_LANES])
        lanes = [(name, _runs(hours[hours["source"] == name])) for name in names]
        silent = self._cases[(self._cases["what"] == "silence") & self._cases["judged"].isin(names)]
        begin, end = self._span
        silences = [
            (
                names.index(case["judged"]),
                max(begin, case["began_at"]),
                end if pd.isna(case["ended_at"]) else min(end, case["ended_at"]),
            )
            for case in silent.to_dict("records")
        ]
        title = "Coverage: filled, the hours (UTC, downwards) in which a source recorded something; framed, a silence"
        return calendar(lanes, silences, span=self._span, title=title)

    @property
    def days(self) -> Picture | Words:
        """Records a day of each source, what was observed marked where it stands."""
        if self.day_table.empty:
            return Words(["No record was recorded in the period."])
        return days_picture(self.day_table, self._cases, *self._span)

    @cached_property
    def _daily(self) -> pd.DataFrame:
        return clocks_by_day(self.trail, self._since, self._until)

    @property
    def skew(self) -> Picture | Words:
        """How far each instance's clock was ahead, day by day."""
        title = "Clocks: how far an event's own time passed its arrival, the most each day and instance"
        return self._levels("ahead_seconds", AHEAD, title)

    @property
    def lateness(self) -> Picture | Words:
        """How long each instance's slowest record took, day by day."""
        title = "Delays: from when an event occurred to when it was recorded, the longest each day and instance"
        return self._levels("late_seconds", LATE, title)

    def _levels(self, column: str, limit: int, title: str) -> Picture | Words:
        if self._daily.empty:
            return Words(["No source of its own rhythm recorded anything in the period."])
        lanes = [
            (str(name), list(zip(part["day"].tolist(), part[column].tolist(), strict=True)))
            for name, part in self._daily.groupby("source", sort=True)
        ]
        return levels(lanes, limit=limit / SECOND, span=self._span, title=title)

    # --- the answer --------------------------------------------------------------------------------------------------

    @cached_property
    def exceptions(self) -> pd.DataFrame:
        """The observations that are potential exceptions."""
        kept = ~self._cases["verdict"].isin(["pass", NOT_TESTABLE])
        return self._cases[kept].reset_index(drop=True)

    @cached_property
    def headline(self) -> str:
        """The answer in one sentence."""
        if self.coverage.empty:
            return "Nothing was recorded in the period: whether the pipeline was at work then cannot be seen."
        gaps = self._gaps()
        more = len(gaps) - MAX_GAPS
        named = "; ".join([*gaps[:MAX_GAPS], *([f"{more:,} more"] if more > 0 else [])])
        text = f"No gap was detected from {_minute(to_datetime(self._begin))} to {_minute(to_datetime(self._end))} UTC"
        untested = len(self._cases) - len(self.exceptions)
        rest = f" {many(untested, 'silence')} of sources without a heartbeat could not be tested." if untested else ""
        return f"{text} except: {named}.{rest}" if gaps else f"{text}.{rest}"

    def _gaps(self) -> list[str]:
        """In words: spans without any record, silences of single sources beside them, numbers that never arrived."""
        told = [
            f"{_span(row)} no source recorded anything ({duration(row['micros'])})"
            for row in self.still.to_dict("records")
        ]
        for case in self.exceptions.to_dict("records"):
            if case["what"] == "silence" and not self._stood_still(case):
                told.append(f"{_span(case)} {case['judged']} recorded nothing ({_length(case)})")
            if case["what"] == "lost_numbers":
                numbers = many(case["events"], "number")
                told.append(f"{numbers} of {case['judged']} never arrived ({case['numbers']})")
        return told

    def _stood_still(self, case: dict[Any, Any]) -> bool:
        """Whether the silence of a source is that of all of them, to a minute on both sides."""
        if pd.isna(case["ended_at"]):
            return False
        slack = pd.Timedelta(minutes=1)
        near = (self.still["began_at"] - case["began_at"] <= slack) & (
            case["ended_at"] - self.still["ended_at"] <= slack
        )
        return bool((near & (self.still["ended_at"] > case["began_at"])).any())

    @property
    def conclusion(self) -> Words:
        """Facts in plain words."""
        return Words([self.headline, *self._conclusion()])

    def _conclusion(self) -> list[str]:
        first, last = self.trail.recorded
        told = []
        if parse_time(first) > self._since:
            told.append(f"The trail begins at {first}, after the period does: what came before is not in it.")
        if self.period.until is not None and parse_time(last) < self.period.until:
            told.append(f"The trail ends at {last}, before the period does: what came after is not in it.")
        cases = self._cases.to_dict("records")
        told += [f"{_WORDS[case['what']]}: {_told(case)}." for case in cases[:MAX_SAID]]
        if len(cases) > MAX_SAID:
            told.append(f"{len(cases) - MAX_SAID:,} more observations stand in the table.")
        told += self._said_otherwise(cases)
        return [
            *told,
            "Only what was recorded can be seen here: an event that a source never sent, and never numbered, leaves "
            "no gap.",
            "This answer claims no criterion: it supports the reliability of what other answers draw from this trail.",
        ]

    def _said_otherwise(self, cases: list[dict[Any, Any]]) -> list[str]:
        """What was looked for and not found."""
        if self.coverage.empty:
            return []
        there = {case["what"] for case in cases}
        looked = {
            "silence": f"no source was silent for more than {duration(SILENCE)}",
            "lost_numbers": "no sequence number is missing",
            "clock_ahead": f"no clock was ahead by more than {duration(AHEAD)}",
            "late_arrival": f"no record arrived more than {duration(LATE)} late",
        }
        absent = [text for what, text in looked.items() if what not in there]
        return [f"Looked for and not found: {listed(absent)}."] if absent else []

    def answer(self) -> Answer:
        """Everything a packet holds of it."""
        cases = self._cases
        pictures = {"calendar": self.calendar, "days": self.days, "lateness": self.lateness, "skew": self.skew}
        return Answer(
            request=REQUEST,
            title=TITLE,
            question=f"{self.question} Recorded: {self.period.words()}.",
            criteria=(),
            parameters={"tz": self.period.tz},
            period=self.period,
            headline=self.headline,
            conclusion=self._conclusion(),
            procedure=self._procedure(),
            limits=self._limits(),
            population={
                "actions": [],
                "events": len(set(zip(cases["source"], cases["event_id"], strict=True))),
                "integrity": self.integrity.statement(),
                "items": len(cases),
                "kind": "observation",
                "verdicts": dict(Counter(cases["verdict"])),
            },
            exceptions=len(self.exceptions),
            tables={
                "clocks": self.clocks,
                "clocks_by_day": self._daily,
                "days": self.day_table,
                "exceptions": self.exceptions,
                "observations": cases,
                "records": self._records,
                "sources": self.coverage,
                "still": self.still,
            },
            figures={name: shown.svg for name, shown in pictures.items() if isinstance(shown, Picture)},
            rows=rows_of(cases, self._records),
            page=health_page(int(self.coverage["events"].sum()), self.exceptions),
        )

    def submit(self) -> None:
        """Hand the answer to the packet builder, where one is waiting."""
        self.answer().submit()

    def _procedure(self) -> list[str]:
        return [
            "Every record that was recorded in the period was read: its batch was hashed and is the one that was "
            "sealed. What is shown is judged by when records were recorded, by the collector's clock.",
            f"A silence: no record of a source, by its name before the slash, for more than {duration(SILENCE)}. One "
            "of a source that sends no heartbeat cannot be told from quiet, and is called not testable.",
            "Numbers: each instance of a source numbers its events from 1; one that is missing was made and never "
            "arrived.",
            f"Clocks: an event whose own time is more than {duration(AHEAD)} after its arrival shows a clock that was "
            "ahead. Measured once a minute and instance, by the record that arrived soonest. A clock that is behind "
            "looks like a delay.",
            f"Delays: more than {duration(LATE)} from an event's own time to its arrival is late. Imports bring in "
            "old events by their nature, and are judged by none of these.",
        ]

    def _limits(self) -> list[str]:
        return [
            *self.integrity.limits(),
            "How the pipeline was after the checkpoint is not looked at here; auditlib status shows how it is now.",
        ]


_WORDS = {
    "silence": "Silence",
    "lost_numbers": "Lost",
    "repeated_numbers": "Repeated",
    "clock_ahead": "Clock",
    "late_arrival": "Late",
}


def _told(case: dict[Any, Any]) -> str:
    when = f"{_minute(case['began_at'])} UTC" if case["ended_at"] == case["began_at"] else _span(case)
    shown = f" ({case['event_id']})" if case["what"] == "late_arrival" and case["events"] == 1 else ""
    return f"{case['reason']}{shown}, {when}"


def _span(case: dict[Any, Any]) -> str:
    began, ended = case["began_at"], case["ended_at"]
    return f"from {_minute(began)} {'on' if pd.isna(ended) else f'to {_minute(ended)}'} UTC"


def _length(case: dict[Any, Any]) -> str:
    return duration(round(case["seconds"] * SECOND))


def _minute(moment: Any) -> str:
    return f"{to_datetime(from_datetime(moment)):%Y-%m-%d %H:%M}"


def _runs(hours: pd.DataFrame) -> list[tuple[Any, int, int]]:
    """(day, hour) in order -> runs of hours within a day."""
    runs: list[tuple[Any, int, int]] = []
    for day, hour in zip(hours["day"].tolist(), hours["hour"].tolist(), strict=True):
        if runs and runs[-1][0] == day and runs[-1][2] == hour:
            runs[-1] = (day, runs[-1][1], hour + 1)
        else:
            runs.append((day, hour, hour + 1))
    return runs
