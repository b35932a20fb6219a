"""A real S3 server with Object Lock for the tests, and three identities on it: owner, readonly, operator.

Where it comes from:

1. `AUDITLIB_TEST_S3_ENDPOINT` names one, with `_REGION` (else us-east-1), `_OWNER_KEY`, `_OWNER_SECRET` and, for the
   tests that need them, `_READONLY_KEY`, `_READONLY_SECRET`, `_OPERATOR_KEY`, `_OPERATOR_SECRET`. `_OWNER_ARN`,
   `_READONLY_ARN` and `_OPERATOR_ARN` are who the bucket policies name; an identity without one must hold its rights
   already. What the tests lock by COMPLIANCE stays there until it expires.
2. Otherwise `tests/services/s3-start` starts one, in `AUDITLIB_TEST_S3_FOLDER` or its default folder. Several test
   processes (xdist, two checkouts) share it; the last to leave stops it. One that ran before, started by hand, is used
   and left running; its `s3.env` holds the variables of 1.
3. Where neither can be, the tests are skipped with the reason. With CI=true they fail instead: a lock test that did
   not run proves nothing.

    service = s3_service()
    bucket = service.new_bucket(default_retention=("GOVERNANCE", 1))
    service.client("operator").put_object(Bucket=bucket, Key="a", Body=b"1")

`kill_gateway()` and `kill_osd()` take the server away from whoever else is using it; tests that crash it take their own
by `own_s3_service(folder)`.
"""

import atexit
import contextlib
import fcntl
import functools
import json
import os
import shlex
import signal
import subprocess
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

SERVICES = Path(__file__).parent / "services"
PREFIX = "AUDITLIB_TEST_S3_"
NO_SERVICE = 77  # s3-start's exit code: it cannot be had on this machine
START_SECONDS = 600  # the packages may have to come first; without that it takes 5 s

READ_BUCKET = [
    "s3:GetBucketLocation",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketVersioning",
    "s3:ListBucket",
    "s3:ListBucketVersions",
]
READ_OBJECTS = ["s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention", "s3:GetObjectLegalHold"]
# All an operator's daily work needs; s3:BypassGovernanceRetention is not among it.
WRITE_OBJECTS = ["s3:PutObject", "s3:PutObjectRetention", "s3:DeleteObject", "s3:DeleteObjectVersion"]


