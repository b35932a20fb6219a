"""One question asked of several trails: each answers as it would alone, and the answers are put together."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from several import AUDIT, CLOUD, PERIOD, both, opened

from auditlib import evidence
from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical
from auditlib.sampling import Rule

ASKED: dict[str, Callable[[Any], Any]] = {
    "role-grants": lambda trail: evidence.role_grants(trail, **PERIOD),
    "access-provisioning": lambda trail: evidence.access_provisioning(trail, **PERIOD),
    "access-removals": lambda trail: evidence.access_removals(trail, **PERIOD),
    "access-review": lambda trail: evidence.access_review(trail, at_date="2026-04-01", privileged=["admin"]),
    "actor-activity": lambda trail: evidence.actor_activity(trail, actor="u_9", **PERIOD),
    "approver-conduct": lambda trail: evidence.approver_conduct(trail, **PERIOD),
    "change-management": lambda trail: evidence.change_management(trail, **PERIOD),
    "denied-access": lambda trail: evidence.denied_access(trail, **PERIOD),
    "events": lambda trail: evidence.events(trail, **PERIOD),
    "pipeline-health": lambda trail: evidence.pipeline_health(trail, **PERIOD),
    "privileged-actions": lambda trail: evidence.privileged_actions(trail, **PERIOD),
    "review-performed": lambda trail: evidence.review_performed(trail, **PERIOD),
    "trail-integrity": lambda trail: evidence.trail_integrity(trail, **PERIOD),
}


@pytest.fixture(scope="module")
def trails() -> Any:
    with opened(both()[0]) as found:
        yield found


def cells(frame: Any) -> list[tuple[str, ...]]:
    return [tuple("" if cell is None or cell != cell else str(cell) for cell in row) for row in frame.to_numpy()]


@pytest.mark.parametrize("name", ASKED)
def test_each_trail_says_in_the_joined_answer_what_it_says_alone(name: str, trails: Any) -> None:
    """Every function of the library: tables, numbers, rows and the headline are those of the trails' own answers."""
    across = ASKED[name](trails)
    whole, alone = across.answer(), {origin: part.answer() for origin, part in across.parts.items()}
    assert whole.request == name and whole.rows_by_trail == {origin: one.rows for origin, one in alone.items()}
    for table_name in {table for one in alone.values() for table in one.tables}:
        joined = whole.tables[table_name]
        assert joined.columns[0] == "trail"
        for origin, one in alone.items():
            own = one.tables.get(table_name)
            mine = joined[joined["trail"] == origin]
            assert len(mine) == (0 if own is None else len(own))
            if own is not None and len(own):
                assert cells(mine[list(own.columns)]) == cells(own), table_name
    for what in ("items", "events"):
        assert whole.population[what] == sum(one.population[what] for one in alone.values())
    assert whole.exceptions == sum(one.exceptions for one in alone.values())
    for origin, one in alone.items():
        assert f"{origin}: {one.headline}" in whole.headline
        for said in one.conclusion:
            bare = said if not any(character.isdigit() for character in said) else f"Each trail: {said}"
            assert {f"{origin}: {said}", bare} & set(whole.conclusion)
    figures = {name for one in alone.values() for name in one.figures}
    assert len(whole.figures) == sum(len(one.figures) for one in alone.values()) and (figures or not whole.figures)
    shown = whole.page.sections if whole.page else whole.listing.sections if whole.listing else []
    assert {one.figure for one in shown if one.figure} <= set(whole.figures)
    assert {one.table for one in shown if one.table} <= set(whole.tables)


def test_every_display_names_its_trail(trails: Any) -> None:
    """A notebook shows the same cells: each trail's part stands under its name, as HTML and as text."""
    answer = ASKED["role-grants"](trails)
    for shown in (answer.integrity, answer.coverage, answer.items, answer.noted, answer.picture):
        page = shown._repr_html_()
        assert page.index(AUDIT) < page.index(CLOUD) and AUDIT in repr(shown)
    assert "<svg" in answer.picture._repr_html_()
    approvals = answer.found.tables["approvals"][["event_id", "request"]]
    assert "a-1" in approvals._repr_html_() and "a-2" in approvals._repr_html_()
    assert answer.conclusion.sentences[0].startswith("7 grants, 6 potential exceptions over 2 trails.")
    assert any("has its trail and a space before it" in said for said in answer.population.sentences)


def test_a_sample_is_drawn_once_over_all_trails(trails: Any) -> None:
    """Of the joined population, so that neither trail has a share; an item's id is told with its trail."""
    rule = Rule("simple", size=3, word="heron")
    answer = evidence.role_grants(trails, sample=rule, **PERIOD).answer()
    drawn = answer.tables["sample"]
    keys = [
        canonical([row["source"], row["event_id"], f"{row['trail']} {row['item']}"])
        for row in answer.tables["grants"].to_dict("records")
    ]
    assert answer.population["digest"] == sha256(b"[" + b",".join(sorted(keys)) + b"]").hexdigest()
    seed = sha256(canonical([answer.population["digest"], "role-grants", "heron"])).hexdigest()
    ranked = sorted(keys, key=lambda key: sha256(seed.encode() + key).hexdigest())[:3]
    assert {json.loads(key)[2] for key in ranked} == {
        f"{row['trail']} {row['item']}" for row in drawn.to_dict("records")
    }
    assert answer.population["sample"]["drawn"] == 3 and answer.population["sample"]["seed"] == seed
    chosen = evidence.role_grants(trails, sample=Rule("chosen", chosen=(f"{CLOUD} g-1",)), **PERIOD).answer()
    assert chosen.tables["sample"][["trail", "item"]].to_numpy().tolist() == [[CLOUD, "g-1"]]
    with pytest.raises(MalformedError, match=f"with its trail before it, like '{AUDIT} g-0'"):
        evidence.role_grants(trails, sample=Rule("chosen", chosen=("g-1",)), **PERIOD).answer()
