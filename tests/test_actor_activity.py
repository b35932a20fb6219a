"""The actor-activity answer: everything one actor did, nothing of anybody else, and what was done to their access."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from happenings import MINUTE, NOON, happened, late
from packets import SAMPLE_KEY, planted, sample_trail, sample_vault, trail_of
from packing import cloudtrail, packed

from auditlib.errors import MalformedError
from auditlib.evidence import ActorActivity, activity, actor_activity
from auditlib.formats.event import Record
from auditlib.formats.times import DAY, format_time, from_datetime, parse_time
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet

WINDOW = {"since": "2026-03-01", "until": "2026-06-01"}
TODAY = {"since": "2026-03-10", "until": "2026-03-11"}


@cache
def of(actor: str) -> ActorActivity:
    return actor_activity(sample_trail(), actor=actor, **WINDOW)


def granted(event_id: str, at: int, entitlement: str, to: str = "u_1", action: str = "role.grant") -> Record:
    key = "granted_role" if action == "role.grant" else "revoked_role"
    return happened(
        event_id, at, action, "success", actor="user:u_9", target=f"user:{to}", session="s", **{key: entitlement}
    )


def ids(answer: ActorActivity) -> list[str]:
    return answer.found.items["item"].tolist()


# --- the sample ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [0, 1])
def test_what_somebody_did_after_leaving_is_what_was_planted(case: int) -> None:
    """Each event after the account's owner had left, and how many it says there were."""
    told = planted()["terminated_active"][case]
    answer = of(told["actor"])
    events = answer.found.items
    after = events[events["occurred_at"].map(from_datetime) > parse_time(told["left_at"])]
    assert after["item"].tolist() == [event["event_id"] for event in told["events"]]
    number = "1 event" if len(after) == 1 else f"{len(after)} events"
    assert f"Left at {told['left_at']}; {number} of the period came after that." in answer.answer().conclusion


def test_the_burst_of_denials_is_among_what_failed() -> None:
    """Sixty denials of one permission, from the first to the last."""
    told = planted()["denied_burst"]
    table = of(told["actor"]).answer().tables["not_done"].set_index("event_id")
    burst = table[table["occurred_at"].map(from_datetime).between(*(
        parse_time(told[end]["occurred_at"]) for end in ("first", "last")
    ))]  # fmt: skip
    assert (len(burst), burst.index[0], burst.index[-1]) == (
        told["count"], told["first"]["event_id"], told["last"]["event_id"],
    )  # fmt: skip


@pytest.mark.parametrize("actor", ["u_1012", "u_1029", "u_1003"])
def test_what_was_held_at_the_end_is_what_was_planted(actor: str) -> None:
    """The privileged entitlements at the first of June, opening listing included."""
    planted_holders = planted()["holdings"]["held_at"]["2026-06-01"]
    expected = {entitlement for entitlement, holders in planted_holders.items() if actor in holders}
    found = set(of(actor).answer().tables["held"]["entitlement"]) & set(planted_holders)
    assert found == expected


def test_everything_and_nothing_else_against_plain_python() -> None:
    """Every event of the window by that id, whatever its type and outcome, in the order of time."""
    everything: list[dict[str, Any]] = sample_trail().events(**WINDOW).df().to_dict("records")
    rows = sorted(
        (row for row in everything if row["actor_id"] == "u_1030"),
        key=lambda row: (row["occurred_at"], row["sequence"], row["row"]),
    )
    answer = of("u_1030")
    assert ids(answer) == [row["event_id"] for row in rows]
    tables = answer.answer().tables
    by_action = Counter((row["action"], row["outcome"]) for row in rows)
    found = tables["summary"].set_index(["action", "outcome"])["events"].to_dict()
    assert found == dict(by_action)
    assert tables["sessions"]["events"].sum() == len(rows)
    assert tables["days"][["success", "failure", "denied"]].to_numpy().sum() == len(rows)
    stated = {json.loads(row["context"]).get("ip") for row in rows} - {None}
    assert {ip for cell in tables["sessions"]["addresses"] for ip in cell.split(", ") if ip} == stated


def test_a_type_narrows_an_id() -> None:
    """The same id as a person and as support tooling."""
    person, tooling = set(ids(of("user:u_1030"))), set(ids(of("support:u_1030")))
    assert person
    assert tooling
    assert person | tooling == set(ids(of("u_1030")))
    assert not person & tooling


def test_the_notebook_makes_a_packet_that_passes_its_checks(tmp_path: Path) -> None:
    """From the notebook to the packet; a job whose id holds a colon."""
    given = {"actor": "cron:nightly-backup"}
    built = build_packet("actor-activity", str(sample_vault()), given, tmp_path / "packet", keys=SAMPLE_KEY)
    report = check_packet(tmp_path / "packet", [SAMPLE_KEY])
    assert report.findings == ()
    assert built.headline == of("cron:nightly-backup").headline
    assert report.records == len(ids(of("cron:nightly-backup"))) > 0


# --- whom and when -------------------------------------------------------------------------------------------


def test_an_id_is_no_pattern(tmp_path: Path) -> None:
    """`*` and `_` are themselves; capitals matter; another's id that only resembles is another's."""
    names = ["u_1", "ux1", "U_1", "u_1 ", "u_10", "*", "u_*"]
    made = [happened(f"e{n}", NOON + n, actor=f"user:{name}") for n, name in enumerate(names)]
    with trail_of(tmp_path, [*made, late()]) as trail:
        for n, name in enumerate(names):
            assert ids(actor_activity(trail, actor=name, **TODAY)) == [f"e{n}"]


