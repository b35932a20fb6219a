"""The privileged-actions answer: every privileged event is an item, and each break-glass use is tested."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from happenings import NOON, happened, late
from packets import SAMPLE_KEY, SAMPLES, planted, sample_trail, sample_vault, trail_of
from packing import cloudtrail, packed

from auditlib.attachments import load, parse
from auditlib.errors import MalformedError
from auditlib.evidence import PrivilegedActions, privileged_actions
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.event import Record
from auditlib.formats.times import DAY, parse_time
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet

WINDOW = {"since": "2026-03-01", "until": "2026-06-01"}
TODAY = {"since": "2026-03-10", "until": "2026-03-11"}
IDENTITIES = b"""format = "auditlib/attachment/v1"
name = "identities"
system = "HR"
query = "all"
exporter = "u_9"
exported_at = "2026-07-01T09:15:00Z"
time_zone = "UTC"
rows = 2

[columns]
person_id = "person_id"
account = "account"
source = "source"
valid_from = "from"
valid_until = "until"
"""


@cache
def sample_answer() -> PrivilegedActions:
    return privileged_actions(sample_trail(), **WINDOW)


def done(event_id: str, actor: str, action: str = "config.change", outcome: str = "success", **more: Any) -> Record:
    return happened(event_id, more.pop("at", NOON), action, outcome, actor=actor, **more)


def used(event_id: str = "use", actor: str = "user:u_1", **more: Any) -> Record:
    return done(event_id, actor, "breakglass.use", session="s_1", **{"reason": "nothing else worked"} | more)


def review(event_id: str, actor: str, days: float, use: str = "use", **more: Any) -> Record:
    named = {"event_id": use, "conclusion": "justified"}
    at = NOON + round(days * DAY)
    told = happened(event_id, at, "breakglass.review", "success", actor=actor, target=f"event:{use}", session="s_2")
    told.event.context.update(named | more)
    return told


def verdicts(answer: PrivilegedActions) -> dict[str, str]:
    return dict(zip(answer.found.items["item"], answer.found.items["verdict"], strict=True))


# --- the sample ----------------------------------------------------------------------------------------------


def test_the_exceptions_are_those_planted() -> None:
    """The action of nobody's job, the use that nobody reviewed, the one reviewed by its own user; and no other."""
    expected = {row["event_id"]: "has_actor" for row in planted()["privileged_without_identity"]}
    expected |= {use["event_id"]: "break_glass_reviewed" for use in planted()["break_glass_uses"] if use["finding"]}
    found = sample_answer().exceptions
    assert dict(zip(found["item"], found["verdict"], strict=True)) == expected
    assert (found["reason"].str.len() > 0).all()


def test_each_break_glass_use_stands_beside_its_review_as_planted() -> None:
    """User, review, reviewer, and whether it counts."""
    table = sample_answer().answer().tables["uses"].astype(object)
    table = table.where(table.notna(), None)
    found = {
        row["use"]: (row["actor_id"], row["review"], (row["reviewer"] or ":").split(":")[1] or None, row["reviewed"])
        for row in table.to_dict("records")
    }
    assert found == {
        use["event_id"]: (use["actor"], use["review"], use["reviewer"], "fail" if use["finding"] else "pass")
        for use in planted()["break_glass_uses"]
    }


def test_every_privileged_event_is_an_item_and_nothing_else() -> None:
    """Against plain Python over every event of the window, whatever its outcome."""
    rows: list[dict[str, Any]] = sample_trail().events(**WINDOW).df().to_dict("records")
    catalog = sample_trail().catalog
    assert catalog is not None
    expected = {row["event_id"] for row in rows if catalog.actions[row["action"]].privileged}
    assert set(sample_answer().found.items["item"]) == expected
    table = sample_answer().answer().tables["summary"]
    assert table["events"].sum() == len(expected)
    assert set(table["who"]) == {"people", "support tooling", "services", "jobs"}
    refused = {grant["event_id"] for grant in planted()["admin_grants_that_did_not_happen"]}
    assert refused <= expected


