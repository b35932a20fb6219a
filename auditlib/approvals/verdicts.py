"""The outcome: a verdict on every item, attribute by attribute, and the sentences that tell it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from auditlib.approvals.policy import Policy
from auditlib.formats.times import format_time, from_datetime

ATTRIBUTES = {
    "approval_exists": "an approval answers the grant and stands: it was not denied or withdrawn by then",
    "approved_before_grant": "it was given at or before the grant, or in time after an emergency",
    "same_subject": "it names the person who got the access",
    "same_entitlement": "it names the access that was granted",
    "independent_approver": "the approver is neither subject, requester nor granter",
    "approver_authorised": "the approver held an authority that the policy names, and had not left",
    "within_validity": "the grant lies within the time for which the approval holds",
    "within_uses": "the approval was not used more often than it allows",
    "removed_in_time": "access granted for a time was revoked by the end of it",
}
STANDING = "standing policy"  # in `approval`; holds a space, so no event_id can be it (DESIGN 4.1)
NOT_TESTABLE = "not-testable"


@dataclass(frozen=True)
class Verdicts:
    """The outcome: `items`, one row per grant item by sequence, row, item number; and what was asked.

    Columns of `items`: item, occurred_at, action, actor_id, grantee, entitlement, request, approval (its
    event_id, STANDING or missing), approver, approved_at, the nine ATTRIBUTES (pass, fail, n/a, not-testable),
    verdict (pass, the first failing attribute, or not-testable) and reason (a sentence; empty where a plain
    pass needs none).
    """

    items: pd.DataFrame
    policy: Policy
    observed_until: datetime
    by_person: bool  # identities were given
    leavers_known: bool  # leaves were given

    @property
    def exceptions(self) -> pd.DataFrame:
        """The potential exceptions: the rows of which an attribute failed."""
        return self.items[self.items["verdict"].isin(list(ATTRIBUTES))].reset_index(drop=True)

    def counts(self) -> dict[str, int]:
        """Items by verdict: pass, each attribute in declared order, not-testable; zeros included."""
        found = self.items["verdict"].value_counts()
        return {name: int(found.get(name, 0)) for name in ("pass", *ATTRIBUTES, NOT_TESTABLE)}

    def summary_sentences(self) -> list[str]:
        """The outcome and its limits in plain words."""
        counts = self.counts()
        failed = {name: counts[name] for name in ATTRIBUTES if counts[name]}
        parts = "; ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in failed.items())
        tested = f"{len(self.items):,} item(s) were tested on {len(ATTRIBUTES)} attributes"
        told = [
            f"{tested}; {counts['pass']:,} passed.",
            f"{sum(failed.values()):,} potential exception(s){': ' + parts if parts else ''}.",
        ]
        if counts[NOT_TESTABLE]:
            told.append(f"{counts[NOT_TESTABLE]:,} item(s) could not be tested fully; the reason stands beside each.")
        if self.by_person:
            told.append("Self-approval was tested by person, with the identities given.")
        else:
            told.append("Self-approval was tested by account only: one person with two accounts would not show.")
        if not self.leavers_known:
            told.append("No leavers were given: whether an approver had left was not tested.")
        until = format_time(from_datetime(self.observed_until))
        told.append(f"Removals were observed until {until}; an end after that is not yet due.")
        return told

    def _repr_html_(self) -> str:
        """Counts and the first potential exceptions; every text escaped: event contents are hostile."""
        counts = pd.DataFrame({"verdict": list(self.counts()), "items": list(self.counts().values())})
        shown = self.exceptions.head(20)
        title = f"<p>{len(self.items):,} items, {len(self.exceptions):,} potential exceptions</p>"
        tables = (frame.to_html(escape=True, index=False, na_rep="", border=0) for frame in (counts, shown))
        return title + "".join(tables)
