"""The writing side with real processes, killed at random moments and at each step, its surroundings failing.

The promise each time: every acknowledged event is sealed exactly once, no history is forked, verification is clean, no
process meets a traceback and no client a 500. The world that is broken is in writing.py.
"""

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pg_service as services
import pytest
import s3_service
import urllib3
from faulty_proxy import FaultyProxy, Reset
from strength import LONG
from writing import CATALOG, KEY, KILLED, World, forks, not_of_the_sealer, until
from writing_programs.faults import STEPS

from auditlib.formats import layout
from auditlib.formats.catalog import extend_catalog
from auditlib.formats.document import Retention
from auditlib.formats.event import event_bytes, parse_event
from auditlib.state import SealerState
from auditlib.tokens import add_token

SEED = 20261123
KILLS = {"application": 18, "collector": 17, "sealer": 17}  # besides, all at once EVERY so many
FEWER_KILLS = dict.fromkeys(KILLS, 6)  # over a second database, where most of the code is the same
EVERY = 15
# The steps at which a store is asked, or has just answered: what may differ from one database to another.
STORE_STEPS = {
    "application": ["events posted"],
    "collector": ["request taken", "rows inserted", "rows committed"],
    "sealer": ["lease taken", "lease renewed", "seal put", "position remembered", "lease released"],
}
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


def first(world):
    """Whether this is the database over which everything runs; over the others what they may do differently does."""
    return LONG or world.url.startswith("sqlite")


# --- killed at random moments -------------------------------------------------------------------------------------


