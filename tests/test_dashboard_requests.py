"""Requests through the dashboard: run apart, bounded, ended whole; handed over once, and only within the engagement."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import nbformat
import pytest
from packets import SAMPLE_KEY, SAMPLES, sample_trail, sample_vault
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application

from auditlib.dashboard import asked, lanes, work
from auditlib.dashboard.ending import MARK, SCRATCH, end_all
from auditlib.dashboard.handed import REPORT_POLICY, SECONDS, Handed, HandedHandler, safe_name
from auditlib.dashboard.lanes import CANCELLED, DONE, FAILED, RUNNING, WAITING, WITHHELD
from auditlib.dashboard.pages.requests import Requests
from auditlib.dashboard.pages.search import Search, question_of
from auditlib.dashboard.signins import SignIn, SignIns
from auditlib.dashboard.visit import Visit, address
from auditlib.dashboard.work import Work, Works
from auditlib.dashboard.work_child import Job
from auditlib.engagements import Engagement, Engagements, add_engagement
from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.times import SECOND, parse_time
from auditlib.packet.bag import open_bag
from auditlib.packet.check import check_packet
from auditlib.requests.asking import Span
from auditlib.requests.building import build_one, plan
from auditlib.requests.model import RequestList, read_requests
from auditlib.requests.places import open_places, source_of
from auditlib.scoped import RefusedError, ScopedTrail
from auditlib.scoped.scope import Scope
from auditlib.scoped.within import asks_within, holds

NOW = parse_time("2026-07-10T09:00:00Z")
LISTED = read_requests(SAMPLES / "requests.toml")
PERIOD = {"since": "2026-03-01", "until": "2026-06-01"}
PATIENCE = 240  # seconds in which what is waited for must happen


def engagement(**changes: Any) -> Engagement:
    """One that holds now and sees everything but for the changes."""
    given: dict[str, Any] = {
        "id": "e1",
        "identity": "ines@auditor.example",
        "role": "auditor",
        "vaults": ("main",),
        "requests": ("AC-*", "ENDLESS"),
        "valid_from": "2026-07-01T00:00:00Z",
        "valid_until": "2026-10-01T00:00:00Z",
        "set_by": "maria",
        "set_at": "2026-06-28T09:12:00Z",
    }
    return Engagement(**{**given, **changes})


LOGINS = {"kinds": ("login",)}


def until(what: Callable[[], Any]) -> Any:
    """Wait for a condition; what it gave."""
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


def marked(mark: str) -> list[int]:
    """The processes that carry a work's mark."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            pass
    return found


def scratch(works: Works) -> list[Path]:
    """The scratch folders of these works."""
    return list(Path(tempfile.gettempdir()).glob(f"{works._scratch}*"))


def nothing_left(works: Works, one: Work) -> None:
    until(lambda: not marked(one.id))
    assert not one.folder.exists() and not scratch(works)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> RequestList:
    """A list whose one request never ends: a cell that is done, and one that takes a whole core."""
    folder = tmp_path_factory.mktemp("endless")
    cells = [
        nbformat.v4.new_code_cell('word: "text" = "x"  # any', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("while True:\n    pass"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "endless.ipynb")
    (folder / "requests.toml").write_text(
        'format = "auditlib/requests/v1"\n[[requests]]\nid = "ENDLESS"\nquestion = "Will it end?"\n'
        'control = { id = "X-1" }\nnotebook = "endless.ipynb"\n'
    )
    return read_requests(folder / "requests.toml")


@pytest.fixture
def works(tmp_path: Path, endless: RequestList) -> Iterator[Works]:
    made = Works(tmp_path / "works", {"main": source_of(str(sample_vault()), [SAMPLE_KEY])}, endless)
    yield made
    made.close()


def run_endless(works: Works, who: str = "ines") -> Work:
    (request,) = works.listed.requests if works.listed else ()
    call = asked.call(request, works.listed.folder, engagement(), {}, 27)  # type: ignore[union-attr]
    return works.run(who, engagement(), "main", 27, call)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Works, Work, list[Any]]]:
    """AC-03 run once without limits, and what was seen of it meanwhile."""
    made = Works(
        tmp_path_factory.mktemp("answered") / "works", {"main": source_of(str(sample_vault()), [SAMPLE_KEY])}, LISTED
    )
    who = engagement()
    request = asked.find(LISTED, who, "main", "AC-03")
    one = made.run("ines", who, "main", 27, asked.call(request, LISTED.folder, who, PERIOD, 27))
    seen: list[Any] = []
    while not one.ended.wait(0.02):
        seen.append((one.stage, one.cells))
    assert one.state == DONE, one.sentence
    yield made, one, seen
    made.close()


# --- run -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_is_the_packet_that_the_command_line_builds(answered: tuple[Works, Work, list[Any]], tmp_path: Path) -> None:
    """The same request asked here and by `auditlib requests build` gives the same bytes."""
    _, one, _ = answered
    source = source_of(str(sample_vault()), [SAMPLE_KEY])
    chosen = LISTED.chosen(["AC-03"])
    (planned,) = plan(LISTED, chosen, open_places(LISTED, chosen, source), Span(*PERIOD.values()), tmp_path)
    outcome = build_one(planned)
    assert outcome.built is not None and one.answer is not None
    assert outcome.built.evidence_digest == one.answer.evidence_digest
    assert outcome.built.packet_digest == one.answer.packet_digest
    assert one.answer.headline == outcome.built.headline and one.answer.exceptions == 19
    assert one.answer.draft and "not transmitted" in one.answer.draft


