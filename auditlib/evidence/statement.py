"""How a population was drawn, on one page: what an auditor asks about its completeness and accuracy.

    {"query": {...}, "checkpoint": {...}, "batches": {"read": 14, "skipped": 13, "why": "..."}, "rows": {...},
     "boundaries": {...}, "sources": [...], "lateness": {...}, "repeats": {...}, "refused": {...}, "excluded": "..."}

Facts from the seals up to the checkpoint and from the batches that were read; nothing here is an opinion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pandas as pd

from auditlib.evidence.answer import Period, many
from auditlib.findings import duration
from auditlib.formats.seal import Seal
from auditlib.formats.times import DAY, format_time, parse_time
from auditlib.pipeline import LATE, OWN, REFUSING
from auditlib.query import Filter
from auditlib.scan import in_utc
from auditlib.seals import Seals
from auditlib.trail import Trail

REFUSED_COLUMNS = [
    *("event_id", "recorded_at", "source", "action", "claimed_source", "claimed_event_id", "claimed_action"),
    *("claimed_occurred_at", "reason", "sequence", "row"),
]
MAX_LATE = 20  # items named that were recorded long after they occurred

# What the collector refused says what it claimed to be; what the sealer refused is kept, and its first part begins
# with its action. One of unknown action or time could be anything, and so could belong.
_REFUSED = f"""
    , told AS (
        SELECT event_id, recorded_at, source, action, context ->> '$.source' AS claimed_source,
               coalesce(context ->> '$.claimed.event_id', context ->> '$.event_id') AS claimed_event_id,
               coalesce(context ->> '$.claimed.action',
                        nullif(regexp_extract(context ->> '$.refused', '^\\{{"action":"([^"]*)"', 1), ''))
                   AS claimed_action,
               context ->> '$.claimed.occurred_at' AS claimed_occurred_at, context ->> '$.reason' AS reason,
               coalesce(context ->> '$.part', '1') AS part, sequence, row
        FROM batches WHERE action IN ({", ".join(f"'{name}'" for name in REFUSING)}) AND starts_with(source, '{OWN}'))
    SELECT {", ".join(REFUSED_COLUMNS)} FROM told
    WHERE part = '1' AND (claimed_action IS NULL OR list_contains($actions, claimed_action))
      AND coalesce(try_cast(claimed_occurred_at AS TIMESTAMPTZ), make_timestamptz($since))
          BETWEEN make_timestamptz($since) AND make_timestamptz($until)
      AND recorded_at >= make_timestamptz($since)
    ORDER BY sequence, row"""  # noqa: S608 - constants of this library alone


class Statement(msgspec.Struct, frozen=True):
    """The statement as packet.json holds it, in sentences, and the refused records that could have belonged."""

    facts: dict[str, Any]
    sentences: list[str]
    refused: pd.DataFrame


def state(
    trail: Trail, period: Period, *, query: dict[str, Any], actions: tuple[str, ...], read: int, items: pd.DataFrame
) -> Statement:
    """State how `items` were drawn by `query` from the `read` batches that could hold one of `actions`.

    `items` has at least event_id, occurred_at, recorded_at, sequence and row.
    """
    first, last = (parse_time(text) for text in trail.recorded)
    since = min(first, trail.history.seals.begins) if period.since is None else period.since
    until = max(last + 1, since + 1) if period.until is None else period.until
    every = trail.history.seals
    seals = every.chosen(every.recorded_within(since, until))
    refused = _refused(trail, actions, since, until)
    late = _late(items)
    longest = (late["recorded_at"] - late["occurred_at"]).max() if len(late) else None
    events = len(items[["sequence", "row"]].drop_duplicates())
    facts: dict[str, Any] = {
        "batches": {
            "read": read,
            "skipped": len(trail.seals) - read,
            "why": "a batch is skipped where its seal states that it holds none of these actions, or nothing of the "
            "period; deep verification (check 6) recomputes these statements",
        },
        "boundaries": period.as_json(),
        "checkpoint": {
            "origin": trail.origin,
            "root": trail.checkpoint.root.hex(),
            "size": trail.checkpoint.size,
        },
        "excluded": "nothing: every event that answers the query is in the population",
        "lateness": {
            "late_items": late["event_id"].tolist()[:MAX_LATE],
            "late_items_number": len(late),
            "longest": None if longest is None else duration(int(longest.total_seconds() * 1_000_000)),
            "watermark": format_time(last),
        },
        "query": query,
        "refused": {"could_belong": len(refused)},
        "repeats": "an event sent twice is kept once; another body under a used id is refused and sealed as "
        "audit.conflict, and counted under refused",
        "rows": {
            "events": events,
            "items": len(items),
            "read": _read(seals=trail.history.seals, actions=actions, period=period),
        },
        "sources": _continuity(seals),
    }
    return Statement(facts, _sentences(facts, period, until, last), refused)


def _refused(trail: Trail, actions: tuple[str, ...], since: int, until: int) -> pd.DataFrame:
    every = trail.history.seals
    refusing = every.actions.having(REFUSING.__contains__) | every.uncounted
    holding = every.chosen((every.recorded[:, 1] >= since) & refusing)
    if not holding:
        return pd.DataFrame(columns=REFUSED_COLUMNS)
    values: Any = {"actions": list(actions), "since": since, "until": until}
    frame: pd.DataFrame = in_utc(trail.run(holding, _REFUSED, values, apart=True).to_arrow_table()).to_pandas()
    return frame[REFUSED_COLUMNS]


def _late(items: pd.DataFrame) -> pd.DataFrame:
    if items.empty:
        return items
    return items[(items["recorded_at"] - items["occurred_at"]).dt.total_seconds() * 1_000_000 > LATE]


def _read(seals: Seals, actions: tuple[str, ...], period: Period) -> int:
    """Events in the batches that were read, by their seals."""
    asked = Filter(actions=actions, since=period.since, until=period.until)
    return int(seals.events[asked.holding(seals)].sum())


def _continuity(seals: Sequence[Seal]) -> list[dict[str, Any]]:
    """Each source instance of the period: its numbers, and how many of them are missing, by the seals' statements."""
    found: dict[str, tuple[int, int | None, int | None]] = {}
    for seal in seals:
        for name, part in seal.sources.items():
            events, low, high = found.get(name, (0, None, None))
            lows = [number for number in (low, part.first_seq) if number is not None]
            highs = [number for number in (high, part.last_seq) if number is not None]
            found[name] = (events + part.events, min(lows, default=None), max(highs, default=None))
    return [
        {
            "events": events,
            "first_number": low,
            "last_number": high,
            "missing": None if low is None or high is None else max(0, high - low + 1 - events),
            "source": name,
        }
        for name, (events, low, high) in sorted(found.items())
    ]


