"""Periodic reviews: what was planted is found, nobody reviews themselves unseen, and each end is right to the event."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import simulator
from lists import identities
from packets import CLOUDTRAIL, SAMPLE_KEY, check, event, planted, read_folder, sample_trail, sample_vault, trail_of
from people import cloudtrail_vault, outcome, packed, reason, revoke, verdicts

from auditlib.evidence import review_performed
from auditlib.evidence.examined import Examined
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.event import Record
from auditlib.formats.times import DAY, format_time, from_datetime, parse_time
from auditlib.packet.build import build_packet
from auditlib.sampling import Rule
from auditlib.trail import Trail
from auditlib.trail import open as open_trail

AT = "2026-03-10T12:00:00Z"
SEEN = event("end", "user.login", "2026-09-30T00:00:00Z", actor="u_99")  # how far the trail reaches
FINDINGS = {
    "performed late": "performed_on_time",
    "removal not carried out": "removals_carried_out",
    "reviewer is a subject": "reviewer_not_subject",
}


def ask(trail: Trail, since: str | None = "2026-03-01", until: str | None = "2026-06-01", **more: Any) -> Examined:
    return review_performed(trail, since=since, until=until, **more)


def review(name: str = "r", at: str = AT, rows: Any = 1, by: str = "u_5", of: str = "Q1", **context: Any) -> Record:
    given = {"entitlement": "admin", "listing_rows": rows, "listing_sha256": "0" * 64, "review_id": of} | context
    return event(name, "access.review", at, given, actor=by, target=of or "none")


def decide(
    name: str, who: str = "u_1", what: str = "keep", at: str = "2026-03-10T11:00:00Z", by: str = "u_5", of: str = "Q1"
) -> Record:
    context = {"decision": what, "entitlement": "admin", "review_id": of}
    return event(name, "access.review.decide", at, context, actor=by, target=who)


# --- the sample ----------------------------------------------------------------------------------------------


def test_the_sample_answers_exactly_what_was_planted() -> None:
    """Review by review: who, when, the decisions, the removals and what was found."""
    answer = ask(sample_trail(), "2026-01-01", "2026-07-01")
    items = answer.found.items.set_index("item")
    decisions = answer.found.tables["decisions"]
    assert set(items.index) == {line["event_id"] for line in planted()["access_reviews"]}
    for line in planted()["access_reviews"]:
        row = items.loc[line["event_id"]]
        assert (row["review_id"], row["actor_id"], row["due"]) == (line["review_id"], line["reviewer"], line["due"])
        assert format_time(from_datetime(row["occurred_at"])) == line["occurred_at"]
        assert row["listing_rows"] == row["decided"] == len(line["holders"])
        failed = {name for name in answer.found.attributes if row[name] == "fail"}
        assert failed == {FINDINGS[finding] for finding in line["findings"]}
        own = decisions[decisions["review"] == line["event_id"]].set_index("grantee")
        assert own["event_id"].to_dict() == line["decisions"]
        removals = {subject: row["removal"] for subject, row in own.iterrows() if row["decision"] == "remove"}
        expected = {removal["subject"]: removal["removed"] for removal in line["removals"]}
        assert {who: None if event_id != event_id else event_id for who, event_id in removals.items()} == expected


def test_the_notebook_gives_a_packet_that_its_checks_accept(tmp_path: Path) -> None:
    """End to end; reviews, decisions and removals with their proofs."""
    asked = {"since": "2026-01-01", "until": "2026-07-01"}
    build_packet("review-performed", str(sample_vault()), asked, tmp_path / "packet", keys=SAMPLE_KEY)
    files = read_folder(tmp_path / "packet")
    report = check(files)
    assert report.findings == ()
    assert report.packet["population"]["items"] == len(planted()["access_reviews"])
    for line in planted()["access_reviews"]:
        for event_id in [*line["decisions"].values(), *(one["removed"] for one in line["removals"] if one["removed"])]:
            assert event_id.encode() in files["data/events.jsonl"]


# --- attribute by attribute ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("due", "at", "expected"),
    [
        ("2026-03-10", "2026-03-10T22:59:59.999999Z", "pass"),  # Berlin's midnight
        ("2026-03-10", "2026-03-10T23:00:00Z", "fail"),
        ("2026-03-10T12:00:00+01:00", "2026-03-10T11:00:00Z", "pass"),
        ("2026-03-10T12:00:00+01:00", "2026-03-10T11:00:00.000001Z", "fail"),
        ("soon", AT, "not-testable"),
        (None, AT, "n/a"),
    ],
)
def test_a_due_day_ends_where_the_asker_lives(tmp_path: Path, due: str | None, at: str, expected: str) -> None:
    """To the microsecond; what cannot be read is not testable."""
    made = [decide("d"), review(at=at, **({"due": due} if due else {})), SEEN]
    with trail_of(tmp_path, made) as trail:
        assert outcome(ask(trail, tz="Europe/Berlin"), "r", "performed_on_time") == expected


def test_a_holder_decided_on_twice_is_no_two_holders(tmp_path: Path) -> None:
    """The last decision counts; a listing of two rows is not matched by one holder."""
    made = [
        decide("d2", what="remove", at="2026-03-10T11:30:00Z"),
        decide("d1", at="2026-03-10T11:00:00Z"),
        review(rows=2),
        SEEN,
    ]
    with trail_of(tmp_path, made) as trail:
        answer = ask(trail)
        assert verdicts(answer) == {"r": "listing_matches"}
        assert reason(answer, "r").startswith("The listing has 2 rows; decided on: 1 holding.")
        assert outcome(answer, "r", "removals_carried_out") == "fail"


def test_two_reviews_of_one_id_are_not_told_apart(tmp_path: Path) -> None:
    """Whose decisions are whose is not guessed; a review without an id neither."""
    made = [decide("d"), review("r1"), review("r2", "2026-03-11T00:00:00Z"), review("r3", of="", by="u_6"), SEEN]
    with trail_of(tmp_path, made) as trail:
        assert verdicts(ask(trail)) == dict.fromkeys(("r1", "r2", "r3"), "not-testable")


def test_nobody_reviews_themselves(tmp_path: Path) -> None:
    """The reviewer among the reviewed; somebody else's own decision; a second account, by person."""
    made = [
        *[decide("a", "u_5", of="A"), review("ra", of="A")],
        *[decide("b", "u_6", by="u_6", of="B"), review("rb", of="B")],
        *[decide("c", "u_7", of="C"), review("rc", of="C")],
        *[review("rd", rows=0, of="D")],
        SEEN,
    ]
    with trail_of(tmp_path, made) as trail:
        answer = ask(trail)
        outcomes = {item: outcome(answer, item, "reviewer_not_subject") for item in ("ra", "rb", "rc", "rd")}
        assert outcomes == {"ra": "fail", "rb": "fail", "rc": "pass", "rd": "not-testable"}
        by_person = ask(trail, identities=identities(("P-1", "u_5"), ("P-1", "u_7")))
        assert outcome(by_person, "rc", "reviewer_not_subject") == "fail"
        assert "unsealed evidence" in reason(by_person, "rc")


