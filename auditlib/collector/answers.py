"""What the collector answers, as msgspec structs: from them come the JSON and its description at /schema.

{"results": [{"status": "recorded", "event_id": "01JH2K8Q9R3W", "recorded_at": "2026-01-08T14:32:08.000412Z",
              "source": "billing-api/7f3a", "source_seq": 17},
             {"status": "refused", "event_id": "01JH2K8Q9R3X", "reason": "actor.id: is empty; ..."}]}
{"error": "a token is needed: send `Authorization: Bearer TOKEN`."}
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from litestar.exceptions import HTTPException


class Recorded(msgspec.Struct, frozen=True, tag="recorded", tag_field="status", gc=False):
    """Stored durably, now."""

    event_id: str
    recorded_at: str
    source: str
    source_seq: int | None


class Repeated(msgspec.Struct, frozen=True, tag="repeated", tag_field="status", gc=False):
    """The same id with the same body was stored before: the receipt of the first."""

    event_id: str
    recorded_at: str
    source: str
    source_seq: int | None


class Conflict(msgspec.Struct, frozen=True, tag="conflict", tag_field="status", gc=False):
    """The same id came before with another body; both are kept, and the conflict is sealed."""

    event_id: str
    reason: str


class Refused(msgspec.Struct, frozen=True, tag="refused", tag_field="status", gc=False):
    """No event by the schema or the catalogue; its body is kept apart, and the refusal is sealed."""

    event_id: str | None
    reason: str


Result: TypeAlias = Recorded | Repeated | Conflict | Refused


class Answer(msgspec.Struct, frozen=True):
    """One result an event, in the order in which they came. It is sent only after the durable commit."""

    results: list[Result]


class Problem(msgspec.Struct, frozen=True):
    """Why a whole request was not taken. Nothing of it was recorded as an event."""

    error: Annotated[str, msgspec.Meta(min_length=1)]


class Health(msgspec.Struct, frozen=True):
    """Whether the store answers."""

    store: bool


class Refusing(HTTPException):
    """A request that is answered by a Problem."""

    headers: dict[str, str]  # always there, unlike in the base class

    def __init__(self, status: int, error: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(error, status_code=status, headers=headers or {})


class NotNow(Refusing):
    """Back-pressure: nothing was lost or taken, and the same request may come again after `Retry-After` seconds."""

    def __init__(self, status: int, error: str, seconds: int = 1) -> None:
        super().__init__(status, error, {"Retry-After": str(seconds)})
