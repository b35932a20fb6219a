"""What was checked of the trail before an answer was read from it: facts, with no clock in them."""

from __future__ import annotations

from html import escape
from typing import Any

import msgspec

from auditlib.findings import CHECKS
from auditlib.trail import Trail

_DONE = {
    0: "verified",
    1: "not made here: compare with an older checkpoint (auditlib verify --against)",
    2: "verified",
    3: "verified",
    4: "verified",
    5: "verified for every batch that was read",
    6: "not made here: auditlib verify --deep",
    7: "not made here: the storage's own report",
    8: "not made here: auditlib verify",
    9: "silences of the period, in the table of sources",
}


class Integrity(msgspec.Struct, frozen=True):
    """The checkpoint, and what was made of each numbered check."""

    origin: str
    size: int
    root: str
    keys: tuple[str, ...]
    events: int
    last_sealed_at: str
    lock_enforced: bool

    def statement(self) -> dict[str, Any]:
        """As packet.json states it."""
        checks = {str(number): {"check": CHECKS[number], "done": done} for number, done in _DONE.items()}
        return {"checks": checks, "events": self.events, "last_sealed_at": self.last_sealed_at}

    def limits(self) -> list[str]:
        """What the answer does not show."""
        told = [
            "Inclusion proves that a record was sealed, not that every act was recorded: what was never recorded "
            "cannot be seen here.",
            "Which batches can hold an answer was chosen by their seals' counts and ranges; that rests on the sealer's "
            "word until deep verification has recomputed them.",
            "The verifier key must reach you by another way than this packet; what comes inside proves nothing alone.",
        ]
        if not self.lock_enforced:
            told.append(
                "The vault lay in a directory whose owner can change files: changes show, but were not prevented."
            )
        return told

    def _repr_html_(self) -> str:
        facts = {
            "trail": self.origin,
            "checkpoint": f"{self.size} seals, root {self.root}",
            "signed by": ", ".join(self.keys),
            "events": f"{self.events:,}",
            "last sealed": self.last_sealed_at,
        }
        rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
        rows += "".join(
            f"<tr><th>check {number}</th><td>{escape(CHECKS[number])}: {escape(done)}</td></tr>"
            for number, done in _DONE.items()
        )
        return f"<table style='text-align:left'>{rows}</table>"


def integrity(trail: Trail) -> Integrity:
    """The integrity statement of an opened trail."""
    return Integrity(
        origin=trail.origin,
        size=trail.checkpoint.size,
        root=trail.checkpoint.root.hex(),
        keys=tuple(map(str, trail.checkpoint.signers)),
        events=trail.count,
        last_sealed_at=trail.seals[-1].sealed_at,
        lock_enforced=trail.history.vault.lock_enforced,
    )
