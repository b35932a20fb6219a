"""What stands: which requests have a packet in a folder, at which checkpoint, and whether it still answers them.

    never built · built at checkpoint 24 (of now 27; 3 seals since) · cannot be read

A packet found in a folder is hostile: it is read through `packet.bag`, its packet.json bounded and judged by shape, and
its digests must lead to that packet.json. Its proofs are not checked here; `auditlib packet verify` does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import msgspec

from auditlib.errors import AuditlibError, MalformedError, MismatchError
from auditlib.evidence.answer import listed
from auditlib.formats.canonical import parse_json
from auditlib.packet.bag import MANIFEST, TAGMANIFEST, open_bag, packet_digest, read_manifest
from auditlib.packet.check import MAX_PACKET_JSON_BYTES, PACKET_FORMAT
from auditlib.packet.notebook import code_hash
from auditlib.packet.parameters import declared, read_typed
from auditlib.requests.asking import fixed, notebook_of
from auditlib.requests.model import Request, RequestList

PACKET = "data/packet.json"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024  # of a manifest; 10,000 files take about 1 MiB
NEVER, BUILT, UNREADABLE = "never built", "built", "cannot be read"

Text = Annotated[str, msgspec.Meta(max_length=20_000)]


class At(msgspec.Struct, frozen=True):
    """The checkpoint that a packet was drawn at."""

    origin: Annotated[str, msgspec.Meta(max_length=255)]
    size: Annotated[int, msgspec.Meta(ge=1)]
    last_sealed_at: Annotated[str, msgspec.Meta(max_length=64)]


class Code(msgspec.Struct, frozen=True):
    """The notebook that answered."""

    name: Annotated[str, msgspec.Meta(max_length=300)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Ends(msgspec.Struct, frozen=True):
    """The period's ends in UTC; None is open."""

    since: Annotated[str, msgspec.Meta(max_length=64)] | None
    until: Annotated[str, msgspec.Meta(max_length=64)] | None


class Within(msgspec.Struct, frozen=True):
    """The period."""

    utc: Ends


class Told(msgspec.Struct, frozen=True):
    """What packet.json tells; it holds more."""

    format: str
    headline: Text
    exceptions: Annotated[int, msgspec.Meta(ge=0)]
    checkpoints: Annotated[tuple[At, ...], msgspec.Meta(min_length=1, max_length=100)]
    notebook: Code
    period: Within
    parameters: dict[str, Any]


class Packet(msgspec.Struct, frozen=True):
    """A packet in a folder: where, its digests, and what it tells."""

    path: Path
    packet_digest: str
    evidence_digest: str
    told: Told

    @property
    def sizes(self) -> dict[str, int]:
        """The size of its checkpoint of each trail, by origin."""
        return {at.origin: at.size for at in self.told.checkpoints}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What stands of one request; `now` is the newest checkpoint of each of its trails, where all were asked."""

    request: Request
    packet: Packet | None = None
    now: Mapping[str, int] = {}  # origin -> size
    notes: tuple[str, ...] = ()  # why the packet may not be the answer any more, or cannot be read
    reproduces: bool | None = None  # None: not asked
    refused: bool = False  # its packet could not be made again, for a reason in the notes: nothing was compared
    unreadable: bool = False

    @property
    def name(self) -> str:
        """The name of its packet."""
        return self.request.id

    @property
    def state(self) -> str:
        """NEVER, BUILT or UNREADABLE."""
        return BUILT if self.packet else UNREADABLE if self.unreadable else NEVER

    @property
    def since(self) -> int | None:
        """Seals since the packet's checkpoints; None where a trail was not asked, or is another one."""
        if self.packet is None or self.now.keys() != self.packet.sizes.keys():
            return None
        return sum(self.now[origin] - size for origin, size in self.packet.sizes.items())

    def words(self) -> str:
        """The state in words."""
        if self.packet is None:
            return self.state
        sizes = self.packet.sizes
        at = f"built at checkpoint{'s' if len(sizes) > 1 else ''} {listed(f'{size:,}' for size in sizes.values())}"
        if self.since is not None and self.since >= 0:
            seals = "seal" if self.since == 1 else "seals"
            now = listed(f"{self.now[origin]:,}" for origin in sizes)
            at += f" (of now {now}; {self.since:,} {seals} since)"
        asked = {True: "; reproduces", False: "; does NOT reproduce", None: ""}[self.reproduces]
        return at + ("; could NOT be made again" if self.refused else asked)


