"""The decisions of a period, what they answer, and what of them is unusual.

decisions   a row an event, labelled `n`: whatever it lists, it is one decision
filings     the requests that they answer; one may be filed more than once, and by several
moves       who of those who decided left or joined, and when
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from auditlib.attachments import Persons
from auditlib.evidence.answer import Period
from auditlib.evidence.conduct_flags import FLAGS, Flagged, Rules, flag
from auditlib.evidence.examined import drawn
from auditlib.formats.times import EPOCH
from auditlib.trail import Trail

_ORDER = ["occurred_at", "sequence", "row"]


def decisions_of(items: pd.DataFrame) -> pd.DataFrame:
    """An event is one decision, whatever it lists: a row each, labelled `n`, with all `subjects`."""
    subjects = items.dropna(subset=["grantee"]).drop_duplicates(["n", "grantee"]).groupby("n")["grantee"]
    return items.drop_duplicates("n").set_index("n").assign(subjects=subjects.agg(", ".join).astype("str"))


def stated(items: pd.DataFrame) -> pd.DataFrame:
    """The items with an empty text as a missing one, and `n`: the number of each item's event."""
    names = ("grantee", "request", "requester", "authority")
    texts = {name: items[name].astype("str").mask(items[name] == "") for name in names}
    return items.assign(n=items.groupby(["sequence", "row"], sort=False).ngroup(), **texts)


def filings_of(trail: Trail, wide: Period, decisions: pd.DataFrame) -> pd.DataFrame:
    """The requests that decisions answer, by time; a request may be filed more than once, and by several."""
    requests, _ = drawn(trail, ["request"], wide)
    requests = stated(requests[requests["request"].isin(decisions["request"].dropna())]).drop_duplicates("n")
    return requests.sort_values(["occurred_at", "sequence", "row"], kind="stable", ignore_index=True)


def moves_of(trail: Trail, decisions: pd.DataFrame, known: Persons | None) -> pd.DataFrame:
    """Who among those who decided left, or joined, and when; over the whole trail."""
    always = Period(None, None, "UTC")
    parts = [drawn(trail, [kind], always)[0].assign(moved=kind) for kind in ("leave", "join")]
    moves = pd.concat(parts, ignore_index=True).rename(columns={"grantee": "account"})
    there = person_of(moves, "account", known).isin(person_of(decisions, "actor_id", known))
    return moves[there].sort_values(["sequence", "row"], kind="stable", ignore_index=True)


def person_of(frame: pd.DataFrame, column: str, known: Persons | None) -> pd.Series[Any]:
    """The persons behind accounts as of each row; where nothing is known of any, an account is a person."""
    if known is None:
        return frame[column]
    return known.named(frame[column], frame["occurred_at"], frame["source"])


def timed(decisions: pd.DataFrame, filings: pd.DataFrame) -> pd.DataFrame:
    """The decisions with the seconds from the request, as it was filed, else as the decision states."""
    first = filings.drop_duplicates("request").set_index("request")["occurred_at"]
    filed = first.reindex(decisions["request"]).set_axis(decisions.index)
    stated = decisions["requested_at"].mask(decisions["requested_at"] == EPOCH)  # a time that could not be read
    asked = filed.fillna(stated)
    return decisions.assign(seconds_from_request=(decisions["occurred_at"] - asked).dt.total_seconds().round(1))


def flag_by(
    decisions: pd.DataFrame,
    items: pd.DataFrame,
    filings: pd.DataFrame,
    moves: pd.DataFrame,
    rules: Rules,
    known: Persons | None,
) -> Flagged:
    """What is unusual of the approvals among the decisions, by account or by person."""
    approved = decisions[decisions["decision"] == "approved"]
    approved = approved.assign(person=person_of(approved, "actor_id", known))
    first = filings.drop_duplicates("request").set_index("request")["requester"]
    filer = first.reindex(approved["request"]).set_axis(approved.index)
    named = [items.set_index("n")["grantee"], approved["requester"], filer]
    parties = pd.concat([part.rename("account").astype("str") for part in named]).rename_axis("n").reset_index()
    parties = parties.dropna().drop_duplicates().join(approved[["occurred_at", "source"]], on="n", how="inner")
    return flag(
        approved,
        parties.assign(person=person_of(parties, "account", known))[["n", "person"]],
        filings.assign(person=person_of(filings, "requester", known)),
        moves.assign(person=person_of(moves, "account", known), left=moves["moved"] == "leave"),
        rules,
    )


def with_flags(decisions: pd.DataFrame, found: Flagged) -> pd.DataFrame:
    """The decisions with what is unusual of them; a denial has no flag."""
    flags = found.flags.reindex(decisions.index)
    whole = {name: flags[name].astype("Int64") for name in ("run", "run_length")}
    true = {name: flags[name].astype("boolean").fillna(value=False).astype(bool) for name in (*FLAGS, "after_leaving")}
    return decisions.assign(**true, **whole)


def untold(trail: Trail, decisions: pd.DataFrame, filings: pd.DataFrame) -> pd.Series[bool]:
    """Whether a decision leaves open who asked, or, where its action tells of access, whose access it is."""
    entries = trail.catalog.actions.items() if trail.catalog else ()
    of_access = [name for name, entry in entries if entry.grantee is not None]
    filed = decisions["request"].isin(filings.loc[filings["requester"].notna(), "request"])
    nobody = decisions["requester"].isna() & ~filed
    return nobody | (decisions["subjects"].isna() & decisions["action"].isin(of_access))
