"""Role grants: every grant of an entitlement in a period, each beside its approval evidence (TSC CC6.2, CC6.3)."""

from __future__ import annotations

from functools import cached_property

import msgspec
import pandas as pd

from auditlib.approvals import ATTRIBUTES, Policy, Verdicts
from auditlib.attachments import Attachment
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import Attribute, Column, Listing, period_of
from auditlib.evidence.coverage import alive_sentences
from auditlib.evidence.examined import NOT_TESTABLE, PASS, Examined, Found, Request
from auditlib.evidence.grant_matching import UNSEALED, GrantMatching
from auditlib.findings import duration
from auditlib.population import Population
from auditlib.query import Moment
from auditlib.sampling import Rule, draw_sample
from auditlib.trail import Trail

REQUEST = Request(
    name="role-grants",
    title="Role grants and their approvals",
    criteria=("CC6.2", "CC6.3"),
    references=("ISO/IEC 27001:2022 A.5.18", "ISO/IEC 27001:2022 A.8.2"),
    one="grant",
    several="grants",
)
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
_EVIDENCE = Column("evidence", "Rests on")  # shown where something from outside could have decided
_SHOWN = ["item", "occurred_at", "actor_id", "grantee", "entitlement", "request", "approver", "approved_at", "verdict"]


@over_trails
def role_grants(
    trail: Trail,
    *,
    since: Moment,
    until: Moment = None,
    through: Moment = None,
    entitlement: str | None = None,
    tz: str = "UTC",
    policy: Policy | None = None,
    approvals: Attachment | None = None,
    identities: Attachment | None = None,
    sample: Rule | None = None,
) -> RoleGrants:
    """Answer "show me all grants of ENTITLEMENT between SINCE and UNTIL, with approval evidence for each".

    Approvals are those of the trail (see `GrantMatching`) and of the attached list `approvals`; self-approval is tested
    by person where the list `identities` is attached.
    """
    period, policy = period_of(since, until, through, tz), policy or Policy()
    matching = GrantMatching(trail, period, entitlement, policy, approvals, identities)
    drawn, verdicts = matching.population, matching.verdicts
    what = f"grants of {entitlement}" if entitlement else "role grants"
    attached = approvals is not None or identities is not None
    found = Found(
        question=f"Show me all {what} from {period.words()}, with approval evidence for each.",
        kind=drawn.kind,
        items=verdicts.items,
        attributes=ATTRIBUTES,
        columns=[*LISTING.items[:-1], *([_EVIDENCE] if attached else []), LISTING.items[-1]],
        noted=LISTING.exceptions,
        query=drawn.filter.describe() | {"entitlement": entitlement, "kind": drawn.kind},
        actions=drawn.actions,
        read=drawn.batches_read,
        procedure=[*drawn.sentences(), *policy.sentences(), *_outside(approvals, identities)],
        parameters={"entitlement": entitlement, "policy": msgspec.to_builtins(policy)},
        told=[*([] if verdicts.items.empty else verdicts.summary_sentences()), *_unsealed(verdicts), *_lag(drawn)],
        tables=matching.tables(),
    )
    taken = None if sample is None else draw_sample(verdicts.items, sample, request=REQUEST.name)
    return RoleGrants(REQUEST, trail, period, found, taken)


class RoleGrants(Examined):
    """The answer; its properties are what the notebook shows, one after the other."""

    @property
    def verdicts(self) -> pd.DataFrame:
        """Each grant with its approval and its verdict."""
        return self.found.items[_SHOWN]

    @cached_property
    def headline(self) -> str:
        """The answer in one sentence."""
        grants, exceptions = len(self.found.items), len(self.exceptions)
        entitlement = self.found.parameters["entitlement"]
        what = ("grant" if grants == 1 else "grants") + (f" of {entitlement}" if entitlement else "")
        if not grants:
            alive = set(self.relevant_sources) & set(self.coverage["source"])
            if alive:
                return f"No occurrence of {what} was recorded in the period; the operation is not testable."
            return f"Not answerable: no source that records {what} was alive in the period."
        untested = self.counts[NOT_TESTABLE]
        rest = f", {untested:,} could not be tested fully" if untested else ""
        were, are = ("was", "is a potential exception") if grants == 1 else ("were", "are potential exceptions")
        passed = f"{self.counts[PASS]:,} passed every attribute"
        return f"{grants:,} {what} {were} recorded: {passed}, {exceptions:,} {are}{rest}."

    def _conclusion(self) -> list[str]:
        told = [*self.found.told, *self._answered(), *self._reach()]  # the first tell of each attribute already
        return [*told, *alive_sentences(self.coverage, self.relevant_sources)]


def _outside(approvals: Attachment | None, identities: Attachment | None) -> list[str]:
    """What of the matching rests on lists from outside."""
    told = []
    if approvals is not None:
        told.append(
            f"Approvals of {approvals.declaration.system}, an attached list (unsealed evidence), stood beside those of "
            "the trail. A verdict rests on a list from outside where it, or the approval, is another without it."
        )
    if identities is not None:
        told.append("Accounts were compared as persons, by the attached identities (unsealed evidence).")
    return told


def _unsealed(verdicts: Verdicts) -> list[str]:
    """The verdicts that rest on lists from outside, counted apart."""
    items = verdicts.items[verdicts.items["evidence"] == UNSEALED]
    passed = int((items["verdict"] == PASS).sum())
    told = [f"{passed:,} of those that passed: approved (unsealed evidence), by a list from outside."] if passed else []
    if other := len(items) - passed:
        rests = "other verdict rests" if other == 1 else "other verdicts rest"
        told.append(f"{other:,} {rests} on a list from outside (unsealed evidence).")
    return told


def _lag(drawn: Population) -> list[str]:
    if drawn.items.empty:
        return []
    micros = (drawn.items["recorded_at"] - drawn.items["occurred_at"]).dt.total_seconds() * 1_000_000
    return [
        f"The grants were recorded {duration(int(micros.median()))} after they occurred (median; at most "
        f"{duration(int(micros.max()))}). Before a record was recorded, its integrity rests on its source."
    ]
