"""Requests: the auditor's request list. Ask one, follow it, read the answer, take the packet away."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import partial

import msgspec
from markupsafe import Markup

from auditlib.dashboard import asked
from auditlib.dashboard.answered import Answered
from auditlib.dashboard.exceptions import standings_here
from auditlib.dashboard.markup import pane, refusal, render
from auditlib.dashboard.pages.running import Running
from auditlib.dashboard.visit import Visit
from auditlib.dashboard.work import Work
from auditlib.engagements import Engagement
from auditlib.engagements.words import limits_in_words
from auditlib.errors import AuditlibError
from auditlib.formats.times import SECOND
from auditlib.requests.model import Request, RequestList
from auditlib.requests.standing import Standing
from auditlib.scoped import RefusedError

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
        self._top = pane(name="request")
        self._running = Running(visit, "requests", self._empty)
        self.panes = [self._top, self._running.pane]

    async def show(self) -> None:
        """See View."""
        visit, running = self._visit, self._running
        running.stop()
        try:
            engagement, vault, _ = visit.engagement(), visit.vault(), visit.trail()
        except AuditlibError:
            running.cancel()  # it ends with the engagement
            raise
        listed = visit.desk.works.listed
        if listed is None:
            self._top.object = render("requests.html", entries=[], told=_NO_LIST)
            running.clear()
            return
        request_id = visit.arguments.get("id")
        if request_id is None:
            entries = await visit.run(partial(self._entries, listed, engagement, vault))
            told = "" if entries else "Your engagement names no request of this vault's list."
            self._top.object = render("requests.html", entries=entries, told=told)
            running.clear()
            return
        request = asked.find(listed, engagement, vault, request_id)
        typed = {
            name.removeprefix(PARAMETER): text for name, text in visit.arguments.items() if name.startswith(PARAMETER)
        }
        trouble, offered = "", dict[str, str]()
        try:
            offered = await self._act(running.asked(), listed, request, engagement, vault, typed)
        except AuditlibError as error:
            trouble = Markup(refusal(error))  # noqa: S704 - of a template of this library, which escaped what is in it
        fields = await visit.run(partial(asked.fields, request, listed.folder, engagement, typed))
        stands = await visit.run(partial(self._stands, request, vault))
        self._top.object = render(
            "requests_one.html",
            request=request,
            fields=fields,
            stands=stands,
            once=running.once,
            trouble=trouble,
            kept=visit.kept(),
            prefix=PARAMETER,
            back=visit.link("requests"),
            limits=list(limits_in_words(engagement).values()),
            redact=engagement.redact,
            systems=visit.desk.works.scope is not None,
        )
        work = visit.desk.works.latest(visit.identity, engagement, vault, request.id)
        running.watch(work, {**visit.kept(), "id": request.id}, offered)

    def clear(self) -> None:
        """See View."""
        self._empty()
        self._running.clear()

    def _empty(self) -> None:
        self._top.object = ""

    async def _act(
        self,
        does: str | None,
        listed: RequestList,
        request: Request,
        engagement: Engagement,
        vault: str,
        typed: Mapping[str, str],
    ) -> dict[str, str]:
        """Do what was asked for by somebody who sees this page; an address to open, where there is one."""
        visit, recorder = self._visit, self._visit.desk.recorder
        works, who = visit.desk.works, (visit.identity, visit.signin.session, engagement, vault)
        size = visit.trail().standing().size
        if does == "run":
            try:
                call = await visit.run(partial(asked.call, request, listed.folder, engagement, typed, size))
            except RefusedError:
                await visit.run(partial(recorder.ran, *who, request.id, typed, "denied"))
                raise
            await visit.run(partial(recorder.ran, *who, request.id, call.given))
            works.run(visit.identity, engagement, vault, size, call)
            return {}
        if does == "take":
            stands = await visit.run(partial(self._stands, request, vault))
            if stands is None or stands.packet is None:
                raise RefusedError("There is no packet of this request that can be read.")
            await visit.run(partial(recorder.viewed, *who, "packet", request.id))
            works.take(visit.identity, engagement, vault, size, request.id, stands.packet.path)
            return {}

        async def record(work: Work, answer: Answered) -> None:
            digests = answer.packet_digest, answer.evidence_digest
            await visit.run(partial(recorder.packet, *who, request.id, *digests))

        work = works.latest(visit.identity, engagement, vault, request.id)
        return await self._running.act(does, work, request.id, record)

    def _entries(self, listed: RequestList, engagement: Engagement, vault: str) -> list[Entry]:
        requests = asked.offered(listed, engagement, vault)
        stand = standings_here(self._visit, requests, vault)
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

    def _stands(self, request: Request, vault: str) -> Standing | None:
        return standings_here(self._visit, (request,), vault).get(request.id)


def _due(due: date | None, today: date) -> str:
    if due is None:
        return ""
    return f"{due.isoformat()}, which is past" if due < today else due.isoformat()
