"""The benchmarks run and say what they say they say; how long anything takes is asserted nowhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks import measure


@pytest.mark.slow
def test_the_suite_runs_and_its_results_have_their_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DESIGN 7: a list of name, ours, limit, ratio, unit, note."""
    monkeypatch.setenv("AUDITLIB_BENCH_EVENTS", "2000")
    monkeypatch.setattr(measure, "most_rounds", 1)
    results = tmp_path / "results.json"
    bench.main(results)
    rows = json.loads(results.read_bytes())
    assert len({row["name"] for row in rows}) == len(rows) >= 12
    for row in rows:
        assert list(row) == ["name", "ours", "limit", "ratio", "unit", "note"]
        assert all(isinstance(row[number], int | float) and row[number] >= 0 for number in ("ours", "limit", "ratio"))
        assert row["name"] and row["unit"] and row["note"]
