"""The sample trail is the same everywhere, keeps every rule, and holds exactly what planted.json says."""

import csv
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from auditlib.formats.catalog import parse_catalog
from auditlib.formats.event import Event, Record, check_record, record_bytes, source_name
from auditlib.formats.times import SECOND, parse_time

ROOT = Path(__file__).parent.parent
GENERATOR = ROOT / "data-samples" / "generate.py"
HOUR = 3600 * SECOND
GRANTS = ("role.grant", "group.add", "role.define")


def load() -> Any:
    """data-samples/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("sample_generator", GENERATOR)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest() -> str:
    """One hash over every record, planted.json and the lists."""
    generator = load()
    records, planted = generator.generate()
    hashed = hashlib.sha256(generator.planted_text(planted).encode())
    hashed.update(repr(sorted(generator.lists.files(records, planted).items())).encode())
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


@pytest.fixture(scope="module")
def sealed() -> list[dict[str, Any]]:
    """The sealed trail as any reader of Parquet sees it, in order; `context` parsed, `at` the time in microseconds."""
    rows: list[dict[str, Any]] = []
    for path in sorted(GENERATOR.with_name("vault").glob("batches/*/*.parquet"), key=lambda path: path.name):
        rows += pq.ParquetFile(path).read().to_pylist()
    micros = pd.Series([row["occurred_at"] for row in rows]).astype("datetime64[us, UTC]").astype("int64").tolist()
    return [{**row, "at": at, "context": json.loads(row["context"])} for row, at in zip(rows, micros, strict=True)]


def done(sealed: list[dict[str, Any]], *actions: str) -> list[dict[str, Any]]:
    """The sealed events of these actions that succeeded, in the order of time."""
    found = [row for row in sealed if row["action"] in actions and row["outcome"] == "success"]
    return sorted(found, key=lambda row: (row["at"], row["event_id"]))


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


def test_what_is_committed_is_what_the_generator_makes(
    records: list[Record], planted: dict[str, Any], sealed: list[dict[str, Any]]
) -> None:
    """Nobody edits planted.json or a list by hand, and the sealed vault holds these records in this order."""
    committed = GENERATOR.with_name("planted.json").read_bytes()
    assert committed == load().planted_text(planted).encode()
    there = {path.name: path.read_text() for path in GENERATOR.with_name("lists").iterdir()}
    assert there == load().lists.files(records, planted)
    assert [event["event_id"] for event in sealed] == [record.event.event_id for record in records]


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
    assert 55 <= len(planted["admin_grants"]) + len(planted["admin_grants_outside"]) <= 70
    assert len(planted["admin_grants"]) >= 30
    # pass, each of nine attributes, not testable
    assert len({line["verdict"] for line in planted["admin_grants"]}) == 11


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


def test_the_denied_burst(records: list[Record], planted: dict[str, Any]) -> None:
    """It is there once."""
    said = planted["denied_burst"]
    denied = [
        r.event
        for r in records
        if r.event.outcome == "denied" and r.event.context.get("permission") == said["permission"]
    ]
    assert len(denied) == said["count"]
    assert {event.actor.id for event in denied} == {said["actor"]}
    assert [denied[0].event_id, denied[-1].event_id] == [said[end]["event_id"] for end in ("first", "last")]


def test_every_grant_is_listed(records: list[Record], planted: dict[str, Any]) -> None:
    """Each admin item once, inside or outside the window; what failed or was denied is apart."""
    since, until = (parse_time(planted["window"][end]) for end in ("since", "until"))
    items = {
        item: event
        for action in GRANTS
        for event in successful(records, action)
        for item, role in roles(event)
        if role == "admin"
    }
    inside = {item for item, event in items.items() if since <= occurred(event) < until}
    assert {line["item"] for line in planted["admin_grants"]} == inside
    assert {line["item"] for line in planted["admin_grants_outside"]} == set(items) - inside
    for line in planted["admin_grants"] + planted["admin_grants_outside"]:
        event = items[line["item"]]
        assert line["event_id"] == event.event_id
        assert line["occurred_at"] == event.occurred_at
        assert line["grantee"] == (event.target.id if event.target.type == "user" else None)
    tried = {r.event.event_id for r in records if r.event.action == "role.grant"} - {
        event.event_id for event in successful(records, "role.grant")
    }
    assert {line["event_id"] for line in planted["admin_grants_that_did_not_happen"]} == tried


def test_a_slow_reading_of_the_events_agrees_with_every_verdict(records: list[Record], planted: dict[str, Any]) -> None:
    """The attributes, one after the other, over every grant of every role."""
    listed = {line["item"]: line["verdict"] for line in planted["admin_grants"] + planted["admin_grants_outside"]}
    listed |= {line["item"]: line["verdict"] for line in planted["other_grants"]["exceptions"]}
    told = [r for r in records if r.event.action.startswith(("role.", "group.", "access.", "employee."))]
    end = recorded(records[-1])
    used: Counter[str] = Counter()
    total = 0
    for event in sorted((event for action in GRANTS for event in successful(told, action)), key=occurred):
        request = event.context.get("request_id", "")
        used[request] += 1
        for item, role in roles(event):
            total += 1
            assert listed.get(item, "pass") == verdict(told, end, planted["policy"], event, role, used[request])
    assert total == len(planted["admin_grants"] + planted["admin_grants_outside"]) + planted["other_grants"]["total"]


def roles(event: Event) -> list[tuple[str, str]]:
    """The items of a grant and their roles."""
    granted = event.context["confers"] if "confers" in event.context else event.context["granted_role"]
    if isinstance(granted, str):
        return [(event.event_id, granted)]
    return [(f"{event.event_id}#{number}", role) for number, role in enumerate(granted, 1)]


def verdict(records: list[Record], end: int, policy: dict[str, Any], grant: Event, role: str, use: int) -> str:
    """The first attribute that fails, or pass."""
    at, request = occurred(grant), grant.context.get("request_id")
    if grant.target.type == "role":  # nobody is named
        return "not-testable"
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


# --- what else an auditor asks, read from the sealed trail ----------------------------------------------------


def words(value: str | list[str]) -> list[str]:
    """One text or several, as several."""
    return [value] if isinstance(value, str) else value


def listed(sealed: list[dict[str, Any]], said: dict[str, Any]) -> set[tuple[str, str]]:
    """A listing of who holds what, put together from its events."""
    parts = [row["context"] for row in done(sealed, "access.snapshot") if row["context"]["at"] == said["at"]]
    assert [part["part"] for part in parts] == list(range(1, parts[0]["parts"] + 1))
    held = {(line["subject"], line["entitlement"]) for part in parts for line in part["holdings"]}
    assert len(held) == said["rows"] == sum(len(part["holdings"]) for part in parts)
    return held


def held(sealed: list[dict[str, Any]], planted: dict[str, Any], until: int) -> set[tuple[str, str]]:
    """The opening listing, and every grant and removal before `until` in the order of time."""
    holdings = listed(sealed, planted["holdings"]["opening"])
    for row in done(sealed, "role.grant", "group.add", "role.revoke"):
        if row["at"] < until:
            context, subject = row["context"], row["target_id"]
            if row["action"] == "role.revoke":
                holdings -= {(subject, role) for role in words(context["revoked_role"])}
            else:
                holdings |= {(subject, role) for role in words(context.get("granted_role") or context["confers"])}
    return holdings


def test_the_listings_differ_by_what_was_logged_and_two_changes_that_were_not(
    sealed: list[dict[str, Any]], planted: dict[str, Any]
) -> None:
    """Opening plus grants minus removals is the closing but for one holding too many and one too few."""
    said = planted["holdings"]
    closing = listed(sealed, said["closing"])
    reckoned = held(sealed, planted, parse_time(said["closing"]["at"]))
    changes = {line["change"]: (line["subject"], line["entitlement"]) for line in said["unlogged"]}
    assert closing - reckoned == {changes["appeared"]}
    assert reckoned - closing == {changes["vanished"]}
    assert {len(said[end]["events"]) for end in ("opening", "closing")} == {2, 3}
    for day, roles in said["held_at"].items():
        there = held(sealed, planted, parse_time(f"{day}T00:00:00Z"))
        assert roles == {role: sorted(s for s, r in there if r == role) for role in said["privileged"]}, day


@pytest.mark.parametrize("end", ["2026-06-01T00:00:00Z", "2026-06-30T23:30:00Z"])
def test_who_is_dormant(sealed: list[dict[str, Any]], planted: dict[str, Any], end: str) -> None:
    """Two who hold something privileged have done nothing for 90 days, and nobody else."""
    said, until = planted["holdings"], parse_time(end)
    since = until - said["dormant_days"] * 24 * HOUR
    awake = {row["actor_id"] for row in sealed if since <= row["at"] < until}
    found = {(s, r) for s, r in held(sealed, planted, until) if r in said["privileged"] and s not in awake}
    assert found == {(line["subject"], line["entitlement"]) for line in said["dormant"]}
    for line in said["dormant"]:
        own = [row["at"] for row in sealed if row["actor_id"] == line["subject"]]
        assert (max(own) < parse_time(line["last_seen_before"])) if line["last_seen_before"] else not own


def test_the_leavers_removals(sealed: list[dict[str, Any]], planted: dict[str, Any]) -> None:
    """In time, late and never: what each held on the last day, and the first removal of it."""
    said = planted["removals"]
    assert {line["verdict"] for line in said["leavers"]} == {"in time", "late", "never"}
    for line in said["leavers"]:
        left, removed = parse_time(line["left_at"]), {}
        roles = {role for s, role in held(sealed, planted, left - 2 * HOUR) if s == line["account"]}
        for row in done(sealed, "role.revoke"):
            if row["target_id"] == line["account"] and row["at"] > left - 2 * HOUR:
                removed |= {role: row for role in words(row["context"]["revoked_role"]) if role not in removed}
        assert line["roles"].keys() == roles
        assert {role: e and e["event_id"] for role, e in line["roles"].items()} == {
            role: removed[role]["event_id"] if role in removed else None for role in roles
        }
        last = max((removed[role]["at"] - left) / HOUR if role in removed else float("inf") for role in roles)
        within = last <= said["removal_hours"]
        assert line["verdict"] == ("in time" if within else "never" if last == float("inf") else "late")
        after = [row["event_id"] for row in sealed if row["actor_id"] == line["account"] and row["at"] >= left]
        assert sorted(after) == sorted(line["events_after_leaving"])


def test_joiners_and_movers(sealed: list[dict[str, Any]], planted: dict[str, Any]) -> None:
    """The first grant to each, its approval, and the two that are not as they should be."""
    approvals = {row["context"]["request_id"]: row for row in done(sealed, "access.approve")}
    findings = {}
    for line in planted["provisioning"]:
        start = parse_time(line["start"])
        since = start if line["kind"] == "mover" else start - 30 * 24 * HOUR
        first = next(r for r in done(sealed, *GRANTS) if r["target_id"] == line["account"] and r["at"] >= since)
        assert first["event_id"] == line["first_access"]["event_id"]
        late = approvals[first["context"]["request_id"]]["at"] > first["at"]
        early = first["at"] < start
        findings[line["account"]] = line["finding"]
        assert (late, early) == (
            line["finding"] == "approved after the first access",
            line["finding"] == "access before the first day",
        )
    joined = {row["target_id"] for row in done(sealed, "employee.join")}
    assert joined < findings.keys()
    assert Counter(findings.values())[""] == 3


def test_every_release_and_the_approval_before_it(sealed: list[dict[str, Any]], planted: dict[str, Any]) -> None:
    """104 releases; what is not ordinary is exactly what is listed."""
    said = planted["changes"]
    approvals = {row["context"]["change_id"]: row for row in done(sealed, "change.approve")}
    releases = done(sealed, "release.deploy")
    assert len(releases) == said["total"] == len({row["context"]["change_id"] for row in releases})
    found = {}
    for row in releases:
        context, approval = row["context"], approvals.get(row["context"]["change_id"])
        assert context["author"].startswith("u_")
        assert context["version"]
        hours = (approval["at"] - row["at"]) / HOUR if approval else float("inf")
        allowed = said["emergency_hours"] if context["emergency"] else 0
        wrong = hours > allowed or (approval and approval["actor_id"] == context["author"])
        if wrong or context["emergency"]:
            found[row["event_id"]] = "exception" if wrong else "pass"
        if approval:
            assert approval["context"]["author"] == context["author"]
    assert found == {line["event_id"]: line["verdict"] for line in said["not_ordinary"]}
    (bypass,), (told,) = done(sealed, "change.bypass"), said["bypasses"]
    assert bypass["event_id"] == told["event_id"]
    after = next(row for row in releases if row["context"]["change_id"] == bypass["context"]["change_id"])
    assert (after["event_id"], 0 < after["at"] - bypass["at"] < HOUR) == (told["release"], True)


def test_the_reviews(sealed: list[dict[str, Any]], planted: dict[str, Any]) -> None:
    """The listing is who held it then, each holder was decided on, and of the removals one was carried out."""
    events = {row["context"]["review_id"]: row for row in done(sealed, "access.review")}
    assert events.keys() == {line["review_id"] for line in planted["access_reviews"]}
    for line in planted["access_reviews"]:
        event, role = events[line["review_id"]], line["entitlement"]
        holders = sorted(s for s, r in held(sealed, planted, parse_time(line["listed_at"])) if r == role)
        digest = hashlib.sha256("".join(f"{holder},{role}\n" for holder in holders).encode()).hexdigest()
        assert (event["event_id"], event["actor_id"]) == (line["event_id"], line["reviewer"])
        assert (event["context"]["listing_rows"], event["context"]["listing_sha256"]) == (len(holders), digest)
        decided = [r for r in done(sealed, "access.review.decide") if r["context"]["review_id"] == line["review_id"]]
        assert {row["target_id"]: row["event_id"] for row in decided} == line["decisions"]
        assert sorted(line["decisions"]) == holders
        assert all(row["at"] < event["at"] and row["actor_id"] == line["reviewer"] for row in decided)
        removed = {row["target_id"] for row in decided if row["context"]["decision"] == "remove"}
        assert removed == {removal["subject"] for removal in line["removals"]}
        findings = []
        for removal in line["removals"]:
            after = [r for r in done(sealed, "role.revoke") if r["target_id"] == removal["subject"]]
            after = [r for r in after if r["at"] > event["at"] and role in words(r["context"]["revoked_role"])]
            assert [row["event_id"] for row in after] == ([removal["removed"]] if removal["removed"] else [])
            findings += [] if after else ["removal not carried out"]
        findings += ["reviewer is a subject"] if line["reviewer"] in holders else []
        findings += ["performed late"] if event["occurred_at"].isoformat()[:10] > line["due"] else []
        assert findings == line["findings"]


def test_the_emergency_account_and_a_machine_without_a_job(
    sealed: list[dict[str, Any]], planted: dict[str, Any]
) -> None:
    """Three uses: reviewed, not reviewed, reviewed by its own user; one privileged change by no known job."""
    reviews = {row["context"]["event_id"]: row for row in done(sealed, "breakglass.review")}
    found = []
    for row in done(sealed, "breakglass.use"):
        review = reviews.get(row["event_id"])
        own = bool(review and review["actor_id"] == row["actor_id"])
        finding = "reviewed by its own user" if own else "" if review else "not reviewed"
        found.append((row["event_id"], row["actor_id"], finding))
    assert found == [(line["event_id"], line["actor"], line["finding"]) for line in planted["break_glass_uses"]]
    assert found[0][0] == planted["break_glass"]["event_id"]
    jobless = [r for r in sealed if r["actor_type"] == "system" and ":" not in r["actor_id"]]
    assert [row["event_id"] for row in jobless] == [line["event_id"] for line in planted["privileged_without_identity"]]
    assert {row["action"] for row in jobless} == {"config.change"}


def test_how_approvers_behave(sealed: list[dict[str, Any]], planted: dict[str, Any]) -> None:
    """One pair approves for each other, one burst is faster than anybody reads, two approve who may not."""
    said, approvals = planted["approver_conduct"], done(sealed, "access.approve")
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in approvals:
        for subject in row["context"]["subjects"]:
            pairs[row["actor_id"], subject].append(row["event_id"])
    mutual = {(a, b) for a, b in pairs if a != b and (b, a) in pairs}
    ring = tuple(said["ring"]["members"])
    assert mutual == {ring, ring[::-1]}
    assert {f"{a} for {b}": pairs[a, b] for a, b in mutual} == said["ring"]["approvals"]
    assert set(said["ring"]["planted"]) <= {event for pair in mutual for event in pairs[pair]}
    stamps = said["rubber_stamping"]
    fast = set()
    for approver in {row["actor_id"] for row in approvals}:
        own = [row for row in approvals if row["actor_id"] == approver]
        for one, other in pairwise(own):
            if other["at"] - one["at"] < stamps["gaps_below_seconds"] * SECOND:
                fast |= {one["event_id"], other["event_id"]}
    assert fast == set(stamps["approvals"])
    assert (len(fast), stamps["seconds"] < 90) == (12, True)
    policy = planted["policy"]["approver_roles"]
    outside = {row["event_id"] for row in approvals if row["context"]["approver_role"] not in policy}
    assert outside == {line["event_id"] for line in said["outside_authority"]}


def test_the_lists_are_what_they_declare(sealed: list[dict[str, Any]], planted: dict[str, Any]) -> None:
    """Rows and columns as declared; leavers and joiners as in the trail; the listing as sealed."""
    lists, tables = GENERATOR.with_name("lists"), {}
    for path in sorted(lists.glob("*.csv")):
        declared = tomllib.loads((lists / f"{path.name}.toml").read_text())
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert declared["format"] == "auditlib/attachment/v1"
        assert declared["rows"] == len(rows)
        assert set(declared["columns"].values()) == set(rows[0])
        tables[declared["name"]] = [{ours: row[head] for ours, head in declared["columns"].items()} for row in rows]
    assert tables.keys() == {"approvals", "identities", "leavers", "listing", "responses", "roster"}
    left = {row["target_id"]: row["occurred_at"].isoformat()[:10] for row in done(sealed, "employee.leave")}
    assert {row["account"]: row["last_day"] for row in tables["leavers"]} == left
    joined = {row["target_id"]: row["occurred_at"].isoformat()[:10] for row in done(sealed, "employee.join")}
    starts = {(row["account"], row["first_day"]) for row in tables["roster"]}
    assert joined.items() <= starts
    assert {account for account, day in starts if day >= "2026-01-01"} == {
        line["account"] for line in planted["provisioning"]
    }
    closing = {(row["subject"], row["entitlement"]) for row in tables["listing"]}
    assert closing == listed(sealed, planted["holdings"]["closing"])
    exceptions = {line["item"] for line in planted["admin_grants"] if line["verdict"] != "pass"}
    assert {row["item"] for row in tables["responses"]} <= exceptions
    people = {row["account"]: row["person_id"] for row in tables["identities"]}
    second = planted["approver_conduct"]["second_account"]
    approval = next(row for row in sealed if row["event_id"] == second["approval"])
    assert people[approval["actor_id"]] == people[approval["context"]["subjects"][0]]
    assert set(planted["tickets"]["verdicts"]) <= {row["event_id"] for row in done(sealed, *GRANTS)}
