"""Integrity and Overview: errors are the first thing one reads; the rest is for those whose scope hides nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from browser import CHROMIUM
from dashboards import Dashboard, Person, engagement, until
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import Packet, sample, trail_of, vault_of
from simulator import KEY, START, MemoryVault, Tamper, Trail, record, records
from test_locked_storage import LockingVault

from auditlib.announce import own_record
from auditlib.dashboard.chain import BARS, BLOCKS, CHECKPOINTS, FAULTY, ROWS, chain_of, checkpoints_of
from auditlib.dashboard.exceptions import exceptions_of, standings_here
from auditlib.dashboard.locked import locks_of
from auditlib.dashboard.markup import render
from auditlib.dashboard.observed import STRIP, observed
from auditlib.dashboard.overdue import heartbeat_age, seal_age
from auditlib.dashboard.pages.integrity import Integrity
from auditlib.dashboard.pages.overview import Overview
from auditlib.dashboard.probed import probes_of
from auditlib.dashboard.signins import SignIns
from auditlib.dashboard.vaults import Vaults
from auditlib.dashboard.visit import Visit
from auditlib.dashboard.whole import Whole
from auditlib.engagements import Engagement, Engagements, add_engagement, revoke_engagement
from auditlib.errors import MismatchError, UnavailableError
from auditlib.findings import Finding
from auditlib.formats.event import Actor, Record, Target
from auditlib.formats.times import DAY, SECOND, format_time, parse_time
from auditlib.history import History, read_history
from auditlib.monitor.settings import Settings, Thresholds, parse_settings
from auditlib.packet.bag import write_bag
from auditlib.requests.model import Control, Request, RequestList
from auditlib.requests.places import source_of
from auditlib.scoped import RefusedError, ScopedTrail
from auditlib.trail import open as open_trail
from auditlib.vault import Lock

WHOLE = engagement("whole", "ines@auditor.example", requests=("A-*",), proofs=True)
NARROW = engagement("narrow", "omar@auditor.example", kinds=("grant",), requests=("A-*",))
GONE = engagement("gone", "lea@auditor.example")
REDACTED = engagement("redacted", "rita@auditor.example", redact=("context.ip",), requests=("A-*",))
EVIL = "<script>alert(1)</script>\u202e<img src=x onerror=alert(2)>"
HOUR = 3600 * SECOND
NAMES = ("A-1", "A-2", "A-3", "B-1")


def history_of(vault: Any) -> History:
    return read_history(vault, [KEY.verifier])


def damaged(folder: Path) -> Path:
    """Thirty seals; the batches of 3 and 28 have another byte, and a strange object stands among the checkpoints."""
    folder.mkdir(exist_ok=True)
    trail = Trail(folder).create().seal(30)
    tamper = Tamper(trail.vault.root)
    for number in (3, 28):
        tamper.flip(f"batches/*/{number:012}-*.parquet", 900)
    tamper.plant("checkpoints/<script>alert(1)<", "x")
    return trail.vault.root  # type: ignore[no-any-return]


class Notes:
    """A recorder that remembers what was viewed."""

    def __init__(self) -> None:
        self.viewed_pages: list[str] = []

    def viewed(self, *told: Any) -> str:
        self.viewed_pages.append(told[-1])
        return "e"


class Office:
    """What a visit needs, over a vault opened as the server opens it."""

    def __init__(
        self, folder: Path, vault: Path, packets: Path | None = None, listed: RequestList | None = None
    ) -> None:
        self.path = folder / "engagements.toml"
        for each in (WHOLE, NARROW, REDACTED, GONE):
            add_engagement(self.path, each)
        self.now, self.notes = parse_time("2026-07-10T09:00:00Z"), Notes()
        self.vaults = Vaults({"main": source_of(str(vault), [KEY.verifier])}, folder / "seen")
        self.pool = ThreadPoolExecutor(2)
        self.signins = SignIns(lambda: self.now)
        self.desk: Any = SimpleNamespace(
            vaults=self.vaults,
            engagements=Engagements(self.path),
            signins=self.signins,
            recorder=self.notes,
            works=SimpleNamespace(listed=None, packets=None, latest=lambda *asked: None),
            pool=self.pool,
            now=lambda: self.now,
            settings=Settings(),
        )

    def visit(self, who: Engagement) -> Visit:
        return Visit(self.desk, self.signins.start(who.identity, "link")[1], "integrity")

    def shown(self, page: Callable[[Visit], Any], who: Engagement) -> str:
        """What the page holds when it has answered."""
        view = page(self.visit(who))
        asyncio.run(view.show())
        return "\n".join(str(pane.object) for pane in view.panes)

    def close(self) -> None:
        self.vaults.close()
        self.pool.shutdown()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """A server over the damaged vault, once every record that can be read was."""
    folder = tmp_path_factory.mktemp("broken")
    office = Office(folder, damaged(folder))
    until(lambda: not office.vaults.reading("main"))
    yield office
    office.close()


# --- errors first, and nothing of what lies outside a scope ----------------------------------------------------------


@pytest.mark.parametrize("page", [Integrity, Overview])
@pytest.mark.parametrize("who", [WHOLE, NARROW, REDACTED], ids=lambda who: who.id)
def test_an_error_stands_before_everything_else(broken: Office, page: Any, who: Engagement) -> None:
    """Whoever looks: the page begins with what is wrong, in words, and is announced as that."""
    text = broken.shown(page, who)
    assert text.lstrip().startswith('<div class="alarm" role="alert">')
    assert text.index("Something is wrong with this trail: check 5 found an error") < text.index("✓")
    assert "No alteration was found" not in text


def test_who_sees_all_is_told_which_batches(broken: Office) -> None:
    """Both batches by name, marked in the picture of the chain, and left out of what the records say."""
    text = broken.shown(Integrity, WHOLE)
    assert text.count("the batch is not the one that was sealed") == 2
    assert "An error was found in 2 of them: 3, 28." in text
    assert text.count("An error was found in it or in its batch") == 2
    assert "The records of 2 batches in which an error was found were left out" in text
    assert "no number of a source is missing" in text  # a batch that cannot be read may hold those that are


@pytest.mark.parametrize("who", [NARROW, REDACTED], ids=lambda who: who.id)
def test_a_narrower_scope_learns_the_outcomes_and_nothing_they_rest_on(broken: Office, who: Engagement) -> None:
    """No batch, seal, source, time, lock or number that is about the whole trail; a sentence says what is held back."""
    text = broken.shown(Integrity, who)
    assert "Not shown within your scope" in text and "What it found is not shown within your scope" in text
    for told in ("batches/", "seal 28", "000000000003", "billing-api", "COMPLIANCE", "events", "<svg", "check 8 found"):
        assert told not in text, told
    over = broken.shown(Overview, who)
    assert "COMPLIANCE" not in over and "batches/" not in over and "Check 7: not made." in over
    assert "Nothing can be counted within your scope" in over


def test_the_way_to_the_whole_trail_asks_each_time(broken: Office) -> None:
    """A scope that is narrow, and one that was taken away meanwhile, get nothing past the gate."""
    for who in (NARROW, REDACTED):
        with pytest.raises(RefusedError, match="the whole trail"):
            Whole(broken.visit(who))
    whole = Whole(broken.visit(GONE))
    assert whole.chain().size == 30
    revoke_engagement(broken.path, "gone", by="maria", reason="over", now=lambda: broken.now)
    for ask in (whole.chain, whole.checkpoints, whole.locks, whole.heartbeat, whole.observed, whole.check):
        with pytest.raises(RefusedError):
            ask()


def test_what_anybody_put_into_the_vault_is_text(broken: Office) -> None:
    """An object's name is markup: it is shown, and stays what it is."""
    text = broken.shown(Integrity, WHOLE)
    assert "&lt;script&gt;alert(1)&lt;" in text and "<script" not in text


