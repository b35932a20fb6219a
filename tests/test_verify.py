"""Verification as a whole: the report, what it leaves unchecked, check 9, and that nothing makes it fall over."""

import json
import multiprocessing
import pickle
import random
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from hashlib import sha256

import msgspec
import pytest
from simulator import (
    APP,
    CLOUD,
    EVIL_KEY,
    IDP,
    KEY,
    NOW,
    ORIGIN,
    START,
    STEP,
    MemoryVault,
    Tamper,
    Trail,
    checkpoint_of,
    record,
    records,
    snapshot,
)

from auditlib.errors import MissingError, UnavailableError
from auditlib.findings import NO_ANCHOR, sorted_findings
from auditlib.formats import layout
from auditlib.formats.checkpoint import Checkpoint
from auditlib.formats.times import DAY, SECOND, format_time
from auditlib.vault.local import LocalVault
from auditlib.verify import sentence, verify

HOUR = 3600 * SECOND


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound trail of 6 batches."""
    return Trail(tmp_path_factory.mktemp("sound")).create().seal(6)


@pytest.fixture
def copy(sound, tmp_path):
    """A copy to tamper with."""
    shutil.copytree(sound.vault.root, tmp_path / "vault")
    return Trail(None, LocalVault(tmp_path / "vault"), tmp_path / "state")


# --- the report ---------------------------------------------------------------------------------------------------


def test_the_json_has_the_keys_that_programs_rely_on(copy):
    """DESIGN 7; more may come, none may go."""
    Tamper(copy.vault.root).remove("seals/000000/000000000003.json")
    given = json.loads(json.dumps(copy.verify().as_json()))
    assert {"ok", "vault", "origin", "events", "seals", "checkpoint", "findings", "unchecked"} <= set(given)
    assert set(given["checkpoint"]) == {"size", "root", "key", "key_confirmed"}
    assert given["checkpoint"]["size"] == 6 and len(given["checkpoint"]["root"]) == 64
    assert given["checkpoint"]["key"] == str(KEY.verifier) and given["checkpoint"]["key_confirmed"] is True
    assert given["ok"] is False and given["origin"] == ORIGIN and given["seals"] == 5 and given["events"] == 60
    for finding in given["findings"]:
        assert set(finding) == {"check", "severity", "object", "message", "expected", "found"}
        assert finding["severity"] in ("error", "warning", "info")


def test_nothing_sealed_yet_is_no_error(tmp_path):
    """A new trail has no checkpoint, and the report says that in null and in words."""
    report = Trail(tmp_path).create().verify()
    assert report.ok and report.as_json()["checkpoint"] is None and report.last_sealed_at is None
    assert [(f.check, f.severity) for f in report.findings] == [(0, "warning")]
    assert "Nothing has been sealed" in sentence(report)


def test_the_report_gives_the_last_seal_and_its_age(sound):
    """So that a trail that stopped a month ago does not look fresh."""
    report = sound.verify(now=sound.clock.at + 3 * HOUR)
    assert report.last_sealed_at == format_time(sound.clock.at)
    assert report.age_seconds == 3 * 3600


@pytest.mark.parametrize(
    ("keys", "confirmed", "ok"), [((KEY,), True, True), ((), False, True), ((EVIL_KEY,), False, False)]
)
def test_a_key_is_confirmed_only_from_outside(sound, keys, confirmed, ok):
    """The vault's own word for its key is used and is not trust; another key confirms nothing."""
    report = sound.verify(keys=keys)
    assert (report.key_confirmed, report.ok) == (confirmed, ok)
    assert any("is not confirmed" in text for text in report.unchecked) == (not keys)


def test_the_unconfirmed_key_that_is_named_is_the_one_that_signed(copy):
    """An intruder's key beside the company's must not hide behind it."""
    tamper = Tamper(copy.vault.root)
    tamper.plant_document()
    tamper.plant_seal("evil", document=1)
    tamper.sign(7, "evil")
    report = copy.verify(keys=())
    assert report.as_json()["checkpoint"]["key"] == str(EVIL_KEY.verifier)
    assert any(str(EVIL_KEY.verifier) in text for text in report.unchecked)
    assert not report.ok


