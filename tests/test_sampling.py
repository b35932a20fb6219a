"""Samples: what is drawn, that neither side could choose it, that enlarging keeps it, and that a shell redraws it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packets import sample_trail

from auditlib.errors import MalformedError
from auditlib.formats.canonical import canonical, parse_json
from auditlib.population import draw
from auditlib.sampling import (
    ILLUSTRATIVE,
    ILLUSTRATIVE_SIZES,
    Rule,
    Sample,
    draw_sample,
    item_keys,
    make_seed,
    population_digest,
)

REQUEST = "role-grants"
HOSTILE = (
    "a\nb",
    "nul\0inside",
    "x" * 16_384,
    "\u202eevil\u2066",
    "שלום",
    "it's",
    '"],["',
    "`id`",
    "$(id)",
    "%s%n",
    "back\\slash\\n",
    "a,b",
    " ",
    "",
    "🦆",
    "\x7f\x1b[31m",
    "-n",
)


def population(ids: Any, **columns: Any) -> pd.DataFrame:
    """One event an item, all of one source."""
    ids = list(ids)
    return pd.DataFrame({"source": ["app/1"] * len(ids), "event_id": ids, "item": ids} | columns)


def numbered(number: int, **columns: Any) -> pd.DataFrame:
    return population((f"01JH{n:06d}" for n in range(number)), **columns)


def key(row: Any) -> str:
    return canonical([row.source, row.event_id, row.item]).decode()


def triples(drawn: Sample) -> set[str]:
    return {key(row) for row in drawn.items.itertuples()}


def slow_draw(items: pd.DataFrame, seed: str, size: int) -> list[str]:
    """The keys with the least hashes, the least first: the definition, word for word."""
    keys = [key(row) for row in items.itertuples()]
    return sorted(keys, key=lambda text: sha256((seed + text).encode()).digest())[:size]


def slow_seats(counts: dict[str, int], size: int, had: dict[str, int] | None = None) -> dict[str, int]:
    """One seat after the other: first to strata without any, the largest first; then by population / (2 seats + 1)."""
    seats = dict.fromkeys(counts, 0) | (had or {})
    for _ in range(size - sum(seats.values())):
        free = [name for name in sorted(counts) if seats[name] < counts[name]]
        if not free:
            break
        seats[max(free, key=lambda s: (seats[s] == 0, Fraction(counts[s], 2 * seats[s] + 1)))] += 1
    return seats


def commands(drawn: Sample) -> list[str]:
    """What stands between the outermost backquotes of each sentence."""
    return [text.split("`", 1)[1].rsplit("`", 1)[0] for text in drawn.sentences() if "`" in text]


def shell(command: str, folder: Path) -> str:
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout


# --- the population and the seed -----------------------------------------------------------------------------


def test_the_digest_is_that_of_the_canonical_list_whatever_the_order_of_the_rows() -> None:
    """Frozen once, a population has one digest, and it is the one that the documentation defines."""
    items = population(HOSTILE)
    rows = sorted(([r.source, r.event_id, r.item] for r in items.itertuples()), key=canonical)
    assert population_digest(items) == sha256(canonical(rows)).hexdigest()
    assert population_digest(items.sample(frac=1, random_state=7)) == population_digest(items)
    assert population_digest(items.iloc[1:]) != population_digest(items)
    assert population_digest(items.iloc[:0]) == sha256(b"[]").hexdigest()


def test_fields_cannot_be_shifted_between_source_event_and_item() -> None:
    """Two populations whose texts merely run together alike have different digests."""
    one = pd.DataFrame({"source": ["a b"], "event_id": ["c"], "item": ["d"]})
    other = pd.DataFrame({"source": ["a"], "event_id": ["b c"], "item": ["d"]})
    assert population_digest(one) != population_digest(other)


def test_an_item_that_stands_twice_is_refused() -> None:
    """A repeated item would have two chances; the error shows it."""
    with pytest.raises(MalformedError, match=r"01JH000001.* twice"):
        population_digest(pd.concat([numbered(3), numbered(2).iloc[1:]]))


@pytest.mark.parametrize(
    ("items", "says"),
    [
        (numbered(2).drop(columns="event_id"), r"no column 'event_id'"),
        (numbered(2).rename(columns={"item": "items"}), r"no column 'item'.*mean 'items'"),
        (numbered(3).assign(item=["a", None, "c"]), r"item: row 2 of the population has no text"),
        (numbered(2).assign(source=[1, 2]), r"source: row 1 of the population has no text"),
        (numbered(1).astype(object).assign(item=pd.Series(["\ud800"], dtype=object)), r"no canonical JSON"),
    ],
)
def test_a_population_without_identities_is_refused(items: pd.DataFrame, says: str) -> None:
    """Nothing is drawn from rows that cannot be told apart later."""
    with pytest.raises(MalformedError, match=says):
        draw_sample(items, Rule("whole"), request=REQUEST)


def test_the_seed_is_the_hash_of_digest_request_and_word() -> None:
    """The exact text of the documentation; without a word, an empty one."""
    digest = population_digest(numbered(3))
    assert make_seed(digest, "r", "heron") == sha256(f'["{digest}","r","heron"]'.encode()).hexdigest()
    assert make_seed(digest, "r", None) == sha256(f'["{digest}","r",""]'.encode()).hexdigest()
    assert draw_sample(numbered(3), Rule("simple", size=1, word="heron"), request="r").seed == make_seed(
        digest, "r", "heron"
    )


def test_nobody_knows_the_sample_before_the_word() -> None:
    """Every word, request and population gives another seed, and another sample."""
    items = numbered(60)
    drawn = [draw_sample(items, Rule("simple", size=10, word=f"w{n}"), request=REQUEST) for n in range(50)]
    drawn += [draw_sample(items, Rule("simple", size=10), request=REQUEST)]
    drawn += [draw_sample(items, Rule("simple", size=10, word="w1"), request="denials")]
    drawn += [draw_sample(items.iloc[1:], Rule("simple", size=10, word="w1"), request=REQUEST)]
    assert len({each.seed for each in drawn}) == len({frozenset(triples(each)) for each in drawn}) == len(drawn)


# --- simple samples ------------------------------------------------------------------------------------------


@given(
    ids=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), unique=True, max_size=40),
    size=st.integers(1, 45),
    shuffle=st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_the_least_hashes_are_drawn_whatever_the_order_of_the_rows(ids: list[str], size: int, shuffle: Any) -> None:
    """Any texts, any order: the sample is the definition's, and its rows keep the order in which they came."""
    items = population(ids).astype({"item": object})
    drawn = draw_sample(items, Rule("simple", size=size, word="heron"), request=REQUEST)
    expected = slow_draw(items, str(drawn.seed), size)
    by_rank = drawn.items.sort_values("rank")
    assert [key(row) for row in by_rank.itertuples()] == expected
    assert by_rank["rank"].tolist() == list(range(1, len(expected) + 1))
    assert drawn.items["item"].tolist() == [name for name in ids if name in set(drawn.items["item"])]
    order = list(range(len(ids)))
    shuffle.shuffle(order)
    again = draw_sample(items.iloc[order], drawn.rule, request=REQUEST)
    assert (again.seed, triples(again)) == (drawn.seed, triples(drawn))
    assert again.items.set_index("item")["rank"].to_dict() == drawn.items.set_index("item")["rank"].to_dict()


