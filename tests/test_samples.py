"""The sample trail is the same everywhere, keeps every rule, and holds exactly what planted.json says."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from auditlib.formats.catalog import parse_catalog
from auditlib.formats.event import Event, Record, check_record, record_bytes, source_name
from auditlib.formats.times import SECOND, parse_time

ROOT = Path(__file__).parent.parent
GENERATOR = ROOT / "data-samples" / "generate.py"
HOUR = 3600 * SECOND


def load() -> Any:
    """data-samples/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("sample_generator", GENERATOR)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest() -> str:
    """One hash over every record and planted.json."""
    generator = load()
    records, planted = generator.generate()
    hashed = hashlib.sha256(generator.planted_text(planted).encode())
    for record in records:
        hashed.update(record_bytes(record) + b"\n")
    return hashed.hexdigest()


@pytest.fixture(scope="module")
def made() -> tuple[list[Record], dict[str, Any]]:
    return load().generate()


@pytest.fixture(scope="module")
def records(made: tuple[list[Record], dict[str, Any]]) -> list[Record]:
    return made[0]


@pytest.fixture(scope="module")
def planted(made: tuple[list[Record], dict[str, Any]]) -> dict[str, Any]:
    return made[1]


def recorded(record: Record) -> int:
    return parse_time(record.receipt.recorded_at)


def occurred(event: Event) -> int:
    return parse_time(event.occurred_at)


def successful(records: list[Record], action: str) -> Iterator[Event]:
    return (r.event for r in records if r.event.action == action and r.event.outcome == "success")


def test_the_same_trail_whatever_the_hash_seed_time_zone_and_locale() -> None:
    """Two machines make the same bytes."""
    surroundings = [
        {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "2", "TZ": "America/St_Johns", "LC_ALL": "C.UTF-8"},
    ]
    script = "import sys; sys.path[:0] = sys.argv[1:]; import test_samples; print(test_samples.digest())"
    command = [sys.executable, "-c", script, str(ROOT), str(ROOT / "tests")]
    runs = [
        subprocess.Popen(command, env={**os.environ, **extra}, stdout=subprocess.PIPE, text=True)
        for extra in surroundings
    ]
    digests = [run.communicate()[0].strip() for run in runs]
    assert len(digests[0]) == 64
    assert digests[0] == digests[1]


def test_the_committed_list_is_what_the_generator_makes(planted: dict[str, Any]) -> None:
    """Nobody edits planted.json by hand."""
    committed = GENERATOR.with_name("planted.json").read_bytes()
    assert committed == load().planted_text(planted).encode()


def test_every_record_keeps_every_rule(records: list[Record]) -> None:
    """DESIGN 4.1, 4.2 and the built-in catalogue."""
    catalog = parse_catalog((ROOT / "auditlib" / "catalog.toml").read_bytes())
    for record in records:
        assert check_record(record) == record
        catalog.check(record.event)
    assert {record.event.action for record in records} <= set(catalog.actions)
    assert len({record.event.event_id for record in records}) == len(records)


def test_in_the_order_recorded_within_the_half_year(records: list[Record], planted: dict[str, Any]) -> None:
    """The trail begins and ends where planted.json says."""
    times = [recorded(record) for record in records]
    assert times == sorted(times)
    since, until = parse_time(planted["trail"]["since"]), parse_time(planted["trail"]["until"])
    assert all(since <= moment < until for moment in (*times, *(occurred(r.event) for r in records)))


def test_every_event_that_is_named_is_there(records: list[Record], planted: dict[str, Any]) -> None:
    """What is planted was neither lost nor swallowed by the silence."""
    named = set(re.findall(r'"(01K[0-9A-Z]{23})', json.dumps(planted)))
    assert len(named) > 80
    assert named <= {record.event.event_id for record in records}


def test_counts(records: list[Record], planted: dict[str, Any]) -> None:
    """Big enough to mean something, small enough to commit."""
    assert 50_000 <= len(records) <= 70_000
    assert planted["trail"]["events"] == len(records)
    assert planted["trail"]["actions"] == Counter(record.event.action for record in records)
    assert planted["trail"]["sources"] == Counter(record.receipt.source for record in records)
    assert 55 <= len(planted["admin_grants"]) + len(planted["admin_grants_outside"]) <= 65
    assert len(planted["admin_grants"]) >= 30
    assert len({line["verdict"] for line in planted["admin_grants"]}) == 10  # pass and each of nine attributes


