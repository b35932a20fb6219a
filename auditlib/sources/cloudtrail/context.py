"""The context: all that an event has no field of its own for, within its limits."""

from __future__ import annotations

from typing import Any

from auditlib.sources.clean import fit, within
from auditlib.sources.cloudtrail.names import snake_case, string
from auditlib.sources.redact import empty

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


def build_context(record: dict[str, Any], action: str) -> dict[str, Any]:
    """The context of a cleaned record, its largest parts replaced by markers where it is too large."""
    context: dict[str, Any] = {}
    other: dict[str, Any] = {}
    for field, value in record.items():
        if field in ELSEWHERE or empty(value):
            continue
        if field in FIELDS:
            context[FIELDS[field]] = value
        else:
            other[field] = value
    if other:
        context["other"] = within(other, 2)
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
    fit(context)
    return context


def _identity(identity: dict[str, Any]) -> dict[str, Any]:
    found = {
        IDENTITY.get(key, snake_case(key) or key): value
        for key, value in identity.items()
        if key not in {"sessionContext", "invokedBy"} and not empty(value)
    }
    session = identity.get("sessionContext")
    for key, value in session.items() if isinstance(session, dict) else ():
        if key == "sessionIssuer" and isinstance(value, dict):
            issuer = {IDENTITY.get(inner, inner): item for inner, item in value.items() if not empty(item)}
            found |= {"issuer": issuer} if issuer else {}
        elif key == "attributes" and isinstance(value, dict):
            found |= {"created": value["creationDate"]} if string(value.get("creationDate")) else {}
        elif not empty(value):
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
            found.update(filter(None, map(string, value if isinstance(value, list) else [value])))
    return sorted(found)
