"""Approval matching: a test for every promise, and the whole against a slow reference."""

import ast
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_approvals import reference
from strength import LONG

import auditlib.approvals as package
from auditlib.approvals import ATTRIBUTES, STANDING, Policy, Verdicts, choice, match_approvals
from auditlib.errors import MalformedError

HOUR = 3600 * 10**6
START = 1_770_000_000 * 10**6  # microseconds; hour 0 of every test
NEVER = datetime(2200, 1, 1, tzinfo=UTC)
COLUMNS = {
    "grants": "item event_id occurred_at recorded_at sequence row actor_type actor_id action grantee entitlement "
    "request valid_until emergency",
    "approvals": "item event_id occurred_at recorded_at sequence row actor_type actor_id action decision grantee "
    "entitlement request requester requested_at valid_from valid_until uses authority",
    "revokes": "item event_id occurred_at sequence row grantee entitlement",
    "requests": "occurred_at request requester",
    "leaves": "grantee occurred_at",
    "joins": "grantee occurred_at",
    "identities": "account person valid_from valid_until",
}
TIMES = ("occurred_at", "recorded_at", "requested_at", "valid_from", "valid_until")


def frame(name: str, rows: list[dict]) -> pd.DataFrame:
    """Rows with hours as times -> a frame as `population` builds it."""
    made = pd.DataFrame(rows, columns=COLUMNS[name].split(), dtype=object)
    for column in made.columns:
        if column in TIMES:
            made[column] = pd.to_datetime(made[column].astype("Int64"), unit="us", utc=True).astype(
                "datetime64[us, UTC]"
            )
        elif column in ("sequence", "row"):
            made[column] = made[column].astype("int64")
        elif column == "uses":
            made[column] = made[column].astype("Int64")
        elif column == "emergency":
            made[column] = made[column].astype("boolean")
        else:
            made[column] = made[column].astype("str")
    return made


def hour(value: float | None) -> int | None:
    return None if value is None else START + int(value * HOUR)


class World:
    """A small company: each call writes an event at an hour, in the order of the calls."""

    def __init__(self, **policy) -> None:
        self.policy = Policy(**policy)
        self.rows = {name: [] for name in COLUMNS}
        self.given = set()
        self.number = 0

    def _lead(self, at: float) -> dict:
        self.number += 1
        name = f"e{self.number}"
        return {
            "item": name,
            "event_id": name,
            "occurred_at": hour(at),
            "sequence": self.number // 3,
            "row": self.number % 3,
        }

    def grant(self, at, to="bob", what="admin", request="r1", by="grace", until=None, emergency=None, n=None):
        row = self._lead(at) | {"actor_id": by, "action": "role.grant", "grantee": to, "entitlement": what}
        row |= {"request": request, "valid_until": hour(until), "emergency": emergency}
        many = to if isinstance(to, list) else [to]
        for place, subject in enumerate(many):
            item = row["item"] if len(many) == 1 else f"{row['item']}#{place}"
            self.rows["grants"].append(row | {"item": item, "grantee": subject})
        return self

    def approve(
        self, at, to="bob", what="admin", request="r1", by="ann", requester="rita", decision="approved", **more
    ):
        row = self._lead(at) | {"actor_id": by, "decision": decision, "entitlement": what, "request": request}
        row |= {"requester": requester, "uses": more.get("uses"), "authority": more.get("authority")}
        row |= {"valid_from": hour(more.get("valid_from")), "valid_until": hour(more.get("valid_until"))}
        for subject in to if isinstance(to, list) else [to]:
            self.rows["approvals"].append(row | {"grantee": subject})
        return self

    def refuse(self, at, decision="withdrawn", request="r1", to=None, what=None):
        return self.approve(at, to, what, request, decision=decision, requester=None)

    def revoke(self, at, to="bob", what="admin"):
        self.rows["revokes"].append(self._lead(at) | {"grantee": to, "entitlement": what})
        return self

    def add(self, name: str, **row):
        self.given.add(name)
        times = {key: hour(value) for key, value in row.items() if key in TIMES}
        self.rows[name].append(row | times)
        return self

    def match(self, observed_until: datetime = NEVER) -> Verdicts:
        frames = {name: frame(name, self.rows[name]) for name in COLUMNS}
        extra = {name: frames[name] for name in ("requests", "leaves", "joins", "identities") if name in self.given}
        return match_approvals(
            frames["grants"],
            frames["approvals"],
            frames["revokes"],
            policy=self.policy,
            observed_until=observed_until,
            **extra,
        )

    def verdicts(self, **how) -> list[str]:
        return self.match(**how).items["verdict"].tolist()

    def only(self, **how) -> pd.Series:
        (row,) = self.match(**how).items.to_dict("records")
        return pd.Series(row)


