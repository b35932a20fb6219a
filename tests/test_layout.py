"""The vault's layout: every key is built and parsed in one place, and leads nowhere else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlib.errors import MalformedError
from auditlib.formats import layout
from auditlib.formats.times import LATEST, parse_time

SHA = "0123456789abcdef" * 4
NUMBERS = st.one_of(st.integers(0, 10**6 - 1), st.sampled_from([0, 1, 1023, 1024, 1025]))


def test_the_keys_of_the_design() -> None:
    """DESIGN 4.6, literally; a page holds 1,024."""
    assert layout.trail_key(0) == "trail/000000.json"
    assert layout.catalog_key(SHA) == f"catalogs/{SHA}.toml"
    day = parse_time("2026-03-01T23:59:59.999999Z")
    assert layout.batch_key(42, day, SHA) == "batches/recorded_date=2026-03-01/000000000042-0123456789abcdef.parquet"
    assert [layout.seal_key(n) for n in (0, 1023, 1024)] == [
        "seals/000000/000000000000.json",
        "seals/000000/000000001023.json",
        "seals/000001/000000001024.json",
    ]
    assert [layout.checkpoint_key(n) for n in (1, 1024, 1025)] == [
        "checkpoints/000000/000000000001",
        "checkpoints/000000/000000001024",
        "checkpoints/000001/000000001025",
    ]
    assert layout.page_key(7) == "pages/000007.jsonl"


@settings(max_examples=200, deadline=None)
@given(NUMBERS, st.integers(0, LATEST))
def test_every_key_that_is_built_is_parsed_and_safe(number: int, recorded: int) -> None:
    """The number comes back, no other kind claims the key, and it is a path below its folder."""
    built = {
        "trail": (layout.trail_key(number), number),
        "catalog": (layout.catalog_key(SHA), int(SHA, 16)),
        "batch": (layout.batch_key(number, recorded, SHA), number),
        "seal": (layout.seal_key(number), number),
        "checkpoint": (layout.checkpoint_key(number + 1), number + 1),
        "page": (layout.page_key(number), number),
    }
    for kind, (key, expected) in built.items():
        assert layout.check_key(key) == key
        assert {other: layout.number_of(other, key) for other in built} == dict.fromkeys(built) | {kind: expected}
        assert key.startswith(layout.KNOWN_PREFIXES)


WRONG = {
    "trail": [
        "trail/0.json",
        "trail/0000000.json",
        "trail/\u0660\u0660\u0660\u0660\u0660\u0660.json",
        "trail/000000.json\n",
        "trail/000000.JSON",
    ],
    "catalog": [f"catalogs/{SHA.upper()}.toml", f"catalogs/{SHA[:-1]}.toml", f"catalogs/{SHA}.toml/x"],
    "batch": [
        "batches/recorded_date=2026-03-01/42-0123456789abcdef.parquet",
        "batches/recorded_date=2026-02-30/000000000042-0123456789abcdef.parquet",
        "batches/recorded_date=1969-12-31/000000000042-0123456789abcdef.parquet",
        "batches/recorded_date=2026-03-\u0660\u0661/000000000042-0123456789abcdef.parquet",
        "batches/recorded_date=2026-03-01/000000000042-0123456789ABCDEF.parquet",
        "batches/recorded_date=2026-03-01/x/000000000042-0123456789abcdef.parquet",
    ],
    "seal": [
        "seals/000001/000000000042.json",
        "seals/000000/000000001024.json",
        "seals/\u0660\u0660\u0660\u0660\u0660\u0660/000000000000.json",
        "seals/000000/000000000042.json.bak",
    ],
    "checkpoint": [
        "checkpoints/000000/000000000000",
        "checkpoints/000000/000000001025",
        "checkpoints/000001/000000001024",
    ],
    "page": [
        "pages/\u0660\u0660\u0660\u0660\u0660\u0660.jsonl",
        "pages/000000.json",
        "pages/0000000.jsonl",
        "x/pages/000000.jsonl",
    ],
}


@pytest.mark.parametrize(("kind", "key"), [(kind, key) for kind, keys in WRONG.items() for key in keys])
def test_a_key_that_nobody_builds_has_no_number(kind: str, key: str) -> None:
    """Strict inverse: two keys never name the same object."""
    assert layout.number_of(kind, key) is None


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(sorted(WRONG)),
    st.sampled_from([layout.trail_key(5), layout.catalog_key(SHA), layout.batch_key(5, 0, SHA)])
    | st.sampled_from([layout.seal_key(5), layout.checkpoint_key(5), layout.page_key(5)]),
    st.integers(0, 80),
    st.text("0123456789/.-= \u0660é\nax", max_size=3),
)
def test_a_key_that_has_a_number_is_the_one_built_from_it(kind: str, key: str, at: int, junk: str) -> None:
    """Whatever is parsed is built again to the same text."""
    key = key[:at] + junk + key[at + len(junk) :]
    number = layout.number_of(kind, key)
    if number is None:
        return
    match = re.search(r"recorded_date=(.{10})/.{12}-(.{16})", key)
    again = {
        "trail": layout.trail_key,
        "catalog": lambda n: layout.catalog_key(f"{n:064x}"),
        "batch": lambda n: layout.batch_key(n, parse_time(match[1] + "T00:00:00Z"), match[2]) if match else "",
        "seal": layout.seal_key,
        "checkpoint": layout.checkpoint_key,
        "page": layout.page_key,
    }[kind](number)
    assert again == key


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "a//b", "a/", "../a", "a/../b", "a/..", ".", "..", "a/./b", "./a", "a\\..\\b", "a\0b",
     "a b", "a\nb", "a\n", "é", "a/\x7f", "x" * 1025, "C:\\x", "\u2024\u2024/a", "\uff0e\uff0e/a"],
)  # fmt: skip
def test_a_key_that_leaves_its_folder_is_refused(key: str) -> None:
    """Traversal, absolute paths, odd characters: none becomes a file name."""
    with pytest.raises(MalformedError, match="object key"):
        layout.check_key(key)


@pytest.mark.parametrize("key", ["a", "a/b.c", "...", "a/..b", "~/x", "cosignatures/000000/x", "x" * 1024])
def test_a_harmless_key_is_let_through(key: str) -> None:
    """Other prefixes are information, not errors (DESIGN 4.6)."""
    assert layout.check_key(key) == key
