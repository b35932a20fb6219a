"""Approvers and how they approve: what was planted is found, and every way to deal with oneself is seen."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
import simulator
from lists import identities
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

from auditlib.evidence import ApproverConduct, approver_conduct, rings
from auditlib.evidence.rings import edges_of, find_rings
from auditlib.formats.event import Record
from auditlib.formats.times import SECOND, format_time, parse_time
from auditlib.imports import import_files
from auditlib.intakes import Direct
from auditlib.packet.build import build_packet
from auditlib.sampling import Rule
from auditlib.trail import Trail
from auditlib.trail import open as open_trail

NOON = parse_time("2026-03-10T12:00:00Z")
POLICY: dict[str, Any] = {"authorities": ["manager", "security-lead"]}


def at(seconds: float) -> str:
    return format_time(NOON + round(seconds * SECOND))


def approve(name: str, seconds: float, by: str, asked: str | None = "u_90", access: Any = None, **more: Any) -> Record:
    context = {
        "approver_role": more.get("role", "manager"),
        "entitlements": ["editor"],
        "request_id": more.get("request", f"REQ-{name}"),
        "requested_at": at(seconds - 60),
        "requester": asked,
        "subjects": access or ["u_91"],
    }
    return event(name, "access.approve", at(seconds), context, actor=by, source=more.get("source", "identity/1"))


def file(name: str, seconds: float, by: str, request: str) -> Record:
    context = {"entitlements": ["editor"], "request_id": request, "subjects": ["u_91"]}
    return event(name, "access.request", at(seconds), context, actor=by)


def moved(name: str, action: str, seconds: float, who: str) -> Record:
    return event(name, f"employee.{action}", at(seconds), {}, actor="svc_hr", target=who)


def ask(trail: Trail, since: Any = "2026-03-01", until: Any = "2026-06-01", **more: Any) -> ApproverConduct:
    return approver_conduct(trail, since=since, until=until, **more)


def verdicts(folder: Path, *made: Record, **more: Any) -> dict[str, str]:
    with trail_of(folder, list(made)) as trail:
        items = ask(trail, **more).found.items
        return dict(zip(items["item"], items["verdict"], strict=True))


def named(approver: str, seconds: float, others: str, times: int = 2) -> list[Record]:
    """`times` approvals of one for each of the others."""
    return [
        approve(f"{approver}{other}{n}", seconds + 3600 * n, approver, other, [other])
        for other in others
        for n in range(times)
    ]


# --- the sample ----------------------------------------------------------------------------------------------


def flagged(answer: ApproverConduct, flag: str) -> set[str]:
    decisions = answer.found.tables["decisions"]
    return set(decisions.loc[decisions[flag], "event_id"])


def test_the_sample_answers_exactly_what_was_planted() -> None:
    """Over the whole trail: the ring, the run, who had no authority, who had left, who dealt with themselves."""
    conduct = planted()["approver_conduct"]
    answer = ask(sample_trail(), "2026-01-01", "2026-07-01", **POLICY)
    decisions = answer.found.tables["decisions"]
    assert (decisions["decision"] == "approved").sum() == conduct["approvals"]
    assert flagged(answer, "outside_authority") == {
        line["event_id"] for key in ("outside_authority", "after_leaving") for line in conduct[key]
    }
    ring = conduct["ring"]
    assert answer.found.tables["rings"]["ring"].tolist() == [" → ".join([*ring["members"], ring["members"][0]])]
    assert set(ring["planted"]) <= {name for names in ring["approvals"].values() for name in names}
    assert {name for names in ring["approvals"].values() for name in names} <= flagged(answer, "on_ring")
    assert flagged(answer, "stamped") == set(conduct["rubber_stamping"]["approvals"])
    wrong = {"approved by its own subject", "approved by who asked for it"}
    own = {grant["grantee"]: grant for grant in planted()["admin_grants"] if grant["note"] in wrong}
    dealt = decisions[decisions["self_dealing"]]
    assert set(dealt["subjects"]) == set(own)


def test_the_verdicts_of_the_sample_are_those_planted() -> None:
    """Approver by approver, in the auditor's window."""
    conduct = planted()["approver_conduct"]
    items = ask(sample_trail(), **POLICY).found.items.set_index("item")
    stamping = conduct["rubber_stamping"]
    assert items.loc[stamping["approver"], "verdict"] == "no_rubber_stamping"
    assert items.loc[stamping["approver"], "longest_run"] == len(stamping["approvals"])
    assert set(items.index[items["no_ring"] == "fail"]) == set(conduct["ring"]["members"])
    outside = {line["actor"] for key in ("outside_authority", "after_leaving") for line in conduct[key]}
    assert set(items.index[items["within_authority"] == "fail"]) == outside
    assert set(items.index[items["no_rubber_stamping"] == "fail"]) == {stamping["approver"]}
    assert (items["evidence"] == "sealed").all()


