"""The files of one instance, as bytes and names (see spool.py for what they mean).

    000000000001.log
    17 9b1ddc25 {"action":"role.grant","actor":{"id":"u_8842","session":null,"type":"user"},...}

A line is the number, the CRC-32 of the event started from the number, and the canonical event.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

from auditlib.formats.event import MAX_EVENT_BYTES

LINE_OVERHEAD = len(b"9007199254740991 00000000 \n")  # bytes that a line adds to its event

_SEGMENT = re.compile(r"([0-9]{12,16})\.log")
_SENT = re.compile(rb"[0-9]{20}\n")
_LINE = re.compile(rb"([1-9][0-9]{0,15}) ([0-9a-f]{8}) (.+)", re.DOTALL)


def segments_of(home: Path) -> list[int]:
    """The numbers of the first events of an instance's files, in order."""
    return sorted(int(match[1]) for entry in home.iterdir() if (match := _SEGMENT.fullmatch(entry.name)))


def segment_name(first: int) -> str:
    """The file whose first event is number `first`."""
    return f"{first:012}.log"


def last_number(home: Path, segments: list[int]) -> int:
    """The number of the last whole line. A last file without one is emptied: its number is free."""
    if not segments:
        return 0
    path = home / segment_name(segments[-1])
    lines = path.read_bytes().split(b"\n")[:-1]
    found = next((number for number, _ in map(parse_line, reversed(lines)) if number), 0)
    if not found:
        os.truncate(path, 0)
    return found or segments[-1] - 1


def parse_sent(text: bytes) -> int:
    """The number in `sent`; 0 where it was lost, which costs repeats and nothing else."""
    return int(text) if _SENT.fullmatch(text) else 0


def write_line(number: int, event: bytes) -> bytes:
    """One event as it stands in a file, with its newline."""
    return b"%d %08x %s\n" % (number, zlib.crc32(event, number & 0xFFFFFFFF), event)


def parse_line(line: bytes) -> tuple[int, bytes]:
    """A line without its newline -> number and event; number 0 where it is none."""
    match = _LINE.fullmatch(line) if len(line) <= MAX_EVENT_BYTES + LINE_OVERHEAD else None
    if match is None:
        return 0, b""
    number, event = int(match[1]), match[3]
    return (number, event) if write_line(number, event) == line + b"\n" else (0, b"")
