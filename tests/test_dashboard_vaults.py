"""A vault that changes while it is served: what is newer is shown, what was altered is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dashboards import KEY, VAULT

from auditlib.dashboard.vaults import Vaults
from auditlib.engagements import Engagement
from auditlib.requests.places import source_of


def vaults_of(copy: Path, seen: Path) -> Vaults:
    return Vaults({"acme": source_of(str(copy), [KEY])}, seen)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sample vault, to do things to."""
    return Path(shutil.copytree(VAULT, tmp_path / "vault"))


def test_a_vault_that_is_altered_while_it_is_served_is_said_to_be(copy: Path, tmp_path: Path) -> None:
    """The next look finds it; what was verified stays shown, with a sentence that names nothing in the vault."""
    vaults = vaults_of(copy, tmp_path / "seen")
    try:
        assert vaults.refresh() == {} and vaults.trouble("acme") is None
        seal = sorted((copy / "seals").rglob("*.json"))[3]
        seal.write_bytes(seal.read_bytes().replace(b"2026", b"2025", 1))
        assert list(vaults.refresh()) == ["acme"]
        assert "does not pass its checks" in str(vaults.trouble("acme"))
        assert str(copy) not in str(vaults.trouble("acme"))
        assert vaults.report("acme").ok
    finally:
        vaults.close()


def test_a_vault_cut_back_between_two_starts_is_found(copy: Path, tmp_path: Path) -> None:
    """What this server saw last lies outside the vault: a shorter trail, validly signed, fails check 1 at the start."""
    vaults_of(copy, tmp_path / "seen").close()
    newest = sorted((copy / "checkpoints").rglob("*"))[-1]
    newest.unlink()
    vaults = vaults_of(copy, tmp_path / "seen")
    try:
        report = vaults.report("acme")
        assert not report.ok and {finding.check for finding in report.errors} == {1}
        assert "rolled back" in report.errors[0].message
    finally:
        vaults.close()
    again = vaults_of(copy, tmp_path / "seen")
    try:
        assert not again.report("acme").ok, "it is found again at each start"
    finally:
        again.close()


def test_every_record_is_read_in_a_process_of_its_own(copy: Path, tmp_path: Path) -> None:
    """The report that was made at once is replaced by the one that read every record."""
    vaults = vaults_of(copy, tmp_path / "seen")
    try:
        assert vaults._opened["acme"].deep.result(120).deep
        assert vaults.report("acme").deep and not vaults.reading("acme")
    finally:
        vaults.close()


def test_a_vault_of_no_engagement_is_not_there(copy: Path, tmp_path: Path) -> None:
    """Asked by name or not, it is refused in the same words as one that does not exist."""
    vaults = vaults_of(copy, tmp_path / "seen")
    other = Engagement(
        id="other",
        identity="a",
        role="auditor",
        vaults=("another",),
        valid_from="2026-01-01T00:00:00Z",
        valid_until="2099-01-01T00:00:00Z",
        set_by="m",
        set_at="2026-01-01T00:00:00Z",
    )
    try:
        assert vaults.allowed(other) == []
        told = []
        for asked in ("acme", "nothing", None):
            with pytest.raises(Exception, match="not for this vault") as refused:
                vaults.find(other, asked)
            told.append(str(refused.value))
        assert len(set(told)) == 1
    finally:
        vaults.close()
