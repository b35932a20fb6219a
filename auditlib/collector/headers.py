"""What the headers of a request say of its events; each is checked by a rule that /schema states.

Content-Type: application/x-ndjson
Audit-Instance: 7f3a
Audit-First-Seq: 101
Audit-Sent-At: 2026-01-08T14:32:07.120000Z
"""

from __future__ import annotations

import re
from collections.abc import Callable

from auditlib.collector.answers import Refusing
from auditlib.collector.intake import MAX_EVENTS, Delivery, Form
from auditlib.errors import AuditlibError
from auditlib.formats.canonical import MAX_INTEGER
from auditlib.formats.event import MAX_NAME_CHARS
from auditlib.formats.times import parse_time

INSTANCE = r"[a-z0-9]{1,32}"
ACCOUNT = r"[a-z0-9_.-]{1,64}"
FIRST_SEQ = r"[1-9][0-9]{0,15}"
MAX_FIRST_SEQ = MAX_INTEGER - MAX_EVENTS  # so that the last event of a request has a number too
IMPORTED = "import:"  # sources that may name an account

_FORMS: dict[str, Form] = {"application/json": "json", "application/x-ndjson": "ndjson"}
_MAX_SHOWN = 80  # characters of a header's value in an answer

Headers = Callable[[str], list[str]]  # a header's name -> its values


def delivery_of(token_source: str, headers: Headers, arrived_at: int) -> Delivery:
    """The headers of an authenticated request -> a Delivery. Raises Refusing, 400 or 415, that names the header."""
    coding = _one(headers, "Content-Encoding")
    if coding is not None and coding.strip().lower() != "identity":
        raise Refusing(415, "Content-Encoding: bodies are taken as they are, without compression.")
    form = _form(_one(headers, "Content-Type"))
    source = token_source
    account = _one(headers, "Audit-Account")
    if account is not None:
        if not token_source.startswith(IMPORTED):
            raise Refusing(400, f"Audit-Account: only the token of a source that begins with {IMPORTED} may name one.")
        source += f":{_matched('Audit-Account', account, ACCOUNT)}"
    instance = _one(headers, "Audit-Instance")
    if instance is not None:
        source += f"/{_matched('Audit-Instance', instance, INSTANCE)}"
    if len(source) > MAX_NAME_CHARS:
        raise Refusing(400, f"the source {source!r} has {len(source)} characters; at most {MAX_NAME_CHARS} are kept.")
    first_seq = _first_seq(_one(headers, "Audit-First-Seq"), instance)
    sent_at = _one(headers, "Audit-Sent-At")
    try:
        sent = None if sent_at is None else parse_time(sent_at)
    except AuditlibError as error:
        raise Refusing(400, str(error.at("Audit-Sent-At"))) from None
    return Delivery(source, form, first_seq, arrived_at, sent)


def content_length(headers: Headers) -> int | None:
    """The announced length; None without one. The server has refused what is no number."""
    values = headers("Content-Length")
    return int(values[0]) if values and values[0].isdecimal() and values[0].isascii() else None


def _one(headers: Headers, name: str) -> str | None:
    values = headers(name)
    if len(values) > 1:
        raise Refusing(400, f"{name}: the header stands {len(values)} times; send it once.")
    return values[0] if values else None


def _form(content_type: str | None) -> Form:
    kind, _, parameters = (content_type or "").partition(";")
    form = _FORMS.get(kind.strip().lower())
    if form is None:
        raise Refusing(415, f"Content-Type: {kind[:_MAX_SHOWN]!r} is none of {', '.join(_FORMS)}.")
    if parameters.strip().lower().replace('"', "") not in ("", "charset=utf-8"):
        raise Refusing(415, "Content-Type: the body is always UTF-8; send no other parameter.")
    return form


def _first_seq(text: str | None, instance: str | None) -> int | None:
    if text is None:
        return None
    if instance is None:
        raise Refusing(400, "Audit-First-Seq: numbers belong to an instance; send Audit-Instance too.")
    first = int(_matched("Audit-First-Seq", text, FIRST_SEQ))
    if first > MAX_FIRST_SEQ:
        raise Refusing(400, f"Audit-First-Seq: at most {MAX_FIRST_SEQ}, so that every event's number is below 2^53.")
    return first


def _matched(name: str, text: str, pattern: str) -> str:
    if not re.fullmatch(pattern, text):
        raise Refusing(400, f"{name}: {text[:_MAX_SHOWN]!r} is refused; it must match {pattern}.")
    return text
