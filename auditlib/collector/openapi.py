"""What /schema says of the one way in: written by hand, because litestar must not read the body before the token.

The body is described as what is answered with 200: any object, or an array of at most 1,000 values. What an event is
stands beside it; what is none gets its own refusal inside the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIFormat

from auditlib.collector.answers import Problem
from auditlib.collector.headers import ACCOUNT, IMPORTED, INSTANCE, MAX_FIRST_SEQ
from auditlib.collector.intake import MAX_EVENTS
from auditlib.formats.event import ACTION, ACTOR_TYPES, EVENT_ID, MAX_ID_BYTES, MAX_NAME_CHARS, NAME, OUTCOMES


def _object(description: str, **properties: Schema | Reference) -> Schema:
    return Schema(
        type=OpenAPIType.OBJECT,
        description=description,
        properties=properties,
        required=sorted(properties),
        additional_properties=False,
    )


def _text(description: str = "", **rules: Any) -> Schema:
    return Schema(type=OpenAPIType.STRING, description=description or None, **rules)


_ID: dict[str, Any] = {"min_length": 1, "max_length": MAX_ID_BYTES}
_EVENT = _object(
    "An event: who did what, to which resource, when, with what outcome.",
    action=_text("dotted lower-case words, noun.verb", pattern=f"^{ACTION.pattern}$", max_length=MAX_NAME_CHARS),
    actor=_object(
        "Who acted.",
        id=_text(**_ID),
        session=Schema(type=[OpenAPIType.STRING, OpenAPIType.NULL], **_ID),
        type=_text(enum=list(ACTOR_TYPES)),
    ),
    context=Schema(
        type=OpenAPIType.OBJECT,
        description="The state that made the action privileged; at most 16,384 bytes of canonical JSON and 8 levels.",
    ),
    event_id=_text("unique within the source", pattern=f"^{EVENT_ID.pattern}$"),
    occurred_at=_text("RFC 3339 with an offset", format=OpenAPIFormat.DATE_TIME),
    outcome=_text(enum=list(OUTCOMES)),
    target=_object("What was acted on.", id=_text(**_ID), type=_text(pattern=f"^{NAME.pattern}$")),
)
_JSON = Schema(
    any_of=[
        _EVENT,
        Schema(type=OpenAPIType.ARRAY, max_items=MAX_EVENTS, description="Events, in order."),
        Schema(type=OpenAPIType.OBJECT, description="No event: answered by a refusal."),
    ]
)
_NDJSON = _text(f"One event a line, at most {MAX_EVENTS:,}.")

_PARAMETERS = [
    Parameter(
        "Audit-Instance",
        "header",
        schema=_text(pattern=f"^{INSTANCE}$"),
        description="The client's instance: the source becomes `<source of the token>/<instance>`.",
    ),
    Parameter(
        "Audit-First-Seq",
        "header",
        schema=Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=MAX_FIRST_SEQ),
        description="The number of the first event; the others follow. Needs Audit-Instance.",
    ),
    Parameter(
        "Audit-Sent-At",
        "header",
        schema=_text(format=OpenAPIFormat.DATE_TIME),
        description="The client's clock when sending: how far it is off is kept.",
    ),
    Parameter(
        "Audit-Account",
        "header",
        schema=_text(pattern=f"^{ACCOUNT}$"),
        description=f"For sources that begin with `{IMPORTED}`: the account, appended after a colon.",
    ),
]


def _problem(why: str) -> ResponseSpec:
    return ResponseSpec(Problem, generate_examples=False, description=why)


POST_RESPONSES = {
    400: _problem("The body or a header cannot be read; it is quarantined as one refusal."),
    401: _problem("No token, or one that is not valid."),
    408: _problem("The body took too long."),
    413: _problem("More than 1,000 events or 4 MiB; it is quarantined as one refusal."),
    415: _problem("Another Content-Type, or a compressed body; it is quarantined as one refusal."),
    429: _problem("Too many requests of this source at once; nothing was taken."),
    503: _problem("The collector is full, or its store is away; nothing was acknowledged."),
}


def health_responses(health: type) -> dict[int, ResponseSpec]:
    """The other answer of /health."""
    return {503: ResponseSpec(health, generate_examples=False, description="The store does not answer.")}


@dataclass
class PostEvents(Operation):
    """The operation as litestar derives it, with what it cannot know: body, headers, token, Retry-After."""

    security: list[dict[str, list[str]]] | None = field(default=None)

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            content={
                "application/json": OpenAPIMediaType(schema=_JSON),
                "application/x-ndjson": OpenAPIMediaType(schema=_NDJSON),
            },
            required=True,
        )
        self.parameters = list(_PARAMETERS)
        self.security = [{"token": []}]
        for status in ("429", "503"):
            response = (self.responses or {}).get(status)
            if isinstance(response, OpenAPIResponse):
                response.headers = {
                    "Retry-After": OpenAPIHeader(schema=Schema(type=OpenAPIType.INTEGER), description="seconds")
                }


def description() -> OpenAPIConfig:
    """The document at /schema, as JSON, without pages that load scripts from elsewhere."""
    return OpenAPIConfig(
        title="auditlib collector",
        version="1",
        description="Takes audit events in. Nothing can be read, changed or deleted here.",
        path="/schema",
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        components=Components(
            security_schemes={"token": SecurityScheme(type="http", scheme="bearer", description="One token a source.")}
        ),
    )
