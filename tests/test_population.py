"""draw() against a slow reading of the decoded records: the same items, in the same order, with the same facts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from packets import event, sample_trail, trail_of

from auditlib.formats.batch import parse_batch
from auditlib.formats.canonical import canonical
from auditlib.formats.catalog import Action, parse_catalog
from auditlib.formats.columns import record_texts
from auditlib.formats.event import parse_record
from auditlib.formats.times import from_datetime, parse_time
from auditlib.population import COLUMNS, MAX_ITEMS, Population, draw
from auditlib.trail import Trail

CATALOG = parse_catalog(
    b"""format = "auditlib/catalog/v1"
[actions."x.give"]
kind = "grant"
entitlement = "context.what.name"
grantee = "context.who"
request = "context.ticket.id"
requester = "context.by"
requested_at = "context.asked"
valid_from = "context.from"
valid_until = "context.till"
uses = "context.uses"
authority = "context.as.role"
emergency = "context.fire"
[actions."x.lend"]
kind = "grant"
entitlement = "context.deep.a.b"
grantee = "target.id"
requested_at = "occurred_at"
[actions."x.plain"]
kind = "grant"
[actions."x.nod"]
kind = "approval"
decision = "approved"
grantee = "actor.id"
"""
)
FAR, NEVER = "1970-01-01T00:00:00Z", "9999-12-31T00:00:00Z"  # for a time that cannot be read


# --- the slow reading ----------------------------------------------------------------------------------------


def scalars(value: Any, keys: list[str]) -> list[str]:
    """The scalars that a dotted path meets, an array allowed at any one level; texts as JSON's own."""
    found: list[Any] = []

    def walk(node: Any, rest: list[str], arrays: int) -> None:
        if not rest:
            found.append((arrays, node))
            return
        if isinstance(node, dict) and rest[0] in node:
            walk(node[rest[0]], rest[1:], arrays)

    def paths(node: Any, rest: list[str], before: int) -> list[Any]:
        """Values where exactly the array after `before` keys is unpacked."""
        for key in rest[:before]:
            if not isinstance(node, dict) or key not in node:
                return []
            node = node[key]
        if not isinstance(node, list):
            return []
        out = []
        for item in node:
            there = item
            for key in rest[before:]:
                there = there.get(key) if isinstance(there, dict) else None
            out.append(there)
        return out

    walk(value, keys, 0)
    every = [node for _, node in found]
    for before in range(1, len(keys) + 1):
        every += paths(value, keys, before)
    return [text(node) for node in every if node is not None and not isinstance(node, dict | list)]


def text(value: Any) -> str:
    return value if isinstance(value, str) else canonical(value).decode()


def texts_at(record: Any, path: str | None) -> list[str | None]:
    if path is None:
        return [None]
    party, _, rest = path.partition(".")
    if party == "context":
        return scalars(record.event.context, rest.split(".")) or [None]  # type: ignore[return-value]
    if not rest:
        return [record.event.occurred_at]
    return [getattr(getattr(record.event, party), rest)]


def moment(value: str | None, unreadable: str = FAR) -> int | None:
    if value is None:
        return None
    try:
        return parse_time(f"{value}T00:00:00Z" if re.fullmatch(r"\d{4}-\d\d-\d\d", value) else value)
    except Exception:
        return parse_time(unreadable)


def decoded(trail: Trail) -> list[tuple[int, int, Any]]:
    """Every record: (sequence, row, record)."""
    return [
        (seal.sequence, row, parse_record(data))
        for seal in trail.seals
        for row, data in enumerate(record_texts(parse_batch(trail.files.read(seal)).table).to_pylist())
    ]


