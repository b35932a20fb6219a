"""The watch: on real vaults and stores, what is wrong is told with its figures, and what is not wrong is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import simulator
from command_line import command
from packets import ROOT, SAMPLES, event, planted
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from auditlib.collector.metrics import Metrics
from auditlib.drain import open_drain
from auditlib.errors import MalformedError
from auditlib.formats import layout
from auditlib.formats.document import Retention
from auditlib.formats.event import Record
from auditlib.formats.times import DAY, SECOND, format_time, parse_time
from auditlib.keyfiles import load_verifier_keys
from auditlib.meter import Meter
from auditlib.monitor import JUDGED, Settings, Status, parse_settings, read_settings, take_status
from auditlib.monitor import waiting as waits
from auditlib.monitor.openmetrics import MAX_SOURCES, openmetrics
from auditlib.store import Clock, Store, init_store, open_store
from auditlib.vault import open_vault

HOUR = 3600 * SECOND
START = parse_time("2026-03-01T00:00:00Z")
KEY = simulator.KEY.verifier
ALERTS = ROOT / "docs" / "monitoring" / "alerts.yml"


def record(
    name: str, at: int, source: str = "app/1", *, lag: int = 0, number: int | None = None, **more: Any
) -> Record:
    """A record recorded at `at`, of an event that occurred `lag` before; microseconds."""
    made = event(
        name,
        more.get("action", "invoice.pay"),
        format_time(at - lag),
        more.get("context", {}),
        source=source,
        recorded=format_time(at),
    )
    return msgspec.structs.replace(made, receipt=msgspec.structs.replace(made.receipt, source_seq=number))


def beat(name: str, at: int, source: str = "app/1", **more: Any) -> Record:
    return record(name, at, source, action="audit.heartbeat", **more)


def hourly(hours: Iterator[int] | range, source: str = "app/1", **more: Any) -> list[Record]:
    """A heartbeat at each of these hours after START."""
    return [beat(f"{source}-{hour}", START + hour * HOUR, source, **more) for hour in hours]


def vault_with(folder: Path, *batches: list[Record], **how: Any) -> simulator.Trail:
    """A vault of these batches, each sealed a minute after its last record."""
    made = simulator.Trail(folder).create(**how)
    with made.sealer() as sealer:
        for batch in batches:
            made.clock.at = max(parse_time(each.receipt.recorded_at) for each in batch) + 60 * SECOND
            sealer.add(sorted(batch, key=lambda each: each.receipt.recorded_at))
            sealer.flush()
    return made


def status_of(made: simulator.Trail, now: int, settings: str = "", since: int | None = None, **more: Any) -> Status:
    begin = now - 7 * DAY if since is None else since
    return take_status(made.vault, keys=[KEY], settings=parse_settings(settings), since=begin, now=now, **more)


def told(status: Status) -> set[tuple[str, str, bool]]:
    """(what it is judged by, where, whether it goes on) of everything past a threshold."""
    return {(alarm.judged, alarm.where, alarm.now) for alarm in status.broken}


def messages(status: Status, judged: str) -> str:
    return " ".join(alarm.message for alarm in status.alarms if alarm.judged == judged)


# --- monitor.toml --------------------------------------------------------------------------------------------


def test_the_example_is_the_defaults_and_is_read(tmp_path: Path) -> None:
    """What stands under [thresholds] in the example is what holds without it."""
    settings = read_settings(ROOT / "docs" / "monitoring" / "monitor.toml")
    assert settings.thresholds == Settings().thresholds == parse_settings("").thresholds
    assert settings.silence("billing-api") == 30 * 60 * SECOND and settings.lateness("billing-api") == 3 * DAY
    assert settings.silence("legacy-portal") is None and settings.silence("other") == 4 * HOUR
    assert settings.schedule("import:cloudtrail:123456789012") == 26 * HOUR


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[thresholds]\nseal_agee = "1h"', "Did you mean seal_age?"),
        ('[treshold]\nskew = "1h"', "Did you mean thresholds?"),
        ('[sources."app"]\nsilense = "1h"', "Did you mean silence?"),
        ('[thresholds]\nzzz = "1h"', "There are seal_age"),
        ('[thresholds]\nskew = "1 hour"', "no length of time"),
        ("[thresholds]\nskew = 60", "no length of time"),
        ('[thresholds]\nskew = "0s"', "no length of time"),
        ('[thresholds]\nskew = "99999999d"', "no length of time"),
        ('[sources."import:okta"]\nlateness = "1d"', "may bring in old events"),
        ('[sources."app"]\nschedule = "1d"', "only imports"),
        ('[sources."app/1"]\nsilence = "1d"', "no name of a source"),
        ("sources = 3", "tables like"),
        ("[thresholds", "no TOML"),
    ],
)
def test_a_setting_that_is_not_known_is_refused_with_the_right_one(tmp_path: Path, text: str, says: str) -> None:
    """A threshold misspelt would be one that never breaks."""
    path = tmp_path / "monitor.toml"
    path.write_text(text)
    with pytest.raises(MalformedError) as caught:
        read_settings(path)
    assert says in str(caught.value) and str(path) in str(caught.value)


# --- the chain -----------------------------------------------------------------------------------------------


def test_a_pipeline_in_order_breaks_nothing(tmp_path: Path) -> None:
    """Heartbeats, a fresh seal, numbers without gaps."""
    made = vault_with(tmp_path, hourly(range(12)), hourly(range(12, 24)))
    found = status_of(made, START + 23 * HOUR + 120 * SECOND)
    assert found.ok and found.alarms == []
    assert (found.seals, found.events, found.checkpoint_size) == (2, 24, 2)
    assert found.age(found.sealed_at) == 60 * SECOND
    assert (found.heartbeat_at, found.heartbeat_source) == (START + 23 * HOUR, "app")


def test_what_has_stopped_is_told_with_its_age(tmp_path: Path) -> None:
    """Seal, checkpoint, heartbeat and source, each by its own threshold; not a minute before."""
    made = vault_with(tmp_path, hourly(range(3)))
    last = START + 2 * HOUR
    assert status_of(made, last + HOUR).ok
    assert told(status_of(made, last + HOUR + SECOND)) == {("heartbeat_age", str(tmp_path / "vault"), True)}
    found = status_of(made, last + 5 * HOUR)
    assert {judged for judged, _, _ in told(found)} == {"seal_age", "checkpoint_age", "heartbeat_age", "silence"}
    assert "4 h 59 min ago; at most 60 min" in messages(found, "seal_age")
    off = '[thresholds]\nseal_age = "never"\ncheckpoint_age = "6h"\nheartbeat_age = "1d"\nsilence = "never"'
    assert status_of(made, last + 5 * HOUR, off).ok


def test_a_seal_without_its_checkpoint_is_seen_as_that(tmp_path: Path) -> None:
    """Sealing goes on, signing does not: the seal is fresh, the checkpoint is not."""
    made = vault_with(tmp_path, hourly(range(3)), hourly(range(3, 12)))
    simulator.Tamper(made.vault.root).remove(layout.checkpoint_key(2))
    found = status_of(made, START + 11 * HOUR + 120 * SECOND)
    assert ("checkpoint_age", str(tmp_path / "vault"), True) in told(found)
    assert not any(judged == "seal_age" for judged, _, _ in told(found))


def test_an_empty_trail_is_not_well(tmp_path: Path) -> None:
    """Nothing sealed yet is told, without any other alarm."""
    made = simulator.Trail(tmp_path).create()
    found = status_of(made, START)
    assert told(found) == {("seal_age", str(tmp_path / "vault"), True)} and found.sources == []


def test_a_vault_that_was_altered_is_a_fault_and_nothing_is_read_out_of_it(tmp_path: Path) -> None:
    """The batch is told by its name; its numbers are not called lost, its source not silent."""
    numbered = [beat(f"n{n}", START + n * HOUR, number=n + 1) for n in range(9)]
    made = vault_with(tmp_path, numbered[:3], numbered[3:6], numbered[6:])
    simulator.Tamper(made.vault.root).flip("batches/*/000000000001-*", 200)
    found = status_of(made, START + 8 * HOUR + 120 * SECOND)
    assert [(alarm.judged, "000000000001" in alarm.where) for alarm in found.broken] == [("fault", True)]
    assert "not the one that was sealed" in found.broken[0].message


def test_a_seal_rewritten_is_a_fault(tmp_path: Path) -> None:
    """What `history` finds in the chain is told with its check's number."""
    made = vault_with(tmp_path, hourly(range(3)), hourly(range(3, 6)))
    simulator.Tamper(made.vault.root).replace(layout.seal_key(0), '"sealed_at":"2026', '"sealed_at":"2025')
    assert "check" in messages(status_of(made, START + 5 * HOUR + 120 * SECOND), "fault")


