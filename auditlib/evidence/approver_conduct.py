"""Approver conduct: everybody who approved something in a period, and what of it is unusual (TSC CC5.1, CC6.3).

    answer = approver_conduct(trail, since="2026-03-01", until="2026-06-01", authorities=["manager"])
    answer.exceptions

An item is an approver: somebody with at least one approval in the period. Its id is the approver's account (the
person's id where `identities` name one), so that an auditor can select by name; its event is that approver's first
approval of the period, which a longer period with the same beginning keeps. What is unusual of an approval stands in
`conduct_flags`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pandas as pd

from auditlib.attachments import Attachment, persons
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import Column, Period, Section, many, period_of
from auditlib.evidence.charts import Picture
from auditlib.evidence.conduct_chart import who_for_whom
from auditlib.evidence.conduct_decisions import (
    decisions_of,
    filings_of,
    flag_by,
    moves_of,
    person_of,
    stated,
    timed,
    untold,
    with_flags,
)
from auditlib.evidence.conduct_flags import FLAGS, Flagged, Rules
from auditlib.evidence.conduct_verdicts import ATTRIBUTES, UNSEALED, WHO, arrows, judge_approvers, times
from auditlib.evidence.examined import PLACE, Examined, Found, Request, drawn
from auditlib.evidence.rings import edges_of
from auditlib.evidence.statement import Statement, state
from auditlib.formats.times import DAY, SECOND
from auditlib.query import Moment
from auditlib.sampling import Rule, draw_sample
from auditlib.trail import Trail

REQUEST = Request(
    name="approver-conduct",
    title="Approvers and how they approve",
    criteria=("CC5.1", "CC6.3"),
    references=("ISO/IEC 27001:2022 A.5.3",),
    one="approver",
    several="approvers",
)
MAX_NAMED = 3  # rings that a sentence names one by one

_STATED = ["decision", "request", "requester", "subjects", "authority", "seconds_from_request"]
_DECISION = ["person", *PLACE, *WHO, *_STATED, *FLAGS, "run_length"]
_FILING = ["request", "requester", *PLACE, *WHO]
_MOVE = ["account", "moved", *PLACE, *WHO]
_SHOWN = [
    Column("item", "Approver"),
    Column("approvals", "Approvals", "number"),
    Column("denials", "Denials", "number"),
    Column("median_seconds", "Median seconds from request", "number"),
    Column("self_dealing", "Own", "number"),
    Column("on_ring", "On a ring", "number"),
    Column("longest_run", "Longest run", "number"),
    Column("outside_authority", "Outside authority", "number"),
    Column("verdict", "Verdict", "verdict"),
]
_NOTED = [
    Column("item", "Approver"),
    Column("approvals", "Approvals", "number"),
    Column("verdict", "Attribute not met", "verdict"),
    Column("reason", "What was noted", "wide"),
]
_UNUSUAL = ("own request or access", "on a ring", "in a fast run", "outside authority")  # in the order of FLAGS
_SECTIONS = [
    Section(
        title="The approvals that are unusual",
        table="flagged",
        columns=[
            Column("event_id", "Approval", "code"),
            Column("occurred_at", "Approved (UTC)", "time"),
            Column("actor_id", "By"),
            Column("authority", "Authority"),
            Column("requester", "Asked for by"),
            Column("subjects", "Access of"),
            Column("seconds_from_request", "Seconds from request", "number"),
            Column("unusual", "What is unusual"),
        ],
        empty="None.",
    ),
    Section(
        title="Rings",
        table="rings",
        columns=[
            Column("ring", "Ring", "wide"),
            Column("members", "Members", "number"),
            Column("fewest", "Fewest approvals from one to the next", "number"),
            Column("approvals", "Approvals in all", "number"),
        ],
        empty="None was found.",
    ),
]


class ApproverConduct(Examined):
    """The answer. The population was drawn as decisions: what is stated of its drawing is of these."""

    @cached_property
    def statement(self) -> Statement:
        """How the decisions were drawn."""
        found = self.found
        return state(
            self.trail,
            self.period,
            query=found.query,
            actions=found.actions,
            read=found.read,
            items=found.tables["decisions"],
        )


@over_trails
def approver_conduct(
    trail: Trail,
    *,
    since: Moment,
    until: Moment = None,
    through: Moment = None,
    tz: str = "UTC",
    kinds: Sequence[str] = ("approval",),
    lookback_days: int = 90,
    authorities: Sequence[str] = (),
    ring_times: int = 2,
    ring_size: int = 4,
    stamp_run: int = 5,
    stamp_seconds: int = 10,
    identities: Attachment | None = None,
    sample: Rule | None = None,
) -> ApproverConduct:
    """Answer "show me everybody who approved between SINCE and UNTIL, and how they did it".

    `kinds` of action are approvals; their requests are searched from `lookback_days` before `since`. What counts as
    unusual is said in `conduct_flags`. `identities` is a list from outside: accounts are then compared as persons.
    """
    period = period_of(since, until, through, tz)
    rules = Rules(
        ring_times=ring_times,
        ring_size=ring_size,
        stamp_run=stamp_run,
        stamp=stamp_seconds * SECOND,
        authorities=tuple(authorities),
    )
    known = None if identities is None else persons(identities.frame)
    items, how = drawn(trail, kinds, period)
    items = stated(items)
    decisions = decisions_of(items)
    back = None if period.since is None else max(0, period.since - lookback_days * DAY)
    filings = filings_of(trail, Period(back, None, tz), decisions)
    moves = moves_of(trail, decisions, known)
    by_account = flag_by(decisions, items, filings, moves, rules, None)
    found = by_account if known is None else flag_by(decisions, items, filings, moves, rules, known)
    decisions = timed(decisions, filings).assign(
        person=person_of(decisions, "actor_id", known), untold=untold(trail, decisions, filings)
    )
    decisions = with_flags(decisions, found)
    judged = judge_approvers(decisions, found, by_account, rules, moved=len(moves) > 0)
    asked = {
        "authorities": list(authorities),
        "kinds": list(kinds),
        "lookback_days": lookback_days,
        "ring_size": ring_size,
        "ring_times": ring_times,
        "stamp_run": stamp_run,
        "stamp_seconds": stamp_seconds,
    }
    answer = Found(
        question=f"Show me everybody who approved something from {period.words()}, and how they approved.",
        kind="approver",
        items=judged,
        attributes=ATTRIBUTES,
        columns=_SHOWN,
        noted=_NOTED,
        procedure=_procedure(asked, how["actions"]),
        parameters=asked,
        told=_told(judged, decisions, found),
        tables={
            "decisions": decisions[_DECISION].reset_index(drop=True),
            "flagged": _flagged(decisions),
            "moves": moves[_MOVE],
            "requests": filings[_FILING].reset_index(drop=True),
            "rings": _rings(found),
        },
        sections=_SECTIONS,
        picture=_picture(judged, found),
        **how,
    )
    taken = draw_sample(judged, sample, request=REQUEST.name) if sample else None
    return ApproverConduct(REQUEST, trail, period, answer, taken)


# --- what is said --------------------------------------------------------------------------------------------


def _flagged(decisions: pd.DataFrame) -> pd.DataFrame:
    """The approvals that are unusual, and in which way."""
    rows = decisions[decisions[list(FLAGS)].any(axis=1)]
    words = [
        ", ".join(word for flagged, word in zip(flags, _UNUSUAL, strict=True) if flagged)
        for flags in rows[list(FLAGS)].itertuples(index=False, name=None)
    ]
    return rows.assign(unusual=pd.Series(words, rows.index, "str"))[[*_DECISION, "unusual"]].reset_index(drop=True)


def _rings(found: Flagged) -> pd.DataFrame:
    """Each ring: its members in order, how often each approved for the next at least, and in all."""
    steps = [[found.times[edge] for edge in edges_of(ring)] for ring in found.rings]
    return pd.DataFrame(
        {
            "ring": pd.Series([arrows(ring) for ring in found.rings], dtype="str"),
            "members": pd.Series([len(ring) for ring in found.rings], dtype="int64"),
            "fewest": pd.Series([min(numbers) for numbers in steps], dtype="int64"),
            "approvals": pd.Series([sum(numbers) for numbers in steps], dtype="int64"),
        }
    )


def _picture(judged: pd.DataFrame, found: Flagged) -> Picture | None:
    around = {edge for ring in found.rings for edge in edges_of(ring)}
    own = dict(zip(judged["item"], judged["self_dealing"], strict=True))
    return who_for_whom(list(zip(judged["item"], judged["approvals"], strict=True)), found.times, own, around)


def _procedure(asked: dict[str, Any], actions: tuple[str, ...]) -> list[str]:
    named = asked["authorities"]
    return [
        f"The population is everybody with an approval among the successful events of kind "
        f"{', '.join(sorted(set(asked['kinds'])))} of the period ({', '.join(actions) or 'no listed action'}); an "
        "approver's event is the first approval in it.",
        "Own is an approval by who asked for it, who filed its request, or whose access it is. Requests were searched "
        f"from {asked['lookback_days']:,} days before the period.",
        f"A ring has at most {asked['ring_size']:,} members, each of whom approved at least "
        f"{times(asked['ring_times'])} for the next, the last for the first. Of every such step a shortest ring is "
        "named.",
        f"A fast run has at least {asked['stamp_run']:,} approvals of one approver, each within "
        f"{asked['stamp_seconds']:,} s of the one before. How long somebody looked at a request is not recorded.",
        f"May approve: {', '.join(named)}. Nobody may who had left."
        if named
        else "No authority was named: tested was only that nobody approved after leaving.",
    ]


def _told(judged: pd.DataFrame, decisions: pd.DataFrame, found: Flagged) -> list[str]:
    approvals, denials = ((decisions["decision"] == decided).sum() for decided in ("approved", "denied"))
    told = (
        [f"They decided {many(int(approvals), 'approval')} and {many(int(denials), 'denial')}."] if len(judged) else []
    )
    if found.rings:
        told.append(f"{many(len(found.rings), 'ring')}: {'; '.join(map(arrows, found.rings[:MAX_NAMED]))}.")
    if unsealed := int((judged["evidence"] == UNSEALED).sum()):
        told.append(f"{many(unsealed, 'verdict')} by the attached identities alone (unsealed evidence).")
    return told
