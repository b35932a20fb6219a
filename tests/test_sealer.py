"""The sealer: it finishes what a crash left, seals every record once, and refuses what it did not write."""

import sqlite3
from pathlib import Path

import msgspec
import pytest
from simulator import (
    APP,
    CATALOG,
    EVIL_KEY,
    KEY,
    ORIGIN,
    RETENTION,
    Clock,
    Crash,
    CrashingVault,
    MemoryVault,
    Randomness,
    Tamper,
    Trail,
    ids_in,
    record,
    records,
    snapshot,
)

from auditlib.errors import AuditlibError, MalformedError, MismatchError, UnavailableError
from auditlib.formats import layout
from auditlib.formats.batch import parse_batch
from auditlib.formats.canonical import canonical
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.checkpoint import sign_checkpoint
from auditlib.formats.event import event_bytes
from auditlib.formats.keys import SigningKey
from auditlib.formats.seal import MAX_SEAL_BYTES, parse_seal, seal_bytes, sign_seal
from auditlib.formats.times import format_time
from auditlib.history import read_history
from auditlib.sealer import MAX_SOURCES, Added, create_trail, open_sealer
from auditlib.state import SealerState

SIZE, BATCHES = 3, 5  # records a batch, batches of the run that crashes
PUTS = 3 * BATCHES + BATCHES // 2  # batch, seal, checkpoint; a page every 2 seals


@pytest.fixture
def memory(tmp_path):
    """An empty trail in memory."""
    return Trail(tmp_path, MemoryVault()).create()


@pytest.fixture
def local(tmp_path):
    """An empty trail in a directory."""
    return Trail(tmp_path).create()


@pytest.fixture
def small_pages(monkeypatch):
    """Pages of 2 seals, so that a short run writes some."""
    monkeypatch.setattr(layout, "PAGE", 2)


def run(trail, vault=None):
    """What every run here does: seal the same records in order; a later run finds the earlier ones sealed."""
    with trail.sealer(vault=vault) as sealer:
        for number in range(BATCHES):
            sealer.add(records(SIZE, number * SIZE))
            sealer.flush()


def assert_whole(trail, before):
    """Every record once, no fault, nothing changed of what stood there; orphan batches are information."""
    report = trail.verify(deep=True)
    assert [finding for finding in report.findings if finding.severity != "info"] == []
    expected = [(r.receipt.source, r.event.event_id) for r in records(SIZE * BATCHES)]
    assert ids_in(trail.vault) == expected
    assert report.checkpoint.size == report.seals
    after = snapshot(trail.vault)
    assert before.items() <= after.items()


# --- crashes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("put", range(1, PUTS + 1))
def test_a_crash_at_any_put_is_finished_by_the_next_run(memory, small_pages, put, after):
    """Whatever the process died before or after writing, the next run leaves a whole trail."""
    with pytest.raises(Crash):
        run(memory, CrashingVault(memory.vault, put, after=after))
    before = snapshot(memory.vault)
    run(memory)
    assert_whole(memory, before)
    last = snapshot(memory.vault)
    run(memory)
    assert snapshot(memory.vault) == last


@pytest.mark.parametrize("second", [1, 2, 3])
@pytest.mark.parametrize("put", [1, 2, 3, 5, 6, 7])
def test_a_crash_while_finishing_a_crash_is_finished_too(memory, small_pages, put, second):
    """Recovery is normal work and may die as well."""
    for at in (put, second):
        with pytest.raises(Crash):
            run(memory, CrashingVault(memory.vault, at, after=True))
    before = snapshot(memory.vault)
    run(memory)
    assert_whole(memory, before)


