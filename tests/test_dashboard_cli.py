"""`auditlib dashboard` at the command line: what cannot work is refused in a sentence, before anything is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import command
from dashboards import KEY, PASSWORD, ROOT, VAULT, engagement, free_port, until

from auditlib.dashboard.accounts import set_password
from auditlib.engagements import add_engagement

Commands = Callable[[list[list[str]]], list[tuple[int, str]]]
SAMPLE = ["--vault", str(VAULT), "--key", str(KEY)]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AUDITLIB_")}


@pytest.fixture
def commands() -> Iterator[Callable[[list[list[str]]], list[tuple[int, str]]]]:
    """The exit code of each command line, run in this process, and what it said to people."""
    handler = signal.getsignal(signal.SIGTERM)  # the dashboard takes it before it looks at anything

    def run(cases: list[list[str]]) -> list[tuple[int, str]]:
        return [(done.returncode, done.stderr) for done in (command(*words) for words in cases)]

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An engagement and its account, and files that have faults."""
    add_engagement(tmp_path / "engagements.toml", engagement("e1", "ines"))
    set_password(tmp_path / "accounts.toml", "ines", PASSWORD, new=True, now=lambda: time.time_ns() // 1000)
    for name, mode in (("accounts.toml", 0o640), ("engagements.toml", 0o620)):
        copy = tmp_path / f"open-{name}"
        copy.write_bytes((tmp_path / name).read_bytes())
        copy.chmod(mode)
    (tmp_path / "fault.toml").write_text((tmp_path / "engagements.toml").read_text().replace("auditor", "audtor"))
    (tmp_path / "fault.toml").chmod(0o600)
    for name, text, mode in (
        ("token", "t", 0o600),
        ("open-secret", "secret", 0o604),
        ("no-secret", "\n", 0o600),
        ("bytes", "\udcff", 0o600),
    ):
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
        (tmp_path / name).chmod(mode)
    return tmp_path


def test_what_cannot_work_is_refused_in_a_sentence_and_leaves_nothing(folder: Path, commands: Commands) -> None:
    """Each names what is wrong and what to do; no state folder is made, and no secret or hash is shown."""
    named = ["--engagements", f"{folder}/engagements.toml"]
    both = [*named, "--accounts", f"{folder}/accounts.toml"]
    provider = [*named, "--oidc-issuer", "https://id.example.org"]
    away = ["--collector", "http://127.0.0.1:1", "--token", f"{folder}/token"]
    collector = [*SAMPLE, *away[:-1]]
    refused: list[tuple[list[str], int, str]] = [
        (["--vault", f"{folder}/nowhere", "--state", f"{folder}/begun", *away], 2, "there is no such directory"),
        (["--vault", str(VAULT), "--key", f"{folder}/nowhere"], 2, "the key cannot be read"),
        ([*SAMPLE, "--vault", f"vault={folder}/other"], 2, "two vaults are called 'vault'. Call one something else"),
        ([*SAMPLE, "--listen", "5006"], 2, "is no HOST:PORT. Write 127.0.0.1:5006."),
        ([*SAMPLE, "--listen", "127.0.0.1:0"], 2, "is no HOST:PORT"),
        ([*SAMPLE, "--listen", "127.0.0.1:70000"], 2, "is no HOST:PORT"),
        ([*SAMPLE, "--listen", "0.0.0.0:5006"], 2, "without engagements it serves this machine alone"),
        ([*SAMPLE, "--behind-proxy"], 2, "without engagements it serves this machine alone"),
        ([*SAMPLE, "--accounts", f"{folder}/accounts.toml"], 2, "Name the file of engagements"),
        ([*SAMPLE, *named], 2, "nobody can sign in. Give --accounts FILE, or --oidc-issuer URL."),
        ([*SAMPLE, *both, "--listen", "0.0.0.0:5006"], 2, "would cross the network unencrypted"),
        ([*SAMPLE, *both, "--origin", "https://audit.example.org/audit"], 2, "is no origin"),
        ([*SAMPLE, *both, "--prefix", "audit"], 2, "is no prefix; write /audit."),
        ([*SAMPLE, *both, "--engagements", f"{folder}/none"], 3, "the file of engagements cannot be read"),
        ([*SAMPLE, *both, "--engagements", f"{folder}/fault.toml"], 2, "fault.toml: engagements[0].role"),
        ([*SAMPLE, *both, "--engagements", f"{folder}/open-engagements.toml"], 2, "others can write the file"),
        ([*SAMPLE, *both, "--accounts", f"{folder}/none"], 3, "the file of accounts cannot be read"),
        ([*SAMPLE, *both, "--accounts", f"{folder}/fault.toml"], 2, "fault.toml"),
        ([*SAMPLE, *both, "--accounts", f"{folder}/open-accounts.toml"], 2, "others can get at the file of accounts."),
        ([*SAMPLE, *both, "--requests", f"{folder}/none"], 2, "none: cannot be read"),
        ([*SAMPLE, *provider], 2, "Give the one that it was registered under"),
        ([*SAMPLE, *provider, "--oidc-client", "a", "--oidc-secret", f"{folder}/open-secret"], 2, "at the secret."),
        ([*SAMPLE, *provider, "--oidc-client", "a", "--oidc-secret", f"{folder}/no-secret"], 2, "is empty"),
        ([*SAMPLE, *provider, "--oidc-client", "a", "--oidc-secret", f"{folder}/bytes"], 2, "is no text"),
        ([*SAMPLE, *named, "--oidc-issuer", "http://id.example.org", "--oidc-client", "a"], 2, "https"),
        (collector[:-1], 2, "the collector wants a token. Make one with `auditlib token add dashboard"),
        ([*collector, f"{folder}/nowhere"], 3, "the secret cannot be read (No such file or directory)"),
        ([*SAMPLE, *both, "--scope", f"{folder}/nowhere"], 2, "nowhere: cannot be read"),
        ([*SAMPLE, *both, "--scope", f"{folder}/fault.toml"], 2, "this version reads format = 'auditlib/scope/v1'"),
        ([*SAMPLE, *both, "--monitor", f"{folder}/nowhere"], 2, "nowhere: cannot be read"),
        ([*SAMPLE, *both, "--monitor", f"{folder}/fault.toml"], 2, "is not known here"),
    ]
    state = folder / "state"
    told = commands([["dashboard", "--state", str(state), *words] for words, _, _ in refused])
    for (words, code, sentence), (found, said) in zip(refused, told, strict=True):
        assert (found, sentence in said) == (code, True), f"{words}\n{found} {said}"
        assert said.count("\n") == 1, said
        assert "argon2id" not in said
        assert "Traceback" not in said
    assert not state.exists()


def test_an_engagement_that_cannot_be_is_refused_by_its_option(tmp_path: Path, commands: Commands) -> None:
    """The option is named, the choices are; nothing is written."""
    given = ["--identity", "ines", "--vault", "main", "--engagements", f"{tmp_path}/e.toml"]
    valid = ["--valid-from", "2026-07-01T00:00:00Z", "--valid-until", "2999-01-01T00:00:00Z"]
    told = commands(
        [
            ["engagement", "add", "e1", *given, *valid, "--valid-from", "soon"],
            ["engagement", "add", "e1", *given, *valid, "--valid-until", "2026-10-01"],
            ["engagement", "add", "e1", *given, *valid, "--role", "root"],
        ]
    )
    sentences = ["--valid-from: 'soon' is not a time", "--valid-until: '2026-10-01' is not a time"]
    sentences += ["--role: 'root' is no role; choose one of auditor, analyst, admin."]
    assert [(code, sentence in said) for (code, said), sentence in zip(told, sentences, strict=True)] == [(2, True)] * 3
    assert list(tmp_path.iterdir()) == []


def test_the_list_says_which_engagements_hold_no_more(tmp_path: Path) -> None:
    """One that ended, one that has not begun, one that holds."""
    path = tmp_path / "e.toml"
    add_engagement(path, engagement("over", "a", valid_until="2026-01-02T00:00:00Z"))
    add_engagement(path, engagement("later", "b", valid_from="2098-01-01T00:00:00Z"))
    add_engagement(path, engagement("now", "c"))
    over, later, now = command("engagement", "list", "--engagements", path).stdout.split("\n\n")
    assert "This engagement ended at 2026-01-02" in over
    assert "This engagement begins at 2098-01-01" in later
    assert "This engagement" not in now


def start(log: Path, *words: str) -> subprocess.Popen[bytes]:
    with log.open("w") as output:
        line = [sys.executable, "-m", "auditlib.cli", "dashboard", *words]
        return subprocess.Popen(line, stdout=output, stderr=output, env=environment(), cwd=ROOT)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_folder_and_one_port_are_one_dashboards_and_an_end_leaves_no_process(
    folder: Path, commands: Commands
) -> None:
    """A second is told so; one that is told to end takes its collector and its readers with it."""
    port, state, log = free_port(), folder / "state", folder / "log"
    here = [*SAMPLE, "--engagements", str(folder / "later.toml"), "--accounts", str(folder / "accounts.toml")]
    add_engagement(folder / "later.toml", engagement("e2", "somebody else"))
    here += ["--listen", f"127.0.0.1:{port}"]
    away = ["--collector", "http://127.0.0.1:1", "--token", str(folder / "token")]
    first = start(log, *here, "--state", str(state))
    try:
        until(lambda: "auditlib: open" in log.read_text() or first.poll() is not None, 120)
        assert "nobody can sign in yet: no engagement that holds now names one of the accounts." in log.read_text()
        same, other = ["dashboard", *here, "--state", str(state)], [*here, *away, "--state", str(folder / "other")]
        ((code, said),) = commands([same])
        assert code == 3 and "another dashboard uses this folder. Stop it, or give this one another --state." in said
        second = start(folder / "second", *other)
        assert second.wait(120) == 3
        told = (folder / "second").read_text()
        assert "it cannot listen (Address already in use). Stop what listens there" in told
        assert "Traceback" not in told + said
        assert first.poll() is None
        beside = children(first.pid)
        assert beside
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 0
        until(lambda: not any(map(lives, beside)))
    finally:
        if first.poll() is None:
            first.kill()
            first.wait()
