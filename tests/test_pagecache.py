"""Columns of pages kept for the next opening: the same as without, and nothing in the cache is believed."""

import os
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from test_long_history import SIZE, lines, long, spoilable, whole

import auditlib
from auditlib.errors import MismatchError
from auditlib.formats import layout
from auditlib.history import read_history
from auditlib.pagecache import PageCache, page_cache
from auditlib.vault.local import LocalVault
from benchmarks.data import KEY

__all__ = ["lines", "long", "spoilable", "whole"]  # fixtures


@pytest.fixture(autouse=True)
def own(monkeypatch, tmp_path):
    """Folders of this test's own, and pages kept of a short history too."""
    monkeypatch.setattr("auditlib.chain._MANY_PAGES", 1)
    monkeypatch.setenv("AUDITLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AUDITLIB_STATE", str(tmp_path / "state"))


def entries(tmp_path):
    return sorted(path for path in (tmp_path / "cache" / "pages").rglob("*") if path.is_file() or path.is_symlink())


def opened(vault, **options):
    return read_history(LocalVault(Path(vault)), [KEY.verifier], judged=page_cache(), **options)


def columns(history):
    """Everything that is held of a history's seals."""
    seals = history.seals
    plain = ("numbers", "sealed_at", "occurred", "recorded", "events", "sizes", "uncounted", "spans")
    found = {name: getattr(seals, name).tolist() for name in plain}
    for name in ("actions", "outcomes", "sources"):
        coded = getattr(seals, name)
        found[name] = ([coded.names[code] for code in coded.entries], coded.counts.tolist(), coded.starts.tolist())
    return found | {"leaves": seals.leaves, "changes": seals.changes, "last": seals.hash_of(len(seals) - 1)}


@pytest.fixture
def parsed(monkeypatch):
    """How many seals were parsed together, each time."""
    from auditlib import chain

    sizes, parse = [], chain.parse_page

    def counted(lines):
        sizes.append(len(lines))
        return parse(lines)

    monkeypatch.setattr(chain, "parse_page", counted)
    return sizes


def test_the_second_opening_parses_no_full_page_and_says_the_same(long, tmp_path, parsed):
    """Only the seals after the last full page; every column is the one that was parsed."""
    first = opened(long)
    assert parsed == [layout.PAGE, layout.PAGE, 5]
    parsed.clear()
    second = opened(long)
    assert parsed == [5] and second.findings == first.findings == []
    assert columns(second) == columns(first) == columns(read_history(LocalVault(long), [KEY.verifier]))
    pages = [(long / layout.page_key(page)).read_bytes() for page in range(2)]
    assert {path.name for path in entries(tmp_path)} == {sha256(page).hexdigest() for page in pages}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in entries(tmp_path))


def test_a_short_history_keeps_nothing(long, tmp_path, monkeypatch):
    """Not even a key is made."""
    monkeypatch.setattr("auditlib.chain._MANY_PAGES", 3)
    assert opened(long).findings == [] and entries(tmp_path) == [] and not (tmp_path / "state").exists()


def test_a_reading_without_pages_uses_no_columns(whole, tmp_path, monkeypatch):
    """Verification reads the seals themselves: what is kept of pages is not asked for."""
    monkeypatch.setattr(PageCache, "page", lambda *_: pytest.fail("asked for"))
    assert opened(whole.root, thorough=True).findings == [] and entries(tmp_path) == []


def flipped(path, other):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def mark_flipped(path, other):
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


def of_another_page(path, other):
    shutil.copyfile(other, path)


def marked_by_another_key(path, other):
    """Columns of the attacker's choice, marked as well as one can without the key."""
    forged = PageCache(path.parent, 2**30)
    page = forged_page(path)
    forged._key = bytes(32)
    forged.folder = path.parent.parent
    path.unlink()
    forged.keep(path.name, page)


