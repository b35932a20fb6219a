"""The demonstration that a lock holds: a canary object, and every way in which somebody might try to be rid of it.

    overwrite it                refused, or the locked version is still there       held
    delete its version          AccessDenied                                        held
    shorten its retention       AccessDenied                                        held
    ...

All attempts are made as the current identity, on objects of the probe's own below `probe/`, which hold no evidence; the
bucket is asked to delete itself only while it holds the locked canary, so that a sound server must refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from auditlib.errors import UnavailableError
from auditlib.formats.times import SECOND, to_datetime
from auditlib.vault import Lock
from auditlib.vault.s3 import S3Vault, error_code

CANARY_LOCK = 600 * SECOND  # microseconds; long enough for the attempts, short enough to leave no litter
PREFIX = "probe/"
_BODY = b"auditlib probe: this object holds no evidence\n"

Verdict = Literal["held", "broken", "noted"]


class Attempt(msgspec.Struct, frozen=True):
    """What was tried, what the server answered, and whether the lock held ('noted' where either answer is sound)."""

    attempt: str
    answer: str
    verdict: Verdict


def probe(vault: S3Vault, name: str, now: int) -> list[Attempt]:
    """Lock a canary under `probe/<name>` in COMPLIANCE mode and try everything. `now` is microseconds since 1970 UTC.

    Raises UnavailableError or MismatchError where not even the canary could be locked.
    """
    canary = _Canary(vault, PREFIX + name, now + CANARY_LOCK)
    return [
        canary.kept("overwrite it", lambda: canary.call("put_object", Body=b"overwritten")),
        canary.kept("delete it without naming a version", lambda: canary.call("delete_object")),
        canary.refused("shorten its retention", lambda: canary.retention("COMPLIANCE", now + CANARY_LOCK // 2)),
        canary.refused("change its mode to GOVERNANCE", lambda: canary.retention("GOVERNANCE", now + CANARY_LOCK)),
        canary.refused("remove its retention", lambda: canary.retention("", 0)),
        canary.refused("suspend the bucket's versioning", canary.suspend),
        canary.refused("delete its version", lambda: canary.call("delete_object", VersionId=canary.version)),
        canary.refused(
            "delete its version with governance bypass",
            lambda: canary.call("delete_object", VersionId=canary.version, BypassGovernanceRetention=True),
        ),
        canary.refused("delete the bucket", lambda: vault.client.delete_bucket(Bucket=vault.bucket)),
        canary.noted("lift a legal hold", canary.lift_hold),
        canary.noted(
            "put over it on condition that nothing is there", lambda: canary.call("put_object", IfNoneMatch="*")
        ),
    ]


class _Canary:
    def __init__(self, vault: S3Vault, key: str, until: int) -> None:
        self.vault, self.key = vault, key
        vault.put(key, _BODY, Lock("COMPLIANCE", until))
        self.version = next(stored.version for stored in vault.list("probe") if stored.key == key)

    def call(self, operation: str, **arguments: Any) -> Any:
        """One S3 call on the canary."""
        return getattr(self.vault.client, operation)(
            Bucket=self.vault.bucket, Key=self.vault.prefix + self.key, **arguments
        )

    def retention(self, mode: str, until: int) -> Any:
        """Another retention for the locked version; none at all where the mode is empty."""
        wanted = {"Mode": mode, "RetainUntilDate": to_datetime(until)} if mode else {}
        return self.call(
            "put_object_retention", VersionId=self.version, Retention=wanted, BypassGovernanceRetention=True
        )

    def suspend(self) -> Any:
        """Versions are what a lock protects."""
        return self.vault.client.put_bucket_versioning(
            Bucket=self.vault.bucket, VersioningConfiguration={"Status": "Suspended"}
        )

    def lift_hold(self) -> None:
        """A hold may be lifted by whoever has the right to; who that is should be known."""
        for on in (True, False):
            self.vault.set_hold(self.key, self.version, on)

    def refused(self, attempt: str, call: Callable[[], Any]) -> Attempt:
        """Sound only if the server refuses, and the canary is still as it was."""
        answer, allowed = _answer(call)
        return Attempt(attempt, answer, "broken" if allowed or not self._stands() else "held")

    def kept(self, attempt: str, call: Callable[[], Any]) -> Attempt:
        """Sound if the locked version is still there, whatever was put over it."""
        answer, _ = _answer(call)
        stands = self._stands()
        return Attempt(attempt, f"{answer}; the locked version is {'still there' if stands else 'gone'}", _held(stands))

    def noted(self, attempt: str, call: Callable[[], Any]) -> Attempt:
        """Either answer is sound; the auditor should know it."""
        return Attempt(attempt, _answer(call)[0], "noted")

    def _stands(self) -> bool:
        try:
            return self.vault.get(self.key, version=self.version) == _BODY
        except UnavailableError:
            return False


def _held(stands: bool) -> Verdict:
    return "held" if stands else "broken"


def _answer(call: Callable[[], Any]) -> tuple[str, bool]:
    """(what the server said, whether it did it)."""
    try:
        call()
    except ClientError as error:
        return error_code(error), False
    except BotoCoreError as error:
        return type(error).__name__, False
    except UnavailableError as error:
        return error.message, False
    return "done", True