def reference(
    trail: Trail, kind: str, since: int | None = None, until: int | None = None, records: Any = None
) -> list[dict[str, Any]]:
    """Every item, one record after the other."""
    rows = []
    assert trail.catalog
    for sequence, row, record in records or decoded(trail):
        told = record.event
        entry = trail.catalog.actions.get(told.action, Action(""))
        at = parse_time(told.occurred_at)
        if entry.kind != kind or told.outcome != "success":
            continue
        if (since is not None and at < since) or (until is not None and at >= until):
            continue
        pairs = [(g, e) for g in texts_at(record, entry.grantee) for e in texts_at(record, entry.entitlement)]
        if len(pairs) > MAX_ITEMS:
            pairs = [(None, None)]
        for n, (grantee, entitlement) in enumerate(pairs, 1):
            uses = texts_at(record, entry.uses)[0]
            rows.append(
                {
                    "item": told.event_id if len(pairs) == 1 else f"{told.event_id}#{n}",
                    "event_id": told.event_id,
                    "sequence": sequence,
                    "row": row,
                    "grantee": grantee,
                    "entitlement": entitlement,
                    "request": texts_at(record, entry.request)[0],
                    "requester": texts_at(record, entry.requester)[0],
                    "authority": texts_at(record, entry.authority)[0],
                    "requested_at": moment(texts_at(record, entry.requested_at)[0]),
                    "valid_from": moment(texts_at(record, entry.valid_from)[0], NEVER),
                    "valid_until": moment(texts_at(record, entry.valid_until)[0]),
                    "uses": None if uses is None else int(uses) if re.fullmatch(r"-?[0-9]{1,15}", uses) else 0,
                    "emergency": texts_at(record, entry.emergency)[0] == "true",
                    "decision": entry.decision,
                }
            )
    return rows


def plain(items: pd.DataFrame) -> list[dict[str, Any]]:
    """A drawn frame as the reference's rows."""
    rows = []
    for row in items.to_dict("records"):
        told = {}
        for name in ("item", "event_id", "sequence", "row", "grantee", "entitlement", "request", "requester"):
            told[name] = None if pd.isna(row[name]) else row[name]
        for name in ("authority", "decision"):
            told[name] = None if pd.isna(row[name]) else row[name]
        for name in ("requested_at", "valid_from", "valid_until"):
            told[name] = None if pd.isna(row[name]) else from_datetime(row[name].to_pydatetime())
        told["uses"] = None if pd.isna(row["uses"]) else int(row["uses"])
        told["emergency"] = bool(row["emergency"])
        rows.append(told)
    return rows


# --- tests ---------------------------------------------------------------------------------------------------

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.sampled_from(["admin", "", "é", "a'b", '"', "%", "x_y", "null", "true", "1", "[1]", "{}", "\u202e", "a\nb"]),
)
times = st.one_of(
    leaves,
    st.sampled_from(
        [
            *("2026-03-01T00:00:00Z", "2026-03-01T01:30:00+01:30", "2026-02-30T00:00:00Z", "soon", "2026-03-01"),
            *("infinity", "-infinity", "epoch", "290000-01-01", "0001-01-01T00:00:00Z", "2026-03-01T24:00:00Z"),
            *(
                "2026-03-01T00:00:00",
                "2026-03-01 00:00:00Z",
                "2026-3-1",
                " 2026-03-01T00:00:00Z",
                "2026-03-01T00:00:60Z",
            ),
            *("9999-12-31T23:59:59-01:00", "1970-01-01T00:00:00+01:00", "2026-03-01T00:00:00.9999999Z"),
            *("2026-03-01T00:00:00 CET"),
        ]
    ),
)
some = st.lists(leaves, max_size=3)