def test_the_notebook_makes_a_packet_that_passes_its_checks(tmp_path: Path) -> None:
    """From the notebook to the packet, with its attached list: every item with its record and its review."""
    built = build_packet("privileged-actions", str(sample_vault()), {}, tmp_path / "packet", keys=SAMPLE_KEY)
    report = check_packet(tmp_path / "packet", [SAMPLE_KEY])
    assert report.findings == ()
    assert built.headline == sample_answer().headline
    reviews = {use["review"] for use in planted()["break_glass_uses"]} - {None}
    assert report.records == len(sample_answer().found.items) + len(reviews)


def test_a_list_of_identities_changes_nothing_where_nobody_has_two_accounts_in_it() -> None:
    """The sample's own list: the same verdicts."""
    identities = load("identities", SAMPLES / "lists" / "identities.csv")
    assert verdicts(privileged_actions(sample_trail(), **WINDOW, identities=identities)) == verdicts(sample_answer())


# --- who acted -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actor", "session", "source", "verdict"),
    [
        ("user:u_1", "s_1", "app/1", "pass"),
        ("user:u_1", None, "app/1", "human_has_session"),
        ("user:root", None, "auditlib:sealer", "pass"),
        ("support:u_1", None, "app/1", "pass"),
        ("service:svc_ci", None, "app/1", "pass"),
        ("system:cron:nightly-backup", None, "app/1", "pass"),
        ("system:unknown", None, "app/1", "has_actor"),
        ("system:cron:", None, "app/1", "has_actor"),
        ("system::backup", None, "app/1", "has_actor"),
        ("system:cron: ", None, "app/1", "has_actor"),
        ("anonymous:anonymous", None, "app/1", "has_actor"),
        ("anonymous:cron:nightly-backup", "s_1", "app/1", "has_actor"),
    ],
)
def test_who_acted_is_known(tmp_path: Path, actor: str, session: str | None, source: str, verdict: str) -> None:
    """Each kind of actor, with what makes it known and without."""
    with trail_of(tmp_path, [done("e", actor, session=session, source=source), late()]) as trail:
        assert verdicts(privileged_actions(trail, **TODAY)) == {"e": verdict}


def test_what_failed_or_was_denied_is_an_item_too(tmp_path: Path) -> None:
    """An attempt is privileged whatever came of it; an ordinary action is none."""
    made = [done(f"e{n}", "user:u_1", outcome=outcome, session="s") for n, outcome in enumerate(["failure", "denied"])]
    with trail_of(tmp_path, [*made, done("no", "user:u_1", "user.login"), late()]) as trail:
        assert verdicts(privileged_actions(trail, **TODAY)) == {"e0": "pass", "e1": "pass"}


def test_only_the_actions_asked_for(tmp_path: Path) -> None:
    """By name or glob; one that is not privileged is refused, and the closest is named."""
    made = [done("a", "user:u_1", session="s"), done("b", "user:u_1", "data.export", session="s")]
    with trail_of(tmp_path, [*made, late()]) as trail:
        assert set(verdicts(privileged_actions(trail, **TODAY, actions=["data.export"]))) == {"b"}
        assert set(verdicts(privileged_actions(trail, **TODAY, actions=["config.*"]))) == {"a"}
        with pytest.raises(MalformedError, match=r"Did you mean 'config.change'"):
            privileged_actions(trail, **TODAY, actions=["config.chang"])
        with pytest.raises(MalformedError, match="no privileged action"):
            privileged_actions(trail, **TODAY, actions=["user.login"])


def test_actions_that_the_catalogue_does_not_list_are_named(tmp_path: Path) -> None:
    """Nobody said whether they are privileged: counted apart, and not in the population."""
    made = [done("a", "user:u_1", session="s"), done("b", "user:u_2", "vault.opened"), late()]
    with trail_of(tmp_path, made) as trail:
        answer = privileged_actions(trail, **TODAY)
        assert set(verdicts(answer)) == {"a"}
        assert answer.answer().tables["unlisted"][["action", "events"]].to_numpy().tolist() == [["vault.opened", 1]]
        assert any("1 recorded action is not in the catalogue" in line for line in answer.answer().conclusion)


