"""The audit of the auditor: what is shown was recorded first, and an auditor's events do not tell what they sought."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import auditlib
from auditlib.client import Client
from auditlib.dashboard import disclosed as disclosed_module
from auditlib.dashboard.appended import Appended
from auditlib.dashboard.disclosed import COMMITMENT, Disclosed, Line, check_line, commitment
from auditlib.dashboard.journal import Entry, Journal
from auditlib.dashboard.recorder import MAX_SHOWN_BYTES, Recorder
from auditlib.engagements import Engagement
from auditlib.errors import MalformedError, MismatchError, UnavailableError
from auditlib.formats.canonical import canonical
from auditlib.formats.event import Event, parse_event
from auditlib.scoped import RefusedError
from tests.collectors import running

NOWHERE = "http://127.0.0.1:1"  # nobody listens there
SESSION = "9b1d000000000000"
VAULT = "acme.example/audit"


def engagement(role: str, **changes: Any) -> Engagement:
    fields: dict[str, Any] = {
        **{"id": f"{role}-2026", "identity": f"{role}@acme.example", "role": role, "vaults": (VAULT,)},
        **{"valid_from": "2026-01-01T00:00:00Z", "valid_until": "2036-01-01T00:00:00Z"},
        **{"set_by": "maria", "set_at": "2026-01-01T00:00:00Z"},
    }
    return Engagement(**{**fields, **changes})


AUDITOR, ANALYST, ADMIN = (engagement(role) for role in ("auditor", "analyst", "admin"))
KNOWN = {one.identity for one in (AUDITOR, ANALYST, ADMIN)}
Who = tuple[str, str, Engagement, str]
INES: Who = (AUDITOR.identity, SESSION, AUDITOR, VAULT)
OMAR: Who = (ANALYST.identity, SESSION, ANALYST, VAULT)


class Kept:
    """A recorder whose client's spool can be read: what it kept, without a collector."""

    def __init__(self, folder: Path, url: str = NOWHERE, token: str = "auditlib_x", **options: Any) -> None:
        self.folder = folder
        self.client = Client(url, token, spool=folder / "spool", durability="disk", problems=lambda _: None, **options)
        self.recorder = Recorder(self.client, folder, KNOWN.__contains__)

    def texts(self) -> list[bytes]:
        """Each event in the spool, as its bytes."""
        files = sorted((self.folder / "spool").glob("*/*.log"))
        return [line.split(b" ", 2)[2] for file in files for line in file.read_bytes().splitlines()]

    def events(self) -> list[Event]:
        return [parse_event(text) for text in self.texts()]

    def lines(self, engagement_id: str = AUDITOR.id) -> list[bytes]:
        path = self.folder / "disclosed" / f"{engagement_id}.jsonl"
        return path.read_bytes().splitlines() if path.exists() else []


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.client.close(0)


def all_acts(recorder: Recorder, who: Who, filters: dict[str, Any], secret: str) -> None:
    """Every act that tells something, with the same thing sought."""
    recorder.searched(*who, filters, len(secret))
    recorder.viewed(*who, "event", secret)
    recorder.exported(*who, filters, len(secret), commitment(b"", {"export": secret}), "csv")
    recorder.ran(*who, secret, filters)
    recorder.packet(*who, secret, commitment(b"1", {"of": secret}), commitment(b"2", {"of": secret}))


