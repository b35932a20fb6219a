"""Engagements: who may look, at what, and for how long; the file is hostile to read, and kept as it was written."""

from __future__ import annotations

import json
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from command_line import command
from simulator import CATALOG

from auditlib import engagements as module
from auditlib.engagements import (
    Engagement,
    Engagements,
    add_engagement,
    check_engagement,
    current,
    in_words,
    read_engagements,
    revoke_engagement,
)
from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.times import DAY, parse_time

NOW = parse_time("2026-07-15T12:00:00Z")
WRITTEN = """# Kept by hand since 2026.
format = "auditlib/engagements/v1"

[[engagements]]   # the audit
id = "soc2-2026"
identity = "ines@auditor.example"
role = "auditor"
vaults = ["acme.example/audit"]
since = 2026-01-01            # a TOML day
until = "2026-07-01"
kinds = ["grant", "revoke"]
redact = ["context.ip"]
requests = ["AC-*"]
rows_per_export = 10_000
valid_from = 2026-07-01T00:00:00Z
valid_until = "2026-10-01T00:00:00Z"
set_by = "maria"
set_at = "2026-06-28T09:12:00Z"

[[ engagements ]]
id = "internal"
identity = "omar"
role = "analyst"
vaults = ["main"]
valid_from = "2026-01-01T00:00:00Z"
valid_until = "2027-01-01T00:00:00Z"
set_by = "maria"
set_at = "2026-01-01T00:00:00Z"  # no newline at the end"""
FIELDS: dict[str, Any] = {
    "id": "e1",
    "identity": "ines",
    "role": "auditor",
    "vaults": ("main",),
    "valid_from": "2026-07-01T00:00:00Z",
    "valid_until": "2026-10-01T00:00:00Z",
    "set_by": "maria",
    "set_at": "2026-06-28T09:12:00Z",
}


def now() -> int:
    return NOW


