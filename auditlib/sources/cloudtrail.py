"""AWS CloudTrail -> events (docs.aws.amazon.com/awscloudtrail, "CloudTrail record contents").

    {"eventVersion":"1.08","eventTime":"2023-07-10T12:24:34Z","eventSource":"iam.amazonaws.com",
     "eventName":"AttachUserPolicy","eventID":"8f2b...","recipientAccountId":"123456789012",
     "userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::123456789012:user/alice",...},
     "requestParameters":{"userName":"bob","policyArn":"arn:aws:iam::aws:policy/AdministratorAccess"},...}

    -> action iam.attach_user_policy, actor user arn:...:user/alice, target aws.iam.user bob, outcome success,
       context.request.policyArn ..., from source import:cloudtrail:123456789012

action      eventSource without .amazonaws.com, a dot, eventName in snake case; the context has both as found
event_id    eventID; without one (they exist since version 1.01) nothing could tell a repeat: refused
source      import:cloudtrail:<recipientAccountId>; else the account of the identity; else `unknown`
actor       see `_actor`: who acted, not the service that carried the call, unless `invokedBy` stands alone
outcome     denied: an error code of DENIED · failure: any other, an error message, or a failed sign-in
target      the most specific resource: `resources`, else TARGETS, else the service
context     all other fields, credentials replaced by "[redacted]", what is too deep or too large by
            {"omitted": why, "bytes": canonical size, "sha256": of the canonical bytes after redaction}
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeAlias
from urllib.parse import unquote

from auditlib.errors import MalformedError
from auditlib.formats.canonical import MAX_INTEGER, canonical
from auditlib.formats.event import (
    MAX_CONTEXT_BYTES,
    MAX_CONTEXT_DEPTH,
    MAX_ID_BYTES,
    Actor,
    Event,
    Target,
    check_event,
)
from auditlib.formats.times import format_time, parse_time
from auditlib.sources import Item, Paths, Progress, Reject, SourceFile
from auditlib.sources.files import FOREIGN, LOG, Found, LogFile, find

REDACTED = "[redacted]"
MAX_NESTING = 100  # levels of one record; deeper is no log that any service wrote
MARKER_BYTES = 160  # canonical bytes; a marker for omitted data is shorter, so smaller parts are never replaced

# CIS AWS Foundations 4.1 counts "*UnauthorizedOperation" and "AccessDenied*". The others are what single
# services call the same: SNS AuthorizationError, Cognito NotAuthorized, EC2 AuthFailure, VpceAccessDenied.
# One part of the code between dots must match, as in Client.UnauthorizedOperation. Bad
# credentials are failures.
DENIED = re.compile(
    r"\w*AccessDenied\w*|\w*UnauthorizedOperation|Unauthorized(Access|Exception)?"
    r"|AuthorizationError(Exception)?|NotAuthorized(Exception)?|Forbidden(Exception)?|AuthFailure"
)

# Top-level field -> context key. Fields that are not listed stand under context.other by their own names.
FIELDS = {
    "eventSource": "event_source",
    "eventName": "event_name",
    "eventVersion": "event_version",
    "eventType": "event_type",
    "eventCategory": "category",
    "recipientAccountId": "account",
    "awsRegion": "region",
    "sourceIPAddress": "ip",
    "userAgent": "user_agent",
    "errorCode": "error_code",
    "errorMessage": "error_message",
    "readOnly": "read_only",
    "managementEvent": "management_event",
    "requestID": "request_id",
    "sharedEventID": "shared_event_id",
    "vpcEndpointId": "vpc_endpoint",
    "vpcEndpointAccountId": "vpc_endpoint_account",
    "apiVersion": "api_version",
    "tlsDetails": "tls",
    "sessionCredentialFromConsole": "from_console",
    "resources": "resources",
    "requestParameters": "request",
    "responseElements": "response",
    "additionalEventData": "additional",
    "serviceEventDetails": "service_event",
}
ELSEWHERE = frozenset({"eventID", "eventTime", "userIdentity"})
IDENTITY = {
    "accountId": "account",
    "principalId": "principal",
    "userName": "user",
    "accessKeyId": "access_key",
}

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

Recorded: TypeAlias = tuple[str, Event]


def read(paths: Paths, *, progress: Progress | None = None) -> Iterator[Item]:
    """CloudTrail files and folders -> (source, Event), Reject and, after each file, its SourceFile.

    Files are read one after another; nothing is sorted. Raises MalformedError at the call for a path that is
    missing or holds no log, and UnavailableError later where a file cannot be read. CloudTrail's digest files
    (log file validation) and Insights are no records of actions: they are skipped and counted.
    """
    return _read(find(paths), progress)


def to_event(record: Any) -> Recorded | None:
    """One CloudTrail record, as JSON gives it -> its source and event; None for a CloudTrail Insight.

    Raises MalformedError that says what is missing: no eventID, no time, no name, or no actor.
    """
    if not isinstance(record, dict):
        raise MalformedError("this is no CloudTrail record but a single value or a list.")
    if "insightDetails" in record and "userIdentity" not in record:
        return None
    for field in ("eventID", "eventTime", "eventSource", "eventName"):
        if not _string(record.get(field)):
            raise MalformedError(f"it has no {field}, so it is no CloudTrail record.")
    service, action = _action(record["eventSource"], record["eventName"])
    clean = _clean_record(record, action)
    identity = clean.get("userIdentity")
    actor = _actor(identity if isinstance(identity, dict) else {}, clean)
    context = _context(clean, action)
    _fit(context)
    event = Event(
        action=action,
        actor=actor,
        context=context,
        event_id=record["eventID"],
        occurred_at=_time(record["eventTime"]),
        outcome=_outcome(record),
        target=_target(clean, service, action),
    )
    return _source(record), check_event(event)


@lru_cache(maxsize=4096)
def snake_case(name: str) -> str:
    """An AWS event name -> lower-case words: GetSAMLProvider is get_saml_provider.

    Acronyms are one word, with a plural s (ListVPCs: list_vpcs); a dated version is split off
    (CreateFunction20150331: create_function_20150331); whatever is not a-z 0-9 : / - becomes an underscore.
    A second pass changes nothing.
    """
    text = re.sub(r"[^A-Za-z0-9:/-]+", "_", name)
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    text = re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])(?![A-Z]s(?![a-z]))(?![A-Z]v[0-9])", "_", text)
    text = re.sub(r"(?<=[A-Za-z])(?=[0-9]{8}|20[0-9]{2}_[0-9]{2}_[0-9]{2})", "_", text)
    return re.sub(r"_+", "_", text).strip("_").lower()


def _read(found: list[Found], progress: Progress | None) -> Iterator[Item]:
    total, done = sum(file.size for file in found), 0
    for file in found:
        log = LogFile(file, _recognise)
        events = rejects = skipped = 0
        for entry in log:
            if isinstance(entry, Reject):
                rejects += 1
                yield entry
                continue
            try:
                recorded = to_event(entry.value)
            except MalformedError as error:
                rejects += 1
                yield Reject.of(entry.file, entry.line, entry.index, str(error), entry.raw)
                continue
            if recorded is None:
                skipped += 1
            else:
                events += 1
                yield recorded
        note = log.note or ("CloudTrail Insights; no actions" if skipped and not events else None)
        yield SourceFile(log.name, log.sha256, log.size, events, rejects, skipped, note)
        done += file.size
        if progress is not None:
            progress(done, total)


def _recognise(head: bytes) -> str:
    if b'"eventName"' in head or b'"Records"' in head or b'"insightDetails"' in head:
        return LOG
    if b'"digestStartTime"' in head and b'"logFiles"' in head:
        return "a CloudTrail digest; it holds hashes of log files, no records"
    if head[:2] == b"\x1f\x8b":
        return LOG  # packed twice: read, and refused with its reason
    return FOREIGN


# --- what, who, how it ended, on what ----------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _action(source: str, name: str) -> tuple[str, str]:
    lower = source.lower().removesuffix(".cn").removesuffix(".amazonaws.com")
    parts = (part.strip("_") for part in re.sub(r"[^a-z0-9_:/.-]+", "_", lower).split("."))
    service, verb = ".".join(part for part in parts if part), snake_case(name)
    if not service or not verb:
        raise MalformedError(f"{source[:80]!r} and {name[:80]!r} give no name for the action.")
    return service, f"{service}.{verb}"


def _time(text: str) -> str:
    try:
        return format_time(parse_time(text))
    except MalformedError as error:
        raise error.at("eventTime") from None


def _source(record: dict[str, Any]) -> str:
    identity = record.get("userIdentity")
    own = identity.get("accountId") if isinstance(identity, dict) else None
    for account in (record.get("recipientAccountId"), own):
        if isinstance(account, str) and re.fullmatch("[0-9]{12}", account):
            return f"import:cloudtrail:{account}"
    return "import:cloudtrail:unknown"


def _outcome(record: dict[str, Any]) -> str:
    code = record.get("errorCode")
    if isinstance(code, str) and any(map(DENIED.fullmatch, code.split("."))):
        return "denied"
    response = record.get("responseElements")
    if code or record.get("errorMessage"):
        return "failure"
    # A failed ConsoleLogin or CheckMfa has no error code; the response says it under the event's own name.
    if isinstance(response, dict) and response.get(record["eventName"]) == "Failure":
        return "failure"
    return "success"


def _actor(identity: dict[str, Any], record: dict[str, Any]) -> Actor:
    """Who acted. The id: ARN, else principal id, Identity Center user, user name, invoking service, account.

    user       every person and role session, also where a service carried the call (`invokedBy`): to hide a
               person behind a service would be the worse error
    service    AWSService; `invokedBy` with nobody else; AwsServiceEvent; and role sessions that AWS opens: of
               service-linked roles, EC2 instances (`ec2RoleDelivery`, a session i-...), `inScopeOf` something
    anonymous  S3's anonymous principal; a sign-in whose user name AWS hides because there is no such user; an
               account with nobody in it named, outside of type AWSAccount
    """
    kind = _string(identity.get("type"))
    invoked_by = _string(identity.get("invokedBy"))
    account = _string(identity.get("accountId"))
    behalf = identity.get("onBehalfOf")
    ids = [
        identity.get("arn"),
        identity.get("principalId"),
        behalf.get("userId") if isinstance(behalf, dict) else None,
        identity.get("userName"),
    ]
    somebody = next((text for text in map(_string, ids) if text and len(text.encode()) <= MAX_ID_BYTES), "")
    if kind == "AWSService":
        actor_type, actor_id = "service", invoked_by or somebody
    elif somebody and somebody != "HIDDEN_DUE_TO_SECURITY_REASONS":
        actor_type, actor_id = "service" if _is_software(identity) else "user", somebody
    elif somebody or account == "ANONYMOUS_PRINCIPAL":
        actor_type, actor_id = "anonymous", somebody or account
    elif invoked_by:
        actor_type, actor_id = "service", invoked_by
    elif record.get("eventType") == "AwsServiceEvent":
        actor_type, actor_id = "service", record["eventSource"]
    else:
        actor_type, actor_id = "user" if kind == "AWSAccount" else "anonymous", account
    if not actor_id:
        raise MalformedError("it has no identity; an action without an actor is a finding.", where="userIdentity")
    return Actor(actor_id, _session(identity), actor_type)


def _is_software(identity: dict[str, Any]) -> bool:
    if identity.get("type") != "AssumedRole":
        return False
    session = identity.get("sessionContext")
    session = session if isinstance(session, dict) else {}
    issuer = session.get("sessionIssuer")
    role = _string(issuer.get("arn")) if isinstance(issuer, dict) else ""
    return bool(
        ":role/aws-service-role/" in role
        or session.get("ec2RoleDelivery")
        or identity.get("inScopeOf")
        or re.search(r":i-[0-9a-f]{8,17}$", _string(identity.get("principalId")))
    )


def _session(identity: dict[str, Any]) -> str | None:
    """The access key id, else the credential id of Identity Center, else the role session's name."""
    principal = _string(identity.get("principalId"))
    name = principal.partition(":")[2] if identity.get("type") == "AssumedRole" else ""
    for text in (_string(identity.get("accessKeyId")), _string(identity.get("credentialId")), name):
        if text and len(text.encode()) <= MAX_ID_BYTES:
            return text
    return None


