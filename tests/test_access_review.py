"""Who holds what: what was planted is found, what nobody logged does not pass, moments are right to the event."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import simulator
from lists import attachment
from packets import CLOUDTRAIL, SAMPLE_KEY, SAMPLES, check, event, planted, read_folder, sample_trail, sample_vault
from packets import trail_of as opened
from people import cloudtrail_vault, grant, join, leave, outcome, packed, reason, revoke, verdicts
from strength import LONG

from auditlib.attachments import Attachment, load
from auditlib.errors import MalformedError
from auditlib.evidence import AccessReview, access_review
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.event import Record
from auditlib.formats.times import SECOND, format_time, parse_time
from auditlib.packet.build import build_packet
from auditlib.sampling import Rule
from auditlib.trail import Trail
from auditlib.trail import open as open_trail

DAY = "2026-06-01"
SEEN = event("end", "user.login", "2026-09-30T00:00:00Z", actor="u_99")  # how far the trail reaches


def ask(trail: Trail, at_date: str = DAY, **more: Any) -> AccessReview:
    return access_review(trail, at_date=at_date, **more)


def snapshot(
    name: str, at: str, *pairs: tuple[str, str], part: int = 1, parts: int = 1, system: str = "acme", **more: Any
) -> Record:
    """A part of a listing, sealed a second after the moment for which it holds."""
    holdings = [{"entitlement": role, "subject": who} for who, role in pairs]
    context = {"at": at, "holdings": holdings, "part": part, "parts": parts, "system": system}
    when = more.pop("when", format_time(parse_time(at) + SECOND))
    return event(name, "access.snapshot", when, context, actor="cron:listing", target=system, **more)


def listing(*rows: tuple[str, str], at: str = "2026-07-01T00:00:00Z") -> Attachment:
    return attachment("listing", ("subject", "entitlement", "as_of"), [(*row, at) for row in rows])


def held(answer: AccessReview) -> list[tuple[str, str]]:
    items = answer.found.items
    rows = items[items["state"] == "held at the date"]
    return list(zip(rows["subject"], rows["entitlement"], strict=True))


def unlogged(answer: AccessReview) -> set[tuple[str, str, str]]:
    return set(answer.found.tables["unlogged"][["change", "subject", "entitlement"]].itertuples(index=False, name=None))


# --- the sample ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("day", ["2026-03-01", "2026-04-01", "2026-06-01"])
def test_the_sample_holds_what_was_planted(day: str) -> None:
    """Every holder of each privileged entitlement; a grant that had ended by itself stands in a table of its own."""
    answer = ask(sample_trail(), day, privileged=planted()["holdings"]["privileged"])
    over = set(answer.found.tables["ended"][["subject", "entitlement"]].itertuples(index=False, name=None))
    late = [g for g in planted()["admin_grants"] if g["verdict"] == "removed_in_time"]
    assert over <= {(grant["grantee"], "admin") for grant in late}
    for role, holders in planted()["holdings"]["held_at"][day].items():
        found = [subject for subject, entitlement in held(answer) if entitlement == role]
        assert sorted(found + [subject for subject, entitlement in over if entitlement == role]) == holders


def test_what_nobody_logged_is_found_as_planted() -> None:
    """Against the sealed closing listing and against the attached one: the same changes, and the forgotten end."""
    expected = {(one["change"], one["subject"], one["entitlement"]) for one in planted()["holdings"]["unlogged"]}
    late = {
        ("outlived its end", g["grantee"], "admin")
        for g in planted()["admin_grants"]
        if g["verdict"] == "removed_in_time"
    }
    given = load("listing", SAMPLES / "lists" / "listing.csv")
    for answer in (ask(sample_trail()), ask(sample_trail(), listing=given), ask(sample_trail(), "2026-07-01")):
        found = unlogged(answer)
        assert found & late == {one for one in found if one[0] == "outlived its end"}
        assert found - late == expected
    assert all("unsealed evidence" in text for text in ask(sample_trail(), listing=given).exceptions["reason"][1:2])


def test_the_dormant_are_those_planted() -> None:
    """By name, and when they were last seen."""
    answer = ask(sample_trail(), dormant_days=planted()["holdings"]["dormant_days"])
    rows = answer.found.items[answer.found.items["not_dormant"] == "fail"]
    expected = {
        (one["subject"], one["entitlement"]): one["last_seen_before"] for one in planted()["holdings"]["dormant"]
    }
    assert set(zip(rows["subject"], rows["entitlement"], strict=True)) == expected.keys()
    for row in rows.to_dict("records"):
        before = expected[row["subject"], row["entitlement"]]
        seen = None if row["last_seen_at"] != row["last_seen_at"] else row["last_seen_at"].isoformat()
        assert (seen is None) == (before is None)
        assert before is None or parse_time(seen.replace("+00:00", "Z")) < parse_time(before)


def test_a_redefined_role_whose_members_nobody_states_is_told() -> None:
    """It may have made anybody an admin: the conclusion names the event."""
    answer = ask(sample_trail())
    for one in planted()["roles_redefined"]:
        assert one["event_id"] in answer.found.tables["unread"]["event_id"].tolist()
        assert any(one["event_id"] in text for text in answer.conclusion.sentences)


def test_the_notebook_gives_a_packet_that_its_checks_accept(tmp_path: Path) -> None:
    """End to end; the listings' events and every grant and removal of what is listed are in it."""
    build_packet("access-review", str(sample_vault()), {}, tmp_path / "packet", keys=SAMPLE_KEY)
    files = read_folder(tmp_path / "packet")
    report = check(files)
    assert report.findings == ()
    for ends in ("opening", "closing"):
        for one in planted()["holdings"][ends]["events"]:
            assert one["event_id"].encode() in files["data/events.jsonl"]
    assert report.packet["references"] == ["ISO/IEC 27001:2022 A.5.18", "ISO/IEC 27001:2022 A.8.2"]


