"""Role grants: every grant of an entitlement in a period, each beside its approval evidence (TSC CC6.2, CC6.3)."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from html import escape
from typing import Any

import pandas as pd

from auditlib.approvals import ATTRIBUTES, NOT_TESTABLE, Policy, Verdicts, match_approvals
from auditlib.evidence.answer import Answer, Attribute, Column, Listing, Period, period_of, rows_of
from auditlib.evidence.charts import BLUE, GREY, VERMILION, Picture, timeline
from auditlib.evidence.coverage import alive_sentences, coverage, sources_that_record
from auditlib.evidence.integrity import Integrity, integrity
from auditlib.evidence.statement import Statement, state
from auditlib.findings import duration
from auditlib.formats.times import DAY, parse_time, to_datetime
from auditlib.pipeline import SILENCE
from auditlib.population import Population, draw
from auditlib.query import Moment
from auditlib.trail import Trail

REQUEST = "role-grants"
TITLE = "Role grants and their approvals"
CRITERIA = ("CC6.2", "CC6.3")  # TSC 2017, points of focus 2022

_WHERE = ["event_id", "source", "recorded_at", "sequence", "row"]  # of an item's event
_PLACE = ["sequence", "row", "item"]  # what tells items apart
_PAIR = ["grantee", "entitlement"]
_SHOWN = ["item", "occurred_at", "actor_id", "grantee", "entitlement", "request", "approver", "approved_at", "verdict"]

LISTING = Listing(
    items=[
        Column("item", "Item", "code"),
        Column("occurred_at", "Occurred (UTC)", "time"),
        Column("grantee", "Granted to"),
        Column("entitlement", "Entitlement"),
        Column("request", "Request"),
        Column("approver", "Approver"),
        Column("approved_at", "Approved (UTC)", "time"),
        Column("verdict", "Verdict", "verdict"),
    ],
    exceptions=[
        Column("item", "Item", "code"),
        Column("occurred_at", "Occurred (UTC)", "time"),
        Column("actor_id", "Granted by"),
        Column("grantee", "Granted to"),
        Column("entitlement", "Entitlement"),
        Column("verdict", "Attribute not met", "verdict"),
        Column("reason", "What was noted", "wide"),
    ],
    attributes=[Attribute(name, meaning) for name, meaning in ATTRIBUTES.items()],
)


def role_grants(
    trail: Trail,
    *,
    since: Moment,
    until: Moment = None,
    through: Moment = None,
    entitlement: str | None = None,
    tz: str = "UTC",
    policy: Policy | None = None,
) -> RoleGrants:
    """Answer "show me all grants of ENTITLEMENT between SINCE and UNTIL, with approval evidence for each".

    Approvals are searched from `policy.lookback_days` before `since` up to the checkpoint, so that an approval after
    the fact is seen as late rather than missing. Grants of the look-back count as uses of their approvals.
    """
    return RoleGrants(trail, period_of(since, until, through, tz), entitlement, policy or Policy())


class RoleGrants:
    """The answer; its properties are what the notebook shows, one after the other."""

    def __init__(self, trail: Trail, period: Period, entitlement: str | None, policy: Policy) -> None:
        self.trail, self.period, self.entitlement, self.policy = trail, period, entitlement, policy
        since = None if period.since is None else to_datetime(period.since)
        until = None if period.until is None else to_datetime(period.until)
        back = None if period.since is None else to_datetime(max(0, period.since - policy.lookback_days * DAY))
        self._population = draw(trail, "grant", since=since, until=until, entitlement=entitlement)
        self._approvals = draw(trail, "approval", since=back).items
        self._requests = draw(trail, "request", since=back).items
        self._revokes = draw(trail, "revoke", since=since).items
        self._leaves = draw(trail, "leave").items
        self._joins = draw(trail, "join").items
        self._everything = self._match(draw(trail, "grant", since=back, until=until).items)
        asked = _among(self._everything.items, self._population.items)
        self._matched = replace(self._everything, items=self._everything.items[asked].reset_index(drop=True))
        self._others = self._everything.items[~asked]

    def _match(self, grants: pd.DataFrame) -> Verdicts:
        everything = match_approvals(
            grants,
            self._approvals,
            self._revokes,
            policy=self.policy,
            observed_until=to_datetime(parse_time(self.trail.recorded[1])),
            requests=self._requests,
            leaves=self._leaves if len(self._leaves) else None,
            joins=self._joins,
        )
        # Row by row: an event id, and so an item, is unique within its source alone.
        return replace(everything, items=pd.concat([everything.items, grants[_WHERE].reset_index(drop=True)], axis=1))

    @property
    def integrity(self) -> Integrity:
        """What was checked of the trail before anything was read from it."""
        return integrity(self.trail)

    @property
    def population(self) -> Population:
        """The grants, and how they were drawn."""
        return self._population

    @property
    def verdicts(self) -> pd.DataFrame:
        """Each grant with its approval and its verdict."""
        return self._matched.items[_SHOWN]

    @property
    def attributes(self) -> pd.DataFrame:
        """Each grant with every attribute's result."""
        return self._matched.items[["item", *ATTRIBUTES, "verdict"]]

    @property
    def exceptions(self) -> pd.DataFrame:
        """The potential exceptions, each with its reason."""
        return self._matched.exceptions[["item", "occurred_at", "grantee", "entitlement", "verdict", "reason"]]

    @cached_property
    def statement(self) -> Statement:
        """How the population was drawn, for whoever asks about its completeness and accuracy."""
        drawn = self._population
        return state(
            self.trail,
            self.period,
            query=drawn.filter.describe() | {"entitlement": drawn.entitlement, "kind": drawn.kind},
            actions=drawn.actions,
            read=drawn.batches_read,
            items=drawn.items,
        )

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """Whether the sources were alive in the period."""
        return coverage(self.trail, self.period.since, self.period.until)

    @cached_property
    def relevant_sources(self) -> list[str]:
        """The sources that record grants; where none ever did, all that are in the period."""
        return sources_that_record(self.trail, self._population.actions) or self.coverage["source"].tolist()

    @property
    def timeline(self) -> Picture:
        """The grants in time, one lane a verdict."""
        items = self._matched.items
        present = items["verdict"].unique().tolist()
        colours = {"pass": BLUE, NOT_TESTABLE: GREY}
        times = {name: items.loc[items["verdict"] == name, "occurred_at"].tolist() for name in present}
        lanes = [
            (name.replace("_", " "), times[name], colours.get(name, VERMILION))
            for name in ("pass", *ATTRIBUTES, NOT_TESTABLE)
            if name in present
        ]
        first, last = (parse_time(text) for text in self.trail.recorded)
        span = to_datetime(self.period.since or first), to_datetime(self.period.until or last)
        silent = self.coverage[self.coverage["longest_silence_seconds"] * 1_000_000 > SILENCE]
        gaps = list(zip(silent["silent_from"].tolist(), silent["silent_until"].tolist(), strict=True))
        return timeline(lanes, span=span, silences=gaps, title="Grants by verdict (UTC; grey: a source was silent)")

    @cached_property
    def headline(self) -> str:
        """The answer in one sentence."""
        grants, exceptions = len(self._matched.items), len(self._matched.exceptions)
        what = ("grant" if grants == 1 else "grants") + (f" of {self.entitlement}" if self.entitlement else "")
        if not grants:
            alive = set(self.relevant_sources) & set(self.coverage["source"])
            if alive:
                return f"No occurrence of {what} was recorded in the period; the operation is not testable."
            return f"Not answerable: no source that records {what} was alive in the period."
        untested = self._matched.counts()[NOT_TESTABLE]
        rest = f", {untested:,} could not be tested fully" if untested else ""
        passed = self._matched.counts()["pass"]
        were, are = ("was", "is a potential exception") if grants == 1 else ("were", "are potential exceptions")
        return f"{grants:,} {what} {were} recorded: {passed:,} passed every attribute, {exceptions:,} {are}{rest}."

    @property
    def conclusion(self) -> Words:
        """Facts in plain words."""
        return Words([self.headline, *self._conclusion()])

    def _conclusion(self) -> list[str]:
        told = [] if self._matched.items.empty else self._matched.summary_sentences()
        told += self._reach()
        told += alive_sentences(self.coverage, self.relevant_sources)
        lag = self._lag()
        return [*told, lag] if lag else told

    def _reach(self) -> list[str]:
        """Where the trail does not reach over the whole period."""
        first, last = min(seal.occurred[0] for seal in self.trail.seals), self.trail.recorded[1]
        told = []
        if self.period.since is not None and parse_time(first) > self.period.since:
            told.append(f"The trail begins at {first}, after the period does: what came before is not in it.")
        if self.period.until is not None and parse_time(last) < self.period.until:
            told.append(f"The trail ends at {last}, before the period does: what came after is not in it.")
        return told

    def _lag(self) -> str:
        items = self._population.items
        if items.empty:
            return ""
        micros = (items["recorded_at"] - items["occurred_at"]).dt.total_seconds() * 1_000_000
        return (
            f"The grants were recorded {duration(int(micros.median()))} after they occurred (median; at most "
            f"{duration(int(micros.max()))}). Before a record was recorded, its integrity rests on its source."
        )

    def answer(self) -> Answer:
        """Everything a packet holds of it."""
        grants = self._matched.items
        decisions = self._decisions(grants)
        asked = pd.concat([grants["request"], decisions["request"]]).dropna()
        requests = self._requests[self._requests["request"].isin(asked)]
        revokes = self._revokes[_among(self._revokes, grants, _PAIR)]
        people = [people[people["grantee"].isin(decisions["actor_id"])] for people in (self._leaves, self._joins)]
        others = self._others[self._others["approval"].isin(decisions["event_id"])].reset_index(drop=True)
        return Answer(
            request=REQUEST,
            title=TITLE,
            question=self.question,
            criteria=CRITERIA,
            parameters={"entitlement": self.entitlement, "policy": self._policy(), "tz": self.period.tz},
            period=self.period,
            headline=self.headline,
            conclusion=self._conclusion(),
            procedure=[*self._population.sentences(), *self.statement.sentences, *self.policy.sentences()],
            limits=self.integrity.limits(),
            population=self._population.statement()
            | {"verdicts": self._matched.counts(), "integrity": self.integrity.statement()}
            | {"statement": self.statement.facts},
            exceptions=len(self._matched.exceptions),
            tables={
                "approvals": decisions.drop(columns=["emergency"]),
                "exceptions": self._matched.exceptions,
                "grants": grants,
                "other_uses": others,
                "refused": self.statement.refused,
                "sources": self.coverage,
            },
            figures={"timeline": self.timeline.svg} if len(grants) else {},
            listing=LISTING,
            rows=rows_of(self._population.items, decisions, requests, revokes, others, self.statement.refused, *people),
        )

    def _decisions(self, grants: pd.DataFrame) -> pd.DataFrame:
        """Every decision that a verdict can rest on: by request, by use, and by subject and entitlement where the
        grant or the decision names no request."""
        decisions = self._approvals
        unasked = grants[grants["request"].isna() | (grants["request"] == "")]
        silent = decisions["request"].isna() | (decisions["request"] == "")
        chosen = (
            decisions["request"].isin(grants["request"].dropna())
            | decisions["event_id"].isin(grants["approval"].dropna())
            | _among(decisions, unasked, _PAIR)
            | (silent & _among(decisions, grants, _PAIR))
        )
        return decisions[chosen].reset_index(drop=True)

    @property
    def question(self) -> str:
        """The request in the auditor's words."""
        what = f"grants of {self.entitlement}" if self.entitlement else "role grants"
        return f"Show me all {what} from {self.period.words()}, with approval evidence for each."

    def submit(self) -> None:
        """Hand the answer to the packet builder, where one is waiting."""
        self.answer().submit()

    def _policy(self) -> dict[str, Any]:
        return {name: getattr(self.policy, name) for name in self.policy.__struct_fields__} | {
            "standing": list(self.policy.standing),
            "authorities": list(self.policy.authorities),
        }


def _among(rows: pd.DataFrame, others: pd.DataFrame, columns: list[str] | None = None) -> pd.Series[bool]:
    """Which rows stand among the others, by (sequence, row, item) or by these columns."""
    columns = columns or _PLACE
    there = set(others[columns].itertuples(index=False, name=None))
    return pd.Series([key in there for key in rows[columns].itertuples(index=False, name=None)], rows.index, dtype=bool)


class Words:
    """Sentences, shown as a list."""

    def __init__(self, sentences: list[str]) -> None:
        self.sentences = sentences

    def __repr__(self) -> str:
        return "\n".join(self.sentences)

    def _repr_html_(self) -> str:
        first, *rest = self.sentences
        return f"<p><strong>{escape(first)}</strong></p><ul>" + "".join(f"<li>{escape(s)}</li>" for s in rest) + "</ul>"
