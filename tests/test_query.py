"""What is asked -> what answers: every filter against a slow reference over the decoded records."""

from __future__ import annotations

import json
import tempfile
import warnings
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import canonical_json
from simulator import CATALOG, KEY, MemoryVault, record
from simulator import Trail as Simulated
from strength import LONG

from auditlib import query
from auditlib.errors import MalformedError
from auditlib.formats.event import Actor, Event, Receipt, Record, Target
from auditlib.formats.times import SECOND, format_time, parse_time
from auditlib.history import read_history
from auditlib.query import build_filter, parse_period
from auditlib.trail import Trail

HOSTILE = ["u_1", "u-1", "u%1", "user:u_1", "a:b:c", "O'Brien", '"', "\\", "\\_", "a*b", "a?b", "[ab]", "%", "_", "*"]
HOSTILE += [
    "é",
    "e\u0301",
    "😀",
    "a\nb",
    "\x1b[2J",
    "'; DROP TABLE batches; --",
    "{{x}}",
    "$1",
    "?",
    " ",
    "A",
    "a",
    "U_1",
]
TYPES = ["user", "service", "system"]
TARGET_TYPES = ["user", "a:b", "role", "db.table"]
ACTIONS = ["role.grant", "user.login", "role.revoke", "a_b.c", "axb.c", "unlisted.verb"]
SOURCES = ["app/1", "app/2", "import:cloudtrail:42"]
LEAVES = [None, True, False, 0, 1, -1, 1.5, 1e-7, 5e-324, 2**53 - 1, "", "1", "true", "admin", "a_min", "a%", "null"]
LEAVES += HOSTILE
KEYS = ["k", "a", "b", "a b", "é", "x'y", "0", "#", "$", "granted_role", "context", "K", "a*"]
ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Asia/Kathmandu", "Pacific/Apia"]
DAYS = ["2026-03-29", "2026-10-25", "2028-02-29", "2018-11-04", "2018-02-18", "2026-11-01", "2011-12-31", "2026-05-31"]
DAYS += ["2026-06-01", "2028-03-01", "1970-01-02", "9999-12-30"]


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


