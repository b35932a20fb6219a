"""What lies between records is found by grouping and sorting; a slow, obvious reading of every record says the same."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from packets import trail_of

from auditlib.evidence.coverage import coverage, sources_that_record
from auditlib.evidence.health_tables import still_spans
from auditlib.evidence.observations import observe
from auditlib.formats.event import Actor, Event, Receipt, Record, Target
from auditlib.formats.times import DAY, SECOND, format_time, from_datetime, parse_time
from auditlib.pipeline import SILENCE
from auditlib.trail import Trail

BEGIN = parse_time("2026-03-01T00:00:00Z")
PERIODS = [(BEGIN, BEGIN + 90 * DAY), (BEGIN + 3 * DAY + 7, BEGIN + 9 * DAY), (BEGIN - 9 * DAY, BEGIN - DAY)]


def records(seed: int) -> list[Record]:
    """Three instances of two names, in bursts at the same microsecond and hours apart; numbers lost and repeated."""
    draw, at, number = random.Random(seed), BEGIN, defaultdict(int)
    made = []
    for count in range(400):
        at += draw.choice([0, 0, 1, SECOND, 600 * SECOND, SILENCE // 3, SILENCE, SILENCE + 1])
        source = draw.choice(["app/1", "app/2", "web/1"])
        number[source] += draw.choice([0, 1, 1, 1, 1, 1, 1, 3])
        action = draw.choice(["user.login", "user.logout"]) if source != "web/1" else "user.logout"
        told = Event(
            action, Actor("u_1", None, "user"), {}, f"e{count}", format_time(at), "success", Target("u_1", "user")
        )
        made.append(Record(told, Receipt(format_time(at), source, number[source] or None)))
    return made


@pytest.fixture(scope="module", params=[1, 2])
def trail(request: Any, tmp_path_factory: Any) -> Iterator[Trail]:
    made = records(request.param)
    folder: Path = tmp_path_factory.mktemp("gaps")
    with trail_of(folder, made[:150], made[150:160], made[160:]) as opened:
        yield opened


def rows_of(trail: Trail, *order: str) -> dict[str, list[dict[str, Any]]]:
    """Every record, by source and by source name, in the order asked for."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    frame = trail.events().df().sort_values([*order, "sequence", "row"])
    for row in frame.to_dict("records"):
        row["at"] = from_datetime(row["recorded_at"])
        for name in {row["source"], row["source"].partition("/")[0]}:
            found[name].append(row)
    return found


def expected(trail: Trail, since: int, until: int) -> list[list[Any]]:
    """what, judged, events, numbers and the ids of the records that show it, of every silence, loss and repetition."""
    found: list[list[Any]] = []
    by_time, end = rows_of(trail, "recorded_at"), parse_time(trail.recorded[1])
    for name in ("app", "web"):
        for before, after in pairwise([*by_time[name], {"at": end, "event_id": None}]):
            if after["at"] - before["at"] > SILENCE and before["at"] < until and after["at"] > since:
                ids = [before["event_id"], after["event_id"]]
                found.append(["silence", name, 0, "", [one for one in ids if one]])
    by_number = rows_of(trail, "source_seq")
    for source in ("app/1", "app/2", "web/1"):
        numbered = [row for row in by_number[source] if row["source_seq"] == row["source_seq"]]
        for before, after in pairwise([{"source_seq": 0}, *numbered]):
            low, high = int(before["source_seq"]) + 1, int(after["source_seq"]) - 1
            first = before.get("at", after["at"])
            if low <= high and first < until and after["at"] >= since:
                ids = [before.get("event_id"), after["event_id"]]
                numbers = str(low) if low == high else f"{low} to {high}"
                found.append(["lost_numbers", source, high - low + 1, numbers, [one for one in ids if one]])
    for source in ("app/1", "app/2", "web/1"):
        numbered = [row for row in by_number[source] if row["source_seq"] == row["source_seq"]]
        again = [b for a, b in pairwise(numbered) if a["source_seq"] == b["source_seq"] and since <= b["at"] < until]
        if again:
            ends = [pick(again, key=lambda row: (row["at"], row["sequence"], row["row"])) for pick in (min, max)]
            low, high = (pick(int(row["source_seq"]) for row in again) for pick in (min, max))
            ids = list(dict.fromkeys(row["event_id"] for row in ends))
            numbers = str(low) if low == high else f"{low} to {high}"
            found.append(["repeated_numbers", source, len(again), numbers, ids])
    return found


@pytest.mark.parametrize(("since", "until"), PERIODS)
def test_silences_lost_and_repeated_numbers_are_those_that_reading_every_record_shows(
    trail: Trail, since: int, until: int
) -> None:
    """Each case, its size, and the very records on both sides of it, in the same order."""
    cases, shown = observe(trail, trail.seals, [], since, until)
    ids = shown.groupby("item", sort=False)["event_id"].agg(list)
    told = [
        [case["what"], case["judged"], case["events"], case["numbers"], ids[case["item"]]]
        for case in cases.to_dict("records")
    ]
    assert told == expected(trail, since, until)
    assert since < BEGIN or {case[0] for case in told} == {"silence", "lost_numbers", "repeated_numbers"}


@pytest.mark.parametrize(("since", "until"), PERIODS)
def test_coverage_names_the_longest_silence_that_reading_every_record_shows(
    trail: Trail, since: int, until: int
) -> None:
    """How many records, the first and the last, and the first of the longest silences, edges included."""
    by_time, told = rows_of(trail, "recorded_at"), coverage(trail, since, until).to_dict("records")
    last = parse_time(trail.recorded[1])
    until = min(until, max(last + 1, since + 1))
    found = []
    for name in ("app", "web"):
        times = [row["at"] for row in by_time[name] if since <= row["at"] < until]
        gaps = [(b - a, a, b) for a, b in pairwise([since, *times, until])]
        longest = max(gaps, key=lambda gap: (gap[0], -gap[2]))
        silences = sum(gap[0] > SILENCE for gap in gaps)
        found += [[name, len(times), times[0], times[-1], longest[0] / SECOND, silences, *longest[1:]]] if times else []
    assert [
        [from_datetime(cell) if hasattr(cell, "tzinfo") else cell for cell in row.values()] for row in told
    ] == found


@pytest.mark.parametrize(("since", "until"), PERIODS)
def test_everything_stood_still_where_no_record_of_any_source_lies(trail: Trail, since: int, until: int) -> None:
    """Over all sources, the spans longer than the limit that reach into the period."""
    times = sorted({row["at"] for name in ("app", "web") for row in rows_of(trail, "recorded_at")[name]})
    spans = [(a, b) for a, b in pairwise(times) if b - a > SILENCE and a < until and b > since]
    told = still_spans(trail, since, until)
    assert [
        (from_datetime(a), from_datetime(b)) for a, b in zip(told["began_at"], told["ended_at"], strict=True)
    ] == spans


def test_a_source_that_records_an_action_in_one_batch_alone_is_found(trail: Trail) -> None:
    """Not every batch is read for it, and no source is missed."""
    assert sources_that_record(trail, ("user.login",)) == ["app"]
    assert sources_that_record(trail, ("user.login", "user.logout")) == ["app", "web"]
    assert sources_that_record(trail, ("never.was",)) == [] == sources_that_record(trail, ())
