"""Sealing into real object storage while everything around it fails: servers killed, sealers killed, networks that lie.

The promise each time: what a sealer reported as sealed is in the verified trail, every record stands there once, the
chain has no fork, and running again finishes what was begun. Sealers are processes of their own
(`s3_programs/sealer.py`); the server is this module's own, so that killing it disturbs nobody.
"""

import json
import multiprocessing
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta

import pytest
from botocore import auth
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from faulty_proxy import CutUpload, Drip, FaultyProxy, Hang, Reset, Rule, Status, Truncate
from s3_programs.sealer import now, run
from s3_service import own_s3_service
from simulator import CATALOG, KEY, ORIGIN, Trail, records, snapshot

from auditlib import cli
from auditlib import trail as trails
from auditlib.errors import UnavailableError
from auditlib.formats import layout
from auditlib.formats.batch import parse_batch
from auditlib.formats.document import Retention
from auditlib.formats.seal import MAX_BATCH_BYTES
from auditlib.history import read_history
from auditlib.vault import s3
from auditlib.verify import verify

DAY = 86_400_000_000  # microseconds
DAYS = 2  # of retention
SIZE = 2  # records a batch
CONDITION = 60  # seconds within which a condition must come true
CLEAR = "the storage (answered|did not answer|refused)|the server sent"
# A sealer's client that outlasts a restart: requests for one call (the pauses double from 0.05 s on), read timeout.
PATIENT = {"attempts": 12, "seconds": 30}

PROCESSES = multiprocessing.get_context("forkserver")  # a new process without a second of imports
PROCESSES.set_forkserver_preload(["s3_programs.sealer"])


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    with own_s3_service(tmp_path_factory.mktemp("own") / "s3") as service:
        yield service


@pytest.fixture(scope="module")
def bucket(own):
    return own.new_bucket()


@pytest.fixture
def proxy(own):
    with FaultyProxy(own.endpoint) as proxy:
        yield proxy


@pytest.fixture
def direct(own, bucket, request):
    """The test's own prefix, reached without a proxy."""
    return s3.S3Vault(f"s3://{bucket}/{abs(hash(request.node.nodeid)):x}", client=own.client())


@pytest.fixture
def faulty(own, proxy, direct):
    """The same prefix by way of the proxy: nothing is tried again, and timeouts are such that a test can wait."""
    return s3.S3Vault(direct.url, client=own.client(endpoint=proxy.endpoint, read_timeout=0.5))


@pytest.fixture
def trail(direct, tmp_path):
    """An empty trail, on the real clock and with real randomness."""
    trail = Trail(None, vault=direct, state=tmp_path / "state")
    trail.clock, trail.random = now, os.urandom
    return trail.create(CATALOG, Retention(DAYS, "COMPLIANCE"))


class Onwards(Rule):
    """Strikes the `nth` of the requests it names, and from then on whatever comes."""

    def strikes(self, method, target):
        if not self.struck and not super().strikes(method, target):
            return False
        self.struck += 1
        return True


def strike_on(proxy, fault, method=None, path="", nth=1):
    proxy._rules.append(Onwards(fault, method, path, nth))


def until(condition):
    """Wait for it."""
    end = time.monotonic() + CONDITION
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.002)


# --- sealers as processes, and what they leave -------------------------------------------------------------------


class Sealing:
    """A sealer process; see its program."""

    def __init__(self, service, url, state, endpoint=None, attempts=1, seconds=1):
        who = service.identities["owner"]
        session = {
            "endpoint_url": endpoint or service.endpoint,
            "region_name": service.region,
            "aws_access_key_id": who.key,
            "aws_secret_access_key": who.secret,
        }
        self.pipe, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(target=run, args=(theirs, url, str(state), session, attempts, seconds))
        self.process.start()
        theirs.close()

    def tell(self, *orders):
        for order in orders:
            self.pipe.send(order)

    def end(self):
        """Let it come to its end; everything it has said since."""
        self.tell("end")
        said = self._said()
        self.process.join()
        assert self.process.exitcode == 0
        return said

    def kill(self):
        """End it as a crash does (kill -9); what it had said."""
        self.process.kill()
        return self._said()

    def close(self):
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()

    def _said(self):
        said = []
        with suppress(EOFError, ConnectionResetError):
            while True:
                said.append(self.pipe.recv())
        return said