def test_progress_tells_cells_and_nothing_stays_but_the_packet(answered: tuple[Works, Work, list[Any]]) -> None:
    """While it runs, cells done of cells; afterwards no process, no scratch folder."""
    works, one, seen = answered
    cells = [told for _, told in seen if told]
    assert cells == sorted(cells) and len({done for done, _ in cells}) > 2 and one.cells == (17 + 1, 17 + 1)
    assert {"Running the notebook", "Packing"} <= {stage for stage, _ in seen}
    assert not marked(one.id) and not scratch(works)
    assert [path.name for path in one.folder.iterdir()] == ["packet.zip"]
    assert one.folder.stat().st_mode & 0o777 == 0o700


def test_cancel_midway_leaves_nothing(works: Works) -> None:
    """A notebook that takes a whole core is ended with its kernel; no file of it stays."""
    one = run_endless(works)
    until(lambda: one.cells and one.cells[0] >= 1)
    until(lambda: len(marked(one.id)) >= 2)  # the child and its kernel
    works.cancel(one)
    until(one.ended.is_set)
    assert one.state == CANCELLED and one.answer is None
    nothing_left(works, one)


def test_a_killed_child_is_told_in_a_sentence(works: Works) -> None:
    """Whoever kills the process (out of memory) ends the work, not the server; its kernel goes with it."""
    one = run_endless(works)
    until(lambda: one.cells and one.cells[0] >= 1)
    os.kill(one._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
    until(one.ended.is_set)
    assert one.state == FAILED
    assert one.sentence == "The process that answered it ended before it was done; run it again, or ask maria."
    nothing_left(works, one)


def test_past_its_time_it_is_ended(tmp_path: Path, endless: RequestList) -> None:
    """No work runs for ever."""
    works = Works(tmp_path / "works", {"main": source_of(str(sample_vault()), [SAMPLE_KEY])}, endless, seconds=0.5)
    one = run_endless(works)
    until(one.ended.is_set)
    assert one.state == FAILED and "was ended" in one.sentence
    nothing_left(works, one)
    works.close()


def test_each_has_one_running_and_three_waiting(works: Works) -> None:
    """One person can fill neither the places that run nor those that wait; the end of the server ends all."""
    mine = [run_endless(works) for _ in range(4)]
    with pytest.raises(RefusedError, match="waiting already"):
        run_endless(works)
    other = run_endless(works, "bob")
    third = run_endless(works, "carol")
    assert [one.state for one in mine] == [RUNNING, WAITING, WAITING, WAITING]
    assert other.state == RUNNING and third.state == WAITING and works.before(third) == 3
    works.cancel(mine[2])
    assert mine[2].state == CANCELLED
    works.cancel(other)
    until(other.ended.is_set)
    until(lambda: third.state == RUNNING)  # not the second of somebody who has one running
    works.close()
    assert {one.state for one in [*mine, other, third]} == {CANCELLED}
    for one in [*mine, other, third]:
        nothing_left(works, one)


def test_when_the_server_is_gone_its_child_goes_too(tmp_path: Path, endless: RequestList) -> None:
    """The child holds its stdin: at its end it ends its kernel, takes its scratch folder away, and itself."""
    (request,) = endless.requests
    call = asked.call(request, endless.folder, engagement(), {}, 27)
    source = source_of(str(sample_vault()), [SAMPLE_KEY])
    out = str(tmp_path / "packet.zip")
    job = Job(vault=source.vault, keys=source.keys, name="main", size=27, engagement=engagement(), out=out, call=call)
    folder = tempfile.mkdtemp(prefix=SCRATCH)
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "auditlib.dashboard.work_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, MARK: "orphan", "TMPDIR": folder, "JUPYTER_RUNTIME_DIR": folder},
        start_new_session=True,
    )
    assert child.stdin and child.stdout
    child.stdin.write(msgspec.json.encode(job) + b"\n")
    child.stdin.flush()
    while json.loads(child.stdout.readline()).get("cells", [0])[0] < 1:
        pass
    child.stdin.close()
    assert child.wait(PATIENCE) == 1
    child.stdout.close()
    until(lambda: not marked("orphan"))
    assert not Path(folder).exists() and not Path(out).exists()
    end_all("orphan")


def test_what_an_earlier_server_left_is_taken_away(tmp_path: Path) -> None:
    """A crash leaves files; the next start removes its own, and nobody else's."""
    first = Works(tmp_path / "works", {})
    left = tmp_path / "works" / "abc"
    left.mkdir()
    (left / "packet.zip").write_bytes(b"x")
    stale = Path(tempfile.mkdtemp(prefix=first._scratch))
    foreign = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}other-"))
    Works(tmp_path / "works", {})
    assert not left.exists() and not stale.exists() and foreign.exists()
    foreign.rmdir()


