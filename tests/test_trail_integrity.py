"""The trail-integrity answer: what was planted is named, an alteration opens the report, and no clock gets in."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import simulator
from packets import ROOT, SAMPLE_KEY, event, planted, read_folder, sample_trail, sample_vault, trail_of
from s3_service import s3_service

from auditlib import evidence
from auditlib.approvals import NOT_TESTABLE
from auditlib.errors import MalformedError, MismatchError
from auditlib.evidence import TrailIntegrity, trail_integrity
from auditlib.evidence.asof import as_of
from auditlib.evidence.examined import Words
from auditlib.evidence.protection import lock_rows
from auditlib.formats import layout
from auditlib.formats.document import Retention
from auditlib.formats.event import Record
from auditlib.formats.times import DAY, from_datetime, parse_time
from auditlib.history import read_history
from auditlib.packet.build import Asked, _pack, build_packet
from auditlib.packet.check import check_packet
from auditlib.packet.notebook import Executed
from auditlib.packet.redaction import Cut
from auditlib.sealer import create_trail
from auditlib.trail import Trail
from auditlib.trail import open as open_trail
from auditlib.vault.local import LocalVault
from auditlib.vault.s3 import S3Vault

KEY = simulator.KEY.verifier
WINDOW = {"since": "2026-03-01", "until": "2026-06-01"}
NOTEBOOK = ROOT / "notebooks" / "trail-integrity.ipynb"


@pytest.fixture(scope="module")
def answer() -> TrailIntegrity:
    return trail_integrity(sample_trail(), **WINDOW)


def packed(trail: Trail, out: Path, **asked: Any) -> dict[str, bytes]:
    """A packet's files by name; built without running the notebook, which takes seconds."""
    scratch = out.with_name(f"{out.name}-scratch")
    trail_integrity(trail, **asked).answer().write(scratch)
    _pack(
        trail,
        Executed("trail-integrity", "0" * 64, b"{}\n"),
        {"at": trail.checkpoint.size},
        Cut(()),
        scratch,
        out,
        Asked({}),
    )
    return read_folder(out)


