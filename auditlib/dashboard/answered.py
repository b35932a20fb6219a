"""A packet -> what a page says of it: the answer first, then the potential exceptions, then by what it is known.

A packet is read whole where it is judged (dashboard.work_child), never in the server's own process.
"""

from __future__ import annotations

import io
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from auditlib.dashboard.texts import exact
from auditlib.errors import MalformedError
from auditlib.formats.canonical import parse_json
from auditlib.packet.bag import Bag, packet_digest
from auditlib.packet.check import MAX_PACKET_JSON_BYTES
from auditlib.packet.transmittal import check_transmittal

PACKET, EVENTS, REPORT = "data/packet.json", "data/events.jsonl", "data/report.html"
EXCEPTIONS = "data/tables/exceptions.parquet"
MAX_ROWS = 50  # potential exceptions shown on the page; the packet has them all
MAX_COLUMNS = 30
MAX_CELL_CHARS = 300
FIRST = ("item", "verdict", "reason")
TITLES = {"verdict": "did not pass"}
LEFT_OUT = ("event_id", "source", "recorded_at", "sequence", "row")  # where a record stands, which the item names
MAX_SENTENCES = 50
MAX_SENTENCE_CHARS = 2_000
DRAFT = "Draft: not transmitted. Nobody has signed for this packet as its preparer."


class Answered(msgspec.Struct, frozen=True):
    """What is shown of a packet; texts are cut, and never markup. `draft`: None where its preparer has signed it."""

    question: str
    headline: str
    conclusion: list[str]
    limits: list[str]
    records: int
    exceptions: int
    columns: list[str]
    rows: list[list[str]]
    period: tuple[str | None, str | None]
    checkpoint: int
    origin: str
    evidence_digest: str
    packet_digest: str
    draft: str | None
    signed: str | None


def read_answer(bag: Bag) -> Answered:
    """MalformedError where packet.json is not a packet's."""
    data = bag.read(PACKET, MAX_PACKET_JSON_BYTES)
    told: dict[str, Any] = parse_json(data)
    tested = {one["name"] for one in told.get("attributes") or () if isinstance(one, dict) and "name" in one}
    columns, rows = _exceptions(bag, tested)
    draft, signed = _transmitted(bag)
    try:
        period, (checkpoint, *_) = told["period"]["utc"], told["checkpoints"]
        stated = {
            "question": _cut(told["question"]),
            "headline": _cut(told["headline"]),
            "conclusion": [_cut(one) for one in told["conclusion"][:MAX_SENTENCES]],
            "limits": [_cut(one) for one in told["limits"][:MAX_SENTENCES]],
            "records": told["records"],
            "exceptions": told["exceptions"],
            "columns": columns,
            "rows": rows,
            "period": (period["since"], period["until"]),
            "checkpoint": checkpoint["size"],
            "origin": checkpoint["origin"],
            "evidence_digest": sha256(data).hexdigest(),
            "packet_digest": packet_digest(bag),
            "draft": draft,
            "signed": signed,
        }
        return msgspec.convert(stated, Answered)
    except (LookupError, TypeError, ValueError, msgspec.ValidationError):
        raise MalformedError("packet.json is not one.", where=PACKET) from None


def _exceptions(bag: Bag, tested: set[str]) -> tuple[list[str], list[list[str]]]:
    """What is wrong first, then what it is about; the outcome of each attribute is in the packet's own table."""
    if EXCEPTIONS not in bag.sizes:
        return [], []
    try:
        table = pq.read_table(io.BytesIO(bag.read(EXCEPTIONS)))
    except (pa.ArrowException, OSError):
        raise MalformedError("its table of potential exceptions cannot be read.", where=EXCEPTIONS) from None
    others = [name for name in table.column_names if name not in {*FIRST, *LEFT_OUT, *tested}]
    names = [*(name for name in FIRST if name in table.column_names), *others][:MAX_COLUMNS]
    rows = [
        ["" if cell is None else _cut(cell, MAX_CELL_CHARS) for cell in row.values()]
        for row in table.select(names).slice(0, MAX_ROWS).to_pylist()
    ]
    return [_cut(TITLES.get(name, name), MAX_CELL_CHARS) for name in names], rows


def _transmitted(bag: Bag) -> tuple[str | None, str | None]:
    """Why it is a draft, or who signed it when; no key is known here that would confirm the name."""
    checked = check_transmittal(bag)
    if checked.transmittal is None or any(finding.severity == "error" for finding in checked.findings):
        return DRAFT, None
    told = checked.transmittal
    return None, _cut(f"Transmitted by {told.preparer.name} at {told.signed_at}, with the key {told.preparer.key}.")


def _cut(value: Any, most: int = MAX_SENTENCE_CHARS) -> str:
    text = exact(value) if isinstance(value, datetime) else str(value)
    return text if len(text) <= most else f"{text[:most]}…"
