"""Pages as HTML: Jinja templates with autoescape on, so that what an event says stays text."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import panel as pn

from auditlib.errors import AuditlibError

FOLDER = Path(__file__).parent
_STRANGE = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C])  # bidi controls


@cache
def templates() -> jinja2.Environment:
    """The templates of the pages."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(moment=moment, exact=exact, number=number, plain=plain, hashed=hashed)
    return environment


def render(template: str, **values: Any) -> str:
    """A template filled in."""
    return templates().get_template(template).render(**values)


@cache
def theme() -> str:
    """The style of everything; each pane has a root of its own that the page's style does not reach."""
    return (FOLDER / "static" / "theme.css").read_text(encoding="utf-8")


def pane(markup: str = "", **options: Any) -> pn.pane.HTML:
    """A part of a page, made of markup of this library's own."""
    return pn.pane.HTML(
        markup, sanitize_html=False, stylesheets=[theme()], sizing_mode="stretch_width", margin=0, **options
    )


def refusal(error: AuditlibError) -> str:
    """An error as a person should read it: what, where, what to do."""
    return render("refusal.html", error=error)


def moment(value: datetime) -> str:
    """2026-03-01 12:00:00, of a time in UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def exact(value: datetime) -> str:
    """The same to the microsecond, with its zone."""
    return value.astimezone(UTC).isoformat(sep=" ", timespec="microseconds").replace("+00:00", " UTC")


def number(value: int) -> str:
    """12,345."""
    return f"{value:,}"


def hashed(value: str) -> str:
    """The beginning of a hash, for the eye; the whole of it stands beside or in the title."""
    return f"{value[:16]}…"


def plain(value: object) -> str:
    """A text without the controls that turn what follows around; they are shown as what they are."""
    text = str(value)
    if not any(ord(sign) in _STRANGE or ord(sign) < 32 or 0x7F <= ord(sign) < 0xA0 for sign in text):
        return text
    return "".join(
        f"[U+{ord(sign):04X}]" if ord(sign) in _STRANGE or ord(sign) < 32 or 0x7F <= ord(sign) < 0xA0 else sign
        for sign in text
    )
