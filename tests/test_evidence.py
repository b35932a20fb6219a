"""The role-grants answer: what was planted is found, the ends hold, and what a record says stays text."""

from __future__ import annotations

import atexit
import csv
import html
import io
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import simulator
from lists import identities
from packets import (
    CLOUDTRAIL,
    ROOT,
    SAMPLE_KEY,
    SAMPLES,
    answer_of,
    approval,
    check,
    event,
    fired,
    planted,
    read_folder,
    sample,
    sample_trail,
    sample_vault,
    trail_of,
    vault_of,
)

from auditlib.approvals import ATTRIBUTES, NOT_TESTABLE, Policy
from auditlib.attachments import Attachment, gather, load
from auditlib.errors import MalformedError
from auditlib.evidence import RoleGrants
from auditlib.formats.canonical import canonical
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.times import from_datetime, parse_time
from auditlib.imports import import_files
from auditlib.intakes import Direct
from auditlib.packet.build import Asked, _pack, build_packet
from auditlib.packet.notebook import Executed
from auditlib.packet.redaction import Cut
from auditlib.trail import open as open_trail

ANY = Policy()
POLICY = Policy(emergency_hours=24, authorities=("manager", "security-lead"))


@cache
def sample_answer() -> RoleGrants:
    return answer_of(sample_trail(), entitlement="admin", policy=POLICY)


def told(answer: RoleGrants) -> list[tuple[str, str]]:
    return list(zip(answer.verdicts["item"], answer.verdicts["verdict"], strict=True))


# --- the sample ----------------------------------------------------------------------------------------------


def test_the_sample_answers_exactly_what_was_planted() -> None:
    """Item by item: who, what, when and the verdict, as the generator wrote it down and never worked it out."""
    expected = {
        grant["item"]: (grant["grantee"], grant["entitlement"], parse_time(grant["occurred_at"]), grant["verdict"])
        for grant in planted()["admin_grants"]
    }
    verdicts = sample_answer().verdicts
    found = {
        row["item"]: (row["grantee"], row["entitlement"], from_datetime(row["occurred_at"]), row["verdict"])
        for row in verdicts.astype({"grantee": object}).replace({"grantee": {float("nan"): None}}).to_dict("records")
    }
    assert len(verdicts) == len(expected) == len(planted()["admin_grants"])
    assert found == expected


def test_the_exceptions_are_those_planted() -> None:
    """19, and no other; a failed and a denied grant are no grants."""
    wrong = {g["item"]: g["verdict"] for g in planted()["admin_grants"] if g["verdict"] not in ("pass", NOT_TESTABLE)}
    found = sample_answer().exceptions
    assert dict(zip(found["item"], found["verdict"], strict=True)) == wrong
    not_granted = {grant["event_id"] for grant in planted()["admin_grants_that_did_not_happen"]}
    assert not not_granted & {item.partition("#")[0] for item in sample_answer().verdicts["item"]}
    assert (found["reason"].str.len() > 0).all()


def test_the_grants_outside_the_period_are_answered_when_asked() -> None:
    """Before and after the window: planted too."""
    expected = {g["item"]: g["verdict"] for key in ("admin_grants", "admin_grants_outside") for g in planted()[key]}
    answer = answer_of(sample_trail(), since="2026-01-01", until="2026-07-01", entitlement="admin", policy=POLICY)
    assert dict(told(answer)) == expected


def test_every_other_grant_is_planted_too() -> None:
    """No entitlement asked: the exceptions among the others are exactly those written down."""
    answer = answer_of(sample_trail(), since="2026-01-01", until="2026-07-01", policy=POLICY)
    admin = {g["item"] for key in ("admin_grants", "admin_grants_outside") for g in planted()[key]}
    others = {item: verdict for item, verdict in told(answer) if item not in admin and verdict != "pass"}
    assert others == {grant["item"]: grant["verdict"] for grant in planted()["other_grants"]["exceptions"]}


def test_one_grant_to_several_is_several_items() -> None:
    """`event_id#n`, where one event grants to several."""
    items = [grant["item"] for grant in planted()["admin_grants"] if "#" in grant["item"]]
    assert items
    assert set(items) <= set(sample_answer().verdicts["item"])


