"""What management says to items: an attached list `responses`, shown beside the verdicts that it cannot change.

answered = responses_to(items)      None where nothing was attached
answered.table, answered.sentences
"""

from __future__ import annotations

import msgspec
import pandas as pd

from auditlib.attachments import attached
from auditlib.evidence.answer import Column, Section, many

RESPONSES = "responses"  # the name of the list, and of the table
_SAID = ["cause", "compensating_evidence", "remediation", "owner", "date"]


class Responses(msgspec.Struct, frozen=True):
    """The responses to the items of one answer; `strange` others name an item that is not among them."""

    table: pd.DataFrame  # item, verdict, and what was said
    strange: int

    def sentences(self) -> list[str]:
        """How many there are, for the conclusion."""
        told = (
            f"Management responded to {many(self.table['item'].nunique(), 'item')}: untested, no verdict rests on it."
        )
        if not self.strange:
            return [told]
        return [told, f"{many(self.strange, 'response')} of the attached list name no item of this answer."]

    def section(self) -> Section:
        """How the report shows them."""
        return Section(
            title="Management responses, untested",
            sentences=["Management response, untested: no verdict rests on it."],
            table=RESPONSES,
            columns=[
                Column("item", "Item", "code"),
                Column("verdict", "Verdict", "verdict"),
                Column("cause", "Cause", "wide"),
                Column("compensating_evidence", "Compensating evidence", "wide"),
                Column("remediation", "Remediation", "wide"),
                Column("owner", "Owner"),
                Column("date", "Date"),
            ],
            empty="None of them names an item of this answer.",
        )


def responses_to(items: pd.DataFrame) -> Responses | None:
    """The attached responses to some items, by `item`, in the order of the items; None where no list is attached."""
    given = attached(RESPONSES)
    if given is None:
        return None
    said = given.frame[["item", *_SAID]]
    table = items[["item", "verdict"]].merge(said, on="item")
    return Responses(table, int((~said["item"].isin(items["item"])).sum()))
