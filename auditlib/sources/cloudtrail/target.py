"""On what: one of `resources`, else a parameter of TARGETS, else what the event name says, else the service."""

from __future__ import annotations

import re
from typing import Any

from auditlib.formats.event import MAX_ID_BYTES, Target
from auditlib.sources.cloudtrail.names import snake_case, string
from auditlib.sources.redact import PLACEHOLDERS, REDACTED

# (service or "" for any, parameter, target type), most telling first; in the request, then in the response.
TARGETS: tuple[tuple[str, str, str], ...] = (
    ("iam", "userName", "aws.iam.user"),
    ("iam", "roleName", "aws.iam.role"),
    ("iam", "groupName", "aws.iam.group"),
    ("iam", "policyArn", "aws.iam.policy"),
    ("iam", "policyName", "aws.iam.policy"),
    ("iam", "instanceProfileName", "aws.iam.instance_profile"),
    ("iam", "sAMLProviderArn", "aws.iam.saml_provider"),
    ("iam", "openIDConnectProviderArn", "aws.iam.oidc_provider"),
    ("iam", "serialNumber", "aws.iam.mfa_device"),
    ("iam", "serverCertificateName", "aws.iam.server_certificate"),
    ("iam", "accessKeyId", "aws.iam.access_key"),
    ("sts", "roleArn", "aws.iam.role"),
    ("secretsmanager", "secretId", "aws.secretsmanager.secret"),
    ("secretsmanager", "name", "aws.secretsmanager.secret"),
    ("kms", "keyId", "aws.kms.key"),
    ("kms", "aliasName", "aws.kms.alias"),
    ("cloudtrail", "trailName", "aws.cloudtrail.trail"),
    ("cloudtrail", "name", "aws.cloudtrail.trail"),
    ("s3", "bucketName", "aws.s3.bucket"),
    ("ssm", "associationId", "aws.ssm.association"),
    ("", "functionName", "aws.lambda.function"),
    ("", "dBSnapshotIdentifier", "aws.rds.db_snapshot"),
    ("", "dBInstanceIdentifier", "aws.rds.db_instance"),
    ("", "dBClusterIdentifier", "aws.rds.db_cluster"),
    ("", "dBSubnetGroupName", "aws.rds.db_subnet_group"),
    ("", "instanceId", "aws.ec2.instance"),
    ("", "natGatewayId", "aws.ec2.nat_gateway"),
    ("", "networkInterfaceId", "aws.ec2.network_interface"),
    ("", "volumeId", "aws.ec2.volume"),
    ("", "snapshotId", "aws.ec2.snapshot"),
    ("", "imageId", "aws.ec2.image"),
    ("", "routeTableId", "aws.ec2.route_table"),
    ("", "subnetId", "aws.ec2.subnet"),
    ("ec2", "groupId", "aws.ec2.security_group"),
    ("", "internetGatewayId", "aws.ec2.internet_gateway"),
    ("", "allocationId", "aws.ec2.address"),
    ("", "vpcId", "aws.ec2.vpc"),
    ("ec2", "keyName", "aws.ec2.key_pair"),
    ("", "detectorId", "aws.guardduty.detector"),
    ("", "logGroupName", "aws.logs.log_group"),
    ("", "tableName", "aws.dynamodb.table"),
    ("", "queueUrl", "aws.sqs.queue"),
    ("", "topicArn", "aws.sns.topic"),
    ("", "stackName", "aws.cloudformation.stack"),
    ("", "hostedZoneId", "aws.route53.hosted_zone"),
    ("", "repositoryName", "aws.ecr.repository"),
    ("", "configurationRecorderName", "aws.config.configuration_recorder"),
    ("", "bucketName", "aws.s3.bucket"),
    ("", "secretId", "aws.secretsmanager.secret"),
    ("", "keyId", "aws.kms.key"),
    ("", "roleArn", "aws.iam.role"),
    ("", "roleName", "aws.iam.role"),
    ("", "userName", "aws.iam.user"),
    ("", "instanceIds", "aws.ec2.instance"),
)
NAMES = ("resourceArn", "ARN", "arn", "name", "names", "id", "resourceId")  # of what the event name says
TARGET_FIELDS = ("requestParameters", "responseElements", "additionalEventData")


def find_target(record: dict[str, Any], service: str, action: str) -> Target:
    """The most specific resource that a cleaned record names."""
    named = _resource(record.get("resources"))
    if named is not None:
        return named
    noun = "_".join(action.rsplit(".", 1)[-1].split("_")[1:])
    sources = [value for key in TARGET_FIELDS if isinstance(value := record.get(key), dict)]
    nested = [_first_values(source) for source in sources]
    for owner, key, kind in TARGETS:
        if owner and owner != service:
            continue
        for source, below in zip(sources, nested, strict=True):
            found = _identifier(source.get(key))
            if found is None and kind.rsplit(".", 1)[-1] in noun:  # inside a list only what the event is about
                found = _identifier(below.get(key))
            if found is not None:
                return Target(found, kind)
    if noun and len(f"aws.{service}.{noun}") <= 128:
        for source in sources:
            for key in NAMES:
                if (found := _identifier(source.get(key))) is not None:
                    word = "resource" if key == "resourceId" else noun
                    return Target(found, _arn_type(found) or f"aws.{service}.{word}")
    return Target(record["eventSource"], f"aws.{service}"[:128])


def _resource(resources: Any) -> Target | None:
    """The first resource with an ARN that is not merely the container of another (a bucket of its object)."""
    if not isinstance(resources, list):
        return None
    arns: dict[str, Any] = {}
    for resource in resources[:100]:
        if isinstance(resource, dict) and (arn := _identifier(resource.get("ARN") or resource.get("arn"))):
            arns.setdefault(arn, resource.get("type"))
    for arn, kind in arns.items():
        if not any(other.startswith(arn + "/") for other in arns):
            parts = kind.split("::") if isinstance(kind, str) else []
            if len(parts) == 3 and parts[0] == "AWS" and all(re.fullmatch(r"[A-Za-z0-9]{1,40}", p) for p in parts):
                return Target(arn, f"aws.{parts[1].lower()}.{snake_case(parts[2])}")
            return Target(arn, _arn_type(arn) or "aws.resource")
    return None


def _arn_type(arn: str) -> str | None:
    """arn:aws:iam::123456789012:role/x -> aws.iam.role; None for what is no ARN."""
    match = re.match(r"arn:[a-z-]+:([a-z0-9-]{1,40}):[^:]*:[^:]*:([^:/]+)?([:/])?", arn)
    if match is None:
        return None
    service, first, mark = match.groups()
    if service == "s3":
        return "aws.s3.object" if mark == "/" else "aws.s3.bucket"
    plain = {"sns": "topic", "sqs": "queue"}
    noun = snake_case((first or "")[:60]) if mark else plain.get(service, "")
    return f"aws.{service}.{noun}" if noun else f"aws.{service}"


def _first_values(node: Any) -> dict[str, Any]:
    """Key -> its first plain value below the top level, at most 200 nodes in."""
    found: dict[str, Any] = {}
    queue, at = [node], 0
    while at < len(queue) and at < 200:
        value = queue[at]
        at += 1
        if isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, dict | list):
                    queue.append(item)
                else:
                    found.setdefault(key, item)
        elif isinstance(value, list):
            queue.extend(value[:200])
    return found


def _identifier(value: Any) -> str | None:
    if isinstance(value, list) and value:
        value = value[0]
    text = string(value)
    hidden = not text or text == REDACTED or text in PLACEHOLDERS or len(text.encode()) > MAX_ID_BYTES
    return None if hidden else text
