"""A request of the list, an engagement, and what a person typed -> what is run; all of it refused before anything runs.

What the list fixes stays fixed: an auditor asks, and does not edit. The rest comes from the notebook's declarations.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from auditlib.engagements import Engagement
from auditlib.errors import MalformedError, UnavailableError
from auditlib.packet.notebook import find_notebook
from auditlib.packet.parameters import check_together, declared, read, read_typed, with_defaults
from auditlib.packet.values import Parameter
from auditlib.query import parse_moment, zone_of
from auditlib.requests.asking import as_texts, fixed, notebook_of
from auditlib.requests.model import Control, Request, RequestList
from auditlib.scoped import Question, RefusedError
from auditlib.scoped.scope import covers
from auditlib.scoped.within import covered, within_period

PERIOD = ("since", "until", "through")
FILTERS = ("kind", "action", "actor", "target", "outcome", "source")  # of a search, as its notebook calls them
EVENTS = "events"  # the notebook that answers a search, and the request by which an engagement allows it
# No list can hold a request of this name (model.ID has no `@`), so that nobody's packet is taken for another's.
SEARCHED = Request(
    id=f"{EVENTS}@search",
    question="Show me these events, with proof that they are what was sealed.",
    control=Control("search"),
    notebook=EVENTS,
)
CHECKPOINT = "at"  # every page reads the checkpoint that it was opened at
MAX_TYPED_CHARS = 2_000  # characters of one value, as of an address
_log = logging.getLogger("auditlib.dashboard")


class Field(msgspec.Struct, frozen=True):
    """One parameter as the form shows it: `value` is typed, or fixed by the list."""

    name: str
    help: str
    words: str
    value: str
    fixed: bool
    choices: tuple[str, ...]


class Call(msgspec.Struct, frozen=True):
    """What is run: the notebook's name or path, and the texts of its parameters."""

    request: str
    notebook: str
    given: dict[str, str]
    lists: dict[str, str]
    files: str | None


def offered(listed: RequestList, engagement: Engagement, vault: str) -> tuple[Request, ...]:
    """The requests that the engagement names, of those that are asked of this vault."""
    return tuple(
        request
        for request in listed.requests
        if any(covers(glob, request.id) for glob in engagement.requests)
        and (not request.trails or vault in request.trails)
    )


def find(listed: RequestList, engagement: Engagement, vault: str, request_id: str) -> Request:
    """RefusedError in the same words for one that is not in the list and for one that may not be run."""
    for request in offered(listed, engagement, vault):
        if request.id == request_id:
            return request
    raise RefusedError("Your engagement names no such request.", remedy=f"Ask {engagement.set_by}, who set it.")


def fields(request: Request, folder: Path, engagement: Engagement, typed: Mapping[str, str]) -> list[Field]:
    """The form: what the list fixes; the rest as it was typed, else the engagement's period, or a default."""
    _, known, stated = _notebook(request, folder)
    settled = as_texts(stated)
    shown = {name: parameter.example for name, parameter in known.items()}
    shown |= settled | _period(engagement, known, settled)
    return [
        Field(
            name=name,
            help=parameter.help,
            words=parameter.type_words(),
            value=shown[name] if name in settled else typed.get(name, shown[name]),
            fixed=name in settled,
            choices=_choices(parameter),
        )
        for name, parameter in known.items()
        if name != CHECKPOINT
    ]


def call(request: Request, folder: Path, engagement: Engagement, typed: Mapping[str, Any], size: int) -> Call:
    """What to run. `typed` is hostile; `size` is the checkpoint to read the trail at.

    MalformedError for values that the notebook does not take, RefusedError for a period past the engagement's.
    """
    notebook, known, settled = _notebook(request, folder)
    texts: dict[str, str] = {}
    for name, text in typed.items():
        if name not in known or name in settled or name == CHECKPOINT:
            raise RefusedError("this is no parameter that you can set.", where=str(name)[:40])
        if not isinstance(text, str) or len(text) > MAX_TYPED_CHARS:
            raise MalformedError(f"a text of at most {MAX_TYPED_CHARS:,} characters is read.", where=name)
        texts[name] = text
    start = _period(engagement, known, as_texts(settled)) if not any(name in texts for name in PERIOD) else {}
    values = {**read(known, {**start, **texts}), **settled}
    if CHECKPOINT in known:
        values[CHECKPOINT] = size
    everything = with_defaults(known, values)
    check_together(everything)
    check_period(engagement, known, everything)
    # What `auditlib requests build` would state too, so that the same question gives the same packet either way.
    stated = {*settled, "since", "until", CHECKPOINT}
    stated |= {name for name, value in values.items() if value != known[name].default}
    return Call(
        request=request.id,
        notebook=str(notebook) if request.notebook.endswith(".ipynb") else request.notebook,
        given=as_texts({name: value for name, value in everything.items() if name in stated}),
        lists={kind: str(folder / path) for kind, path in request.attach.items()},
        files=None if request.attach_dir is None else str(folder / request.attach_dir),
    )