def test_every_item_is_drawn_about_equally_often() -> None:
    """Over a thousand fixed words no item is favoured: chi-square of 39 degrees within its 0.1% tails."""
    items, size, words = numbered(40), 10, 1_000
    times: Counter[str] = Counter()
    for n in range(words):
        times.update(draw_sample(items, Rule("simple", size=size, word=f"word {n}"), request=REQUEST).items["item"])
    mean = words * size / len(items)
    spread = sum((times[name] - mean) ** 2 / mean for name in items["item"])
    chi = spread / ((1 - size / len(items)) * len(items) / (len(items) - 1))  # drawn without putting back
    assert 15 < chi < 73  # 0.1% below 17, 0.1% above 72.1, rounded outward


def test_a_size_past_the_population_takes_all_and_says_so() -> None:
    """A small population is no mistake."""
    drawn = draw_sample(numbered(3), Rule("simple", size=25, word="heron"), request=REQUEST)
    assert len(drawn.items) == 3
    assert any("A size of 25 was asked for; the population has fewer items" in text for text in drawn.sentences())


# --- strata --------------------------------------------------------------------------------------------------

strata_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=7)


def divided(sizes: list[int]) -> pd.DataFrame:
    names = [f"u_{n}" for n, size in enumerate(sizes) for _ in range(size)]
    return numbered(len(names), actor_id=names)


