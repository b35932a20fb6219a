"""Every error a caller can meet, in three families; the family decides the exit code (DESIGN 7).

    AuditlibError
    ├── MalformedError      2   it cannot be read, or was asked for wrongly
    ├── MismatchError       1   it was read, and the evidence is wrong: expected and found
    └── UnavailableError    3   storage or a service did not answer
        └── MissingError    3   the object asked for is not there

A message is a sentence for the person who must act on it: what is wrong, where, and what to do next.
"""

from __future__ import annotations

from typing import Any


class AuditlibError(Exception):
    """What went wrong (`message`), where (`where`: a file, an object, a field) and what to do next (`remedy`)."""

    exit_code = 1

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(message, where, remedy)
        self.message = message
        self.where = where
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors travel between processes whole."""
        return _rebuilt, (type(self), self.__dict__)

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} {self.remedy}" if self.remedy else text

    def at(self, where: str) -> AuditlibError:
        """The same error, one level further out: `where` is put before the place it already names."""
        self.where = f"{where}: {self.where}" if self.where else where
        return self


def _rebuilt(kind: type[AuditlibError], state: dict[str, Any]) -> AuditlibError:
    error = kind(state["message"])
    error.__dict__.update(state)
    return error


class MalformedError(AuditlibError):
    """It cannot be read, or was asked for wrongly (exit code 2)."""

    exit_code = 2


class MismatchError(AuditlibError):
    """It was read, and the evidence is wrong (exit code 1); `expected` and `found` say how."""

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        where: str = "",
        remedy: str = "",
        expected: object = None,
        found: object = None,
    ) -> None:
        super().__init__(message, where=where, remedy=remedy)
        self.expected = expected
        self.found = found


class UnavailableError(AuditlibError):
    """Storage or a service did not answer (exit code 3); trying again later may help."""

    exit_code = 3


class MissingError(UnavailableError):
    """The object asked for is not there."""
