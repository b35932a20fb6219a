"""The request list: refused before anything runs, answered all at once, and nothing of it depends on the machine."""

from __future__ import annotations

import json
import re
import resource
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import nbformat
import pandas as pd
import pytest
import several
from packets import SAMPLE_KEY, SAMPLES, Packet, event, read_folder, sample, sample_trail, sample_vault, trail_of
from typer.testing import CliRunner

from auditlib.cli import app
from auditlib.errors import AuditlibError, MalformedError, MismatchError, UnavailableError
from auditlib.evidence.answer import period_of
from auditlib.evidence.scope import parse_scope, scope_sentences, scope_table
from auditlib.formats.canonical import canonical
from auditlib.packet.bag import write_bag
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet
from auditlib.requests import building, laying, model
from auditlib.requests.asking import ask, parse_span
from auditlib.requests.index_page import check_index_place, make_index, write_index
from auditlib.requests.standing import read_packet, standings

HEAD = 'format = "auditlib/requests/v1"\n'
LINE = '\n[[requests]]\nid = "{id}"\nquestion = "Which?"\ncontrol = {{ id = "C-1" }}\nnotebook = "{notebook}"\n{more}'
SCOPE = 'format = "auditlib/scope/v1"\n'
SPAN = "2026-03-01/2026-06-01"
EMPTY = "2026-03-01/2026-03-02"  # a day with one grant of admin: a packet that is soon built


def line(name: str = "A-1", notebook: str = "role-grants", more: str = "") -> str:
    return LINE.format(id=name, notebook=notebook, more=more)


def listed(text: str, folder: Path = SAMPLES) -> model.RequestList:
    return model.parse_requests((HEAD + text).encode(), folder)


def refused(text: str) -> str:
    with pytest.raises(MalformedError) as error:
        listed(text)
    return str(error.value)


def run(*arguments: str, code: int = 0) -> str:
    ran = CliRunner().invoke(app, ["requests", *arguments], env={"AUDITLIB_KEY": str(SAMPLE_KEY)})
    found = ran.exception.exit_code if isinstance(ran.exception, AuditlibError) else ran.exit_code
    assert found == code, (ran.output, ran.exception)
    return ran.stdout


def build(list_path: Path, out: Path, *more: str, code: int = 0) -> Any:
    arguments = ["--requests", str(list_path), "-o", str(out), "--vault", str(sample_vault()), "--json", *more]
    return json.loads(run("build", *arguments, code=code))


def put(folder: Path, name: str = "A-1") -> Path:
    """The sample's packet under a name."""
    for file, data in sample().items():
        (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / file).write_bytes(data)
    return folder / name


# --- the list --------------------------------------------------------------------------------------------------


def test_the_sample_list_and_scope_are_read() -> None:
    """What lies beside the sample trail is a list and a scope, and every request of it can be asked."""
    found = model.read_requests(SAMPLES / "requests.toml")
    for request in found.requests:
        notebook, values = ask(request, found.folder, parse_span(SPAN), at=7)
        assert notebook.stem == request.notebook and values["at"] == 7
    assert parse_scope((SAMPLES / "scope.toml").read_bytes()).systems


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "'x' is not known here"),
        ("[[request]]", "Did you mean requests?"),
        (line(more='qestion = "?"'), "Did you mean question?"),
        (line("../../etc"), "cannot be used"),
        (line("index.html"), "cannot be used"),
        (line("A.zip"), "cannot be used"),
        (line("A@b"), "cannot be used"),
        (line(".hidden"), "cannot be used"),
        (line("a-1") + line("A-1"), "capitals do not tell them apart"),
        (line(notebook="/etc/passwd.ipynb"), "not in the folder"),
        (line(notebook="../secret.ipynb"), "not in the folder"),
        (line(more='attach = { leavers = "../../leavers.csv" }'), "not in the folder"),
        (line(notebook="a b"), "neither a notebook's name nor a path"),
        (line(more='trails = ["cloud"]'), "no [trails.cloud]"),
        (line(more="due = 2026-07-15T09:00:00Z"), "due"),
        (line(more="parameters = { a = { b = 1 } }"), "parameters.a"),
        (line(more="parameters = { a = 2026-01-01T00:00:00 }"), "an offset from UTC"),
        (line(more='sample = { method = "simple", size = -1 }'), "sample.size"),
        (line(more="sample = { size = 5 }"), "method"),
        ("requests = 5", "[[requests]]"),
        ("requests = [5]", "must be a table"),
        ("trails = 5", "must be tables"),
        ("a = [[[", "this is no TOML"),
        (f"a = {'[' * 5000}{']' * 5000}", "this is no TOML"),
        (f"a = {'9' * 5000}", "this is no TOML"),
        (f'\n[[requests]]\nid = "A"\nquestion = "{"?" * 2001}"', "question"),
        ("#" * 1024 * 1024, "bytes are not read"),
    ],
)
def test_a_hostile_list_is_refused_with_a_sentence(text: str, said: str) -> None:
    """A name that leaves the folder, a key that is none, a bomb: one sentence that says where."""
    assert said in refused(text)


