"""Roll-ups of many small batches: the same answers as without, and nothing in the cache is believed."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulator import CATALOG, KEY, MemoryVault, Tamper, record
from simulator import Trail as Simulated

import auditlib
from auditlib import files, rollup
from auditlib.errors import MismatchError
from auditlib.formats.seal import Seal
from auditlib.history import read_history
from auditlib.trail import Trail

SEALS = 27  # three stretches of 8, one of 2, and one batch of its own
STRETCHES = [range(0, 8), range(8, 16), range(16, 24), range(24, 26)]
SIZES = [1, 3, 12, 2, 1, 7]  # events a batch, again and again


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Stretches of a few batches, and folders of this test's own."""
    monkeypatch.setattr(rollup, "LENGTHS", (8, 2))
    monkeypatch.setattr(files, "_FEW", 1)
    monkeypatch.setenv("AUDITLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AUDITLIB_STATE", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    simulated = Simulated(tmp_path_factory.mktemp("small")).create()
    first = 0
    with simulated.sealer() as sealer:
        for number in range(SEALS):
            size = SIZES[number % len(SIZES)]
            sealer.add([record(first + n) for n in range(size)])
            sealer.flush()
            first += size
    return simulated.vault.root


@pytest.fixture
def vault(sound, tmp_path):
    """A copy to tamper with: its path."""
    return Path(shutil.copytree(sound, tmp_path / "vault"))


@pytest.fixture(scope="session")
def expected(sound):
    """Everything, read one by one."""
    with pytest.MonkeyPatch.context() as patch, auditlib.open(sound, keys=KEY.verifier) as trail:
        patch.setattr(files, "stretch_of", lambda sequence, size: None)
        table = trail.events().arrow()
        assert not trail.files._rolled
    return table


def opened(vault: Path) -> Trail:
    return auditlib.open(vault, keys=KEY.verifier)


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "cache" / "rollups").rglob("*") if path.is_file() or path.is_symlink())


def rolled(trail: Trail) -> list[range]:
    return sorted(trail.files._rolled, key=lambda stretch: stretch.start)


# --- the same answers --------------------------------------------------------------------------------------------


def test_every_way_to_ask_gives_the_same_from_roll_ups(vault, expected, tmp_path):
    """Rows in the order (sequence, row), as tables and as a stream, counts, sums, and one's own SQL."""
    for _ in range(2):  # made by the first, found by the second
        with opened(vault) as trail:
            everything = trail.events()
            assert everything.arrow() == expected
            assert rolled(trail) == STRETCHES
            assert pa.Table.from_batches(everything.batches()) == expected
            assert everything.count() == trail.count == expected.num_rows
            assert everything.head(5) == expected.slice(0, 5).select(everything.head(5).column_names)
            own = trail.sql("SELECT * FROM events").arrow()
            assert own == expected.select(own.column_names)
            assert trail.sql("SELECT count(DISTINCT sequence) AS n FROM events").arrow().to_pylist() == [{"n": SEALS}]
            grouped = trail.events(kind="grant").count_by("action", "outcome").to_pylist()
            assert sum(row["events"] for row in grouped) == trail.events(kind="grant").count()
            assert [trail.files.read(seal) for seal in trail.seals] == [
                (vault / seal.batch.object).read_bytes() for seal in trail.seals
            ]


def test_any_choice_of_batches_reads_those_alone(vault, expected):
    """A part of a stretch, several, in any order, some twice rolled up: a batch not chosen gives no row."""
    with opened(vault) as trail:
        trail.events().count()
        for chosen in (
            [3],
            [0, 7],
            [7, 8],
            list(range(5, 22)),
            [26, 3, 25, 11],
            [1, 9, 17, 25],
            list(range(26, -1, -1)),
        ):
            seals = [trail.seals[number] for number in chosen]
            found = trail.scan(seals, "sequence, row, event_id", "TRUE", []).to_arrow_table().to_pylist()
            rows = expected.select(["sequence", "row", "event_id"]).to_pylist()
            assert found == [row for row in rows if row["sequence"] in chosen]


LEAVES = ["admin", "u_1", 1, True]