def at_work(world, name, steps):
    """Wait until it has done so many steps since it was started; 0: it may not even have begun."""
    progress = {"collector": world.count, "sealer": world.objects}.get(name, lambda: world.recorded(name) // 27)
    before = progress()
    until(lambda: (progress() or 0) >= (before or 0) + steps)


def test_kills_at_random_moments_lose_double_and_fork_nothing(world):
    """Sixty kills of applications, collector and sealer (twenty over PostgreSQL), one or all at once, while events are
    recorded."""
    chance = random.Random(SEED)
    kills = KILLS if first(world) else FEWER_KILLS
    deck = [name for name, count in kills.items() for _ in range(count)]
    chance.shuffle(deck)
    everything = ["collector", "sealer", *world.applications]
    for name in everything:
        world.start(name)
    killed = 0
    for turn, victim in enumerate(deck):
        name = chance.choice(world.applications) if victim == "application" else victim
        at_work(world, name, chance.choice([0, 1, 2, 4]) if name == "sealer" else chance.randrange(30))
        time.sleep(chance.uniform(0, MAX_MOMENT))  # not to wait for anything: the moment is random
        dying = everything if turn % EVERY == EVERY - 1 else [name]
        world.kill(*dying)
        killed += len(dying)
        chance.shuffle(dying)
        for each in dying:
            world.start(each)
    assert killed >= (60 if first(world) else 20)
    world.finish()
    world.check(unwritten=killed * 2)


# --- killed at each step ------------------------------------------------------------------------------------------


def test_kills_before_and_after_each_step_lose_double_and_fork_nothing(tmp_path, url, server, monkeypatch):
    """Client, collector and sealer die right before and right after each step (over PostgreSQL: each that asks the
    store); who comes after them goes on."""
    monkeypatch.setattr(layout, "PAGE", 4)  # seals; else a page would be met after 1,024
    world = World(tmp_path, url, server, pause=0.005, faults={"page": layout.PAGE})
    steps = STEPS if first(world) else STORE_STEPS
    try:
        for name in ("collector", *world.applications):
            world.start(name)
        killed = 0
        for role, name in (("application", "billing-api"), ("collector", "collector")):
            for fault in faults_at(steps[role]):
                world.kill(name)
                assert world.start(name, **fault).end() == KILLED, world.programs[name].said()
                world.programs.pop(name)
                world.start(name)
                killed += 2
        world.kill(*world.applications)
        world.pause = 0.1
        for name in world.applications:
            world.start(name)
        world.seal()
        for fault in faults_at(steps["sealer"]):
            until(lambda: dies(world.sealing_once(max_events=100, **fault)))  # noqa: B023
            killed += 1
        assert killed >= 2 * sum(map(len, steps.values()))
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


# --- the surroundings fail ----------------------------------------------------------------------------------------


def everything(world):
    """Start all there is."""
    for name in ("collector", "sealer", *world.applications):
        world.start(name)


def goes_on(world):
    """Wait until applications record, the store grows, and a round of the sealer ends."""
    for name in world.applications:
        at_work(world, name, 5)
    at_work(world, "collector", 5)
    heard = len(world.programs["sealer"].said())
    until(lambda: " seals." in world.programs["sealer"].said()[heard:])


def outage(world, begin, end, signs):
    """From `begin` to `end` something is away: each program of `signs` says its sentence, and applications record."""
    goes_on(world)
    heard = {name: len(world.programs[name].said()) for name in signs}
    begin()
    for name, sign in signs.items():
        until(lambda: sign in world.programs[name].said()[heard[name] :])  # noqa: B023
    end()
    goes_on(world)


STORE_AWAY = {"billing-api": "the collector cannot take events now (HTTP 503)", "sealer": "Trying again in"}


def test_a_store_that_was_moved_away_and_back_costs_no_event(tmp_path, server):
    """The SQLite file is gone for a while, twice: clients keep what they record, and the sealer waits."""
    away = tmp_path / "away"
    away.mkdir()
    world = World(tmp_path, f"sqlite:///{tmp_path / 'store.sqlite'}", server)

    def move(source, target):
        for file in sorted(source.glob("store.sqlite*")):
            file.rename(target / file.name)

    try:
        everything(world)
        for _ in range(2):
            outage(world, lambda: move(tmp_path, away), lambda: move(away, tmp_path), STORE_AWAY)
        world.finish()
        world.check()
    finally:
        world.close()


def test_a_postgresql_that_dies_and_comes_back_costs_no_event(tmp_path, server):
    """Every process of the database server is killed: clients keep what they record, and the sealer waits."""
    with services.own_pg_service() as own:
        world = World(tmp_path, own.new_database(), server)
        try:
            everything(world)
            for _ in range(2 if LONG else 1):
                outage(world, own.kill9, own.restart, STORE_AWAY)
            world.finish()
            world.check()
        finally:
            world.close()


@pytest.fixture
def disk(tmp_path):
    """A small file system, which only root may make."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)]
    if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk):
    """Leave not a byte of room."""
    with (disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(bytes(4096)):
            pass


@pytest.mark.parametrize(
    ("place", "signs"),
    [
        ("store", {"billing-api": STORE_AWAY["billing-api"]}),
        ("vault", {"sealer": "Trying again in"}),
        ("state", {"sealer": "Trying again in"}),
        ("spool-billing-api", {"billing-api": "not recorded: "}),
    ],
)
def test_a_full_disk_costs_no_event(tmp_path, disk, server, place, signs):
    """Where the store, the vault, the sealer's memory or a spool has no room, nothing acknowledged is lost or doubled;
    with room again all goes on by itself."""
    (disk / place).mkdir(mode=0o700)
    (tmp_path / place).symlink_to(disk / place)
    (tmp_path / "store").mkdir(exist_ok=True)
    world = World(tmp_path, f"sqlite:///{tmp_path / 'store' / 'store.sqlite'}", server)
    try:
        everything(world)
        outage(world, lambda: fill(disk), (disk / "ballast").unlink, signs)
        world.finish()
        world.check()
    finally:
        world.close()


def test_a_vault_that_cannot_be_reached_holds_up_no_application(tmp_path, server, monkeypatch):
    """Object storage is away for a while: applications and collector go on, and afterwards all of it is sealed."""
    service = s3_service.s3_service()
    who = service.identities["owner"]
    names = {
        "AWS_ACCESS_KEY_ID": who.key,
        "AWS_SECRET_ACCESS_KEY": who.secret,
        "AWS_DEFAULT_REGION": service.region,
        "AWS_ENDPOINT_URL_S3": service.endpoint,
        "AUDITLIB_CACHE": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    url, vault = f"sqlite:///{tmp_path / 'store.sqlite'}", f"s3://{service.new_bucket()}/vault"
    with FaultyProxy(service.endpoint) as proxy:
        world = World(tmp_path, url, server, vault=vault, retention=Retention(1, "GOVERNANCE"))
        world.environment |= names | {"AWS_ENDPOINT_URL_S3": proxy.endpoint}
        try:
            everything(world)
            goes_on(world)
            proxy.add(Reset())
            world.programs["sealer"].until_said("Trying again in")
            world.flush()  # all that was recorded is answered for, while nothing can be sealed
            for name in world.applications:
                world.start(name)
            proxy.clear()
            goes_on(world)
            world.finish()
            world.check()
        finally:
            world.close()
            s3_service.leave_s3_service()


def test_jumping_clocks_cost_no_event(tmp_path, url, server):
    """Days forwards and back on every machine, a sealer killed each time: its lease of another day is no obstacle."""
    clock = tmp_path / "clock"

    def turn(days):
        (tmp_path / "fresh").write_text(str(days * 86_400))
        (tmp_path / "fresh").replace(clock)

    turn(0)
    world = World(tmp_path, url, server, faults={"clock": str(clock)})
    try:
        everything(world)
        for days in (3, -10, 400, 0) if first(world) else (-10, 400):
            goes_on(world)
            turn(days)
            goes_on(world)
            world.kill("sealer")
            world.start("sealer")
        world.finish()
        world.check()
    finally:
        world.close()


# --- many clients, and those that send garbage --------------------------------------------------------------------

CLIENTS, EACH = 50, 40
GARBAGE = [
    (b"\xff\xfe", 400),
    (b"[" * 100_000, 400),
    (b"{" * 5_000_000, 413),
    (b'{"event_id": "a"}', 200),
    (b'[{"event_id": "\xed\xa0\x80"}]', 400),
    (b"[" + b",".join([b"{}"] * 1001) + b"]", 413),
    (b'{"a": 1e999}', 200),
    (b"", 400),
]
MAX_GROWTH = 256 * 1024 * 1024  # bytes; four bodies of 4 MiB are in flight at once, and parsed take ten times as much


def test_fifty_clients_beside_one_that_sends_garbage_lose_nothing_and_memory_is_bounded(tmp_path, url, server):
    """Every event of fifty processes is sealed once; garbage is refused in words, and its refusals are sealed."""
    names = [f"client-{number}" for number in range(CLIENTS)]
    world = World(tmp_path, url, server, applications=names, pause=0)
    token = add_token(tmp_path / "tokens", "garbage", now=lambda: 0)
    statuses, done = Counter(), threading.Event()

    def litter():
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        with urllib3.PoolManager(retries=False) as http:
            while not done.is_set():
                for body, expected in GARBAGE:
                    answer = http.request("POST", f"{world.collector_url}/v1/events", body=body, headers=headers)
                    assert answer.status in (expected, 429, 503), (answer.status, answer.data)
                    statuses[answer.status] += 1

    try:
        collector = world.start("collector")
        collector.until_said("listening on")
        before = collector.memory()
        world.start("sealer")
        threads = [threading.Thread(target=litter) for _ in range(4)]
        for name in names:
            world.start(name, threads=1, events=EACH)
        for thread in threads:
            thread.start()
        for name in names:
            assert world.programs[name].end() == 0
            assert "waiting 0 conflict 0 refused 0 aside 0" in world.programs.pop(name).said()
        done.set()
        for thread in threads:
            thread.join()
        assert {200, 400, 413} <= set(statuses)
        assert collector.memory() - before < MAX_GROWTH
        world.finish()
        world.check_trail()
        sealed = world.sealed()
        world.check_acknowledged(sealed)
        assert sum(len(world.acknowledged(name)) for name in names) == CLIENTS * EACH
        refused = [record for record in sealed if record.event.action == "audit.refused"]
        assert len(refused) == sum(count for status, count in statuses.items() if status not in (429, 503))
    finally:
        done.set()
        world.close()


# --- catalogues that change, conflicts ----------------------------------------------------------------------------

STRICTER = extend_catalog(CATALOG, b'[actions."invoice.pay"]\nkind = "change"\nrequired = ["approved_by"]\n')


def invoice(event_id, **context):
    """What an application of the time before the stricter catalogue sends."""
    return {
        "action": "invoice.pay",
        "actor": {"id": "u_8842", "session": None, "type": "user"},
        "context": context,
        "event_id": event_id,
        "occurred_at": "2026-01-08T14:32:07Z",
        "outcome": "success",
        "target": {"id": "i_9013", "type": "invoice"},
    }


def post(world, token, first, events):
    """As the instance `raw` of the token's source, numbered from `first`; the statuses."""
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Audit-Instance": "raw",
        "Audit-First-Seq": str(first),
    }
    body = json.dumps(events).encode()
    with urllib3.PoolManager() as http:
        answer = http.request("POST", f"{world.collector_url}/v1/events", body=body, headers=headers)
    assert answer.status == 200, answer.data
    return [result["status"] for result in answer.json()["results"]]