@given(sizes=strata_sizes, size=st.integers(1, 120))
@settings(deadline=None)
def test_seats_go_to_the_strata_as_sainte_lague_gives_them(sizes: list[int], size: int) -> None:
    """One each where the size allows, then proportionally; within a stratum the least hashes."""
    items = divided(sizes)
    drawn = draw_sample(items, Rule("stratified", size=size, strata=("actor_id",), word="w"), request=REQUEST)
    expected = slow_seats(Counter(items["actor_id"]), size)
    assert dict(zip(drawn.strata["stratum"], drawn.strata["drawn"], strict=True)) == expected
    assert drawn.strata["population"].tolist() == [Counter(items["actor_id"])[name] for name in expected]
    assert len(drawn.items) == min(size, len(items))
    if size >= len(sizes):
        assert min(expected.values()) >= 1
    for name, seats in expected.items():
        mine = drawn.items[drawn.items["stratum"] == name].sort_values("rank")
        assert mine["rank"].tolist() == list(range(1, seats + 1))
        assert [key(row) for row in mine.itertuples()] == slow_draw(
            items[items["actor_id"] == name], str(drawn.seed), seats
        )


@given(sizes=strata_sizes, n=st.integers(1, 100), more=st.integers(0, 60), simple=st.booleans())
@settings(deadline=None)
def test_enlarging_a_sample_keeps_what_was_drawn(sizes: list[int], n: int, more: int, simple: bool) -> None:
    """For any two sizes the smaller sample lies within the larger one."""
    items = divided(sizes)
    rule = Rule("simple", size=n, word="w") if simple else Rule("stratified", size=n, strata=("actor_id",), word="w")
    small = draw_sample(items, rule, request=REQUEST)
    large = draw_sample(items, msgspec.structs.replace(rule, size=n + more), request=REQUEST)
    assert triples(small) <= triples(large)


def test_the_alabama_paradox_takes_no_item_away() -> None:
    """6, 6 and 2 items: by largest remainders the third stratum would fall from 2 of 10 to 1 of 11."""
    items = divided([6, 6, 2])
    rule = Rule("stratified", size=10, strata=("actor_id",), word="w")
    ten, eleven = (draw_sample(items, msgspec.structs.replace(rule, size=size), request=REQUEST) for size in (10, 11))
    assert (eleven.strata["drawn"] >= ten.strata["drawn"]).all()
    assert triples(ten) < triples(eleven)


texts = st.one_of(st.text('" /\\n\0', max_size=4), st.sampled_from(["null", "true", '"null"', '""', "a"]))
cell = st.one_of(st.none(), st.booleans(), texts)


@given(rows=st.lists(st.tuples(cell, cell), min_size=1, max_size=12))
@example(rows=[("", "a"), ('""', "a"), ("null", "a"), ('"null"', "a"), (None, "a"), (True, "a"), ("true", "a")])
@example(rows=[("a / b", "c"), ("a", "b / c"), ("a", "/ c")])
@settings(deadline=None)
def test_different_values_never_share_a_stratum(rows: list[tuple[Any, Any]]) -> None:
    """Quotes, slashes, empty texts and missing values cannot make two strata look like one."""
    left, right = (pd.Series(column, dtype=object) for column in zip(*rows, strict=True))
    items = numbered(len(rows), a=left, b=right)
    drawn = draw_sample(items, Rule("stratified", size=99, strata=("a", "b")), request=REQUEST)
    assert len(drawn.strata) == len({(type(a), a, type(b), b) for a, b in rows})
    assert drawn.strata["stratum"].is_monotonic_increasing
    assert drawn.strata["drawn"].tolist() == drawn.strata["population"].tolist()