def test_the_packet_holds_every_record_a_verdict_rests_on() -> None:
    """Grants, decisions, requests, revokes, the approvers' leaves and joins, and the earlier uses of an approval."""
    records = [json.loads(line)["event"] for line in sample()["data/events.jsonl"].splitlines()]
    ids = {record["event_id"] for record in records}
    assert {grant["event_id"] for grant in planted()["admin_grants"]} <= ids
    requests = {grant_request(record) for record in records if record["action"] == "role.grant"} - {None}
    everything = sample_trail().events(action=["access.*"]).df()
    for row in everything.to_dict("records"):
        context = json.loads(row["context"])
        if context.get("request_id") in requests and row["occurred_at"].strftime("%Y-%m") >= "2025-12":
            assert row["event_id"] in ids, (row["action"], context["request_id"])
    gone = {record["target"]["id"] for record in records if record["action"] == "employee.leave"}
    assert gone & {record["actor"]["id"] for record in records if record["action"] == "access.approve"}


def grant_request(record: Mapping[str, Any]) -> str | None:
    return record["context"].get("request_id")  # type: ignore[no-any-return]


def test_an_earlier_use_of_an_approval_is_in_the_packet(tmp_path: Path) -> None:
    """An approval for one use, used in February; the grant of March fails on it, and February's record is shown."""
    made = [
        approval("ok", "2026-02-01T00:00:00Z", ["u_1"], ["admin"], context={"uses": 1}),
        event("feb", at="2026-02-10T00:00:00Z", context={"granted_role": "admin", "request_id": "REQ-1"}),
        event("mar", at="2026-03-10T00:00:00Z", context={"granted_role": "admin", "request_id": "REQ-1"}),
        event("joined", "employee.join", "2026-02-02T00:00:00Z", target="u_5"),
    ]
    with trail_of(tmp_path, made) as trail:
        answer = answer_of(trail)
        assert told(answer) == [("mar", "within_uses")]
        packed = answer.answer()
        assert packed.tables["other_uses"]["item"].tolist() == ["feb"]
        assert packed.rows == {(0, 0), (0, 1), (0, 2), (0, 3)}


# --- lists from outside --------------------------------------------------------------------------------------


def tickets() -> Attachment:
    return load("approvals", SAMPLES / "lists" / "tickets.csv")


def test_tickets_give_the_verdicts_that_were_planted() -> None:
    """Item by item, and no other verdict changes; what rests on a ticket is unsealed evidence and counted apart."""
    whole: dict[str, Any] = {"since": "2026-01-01", "until": "2026-07-01", "policy": POLICY}
    answer = answer_of(sample_trail(), approvals=tickets(), **whole)
    alone = dict(told(answer_of(sample_trail(), **whole)))
    expected = planted()["tickets"]["verdicts"]
    found = dict(told(answer))
    assert {item: found[item] for item in expected} == expected
    assert {item: verdict for item, verdict in found.items() if item not in expected} == {
        item: verdict for item, verdict in alone.items() if item not in expected
    }
    evidence = answer.found.items.set_index("item")["evidence"]
    changed = {item for item in expected if expected[item] != alone[item]}
    assert set(evidence[evidence == "unsealed"].index) >= changed
    passed = [item for item, verdict in expected.items() if verdict == "pass"]
    assert (evidence[passed] == "unsealed").all()
    assert f"{len(passed)} of those that passed: approved (unsealed evidence), by a list from outside." in (
        answer.conclusion.sentences
    )


def test_identities_show_who_approved_their_own_second_account(tmp_path: Path) -> None:
    """By account two people, by person one: the verdict rests on the list."""
    made = [
        approval("ok", "2026-03-01T00:00:00Z", ["u_1"], ["admin"]),
        event("g", context={"granted_role": "admin", "request_id": "REQ-1"}),
        event("h", context={"granted_role": "admin", "request_id": "REQ-1"}, target="u_2"),
    ]
    with trail_of(tmp_path, made) as trail:
        assert dict(told(answer_of(trail)))["g"] == "pass"
        answer = answer_of(trail, identities=identities(("P-1", "u_1"), ("P-1", "u_5")))
        assert dict(told(answer))["g"] == "independent_approver"
        assert answer.found.items["evidence"].tolist() == ["unsealed", "sealed"]
        assert any(s.startswith("1 other verdict rests on a list from outside") for s in answer.conclusion.sentences)


