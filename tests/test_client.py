"""The client: what record() returned for is delivered as it was recorded, whatever happens to the process."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from client_programs.loopback_collector import Answer, Collector
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from auditlib.client import Client
from auditlib.client.exchange import MAX_ANSWER_BYTES
from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.formats.event import MAX_CONTEXT_BYTES, Actor, Target

TOKEN = "test-token-4711"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
RECORDER = Path(__file__).parent / "client_programs" / "recorder.py"
GRANT: dict[str, Any] = {
    "action": "role.grant",
    "actor": "user:u_8842",
    "target": "user:u_9013",
    "context": {"granted_role": "admin"},
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    yield server
    server.stop()


class Told(list[str]):
    """What the client said, for a test to wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._said = threading.Condition()

    def __call__(self, text: str) -> None:
        with self._said:
            self.append(text)
            self._said.notify_all()

    def wait(self, part: str) -> str:
        with self._said:
            assert self._said.wait_for(lambda: any(part in text for text in self), 30), (part, list(self))
            return next(text for text in self if part in text)


def recorder(url: str, spool: Path, journal: Path, threads: int, events: int, durability: str = "process") -> Any:
    arguments = [url, spool, journal, threads, events, durability]
    command = [sys.executable, RECORDER, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def go(*processes: Any) -> None:
    for process in processes:
        process.stdin.write(b"go\n")
        process.stdin.flush()


def acknowledged(journal: Path) -> dict[str, tuple[int, int, int]]:
    lines = journal.read_text().splitlines() if journal.exists() else []
    return {line.split()[0]: tuple(map(int, line.split()[1:])) for line in lines if line.count(" ") == 3}


def assert_delivered(collector: Collector, journal: Path, in_flight: int) -> None:
    """Everything acknowledged is there as recorded; at most `in_flight` more; numbers 1..n for each instance."""
    kept, expected = collector.contexts(), acknowledged(journal)
    assert expected
    assert not expected.keys() - kept.keys()
    assert len(kept) - len(expected) <= in_flight
    for event_id, (pid, thread, turn) in expected.items():
        text = {"granted_role": "admin", "pid": pid, "thread": thread, "turn": turn, "text": "é\n" * 9}
        assert kept[event_id] == text
    for numbers in collector.instances().values():
        assert numbers == list(range(1, len(numbers) + 1))


def drain(collector: Collector, spool: Path, journal: Path) -> None:
    """One more process, which sends all that is left."""
    with recorder(collector.url, spool, journal, 1, 0) as process:
        go(process)
        assert process.wait(60) == 0
    collector.wait(lambda: acknowledged(journal).keys() <= {event_id for _, event_id in collector.events})


# ---------------------------------------------------------------------------------------------- crashes


@pytest.mark.parametrize("durability", ["process", "disk"])
@pytest.mark.parametrize("up", [True, False], ids=["while sending", "while the collector is down"])
def test_a_killed_process_loses_nothing_that_was_acknowledged(
    collector: Collector, tmp_path: Path, durability: str, up: bool
) -> None:
    """SIGKILL at random moments, again and again in one spool: all that record() returned for arrives, gapless."""
    chance, threads, kills = random.Random(f"{durability} {up}"), 3, 4
    journal = tmp_path / "journal"
    if not up:
        collector.stop()
    for _ in range(kills):
        with recorder(collector.url, tmp_path / "spool", journal, threads, 1_000_000, durability) as process:
            go(process)
            seen = len(acknowledged(journal))
            more = chance.randrange(1, 800 if durability == "process" else 100)
            while len(acknowledged(journal)) < seen + more:
                assert process.poll() is None
            os.kill(process.pid, signal.SIGKILL)
    if not up:
        collector.start()
    drain(collector, tmp_path / "spool", journal)
    assert_delivered(collector, journal, threads * kills)
    assert len(collector.instances()) == 1, "a restarted process goes on with the instance and its numbers"


def test_processes_side_by_side_have_instances_of_their_own(collector: Collector, tmp_path: Path) -> None:
    """Three at once, one of them killed: no number is shared, none is missing, and the others send what it left."""
    journals = [tmp_path / f"journal{n}" for n in range(3)]
    processes = [recorder(collector.url, tmp_path / "spool", journal, 2, 400) for journal in journals]
    go(*processes)
    while len(acknowledged(journals[0])) < 20:
        assert processes[0].poll() is None
    os.kill(processes[0].pid, signal.SIGKILL)
    for process in processes:
        with process:
            process.wait(60)
    journal = tmp_path / "all"
    drain(collector, tmp_path / "spool", journal)
    journal.write_text("".join(path.read_text() for path in journals if path.exists()))
    collector.wait(lambda: acknowledged(journal).keys() <= {event_id for _, event_id in collector.events})
    assert_delivered(collector, journal, 2)
    assert len(collector.instances()) == 3


def test_a_line_cut_off_by_a_crash_is_no_event(collector: Collector, tmp_path: Path) -> None:
    """Half a line at the end of a file was never acknowledged; its number goes to the next event."""
    with Client(NOWHERE, TOKEN, spool=tmp_path, problems=Told()) as audit:
        kept = [audit.record(**GRANT) for _ in range(3)]
        home = tmp_path / audit.status().instance
        audit.close(0)
    [path] = home.glob("*.log")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + b"4" + lines[2][1:-20])
    with Client(collector.url, TOKEN, spool=tmp_path) as audit:
        kept.append(audit.record(**GRANT))
        assert audit.flush(30)
    assert collector.numbers[f"billing-api/{home.name}"] == dict(enumerate(kept, 1))


