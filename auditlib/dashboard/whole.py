"""What is about a whole trail and not about events: its chain, locks and pipeline, told where the scope limits nothing.

All of it counts or dates what lies outside a narrower scope, so there is one way to it, and on that way the question
is asked each time: does the engagement hold now, and does it see all?
"""

from __future__ import annotations

from concurrent.futures import Future

from auditlib.dashboard.chain import Chain, Signed, chain_of, checkpoints_of
from auditlib.dashboard.locked import Locks, locks_of
from auditlib.dashboard.observed import Observed, Once
from auditlib.dashboard.overdue import Health, heartbeat_age
from auditlib.dashboard.visit import Visit
from auditlib.findings import Report
from auditlib.scoped.told import check_sees_all
from auditlib.trail import Trail

_observed = Once()  # for all pages of this server


class Whole:
    """The trail of a visit, past its events. Each method raises RefusedError where the scope sees less than all."""

    def __init__(self, visit: Visit) -> None:
        """Where it is the page's vault that is asked about: the trail and report stay those of this moment."""
        self._visit = visit
        self.check()
        name, self._trail = visit.desk.vaults.find(visit.engagement(), visit.arguments.get("vault"))
        self._report = visit.desk.vaults.report(name)

    def check(self) -> None:
        """RefusedError where the engagement does not hold any more, or sees less than all."""
        check_sees_all(self._visit.engagement())

    def chain(self) -> Chain:
        """The chain, with what the checks found marked in it."""
        return chain_of(self._of().history, self._report.findings)

    def checkpoints(self) -> tuple[Signed, ...]:
        """The newest checkpoints; reads them."""
        trail = self._of()
        return checkpoints_of(trail.history, trail.checkpoint.size)

    def locks(self) -> Locks:
        """The locks; asks the storage. UnavailableError where it does not answer."""
        return locks_of(self._of().history, self._visit.desk.now())

    def heartbeat(self) -> Health:
        """How old the last heartbeat is."""
        desk = self._visit.desk
        return heartbeat_age(self._of().seals, desk.now(), desk.settings.thresholds)

    def observed(self) -> Future[Observed] | None:
        """What the records say of the pipeline, under way in the pool; None until every record was verified."""
        trail, report = self._of(), self._report
        return _observed.ask(self._visit.desk.pool, trail, report.findings) if report.deep else None

    def _of(self) -> Trail:
        self.check()
        return self._trail

    @property
    def report(self) -> Report:
        """What the checks found."""
        self.check()
        return self._report
