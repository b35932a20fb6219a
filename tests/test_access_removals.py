"""Leavers: what was held, when it went, what was done afterwards; by the trail, the attached list, and by person."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import simulator
from msgspec.structs import replace
from packets import (
    CLOUDTRAIL,
    SAMPLE_KEY,
    SAMPLES,
    event,
    planted,
    sample_trail,
    sample_vault,
    trail_of,
)
from people import attachment, cloudtrail_vault, grant, join, leave, outcome, packed, reason, revoke, verdicts

from auditlib.attachments import gather, load
from auditlib.errors import MalformedError
from auditlib.evidence.access_removals import access_removals
from auditlib.evidence.account_use import MAX_LISTED
from auditlib.evidence.examined import Examined
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.event import Actor, Record
from auditlib.formats.times import SECOND, format_time, from_datetime, parse_time
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet
from auditlib.sampling import Rule
from auditlib.trail import Trail
from auditlib.trail import open as open_trail

HOUR = 3600 * SECOND
LISTS = SAMPLES / "lists"
LEFT = "2026-03-10T18:00:00Z"
OBSERVED = event("end", "user.login", "2026-05-30T00:00:00Z", actor="u_99")  # how far the trail reaches


def answer_of(trail: Trail, since: str = "2026-03-01", until: str = "2026-06-01", **more: Any) -> Examined:
    return access_removals(trail, since=since, until=until, **more)


# --- the sample ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampled() -> Examined:
    lists = {name: load(name, LISTS / f"{name}.csv") for name in ("leavers", "identities")}
    hours = planted()["removals"]["removal_hours"]
    return answer_of(sample_trail(), "2026-01-01", "2026-07-01", within_hours=hours, **lists)


def test_the_sample_answers_exactly_what_was_planted(sampled: Examined) -> None:
    """Who left when, how long the last removal took, what was done afterwards, and the verdict."""
    named = {"in time": "pass", "late": "removed_in_time", "never": "all_removed"}
    rows = {row["accounts"]: row for row in sampled.found.items.to_dict("records")}
    lines = planted()["removals"]["leavers"]
    assert rows.keys() == {line["account"] for line in lines}
    after = sampled.found.tables["after_leaving"]
    for line in lines:
        row = rows[line["account"]]
        assert format_time(from_datetime(row["left_at"])) == line["left_at"]
        assert row["verdict"] == named[line["verdict"]]
        assert after.loc[after["item"] == row["item"], "event_id"].tolist() == line["events_after_leaving"]
        assert row["events_after"] == len(line["events_after_leaving"])
        hours = row["hours_to_removal"]
        assert (None if row["verdict"] == "all_removed" else hours) == line["hours_to_last_removal"]


def test_every_entitlement_of_the_sample_goes_as_planted(sampled: Examined) -> None:
    """Role by role: which event removed it, hours from leaving; also what the opening listing alone knows of."""
    held = sampled.found.tables["entitlements"]
    for line in planted()["removals"]["leavers"]:
        own = held[held["account"] == line["account"]]
        found = {
            row["entitlement"]: None if row["removal"] == "" else (row["removal"], row["hours"])
            for row in own.to_dict("records")
        }
        assert found == {role: end and (end["event_id"], end["hours"]) for role, end in line["roles"].items()}
    assert "access.snapshot" in set(held["action"])


def test_approvals_given_after_leaving_are_named(sampled: Examined) -> None:
    """By account and event."""
    (told,) = [text for text in sampled.conclusion.sentences if "approval after leaving" in text]
    for line in planted()["approver_conduct"]["after_leaving"]:
        assert line["actor"] in told
        assert line["event_id"] in told


def test_the_notebook_gives_a_packet_that_its_checks_accept(tmp_path: Path) -> None:
    """End to end, with the attached lists in it."""
    lists = gather({name: LISTS / f"{name}.csv" for name in ("leavers", "identities")})
    asked = {"since": "2026-01-01", "until": "2026-07-01"}
    out = tmp_path / "packet"
    build_packet("access-removals", str(sample_vault()), asked, out, keys=SAMPLE_KEY, attached=lists)
    report = check_packet(out, [SAMPLE_KEY])
    assert report.findings == ()
    assert report.packet["population"]["verdicts"]["all_removed"] == 1
    assert (out / "data/attachments/leavers.csv").read_bytes() == (LISTS / "leavers.csv").read_bytes()


# --- removals --------------------------------------------------------------------------------------------------


def test_to_the_microsecond_in_time(tmp_path: Path) -> None:
    """Removed exactly when the agreed hours end: in time. A microsecond later: late."""
    made = [
        *(grant(f"g{n}", "2026-03-01T00:00:00Z", target=f"u_{n}") for n in (1, 2)),
        *(leave(f"l{n}", LEFT, f"u_{n}") for n in (1, 2)),
        revoke("r1", "2026-03-11T18:00:00Z", target="u_1"),
        revoke("r2", "2026-03-11T18:00:00.000001Z", target="u_2"),
        OBSERVED,
    ]
    with trail_of(tmp_path, made) as trail:
        assert verdicts(answer_of(trail)) == {"l1": "pass", "l2": "removed_in_time"}
        assert set(verdicts(answer_of(trail, within_hours=25)).values()) == {"pass"}


def test_a_removal_not_yet_due_is_no_exception(tmp_path: Path) -> None:
    """The trail ends before the agreed hours do."""
    made = [grant("g", "2026-03-01T00:00:00Z"), leave("l", LEFT), event("x", "user.login", "2026-03-11T17:59:59Z")]
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail)
        assert verdicts(answer) == {"l": "pass"}
        assert outcome(answer, "l", "all_removed") == "n/a"


def test_what_was_granted_again_after_leaving_counts(tmp_path: Path) -> None:
    """Removed in time, granted anew a week later and never removed."""
    made = [
        grant("g", "2026-03-01T00:00:00Z"),
        leave("l", LEFT),
        revoke("r", "2026-03-10T19:00:00Z"),
        grant("again", "2026-03-17T19:00:00Z"),
        OBSERVED,
    ]
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail)
        assert verdicts(answer) == {"l": "all_removed"}
        assert answer.found.tables["entitlements"]["state"].tolist() == ["held at leaving", "granted after leaving"]


def test_a_later_listing_grants_nothing(tmp_path: Path) -> None:
    """A listing after the removal names the access still: it is not a grant, and one before leaving is a holding."""
    holdings = [{"subject": "u_1", "entitlement": "viewer"}, {"subject": "u_2", "entitlement": "admin"}]
    context = {"system": "acme", "part": 1, "parts": 1, "holdings": holdings}
    made = [
        event("s1", "access.snapshot", "2026-03-01T00:00:05Z", context | {"at": "2026-03-01T00:00:00Z"}),
        revoke("r0", "2026-03-01T00:00:02Z", "admin", target="u_1"),
        leave("l", LEFT),
        revoke("r", "2026-03-10T19:00:00Z", "viewer"),
        event("s2", "access.snapshot", "2026-04-01T00:00:00Z", context | {"at": "infinity"}),
        OBSERVED,
    ]
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail)
        assert verdicts(answer) == {"l": "pass"}
        held = answer.found.tables["entitlements"]
        assert held[["entitlement", "removal"]].to_numpy().tolist() == [["viewer", "r"]]
        assert format_time(from_datetime(held["held_since"].iat[0])) == "2026-03-01T00:00:00Z"


def test_a_grant_that_states_no_entitlement_cannot_be_tested(tmp_path: Path) -> None:
    """Nobody can find its removal."""
    catalog = parse_catalog(
        simulator.CATALOG.data + b'\n[actions."key.hand"]\nkind = "grant"\ngrantee = "target.id"\nprivileged = true\n'
    )
    made = [event("g", "key.hand", "2026-03-01T00:00:00Z"), leave("l", LEFT), OBSERVED]
    with trail_of(tmp_path, made, catalog=catalog) as trail:
        assert verdicts(answer_of(trail)) == {"l": "not-testable"}


def test_grants_that_name_nobody_are_said(tmp_path: Path) -> None:
    """A role redefined without its members."""
    made = [event("d", "role.define", "2026-03-01T00:00:00Z", {"confers": "admin"}), leave("l", LEFT), OBSERVED]
    with trail_of(tmp_path, made) as trail:
        assert any("1 grant in the trail name" in text for text in answer_of(trail).answer().limits)


# --- use afterwards --------------------------------------------------------------------------------------------


def test_use_counts_after_leaving_and_not_at_it(tmp_path: Path) -> None:
    """At the very moment: no use. A microsecond later, and a denied one: use. Somebody anonymous: not the account."""
    made = [leave(f"l{n}", LEFT, f"u_{n}") for n in (1, 2, 3, 4)]
    nobody = event("a4", "user.login", "2026-03-12T00:00:00Z", actor="u_4")
    nobody = replace(nobody, event=replace(nobody.event, actor=Actor("u_4", None, "anonymous")))
    made += [
        event("a1", "user.login", LEFT, actor="u_1"),
        event("a2", "user.login", "2026-03-10T18:00:00.000001Z", actor="u_2"),
        event("a3", "user.login", "2026-03-20T00:00:00Z", actor="u_3", outcome="denied"),
        nobody,
        OBSERVED,
    ]
    with trail_of(tmp_path, made) as trail:
        used = "no_activity_after_leaving"
        assert verdicts(answer_of(trail)) == {"l1": "pass", "l2": used, "l3": used, "l4": "pass"}


def test_a_flood_of_use_is_counted_and_not_listed(tmp_path: Path) -> None:
    """The first ones, the last and every approval are listed; the rest is counted."""
    asked = {"requested_at": LEFT, "requester": "u_7", "subjects": ["u_3"], "entitlements": ["x"], "request_id": "R"}
    start = parse_time("2026-03-11T00:00:00Z")
    flood = [event(f"e{n:03}", "user.login", format_time(start + n * SECOND), actor="u_1") for n in range(300)]
    ok = event("ok", "access.approve", format_time(start + 250 * SECOND + 1), asked, actor="u_1")
    with trail_of(tmp_path, [leave("l", LEFT), *flood, ok, OBSERVED]) as trail:
        answer = answer_of(trail)
        row = answer.found.items.to_dict("records")[0]
        assert (row["events_after"], row["decisions_after"]) == (301, 1)
        listed = answer.found.tables["after_leaving"]["event_id"].tolist()
        assert listed == [*(f"e{n:03}" for n in range(MAX_LISTED)), "ok", "e299"]
        assert answer.found.tables["activity"]["events"].tolist() == [1, 300]
        assert any("u_1 gave 1 approval after leaving (l): ok." in text for text in answer.conclusion.sentences)
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_who_comes_back_may_work_again(tmp_path: Path) -> None:
    """From the new joining on nothing counts against the leaving before."""
    made = [
        grant("g", "2026-03-01T00:00:00Z"),
        leave("l", LEFT),
        revoke("r", "2026-03-10T19:00:00Z"),
        join("j", "2026-04-01T00:00:00Z"),
        grant("g2", "2026-04-01T01:00:00Z"),
        event("a", "user.login", "2026-04-01T02:00:00Z", actor="u_1"),
        OBSERVED,
    ]
    with trail_of(tmp_path, made) as trail:
        assert verdicts(answer_of(trail)) == {"l": "pass"}


# --- the attached list -----------------------------------------------------------------------------------------


def test_list_and_trail_that_disagree(tmp_path: Path) -> None:
    """Only listed, only recorded, a day too far apart: each fails; a day apart agrees."""
    made = [
        leave("both", LEFT, "u_1"),
        leave("alone", LEFT, "u_2"),
        leave("apart", LEFT, "u_3"),
        event("used", "user.login", "2026-03-09T12:00:00Z", actor="u_3"),
        OBSERVED,
    ]
    rows = [("P1", "u_1", "2026-03-11T18:00:00Z"), ("P4", "u_4", "2026-03-20"), ("P3", "u_3", "2026-03-08")]
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail, leavers=attachment("leavers", *rows))
        fails = "agrees_with_list"
        assert verdicts(answer) == {
            "both": "pass",
            "alone": fails,
            "apart": "no_activity_after_leaving",  # the earlier of the two counts
            "leavers:3": fails,
        }
        assert outcome(answer, "apart", fails) == "fail"
        for item in ("alone", "apart", "leavers:3"):
            assert "unsealed evidence" in reason(answer, item)
        assert any(text.startswith("For 2 leavers of 4") for text in answer.conclusion.sentences)
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_a_list_alone_answers_where_the_trail_records_no_leaving(tmp_path: Path) -> None:
    """No leave event ever: the trail does not contradict the list, and the cut-off hour of its zone counts."""
    made = [
        grant("g", "2026-03-01T00:00:00Z"),
        event("before", "user.login", "2026-03-10T16:59:59Z", actor="u_1"),
        revoke("r", "2026-03-11T17:00:00Z"),
        OBSERVED,
    ]
    listed = attachment("leavers", ("P1", "u_1", "2026-03-10"), zone="Europe/Berlin", cutoff="18:00")
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail, leavers=listed)
        assert verdicts(answer) == {"leavers:2": "pass"}
        assert outcome(answer, "leavers:2", "agrees_with_list") == "n/a"
        assert reason(answer, "leavers:2") == "The moment of leaving rests on the attached list: unsealed evidence."
        assert verdicts(answer_of(trail, leavers=listed, within_hours=23)) == {"leavers:2": "removed_in_time"}


def test_a_person_without_a_known_account_cannot_be_tested(tmp_path: Path) -> None:
    """The list names none; the identities do."""
    made = [grant("g", "2026-03-01T00:00:00Z", target="u_5"), OBSERVED]
    with trail_of(tmp_path, made) as trail:
        listed = attachment("leavers", ("P5", "", "2026-03-10"))
        assert verdicts(answer_of(trail, leavers=listed)) == {"leavers:2": "not-testable"}
        known = attachment("identities", ("P5", "u_5"))
        assert verdicts(answer_of(trail, leavers=listed, identities=known)) == {"leavers:2": "all_removed"}


def test_a_second_account_is_the_same_person(tmp_path: Path) -> None:
    """Held and used through it; a capital does not hide it; what it does once it is somebody else's is theirs."""
    made = [
        leave("l", LEFT, "u_1"),
        grant("g", "2026-03-01T00:00:00Z", target="Adm_1"),
        event("a", "user.login", "2026-03-12T00:00:00Z", actor="ADM_1"),
        event("b", "user.login", "2026-04-12T00:00:00Z", actor="adm_1"),
        OBSERVED,
    ]
    rows = [("P1", "u_1"), ("P1", "adm_1", "", "", "2026-03-01", "fold"), ("P2", "adm_1", "", "2026-04-01", "", "fold")]
    rows[0] = ("P1", "u_1", "", "", "", "fold")
    with trail_of(tmp_path, made) as trail:
        assert verdicts(answer_of(trail)) == {"l": "pass"}
        answer = answer_of(trail, identities=attachment("identities", *rows))
        assert verdicts(answer) == {"l": "all_removed"}
        assert answer.found.tables["after_leaving"]["event_id"].tolist() == ["a"]


