"""Who acted, and in which session."""

from __future__ import annotations

import re
from typing import Any

from auditlib.errors import MalformedError
from auditlib.formats.event import MAX_ID_BYTES, Actor
from auditlib.sources.cloudtrail.names import string


def find_actor(record: dict[str, Any]) -> Actor:
    """Who acted. The id: ARN, else principal id, Identity Center user, user name, invoking service, account.

    user       every person and role session, also where a service carried the call (`invokedBy`): to hide a
               person behind a service would be the worse error
    service    AWSService; `invokedBy` with nobody else; AwsServiceEvent; and role sessions that AWS opens: of
               service-linked roles, EC2 instances (`ec2RoleDelivery`, a session i-...), `inScopeOf` something
    anonymous  S3's anonymous principal; a sign-in whose user name AWS hides because there is no such user; an
               account with nobody in it named, outside of type AWSAccount
    """
    identity = record.get("userIdentity")
    identity = identity if isinstance(identity, dict) else {}
    kind = string(identity.get("type"))
    invoked_by = string(identity.get("invokedBy"))
    account = string(identity.get("accountId"))
    behalf = identity.get("onBehalfOf")
    ids = [
        identity.get("arn"),
        identity.get("principalId"),
        behalf.get("userId") if isinstance(behalf, dict) else None,
        identity.get("userName"),
    ]
    somebody = next((text for text in map(string, ids) if text and len(text.encode()) <= MAX_ID_BYTES), "")
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
    role = string(issuer.get("arn")) if isinstance(issuer, dict) else ""
    return bool(
        ":role/aws-service-role/" in role
        or session.get("ec2RoleDelivery")
        or identity.get("inScopeOf")
        or re.search(r":i-[0-9a-f]{8,17}$", string(identity.get("principalId")))
    )


def _session(identity: dict[str, Any]) -> str | None:
    """The access key id, else the credential id of Identity Center, else the role session's name."""
    principal = string(identity.get("principalId"))
    name = principal.partition(":")[2] if identity.get("type") == "AssumedRole" else ""
    for text in (string(identity.get("accessKeyId")), string(identity.get("credentialId")), name):
        if text and len(text.encode()) <= MAX_ID_BYTES:
            return text
    return None