@pytest.mark.parametrize("more", ['attach_dir = "link"', 'attach = { roster = "link/a.csv" }', 'attach_dir = "round"'])
def test_a_link_that_leaves_the_folder_of_the_list_is_refused(more: str, tmp_path: Path) -> None:
    """Whoever sends a list with its folder chooses no other file of who answers it."""
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "private").mkdir()
    (own / "link").symlink_to(tmp_path / "private")
    (own / "round").symlink_to("round")
    with pytest.raises(MalformedError, match="not in the folder of this file or below it"):
        listed(line(more=more), own)
    (own / "inside").mkdir()
    (own / "fine").symlink_to("inside")
    assert listed(line(more='attach_dir = "fine"'), own).requests[0].attach_dir == "fine"


def test_a_list_of_another_format_or_no_text_is_refused(tmp_path: Path) -> None:
    """The format is named, and bytes that are no UTF-8 are no list."""
    path = tmp_path / "requests.toml"
    for data, said in (
        (b'format = "auditlib/scope/v1"', "reads format"),
        (b"\xff\xfe", "UTF-8"),
        (b"", "format is None"),
    ):
        path.write_bytes(data)
        with pytest.raises(MalformedError, match=said) as error:
            model.read_requests(path)
        assert error.value.where.startswith(str(path))
    with pytest.raises(MalformedError, match="cannot be read"):
        model.read_requests(tmp_path / "none.toml")


# --- asking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('parameters = { entitlment = "admin" }', "Did you mean 'entitlement'?"),
        ('parameters = { lookback_days = "many" }', "lookback_days"),
        ('parameters = { tz = "Mars/Olympus" }', "tz"),
        ("parameters = { since = 2026-06-01 }", "empty"),
        ("parameters = { since = 2026-02-30T00:00:00Z }", "this is no TOML"),
    ],
)
def test_what_a_notebook_does_not_take_is_refused_before_anything_runs(more: str, said: str) -> None:
    """A wrong name, type, zone or period."""
    with pytest.raises(MalformedError) as error:
        found = listed(line(more=more))
        ask(found.requests[0], found.folder, parse_span(SPAN))
    assert said in str(error.value)


def test_a_sample_for_a_notebook_that_draws_none_is_refused() -> None:
    """It names the parameters that are missing."""
    found = listed(line(notebook="pipeline-health", more='sample = { method = "simple", size = 25 }'))
    with pytest.raises(MalformedError, match="draws no such sample: it declares no sample_method, sample_size"):
        ask(found.requests[0], found.folder, parse_span(SPAN))


def test_the_period_is_the_lists_unless_the_request_fixes_its_own() -> None:
    """since and until come from --period; what the request fixes stays; without either it is refused."""
    found = listed(line() + line("A-2", more="parameters = { since = 2026-01-01, until = 2026-02-01 }"))
    free, fixed = (
        [ask(one, SAMPLES, parse_span(SPAN))[1][name] for name in ("since", "until")] for one in found.requests
    )
    assert free == ["2026-03-01", "2026-06-01"]
    assert fixed == ["2026-01-01", "2026-02-01"]
    assert ask(found.requests[1], SAMPLES, None)[1]["since"] == "2026-01-01"
    with pytest.raises(MalformedError, match="has no period: since and until"):
        ask(found.requests[0], SAMPLES, None)


@pytest.mark.parametrize(
    "text", ["2026-03-01", "2026-03-01/", "/2026-03-01", "2026-06-01/2026-03-01", "a/b", "2026-03-01/2026-03-01"]
)
def test_a_period_that_is_none_is_refused(text: str) -> None:
    """Before anything runs."""
    with pytest.raises(MalformedError, match="--period"):
        parse_span(text)


def test_a_sample_reaches_a_notebook_that_declares_it(tmp_path: Path) -> None:
    """method, size, strata and word become the parameters sample_method, sample_size, sample_strata, sample_word."""
    cell = nbformat.v4.new_code_cell(
        'sample_method: "choice[whole, simple]" = "whole"  # how\n'
        'sample_size: "int[0, 99] or none" = None  # how many\n'
        'sample_word: "text or none" = None  # the auditor\'s word',
        metadata={"tags": ["parameters"]},
    )
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "own.ipynb")
    found = listed(
        line(notebook="own.ipynb", more='sample = { method = "simple", size = 25, word = "rain" }'), tmp_path
    )
    assert ask(found.requests[0], tmp_path, None)[1] == {
        "sample_method": "simple",
        "sample_size": 25,
        "sample_word": "rain",
    }