def test_nobody_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """No id, or one that no event can hold."""
    with trail_of(tmp_path, [late()]) as trail:
        for actor in ("", "u" * 2_000):
            with pytest.raises(MalformedError, match="name one actor"):
                actor_activity(trail, actor=actor, **TODAY)


def test_too_much_for_one_list_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a part as if it were everything."""
    monkeypatch.setattr(activity, "MAX_LISTED", 5)
    made = [happened(f"e{n}", NOON + n, actor="service:s") for n in range(6)]
    with trail_of(tmp_path, made) as trail, pytest.raises(MalformedError, match="more than 5 things"):
        actor_activity(trail, actor="s", **TODAY)


def test_the_ends_of_the_period_hold_to_the_microsecond(tmp_path: Path) -> None:
    """A leap day in Auckland, recorded in any order: in the order of time, first and last microsecond included."""
    first, after = parse_time("2028-02-28T11:00:00Z"), parse_time("2028-02-29T11:00:00Z")
    times = [first - 1, first, after - 1, after]
    made = [happened(f"e{n}", at, actor="user:u_1", recorded=after + 9) for n, at in enumerate(times)]
    with trail_of(tmp_path, made[::-1]) as trail:
        answer = actor_activity(trail, actor="u_1", since="2028-02-29", until="2028-03-01", tz="Pacific/Auckland")
        assert ids(answer) == ["e1", "e2"]
        days = answer.answer().tables["days"]
        assert days[["day", "failure"]].to_numpy().tolist() == [["2028-02-29", 2]]


# --- what was done to them -----------------------------------------------------------------------------------


def test_changes_of_access_in_the_period_and_what_was_held_at_its_end(tmp_path: Path) -> None:
    """Granted before and kept, granted and removed, granted at the end's microsecond, which is after it."""
    end = parse_time("2026-03-11T00:00:00Z")
    made = [
        granted("kept", NOON - 3 * DAY, "viewer"),
        granted("in", NOON, "admin"),
        granted("out", NOON + MINUTE, "admin", action="role.revoke"),
        granted("last", end - 1, "editor"),
        granted("after", end, "owner"),
        granted("other", NOON, "admin", to="u_2"),
        happened("left", end - 2, "employee.leave", "success", actor="service:hr", target="user:u_1"),
        happened("did", end - 1, "user.login", "success", actor="user:u_1", session="s"),
    ]
    with trail_of(tmp_path, [*made, late()]) as trail:
        answer = actor_activity(trail, actor="user:u_1", **TODAY)
        tables = answer.answer().tables
        assert tables["done_to"]["event_id"].tolist() == ["in", "out", "left", "last"]
        assert tables["held"][["entitlement", "event_id"]].to_numpy().tolist() == [
            ["editor", "last"],
            ["viewer", "kept"],
        ]
        told = answer.answer().conclusion
        assert f"Left at {format_time(end - 2)}; 1 event of the period came after that." in told
        packed(trail, answer, tmp_path)


@pytest.mark.parametrize("draw", range(6))
def test_what_is_held_is_that_of_the_slow_way(tmp_path: Path, draw: int) -> None:
    """Random grants and removals, recorded in any order, against plain Python."""
    random, made = Random(draw), []
    for n in range(40):
        action = random.choice(["role.grant", "role.revoke"])
        made.append(granted(f"e{n}", NOON + n * MINUTE, random.choice("abcd"), random.choice(["u_1", "u_2"]), action))
    end = NOON + 30 * MINUTE
    held: set[str] = set()
    for record in made:
        if record.event.target.id == "u_1" and parse_time(record.event.occurred_at) < end:
            (entitlement,) = record.event.context.values()
            (held.add if record.event.action == "role.grant" else held.discard)(entitlement)
    random.shuffle(made)
    with trail_of(tmp_path, made[:15], [*made[15:], late()]) as trail:
        answer = actor_activity(trail, actor="u_1", since="2026-03-10", until=format_time(end))
        assert set(answer.answer().tables["held"]["entitlement"]) == held


# --- any trail, any period -----------------------------------------------------------------------------------


def test_an_empty_period_and_one_outside_the_trail(tmp_path: Path) -> None:
    """Somebody else was alive, or nobody was; both make packets that pass."""
    with trail_of(tmp_path, [happened("e", NOON, actor="user:u_2"), late()]) as trail:
        assert (
            actor_activity(trail, actor="u_1", **TODAY).headline == "Nothing that u_1 did was recorded in the period."
        )
        outside = actor_activity(trail, actor="u_2", since="2031-01-01", until="2031-02-01")
        assert outside.headline.startswith("Not answerable")
        packed(trail, outside, tmp_path)


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    """An actor whose id is markup, SQL and a formula."""
    evil = "=1'); DROP TABLE x; -- <script>alert(1)</script> \u202e"
    made = [happened("e", NOON, actor=f"user:{evil}", session=evil, ip=evil), granted("g", NOON, evil, to=evil)]
    with trail_of(tmp_path, [*made, late()]) as trail:
        answer = actor_activity(trail, actor=evil, **TODAY)
        assert ids(answer) == ["e"]
        assert answer.answer().tables["held"]["entitlement"].tolist() == [evil]
        assert b"<script>alert" not in packed(trail, answer, tmp_path)["data/report.html"]


def test_a_cloudtrail_trail_answers_too(tmp_path: Path) -> None:
    """An import alone: the busiest actor, and a packet that passes."""
    with cloudtrail(tmp_path) as trail:
        period = {"since": "2023-01-01", "until": "2024-01-01"}
        actor = trail.events(**period).count_by("actor_id").column("actor_id")[0].as_py()
        answer = actor_activity(trail, actor=actor, **period)
        assert sorted(ids(answer)) == sorted(trail.events(actor=actor, **period).df()["event_id"])
        packed(trail, answer, tmp_path)
