"""Parameters cannot hurt: what is wrong is refused before anything runs, and no value becomes code."""

from __future__ import annotations

import datetime as dt
import json
import sys
import types
from pathlib import Path
from typing import Any

import hypothesis
import nbformat
import pytest
from command_line import command
from hypothesis import strategies as st
from packets import ROOT, SAMPLE_KEY, sample_vault

from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical, parse_json
from auditlib.packet.build import build_packet
from auditlib.packet.notebook import INJECTED, execute
from auditlib.packet.parameters import MAX_CELL_CHARS, check_together, declared, read, read_typed, with_defaults
from auditlib.packet.values import MAX_VALUE_CHARS, Parameter, parse_type

EVERY = """\
# what is asked
since: "date" = "2026-03-01"  # first day, inclusive
until: "date or none" = "2026-06-01"  # day after the last
through: "date or none" = None
tz: "zone" = "UTC"
days: "int[0, 3650]" = 90  # days before `since`
at: "int[1,] or none" = None
rate: "number[0, 1]" = 0.5
name: "text" = "admin"
what: "text or none" = "admin"  # none: #1, and all

roles: "words" = [
    "manager",  # of a team
    "security-lead",
]  # who may approve
strict: "bool" = False
method: "choice[whole, simple, by month] or none" = "whole"
"""


def notebook_of(folder: Path, cell: str = EVERY, *more: str, name: str = "asked") -> Path:
    """A notebook whose parameters cell is `cell`, followed by code cells."""
    first = nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, more)])
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parameter]:
    return declared(notebook_of(tmp_path_factory.mktemp("known")))


# --- what a notebook declares --------------------------------------------------------------------------------


def test_each_parameter_is_declared_once_with_type_default_and_help(known: dict[str, Parameter]) -> None:
    """In the order of the cell; the default is spelled as the command line takes it; help is the comment at the end."""
    told = {name: (each.type_words(), each.example, each.help) for name, each in known.items()}
    assert told == {
        "since": ("day or time", "2026-03-01", "first day, inclusive"),
        "until": ("day or time, or none", "2026-06-01", "day after the last"),
        "through": ("day or time, or none", "none", ""),
        "tz": ("time zone", "UTC", ""),
        "days": ("whole number, 0 to 3650", "90", "days before `since`"),
        "at": ("whole number, at least 1, or none", "none", ""),
        "rate": ("number, 0 to 1", "0.5", ""),
        "name": ("text", "admin", ""),
        "what": ("text, or none", "admin", "none: #1, and all"),
        "roles": ("texts joined by commas", "manager,security-lead", "who may approve"),
        "strict": ("true or false", "false", ""),
        "method": ("whole, simple, by month, or none", "whole", ""),
    }
    assert known["roles"].default == ["manager", "security-lead"] and known["strict"].default is False
    assert read(known, {name: each.example for name, each in known.items()}) == with_defaults(known, {})


def test_a_plain_assignment_takes_its_type_from_the_literal(tmp_path: Path) -> None:
    """A user's own notebook works as it is; `at` is the checkpoint in every notebook; no cell, no parameters."""
    cell = "a = 'x'  # first\nb = 5\nc = True\nd = ('p', 'q')\ne = None\nf = -1.5\nat = None"
    found = declared(notebook_of(tmp_path, cell))
    assert [each.kind for each in found.values()] == ["text", "int", "bool", "words", "text", "number", "int"]
    assert [each.optional for each in found.values()] == [False, False, False, False, True, False, True]
    assert (found["a"].help, found["d"].default, found["f"].default) == ("first", ["p", "q"], -1.5)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("a = 1")]), tmp_path / "none.ipynb")
    assert declared(tmp_path / "none.ipynb") == {}
    with pytest.raises(MalformedError, match="It takes none"):
        read({}, {"a": "1"})


@pytest.mark.parametrize("name", ["role-grants", "trail-integrity", "pipeline-health"])
def test_the_librarys_own_notebooks_say_what_each_parameter_means(name: str) -> None:
    """Every parameter has a type in quotes, a default that fits it, and help."""
    path = ROOT / "notebooks" / f"{name}.ipynb"
    found = declared(path)
    assert {"since", "until", "tz", "at"} <= set(found) and all(each.help for each in found.values())
    (cell,) = (c.source for c in nbformat.read(path, 4).cells if "parameters" in c.metadata.get("tags", ()))
    assert all(f'{each}: "' in cell for each in found)
    check_together(with_defaults(found, {}))


