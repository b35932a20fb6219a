"""The writing side: what record() costs, how fast a collector acknowledges and a sealer seals, against bare databases.

The collector is `auditlib collect` in a process of its own; what sends to it is this process, by raw sockets. Server,
client and database share the machine.
"""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from auditlib.client import Client
from auditlib.drain import open_drain
from auditlib.formats.columns import record_at
from auditlib.formats.document import Retention
from auditlib.formats.event import Event, Receipt, Record
from auditlib.formats.times import format_time
from auditlib.sealer import DEFAULT_MAX_EVENTS, create_trail
from auditlib.state import SealerState
from auditlib.store import init_store, open_store
from auditlib.store.rows import Row as Stored
from auditlib.store.rows import row_of
from auditlib.tokens import add_token
from auditlib.vault import open_vault
from benchmarks import measure
from benchmarks.data import CATALOG, KEY, NOW, generate
from benchmarks.measure import Row, best, row

EVENTS = 50_000  # of the intake in batches, and of sealing
SINGLES = 5_000  # posts of one event each
BATCH = 500  # events of one request
SENDERS = 4  # connections that send batches
CONNECTIONS = 32  # connections that send single events
RECORDS = 20_000  # calls of record()
RECORD_MICROS = 100  # the aim
SERVICES = Path(__file__).parents[1] / "tests" / "services"
NO_SERVICE = 77  # postgres-start's exit code: it cannot be had on this machine

COLUMNS = ", ".join(Stored._fields)