# --- silences ------------------------------------------------------------------------------------------------


def test_a_silence_that_is_over_is_told_with_its_span(tmp_path: Path) -> None:
    """From the last record before to the first after, across two batches; a shorter one is not."""
    made = vault_with(tmp_path, hourly(range(6)), hourly(range(11, 20)))
    found = status_of(made, START + 19 * HOUR + 120 * SECOND)
    assert told(found) == {("silence", "app", False)}
    assert found.sources[0].silences == [(START + 5 * HOUR, START + 11 * HOUR)]
    assert "2026-03-01T05:00:00Z to 2026-03-01T11:00:00Z (6 h 0 min)" in messages(found, "silence")
    assert status_of(made, START + 19 * HOUR + 120 * SECOND, '[sources."app"]\nsilence = "6h"').ok
    assert status_of(made, START + 19 * HOUR + 120 * SECOND, since=START + 12 * HOUR).ok


def test_a_source_that_stopped_before_the_period_is_still_missed(tmp_path: Path) -> None:
    """Who died two weeks ago does not drop out of the watch: only its last batch is read again."""
    made = vault_with(tmp_path, hourly(range(3), "old/1"), hourly(range(14 * 24, 14 * 24 + 5)))
    found = status_of(made, START + (14 * 24 + 4) * HOUR + 120 * SECOND)
    assert told(found) == {("silence", "old", True)}
    (old,) = [source for source in found.sources if source.name == "old"]
    assert (old.last, old.records, old.heartbeats) == (START + 2 * HOUR, 0, 3)
    assert status_of(made, found.at, '[sources."old"]\nsilence = "never"').ok


