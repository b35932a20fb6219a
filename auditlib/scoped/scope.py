"""An engagement as it stands now -> what limits every statement, and the words that say so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from auditlib.engagements import Engagement, in_words, why_not
from auditlib.engagements.words import limits_in_words
from auditlib.errors import MalformedError
from auditlib.formats.seal import Seal
from auditlib.formats.times import parse_time
from auditlib.packet.redaction import check_fields
from auditlib.query import Filter, parse_moment, zone_of
from auditlib.scoped.question import NOTHING, Question, by_kinds
from auditlib.scoped.reading import Dated
from auditlib.scoped.redact import context_paths, meets
from auditlib.trail import Trail

_NOT_NOW = "You have no access here now."


class RefusedError(MalformedError):
    """It was asked for by somebody who may not have it (exit code 2)."""


class Asked(msgspec.Struct, frozen=True):
    """A question within the scope: the condition, its parameters, the batches that can answer, newest first."""

    condition: str
    values: list[Any]
    batches: list[Dated]
    narrowed: tuple[str, ...]
    about: bytes  # what a cursor is good for


class Scope:
    """One engagement on one trail."""

    def __init__(self, trail: Trail, engagement: Engagement, name: str) -> None:
        """RefusedError where the engagement is not for this vault, MalformedError where it cannot be kept here."""
        url = trail.history.vault.url
        if not any(same_vault(vault, (trail.origin, name, url)) for vault in engagement.vaults):
            raise RefusedError("This engagement is not for this vault.")
        self.engagement = engagement
        self.words = tuple(in_words(engagement))
        self.fields = check_fields(engagement.redact, trail.catalog)
        self._catalog, self._origin = trail.catalog, trail.origin
        self._filter = _limits(trail, engagement)
        self.batches = sorted(
            (
                Dated(parse_time(seal.recorded[1]), parse_time(seal.recorded[0]), seal)
                for seal in trail.seals
                if self._filter.may_hold(seal)
            ),
            key=lambda dated: (dated.last, dated.seal.sequence),
            reverse=True,
        )

    def ask(self, question: Question) -> Asked:
        """MalformedError for what is no question, RefusedError for one about a field that is left out."""
        asked = self.filter(question)
        condition, values = asked.sql()
        about = msgspec.json.encode([self._origin, self.engagement, asked])
        return self.within(condition, values, asked.may_hold, self._narrowed(question, asked), about)

    def filter(self, question: Question) -> Filter:
        """What the question means by itself. Raises as `ask`."""
        asked = question.filter(self._catalog)
        hidden = context_paths(self.fields)
        for path, _ in asked.where:
            if meets(path, hidden):
                raise RefusedError("this field is left out, and cannot be asked about.", where=".".join(path)[:80])
        return asked

    @property
    def period(self) -> tuple[int | None, int | None]:
        """The first moment, and the first after it (microseconds since 1970 UTC); None is open."""
        return self._filter.since, self._filter.until

    def within(
        self,
        condition: str,
        values: list[Any],
        may_hold: Callable[[Seal], bool] | None = None,
        narrowed: tuple[str, ...] = (),
        about: bytes = b"",
    ) -> Asked:
        """A condition of this library's own, with the scope before it.

        A seal says for all events of its batch which actions and sources they have, and from when to when. Where the
        scope limits the events, the time that an answer takes would tell that: then no batch of the scope is left out.
        """
        scope, limits = self._filter.sql()
        by_seal = None if limits_in_words(self.engagement) else may_hold
        batches = [dated for dated in self.batches if by_seal is None or by_seal(dated.seal)]
        return Asked(f"({scope}) AND ({condition})", [*limits, *values], batches, narrowed, about)

    def _narrowed(self, question: Question, asked: Filter) -> tuple[str, ...]:
        """How the answer is less than what was asked: said from the scope and the question alone, not from events."""
        left_out = (f"Left out of every event: {', '.join(self.fields)}.",) if self.fields else ()
        return (*self._outside(question, asked), *left_out)

    def outside(self, question: Question) -> tuple[str, ...]:
        """The limits, in sentences, that a question asks past; none where every event it asks for is in the scope."""
        return self._outside(question, self.filter(question))

    def _outside(self, question: Question, asked: Filter) -> tuple[str, ...]:
        scope, words, told = self._filter, limits_in_words(self.engagement), []
        early = scope.since is not None and (asked.since is None or asked.since < scope.since)
        if early or (scope.until is not None and (asked.until is None or asked.until > scope.until)):
            told.append(words["period"])
        if not _inside(asked.actions, scope.actions, covers):
            told += [words[name] for name in ("kinds", "actions") if name in words]
        if not _inside(asked.targets, scope.targets, _covers_party):
            told.append(words["targets"])
        if not _inside(asked.sources, scope.sources, covers):
            told.append(words["streams"])
        for kind in question.kinds():
            actions = self._catalog.kinds.get(kind, ()) if self._catalog else ()
            if not any(_inside((action,), scope.actions, covers) for action in actions):
                told.append(f"No action of the kind {kind!r} is within the scope.")
        return tuple(told)


def check_now(engagement: Engagement | None, now: int) -> Engagement:
    """The engagement, if it may be used now; RefusedError says why not."""
    if engagement is None:
        raise RefusedError(_NOT_NOW)
    reason = why_not(engagement, now)
    if reason:
        raise RefusedError(reason)
    return engagement


def covers(glob: str, other: str) -> bool:
    """Whether every text that `other` (a text or a glob) fits is one that `glob` fits; in doubt, no."""
    at = place = 0
    star, mark = -1, 0
    while place < len(other):
        if at < len(glob) and glob[at] == "*":
            star, mark = at, place
            at += 1
        elif at < len(glob) and other[place] != "*" and glob[at] in ("?", other[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            mark += 1
            at, place = star + 1, mark
        else:
            return False
    return not glob[at:].strip("*")


def _covers_party(glob: str, other: str) -> bool:
    """The same for `id` or `type:id`, where a text with a colon reads both ways."""
    kind, colon, rest = other.partition(":")
    if not covers(glob, other):
        return False
    if not (colon and kind and rest):
        return True
    outer, there, inner = glob.partition(":")
    return covers(glob, rest) or bool(there and outer and inner and covers(outer, kind) and covers(inner, rest))


def _inside(asked: Sequence[str] | None, scope: Sequence[str] | None, holds: Callable[[str, str], bool]) -> bool:
    if scope is None or asked == NOTHING:
        return True
    return asked is not None and all(any(holds(glob, value) for glob in scope) for value in asked)


def _limits(trail: Trail, engagement: Engagement) -> Filter:
    """The scope as a filter; an empty list limits nothing, a kind that is not known holds nothing."""
    zone = zone_of("UTC")
    built = by_kinds(
        trail.catalog,
        engagement.kinds,
        action=engagement.actions or None,
        target=engagement.targets or None,
        source=[each for stream in engagement.streams for each in instances(stream)] or None,
    )
    since = None if engagement.since is None else parse_moment(engagement.since, zone, "since")
    until = None if engagement.until is None else parse_moment(engagement.until, zone, "until")
    return msgspec.structs.replace(built, since=since, until=until)


def instances(stream: str) -> tuple[str, ...]:
    """A stream as globs of sources: with its instance, or all of its instances."""
    return (stream,) if "/" in stream else (stream, f"{stream}/*")


def same_vault(vault: str, names: Sequence[str]) -> bool:
    """The server's name, the origin or the address; of a directory however it is spelled."""
    local = [text.removeprefix("file://") for text in (vault, names[-1])]
    return (vault != "" and vault in names) or (
        "://" not in "".join(local) and Path(local[0]).resolve() == Path(local[1]).resolve()
    )