def _sentences(facts: dict[str, Any], period: Period, until: int, last: int) -> list[str]:
    batches, rows, lateness, refused = (facts[name] for name in ("batches", "rows", "lateness", "refused"))
    told = [
        f"{rows['read']:,} events stood in the {many(batches['read'], 'batch', 'batches')} that were read; "
        f"{rows['events']:,} of them answer the query, as {many(rows['items'], 'item')}."
    ]
    numbered = [source for source in facts["sources"] if source["missing"] is not None]
    missing = [source for source in numbered if source["missing"]]
    told.append(
        f"{many(len(numbered), 'source instance')} of the period number their records; "
        + (
            "; ".join(f"{source['missing']:,} numbers of {source['source']} are missing" for source in missing)
            if missing
            else "no number is missing between the first and the last of any"
        )
        + " (by the seals' counts)."
    )
    if period.until is not None and last >= until:
        told.append(
            f"Records are in this trail up to {lateness['watermark']}, {duration(last - until)} after the period "
            "ended: what arrived later than that is not in it."
        )
    else:
        told.append(f"Records are in this trail up to {lateness['watermark']}; what arrived later is not in it.")
    if lateness["late_items_number"]:
        told.append(
            f"{many(lateness['late_items_number'], 'item')} were recorded more than {LATE // DAY * 24} h after they "
            f"occurred, the longest {lateness['longest']}: {', '.join(lateness['late_items'])}."
        )
    told.append(
        f"{many(refused['could_belong'], 'refused or conflicting record')} could have belonged to the population; "
        "the table 'refused' names each."
        if refused["could_belong"]
        else "No refused or conflicting record could have belonged to the population."
    )
    return told
