"""A work of this page, as its person sees it: waiting, running, answered, and handed over once.

What acts (run, cancel, save) carries a word that the open page made and takes once: an address that somebody sends
to somebody shows a form, and does nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import panel as pn

from auditlib.dashboard import lanes
from auditlib.dashboard.answered import REPORT, Answered
from auditlib.dashboard.markup import pane, refusal, render
from auditlib.dashboard.pages.view import in_one_piece
from auditlib.dashboard.visit import Visit
from auditlib.dashboard.work import Work
from auditlib.errors import AuditlibError
from auditlib.packet.bag import open_bag
from auditlib.scoped import RefusedError

LOOK_MS = 400  # milliseconds between two looks at a work that runs
Record = Callable[[Work, Answered], Awaitable[None]]  # that a packet is handed over; before it is


class Running:
    """The pane below a page's own; `work` is what it shows."""

    def __init__(self, visit: Visit, page: str, gone: Callable[[], None]) -> None:
        """`page` is asked by the buttons; `gone` empties the page, where the engagement ended with the work."""
        self.pane = pane(name="work")
        self.work: Work | None = None
        self.once = ""
        self._visit, self._page, self._gone = visit, page, gone
        self._document = pn.state.curdoc
        self._looking: Any = None
        self._shown: tuple[Any, ...] = ()
        self._kept: Mapping[str, str] = {}

    def asked(self) -> str | None:
        """What the address is to do, if it carries this page's word; the word is used up, and there is a new one."""
        does, word = self._visit.arguments.get("do"), self._visit.arguments.get("once", "")
        fits = bool(self.once) and secrets.compare_digest(word.encode(), self.once.encode())
        if does is None or not fits:
            does = None
        else:
            self.once = ""
        self.once = self.once or secrets.token_urlsafe(16)
        return does

    async def act(self, does: str | None, work: Work | None, name: str, record: Record) -> dict[str, str]:
        """Cancel the work, or hand over its packet as `name`.zip once `record` has returned; what is offered then."""
        if does == "cancel" and work is not None:
            await self._visit.run(partial(self._visit.desk.works.cancel, work))
        elif does in ("save", "open") and work is not None and work.answer is not None and work.state == lanes.DONE:
            await record(work, work.answer)
            return await self._hand(work, name, does)
        return {}

    def watch(self, work: Work | None, kept: Mapping[str, str], offered: Mapping[str, str]) -> None:
        """Show this work, and how it goes on; `kept`: the fields of the address that its buttons keep."""
        self.stop()
        self.work, self._kept, self._shown = work, kept, ()
        self._tell(offered)
        if work is not None and not work.ended.is_set() and self._document is not None:
            self._looking = self._document.add_periodic_callback(self.look, LOOK_MS)

    def clear(self) -> None:
        """Show nothing, and look no more; the work goes on."""
        self.stop()
        self.pane.object, self.work = "", None

    def cancel(self) -> None:
        """End what is shown: it ends with its engagement."""
        if self.work is not None:
            self._visit.desk.works.cancel(self.work)

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None and self._document is not None:
            self._document.remove_periodic_callback(self._looking)
        self._looking = None

    def look(self) -> None:
        """Show how far the work is; called while it runs."""
        with in_one_piece(self._document):
            self._look()

    def _look(self) -> None:
        work = self.work
        if work is None:
            self.stop()
            return
        try:
            if self._visit.engagement() != work.engagement:
                raise RefusedError("Your engagement was changed meanwhile.", remedy="Run it again.")
        except AuditlibError as error:
            self.cancel()
            self.clear()
            self._gone()
            self.pane.object = refusal(error)
            return
        if work.ended.is_set():
            self.stop()
        self._tell({})

    async def _hand(self, work: Work, name: str, does: str) -> dict[str, str]:
        visit = self._visit
        desk, still = visit.desk, visit.still(work.engagement)
        held = await visit.run(partial(desk.handed.linked, work.path, ".zip"))
        if does == "save":
            return {"save": desk.handed.offer(visit.signin, held, f"{name}.zip", still=still)}
        path = desk.handed.new_path(".html")
        try:
            await visit.run(partial(_report, held, path))
        finally:
            held.unlink(missing_ok=True)
        return {"open": desk.handed.offer(visit.signin, path, "report.html", shown=True, still=still)}

    def _tell(self, offered: Mapping[str, str]) -> None:
        work = self.work
        if work is None:
            self.pane.object, self._shown = "", ()
            return
        place = self._visit.desk.works.before(work)
        state, stage, cells = work.state, work.stage, work.cells  # once: another thread moves it on
        shown = (work, state, stage, cells, place, tuple(offered.items()))
        if shown == self._shown:
            return
        self._shown = shown
        self.pane.object = render(
            "work.html",
            work=work,
            state=state,
            stage=stage,
            cells=cells,
            answer=work.answer,
            place=place,
            offered=offered,
            once=self.once,
            page=self._page,
            kept=self._kept,
        )


def _report(packet: Path, path: Path) -> None:
    with open_bag(packet) as bag:
        path.write_bytes(bag.read(REPORT))