@pytest.mark.parametrize("call", range(1, BATCHES + 1))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_around_the_sealers_memory_is_finished(memory, monkeypatch, call, after):
    """The checkpoint is remembered before it is put: neither order of death makes the sealer refuse its own trail."""
    calls, remember = [], SealerState.remember

    def dying(self, checkpoint):
        calls.append(checkpoint)
        if len(calls) == call and not after:
            raise Crash
        remember(self, checkpoint)
        if len(calls) == call:
            raise Crash

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(SealerState, "remember", dying)
        run(memory)
    before = snapshot(memory.vault)
    run(memory)
    assert_whole(memory, before)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("put", range(1, 7))
def test_a_sealer_that_is_used_on_after_an_outage_seals_nothing_twice(memory, put, after):
    """`seal --watch` catches an outage and tries again on the same sealer: no record may be sealed a second time."""
    outage = UnavailableError("the storage did not answer.")
    vault = CrashingVault(memory.vault, put, after=after, error=outage)
    with memory.sealer(vault=vault) as sealer:
        for number in range(BATCHES):
            for _ in range(2):
                try:
                    sealer.add(records(SIZE, number * SIZE))
                    sealer.flush()
                except AuditlibError:
                    continue
    before = snapshot(memory.vault)
    run(memory)
    assert_whole(memory, before)


def test_the_records_of_an_unflushed_run_are_not_sealed(memory):
    """Closing is not sealing: the caller says when."""
    with memory.sealer() as sealer:
        assert sealer.add(records(5)) == Added(new=5)
    assert ids_in(memory.vault) == []


# --- repeats and conflicts -----------------------------------------------------------------------------------------


def test_an_exact_repeat_within_one_call_is_dropped_and_counted(memory):
    """The same body again, whatever its receipt says."""
    later = record(1, recorded_at="2026-03-02T00:00:00Z", source_seq=99)
    with memory.sealer() as sealer:
        assert sealer.add([record(1), record(1), later, record(2)]) == Added(new=2, repeats=2)
        sealer.flush()
    assert len(ids_in(memory.vault)) == 2


def test_an_exact_repeat_of_a_waiting_record_is_dropped(memory):
    """Between two calls, before anything is sealed."""
    with memory.sealer() as sealer:
        assert sealer.add(records(3)) == Added(new=3)
        assert sealer.add(records(4)) == Added(new=1, repeats=3)
        sealer.flush()
    assert len(ids_in(memory.vault)) == 4


@pytest.mark.parametrize("index", ["kept", "deleted", "cut short", "of another vault"])
def test_an_exact_repeat_of_a_sealed_record_is_dropped(memory, index):
    """Across batches and runs, whatever became of the rebuildable index."""
    memory.seal(3)
    if index == "deleted":
        memory.state.ids.unlink()
    elif index == "cut short":
        with sqlite3.connect(memory.state.ids) as database:
            database.execute("DELETE FROM ids WHERE sequence = 1")
            database.execute("DELETE FROM batches WHERE sequence = 1")
        database.close()
    elif index == "of another vault":
        with sqlite3.connect(memory.state.ids) as database:
            database.execute("UPDATE batches SET seal = 'x' WHERE sequence = 0")
            database.execute("DELETE FROM ids")
        database.close()
    with memory.sealer() as sealer:
        assert sealer.add(records(40)) == Added(new=4, repeats=36)
        sealer.flush()
    assert sorted(ids_in(memory.vault)) == sorted((r.receipt.source, r.event.event_id) for r in records(40))


def test_a_damaged_index_is_an_outage_with_a_sentence(memory):
    """It is safe to delete, and the error says so."""
    memory.seal(1)
    memory.state.ids.write_bytes(b"no database at all" * 100)
    before = snapshot(memory.vault)
    with pytest.raises(UnavailableError, match=r"ids\.sqlite"), memory.sealer():
        pass
    assert snapshot(memory.vault) == before


def test_the_same_id_from_another_source_is_another_event(memory):
    """Ids are unique per source, not in the world."""
    with memory.sealer() as sealer:
        assert sealer.add([record(1), record(1, source="idp/b2"), record(1, source=APP)]) == Added(new=3)


