"""The pipeline-health answer: what was planted is found, and nothing else; no clock gets in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import simulator
from packets import ROOT, SAMPLE_KEY, event, planted, read_folder, sample_trail, sample_vault, trail_of

from auditlib.approvals import NOT_TESTABLE
from auditlib.errors import MismatchError
from auditlib.evidence.examined import Words
from auditlib.evidence.pipeline_health import PipelineHealth, pipeline_health
from auditlib.formats.event import Record
from auditlib.formats.keys import VerifierKey
from auditlib.formats.times import from_datetime, parse_time
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet
from auditlib.packet.parameters import declared

WINDOW = {"since": "2026-03-01", "until": "2026-06-01"}
KEY = simulator.KEY.verifier
NOTEBOOK = ROOT / "notebooks" / "pipeline-health.ipynb"


@pytest.fixture(scope="module")
def answer() -> PipelineHealth:
    return pipeline_health(sample_trail(), **WINDOW)


def packed(vault: Path, out: Path, key: VerifierKey = SAMPLE_KEY, **asked: str) -> dict[str, bytes]:
    """A packet's files by name, after every check of it passed."""
    given = {"since": "None", "until": "None"} | asked
    build_packet("pipeline-health", str(vault), given, out, keys=key)
    report = check_packet(out, [key])
    assert report.ok and report.findings == ()
    return read_folder(out)


def beat(name: str, at: str, source: str = "app/1") -> Record:
    return event(name, "audit.heartbeat", at, {}, source=source)


# --- the sample ----------------------------------------------------------------------------------------------


def test_exactly_what_was_planted_is_observed(answer: PipelineHealth) -> None:
    """Three silences, one clock, one late arrival, one run of lost numbers: these rows and no other."""
    told = planted()
    rows = answer.observations.to_dict("records")
    silent = [row for row in rows if row["what"] == "silence"]
    assert {row["judged"]: (from_datetime(row["began_at"]), from_datetime(row["ended_at"])) for row in silent} == {
        name: tuple(parse_time(each[end]["recorded_at"]) for end in ("last_before", "first_after"))
        for name, each in told["silence"]["by_source"].items()
    }
    (clock,), (late,), (lost,) = (
        [row for row in rows if row["what"] == what] for what in ("clock_ahead", "late_arrival", "lost_numbers")
    )
    assert (clock["judged"], clock["events"], round(clock["seconds"])) == (
        *(told["clock_ahead"][name] for name in ("source", "events")),
        told["clock_ahead"]["seconds"],
    )
    assert (late["event_id"], late["seconds"]) == (told["late_arrival"]["event_id"], told["late_arrival"]["seconds"])
    numbers = told["lost_source_seq"]["numbers"]
    assert (lost["judged"], lost["numbers"]) == (told["lost_source_seq"]["source"], f"{numbers[0]} to {numbers[-1]}")
    assert len(rows) == len(answer.exceptions) == 6


def test_the_span_in_which_no_source_recorded_is_that_which_was_planted(answer: PipelineHealth) -> None:
    """Over all sources together: from the last record before to the first after, to the microsecond."""
    told = planted()["silence"]["all"]
    (row,) = answer.still.to_dict("records")
    assert row["micros"] == told["microseconds"]
    assert from_datetime(row["began_at"]) == parse_time(told["last_before"]["recorded_at"])
    assert from_datetime(row["ended_at"]) == parse_time(told["first_after"]["recorded_at"])


def test_the_conclusion_says_from_when_to_when_and_what_the_exceptions_are(answer: PipelineHealth) -> None:
    """One plain sentence, with the gaps in it; the silences of the sources are not told twice in it."""
    assert answer.headline == (
        "No gap was detected from 2026-03-01 00:00 to 2026-06-01 00:00 UTC except: from 2026-04-21 20:00 to "
        "2026-04-22 05:03 UTC no source recorded anything (9 h 3 min); 3 numbers of billing-api/7f3a never arrived "
        "(13258 to 13260)."
    )
    assert planted()["late_arrival"]["event_id"] in "\n".join(answer.conclusion.sentences)


def test_the_clock_that_was_ahead_is_measured_and_the_others_are_not(answer: PipelineHealth) -> None:
    """The planted instance alone; its 99th percentile is what was planted, and nobody else is off by a second."""
    told = planted()["clock_ahead"]
    clocks = answer.clocks.set_index("source")
    assert round(clocks.loc[told["source"], "ahead_p99_seconds"]) == told["seconds"]
    others = clocks.drop(index=told["source"])
    assert len(others) == 5 and (others["ahead_most_seconds"] < 1).all()
    assert clocks["late_most_seconds"].idxmax() == "billing-api/7f3a"
    assert clocks["late_most_seconds"].max() == planted()["late_arrival"]["seconds"]


def test_outside_what_was_planted_there_is_nothing_to_tell() -> None:
    """January and February hold no incident, and it is said what was looked for."""
    quiet = pipeline_health(sample_trail(), since="2026-01-01", until="2026-03-01")
    assert quiet.observations.empty and quiet.still.empty
    assert quiet.headline == "No gap was detected from 2026-01-01 00:00 to 2026-03-01 00:00 UTC."
    assert any(text.startswith("Looked for and not found") for text in quiet.conclusion.sentences)


