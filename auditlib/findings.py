"""What verification says: the numbered checks, findings, and the report (DESIGN 5)."""

from __future__ import annotations

from html import escape
from typing import Any, Literal

import msgspec

from auditlib.formats.checkpoint import Checkpoint
from auditlib.formats.times import SECOND, format_time, parse_time

CHECKS = {
    0: "the checkpoint is signed by a trusted key",
    1: "it is consistent with every earlier checkpoint at hand",
    2: "the seals are contiguous, none missing, of this origin and format",
    3: "each seal carries the hash of the one before",
    4: "the seals lead to the checkpoint's root; trail documents and catalogues are those named",
    5: "every batch is there, with the size and SHA-256 its seal states",
    6: "every record is canonical and valid, and the batch is what its seal says",
    7: "every object is under its retention lock",
    8: "nothing shadows an object",
    9: "the pipeline itself: silences, clock skew, gaps in source sequences, late arrivals",
}
NO_ANCHOR = "no outside anchor: a cut tail, or a rewriting by the key holder, would not show"

Severity = Literal["error", "warning", "info"]


class Finding(msgspec.Struct, frozen=True):
    """One fault or observation: its check's number, how grave, where, a sentence, and both values."""

    check: int
    severity: Severity
    object: str
    message: str
    expected: str = ""
    found: str = ""


class Stretch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Batches whose records were last read at the same time: numbers of the first and of the last."""

    first: int
    last: int
    checked_at: str


MAX_SHOWN = 200  # findings that a notebook shows


class Report(msgspec.Struct, frozen=True):
    """The outcome of a verification; `ok` is false when any finding is an error."""

    vault: str
    origin: str
    events: int
    seals: int
    checkpoint: Checkpoint | None
    key_confirmed: bool
    last_sealed_at: str | None
    verified_at: str
    deep: bool
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]
    checked: tuple[Stretch, ...] = ()  # which records were read when; none before the first deep verification

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that say the evidence is wrong."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def age_seconds(self) -> int | None:
        """Seconds from the last seal to this verification."""
        if self.last_sealed_at is None:
            return None
        return (parse_time(self.verified_at) - parse_time(self.last_sealed_at)) // SECOND

    def _repr_html_(self) -> str:
        said = (
            "No fault was found in what was checked."
            if self.ok
            else f"{len(self.errors):,} fault{'s were' if len(self.errors) > 1 else ' was'} found."
        )
        told = f"{self.origin}: {self.events:,} events under {self.seals:,} seals, last sealed {self.last_sealed_at}."
        rows = "".join(
            f"<tr><td>{finding.check}</td><td>{finding.severity}</td>"
            f"<td>{escape(finding.object)}</td><td>{escape(finding.message)}</td></tr>"
            for finding in self.findings[:MAX_SHOWN]
        )
        more = f"<p>The first {MAX_SHOWN:,} of {len(self.findings):,}.</p>" if len(self.findings) > MAX_SHOWN else ""
        head = "<tr><th>check</th><th></th><th>where</th><th>what</th></tr>"
        table = f"{more}<table style='text-align:left'>{head}{rows}</table>" if rows else ""
        rest = "".join(f"<li>{escape(text)}</li>" for text in self.unchecked)
        return f"<p><strong>{said}</strong> {escape(told)}</p>{table}" + f"<p>Not checked:</p><ul>{rest}</ul>" * bool(
            rest
        )

    def as_json(self) -> dict[str, Any]:
        """The stable keys of `auditlib verify --json` (DESIGN 7)."""
        checkpoint = self.checkpoint
        return {
            "ok": self.ok,
            "vault": self.vault,
            "origin": self.origin,
            "events": self.events,
            "seals": self.seals,
            "checkpoint": checkpoint
            and {
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "key": str(checkpoint.signers[0]) if checkpoint.signers else None,
                "key_confirmed": self.key_confirmed,
            },
            "last_sealed_at": self.last_sealed_at,
            "age_seconds": self.age_seconds,
            "deep": self.deep,
            "findings": [msgspec.to_builtins(finding) for finding in self.findings],
            "unchecked": list(self.unchecked),
            "checked": [msgspec.to_builtins(stretch) for stretch in self.checked],
        }


def sorted_findings(findings: list[Finding]) -> tuple[Finding, ...]:
    """By check, then gravity, then object."""
    order = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(set(findings), key=lambda f: (f.check, order[f.severity], f.object, f.message)))


def duration(micros: int) -> str:
    """A length of time in words: `9 h 12 min`, `140 s`, `3 d 4 h`."""
    if abs(micros) < SECOND:
        return "less than 1 s"
    seconds = (abs(micros) + SECOND // 2) // SECOND
    if seconds < 180:
        return f"{seconds} s"
    if seconds < 3 * 3600:
        return f"{seconds // 60} min"
    if seconds < 72 * 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"


def moment(micros: int) -> str:
    """A time to the second, for messages."""
    return format_time(micros - micros % SECOND)
