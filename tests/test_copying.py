"""A copy is the same trail, or none; a copy that stopped is taken up again."""

import pytest
from simulator import KEY, NOW, Crash, CrashingVault, MemoryVault, Trail, snapshot

from auditlib.copying import copy_vault
from auditlib.errors import MismatchError
from auditlib.formats import layout
from auditlib.vault.local import LocalVault

KEYS = [KEY.verifier]


@pytest.fixture
def trail(tmp_path):
    """Three batches in memory."""
    return Trail(tmp_path, vault=MemoryVault()).create().seal(3)


def test_a_copy_is_the_same_trail_object_by_object(trail, tmp_path):
    """Every object, and verification against the source's checkpoint."""
    target = LocalVault(tmp_path / "copy", create=True)
    done = copy_vault(trail.vault, target, keys=KEYS, now=NOW)
    assert (done.put, done.there) == (len(trail.vault.objects), 0)
    assert {key: target.get(key) for key in trail.vault.objects} == trail.vault.objects
    assert done.report.ok and done.report.checkpoint == trail.verify().checkpoint
    assert done.report.unchecked[0].startswith("the outside anchor covers the first 3 seals")


def test_a_second_copy_puts_what_is_new(trail):
    """What stands there already is compared and left."""
    target = MemoryVault()
    copy_vault(trail.vault, target, keys=KEYS, now=NOW)
    before = len(target.objects)
    trail.seal(1, first=100)
    done = copy_vault(trail.vault, target, keys=KEYS, now=NOW)
    assert (done.put, done.there) == (3, before) and done.report.seals == 4


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 12))
def test_a_copy_that_stopped_anywhere_is_taken_up_again(trail, at, after):
    """Before or after any put; in between it never claims more than it holds."""
    target = MemoryVault()
    with pytest.raises(Crash):
        copy_vault(trail.vault, CrashingVault(target, at, after=after), keys=KEYS, now=NOW)
    assert all(trail.vault.objects[key] == data for key, data in target.objects.items())
    done = copy_vault(trail.vault, target, keys=KEYS, now=NOW)
    assert done.report.ok and target.objects == trail.vault.objects


def test_a_source_with_a_fault_is_not_copied(trail):
    """Nothing is written."""
    trail.vault.objects[layout.seal_key(1)] += b" "
    target = MemoryVault()
    with pytest.raises(MismatchError, match="does not verify"):
        copy_vault(trail.vault, target, keys=KEYS, now=NOW)
    assert snapshot(target) == {}


def test_a_batch_that_was_changed_is_not_copied(trail):
    """A batch is hashed on its way."""
    key = next(key for key in trail.vault.objects if key.startswith("batches/"))
    trail.vault.objects[key] = b"other"
    target = MemoryVault()
    with pytest.raises(MismatchError, match="check 5"):
        copy_vault(trail.vault, target, keys=KEYS, now=NOW)
    assert key not in target.objects


def test_another_object_in_the_target_is_left_and_told(trail):
    """Nothing is ever overwritten, in a copy least of all."""
    target = MemoryVault()
    target.put(layout.seal_key(1), b"mine")
    with pytest.raises(MismatchError, match="another object stands in the target"):
        copy_vault(trail.vault, target, keys=KEYS, now=NOW)
    assert target.get(layout.seal_key(1)) == b"mine"