def test_results_are_bounded_the_oldest_goes_first(answered: tuple[Works, Work, list[Any]], tmp_path: Path) -> None:
    """What is kept never grows past its bound; what is evicted is not offered any more."""
    _, one, _ = answered
    packet = tmp_path / "AC-03.zip"
    shutil.copy(one.path, packet)
    source = source_of(str(sample_vault()), [SAMPLE_KEY])
    room = packet.stat().st_size * 3 // 2
    works = Works(tmp_path / "works", {"main": source}, LISTED, tmp_path, kept_bytes=room)
    taken = []
    for _ in range(2):
        taken.append(works.take("ines", engagement(), "main", 27, "AC-03", packet))
        until(taken[-1].ended.is_set)
        assert taken[-1].state == DONE, taken[-1].sentence
    assert not taken[0].folder.exists() and taken[1].path.exists()
    assert works.latest("ines", engagement(), "main", "AC-03") is taken[1]
    with pytest.raises(UnavailableError, match="not kept"):
        Handed(tmp_path / "handed", lambda _: True, lambda: NOW).linked(taken[0].path)
    works.close()


def test_an_export_can_be_cancelled_between_batches(works: Works) -> None:
    """Whoever leaves the page ends the export at its next batch; another's begins."""
    begun, ended = threading.Event(), threading.Event()

    def endless_export() -> None:
        begun.set()
        try:
            while True:
                work.check()
        finally:
            ended.set()

    async def leave() -> int:
        waiting = asyncio.ensure_future(works.export("ines", endless_export))
        await asyncio.get_running_loop().run_in_executor(None, begun.wait)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await works.export("ines", lambda: 7)

    assert asyncio.run(leave()) == 7 and ended.is_set()

    async def failing() -> None:
        await works.export("ines", lambda: (_ for _ in ()).throw(RefusedError("no")))

    with pytest.raises(RefusedError, match="no"):
        asyncio.run(failing())


# --- scope -----------------------------------------------------------------------------------------------------------

SCOPES: list[dict[str, Any]] = [
    {},
    {"kinds": ("grant",)},
    LOGINS,
    {"actions": ("role.*",), "since": "2026-04-01"},
    {"targets": ("u_10*",)},
    {"streams": ("identity",), "until": "2026-04-15"},
    {"streams": ("admin-console",), "kinds": ("grant", "approval")},
]


@pytest.mark.parametrize("scope", SCOPES)
def test_a_record_is_within_the_scope_exactly_where_it_could_be_found(
    answered: tuple[Works, Work, list[Any]], scope: dict[str, Any]
) -> None:
    """The judgement over a packet's records and ScopedTrail's own answers agree."""
    _, one, _ = answered
    with open_bag(one.path) as bag:
        records = bag.read("data/events.jsonl").splitlines()[::9]
    allowed = engagement(**scope)
    trail = sample_trail()
    scoped = ScopedTrail(trail, lambda: allowed, lambda: NOW, "main")
    found = [scoped.event(json.loads(record)["event"]["event_id"]) is not None for record in records]
    judge = Scope(trail, allowed, "main")
    assert [holds(judge, [record]) for record in records] == found
    assert holds(judge, records) is all(found)
    assert holds(judge, [])


def test_an_answer_without_events_is_held_against_the_scope_too(answered: tuple[Works, Work, list[Any]]) -> None:
    """That there was nothing is an answer: outside the engagement it is not given either."""
    _, one, _ = answered
    with open_bag(one.path) as bag:
        packet = json.loads(bag.read("data/packet.json"))
    packet["records"] = packet["population"]["events"] = 0
    catalog = sample_trail().catalog
    for scope, within in (
        ({}, True),
        ({"kinds": ("grant", "approval")}, True),
        (LOGINS, False),
        ({"since": "2026-03-01", "until": "2026-06-01"}, True),
        ({"since": "2026-03-02"}, False),
        ({"until": "2026-05-31"}, False),
        ({"targets": ("u_10*",)}, False),
        ({"streams": ("identity",)}, False),
        ({"redact": ("context.ip",)}, False),
        ({"kinds": ("no-such-kind",)}, False),
    ):
        assert asks_within(engagement(**scope), catalog, packet) is within, scope
    del packet["population"]["actions"]
    assert not asks_within(engagement(kinds=("grant",)), catalog, packet)
    with pytest.raises(MalformedError):
        asks_within(engagement(), catalog, {})


@pytest.mark.parametrize(("scope", "state"), [({}, DONE), (LOGINS, WITHHELD), ({"redact": ("context.ip",)}, WITHHELD)])
def test_a_packet_that_stands_is_judged_like_one_that_is_run(
    answered: tuple[Works, Work, list[Any]], tmp_path: Path, scope: dict[str, Any], state: str
) -> None:
    """What an analyst built for others is taken only within the engagement; else it is deleted, and nothing told."""
    _, one, _ = answered
    source = source_of(str(sample_vault()), [SAMPLE_KEY])
    works = Works(tmp_path / "works", {"main": source}, LISTED)
    taken = works.take("ines", engagement(**scope), "main", 27, "AC-03", one.path)
    until(taken.ended.is_set)
    assert taken.state == state, taken.sentence
    if state == WITHHELD:
        assert taken.sentence == "This answer rests on events outside your engagement; ask maria."
        assert taken.answer is None
        nothing_left(works, taken)
    works.close()