def text_of(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return canonical_json(value)


def context_fits(context: Any, path: tuple[str, ...], wanted: list[Any]) -> bool:
    for key in path:
        if not isinstance(context, dict) or key not in context:
            return False
        context = context[key]
    found = [context, *(context if isinstance(context, list) else [])]
    return any(fits(text_of(value), str(text_of(asked))) for value in found for asked in wanted)


def answers(record: Record, asked: dict[str, Any]) -> bool:
    event = record.event
    plain = {"action": event.action, "outcome": event.outcome, "source": record.receipt.source}
    for name, text in plain.items():
        if name in asked and not any(fits(text, pattern) for pattern in asked[name]):
            return False
    if "kind" in asked:
        entry = CATALOG.actions.get(event.action)
        if entry is None or entry.kind not in asked["kind"]:
            return False
    for name, party in (("actor", event.actor), ("target", event.target)):
        if name in asked and not any(party_fits(party.type, party.id, text) for text in asked[name]):
            return False
    for path, wanted in asked.get("where", {}).items():
        if not context_fits(event.context, path, wanted):
            return False
    at, zone = parse_time(event.occurred_at), ZoneInfo(asked.get("tz", "UTC"))
    day = datetime.fromtimestamp(
        at // SECOND, zone
    ).date()  # days begin with their first moment, whatever its clock says
    if "since" in asked and not (day >= asked["since"] if isinstance(asked["since"], date) else at >= asked["since"]):
        return False
    if "through" in asked and not day <= asked["through"]:
        return False
    return "until" not in asked or (day < asked["until"] if isinstance(asked["until"], date) else at < asked["until"])


# --- strategies --------------------------------------------------------------------------------------------------


@st.composite
def moments(draw: Any) -> str:
    """Around the beginning of a day in some zone, to the microsecond."""
    day = date.fromisoformat(draw(st.sampled_from(DAYS)))
    start = parse_period(day, None, None, draw(st.sampled_from(ZONES)))[0]
    assert start is not None
    return format_time(start + draw(st.sampled_from([0, -1, 1, SECOND, -3600 * SECOND, 3600 * SECOND, 86_399_999_999])))


leaves = st.sampled_from(LEAVES)
contexts = st.dictionaries(
    st.sampled_from(KEYS),
    st.one_of(leaves, st.lists(leaves, max_size=3), st.dictionaries(st.sampled_from(KEYS), leaves, max_size=2)),
    max_size=3,
)


@st.composite
def records(draw: Any, number: int) -> Record:
    """A record of some hostile, some plain parts."""
    action = draw(st.sampled_from(ACTIONS))
    entry = CATALOG.actions.get(action)
    context = draw(contexts) | {key: draw(leaves) for key in (entry.required if entry else ())}
    event = Event(
        action=action,
        actor=Actor(draw(st.sampled_from(HOSTILE)), None, draw(st.sampled_from(TYPES))),
        context=context,
        event_id=f"id{number}",
        occurred_at=draw(moments()),
        outcome=draw(st.sampled_from(["success", "failure", "denied"])),
        target=Target(draw(st.sampled_from(HOSTILE)), draw(st.sampled_from(TARGET_TYPES))),
    )
    return Record(event, Receipt(draw(moments()), draw(st.sampled_from(SOURCES)), None))


@st.composite
def runs(draw: Any) -> list[list[Record]]:
    """One to four batches of one to six records."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    numbers = iter(range(100))
    return [[draw(records(next(numbers))) for _ in range(size)] for size in sizes]


def some(values: list[Any]) -> Any:
    return st.lists(st.sampled_from(values), min_size=1, max_size=2)


globs = ["*", "?", "??", "u?1", "*_*", "user:*", "*:u_1", "?ser:u*", "*%", "a*", "*\\*", "a:b:*", "*'*", "[ab]*", "\\*"]


@st.composite
def cases(draw: Any) -> tuple[list[list[Record]], list[dict[str, Any]]]:
    """A trail, and questions of one to three filters whose values come from its own records or lie just beside."""
    batches = draw(runs())
    every = [record for batch in batches for record in batch]

    def near(text: str) -> Any:
        """A text, or a glob made of it."""
        cut = st.integers(0, len(text) - 1)
        return st.one_of(
            st.just(text),
            cut.map(lambda at: text[:at] + "?" + text[at + 1 :]),
            cut.map(lambda at: text[:at] + "*"),
            cut.map(lambda at: "*" + text[at:]),
        )

    def beside(parties: list[Any]) -> Any:
        own = st.sampled_from(parties)
        whole = own.flatmap(lambda party: near(f"{party.type}:{party.id}"))
        return st.one_of(own.flatmap(lambda party: near(party.id)), whole, st.sampled_from(globs))

    times = st.sampled_from([parse_time(record.event.occurred_at) for record in every])
    moment = st.one_of(st.sampled_from(DAYS).map(date.fromisoformat), times, times.map(lambda at: at + 1))
    paths = [(key,) for record in every for key in record.event.context]
    paths += [
        (key, inner)
        for record in every
        for key, value in record.event.context.items()
        if isinstance(value, dict)
        for inner in value
    ]
    wanted = [value for value in LEAVES if value not in (None, "")]
    filters = {
        "action": some([*ACTIONS, "role.*", "a_b.*", "?_b.c", "*.c", "nothing.here"]),
        "kind": some(["grant", "revoke", "login"]),
        "outcome": some(["success", "failure", "denied", "*", "d*"]),
        "source": some([*SOURCES, "app/*", "import:*:4?"]),
        "actor": st.lists(beside([record.event.actor for record in every]), min_size=1, max_size=2),
        "target": st.lists(beside([record.event.target for record in every]), min_size=1, max_size=2),
        "where": st.dictionaries(
            st.sampled_from([*paths, ("k",), ("k", "a")]),
            st.lists(st.one_of(st.sampled_from(wanted), st.sampled_from(globs)), min_size=1, max_size=4),
            min_size=1,
            max_size=2,
        ),
        "since": moment,
        "until": moment,
        "through": st.sampled_from(DAYS).map(date.fromisoformat),
    }
    asked = []
    for _ in range(10):
        names = draw(st.lists(st.sampled_from(sorted(filters)), min_size=1, max_size=2, unique=True))
        asked.append({name: draw(filters[name]) for name in names} | {"tz": draw(st.sampled_from(ZONES))})
    return batches, asked


def as_asked(question: dict[str, Any]) -> dict[str, Any]:
    """The reference's times (microseconds) as a person writes them."""
    return {name: format_time(value) if isinstance(value, int) else value for name, value in question.items()}


def sealed(batches: list[list[Record]]) -> Trail:
    with tempfile.TemporaryDirectory() as folder:
        simulated = Simulated(None, MemoryVault(), Path(folder)).create()
        with simulated.sealer() as sealer:
            for batch in batches:
                sealer.add(batch)
                sealer.flush()
    return Trail(read_history(simulated.vault, [KEY.verifier]), CATALOG)


# --- the promise -------------------------------------------------------------------------------------------------


@settings(
    max_examples=20 if LONG else 8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(cases())
def test_every_filter_answers_as_the_reference_does(case):
    """count, df, arrow and batches agree with reading every record, in the order (sequence, row); none is skipped."""
    batches, asked = case
    with sealed(batches) as trail, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # month ends
        for question in asked:
            if "until" in question:
                question.pop("through", None)
            expected = [
                (sequence, row, record)
                for sequence, batch in enumerate(batches)
                for row, record in enumerate(batch)
                if answers(record, question)
            ]
            try:
                selection = trail.events(**as_asked(question))
            except MalformedError as error:
                assert "period is empty" in str(error), error
                assert not expected
                continue
            table = selection.arrow()
            places = [(sequence, row) for sequence, row, _ in expected]
            assert list(zip(*(table.column(name).to_pylist() for name in ("sequence", "row")), strict=True)) == places
            assert table.column("event_id").to_pylist() == [record.event.event_id for _, _, record in expected]
            assert selection.count() == len(expected)
            assert selection.df()["row"].tolist() == [row for _, row in places]
            streamed = [row for batch in selection.batches() for row in batch.to_pylist()]
            assert streamed == table.to_pylist()
            assert {sequence for sequence, _ in places} <= {seal.sequence for seal in selection.seals}


def test_every_hostile_id_is_found_by_itself_and_by_its_globs_alone():
    """Quotes, %, _, backslash, colons, unicode: each id and each glob against all of them, with and without a type."""
    every = [
        Record(
            Event(
                "x.y",
                Actor(name, None, kind),
                {"k": name},
                f"{kind}{n}",
                "2026-03-01T00:00:00Z",
                "success",
                Target(name, "a:b"),
            ),
            Receipt("2026-03-01T00:00:00Z", "app/1", None),
        )
        for n, name in enumerate(HOSTILE)
        for kind in ("user", "service")
    ]
    with sealed([every]) as trail:
        for asked in [*HOSTILE, *globs, *(f"user:{name}" for name in HOSTILE), "a:b:*", "us?r:*_*"]:
            for question in ({"actor": [asked]}, {"target": [asked]}, {"where": {("k",): [asked]}}):
                expected = [record.event.event_id for record in every if answers(record, question)]
                found = trail.events(**question).arrow().column("event_id").to_pylist()
                assert found == expected, question


def test_a_period_begins_and_ends_on_the_microsecond():
    """One record a batch, a microsecond apart: neither the condition nor the skipping is off by one."""
    start = parse_time("2026-05-31T23:59:59.999998Z")
    batches = [[record(n, occurred_at=format_time(start + n), recorded_at="2026-06-02T00:00:00Z")] for n in range(4)]
    for layout in (batches, [[only for (only,) in batches]]):
        with sealed(layout) as trail:
            for since in range(-1, 5):
                for until in range(since + 1, 6):
                    selection = trail.events(since=format_time(start + since), until=format_time(start + until))
                    expected = [f"01JH2K8Q9R{n:06}" for n in range(4) if since <= n < until]
                    assert selection.arrow().column("event_id").to_pylist() == expected
                    assert selection.count() == len(expected)
                    assert len(selection.seals) == (len(expected) if layout is batches else bool(expected))
            assert trail.events(through="2026-05-31").count() == 2


def test_keys_of_the_context_are_exact():
    """Upper and lower case, a key with a dot, one inside another."""
    contexts = [{"k": 1}, {"K": 1}, {"a": {"b": 1}}, {"a.b": 1}, {"a": [{"b": 1}]}, {"a*": 1}]
    with sealed([[record(1 + 3 * n, context=context) for n, context in enumerate(contexts)]]) as trail:
        for row, path in enumerate(["k", "K", "a.b", ("a.b",)]):
            assert trail.events(where={path: 1}).arrow().column("row").to_pylist() == [row]
        assert trail.events(where={"a*": 1}).arrow().column("row").to_pylist() == [5]


def written(value: Any, escape: bool, gap: str) -> str:
    """JSON in a form that no sealer writes: other escapes, other gaps, keys as they come."""
    if isinstance(value, dict):
        inner = (f"{written(k, escape, gap)}{gap}:{gap}{written(v, escape, gap)}" for k, v in value.items())
        return "{" + gap + f"{gap},".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(gap + written(item, escape, gap) for item in value) + gap + "]"
    if isinstance(value, str) and escape:
        return '"' + "".join(f"\\u{ord(char):04x}" if ord(char) < 2**16 else char for char in value) + '"'
    return json.dumps(value, ensure_ascii=escape)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(contexts, st.booleans(), st.sampled_from(["", " ", "\n"])), min_size=1, max_size=12),
    st.sampled_from(["1E2", "1.0", "-0", "1e400", "NaN", "Infinity", "-inf", "123456789012345678901234567890"]),
    st.sampled_from(KEYS),
    st.lists(st.sampled_from([v for v in LEAVES if v not in (None, "")] + ["100.0", "nan", "*", "a*"]), min_size=1),
)
def test_a_glance_at_the_text_passes_over_no_context(
    made: list[tuple[dict[str, Any], bool, str]], number: str, key: str, wanted: list[Any]
) -> None:
    """However its JSON is written, a context that parsing finds is found with the quick look before it, too."""
    texts = [written(context, escape, gap) for context, escape, gap in made]
    texts += [f'{{"{key}":{number}}}', f'{{"{key}":[{number}]}}', f'{{"{key}":{{"k":{number}}}}}']
    with duckdb.connect() as database:
        for path in ((key,), (key, "k")):
            asked = build_filter(None, where={path: wanted})
            quick, bound = asked.sql()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(query, "_may_match", lambda *_: "TRUE")
                slow, plain = asked.sql()
            table = "(SELECT unnest(?::VARCHAR[]) AS context) WHERE json_valid(context) AND"
            found = [
                database.execute(f"SELECT context FROM {table} ({condition})", [texts, *values]).fetchall()
                for condition, values in ((quick, bound), (slow.replace("contains(context, '[')", "TRUE"), plain))
            ]
            assert found[0] == found[1]