def _target(record: dict[str, Any], service: str, action: str) -> Target:
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
    text = _string(value)
    hidden = not text or text == REDACTED or text in PLACEHOLDERS or len(text.encode()) > MAX_ID_BYTES
    return None if hidden else text


# --- the context -------------------------------------------------------------------------------------------


def _context(record: dict[str, Any], action: str) -> dict[str, Any]:
    context: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for field, value in record.items():
        if field in ELSEWHERE or _empty(value):
            continue
        if field in FIELDS:
            context[FIELDS[field]] = value
        else:
            other[field] = value
    if other:
        context["other"] = _within(other, 2)
    identity = record.get("userIdentity")
    if isinstance(identity, dict):
        if invoked_by := identity.get("invokedBy"):
            context["invoked_by"] = invoked_by
        context["identity"] = _identity(identity)
    if (mfa := _mfa(record)) is not None:
        context["mfa"] = mfa
    if action in {"iam.update_assume_role_policy", "iam.create_role"}:
        request = record.get("requestParameters")
        request = request if isinstance(request, dict) else {}
        policy = request.get("policyDocument") or request.get("assumeRolePolicyDocument")
        if principals := _principals(policy):
            context["principals"] = principals
    return context


def _identity(identity: dict[str, Any]) -> dict[str, Any]:
    found = {
        IDENTITY.get(key, snake_case(key) or key): value
        for key, value in identity.items()
        if key not in {"sessionContext", "invokedBy"} and not _empty(value)
    }
    session = identity.get("sessionContext")
    for key, value in session.items() if isinstance(session, dict) else ():
        if key == "sessionIssuer" and isinstance(value, dict):
            issuer = {IDENTITY.get(inner, inner): item for inner, item in value.items() if not _empty(item)}
            found |= {"issuer": issuer} if issuer else {}
        elif key == "attributes" and isinstance(value, dict):
            found |= {"created": value["creationDate"]} if _string(value.get("creationDate")) else {}
        elif not _empty(value):
            found.setdefault(snake_case(key) or key, value)
    return found


