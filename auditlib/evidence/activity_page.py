"""How one actor's activity is shown: tables, sections, the picture."""

from __future__ import annotations

import pandas as pd

from auditlib.evidence.activity import Activity
from auditlib.evidence.answer import Column, Page, Section, Tile
from auditlib.evidence.by_day import by_day, day_picture
from auditlib.evidence.charts import Picture

COLUMNS = [
    Column("item", "Event", "code"),
    Column("occurred_at", "Occurred (UTC)", "time"),
    Column("actor_type", "As"),
    Column("action", "Action"),
    Column("target", "Target"),
    Column("outcome", "Outcome"),
    Column("session", "Session"),
    Column("ip", "Address"),
    Column("source", "Source"),
]
OUTCOMES = ("success", "failure", "denied")
_WHEN = [Column("first_at", "First (UTC)", "time"), Column("last_at", "Last (UTC)", "time")]
_CHANGED = [
    Column("item", "Event", "code"),
    Column("occurred_at", "Occurred (UTC)", "time"),
    Column("what", "What"),
    Column("entitlement", "Entitlement"),
    Column("actor_type", "By"),
    Column("actor_id", "By id"),
    Column("action", "Action"),
]


def tables(activity: Activity) -> dict[str, pd.DataFrame]:
    """The tables beside that of all events."""
    events = activity.events
    privileged = set(activity.trail.catalog.privileged) if activity.trail.catalog else set()
    summary = _counted(events, ["action", "outcome"])
    return {
        "days": by_day(
            {name: events.loc[events["outcome"] == name, "occurred_at"] for name in OUTCOMES},
            activity.period,
            activity.trail,
        ),
        "done_to": activity.done_to,
        "held": activity.held,
        "not_done": events[events["outcome"] != "success"].reset_index(drop=True),
        "sessions": _sessions(events),
        "summary": summary.assign(
            privileged=summary["action"].isin(privileged).map({True: "yes", False: "no"}).astype("str")
        ),
    }


def picture(activity: Activity, days: pd.DataFrame) -> Picture | None:
    """Events a day, a strip for each outcome that there is."""
    lanes = {name: name for name in OUTCOMES if days[name].any()}
    return day_picture(days, lanes, [], title="Events a day (UTC)") if lanes else None


def page(activity: Activity) -> Page:
    """The report."""
    events = activity.events
    refused = int((events["outcome"] != "success").sum())
    return Page(
        [
            Tile(len(events), "events of the actor"),
            Tile(refused, "failed or denied", flag=refused > 0),
            Tile(int(events["session"].nunique()), "sessions"),
            Tile(int(events["ip"].nunique()), "addresses"),
            Tile(len(activity.held), "entitlements held at the end"),
        ],
        [
            Section(
                title="What they did",
                figure="picture",
                table="summary",
                columns=[
                    Column("action", "Action"),
                    Column("outcome", "Outcome"),
                    Column("privileged", "Privileged"),
                    Column("events", "Events", "number"),
                    *_WHEN,
                ],
                empty="Nothing was recorded.",
            ),
            Section(title="What failed or was denied", table="not_done", columns=COLUMNS, empty="Nothing."),
            Section(
                title="What was done to their access in the period",
                table="done_to",
                columns=_CHANGED,
                empty="Nothing was recorded.",
            ),
            Section(
                title="What they held at the end of the period",
                table="held",
                columns=[
                    Column("entitlement", "Entitlement"),
                    Column("since", "Since (UTC)", "time"),
                    Column("item", "Given by", "code"),
                    *_CHANGED[-3:],
                ],
                empty="Nothing is seen to be held.",
            ),
            Section(
                title="Sessions and addresses",
                sentences=["The addresses are those that events state; many state none."],
                table="sessions",
                columns=[
                    Column("session", "Session"),
                    Column("addresses", "Addresses", "wide"),
                    Column("events", "Events", "number"),
                    *_WHEN,
                ],
                empty="Nothing was recorded.",
            ),
            Section(title="Every event", table="events", columns=COLUMNS, empty="Nothing was recorded."),
        ],
    )


def _sessions(events: pd.DataFrame) -> pd.DataFrame:
    """Events by session, those in none as one row, with the addresses that they state, sorted."""
    named = events.assign(ip=events["ip"].fillna(""))
    stated = named.groupby("session", dropna=False)["ip"].agg(lambda ips: ", ".join(sorted(set(ips) - {""})))
    counted = _counted(events, ["session"])
    return counted.merge(stated.rename("addresses").reset_index(), on="session", how="left").astype(
        {"addresses": "str"}
    )


def _counted(events: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Events by some columns, in the order of their first: by, events, first_at, last_at."""
    counted = events.groupby(by, sort=True, dropna=False, as_index=False).agg(
        events=("item", "size"), first_at=("occurred_at", "min"), last_at=("occurred_at", "max")
    )
    return counted.sort_values(["first_at", *by], kind="stable", ignore_index=True)