# --- the replay ----------------------------------------------------------------------------------------------


def test_a_moment_is_right_to_the_event(tmp_path: Path) -> None:
    """At the date: not yet. A microsecond before: held. The day begins where the asker lives."""
    made = [
        snapshot("s", "2026-01-01T00:00:00Z"),
        grant("before", "2026-05-31T23:59:59.999999Z", target="u_1"),
        grant("at", "2026-06-01T00:00:00Z", target="u_2"),
        grant("berlin", "2026-05-31T21:59:59.999999Z", target="u_3"),
        SEEN,
    ]
    with opened(tmp_path, made) as trail:
        assert [who for who, _ in held(ask(trail))] == ["u_1", "u_3"]
        assert [who for who, _ in held(ask(trail, tz="Europe/Berlin"))] == ["u_3"]
        assert [who for who, _ in held(ask(trail, "2026-06-01T00:00:00.000001Z"))] == ["u_1", "u_2", "u_3"]


def test_a_leap_day_is_a_day(tmp_path: Path) -> None:
    """2024-02-29 begins at its midnight."""
    made = [
        snapshot("s", "2024-01-01T00:00:00Z"),
        grant("a", "2024-02-28T23:59:59.999999Z", target="u_1"),
        grant("b", "2024-02-29T00:00:00Z", target="u_2"),
        SEEN,
    ]
    with opened(tmp_path, made) as trail:
        assert [who for who, _ in held(ask(trail, "2024-02-29"))] == ["u_1"]
        assert [who for who, _ in held(ask(trail, "2024-03-01"))] == ["u_1", "u_2"]