def forged_page(path):
    """What the entry says, and one event more in the first batch."""
    page = page_cache().page(path.name)
    page.events[0] += 1
    return page


def truncated(path, other):
    os.truncate(path, path.stat().st_size - 1)


def empty(path, other):
    path.write_bytes(b"")


def a_link(path, other):
    path.unlink()
    path.symlink_to(other)


FORGERIES = [flipped, mark_flipped, of_another_page, marked_by_another_key, truncated, empty, a_link]


@pytest.mark.parametrize("forge", FORGERIES)
def test_a_planted_entry_is_thrown_away_and_made_again(long, tmp_path, forge, parsed):
    """Whoever can write to the cache costs one parsing, and is told of."""
    first = opened(long)
    before = {path: path.read_bytes() for path in entries(tmp_path)}
    forge(*before)
    parsed.clear()
    with pytest.warns(UserWarning, match=r"1 cached page\(s\) of seals were not what was written there"):
        second = opened(long)
    assert columns(second) == columns(first) and parsed == [layout.PAGE, 5]
    assert {path: path.read_bytes() for path in entries(tmp_path)} == before


@pytest.mark.parametrize("what", ["one letter", "another time", "two seals in each other's place"])
def test_columns_kept_of_a_page_do_not_answer_for_another(spoilable, tmp_path, lines, what):
    """The page's bytes are read and hashed each time: altered since, they are judged anew, kept or not."""
    assert opened(spoilable.root).findings == []
    page = spoilable.root / layout.page_key(0)
    data = page.read_bytes()
    if what == "one letter":
        changed = data.replace(b'"idp/a1"', b'"idp/b1"', 1)
    elif what == "another time":
        changed = data.replace(b'"sealed_at":"2021-01-01T00:05:00Z"', b'"sealed_at":"2021-01-01T00:06:00Z"', 1)
    else:
        changed = data.replace(lines[3] + b"\n" + lines[4], lines[4] + b"\n" + lines[3], 1)
    assert changed != data
    page.write_bytes(changed)
    for _ in range(2):  # what was judged the first time is kept for the second
        history = opened(spoilable.root)
        assert {finding.check for finding in history.errors} == {2, 4}
        with pytest.raises(MismatchError, match="check"):
            auditlib.open(spoilable.root, keys=KEY.verifier)
    page.write_bytes(data)
    assert opened(spoilable.root).findings == []


def test_a_page_that_is_refused_is_not_kept(spoilable, tmp_path):
    """Nothing is kept of bytes that are no seals."""
    page = spoilable.root / layout.page_key(0)
    page.write_bytes(page.read_bytes().replace(b'"success":60', b'"success":61', 1))
    for _ in range(2):
        assert {finding.check for finding in opened(spoilable.root).errors} == {2, 4}
    assert len(entries(tmp_path)) == 1


def test_a_key_that_others_may_read_keeps_nothing_and_stops_nothing(long, tmp_path):
    """The history is read all the same, and one warning says why nothing is kept."""
    key = tmp_path / "state" / "local.key"
    key.parent.mkdir()
    key.write_bytes(bytes(32))
    key.chmod(0o644)
    with pytest.warns(UserWarning, match="cannot be kept in the cache"):
        assert opened(long).findings == []
    assert entries(tmp_path) == []


def test_a_trail_is_opened_through_what_is_kept(long, tmp_path, parsed, monkeypatch):
    """The public way in uses it, and without a cache goes without."""
    for _ in range(2):
        with auditlib.open(long, keys=KEY.verifier) as trail:
            assert len(trail.seals) == SIZE and np.all(trail.history.seals.events == 60)
    assert parsed == [layout.PAGE, layout.PAGE, 5, 5] and len(entries(tmp_path)) == 2
    monkeypatch.setenv("AUDITLIB_CACHE_BYTES", "0")
    auditlib.open(long, keys=KEY.verifier).close()
    assert parsed[4:] == [layout.PAGE, layout.PAGE, 5]
