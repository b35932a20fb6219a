"""Open exceptions: what the packets of an engagement's requests found, as far as that may be told here.

A packet in the folder was drawn from the whole trail: its numbers are told where the scope limits nothing. What the
person ran here was judged by their own scope, and is told to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from auditlib.dashboard import asked, lanes
from auditlib.dashboard.visit import Visit
from auditlib.requests.model import Request
from auditlib.requests.standing import Standing, standings
from auditlib.scoped.told import sees_all

MAX_HEADLINE_CHARS = 300


class Open(msgspec.Struct, frozen=True):
    """One request whose answer may be told: how many potential exceptions, in which sentence, and where it stands."""

    request: str
    href: str
    exceptions: int
    headline: str
    stands: str


class Exceptions(msgspec.Struct, frozen=True):
    """Requests with potential exceptions, most first; how many have none, and how many have no answer told here.

    `given`: whether there is a request list at all. `held`: whether packets stand that may not be told of.
    """

    open: tuple[Open, ...]
    without: int
    unanswered: int
    given: bool
    held: bool


def exceptions_of(visit: Visit) -> Exceptions:
    """Reads the folder of packets. RefusedError as the visit's own."""
    engagement, vault, works = visit.engagement(), visit.vault(), visit.desk.works
    if works.listed is None:
        return Exceptions((), 0, 0, False, False)
    requests = asked.offered(works.listed, engagement, vault)
    stands = standings_here(visit, requests, vault)
    whole, told, unanswered, held = sees_all(engagement), [], 0, False
    for request in requests:
        href, one = visit.link("requests", id=request.id), stands.get(request.id)
        mine = works.latest(visit.identity, engagement, vault, request.id)
        answer = mine.answer if mine is not None and mine.state == lanes.DONE else None
        if answer is not None:
            told.append(Open(request.id, href, answer.exceptions, _cut(answer.headline), "run by you, here"))
        elif one is not None and one.packet is not None and whole:
            aged = "; it may not be what the request asks today" if one.notes else ""
            packet = one.packet.told
            told.append(Open(request.id, href, packet.exceptions, _cut(packet.headline), one.words() + aged))
        else:
            unanswered += 1
            held = held or (one is not None and one.packet is not None)
    found = tuple(sorted((one for one in told if one.exceptions), key=lambda one: (-one.exceptions, one.request)))
    return Exceptions(found, len(told) - len(found), unanswered, True, held)


def standings_here(visit: Visit, requests: Sequence[Request], vault: str) -> dict[str, Standing]:
    """What stands in the folder for these requests on this vault alone, by the request's id.

    A packet of the same name that is of another trail is none of these: the engagement may not be for that trail.
    """
    works = visit.desk.works
    if works.packets is None or works.listed is None:
        return {}
    told = visit.trail().standing()
    now = {None: (told.origin, told.size), vault: (told.origin, told.size)}
    chosen = msgspec.structs.replace(works.listed, requests=tuple(requests))
    found = standings(chosen, works.packets, now)  # of requests over several trails too, whose packet is none of these
    return {one.request.id: one if _of(one, told.origin) else _none(one) for one in found}


def _none(one: Standing) -> Standing:
    return Standing(request=one.request, now=one.now)


def _of(one: Standing, origin: str) -> bool:
    return one.packet is None or {each.origin for each in one.packet.told.checkpoints} == {origin}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_HEADLINE_CHARS else text[:MAX_HEADLINE_CHARS] + "…"