def test_months_are_those_of_utc() -> None:
    """The last microsecond of a leap day in UTC is February, whatever the zone of the column."""
    times = pd.to_datetime(["2028-02-29T23:59:59.999999Z", "2028-03-01T00:00:00Z", None], utc=True, format="ISO8601")
    items = numbered(3, occurred_at=times.tz_convert("Asia/Tokyo"))
    drawn = draw_sample(items, Rule("stratified", size=3, strata=("month",)), request=REQUEST)
    assert drawn.items["stratum"].tolist() == ["2028-02", "2028-03", "null"]


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("month", None, r"no column 'occurred_at'"),
        ("actr_id", ["a"], r"no column 'actr_id'.*mean 'actor_id'"),
        ("uses", [1.5], r"uses: a population is divided by texts, not by float"),
        ("uses", [["a"]], r"uses: a population is divided by texts, not by list"),
    ],
)
def test_a_stratum_that_cannot_be_formed_is_refused(column: str, values: Any, says: str) -> None:
    """The error names the column, and the closest one."""
    items = numbered(1, actor_id=["u_1"]) if column != "uses" else numbered(1, uses=values)
    with pytest.raises(MalformedError, match=says):
        draw_sample(items, Rule("stratified", size=1, strata=(column,)), request=REQUEST)


def test_times_without_a_zone_have_no_month() -> None:
    """A month is not guessed."""
    items = numbered(1, occurred_at=pd.to_datetime(["2028-02-29"]))
    with pytest.raises(MalformedError, match="months need times with a time zone"):
        draw_sample(items, Rule("stratified", size=1, strata=("month",)), request=REQUEST)


# --- roll-forward --------------------------------------------------------------------------------------------


@given(
    before=strata_sizes,
    since=st.lists(st.integers(0, 30), min_size=8, max_size=8),
    n=st.integers(1, 60),
    more=st.integers(0, 30),
    simple=st.booleans(),
)
@settings(deadline=None)
def test_a_roll_forward_keeps_what_was_drawn(
    before: list[int], since: list[int], n: int, more: int, simple: bool
) -> None:
    """The population grew, strata appeared: what was tested at mid-year is in the sample of the whole year."""
    first_half = divided(before)
    added = divided(since).assign(source="app/2")
    rule = Rule("simple", size=n, word="w") if simple else Rule("stratified", size=n, strata=("actor_id",), word="w")
    first = draw_sample(first_half, rule, request=REQUEST)
    year = pd.concat([added, first_half], ignore_index=True)
    kept = tuple(f"{row.source} {row.item}" for row in first.items.itertuples())
    on = msgspec.structs.replace(rule, size=n + more, seed=first.seed, kept=kept)
    second = draw_sample(year, on, request=REQUEST)
    third = draw_sample(year, msgspec.structs.replace(on, size=n + more + 7), request=REQUEST)
    assert triples(first) <= triples(second) <= triples(third)
    assert second.seed == first.seed
    assert len(second.items) == min(n + more, len(year))
    if not simple:
        seats = slow_seats(Counter(year["actor_id"]), n + more, dict(Counter(first.items["actor_id"])))
        assert dict(zip(second.strata["stratum"], second.strata["drawn"], strict=True)) == seats


def test_without_its_items_a_roll_forward_would_lose_some() -> None:
    """Why a seed alone is refused: newer items have lesser hashes."""
    half, year = numbered(50), numbered(200)
    first = draw_sample(half, Rule("simple", size=10, word="w"), request=REQUEST)
    alone = set(slow_draw(year, str(first.seed), 10))
    assert not triples(first) <= alone
    for unfit in ({"seed": first.seed}, {"kept": ("a",)}):
        with pytest.raises(MalformedError, match="both"):
            Rule("simple", size=10, **unfit)