def test_every_act_reaches_a_real_collector_and_its_trail_of_events(tmp_path: Path) -> None:
    """Sign-in to sign-out over HTTP into the store: who, in which session, what, on which vault."""
    with running(tmp_path) as collector:
        made = Kept(tmp_path / "state", collector.url, collector.add("dashboard"))
        recorder = made.recorder
        recorder.signed_in(ANALYST.identity, "success", "password", session=SESSION)
        all_acts(recorder, OMAR, {"kind": "grant"}, "AC-01")
        recorder.disclosures(ADMIN.identity, SESSION, ADMIN, AUDITOR)
        recorder.signed_out(ANALYST.identity, "asked", session=SESSION)
        made.client.close()
        records = collector.records()
    assert [record.event.action.removeprefix("evidence.") for record in records] == [
        *("sign_in", "search", "view", "export", "request", "packet", "disclosure", "sign_out"),
    ]
    events = [record.event for record in records]
    assert {record.receipt.source.partition("/")[0] for record in records} == {"dashboard"}
    assert {event.actor.session for event in events} == {SESSION}
    assert events[0].context == {"how": "password", "reason": None}
    assert events[1].context == {
        **{"engagement": ANALYST.id, "filters": {"kind": "grant"}, "role": "analyst", "rows": 5},
    }
    assert (events[1].target.type, events[1].target.id) == ("vault", VAULT)
    assert events[2].context["viewed"] == {"id": "AC-01", "type": "event"}
    assert events[3].context["rows"] == 5
    assert len(events[3].context["sha256"]) == 64
    assert events[6].context == {
        **{"engagement": ADMIN.id, "lines": 0, "role": "admin", "whose": AUDITOR.identity},
    }
    assert [entry.event_id for entry in reversed(recorder.journal.entries())] == [event.event_id for event in events]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
FILTERS = st.dictionaries(
    st.sampled_from(["kind", "action", "actor", "target", "since", "until", "where", "source", "tz"]),
    st.one_of(TEXTS, st.lists(TEXTS, max_size=4), st.dictionaries(TEXTS, TEXTS, max_size=3)),
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILTERS, TEXTS, FILTERS, TEXTS)
def test_an_auditors_event_depends_on_nothing_that_was_sought(
    kept: Kept, filters: dict[str, Any], secret: str, others: dict[str, Any], other: str
) -> None:
    """Two of an auditor's acts of one kind differ in id, time and commitment alone, whatever was asked and found."""
    before = len(kept.texts())
    all_acts(kept.recorder, INES, filters, secret)
    all_acts(kept.recorder, INES, others, other)
    events = kept.events()[before:]
    assert len(events) == 10
    for one, two in zip(events[:5], events[5:], strict=True):
        assert one.context[COMMITMENT] != two.context[COMMITMENT]
        plain = [
            msgspec.structs.replace(
                each,
                event_id="",
                occurred_at="",
                context={**each.context, COMMITMENT: len(each.context[COMMITMENT])},
            )
            for each in (one, two)
        ]
        assert plain[0] == plain[1]
        told = {name for name, value in one.context.items() if value is not None}
        assert told == {"engagement", "role", COMMITMENT}
        assert (one.target.type, one.target.id) == ("vault", VAULT)


def test_no_text_that_an_auditor_sought_stands_in_event_journal_or_spool(kept: Kept) -> None:
    """Not the values, not the names of the facets: all of it is behind the commitment."""
    needle = "needle-8842"
    all_acts(kept.recorder, INES, {"actor": needle, "where": {needle: needle}, "kind": "grant"}, needle)
    for path in kept.folder.rglob("*"):
        if path.is_file() and path.parent.name != "disclosed":
            data = path.read_bytes()
            assert needle.encode() not in data
            assert b"filters" not in data
            assert b"grant" not in data
    assert b"".join(kept.lines()).count(needle.encode()) >= 5


def test_every_line_opens_the_commitment_of_its_own_event_alone(kept: Kept) -> None:
    """The sealed event and the line together prove what was searched; another event's line does not."""
    all_acts(kept.recorder, INES, {"kind": "grant"}, "AC-01")
    events = {event.event_id: event for event in kept.events()}
    lines = kept.recorder.disclosures(AUDITOR.identity, SESSION, AUDITOR, AUDITOR).lines
    assert len(lines) == 5
    for line in lines:
        check_line(line, events[line.event_id])
        for other in lines:
            if other is not line:
                with pytest.raises(MismatchError):
                    check_line(msgspec.structs.replace(line, salt=other.salt), events[line.event_id])
    assert len({line.salt for line in lines}) == 5


