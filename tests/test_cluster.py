"""A cluster does the work of one machine: a real scheduler, real workers, and what becomes of those that die."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from auditlib.cluster import Cluster, connect, spread
from auditlib.errors import MalformedError, UnavailableError
from tests.cluster_tasks import doubled, doubled_but_for_seven, doubled_once_killed
from tests.dask_service import DaskService, dask_service


@pytest.fixture(scope="module")
def service() -> Iterator[DaskService]:
    with dask_service() as service:
        yield service


@pytest.fixture
def cluster(service: DaskService) -> Iterator[Cluster]:
    with connect(service.address) as cluster:
        yield cluster


def test_results_come_in_the_order_of_the_groups(cluster: Cluster) -> None:
    """Whichever worker is first, the caller reads the groups as it gave them."""
    groups = [[number, number + 1] for number in range(0, 40, 2)]
    found = list(spread(cluster, doubled, groups, lambda part: -1))
    assert found == [[2 * part for part in group] for group in groups]


def test_a_part_that_kills_its_worker_is_named_and_the_rest_is_done(cluster: Cluster) -> None:
    """One part ends every worker that takes it: it alone is told as dead, its neighbours are done elsewhere."""
    groups = [[1, 2, 3], [6, 7, 8], [9]]
    found = list(spread(cluster, doubled_but_for_seven, groups, lambda part: -part))
    assert found == [[2, 4, 6], [12, -7, 16], [18]]


def test_a_worker_killed_midway_costs_no_part(cluster: Cluster, tmp_path: Path) -> None:
    """A worker that is ended while it works: its task is done by another."""
    parts = [str(tmp_path / "first")]
    assert list(spread(cluster, doubled_once_killed, [parts], lambda part: "dead")) == [[parts[0] * 2]]


def test_processes_of_one_machine_do_the_same() -> None:
    """The same call runs over the standard library's pool."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(spread(pool, doubled, [[1, 2], [3]], lambda part: -1)) == [[2, 4], [6]]


def test_a_pool_that_broke_is_told_in_a_sentence() -> None:
    """A pool of this machine does not come back: storage-like trouble, not a verdict on any part."""
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with pool, pytest.raises(UnavailableError, match="ended from outside"):
        list(spread(pool, doubled_but_for_seven, [[7], [8]], lambda part: -1))


def test_an_address_where_nobody_listens_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No scheduler: unavailable, with the address; something else than an address: refused."""
    monkeypatch.setattr("auditlib.cluster.CONNECT_SECONDS", 1)
    with pytest.raises(UnavailableError, match="no scheduler answers") as caught, connect("tcp://127.0.0.1:9"):
        pass
    assert caught.value.where == "tcp://127.0.0.1:9"
    with pytest.raises(MalformedError, match="is no scheduler"), connect("http://127.0.0.1:9"):
        pass


def test_a_scheduler_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that was handed over and whose scheduler ends: unavailable, and no wrong answer."""
    monkeypatch.setattr("auditlib.cluster.CONNECT_SECONDS", 5)
    with dask_service(1) as own, connect(own.address) as cluster:
        assert list(spread(cluster, doubled, [[1]], lambda part: -1)) == [[2]]
        own.stop()
        with pytest.raises(UnavailableError):
            list(spread(cluster, doubled, [[1]], lambda part: -1))
