"""Joiners and movers: what they were given, on whose word, and whether anything came before the first day."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import simulator
from packets import (
    CLOUDTRAIL,
    SAMPLE_KEY,
    SAMPLES,
    approval,
    event,
    planted,
    sample_trail,
    sample_vault,
    trail_of,
)
from people import attachment, cloudtrail_vault, grant, join, leave, outcome, packed, reason, verdicts

from auditlib.approvals import Policy
from auditlib.attachments import gather, load
from auditlib.evidence.access_provisioning import access_provisioning
from auditlib.evidence.examined import Examined
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.event import Record
from auditlib.formats.times import DAY, SECOND, format_time, from_datetime, parse_time
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet
from auditlib.sampling import Rule
from auditlib.trail import Trail
from auditlib.trail import open as open_trail

HOUR = 3600 * SECOND
LISTS = SAMPLES / "lists"
FIRST = "2026-03-10T08:00:00Z"  # a join event; the first day began at midnight
OBSERVED = event("end", "user.login", "2026-05-30T00:00:00Z", actor="u_99")


def answer_of(trail: Trail, since: str = "2026-03-01", until: str = "2026-06-01", **more: Any) -> Examined:
    return access_provisioning(trail, since=since, until=until, **more)


def approved(event_id: str, at: str, user: str, role: str, request: str) -> Record:
    """An approval by u_5 of what u_7 asked for."""
    return approval(event_id, at, [user], [role], request)


# --- the sample ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled() -> Examined:
    policy = planted()["policy"]
    return answer_of(
        sample_trail(),
        "2026-01-01",
        "2026-07-01",
        tz="Europe/Berlin",
        policy=Policy(emergency_hours=policy["emergency_hours"], authorities=tuple(policy["approver_roles"])),
        roster=load("roster", LISTS / "roster.csv"),
        identities=load("identities", LISTS / "identities.csv"),
        approvals=load("approvals", LISTS / "tickets.csv"),
    )


def test_the_sample_answers_exactly_what_was_planted(sampled: Examined) -> None:
    """Who began or moved when, the first access, and what is wrong with it."""
    named = {
        "": "pass",
        "access before the first day": "not_before_first_day",
        "approved after the first access": "approved_before_access",
    }
    rows = {row["accounts"].split(",")[0]: row for row in sampled.found.items.to_dict("records")}
    assert rows.keys() == {line["account"] for line in planted()["provisioning"]}
    grants, uses = sampled.found.tables["grants"], sampled.found.tables["first_use"]
    for line in planted()["provisioning"]:
        row = rows[line["account"]]
        assert (row["kind"], row["verdict"]) == (line["kind"], named[line["finding"]])
        assert format_time(from_datetime(row["first_day_at"])) == line["start"]
        first = grants[grants["item"] == row["item"]].sort_values(["occurred_at", "entitlement"]).iloc[0]
        assert first["event_id"] == line["first_access"]["event_id"]
        assert first["entitlement"] in line["entitlements"]
        assert (first["approved_before_grant"] == "pass") == (line["verdict"] == "pass")
        hours = (from_datetime(first["occurred_at"]) - parse_time(line["start"])) / HOUR
        assert round(hours, 3) == line["hours_from_start"]
        assert uses.loc[uses["item"] == row["item"], "event_id"].tolist() == [line["first_own_event"]["event_id"]]


def test_without_the_roster_nobody_moves(sampled: Examined) -> None:
    """Joiners alone are known to the trail; the conclusion says so."""
    answer = answer_of(sample_trail(), "2026-01-01", "2026-07-01", tz="Europe/Berlin")
    movers = {row["item"] for row in sampled.found.items.to_dict("records") if row["kind"] == "mover"}
    assert set(verdicts(sampled)) - set(verdicts(answer)) == movers
    assert any("who moved to another job" in text for text in answer.conclusion.sentences)


def test_the_notebook_gives_a_packet_that_its_checks_accept(tmp_path: Path) -> None:
    """End to end, with the attached lists in it."""
    names = {"roster": "roster", "identities": "identities", "approvals": "tickets"}
    lists = gather({name: LISTS / f"{file}.csv" for name, file in names.items()})
    asked = {"since": "2026-01-01", "until": "2026-07-01", "tz": "Europe/Berlin"}
    out = tmp_path / "packet"
    build_packet("access-provisioning", str(sample_vault()), asked, out, keys=SAMPLE_KEY, attached=lists)
    report = check_packet(out, [SAMPLE_KEY])
    assert report.findings == ()
    assert report.packet["population"]["items"] == len(planted()["provisioning"])


# --- approvals -------------------------------------------------------------------------------------------------


def test_each_way_in_which_an_approval_falls_short(tmp_path: Path) -> None:
    """None, late, of another access, by the subject, by somebody without the authority; equal in time is in time."""
    users = ("none", "late", "other", "self", "engineer", "right")
    made = [join(f"j_{user}", FIRST, f"u_{user}") for user in users]
    at, later = "2026-03-11T09:00:00Z", "2026-03-11T09:00:00.000001Z"
    made += [grant(f"g_{user}", at, "admin", f"R-{user}", target=f"u_{user}") for user in users]
    told = {"requested_at": at, "requester": "u_7", "entitlements": ["admin"]}
    own = told | {"request_id": "R-self", "subjects": ["u_self"], "approver_role": "manager"}
    weak = told | {"request_id": "R-engineer", "subjects": ["u_engineer"], "approver_role": "engineer"}
    made += [
        approved("a_late", later, "u_late", "admin", "R-late"),
        approved("a_other", at, "u_other", "viewer", "R-other"),
        event("a_self", "access.approve", at, own, actor="u_self"),
        event("a_engineer", "access.approve", at, weak, actor="u_5"),
        approved("a_right", at, "u_right", "admin", "R-right"),
        OBSERVED,
    ]
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail, policy=Policy(authorities=("manager",)))
        assert verdicts(answer) == {
            "j_none": "approval_exists",
            "j_late": "approved_before_access",
            "j_other": "approval_covers_access",
            "j_self": "independent_approver",
            "j_engineer": "approver_authorised",
            "j_right": "pass",
        }
        assert all("admin" in reason(answer, item) for item in verdicts(answer) if item != "j_right")
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_only_the_first_grant_of_an_entitlement_counts(tmp_path: Path) -> None:
    """Given again without an approval: another request's matter. Another entitlement is not."""
    made = [
        join("j", FIRST),
        approved("a", FIRST, "u_1", "viewer", "R-1"),
        grant("g1", "2026-03-10T09:00:00Z", "viewer", "R-1"),
        grant("g2", "2026-04-10T09:00:00Z", "viewer"),
        OBSERVED,
    ]
    with trail_of(tmp_path, made) as trail:
        assert verdicts(answer_of(trail)) == {"j": "pass"}
    with trail_of(tmp_path / "2", [*made, grant("g3", "2026-04-10T09:00:00Z", "admin")]) as trail:
        assert verdicts(answer_of(trail)) == {"j": "approval_exists"}


