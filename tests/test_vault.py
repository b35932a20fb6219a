"""The vaults: the common suite over each, and what a local directory alone can suffer."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from simulator import MemoryVault, snapshot
from vault_suite import KEY, VaultSuite

from auditlib.errors import MalformedError, MismatchError, MissingError, UnavailableError
from auditlib.vault import ExistsError, open_vault
from auditlib.vault.local import INCOMING, LocalVault


class TestMemoryVault(VaultSuite):
    """The simulator's own vault keeps the contract, so that tests over it mean something."""

    @pytest.fixture
    def vault(self):
        return MemoryVault()


@pytest.fixture
def local(tmp_path):
    return LocalVault(tmp_path / "vault", create=True)


class TestLocalVault(VaultSuite):
    """A directory."""

    @pytest.fixture
    def vault(self, local):
        return local


def test_objects_are_read_only_files_and_nothing_is_left_incoming(local):
    """An editor that opens one by mistake cannot save it."""
    local.put(KEY, b"one")
    assert (local.root / KEY).stat().st_mode & 0o222 == 0
    assert list((local.root / INCOMING).iterdir()) == []


@pytest.mark.parametrize("what", ["symlink", "dangling", "loop", "pipe", "folder", "socket"])
def test_what_is_no_plain_file_is_refused_without_hanging(local, tmp_path, what):
    """A pipe would block a reader for ever, a link would show it another file; both are listed as odd."""
    local.put("seals/000000/000000000001.json", b"x")
    path, outside = local.root / KEY, tmp_path / "outside"
    outside.write_bytes(b"planted")
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "socket":
        os.mknod(path, 0o140644)  # S_IFSOCK
    else:
        path.symlink_to({"symlink": outside, "dangling": tmp_path / "nothing", "loop": path}[what])
    with pytest.raises(MismatchError):
        local.get(KEY)
    with pytest.raises(ExistsError):
        local.put(KEY, b"x")
    assert [entry.key for entry in local.list() if entry.odd] == ([KEY] if what != "folder" else [])
    assert outside.read_bytes() == b"planted"


def test_refusing_a_folder_leaks_no_descriptor(local):
    """Verification of a vault full of folders must not run out of files."""
    (local.root / KEY).mkdir(parents=True)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(MismatchError):
            local.get(KEY)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("what", ["link", "loop"])
def test_a_symbolic_link_on_the_way_is_refused_both_ways(local, tmp_path, what):
    """A folder that points elsewhere is neither read nor written through."""
    outside = tmp_path / "outside"
    (outside / "000000").mkdir(parents=True)
    (outside / "000000" / Path(KEY).name).write_bytes(b"planted")
    (local.root / "seals").symlink_to(outside if what == "link" else local.root / "seals")
    with pytest.raises(MismatchError):
        local.get(KEY)
    with pytest.raises(MismatchError):
        local.put("seals/000000/000000000009.json", b"x")
    assert [entry.key for entry in local.list()] == ["seals"]
    assert [path.name for path in outside.rglob("*.json")] == [Path(KEY).name]


def test_a_file_in_a_folders_place_is_a_mismatch_and_no_outage(local):
    """Who replaces a folder by a file must not make verification give up with 'try again later'."""
    (local.root / "seals").write_bytes(b"")
    with pytest.raises(MismatchError):
        local.get(KEY)


def test_file_names_that_are_no_text_are_listed_as_text(local):
    """A report with a lone surrogate could not be printed or written as JSON."""
    (local.root / "seals").mkdir()
    (local.root / os.fsdecode(b"seals/\xff\xfe.json")).write_bytes(b"")
    (entry,) = local.list()
    assert entry.key.encode() == rb"seals/\xff\xfe.json"


def test_a_vault_reached_through_a_symbolic_link_works(local, tmp_path):
    """Only links inside the vault are refused: where it lies is the user's choice."""
    local.put(KEY, b"one")
    (tmp_path / "link").symlink_to(local.root)
    assert LocalVault(tmp_path / "link", create=True).get(KEY) == b"one"


