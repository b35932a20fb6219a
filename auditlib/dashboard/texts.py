"""Values as texts that people read."""

from __future__ import annotations

from datetime import UTC, datetime

_STRANGE = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C])  # bidi controls


def moment(value: datetime) -> str:
    """2026-03-01 12:00:00, of a time in UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def exact(value: datetime) -> str:
    """The same to the microsecond, with its zone."""
    return value.astimezone(UTC).isoformat(sep=" ", timespec="microseconds").replace("+00:00", " UTC")


def number(value: int) -> str:
    """12,345."""
    return f"{value:,}"


def hashed(value: str) -> str:
    """The beginning of a hash, for the eye; the whole of it stands beside or in the title."""
    return f"{value[:16]}…"


def plain(value: object) -> str:
    """A text without the controls that turn what follows around; they are shown as what they are."""
    text = str(value)
    if not any(ord(sign) in _STRANGE or ord(sign) < 32 or 0x7F <= ord(sign) < 0xA0 for sign in text):
        return text
    return "".join(
        f"[U+{ord(sign):04X}]" if ord(sign) in _STRANGE or ord(sign) < 32 or 0x7F <= ord(sign) < 0xA0 else sign
        for sign in text
    )