def test_an_attached_approval_counts_apart(tmp_path: Path) -> None:
    """A ticket approves what the trail does not: passed on unsealed evidence. A denial in the trail stands."""
    at = "2026-03-11T09:00:00Z"
    made = [
        *(join(f"j{n}", FIRST, f"u_{n}") for n in (1, 2, 3)),
        *(grant(f"g{n}", at, "admin", f"R-{n}", target=f"u_{n}") for n in (1, 2, 3)),
        event("no", "access.deny", "2026-03-11T08:30:00Z", {"request_id": "R-2"}, actor="u_5"),
        approved("a3", "2026-03-11T08:00:00Z", "u_3", "admin", "R-3"),
        OBSERVED,
    ]
    rows = [(f"R-{n}", f"u_{n}", "admin", "approved", "u_6", "2026-03-11T08:00:00Z", "u_7") for n in (1, 2, 3)]
    with trail_of(tmp_path, made) as trail:
        assert verdicts(answer_of(trail)) == {"j1": "approval_exists", "j2": "approval_exists", "j3": "pass"}
        answer = answer_of(trail, approvals=attachment("approvals", *rows))
        assert verdicts(answer) == {"j1": "pass", "j2": "approval_exists", "j3": "pass"}
        assert reason(answer, "j1").startswith("Approved (unsealed evidence)")
        assert reason(answer, "j3") == ""
        assert answer.found.items["granted_unsealed"].tolist() == [1, 0, 0]
        assert answer.found.tables["attached_approvals"]["approval"].tolist() == ["approvals.csv line 2"]
        assert any("Approved (unsealed evidence): 1 of those" in text for text in answer.conclusion.sentences)
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_an_attached_refusal_counts_against_a_sealed_approval(tmp_path: Path) -> None:
    """Withdrawn by ticket before the grant: it fails, on unsealed evidence."""
    made = [
        join("j", FIRST),
        approved("a", FIRST, "u_1", "admin", "R-1"),
        grant("g", "2026-03-11T09:00:00Z", "admin", "R-1"),
        OBSERVED,
    ]
    row = ("R-1", "u_1", "admin", "withdrawn", "u_6", "2026-03-11T08:00:00Z", "u_7")
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail, approvals=attachment("approvals", row))
        assert verdicts(answer) == {"j": "approval_exists"}
        assert "unsealed evidence" in reason(answer, "j")