def test_a_packet_with_tickets_identities_and_responses_passes_its_checks(tmp_path: Path) -> None:
    """Built by the notebook: responses stand beside the verdicts, and change none of them."""
    names = {"approvals": "tickets", "identities": "identities", "responses": "responses"}
    given = gather({name: SAMPLES / "lists" / f"{file}.csv" for name, file in names.items()})
    out = tmp_path / "packet"
    drawn = {"sample_method": "simple", "sample_size": "10", "sample_word": "heron"}
    build_packet("role-grants", str(sample_vault()), drawn, out, keys=SAMPLE_KEY, attached=given)
    files = read_folder(out)
    report = check(files)
    assert report.findings == ()
    packet = report.packet
    assert packet["references"] and packet["population"]["sample"]["drawn"] == 10
    rows = list(csv.DictReader(io.StringIO(files["data/tables/responses.csv"].decode("utf-8-sig"), newline="")))
    verdict = planted()["tickets"]["verdicts"] | {
        grant["item"]: grant["verdict"]
        for grant in planted()["admin_grants"]
        if grant["item"] not in planted()["tickets"]["verdicts"]
    }
    assert rows and all(row["verdict"] == verdict[row["item"]] for row in rows)
    assert "Management responses, untested" in files["data/report.html"].decode()
    assert any(text.startswith(f"Management responded to {len(rows)} items: untested") for text in packet["conclusion"])
    drawn_rows = list(csv.DictReader(io.StringIO(files["data/tables/sample.csv"].decode("utf-8-sig"), newline="")))
    assert len(drawn_rows) == 10
    outside = csv.DictReader(io.StringIO(files["data/tables/approvals.csv"].decode("utf-8-sig"), newline=""))
    assert [row["item"] for row in outside if not row["event_id"]]


def test_a_role_whose_members_nobody_states_is_not_testable() -> None:
    """A redefinition confers an entitlement; who got it is not known, and the item says so."""
    found = dict(told(sample_answer()))
    for one in planted()["roles_redefined"]:
        assert found[one["event_id"]] == NOT_TESTABLE


# --- ends, lists, kinds --------------------------------------------------------------------------------------


def test_a_grant_exactly_at_an_end(tmp_path: Path) -> None:
    """At since: in. At until: out. A microsecond before until: in. A microsecond before since: out."""
    at = {
        "first": "2026-03-01T00:00:00Z",
        "last": "2026-05-31T23:59:59.999999Z",
        "before": "2026-02-28T23:59:59.999999Z",
        "after": "2026-06-01T00:00:00Z",
    }
    with trail_of(tmp_path, [event(name, at=time) for name, time in at.items()]) as trail:
        assert [item for item, _ in told(answer_of(trail))] == ["first", "last"]


def test_months_begin_where_the_asker_lives(tmp_path: Path) -> None:
    """Europe/Berlin; the packet states both zones."""
    at = {"out": "2026-02-28T22:59:59Z", "in": "2026-02-28T23:00:00Z"}
    at |= {"too": "2026-05-31T21:59:59Z", "no": "2026-05-31T22:00:00Z"}
    with trail_of(tmp_path, [event(name, at=time) for name, time in at.items()]) as trail:
        answer = answer_of(trail, tz="Europe/Berlin")
        assert [item for item, _ in told(answer)] == ["in", "too"]
        period = answer.period.as_json()
        assert period["utc"] == {"since": "2026-02-28T23:00:00Z", "until": "2026-05-31T22:00:00Z"}
        assert period["local"]["since"] == "2026-03-01T00:00:00+01:00"
        assert period["local"]["until"] == "2026-06-01T00:00:00+02:00"


