"""The cache of a vault in object storage: a second query fetches nothing, and nothing in the cache is believed."""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy
from s3_service import s3_service
from simulator import CATALOG, KEY, Trail

import auditlib
from auditlib.errors import MalformedError, MismatchError
from auditlib.formats.document import Retention
from auditlib.vault.cache import BatchCache, batch_cache
from auditlib.vault.s3 import S3Vault

BATCHES = 5
FETCHED = r"\.parquet\?versionId="  # a batch object's bytes
ASKED = r"\.parquet"  # and its listing
NOBODY = 65534
# A whole analyst's process: a query, every warning an error.
QUERY = """
import os, sys, auditlib
with auditlib.open(os.environ["AUDITLIB_VAULT"], keys=sys.argv[1]) as trail:
    sys.stdout.write(trail.events().arrow().to_pandas().to_json(date_format='iso'))
"""


def now():
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def service():
    return s3_service()


@pytest.fixture(scope="module")
def sealed(service, tmp_path_factory):
    """Five batches in a locked bucket."""
    vault = S3Vault(f"s3://{service.new_bucket()}/v", client=service.client("owner"))
    trail = Trail(None, vault=vault, state=tmp_path_factory.mktemp("state"))
    trail.clock = now
    return trail.create(CATALOG, Retention(1, "COMPLIANCE")).seal(BATCHES).vault


@pytest.fixture
def loose(sealed, service):
    """The same objects where no lock keeps an intruder off."""
    bucket, client = service.new_bucket(lock=False), service.client("owner")
    for entry in sealed.list():
        client.put_object(Bucket=bucket, Key="v/" + entry.key, Body=sealed.get(entry.key, 2**20))
    return S3Vault(f"s3://{bucket}/v", client=client)


@pytest.fixture
def proxy(service, monkeypatch):
    """Everything goes through a proxy that counts; credentials and endpoint come the boto3 way."""
    owner = service.identities["owner"]
    with FaultyProxy(service.endpoint) as proxy:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", owner.key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", owner.secret)
        monkeypatch.setenv("AWS_DEFAULT_REGION", service.region)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        yield proxy


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the cache is; nothing is there yet."""
    monkeypatch.setenv("AUDITLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ask(vault):
    """The answer to a question about everything, by a trail of its own."""
    with auditlib.open(vault.url, keys=KEY.verifier) as trail:
        return trail.events().arrow()


def process(vault):
    """The same in a process of its own, running."""
    command = [sys.executable, "-W", "error", "-W", "default::DeprecationWarning", "-c", QUERY, str(KEY.verifier)]
    environment = os.environ | {"AUDITLIB_VAULT": vault.url, "PYTHONPATH": str(Path(auditlib.__file__).parents[1])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer_of(running):
    out, error = running.communicate(timeout=120)
    assert running.returncode == 0, error
    return json.loads(out)


def entries(folder):
    return sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())


def size_of(folder):
    return sum(path.lstat().st_size for path in entries(folder))


def check_entries(folder):
    """Every file is what its name says; none is unfinished."""
    assert all(sha256(path.read_bytes()).hexdigest() == path.name for path in entries(folder))


# --- a second query ----------------------------------------------------------------------------------------------


def test_a_second_query_fetches_nothing(sealed, proxy, folder):
    """By the same trail, by another, by another process; the chain is read from the storage all the same."""
    with auditlib.open(sealed.url, keys=KEY.verifier) as trail:
        first = trail.events().arrow()
        assert proxy.count("GET", FETCHED) == BATCHES
        proxy.clear()
        assert trail.events().arrow() == first
        assert proxy.requests == []
    assert ask(sealed) == first
    assert proxy.count(path=ASKED) == 0 and proxy.count("GET", "/seals/") == BATCHES
    proxy.clear()
    assert answer_of(process(sealed)) == json.loads(first.to_pandas().to_json(date_format="iso"))
    assert proxy.count(path=ASKED) == 0 and proxy.count("GET", "/seals/") == BATCHES
    check_entries(folder)


def test_a_question_fetches_only_what_no_earlier_one_did(sealed, proxy, folder):
    """The period's batches, less those at hand."""
    with auditlib.open(sealed.url, keys=KEY.verifier) as trail:
        one = trail.seals[2].recorded
        assert trail.events(since=one[0], until=one[1]).count() and proxy.count("GET", FETCHED) == 1
    ask(sealed)
    assert proxy.count("GET", FETCHED) == BATCHES