def test_a_broken_notebook_names_no_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is wrong with the list stands in the server's log; who asks learns that it cannot be asked."""
    (tmp_path / "broken.ipynb").write_text("no notebook")
    (tmp_path / "requests.toml").write_text(
        'format = "auditlib/requests/v1"\n[[requests]]\nid = "AC-99"\nquestion = "?"\n'
        'control = { id = "X-1" }\nnotebook = "broken.ipynb"\n'
    )
    listed = read_requests(tmp_path / "requests.toml")
    for ask in (
        lambda: asked.fields(listed.requests[0], listed.folder, engagement(), {}),
        lambda: asked.call(listed.requests[0], listed.folder, engagement(), {}, 27),
    ):
        with pytest.raises(UnavailableError) as refused:
            ask()
        assert "broken" not in str(refused.value) and str(tmp_path) not in str(refused.value)
    assert "broken.ipynb" in caplog.text


def test_a_period_past_the_engagement_is_refused(endless: RequestList) -> None:
    """However the period is written: open ends, another zone, a last day, another day that is asked about."""
    who = engagement(since="2026-03-01", until="2026-06-01")

    def ask(request_id: str, **typed: str) -> asked.Call:
        return asked.call(asked.find(LISTED, who, "main", request_id), LISTED.folder, who, typed, 27)

    assert ask("AC-03").given["since"] == "2026-03-01"  # the engagement's own, where nothing is typed
    ask("AC-03", since="2026-03-02", until="2026-03-05")
    ask("AC-03", since="2026-05-01", through="2026-05-30")
    for typed in (
        {"since": "2026-02-28", "until": "2026-04-01"},
        {"since": "none", "until": "2026-04-01"},
        {"since": "2026-03-01", "until": "none"},
        {"since": "2026-05-01", "through": "2026-06-01"},
        {"since": "2026-03-01", "until": "2026-06-01", "tz": "Asia/Tokyo"},
        {"since": "2026-03-01T00:00:00Z", "until": "2026-06-01T00:00:00.000001Z"},
    ):
        with pytest.raises(RefusedError, match="Your engagement covers events from 2026-03-01 until before 2026-06-01"):
            ask("AC-03", **typed)
    with pytest.raises(RefusedError, match="another day"):
        ask("AC-07")  # fixed by the list to 2026-07-01
    with pytest.raises(RefusedError):
        ask("AC-04")  # fixed by the list to the first quarter


HOSTILE = [
    "'; DROP TABLE batches; --",
    '"\nimport os; os.system("id")\n#',
    "{{7*7}}",
    "<script>alert(1)</script>",
    "\u202eadmin",
    "../../etc/passwd",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_value_stays_a_text_or_is_refused(text: str) -> None:
    """A value is checked by its declaration, and written into the notebook as a literal."""
    who = engagement()
    request = asked.find(LISTED, who, "main", "AC-05")
    given = asked.call(request, LISTED.folder, who, {**PERIOD, "sample_word": text}, 27).given
    assert given["sample_word"] == text
    for name in ("since", "emergency_hours", "sample_method", "tz"):
        with pytest.raises(MalformedError):
            asked.call(request, LISTED.folder, who, {**PERIOD, name: text}, 27)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("at", "1"),
        ("entitlement", "none"),  # fixed by the list
        ("no_such", "1"),
        ("__class__", "1"),
        ("sample_word", 7),
        ("sample_word", ["x"]),
        ("sample_word", {"a": 1}),
        ("sample_word", "x" * 2_001),
    ],
)
def test_nobody_sets_what_the_form_does_not_offer(name: str, value: Any) -> None:
    """The list is the server's: what it fixes, the checkpoint and anything unknown cannot be set, nor odd types."""
    who = engagement()
    request = asked.find(LISTED, who, "main", "AC-03")
    with pytest.raises(MalformedError):
        asked.call(request, LISTED.folder, who, {**PERIOD, name: value}, 27)


def test_other_requests_are_not_known() -> None:
    """One that the engagement does not name and one that is nowhere are refused in the same words."""
    who = engagement(requests=("AC-0[3]", "CM-01"))
    words = []
    for request_id in ("AC-03", "LOG-01", "NO-SUCH", "../x", ""):
        with pytest.raises(RefusedError) as refused:
            asked.find(LISTED, who, "main", request_id)
        words.append(str(refused.value))
    assert len(set(words)) == 1
    assert [request.id for request in asked.offered(LISTED, who, "main")] == ["CM-01"]
    assert asked.offered(LISTED, engagement(requests=()), "main") == ()


# --- the page --------------------------------------------------------------------------------------------------------


