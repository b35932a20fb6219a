"""The action catalogue: what each action means, so that evidence can ask by kind (DESIGN 4.1).

    format = "auditlib/catalog/v1"

    [actions."role.grant"]
    kind = "grant"
    privileged = true
    criteria = ["CC6.2", "CC6.3"]
    required = ["granted_role"]
    entitlement = "context.granted_role"
    grantee = "target.id"
    request = "context.request_id"

An event of a listed action without its required context keys is refused; an unlisted action is accepted and
reported. A path is `actor.id`, `target.id`, `actor.type`, `occurred_at` or `context.` and dotted keys; where it
meets an array it yields every element, so that one event can hold several items.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cached_property

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.event import NAME, Event

CATALOG_FORMAT = "auditlib/catalog/v1"
MAX_CATALOG_BYTES = 1024 * 1024  # bytes; some thousand actions

_PATH = re.compile(r"(actor\.(id|type|session)|target\.(id|type)|occurred_at|context(\.[^.\s'\"$\[\]*]+)+)")


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One action: its kind, what its context must hold, and where the facts of a grant or an approval stand."""

    kind: str
    privileged: bool = False
    criteria: tuple[str, ...] = ()  # TSC 2017, like CC6.3
    required: tuple[str, ...] = ()  # context keys without which an event of this action is refused
    entitlement: str | None = None  # path: what is granted, revoked, requested or approved
    grantee: str | None = None  # path: who gets, loses, asks for or leaves
    request: str | None = None  # path: the request id that ties grant and approval
    requester: str | None = None  # path: who asked, on a request or an approval
    requested_at: str | None = None  # path: when it was asked for (RFC 3339 text)
    valid_from: str | None = None  # path: from when a grant or an approval holds
    valid_until: str | None = None  # path: until when a grant or an approval holds
    uses: str | None = None  # path: how many grants an approval covers
    authority: str | None = None  # path: by which role the approver approved
    emergency: str | None = None  # path: true where a grant was made as an emergency
    decision: str | None = None  # of an approval: approved, denied or withdrawn

    def paths(self) -> dict[str, str]:
        """The names of the paths that this action declares, and the paths."""
        return {name: path for name in PATHS if (path := getattr(self, name)) is not None}


PATHS = (
    "entitlement",
    "grantee",
    "request",
    "requester",
    "requested_at",
    "valid_from",
    "valid_until",
    "uses",
    "authority",
    "emergency",
)
DECISIONS = ("approved", "denied", "withdrawn")


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    actions: dict[str, Action]


class Catalog:
    """A parsed catalogue: its bytes, their SHA-256, and the actions by name."""

    def __init__(self, data: bytes, actions: Mapping[str, Action]) -> None:
        self.data = data
        self.sha256 = hashlib.sha256(data).hexdigest()
        self.actions = dict(sorted(actions.items()))

    @cached_property
    def kinds(self) -> dict[str, tuple[str, ...]]:
        """Each kind and its actions, both sorted."""
        found: dict[str, list[str]] = {}
        for name, action in self.actions.items():
            found.setdefault(action.kind, []).append(name)
        return {kind: tuple(names) for kind, names in sorted(found.items())}

    @property
    def privileged(self) -> tuple[str, ...]:
        """The actions marked as privileged, sorted."""
        return tuple(name for name, action in self.actions.items() if action.privileged)

    def actions_of(self, kinds: str | Iterable[str]) -> tuple[str, ...]:
        """The actions of one or several kinds; MalformedError names the closest kind where one is unknown."""
        wanted = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        for kind in wanted:
            if kind not in self.kinds:
                near = get_close_matches(kind, self.kinds, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise MalformedError(
                    f"no action of kind {kind!r} is in the catalogue.{hint} It knows {', '.join(self.kinds)}."
                )
        return tuple(sorted({name for kind in wanted for name in self.kinds[kind]}))

    def check(self, event: Event) -> None:
        """MalformedError where the event's action is listed and its required context is not there."""
        self.check_keys(event.action, event.context)

    def check_keys(self, action: str, context: Mapping[str, object]) -> None:
        """The same for an action and its context alone."""
        entry = self.actions.get(action)
        if entry is None:
            return
        missing = [key for key in entry.required if key not in context]
        if missing:
            raise MalformedError(
                f"{action} needs {', '.join(missing)} in its context.",
                where="context",
                remedy="Record the state that made the action privileged, or change the catalogue.",
            )


def parse_catalog(data: bytes) -> Catalog:
    """TOML bytes -> a Catalog. Raises MalformedError that names the line or the action and field."""
    document = _decode(data)
    if document.format != CATALOG_FORMAT:
        raise MalformedError(f"format is {document.format!r}; this version reads {CATALOG_FORMAT!r}.")
    for name, action in document.actions.items():
        _check_action(name, action)
    return Catalog(data, document.actions)


def extend_catalog(base: Catalog, extension: bytes) -> Catalog:
    """The base catalogue and a user's own `[actions."..."]` tables after it, as one new catalogue.

    The extension holds actions alone; an action the base has already is refused, so that no file can quietly
    change what a built-in action means.
    """
    try:
        tables = msgspec.toml.decode(extension)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedError(f"not valid TOML: {error}.") from None
    others = sorted(set(tables) - {"actions"})
    if others or not isinstance(tables.get("actions", {}), dict):
        raise MalformedError(f'it may only hold [actions."..."] tables, not {", ".join(others or tables)}.')
    twice = sorted(set(tables.get("actions", {})) & set(base.actions))
    if twice:
        raise MalformedError(f"{', '.join(twice)} is built in already; name your action otherwise.")
    return parse_catalog(base.data.rstrip(b"\n") + b"\n\n" + extension.lstrip())


def _decode(data: bytes) -> _Document:
    if len(data) > MAX_CATALOG_BYTES:
        raise MalformedError(f"{len(data):,} bytes; a catalogue has at most {MAX_CATALOG_BYTES:,}.")
    try:
        return msgspec.toml.decode(data, type=_Document)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise MalformedError(f"not a catalogue: {error}.") from None


def _check_action(name: str, action: Action) -> None:
    if not NAME.fullmatch(name) or not NAME.fullmatch(action.kind):
        raise MalformedError("names and kinds are 1 to 128 characters of a-z 0-9 _ . : / -.", where=f"actions.{name}")
    for field, path in action.paths().items():
        if not _PATH.fullmatch(path):
            raise MalformedError(
                f"{path!r} is no path; write actor.id, target.id or context.key.key.",
                where=f"actions.{name}.{field}",
            )
    if action.kind == "approval" and action.decision not in DECISIONS:
        raise MalformedError(f"an approval says one of {', '.join(DECISIONS)}.", where=f"actions.{name}.decision")