def test_the_cache_is_its_owners_alone(sealed, proxy, folder):
    """Folders 0700, files 0600, names by SHA-256, whatever the umask."""
    before = os.umask(0)
    try:
        ask(sealed)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*")) if path.is_dir()} == {0o700}
    assert {path.stat().st_mode & 0o777 for path in entries(folder)} == {0o600}
    with auditlib.open(sealed.url, keys=KEY.verifier) as trail:
        expected = [folder / "batches" / s.batch.sha256[:2] / s.batch.sha256 for s in trail.seals]
    assert entries(folder) == sorted(expected)


def test_verification_reads_the_storage_and_not_the_cache(loose, proxy, folder):
    """A warm cache hides no batch that is gone; a query may still be answered from it."""
    answer = ask(loose)
    proxy.clear()
    with auditlib.open(loose.url, keys=KEY.verifier) as trail:
        for deep in (False, True):
            proxy.clear()
            assert [f for f in trail.verify(deep=deep).errors if f.check < 7] == []
            assert proxy.count("GET", FETCHED) == BATCHES
        gone = trail.seals[1].batch.object
        (stored,) = [entry for entry in loose.list("batches") if entry.key == gone]
        loose.client.delete_object(Bucket=loose.bucket, Key=loose.prefix + gone, VersionId=stored.version)
        assert [(f.check, f.object) for f in trail.verify().errors] == [(5, gone)]
    assert ask(loose) == answer


# --- poison ------------------------------------------------------------------------------------------------------


def flipped(path, other, tmp_path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def another_valid_batch(path, other, tmp_path):
    shutil.copyfile(other, path)


def truncated(path, other, tmp_path):
    os.truncate(path, path.stat().st_size - 1)


def longer(path, other, tmp_path):
    with path.open("ab") as file:
        file.write(b"\0")


def empty(path, other, tmp_path):
    os.truncate(path, 0)


def huge(path, other, tmp_path):
    os.truncate(path, 2**40)  # sparse


def link_to_the_right_bytes(path, other, tmp_path):
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")


def dangling_link(path, other, tmp_path):
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")


def pipe(path, other, tmp_path):
    path.unlink()
    os.mkfifo(path)


def directory(path, other, tmp_path):
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"x")


POISONS = [flipped, another_valid_batch, truncated, longer, empty, huge]
POISONS += [link_to_the_right_bytes, dangling_link, pipe, directory]


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
def test_a_poisoned_entry_is_discarded_and_fetched_again(sealed, proxy, folder, tmp_path, poison):
    """The answer is right, one warning counts them, and the cache is sound afterwards; nothing outside is touched."""
    answer = ask(sealed)
    first, second, *_ = entries(folder)
    poison(first, second, tmp_path)
    proxy.clear()
    with pytest.warns(UserWarning, match=r"1 cached batch\(es\) were not what was sealed") as told:
        assert ask(sealed) == answer
    assert len(told) == 1 and proxy.count("GET", FETCHED) == 1
    assert not first.is_symlink() and first.is_file() and len(entries(folder)) == BATCHES
    check_entries(folder)
    if poison is link_to_the_right_bytes:
        assert sha256((tmp_path / "elsewhere").read_bytes()).hexdigest() == first.name
    assert not (tmp_path / "nowhere").exists()


def test_many_poisoned_entries_are_one_warning(sealed, proxy, folder):
    """It is counted, not repeated."""
    answer = ask(sealed)
    for path in entries(folder):
        path.write_bytes(b"poison")
    with pytest.warns(UserWarning, match=f"{BATCHES} cached") as told:
        assert ask(sealed) == answer
    assert len(told) == 1
    check_entries(folder)


def test_wrong_bytes_from_the_storage_are_not_kept(loose, proxy, folder):
    """A cache beside a lying storage holds what was sealed, or nothing."""
    (first, *_) = loose.list("batches")
    key = {"Bucket": loose.bucket, "Key": loose.prefix + first.key}
    loose.client.delete_object(**key, VersionId=first.version)
    loose.client.put_object(**key, Body=b"x" * first.size)
    with pytest.raises(MismatchError, match="not the one that was sealed"):
        ask(loose)
    check_entries(folder)
    assert sha256(b"x" * first.size).hexdigest() not in {path.name for path in entries(folder)}


# --- size --------------------------------------------------------------------------------------------------------


