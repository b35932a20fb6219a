"""A long history of many small batches: five years of a batch every five minutes, made quickly and without batches.

Opening is held against a bare loop that reads the same bytes, hashes each seal and parses it with msgspec.
"""

from __future__ import annotations

import base64
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import msgspec

from auditlib.formats import layout, merkle
from auditlib.formats.checkpoint import sign_checkpoint
from auditlib.formats.document import Retention, document_bytes, document_hash
from auditlib.formats.event import RECORD_SCHEMA
from auditlib.formats.seal import NO_PREVIOUS, SEAL_FORMAT, Batch, Counts, Seal, Source, seal_bytes, seal_hash
from auditlib.formats.times import SECOND, format_time, parse_time
from auditlib.history import read_history
from auditlib.pagecache import PageCache, page_cache
from auditlib.sealer import create_trail
from auditlib.vault import Stored
from auditlib.vault.local import LocalVault
from benchmarks.data import CATALOG, KEY
from benchmarks.measure import Row, best, row

EVERY = 300 * SECOND  # microseconds between two seals
FIVE_YEARS = 525_600  # seals
BEGIN = parse_time("2021-01-01T00:00:00Z")
_EVENTS = 60  # a batch


def rows(seals: int = FIVE_YEARS) -> Iterator[Row]:
    with TemporaryDirectory(prefix="auditlib-bench-") as temporary:
        folder = Path(temporary) / "vault"
        make(folder, seals)
        yield from _opening(folder, seals)
        yield _memory(folder, seals)
        yield _listings(folder, seals)
    yield from _faces()


def _opening(folder: Path, seals: int) -> Iterator[Row]:
    """Processor time: the neighbours' work disturbs it least."""
    pages = sorted((folder / layout.PAGES).iterdir())

    def bare() -> float:
        return _taken(lambda: _bare(pages))

    ours, limit = best(lambda: _taken(lambda: _open(folder, seals, None)), bare, rounds=3)
    note = (
        f"{seals:,} seals through their pages, checks 0 to 4; limit: the same pages read, each seal hashed once and "
        "parsed with msgspec. Ours hashes each twice (leaf and chain), matches it with its canonical form, and adds "
        "the tree. Processor time. Aim: 2"
    )
    yield row("opening a long history", ours * 1e6 / seals, limit * 1e6 / seals, "us/seal", note)
    own = {"AUDITLIB_CACHE": str(folder.parent / "cache"), "AUDITLIB_STATE": str(folder.parent / "state")}
    with patch.dict(os.environ, own):
        _open(folder, seals, page_cache())
        ours, limit = best(lambda: _taken(lambda: _open(folder, seals, page_cache())), bare, rounds=3)
    note = "the same where this account opened it before: pages are read and hashed, their columns come from the cache"
    yield row("opening a long history again", ours * 1e6 / seals, limit * 1e6 / seals, "us/seal", note)


def _open(folder: Path, seals: int, judged: PageCache | None) -> None:
    history = read_history(LocalVault(folder), [KEY.verifier], judged=judged)
    assert not history.findings and len(history.seals) == seals, history.findings


def _bare(pages: list[Path]) -> None:
    decode = msgspec.json.Decoder(Seal).decode
    for page in pages:
        for line in page.read_bytes().split(b"\n"):
            if line:
                sha256(line).digest()
                decode(line)


