"""The local key: one a user and machine, never anybody else's, never half written."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from auditlib.errors import MalformedError, UnavailableError
from auditlib.localkey import KEY_BYTES, local_key


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's state folder."""
    monkeypatch.setenv("AUDITLIB_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


def test_the_key_is_made_once_for_its_owner_alone(folder):
    """The same 32 bytes at every call, 0600; another folder has another key."""
    key = local_key()
    assert len(key) == KEY_BYTES and local_key() == key
    assert (folder / "local.key").read_bytes() == key
    assert (folder / "local.key").stat().st_mode & 0o777 == 0o600
    (folder / "local.key").unlink()
    assert local_key() != key


def test_two_that_ask_first_get_the_same_key(folder):
    """Whoever writes second reads what the first wrote."""
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: local_key(), range(32)))) == 1


@pytest.mark.parametrize("fault", ["readable", "short", "long", "empty", "folder", "pipe"])
def test_a_key_that_others_may_know_is_refused(folder, fault):
    """A key that somebody else can read or chose signs nothing; it is left where it is, for the user to look at."""
    local_key()
    path = folder / "local.key"
    if fault == "readable":
        path.chmod(0o640)
    elif fault in ("folder", "pipe"):
        path.unlink()
        path.mkdir() if fault == "folder" else os.mkfifo(path, 0o600)
    else:
        path.write_bytes(bytes({"short": 31, "long": 33, "empty": 0}[fault]))
    before = path.lstat()
    with pytest.raises(MalformedError, match="local key cannot be trusted"):
        local_key()
    assert path.lstat() == before


def test_a_link_in_the_keys_place_is_not_followed(folder, tmp_path):
    """Bytes that somebody chose lie elsewhere."""
    folder.mkdir()
    (tmp_path / "chosen").write_bytes(bytes(KEY_BYTES))
    (folder / "local.key").symlink_to(tmp_path / "chosen")
    with pytest.raises(UnavailableError):
        local_key()
    assert (tmp_path / "chosen").read_bytes() == bytes(KEY_BYTES)


def test_a_folder_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    """In a sentence with the way out, and no traceback."""
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("AUDITLIB_STATE", str(tmp_path / "file" / "state"))
    with pytest.raises(UnavailableError, match="AUDITLIB_STATE"):
        local_key()