def test_a_list_of_grantees_is_an_item_each(tmp_path: Path) -> None:
    """Numbered from 1 in the order they stand in."""
    catalog = parse_catalog(
        simulator.CATALOG.data
        + b'\n[actions."team.grant"]\nkind = "grant"\nentitlement = "context.roles"\ngrantee = "context.people"\n'
    )
    made = event("e1", "team.grant", context={"people": ["u_2", "u_1"], "roles": ["admin", "editor"]})
    with trail_of(tmp_path, [made], catalog=catalog) as trail:
        rows = answer_of(trail).verdicts[["item", "grantee", "entitlement"]].to_numpy().tolist()
        assert rows == [
            ["e1#1", "u_2", "admin"],
            ["e1#2", "u_2", "editor"],
            ["e1#3", "u_1", "admin"],
            ["e1#4", "u_1", "editor"],
        ]
        only = answer_of(trail, entitlement="ed*").verdicts["item"].tolist()
        assert only == ["e1#2", "e1#4"]  # the numbers stay, whatever was asked


def test_one_event_id_in_two_sources_is_two_grants(tmp_path: Path) -> None:
    """Neither doubled nor mixed up, in the answer and in a packet that passes its own checks."""
    same = [
        event("1", at="2026-02-20T00:00:00Z", source="c/1", target="u_3"),
        event("1", source="a/1", target="u_1"),
        event("1", source="b/1", target="u_2", at="2026-03-11T00:00:00Z"),
        approval("1", "2026-03-10T00:00:00Z", ["u_2"], ["admin"], source="d/1"),
    ]
    vault = vault_of(tmp_path, same)
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        answer = answer_of(trail)
        found = answer.verdicts[["grantee", "verdict"]].to_numpy().tolist()
        assert found == [["u_1", "approval_exists"], ["u_2", "pass"]]
        assert answer.answer().rows == {(0, 1), (0, 2), (0, 3)}
    assert packed(vault, tmp_path / "packet")["report"].findings == ()


def packed(vault: Path, out: Path, **asked: Any) -> dict[str, Any]:
    """A packet's files by name, and `report`; built without running the notebook, which takes seconds."""
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        answer_of(trail, **asked).answer().write(out.with_name("scratch"))
        executed = Executed("role-grants", "0" * 64, b"{}\n")
        _pack(trail, executed, {"at": 1}, Cut(()), out.with_name("scratch"), out, Asked({}))
    files: dict[str, Any] = read_folder(out)
    return {**files, "report": check(files, (simulator.KEY.verifier,))}


def test_nothing_recorded_while_the_sources_lived(tmp_path: Path) -> None:
    """The operation is not testable, and the sentence stands beside the proof that the source was alive."""
    made = [event("g", at="2026-02-01T00:00:00Z"), event("l", "user.login", "2026-03-15T00:00:00Z")]
    vault = vault_of(tmp_path, made)
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        answer = answer_of(trail, entitlement="admin")
        assert answer.headline.startswith("No occurrence of grants of admin was recorded")
        assert "not testable" in answer.headline
        assert any("admin-console recorded 1 events in the period" in s for s in answer.conclusion.sentences)
    files = packed(vault, tmp_path / "packet", entitlement="admin")
    assert files["report"].findings == ()
    assert b"The population is empty." in files["data/report.html"]


def test_nothing_recorded_because_nothing_was_alive(tmp_path: Path) -> None:
    """A period outside the trail, and one in which only others recorded: not answerable."""
    made = [event("g", at="2026-02-01T00:00:00Z"), event("l", "user.login", "2026-03-15T00:00:00Z", source="idp/1")]
    vault = vault_of(tmp_path, made)
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        assert answer_of(trail).headline.startswith("Not answerable")
        for since, until in (("2025-01-01", "2025-02-01"), ("2027-01-01", "2027-02-01")):
            outside = answer_of(trail, since=since, until=until)
            assert outside.headline.startswith("Not answerable")
            assert outside.verdicts.empty and outside.exceptions.empty
            assert "admin-console recorded nothing in the period." in outside.conclusion.sentences
            assert any("The trail " in sentence for sentence in outside.conclusion.sentences)
    files = packed(vault, tmp_path / "packet", since="2027-01-01", until="2027-02-01")
    assert files["report"].findings == ()


