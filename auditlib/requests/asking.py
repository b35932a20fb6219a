"""A request and a period -> what its notebook is asked. Everything is refused here, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from auditlib.errors import MalformedError
from auditlib.packet.notebook import find_notebook
from auditlib.packet.parameters import check_together, declared, read_typed, with_defaults
from auditlib.packet.values import Parameter
from auditlib.query import parse_period
from auditlib.requests.model import Request, Sample


class Span(msgspec.Struct, frozen=True):
    """A period as it was written: the first day, and the day after the last."""

    since: str
    until: str


def parse_span(text: str) -> Span:
    """`2026-03-01/2026-06-01` -> the period. MalformedError where it is none."""
    since, slash, until = text.partition("/")
    if not slash or not since or not until:
        raise MalformedError(
            f"{text[:80]!r} is no period; write the first day and the day after the last: 2026-03-01/2026-06-01.",
            where="--period",
        )
    try:
        parse_period(since, until)
    except MalformedError as error:
        raise error.at("--period") from None
    return Span(since, until)


def notebook_of(request: Request, folder: Path) -> Path:
    """The request's notebook: one of the library's, or a file below the list's folder."""
    if not request.notebook.endswith(".ipynb"):
        return find_notebook(request.notebook)
    path = folder / request.notebook
    if not path.is_file():
        raise MalformedError("there is no such notebook.", where=str(path))
    return find_notebook(str(path))


def ask(request: Request, folder: Path, span: Span | None, at: int | None = None) -> tuple[Path, dict[str, Any]]:
    """The request's notebook and the values of its parameters, typed, by name.

    The period is that of the list unless the request fixes its own; `at` is the checkpoint, likewise. MalformedError
    for a parameter that the notebook does not declare or refuses, a period that is none, or none at all.
    """
    notebook = notebook_of(request, folder)
    known = declared(notebook)
    given = fixed(request, known)
    given |= _period(given, known, span)
    if at is not None and "at" in known and "at" not in given:
        given["at"] = at
    values = read_typed(known, given)
    check_together(with_defaults(known, values))
    return notebook, values


def fixed(request: Request, known: Mapping[str, Parameter]) -> dict[str, Any]:
    """The values that the request itself fixes, whatever the period: its parameters and its sample size rule."""
    return {**request.parameters, **_sample(request.sample, known)}


def as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Typed values as `packet build -p NAME=VALUE` takes them."""
    return {name: _text(value) for name, value in values.items()}


def _period(given: Mapping[str, Any], known: Mapping[str, Parameter], span: Span | None) -> dict[str, Any]:
    ends = given.keys() & {"until", "through"}
    open_ends = [
        name for name in ("since", "until") if name in known and name not in given and not (name == "until" and ends)
    ]
    if open_ends and span is None:
        raise MalformedError(
            f"it has no period: {' and '.join(open_ends)} is not fixed.",
            remedy="Give --period 2026-03-01/2026-06-01, or fix it under the request's parameters.",
        )
    return {name: getattr(span, name) for name in open_ends}


def _sample(sample: Sample | None, known: Mapping[str, Parameter]) -> dict[str, Any]:
    """The sample size rule as the notebook's parameters sample_method, sample_size, sample_strata, sample_word."""
    stated = (
        {} if sample is None else {f"sample_{name}": value for name, value in msgspec.structs.asdict(sample).items()}
    )
    stated = {name: value for name, value in stated.items() if value is not None}
    missing = [name for name in stated if name not in known]
    if missing:
        raise MalformedError(
            f"its notebook draws no such sample: it declares no {', '.join(missing)}.",
            remedy="Leave the sample out, or choose a notebook that samples.",
        )
    return stated


def _text(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else str(value)
