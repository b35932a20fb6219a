"""Build a packet: run the request's notebook, add the proofs, the report and the manifests.

Same request, parameters, checkpoint and software give the same bytes: no clock, host name or path gets in.
"""

from __future__ import annotations

import io
import platform
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from auditlib.attachments import NOTHING, PLACE, Attached, pass_on
from auditlib.errors import MalformedError, MismatchError
from auditlib.evidence.across import Trails
from auditlib.evidence.answer import ANSWER_FILE, TABLES, Period, write_table
from auditlib.evidence.scope import Scope, scope_over, scope_sentences, scope_table
from auditlib.formats.canonical import canonical, parse_json
from auditlib.formats.times import parse_time, to_datetime
from auditlib.packet.bag import TAGMANIFEST, bag_files, bag_info, write_bag
from auditlib.packet.notebook import Executed, execute, find_notebook
from auditlib.packet.parameters import check_together, declared, read, with_defaults
from auditlib.packet.pdf import render_pdf
from auditlib.packet.prove import Proof, build_proofs
from auditlib.packet.redaction import Cut, check_fields, check_leaks
from auditlib.packet.report import render_report
from auditlib.packet.vaults import Vault, open_vaults, trails_of
from auditlib.packet.workbook import workbook
from auditlib.trail import Keys, Trail

PACKET_FORMAT = "auditlib/packet/v1"
REPORTS = ("report.html", "report.pdf")  # not among packet.json's hashes, because they print its own (DESIGN 4.7)
SCOPE = "scope.toml"
_VERIFIER = Path(__file__).parent / "templates" / "verify.py"
_SOFTWARE = (
    *("auditlib", "duckdb", "matplotlib", "msgspec", "numpy", "pandas", "papermill", "pyarrow", "rfc8785"),
    *("typst", "xlsxwriter"),
)


class Built(msgspec.Struct, frozen=True):
    """A packet that was written: where, its digests, and its answer in short."""

    path: str
    packet_digest: str
    evidence_digest: str
    headline: str
    exceptions: list[dict[str, Any]]
    files: int


class Asked(msgspec.Struct, frozen=True):
    """What was asked of a notebook: its parameters (typed), the fields to leave out, what comes from outside."""

    parameters: dict[str, Any]
    redact: tuple[str, ...] = ()
    attached: Attached = NOTHING
    scope: Scope | None = None  # the systems in scope


def build_packet(
    request: str,
    vault: str | Sequence[Vault],
    given: Mapping[str, str],
    out: Path,
    *,
    keys: Keys = None,
    redact: Sequence[str] = (),
    attached: Attached = NOTHING,
    scope: Scope | None = None,
) -> Built:
    """Answer a request with a packet at `out` (a new folder or .zip).

    `vault` is one, read with `keys`; or several, each with its own: one packet over all of their trails.
    `given` are the notebook's parameters as texts; without `at` the newest checkpoint is taken and written into the
    packet. `redact` names fields to leave out; `attached` is evidence from outside the trail; `scope` the systems in
    scope, which are held against the trail month by month. Raises MalformedError for the user's mistakes,
    MismatchError where the trail has a fault; then nothing is written.
    """
    notebook = find_notebook(request)
    known = declared(notebook)
    asked = Asked(read(known, given), tuple(redact), attached, scope)
    check_together(with_defaults(known, asked.parameters))
    at = asked.parameters.get("at")
    vaults = [Vault(vault, keys)] if isinstance(vault, str) else list(vault)
    if len(vaults) == 1 and at is not None:
        vaults = [vaults[0]._replace(at=at)]
    elif at is not None:
        raise MalformedError(
            "a checkpoint's size says nothing of several trails.", where="at", remedy="Leave it out, or ask one trail."
        )
    with open_vaults(vaults) as trail:
        return make_packet(trail, notebook, asked, out)