# --- existence and refusal


def test_a_grant_with_its_approval_passes() -> None:
    """The plain case names the approval, the approver and the time, and needs no reason."""
    row = World().approve(1).grant(2).only()
    assert (row["verdict"], row["approval"], row["approver"], row["reason"]) == ("pass", "e1", "ann", "")
    assert row["approved_at"] == pd.Timestamp(START + HOUR, unit="us", tz="UTC")


def test_a_grant_without_approval_is_an_exception_and_the_rest_is_not_judged() -> None:
    """Attributes after an absent approval are n/a."""
    row = World().grant(2).only()
    assert row["verdict"] == "approval_exists"
    assert set(row[list(ATTRIBUTES)[1:]]) == {"n/a"}
    assert pd.isna(row["approval"])


def test_an_approval_of_another_request_does_not_serve() -> None:
    """Where the grant names a request, the request decides, and an approval that names none does not help."""
    assert World().approve(1, request="r2").approve(1, request=None).grant(2).verdicts() == ["approval_exists"]


def test_a_grant_without_request_is_matched_by_subject_and_entitlement() -> None:
    """Whatever request the approval answers; another subject's approval is no candidate."""
    assert World().approve(1).grant(2, request=None).verdicts() == ["pass"]
    assert World().approve(1, to="eve").grant(2, request=None).verdicts() == ["approval_exists"]


def test_an_empty_request_id_links_nothing() -> None:
    """Two events that both leave the id empty have nothing in common."""
    row = World().approve(1, to="eve", request="").grant(2, request="").only()
    assert row["verdict"] == "approval_exists"


def test_a_grant_with_neither_request_nor_subject_is_not_testable() -> None:
    """It says so, and is no exception."""
    row = World().approve(1).grant(2, to=None, request=None).only()
    assert (row["approval_exists"], row["verdict"]) == ("not-testable", "not-testable")
    assert "no approval can be linked" in row["reason"]


@pytest.mark.parametrize("decision", ["denied", "withdrawn"])
def test_a_refusal_before_the_grant_voids_the_approval(decision: str) -> None:
    """At the grant's very moment too; after the grant it voids nothing."""
    assert World().approve(1).refuse(2, decision).grant(3).verdicts() == ["approval_exists"]
    assert World().approve(1).refuse(3, decision).grant(3).verdicts() == ["approval_exists"]
    assert World().approve(1).grant(3).refuse(4, decision).verdicts() == ["pass"]


def test_the_latest_decision_before_the_grant_counts() -> None:
    """Denied, then approved: approved. Approved, denied, approved: approved."""
    assert World().refuse(1, "denied").approve(2).grant(3).verdicts() == ["pass"]
    assert World().approve(1).refuse(2, "denied").approve(2).grant(3).verdicts() == ["pass"]


def test_a_grant_against_a_denial_is_not_healed_by_a_later_approval() -> None:
    """Not even under an emergency policy: the decision that stood was no."""
    world = World(emergency_hours=9).refuse(1, "denied").grant(2, emergency=True).approve(3)
    assert world.verdicts() == ["approval_exists"]


def test_a_withdrawal_for_one_subject_leaves_the_others() -> None:
    """A refusal that states whom it refuses refuses only them."""
    world = World().approve(1, to=["bob", "eve"]).refuse(2, to="eve").grant(3, to=["bob", "eve"])
    assert world.verdicts() == ["pass", "approval_exists"]