def _taken(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


_PEAK = """
import resource, sys
import auditlib
with auditlib.open(sys.argv[1], keys=sys.argv[2]) as trail:
    trail.count, trail.events(action="role.*").skipped
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _memory(folder: Path, seals: int) -> Row:
    """The peak of a process of its own, the libraries counted."""
    ours = int(_python("-c", _PEAK, str(folder), str(KEY.verifier))) * 1024  # Linux gives KiB, getrusage(2)
    note = f"peak memory of a process that opens {seals:,} seals and chooses batches; limit: the aim"
    return row("memory of a long history", ours / 1e6, 500, "MB", note)


def _listings(folder: Path, seals: int) -> Row:
    """How often the storage is asked for a listing."""
    listings = []

    class Counting(LocalVault):
        def list(self, prefix: str = "") -> Iterator[Stored]:
            listings.append(prefix)
            return super().list(prefix)

        def folders(self, prefix: str) -> Sequence[str]:
            listings.append(prefix)
            return super().folders(prefix)

    read_history(Counting(folder), [KEY.verifier])
    checkpoints = sum(prefix.startswith("checkpoints") for prefix in listings)
    note = f"listings until the newest of {seals:,} checkpoints is found; {len(listings)} to open; limit: the aim"
    return row("listings for the newest checkpoint", checkpoints, 4, "listings", note)


def _faces() -> Iterator[Row]:
    """What a person waits for before anything happens: processor time of whole processes, above bare Python's."""
    for name, aim, command in (
        ("import auditlib", 100, ("-c", "import auditlib")),
        ("auditlib --help", 250, ("-m", "auditlib.cli", "--help")),
    ):
        ours, bare = best(lambda command=command: _child(*command), lambda: _child("-c", "pass"), rounds=7)
        note = f"above `python -c pass`, which takes {bare * 1e3:.0f} ms; processor time; limit: the aim"
        yield row(name, (ours - bare) * 1e3, aim, "ms", note)


def _child(*arguments: str) -> float:
    """Processor seconds of one Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _python(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _python(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


def make(folder: Path, seals: int, *, objects: bool = False) -> None:
    """A vault of so many chained seals whose batches are not there: pages, the newest checkpoint, the last seals.

    `objects` writes each seal and each checkpoint too, for verification. The seals' signatures are filled in: under a
    checkpoint nobody reads them.
    """
    vault = LocalVault(folder, create=True)
    document = create_trail(vault, KEY, Retention(2557, "COMPLIANCE"), CATALOG, now=BEGIN)
    trail = document_hash(document_bytes(document))
    previous, tree = NO_PREVIOUS, merkle.Frontier()
    page: list[bytes] = []
    for number in range(seals):
        data = seal_bytes(_seal(number, previous, trail))
        previous = seal_hash(data)
        tree.append(merkle.leaf_hash(data))
        page.append(data)
        if objects or number >= seals - seals % layout.PAGE:
            _write(folder / layout.seal_key(number), data)
        if objects or number == seals - 1:
            note = sign_checkpoint(KEY.name, number + 1, tree.root(), [KEY])
            _write(folder / layout.checkpoint_key(number + 1), note)
        if len(page) == layout.PAGE:
            _write(folder / layout.page_key(number // layout.PAGE), b"".join(line + b"\n" for line in page))
            page.clear()


def _seal(number: int, previous: str, trail: str) -> Seal:
    begin = BEGIN + number * EVERY
    digest = sha256(b"%d" % number).hexdigest()
    app, first = f"billing-api/{number % 3:x}", number * (_EVENTS // 2)
    grants = {"role.grant": 1} if number % 97 == 0 else {"session.start": 1}
    times = format_time(begin + 1234), format_time(begin + EVERY - 4321)
    return Seal(
        batch=Batch(_EVENTS, layout.batch_key(number, begin + 1234, digest), digest, digest, 9_000 + number % 1000),
        counts=Counts({"audit.heartbeat": 1, "user.login": _EVENTS - 2, **grants}, {"success": _EVENTS}),
        format=SEAL_FORMAT,
        occurred=times,
        origin=KEY.name,
        previous=previous,
        recorded=times,
        schema=RECORD_SCHEMA,
        sealed_at=format_time(begin + EVERY),
        sequence=number,
        signature=base64.b64encode(bytes.fromhex(digest) * 2 + b"\0\0\0\0").decode(),
        sources={
            app: Source(_EVENTS // 2, first + 1, first + _EVENTS // 2),
            "auditlib": Source(1, None, None),
            "idp/a1": Source(_EVENTS // 2 - 1, first + 1, first + _EVENTS // 2 - 1),
        },
        trail=trail,
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
