"""The numbered packet checks: everything in a packet against its own proofs, offline.

Everything is checked and every fault reported. A key given from outside is trusted; one that stands in the packet is
used and said to be unconfirmed. What cannot be seen from a packet is named in `unchecked`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from auditlib.errors import AuditlibError, MalformedError, MismatchError
from auditlib.findings import Finding, sorted_findings
from auditlib.formats.canonical import canonical, parse_json
from auditlib.formats.checkpoint import Checkpoint, parse_checkpoint
from auditlib.formats.event import Record, parse_record
from auditlib.formats.keys import VerifierKey, parse_verifier_key
from auditlib.formats.seal import Seal, seal_hash
from auditlib.packet.bag import Bag, check_manifests, open_bag, packet_digest
from auditlib.packet.proofs import check_inclusion, check_seals

PACKET_FORMAT = "auditlib/packet/v1"
REPORTS = ("report.html", "report.pdf", "packet.json")  # under data/, but not among packet.json's own hashes
PACKET_CHECKS = {
    1: "the bag holds the files its manifests list, unchanged, and no others",
    2: "packet.json is canonical and names every file of the evidence by its hash",
    3: "the checkpoint is signed by a trusted key",
    4: "the seals lead to the checkpoint, and each carries the hash of the one before where both are here",
    5: "every record is canonical and leads to the root of its sealed batch",
    6: "the tables speak of records that are here, and their counts are those of packet.json",
}


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
        self.bag, self.path, self.keys = bag, path, keys
        self.findings: list[Finding] = []
        self.checkpoints: list[Checkpoint] = []
        self.records: list[Record] = []

    def report(self) -> PacketReport:
        for error in self._each(1, "manifests", lambda: check_manifests(self.bag)):
            self._add(1, error.where, error)
        raw = self._read("data/packet.json")
        packet = self._packet(raw)
        lines = self._lines("data/events.jsonl")
        self._events(lines)
        shown: set[int] = set()
        for stated in packet.get("checkpoints", []):
            with self._noting(3, "data/packet.json"):
                self._origin(stated, lines, shown)
        if len(shown) != len(lines):
            missing = sorted(set(range(len(lines))) - shown)[:5]
            message = f"{len(lines) - len(shown)} record(s) have no proof, such as line {', '.join(map(str, missing))}."
            self.findings.append(Finding(5, "error", "data/events.jsonl", message, str(len(lines)), str(len(shown))))
        self._tables(packet)
        return PacketReport(
            path=self.path,
            digest=packet_digest(self.bag) if "tagmanifest-sha256.txt" in self.bag.sizes else "",
            evidence_digest=sha256(raw).hexdigest(),
            packet=packet,
            checkpoints=tuple(self.checkpoints),
            key_confirmed=bool(self.keys),
            records=len(lines),
            findings=sorted_findings(self.findings),
            unchecked=tuple(self._unchecked(packet)),
        )

    def _packet(self, raw: bytes) -> dict[str, Any]:
        where = "data/packet.json"
        packet: dict[str, Any] = {}
        with self._noting(2, where):
            found = parse_json(raw)
            if not isinstance(found, dict) or found.get("format") != PACKET_FORMAT:
                raise MalformedError(f"this version reads packets of format {PACKET_FORMAT!r}.")
            packet = found
            if canonical(packet) != raw:
                self.findings.append(Finding(2, "error", where, "packet.json is not written canonically (RFC 8785)."))
            self._hashes(packet.get("files"))
        return packet

    def _hashes(self, stated: Any) -> None:
        if not isinstance(stated, dict):
            raise MalformedError("files is no object of names and hashes.")
        present = {name.removeprefix("data/") for name in self.bag.sizes if name.startswith("data/")} - set(REPORTS)
        for name in sorted(present | set(stated)):
            expected = str(stated.get(name, "no such file"))
            found = sha256(self.bag.read(f"data/{name}")).hexdigest() if name in present else "no such file"
            if expected != found:
                message = "the file is not the one that packet.json names."
                self.findings.append(Finding(2, "error", f"data/{name}", message, expected, found))

    def _events(self, lines: Sequence[bytes]) -> None:
        for number, line in enumerate(lines):
            with self._noting(5, f"data/events.jsonl line {number}"):
                self.records.append(parse_record(line))

    def _origin(self, stated: dict[str, Any], lines: Sequence[bytes], shown: set[int]) -> None:
        """Checks 3 to 5 for one trail."""
        folder = f"data/proof/{stated.get('origin')}"
        keys = self.keys or tuple(parse_verifier_key(str(key)) for key in stated.get("keys", []))
        with self._noting(3, f"{folder}/checkpoint"):
            checkpoint = parse_checkpoint(self._read(f"{folder}/checkpoint"), keys)
            self.checkpoints.append(checkpoint)
            if (checkpoint.origin, checkpoint.size, checkpoint.root.hex()) != tuple(
                stated.get(name) for name in ("origin", "size", "root")
            ):
                raise MismatchError(
                    "packet.json speaks of another checkpoint.", expected=stated, found=checkpoint.text()
                )
            seals: dict[int, Seal] = {}
            with self._noting(4, f"{folder}/seals.jsonl"):
                data = self._read(f"{folder}/seals.jsonl")
                proof = self._read(f"{folder}/seals-proof.json")
                seals = check_seals(data, proof, checkpoint.size, checkpoint.root)
                self._chain(folder, data, seals, checkpoint)
            for number, line in enumerate(self._lines(f"{folder}/inclusion.jsonl")):
                with self._noting(5, f"{folder}/inclusion.jsonl line {number}"):
                    found = check_inclusion(line, seals, lines)
                    if shown & set(found.lines):
                        raise MismatchError("a record is claimed by two batches.")
                    shown |= set(found.lines)

    def _chain(self, folder: str, data: bytes, seals: dict[int, Seal], checkpoint: Checkpoint) -> None:
        hashes = dict(zip(seals, map(seal_hash, data.split(b"\n")), strict=False))
        for number, seal in seals.items():
            where = f"{folder}/seals.jsonl seal {number}"
            if seal.origin != checkpoint.origin:
                self.findings.append(
                    Finding(4, "error", where, "the seal is of another trail.", checkpoint.origin, seal.origin)
                )
            before = hashes.get(number - 1)
            if before and seal.previous != before:
                message = "the seal does not carry the hash of the one before."
                self.findings.append(Finding(4, "error", where, message, before, seal.previous))

    def _tables(self, packet: dict[str, Any]) -> None:
        """Check 6: every event id of a table stands in events.jsonl, with the same time; exceptions are counted."""
        times = {record.event.event_id: record.event.occurred_at for record in self.records}
        for name in self.bag.sizes:
            if not (name.startswith("data/tables/") and name.endswith(".csv")):
                continue
            with self._noting(6, name):
                rows = list(csv.DictReader(io.StringIO(self.bag.read(name).decode("utf-8-sig"), newline="")))
                for number, row in enumerate(rows, 2):
                    event_id = row.get("event_id")
                    if event_id is not None and times.get(event_id.removeprefix("'")) != row.get("occurred_at"):
                        raise MismatchError(
                            f"line {number} speaks of the event {event_id} otherwise than the records here.",
                            expected=times.get(event_id, "no such record"),
                            found=row.get("occurred_at"),
                        )
                if name == "data/tables/exceptions.csv" and len(rows) != packet.get("exceptions"):
                    raise MismatchError(
                        "there are not as many potential exceptions as packet.json states.",
                        expected=packet.get("exceptions"),
                        found=len(rows),
                    )

    def _unchecked(self, packet: dict[str, Any]) -> Iterator[str]:
        if not self.keys:
            yield (
                "the key stands in the packet itself and is not confirmed: compare it with what the company gave you by "
                "another way (--key)"
            )
        yield "Parquet tables, the report and the notebook are checked by their hashes only"
        yield "verdicts are not worked out again here; `auditlib packet reproduce` or the vault's reader does that"
        scope = packet.get("scope")
        if not isinstance(scope, dict) or not scope.get("every_seal_of_period"):
            yield "not every seal of the period is here: completeness needs the vault"
        yield "inclusion proves that a record was sealed, not that every act was recorded"

    # --- helpers -------------------------------------------------------------------------------------------------

    def _read(self, name: str) -> bytes:
        return self.bag.read(name) if name in self.bag.sizes else b""

    def _lines(self, name: str) -> list[bytes]:
        data = self._read(name)
        if not data:
            return []
        lines = data.split(b"\n")
        if lines.pop():
            self.findings.append(Finding(5, "error", name, "the file does not end with a newline."))
        return lines

    def _add(self, check: int, where: str, error: AuditlibError) -> None:
        expected, found = (str(getattr(error, name, None) or "")[:400] for name in ("expected", "found"))
        message = error.message if error.where in ("", where) else f"{error.where}: {error.message}"
        self.findings.append(Finding(check, "error", where, message, expected, found))

    @contextmanager
    def _noting(self, check: int, where: str) -> Iterator[None]:
        try:
            yield
        except AuditlibError as error:
            self._add(check, where, error)
        except (UnicodeDecodeError, csv.Error, TypeError, ValueError, AttributeError) as error:
            self._add(check, where, MalformedError(f"it is not built as it must be ({error})."))

    def _each(self, check: int, where: str, errors: Callable[[], Iterable[MismatchError]]) -> Iterator[MismatchError]:
        with self._noting(check, where):
            yield from errors()