@st.composite
def histories(draw: Any) -> tuple[list[int], dict[str, Any], list[bool]]:
    """Sizes of batches, a question, and which batches are asked."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=21))
    asked: dict[str, Any] = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "action": st.sampled_from(["role.*", "user.login", "x.y"]),
                "actor": st.sampled_from(["u_1001", "user:u_100?", "*"]),
                "outcome": st.just("denied"),
                "source": st.sampled_from(["idp/a1", "billing*"]),
                "since": st.sampled_from(["2026-03-01T22:10:00Z", "2026-03-02"]),
                "where": st.just({"granted_role": "admin"}),
            },
        )
    )
    return sizes, asked, draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(histories())
def test_random_histories_answer_alike_both_ways(tmp_path_factory, made):
    """Any sizes, any question, any choice of batches: equal tables, rolled up and one by one."""
    sizes, asked, chosen = made
    simulated = Simulated(None, MemoryVault(), tmp_path_factory.mktemp("random")).create()
    first = 0
    with simulated.sealer() as sealer:
        for size in sizes:
            sealer.add([record(first + n) for n in range(size)])
            sealer.flush()
            first += size
    answers = []
    for stretches in (rollup.stretch_of, lambda sequence, size: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "stretch_of", stretches)
            with Trail(read_history(simulated.vault, [KEY.verifier]), CATALOG) as trail:
                selection = trail.events(**asked)
                some = [seal for seal, wanted in zip(trail.seals, chosen, strict=True) if wanted]
                part = trail.scan(some, "*", *selection.filter.sql()).to_arrow_table()
                answers.append((selection.arrow(), selection.count(), part))
    assert answers[0] == answers[1]


# --- when, and what is kept --------------------------------------------------------------------------------------


def test_a_question_about_a_few_batches_rolls_up_nothing(vault, monkeypatch, tmp_path):
    """Less than an eighth of a stretch is read one by one, and no other batch is read at all."""
    monkeypatch.setattr(rollup, "LENGTHS", (16, 2))
    with opened(vault) as trail:
        one = trail.seals[4]
        for seal in trail.seals:
            if seal != one:
                (vault / seal.batch.object).unlink()
        assert trail.scan([one], "count(*)", "TRUE", []).fetchall() == [(one.batch.events,)]
        assert rolled(trail) == []
    assert entries(tmp_path) == []


def test_only_the_stretches_that_a_question_reads_are_rolled_up(vault, tmp_path):
    """The history before and after stays as it is."""
    with opened(vault) as trail:
        trail.events(since=trail.seals[9].occurred[0], until=trail.seals[14].occurred[0]).count()
        assert rolled(trail) == [range(8, 16)]
    assert len(entries(tmp_path)) == 1


def test_large_batches_are_read_as_they_are(vault, monkeypatch, expected, tmp_path):
    """Where opening is no longer what takes the time, nothing is gained."""
    monkeypatch.setattr(rollup, "MAX_EVENTS", 0)
    with opened(vault) as trail:
        assert trail.events().arrow() == expected
        assert rolled(trail) == []
    assert entries(tmp_path) == []


def test_the_next_process_reads_no_batch_that_was_rolled_up(vault, expected):
    """Only those after the last stretch; the chain is read from the vault all the same."""
    with opened(vault) as trail:
        trail.events().count()
    shutil.rmtree(vault / "batches")
    with opened(vault) as trail, pytest.raises(auditlib.errors.MissingError):
        trail.events().count()
    with opened(vault) as trail:
        until = trail.seals[26].occurred[0]
        assert trail.events(until=until).arrow() == expected.filter(pa.compute.less(expected["sequence"], 26))


def test_another_history_finds_nothing(vault, expected):
    """The name stands for exactly these batches: a trail with one other batch makes its own."""
    with opened(vault) as trail:
        names = {rollup.name_of(trail.seals[stretch.start : stretch.stop]) for stretch in STRETCHES}
        assert len(names) == len(STRETCHES)
        seals: list[Seal] = list(trail.seals[:8])
        assert rollup.name_of(seals[1:] + seals[:1]) not in names
        assert rollup.name_of(seals[:7]) not in names


def test_roll_ups_are_their_owners_alone_and_within_the_limit(vault, monkeypatch, tmp_path, expected):
    """Folders 0700, files 0600; past AUDITLIB_CACHE_BYTES the oldest go, and at 0 nothing is written."""
    with opened(vault) as trail:
        trail.events().count()
    found = entries(tmp_path)
    assert len(found) == len(STRETCHES) and {path.stat().st_mode & 0o777 for path in found} == {0o600}
    assert {path.parent.stat().st_mode & 0o777 for path in found} == {0o700}
    limit = sum(path.stat().st_size for path in found) // 2
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setenv("AUDITLIB_CACHE_BYTES", str(limit))
    with opened(vault) as trail:
        assert trail.events().arrow() == expected
    assert 0 < sum(path.stat().st_size for path in entries(tmp_path)) <= limit
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setenv("AUDITLIB_CACHE_BYTES", "0")
    with opened(vault) as trail:
        assert trail.events().arrow() == expected
        assert rolled(trail) == STRETCHES
    assert not (tmp_path / "cache").exists()


def test_progress_is_told_batch_by_batch(vault):
    """How many of the batches to read are read, up to all; nothing when all is at hand."""
    told: list[tuple[int, int]] = []
    with opened(vault) as trail:
        trail.files.progress = lambda done, total: told.append((done, total))
        trail.events(until=trail.seals[25].occurred[1]).count()
        assert told[-1] == (26, 26) and told == sorted(told)
        told.clear()
        trail.events(until=trail.seals[25].occurred[1]).count()
        assert told == []


def test_threads_that_ask_at_once_roll_up_once(vault, monkeypatch, expected):
    """One makes it, the others wait for it."""
    made: list[str] = []
    put = rollup.RollupCache.put

    def counted(self: rollup.RollupCache, name: str, data: bytes) -> None:
        made.append(name)
        put(self, name, data)

    monkeypatch.setattr(rollup.RollupCache, "put", counted)
    with opened(vault) as trail:
        answers: list[pa.Table] = []
        threads = [threading.Thread(target=lambda: answers.append(trail.events().arrow())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [expected] * 4 and len(made) == len(set(made)) == len(STRETCHES)


# --- the batches are hashed all the same -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["altered", "gone", "no batch"])
def test_a_batch_that_is_not_what_was_sealed_is_found_when_it_is_asked_for(vault, expected, fault, tmp_path):
    """Check 5, as without roll-ups; asked for its neighbours only, they answer, and nothing of it is kept."""
    with opened(vault) as trail:
        wrong, before = trail.seals[5], trail.seals[4]
        path = vault / wrong.batch.object
        path.chmod(0o644)
        if fault == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1] + b"\0" if fault == "altered" else b"no batch")
        for _ in range(2):
            with pytest.raises((MismatchError, auditlib.errors.MissingError)):
                trail.events().count()
            assert trail.scan([before], "count(*)", "TRUE", []).fetchall() == [(before.batch.events,)]
        assert range(0, 8) not in rolled(trail)
        after = trail.events(since=trail.seals[8].occurred[0]).arrow()
        assert after == expected.filter(pa.compute.greater(expected["sequence"], 7))
    assert len(entries(tmp_path)) == 3


def test_a_batch_with_statistics_is_refused_in_a_stretch_too(vault):
    """Even if the key holder sealed it."""
    tamper = Tamper(vault)
    tamper.lie(1)
    tamper.resign(0)
    with opened(vault) as trail, pytest.raises((auditlib.errors.MalformedError, MismatchError), match="statistics"):
        trail.events().count()


# --- nothing in the cache is believed ----------------------------------------------------------------------------


def flipped(path: Path, other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def mark_flipped(path: Path, other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def another_roll_up(path: Path, other: Path) -> None:
    shutil.copyfile(other, path)


def marked_by_another_key(path: Path, other: Path) -> None:
    """Rows of the attacker's choice, marked as well as one can without the key."""
    forged = rollup.RollupCache(path.parent, 2**30)
    forged._key = bytes(32)
    data = path.read_bytes()[32:]
    path.write_bytes(forged._mark(path.name, data) + data)