RUNS = "__import__('pathlib').Path('it-ran').touch()"
CELLS = {
    "a call": (f"a = {RUNS}", "a: its default is no literal"),
    "a call alone": (RUNS, "no parameter with a type"),
    "an import": ("import os", "no parameter with a type"),
    "a function": ("def f(): pass", "no parameter with a type"),
    "a magic": ("%env", "is no Python"),
    "no end": ('a = """', "is no Python"),
    "a null": ("a = 1\0", "is no Python"),
    "deep": ("a = " + "[" * 5000, "is no Python|no literal"),
    "a huge number": ("a = " + "9" * 5000, "is no Python"),
    "two names": ("a = b = 1", "no parameter with a type"),
    "an item": ("a[0] = 1", "no parameter with a type"),
    "an attribute": ('a.b: "int" = 1', "no parameter with a type"),
    "no default": ('a: "date"', "no parameter with a type"),
    "a type without quotes": ("a: int = 1", "no parameter with a type"),
    "an unknown type": ('a: "days" = 1', "no type; there are date, int"),
    "a choice of none": ('a: "choice" = "x"', "no type"),
    "a choice twice": ('a: "choice[x, x]" = "x"', "no type"),
    "a text with bounds": ('a: "text[0, 1]" = "x"', "no type"),
    "bounds the wrong way": ('a: "int[5, 1]" = 3', "no type"),
    "bounds that are none": ('a: "int[x, 1]" = 3', "no whole number"),
    "three bounds": ('a: "int[0, 1, 2]" = 3', "no type"),
    "a default of another type": ('a: "int" = "90"', "a: '90' is no whole number"),
    "true for a number": ('a: "int" = True', "a: True is no whole number"),
    "a default out of range": ('a: "int[0, 5]" = 9', "a: 9 is out of range: whole number, 0 to 5"),
    "a default that is no day": ('a: "date" = "2026-02-29"', "no day like"),
    "none where it may not be": ('a: "text" = None', "a: needs a value: text"),
    "none as a text": ('a: "text or none" = "none"', "its default is written None"),
    "an empty text": ('a = ""', "a: needs a value"),
    "words with a comma": ('a = ["x,y"]', "no list of texts without commas"),
    "words with a number": ('a = ["x", 1]', "no list of texts"),
    "a dictionary": ("a = {'x': 1}", "a: its default is no text"),
    "bytes": ("a = b'x'", "a: its default is no text"),
    "a name twice": ("a = 1\na = 2", "a: is declared twice"),
    "a name beyond ASCII": ("ä = 1", "no name in ASCII"),
    "a cell without end": ("a = 1  #" + "x" * MAX_CELL_CHARS, "65,536 are read"),
}


