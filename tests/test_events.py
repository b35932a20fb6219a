"""The events answer: what one filter holds, nothing else, each with its proof; nothing is tested or claimed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from packets import SAMPLE_KEY, planted, sample_trail, sample_vault

from auditlib import evidence
from auditlib.errors import MalformedError
from auditlib.evidence import event_list
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet

DAY = {"since": "2026-05-12", "until": "2026-05-13"}


def ids(**asked: Any) -> list[str]:
    return evidence.events(sample_trail(), **asked).found.items["item"].tolist()  # type: ignore[no-any-return]


def test_the_burst_of_denials_is_what_was_planted() -> None:
    """Every denial of that actor on that day, from the first to the last, as the sample's own list has it."""
    told = planted()["denied_burst"]
    found = ids(actor=[told["actor"]], outcome=["denied"], **DAY)
    assert (len(found), found[0], found[-1]) == (told["count"], told["first"]["event_id"], told["last"]["event_id"])


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": ["grant"], "where": ["granted_role=admin"]},
        {"kind": ["grant"], "where": ["context.granted_role=admin", "granted_role=editor"]},
        {"action": ["access.*"], "target": ["u_10*"]},
        {"source": ["identity/*"], "outcome": ["failure", "denied"]},
        {"actor": ["support:u_1030", "u_1028"], "through": "2026-05-31"},
        {"action": ["no.such"]},
    ],
)
def test_the_answer_is_what_the_trail_gives(asked: dict[str, Any]) -> None:
    """The same filter put to the trail itself: the same events in the same order."""
    paths: dict[str, list[str]] = {}
    for text in asked.get("where", ()):
        path, _, value = text.partition("=")
        paths.setdefault(path.removeprefix("context."), []).append(value)
    same = {name: value for name, value in asked.items() if name != "where"}
    trail = sample_trail()
    expected = trail.events(**same, where=paths or None, since="2026-05-01").df()["event_id"].tolist()
    assert ids(**asked, since="2026-05-01") == expected
    assert (asked.get("action") == ["no.such"]) == (expected == [])


def test_it_claims_nothing() -> None:
    """No criterion, no attribute, no exception, no verdict but that nothing was tested; its filter is stated."""
    answer = evidence.events(sample_trail(), actor=["u_1028"], outcome=["denied"], **DAY).answer()
    assert (answer.criteria, answer.references, answer.exceptions, answer.listing) == ((), (), 0, None)
    assert set(answer.tables["events"]["verdict"]) == {"not-testable"}
    assert answer.population["filter"] == {
        **{"actors": ["u_1028"], "outcomes": ["denied"]},
        **{"since": "2026-05-12T00:00:00Z", "until": "2026-05-13T00:00:00Z"},
    }
    assert answer.question == (
        "Show me the events with actor u_1028 and outcome denied from 2026-05-12 (inclusive) to 2026-05-13 "
        "(exclusive), UTC, with proof that they are what was sealed."
    )
    assert "none of them was tested" in answer.headline


def test_the_notebook_makes_a_packet_that_passes_its_checks(tmp_path: Path) -> None:
    """From the notebook, with an open period, to the packet: each event in it, proven."""
    given = {"since": "none", "until": "none", "actor": "none", "outcome": "none", "action": "breakglass.*"}
    built = build_packet("events", str(sample_vault()), given, tmp_path / "packet", keys=SAMPLE_KEY)
    report = check_packet(tmp_path / "packet", [SAMPLE_KEY])
    assert report.findings == ()
    expected = ids(action=["breakglass.*"])
    assert report.records == len(expected) > 0
    lines = (tmp_path / "packet" / "data" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"]["event_id"] for line in lines] == expected
    assert built.headline == f"{len(expected)} events were recorded in the period; none of them was tested."


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"where": ["granted_role"]}, "granted_role=admin"),
        ({"where": ["=admin"]}, "granted_role=admin"),
        ({"kind": ["no-such"]}, "no-such"),
        ({"outcome": ["maybe"]}, "is no outcome"),
        ({"since": "2026-05-02", "until": "2026-05-01"}, "the period is empty"),
    ],
)
def test_what_is_no_filter_is_refused(asked: dict[str, Any], sentence: str) -> None:
    """Before anything is read."""
    with pytest.raises(MalformedError, match=sentence):
        evidence.events(sample_trail(), **asked)


def test_too_much_for_one_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a part as if it were everything."""
    monkeypatch.setattr(event_list, "MAX_LISTED", 5)
    with pytest.raises(MalformedError, match="60 events answer; a list holds at most 5"):
        ids(actor=["u_1028"], outcome=["denied"], **DAY)