def make_packet(trail: Trail | Trails, notebook: Path, asked: Asked, out: Path) -> Built:
    """Run a notebook over a trail or several, at the checkpoints they were opened at, and pack its answer at `out`."""
    trails = trails_of(trail)
    cut = Cut(tuple(sorted({name for one in trails for name in check_fields(asked.redact, one.catalog)})))
    parameters = asked.parameters | ({"at": trails[0].checkpoint.size} if len(trails) == 1 else {})
    places = [one.history.vault.url for one in trails]
    environment = {
        "AUDITLIB_VAULT": "\n".join(place if "://" in place else str(Path(place).resolve()) for place in places),
        "AUDITLIB_KEY": "\n".join(dict.fromkeys(str(key) for one in trails for key in one.history.given)),
        "AUDITLIB_AT": "\n".join(str(one.checkpoint.size) for one in trails),
    }
    with tempfile.TemporaryDirectory() as scratch:
        pass_on(asked.attached.lists, Path(scratch) / "attached")
        environment[PLACE] = f"{scratch}/attached"
        executed = execute(notebook, parameters, environment, Path(scratch))
        return _pack(trail, executed, parameters, cut, Path(scratch), out, asked)


def _pack(
    trail: Trail | Trails,
    executed: Executed,
    parameters: dict[str, Any],
    cut: Cut,
    scratch: Path,
    out: Path,
    asked: Asked,
) -> Built:
    attached, trails = asked.attached, trails_of(trail)
    answer_path = scratch / ANSWER_FILE
    if not answer_path.is_file():
        raise MismatchError(
            "the notebook ended without submitting an answer.",
            where=executed.name,
            remedy="End it with answer.submit().",
        )
    answer: dict[str, Any] = parse_json(answer_path.read_bytes())
    since, until = (
        None if (text := answer["period"]["utc"][name]) is None else parse_time(text) for name in ("since", "until")
    )
    shown = (None, None) if answer["every_seal"] else (since, until)
    proofs = build_proofs(trails, answer["rows"], shown, cut)
    systems = _systems(trails, answer, asked.scope, scratch)
    payload = _payload(trails, executed, proofs, scratch) | attached.payload()
    if asked.scope is not None:
        payload[SCOPE] = asked.scope.data
    lines = [line for proof in proofs for line in proof.redacted]
    redacted = {"fields": list(cut.fields), "lines": lines} if cut.fields else None
    facts = _packet(trails, executed, parameters, answer, proofs) | attached.stated()
    facts |= {"redacted": redacted, "systems": systems}
    created = max(parse_time(one.seals[-1].sealed_at) for one in trails)
    payload["evidence.xlsx"] = workbook(facts, _tables(payload), to_datetime(created))
    hashes = {name: sha256(data).hexdigest() for name, data in sorted(payload.items())}
    packet = canonical(facts | {"files": hashes})
    payload["packet.json"] = packet
    shape = answer["page"] or answer["listing"]
    told = parse_json(packet) | {"responses": attached.responses()}  # for the reports: packet.json has but their hash
    shown_as = (told, sha256(packet).hexdigest(), payload, answer["figures"], shape)
    payload["report.html"], payload["report.pdf"] = render_report(*shown_as), render_pdf(*shown_as)
    check_leaks(cut, payload)
    files = bag_files(payload, bag_info(parse_json(packet), sha256(packet).hexdigest()))
    write_bag(files, out)
    return Built(
        path=str(out),
        packet_digest=sha256(files[TAGMANIFEST]).hexdigest(),
        evidence_digest=sha256(packet).hexdigest(),
        headline=answer["headline"],
        exceptions=_exceptions(scratch),
        files=len(files),
    )


