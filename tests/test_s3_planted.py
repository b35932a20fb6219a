"""Whoever can write to the storage, and has no key, stops neither the sealer nor a reader."""

import time
from datetime import timedelta

import msgspec
import pytest
from s3_service import s3_service
from simulator import CATALOG, EVIL_KEY, KEY, Trail, records, snapshot

from auditlib import trail as trails
from auditlib.errors import MismatchError
from auditlib.formats import layout, merkle
from auditlib.formats.checkpoint import sign_checkpoint
from auditlib.formats.document import Retention
from auditlib.formats.seal import parse_seal, seal_bytes, seal_hash, sign_seal
from auditlib.vault.s3 import S3Vault
from auditlib.verify import verify

RETENTION = Retention(2, "COMPLIANCE")


def now():
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def service():
    return s3_service()


@pytest.fixture(scope="module")
def bucket(service):
    return service.new_bucket()


@pytest.fixture
def sealed(service, bucket, tmp_path, request):
    vault = S3Vault(f"s3://{bucket}/{abs(hash(request.node.nodeid)):x}", client=service.client())
    trail = Trail(None, vault=vault, state=tmp_path / "state")
    trail.clock = now
    return trail.create(CATALOG, RETENTION).seal(2)


def plant(vault, key, data):
    vault.client.put_object(Bucket=vault.bucket, Key=vault.prefix + key, Body=data)


def next_seal(vault, key=None, **changes):
    last = vault.get(layout.seal_key(1))
    seal = msgspec.structs.replace(parse_seal(last), sequence=2, previous=seal_hash(last), **changes)
    return seal_bytes(sign_seal(seal, key) if key else seal)


PLANTED = {
    "garbage seal": lambda v: (layout.seal_key(2), b"planted"),
    "empty seal": lambda v: (layout.seal_key(2), b""),
    "large seal": lambda v: (layout.seal_key(2), bytes(2_000_000)),
    "seal that fits the chain, signed for another": lambda v: (layout.seal_key(2), next_seal(v)),
    "seal that fits the chain, signed by another": lambda v: (layout.seal_key(2), next_seal(v, EVIL_KEY)),
    "seal replayed": lambda v: (layout.seal_key(2), v.get(layout.seal_key(1))),
    "seal far ahead": lambda v: (layout.seal_key(7), b"planted"),
    "garbage checkpoint": lambda v: (layout.checkpoint_key(3), b"planted"),
    "checkpoint signed by another": lambda v: (
        layout.checkpoint_key(3),
        sign_checkpoint(KEY.name, 3, merkle.EMPTY_ROOT, [EVIL_KEY]),
    ),
    "checkpoint replayed": lambda v: (layout.checkpoint_key(3), v.get(layout.checkpoint_key(2))),
    "checkpoint far ahead": lambda v: (layout.checkpoint_key(999_999), b"planted"),
}


