"""Questions over a cluster: the answers of one machine, from real workers over the real S3 server, whatever they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from command_line import command
from dask_service import DaskService, dask_service
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import SAMPLE_KEY, read_folder, sample_vault
from s3_service import owner_environment, s3_service
from simulator import CATALOG, KEY, Tamper
from simulator import Trail as Simulated
from strength import LONG

from auditlib import evidence, spreading
from auditlib import trail as trails
from auditlib.cluster import Cluster, connect
from auditlib.errors import MalformedError, MismatchError, UnavailableError
from auditlib.export import FORMATS
from auditlib.formats import layout
from auditlib.formats.document import Retention
from auditlib.formats.seal import parse_seal
from auditlib.packet.build import build_packet
from auditlib.population import draw
from auditlib.spreading import GROUP_BATCHES
from auditlib.trail import Selection, Trail
from auditlib.vault.s3 import S3Vault

BATCHES, SIZE = 5, 12
PERIOD = {"since": "2026-03-01" if LONG else "2026-05-01", "until": "2026-06-01"}
EVIDENCE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("role_grants", "access_provisioning", "access_removals", "approver_conduct"), PERIOD),
    **dict.fromkeys(("change_management", "denied_access", "privileged_actions", "review_performed"), PERIOD),
    "access_review": {"at_date": "2026-05-01"},
    "actor_activity": PERIOD | {"actor": "ben.adams"},
    "events": PERIOD | {"kind": ["login"]},
}
QUESTIONS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(["grant", "login"]),
        "actor": st.sampled_from(["u_1003", "user:u_100?", ["u_1001", "u_1002"]]),
        "outcome": st.sampled_from(["success", "denied", "failure"]),
        "since": st.sampled_from(["2026-03-01", "2026-03-01T23:00:00Z"]),
        "until": st.sampled_from(["2026-03-02", "2026-03-02T00:10:00Z"]),
        "where": st.sampled_from([{"granted_role": "admin"}, {"n": 4}, {"ip": "203.0.113.*"}]),
    },
)


@pytest.fixture(scope="module")
def behaviour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that the workers do as they are told by; with it, what they need to reach the storage."""
    place = tmp_path_factory.mktemp("workers") / "behaviour"
    with owner_environment(AUDITLIB_TEST_WORKERS=str(place)):
        yield place


@pytest.fixture(scope="module")
def service(behaviour: Path) -> Iterator[DaskService]:
    behaviour.write_text("")
    with dask_service(2, "tests.odd_answers") as service:
        yield service


@pytest.fixture(scope="module")
def cluster(service: DaskService) -> Iterator[Cluster]:
    with connect(service.address) as cluster:
        yield cluster


@pytest.fixture
def told(behaviour: Path) -> Iterator[Callable[[str], None]]:
    """Tells the workers what to do, and to be honest again after the test."""
    yield lambda deed: (behaviour.write_text(deed), None)[1]
    behaviour.write_text("")


@pytest.fixture(autouse=True)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches are a task, and a stretch of rows is ten of them: a few batches show what thousands do."""
    if "long" not in request.fixturenames:
        monkeypatch.setattr(spreading, "GROUP_BATCHES", 2)
        monkeypatch.setattr(spreading, "RUN_EVENTS", 10)


@pytest.fixture(scope="module")
def remote(behaviour: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    service = s3_service()
    vault = S3Vault(f"s3://{service.new_bucket()}/trail", client=service.client())
    trail = Simulated(None, vault=vault, state=tmp_path_factory.mktemp("state"))
    trail.clock = lambda: time.time_ns() // 1000
    trail.create(CATALOG, Retention(2, "COMPLIANCE")).seal(BATCHES, SIZE)
    return vault.url


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return Simulated(tmp_path_factory.mktemp("local")).create().seal(BATCHES, SIZE)


@pytest.fixture(scope="module")
def alone(local: Simulated) -> Iterator[Trail]:
    with open_with(local, None) as trail:
        yield trail


@pytest.fixture(scope="module")
def spread(local: Simulated, cluster: Cluster) -> Iterator[Trail]:
    with open_with(local, cluster) as trail:
        yield trail


@pytest.fixture(scope="module")
def threaded(local: Simulated) -> Iterator[Trail]:
    """The same work in threads: no process to wait for."""
    with ThreadPoolExecutor(2) as pool, open_with(local, pool) as trail:
        yield trail


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A local trail of more batches than a task has, with a grant in each."""
    return Simulated(tmp_path_factory.mktemp("long")).create().seal(GROUP_BATCHES + 1, 3)


