"""What may be asked, as it comes from a browser: every part is hostile until it is bounded here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.catalog import Catalog
from auditlib.query import Filter, Moment, Values, Where, build_filter

MAX_VALUES = 100  # of one filter
MAX_VALUE_CHARS = 1_200  # characters: an id of 1,024 bytes with its type of 128, and a colon (DESIGN 4.1)
MAX_STARS = 8  # of one glob; each may make the engine look at a text once more
MAX_PATHS = 8  # into the context
MAX_MOMENT_CHARS = 64  # characters of a time, a day or a zone
NOTHING = ("",)  # no record has an empty action


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A search: each filter a value, a list or a glob, as `Trail.events` takes them. Nothing given asks for all."""

    kind: Values = None
    action: Values = None
    actor: Values = None
    target: Values = None
    outcome: Values = None
    source: Values = None
    since: Moment = None
    until: Moment = None
    through: Moment = None
    where: Where | None = None
    tz: str = "UTC"

    def kinds(self) -> tuple[str, ...]:
        """The kinds asked for; none where it was not asked by kind."""
        return () if self.kind is None else (self.kind,) if isinstance(self.kind, str) else tuple(self.kind)

    def filter(self, catalog: Catalog | None) -> Filter:
        """MalformedError for what is too long, too much, or no question."""
        for name in ("kind", "action", "actor", "target", "outcome", "source"):
            if getattr(self, name) is not None:
                _check_values(name, getattr(self, name), str)
        for name in ("since", "until", "through", "tz"):
            given = getattr(self, name)
            if isinstance(given, str) and len(given) > MAX_MOMENT_CHARS:
                raise MalformedError(f"more than {MAX_MOMENT_CHARS} characters are not read.", where=name)
        zone: Any = self.tz
        if not isinstance(zone, str):
            raise MalformedError("give a time zone like UTC or Europe/Berlin.", where="tz")
        where: Any = self.where
        if where is not None:
            if not isinstance(where, Mapping) or len(where) > MAX_PATHS:
                raise MalformedError(f"give at most {MAX_PATHS} paths into the context.", where="where")
            for path, value in where.items():
                _check_values("where", path, str)
                _check_values("where", value, str | int | float)
        names = ("action", "actor", "target", "outcome", "source", "since", "until", "through", "where", "tz")
        return by_kinds(catalog, self.kinds(), **{name: getattr(self, name) for name in names})


def by_kinds(catalog: Catalog | None, kinds: tuple[str, ...], **asked: Any) -> Filter:
    """`build_filter` with kinds, of which one that is not known holds nothing: what is known here is not told."""
    known = [kind for kind in kinds if catalog is not None and kind in catalog.kinds]
    built = build_filter(catalog, kind=known or None, **asked)
    return msgspec.structs.replace(built, actions=NOTHING) if kinds and not known else built


def _check_values(where: str, given: Any, kinds: Any) -> None:
    values = given if isinstance(given, list | tuple) else [given]
    if not 0 < len(values) <= MAX_VALUES:
        raise MalformedError(f"give 1 to {MAX_VALUES} values.", where=where)
    for value in values:
        if not isinstance(value, kinds):
            raise MalformedError("give a value, a list of values, or a glob like role.*", where=where)
        if isinstance(value, str) and len(value) > MAX_VALUE_CHARS:
            raise MalformedError(f"more than {MAX_VALUE_CHARS:,} characters are not read.", where=where)
        if isinstance(value, str) and value.count("*") > MAX_STARS:
            raise MalformedError(f"at most {MAX_STARS} stars in one glob.", where=where)