def test_no_page_tells_where_the_vault_lies(broken: Office) -> None:
    """A path on the server is nobody's business, in a finding either."""
    place = broken.vaults.source("main").vault
    assert place not in broken.shown(Integrity, WHOLE) + broken.shown(Overview, WHOLE)


def test_a_page_is_recorded_before_it_is_shown(broken: Office) -> None:
    """What cannot be recorded is not shown."""
    view = Integrity(broken.visit(WHOLE))
    before = len(broken.notes.viewed_pages)
    asyncio.run(view.show())
    assert broken.notes.viewed_pages[before:] == ["integrity"]
    broken.desk.recorder = SimpleNamespace(viewed=_away)
    view = Integrity(broken.visit(WHOLE))
    with pytest.raises(UnavailableError):
        asyncio.run(view.show())
    broken.desk.recorder = broken.notes
    assert [pane.object for pane in view.panes] == ["", "", ""]


def _away(*_told: Any) -> str:
    raise UnavailableError("the event could not be kept.")


# --- the chain -------------------------------------------------------------------------------------------------------


def test_each_block_carries_the_hash_of_the_one_before(tmp_path: Path) -> None:
    """What is drawn as linked is linked."""
    chain = chain_of(history_of(Trail(None, MemoryVault(), tmp_path).create().seal(20, 3).vault), ())
    assert [block.sequence for block in chain.blocks] == list(range(20 - BLOCKS, 20))
    assert chain.blocks[0].after == 20 - BLOCKS
    for one, two in pairwise(chain.blocks):
        assert two.previous == one.sha256 and two.after == 0
    assert all(block.checkpoint for block in chain.blocks) and not chain.faults


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 400 * 86_400), min_size=1, max_size=300), st.sets(st.integers(0, 320), max_size=20))
def test_the_strip_holds_every_seal_however_many_and_whenever(seconds: list[int], wrong: set[int]) -> None:
    """Clocks that stand, jump or run back: each seal is in one bar, a bar with an error says so, all lies inside."""
    history = _history(seconds)
    findings = [Finding(5, "error", f"batches/recorded_date=2026-03-01/{n:012}-{'0' * 16}.parquet", "x") for n in wrong]
    chain = chain_of(history, findings)
    there = sorted(number for number in wrong if number < len(seconds))
    assert sum(bar.seals for bar in chain.bars) == chain.size == len(seconds)
    assert 0 < chain.places <= BARS + 1 and all(0 <= bar.place < chain.places for bar in chain.bars)
    assert all(0 < bar.height <= 1 for bar in chain.bars)
    assert list(chain.faults) == there and any(bar.fault for bar in chain.bars) == bool(there)
    drawn = [block.sequence for block in chain.blocks]
    assert set(there[:FAULTY]) <= set(drawn) and drawn == sorted(set(drawn))
    assert sum(block.after + 1 for block in chain.blocks) == chain.size