def test_what_was_not_checked_is_named(sound):
    """Shallow, without an anchor, over a directory; deep with an anchor leaves less open, and never nothing."""
    shallow = "\n".join(sound.verify(keys=()).unchecked)
    for part in (NO_ANCHOR, "--key", "6: the records", "9: silences", "7: retention locks", "never recorded"):
        assert part in shallow
    kept = [("kept", checkpoint_of(sound.vault, 4))]
    deep = "\n".join(sound.verify(deep=True, against=kept).unchecked)
    for part in (NO_ANCHOR, "--key", "6: the records", "9: silences"):
        assert part not in deep
    for part in ("covers the first 4 seals", "7: retention locks", "never recorded"):
        assert part in deep


def test_an_anchor_of_another_trail_is_an_error(sound):
    """The auditor took the wrong file, or was given the wrong vault."""
    report = sound.verify(against=[("kept", Checkpoint("other.example/audit", 1, bytes(32)))])
    assert [(f.check, f.severity, f.object) for f in report.findings] == [(1, "error", "kept")]


def test_verification_writes_nothing(copy):
    """An auditor's reading leaves no trace."""
    before = snapshot(copy.vault)
    copy.verify(deep=True, keys=())
    assert snapshot(copy.vault) == before


def test_progress_counts_every_byte_of_the_batches(sound):
    """And ends at the whole."""
    seen = []
    sound.verify(progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == 6 and seen[-1][0] == seen[-1][1] == sum(e.size for e in sound.vault.list("batches/"))


# --- spread over processes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes():
    """Two processes, started clean: a fork of a process with Arrow's threads may hang."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("deep", [False, True], ids=["shallow", "deep"])
@pytest.mark.parametrize("fault", ["none", "missing", "edited", "twice", "expired"])
def test_an_executor_gives_the_same_report(copy, processes, deep, fault):
    """Processes or threads: the same findings in the same order as one after the other."""
    tamper = Tamper(copy.vault.root)
    if fault in ("missing", "expired"):
        tamper.remove("batches/*/000000000003-*.parquet")
    elif fault == "edited":
        tamper.edit(3, [], column="actor_id", value="u_nobody")
    elif fault == "twice":
        tamper.edit(3, ["all"], from_batch=1)
        tamper.resign(3)
    now = NOW + 3000 * DAY * (fault == "expired")
    serial = copy.verify(deep=deep, now=now)
    assert copy.verify(deep=deep, now=now, executor=processes) == serial
    with ThreadPoolExecutor(3) as threads:
        assert copy.verify(deep=deep, now=now, executor=threads) == serial
    assert serial.ok == (fault in ("none", "expired") or (fault == "twice" and not deep))


@pytest.mark.parametrize("kind", [UnavailableError, MissingError])
def test_an_outage_in_another_process_comes_back_as_itself(kind):
    """An error that cannot be unpickled breaks the whole pool, and the sentence is lost."""
    error = kind("the storage refused.", where="s3://x", remedy="Try again.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error)


def test_an_outage_is_no_finding(sound):
    """Storage that does not answer stops verification: no report is better than half a one."""

    class Silent:
        url, lock_enforced = "silent", False

        def list(self, prefix=""):
            return sound.vault.list(prefix)

        def get(self, key, limit=2**20, version=""):
            if key.startswith(layout.BATCHES):
                raise UnavailableError("the storage did not answer.", where=key)
            return sound.vault.get(key, limit)

    with pytest.raises(UnavailableError):
        verify(Silent(), keys=[KEY.verifier], now=NOW)


# --- nothing makes it fall over -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_damage_anywhere_is_found_and_verification_never_raises(sound, seed):
    """One object, one random injury: the report has an error, whatever was hit."""
    draw = random.Random(seed)
    vault = MemoryVault()
    vault.objects = {entry.key: sound.vault.get(entry.key, 2**29) for entry in sound.vault.list()}
    key = draw.choice(sorted(vault.objects))
    data = bytearray(vault.objects[key])
    injury = draw.choice(["flip", "cut", "insert", "delete", "zero"])
    at = draw.randrange(len(data))
    if injury == "flip":
        data[at] ^= 1 << draw.randrange(8)
    elif injury == "cut":
        del data[at:]
    elif injury == "insert":
        data[at:at] = draw.randbytes(3)
    elif injury == "delete":
        del data[at]
    else:
        data[at : at + 20] = bytes(len(data[at : at + 20])) if any(data[at : at + 20]) else b"\1" * 20
    vault.objects[key] = bytes(data)
    report = verify(vault, keys=[KEY.verifier], deep=True, now=NOW)
    assert not report.ok, (key, injury, at)
    json.dumps(report.as_json(), ensure_ascii=False).encode()


@pytest.mark.parametrize("seed", range(40))
def test_a_key_holder_with_a_damaged_parquet_file_makes_no_crash(copy, seed):
    """The file's hash fits its seal, so that every byte of it reaches the reader."""
    draw = random.Random(seed)
    tamper = Tamper(copy.vault.root)
    encoded = tamper._data(2)
    at = draw.randrange(4, len(encoded)) if seed % 2 else len(encoded) - draw.randrange(1, 1200)
    data = bytearray(encoded)
    data[at] ^= 1 << draw.randrange(8)
    seal = tamper.seals()[2]
    digest = sha256(data).hexdigest()
    key = f"{seal.batch.object[:-24]}{digest[:16]}.parquet"
    tamper.remove(seal.batch.object)
    tamper.write(key, bytes(data))
    tamper.resign(2, batch=msgspec.structs.replace(seal.batch, object=key, sha256=digest))
    report = copy.verify(deep=True)
    assert all(finding.check in (6, 9) for finding in report.findings)
    json.dumps(report.as_json(), ensure_ascii=False).encode()


def test_findings_are_sorted_and_told_once(copy):
    """By check, then gravity, then object: two reports can be compared line by line."""
    tamper = Tamper(copy.vault.root)
    tamper.remove("seals/000000/000000000003.json")
    tamper.plant("seals/x", "x")
    findings = copy.verify(deep=True).findings
    assert findings == sorted_findings(list(findings) * 2)


# --- uniqueness over the whole history ----------------------------------------------------------------------------


def test_an_id_sealed_twice_is_found_whatever_the_length_of_its_neighbours(copy):
    """Ids are compared by digests; a longer id in one of the batches must not change everybody's."""
    tamper = Tamper(copy.vault.root)
    tamper.edit(3, ["all"], from_batch=1)
    tamper.edit(3, ["all"], row=0, column="event_id", value="x" * 120)
    tamper.resign(3)
    errors = copy.verify(deep=True).errors
    assert [(f.check, "was sealed before, in batch 1" in f.message) for f in errors] == [(6, True)]


# --- check 9 ------------------------------------------------------------------------------------------------------


def observed(tmp_path, batches, deep=True):
    """Check 9's findings on a trail of these batches."""
    trail = Trail(tmp_path, MemoryVault()).create()
    with trail.sealer() as sealer:
        for batch in batches:
            sealer.add(batch)
            sealer.flush()
    report = trail.verify(deep=deep)
    assert {finding.check for finding in report.findings} <= {9}, report.findings
    return [(f.severity, f.object, f.message) for f in report.findings]


def at(number, source=APP, delay=0, shift=0, **changes):
    """Record `number` of one source, recorded at its own minute, `delay` later than it occurred."""
    recorded = START + number * STEP + shift
    times = {"recorded_at": format_time(recorded), "occurred_at": format_time(recorded - delay)}
    return record(number, **{"source": source, "source_seq": number + 1, **times, **changes})


def test_a_steady_trail_has_nothing_to_tell(tmp_path):
    """The yardstick for the rest."""
    assert observed(tmp_path, [records(30), records(30, 30)]) == []


@pytest.mark.parametrize("across", [False, True], ids=["within a batch", "across batches"])
@pytest.mark.parametrize("beats", [False, True], ids=["no heartbeat", "heartbeat"])
def test_a_silence_is_found_with_its_length(tmp_path, across, beats):
    """Grave where the source sends heartbeats, and a remark where quiet and broken look alike."""
    first = [at(n, action="audit.heartbeat" if beats and n == 1 else "user.login") for n in range(3)]
    second = [at(n, shift=5 * HOUR) for n in range(3, 6)]
    (found,) = observed(tmp_path, [first, second] if across else [first + second])
    assert found[:2] == ("warning" if beats else "info", "billing-api")
    assert "1 span(s)" in found[2] and "(5 h 2 min)" in found[2]
    assert ("heartbeat" in found[2]) != beats


def test_one_instance_of_a_source_may_rest_while_another_works(tmp_path):
    """Silence is judged by the name before the slash."""
    early = [at(n) for n in range(3)]
    other = [at(n, "billing-api/9c01", shift=n * HOUR) for n in range(8)]
    late = [at(n, shift=7 * HOUR) for n in range(3, 5)]
    batch = sorted(early + other + late, key=lambda r: r.receipt.recorded_at)
    assert observed(tmp_path, [batch[:6], batch[6:]]) == []


def test_imports_have_no_rhythm_and_are_never_silent_or_late(tmp_path):
    """What was imported a year after it happened is no fault of the pipeline."""
    batches = [[at(n, CLOUD, source_seq=None, shift=n * DAY, delay=DAY // 2 * 800) for n in (400, 500)]]
    assert observed(tmp_path, batches) == []


def test_a_clock_ahead_is_found_and_a_little_skew_is_not(tmp_path):
    """More than a minute past the receipt."""
    batch = [at(0, delay=-50 * SECOND), at(1, delay=-140 * SECOND), at(2, delay=-600 * SECOND)]
    (found,) = observed(tmp_path, [batch])
    assert found[:2] == ("warning", APP)
    assert "2 record(s)" in found[2] and "10 min" in found[2]


def test_a_late_arrival_is_found_with_its_event_ids(tmp_path):
    """More than a day after it occurred."""
    batch = [at(0), at(1, delay=DAY + HOUR), at(2, delay=DAY - HOUR)]
    (found,) = observed(tmp_path, [batch, [at(3, delay=3 * DAY)]])
    assert found[:2] == ("warning", APP)
    assert "2 record(s)" in found[2] and "72 h" in found[2].replace("3 d 0 h", "72 h")
    assert all(record(n).event.event_id in found[2] for n in (1, 3))


@pytest.mark.parametrize("deep", [False, True], ids=["shallow", "deep"])
def test_lost_numbers_are_found_over_batches_that_arrive_out_of_order(tmp_path, deep):
    """The first number is 1; what another batch brings later is not lost."""
    numbers = [[1, 2, 5], [4, 9], [3, 10]]
    batches = [[at(n) for n in part] for part in numbers]
    (found,) = observed(tmp_path, batches, deep)
    assert found[:2] == ("warning", APP)
    assert "4 sequence number(s)" in found[2]  # 1, 7, 8, 9 (record n carries number n + 1)
    if deep:
        assert found[2].endswith("1, 7 to 9.")


def test_a_number_that_stands_twice_is_found(tmp_path):
    """Two events under one number: a source that counts again, or two instances of one name."""
    (found,) = observed(tmp_path, [[at(0), at(1)], [at(2, source_seq=2)]])
    assert found[:2] == ("warning", APP)
    assert "1 sequence number(s)" in found[2] and "more than once" in found[2]


def test_everything_at_once_is_told_apart(tmp_path):
    """Each source its own faults, no more."""
    app = [at(0), at(1), at(3)]  # number 3 is lost
    idp = [at(0, IDP), at(1, IDP, delay=2 * DAY), at(2, IDP, delay=-600 * SECOND)]
    found = observed(tmp_path, [app + idp])
    assert [entry[:2] for entry in found] == [("warning", APP), ("warning", IDP), ("warning", IDP)]
