"""Pages as HTML: Jinja templates with autoescape on, so that what an event says stays text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import panel as pn

from auditlib.dashboard.texts import exact, hashed, moment, number, plain
from auditlib.errors import AuditlibError

FOLDER = Path(__file__).parent


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