def test_ten_thousand_seals_are_drawn_within_bounds() -> None:
    """The picture, the table and the strip do not grow with the trail."""
    chain = chain_of(_history([600 * number for number in range(10_000)]), ())
    assert (len(chain.blocks), len(chain.rows), chain.size) == (BLOCKS, ROWS, 10_000)
    assert len(chain.bars) <= BARS and chain.longest is not None and chain.longest[0] == 600 * SECOND


def test_a_checkpoint_that_nobody_trusted_signed_is_named_as_that(tmp_path: Path) -> None:
    """Of the newest twenty, each with who signed it; one that was cut says so and does not hide the others."""
    trail = Trail(tmp_path).create().seal(24, 3)
    history = history_of(trail.vault)
    Tamper(trail.vault.root).truncate("checkpoints/*/000000000020", 40)
    told = checkpoints_of(history, 24)
    assert [one.size for one in told] == list(range(24, 24 - CHECKPOINTS, -1))
    assert {one.size for one in told if one.trouble} == {20}
    assert all(one.signers == (KEY.name,) and one.root for one in told if not one.trouble)


def _history(seconds: list[int]) -> History:
    """A history of seals made at these times, of which nothing but the times is looked at."""
    (entry,) = _one_seal().seals
    made = [
        msgspec.structs.replace(
            entry, seal=msgspec.structs.replace(entry.seal, sequence=number, sealed_at=format_time(START + at * SECOND))
        )
        for number, at in enumerate(seconds)
    ]
    history = copy(_one_seal())
    history.seals = made
    return history


@cache
def _one_seal() -> History:
    with TemporaryDirectory() as folder:
        return history_of(Trail(None, MemoryVault(), Path(folder)).create().seal(1, 3).vault)


# --- locks and ages --------------------------------------------------------------------------------------------------


def test_locks_are_told_by_the_storages_own_word(tmp_path: Path) -> None:
    """Mode, end and hold as the storage says; a lock that is gone, and one that ends soon, are not passed over."""
    vault = LockingVault()
    trail = Trail(None, vault, tmp_path).create().seal(3, 3)
    history, now = history_of(vault), trail.clock()
    told = locks_of(history, now)
    assert "keeps every version, its Object Lock is on" in told.sentences[1]
    assert [one.what for one in told.held] == ["The lock that ends first", "The oldest batch", "The newest batch"]
    assert not told.alarms and "asked of the storage" in told.line
    oldest = history.seals[0].seal.batch.object
    vault.locks[oldest] = Lock("GOVERNANCE", now + DAY, True)
    vault.locks[history.seals[2].seal.batch.object] = Lock("", 0)
    _, first, last = locks_of(history, now).held
    assert (first.mode, first.left) == ("GOVERNANCE, legal hold", "24 h 0 min") and last.mode == "no lock"
    vault.locks[oldest] = Lock("COMPLIANCE", now + DAY)
    (alarm,) = locks_of(history, now).alarms
    assert "the first retention ends in 24 h 0 min" in alarm
    assert locks_of(history, now + 2 * DAY).held[0].ended