# --- building ------------------------------------------------------------------------------------------------------

OWN = """
from auditlib import evidence
from auditlib.errors import UnavailableError
raise UnavailableError("the ticket system did not answer.", where="tickets")
"""

AWAY = """
import os
from auditlib.errors import UnavailableError
if os.environ.get("TICKETS_AWAY"):
    raise UnavailableError("the ticket system did not answer.", where="tickets")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list with two good requests and three that fail, each in a family of its own."""
    folder = tmp_path_factory.mktemp("project")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(OWN)])
    nbformat.write(book, folder / "failing.ipynb")
    text = HEAD + line("GOOD-1", more='criteria = ["CC6.2"]\nparameters = { entitlement = "admin" }')
    text += line("BAD-1", more='parameters = { entitlment = "x" }') + line("BAD-2", "failing.ipynb")
    text += line("BAD-3", more='trails = ["away"]')
    (folder / "requests.toml").write_text(text + '\n[trails.away]\nvault = "nowhere"\n')
    laying.lay_down("own-list", folder / "requests.toml")
    shutil.copy(SAMPLES / "scope.toml", folder)
    return folder


@pytest.fixture(scope="module")
def built(project: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Everything answered, one at a time."""
    out = tmp_path_factory.mktemp("one") / "packets"
    return build(project / "requests.toml", out, "--all", "--period", EMPTY, "--jobs", "1", code=3), out


def test_a_failing_request_stops_no_other(built: tuple[Any, Path]) -> None:
    """The good ones are there and verify, each bad one is reported with its sentence, the worst decides the code."""
    told, out = built
    became = {one["name"]: one for one in told["packets"]}
    assert list(became) == ["GOOD-1", "BAD-1", "BAD-2", "BAD-3", "own-list"]
    assert [one["exit_code"] for one in became.values()] == [0, 2, 3, 2, 0]
    assert "Did you mean 'entitlement'?" in became["BAD-1"]["error"]["message"]
    assert "the ticket system did not answer." in became["BAD-2"]["error"]["message"]
    assert sorted(path.name for path in out.iterdir()) == ["GOOD-1", "index.html", "index.json", "own-list"]
    for name in ("GOOD-1", "own-list"):
        report = check_packet(out / name, [SAMPLE_KEY])
        assert report.ok and not report.findings
        assert (report.digest, report.evidence_digest) == tuple(
            became[name][digest] for digest in ("packet_digest", "evidence_digest")
        )


def test_the_laid_down_notebook_lists_the_selected_events(built: tuple[Any, Path]) -> None:
    """The template's answer is exactly what the trail holds."""
    _, out = built
    frame = pd.read_parquet(out / "own-list" / "data" / "tables" / "events.parquet")
    expected = sample_trail().events(kind="grant", since="2026-03-01", until="2026-03-02").df()
    assert len(expected) and frame["event_id"].tolist() == expected["event_id"].tolist()
    packet = json.loads((out / "own-list" / "data" / "packet.json").read_bytes())
    assert packet["request"] == "own-list" and packet["exceptions"] == 0


def test_the_same_list_gives_the_same_bytes_in_several_processes(
    built: tuple[Any, Path], project: Path, tmp_path: Path
) -> None:
    """index.html, index.json and every packet: from another folder, two at a time; no path or clock is in them."""
    told, out = built
    moved = tmp_path / "elsewhere"
    shutil.copytree(project, moved)
    again = build(moved / "requests.toml", tmp_path / "other", "--all", "--period", EMPTY, "--jobs", "2", code=3)
    assert read_folder(out) == read_folder(tmp_path / "other")
    assert told["index_digest"] == again["index_digest"] == sha256((out / "index.json").read_bytes()).hexdigest()
    for name in ("index.html", "index.json"):
        text = (out / name).read_text()
        assert str(out.parent) not in text and str(sample_vault()) not in text


def test_the_index_names_every_request_and_what_is_uncovered(built: tuple[Any, Path]) -> None:
    """Answered or not, and the system that was never connected."""
    told, out = built
    index = json.loads((out / "index.json").read_bytes())
    assert canonical(index) == (out / "index.json").read_bytes()
    assert [(one["id"], one["packet"]) for one in index["requests"]] == [
        *[("GOOD-1", "GOOD-1"), ("BAD-1", None), ("BAD-2", None), ("BAD-3", None), ("own-list", "own-list")]
    ]
    page = (out / "index.html").read_text()
    assert told["index_digest"] in page and 'href="GOOD-1/data/report.html"' in page
    assert page.count("not answered") == 6  # in the table and in the details
    assert all(row in page for row in ("Marketing site", "carved out")) and "<script" not in page
    assert {row["state"] for row in index["scope"]} == {"partly covered", "carved out"}


def test_an_existing_packet_is_replaced_only_when_asked_and_only_a_packet_is(
    built: tuple[Any, Path], project: Path, tmp_path: Path
) -> None:
    """Without --replace it stays; with it the new one takes its place; what is no packet is left alone."""
    _, done = built
    out = tmp_path / "packets"
    shutil.copytree(done, out)
    before = read_folder(out)
    asked = (project / "requests.toml", out, "own-list", "--period", EMPTY)
    told = build(*asked, code=2)
    assert "not overwritten" in told["packets"][0]["error"]["message"]
    assert read_folder(out) == before
    told = build(project / "requests.toml", out, "own-list", "--period", "2026-03-02/2026-03-03", "--replace")
    assert told["packets"][0]["path"] == str(out / "own-list")
    assert read_folder(out)["own-list/data/packet.json"] != before["own-list/data/packet.json"]
    assert sorted(path.name for path in out.iterdir()) == ["GOOD-1", "index.html", "index.json", "own-list"]
    shutil.rmtree(out / "own-list")
    (out / "own-list").mkdir()
    (out / "own-list" / "thesis.txt").write_text("years of work")
    told = build(*asked, "--replace", code=2)
    assert "no packet, and is not replaced" in told["packets"][0]["error"]["message"]
    assert (out / "own-list" / "thesis.txt").read_text() == "years of work"


def test_a_request_over_two_trails_is_one_packet(project: Path, tmp_path: Path) -> None:
    """Built, shown and made again under the request's own name, from a notebook of the user's own, and no vault is
    needed on the command line; two names of one trail are refused."""
    vaults = several.vaults_in(tmp_path)
    named = "".join(
        f'\n[trails.{name}]\nvault = "{vault.place}"\nkey = "{vault.keys}"\n'
        for name, vault in zip(("west", "east"), vaults, strict=True)
    )
    path, out = project / "two.toml", tmp_path / "out"
    path.write_text(
        HEAD
        + line("A-1", "own-list.ipynb", 'trails = ["east", "west"]')
        + line("A-2", "own-list.ipynb", 'trails = ["east", "again"]')
        + named
        + named.split("[trails.east]")[1].join(["[trails.again]", ""])
    )
    asked = ("build", "--all", "--requests", str(path), "-o", str(out), "--period", "2026-03-01/2026-04-01")
    told = json.loads(run(*asked, "--zip", "--json", code=2))
    built, refused = told["packets"]
    assert "two of its trails are one" in refused["error"]["message"]
    assert (built["name"], Path(built["path"]).name) == ("A-1", "A-1.zip")
    assert built["headline"].startswith("7 events over 2 trails.")
    assert check_packet(Path(built["path"]), several.KEYS).digest == built["packet_digest"]
    index = json.loads((out / "index.json").read_bytes())["requests"][0]
    assert (index["trails"], index["packet"], index["trail"], index["checkpoint"]) == (
        *(["east", "west"], "A-1.zip", None, None),
    )
    assert index["checkpoints"] == [{"origin": origin, "size": 2} for origin in (several.AUDIT, several.CLOUD)]
    page = (out / "index.html").read_text()
    assert 'href="A-1.zip"' in page and "(east, west)" in page
    assert "systems in scope, " in page and "were not looked at" not in page  # over the trails that answered
    shown = json.loads(run("--requests", str(path), "--dir", str(out), "--reproduce", "--json"))["requests"]
    assert [(one["state"], one["reproduces"], one["seals_since"]) for one in shown] == [
        *[("built", True, 0), ("never built", None, None)]
    ]
    assert "checkpoints" in run("--requests", str(path), "--dir", str(out))


def test_an_index_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    """Somebody's web page stays."""
    (tmp_path / "index.html").write_text("my home page")
    with pytest.raises(MalformedError, match="an index of something else"):
        check_index_place(tmp_path)
    run("build", "--all", "--requests", str(SAMPLES / "requests.toml"), "-o", str(tmp_path), "--period", SPAN, code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


def test_nothing_is_written_where_the_command_is_wrong(tmp_path: Path) -> None:
    """No request named, both, one that is not there, a period that is none: 2, and no folder."""
    out = tmp_path / "out"
    base = ("build", "--requests", str(SAMPLES / "requests.toml"), "-o", str(out), "--period", SPAN)
    for more in ((), ("--all", "AC-03"), ("AC-99",)):
        run(*base, *more, code=2)
    run(*base[:-1], "yesterday", "--all", code=2)
    assert not out.exists()


@pytest.mark.parametrize(("codes", "worst"), [([], 0), ([2], 2), ([2, 3], 3), ([3, 1, 2], 1)])
def test_the_worst_outcome_decides_the_exit_code(codes: list[int], worst: int) -> None:
    """Evidence that is wrong before storage that is away before a list that cannot be read."""
    kinds: dict[int, Callable[[str], AuditlibError]] = {1: MismatchError, 2: MalformedError, 3: UnavailableError}
    outcomes = [building.Outcome("a", "a", error=kinds[code]("no.")) for code in codes]
    assert building.exit_code(outcomes) == worst


# --- what stands -----------------------------------------------------------------------------------------------------


def test_the_command_shows_what_stands(built: tuple[Any, Path], project: Path, tmp_path: Path) -> None:
    """Built at which checkpoint, never built, another notebook or parameter today, and that it reproduces."""
    _, out = built
    text = (
        HEAD
        + line("GOOD-1", more='parameters = { entitlement = "editor" }')
        + line("own-list", "own-list.ipynb")
        + line("NEW")
    )
    (project / "today.toml").write_text(text)
    asked = ("--requests", str(project / "today.toml"), "--dir", str(out), "--vault", str(sample_vault()))
    found = json.loads(run(*asked, "--json", "--reproduce"))
    good, own, new = found["requests"]
    size = sample_trail().checkpoint.size
    assert (good["state"], good["checkpoint"], good["now"], good["seals_since"]) == ("built", size, size, 0)
    assert good["notes"] == ["the request asks for another entitlement today"]
    assert (own["reproduces"], own["notes"], new["state"], new["packet"]) == (True, [], "never built", None)
    shown = " ".join(run(*asked).split())
    assert "never built" in shown and "GOOD-1" in shown and "entitlement" in shown


def test_a_packet_that_nothing_was_compared_with_is_not_said_to_differ(
    built: tuple[Any, Path], project: Path, tmp_path: Path
) -> None:
    """Its notebook is another today and is not run: the line says that it could not be made again, and why."""
    _, out = built
    shutil.copytree(project, tmp_path / "edited")
    notebook = tmp_path / "edited" / "own-list.ipynb"
    cells = json.loads(notebook.read_text())
    cells["cells"][-1]["source"] = ["print('another')"]
    notebook.write_text(json.dumps(cells))
    (tmp_path / "edited" / "one.toml").write_text(HEAD + line("own-list", "own-list.ipynb"))
    asked = ("--requests", str(tmp_path / "edited" / "one.toml"), "--dir", str(out), "--vault", str(sample_vault()))
    shown = " ".join(run(*asked, "--reproduce", code=1).split())
    assert "could NOT be made again" in shown and "does NOT" not in shown


def change(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda packet: (packet / name).write_bytes(edit((packet / name).read_bytes())) and None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    "harm",
    [
        change("data/packet.json", lambda data: data[:-1]),
        change("data/packet.json", lambda data: data.replace(b'"exceptions":', b'"exceptions":1')),
        change("data/packet.json", lambda data: b"[" * 100_000),
        change("manifest-sha256.txt", lambda data: data * 2),
        change("tagmanifest-sha256.txt", lambda data: data + b"x" * 5_000_000),
        lambda packet: (packet / "data" / "packet.json").unlink(),
        lambda packet: (
            (packet / "data" / "packet.json").unlink(),
            (packet / "data" / "packet.json").symlink_to("/etc/passwd"),
        ),
        lambda packet: shutil.copytree(packet, packet.with_name("A-1.zip")),
        lambda packet: (packet.rename(packet.with_name("real")), packet.symlink_to(packet.with_name("real"))),
    ],
)
def test_a_hostile_packet_in_the_folder_is_said_to_be_unreadable(
    harm: Callable[[Path], object], tmp_path: Path
) -> None:
    """Cut, altered, nested, linked or double: one line says so, the others stand, and the code is 1."""
    found = listed(line("A-1") + line("B-1"))
    harm(put(tmp_path))
    put(tmp_path, "B-1")
    bad, good = standings(found, tmp_path)
    assert (bad.state, good.state) == ("cannot be read", "built")
    assert bad.notes and "Traceback" not in bad.notes[0]
    index = make_index([bad, good])
    assert json.loads(index.json)["requests"][0]["packet"] is None


def test_what_a_list_and_a_packet_say_is_text_on_the_page(tmp_path: Path) -> None:
    """Markup and characters that turn a line round are shown, not obeyed; the policy allows this style alone."""
    evil = "<img src=x onerror=alert(1)>\\u202e"
    found = listed(line(more=f'owner = "{evil}"\nframework = "{evil}"\ncriteria = ["{evil}"]'))
    put(tmp_path)
    (one,) = standings(found, tmp_path)
    assert one.packet is not None
    told = msgspec.structs.replace(one.packet.told, headline="<script>alert(2)</script>")
    one = msgspec.structs.replace(one, packet=msgspec.structs.replace(one.packet, told=told))
    row = {"system": "<b>x</b>", "owner": "", "month": "2026-03", "state": "uncovered", "missing": "javascript:"}
    page = make_index([one], [row], ["<i>"]).html.decode()
    assert "<img" not in page and "<script" not in page and "<b>x" not in page and "<i>" not in page
    assert "\u202e" not in page and "u{202e}" in page
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert "default-src &#39;none&#39;" in policy or "default-src 'none'" in policy
    assert "script-src" not in policy and "unsafe" not in policy


def test_the_digest_on_the_page_changes_with_any_packet(tmp_path: Path) -> None:
    """One digest over all: another packet, another index digest."""
    found = listed(line())
    put(tmp_path)
    (one,) = standings(found, tmp_path)
    assert one.packet is not None
    other = msgspec.structs.replace(one, packet=msgspec.structs.replace(one.packet, packet_digest="0" * 64))
    assert make_index([one]).digest != make_index([other]).digest
    assert make_index([one]) == make_index([one])


def test_a_sample_rule_that_is_another_today_is_noted(tmp_path: Path) -> None:
    """The rule is part of what is asked, as the parameters are."""
    source = 'sample_method: "choice[whole]" = "whole"\nsample_size: "int[0, 99] or none" = None'
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "own.ipynb")
    rule = {"sample_method": "whole", "sample_size": 25}
    packet = Packet(sample()).json("data/packet.json", lambda told: told["parameters"].update(rule)).fix()
    write_bag(packet.files, tmp_path / "A-1")
    for size, noted in ((25, False), (60, True)):
        asked = listed(line(notebook="own.ipynb", more=f'sample = {{ method = "whole", size = {size} }}'), tmp_path)
        (one,) = standings(asked, tmp_path)
        assert ("the request asks for another sample_size today" in one.notes) is noted


def test_storage_that_is_away_is_no_packet_that_does_not_reproduce(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known then: the code is 3, and no word is said of the evidence."""
    path = tmp_path / "requests.toml"
    laying.lay_down("mine", path)
    book = nbformat.read(tmp_path / "mine.ipynb", as_version=4)
    book.cells.append(nbformat.v4.new_code_cell(AWAY))
    book.cells.insert(0, book.cells.pop())
    nbformat.write(book, tmp_path / "mine.ipynb")
    build(path, tmp_path / "packets", "--all", "--period", EMPTY)
    monkeypatch.setenv("TICKETS_AWAY", "1")
    asked = ("--requests", str(path), "--dir", str(tmp_path / "packets"), "--vault", str(sample_vault()))
    assert "does NOT reproduce" not in run(*asked, "--reproduce", code=3)


def test_a_packet_of_another_trail_or_past_the_vaults_end_is_noted(tmp_path: Path) -> None:
    """A vault that was cut, or is not the one, shows in the list."""
    put(tmp_path)
    found = listed(line())
    ((origin, size),) = read_packet(tmp_path / "A-1").sizes.items()
    for now, said, since in (
        ((origin, size + 3), "", 3),
        ((origin, size - 1), "fewer than the packet's checkpoint", -1),
        (("other.example/audit", size), "it is of the trail", None),
    ):
        (one,) = standings(found, tmp_path, {None: now})
        assert one.since == since
        assert (said in one.notes[0]) if said else one.notes == ()
    assert "3 seals since" in standings(found, tmp_path, {None: (origin, size + 3)})[0].words()


# --- a request of one's own --------------------------------------------------------------------------------------


def test_a_new_request_leaves_the_list_as_it_was_byte_for_byte(tmp_path: Path) -> None:
    """Comments, line ends and a last line without one: what was there is a prefix of what is there."""
    path = tmp_path / "requests.toml"
    for start in (HEAD + "# mine\r\n" + line("OLD"), (HEAD + line("OLD")).rstrip()):
        path.write_bytes(start.encode())
        run("new", "mine", "--requests", str(path), "--json")
        assert path.read_bytes().startswith(start.encode())
        assert [one["id"] for one in tomllib.loads(path.read_text())["requests"]] == ["OLD", "mine"]
        (tmp_path / "mine.ipynb").unlink()


def test_a_new_request_starts_a_list_and_can_use_a_notebook_that_is_there(tmp_path: Path) -> None:
    """Without a list there is one afterwards; with --notebook no notebook is laid down."""
    path = tmp_path / "requests.toml"
    run("new", "first", "--requests", str(path))
    run("new", "second", "--requests", str(path), "--notebook", "role-grants")
    run("new", "third", "--requests", str(path), "--notebook", str(tmp_path / "first.ipynb"))
    assert [one.notebook for one in model.read_requests(path).requests] == ["first.ipynb", "role-grants", "first.ipynb"]
    assert [found.name for found in tmp_path.glob("*.ipynb")] == ["first.ipynb"]


def test_a_new_request_that_cannot_be_laid_down_leaves_nothing(tmp_path: Path) -> None:
    """A name that is taken or leaves the folder, a notebook that stands there, a list that is none."""
    path = tmp_path / "requests.toml"
    path.write_text(HEAD + line("taken"))
    (tmp_path / "there.ipynb").write_text("mine")
    before = read_folder(tmp_path)
    for name in ("taken", "Taken", "../out", "there", "a b", "index.json"):
        run("new", name, "--requests", str(path), code=2)
        assert read_folder(tmp_path) == before
    run(
        "new",
        "fine",
        "--requests",
        str(path),
        "--notebook",
        str(SAMPLES.parent / "notebooks" / "role-grants.ipynb"),
        code=2,
    )
    path.write_text("requests = [] # inline")
    before = read_folder(tmp_path)
    run("new", "fine", "--requests", str(path), code=2)
    assert read_folder(tmp_path) == before


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file grows past so many bytes: what a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_list_as_it_was_byte_for_byte(tmp_path: Path) -> None:
    """Half of the new lines would make it no list; half a notebook would stand in the way of the next try."""
    path = tmp_path / "requests.toml"
    for rest in (b"", b"# a longer list\n" * 5_000):
        path.write_bytes(HEAD.encode() + rest)
        before = read_folder(tmp_path)
        with room_for(path.stat().st_size + 20), pytest.raises(UnavailableError, match="cannot be written"):
            laying.lay_down("mine", path)
        assert read_folder(tmp_path) == before
    path.unlink()
    with room_for(20), pytest.raises(UnavailableError, match="cannot be written"):
        laying.lay_down("mine", path, "role-grants")
    assert read_folder(tmp_path) == {}


def test_a_full_disk_leaves_no_half_written_index(tmp_path: Path) -> None:
    """The index that stood there stands, and nothing beside it."""
    index = make_index([])
    write_index(index, tmp_path)
    before = read_folder(tmp_path)
    with room_for(10), pytest.raises(UnavailableError, match="index cannot be written"):
        write_index(index, tmp_path)
    assert read_folder(tmp_path) == before


@pytest.mark.parametrize("name", ["\U0001f600", 'a"b', "a\\b", "\udcff"])
def test_a_notebook_of_any_name_is_named_in_the_list_or_refused(name: str, tmp_path: Path) -> None:
    """What TOML spells otherwise than JSON, and a name that is no text."""
    path, book = tmp_path / "requests.toml", tmp_path / f"{name}.ipynb"
    shutil.copy(SAMPLES.parent / "notebooks" / "role-grants.ipynb", book)
    try:
        laying.lay_down("mine", path, str(book))
    except MalformedError:
        assert name in ("a\\b", "\udcff") and not path.exists()
    else:
        assert model.read_requests(path).requests[0].notebook == book.name


# --- the systems in scope ----------------------------------------------------------------------------------------


def system(name: str, sources: str = '["app"]', more: str = "") -> str:
    return f'\n[[systems]]\nname = "{name}"\nowner = "o"\nsources = {sources}\n{more}\n'


def states(folder: Path, scope: str, events: list[Any], since: str, until: str, tz: str = "UTC") -> Any:
    with trail_of(folder, events) as trail:
        table = scope_table(trail, parse_scope((SCOPE + scope).encode()), period_of(since, until, None, tz))
    return table


def daily(first: str, last: str, source: str = "app/1", action: str = "role.grant") -> list[Any]:
    days = pd.date_range(first, last, freq="12h", tz="UTC")
    return [event(f"{source}{n}", action, f"{day:%Y-%m-%dT%H:%M:%SZ}", source=source) for n, day in enumerate(days)]


def test_a_system_that_was_never_connected_is_uncovered_in_every_month() -> None:
    """The sample's scope, against the sample: covered, uncovered, carved out."""
    scope = parse_scope((SAMPLES / "scope.toml").read_bytes())
    table = scope_table(sample_trail(), scope, period_of("2026-03-01", "2026-06-01", None, "UTC"))
    found = {name: dict(zip(rows["month"], rows["state"], strict=True)) for name, rows in table.groupby("system")}
    months = ("2026-03", "2026-04", "2026-05")
    for name in ("Identity", "Administration", "Billing"):
        assert found[name] == dict.fromkeys(months, "covered")
    assert found["Payroll"] == dict.fromkeys(months[1:], "uncovered")  # in scope from April on
    assert found["Marketing site"] == dict.fromkeys(months, "carved out")
    told = scope_sentences(table)
    assert "2 uncovered" in told[0] and any("Payroll" in line and "never connected" in line for line in told)


def test_a_silence_over_the_end_of_a_month_counts_in_both(tmp_path: Path) -> None:
    """36 hours, of which neither month has more than 24: a month's end hides nothing."""
    events = [*daily("2026-03-01", "2026-03-31T00:00"), *daily("2026-04-01T12:00", "2026-04-30T12:00", "app/2")]
    table = states(tmp_path, system("S"), events, "2026-03-01", "2026-05-01")
    assert table["state"].tolist() == ["partly covered", "partly covered"]
    assert all("from 2026-03-31 00:00 to 2026-04-01 12:00 UTC" in missing for missing in table["missing"])


def test_a_month_is_covered_only_where_every_source_and_kind_is_there(tmp_path: Path) -> None:
    """One of two sources, a kind that nobody recorded, a source that stopped, a system that begins in between."""
    events = [*daily("2026-03-01", "2026-04-30T12:00"), *daily("2026-03-01", "2026-03-31T12:00", "extra/1")]
    scope = system("both", '["app", "extra"]') + system("kinds", more='kinds = ["grant", "login"]')
    scope += system("late", '["extra"]', "from = 2026-03-15\nuntil = 2026-04-01") + system("other", '["none"]')
    table = states(tmp_path, scope, events, "2026-03-01", "2026-05-01")
    found = {(row["system"], row["month"]): (row["state"], row["missing"]) for row in table.to_dict("records")}
    assert found["both", "2026-03"][0] == "partly covered" and "from 2026-03-31 12:00" in found["both", "2026-03"][1]
    assert found["both", "2026-04"] == ("partly covered", "extra recorded nothing")
    assert found["kinds", "2026-03"] == ("partly covered", "no action of kind login was recorded in the period")
    assert found["late", "2026-03"] == ("covered", "") and ("late", "2026-04") not in found
    assert found["other", "2026-04"][0] == "uncovered"


def test_months_are_those_of_the_time_zone(tmp_path: Path) -> None:
    """A record half an hour before midnight UTC is April's in Berlin."""
    events = daily("2026-03-31T22:30", "2026-03-31T22:30")
    for tz, month in (("UTC", "2026-03"), ("Europe/Berlin", "2026-04")):
        table = states(tmp_path / month, system("S"), events, "2026-03-01", "2026-05-01", tz)
        heard = table[table["state"] != "uncovered"]["month"].tolist()
        assert heard == [month]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1 to 500"),
        (system("S") + system("S"), "another system has this name"),
        (system("S", "[]"), "no source is expected"),
        (system("S", '["billing-api/7f3a"]'), "before the slash"),
        (system("S", more="form = 2026-01-01"), "Did you mean from?"),
        (system("S", more="from = 2026-02-01\nuntil = 2026-01-01"), "ends before it begins"),
        (system("S", more='from = "soon"'), "from"),
        ("systems = 1", "systems"),
    ],
)
def test_a_scope_that_says_nothing_is_refused(text: str, said: str) -> None:
    """With the system's name and the key."""
    with pytest.raises(MalformedError) as error:
        parse_scope((SCOPE + text).encode())
    assert said in str(error.value)


def test_a_notebook_of_ones_own_starts_from_one_that_runs(tmp_path: Path) -> None:
    """`auditlib notebook new` lays it down once; the packet it builds is accepted."""
    place = tmp_path / "odd-hours.ipynb"
    ran = CliRunner().invoke(app, ["notebook", "new", str(place)])
    assert ran.exit_code == 0 and "odd-hours" in place.read_text()
    before = place.read_bytes()
    for wrong in (place, tmp_path / "x.txt", tmp_path / "a b?.ipynb"):
        assert isinstance(CliRunner().invoke(app, ["notebook", "new", str(wrong)]).exception, MalformedError)
    assert place.read_bytes() == before and list(tmp_path.iterdir()) == [place]
    given = {"since": "2026-03-01", "until": "2026-03-02"}
    built = build_packet(str(place), str(sample_vault()), given, tmp_path / "out", keys=[SAMPLE_KEY])
    assert check_packet(Path(built.path), [SAMPLE_KEY]).ok