def test_the_order_holds_over_many_row_groups(tmp_path):
    """Parallel scans of several batches come back in (sequence, row)."""
    simulated = Simulated(tmp_path).create()
    with simulated.sealer() as sealer:
        from simulator import records as plain

        for first in (0, 20_000, 40_000):
            sealer.add(plain(20_000, first))
            sealer.flush()
    with Trail(read_history(simulated.vault, [KEY.verifier]), CATALOG) as trail:
        for selection in (trail.events(), trail.events(outcome="denied"), trail.events(kind="grant")):
            table = selection.arrow()
            places = list(zip(table.column("sequence").to_pylist(), table.column("row").to_pylist(), strict=True))
            assert places == sorted(places)
            assert sum(batch.num_rows for batch in selection.batches()) == len(places) == selection.count()
            assert selection.head(5).column("event_id").to_pylist() == table.column("event_id").to_pylist()[:5]


def test_batches_that_cannot_answer_are_not_read(tmp_path):
    """Seals choose: a question about one day and one action opens only the batches that may hold it."""
    simulated = Simulated(tmp_path).create().seal(6, size=2)  # every batch: one grant or none, two logins
    opened: list[str] = []
    get, copy = simulated.vault.get, simulated.vault.copy
    simulated.vault.get = lambda key, *rest: (opened.append(key), get(key, *rest))[1]
    simulated.vault.copy = lambda key, *rest: (opened.append(key), copy(key, *rest))[1]
    with Trail(read_history(simulated.vault, [KEY.verifier]), CATALOG) as trail:
        opened.clear()
        last = trail.seals[-1]
        selection = trail.events(since=last.occurred[0])
        assert selection.count() == 2 and selection.skipped == 5
        assert opened == [last.batch.object]
        assert trail.events(action="no.such").skipped == 6
        assert trail.events(action="no.such").count() == 0
        assert trail.events(until=trail.seals[0].occurred[0]).skipped == 6