def test_a_withdrawal_of_another_request_voids_nothing() -> None:
    """Requests are answered one by one."""
    assert World().approve(1).refuse(2, request="r2").grant(3).verdicts() == ["pass"]


def test_a_withdrawal_that_names_only_the_pair_voids_it() -> None:
    """It names no request, so it answers the pair."""
    world = World().approve(1).refuse(2, request=None, to="bob", what="admin").grant(3)
    assert world.verdicts() == ["approval_exists"]


# --- time


def test_a_late_approval_is_late_and_not_missing() -> None:
    """The approval is shown."""
    row = World().grant(2).approve(3).only()
    assert (row["verdict"], row["approval"]) == ("approved_before_grant", "e2")


def test_the_same_moment_counts_as_before() -> None:
    """Whatever the order in which they were recorded."""
    assert World().grant(2).approve(2).verdicts() == ["pass"]


def test_an_emergency_may_be_approved_within_the_hours() -> None:
    """To the hour, for emergencies alone, and the reason says that it was one."""
    inside = World(emergency_hours=4).grant(2, emergency=True).approve(6).only()
    assert inside["verdict"] == "pass"
    assert "emergency" in inside["reason"]
    assert World(emergency_hours=4).grant(2, emergency=True).approve(6.01).verdicts() == ["approved_before_grant"]
    assert World(emergency_hours=4).grant(2).approve(3).verdicts() == ["approved_before_grant"]
    assert World().grant(2, emergency=True).approve(3).verdicts() == ["approved_before_grant"]


def test_the_grant_lies_within_the_validity() -> None:
    """From the first moment, to the last but one."""
    assert World().approve(1, valid_from=3).grant(2).verdicts() == ["within_validity"]
    assert World().approve(1, valid_from=2).grant(2).verdicts() == ["pass"]
    assert World().approve(1, valid_until=2).grant(2).verdicts() == ["within_validity"]
    assert World().approve(1, valid_until=3).grant(2).revoke(3).verdicts() == ["pass"]


def test_an_approval_grows_too_old() -> None:
    """The policy's days are inclusive."""
    assert World(max_age_days=1).approve(1).grant(25).verdicts() == ["pass"]
    assert World(max_age_days=1).approve(1).grant(25.01).verdicts() == ["within_validity"]


# --- subject, entitlement, persons


def test_another_subject_or_entitlement_is_an_exception() -> None:
    """The nearest approval of the request is shown: same subject before same entitlement."""
    assert World().approve(1, to="eve").grant(2).verdicts() == ["same_subject"]
    row = World().approve(1, to="eve").approve(1, what="viewer").grant(2).only()
    assert (row["verdict"], row["approval"]) == ("same_entitlement", "e2")


def test_an_approval_that_names_nobody_is_not_testable() -> None:
    """Missing on either side: no pass, and no exception."""
    assert World().approve(1, to=None).grant(2).verdicts() == ["not-testable"]
    assert World().approve(1).grant(2, to=None).verdicts() == ["not-testable"]
    assert World().approve(1).grant(2, what=None).verdicts() == ["not-testable"]


@pytest.mark.parametrize("role", ["subject", "granter", "requester", "filer"])
def test_nobody_approves_for_himself(role: str) -> None:
    """Neither as subject, granter, stated requester, nor as the one who filed the request."""
    world = World().approve(1, requester="ann" if role == "requester" else "rita")
    world.add("requests", occurred_at=0, request="r1", requester="ann" if role == "filer" else "rita")
    world.grant(2, to="ann" if role == "subject" else "bob", by="ann" if role == "granter" else "grace")
    if role == "subject":
        world.rows["approvals"][0]["grantee"] = "ann"
    row = world.only()
    assert row["verdict"] == "independent_approver"
    assert {"filer": "requester"}.get(role, role) in row["reason"]


