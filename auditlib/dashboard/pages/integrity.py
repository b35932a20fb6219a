"""Integrity: what was checked of the trail, what was found, and what was not checked."""

from __future__ import annotations

from collections.abc import Sequence

from auditlib.dashboard.markup import pane, render
from auditlib.dashboard.visit import Visit
from auditlib.scoped.told import CheckTold, VerificationTold, told

MAX_FINDINGS = 200  # shown of one check
SIGNS = {"held": "✓", "noted": "i", "warning": "!", "error": "✗", "not made": "–"}
CLASSES = {"held": "good", "noted": "", "warning": "warn", "error": "bad", "not made": ""}


class Integrity:
    """The page."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._checks = pane()
        self.panes = [self._checks]

    async def show(self) -> None:
        """See View."""
        visit = self._visit
        engagement, trail, vault = visit.engagement(), visit.trail(), visit.vault()
        standing = trail.standing()
        verified = told(visit.desk.vaults.report(vault), engagement)
        seen = (visit.identity, visit.signin, engagement, vault, "page", "integrity")
        await visit.run(lambda: visit.desk.recorder.viewed(*seen))
        self._checks.object = render(
            "integrity.html",
            sentence=sentence(verified),
            verified=verified,
            standing=standing,
            reading=visit.desk.vaults.reading(vault),
            most=MAX_FINDINGS,
            signs=SIGNS,
            classes=CLASSES,
        )

    def clear(self) -> None:
        """See View."""
        self._checks.object = ""


def sentence(verified: VerificationTold) -> str:
    """The answer to "is the trail sound", in one sentence of facts."""
    errors = [check for check in verified.checks if check.standing == "error"]
    if errors:
        return f"Something is wrong with this trail: {_checks(errors)} found an error that must be explained."
    warned = [check for check in verified.checks if check.standing == "warning"]
    read = "every record was read" if verified.deep else "the records themselves were not read yet"
    if warned:
        return f"No alteration was found, and {read}; {_checks(warned)} noted something to look at."
    return f"No alteration was found, and {read}."


def _checks(checks: Sequence[CheckTold]) -> str:
    numbers = ", ".join(str(check.number) for check in checks)
    return f"check {numbers}" if len(checks) == 1 else f"checks {numbers}"