def test_a_damaged_line_is_told_kept_and_stands_out_as_a_gap(collector: Collector, tmp_path: Path) -> None:
    """Bit rot in the spool: the others go with their own numbers, the file is kept, and the client says so."""
    told = Told()
    with Client(NOWHERE, TOKEN, spool=tmp_path, problems=Told()) as audit:
        for _ in range(5):
            audit.record(**GRANT)
        home = tmp_path / audit.status().instance
        audit.close(0)
    [path] = home.glob("*.log")
    path.write_bytes(path.read_bytes().replace(b"\n3 ", b"\n3 x", 1))
    with Client(collector.url, TOKEN, spool=tmp_path, problems=told) as audit:
        audit.record(**GRANT)
        assert audit.flush(30)
        told.wait("the events 3 to 3 cannot be read")
        audit.record(**GRANT)
        assert audit.flush(30)
    assert collector.instances() == {home.name: [1, 2, 4, 5, 6, 7]}
    assert [kept.suffix for kept in home.glob("000000000001.*")] == [".damaged"]


def test_losing_the_note_of_what_was_sent_repeats_and_never_renumbers(collector: Collector, tmp_path: Path) -> None:
    """`sent` may be lost in a power cut: the collector sees repeats, and no number is used twice."""
    for lost in (b"", b"\0" * 21, b"x" * 400):
        with Client(collector.url, TOKEN, spool=tmp_path) as audit:
            audit.record(**GRANT)
            assert audit.flush(30)
            home = tmp_path / audit.status().instance
        (home / "sent").write_bytes(lost)
    assert collector.instances() == {home.name: [1, 2, 3]}


def test_the_name_of_an_empty_file_carries_the_number(collector: Collector, tmp_path: Path) -> None:
    """A crash right after a file was begun, everything before it sent and gone, the note lost: no number again."""
    home = tmp_path / "7f3a9c01"
    home.mkdir(mode=0o700)
    (home / "000000000412.log").write_bytes(b"412 cut off")
    with Client(collector.url, TOKEN, spool=tmp_path) as audit:
        audit.record(**GRANT)
        assert audit.flush(30)
    assert collector.instances() == {"7f3a9c01": [412]}


def test_numbers_go_on_when_the_spool_is_empty(collector: Collector, tmp_path: Path) -> None:
    """Restart after restart with everything sent: one instance, numbers without a gap, one file kept."""
    for _ in range(5):
        with Client(collector.url, TOKEN, spool=tmp_path) as audit:
            audit.record(**GRANT)
            assert audit.flush(30)
    [numbers] = collector.instances().values()
    assert numbers == [1, 2, 3, 4, 5]


# ---------------------------------------------------------------------------------------------- fork, threads, asyncio


def test_a_forked_child_is_an_instance_of_its_own(collector: Collector, tmp_path: Path) -> None:
    """os.fork in the midst of recording threads: both sides go on, and share neither number, file nor lock."""
    audit = Client(collector.url, TOKEN, spool=tmp_path)
    busy = [threading.Thread(target=lambda: [audit.record(**GRANT) for _ in range(300)]) for _ in range(2)]
    for thread in busy:
        thread.start()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(50):
                    audit.record(**GRANT)
                os._exit(0 if audit.flush(30) else 1)
            except BaseException:
                os._exit(2)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    for thread in busy:
        thread.join()
    assert audit.flush(30)
    mine = audit.status().instance
    audit.close()
    numbers = collector.instances()
    assert numbers.pop(mine) == list(range(1, 601))
    assert sum(map(len, numbers.values())) == 200
    assert all(seen == list(range(1, len(seen) + 1)) for seen in numbers.values())


def _record_in_child(audit: Client) -> None:
    for _ in range(20):
        audit.record(**GRANT)


