"""Open exceptions: what the packets of an engagement's requests found, as far as that may be told here.

A packet in the folder was drawn from the whole trail: its numbers are told where the scope limits nothing. What the
person ran here was judged by their own scope, and is told to them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from auditlib.dashboard import asked, lanes
from auditlib.dashboard.visit import Visit
from auditlib.requests.model import RequestList
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
    stands = _standings(visit, works.listed, requests, vault)
    whole, origin, told, unanswered, held = sees_all(engagement), visit.trail().standing().origin, [], 0, False
    for request in requests:
        href, one = visit.link("requests", id=request.id), stands.get(request.id)
        mine = works.latest(visit.identity, engagement, vault, request.id)
        answer = mine.answer if mine is not None and mine.state == lanes.DONE else None
        if answer is not None:
            told.append(Open(request.id, href, answer.exceptions, _cut(answer.headline), "run by you, here"))
        elif one is not None and one.packet is not None and whole and _of_this(one, origin):
            aged = "; it may not be what the request asks today" if one.notes else ""
            packet = one.packet.told
            told.append(Open(request.id, href, packet.exceptions, _cut(packet.headline), one.words() + aged))
        else:
            unanswered += 1
            held = held or (one is not None and one.packet is not None)
    found = tuple(sorted((one for one in told if one.exceptions), key=lambda one: (-one.exceptions, one.request)))
    return Exceptions(found, len(told) - len(found), unanswered, True, held)


def _of_this(one: Standing, origin: str) -> bool:
    """A packet of the same name may be of a trail that the engagement is not for."""
    return one.packet is not None and {each.origin for each in one.packet.told.checkpoints} == {origin}


def _standings(visit: Visit, listed: RequestList, requests: Sequence[object], vault: str) -> dict[str, Standing]:
    """What stands in the folder, for these requests on this vault alone."""
    packets = visit.desk.works.packets
    if packets is None:
        return {}
    told = visit.trail().standing()
    now = {None: (told.origin, told.size), vault: (told.origin, told.size)}
    chosen = msgspec.structs.replace(listed, requests=tuple(requests))
    return {one.request.id: one for one in standings(chosen, packets, now) if one.trail in (None, vault)}


def _cut(text: str) -> str:
    return text if len(text) <= MAX_HEADLINE_CHARS else text[:MAX_HEADLINE_CHARS] + "…"
