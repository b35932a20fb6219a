"""Trails and packets for the packet tests: the sample's, small ones of any records, and a packet to cheat with.

packet = Packet(sample())           every file of a packet, by name
packet.edit("data/events.jsonl", forge).fix()      change what you like, then put hashes and manifests right
packet.check()                      the report of check_packet
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import simulator

from auditlib.evidence import RoleGrants, role_grants
from auditlib.formats.canonical import canonical
from auditlib.formats.event import Actor, Event, Receipt, Record, Target
from auditlib.formats.keys import VerifierKey
from auditlib.formats.times import parse_time
from auditlib.keyfiles import load_verifier_keys
from auditlib.packet import bag as bags
from auditlib.packet import check as checks
from auditlib.packet.build import build_packet
from auditlib.trail import Trail
from auditlib.trail import open as open_trail

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "data-samples"
CLOUDTRAIL = ROOT.parent / "shared" / "data" / "cloudtrail-lab"
ORIGIN = simulator.ORIGIN
SAMPLE_KEY = load_verifier_keys(SAMPLES / "sample.vkey")[0]
PROOF = f"data/proof/{ORIGIN}"


# --- the sample, opened and packed once a session ------------------------------------------------------------


@cache
def sample_vault() -> Path:
    """A copy of the sample vault: others may be sealing it anew."""
    folder = Path(tempfile.mkdtemp(prefix="auditlib-sample-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(SAMPLES / "vault", folder / "vault")
    return folder / "vault"


@cache
def sample_trail() -> Trail:
    """The sample trail."""
    return open_trail(sample_vault(), keys=SAMPLE_KEY)


@cache
def sample() -> Mapping[str, bytes]:
    """Every file of the sample's role-grants packet."""
    folder = Path(tempfile.mkdtemp(prefix="auditlib-packet-"))
    build_packet("role-grants", str(sample_vault()), {}, folder / "packet", keys=SAMPLE_KEY)
    files = read_folder(folder / "packet")
    shutil.rmtree(folder)
    return files


@cache
def planted() -> dict[str, Any]:
    """What the generator planted."""
    found: dict[str, Any] = json.loads((SAMPLES / "planted.json").read_text())
    return found


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- small trails --------------------------------------------------------------------------------------------


def event(
    event_id: str,
    action: str = "role.grant",
    at: str = "2026-03-10T12:00:00Z",
    context: Mapping[str, Any] | None = None,
    *,
    target: str = "u_1",
    actor: str = "u_9",
    outcome: str = "success",
    source: str = "admin-console/a1",
    recorded: str | None = None,
) -> Record:
    """A record."""
    given = {"granted_role": "admin"} if action == "role.grant" and context is None else dict(context or {})
    told = Event(action, Actor(actor, None, "user"), given, event_id, at, outcome, Target(target, "user"))
    return Record(told, Receipt(recorded or at, source, None))


def approval(event_id: str, at: str, subjects: Any, entitlements: Any, request: str = "REQ-1", **more: Any) -> Record:
    """An approval by u_5, who is a manager."""
    context = {
        "request_id": request,
        "requested_at": at,
        "requester": "u_7",
        "subjects": subjects,
        "entitlements": entitlements,
        "approver_role": "manager",
        **more.pop("context", {}),
    }
    return event(event_id, "access.approve", at, context, actor="u_5", **more)


@contextmanager
def trail_of(folder: Path, *batches: list[Record], catalog: Any = simulator.CATALOG) -> Iterator[Trail]:
    """A trail of these batches, opened."""
    with open_trail(vault_of(folder, *batches, catalog=catalog), keys=simulator.KEY.verifier) as trail:
        yield trail


def vault_of(folder: Path, *batches: list[Record], catalog: Any = simulator.CATALOG) -> Path:
    """A vault of these batches."""
    trail = simulator.Trail(folder)
    trail.create(catalog)
    last = max(parse_time(record.receipt.recorded_at) for batch in batches for record in batch)
    trail.clock = simulator.Clock(last + 60_000_000)
    with trail.sealer() as sealer:
        for batch in batches:
            sealer.add(batch)
            sealer.flush()
    return folder / "vault"


