"""A vault in object storage: S3 with versioning and Object Lock, read back distrusting the server.

    s3://bucket/prefix/trail/000000.json ...      credentials and endpoint the boto3 way

A put is whole (no multipart: some servers drop the lock on one without a word), carries its MD5, and counts only once
its version, its lock and its place as the oldest version of its key were read back. Deleting or overwriting a locked
object leaves the version that was there; so every listing is of versions, with their delete markers, oldest first.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from auditlib.errors import MalformedError, MismatchError, MissingError, UnavailableError
from auditlib.formats.layout import check_key
from auditlib.formats.times import from_datetime, to_datetime
from auditlib.vault import MAX_DOCUMENT_BYTES, ExistsError, Lock, Protection, Stored

MAX_PUT_BYTES = 5 * 1024**3  # bytes of one put, S3's limit without multipart
CONNECTIONS = 16  # kept open at once
_CLIENT = Config(
    connect_timeout=10,  # seconds
    read_timeout=60,  # seconds
    retries={"mode": "standard", "total_max_attempts": 10},  # pauses double from 0.05 s on: some 13 s in all, a restart
    max_pool_connections=CONNECTIONS,
    parameter_validation=False,  # of arguments that are made here; it takes a twentieth of a request's time
    request_checksum_calculation="when_required",  # Content-MD5 is sent instead; older servers know no other
    response_checksum_validation="when_required",
)
_READ_ATTEMPTS = 3  # a body cut short is asked for again
_MISSING = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_REFUSED = {"AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "UserSuspended"}
_EXPIRED = {"ExpiredToken", "TokenRefreshRequired", "RequestExpired"}

T = TypeVar("T")


class S3Vault:
    """A bucket, or a prefix in one, as a vault; see `auditlib.vault.Vault` for the contract."""

    def __init__(self, url: str, *, client: Any = None) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise MalformedError("this names no bucket.", where=url, remedy="Write s3://bucket or s3://bucket/prefix.")
        self.url = url
        self.bucket = bucket
        self.prefix = check_key(prefix.strip("/")) + "/" if prefix.strip("/") else ""
        # A session of its own: boto3's default one remembers the credentials of its first use for as long as it lives.
        self.client = client or boto3.Session().client("s3", config=_CLIENT)

    @property
    def protection(self) -> Protection:
        """What the bucket says of itself: versioning, Object Lock, default retention."""
        versioning = self._call("", lambda: self.client.get_bucket_versioning(Bucket=self.bucket))
        try:
            rules = self.client.get_object_lock_configuration(Bucket=self.bucket).get("ObjectLockConfiguration", {})
        except ClientError as error:
            if error_code(error) not in ("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration"):
                raise self._error(error, "") from None
            rules = {}
        except BotoCoreError as error:
            raise self._error(error, "") from None
        default = rules.get("Rule", {}).get("DefaultRetention", {})
        return Protection(
            versioning=versioning.get("Status") == "Enabled",
            locking=rules.get("ObjectLockEnabled") == "Enabled",
            default_mode=default.get("Mode", ""),
            default_days=default.get("Days", 0) or 365 * default.get("Years", 0),
        )

    @property
    def lock_enforced(self) -> bool:
        """Whether the bucket keeps versions and enforces locks."""
        protection = self.protection
        return protection.versioning and protection.locking

    def prepare(self, mode: str, days: int) -> str:
        """Make the bucket, with versions, Object Lock and a default retention, or check that it has them.

        Returns what was done or found. MalformedError where the bucket is there without Object Lock: nothing that is
        stored in it before could be trusted, and other things in it would be locked too.
        """
        try:
            self.client.head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if error_code(error) not in ("404", "NoSuchBucket", "NotFound"):
                raise self._error(error, "") from None
        except BotoCoreError as error:
            raise self._error(error, "") from None
        else:
            found = self.protection
            if not (found.versioning and found.locking):
                raise MalformedError(
                    "the bucket is there, and has no Object Lock; nothing was written.",
                    where=self.url,
                    remedy="Name a bucket that is not there yet: it is made with Object Lock.",
                )
            default = f"{found.default_mode} for {found.default_days:,} days" if found.default_mode else "nothing"
            return f"bucket {self.bucket} was there: versions, Object Lock, by default it locks {default}."
        region = self.client.meta.region_name
        place = {} if region in (None, "", "us-east-1") else {"LocationConstraint": region}
        extra = {"CreateBucketConfiguration": place} if place else {}
        self._call("", lambda: self.client.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=True, **extra))
        rule = {"DefaultRetention": {"Mode": mode, "Days": days}}
        self._call(
            "",
            lambda: self.client.put_object_lock_configuration(
                Bucket=self.bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
            ),
        )
        if not self.lock_enforced:
            raise MismatchError(
                "the server made the bucket without versions or Object Lock.",
                where=self.url,
                remedy="This storage cannot hold a vault.",
                expected="both enabled",
                found=str(self.protection),
            )
        return f"bucket {self.bucket} was made: versions, Object Lock, by default {mode} for {days:,} days."

    def put(self, key: str, data: bytes, lock: Lock | None = None) -> None:
        """See Vault.put. Asks for the condition "not there yet" and does not rely on it: not all servers honour it."""
        if self._versions(key):
            raise self._exists(key)
        self._check_first(key, self._put(key, data, lock, {"IfNoneMatch": "*"}), lambda data: data)

    def put_past(self, key: str, data: bytes, lock: Lock, fits: Callable[[bytes], Any]) -> None:
        """See Versioned.put_past. Which of two writers was first, the order of the server's own listing decides."""
        versions = self._versions(key)
        if self._oldest(key, versions, fits):
            raise self._exists(key)
        self._check_first(key, self._put(key, data, lock, {} if versions else {"IfNoneMatch": "*"}), fits)

    def _put(self, key: str, data: bytes, lock: Lock | None, condition: dict[str, str]) -> str:
        """Put one version, whatever stands there, and read its lock back; the version, '' where there are none."""
        if len(data) > MAX_PUT_BYTES:
            raise MalformedError(f"{len(data):,} bytes is past what one put takes.", where=self._where(key))
        arguments: dict[str, Any] = {
            "Bucket": self.bucket,
            "Key": self.prefix + check_key(key),
            "Body": data,
            "ContentMD5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),
            **condition,
        }
        if lock:
            arguments |= {"ObjectLockMode": lock.mode, "ObjectLockRetainUntilDate": to_datetime(lock.until)}
        try:
            answer = self.client.put_object(**arguments)
        except ClientError as error:
            if error_code(error) in _TAKEN:
                raise self._exists(key) from None
            if lock and error_code(error) == "InvalidRequest":
                raise MismatchError(
                    "the bucket takes no retention locks; nothing was written.",
                    where=self._where(key),
                    remedy="Use a bucket made with Object Lock.",
                    expected=f"{lock.mode} until {to_datetime(lock.until).isoformat()}",
                    found="InvalidRequest",
                ) from None
            if lock and error_code(error) == "InvalidArgument":
                raise UnavailableError(
                    f"the storage refused a lock until {to_datetime(lock.until).isoformat()} (InvalidArgument): "
                    "that may be past by its clock.",
                    where=self._where(key),
                    remedy="Set this machine's clock.",
                ) from None
            raise self._error(error, key) from None
        except BotoCoreError as error:
            raise self._error(error, key) from None
        version: str = answer.get("VersionId", "")
        if lock:
            self._check_locked(key, version, lock)
        return version

    def get(self, key: str, limit: int = MAX_DOCUMENT_BYTES, version: str = "") -> bytes:
        """See Vault.get. Without a version the oldest is read: nothing newer can be the one that was sealed."""
        if not version:
            versions = self._versions(key)
            if not versions:
                raise MissingError("there is no such object.", where=self._where(key))
            version = versions[0].version
        for attempt in range(_READ_ATTEMPTS):
            try:
                return self._read(key, limit, version)
            except UnavailableError as error:
                if isinstance(error, MissingError) or attempt == _READ_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def get_past(self, key: str, limit: int, fits: Callable[[bytes], Any]) -> bytes:
        """See Versioned.get_past."""
        version = self._oldest(key, self._versions(key), fits)
        if not version:
            raise MissingError("there is no such object.", where=self._where(key))
        return self.get(key, limit, version)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """See Vault.list: every version and delete marker, by key, oldest first."""
        folder = check_key(prefix.rstrip("/")) + "/" if prefix else ""
        yield from self._list(self.prefix + folder)

    def folders(self, prefix: str) -> Sequence[str]:
        """See Foldered.folders; also those that hold nothing but delete markers."""
        start = self.prefix + check_key(prefix.rstrip("/")) + "/"
        pages = self.client.get_paginator("list_object_versions").paginate(
            Bucket=self.bucket, Prefix=start, Delimiter="/"
        )
        try:
            found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
        except (ClientError, BotoCoreError) as error:
            raise self._error(error, prefix) from None
        return sorted(name.removeprefix(start).rstrip("/") for name in found)

    def _list(self, prefix: str) -> Iterator[Stored]:
        pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=prefix)
        waiting: list[Stored] = []  # newest first, as the server lists them
        try:
            for page in pages:
                waiting += [self._stored(entry, False) for entry in page.get("Versions", [])]
                waiting += [self._stored(entry, True) for entry in page.get("DeleteMarkers", [])]
                # A key's versions can go on on the next page: the last key of a page waits for it.
                last = max((stored.key.encode() for stored in waiting), default=b"")
                yield from _oldest_first(stored for stored in waiting if stored.key.encode() != last)
                waiting = [stored for stored in waiting if stored.key.encode() == last]
        except (ClientError, BotoCoreError) as error:
            raise self._error(error, prefix.removeprefix(self.prefix)) from None
        yield from _oldest_first(waiting)

    def lock_of(self, key: str, version: str) -> Lock | None:
        """The retention lock and legal hold of one version; None where it has no retention."""
        head = self._call(
            key, lambda: self.client.head_object(Bucket=self.bucket, Key=self.prefix + key, VersionId=version)
        )
        until = head.get("ObjectLockRetainUntilDate")
        hold = head.get("ObjectLockLegalHoldStatus") == "ON"
        if until is None:
            return Lock("", 0, hold) if hold else None
        return Lock(head.get("ObjectLockMode", ""), from_datetime(until), hold)

    def extend_lock(self, key: str, version: str, lock: Lock) -> None:
        """Lengthen one version's retention, and read it back."""
        retention = {"Mode": lock.mode, "RetainUntilDate": to_datetime(lock.until)}
        self._call(
            key,
            lambda: self.client.put_object_retention(
                Bucket=self.bucket, Key=self.prefix + key, VersionId=version, Retention=retention
            ),
        )
        self._check_locked(key, version, lock)

    def set_hold(self, key: str, version: str, on: bool) -> None:
        """Set or lift the legal hold of one version."""
        status = {"Status": "ON" if on else "OFF"}
        self._call(
            key,
            lambda: self.client.put_object_legal_hold(
                Bucket=self.bucket, Key=self.prefix + key, VersionId=version, LegalHold=status
            ),
        )

    # --- reading back ------------------------------------------------------------------------------------------------

    def _versions(self, key: str) -> Sequence[Stored]:
        """The versions of a key, oldest first. Delete markers hide nothing from us, and stop nobody."""
        listed = self._list(self.prefix + check_key(key))
        return [stored for stored in listed if stored.key == key and not stored.marker]

    def _oldest(self, key: str, versions: Iterable[Stored], fits: Callable[[bytes], Any], own: str = "") -> str:
        """The oldest version that fits, or is one's `own`; '' if none does."""
        for stored in versions:
            if stored.version == own:
                return own
            with suppress(MalformedError, MismatchError, MissingError):
                fits(self.get(key, version=stored.version))
                return stored.version
        return ""

    def _check_first(self, key: str, version: str, fits: Callable[[bytes], Any]) -> None:
        """Goes on only if the version just put is the oldest of its key that fits: an older one is somebody else's."""
        if version not in ("", "null") and self._oldest(key, self._versions(key), fits, version) != version:
            raise self._exists(key)

    def _check_locked(self, key: str, version: str, lock: Lock) -> None:
        found = self.lock_of(key, version)
        if found is None or found.mode != lock.mode or found.until // 1_000_000 < lock.until // 1_000_000:
            raise MismatchError(
                "the server took the object and did not lock it as asked; nothing that follows was written.",
                where=self._where(key),
                remedy="Check that the bucket has Object Lock enabled (auditlib init, auditlib probe).",
                expected=f"{lock.mode} until {to_datetime(lock.until).isoformat()}",
                found="no lock" if found is None else f"{found.mode} until {to_datetime(found.until).isoformat()}",
            )

    def _read(self, key: str, limit: int, version: str) -> bytes:
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + check_key(key), VersionId=version)
            size = int(answer["ContentLength"])
            with closing(answer["Body"]) as body:  # not `with body`, which hands out the stream below botocore's errors
                if size > limit:
                    raise MismatchError(
                        "the object is larger than it may be.",
                        where=self._where(key),
                        expected=f"at most {limit} bytes",
                        found=size,
                    )
                data: bytes = body.read(limit + 1)
        except (ClientError, BotoCoreError, OSError) as error:
            raise self._error(error, key) from None
        if len(data) != size:
            raise UnavailableError(
                f"the server sent {len(data):,} of {size:,} bytes.", where=self._where(key), remedy="Try again."
            )
        return data

    def _stored(self, entry: dict[str, Any], marker: bool) -> Stored:
        owner = entry.get("Owner", {})
        return Stored(
            key=entry["Key"].removeprefix(self.prefix),
            size=0 if marker else entry["Size"],
            version=entry["VersionId"],
            marker=marker,
            modified=from_datetime(entry["LastModified"].astimezone(UTC)),
            owner=owner.get("DisplayName") or owner.get("ID") or "",
        )

    # --- errors ------------------------------------------------------------------------------------------------------

    def _call(self, key: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except (ClientError, BotoCoreError) as error:
            raise self._error(error, key) from None

    def _where(self, key: str) -> str:
        return f"{self.url}: {key}" if key else self.url

    def _exists(self, key: str) -> ExistsError:
        return ExistsError("an object stands here already, and nothing is ever overwritten.", where=self._where(key))

    def _error(self, error: Exception, key: str) -> Exception:
        """The server's answer as a sentence. Some servers send no message, so that it is built from the code."""
        where = self._where(key)
        if isinstance(error, NoCredentialsError | PartialCredentialsError):
            return UnavailableError(
                "there are no credentials for the storage.",
                where=where,
                remedy="Set them the boto3 way (AWS_PROFILE, ...).",
            )
        if not isinstance(error, ClientError):
            return UnavailableError(
                f"the storage did not answer ({type(error).__name__}).", where=where, remedy="Try again."
            )
        code = error_code(error)
        if code in _MISSING:
            return MissingError("there is no such object.", where=where)
        if code == "NoSuchBucket":
            return MalformedError("there is no such bucket.", where=where, remedy="Make it with `auditlib init`.")
        if code in _EXPIRED:
            return UnavailableError(
                f"the storage refused these credentials {error.operation_name}: they have expired ({code}).",
                where=where,
                remedy="Get fresh ones and run it again: what was committed is finished then.",
            )
        if code == "RequestTimeTooSkewed":
            return UnavailableError(
                f"the storage refused {error.operation_name}: its clock and this machine's differ ({code}).",
                where=where,
                remedy="Set this machine's clock.",
            )
        if code in _REFUSED:
            return UnavailableError(
                f"the storage refused these credentials {error.operation_name} ({code}).",
                where=where,
                remedy="See docs/operations.md for what each role may do.",
            )
        return UnavailableError(
            f"the storage answered {code} to {error.operation_name}.", where=where, remedy="Try again later."
        )


def error_code(error: ClientError) -> str:
    """The server's error code; its status where it names none (some send empty errors)."""
    return str(error.response.get("Error", {}).get("Code") or error.response["ResponseMetadata"]["HTTPStatusCode"])


def _oldest_first(newest_first: Iterable[Stored]) -> list[Stored]:
    """By key, then in the reverse of the server's own order, delete markers last.

    Not by time: each gateway stamps a version by its own clock and links it later, so that a version put afterwards may
    bear the earlier time. The order of the listing is that in which versions were linked, one after the other.
    """
    ordered = list(newest_first)[::-1]
    ordered.sort(key=lambda stored: (stored.key.encode(), stored.marker))
    return ordered
