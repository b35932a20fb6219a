"""Who may do what to a vault in object storage: the least that each role needs, as S3 policies.

    sealer    puts objects under locks and reads them back; deletes and shortens nothing
    reader    gets and lists objects, versions, retention and holds; what verification, queries and packets need
    prober    may try what the locks must refuse, on the probe's own objects alone
    nobody    the bucket's own policy: denies to everyone what no work ever needs

The sealer lengthens locks and sets holds as well (`auditlib vault extend|hold`); in COMPLIANCE mode the right to put
a retention cannot shorten one.
"""

from __future__ import annotations

from typing import Any

from auditlib.errors import MalformedError

_READ_BUCKET = (
    "s3:GetBucketLocation",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketVersioning",
    "s3:ListBucket",
    "s3:ListBucketVersions",
)
_READ_OBJECTS = ("s3:GetObject", "s3:GetObjectLegalHold", "s3:GetObjectRetention", "s3:GetObjectVersion")
_WRITE_OBJECTS = ("s3:PutObject", "s3:PutObjectLegalHold", "s3:PutObjectRetention")
_PROBED_OBJECTS = ("s3:BypassGovernanceRetention", "s3:DeleteObject", "s3:DeleteObjectVersion", *_WRITE_OBJECTS)
_PROBED_BUCKET = ("s3:DeleteBucket", "s3:PutBucketVersioning")
_NEVER = ("s3:BypassGovernanceRetention", "s3:DeleteBucket", "s3:PutBucketVersioning", "s3:PutLifecycleConfiguration")


def policies(url: str) -> dict[str, Any]:
    """`s3://bucket/prefix` -> role: policy document (IAM policies; that of `nobody` is the bucket's)."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not bucket:
        raise MalformedError("only object storage has policies.", where=url, remedy="Give s3://bucket/prefix.")
    arn = f"arn:aws:s3:::{bucket}"
    objects = f"{arn}/{prefix.strip('/')}/*" if prefix.strip("/") else f"{arn}/*"
    probes = objects.removesuffix("*") + "probe/*"
    read = [_allow(_READ_BUCKET, arn), _allow(_READ_OBJECTS, objects)]
    return {
        "sealer": _policy(*read, _allow(_WRITE_OBJECTS, objects)),
        "reader": _policy(*read),
        "prober": _policy(*read, _allow(_PROBED_OBJECTS, probes), _allow(_PROBED_BUCKET, arn)),
        "nobody": _policy({"Action": list(_NEVER), "Effect": "Deny", "Principal": "*", "Resource": [arn, f"{arn}/*"]}),
    }


def _policy(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Statement": list(statements), "Version": "2012-10-17"}


def _allow(actions: tuple[str, ...], resource: str) -> dict[str, Any]:
    return {"Action": list(actions), "Effect": "Allow", "Resource": [resource]}
