"""The trail as one engagement may see it: its answers are those of the records in scope alone, whatever is asked."""

from __future__ import annotations

import base64
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from simulator import CATALOG, KEY, START, STEP, Tamper, record
from simulator import Trail as Simulated

import auditlib
from auditlib.engagements import Engagement, Engagements, add_engagement, revoke_engagement
from auditlib.errors import AuditlibError, MalformedError, MismatchError
from auditlib.formats.canonical import canonical
from auditlib.formats.event import Actor, Record, Target, record_bytes
from auditlib.formats.times import DAY, SECOND, format_time, from_datetime, parse_time
from auditlib.scoped import Question, RefusedError, ScopedTrail
from auditlib.trail import Trail

EVENTS = 420
NOW = START + 5 * DAY
FROM, UNTIL = START, START + 30 * DAY
ACTIONS = ["role.grant", "user.login", "role.revoke", "access.request", "unlisted.verb", "role_x.grant"]
SOURCES = ["billing-api/7f3a", "billing-api/9e21", "idp/a1", "import:cloudtrail:42"]
NAMES = ["u_1", "u-1", "u%1", "user:u_1", "a:b", "'; DROP TABLE batches; --", "*", "?", "é", "u_2", "U_1", "\x1b[2J"]
ROLES = ["admin", "viewer", ["admin", "viewer"], {"ip": "10.0.0.1"}]
OUTSIDE = "SECRET-OUTSIDE"  # stands in events of the source that no scope of these tests allows


def made(draw: random.Random, number: int) -> Record:
    """Some record: times out of order and often the same, hostile names, redactable fields at several depths."""
    action = draw.choice(ACTIONS)
    context: dict[str, Any] = {"ip": f"203.0.113.{number % 7}", "net": [{"ip": "10.0.0.1", "port": 1}, {"ip": "x"}]}
    if draw.random() < 0.5:
        context = {"note": draw.choice(NAMES), "deep": {"token": draw.choice(NAMES), "n": number % 3}}
    needs = {"role.grant": ["granted_role"], "role.revoke": ["revoked_role"]}
    needs["access.request"] = ["request_id", "subjects", "entitlements"]
    context |= {key: draw.choice(["admin", "viewer", "R-1", "R-*"]) for key in needs.get(action, [])}
    if draw.random() < 0.4:
        context["request_id"] = draw.choice(["R-1", "R-2", "R-*"])
    recorded = START + draw.randrange(40) * STEP + draw.choice([0, 0, 1, SECOND])
    event = msgspec.structs.replace(
        record(number).event,
        action=action,
        actor=Actor(draw.choice(NAMES), draw.choice(["s_1", "s_2", None]), draw.choice(["user", "service"])),
        context=context,
        event_id=f"e{number}",
        occurred_at=format_time(recorded - draw.randrange(6 * 3600) * SECOND),
        outcome=draw.choice(["success", "failure", "denied"]),
        target=Target(draw.choice(NAMES), draw.choice(["user", "role", "a"])),
    )
    source = draw.choice(SOURCES)
    receipt = msgspec.structs.replace(record(number).receipt, recorded_at=format_time(recorded), source=source)
    return Record(event, msgspec.structs.replace(receipt, source_seq=None))


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Trail, list[tuple[Record, tuple[int, int]]]]]:
    """A trail of a few hundred events in batches of uneven size, and each record with its place."""
    draw = random.Random(7)
    records = [made(draw, number) for number in range(EVENTS)]
    simulated = Simulated(tmp_path_factory.mktemp("scoped")).create()
    placed, start = [], 0
    with simulated.sealer() as sealer:
        for sequence, size in enumerate([1, 60, 3, 120, 40, 90, 6, 100]):
            batch = records[start : start + size]
            sealer.add(batch)
            sealer.flush()
            placed += [(each, (sequence, row)) for row, each in enumerate(batch)]
            start += size
    with auditlib.open(simulated.vault.url, keys=KEY.verifier) as trail:
        yield trail, placed


def engagement(**changes: Any) -> Engagement:
    """One that holds now and sees everything but for the changes."""
    given = {
        "id": "e1",
        "identity": "ines@auditor.example",
        "role": "auditor",
        "vaults": (KEY.verifier.name,),
        "rows_per_export": 1000,
        "valid_from": format_time(FROM),
        "valid_until": format_time(UNTIL),
        "set_by": "maria",
        "set_at": format_time(FROM),
    }
    return Engagement(**{**given, **changes})