def unavailable(reason: str) -> NoReturn:
    """Skip the test with the reason; on CI, where the service belongs, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true, and there is no S3 service: {reason}", pytrace=False)
    pytest.skip(f"no S3 service: {reason}")


def refusal(call, **arguments) -> tuple[int, str]:
    """Status and code with which the server refuses a call; an AssertionError when it does not.

    Never the message: Ceph 16.2 often sends none.
    """
    from botocore.exceptions import ClientError

    try:
        call(**arguments)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"].get("Code", "")
    raise AssertionError(f"{call.__name__} was allowed: {arguments}")


@dataclass(frozen=True)
class Identity:
    """An access key; `arn` is who a bucket policy names, where it can."""

    key: str
    secret: str
    arn: str | None = None


class S3Service:
    """An endpoint, its identities, and, where the tests started it, its life and death."""

    def __init__(self, variables: dict[str, str]):
        """Take the variables of the module's docstring, without their common prefix."""
        if missing := [name for name in ("OWNER_KEY", "OWNER_SECRET") if not variables.get(name)]:
            raise ValueError(f"{PREFIX}ENDPOINT is set, but not {', '.join(PREFIX + name for name in missing)}")
        self.endpoint = variables["ENDPOINT"]
        self.region = variables.get("REGION", "us-east-1")
        self.folder = Path(variables["FOLDER"]) if "FOLDER" in variables else None
        self.identities = {}
        for name in ("owner", "readonly", "operator"):
            key, secret, arn = (variables.get(f"{name}_{part}".upper()) for part in ("key", "secret", "arn"))
            if key and secret:
                self.identities[name] = Identity(key, secret, arn)
        self._clients: dict[tuple, object] = {}

    # ------------------------------------------------------------------------------------------------ clients

    def client(self, identity: str = "owner", endpoint: str | None = None, **config):
        """A boto3 S3 client, made once: no retries, short timeouts.

        `endpoint` leads it through a proxy; `config` is botocore's.
        Checksums only where an operation requires them: Ceph 16.2 knows none of the newer ones.
        """
        import boto3
        from botocore.config import Config

        if identity not in self.identities:
            unavailable(f"{PREFIX}{identity.upper()}_KEY is not set")
        name = (identity, endpoint, *sorted(config.items()))
        if name not in self._clients:
            settings = {
                "s3": {"addressing_style": "path"},
                "signature_version": "s3v4",
                "retries": {"total_max_attempts": 1},
                "connect_timeout": 2,
                "read_timeout": 10,  # seconds
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            }
            if self.folder or endpoint:
                settings["proxies"] = {}  # loopback is never reached through $http_proxy
            who = self.identities[identity]
            self._clients[name] = boto3.client(
                "s3",
                endpoint_url=endpoint or self.endpoint,
                region_name=self.region,
                aws_access_key_id=who.key,
                aws_secret_access_key=who.secret,
                config=Config(**(settings | config)),
            )
        return self._clients[name]

    def new_bucket(self, lock=True, versioning=True, default_retention=None, deny_bypass=False) -> str:
        """A bucket of the owner's with a new name, readable by `readonly` and writable by `operator`.

        `lock` implies versioning; `default_retention` is (mode, days); `deny_bypass` forbids the operator outright what
        it was never given, s3:BypassGovernanceRetention, because Ceph 16.2 asks for no more than that.
        """
        owner = self.client()
        bucket = f"auditlib-test-{uuid.uuid4().hex}"
        place = {} if self.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        owner.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=lock, **place)
        if versioning and not lock:
            owner.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        if default_retention:
            mode, days = default_retention
            owner.put_object_lock_configuration(
                Bucket=bucket,
                ObjectLockConfiguration={
                    "ObjectLockEnabled": "Enabled",
                    "Rule": {"DefaultRetention": {"Mode": mode, "Days": days}},
                },
            )
        if statements := list(self._statements(bucket, deny_bypass)):
            owner.put_bucket_policy(
                Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": statements})
            )
        return bucket

    def _statements(self, bucket: str, deny_bypass: bool):
        whole, objects = f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"
        # On Ceph, as on AWS before 2023, an object belongs to who wrote it; the bucket's owner needs leave to read it.
        given = {"owner": ["s3:*"], "readonly": READ_OBJECTS, "operator": READ_OBJECTS + WRITE_OBJECTS}
        for name, actions in given.items():
            if name in self.identities and (arn := self.identities[name].arn):
                who = {"AWS": [arn]}
                yield {"Effect": "Allow", "Principal": who, "Action": READ_BUCKET, "Resource": whole}
                yield {"Effect": "Allow", "Principal": who, "Action": actions, "Resource": objects}
                if deny_bypass and name == "operator":
                    denied = ["s3:BypassGovernanceRetention"]
                    yield {"Effect": "Deny", "Principal": who, "Action": denied, "Resource": objects}

    # -------------------------------------------------------------------------------------------- life and death

    def pids(self) -> dict[str, int]:
        """The running daemons, mon, osd and rgw, of a service that the tests may kill."""
        if self.folder is None:
            pytest.skip(f"the S3 server that {PREFIX}ENDPOINT names is not ours to kill")
        conf = str(self.folder / "ceph.conf").encode()
        found = {}
        for name in ("mon", "osd", "rgw"):
            with contextlib.suppress(OSError, ValueError):  # no pid file; no such process
                pid = int((self.folder / f"{name}.pid").read_text())
                if conf in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found[name] = pid
        return found

    def _kill(self, name: str) -> None:
        os.kill(self.pids()[name], signal.SIGKILL)
        while name in self.pids():
            time.sleep(0.01)

    def kill_gateway(self) -> None:
        """End the S3 front end as a crash does (kill -9); connections are refused until `restart()`."""
        self._kill("rgw")

    def kill_osd(self) -> None:
        """End the disk process as a crash does (kill -9); requests hang until `restart()`."""
        self._kill("osd")

    def restart(self) -> None:
        """Start again whatever is dead, over its old data; return once the server answers."""
        self.pids()
        start(self.folder)

    def close_clients(self) -> None:
        """Close the connections of every client."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()


# ------------------------------------------------------------------------------------------------ starting, stopping


def start(folder: Path) -> dict[str, str]:
    """Run s3-start; the variables it wrote, without their prefix."""
    # Its output goes to a file: a pipe would stay open for as long as a daemon holds it.
    with tempfile.TemporaryFile() as said:
        script = [SERVICES / "s3-start", folder]
        done = subprocess.run(script, stdout=subprocess.DEVNULL, stderr=said, timeout=START_SECONDS, check=False)
        said.seek(0)
        complaint = said.read().decode(errors="replace").strip()
    if done.returncode == NO_SERVICE:
        unavailable(complaint)
    if done.returncode:
        pytest.fail(f"s3-start ended with {done.returncode}:\n{complaint}", pytrace=False)
    return variables_of((folder / "s3.env").read_text())


def stop(folder: Path) -> None:
    """Run s3-stop: no process and no file is left."""
    subprocess.run([SERVICES / "s3-stop", folder], timeout=180, check=True)


def variables_of(text: str) -> dict[str, str]:
    """`AUDITLIB_TEST_S3_A=b` lines as {"A": "b"}."""
    pairs = (line.split("=", 1) for line in shlex.split(text))
    return {name.removeprefix(PREFIX): value for name, value in pairs if name.startswith(PREFIX)}


def require_boto3() -> None:
    """Skip or fail like a missing service."""
    try:
        import boto3  # noqa: F401
    except ImportError:
        unavailable("boto3 is not installed")


def default_folder() -> Path:
    """Where s3-start starts it unless told otherwise."""
    default = Path(os.environ.get("TMPDIR") or "/tmp") / f"auditlib-s3-{os.getuid()}"
    return Path(os.environ.get(f"{PREFIX}FOLDER") or default)


@functools.cache
def _shared() -> tuple[S3Service, contextlib.ExitStack]:
    stack = contextlib.ExitStack()
    given = {name.removeprefix(PREFIX): value for name, value in os.environ.items() if name.startswith(PREFIX)}
    service = S3Service(given if given.get("ENDPOINT") else stack.enter_context(_joined(default_folder())))
    stack.callback(service.close_clients)
    atexit.register(stack.close)
    return service, stack


@contextlib.contextmanager
def _joined(folder: Path):
    """The variables of the service in this folder, started unless it runs; the last process to leave stops it.

    Each process holds a shared lock on `<folder>.users` while it uses the service; who gets it alone is the last. The
    kernel drops the lock of a killed process, and the next session finds, uses and stops what that one left behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    started_by_tests = folder / "started-by-tests"
    with Path(f"{folder}.users").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        found = (folder / "s3.env").exists()
        variables = start(folder)
        if not found:
            started_by_tests.touch()
        try:
            yield variables
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if started_by_tests.exists():
                    stop(folder)


