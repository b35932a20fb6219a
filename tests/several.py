"""Two small trails whose ids collide, and a packet over both.

`acme.example/audit` and `acme.example/cloud` hold events of the same ids, from the same source: a row that does not
say which trail it is of could be either's. The event g-0 is the same in both, at the same place.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import simulator
from packets import approval, event, read_folder

from auditlib import sealer as sealing
from auditlib.evidence.across import Trails, open_trails
from auditlib.formats.event import Record
from auditlib.formats.keys import SigningKey, VerifierKey
from auditlib.formats.times import parse_time
from auditlib.packet.build import Built, build_packet
from auditlib.packet.vaults import Vault
from auditlib.state import SealerState
from auditlib.vault.local import LocalVault

AUDIT, CLOUD, OTHER = "acme.example/audit", "acme.example/cloud", "acme.example/other"
SEALERS = {origin: SigningKey(origin, sha256(origin.encode()).digest()) for origin in (AUDIT, CLOUD, OTHER)}
KEYS: tuple[VerifierKey, ...] = (SEALERS[AUDIT].verifier, SEALERS[CLOUD].verifier)
ADMIN = {"granted_role": "admin", "ip": "203.0.113.40"}
PERIOD = {"since": "2026-03-01", "until": "2026-04-01"}

GRANTS: dict[str, list[list[Record]]] = {
    AUDIT: [
        [
            event("g-0", at="2026-03-02T08:00:00Z"),
            approval("a-1", "2026-03-02T09:00:00Z", ["u_1"], ["admin"]),
            event("g-1", at="2026-03-02T10:00:00Z", target="u_1"),
        ],
        [
            event("g-2", at="2026-03-05T10:00:00Z", target="u_2"),
            event("g-3", "role.grant", "2026-03-06T10:00:00Z", ADMIN, target="u_3"),
        ],
    ],
    CLOUD: [
        [
            event("g-0", at="2026-03-02T08:00:00Z"),
            event("g-1", "role.grant", "2026-03-03T10:00:00Z", ADMIN, target="u_4"),
        ],
        [
            approval("a-2", "2026-03-07T09:00:00Z", ["u_5"], ["admin"]),
            event("g-2", at="2026-03-07T10:00:00Z", target="u_5"),
        ],
    ],
}


def sealed(folder: Path, origin: str, batches: Sequence[list[Record]], catalog: Any = simulator.CATALOG) -> Path:
    """A vault of one trail."""
    made = simulator.Trail(folder)
    sealing.create_trail(made.vault, SEALERS[origin], simulator.RETENTION, catalog, now=made.clock())
    seal_more(folder, origin, batches)
    return folder / "vault"


def seal_more(folder: Path, origin: str, batches: Sequence[list[Record]]) -> None:
    """Seal batches into the vault there."""
    key, made = SEALERS[origin], simulator.Trail(folder, LocalVault(folder / "vault"))
    last = max(parse_time(record.receipt.recorded_at) for batch in batches for record in batch)
    options: Any = {"now": simulator.Clock(last + 60_000_000), "random": made.random}
    with sealing.open_sealer(made.vault, key, SealerState(folder / "state", key.verifier), **options) as sealer:
        for batch in batches:
            sealer.add(batch)
            sealer.flush()


def vaults_in(folder: Path, events: Mapping[str, Sequence[list[Record]]] = GRANTS) -> list[Vault]:
    """Both vaults, the cloud's first: the order in which they are named decides nothing."""
    made = [
        Vault(str(sealed(folder / origin.rpartition("/")[2], origin, batches)), SEALERS[origin].verifier)
        for origin, batches in events.items()
    ]
    return made[::-1]


def opened(vaults: Sequence[Vault]) -> Trails:
    """Their trails."""
    return open_trails([(vault.place, vault.keys) for vault in vaults], [vault.at for vault in vaults])


def packed(vaults: Sequence[Vault], out: Path, request: str = "role-grants", **more: Any) -> Built:
    """A packet over both."""
    given = more.pop("given", PERIOD | {"entitlement": "admin"})
    return build_packet(request, vaults, given, out, **more)


@cache
def both() -> tuple[tuple[Vault, ...], Mapping[str, bytes]]:
    """The vaults, and every file of the role-grants packet over them; made once a session."""
    folder = Path(tempfile.mkdtemp(prefix="auditlib-several-"))
    vaults = vaults_in(folder)
    packed(vaults, folder / "packet")
    return tuple(vaults), read_folder(folder / "packet")
