"""Keys come into force, go out of it, get lost and get stolen; the trail says so, and nothing is believed for it."""

import msgspec
import pytest
from simulator import (
    EVIL_KEY,
    KEY,
    NOW,
    ORIGIN,
    START,
    Clock,
    Crash,
    CrashingVault,
    MemoryVault,
    Trail,
    ids_in,
    records,
    snapshot,
)

from auditlib.amendments import change_catalog, retire_key, rotate_key
from auditlib.errors import MalformedError, MismatchError
from auditlib.formats import layout
from auditlib.formats.catalog import extend_catalog
from auditlib.formats.checkpoint import parse_checkpoint, sign_checkpoint
from auditlib.formats.document import document_bytes, document_hash, parse_document
from auditlib.formats.keys import SigningKey
from auditlib.formats.times import DAY, SECOND, parse_time
from auditlib.history import read_history
from auditlib.state import SealerState

NEW = SigningKey(ORIGIN, bytes(range(64, 96)))
THIRD = SigningKey(ORIGIN, bytes(range(96, 128)))


def rotate(trail, old=KEY, new=NEW, vault=None):
    return rotate_key(vault or trail.vault, old, new, trail.state_root, who="ada", now=trail.clock)


def retire(trail, key=NEW, retired=KEY, **options):
    state = SealerState(trail.state_root, key.verifier)
    return retire_key(trail.vault, key, retired.verifier, state, who="ada", now=trail.clock, **options)


def seal(trail, key, first):
    with trail.sealer(key) as sealer:
        sealer.add(records(5, first))
        sealer.flush()


@pytest.fixture
def trail(tmp_path):
    return Trail(tmp_path, MemoryVault(), tmp_path / "state").create().seal(3)


def errors(report):
    return [(finding.check, finding.message) for finding in report.errors]


def test_the_checkpoint_over_a_rotation_carries_both_signatures(trail):
    """Who trusts either key can check it."""
    document = rotate(trail)
    assert document.n == 1 and document.keys == (str(NEW.verifier), str(KEY.verifier))
    note = trail.vault.get(layout.checkpoint_key(4))
    assert set(parse_checkpoint(note, [KEY.verifier, NEW.verifier]).signers) == {KEY.verifier, NEW.verifier}
    assert trail.vault.get(layout.trail_key(1)) and ids_in(trail.vault)[-1][0] == "auditlib:sealer"


@pytest.mark.parametrize("given", [(KEY,), (NEW,), (KEY, NEW), ()], ids=["old", "new", "both", "none"])
def test_a_rotated_trail_verifies_with_either_key(trail, given):
    """An auditor who holds only the old key is led to the new one, and told that it is not confirmed."""
    rotate(trail)
    seal(trail, NEW, 100)
    report = trail.verify(keys=given, deep=True, now=NOW + DAY)
    assert errors(report) == [] and report.seals == 5
    assert report.checkpoint.signers == (NEW.verifier,)
    assert report.key_confirmed == (NEW in given)
    assert any("was introduced by a key you gave, with checkpoint 4" in text for text in report.unchecked) == (
        given == (KEY,)
    )


def test_the_introduction_is_found_far_back_in_a_long_trail(trail):
    """By a search over the seals, whatever was sealed since; and over two rotations."""
    rotate(trail)
    for number in range(20):
        seal(trail, NEW, 200 + 5 * number)
    rotate(trail, NEW, THIRD)
    for number in range(9):
        seal(trail, THIRD, 400 + 5 * number)
    history = read_history(trail.vault, [KEY.verifier])
    assert history.introduced == {NEW.verifier: 4, THIRD.verifier: 25} and history.errors == []
    assert read_history(trail.vault, [THIRD.verifier], thorough=True).errors == []


def test_rotating_again_changes_nothing(trail):
    """The command can be run again by somebody who is not sure that it ran."""
    rotate(trail)
    before = snapshot(trail.vault)
    assert rotate(trail).n == 1
    assert snapshot(trail.vault) == before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("put", range(1, 5), ids=["document", "batch", "seal", "checkpoint"])
def test_a_crash_in_a_rotation_is_finished_by_running_it_again(trail, put, after):
    """Wherever it died: one rotation, both signatures, nothing lost, and nothing else could be sealed meanwhile."""
    with pytest.raises(Crash):
        rotate(trail, vault=CrashingVault(trail.vault, put, after=after))
    begun = len(trail.vault.objects) > 1 + 1 + 3 * 3
    finished = layout.checkpoint_key(4) in trail.vault.objects
    if begun and not finished:
        before = snapshot(trail.vault)
        with pytest.raises(MismatchError, match="was not finished"):
            seal(trail, KEY, 100)
        assert snapshot(trail.vault) == before
    assert rotate(trail).keys == (str(NEW.verifier), str(KEY.verifier))
    seal(trail, NEW, 100)
    report = trail.verify(keys=(KEY, NEW), deep=True, now=NOW + DAY)
    assert errors(report) == [] and report.seals == 5 and report.events == 3 * 12 + 1 + 5
    assert len(parse_checkpoint(trail.vault.get(layout.checkpoint_key(4)), [KEY.verifier, NEW.verifier]).signers) == 2