def test_what_a_multiprocessing_child_leaves_is_sent_by_the_others(collector: Collector, tmp_path: Path) -> None:
    """Such a child ends without exit handlers: its events stay spooled, and a running process sends them."""
    with Client(collector.url, TOKEN, spool=tmp_path) as audit:
        context = multiprocessing.get_context("fork")
        children = [context.Process(target=_record_in_child, args=(audit,)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0
        audit.record(**GRANT)
        collector.wait(lambda: len(collector.events) == 41)


def test_a_child_that_outlives_its_parent_does_not_hold_the_parents_spool(collector: Collector, tmp_path: Path) -> None:
    """The copy of the lock that a fork makes is let go of, so that the parent's events need not wait for the child."""
    script = (
        "import os, sys, signal\nfrom auditlib.client import Client\n"
        f"audit = Client({NOWHERE!r}, {TOKEN!r}, spool=sys.argv[1], problems=lambda text: None)\n"
        "audit.record(action='user.login', actor='user:a', target='service:b')\n"
        "ready, up = os.pipe()\n"
        "child = os.fork()\n"
        "if child == 0:\n    os.write(up, b'x')\n    signal.pause()\n"
        "os.read(ready, 1)\n"
        "print(child, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.wait(30)
        with Client(collector.url, TOKEN, spool=tmp_path) as audit:
            assert audit.flush(30)
            assert audit.status().recorded == 1
        assert len(collector.events) == 1
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_who_acts_is_bound_for_one_thread_or_task_alone(collector: Collector, tmp_path: Path) -> None:
    """Requests served at the same time never swap their actors."""
    with Client(collector.url, TOKEN, spool=tmp_path) as audit:

        async def request(name: str) -> None:
            with audit.acting(f"user:{name}"):
                for _ in range(20):
                    await asyncio.sleep(0)
                    async with audit.attempt("data.read", target=f"file:{name}"):
                        await asyncio.sleep(0)

        async def serve() -> None:
            await asyncio.gather(*(request(f"u_{number}") for number in range(20)))

        asyncio.run(serve())
        assert audit.flush(30)
        with pytest.raises(MalformedError, match="nobody is named"):
            audit.record(action="data.read", target="file:a")
    events = collector.parsed()
    assert len(events) == 400
    assert all(event["actor"]["id"] == event["target"]["id"] for event in events)


class Interrupted(BaseException):
    """What a signal handler raises, at any moment."""


def test_interrupts_at_random_moments_lose_nothing_that_was_acknowledged(collector: Collector, tmp_path: Path) -> None:
    """Ctrl-C and time-outs raise out of record() anywhere: numbers stay gapless, nothing locks up, all goes on."""
    chance, kept, interrupts = random.Random(4), [], 0

    def interrupt(*_: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Client(collector.url, TOKEN, spool=tmp_path, problems=Told()) as audit:
            while interrupts < 300:
                try:
                    try:
                        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0002, 0.002))
                        while True:
                            kept.append(audit.record(**GRANT))
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupted:
                    interrupts += 1
            assert audit.flush(60)
    finally:
        signal.signal(signal.SIGALRM, before)
    [numbers] = collector.instances().values()
    assert numbers == list(range(1, len(numbers) + 1))
    assert not set(kept) - collector.contexts().keys()


def test_a_signal_handler_that_records_cannot_spoil_the_event_it_interrupted(
    collector: Collector, tmp_path: Path
) -> None:
    """It either records an event of its own or is told that it cannot; the interrupted one is whole."""
    kept: list[str] = []
    told: list[str] = []
    chance = random.Random(5)

    def record(*_: Any) -> None:
        try:
            kept.append(audit.record(**GRANT))
        except UnavailableError as error:
            told.append(str(error))

    before = signal.signal(signal.SIGALRM, record)
    try:
        with Client(collector.url, TOKEN, spool=tmp_path, problems=Told()) as audit:
            for _ in range(5000):
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 8e-5))  # once: handlers must not pile up
                kept.append(audit.record(**GRANT))
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert audit.flush(60)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert set(kept) == collector.contexts().keys()
    assert collector.instances() == {audit.status().instance: list(range(1, len(kept) + 1))}
    assert len(kept) > 5000
    assert all("signal handler" in text for text in told)


# ---------------------------------------------------------------------------------------------- full