def test_self_approval_by_a_second_account(tmp_path: Path) -> None:
    """By account in order; by person the approver is the subject, whatever the capitals."""
    told = {"requested_at": FIRST, "requester": "u_7", "entitlements": ["admin"], "subjects": ["u_1"]}
    made = [
        join("j", FIRST),
        event("a", "access.approve", FIRST, told | {"request_id": "R", "approver_role": "manager"}, actor="ADM_1"),
        grant("g", "2026-03-11T09:00:00Z", "admin", "R"),
        OBSERVED,
    ]
    known = attachment("identities", ("P1", "u_1", "", "", "", "fold"), ("P1", "adm_1", "", "", "", "fold"))
    with trail_of(tmp_path, made) as trail:
        assert verdicts(answer_of(trail)) == {"j": "pass"}
        assert verdicts(answer_of(trail, identities=known)) == {"j": "independent_approver"}


# --- the first day ---------------------------------------------------------------------------------------------


def test_the_first_day_begins_at_its_midnight(tmp_path: Path) -> None:
    """Granted or used at midnight: in order. A microsecond earlier: before the first day. In the zone asked."""
    made = []
    for n, (granted, used) in enumerate(
        [
            ("2026-03-10T00:00:00Z", "2026-03-10T00:00:00Z"),
            ("2026-03-09T23:59:59.999999Z", "2026-03-10T00:00:00Z"),
            ("2026-03-10T00:00:00Z", "2026-03-09T23:59:59.999999Z"),
        ]
    ):
        made += [
            approved(f"a{n}", "2026-03-09T00:00:00Z", f"u_{n}", "admin", f"R-{n}"),
            grant(f"g{n}", granted, "admin", f"R-{n}", target=f"u_{n}"),
            event(f"e{n}", "user.login", used, actor=f"u_{n}", outcome="denied"),
            join(f"j{n}", FIRST, f"u_{n}"),
        ]
    early = "not_before_first_day"
    with trail_of(tmp_path, [*made, OBSERVED]) as trail:
        assert verdicts(answer_of(trail)) == {"j0": "pass", "j1": early, "j2": early}
        assert answer_of(trail).found.tables["early_use"]["event_id"].tolist() == ["e2"]
        assert set(verdicts(answer_of(trail, tz="Europe/Berlin")).values()) == {"pass"}
        assert set(verdicts(answer_of(trail, tz="America/New_York")).values()) == {early}


def test_who_comes_back_brings_nothing_from_before(tmp_path: Path) -> None:
    """Grants and use of the earlier employment do not count against the later first day."""
    made = [
        join("j1", "2026-01-10T00:00:00Z"),
        grant("g1", "2026-01-10T01:00:00Z"),
        event("e1", "user.login", "2026-01-10T02:00:00Z", actor="u_1"),
        leave("l", "2026-02-10T00:00:00Z"),
        join("j2", FIRST),
        OBSERVED,
    ]
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail)
        assert verdicts(answer) == {"j2": "pass"}
        assert outcome(answer, "j2", "approval_exists") == "n/a"
        assert any("were granted nothing" in text for text in answer.conclusion.sentences)
        assert verdicts(answer_of(trail, "2026-01-01")) == {"j1": "approval_exists", "j2": "pass"}


# --- the roster ------------------------------------------------------------------------------------------------


