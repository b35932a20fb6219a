"""One engagement: an identity, what it may see, and from when to when it may look."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Literal, get_args

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.catalog import Catalog
from auditlib.formats.times import parse_time
from auditlib.packet.redaction import check_fields
from auditlib.query import parse_period

MAX_LISTED = 100  # names or globs in one list
MAX_EXPORT_ROWS = 1_048_575  # rows; with the heading, one worksheet (Excel specifications and limits)
DEFAULT_EXPORT_ROWS = 10_000

Role = Literal["auditor", "analyst", "admin"]
ROLES: tuple[str, ...] = get_args(Role)
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]  # no control chars
Lines = Annotated[tuple[Line, ...], msgspec.Meta(max_length=MAX_LISTED)]
_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", re.ASCII)


class Engagement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """An access. `actions`, `kinds`, `targets`, `streams` limit the events (globs; an empty list limits nothing);
    `requests` are those that may be run (globs; an empty list allows none); `proofs`: whether an event's proof may be
    seen, which shows the seal of a batch and so counts what lies outside the scope; times are RFC 3339 text, `since`
    and `until` may be days (UTC) and bound `occurred_at`. A stream is a source without its instance, or with it.
    """

    id: Line
    identity: Line
    role: Role
    vaults: Annotated[tuple[Line, ...], msgspec.Meta(min_length=1, max_length=MAX_LISTED)]
    since: Line | None = None
    until: Line | None = None
    actions: Lines = ()
    kinds: Lines = ()
    targets: Lines = ()
    streams: Lines = ()
    redact: Lines = ()
    requests: Lines = ()
    proofs: bool = False
    rows_per_export: Annotated[int, msgspec.Meta(ge=0, le=MAX_EXPORT_ROWS)] = DEFAULT_EXPORT_ROWS
    valid_from: Line
    valid_until: Line
    set_by: Line
    set_at: Line
    revoked_at: Line | None = None
    revoked_by: Line | None = None
    reason: Line | None = None

    @property
    def validity(self) -> tuple[int, int]:
        """From (inclusive) and until (exclusive), in microseconds since 1970 UTC."""
        return parse_time(self.valid_from), parse_time(self.valid_until)

    def holds(self, now: int) -> bool:
        """Whether it may be used now. Revoked is revoked, whatever time the revocation names."""
        start, end = self.validity
        return self.revoked_at is None and start <= now < end


def current(engagements: Iterable[Engagement], identity: str, now: int) -> list[Engagement]:
    """The engagements of exactly this identity that hold now, in the file's order; `now` in microseconds."""
    return [engagement for engagement in engagements if engagement.identity == identity and engagement.holds(now)]


def check_engagement(engagement: Engagement, catalog: Catalog | None = None) -> Engagement:
    """The same engagement, or MalformedError for what its types do not say: the id, times, fields, kinds.

    With a catalogue, its kinds must be known there, and no field left out may be one that answers rest on.
    """
    if not _ID.fullmatch(engagement.id):
        raise MalformedError(
            f"{engagement.id[:80]!r} is no id; write 1 to 64 letters, digits, dots, dashes and underscores.", where="id"
        )
    parse_period(engagement.since, engagement.until)
    for name in ("valid_from", "valid_until", "set_at", "revoked_at"):
        text = getattr(engagement, name)
        if text is not None:
            try:
                parse_time(text)
            except MalformedError as error:
                raise error.at(name) from None
    start, end = engagement.validity
    if start >= end:
        raise MalformedError("it ends before it begins.", where="valid_until")
    check_fields(engagement.redact, catalog)
    if catalog is not None:
        catalog.actions_of(engagement.kinds)
    return engagement