def test_a_removal_is_carried_out_in_the_agreed_days(tmp_path: Path) -> None:
    """At their end: in time. A microsecond later: not. Before the decision: not. Not yet due: not applicable."""
    made = [decide(f"d{n}", f"u_{n}", "remove", "2026-03-10T11:00:00Z", of=f"R{n}") for n in range(5)]
    made += [review(f"r{n}", of=f"R{n}") for n in range(5)]
    made += [
        revoke("x0", "2026-03-24T11:00:00Z", target="u_0"),
        revoke("x1", "2026-03-24T11:00:00.000001Z", target="u_1"),
        revoke("x2", "2026-03-09T11:00:00Z", target="u_2"),
        revoke("x3", "2026-03-11T11:00:00Z", "editor", target="u_3"),
        revoke("x4", "2026-03-11T11:00:00Z", target="u_4", outcome="denied"),
    ]
    with trail_of(tmp_path / "1", [*made, SEEN]) as trail:
        answer = ask(trail)
        assert list(verdicts(answer).values()) == ["pass", *["removals_carried_out"] * 4]
        assert "later than that: u_1" in reason(answer, "r1")
    early = [record for record in made if parse_time(record.event.occurred_at) <= parse_time("2026-03-11T11:00:00Z")]
    with trail_of(tmp_path / "2", early) as trail:
        answer = ask(trail)
        assert {outcome(answer, f"r{n}", "removals_carried_out") for n in range(5)} == {"n/a"}


def test_a_decision_that_is_none_is_not_testable(tmp_path: Path) -> None:
    """Neither keep nor remove."""
    with trail_of(tmp_path, [decide("d", what="<b>maybe"), review(rows="many"), SEEN]) as trail:
        answer = ask(trail)
        assert verdicts(answer) == {"r": "not-testable"}
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_spans_without_a_review_are_told(tmp_path: Path) -> None:
    """By entitlement, whole spans alone, in the zone of the request; a month's last day stays one."""
    made = [
        event("first", "user.login", "2023-11-30T00:00:00Z"),
        *[decide("d"), review("r", "2024-02-29T12:00:00Z")],
        *[decide("e", of="E"), review("s", "2024-03-30T23:30:00Z", of="E", entitlement="editor")],
        SEEN,
    ]
    with trail_of(tmp_path, made) as trail:
        answer = ask(trail, "2023-11-30", "2024-04-15", every_months=1)
        told = [text for text in answer.conclusion.sentences if text.startswith("No review")]
        spans = "from 2023-11-30 to 2023-12-30, from 2023-12-30 to 2024-01-30"
        assert told == [
            f"No review of admin is recorded {spans} and from 2024-01-30 to 2024-02-29 (exclusive, UTC); one every "
            "month is expected.",
            f"No review of editor is recorded {spans}, from 2024-01-30 to 2024-02-29 and from 2024-02-29 to 2024-03-30 "
            "(exclusive, UTC); one every month is expected.",
        ]
        assert not any("No review of" in text for text in ask(trail, every_months=None).conclusion.sentences)