def test_a_repeat_is_found_whatever_the_length_of_its_neighbours(memory):
    """Ids are looked up by digests; a longer id beside one must not change it."""
    with memory.sealer() as sealer:
        sealer.add([record(1)])
        sealer.flush()
        assert sealer.add([record(1), record(2, event_id="x" * 120)]) == Added(new=1, repeats=1)


@pytest.mark.parametrize("where", ["one call", "waiting", "sealed"])
def test_a_conflict_is_sealed_as_one_event_with_both_hashes(memory, where):
    """The second body is refused and not lost; the same import again changes nothing."""
    first, second = record(1), record(1, actor_id="u_mallory")
    for again in range(2):
        with memory.sealer() as sealer:
            if where == "one call":
                added = sealer.add([first, second, second])
            else:
                added = sealer.add([first])
                if where == "sealed":
                    sealer.flush()
                added += sealer.add([second, second])
            assert added == (Added(repeats=3) if again else Added(new=1, repeats=1, conflicts=1))
            sealer.flush()
        memory.clock.at += 1_000_000
    tables = [parse_batch(memory.vault.get(e.key)).table for e in memory.vault.list("batches/")]
    rows = [row for table in tables for row in table.select(["action", "context"]).to_pylist()]
    assert sorted(row["action"] for row in rows) == ["audit.conflict", "user.login"]
    (context,) = [msgspec.json.decode(row["context"]) for row in rows if row["action"] == "audit.conflict"]
    assert context["refused"] == event_bytes(second.event).decode()
    assert context["first_sha256"] != context["second_sha256"]
    assert memory.verify(deep=True).findings == ()


def test_two_other_bodies_are_two_conflicts(memory):
    """Each refused body has its own event."""
    with memory.sealer() as sealer:
        bodies = [record(1, actor_id=f"u_{n}") for n in range(3)]
        assert sealer.add(bodies) == Added(new=1, conflicts=2)
        sealer.flush()
    assert len(ids_in(memory.vault)) == 3