def test_where_the_trail_does_not_reach_is_said(tmp_path: Path) -> None:
    """It begins after the period does, and ends before it does; a period within it says neither."""
    made = [event("a", at="2026-03-05T00:00:00Z"), event("b", at="2026-04-05T00:00:00Z")]
    with trail_of(tmp_path, made) as trail:
        sentences = " ".join(answer_of(trail).conclusion.sentences)
        assert "begins at 2026-03-05T00:00:00Z, after the period does" in sentences
        assert "ends at 2026-04-05T00:00:00Z, before the period does" in sentences
        within = " ".join(answer_of(trail, since="2026-03-06", until="2026-04-04").conclusion.sentences)
        assert "the period does" not in within


def test_a_trail_without_any_listed_action(tmp_path: Path) -> None:
    """A catalogue that knows no grants, and events that no catalogue lists."""
    bare = parse_catalog(b'format = "auditlib/catalog/v1"\n[actions]\n')
    vault = vault_of(tmp_path, [event("x", "some.thing", context={"a": 1})], catalog=bare)
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        answer = answer_of(trail)
        assert answer.verdicts.empty
        assert "no listed action" in repr(answer.population)
    assert packed(vault, tmp_path / "packet")["report"].findings == ()


def test_an_open_end(tmp_path: Path) -> None:
    """Until the checkpoint."""
    with trail_of(tmp_path, [event("a"), event("b", at="2026-09-01T00:00:00Z")]) as trail:
        assert [item for item, _ in told(answer_of(trail, until=None))] == ["a", "b"]
    with pytest.raises(MalformedError), trail_of(tmp_path / "2", [event("a")]) as trail:
        answer_of(trail, since="2026-06-01", until="2026-06-01")


def test_an_approval_for_thousands(tmp_path: Path) -> None:
    """100 subjects times 100 entitlements is 10,000 items of one decision; one more is not read and passes nobody."""
    subjects, roles = [f"u_{n}" for n in range(100)], [f"role-{n}" for n in range(100)]
    made = [
        approval("many", "2026-03-01T00:00:00Z", subjects, roles),
        approval("more", "2026-03-02T00:00:00Z", [*subjects, "u_100"], roles, request="REQ-2"),
        event("in", context={"granted_role": "role-99", "request_id": "REQ-1"}, target="u_99"),
        event("out", context={"granted_role": "role-99", "request_id": "REQ-1"}, target="u_100"),
        event("flood", context={"granted_role": "role-99", "request_id": "REQ-2"}, target="u_100"),
    ]
    vault = vault_of(tmp_path, made)
    with open_trail(vault, keys=simulator.KEY.verifier) as trail:
        verdicts = dict(told(answer_of(trail)))
    assert verdicts["in"] == "pass"
    assert verdicts["out"] == "same_subject"
    assert verdicts["flood"] not in ("pass",)
    files = packed(vault, tmp_path / "packet")
    assert files["report"].findings == ()
    assert len(files["data/report.html"]) < 1_000_000


def test_a_cloudtrail_trail_answers_too(tmp_path: Path) -> None:
    """An import alone: grants by kind, no approvals in it, a packet that passes its checks."""
    if not CLOUDTRAIL.is_dir():
        pytest.skip(f"{CLOUDTRAIL} is not here")
    made = simulator.Trail(tmp_path).create()
    now = parse_time("2026-11-01T00:00:00Z")
    made.clock = simulator.Clock(now)
    with made.sealer() as sealer:
        key = simulator.KEY.verifier
        done = import_files("cloudtrail", [str(CLOUDTRAIL)], Direct(sealer, key, lambda: now), rejects=None, who="t")
    assert done.added.new > 0
    with open_trail(tmp_path / "vault", keys=simulator.KEY.verifier) as trail:
        first, last = (min(s.occurred[0] for s in trail.seals), max(s.occurred[1] for s in trail.seals))
        answer = answer_of(trail, since=first[:10], until="2026-11-01", policy=ANY)
        grants = trail.events(kind="grant", outcome="success", until="2026-11-01").df()
        assert len(answer.verdicts) >= len(grants) > 0
        assert {item.partition("#")[0] for item in answer.verdicts["item"]} == set(grants["event_id"])
        assert set(answer.verdicts["verdict"]) <= {"approval_exists", NOT_TESTABLE}
        assert (
            answer_of(trail, since=first[:10], until="2026-11-01", entitlement="*Admin*")
            .verdicts["item"]
            .isin(answer.verdicts["item"])
            .all()
        )
        assert last > first
    files = packed(tmp_path / "vault", tmp_path / "packet", since=first[:10], until="2026-11-01")
    assert files["report"].findings == ()


