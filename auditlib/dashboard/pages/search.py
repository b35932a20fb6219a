"""Search: who did what, to which resource, when. The address is the question, so that it can be kept and shared."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from auditlib.dashboard.asked import allows_events
from auditlib.dashboard.markup import pane, render
from auditlib.dashboard.pages.proof import FORM, Proof
from auditlib.dashboard.pages.running import Running
from auditlib.dashboard.visit import Visit, address
from auditlib.engagements import Engagement
from auditlib.errors import AuditlibError, MalformedError
from auditlib.export import FORMATS
from auditlib.formats.event import OUTCOMES
from auditlib.formats.times import SECOND
from auditlib.scoped import Bars, Page, Question, ScopedTrail, Summary

ROWS = 50  # of one page
BARS = 60
FACET_ROWS = 8
FIELDS = ("kind", "action", "actor", "target", "outcome", "source", "since", "until", "through", "tz", "where")
FACETS = {"kind": "Kind", "action": "Action", "actor": "Actor", "outcome": "Outcome", "source": "Source"}


class Search:
    """The page: a form, and below it the answer."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._form, self._answer = pane(name="form"), pane(name="answer")
        self._running = Running(visit, "search", self._empty)
        self._proof = Proof(visit, self._running)
        self.panes = [self._form, self._answer, self._running.pane]
        self._summary: tuple[Any, Summary] | None = None  # of the last question, while the scope stands

    async def show(self) -> None:
        """See View. What was asked is recorded when it was found and before it is shown."""
        visit = self._visit
        asked = {name: visit.arguments[name].strip() for name in FIELDS if visit.arguments.get(name, "").strip()}
        self._form.object = render("search_form.html", asked=asked, visit=visit, kinds=_kinds(visit), outcomes=OUTCOMES)
        self._running.stop()
        try:
            engagement, trail = visit.engagement(), visit.trail()
        except AuditlibError:
            self._running.cancel()  # it ends with the engagement
            raise
        question, form = question_of(asked), visit.arguments.get("export")
        if form == FORM:
            self._answer.object = await self._proof.show(engagement, trail, question, asked)
            return
        self._running.clear()
        if form is not None:
            self._answer.object = await self._export(engagement, trail, question, asked, form)
            return
        page, summary = await visit.run(lambda: self._look(engagement, trail, question))
        seen = (visit.identity, visit.signin, engagement, visit.vault(), asked, summary.events)
        await visit.run(lambda: visit.desk.recorder.searched(*seen))
        self._answer.object = markup(visit, asked, engagement, page, summary)

    def clear(self) -> None:
        """See View."""
        self._empty()
        self._running.clear()

    def _empty(self) -> None:
        self._answer.object = ""

    def _look(self, engagement: Engagement, trail: ScopedTrail, question: Question) -> tuple[Page, Summary]:
        page = trail.search(question, after=self._visit.arguments.get("after"), limit=ROWS)
        key = (engagement, trail, question)
        if self._summary is None or self._summary[0] != key:
            self._summary = key, trail.summary(question, tuple(FACETS), FACET_ROWS, BARS)
        return page, self._summary[1]

    async def _export(
        self, engagement: Engagement, trail: ScopedTrail, question: Question, asked: Mapping[str, str], form: str
    ) -> str:
        """Make a file, record it, and offer it once to this sign-in."""
        visit = self._visit
        if form not in FORMATS:
            raise MalformedError(f"choose one of {', '.join((*FORMATS, FORM))}.", where="export")
        path = visit.desk.handed.new_path(f".{form}")
        made = await visit.desk.works.export(visit.identity, lambda: trail.export(question, path, form))
        taken = (visit.identity, visit.signin, engagement, visit.vault(), asked, made.rows, made.sha256, form)
        await visit.run(lambda: visit.desk.recorder.exported(*taken))
        href = visit.desk.handed.offer(visit.signin, path, f"events.{form}", still=visit.still(engagement))
        back = address("search", {**visit.kept(), **asked})
        return render("search_export.html", made=made, href=href, form=form, back=back)


def question_of(asked: Mapping[str, str]) -> Question:
    """The fields of the form as a Question; what they mean is judged where it is asked."""
    given: dict[str, Any] = dict(asked)
    if "where" in given:
        path, equals, value = given["where"].partition("=")
        if not (path and equals and value):
            raise MalformedError("write a field of the context, =, and its value: granted_role=admin", where="where")
        given["where"] = {path.strip().removeprefix("context."): value.strip()}
    return Question(**given)


def markup(visit: Visit, asked: Mapping[str, str], engagement: Engagement, page: Page, summary: Summary) -> str:
    """The answer as HTML."""
    kept = visit.kept()

    def to(**changed: str | None) -> str:
        return address("search", {**kept, **asked, **changed})

    return render(
        "search_answer.html",
        asked=asked,
        rows=page.rows.to_pylist(),
        narrowed=page.narrowed,
        older=to(after=page.next) if page.next else None,
        newest=to() if visit.arguments.get("after") else None,
        summary=summary,
        facets=[(name, title, summary.facets[name]) for name, title in FACETS.items()],
        bars=_bars(summary.bars, to),
        brush=address("", {**kept, **asked})[1:],
        to=to,
        event=lambda row: address("event", {**kept, "id": row["event_id"], "source": row["source"]}),
        exports=[(form, to(export=form)) for form in FORMATS] if engagement.rows_per_export else [],
        proof=to(export=FORM) if allows_events(engagement) else None,
        most=engagement.rows_per_export,
    )


def _kinds(visit: Visit) -> list[str]:
    """The kinds that may be chosen: those of the catalogue, or of the engagement where it names some."""
    catalog = visit.catalog()
    return sorted(visit.engagement().kinds or (catalog.kinds if catalog else ()))


def _bars(bars: Bars, to: Any) -> list[dict[str, Any]]:
    """Each bar with its height of 100, its time, and the address that asks for it alone."""
    most = max(bars.counts, default=0)
    told = []
    for place, events in enumerate(bars.counts):
        start = bars.start + place * bars.width
        since, until = _text(start), _text(start + bars.width)
        told.append(
            {
                "events": events,
                "height": 0.0 if not events else max(1.5, 100 * events / most),
                "since": since,
                "href": to(since=since, until=until, through=None, tz=None),
            }
        )
    return told


def _text(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
