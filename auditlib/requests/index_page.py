"""index.html and index.json over a folder of packets, and one digest over all of them.

    {"format": "auditlib/requests-index/v1", "requests": [{"id": "AC-03", "packet": "AC-03", "packet_digest": "..."}],
     "scope": [{"system": "payroll", "month": "2026-03", "state": "uncovered", ...}]}

Both are made from the list and from what stands in the folder, and from nothing else: no clock, host name or path gets
in, so that the same packets give the same bytes. The digest is the SHA-256 of index.json; index.html prints it.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.canonical import canonical
from auditlib.packet.report import visible
from auditlib.requests.standing import NEVER, UNREADABLE, Standing

INDEX_FORMAT = "auditlib/requests-index/v1"
HTML, JSON = "index.html", "index.json"
MAX_INDEX_BYTES = 64 * 1024 * 1024  # of an index.json that stands there already
_STYLE = Path(__file__).parent.parent / "packet" / "templates" / "report.css"
_UNANSWERED = {NEVER: "not answered", UNREADABLE: "its packet cannot be read"}


class Index(msgspec.Struct, frozen=True):
    """The index as bytes, and its digest."""

    html: bytes
    json: bytes
    digest: str


def make_index(
    standings: Sequence[Standing], scope: Sequence[Mapping[str, str]] = (), told: Sequence[str] = ()
) -> Index:
    """What stands, the rows of `evidence.scope.scope_table` and its sentences -> the index."""
    entries = [_entry(one) for one in standings]
    stated = canonical({"format": INDEX_FORMAT, "requests": entries, "scope": [dict(row) for row in scope]})
    digest = sha256(stated).hexdigest()
    return Index(_page(standings, entries, scope, told, digest), stated, digest)


def check_index_place(folder: Path) -> None:
    """MalformedError where the folder holds an index of something else, before anything is built into it."""
    page, data = folder / HTML, folder / JSON
    if not page.exists() and not data.exists():
        return
    try:
        known = data.stat().st_size <= MAX_INDEX_BYTES and f'"format":"{INDEX_FORMAT}"'.encode() in data.read_bytes()
    except OSError:
        known = False
    if not known:
        raise MalformedError(
            "it holds an index of something else, which is not overwritten.",
            where=str(folder),
            remedy="Choose another -o.",
        )


def write_index(index: Index, folder: Path) -> None:
    """Put the index into the folder, in the place of the one before; each file whole or not at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in ((JSON, index.json), (HTML, index.html)):
            fresh = folder / f".{name}.{secrets.token_hex(4)}"
            try:
                fresh.write_bytes(data)
                fresh.replace(folder / name)
            finally:
                with suppress(OSError):
                    fresh.unlink(missing_ok=True)
    except OSError as error:
        raise UnavailableError(f"the index cannot be written ({error.strerror}).", where=str(folder)) from None


def _entry(one: Standing) -> dict[str, Any]:
    """One request as index.json has it; null where there is no packet, and what is one trail's where it has several."""
    request, packet = one.request, one.packet
    stated = {
        "control": request.control.id,
        "criteria": request.criteria,
        "framework": request.framework,
        "id": request.id,
        "question": request.question,
        "trail": request.trails[0] if len(request.trails) == 1 else None,
        "trails": request.trails,
    }
    if packet is None:
        names = (
            "checkpoint",
            "checkpoints",
            "evidence_digest",
            "exceptions",
            "headline",
            "origin",
            "packet",
            "packet_digest",
            "period",
        )
        return stated | dict.fromkeys(names)
    alone = next(iter(packet.sizes.items())) if len(packet.sizes) == 1 else (None, None)
    return stated | {
        "checkpoint": alone[1],
        "checkpoints": [{"origin": origin, "size": size} for origin, size in packet.sizes.items()],
        "evidence_digest": packet.evidence_digest,
        "exceptions": packet.told.exceptions,
        "headline": packet.told.headline,
        "origin": alone[0],
        "packet": packet.path.name,
        "packet_digest": packet.packet_digest,
        "period": msgspec.to_builtins(packet.told.period.utc),
    }


def _page(
    standings: Sequence[Standing],
    entries: Sequence[Mapping[str, Any]],
    scope: Sequence[Mapping[str, str]],
    told: Sequence[str],
    digest: str,
) -> bytes:
    environment = Environment(
        loader=PackageLoader("auditlib.requests"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    environment.filters["whole"] = lambda number: f"{number:,}"
    style = _STYLE.read_text(encoding="utf-8").replace("Evidence digest DIGEST", f"Index digest {digest}")
    hashed = base64.b64encode(sha256(style.encode()).digest()).decode()
    html = environment.get_template(HTML).render(
        rows=[
            {"request": one.request, "link": _link(one), "unanswered": _UNANSWERED.get(one.state), **entry}
            for one, entry in zip(standings, entries, strict=True)
        ],
        origins=sorted({one["origin"] for entry in entries for one in entry["checkpoints"] or ()}),
        exceptions=sum(entry["exceptions"] or 0 for entry in entries),
        scope=[row for row in scope if row["state"] != "covered"],
        scoped=len(scope),
        told=told,
        digest=digest,
        policy=Markup(f"default-src 'none'; style-src 'sha256-{hashed}'; base-uri 'none'; form-action 'none'"),  # noqa: S704 - a hash
        style=Markup(style),  # noqa: S704 - a file of this package and a hash
    )
    return html.encode()


def _link(one: Standing) -> str:
    """From the index to the report, or to the zip that holds it."""
    if one.packet is None:
        return ""
    name = quote(one.packet.path.name)
    return name if name.endswith(".zip") else f"{name}/data/report.html"
