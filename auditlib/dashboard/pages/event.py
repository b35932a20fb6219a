"""Event: one record in full, in plain words first, with the proof that it is under the checkpoint.

    event?id=01KF3FANZ0W72C1S30C3PFK50S&source=admin-console/2b6e

The server goes the whole way from the record to the checkpoint each time the page is made, and says so to everybody;
where the engagement allows it, the proof is drawn and the browser goes the way again by itself (static/event.js).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from panel.viewable import Viewable

from auditlib import packet
from auditlib.dashboard.markup import pane, render
from auditlib.dashboard.pages.view import View, Whole
from auditlib.dashboard.sentence import sentence
from auditlib.dashboard.texts import exact
from auditlib.dashboard.visit import Visit
from auditlib.errors import MismatchError
from auditlib.findings import duration
from auditlib.formats.catalog import Catalog
from auditlib.packet.report import visible
from auditlib.scoped import RefusedError, ScopedTrail
from auditlib.scoped.answers import Found
from auditlib.scoped.proof import Checked, Proof, Step, climb

_TEMPLATES = Path(packet.__file__).parent / "templates"
SCRIPTS = {name: _TEMPLATES / name for name in ("primitives.js", "checks.js")}  # served beside static/event_check.js
RELATED = {
    "request": "The same request: what was asked for, decided and done under it",
    "session": "The same session of its actor",
    "target": "The same target",
}
PREFIX = 10  # digits of a hash, in the drawing
LONG_CHARS = 600  # of a value; longer ones are scrolled within


class Seen(msgspec.Struct, frozen=True):
    """One event as it may be shown. Of `proof`, `refused` (why there is none) and `fault` one is there."""

    found: Found
    related: Mapping[str, pa.Table]
    left_out: Sequence[str] = ()
    proof: Proof | None = None
    checked: Checked | None = None
    refused: RefusedError | None = None
    fault: MismatchError | None = None


def open(visit: Visit) -> View:
    """The page."""
    return Whole(visit, page)


async def page(visit: Visit) -> list[Viewable]:
    """One event, or that there is none. That it was asked for is recorded first, whether it is there or not."""
    event_id, source = visit.arguments.get("id", "").strip(), visit.arguments.get("source") or None
    if not event_id:
        return [pane(none(visit, None))]
    engagement, trail, catalog = visit.engagement(), visit.trail(), visit.catalog()
    told = (visit.identity, visit.signin, engagement, visit.vault(), "event", event_id)
    await visit.run(lambda: visit.desk.recorder.viewed(*told))
    seen = await visit.run(lambda: look(trail, event_id, source, engagement.redact))
    if seen is None:
        return [pane(none(visit, event_id))]
    return [pane(markup(seen, catalog, visit.link))]


def none(visit: Visit, asked: str | None) -> str:
    """Where no event is shown: the same for an id outside the scope and for one that does not exist."""
    kept = {name: visit.arguments[name] for name in ("engagement", "vault") if name in visit.arguments}
    return render("event_none.html", asked=None if asked is None else visible(asked), kept=kept)


def look(trail: ScopedTrail, event_id: str, source: str | None, left_out: Sequence[str] = ()) -> Seen | None:
    """Everything that the page shows of an event; None for one outside the scope and for one that does not exist."""
    found = trail.event(event_id, source)
    if found is None:
        return None
    (source,) = found.rows.column("source").to_pylist()
    seen = Seen(found, trail.related(event_id, source), left_out)
    try:
        return msgspec.structs.replace(seen, proof=trail.proof(event_id, source))
    except RefusedError as refused:
        seen = msgspec.structs.replace(seen, refused=refused)
    except MismatchError as fault:
        return msgspec.structs.replace(seen, fault=fault)
    try:
        return msgspec.structs.replace(seen, checked=trail.checked(event_id, source))
    except MismatchError as fault:
        return msgspec.structs.replace(seen, fault=fault)


def markup(seen: Seen, catalog: Catalog | None, link: Callable[..., str]) -> str:
    """An event as HTML; `link` gives the relative address of a page. Whatever a record says is text in it."""
    record = msgspec.json.decode(seen.found.record)
    (row,) = seen.found.rows.to_pylist()
    told = [(visible(part.text), part.own) for part in sentence(record["event"], catalog)]
    text = seen.found.record.decode()
    return render(
        "event.html",
        sentence=told,
        fields=_fields(row, record, catalog, seen.left_out),
        context=[(visible(key), _value(value)) for key, value in record["event"]["context"].items()],
        pretty="\n".join(visible(line) for line in json.dumps(record, indent=2, ensure_ascii=False).split("\n")),
        shown=visible(text),
        exact=text,
        unseen=visible(text) != text,
        left_out=[visible(field) for field in seen.left_out],
        redacted=seen.found.redacted,
        related=[
            (title, [_link(other, link, catalog) for other in seen.related[name].to_pylist()])
            for name, title in RELATED.items()
            if name in seen.related
        ],
        proof=seen.proof,
        rungs=_rungs(seen.proof) if seen.proof else [],
        proof_json=_without_record(seen.proof) if seen.proof else "",
        checked=seen.checked,
        refused=seen.refused,
        fault=seen.fault,
        prefix=PREFIX,
        long=LONG_CHARS,
    )


def _fields(
    row: Mapping[str, Any], record: Mapping[str, Any], catalog: Catalog | None, left_out: Sequence[str]
) -> list[tuple[str, str, bool]]:
    """Name, value, and whether the value is a code rather than words."""
    event, receipt = record["event"], record["receipt"]
    action = catalog.actions.get(event["action"]) if catalog else None
    meaning = "not in the catalogue"
    if action is not None:
        meaning = f"of the kind {action.kind}{', privileged' if action.privileged else ''}"
        meaning += f"; criteria {', '.join(action.criteria)}" if action.criteria else ""
    later = row["recorded_at"] - row["occurred_at"]
    micros = (later.days * 86_400 + later.seconds) * 1_000_000 + later.microseconds
    number = receipt["source_seq"]
    no_session = "left out" if "actor.session" in left_out else "none"
    fields = [
        ("Occurred", exact(row["occurred_at"]), False),
        ("Recorded", exact(row["recorded_at"]), False),
        ("Between the two", duration(micros) if micros >= 0 else f"recorded {duration(-micros)} before", False),
        ("Actor", f"{event['actor']['type']} {event['actor']['id']}", True),
        ("Session", event["actor"]["session"] or no_session, event["actor"]["session"] is not None),
        ("Action", event["action"], True),
        ("What the catalogue says of it", meaning, False),
        ("Target", f"{event['target']['type']} {event['target']['id']}", True),
        ("Outcome", event["outcome"], False),
        ("Event id", event["event_id"], True),
        ("Source", receipt["source"], True),
        ("The source\u2019s own number", "none" if number is None else f"{number:,}", False),
    ]
    return [(name, visible(value), code) for name, value, code in fields]


def _value(value: Any) -> str:
    return str(visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))


def _link(row: Mapping[str, Any], link: Callable[..., str], catalog: Catalog | None) -> dict[str, str]:
    action = catalog.actions.get(row["action"]) if catalog else None
    return {
        "href": link("event", id=row["event_id"], source=row["source"]),
        "when": f"{row['occurred_at']:%Y-%m-%d %H:%M:%S} UTC",
        "action": visible(row["action"]),
        "kind": action.kind if action else "",
        "who": visible(f"{row['actor_type']} {row['actor_id']}"),
        "target": visible(f"{row['target_type']} {row['target_id']}"),
        "outcome": visible(row["outcome"]),
    }


def _rungs(proof: Proof) -> list[dict[str, Any]]:
    """The drawing from the leaf down to the checkpoint: each node, and the hash that it is joined with beside it."""

    def ladder(name: str, leaf: str, path: Sequence[Step], end: str) -> list[dict[str, Any]]:
        nodes = climb(leaf, path)
        names = [name, *[""] * (len(nodes) - 2), end] if len(nodes) > 1 else [f"{name} and {end.lower()}"]
        return [
            {"name": each, "node": node, "step": path[number] if number < len(path) else None}
            for number, (each, node) in enumerate(zip(names, nodes, strict=True))
        ]

    batch = ladder("Leaf", proof.leaf, proof.path, "Root of the batch")
    seals = ladder("Leaf of the seal", proof.seal_leaf, proof.seal_path, "Root of the checkpoint")
    return [*batch, {"name": "Seal", "node": None, "step": None}, *seals]


def _without_record(proof: Proof) -> str:
    """The proof for the browser; the record stands beside it once, as the text that is copied and checked."""
    return msgspec.json.encode(msgspec.structs.replace(proof, record=None)).decode()