def test_a_name_that_is_anothers_elsewhere_is_not_the_leavers(tmp_path: Path) -> None:
    """`root` of one system left; `root` of another is somebody else's."""
    made = [
        leave("l", LEFT, "root", source="okta/1"),
        event("a", "user.login", "2026-03-12T00:00:00Z", actor="root", source="aws/1"),
        event("b", "user.login", "2026-03-13T00:00:00Z", actor="root", source="billing/1"),
        OBSERVED,
    ]
    known = attachment("identities", ("P1", "root", "okta"), ("P2", "root", "aws"))
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail, identities=known)
        assert answer.found.tables["after_leaving"]["event_id"].tolist() == ["b"]


def test_identities_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    """One account, two holders at once."""
    with trail_of(tmp_path, [leave("l", LEFT)]) as trail, pytest.raises(MalformedError, match="two holders"):
        answer_of(trail, identities=attachment("identities", ("P1", "u_1"), ("P2", "u_1")))


# --- periods, trails -------------------------------------------------------------------------------------------


def test_the_ends_of_the_period(tmp_path: Path) -> None:
    """Leap day, another zone, the last microsecond, out of order: to the event; also by the list's day."""
    at = {
        "last": "2028-02-29T22:59:59.999999Z",
        "after": "2028-02-29T23:00:00Z",
        "first": "2028-01-31T23:00:00Z",
        "before": "2028-01-31T22:59:59.999999Z",
    }
    made = [leave(item, time, f"u_{item}") for item, time in at.items()]
    with trail_of(tmp_path, made[:2], made[2:]) as trail:
        answer = access_removals(trail, since="2028-02-01", through="2028-02-29", tz="Europe/Berlin")
        assert list(verdicts(answer)) == ["last", "first"]


