"""Deep verification on a cluster: real workers over the real S3 server, dying workers, and workers that lie."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import command
from dask_service import DaskService, dask_service
from s3_service import owner_environment, s3_service
from simulator import CATALOG, KEY, Trail

from auditlib.cluster import Cluster, connect
from auditlib.errors import UnavailableError
from auditlib.findings import Report
from auditlib.formats import layout
from auditlib.formats.document import Retention
from auditlib.formats.seal import parse_seal
from auditlib.vault import open_vault
from auditlib.vault.s3 import S3Vault
from auditlib.verify import verify

BATCHES = 6


@pytest.fixture(scope="module")
def behaviour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that the workers do as they are told by; with it, what they need to reach the storage."""
    place = tmp_path_factory.mktemp("workers") / "behaviour"
    with owner_environment(AUDITLIB_TEST_WORKERS=str(place)):
        yield place


@pytest.fixture(scope="module")
def service(behaviour: Path) -> Iterator[DaskService]:
    behaviour.write_text("")
    with dask_service(2, "tests.odd_workers") as service:
        yield service


@pytest.fixture
def cluster(service: DaskService) -> Iterator[Cluster]:
    with connect(service.address) as cluster:
        yield cluster


@pytest.fixture
def told(behaviour: Path) -> Iterator[Callable[[str], None]]:
    """Tells the workers what to do, and to be honest again after the test."""
    yield lambda deed: (behaviour.write_text(deed), None)[1]
    behaviour.write_text("")


@pytest.fixture(scope="module")
def remote(behaviour: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    service = s3_service()
    vault = S3Vault(f"s3://{service.new_bucket()}/trail", client=service.client())
    trail = Trail(None, vault=vault, state=tmp_path_factory.mktemp("state"))
    trail.clock = lambda: time.time_ns() // 1000
    trail.create(CATALOG, Retention(2, "COMPLIANCE")).seal(BATCHES)
    return vault.url


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    return Trail(tmp_path).create().seal(BATCHES)


def batch_of(trail: Trail, sequence: int) -> str:
    return parse_seal(trail.vault.get(layout.seal_key(sequence))).batch.object


def without_belief(report: Report) -> list[str]:
    return [line for line in report.unchecked if "workers" not in line]


def test_a_cluster_finds_over_object_storage_what_one_machine_finds(service: DaskService, remote: str) -> None:
    """The command with --scheduler: the same findings, and one line more on what is taken on the workers' word."""
    alone = command("verify", remote, "--deep", "--workers", "1")
    spread = command("verify", remote, "--deep", "--scheduler", service.address)
    assert (alone.returncode, spread.returncode) == (0, 0), spread.stdout + spread.stderr
    assert "cluster's workers" in " ".join(spread.stdout.split())
    assert "cluster's workers" not in " ".join(alone.stdout.split())


def test_a_tampered_batch_is_found_by_whichever_worker_reads_it(cluster: Cluster, trail: Trail) -> None:
    """The same findings as without a cluster, in the same order."""
    batch = sorted((trail.state_root.parent / "vault" / "batches").rglob("*.parquet"))[3]
    batch.chmod(0o644)
    batch.write_bytes(batch.read_bytes()[:-1] + b"!")
    alone, spread = trail.verify(deep=True), trail.verify(deep=True, executor=cluster)
    assert alone.findings == spread.findings
    assert [finding.check for finding in spread.findings if finding.severity == "error"] == [5]
    assert without_belief(spread) == list(alone.unchecked)


def test_a_worker_killed_midway_costs_no_batch(
    cluster: Cluster, trail: Trail, told: Callable[[str], None], behaviour: Path
) -> None:
    """Its task is done elsewhere, and the report is the one of an undisturbed run."""
    told("3 kills-once")
    report = trail.verify(deep=True, executor=cluster)
    assert behaviour.read_text() == "", "the worker lived"
    assert report.findings == trail.verify(deep=True).findings


def test_a_batch_that_kills_its_workers_is_reported_and_the_others_are_judged(
    cluster: Cluster, trail: Trail, told: Callable[[str], None]
) -> None:
    """It is an error of check 6 that names the batch; no other batch is."""
    told("3 kills")
    report = trail.verify(deep=True, executor=cluster)
    ((where, message),) = [(each.object, each.message) for each in report.findings if each.severity == "error"]
    assert "ended from outside" in message
    assert where == batch_of(trail, 3)


def test_a_worker_that_tells_a_wrong_root_is_caught(
    cluster: Cluster, trail: Trail, told: Callable[[str], None]
) -> None:
    """No report is made of what such a cluster says, wherever the lie is: a root is held against the seal."""
    told("5 lies")
    with pytest.raises(UnavailableError, match="worker of the cluster told") as caught:
        trail.verify(deep=True, executor=cluster)
    assert caught.value.where == batch_of(trail, 5)


def test_a_worker_that_hides_a_fault_is_caught_where_its_batch_is_read_again(
    cluster: Cluster, tmp_path: Path, told: Callable[[str], None]
) -> None:
    """Of the first batches one is always read again: in a trail of one batch the lie is certain to be seen."""
    trail = Trail(tmp_path).create().seal(1)
    (batch,) = (tmp_path / "vault" / "batches").rglob("*.parquet")
    batch.chmod(0o644)
    batch.write_bytes(batch.read_bytes()[:-1] + b"!")
    told("0 hides")
    with pytest.raises(UnavailableError, match="worker of the cluster told"):
        trail.verify(deep=True, executor=cluster)


def test_workers_with_another_folder_open_a_vault_that_was_named_relatively(
    cluster: Cluster, trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address handed over is absolute."""
    monkeypatch.chdir(trail.state_root.parent)
    report = verify(open_vault("vault"), keys=[KEY.verifier], deep=True, executor=cluster, now=trail.clock())
    assert [each for each in report.findings if each.severity == "error"] == []
