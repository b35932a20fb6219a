"""Releases and the approved change behind each: what was planted is found, and no way around the approval passes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import simulator
from lists import attachment, identities
from packets import (
    CLOUDTRAIL,
    SAMPLE_KEY,
    check,
    event,
    planted,
    read_folder,
    sample_trail,
    sample_vault,
    trail_of,
    vault_of,
)

from auditlib.evidence import change_management
from auditlib.evidence import change_matching as matching
from auditlib.evidence.examined import Examined
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.event import Record
from auditlib.formats.times import SECOND, format_time, parse_time
from auditlib.imports import import_files
from auditlib.intakes import Direct
from auditlib.packet.build import build_packet
from auditlib.sampling import Rule
from auditlib.trail import Trail
from auditlib.trail import open as open_trail

NOON = parse_time("2026-03-10T12:00:00Z")
HOUR = 3600 * SECOND
REFUSING = parse_catalog(
    simulator.CATALOG.data
    + b'\n[actions."change.reject"]\nkind = "change-approval"\ndecision = "denied"\nrequest = "context.change_id"\n'
    + b'\n[actions."change.sign"]\nkind = "change-approval"\ndecision = "approved"\nrequest = "context.change_id"\n'
    + b'requester = "context.author"\nauthority = "context.role"\n'
)


def at(hours: float) -> str:
    return format_time(NOON + round(hours * HOUR))


def release(name: str = "r", hours: float = 0, change: str | None = "C-1", **context: Any) -> Record:
    given = {"author": "u_1", "change_id": change, "emergency": False} | context
    return event(
        name,
        "release.deploy",
        at(hours),
        {key: value for key, value in given.items() if value is not None},
        actor="svc_ci",
        target="billing",
    )


def approve(name: str, hours: float, by: str = "u_2", change: str = "C-1", author: str = "u_1", **more: Any) -> Record:
    action, role = more.get("action", "change.approve"), more.get("role")
    context = {"author": author, "change_id": change} | ({"role": role} if role else {})
    return event(name, action, at(hours), context, actor=by, target="change")


def reject(name: str, hours: float, change: str = "C-1") -> Record:
    return event(name, "change.reject", at(hours), {"change_id": change}, actor="u_3", target=change)


def bypass(name: str, hours: float, change: str = "C-9", target: str = "billing") -> Record:
    return event(
        name, "change.bypass", at(hours), {"change_id": change, "protection": "review"}, actor="u_4", target=target
    )


def ask(trail: Trail, since: Any = "2026-03-01", until: Any = "2026-06-01", **more: Any) -> Examined:
    return change_management(trail, since=since, until=until, **more)


def verdicts(folder: Path, *made: Record, **more: Any) -> dict[str, str]:
    with trail_of(folder, list(made), catalog=REFUSING) as trail:
        items = ask(trail, **more).found.items
        return dict(zip(items["item"], items["verdict"], strict=True))


# --- the sample ----------------------------------------------------------------------------------------------

NOTES = {
    "no approval": "approval_exists",
    "an emergency that was never approved": "approval_exists",
    "no approval: the protection was bypassed 4 minutes before": "approval_exists",
    "approved by its author": "author_is_not_approver",
    "approved after the release": "approved_before_release",
}


@pytest.mark.parametrize(
    ("since", "until", "number"), [("2026-03-01", "2026-06-01", "in_window"), ("2026-01-01", "2026-07-01", "total")]
)
def test_the_sample_answers_exactly_what_was_planted(since: str, until: str, number: str) -> None:
    """Every release that is not in order, by the attribute that its note means, and no other."""
    changes = planted()["changes"]
    begins, ends = (parse_time(f"{day}T00:00:00Z") for day in (since, until))
    lines = [line for line in changes["not_ordinary"] if begins <= parse_time(line["occurred_at"]) < ends]
    items = ask(sample_trail(), since, until, emergency_hours=changes["emergency_hours"]).found.items
    wrong = items[items["verdict"] != "pass"]
    assert len(items) == changes[number]
    assert dict(zip(wrong["item"], wrong["verdict"], strict=True)) == {
        line["event_id"]: NOTES[line["note"]] for line in lines if line["verdict"] == "exception"
    }
    found = items.set_index("item").loc[[line["event_id"] for line in lines]]
    assert found["approval"].astype(object).where(found["approval"].notna(), None).tolist() == [
        line["approval"] for line in lines
    ]
    assert found["author"].tolist() == [line["author"] for line in lines]
    late = [line["event_id"] for line in lines if line["verdict"] == "pass"]
    assert (found.loc[late, "reason"] == "Approved after the emergency, within the agreed hours.").all()


def test_the_bypass_of_the_sample_is_named_beside_its_release() -> None:
    """The table of bypasses names who, which change and the release; the release's reason tells of it too."""
    answer = ask(sample_trail())
    (line,) = planted()["changes"]["bypasses"]
    shown = answer.found.tables["bypasses"]
    columns = ["event_id", "actor_id", "change", "release"]
    assert shown[columns].to_numpy().tolist() == [[line[k] for k in ("event_id", "actor", "change_id", "release")]]
    items = answer.found.items.set_index("item")
    assert items.loc[line["release"], "no_protection_bypass"] == "fail"
    assert line["event_id"] in items.loc[line["release"], "reason"]
    assert (items["no_protection_bypass"] == "fail").sum() == 1


