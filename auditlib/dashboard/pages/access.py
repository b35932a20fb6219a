"""Access: who may look and who has looked. What auditors searched is opened here, by a button, and that is recorded.

An administrator sees every engagement and act; an auditor their own, and who read their searches; an analyst that
somebody looked, when, and by which act, and nothing else. What is listed comes from the recorder's journal, which holds
what the events hold; the sealed trail is the authority, and says so on the page.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec
import panel as pn
from panel.viewable import Viewable

from auditlib.dashboard.disclosed import COMMITMENT, Disclosures, Line, check_line
from auditlib.dashboard.journal import Entry
from auditlib.dashboard.markup import pane, refusal, render, theme
from auditlib.dashboard.recorder import UNKNOWN
from auditlib.dashboard.visit import Visit
from auditlib.engagements import Engagement
from auditlib.engagements.words import limits_in_words
from auditlib.errors import AuditlibError, MalformedError, MismatchError
from auditlib.formats.event import Event
from auditlib.formats.times import parse_time, to_datetime
from auditlib.scoped import RefusedError

MAX_ACTS = 200  # acts shown, the newest
MAX_OPENED = 50  # searches opened at once, each compared with its sealed event
CHOICE_PIXELS = 420  # at most, for the longest id of an engagement
BUTTON_PIXELS = 320  # fits a page of 390
ACTS = {  # action -> one such act, several
    "evidence.sign_in": ("sign-in", "sign-ins"),
    "evidence.sign_out": ("sign-out", "sign-outs"),
    "evidence.search": ("search", "searches"),
    "evidence.view": ("view", "views"),
    "evidence.export": ("export", "exports"),
    "evidence.request": ("request run", "runs"),
    "evidence.packet": ("packet taken", "packets"),
    "evidence.disclosure": ("searches of an auditor read", "readings"),
}
# Panel's own widgets, in the colours of the theme (static/theme.css).
WIDGETS = """label{color:var(--ink-2)!important;font-size:.85rem}
.bk-input,.bk-btn{font:inherit!important;background-color:var(--paper)!important;color:var(--ink)!important;
border:1px solid var(--ink-2)!important;border-radius:.3rem;min-height:2.5rem}
.bk-btn{color:var(--accent)!important;border-color:var(--accent)!important}
select.bk-input{appearance:auto!important;background-image:none!important}"""
SEALED = {
    True: "✓ is what the sealed event committed to",
    False: "✗ is NOT what the sealed event committed to",
    None: "– no such event is in the trail you see (not sealed yet, or outside your scope)",
}


class Granted(msgspec.Struct, frozen=True):
    """An engagement as a row: `state` is one of holds, not yet, expired, revoked."""

    engagement: Engagement
    limits: tuple[str, ...]
    state: str


class Person(msgspec.Struct, frozen=True):
    """What one identity did: how often by action where it succeeded, how often it did not, and when last."""

    identity: str
    counts: dict[str, int]
    refused: int
    last: str


class Access(msgspec.Struct, frozen=True):
    """What one role is told. `acts` newest first; `more`: there are others; `missed` could not be listed at all."""

    role: str
    granted: tuple[Granted, ...]
    people: tuple[Person, ...]
    acts: tuple[Entry, ...]
    more: bool
    since: str | None
    missed: int


async def page(visit: Visit) -> list[Viewable]:
    """The page. That it was looked at is recorded before it is shown; see Access and `open_for`."""
    engagement, desk = visit.engagement(), visit.desk
    vault = visit.vault()
    await visit.run(lambda: desk.recorder.viewed(visit.identity, visit.signin, engagement, vault, "page", "access"))
    journal = desk.recorder.journal
    entries = await visit.run(journal.entries)
    known = desk.engagements.all()
    told = access(engagement, known, entries, desk.now(), journal.missed)
    panes: list[Viewable] = [pane(render("access.html", told=told, acts=ACTS, moment=moment))]
    choices = [one.id for one in known if may_open(engagement, one)]
    return [*panes, *opening(visit, choices)] if choices else panes


def access(
    reader: Engagement, known: Sequence[Engagement], entries: Iterable[Entry], now: int, missed: int = 0
) -> Access:
    """What somebody who looks under `reader` is told of engagements and acts (newest first)."""
    everything = list(entries)
    own = {one.id for one in known if one.identity == reader.identity}
    if reader.role == "admin":
        shown, granted = everything, list(known)
    elif reader.role == "auditor":
        about = {f"engagement:{name}" for name in own}
        shown = [
            each
            for each in everything
            if each.identity == reader.identity or (each.action == "evidence.disclosure" and each.target in about)
        ]
        granted = [one for one in known if one.id in own]
    else:
        shown = [each if each.identity == reader.identity else _that_it_happened(each) for each in everything]
        granted = [one for one in known if one.id in own]
    return Access(
        role=reader.role,
        granted=tuple(Granted(one, tuple(limits_in_words(one).values()), state_of(one, now)) for one in granted),
        people=_people(shown),
        acts=tuple(shown[:MAX_ACTS]),
        more=len(shown) > MAX_ACTS,
        since=everything[-1].at if everything and reader.role == "admin" else None,
        missed=missed if reader.role == "admin" else 0,
    )


def state_of(engagement: Engagement, now: int) -> str:
    """Whether it holds now, in a word or two."""
    if engagement.revoked_at is not None:
        return "revoked"
    start, end = engagement.validity
    return "not yet" if now < start else "expired" if now >= end else "holds"


def may_open(reader: Engagement, whose: Engagement) -> bool:
    """Whether a reader is offered to open what was searched; Recorder.disclosures decides again."""
    return whose.role == "auditor" and (
        reader.role == "admin" or (reader.role == "auditor" and reader.identity == whose.identity)
    )


def opening(visit: Visit, choices: list[str]) -> list[Viewable]:
    """A choice, a button, the place for the answer. What the browser sends is one of the choices, or refused."""
    choice = pn.widgets.Select(
        label="Engagement",
        options=choices,
        sizing_mode="stretch_width",
        max_width=CHOICE_PIXELS,
        margin=(5, 0),
        stylesheets=[theme(), WIDGETS],
    )
    button = pn.widgets.Button(
        label="Show what was searched (this is recorded)",
        width=BUTTON_PIXELS,
        margin=(5, 0),
        stylesheets=[theme(), WIDGETS],
    )
    answer = pane()
    turn = asyncio.Lock()

    async def show(_: Any) -> None:
        if turn.locked():
            return  # one at a time: each reading is recorded
        async with turn:
            try:
                asked = choice.value
                answer.object = render("access_opened.html", **await visit.run(lambda: open_for(visit, asked)))
            except AuditlibError as error:
                answer.object = refusal(error)

    button.on_click(show)
    return [pane(render("access_open.html")), choice, button, answer]


def open_for(visit: Visit, asked: object) -> dict[str, Any]:
    """What was searched under the engagement `asked`, for the reader as they stand now: recorded, then compared.

    Raises RefusedError, in the same words for an engagement that is not there and for one that is not theirs to read.
    """
    reader = visit.engagement()
    whose = next((one for one in visit.desk.engagements.all() if one.id == asked and may_open(reader, one)), None)
    if whose is None:
        raise RefusedError("There is nothing here that you may read.")
    found = visit.desk.recorder.disclosures(visit.identity, visit.signin, reader, whose, MAX_OPENED)
    return opened(whose, found, partial(_sealed, visit))


def opened(whose: Engagement, found: Disclosures, sealed: Callable[[Line], Event | None]) -> dict[str, Any]:
    """Lines for the template, each with whether it is what its sealed event committed to."""
    rows = []
    for line in found.lines:
        event = sealed(line)
        told = [(name, _text(value)) for name, value in sorted(line.withheld.items()) if value is not None]
        rows.append((line, told, SEALED[None if event is None else _fits(line, event)]))
    return {"whose": whose, "rows": rows, "found": found, "acts": ACTS, "moment": moment}


def moment(text: str) -> str:
    """A canonical time as people read it, in UTC to the second; anything else as it stands."""
    try:
        return f"{to_datetime(parse_time(text)):%Y-%m-%d %H:%M:%S} UTC"
    except MalformedError:
        return text


def _that_it_happened(entry: Entry) -> Entry:
    """Who, when, how it came out, which act."""
    return msgspec.structs.replace(entry, engagement=None, role=None, rows=None, target="")


def _people(entries: Iterable[Entry]) -> tuple[Person, ...]:
    counted: dict[str, Counter[str]] = {}
    last: dict[str, str] = {}
    for entry in entries:
        counts = counted.setdefault(entry.identity, Counter())
        counts[entry.action if entry.outcome == "success" else ""] += 1
        last.setdefault(entry.identity, entry.at)  # the newest comes first
    names = sorted(counted, key=lambda name: (name == UNKNOWN, name))
    return tuple(Person(name, dict(counted[name]), counted[name][""], last[name]) for name in names)


def _sealed(visit: Visit, line: Line) -> Event | None:
    """The line's event in the trail that the reader sees."""
    found = visit.trail().event(line.event_id)
    if found is None:
        return None
    event = msgspec.convert(json.loads(found.record)["event"], Event)
    return None if found.redacted and COMMITMENT not in event.context else event


def _fits(line: Line, event: Event) -> bool:
    try:
        check_line(line, event)
    except (MismatchError, MalformedError):
        return False
    return True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
