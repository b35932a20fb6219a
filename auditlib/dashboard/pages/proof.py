"""What a search found, taken away with its proof: the packet of the notebook `events`, run and handed over here.

It is a packet as any other: made from the whole trail in a process of its own, judged before anything of it is told,
recorded before it is run and before it is handed over. It states the question, so that what the question leaves open is
taken from the scope first; what is more than the scope, or than may be exported, is refused before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from hashlib import file_digest

from markupsafe import Markup

from auditlib.dashboard import asked as asking
from auditlib.dashboard.answered import Answered
from auditlib.dashboard.asked import Call
from auditlib.dashboard.markup import refusal, render
from auditlib.dashboard.pages.running import Running
from auditlib.dashboard.visit import Visit, address
from auditlib.dashboard.work import Work
from auditlib.engagements import Engagement
from auditlib.engagements.words import limits_in_words
from auditlib.errors import AuditlibError
from auditlib.evidence.event_list import MAX_LISTED
from auditlib.scoped import Question, RefusedError, ScopedTrail

FORM = "proof"  # beside csv, jsonl, parquet and xlsx
PACKET = "packet"  # the format that is recorded
LABELS = {
    **{"since": "From", "until": "Until before", "tz": "Time zone", "where": "Context"},
    "at": "Checkpoint (number of seals)",
}


class Proof:
    """The part of the page Search that makes packets."""

    def __init__(self, visit: Visit, running: Running) -> None:
        self._visit, self._running = visit, running

    async def show(
        self, engagement: Engagement, trail: ScopedTrail, question: Question, asked: Mapping[str, str]
    ) -> str:
        """The markup above the work; RefusedError and MalformedError where the question cannot be answered so."""
        visit, running = self._visit, self._running
        recorder, who = visit.desk.recorder, (visit.identity, visit.signin, engagement, visit.vault())
        does, size = running.asked(), trail.standing().size
        try:
            within, events = await visit.run(lambda: _allowed(engagement, trail, question))
            call = await visit.run(lambda: asking.events_call(within, engagement, size))
        except RefusedError:
            await visit.run(lambda: recorder.ran(*who, asking.EVENTS, dict(asked), "denied"))
            raise
        if does is None:
            await visit.run(lambda: recorder.searched(*who, asked, events))
        trouble, offered = "", dict[str, str]()
        try:
            offered = await self._act(does, engagement, asked, call, size)
        except AuditlibError as error:
            trouble = Markup(refusal(error))  # noqa: S704 - of a template of this library, which escaped what is in it
        work = self._mine(engagement, call)
        kept = {**visit.kept(), **asked, "export": FORM}
        running.watch(work, kept, offered)
        return render(
            "search_proof.html",
            events=events,
            filled=within != question,
            given={LABELS.get(name, name.capitalize()): text.replace(",", ", ") for name, text in _said(call).items()},
            kept=kept,
            once=running.once,
            work=work,
            trouble=trouble,
            back=address("search", {**visit.kept(), **asked}),
            limits=list(limits_in_words(engagement).values()),
            redact=engagement.redact,
            systems=visit.desk.works.scope is not None,
        )

    async def _act(
        self, does: str | None, engagement: Engagement, asked: Mapping[str, str], call: Call, size: int
    ) -> dict[str, str]:
        visit, vault = self._visit, self._visit.vault()
        recorder, who = visit.desk.recorder, (visit.identity, visit.signin, engagement, vault)
        if does == "run":
            await visit.run(lambda: recorder.ran(*who, asking.EVENTS, _said(call)))
            visit.desk.works.run(visit.identity, engagement, vault, size, call)

        async def record(work: Work, answer: Answered) -> None:
            digests = {"evidence_digest": answer.evidence_digest, "packet_digest": answer.packet_digest}
            told = asked, answer.records, await visit.run(partial(_sha256, work)), PACKET
            await visit.run(lambda: recorder.exported(*who, *told, digests=digests))

        return await self._running.act(does, self._mine(engagement, call), asking.EVENTS, record)

    def _mine(self, engagement: Engagement, call: Call) -> Work | None:
        """This person's newest packet of this very question."""
        visit = self._visit
        work = visit.desk.works.latest(visit.identity, engagement, visit.vault(), call.request)
        return work if work is not None and work.job.call == call else None


def _allowed(engagement: Engagement, trail: ScopedTrail, question: Question) -> tuple[Question, int]:
    asking.check_allows_events(engagement)
    within, events = trail.stated(question)
    if not events:
        raise RefusedError("No event within your scope answers this: there is nothing to prove.")
    if events > MAX_LISTED:
        message = f"{events:,} events answer; a packet with proof holds at most {MAX_LISTED:,}."
        raise RefusedError(message, remedy="Ask for less.")
    return within, events


def _said(call: Call) -> dict[str, str]:
    """The parameters that say something."""
    return {name: text for name, text in call.given.items() if text != "none"}


def _sha256(work: Work) -> str:
    with work.path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
