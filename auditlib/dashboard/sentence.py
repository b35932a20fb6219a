"""One event as a sentence, from its fields and from what the catalogue says of its action; never more than they say.

    On 8 January 2026 at 14:32:07 UTC | user u_8842 | granted | admin | to | user u_9013 | (outcome: success).

It comes in parts, of which some are words of this library and some are the event's own: a page can tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from auditlib.formats.catalog import Action, Catalog
from auditlib.formats.times import parse_time, to_datetime

MAX_TOLD = 5  # values of one list; the rest is counted


class Part(NamedTuple):
    """Some words; `own`: they are the event's."""

    text: str
    own: bool = False


# What was done where it succeeded, and what was tried where it did not; the target follows.
_VERBS = {
    "break-glass": ("used emergency access on", "use emergency access on"),
    "break-glass-review": ("reviewed the emergency access of", "review the emergency access of"),
    "change-approval": ("approved", "approve"),
    "export": ("exported from", "export from"),
    "impersonation": ("acted as", "act as"),
    "protection-bypass": ("bypassed a protection of", "bypass a protection of"),
    "release": ("deployed a release to", "deploy a release to"),
}
_NAMED = {  # these say what only with the action's own name
    "change": ("made the change", "make the change"),
    "job": ("ran the job", "run the job"),
    "review": ("did the review", "do the review"),
}
_ALONE = {  # about the actor itself, where it is its own target
    "login": ("signed in", "sign in"),
    "logout": ("signed out", "sign out"),
}
_DECIDED = {"approved": ("approved", "approve"), "denied": ("denied", "deny"), "withdrawn": ("withdrew", "withdraw")}


def sentence(event: Mapping[str, Any], catalog: Catalog | None) -> list[Part]:
    """The sentence of an event, as its canonical JSON reads."""
    action = catalog.actions.get(event["action"]) if catalog else None
    tried = int(event["outcome"] != "success")  # which of two forms of a verb
    parts = [Part(when(event["occurred_at"])), _party(event["actor"])]
    parts += [Part("tried to")] if tried else []
    parts += _deed(event, action, tried)
    return [*parts, Part(f"(outcome: {event['outcome']}).")]


def when(text: str) -> str:
    """`On 8 January 2026 at 14:32:07 UTC`, to the second."""
    at = to_datetime(parse_time(text))
    return f"On {at.day} {at:%B} {at.year} at {at:%H:%M:%S} UTC"


def values_at(event: Mapping[str, Any], path: str) -> list[Any]:
    """What stands at a catalogue's path in an event; where it meets a list, what stands in each element."""
    found: list[Any] = [event]
    for key in path.split("."):
        found = [each.get(key) for each in _flat(found) if isinstance(each, Mapping) and key in each]
    return [each for each in _flat(found) if each is not None]


def _deed(event: Mapping[str, Any], action: Action | None, tried: int) -> list[Part]:
    """The verb and what it is about."""
    target = _party(event["target"])
    kind = action.kind if action else None
    if action is not None and kind in _SHAPES:
        told = _SHAPES[kind](event, action, tried)
        if told is not None:
            return told
    if kind in _ALONE:
        itself = (event["actor"]["type"], event["actor"]["id"]) == (event["target"]["type"], event["target"]["id"])
        return [Part(_ALONE[kind][tried]), *([] if itself else [Part("as" if kind == "login" else "of"), target])]
    if kind in _VERBS:
        return [Part(_VERBS[kind][tried]), target]
    named = _NAMED.get(kind or "", ("did", "do"))
    return [Part(named[tried]), Part(event["action"], own=True), Part("on"), target]


def _grant(event: Mapping[str, Any], action: Action, tried: int) -> list[Part] | None:
    return _moved(event, action, ("granted", "grant")[tried], "to")


def _revoke(event: Mapping[str, Any], action: Action, tried: int) -> list[Part] | None:
    return _moved(event, action, ("revoked", "revoke")[tried], "from")


def _moved(event: Mapping[str, Any], action: Action, verb: str, way: str) -> list[Part] | None:
    entitlement = _told(event, action.entitlement)
    if not entitlement:
        return None
    grantee = [_party(event["target"])] if action.grantee == "target.id" else _told(event, action.grantee)
    return [
        Part(verb),
        *entitlement,
        *([Part(way), *grantee] if grantee else [Part("on"), _party(event["target"])]),
    ]


def _request(event: Mapping[str, Any], action: Action, tried: int) -> list[Part] | None:
    entitlement, grantee = _told(event, action.entitlement), _told(event, action.grantee)
    if not entitlement:
        return None
    return [Part(("asked for", "ask for")[tried]), *entitlement, *([Part("for"), *grantee] if grantee else [])]


def _decision(event: Mapping[str, Any], action: Action, tried: int) -> list[Part] | None:
    verb = _DECIDED.get(action.decision or "")
    if verb is None:
        return None
    entitlement, grantee = _told(event, action.entitlement), _told(event, action.grantee)
    more = [Part("for"), *entitlement, *([Part("to"), *grantee] if grantee else [])] if entitlement else []
    return [Part(verb[tried]), _party(event["target"]), *more]


_SHAPES: dict[str, Callable[[Mapping[str, Any], Action, int], list[Part] | None]] = {
    "grant": _grant,
    "revoke": _revoke,
    "request": _request,
    "approval": _decision,
}


def _told(event: Mapping[str, Any], path: str | None) -> list[Part]:
    """Plain values at a path, a part each; objects are not guessed at."""
    values = [each for each in values_at(event, path) if isinstance(each, str | int | float)] if path else []
    parts: list[Part] = []
    for number, value in enumerate(values[:MAX_TOLD]):
        parts += [Part("and")] if number else []
        parts.append(Part(str(value), own=True))
    return parts + ([Part(f"and {len(values) - MAX_TOLD:,} more")] if len(values) > MAX_TOLD else [])


def _party(party: Mapping[str, Any]) -> Part:
    return Part(f"{party['type']} {party['id']}", own=True)


def _flat(values: list[Any]) -> list[Any]:
    return [inner for each in values for inner in (_flat(each) if isinstance(each, list) else [each])]