@pytest.mark.parametrize("case", CELLS)
def test_a_cell_that_declares_something_else_is_refused_and_never_runs(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the notebook, the line, and what to write instead."""
    monkeypatch.chdir(tmp_path)
    cell, says = CELLS[case]
    with pytest.raises(MalformedError, match=says) as refused:
        declared(notebook_of(tmp_path, "\nfirst = 1\n" + cell))
    assert "asked.ipynb, cell tagged parameters" in refused.value.where
    assert (
        says.startswith(("is no Python", "65,536"))
        or "line 3" in refused.value.where
        or "line 4" in refused.value.where
    )
    assert refused.value.remedy.startswith("Write one parameter a line")
    assert [path.name for path in tmp_path.iterdir()] == ["asked.ipynb"]


def test_what_is_no_notebook_is_named(tmp_path: Path) -> None:
    """Not JSON, no notebook, no file: one sentence."""
    for text in ("", "{}", "[]", "\x00", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}'):
        (tmp_path / "bad.ipynb").write_text(text)
        with pytest.raises(MalformedError, match="is no notebook"):
            declared(tmp_path / "bad.ipynb")
    with pytest.raises(MalformedError, match="is no notebook"):
        declared(tmp_path / "absent.ipynb")


# --- what is given -------------------------------------------------------------------------------------------

FITS: list[tuple[str, str, Any]] = [
    ("since", "2024-02-29", "2024-02-29"),
    ("since", "2026-03-01T09:00:00.5+01:00", "2026-03-01T09:00:00.5+01:00"),
    ("until", "NONE", None),
    ("until", "", None),
    ("tz", "America/St_Johns", "America/St_Johns"),
    ("days", "+0", 0),
    ("days", "3650", 3650),
    ("at", "9007199254740991", 2**53 - 1),
    ("rate", "1e-3", 0.001),
    ("rate", "1.0", 1),
    ("name", " x ", " x "),
    ("what", "None", None),
    ("what", "a,b=c", "a,b=c"),
    ("roles", " a, b ,,c", ["a", "b", "c"]),
    ("roles", "none", []),
    ("roles", "", []),
    ("strict", "TRUE", True),
    ("method", "by month", "by month"),
    ("method", "none", None),
]
REFUSED: list[tuple[str, str, str]] = [
    ("since", "2026-02-29", "no day like"),
    ("since", "2026-W10-1", "no day like"),
    ("since", "20260301", "no day like"),
    ("since", "2026-03-01T09:00:00", "no day like"),
    ("since", "1969-12-31", "1970 to 9999"),
    ("since", "\u0662\u0660\u0662\u0666-03-01", "no day like"),
    ("since", "none", "since: needs a value: day or time"),
    ("tz", "Europe/Berln", "Did you mean 'Europe/Berlin'"),
    ("tz", "../../etc/passwd", "no time zone"),
    ("tz", "localtime", "no time zone"),
    ("tz", "x" * 20_000, "no time zone"),
    ("days", "many", "'many' is no whole number, 0 to 3650"),
    ("days", "3651", "3651 is out of range"),
    ("days", "-1", "out of range"),
    ("days", "1.0", "no whole number"),
    ("days", "1_0", "no whole number"),
    ("days", "\u0663", "no whole number"),
    ("days", "9" * 10_000, "no whole number"),
    ("days", "none", "days: needs a value"),
    ("at", "0", "out of range"),
    ("at", "9007199254740992", "2\\^53"),
    ("rate", "nan", "no number, 0 to 1"),
    ("rate", "1e999", "not a finite number"),
    ("rate", "1.5", "out of range"),
    ("name", "none", "name: needs a value: text"),
    ("name", "", "name: needs a value: text"),
    ("name", "\udcff", "surrogate"),
    ("name", "a\0b", "U\\+0000"),
    ("name", "x" * (MAX_VALUE_CHARS + 1), "65,537 characters are refused"),
    ("strict", "yes", "neither true nor false"),
    ("method", "simpel", "none of whole, simple, by month. Did you mean 'simple'"),
    ("untill", "2026-06-01", "no parameter 'untill'. Did you mean 'until'"),
    ("__class__", "x", "It takes since, until"),
    ("x" * 20_000, "x", "no parameter"),
]


@pytest.mark.parametrize(("name", "text", "value"), FITS)
def test_a_text_becomes_a_value_of_the_declared_type(
    name: str, text: str, value: Any, known: dict[str, Parameter]
) -> None:
    """And what packet.json gives back is the same value, so that a packet made again gets what the first got."""
    values = read(known, {name: text})
    assert values[name] == value and type(values[name]) is type(value)
    assert read_typed(known, parse_json(canonical(values))) == values


@pytest.mark.parametrize(("name", "text", "says"), REFUSED)
def test_what_does_not_fit_is_refused_in_one_sentence(
    name: str, text: str, says: str, known: dict[str, Parameter]
) -> None:
    """The parameter is named; a long value is not repeated in full."""
    with pytest.raises(MalformedError, match=says) as refused:
        read(known, {name: text})
    assert len(str(refused.value)) < 400
    assert refused.value.where == (name if name in known else "")


def test_everything_wrong_is_said_at_once(known: dict[str, Parameter]) -> None:
    """Three mistakes, one error with all three: nobody mends one to be told of the next."""
    with pytest.raises(MalformedError) as refused:
        read(known, {"untill": "2026-06-01", "days": "many", "strict": "yes", "name": "fine"})
    told = str(refused.value)
    assert told.startswith("3 parameters are refused.")
    assert "Did you mean 'until'?" in told and "days: 'many' is no whole number" in told and "strict: 'yes'" in told


def test_values_of_toml_are_checked_by_type(known: dict[str, Parameter]) -> None:
    """Native dates and lists are taken; a number in quotes, a bare number for a text, a local time are refused."""
    given = {"since": dt.date(2026, 3, 1), "until": dt.datetime(2026, 6, 1, 9, tzinfo=dt.UTC), "days": 30}
    given |= {"roles": ["a", "b"], "strict": True, "what": "none", "rate": 1.0, "method": "simple"}
    assert read_typed(known, given) == {
        **{"days": 30, "method": "simple", "rate": 1, "roles": ["a", "b"], "since": "2026-03-01", "strict": True},
        **{"until": "2026-06-01T09:00:00Z", "what": None},
    }
    wrong: dict[str, Any] = {"days": "30", "rate": True, "roles": "a,b", "strict": "true", "name": 5, "tz": 1}
    wrong |= {"since": dt.datetime(2026, 3, 1), "until": {"a": 1}, "method": 0, "at": 1.5}  # noqa: DTZ001
    for name, value in wrong.items():
        with pytest.raises(MalformedError) as refused:
            read_typed(known, {name: value})
        assert refused.value.where == name


@hypothesis.given(
    st.text(), st.sampled_from(["date", "int", "number", "text or none", "words", "bool", "zone", "choice[a, b]"])
)
def test_any_text_is_a_value_that_survives_json_or_a_sentence(text: str, kind: str) -> None:
    """No text ends in anything but a value that packet.json keeps, or a MalformedError."""
    known = {"p": parse_type(kind)}
    try:
        values = read(known, {"p": text})
    except MalformedError:
        return
    assert read_typed(known, parse_json(canonical(values))) == values


# --- periods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"since": "2026-06-01"}, "since 2026-06-01 is not before until 2026-06-01"),
        ({"since": "2026-06-02", "until": None, "through": "2026-06-01"}, "not before the end of 2026-06-01"),
        ({"through": "2026-05-31"}, "two ends, until '2026-06-01'.*through '2026-05-31'"),
        ({"since": "2026-03-01T00:00:00Z", "until": "2026-03-01", "tz": "Europe/Berlin"}, "zone Europe/Berlin"),
        ({"since": "1970-01-01", "tz": "Europe/Berlin"}, "before 1970 in UTC"),
        ({"until": None, "through": "2026-06-01T00:00:00Z"}, "no date like"),
    ],
)
def test_a_period_that_is_none_is_refused_with_both_ends(
    given: dict[str, Any], says: str, known: dict[str, Parameter]
) -> None:
    """Empty, ended twice, or before there is time; in the time zone that was asked for."""
    with pytest.raises(MalformedError, match=says):
        check_together(with_defaults(known, given))


def test_a_period_is_judged_in_its_time_zone(known: dict[str, Parameter]) -> None:
    """A day that takes 23 hours, a leap day, the last microsecond, an open end: periods all."""
    for given in (
        {"since": "2026-03-29", "until": "2026-03-29T22:00:00Z", "tz": "Europe/Berlin"},
        {"since": "2024-02-29", "until": None, "through": "2024-02-29"},
        {"since": "2026-05-31T23:59:59.999999Z"},
        {"since": None, "until": None},
    ):
        check_together(with_defaults(known, given))


def test_a_months_last_day_as_until_draws_the_warning_of_queries(known: dict[str, Parameter]) -> None:
    """It leaves that day out, which is seldom meant."""
    with pytest.warns(UserWarning, match="write through=2026-05-31"):
        check_together(with_defaults(known, {"until": "2026-05-31"}))


def test_the_end_that_is_given_replaces_the_default_one(known: dict[str, Parameter]) -> None:
    """Who asks `through` did not ask for the `until` that the notebook stands at; who gives both is refused."""
    values = read(known, {"through": "2026-05-31"})
    assert values == {"through": "2026-05-31", "until": None}
    check_together(with_defaults(known, values))
    both = read(known, {"through": "2026-05-31", "until": "2026-06-01"})
    with pytest.raises(MalformedError, match="two ends"):
        check_together(with_defaults(known, both))


@pytest.mark.filterwarnings("ignore:until=2026-05-31")
def test_a_wrong_request_starts_no_kernel_and_writes_nothing(tmp_path: Path) -> None:
    """The mistake is told before the vault is opened: here there is none."""
    for given, says in (
        ({"since": "2026-05-31", "until": "2026-05-31"}, "period is empty"),
        ({"lookback_days": "-1", "tz": "Mars/Olympus"}, "2 parameters are refused"),
    ):
        with pytest.raises(MalformedError, match=says):
            build_packet("role-grants", str(tmp_path / "no-vault"), given, tmp_path / "packet")
    assert list(tmp_path.iterdir()) == []


# --- into the notebook ---------------------------------------------------------------------------------------

HOSTILE = [
    "__import__('pathlib').Path('it-ran').touch()",
    "'; open('it-ran', 'w') #",
    '"""\n!touch it-ran\n%%bash\ntouch it-ran\n"""',
    "\\",
    "\\'",
    "\\N{DOLLAR SIGN}\\x41",
    "{7*7}{{7*7}}${HOME}%(a)s",
    "a\r\nb\tc\u2028d\x1b[2J\x0c",
    "grüße \U0001f512 \ud7ff",
    "?",
    "x" * 16_384,
]
TELLS = """\
import json, os, pathlib
asked = {"text": text, "words": words, "number": number, "flag": flag, "nothing": nothing}
asked["ran"] = os.path.exists("it-ran")
pathlib.Path(os.environ["AUDITLIB_PACKET"], "told.json").write_text(json.dumps(asked))
"""


def test_hostile_values_stay_text_in_the_kernel(tmp_path: Path) -> None:
    """Whatever is in them, the notebook gets them as they were given, and nothing else happened."""
    path = notebook_of(
        tmp_path, 'text = "x"\nwords = []\nnumber = 1.5\nflag = False\nnothing = None', TELLS, name="t{}"
    )
    words = [text.replace(",", ";").strip() for text in HOSTILE]
    values = read_typed(declared(path), {"text": "\n".join(HOSTILE), "words": words, "number": -0.25, "flag": True})
    executed = execute(path, values, {}, tmp_path)
    told = json.loads((tmp_path / "told.json").read_text())
    assert told == {
        "text": "\n".join(HOSTILE),
        "words": words,
        "number": -0.25,
        "flag": True,
        "nothing": None,
        "ran": False,
    }
    assert not list(tmp_path.rglob("it-ran")) and not Path("it-ran").exists()
    assert nbformat.reads(executed.copy.decode(), 4).cells[1].source.isascii()


def test_the_injected_cell_depends_on_no_order_and_no_formatter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two orders of -p give the same bytes, also where the formatter that papermill would use is installed."""
    path = notebook_of(tmp_path, "b = 1\na = 'x'\nc = ['x']", "a")
    given = {"b": "5", "c": "x,y", "a": "z" * 200}
    first = execute(path, read(declared(path), given), {}, tmp_path)
    black = types.ModuleType("black")
    black.FileMode = lambda **_: None  # type: ignore[attr-defined]
    black.format_str = lambda content, mode: content.replace("=", " = ")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "black", black)
    again = execute(path, dict(reversed(read(declared(path), given).items())), {}, tmp_path)
    assert again.copy == first.copy and again.sha256 == first.sha256
    cell = nbformat.reads(first.copy.decode(), 4).cells[1]
    assert cell.metadata.tags == [INJECTED]
    assert cell.source == f"# Parameters\na = '{'z' * 200}'\nb = 5\nc = ['x', 'y']\n"


