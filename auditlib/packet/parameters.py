"""A notebook's parameters: declared once, in its cell tagged `parameters`, and read from there without running it.

    since: "date" = "2026-03-01"  # first day, inclusive
    lookback_days: "int[0, 3650]" = 90  # days before `since` in which approvals are searched
    at: "int[1,] or none" = None  # read the trail at this checkpoint (number of seals); none: the newest
    authorities: "words" = ["manager", "security-lead"]  # who may approve; an empty list: not tested
    method: "choice[whole, simple]" = "whole"  # how items are drawn

    known = declared(notebook)
    values = read(known, {"lookback_days": "30"})
    check_together(with_defaults(known, values))

The types are those of `values`. A plain `name = literal` is read too, its type taken from the literal. A value never
becomes code: it is checked here, and `notebook` writes it down as a literal.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from auditlib.errors import MalformedError
from auditlib.packet.nb import nbformat
from auditlib.packet.values import Parameter, checked, meant, parse_type, parsed, shown
from auditlib.query import parse_period

MAX_CELL_CHARS = 65_536  # characters of a parameters cell; some hundred parameters with their help
_EXAMPLE = 'Write one parameter a line: lookback_days: "int[0, 3650]" = 90  # what it means'
_INFERRED: dict[type, str] = {bool: "bool", int: "int", float: "number", str: "text", list: "words"}


# --- what a notebook declares --------------------------------------------------------------------------------


def declared(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook by name, in their order; the cell is parsed, never run.

    MalformedError names the notebook, the cell's line, and what to write.
    """
    source = _cell(notebook)
    try:
        statements = ast.parse(source).body
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
    except SyntaxError as error:
        raise _at(notebook, error.lineno, f"is no Python ({error.msg}).") from None
    except (ValueError, MemoryError, RecursionError, tokenize.TokenError) as error:
        raise _at(notebook, None, f"is no Python ({error}).") from None
    found: dict[str, Parameter] = {}
    for statement in statements:
        try:
            parameter = _declaration(statement, comments.get(statement.end_lineno or 0, ""))
            if parameter.name in found:
                raise MalformedError("is declared twice.", where=parameter.name)
        except MalformedError as error:
            raise _at(notebook, statement.lineno, str(error)) from None
        found[parameter.name] = parameter
    return found


def _cell(notebook: Path) -> str:
    """The source of the first cell tagged `parameters`; empty where there is none."""
    try:
        cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
        tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", ())]
        source = str(tagged[0].source) if tagged else ""
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, nbformat.ValidationError) as e:
        raise MalformedError(f"is no notebook: {str(e).partition(chr(10))[0][:200]}", where=str(notebook)) from None
    if len(source) > MAX_CELL_CHARS:
        raise _at(notebook, None, f"holds {len(source):,} characters; {MAX_CELL_CHARS:,} are read.")
    return source


def _at(notebook: Path, line: int | None, message: str) -> MalformedError:
    place = f"{notebook}, cell tagged parameters" + (f", line {line}" if line else "")
    return MalformedError(message, where=place, remedy=_EXAMPLE)


def _declaration(statement: ast.stmt, comment: str) -> Parameter:
    """One statement of the cell -> the parameter. MalformedError says what is wrong with it."""
    match statement:
        case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Constant(value=str(text)), value=ast.expr()):
            stated: str | None = text
        case ast.Assign(targets=[ast.Name(id=name)]):
            stated = None
        case _:
            raise MalformedError("is no parameter with a type in quotes and a default.")
    if not name.isascii():
        raise MalformedError("is no name in ASCII.", where=name)
    try:
        default = ast.literal_eval(statement.value)  # type: ignore[arg-type]
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise MalformedError("its default is no literal.", where=name) from None
    default = list(default) if isinstance(default, tuple) else default
    bare = parse_type(_inferred(name, default) if stated is None else stated)
    parameter = msgspec.structs.replace(bare, name=name, default=default, help=comment.lstrip("# ").rstrip())
    if (kept := checked(parameter, default)) != default:  # "none" for None: not what the notebook would run with
        raise MalformedError(f"its default is written {kept!r}.", where=name)
    return parameter


def _inferred(name: str, default: Any) -> str:
    """The type of a plain assignment, by its literal."""
    if default is None:
        return "int[1,] or none" if name == "at" else "text or none"  # `at` is the checkpoint in every notebook
    if type(default) not in _INFERRED:
        raise MalformedError("its default is no text, number, list of texts, True, False or None.", where=name)
    return _INFERRED[type(default)]


# --- what is given -------------------------------------------------------------------------------------------


def read(declared: Mapping[str, Parameter], given: Mapping[str, str]) -> dict[str, Any]:
    """`NAME=VALUE` texts -> typed values by name, sorted; one MalformedError lists everything that is refused.

    `none` or nothing is None where that is allowed. A date stays the text that was given.
    """
    return _each(declared, given, lambda parameter, text: checked(parameter, parsed(parameter, text)))


def read_typed(declared: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """The same for values that have types already: of TOML (which has no null: write "none") or of packet.json."""
    return _each(declared, values, checked)


def with_defaults(declared: Mapping[str, Parameter], values: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter's value: what was read, else the default."""
    return {name: parameter.default for name, parameter in declared.items()} | dict(values)


def check_together(values: Mapping[str, Any]) -> None:
    """Refuse a period that is none, before anything runs: `since`, `until` or `through`, in the time zone `tz`.

    Takes the values with their defaults. A month's last day given as `until` draws the warning that queries give.
    """
    since, until, through = (values.get(name) for name in ("since", "until", "through"))
    tz = values.get("tz") or "UTC"
    if until is not None and through is not None:
        both = f"until {shown(until)} (exclusive) and through {shown(through)} (inclusive)"
        raise MalformedError(f"the period has two ends, {both}.", where="until", remedy="Give one of them.")
    start, end = parse_period(since, None, None, tz)[0], parse_period(None, until, through, tz)[1]
    for name, value, moment in (("since", since, start), ("until", until or through, end)):
        if moment is not None and moment < 0:
            raise MalformedError(f"{value} in the time zone {tz} lies before 1970 in UTC.", where=name)
    if start is not None and end is not None and start >= end:
        stated = f"until {until} (exclusive)" if through is None else f"the end of {through}"
        raise MalformedError(f"the period is empty: since {since} is not before {stated}, in the time zone {tz}.")


def _each(
    declared: Mapping[str, Parameter], given: Mapping[str, Any], check: Callable[[Parameter, Any], Any]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    refused: list[MalformedError] = []
    for name, value in given.items():
        try:
            if name not in declared:
                takes = f"It takes {', '.join(declared) or 'none'}."
                raise MalformedError(f"the notebook has no parameter {shown(name)}.{meant(name, declared)} {takes}")
            values[name] = check(declared[name], value)
        except MalformedError as error:
            refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise MalformedError(f"{len(refused)} parameters are refused. {' '.join(map(str, refused))}")
    for end, other in (("until", "through"), ("through", "until")):  # the end that was given replaces the default one
        default = declared.get(other)
        if values.get(end) is not None and default and default.optional and default.default is not None:
            values.setdefault(other, None)
    return dict(sorted(values.items()))
