"""Grants beside their approvals: those of the trail, and those of an attached list where there is one.

found = GrantMatching(trail, period, "admin", policy, approvals, identities)
found.verdicts.items      a row a grant of the period; `evidence` says whether its verdict rests on a list
found.tables()            the decisions, earlier uses and other records that verdicts rest on
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from auditlib.approvals import Policy, Verdicts, match_approvals
from auditlib.attachments import Attachment, decisions, for_matching, is_unsealed
from auditlib.evidence.answer import Period
from auditlib.formats.times import DAY, parse_time, to_datetime
from auditlib.population import draw
from auditlib.trail import Trail

SEALED, UNSEALED = "sealed", "unsealed"
_WHERE = ["event_id", "source", "recorded_at", "sequence", "row"]  # of an item's event
_PLACE = ["sequence", "row", "item"]  # what tells items apart
_PAIR = ["grantee", "entitlement"]
_RELATED = [
    *("event_id", "source", "occurred_at", "recorded_at", "actor_type", "actor_id", "action"),
    *(*_PAIR, "request", "requester", "sequence", "row"),
]


class GrantMatching:
    """The grants of a period, each with the approval that serves it best.

    Approvals are searched from `policy.lookback_days` before the period up to the checkpoint, so that an approval after
    the fact is seen as late rather than missing. Grants of the look-back count as uses of their approvals.
    """

    def __init__(
        self,
        trail: Trail,
        period: Period,
        entitlement: str | None,
        policy: Policy,
        approvals: Attachment | None,
        identities: Attachment | None,
    ) -> None:
        since = None if period.since is None else to_datetime(period.since)
        until = None if period.until is None else to_datetime(period.until)
        back = None if period.since is None else to_datetime(max(0, period.since - policy.lookback_days * DAY))
        self.population = draw(trail, "grant", since=since, until=until, entitlement=entitlement)
        self._sealed = draw(trail, "approval", since=back).items
        self._requests = draw(trail, "request", since=back).items
        self._revokes = draw(trail, "revoke", since=since).items
        self._leaves, self._joins = draw(trail, "leave").items, draw(trail, "join").items
        self._policy, self._until = policy, to_datetime(parse_time(trail.recorded[1]))
        self._approvals = self._sealed
        if approvals is not None:
            outside = decisions(approvals)
            outside = outside if back is None else outside[outside["occurred_at"] >= back]
            frames = [frame for frame in (self._sealed, outside) if len(frame)]
            self._approvals = pd.concat(frames, ignore_index=True) if frames else self._sealed
        grants = draw(trail, "grant", since=back, until=until).items
        everything = self._match(grants, self._approvals, identities)
        evidence = pd.Series(SEALED, everything.items.index, dtype="str")
        if approvals is not None or identities is not None:  # what is not the same without them rests on them
            alone = self._match(grants, self._sealed, None).items
            for name in ("verdict", "approval"):
                evidence = evidence.mask(everything.items[name].fillna("") != alone[name].fillna(""), UNSEALED)
        items = everything.items.assign(evidence=evidence)
        asked = _among(items, self.population.items, _PLACE)
        self.verdicts = replace(everything, items=items[asked].reset_index(drop=True))
        self._others = items[~asked]

    def _match(self, grants: pd.DataFrame, approvals: pd.DataFrame, identities: Attachment | None) -> Verdicts:
        known = None
        if identities is not None:
            frames = (grants, approvals, self._requests, self._leaves, self._joins)
            columns = [frame[name] for frame in frames for name in ("actor_id", "grantee", "requester")]
            known = for_matching(identities.frame, pd.concat(columns).dropna().unique())
        everything = match_approvals(
            grants,
            approvals,
            self._revokes,
            policy=self._policy,
            observed_until=self._until,
            requests=self._requests,
            leaves=self._leaves if len(self._leaves) else None,
            joins=self._joins,
            identities=known,
        )
        # Row by row: an event id, and so an item, is unique within its source alone.
        return replace(everything, items=pd.concat([everything.items, grants[_WHERE].reset_index(drop=True)], axis=1))

    def tables(self) -> dict[str, pd.DataFrame]:
        """What verdicts rest on: `approvals`, `other_uses` of them, and `related` requests, removals and leavings."""
        grants = self.verdicts.items
        given = self._decisions(grants)
        asked = pd.concat([grants["request"], given["request"]]).dropna()
        frames = [
            self._requests[self._requests["request"].isin(asked)],
            self._revokes[_among(self._revokes, grants, _PAIR)],
            *(people[people["grantee"].isin(given["actor_id"])] for people in (self._leaves, self._joins)),
        ]
        related = pd.concat([frame for frame in frames if len(frame)] or frames[:1])[_RELATED]
        others = self._others[self._others["approval"].isin(given["event_id"])]
        outside = given["event_id"].map(is_unsealed).astype(bool)  # such a row stands in no record
        places = {name: given[name].astype("Int64").mask(outside) for name in ("sequence", "row")}
        return {
            "approvals": given.assign(event_id=given["event_id"].mask(outside, ""), **places),
            "other_uses": others.reset_index(drop=True),
            "related": related.sort_values(["sequence", "row"], kind="stable", ignore_index=True),
        }

    def _decisions(self, grants: pd.DataFrame) -> pd.DataFrame:
        """Every decision that a verdict can rest on: by request, by use, and by subject and entitlement where the
        grant or the decision names no request."""
        given = self._approvals
        unasked = grants[grants["request"].isna() | (grants["request"] == "")]
        silent = given["request"].isna() | (given["request"] == "")
        chosen = (
            given["request"].isin(grants["request"].dropna())
            | given["event_id"].isin(grants["approval"].dropna())
            | _among(given, unasked, _PAIR)
            | (silent & _among(given, grants, _PAIR))
        )
        return given[chosen].drop(columns=["emergency"]).reset_index(drop=True)


def _among(rows: pd.DataFrame, others: pd.DataFrame, columns: list[str]) -> pd.Series[bool]:
    """Which rows stand among the others, by these columns."""
    there = set(others[columns].itertuples(index=False, name=None))
    return pd.Series([key in there for key in rows[columns].itertuples(index=False, name=None)], rows.index, dtype=bool)
