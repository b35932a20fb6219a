"""The denied-access answer: every refusal counted, every burst found, and what came after it, right to the event."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from happenings import MINUTE, NOON, happened, late
from packets import SAMPLE_KEY, planted, sample_trail, sample_vault, trail_of
from packing import cloudtrail, packed

from auditlib.evidence import DeniedAccess, denied_access
from auditlib.evidence.denied_access import MAX_OF_A_BURST
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.event import Actor, Event, Receipt, Record, Target
from auditlib.formats.times import SECOND, format_time, from_datetime, parse_time
from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet
from auditlib.sampling import Rule

WINDOW = {"since": "2026-03-01", "until": "2026-06-01"}
DAY = {"since": "2026-03-10", "until": "2026-03-11"}


def failures(number: int, start: int = NOON, every: int = SECOND, name: str = "f", **more: Any) -> list[Record]:
    return [happened(f"{name}{n}", start + n * every, **more) for n in range(number)]


@cache
def sample_answer() -> DeniedAccess:
    return denied_access(sample_trail(), **WINDOW)


@cache
def sample_records() -> list[dict[str, Any]]:
    """Every event of the sample in the window."""
    rows: list[dict[str, Any]] = sample_trail().events(**WINDOW).df().to_dict("records")
    return rows


# --- the sample ----------------------------------------------------------------------------------------------


def test_the_bursts_are_those_planted() -> None:
    """The address that tried passwords, and the agent who asked for what support may not do; and no other."""
    found = sample_answer().found.items.set_index("item")
    told = {
        row["first"]["event_id"]: (count, row["first"]["occurred_at"], row["last"]["occurred_at"])
        for row, count in (
            (planted()["brute_force"]["failures"], planted()["brute_force"]["failures"]["count"]),
            (planted()["denied_burst"], planted()["denied_burst"]["count"]),
        )
    }
    assert {
        item: (
            row["refusals"],
            format_time(from_datetime(row["began_at"])),
            format_time(from_datetime(row["ended_at"])),
        )
        for item, row in found.iterrows()
    } == told
    brute, denied = planted()["brute_force"], planted()["denied_burst"]
    assert found["common"][brute["failures"]["first"]["event_id"]] == (
        f"account user:{brute['user']} and address {brute['ip']}"
    )
    assert found["common"][denied["first"]["event_id"]] == f"account user:{denied['actor']}"


def test_what_followed_the_brute_force_is_what_was_planted() -> None:
    """The login that succeeded, and the three things done in its session; nothing follows the other burst."""
    brute, answer = planted()["brute_force"], sample_answer()
    tables = answer.answer().tables
    item = brute["failures"]["first"]["event_id"]
    assert tables["successes"][["burst", "event_id"]].to_numpy().tolist() == [[item, brute["success"]["event_id"]]]
    assert tables["followed"]["event_id"].tolist() == brute["events_after"]
    assert set(tables["followed"]["burst"]) == {item}
    verdicts = dict(zip(answer.found.items["item"], answer.found.items["verdict"], strict=True))
    assert verdicts == {
        item: "not_followed_by_success",
        planted()["denied_burst"]["first"]["event_id"]: "pass",
    }
    assert len(tables["refusals"]) == brute["failures"]["count"] + planted()["denied_burst"]["count"]


def test_every_refusal_is_counted_by_day_actor_target_and_address() -> None:
    """Against plain Python over every event of the window."""
    refused = [
        row for row in sample_records()
        if row["outcome"] == "denied" or (row["outcome"] == "failure" and row["action"] == "user.login")
    ]  # fmt: skip
    logins = [row for row in refused if row["action"] == "user.login"]
    tables = sample_answer().answer().tables
    for name, key in (
        ("actors", lambda row: (row["actor_type"], row["actor_id"])),
        ("targets", lambda row: (row["target_type"], row["target_id"])),
        ("addresses", lambda row: (json.loads(row["context"]).get("ip"),)),
        ("actions", lambda row: (row["action"], row["outcome"])),
        ("days", lambda row: (row["occurred_at"].strftime("%Y-%m-%d"),)),
    ):
        expected = Counter(map(key, refused))
        expected.pop((None,), None)
        table = tables[name]
        columns = list(table.columns[: len(next(iter(expected)))])
        total = table["failed_logins"] + table["denied"]
        found = {tuple(k): n for k, n in zip(table[columns].to_numpy().tolist(), total.tolist(), strict=True) if n}
        assert found == dict(expected), name
        if name != "addresses":
            assert table["failed_logins"].sum() == len(logins)
    assert len(tables["days"]) == 92
    assert sample_answer().headline.startswith(
        f"{len(logins):,} failed logins and {len(refused) - len(logins):,} denied"
    )


def test_the_notebook_makes_a_packet_that_passes_its_checks(tmp_path: Path) -> None:
    """From the notebook to the packet: the records of the bursts and of what followed, and no other refusal."""
    built = build_packet("denied-access", str(sample_vault()), {}, tmp_path / "packet", keys=SAMPLE_KEY)
    report = check_packet(tmp_path / "packet", [SAMPLE_KEY])
    assert report.findings == ()
    assert built.headline == sample_answer().headline
    assert [row["item"] for row in built.exceptions] == [planted()["brute_force"]["failures"]["first"]["event_id"]]
    assert report.records == 240 + 60 + 1 + 3


def test_a_sample_is_drawn_from_the_bursts() -> None:
    """One of two, by a word; the packet says how."""
    answer = denied_access(sample_trail(), **WINDOW, sample=Rule("simple", size=1, word="heron"))
    assert len(answer.answer().tables["sample"]) == 1
    assert answer.answer().population["sample"]["word"] == "heron"


# --- what makes a burst --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gap", "bursts"), [(0, 1), (1, 0)])
def test_a_burst_is_so_many_within_so_long_to_the_microsecond(tmp_path: Path, gap: int, bursts: int) -> None:
    """The twentieth exactly ten minutes after the first counts; a microsecond later it does not."""
    made = [*failures(19), happened("last", NOON + 10 * MINUTE + gap), late()]
    with trail_of(tmp_path, made) as trail:
        assert len(denied_access(trail, **DAY).found.items) == bursts


def test_a_burst_over_midnight_is_seen_from_both_days(tmp_path: Path) -> None:
    """Ten on each side of the end of a period: neither day alone holds a burst, and each is told of it."""
    midnight = parse_time("2026-03-11T00:00:00Z")
    made = [*failures(10, midnight - 10 * SECOND, name="a"), *failures(10, midnight, name="b"), late()]
    with trail_of(tmp_path, made) as trail:
        before, after = denied_access(trail, **DAY), denied_access(trail, since="2026-03-11", until="2026-03-12")
        assert before.found.items[["item", "refusals"]].to_numpy().tolist() == [["a0", 20]]
        assert after.found.items[["item", "refusals"]].to_numpy().tolist() == [["b0", 20]]
        assert before.refusals.failed_logins == after.refusals.failed_logins == 10
        packed(trail, before, tmp_path)


def test_an_actor_nobody_knows_makes_no_burst_alone(tmp_path: Path) -> None:
    """Forty anonymous failures at forty accounts from forty addresses are counted, and are none."""
    made = [happened(f"f{n}", NOON + n, target=f"user:u_{n}", ip=f"203.0.113.{n}") for n in range(40)]
    with trail_of(tmp_path, [*made, late()]) as trail:
        answer = denied_access(trail, **DAY)
        assert answer.refusals.failed_logins == 40
        assert answer.found.items.empty
        assert "none of them came in a burst" in answer.headline


def test_one_address_against_many_accounts_is_a_burst(tmp_path: Path) -> None:
    """Spraying: no account sees more than one; a success from that address at any of them is told."""
    made = [happened(f"f{n}", NOON + n * SECOND, target=f"user:u_{n}", ip="203.0.113.9") for n in range(30)]
    good = happened(
        "in", NOON + 40 * SECOND, outcome="success", actor="user:u_77", target="user:u_77", ip="203.0.113.9"
    )
    with trail_of(tmp_path, [*made, good, late()]) as trail:
        (row,) = denied_access(trail, **DAY).found.items.to_dict("records")
        assert (row["common"], row["success"], row["verdict"]) == (
            "address 203.0.113.9", "in", "not_followed_by_success",
        )  # fmt: skip


def test_a_system_that_is_signed_in_to_is_no_account(tmp_path: Path) -> None:
    """Twenty strangers fail to sign in to one system: that says nothing of any account."""
    made = [
        happened(f"f{n}", NOON + n, target="aws.signin:signin.amazonaws.com", ip=f"203.0.113.{n}") for n in range(20)
    ]
    with trail_of(tmp_path, [*made, late()]) as trail:
        assert denied_access(trail, **DAY).found.items.empty


def test_events_out_of_order_make_the_same_bursts(tmp_path: Path) -> None:
    """Recorded in any order, in any batch: bursts go by when things occurred."""
    made = [*failures(25), happened("ok", NOON + MINUTE, outcome="success", actor="user:u_1", session="s"), late()]
    answers = []
    for number in range(2):
        mixed = made if number == 0 else Random(5).sample(made, len(made))
        at = NOON + 6 * 24 * 60 * MINUTE
        recorded = [happened_again(record, at + n) for n, record in enumerate(mixed)]
        folder = tmp_path / str(number)
        folder.mkdir()
        with trail_of(folder, recorded[:9], recorded[9:]) as trail:
            items = denied_access(trail, **DAY).found.items
            answers.append(items.drop(columns=["sequence", "row", "recorded_at"]).to_dict("records"))
    assert answers[0] == answers[1]
    assert answers[0][0]["success"] == "ok"


def happened_again(record: Record, recorded: int) -> Record:
    return Record(record.event, Receipt(format_time(recorded), record.receipt.source, None))


# --- what counts as a success --------------------------------------------------------------------------------


def followed_by(tmp_path: Path, *after: Record, denied: list[Record] | None = None, ends: int = 5) -> tuple[Any, Any]:
    with trail_of(tmp_path, [*(denied or failures(20)), *after, late(ends)]) as trail:
        (row,) = denied_access(trail, **DAY).found.items.to_dict("records")
        return (None if pd.isna(row["success"]) else row["success"]), row["verdict"]


def test_another_account_that_signs_in_is_no_success(tmp_path: Path) -> None:
    """Neither the account nor the address of the burst."""
    good = happened("ok", NOON + MINUTE, outcome="success", actor="user:u_2", target="user:u_2", ip="203.0.113.1")
    assert followed_by(tmp_path, good) == (None, "pass")


def test_a_success_before_the_burst_was_one_is_none(tmp_path: Path) -> None:
    """Somebody signs in between the first failures: nineteen failures are no burst yet."""
    good = happened("ok", NOON + 5 * SECOND, outcome="success", actor="user:u_1")
    assert followed_by(tmp_path, good) == (None, "pass")


@pytest.mark.parametrize(("beyond", "success"), [(0, "ok"), (1, None)])
def test_a_success_counts_for_so_many_hours_to_the_microsecond(
    tmp_path: Path, beyond: int, success: str | None
) -> None:
    """24 hours after the last refusal, and not a microsecond more."""
    at = NOON + 19 * SECOND + 24 * 60 * MINUTE + beyond
    assert followed_by(tmp_path, happened("ok", at, outcome="success", actor="user:u_1"))[0] == success


def test_the_permission_that_was_denied_decides(tmp_path: Path) -> None:
    """Reading the same invoice was never refused; paying another one was."""
    who = {"actor": "user:u_3", "action": "permission.check", "outcome": "denied", "target": "invoice:i_1"}
    denied = failures(20, **who, permission="payout.write")
    how = {"actor": "user:u_3", "action": "permission.check", "outcome": "success"}
    read = happened("read", NOON + MINUTE, **how, target="invoice:i_1", permission="invoice.read")
    paid = happened("paid", NOON + 2 * MINUTE, **how, target="invoice:i_9", permission="payout.write")
    assert followed_by(tmp_path, read, paid, denied=denied) == ("paid", "not_followed_by_success")


def test_without_a_permission_the_target_decides(tmp_path: Path) -> None:
    """The same action on another target was not refused."""
    who = {"actor": "user:u_3", "action": "data.export", "target": "table:t_1"}
    other = happened("other", NOON + MINUTE, "data.export", "success", actor="user:u_3", target="table:t_2")
    same = happened("same", NOON + 2 * MINUTE, "data.export", "success", actor="user:u_3", target="table:t_1")
    assert followed_by(tmp_path, other, same, denied=failures(20, outcome="denied", **who))[0] == "same"


def test_a_trail_that_ends_too_soon_cannot_tell(tmp_path: Path) -> None:
    """The hours after the burst are not over: not testable, never a pass."""
    with trail_of(tmp_path, failures(20)) as trail:
        items = denied_access(trail, **DAY).found.items
        assert items["verdict"].tolist() == ["not-testable"]
        assert "ends before" in items["reason"][0]


# --- against a slow reference --------------------------------------------------------------------------------


def slow_bursts(records: list[Record], events: int, span: int) -> list[set[str]]:
    """Every window of refusals of one key, merged where they share one: plain Python, nothing clever."""
    by_key: dict[str, list[tuple[int, int, str]]] = {}
    for place, record in enumerate(records):
        for key in keys_of(record):
            by_key.setdefault(key, []).append((parse_time(record.event.occurred_at), place, record.event.event_id))
    found: list[set[str]] = []
    for rows in by_key.values():
        rows.sort()
        windows = (rows[n : n + events] for n in range(len(rows) - events + 1))
        found += [{row[2] for row in window} for window in windows if window[-1][0] - window[0][0] <= span]
    merged: list[set[str]] = []
    for one in found:
        touching = [other for other in merged if other & one]
        merged = [other for other in merged if not other & one] + [one.union(*touching)]
    return merged


def keys_of(record: Record) -> Iterator[str]:
    event = record.event
    login = event.action == "user.login"
    if event.outcome == "success" or (event.outcome == "failure" and not login):
        return
    keys = set()
    if event.actor.type != "anonymous":
        keys.add(f"account {event.actor.type}:{event.actor.id}")
    if login and event.target.type in ("user", "support", "account"):
        keys.add(f"account {event.target.type}:{event.target.id}")
    if "ip" in event.context:
        keys.add(f"address {event.context['ip']}")
    yield from sorted(keys)


def slow_success(records: list[Record], burst: set[str], bursts: list[Any], until: int) -> str | None:
    """The first success at what was refused to a key that makes the burst one, from the nth refusal on."""
    inside = [record for record in records if record.event.event_id in burst]
    keys = {key for key, ids in bursts if ids <= burst}
    refused = {
        (key, thing(record))
        for key, ids in bursts
        if key in keys and ids <= burst
        for record in inside
        if record.event.event_id in ids
    }
    times = sorted(parse_time(record.event.occurred_at) for record in inside)
    good = [
        (parse_time(record.event.occurred_at), place, record.event.event_id)
        for place, record in enumerate(records)
        if record.event.outcome == "success" and times[3] <= parse_time(record.event.occurred_at) <= times[-1] + until
        for key in keys_of(failed(record))
        if (key, thing(record)) in refused
    ]
    return min(good)[2] if good else None


def failed(record: Record) -> Record:
    event = record.event
    return Record(
        Event(event.action, event.actor, event.context, event.event_id, event.occurred_at, "denied", event.target),
        record.receipt,
    )


def thing(record: Record) -> str:
    event = record.event
    if event.action == "user.login":
        return "login"
    return f"{event.action} {event.context.get('permission') or event.target}"


@pytest.mark.parametrize("draw", range(12))
def test_bursts_and_successes_are_those_of_the_slow_way(tmp_path: Path, draw: int) -> None:
    """Random trails of few accounts and addresses: the same bursts, the same refusals in each, the same success."""
    random, records = Random(draw), []
    at = NOON
    for n in range(400):
        at += random.choice([0, 1, 7, 20, 20, 59, 61, 300]) * SECOND
        who = random.choice(["anonymous:anonymous", "user:u_1", "user:u_2", "service:s_1"])
        action = random.choice(["user.login", "user.login", "permission.check", "data.export"])
        context = {} if random.random() < 0.5 else {"ip": random.choice(["203.0.113.1", "203.0.113.2"])}
        if action == "permission.check" and random.random() < 0.7:
            context["permission"] = random.choice(["a.read", "b.read"])
        target = random.choice(["user:u_1", "user:u_2", "system:x", "table:t_1"])
        outcome = random.choice(["failure", "failure", "denied", "success"])
        records.append(happened(f"e{n}", at, action, outcome, actor=who, target=target, recorded=NOON, **context))
    random.shuffle(records)
    with trail_of(tmp_path, records[:170], [*records[170:], late(30)]) as trail:
        period = {"since": "2026-03-09", "until": "2026-04-01"}
        answer = denied_access(trail, **period, burst_events=4, burst_minutes=3, follow_hours=1)
        expected = slow_bursts(records, 4, 3 * MINUTE)
        table = answer.answer().tables["refusals"]
        found = {item: set(rows["event_id"]) for item, rows in table.groupby("burst")}
        assert sorted(map(sorted, found.values())) == sorted(map(sorted, expected))
        assert expected
        single = [
            (key, ids) for key in {key for record in records for key in keys_of(record)}
            for ids in slow_bursts([only(record, key) for record in records if key in keys_of(record)], 4, 3 * MINUTE)
        ]  # fmt: skip
        for row in answer.found.items.to_dict("records"):
            success = slow_success(records, found[row["item"]], single, 60 * MINUTE)
            assert (None if pd.isna(row["success"]) else row["success"]) == success


def only(record: Record, key: str) -> Record:
    """The same refusal of one key alone: an anonymous login at an account that stands for the key."""
    event = record.event
    target = Target(key, "user")
    told = Event(
        "user.login", Actor("anonymous", None, "anonymous"), {}, event.event_id, event.occurred_at, "denied", target
    )
    return Record(told, record.receipt)


# --- any trail, any period -----------------------------------------------------------------------------------


def test_a_period_without_any_is_told_apart_from_a_silent_one(tmp_path: Path) -> None:
    """A source that recorded logins but no refusal; and a period in which nothing was alive."""
    good = happened("ok", NOON, outcome="success", actor="user:u_1")
    with trail_of(tmp_path, [good, late(40)]) as trail:
        assert denied_access(trail, **DAY).headline.startswith("No failed login and no denied action")
        outside = denied_access(trail, since="2031-01-01", until="2031-02-01")
        assert outside.headline.startswith("Not answerable")
        packed(trail, outside, tmp_path)


def test_days_are_those_of_the_zone_and_the_last_microsecond_counts(tmp_path: Path) -> None:
    """A leap day in Auckland, 13 hours ahead; the first and the last microsecond of it are in, the next is not."""
    first, after = parse_time("2028-02-28T11:00:00Z"), parse_time("2028-02-29T11:00:00Z")
    made = [happened(f"e{n}", at) for n, at in enumerate([first - 1, first, after - 1, after])]
    with trail_of(tmp_path, made) as trail:
        answer = denied_access(trail, since="2028-02-29", until="2028-03-01", tz="Pacific/Auckland")
        days = answer.answer().tables["days"]
        assert days[["day", "failed_logins"]].to_numpy().tolist() == [["2028-02-29", 2]]


def test_more_refusals_than_are_shown_are_counted_and_said(tmp_path: Path) -> None:
    """The first of a long burst and its last are shown; the number left out is stated, the packet passes."""
    made = failures(MAX_OF_A_BURST + 120)
    with trail_of(tmp_path, [*made, late()]) as trail:
        answer = denied_access(trail, **DAY)
        table = answer.answer().tables["refusals"]
        assert answer.found.items["refusals"].tolist() == [len(made)]
        assert table["event_id"].tolist() == [f"f{n}" for n in [*range(MAX_OF_A_BURST - 1), len(made) - 1]]
        assert any("120 records of them were left out" in line for line in answer.answer().procedure)
        packed(trail, answer, tmp_path)


def test_a_catalogue_without_logins_is_said_so(tmp_path: Path) -> None:
    """What the catalogue in force does not know cannot be drawn; denials are, whatever their action."""
    catalog = parse_catalog(b'format = "auditlib/catalog/v1"\n[actions."a.b"]\nkind = "x"\n')
    with trail_of(
        tmp_path, [*failures(30), *failures(25, outcome="denied", name="d"), late()], catalog=catalog
    ) as trail:
        answer = denied_access(trail, **DAY)
        assert (answer.refusals.failed_logins, answer.refusals.denied) == (0, 25)
        assert any("no action of kind login" in line for line in answer.answer().conclusion)


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    """Ids and addresses that are quotes, markup, formulas: in the tables as they are, harmless in the report."""
    evil = "'); DROP TABLE x; -- <script>alert(1)</script> $\\frac$ \u202e"
    made = failures(20, actor=f"user:{evil}", target=f"user:{evil}", ip=evil)
    odd = [happened(f"o{n}", NOON + n, ip={"a": 1} if n % 2 else 7) for n in range(4)]
    with trail_of(tmp_path, [*made, *odd, late()]) as trail:
        answer = denied_access(trail, **DAY)
        assert answer.found.items["common"].tolist() == [f"account user:{evil} and address {evil}"]
        files = packed(trail, answer, tmp_path)
        assert b"<script>alert" not in files["data/report.html"]


def test_a_cloudtrail_trail_answers_too(tmp_path: Path) -> None:
    """An import alone: its denied calls, and a packet that passes."""
    with cloudtrail(tmp_path) as trail:
        answer = denied_access(trail, since="2023-01-01", until="2024-01-01")
        denied = trail.events(outcome="denied", since="2023-01-01", until="2024-01-01").df()
        assert answer.refusals.denied == (~denied["action"].eq("signin.console_login")).sum() > 0
        assert len(answer.found.items) > 0
        packed(trail, answer, tmp_path)