def _systems(trails: Sequence[Trail], answer: dict[str, Any], scope: Scope | None, scratch: Path) -> list[str] | None:
    """The sentences of packet.json on the systems in scope, whose table is laid with the others; None without."""
    if scope is None:
        return None
    utc = (answer["period"]["utc"][name] for name in ("since", "until"))
    since, until = (None if text is None else parse_time(text) for text in utc)
    period = Period(since, until, answer["period"]["time_zone"])
    table = scope_over({trail.origin: scope_table(trail, scope, period) for trail in trails})
    write_table(scratch / TABLES, "systems", table)
    return scope_sentences(table)


def _payload(trails: Sequence[Trail], executed: Executed, proofs: Sequence[Proof], scratch: Path) -> dict[str, bytes]:
    """Every file under data/ but packet.json and the reports."""
    payload = {f"tables/{path.name}": path.read_bytes() for path in sorted((scratch / TABLES).iterdir())}
    payload["notebook.ipynb"] = executed.copy
    payload["verify.py"] = _VERIFIER.read_bytes()
    payload["events.jsonl"] = b"".join(record + b"\n" for proof in proofs for record in proof.records)
    for trail, proof in zip(trails, proofs, strict=True):
        for name, data in proof.files.items():
            payload[f"proof/{trail.origin}/{name}"] = data
        for catalog in [trail.catalog, *map(trail.history.catalog_of, proof.seals)]:
            if catalog is not None:
                payload[f"catalogs/{catalog.sha256}.toml"] = catalog.data
    return payload


def _packet(
    trails: Sequence[Trail],
    executed: Executed,
    parameters: dict[str, Any],
    answer: dict[str, Any],
    proofs: Sequence[Proof],
) -> dict[str, Any]:
    in_force = {
        catalog.sha256
        for trail, proof in zip(trails, proofs, strict=True)
        for seal in proof.seals
        if (catalog := trail.history.catalog_of(seal))
    }
    answered = {trail.catalog.sha256 if trail.catalog else None for trail in trails}
    if len(answered) > 1:  # no one catalogue answered: all that did stand among those in force
        in_force |= {digest for digest in answered if digest}
    return {
        name: answer[name]
        for name in (
            "conclusion",
            "criteria",
            "exceptions",
            "headline",
            "limits",
            "period",
            "population",
            "procedure",
            "question",
            "references",
            "request",
            "title",
        )
    } | {
        "attributes": (answer["listing"] or {}).get("attributes", []),
        "catalogs": {"answered": answered.pop() if len(answered) == 1 else None, "in_force": sorted(in_force)},
        "checkpoints": [
            {
                "keys": [str(key) for key in trail.checkpoint.signers],
                "last_sealed_at": trail.seals[-1].sealed_at,
                "origin": trail.origin,
                "root": trail.checkpoint.root.hex(),
                "size": trail.checkpoint.size,
            }
            for trail in trails
        ],
        "format": PACKET_FORMAT,
        "notebook": {"name": executed.name, "sha256": executed.sha256},
        "parameters": {**answer["parameters"], **parameters},
        "records": sum(len(proof.records) for proof in proofs),
        "scope": {
            "every_seal_of_period": all(proof.every_seal_of_period for proof in proofs),
            "origins": [trail.origin for trail in trails],
        },
        "seals": [seal.sequence for proof in proofs for seal in proof.seals],
        "software": software(),
        "supersedes": None,
    }


def software() -> dict[str, str]:
    """The versions that evidence depends on."""
    return {name: version(name) for name in _SOFTWARE} | {
        "python": platform.python_version(),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
    }


def _tables(payload: Mapping[str, bytes]) -> dict[str, pa.Table]:
    """The packet's tables by name."""
    return {
        name.removeprefix("tables/").removesuffix(".parquet"): pq.read_table(io.BytesIO(data))
        for name, data in payload.items()
        if name.startswith("tables/") and name.endswith(".parquet")
    }


def _exceptions(scratch: Path) -> list[dict[str, Any]]:
    path = scratch / TABLES / "exceptions.parquet"
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist() if path.is_file() else []
    return rows