@pytest.mark.parametrize("filling", ["x", '"', "é", "\U0001f600", "\x01"])
def test_a_refused_body_of_any_size_is_kept_whole_in_parts(memory, filling):
    """A body that is too long for one context goes on in the next event; joined, it is the refused event."""
    large = record(1, context={"n": filling * (16_000 // len(canonical(filling)[1:-1]))})
    with memory.sealer() as sealer:
        sealer.add([record(1), large])
        sealer.flush()
    assert memory.verify(deep=True).findings == ()
    contexts = [
        msgspec.json.decode(row["context"])
        for entry in memory.vault.list("batches/")
        for row in parse_batch(memory.vault.get(entry.key)).table.to_pylist()
        if row["action"] == "audit.conflict"
    ]
    assert [context["part"] for context in contexts] == list(range(1, contexts[0]["parts"] + 1))
    assert "".join(context["refused"] for context in contexts).encode() == event_bytes(large.event)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (record(0, context={"ip": "203.0.113.1"}), "granted_role"),
        (record(0, actor_id=""), "empty"),
        (record(0, outcome="maybe"), "outcome"),
        (record(0, context={"granted_role": "admin", "x": float("nan")}), "canonical|finite"),
        (record(0, context={"granted_role": "admin", "x": {"$enc": 1}}), "enc"),
        (record(0, source="Billing API"), "source"),
        (record(0, source_seq=0), "source_seq"),
        (record(0, occurred_at="2026-03-01T22:00:00+00:00"), "canonical"),
    ],
)
def test_an_invalid_record_is_refused_and_none_of_its_call_is_taken(memory, bad, why):
    """The catalogue's required context, and every rule of the schema: before anything is written."""
    before = snapshot(memory.vault)
    with memory.sealer() as sealer:
        with pytest.raises(MalformedError, match=why):
            sealer.add([record(1), bad, record(2)])
        sealer.flush()
        assert sealer.add([record(1)]) == Added(new=1)
    assert snapshot(memory.vault) == before


@pytest.mark.parametrize("bad", [record(0, context={}), record(1), record(1, actor_id="u_mallory")])
def test_a_closing_record_passes_the_same_checks(memory, bad):
    """It is a record like any other: nothing is sealed around a bad one, and what waits goes on waiting."""
    before = snapshot(memory.vault)
    with memory.sealer(max_events=3) as sealer:
        sealer.add(records(3))
        with pytest.raises(MalformedError, match="closing record"):
            sealer.flush(bad)
        assert snapshot(memory.vault) == before
        sealer.flush(record(3))
    assert sizes(memory) == [4]
    assert memory.verify(deep=True).findings == ()


def refused(trail, error=MismatchError, key=KEY, match=None):
    """Opening is refused, nothing is written, and the sealer's memory stays what it was."""
    before, last = snapshot(trail.vault), trail.state.last()
    with pytest.raises(error, match=match), trail.sealer(key) as sealer:
        sealer.add(records(3, 900))
        sealer.flush()
    assert snapshot(trail.vault) == before
    assert trail.state.last() == last


@pytest.mark.parametrize("key", ["", "evil"], ids=["unsigned", "signed by another key"])
def test_a_planted_seal_is_never_adopted(local, key):
    """Who can write to the storage cannot have his records sealed by the next run."""
    local.seal(3)
    Tamper(local.vault.root).plant_seal(key)
    refused(local, match="planted")


@pytest.mark.parametrize("key", ["", "evil"], ids=["unsigned", "signed by another key"])
def test_a_planted_first_seal_is_never_adopted(local, tmp_path, key):
    """Nor where nothing was sealed yet, and no checkpoint tells where the trail ends."""
    other = Trail(tmp_path / "other").create().seal(1)
    tamper = Tamper(other.vault.root)
    seal = msgspec.structs.replace(tamper.seals()[0], signature="")
    seal = sign_seal(seal, EVIL_KEY) if key else seal
    target = Tamper(local.vault.root)
    target.write(layout.seal_key(0), seal_bytes(seal))
    target.write(seal.batch.object, tamper.read(seal.batch.object))
    refused(local)


def test_a_planted_trail_document_does_not_let_another_key_seal(local):
    """A document is not signed: a planted one that names the intruder's key, and a seal by that key, are refused."""
    local.seal(3)
    tamper = Tamper(local.vault.root)
    tamper.plant_document()
    tamper.plant_seal("evil", document=1)
    refused(local)


def test_a_planted_trail_document_does_not_come_into_force(local):
    """Nor may it bring its own catalogue or retention into the sealer's next seal."""
    local.seal(3)
    Tamper(local.vault.root).plant_document()
    refused(local, match="document")


def test_a_planted_batch_under_the_next_number_hinders_nobody(local):
    """No seal names it: information."""
    local.seal(2)
    key = "batches/recorded_date=2026-03-01/000000000002-0123456789abcdef.parquet"
    Tamper(local.vault.root).plant(key, "planted")
    local.seal(1, first=24)
    assert [(f.check, f.severity, f.object) for f in local.verify(deep=True).findings] == [(8, "info", key)]


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_rolled_back_vault_is_refused(local, size):
    """The tail was cut with its checkpoints: the sealer remembers better and signs nothing."""
    local.seal(3)
    Tamper(local.vault.root).cut(size)
    refused(local, match="3 seals")


def test_a_vault_cut_to_nothing_but_its_document_is_refused(local):
    """As is a new vault under the same key beside the old memory."""
    local.seal(1)
    for path in local.vault.root.rglob("0000*"):
        if path.is_file() and path.parent.name != "trail":
            path.unlink()
    refused(local)


def test_a_rewritten_vault_is_refused(local):
    """The key holder wrote history again, as long and as validly signed as before."""
    local.seal(3)
    tamper = Tamper(local.vault.root)
    tamper.edit(1, ["all"], column="actor_id", value="u_nobody")
    tamper.resign(1)
    assert local.verify(deep=True).ok
    refused(local, match="do not extend")


def test_a_damaged_vault_is_refused(local):
    """Any fault that reading finds stops the sealer."""
    local.seal(3)
    Tamper(local.vault.root).remove("seals/000000/000000000001.json")
    refused(local, match="missing")


@pytest.mark.parametrize("which", ["same name", "other name"])
def test_another_key_is_refused(local, which):
    """The trail names its keys."""
    local.seal(1)
    key = EVIL_KEY if which == "same name" else SigningKey("other.example/audit", bytes(32))
    refused(local, MalformedError, key)


def test_a_vault_without_a_trail_is_refused(tmp_path):
    """Sealing never lays down a trail by itself."""
    trail = Trail(tmp_path, MemoryVault())
    refused(trail, MalformedError, match="no trail")


def test_a_seal_that_appears_behind_the_sealers_back_is_not_overwritten(local):
    """Planted while it works: the sealer stops at the put, and the planted bytes stay for the investigation."""
    local.seal(1)
    with local.sealer() as sealer:
        sealer.add(records(3, 900))
        Tamper(local.vault.root).plant(layout.seal_key(1), "{}")
        with pytest.raises(MismatchError, match="planted"):
            sealer.flush()
    assert (local.vault.root / layout.seal_key(1)).read_bytes() == b"{}"
    assert not (local.vault.root / layout.checkpoint_key(2)).exists()


def test_a_storage_that_gives_back_another_checkpoint_is_noticed(memory):
    """Sealed means read back, the very bytes: an older one, validly signed, is not it."""

    class Stale(CrashingVault):
        def get(self, key, limit=2**20, version=""):
            return self.vault.get(layout.checkpoint_key(1) if key == layout.checkpoint_key(3) else key, limit)

    memory.seal(2)
    with memory.sealer(vault=Stale(memory.vault, 0, after=False)) as sealer:
        sealer.add(records(3, 100))
        with pytest.raises(MismatchError, match="read back"):
            sealer.flush()


def test_two_sealers_at_once_the_second_is_turned_away(local):
    """The lease: the second waits for nobody and changes nothing."""
    with local.sealer() as first:
        first.add(records(3))
        refused(local, UnavailableError, match="another sealer")
        first.flush()
    assert len(ids_in(local.vault)) == 3


def test_two_sealers_with_their_own_memories_cannot_fork_the_trail(local, tmp_path):
    """Where the lease does not reach, the create-only put of the seal decides."""
    other = Trail(None, local.vault, tmp_path / "other state")
    other.random = Randomness("other")
    with local.sealer() as first, other.sealer() as second:
        first.add(records(3))
        second.add(records(3, 50))
        first.flush()
        with pytest.raises(MismatchError, match="second sealer"):
            second.flush()
    assert [f for f in local.verify(deep=True).findings if f.severity != "info"] == []
    assert len(ids_in(local.vault)) == 3


@pytest.mark.parametrize("what", ["folder", "lock", "memory", "ids.sqlite"])
def test_a_state_folder_that_cannot_be_written_is_an_outage_before_anything_is_written(memory, tmp_path, what):
    """The sealer's memory is its protection: without it, it does not seal. (Root writes anywhere but over a folder.)"""
    memory.state_root.mkdir(exist_ok=True)
    place = {"lock": "lock", "memory": "fresh", "ids.sqlite": "ids.sqlite"}.get(what)
    if place is None:
        memory.state_root = tmp_path / "file" / "state"
        (tmp_path / "file").write_bytes(b"")
    else:
        (memory.state.folder / place).mkdir(parents=True)
    before = snapshot(memory.vault)
    with pytest.raises(UnavailableError, match="state"), memory.sealer() as sealer:
        sealer.add(records(3))
        sealer.flush()
    assert snapshot(memory.vault) == before


# --- how records become batches --------------------------------------------------------------------------------------


def sizes(trail):
    """Records a batch, in order."""
    return [parse_seal(trail.vault.get(entry.key)).batch.events for entry in trail.vault.list("seals/")]


def test_a_batch_holds_at_most_max_events(memory):
    """Full batches are sealed as soon as more waits; the rest on flush."""
    with memory.sealer(max_events=4) as sealer:
        sealer.add(records(11))
        assert sizes(memory) == [4, 4]
        sealer.flush()
    assert sizes(memory) == [4, 4, 3]
    assert memory.verify(deep=True).findings == ()
    assert ids_in(memory.vault) == [(r.receipt.source, r.event.event_id) for r in records(11)]


@pytest.mark.parametrize("wrong", [0, -1, 2**20 + 1])
def test_a_number_of_events_that_no_batch_can_hold_is_refused_at_once(memory, wrong):
    """Not when the first batch is full."""
    with pytest.raises(MalformedError, match="1 to"), memory.sealer(max_events=wrong):
        pass


def test_many_sources_are_split_over_batches(memory):
    """A seal names every source of its batch and stays below its 256 KiB."""
    count = 2 * MAX_SOURCES + 100
    name = "a-source-with-a-long-name-" + "x" * 90
    many = [record(3, source=f"{name}/{n}", source_seq=2**53 - 1) for n in range(count)]
    with memory.sealer() as sealer:
        sealer.add(many)
        sealer.flush()
    assert sizes(memory) == [MAX_SOURCES, MAX_SOURCES, 100]
    assert max(entry.size for entry in memory.vault.list("seals/")) <= MAX_SEAL_BYTES
    assert memory.verify(deep=False).ok


def test_sealing_again_with_the_same_clock_and_randomness_gives_the_same_bytes(tmp_path):
    """Nothing else gets in."""
    one, two = (Trail(tmp_path / name, MemoryVault()).create().seal(3) for name in "ab")
    assert snapshot(one.vault) == snapshot(two.vault)


def test_the_trail_is_laid_down_once(memory):
    """Again with the same values changes nothing; with others it is refused."""
    before = snapshot(memory.vault)
    create_trail(memory.vault, KEY, RETENTION, CATALOG, now=0)
    assert snapshot(memory.vault) == before
    with pytest.raises(MismatchError):
        create_trail(memory.vault, KEY, msgspec.structs.replace(RETENTION, days=1), CATALOG, now=0)
    assert snapshot(memory.vault) == before


def test_the_catalogue_in_force_is_the_trails_own(tmp_path):
    """Not the one that this version ships."""
    own = b'format = "auditlib/catalog/v1"\n[actions."user.login"]\nkind = "login"\nrequired = ["mfa"]\n'
    trail = Trail(tmp_path, MemoryVault()).create(parse_catalog(own))
    with trail.sealer() as sealer, pytest.raises(MalformedError, match="mfa"):
        sealer.add([record(1)])


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """1,025 seals of one record each: one full page and a seal more."""
    folder = tmp_path_factory.mktemp("long")
    trail = Trail(folder, MemoryVault()).create()
    with trail.sealer(max_events=1) as sealer:
        sealer.add(records(layout.PAGE - 1))
        sealer.flush()
        assert list(trail.vault.list("pages/")) == []
        sealer.add(records(2, layout.PAGE - 1))
        sealer.flush()
    return trail


@pytest.fixture
def paged(long, tmp_path):
    """A copy of it that a test may spoil."""
    vault = MemoryVault()
    vault.objects = dict(long.vault.objects)
    return Trail(None, vault, long.state_root)


PAGE_KEY = "pages/000000.jsonl"


def test_a_page_is_written_at_1024_seals(long):
    """It holds the seals' bytes, one a line."""
    lines = long.vault.get(PAGE_KEY, 2**28).split(b"\n")
    assert [entry.key for entry in long.vault.list("pages/")] == [PAGE_KEY]
    assert lines == [long.vault.get(layout.seal_key(n)) for n in range(1024)] + [b""]


def test_a_page_stands_in_for_its_seals(paged):
    """One object is read and not 1,024; verification reads every seal all the same."""
    read = []
    get = paged.vault.get
    paged.vault.get = lambda key, limit=2**20, version="": (read.append(key), get(key, limit, version))[1]
    history = read_history(paged.vault, [KEY.verifier])
    assert history.findings == [] and len(history.seals) == 1025
    assert [key for key in read if key.startswith("seals/")] == [layout.seal_key(1024)]
    read.clear()
    assert len(read_history(paged.vault, [KEY.verifier], thorough=True).seals) == 1025
    assert len([key for key in read if key.startswith("seals/")]) == 1025


PAGE_FAULTS = {
    "empty": lambda page: b"",
    "cut": lambda page: page[: len(page) // 2],
    "one byte": lambda page: page.replace(b'"outcomes":{"success":1}', b'"outcomes":{"failure":1}', 1),
    "a line less": lambda page: page.partition(b"\n")[2],
    "two lines swapped": lambda page: b"\n".join(
        [*page.split(b"\n")[1::-1], *page.split(b"\n")[2:]],
    ),
    "not canonical": lambda page: page.replace(b'{"batch"', b'{ "batch"', 1),
    "a line more": lambda page: page + page.split(b"\n")[0] + b"\n",
    "garbage": lambda page: b"\xff" * len(page),
}


@pytest.mark.parametrize("fault", PAGE_FAULTS)
def test_a_damaged_page_falls_back_to_the_seals_with_a_warning(paged, fault):
    """A page is a cache: whoever can spoil one makes readers slower and nothing else."""
    paged.vault.objects[PAGE_KEY] = PAGE_FAULTS[fault](paged.vault.objects[PAGE_KEY])
    for thorough in (False, True):
        history = read_history(paged.vault, [KEY.verifier], thorough=thorough)
        assert len(history.seals) == 1025
        assert history.errors == []
        found = [(finding.check, finding.severity, finding.object) for finding in history.findings]
        assert found == ([] if thorough else [(4, "warning", PAGE_KEY)])
    assert [(f.check, f.severity, f.object) for f in paged.verify().findings] == [(4, "warning", PAGE_KEY)]


def test_a_missing_page_is_written_by_the_next_run(paged, long):
    """With the same bytes."""
    page = paged.vault.objects.pop(PAGE_KEY)
    assert paged.verify().findings == ()
    with paged.sealer():
        pass
    assert paged.vault.objects[PAGE_KEY] == page


def test_a_page_hides_no_seal_from_verification(paged):
    """The seals themselves are the evidence: one that is gone is an error though the page still holds it."""
    del paged.vault.objects[layout.seal_key(500)]
    assert {(f.check, f.severity) for f in paged.verify().findings} >= {(2, "error"), (4, "error")}


def test_a_checkpoint_over_a_thousand_million_seals_makes_no_endless_loop(paged):
    """The key holder can sign any number; reading works by what is there."""
    size = 10**9
    paged.vault.objects[layout.checkpoint_key(size)] = sign_checkpoint(ORIGIN, size, bytes(32), [KEY])
    history = read_history(paged.vault, [KEY.verifier])
    assert {finding.check for finding in history.errors} >= {2, 4}


def test_the_sealer_says_when_and_not_where(local):
    """A seal carries the clock's time and no name of a machine, a user or a path."""
    local.seal(1)
    text = (local.vault.root / layout.seal_key(0)).read_text()
    assert format_time(Clock().at) in text
    assert str(Path(local.vault.url)) not in text


def test_a_closed_sealer_lets_go_of_its_lock_even_after_a_refusal(local):
    """The next run is not turned away by the last one's failure."""
    local.seal(1)
    key = SigningKey(ORIGIN, bytes(32))
    for _ in range(2):
        with pytest.raises(MalformedError), local.sealer(key):
            pass
    with open_sealer(local.vault, KEY, local.state, now=Clock(), random=Randomness()) as sealer:
        assert sealer.size == 1