class Notes:
    """A recorder that remembers, or cannot."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, tuple[Any, ...]]] = []
        self.broken = False

    def __getattr__(self, name: str) -> Callable[..., str]:
        def keep(*told: Any, **more: Any) -> str:
            if self.broken:
                raise UnavailableError("the event could not be kept.")
            self.kept.append((name, (*told[4:], *more.values())))
            return "e"

        return keep


class Office:
    """Everything that a visit needs, with a clock of its own."""

    def __init__(
        self, folder: Path, listed: RequestList, *engagements: Engagement, packets: Path | None = None, **more: Any
    ) -> None:
        self.clock = NOW
        path = folder / "engagements.toml"
        for each in engagements:
            add_engagement(path, each)
        self.signins = SignIns(lambda: self.clock)
        self.source = source_of(str(sample_vault()), [SAMPLE_KEY])
        self.notes = Notes()
        self.works = Works(folder / "works", {"main": self.source}, listed, packets, **more)
        self.handed = Handed(folder / "handed", self.signins.holds, lambda: self.clock)
        self.pool = ThreadPoolExecutor(2)
        self.desk: Any = SimpleNamespace(
            vaults=SimpleNamespace(find=lambda engagement, asked: ("main", sample_trail())),
            engagements=Engagements(path),
            signins=self.signins,
            recorder=self.notes,
            works=self.works,
            handed=self.handed,
            pool=self.pool,
            now=lambda: self.clock,
        )

    def page(self, identity: str = "ines@auditor.example", view: type = Requests) -> Page:
        _, signin = self.signins.start(identity, "link")
        return Page(Visit(self.desk, signin, view.__name__.lower()), view)

    def close(self) -> None:
        self.works.close()
        self.handed.close()
        self.pool.shutdown()


class Page:
    """The open page as a browser drives it."""

    def __init__(self, visit: Visit, view: type = Requests) -> None:
        self.visit, self.view = visit, view(visit)

    def go(self, **arguments: str) -> str:
        self.visit.go(address("", arguments)[1:])
        asyncio.run(self.view.show())
        return self.text

    def act(self, does: str, **arguments: str) -> str:
        """A button that this page shows."""
        return self.go(do=does, once=self.view._running.once, **arguments)

    @property
    def text(self) -> str:
        return "".join(str(each.object) for each in self.view.panes)

    @property
    def work(self) -> Work:
        assert self.view._running.work is not None
        return self.view._running.work


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Callable[..., Office]]:
    made: list[Office] = []

    def make(listed: RequestList, *engagements: Engagement, **options: Any) -> Office:
        made.append(Office(tmp_path, listed, *engagements, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_list_holds_what_the_engagement_names(office: Callable[..., Office], tmp_path: Path) -> None:
    """Questions, controls and what stands, of the requests allowed and of no other."""
    page = office(LISTED, engagement(requests=("AC-03", "AC-04")), packets=tmp_path / "packets").page()
    text = page.go()
    assert "AC-03" in text and "AC-04" in text and "never built" in text and "2026-07-15" in text
    assert "AC-05" not in text and "LOG-01" not in text
    with pytest.raises(RefusedError):
        page.go(id="LOG-01")
    page.view.clear()
    assert page.text == ""


def test_an_address_that_somebody_sends_does_nothing(endless: RequestList, office: Callable[..., Office]) -> None:
    """What acts carries a word of the open page, good for one time: a link, a reload and a step back run nothing."""
    desk = office(endless, engagement())
    page = desk.page()
    page.go(id="ENDLESS", do="run", once="")
    page.go(id="ENDLESS", do="run", once="guessed")
    page.go(id="ENDLESS", do="run")
    assert page.view._running.work is None and not desk.notes.kept
    word = page.view._running.once
    text = page.act("run", id="ENDLESS")
    assert page.work.state == RUNNING and "Cancel" in text
    assert desk.notes.kept == [("ran", ("ENDLESS", {}))]
    page.go(id="ENDLESS", do="run", once=word)
    assert len(desk.notes.kept) == 1
    page.act("cancel", id="ENDLESS")
    until(page.work.ended.is_set)
    page.view._running.look()
    assert "nothing of it was kept" in page.text


def test_what_cannot_be_recorded_is_not_run(endless: RequestList, office: Callable[..., Office]) -> None:
    """The record comes first."""
    desk = office(endless, engagement())
    page = desk.page()
    page.go(id="ENDLESS")
    desk.notes.broken = True
    assert "could not be kept" in page.act("run", id="ENDLESS")
    assert page.view._running.work is None and not list((desk.works._folder).iterdir())


def test_the_end_of_an_engagement_ends_its_work(endless: RequestList, office: Callable[..., Office]) -> None:
    """Expired in the middle: the next look or click cancels the work and shows nothing of it."""
    desk = office(endless, engagement())
    for click in (False, True):
        desk.clock = NOW
        page = desk.page()
        page.go(id="ENDLESS")
        page.act("run", id="ENDLESS")
        one = page.work
        desk.clock = parse_time("2026-10-01T00:00:00Z")
        if click:
            with pytest.raises(RefusedError):
                page.go(id="ENDLESS")
        else:
            page.view._running.look()
            assert "signed out" in page.text
        until(one.ended.is_set)
        assert one.state == CANCELLED
        nothing_left(desk.works, one)


@pytest.mark.slow
def test_a_narrow_engagement_learns_nothing_from_a_packet(office: Callable[..., Office]) -> None:
    """Logins alone: the grants' packet is not handed over, and no count, headline or exception of it is shown."""
    desk = office(LISTED, engagement(**LOGINS))
    page = desk.page()
    page.go(id="AC-03")
    page.act("run", id="AC-03", **{"p.since": "2026-03-01", "p.until": "2026-06-01"})
    one = page.work
    until(one.ended.is_set)
    page.view._running.look()
    assert one.state == WITHHELD and one.answer is None
    assert "This answer rests on events outside your engagement; ask maria." in page.text
    below = str(page.view.panes[1].object)
    assert not any(sign.isdecimal() for sign in below.replace("<h2>", "").replace("</h2>", "").replace("AC-03", ""))
    nothing_left(desk.works, one)
    for does in ("save", "open"):
        assert "handed/" not in page.act(does, id="AC-03")
    assert [name for name, _ in desk.notes.kept] == ["ran"]