def test_coverage_is_the_same_whatever_the_threads_do(tmp_path: Path) -> None:
    """A heartbeat each minute: every silence is as long as every other, and the first of them is named."""
    beats = [
        event(f"h{n}", "audit.heartbeat", f"2026-03-01T{n // 60:02}:{n % 60:02}:00Z", source=f"s{n % 2}/1")
        for n in range(1200)
    ]
    with trail_of(tmp_path, *[beats[n : n + 100] for n in range(0, 1200, 100)]) as trail:
        rows = answer_of(trail, since="2026-03-01T00:00:00Z", until="2026-03-02").coverage
        assert rows["silent_from"].dt.strftime("%H:%M").tolist() == ["00:00", "00:01"]
        assert rows["silent_until"].dt.strftime("%H:%M").tolist() == ["00:02", "00:03"]


# --- what a record says stays text ---------------------------------------------------------------------------

MARK = "document.title='owned'"
HOSTILE = [
    f"<script>{MARK}</script>",
    f'"><img src=x onerror="{MARK}">',
    "</td></tr></table><h1>Audit passed</h1>",
    "<!--",
    "</style><style>*{display:none}",
    '=HYPERLINK("http://evil.example","click")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\tx",
    "+1",
    "\u202eadmin\u202c",
    "ad\u200bmin",
    "ad\u00admin",
    "{{ 7*7 }}{% raw %}",
    "$\\href{javascript:alert(1)}{x}$",
    "javascript:alert(1)",
    "]]>&amp;&#x3c;script>",
    "line\r\nbreak",
    "\x1b[31mred\x1b[0m",
    "'quoted",
    "x" * 1024,
    "arn:aws:iam::123456789012:role/" + "a-very-long-path/" * 30,
]


@cache
def hostile_packet() -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="auditlib-hostile-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = []
    for n, text in enumerate(HOSTILE):
        day = f"2026-03-{n % 28 + 1:02}"
        long = {"note": text * (14_000 // len(canonical(text))), "request_id": text}
        made.append(
            event(f"<b>{n}</b>", at=f"{day}T12:00:00Z", context={"granted_role": text, **long}, target=text, actor=text)
        )
        if n % 2:
            made.append(approval(f"={n}", f"{day}T11:00:00Z", [text], [text], request=text))
    given = {"entitlement": "none", "authorities": ""}
    build_packet("role-grants", str(vault_of(folder, made)), given, folder / "packet", keys=simulator.KEY.verifier)
    files: dict[str, Any] = read_folder(folder / "packet")
    return {**files, "report": check(files, (simulator.KEY.verifier,))}


class Tags(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "action")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_hostile_trail_passes_its_own_checks() -> None:
    """The packet of it is sound: tables agree with records, defused cells and all."""
    assert hostile_packet()["report"].findings == ()


def test_hostile_contents_stay_text_in_the_report() -> None:
    """No tag, attribute or link that the template did not write; what cannot be seen is spelled out."""
    page, sound = hostile_packet()["data/report.html"].decode(), sample()["data/report.html"].decode()
    tags, own = Tags(), Tags()
    tags.feed(page)
    own.feed(sound)
    assert tags.tags <= own.tags and "img" not in tags.tags and page.count("<script") == sound.count("<script")
    assert tags.attributes <= own.attributes
    assert not any(name.startswith("on") for name in tags.attributes)
    assert all(link.startswith("#") for link in tags.links)
    text = "".join(tags.texts)
    assert "<script>" + MARK in text and "{{ 7*7 }}" in text and "Audit passed" in text
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\u00ad\x00-\x08\x0b-\x1f\x7f]", page.replace("\r", ""))
    assert "\\u{202e}admin\\u{202c}" in text and "ad\\u{200b}min" in text


def test_hostile_contents_stay_text_in_the_tables() -> None:
    """No cell begins a formula; what the records say can still be read back."""
    for name, data in hostile_packet().items():
        if not name.startswith("data/tables/") or not name.endswith(".csv"):
            continue
        for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")):
            assert not [cell for cell in row if cell[:1] in ("=", "+", "-", "@", "\t", "\r")], name
    rows = csv.DictReader(io.StringIO(hostile_packet()["data/tables/grants.csv"].decode("utf-8-sig"), newline=""))
    assert [row["grantee"].removeprefix("'") for row in rows] == [text.removeprefix("'") for text in HOSTILE]


def test_hostile_contents_stay_text_in_the_notebook() -> None:
    """Every HTML output of the executed copy: no tag from a record."""
    notebook = json.loads(hostile_packet()["data/notebook.ipynb"])
    outputs = [o for c in notebook["cells"] if c["cell_type"] == "code" for o in c["outputs"]]
    pages = ["".join(o["data"]["text/html"]) for o in outputs if "text/html" in o.get("data", {})]
    assert len(pages) >= 5
    for page in pages:
        tags = Tags()
        tags.feed(page)
        assert not tags.tags & {"script", "img", "h1", "b", "svg", "iframe", "a"}, page[:200]
        assert not any(name.startswith("on") for name in tags.attributes)
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]


