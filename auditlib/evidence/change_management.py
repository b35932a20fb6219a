"""Change management: every release of a period, each beside the approved change behind it (TSC CC8.1).

    answer = change_management(trail, since="2026-03-01", until="2026-06-01")
    answer.exceptions

A release names its change where the catalogue says so (`request`); a decision on it (kind `change-approval`) and a
bypass of a protection (kind `protection-bypass`) name it likewise. How they are matched stands in `change_matching`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from auditlib.attachments import Attachment, decisions, is_unsealed, persons
from auditlib.evidence.across import over_trails
from auditlib.evidence.answer import Column, Period, Section, many, period_of
from auditlib.evidence.change_matching import ATTRIBUTES, UNSEALED, Policy, first_of_change, judge_releases, nearest
from auditlib.evidence.examined import PASS, PLACE, Examined, Found, Request, drawn
from auditlib.formats.times import DAY, parse_time, to_datetime
from auditlib.query import Moment
from auditlib.sampling import Rule, draw_sample
from auditlib.trail import Trail

REQUEST = Request(
    name="change-management",
    title="Releases and the approved change behind each",
    criteria=("CC8.1",),
    references=("ISO/IEC 27001:2022 A.8.32",),
    one="release",
    several="releases",
)
HOUR = DAY // 24  # microseconds

_WHO = ["actor_type", "actor_id", "action"]
_ITEM = [
    *("item", *PLACE, *_WHO, "target", "change", "author", "emergency", "approval", "approver", "approved_at"),
    *("authority", "evidence", "bypass", *ATTRIBUTES, "verdict", "reason"),
]
_DECISION = ["approval", *PLACE, *_WHO, "decision", "change", "author", "authority"]
_BYPASSED = ["bypass", *PLACE, *_WHO, "target", "change", "release"]
_SHOWN = [
    Column("item", "Release", "code"),
    Column("occurred_at", "Released (UTC)", "time"),
    Column("target", "Target"),
    Column("change", "Change"),
    Column("author", "Author"),
    Column("approver", "Approver"),
    Column("approved_at", "Approved (UTC)", "time"),
    Column("verdict", "Verdict", "verdict"),
]
_NOTED = [*_SHOWN[:-2], Column("verdict", "Attribute not met", "verdict"), Column("reason", "What was noted", "wide")]
_SECTIONS = [
    Section(
        title="Protections that were bypassed",
        table="bypasses",
        columns=[
            Column("bypass", "Bypass", "code"),
            Column("occurred_at", "Occurred (UTC)", "time"),
            Column("actor_id", "By"),
            Column("target", "Target"),
            Column("change", "Change"),
            Column("release", "First release it counts against", "code"),
        ],
        empty="None is recorded.",
    ),
    Section(
        title="Decisions on these changes",
        table="approvals",
        columns=[
            Column("approval", "Decision", "code"),
            Column("occurred_at", "Decided (UTC)", "time"),
            Column("change", "Change"),
            Column("decision", "Decided"),
            Column("author", "Author as stated"),
            Column("actor_id", "By"),
            Column("authority", "Authority"),
        ],
        empty="None is recorded.",
    ),
]


@over_trails
def change_management(
    trail: Trail,
    *,
    since: Moment,
    until: Moment = None,
    through: Moment = None,
    tz: str = "UTC",
    kinds: Sequence[str] = ("release",),
    lookback_days: int = 90,
    emergency_hours: int | None = 24,
    bypass_hours: int = 24,
    approvers: Sequence[str] = (),
    authorities: Sequence[str] = (),
    approvals: Attachment | None = None,
    identities: Attachment | None = None,
    sample: Rule | None = None,
) -> Examined:
    """Answer "show me every release between SINCE and UNTIL, with the approved change behind each".

    A release is a successful event of one of `kinds`. Decisions are searched from `lookback_days` before `since` up to
    the checkpoint. `approvals` and `identities` are lists from outside (see `auditlib.attachments`).
    """
    period = period_of(since, until, through, tz)
    policy = Policy(
        emergency=None if emergency_hours is None else emergency_hours * HOUR,
        bypass=bypass_hours * HOUR,
        approvers=tuple(approvers),
        authorities=tuple(authorities),
        observed_until=parse_time(trail.recorded[1]),
    )
    before = max(lookback_days * DAY, policy.bypass)
    wide = Period(None if period.since is None else max(0, period.since - before), None, tz)
    releases, how = _with_targets(trail, kinds, period)
    bypasses, _ = _with_targets(trail, ["protection-bypass"], wide)
    given = _decisions(trail, wide, approvals)
    judged = judge_releases(_with_persons(releases, identities), _with_persons(given, identities), bypasses, policy)
    items, given = judged[_ITEM], given[given["change"].isin(judged["change"].dropna())]
    noted = _noted(bypasses, items, policy, period)
    asked = {
        "approvers": list(approvers),
        "authorities": list(authorities),
        "bypass_hours": bypass_hours,
        "emergency_hours": emergency_hours,
        "kinds": list(kinds),
        "lookback_days": lookback_days,
    }
    found = Found(
        question=f"Show me every release from {period.words()}, with the approved change behind each.",
        kind="release",
        items=items,
        attributes=ATTRIBUTES,
        columns=_SHOWN,
        noted=_NOTED,
        procedure=_procedure(asked, how["actions"]),
        parameters=asked,
        told=[*_unknown(trail, kinds), *_told(judged, noted)],
        tables={"approvals": _in_table(given, _DECISION), "bypasses": noted},
        sections=_SECTIONS,
        **how,
    )
    taken = draw_sample(items, sample, request=REQUEST.name) if sample else None
    return Examined(REQUEST, trail, period, found, taken)


# --- what is read --------------------------------------------------------------------------------------------


def _with_targets(trail: Trail, kinds: Sequence[str], period: Period) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The items of the kinds with `change`, `author` and `target` (`type:id`); and how they were drawn."""
    items, how = drawn(trail, kinds, period)
    items = _named(items)
    if items.empty:
        return items.assign(target=pd.Series([], dtype="str")), how
    since, until = (None if moment is None else to_datetime(moment) for moment in (period.since, period.until))
    selection = trail.events(action=list(how["actions"]), outcome="success", since=since, until=until)
    columns = "sequence, row, target_type || ':' || target_id AS target"
    targets = trail.scan(selection.seals, columns, *selection.filter.sql()).to_arrow_table().to_pandas()
    return items.merge(targets, on=["sequence", "row"], how="left", validate="many_to_one"), how