def rows(events: int = EVENTS, singles: int = SINGLES, calls: int = RECORDS) -> Iterator[Row]:
    yield _recorded(calls)
    with TemporaryDirectory(prefix="auditlib-bench-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        folder.chmod(0o711)  # PostgreSQL's own user walks through it
        kept = _records(events)
        for name, new_store in _databases(folder):
            yield from _taken(name, new_store, kept, singles)
            yield _sealed(name, new_store, kept)


def _records(events: int) -> list[Record]:
    table = generate(events)
    receipt = Receipt(format_time(NOW), "web/1a2b", None)
    return [
        Record(record_at(table, index).event, msgspec.structs.replace(receipt, source_seq=index + 1))
        for index in range(events)
    ]


@contextmanager
def _postgres(folder: Path) -> Iterator[str | None]:
    """A server's URL, None where there is none; gone afterwards."""
    with TemporaryFile("w+") as said:  # a pipe would stay open for as long as the server holds it
        done = subprocess.run(
            [SERVICES / "postgres-start", folder], stdout=subprocess.DEVNULL, stderr=said, check=False
        )
        said.seek(0)
        complaint = said.read().strip()
    if done.returncode == NO_SERVICE:
        print(f"The benchmarks of PostgreSQL were left out. {complaint}")
        yield None
        return
    try:
        done.check_returncode()
        lines = (folder / "pg.env").read_text().splitlines()
        yield dict(line.split("=", 1) for line in lines)["AUDITLIB_TEST_PG_URL"]
    finally:
        subprocess.run([SERVICES / "postgres-stop", folder], stdout=subprocess.DEVNULL, check=True)


def _databases(folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """Each database's name, and what makes an empty store there and gives its URL."""
    count = iter(range(1000))

    def new_file() -> str:
        url = f"sqlite:///{folder / f'store-{next(count)}.sqlite'}"
        init_store(url)
        return url

    yield "SQLite", new_file
    with _postgres(folder / "postgres") as server:
        if server is None:
            return

        def new_database() -> str:
            name = f"bench_{next(count)}"
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            url = urlsplit(server)._replace(path=f"/{name}").geturl()
            init_store(url)
            return url

        yield "PostgreSQL", new_database


# --- the client ---------------------------------------------------------------------------------------------------


def _recorded(calls: int) -> Row:
    with TemporaryDirectory(ignore_cleanup_errors=True) as temporary, _silent_collector() as url:
        audit = Client(url, "token", spool=Path(temporary) / "spool", problems=lambda _: None)
        times = []
        for turn in range(calls):
            start = time.perf_counter()
            audit.record(
                action="role.grant",
                actor="user:u_8842",
                target="user:u_9013",
                context={"granted_role": "admin", "ip": "203.0.113.40", "turn": turn},
            )
            times.append(time.perf_counter() - start)
        audit.close(0)
    times.sort()
    note = (
        f"median of {calls:,} calls, durability process: checked, encoded, written to the spool; p99 "
        f"{times[int(len(times) * 0.99)] * 1e6:.0f} us; nobody answers the sending thread. Limit: the aim"
    )
    return row("record()", times[len(times) // 2] * 1e6, RECORD_MICROS, "us", note)


@contextmanager
def _silent_collector() -> Iterator[str]:
    """A port where connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


# --- the collector ------------------------------------------------------------------------------------------------


def _taken(name: str, new_store: Callable[[], str], kept: Sequence[Record], singles: int) -> Iterator[Row]:
    stored = [row_of(record) for record in kept]
    groups = [stored[start : start + BATCH] for start in range(0, len(stored), BATCH)]
    bodies = [b"\n".join(entry.event for entry in group) for group in groups]
    ours, limit = best(
        lambda: _posted(new_store(), bodies, SENDERS)[0], lambda: _inserted(new_store(), groups)[0], rounds=3
    )
    note = (
        f"{len(kept):,} events by {SENDERS} connections, each answered after its commit; limit: the same rows by one "
        f"connection of the driver, an INSERT and a durable commit each {BATCH}, into the same tables. Aim: 0.35 of it"
    )
    yield row(f"intake by {BATCH}, {name}", len(kept) / ours, len(kept) / limit, "events/s", note)

    few = stored[:singles]
    each = [entry.event for entry in few]
    together = [few[start : start + CONNECTIONS] for start in range(0, len(few), CONNECTIONS)]
    turns = range(min(3, measure.most_rounds))
    posts = [_posted(new_store(), each, CONNECTIONS) for _ in turns]
    bare = [_inserted(new_store(), together) for _ in turns]
    note = (
        f"{len(few):,} posts of one event by {CONNECTIONS} connections; limit: the same rows by one connection of the "
        f"driver, one INSERT and one durable commit each {CONNECTIONS}. Aim: 0.35 of it"
    )
    ours, limit = min(seconds for seconds, _ in posts), min(seconds for seconds, _ in bare)
    yield row(f"intake of single events, {name}", len(few) / ours, len(few) / limit, "events/s", note)

    alone = _posted(new_store(), each[:1000], 1)[1]
    single = _inserted(new_store(), [[entry] for entry in few[:1000]])[1]
    note = (
        f"one connection; with {CONNECTIONS} at once {min(_p99(times) for _, times in posts):.3g} ms. Limit: the 99th "
        "percentile of a single INSERT with its durable commit, on a connection of the driver"
    )
    yield row(f"p99 of a durable post, {name}", _p99(alone), _p99(single), "ms", note)


def _p99(times: Sequence[float]) -> float:
    """Milliseconds."""
    return sorted(times)[int(len(times) * 0.99)] * 1e3


def _posted(store: str, bodies: Sequence[bytes], connections: int) -> tuple[float, list[float]]:
    """Seconds from the first to the last, and of each request: all are answered 200."""
    with _collecting(store) as (address, token):
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/x-ndjson\r\nContent-Length: "
        ).encode()

        def send(share: Sequence[bytes]) -> list[float]:
            times = []
            with socket.create_connection(address) as connection, connection.makefile("rb") as answers:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for body in share:
                    start = time.perf_counter()
                    connection.sendall(head + b"%d\r\n\r\n" % len(body) + body)
                    _answered(answers)
                    times.append(time.perf_counter() - start)
            return times

        with ThreadPoolExecutor(connections) as pool:
            start = time.perf_counter()
            found = list(pool.map(send, [bodies[number::connections] for number in range(connections)]))
            return time.perf_counter() - start, [taken for times in found for taken in times]


def _answered(answers: Any) -> None:
    status = answers.readline()
    assert b" 200 " in status, status
    size = 0
    while (line := answers.readline()) != b"\r\n":
        if line.lower().startswith(b"content-length:"):
            size = int(line.split(b":")[1])
    answers.read(size)


@contextmanager
def _collecting(store: str) -> Iterator[tuple[tuple[str, int], str]]:
    """A collector's address and a token; it is stopped by SIGTERM, as a service manager does."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        tokens = Path(temporary) / "tokens"
        token = add_token(tokens, "web", now=lambda: NOW)
        command = ["-m", "auditlib.cli", "collect", "--store", store, "--tokens", tokens, "--listen", "127.0.0.1:0"]
        with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            place = urlsplit(process.stdout.readline().split()[-1])
            assert place.hostname and place.port
            try:
                yield (place.hostname, place.port), token
            finally:
                process.terminate()


def _inserted(store: str, groups: Sequence[Sequence[Stored]]) -> tuple[float, list[float]]:
    """The same for bare INSERTs by one connection of the driver."""
    insert = _sqlite if store.startswith("sqlite") else _psycopg
    times = insert(store, groups)
    return sum(times), times


def _sqlite(store: str, groups: Sequence[Sequence[Stored]]) -> list[float]:
    times = []
    with closing(sqlite3.connect(store.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        insert = f"INSERT INTO records ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"
        for group in groups:
            start = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(insert, group)
            connection.execute("COMMIT")
            times.append(time.perf_counter() - start)
    return times


def _psycopg(store: str, groups: Sequence[Sequence[Stored]]) -> list[float]:
    times = []
    with psycopg.connect(store) as connection:
        for group in groups:
            marks = ", ".join(["(%s, %s, %s, %s, %s, %s)"] * len(group))
            insert = f"INSERT INTO auditlib.records ({COLUMNS}) VALUES {marks}"
            start = time.perf_counter()
            connection.execute(insert.encode(), [value for entry in group for value in entry])
            connection.commit()
            times.append(time.perf_counter() - start)
    return times


# --- the sealer ---------------------------------------------------------------------------------------------------


def _sealed(name: str, new_store: Callable[[], str], kept: Sequence[Record]) -> Row:
    url = new_store()
    writer = open_store(url, "writer")
    for start in range(0, len(kept), 5000):
        writer.append(kept[start : start + 5000])
    writer.close()
    ours, limit = best(lambda: _drained(url, len(kept)), lambda: _copied(url), rounds=3)
    note = (
        f"{len(kept):,} events: read, checked, looked up, sealed and flushed in batches of {DEFAULT_MAX_EVENTS:,}; "
        "limit: the same rows read by the driver, their JSON decoded, written as Parquet with the same settings and "
        "flushed. Aim: 0.5 of it"
    )
    return row(f"sealing from the store, {name}", len(kept) / ours, len(kept) / limit, "events/s", note)


def _drained(url: str, events: int) -> float:
    """Seconds of one round of a sealer that has just been opened on an empty trail."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        vault = open_vault(str(Path(temporary) / "vault"), create=True)
        create_trail(vault, KEY, Retention(2557, "COMPLIANCE"), CATALOG, now=0)
        state = SealerState(Path(temporary) / "state", KEY.verifier)
        store = open_store(url, "sealer")
        try:
            with open_drain(
                store, vault, KEY, state, now=lambda: NOW, every=300, max_events=DEFAULT_MAX_EVENTS
            ) as drain:
                start = time.perf_counter()
                assert drain.round(300).added.new == events
                return time.perf_counter() - start
        finally:
            store.close()


def _copied(url: str) -> float:
    """Seconds to read, decode and write what the sealer reads, decodes and writes."""
    decode = msgspec.json.Decoder(Event).decode
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as temporary,
        (Path(temporary) / "copy.parquet").open("wb") as file,
    ):
        start = time.perf_counter()
        columns = "recorded_at, source, source_seq, event"
        if url.startswith("sqlite"):
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
                found = connection.execute(f"SELECT {columns} FROM records ORDER BY position").fetchall()
        else:
            with psycopg.connect(url) as connection:
                asked = f"SELECT {columns} FROM auditlib.records ORDER BY position"
                found = connection.execute(asked.encode(), binary=True).fetchall()
        table = _columns([decode(data) for *_, data in found], [row[:3] for row in found])
        pq.write_table(table, file, compression="zstd", row_group_size=8192, write_statistics=False)
        file.flush()
        return time.perf_counter() - start


def _columns(events: Sequence[Event], receipts: Sequence[Any]) -> pa.Table:
    recorded, sources, numbers = zip(*receipts, strict=True)
    return pa.table(
        {
            "event_id": [event.event_id for event in events],
            "occurred_at": [event.occurred_at for event in events],
            "actor_type": [event.actor.type for event in events],
            "actor_id": [event.actor.id for event in events],
            "actor_session": [event.actor.session for event in events],
            "action": [event.action for event in events],
            "target_type": [event.target.type for event in events],
            "target_id": [event.target.id for event in events],
            "outcome": [event.outcome for event in events],
            "context": [msgspec.json.encode(event.context).decode() for event in events],
            "recorded_at": recorded,
            "source": sources,
            "source_seq": numbers,
        }
    )