def test_a_full_spool_raises_and_keeps_what_it_has(collector: Collector, tmp_path: Path) -> None:
    """Nothing is dropped in silence: record() and attempt() raise, and go on once the collector has caught up."""
    big = {**GRANT, "context": {"granted_role": "admin", "text": "x" * (MAX_CONTEXT_BYTES - 100)}}
    collector.stop()
    with Client(collector.url, TOKEN, spool=tmp_path, max_spool_bytes=1024 * 1024, problems=Told()) as audit:
        kept = []
        with pytest.raises(UnavailableError, match="spool is full"):
            while True:
                kept.append(audit.record(**big))
        assert 1024 * 1024 * 3 // 4 < sum(path.stat().st_size for path in tmp_path.rglob("*.log")) <= 1024 * 1024
        done = []
        with pytest.raises(UnavailableError, match="spool is full"), audit.attempt(**big):
            done.append("what cannot be recorded is not begun")
        assert not done
        assert audit.status().recorded == len(kept)
        collector.start()
        assert audit.flush(30)
        kept.append(audit.record(**big))
        assert audit.flush(30)
    assert collector.numbers.popitem()[1] == dict(enumerate(kept, 1))


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_a_full_disk_raises_and_leaves_no_half_event(collector: Collector, tmp_path: Path, durability: str) -> None:
    """The file may not grow (RLIMIT_FSIZE): record() raises; with room again it goes on, with the next number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Client(NOWHERE, TOKEN, spool=tmp_path, durability=durability, problems=Told()) as audit:
        kept = [audit.record(**GRANT)]
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
            with pytest.raises(UnavailableError, match="cannot be kept"):
                while True:
                    kept.append(audit.record(**GRANT))
            with pytest.raises(UnavailableError, match="cannot be kept"):
                audit.record(**GRANT)
            assert all(path.read_bytes().endswith(b"}\n") for path in tmp_path.rglob("*.log"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        kept += [audit.record(**GRANT) for _ in range(3)]
        audit.close(0)
    with Client(collector.url, TOKEN, spool=tmp_path) as audit:
        assert audit.flush(30)
    assert collector.numbers.popitem()[1] == dict(enumerate(kept, 1))


def test_a_file_system_without_space_raises_and_loses_nothing(collector: Collector, tmp_path: Path) -> None:
    """A real small file system, filled to the brim."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small file system")
    try:
        with Client(NOWHERE, TOKEN, spool=tmp_path, problems=Told()) as audit:
            kept = []
            with pytest.raises(UnavailableError, match="No space left"):
                while True:
                    kept.append(audit.record(**GRANT))
            audit.close(0)
        with Client(collector.url, TOKEN, spool=tmp_path) as audit:
            assert audit.flush(30)
        assert collector.numbers.popitem()[1] == dict(enumerate(kept, 1))
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


# ---------------------------------------------------------------------------------------------- the other side


def test_the_collector_down_and_back(collector: Collector, tmp_path: Path) -> None:
    """What is recorded meanwhile waits and goes in order; the hindrance is told once."""
    told = Told()
    with Client(collector.url, TOKEN, spool=tmp_path, problems=told) as audit:
        kept = [audit.record(**GRANT)]
        assert audit.flush(30)
        collector.stop()
        kept += [audit.record(**GRANT) for _ in range(1200)]
        told.wait("does not answer")
        assert not audit.flush(0.6)
        assert audit.status().waiting == 1200
        assert "does not answer" in audit.status().problem
        collector.start()
        assert audit.flush(30)
        assert audit.status().problem == ""
    assert collector.numbers.popitem()[1] == dict(enumerate(kept, 1))
    assert len(told) <= 3  # refused, reset: each once


def _short(headers: Any, lines: list[bytes]) -> Answer:
    return 200, {}, b'{"results": []}'


def _others(headers: Any, lines: list[bytes]) -> Answer:
    results = [{"status": "recorded", "event_id": "another"} for _ in lines]
    return 200, {}, json.dumps({"results": results}).encode()


def _no_status(headers: Any, lines: list[bytes]) -> Answer:
    results = [{"status": "fine", "event_id": json.loads(line)["event_id"]} for line in lines]
    return 200, {}, json.dumps({"results": results}).encode()


