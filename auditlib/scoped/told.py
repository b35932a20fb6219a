"""A verification as one engagement may read it.

That a check found something wrong is told to everybody, because all evidence rests on it. What it found names batches,
sources and numbers of events: that is told where the scope limits nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from auditlib.engagements import Engagement
from auditlib.engagements.words import limits_in_words
from auditlib.findings import CHECKS, Finding, Report
from auditlib.scoped.scope import RefusedError

Standing = Literal["held", "noted", "warning", "error", "not made"]
_GRAVITY: dict[str, Standing] = {"error": "error", "warning": "warning", "info": "noted"}


class CheckTold(msgspec.Struct, frozen=True):
    """One numbered check: what it is, how it came out, and what it found where that may be read."""

    number: int
    words: str
    standing: Standing
    findings: tuple[Finding, ...]


class VerificationTold(msgspec.Struct, frozen=True):
    """A verification; `whole`: nothing of it was held back. `unchecked`: what could not be checked, in sentences."""

    ok: bool
    deep: bool
    verified_at: str
    key_confirmed: bool
    checks: tuple[CheckTold, ...]
    unchecked: tuple[str, ...]
    whole: bool


def sees_all(engagement: Engagement) -> bool:
    """Whether the scope limits nothing: no period, kinds, actions, targets or streams, and no field left out."""
    return not limits_in_words(engagement) and not engagement.redact


def check_sees_all(engagement: Engagement) -> None:
    """RefusedError where the scope limits anything: what is about the whole trail is not for it."""
    if not sees_all(engagement):
        raise RefusedError("This is about the whole trail, and your scope is not.", remedy="Ask who set your scope.")


def told(report: Report, engagement: Engagement) -> VerificationTold:
    """The report as this engagement may read it."""
    whole = sees_all(engagement)
    checks = []
    for number, words in CHECKS.items():
        found = tuple(_unplaced(finding, report.vault) for finding in report.findings if finding.check == number)
        grave = [finding.severity for finding in found]
        worst = next((severity for severity in ("error", "warning", "info") if severity in grave), None)
        standing: Standing = "held" if worst is None else _GRAVITY[worst]
        if worst is None and any(sentence.startswith(f"{number}:") for sentence in report.unchecked):
            standing = "not made"
        checks.append(CheckTold(number, words, standing, found if whole else ()))
    return VerificationTold(
        ok=report.ok,
        deep=report.deep,
        verified_at=report.verified_at,
        key_confirmed=report.key_confirmed,
        checks=tuple(checks),
        unchecked=report.unchecked if whole else (),
        whole=whole,
    )


def _unplaced(finding: Finding, vault: str) -> Finding:
    """The finding without the vault's address: a path or a bucket on the server says nothing to who reads a page."""
    where = "the vault" if finding.object == vault else finding.object.removeprefix(f"{vault}: ")
    return msgspec.structs.replace(finding, object=where, message=finding.message.replace(f"{vault}: ", ""))