# --- break-glass ---------------------------------------------------------------------------------------------


def reviewed(tmp_path: Path, *reviews: Record, use: Record | None = None, ends: int = 20, **more: Any) -> Any:
    with trail_of(tmp_path, [use or used(), *reviews, late(ends)]) as trail:
        answer = privileged_actions(trail, **TODAY, **more)
        packed(trail, answer, tmp_path)
        row = answer.found.items.set_index("item").loc["use"]
        return row["break_glass_reviewed"], row["reason"]


MICRO = 1 / DAY


@pytest.mark.parametrize(
    ("reviews", "result", "said"),
    [
        ([("user:u_2", 5.0)], "pass", ""),
        ([("user:u_2", 5.0 + MICRO)], "fail", "it was due within 5 d"),
        ([("user:u_1", 1.0)], "fail", "who had used it; nobody else did"),
        ([("support:u_1", 1.0)], "fail", "who had used it; nobody else did"),
        ([("user:u_1", 1.0), ("user:u_2", 2.0)], "pass", ""),
        ([("user:u_1", 1.0), ("user:u_2", 6.0)], "fail", "Reviewed 6 d 0 h after the use by user:u_2"),
        ([("anonymous:anonymous", 1.0)], "fail", "No review by anybody"),
        ([("user:u_2", -1.0)], "fail", "No review by anybody"),
        ([], "fail", "No review by anybody"),
    ],
)
def test_a_review_is_by_somebody_else_and_in_time(
    tmp_path: Path, reviews: list[tuple[str, float]], result: str, said: str
) -> None:
    """To the microsecond; by the user under another type it is still the user; nobody's counts for nothing."""
    found = reviewed(tmp_path, *(review(f"r{n}", who, days) for n, (who, days) in enumerate(reviews)))
    assert found[0] == result
    assert said in found[1]


def test_a_review_of_another_use_is_none(tmp_path: Path) -> None:
    """It names another event."""
    assert reviewed(tmp_path, review("r", "user:u_2", 1, use="other"))[0] == "fail"


def test_a_review_that_is_not_due_when_the_trail_ends_is_not_testable(tmp_path: Path) -> None:
    """Nobody can say yet; but a review that is there counts."""
    assert reviewed(tmp_path, ends=2)[0] == "not-testable"


def test_a_use_that_was_denied_opened_nothing(tmp_path: Path) -> None:
    """Nothing to review."""
    assert reviewed(tmp_path, use=used(outcome="denied"))[0] == "n/a"


def test_a_review_by_a_second_account_is_the_users_own(tmp_path: Path) -> None:
    """By the list of identities alone, which is unsealed evidence and said so."""
    identities = parse("identities", b"person_id,account,source,from,until\nP-1,u_1,,,\nP-1,u_1x,,,\n", IDENTITIES)
    found = reviewed(tmp_path, review("r", "user:u_1x", 1), identities=identities)
    assert found[0] == "fail"
    assert "an account of the same person (unsealed evidence)" in found[1]
    with trail_of(tmp_path / "b", [used(), review("r", "user:u_1x", 1), late(20)]) as trail:
        answer = privileged_actions(trail, **TODAY, identities=identities)
        assert any("1 verdict by the attached identities alone" in line for line in answer.answer().conclusion)