def s3_service() -> S3Service:
    """The S3 service of this test session; skips, or on CI fails, where there is none."""
    require_boto3()
    return _shared()[0]


@contextlib.contextmanager
def owner_environment(**more: str):
    """What this process, and those it starts, need to reach the storage by its address; afterwards all is as before."""
    service, kept = s3_service(), dict(os.environ)
    who = service.identities["owner"]
    os.environ.update(
        AWS_ACCESS_KEY_ID=who.key,
        AWS_SECRET_ACCESS_KEY=who.secret,
        AWS_ENDPOINT_URL_S3=service.endpoint,
        AWS_DEFAULT_REGION=service.region,
        **more,
    )
    try:
        yield service
    finally:
        os.environ.clear()
        os.environ.update(kept)


def leave_s3_service() -> None:
    """End this process's use of it: for a session fixture's teardown; a process that forgets does so at its exit."""
    if _shared.cache_info().currsize:
        _shared()[1].close()
        _shared.cache_clear()


@contextlib.contextmanager
def own_s3_service(folder: Path, keep: bool = False):
    """A second service in `folder` that nobody else uses, for tests that crash it; takes 5 s to start.

    Stopped and removed at the end, unless `keep`.
    """
    require_boto3()
    try:
        service = S3Service(start(folder))
        yield service
        service.close_clients()
    finally:
        if not keep:
            stop(folder)