def test_an_event_that_the_catalogue_in_force_refuses_is_sealed_with_its_whole_body(tmp_path, url, server):
    """The collector's catalogue took it, the trail's asks for more: it becomes audit.refused, once, in as many parts as
    it needs; a conflict keeps both bodies; and neither number is called lost."""
    world = World(tmp_path, url, server, applications=(), catalog=STRICTER)
    token = add_token(tmp_path / "tokens", "billing-api", now=lambda: 0)
    old = [invoice("e-1", amount=17), invoice("e-2", note="é" * 7000)]
    new = [invoice("e-3", approved_by="u_1"), invoice("e-3", approved_by="u_2"), invoice("e-4", approved_by="u_1")]
    try:
        world.start("collector").until_said("listening on")
        assert post(world, token, 1, [*old, *new]) == ["recorded", "recorded", "recorded", "conflict", "recorded"]
        assert "2 refused" in world.seal()
        (SealerState(world.state, KEY.verifier).folder / "position").unlink()  # all of it is read again
        world.seal()
        world.check_trail()
        sealed = world.sealed()
        ids = [record.event.event_id for record in sealed]
        assert len(ids) == len(set(ids))
        assert [record.event.event_id for record in not_of_the_sealer(sealed)] == ["e-3", "e-4"]
        assert parts(sealed, "audit.refused") == {body["event_id"]: event_bytes(parse_event(body)) for body in old}
        assert parts(sealed, "audit.conflict") == {"e-3": event_bytes(parse_event(new[1]))}
    finally:
        world.close()


