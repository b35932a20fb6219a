"""The probe says whether a lock holds: on a real server that enforces it, and on a stand-in that does not."""

import time

import pytest
from s3_service import s3_service

from auditlib.vault.probe import probe
from auditlib.vault.s3 import S3Vault


def now():
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def service():
    return s3_service()


def test_a_lock_that_holds_is_seen_to_hold(service):
    """Every attempt that must be refused is, and nothing but the probe's own canary was touched."""
    vault = S3Vault(f"s3://{service.new_bucket()}/v", client=service.client("owner"))
    vault.put("evidence/1", b"real")
    attempts = probe(vault, "canary", now())
    assert {attempt.verdict for attempt in attempts} == {"held", "noted"}, attempts
    assert len(attempts) == 11 and sum(attempt.verdict == "noted" for attempt in attempts) == 2
    assert {entry.key for entry in vault.list()} == {"evidence/1", "probe/canary"}
    assert vault.get("evidence/1") == b"real"
    assert vault.protection.versioning


class LocksNothing:
    """A server that takes every lock and keeps none: it says what was asked of it, and deletes all the same."""

    def __init__(self, client):
        self.client = client
        self.locks = {}

    def __getattr__(self, name):
        return getattr(self.client, name)

    def put_object(self, **arguments):
        lock = {name: arguments.pop(name) for name in list(arguments) if name.startswith("ObjectLock")}
        answer = self.client.put_object(**arguments)
        self.locks[answer["VersionId"]] = lock
        return answer

    def head_object(self, **arguments):
        return self.client.head_object(**arguments) | self.locks.get(arguments["VersionId"], {})

    def put_object_retention(self, **arguments):
        return {}


def test_a_server_that_ignores_locks_is_found_out(service):
    """It confirmed the lock, and then let the canary go."""
    bucket = service.new_bucket(lock=False)
    vault = S3Vault(f"s3://{bucket}/v", client=LocksNothing(service.client("owner")))
    verdicts = {attempt.attempt: attempt.verdict for attempt in probe(vault, "canary", now())}
    assert verdicts["shorten its retention"] == "broken"
    assert verdicts["suspend the bucket's versioning"] == "broken"
    assert verdicts["delete its version"] == "broken"
    assert verdicts["overwrite it"] == "held"
