"""A packet as OSCAL assessment-results: valid to trestle, the same every time, and without an opinion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import typer
from packets import DictBag, Packet, planted, sample
from trestle.oscal.assessment_results import AssessmentResults, Model
from typer.testing import CliRunner

from auditlib.cli import handover
from auditlib.errors import MalformedError, MismatchError
from auditlib.packet import oscal
from auditlib.packet.bag import write_bag
from auditlib.packet.oscal import oscal_results


@pytest.fixture(scope="module")
def files() -> Mapping[str, bytes]:
    return sample()


def results_of(files: Mapping[str, bytes]) -> Any:
    """The document, once trestle's models have taken it."""
    document = json.loads(oscal_results(DictBag(files)))
    Model.model_validate(document)
    return document["assessment-results"]


def without_exceptions(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same packet, had nothing been noted."""
    packet = Packet(files).lines("data/tables/exceptions.csv", lambda lines: lines[:1])
    packet.json("data/packet.json", lambda value: value.update(exceptions=0, headline="41 grants passed."))
    return packet.files


def test_trestle_takes_it_and_every_exception_is_an_observation(files: Mapping[str, bytes]) -> None:
    """Compliance-trestle's models of OSCAL validate it; one observation for the answer, one a potential exception."""
    (result,) = results_of(files)["results"]
    wrong = sum(grant["verdict"] not in ("pass", "not-testable") for grant in planted()["admin_grants"])
    assert len(result["observations"]) == 1 + wrong == 20
    first = result["observations"][1]
    assert "No approval answers the grant." in first["description"]
    assert {"sequence", "row", "event-id", "table-row"} <= {one["name"] for one in first["props"]}
    assert (result["start"], result["end"]) == ("2026-03-01T00:00:00Z", "2026-06-01T00:00:00Z")
    (selection,) = result["reviewed-controls"]["control-selections"]
    assert selection == {"include-controls": [{"control-id": "CC6.2"}, {"control-id": "CC6.3"}]}


def test_evidence_is_named_by_its_hash(files: Mapping[str, bytes]) -> None:
    """Every resource, and every evidence of an observation, is a file of the packet with its SHA-256."""
    results = results_of(files)
    resources = {one["uuid"]: one["rlinks"][0] for one in results["back-matter"]["resources"]}
    for link in resources.values():
        assert link["hashes"] == [{"algorithm": "SHA-256", "value": sha256(files[link["href"]]).hexdigest()}]
    reports = {"data/report.html", "data/report.pdf"}
    assert {link["href"] for link in resources.values()} == {n for n in files if n.startswith("data/")} - reports
    assert results["import-ap"]["href"].removeprefix("#") in resources
    for observation in results["results"][0]["observations"]:
        for evidence in observation["relevant-evidence"]:
            assert resources[evidence["links"][0]["href"].removeprefix("#")]["href"] == evidence["href"]
            assert evidence["props"][0]["value"] == sha256(files[evidence["href"]]).hexdigest()


def test_a_path_that_a_url_would_read_otherwise_still_leads_to_its_file(files: Mapping[str, bytes]) -> None:
    """An origin may hold what begins a query or a fragment."""
    odd = "proof/acme.example/a#b?c%41/checkpoint"
    packet = Packet(files).json("data/packet.json", lambda told: told["files"].update({odd: "0" * 64}))
    links = {one["title"]: one["rlinks"][0]["href"] for one in results_of(packet.files)["back-matter"]["resources"]}
    assert f"data/{odd}" in links and links["data/events.jsonl"] == "data/events.jsonl"
    for name, href in links.items():
        parts = urlsplit(href)
        assert (unquote(parts.path), parts.query, parts.fragment) == (name, "", "")


def test_no_finding_says_more_than_potential_exceptions(files: Mapping[str, bytes]) -> None:
    """Each criterion has a finding that leaves the conclusion to the auditor; without exceptions there is none."""
    findings = results_of(files)["results"][0]["findings"]
    assert [one["target"]["target-id"] for one in findings] == ["CC6.2", "CC6.3"]
    for finding in findings:
        assert finding["target"]["status"]["state"] == "not-satisfied"
        assert finding["target"]["status"]["reason"] == "other"
        assert "gives no opinion" in finding["remarks"] and "for the auditor to conclude" in finding["remarks"]
        assert len(finding["related-observations"]) == 20
    (clean,) = results_of(without_exceptions(files))["results"]
    assert "findings" not in clean and len(clean["observations"]) == 1
    assert clean["remarks"].startswith("No potential exception was noted by this procedure.")
    text = oscal_results(DictBag(files)).decode().lower()
    assert [word for word in ("certified", '"satisfied"', "effective") if word in text] == []


def test_the_same_packet_gives_the_same_bytes(files: Mapping[str, bytes]) -> None:
    """No clock, no random UUID; a transmittal beside the packet changes nothing, another answer everything."""
    once = oscal_results(DictBag(files))
    assert oscal_results(DictBag({**files, "transmittal.json": b"{}"})) == once
    document = results_of(files)
    assert document["metadata"]["last-modified"] == "2026-07-06T00:05:00Z"
    assert document["metadata"]["version"] == sha256(files["data/packet.json"]).hexdigest()
    other = results_of(without_exceptions(files))
    assert other["uuid"] != document["uuid"] and other["results"][0]["uuid"] != document["results"][0]["uuid"]


def test_a_question_without_a_beginning_starts_with_its_first_event(files: Mapping[str, bytes]) -> None:
    """OSCAL wants a start: the first event under the seals that are shown."""
    packet = Packet(files)
    packet.json("data/packet.json", lambda value: value["period"]["utc"].update(since=None, until=None))
    (result,) = results_of(packet.files)["results"]
    seals = [json.loads(line) for line in files["data/proof/acme.example/audit/seals.jsonl"].splitlines()]
    assert result["start"] == min(seal["occurred"][0] for seal in seals)
    assert result["end"] == "2026-07-06T00:05:00Z"


@pytest.mark.parametrize("criteria", [[], ["CC6.2", "our own rule"], ["6.2"], ["a:b"], [7], ["CC6.2\n"]])
def test_criteria_that_oscal_cannot_name_are_refused(criteria: list[Any], files: Mapping[str, bytes]) -> None:
    """A sentence, not a document that other tools refuse."""
    packet = Packet(files)
    packet.json("data/packet.json", lambda value: value.update(criteria=criteria))
    with pytest.raises(MalformedError, match="criteria"):
        oscal_results(DictBag(packet.files))


def test_odd_texts_stay_within_oscals_types(files: Mapping[str, bytes]) -> None:
    """Line breaks and blanks in a title or an id: one line, or left out; still valid."""
    packet = Packet(files)
    packet.json("data/packet.json", lambda value: value.update(title=" Role\r\ngrants\t", request="\u2028"))
    packet.lines("data/tables/exceptions.csv", lambda lines: [lines[0], b'"\x0b a \x1f",' + lines[1].split(b",", 1)[1]])
    assert results_of(packet.files)["metadata"]["title"] == "Role grants"


def test_too_many_exceptions_are_refused(files: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound, and a sentence."""
    monkeypatch.setattr(oscal, "MAX_OBSERVATIONS", 17)
    with pytest.raises(MalformedError, match="more than 17"):
        oscal_results(DictBag(files))


def test_the_command_writes_a_new_file_of_a_packet_that_checks(files: Mapping[str, bytes], tmp_path: Path) -> None:
    """It overwrites nothing, and exports nothing from a packet at fault."""
    app = typer.Typer()
    app.add_typer(handover.app)
    write_bag(files, tmp_path / "packet.zip")
    write_bag({**files, "data/report.html": b""}, tmp_path / "broken.zip")
    out = tmp_path / "out.json"
    arguments = ["export", "oscal", str(tmp_path / "packet.zip"), "-o", str(out)]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert told.exit_code == 0 and "OSCAL assessment-results" in told.stdout
    assert out.read_bytes() == oscal_results(DictBag(files))
    assert AssessmentResults.oscal_read(out) is not None
    before = out.read_bytes()
    with pytest.raises(MalformedError, match="not overwritten"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    arguments[2:] = [str(tmp_path / "broken.zip"), "-o", str(tmp_path / "new.json")]
    with pytest.raises(MismatchError, match="check 1"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert out.read_bytes() == before and not (tmp_path / "new.json").exists()