def test_the_second_account_of_the_sample_is_found_by_person() -> None:
    """By account u_1143 is somebody else; by the attached identities the approver is the subject."""
    second, conduct = planted()["approver_conduct"]["second_account"], planted()["approver_conduct"]
    assert second["approval"] not in flagged(ask(sample_trail(), **POLICY), "self_dealing")
    known = identities(("E-43", second["account"]), ("E-43", conduct["ring"]["members"][1]))
    answer = ask(sample_trail(), **POLICY, identities=known)
    assert second["approval"] in flagged(answer, "self_dealing")
    row = answer.found.items.set_index("item").loc["E-43"]
    assert row["verdict"] == "no_self_dealing"
    assert row["evidence"] == "unsealed evidence"
    assert row["accounts"] == f"{conduct['ring']['members'][1]}, {second['account']}"
    assert "of own access. By the attached identities (unsealed evidence). Approved 3 times for" in row["reason"]
    assert "1 verdict by the attached identities alone (unsealed evidence)" in repr(answer.conclusion)


def test_the_packet_of_the_sample_passes_its_own_checks(tmp_path: Path) -> None:
    """Built by the notebook; every decision of the period, its request, and who left or joined."""
    build_packet("approver-conduct", str(sample_vault()), {}, tmp_path / "packet", keys=SAMPLE_KEY)
    files = read_folder(tmp_path / "packet")
    assert check(files).findings == ()
    for name in planted()["approver_conduct"]["rubber_stamping"]["approvals"]:
        assert name.encode() in files["data/events.jsonl"]
    assert b'"employee.leave"' in files["data/events.jsonl"]
    assert "Who approved for whom" in files["data/report.html"].decode()


# --- dealing with oneself ------------------------------------------------------------------------------------