def truncated(path: Path, other: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path, other: Path) -> None:
    os.truncate(path, 0)


def huge(path: Path, other: Path) -> None:
    os.truncate(path, 2**40)  # sparse


def link(path: Path, other: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


POISONS = [flipped, mark_flipped, another_roll_up, marked_by_another_key, truncated, empty, huge, link]


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
def test_a_poisoned_roll_up_is_discarded_and_made_again(vault, expected, tmp_path, poison):
    """The answer is right, one warning says so, and what is there afterwards is what was there before."""
    with opened(vault) as trail:
        trail.events().count()
    first, second, *_ = found = entries(tmp_path)
    before = {path: path.read_bytes() for path in found}
    poison(first, second)
    with opened(vault) as trail, pytest.warns(UserWarning, match=r"1 cached roll-up\(s\)") as told:
        assert trail.events().arrow() == expected
    assert len(told) == 1 and not first.is_symlink()
    assert {path: path.read_bytes() for path in found} == before
    with opened(vault) as trail:
        assert trail.events().arrow() == expected


def test_without_its_key_the_cache_is_made_again(vault, expected, tmp_path):
    """Deleting the key, or the cache, costs time and nothing else."""
    with opened(vault) as trail:
        trail.events().count()
    (tmp_path / "state" / "local.key").unlink()
    with opened(vault) as trail, pytest.warns(UserWarning, match=r"4 cached roll-up\(s\)"):
        assert trail.events().arrow() == expected
    with opened(vault) as trail:
        assert trail.events().arrow() == expected


def test_a_key_that_cannot_be_trusted_fails_no_query(vault, expected, tmp_path):
    """One warning, nothing is kept, the answer is right."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "local.key").write_bytes(bytes(32))
    (tmp_path / "state" / "local.key").chmod(0o644)
    with opened(vault) as trail, pytest.warns(UserWarning, match="roll-ups of batches cannot be kept") as told:
        assert trail.events().arrow() == expected
    assert len(told) == 1 and entries(tmp_path) == []


def test_a_cache_where_others_may_write_is_not_used(vault, expected, tmp_path):
    """One warning, and nothing is written there."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with opened(vault) as trail, pytest.warns(UserWarning, match="roll-ups of batches cannot be kept"):
        assert trail.events().arrow() == expected
    assert entries(tmp_path) == []


@pytest.fixture(autouse=True)
def nothing_left(tmp_path) -> Iterator[None]:
    """No half-written file stays in the cache."""
    yield
    assert [path for path in (tmp_path / "cache").rglob(".*") if path.is_file()] == []