@st.composite
def contexts(draw: st.DrawFn) -> dict[str, Any]:
    context: dict[str, Any] = {}
    what = st.one_of(
        leaves,
        st.fixed_dictionaries({}, optional={"name": st.one_of(leaves, some)}),
        st.lists(st.one_of(leaves, st.fixed_dictionaries({}, optional={"name": st.one_of(leaves, some)})), max_size=3),
    )
    deep = st.one_of(
        st.fixed_dictionaries({"a": st.fixed_dictionaries({"b": st.one_of(leaves, some)})}),
        st.fixed_dictionaries({"a": st.lists(st.fixed_dictionaries({"b": leaves}), max_size=3)}),
        st.lists(st.fixed_dictionaries({"a": st.fixed_dictionaries({"b": leaves})}), max_size=3),
        leaves,
    )
    choices = {"what": what, "deep": deep, "who": st.one_of(leaves, some), "by": st.one_of(leaves, some)}
    choices |= {"ticket": st.one_of(leaves, st.fixed_dictionaries({"id": leaves})), "asked": times, "from": times}
    choices |= {"till": times, "uses": st.sampled_from([None, 0, 1, "2", "many", -1])}
    choices |= {"fire": st.sampled_from([True, False, "true", None])}
    choices |= {"as": st.one_of(leaves, st.fixed_dictionaries({"role": leaves}))}
    for name, values in choices.items():
        if draw(st.booleans()):
            context[name] = draw(values)
    return context


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each example is a vault: shrinking would take minutes
)
@given(made=st.lists(st.tuples(st.sampled_from(["x.give", "x.lend", "x.plain"]), contexts()), min_size=1, max_size=40))
def test_the_query_reads_as_the_slow_reading_does(tmp_path_factory: Any, made: list[Any]) -> None:
    """Arrays at each level, missing keys, scalars, nulls, numbers as ids, times that are none."""
    records = [
        event(f"e{n}", action, f"2026-03-01T00:00:{n:02}Z", context, outcome="failure" if n % 11 == 10 else "success")
        for n, (action, context) in enumerate(made)
    ]
    folder = tmp_path_factory.mktemp("trail")
    half = len(records) // 2
    batches = [part for part in (records[:half], records[half:]) if part]
    with trail_of(folder, *batches, catalog=CATALOG) as trail:
        drawn = draw(trail, "grant")
        assert list(drawn.items.columns) == COLUMNS
        for found, expected in zip(plain(drawn.items), reference(trail, "grant"), strict=True):
            assert found == expected, made


def test_the_sample_reads_the_same() -> None:
    """Every kind that evidence asks for, over the whole sample trail."""
    trail = sample_trail()
    records = decoded(trail)
    for kind in ("grant", "approval", "revoke", "leave", "join", "request"):
        drawn = draw(trail, kind)
        for found, expected in zip(plain(drawn.items), reference(trail, kind, records=records), strict=True):
            assert found == expected, kind
        assert drawn.events == len({(row["sequence"], row["row"]) for row in plain(drawn.items)})


def test_the_ends_of_a_period(tmp_path: Path) -> None:
    """since is in, until is out, a microsecond before it is in; whatever order they were recorded in."""
    at = ["2026-03-01T00:00:00Z", "2026-02-28T23:59:59.999999Z", "2026-05-31T23:59:59.999999Z", "2026-06-01T00:00:00Z"]
    records = [event(f"e{n}", at=time, recorded="2026-06-02T00:00:00Z") for n, time in enumerate(at)]
    with trail_of(tmp_path, records) as trail:
        drawn = draw(trail, "grant", since="2026-03-01", until="2026-06-01")
        assert drawn.items["item"].tolist() == ["e0", "e2"]
        assert draw(trail, "grant", since="2026-03-01", through="2026-05-31").items["item"].tolist() == ["e0", "e2"]


def test_months_begin_where_the_asker_lives(tmp_path: Path) -> None:
    """Europe/Berlin: March starts at 23:00Z, June (summer time) at 22:00Z."""
    at = ["2026-02-28T22:59:59.999999Z", "2026-02-28T23:00:00Z", "2026-05-31T21:59:59.999999Z", "2026-05-31T22:00:00Z"]
    with trail_of(tmp_path, [event(f"e{n}", at=time) for n, time in enumerate(at)]) as trail:
        drawn = draw(trail, "grant", since="2026-03-01", until="2026-06-01", tz="Europe/Berlin")
        assert drawn.items["item"].tolist() == ["e1", "e2"]


