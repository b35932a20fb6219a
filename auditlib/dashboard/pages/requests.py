"""Requests: the auditor's request list. Ask one, follow it, read the answer, take the packet away.

What acts (run, cancel, save) carries a word that this open page made and takes once: an address that somebody sends
to somebody shows a form, and does nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import panel as pn
from markupsafe import Markup

from auditlib.dashboard import asked, lanes
from auditlib.dashboard.answered import REPORT
from auditlib.dashboard.markup import pane, refusal, render
from auditlib.dashboard.pages.view import in_one_piece
from auditlib.dashboard.visit import Visit
from auditlib.dashboard.work import Work
from auditlib.engagements import Engagement
from auditlib.engagements.words import limits_in_words
from auditlib.errors import AuditlibError
from auditlib.formats.times import SECOND
from auditlib.packet.bag import open_bag
from auditlib.requests.model import Request, RequestList
from auditlib.requests.standing import Standing, standings
from auditlib.scoped import RefusedError

LOOK_MS = 400  # milliseconds between two looks at a work that runs
PARAMETER = "p."  # before the name of a parameter in the address
_NO_LIST = "This server was given no request list (--requests FILE)."


class Entry(msgspec.Struct, frozen=True):
    """One line of the list."""

    request: Request
    href: str
    stands: str
    aged: bool  # what stands may not be what is asked today
    due: str
    here: str  # the state of this person's own work


class Requests:
    """The page: the list or one request with its form, and below it what became of it."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._top, self._below = pane(name="request"), pane(name="work")
        self.panes = [self._top, self._below]
        self._document = pn.state.curdoc
        self._looking: Any = None
        self._shown: tuple[Any, ...] = ()
        self._work: Work | None = None
        self._once = ""

    async def show(self) -> None:
        """See View."""
        visit = self._visit
        self._look_no_more()
        try:
            engagement, vault, _ = visit.engagement(), visit.vault(), visit.trail()
        except AuditlibError:
            if self._work is not None:
                visit.desk.works.cancel(self._work)  # it ends with the engagement
            raise
        listed = visit.desk.works.listed
        if listed is None:
            self._top.object, self._below.object = render("requests.html", entries=[], told=_NO_LIST), ""
            return
        request_id = visit.arguments.get("id")
        if request_id is None:
            entries = await visit.run(partial(self._entries, listed, engagement, vault))
            told = "" if entries else "Your engagement names no request of this vault's list."
            self._top.object, self._below.object = render("requests.html", entries=entries, told=told), ""
            return
        request = asked.find(listed, engagement, vault, request_id)
        typed = {
            name.removeprefix(PARAMETER): text for name, text in visit.arguments.items() if name.startswith(PARAMETER)
        }
        trouble, offered = "", None
        try:
            offered = await self._act(listed, request, engagement, vault, typed)
        except AuditlibError as error:
            trouble = Markup(refusal(error))  # noqa: S704 - of a template of this library, which escaped what is in it
        self._once = secrets.token_urlsafe(16)
        fields = await visit.run(partial(asked.fields, request, listed.folder, engagement, typed))
        stands = await visit.run(partial(self._stands, listed, request, engagement, vault))
        self._top.object = render(
            "requests_one.html",
            request=request,
            fields=fields,
            stands=stands,
            once=self._once,
            trouble=trouble,
            kept=_kept(visit),
            prefix=PARAMETER,
            back=visit.link("requests"),
            limits=list(limits_in_words(engagement).values()),
            redact=engagement.redact,
            set_by=engagement.set_by,
        )
        self._work = visit.desk.works.latest(visit.identity, engagement, vault, request.id)
        self._tell(offered)
        if self._work is not None and not self._work.ended.is_set() and self._document is not None:
            self._looking = self._document.add_periodic_callback(self.look, LOOK_MS)

    def clear(self) -> None:
        """See View."""
        self._look_no_more()
        self._top.object = self._below.object = ""
        self._work = None

    def look(self) -> None:
        """Show how far the work is; called while it runs, and it ends with the engagement."""
        with in_one_piece(self._document):
            self._look()

    def _look(self) -> None:
        work = self._work
        if work is None:
            self._look_no_more()
            return
        try:
            if self._visit.engagement() != work.engagement:
                raise RefusedError("Your engagement was changed meanwhile.", remedy="Run it again.")
        except AuditlibError as error:
            self._visit.desk.works.cancel(work)
            self.clear()
            self._below.object = refusal(error)
            return
        if work.ended.is_set():
            self._look_no_more()
        self._tell(None)

    async def _act(
        self, listed: RequestList, request: Request, engagement: Engagement, vault: str, typed: Mapping[str, str]
    ) -> dict[str, str] | None:
        """Do what was asked for by somebody who sees this page; an address to open, where there is one."""
        visit, does = self._visit, self._visit.arguments.get("do")
        word = visit.arguments.get("once", "")
        if does is None or not self._once or not secrets.compare_digest(word.encode(), self._once.encode()):
            return None
        self._once = ""
        works, who = visit.desk.works, (visit.identity, visit.signin.session, engagement, vault)
        size = visit.trail().standing().size
        if does == "run":
            try:
                call = await visit.run(partial(asked.call, request, listed.folder, engagement, typed, size))
            except RefusedError:
                await visit.run(partial(visit.desk.recorder.ran, *who, request.id, typed, "denied"))
                raise
            await visit.run(partial(visit.desk.recorder.ran, *who, request.id, call.given))
            works.run(visit.identity, engagement, vault, size, call)
        elif does == "take":
            stands = await visit.run(partial(self._stands, listed, request, engagement, vault))
            if stands is None or stands.packet is None:
                raise RefusedError("There is no packet of this request that can be read.")
            await visit.run(partial(visit.desk.recorder.viewed, *who, "packet", request.id))
            works.take(visit.identity, engagement, vault, size, request.id, stands.packet.path)
        elif does in ("cancel", "save", "open"):
            work = works.latest(visit.identity, engagement, vault, request.id)
            if does == "cancel" and work is not None:
                await visit.run(partial(works.cancel, work))
            elif work is not None and work.answer is not None and work.state == lanes.DONE:
                return await self._hand(work, who, does)
        return None

    async def _hand(self, work: Work, who: tuple[str, str, Engagement, str], does: str) -> dict[str, str]:
        """Offer the packet, or its report to be opened, once; recorded before."""
        visit, answer = self._visit, work.answer
        assert answer is not None  # noqa: S101 - asked just before
        desk, still = visit.desk, visit.still(work.engagement)
        await visit.run(partial(desk.recorder.packet, *who, work.request, answer.packet_digest, answer.evidence_digest))
        if does == "save":
            path = await visit.run(partial(desk.handed.linked, work.path, ".zip"))
            return {"save": desk.handed.offer(visit.signin, path, f"{work.request}.zip", still=still)}
        held = await visit.run(partial(desk.handed.linked, work.path, ".zip"))
        path = desk.handed.new_path(".html")
        try:
            await visit.run(partial(_report, held, path))
        finally:
            held.unlink(missing_ok=True)
        return {"open": desk.handed.offer(visit.signin, path, "report.html", shown=True, still=still)}

    def _tell(self, offered: Mapping[str, str] | None) -> None:
        work, offered = self._work, offered or {}
        if work is None:
            self._below.object, self._shown = "", ()
            return
        place = self._visit.desk.works.before(work)
        state, stage, cells = work.state, work.stage, work.cells  # once: another thread moves it on
        shown = (work, state, stage, cells, place, tuple(offered.items()))
        if shown == self._shown:
            return
        self._shown = shown
        self._below.object = render(
            "requests_work.html",
            work=work,
            state=state,
            stage=stage,
            cells=cells,
            answer=work.answer,
            place=place,
            offered=offered,
            once=self._once,
            kept={**_kept(self._visit), "id": work.request},
        )

    def _look_no_more(self) -> None:
        if self._looking is not None and self._document is not None:
            self._document.remove_periodic_callback(self._looking)
        self._looking = None

    def _entries(self, listed: RequestList, engagement: Engagement, vault: str) -> list[Entry]:
        requests = asked.offered(listed, engagement, vault)
        stand = self._standings(listed, requests, vault)
        today = datetime.fromtimestamp(self._visit.desk.now() // SECOND, UTC).date()
        entries = []
        for request in requests:
            one = stand.get(request.id)
            work = self._visit.desk.works.latest(self._visit.identity, engagement, vault, request.id)
            entries.append(
                Entry(
                    request=request,
                    href=self._visit.link("requests", id=request.id),
                    stands="" if one is None else one.words(),
                    aged=one is not None and one.packet is not None and bool(one.notes),
                    due=_due(request.due, today),
                    here="" if work is None else work.state,
                )
            )
        return entries

    def _stands(self, listed: RequestList, request: Request, engagement: Engagement, vault: str) -> Standing | None:
        return self._standings(listed, (request,), vault).get(request.id)

    def _standings(self, listed: RequestList, requests: tuple[Request, ...], vault: str) -> dict[str, Standing]:
        """What stands in the folder of packets, for these requests on this vault alone."""
        packets = self._visit.desk.works.packets
        if packets is None:
            return {}
        told = self._visit.trail().standing()
        now = {None: (told.origin, told.size), vault: (told.origin, told.size)}
        found = standings(RequestList(listed.folder, requests, listed.trails), packets, now)
        return {one.request.id: one for one in found if one.trail in (None, vault)}


def _report(packet: Path, path: Path) -> None:
    with open_bag(packet) as bag:
        path.write_bytes(bag.read(REPORT))


def _due(due: date | None, today: date) -> str:
    if due is None:
        return ""
    return f"{due.isoformat()}, which is past" if due < today else due.isoformat()


def _kept(visit: Visit) -> dict[str, str]:
    return {name: visit.arguments[name] for name in ("engagement", "vault") if name in visit.arguments}