def test_an_unknown_requester_leaves_independence_open() -> None:
    """The access.request of the same id settles it."""
    world = World().approve(1, requester=None).grant(2)
    assert world.verdicts() == ["not-testable"]
    assert world.add("requests", occurred_at=0, request="r1", requester="rita").verdicts() == ["pass"]


def test_two_accounts_of_one_person_are_one_approver() -> None:
    """With identities; without them the result says what it could not see."""
    world = World().approve(1, by="ann-admin").grant(2, by="ann")
    assert world.verdicts() == ["pass"]
    assert any("by account only" in told for told in world.match().summary_sentences())
    for account in ("ann", "ann-admin"):
        world.add("identities", account=account, person="Ann Lee")
    assert world.verdicts() == ["independent_approver"]
    assert not any("by account only" in told for told in world.match().summary_sentences())


def test_an_account_belongs_to_its_owner_of_the_time() -> None:
    """A handed-on account is not its former owner."""
    world = World().approve(5, by="ops").grant(6, by="ann")
    world.add("identities", account="ops", person="ann", valid_from=None, valid_until=4)
    world.add("identities", account="ops", person="zoe", valid_from=4, valid_until=None)
    assert world.verdicts() == ["pass"]
    world.rows["approvals"][0]["occurred_at"] = hour(3)
    assert world.verdicts() == ["independent_approver"]


def test_an_account_of_two_persons_at_once_is_refused() -> None:
    """Whose it is decides the verdict, so it must be one."""
    world = World().approve(1).grant(2)
    world.add("identities", account="ann", person="a").add("identities", account="ann", person="b")
    with pytest.raises(MalformedError, match="two persons"):
        world.match()


def test_the_approver_holds_an_authority() -> None:
    """Unknown: not testable. Not asked for: n/a."""
    asked = {"authorities": ("manager",)}
    assert World(**asked).approve(1, authority="manager").grant(2).verdicts() == ["pass"]
    assert World(**asked).approve(1, authority="intern").grant(2).verdicts() == ["approver_authorised"]
    assert World(**asked).approve(1).grant(2).verdicts() == ["not-testable"]
    assert World().approve(1).grant(2).only()["approver_authorised"] == "n/a"


def test_a_leaver_does_not_approve() -> None:
    """Unless it was before the leave, at its moment, or after a later join."""
    assert World().add("leaves", grantee="ann", occurred_at=1).approve(2).grant(3).verdicts() == ["approver_authorised"]
    assert World().add("leaves", grantee="ann", occurred_at=2).approve(2).grant(3).verdicts() == ["pass"]
    back = World().add("leaves", grantee="ann", occurred_at=0).add("joins", grantee="ann", occurred_at=1)
    assert back.approve(2).grant(3).verdicts() == ["pass"]


# --- uses


def test_a_single_use_covers_one_grant() -> None:
    """The first in time, whatever the order of the rows."""
    world = World().approve(1, uses=1).grant(4).grant(3)
    assert world.verdicts() == ["within_uses", "pass"]


def test_two_single_uses_cover_two_grants() -> None:
    """An item takes the approval that still has a use; only the third grant is one too many."""
    world = World().approve(1, uses=1).approve(2, uses=1).grant(3).grant(4).grant(5)
    found = world.match().items
    assert found["verdict"].tolist() == ["pass", "pass", "within_uses"]
    assert found["approval"].tolist()[:2] == ["e2", "e1"]


def test_uses_are_shared_by_grants_with_and_without_a_request_id() -> None:
    """One approval, one use, whichever way a grant finds it."""
    assert World().approve(1, uses=1).grant(2).grant(3, request=None).verdicts() == ["pass", "within_uses"]


def test_each_subject_of_an_approval_has_its_uses() -> None:
    """Items of one event count once a subject and entitlement; the same pair twice in one event counts once."""
    world = World().approve(1, to=["bob", "eve"], uses=1).grant(2, to=["bob", "eve", "bob"])
    assert world.verdicts() == ["pass"] * 3
    assert World().approve(1, to=["bob", "bob"], uses=1).grant(2).grant(3).verdicts() == ["pass", "within_uses"]