def test_source_sequences_are_whole_but_for_what_was_lost(records: list[Record], planted: dict[str, Any]) -> None:
    """Each instance counts from 1 in the order recorded."""
    numbers = defaultdict(list)
    for record in records:
        numbers[record.receipt.source].append(record.receipt.source_seq)
    missing = {}
    for source, seen in numbers.items():
        assert seen == sorted(seen)
        if gaps := sorted(set(range(1, seen[-1] + 1)) - set(seen)):
            missing[source] = gaps
    lost = planted["lost_source_seq"]
    assert missing == {lost["source"]: lost["numbers"]}
    assert len(lost["numbers"]) == 3


def test_one_silence_and_no_other(records: list[Record], planted: dict[str, Any]) -> None:
    """Nine hours without a record from any source; at any other time none is silent for more than an hour."""

    def end(record: Record) -> dict[str, str]:
        return {"event_id": record.event.event_id, "recorded_at": record.receipt.recorded_at}

    def gaps(some: list[Record]) -> list[dict[str, Any]]:
        lengths = ((before, after, recorded(after) - recorded(before)) for before, after in pairwise(some))
        return [
            {"first_after": end(after), "last_before": end(before), "microseconds": length}
            for before, after, length in lengths
            if length > HOUR
        ]

    assert gaps(records) == [planted["silence"]["all"]]
    assert 9 * HOUR < planted["silence"]["all"]["microseconds"] < 9.1 * HOUR
    by_source = defaultdict(list)
    for record in records:
        by_source[source_name(record.receipt.source)].append(record)
    assert {source: gaps(some) for source, some in by_source.items()} == {
        source: [gap] for source, gap in planted["silence"]["by_source"].items()
    }


def test_one_clock_ahead_and_one_late_arrival(records: list[Record], planted: dict[str, Any]) -> None:
    """An event is recorded within seconds of when it occurred, but for what is planted."""
    ahead = [record for record in records if occurred(record.event) > recorded(record)]
    said = planted["clock_ahead"]
    assert {record.receipt.source for record in ahead} == {said["source"]}
    assert len(ahead) == said["events"]
    assert [ahead[0].event.event_id, ahead[-1].event.event_id] == list(said["event_ids"].values())
    assert all(0 < said["seconds"] * SECOND + recorded(r) - occurred(r.event) < 5 * SECOND for r in ahead)
    late = [record for record in records if recorded(record) - occurred(record.event) > 5 * SECOND]
    assert [record.event.event_id for record in late] == [planted["late_arrival"]["event_id"]]
    assert recorded(late[0]) - occurred(late[0].event) == 9 * 24 * HOUR


def test_who_was_active_after_leaving(records: list[Record], planted: dict[str, Any]) -> None:
    """Exactly what is planted, and nobody acts before joining."""
    left = {event.target.id: occurred(event) for event in successful(records, "employee.leave")}
    joined = {event.target.id: occurred(event) for event in successful(records, "employee.join")}
    found = defaultdict(list)
    for record in sorted(records, key=lambda record: occurred(record.event)):
        event = record.event
        assert occurred(event) >= joined.get(event.actor.id, 0)
        if occurred(event) >= left.get(event.actor.id, sys.maxsize):
            found[event.actor.id].append(event.event_id)
    assert found == {
        line["actor"]: [event["event_id"] for event in line["events"]] for line in planted["terminated_active"]
    }


def test_the_brute_force(records: list[Record], planted: dict[str, Any]) -> None:
    """One address fails many times and then succeeds; no other fails more than a few times a day."""
    said = planted["brute_force"]
    failures = [r.event for r in records if r.event.action == "user.login" and r.event.outcome == "failure"]
    attack = [event for event in failures if event.context["ip"] == said["ip"]]
    assert len(attack) == said["failures"]["count"]
    assert {event.target.id for event in attack} == {said["user"]}
    assert [attack[0].event_id, attack[-1].event_id] == [said["failures"][e]["event_id"] for e in ("first", "last")]
    entered = [e for e in successful(records, "user.login") if e.context["ip"] == said["ip"]]
    assert [event.event_id for event in entered] == [said["success"]["event_id"]]
    assert occurred(entered[0]) > occurred(attack[-1])
    others = Counter(
        (e.context["ip"], e.target.id, e.occurred_at[:13]) for e in failures if e.context["ip"] != said["ip"]
    )
    assert max(others.values()) <= 2


def test_the_denied_burst_and_the_broken_glass(records: list[Record], planted: dict[str, Any]) -> None:
    """Both are there once."""
    said = planted["denied_burst"]
    denied = [
        r.event
        for r in records
        if r.event.outcome == "denied" and r.event.context.get("permission") == said["permission"]
    ]
    assert len(denied) == said["count"]
    assert {event.actor.id for event in denied} == {said["actor"]}
    assert [denied[0].event_id, denied[-1].event_id] == [said[end]["event_id"] for end in ("first", "last")]
    glass = [event.event_id for event in successful(records, "breakglass.use")]
    assert glass == [planted["break_glass"]["event_id"]]


