"""What was recorded and not yet answered for, on this machine's disk: one folder per instance, append only.

    spool/
      7f3a9c01/             an instance: one source_seq from 1 without gaps, held by one process at a time
        000000000001.log    events 1, 2, ... one a line: number, CRC-32, canonical event
        000000000412.log    the next file; a file is never appended to by a second process
        sent                number of the last event answered for; its flock is the hold on the instance
        aside.log           events that the collector cannot take even alone, for a person to look at
        000000000001.damaged    a finished file in which some line could not be read

    17 9b1ddc25 {"action":"role.grant","actor":{"id":"u_8842","session":null,"type":"user"},...}

Plain files, not SQLite: a database handle carried through os.fork endangers the parent's database, and the database's
checkpoints would fall into a caller's record().

Commit point: the write of the line's last byte (durability "disk": its fdatasync). A crash before it leaves at most a
line without an end, whose record() never returned; the next process ignores it and begins a new file with that number.
What is sent was flushed to disk first, so a power cut cannot make a number be used twice. Losing `sent` costs repeats.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from auditlib.client.lines import (
    LINE_OVERHEAD,
    last_number,
    parse_line,
    parse_sent,
    segment_name,
    segments_of,
    write_line,
)
from auditlib.errors import UnavailableError

SEGMENT_BYTES = 1024 * 1024  # bytes of one file, after which the next is begun; what is sent is freed file by file
MIN_SPOOL_BYTES = 1024 * 1024  # bytes; room for several events of MAX_EVENT_BYTES
RUN_BYTES = 2 * 1024 * 1024  # bytes read, and sent, at once: half of what a collector takes


class Run(msgspec.Struct, frozen=True):
    """Events that follow one another: the number of the first, their canonical bytes, and where each line ends."""

    first: int
    events: list[bytes]
    ends: list[int]


class _End(NamedTuple):
    """Where the next line goes: the file begun last, its length, the last number, the file's descriptor (-1: none)."""

    segment: int
    length: int
    last: int
    writer: int