def test_a_silence_that_began_before_the_period_is_told(tmp_path: Path) -> None:
    """Its beginning lies in a batch that is not read: it lasted since the period began at least."""
    made = vault_with(tmp_path, hourly(range(3)), hourly(range(240, 250)), hourly(range(240, 250), "other/1"))
    now = START + 249 * HOUR + 120 * SECOND
    found = status_of(made, now, since=now - 2 * DAY)
    assert found.sources[0].silences == [(now - 2 * DAY, START + 240 * HOUR)]
    assert ("silence", "app", False) in told(found) and ("silence", "other", False) not in told(found)


def test_quiet_without_a_heartbeat_is_told_and_judged_only_where_declared(tmp_path: Path) -> None:
    """Quiet and broken look alike, unless somebody says how long is too long."""
    made = vault_with(tmp_path, [record("a", START, "quiet/1")], hourly(range(10)))
    now = START + 9 * HOUR + 120 * SECOND
    found = status_of(made, now)
    assert found.ok and "no heartbeat and no silence is declared" in messages(found, "silence")
    assert told(status_of(made, now, '[sources."quiet"]\nsilence = "8h"')) == {("silence", "quiet", True)}


def test_a_declared_source_that_never_recorded_is_missed(tmp_path: Path) -> None:
    """A token made and never used; an import planned and never run."""
    made = vault_with(tmp_path, hourly(range(3)))
    declared = '[sources."ghost"]\nsilence = "1h"\n[sources."import:okta"]\nschedule = "1d"'
    found = status_of(made, START + 2 * HOUR + 120 * SECOND, declared)
    assert told(found) == {("silence", "ghost", True), ("schedule", "import:okta", True)}


# --- numbers -------------------------------------------------------------------------------------------------


def test_lost_numbers_are_told_as_runs(tmp_path: Path) -> None:
    """Between records, between batches, and counted for the instance; what came late and filled a gap is not lost."""
    numbers = [[1, 2, 5], [6, 8, 7], [10]]
    batches = [
        [beat(f"{number}", START + (3 * part + place) * HOUR, number=number) for place, number in enumerate(batch)]
        for part, batch in enumerate(numbers)
    ]
    found = status_of(vault_with(tmp_path, *batches), START + 6 * HOUR + 120 * SECOND)
    (lost,) = found.sources[0].lost
    assert (lost.source, lost.count, lost.runs) == ("app/1", 3, [(3, 4), (9, 9)])
    assert told(found) == {("sequence_gap", "app/1", True)}


def test_numbers_lost_before_the_period_are_not_told_again(tmp_path: Path) -> None:
    """What older seals hold is taken from their counts; a gap over the edge is of the period."""
    old = [beat(f"o{n}", START + n * HOUR, number=n) for n in (1, 3)]
    now = START + 31 * DAY
    new = [beat(f"n{n}", START + 30 * DAY + n * HOUR, number=n) for n in (5, 6)]
    settings = '[thresholds]\nseal_age = "9d"\ncheckpoint_age = "9d"\nheartbeat_age = "9d"\nsilence = "never"'
    (lost,) = status_of(vault_with(tmp_path, old, new), now, settings).sources[0].lost
    assert lost.runs == [(4, 4)]


# --- clocks --------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store to write into; opened for reading elsewhere."""
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    init_store(url)
    opened = open_store(url)
    yield opened
    opened.close()


