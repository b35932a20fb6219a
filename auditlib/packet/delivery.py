"""Delivered packets: locked in the vault under their digest, and told by events of the trail itself.

    packets/<packet digest>/packet.zip      the signed packet, as it was handed over

    {"action":"evidence.packet","context":{"checkpoint":27,"evidence_digest":"...","packet_digest":"...",
     "period":{"since":"...","until":"..."},"preparer":"Ada Okafor","reason":null,"request":"role-grants",
     "sha256":"<of packet.zip>","state":"delivered","supersedes":null},...}
    {"action":"evidence.packet","context":{"evidence_digest":"...","packet_digest":"...","reason":"...",
     "state":"withdrawn"},...}

The event is the commit point: a crash before it leaves a packet that nothing names (harmless; delivering it again
finishes), and nothing comes after it. Nothing of a delivered packet ever changes: it is superseded or withdrawn by a
further event. Only events of the sealer's own source count.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from auditlib.announce import OWN_SOURCE, own_record
from auditlib.errors import AuditlibError, MalformedError, MismatchError, MissingError, UnavailableError
from auditlib.formats import merkle
from auditlib.formats.canonical import parse_json
from auditlib.formats.event import Actor, Target
from auditlib.formats.keys import SigningKey
from auditlib.formats.layout import packet_key
from auditlib.formats.seal import MAX_BATCH_BYTES
from auditlib.formats.times import DAY, format_time, from_datetime
from auditlib.packet.bag import open_bag, write_bag
from auditlib.packet.check import PacketReport, check_packet
from auditlib.packet.transmittal import MAX_BYTES, BagFiles, Transmittal
from auditlib.sealer import open_sealer
from auditlib.state import SealerState
from auditlib.trail import Trail
from auditlib.trail import open as open_trail
from auditlib.vault import ExistsError, Lock, Vault, open_vault

ACTION = "evidence.packet"
MAX_DELIVERED_BYTES = MAX_BATCH_BYTES  # bytes of a delivered zip: no object of a vault is larger than a batch may be
MIN_PREFIX = 8  # characters of a digest that may stand for it

Now = Callable[[], int]  # microseconds since 1970 UTC


class Period(msgspec.Struct, frozen=True):
    """`since` inclusive, `until` exclusive, in UTC; null where open."""

    since: str | None
    until: str | None


class Delivery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="state", tag="delivered"):
    """What the trail says of a packet that was handed over; `checkpoint` is the number of seals it rests on."""

    checkpoint: int
    evidence_digest: str
    packet_digest: str
    period: Period
    preparer: str
    reason: str | None
    request: str
    sha256: str
    supersedes: str | None


class Withdrawal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="state", tag="withdrawn"):
    """What the trail says of a packet that no longer stands."""

    evidence_digest: str
    packet_digest: str
    reason: str


class Book(NamedTuple):
    """Deliveries and withdrawals by packet digest, each with when it was recorded, in the order of the trail."""

    delivered: dict[str, tuple[str, Delivery]]
    withdrawn: dict[str, tuple[str, Withdrawal]]

    def successor(self, digest: str) -> Delivery | None:
        """The packet that was delivered to take this one's place."""
        return next((each for _, each in self.delivered.values() if each.supersedes == digest), None)

    def find(self, digest: str) -> Delivery:
        """The delivery of this digest, or of the only one that begins so; MalformedError where there is none."""
        found = [each for name, (_, each) in self.delivered.items() if name.startswith(digest)]
        if len(digest) < MIN_PREFIX or len(found) != 1:
            raise MalformedError(
                f"{digest!r} names {len(found)} of the packets delivered here.",
                where="packet digest",
                remedy=f"Give the digest, or at least its first {MIN_PREFIX} characters (auditlib packet list).",
            )
        return found[0]


class Listed(msgspec.Struct, frozen=True):
    """A delivered packet as a listing shows it.

    `late_events`: events of its population's actions and period that were recorded after its checkpoint, so that a
    newer answer would differ; None where its population is not made of events, or the packet cannot be read.
    """

    packet_digest: str
    evidence_digest: str
    request: str
    period: Period
    checkpoint: int
    preparer: str
    delivered_at: str
    status: Literal["current", "superseded", "withdrawn"]
    superseded_by: str | None
    why: str | None
    late_events: int | None
    stored: Literal["as sealed", "changed", "missing"]


class _Checkpoint(msgspec.Struct):
    origin: str
    size: int


class _Periods(msgspec.Struct):
    utc: Period


class _Population(msgspec.Struct):
    actions: list[str] = []


class _Packet(msgspec.Struct):
    """The part of packet.json that is told and counted here."""

    request: str
    period: _Periods
    checkpoints: list[_Checkpoint]
    population: _Population


