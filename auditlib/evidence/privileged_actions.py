"""Privileged actions: everything that the catalogue calls privileged, by people, services, jobs and support tooling.

    answer = privileged_actions(trail, since="2026-03-01", until="2026-06-01")
    answer.exceptions

An item is an event whose action is privileged in the catalogue in force, whatever its outcome. A scheduled job acts as
`system` with its job identity, like `cron:nightly-backup` (DESIGN 4.1). Break-glass uses stand beside their reviews
(see `break_glass`).
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pandas as pd

from auditlib.attachments import Attachment
from auditlib.errors import MalformedError
from auditlib.evidence import privileged_page as page
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import Period, Table, period_of
from auditlib.evidence.break_glass import USE, Glass, review_uses, reviews_of
from auditlib.evidence.examined import (
    FAIL,
    NOT_APPLICABLE,
    PASS,
    PLACE,
    Examined,
    Found,
    Request,
    chosen,
    judge,
)
from auditlib.evidence.privileged_page import ATTRIBUTES
from auditlib.formats.times import DAY, parse_time
from auditlib.pipeline import OWN
from auditlib.query import Filter, Moment
from auditlib.sampling import Rule, draw_sample
from auditlib.scan import in_utc
from auditlib.trail import Selection, Trail

REQUEST = Request(
    name="privileged-actions",
    title="Privileged actions and who took them",
    criteria=("CC6.1", "CC6.3"),
    references=("ISO/IEC 27001:2022 A.8.2", "PCI DSS 4.0.1 10.2.1.2", "HIPAA 164.312(b)"),
    one="privileged action",
    several="privileged actions",
)
MAX_ITEMS = 500_000  # events of one answer: each stands in the packet with its proof, which is built in memory
MAX_UNLISTED = 1_000  # actions named that the catalogue does not list
JOB = r"[^:\s]+:[^:\s].*"  # a job's identity: what runs it, and its name

_DRAWN = """event_id AS item, event_id, source, occurred_at, recorded_at, sequence, row, actor_type, actor_id,
    actor_session, action, target_type || ':' || target_id AS target, outcome,
    CASE WHEN json_type(context, '$.reason') = 'VARCHAR' THEN context ->> '$.reason' END AS stated"""
_UNLISTED = """
    SELECT action, count(*) AS events, count(DISTINCT actor_type || ':' || actor_id) AS actors, min(occurred_at) AS
           first_at, max(occurred_at) AS last_at, count(*) OVER () AS in_all
    FROM batches WHERE NOT list_contains($known, action)
      AND epoch_us(occurred_at) >= $since AND ($until IS NULL OR epoch_us(occurred_at) < $until)
    GROUP BY action ORDER BY events DESC, action LIMIT $most"""
_ITEM = ["item", *PLACE, "actor_type", "actor_id", "actor_session", "action", "target", "outcome"]


class PrivilegedActions(Examined):
    """The answer; its properties are what the notebook shows, one after the other."""

    @property
    def summary(self) -> Table:
        """Events by who, action and outcome."""
        return Table(self.found.tables["summary"])

    @property
    def uses(self) -> Table:
        """Each break-glass use beside its review."""
        return Table(self.found.tables["uses"])


@over_trails
def privileged_actions(
    trail: Trail,
    *,
    since: Moment,
    until: Moment = None,
    through: Moment = None,
    tz: str = "UTC",
    actions: Sequence[str] = (),
    review_days: int = 5,
    identities: Attachment | None = None,
    sample: Rule | None = None,
) -> PrivilegedActions:
    """Answer "show me every privileged action between SINCE and UNTIL, and who took it".

    `actions` (names or globs) narrow it. A break-glass use is to be reviewed by somebody else within `review_days`.
    `identities` is a list from outside: reviewer and user are then compared as persons. MalformedError for an action
    that is not privileged, and for more than MAX_ITEMS events.
    """
    period = period_of(since, until, through, tz)
    names = _privileged(trail, actions)
    # An action is never empty: where none is privileged, none is drawn.
    asked = Filter(actions=names or ("",), since=period.since, until=period.until)
    selection = Selection(trail, asked)
    drawn = _drawn(trail, selection)
    opened = _uses(trail, drawn)
    uses = drawn[opened]
    reviews = reviews_of(trail, period, uses)
    glass = review_uses(
        uses, reviews, identities, within=review_days * DAY, observed_until=parse_time(trail.recorded[1])
    )
    items = _judged(drawn, opened, glass)
    unlisted = _unlisted(trail, period)
    found = Found(
        question=f"Show me every privileged action from {period.words()}, and who took it.",
        kind="action",
        items=items,
        attributes=ATTRIBUTES,
        columns=page.COLUMNS,
        noted=page.NOTED,
        procedure=page.procedure(len(names), review_days, narrowed=bool(actions)),
        parameters={"actions": list(actions), "review_days": review_days},
        told=page.told(items, glass, unlisted),
        tables={
            "reviews": reviews,
            "summary": page.summary(items),
            "unlisted": unlisted.drop(columns="in_all"),
            "uses": glass.uses,
        },
        sections=page.sections(unlisted),
        picture=page.picture(items, period, trail),
        limits=page.LIMITS,
        **chosen(names, selection),
    )
    return PrivilegedActions(
        REQUEST, trail, period, found, draw_sample(items, sample, request=REQUEST.name) if sample else None
    )


def _privileged(trail: Trail, wanted: Sequence[str]) -> tuple[str, ...]:
    """The privileged actions of the catalogue in force, those alone that are wanted, sorted."""
    known = trail.catalog.privileged if trail.catalog else ()
    for pattern in wanted:
        if not any(_like(name, pattern) for name in known):
            near = get_close_matches(pattern, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise MalformedError(
                f"{pattern[:160]!r} is no privileged action of the catalogue in force.",
                where="actions",
                remedy=f"{hint}Leave it out for all {len(known):,} of them.",
            )
    return tuple(name for name in known if not wanted or any(_like(name, pattern) for pattern in wanted))


def _like(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def _drawn(trail: Trail, selection: Selection) -> pd.DataFrame:
    if (number := selection.count()) > MAX_ITEMS:
        raise MalformedError(
            f"{number:,} privileged events answer; an answer holds at most {MAX_ITEMS:,}.",
            remedy="Narrow the period or the actions.",
        )
    table = in_utc(trail.scan(selection.seals, _DRAWN, *selection.filter.sql()).to_arrow_table())
    frame: pd.DataFrame = table.to_pandas()
    return frame.sort_values(["sequence", "row"], kind="stable", ignore_index=True)


def _uses(trail: Trail, drawn: pd.DataFrame) -> pd.Series[bool]:
    """Which are break-glass uses: one that was denied, or failed, opened nothing."""
    names = trail.catalog.kinds.get(USE, ()) if trail.catalog else ()
    return drawn["action"].isin(names) & (drawn["outcome"] == "success")


def _judged(drawn: pd.DataFrame, opened: pd.Series[bool], glass: Glass) -> pd.DataFrame:
    kind, who = drawn["actor_type"], drawn["actor_id"]
    nobody = kind == "anonymous"
    jobless = (kind == "system") & ~who.str.fullmatch(JOB)
    people = (kind == "user") & ~drawn["source"].str.startswith(OWN)  # the library's own command line knows no session
    sessionless = people & drawn["actor_session"].isna()
    reviewed = pd.Series(NOT_APPLICABLE, drawn.index, dtype=object)
    unreviewed = pd.Series("", drawn.index, dtype=object)
    reviewed[opened] = np.array(glass.results, dtype=object)
    unreviewed[opened] = np.array(glass.reasons, dtype=object)
    items = drawn[_ITEM].assign(
        has_actor=np.where(nobody | jobless, FAIL, PASS),
        human_has_session=np.where(sessionless, FAIL, np.where(people, PASS, NOT_APPLICABLE)),
        break_glass_reviewed=reviewed,
    )
    reasons = pd.DataFrame(
        {
            "has_actor": np.where(
                nobody,
                "Nobody is known to have done it: its actor is anonymous.",
                np.where(jobless, "system:" + who + " names no job: such an identity is like cron:nightly-backup.", ""),
            ),
            "human_has_session": np.where(sessionless, "user:" + who + " acted in no session.", ""),
            "break_glass_reviewed": unreviewed,
        },
        index=drawn.index,
    )
    judged = judge(items, ATTRIBUTES, reasons)
    return judged.astype(dict.fromkeys((*ATTRIBUTES, "verdict", "reason"), "str"))


def _unlisted(trail: Trail, period: Period) -> pd.DataFrame:
    """The actions of the period that the catalogue does not list: action, events, actors, first_at, last_at, in_all."""
    known = trail.catalog.actions if trail.catalog else {}
    seals = [
        seal
        for seal in Selection(trail, Filter(since=period.since, until=period.until)).seals
        if seal.counts.actions is None or set(seal.counts.actions) - set(known)
    ]
    values: Any = {
        "known": ["", *known],
        "since": period.since or 0,
        "until": period.until,
        "most": MAX_UNLISTED,
    }
    frame: pd.DataFrame = in_utc(trail.run(seals, _UNLISTED, values).to_arrow_table()).to_pandas()
    return frame
