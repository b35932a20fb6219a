"""Verifying again: what is new, a part of the rest, and a state that nobody else can write."""

import json
import shutil
import tomllib
from pathlib import Path

import msgspec
import pytest
from simulator import KEYS, NOW, MemoryVault, Tamper, Trail, checkpoint_of, record, records, snapshot
from test_tampered import FOLDERS, SEALS

from auditlib import checked
from auditlib.batches import Turn
from auditlib.checked import read_checked, stretches_after, turn_of, write_checked
from auditlib.errors import MalformedError, UnavailableError
from auditlib.findings import Stretch
from auditlib.formats.canonical import canonical
from auditlib.formats.times import DAY, format_time
from auditlib.vault.local import LocalVault

ALL = 10**9  # events: every old batch has its turn
DEFERRED = "that were read before and not today"


@pytest.fixture(autouse=True)
def _own_key(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("AUDITLIB_STATE", str(tmp_path_factory.getbasetemp() / "own"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound trail."""
    return Trail(tmp_path_factory.mktemp("sound")).create().seal(SEALS)


@pytest.fixture
def copy(sound, tmp_path):
    """A copy to tamper with."""
    shutil.copytree(sound.vault.root, tmp_path / "vault")
    return Trail(None, LocalVault(tmp_path / "vault"), tmp_path / "state")


@pytest.fixture
def state(copy, tmp_path):
    """The state that a verification of the copy left while it was sound."""
    path = tmp_path / "checked.json"
    assert copy.verify(deep=True, state=path).ok
    return path


def told(report):
    """The findings as (check, severity, object)."""
    return {(f.check, f.severity, f.object) for f in report.findings}


# --- what is read -------------------------------------------------------------------------------------------------


class Reads(MemoryVault):
    """Remembers which batches were read."""

    def __init__(self, source):
        super().__init__(source.url)
        self.objects = {entry.key: source.get(entry.key, 2**29) for entry in source.list()}
        self.read = []

    def get(self, key, limit=2**20, version=""):
        """See Vault.get."""
        if key.startswith("batches/"):
            self.read.append(int(key.split("/")[2][:12]))
        return super().get(key, limit, version)


def test_the_second_time_only_what_is_new_is_read(copy, tmp_path):
    """And as many old batches as hold the events asked for, in turn, from where the last time ended."""
    path, vault = tmp_path / "checked.json", Reads(copy.vault)
    trail = Trail(None, vault, tmp_path / "state")
    first = trail.verify(deep=True, state=path)
    assert first.ok and sorted(set(vault.read)) == list(range(SEALS))
    assert first.checked == (Stretch(0, SEALS - 1, format_time(NOW)),)
    with trail.sealer() as sealer:
        sealer.add(records(12, 12 * SEALS))
        sealer.flush()
    for day, old in ((1, [0, 1]), (2, [2, 3]), (3, [4, 5]), (4, [6, 7]), (5, [0, 8]), (6, [1, 2])):
        vault.read.clear()
        report = trail.verify(deep=True, state=path, recheck=13, now=NOW + day * DAY)
        assert report.ok and sorted(vault.read) == sorted({*old, *([SEALS] if day == 1 else [])})
        assert any(DEFERRED in text for text in report.unchecked)
        today = [s for s in report.checked if s.checked_at == format_time(NOW + day * DAY)]
        assert sorted(n for s in today for n in range(s.first, s.last + 1)) == sorted(set(vault.read))
        covered = [n for s in report.checked for n in range(s.first, s.last + 1)]
        assert covered == list(range(SEALS + 1))
    assert any("the first 9 seals" in text for text in report.unchecked)  # the state is an anchor


def test_without_new_batches_and_without_recheck_no_batch_is_read(copy, state, tmp_path):
    """The listing and the chain are asked all the same."""
    vault = Reads(copy.vault)
    report = Trail(None, vault, tmp_path).verify(deep=True, state=state, recheck=0)
    assert report.ok and vault.read == [] and report.checked == (Stretch(0, SEALS - 1, format_time(NOW)),)


def test_the_pipeline_is_judged_as_if_all_had_been_read(tmp_path):
    """Check 9 over old and new batches says what it says of all at once: silences, lost numbers, late arrivals."""
    trail, path = Trail(tmp_path, MemoryVault()).create(), tmp_path / "checked.json"
    parts = [
        [record(n) for n in (0, 1, 2, 6, 9)],
        [record(n) for n in (300, 301, 303)],
        [record(n, occurred_at=format_time(NOW - 40 * DAY)) for n in (304, 306)],
        [record(n) for n in (3, 400)],
    ]
    for part in parts:
        with trail.sealer() as sealer:
            sealer.add(part)
            sealer.flush()
        again = trail.verify(deep=True, state=path, recheck=2)
        whole = trail.verify(deep=True)
        assert again.findings == whole.findings and {f.check for f in whole.findings} <= {9}
    assert len(whole.findings) > 3


# --- what is found ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_a_state_from_before_the_tampering_hides_nothing(sound, copy, tmp_path, folder):
    """With every batch's turn: what is found without a state. With none's: all but what `unchecked` names."""
    case = tomllib.loads((folder / "case.toml").read_text())
    path = tmp_path / "checked.json"
    note = (sound.vault.root / "checkpoints" / "000000" / f"{SEALS:012}").read_bytes()
    write_checked(path, copy.vault, [Stretch(0, SEALS - 1, format_time(NOW - DAY))], note, 0, {})
    before = path.read_bytes()
    tamper = Tamper(copy.vault.root)
    for step in case["steps"]:
        getattr(tamper, step["do"])(**{name: value for name, value in step.items() if name != "do"})
    options = {"keys": tuple(KEYS[name] for name in case.get("keys", ["own"])), **case.get("options", {})}
    against = [("kept", checkpoint_of(sound.vault, SEALS))]
    whole = copy.verify(deep=True, against=against, **options)
    none = copy.verify(deep=True, state=path, recheck=0, **options)
    left = path.read_bytes()
    path.write_bytes(before)
    every = copy.verify(deep=True, state=path, recheck=ALL, **options)
    own = {("kept" if where == str(path) else where) for _, _, where in told(every)}
    assert own == {where for _, _, where in told(whole)}
    assert {(c, s) for c, s, _ in told(every) if c != 9} == {(c, s) for c, s, _ in told(whole) if c != 9}
    missed = {finding for finding in told(whole) - told(none) if finding[1] == "error" and finding[2] != "kept"}
    assert {check for check, _, _ in missed} <= {5, 6}
    assert not missed or any(DEFERRED in text for text in none.unchecked)
    if not every.ok:
        assert path.read_bytes() == before
    if not none.ok:
        assert left == before


@pytest.mark.parametrize("old", [0, 3, SEALS - 1])
def test_a_fault_in_an_old_batch_is_found_when_its_turn_comes_and_stays_found(copy, state, old):
    """The rolling re-check reaches every batch, and does not move on from a fault."""
    Tamper(copy.vault.root).flip(f"batches/*/{old:012}-*.parquet", 200)
    found = [copy.verify(deep=True, state=state, recheck=1).ok for _ in range(SEALS + 2)]
    assert found == [True] * old + [False] * (SEALS + 2 - old)


def test_a_fault_in_a_new_batch_stays_found(copy, state):
    """A batch that was never read without an error is new until it is."""
    copy.seal(1, first=12 * SEALS)
    Tamper(copy.vault.root).edit(SEALS, [], column="actor_id", value="u_nobody")
    before = state.read_bytes()
    for _ in range(2):
        report = copy.verify(deep=True, state=state, recheck=0)
        assert {(f.check, f.severity) for f in report.errors} == {(5, "error")}
        assert state.read_bytes() == before


def test_a_trail_cut_behind_the_state_is_found(copy, state):
    """The state names the checkpoint it was left at: check 1 without any other anchor."""
    Tamper(copy.vault.root).cut(SEALS - 2)
    before = state.read_bytes()
    report = copy.verify(deep=True, state=state)
    assert (1, "error", str(state)) in told(report) and state.read_bytes() == before


# --- the state ----------------------------------------------------------------------------------------------------


def test_the_state_is_for_its_owner_and_names_its_checkpoint(copy, state):
    """0600, canonical, and the signed note in it."""
    assert state.stat().st_mode & 0o777 == 0o600
    found = json.loads(state.read_bytes())
    assert canonical(found) == state.read_bytes()
    assert found["checkpoint"].encode() == (copy.vault.root / "checkpoints/000000" / f"{SEALS:012}").read_bytes()
    assert found["vault"] == str(copy.vault.root.resolve())


def forged(state, **changes):
    """The state with other claims, canonical, under the MAC it had."""
    return canonical({**json.loads(state.read_bytes()), **changes})


FORGERIES = {
    "more batches read": lambda s: forged(s, batches=[{"checked_at": format_time(NOW), "first": 0, "last": 99}]),
    "read later": lambda s: forged(s, batches=[{"checked_at": format_time(NOW + DAY), "first": 0, "last": SEALS - 1}]),
    "another turn": lambda s: forged(s, next=5),
    "another vault": lambda s: forged(s, vault="s3://other/trail"),
    "another checkpoint": lambda s: forged(s, checkpoint="x"),
    "no pulse": lambda s: forged(s, pulse={}),
    "an unknown field": lambda s: forged(s, more=1),
    "no MAC": lambda s: forged(s, mac=""),
    "a MAC of no text": lambda s: forged(s, mac="é"),
    "a space": lambda s: s.read_bytes() + b" ",
    "cut": lambda s: s.read_bytes()[:-20],
    "empty": lambda _: b"",
    "no text": lambda _: b"\xff",
    "too deep": lambda _: b"[" * 100_000,
    "too large": lambda _: b" " * (checked.MAX_STATE_BYTES + 2),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_state_is_refused(copy, state, forgery):
    """Whoever has not the local key can claim nothing; the file stays as it is, and nothing else is written."""
    state.write_bytes(FORGERIES[forgery](state))
    before, held = state.read_bytes(), snapshot(copy.vault)
    with pytest.raises(MalformedError, match=r"written by this account|another vault"):
        copy.verify(deep=True, state=state)
    assert state.read_bytes() == before and snapshot(copy.vault) == held


def test_a_state_of_another_account_is_refused(copy, state, tmp_path, monkeypatch):
    """Its local key is another one."""
    monkeypatch.setenv("AUDITLIB_STATE", str(tmp_path / "theirs"))
    with pytest.raises(MalformedError, match="written by this account"):
        copy.verify(deep=True, state=state)


def test_a_state_of_another_vault_is_refused(sound, state, tmp_path):
    """Of this one no byte was read."""
    shutil.copytree(sound.vault.root, tmp_path / "other")
    with pytest.raises(MalformedError, match="another vault"):
        Trail(None, LocalVault(tmp_path / "other"), tmp_path / "x").verify(deep=True, state=state)


def test_an_older_state_costs_reading_and_hides_nothing(copy, state):
    """It is one's own and true; what it does not tell of is new once more."""
    older = state.read_bytes()
    copy.seal(2, first=12 * SEALS)
    assert copy.verify(deep=True, state=state, recheck=0, now=NOW + DAY).ok
    state.write_bytes(older)
    Tamper(copy.vault.root).edit(SEALS, [], column="actor_id", value="u_nobody")
    assert not copy.verify(deep=True, state=state, recheck=0, now=NOW + 2 * DAY).ok
    assert state.read_bytes() == older


def test_an_interrupted_verification_leaves_the_old_state(copy, state):
    """The new one takes its place at the very end, whole."""
    copy.seal(1, first=12 * SEALS)
    before = state.read_bytes()

    class Stopped(Exception):
        pass

    def stop(done, total):
        raise Stopped

    with pytest.raises(Stopped):
        copy.verify(deep=True, state=state, progress=stop)
    assert state.read_bytes() == before and list(state.parent.glob(".checked*")) == []


def test_two_verifications_at_once_leave_one_true_state(copy, state):
    """Whichever ends last is kept whole; both read what they say."""
    reports = []

    def other(done, total):
        if not reports:
            reports.append(copy.verify(deep=True, state=state, recheck=1, now=NOW + DAY))

    report = copy.verify(deep=True, state=state, recheck=13, now=NOW + 2 * DAY, progress=other)
    assert report.ok and reports[0].ok
    found = read_checked(state, copy.vault)
    assert tuple(found.batches) == report.checked and found.next == 2


def test_a_place_that_cannot_be_written_is_told_before_anything_is_read(copy, tmp_path):
    """Not after an hour of reading."""
    with pytest.raises(UnavailableError):
        copy.verify(deep=True, state=tmp_path / "no" / "checked.json")
    with pytest.raises(UnavailableError):
        copy.verify(deep=True, state=tmp_path)


def test_a_state_needs_a_deep_verification(copy, state):
    """Without reading records nothing can be said of them."""
    before = state.read_bytes()
    with pytest.raises(MalformedError, match="deep"):
        copy.verify(state=state)
    assert state.read_bytes() == before


def test_a_pulse_too_large_is_left_out_and_that_is_said(copy, state, monkeypatch):
    """The state stays small whatever the sources do; check 9 is then named in `unchecked`."""
    monkeypatch.setattr(checked, "MAX_STATE_BYTES", len(state.read_bytes()) - 1)
    state.unlink()
    assert copy.verify(deep=True, state=state).ok
    assert json.loads(state.read_bytes())["pulse"] is None
    report = copy.verify(deep=True, state=state)
    assert report.ok and any(text.startswith("9: ") for text in report.unchecked)


# --- whose turn it is ---------------------------------------------------------------------------------------------


def kept(size, next_=0):
    """A state of `size` batches read on one day."""
    return checked.Checked([Stretch(0, size - 1, "day 0")], "", "auditlib/checked/v1", "", next_, {}, "")


@pytest.mark.parametrize("recheck", [0, 1, 7, 10, 35, 70, ALL])
@pytest.mark.parametrize("start", [0, 3, 6])
def test_every_old_batch_has_its_turn_once_in_a_round(recheck, start):
    """Never one twice in a turn, never more than asked by more than a batch, every new one always."""
    events, seen, next_ = [10, 1, 5, 30, 2, 7, 15, 4, 4], [], start
    for _ in range(8):
        turn, after = turn_of(kept(7, next_), events, recheck)
        read = [n for each in turn.ranges for n in each]
        assert len(read) == len(set(read)) and read[-2:] == [7, 8] and read == sorted(read)
        old = [n for n in [*range(next_, 7), *range(next_)] if n in read[:-2]]
        assert sum(events[n] for n in old[:-1]) < max(recheck, 1) and bool(old) == bool(recheck)
        seen, next_ = [*seen, *old], after
    if recheck:
        assert seen[:7] == [*range(start, 7), *range(start)]


def test_stretches_stay_few_and_never_claim_a_later_day():
    """Past the bound neighbours are told under the older date."""
    before = [Stretch(n, n, f"day {n % 7}") for n in range(2 * checked.MAX_STRETCHES + 1)]
    after = stretches_after(before, Turn((range(5, 9), range(3000, 3001)), 2001), NOW)
    assert len(after) <= checked.MAX_STRETCHES
    days = {n: s.checked_at for s in after for n in range(s.first, s.last + 1)}
    assert list(days) == [*range(2001), 3000]
    assert all(days[s.first] <= s.checked_at for s in before if not 5 <= s.first < 9)


def test_the_report_says_what_was_read_when(copy, state):
    """For programs under a stable key, once a state is kept and without one."""
    given = copy.verify(deep=True, state=state, recheck=1, now=NOW + DAY).as_json()
    assert given["checked"] == [
        {"first": 0, "last": 0, "checked_at": format_time(NOW + DAY)},
        {"first": 1, "last": SEALS - 1, "checked_at": format_time(NOW)},
    ]
    assert copy.verify(deep=False).as_json()["checked"] == []
    assert len(copy.verify(deep=True).as_json()["checked"]) == 1
    assert msgspec.json.encode(given)
    assert Path(state).exists()