@pytest.mark.parametrize("since", ["2026-03-01", "2020-01-01", "2030-01-01"])
def test_an_empty_period_and_one_outside_the_trail(tmp_path: Path, since: str) -> None:
    """Nobody left: said so, in a packet that its checks accept."""
    with trail_of(tmp_path, [leave("l", "2026-01-10T00:00:00Z"), OBSERVED]) as trail:
        answer = answer_of(trail, since, f"{since[:4]}-04-01", leavers=attachment("leavers"), sample=Rule("whole"))
        assert verdicts(answer) == {}
        assert answer.headline.startswith(("No leaver was recorded", "Not answerable"))
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_a_catalogue_that_knows_no_such_kinds(tmp_path: Path) -> None:
    """Nothing is known of grants or leavings; the list is still answered by what the accounts did."""
    bare = parse_catalog(b'format = "auditlib/catalog/v1"\n[actions]\n')
    made = [event("x", "some.thing", "2026-03-12T00:00:00Z", {"a": 1}, actor="u_1")]
    with trail_of(tmp_path, made, catalog=bare) as trail:
        answer = answer_of(trail, leavers=attachment("leavers", ("P1", "u_1", "2026-03-10")))
        assert verdicts(answer) == {"leavers:2": "no_activity_after_leaving"}
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_a_cloudtrail_trail_alone(tmp_path: Path) -> None:
    """No leave events in it: the list is answered."""
    if not CLOUDTRAIL.is_dir():
        pytest.skip(f"{CLOUDTRAIL} is not here")
    vault = cloudtrail_vault(tmp_path, CLOUDTRAIL, parse_time("2026-11-01T00:00:00Z"))
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        first = min(seal.occurred[0] for seal in trail.seals)[:10]
        who = trail.events(outcome="success").df()["actor_id"].mode()[0]
        listed = attachment("leavers", ("P1", f'"{who}"', f"{first}T00:00:00Z"))
        answer = answer_of(trail, first, "2026-11-01", leavers=listed)
        assert verdicts(answer) == {"leavers:2": "no_activity_after_leaving"}
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    """Accounts and entitlements of markup, quotes, formulas and control characters."""
    name = "=1+1'\"<b>$x$\u0001\u202e,名"
    made = [leave("l", LEFT, name), grant("g", "2026-03-01T00:00:00Z", "<script>", target=name), OBSERVED]
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail)
        assert verdicts(answer) == {"l": "all_removed"}
        files = packed(trail, answer, tmp_path / "packet")
        assert files["report"].findings == ()
        assert b"<b>$x" not in files["data/report.html"]