# --- the words of a question -------------------------------------------------------------------------------------


def test_a_users_value_never_stands_in_the_sql(monkeypatch):
    """Values are bound; the statement is the same whatever they are."""
    marker = "ZZ'\"\\%_*ZZ"
    asked = {name: [marker, marker + "?"] for name in ("action", "actor", "target", "source")}
    chosen = build_filter(None, **asked, where={("k'k",): [marker, 1], "a.b": True}, since="2026-01-01")
    sql, values = chosen.sql()
    assert "ZZ" not in sql and "k'k" not in sql and "2026" not in sql
    assert sql.count("?") == len(values)
    assert any("ZZ" in str(value) for value in values)


@pytest.mark.parametrize("until", ["2026-05-31", "2026-02-28", "2028-02-29", date(2026, 4, 30), "9999-12-31"])
def test_a_months_last_day_as_until_warns(until):
    """It leaves that day out, which is seldom meant."""
    with pytest.warns(UserWarning, match=f"until={until} leaves {until} itself out .* through={until}"):
        parse_period(None, until)


@pytest.mark.parametrize(
    "until", ["2026-06-01", "2028-02-28", date(2026, 5, 30), "2026-05-31T00:00:00Z", datetime(2026, 5, 31, tzinfo=UTC)]
)
def test_other_ends_do_not_warn(until):
    """Nor does a time of day on a month's last."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_period(None, until)
        parse_period(None, None, "2026-05-31")


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("UTC", "2026-03-29", 24),
        ("America/Sao_Paulo", "2018-11-04", 23),  # midnight does not exist: the day begins at 01:00
        ("America/Sao_Paulo", "2018-02-17", 25),
        ("America/Havana", "2026-11-01", 25),  # midnight comes twice: the day begins with the first
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
    ],
)
def test_days_are_as_long_as_the_clock_makes_them(zone, day, hours):
    """A day of a time zone, from its first moment to the next day's."""
    since, end = parse_period(day, None, day, zone)
    assert since is not None and end is not None
    assert end - since == hours * 3600 * SECOND


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"kind": "gran"}, "no action of kind 'gran' .* Did you mean 'grant'"),
        ({"outcome": "succes"}, "'succes' is no outcome; ask for success, failure, denied"),
        ({"outcome": "x*"}, "is no outcome"),
        ({"since": "2026-03-01", "until": "2026-03-01"}, "the period is empty"),
        ({"since": "2026-03-02", "through": "2026-03-01"}, "the period is empty"),
        ({"until": "2026-03-02", "through": "2026-03-01"}, "not both"),
        ({"since": "2026-02-30"}, "since: '2026-02-30' is neither a date"),
        ({"since": "2026-03-01T09:00:00"}, "neither a date like"),
        ({"since": datetime(2026, 3, 1)}, "no offset from UTC"),  # noqa: DTZ001
        ({"since": 5}, "neither a date like"),
        ({"since": ""}, "neither a date like"),
        ({"since": "0001-01-01", "tz": "Asia/Tokyo"}, "0001-01-01"),
        ({"through": "9999-12-31"}, "outside the years"),
        ({"through": "2026-03-01T00:00:00Z"}, "no date like"),
        ({"tz": "Europe/Atlantis"}, "no time zone"),
        ({"tz": "../../../etc/passwd"}, "no time zone"),
        ({"tz": ""}, "no time zone"),
        ({"tz": "localtime"}, "no time zone"),
        ({"actor": ""}, "actor: give a value"),
        ({"actor": []}, "actor: give a value"),
        ({"actor": ["a", 5]}, "actor: give a value"),
        ({"action": 5}, "action: give a value"),
        ({"actor": "\ud800"}, "no valid text"),
        ({"where": {"k": None}}, "k takes a text, a number"),
        ({"where": {"k": {"a": 1}}}, "k takes a text, a number"),
        ({"where": {"k": []}}, "k takes a text, a number"),
        ({"where": {"k": float("nan")}}, "no canonical JSON"),
        ({"where": {"": 1}}, "no path into the context"),
        ({"where": {"a..b": 1}}, "no path into the context"),
        ({"where": {5: 1}}, "no path into the context"),
        ({"where": {'a"b': 1}}, "holds a character"),
        ({"where": {"a.*": 1}}, "holds a character"),
    ],
)
def test_a_question_that_is_none_is_refused_in_a_sentence(asked, says):
    """And never with another kind of error."""
    with pytest.raises(MalformedError, match=says):
        build_filter(CATALOG, **asked)