def put(cache, text, read_at):
    """An entry of 1,000 bytes, last read at that second."""
    data = text.encode() * (1000 // len(text))
    digest = sha256(data).hexdigest()
    cache.put(digest, data)
    os.utime(cache.folder / digest[:2] / digest, (read_at, read_at))
    return digest


def test_the_least_recently_read_goes_first_and_no_more_than_must(tmp_path):
    """Reading counts as use; a cache that is full by the byte loses nothing."""
    cache = BatchCache(tmp_path, 3000)
    a, b, c = (put(cache, text, read_at) for read_at, text in enumerate("abc", 1))
    cache.settle()
    assert len(entries(tmp_path)) == 3
    assert cache.get(a, 1000) == b"a" * 1000
    d = put(cache, "d", 4)
    cache.settle()
    assert {path.name for path in entries(tmp_path)} == {a, c, d} and cache.get(b, 1000) is None


def test_a_smaller_limit_is_kept_from_the_next_query_on(sealed, proxy, folder, monkeypatch):
    """The answer is whole though the cache cannot be; what is kept spares its part of the fetching."""
    answer = ask(sealed)
    sizes = [path.stat().st_size for path in entries(folder)]
    shutil.rmtree(folder)
    monkeypatch.setenv("AUDITLIB_CACHE_BYTES", str(sum(sizes) // 2))
    assert ask(sealed) == answer
    assert max(sizes) <= size_of(folder) <= sum(sizes) // 2
    kept = len(entries(folder))
    proxy.clear()
    assert ask(sealed) == answer
    assert BATCHES - kept <= proxy.count("GET", FETCHED) <= BATCHES
    assert size_of(folder) <= sum(sizes) // 2
    check_entries(folder)


def test_what_an_interrupted_write_left_is_cleared_when_room_is_needed(tmp_path):
    """A process killed while it wrote leaves a file without a name; it counts, and goes by its age."""
    cache = BatchCache(tmp_path, 2000)
    a = put(cache, "a", 10)
    left = cache.folder / a[:2] / ".0123456789abcdef"
    left.write_bytes(b"x" * 900)
    os.utime(left, (5, 5))
    b = put(cache, "b", 11)
    cache.settle()
    assert {path.name for path in entries(tmp_path)} == {a, b}


def test_a_batch_larger_than_the_limit_drives_nothing_out(tmp_path):
    """It is simply not kept."""
    cache = BatchCache(tmp_path, 2500)
    kept = put(cache, "a", 1)
    cache.put(sha256(b"x" * 2501).hexdigest(), b"x" * 2501)
    cache.settle()
    assert [path.name for path in entries(tmp_path)] == [kept]


def test_two_processes_at_once_share_a_cache(sealed, proxy, folder, monkeypatch):
    """Four of them on a cold cache that is too small for all: right answers, no warning, sound and within the limit."""
    answer = ask(sealed)
    limit = size_of(folder) * 2 // 3
    shutil.rmtree(folder)
    monkeypatch.setenv("AUDITLIB_CACHE_BYTES", str(limit))
    expected = json.loads(answer.to_pandas().to_json(date_format="iso"))
    running = [process(sealed) for _ in range(4)]
    assert [answer_of(each) for each in running] == [expected] * 4
    assert 0 < size_of(folder) <= limit
    check_entries(folder)


# --- no cache is no failure --------------------------------------------------------------------------------------


def test_a_limit_of_zero_switches_it_off(sealed, proxy, folder, monkeypatch):
    """Nothing is read there and nothing written."""
    monkeypatch.setenv("AUDITLIB_CACHE_BYTES", "0")
    ask(sealed)
    ask(sealed)
    assert proxy.count("GET", FETCHED) == 2 * BATCHES and not folder.exists()


def test_a_directory_has_no_cache(tmp_path, folder):
    """It would gain nothing."""
    local = Trail(tmp_path).create().seal(2)
    assert ask(local.vault).num_rows == 24 and not folder.exists()


@pytest.mark.parametrize("text", ["-1", "10G", "1e9", "1.5", "²", " 5"])
def test_a_limit_that_is_no_number_is_refused(sealed, proxy, folder, monkeypatch, text):
    """A sentence with the variable's name, and nothing is written."""
    monkeypatch.setenv("AUDITLIB_CACHE_BYTES", text)
    with pytest.raises(MalformedError, match="AUDITLIB_CACHE_BYTES"):
        ask(sealed)
    assert not folder.exists()


def test_the_cache_lies_where_caches_lie(sealed, monkeypatch, tmp_path):
    """AUDITLIB_CACHE, else XDG_CACHE_HOME, else the home folder; 10 GiB unless told otherwise."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("AUDITLIB_CACHE", "")
    assert batch_cache(sealed).folder == tmp_path / "home/.cache/auditlib/batches"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert batch_cache(sealed).folder == tmp_path / "xdg/auditlib/batches"
    monkeypatch.setenv("AUDITLIB_CACHE", str(tmp_path / "own"))
    assert batch_cache(sealed).folder == tmp_path / "own/batches"
    assert batch_cache(sealed).limit == 10 * 1024**3 and list(tmp_path.iterdir()) == []


def file_in_its_place(folder):
    folder.write_bytes(b"")


def folder_of_everybody(folder):
    folder.mkdir()
    folder.chmod(0o777)


def batches_led_elsewhere(folder):
    folder.mkdir(mode=0o700)
    (folder.parent / "elsewhere").mkdir()
    (folder / "batches").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize("spoil", [file_in_its_place, folder_of_everybody, batches_led_elsewhere])
def test_a_cache_that_cannot_be_written_fails_no_query(sealed, proxy, folder, spoil):
    """One warning, right answers, every batch from the storage, and nothing is written there."""
    spoil(folder)
    before = entries(folder.parent)
    with pytest.warns(UserWarning, match="cannot be kept in the cache") as told:
        assert ask(sealed).num_rows == BATCHES * 12
    assert len(told) == 1 and proxy.count("GET", FETCHED) == BATCHES
    assert entries(folder.parent) == before


def test_a_full_disk_fails_no_query(sealed, proxy, folder):
    """On a file system of 8 KiB: the answer is right, one warning, nothing half written is left."""
    folder.mkdir(mode=0o700)
    options = ["-t", "tmpfs", "-o", "size=8k,mode=0700"]
    mount = shutil.which("mount")
    if os.geteuid() or not mount or subprocess.run([mount, *options, "none", folder], check=False).returncode:
        pytest.skip("no file system can be mounted here; the next test limits a file's size instead")
    try:
        with pytest.warns(UserWarning, match="No space left") as told:
            assert ask(sealed).num_rows == BATCHES * 12
        assert len(told) == 1
        check_entries(folder)
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_write_that_stops_half_way_leaves_nothing(tmp_path):
    """The system takes 400 of 1,000 bytes; the next batches are not tried, and it is told once."""
    cache, soft_hard = BatchCache(tmp_path, 10_000), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, soft_hard[1]))
    try:
        for text in "ab":
            cache.put(sha256(text.encode() * 1000).hexdigest(), text.encode() * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft_hard)
    with pytest.warns(UserWarning, match="File too large") as told:
        cache.settle()
    cache.settle()
    assert len(told) == 1 and entries(tmp_path) == []


@contextmanager
def as_nobody():
    """Root may read everything; these tests must not be root for a moment. A folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        if root:
            os.chown(name, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)


def test_an_unreadable_entry_is_discarded():
    """No permission to read it: it goes, and is fetched again."""
    with as_nobody() as folder:
        cache = BatchCache(folder / "cache", 10_000)
        digest = put(cache, "a", 1)
        (cache.folder / digest[:2] / digest).chmod(0)
        assert cache.get(digest, 1000) is None and entries(folder) == []
        with pytest.warns(UserWarning, match=r"1 cached"):
            cache.settle()
        put(cache, "a", 1)
        assert cache.get(digest, 1000) == b"a" * 1000


def test_a_cache_that_can_only_be_read_is_still_read():
    """Its entries answer; a wrong one is not believed though it cannot be removed; one warning says so."""
    with as_nobody() as folder:
        cache = BatchCache(folder / "cache", 10_000)
        a, b = put(cache, "a", 1), put(cache, "b", 1)
        (cache.folder / b[:2] / b).write_bytes(b"x" * 1000)
        locked = [cache.folder, *cache.folder.iterdir()]
        for path in locked:
            path.chmod(0o500)
        try:
            assert cache.get(a, 1000) == b"a" * 1000 and cache.get(b, 1000) is None
            cache.put(b, b"b" * 1000)
            with pytest.warns(UserWarning, match="Permission denied") as told:
                cache.settle()
            assert len(told) == 1
        finally:
            for path in locked:
                path.chmod(0o700)


def test_another_users_folder_gets_nothing():
    """Its owner could lead what is written there elsewhere."""
    if os.geteuid():
        pytest.skip("only root can make another user's folder")
    with as_nobody() as folder:
        (folder / "cache").mkdir(mode=0o700)
        os.seteuid(0)
        cache = BatchCache(folder / "cache", 10_000)
        cache.put(sha256(b"a").hexdigest(), b"a")
        with pytest.warns(UserWarning, match="another user's"):
            cache.settle()
        assert entries(folder) == []


def test_without_a_home_folder_there_is_no_cache(sealed, monkeypatch):
    """A container's user of no name: a warning that says what to set."""

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("AUDITLIB_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.warns(UserWarning, match="Set AUDITLIB_CACHE"):
        assert batch_cache(sealed) is None


def test_an_untroubled_query_warns_of_nothing(sealed, proxy, folder):
    """Cold and warm."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        ask(sealed)
        ask(sealed)