def test_the_pictures_show_every_source_and_are_the_same_each_time(answer: PipelineHealth) -> None:
    """Text as text, no raster, no date; the planted instance is named in the picture of the clocks."""
    first, again = answer.answer().figures, pipeline_health(sample_trail(), **WINDOW).answer().figures
    assert first == again and set(first) == {"calendar", "days", "lateness", "skew"}
    for svg in first.values():
        assert "<image" not in svg and "<script" not in svg
    assert all(name in first["calendar"] for name in planted()["silence"]["by_source"])
    assert planted()["clock_ahead"]["source"] in first["skew"]
    assert "billing-api/7f3a" in first["lateness"] and "identity/5d10" not in first["lateness"]


def test_the_packet_is_accepted_and_no_clock_gets_in(tmp_path: Path) -> None:
    """Built again at a later time it is the same bytes; its counts and tables pass every check."""
    first = packed(sample_vault(), tmp_path / "a", **WINDOW)
    assert packed(sample_vault(), tmp_path / "b", **WINDOW) == first
    told = json.loads(first["data/packet.json"])
    assert told["exceptions"] == 6 and told["criteria"] == []
    assert told["headline"] == pipeline_health(sample_trail(), **WINDOW).headline


def test_the_notebook_asks_for_the_samples_window() -> None:
    """Its parameters can be set, and stand at what was planted in."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert cells[1]["metadata"] == {"tags": ["parameters"]}
    asked = {name: parameter.default for name, parameter in declared(NOTEBOOK).items()}
    assert all(asked[name] == value for name, value in WINDOW.items())


# --- other trails --------------------------------------------------------------------------------------------


def test_a_source_that_fell_silent_alone_is_named_with_its_span(tmp_path: Path) -> None:
    """The others went on: it is no stand-still of all, and lasts to the end of the trail."""
    app = [beat(f"a{hour}", f"2026-03-01T{hour:02}:00:00Z") for hour in range(4)]
    rest = [beat(f"b{hour}", f"2026-03-01T{hour:02}:00:00Z", "other/1") for hour in range(0, 24, 2)]
    with trail_of(tmp_path, sorted([*app, *rest], key=lambda record: record.receipt.recorded_at)) as trail:
        answer = pipeline_health(trail)
        assert answer.still.empty
        assert "from 2026-03-01 03:00 on UTC app recorded nothing (19 h 0 min)" in answer.headline
    packed(tmp_path / "vault", tmp_path / "packet", KEY)


def test_quiet_without_a_heartbeat_is_said_and_is_no_exception(tmp_path: Path) -> None:
    """Quiet and broken look alike: the sentence says that it could not be tested."""
    records = [event("1", at="2026-03-01T00:00:00Z"), event("2", at="2026-03-02T00:00:00Z")]
    with trail_of(tmp_path, records) as trail:
        answer = pipeline_health(trail)
        assert answer.exceptions.empty and answer.observations["verdict"].tolist() == [NOT_TESTABLE]
        assert "1 silence of sources without a heartbeat could not be tested." in answer.headline


def test_a_backfill_by_import_is_neither_late_nor_silent(tmp_path: Path) -> None:
    """Old events of another system are its log, not a delay of ours."""
    old = [
        event(f"i{n}", "iam.attach_role_policy", f"2025-0{n}-01T00:00:00Z", {}, source="import:cloudtrail:42",
              recorded=f"2026-03-0{n}T00:00:00Z")
        for n in (1, 2, 3)
    ]  # fmt: skip
    with trail_of(tmp_path, old) as trail:
        answer = pipeline_health(trail)
        assert answer.observations.empty and isinstance(answer.skew, Words)
    packed(tmp_path / "vault", tmp_path / "packet", KEY)


def test_a_period_outside_the_trail_is_not_called_without_gaps(tmp_path: Path) -> None:
    """Nothing was recorded: that is no clean bill."""
    files = packed(sample_vault(), tmp_path / "packet", since="2027-01-01", until="2027-02-01")
    told = json.loads(files["data/packet.json"])
    assert told["headline"].startswith("Nothing was recorded in the period") and told["exceptions"] == 0
    assert any("ends at" in text for text in told["conclusion"])


def test_where_the_trail_does_not_reach_is_said(tmp_path: Path) -> None:
    """The sentence claims no day before the first record or after the last."""
    hours = [beat(f"a{hour}", f"2026-03-02T{hour:02}:00:00Z") for hour in range(24)]
    with trail_of(tmp_path, hours) as trail:
        answer = pipeline_health(trail, **WINDOW)
        assert answer.headline.startswith("No gap was detected from 2026-03-02 00:00 to 2026-03-02 23:00 UTC")
        assert sum("the period does" in text for text in answer.conclusion.sentences) == 2


def test_an_altered_batch_gives_no_answer(tmp_path: Path) -> None:
    """What is not as it was sealed is read by no table."""
    with trail_of(tmp_path, [beat("a", "2026-03-01T00:00:00Z")]) as trail:
        (path,) = (tmp_path / "vault" / "batches").rglob("*.parquet")
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(MismatchError, match="not the one that was sealed"):
            pipeline_health(trail)


def test_what_a_record_says_stays_text(tmp_path: Path) -> None:
    """Markup in an event's id is shown, never run."""
    evil = "<script>alert(1)</script>"
    late = event(evil, at="2026-03-01T00:00:00Z", recorded="2026-03-05T00:00:00Z")
    with trail_of(tmp_path, [late]) as trail:
        assert evil not in pipeline_health(trail).found._repr_html_()
    html = packed(tmp_path / "vault", tmp_path / "packet", KEY)["data/report.html"].decode()
    assert evil not in html and "&lt;script&gt;" in html