def test_the_answer_is_shown_and_handed_over_once_recorded(
    answered: tuple[Works, Work, list[Any]], office: Callable[..., Office], tmp_path: Path
) -> None:
    """The answer first, then the exceptions; each download is recorded with its digests before it is offered."""
    _, done, _ = answered
    (tmp_path / "packets").mkdir()
    shutil.copy(done.path, tmp_path / "packets" / "AC-03.zip")
    desk = office(LISTED, engagement(), packets=tmp_path / "packets")
    page = desk.page()
    text = page.go(id="AC-03")
    assert "built at checkpoint 27" in text and "potential exceptions" not in text
    page.act("take", id="AC-03")
    until(page.work.ended.is_set)
    page.view._running.look()
    answer = done.answer
    assert answer is not None
    assert answer.headline in page.text and answer.evidence_digest in page.text and "Draft" in page.text
    assert 0 < len(answer.rows) <= 50 and answer.rows[0][0] in page.text
    desk.notes.broken = True
    assert "handed/" not in page.act("save", id="AC-03")
    desk.notes.broken = False
    for does, shown in (("save", False), ("open", True)):
        text = page.act(does, id="AC-03")
        token = text.partition("handed/")[2].partition('"')[0]
        assert desk.notes.kept[-1] == ("packet", ("AC-03", answer.packet_digest, answer.evidence_digest))
        offer = desk.handed.take(token, page.visit.signin)
        assert offer is not None and offer.shown is shown
        data = offer.path.read_bytes()
        assert data == done.path.read_bytes() if does == "save" else data.lower().startswith(b"<!doctype html>")
        offer.path.unlink()
    other = desk.page("ines@auditor.example")
    assert answer.headline in other.go(id="AC-03")  # the same person, another tab


def test_a_period_outside_is_refused_and_recorded(office: Callable[..., Office]) -> None:
    """Nothing runs; that it was tried is recorded."""
    desk = office(LISTED, engagement(since="2026-03-01", until="2026-06-01"))
    page = desk.page()
    text = page.go(id="AC-03")
    assert 'value="2026-03-01"' in text and 'value="2026-06-01"' in text
    text = page.act("run", id="AC-03", **{"p.since": "2026-01-01", "p.until": "2026-06-01"})
    assert "Your engagement covers events from 2026-03-01 until before 2026-06-01 (UTC)" in text
    assert page.view._running.work is None and desk.notes.kept[0][1][-1] == "denied"
    text = page.act("run", id="AC-03", **{"p.since": "<script>alert(1)</script>"})
    assert "<script>" not in text and page.view._running.work is None


# --- what a search found, with proof ---------------------------------------------------------------------------------

BURST = {"actor": "u_1028", "outcome": "denied", "since": "2026-05-12", "until": "2026-05-13"}
PROVE = {**BURST, "export": "proof"}


def searching(office: Callable[..., Office], **scope: Any) -> tuple[Office, Page]:
    desk = office(LISTED, engagement(**{"requests": ("events",), **scope}))
    return desk, desk.page(view=Search)


def test_a_search_is_taken_away_with_its_proof(office: Callable[..., Office]) -> None:
    """Asked, run, handed over: a packet of these events, with the question and their proofs, that passes its checks.

    The run is recorded before it begins, the packet before it is offered, with its count and digests; a packet of
    another question is not shown with this one.
    """
    desk, page = searching(office)
    text = page.go(**PROVE)
    assert "<strong>60</strong> events can be taken away with proof" in text
    assert "The seals of the batches in which its events stand" in text
    assert desk.notes.kept == [("searched", (BURST, 60))]
    page.act("run", **PROVE)
    one = page.work
    assert desk.notes.kept[1:] == [("ran", ("events", {**BURST, "at": "27", "tz": "UTC"}))]
    until(one.ended.is_set)
    assert one.state == DONE, one.sentence
    page.view._running.look()
    assert one.answer is not None and one.answer.headline in page.text and one.answer.records == 60
    text = page.act("save", **PROVE)
    token = text.partition("handed/")[2].partition('"')[0]
    offer = desk.handed.take(token, page.visit.signin)
    assert offer is not None and offer.name == "events.zip"
    data = offer.path.read_bytes()
    name, (filters, rows, digest, form, digests) = desk.notes.kept[-1]
    assert (name, filters, rows, form) == ("exported", BURST, 60, "packet")
    assert digest == sha256(data).hexdigest()
    assert digests == {"evidence_digest": one.answer.evidence_digest, "packet_digest": one.answer.packet_digest}
    report = check_packet(offer.path, [SAMPLE_KEY])
    assert report.findings == () and report.records == 60
    with open_bag(offer.path) as bag:
        told = json.loads(bag.read("data/packet.json"))
    assert told["criteria"] == [] and told["exceptions"] == 0 and told["parameters"]["actor"] == ["u_1028"]
    other = page.go(**{**PROVE, "outcome": "success"})
    assert page.view._running.work is None and one.answer.headline not in other