def test_an_entitlement_is_a_value_or_a_glob(tmp_path: Path) -> None:
    """`*` and `?` match; `%`, `_`, backslash and brackets are themselves; what cannot be read is kept."""
    names = ["admin", "Admin", "billing-admin", "admin_x", "adminyx", "a%b", "a\\b", "[ad]min", None]
    made = [
        event(f"e{n}", "x.give", f"2026-03-01T00:00:0{n}Z", {"what": {"name": name}, "who": "u"})
        for n, name in enumerate(names)
    ]
    expected = {
        "admin": ["e0"],
        "*admin": ["e0", "e2"],
        "admin?x": ["e3", "e4"],
        "admin_x": ["e3"],
        "a%b": ["e5"],
        "a\\b": ["e6"],
        "[ad]min": ["e7"],
        "*": [f"e{n}" for n in range(8)],
    }
    with trail_of(tmp_path, made, catalog=CATALOG) as trail:
        for glob, items in expected.items():
            found = draw(trail, "grant", entitlement=glob).items["item"].tolist()
            assert found == [*items, "e8"], glob


def test_a_kind_that_nobody_knows_gives_nothing(tmp_path: Path) -> None:
    """An empty population with every column and its sentences; no error."""
    with trail_of(tmp_path, [event("e1", "x.plain")], catalog=CATALOG) as trail:
        drawn = draw(trail, "no-such-kind")
        assert isinstance(drawn, Population)
        assert (len(drawn.items), drawn.events, list(drawn.items.columns)) == (0, 0, COLUMNS)
        assert "no listed action" in repr(drawn) and "0 items in 0 events" in drawn._repr_html_()
        json.dumps(drawn.statement())
        assert len(draw(trail, "leave").items) == 0


def test_one_event_id_in_two_sources_is_two_items(tmp_path: Path) -> None:
    """(source, event_id) is what is unique (DESIGN 4.1)."""
    with trail_of(tmp_path, [event("1", source="a/1"), event("1", source="b/1", target="u_2")]) as trail:
        items = draw(trail, "grant").items
        assert list(zip(items["source"], items["grantee"], strict=True)) == [("a/1", "u_1"), ("b/1", "u_2")]


def test_more_items_than_may_be_are_one_that_is_not_read(tmp_path: Path) -> None:
    """A flood in one event becomes one item without subject and entitlement, which no filter drops."""
    many = [f"s{n}" for n in range(150)]
    flood = event("flood", "x.give", context={"who": many, "what": [{"name": n} for n in many]})
    some = event("some", "x.give", context={"who": many[:100], "what": [{"name": n} for n in many[:100]]})
    with trail_of(tmp_path, [flood, some], catalog=CATALOG) as trail:
        items = draw(trail, "grant").items
        assert items["item"].tolist() == ["flood", *(f"some#{n}" for n in range(1, 10_001))]
        assert pd.isna(items["grantee"][0]) and pd.isna(items["entitlement"][0])
        assert draw(trail, "grant", entitlement="s7").items["item"].tolist()[0] == "flood"
        assert plain(items) == reference(trail, "grant")


def test_times_are_whole_microseconds(tmp_path: Path) -> None:
    """From the first year to the last."""
    made = [event("a", at="1970-01-01T00:00:00.000001Z", recorded="2026-03-01T00:00:00Z")]
    made.append(event("b", at="9999-12-31T23:59:59.999999Z", recorded="2026-03-01T00:00:00Z"))
    with trail_of(tmp_path, made) as trail:
        found = draw(trail, "grant").items["occurred_at"].tolist()
        assert [t.isoformat() for t in found] == [
            "1970-01-01T00:00:00.000001+00:00",
            "9999-12-31T23:59:59.999999+00:00",
        ]


@pytest.mark.parametrize("order", [1, -1])
def test_items_stand_in_the_order_they_were_sealed(order: int, tmp_path: Path) -> None:
    """(sequence, row, item number), whatever the times say."""
    made = [event(f"e{n}", "x.give", f"2026-03-{10 + order * n:02}T00:00:00Z", {"who": ["b", "a"]}) for n in range(5)]
    with trail_of(tmp_path, made[:3], made[3:], catalog=CATALOG) as trail:
        assert draw(trail, "grant").items["item"].tolist() == [f"e{n}#{i}" for n in range(5) for i in (1, 2)]
