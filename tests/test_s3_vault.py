"""A vault in object storage, on a real server: the common suite, locks, shadows, faults on the way."""

import time

import pytest
from faulty_proxy import FaultyProxy, Reset, Status, Truncate
from s3_service import s3_service
from simulator import CATALOG, KEY, Trail, records, snapshot
from vault_suite import KEY as OBJECT
from vault_suite import VaultSuite

from auditlib.copying import copy_vault
from auditlib.errors import MalformedError, MismatchError, UnavailableError
from auditlib.formats import layout
from auditlib.formats.document import Retention
from auditlib.vault import Lock, open_vault
from auditlib.vault.s3 import S3Vault
from auditlib.verify import verify

DAY = 86_400_000_000  # microseconds
RETENTION = Retention(1, "COMPLIANCE")


def now():
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def service():
    return s3_service()


@pytest.fixture(scope="module")
def bucket(service):
    return service.new_bucket()


@pytest.fixture
def vault(service, bucket, request):
    return S3Vault(f"s3://{bucket}/{abs(hash(request.node.nodeid)):x}", client=service.client("owner"))


@pytest.fixture
def sealed(vault, tmp_path):
    """Three batches sealed into the bucket by the real sealer, on the real clock."""
    trail = Trail(None, vault=vault, state=tmp_path / "state")
    trail.clock = now
    return trail.create(CATALOG, RETENTION).seal(3)


def check(vault, **options):
    return verify(vault, keys=[KEY.verifier], now=now(), **options)


def told(report, number):
    return [(f.severity, f.object) for f in report.findings if f.check == number]


class TestS3Vault(VaultSuite):
    """A prefix in a bucket keeps the same contract as a directory."""


def test_every_object_is_locked_as_the_trail_promises(sealed):
    """COMPLIANCE until at least the retention after the seal, on every version; nothing else is found."""
    for entry in sealed.vault.list():
        lock = sealed.vault.lock_of(entry.key, entry.version)
        assert lock.mode == "COMPLIANCE" and lock.until > now() + DAY - 600_000_000
    report = check(sealed.vault, deep=True)
    assert report.ok and {severity for severity, _ in told(report, 7)} <= {"info"}, report.findings
    assert not any(text.startswith("7") for text in report.unchecked)


def test_a_bucket_without_object_lock_gets_nothing(service, tmp_path):
    """A lock that would not hold is an error before anything is written."""
    vault = S3Vault(f"s3://{service.new_bucket(lock=False)}/v", client=service.client("owner"))
    trail = Trail(tmp_path, vault=vault)
    trail.clock = now
    with pytest.raises(MismatchError, match="no retention locks"):
        trail.create(CATALOG, RETENTION)
    assert snapshot(vault) == {}


def test_a_lock_that_the_server_dropped_in_silence_is_noticed(vault, monkeypatch):
    """The object stands there without its lock: the put fails before a seal could follow it."""
    put = vault.client.put_object

    def dropping(**arguments):
        return put(**{name: value for name, value in arguments.items() if not name.startswith("ObjectLock")})

    monkeypatch.setattr(vault.client, "put_object", dropping)
    with pytest.raises(MismatchError, match="did not lock it"):
        vault.put(OBJECT, b"one", Lock("COMPLIANCE", now() + DAY))


def test_shadows_are_read_through_and_told(sealed, service):
    """Newer versions over seal, batch and document, a marker over the newest checkpoint: all stays as it was."""
    before, client = check(sealed.vault, deep=True), service.client("owner")
    batch = next(entry.key for entry in sealed.vault.list("batches"))
    for key in (layout.seal_key(1), batch, layout.trail_key(0)):
        client.put_object(Bucket=sealed.vault.bucket, Key=sealed.vault.prefix + key, Body=b"garbage")
    marked = layout.checkpoint_key(3)
    client.delete_object(Bucket=sealed.vault.bucket, Key=sealed.vault.prefix + marked)
    after = check(sealed.vault, deep=True)
    assert after.ok and (after.events, after.checkpoint) == (before.events, before.checkpoint)
    assert told(after, 8) == [
        ("warning", key) for key in sorted([layout.seal_key(1), batch, layout.trail_key(0), marked])
    ]