def test_every_grant_is_listed(records: list[Record], planted: dict[str, Any]) -> None:
    """Each admin item once, inside or outside the window; what failed or was denied is apart."""
    since, until = (parse_time(planted["window"][end]) for end in ("since", "until"))
    items = {
        item: event for event in successful(records, "role.grant") for item, role in roles(event) if role == "admin"
    }
    inside = {item for item, event in items.items() if since <= occurred(event) < until}
    assert {line["item"] for line in planted["admin_grants"]} == inside
    assert {line["item"] for line in planted["admin_grants_outside"]} == set(items) - inside
    for line in planted["admin_grants"] + planted["admin_grants_outside"]:
        event = items[line["item"]]
        assert line["event_id"] == event.event_id
        assert line["occurred_at"] == event.occurred_at
        assert line["grantee"] == event.target.id
    tried = {r.event.event_id for r in records if r.event.action == "role.grant"} - {
        event.event_id for event in successful(records, "role.grant")
    }
    assert {line["event_id"] for line in planted["admin_grants_that_did_not_happen"]} == tried


def test_a_slow_reading_of_the_events_agrees_with_every_verdict(records: list[Record], planted: dict[str, Any]) -> None:
    """The attributes, one after the other, over every grant of every role."""
    listed = {line["item"]: line["verdict"] for line in planted["admin_grants"] + planted["admin_grants_outside"]}
    listed |= {line["item"]: line["verdict"] for line in planted["other_grants"]["exceptions"]}
    told = [r for r in records if r.event.action.startswith(("role.", "access.", "employee."))]
    end = recorded(records[-1])
    used: Counter[str] = Counter()
    total = 0
    for event in sorted(successful(told, "role.grant"), key=occurred):
        request = event.context.get("request_id", "")
        used[request] += 1
        for item, role in roles(event):
            total += 1
            assert listed.get(item, "pass") == verdict(told, end, planted["policy"], event, role, used[request])
    assert total == len(planted["admin_grants"] + planted["admin_grants_outside"]) + planted["other_grants"]["total"]


def roles(event: Event) -> list[tuple[str, str]]:
    """The items of a grant and their roles."""
    granted = event.context["granted_role"]
    if isinstance(granted, str):
        return [(event.event_id, granted)]
    return [(f"{event.event_id}#{number}", role) for number, role in enumerate(granted, 1)]


def verdict(records: list[Record], end: int, policy: dict[str, Any], grant: Event, role: str, use: int) -> str:
    """The first attribute that fails, or pass."""
    at, request = occurred(grant), grant.context.get("request_id")
    about = [r.event for r in records if request and r.event.context.get("request_id") == request]
    if not request:  # and no other approval could be taken for the missing one
        granted = [r.event for r in records if r.event.action == "access.approve"]
        assert not any(grant.target.id in e.context["subjects"] and role in e.context["entitlements"] for e in granted)
    approval = next((event for event in about if event.action == "access.approve"), None)
    undone = [e for e in about if e.action in ("access.deny", "access.withdraw") and occurred(e) <= at]
    if approval is None or undone:
        return "approval_exists"
    allowed = policy["emergency_hours"] * HOUR if grant.context.get("emergency") else 0
    if occurred(approval) > at + allowed:
        return "approved_before_grant"
    said, approver = approval.context, approval.actor.id
    if grant.target.id not in said["subjects"]:
        return "same_subject"
    if role not in said["entitlements"]:
        return "same_entitlement"
    if approver in (grant.target.id, said["requester"], grant.actor.id):
        return "independent_approver"
    left = [e for e in successful(records, "employee.leave") if e.target.id == approver]
    if said["approver_role"] not in policy["approver_roles"] or any(occurred(e) < occurred(approval) for e in left):
        return "approver_authorised"
    if "valid_until" in said and not parse_time(said["valid_from"]) <= at < parse_time(said["valid_until"]):
        return "within_validity"
    if "uses" in said and use > said["uses"]:
        return "within_uses"
    if "expires_at" in grant.context and (until := parse_time(grant.context["expires_at"])) <= end:
        removals = [e for e in successful(records, "role.revoke") if e.target.id == grant.target.id]
        if not any(role in revoked(e) and at <= occurred(e) <= until for e in removals):
            return "removed_in_time"
    return "pass"


def revoked(event: Event) -> list[str]:
    """The roles that were removed."""
    role = event.context["revoked_role"]
    return [role] if isinstance(role, str) else role
