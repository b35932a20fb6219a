"""The numbered packet checks: everything in a packet against its own proofs, offline.

Everything is checked and every fault reported. A key given from outside is trusted; one that stands in the packet is
used and said to be unconfirmed. What cannot be seen from a packet is named in `unchecked`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from auditlib.errors import AuditlibError, MalformedError, MismatchError
from auditlib.findings import Finding, sorted_findings
from auditlib.formats.canonical import canonical
from auditlib.formats.checkpoint import Checkpoint, parse_checkpoint
from auditlib.formats.event import Record, parse_record
from auditlib.formats.keys import VerifierKey, parse_verifier_key
from auditlib.formats.seal import NO_PREVIOUS, Seal, seal_hash
from auditlib.packet.bag import (
    INFO,
    MAX_FILE_BYTES,
    TAGMANIFEST,
    Bag,
    bag_info,
    check_manifests,
    open_bag,
    packet_digest,
)
from auditlib.packet.proofs import check_inclusion, check_seals
from auditlib.packet.tables import FOLDER, Rows, Shown, check_tables, read_table, without_events
from auditlib.packet.transmittal import Checked, Transmittal, check_transmittal

PACKET_FORMAT = "auditlib/packet/v1"
REPORTS = ("report.html", "report.pdf", "packet.json")  # under data/, but not among packet.json's own hashes
ATTACHMENTS = "attachments/"  # under data/
PROOF_FILES = ("checkpoint", "inclusion.jsonl", "seals-proof.json", "seals.jsonl")
MAX_PACKET_JSON_BYTES = 16 * 1024 * 1024  # bytes; 10,000 files and as many seals take 1.2 MB
MAX_LINES = 2_000_000  # lines of events.jsonl and of a proof
MAX_FINDINGS = 1_000  # findings of one check that are told; with so many, the rest of a file is not read
PACKET_CHECKS = {
    1: "the bag holds the files its manifests list, unchanged, and no others",
    2: "packet.json is canonical and names every file of the evidence by its hash",
    3: "the checkpoint is signed by a trusted key",
    4: "the seals lead to the checkpoint, and each carries the hash of the one before where both are here",
    5: "every record is canonical and leads to the root of its sealed batch",
    6: "the tables speak of records that are here as these do, and their counts are those of packet.json",
}


# What a value of another shape than expected raises where it is used.
_STRANGE = (TypeError, ValueError, AttributeError, LookupError, RecursionError, msgspec.MsgspecError)


class _Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A list from outside, as packet.json states it."""

    name: str
    system: str
    query: str
    exporter: str
    exported_at: str
    time_zone: str
    rows: int
    sha256: str
    declaration_sha256: str


class PacketReport(msgspec.Struct, frozen=True):
    """The outcome; `ok` is false when any finding is an error."""

    path: str
    digest: str
    evidence_digest: str
    packet: dict[str, Any]
    checkpoints: tuple[Checkpoint, ...]
    key_confirmed: bool
    records: int
    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]
    transmittal: Transmittal | None = None
    redacted: int = 0  # records from which fields were left out: their places are proven, their contents are not

    @property
    def ok(self) -> bool:
        """Whether no finding is an error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The stable keys of `auditlib packet verify --json`."""
        return {
            "ok": self.ok,
            "packet": self.path,
            "digest": self.digest,
            "evidence_digest": self.evidence_digest,
            "request": self.packet.get("request"),
            "headline": self.packet.get("headline"),
            "exceptions": self.packet.get("exceptions"),
            "records": self.records,
            "redacted": self.redacted,
            "checkpoints": [
                {
                    "origin": one.origin,
                    "size": one.size,
                    "root": one.root.hex(),
                    "key": str(one.signers[0]) if one.signers else None,
                    "key_confirmed": self.key_confirmed,
                }
                for one in self.checkpoints
            ],
            "transmittal": msgspec.to_builtins(self.transmittal),
            "findings": [msgspec.to_builtins(finding) for finding in self.findings],
            "unchecked": list(self.unchecked),
        }


def check_packet(path: Path, keys: Iterable[VerifierKey] = ()) -> PacketReport:
    """Make every packet check. Raises MalformedError where there is no packet that could be read."""
    with open_bag(path) as bag:
        return _Check(bag, str(path), tuple(keys)).report()


