"""Files and folders -> raw records: what was found, where, and its exact text.

    trail.json.gz   {"Records":[{...},{...}]}        as CloudTrail delivers it
    export.jsonl    {...}\\n{...}\\n                    one record a line; a bad line costs that line alone
    any.json        [{...},{...}], {...}, or several such texts one after another

The content decides, not the name; by the name only the files of a folder are chosen. Input is hostile:

- A key that stands twice in one object makes the record a reject. JSON readers disagree on which one counts
  (most take the last), so a forged record could show one thing to the importer and another to the auditor.
- Integers past 2^53 and numbers that no double holds become strings of their digits: nothing is rounded.
- Nothing is held in memory past 128 MiB of one JSON text, and a .gz gives at most 2 GiB.
- In a folder no symbolic link is followed and nothing but regular files is opened.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from auditlib.errors import MalformedError, UnavailableError
from auditlib.formats.canonical import MAX_INTEGER
from auditlib.sources import MAX_REJECT_BYTES, Entry, Paths, Reject

MAX_TEXT_BYTES = 128 * 1024 * 1024  # bytes of one JSON text, held whole; CloudTrail delivers some MiB
MAX_UNPACKED_BYTES = 2 * 1024 * 1024 * 1024  # bytes that one .gz of many lines may give
HEAD_BYTES = 1024 * 1024  # bytes by which a file is recognised
MAX_FAULTS = 1000  # unreadable records of one JSON text; past that the rest is one reject
SUFFIXES = (".json", ".jsonl", ".ndjson", ".log")  # each also with .gz

LOG, FOREIGN = "log", "foreign"
Recognise = Callable[[bytes], str]  # first bytes of a file -> LOG, FOREIGN, or a note why it is skipped

_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
_SCALAR_END = re.compile(r"[,\]}\n]")
_GZIP_FAULTS = (EOFError, gzip.BadGzipFile, zlib.error)


class Found(msgspec.Struct, frozen=True):
    """One file to read: its path, the name it goes by, its size; `note` says why it is not to be opened."""

    path: Path
    name: str
    size: int
    note: str | None = None


def find(paths: Paths) -> list[Found]:
    """Files and folders -> the files below them, in the order given and by name inside a folder.

    Raises MalformedError for a path that is not there or a folder without a log. A file given by name is read
    whatever its suffix; a file reached twice is read once.
    """
    found: list[Found] = []
    seen: set[tuple[int, int]] = set()
    for given in paths:
        path = Path(given)
        try:
            status = path.stat()
        except FileNotFoundError:
            raise MalformedError(
                "there is no such file or folder.",
                where=str(path),
                remedy="Give the folder that holds the logs.",
            ) from None
        except OSError as error:
            raise UnavailableError(f"cannot be read: {error.strerror}.", where=str(path)) from None
        if stat.S_ISDIR(status.st_mode):
            below = list(_below(path))
            if all(file.note for file in below):
                raise MalformedError(
                    f"no log is in this folder: no name ends in {', '.join(SUFFIXES)}, with or without .gz.",
                    where=str(path),
                    remedy="Give the folder that holds the logs, or name the file itself.",
                )
        elif stat.S_ISREG(status.st_mode):
            below = [Found(path.resolve(), _name(path.name), status.st_size)]
        else:
            raise MalformedError("is neither a file nor a folder.", where=str(path))
        for file in below:
            key = _identity(file.path)
            if key not in seen:
                seen.add(key)
                found.append(file)
    if not found:
        raise MalformedError("no path was given.", remedy="Name the files or folders to import.")
    return found


def create_rejects(path: str | os.PathLike[str]) -> BinaryIO:
    """An empty file for rejects that its owner alone can read: it holds what was found, verbatim."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        os.fchmod(handle, 0o600)  # the file may have been there with a wider mode
    except OSError as error:
        raise UnavailableError(f"cannot be written: {error.strerror}.", where=str(path)) from None
    return os.fdopen(handle, "wb")


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
            with _open(self._path) as file:
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
        with _open(self._path) as file:
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
            yield from _Texts(self.name, None, text)

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
                yield from _Texts(self.name, number, text)


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


