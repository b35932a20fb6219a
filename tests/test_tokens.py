"""Tokens: one names a source, only its hash is on disk, and it can be taken back at once."""

import hmac
import os
import stat
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest

from auditlib import tokens as module
from auditlib.errors import MalformedError, UnavailableError
from auditlib.tokens import Tokens, add_token, revoke_tokens

NOW = 1_767_882_727_000_000


def now() -> int:
    return NOW


def test_a_token_names_its_source(tmp_path: Path) -> None:
    """What add_token returns leads to the source, and to no other."""
    first = add_token(tmp_path / "tokens", "billing-api", now=now)
    second = add_token(tmp_path / "tokens", "import:cloudtrail", now=now)
    tokens = Tokens(tmp_path / "tokens")
    assert (tokens.source_of(first), tokens.source_of(second)) == ("billing-api", "import:cloudtrail")
    assert first != second
    assert tokens.source_of("") is None
    assert tokens.source_of(first[:-1]) is None
    assert tokens.source_of(first + "=") is None
    assert tokens.source_of("é\ud800") is None
    assert tokens.source_of("x" * 10_000_000) is None


def test_the_file_holds_hashes_and_no_token(tmp_path: Path) -> None:
    """Who reads the file cannot send as anyone; only its owner can read it at all."""
    path = tmp_path / "tokens"
    token = add_token(path, "billing-api", now=now)
    assert path.read_text() == f"billing-api {sha256(token.encode()).hexdigest()} 2026-01-08T14:32:07Z\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir() if token in entry.read_text()] == []
    assert Tokens(path).source_of(sha256(token.encode()).hexdigest()) is None


def test_a_token_has_256_random_bits(tmp_path: Path) -> None:
    """A plain hash is enough only for what nobody can guess."""
    made = {add_token(tmp_path / "tokens", "billing-api", now=now) for _ in range(20)}
    assert len(made) == 20
    assert {len(token.removeprefix(module.PREFIX)) for token in made} == {43}  # base64 of 32 bytes


def test_revoking_takes_effect_without_a_restart(tmp_path: Path) -> None:
    """A source's tokens, however many, are refused at once; others stay."""
    path = tmp_path / "tokens"
    old, new = (add_token(path, "billing-api", now=now) for _ in range(2))
    other = add_token(path, "web", now=now)
    tokens = Tokens(path)
    assert tokens.source_of(old) == tokens.source_of(new) == "billing-api"
    assert revoke_tokens(path, "billing-api") == 2
    assert tokens.source_of(old) is None
    assert tokens.source_of(new) is None
    assert tokens.source_of(other) == "web"
    assert revoke_tokens(path, "billing-api") == 0
    added = add_token(path, "billing-api", now=now)
    assert tokens.source_of(added) == "billing-api"


@pytest.mark.parametrize(
    "source",
    ["", "auditlib", "auditlib:collector", "auditlib:sealer", "a/b", "Billing", "a b", "a\nb 00", "é", "a" * 96, "a\0"],
)
def test_a_name_that_is_none_or_reserved_gets_no_token(tmp_path: Path, source: str) -> None:
    """Nobody can be given the collector's own name, or a line of the file of their own making."""
    with pytest.raises(MalformedError):
        add_token(tmp_path / "tokens", source, now=now)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    [
        "billing-api",
        "billing-api xyz 2026-01-08T14:32:07Z",
        f"billing-api {'0' * 64} yesterday",
        f"auditlib:collector {'0' * 64} 2026-01-08T14:32:07Z",
        f"billing-api {'0' * 64} 2026-01-08T14:32:07Z more",
        "auditlib_a-token-somebody-pasted-here",
    ],
)
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, line: str) -> None:
    """A line that cannot be read is an error with its number, not a token fewer; its text is not repeated."""
    path = tmp_path / "tokens"
    token = add_token(path, "billing-api", now=now)
    tokens = Tokens(path)
    with path.open("a") as file:
        file.write(f"{line}\n")
    before = path.read_bytes()
    with pytest.raises(MalformedError, match=":2") as caught:
        tokens.source_of(token)
    assert "pasted" not in str(caught.value)
    with pytest.raises(MalformedError):
        Tokens(path)
    with pytest.raises(MalformedError):
        add_token(path, "web", now=now)
    with pytest.raises(MalformedError):
        revoke_tokens(path, "billing-api")
    assert path.read_bytes() == before


def test_a_file_that_is_gone_lets_nobody_in(tmp_path: Path) -> None:
    """What was read before may have been revoked since; when the file is back, so are its tokens."""
    path = tmp_path / "tokens"
    token = add_token(path, "billing-api", now=now)
    tokens = Tokens(path)
    path.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(UnavailableError, match="token add"):
            tokens.source_of(token)
    (tmp_path / "away").rename(path)
    assert tokens.source_of(token) == "billing-api"
    with pytest.raises(UnavailableError):
        Tokens(tmp_path / "never")
    with pytest.raises(UnavailableError):
        add_token(tmp_path / "no" / "folder", "web", now=now)
    with pytest.raises(UnavailableError):
        revoke_tokens(tmp_path / "never", "web")


def test_every_hash_is_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a refusal takes says neither which token is close nor how many stand before it."""
    path = tmp_path / "tokens"
    made = [add_token(path, f"source-{number}", now=now) for number in range(5)]
    tokens = Tokens(path)
    compared: list[bytes] = []
    original = hmac.compare_digest

    def counted(left: bytes, right: bytes) -> bool:
        compared.append(left)
        return original(left, right)

    monkeypatch.setattr(module.hmac, "compare_digest", counted)
    for token in (made[0], made[4], "wrong"):
        compared.clear()
        tokens.source_of(token)
        assert len(compared) == 5


def test_tokens_added_at_once_are_all_kept(tmp_path: Path) -> None:
    """Ten processes and threads that add at the same time lose none of them."""
    path = tmp_path / "tokens"
    code = "import sys\nfrom pathlib import Path\nfrom auditlib.tokens import add_token\n"
    code += "for _ in range(10): print(add_token(Path(sys.argv[1]), sys.argv[2], now=lambda: 0))"
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(path), f"child-{n}"], stdout=subprocess.PIPE, text=True)
        for n in range(2)
    ]
    made: list[tuple[str, str]] = []
    threads = [
        threading.Thread(
            target=lambda n=n: made.extend((f"t-{n}", add_token(path, f"t-{n}", now=now)) for _ in range(5))
        )
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, child in enumerate(children):
        made += [(f"child-{number}", token) for token in child.communicate(timeout=60)[0].split()]
        assert child.returncode == 0
    tokens = Tokens(path)
    assert len(made) == 40
    assert all(tokens.source_of(token) == source for source, token in made)


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file takes the old one's place whole; where that fails, nothing has changed and nothing is left over."""
    path = tmp_path / "tokens"
    token = add_token(path, "billing-api", now=now)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnavailableError, match="No space"):
        add_token(path, "web", now=now)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["tokens", "tokens.lock"]
    assert Tokens(path).source_of(token) == "billing-api"