def test_a_roll_forward_says_what_it_rests_on() -> None:
    """Seed and kept items come from outside, and the reader is told to compare them."""
    kept = ("01JH000001", "01JH000002")
    drawn = draw_sample(numbered(9), Rule("simple", size=4, word="w", seed="ab" * 32, kept=kept), request=REQUEST)
    text = " ".join(drawn.sentences())
    assert "the items kept (2) are those of an earlier sample" in text
    assert "compare both with that sample's packet" in text
    assert drawn.facts()["seed_reused"] is True
    with pytest.raises(MalformedError, match="cannot keep the 2"):
        draw_sample(numbered(9), Rule("simple", size=1, seed="ab" * 32, kept=kept), request=REQUEST)
    with pytest.raises(MalformedError, match=r"kept: 1 of the 2 ids"):
        draw_sample(numbered(2), Rule("simple", size=2, seed="ab" * 32, kept=kept), request=REQUEST)


# --- whole, and the auditor's own selection ------------------------------------------------------------------


def test_the_whole_population_leaves_nothing_to_chance() -> None:
    """All rows, no seed, and it says so."""
    drawn = draw_sample(numbered(3), Rule("whole"), request=REQUEST)
    assert (len(drawn.items), drawn.seed, drawn.drawn_by) == (3, None, "whole population")
    assert drawn.sentences()[0] == "Every item of the population was taken; nothing was sampled."


def test_the_auditors_own_selection_is_taken_as_it_is() -> None:
    """By item id, in the population's order; it is not passed off as a random sample."""
    drawn = draw_sample(numbered(9), Rule("chosen", chosen=("01JH000007", "01JH000002")), request=REQUEST)
    assert drawn.items["item"].tolist() == ["01JH000002", "01JH000007"]
    assert drawn.items["rank"].tolist() == [1, 2]
    assert (drawn.drawn_by, drawn.seed) == ("the auditor's own selection", None)
    assert "no random sample" in drawn.sentences()[0]


def test_an_id_of_several_sources_is_given_with_its_source() -> None:
    """An item id is unique within its source alone."""
    items = pd.concat([numbered(3), numbered(3).assign(source="app/2")])
    with pytest.raises(MalformedError, match=r"stands for 2 items\. Write the source before it, like 'app/1 01JH"):
        draw_sample(items, Rule("chosen", chosen=("01JH000001",)), request=REQUEST)
    drawn = draw_sample(items, Rule("chosen", chosen=("app/2 01JH000001",)), request=REQUEST)
    assert drawn.items[["source", "item"]].to_numpy().tolist() == [["app/2", "01JH000001"]]


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        (("01JH000O03",), r"1 of the 1 ids are not in the population: '01JH000O03' \(the closest is '01JH000\d\d\d'\)"),
        (("app/1 01JH00003",), r"\(the closest is 'app/1 01JH00000\d'\)"),
        (("x" * 16_384,), r"not in the population: 'x{80}'\.$"),
        (("", "?"), r"2 of the 2 ids are not in the population: '', '\?'"),
        (("01JH000003", "app/1 01JH000003"), r"'app/1 01JH000003' is named twice"),
    ],
)
def test_a_selection_that_is_not_there_is_refused(chosen: tuple[str, ...], says: str) -> None:
    """Every id must stand for exactly one item; the error names the closest."""
    with pytest.raises(MalformedError, match=says):
        draw_sample(numbered(9), Rule("chosen", chosen=chosen), request=REQUEST)


def test_the_closest_id_is_found_among_very_many() -> None:
    """One slip in an id is recognised though the population is large."""
    with pytest.raises(MalformedError, match=r"the closest is '01JH099999'"):
        draw_sample(numbered(100_000), Rule("chosen", chosen=("01JH09999",)), request=REQUEST)


def test_what_cannot_be_told_apart_is_not_guessed() -> None:
    """Two events of one source with one item id: the id is refused, not resolved to either."""
    items = pd.DataFrame({"source": ["s", "s"], "event_id": ["1", "2"], "item": ["i", "i"]})
    with pytest.raises(MalformedError, match="cannot be told apart"):
        draw_sample(items, Rule("chosen", chosen=("s i",)), request=REQUEST)