def scoped(trail: Trail, **changes: Any) -> ScopedTrail:
    """The trail under such an engagement."""
    held = engagement(**changes)
    return ScopedTrail(trail, lambda: held, lambda: NOW)


# --- the slow reference ------------------------------------------------------------------------------------------


def fits(text: str | None, pattern: str) -> bool:
    """`*` is any run, `?` any one character, everything else itself."""
    if text is None:
        return False
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(fits(text[start:], pattern[1:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and fits(text[1:], pattern[1:])


def party_fits(kind: str, name: str, asked: str) -> bool:
    before, colon, after = asked.partition(":")
    return fits(name, asked) or bool(colon and before and after and fits(kind, before) and fits(name, after))


def kind_of(action: str) -> str | None:
    return CATALOG.actions[action].kind if action in CATALOG.actions else None


def in_scope(each: Record, scope: dict[str, Any]) -> bool:
    """Whether an engagement with these limits shows this record."""
    event, at = each.event, parse_time(each.event.occurred_at)
    return (
        (not scope.get("kinds") or kind_of(event.action) in scope["kinds"])
        and (not scope.get("actions") or any(fits(event.action, glob) for glob in scope["actions"]))
        and (
            not scope.get("targets") or any(party_fits(event.target.type, event.target.id, g) for g in scope["targets"])
        )
        and (
            not scope.get("streams")
            or any(fits(name, g) for g in scope["streams"] for name in (each.receipt.source, stream_of(each)) if name)
        )
        and (scope.get("since") is None or at >= parse_time(scope["since"]))
        and (scope.get("until") is None or at < parse_time(scope["until"]))
    )


def stream_of(each: Record) -> str:
    return each.receipt.source.partition("/")[0]


def answers(each: Record, asked: dict[str, Any]) -> bool:
    """Whether a record answers a question."""
    event, at = each.event, parse_time(each.event.occurred_at)
    for name, text in (("action", event.action), ("outcome", event.outcome), ("source", each.receipt.source)):
        if name in asked and not any(fits(text, glob) for glob in asked[name]):
            return False
    for name, party in (("actor", event.actor), ("target", event.target)):
        if name in asked and not any(party_fits(party.type, party.id, text) for text in asked[name]):
            return False
    if "kind" in asked and kind_of(event.action) not in asked["kind"]:
        return False
    for path, wanted in asked.get("where", {}).items():
        value: Any = event.context
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        found = [value, *(value if isinstance(value, list) else [])]
        if not any(fits(text_of(each), text) for each in found for text in wanted):
            return False
    return ("since" not in asked or at >= parse_time(asked["since"])) and (
        "until" not in asked or at < parse_time(asked["until"])
    )


def text_of(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else canonical(value).decode()


def stripped(value: Any, path: list[str]) -> Any:
    """A JSON value without the field at a path, lists on the way included."""
    if isinstance(value, list):
        return [stripped(item, path) for item in value]
    if not isinstance(value, dict):
        return value
    if len(path) == 1:
        return {key: item for key, item in value.items() if key != path[0]}
    return {key: stripped(item, path[1:]) if key == path[0] else item for key, item in value.items()}


def shown(each: Record, fields: tuple[str, ...]) -> dict[str, Any]:
    """What may be seen of a record, as JSON."""
    value = json.loads(record_bytes(each))
    for field in fields:
        if field == "actor.session":
            value["event"]["actor"]["session"] = None
        else:
            value["event"] = stripped(value["event"], field.split("."))
    return value


def seen(rows: Any) -> list[dict[str, Any]]:
    """The rows of a page as JSON records."""
    found = []
    for row in rows.to_pylist():
        actor = {"id": row["actor_id"], "session": row["actor_session"], "type": row["actor_type"]}
        event = {
            "action": row["action"],
            "actor": actor,
            "context": json.loads(row["context"]),
            "event_id": row["event_id"],
            "occurred_at": format_time(from_datetime(row["occurred_at"])),
            "outcome": row["outcome"],
            "target": {"id": row["target_id"], "type": row["target_type"]},
        }
        receipt = {"recorded_at": format_time(from_datetime(row["recorded_at"])), "source": row["source"]}
        found.append({"event": event, "receipt": {**receipt, "source_seq": row["source_seq"]}})
    return found


def top(counted: Counter[Any], limit: int) -> list[tuple[Any, int]]:
    return sorted(counted.items(), key=lambda item: (-item[1], item[0] or ""))[:limit]


# --- draws -------------------------------------------------------------------------------------------------------

GLOBS = {
    "actions": ["role.*", "role_x.grant", "user.login", "*", "role?grant", "access.request", "no.such"],
    "kinds": ["grant", "revoke", "login", "request", "no-such-kind"],
    "targets": ["u_1", "user:*", "user:u_1", "a:b", "u?1", "*1", "*", "role:'; DROP TABLE batches; --"],
    "streams": ["billing-api", "billing-api/7f3a", "idp", "import:*", "b*1", "import:cloudtrail:42"],
    "redact": ["context.ip", "context.net.ip", "context.deep", "context.deep.token", "actor.session", "context.note"],
}
ASKED = {
    "action": GLOBS["actions"],
    "kind": GLOBS["kinds"],
    "actor": [*NAMES, "user:*", "service:u_1", "*", "u*1"],
    "target": [*NAMES, "role:*", "user:u_1", "?"],
    "outcome": ["success", "failure", "den*"],
    "source": [*SOURCES, "billing-api/*", "nobody"],
}
BINS = [1, 2, 7, 60, 400]
WHERE = ["ip", "note", "deep.token", "deep.n", "granted_role", "request_id", "net", "net.ip", "deep"]


def some(draw: random.Random, values: list[str], chance: float) -> tuple[str, ...]:
    return tuple(draw.sample(values, draw.randint(1, 3))) if draw.random() < chance else ()


def period(draw: random.Random, chance: float) -> dict[str, str]:
    low, high = sorted(draw.sample(range(-6 * 3600, 90 * 60, 60), 2))
    edges = {"since": format_time(START + low * SECOND), "until": format_time(START + high * SECOND)}
    return {name: text for name, text in edges.items() if draw.random() < chance}


def some_scope(draw: random.Random) -> dict[str, Any]:
    limits = {name: some(draw, GLOBS[name], 0.35) for name in ("actions", "kinds", "targets", "streams", "redact")}
    return {**limits, **period(draw, 0.35)}


def some_question(draw: random.Random) -> dict[str, Any]:
    asked: dict[str, Any] = {name: some(draw, values, 0.2) for name, values in ASKED.items()}
    asked = {name: values for name, values in asked.items() if values}
    if draw.random() < 0.3:
        asked["where"] = {draw.choice(WHERE): [draw.choice(["admin", "R-*", "203.*", *NAMES])]}
    return {**asked, **period(draw, 0.2)}


@pytest.mark.parametrize("seed", range(200))
def test_every_answer_is_that_of_the_records_in_scope_alone(sealed: Any, tmp_path: Path, seed: int) -> None:
    """For random scopes and questions, pages, counts, charts, facets, events and exports say nothing of the others."""
    trail, placed = sealed
    draw = random.Random(seed)
    scope, asked = some_scope(draw), some_question(draw)
    fields = scope["redact"]
    view = scoped(trail, **scope)
    question = Question(**{name: list(v) if isinstance(v, tuple) else v for name, v in asked.items()})
    visible = [(each, place) for each, place in placed if in_scope(each, scope)]

    hidden = [field.split(".")[1:] for field in fields if field.startswith("context.")]
    paths = [path.split(".") for path in asked.get("where", {})]
    if any(path[: len(other)] == other[: len(path)] for path in paths for other in hidden):
        refused = (
            lambda: view.search(question),
            lambda: view.count(question),
            lambda: view.histogram(question),
            lambda: view.facets(question, "actor"),
            lambda: view.coverage(question),
            lambda: view.summary(question, ["actor"]),
            lambda: view.export(question, tmp_path / "x.csv", "csv"),
        )
        for call in refused:
            with pytest.raises(RefusedError, match="left out"):
                call()
        assert list(tmp_path.iterdir()) == []
        return

    right = [(each, place) for each, place in visible if answers(each, asked)]
    newest_first = sorted(right, key=lambda pair: (parse_time(pair[0].receipt.recorded_at), *pair[1]), reverse=True)
    expected = [shown(each, fields) for each, _ in newest_first]
    limit, found, after = draw.choice([1, 7, 50, 200] if len(right) < 30 else [23, 50, 200]), [], None
    while True:
        page = view.search(question, after=after, limit=limit)
        found += seen(page.rows)
        after = page.next
        if after is None:
            break
        assert page.rows.num_rows == limit
    assert found == expected

    assert view.count(question) == len(right)
    times = [parse_time(each.event.occurred_at) for each, _ in right]
    bars = view.histogram(question, draw.choice([1, 5, 100]))
    assert sum(bars.counts) == len(times)
    for number, count in enumerate(bars.counts):
        low = bars.start + number * bars.width
        assert count == sum(low <= at < low + bars.width for at in times)
    columns = {
        "actor": lambda each: f"{each.event.actor.type}:{each.event.actor.id}",
        "action": lambda each: each.event.action,
        "kind": lambda each: kind_of(each.event.action),
        "target_type": lambda each: each.event.target.type,
        "outcome": lambda each: each.event.outcome,
        "source": lambda each: each.receipt.source,
    }
    for column in draw.sample(sorted(columns), 3):
        value_of = columns[column]
        counted = Counter(value_of(each) for each, _ in right)
        facets = view.facets(question, column, 3)
        assert list(facets.values) == top(counted, 3)
        assert (facets.distinct, facets.rest) == (len(counted), len(right) - sum(n for _, n in facets.values))
    chosen, most, places = draw.sample(sorted(columns), draw.randint(0, 6)), draw.choice([1, 3, 20]), draw.choice(BINS)
    summary = view.summary(question, chosen, most, places)
    assert (summary.events, summary.bars) == (len(right), view.histogram(question, places))
    assert summary.facets == {column: view.facets(question, column, most) for column in chosen}
    streams = Counter(stream_of(each) for each, _ in right)
    assert [(stream.name, stream.events) for stream in view.coverage(question)] == sorted(streams.items())
    for stream in view.coverage(question):
        mine = [parse_time(each.event.occurred_at) for each, _ in right if stream_of(each) == stream.name]
        assert (stream.first, stream.last) == (min(mine), max(mine))

    ids = {each.event.event_id: each for each, _ in visible}
    for number in draw.sample(range(EVENTS), 2):
        one = view.event(f"e{number}")
        assert (one is not None) == (f"e{number}" in ids)
        if one is not None:
            assert one.record == canonical(shown(ids[f"e{number}"], fields))
            assert one.redacted == (one.record != record_bytes(ids[f"e{number}"]))
        everything = {canonical(shown(each, fields)) for each in ids.values()}
        for rows in view.related(f"e{number}").values():
            assert {canonical(each) for each in seen(rows)} <= everything

    form = draw.choice(["csv", "jsonl", "parquet"])
    done = view.export(question, tmp_path / f"x.{form}", form)
    in_order = [shown(each, fields) for each, _ in right]
    assert done.rows == len(right)
    if form == "jsonl":
        assert (tmp_path / "x.jsonl").read_bytes() == b"".join(canonical(each) + b"\n" for each in in_order)
    if form == "parquet":
        assert seen(pq.read_table(tmp_path / "x.parquet")) == in_order


def test_what_a_packet_states_means_the_same_to_who_sees_everything(sealed: Any) -> None:
    """For random scopes and questions: what is stated, asked of the whole trail, is what the scope answers, or no."""
    trail, placed = sealed
    stated = filled = 0
    for seed in range(150):
        draw = random.Random(seed)
        scope, asked = {**some_scope(draw), "redact": ()}, some_question(draw)
        right = [each for each, _ in placed if in_scope(each, scope) and answers(each, asked)]
        question = Question(**{name: list(v) if isinstance(v, tuple) else v for name, v in asked.items()})
        try:
            within, events = scoped(trail, **scope).stated(question)
        except (RefusedError, MalformedError):  # past the scope; or a period of which nothing lies in it
            assert any(scope.values()) or "no-such-kind" in asked.get("kind", ())
            continue
        given = {name: getattr(within, name) for name in (*ASKED, "since", "until", "where")}
        meant = {name: (value,) if name in ASKED and isinstance(value, str) else value for name, value in given.items()}
        meant = {name: value for name, value in meant.items() if value is not None}
        assert [each for each, _ in placed if answers(each, meant)] == right
        assert events == len(right) == scoped(trail).count(within)
        stated, filled = stated + 1, filled + (within != question)
    assert stated > 50 and filled > 40


def test_a_packet_s_question_is_filled_from_the_scope_and_never_cut(sealed: Any) -> None:
    """What is left open is the scope's own words; what names something else is refused, and so is too much."""
    trail, _ = sealed
    begin, end = format_time(START - 3600 * SECOND), format_time(START + 3600 * SECOND)
    view = scoped(trail, kinds=("grant", "login"), streams=("billing-api",), since=begin, until=end)
    within, _ = view.stated(Question(action="role.*", tz="Asia/Tokyo"))
    assert (within.kind, within.source) == (("grant", "login"), ("billing-api", "billing-api/*"))
    assert (within.since, within.until, within.tz) == (begin, end, "Asia/Tokyo")
    for asked in ({"kind": "revoke"}, {"source": "idp/a1"}, {"source": "*"}, {"kind": ["grant", "no-such"]}):
        with pytest.raises(RefusedError, match="more than your engagement"):
            view.stated(Question(**asked))
    most = view.stated(Question())[1]
    few = scoped(trail, kinds=("grant", "login"), rows_per_export=most - 1)
    with pytest.raises(RefusedError, match="may be exported at once"):
        few.stated(Question())
    with pytest.raises(RefusedError, match="left out"):
        scoped(trail, redact=("context.note",)).stated(Question(where={"note": "x"}))


# --- attacks -----------------------------------------------------------------------------------------------------


def test_a_forged_cursor_is_refused_whatever_it_is(sealed: Any) -> None:
    """A changed byte, another's cursor, another question's, garbage: one sentence, and no row."""
    trail, _ = sealed
    view, question = scoped(trail), Question()
    cursor = view.search(question, limit=3).next
    assert cursor is not None
    assert view.search(question, after=cursor, limit=3).rows.num_rows == 3
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    flipped = []
    for place in range(len(raw)):
        raw[place] ^= 1
        flipped.append(base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode())
        raw[place] ^= 1
    others = [
        scoped(trail, id="e2").search(question, limit=3).next,
        scoped(trail, actions=("role.*",)).search(question, limit=3).next,
        view.search(Question(outcome="success"), limit=3).next,
    ]
    garbage = ["", "0", "=", "\0", "é", "\ud800", cursor[:-1], cursor + "A", cursor * 1000, 7, b"x", ["a"], {}]
    said = set()
    for forged in [*flipped, *others, *garbage]:
        with pytest.raises(MalformedError) as error:
            view.search(question, after=forged)  # type: ignore[arg-type]
        said.add(str(error.value))
    assert len(said) == 1


def test_a_cursor_shows_no_place_in_the_trail(sealed: Any) -> None:
    """Neither the batch nor the row can be read out of it, and the same place never gives the same text."""
    view = scoped(sealed[0])
    cursors = [view.search(Question(), limit=5).next for _ in range(50)]
    assert len(set(cursors)) == 50
    for column in ("sequence", "row"):
        assert column not in view.search(Question()).rows.column_names


@pytest.mark.parametrize("limit", [0, -1, 10**9, 2**70, 201])
def test_the_server_bounds_every_number_of_rows(sealed: Any, limit: int) -> None:
    """A page size written by the browser delivers a page, no more."""
    view = scoped(sealed[0])
    assert view.search(Question(), limit=limit).rows.num_rows == (1 if limit < 1 else 200)
    assert len(view.facets(Question(), "actor", limit).values) <= (1 if limit < 1 else 200)
    assert len(view.histogram(Question(), limit).counts) <= (1 if limit < 1 else 400)


@pytest.mark.parametrize("limit", ["5", 1.5, None, True, [], "1; DROP TABLE batches"])
def test_a_number_that_is_none_is_refused(sealed: Any, limit: Any) -> None:
    """Texts, fractions and truths are no number of rows."""
    view = scoped(sealed[0])
    for call in (
        lambda: view.search(Question(), limit=limit),
        lambda: view.histogram(Question(), limit),
        lambda: view.facets(Question(), "actor", limit),
    ):
        with pytest.raises(MalformedError):
            call()


HOSTILE: list[dict[str, Any]] = [
    {"action": "' OR 1=1 --"},
    {"action": "%"},
    {"actor": "x' UNION SELECT * FROM batches --"},
    {"target": "\\"},
    {"source": "billing-api/7f3a' OR '1'='1"},
    {"action": "\0"},
    {"actor": "a\0*"},
    {"where": {"note": "\0"}},
    {"where": {"note') OR TRUE --": "x"}},
    {"where": {"net[*].ip": "*"}},
    {"where": {"$": "*"}},
    {"where": {("**",): "*"}},
    {"where": {("..ip",): "*"}},
    {"where": {("note", "*"): "*"}},
    {"where": {'"': "*"}},
    {"where": {"": "*"}},
    {"where": {"\ud800": "*"}},
    {"where": [("note", "x")]},
    {"where": {str(n): "x" for n in range(9)}},
    {"where": {"note": {"a": 1}}},
    {"where": {"note": []}},
    {"where": {"note": float("nan")}},
    {"where": {"note": 2**80}},
    {"kind": "no-such"},
    {"kind": 7},
    {"kind": []},
    {"kind": {"a": 1}},
    {"action": ["a"] * 101},
    {"action": "a" * 1201},
    {"actor": "*a" * 9},
    {"actor": 5},
    {"actor": [None]},
    {"actor": "\ud800"},
    {"outcome": "SUCCESS"},
    {"outcome": ["success", 1]},
    {"since": "now"},
    {"since": "9" * 5000},
    {"since": 12},
    {"until": ["x"]},
    {"through": "2026-99-99"},
    {"since": "2026-03-02", "until": "2026-03-01"},
    {"tz": "../../etc/passwd"},
    {"tz": 3},
    {"tz": "\0"},
    {"tz": "x" * 5000},
]


@pytest.mark.parametrize("asked", HOSTILE, ids=lambda asked: repr(asked)[:60])
def test_a_hostile_question_is_refused_in_words_or_answered_from_the_scope(
    sealed: Any, tmp_path: Path, asked: dict[str, Any]
) -> None:
    """SQL in globs, NUL bytes, paths that would fan out: no traceback, no row from outside, nothing written."""
    trail, placed = sealed
    view = scoped(trail, streams=("idp",), redact=("context.net", "context.ip"))
    allowed = {each.event.event_id for each, _ in placed if stream_of(each) == "idp"}
    for call in (
        lambda: view.search(Question(**asked)),
        lambda: view.count(Question(**asked)),
        lambda: view.facets(Question(**asked), "actor"),
        lambda: view.export(Question(**asked), tmp_path / "x.csv", "csv"),
    ):
        try:
            answer = call()
        except MalformedError as error:
            assert "10.0.0.1" not in str(error) and "203.0" not in str(error)
            assert not (tmp_path / "x.csv").exists()
        else:
            if hasattr(answer, "narrowed") and hasattr(answer, "next"):
                assert {row["event_id"] for row in answer.rows.to_pylist()} <= allowed
                assert not any("10.0.0.1" in row["context"] for row in answer.rows.to_pylist())
            assert list(tmp_path.glob(".auditlib-*")) == []


def test_a_field_left_out_is_in_no_answer_and_no_filter(sealed: Any, tmp_path: Path) -> None:
    """By no path to it, above it or below it, and by no relation, can its value be found out."""
    trail, placed = sealed
    view = scoped(trail, redact=("context.deep.token", "context.ip", "context.net.ip", "actor.session"))
    for path in ("deep", "deep.token", "deep.token.x", "ip", "context.ip", "net", "net.ip", "ip.x"):
        with pytest.raises(RefusedError, match="left out"):
            view.count(Question(where={path: "*"}))
    with pytest.raises(RefusedError):
        view.count(Question(where={("deep", "token"): "*"}))
    for column in ("actor_session", "context", "context.ip", "event_id", "1", "action, context", None, []):
        with pytest.raises(MalformedError):
            view.facets(Question(), column)  # type: ignore[arg-type]
    view.export(Question(), tmp_path / "x.jsonl", "jsonl")
    text = (tmp_path / "x.jsonl").read_text()
    assert "203.0.113" not in text and "10.0.0.1" not in text and '"token"' not in text and "s_1" not in text
    assert '"port"' in text  # what stands beside it stays
    assert all("session" not in view.related(each.event.event_id) for each, _ in placed[:20])
    assert any("session" in scoped(trail).related(each.event.event_id) for each, _ in placed[:20])


def test_an_event_outside_is_not_there(sealed: Any) -> None:
    """An id outside the scope, one that never was, and what is no id are answered alike."""
    trail, placed = sealed
    view = scoped(trail, streams=("idp",))
    inside = next(each for each, _ in placed if stream_of(each) == "idp")
    outside = next(each for each, _ in placed if stream_of(each) != "idp")
    found = view.event(inside.event.event_id, inside.receipt.source)
    assert found is not None and found.record == record_bytes(inside)
    absent = [outside.event.event_id, "e99999", "", "\0", "e1\0", "é", "x" * 129, "%", "*", "e*", 5, None, ["e1"]]
    for event_id in absent:
        assert view.event(event_id) is None  # type: ignore[arg-type]
        assert view.related(event_id) == {}  # type: ignore[arg-type]
    for source in (outside.receipt.source, "\0", "", "*", "IDP", 5, "x" * 5000):
        assert view.event(inside.event.event_id, source) is None  # type: ignore[arg-type]


def test_a_hostile_request_id_relates_only_its_own(sealed: Any) -> None:
    """A star in a record's own value is that star and no glob."""
    trail, placed = sealed
    view = scoped(trail)
    star = next(e for e, _ in placed if e.event.context.get("request_id") == "R-*" and kind_of(e.event.action))
    rows = view.related(star.event.event_id, star.receipt.source).get("request")
    assert rows is not None
    assert {json.loads(text)["request_id"] for text in rows.column("context").to_pylist()} == {"R-*"}


def test_an_export_has_no_more_rows_than_allowed(sealed: Any, tmp_path: Path) -> None:
    """More is refused whole: what was cut off would be taken for the answer. Nothing is written."""
    trail, _ = sealed
    view = scoped(trail, rows_per_export=EVENTS - 1)
    with pytest.raises(RefusedError, match="419"):
        view.export(Question(), tmp_path / "x.csv", "csv")
    with pytest.raises(RefusedError, match="nothing may be exported"):
        scoped(trail, rows_per_export=0).export(Question(), tmp_path / "x.csv", "csv")
    for form in ("../x", "exe", "", None):
        with pytest.raises(MalformedError):
            view.export(Question(outcome="denied"), tmp_path / "x.csv", form)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    done = scoped(trail, rows_per_export=EVENTS).export(Question(), tmp_path / "x.xlsx", "xlsx")
    assert done.rows == EVENTS and any("Set by maria" in sentence for sentence in done.scope)


def test_expiry_and_revocation_take_effect_at_the_next_call(sealed: Any, tmp_path: Path) -> None:
    """Every method asks again: before it begins, after it ends, revoked, gone, none says anything but why."""
    trail, _ = sealed
    path = tmp_path / "engagements.toml"
    add_engagement(path, engagement())
    kept = Engagements(path)
    at = [NOW]
    view = ScopedTrail(trail, lambda: kept.find("e1"), lambda: at[0])
    question = Question()
    calls = [
        view.words,
        lambda: view.search(question),
        lambda: view.count(question),
        lambda: view.histogram(question),
        lambda: view.facets(question, "kind"),
        lambda: view.event("e1"),
        lambda: view.related("e1"),
        lambda: view.coverage(question),
        view.standing,
        lambda: view.export(question, tmp_path / "x.csv", "csv"),
    ]
    for moment, says in ((FROM - 1, "begins"), (UNTIL, "ended"), (UNTIL + DAY, "ended")):
        at[0] = moment
        for call in calls:
            with pytest.raises(RefusedError, match=says):
                call()
    at[0] = NOW
    assert view.count(question) == EVENTS
    revoke_engagement(path, "e1", by="maria", reason="left the firm", now=lambda: NOW)
    for call in calls:
        with pytest.raises(RefusedError, match=r"revoked .* by maria: left the firm"):
            call()
    path.write_text('format = "auditlib/engagements/v1"\n')
    for call in calls:
        with pytest.raises(RefusedError, match="no access"):
            call()
    path.write_text("this is no TOML")
    for call in calls:
        with pytest.raises(AuditlibError):
            call()
    assert not (tmp_path / "x.csv").exists()


def test_an_export_under_way_stops_when_the_engagement_ends(sealed: Any, tmp_path: Path) -> None:
    """Between two runs of rows it is asked again, and nothing half-written stays."""
    held, left = engagement(), [4]

    def now() -> int:
        left[0] -= 1
        return NOW if left[0] >= 0 else UNTIL

    view = ScopedTrail(sealed[0], lambda: held, now)
    left[0] = 2  # the call itself, and the first run
    with pytest.raises(RefusedError, match="ended"):
        view.export(Question(), tmp_path / "x.csv", "csv")
    assert list(tmp_path.iterdir()) == []


def test_a_narrower_scope_takes_effect_at_the_next_call_and_ends_its_cursors(sealed: Any) -> None:
    """What the file says now counts, not what it said when the page was opened."""
    trail, placed = sealed
    held = [engagement()]
    view = ScopedTrail(trail, lambda: held[0], lambda: NOW)
    cursor = view.search(Question(), limit=5).next
    held[0] = engagement(streams=("idp",))
    assert view.count(Question()) == sum(stream_of(each) == "idp" for each, _ in placed)
    with pytest.raises(MalformedError, match="no position"):
        view.search(Question(), after=cursor)


def test_an_engagement_for_another_vault_opens_nothing(sealed: Any) -> None:
    """The origin, the server's name or the address must be named."""
    trail, _ = sealed
    for vault in ("other.example/audit", "", "*", KEY.verifier.name.upper(), str(Path(trail.history.vault.url).parent)):
        held = engagement(vaults=(vault,))
        with pytest.raises(RefusedError, match="not for this vault"):
            ScopedTrail(trail, lambda held=held: held, lambda: NOW)  # type: ignore[misc]
    for vault in (KEY.verifier.name, trail.history.vault.url, f"file://{trail.history.vault.url}/.", "main"):
        held = engagement(vaults=(vault,))
        assert ScopedTrail(trail, lambda held=held: held, lambda: NOW, "main").count(Question()) == EVENTS  # type: ignore[misc]


def test_a_page_says_how_the_scope_is_narrower_than_the_request(sealed: Any) -> None:
    """In words, from the scope and the question alone; a request within the scope hears nothing."""
    trail, _ = sealed
    view = scoped(trail, actions=("role.*",), targets=("user:*",), since="2026-03-01", streams=("billing-api",))
    told = view.search(Question()).narrowed
    assert told == (
        "Only events that occurred from 2026-03-01 on (UTC).",
        "Only the actions role.*.",
        "Only the targets user:*.",
        "Only the streams billing-api.",
    )
    within = Question(
        action=["role.grant", "role.rev*"], target="user:u*", since="2026-03-02T00:00:00Z", source="billing-api/7f3a"
    )
    assert view.search(within).narrowed == ()
    assert len(view.search(msgspec.structs.replace(within, target="u_1")).narrowed) == 1
    assert len(view.search(msgspec.structs.replace(within, action="*")).narrowed) == 1
    assert len(view.search(msgspec.structs.replace(within, since="2026-02-27")).narrowed) == 1
    for kind in ("login", "no-such-kind"):  # there, and nowhere: said alike
        assert f"No action of the kind {kind!r} is within the scope." in view.search(Question(kind=kind)).narrowed
        assert view.count(Question(kind=kind)) == 0
    redacting = scoped(trail, redact=("context.ip",))
    assert redacting.search(Question()).narrowed == ("Left out of every event: context.ip.",)
    assert scoped(trail).search(Question()).narrowed == ()


def test_the_standing_of_the_trail_counts_no_events(sealed: Any) -> None:
    """Checkpoint, key and the last seal's date, and no number that grows with events outside."""
    trail, _ = sealed
    standing = scoped(trail, streams=("idp",)).standing()
    assert (standing.origin, standing.size) == (KEY.verifier.name, 8)
    assert set(msgspec.structs.asdict(standing)) == {"origin", "size", "root", "keys", "last_sealed_at"}
    assert str(EVENTS) not in repr(scoped(trail))


def test_what_cannot_be_read_names_no_place(tmp_path: Path) -> None:
    """A batch that was changed or is gone is said in words without the server's paths or the batch's name."""
    simulated = Simulated(tmp_path).create().seal(2)
    for number, spoil in enumerate(("flip", "remove")):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(simulated.vault.url, copy)
        getattr(Tamper(copy), spoil)("batches/*/000000000000-*")
        with auditlib.open(copy, keys=KEY.verifier) as trail:
            for call in (
                lambda view: view.search(Question(), limit=200),
                lambda view: view.count(Question()),
                lambda view: view.event("nobody"),
            ):
                with pytest.raises(AuditlibError) as error:
                    call(scoped(trail))
                assert str(tmp_path) not in str(error.value) and "batches/" not in str(error.value)
                assert not isinstance(error.value, RefusedError)
    assert MismatchError.exit_code == 1