def test_the_packet_of_the_sample_passes_its_own_checks(tmp_path: Path) -> None:
    """Built by the notebook; releases, decisions and bypasses with their proofs."""
    build_packet("change-management", str(sample_vault()), {}, tmp_path / "packet", keys=SAMPLE_KEY)
    files = read_folder(tmp_path / "packet")
    report = check(files)
    assert report.findings == ()
    assert report.packet["population"]["items"] == planted()["changes"]["in_window"]
    assert planted()["changes"]["bypasses"][0]["event_id"].encode() in files["data/events.jsonl"]


# --- ways around the approval --------------------------------------------------------------------------------

CASES: dict[str, tuple[list[Record], str]] = {
    "in order": ([approve("a", -2), release()], "pass"),
    "the change id left out": ([approve("a", -2), release(change=None)], "approval_exists"),
    "an empty change id": ([approve("a", -2, change=""), release(change="")], "approval_exists"),
    "another change approved": ([approve("a", -2, change="C-2"), release()], "approval_exists"),
    "a moment too late": ([approve("a", 1 / 3600), release()], "approved_before_release"),
    "at the same moment": ([approve("a", 0), release()], "pass"),
    "by the author": ([approve("a", -2, by="u_1"), release()], "author_is_not_approver"),
    "by the author, who names another": (
        [approve("a", -2, by="u_1", author="u_8"), release()],
        "author_is_not_approver",
    ),
    "by the author that only an approval names": (
        [approve("a", -2, by="u_8", author="u_8"), release()],
        "author_is_not_approver",
    ),
    "by the author that another approval names": (
        [approve("a", -2, by="u_8"), approve("b", -3, by="u_1", author="u_8"), release()],
        "author_is_not_approver",
    ),
    "by the author, then by another": ([approve("a", -2, by="u_1"), approve("b", -1), release()], "pass"),
    "by another, then by the author": ([approve("a", -2), approve("b", -1, by="u_1"), release()], "pass"),
    "denied": ([approve("a", -3), reject("d", -2), release()], "approval_exists"),
    "denied, then approved": ([reject("d", -3), approve("a", -2), release()], "pass"),
    "denied, released, then approved": ([reject("d", -3), release(), approve("a", 1)], "approval_exists"),
    "denied after the release": ([approve("a", -3), release(), reject("d", 1)], "pass"),
    "an emergency approved in time": ([release(emergency=True), approve("a", 24)], "pass"),
    "an emergency approved too late": ([release(emergency=True), approve("a", 24.001)], "approved_before_release"),
    "an emergency in text is none": ([release(emergency="yes"), approve("a", 1)], "approved_before_release"),
    "an emergency approved by its author": (
        [release(emergency=True), approve("a", 1, by="u_1")],
        "author_is_not_approver",
    ),
    "an emergency denied before": ([reject("d", -1), release(emergency=True), approve("a", 1)], "approval_exists"),
    "an emergency never approved": ([release(emergency=True), bypass("z", 30, target="x")], "approval_exists"),
    "an emergency whose hours are not over": ([release(emergency=True), bypass("z", 20, target="x")], "not-testable"),
    "the protection bypassed for it": (
        [approve("a", -2), bypass("b", -90, "C-1", "x"), release()],
        "no_protection_bypass",
    ),
    "the protection bypassed for it, afterwards": (
        [approve("a", -2), release(), bypass("b", 9, "C-1", "x")],
        "no_protection_bypass",
    ),
    "the target's protection bypassed under another change": (
        [approve("a", -2), bypass("b", -24), release()],
        "no_protection_bypass",
    ),
    "the target's protection bypassed long before": ([approve("a", -2), bypass("b", -24.001), release()], "pass"),
    "the target's protection bypassed after the release": ([approve("a", -2), release(), bypass("b", 1)], "pass"),
    "another target's protection bypassed": ([approve("a", -2), bypass("b", -1, target="x"), release()], "pass"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_way_around_the_approval(name: str, tmp_path: Path) -> None:
    """Each of CASES has the verdict that stands beside it, in whatever order its records were sealed."""
    made, verdict = CASES[name]
    assert verdicts(tmp_path / "one", *made) == {"r": verdict}
    assert verdicts(tmp_path / "two", *reversed(made)) == {"r": verdict}


def test_who_may_approve_is_tested_where_somebody_is_named(tmp_path: Path) -> None:
    """By account or by authority; an approval without an authority cannot be told; nobody named: n/a."""
    made = [
        approve("a", -2, by="u_2", action="change.sign", role="engineer"),
        release(),
        approve("b", -2, change="C-2"),
        release("s", change="C-2"),
    ]
    with trail_of(tmp_path, made, catalog=REFUSING) as trail:
        for more, expected in (
            ({}, ["n/a", "n/a"]),
            ({"authorities": ["engineer"]}, ["pass", "not-testable"]),
            ({"authorities": ["manager"]}, ["fail", "not-testable"]),
            ({"approvers": ["u_2"]}, ["pass", "pass"]),
            ({"approvers": ["u_7"]}, ["fail", "fail"]),
            ({"approvers": ["u_2"], "authorities": ["manager"]}, ["pass", "pass"]),
        ):
            items = ask(trail, **more).found.items.set_index("item")["approver_authorised"]
            assert [items["r"], items["s"]] == expected


def test_a_second_account_of_the_author_is_the_author(tmp_path: Path) -> None:
    """By account in order; by the attached identities not, and the reason says on what that rests."""
    made = [approve("a", -2, by="u_1-admin"), release()]
    with trail_of(tmp_path, made) as trail:
        assert ask(trail).found.items["verdict"].tolist() == ["pass"]
        answer = ask(trail, identities=identities(("E-1", "u_1"), ("E-1", "u_1-admin")))
        assert answer.found.items["verdict"].tolist() == ["author_is_not_approver"]
        assert "unsealed evidence" in answer.found.items["reason"][0]
        assert "unsealed evidence" in repr(answer.conclusion)


def test_an_approval_from_a_ticket_system_counts_apart(tmp_path: Path) -> None:
    """It passes as unsealed evidence; one of the trail is taken before it; its rows pass the packet's checks."""
    columns = ("request", "grantee", "entitlement", "decision", "approver", "approved_at", "requester")
    rows = [("C-1", "", "", "approved", "u_5", at(-3), "u_1"), ("C-2", "", "", "approved", "u_5", at(-1), "u_1")]
    made = [release(), release("s", change="C-2"), approve("a", -2, change="C-2")]
    vault = vault_of(tmp_path, made)
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        assert ask(trail).found.items["verdict"].tolist() == ["approval_exists", "pass"]
        answer = ask(trail, approvals=attachment("approvals", columns, rows))
        assert answer.found.items["verdict"].tolist() == ["pass", "pass"]
        assert answer.found.items["evidence"].tolist() == ["unsealed evidence", "sealed"]
        assert answer.found.items["reason"].tolist() == ["Approved (unsealed evidence).", ""]
        assert "1 of those that passed: approved (unsealed evidence)" in repr(answer.conclusion)
        assert answer.answer().tables["approvals"]["event_id"].tolist() == ["", "a", ""]
        assert answer.answer().rows == {(0, 0), (0, 1), (0, 2)}


def test_a_flood_of_approvals_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past MAX_PAIRS the largest changes are not testable and say so; the others are tested as ever."""
    monkeypatch.setattr(matching, "MAX_PAIRS", 4)
    made = [approve(f"a{n}", -2) for n in range(5)] + [release(), release("s", change="C-2"), release("t", change=None)]
    assert verdicts(tmp_path, *made) == {"r": "not-testable", "s": "approval_exists", "t": "approval_exists"}


def test_a_failed_release_is_no_release(tmp_path: Path) -> None:
    """Failure and denial release nothing; nor does an approval that failed approve."""
    tried = event("t", "release.deploy", at(0), {"change_id": "C-1"}, outcome="failure")
    failed = event("a", "change.approve", at(-1), {"author": "u_1", "change_id": "C-1"}, actor="u_2", outcome="denied")
    assert verdicts(tmp_path, tried, failed, release()) == {"r": "approval_exists"}


def test_every_fault_stands_in_the_reason(tmp_path: Path) -> None:
    """The verdict is the first attribute that fails; the reason tells of all."""
    with trail_of(tmp_path, [approve("a", 1, by="u_1"), bypass("b", -1), release()]) as trail:
        (row,) = ask(trail).exceptions.to_dict("records")
        assert row["verdict"] == "approved_before_release"
        assert row["reason"] == (
            "The approval came after the release. The approver is the author of the change. "
            "A protection of this target was bypassed shortly before: b."
        )


# --- ends, kinds, nothing ------------------------------------------------------------------------------------


def test_a_release_exactly_at_an_end(tmp_path: Path) -> None:
    """At since: in. At until: out. A microsecond before either: out, in. Whatever the zone, and on a leap day."""
    for folder, (tz, since, until, inside, outside) in enumerate(
        [
            ("UTC", "2026-03-01", "2026-06-01", ["2026-03-01T00:00:00Z", "2026-05-31T23:59:59.999999Z"],
             ["2026-02-28T23:59:59.999999Z", "2026-06-01T00:00:00Z"]),
            ("Europe/Berlin", "2026-03-01", "2026-06-01", ["2026-02-28T23:00:00Z", "2026-05-31T21:59:59.999999Z"],
             ["2026-02-28T22:59:59.999999Z", "2026-05-31T22:00:00Z"]),
            ("UTC", "2028-02-29", "2028-03-01", ["2028-02-29T00:00:00Z", "2028-02-29T23:59:59.999999Z"],
             ["2028-02-28T23:59:59.999999Z", "2028-03-01T00:00:00Z"]),
        ]
    ):  # fmt: skip
        made = [event(f"{n}", "release.deploy", time, {}) for n, time in enumerate([*outside, *inside])]
        with trail_of(tmp_path / str(folder), made) as trail:
            assert ask(trail, since, until, tz=tz).found.items["item"].tolist() == ["2", "3"]


def test_the_approval_is_searched_as_far_back_as_agreed(tmp_path: Path) -> None:
    """90 days before the period; one before that does not count, and one after the period is seen as late."""
    made = [
        release("a", change="C-1"),
        release("b", change="C-2"),
        release("c", change="C-3"),
        event("x", "change.approve", "2025-12-01T00:00:00Z", {"author": "u_1", "change_id": "C-1"}, actor="u_2"),
        event("y", "change.approve", "2025-11-30T23:59:59Z", {"author": "u_1", "change_id": "C-2"}, actor="u_2"),
        event("z", "change.approve", "2026-08-01T00:00:00Z", {"author": "u_1", "change_id": "C-3"}, actor="u_2"),
    ]
    found = verdicts(tmp_path, *made)
    assert found == {"a": "pass", "b": "approval_exists", "c": "approved_before_release"}


def test_other_kinds_of_change_are_taken_in_when_asked(tmp_path: Path) -> None:
    """`kinds` names them; one that the catalogue does not know is told, and adds nothing."""
    made = [approve("a", -2), release(), event("c", "config.change", at(0), {"change_id": "C-1"})]
    with trail_of(tmp_path, made) as trail:
        assert len(ask(trail).found.items) == 1
        both = ask(trail, kinds=["change", "release", "relaese"])
        assert dict(zip(both.found.items["item"], both.found.items["verdict"], strict=True)) == {
            "c": "approval_exists",  # the catalogue states no place for the change of a config.change
            "r": "pass",
        }
        assert "no action of kind relaese" in repr(both.conclusion)


def test_one_event_id_in_two_sources_is_two_releases(tmp_path: Path) -> None:
    """Each with its own verdict, and a packet that passes its checks."""
    made = [
        event("1", "release.deploy", at(0), {"change_id": "C-1", "author": "u_1"}, source="a/1"),
        event("1", "release.deploy", at(1), {"change_id": "C-2", "author": "u_1"}, source="b/1"),
        event("1", "change.approve", at(-1), {"change_id": "C-1", "author": "u_1"}, actor="u_2", source="c/1"),
    ]
    vault = vault_of(tmp_path, made)
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        answer = ask(trail)
        assert answer.found.items["verdict"].tolist() == ["pass", "approval_exists"]
        assert answer.answer().rows == {(0, 0), (0, 1), (0, 2)}
    build_packet("change-management", str(vault), {}, tmp_path / "packet", keys=simulator.KEY.verifier)
    assert check(read_folder(tmp_path / "packet"), (simulator.KEY.verifier,)).findings == ()


def test_what_a_record_says_stays_text(tmp_path: Path) -> None:
    """Ids and targets full of markup, formulas and control characters: the packet passes its own checks."""
    texts = ["<script>x</script>", "=1+1", "\x1b[31m", "a\r\nb", "$\\x$", "x" * 1000, "'q", "\u202e"]
    made = []
    for n, text in enumerate(texts):
        context = {"author": text, "change_id": text}
        made += [
            event(f"={n}", "release.deploy", at(n), context, actor=text, target=text),
            event(f"<{n}>", "change.approve", at(n - 1), context, actor=text, target=text),
            event(f"@{n}", "change.bypass", at(n - 1), context | {"protection": text}, actor=text, target=text),
        ]
    vault = vault_of(tmp_path, made)
    build_packet("change-management", str(vault), {}, tmp_path / "packet", keys=simulator.KEY.verifier)
    files = read_folder(tmp_path / "packet")
    assert check(files, (simulator.KEY.verifier,)).findings == ()
    assert b"<script>x" not in files["data/report.html"]


@pytest.mark.parametrize(
    ("since", "until"), [("2020-01-01", "2020-02-01"), ("2026-03-11", "2026-03-12"), ("2030-01-01", None)]
)
def test_a_period_without_releases_is_answered(since: str, until: str | None, tmp_path: Path) -> None:
    """Before, within and after the trail: no item, no potential exception, and words that say so."""
    made = [approve("a", -2), release(), event("late", "user.login", at(48))]
    with trail_of(tmp_path, made) as trail:
        answer = ask(trail, since, until)
        assert answer.found.items.empty
        assert answer.exceptions.empty
        packed = answer.answer()
        assert packed.exceptions == 0
        packed.write(tmp_path / "packed")
        assert list(packed.tables["releases"].columns) == list(ask(trail).found.items.columns)


def test_a_cloudtrail_trail_answers_too(tmp_path: Path) -> None:
    """An import alone holds no release: the answer says that it is not testable, or not answerable."""
    if not CLOUDTRAIL.is_dir():
        pytest.skip(f"{CLOUDTRAIL} is not here")
    made = simulator.Trail(tmp_path).create()
    now = parse_time("2026-11-01T00:00:00Z")
    made.clock = simulator.Clock(now)
    with made.sealer() as sealer:
        direct = Direct(sealer, simulator.KEY.verifier, lambda: now)
        import_files("cloudtrail", [str(CLOUDTRAIL)], direct, rejects=None, who="t")
    with open_trail(tmp_path / "vault", keys=simulator.KEY.verifier) as trail:
        answer = ask(trail, None, "2026-11-01")
        assert answer.found.items.empty
        assert "not testable" in answer.headline
        answer.answer().write(tmp_path / "packed")


# --- sampling ------------------------------------------------------------------------------------------------


def test_a_sample_is_drawn_from_the_releases() -> None:
    """By the auditor's word, and stated; all releases stay in the population."""
    answer = ask(sample_trail(), sample=Rule("simple", size=10, word="heron"))
    packed = answer.answer()
    assert len(packed.tables["sample"]) == packed.population["sample"]["drawn"] == 10
    assert len(packed.tables["releases"]) == planted()["changes"]["in_window"]
    more = ask(sample_trail(), sample=Rule("simple", size=20, word="heron")).answer()
    assert set(packed.tables["sample"]["item"]) <= set(more.tables["sample"]["item"])


# --- the same by hand ----------------------------------------------------------------------------------------


def slow(made: list[Record], hours: int = 24) -> dict[str, str]:
    """The verdicts as slowly and as plainly as possible."""
    events = [(parse_time(r.event.occurred_at), n, r.event) for n, r in enumerate(made)]
    last = max(parse_time(r.receipt.recorded_at) for r in made)
    found = {}
    for released, _, item in events:
        if item.action != "release.deploy":
            continue
        change = item.context.get("change_id")
        mine = [e for e in sorted(events, key=lambda e: e[:2]) if change and e[2].context.get("change_id") == change]
        authors = {e[2].context["author"] for e in mine if "author" in e[2].context and e[2].action != "change.bypass"}
        decided = [e for e in mine if e[2].action in ("change.approve", "change.reject")]
        refused = [e for e in decided if e[2].action == "change.reject" and e[0] <= released]
        stands = [
            e
            for e in decided
            if e[2].action == "change.approve" and (not refused or (e[:2] > refused[-1][:2] and e[0] <= released))
        ]
        urgent = item.context.get("emergency") is True
        results = []
        for when, _, one in stands:
            late = when > released and not (urgent and when - released <= hours * HOUR)
            results.append((late, one.actor.id in authors, not authors))
        bypassed = any(
            e[2].action == "change.bypass"
            and (
                (change and e[2].context.get("change_id") == change)
                or (e[2].target == item.target and 0 <= released - e[0] <= 24 * HOUR)
            )
            for e in events
        )
        if not results:
            open_yet = bool(change) and urgent and not refused and released + hours * HOUR > last
            first = "" if open_yet else "approval_exists"
            unsure = open_yet
        else:
            best = min(results, key=lambda r: (r[0] + r[1], 3 * r[0] or 2 * r[1], r[2]))
            first = "approved_before_release" if best[0] else "author_is_not_approver" if best[1] else ""
            unsure = best[2]
        found[item.event_id] = first or ("no_protection_bypass" if bypassed else "not-testable" if unsure else "pass")
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_verdicts_are_those_of_a_slow_transcription(seed: int, tmp_path: Path) -> None:
    """Random releases, decisions and bypasses of few changes, at few moments, in any order."""
    dice = random.Random(seed)
    people = ["u_1", "u_2", "u_3"]
    made: list[Record] = []
    for n in range(70):
        hours, change = dice.choice([-30, -3, -1, 0, 0, 1, 3, 23, 25, 50]), f"C-{dice.randrange(9)}"
        kind = dice.choice(["release", "release", "approve", "approve", "reject", "bypass"])
        if kind == "release":
            author = dice.choice([None, "u_1", "u_2"])
            urgent = dice.random() < 0.4
            made.append(release(f"r{n}", hours, dice.choice([change, None]), author=author, emergency=urgent))
        elif kind == "approve":
            made.append(approve(f"a{n}", hours, dice.choice(people), change, dice.choice(people)))
        elif kind == "reject" and dice.random() < 0.4:
            made.append(reject(f"d{n}", hours, change))
        elif kind == "bypass" and dice.random() < 0.2:
            made.append(bypass(f"b{n}", hours, change, dice.choice(["billing", "x"])))
    assert verdicts(tmp_path, *made) == slow(made)
