"""Every attack is a folder: cases/tampered/<fault>/ holds one sentence and a case.toml, and needs no code of its own.

    deep = true            # verify --deep
    against = 8            # the auditor kept the checkpoint of this size
    keys = ["own"]         # the keys the auditor trusts; [] for none
    ok = false
    unchecked = ["..."]    # each must stand in a sentence of `unchecked`
    [[steps]]              # a method of simulator.Tamper, and its arguments
    do = "edit"
    [[findings]]           # all there are, as a set of (check, severity); objects and globs fit one another
    check = 6

The folders in cases/benign/ look alarming and are no error.
"""

import fnmatch
import shutil
import tomllib
from pathlib import Path

import pytest
from simulator import KEYS, Tamper, Trail, checkpoint_of

from auditlib.findings import CHECKS
from auditlib.vault.local import LocalVault

CASES = Path(__file__).parent / "cases"
FOLDERS = sorted(path.parent for path in CASES.glob("*/*/case.toml"))
SEALS = 8  # of 12 records each


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """The trail before anybody touched it."""
    return Trail(tmp_path_factory.mktemp("sound")).create().seal(SEALS)


@pytest.fixture
def copy(sound, tmp_path):
    """A copy to tamper with."""
    shutil.copytree(sound.vault.root, tmp_path / "vault")
    return Trail(None, LocalVault(tmp_path / "vault"), tmp_path / "state")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_exactly_what_was_done_is_found(sound, copy, folder):
    """No fault is missed, and none is invented."""
    case = tomllib.loads((folder / "case.toml").read_text())
    tamper = Tamper(copy.vault.root)
    for step in case["steps"]:
        arguments = {name: value for name, value in step.items() if name != "do"}
        getattr(tamper, step["do"])(**arguments)
    against = [("kept", checkpoint_of(sound.vault, case["against"]))] if case.get("against") else []
    keys = tuple(KEYS[name] for name in case.get("keys", ["own"]))
    report = copy.verify(keys=keys, deep=case["deep"], against=against, **case.get("options", {}))
    told = "\n".join(f"{f.check} {f.severity} {f.object}: {f.message}" for f in report.findings)
    expected = case.get("findings", [])
    assert {(f.check, f.severity) for f in report.findings} == {(f["check"], f["severity"]) for f in expected}, told
    for finding in report.findings:
        globs = [f["object"] for f in expected if (f["check"], f["severity"]) == (finding.check, finding.severity)]
        assert any(fnmatch.fnmatchcase(finding.object, glob) for glob in globs), told
    for f in expected:
        found = [g.object for g in report.findings if (g.check, g.severity) == (f["check"], f["severity"])]
        assert fnmatch.filter(found, f["object"]), told
    assert report.ok == case["ok"], told
    for sentence in case.get("unchecked", []):
        assert any(sentence in text for text in report.unchecked), report.unchecked


@pytest.mark.parametrize("deep", [False, True], ids=["shallow", "deep"])
@pytest.mark.parametrize("against", [0, 1, SEALS], ids=["alone", "old anchor", "new anchor"])
def test_a_sound_trail_has_no_finding(sound, copy, deep, against):
    """What is told of the tampered copies is told of the tampering."""
    kept = [("kept", checkpoint_of(sound.vault, against))] if against else []
    report = copy.verify(deep=deep, against=kept)
    assert report.findings == () and report.ok
    assert report.checkpoint.size == report.seals == SEALS and report.events == SEALS * 12


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_every_case_says_in_one_sentence_what_was_done(folder):
    """And a benign case expects no error, a tampered one at least one, or says in `unchecked` why it cannot show."""
    text = (folder / "README.md").read_text()
    assert text.strip().count("\n") == 0 and text.endswith(".\n")
    case = tomllib.loads((folder / "case.toml").read_text())
    errors = [f for f in case.get("findings", []) if f["severity"] == "error"]
    assert case["ok"] == (not errors)
    if folder.parent.name == "tampered":
        assert errors or case["unchecked"]
    else:
        assert not errors
    assert {f["check"] for f in case.get("findings", [])} <= set(CHECKS)


def test_there_are_enough_attacks():
    """A case that is lost is a check that is lost."""
    assert len(list((CASES / "tampered").iterdir())) >= 40
    assert len(list((CASES / "benign").iterdir())) >= 5
