"""Integrity: what was checked of the trail, what was found, and what was not checked.

Errors come first. What names, counts or dates what a narrower scope does not see (the chain's seals, locks, shadows,
probes, the pipeline) is shown where the scope limits nothing, part by part: one that fails
takes no other along.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from auditlib.dashboard.markup import pane, render
from auditlib.dashboard.observed import STRIP
from auditlib.dashboard.probed import RUNS, probes_of
from auditlib.dashboard.visit import Visit
from auditlib.dashboard.whole import Whole
from auditlib.errors import MismatchError, UnavailableError
from auditlib.findings import duration
from auditlib.scoped.told import CheckTold, VerificationTold, sees_all, told

MAX_FINDINGS = 200  # shown of one check
SIGNS = {"held": "✓", "noted": "i", "warning": "!", "error": "✗", "not made": "–"}
CLASSES = {"held": "good", "noted": "", "warning": "warn", "error": "bad", "not made": ""}
APART = (7, 8, 9)  # checks whose findings stand in sections of their own
_T = TypeVar("_T")


class Integrity:
    """The page: what was found, then the chain and its locks, then the pipeline."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._checks, self._chain, self._pipeline = pane(), pane(), pane()
        self.panes = [self._checks, self._chain, self._pipeline]

    async def show(self) -> None:
        """See View."""
        visit = self._visit
        engagement, trail, vault = visit.engagement(), visit.trail(), visit.vault()
        standing = trail.standing()
        verified = told(visit.desk.vaults.report(vault), engagement)
        seen = (visit.identity, visit.signin, engagement, vault, "page", "integrity")
        await visit.run(lambda: visit.desk.recorder.viewed(*seen))
        reading = visit.desk.vaults.reading(vault)
        shared = {"verified": verified, "most": MAX_FINDINGS, "signs": SIGNS, "classes": CLASSES, "reading": reading}
        self._checks.object = render(
            "integrity.html",
            trouble=visit.desk.vaults.trouble(vault),
            sentence=sentence(verified),
            wrong=wrong(verified),
            apart=APART,
            standing=standing,
            **shared,
        )
        if not sees_all(engagement):
            self._chain.object = self._pipeline.object = ""
            return
        whole = Whole(visit)
        chain, checkpoints, locks = await visit.run(
            lambda: (part(whole.chain), part(whole.checkpoints), part(whole.locks))
        )
        probes = await visit.run(lambda: part(lambda: probes_of(trail)))
        whole.check()
        self._chain.object = render(
            "integrity_chain.html",
            standing=standing,
            chain=chain,
            checkpoints=checkpoints,
            locks=locks,
            probes=probes,
            runs=RUNS,
            duration=duration,
            event=lambda one: visit.link("event", id=one.event_id, source=one.source),
            **shared,
        )
        await self._show_pipeline(whole, shared)

    async def _show_pipeline(self, whole: Whole, shared: dict[str, Any]) -> None:
        """It reads every record, once for each checkpoint; meanwhile nobody who waits for it holds a thread."""
        made, visit = whole.observed(), self._visit
        if made is not None and not made.done():
            self._pipeline.object = render("integrity_pipeline.html", part=None, **shared)
            await asyncio.gather(asyncio.shield(asyncio.wrap_future(made)), return_exceptions=True)
        shown = None if made is None else part(made.result)
        whole.check()
        self._pipeline.object = render(
            "integrity_pipeline.html",
            part=shown,
            strip=STRIP,
            event=lambda one: visit.link("event", id=one.event_id, source=one.source),
            **shared,
        )

    def clear(self) -> None:
        """See View."""
        self._checks.object = self._chain.object = self._pipeline.object = ""


def part(make: Callable[[], _T]) -> dict[str, Any]:
    """What is told, or in words why it cannot be: RefusedError alone goes on up, and with it the page."""
    try:
        return {"told": make(), "trouble": ""}
    except (UnavailableError, MismatchError) as error:
        remedy = f" {error.remedy}" if error.remedy else ""
        return {"told": None, "trouble": f"{error.message}{remedy}"}


def wrong(verified: VerificationTold) -> list[tuple[CheckTold, Sequence[Any]]]:
    """The checks that found an error, with those findings alone."""
    return [
        (check, [finding for finding in check.findings if finding.severity == "error"])
        for check in verified.checks
        if check.standing == "error"
    ]


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
