"""Several trails asked the same question: each is answered by itself, and the answers are put together.

    trails = Trails([trail, other])                  in byte order of their origins
    answer = evidence.role_grants(trails, since="2026-03-01", until="2026-06-01")
    answer.items                                     each trail's own, under its name
    answer.answer()                                  one answer, see `joining`

`over_trails` makes a function that answers for one trail answer for several as well; a notebook does not see which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, wraps
from html import escape
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

import msgspec
import pandas as pd

from auditlib.errors import AuditlibError, MalformedError
from auditlib.evidence.answer import Answer
from auditlib.evidence.examined import Examined, Words
from auditlib.evidence.joining import joined
from auditlib.evidence.responses import responses_to
from auditlib.sampling import Rule
from auditlib.trail import Keys, Selection, Trail
from auditlib.trail import open as open_trail

MAX_TRAILS = 20  # of one packet; requests.toml names no more for a request
P = ParamSpec("P")
A_co = TypeVar("A_co", covariant=True)
A = TypeVar("A")


class Parts:
    """Something of each trail, by origin."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.parts = dict(parts)


class Trails(Parts):
    """Several open trails in byte order of their origins; use it as a context manager, or `close()` it.

    MalformedError where two are of one origin: that is one trail, and its items would count twice.
    """

    def __init__(self, trails: Iterable[Trail]) -> None:
        every = sorted(trails, key=lambda trail: trail.origin)
        super().__init__({trail.origin: trail for trail in every})
        if not 2 <= len(every) <= MAX_TRAILS:
            raise MalformedError(f"several trails are 2 to {MAX_TRAILS}; {len(every)} were given.")
        if len(self.parts) != len(every):
            raise MalformedError(
                f"two of the vaults hold one trail ({', '.join(trail.origin for trail in every)}).",
                remedy="Name each trail once.",
            )

    @property
    def trails(self) -> list[Trail]:
        """The trails, in their order."""
        return list(self.parts.values())

    def events(self, **filters: Any) -> Parts:
        """A selection of each trail, as `Trail.events`; for `event_list`."""
        return Parts({origin: trail.events(**filters) for origin, trail in self.parts.items()})

    def close(self) -> None:
        """Give the verified copies back."""
        for trail in self.trails:
            trail.close()

    def __enter__(self) -> Trails:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Trails({', '.join(self.parts)})"

    def _repr_html_(self) -> str:
        return Each(self.parts)._repr_html_()


def open_trails(
    places: Sequence[tuple[str, Keys]],
    at: Sequence[int | None],
    opened: Callable[[str, Keys, int | None], Trail] | None = None,
) -> Trails:
    """Open the vaults, (place, keys) each, at these checkpoints (None: the newest); `opened` opens one, if not `open`.

    Raises as `auditlib.open` does. The keys of all of them may be given for each: opening refuses a checkpoint signed
    by one that its own trail's documents do not name (check 0).
    """
    trails: list[Trail] = []
    try:
        for (vault, keys), size in zip(places, at, strict=True):
            trails.append((opened or _open)(vault, keys, size))
        return Trails(trails)
    except BaseException:
        for trail in trails:
            trail.close()
        raise


def _open(vault: str, keys: Keys, at: int | None) -> Trail:
    return open_trail(vault, keys=keys, at=at)


class Each(Parts):
    """What each trail's answer has, shown trail by trail; its attributes and items are each part's own."""

    def __getattr__(self, name: str) -> Each:
        if name.startswith("_"):  # a display asks what it can be shown as; nobody's own name begins so
            raise AttributeError(name)
        return Each({origin: getattr(part, name) for origin, part in self.parts.items()})

    def __getitem__(self, key: Any) -> Each:
        return Each({origin: part[key] for origin, part in self.parts.items()})

    def __repr__(self) -> str:
        return "\n\n".join(f"{origin}\n{part!r}" for origin, part in self.parts.items())

    def _repr_html_(self) -> str:
        return "".join(f"<h4>{escape(origin)}</h4>{_html(part)}" for origin, part in self.parts.items())


class Across:
    """The answers of several trails: whatever is shown of them is shown for each, under its name."""

    def __init__(self, parts: Mapping[str, Any], rule: Rule | None) -> None:
        self.parts, self._rule = dict(parts), rule
        self._strange = _strange([part for part in parts.values() if isinstance(part, Examined)])

    def __getattr__(self, name: str) -> Any:
        return getattr(Each(self.parts), name)

    @property
    def population(self) -> Words:
        """How the items were drawn and judged, and how a sample was drawn from all of them."""
        return Words(self._answer.procedure, plain=True)

    @property
    def conclusion(self) -> Words:
        """Facts in plain words, over all and of each."""
        return Words([self._answer.headline, *self._answer.conclusion])

    @cached_property
    def _answer(self) -> Answer:
        answers = {origin: part.answer() for origin, part in self.parts.items()}
        return joined(answers, self._rule, self._strange)

    def answer(self) -> Answer:
        """Everything a packet holds of it."""
        return self._answer

    def submit(self) -> None:
        """Hand the answer to the packet builder, where one is waiting."""
        self._answer.submit()


class Asked(Protocol[P, A_co]):
    """A function that answers for one trail, or for several."""

    @overload
    def __call__(self, trail: Trail | Selection, /, *args: P.args, **more: P.kwargs) -> A_co: ...
    @overload
    def __call__(self, trail: Parts, /, *args: P.args, **more: P.kwargs) -> Across: ...


def over_trails(function: Callable[Concatenate[Any, P], A]) -> Asked[P, A]:
    """Let a function that answers for one trail (or a selection of one) answer for several.

    A sample is drawn once, over the items of all trails. An error names the trail that it is of.
    """

    @wraps(function)
    def asked(trail: Any, /, *args: Any, **more: Any) -> Any:
        if not isinstance(trail, Parts):
            return function(trail, *args, **more)
        rule = more.pop("sample", None)
        found = {}
        for origin, part in trail.parts.items():
            try:
                found[origin] = function(part, *args, **more)
            except AuditlibError as error:
                raise error.at(origin) from None
        return Across(found, rule)

    return asked


def _strange(parts: list[Examined]) -> list[str]:
    """What is to be said of responses to items that no trail has; no single trail's answer can know."""
    if not parts or any(part.responses is None for part in parts):
        return []
    said = responses_to(pd.concat([part.found.items[["item", "verdict"]] for part in parts]))
    for part in parts:
        if part.responses is not None:
            part.responses = msgspec.structs.replace(part.responses, strange=0)
    return said.sentences()[1:] if said else []


def _html(part: Any) -> str:
    """As a notebook shows it."""
    for way in ("_repr_html_", "_repr_svg_"):
        shown = getattr(part, way, None)
        if shown is not None and (text := shown()) is not None:
            return str(text)
    return "<p>Nothing to show.</p>" if part is None else f"<pre>{escape(repr(part))}</pre>"