def open_with(made: Simulated, executor: Any) -> Trail:
    return trails.open(made.vault.root, keys=KEY.verifier, executor=executor)


def object_of(trail: Trail, sequence: int) -> str:
    return trail.seals[sequence].batch.object


def test_workers_answer_over_object_storage_as_one_machine_does(
    remote: str, cluster: Cluster, told: Callable[[str], None], behaviour: Path, tmp_path: Path
) -> None:
    """Counts, their order, and a file to the byte; a worker killed midway costs no row."""
    with (
        trails.open(remote, keys=KEY.verifier) as alone,
        trails.open(remote, keys=KEY.verifier, executor=cluster) as spread,
    ):
        here, there = alone.events(outcome="success"), spread.events(outcome="success")
        here.export(tmp_path / "here.parquet")
        told("kills-once 3")
        there.export(tmp_path / "there.parquet")
        assert there.count_by("actor_id", "action").equals(here.count_by("actor_id", "action"))
    assert (tmp_path / "there.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()
    assert behaviour.read_text() == "", "the worker lived"


def answers_of(chosen: Selection, folder: Path, format: str) -> dict[str, Any]:
    """All that can be asked of a selection."""
    folder.mkdir()
    chosen.export(folder / f"events.{format}")
    rows = chosen.arrow()
    return {
        "count": chosen.count(),
        "rows": rows,
        "schema": rows.schema,
        "head": chosen.head(5),
        "counts": chosen.count_by("actor_id", "action"),
        "lag": chosen.lag(),
        "file": (folder / f"events.{format}").read_bytes(),
    }


@given(question=QUESTIONS, format=st.sampled_from(FORMATS))
@settings(max_examples=200 if LONG else 4, deadline=None)
def test_every_answer_is_that_of_one_machine(
    alone: Trail, threaded: Trail, tmp_path_factory: pytest.TempPathFactory, question: dict[str, Any], format: str
) -> None:
    """Whatever is asked, of however many batches."""
    folder = tmp_path_factory.mktemp("answers")
    here, there = alone.events(**question), threaded.events(**question)
    assert answers_of(there, folder / "spread", format) == answers_of(here, folder / "alone", format)


def test_populations_are_those_of_one_machine(alone: Trail, spread: Trail) -> None:
    """Items are drawn row by row, and so by whoever reads the rows."""
    here, there = draw(alone, "grant"), draw(spread, "grant")
    assert len(here.items) == len(alone.events(kind="grant", outcome="success").arrow()) > 0
    assert there.items.equals(here.items)
    assert there.statement() == here.statement()


@pytest.mark.parametrize("request_name", list(EVIDENCE) if LONG else ["denied_access"])
def test_evidence_is_that_of_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_name: str) -> None:
    """Every table of an answer over the samples: what is said to be asked row by row is."""
    monkeypatch.setattr(spreading, "RUN_EVENTS", 500)
    with (
        ThreadPoolExecutor(2) as pool,
        trails.open(sample_vault(), keys=SAMPLE_KEY) as alone,
        trails.open(sample_vault(), keys=SAMPLE_KEY, executor=pool) as spread,
    ):
        for name, trail in (("alone", alone), ("spread", spread)):
            getattr(evidence, request_name)(trail, **EVIDENCE[request_name]).answer().write(tmp_path / name)
    assert read_folder(tmp_path / "spread") == read_folder(tmp_path / "alone")


