"""Where everything lies in a vault: the one module that builds and parses keys (DESIGN 4.6).

trail/000000.json
catalogs/<sha256>.toml
batches/recorded_date=2026-03-01/000000000042-<first 16 hex of sha256>.parquet
seals/000000/000000000042.json
checkpoints/000000/000000000043
pages/000000.jsonl
packets/<packet digest>/packet.zip
"""

from __future__ import annotations

import re

from auditlib.errors import MalformedError
from auditlib.formats.times import format_time, parse_time

PAGE = 1024  # seals a page, DESIGN 4.6
TRAIL, CATALOGS, BATCHES, SEALS, CHECKPOINTS, PAGES, PACKETS = (
    "trail/",
    "catalogs/",
    "batches/",
    "seals/",
    "checkpoints/",
    "pages/",
    "packets/",
)
KNOWN_PREFIXES = (TRAIL, CATALOGS, BATCHES, SEALS, CHECKPOINTS, PAGES, PACKETS)
MAX_KEY_CHARS = 1024  # characters, the S3 limit on object keys

_KEY = re.compile(r"(?!/)[!-~]+(?<!/)", re.ASCII)
_SHAPES = {
    "trail": re.compile(r"trail/(\d{6})\.json", re.ASCII),
    "catalog": re.compile(r"catalogs/([0-9a-f]{64})\.toml"),
    "batch": re.compile(r"batches/recorded_date=(\d{4}-\d\d-\d\d)/(\d{12})-[0-9a-f]{16}\.parquet", re.ASCII),
    "seal": re.compile(r"seals/(\d{6})/(\d{12})\.json", re.ASCII),
    "checkpoint": re.compile(r"checkpoints/(\d{6})/(\d{12})", re.ASCII),
    "page": re.compile(r"pages/(\d{6})\.jsonl", re.ASCII),
    "packet": re.compile(r"packets/([0-9a-f]{64})/packet\.zip"),
}


def trail_key(n: int) -> str:
    """The key of trail document n."""
    return f"{TRAIL}{n:06}.json"


def catalog_key(sha256: str) -> str:
    """The key of a catalogue, named by its hash."""
    return f"{CATALOGS}{sha256}.toml"


def batch_key(sequence: int, recorded: int, sha256: str) -> str:
    """The key of a batch: its first `recorded_at` (microseconds) gives the date."""
    return f"{BATCHES}recorded_date={format_time(recorded)[:10]}/{sequence:012}-{sha256[:16]}.parquet"


def seal_key(sequence: int) -> str:
    """The key of a seal."""
    return f"{SEALS}{sequence // PAGE:06}/{sequence:012}.json"


def checkpoint_key(size: int) -> str:
    """The key of the checkpoint over `size` (at least 1) seals."""
    return f"{CHECKPOINTS}{(size - 1) // PAGE:06}/{size:012}"


def page_key(page: int) -> str:
    """The key of a full page of seals."""
    return f"{PAGES}{page:06}.jsonl"


def packet_key(digest: str) -> str:
    """The key of a delivered packet, named by its packet digest."""
    return f"{PACKETS}{digest}/packet.zip"


def number_of(kind: str, key: str) -> int | None:
    """The n, sequence, size or page that a key of this kind names; None where it is not exactly such a key."""
    match = _SHAPES[kind].fullmatch(key)
    if match is None:
        return None
    if kind == "batch" and not _is_date(match.group(1)):
        return None
    number = int(match.group(match.lastindex or 1), 16 if kind in ("catalog", "packet") else 10)
    if kind == "seal" and seal_key(number) != key:
        return None
    if kind == "checkpoint" and (number == 0 or checkpoint_key(number) != key):
        return None
    return number


def _is_date(text: str) -> bool:
    try:
        parse_time(f"{text}T00:00:00Z")
    except MalformedError:
        return False
    return True


def check_key(key: str) -> str:
    """A key that is safe as a path below a folder; MalformedError for `..`, empty parts, odd characters."""
    if len(key) > MAX_KEY_CHARS or not _KEY.fullmatch(key) or "\\" in key:
        raise MalformedError(f"{key[:120]!r} is no object key.")
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise MalformedError(f"{key[:120]!r} is no object key: it leaves its folder.")
    return key