def test_a_notebook_that_holds_values_already_is_refused(tmp_path: Path) -> None:
    """An executed copy has a cell of values whose code the hash would cover and the run would not show."""
    path = notebook_of(tmp_path, "a = 1", "a")
    notebook = nbformat.read(path, 4)
    notebook.cells[1].metadata["tags"] = [INJECTED]
    nbformat.write(notebook, path)
    with pytest.raises(MalformedError, match="run before"):
        execute(path, {"a": 2}, {}, tmp_path)
    with pytest.raises(MalformedError, match="no value of a parameter"):
        execute(notebook_of(tmp_path, "a = 1", name="b"), {"a": object()}, {}, tmp_path)


def test_two_orders_of_p_give_the_same_packet(tmp_path: Path) -> None:
    """Same request, same values: the same bytes, whoever typed them in which order."""
    given = {"since": "2026-03-01", "until": "2026-04-01", "lookback_days": "30"}
    for order, name in ((given, "a.zip"), (dict(reversed(given.items())), "b.zip")):
        build_packet("role-grants", str(sample_vault()), order, tmp_path / name, keys=SAMPLE_KEY)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


# --- the command ---------------------------------------------------------------------------------------------


def test_the_command_shows_what_can_be_asked(tmp_path: Path) -> None:
    """A table for people, stable keys for programs; a name given twice is refused, and nothing is written."""
    told = command("packet", "parameters", "role-grants")
    assert told.returncode == 0 and "time_bound_required" in told.stdout and "true or false" in told.stdout
    answer = json.loads(command("packet", "parameters", "role-grants", "--json").stdout)
    rows = {row["name"]: row for row in answer["parameters"]}
    assert answer["ok"] and answer["request"] == "role-grants"
    assert (rows["lookback_days"]["type"], rows["lookback_days"]["default"]) == ("whole number, 0 to 3650", 90)
    assert set(rows["at"]) == {*Parameter.__struct_fields__, "example", "type"}
    assert command("packet", "parameters", "role-grant").returncode == 2
    twice = ("packet", "build", "role-grants", "--vault", tmp_path, "-p", "since=2026-03-01", "-p", "since=2026-04-01")
    told = command(*twice, "-o", tmp_path / "packet")
    assert told.returncode == 2 and "given twice" in told.stderr
    assert list(tmp_path.iterdir()) == []