def test_joiners_movers_and_those_who_only_stand_on_the_roster(tmp_path: Path) -> None:
    """A second row with another job: a mover. The same job again: a joiner. A first row without an event: a joiner."""
    made = [
        join("j", FIRST, "u_1"),
        grant("old", "2026-02-01T00:00:00Z", "viewer", target="u_2"),
        grant("new", "2026-04-01T09:00:00Z", "admin", target="u_2"),
        event("used", "user.login", "2026-04-02T09:00:00Z", actor="u_3"),
        OBSERVED,
    ]
    roster = attachment(
        "roster",
        ("P1", "u_1", "2026-03-10", "sales", "agent"),
        ("P2", "u_2", "2020-01-01", "sales", "agent"),
        ("P2", "u_2", "2026-04-01", "finance", "analyst"),
        ("P3", "u_3", "2026-04-03", "sales", "agent"),
        ("P4", "u_4", "2019-01-01", "sales", "agent"),
        ("P4", "u_4", "2026-05-01", "sales", "agent"),
        ("P5", "", "2026-05-01", "sales", "agent"),
    )
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail, roster=roster)
        items = answer.found.items
        assert dict(zip(items["item"], items["kind"], strict=True)) == {
            "j": "joiner",
            "roster:4": "mover",
            "roster:5": "joiner",
            "roster:7": "joiner",
            "roster:8": "joiner",
        }
        assert verdicts(answer) == {
            "j": "pass",
            "roster:4": "approval_exists",
            "roster:5": "not_before_first_day",
            "roster:7": "pass",
            "roster:8": "not-testable",
        }
        assert answer.found.tables["grants"]["event_id"].tolist() == ["new"]
        assert "unsealed evidence" in reason(answer, "roster:4")
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_a_roster_of_what_people_do_now_shows_movers_too(tmp_path: Path) -> None:
    """One row a person: somebody whom the trail saw join months before has moved."""
    made = [join("j", "2026-01-10T00:00:00Z"), grant("g", "2026-04-02T00:00:00Z"), OBSERVED]
    roster = attachment("roster", ("P1", "u_1", "2026-04-01", "finance", "analyst"))
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail, roster=roster)
        assert answer.found.items[["item", "kind"]].to_numpy().tolist() == [["roster:2", "mover"]]


def test_of_two_first_days_the_later_counts(tmp_path: Path) -> None:
    """The roster's lies days after the join event: use in between is early. Neither date hides it."""
    made = [join("j", FIRST), event("e", "user.login", "2026-03-12T00:00:00Z", actor="u_1"), OBSERVED]
    with trail_of(tmp_path, made) as trail:
        assert verdicts(answer_of(trail)) == {"j": "pass"}
        later = attachment("roster", ("P1", "u_1", "2026-03-15", "sales", "agent"))
        assert verdicts(answer_of(trail, roster=later)) == {"j": "not_before_first_day"}
        earlier = attachment("roster", ("P1", "u_1", "2026-03-01", "sales", "agent"))
        assert verdicts(answer_of(trail, roster=earlier)) == {"j": "pass"}


# --- periods, trails -------------------------------------------------------------------------------------------


def test_the_ends_of_the_period(tmp_path: Path) -> None:
    """Leap day, another zone, the last microsecond, out of order: to the event."""
    at = {
        "last": "2028-02-29T22:59:59.999999Z",
        "after": "2028-02-29T23:00:00Z",
        "first": "2028-01-31T23:00:00Z",
        "before": "2028-01-31T22:59:59.999999Z",
    }
    made = [join(item, time, f"u_{item}") for item, time in at.items()]
    with trail_of(tmp_path, made[:2], made[2:]) as trail:
        answer = access_provisioning(trail, since="2028-02-01", through="2028-02-29", tz="Europe/Berlin")
        assert list(verdicts(answer)) == ["last", "first"]
        days = [format_time(from_datetime(day)) for day in answer.found.items["first_day_at"]]
        assert days == ["2028-02-28T23:00:00Z", "2028-01-31T23:00:00Z"]