def _decisions(trail: Trail, wide: Period, approvals: Attachment | None) -> pd.DataFrame:
    """Every decision on a change in the order of time, numbered by `order`: those of the trail and those of a list."""
    sealed, _ = drawn(trail, ["change-approval"], wide)
    outside = sealed[:0] if approvals is None else decisions(approvals)
    given = pd.concat([frame for frame in (sealed, outside) if len(frame)] or [sealed], ignore_index=True)
    given = _named(given.drop_duplicates(["source", "event_id"]))  # an event is one decision, whatever it lists
    given = given.sort_values(["occurred_at", "sequence", "row"], kind="stable", ignore_index=True)
    return given.assign(
        approval=given["event_id"],
        order=np.arange(len(given)),
        unsealed=given["event_id"].map(is_unsealed).astype(bool),
    )


def _named(items: pd.DataFrame) -> pd.DataFrame:
    """The items with what they call request and requester as `change` and `author`; an empty text is a missing one."""
    named = items.rename(columns={"request": "change", "requester": "author"})
    texts = {name: named[name].astype("str") for name in ("change", "author", "authority")}
    return named.assign(**{name: text.mask(text == "") for name, text in texts.items()})


def _with_persons(frame: pd.DataFrame, identities: Attachment | None) -> pd.DataFrame:
    """The frame with the persons behind author and actor as of the event; without a list an account is a person."""
    pairs = {"author_person": "author", "actor_person": "actor_id"}
    if identities is None:
        return frame.assign(**{person: frame[account] for person, account in pairs.items()})
    known, when = persons(identities.frame), (frame["occurred_at"], frame["source"])
    return frame.assign(**{person: known.named(frame[account], *when) for person, account in pairs.items()})