def test_order_is_that_of_occurring_not_of_arriving(tmp_path: Path) -> None:
    """A removal that arrives before its grant; a tie is decided by the place in the trail."""
    made = [
        snapshot("s", "2026-01-01T00:00:00Z"),
        revoke("r1", "2026-03-02T00:00:00Z", target="u_1"),
        grant("g1", "2026-03-01T00:00:00Z", target="u_1", recorded="2026-03-03T00:00:00Z"),
        grant("g2", "2026-03-05T00:00:00Z", target="u_2"),
        revoke("r2", "2026-03-05T00:00:00Z", target="u_2"),
        revoke("r3", "2026-03-05T00:00:00Z", target="u_3"),
        grant("g3", "2026-03-05T00:00:00Z", target="u_3"),
        SEEN,
    ]
    with opened(tmp_path, made) as trail:
        assert held(ask(trail)) == [("u_3", "admin")]


def test_a_grant_that_ended_is_not_held_and_is_told(tmp_path: Path) -> None:
    """By its own terms; an end that lies before its grant takes nobody off the list."""
    made = [
        snapshot("s", "2026-01-01T00:00:00Z", ("u_3", "admin")),
        *(
            event(
                f"g{n}",
                at="2026-03-01T00:00:00Z",
                context={"granted_role": "admin", "expires_at": end},
                target=f"u_{n}",
            )
            for n, end in enumerate(["2026-06-01T00:00:00Z", "2026-06-01T00:00:00.000001Z", "nonsense", "2026-04-01"])
        ),
        SEEN,
    ]
    with opened(tmp_path, made) as trail:
        answer = ask(trail)
        assert [who for who, _ in held(answer)] == ["u_1", "u_2", "u_3"]
        assert answer.found.tables["ended"]["subject"].tolist() == ["u_0"]
        assert any("1 holding had ended by the terms of the grant" in text for text in answer.conclusion.sentences)


def test_who_left_and_came_back_is_there(tmp_path: Path) -> None:
    """Left before the date: noted. Back before it: not. Left at it: not."""
    made = [
        snapshot("s", "2026-01-01T00:00:00Z", *((f"u_{n}", "viewer") for n in range(4))),
        leave("l0", "2026-03-01T00:00:00Z", "u_0"),
        leave("l1", "2026-03-01T00:00:00Z", "u_1"),
        join("j1", "2026-04-01T00:00:00Z", "u_1"),
        leave("l2", "2026-06-01T00:00:00Z", "u_2"),
        SEEN,
    ]
    with opened(tmp_path, made) as trail:
        answer = ask(trail)
        assert verdicts(answer) == {"s#1": "holder_active", "s#2": "pass", "s#3": "pass", "s#4": "pass"}
        assert reason(answer, "s#1") == "The holder left at 2026-03-01T00:00:00Z."


def test_only_what_succeeded_wakes_a_holder(tmp_path: Path) -> None:
    """A denied login may be anybody's; the ends of the days are exact; a trail that is too short is not testable."""
    days = {"u_0": "2026-05-02T00:00:00Z", "u_1": "2026-05-01T23:59:59.999999Z", "u_2": "2026-06-01T00:00:00Z"}
    made = [
        snapshot("s", "2026-01-01T00:00:00Z", *((f"u_{n}", "admin") for n in range(4))),
        *(event(f"e{who}", "user.login", at, actor=who) for who, at in days.items()),
        event("denied", "user.login", "2026-05-20T00:00:00Z", actor="u_3", outcome="denied"),
        SEEN,
    ]
    with opened(tmp_path, made) as trail:
        answer = ask(trail, dormant_days=30)
        assert [outcome(answer, f"s#{n}", "not_dormant") for n in range(1, 5)] == ["pass", "fail", "fail", "fail"]
        assert "last seen at 2026-05-01T23:59:59.999999Z" in reason(answer, "s#2")
        assert "never seen" in reason(answer, "s#4")
        assert set(verdicts(ask(trail, dormant_days=30, privileged=["root"])).values()) == {"pass"}
        assert set(verdicts(ask(trail, dormant_days=300)).values()) == {"pass", "not-testable"}


# --- the listings --------------------------------------------------------------------------------------------