def _mfa(record: dict[str, Any]) -> bool | None:
    """Whether the session, or this sign-in, used a second factor; None where nothing says so."""
    node: Any = record
    for key in ("userIdentity", "sessionContext", "attributes", "mfaAuthenticated"):
        node = node.get(key) if isinstance(node, dict) else None
    additional = record.get("additionalEventData")
    used = additional.get("MFAUsed") if isinstance(additional, dict) else None
    answers = {"true": True, "false": False, "Yes": True, "No": False}
    for answer in (used, node):
        if isinstance(answer, str) and answer in answers:
            return answers[answer]
        if isinstance(answer, bool):
            return answer
    return None


def _principals(policy: Any) -> list[str]:
    """Whom a trust policy allows, sorted. An Allow with NotPrincipal trusts everybody else: `*`."""
    statements = policy.get("Statement") if isinstance(policy, dict) else None
    found: set[str] = set()
    for statement in statements if isinstance(statements, list) else [statements]:
        if not isinstance(statement, dict) or statement.get("Effect") != "Allow":
            continue
        if "NotPrincipal" in statement:
            found.add("*")
        principal = statement.get("Principal")
        values = principal.values() if isinstance(principal, dict) else [principal]
        for value in values:
            found.update(filter(None, map(_string, value if isinstance(value, list) else [value])))
    return sorted(found)