def test_the_old_key_signs_until_it_is_retired_and_not_after(trail):
    """Two sealers can be moved one after the other; then the old key is worth nothing."""
    rotate(trail)
    seal(trail, KEY, 100)
    seal(trail, NEW, 105)
    assert retire(trail).keys == (str(NEW.verifier),)
    before = snapshot(trail.vault)
    with pytest.raises(MalformedError, match="or it was retired"):
        seal(trail, KEY, 110)
    assert snapshot(trail.vault) == before
    seal(trail, NEW, 115)
    assert errors(trail.verify(keys=(NEW,), deep=True, now=NOW + DAY)) == []


def test_a_checkpoint_by_a_retired_key_is_an_error(trail):
    """Whoever stole the retired key cannot go on with the trail, even for those who once trusted it."""
    rotate(trail)
    retire(trail)
    seal(trail, NEW, 100)
    note = parse_checkpoint(trail.vault.objects[layout.checkpoint_key(6)], [NEW.verifier])
    trail.vault.objects[layout.checkpoint_key(6)] = sign_checkpoint(ORIGIN, 6, note.root, [KEY])
    found = errors(trail.verify(keys=(KEY, NEW), now=NOW + DAY))
    assert [check for check, _ in found] == [
        0
    ] and "a key that the trail document then in force does not name" in found[0][1]


def test_a_planted_document_introduces_nobody(trail):
    """A document that no seal names, with an intruder's key and checkpoint, convinces nobody who holds a key."""
    first = parse_document(trail.vault.objects[layout.trail_key(0)])
    planted = msgspec.structs.replace(
        first,
        keys=(str(EVIL_KEY.verifier), *first.keys),
        n=1,
        previous=document_hash(document_bytes(first)),
    )
    trail.vault.objects[layout.trail_key(1)] = document_bytes(planted)
    trail.vault.objects[layout.checkpoint_key(4)] = sign_checkpoint(ORIGIN, 4, bytes(32), [EVIL_KEY])
    history = read_history(trail.vault, [KEY.verifier])
    assert history.introduced == {} and history.trusted == (KEY.verifier,) and history.checkpoint.size == 3


def test_a_key_of_another_trail_or_the_same_key_is_refused(trail):
    """Nothing is written."""
    before = snapshot(trail.vault)
    for new in (SigningKey("other.example/audit", bytes(32)), KEY):
        with pytest.raises(MalformedError):
            rotate(trail, new=new)
    with pytest.raises(MalformedError, match="cannot retire itself"):
        retire(trail, key=KEY, retired=KEY)
    assert snapshot(trail.vault) == before


def test_what_a_compromised_key_signed_afterwards_is_named(trail):
    """By the checkpoints' sizes, from the time that the trail itself states."""
    trail.clock = Clock(START + DAY + SECOND, ticking=True)
    rotate(trail)
    seal(trail, KEY, 100)
    since = parse_time(read_history(trail.vault).seals[3].seal.sealed_at)
    retire(trail, compromised_since=since)
    report = trail.verify(keys=(NEW,), now=NOW + DAY)
    (finding,) = [finding for finding in report.findings if finding.check == 0]
    assert report.ok and finding.severity == "warning"
    assert "2 checkpoint(s), of sizes 4 to 5" in finding.message and str(KEY.verifier) in finding.message


def test_a_catalogue_changes_for_what_is_sealed_from_then_on(trail, tmp_path):
    """What was sealed before stays judged by its own catalogue."""
    with trail.sealer() as sealer:
        other = extend_catalog(sealer.catalog, b'[actions."badge.print"]\nkind = "grant"\n')
    change_catalog(trail.vault, KEY, other, trail.state, who="ada", now=trail.clock)
    with trail.sealer() as sealer:
        assert sealer.catalog.sha256 == other.sha256
    assert errors(trail.verify(deep=True, now=NOW + DAY)) == []
    before = snapshot(trail.vault)
    assert change_catalog(trail.vault, KEY, other, trail.state, who="ada", now=trail.clock).n == 1
    assert snapshot(trail.vault) == before


def test_no_state_of_the_new_key_can_be_behind_the_rotation(trail):
    """The new key's memory begins with the checkpoint over the rotation: a vault rolled back before it is refused."""
    copy = dict(trail.vault.objects)
    rotate(trail)
    trail.vault.objects.clear()
    trail.vault.objects.update(copy)
    with pytest.raises((MismatchError, MalformedError)):
        seal(trail, NEW, 100)
    assert trail.vault.objects == copy
