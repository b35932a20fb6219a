"""A vault in object storage, on a real server here: verified against bare downloading, warm against local."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any
from unittest.mock import patch

import boto3
import numpy as np
from botocore.config import Config

import auditlib
from auditlib.formats.document import Retention
from auditlib.sealer import create_trail, open_sealer
from auditlib.state import SealerState
from auditlib.vault import Vault, open_vault
from auditlib.vault.probe import probe
from auditlib.vault.s3 import CONNECTIONS, S3Vault
from auditlib.verify import verify
from benchmarks.data import CATALOG, KEY, NOW, SEED, generate
from benchmarks.measure import Row, best, race, row, seconds
from benchmarks.queries import QUESTIONS

SEALS = 666  # with batches and checkpoints 1,998 objects; with the trail document and the catalogue 2,000
BATCH_EVENTS = 1_000  # what a middling company records in an hour or two
PROBE_SECONDS = 10  # the aim
BUCKET = "auditlib-bench"
SERVICES = Path(__file__).parents[1] / "tests" / "services"
NO_SERVICE = 77  # s3-start's exit code: it cannot be had on this machine
# A process of its own: how long the question takes there, from the vault's name to the table.
_ASK = """
import sys, time, auditlib
from benchmarks.queries import QUESTIONS
question, _ = QUESTIONS[sys.argv[3]]
start = time.perf_counter()
with auditlib.open(sys.argv[1], keys=sys.argv[2]) as trail:
    question(trail)
print(time.perf_counter() - start)
"""


def rows(seals: int = SEALS) -> Iterator[Row]:
    with TemporaryDirectory(prefix="auditlib-bench-") as folder, _service(Path(folder) / "s3") as running:
        if not running:
            return
        with patch.dict(os.environ, AUDITLIB_CACHE=str(Path(folder) / "cache")):
            local = _sealed(Path(folder), seals)
            remote = S3Vault(f"s3://{BUCKET}/vault")
            keys = _upload(local, remote)
            yield _verified(remote, keys)
            yield from _warm(remote, local, seals)
            yield _probed()


@contextmanager
def _service(folder: Path) -> Iterator[bool]:
    """Whether there is a server, named by the environment as boto3 wants it; gone afterwards."""
    with TemporaryFile("w+") as said:  # a pipe would stay open for as long as a daemon holds it
        done = subprocess.run([SERVICES / "s3-start", folder], stdout=subprocess.DEVNULL, stderr=said, check=False)
        said.seek(0)
        complaint = said.read().strip()
    if done.returncode == NO_SERVICE:
        print(f"The benchmarks of object storage were left out. {complaint}")
        yield False
        return
    try:
        done.check_returncode()
        lines = (folder / "s3.env").read_text().splitlines()
        found = dict(line.removeprefix("AUDITLIB_TEST_S3_").split("=", 1) for line in lines)
        environment = {
            "AWS_ACCESS_KEY_ID": found["OWNER_KEY"],
            "AWS_SECRET_ACCESS_KEY": found["OWNER_SECRET"],
            "AWS_DEFAULT_REGION": found["REGION"],
            "AWS_ENDPOINT_URL_S3": found["ENDPOINT"],
            "NO_PROXY": "127.0.0.1",
        }
        with patch.dict(os.environ, environment):
            yield True
    finally:
        subprocess.run([SERVICES / "s3-stop", folder], stdout=subprocess.DEVNULL, check=True)


def _sealed(folder: Path, seals: int) -> Vault:
    """Many small batches in a directory."""
    table = generate(seals * BATCH_EVENTS)
    vault = open_vault(str(folder / "vault"), create=True)
    create_trail(vault, KEY, Retention(2557, "COMPLIANCE"), CATALOG, now=0)
    state = SealerState(folder / "state", KEY.verifier)
    draw = np.random.default_rng(SEED + 1)
    with open_sealer(vault, KEY, state, now=lambda: NOW, random=draw.bytes) as sealer:
        for start in range(0, table.num_rows, BATCH_EVENTS):
            sealer._seal(table.slice(start, BATCH_EVENTS).combine_chunks())
    return vault


def _upload(local: Vault, remote: S3Vault) -> list[str]:
    """The same objects in a bucket, put as fast as can be and unlocked; their keys there."""
    remote.client.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    root = Path(local.url)
    names = [entry.key for entry in local.list()]

    def put(name: str) -> None:
        remote.client.put_object(Bucket=BUCKET, Key=remote.prefix + name, Body=(root / name).read_bytes())

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(put, names))
    return [remote.prefix + name for name in names]


def _verified(remote: S3Vault, keys: list[str]) -> Row:
    client = boto3.Session().client("s3", config=Config(max_pool_connections=CONNECTIONS))

    def download(key: str) -> int:
        return len(client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def bare() -> int:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return sum(pool.map(download, keys))

    ours, limit = race(lambda: _verify(remote), bare, rounds=7)
    note = (
        f"{len(keys):,} objects, {bare() / 1e6:.0f} MB: listed, read and verified (checks 0 to 5, 8, 9); limit: the "
        f"same objects, their names known, by boto3 on {CONNECTIONS} threads and looked at by nobody; server and "
        "client share the machine's cores. Aim: 1.2"
    )
    return row("verification over object storage", ours, limit, "s", note)


def _verify(vault: Vault) -> None:
    report = verify(vault, keys=[KEY.verifier], now=NOW)
    assert report.ok, report.errors


def _warm(remote: Vault, local: Vault, seals: int) -> Iterator[Row]:
    asked = f"{seals * BATCH_EVENTS:,} events, {seals} batches; limit: a copy of the vault in a directory"
    with auditlib.open(remote.url, keys=KEY.verifier) as far, auditlib.open(local.url, keys=KEY.verifier) as near:
        for name, (question, _) in QUESTIONS.items():
            assert question(far) == question(near)
            ours, limit = race(
                lambda question=question: question(far), lambda question=question: question(near), rounds=15
            )
            note = f"{asked}; both hashed earlier by this process. Aim: 1.1"
            yield row(f"warm query over object storage: {name}", ours * 1e3, limit * 1e3, "ms", note)
    name = next(iter(QUESTIONS))
    ours, limit = best(lambda: _elsewhere(remote, name), lambda: _elsewhere(local, name), rounds=5)
    note = (
        f"{asked}; a new process: the listing, the checkpoint and every seal come from the storage, every batch from "
        "the cache, hashed. boto3 is imported meanwhile"
    )
    yield row(f"second process over object storage: {name}", ours * 1e3, limit * 1e3, "ms", note)
    with patch.dict(os.environ, AUDITLIB_CACHE_BYTES="0"):
        uncached = min(_elsewhere(remote, name) for _ in range(3))
    note = f"{asked}; ours as before, limit: the same without a cache, so that each batch comes from the storage"
    yield row(f"second process, cache beside none: {name}", ours * 1e3, uncached * 1e3, "ms", note)


def _elsewhere(vault: Vault, question: str) -> float:
    """Seconds that a question takes in another process."""
    command = [sys.executable, "-c", _ASK, vault.url, str(KEY.verifier), question]
    done: Any = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _probed() -> Row:
    vault = S3Vault(f"s3://{BUCKET}/probed")
    taken = seconds(lambda: probe(vault, "bench", time.time_ns() // 1000))
    return row("probe", taken, PROBE_SECONDS, "s", "all attempts against a locked canary, once; limit: the aim")