def test_a_listing_that_lacks_a_part_is_not_used(tmp_path: Path) -> None:
    """Nor one of which a part stands twice; both are named."""
    made = [
        snapshot("old", "2026-01-01T00:00:00Z", ("u_1", "viewer")),
        snapshot("lone", "2026-02-01T00:00:00Z", ("u_2", "viewer"), parts=2),
        snapshot("one", "2026-03-01T00:00:00Z", ("u_3", "viewer")),
        snapshot("two", "2026-03-01T00:00:00Z", ("u_4", "viewer")),
        SEEN,
    ]
    with opened(tmp_path, made) as trail:
        answer = ask(trail)
        assert held(answer) == [("u_1", "viewer")]
        (told,) = [text for text in answer.conclusion.sentences if text.startswith("Not used")]
        assert "2026-02-01T00:00:00Z" in told and "2026-03-01T00:00:00Z" in told


def test_parts_make_one_listing(tmp_path: Path) -> None:
    """Two parts; changes between the moment that they state and their own recording count."""
    made = [
        snapshot("a", "2026-01-01T00:00:00Z", ("u_1", "viewer"), parts=2, when="2026-01-01T08:00:00Z"),
        grant("g", "2026-01-01T04:00:00Z", "editor", target="u_3"),
        snapshot("b", "2026-01-01T00:00:00Z", ("u_2", "viewer"), part=2, parts=2, when="2026-01-01T08:00:01Z"),
        SEEN,
    ]
    with opened(tmp_path, made) as trail:
        assert held(ask(trail)) == [("u_1", "viewer"), ("u_2", "viewer"), ("u_3", "editor")]


def test_without_an_opening_it_is_not_testable(tmp_path: Path) -> None:
    """The grants alone are shown; what only a later listing shows cannot be judged."""
    made = [
        grant("g", "2026-03-01T00:00:00Z"),
        snapshot("s", "2026-07-01T00:00:00Z", ("u_1", "admin"), ("u_2", "x")),
        SEEN,
    ]
    with opened(tmp_path, made[:1] + made[2:]) as trail:
        answer = ask(trail)
        assert answer.headline.startswith("Not testable: no opening listing.")
        assert verdicts(answer) == {"g": "not_dormant"}
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()
    with opened(tmp_path / "2", made) as trail:
        answer = ask(trail, privileged=[])
        assert answer.headline.startswith("Not testable: no opening listing.")
        assert verdicts(answer) == {"g": "pass", "s#2": "not-testable"}
        assert answer.exceptions.empty and unlogged(answer) == set()


def test_an_attached_opening_is_unsealed_evidence(tmp_path: Path) -> None:
    """Its lines are items; a removal takes them away; one from after the date is refused."""
    made = [revoke("r", "2026-03-01T00:00:00Z", "viewer", target="u_2"), grant("g", "2026-03-02T00:00:00Z", "x"), SEEN]
    given = listing(("u_2", "viewer"), ("u_3", "viewer"), at="2026-01-01T00:00:00Z")
    with opened(tmp_path, made) as trail:
        answer = ask(trail, listing=given, listing_is="opening")
        assert held(answer) == [("u_1", "x"), ("u_3", "viewer")]
        assert answer.found.items.set_index("item")["evidence"].to_dict() == {"g": "sealed", "listing:3": "unsealed"}
        assert any("1 holding rests" in text and "unsealed" in text for text in answer.conclusion.sentences)
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()
        with pytest.raises(MalformedError, match="cannot open"):
            ask(trail, listing=listing(("u_2", "viewer")), listing_is="opening")