def test_kind_and_action_together_mean_both():
    """An action that is not of the kind leaves nothing, rather than everything."""
    assert build_filter(CATALOG, kind="grant", action="role.*").actions == ("role.define", "role.grant")
    nothing = build_filter(CATALOG, kind="grant", action="user.login")
    assert nothing.actions is not None and not set(nothing.actions) & set(CATALOG.actions)


def test_a_path_as_text_may_begin_with_context_and_a_tuple_is_taken_literally():
    """So that every key can be named, one called `context` or one with a dot as well."""
    assert build_filter(None, where={"context.a.b": 1}).where == ((("a", "b"), ("1",)),)
    assert build_filter(None, where={("context", "a.b"): 1}).where == ((("context", "a.b"), ("1",)),)


def test_what_was_asked_is_described_in_canonical_form():
    """Evidence states it: JSON values, canonical times, nothing that was not asked."""
    chosen = build_filter(
        CATALOG,
        kind="revoke",
        since="2026-03-29",
        through="2026-03-29",
        tz="Europe/Berlin",
        where={"a.b": [2, True, "x"]},
    )
    told = chosen.describe()
    assert told["since"] == "2026-03-28T23:00:00Z" and told["until"] == "2026-03-29T22:00:00Z"
    assert told["where"] == {"a.b": ["2", "true", "x"]}
    assert set(told) == {"actions", "since", "until", "where"}