@pytest.fixture
def reader(store: Store, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(f"sqlite:///{tmp_path / 'store.sqlite'}", "reader")
    yield opened
    opened.close()


def test_a_clock_is_told_by_its_measurements(tmp_path: Path, store: Store, reader: Store) -> None:
    """Median, 99th percentile, greatest and since when: 200 measurements, of which the last 50 are past the limit."""
    made = vault_with(tmp_path, hourly(range(5)))
    now = START + 4 * HOUR + 120 * SECOND
    for n in range(200):
        ahead = 2 * SECOND if n < 150 else (100 + n) * SECOND
        at = now - (200 - n) * 60 * SECOND
        store.append([], clock=Clock("app/1", at, -ahead))  # collector minus client
    found = status_of(made, now, store=reader)
    (clock,) = found.clocks
    assert (clock.basis, clock.measurements, clock.median) == ("measured", 200, 2 * SECOND)
    assert (clock.p99, clock.most) == (297 * SECOND, 299 * SECOND)  # the 198th and the 200th by size
    assert (clock.since, clock.until) == (now - 50 * 60 * SECOND, None)
    assert told(found) == {("skew", "app/1", True)} and "299 s" not in messages(found, "seal_age")
    assert "4 min ahead" in messages(found, "skew") and "since 2026-03-01T03:12:00Z" in messages(found, "skew")


def test_a_clock_that_was_set_right_is_over_and_one_behind_is_seen(tmp_path: Path, store: Store, reader: Store) -> None:
    """The newest run past the limit, with its end; behind is as far off as ahead."""
    made = vault_with(tmp_path, hourly(range(5)))
    now = START + 4 * HOUR + 120 * SECOND
    for n, offset in enumerate([90, 0, 70, 80, 0, 1]):
        store.append([], clock=Clock("app/1", now - (6 - n) * 60 * SECOND, offset * SECOND))
    found = status_of(made, now, store=reader)
    (clock,) = found.clocks
    assert (clock.since, clock.until) == (now - 4 * 60 * SECOND, now - 3 * 60 * SECOND)
    assert clock.most == -90 * SECOND and "behind" in messages(found, "skew")
    assert told(found) == {("skew", "app/1", False)}


def test_without_measurements_the_records_show_a_clock_that_is_ahead(tmp_path: Path) -> None:
    """Each minute's soonest record: a slow one beside it does not hide the clock, and delays are no skew."""
    quick = [beat(f"q{n}", START + n * HOUR, lag=-140 * SECOND) for n in range(2, 5)]
    slow = [beat(f"s{n}", START + n * HOUR + SECOND, lag=30 * SECOND) for n in range(5)]
    made = vault_with(tmp_path, [*quick, *slow, *hourly(range(5), "other/1", lag=HOUR)])
    found = status_of(made, START + 4 * HOUR + 120 * SECOND)
    app, other = found.clocks
    assert (app.basis, app.measurements, app.median, app.most) == ("records", 5, 140 * SECOND, 140 * SECOND)
    assert (app.since, app.until) == (START + 2 * HOUR, None)
    assert (other.most, other.since) == (0, None)
    assert told(found) == {("skew", "app/1", True)}


# --- lateness, backfills, schedules --------------------------------------------------------------------------


def test_late_arrivals_are_told_past_what_is_declared(tmp_path: Path) -> None:
    """Two days late: past the default, within what the source's own line allows."""
    made = vault_with(tmp_path, [*hourly(range(4)), record("late-1", START + HOUR, lag=2 * DAY)])
    now = START + 3 * HOUR + 120 * SECOND
    found = status_of(made, now)
    assert told(found) == {("lateness", "app", False)}
    assert found.sources[0].late == 1 and "late-1" in messages(found, "lateness")
    assert status_of(made, now, '[sources."app"]\nlateness = "3d"').ok
    assert status_of(made, now, since=START + 2 * HOUR).ok


def test_a_backfill_is_no_alert_and_an_overdue_import_is(tmp_path: Path) -> None:
    """An import of old events is neither late nor silent; the age of the newest decides, and only where declared."""
    name = "import:cloudtrail:42"
    fresh = [record("new", START, name, lag=HOUR), record("old", START + SECOND, name, lag=400 * DAY)]
    made = vault_with(tmp_path, fresh, hourly(range(30)))
    now = START + 29 * HOUR + 120 * SECOND
    schedule = f'[sources."{name}"]\nschedule = '
    assert status_of(made, now).ok
    assert status_of(made, now, schedule + '"31h"').ok
    found = status_of(made, now, schedule + '"30h"')
    assert told(found) == {("schedule", name, True)}
    assert "30 h 2 min old; by its schedule at most 30 h 0 min" in messages(found, "schedule")


def test_a_backfill_does_not_hide_behind_the_last_batch(tmp_path: Path) -> None:
    """The newest event of an import is looked for as far back as its schedule goes, whatever the period."""
    name = "import:okta"
    made = vault_with(
        tmp_path, [record("new", START, name)], [record("old", START + DAY, name, lag=400 * DAY)], hourly(range(49, 55))
    )
    now = START + 54 * HOUR + 120 * SECOND
    settings = f'[sources."{name}"]\nschedule = "3d"'
    assert status_of(made, now, settings, since=now - HOUR).ok


# --- retention -----------------------------------------------------------------------------------------------


def test_retention_that_ends_soon_is_told(tmp_path: Path) -> None:
    """By the first batch that is still there; a trail kept for less than the threshold is not judged by it."""
    made = vault_with(tmp_path, hourly(range(3)), hourly(range(3, 6)), retention=Retention(40, "COMPLIANCE"))
    quiet = '[thresholds]\nseal_age = "never"\ncheckpoint_age = "never"\nheartbeat_age = "never"\nsilence = "never"\n'
    assert status_of(made, START + 9 * DAY, quiet).ok
    found = status_of(made, START + 12 * DAY, quiet)
    assert {judged for judged, _, _ in told(found)} == {"retention_left"}
    assert found.retention_end == START + 2 * HOUR + 60 * SECOND + 40 * DAY
    assert status_of(made, START + 12 * DAY, quiet + 'retention_left = "20d"').ok
    short = vault_with(tmp_path / "short", hourly(range(3)), retention=Retention(7, "COMPLIANCE"))
    assert status_of(short, START + 6 * DAY, quiet).ok


def test_a_batch_gone_after_its_retention_is_no_fault(tmp_path: Path) -> None:
    """Expired is not missing; gone earlier is."""
    made = vault_with(tmp_path, hourly(range(3)), hourly(range(3, 6)), retention=Retention(2, "COMPLIANCE"))
    simulator.Tamper(made.vault.root).remove("batches/*/000000000000-*")
    before, after = START + DAY, START + 3 * DAY
    assert "fault" in {judged for judged, _, _ in told(status_of(made, before))}
    assert "fault" not in {judged for judged, _, _ in told(status_of(made, after))}


# --- the store -----------------------------------------------------------------------------------------------


def drained(made: simulator.Trail, tmp_path: Path, at: int) -> None:
    """The real sealer's round at a time, with its heartbeat and its memory."""
    made.clock.at = at
    opened = open_store(f"sqlite:///{tmp_path / 'store.sqlite'}", "sealer")
    try:
        with open_drain(
            opened, made.vault, simulator.KEY, made.state, now=made.clock, every=300, max_events=1000
        ) as drain:
            drain.round(300)
    finally:
        opened.close()


@pytest.mark.parametrize("remembered", [True, False])
def test_what_waits_is_known_with_and_without_the_sealers_memory(
    tmp_path: Path, store: Store, reader: Store, remembered: bool
) -> None:
    """The same three records wait, and the oldest is told by its age; by the memory, or by the last heartbeat."""
    made = simulator.Trail(tmp_path).create()
    store.append(hourly(range(4)))
    drained(made, tmp_path, START + 3 * HOUR + 10 * SECOND)
    waiting = [record(f"w{n}", START + 3 * HOUR + (5 + 60 * n) * SECOND) for n in range(3)]  # the first in the slack
    store.append(waiting)
    now = START + 3 * HOUR + 90 * 60 * SECOND
    found = status_of(made, now, store=reader, states=made.state_root if remembered else None)
    assert found.unsealed == 3 and found.oldest_unsealed == START + 3 * HOUR + 5 * SECOND
    assert found.unsealed_basis == ("the sealer's memory" if remembered else "the last sealed heartbeat")
    assert "unsealed_age" in {judged for judged, _, _ in told(found)}
    assert status_of(made, START + 4 * HOUR, store=reader).age(found.oldest_unsealed) < HOUR


def test_nothing_waits_after_a_round(tmp_path: Path, store: Store, reader: Store) -> None:
    """All is sealed: by the memory and by the heartbeat alike."""
    made = simulator.Trail(tmp_path).create()
    store.append(hourly(range(4)))
    drained(made, tmp_path, START + 3 * HOUR + 10 * SECOND)
    for states in (None, made.state_root):
        found = status_of(made, START + 3 * HOUR + 60 * SECOND, store=reader, states=states)
        assert (found.unsealed, found.oldest_unsealed) == (0, None) and found.ok
        assert found.heartbeat_source == "auditlib:sealer"


def test_a_conflict_that_was_sealed_as_one_does_not_wait_for_ever(tmp_path: Path, store: Store, reader: Store) -> None:
    """Another body under an id is never sealed as itself; a heartbeat later it is known to be dealt with."""
    made = simulator.Trail(tmp_path).create()
    store.append([beat("a", START, number=1), record("a", START + SECOND, number=2)])
    drained(made, tmp_path, START + 10 * SECOND)
    drained(made, tmp_path, START + HOUR)
    found = status_of(made, START + HOUR + 60 * SECOND, store=reader)
    assert found.unsealed == 0 and found.own_events["audit.conflict"] == 1


def test_a_number_that_arrived_and_was_refused_is_not_lost(tmp_path: Path, store: Store, reader: Store) -> None:
    """The conflict's own record names the number: 1, (2), 3 has no gap."""
    made = simulator.Trail(tmp_path).create()
    store.append([beat("a", START, number=1), record("a", START + SECOND, number=2), beat("c", START + 9, number=3)])
    drained(made, tmp_path, START + 10 * SECOND)
    found = status_of(made, START + 60 * SECOND, store=reader)
    assert found.ok and not any(source.lost for source in found.sources)


def test_an_import_straight_into_the_vault_does_not_hide_what_waits(
    tmp_path: Path, store: Store, reader: Store
) -> None:
    """The sealer is dead, an analyst imports every hour: the vault is fresh, and the store's records still wait."""
    made = simulator.Trail(tmp_path).create()
    store.append(hourly(range(2)))
    drained(made, tmp_path, START + HOUR + 10 * SECOND)
    store.append([record("w", START + 2 * HOUR)])
    made.clock.at = START + 6 * HOUR
    with made.sealer() as sealer:
        sealer.add([record("i", START + 6 * HOUR, "import:okta")])
        sealer.flush()
    found = status_of(made, START + 6 * HOUR + 60 * SECOND, store=reader)
    assert (found.unsealed, found.oldest_unsealed) == (1, START + 2 * HOUR)
    judged = {judged for judged, _, _ in told(found)}
    assert "unsealed_age" in judged and "heartbeat_age" in judged and "seal_age" not in judged


def test_a_store_that_this_vault_never_sealed_waits_whole(tmp_path: Path, store: Store, reader: Store) -> None:
    """No heartbeat of a sealer, no memory: nothing says that any of it is sealed."""
    made = vault_with(tmp_path, hourly(range(2)))
    store.append(hourly(range(3)))
    found = status_of(made, START + 2 * HOUR, store=reader, states=made.state_root)
    assert (found.unsealed, found.unsealed_basis) == (3, "nothing sealed of this store")


def test_a_memory_of_another_store_is_not_believed(tmp_path: Path, store: Store, reader: Store) -> None:
    """A store made anew under the same name: the old position says nothing of it."""
    made = simulator.Trail(tmp_path).create()
    store.append(hourly(range(4)))
    drained(made, tmp_path, START + 3 * HOUR + 10 * SECOND)
    other = f"sqlite:///{tmp_path / 'other.sqlite'}"
    init_store(other)
    writer, again = open_store(other), open_store(other, "reader")
    try:
        writer.append([record("x", START + 4 * HOUR)])
        found = status_of(made, START + 4 * HOUR, store=again, states=made.state_root)
        assert (found.unsealed, found.unsealed_basis) == (1, "the last sealed heartbeat")
    finally:
        writer.close()
        again.close()


def test_who_waits_in_the_store_is_not_silent(tmp_path: Path, store: Store, reader: Store) -> None:
    """The sealer stands still, the sources do not: one fault, one alarm for it, and none for each source."""
    made = simulator.Trail(tmp_path).create()
    store.append(hourly(range(3)))
    drained(made, tmp_path, START + 2 * HOUR + 10 * SECOND)
    store.append(hourly(range(3, 12)))
    found = status_of(made, START + 11 * HOUR + 60 * SECOND, store=reader)
    judged = {judged for judged, _, _ in told(found)}
    assert "unsealed_age" in judged and "silence" not in judged
    assert found.sources[0].last == START + 11 * HOUR or found.sources[1].last == START + 11 * HOUR


def test_a_backlog_too_long_to_read_is_counted_and_its_newest_is_read(
    tmp_path: Path, store: Store, reader: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded work: the count and the oldest stay right, no gap in numbers is made up, and nobody is called silent."""
    monkeypatch.setattr(waits, "MAX_READ", 10)
    made = simulator.Trail(tmp_path).create()
    store.append(hourly(range(2)))
    drained(made, tmp_path, START + HOUR + 10 * SECOND)
    store.append([beat(f"m{n}", START + 2 * HOUR + n * HOUR, number=n + 1) for n in range(35)])
    now = START + 36 * HOUR + 60 * SECOND
    for states in (None, made.state_root):
        found = status_of(made, now, store=reader, states=states)
        assert (found.unsealed, found.oldest_unsealed) == (35, START + 2 * HOUR)
        assert not {"silence", "sequence_gap"} & {judged for judged, _, _ in told(found)}


# --- the sample, and what comes out --------------------------------------------------------------------------


def sample_status(since: str, now: str) -> Status:
    settings = parse_settings('[thresholds]\nseal_age = "9d"\ncheckpoint_age = "9d"\nheartbeat_age = "9d"')
    vault, keys = open_vault(str(SAMPLES / "vault")), load_verifier_keys(SAMPLES / "sample.vkey")
    return take_status(vault, keys=keys, settings=settings, since=parse_time(since), now=parse_time(now))


def test_the_sample_shows_exactly_what_was_planted() -> None:
    """Three silences, one clock, one late arrival, three lost numbers: over the whole trail, and nothing else."""
    found = sample_status("2026-01-01T00:00:00Z", "2026-06-30T23:59:00Z")
    clock, lost = planted()["clock_ahead"], planted()["lost_source_seq"]
    assert told(found) == {
        *(("silence", name, False) for name in planted()["silence"]["by_source"]),
        ("skew", clock["source"], False),
        ("sequence_gap", lost["source"], True),
        ("lateness", "billing-api", False),
    }
    (ahead,) = [each for each in found.clocks if each.source == clock["source"]]
    assert round(ahead.most / SECOND) == clock["seconds"]
    (gap,) = [run for source in found.sources for each in source.lost for run in each.runs]
    assert list(range(gap[0], gap[1] + 1)) == lost["numbers"]
    assert planted()["late_arrival"]["event_id"] in messages(found, "lateness")


def test_only_the_batches_of_the_period_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A week of a half-year's trail: two of 27 batches."""
    vault, read = open_vault(str(SAMPLES / "vault")), []
    fetch = vault.get

    def get(key: str, *rest: Any) -> bytes:
        read.append(key)
        return fetch(key, *rest)

    monkeypatch.setattr(vault, "get", get)
    now = parse_time("2026-06-30T23:59:00Z")
    take_status(vault, settings=Settings(), since=now - 7 * DAY, now=now)
    assert len([key for key in read if key.startswith("batches/")]) == 2


def test_the_metrics_are_openmetrics_and_bounded(tmp_path: Path) -> None:
    """They parse by the client's own parser; past 200 sources the quietest go by one name."""
    made = vault_with(
        tmp_path, [beat(f"b{n}", START + n * SECOND, f"s{n}/1", number=2) for n in range(MAX_SOURCES + 30)]
    )
    text = openmetrics(status_of(made, START + HOUR // 2)).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    named = {sample.labels["source"] for sample in families["auditlib_source_records"].samples}
    assert len(named) == MAX_SOURCES + 1 and "(others)" in named
    assert sum(sample.value for sample in families["auditlib_source_lost_numbers"].samples) == MAX_SOURCES + 30
    alarms = {sample.labels["judged"]: sample.value for sample in families["auditlib_alarms"].samples}
    assert set(alarms) == set(JUDGED) and alarms["sequence_gap"] == MAX_SOURCES + 30
    assert text.endswith("# EOF\n")


def test_the_metrics_say_what_the_status_says() -> None:
    """The planted silence is over and the clock is right again: `over`, not `now`."""
    found = sample_status("2026-01-01T00:00:00Z", "2026-06-30T23:59:00Z")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(openmetrics(found).decode())
        for sample in family.samples
    }

    def alarms(judged: str, state: str) -> float:
        labels = {"judged": judged, "source": "billing-api", "state": state}
        return samples["auditlib_source_alarms", *sorted(labels.items())]

    assert (alarms("silence", "now"), alarms("silence", "over")) == (0, 1)
    assert (alarms("skew", "now"), alarms("skew", "over"), alarms("lateness", "over")) == (0, 1, 1)
    skew = samples["auditlib_source_skew_seconds", ("source", "billing-api"), ("stat", "most")]
    assert round(skew) == planted()["clock_ahead"]["seconds"]
    assert samples["auditlib_trail_sealed_timestamp_seconds",] == parse_time("2026-07-06T00:05:00Z") / SECOND


# --- the command ---------------------------------------------------------------------------------------------


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return command("status", *arguments, **{"COLUMNS": "120", **environment})


def test_the_command_says_it_to_people_and_to_programs(tmp_path: Path) -> None:
    """A table and code 1 for the sample, whose sealer stopped long ago; the same as JSON and as metrics."""
    vault = str(SAMPLES / "vault")
    shown = run(vault, "--since", "2026-03-01T00:00:00Z")
    assert shown.returncode == 1 and not shown.stderr
    for part in ("acme.example/audit", "seal age", "billing-api/e91b", "+140.0", "13258 to 13260"):
        assert part in shown.stdout
    as_json = run(vault, "--json")
    found = json.loads(as_json.stdout)
    assert as_json.returncode == 1 and found["ok"] is False and found["unsealed"] is None
    assert list(found) == [
        *("ok", "vault", "origin", "at", "since", "events", "seals", "seal", "checkpoint", "heartbeat", "unsealed"),
        *("retention", "sources", "clocks", "own_events", "alarms"),
    ]
    metrics = run(vault, "--openmetrics")
    assert list(text_string_to_metric_families(metrics.stdout)) and metrics.returncode == 1


def test_the_command_watches_a_store_and_goes_by_the_thresholds(tmp_path: Path, store: Store) -> None:
    """Code 0 where the thresholds are never broken; what waits is told with it."""
    made = simulator.Trail(tmp_path).create()
    store.append(hourly(range(2)))
    drained(made, tmp_path, START + HOUR + 10 * SECOND)
    store.append([record("w", START + 2 * HOUR)])
    names = ("seal_age", "checkpoint_age", "heartbeat_age", "unsealed_age", "silence", "retention_left")
    (tmp_path / "monitor.toml").write_text("[thresholds]\n" + "".join(f'{name} = "never"\n' for name in names))
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    given = {"AUDITLIB_STATE": str(made.state_root), "AUDITLIB_MONITOR": str(tmp_path / "monitor.toml")}
    shown = run(str(tmp_path / "vault"), "--store", url, "--json", **given)
    found = json.loads(shown.stdout)
    assert shown.returncode == 0 and found["ok"] is True
    assert (found["unsealed"]["records"], found["unsealed"]["basis"]) == (1, "the sealer's memory")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere"], 2, "nowhere"),
        ([str(SAMPLES / "vault"), "--since", "yesterday"], 2, "no length of time"),
        ([str(SAMPLES / "vault"), "--since", "2026-13-01T00:00:00Z"], 2, "no"),
        ([str(SAMPLES / "vault"), "--monitor", "none.toml"], 2, "none.toml"),
        ([str(SAMPLES / "vault"), "--store", "sqlite:////nonexistent/x.sqlite"], 3, ""),
        ([str(SAMPLES / "vault"), "--json", "--openmetrics"], 2, "exclude"),
    ],
)
def test_a_users_mistake_is_a_sentence(arguments: list[str], code: int, says: str) -> None:
    """Its code, and no traceback."""
    done = run(*arguments)
    assert done.returncode == code and says in done.stderr and "Traceback" not in done.stderr


# --- Prometheus ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prometheus's own tool: installed, or taken out of Debian's package, so that no daemon is ever started."""
    there = shutil.which("promtool")
    if there:
        return there
    folder = tmp_path_factory.mktemp("prometheus")
    why = "promtool is not here (Debian package `prometheus`)"
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        command = ["apt-get", "-o", "APT::Sandbox::User=root", "download", "prometheus"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        for package in folder.glob("prometheus_*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, folder / "out"], check=True, timeout=300)
            return str(folder / "out" / "usr" / "bin" / "promtool")
        why += f", and could not be fetched: {done.stderr.strip()[-200:]}"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def checked(promtool: str, *arguments: str, given: bytes = b"") -> str:
    done = subprocess.run(
        [promtool, *arguments], cwd=ALERTS.parent, input=given, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return (done.stdout + done.stderr).decode()


def test_the_alert_rules_hold_before_promtool(promtool: str) -> None:
    """They are rules, and each fires on what it is for and on nothing else."""
    assert "17 rules found" in checked(promtool, "check", "rules", "alerts.yml")
    assert "SUCCESS" in checked(promtool, "test", "rules", "alerts-test.yml")


def test_the_metrics_hold_before_promtool(promtool: str) -> None:
    """Names, units and helps are as Prometheus asks for."""
    found = sample_status("2026-01-01T00:00:00Z", "2026-06-30T23:59:00Z")
    checked(promtool, "check", "metrics", given=openmetrics(found))


def test_every_series_of_the_alerts_exists_and_every_threshold_has_one() -> None:
    """A rule over a misspelt series would never fire."""
    found = sample_status("2026-01-01T00:00:00Z", "2026-06-30T23:59:00Z")
    texts = [openmetrics(found), Metrics().text(), _exposed(Meter())]
    series = set(re.findall(r"^# TYPE (\S+) ", b"\n".join(texts).decode(), re.MULTILINE))
    series.add("auditlib_store_unsealed_records")  # given with a store alone
    rules = ALERTS.read_text()
    expressions = "\n".join(re.findall(r"expr: ((?:>-\n(?: {10}.*\n)+)|.*\n)", rules))
    used = set(re.findall(r"auditlib_[a-z_]+", expressions))
    assert used and used <= series, used - series
    judged = set(re.findall(r'judged="([a-z_]+)"', expressions))
    assert set(JUDGED) - judged == {"sequence_gap"}  # judged by auditlib_source_lost_numbers
    names = re.findall(r"alert: (\w+)", rules)
    assert [link.lower() for link in re.findall(r"operations.md#(\w+)", rules)] == [name.lower() for name in names]
    tested = (ALERTS.parent / "alerts-test.yml").read_text()
    assert all(f"alertname: {name}\n" in tested for name in names)


def _exposed(meter: Meter) -> bytes:
    from prometheus_client import generate_latest

    return generate_latest(meter.registry)
