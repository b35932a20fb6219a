"""A newer checkpoint is shown to extend an older one without the vault; no other history is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import command
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import KEY, Trail

from auditlib.errors import AuditlibError, MalformedError, MismatchError
from auditlib.formats import layout, merkle
from auditlib.formats.checkpoint import parse_checkpoint, sign_checkpoint
from auditlib.formats.consistency import MAX_HASHES, MAX_PROOF_BYTES, check_extension, consistency_bytes
from auditlib.formats.keys import SigningKey

OTHER_KEY = SigningKey("other.example/audit", bytes(range(1, 33)))
TRUSTED = [KEY.verifier]


def leaves(size: int, other: int | None = None) -> list[bytes]:
    return [merkle.leaf_hash(f"{'forged' if place == other else 'seal'} {place}".encode()) for place in range(size)]


def note(tree: list[bytes], size: int, key: SigningKey = KEY) -> bytes:
    return sign_checkpoint(key.name, size, merkle.root(tree[:size]), [key])


def proof(tree: list[bytes], first: int, key: SigningKey = KEY) -> bytes:
    return consistency_bytes(first, merkle.consistency_proof(tree, first), note(tree, len(tree), key))


@given(st.integers(1, 70), st.integers(0, 70))
def test_every_checkpoint_is_shown_to_extend_every_older_one(first: int, more: int) -> None:
    """For all sizes; and the proof has no more than two hashes a level of the tree."""
    tree = leaves(first + more)
    data = proof(tree, first)
    newer = check_extension(data, parse_checkpoint(note(tree, first), TRUSTED), TRUSTED)
    assert (newer.size, newer.root) == (len(tree), merkle.root(tree))
    assert data.partition(b"\n\n")[0].count(b"\n") <= 2 * (first + more).bit_length()


@given(st.integers(2, 70), st.integers(0, 40), st.data())
def test_a_history_rewritten_below_the_older_checkpoint_is_refused(first: int, more: int, data: st.DataObject) -> None:
    """Whichever seal was exchanged before it, the key holder's own proof over the new history does not fit."""
    honest = leaves(first + more)
    forged = leaves(first + more, data.draw(st.integers(0, first - 1)))
    older = parse_checkpoint(note(honest, first), TRUSTED)
    with pytest.raises(MismatchError):
        check_extension(proof(forged, first), older, TRUSTED)


@settings(max_examples=300)
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_no_bit_of_a_proof_can_be_changed(place: int, bit: int) -> None:
    """Each is refused in a sentence; none shows anything else than what was shown."""
    tree = leaves(11)
    data = bytearray(proof(tree, 6))
    data[place % len(data)] ^= 1 << bit
    with pytest.raises(AuditlibError):
        check_extension(bytes(data), parse_checkpoint(note(tree, 6), TRUSTED), TRUSTED)


@settings(max_examples=300)
@given(st.binary(max_size=300) | st.builds(lambda text: b"old 6\n" + text.encode(), st.text(max_size=200)))
def test_other_bytes_are_refused_in_a_sentence(data: bytes) -> None:
    """Never a traceback."""
    with pytest.raises(AuditlibError):
        check_extension(data, parse_checkpoint(note(leaves(6), 6), TRUSTED), TRUSTED)


def test_another_trail_another_size_another_key_and_bulk_are_refused() -> None:
    """Each with what it is."""
    tree = leaves(9)
    older = parse_checkpoint(note(tree, 6), TRUSTED)
    foreign = parse_checkpoint(note(tree, 6, OTHER_KEY), [OTHER_KEY.verifier])
    empty = parse_checkpoint(note(tree, 0), TRUSTED)
    for error, message, data, kept in (
        (MismatchError, "another size", proof(tree, 5), older),
        (MismatchError, "no signature by a trusted key", proof(tree, 6, OTHER_KEY), older),
        (MismatchError, "another trail", proof(tree, 6), foreign),
        (MismatchError, "nothing precedes", consistency_bytes(0, [bytes(32)], note(tree, 9)), empty),
        (MalformedError, "at most 63", consistency_bytes(6, [bytes(32)] * (MAX_HASHES + 1), note(tree, 9)), older),
        (MalformedError, "at most", proof(tree, 6) + b" " * MAX_PROOF_BYTES, older),
        (MalformedError, "not the base64", consistency_bytes(6, [bytes(31)], note(tree, 9)), older),
    ):
        with pytest.raises(error, match=message):
            check_extension(data, kept, TRUSTED)
    assert check_extension(consistency_bytes(0, [], note(tree, 9)), empty, TRUSTED).size == 9


def test_the_two_commands_lead_from_a_vault_to_an_answer_without_it(tmp_path: Path) -> None:
    """The proof is made where the vault is, and checked by the older checkpoint and a key alone."""
    trail = Trail(tmp_path).create().seal(3)
    kept, key = tmp_path / "kept", KEY.verifier
    kept.write_bytes(trail.vault.get(layout.checkpoint_key(3)))
    trail.seal(4, first=36)
    made, out = tmp_path / "vault", tmp_path / "proof"
    done = command("checkpoint", "prove", made, kept, "-o", out, "--key", key)
    assert (done.returncode, "from 3 to 7 seals" in done.stderr) == (0, True), done.stderr
    again = command("checkpoint", "prove", made, kept, "-o", out, "--key", key)
    assert (again.returncode, "not overwritten" in again.stderr) == (2, True)
    made.rename(tmp_path / "gone")
    told = command("checkpoint", "check", out, kept, "--key", key)
    assert (told.returncode, "The checkpoint of 7 seals" in told.stdout) == (0, True), told.stderr
    assert json.loads(command("checkpoint", "check", out, kept, "--key", key, "--json").stdout)["newer"] == 7
    unkeyed = command("checkpoint", "check", out, kept)
    assert (unkeyed.returncode, "without a key" in unkeyed.stderr) == (2, True)


def test_no_proof_is_written_for_a_checkpoint_of_another_history(tmp_path: Path) -> None:
    """Code 1, and no file."""
    trail, other = (Trail(tmp_path / name) for name in ("one", "two"))
    trail.create().seal(3)
    other.create().seal(2, first=500)
    kept, out = tmp_path / "kept", tmp_path / "proof"
    kept.write_bytes(other.vault.get(layout.checkpoint_key(2)))
    done = command("checkpoint", "prove", tmp_path / "one" / "vault", kept, "-o", out, "--key", KEY.verifier)
    assert (done.returncode, "history was rewritten" in done.stderr) == (1, True)
    assert not out.exists()