def answer_of(trail: Trail, since: str = "2026-03-01", until: str = "2026-06-01", **more: Any) -> RoleGrants:
    """The role-grants answer."""
    return role_grants(trail, since=since, until=until, **more)


# --- a packet to cheat with ----------------------------------------------------------------------------------


class DictBag(bags.Bag):
    """A bag over a dictionary."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__({name: len(data) for name, data in files.items()}, Path("/nowhere"))
        self.files = files

    def read(self, name: str, limit: int = bags.MAX_FILE_BYTES) -> bytes:
        """See Bag.read."""
        if name not in self.files:
            raise bags.MismatchError("the packet has no such file.", where=name)
        if len(self.files[name]) > limit:
            raise bags.MalformedError("too large.", where=name)
        return self.files[name]


def check(files: Mapping[str, bytes], keys: tuple[VerifierKey, ...] = (SAMPLE_KEY,)) -> checks.PacketReport:
    """check_packet over a dictionary of files."""
    return checks._Check(DictBag(files), "memory", keys).report()


class Packet:
    """A copy of a packet whose maker cheats."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)

    def edit(self, name: str, change: Callable[[bytes], bytes]) -> Packet:
        """Change a file's bytes; nothing else."""
        before = self.files[name]
        self.files[name] = change(before)
        assert self.files[name] != before, f"{name} was not changed"
        return self

    def lines(self, name: str, change: Callable[[list[bytes]], list[bytes]]) -> Packet:
        """Change a file's lines."""
        return self.edit(name, lambda data: b"".join(line + b"\n" for line in change(data.splitlines())))

    def json(self, name: str, change: Callable[[Any], Any]) -> Packet:
        """Change a file's JSON value in place, written canonically."""

        def changed(data: bytes) -> bytes:
            value = json.loads(data)
            return canonical(change(value) or value)

        return self.edit(name, changed)

    def proof(self, line: int, change: Callable[[dict[str, Any]], None]) -> Packet:
        """Change one line of inclusion.jsonl."""

        def changed(lines: list[bytes]) -> list[bytes]:
            value = json.loads(lines[line])
            change(value)
            return [*lines[:line], canonical(value), *lines[line + 1 :]]

        return self.lines(f"{PROOF}/inclusion.jsonl", changed)

    def fix(self) -> Packet:
        """Put right what anyone can: the hashes in packet.json, bag-info and the manifests."""
        packet = json.loads(self.files["data/packet.json"])
        packet["files"] = {
            name.removeprefix("data/"): sha256(data).hexdigest()
            for name, data in sorted(self.files.items())
            if name.startswith("data/") and name.removeprefix("data/") not in checks.REPORTS
        }
        self.files["data/packet.json"] = canonical(packet)
        return self.bag()

    def bag(self) -> Packet:
        """Put bag-info and the manifests right, for any packet.json."""
        payload = {n.removeprefix("data/"): data for n, data in self.files.items() if n.startswith("data/")}
        raw = payload.get("packet.json", b"")
        try:
            info = bags.bag_info(json.loads(raw), sha256(raw).hexdigest())
        except (ValueError, TypeError, LookupError, RecursionError):
            info = {}
        strange = {n: d for n, d in self.files.items() if not n.startswith("data/") and n not in _TAGS}
        self.files = {**bags.bag_files(payload, info), **strange}
        return self

    def check(self, keys: tuple[VerifierKey, ...] = (SAMPLE_KEY,)) -> checks.PacketReport:
        """The report."""
        return check(self.files, keys)


_TAGS = (bags.DECLARATION, bags.INFO, bags.MANIFEST, bags.TAGMANIFEST)


def fired(report: checks.PacketReport) -> set[int]:
    """The numbers of the checks that found an error."""
    return {finding.check for finding in report.findings if finding.severity == "error"}
