"""The audit of the auditor: every sign-in, search, view, export, run and packet is an event of the trail.

    {"action":"evidence.search","actor":{"id":"omar","session":"5f1d...","type":"user"},
     "context":{"engagement":"internal","filters":{"kind":"grant"},"role":"analyst","rows":37},...,
     "target":{"id":"acme.example/audit","type":"vault"}}
    {"action":"evidence.search","actor":{"id":"ines@auditor.example","session":"9b1d...","type":"user"},
     "context":{"engagement":"soc2-2026","role":"auditor","withheld_sha256":"..."},...,
     "target":{"id":"acme.example/audit","type":"vault"}}

Each method returns when the event is in the client's spool on disk (the commit point), or raises UnavailableError:
then the caller shows nothing. They wait for the disk, so a page calls them in a thread.

What an auditor asks discloses the test strategy, and so would a row count, the hash of an export, the id of an event
looked at, or the digest of a packet: each can be found again by asking the same. An auditor's event therefore says who,
when, how it came out, under which engagement, on which vault, and what kind of act; all else is committed to
(disclosed.py), and two acts of one kind differ in nothing but id, time and commitment. The line that opens the
commitment is on disk before the event: a crash between the two leaves a line without an event, and nothing was shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from auditlib.client import Client
from auditlib.client.settings import load_catalog
from auditlib.dashboard.disclosed import (
    COMMITMENT,
    MAX_READ,
    MAX_WITHHELD_BYTES,
    SALT_BYTES,
    Disclosed,
    Disclosures,
    Line,
    check_reader,
    commitment,
)
from auditlib.dashboard.journal import Entry, Journal
from auditlib.dashboard.signins import SignIn
from auditlib.engagements import Engagement
from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical, check_value
from auditlib.formats.event import MAX_ID_BYTES, Event

MAX_SHOWN_BYTES = 8 * 1024  # canonical bytes of one value in an event; an event's context has 16 KiB (DESIGN 4.1)
TYPED = "password"  # the way to sign in where a person types who they are (SignIn.how)
UNKNOWN = "unknown"  # who tried to sign in under a name that nobody has: it may be a mistyped password

_DASHBOARD = "service:dashboard"


class Recorder:
    """Records through `client` (durability "disk"), and keeps `disclosed/` and `journal.jsonl` in a folder (0700)."""

    def __init__(self, client: Client, folder: Path, known: Callable[[str], bool]) -> None:
        """`known`: whether somebody is called so (see signed_in)."""
        self._client, self._known = client, known
        self._disclosed = Disclosed(folder / "disclosed")
        self.journal = Journal(folder / "journal.jsonl")
        actions = load_catalog(None).actions
        self._required = {name: entry.required for name, entry in actions.items() if name.startswith("evidence.")}

    def signed_in(
        self,
        identity: str,
        outcome: str,
        how: str,
        reason: str | None = None,
        *,
        session: SignIn | str | None = None,
    ) -> str:
        """An attempt to sign in: success or denied, by password, oidc or link. `reason` is the server's own words.

        A name that was typed with a wrong password and that nobody has is not recorded.
        """
        named = identity != UNKNOWN and (outcome == "success" or how != TYPED or self._known(identity))
        actor = _actor(identity, session) if named else {"id": UNKNOWN, "session": None, "type": "anonymous"}
        context = {"how": how, "reason": reason}
        return self._keep(self._client.event("evidence.sign_in", actor, _DASHBOARD, outcome, context))

    def signed_out(self, identity: str, why: str, *, session: SignIn | str | None = None) -> str:
        """The end of a sign-in, and why in a word or two: asked for, idle, expired, revoked."""
        return self._keep(
            self._client.event("evidence.sign_out", _actor(identity, session), _DASHBOARD, "success", {"why": why})
        )

    def searched(
        self,
        identity: str,
        session: SignIn | str,
        engagement: Engagement,
        vault: str,
        filters: Mapping[str, Any],
        rows: int | None,
    ) -> str:
        """A search: its filters as JSON values, and how many events it showed or counted (None: not counted)."""
        return self._act(
            "evidence.search", identity, session, engagement, vault, {"filters": dict(filters), "rows": rows}
        )

    def viewed(
        self, identity: str, session: SignIn | str, engagement: Engagement, vault: str, what: str, target: str
    ) -> str:
        """Something looked at: `what` is its kind (`event`, `page`), `target` its id."""
        told = {"viewed": {"id": _fitting(target), "type": what}}
        return self._act("evidence.view", identity, session, engagement, vault, told)

    def exported(
        self,
        identity: str,
        session: SignIn | str,
        engagement: Engagement,
        vault: str,
        filters: Mapping[str, Any],
        rows: int,
        sha256: str,
        format: str,
        *,
        digests: Mapping[str, str] | None = None,
    ) -> str:
        """A file of events, made and not yet handed over: its rows, the SHA-256 of its bytes, its format.

        `digests`: of a packet, its own.
        """
        told = {"filters": dict(filters), "format": format, "rows": rows, "sha256": sha256, **(digests or {})}
        return self._act("evidence.export", identity, session, engagement, vault, told)

    def ran(
        self,
        identity: str,
        session: SignIn | str,
        engagement: Engagement,
        vault: str,
        request: str,
        parameters: Mapping[str, Any],
        outcome: str = "success",
    ) -> str:
        """An evidence request that is about to run, or was refused (`denied`)."""
        told = {"parameters": dict(parameters), "request": request}
        return self._act("evidence.request", identity, session, engagement, vault, told, outcome)

    def packet(
        self,
        identity: str,
        session: SignIn | str,
        engagement: Engagement,
        vault: str,
        request: str,
        packet_digest: str,
        evidence_digest: str,
    ) -> str:
        """A packet that is about to be handed over."""
        told = {"evidence_digest": evidence_digest, "packet_digest": packet_digest, "request": request}
        return self._act("evidence.packet", identity, session, engagement, vault, told)

    def disclosures(
        self, identity: str, session: SignIn | str, engagement: Engagement, whose: Engagement, limit: int = MAX_READ
    ) -> Disclosures:
        """What was withheld under an engagement, newest first; that it is read is recorded before it is returned.

        RefusedError, and nothing recorded or read, unless an admin reads, or an auditor their own.
        """
        check_reader(identity, engagement, whose)
        found = self._disclosed.read(whose.id, None if engagement.role == "admin" else identity, limit)
        context = {
            **{"engagement": engagement.id, "role": engagement.role},
            **{"lines": len(found.lines), "whose": whose.identity},
        }
        event = self._client.event(
            "evidence.disclosure", _actor(identity, session), f"engagement:{whose.id}", "success", context
        )
        self._keep(event)
        return found

    def _act(
        self,
        action: str,
        identity: str,
        session: SignIn | str,
        engagement: Engagement,
        vault: str,
        told: dict[str, Any],
        outcome: str = "success",
    ) -> str:
        """Record one act: of an auditor nothing but the act, of others all that fits into an event."""
        told = check_value(told)
        if (size := len(canonical(told))) > MAX_WITHHELD_BYTES:
            raise MalformedError(
                f"{size:,} bytes of filters; at most {MAX_WITHHELD_BYTES:,} can be recorded.",
                remedy="Ask for less at once.",
            )
        auditor = engagement.role == "auditor"
        withheld = {name: value for name, value in told.items() if auditor or len(canonical(value)) > MAX_SHOWN_BYTES}
        context: dict[str, Any] = {
            **dict.fromkeys(self._required.get(action, ())),  # what the catalogue requires is there, as null
            **{name: value for name, value in told.items() if name not in withheld},
            **{"engagement": engagement.id, "role": engagement.role},
        }
        salt = os.urandom(SALT_BYTES)
        if withheld:
            context[COMMITMENT] = commitment(salt, withheld)
        event = self._client.event(action, _actor(identity, session), f"vault:{vault}", outcome, context)
        if withheld:
            opening = (event.action, event.occurred_at, engagement.id, event.event_id, identity)
            self._disclosed.keep(Line(*opening, salt.hex(), withheld))
        return self._keep(event)

    def _keep(self, event: Event) -> str:
        self._client.keep(event)  # the commit point; a crash after it leaves at most a journal that lacks the act
        context = event.context
        self.journal.note(
            Entry(
                action=event.action,
                at=event.occurred_at,
                engagement=context.get("engagement"),
                event_id=event.event_id,
                identity=event.actor.id,
                outcome=event.outcome,
                role=context.get("role"),
                rows=context.get("rows"),
                target=f"{event.target.type}:{event.target.id}",
            )
        )
        return event.event_id


def _actor(identity: str, session: SignIn | str | None) -> dict[str, Any]:
    """`session` is a sign-in or what names it in records (`SignIn.session`), never a cookie."""
    return {"id": identity, "session": session.session if isinstance(session, SignIn) else session, "type": "user"}


def _fitting(text: str) -> str:
    """A text from an address as an id: what an event cannot hold is shown as a question mark, the rest is cut off."""
    whole = text.replace("\0", "?").encode(errors="replace")[:MAX_ID_BYTES]
    return whole.decode(errors="ignore") or "?"
