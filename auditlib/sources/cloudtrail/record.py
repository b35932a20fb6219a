"""One CloudTrail record -> its source and event."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, TypeAlias

from auditlib.errors import MalformedError
from auditlib.formats.event import Event, check_event
from auditlib.formats.times import format_time, parse_time
from auditlib.sources.clean import clean
from auditlib.sources.cloudtrail.actor import find_actor
from auditlib.sources.cloudtrail.context import build_context
from auditlib.sources.cloudtrail.names import snake_case, string
from auditlib.sources.cloudtrail.target import find_target

# CIS AWS Foundations 4.1 counts "*UnauthorizedOperation" and "AccessDenied*". The others are what single
# services call the same: SNS AuthorizationError, Cognito NotAuthorized, EC2 AuthFailure, VpceAccessDenied.
# One part of the code between dots must match, as in Client.UnauthorizedOperation. Bad
# credentials are failures.
DENIED = re.compile(
    r"\w*AccessDenied\w*|\w*UnauthorizedOperation|Unauthorized(Access|Exception)?"
    r"|AuthorizationError(Exception)?|NotAuthorized(Exception)?|Forbidden(Exception)?|AuthFailure"
)
# Parameters that are secret in one action alone, lower-case without punctuation.
SECRET_PARAMETERS = {"ssm.put_parameter": frozenset({"value"})}

Recorded: TypeAlias = tuple[str, Event]


def to_event(record: Any) -> Recorded | None:
    """One CloudTrail record, as JSON gives it -> its source and event; None for a CloudTrail Insight.

    Raises MalformedError that says what is missing: no eventID, no time, no name, or no actor.
    """
    if not isinstance(record, dict):
        raise MalformedError("this is no CloudTrail record but a single value or a list.")
    if "insightDetails" in record and "userIdentity" not in record:
        return None
    for field in ("eventID", "eventTime", "eventSource", "eventName"):
        if not string(record.get(field)):
            raise MalformedError(f"it has no {field}, so it is no CloudTrail record.")
    service, action = _action(record["eventSource"], record["eventName"])
    cleaned = clean(record, SECRET_PARAMETERS.get(action, frozenset()))
    event = Event(
        action=action,
        actor=find_actor(cleaned),
        context=build_context(cleaned, action),
        event_id=record["eventID"],
        occurred_at=_time(record["eventTime"]),
        outcome=_outcome(record),
        target=find_target(cleaned, service, action),
    )
    return _source(record), check_event(event)


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