def test_a_shadowed_trail_is_sealed_on(sealed, service):
    """Whoever shadows an object does not stop the sealer."""
    key = sealed.vault.prefix + layout.checkpoint_key(3)
    service.client("owner").delete_object(Bucket=sealed.vault.bucket, Key=key)
    sealed.seal(1, first=100)
    report = check(sealed.vault, deep=True)
    assert report.ok and report.seals == 4


def test_a_read_only_identity_cannot_write_and_reads_everything(sealed, service):
    """Every write is refused with a sentence; verification needs no more than reading."""
    vault = S3Vault(sealed.vault.url, client=service.client("readonly"))
    with pytest.raises(UnavailableError, match="refused these credentials"):
        vault.put("seals/000000/000000000099.json", b"x", Lock("COMPLIANCE", now() + DAY))
    assert check(vault, deep=True).ok


def test_what_is_not_there_is_said(service):
    """A bucket that is missing, an address that is none."""
    with pytest.raises(MalformedError, match="no such bucket"):
        list(S3Vault("s3://auditlib-no-such-bucket/v", client=service.client("owner")).list())
    with pytest.raises(MalformedError, match="names no bucket"):
        S3Vault("s3://", client=service.client("owner"))


@pytest.mark.parametrize("fault", [Status(503), Reset(), Truncate(10)], ids=["503", "reset", "truncated"])
def test_a_fault_on_the_way_is_tried_again(sealed, service, fault, monkeypatch):
    """One bad answer to a read costs a second request; credentials and endpoint come the boto3 way."""
    with FaultyProxy(service.endpoint) as proxy:
        credentials = service.client("owner")._request_signer._credentials
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", credentials.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", credentials.secret_key)
        monkeypatch.setenv("AWS_DEFAULT_REGION", service.client("owner").meta.region_name)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        proxy.add(fault, method="GET", path=r"\.parquet", nth=1)
        report = check(open_vault(sealed.vault.url), deep=True)
    assert report.ok and told(report, 5) == []


def test_a_storage_that_stays_away_is_unavailable_and_no_finding(sealed, service):
    """Exit code 3 and not 1: nothing is known to be wrong."""
    with FaultyProxy(service.endpoint) as proxy:
        client = service.client("owner", endpoint=proxy.endpoint)
        proxy.add(Status(503), method="GET")
        with pytest.raises(UnavailableError, match="answered"):
            check(S3Vault(sealed.vault.url, client=client))


def test_a_put_whose_answer_was_lost_is_finished_by_the_next_run(sealed, service):
    """The object is there, the sealer does not know: the run fails, the next one goes on, nothing is sealed twice."""
    with FaultyProxy(service.endpoint) as proxy:
        client = service.client("owner", endpoint=proxy.endpoint)
        proxy.add(Reset(after=True), method="PUT", path="seals", nth=1)
        vault = S3Vault(sealed.vault.url, client=client)
        with pytest.raises(UnavailableError), sealed.sealer(vault=vault) as sealer:
            sealer.add(records(12, 100))
            sealer.flush()
    sealed.seal(1, first=100)
    report = check(sealed.vault, deep=True)
    assert report.ok and report.events == 48


def test_a_directory_is_copied_into_object_storage(service, bucket, tmp_path):
    """Every object locked as long as the trail promises; the copy verifies against the directory's checkpoint."""
    local = Trail(tmp_path)
    local.clock = now
    local.create(CATALOG, RETENTION).seal(2)
    target = S3Vault(f"s3://{bucket}/copied", client=service.client("owner"))
    done = copy_vault(local.vault, target, keys=[KEY.verifier], now=now())
    assert done.report.ok and (done.put, done.there) == (8, 0)
    assert copy_vault(local.vault, target, keys=[KEY.verifier], now=now()).put == 0
    assert [severity for severity, _ in told(check(target, deep=True), 7) if severity != "info"] == []