@pytest.mark.parametrize("draw", range(6))
def test_reviews_are_those_of_the_slow_way(tmp_path: Path, draw: int) -> None:
    """Random uses and reviews, recorded in any order, against plain Python."""
    random = Random(draw)
    uses = [used(f"u{n}", f"user:p{random.randrange(3)}", at=NOON + n * DAY // 50) for n in range(12)]
    reviews = [
        review(f"r{n}", f"user:p{random.randrange(3)}", random.random() * 6, f"u{random.randrange(12)}")
        for n in range(16)
    ]
    made = [*uses, *reviews]
    random.shuffle(made)
    with trail_of(tmp_path, made[:10], [*made[10:], late(40)]) as trail:
        answer = privileged_actions(trail, **TODAY, review_days=3)
    for use in uses:
        at, who = parse_time(use.event.occurred_at), use.event.actor.id
        good = [
            one for one in reviews
            if one.event.context["event_id"] == use.event.event_id and one.event.actor.id != who
            and at <= parse_time(one.event.occurred_at) <= at + 3 * DAY
        ]  # fmt: skip
        assert verdicts(answer)[use.event.event_id] == ("pass" if good else "break_glass_reviewed")


# --- any trail, any period -----------------------------------------------------------------------------------


def test_the_ends_of_the_period_hold_to_the_microsecond(tmp_path: Path) -> None:
    """A leap day in Auckland: its first and last microsecond are in, those around it are not."""
    first, after = parse_time("2028-02-28T11:00:00Z"), parse_time("2028-02-29T11:00:00Z")
    made = [done(f"e{n}", "service:s", at=at) for n, at in enumerate([first - 1, first, after - 1, after])]
    with trail_of(tmp_path, made[::-1]) as trail:
        answer = privileged_actions(trail, since="2028-02-29", through="2028-02-29", tz="Pacific/Auckland")
        assert set(verdicts(answer)) == {"e1", "e2"}


def test_a_period_without_any_and_one_outside_the_trail(tmp_path: Path) -> None:
    """Told apart; both make packets that pass."""
    with trail_of(tmp_path, [done("e", "service:s", at=NOON - 9 * DAY), late(), late_in_source()]) as trail:
        none = privileged_actions(trail, **TODAY)
        assert none.headline.startswith("No privileged action was recorded")
        outside = privileged_actions(trail, since="2031-01-01", until="2031-02-01")
        assert outside.headline.startswith("Not answerable")
        packed(trail, outside, tmp_path)


def late_in_source() -> Record:
    return happened("alive", NOON, "user.logout", "success", actor="user:u_8")


def test_a_catalogue_without_privileged_actions_gives_an_empty_answer(tmp_path: Path) -> None:
    """Nothing is privileged, everything is unlisted."""
    catalog = parse_catalog(b'format = "auditlib/catalog/v1"\n[actions."a.b"]\nkind = "x"\n')
    with trail_of(tmp_path, [done("e", "service:s"), late()], catalog=catalog) as trail:
        answer = privileged_actions(trail, **TODAY)
        assert answer.found.items.empty
        assert answer.answer().tables["unlisted"]["action"].tolist() == ["config.change"]
        packed(trail, answer, tmp_path)


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    """Ids, reasons and conclusions that are markup, SQL, formulas."""
    evil = "=1'); DROP TABLE x; -- <script>alert(1)</script> \u202e"
    made = [
        used(actor=f"user:{evil}", reason=evil),
        review("r", "user:u_2", 1, conclusion=evil),
        used("odd", reason=["a"]),
        done("job", f"system:cron:a\n{evil}"),
    ]
    with trail_of(tmp_path, [*made, late(20)]) as trail:
        answer = privileged_actions(trail, **TODAY)
        files = packed(trail, answer, tmp_path)
        assert b"<script>alert" not in files["data/report.html"]
        assert json.loads(files["data/packet.json"])["population"]["items"] == 3
        assert verdicts(answer) == {"use": "pass", "odd": "break_glass_reviewed", "job": "has_actor"}


def test_a_cloudtrail_trail_answers_too(tmp_path: Path) -> None:
    """An import alone: its privileged calls, and a packet that passes."""
    with cloudtrail(tmp_path) as trail:
        answer = privileged_actions(trail, since="2023-01-01", until="2024-01-01")
        assert trail.catalog is not None
        events = trail.events(action=list(trail.catalog.privileged), since="2023-01-01", until="2024-01-01").df()
        assert set(answer.found.items["item"]) == set(events["event_id"])
        assert len(events) > 0
        packed(trail, answer, tmp_path)
