"""Denied access: failed logins and denied checks, their bursts, and what followed each (TSC CC6.1, CC7.2).

    answer = denied_access(trail, since="2026-03-01", until="2026-06-01")
    answer.headline

An item is a burst (see `bursts`); its event is the first refusal of it in the period. Refusals outside bursts are
counted by day, action, actor, target and address; their records are not in the packet.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec
import pandas as pd

from auditlib.evidence import denied_page as page
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import Table, many, period_of
from auditlib.evidence.burst_follow import FACTS, done_after, first_successes
from auditlib.evidence.burst_verdicts import ATTRIBUTES, judge_bursts
from auditlib.evidence.bursts import Burst, Bursts, find_bursts
from auditlib.evidence.by_day import by_day, day_picture, one_a_day
from auditlib.evidence.charts import Mark, Picture
from auditlib.evidence.examined import FAIL, PLACE, Examined, Found, Request
from auditlib.evidence.refusals import ADDRESS, Refusals
from auditlib.evidence.statement import Statement, state
from auditlib.formats.times import format_time, parse_time
from auditlib.query import Moment
from auditlib.sampling import Rule, draw_sample
from auditlib.scan import in_utc
from auditlib.trail import Trail

REQUEST = Request(
    name="denied-access",
    title="Failed logins and denied access",
    criteria=("CC6.1", "CC7.2"),
    references=("ISO/IEC 27001:2022 A.8.16", "PCI DSS 4.0.1 10.2.1.4", "HIPAA 164.312(b)"),
    one="burst",
    several="bursts",
)
MAX_OF_A_BURST = 500  # refusals of one burst whose records are shown
MAX_SHOWN = 20_000  # of all bursts together, as long as each shows one
MAX_FOLLOWED = 100  # events after a success that are shown

_WHO = ["actor_type", "actor_id", "action", "outcome", "target"]
_PLACED = f"""
    , asked AS (SELECT unnest($bursts) AS burst, unnest($sequences) AS sequence, unnest($rows) AS row)
    SELECT burst, {FACTS}, {ADDRESS} AS ip FROM batches JOIN asked USING (sequence, row)
    ORDER BY burst, occurred_at, sequence, row"""  # noqa: S608 - constants of this library alone


class DeniedAccess(Examined):
    """The answer. The population was drawn as refusals: what is stated of its drawing is of these."""

    refusals: Refusals

    @cached_property
    def headline(self) -> str:
        """The answer in one sentence."""
        logins, denied = self.refusals.failed_logins, self.refusals.denied
        if not logins + denied:
            if set(self.relevant_sources) & set(self.coverage["source"]):
                return "No failed login and no denied action was recorded in the period."
            return "Not answerable: no source that records logins or checks was alive in the period."
        told = f"{many(logins, 'failed login')} and {many(denied, 'denied action')} were recorded in the period"
        bursts, followed = len(self.found.items), len(self.exceptions)
        if not bursts:
            return f"{told}; none of them came in a burst."
        came = "1 burst was among them" if bursts == 1 else f"{bursts:,} bursts were among them"
        if not followed:
            return f"{told}; {came}, none seen to be followed by a success."
        potential = "a potential exception" if followed == 1 else "potential exceptions"
        return f"{told}; {came}, {followed:,} followed by a success: {potential}."

    @property
    def actors(self) -> Table:
        """Refusals by actor, those with the most first."""
        return Table(self.found.tables["actors"])

    @property
    def followed(self) -> Table:
        """What was done after the first success that followed a burst."""
        return Table(self.found.tables["followed"])

    @cached_property
    def statement(self) -> Statement:
        """How the refusals were drawn."""
        found, moments = self.found, self.refusals.moments
        stated = state(
            self.trail, self.period, query=found.query, actions=found.actions, read=found.read, items=moments
        )
        events = sum(seal.batch.events for seal in self.refusals.seals)
        why = (
            "a batch is skipped where its seal states that nothing in it failed or was denied, or that it holds "
            "nothing of the period; deep verification (check 6) recomputes these statements"
        )
        facts = stated.facts | {
            "batches": stated.facts["batches"] | {"why": why},
            "excluded": "nothing: every event that answers the query was counted",
            "rows": {"events": len(moments), "items": len(found.items), "read": events},
        }
        first = (
            f"{events:,} events stood in the {many(found.read, 'batch', 'batches')} that were read; "
            f"{many(len(moments), 'refusal')} among them, in {many(len(found.items), 'burst')} or alone."
        )
        return msgspec.structs.replace(stated, facts=facts, sentences=[first, *stated.sentences[1:]])


@over_trails
def denied_access(
    trail: Trail,
    *,
    since: Moment,
    until: Moment = None,
    through: Moment = None,
    tz: str = "UTC",
    burst_events: int = 20,
    burst_minutes: int = 10,
    follow_hours: int = 24,
    sample: Rule | None = None,
) -> DeniedAccess:
    """Answer "show me the failed logins and denied accesses between SINCE and UNTIL, and what followed".

    A burst has at least `burst_events` refusals within `burst_minutes`; a success is looked for up to `follow_hours`
    after its last.
    """
    refusals = Refusals(trail, period_of(since, until, through, tz))
    asked = Burst(burst_events, burst_minutes, follow_hours)
    bursts = find_bursts(refusals, asked)
    heads = _records(refusals, bursts.rows)
    successes = first_successes(trail, refusals, bursts, follow_hours)
    followed = done_after(trail, successes, follow_hours, MAX_FOLLOWED)
    items = judge_bursts(
        bursts.rows, heads, successes, followed, hours=follow_hours, observed_until=parse_time(trail.recorded[1])
    )
    shown = _shown(bursts)
    names = dict(zip(bursts.rows["burst"].tolist(), items["item"].tolist(), strict=True))
    tables = {
        "followed": _named(followed, names, [*_WHO, "in_all"]),
        "refusals": _named(_records(refusals, shown), names, [*_WHO, "ip"]),
        "successes": _named(successes, names, [*_WHO, "actor_session"]),
    }
    moments = refusals.moments
    times = {"failed_logins": moments["login"], "denied": ~moments["login"]}
    days = by_day({name: moments.loc[here, "occurred_at"] for name, here in times.items()}, refusals.period, trail)
    found = Found(
        question=f"Show me the failed logins and denied accesses from {refusals.period.words()}, and what followed.",
        kind="burst",
        items=items,
        attributes=ATTRIBUTES,
        columns=page.COLUMNS,
        noted=page.NOTED,
        query=_query(refusals),
        actions=_actions(refusals),
        read=len(refusals.seals),
        procedure=page.procedure(refusals, asked, left_out=len(bursts.members) - len(shown)),
        parameters={"burst_events": burst_events, "burst_minutes": burst_minutes, "follow_hours": follow_hours},
        told=page.told(refusals, days, followed),
        tables=tables | refusals.tables | {"days": days},
        sections=page.sections(refusals),
        picture=_picture(days, items),
        limits=page.LIMITS,
    )
    answer = DeniedAccess(
        REQUEST, trail, refusals.period, found, draw_sample(items, sample, request=REQUEST.name) if sample else None
    )
    answer.refusals = refusals
    return answer


def _shown(bursts: Bursts) -> pd.DataFrame:
    """The members whose records are shown: the first of each burst, and its last."""
    most = max(1, min(MAX_OF_A_BURST, MAX_SHOWN // max(1, len(bursts.rows))))
    place, size = bursts.members.groupby("burst").cumcount(), bursts.members.groupby("burst")["t"].transform("size")
    return bursts.members[(place < max(1, most - 1)) | (place == size - 1)]


def _records(refusals: Refusals, places: pd.DataFrame) -> pd.DataFrame:
    """The records at these places (burst, sequence, row), with FACTS and `ip`."""
    wanted = set(places["sequence"].tolist())
    seals = [seal for seal in refusals.trail.seals if seal.sequence in wanted]
    values: Any = {
        "bursts": [*places["burst"].tolist(), -1],  # one at least, so that every list has a type
        "sequences": [*places["sequence"].tolist(), -1],
        "rows": [*places["row"].tolist(), -1],
    }
    frame: pd.DataFrame = in_utc(refusals.trail.run(seals, _PLACED, values).to_arrow_table()).to_pandas()
    return frame


def _named(events: pd.DataFrame, names: dict[int, str], more: list[str]) -> pd.DataFrame:
    """The events with the id of their burst in place of its number."""
    named = events.assign(burst=pd.Series(events["burst"].map(names), dtype="str"))
    return named[["burst", *PLACE, *more]]


def _actions(refusals: Refusals) -> tuple[str, ...]:
    kinds = refusals.trail.catalog.kinds if refusals.trail.catalog else {}
    return tuple(sorted({*refusals.logins, *kinds.get("check", ()), *refusals.tables["actions"]["action"]}))


def _query(refusals: Refusals) -> dict[str, Any]:
    period = refusals.period
    ends = {"since": period.since, "until": period.until}
    return {
        "any_of": [{"actions": list(refusals.logins), "outcomes": ["denied", "failure"]}, {"outcomes": ["denied"]}],
        **{name: format_time(at) for name, at in ends.items() if at is not None},
    }


def _picture(days: pd.DataFrame, items: pd.DataFrame) -> Picture | None:
    marks = []
    for row in items.to_dict("records"):
        label, sign = ("burst, a success after it", "D") if row["not_followed_by_success"] == FAIL else ("burst", "v")
        lane = 0 if row["failed_logins"] >= row["denied"] else 1
        marks.append(Mark(lane, label, sign, row["began_at"], row["began_at"]))
    lanes = {"failed_logins": "failed logins", "denied": "denied"}
    return day_picture(days, lanes, one_a_day(marks), title="Refusals a day (UTC)")