# --- periods and other trails --------------------------------------------------------------------------------


def test_a_review_exactly_at_an_end(tmp_path: Path) -> None:
    """At since: in. At until: out. A microsecond before each."""
    times = {
        "first": "2026-03-01T00:00:00Z",
        "last": "2026-05-31T23:59:59.999999Z",
        "before": "2026-02-28T23:59:59.999999Z",
        "after": "2026-06-01T00:00:00Z",
    }
    with trail_of(tmp_path, [*(review(name, at, of=name) for name, at in times.items()), SEEN]) as trail:
        assert list(verdicts(ask(trail))) == ["first", "last"]
        assert list(verdicts(ask(trail, until=None, through="2026-06-01"))) == ["first", "last", "after"]


@pytest.mark.parametrize("period", [("2020-01-01", "2020-06-01"), ("2030-01-01", "2030-06-01"), ("2026-04-01", None)])
def test_a_period_without_a_review(tmp_path: Path, period: tuple[str, str | None]) -> None:
    """Nothing was recorded: said, and packed."""
    with trail_of(tmp_path, [decide("d"), review(), SEEN]) as trail:
        answer = ask(trail, *period)
        assert answer.found.items.empty
        assert "not testable" in answer.headline or answer.headline.startswith("Not answerable")
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_a_catalogue_that_knows_no_reviews(tmp_path: Path) -> None:
    """Said, not crashed."""
    bare = parse_catalog(b'format = "auditlib/catalog/v1"\n[actions]\n')
    with trail_of(tmp_path, [event("x", "some.thing", context={"a": 1})], catalog=bare) as trail:
        answer = ask(trail)
        assert answer.found.items.empty and "no listed action" in repr(answer.population)
        assert packed(trail, answer, tmp_path / "packet")["report"].findings == ()


def test_a_cloudtrail_trail_answers_too(tmp_path: Path) -> None:
    """An import alone: no review in it."""
    if not CLOUDTRAIL.is_dir():
        pytest.skip(f"{CLOUDTRAIL} is not here")
    vault = cloudtrail_vault(tmp_path, CLOUDTRAIL, parse_time("2026-11-01T00:00:00Z"))
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        assert ask(trail, None, None).found.items.empty


def test_a_sample_of_reviews_is_drawn() -> None:
    """By the auditor's word."""
    answer = ask(sample_trail(), "2026-01-01", "2026-07-01", sample=Rule("simple", size=2, word="heron"))
    assert len(answer.answer().tables["sample"]) == 2


# --- the same by hand ----------------------------------------------------------------------------------------


def slow(made: list[Record], days: int) -> dict[str, set[str]]:
    """What fails of each review, as plainly as possible."""
    found = {}
    timed = sorted(((parse_time(r.event.occurred_at), n, r.event) for n, r in enumerate(made)), key=lambda one: one[:2])
    observed = max(parse_time(r.receipt.recorded_at) for r in made)
    for _, _, one in timed:
        if one.action != "access.review":
            continue
        last: dict[str, tuple[int, int, str]] = {}
        own = False
        for when, number, line in timed:
            if line.action == "access.review.decide" and line.context["review_id"] == one.context["review_id"]:
                last[line.target.id] = (when, number, str(line.context["decision"]))
                own |= line.target.id in (one.actor.id, line.actor.id)
        failed = {"reviewer_not_subject"} if own else set()
        failed |= {"listing_matches"} if len(last) != one.context["listing_rows"] else set()
        for who, (when, number, decision) in last.items():
            gone = [
                at
                for at, place, line in timed
                if line.action == "role.revoke" and line.target.id == who and (at, place) > (when, number)
            ]
            overdue = when + days * DAY <= observed if not gone else gone[0] > when + days * DAY
            failed |= {"removals_carried_out"} if decision == "remove" and overdue else set()
        found[one.event_id] = failed
    return found


def test_it_equals_the_plainest_reading(tmp_path: Path) -> None:
    """Random reviews, decisions and removals."""
    for seed in range(12):
        chance = random.Random(seed)

        def when(chance: random.Random = chance) -> str:
            return format_time(parse_time("2026-03-01T00:00:00Z") + chance.randrange(60) * DAY)

        people = [f"u_{n}" for n in range(5)]
        made = [review(f"r{n}", when(), chance.randrange(4), chance.choice(people), f"Q{n}") for n in range(4)]
        made += [
            decide(
                f"d{n}",
                chance.choice(people),
                chance.choice(["keep", "remove"]),
                when(),
                chance.choice(["u_8", *people]),
                f"Q{n % 4}",
            )
            for n in range(12)
        ]
        made += [revoke(f"x{n}", when(), target=chance.choice(people)) for n in range(6)]
        with trail_of(tmp_path / str(seed), made) as trail:
            answer = ask(trail, removal_days=7)
            found = {
                row["item"]: {name for name in answer.found.attributes if row[name] == "fail"}
                for row in answer.found.items.to_dict("records")
            }
            assert found == slow(made, 7), seed