def allows_events(engagement: Engagement) -> bool:
    """Whether what a search finds may be taken away with its proof."""
    return any(covers(glob, EVENTS) for glob in engagement.requests)


def check_allows_events(engagement: Engagement) -> None:
    """RefusedError where it may not."""
    if not allows_events(engagement):
        message = f"Your engagement names no request {EVENTS!r}: nothing is exported with proof."
        raise RefusedError(message, remedy=f"Ask {engagement.set_by}, who set it.")


def events_call(question: Question, engagement: Engagement, size: int) -> Call:
    """What to run for the events that a search finds; the question as ScopedTrail.stated gives it.

    MalformedError for a filter that the notebook's parameters cannot hold, RefusedError where it is not allowed.
    """
    check_allows_events(engagement)
    values: dict[str, Any] = {}
    for name in FILTERS:
        given = getattr(question, name)
        values[name] = [given] if isinstance(given, str) else list(given or ())
    values["where"] = [f"{path}={text}" for path, text in (question.where or {}).items()]
    texts = as_texts(values)
    if read(declared(find_notebook(EVENTS)), texts) != dict(sorted(values.items())):
        message = "A filter that holds a comma, or is the word none, cannot be stated in a packet."
        raise MalformedError(message, remedy="Ask for it with a glob: a?b fits a,b.")
    period = {name: str(getattr(question, name) or "none") for name in PERIOD}
    everything = {**texts, **period, "tz": question.tz}
    made = call(SEARCHED, Path(), engagement, everything, size)
    return msgspec.structs.replace(made, given={**everything, **made.given})  # no word of it rests on a default


def check_period(engagement: Engagement, known: Mapping[str, Parameter], values: Mapping[str, Any]) -> None:
    """RefusedError where the period, or another day that is asked about, is not within the engagement's."""
    zone = zone_of(values.get("tz") or "UTC")
    since, until, through = (values.get(name) for name in PERIOD)
    if any(name in known for name in PERIOD):
        start = None if since is None else parse_moment(since, zone, "since")
        end = None if until is None else parse_moment(until, zone, "until")
        if through is not None:
            end = parse_moment(date.fromisoformat(through), zone, "through", days=1)
        if not within_period(engagement, start, end):
            raise RefusedError(f"Your engagement covers {_in_words(engagement)}; this asks for more.")
    first, last = covered(engagement)
    for name, parameter in known.items():
        if parameter.kind == "date" and name not in PERIOD and values.get(name) is not None:
            moment = parse_moment(values[name], zone, name)
            if (first is not None and moment < first) or (last is not None and moment > last):
                words = f"Your engagement covers {_in_words(engagement)}; this asks about another day."
                raise RefusedError(words, where=name)


def _notebook(request: Request, folder: Path) -> tuple[Path, dict[str, Parameter], dict[str, Any]]:
    """The notebook, what it declares, and what the list fixes of that. What is wrong with them names places here."""
    try:
        notebook = notebook_of(request, folder)
        known = declared(notebook)
        return notebook, known, read_typed(known, fixed(request, known))
    except MalformedError:
        _log.exception("the request %s cannot be asked", request.id)
        message = "This request cannot be asked as the list has it."
        raise UnavailableError(message, remedy="Tell who runs this page; the server's log says why.") from None


def _period(engagement: Engagement, known: Mapping[str, Parameter], settled: Mapping[str, str]) -> dict[str, str]:
    """The engagement's own period, where the list fixes none."""
    if any(name in settled for name in PERIOD):
        return {}
    ends = {"since": engagement.since, "until": engagement.until}
    return {name: value for name, value in ends.items() if name in known and value is not None}


def _choices(parameter: Parameter) -> tuple[str, ...]:
    if parameter.kind == "bool":
        return ("true", "false")
    if parameter.kind == "choice":
        return (*parameter.choices, "none") if parameter.optional else parameter.choices
    return ()


def _in_words(engagement: Engagement) -> str:
    since, until = engagement.since, engagement.until
    if since and until:
        return f"events from {since} until before {until} (UTC)"
    return f"events from {since} on (UTC)" if since else f"events before {until} (UTC)"
