"""What people read: one self-contained HTML page, made from packet.json and the tables beside it.

Everything a record says is text here: the template escapes all of it. The page loads nothing, and runs nothing but its
own script, which checks the packet's files when they are dropped onto it (templates/primitives.js, checks.js, page.js).
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from shlex import quote
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditlib.findings import duration
from auditlib.packet.tables import read_heads

MAX_ROWS = 2000  # rows of a table shown on the page; the rest stands in the CSV, and the page says so

_UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}  # Unicode categories of what is not seen, or moves what is
_TEMPLATES = Path(__file__).parent / "templates"
_SCRIPTS = ("primitives.js", "checks.js", "page.js")  # one script, which a worker runs again from the first line
_STATEMENT = (  # the order in which an auditor asks; what else there is follows
    *("query", "boundaries", "checkpoint", "batches", "rows", "sources", "lateness", "repeats", "refused", "excluded"),
)
_SIGNS = {"pass": "✓", "fail": "✗", "n/a": "–", "not-testable": "?"}


def render_report(
    packet: Mapping[str, Any],
    evidence_digest: str,
    payload: Mapping[str, bytes],
    figures: Mapping[str, str],
    shape: Mapping[str, Any],
) -> bytes:
    """packet.json's content, its digest, the payload files and the figures (SVG made by this library) -> the page.

    `shape` says how to show it: as a list of items (`evidence.answer.Listing`), or otherwise (`evidence.answer.Page`).
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
    environment.filters["ordered"] = _ordered
    environment.filters["columns"] = lambda row: sorted(row, key=lambda name: isinstance(row[name], int | float))
    style = (
        (_TEMPLATES / "report.css").read_text(encoding="utf-8").replace("DIGEST", evidence_digest)
    )  # printed on every sheet
    script = "".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    heads = read_heads(payload, MAX_ROWS)
    html = environment.get_template("report.html").render(
        packet=packet,
        several=len(packet["checkpoints"]) > 1,
        page=shape if "tiles" in shape else None,
        listing=shape,
        redacted=packet.get("redacted"),
        digest=evidence_digest,
        tables={name: head.rows for name, head in heads.items()},
        rows_of={name: head.in_all for name, head in heads.items()},
        most=MAX_ROWS,
        figures={name: Markup(plain_svg(svg)) for name, svg in figures.items()},  # noqa: S704 - by evidence/charts.py
        policy=Markup(_policy(script, style)),  # noqa: S704 - hashes
        script=Markup(script),  # noqa: S704 - a file of this package
        style=Markup(style),  # noqa: S704 - a file of this package and a hash
    )
    return html.encode()


def visible(value: Any) -> Any:
    """A text whose control and formatting characters can be seen: nothing turns a line round or hides in it."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c if unicodedata.category(c) not in _UNSEEN else f"\\u{{{ord(c):x}}}" for c in value)


def plain_svg(svg: str) -> str:
    """A picture of evidence/charts.py without style elements and attributes, which the page's policy forbids.

    CSS properties of a style attribute become attributes of their own (SVG 2, 6.6: presentation attributes).
    """
    svg = re.sub(r"(?s)<metadata>.*?</metadata>|<style.*?</style>", "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # two pictures would have the same ids, which nothing refers to
    svg = re.sub(r"<[a-z][^<>]*>", lambda tag: re.sub(r'\sstyle="([^"]*)"', _attributes, tag[0]), svg)
    titles = re.findall(r'<text [^<>]*font-weight="700"[^<>]*>([^<]*)</text>', svg)
    label = titles[0].replace('"', "&quot;") if titles else "Chart"
    root = f'<svg role="img" aria-label="{label}" stroke-linejoin="round" stroke-linecap="butt"'
    return re.sub(
        r'<svg((?: [\w:]+="[^"]*")*)', lambda tag: root + re.sub(r' (?:width|height)="[^"]*"', "", tag[1]), svg
    )


def _attributes(style: re.Match[str]) -> str:
    """`fill: none; stroke: #8a8f98` -> ` fill="none" stroke="#8a8f98"`."""
    pairs = (declaration.split(":", 1) for declaration in style[1].split(";") if declaration.strip())
    return "".join(f' {name.strip()}="{value.strip()}"' for name, value in pairs)


def _policy(script: str, style: str) -> str:
    """The page's Content-Security-Policy: nothing is loaded, and nothing runs but this script and this style sheet."""
    hashes = [base64.b64encode(sha256(text.encode()).digest()).decode() for text in (script, style)]
    return (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; img-src data:; "
        "worker-src blob:; base-uri 'none'; form-action 'none'"
    )


def _ordered(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The pairs of an object of packet.json, those of a population statement first and in their order."""
    order = {name: place for place, name in enumerate(_STATEMENT)}
    return iter(sorted(value.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0])))


def _given(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