def test_a_sample_of_the_leavers(tmp_path: Path) -> None:
    """Drawn by the auditor's word from events and lines alike; all are judged."""
    made = [leave(f"l{n}", LEFT, f"u_{n}") for n in range(5)]
    listed = attachment("leavers", *((f"P{n}", f"u_{n}", "2026-03-10") for n in range(3, 9)))
    with trail_of(tmp_path, [*made, OBSERVED]) as trail:
        answer = answer_of(trail, leavers=listed, sample=Rule("simple", size=4, word="heron"))
        assert len(answer.found.items) == 9
        assert answer.sample is not None and len(answer.sample.items) == 4
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


# --- against a slow and obvious reading -----------------------------------------------------------------------


def slow(made: list[Record], observed: int, hours: int) -> dict[str, dict[str, Any]]:
    """Each leave event judged by replaying every record, one after the other."""
    found = {}
    facts = [(parse_time(r.event.occurred_at), n, r.event) for n, r in enumerate(made) if r.event.outcome == "success"]
    facts.sort(key=lambda fact: fact[:2])
    everything = [(parse_time(r.event.occurred_at), r.event) for r in made]
    for left, _, one in facts:
        if one.action != "employee.leave":
            continue
        user, due = one.target.id, left + hours * HOUR
        back = min(
            (t for t, _, e in facts if e.action == "employee.join" and e.target.id == user and t > left), default=None
        )
        seen = observed if back is None else min(observed, back)
        holding: dict[str, int] = {}
        removed: list[int] = []
        for t, _, e in facts:
            if e.target.id != user or (back is not None and t >= back):
                continue
            if e.action == "role.grant":
                holding.setdefault(e.context["granted_role"], t)
            if e.action == "role.revoke" and e.context["revoked_role"] in holding:
                del holding[e.context["revoked_role"]]
                if t > left - 24 * HOUR:
                    removed.append(t)
        kept = bool(holding) and seen >= due
        late = [t for t in removed if t > due]
        found[one.event_id] = {
            "all_removed": "fail" if kept else "n/a" if holding or not removed else "pass",
            "removed_in_time": "fail" if late or kept else "pass" if removed else "n/a",
            "events_after": sum(e.actor.id == user and t > left and (back is None or t < back) for t, e in everything),
        }
    return found


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_a_slow_reading(tmp_path: Path, seed: int) -> None:
    """Forty people at random, recorded out of order: every attribute and count."""
    draws = random.Random(seed)
    start = parse_time("2026-03-01T00:00:00Z")
    made = []
    for n in range(600):
        at, user = format_time(start + draws.randrange(0, 12 * 24) * HOUR), f"u_{draws.randrange(40)}"
        what = draws.choices(["grant", "revoke", "leave", "join", "use"], [6, 5, 3, 1, 2])[0]
        role = draws.choice(["admin", "editor"])
        how = {"outcome": draws.choice(["success", "success", "success", "denied"])}
        made.append(
            grant(f"e{n}", at, role, target=user, **how)
            if what == "grant"
            else revoke(f"e{n}", at, role, target=user, **how)
            if what == "revoke"
            else leave(f"e{n}", at, user, **how)
            if what == "leave"
            else join(f"e{n}", at, user, **how)
            if what == "join"
            else event(f"e{n}", "user.login", at, actor=user, target=user, **how)
        )
    with trail_of(tmp_path, made[:200], made[200:400], made[400:]) as trail:
        expected = slow(made, parse_time(trail.recorded[1]), 24)
        items = answer_of(trail).found.items.set_index("item")
        assert set(items.index) == set(expected)
        found = {item: {name: items.loc[item, name] for name in told} for item, told in expected.items()}
        assert json.loads(json.dumps(found, default=int)) == expected