def deliver(path: Path, url: str, key: SigningKey, state: SealerState, *, actor: str, now: Now) -> Delivery:
    """Check a signed packet, lock it in the vault it was drawn from, and seal that it was delivered.

    Delivering the same packet again changes nothing. Raises MalformedError where it is not signed, was withdrawn, or
    supersedes what was not delivered here; MismatchError where it does not check, is of another trail, or was delivered
    with other signatures. Then nothing is written.
    """
    vault = open_vault(url)
    with ExitStack() as stack:
        sealer = stack.enter_context(open_sealer(vault, key, state, now=now))
        trail = stack.enter_context(open_trail(url, keys=key.verifier))
        whole = stack.enter_context(_zipped(path))  # checked is what is delivered, whatever is put at `path` meanwhile
        report, stated, transmittal = _checked(whole, path, trail)
        data = whole.read_bytes()
        delivery = _delivery(report, stated, transmittal, data)
        if _is_there(read_book(trail), delivery):
            return delivery
        sealer.add([_record(delivery, actor, now)])
        retention = sealer.document.retention
        _put(vault, packet_key(report.digest), data, Lock(retention.mode, now() + retention.days * DAY))
        sealer.flush()  # the commit point
    return delivery


def withdraw(
    digest: str, url: str, key: SigningKey, state: SealerState, *, reason: str, actor: str, now: Now
) -> Withdrawal:
    """Seal that a delivered packet no longer stands, and why; the packet stays where it is."""
    if not reason.strip():
        raise MalformedError("a packet is withdrawn for a reason.", where="--reason")
    with open_sealer(open_vault(url), key, state, now=now) as sealer:
        with open_trail(url, keys=key.verifier) as trail:
            book = read_book(trail)
        delivery = book.find(digest)
        if delivery.packet_digest in book.withdrawn:
            when, before = book.withdrawn[delivery.packet_digest]
            raise MalformedError(f"it was withdrawn at {when} already: {before.reason}", where=delivery.packet_digest)
        withdrawal = Withdrawal(delivery.evidence_digest, delivery.packet_digest, reason)
        sealer.add([_record(withdrawal, actor, now)])
        sealer.flush()
    return withdrawal


def list_packets(trail: Trail) -> list[Listed]:
    """Every packet delivered from this trail, in the order of delivery; each is read again and hashed."""
    book = read_book(trail)
    return [_listed(trail, book, when, delivery) for when, delivery in book.delivered.values()]


def read_book(trail: Trail) -> Book:
    """What the sealer's own events say was delivered and withdrawn.

    An event of another shape tells nothing that could be understood, and is passed over.
    """
    book = Book({}, {})
    for row in trail.events(action=ACTION, source=OWN_SOURCE).arrow().to_pylist():
        try:
            told = msgspec.convert(parse_json(row["context"]), Delivery | Withdrawal)
        except (AuditlibError, msgspec.ValidationError):
            continue
        when = format_time(from_datetime(row["recorded_at"]))
        if isinstance(told, Delivery):
            book.delivered.setdefault(told.packet_digest, (when, told))
        else:
            book.withdrawn.setdefault(told.packet_digest, (when, told))
    return book


# --- delivering --------------------------------------------------------------------------------------------------


def _checked(whole: Path, path: Path, trail: Trail) -> tuple[PacketReport, _Packet, Transmittal]:
    trusted = {key for document in trail.history.documents for key in document.verifiers}
    report = check_packet(whole, trusted)
    stated = report.packet.get("checkpoints")
    if isinstance(stated, list) and len(stated) > 1:
        raise MalformedError(
            "a packet over several trails is delivered into none of their vaults: each of them proves a part of it.",
            where=str(path),
            remedy="Nothing was written. Hand the packet over itself, or build one of this trail alone.",
        )
    for finding in report.findings:
        if finding.severity == "error":
            raise MismatchError(
                f"a packet that does not check is not delivered: {finding.message} (check {finding.check})",
                where=f"{path}: {finding.object}",
                remedy="Nothing was written. Run `auditlib packet verify` on it.",
                expected=finding.expected,
                found=finding.found,
            )
    if report.transmittal is None:
        raise MalformedError(
            "nobody has signed this packet yet.", where=str(path), remedy="Run `auditlib packet sign` on it first."
        )
    leaves = trail.history.leaves
    for checkpoint in report.checkpoints:
        root = merkle.root(leaves[: checkpoint.size]) if checkpoint.size <= len(leaves) else b""
        if checkpoint.origin != trail.origin or checkpoint.root != root:
            raise MismatchError(
                "the packet was not drawn from this trail.",
                where=str(path),
                expected=f"{trail.origin}, root {root.hex()}",
                found=f"{checkpoint.origin}, root {checkpoint.root.hex()}",
            )
    return report, _stated(report.packet), report.transmittal


def _delivery(report: PacketReport, stated: _Packet, transmittal: Transmittal, data: bytes) -> Delivery:
    supersedes = transmittal.supersedes
    return Delivery(
        checkpoint=stated.checkpoints[0].size,
        evidence_digest=report.evidence_digest,
        packet_digest=report.digest,
        period=stated.period.utc,
        preparer=transmittal.preparer.name,
        reason=supersedes.reason if supersedes else None,
        request=stated.request,
        sha256=sha256(data).hexdigest(),
        supersedes=supersedes.packet_digest if supersedes else None,
    )


