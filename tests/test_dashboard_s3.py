"""The page Integrity over a real S3 server: the locks it tells are the storage's, and so are shadows and probes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from dashboards import engagement, until
from s3_service import owner_environment, s3_service
from simulator import CATALOG, KEY, Trail, records

from auditlib.announce import own_record
from auditlib.dashboard.pages.integrity import Integrity
from auditlib.dashboard.signins import SignIns
from auditlib.dashboard.vaults import Vaults
from auditlib.dashboard.visit import Visit
from auditlib.engagements import Engagement
from auditlib.formats.document import Retention
from auditlib.formats.event import Actor, Target
from auditlib.formats.times import format_time
from auditlib.monitor.settings import Settings
from auditlib.requests.places import source_of
from auditlib.vault.probe import probe
from auditlib.vault.s3 import S3Vault

WHOLE = engagement("whole", "ines@auditor.example")
NARROW = engagement("narrow", "omar@auditor.example", kinds=("grant",))


def now() -> int:
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> S3Vault:
    """Two batches under Object Lock, a probe with its attempts, and a newer version over the first batch."""
    service = s3_service()
    vault = S3Vault(f"s3://{service.new_bucket()}/trail", client=service.client())
    trail = Trail(None, vault=vault, state=tmp_path_factory.mktemp("state"))
    trail.clock = now
    trail.create(CATALOG, Retention(2, "COMPLIANCE")).seal(1)
    actor, target = Actor("ada", None, "user"), Target("acme.example/audit", "trail")
    tried = [
        {"attempt": each.attempt, "answer": each.answer, "verdict": each.verdict, "canary": "c1"}
        for each in probe(vault, "c1", now())
    ]
    at = now()
    with trail.sealer() as sealer:
        sealer.add([*records(3, 3), *(own_record("vault.probe", actor, target, each, at) for each in tried)])
        sealer.flush()
    batch = next(entry.key for entry in vault.list("batches/"))
    vault.client.put_object(Bucket=vault.bucket, Key=vault.prefix + batch, Body=b"planted")
    return vault


@pytest.fixture(scope="module")
def desk(sealed: S3Vault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server over it, opened by its address as `auditlib dashboard` opens it, once every record was verified."""
    pool = ThreadPoolExecutor(2)
    with owner_environment():
        vaults = Vaults({"main": source_of(sealed.url, [KEY.verifier])}, tmp_path_factory.mktemp("seen"))
        try:
            until(lambda: not vaults.reading("main"))
            yield SimpleNamespace(
                vaults=vaults,
                engagements=SimpleNamespace(all=lambda: (WHOLE, NARROW)),
                signins=SignIns(now),
                recorder=SimpleNamespace(viewed=lambda *told: "e"),
                pool=pool,
                now=now,
                settings=Settings(),
            )
        finally:
            vaults.close()
            pool.shutdown()


def shown(desk: Any, who: Engagement) -> str:
    view = Integrity(Visit(desk, desk.signins.start(who.identity, "link")[1], "integrity"))
    asyncio.run(view.show())
    return "\n".join(str(each.object) for each in view.panes)


def test_locks_a_shadow_and_a_probe_are_told_as_the_storage_has_them(desk: Any, sealed: S3Vault) -> None:
    """Mode and end asked of the server, a planted newer version named beside what was read, a probe that held."""
    text, history = shown(desk, WHOLE), desk.vaults.find(WHOLE, None)[1].history
    locks, _, rest = text.partition("<h2>Shadows</h2>")
    shadows, _, probes = rest.partition("<h2>Probes</h2>")
    first = history.seals[0].seal.batch.object
    lock = sealed.lock_of(first, history.version_of(first))
    assert lock is not None and lock.mode == "COMPLIANCE" and lock.until > now()
    assert "The bucket keeps every version, its Object Lock is on" in locks and first in locks
    assert "COMPLIANCE" in locks and format_time(lock.until)[:10] in locks and "no lock" not in locks
    assert first in shadows and "newer version" in shadows
    assert "✓ The lock held</span> against" in probes and "delete its version with governance bypass" in probes
    assert sealed.bucket not in text


def test_a_narrow_scope_is_told_none_of_it(desk: Any, sealed: S3Vault) -> None:
    """Neither an object's name nor a lock's end."""
    text = shown(desk, NARROW)
    assert "batches/" not in text and "COMPLIANCE" not in text and "canary" not in text
