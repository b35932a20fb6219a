"""The commands on locked storage, as the platform engineer runs them, against a real server."""

import json
import os
import threading
import time
import uuid

import pytest
from command_line import command
from s3_service import s3_service
from simulator import KEY, MemoryVault, Trail

from auditlib.formats import layout
from auditlib.formats.document import Retention
from auditlib.formats.times import DAY, SECOND, parse_time
from auditlib.keyfiles import write_key_files
from auditlib.locks import CONNECTIONS
from auditlib.retention import extend, set_holds
from auditlib.vault import Lock, Protection
from auditlib.vault.outlook import outlook
from auditlib.vault.roles import policies
from auditlib.vault.s3 import S3Vault
from auditlib.verify import verify


def now():
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def service():
    return s3_service()


@pytest.fixture
def run(service, tmp_path, monkeypatch):
    """The command with the owner's credentials."""
    identity = service.identities["owner"]
    write_key_files(KEY, tmp_path)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    variables = {
        "AUDITLIB_STATE": str(tmp_path / "state"),
        "AWS_ACCESS_KEY_ID": identity.key,
        "AWS_SECRET_ACCESS_KEY": identity.secret,
        "AWS_ENDPOINT_URL": service.endpoint,
        "AWS_DEFAULT_REGION": service.region,
        "COLUMNS": "200",
    }

    def ran(*arguments, code=0):
        done = command(*arguments, **variables)
        assert done.returncode == code, done.stdout + done.stderr
        assert identity.secret not in done.stdout + done.stderr
        return done

    return ran


@pytest.fixture
def key(tmp_path):
    return tmp_path / "acme.example_audit.key"


@pytest.fixture
def place():
    """A bucket that is not there yet."""
    return f"s3://auditlib-init-{uuid.uuid4().hex[:12]}/trail"


def locks_of(vault):
    return {entry.key: vault.lock_of(entry.key, entry.version) for entry in vault.list()}


def test_init_makes_the_bucket_and_prints_the_policies(run, service, key, place):
    """Versions, Object Lock and a default retention; four roles as JSON; the verifier key last."""
    told = run("init", place, "--key", key, "--retention", "2d", "--yes")
    vault = S3Vault(place, client=service.client("owner"))
    assert vault.protection == Protection(True, True, "COMPLIANCE", 2)
    assert told.stdout.splitlines()[-1] == str(KEY.verifier)
    assert json.loads(told.stdout.rpartition("}\n")[0] + "}") == policies(place)
    assert "cannot be deleted, changed or unlocked by anybody before" in told.stderr
    assert "USD a year" in told.stderr and "Personal data" in told.stderr
    assert {lock.mode for lock in locks_of(vault).values()} == {"COMPLIANCE"}
    again = run("init", place, "--key", key, "--retention", "2d", "--yes")
    assert "was there: versions, Object Lock" in again.stderr


def test_init_asks_before_what_cannot_be_undone(run, service, key, place):
    """Without a person or --yes nothing is made."""
    told = run("init", place, "--key", key, code=2)
    assert "a lock cannot be undone" in told.stderr and "--yes" in told.stderr
    names = [bucket["Name"] for bucket in service.client("owner").list_buckets()["Buckets"]]
    assert place.split("/")[2] not in names


def test_init_refuses_a_bucket_without_object_lock(run, service, key):
    """Nothing is written into it."""
    bucket = service.new_bucket(lock=False)
    told = run("init", f"s3://{bucket}/trail", "--key", key, "--yes", code=2)
    assert "has no Object Lock" in told.stderr
    assert list(S3Vault(f"s3://{bucket}", client=service.client("owner")).list()) == []


def test_governance_is_said_loudly():
    """Whoever chooses it reads that some may lift it."""
    (first, *_) = outlook(Retention(30, "GOVERNANCE"), 1000, 0)
    assert first.startswith("GOVERNANCE") and "BUT whoever holds" in first