def _noted(bypasses: pd.DataFrame, items: pd.DataFrame, policy: Policy, period: Period) -> pd.DataFrame:
    """The bypasses of the period, and those before and after it that count against a release of it."""
    release = first_of_change(items, bypasses["change"]).fillna(nearest(bypasses, items, "forward", policy.bypass))
    told = bypasses.assign(release=release, bypass=bypasses["event_id"])
    outside = pd.Series(data=False, index=told.index)
    if period.since is not None:
        outside |= told["occurred_at"] < to_datetime(period.since)
    if period.until is not None:
        outside |= told["occurred_at"] >= to_datetime(period.until)
    return _in_table(told[~outside | told["release"].notna()], _BYPASSED)


def _in_table(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """These columns; a row of a list from outside stands in no record, and so has no event id and no place."""
    shown = rows[columns].reset_index(drop=True)
    outside = shown["event_id"].map(is_unsealed).astype(bool)
    places = {name: shown[name].astype("Int64").mask(outside) for name in ("sequence", "row")}
    return shown.assign(event_id=shown["event_id"].mask(outside, ""), **places)


# --- what is said --------------------------------------------------------------------------------------------


def _procedure(asked: dict[str, Any], actions: tuple[str, ...]) -> list[str]:
    may, hours = [*asked["approvers"], *asked["authorities"]], asked["emergency_hours"]
    return [
        f"Releases are the successful events of kind {', '.join(sorted(set(asked['kinds'])))} that occurred in the "
        f"period ({', '.join(actions) or 'no listed action'}).",
        f"Decisions on their changes were searched from {asked['lookback_days']:,} days before the period up to the "
        "checkpoint.",
        "A release that names no change is noted as one without an approval: nothing links it to any.",
        "A release marked as an emergency needs its approval before it like any other."
        if hours is None
        else f"A release marked as an emergency may be approved within {hours:,} h after it.",
        "A bypass counts against every release of the change that it names, and against those of the same target "
        f"within {asked['bypass_hours']:,} h after it.",
        f"May approve: {', '.join(may)}." if may else "Nobody was named who may approve: that was not tested.",
    ]


def _unknown(trail: Trail, kinds: Sequence[str]) -> list[str]:
    known = trail.catalog.kinds if trail.catalog else {}
    return [
        f"The catalogue in force knows no action of kind {kind}: none could be drawn."
        for kind in sorted(set(kinds))
        if kind not in known
    ]


def _told(items: pd.DataFrame, bypasses: pd.DataFrame) -> list[str]:
    told, passed = [], items["verdict"] == PASS
    if nameless := int(items["change"].isna().sum()):
        told.append(f"{many(nameless, 'release')} named no change.")
    if emergencies := int(items["emergency"].sum()):
        after = int((passed & (items["approved_at"] > items["occurred_at"])).sum())
        told.append(
            f"{many(emergencies, 'release was', 'releases were')} marked as an emergency; {after:,} of them passed "
            "with an approval after the release."
        )
    if len(bypasses):
        loose = int(bypasses["release"].isna().sum())
        told.append(
            f"{many(len(bypasses), 'bypass', 'bypasses')} of a protection noted, {loose:,} of them without a release "
            "of the period."
        )
    if unsealed := int((passed & (items["evidence"] == UNSEALED)).sum()):
        told.append(f"{unsealed:,} of those that passed: approved (unsealed evidence), by a list from outside.")
    if by_person := int(items["by_person"].sum()):
        told.append(f"{by_person:,} approved by the author by the attached identities alone (unsealed evidence).")
    return told
