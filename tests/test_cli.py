"""The command line: exit codes 0, 1, 2, 3 (DESIGN 7), sentences instead of tracebacks, and stable JSON."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from simulator import EVIL_KEY, KEY, Tamper, record, snapshot
from simulator import Trail as Simulated

from auditlib import cli
from auditlib.vault.local import LocalVault

LAB = Path(__file__).parents[2] / "shared" / "data" / "cloudtrail-lab"
needs_lab = pytest.mark.skipif(not LAB.is_dir(), reason="the public CloudTrail records are not here")
COMMANDS = [
    [],
    ["keygen"],
    ["init"],
    ["import"],
    ["verify"],
    ["query"],
    ["packet"],
    ["packet", "build"],
    ["packet", "verify"],
]
REPORT_KEYS = {"ok", "vault", "origin", "events", "seals", "checkpoint", "findings", "unchecked"}
FINDING_KEYS = {"check", "severity", "object", "message", "expected", "found"}
SEALS, SIZE = 3, 12


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """The command line in this process, its memory in a folder of the test's own."""
    monkeypatch.setenv("AUDITLIB_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("AUDITLIB_VAULT", "AUDITLIB_KEY", "AUDITLIB_SIGNING_KEY", "AUDITLIB_ACTOR"):
        monkeypatch.delenv(name, raising=False)

    def ran(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["auditlib", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stopped:
            warnings.simplefilter("default")
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        assert isinstance(stopped.value.code, int)
        if stopped.value.code in (2, 3) and arguments:
            assert captured.err.strip(), "an error without a sentence"
        return Ran(stopped.value.code, captured.out, captured.err)

    return ran


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The command line as a process of its own."""
    command = [sys.executable, "-m", "auditlib.cli", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output="stdout" not in options, timeout=60, **options)


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    simulated = Simulated(folder).create().seal(SEALS, SIZE)
    (folder / "own.vkey").write_text(f"{KEY.verifier}\n")
    (folder / "evil.vkey").write_text(f"{EVIL_KEY.verifier}\n")
    (folder / "own.key").write_text(KEY.secret_text() + "\n")
    return simulated, folder


@pytest.fixture
def vault(sound, tmp_path):
    return Path(shutil.copytree(sound[0].vault.root, tmp_path / "vault"))


@pytest.fixture
def keys(sound):
    return sound[1]


# --- help, usage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(run, command):
    """`--help` is fine; without arguments the usage is wrong."""
    told = run(*command, "--help")
    assert told.code == 0 and "Usage:" in told.out and told.err == ""


def test_wrong_usage_is_2_and_json_even_then(run, vault):
    """Unknown command or option, a missing argument, a value that is none."""
    assert run().code == 2
    assert run("--version").out.startswith("auditlib ")
    for arguments in (["nope"], ["verify"], ["verify", vault, "--nope"], ["query", vault, "--at", "x"], ["keygen"]):
        assert run(*arguments).code == 2
        told = run(*arguments, "--json")
        assert told.code == 2 and (told.json["ok"], set(told.json["error"])) == (False, {"message", "where", "remedy"})


# --- keygen, init ------------------------------------------------------------------------------------------------


def test_keygen_keeps_the_secret_to_its_owner_and_overwrites_nothing(run, tmp_path):
    """0600, a slash as `_`; the verifier key alone on standard output, the secret nowhere but in its file."""
    told = run("keygen", "acme.example/audit", "-o", tmp_path / "new")
    secret, public = tmp_path / "new" / "acme.example_audit.key", tmp_path / "new" / "acme.example_audit.vkey"
    assert told.code == 0 and told.out == public.read_text() and told.out.startswith("acme.example/audit+")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.read_text().strip().split("+", 4)[4] not in told.out + told.err
    before = secret.read_bytes(), public.read_bytes()
    assert run("keygen", "acme.example/audit", "-o", tmp_path / "new").code == 2
    secret.rename(tmp_path / "kept.key")
    assert run("keygen", "acme.example/audit", "-o", tmp_path / "new").code == 2
    assert ((tmp_path / "kept.key").read_bytes(), public.read_bytes()) == before and not secret.exists()
    for name in ("a b", "a+b", "", "x" * 256, "ä"):
        assert run("keygen", name, "-o", tmp_path / "none").code == 2
    assert run("keygen", "x", "-o", "/proc/self/nowhere").code == 3
    assert run("keygen", "x" * 255, "-o", tmp_path / "none").code == 3  # no file name is that long


def test_init_lays_a_trail_down_once(run, keys, tmp_path):
    """Again with the same values changes nothing; with others it is refused."""
    vault = tmp_path / "new"
    assert run("init", vault, "--key", keys / "own.key", "--origin", KEY.name).out.strip() == str(KEY.verifier)
    before = snapshot(LocalVault(vault))
    assert run("init", vault, "--key", keys / "own.key").code == 0
    assert run("init", vault, "--key", keys / "own.key", "--retention", "1y").code == 1
    assert run("init", vault, "--key", keys / "own.key", "--origin", "other").code == 2
    assert run("init", vault, "--key", keys / "own.vkey").code == 2
    assert run("init", vault, "--key", keys / "no.key").code == 2
    assert snapshot(LocalVault(vault)) == before
    told = run("verify", vault, "--json")
    assert told.code == 0 and told.json["events"] == 0 and told.json["checkpoint"] is None
    assert run("query", vault).code == 2
    assert run("init", "/proc/self/no", "--key", keys / "own.key").code == 3
    assert run("init", "s3://bucket/x", "--key", keys / "own.key").code in (2, 3)


@pytest.mark.parametrize(
    ("text", "days"),
    [("7y", 2557), ("1y", 366), ("4y", 1461), ("2557d", 2557), ("365", 365), ("1d", 1), ("100y", None), ("99y", 36160)],
)
def test_retention_is_whole_days(run, keys, tmp_path, text, days):
    """A year has 365.25 days, rounded up; a century is too much."""
    told = run("init", tmp_path / "new", "--key", keys / "own.key", "--retention", text)
    if days is None:
        days = 36525
        assert told.code == 2
    else:
        assert told.code == 0
        assert json.loads((tmp_path / "new" / "trail" / "000000.json").read_text())["retention"]["days"] == days


@pytest.mark.parametrize(
    "text", ["", "0", "0y", "-1d", "1.5y", "y", "7 y", "7Y", "7m", "²", "²y", "٣y", "1e3", "1000000"]
)
def test_retention_that_is_none_is_refused(run, keys, tmp_path, text):
    """In a sentence, and no vault is made."""
    told = run("init", tmp_path / "new", "--key", keys / "own.key", f"--retention={text}")
    assert told.code == 2 and "write 7y or 2557d" in told.err
    assert not (tmp_path / "new").exists()


# --- verify ------------------------------------------------------------------------------------------------------


def test_verify_says_what_it_found(run, vault, keys):
    """0 and the stable keys; the key confirmed or not; text for people."""
    for extra in ([], ["--deep"], ["--deep", "--workers", "2"]):
        told = run("verify", vault, "--key", keys / "own.vkey", "--json", *extra)
        assert told.code == 0 and told.err == ""
        report = told.json
        assert set(report) >= REPORT_KEYS
        assert (report["ok"], report["events"], report["seals"]) == (True, SEALS * SIZE, SEALS)
        assert set(report["checkpoint"]) == {"size", "root", "key", "key_confirmed"}
        assert report["checkpoint"]["key_confirmed"] and report["checkpoint"]["key"] == str(KEY.verifier)
        assert all(set(finding) == FINDING_KEYS for finding in report["findings"])
    assert not run("verify", vault, "--json").json["checkpoint"]["key_confirmed"]
    told = run("verify", vault)
    assert told.code == 0 and "not confirmed" in told.out and "no outside anchor" in told.out


def test_verify_with_a_state_reads_what_is_new(run, vault, keys, tmp_path):
    """The file is made, then extended; the report says what was read when; --recheck 0 reads nothing old."""
    state, key = tmp_path / "verified.json", keys / "own.vkey"
    first = run("verify", vault, "--key", key, "--deep", "--state", state, "--json")
    assert first.code == 0 and [s["last"] for s in first.json["checked"]] == [SEALS - 1]
    again = run("verify", vault, "--key", key, "--deep", "--state", state, "--recheck", "0", "--json")
    assert again.code == 0 and again.json["checked"] == first.json["checked"]
    assert any("the outside anchor covers" in text for text in again.json["unchecked"])
    told = run("verify", vault, "--key", key, "--deep", "--state", state)
    assert told.code == 0 and "Records read" in told.out
    before = state.read_bytes()
    told = run("verify", vault, "--key", key, "--state", state)
    assert told.code == 0 and "--deep alone" in told.err
    Tamper(vault).flip("batches/*/000000000000-*", 300)
    told = run("verify", vault, "--key", key, "--deep", "--state", state)
    assert told.code == 1 and "check 5" in told.out and state.read_bytes() == before
    state.write_bytes(before[:-1])
    told = run("verify", vault, "--key", key, "--deep", "--state", state)
    assert told.code == 2 and "written by this account" in told.err and told.out == ""


def test_verify_of_altered_evidence_is_1(run, vault, keys):
    """The same keys, and the fault by its number; a query does not answer from it."""
    tamper = Tamper(vault)
    tamper.remove("batches/*/000000000001-*")
    told = run("verify", vault, "--key", keys / "own.vkey", "--json")
    assert told.code == 1 and set(told.json) >= REPORT_KEYS and told.json["ok"] is False
    errors = [finding for finding in told.json["findings"] if finding["severity"] == "error"]
    assert [finding["check"] for finding in errors] == [5] and set(errors[0]) == FINDING_KEYS
    assert "check 5" in run("verify", vault).out
    tamper.remove("seals/*/000000000001.json")
    told = run("query", vault, "--count", "--json")
    assert told.code == 1 and told.json["ok"] is False and "check 2" in told.json["error"]["message"]


def test_a_batch_altered_in_place_is_1_for_a_query(run, vault):
    """Check 5, at the moment it is read."""
    batch = next(vault.glob("batches/*/000000000001-*"))
    Tamper(vault).write(str(batch.relative_to(vault)), b"x" * batch.stat().st_size)
    told = run("query", vault, "--count")
    assert told.code == 1 and "check 5" in told.err and told.out == ""


def test_verify_with_the_wrong_key_is_1_and_with_none_that_can_be_read_2(run, vault, keys, tmp_path):
    """A stranger's key, a secret key, no key, no text."""
    told = run("verify", vault, "--key", keys / "evil.vkey", "--json")
    assert told.code == 1 and {f["check"] for f in told.json["findings"] if f["severity"] == "error"} == {0}
    (tmp_path / "bad.vkey").write_bytes(b"\xff\xfe not a key")
    (tmp_path / "empty.vkey").write_text("# nothing\n")
    for key in (
        keys / "own.key",
        tmp_path / "no.vkey",
        tmp_path / "bad.vkey",
        tmp_path / "empty.vkey",
        tmp_path,
        "a+b",
    ):
        told = run("verify", vault, "--key", key, "--json")
        assert told.code == 2 and told.json["ok"] is False
        assert KEY.secret_text().split("+", 4)[4] not in told.out + told.err


def test_verify_of_no_vault_is_2(run, tmp_path, keys):
    """A place that is not there, a file, another scheme."""
    for place in (tmp_path / "no", keys / "own.key", "file:///no/where", "http://x/y", "ftp://x"):
        told = run("verify", place, "--json")
        assert told.code == 2 and told.json["ok"] is False, place


def test_verify_against_what_the_auditor_kept(run, vault, keys, tmp_path):
    """An older checkpoint is an anchor; one that does not fit, or is none, is not passed over."""
    kept = tmp_path / "kept"
    kept.write_bytes((vault / "checkpoints/000000/000000000002").read_bytes())
    told = run("verify", vault, "--key", keys / "own.vkey", "--against", kept, "--json")
    assert told.code == 0 and not [text for text in told.json["unchecked"] if "no outside anchor" in text]
    tamper = Tamper(vault)
    tamper.fork(2)
    wrong = tmp_path / "wrong"
    wrong.write_bytes(tamper.read("checkpoints/*/000000000002"))
    tamper.write("checkpoints/000000/000000000002", kept.read_bytes())
    told = run("verify", vault, "--key", keys / "own.vkey", "--against", wrong, "--json")
    assert told.code == 1 and 1 in {f["check"] for f in told.json["findings"] if f["severity"] == "error"}
    tamper.remove("checkpoints/*/000000000003")  # the tail is cut off
    tamper.remove("seals/*/000000000002.json")
    newest = tmp_path / "newest"
    newest.write_bytes(next(Path(vault).parent.glob("kept")).read_bytes())
    assert run("verify", vault, "--key", keys / "own.vkey", "--against", newest).code == 0
    for name, data in (("junk", b"junk"), ("empty", b"")):
        (tmp_path / name).write_bytes(data)
        assert run("verify", vault, "--against", tmp_path / name).code == 2
    assert run("verify", vault, "--against", tmp_path / "no").code == 2


def test_a_cut_tail_shows_against_a_newer_checkpoint(run, vault, keys, tmp_path):
    """What a copy kept outside is for."""
    newest = tmp_path / "newest"
    newest.write_bytes((vault / "checkpoints/000000/000000000003").read_bytes())
    for name in ("checkpoints/*/000000000003", "seals/*/000000000002.json", "batches/*/000000000002-*"):
        Tamper(vault).remove(name)
    assert run("verify", vault, "--key", keys / "own.vkey").code == 0
    told = run("verify", vault, "--key", keys / "own.vkey", "--against", newest, "--json")
    assert told.code == 1 and 1 in {f["check"] for f in told.json["findings"] if f["severity"] == "error"}


# --- query -------------------------------------------------------------------------------------------------------


def test_query_to_standard_output(run, vault):
    """A table, a count, csv, canonical records."""
    assert run("query", vault, "--count").out == f"{SEALS * SIZE}\n"
    assert run("query", vault, "--kind", "grant", "--count", "--json").json == {"count": SEALS * SIZE // 3}
    assert f"{SEALS * SIZE} events" in run("query", vault).out
    assert "0 events. No event answers." in run("query", vault, "--action", "no.such").out
    rows = list(csv.DictReader(io.StringIO(run("query", vault, "--format", "csv", "--kind", "grant").out)))
    assert len(rows) == SEALS * SIZE // 3 and {row["action"] for row in rows} == {"role.grant"}
    for form in (["--format", "jsonl"], ["--json"]):
        lines = run("query", vault, *form, "--kind", "grant").out.splitlines()
        assert [json.loads(line)["event"]["event_id"] for line in lines] == [row["event_id"] for row in rows]
    asked = ["--where", "granted_role=admin", "--where", "granted_role=root", "--actor", "user:u_*", "--at", 1]
    assert run("query", vault, *asked, "--count").out == "4\n"


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "xlsx"])
def test_query_to_a_file(run, vault, tmp_path, form):
    """The ending chooses; --format overrides; a file that is there stays."""
    path = tmp_path / f"out.{form}"
    assert run("query", vault, "-o", path).out == f"{SEALS * SIZE} events written to {path}\n"
    data = path.read_bytes()
    told = run("query", vault, "-o", path, "--json")
    assert told.code == 2 and "not overwritten" in told.json["error"]["message"] and path.read_bytes() == data
    told = run("query", vault, "--format", form, "-o", tmp_path / "other", "--json")
    assert told.json == {"events": SEALS * SIZE, "file": str(tmp_path / "other")}
    assert (tmp_path / "other").read_bytes() == data
    assert run("query", vault, "--actor", "nobody", "-o", tmp_path / f"empty.{form}").code == 0
    assert run("query", vault, "-o", tmp_path / "no" / f"x.{form}").code == 3
    assert run("query", vault, "-o", path / f"x.{form}").code == 3


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--kind", "gran"], "Did you mean 'grant'?"),
        (["--outcome", "succes"], "is no outcome"),
        (["--since", "yesterday"], "neither a date"),
        (["--since", "2026-02-30"], "neither a date"),
        (["--since", "2026-03-02", "--until", "2026-03-01"], "period is empty"),
        (["--until", "2026-03-02", "--through", "2026-03-01"], "not both"),
        (["--through", "9999-12-31"], "outside the years"),
        (["--tz", "Mars/Base"], "no time zone"),
        (["--where", "granted_role"], "not NAME=VALUE"),
        (["--where", "=x"], "not NAME=VALUE"),
        (["--where", "*=x"], "path into the context"),
        (["--actor", ""], "give a value"),
        (["--actor", "\udcff"], "no valid text"),  # what a byte that is no UTF-8 becomes
        (["--at", "99"], "no checkpoint of size 99"),
        (["--format", "doc"], "no format"),
        (["--format", "xlsx"], "Give -o FILE"),
        (["-o", "x.doc"], "no format"),
    ],
)
def test_a_question_that_is_none_is_2(run, vault, asked, says, tmp_path, monkeypatch):
    """A sentence that says what to write instead, and the same in JSON."""
    monkeypatch.chdir(tmp_path)
    told = run("query", vault, *asked)
    assert told.code == 2 and told.out == "" and says in told.err
    told = run("query", vault, *asked, "--json")
    assert told.code == 2 and says in told.json["error"]["message"] + told.json["error"]["remedy"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["vault"]


def test_a_months_last_day_as_until_warns_people(run, vault):
    """On standard error, with the better question."""
    told = run("query", vault, "--until", "2026-03-31", "--count")
    assert told.code == 0 and told.out == f"{SEALS * SIZE}\n" and "write through=2026-03-31" in told.err


def test_what_a_record_says_does_not_reach_the_terminal(run, tmp_path):
    """Escape sequences, markup, right-to-left marks: shown as text, as what they are."""
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[bold red]x[/bold red][/]"
    simulated = Simulated(tmp_path).create()
    with simulated.sealer() as sealer:
        sealer.add([record(0, actor_id=evil, event_id="[/red]"), record(1, context={"n": evil})])
        sealer.flush()
    told = run("query", tmp_path / "vault")
    assert told.code == 0 and "[bold red]x" in told.out.replace("\n", "") and "\\x1b]0;owned" in told.out
    assert not set(told.out) & set("\x1b\x07\x9b\u202e")


# --- import ------------------------------------------------------------------------------------------------------


def cloudtrail(number: int, **changes: Any) -> dict[str, Any]:
    """A CloudTrail record in its usual shape."""
    return {
        "eventVersion": "1.08",
        "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::123456789012:user/alice", "accountId": "123456789012"},
        "eventTime": "2026-03-01T09:00:00Z",
        "eventSource": "iam.amazonaws.com",
        "eventName": "AttachRolePolicy",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "203.0.113.4",
        "requestParameters": {"roleName": "r", "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
        "responseElements": None,
        "eventID": f"00000000-0000-4000-8000-{number:012}",
        "eventType": "AwsApiCall",
        "recipientAccountId": "123456789012",
    } | changes


@pytest.fixture
def fresh(run, keys, tmp_path):
    """An empty trail, and the options that seal into it."""
    assert run("init", tmp_path / "fresh", "--key", keys / "own.key").code == 0
    return tmp_path / "fresh", ["--vault", tmp_path / "fresh", "--key", keys / "own.key"]


@needs_lab
def test_the_cloudtrail_lab_is_sealed_whole_and_once(run, fresh, keys):
    """2,900 events and the import's own; again adds nothing; the answers are known."""
    vault, options = fresh
    told = run("import", "cloudtrail", LAB, *options, "--json")
    assert told.code == 0
    assert {name: told.json[name] for name in ("added", "repeats", "conflicts", "rejects")} == {
        "added": 2900, "repeats": 0, "conflicts": 0, "rejects": 0,
    }  # fmt: skip
    before = snapshot(LocalVault(vault))
    again = run("import", "cloudtrail", LAB, *options, "--json").json
    assert (again["added"], again["repeats"]) == (0, 2900) and snapshot(LocalVault(vault)) == before
    report = run("verify", vault, "--deep", "--json", "--key", keys / "own.vkey").json
    assert report["ok"] and report["events"] == 2901
    for asked, count in (
        (["--action", "iam.attach_role_policy"], 6),
        (["--kind", "grant"], 14),
        (["--outcome", "denied"], 60),
        (["--action", "audit.import"], 1),
    ):
        assert run("query", vault, *asked, "--count").out == f"{count}\n"


def test_what_cannot_become_an_event_is_kept_apart(run, fresh, tmp_path):
    """Broken lines go verbatim into a 0600 file, the exit code is 2, and the good ones are sealed."""
    vault, options = fresh
    good, log, rejects = (
        [json.dumps(cloudtrail(number)) for number in range(3)],
        tmp_path / "log.jsonl",
        tmp_path / "rejects",
    )
    broken = ['{"eventID": "\x1b[2J', '{"eventName": "\\u001b]0;owned\\u0007"}']
    log.write_text("\n".join([good[0], broken[0], good[1], broken[1], good[2]]) + "\n")
    told = run("import", "cloudtrail", log, *options, "--rejects", rejects, "--json")
    assert told.code == 2 and (told.json["added"], told.json["rejects"]) == (3, 2)
    assert stat.S_IMODE(rejects.stat().st_mode) == 0o600 and len(rejects.read_text().splitlines()) == 2
    assert run("query", vault, "--kind", "grant", "--count").out == "3\n"
    before = rejects.read_bytes()
    told = run("import", "cloudtrail", log, *options, "--rejects", rejects)
    assert told.code == 2 and "not overwritten" in told.err and rejects.read_bytes() == before
    named = log.rename(tmp_path / "\x1b[2Jlog.jsonl")
    told = run("import", "cloudtrail", named, *options)
    assert told.code == 2 and "2 rejected" in told.out and "the first:" in told.err
    assert not set(told.out + told.err) & set("\x1b\x07")


def test_a_forged_event_of_a_known_id_is_sealed_as_a_conflict(run, fresh, tmp_path):
    """Neither body is lost: the first stays, the second is stated."""
    vault, options = fresh
    for name, body in (("a", cloudtrail(1)), ("b", cloudtrail(1, sourceIPAddress="198.51.100.9"))):
        (tmp_path / f"{name}.json").write_text(json.dumps({"Records": [body]}))
    assert run("import", "cloudtrail", tmp_path / "a.json", *options, "--json").json["added"] == 1
    told = run("import", "cloudtrail", tmp_path / "b.json", *options, "--json")
    assert (told.json["added"], told.json["conflicts"]) == (0, 1)
    assert int(run("query", vault, "--action", "audit.conflict", "--count").out) >= 1
    assert run("query", vault, "--kind", "grant", "--count").out == "1\n"
    assert run("verify", vault, "--deep").code == 0


def test_an_import_that_cannot_be_done_writes_nothing(run, fresh, keys, tmp_path, monkeypatch):
    """2 for what was asked wrongly, 3 for a memory that cannot be kept."""
    vault, options = fresh
    log = tmp_path / "log.json"
    log.write_text(json.dumps({"Records": [cloudtrail(number) for number in range(5)]}))
    before = snapshot(LocalVault(vault))
    for arguments in (
        ["nope", log, *options],
        ["cloudtrail", tmp_path / "no", *options],
        ["cloudtrail", log, *options[:2], "--key", keys / "own.vkey"],
        ["cloudtrail", log, "--vault", tmp_path / "no", *options[2:]],
        ["cloudtrail", log, *options, "--max-events", 0],
        ["cloudtrail", log, *options, "--max-events", 1, "--actor", "x" * 1025],
        ["cloudtrail", log, *options, "--actor", "\udcff"],
    ):
        assert run("import", *arguments).code == 2, arguments
    monkeypatch.setenv("AUDITLIB_STATE", str(log / "no"))
    told = run("import", "cloudtrail", log, *options, "--json")
    assert told.code == 3 and told.json["ok"] is False and "AUDITLIB_STATE" in told.json["error"]["remedy"]
    assert snapshot(LocalVault(vault)) == before


def test_an_account_without_a_name_can_import(run, fresh, tmp_path, monkeypatch):
    """As in a container: the number stands for it."""

    def nameless():
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(cli.common.getpass, "getuser", nameless)
    vault, options = fresh
    (tmp_path / "log.json").write_text(json.dumps({"Records": [cloudtrail(1)]}))
    assert run("import", "cloudtrail", tmp_path / "log.json", *options).code == 0
    assert run("query", vault, "--actor", f"uid:{os.getuid()}", "--count").out == "1\n"


# --- packet ------------------------------------------------------------------------------------------------------


def test_packet_commands_that_cannot_be_done(run, vault, tmp_path):
    """A parameter that is none is answered with the closest; an output that is there stays."""
    build = ["packet", "build", "role-grants", "--vault", vault]
    told = run(*build, "-o", tmp_path / "p", "-p", "entitlemen=admin")
    assert told.code == 2 and "Did you mean 'entitlement'" in told.err
    assert run(*build, "-o", tmp_path / "p", "-p", "since").code == 2
    assert run("packet", "build", "no-such", "--vault", vault, "-o", tmp_path / "p").code == 2
    assert run("packet", "build", "role-grants", "--vault", tmp_path / "no", "-o", tmp_path / "p").code == 2
    told = run(*build, "-o", vault, "--json")
    assert told.code == 2 and "not overwritten" in told.json["error"]["message"]
    assert not (tmp_path / "p").exists()
    for place in (tmp_path / "no", tmp_path / "[/a].zip", vault / "trail" / "000000.json"):
        told = run("packet", "verify", place, "--json")
        assert told.code == 2 and told.json["ok"] is False
    (tmp_path / "[/a]").mkdir(parents=True)  # no markup of a terminal library
    assert run("packet", "verify", tmp_path / "[/a]").code in (1, 2)


# --- processes ---------------------------------------------------------------------------------------------------


def test_the_environment_stands_for_options(run, vault, keys, monkeypatch):
    """AUDITLIB_VAULT and AUDITLIB_KEY; what is written out wins."""
    monkeypatch.setenv("AUDITLIB_VAULT", str(vault))
    monkeypatch.setenv("AUDITLIB_KEY", str(keys / "own.vkey"))
    assert run("verify", "--json").json["checkpoint"]["key_confirmed"]
    assert run("query", "--count").out == f"{SEALS * SIZE}\n"
    assert run("verify", "--key", keys / "evil.vkey").code == 1
    monkeypatch.setenv("AUDITLIB_KEY", str(KEY.verifier))
    assert run("verify", "--json").json["checkpoint"]["key_confirmed"]


def test_as_a_process_it_ends_with_the_same_codes(vault, tmp_path):
    """Nothing but the exit code and the sentence: the interpreter adds no word of its own."""
    assert process("verify", vault).returncode == 0
    told = process("query", tmp_path / "no")
    assert told.returncode == 2 and told.stdout == b"" and told.stderr.startswith(b"auditlib: ")
    Tamper(vault).remove("seals/*/000000000001.json")
    assert process("verify", vault).returncode == 1


@pytest.mark.parametrize("form", [["--format", "csv"], ["--format", "jsonl"], ["--count"]])
def test_a_reader_that_has_gone_is_no_error_and_a_full_disk_is_3(vault, form):
    """`| head` ends in peace; output that was lost does not."""
    read, write = os.pipe()
    os.close(read)
    told = process("query", vault, *form, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (told.returncode, told.stderr) == (0, b"")
    with Path("/dev/full").open("wb") as full:
        told = process("query", vault, *form, stdout=full, stderr=subprocess.PIPE)
    assert told.returncode == 3 and b"Traceback" not in told.stderr and b"No space left" in told.stderr