def read_checkpoints(path: Path) -> list[tuple[str, bytes]]:
    """The checkpoints in a packet, unverified: (name, bytes), for `verify --against`."""
    with open_bag(path) as bag:
        return [
            (f"{path}: {name}", bag.read(name))
            for name in bag.sizes
            if name.startswith("data/proof/") and name.endswith("/checkpoint")
        ]


class _Check:
    def __init__(self, bag: Bag, path: str, keys: tuple[VerifierKey, ...]) -> None:
        self.bag, self.path = bag, path
        self.signed: Checked = check_transmittal(bag, keys)  # check 7
        self.keys = tuple(key for key in keys if key not in self.signed.signers)  # a preparer's key seals nothing
        self.findings: list[Finding] = []
        self.seen: Counter[int] = Counter()  # findings by check, those not told as well
        self.checkpoints: list[Checkpoint] = []
        self.seals: list[Seal] = []
        self.lines: list[bytes] = []
        self.places: dict[int, tuple[str, int, int]] = {}  # line of events.jsonl -> (trail, sequence, row)
        self.redacted: list[int] = []  # lines whose place is proven, and whose content is not
        self.tables: dict[str, Rows] = {}
        self.sealed_at_seen = True  # whether the last seal of every checkpoint is here

    def report(self) -> PacketReport:
        with self._noting(1, "manifests"):
            for error in check_manifests(self.bag):
                self._add(1, error.where, error)
        raw = self._read(2, "data/packet.json", MAX_PACKET_JSON_BYTES)
        packet = self._packet(raw)
        self.lines = self._lines(5, "data/events.jsonl")
        records = self._records()
        with self._noting(3, "data/packet.json"):
            self._origins(packet)
        self._redactions(packet.get("redacted"), records)
        unproven = sorted(set(range(len(self.lines))) - set(self.places))
        if unproven:
            message = f"{len(unproven)} record(s) have no proof, such as line {', '.join(map(str, unproven[:5]))}."
            self._find(5, "data/events.jsonl", message, len(self.lines), len(self.places))
        self._tables(packet, records)
        return PacketReport(
            path=self.path,
            digest=packet_digest(self.bag) if TAGMANIFEST in self.bag.sizes else "",
            evidence_digest=sha256(raw).hexdigest(),
            packet=packet,
            checkpoints=tuple(self.checkpoints),
            key_confirmed=bool(self.keys),
            records=len(self.lines),
            redacted=len(self.redacted),
            findings=sorted_findings([*self._told(), *self.signed.findings]),
            transmittal=self.signed.transmittal,
            unchecked=tuple(self._unchecked(packet)),
        )

    def _packet(self, raw: bytes) -> dict[str, Any]:
        where = "data/packet.json"
        packet: dict[str, Any] = {}
        with self._noting(2, where):
            found = msgspec.json.decode(raw)  # whatever a parser could read in two ways is not canonical
            if not isinstance(found, dict) or found.get("format") != PACKET_FORMAT:
                raise MalformedError(f"this version reads packets of format {PACKET_FORMAT!r}.")
            if canonical(found) != raw:
                raise MalformedError("packet.json is not written canonically (RFC 8785).")
            packet = found
            self._hashes(packet.get("files"))
            self._catalogs(packet["catalogs"])
            expected = {f"{name}: {value}" for name, value in bag_info(packet, sha256(raw).hexdigest()).items()}
            told = set(self._read(1, INFO).decode().split("\n"))
            if not expected <= told or len(told) != len(expected) + 2:  # Payload-Oxum, and the end
                message = "bag-info.txt says something else than packet.json."
                self._find(1, INFO, message, sorted(expected - told), sorted(told - expected))
            self._attachments(packet)
        return packet

    def _hashes(self, stated: Any) -> None:
        if not isinstance(stated, dict):
            raise MalformedError("files is no object of names and hashes.")
        present = {name.removeprefix("data/") for name in self.bag.sizes if name.startswith("data/")} - set(REPORTS)
        for name in sorted(present | set(stated)):
            expected = stated.get(name)
            found = sha256(self._read(2, f"data/{name}")).hexdigest() if name in present else None
            if expected is None or expected != found:
                message = "the file is not the one that packet.json names."
                self._find(2, f"data/{name}", message, expected or "no such file", found or "no such file")

    def _attachments(self, packet: dict[str, Any]) -> None:
        """Check 2: what came from outside the trail is what packet.json lists, whole, and nothing else."""
        lists = msgspec.convert(packet.get("attachments", []), list[_Listed])
        files = msgspec.convert(packet.get("attached_files", {}), dict[str, str])
        stated = [(f"{ATTACHMENTS}files/{name}", digest) for name, digest in files.items()]
        for one in lists:
            name = f"{ATTACHMENTS}{one.name}.csv"
            stated += [(name, one.sha256), (f"{name}.toml", one.declaration_sha256)]
            with self._noting(2, f"data/{name}"):
                found = len(read_table(self.bag.read(f"data/{name}")))
                if found != one.rows:
                    message = "there are not as many rows as packet.json states."
                    self._find(2, f"data/{name}", message, one.rows, found)
        here = [(name, digest) for name, digest in packet["files"].items() if name.startswith(ATTACHMENTS)]
        if sorted(stated) != sorted(here):
            message = "the attachments are not those that packet.json lists."
            expected, found_here = sorted(set(stated) - set(here)), sorted(set(here) - set(stated))
            self._find(2, f"data/{ATTACHMENTS}", message, expected, found_here)

    def _catalogs(self, stated: dict[str, Any]) -> None:
        named = {f"data/catalogs/{digest}.toml" for digest in (stated["answered"], *stated["in_force"]) if digest}
        there = {name for name in self.bag.sizes if name.startswith("data/catalogs/")}
        if named != there:
            message = "the catalogues are not those that packet.json names."
            self._find(2, "data/catalogs/", message, sorted(named - there), sorted(there - named))
        for name in sorted(there):
            found = f"data/catalogs/{sha256(self._read(2, name)).hexdigest()}.toml"
            if found != name:
                self._find(2, name, "a catalogue is named by its SHA-256.", name, found)

    def _records(self) -> list[Record | None]:
        records: list[Record | None] = [None] * len(self.lines)
        for number, line in enumerate(self.lines):
            if self._flooded(5):
                break
            with self._noting(5, f"data/events.jsonl line {number}"):
                records[number] = parse_record(line)
        return records

    def _redactions(self, stated: Any, records: list[Record | None]) -> None:
        """Check 5: what was left out is what packet.json says, and it is not here."""
        with self._noting(5, "data/packet.json"):
            fields, lines = ([], []) if stated is None else (stated["fields"], stated["lines"])
            if lines != sorted(self.redacted):
                message = "these are not the records from which packet.json says that fields were left out."
                self._find(5, "data/packet.json", message, lines, sorted(self.redacted))
            for number in self.redacted:
                record = records[number]
                for field in fields if record else ():
                    if _has(record, str(field)):
                        self._find(
                            5, f"data/events.jsonl line {number}", "a field that was left out is here.", "", field
                        )

    def _origins(self, packet: dict[str, Any]) -> None:
        stated = packet.get("checkpoints")
        if not isinstance(stated, list) or not stated:
            raise MalformedError("packet.json names no checkpoint, so that nothing here is proven.")
        if len({str(one.get("origin")) for one in stated}) != len(stated):
            raise MalformedError("packet.json names two checkpoints of one trail.")
        for one in stated:
            with self._noting(3, "data/packet.json"):
                self._origin(one)
        known = {f"data/proof/{one.get('origin')}/{name}" for one in stated for name in PROOF_FILES}
        for name in self.bag.sizes:
            if name.startswith("data/proof/") and name not in known:
                self._find(3, name, "a proof of a trail that packet.json does not name.", "no file", "a file")
        numbers = [seal.sequence for seal in self.seals]
        if msgspec.json.encode(numbers) != msgspec.json.encode(packet.get("seals")):  # to Python 0 == False
            message = "these are not the seals that packet.json names."
            self._find(4, "data/packet.json", message, packet.get("seals"), numbers)

    def _origin(self, stated: dict[str, Any]) -> None:
        """Checks 3 to 5 for one trail."""
        folder = f"data/proof/{stated.get('origin')}"
        named = tuple(parse_verifier_key(str(key)) for key in stated.get("keys", []))
        note = self._read(3, f"{folder}/checkpoint")
        signed: list[Checkpoint] = []
        with self._noting(3, f"{folder}/checkpoint"):
            checkpoint = parse_checkpoint(note, self.keys or named)
            signed.append(checkpoint)
            facts = (checkpoint.origin, checkpoint.size, checkpoint.root.hex())
            if facts != tuple(stated.get(name) for name in ("origin", "size", "root")):
                raise MismatchError(
                    "packet.json speaks of another checkpoint.", expected=stated, found=checkpoint.text()
                )
            if all(key.name != checkpoint.origin for key in checkpoint.signers):
                raise MismatchError(
                    "it is signed by keys of other trails alone.",
                    expected=checkpoint.origin,
                    found=", ".join(map(str, checkpoint.signers)),
                )
            signers = parse_checkpoint(note, [*self.keys, *named]).signers
            if not named or not set(named) <= set(signers):
                message = "packet.json names a key that did not sign."
                raise MismatchError(message, expected=", ".join(map(str, signers)), found=", ".join(map(str, named)))
        self.checkpoints += signed
        for checkpoint in signed:  # one; none where the note is worth nothing
            self._proofs(stated, folder, checkpoint)

    def _proofs(self, stated: dict[str, Any], folder: str, checkpoint: Checkpoint) -> None:
        seals: dict[int, Seal] = {}
        with self._noting(4, f"{folder}/seals.jsonl"):
            data = self._read(4, f"{folder}/seals.jsonl")
            proof = self._read(4, f"{folder}/seals-proof.json")
            seals = check_seals(data, proof, checkpoint.size, checkpoint.root)
            self._chain(folder, data, seals, checkpoint)
            self.seals += seals.values()
            last = seals.get(checkpoint.size - 1)
            self.sealed_at_seen &= last is not None
            if last and last.sealed_at != stated.get("last_sealed_at"):
                message = "packet.json states another time for the last seal."
                self._find(4, "data/packet.json", message, last.sealed_at, stated.get("last_sealed_at"))
        done: set[int] = set()
        for number, line in enumerate(self._lines(5, f"{folder}/inclusion.jsonl")):
            if self._flooded(5):
                break
            with self._noting(5, f"{folder}/inclusion.jsonl line {number}"):
                found = check_inclusion(line, seals, self.lines)
                if found.sequence in done or not self.places.keys().isdisjoint(found.lines):
                    raise MismatchError("a batch or a record is proven twice.", found=found.sequence)
                done.add(found.sequence)
                self.redacted += found.redacted
                self.places |= {
                    place: (checkpoint.origin, found.sequence, row)
                    for place, row in zip(found.lines, found.leaf_indexes, strict=True)
                }

    def _chain(self, folder: str, data: bytes, seals: dict[int, Seal], checkpoint: Checkpoint) -> None:
        hashes = dict(zip(seals, map(seal_hash, data.split(b"\n")), strict=False)) | {-1: NO_PREVIOUS}
        for number, seal in seals.items():
            where = f"{folder}/seals.jsonl seal {number}"
            if seal.origin != checkpoint.origin:
                self._find(4, where, "the seal is of another trail.", checkpoint.origin, seal.origin)
            before = hashes.get(number - 1)
            if before and seal.previous != before:
                message = "the seal does not carry the hash of the one before."
                self._find(4, where, message, before, seal.previous)

    def _tables(self, packet: dict[str, Any], records: list[Record | None]) -> None:
        if not packet:
            return
        for name in self.bag.sizes:
            if name.startswith(FOLDER) and name.endswith(".csv"):
                with self._noting(6, name):
                    self.tables[name.removeprefix(FOLDER).removesuffix(".csv")] = read_table(self._read(6, name))
        with self._noting(6, "data/packet.json"):
            if packet.get("records") != len(self.lines):
                message = "there are not as many records as packet.json states."
                self._find(6, "data/events.jsonl", message, packet.get("records"), len(self.lines))
            shown = [Shown(record, self.places.get(n)) for n, record in enumerate(records) if record]
            origins = [checkpoint.origin for checkpoint in self.checkpoints]
            for where, message, expected, found in check_tables(packet, self.tables, shown, origins):
                self._find(6, where, message, expected, found)

    def _unchecked(self, packet: dict[str, Any]) -> Iterator[str]:
        if not self.keys:
            yield (
                "the key stands in the packet itself and is not confirmed: compare it with what the company gave you "
                "by another way (--key)"
            )
        yield (
            "Parquet tables, the report and the notebook are checked by their hashes only, "
            "and whoever made the packet made these"
        )
        yield (
            "verdicts, entitlements, reasons and the sentences of packet.json are not worked out again here; "
            "whoever can read the vault builds the packet again and compares"
        )
        if packet.get("attachments") or packet.get("attached_files"):
            yield (
                "attachments are evidence from outside the trail: they are checked by their hashes and numbers of rows "
                "only, and what they say rests on whoever exported them"
            )
        if self.redacted:
            yield (
                f"{len(self.redacted):,} of {len(self.lines):,} records lack fields that were left out (packet.json "
                "names them): that a record was sealed at each of these places is proven, what it says rests on "
                "whoever made the packet; who can read the vault builds it again"
            )
        yield from self._completeness(packet)
        for name in without_events(self.tables):
            yield f"tables/{name}.csv names no events: it is checked by its hash only"
        if not self.sealed_at_seen:
            yield "the last seal is not here: when it was sealed rests on packet.json"
        yield "which catalogue was in force, and the versions named, rest on packet.json"
        yield from self.signed.unchecked
        yield "inclusion proves that a record was sealed, not that every act was recorded"

    def _completeness(self, packet: dict[str, Any]) -> Iterator[str]:
        """What the seals say of the population's actions, beside how many of them are here."""
        scope, population = packet.get("scope"), packet.get("population")
        if not isinstance(scope, dict) or not scope.get("every_seal_of_period"):
            yield "not every seal of the period is here: completeness needs the vault"
            return
        actions = population.get("actions") if isinstance(population, dict) else None
        actions = actions if isinstance(actions, list) else []
        counts = [seal.counts.actions for seal in self.seals]
        sealed = sum((each or {}).get(action, 0) for each in counts for action in set(map(str, actions)))
        told = f"at least {sealed:,}" if None in counts else f"{sealed:,}"
        yield (
            f"whether a record was left out of the population needs the vault: the {len(self.seals):,} seals here "
            f"state {told} events of its actions, inside and outside the period and of every entitlement and outcome"
        )

    # --- helpers -------------------------------------------------------------------------------------------------

    def _read(self, check: int, name: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """A file's bytes; none, and a finding, where it cannot be read."""
        try:
            return self.bag.read(name, limit)
        except AuditlibError as error:
            self._add(check, name, error)
            return b""

    def _lines(self, check: int, name: str) -> list[bytes]:
        data = self._read(check, name)
        if not data:
            return []
        if data.count(b"\n") > MAX_LINES:
            self._find(check, name, f"more than {MAX_LINES:,} lines are not read.")
            return []
        lines = data.split(b"\n")
        if lines.pop():
            self._find(check, name, "the file does not end with a newline.")
        return lines

    def _find(self, check: int, where: str, message: str, expected: object = "", found: object = "") -> None:
        self.seen[check] += 1
        if self.seen[check] <= MAX_FINDINGS:
            self.findings.append(Finding(check, "error", where, message, str(expected)[:400], str(found)[:400]))

    def _add(self, check: int, where: str, error: AuditlibError) -> None:
        expected, found = (getattr(error, name, None) or "" for name in ("expected", "found"))
        message = error.message if error.where in ("", where) else f"{error.where}: {error.message}"
        self._find(check, where, message, expected, found)

    def _told(self) -> list[Finding]:
        """The findings; where there were very many of a check, that more was not told or not read."""
        more = "there are more faults than these; not all was read, and not all are told."
        return [*self.findings, *(Finding(check, "error", "", more) for check in self.seen if self._flooded(check))]

    def _flooded(self, check: int) -> bool:
        return self.seen[check] >= MAX_FINDINGS

    @contextmanager
    def _noting(self, check: int, where: str) -> Iterator[None]:
        try:
            yield
        except AuditlibError as error:
            self._add(check, where, error)
        except _STRANGE as error:
            self._add(check, where, MalformedError(f"it is not built as it must be ({type(error).__name__}: {error})."))


def _has(record: Record | None, field: str) -> bool:
    """Whether a record has a field: actor.session, or a dotted path of its context."""
    if record is None:
        return False
    if field == "actor.session":
        return record.event.actor.session is not None
    return _stands({"context": record.event.context}, field.split("."))


def _stands(place: Any, path: list[str]) -> bool:
    """Whether the path leads anywhere; through a list, by any of its elements."""
    if not path:
        return True
    if isinstance(place, list):
        return any(_stands(element, path) for element in place)
    return isinstance(place, dict) and path[0] in place and _stands(place[path[0]], path[1:])