def test_the_svg_is_ours_alone() -> None:
    """No script, link or foreign object in the figure."""
    page = hostile_packet()["data/report.html"].decode()
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        assert not re.search(r"<script|foreignObject|\bon\w+=|href=\"(?!#)", svg)


# --- words ---------------------------------------------------------------------------------------------------

OPINIONS = re.compile(
    r"\b(certif\w+|complete(?!ness)\w*|effective\w*|complian\w+|assur\w+|guarantee\w*|tamper-?proof)\b", re.I
)


def test_we_state_facts_and_never_opine() -> None:
    """Not in the report, the notebook, packet.json, or any sentence of any answer (DESIGN 1)."""
    page = Tags()
    page.feed(re.sub(r"(?s)<style>.*?</style>", "", sample()["data/report.html"].decode()))
    texts = {
        "report": " ".join(page.texts),
        "notebook": " ".join(
            "".join(cell["source"])
            for cell in json.loads((ROOT / "notebooks" / "role-grants.ipynb").read_text())["cells"]
        ),
        "packet.json": sample()["data/packet.json"].decode(),
        "conclusion": " ".join(sample_answer().conclusion.sentences),
        "limits": " ".join(sample_answer().integrity.limits()),
        "policy": " ".join(sentence for policy in (ANY, POLICY) for sentence in policy.sentences()),
    }
    for where, text in texts.items():
        assert OPINIONS.findall(html.unescape(text)) == [], where
    assert "no opinion" in texts["report"]


def test_the_page_says_what_it_does_not_prove() -> None:
    """And where the key must come from, and how to do it all again."""
    page = sample()["data/report.html"].decode()
    for words in ("What this packet does not prove", "by another way", "auditlib packet verify", "potential exception"):
        assert words in page
    command = re.search(r"auditlib packet build role-grants([^<]*)<", page)
    assert command
    for given in ("-p at=27", "-p entitlement=admin", "-p tz=UTC"):
        assert given in command[1]


def test_attributes_are_told_apart_without_colour() -> None:
    """Each verdict has a sign and a word."""
    page = sample()["data/report.html"].decode()
    for name in ATTRIBUTES:
        assert name.replace("_", " ") in page
    assert {"✓", "✗", "–"} <= set(page)


def test_a_notebook_shows_its_answer(tmp_path: Path) -> None:
    """Every property that the notebook shows has text and HTML."""
    with trail_of(tmp_path, [event("a")]) as trail:
        answer = answer_of(trail)
        for shown in (answer.integrity, answer.population, answer.conclusion):
            assert shown._repr_html_() and repr(shown)
        assert answer.picture._repr_svg_().startswith("<svg")
        assert fired(check(sample())) == set()