def test_a_rogue_grant_before_the_approval_uses_nothing_up() -> None:
    """It is late; the grant that was approved passes."""
    assert World().grant(1).approve(2, uses=1).grant(3).verdicts() == ["approved_before_grant", "pass"]


def test_an_approval_that_names_nobody_is_counted_over_all() -> None:
    """It cannot pass; used too often it is an exception."""
    world = World().approve(1, to=None, uses=1).grant(2).grant(3, to="eve")
    assert world.verdicts() == ["not-testable", "within_uses"]


def test_the_policy_counts_where_the_approval_does_not() -> None:
    """`default_uses`; without it any number."""
    assert World(default_uses=1).approve(1).grant(2).grant(3).verdicts() == ["pass", "within_uses"]
    assert World().approve(1).grant(2).grant(3).verdicts() == ["pass", "pass"]


# --- removal


def test_access_for_a_time_is_revoked_by_the_end() -> None:
    """At the end is in time; another's revoke, or one before the grant, is not."""
    world = World().approve(1).grant(2, until=5)
    assert world.verdicts(observed_until=datetime(2030, 1, 1, tzinfo=UTC)) == ["removed_in_time"]
    world = World().revoke(1.5).approve(1).grant(2, until=5).revoke(4, to="eve").revoke(5)
    assert world.verdicts() == ["pass"]
    assert World().approve(1).grant(2, until=5).revoke(5.01).verdicts() == ["removed_in_time"]


def test_the_approval_can_set_the_end() -> None:
    """The earlier end counts."""
    assert World().approve(1, valid_until=4).grant(2, until=9).revoke(5).verdicts() == ["removed_in_time"]


def test_an_end_past_what_was_observed_is_not_yet_due() -> None:
    """n/a, and the reason says why."""
    until = datetime.fromtimestamp(START / 10**6, tz=UTC)
    row = World().approve(1).grant(2, until=5).only(observed_until=until)
    assert (row["removed_in_time"], row["verdict"]) == ("n/a", "pass")
    assert "not yet due" in row["reason"]


def test_the_policy_can_require_an_end() -> None:
    """A grant for ever is then an exception."""
    assert World(time_bound_required=True).approve(1).grant(2).verdicts() == ["removed_in_time"]


# --- standing approvals, choice


def test_a_standing_approval_needs_no_event() -> None:
    """By glob; its own end still counts."""
    policy = {"standing": ("read-*",)}
    row = World(**policy).grant(2, what="read-logs", request=None).only()
    assert (row["verdict"], row["approval"]) == ("pass", STANDING)
    assert World(**policy).grant(2, what="admin").verdicts() == ["approval_exists"]
    assert World(**policy).grant(2, what="read-logs", until=3).verdicts() == ["removed_in_time"]


def test_the_approval_that_fails_least_is_chosen() -> None:
    """A later self-approval does not spoil an earlier good one; of two good ones the later is shown."""
    row = World().approve(1).approve(2, by="bob").grant(3).only()
    assert (row["verdict"], row["approval"]) == ("pass", "e1")
    assert World().approve(1).approve(2).grant(3).only()["approval"] == "e2"
    assert World().approve(2).approve(2).grant(3).only()["approval"] == "e1"


# --- the result


def test_items_come_in_trail_order_with_numbers_as_numbers() -> None:
    """#10 after #9."""
    people = [f"p{n}" for n in range(12)]
    world = World().grant(9, to=people).grant(3)
    assert world.match().items["item"].tolist() == [*(f"e1#{n}" for n in range(12)), "e2"]
    shuffled = World()
    shuffled.rows["grants"] = world.rows["grants"][::-1]
    pd.testing.assert_frame_equal(shuffled.match().items, world.match().items)


def test_no_grants_and_no_approvals_are_no_error() -> None:
    """An empty population has an answer, with the same columns."""
    empty = World().match()
    assert list(empty.items.columns) == list(World().approve(1).grant(2).match().items.columns)
    assert sum(empty.counts().values()) == 0
    assert empty.exceptions.empty
    assert World().approve(1).match().items.empty


