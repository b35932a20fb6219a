"""The frames that come in, checked: the columns that matter, in one type each, grants and decisions in time order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from auditlib.errors import MalformedError

DECISIONS = ("approved", "denied", "withdrawn")
_LEADING = ("event_id", "occurred_at", "sequence", "row")
_COLUMNS = {
    "grants": (
        *(*_LEADING, "item", "actor_id", "action", "grantee", "entitlement", "request"),
        *("valid_until", "emergency"),
    ),
    "approvals": (
        *(*_LEADING, "actor_id", "decision", "grantee", "entitlement", "request", "requester"),
        *("valid_from", "valid_until", "uses", "authority"),
    ),
    "revokes": ("occurred_at", "sequence", "row", "grantee", "entitlement"),
    "requests": ("occurred_at", "request", "requester"),
    "leaves": ("occurred_at", "grantee"),
    "joins": ("occurred_at", "grantee"),
    "identities": ("account", "person"),
}
_OPTIONAL = {"identities": ("valid_from", "valid_until")}  # missing: NaT


@dataclass(frozen=True)
class Frames:
    """What `match_approvals` was given; a frame that was not given is empty."""

    grants: pd.DataFrame  # in grant order (rule 5), with the item's `number`
    decisions: pd.DataFrame  # by (occurred_at, sequence, row)
    revokes: pd.DataFrame
    requests: pd.DataFrame
    leaves: pd.DataFrame
    joins: pd.DataFrame
    identities: pd.DataFrame


def check_frames(frames: dict[str, pd.DataFrame | None]) -> Frames:
    """Frames by name -> Frames. Raises MalformedError: a missing column or time, an unknown decision."""
    checked = {name: _frame(name, frame) for name, frame in frames.items()}
    grants, decisions = checked.pop("grants"), checked.pop("approvals")
    strange = decisions.loc[~decisions["decision"].isin(DECISIONS), "decision"]
    if len(strange):
        raise MalformedError(
            f"{str(strange.iloc[0])[:80]!r} is no decision; it is approved, denied or withdrawn.",
            where="approvals.decision",
        )
    order = ["occurred_at", "sequence", "row"]
    return Frames(
        grants=grants.assign(number=_item_number(grants)).sort_values(
            [*order, "number"], kind="stable", ignore_index=True
        ),
        decisions=decisions.sort_values(order, kind="stable", ignore_index=True),
        **checked,
    )


def _frame(name: str, frame: pd.DataFrame | None) -> pd.DataFrame:
    """The columns that matter, texts as `str` with empty as missing, times as aware microseconds."""
    wanted = _COLUMNS[name]
    if frame is None:
        frame = pd.DataFrame({column: [] for column in wanted})
    lacking = [column for column in wanted if column not in frame.columns]
    if lacking:
        raise MalformedError(f"has no column {', '.join(lacking)}.", where=name, remedy="Build it with population.")
    found: dict[str, Any] = {}
    for column in (*wanted, *_OPTIONAL.get(name, ())):
        values = frame[column] if column in frame else pd.Series(pd.NaT, index=frame.index)
        values = values.reset_index(drop=True)
        if column in {"occurred_at", "valid_from", "valid_until"}:
            found[column] = pd.to_datetime(values, utc=True).astype("datetime64[us, UTC]")
        elif column in {"sequence", "row"}:
            found[column] = values.astype("int64")
        elif column == "uses":
            found[column] = values.astype("Int64")
        elif column == "emergency":
            found[column] = values.astype("boolean").fillna(False).astype(bool)
        else:
            text = values.astype("str")
            found[column] = text.mask(text == "")
    if "occurred_at" in found and found["occurred_at"].isna().any():
        raise MalformedError("a row has no time.", where=f"{name}.occurred_at")
    return pd.DataFrame(found)


def _item_number(grants: pd.DataFrame) -> pd.Series[int]:
    """`event_id#n` -> n; an item that is its event's only one -> 0."""
    number = pd.Series(0, index=grants.index, dtype="int64")
    several = grants["item"] != grants["event_id"]
    if several.any():
        tail = grants.loc[several, "item"].str.extract(r"#([0-9]{1,9})$")[0]
        number[several] = tail.fillna("0").astype("int64")
    return number