@pytest.fixture
def sealing(own, direct, tmp_path):
    """Start sealer processes; none outlives its test."""
    started = []

    def start(state="state", **options):
        started.append(Sealing(own, direct.url, tmp_path / state, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


def all_of(batches):
    """Open, and seal the records 0, 1, 2... in so many batches; what is sealed already is dropped as a repeat."""
    return ["open", *(f"seal {number * SIZE} {SIZE}" for number in range(batches))]


def numbers_of(said):
    """The numbers of the records that were reported as sealed."""
    found = set()
    for line in said:
        if line.startswith("sealed "):
            first, count = map(int, line.split()[1:])
            found |= set(range(first, first + count))
    return found


def verified(vault):
    """How often each record stands under the seals that verification vouches for, by its event id."""
    history = read_history(vault, [KEY.verifier], thorough=True)
    assert history.errors == []
    found = Counter()
    for entry in history.seals:
        found.update(parse_batch(vault.get(entry.seal.batch.object, MAX_BATCH_BYTES)).table["event_id"].to_pylist())
    return found


def assert_whole(vault, batches, reported=()):
    """Every record once, what was reported among them; no fault, no fork; leftover batches are information."""
    report = verify(vault, keys=[KEY.verifier], deep=True, now=now())
    assert report.ok, report.errors
    assert {f.severity for f in orphans(report)} <= {"info"}
    assert report.checkpoint.size == report.seals
    assert verified(vault) == Counter(record.event.event_id for record in records(batches * SIZE))
    assert set(reported) <= set(range(batches * SIZE))
    return report


def orphans(report):
    return [finding for finding in report.findings if "no seal names this batch" in finding.message]


def shadows(report):
    return [f.object for f in report.findings if f.check == 8 and f.severity == "warning"]


# --- the server dies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patient", [False, True], ids=["client that gives up", "patient client"])
@pytest.mark.parametrize(("dies", "kills"), [("gateway", 3), ("osd", 1)])
def test_a_server_killed_in_the_middle_of_sealing_loses_and_doubles_nothing(
    own, trail, proxy, sealing, dies, kills, patient
):
    """At random requests; a sealer whose client gives up is followed by a new one, a patient one goes on."""
    chance, batches = random.Random(f"{dies} {patient}"), 2 * kills + 5
    reported, sealer = set(), None
    for _ in range(kills):
        if sealer is None:
            sealer = sealing(endpoint=proxy.endpoint, **(PATIENT if patient else {}))
            sealer.tell(*all_of(batches))
        strike = proxy.count() + chance.randrange(15, 45)  # opening takes some 10 requests, a batch 13
        until(lambda: proxy.count() >= strike)  # noqa: B023
        own.kill_gateway() if dies == "gateway" else own.kill_osd()
        own.restart()
        if not patient:
            said, sealer = sealer.end(), None
            refused = [line for line in said if line.startswith("refused")]
            assert all(re.search(f"^refused 3 UnavailableError .*({CLEAR})", line) for line in refused), refused
            reported |= numbers_of(said)
    if patient:
        reported = numbers_of(sealer.end())
        assert reported == set(range(batches * SIZE))
    last = sealing(**PATIENT)
    last.tell(*all_of(batches))
    assert numbers_of(last.end()) == set(range(batches * SIZE))
    assert_whole(trail.vault, batches, reported)


def test_a_sealed_trail_stands_through_a_crash_of_the_whole_server(own, trail, sealing):
    """Gateway and disk killed once everything is sealed: not a version more or less, and sealing goes on."""
    for batches in (3, 4):
        sealer = sealing(**PATIENT)
        sealer.tell(*all_of(batches))
        assert numbers_of(sealer.end()) == set(range(batches * SIZE))
        if batches == 3:
            before = snapshot(trail.vault)
            own.kill_osd()
            own.kill_gateway()
            own.restart()
            assert snapshot(trail.vault) == before
        assert_whole(trail.vault, batches)


# --- the sealer dies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_sealer_killed_at_any_put_is_finished_by_the_next(trail, proxy, sealing, after):
    """Killed while its put of a batch, a seal, a checkpoint is on the way, or stored and not answered."""
    reported = set()
    for batches, kind in enumerate(("batches", "seals", "checkpoints"), 1):
        rule = proxy.add(Hang(CONDITION, after=after), method="PUT", path=f"/{kind}/", times=1)
        sealer = sealing(endpoint=proxy.endpoint, seconds=CONDITION)
        sealer.tell(*all_of(batches))
        until(lambda: any(each.fault is rule.fault and (each.status or not after) for each in proxy.requests))  # noqa: B023
        reported |= numbers_of(sealer.kill())
        proxy.clear()
    last = sealing(**PATIENT)
    last.tell(*all_of(4))
    assert numbers_of(last.end()) == set(range(4 * SIZE))
    report = assert_whole(trail.vault, 4, reported)
    assert len(orphans(report)) == 1 and shadows(report) == []


# --- two sealers ---------------------------------------------------------------------------------------------------


def test_of_two_sealers_that_race_one_seals_and_the_other_stops(trail, sealing):
    """One key, two machines: each round one seals, the other says why it did not; nothing that was reported is lost."""
    rounds, reported, due = 8, set(), {"one": 0, "two": 1}  # the batch that each of them is to seal next
    racers = {name: sealing(name, **PATIENT) for name in due}
    for _ in range(rounds):
        for racer in racers.values():
            racer.tell("open")
        assert [racer.pipe.recv() for racer in racers.values()] == ["open", "open"]
        for name, racer in racers.items():
            racer.tell(f"seal {due[name] * SIZE} {SIZE}")
        said = {name: racer.pipe.recv() for name, racer in racers.items()}
        (won,) = [name for name in said if said[name].startswith("sealed")]
        (lost,) = set(said) - {won}
        assert re.match(r"refused 1 MismatchError .* seals/", said[lost]), said
        reported |= numbers_of(said.values())
        due[won] += 2
    for name, racer in racers.items():
        racer.tell("open", *(f"seal {batch * SIZE} {SIZE}" for batch in range(due[name], 2 * rounds, 2)))
        reported |= numbers_of(racer.end())
    assert_whole(trail.vault, 2 * rounds, reported)


def test_a_put_that_arrives_late_is_a_shadow_and_forks_nothing(trail, own, monkeypatch):
    """Given up by its sealer, held up on the way, there once another has sealed: told, and without effect."""
    client, late = own.client(read_timeout=9), []
    put = client.put_object

    def held_up(**arguments):
        if "/seals/" in arguments["Key"]:
            late.append(arguments)
            raise ReadTimeoutError(endpoint_url=own.endpoint)
        return put(**arguments)

    monkeypatch.setattr(client, "put_object", held_up)
    with pytest.raises(UnavailableError, match=CLEAR):
        seal_next(trail, s3.S3Vault(trail.vault.url, client=client), 0)
    trail.seal(2, SIZE)
    put(**late[0])
    report = assert_whole(trail.vault, 2)
    assert shadows(report) == [layout.seal_key(0)]
    trail.seal(1, SIZE, first=2 * SIZE)
    assert_whole(trail.vault, 3)


# --- the network fails -----------------------------------------------------------------------------------------------

FAULTS = {
    "503": Status(503),
    "reset": Reset(),
    "time-out": Hang(CONDITION),
    "truncated": Truncate(10),
}
AT_A_PUT = {name: fault for name, fault in FAULTS.items() if name != "truncated"} | {
    "cut upload": CutUpload(100),
    "503 though stored": Status(503, after=True),
    "reset though stored": Reset(after=True),
    "time-out though stored": Hang(CONDITION, after=True),
}


def seal_next(trail, vault, batch):
    with trail.sealer(vault=vault) as sealer:
        sealer.add(records(SIZE, batch * SIZE))
        sealer.flush()


def query(vault, monkeypatch):
    """Ask for every event of the trail; nothing comes from the reader's own disk."""
    monkeypatch.setattr(trails, "open_vault", lambda url: vault)
    monkeypatch.setenv("AUDITLIB_CACHE_BYTES", "0")
    with trails.open(vault.url) as opened:
        return len(opened.events().df())


def doings(trail, vault, monkeypatch):
    """What is done by way of a vault that fails, once two batches are sealed."""
    return {
        "sealing": lambda: seal_next(trail, vault, 2),
        "verification": lambda: verify(vault, keys=[KEY.verifier], now=now()),
        "query": lambda: query(vault, monkeypatch),
    }


@pytest.mark.parametrize("fault", AT_A_PUT.values(), ids=AT_A_PUT)
def test_a_fault_at_any_put_is_an_outage_and_running_again_finishes(trail, proxy, faulty, fault):
    """Batch, seal, checkpoint, by a client that tries nothing again: an outage with a sentence, and no fork."""
    for batch, kind in enumerate(("batches", "seals", "checkpoints")):
        proxy.clear()
        proxy.add(fault, method="PUT", path=f"/{kind}/", times=1)
        with pytest.raises(UnavailableError, match=CLEAR) as caught:
            seal_next(trail, faulty, batch)
        assert caught.value.where.startswith(faulty.url) and caught.value.remedy
        seal_next(trail, trail.vault, batch)
    assert shadows(assert_whole(trail.vault, 3)) == []


@pytest.mark.parametrize("doing", ["sealing", "verification", "query"])
def test_single_faults_are_outlived_by_a_client_that_tries_again(trail, own, proxy, doing, monkeypatch):
    """A reset, a time-out, a truncated body, a 503, one after the other: the vault's own client gets through."""
    trail.seal(2, SIZE)
    for name, value in environment(own, "owner", proxy.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3, "_CLIENT", s3._CLIENT.merge(Config(read_timeout=0.5)))
    vault = s3.S3Vault(trail.vault.url)
    rules = [proxy.add(fault, nth=2) for fault in (Reset(), Hang(CONDITION), Truncate(10), Status(503))]
    with closing(vault.client):
        doings(trail, vault, monkeypatch)[doing]()
    assert [rule.struck for rule in rules] == [1, 1, 1, 1]
    assert_whole(trail.vault, 3 if doing == "sealing" else 2)


@pytest.mark.parametrize("doing", ["sealing", "verification", "query"])
def test_a_storage_that_stays_away_is_an_outage_with_a_sentence(trail, proxy, faulty, doing, monkeypatch):
    """From some request on nothing answers rightly: UnavailableError, exit code 3, nothing concluded; then it works."""
    trail.seal(2, SIZE)
    do = doings(trail, faulty, monkeypatch)[doing]
    for fault in FAULTS.values():
        for nth in (1, 4, 8):
            proxy.clear()
            strike_on(proxy, fault, nth=nth)
            with pytest.raises(UnavailableError, match=CLEAR) as caught:
                do()
            assert caught.value.exit_code == 3 and caught.value.where.startswith(faulty.url) and caught.value.remedy
    proxy.clear()
    do()
    assert_whole(trail.vault, 3 if doing == "sealing" else 2)


def test_an_endpoint_that_accepts_no_connection_is_an_outage(trail, own):
    """A connect time-out, not a refusal; nothing was written."""
    before = snapshot(trail.vault)
    with socket.socket() as deaf, socket.socket() as filling:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        filling.connect(deaf.getsockname())  # the queue is full: the kernel answers no further connection
        client = own.client(endpoint=f"http://127.0.0.1:{deaf.getsockname()[1]}", connect_timeout=0.3)
        with pytest.raises(UnavailableError, match=r"did not answer \(ConnectTimeoutError\)"):
            seal_next(trail, s3.S3Vault(trail.vault.url, client=client), 0)
    assert snapshot(trail.vault) == before


def test_slow_answers_are_waited_for(trail, proxy, faulty, monkeypatch):
    """Each piece comes within the read time-out: sealing, verification and query take longer and succeed."""
    trail.seal(1, SIZE)
    slow = proxy.add(Drip(size=1500, pause=0.01), method="GET")
    seal_next(trail, faulty, 1)
    assert verify(faulty, keys=[KEY.verifier], now=now()).ok
    assert query(faulty, monkeypatch) == 2 * SIZE
    assert slow.struck > 20
    assert_whole(trail.vault, 2)


# --- the clock is wrong, the credentials are over --------------------------------------------------------------------


@pytest.mark.parametrize("days", [-1, 1], ids=["behind", "ahead"])
def test_a_sealer_whose_clock_is_a_day_off_keeps_what_its_seals_promise(trail, days):
    """Locks and `sealed_at` follow the same clock: no lock is found too short, and the report dates the seals so."""
    trail.clock = lambda: now() + days * DAY
    trail.seal(2, SIZE)
    report = assert_whole(trail.vault, 2)
    assert [f for f in report.findings if f.check == 7 and f.severity != "info"] == []
    assert round(report.age_seconds / 86_400) == -days
    for entry in trail.vault.list("batches"):
        left = trail.vault.lock_of(entry.key, entry.version).until - now()
        assert (DAYS + days - 0.1) * DAY < left <= (DAYS + days) * DAY


def test_a_lock_that_would_have_ended_already_is_refused_and_nothing_is_written(direct, tmp_path):
    """A clock that is behind by more than the retention."""
    trail = Trail(None, vault=direct, state=tmp_path / "state")
    trail.clock = lambda: now() - (DAYS + 1) * DAY
    with pytest.raises(UnavailableError, match=CLEAR):
        trail.create(CATALOG, Retention(DAYS, "COMPLIANCE"))
    assert snapshot(direct) == {}


@pytest.mark.parametrize("days", [-1, 1], ids=["behind", "ahead"])
def test_requests_signed_by_a_clock_a_day_off_are_refused_with_a_sentence(trail, days, monkeypatch):
    """The server's own refusal; nothing is written, and by the right clock the sealer goes on."""
    before, right = snapshot(trail.vault), auth.get_current_datetime
    with monkeypatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda *which, **how: right(*which, **how) + timedelta(days=days))
        with pytest.raises(UnavailableError, match=f"({CLEAR}).*RequestTimeTooSkewed") as caught:
            seal_next(trail, trail.vault, 0)
    assert caught.value.exit_code == 3 and caught.value.remedy
    assert snapshot(trail.vault) == before
    seal_next(trail, trail.vault, 0)
    assert_whole(trail.vault, 1)


@pytest.mark.parametrize("method", ["GET", "PUT"], ids=["a listing", "a put"])
def test_credentials_that_expire_midway_are_said_and_fresh_ones_finish(trail, proxy, faulty, method):
    """From a listing, or a put, on: a sealer with fresh credentials finishes what is half written."""
    for batch, kind in enumerate(("batches", "seals", "checkpoints")):
        path = f"versions.*{kind}%2F" if method == "GET" else f"/{kind}/"
        strike_on(proxy, Status(400, "ExpiredToken"), method, path, nth=2 if method == "GET" else 1)
        with pytest.raises(UnavailableError, match=r"refused these credentials .*ExpiredToken") as caught:
            seal_next(trail, faulty, batch)
        assert caught.value.exit_code == 3 and caught.value.remedy
        proxy.clear()
        seal_next(trail, faulty, batch)
    assert shadows(assert_whole(trail.vault, 3)) == []


# --- the command line ------------------------------------------------------------------------------------------------


def environment(service, identity, endpoint=None):
    """The variables by which any boto3 client finds the service."""
    who = service.identities[identity]
    return {
        "AWS_ACCESS_KEY_ID": who.key,
        "AWS_SECRET_ACCESS_KEY": who.secret,
        "AWS_DEFAULT_REGION": service.region,
        "AWS_ENDPOINT_URL_S3": endpoint or service.endpoint,
        "NO_PROXY": "127.0.0.1",
    }


CLOUDTRAIL = {
    "eventVersion": "1.08",
    "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::123456789012:user/alice", "accountId": "123456789012"},
    "eventTime": "2026-03-01T09:00:00Z",
    "eventSource": "iam.amazonaws.com",
    "eventName": "AttachRolePolicy",
    "awsRegion": "us-east-1",
    "sourceIPAddress": "203.0.113.4",
    "requestParameters": {"roleName": "r", "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
    "responseElements": None,
    "eventID": "00000000-0000-4000-8000-000000000001",
    "eventType": "AwsApiCall",
    "recipientAccountId": "123456789012",
}


def test_a_read_only_identity_is_refused_every_write_and_leaves_no_trace(own, trail, bucket, tmp_path):
    """init, import, copy, probe as processes: one sentence, exit code 3; the whole bucket lists as it did."""
    trail.seal(1, SIZE)
    (tmp_path / "own.key").write_text(KEY.secret_text() + "\n")
    (tmp_path / "log.json").write_text(json.dumps({"Records": [CLOUDTRAIL]}))
    Trail(tmp_path, state=tmp_path / "local state").create().seal(1)
    before = snapshot(s3.S3Vault(f"s3://{bucket}", client=own.client()))
    key, url = ["--key", tmp_path / "own.key"], trail.vault.url
    commands = {
        "init": ["init", f"s3://{bucket}/new", "--origin", ORIGIN, *key, "--retention", "2d", "--yes"],
        "import": ["import", "cloudtrail", tmp_path / "log.json", "--vault", url, *key],
        "copy": ["copy", tmp_path / "vault", f"s3://{bucket}/copied"],
        "probe": ["probe", url],
    }
    variables = os.environ | environment(own, "readonly")
    variables |= {"AUDITLIB_STATE": str(tmp_path / "other state"), "COLUMNS": "1000"}

    def ran(arguments):
        command = [sys.executable, "-m", "auditlib.cli", *map(str, arguments)]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=CONDITION)

    with ThreadPoolExecutor() as pool:
        told = dict(zip(commands, pool.map(ran, commands.values()), strict=True))
    for name, done in told.items():
        assert done.returncode == 3, (name, done)
        *notes, sentence = done.stderr.strip().splitlines()
        assert "refused these credentials" in sentence and done.stdout == "", (name, done)
        assert name == "init" or notes == [], (name, done)  # init says first what a lock means
    assert snapshot(s3.S3Vault(f"s3://{bucket}", client=own.client())) == before
    assert_whole(trail.vault, 1)


