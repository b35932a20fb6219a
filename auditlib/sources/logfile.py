"""One log file -> raw records: what was found, where, and its exact text.

    trail.json.gz   {"Records":[{...},{...}]}        as CloudTrail delivers it
    export.jsonl    {...}\\n{...}\\n                    one record a line; a bad line costs that line alone
    any.json        [{...},{...}], {...}, or several such texts one after another

The content decides, not the name. Nothing is held in memory past 128 MiB of one JSON text, and a .gz gives at most
2 GiB.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import msgspec

from auditlib.errors import MalformedError, UnavailableError
from auditlib.sources import MAX_REJECT_BYTES, Entry, Reject
from auditlib.sources.files import Found, open_regular
from auditlib.sources.texts import Texts

MAX_TEXT_BYTES = 128 * 1024 * 1024  # bytes of one JSON text, held whole; CloudTrail delivers some MiB
MAX_UNPACKED_BYTES = 2 * 1024 * 1024 * 1024  # bytes that one .gz of many lines may give
HEAD_BYTES = 1024 * 1024  # bytes by which a file is recognised

LOG, FOREIGN = "log", "foreign"
Recognise = Callable[[bytes], str]  # first bytes of a file -> LOG, FOREIGN, or a note why it is skipped

_GZIP_FAULTS = (EOFError, gzip.BadGzipFile, zlib.error)


class LogFile:
    """One file, read once. Iterating gives entries and rejects; then `sha256`, `size` and `note` stand."""

    def __init__(
        self,
        found: Found,
        recognise: Recognise,
        *,
        max_text_bytes: int = MAX_TEXT_BYTES,
        max_unpacked_bytes: int = MAX_UNPACKED_BYTES,
    ) -> None:
        self.name = found.name
        self.sha256: str | None = None
        self.size = 0
        self.note = found.note
        self._path = found.path
        self._recognise = recognise
        self._max_text = max_text_bytes
        self._max_unpacked = max_unpacked_bytes

    def __iter__(self) -> Iterator[Entry | Reject]:
        """Every record of the file in its order. Raises UnavailableError where the file cannot be read."""
        if self.note:
            return
        try:
            with open_regular(self._path) as file:
                stored = _Stored(file)
                head, packed = self._head()
                verdict = self._recognise(head) if head.strip() else LOG
                fault = None
                if verdict == FOREIGN:
                    fault = "this is no log of the format that was asked for."
                elif verdict != LOG:
                    self.note = verdict
                else:
                    try:
                        yield from self._entries(stored, head, packed)
                    except _GZIP_FAULTS as error:
                        fault = f"the gzip file is cut off or damaged ({error}); what follows is not read."
                    except MalformedError as error:
                        fault = str(error)
                stored.drain()
                self.sha256, self.size = stored.digest.hexdigest(), stored.size
                if not head.strip() and fault is None:
                    self.note = "empty"
                if fault is not None:
                    kept = bytes(stored.kept) if stored.size <= MAX_REJECT_BYTES else b""
                    yield Reject(self.name, None, None, fault, kept, self.size, self.sha256)
        except OSError as error:
            raise UnavailableError(
                f"cannot be read: {error.strerror or error}.",
                where=self.name,
                remedy="Allow reading it, or leave it out.",
            ) from None

    def _head(self) -> tuple[bytes, bool]:
        with open_regular(self._path) as file:
            packed = file.read(2) == b"\x1f\x8b"  # RFC 1952 2.3.1
            file.seek(0)
            head = bytearray()
            stream = gzip.GzipFile(fileobj=file) if packed else file
            try:
                while len(head) < HEAD_BYTES and (chunk := stream.read1(64 * 1024)):
                    head += chunk
            except _GZIP_FAULTS:
                pass  # the reading proper meets the same fault and reports it
        return bytes(head), packed

    def _entries(self, stored: _Stored, head: bytes, packed: bool) -> Iterator[Entry | Reject]:
        buffered = io.BufferedReader(stored, 256 * 1024)
        stream: BinaryIO = gzip.GzipFile(fileobj=buffered) if packed else buffered  # type: ignore[assignment]
        if _is_lines(head):
            limit = self._max_unpacked if packed else None
            yield from self._lines(stream, limit)
            return
        data = stream.read(self._max_text + 1)
        if len(data) > self._max_text:
            raise MalformedError(
                f"it holds one JSON text of more than {self._max_text:,} bytes, too much for memory.",
                remedy="If it is a real log, split it, or write one record a line.",
            )
        text = _text(data)
        if not (text is not None and _is_json(data)) and any(map(_is_json_object, data.split(b"\n"))):
            yield from self._lines(io.BytesIO(data), None)
        elif text is None:
            raise MalformedError("it is not UTF-8 text.")
        else:
            yield from Texts(self.name, None, text)

    def _lines(self, stream: BinaryIO, limit: int | None) -> Iterator[Entry | Reject]:
        number = total = 0
        while line := stream.readline(self._max_text + 1):
            number += 1
            total += len(line)
            if len(line) > self._max_text:
                digest, size = hashlib.sha256(line), len(line)
                while not line.endswith(b"\n") and (line := stream.readline(self._max_text)):
                    digest.update(line)
                    size += len(line)
                    _check_total(total + size, limit)
                total += size
                reason = f"the line is longer than {self._max_text:,} bytes."
                yield Reject(self.name, number, None, reason, b"", size, digest.hexdigest())
                continue
            _check_total(total, limit)
            line = line.removesuffix(b"\n")
            if not line.strip():
                continue
            text = _text(line)
            if text is None:
                yield Reject.of(self.name, number, None, "the line is not UTF-8 text.", line)
            elif b'"Records"' not in line and (fault := _json_fault(line)):
                yield Reject.of(self.name, number, None, f"the line is no JSON text: {fault}.", line)
            else:
                yield from Texts(self.name, number, text)


class _Stored(io.RawIOBase):
    """A file that hashes and counts what is read from it, and keeps the first 1 MiB for a reject."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0
        self.kept = bytearray()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self.digest.update(data)
        self.size += len(data)
        if len(self.kept) <= MAX_REJECT_BYTES:
            self.kept += data[: MAX_REJECT_BYTES + 1 - len(self.kept)]
        return len(data)

    def drain(self) -> None:
        """Reads to the end, so that the digest is that of the whole file."""
        while self.read(256 * 1024):
            pass


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _json_fault(data: bytes) -> str | None:
    """What is wrong with it as one JSON text, or None; keys that stand twice are not seen here."""
    try:
        msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"), type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return str(error)
    except RecursionError:
        return "nested too deeply to be read"
    return None


def _is_json(data: bytes) -> bool:
    return _json_fault(data) is None


def _is_json_object(line: bytes) -> bool:
    line = line.strip()
    return line.startswith(b"{") and line.endswith(b"}") and _is_json(line)


def _is_lines(head: bytes) -> bool:
    """True where the first line, or any two, are JSON texts by themselves: then lines are read one by one."""
    lines = [line for line in head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[:-1] if line.strip()]
    if not lines:
        return False
    first = lines[0].strip()
    if first[:1] in {b"{", b"["} and _is_json(first):
        return True
    return sum(map(_is_json_object, lines[:100])) > 1


def _check_total(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise MalformedError(
            f"it unpacks to more than {limit:,} bytes; what follows is not read.",
            remedy="If it is a real log, unpack it and import the unpacked file.",
        )