def test_a_storage_that_refuses_gives_a_sentence(local, tmp_path):
    """A vault whose folder cannot be made, or vanished, is unavailable, and says where and what to do."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match="Check space and permissions"):
        LocalVault(tmp_path / "file" / "vault", create=True)
    (local.root / INCOMING).write_bytes(b"")  # even root cannot write below a file
    with pytest.raises(UnavailableError, match=KEY):
        local.put(KEY, b"one")
    with pytest.raises(MissingError):
        local.get(KEY)


@pytest.mark.parametrize("url", ["{0}/none", "file://{0}/none", "{0}", "s4://bucket/prefix"])
def test_a_place_without_a_vault_is_said_to_be_none(tmp_path, url):
    """Opening to read never makes anything."""
    with pytest.raises(MalformedError):
        open_vault(url.format(tmp_path))
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys, os, time
from auditlib.vault.local import LocalVault
{patch}
LocalVault({root!r}).put({key!r}, b"x" * 3_000_000)
"""
KILLED_AT = {
    "flushing": "def fsync(descriptor):\n"
    "    if os.path.isfile(f'/proc/self/fd/{descriptor}'): print('here', flush=True), time.sleep(60)\n"
    "os.fsync = fsync",
    "linking": "os.link = lambda *names: (print('here', flush=True), time.sleep(60))",
    "tidying": "link = os.link\nos.link = lambda *names: (link(*names), print('here', flush=True), time.sleep(60))",
}


@pytest.mark.parametrize("step", KILLED_AT)
def test_a_killed_writer_leaves_all_or_nothing(local, step):
    """SIGKILL in the middle of put: no partial object is ever visible, and the next writer is not hindered."""
    local.put("trail/000000.json", b"{}")
    code = WRITER.format(patch=KILLED_AT[step], root=str(local.root), key=KEY)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"here\n"
        writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    assert list((local.root / INCOMING).iterdir()) != []
    if step == "tidying":
        assert local.get(KEY, 3_000_000) == b"x" * 3_000_000
    else:
        assert [entry.key for entry in local.list()] == ["trail/000000.json"]
        local.put(KEY, b"whole")
        assert local.get(KEY) == b"whole"


def test_a_full_disk_gives_a_sentence_and_leaves_nothing(local):
    """RLIMIT_FSIZE stands in for the full disk: the write fails half way."""
    local.put("trail/000000.json", b"{}")
    patch = """
import resource, signal
from auditlib.errors import UnavailableError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
sys.excepthook = lambda kind, error, trace: (print(kind.__name__, error, flush=True), os._exit(3))
"""
    code = WRITER.format(patch=patch, root=str(local.root), key=KEY)
    before = snapshot(local)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 3
    assert run.stdout.startswith("UnavailableError") and "Check space" in run.stdout
    assert snapshot(local) == before
    assert list((local.root / INCOMING).iterdir()) == []


def test_two_writers_of_one_key_have_one_winner(local):
    """Many processes put the same key at once: one object, whole, and every other is refused."""
    local.put("trail/000000.json", b"{}")
    code = (
        "import sys\nfrom auditlib.vault import ExistsError\nfrom auditlib.vault.local import LocalVault\n"
        f"vault = LocalVault({str(local.root)!r})\nsys.stdin.readline()\nwins = 0\n"
        "for n in range(40):\n"
        "    try: vault.put(f'seals/000000/{n:012}.json', sys.argv[1].encode() * 1000); wins += 1\n"
        "    except ExistsError: pass\n"
        "print(wins)"
    )
    arguments = [[sys.executable, "-c", code, name] for name in "ab"]
    writers = [subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for line in arguments]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    wins = [int(writer.communicate()[0]) for writer in writers]
    assert sum(wins) == 40
    for n in range(40):
        assert set(local.get(f"seals/000000/{n:012}.json")) in ({ord("a")}, {ord("b")})


def test_a_copy_into_a_file_is_what_reading_gives(local, tmp_path):
    """The same bytes, and the same refusals: nothing there, too large, a link, a pipe, a link on the way."""
    local.put("seals/000000/000000000000.json", b"x" * 100_000)
    (local.root / "seals/000000/000000000001.json").symlink_to(local.root / "seals/000000/000000000000.json")
    os.mkfifo(local.root / "seals/000000/000000000002.json")
    (local.root / "pages").symlink_to(local.root / "seals/000000")
    with (tmp_path / "copy").open("w+b") as copy:
        assert local.copy("seals/000000/000000000000.json", 100_000, copy.fileno()) == 100_000
        copy.seek(0)
        assert copy.read() == local.get("seals/000000/000000000000.json")
        for key, limit, error, says in (
            ("seals/000000/000000000000.json", 99_999, MismatchError, "larger than it may be"),
            ("seals/000000/000000000001.json", 100_000, MismatchError, "no plain file"),
            ("seals/000000/000000000002.json", 100_000, MismatchError, "no plain file"),
            ("seals/000000/000000000003.json", 100_000, MissingError, "no such object"),
            ("pages/000000000000.json", 100_000, MismatchError, "symbolic link"),
        ):
            for read in (lambda: local.get(key, limit), lambda: local.copy(key, limit, copy.fileno())):  # noqa: B023
                with pytest.raises(error, match=says):
                    read()