@pytest.mark.parametrize("command", ["verify", "query", "import"])
def test_the_command_line_ends_with_3_while_the_storage_stays_away(
    own, trail, proxy, tmp_path, monkeypatch, capsys, command
):
    """A sentence and no traceback; nothing was written, and the same command works once the storage answers."""
    trail.seal(1, SIZE)
    (tmp_path / "own.key").write_text(KEY.secret_text() + "\n")
    (tmp_path / "log.json").write_text(json.dumps({"Records": [CLOUDTRAIL]}))
    arguments = [command, trail.vault.url, "--key", str(KEY.verifier)]
    if command == "import":
        arguments = [command, "cloudtrail", str(tmp_path / "log.json"), "--vault", trail.vault.url]
        arguments += ["--key", str(tmp_path / "own.key")]
    variables = environment(own, "owner", proxy.endpoint) | {"AUDITLIB_STATE": str(trail.state_root), "COLUMNS": "1000"}
    for name, value in (variables | {"AUDITLIB_CACHE_BYTES": "0"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3, "_CLIENT", s3._CLIENT.merge(Config(retries={"total_max_attempts": 1}, read_timeout=9)))
    monkeypatch.setattr(sys, "argv", ["auditlib", *arguments])
    before = snapshot(trail.vault)
    for fault, nth in ((Reset(), 1), (Status(503), 5), (None, 0)):
        proxy.clear()
        if fault:
            strike_on(proxy, fault, nth=nth)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        assert stopped.value.code == (3 if fault else 0), err
        assert bool(re.search(CLEAR, err)) == bool(fault) and "Traceback" not in out + err
        assert (command == "import" and not fault) or snapshot(trail.vault) == before
