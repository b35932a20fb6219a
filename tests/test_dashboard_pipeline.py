"""The dashboard's own collector: there with one line, gone with the dashboard, and nothing lost in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import auditlib
from auditlib.client import Client
from auditlib.dashboard.pipeline import own_collector, state_folder, store_url
from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.event import Record
from auditlib.store import open_store
from tests.collectors import WAIT, clock, wait_for

ROOT = Path(auditlib.__file__).parent.parent


def records(state: Path) -> list[Record]:
    store = open_store(store_url(state), role="sealer")
    try:
        return [entry.record for entry in store.read(0, 10_000)]
    finally:
        store.close()


def record(audit: Client, number: int = 1) -> str:
    return audit.record(action="evidence.search", actor="user:ines", target="vault:x", context={"n": number})


def alive(pid: int) -> bool:
    """Whether this process runs; one that ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def collectors(state: Path) -> list[int]:
    """The processes that serve this folder's store."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if store_url(state).encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return [pid for pid in found if alive(pid)]


def test_what_is_recorded_is_in_the_store_and_the_collector_ends_with_the_block(tmp_path: Path) -> None:
    """A second start uses the same token and goes on with the same instance's numbers."""
    state = tmp_path / "state"
    for number in (1, 2):
        with state_folder(state), own_collector(state, now=clock) as audit:
            assert len(collectors(state)) == 1
            record(audit, number)
            assert audit.flush(WAIT)
        assert collectors(state) == []
    found = records(state)
    assert [each.event.context["n"] for each in found] == [1, 2]
    assert [each.receipt.source_seq for each in found] == [1, 2]
    assert found[0].receipt.source.startswith("dashboard/")
    assert len((state / "tokens").read_text().splitlines()) == 1
    secret = ("token", "tokens", "lock", "collector.log", "audit.db")
    assert {name: (state / name).stat().st_mode & 0o077 for name in secret} == dict.fromkeys(secret, 0)


def test_one_dashboard_a_folder(tmp_path: Path) -> None:
    """Two would share a spool's token and a journal: the second is told in a sentence."""
    with state_folder(tmp_path / "state") as state:
        with pytest.raises(UnavailableError, match="another dashboard uses this folder"), state_folder(state):
            pass
        assert sorted(path.name for path in state.iterdir()) == ["lock"]
    with state_folder(tmp_path / "state"):
        pass


def test_a_folder_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """What auditors searched would lie open; nothing is written there."""
    tmp_path.chmod(0o750)
    with pytest.raises(MalformedError, match="others"), state_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_collector_that_is_killed_is_started_again_and_nothing_is_lost(tmp_path: Path) -> None:
    """Meanwhile the spool takes what is recorded; it is answered for on the same port afterwards."""
    told: list[str] = []
    with state_folder(tmp_path / "state") as state, own_collector(state, now=clock, problems=told.append) as audit:
        record(audit, 1)
        assert audit.flush(WAIT)
        (pid,) = collectors(state)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid))
        record(audit, 2)
        assert audit.flush(WAIT)
        assert any("started again" in sentence for sentence in told)
    assert [each.event.context["n"] for each in records(state)] == [1, 2]
    assert collectors(state) == []


_DASHBOARD = """
import sys, threading
from pathlib import Path
from auditlib.dashboard.pipeline import own_collector, state_folder
from tests.collectors import clock
with state_folder(Path(sys.argv[1])) as state, own_collector(state, now=clock) as audit:
    audit.record(action="evidence.search", actor="user:ines", target="vault:x", context={"n": 1})
    print("ready", flush=True)
    threading.Event().wait()
"""


def test_the_collector_ends_when_the_dashboard_is_killed_and_the_spool_keeps_what_it_had(tmp_path: Path) -> None:
    """No signal handler runs at SIGKILL: the pipe's end is what the child sees. The next start delivers the rest."""
    state = tmp_path / "state"
    parent = subprocess.Popen(
        [sys.executable, "-c", _DASHBOARD, str(state)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    (pid,) = collectors(state)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not alive(pid))
    with state_folder(state), own_collector(state, now=clock) as audit:
        assert audit.flush(WAIT)
    assert [each.event.context["n"] for each in records(state)] == [1]


def test_a_collector_that_cannot_start_is_told_with_its_reason(tmp_path: Path) -> None:
    """A token file that is none: the sentence of the child reaches the person, and no process is left."""
    with state_folder(tmp_path / "state") as state:
        (state / "audit.db").write_bytes(b"this is no database" * 100)
        with pytest.raises((UnavailableError, MalformedError)), own_collector(state, now=clock):
            pass
        assert collectors(state) == []


def test_a_token_that_the_collector_no_longer_takes_is_made_anew(tmp_path: Path) -> None:
    """Revoked by hand, or a file that was lost: the start mends it, and the token stays its owner's."""
    with state_folder(tmp_path / "state") as state:
        with own_collector(state, now=clock):
            first = (state / "token").read_text()
        (state / "tokens").write_text("")
        with own_collector(state, now=clock) as audit:
            record(audit)
            assert audit.flush(WAIT)
        assert (state / "token").read_text() != first
        assert (state / "token").stat().st_mode & 0o777 == 0o600
    assert len(records(state)) == 1