CHANGES: dict[str, Callable[[Line], Line]] = {
    "another filter": lambda line: msgspec.structs.replace(line, withheld={**line.withheld, "filters": {}}),
    "another row count": lambda line: msgspec.structs.replace(line, withheld={**line.withheld, "rows": 38}),
    "a further field": lambda line: msgspec.structs.replace(line, withheld={**line.withheld, "x": None}),
    "another salt": lambda line: msgspec.structs.replace(line, salt="00" * 32),
    "no salt": lambda line: msgspec.structs.replace(line, salt="not hex"),
    "another person": lambda line: msgspec.structs.replace(line, identity="omar"),
    "another time": lambda line: msgspec.structs.replace(line, at="2026-01-01T00:00:00Z"),
    "another engagement": lambda line: msgspec.structs.replace(line, engagement="other"),
    "another action": lambda line: msgspec.structs.replace(line, action="evidence.view"),
    "another event": lambda line: msgspec.structs.replace(line, event_id="other"),
    "no number of JSON": lambda line: msgspec.structs.replace(line, withheld={"rows": float("nan")}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_disclosed_line_that_was_changed_is_found(kept: Kept, change: Callable[[Line], Line]) -> None:
    """Whoever edits the file cannot make it say that something else was searched."""
    kept.recorder.searched(*INES, {"kind": "grant"}, 37)
    (event,) = kept.events()
    (line,) = kept.recorder.disclosures(ADMIN.identity, SESSION, ADMIN, AUDITOR).lines
    check_line(line, event)
    with pytest.raises(MismatchError):
        check_line(change(line), event)


def test_an_event_without_a_commitment_opens_nothing(kept: Kept) -> None:
    """An analyst's event states its filters itself."""
    kept.recorder.searched(*OMAR, {"kind": "grant"}, 37)
    (event,) = kept.events()
    line = Line("evidence.search", event.occurred_at, ANALYST.id, event.event_id, ANALYST.identity, "00", {})
    with pytest.raises(MalformedError):
        check_line(line, event)
    assert kept.lines(ANALYST.id) == []


def test_who_may_not_read_what_was_searched_reads_and_records_nothing(kept: Kept) -> None:
    """An analyst never, another auditor never; each refusal leaves no event."""
    kept.recorder.searched(*INES, {"kind": "grant"}, 37)
    other = engagement("auditor", id="other", identity="other@auditor.example")
    same = engagement("analyst", identity=AUDITOR.identity)
    for identity, reader in ((ANALYST.identity, ANALYST), (other.identity, other), (AUDITOR.identity, same)):
        with pytest.raises(RefusedError):
            kept.recorder.disclosures(identity, SESSION, reader, AUDITOR)
    assert len(kept.events()) == 1


def test_reading_what_was_searched_is_recorded_before_it_is_returned(tmp_path: Path) -> None:
    """An admin's reading names whose and how many; where it cannot be recorded nothing is returned."""
    made = Kept(tmp_path)
    made.recorder.searched(*INES, {"kind": "grant"}, 37)
    found = made.recorder.disclosures(ADMIN.identity, SESSION, ADMIN, AUDITOR)
    assert found.lines[0].withheld == {"filters": {"kind": "grant"}, "rows": 37}
    last = made.events()[-1]
    assert (last.action, last.target.id) == ("evidence.disclosure", AUDITOR.id)
    assert last.context == {"engagement": ADMIN.id, "lines": 1, "role": "admin", "whose": AUDITOR.identity}
    made.client.close(0)
    with pytest.raises(UnavailableError):
        made.recorder.disclosures(ADMIN.identity, SESSION, ADMIN, AUDITOR)
    assert len(made.events()) == 2


def test_an_auditor_reads_their_own_lines_and_no_predecessors(kept: Kept) -> None:
    """An engagement's id may have been another's before; their lines are not this auditor's to read."""
    before = engagement("auditor", identity="before@auditor.example")
    kept.recorder.searched(before.identity, SESSION, before, VAULT, {"kind": "login"}, 1)
    kept.recorder.searched(*INES, {"kind": "grant"}, 37)
    own = kept.recorder.disclosures(AUDITOR.identity, SESSION, AUDITOR, AUDITOR)
    assert [line.identity for line in own.lines] == [AUDITOR.identity]
    assert own.total == 1
    assert kept.recorder.disclosures(ADMIN.identity, SESSION, ADMIN, AUDITOR).total == 2


def test_with_the_collector_gone_the_spool_keeps_and_later_delivers(tmp_path: Path) -> None:
    """What was shown meanwhile is in the trail as soon as a collector answers again."""
    made = Kept(tmp_path / "state")
    ids = [made.recorder.searched(*INES, {"kind": "grant"}, 37) for _ in range(3)]
    made.client.close(0)
    with running(tmp_path) as collector:
        again = Kept(tmp_path / "state", collector.url, collector.add("dashboard"))
        assert again.client.flush()
        again.client.close()
        assert [record.event.event_id for record in collector.records()] == ids


def test_with_the_spool_full_nothing_is_recorded_and_the_caller_is_told(tmp_path: Path) -> None:
    """UnavailableError: the page shows nothing. What fits before it was kept, and no event is there in part."""
    made = Kept(tmp_path, max_spool_bytes=1024 * 1024)
    filters = {"target": "x" * (MAX_SHOWN_BYTES - 100)}
    for _ in range(200):
        try:
            made.recorder.searched(*OMAR, filters, None)
        except UnavailableError:
            break
    else:
        pytest.fail("the spool was never full")
    count = len(made.events())
    with pytest.raises(UnavailableError):
        made.recorder.searched(*OMAR, filters, None)
    assert len(made.events()) == count == len(made.recorder.journal.entries())
    made.client.close(0)


def test_where_the_line_cannot_be_kept_no_event_is_recorded(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event whose commitment nobody can open would be worse than none: the line comes first."""
    monkeypatch.setattr(disclosed_module, "MAX_FILE_BYTES", 10)
    kept.recorder = Recorder(kept.client, kept.folder, KNOWN.__contains__)
    with pytest.raises(UnavailableError, match="limit"):
        kept.recorder.searched(*INES, {"kind": "grant"}, 37)
    assert (kept.events(), kept.lines(), kept.recorder.journal.entries()) == ([], [], [])


def test_filters_too_long_for_an_event_are_committed_to_whole(kept: Kept) -> None:
    """Nothing is cut: an analyst's long filters go the auditor's way, and past the bound the act is refused."""
    filters = {"actor": ["é" * 1000] * 10}
    kept.recorder.searched(*OMAR, filters, 37)
    (event,) = kept.events()
    assert event.context["rows"] == 37
    assert "filters" not in event.context
    (line,) = kept.recorder.disclosures(ADMIN.identity, SESSION, ADMIN, ANALYST).lines
    assert line.withheld == {"filters": filters}
    check_line(line, event)
    before = kept.texts()
    for who in (OMAR, INES):
        with pytest.raises(MalformedError, match="at most"):
            kept.recorder.searched(*who, {"actor": ["x" * 1200] * 100}, 37)
    assert kept.texts() == before


@pytest.mark.parametrize("filters", [{"kind": "\ud800"}, {"kind": "a\0b"}, {"rows": float("nan")}, {"k": object()}])
def test_filters_that_are_no_json_are_refused_and_leave_nothing(kept: Kept, filters: dict[str, Any]) -> None:
    """Whatever a browser sends: what cannot be recorded is not shown."""
    for who in (INES, OMAR):
        with pytest.raises(MalformedError):
            kept.recorder.searched(*who, filters, 0)
    assert (kept.events(), kept.lines()) == ([], [])


def test_a_name_that_nobody_has_is_not_recorded(kept: Kept) -> None:
    """It may be a password in the wrong field; the attempt itself stands in the trail."""
    for typed in ("hunter2-my-password", "x" * 5000, "a\0b", "\ud800", ""):
        kept.recorder.signed_in(typed, "denied", "password", "no such account")
    kept.recorder.signed_in(AUDITOR.identity, "denied", "password")
    events = kept.events()
    assert [event.actor.id for event in events] == ["unknown"] * 5 + [AUDITOR.identity]
    assert {event.actor.type for event in events[:5]} == {"anonymous"}
    assert events[0].context == {"how": "password", "reason": "no such account"}
    assert {event.outcome for event in events} == {"denied"}
    assert b"hunter2" not in b"".join(kept.texts())


def test_whom_a_provider_named_is_recorded_though_nobody_here_knows_them(kept: Kept) -> None:
    """Nobody typed it: that a stranger with a good token was turned away is worth a name."""
    kept.recorder.signed_in("stranger@acme.example", "denied", "oidc", "no engagement holds")
    (event,) = kept.events()
    assert (event.actor.type, event.actor.id, event.outcome) == ("user", "stranger@acme.example", "denied")


@pytest.mark.parametrize("target", ["", "\0", "\ud800x", "x" * 3000, "é" * 1500])
def test_whatever_id_an_address_names_the_view_is_recorded(kept: Kept, target: str) -> None:
    """An id that no event can have must not keep the attempt out of the trail."""
    kept.recorder.viewed(*OMAR, "event", target)
    (event,) = kept.events()
    assert 0 < len(event.context["viewed"]["id"].encode()) <= 1024


def test_the_files_are_for_their_owner_alone(kept: Kept) -> None:
    """What was searched is not for whoever has an account on the machine."""
    kept.recorder.searched(*INES, {"kind": "grant"}, 37)
    modes = {path.name: path.stat().st_mode & 0o777 for path in kept.folder.rglob("*.jsonl")}
    assert modes == {f"{AUDITOR.id}.jsonl": 0o600, "journal.jsonl": 0o600}
    assert (kept.folder / "disclosed").stat().st_mode & 0o777 == 0o700


ENTRY = Entry("evidence.view", "2026-01-01T00:00:00Z", "e", "id", "ines", "success", "auditor", None, "vault:x")

_WRITER = """
import sys
from pathlib import Path
from auditlib.dashboard.journal import Journal
from tests.test_recorder import ENTRY
journal = Journal(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    journal.note(ENTRY)
"""


def test_the_journal_survives_kill_9_and_a_line_cut_anywhere(tmp_path: Path) -> None:
    """Killed while it writes, and cut after any byte: what was whole is read; the next act stands on its own."""
    path = tmp_path / "journal.jsonl"
    root = Path(auditlib.__file__).parent.parent
    child = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    while not path.exists() or path.stat().st_size < 10_000:
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    whole = path.read_bytes().count(b"\n")
    assert len(Journal(path).entries()) == whole
    line = canonical(msgspec.to_builtins(ENTRY)) + b"\n"
    for cut in range(1, len(line)):
        path.write_bytes(line + line[:cut])
        journal = Journal(path)
        assert len(journal.entries()) == 1
        journal.note(ENTRY)
        # A line that lacked only its end is whole once the next act ends it.
        assert len(journal.entries()) == (3 if cut == len(line) - 1 else 2)


def test_the_journal_is_bounded_and_counts_what_it_missed(tmp_path: Path) -> None:
    """The older half goes; where it cannot be written the act is recorded all the same, and the page says so."""
    journal = Journal(tmp_path / "journal.jsonl", limit=2_000)
    for number in range(100):
        journal.note(msgspec.structs.replace(ENTRY, event_id=f"e{number}"))
    found = [entry.event_id for entry in journal.entries()]
    assert found == [f"e{number}" for number in range(99, 99 - len(found), -1)]
    assert 8 < len(found) < 40
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 5_000
    (tmp_path / "gone").mkdir()
    lost = Journal(tmp_path / "gone" / "journal.jsonl")
    (tmp_path / "gone").rmdir()
    lost.note(ENTRY)
    assert (lost.missed, lost.entries()) == (1, [])


def test_a_disclosed_file_that_was_cut_or_filled_with_anything_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Places that cannot be read are counted, for the reader to see; a line without an end is not there."""
    folder = Disclosed(tmp_path / "disclosed")
    line = Line("evidence.search", "2026-01-01T00:00:00Z", "e1", "id", "ines", "00" * 32, {"rows": 1})
    folder.keep(line)
    path = tmp_path / "disclosed" / "e1.jsonl"
    with path.open("ab") as file:
        file.write(b"nothing\n\xff\xfe\n" + b"[" * 100_000 + b"\n" + b"x" * 300_000 + b"\n" + b'{"action":')
    folder.keep(line)
    found = folder.read("e1")
    assert (found.lines, found.total) == ((line, line), 2)
    assert found.unreadable == 4  # the line that was cut is one once the next ended it
    assert folder.read("never").lines == ()


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    """Nobody can make the dashboard write elsewhere."""
    (tmp_path / "elsewhere").write_text("kept\n")
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnavailableError):
        Appended(tmp_path / "log", limit=1000, durable=True).append(b"x")
    assert (tmp_path / "elsewhere").read_text() == "kept\n"