def test_hostile_ids_can_be_selected_one_by_one() -> None:
    """Line breaks, U+0000, 16 KiB and right-to-left texts are ids like any other."""
    items = population(HOSTILE)
    for name in HOSTILE:
        drawn = draw_sample(items, Rule("chosen", chosen=(name,)), request=REQUEST)
        assert drawn.items["item"].tolist() == [name]


# --- rules ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"method": "simpel", "size": 3}, r"called 'simpel'\. Did you mean 'simple'\?"),
        ({"method": "simple"}, "needs size"),
        ({"method": "stratified", "size": 3}, "needs strata"),
        ({"method": "chosen"}, "needs chosen"),
        ({"method": "whole", "size": 3, "word": "heron"}, "'whole' does not heed size and word"),
        ({"method": "chosen", "chosen": ("a",), "word": "heron"}, "does not heed word"),
        ({"method": "simple", "size": 3, "strata": ("month",)}, "does not heed strata"),
        ({"method": "simple", "size": 0}, "0 items cannot be drawn"),
        ({"method": "simple", "size": -1}, "-1 items cannot be drawn"),
        ({"method": "simple", "size": True}, "True items cannot be drawn"),
        ({"method": "simple", "size": 3, "word": ""}, "auditor's word '' must be"),
        ({"method": "simple", "size": 3, "word": "heron "}, "no space at either end"),
        ({"method": "simple", "size": 3, "word": "he\u202eron"}, "visible characters"),
        ({"method": "simple", "size": 3, "word": "x" * 201}, "1 to 200"),
        ({"method": "simple", "size": 3, "seed": "AB" * 32, "kept": ("a",)}, "is no seed"),
        ({"method": "chosen", "chosen": ("a", "b", "a")}, "names 'a' twice"),
        ({"method": "stratified", "size": 3, "strata": ("month", "month")}, "names 'month' twice"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(rule: dict[str, Any], says: str) -> None:
    """Nothing that was asked for is quietly left out."""
    with pytest.raises(MalformedError, match=says):
        Rule(**rule)


def test_a_request_id_that_nobody_could_type_is_refused() -> None:
    """It goes into the seed, and into a command."""
    with pytest.raises(MalformedError, match="request id"):
        draw_sample(numbered(1), Rule("simple", size=1), request="a\nb")


def test_customary_sizes_are_offered_as_illustrative_only() -> None:
    """More often never means fewer, and the sentence leaves the decision to the auditor."""
    assert list(ILLUSTRATIVE_SIZES) == ["annual", "quarterly", "monthly", "weekly", "daily", "many times a day"]
    ranges = list(ILLUSTRATIVE_SIZES.values())
    assert ranges == sorted(ranges)
    assert all(least <= most for least, most in ranges)
    assert "illustrative" in ILLUSTRATIVE
    assert ILLUSTRATIVE.endswith("The auditor decides on the size.")


# --- said and redrawn ----------------------------------------------------------------------------------------


def test_the_recipe_redraws_the_sample_in_a_real_shell(tmp_path: Path) -> None:
    """Digest, seed, one hash and the whole sample, by the printed commands, hostile ids and word among them."""
    items = pd.concat([population(HOSTILE), numbered(13)], ignore_index=True)
    (tmp_path / "keys.txt").write_bytes(b"\n".join(item_keys(items)) + b"\n")
    drawn = draw_sample(items, Rule("simple", size=12, word="it's a $(heron) שלום"), request="role-grants'; id")
    digest, seed, one, every = commands(drawn)
    assert shell(digest, tmp_path).split() == [population_digest(items), "-"]
    assert shell(seed, tmp_path).split() == [drawn.seed, "-"]
    assert f"gives {shell(one, tmp_path).split()[0]}." in " ".join(drawn.sentences())
    found = shell(every, tmp_path).splitlines()
    assert [line.partition(" ")[2] for line in found] == slow_draw(items, str(drawn.seed), 12)
    assert {line.partition(" ")[2] for line in found} == triples(drawn)


def test_the_recipe_redraws_strata_in_a_real_shell(tmp_path: Path) -> None:
    """The printed order, cut in each stratum where the table of strata says, is the sample."""
    items = divided([9, 4, 1])
    (tmp_path / "keys.txt").write_bytes(b"\n".join(item_keys(items)) + b"\n")
    drawn = draw_sample(items, Rule("stratified", size=6, strata=("actor_id",)), request=REQUEST)
    printed = [line.partition(" ")[2] for line in shell(commands(drawn)[-1], tmp_path).splitlines()]
    stratum = {key(row): row.actor_id for row in items.itertuples()}
    seats = dict(zip(drawn.strata["stratum"], drawn.strata["drawn"], strict=True))
    taken = {text for name in seats for text in [line for line in printed if stratum[line] == name][: seats[name]]}
    assert taken == triples(drawn)


def test_without_a_word_the_report_says_drawn_by_management() -> None:
    """Nobody may take it for a sample that management could not know."""
    alone = draw_sample(numbered(9), Rule("simple", size=2), request=REQUEST)
    asked = draw_sample(numbered(9), Rule("simple", size=2, word="heron"), request=REQUEST)
    assert "drawn by management" in alone.sentences()[0]
    assert "drawn by management" not in " ".join(asked.sentences())
    assert "digest having been recorded before the word" in asked.sentences()[0]
    assert (alone.drawn_by, asked.drawn_by) == ("management", "the auditor's word")


def test_facts_are_canonical_and_hold_no_clock() -> None:
    """packet.json states the sample; the same sample gives the same bytes."""
    items = draw(sample_trail(), "grant").items
    for rule in (
        Rule("whole"),
        Rule("simple", size=25, word="heron"),
        Rule("stratified", size=25, strata=("month", "entitlement"), word="heron"),
        Rule("chosen", chosen=(items["item"].iat[5],)),
    ):
        drawn = draw_sample(items, rule, request=REQUEST)
        said = canonical(drawn.facts())
        assert parse_json(said)["population"] == {"digest": population_digest(items), "items": len(items)}
        assert canonical(draw_sample(items, rule, request=REQUEST).facts()) == said
        assert not re.search(rb"\d\d:\d\d", said)
        assert sum(row["drawn"] for row in drawn.facts()["strata"]) == len(drawn.items)
        assert str(drawn).splitlines() == drawn.sentences()


@pytest.mark.parametrize("rule", [Rule("whole"), Rule("simple", size=3), Rule("stratified", size=3, strata=("month",))])
def test_an_empty_population_gives_an_empty_sample(rule: Rule) -> None:
    """A period without events is answered like any other."""
    items = draw(sample_trail(), "grant", since="1999-01-01", until="1999-02-01").items
    drawn = draw_sample(items, rule, request=REQUEST)
    assert drawn.items.empty
    assert drawn.population == 0
    assert drawn.sentences()


_MILLION = """
import json, resource, sys
import pandas as pd
from auditlib.sampling import Rule, draw_sample
ids = [f"01JH2K8Q9R3W{n:014d}" for n in range(1_000_000)]
items = pd.DataFrame({"source": "billing-api/7f3a", "event_id": ids, "item": ids})
items["actor_id"] = [f"u_{n % 5_000}" for n in range(len(ids))]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
drawn = draw_sample(items, Rule("stratified", size=6_000, strata=("actor_id",), word="heron"), request="r")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
json.dump({"items": len(drawn.items), "strata": sorted(set(drawn.strata["drawn"])), "kib": after - before}, sys.stdout)
"""


@pytest.mark.slow
def test_a_million_items_are_drawn_in_bounded_memory() -> None:
    """Less than 1 GiB beside the population itself, measured from outside."""
    done = subprocess.run([sys.executable, "-c", _MILLION], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["items"] == 6_000
    assert found["strata"] == [1, 2]
    assert found["kib"] < 1_048_576
