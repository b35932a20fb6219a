"""The probes that the trail holds: when somebody last tried to break a lock, what was tried, what the storage said.

A probe is a run of `vault.probe` events that name one canary; they are asked for through the scope as any others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from auditlib.errors import MalformedError
from auditlib.formats.canonical import parse_json
from auditlib.scoped import Question, ScopedTrail

KIND = "probe"
ROWS = 200  # the newest events; a run has eleven
RUNS = 10  # told of, beside the last
SOUND = ("held", "noted")  # verdicts that leave the lock whole


class Tried(msgspec.Struct, frozen=True):
    """One attempt, what the storage answered, its verdict, and the event that says so."""

    attempt: str
    answer: str
    verdict: str
    event_id: str
    source: str


class Run(msgspec.Struct, frozen=True):
    """One probe: when it ended, by whom, its attempts in their order, how many broke the lock."""

    at: str
    by: str
    tried: tuple[Tried, ...]
    broken: int


def probes_of(trail: ScopedTrail) -> tuple[Run, ...]:
    """The newest runs, newest first; none where the catalogue knows no probes or none was recorded."""
    rows = trail.search(Question(kind=KIND), limit=ROWS).rows.to_pylist()
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        runs.setdefault(_said(row)["canary"], []).append(row)
    return tuple(_run(list(reversed(run))) for run in list(runs.values())[: RUNS + 1])


def _run(rows: list[dict[str, Any]]) -> Run:
    tried = tuple(_tried(row) for row in rows)
    last = rows[-1]
    at = last["occurred_at"].strftime("%Y-%m-%d %H:%M:%S")
    return Run(at, f"{last['actor_type']}:{last['actor_id']}", tried, _broken(tried))


def _tried(row: dict[str, Any]) -> Tried:
    said = _said(row)
    return Tried(said["attempt"], said["answer"], said["verdict"], row["event_id"], row["source"])


def _broken(tried: Iterable[Tried]) -> int:
    return sum(one.verdict not in SOUND for one in tried)


def _said(row: dict[str, Any]) -> dict[str, str]:
    """What the event says; a context of another shape says nothing, which is no verdict that holds."""
    try:
        context = parse_json(row["context"].encode())
    except MalformedError:
        context = {}
    return {name: str(context.get(name, "")) for name in ("attempt", "answer", "verdict", "canary")}