GARBAGE: dict[str, Any] = {
    "too few results": _short,
    "results of other events": _others,
    "unknown status": _no_status,
    "a login page": lambda headers, lines: (200, {"Content-Type": "text/html"}, b"<html>Please log in</html>"),
    "nothing": lambda headers, lines: (200, {}, b""),
    "not UTF-8": lambda headers, lines: (200, {}, b'{"results": ["\xff"]}'),
    "deep nesting": lambda headers, lines: (200, {}, b'{"x":' + b"[" * 100_000),
    "endless": lambda headers, lines: (200, {}, b" " * (MAX_ANSWER_BYTES + 2)),
    "cut off": lambda headers, lines: (200, {"Content-Length": "9999"}, b'{"results": ['),
    "redirect": lambda headers, lines: (307, {"Location": "http://127.0.0.1:9/steal"}, b""),
    "redirect after POST": lambda headers, lines: (302, {"Location": "/v1/events"}, b""),
    "no such page": lambda headers, lines: (404, {}, b"not here"),
    "accepted": lambda headers, lines: (202, {}, b'{"results": []}'),
    "token echoed": lambda headers, lines: (200, {}, headers["Authorization"].encode()),
    "bad compressed": lambda headers, lines: (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08"),
}


@pytest.mark.parametrize("fault", GARBAGE.values(), ids=GARBAGE.keys())
def test_an_answer_that_is_none_confirms_nothing(collector: Collector, tmp_path: Path, fault: Any) -> None:
    """Garbage from the other side: all is kept, said, and sent when it answers again."""
    told = Told()
    collector.fault = fault
    with Client(collector.url, TOKEN, spool=tmp_path, problems=told) as audit:
        kept = [audit.record(**GRANT) for _ in range(3)]
        told.wait("wait in the spool")
        assert audit.status().waiting == 3
        assert not any(TOKEN in text for text in told)
        collector.fault = lambda headers, lines: None
        assert audit.flush(30)
    assert collector.numbers.popitem()[1] == dict(enumerate(kept, 1))


def test_a_refused_token_keeps_everything_until_it_is_put_right(
    collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """401: said in the log without the token, kept, and sent once the token is valid."""
    collector.tokens.clear()
    with Client(collector.url, TOKEN, spool=tmp_path) as audit:
        audit.record(**GRANT)
        assert not audit.flush(0.5)
        assert audit.status().problem == "the collector refuses the token (HTTP 401); see that it is valid."
        collector.tokens[TOKEN] = "billing-api"
        assert audit.flush(30)
    assert "refuses the token" in caplog.text
    assert TOKEN not in caplog.text


def test_retry_after_is_honoured_even_in_flush(collector: Collector, tmp_path: Path) -> None:
    """A collector under load says when to come back, and is left alone until then."""
    collector.fault = lambda headers, lines: (429, {"Retry-After": "600"}, b"")
    with Client(collector.url, TOKEN, spool=tmp_path, problems=Told()) as audit:
        audit.record(**GRANT)
        assert not audit.flush(1)
        assert collector.requests == 1
        assert audit.status().waiting == 1
        audit.close(0)


@pytest.mark.parametrize("text", ["soon", "-1", "9" * 5000, "Fri, 99 Foo 99999 99:99:99 GMT", "\x80", ""])
def test_a_retry_after_that_is_none_does_not_stop_the_client(collector: Collector, tmp_path: Path, text: str) -> None:
    """The usual backoff is used instead."""
    collector.fault = lambda headers, lines: (503, {"Retry-After": text}, b"") if collector.requests < 3 else None
    with Client(collector.url, TOKEN, spool=tmp_path, problems=Told()) as audit:
        audit.record(**GRANT)
        assert audit.flush(30)


def test_refused_and_conflicting_events_are_done_with_and_told(collector: Collector, tmp_path: Path) -> None:
    """The collector keeps them where an auditor sees them: they are not sent for ever, and somebody is told."""
    told = Told()

    def fault(headers: Any, lines: list[bytes]) -> Answer:
        ids = [json.loads(line)["event_id"] for line in lines]
        statuses = {"a": "recorded", "b": "conflict", "c": "refused", "d": "repeated"}
        results = [{"status": statuses[one], "event_id": one, "reason": "because\x1b[31m " + TOKEN} for one in ids]
        return 200, {}, json.dumps({"results": results}).encode()

    collector.stop()
    with Client(collector.url, TOKEN, spool=tmp_path, problems=told) as audit:
        for event_id in "abcd":
            audit.record(**GRANT, event_id=event_id)
        told.wait("does not answer")
        collector.fault = fault
        collector.start()
        assert audit.flush(30)
        status = audit.status()
    assert (status.conflict, status.refused, status.waiting) == (1, 1, 0)
    text = told.wait("for review")
    assert "2 of 4 events for review" in text
    assert f"number 2 of instance {status.instance}: conflict, because" in text
    assert TOKEN not in text
    assert "\x1b" not in text


def test_one_event_that_cannot_be_taken_does_not_hold_up_the_others(collector: Collector, tmp_path: Path) -> None:
    """400 for whatever holds it: the batch is split, the event kept aside on disk and told, the rest recorded."""
    told = Told()
    poison = {"p3", "p4", "p40"}

    def fault(headers: Any, lines: list[bytes]) -> Answer | None:
        return (400, {}, b"bad") if any(json.loads(line)["event_id"] in poison for line in lines) else None

    collector.stop()
    collector.fault = fault
    with Client(collector.url, TOKEN, spool=tmp_path, problems=told) as audit:
        for number in range(1, 51):
            audit.record(**GRANT, event_id=f"p{number}")
        collector.start()
        assert audit.flush(30)
        status = audit.status()
    assert status.aside == 3
    assert set(collector.contexts()) == {f"p{number}" for number in range(1, 51)} - poison
    aside = (tmp_path / status.instance / "aside.log").read_text().splitlines()
    assert [json.loads(line.split(" ", 2)[2])["event_id"] for line in aside] == ["p3", "p4", "p40"]
    assert collector.instances()[status.instance] == [n for n in range(1, 51) if f"p{n}" not in poison]
    told.wait("cannot take event 40")


@pytest.mark.parametrize("status", [400, 413])
def test_a_collector_that_takes_nothing_gets_nothing_set_aside(
    collector: Collector, tmp_path: Path, status: int
) -> None:
    """400 for everything is a wrong address and not a wrong event: all waits, in order."""
    told = Told()
    collector.fault = lambda headers, lines: (status, {}, b"plain HTTP request sent to HTTPS port")
    with Client(collector.url, TOKEN, spool=tmp_path, problems=told) as audit:
        for _ in range(30):
            audit.record(**GRANT)
        told.wait("takes no event")
        assert audit.status().waiting == 30
        assert audit.status().aside == 0
        collector.fault = lambda headers, lines: None
        assert audit.flush(30)
    assert collector.instances()[audit.status().instance] == list(range(1, 31))
    assert not list(tmp_path.rglob("aside.log"))


def test_a_collector_that_never_answers_does_not_hold_up_the_application(collector: Collector, tmp_path: Path) -> None:
    """While a request hangs, record() goes on and close() comes back; the next process sends it all."""
    hold = threading.Event()

    def fault(headers: Any, lines: list[bytes]) -> Answer | None:
        collector.changed.release()
        try:
            hold.wait(30)
        finally:
            collector.changed.acquire()
        return 503, {}, b""

    collector.fault = fault
    audit = Client(collector.url, TOKEN, spool=tmp_path, problems=Told())
    kept = [audit.record(**GRANT)]
    collector.wait(lambda: collector.requests > 0)
    kept += [audit.record(**GRANT) for _ in range(10)]
    audit.close(0.1)
    with pytest.raises(UnavailableError, match="closed"):
        audit.record(**GRANT)
    collector.fault = lambda headers, lines: None
    hold.set()
    with Client(collector.url, TOKEN, spool=tmp_path) as other:
        other.record(**GRANT)
        collector.wait(lambda: set(kept) <= {event_id for _, event_id in collector.events})


# ---------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"action": "grant"}, "noun.verb"),
        ({"action": 5}, "action"),
        ({"actor": "u_8842"}, "has no type"),
        ({"actor": "admin:u_8842"}, "actor.type"),
        ({"actor": ""}, "has no type"),
        ({"actor": 5}, "int is no actor"),
        ({"actor": {"type": "user", "id": "a", "name": "b"}}, "name"),
        ({"actor": Actor(id=5, session=None, type="user")}, "actor.id"),
        ({"actor": None}, "nobody is named"),
        ({"target": {"type": "user"}}, "id"),
        ({"outcome": "ok"}, "outcome"),
        ({"context": {}}, "role.grant needs granted_role"),
        ({"context": [1]}, "context"),
        ({"context": {"granted_role": "admin", "x": datetime(2026, 1, 8, tzinfo=UTC)}}, "not a JSON value"),
        ({"context": {"granted_role": float("nan")}}, "finite"),
        ({"context": {"granted_role": "x" * MAX_CONTEXT_BYTES}}, "canonical bytes"),
        ({"occurred_at": "yesterday"}, "not a time"),
        ({"occurred_at": datetime(2026, 1, 8)}, "offset"),  # noqa: DTZ001 - the mistake itself
        ({"event_id": "a b"}, "event_id"),
    ],
)
def test_a_mistake_is_seen_at_the_call_and_nothing_is_kept(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    """The schema and the catalogue are checked where the programmer stands."""
    with Client(NOWHERE, TOKEN, spool=tmp_path) as audit:
        with pytest.raises(MalformedError, match=message):
            audit.record(**{**GRANT, **wrong})
        assert audit.status().recorded == 0
    assert not list(tmp_path.rglob("*.log"))


def test_actor_and_target_can_be_written_in_three_ways(collector: Collector, tmp_path: Path) -> None:
    """A text, a mapping or the formats' own classes; the clock and the id are the caller's if he gives them."""
    with Client(collector.url, TOKEN, spool=tmp_path, now=lambda: 1_767_882_727_000_000) as audit:
        audit.record(action="backup.run", actor="system:cron:nightly-backup", target={"type": "db", "id": "main"})
        audit.record(
            action="thing.done",
            actor=Actor("u", "s", "user"),
            target=Target("x", "thing"),
            occurred_at=datetime(2026, 1, 8, 14, 32, 7, 500_000, tzinfo=UTC),
            event_id="mine",
        )
        assert audit.flush(30)
    first, second = collector.parsed()
    assert first["actor"] == {"id": "cron:nightly-backup", "session": None, "type": "system"}
    assert first["occurred_at"] == "2026-01-08T14:32:07Z"
    assert len(first["event_id"]) == 26
    assert second["occurred_at"] == "2026-01-08T14:32:07.500000Z"
    assert second["event_id"] == "mine"


def test_ones_own_actions_are_checked_too(tmp_path: Path) -> None:
    """A file of own actions is added to the built-in catalogue."""
    own = tmp_path / "own.toml"
    own.write_text('[actions."loan.approve"]\nkind = "approval"\ndecision = "approved"\nrequired = ["amount"]\n')
    with Client(NOWHERE, TOKEN, spool=tmp_path / "spool", catalog=own) as audit:
        for action in ("loan.approve", "role.grant"):
            with pytest.raises(MalformedError, match="needs"):
                audit.record(action=action, actor="user:a", target="loan:1")
    with pytest.raises(MalformedError, match="cannot be read"):
        Client(NOWHERE, TOKEN, spool=tmp_path / "spool", catalog=tmp_path / "none.toml")


@pytest.mark.parametrize(
    "url",
    [
        "http://collector.example",
        "http://10.0.0.7:8080",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "ftp://127.0.0.1",
        "https://user:secret@collector.example",
        "https://collector.example/?token=secret",
        "collector.example",
        "https://",
        "https://[::1",
        "",
    ],
)
def test_a_url_that_would_betray_the_token_is_refused(tmp_path: Path, url: str) -> None:
    """No clear text over a network, no secret in the URL; the spool is not even made."""
    with pytest.raises(MalformedError) as caught:
        Client(url, TOKEN, spool=tmp_path / "spool")
    assert "secret" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(
    "url", ["http://[::1]:9", "http://localhost:9", "http://127.9.9.9:9", "https://c.example/audit/"]
)
def test_urls_that_are_fine(tmp_path: Path, url: str) -> None:
    """Loopback in the clear, anything by https; the token does not stand in the repr."""
    with Client(url, TOKEN, spool=tmp_path) as audit:
        assert TOKEN not in repr(audit)
    with Client("http://collector.example", TOKEN, spool=tmp_path, allow_insecure=True):
        pass


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "é"])
def test_a_token_that_cannot_stand_in_a_header_is_refused_unseen(tmp_path: Path, token: str) -> None:
    """And not repeated in the error."""
    with pytest.raises(MalformedError) as caught:
        Client(NOWHERE, token, spool=tmp_path)
    assert not token or token not in str(caught.value)


