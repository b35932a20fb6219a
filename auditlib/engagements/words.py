"""An engagement in plain words, for pages, exports and the command line."""

from __future__ import annotations

from collections.abc import Sequence

from auditlib.engagements.model import Engagement
from auditlib.findings import moment


def in_words(engagement: Engagement) -> list[str]:
    """The scope in sentences: whose, what, without what, how much, how long, and who set it when."""
    told = [f"{engagement.identity} looks as {engagement.role}, under the engagement {engagement.id}."]
    told.append(f"Of {'the vault' if len(engagement.vaults) == 1 else 'the vaults'} {_list(engagement.vaults)}:")
    told += limits_in_words(engagement).values() or ["Every event."]
    if engagement.redact:
        told.append(f"Left out of every event: {_list(engagement.redact)}.")
    if engagement.proofs:
        told.append("Proofs may be seen: they show the seal of a batch, which counts all its events.")
    told.append(
        f"An export has at most {engagement.rows_per_export:,} events."
        if engagement.rows_per_export
        else "Nothing may be exported."
    )
    told.append(
        f"Evidence requests that may be run: {_list(engagement.requests)}."
        if engagement.requests
        else "No evidence request may be run."
    )
    start, end = engagement.validity
    told.append(f"Valid from {moment(start)} until {moment(end)}.")
    told.append(f"Set by {engagement.set_by} at {engagement.set_at}.")
    if engagement.revoked_at:
        told.append(_revoked(engagement))
    return told


def in_a_line(engagement: Engagement) -> str:
    """The scope in one line: what is limited, until when, who set it."""
    limits = " ".join(limits_in_words(engagement).values()) or "Every event."
    left_out = " Some fields are left out." if engagement.redact else ""
    return f"Scope: {limits}{left_out} Until {moment(engagement.validity[1])}. Set by {engagement.set_by}."


def limits_in_words(engagement: Engagement) -> dict[str, str]:
    """What limits the events, a sentence a limit, by `period`, `kinds`, `actions`, `targets`, `streams`."""
    told = {}
    if engagement.since and engagement.until:
        told["period"] = f"Only events that occurred from {engagement.since} until before {engagement.until} (UTC)."
    elif engagement.since or engagement.until:
        edge = f"from {engagement.since} on" if engagement.since else f"before {engagement.until}"
        told["period"] = f"Only events that occurred {edge} (UTC)."
    for name, values in (
        ("kinds", engagement.kinds),
        ("actions", engagement.actions),
        ("targets", engagement.targets),
        ("streams", engagement.streams),
    ):
        if values:
            told[name] = f"Only the {name} {_list(values)}."
    return told


def why_not(engagement: Engagement, now: int) -> str | None:
    """Why it cannot be used now, in one sentence; None where it can. `now` in microseconds."""
    start, end = engagement.validity
    if engagement.revoked_at is not None:
        return _revoked(engagement)
    if now < start:
        return f"This engagement begins at {moment(start)}."
    return f"This engagement ended at {moment(end)}." if now >= end else None


def _revoked(engagement: Engagement) -> str:
    by = f" by {engagement.revoked_by}" if engagement.revoked_by else ""
    reason = f": {engagement.reason.rstrip('.')}" if engagement.reason else ""
    return f"This engagement was revoked at {engagement.revoked_at}{by}{reason}."


def _list(values: Sequence[str]) -> str:
    return ", ".join(values)