def parts(sealed, action):
    """The bodies that records of this action tell of, put together, by their event's id."""
    found = {}
    for record in sealed:
        if record.event.action == action:
            context = record.event.context
            found.setdefault(context["event_id"], {})[context["part"]] = context["refused"].encode()
    return {event_id: b"".join(body[part] for part in sorted(body)) for event_id, body in found.items()}


# --- a store restored from a backup -------------------------------------------------------------------------------


class Backup:
    """The store's data at one moment, and the way back to it."""

    def __init__(self, world, request):
        self._world, self._request = world, request
        if self._sqlite:
            self._copy = world.folder / "backup.sqlite"
            with contextlib.closing(sqlite3.connect(self._path)) as source:
                source.execute("VACUUM INTO ?", (str(self._copy),))
        else:
            self._copy = request.getfixturevalue("service").new_database().rsplit("/", 1)[1]
            self._make(self._copy, self._name)

    @property
    def _sqlite(self):
        return self._world.url.startswith("sqlite")

    @property
    def _path(self):
        return Path(self._world.url.removeprefix("sqlite:///"))

    @property
    def _name(self):
        return self._world.url.rsplit("/", 1)[1]

    def _make(self, name, template):
        with self._request.getfixturevalue("service").connect() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{template}'")
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")

    def restore(self):
        """Put it in the store's place, whoever is connected."""
        if self._sqlite:
            for file in self._path.parent.glob(f"{self._path.name}-*"):
                file.unlink()
            shutil.copy(self._copy, self._path.with_name("restored"))
            self._path.with_name("restored").replace(self._path)
        else:
            self._make(self._name, self._copy)