def engagement(**changes: Any) -> Engagement:
    return Engagement(**{**FIELDS, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "engagements.toml"
    file.write_text(WRITTEN)
    return file


def test_the_example_in_the_docstring_reads(tmp_path: Path) -> None:
    """What the package shows is what it reads."""
    text = "\n".join(line[4:] for line in (module.__doc__ or "").splitlines() if line.startswith("    "))
    (tmp_path / "e.toml").write_text(text)
    (read,) = read_engagements(tmp_path / "e.toml")
    assert (read.id, read.role, read.requests) == ("soc2-2026", "auditor", ("AC-*",))


def test_an_engagement_is_current_from_its_first_to_before_its_last_moment(path: Path) -> None:
    """For exactly this identity, to the microsecond, unless revoked."""
    known = read_engagements(path)
    start, end = parse_time("2026-07-01T00:00:00Z"), parse_time("2026-10-01T00:00:00Z")
    for moment, there in ((start - 1, 0), (start, 1), (end - 1, 1), (end, 0)):
        assert len(current(known, "ines@auditor.example", moment)) == there
    for identity in ("Ines@auditor.example", "ines@auditor.example ", "", "*", "ines"):
        assert current(known, identity, NOW) == []
    revoked = msgspec.structs.replace(known[0], revoked_at="2099-01-01T00:00:00Z")
    assert current([revoked], "ines@auditor.example", NOW) == []


def test_the_scope_is_told_in_plain_words(path: Path) -> None:
    """Who, what, without what, how much, how long, and who set it when."""
    first, second = read_engagements(path)
    assert in_words(first) == [
        "ines@auditor.example looks as auditor, under the engagement soc2-2026.",
        "Of the vault acme.example/audit:",
        "Only events that occurred from 2026-01-01 until before 2026-07-01 (UTC).",
        "Only the kinds grant, revoke.",
        "Left out of every event: context.ip.",
        "An export has at most 10,000 events.",
        "Evidence requests that may be run: AC-*.",
        "Valid from 2026-07-01T00:00:00Z until 2026-10-01T00:00:00Z.",
        "Set by maria at 2026-06-28T09:12:00Z.",
    ]
    assert "Every event." in in_words(second) and "No evidence request may be run." in in_words(second)
    revoked = revoke_engagement(path, "internal", by="maria", reason="done.", now=now)
    assert in_words(revoked)[-1] == "This engagement was revoked at 2026-07-15T12:00:00Z by maria: done."


def test_adding_and_revoking_keep_every_other_byte(path: Path) -> None:
    """Comments, spacing and order stay; the file is its owner's alone."""
    add_engagement(path, engagement(identity='a "quoted" \\ é', actions=("role.*",)))
    text = path.read_text()
    assert text.startswith(WRITTEN + "\n\n[[engagements]]\n")
    assert read_engagements(path)[2].identity == 'a "quoted" \\ é'
    revoke_engagement(path, "soc2-2026", by="maria", reason='said "no"', now=now)
    lines = 'revoked_at = "2026-07-15T12:00:00Z"\nrevoked_by = "maria"\nreason = "said \\"no\\""\n'
    assert path.read_text() == text.replace("# the audit\n", "# the audit\n" + lines)
    revoke_engagement(path, "internal", by="omar", reason="", now=now)
    assert [each.revoked_by for each in read_engagements(path)] == ["maria", "omar", None]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == ["engagements.toml", "engagements.toml.lock"]


def test_a_layout_that_cannot_be_edited_is_left_to_its_writer(path: Path) -> None:
    """Inline tables, a quoted heading: nothing is guessed and nothing written; a heading in a text misleads nobody."""
    fields = "".join(f"{k} = {json.dumps(v)}\n" for k, v in FIELDS.items() if k != "identity")
    inline = ", ".join(f"{k} = {json.dumps(v)}" for k, v in FIELDS.items())
    start = 'format = "auditlib/engagements/v1"\n'
    for text in (
        f"{start}engagements = [{{ {inline} }}]\n",
        f'{start}[["engagements"]]\nidentity = "ines"\n{fields}',
    ):
        path.write_text(text)
        with pytest.raises(MalformedError, match="by hand"):
            revoke_engagement(path, "e1", by="maria", reason="", now=now)
        assert path.read_text() == text
    head = f"{start}[[engagements]]\n"
    path.write_text(f'{head}identity = """x\\\n[[engagements]]\\\n"""\n{fields}')
    revoke_engagement(path, "e1", by="maria", reason="", now=now)
    (read,) = read_engagements(path)
    assert (read.identity, read.revoked_by) == ("x[[engagements]]", "maria")


def test_a_refused_change_writes_nothing(path: Path) -> None:
    """A taken id, an unknown one, a second revocation, a value that is none."""
    revoke_engagement(path, "internal", by="omar", reason="", now=now)
    before = (path.read_bytes(), path.stat().st_ino)
    refused = (
        lambda: add_engagement(path, engagement(id="SOC2-2026")),
        lambda: add_engagement(path, engagement(id="../x")),
        lambda: add_engagement(path, engagement(role="root")),
        lambda: add_engagement(path, engagement(identity="a\nb")),
        lambda: add_engagement(path, engagement(identity="\ud800")),
        lambda: add_engagement(path, engagement(valid_until="2026-07-01T00:00:00Z")),
        lambda: add_engagement(path, engagement(redact=("event_id",))),
        lambda: revoke_engagement(path, "nobody", by="omar", reason="", now=now),
        lambda: revoke_engagement(path, "internal", by="omar", reason="", now=now),
        lambda: revoke_engagement(path, "soc2-2026", by="a\nb", reason="", now=now),
        lambda: revoke_engagement(path, "soc2-2026", by="omar", reason="\x1b[2J", now=now),
    )
    for call in refused:
        with pytest.raises(MalformedError):
            call()
        assert (path.read_bytes(), path.stat().st_ino) == before


HOSTILE = {
    "no TOML": "format = ",
    "no text": b"\xff\xfe",
    "another format": 'format = "auditlib/requests/v1"',
    "an unknown key": WRITTEN + "\nadmin = true",
    "an unknown table": WRITTEN + "\n[extra]",
    "a table for a list": 'format = "auditlib/engagements/v1"\n[engagements]\nid = "x"',
    "a list of numbers": 'format = "auditlib/engagements/v1"\nengagements = [1, 2]',
    "an id twice": WRITTEN.replace('"internal"', '"SOC2-2026"'),
    "an id that is a path": WRITTEN.replace('"internal"', '"../../etc"'),
    "a role unknown": WRITTEN.replace('"analyst"', '"root"'),
    "no vault": WRITTEN.replace('["main"]', "[]"),
    "a text for a list": WRITTEN.replace('["main"]', '"main"'),
    "an empty glob": WRITTEN.replace('["AC-*"]', '[""]'),
    "a control character": WRITTEN.replace('"omar"', '"om\\u0000ar"'),
    "a time without offset": WRITTEN.replace("2026-07-01T00:00:00Z", "2026-07-01T00:00:00"),
    "a period that is none": WRITTEN.replace("since = 2026-01-01", "since = 2027-01-01"),
    "an end before its beginning": WRITTEN.replace('"2027-01-01T00:00:00Z"', '"2025-01-01T00:00:00Z"'),
    "a field that cannot be left out": WRITTEN.replace('"context.ip"', '"actor.id"'),
    "too many rows": WRITTEN.replace("10_000", "10_000_000"),
    "rows below none": WRITTEN.replace("10_000", "-1"),
    "rows that are true": WRITTEN.replace("10_000", "true"),
    "too many globs": WRITTEN.replace('["AC-*"]', json.dumps(["x"] * 101)),
    "a long text": WRITTEN.replace('"omar"', json.dumps("x" * 301)),
    "too much": WRITTEN + "\n#" + "x" * 2**20,
    "nested too deeply": 'format = "auditlib/engagements/v1"\nengagements = ' + "[" * 5000,
    "too many": 'format = "auditlib/engagements/v1"\n' + "[[engagements]]\n" * 1001,
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_file_is_refused_in_words(tmp_path: Path, fault: str) -> None:
    """It is named, nobody is let in, and neither adding nor revoking writes over it."""
    text = HOSTILE[fault]
    path, data = tmp_path / "engagements.toml", text if isinstance(text, bytes) else text.encode()
    path.write_bytes(data)
    for call in (
        lambda: read_engagements(path),
        lambda: Engagements(path),
        lambda: add_engagement(path, engagement()),
        lambda: revoke_engagement(path, "soc2-2026", by="maria", reason="", now=now),
    ):
        with pytest.raises(MalformedError) as error:
            call()
        assert str(path) in str(error.value)
        assert path.read_bytes() == data


def test_a_change_is_seen_at_the_next_reading_and_a_fault_lets_nobody_in(path: Path) -> None:
    """Revoked, added, spoilt, gone, put back: each at once, and never what was read before."""
    kept = Engagements(path)
    assert kept.all() is kept.all()  # read once while it stays as it is
    revoke_engagement(path, "soc2-2026", by="maria", reason="", now=now)
    assert current(kept.all(), "ines@auditor.example", NOW) == []
    found = kept.find("soc2-2026")
    assert found is not None and found.revoked_by == "maria"
    good = path.read_bytes()
    path.write_text("spoilt")
    for _ in range(2):
        with pytest.raises(MalformedError):
            kept.all()
    path.unlink()
    with pytest.raises(UnavailableError, match="engagement add"):
        kept.find("internal")
    path.write_bytes(good)
    assert kept.find("internal") is not None and kept.find("nobody") is None


def test_two_who_add_at_once_lose_nothing(tmp_path: Path) -> None:
    """One writer at a time, by a lock beside the file."""
    path = tmp_path / "engagements.toml"
    threads = [threading.Thread(target=lambda n=n: add_engagement(path, engagement(id=f"e{n}"))) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each.id for each in read_engagements(path)} == {f"e{n}" for n in range(12)}


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """No folder, a folder in its place: a sentence, exit code 3."""
    for path in (tmp_path / "nowhere" / "e.toml", tmp_path):
        with pytest.raises(UnavailableError):
            add_engagement(path, engagement())


def test_an_engagement_is_checked_against_a_catalogue() -> None:
    """A kind that is not known, or a field that answers rest on, is found when it is set, not when it is used."""
    check_engagement(engagement(kinds=("grant",), redact=("context.ip",)), CATALOG)
    with pytest.raises(MalformedError, match="grant"):
        check_engagement(engagement(kinds=("grnat",)), CATALOG)
    with pytest.raises(MalformedError, match="rest on"):
        check_engagement(engagement(redact=("context.granted_role",)), CATALOG)


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return command("engagement", *arguments, **more)


def test_the_command_adds_lists_and_revokes(tmp_path: Path) -> None:
    """From nothing to revoked, in words and as JSON; mistakes are sentences."""
    path = tmp_path / "engagements.toml"
    given = ["e1", "--identity", "ines", "--vault", "main", "--valid-from", "2026-07-01T02:00:00+02:00"]
    given += ["--valid-until", "2999-01-01T00:00:00Z", "--kind", "grant", "--kind", "revoke", "--redact", "context.ip"]
    done = run("add", *given, AUDITLIB_ENGAGEMENTS=str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Only the kinds grant, revoke." in done.stdout
    again = run("add", *given, "--engagements", str(path))
    assert again.returncode == 2 and "e1" in again.stderr and "Traceback" not in again.stderr
    (listed,) = json.loads(run("list", "--json", "--engagements", str(path)).stdout)
    assert (listed["id"], listed["valid_from"], listed["holds"]) == ("e1", "2026-07-01T00:00:00Z", now_holds())
    assert (
        listed["kinds"] == ["grant", "revoke"] and listed["rows_per_export"] == 10_000 and listed["revoked_at"] is None
    )
    for wrong in (["--kind", "grnat"], ["--redact", "context.granted_role"], ["--role", "root"], ["--since", "soon"]):
        before = path.read_bytes()
        bad = run("add", "e2", *given[1:], *wrong, "--engagements", str(path))
        assert bad.returncode == 2 and "Traceback" not in bad.stderr
        assert path.read_bytes() == before
    assert run("revoke", "e1", "--reason", "left", "--engagements", str(path)).returncode == 0
    assert "revoked at" in run("list", "--engagements", str(path)).stdout
    assert run("revoke", "e1", "--engagements", str(path)).returncode == 2
    assert run("list", "--engagements", str(tmp_path / "none")).returncode == 3


def now_holds() -> bool:
    """Whether the machine's clock is past the engagement's beginning."""
    import time

    return time.time_ns() // 1000 >= NOW - 14 * DAY