@pytest.mark.parametrize("what", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("when", ["before opening", "while open"])
def test_what_was_planted_where_the_sealer_must_write_is_passed_and_told(sealed, service, what, when, monkeypatch):
    """The sealer writes its own beside it, readers take that one, the report names the other; queries go on."""
    vault = sealed.vault
    if when == "before opening":
        plant(vault, *what(vault))
        assert verify(vault, keys=[KEY.verifier], now=now()).ok
    with sealed.sealer() as sealer:
        if when == "while open":
            plant(vault, *what(vault))
        for batch in (2, 3):
            sealer.add(records(12, 12 * batch))
            sealer.flush()
    report = verify(vault, keys=[KEY.verifier], deep=True, now=now())
    assert report.ok and report.events == 48 and report.checkpoint.size == report.seals == 4, report.findings
    assert what(vault)[0] in {f.object for f in report.findings if f.severity == "warning"}
    monkeypatch.setattr(trails, "open_vault", lambda url: vault)
    with trails.open(vault.url) as opened:
        assert len(opened.events().df()) == 48
    sealed.seal(1, first=48)
    assert verify(vault, keys=[KEY.verifier], now=now()).events == 60


@pytest.mark.parametrize("key", [layout.seal_key(2), layout.checkpoint_key(3)])
def test_a_delete_marker_where_nothing_stands_stops_nobody(sealed, key):
    """Anybody who may delete can put one."""
    sealed.vault.client.delete_object(Bucket=sealed.vault.bucket, Key=sealed.vault.prefix + key)
    sealed.seal(1, first=24)
    assert verify(sealed.vault, keys=[KEY.verifier], deep=True, now=now()).ok


def test_a_page_that_was_planted_is_left_and_told(sealed, monkeypatch):
    """A cache; the seals decide."""
    monkeypatch.setattr(layout, "PAGE", 3)
    with sealed.sealer() as sealer:
        plant(sealed.vault, layout.page_key(0), b"planted")
        sealer.add(records(12, 24))
        sealer.flush()
        sealer.add(records(12, 36))
        sealer.flush()
    report = verify(sealed.vault, keys=[KEY.verifier], deep=True, now=now())
    assert report.ok and report.seals == 4


def test_a_second_sealers_seal_is_not_passed(sealed, tmp_path):
    """Signed by the trail's own key: the sealer stops, whatever garbage stands before."""
    plant(sealed.vault, layout.seal_key(2), b"planted")
    other = Trail(None, vault=sealed.vault, state=tmp_path / "other")
    other.clock = now
    with sealed.sealer() as first, other.sealer() as second:
        first.add(records(12, 24))
        second.add(records(12, 36))
        first.flush()
        before = snapshot(sealed.vault)
        with pytest.raises(MismatchError, match="second sealer"):
            second.flush()
    after = snapshot(sealed.vault)
    assert before.items() <= after.items() and not [key for key in set(after) - set(before) if "batches" not in key]
    assert verify(sealed.vault, keys=[KEY.verifier], deep=True, now=now()).ok


@pytest.mark.parametrize("number", [1, 7])
def test_a_planted_trail_document_stops_no_reader(sealed, number, monkeypatch):
    """Bytes that are none, next to the one in force or far from it: a warning, and questions are answered."""
    plant(sealed.vault, layout.trail_key(number), b"planted")
    monkeypatch.setattr(trails, "open_vault", lambda url: sealed.vault)
    with trails.open(sealed.vault.url, keys=[KEY.verifier]) as trail:
        assert trail.events().count() == 24
    report = sealed.verify(now=now())
    assert report.ok
    assert {(finding.check, finding.severity) for finding in report.findings} == {(4, "warning")}


def test_a_second_history_that_the_key_signed_is_an_error_wherever_it_lies(sealed):
    """Beside a checkpoint that was read, under another's name, or past the newest: the key convicts itself."""
    vault = sealed.vault
    assert sealed.verify(now=now()).ok
    other = merkle.leaf_hash(b"another seal")
    for key, size in ((layout.checkpoint_key(2), 2), (layout.checkpoint_key(2), 1), (layout.checkpoint_key(1), 9)):
        plant(vault, key, sign_checkpoint(KEY.name, size, other, [KEY]))
        found = [finding for finding in sealed.verify(now=now()).findings if finding.severity == "error"]
        assert {finding.check for finding in found} == {1}
        assert f"{key} (version " in found[-1].object or f"{key} (version " in found[0].object


def test_another_version_of_a_checkpoint_that_is_no_other_history_is_a_warning(sealed):
    """A true one put again, under its own or another's name, and one by a stranger's key: told, and nothing more."""
    vault = sealed.vault
    for key, data in (
        (layout.checkpoint_key(2), vault.get(layout.checkpoint_key(2))),
        (layout.checkpoint_key(2), vault.get(layout.checkpoint_key(1))),
        (layout.checkpoint_key(1), sign_checkpoint(KEY.name, 1, merkle.leaf_hash(b"strange"), [EVIL_KEY])),
    ):
        plant(vault, key, data)
    report = sealed.verify(now=now())
    assert report.ok
    assert [finding.check for finding in report.findings if finding.severity == "warning"] == [8, 8, 8]


def test_a_gateway_whose_clock_is_behind_does_not_make_a_shadow_the_original(sealed, service):
    """Ceph stamps a version by the clock of the gateway that took it: the listing's order says which was first."""
    vault = sealed.vault
    first = {entry.key: entry.version for entry in vault.list()}
    for key in (layout.seal_key(1), layout.checkpoint_key(2), layout.trail_key(0)):
        plant(vault, key, b"later")

    def behind(parsed, **_):
        for entry in parsed.get("Versions", []):
            if entry["IsLatest"]:
                entry["LastModified"] -= timedelta(minutes=5)

    client = service.client(read_timeout=11)
    client.meta.events.register("after-call.s3.ListObjectVersions", behind)
    try:
        skewed = S3Vault(vault.url, client=client)
        for key, version in first.items():
            assert next(e.version for e in skewed.list() if e.key == key) == version
            assert skewed.get(key) == vault.get(key, version=version)
    finally:
        client.meta.events.unregister("after-call.s3.ListObjectVersions", behind)