def _fit(context: dict[str, Any]) -> None:
    """Replaces the largest parts by markers until the context is within its limit (DESIGN 4.1)."""
    while len(canonical(context)) > MAX_CONTEXT_BYTES:
        node: Any = context
        while True:
            items = list(node.items()) if isinstance(node, dict) else list(enumerate(node))
            key, value = max(items, key=lambda item: len(canonical(item[1])))
            size = len(canonical(value))
            inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
            largest = max((len(canonical(item)) for item in inner), default=0)
            if largest <= MARKER_BYTES or largest * 2 < size:
                break
            node = value
        node[key] = _marker(value, "too large")


def _within(value: dict[str, Any], level: int) -> dict[str, Any]:
    """`other` puts its fields one level deeper than they were cleaned for."""
    deep = {key for key, item in value.items() if _height(item) + level > MAX_CONTEXT_DEPTH}
    return {key: _marker(item, "too deep") if key in deep else item for key, item in value.items()}


def _height(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_height, value.values()), default=0)
    return 1 + max(map(_height, value), default=0) if isinstance(value, list) else 0


def _marker(value: Any, reason: str) -> dict[str, Any]:
    data = canonical(value)
    return {"omitted": reason, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


# --- what must not get in: credentials, and what no event can hold ------------------------------------------

# AWS's own redactions.
PLACEHOLDERS = frozenset({"HIDDEN_DUE_TO_SECURITY_REASONS", "<sensitiveDataRemoved>", "****"})

# Keys, lower-case without punctuation.
_SECRET_KEY = re.compile(
    r".*(passwords?\d*|passwd|pwd|passphrase|passworddata|secret|secretstring|secretbinary|secretvalue"
    r"|secrets?key|privatekey|keymaterial|sharedkey|customerkey|apikey|psk|plaintext|signature|authorization"
    r"|assertion|jwt|cookie|connectionstring|tokens?|tokencode|authenticationcode\d*|credentialblob|authparameters"
    r"|challengeresponses|encodedmessage|userdata|base32stringseed|qrcodepng|webhookurl)"
    r"|otp|mfacode|secrets?accesskey.*|.*privatekeypem"
)
_NO_SECRET_KEY = re.compile(
    r".*(next|client|clientrequest|page|pagination|continuation|idempotency|change|previous)tokens?"
    r"|.*publickeymaterial|.*httptokens|.*manage[a-z]*password"
)
_POLICY_KEY = re.compile(r".*policydocument|(bucket|resource|trust|key|session|inline)?policy|policytext")
_VARIABLES_KEY = re.compile(r"environment|environmentvariables|environmentvariablesoverride|variables")
_CREDENTIALS_KEY = re.compile(r".*credentials")
_ACCESS_KEY = re.compile(r".*accesskey")  # an object in CreateAccessKey's response, a secret where it is text
_KEPT_IN_CREDENTIALS = frozenset({"accesskeyid", "expiration"})
_KEPT_IN_VARIABLES = frozenset({"name", "key", "type", "kmskeyarn"})
_NAME_KEYS = frozenset(
    {"name", "Name", "key", "Key", "parameterKey", "ParameterKey", "fieldName", "headerName", "attribute"}
)
_VALUE_KEYS = frozenset({"value", "values", "parametervalue", "fieldvalue", "headervalue", "stringvalue"})
# Parameters that are secret in one action alone.
_SECRET_PARAMETERS = {"ssm.put_parameter": frozenset({"value"})}

# Text: a cheap look for one of these first, then the patterns.
_HINTS = (
    "=", "bearer", "basic", "eyj", "private key", "iqojb3", "gozxiv", "odyxdz", "://", "ghp_", "gho_", "ghu_",
    "ghs_", "ghr_", "github_pat_", "xox", "glpat-", "sk_live_", "encoded auth", "passw", "passphrase",
    "token", "secret", "apikey", "api_key", "privatekey", "private_key",
)  # fmt: skip
_NAMED = (
    r"((?:password|passwd|passphrase|secret_?access_?key|secret_?key|secret_?string|session_?token"
    r"|security[_-]?token|client_?secret|access_?token|refresh_?token|id_?token|auth_?token|private_?key|api_?key"
    r"|x-amz-signature)"
    r"""["']?\s*[:=]\s*)"""
)
_SHORT = r"(?<![a-z0-9])((?:signature|sig|token|secret|pwd)=)"
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*KEY-----|\Z)", re.DOTALL), REDACTED),
    (re.compile(r"(Encoded authorization failure message:\s*)\S+", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*"), REDACTED),  # JSON web tokens
    (re.compile(r"(?:IQoJb3JpZ2lu|F[wQ]o(?:GZXIv|DYXdz))[\w+/=%-]{20,}"), REDACTED),  # STS session tokens
    (re.compile(r"\b(?:gh[pousr]_|github_pat_|glpat-|sk_live_|xox[abeprs]-)[\w-]{10,}"), REDACTED),
    (re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+@"), f"{REDACTED}@"),  # https://user:password@host
    (re.compile(r"\b(bearer\s+)[\w.~+/=-]{12,}", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(r"\b(basic\s+)(?=[\w+/=-]*[0-9=])[\w+/=-]{8,}", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(_NAMED + r"""("[^"]*"?|'[^']*'?|[^\s"',;&}{]+)""", re.IGNORECASE), rf"\1{REDACTED}"),
    (re.compile(_SHORT + r"""[^\s"',;&]+""", re.IGNORECASE), rf"\1{REDACTED}"),
)

_REFERENCE = re.compile(
    r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]*:[\w/+=,.@:*-]{1,400}|(?:AKIA|ASIA)[A-Z0-9]{12,28}"
)
_PLAIN, _SECRET, _ACCESS, _CREDENTIALS, _VARIABLES, _POLICY = range(6)
_RULES = (
    (_ACCESS_KEY, _ACCESS),
    (_CREDENTIALS_KEY, _CREDENTIALS),
    (_VARIABLES_KEY, _VARIABLES),
    (_POLICY_KEY, _POLICY),
)


def _clean_record(record: dict[str, Any], action: str) -> dict[str, Any]:
    """The record without credentials, every value fit for a context; levels count as they will there."""
    clean: dict[str, Any]
    clean, _ = _clean_dict(record, 1, None, _SECRET_PARAMETERS.get(action, frozenset()))
    return clean


def _clean(value: Any, level: int, kept: frozenset[str] | None, extra: frozenset[str]) -> tuple[Any, int]:
    """A value and its height. `kept` is set inside credentials and variables: the rest of them is hidden."""
    if isinstance(value, str):
        return (_scrub(value) if kept is None else _hide(value)), 0
    if isinstance(value, dict):
        return _clean_dict(value, level, kept, extra)
    if isinstance(value, list):
        _check_nesting(level)
        pairs = [_clean(item, level + 1, kept, extra) for item in value]
        items = [item for item, _ in pairs]
        return _cut(items, level, 1 + max((height for _, height in pairs), default=0))
    if value is None or isinstance(value, bool):
        return value, 0
    if kept is not None:
        return REDACTED, 0
    if isinstance(value, float) and not math.isfinite(value):
        return str(value), 0
    return (value if -MAX_INTEGER <= value <= MAX_INTEGER else str(value)), 0


def _clean_dict(
    value: dict[str, Any], level: int, kept: frozenset[str] | None, extra: frozenset[str]
) -> tuple[Any, int]:
    _check_nesting(level)
    clean: dict[str, Any] = {}
    height = 0
    names = [value[key] for key in _NAME_KEYS & value.keys()]
    named = any(_rule(name)[0] == _SECRET for name in names if isinstance(name, str))
    for key, item in value.items():
        rule, plain = _rule(key)
        item_kept, below = kept, 0
        found: Any = item
        if plain in extra:
            found = _hide(item, references=False)
        elif rule == _SECRET or (named and plain in _VALUE_KEYS) or (rule == _ACCESS and isinstance(item, str)):
            found = _hide(item)
        else:
            if kept is not None and plain in kept:
                item_kept = None
            elif rule == _CREDENTIALS:
                item_kept = _KEPT_IN_CREDENTIALS
            elif rule == _VARIABLES and not isinstance(item, str):
                item_kept = _KEPT_IN_VARIABLES
            elif rule == _POLICY and isinstance(item, str):
                found = _policy(item)
            found, below = _clean(found, level + 1, item_kept, extra)
        name = _scrub(key)
        while name in clean:
            name += "~"
        clean[name] = found
        height = max(height, below)
    if list(clean) == ["$enc"]:  # reserved, DESIGN 4.1
        clean = {"$$enc": clean["$enc"]}
    return _cut(clean, level, 1 + height)


def _cut(value: Any, level: int, height: int) -> tuple[Any, int]:
    """At the last level that an event holds, a marker for what has more below it."""
    if level == MAX_CONTEXT_DEPTH and height > 1:
        return _marker(value, "too deep"), 1
    return value, height


def _check_nesting(level: int) -> None:
    if level > MAX_NESTING:
        raise MalformedError(f"it is nested more than {MAX_NESTING} levels deep.")


def _hide(value: Any, *, references: bool = True) -> Any:
    """[redacted], but for what is no secret: nothing, yes or no, AWS's own redaction, an ARN or key id."""
    if _empty(value) or isinstance(value, bool):
        return value
    if isinstance(value, str) and (value in PLACEHOLDERS or (references and _REFERENCE.fullmatch(value))):
        return value
    return REDACTED


def _rule(key: str) -> tuple[int, str]:
    return _cached_rule(key) if len(key) <= 200 else (_SECRET, key)


@lru_cache(maxsize=8192)
def _cached_rule(key: str) -> tuple[int, str]:
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    if _SECRET_KEY.fullmatch(plain) and not _NO_SECRET_KEY.fullmatch(plain):
        return _SECRET, plain
    return next((rule for pattern, rule in _RULES if pattern.fullmatch(plain)), _PLAIN), plain


def _policy(text: str) -> Any:
    """A policy written as JSON in a text, URL-encoded or not -> the object; anything else as it stands."""
    source = unquote(text) if text[:3].upper() == "%7B" else text
    if source.lstrip()[:1] != "{":
        return text
    try:
        return json.loads(source, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice")
    return value


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _scrub(text: str) -> str:
    return _cached_scrub(text) if len(text) <= 256 else _scrub_text(text)


def _scrub_text(text: str) -> str:
    """A text without U+0000, lone surrogates (both U+FFFD) and whatever looks like a credential."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii():
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if len(text) >= 8:
        lower = text.lower()
        if any(hint in lower for hint in _HINTS):
            for pattern, replacement in _PATTERNS:
                text = pattern.sub(replacement, text)
    return text


_cached_scrub = lru_cache(maxsize=16384)(_scrub_text)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {})