def test_a_lengthened_trail_says_so_and_its_locks_hold_longer(run, service, key, place):
    """Metadata follow the newest batch; with a date everything does; each time an event is sealed."""
    vault = S3Vault(place, client=service.client("owner"))
    run("init", place, "--key", key, "--retention", "1d", "--yes")
    run("vault", "extend", place, "--key", key)
    first = locks_of(vault)
    until = now() + 30 * DAY
    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until // SECOND))
    told = json.loads(run("vault", "extend", place, "--key", key, "--until", date, "--json").stdout)
    assert told["until"] == date and told["changed"] == told["objects"] >= 5
    after = locks_of(vault)
    assert all(after[name].until >= parse_time(date) > first[name].until for name in first)
    report = verify(vault, keys=[KEY.verifier], deep=True, now=now())
    assert report.ok and report.events == 2
    lines = run("query", place, "--action", "vault.extend", "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["event"]["context"]["batches"] for line in lines] == [False, True]
    run("vault", "extend", place, "--key", key, "--until", "2020-01-01", code=2)
    run("vault", "extend", place, "--key", key, "--until", "tomorrow", code=2)


def test_a_legal_hold_is_set_and_lifted_for_a_reason(run, service, key, place):
    """Both are sealed; verification names what is held."""
    vault = S3Vault(place, client=service.client("owner"))
    run("init", place, "--key", key, "--retention", "1d", "--yes")
    held = json.loads(run("vault", "hold", place, "--key", key, "--reason", "case 17", "--json").stdout)
    assert held == {"changed": 2, "objects": 2, "reason": "case 17"}
    before = [name for name, lock in locks_of(vault).items() if lock.hold]
    assert before == [entry.key for entry in vault.list() if entry.key.startswith(("catalogs/", "trail/"))]
    report = verify(vault, keys=[KEY.verifier], deep=True, now=now())
    assert report.ok and "legal hold" in str(report.findings)
    assert (
        json.loads(run("vault", "release", place, "--key", key, "--reason", "closed", "--json").stdout)["changed"] == 2
    )
    assert not any(lock.hold for lock in locks_of(vault).values())
    actions = run("query", place, "--kind", "retention", "--format", "csv").stdout
    assert "vault.hold" in actions and "vault.release" in actions and "case 17" in actions
    run("vault", "hold", place, "--key", key, "--reason", " ", code=2)


def test_attempts_of_a_probe_are_sealed_with_their_refusals(run, key, place):
    """The demonstration becomes evidence: an event each, denied where the lock held."""
    run("init", place, "--key", key, "--retention", "1d", "--yes")
    told = json.loads(run("probe", place, "--key", key, "--json").stdout)
    lines = run("query", place, "--action", "vault.probe", "--format", "jsonl").stdout.splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert [event["context"]["attempt"] for event in events] == [each["attempt"] for each in told["attempts"]]
    for event, each in zip(events, told["attempts"], strict=True):
        assert event["outcome"] == ("denied" if each["verdict"] == "held" else "success")
        assert event["context"]["answer"] == each["answer"]


def test_a_new_origin_goes_on_from_a_lost_key_and_proves_no_continuity(run, key, place, tmp_path):
    """Its first record names the last checkpoint; every verification says that this is unproven."""
    run("init", place, "--key", key, "--retention", "1d", "--yes")
    run("vault", "extend", place, "--key", key)
    run("keygen", "acme.example/audit2", "-o", tmp_path)
    other = tmp_path / "next"
    run("init", other, "--key", tmp_path / "acme.example_audit2.key", "--continues", place)
    report = json.loads(run("verify", other, "--json").stdout)
    assert report["ok"] and report["events"] == 1
    (said,) = [text for text in report["unchecked"] if text.startswith("unproven continuity")]
    last = json.loads(run("verify", place, "--json").stdout)["checkpoint"]
    assert f"acme.example/audit at checkpoint {last['size']}, root {last['root']}" in said


def test_only_the_sealers_policy_puts_and_no_policy_but_the_probers_deletes():
    """The least each role needs, below the vault's own prefix."""
    made = policies("s3://bucket/trail")
    allowed = {
        role: {
            action
            for statement in policy["Statement"]
            if statement["Effect"] == "Allow"
            for action in statement["Action"]
        }
        for role, policy in made.items()
    }
    assert not any(action.startswith(("s3:Put", "s3:Delete", "s3:Bypass")) for action in allowed["reader"])
    assert not any(action.startswith(("s3:Delete", "s3:Bypass")) for action in allowed["sealer"])
    assert allowed["nobody"] == set()
    for statement in made["prober"]["Statement"]:
        if "s3:DeleteObjectVersion" in statement["Action"]:
            assert statement["Resource"] == ["arn:aws:s3:::bucket/trail/probe/*"]


class LockingVault(MemoryVault):
    """A vault in memory that keeps locks, and counts how many are asked for at once."""

    lock_enforced = True
    protection = Protection(True, True, "COMPLIANCE", 1)

    def __init__(self):
        super().__init__()
        self.locks, self.at_once, self.most, self.counting = {}, 0, 0, threading.Lock()

    def put(self, key, data, lock=None):
        super().put(key, data, lock)
        self.locks[key] = lock

    def lock_of(self, key, version):
        with self.counting:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        found = self.locks[key]
        with self.counting:
            self.at_once -= 1
        return found

    def extend_lock(self, key, version, lock):
        assert lock.until >= self.locks[key].until
        self.locks[key] = lock

    def set_hold(self, key, version, on):
        before = self.locks[key]
        self.locks[key] = Lock(before.mode, before.until, on)


def test_ten_thousand_locks_are_audited_in_bounded_numbers_with_progress(tmp_path):
    """Every one is asked for, never more than the bound at once, and the bar knows how far it is."""
    vault = LockingVault()
    trail = Trail(None, vault, tmp_path).create(retention=Retention(30, "COMPLIANCE")).seal(1)
    more = {f"catalogs/{n:064x}.toml": b"" for n in range(10_000)}
    vault.objects |= more
    vault.locks |= dict.fromkeys(more, Lock("GOVERNANCE", trail.clock() + DAY))
    seen = []
    report = verify(
        vault,
        deep=True,
        now=trail.clock(),
        lock_progress=lambda done, total: seen.append((done, total)),
        expiring=10 * DAY,
    )
    assert seen[-1] == (len(vault.objects), len(vault.objects)) and len(seen) == len(vault.objects)
    assert vault.most <= CONNECTIONS
    found = [finding for finding in report.findings if finding.check == 7 and "some may lift" in finding.message]
    assert len(found) == 21 and any(f.message.startswith("9,980 more objects") for f in found)


def test_locks_that_end_soon_are_named_by_the_days_asked_for(tmp_path):
    """30 days unless another number is given."""
    vault = LockingVault()
    trail = Trail(None, vault, tmp_path).create(retention=Retention(30, "COMPLIANCE")).seal(1)
    later = trail.clock() + 15 * DAY

    def named(days):
        report = verify(vault, deep=True, now=later, expiring=days * DAY)
        return {finding.object for finding in report.findings if "the lock ends within" in finding.message}

    assert named(10) == set() and len(named(20)) == len(vault.objects)


def test_what_expired_after_it_was_lengthened_is_judged_by_the_longer_lock(tmp_path):
    """A batch that is gone before the sealed extension ended is missing, and expired afterwards."""
    vault = LockingVault()
    trail = Trail(None, vault, tmp_path).create(retention=Retention(30, "COMPLIANCE")).seal(1)
    end = trail.clock() + 90 * DAY
    done = extend(vault, end, trail.clock())
    assert done.changed == done.objects == len(vault.objects)
    with trail.sealer() as sealer:
        from auditlib.announce import own_record
        from auditlib.formats.event import Actor, Target
        from auditlib.formats.times import format_time

        context = {"batches": True, "changed": done.changed, "objects": done.objects, "until": format_time(end)}
        sealer.add(
            [own_record("vault.extend", Actor("ada", None, "user"), Target("t", "trail"), context, trail.clock())]
        )
        sealer.flush()
    del vault.objects[next(key for key in vault.objects if key.startswith(layout.BATCHES))]

    def severity(later):
        report = verify(vault, now=trail.clock() + later)
        return [finding.severity for finding in report.findings if finding.check == 5]

    assert severity(60 * DAY) == ["error"] and severity(91 * DAY) == ["info"]


def test_holds_are_set_once(tmp_path):
    """What is held already is left alone."""
    vault = LockingVault()
    Trail(None, vault, tmp_path).create(retention=Retention(30, "COMPLIANCE")).seal(1)
    assert set_holds(vault, True).changed == len(vault.objects)
    assert set_holds(vault, True).changed == 0
    assert set_holds(vault, False).changed == len(vault.objects)