def test_the_spool_is_for_its_owner_alone(tmp_path: Path) -> None:
    """0700 and 0600 whatever the umask; a folder that others can write into is refused, one that cannot be, said."""
    before = os.umask(0)
    try:
        with Client(NOWHERE, TOKEN, spool=tmp_path / "spool", problems=Told()) as audit:
            audit.record(**GRANT)
            audit.close(0)
    finally:
        os.umask(before)
    for path in (tmp_path / "spool", *(tmp_path / "spool").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(MalformedError, match="others can write"):
        Client(NOWHERE, TOKEN, spool=tmp_path / "open")
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError, match="cannot be used"):
        Client(NOWHERE, TOKEN, spool=tmp_path / "file")
    assert list((tmp_path / "open").iterdir()) == []


def test_importing_the_client_brings_in_nothing_heavy() -> None:
    """An application that records events needs no data frame, database or web framework."""
    heavy = {"asyncio", "boto3", "botocore", "cryptography", "duckdb", "jinja2", "litestar", "multiprocessing"}
    heavy |= {"numpy", "pandas", "pyarrow", "rich", "sqlalchemy", "typer"}
    script = f"import sys\nfrom auditlib.client import Client\nprint(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"


def test_the_end_of_the_process_waits_for_the_collector(collector: Collector, tmp_path: Path) -> None:
    """A short program that records one event and ends has sent it, also where it ends by an exception."""
    script = (
        "import sys\nfrom auditlib.client import Client\n"
        f"audit = Client(sys.argv[1], {TOKEN!r}, spool=sys.argv[2])\n"
        "audit.record(action='user.login', actor='user:a', target='service:b')\n"
        "raise SystemExit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, collector.url, str(tmp_path)], check=False)
    assert done.returncode == 7
    assert len(collector.events) == 1


# ---------------------------------------------------------------------------------------------- attempts


class Own(Exception):
    """The application's own way to say no."""


RAISED: list[type[BaseException] | None] = [
    None,
    ValueError,
    PermissionError,
    Own,
    OSError,
    StopIteration,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
    MalformedError,
    UnavailableError,
]


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Client(NOWHERE, TOKEN, spool=tmp_path_factory.mktemp("spool"), problems=Told()) as audit:
        yield audit
        audit.close(0)


def _last(audit: Client, count: int) -> list[dict[str, Any]]:
    """The events recorded last, as they stand in the spool."""
    folder = Path(repr(audit).split("spool='")[1].rstrip("')")) / audit.status().instance
    lines = b"".join(path.read_bytes() for path in sorted(folder.glob("*.log"))).splitlines()
    return [json.loads(line.split(b" ", 2)[2]) for line in lines[len(lines) - count :]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(RAISED),
    how=st.sampled_from(["with", "async with", "decorator", "async decorator"]),
    spoil=st.sampled_from([None, "context", "required", "target", "replaced"]),
    added=st.dictionaries(st.text('abc\n"\\', max_size=5), st.integers(-9, 9)),
)
def test_an_attempt_is_recorded_exactly_once_whatever_happens_inside(
    idle: Client, kind: type[BaseException] | None, how: str, spoil: str | None, added: dict[str, int]
) -> None:
    """One event, the right outcome, the exception itself and no other comes out; only a spoilt context is told."""
    assume(kind is not StopIteration or "async" not in how)  # Python itself replaces it there (PEP 479)
    error = kind("why") if kind else None
    before = idle.status().recorded
    attempt = idle.attempt(**GRANT, denied=Own)
    spoilt = spoil is not None and "decorator" not in how

    def inside() -> None:
        if "decorator" not in how:
            attempt.context |= {f"k{key}": value for key, value in added.items()}
        if spoilt:
            changes: dict[str, Any] = {
                "context": lambda: attempt.context.update(x=object()),
                "required": attempt.context.clear,
                "target": lambda: setattr(attempt, "target", "nothing"),
                "replaced": lambda: setattr(attempt, "context", None),
            }
            changes[spoil]()
        if error:
            raise error

    async def awaited() -> None:
        await asyncio.sleep(0)
        inside()

    async def around() -> None:
        async with attempt:
            await awaited()

    def drive(coroutine: Any) -> None:  # an event loop would itself swallow or turn some of these
        with suppress(StopIteration):
            while True:
                coroutine.send(None)

    def run() -> None:
        if how == "with":
            with attempt:
                inside()
        elif how == "decorator":
            attempt(inside)()
        else:
            drive(around() if how == "async with" else attempt(awaited)())

    caught: BaseException | None = None
    try:
        run()
    except BaseException as raised:
        caught = raised
    if spoilt and (error is None or isinstance(error, Exception)):
        assert isinstance(caught, AuditlibError)
        assert caught is not error
        assert caught.__cause__ is error
    else:
        assert caught is error
    assert idle.status().recorded == before + 1
    [event] = _last(idle, 1)
    denied = kind is not None and issubclass(kind, PermissionError | Own)
    assert event["outcome"] == ("success" if kind is None else "denied" if denied else "failure")
    if "decorator" not in how and not spoilt:
        assert event["context"] == {"granted_role": "admin"} | {f"k{key}": value for key, value in added.items()}
        assert event["event_id"] == attempt.event_id
    else:
        assert event["context"] == {"granted_role": "admin"}


def test_a_closed_generator_and_a_cancelled_task_are_failures(idle: Client) -> None:
    """What is broken off from outside was tried and did not succeed."""

    def stream() -> Iterator[int]:
        with idle.attempt(**GRANT):
            yield 1

    generator = stream()
    next(generator)
    generator.close()
    assert _last(idle, 1)[0]["outcome"] == "failure"

    async def cancelled() -> None:
        started = asyncio.Event()

        async def work() -> None:
            async with idle.attempt(**GRANT):
                started.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = idle.status().recorded
    asyncio.run(cancelled())
    assert idle.status().recorded == before + 1
    assert _last(idle, 1)[0]["outcome"] == "failure"


def test_an_attempt_that_could_not_be_recorded_is_not_begun(idle: Client) -> None:
    """The mistake is seen before anything is done; a second entry and a decorated generator are mistakes too."""
    before, done = idle.status().recorded, []
    without = {**GRANT, "context": {}}
    with pytest.raises(MalformedError, match="granted_role"), idle.attempt(**without):
        done.append(1)
    with pytest.raises(MalformedError, match="generator"):

        @idle.attempt(**GRANT)
        def stream() -> Iterator[int]:
            yield 1

    with pytest.raises(MalformedError, match="exception types"):
        idle.attempt(**GRANT, denied="Own")
    assert not done
    assert idle.status().recorded == before
    attempt = idle.attempt(**GRANT)
    with attempt:
        pass
    with pytest.raises(MalformedError, match="has been entered"), attempt:
        done.append(1)
    assert not done
    assert idle.status().recorded == before + 1


def test_a_decorated_function_is_recorded_at_every_call_and_keeps_its_result(idle: Client) -> None:
    """Plain and async."""

    @idle.attempt(**GRANT)
    def plain(number: int) -> int:
        """Doc."""
        return 2 * number

    @idle.attempt(**GRANT)
    async def awaited(number: int) -> int:
        return 3 * number

    before = idle.status().recorded
    assert [plain(1), plain(number=2)] == [2, 4]
    assert asyncio.run(awaited(3)) == 9
    assert plain.__doc__ == "Doc."
    assert idle.status().recorded == before + 3


def test_an_interrupt_passes_although_the_spool_filled_up_inside(tmp_path: Path) -> None:
    """A cancellation must not turn into another error: it carries a note, and the problem is told."""
    told = Told()
    big = {**GRANT, "context": {"granted_role": "admin", "text": "x" * (MAX_CONTEXT_BYTES - 100)}}
    with Client(NOWHERE, TOKEN, spool=tmp_path, max_spool_bytes=1024 * 1024, problems=told) as audit:

        def fill() -> None:
            with pytest.raises(UnavailableError):
                while True:
                    audit.record(**big)

        error = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError) as caught, audit.attempt(**big):
            fill()
            raise error
        assert caught.value is error
        assert "spool is full" in error.__notes__[0]
        told.wait("an attempt at role.grant was not recorded")
        audit.close(0)


def test_an_attempt_whose_recording_fails_says_so(tmp_path: Path) -> None:
    """An error inside and a spool that filled up meanwhile: the unrecorded attempt is not passed over in silence."""
    big = {**GRANT, "context": {"granted_role": "admin", "text": "x" * (MAX_CONTEXT_BYTES - 100)}}
    with Client(NOWHERE, TOKEN, spool=tmp_path, max_spool_bytes=1024 * 1024, problems=Told()) as audit:
        error = ValueError("inside")
        with pytest.raises(UnavailableError, match="spool is full") as caught, audit.attempt(**big):
            with pytest.raises(UnavailableError):
                while True:
                    audit.record(**big)
            raise error
        assert caught.value.__cause__ is error
        audit.close(0)
