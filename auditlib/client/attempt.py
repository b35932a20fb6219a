"""One attempt, one event: success, failure or denied, whatever happens inside.

with audit.attempt("role.grant", actor=..., target=..., context={"granted_role": "admin"}) as attempt:
    attempt.context["ticket"] = grant(...)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.event import Actor, Event, Target

if TYPE_CHECKING:
    from auditlib.client import Client

P = ParamSpec("P")
R = TypeVar("R")
Kind = type[BaseException] | None


class Attempt:
    """Records exactly one event when what it surrounds ends, and lets its exception pass.

    success    no exception
    denied     PermissionError, or a type that was given as `denied`
    failure    any other exception: also KeyboardInterrupt, SystemExit, a cancelled task, a generator closed early

    The event is checked, and room for it sought, on the way in: what could not be recorded is not begun. Inside,
    `context` and `target` may be changed, and `event_id` is what the event will have. It occurred when the block ended.

    Where recording fails at the end, its error is raised from the exception inside. Only where that one must not be
    replaced (it is no Exception: an interrupt, a cancellation) does it pass, with a note, and the failure is reported
    as a problem. Where `context` or `target` were changed into what the schema refuses, the event is recorded as it was
    on the way in, and MalformedError raised.
    """

    def __init__(
        self,
        client: Client,
        action: str,
        actor: str | Actor | Mapping[str, Any] | None,
        target: str | Target | Mapping[str, Any],
        context: Mapping[str, Any] | None,
        denied: type[BaseException] | tuple[type[BaseException], ...],
    ) -> None:
        """See Client.attempt."""
        self._client, self._action, self._actor = client, action, actor
        self._given = (target, context)
        own: tuple[Any, ...] = denied if isinstance(denied, tuple) else (denied,)
        self._denied: tuple[type[BaseException], ...] = (PermissionError, *own)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in own):
            raise MalformedError("only exception types can mean that something was denied.", where="denied")
        self._entry: Event | None = None
        self.target = target
        self.context: dict[str, Any] = {}
        self.event_id = ""

    def __enter__(self) -> Attempt:
        """Check the event before anything is done."""
        if self._entry is not None:
            raise MalformedError("this attempt has been entered; call audit.attempt() for each.", where=self._action)
        target, context = self._given
        entry = self._client.event(self._action, self._actor, target, "success", context)
        self._client.check_room(entry)
        self._entry, self.context, self.event_id = entry, dict(context or {}), entry.event_id
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record how it came out."""
        entry = self._entry
        assert entry is not None  # noqa: S101 - Python enters before it exits
        outcome = "success" if error is None else "denied" if isinstance(error, self._denied) else "failure"
        failed = self._record(entry, outcome)
        if failed is None:
            return
        if error is None or isinstance(error, Exception):
            raise failed from error
        error.add_note(f"The attempt at {self._action} was not recorded as it should: {failed}")
        self._client.report(f"an attempt at {self._action} was not recorded as it should: {failed}")

    async def __aenter__(self) -> Attempt:
        """The same around awaits."""
        return self.__enter__()

    async def __aexit__(self, kind: Kind, error: BaseException | None, trace: TracebackType | None) -> None:
        """The same around awaits."""
        self.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """As a decorator: one attempt for each call, of a plain or an async function."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise MalformedError("a generator does nothing when it is called; use `with` inside.", where=self._action)
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with self._fresh():
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]  # R is the coroutine that it returns

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._fresh():
                return function(*args, **kwargs)

        return called

    def _fresh(self) -> Attempt:
        target, context = self._given
        return Attempt(self._client, self._action, self._actor, target, context, self._denied)

    def _record(self, entry: Event, outcome: str) -> Exception | None:
        """Record the event once, as changed inside or else as on the way in; the error, if there is one to raise."""
        refused: Exception | None = None
        try:
            event = self._client.event(
                entry.action, entry.actor, self.target, outcome, self.context, event_id=entry.event_id
            )
        except Exception as error:  # whatever was put into the context
            event, refused = msgspec.structs.replace(entry, outcome=outcome), error
        try:
            self._client.keep(event)
        except Exception as error:
            return error
        return refused