@pytest.mark.parametrize("since", ["2026-03-01", "2020-01-01", "2030-01-01"])
def test_an_empty_period_and_one_outside_the_trail(tmp_path: Path, since: str) -> None:
    """Nobody began: said so, in a packet that its checks accept."""
    lists: dict[str, Any] = {name: attachment(name) for name in ("roster", "identities", "approvals")}
    with trail_of(tmp_path, [join("j", "2026-01-10T00:00:00Z"), grant("g", "2026-03-10T00:00:00Z"), OBSERVED]) as trail:
        answer = answer_of(trail, since, f"{since[:4]}-04-01", sample=Rule("whole"), **lists)
        assert verdicts(answer) == {}
        assert answer.headline.startswith(("No joiner or mover was recorded", "Not answerable"))
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_a_catalogue_that_knows_no_such_kinds(tmp_path: Path) -> None:
    """Neither joinings nor grants are known; the roster is answered by what the accounts did."""
    bare = parse_catalog(b'format = "auditlib/catalog/v1"\n[actions]\n')
    made = [event("x", "some.thing", "2026-03-09T00:00:00Z", {"a": 1}, actor="u_1")]
    with trail_of(tmp_path, made, catalog=bare) as trail:
        answer = answer_of(trail, roster=attachment("roster", ("P1", "u_1", "2026-03-10")))
        assert verdicts(answer) == {"roster:2": "not_before_first_day"}
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_a_cloudtrail_trail_alone(tmp_path: Path) -> None:
    """No join events in it: who got a policy is answered by the roster, and nothing approves it."""
    if not CLOUDTRAIL.is_dir():
        pytest.skip(f"{CLOUDTRAIL} is not here")
    vault = cloudtrail_vault(tmp_path, CLOUDTRAIL, parse_time("2026-11-01T00:00:00Z"))
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        first = min(seal.occurred[0] for seal in trail.seals)[:10]
        assert verdicts(answer_of(trail, first, "2026-11-01")) == {}
        who = grantees(trail)[0]
        roster = attachment("roster", ("P1", f'"{who}"', f"{first}T00:00:00Z"))
        answer = answer_of(trail, first, "2026-11-01", roster=roster)
        assert verdicts(answer) == {"roster:2": "approval_exists"}
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def grantees(trail: Trail) -> list[str]:
    told = trail.events(kind="grant", outcome="success").df()["context"].map(json.loads)
    asked = [context.get("request") or {} for context in told]
    return [name for one in asked for key in ("userName", "roleName") if isinstance(name := one.get(key), str)]


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    """Accounts and entitlements of markup, quotes, formulas and control characters."""
    name = "=1+1'\"<b>$x$\u0001\u202e,名"
    made = [join("j", FIRST, name), grant("g", "2026-03-11T00:00:00Z", "<script>", target=name), OBSERVED]
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail)
        assert verdicts(answer) == {"j": "approval_exists"}
        files = packed(trail, answer, tmp_path / "packet")
        assert files["report"].findings == ()
        assert b"<b>$x" not in files["data/report.html"]


# --- against a slow and obvious reading -----------------------------------------------------------------------


def slow(made: list[Record]) -> dict[str, dict[str, Any]]:
    """Each join event judged by going through every record: the first grants, and whether each was approved before."""
    facts = [(parse_time(r.event.occurred_at), n, r.event) for n, r in enumerate(made)]
    facts.sort(key=lambda fact: fact[:2])
    found = {}
    for joined, _, one in facts:
        if one.action != "employee.join":
            continue
        user, day = one.target.id, joined // DAY * DAY
        left = [t for t, _, e in facts if e.action == "employee.leave" and e.target.id == user]
        since = max((t for t in left if t < day), default=0)
        until = min((t for t in left if t > day), default=2**62)
        first: dict[str, tuple[int, Any]] = {}
        for t, _, e in facts:
            if e.action == "role.grant" and e.target.id == user and since <= t < until:
                first.setdefault(e.context["granted_role"], (t, e))
        answers = {
            role: [
                t for t, _, e in facts if e.action == "access.approve" and e.context["request_id"] == f"{user} {role}"
            ]
            for role in first
        }
        missing = any(not times for times in answers.values())
        late = any(times and min(times) > first[role][0] for role, times in answers.items())
        early = any(t < day for t, _ in first.values())
        early |= any(e.actor.id == user and since <= t < day for t, _, e in facts)
        found[one.event_id] = {
            "granted": len(first),
            "approval_exists": "fail" if missing else "pass" if first else "n/a",
            "approved_before_access": "fail" if late else "pass" if any(answers.values()) else "n/a",
            "not_before_first_day": "fail" if early else "pass",
        }
    return found


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_a_slow_reading(tmp_path: Path, seed: int) -> None:
    """Forty people at random, recorded out of order: what was granted, approved and early."""
    draws = random.Random(seed)
    start = parse_time("2026-03-01T00:00:00Z")
    made = []
    for n in range(500):
        at, user = format_time(start + draws.randrange(0, 12 * 24) * HOUR), f"u_{draws.randrange(40)}"
        what = draws.choices(["grant", "approve", "leave", "join", "use"], [6, 6, 1, 3, 2])[0]
        role = draws.choice(["admin", "editor"])
        request = f"{user} {role}"
        made.append(
            grant(f"e{n}", at, role, request, target=user)
            if what == "grant"
            else approved(f"e{n}", at, user, role, request)
            if what == "approve"
            else leave(f"e{n}", at, user)
            if what == "leave"
            else join(f"e{n}", at, user)
            if what == "join"
            else event(f"e{n}", "user.login", at, actor=user, target=user)
        )
    expected = slow(made)
    with trail_of(tmp_path, made[:200], made[200:400], made[400:]) as trail:
        items = answer_of(trail).found.items.set_index("item")
        assert set(items.index) == set(expected)
        assert {item: {name: items.loc[item, name] for name in told} for item, told in expected.items()} == expected