def test_a_local_directory_is_not_called_locked(tmp_path: Path) -> None:
    """It promises, and cannot enforce: both are said."""
    trail = Trail(tmp_path).create().seal(2, 3)
    told = locks_of(history_of(trail.vault), trail.clock())
    assert "cannot enforce" in told.line and any("Who owns it can change every file" in each for each in told.sentences)


def test_ages_are_judged_and_a_clock_that_is_wrong_is_named() -> None:
    """On time, overdue, and from the future; without a heartbeat nothing is called on time."""
    now, own, patient = START + DAY, Thresholds(), Thresholds(seal_age=3 * HOUR)
    assert seal_age(format_time(now - 10 * 60 * SECOND), now, own).overdue is False
    assert seal_age(format_time(now - 2 * HOUR), now, own).overdue is True
    late = seal_age(format_time(now - 2 * HOUR), now, patient)
    assert late.overdue is False and "at least every 3 h 0 min" in late.words
    assert seal_age(format_time(now - 2 * HOUR), now, Thresholds(seal_age=None)).overdue is None
    ahead = seal_age(format_time(now + HOUR), now, own)
    assert ahead.overdue and "one of the two is wrong" in ahead.words
    assert heartbeat_age([entry.seal for entry in _one_seal().seals], now, own).overdue is None


def test_what_is_overdue_is_judged_by_the_settings_that_the_server_was_given(broken: Office) -> None:
    """A monitor.toml that expects a seal every year calls this one on time; left alone it is overdue."""
    assert "overdue. One is expected at least every" in broken.shown(Overview, NARROW)
    broken.desk.settings = parse_settings('[thresholds]\nseal_age = "9999d"\n')
    try:
        assert "on time. One is expected at least every" in broken.shown(Overview, NARROW)
    finally:
        broken.desk.settings = Settings()


# --- the pipeline and the probes -------------------------------------------------------------------------------------


def test_what_the_records_show_of_the_pipeline_stands_within_its_strip(tmp_path: Path) -> None:
    """A silence, a clock ahead, a late arrival and a lost number: each with a record that shows it."""
    day = format_time(START + DAY)
    batch = [
        *records(12),
        record(900, recorded_at=day, occurred_at=format_time(START + DAY + HOUR), source_seq=7),
        record(901, recorded_at=day, occurred_at=format_time(START - 3 * DAY), source_seq=5),
    ]
    with trail_of(tmp_path, batch) as trail:
        told = observed(trail, ())
        kinds = {kind.name: kind for kind in told.kinds}
        assert set(kinds) == {"silence", "clock_ahead", "late_arrival", "lost_numbers"} and not told.unread
        assert len(told.absent) == 1 and "twice" in told.absent[0]
        for kind in told.kinds:
            for case in kind.cases:
                assert case.x >= 0 and case.x + case.width <= STRIP and case.width > 0
                assert case.event_id in {row.event.event_id for row in batch} and case.words and case.began
        assert all(case.untested for case in kinds["silence"].cases)  # none sends a heartbeat


def test_a_batch_that_is_not_as_sealed_explains_what_is_missing(tmp_path: Path) -> None:
    """Nothing is called lost that may stand in a batch that cannot be read; without that finding none is read."""
    vault = vault_of(tmp_path, records(12), records(12, 12), records(12, 24))
    Tamper(vault).flip("batches/*/000000000001-*.parquet", 900)
    with open_trail(vault, keys=KEY.verifier) as trail:
        bad = trail.seals[1].batch.object
        told = observed(trail, [Finding(5, "error", bad, "not as sealed")])
        assert told.unread == 1 and not any(kind.name == "lost_numbers" for kind in told.kinds)
        with pytest.raises(MismatchError):
            observed(trail, ())


def test_more_records_than_a_page_may_read_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long trail does not take the server's memory for a page: it says where the answer is."""
    monkeypatch.setattr("auditlib.dashboard.observed.MAX_EVENTS", 11)
    with trail_of(tmp_path, records(12)) as trail, pytest.raises(UnavailableError, match="12 records are too many"):
        observed(trail, ())