def record(world, events):
    """So many by each application, all of them in the store."""
    world.start("collector")
    for name in world.applications:
        assert world.start(name, threads=1, events=events).end() == 0
        world.programs.pop(name)
    world.stop("collector")


def test_a_store_restored_from_a_backup_loses_and_doubles_nothing_that_was_sealed(world, request):
    """Positions are given a second time; the sealer notices, reads from the beginning and drops the repeats."""
    record(world, 10)
    world.seal()
    backup = Backup(world, request)
    record(world, 30)
    world.seal()
    backup.restore()
    assert world.count() == 20
    record(world, 40)
    assert "80 events sealed, 20 were there already" in world.seal()
    world.finish()
    world.check_trail()
    world.check_acknowledged(world.sealed())


def test_a_store_restored_while_its_sealer_waits_is_noticed_too(world, request):
    """The backup was made under the same lease, and the new records lie below the position that was reached."""
    sealer = world.start("sealer")

    def sealed(events):
        until(lambda: sum(map(int, re.findall(r"^(\d+) events sealed", sealer.said(), re.MULTILINE))) == events)
        if world.url.startswith("postgresql"):
            until(pauses)  # else it would notice by the query that is broken off
        sealer.signal(signal.SIGSTOP)

    def pauses():
        """Whether the sealer is between two rounds: its session has asked for nothing for a while."""
        with request.getfixturevalue("service").connect(world.url) as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'auditlib sealer'"
                " AND (state <> 'idle' OR state_change > clock_timestamp() - interval '100 ms')"
            )
            return found.fetchone() == (0,)

    record(world, 10)
    sealed(20)
    backup = Backup(world, request)
    sealer.signal(signal.SIGCONT)
    record(world, 30)
    sealed(80)
    backup.restore()
    record(world, 30)
    assert world.count() == 80
    sealer.signal(signal.SIGCONT)
    sealed(140)
    sealer.signal(signal.SIGCONT)
    world.finish()
    world.check_trail()
    world.check_acknowledged(world.sealed())


# --- two sealers --------------------------------------------------------------------------------------------------


def test_of_two_sealers_of_one_store_one_waits(world):
    """The same key, two machines: the second says who has the lease, and takes over when the first stops."""
    everything(world)
    world.programs["sealer"].until_said(" seals.")
    arguments = [*world.sealing(), "--watch", "--every", "1s"]
    second = world.cli("second", "seal", *arguments, environment={"AUDITLIB_STATE": str(world.folder / "second")})
    second.until_said("holds the lease until")
    assert not (world.folder / "second" / "ids.sqlite").exists()
    world.stop("sealer")
    second.until_said(" seals.")
    second.stop()
    world.finish()
    world.check()


SLEEPS = [("sqlite", step) for step in ("batch put", "seal put", "checkpoint put", "lease renewed")]
SLEEPS += [("postgresql", step) for _, step in SLEEPS if LONG or step in STORE_STEPS["sealer"]]