def test_a_closing_listing_tells_what_nobody_logged(tmp_path: Path) -> None:
    """Too much, too little, granted later and lost, removed with a record, and the same again: each as it is."""
    made = [
        snapshot("s", "2026-01-01T00:00:00Z", ("u_1", "viewer"), ("u_2", "viewer"), ("u_3", "viewer")),
        revoke("r", "2026-06-10T00:00:00Z", "viewer", target="u_3"),
        grant("late", "2026-06-11T00:00:00Z", "editor", target="u_4"),
        SEEN,
    ]
    with opened(tmp_path, made) as trail:
        answer = ask(trail, listing=listing(("u_1", "viewer"), ("u_9", "root")))
        assert verdicts(answer) == {
            "s#1": "pass",
            "s#2": "in_closing",
            "s#3": "pass",
            "late": "in_closing",
            "listing:3": "explained",
        }
        assert outcome(answer, "s#3", "in_closing") == "n/a"
        assert unlogged(answer) == {
            ("vanished", "u_2", "viewer"),
            ("vanished", "u_4", "editor"),
            ("appeared", "u_9", "root"),
        }
        assert "unsealed evidence" in reason(answer, "listing:3")
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()
        with pytest.raises(MalformedError, match="lines 2 and 3 state different moments"):
            columns = ("subject", "entitlement", "as_of")
            rows = [("u_1", "a", "2026-07-01T00:00:00Z"), ("u_1", "b", "2026-07-02T00:00:00Z")]
            ask(trail, listing=attachment("listing", columns, rows))


def test_listings_of_two_systems_are_put_together(tmp_path: Path) -> None:
    """Each counts from its own moment; a system without a closing listing is not held against the other's."""
    first = [
        snapshot("a1", "2026-01-01T00:00:00Z", ("u_1", "viewer")),
        snapshot("b1", "2026-02-01T00:00:00Z", ("u_2", "editor"), system="other"),
        grant("g", "2026-01-15T00:00:00Z", "x", target="u_3"),
        revoke("r", "2026-01-20T00:00:00Z", "editor", target="u_2"),
    ]
    last = [snapshot("a2", "2026-07-01T00:00:00Z", ("u_1", "viewer"), ("u_3", "x"))]
    with opened(tmp_path, [*first, *last, SEEN]) as trail:
        answer = ask(trail)
        assert held(answer) == [("u_1", "viewer"), ("u_2", "editor"), ("u_3", "x")]
        assert set(answer.found.items["in_closing"]) == {"n/a"}
    both = [*first, *last, snapshot("b2", "2026-07-02T00:00:00Z", ("u_2", "editor"), system="other")]
    between = grant("between", "2026-07-01T12:00:00Z", "y", target="u_4")
    with opened(tmp_path / "2", [*both, between, SEEN]) as trail:
        answer = ask(trail)
        assert set(answer.found.items["in_closing"]) == {"pass"} and unlogged(answer) == set()


# --- other trails --------------------------------------------------------------------------------------------


def test_hostile_listings_and_names_stay_text(tmp_path: Path) -> None:
    """Holdings that are none, names that are markup or formulas, moments that are no times."""
    odd = {"at": "soon", "holdings": [1, {"subject": "u_1"}, {"subject": "<b>$x^2", "entitlement": "=1+1"}], "part": 1}
    odd |= {"parts": 1, "system": "<script>"}
    made = [
        event("s", "access.snapshot", "2026-01-01T00:00:00Z", odd),
        grant("g", "2026-02-01T00:00:00Z", "$\\frac$"),
        SEEN,
    ]
    with opened(tmp_path, made) as trail:
        answer = ask(trail)
        assert held(answer) == [("<b>$x^2", "=1+1"), ("u_1", "$\\frac$")]
        assert verdicts(answer).keys() == {"s#3", "g"}
        files = packed(trail, answer, tmp_path / "packet")
        assert files["report"].findings == () and b"<b>$x" not in files["data/report.html"]


def test_a_catalogue_that_knows_no_such_kinds(tmp_path: Path) -> None:
    """No grants, listings or leavings: said, not crashed."""
    bare = parse_catalog(b'format = "auditlib/catalog/v1"\n[actions]\n')
    with opened(tmp_path, [event("x", "some.thing", context={"a": 1})], catalog=bare) as trail:
        answer = ask(trail)
        assert (
            answer.headline
            == "Not testable: no opening listing. The trail's grants alone show 0 holdings of 0 holders."
        )
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


