"""What is known of the lists that companies attach: their columns, what a cell holds, and which may be empty.

    SHAPES["leavers"]["last_day"]    Column("end", filled=True): a time, or a day that ends at the cut-off hour

A list of another name is a free table: every column is text.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["text", "decision", "rule", "moment", "begin", "end", "day", "whole"]
DECISIONS = ("approved", "denied", "withdrawn")  # as auditlib.approvals knows them
RULES = ("exact", "fold")  # how accounts of a source are compared: as written, or without regard to capitals


class Column(msgspec.Struct, frozen=True):
    """What the cells of a column hold; whether the list must have it, and whether each row must state it."""

    kind: Kind = "text"
    required: bool = True
    filled: bool = False


_TEXT, _NAMED = Column(), Column(filled=True)
_MORE = Column(required=False)

SHAPES: dict[str, dict[str, Column]] = {
    "approvals": {
        "request": _TEXT,
        "grantee": _TEXT,
        "entitlement": _TEXT,
        "decision": Column("decision", filled=True),
        "approver": _NAMED,
        "approved_at": Column("moment", filled=True),
        "requester": _MORE,
        "requested_at": Column("moment", required=False),
        "valid_from": Column("begin", required=False),
        "valid_until": Column("end", required=False),
        "uses": Column("whole", required=False),
        "authority": _MORE,
    },
    "leavers": {
        "person_id": _NAMED,
        "account": _TEXT,
        "last_day": Column("end", filled=True),
        "department": _MORE,
        "job": _MORE,
    },
    "roster": {
        "person_id": _NAMED,
        "account": _TEXT,
        "first_day": Column("begin", filled=True),
        "department": _MORE,
        "job": _MORE,
    },
    "identities": {
        "person_id": _NAMED,
        "account": _NAMED,
        "source": _TEXT,
        "valid_from": Column("begin"),
        "valid_until": Column("end"),
        "case_rule": Column("rule", required=False),
    },
    "responses": {
        "item": _NAMED,
        "cause": _TEXT,
        "compensating_evidence": _TEXT,
        "remediation": _TEXT,
        "owner": _TEXT,
        "date": Column("day"),
    },
    "listing": {
        "subject": _NAMED,
        "entitlement": _NAMED,
        "as_of": Column("end", required=False),
    },
}
