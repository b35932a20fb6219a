"""Digests of ids on the disk: what is found in memory is found there, and nothing is left behind."""

import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlib.digests import DigestStore
from auditlib.errors import UnavailableError

digest = st.one_of(st.integers(0, 3), st.integers(2**64 - 4, 2**64 - 1), st.integers(0, 2**64 - 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(digest, max_size=12), max_size=8), st.sampled_from([0, 5, 10**6]))
def test_what_stands_in_two_batches_is_found_whatever_the_memory(batches: list[list[int]], in_memory: int) -> None:
    """Once a batch, and nothing else."""
    held = defaultdict(set)
    with DigestStore(in_memory) as store:
        for number, digests in enumerate(batches):
            store.add(number, np.array(digests, np.uint64))
            for each in digests:
                held[each].add(number)
        found = [pair for d, n in store.repeated() for pair in zip(d.tolist(), n.tolist(), strict=True)]
    assert sorted(found) == sorted((d, n) for d, numbers in held.items() if len(numbers) > 1 for n in numbers)


def test_the_files_are_gone_afterwards(tmp_path, monkeypatch):
    """Also where the reading ends with an error."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ZeroDivisionError), DigestStore(10) as store:
        store.add(0, np.arange(100, dtype=np.uint64) << np.uint64(56))
        assert len(list(tmp_path.glob("*/*.ids"))) == 100
        assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_told(tmp_path, monkeypatch):
    """In a sentence with the way out."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with DigestStore(10) as store, pytest.raises(UnavailableError, match="TMPDIR"):
        store.add(0, np.arange(100, dtype=np.uint64))
    assert not Path(tmp_path / "none").exists()