def find_packet(folder: Path, name: str) -> Path | None:
    """FOLDER/NAME or FOLDER/NAME.zip; MalformedError where both are there."""
    found = [path for path in (folder / name, folder / f"{name}.zip") if path.exists()]
    if len(found) > 1:
        raise MalformedError(f"{name} and {name}.zip are both there.", where=str(folder), remedy="Keep one of them.")
    return found[0] if found else None


def read_packet(path: Path) -> Packet:
    """A packet's own account of itself. MalformedError or MismatchError where it is none."""
    if path.is_symlink():
        raise MalformedError("this is a link, not a packet.", where=str(path))
    try:
        with open_bag(path) as bag:
            data = bag.read(PACKET, MAX_PACKET_JSON_BYTES)
            for name in (MANIFEST, TAGMANIFEST):
                if bag.sizes.get(name, 0) > MAX_MANIFEST_BYTES:
                    raise MalformedError(f"more than {MAX_MANIFEST_BYTES:,} bytes.", where=name)
            digest, evidence = packet_digest(bag), sha256(data).hexdigest()
            for manifest, name, found in (
                (TAGMANIFEST, MANIFEST, sha256(bag.read(MANIFEST)).hexdigest()),
                (MANIFEST, PACKET, evidence),
            ):
                expected = read_manifest(bag, manifest).get(name)
                if expected != found:
                    raise MismatchError("a file of the packet was changed.", where=name, expected=expected, found=found)
        told = msgspec.convert(parse_json(data), Told)
    except msgspec.ValidationError as error:
        raise MalformedError(f"packet.json is not one: {error}.", where=str(path)) from None
    except AuditlibError as error:
        raise error.at(str(path)) from None
    if told.format != PACKET_FORMAT:
        raise MalformedError(f"this version reads packets of format {PACKET_FORMAT!r}.", where=str(path))
    return Packet(path, digest, evidence, told)


def standings(
    requests: RequestList, folder: Path, now: Mapping[str | None, tuple[str, int]] | None = None
) -> list[Standing]:
    """What stands in a folder, a line for each request; `now`: trail's name -> origin and newest size."""
    return [_standing(request, requests.folder, folder, now or {}) for request in requests.requests]


def _standing(request: Request, own: Path, folder: Path, asked: Mapping[str | None, tuple[str, int]]) -> Standing:
    whole = all(trail in asked for trail in request.asked_of)
    now = dict(asked[trail] for trail in request.asked_of) if whole else {}
    base = Standing(request=request, now=now)
    try:
        path = find_packet(folder, request.id)
        packet = None if path is None else read_packet(path)
    except AuditlibError as error:
        return msgspec.structs.replace(base, notes=(str(error),), unreadable=True)
    notes = () if packet is None else tuple(_notes(packet, request, own, now))
    return msgspec.structs.replace(base, packet=packet, notes=notes)


def _notes(packet: Packet, request: Request, folder: Path, now: Mapping[str, int]) -> list[str]:
    """In what the packet is not what the request asks today."""
    told = []
    sizes = packet.sizes
    if now and now.keys() != sizes.keys():
        told.append(f"it is of the trail {listed(sorted(sizes))}, not of {listed(sorted(now))}")
    else:
        short = [there for origin, there in now.items() if there < sizes[origin]]
        told += [
            f"the vault has {there:,} seals, fewer than the packet's checkpoint: verify --against the packet"
            for there in short
        ]
    try:
        notebook = notebook_of(request, folder)
        known = declared(notebook)
        asked = read_typed(known, fixed(request, known))
        if code_hash(notebook) != packet.told.notebook.sha256:
            told.append("its notebook is another today")
    except AuditlibError as error:
        return [*told, f"it could not be built today: {error}"]
    differ = [name for name, value in asked.items() if packet.told.parameters.get(name) != value]
    if differ:
        told.append(f"the request asks for another {', '.join(differ)} today")
    return told
