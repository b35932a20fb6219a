"""What people read: one self-contained HTML page, made from packet.json and the tables beside it.

Everything a record says is text here: the template escapes all of it, and the page may load and run nothing.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Mapping
from shlex import quote
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditlib.approvals import ATTRIBUTES
from auditlib.findings import duration

MAX_ROWS = 2000  # rows of a table shown on the page; the rest stands in the CSV, and the page says so

_UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}  # Unicode categories of what is not seen, or moves what is
_SIGNS = {"pass": "✓", "fail": "✗", "n/a": "–", "not-testable": "?"}


def render_report(
    packet: Mapping[str, Any],
    evidence_digest: str,
    payload: Mapping[str, bytes],
    figures: Mapping[str, str],
    page: Mapping[str, Any] | None = None,
) -> bytes:
    """packet.json's content, its digest, the payload files and the figures (SVG made by this library) -> the page.

    `page` says what to show of an answer that is no list of items with attributes (`evidence.answer.Page`).
    """
    environment = Environment(
        loader=PackageLoader("auditlib.packet"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    environment.filters["sign"] = lambda value: _SIGNS.get(value, value)
    environment.filters["words"] = lambda name: str(name).replace("_", " ")
    environment.filters["second"] = lambda time: str(time)[:19].replace("T", " ")
    environment.filters["span"] = lambda seconds: duration(round(float(seconds or 0) * 1_000_000))
    environment.filters["given"] = lambda value: quote("none" if value is None else _given(value))
    environment.filters["whole"] = lambda number: f"{number:,}"
    tables = {
        name.removeprefix("tables/").removesuffix(".csv"): _rows(data)
        for name, data in payload.items()
        if name.startswith("tables/") and name.endswith(".csv")
    }
    html = environment.get_template("report.html").render(
        packet=packet,
        page=page,
        digest=evidence_digest,
        tables=tables,
        most=MAX_ROWS,
        attributes=ATTRIBUTES,
        figures={name: Markup(svg) for name, svg in figures.items()},  # noqa: S704 - drawn by evidence/charts.py
    )
    return html.encode()


def visible(value: Any) -> Any:
    """A text whose control and formatting characters can be seen: nothing turns a line round or hides in it."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c if unicodedata.category(c) not in _UNSEEN else f"\\u{{{ord(c):x}}}" for c in value)


def _given(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
