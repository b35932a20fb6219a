"""A packet as NIST OSCAL assessment-results (JSON): what was looked at, what was seen, and where the evidence lies.

    {"assessment-results":{"uuid":"...","metadata":{...},"import-ap":{"href":"#<resource>"},
     "results":[{"observations":[...],"findings":[...],...}],"back-matter":{"resources":[{"rlinks":[{"hashes":...}]}]}}}

Made of the packet alone, so that the same packet gives the same bytes: UUIDs are version 5 from the evidence digest,
the time is that of the last seal. OSCAL's findings must say that an objective is satisfied or not, which is the
auditor's to say. Where there are potential exceptions each criterion gets a finding in the state that claims less,
`not-satisfied` for the reason `other`, and the remarks say so; where there are none, there is no finding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical, parse_json
from auditlib.packet.bag import Bag
from auditlib.packet.tables import FOLDER, read_table
from auditlib.packet.transmittal import MAX_BYTES

OSCAL_VERSION = "1.2.1"  # https://pages.nist.gov/OSCAL; what is used here stands in 1.1 alike
NAMESPACE = "urn:auditlib:oscal"  # of our own properties
MAX_OBSERVATIONS = 100_000  # potential exceptions that are told one by one
EXCEPTIONS = f"{FOLDER}exceptions.csv"
_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")  # of OSCAL's token datatype, what is ASCII
_IN_PATH = "/!$&'()*+,;=:@~"  # what a path may hold besides letters, digits and `-._`, RFC 3986 3.3
_FACTS = ("trail", "item", "event_id", "source", "sequence", "row", "verdict")  # columns told as properties
_MEDIA = {
    "csv": "text/csv",
    "html": "text/html",
    "ipynb": "application/x-ipynb+json",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
    "pdf": "application/pdf",
    "py": "text/x-python",
    "toml": "application/toml",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_NO_OPINION = (
    "auditlib is management's tool and gives no opinion. OSCAL knows two states; the one that does not claim that the "
    "objective is met stands here because potential exceptions were noted. Whether they are exceptions, and what they "
    "mean for the objective, is for the auditor to conclude."
)
_NO_FINDING = (
    "No potential exception was noted by this procedure. There is no finding, because a finding would have to state "
    "that an objective is satisfied or not satisfied, which is for the auditor to conclude."
)


def oscal_results(bag: Bag) -> bytes:
    """A packet that was checked -> its OSCAL assessment-results, canonical JSON with a newline.

    MalformedError where there are no criteria, one is no OSCAL token, or there are past MAX_OBSERVATIONS exceptions.
    """
    raw = bag.read("data/packet.json", MAX_BYTES)
    packet, digest = parse_json(raw), sha256(raw).hexdigest()
    maker = _Maker(packet, digest, bag)
    return canonical({"assessment-results": maker.document()}) + b"\n"


class _Maker:
    def __init__(self, packet: Mapping[str, Any], digest: str, bag: Bag) -> None:
        self.packet, self.digest, self.bag = packet, digest, bag
        self.namespace = uuid5(NAMESPACE_URL, f"urn:auditlib:packet:{digest}")
        self.sealed_at = max(one["last_sealed_at"] for one in packet["checkpoints"])
        self.files: dict[str, str] = {"data/packet.json": digest} | {
            f"data/{name}": hashed for name, hashed in sorted(packet["files"].items())
        }
        self.rows = read_table(bag.read(EXCEPTIONS)) if EXCEPTIONS in bag.sizes else []
        if len(self.rows) > MAX_OBSERVATIONS:
            raise MalformedError(f"more than {MAX_OBSERVATIONS:,} potential exceptions are not exported.")
        if not packet["criteria"]:
            raise MalformedError("the packet names no criteria, and OSCAL results name what was reviewed.")
        for criterion in packet["criteria"]:
            if not _TOKEN.fullmatch(str(criterion)):
                raise MalformedError(f"{criterion!r} is no control id as OSCAL writes one.", where="criteria")

    def document(self) -> dict[str, Any]:
        return {
            "back-matter": {"resources": [self._resource(name) for name in self.files]},
            "import-ap": {
                "href": f"#{self._id('data/notebook.ipynb')}",
                "remarks": "There is no assessment plan: the notebook that was run is the procedure.",
            },
            "metadata": {
                "last-modified": self.sealed_at,
                "oscal-version": OSCAL_VERSION,
                "props": _props({"evidence-digest": self.digest, "request": self.packet["request"]}),
                "remarks": "Made from an evidence packet by auditlib; paths are those inside the packet.",
                "title": _line(self.packet["title"]),
                "version": self.digest,
            },
            "results": [self._result()],
            "uuid": self._id("assessment-results"),
        }

    def _result(self) -> dict[str, Any]:
        packet = self.packet
        observations = [self._answer(), *map(self._observation, range(len(self.rows)))]
        findings = list(self._findings([one["uuid"] for one in observations])) if self.rows else []
        selection = [{"control-id": criterion} for criterion in dict.fromkeys(packet["criteria"])]
        period = packet["period"]["utc"]
        return {
            "description": " ".join([packet["question"], *packet["procedure"]]),
            "end": period["until"] or self.sealed_at,
            "observations": observations,
            "props": _props(
                {
                    f"checkpoint-{number}": f"{one['origin']} {one['size']} {one['root']}"
                    for number, one in enumerate(packet["checkpoints"], 1)
                }
            ),
            "remarks": " ".join(packet["limits"]) if findings else " ".join([_NO_FINDING, *packet["limits"]]),
            "reviewed-controls": {"control-selections": [{"include-controls": selection}]},
            "start": period["since"] or self._beginning(),
            "title": _line(packet["title"]),
            "uuid": self._id("result"),
        } | ({"findings": findings} if findings else {})

    def _answer(self) -> dict[str, Any]:
        return {
            "collected": self.sealed_at,
            "description": " ".join([self.packet["headline"], *self.packet["conclusion"]]),
            "methods": ["EXAMINE"],
            "relevant-evidence": [
                self._evidence(name, "A table of the packet.") for name in self.files if name.startswith(FOLDER)
            ]
            or [self._evidence("data/packet.json", "The answer.")],
            "title": "The answer and the population it was drawn from",
            "uuid": self._id("observation"),
        }

    def _observation(self, number: int) -> dict[str, Any]:
        row = self.rows[number]
        facts = {name.replace("_", "-"): row[name] for name in _FACTS if row.get(name)}
        return {
            "collected": self.sealed_at,
            "description": "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in row.items() if value)
            or "A row without content.",
            "methods": ["TEST"],
            "props": _props({"table-row": str(number + 1), **facts}),
            "relevant-evidence": [self._evidence(EXCEPTIONS, f"Row {number + 1} of the potential exceptions.")],
            "title": f"Potential exception {number + 1}",
            "uuid": self._id(f"observation/{number + 1}"),
        }

    def _findings(self, observations: Sequence[str]) -> Iterator[dict[str, Any]]:
        related = [{"observation-uuid": uuid} for uuid in observations]  # one list for all: there may be 100,000
        for criterion in dict.fromkeys(self.packet["criteria"]):
            yield {
                "description": self.packet["headline"],
                "related-observations": related,
                "remarks": _NO_OPINION,
                "target": {
                    "status": {"reason": "other", "remarks": _NO_OPINION, "state": "not-satisfied"},
                    "target-id": criterion,
                    "type": "objective-id",
                },
                "title": f"{criterion}: {len(self.rows):,} potential exception(s)",
                "uuid": self._id(f"finding/{criterion}"),
            }

    def _evidence(self, name: str, says: str) -> dict[str, Any]:
        return {
            "description": says,
            "href": quote(name, _IN_PATH),
            "links": [{"href": f"#{self._id(name)}", "rel": "reference"}],
            "props": _props({"sha256": self.files[name]}),
        }

    def _resource(self, name: str) -> dict[str, Any]:
        media = _MEDIA.get(name.rpartition(".")[2], "application/octet-stream")
        hashes = [{"algorithm": "SHA-256", "value": self.files[name]}]
        return {
            "rlinks": [{"hashes": hashes, "href": quote(name, _IN_PATH), "media-type": media}],
            "title": name,
            "uuid": self._id(name),
        }

    def _beginning(self) -> str:
        """Where the question has no beginning, the first event under a seal that is shown."""
        firsts = [
            str(parse_json(line)["occurred"][0])
            for one in self.packet["checkpoints"]
            for line in self.bag.read(f"data/proof/{one['origin']}/seals.jsonl").splitlines()
        ]
        return min(firsts, default=self.sealed_at)

    def _id(self, name: str) -> str:
        return str(uuid5(self.namespace, name))


def _props(values: Mapping[str, Any]) -> list[dict[str, str]]:
    """OSCAL properties; a value is one line of text, and none is empty."""
    return [
        {"name": name, "ns": NAMESPACE, "value": text}
        for name, value in sorted(values.items())
        if (text := _line(value))
    ]


def _line(value: Any) -> str:
    return " ".join(str(value).split())
