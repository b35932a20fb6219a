"""The benchmarks run and say what they say they say; how long anything takes is asserted nowhere."""

from __future__ import annotations

import gzip
import io
import json
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from rich.console import Console

from auditlib.formats.batch import parse_batch
from auditlib.vault import open_vault
from auditlib.verify import verify
from benchmarks import __main__ as bench
from benchmarks import cloudtrail, dashboard, large, measure, peers, tables
from benchmarks.data import NOW
from benchmarks.measure import Row


@pytest.mark.slow
def test_the_suite_runs_and_its_results_have_their_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN 7: a list of name, ours, limit, ratio, unit, note."""
    monkeypatch.setenv("AUDITLIB_BENCH_EVENTS", "100")
    monkeypatch.setattr(measure, "most_rounds", 1)
    # What drives a whole server takes longest, and is driven the same way by test_dashboard and test_dashboard_load.
    monkeypatch.setattr(dashboard, "CHROMIUM", None)
    monkeypatch.setattr(dashboard, "_among_twenty", lambda lab: iter(()))
    monkeypatch.setattr(peers, "PLACE", tmp_path / "none")  # a test reaches no package index
    results = tmp_path / "results.json"
    bench.main(results)
    rows = json.loads(results.read_bytes())
    assert len({row["name"] for row in rows}) == len(rows) >= 12
    for row in rows:
        assert list(row) == ["name", "ours", "limit", "ratio", "unit", "note"]
        assert all(isinstance(row[number], int | float) and row[number] >= 0 for number in ("ours", "limit", "ratio"))
        assert row["name"] and row["unit"] and row["note"]
    assert json.loads((tmp_path / "results.machine.json").read_bytes())["events"] == 100


def test_nothing_is_found_against_the_large_vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks stamped anew are other events: each id once, each source numbered without a gap, every check passed."""
    monkeypatch.setattr(large, "BLOCK", 300)
    lab = large.make(tmp_path / "vault", 900, Console(file=io.StringIO()))
    report = verify(open_vault(lab.vault), keys=[lab.key], deep=True, now=NOW)
    assert (report.events, report.seals, report.errors) == (900, 3, ())
    events = [row for path in lab.files for row in parse_batch(path.read_bytes()).table.to_pylist()]
    assert len({event["event_id"] for event in events}) == 900
    recorded = [event["recorded_at"] for event in events]
    assert recorded == sorted(recorded)
    for source in {event["source"] for event in events}:
        numbers = [event["source_seq"] for event in events if event["source"] == source]
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_disk_too_small_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The large run looks for room first, and says in a sentence how much it wants."""
    monkeypatch.setenv("AUDITLIB_BENCH_EVENTS", str(10**15))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(SystemExit, match=r"take about 60000002 GB of disk .* Set TMPDIR"):
        large.main(tmp_path / "results.json")
    assert not list(tmp_path.iterdir())


def test_the_digests_for_the_peer_are_signed_as_aws_documents() -> None:
    """`aws cloudtrail validate-logs` has real work: each digest is signed over time, place, hash and the one before."""
    bucket = cloudtrail.delivered([b'{"a":1}', b'{"a":2},{"a":3}'])
    key = load_der_public_key(bucket.public_key)
    assert isinstance(key, rsa.RSAPublicKey)
    previous = "null"
    for place in sorted(place for place in bucket.objects if "Digest" in place):
        text = gzip.decompress(bucket.objects[place].data)
        digest = json.loads(text)
        (log,) = digest["logFiles"]
        assert sha256(gzip.decompress(bucket.objects[log["s3Object"]].data)).hexdigest() == log["hashValue"]
        signature = bytes.fromhex(bucket.objects[place].metadata["signature"])
        signed = f"{digest['digestEndTime']}\n{cloudtrail.BUCKET}/{place}\n{sha256(text).hexdigest()}\n{previous}"
        key.verify(signature, signed.encode(), padding.PKCS1v15(), SHA256())
        with pytest.raises(InvalidSignature):
            key.verify(signature, signed.encode() + b" ", padding.PKCS1v15(), SHA256())
        previous = signature.hex()
    assert previous != "null"


@pytest.mark.parametrize(
    ("note", "aim"),
    [
        ("limit: DuckDB. Aim: 1.15", 1.15),
        ("the same rows. Aim: 0.35 of it", 1 / 0.35),
        ("the same statements. Aims: 1.2, and 500 ms", 1.2),
        ("limit: papermill on an empty notebook, aim 3; left out: 0.1 s", 3),
        ("once; limit: the aim", 1),
        ("limit: gzip -6", None),
    ],
)
def test_an_aim_is_read_from_the_note(note: str, aim: float | None) -> None:
    """The list of rows past their aim is made from the notes, so it must understand each way they say it."""
    assert tables.aim(Row("a", 1, 1, 1, "s", note)) == aim


def test_the_page_shows_the_results_that_are_kept() -> None:
    """docs/performance.md is written from benchmarks/*.json: `python -m benchmarks.tables` would change nothing."""
    page = tables.PAGE.read_text()
    assert tables.renewed(page) == page
    assert all(f"<!-- measured: {name} -->" in page for name in tables.SECTIONS)
