"""How the report shows the integrity of a trail: its sections, their tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from auditlib.evidence.answer import Column, Kind, Page, Section, Tile


def integrity_page(tiles: list[Tile], said: Mapping[str, list[str]], *, faulty: bool) -> Page:
    """The page; `said` are the sentences of the sections by name. It opens with the findings where there are faults."""
    findings = Section(
        title="What the checks found",
        table="findings",
        columns=_columns("check:number", "severity:verdict", "object:code", "message:wide", "expected", "found"),
        empty="Nothing.",
    )
    checks = Section(
        title="The numbered checks",
        table="checks",
        columns=_columns(
            "check:number", "says:wide", "outcome:wide", "faults:number", "warnings:number", "notes:number"
        ),
    )
    rest = [
        Section(title="The chain and its checkpoints", sentences=said["chain"], figure="chain"),
        Section(
            title="How recording went in the period",
            figure="days",
            table="observations",
            columns=_columns(
                "verdict:verdict", "judged", "began_at:time", "ended_at:time", "reason:wide", "event_id:code"
            ),
            empty="No silence, clock ahead, late arrival or lost number was found in the period.",
        ),
        Section(
            title="Locks",
            sentences=said["locks"],
            figure="locks",
            table="lock_kinds",
            columns=_columns(
                "kind", "mode", "objects:number", "holds:number", "ends_first:time", "ends_last:time", "remains"
            ),
        ),
        Section(
            title="Attempts on the lock",
            sentences=said["probes"],
            table="probes",
            columns=_columns("attempt", "answer:wide", "result:verdict", "occurred_at:time", "event_id:code"),
        ),
        Section(
            title="Shadows: what was put over objects of the trail",
            sentences=said["shadows"],
            table="shadows",
            columns=_columns("key:code", "what", "put_at:time", "by", "size:number"),
        ),
    ]
    return Page(tiles, [findings, checks, *rest] if faulty else [checks, *rest, findings])


_HEADINGS = {
    "says": "What it says",
    "outcome": "What came of it",
    "judged": "Source",
    "began_at": "From (UTC)",
    "ended_at": "Until (UTC)",
    "reason": "What was noted",
    "event_id": "Event that shows it",
    "holds": "Legal holds",
    "ends_first": "Ends first (UTC)",
    "ends_last": "Ends last (UTC)",
    "remains": "Least that remains",
    "occurred_at": "Occurred (UTC)",
    "put_at": "Put (UTC)",
}


def _columns(*named: str) -> list[Column]:
    """`name` or `name:kind` -> columns with their headings."""
    parts: Sequence[tuple[str, str, str]] = [text.partition(":") for text in named]
    return [Column(name, _HEADINGS.get(name, name.capitalize()), cast(Kind, kind or "text")) for name, _, kind in parts]
