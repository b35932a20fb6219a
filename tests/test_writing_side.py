"""The writing side with real processes, killed at random moments and at each step, its surroundings failing.

The promise each time: every acknowledged event is sealed exactly once, no history is forked, verification is clean, no
process meets a traceback and no client a 500. The world that is broken is in writing.py.
"""

import itertools
import random
import signal
import time

import pg_service as services
import pytest
from writing import KILLED, World, forks, until
from writing_programs.faults import STEPS

from auditlib.formats import layout

SEED = 20261123
KILLS = {"application": 36, "collector": 34, "sealer": 34}  # a database; where all die at once, each counts
MAX_MOMENT = 0.02  # seconds past a condition, so that a kill falls anywhere between two steps


@pytest.fixture(scope="module")
def server():
    with forks() as server:
        yield server


@pytest.fixture(scope="module")
def service():
    yield services.pg_service()
    services.leave_pg_service()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'store.sqlite'}"
    else:
        service = request.getfixturevalue("service")
        yield service.new_database()
        service.clean()


@pytest.fixture
def world(tmp_path, url, server):
    world = World(tmp_path, url, server)
    yield world
    world.close()


# --- killed at random moments -------------------------------------------------------------------------------------


def at_work(world, name, steps):
    """Wait until it has done so many steps since it was started; 0: it may not even have begun."""
    progress = {"collector": world.count, "sealer": world.objects}.get(name, lambda: world.recorded(name) // 27)
    before = progress()
    until(lambda: (progress() or 0) >= (before or 0) + steps)


def test_kills_at_random_moments_lose_double_and_fork_nothing(world):
    """Over a hundred kills of applications, collector and sealer, one or all at once, while events are recorded."""
    chance = random.Random(SEED)
    deck = [name for name, count in KILLS.items() for _ in range(count)]
    chance.shuffle(deck)
    everything = ["collector", "sealer", *world.applications]
    for name in everything:
        world.start(name)
    killed = 0
    for turn, victim in enumerate(deck):
        name = chance.choice(world.applications) if victim == "application" else victim
        at_work(world, name, chance.choice([0, 1, 2, 4]) if name == "sealer" else chance.randrange(30))
        time.sleep(chance.uniform(0, MAX_MOMENT))  # not to wait for anything: the moment is random
        dying = everything if turn % 20 == 19 else [name]
        world.kill(*dying)
        killed += len(dying)
        chance.shuffle(dying)
        for each in dying:
            world.start(each)
    assert killed >= 100
    world.finish()
    world.check(unwritten=killed * 2)


# --- killed at each step ------------------------------------------------------------------------------------------


def test_kills_before_and_after_each_step_lose_double_and_fork_nothing(tmp_path, url, server, monkeypatch):
    """Client, collector and sealer die right before and right after each step; who comes after them goes on."""
    monkeypatch.setattr(layout, "PAGE", 4)  # seals; else a page would be met after 1,024
    world = World(tmp_path, url, server, pause=0.005, page=layout.PAGE)
    try:
        for name in ("collector", *world.applications):
            world.start(name)
        killed = 0
        for role, name in (("application", "billing-api"), ("collector", "collector")):
            for fault in faults_at(STEPS[role]):
                world.kill(name)
                assert world.start(name, **fault).end() == KILLED, world.programs[name].said()
                world.programs.pop(name)
                world.start(name)
                killed += 2
        world.kill(*world.applications)
        world.pause = 0.05
        for name in world.applications:
            world.start(name)
        world.seal()
        for fault in faults_at(STEPS["sealer"]):
            until(lambda: dies(world.sealing_once(max_events=50, **fault)))  # noqa: B023
            killed += 1
        assert killed >= 2 * sum(map(len, STEPS.values()))
        world.finish()
        world.check(unwritten=2 * killed)
    finally:
        world.close()


def faults_at(steps):
    """A SIGKILL before and one after each step."""
    for step, after in itertools.product(steps, (False, True)):
        yield {"at": step, "after": after, "nth": 1, "signal": signal.SIGKILL}


def dies(program):
    """Whether it was killed; a round that did not come to the step ended well."""
    assert program.end() in (0, KILLED), program.said()
    return program.code == KILLED
