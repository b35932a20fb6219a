"""What every vault promises, whatever keeps it: one suite, run over each (see `auditlib.vault.Vault`)."""

import pytest
from simulator import snapshot

from auditlib.errors import MalformedError, MismatchError, MissingError
from auditlib.vault import ExistsError, folders_of

KEY = "seals/000000/000000000000.json"
NO_KEYS = ["", "/", "/etc/passwd", "../outside", "seals/../../outside", "seals//a", "a/.", "a\\b", "a b", "ä", "a\nb"]
NO_KEYS += ["a" * 1025, "seals/", "a\0b"]


class VaultSuite:
    """Subclasses give a fixture `vault`."""

    def test_what_was_put_is_got(self, vault):
        """Bytes come back as they went in, empty ones too."""
        vault.put(KEY, b"one")
        vault.put("pages/000000.jsonl", b"")
        assert vault.get(KEY) == b"one"
        assert vault.get("pages/000000.jsonl") == b""

    @pytest.mark.parametrize("again", [b"one", b"two", b""])
    def test_nothing_is_ever_overwritten(self, vault, again):
        """A taken key is refused, even for the same bytes, and nothing changes."""
        vault.put(KEY, b"one")
        before = snapshot(vault)
        with pytest.raises(ExistsError) as caught:
            vault.put(KEY, again)
        assert KEY in str(caught.value)
        assert snapshot(vault) == before
        assert vault.get(KEY) == b"one"

    def test_what_is_not_there_is_missing(self, vault):
        """A missing object is its own error, and says which."""
        with pytest.raises(MissingError) as caught:
            vault.get(KEY)
        assert KEY in str(caught.value)

    def test_an_object_larger_than_allowed_is_refused(self, vault):
        """A limit is a bound on bytes read, inclusive."""
        vault.put(KEY, b"12345")
        assert vault.get(KEY, 5) == b"12345"
        with pytest.raises(MismatchError):
            vault.get(KEY, 4)

    def test_the_listing_is_whole_and_sorted_by_key(self, vault):
        """Byte order of keys, where `a-b` stands before `a/b`, and sizes."""
        keys = ["seals/000000/000000000010.json", KEY, "trail/000000.json", "seals-x", "seals/000001/x", "a.b/c"]
        for key in keys:
            vault.put(key, b"x" * len(key))
        listed = list(vault.list())
        assert [entry.key for entry in listed] == sorted(keys)
        assert [entry.size for entry in listed] == [len(key) for key in sorted(keys)]
        assert {entry.odd for entry in listed} == {""}

    @pytest.mark.parametrize("prefix", ["seals", "seals/"])
    def test_a_prefix_lists_a_folder_and_not_its_neighbours(self, vault, prefix):
        """`seals` is not `seals-x`."""
        for key in (KEY, "seals-x/a", "trail/000000.json"):
            vault.put(key, b"x")
        assert [entry.key for entry in vault.list(prefix)] == [KEY]
        assert list(vault.list("pages/")) == []

    def test_the_folders_below_a_prefix_are_named(self, vault):
        """Each once, sorted, and no object; what is not there has none."""
        for key in ("seals/000001/b", "seals/000000/a", "seals/000000/b", "seals/x", "seals-x/000009/a"):
            vault.put(key, b"x")
        assert folders_of(vault, "seals/") == ["000000", "000001"]
        assert folders_of(vault, "pages/") == []

    @pytest.mark.parametrize("key", NO_KEYS)
    def test_a_key_that_leaves_the_vault_is_refused(self, vault, key):
        """Neither read nor written nor listed, by any spelling."""
        before = snapshot(vault)
        with pytest.raises(MalformedError):
            vault.put(key, b"x")
        with pytest.raises(MalformedError):
            vault.get(key)
        assert snapshot(vault) == before

    @pytest.mark.parametrize("prefix", ["..", "../", "seals/../..", "/etc"])
    def test_a_listing_does_not_leave_the_vault(self, vault, prefix):
        """The folder above is nobody's business."""
        with pytest.raises(MalformedError):
            list(vault.list(prefix))
