"""Approvals kept outside the trail, as rows that can stand beside those drawn from it.

    both = pd.concat([draw(trail, "approval").items, decisions(tickets)], ignore_index=True)
    verdicts.items["approval"].map(is_unsealed)      which verdicts rest on one

What happened outside has no sealed place: its `sequence` is UNSEALED, its `row` the line of the file, and its
`event_id`, `approvals.csv line 7`, holds blanks, which no sealed event's can (DESIGN 4.1).
"""

from __future__ import annotations

import pandas as pd

from auditlib.attachments.given import Attachment
from auditlib.formats.times import to_datetime
from auditlib.population import COLUMNS

UNSEALED = -1  # in the place of the number of a seal
_MARK = "approvals.csv line "
_AS_DRAWN = {"approver": "actor_id", "approved_at": "occurred_at"}  # our column -> as a drawn population calls it


def decisions(approvals: Attachment) -> pd.DataFrame:
    """The rows of the list `approvals` in the columns and types of `population.draw`.

    A row that repeats an earlier one in every column is left out: an export that joined something else in must not
    make two uses of one approval.
    """
    rows = approvals.frame.drop_duplicates(subset=[name for name in approvals.frame if name != "line"])
    rows = rows.rename(columns=_AS_DRAWN).reset_index(drop=True)
    mark = _MARK + rows["line"].astype("str")
    constant = {"source": "attachment:approvals", "actor_type": "user", "action": "attachment.approval"}
    rows = rows.assign(
        item=mark,
        event_id=mark,
        row=rows["line"],
        recorded_at=pd.Series(to_datetime(approvals.declaration.exported_at), rows.index, "datetime64[us, UTC]"),
        sequence=pd.Series(UNSEALED, rows.index, "int64"),
        emergency=pd.Series(data=False, index=rows.index, dtype="bool"),
        **{name: pd.Series(text, rows.index, "str") for name, text in constant.items()},
    )
    return rows[COLUMNS]


def is_unsealed(event_id: object) -> bool:
    """Whether an approval is one of an attached list."""
    return isinstance(event_id, str) and event_id.startswith(_MARK)