@pytest.mark.parametrize("day", ["2020-01-01", "2030-01-01"])
def test_a_date_outside_the_trail(tmp_path: Path, day: str) -> None:
    """Before it nothing is held; after it, that the trail ends is said."""
    made = [snapshot("s", "2026-01-01T00:00:00Z", ("u_1", "viewer")), SEEN]
    with opened(tmp_path, made) as trail:
        answer = ask(trail, day)
        assert answer.headline.startswith("Not testable") == (day < "2026")
        assert any("The trail ends at" in text for text in answer.conclusion.sentences) == (day > "2026")
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_a_cloudtrail_trail_answers_too(tmp_path: Path) -> None:
    """An import alone: no listing, its grants shown."""
    if not CLOUDTRAIL.is_dir():
        pytest.skip(f"{CLOUDTRAIL} is not here")
    vault = cloudtrail_vault(tmp_path, CLOUDTRAIL, parse_time("2026-11-01T00:00:00Z"))
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        answer = ask(trail, "2026-11-01", privileged=["*Admin*"])
        assert answer.headline.startswith("Not testable") and len(answer.found.items) > 0
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_a_sample_of_holdings_is_drawn() -> None:
    """By the auditor's word; every holding stays in the population."""
    answer = ask(sample_trail(), sample=Rule("stratified", size=12, strata=("entitlement",), word="heron"))
    tables = answer.answer().tables
    assert len(tables["sample"]) == 12 and len(tables["holdings"]) == len(answer.found.items)


# --- the same by hand ----------------------------------------------------------------------------------------


def slow(made: list[Record], at: int) -> set[tuple[str, str]]:
    """Who holds what, event by event."""
    found: set[tuple[str, str]] = set()
    begin = parse_time("2026-01-01T00:00:00Z")
    ends: dict[tuple[str, str], list[int | None]] = {}
    for record in sorted(made, key=lambda one: (parse_time(one.event.occurred_at), made.index(one))):
        told, when = record.event, parse_time(record.event.occurred_at)
        if told.action == "access.snapshot":
            for one in told.context["holdings"]:
                ends.setdefault((one["subject"], one["entitlement"]), []).append(None)
        elif begin <= when < at and told.outcome == "success":
            if told.action == "role.grant":
                end = told.context.get("expires_at")
                ends.setdefault((told.target.id, told.context["granted_role"]), []).append(end and parse_time(end))
            elif told.action == "role.revoke":
                ends[told.target.id, told.context["revoked_role"]] = []
    for pair, given in ends.items():
        if any(end is None or end > at for end in given):
            found.add(pair)
    return found


def test_it_equals_the_plainest_reading(tmp_path: Path) -> None:
    """Random trails: listed, granted, ended, removed, again and out of order, at random moments."""
    for seed in range(12 if LONG else 4):
        chance = random.Random(seed)
        pairs = [(f"u_{n}", role) for n in range(4) for role in ("a", "b")]
        made = [snapshot("s", "2026-01-01T00:00:00Z", *chance.sample(pairs, 3), when="2026-01-01T00:00:00Z")]
        for number in range(60):
            who, role = chance.choice(pairs)
            when = parse_time("2026-01-01T00:00:00Z") + chance.randrange(1, 90) * 86_400 * SECOND
            text = format_time(when)
            result = chance.choice(["success"] * 4 + ["denied"])
            if chance.random() < 0.5:
                made.append(revoke(f"e{number}", text, role, target=who, outcome=result))
                continue
            context = {"granted_role": role}
            if chance.random() < 0.5:
                context["expires_at"] = format_time(when + chance.randrange(1, 40) * 86_400 * SECOND)
            made.append(event(f"e{number}", at=text, context=context, target=who, outcome=result))
        with opened(tmp_path / str(seed), [*made, SEEN]) as trail:
            for day in ("2026-01-02", "2026-02-01", "2026-02-15", "2026-05-01"):
                assert set(held(ask(trail, day))) == slow(made, parse_time(f"{day}T00:00:00Z")), (seed, day)