def test_probes_are_told_by_run_and_what_they_say_is_text(tmp_path: Path) -> None:
    """The last run with every attempt in its order; a verdict of another word is no lock that held."""
    runs = [_probe(f"c{run}", run, verdict) for run, verdict in enumerate(["held", "held", EVIL])]
    with trail_of(tmp_path, *runs) as trail:
        scoped = ScopedTrail(trail, lambda: WHOLE, lambda: parse_time("2026-07-10T09:00:00Z"))
        told = probes_of(scoped)
    assert [len(run.tried) for run in told] == [3, 3, 3]
    assert [run.broken for run in told] == [1, 0, 0]
    assert [one.attempt for one in told[0].tried] == ["overwrite it", "delete its version", "shorten its retention"]
    checks: Any = {7: SimpleNamespace(findings=()), 8: SimpleNamespace(findings=())}
    shared = {"most": 9, "verified": SimpleNamespace(checks=checks, verified_at="2026-07-10T09:00:00Z")}
    none = {"told": None, "trouble": "not asked"}
    page = render(
        "integrity_chain.html",
        **{**shared, "chain": none, "checkpoints": none, "locks": none, "probes": {"told": told, "trouble": ""}},
        event=lambda one: f"event?id={one.event_id}",
    )
    assert "1 of 3 attempts broke the lock" in page
    assert "<script" not in page and "<img" not in page and "\u202e" not in page and "[U+202E]" in page


def _probe(canary: str, run: int, last: str) -> list[Record]:
    """Three attempts, of which the last has this verdict."""
    tried = [("overwrite it", "held"), ("delete its version", "held"), ("shorten its retention", last)]
    return [
        own_record(
            "vault.probe",
            Actor("ada", None, "user"),
            Target("acme.example/audit", "trail"),
            {"attempt": attempt, "answer": EVIL, "verdict": verdict, "canary": canary},
            START + run * HOUR + number * SECOND,
        )
        for number, (attempt, verdict) in enumerate(tried)
    ]


# --- open exceptions -------------------------------------------------------------------------------------------------


def test_what_a_packet_of_the_whole_trail_found_is_told_to_whom_sees_all_of_it(broken: Office, tmp_path: Path) -> None:
    """To a narrower scope neither number nor headline is told; of a packet of another trail, to nobody."""
    write_bag(Packet(sample()).files, tmp_path / "A-1")
    other = Packet(sample()).json("data/packet.json", lambda told: told["checkpoints"][0].update(origin="b.example/x"))
    write_bag(other.fix().files, tmp_path / "A-2")
    listed = tuple(Request(id=name, question="Who?", control=Control("C"), notebook="role-grants") for name in NAMES)
    works = broken.desk.works
    works.listed, works.packets = RequestList(tmp_path, listed, {}), tmp_path
    try:
        told = exceptions_of(broken.visit(WHOLE))
        assert [one.request for one in told.open] == ["A-1"] and told.open[0].exceptions > 0
        assert told.unanswered == 2 and told.given  # A-2 is of another trail, A-3 was never built, B-1 is not named
        assert told.open[0].headline in broken.shown(Overview, WHOLE)
        stands = standings_here(broken.visit(WHOLE), listed, "main")
        assert {name: one.state for name, one in stands.items()} == dict(
            zip(NAMES, ("built", "never built", "never built", "never built"), strict=True)
        )
        for who in (NARROW, REDACTED):
            held = exceptions_of(broken.visit(who))
            assert held.open == () and held.held and held.unanswered == 3
            assert told.open[0].headline not in broken.shown(Overview, who)
    finally:
        works.listed = works.packets = None


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian package `chromium`)")
def test_over_a_damaged_vault_a_person_reads_the_error_first(tmp_path: Path) -> None:
    """In a real browser as narrow as a telephone: the first words after the scope, above the fold; no markup runs."""
    vault = damaged(tmp_path / "sealed")
    (tmp_path / "key.vkey").write_text(f"{KEY.verifier}\n")
    served = Dashboard(tmp_path, [WHOLE, NARROW], vault=vault, key=tmp_path / "key.vkey")
    try:
        for who in (WHOLE, NARROW):
            somebody = Person(served, tmp_path / who.id, who.identity)
            try:
                somebody.sign_in()
                somebody.browser.window(390)
                for page in ("overview", "integrity"):
                    text = somebody.go(page)
                    said = text.partition("\n")[2].strip()
                    assert said.startswith("✗ Something is wrong with this trail: check 5 found an error")
                    assert somebody.attribute(".alarm", "getBoundingClientRect().top") < 500
                    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                    assert somebody.browser.js(wide) <= 0
                    assert ("000000000028" in text) is (who is WHOLE)
                complaints = [each for each in somebody.browser.complaints() if "WebGL" not in json.dumps(each)]
                assert complaints == []
            finally:
                somebody.close()
    finally:
        served.stop()
    outs = [act["identity"] for act in served.acts() if act["action"] == "evidence.sign_out"]
    assert outs == [WHOLE.identity, NARROW.identity]  # with the server, each once