class _Texts:
    """JSON texts one after another -> entries and rejects, each with the exact text it came from."""

    def __init__(self, file: str, line: int | None, text: str) -> None:
        self._file = file
        self._line = line
        self._text = text
        self._at = 0
        self._index = 0
        self._single = line is not None  # the line alone says where: no index
        self._faults: list[str] = []
        self._refused = 0
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._pairs,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=self._constant,
        )

    def __iter__(self) -> Iterator[Entry | Reject]:
        holds_records = '"Records"' in self._text
        while self._space() < len(self._text):
            start, first = self._at, self._text[self._at]
            if first == "[":
                self._at += 1
                self._single = False
                yield from self._list()
            elif first == "{" and holds_records:
                yield from self._container(start)
            else:
                yield self._one()
            if self._refused > MAX_FAULTS:
                yield self._rest(f"more than {MAX_FAULTS:,} unreadable records; the rest is not read.")

    def _list(self) -> Iterator[Entry | Reject]:
        refused = False
        while True:
            if self._space() >= len(self._text):
                if not refused:
                    yield self._rest("the text ends before the list of records does.")
                return
            if self._text[self._at] == "]":
                self._at += 1
                return
            item = self._one()
            refused = isinstance(item, Reject)
            yield item
            if self._space() < len(self._text) and self._text[self._at] == ",":
                self._at += 1
            elif self._at < len(self._text) and self._text[self._at] != "]":
                yield self._rest("no valid JSON follows the record before it.")
                return
            if self._refused > MAX_FAULTS:
                return

    def _container(self, start: int) -> Iterator[Entry | Reject]:
        """`{"Records": [...]}`; every array of that name is read, and what stands beside it is a reject."""
        others: list[str] = []
        found = False
        self._at += 1
        while True:
            key_at = self._at
            try:
                if self._text[self._space()] == "}":
                    self._at += 1
                    break
                key_at = self._at
                key, self._at = self._decoder.raw_decode(self._text, self._at)
                if not isinstance(key, str) or self._text[self._space()] != ":":
                    raise ValueError
                self._at += 1
                self._space()
                if key == "Records" and self._text[self._at] == "[":
                    found = True
                    self._single = False
                    self._at += 1
                    yield from self._list()
                else:
                    _, self._at = self._decoder.raw_decode(self._text, self._at)
                    others.append(self._text[key_at : self._at])
                if self._text[self._space()] == ",":
                    self._at += 1
                elif self._text[self._at] != "}":
                    raise ValueError
            except (ValueError, IndexError, RecursionError):
                if found:
                    if self._at < len(self._text):
                        self._at = key_at if self._at < key_at else self._at
                        yield self._rest("no valid JSON follows the list of records.")
                    return
                break
        if not found:  # a record that merely mentions the word
            self._at = start
            yield self._one()
        elif others:
            reason = "this stands beside the list of records and is not read."
            yield Reject.of(self._file, self._line, None, reason, f"{{{','.join(others)}}}".encode())

    def _one(self) -> Entry | Reject:
        start, fault = self._at, ""
        self._faults.clear()
        value: Any = None
        try:
            value, self._at = self._decoder.raw_decode(self._text, start)
        except json.JSONDecodeError as error:
            fault = f"not valid JSON: {error.msg} at character {error.pos}."
            self._at = _skip(self._text, start)
        except RecursionError:
            fault = "JSON nested too deeply to be read."
            self._at = _skip(self._text, start)
        raw = self._text[start : self._at].encode()
        index = None if self._single else self._index
        self._index += 1
        if fault or self._faults:
            self._refused += 1
            return Reject.of(self._file, self._line, index, fault or self._faults[0], raw)
        return Entry(self._file, self._line, index, raw, value)

    def _rest(self, reason: str) -> Reject:
        raw = self._text[self._at :].encode()
        self._at = len(self._text)
        return Reject.of(self._file, self._line, None if self._single else self._index, reason, raw)

    def _space(self) -> int:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            self._faults.append(f"the key {twice[:80]!r} stands twice in one JSON object.")
        return value

    def _constant(self, text: str) -> None:
        self._faults.append(f"{text} is not JSON.")


def _below(folder: Path) -> Iterator[Found]:
    names: list[Found] = []
    try:
        for parent, folders, files in os.walk(folder, followlinks=False, onerror=_raise):
            for name in files + [name for name in folders if (Path(parent) / name).is_symlink()]:
                path = Path(parent) / name
                status = path.lstat()
                note = None
                if stat.S_ISLNK(status.st_mode):
                    note = "a symbolic link; not followed"
                elif not stat.S_ISREG(status.st_mode):
                    note = "not a regular file"
                elif not name.lower().removesuffix(".gz").endswith(SUFFIXES):
                    note = "not a log by its name"
                names.append(Found(path, _name(path.relative_to(folder).as_posix()), status.st_size, note))
    except OSError as error:
        raise UnavailableError(f"cannot be read: {error.strerror}.", where=str(folder)) from None
    return iter(sorted(names, key=lambda file: file.name))


def _raise(error: OSError) -> None:
    raise error


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _name(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _open(path: Path) -> io.BufferedReader:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    file = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise OSError(0, "it is no longer a regular file")
    return file


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


def _skip(text: str, at: int) -> int:
    """Where the unreadable value at `at` ends: at its matching bracket, strings aside, or with the text."""
    if text[at] not in "[{":
        match = _SCALAR_END.search(text, at + 1)
        return match.start() if match else len(text)
    level = 0
    for match in _TOKEN.finditer(text, at):
        if match[0] in "[{":
            level += 1
        elif match[0] in "]}":
            level -= 1
            if level == 0:
                return match.end()
    return len(text)


def _integer(text: str) -> int | str:
    if len(text) < 16:
        return int(text)
    value = int(text) if len(text) < 20 else MAX_INTEGER + 1
    return value if -MAX_INTEGER <= value <= MAX_INTEGER else text


def _number(text: str) -> float | str:
    value = float(text)
    return value if -MAX_INTEGER <= value <= MAX_INTEGER else text
