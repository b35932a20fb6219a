"""Bursts of refusals judged: whether a success at what was refused followed, and the sentence that says so."""

from __future__ import annotations

from typing import Any

import pandas as pd

from auditlib.evidence.answer import listed, many
from auditlib.evidence.burst_follow import HOUR
from auditlib.evidence.examined import FAIL, NOT_TESTABLE, PASS, judge
from auditlib.evidence.frames import PLACED, Kind, typed
from auditlib.findings import duration
from auditlib.formats.times import format_time, from_datetime, to_datetime

ATTRIBUTES = {"not_followed_by_success": "what was refused did not succeed afterwards, for the same account or address"}
MAX_COMMON = 5  # accounts and addresses of one burst that its row names

_COLUMNS: dict[str, Kind] = {
    "item": "text",
    **PLACED,
    **dict.fromkeys(("actor_type", "actor_id", "action", "outcome", "common"), "text"),
    **dict.fromkeys(("refusals", "failed_logins", "denied"), "whole"),
    "began_at": "time",
    "ended_at": "time",
    "success": "text",
    "success_at": "time",
    "followed": "whole",
    "not_followed_by_success": "text",
}


def judge_bursts(
    bursts: pd.DataFrame,
    heads: pd.DataFrame,
    successes: pd.DataFrame,
    followed: pd.DataFrame,
    *,
    hours: int,
    observed_until: int,
) -> pd.DataFrame:
    """The items, a row a burst: its first record in the period, what it was, what followed, `verdict` and `reason`.

    `bursts`: see `Bursts.rows`; `heads`: each burst's record; `successes` and `followed`: see `burst_follow`;
    `observed_until`: the last recorded_at, microseconds.
    """
    answered = {row["burst"]: row for row in successes.to_dict("records")}
    after = followed.groupby("burst")["in_all"].max().to_dict()
    first: dict[Any, Any] = {row["burst"]: row for row in heads.to_dict("records")}
    rows, reasons = [], []
    for burst in bursts.to_dict("records"):
        number = burst["burst"]
        success, then = answered.get(number), int(after.get(number, 0))
        common = _common(burst["keys"])
        over = burst["ended"] + hours * HOUR <= observed_until
        rows.append(
            first[number]
            | burst
            | {
                "item": first[number]["event_id"],
                "common": common,
                "began_at": to_datetime(burst["began"]),
                "ended_at": to_datetime(burst["ended"]),
                "success": success["event_id"] if success else None,
                "success_at": success["occurred_at"] if success else None,
                "followed": then if success else None,
                "not_followed_by_success": FAIL if success else PASS if over else NOT_TESTABLE,
            }
        )
        reasons.append(_reason(burst, common, success, then) if success else "" if over else _unseen(hours))
    items = typed(rows, _COLUMNS)
    return judge(items, ATTRIBUTES, pd.DataFrame({name: pd.Series(reasons, dtype=object) for name in ATTRIBUTES}))


def _reason(burst: Any, common: str, success: Any, then: int) -> str:
    at, ended = from_datetime(success["occurred_at"]), burst["ended"]
    when = f"{duration(at - ended)} after the last of them" if at >= ended else "while they went on"
    where = "in its session" if isinstance(success["actor_session"], str) else "by its actor"
    return (
        f"{many(burst['refusals'], 'refusal')} within {duration(ended - burst['began'])} ({common}); "
        f"{success['action']} by {success['actor_type']}:{success['actor_id']} on {success['target']} succeeded at "
        f"{format_time(at)}, {when}; {many(then, 'event')} {where} followed it."
    )


def _unseen(hours: int) -> str:
    return f"The trail ends before the {hours:,} h after it were over."


def _common(keys: list[str]) -> str:
    more = [f"{len(keys) - MAX_COMMON:,} more"] if len(keys) > MAX_COMMON else []
    return listed([*keys[:MAX_COMMON], *more])