def _is_there(book: Book, delivery: Delivery) -> bool:
    """Whether it was delivered before, word for word; errors where it may not be delivered."""
    digest, supersedes = delivery.packet_digest, delivery.supersedes
    if digest in book.withdrawn:
        raise MalformedError(f"it was withdrawn at {book.withdrawn[digest][0]}.", where=digest)
    if digest in book.delivered:
        when, before = book.delivered[digest]
        if before != delivery:
            raise MismatchError(
                f"it was delivered at {when} with other signatures, and what was delivered never changes.",
                where=digest,
                expected=before.sha256,
                found=delivery.sha256,
            )
        return True
    if supersedes is not None:
        if supersedes not in book.delivered:
            raise MalformedError("it supersedes a packet that was not delivered here.", where=supersedes)
        if other := book.successor(supersedes):
            raise MalformedError(
                f"the packet that it supersedes was superseded by {other.packet_digest} already.",
                where=supersedes,
                remedy="Sign it again, to supersede that one.",
            )
    return False


@contextmanager
def _zipped(path: Path) -> Iterator[Path]:
    """The packet as the one zip that its files make, whatever it came in, in a folder of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch) / "packet.zip"
        with open_bag(path) as bag:
            if sum(bag.sizes.values()) <= MAX_DELIVERED_BYTES:
                write_bag(BagFiles(bag, {}), whole)
        if not whole.exists() or whole.stat().st_size > MAX_DELIVERED_BYTES:
            raise MalformedError(f"past {MAX_DELIVERED_BYTES:,} bytes no packet is kept in a vault.", where=str(path))
        yield whole


def _record(told: Delivery | Withdrawal, actor: str, now: Now) -> Any:
    context = msgspec.to_builtins(told)
    return own_record(ACTION, Actor(actor, None, "user"), Target(told.packet_digest, "packet"), context, now())


def _put(vault: Vault, key: str, data: bytes, lock: Lock) -> None:
    try:
        vault.put(key, data, lock)
    except ExistsError as error:  # what a crash left before the event, or something planted
        if vault.get(key, MAX_DELIVERED_BYTES) != data:
            raise MismatchError(
                "another object stands where the packet must be written; nothing was overwritten.",
                where=error.where,
                expected=sha256(data).hexdigest(),
                found="other bytes",
            ) from None


# --- listing -----------------------------------------------------------------------------------------------------


def _listed(trail: Trail, book: Book, when: str, delivery: Delivery) -> Listed:
    digest = delivery.packet_digest
    data, stored = _fetched(trail, delivery)
    successor = book.successor(digest)
    why = book.withdrawn[digest][1].reason if digest in book.withdrawn else successor.reason if successor else None
    return Listed(
        packet_digest=digest,
        evidence_digest=delivery.evidence_digest,
        request=delivery.request,
        period=delivery.period,
        checkpoint=delivery.checkpoint,
        preparer=delivery.preparer,
        delivered_at=when,
        status="withdrawn" if digest in book.withdrawn else "superseded" if successor else "current",
        superseded_by=successor.packet_digest if successor else None,
        why=why,
        late_events=None if data is None else _late_events(trail, data),
        stored=stored,
    )


def _fetched(trail: Trail, delivery: Delivery) -> tuple[bytes | None, Literal["as sealed", "changed", "missing"]]:
    """The bytes that the event names, from the oldest version that has them."""
    key, changed = packet_key(delivery.packet_digest), False
    for version in trail.history.versions_of(key):
        try:
            data = trail.history.vault.get(key, MAX_DELIVERED_BYTES, version)
        except MissingError:
            continue
        except UnavailableError:
            raise
        except AuditlibError:
            data = b""
        if sha256(data).hexdigest() == delivery.sha256:
            return data, "as sealed"
        changed = True
    return None, "changed" if changed else "missing"


def _late_events(trail: Trail, data: bytes) -> int | None:
    """Counted among the seals past the packet's checkpoint alone."""
    try:
        packet = _read_stated(data)
        actions, period = packet.population.actions, packet.period.utc
        if not actions:
            return None
        selection = trail.events(action=actions, since=period.since, until=period.until)
    except MalformedError:  # what it states can be asked of no trail; the other packets are listed all the same
        return None
    selection.seals = [seal for seal in selection.seals if seal.sequence >= packet.checkpoints[0].size]
    return selection.count()


def _read_stated(data: bytes) -> _Packet:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "packet.zip"
        path.write_bytes(data)
        with open_bag(path) as bag:
            return _stated(parse_json(bag.read("data/packet.json", MAX_BYTES)))


def _stated(packet: Any) -> _Packet:
    try:
        stated = msgspec.convert(packet, _Packet)
    except msgspec.ValidationError as error:
        raise MalformedError(f"packet.json is not built as it must be: {error}.") from None
    if not stated.checkpoints:
        raise MalformedError("packet.json names no checkpoint.")
    return stated
