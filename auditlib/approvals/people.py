"""Who acted: accounts as persons, who asked for an approval, and whether the approver had left (rule 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from auditlib.approvals.codes import ALWAYS, NEVER, Bools, Ints, asof, codes, dense, micros, pick
from auditlib.approvals.frames import Frames
from auditlib.errors import MalformedError


@dataclass(frozen=True)
class Persons:
    """Everybody as a number, -1 where nobody is named (an approver: -2, so that two unknowns never agree)."""

    subject: Ints  # of each item, as of the grant
    granter: Ints
    approver: Ints  # of each approval, as of the approval
    asked: Bools  # the approver asked for it
    asker_known: Bools
    left: Bools  # the approver had left


def persons(frames: Frames, items: pd.DataFrame, given: pd.DataFrame, request: Ints, filed_request: Ints) -> Persons:
    """The persons of the items and of the approvals `given`.

    `request` and `filed_request` are the requests of `given` and of `frames.requests`, as codes.
    """
    of = _Identities(frames.identities).of
    time, given_time = micros(items["occurred_at"]), micros(given["occurred_at"])
    filed_time = micros(frames.requests["occurred_at"])
    leave_time, join_time = micros(frames.leaves["occurred_at"]), micros(frames.joins["occurred_at"])
    subject, granter, approver, requester, filer, leaver, joiner = codes(
        of(items["grantee"], time),
        of(items["actor_id"], time),
        of(given["actor_id"], given_time),
        of(given["requester"], given_time),
        of(frames.requests["requester"], filed_time),
        of(frames.leaves["grantee"], leave_time),
        of(frames.joins["grantee"], join_time),
    )
    filed = (filed_request >= 0) & (filer >= 0)
    mine, theirs = dense((request, approver), (filed_request[filed], filer[filed]))
    leave = asof(leaver, leave_time, approver, given_time - 1)  # a leave at the very moment is not before it
    join = asof(joiner, join_time, approver, given_time)
    return Persons(
        subject=subject,
        granter=granter,
        approver=np.where(approver < 0, -2, approver),
        asked=((approver == requester) | np.isin(mine, theirs)) & (approver >= 0),
        asker_known=(requester >= 0) | np.isin(request, filed_request[filed]),
        left=(leave >= 0) & (pick(join_time, join, ALWAYS) <= pick(leave_time, leave, NEVER)),
    )


class _Identities:
    """Accounts -> persons as of a time; the account itself where nobody says whose it is."""

    def __init__(self, identities: pd.DataFrame) -> None:
        spans = {"at": micros(identities["valid_from"]), "end": micros(identities["valid_until"], NEVER)}
        known = identities[["account", "person"]].assign(**spans).dropna()
        known = known.drop_duplicates().sort_values(["at", "account"], kind="stable")
        twice = known.loc[known.duplicated(["account", "at"]), "account"]
        if len(twice):
            raise MalformedError(
                f"{twice.iloc[0][:80]!r} belongs to two persons at once.",
                where="identities",
                remedy="Give each row its valid_from and valid_until.",
            )
        self._known = known

    def of(self, accounts: pd.Series[Any], at: Ints) -> pd.Series[Any]:
        """The person behind each account then; where spans overlap, the one that began last."""
        known = self._known
        if known.empty:
            return accounts
        row_code, code = codes(known["account"], accounts)
        found = asof(row_code, known["at"].to_numpy(), code, at)
        valid = at < pick(known["end"].to_numpy(), found, ALWAYS)
        person = known["person"].iloc[np.where(valid, found, 0)]
        return accounts.where(~valid, person.set_axis(accounts.index))