def test_counts_and_sentences_agree() -> None:
    """Every verdict is counted once, and failures are called potential exceptions."""
    found = World().approve(1).grant(2).grant(3, request="r9").grant(4, to=None, request=None).match()
    assert {name: n for name, n in found.counts().items() if n} == {
        "pass": 1,
        "approval_exists": 1,
        "not-testable": 1,
    }
    assert found.exceptions["item"].tolist() == ["e3"]
    told = " ".join(found.summary_sentences())
    assert "1 potential exception(s): approval exists 1." in told
    assert "No leavers were given" in told


def test_hostile_names_are_escaped() -> None:
    """An event's text is shown, never run."""
    html = World().grant(2, to="<script>alert(1)</script>").match()._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_the_policy_tells_itself_and_refuses_nonsense() -> None:
    """Its sentences name every number; a number below zero cannot be meant."""
    told = " ".join(Policy(emergency_hours=4, standing=("a*",), authorities=("b",), max_age_days=30).sentences())
    assert all(part in told for part in ("90 days", "4 hours", "a*", "b.", "30 days"))
    with pytest.raises(MalformedError, match=r"policy\.emergency_hours"):
        Policy(emergency_hours=-1)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"lookback": 1}, Policy)


def test_a_missing_column_or_an_unknown_decision_is_named() -> None:
    """A caller's mistake is told as one."""
    world = World().approve(1, decision="maybe").grant(2)
    with pytest.raises(MalformedError, match="'maybe' is no decision"):
        world.match()
    grants = frame("grants", []).drop(columns="emergency")
    with pytest.raises(MalformedError, match="grants: has no column emergency"):
        match_approvals(grants, frame("approvals", []), policy=Policy(), observed_until=NEVER)


# --- floods


def flood(number: int, **approval) -> World:
    world = World()
    for n in range(number):
        world.approve(1 + n / number, **approval)
    for n in range(number):
        world.grant(3 + n / number)
    return world


def test_a_flood_is_not_testable_and_spares_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit no pass is claimed, nothing stops, and everybody else is judged."""
    monkeypatch.setattr(choice, "MAX_PAIRS", 50)
    world = flood(10).approve(1, request="r2", to="eve").grant(2, request="r2", to="eve")
    found = world.match()
    assert found.items["verdict"].tolist() == ["not-testable"] * 10 + ["pass"]
    assert "not compared" in found.items["reason"].iloc[0]
    strangers = flood(10, to="eve").approve(1, request="r2", to="eve").grant(2, request="r2", to="eve")
    assert strangers.verdicts() == ["not-testable"] * 10 + ["pass"]


def test_a_flood_of_turns_is_not_testable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single uses are handed out one after another, up to a limit."""
    assert flood(10, uses=1).verdicts() == ["pass"] * 10
    monkeypatch.setattr(choice, "MAX_TURNS", 9)
    assert flood(10, uses=1).verdicts() == ["not-testable"] * 10


def test_no_loop_runs_over_the_population() -> None:
    """No apply, iterrows or itertuples: a million grants take seconds."""
    trees = [ast.parse(path.read_text()) for path in Path(package.__file__).parent.glob("*.py")]
    used = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert trees
    assert not used & {"apply", "iterrows", "itertuples", "applymap", "map", "tolist", "vectorize"}


# --- the whole against the reference

maybe = st.sampled_from
subjects = maybe(["bob", "eve", "ann", None])
rights = maybe(["admin", "viewer", "read-x", None])
request_ids = maybe(["r1", "r2", None])
accounts = maybe(["ann", "ann2", "bob", "grace", "rita"])
hours = st.integers(0, 9)
some_hour = st.one_of(st.none(), hours)