def packet_json(files: Mapping[str, bytes]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(files["data/packet.json"])
    return told


# --- the sample ----------------------------------------------------------------------------------------------


def test_the_silence_planted_is_told_by_source_with_the_records_around_it(answer: TrailIntegrity) -> None:
    """From the last record before to the first after, of each source, to the microsecond; and no other silence."""
    records = answer.answer().tables["records"]
    expected = planted()["silence"]["by_source"]
    silences = answer.observations[answer.observations["what"] == "silence"]
    assert sorted(silences["judged"]) == sorted(expected)
    for row in silences.to_dict("records"):
        told = expected[row["judged"]]
        around = records[records["item"] == row["item"]].set_index("shows")["event_id"]
        assert around.to_dict() == {
            "before": told["last_before"]["event_id"],
            "after": told["first_after"]["event_id"],
        }
        assert from_datetime(row["began_at"]) == parse_time(told["last_before"]["recorded_at"])
        assert from_datetime(row["ended_at"]) == parse_time(told["first_after"]["recorded_at"])
        assert round(row["seconds"] * 1_000_000) == told["microseconds"]


def test_the_clock_the_lost_numbers_and_the_late_arrival_planted_are_told(answer: TrailIntegrity) -> None:
    """Source, extent, numbers and the events that show it, as the generator wrote them down."""
    (clock,), (lost,), (late,) = (
        answer.observations[answer.observations["what"] == what].to_dict("records")
        for what in ("clock_ahead", "lost_numbers", "late_arrival")
    )
    ahead, numbers, arrival = planted()["clock_ahead"], planted()["lost_source_seq"], planted()["late_arrival"]
    assert (clock["judged"], clock["events"], round(clock["seconds"])) == (
        ahead["source"],
        ahead["events"],
        ahead["seconds"],
    )
    assert clock["event_id"] == ahead["event_ids"]["first"]
    assert lost["judged"] == numbers["source"]
    assert lost["numbers"] == f"{numbers['numbers'][0]} to {numbers['numbers'][-1]}"
    assert lost["events"] == len(numbers["numbers"])
    assert (late["event_id"], late["events"], late["seconds"]) == (arrival["event_id"], 1, arrival["seconds"])
    assert from_datetime(late["recorded_at"]) == parse_time(arrival["recorded_at"])
    assert any(arrival["event_id"] in sentence for sentence in answer.conclusion.sentences)


def test_nothing_is_told_that_was_not_planted(answer: TrailIntegrity) -> None:
    """Six potential exceptions, no fault; outside their time none at all."""
    assert sorted(answer.exceptions["verdict"]) == [
        *("clock_ahead", "late_arrival", "lost_numbers"),
        *["silence"] * len(planted()["silence"]["by_source"]),
    ]
    assert len(answer.observations) == len(answer.exceptions) and not answer.errors
    assert answer.headline.startswith("No gap or alteration was detected in what was recorded: 62,329 events under")
    quiet = trail_integrity(sample_trail(), since="2026-01-01", until="2026-04-01")
    assert quiet.observations.empty and isinstance(quiet.pipeline, Words)
    assert quiet.answer().rows == set()


def test_the_table_and_check_9_say_the_same(answer: TrailIntegrity) -> None:
    """One row a finding where each has one case; the limits are the same."""
    findings = answer.finding_table
    assert sorted(findings[findings["check"] == 9]["object"]) == sorted(answer.observations["judged"])
    assert set(findings["check"]) == {9}


def test_a_local_directory_and_a_trail_without_probes_explain_themselves(answer: TrailIntegrity) -> None:
    """No lock table and no picture that could be taken for a lock; what to run stands there."""
    assert isinstance(answer.locks, Words) and "cannot enforce them" in answer.locks.sentences[0]
    assert isinstance(answer.lock_picture, Words)
    assert isinstance(answer.probes, Words) and "auditlib probe" in answer.probes.sentences[0]
    assert isinstance(answer.shadows, Words)
    assert answer.check_table["outcome"][7].startswith("not made")
    assert set(answer.answer().figures) == {"chain", "days"}


def test_the_packet_of_the_sample_is_accepted_and_claims_no_criterion(tmp_path: Path) -> None:
    """As `auditlib packet build trail-integrity` makes it; every seal of the trail is in it."""
    build_packet("trail-integrity", str(sample_vault()), {}, tmp_path / "packet", keys=SAMPLE_KEY)
    report = check_packet(tmp_path / "packet", [SAMPLE_KEY])
    assert report.ok and report.findings == ()
    files = read_folder(tmp_path / "packet")
    told = packet_json(files)
    assert told["criteria"] == [] and told["exceptions"] == len(told["population"]["verdicts"]) + 2 == 6
    assert told["seals"] == list(range(len(sample_trail().seals)))
    html = files["data/report.html"].decode()
    assert "none claimed" in html and "The numbered checks" in html and html.count("<svg") == 2
    machine = [str(sample_vault()), str(tmp_path), socket.gethostname(), time.strftime("%Y-%m-%dT%H:%M")]
    for name, data in files.items():
        assert not [word for word in machine if len(word) > 4 and word.encode() in data], name


def test_two_answers_are_the_same_bytes(tmp_path: Path) -> None:
    """Tables, pictures, sentences and report."""
    one, two = (packed(sample_trail(), tmp_path / name, **WINDOW) for name in ("one", "two"))
    assert one == two


def test_the_notebook_is_thin_and_asks_in_the_auditors_words() -> None:
    """No function, no import but of evidence; the question at the top, the conclusion at the bottom."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert "def " not in code and "lambda" not in code and code.count("import") == 1
    assert TrailIntegrity.question in "".join(cells[0]["source"])
    assert "".join(cells[-1]["source"]) == "answer.submit()\nanswer.conclusion"
    assert cells[1]["metadata"] == {"tags": ["parameters"]}


# --- checkpoints, periods, keys ------------------------------------------------------------------------------


def test_the_same_checkpoint_gives_the_same_bytes_after_the_trail_went_on(tmp_path: Path) -> None:
    """Later seals, a probe's canary and a planted object past the checkpoint change nothing."""
    made = simulator.Trail(tmp_path).create().seal(3)
    with open_trail(tmp_path / "vault", keys=KEY) as trail:
        before = packed(trail, tmp_path / "before")
    made.clock.at += 40 * DAY
    made.seal(2, first=100)
    made.vault.put("probe/canary", b"x")
    made.vault.put(layout.seal_key(9), b"planted")
    with open_trail(tmp_path / "vault", keys=KEY, at=3) as trail:
        assert packed(trail, tmp_path / "after") == before


def test_the_vault_seen_as_of_a_checkpoint_cannot_be_written(tmp_path: Path) -> None:
    """Evidence reads."""
    made = simulator.Trail(tmp_path).create().seal(1)
    before = simulator.snapshot(made.vault)
    with open_trail(tmp_path / "vault", keys=KEY) as trail, pytest.raises(MismatchError, match="not written"):
        as_of(trail.history).put("seals/x", b"x")
    assert simulator.snapshot(made.vault) == before


def test_an_empty_vault_has_no_answer(tmp_path: Path) -> None:
    """Nothing sealed, nothing to prove: the user's error, and no packet."""
    vault = LocalVault(tmp_path / "vault", create=True)
    create_trail(vault, simulator.KEY, simulator.RETENTION, simulator.CATALOG, now=simulator.START)
    with pytest.raises(MalformedError, match="nothing has been sealed"):
        build_packet("trail-integrity", str(tmp_path / "vault"), {}, tmp_path / "packet", keys=KEY)
    assert not (tmp_path / "packet").exists()


def test_a_period_outside_the_trail_is_told_and_the_checks_stand(tmp_path: Path) -> None:
    """Nothing was recorded then; that the trail itself is whole is answered all the same."""
    files = packed(sample_trail(), tmp_path / "packet", since="2027-01-01", until="2027-02-01")
    told = packet_json(files)
    assert any(text.startswith("Nothing was recorded in the period") for text in told["conclusion"])
    assert told["headline"].startswith("No gap or alteration") and told["exceptions"] == 0
    assert check_packet(tmp_path / "packet", [SAMPLE_KEY]).ok


def test_a_key_that_nobody_gave_is_called_unconfirmed(tmp_path: Path) -> None:
    """Found in the vault it signs: the conclusion and the limits say so."""
    simulator.Trail(tmp_path).create().seal(2)
    with open_trail(tmp_path / "vault") as trail:
        answer = trail_integrity(trail).answer()
    assert any("found in the vault itself" in text for text in answer.conclusion)
    assert any("not confirmed" in text for text in answer.limits)


# --- the pipeline --------------------------------------------------------------------------------------------


def beat(name: str, at: str, source: str = "app/1") -> Record:
    return event(name, "audit.heartbeat", at, {}, source=source)


def test_a_source_that_stopped_for_good_is_told(tmp_path: Path) -> None:
    """The others go on: its silence lasts as long as the trail, and the last record shows it."""
    app = [beat(f"a{hour}", f"2026-03-01T{hour:02}:00:00Z") for hour in range(0, 4)]
    rest = [beat(f"b{hour}", f"2026-03-01T{hour:02}:00:00Z", "other/1") for hour in range(0, 24, 2)]
    with trail_of(tmp_path, sorted([*app, *rest], key=lambda record: record.receipt.recorded_at)) as trail:
        answer = trail_integrity(trail)
        (row,) = answer.observations.to_dict("records")
        assert (row["judged"], row["event_id"], row["verdict"]) == ("app", "a3", "silence")
        assert row["seconds"] == 19 * 3600 and "for as long as the trail goes on" in row["reason"]
        assert check_packet_of(trail, tmp_path).ok


def check_packet_of(trail: Trail, folder: Path, **asked: Any) -> Any:
    packed(trail, folder / "packet", **asked)
    return check_packet(folder / "packet", [KEY])


def test_a_quiet_source_without_a_heartbeat_is_not_testable(tmp_path: Path) -> None:
    """Quiet and broken look alike: no potential exception, and it is said."""
    with trail_of(tmp_path, [event("1", at="2026-03-01T00:00:00Z"), event("2", at="2026-03-02T00:00:00Z")]) as trail:
        answer = trail_integrity(trail)
        assert answer.observations["verdict"].tolist() == [NOT_TESTABLE] and answer.exceptions.empty
        assert "look alike" in answer.observations["reason"][0]
        assert check_packet_of(trail, tmp_path).ok


def test_numbers_lost_at_the_beginning_and_numbers_that_stand_twice_are_told(tmp_path: Path) -> None:
    """The first of an instance is 1; who sends a number twice is named."""
    made = [simulator.record(number, source="app/1", source_seq=seq) for number, seq in enumerate([3, 4, 4, 6])]
    with trail_of(tmp_path, made) as trail:
        rows = trail_integrity(trail).observations
        told = rows[["what", "numbers", "events"]].to_numpy().tolist()
        assert told == [["lost_numbers", "1 to 2", 2], ["lost_numbers", "5", 1], ["repeated_numbers", "4", 1]]
        assert check_packet_of(trail, tmp_path).ok


def probed(name: str, attempt: str, verdict: str, at: str, canary: str = "two") -> Record:
    context = {"attempt": attempt, "answer": "AccessDenied", "verdict": verdict, "canary": canary}
    return event(name, "vault.probe", at, context, source="auditlib:probe")


PROBES = [
    probed("p0", "overwrite it", "held", "2026-03-01T00:00:00Z", "one"),
    probed("p1", "delete its version", "broken", "2026-03-01T00:00:00Z", "one"),
    probed("p2", "delete its version", "held", "2026-03-02T00:00:00Z"),
    probed("p3", "lift a legal hold", "noted", "2026-03-02T00:00:01Z"),
]


def test_the_newest_run_is_shown_and_a_lock_that_broke_before_stays_an_exception(tmp_path: Path) -> None:
    """A later run that held does not make an earlier break unsaid; another period has no probes."""
    with trail_of(tmp_path, PROBES) as trail:
        answer = trail_integrity(trail)
        shown = answer.probe_table[["attempt", "result", "event_id"]].to_numpy().tolist()
        assert shown == [["delete its version", "held", "p2"], ["lift a legal hold", "noted", "p3"]]
        assert answer.exceptions[["event_id", "verdict"]].to_numpy().tolist() == [["p1", "broken"]]
        assert any("1 attempt broke the lock" in text for text in answer.answer().page.sections[4].sentences)
        assert isinstance(trail_integrity(trail, since="2026-04-01").probes, Words)
        assert check_packet_of(trail, tmp_path).ok


# --- alterations ---------------------------------------------------------------------------------------------


def test_an_altered_batch_opens_the_report_and_what_it_may_explain_is_not_told(tmp_path: Path) -> None:
    """Fault first, in headline, sentences and tables; no silence and no lost numbers are made out of it."""
    made = simulator.Trail(tmp_path).create().seal(3, size=400)
    simulator.Tamper(made.vault.root).flip("batches/*/000000000001-*", 200)
    with open_trail(tmp_path / "vault", keys=KEY) as trail:
        answer = trail_integrity(trail)
        assert answer.headline.startswith("1 fault") or answer.headline.startswith("2 faults")
        assert {finding.check for finding in answer.errors} == {5}
        assert "lost_numbers" not in set(answer.observations["what"])
        assert "silence" not in set(answer.observations["what"])
        files = packed(trail, tmp_path / "packet")
    html = files["data/report.html"].decode()
    assert html.index("What the checks found") < html.index("The numbered checks")
    assert html.index("the batch is not the one that was sealed") < html.index("What the checks found")
    assert check_packet(tmp_path / "packet", [KEY]).ok


def test_a_batch_that_expired_is_not_called_altered(tmp_path: Path) -> None:
    """Deleted after its lock had ended, by the clock of the last seal: information, and no fault."""
    made = simulator.Trail(tmp_path).create(retention=Retention(1, "COMPLIANCE")).seal(1)
    made.clock.at += 3 * DAY
    made.seal(1, first=100)
    simulator.Tamper(made.vault.root).remove("batches/*/000000000000-*")
    with open_trail(tmp_path / "vault", keys=KEY) as trail:
        answer = trail_integrity(trail)
        assert not answer.errors
        told = [text for text in answer.conclusion.sentences if text.startswith(("Altered", "Expired"))]
        assert len(told) == 1 and told[0].startswith("Expired: the batches of 1 seal (12 events")
        assert check_packet_of(trail, tmp_path).ok


def test_a_rewritten_history_is_shown_by_the_notebook_and_gets_no_packet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seal changed by who cannot sign: the answer names checks 3 and 4, and what cannot be proven is not packed."""
    made = simulator.Trail(tmp_path).create().seal(3)
    simulator.Tamper(made.vault.root).replace(layout.seal_key(1), '"sealed_at":"2026-03-02', '"sealed_at":"2026-03-01')
    monkeypatch.setenv("AUDITLIB_VAULT", str(tmp_path / "vault"))
    monkeypatch.setenv("AUDITLIB_KEY", str(KEY))
    with pytest.raises(MismatchError):
        evidence.open()
    with evidence.open(faulty=True) as trail:
        answer = trail_integrity(trail)
        assert {3, 4} <= {finding.check for finding in answer.errors}
        assert "fault" in answer.headline and not answer.headline.startswith("No gap")
        assert not any(text.startswith("Altered: each") for text in answer.conclusion.sentences)
    with pytest.raises(MismatchError):
        build_packet("trail-integrity", str(tmp_path / "vault"), {}, tmp_path / "packet", keys=KEY)
    assert not (tmp_path / "packet").exists()


def test_what_a_record_says_stays_text(tmp_path: Path) -> None:
    """Markup in a probe's answer is shown, never run."""
    evil = "<script>alert(1)</script>"
    with trail_of(tmp_path, [probed("p1", evil, "held", "2026-03-01T00:00:00Z")]) as trail:
        html = packed(trail, tmp_path / "packet")["data/report.html"].decode()
        assert evil not in html and "&lt;script&gt;" in html
        assert evil not in trail_integrity(trail).probes._repr_html_()


# --- a vault on a real S3 server -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> S3Vault:
    """Two batches under Object Lock with probe events in them, a shadow over each kind, a hold, a probe's canary."""
    service = s3_service()
    client = service.client("owner")
    vault = S3Vault(f"s3://{service.new_bucket()}/trail", client=client)
    made = simulator.Trail(None, vault=vault, state=tmp_path_factory.mktemp("state") / "state")
    made.clock = lambda: time.time_ns() // 1000
    made.create(simulator.CATALOG, Retention(2, "COMPLIANCE")).seal(1)
    with made.sealer() as sealer:
        sealer.add(PROBES)
        sealer.flush()
    batch = next(stored.key for stored in vault.list("batches"))
    client.put_object(Bucket=vault.bucket, Key=vault.prefix + batch, Body=b"garbage")
    client.delete_object(Bucket=vault.bucket, Key=vault.prefix + layout.checkpoint_key(1))
    held = next(stored for stored in vault.list("trail"))
    vault.set_hold(held.key, held.version, True)
    vault.put("probe/canary", b"x")
    return vault


def test_the_locks_are_the_storages_word_object_by_object(locked: S3Vault, tmp_path: Path) -> None:
    """Every object of the trail and no canary, its mode, its end, its hold; what remains is counted from the seal."""
    with trail_on(locked) as trail:
        rows = {row.key: row for row in lock_rows(trail.history, as_of(trail.history))}  # type: ignore[arg-type]
        expected = {entry.key for entry in locked.list() if not entry.key.startswith("probe/")}
        assert set(rows) == expected and {row.mode for row in rows.values()} == {"COMPLIANCE"}
        assert [row.key for row in rows.values() if row.hold] == [layout.trail_key(0)]
        for row in rows.values():
            lock = locked.lock_of(row.key, trail.history.version_of(row.key))
            assert lock and (row.until, row.hold) == (lock.until, lock.hold)
        answer = trail_integrity(trail)
        kinds = dict(zip(answer.locks.frame["kind"], answer.locks.frame["objects"], strict=True))
        assert kinds == {"batch": 2, "catalog": 1, "checkpoint": 2, "seal": 2, "trail": 1}
        remaining = answer.lock_table["remaining_days"]
        assert (remaining <= 2.01).all() and (remaining > 1.9).all()
        assert "days from" in answer.lock_picture.svg and "<image" not in answer.lock_picture.svg


def trail_on(vault: S3Vault) -> Trail:
    history = read_history(vault, [KEY])
    assert not history.errors
    return Trail(history, history.catalog)


def test_shadows_are_told_with_when_and_what(locked: S3Vault) -> None:
    """A newer version over a batch, a delete marker over a checkpoint; the trail is read as it was sealed."""
    with trail_on(locked) as trail:
        answer = trail_integrity(trail)
        assert sorted(answer.shadow_table["what"]) == ["delete marker", "newer version"]
        assert layout.checkpoint_key(1) in set(answer.shadow_table["key"]) and not answer.errors
        assert answer.shadow_table["put_at"].notna().all()
        assert answer.check_table["outcome"][8] == "made: no fault; something to look at"
        assert answer.check_table["outcome"][7] != "not made: a local directory enforces no lock"


def test_the_packet_of_a_locked_vault_is_accepted_and_names_no_bucket(
    locked: S3Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built by the notebook, over the real server: locks, probes and shadows stand in it, and its address does not."""
    credentials = locked.client._request_signer._credentials
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", credentials.secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", locked.client.meta.region_name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_service().endpoint)
    build_packet("trail-integrity", locked.url, {"until": "2026-06-01"}, tmp_path / "packet", keys=KEY)
    report = check_packet(tmp_path / "packet", [KEY])
    assert report.ok and report.findings == ()
    files = read_folder(tmp_path / "packet")
    told = packet_json(files)
    assert told["population"]["verdicts"]["broken"] == 1 and told["exceptions"] >= 1
    html = files["data/report.html"].decode()
    assert "COMPLIANCE" in html and "delete marker" in html and "delete its version" in html
    for name, data in files.items():
        assert locked.bucket.encode() not in data and s3_service().endpoint.encode() not in data, name
