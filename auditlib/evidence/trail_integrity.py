"""Trail integrity: whether the trail can have been altered, cut or stopped without anyone noticing.

The numbered checks are made over the whole trail up to the checkpoint, by `auditlib.verify`; the period chooses what is
told of the pipeline and of probes. The clock is the last `sealed_at`, never the wall's: the same trail says the same.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any

import msgspec
import pandas as pd

from auditlib.approvals import NOT_TESTABLE
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import Answer, Period, Table, Tile, listed, many, period_of, rows_of
from auditlib.evidence.asof import LockedAsOf, as_of
from auditlib.evidence.chain import chain_picture, chain_sentences, seal_frame, standing
from auditlib.evidence.charts import Picture
from auditlib.evidence.examined import Words
from auditlib.evidence.integrity_page import integrity_page
from auditlib.evidence.observations import COLUMNS, days_picture, events_per_day, observe
from auditlib.evidence.protection import (
    PROBE,
    PROBED,
    SOUND,
    lock_frame,
    lock_kinds,
    lock_picture,
    lock_rows,
    lock_sentences,
    newest_run,
    probe_frame,
    probe_sentences,
    shadow_frame,
    shadow_sentences,
)
from auditlib.findings import CHECKS, Finding, Report, Severity, duration, sorted_findings
from auditlib.formats.times import parse_time, to_datetime
from auditlib.query import Moment
from auditlib.trail import Trail
from auditlib.verify import verify

REQUEST = "trail-integrity"
TITLE = "Integrity of the audit trail"
QUESTION = "Can this trail have been altered, cut or stopped without anyone noticing?"

MAX_SAID = 20  # faults named one by one in the conclusion; all stand in the table


@over_trails
def trail_integrity(
    trail: Trail, *, since: Moment = None, until: Moment = None, through: Moment = None, tz: str = "UTC"
) -> TrailIntegrity:
    """Make every numbered check over the trail; the period is for how recording went, and for probes."""
    return TrailIntegrity(trail, period_of(since, until, through, tz))


class TrailIntegrity:
    """The answer; its properties are what the notebook shows, one after the other."""

    question = QUESTION

    def __init__(self, trail: Trail, period: Period) -> None:
        self.trail, self.period = trail, period
        self.evidence_date = parse_time(trail.seals[-1].sealed_at)
        self._vault = as_of(trail.history)
        self._report: Report = verify(self._vault, keys=trail.history.given, deep=True, now=self.evidence_date)
        self._findings = sorted_findings([*self._report.findings, *trail.history.errors])
        bad = {f.object for f in self._findings if (f.check == 5 or (f.check, f.severity) == (6, "error"))}
        self._unread = [seal for seal in trail.seals if seal.batch.object in bad]
        self._read = [seal for seal in trail.seals if seal.batch.object not in bad]
        first, last = (parse_time(text) for text in trail.recorded)
        self._since = first if period.since is None else period.since
        self._until = last + 1 if period.until is None else period.until
        self._cases, self._records = observe(trail, self._read, self._unread, self._since, self._until)
        self._probes = probe_frame(trail, self._read, period)

    # --- the checks --------------------------------------------------------------------------------------------------

    @property
    def errors(self) -> list[Finding]:
        """The findings that say the evidence is wrong."""
        return [finding for finding in self._findings if finding.severity == "error"]

    @property
    def checks(self) -> Table:
        """The numbered checks and what came of each."""
        return Table(self.check_table)

    @cached_property
    def check_table(self) -> pd.DataFrame:
        """The numbered checks, what came of each, and how many findings it has of each gravity."""
        rows = []
        for number, says in CHECKS.items():
            counted = Counter(finding.severity for finding in self._findings if finding.check == number)
            row = {"check": number, "says": says, "outcome": self._outcome(number, counted)}
            rows.append(row | {"faults": counted["error"], "warnings": counted["warning"], "notes": counted["info"]})
        return pd.DataFrame(rows)

    def _outcome(self, number: int, counted: Counter[Severity]) -> str:
        if counted["error"]:
            return "a fault was found" if counted["error"] == 1 else "faults were found"
        if number == 7 and not isinstance(self._vault, LockedAsOf):
            return "not made: a local directory enforces no lock"
        if number in (6, 9) and self._unread:
            return f"made but for {len(self._unread)} batch(es) that are not, or not there, as they were sealed"
        if counted["warning"]:
            return "made: no fault; something to look at"
        return "made: no fault; noted for information" if counted["info"] else "made: nothing found"

    @property
    def findings(self) -> Table | Words:
        """What the checks found; in words where that is nothing."""
        shown = self.finding_table[["check", "severity", "object", "message"]]
        return Words(["The checks found nothing."]) if shown.empty else Table(shown)

    @cached_property
    def finding_table(self) -> pd.DataFrame:
        """Every finding of the checks: check, severity, object, message, expected, found."""
        rows = [msgspec.to_builtins(finding) for finding in self._findings]
        return pd.DataFrame(rows, columns=list(Finding.__struct_fields__))

    # --- the chain ---------------------------------------------------------------------------------------------------

    @cached_property
    def seals(self) -> pd.DataFrame:
        """The seals in order, each with its hash and whether a checkpoint over exactly so many is at hand."""
        return seal_frame(self.trail)

    @property
    def chain(self) -> Words:
        """The chain, its checkpoint, and on whose word it stands."""
        return Words(self._chain)

    @cached_property
    def _chain(self) -> list[str]:
        return chain_sentences(self.trail, self.seals, forked=self._faulty(1))

    @property
    def growth(self) -> Picture:
        """The size of the checkpoints over time."""
        return chain_picture(self.seals)

    # --- locks, probes, shadows --------------------------------------------------------------------------------------

    @cached_property
    def lock_table(self) -> pd.DataFrame:
        """Every object with its lock, and how long that lasts past the last seal."""
        rows = lock_rows(self.trail.history, self._vault) if isinstance(self._vault, LockedAsOf) else []
        return lock_frame(rows, self.evidence_date)

    @property
    def locks(self) -> Table | Words:
        """The locks by kind of object and mode; in words where nothing keeps locks."""
        return Words(self._locking) if self.lock_table.empty else Table(lock_kinds(self.lock_table))

    @property
    def lock_picture(self) -> Picture | Words:
        """What remains of the locks; in words where there are none."""
        picture = lock_picture(self.lock_table, self.evidence_date)
        return picture or Words(["There is no lock whose remaining time could be drawn."])

    @cached_property
    def _locking(self) -> list[str]:
        document = self.trail.history.document_of(self.trail.seals[-1])
        retention = document.retention if document else None
        return lock_sentences(self._vault, retention, self.lock_table, self.evidence_date)

    @cached_property
    def probe_table(self) -> pd.DataFrame:
        """The results of the newest run of the probe."""
        return newest_run(self._probes)

    @property
    def probes(self) -> Table | Words:
        """The newest run of the probe; in words where none is sealed."""
        return Words(self._probing) if self._probes.empty else Table(self.probe_table[PROBED[:4]])

    @cached_property
    def _probing(self) -> list[str]:
        return probe_sentences(self._probes, self.probe_table)

    @cached_property
    def shadow_table(self) -> pd.DataFrame:
        """What was put over the trail's objects."""
        return shadow_frame(self.trail.history, self._vault)

    @property
    def shadows(self) -> Table | Words:
        """Newer versions and delete markers over the trail's objects (check 8); in words where there are none."""
        return Words(self._shadowing) if self.shadow_table.empty else Table(self.shadow_table)

    @cached_property
    def _shadowing(self) -> list[str]:
        return shadow_sentences(self._vault, self.shadow_table)

    # --- the pipeline ------------------------------------------------------------------------------------------------

    @cached_property
    def observations(self) -> pd.DataFrame:
        """Silences, clocks ahead, late arrivals, lost numbers and probe results of the period, one row each."""
        rows = [
            {
                "item": f"probe-{number}",
                "verdict": "pass" if row["result"] in SOUND else "broken",
                "what": "probe",
                "judged": row["source"],
                "began_at": row["recorded_at"],
                "ended_at": row["recorded_at"],
                "events": 1,
                "seconds": 0.0,
                "numbers": "",
                "reason": f"{row['attempt']}: {row['answer']} ({row['result']})",
                **{name: row[name] for name in COLUMNS if name in row},
            }
            for number, row in enumerate(self._probes.to_dict("records"), 1)
        ]
        if not rows:
            return self._cases
        probes = pd.DataFrame(rows, columns=COLUMNS)
        return probes if self._cases.empty else pd.concat([self._cases, probes], ignore_index=True)

    @property
    def pipeline(self) -> Table | Words:
        """How recording itself went in the period (check 9); in words where nothing is to be told."""
        if self._cases.empty:
            return Words(["No silence, clock ahead, late arrival or lost number was found in the period."])
        return Table(self._cases[["what", "judged", "began_at", "ended_at", "reason", "verdict"]])

    @cached_property
    def day_table(self) -> pd.DataFrame:
        """Records a day of each source name in the period."""
        return events_per_day(self.trail, self._read, self._since, self._until)

    @property
    def days(self) -> Picture | Words:
        """Records a day of each source name, what was noted marked where it stands; in words where there are none."""
        if self.day_table.empty:
            return Words(["No record was recorded in the period."])
        return days_picture(self.day_table, self._cases, to_datetime(max(0, self._since)), to_datetime(self._until))

    # --- the answer --------------------------------------------------------------------------------------------------

    @cached_property
    def exceptions(self) -> pd.DataFrame:
        """The observations that are potential exceptions."""
        kept = ~self.observations["verdict"].isin(["pass", NOT_TESTABLE])
        return self.observations[kept].reset_index(drop=True)

    @cached_property
    def headline(self) -> str:
        """The answer in one sentence."""
        noted = Counter(self.exceptions["verdict"])
        named = listed(many(number, *_NAMED[what]) for what, number in sorted(noted.items()))
        pulse = f"{many(len(self.exceptions), 'potential exception')} in how it was recorded ({named})" if noted else ""
        if self.errors:
            text = f"{many(len(self.errors), 'fault')} found: this trail is not, in every part, as it was sealed"
            return f"{text}; {pulse}." if pulse else f"{text}."
        text = (
            f"No gap or alteration was detected in what was recorded: {many(self.trail.count, 'event')} under "
            f"{many(len(self.trail.seals), 'seal')}"
        )
        return f"{text}; {pulse}." if pulse else f"{text}."

    @property
    def conclusion(self) -> Words:
        """Facts in plain words."""
        return Words([self.headline, *self._conclusion()])

    def _conclusion(self) -> list[str]:
        return [
            *self._said_faults(),
            *self._altered(),
            *self._cut(),
            *self._stopped(),
            *(f"Prevented: {text}" for text in self._locking[:1]),
            *self._probing[:1],
            *self._shadowing,
            "What was never recorded cannot be seen here.",
            "This answer claims no criterion: it supports the reliability of what other answers draw from this trail.",
        ]

    def _said_faults(self) -> list[str]:
        told = [f"Check {f.check}, {f.object}: {f.message}" for f in self.errors[:MAX_SAID]]
        return [*told, f"{len(self.errors) - MAX_SAID:,} more."] if len(self.errors) > MAX_SAID else told

    def _altered(self) -> list[str]:
        if self._unread:
            events = many(sum(seal.batch.events for seal in self._unread), "event")
            changed = "Altered: {} are not, or not there, as they were sealed, and are left out of what follows."
            expired = "Expired: {} were deleted after their locks had ended, and are left out of what follows."
            told = changed if self._faulty(5, 6) else expired
            return [told.format(f"the batches of {many(len(self._unread), 'seal')} ({events} by their seals)")]
        if self._faulty(0, 1, 2, 3, 4, 6):
            return []
        return [
            f"Altered: each of {many(self.trail.count, 'event')} was read and leads to the hash in its seal, each seal "
            "carries the hash of the one before, and all of them lead to the signed checkpoint."
        ]

    def _cut(self) -> list[str]:
        signers = listed(f"{key.name}, {standing(self.trail, key)}" for key in self.trail.checkpoint.signers)
        return [
            f"Cut: the checkpoint over {many(self.trail.checkpoint.size, 'seal')} is signed by {signers}. A cut of the "
            "newest seals, or a rewriting by who holds the key, shows only beside a checkpoint kept elsewhere: "
            "auditlib verify VAULT --against PACKET compares it with that of an earlier packet."
        ]

    def _stopped(self) -> list[str]:
        first, last = self.trail.recorded
        told = []
        if self.day_table.empty:
            told.append(f"Nothing was recorded in the period; the trail runs from {first} to {last}.")
        elif parse_time(first) > self._since:
            told.append(f"The trail begins at {first}, after the period does: what came before is not in it.")
        if self.period.until is not None and parse_time(last) < self.period.until and not self.day_table.empty:
            told.append(f"The trail ends at {last}, before the period does: what came after is not in it.")
        told += [
            f"{'Stopped' if case['what'] == 'silence' else 'Recorded'}: {self._told(case)}."
            for case in self._cases.to_dict("records")
        ]
        if self._cases.empty and not self.day_table.empty:
            told.append("Stopped: no silence, clock ahead, late arrival or lost number was found in the period.")
        age = duration(self.evidence_date - parse_time(last))
        return [*told[:MAX_SAID], f"The last record was recorded at {last} and sealed {age} later."]

    def _told(self, case: dict[Any, Any]) -> str:
        ended = case["ended_at"]
        when = f"{case['began_at']:%Y-%m-%d %H:%M}"
        if not pd.isna(ended) and ended != case["began_at"]:
            when = f"from {when} to {ended:%Y-%m-%d %H:%M}"
        shown = f" ({case['event_id']})" if case["what"] == "late_arrival" and case["events"] == 1 else ""
        return f"{case['reason']}{shown}, {when} UTC"

    def answer(self) -> Answer:
        """Everything a packet holds of it."""
        observed = self.observations
        pictures = {"chain": self.growth, "days": self.days, "locks": self.lock_picture}
        return Answer(
            request=REQUEST,
            title=TITLE,
            question=f"{self.question} Pipeline and probes: {self.period.words()}.",
            criteria=(),
            parameters={"tz": self.period.tz},
            period=self.period,
            headline=self.headline,
            conclusion=self._conclusion(),
            procedure=self._procedure(),
            limits=self._limits(),
            population={
                "actions": [PROBE],
                "events": len(set(zip(observed["source"], observed["event_id"], strict=True))),
                "faults": len(self.errors),
                "integrity": self._statement(),
                "items": len(observed),
                "kind": "observation",
                "verdicts": dict(Counter(observed["verdict"])),
            },
            exceptions=len(self.exceptions),
            tables={
                "checks": self.check_table,
                "days": self.day_table,
                "exceptions": self.exceptions,
                "findings": self.finding_table,
                "lock_kinds": lock_kinds(self.lock_table),
                "locks": self.lock_table,
                "observations": observed,
                "probes": self.probe_table,
                "records": self._records,
                "seals": self.seals,
                "shadows": self.shadow_table,
            },
            figures={name: shown.svg for name, shown in pictures.items() if isinstance(shown, Picture)},
            rows=rows_of(observed, self._records),
            every_seal=True,
            page=integrity_page(self._tiles(), self._said, faulty=bool(self.errors)),
        )

    def submit(self) -> None:
        """Hand the answer to the packet builder, where one is waiting."""
        self.answer().submit()

    def _statement(self) -> dict[str, Any]:
        """What was checked, in the form every packet states it."""
        checks = {
            str(row["check"]): {"check": row["says"], "done": row["outcome"]}
            for row in self.check_table.to_dict("records")
        }
        return {"checks": checks, "events": self.trail.count, "last_sealed_at": self.trail.seals[-1].sealed_at}

    def _procedure(self) -> list[str]:
        return [
            "Every numbered check was made over the whole trail up to the checkpoint: every seal, every batch, every "
            "record. The clock of the checks is the last sealed_at, so that the same trail says the same.",
            "From the records of the period, by when they were recorded: silences, clocks ahead, late arrivals and "
            "numbers that never arrived; each stands beside the records that show it, with their proof.",
            "A silence of a source that sends no heartbeat cannot be told from quiet, and is called not testable.",
        ]

    def _limits(self) -> list[str]:
        unchecked = [text[0].upper() + text[1:] + "." for text in self._report.unchecked]
        return [
            *unchecked,
            "What was put into the vault after the checkpoint is not looked at here; auditlib verify reports it.",
            "What the storage says of locks and versions is its own word when this was built: a lock lengthened later, "
            "or an object shadowed later, gives other evidence.",
            "The verifier key must reach you by another way than this packet; what comes inside proves nothing alone.",
        ]

    def _tiles(self) -> list[Tile]:
        read = self.trail.count - sum(seal.batch.events for seal in self._unread)
        return [
            Tile(len(self.trail.seals), "seals in the chain"),
            Tile(read, "events read and hashed"),
            Tile(len(self.errors), "faults in the checks", bool(self.errors)),
            Tile(len(self.exceptions), "potential exceptions in how it was recorded", not self.exceptions.empty),
            Tile(len(self.shadow_table), "objects shadowed", not self.shadow_table.empty),
        ]

    @property
    def _said(self) -> dict[str, list[str]]:
        """The sentences of each section of the report."""
        return {"chain": self._chain, "locks": self._locking, "probes": self._probing, "shadows": self._shadowing}

    def _faulty(self, *checks: int) -> bool:
        return any(finding.check in checks for finding in self.errors)


_NAMED = {  # verdict -> one, several
    "silence": ("silence", "silences"),
    "clock_ahead": ("clock ahead", "clocks ahead"),
    "late_arrival": ("source with late arrivals", "sources with late arrivals"),
    "lost_numbers": ("run of lost numbers", "runs of lost numbers"),
    "repeated_numbers": ("source with repeated numbers", "sources with repeated numbers"),
    "broken": ("attempt that broke the lock", "attempts that broke the lock"),
}