@st.composite
def worlds(draw: st.DrawFn, focused: bool) -> World:
    """A random company of few names, so that everything meets everything."""
    world = World(
        emergency_hours=draw(maybe([None, 2])),
        standing=draw(maybe([(), ("read-*",)])),
        time_bound_required=draw(st.booleans()),
        authorities=draw(maybe([(), ("manager",)])),
        default_uses=draw(maybe([None, 1, 2])),
        max_age_days=draw(maybe([None, 0])),
    )
    who, what, request = (
        (maybe(["bob", "bob", None]), st.just("admin"), maybe(["r1", "r1", None]))
        if focused
        else (subjects, rights, request_ids)
    )
    kinds = draw(st.lists(maybe(["grant", "grant", "approve", "approve", "refuse", "revoke"]), max_size=14))
    for kind in kinds:
        at, asked = draw(hours), draw(request)
        if kind == "grant":
            to = draw(st.one_of(who, st.lists(who, min_size=2, max_size=3)))
            extra = {"until": draw(some_hour), "emergency": draw(maybe([True, False, None]))}
            world.grant(at, to, draw(what), asked, draw(accounts), **extra)
        elif kind == "approve":
            to = draw(st.one_of(who, st.lists(who, min_size=2, max_size=3)))
            extra = {"uses": draw(maybe([None, 0, 1, 2])), "authority": draw(maybe(["manager", "intern", None]))}
            if not focused:
                extra |= {"valid_from": draw(some_hour), "valid_until": draw(some_hour)}
            by, requester = draw(accounts), draw(st.one_of(st.none(), accounts))
            world.approve(at, to, draw(what), asked, by, requester, **extra)
        elif kind == "refuse":
            world.refuse(at, draw(maybe(["denied", "withdrawn"])), asked, draw(subjects), draw(rights))
        else:
            world.revoke(at, draw(who), draw(what))
    for name in ("leaves", "joins"):
        for account in draw(st.lists(accounts, max_size=2)):
            world.add(name, grantee=account, occurred_at=draw(hours))
    for asked in draw(st.lists(request_ids, max_size=2)):
        world.add("requests", occurred_at=draw(hours), request=asked, requester=draw(st.one_of(st.none(), accounts)))
    if draw(st.booleans()):
        world.add("identities", account="ann2", person="ann", valid_from=None, valid_until=draw(some_hour))
    return world


def as_reference(world: World, observed: int) -> dict:
    wanted = {name: COLUMNS[name].split() for name in COLUMNS}
    rows = {name: [{c: row.get(c) for c in wanted[name]} for row in world.rows[name]] for name in COLUMNS}
    for row in rows["grants"]:
        row["number"] = int(row["item"].partition("#")[2] or 0)
    return rows | {"policy": world.policy, "observed_until": observed}


def check(world: World, observed: int) -> None:
    found = world.match(observed_until=datetime.fromtimestamp(observed / 10**6, tz=UTC))
    expected = reference(as_reference(world, observed))
    got = {
        row["item"]: (
            None if pd.isna(row["approval"]) else row["approval"],
            {name: row[name] for name in ATTRIBUTES},
            row["verdict"],
        )
        for row in found.items.to_dict("records")
    }
    assert got == expected
    needs_reason = found.items["verdict"] != "pass"
    assert (found.items.loc[needs_reason, "reason"] != "").all()


@settings(max_examples=150 if LONG else 50, deadline=None)
@given(worlds(focused=False), hours)
def test_it_agrees_with_the_reference(world: World, observed: int) -> None:
    """Every attribute, choice and verdict of any small company."""
    check(world, hour(observed))


@settings(max_examples=150 if LONG else 50, deadline=None)
@given(worlds(focused=True), hours)
def test_it_agrees_with_the_reference_where_all_compete(world: World, observed: int) -> None:
    """One subject, one entitlement: everything turns on time, uses and refusals."""
    check(world, hour(observed))


@settings(max_examples=25, deadline=None)
@given(worlds(focused=False), hours)
def test_chunks_change_nothing(world: World, observed: int) -> None:
    """One pair at a time gives the same as all at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "CHUNK", 1)
        check(world, hour(observed))