@pytest.mark.parametrize(("url", "step"), SLEEPS, indirect=["url"])
def test_a_sealer_that_slept_past_its_lease_writes_nothing_over_the_next_one(world, step):
    """It stands still before a step until another, by whose clock its lease is over, has sealed; then it must stop."""
    clock = world.folder / "clock"
    clock.write_text("86400")
    for name in ("collector", *world.applications):
        world.start(name)
    at_work(world, "collector", 50)
    nth = 2 if step == "checkpoint put" else 1
    first = world.sealing_once(max_events=20, at=step, after=False, nth=nth, signal=signal.SIGSTOP)
    until(lambda: Path(f"/proc/{first.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")
    other = {"AUDITLIB_STATE": str(world.folder / "second")}
    second = world.sealing_once(max_events=20, environment=other, clock=str(clock))
    assert second.end() == 0, second.said()
    first.signal(signal.SIGCONT)
    assert first.end() in (1, 3), first.said()
    for name in world.applications:
        world.stop(name)
    world.finish()
    world.check()


# --- the keeper ---------------------------------------------------------------------------------------------------


def test_prune_deletes_only_what_stands_in_the_vault_verified(tmp_path, url, server):
    """What lies in a batch that was tampered with, what was refused or conflicting, and what is young, stays."""
    world = World(tmp_path, url, server, applications=(), catalog=STRICTER)
    token = add_token(tmp_path / "tokens", "billing-api", now=lambda: 0)
    pruning = ["store", "prune", "--store", url, "--vault", world.vault_url, "--key", KEY.verifier, "--older-than"]

    def left():
        return [record.event.event_id for record in world.stored()]

    try:
        world.start("collector").until_said("listening on")
        post(world, token, 1, [invoice("e-1", approved_by="u_1"), invoice("e-2", approved_by="u_1")])
        world.seal()
        post(world, token, 3, [invoice("e-3", approved_by="u_1"), invoice("e-3", approved_by="u_2"), invoice("e-4")])
        world.seal()
        post(world, token, 6, [invoice("e-5", approved_by="u_1")])
        everything_stored = left()
        assert world.cli("prune", *pruning, "30d").end() == 0
        assert left() == everything_stored
        (first,) = (tmp_path / "vault").glob("batches/*/000000000000-*.parquet")
        whole = first.read_bytes()
        first.chmod(0o600)
        first.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
        # The first e-3 goes once it is a second old; what came second under its id stays.
        until(lambda: world.cli("prune", *pruning, "1s").end() == 0 and len(left()) < 6)
        assert left() == ["e-1", "e-2", "e-3", "e-4", "e-5"]
        first.write_bytes(whole)
        assert world.cli("prune", *pruning, "1s").end() == 0
        assert left() == ["e-3", "e-4", "e-5"]
        world.seal()
        world.check_trail()
    finally:
        world.close()


# --- stopping -----------------------------------------------------------------------------------------------------


def test_sigterm_stops_collector_and_sealer_cleanly_also_under_load(tmp_path, url, server):
    """The real commands, `python -m auditlib.cli`: exit code 0, no traceback, though more always waits."""
    world = World(tmp_path, url, server)
    environment = os.environ | world.environment
    listen = ["--tokens", str(tmp_path / "tokens"), "--listen", f"127.0.0.1:{world.port}"]
    commands = {
        "collector": ["collect", "--store", url, *listen],
        "sealer": ["seal", *map(str, world.sealing()), "--watch", "--every", "1s", "--max-events", "5"],
    }
    running = {}
    try:
        for name, command in commands.items():
            with world.out(name).open("wb") as out:
                running[name] = subprocess.Popen(
                    [sys.executable, "-m", "auditlib.cli", *command], stdout=out, stderr=out, env=environment
                )
        for name in world.applications:
            world.start(name)
        at_work(world, "collector", 20)
        at_work(world, "sealer", 20)
        for name in ("sealer", "collector"):
            running[name].terminate()
            assert running[name].wait(120) == 0, world.out(name).read_text()
        world.start("collector")
        world.finish()
        world.check()
    finally:
        for process in running.values():
            process.kill()
            process.wait()
        world.close()