def test_what_is_left_open_is_taken_from_the_scope_and_the_packet_is_within_it(office: Callable[..., Office]) -> None:
    """A narrow engagement gets the packet of a question that it left open, whatever limits it.

    No event of it is outside, and what the engagement leaves out is left out of the packet.
    """
    limits = {"kinds": ("grant",), "targets": ("u_10*",), "streams": ("admin-console",), "since": "2026-04-01"}
    _, page = searching(office, **limits, redact=("actor.session", "context.ip"))
    text = page.go(export="proof", until="2026-05-01")
    assert "What you left open is taken from your engagement." in text and "admin-console/*" in text
    events = int(text.partition("<strong>")[2].partition("<")[0])
    page.act("run", export="proof", until="2026-05-01")
    until(page.work.ended.is_set)
    assert page.work.state == DONE, page.work.sentence
    with open_bag(page.work.path) as bag:
        records = bag.read("data/events.jsonl").splitlines()
        told = json.loads(bag.read("data/packet.json"))
    assert len(records) == events > 0 and told["redacted"]["fields"] == ["actor.session", "context.ip"]
    shown = [json.loads(record)["event"] for record in records]
    assert {event["actor"]["session"] for event in shown} == {None}
    assert not any("ip" in event["context"] for event in shown) and told["redacted"]["lines"]
    assert told["period"]["utc"] == {"since": "2026-04-01T00:00:00Z", "until": "2026-05-01T00:00:00Z"}
    assert holds(Scope(sample_trail(), engagement(**limits), "main"), records)


def test_what_may_not_be_exported_with_proof_is_refused_and_recorded(office: Callable[..., Office]) -> None:
    """No request of that name, more than the scope, more rows than allowed, nothing there: no process is begun."""
    refused: list[tuple[dict[str, Any], dict[str, str], str]] = [
        ({"requests": ("AC-*",)}, BURST, "names no request 'events'"),
        ({"kinds": ("grant",)}, {"kind": "login"}, "more than your engagement"),
        ({"rows_per_export": 59}, BURST, "60 events answer; at most 59 may be exported"),
        ({}, {"actor": "nobody"}, "there is nothing to prove"),
        ({"redact": ("context.ip",)}, {"where": "ip=203.0.113.10"}, "left out"),
    ]
    for number, (scope, question, sentence) in enumerate(refused):
        desk, page = searching(office, **scope, id=f"e{number}")
        for does in (None, "run"):
            with pytest.raises(RefusedError, match=sentence):
                page.go(engagement=f"e{number}", export="proof", **question, **({"do": does} if does else {}))
            assert desk.notes.kept[-1] == ("ran", ("events", question, "denied"))
        assert not list(desk.works._folder.iterdir()) and page.view._running.work is None
        assert "with proof only where" in page.go(engagement=f"e{number}", **BURST) or "AC-*" not in str(scope)


@pytest.mark.parametrize("question", [{"actor": "a,b*"}, {"target": "*", "actor": "None"}, {"where": "ip=1,2*"}])
def test_a_filter_that_a_packet_cannot_state_is_refused(question: dict[str, str]) -> None:
    """Never another question in its place: a comma would make two of one, and the word none would ask for all."""
    with pytest.raises(MalformedError, match="cannot be stated in a packet"):
        asked.events_call(question_of(question), engagement(requests=("*",)), 27)


def test_an_address_runs_no_export_with_proof(office: Callable[..., Office]) -> None:
    """A link that somebody sends shows the form; where it cannot be recorded, nothing is shown or run."""
    desk, page = searching(office)
    page.go(**PROVE, do="run", once="guessed")
    assert page.view._running.work is None
    desk.notes.broken = True
    assert "could not be kept" in page.act("run", **PROVE)
    assert page.view._running.work is None and not list(desk.works._folder.iterdir())
    with pytest.raises(UnavailableError):
        page.go(**PROVE)


# --- handed over once ------------------------------------------------------------------------------------------------


class Counter:
    """A server of handed files over real HTTP; who asks is named by a header."""

    def __init__(self, folder: Path) -> None:
        self.clock = NOW
        self.people = {name: SignIn(name, "link", 0, 1, name.encode()) for name in ("ines", "bob")}
        self.gone: set[str] = set()
        self.handed = Handed(folder / "handed", lambda one: one.identity not in self.gone, lambda: self.clock)

    def file(self, data: bytes) -> Path:
        path = self.handed.new_path(".zip")
        path.write_bytes(data)
        return path

    async def serve(self) -> tuple[HTTPServer, int]:
        def find(handler: Any) -> SignIn | None:
            return self.people.get(handler.request.headers.get("X-Test-Who", ""))

        application = Application([("/handed/(.*)", HandedHandler, {"handed": self.handed, "find": find})])
        listening, port = bind_unused_port()
        server = HTTPServer(application)
        server.add_socket(listening)
        return server, port

    async def fetch(self, port: int, href: str, who: str = "ines", **headers: str) -> tuple[int, bytes, Any]:
        client = AsyncHTTPClient(force_instance=True, max_body_size=64 * 1024 * 1024)
        try:
            told = {"X-Test-Who": who, **headers}
            answer = await client.fetch(f"http://127.0.0.1:{port}/{href}", headers=told)
            return answer.code, answer.body, answer.headers
        except HTTPClientError as error:
            assert error.response is not None
            return error.code, error.response.body, error.response.headers
        finally:
            client.close()


