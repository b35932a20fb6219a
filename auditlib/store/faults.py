"""Every failure of a database as one sentence, with no password in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from auditlib.errors import UnavailableError

_MAX_REASON_CHARS = 400
_RETRY = "Nothing was acknowledged; try again."
_REMEDIES = {  # by SQLSTATE (PostgreSQL, appendix A) and by SQLite's name of the result code
    "53100": "Make room on the database's disk; nothing was acknowledged.",
    "SQLITE_FULL": "Make room on the disk; nothing was acknowledged.",
    "42501": "Grant the login the group role it is to act in: auditlib_writer, _sealer, _keeper or _reader.",
    "42P01": "Make the store first: init_store.",
    "SQLITE_CANTOPEN": "Name a database that init_store has made, in a folder that can be read and written.",
    "SQLITE_BUSY": "Another process holds the database; try again.",
}


@contextmanager
def faults(where: str, secrets: Sequence[str] = ()) -> Iterator[None]:
    """Turn what the database raises into UnavailableError; `secrets` never stand in its sentence."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        raise UnavailableError(
            f"the database did not do what was asked: {_reason(error, secrets)}.", where=where, remedy=_remedy(error)
        ) from None


@contextmanager
def closing_on_error(connection: Any) -> Iterator[None]:
    """Close a driver's connection that cannot be set up: no pool knows of it yet."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _reason(error: Exception, secrets: Sequence[str]) -> str:
    cause = getattr(error, "orig", None) or error  # without SQLAlchemy's statement and parameters
    text = getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause)
    for secret in secrets:
        text = text.replace(secret, "***")
    return " ".join(text.split())[:_MAX_REASON_CHARS].rstrip(".")


def _remedy(error: Exception) -> str:
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None) or ""
    return _REMEDIES.get(code, _RETRY)