def test_a_task_says_no_more_than_there_is_room_for(
    alone: Trail, threaded: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it left out is asked again, and nothing is missing or there twice."""
    monkeypatch.setattr(spreading, "WAITING_BYTES", 1)
    monkeypatch.setattr(spreading, "_LEAST_BYTES", 1)
    assert threaded.events().arrow().equals(alone.events().arrow())
    assert threaded.events().count_by("action").equals(alone.events().count_by("action"))


def test_progress_counts_the_batches(threaded: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a long question sees it move."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(threaded.files, "progress", lambda done, total: seen.append((done, total)))
    threaded.events().count()
    assert seen == [(done, BATCHES) for done in (2, 4, 5)]


def test_a_batch_that_kills_its_workers_is_named(
    long: Simulated, cluster: Cluster, told: Callable[[str], None]
) -> None:
    """One of many in a run: no answer is made of the others."""
    told("kills 3")
    with open_with(long, cluster) as trail, pytest.raises(UnavailableError, match="ended from outside") as caught:
        trail.events().count()
    assert caught.value.where == parse_seal(long.vault.get(layout.seal_key(3))).batch.object


@pytest.mark.parametrize("deed", ["hides", "adds"])
def test_a_worker_that_leaves_rows_out_or_invents_them_is_caught(
    spread: Trail, told: Callable[[str], None], tmp_path: Path, deed: str
) -> None:
    """One task of each question is done again here; where every task lies that is certain to show it."""
    told(deed)
    questions = (
        lambda: spread.events().count(),
        lambda: spread.events().export(tmp_path / "events.csv"),
        lambda: draw(spread, "grant", outcome=None),
    )
    for ask in questions:
        with pytest.raises(UnavailableError, match="worker of the cluster told"):
            ask()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("deed", ["blames", "fails"])
def test_a_worker_that_blames_a_batch_is_not_believed(spread: Trail, told: Callable[[str], None], deed: str) -> None:
    """That a batch is wrong, or cannot be read, is looked at here before it is said; the worker is quoted."""
    told(f"{deed} 4")
    with pytest.raises(UnavailableError, match=r"this process can: .*(check 5|No module)") as caught:
        spread.events().count()
    assert object_of(spread, 4) in caught.value.where


def test_an_altered_batch_is_the_same_fault_with_a_cluster(tmp_path: Path, cluster: Cluster) -> None:
    """Whoever reads it: check 5, with the hash that was expected and the one that was found."""
    made = Simulated(tmp_path).create().seal(5)
    Tamper(made.vault.root).flip("batches/**/000000000003-*.parquet", 200)
    faults = []
    for executor in (None, cluster):
        with open_with(made, executor) as trail, pytest.raises(MismatchError, match="check 5") as caught:
            trail.events().count()
        faults.append((caught.value.where, caught.value.expected, caught.value.found))
    assert faults[0] == faults[1]


@pytest.mark.parametrize("hostile", [None, b"", [], [None, b""], ["x", b""], [b"ARROW1", b""], [b"", b"", b""]])
def test_an_answer_that_is_none_is_refused(spread: Trail, hostile: Any) -> None:
    """Not a list, of another length, no bytes, no Arrow, nothing at all: a worker's fault, never a traceback."""
    runs = [spreading.Run([seal]) for seal in spread.seals[:2]]
    with pytest.raises(UnavailableError, match="worker of the cluster told"):
        spreading._parsed(runs, hostile)


def test_processes_of_one_machine_answer_too(
    long: Simulated, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The standard library's pool, over a vault that was named relatively, from a folder of its own."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(Path.cwd).result() == Path.cwd()
        monkeypatch.chdir(long.vault.root.parent)
        with trails.open("vault", keys=KEY.verifier, executor=pool) as there, open_with(long, None) as here:
            assert there.events().arrow().equals(here.events().arrow())


def test_a_packet_is_the_same_bytes_with_a_cluster(
    long: Simulated,
    service: DaskService,
    told: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The notebook finds the scheduler in its environment; of what lying workers say no packet is made."""

    def build(name: str) -> Mapping[str, bytes]:
        given = {"kind": "grant", "actor": "none", "outcome": "none", "since": "2026-03-01", "until": "2026-03-03"}
        build_packet("events", str(long.vault.root), given, tmp_path / name, keys=KEY.verifier)
        return read_folder(tmp_path / name)

    alone = build("alone")
    monkeypatch.setenv("AUDITLIB_SCHEDULER", service.address)
    assert build("spread") == alone
    told("blames")
    with pytest.raises(UnavailableError, match="a worker of the cluster"):
        build("lies")
    assert {path.name for path in tmp_path.iterdir()} == {"alone", "spread"}


def test_a_notebook_whose_scheduler_is_none_says_so(long: Simulated, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not read on its own what it was told to have read elsewhere."""
    monkeypatch.setenv("AUDITLIB_VAULT", str(long.vault.root))
    monkeypatch.setenv("AUDITLIB_SCHEDULER", "http://127.0.0.1:9")
    with pytest.raises(MalformedError, match="is no scheduler"):
        evidence.open()


def test_the_command_answers_the_same_with_a_scheduler(
    long: Simulated, service: DaskService, told: Callable[[str], None]
) -> None:
    """`query --scheduler`: the same lines; code 3 where its workers lie, code 2 for an address that is none."""
    asked = ("query", long.vault.root, "--kind", "grant", "--format", "jsonl")
    here, there = command(*asked), command(*asked, "--scheduler", service.address)
    assert (here.returncode, there.returncode) == (0, 0), there.stderr
    assert there.stdout == here.stdout
    assert len(here.stdout.splitlines()) == GROUP_BATCHES + 1
    told("blames")
    assert command(*asked, "--scheduler", service.address).returncode == 3
    assert command(*asked, "--scheduler", "scheduler:8786").returncode == 2