def test_a_file_is_handed_over_once_to_whom_it_was_made_for(tmp_path: Path) -> None:
    """Another sign-in, a guess, a second time, too late, after signing out, from another site: the same 404."""
    counter = Counter(tmp_path)
    ines = counter.people["ines"]
    data = os.urandom(5 * 1024 * 1024)

    async def all_of_it() -> None:
        server, port = await counter.serve()
        path = counter.file(data)
        href = counter.handed.offer(ines, path, 'a/../b"\r\nX: 1 ä.zip')
        refused = [
            await counter.fetch(port, href, "bob"),
            await counter.fetch(port, href, "nobody"),
            await counter.fetch(port, "handed/" + "A" * 43),
            await counter.fetch(port, "handed/../handed/" + path.name),
            await counter.fetch(port, f"handed/{path}"),
            await counter.fetch(port, href, **{"Sec-Fetch-Site": "cross-site"}),
        ]
        assert path.exists()
        code, body, headers = await counter.fetch(port, href, **{"Sec-Fetch-Site": "same-origin"})
        assert (code, body) == (200, data)
        assert headers["Content-Disposition"] == 'attachment; filename="a-..-b-X-1-.zip"'
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
        assert headers["Content-Type"] == "application/zip" and "X" not in headers
        refused.append(await counter.fetch(port, href))
        assert not path.exists()
        late = counter.file(b"x")
        href = counter.handed.offer(ines, late, "x.zip")
        counter.clock += SECONDS * SECOND
        refused.append(await counter.fetch(port, href))
        assert not late.exists()
        gone = counter.file(b"x")
        href = counter.handed.offer(ines, gone, "x.zip")
        counter.gone.add("ines")
        refused.append(await counter.fetch(port, href))
        counter.handed.sweep()
        assert not gone.exists()
        assert {(code, body) for code, body, _ in refused} == {(404, refused[0][1])}
        server.stop()
        await server.close_all_connections()

    asyncio.run(all_of_it())


def test_one_sign_in_that_cannot_be_judged_is_not_in_another_s_way(tmp_path: Path) -> None:
    """Where it cannot be told whether somebody is still signed in, that file is not given, and the others are."""
    counter = Counter(tmp_path)
    ines, bob = counter.people.values()

    def judge(one: SignIn) -> bool:
        if one is bob:
            raise UnavailableError("the accounts cannot be read.")
        return True

    handed = Handed(tmp_path / "other", judge, lambda: NOW)
    tokens = {}
    for one in (bob, ines):
        path = handed.new_path()
        path.write_bytes(b"x")
        tokens[one.identity] = handed.offer(one, path, "x").removeprefix("handed/")
    assert handed.take(tokens["bob"], bob) is None
    assert handed.take(tokens["ines"], ines) is not None


def test_a_report_opens_kept_apart(tmp_path: Path) -> None:
    """It runs its own script in an origin of its own: no cookie, no connection, no frame."""
    counter = Counter(tmp_path)

    async def open_it() -> None:
        server, port = await counter.serve()
        path = counter.file(b"<!DOCTYPE html><p>x")
        href = counter.handed.offer(counter.people["ines"], path, "report.html", shown=True)
        code, _, headers = await counter.fetch(port, href)
        assert code == 200 and headers["Content-Security-Policy"] == REPORT_POLICY
        assert "sandbox allow-scripts" in REPORT_POLICY and "allow-same-origin" not in REPORT_POLICY
        assert headers["Content-Disposition"].startswith("inline") and headers["Content-Type"].startswith("text/html")
        server.stop()
        await server.close_all_connections()

    asyncio.run(open_it())


def test_what_an_earlier_server_offered_is_gone(tmp_path: Path) -> None:
    """Nothing survives a restart, and names are only names."""
    first = Handed(tmp_path / "handed", lambda _: True, lambda: NOW)
    path = first.new_path(".csv")
    path.write_bytes(b"x")
    second = Handed(tmp_path / "handed", lambda _: True, lambda: NOW)
    assert not path.exists() and (tmp_path / "handed").stat().st_mode & 0o777 == 0o700
    assert second.take("x", None) is None
    assert [safe_name(name) for name in ("../..", "..hidden", "a b.csv", "")] == ["file", "hidden", "a-b.csv", "file"]


def test_what_fails_in_a_task_is_told_without_its_inside() -> None:
    """An unforeseen fault of the server itself names no path and quotes no event."""
    task = lanes.Task("ines")
    lane: lanes.Lane[lanes.Task] = lanes.Lane(lambda _: (_ for _ in ()).throw(ValueError("/secret/place")))
    lane.add(task)
    until(task.ended.is_set)
    assert task.state == FAILED and "secret" not in task.sentence
    lane.close()
    with pytest.raises(RefusedError):
        lane.add(lanes.Task("ines"))
