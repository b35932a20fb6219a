"""JSON texts -> raw records, each with the exact text it came from.

    {"Records":[{...},{...}]}    [{...},{...}]    {...}    or several such texts one after another

- A key that stands twice in one object makes the record a reject. JSON readers disagree on which one counts
  (most take the last), so a forged record could show one thing to the importer and another to the auditor.
- Integers past 2^53 and numbers that no double holds become strings of their digits: nothing is rounded.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from auditlib.formats.canonical import MAX_INTEGER
from auditlib.sources import Entry, Reject

MAX_FAULTS = 1000  # unreadable records of one JSON text; past that the rest is one reject

_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[\]{}]', re.DOTALL)
_SCALAR_END = re.compile(r"[,\]}\n]")


class Texts:
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
