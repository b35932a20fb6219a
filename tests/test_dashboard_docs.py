"""Every `auditlib dashboard` line in the documents starts; what operations.md says of its folder and words is so."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
import urllib3
from dashboards import ROOT, free_port, until
from test_docs import DOCS, LOG, OPERATIONS, SAMPLES, blocks, rows
from typer.main import get_command

from auditlib import cli
from auditlib.formats.canonical import canonical

SECTION = "## Serving auditors"
DOCUMENTED = [
    (page.name, text)
    for page in DOCS
    for _, kind, text in blocks(page)
    if kind == "sh" and re.search(r"^auditlib dashboard", text, re.M)
]
# What tells one way to start it from another; of each the first that is documented is started.
WAYS = ("--accounts", "--oidc-issuer", "--collector")


def way(text: str) -> tuple[str, ...]:
    return tuple(option for option in WAYS if option in text)


STARTED = {way(text): text for _, text in reversed(DOCUMENTED)}
ACCOUNTS = STARTED["--accounts",]


def environment(place: Path) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AUDITLIB_")}
    return env | {"PATH": f"{place / '.venv' / 'bin'}:{env['PATH']}", "XDG_STATE_HOME": str(place / "own")}


def sh(place: Path, text: str) -> str:
    """What a shell in this place says of these lines; they must succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the earlier pages of operations.md lead to, with the engagement and the account of its section."""
    place = tmp_path_factory.mktemp("served") / "main"
    shutil.copytree(SAMPLES, place / "data-samples", ignore=shutil.ignore_patterns("__pycache__"))
    (place / ".venv").mkdir()
    (place / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (place / "logs").mkdir()
    (place / "logs" / "log.json").write_bytes(canonical({"Records": [LOG]}))
    key = "keys/example.org_audit.key"
    sh(
        place,
        f"auditlib keygen example.org/audit -o keys && cp -r keys new\n"
        f"auditlib init vault --origin example.org/audit --key {key}\n"
        f"auditlib import cloudtrail logs --vault vault --key {key}\n"
        "(umask 077 && echo a-secret > oidc.secret && echo a-token > dashboard.token)",
    )
    section = OPERATIONS.read_text().partition(SECTION)[2].partition("\n## ")[0]
    for mark, kind, text in blocks(OPERATIONS):
        if kind == "sh" and mark != "not run" and text in section and "# not run" not in text:
            sh(place, text)
    return place


class Started:
    """A documented line, on a port of its own, so that all can run at once; it ends as a service manager ends it."""

    def __init__(self, place: Path, text: str, log: Path) -> None:
        self.text, self.log = text, log
        listen = f"127.0.0.1:{free_port()}"
        self.address = f"http://{listen}"
        told = re.sub(r" --listen \S+", "", text).replace("auditlib dashboard", f"auditlib dashboard --listen {listen}")
        if text is not ACCOUNTS:  # whose folder is looked into
            told = told.replace("--state dashboard", f"--state {log}-state")
        with log.open("w") as output:
            self.process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", told],
                cwd=place,
                env=environment(place),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def is_open(self) -> str:
        """What it said, once it is open."""
        until(lambda: "auditlib: open" in self.log.read_text() or self.process.poll() is not None, 120)
        told = self.log.read_text()
        assert "auditlib: open" in told, f"{self.text}\n{told}"
        return told

    def ask_to_end(self) -> None:
        """As a service manager asks, the whole group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)

    def end(self) -> None:
        """End it, with all that it started."""
        self.ask_to_end()
        self.process.wait()
        until(lambda: not group_lives(self.process.pid))


@pytest.fixture(scope="module")
def running(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, ...], Started]]:
    """One of each kind, all at once."""
    logs = tmp_path_factory.mktemp("logs")
    all_of_them = {kind: Started(place, text, logs / str(n)) for n, (kind, text) in enumerate(STARTED.items())}
    yield all_of_them
    for end in (Started.ask_to_end, Started.end):
        for each in all_of_them.values():
            end(each)


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("kind", STARTED, ids=lambda kind: "".join(kind).replace("--", " ").strip() or "alone")
def test_a_documented_dashboard_starts(running: dict[tuple[str, ...], Started], kind: tuple[str, ...]) -> None:
    """As it stands there, but for the port: it says where to open it, and a browser that goes there is answered."""
    text, told, address = STARTED[kind], running[kind].is_open(), running[kind].address
    origin, prefix = re.search(r"--origin (\S+)", text), re.search(r"--prefix (\S+)", text)
    path = f"{prefix[1] if prefix else ''}/"
    assert f"auditlib: open {origin[1] if origin else address}{path}" in told
    host = {"Host": origin[1].removeprefix("https://")} if origin else {}
    assert urllib3.request("GET", f"{address}{path}signin", headers=host).status == 200


@pytest.mark.parametrize(("page", "text"), DOCUMENTED, ids=[f"{page}-{n}" for n, (page, _) in enumerate(DOCUMENTED)])
def test_each_documented_line_is_one_that_the_command_takes(page: str, text: str) -> None:
    """Every option is there and takes what is written."""
    line = re.sub(r"\\\n", " ", text)
    ((found,),) = [re.findall(r"^auditlib (dashboard .*?)(?:# not run)?$", line, re.M)]
    words = shlex.split(found)[1:]
    set_before = dict(re.findall(r"(AUDITLIB_\w+)=(\S+)", text))
    serve = get_command(cli.app).commands["dashboard"]  # type: ignore[attr-defined]
    with mock.patch.dict(os.environ, set_before):
        given = serve.make_context("dashboard", words).params
    assert given["vault"], page


def test_what_was_done_is_sealed_as_it_says_and_the_folder_is_as_it_says(
    place: Path, running: dict[tuple[str, ...], Started]
) -> None:
    """A sign-in that failed stands in the vault after the documented line; the table names what lies in --state."""
    served = running[way(ACCOUNTS)]
    served.is_open()
    assert urllib3.request("GET", f"{served.address}/signin?once=nobody").status == 403
    served.end()
    (line,) = re.findall(r"^auditlib seal .*dashboard/audit\.db.*$", OPERATIONS.read_text(), re.M)
    sh(place, line)
    query = "auditlib query vault --action evidence.sign_in --format jsonl --key new/example.org_audit.vkey"
    assert '"anonymous"' in sh(place, query)
    table = rows(OPERATIONS, "in `--state` (0700) | what it is")
    stated = {name.rstrip("/") for first, _ in table for name in re.findall(r"`([^`]+)`", first)}
    found = {path.name for path in (place / "dashboard").iterdir()}
    assert stated <= found
    assert {name for name in found if not name.startswith(tuple(stated))} == set()


def test_the_words_it_refuses_with_are_those_of_the_table() -> None:
    """Each sentence of the table is one that the code says."""
    source = "\n".join(path.read_text() for path in sorted((ROOT / "auditlib").rglob("*.py")))
    spoken = re.sub(r'"\s*\n\s*f?"', "", source)
    table = rows(OPERATIONS, "it says | what to do")
    assert len(table) > 5
    for sentence, _ in table:
        assert sentence in spoken, sentence


def test_the_proxy_of_the_example_logs_no_query() -> None:
    """Neither the request's line nor its arguments nor a referrer."""
    (text,) = (text for _, kind, text in blocks(OPERATIONS) if kind == "nginx")
    assert (
        set(re.findall(r"\$\w+", text.partition(";")[0])) & {"$request", "$request_uri", "$args", "$http_referer"}
        == set()
    )
    assert re.search(r"access_log \S+ auditlib;", text)
    assert re.search(r"error_log \S+ crit;", text)