class Spool:
    """One instance, held by this process. Any thread may append; one thread at a time reads and confirms."""

    def __init__(self, home: Path, hold: int, *, disk: bool, limit: int, report: Callable[[str], None]) -> None:
        self.instance = home.name
        self._home, self._hold, self._disk, self._limit, self._report = home, hold, disk, limit, report
        self._segment_bytes = min(SEGMENT_BYTES, limit // 8)
        self._lock = threading.RLock()  # guards the fields up to _closed
        self._segments = segments_of(home)
        self._sent = parse_sent(os.pread(hold, 32, 0))
        if self._segments:
            self._sent = max(self._sent, self._segments[0] - 1)
        last = max(self._sent, last_number(home, self._segments))
        self._bytes = sum((home / segment_name(first)).stat().st_size for first in self._segments)
        self._end = _End(0, 0, last, -1)  # replaced whole: a reader needs no lock, an interrupt leaves no half of it
        self._busy = self._refusing = self._closed = False
        self._disk_lock = threading.RLock()  # taken after _lock; guards the two below and the end of a file
        self._on_disk = self._not_on_disk = last
        self._offset = 0  # the reader's place in the oldest file
        self._listed = 0  # the newest file whose name the reader knows to be on disk
        self._missing = 0  # the event before which the reader has reported a gap
        self._damaged: set[int] = set()
        self._directory = os.open(home, os.O_RDONLY | os.O_DIRECTORY)

    @property
    def last(self) -> int:
        """The number of the last event recorded."""
        return self._end.last

    @property
    def sent(self) -> int:
        """The number of the last event answered for."""
        return self._sent

    def append(self, event: bytes) -> int:
        """Keep one canonical event and return its number; UnavailableError where it is not kept (a full spool or disk).

        With durability "disk" an error of the disk itself can come after the line was written: then it is unknown
        whether the event survives, and it may still be sent.
        """
        with self._lock:
            if self._busy:  # the lock is this thread's own: a signal handler or finaliser, in the midst of a line
                raise UnavailableError("record() cannot be called from a signal handler that interrupted record().")
            try:
                self._busy = True
                number = self._append(event)
            except OSError as error:
                raise self._unavailable(error) from None
            finally:
                self._busy = False
        if self._disk:
            self._to_disk(number)
        return number

    def check_room(self, size: int) -> None:
        """UnavailableError where an event of `size` bytes does not fit any more."""
        if self._refusing:
            raise UnavailableError("the client is closed; nothing more is recorded.")
        if self._bytes + size + LINE_OVERHEAD > self._limit:
            raise UnavailableError(
                f"the audit spool is full: {self.last - self._sent:,} events wait for the collector.",
                where=str(self._home),
                remedy="See that the collector can be reached, or give the client a larger max_spool_bytes.",
            )

    def read(self, limit: int) -> Run:
        """The oldest events not yet answered for, at most `limit` and RUN_BYTES; they are on disk when this returns."""
        while self._segments:
            segment, end, before = self._segments[0], self._end, self._offset
            run = self._read(segment, end, limit)
            if run.events:
                self._note_gap(run)
                return run
            if self._offset == before:  # nothing more is in this file
                if segment == end.segment or len(self._segments) == 1:
                    break  # the last file is kept although all was sent: its name carries the number
                self._drop(segment)
        return Run(self._sent + 1, [], [])

    def confirm(self, run: Run, count: int) -> None:
        """The first `count` events of the run were answered for, for good."""
        self._offset = run.ends[count - 1]
        self._sent = run.first + count - 1
        with suppress(OSError):  # an older number here only makes the collector see repeats
            os.pwrite(self._hold, b"%020d\n" % self._sent, 0)

    def set_aside(self, run: Run) -> Path:
        """Copy the first event of the run to aside.log, durably, so that it can be confirmed and others go on."""
        path = self._home / "aside.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            line = write_line(run.first, run.events[0])
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.fsync(self._directory)
        return path

    def refuse(self) -> None:
        """Take no event any more."""
        self._refusing = True

    def close(self) -> None:
        """Let go of the instance; another process may go on with it."""
        with self._lock, self._disk_lock:
            if self._closed:
                return
            self._closed = True
            if self._disk and self._end.writer >= 0:
                with suppress(OSError):  # whoever still waits for it meets a closed file, and so an error
                    os.fdatasync(self._end.writer)
                    self._on_disk = self.last
            self.abandon()

    def abandon(self) -> None:
        """Close the descriptors and nothing else: what a forked child does with its copies of them."""
        self._closed = self._refusing = True
        for descriptor in (self._end.writer, self._directory, self._hold):
            with suppress(OSError):
                os.close(descriptor)
        self._end = self._end._replace(writer=-1)
        self._directory = self._hold = -1

    def _append(self, event: bytes) -> int:
        self.check_room(len(event))
        if self._end.writer < 0 or self._end.length >= self._segment_bytes:
            self._begin(self.last + 1)
        segment, length, last, writer = self._end
        line = write_line(last + 1, event)
        try:
            if os.pwrite(writer, line, length) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._end = _End(segment, length + len(line), last + 1, writer)
        except BaseException:  # an interrupt as much as a full disk: the next line is written over this one
            with suppress(OSError):
                os.ftruncate(writer, self._end.length)
            raise
        self._bytes += len(line)
        return last + 1

    def _begin(self, number: int) -> None:
        """Begin the file of event `number`; the one before ends with the last event that counts."""
        with self._disk_lock:
            old = self._end.writer
            if old >= 0:
                os.ftruncate(old, self._end.length)
                if self._disk:
                    os.fdatasync(old)
                    self._on_disk = self.last
            # Where a file of this name is there, a crash came right after it was begun: it is empty.
            fresh = os.open(segment_name(number), os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=self._directory)
            try:
                if self._disk:
                    os.fsync(self._directory)
                if number not in self._segments:
                    self._segments.append(number)
                self._end = _End(number, 0, number - 1, fresh)
            except BaseException:
                os.close(fresh)
                raise
            if old >= 0:
                os.close(old)

    def _to_disk(self, number: int) -> None:
        """Return when event `number` is on disk; one fdatasync serves all threads that wait for it."""
        with self._disk_lock:
            if self._on_disk >= number:
                return
            _, _, last, writer = self._end
            try:
                if number <= self._not_on_disk:  # after a failure Linux calls the lost pages clean: believe no retry
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                os.fdatasync(writer)
                self._on_disk = max(last, self._on_disk)
            except OSError as error:
                self._not_on_disk = max(last, self._not_on_disk)
                raise self._unavailable(error) from None

    def _read(self, segment: int, end: _End, limit: int) -> Run:
        descriptor = os.open(segment_name(segment), os.O_RDONLY, dir_fd=self._directory)
        try:
            length = end.length if segment == end.segment else os.fstat(descriptor).st_size
            data = os.pread(descriptor, min(RUN_BYTES, length - self._offset), self._offset)
            if data:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if data and segment > self._listed:
            os.fsync(self._directory)
            self._listed = segment
        run, position = Run(self._sent + 1, [], []), self._offset
        for line in data.split(b"\n")[:-1]:  # what follows the last newline is no line, or not a whole one
            position += len(line) + 1
            number, event = parse_line(line)
            if run.events:
                if number != run.first + len(run.events):
                    break
            elif number <= self._sent:  # sent before, or 0: it cannot be read
                self._offset = position
                if not number:
                    self._damaged.add(segment)
                continue
            else:
                run = Run(number, [], [])
            if number > end.last:
                break
            run.events.append(event)
            run.ends.append(position)
            if len(run.events) == limit:
                break
        return run

    def _note_gap(self, run: Run) -> None:
        if run.first > self._sent + 1 and run.first != self._missing:
            self._missing = run.first
            self._report(
                f"{self._home}: the events {self._sent + 1} to {run.first - 1} cannot be read and were not sent: "
                f"the disk or a power cut lost them. What is left of them is kept in a file that ends in .damaged."
            )

    def _drop(self, segment: int) -> None:
        os.fsync(self._directory)  # the next file's name carries the numbers on: it must be there before this one goes
        path = self._home / segment_name(segment)
        size = path.stat().st_size
        if segment in self._damaged:
            path.rename(path.with_suffix(".damaged"))
        else:
            path.unlink()
        with self._lock:
            self._segments.remove(segment)
            self._bytes -= size
            self._offset = 0

    def _unavailable(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"the event cannot be kept in the audit spool ({error.strerror}).",
            where=str(self._home),
            remedy="Make room on this disk, or give the client a spool folder that can be written.",
        )