CASES: dict[str, tuple[list[Record], dict[str, str]]] = {
    "in order": ([approve("a", 0, "u_1")], {"u_1": "pass"}),
    "an own request": ([approve("a", 0, "u_1", asked="u_1")], {"u_1": "no_self_dealing"}),
    "own access": ([approve("a", 0, "u_1", access=["u_1"])], {"u_1": "no_self_dealing"}),
    "own access among that of many": (
        [approve("a", 0, "u_1", access=[f"u_{n}" for n in range(200)])],
        {"u_1": "no_self_dealing"},
    ),
    "an own request under another's name": (
        [file("f", -60, "u_1", "REQ-a"), approve("a", 0, "u_1", asked="u_8")],
        {"u_1": "no_self_dealing"},
    ),
    "an own request, filed again by another": (
        [file("f", -60, "u_1", "REQ-a"), file("g", -90, "u_8", "REQ-a"), approve("a", 0, "u_1", asked="u_8")],
        {"u_1": "no_self_dealing"},
    ),
    "nobody says who asked": ([approve("a", 0, "u_1", asked="")], {"u_1": "not-testable"}),
    "the request says who asked": (
        [file("f", -60, "u_8", "REQ-a"), approve("a", 0, "u_1", asked="")],
        {"u_1": "pass"},
    ),
    "nobody says whose access": ([approve("a", 0, "u_1", access=[""])], {"u_1": "not-testable"}),
    "a pair, twice each way": (
        [*named("A", 0, "B"), *named("B", 50, "A")],
        {"A": "no_ring", "B": "no_ring"},
    ),
    "a pair, once one way": ([*named("A", 0, "B"), *named("B", 50, "A", 1)], {"A": "pass", "B": "pass"}),
    "a ring of three": (
        [*named("A", 0, "B"), *named("B", 50, "C"), *named("C", 99, "A")],
        dict.fromkeys("ABC", "no_ring"),
    ),
    "a ring of five is past the longest": (
        [record for n, one in enumerate("ABCDE") for record in named(one, n * 50, "BCDEA"[n])],
        dict.fromkeys("ABCDE", "pass"),
    ),
    "no ring: one approves for all": (
        [*named("A", 0, "BCDE"), *named("B", 50, "CD")],
        {"A": "pass", "B": "pass"},
    ),
    "five in a row": ([approve(f"a{n}", 10 * n, "u_1") for n in range(5)], {"u_1": "no_rubber_stamping"}),
    "four in a row": ([approve(f"a{n}", 10 * n, "u_1") for n in range(4)], {"u_1": "pass"}),
    "five, a moment too far apart": ([approve(f"a{n}", 10.000001 * n, "u_1") for n in range(5)], {"u_1": "pass"}),
    "five in a row of two people": (
        [approve(f"a{n}", 10 * n, f"u_{n % 2}") for n in range(5)],
        {"u_0": "pass", "u_1": "pass"},
    ),
    "five at one moment": ([approve(f"a{n}", 0, "u_1") for n in range(5)], {"u_1": "no_rubber_stamping"}),
    "another authority": ([approve("a", 0, "u_1", role="engineer")], {"u_1": "within_authority"}),
    "no authority": ([approve("a", 0, "u_1", role=None)], {"u_1": "not-testable"}),
    "after leaving": ([moved("m", "leave", -1, "u_1"), approve("a", 0, "u_1")], {"u_1": "within_authority"}),
    "at the moment of leaving": ([moved("m", "leave", 0, "u_1"), approve("a", 0, "u_1")], {"u_1": "pass"}),
    "before leaving": ([moved("m", "leave", 1, "u_1"), approve("a", 0, "u_1")], {"u_1": "pass"}),
    "after leaving and joining again": (
        [moved("m", "leave", -9, "u_1"), moved("j", "join", -8, "u_1"), approve("a", 0, "u_1")],
        {"u_1": "pass"},
    ),
    "after leaving again": (
        [moved("j", "join", -9, "u_1"), moved("m", "leave", -8, "u_1"), approve("a", 0, "u_1")],
        {"u_1": "within_authority"},
    ),
    "a denial is no approval": (
        [event("d", "access.deny", at(0), {"request_id": "REQ-1"}, actor="u_1"), approve("a", 0, "u_2")],
        {"u_2": "pass"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_way_to_approve(name: str, tmp_path: Path) -> None:
    """Each of CASES has the verdicts that stand beside it, in whatever order its records were sealed."""
    made, expected = CASES[name]
    assert verdicts(tmp_path / "one", *made, **POLICY) == expected
    assert verdicts(tmp_path / "two", *reversed(made), **POLICY) == expected


def test_an_approval_for_too_many_to_read_is_not_testable(tmp_path: Path) -> None:
    """Subjects past what is read could hide the approver among them: that is said, and passes nobody."""
    many = {"entitlements": [f"e{n}" for n in range(101)], "subjects": [f"u_{n}" for n in range(100)]}
    made = approve("a", 0, "u_1")
    made.event.context.update(many)
    assert verdicts(tmp_path, made, **POLICY) == {"u_1": "not-testable"}


def test_two_accounts_of_a_person_are_one_approver(tmp_path: Path) -> None:
    """A run over two accounts, and a pair that is one person: by the attached identities alone."""
    made = [approve(f"a{n}", 5 * n, f"u_{n % 2}") for n in range(5)]
    with trail_of(tmp_path, made) as trail:
        assert set(ask(trail).found.items["verdict"]) == {"pass"}
        answer = ask(trail, identities=identities(("E-1", "u_0"), ("E-1", "u_1")))
        (row,) = answer.found.items.to_dict("records")
        assert (row["item"], row["event_id"], row["accounts"]) == ("E-1", "a0", "u_0, u_1")
        assert (row["verdict"], row["evidence"], row["longest_run"]) == ("no_rubber_stamping", "unsealed evidence", 5)


def test_an_approver_is_told_by_the_first_approval_of_the_period(tmp_path: Path) -> None:
    """The item's event is the first by when it occurred, not by when it was sealed; a roll-forward keeps it."""
    made = [approve("later", 90, "u_1"), approve("first", 0, "u_1"), approve("other", 5, "u_2")]
    with trail_of(tmp_path, made) as trail:
        items = ask(trail).found.items
        assert items[["item", "event_id"]].to_numpy().tolist() == [["u_1", "first"], ["u_2", "other"]]
        assert items["approvals"].tolist() == [2, 1]
        longer = ask(trail, until="2026-12-30").found.items
        assert longer[["item", "event_id"]].equals(items[["item", "event_id"]])


def test_how_long_it_took_is_counted_from_the_filed_request(tmp_path: Path) -> None:
    """From the first filing; where there is none from what the approval states; a time that is none counts not."""
    made = [
        file("f", -600, "u_8", "REQ-a"),
        file("g", -300, "u_8", "REQ-a"),
        approve("a", 0, "u_1"),
        approve("b", 100, "u_2"),
        approve("c", 200, "u_3"),
    ]
    made[-1].event.context["requested_at"] = "long ago"
    with trail_of(tmp_path, made) as trail:
        found = ask(trail).found.items.set_index("item")["median_seconds"]
        assert found[["u_1", "u_2"]].tolist() == [600.0, 60.0]
        assert found.isna()["u_3"]


def test_every_fault_stands_in_the_reason(tmp_path: Path) -> None:
    """The verdict is the first attribute that fails; the reason tells of all, naming the approvals."""
    made = [approve(f"a{n}", n, "u_1", asked="u_1", role="engineer") for n in range(5)]
    with trail_of(tmp_path, made) as trail:
        (row,) = ask(trail, **POLICY).exceptions.to_dict("records")
        assert row["verdict"] == "no_self_dealing"
        assert row["reason"] == (
            "5 approvals (a0, a1, a2, ...) of an own request, or of own access. "
            "5 approvals in a run that took 4 s, from 2026-03-10 12:00:00 UTC. "
            "5 approvals (a0, a1, a2, ...) by an authority that is not named: engineer."
        )


def test_nothing_is_said_of_authority_where_nobody_is_named_and_nobody_moved(tmp_path: Path) -> None:
    """n/a; with leavings in the trail it is tested whether the approver had left."""
    with trail_of(tmp_path / "one", [approve("a", 0, "u_1", role="engineer")]) as trail:
        assert ask(trail).found.items["within_authority"].tolist() == ["n/a"]
    made = [approve("a", 0, "u_1", role="engineer"), moved("m", "leave", 9, "u_1")]
    with trail_of(tmp_path / "two", made) as trail:
        assert ask(trail).found.items["within_authority"].tolist() == ["pass"]


# --- rings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_every_step_of_a_ring_is_on_a_ring_that_is_named(seed: int) -> None:
    """Against all rings of at most so many members, written out: the same steps, and each named ring is one."""
    dice = random.Random(seed)
    people = "ABCDEF"
    edges = {(dice.choice(people), dice.choice(people)) for _ in range(dice.randrange(1, 16))}
    longest = dice.randrange(2, 6)
    every = {
        ring
        for size in range(2, longest + 1)
        for ring in permutations(people, size)
        if ring[0] == min(ring) and set(edges_of(ring)) <= edges
    }
    found = find_rings(edges, longest)
    assert set(found) <= every
    assert found == sorted(set(found), key=lambda ring: (len(ring), ring))
    assert {edge for ring in found for edge in edges_of(ring)} == {edge for ring in every for edge in edges_of(ring)}


def test_past_very_many_steps_only_pairs_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of approvals stops nothing: pairs are still found."""
    monkeypatch.setattr(rings, "MAX_EDGES", 3)
    edges = [("A", "B"), ("B", "C"), ("C", "A"), ("C", "B")]
    assert find_rings(edges, 4) == [("B", "C")]


# --- ends, kinds, nothing ------------------------------------------------------------------------------------


def test_an_approval_exactly_at_an_end(tmp_path: Path) -> None:
    """At since: in. At until: out. A microsecond before either: out, in. Whatever the zone, and on a leap day."""
    for folder, (tz, since, until, times) in enumerate(
        [
            ("UTC", "2026-03-01", "2026-06-01", ["2026-02-28T23:59:59.999999Z", "2026-03-01T00:00:00Z",
             "2026-05-31T23:59:59.999999Z", "2026-06-01T00:00:00Z"]),
            ("Europe/Berlin", "2026-03-01", "2026-06-01", ["2026-02-28T22:59:59.999999Z", "2026-02-28T23:00:00Z",
             "2026-05-31T21:59:59.999999Z", "2026-05-31T22:00:00Z"]),
            ("UTC", "2028-02-29", "2028-03-01", ["2028-02-28T23:59:59.999999Z", "2028-02-29T00:00:00Z",
             "2028-02-29T23:59:59.999999Z", "2028-03-01T00:00:00Z"]),
        ]
    ):  # fmt: skip
        made = [approve(f"{n}", (parse_time(time) - NOON) / SECOND, f"u_{n}") for n, time in enumerate(times)]
        with trail_of(tmp_path / str(folder), made) as trail:
            assert ask(trail, since, until, tz=tz).found.items["item"].tolist() == ["u_1", "u_2"]


def test_approvals_of_changes_are_taken_in_when_asked(tmp_path: Path) -> None:
    """`kinds` names them; the author is whose change was approved."""
    made = [event("c", "change.approve", at(0), {"author": "u_1", "change_id": "C-1"}, actor="u_1")]
    with trail_of(tmp_path, [*made, approve("a", 0, "u_2")]) as trail:
        assert ask(trail).found.items["item"].tolist() == ["u_2"]
        both = ask(trail, kinds=["approval", "change-approval"]).found.items
        assert dict(zip(both["item"], both["verdict"], strict=True)) == {"u_1": "no_self_dealing", "u_2": "pass"}


@pytest.mark.parametrize(
    ("since", "until"), [("2020-01-01", "2020-02-01"), ("2026-03-11", "2026-03-12"), ("2030-01-01", None)]
)
def test_a_period_without_approvals_is_answered(since: str, until: str | None, tmp_path: Path) -> None:
    """Before, within and after the trail: no item, no potential exception, no picture."""
    made = [approve("a", 0, "u_1"), event("late", "user.login", at(200_000))]
    with trail_of(tmp_path, made) as trail:
        answer = ask(trail, since, until)
        assert answer.found.items.empty
        packed = answer.answer()
        assert packed.exceptions == 0
        assert packed.figures == {}
        packed.write(tmp_path / "packed")
        assert list(packed.tables["approvers"].columns) == list(ask(trail).found.items.columns)


def test_denials_alone_make_no_approver(tmp_path: Path) -> None:
    """They stand in the table of decisions."""
    made = [event("d", "access.deny", at(0), {"request_id": "REQ-1"}, actor="u_1")]
    with trail_of(tmp_path, made) as trail:
        answer = ask(trail)
        assert answer.found.items.empty
        assert answer.answer().tables["decisions"]["event_id"].tolist() == ["d"]
        answer.answer().write(tmp_path / "packed")


def test_a_cloudtrail_trail_answers_too(tmp_path: Path) -> None:
    """An import alone holds no approval."""
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
        answer.answer().write(tmp_path / "packed")


def test_what_a_record_says_stays_text(tmp_path: Path) -> None:
    """Approvers whose names are markup, formulas, mathematics and control characters: a sound packet and a picture."""
    texts = ["<script>x</script>", "=1+1", "\x1b[31m", "a\r\nb", "$\\x$", "x" * 1000, "'q", "\u202e", "\u4e2d\u6587"]
    made = [
        approve(f"<{n}{m}>", 3600 * n + m, text, texts[n - 1], [texts[n - 1]], role=text)
        for n, text in enumerate(texts)
        for m in range(2)
    ]
    vault = vault_of(tmp_path, made)
    build_packet("approver-conduct", str(vault), {"ring_size": "10"}, tmp_path / "packet", keys=simulator.KEY.verifier)
    files = read_folder(tmp_path / "packet")
    assert check(files, (simulator.KEY.verifier,)).findings == ()
    assert b"<script>x" not in files["data/report.html"]
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        assert ask(trail, ring_size=10).found.tables["rings"]["members"].tolist() == [len(texts)]


def test_a_sample_is_drawn_from_the_approvers() -> None:
    """The auditor names approvers as they stand in the table."""
    member = planted()["approver_conduct"]["rubber_stamping"]["approver"]
    answer = ask(sample_trail(), **POLICY, sample=Rule("chosen", chosen=(member,)))
    assert answer.answer().tables["sample"]["item"].tolist() == [member]


# --- the same by hand ----------------------------------------------------------------------------------------


def slow(made: list[Record], times: int, size: int, run: int, seconds: int) -> dict[str, list[str]]:
    """The failing attributes of each approver, as slowly and as plainly as possible."""
    given: dict[str, list[tuple[int, int, Record]]] = defaultdict(list)
    for n, record in enumerate(made):
        if record.event.action == "access.approve":
            given[record.event.actor.id].append((parse_time(record.event.occurred_at), n, record))
    steps: dict[tuple[str, str], int] = defaultdict(int)
    for who, approvals in given.items():
        for _, _, record in approvals:
            for other in {record.event.context["requester"], *record.event.context["subjects"]} - {who}:
                steps[who, other] += 1
    known = {step for step, number in steps.items() if number >= times}
    on_ring = {
        one
        for length in range(2, size + 1)
        for ring in permutations(given, length)
        if set(edges_of(ring)) <= known
        for one in ring
    }
    found = {}
    for who, approvals in given.items():
        ordered = sorted(approvals, key=lambda entry: entry[:2])
        longest = current = 1
        for before, after in pairwise(ordered):
            current = current + 1 if after[0] - before[0] <= seconds * SECOND else 1
            longest = max(longest, current)
        contexts = [record.event.context for _, _, record in approvals]
        fails = {
            "no_self_dealing": any(who == c["requester"] or who in c["subjects"] for c in contexts),
            "no_ring": who in on_ring,
            "no_rubber_stamping": longest >= run,
            "within_authority": any(c["approver_role"] == "engineer" for c in contexts),
        }
        found[who] = [name for name, wrong in fails.items() if wrong]
    return found


@pytest.mark.parametrize("seed", range(10))
def test_the_verdicts_are_those_of_a_slow_transcription(seed: int, tmp_path: Path) -> None:
    """Random approvals of few people at few moments, in any order."""
    dice = random.Random(seed)
    people = ["A", "B", "C", "D", "E", "F", "G"]
    times, size, run, seconds = dice.randrange(1, 4), dice.randrange(2, 5), dice.randrange(2, 5), dice.randrange(0, 30)
    made = []
    for n in range(45):
        by = dice.choice(people)
        others = [one for one in people if one != by or dice.random() < 0.05]
        role = "engineer" if dice.random() < 0.05 else "manager"
        access = [dice.choice(others) for _ in range(dice.randrange(1, 3))]
        made.append(approve(f"a{n}", dice.randrange(1500), by, dice.choice(others), access, role=role))
    with trail_of(tmp_path, made) as trail:
        asked = {"ring_times": times, "ring_size": size, "stamp_run": run, "stamp_seconds": seconds}
        items = ask(trail, **POLICY, **asked).found.items.set_index("item")
    names = ["no_self_dealing", "no_ring", "no_rubber_stamping", "within_authority"]
    fails = {str(who): [name for name in names if row[name] == "fail"] for who, row in items.iterrows()}
    assert fails == slow(made, times, size, run, seconds)
