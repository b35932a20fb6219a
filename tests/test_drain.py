"""From the store into the vault in one process: what is refused is told of once, and the sealer goes on.

What crashes, restored backups and two sealers do to it as a process is in test_writing_side.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pg_service as services
import psycopg
import pytest
import simulator
import strategies
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlib.amendments import change_catalog
from auditlib.drain import Round, _laid_out, open_drain
from auditlib.errors import MalformedError, MismatchError
from auditlib.formats.batch import parse_batch
from auditlib.formats.catalog import extend_catalog
from auditlib.formats.columns import faults, record_at, record_texts
from auditlib.formats.event import MAX_EVENT_BYTES, Record, event_bytes, record_bytes
from auditlib.formats.seal import MAX_BATCH_BYTES
from auditlib.formats.times import LATEST, parse_canonical_time
from auditlib.history import read_history
from auditlib.keeping import Pruned, prune
from auditlib.monitor.waiting import waiting
from auditlib.store import init_store, open_store
from auditlib.store.rows import Entry, Row, row_of

COLUMNS = ", ".join(Row._fields)
STRICTER = extend_catalog(simulator.CATALOG, b'[actions."invoice.pay"]\nkind = "change"\nrequired = ["approved_by"]\n')


@pytest.fixture(scope="module")
def service() -> Iterator[services.PgService]:
    yield services.pg_service()
    services.leave_pg_service()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: Any, tmp_path: Path) -> Iterator[str]:
    """An empty store."""
    if request.param == "sqlite":
        made = f"sqlite:///{tmp_path / 'store.sqlite'}"
        init_store(made)
        yield made
    else:
        service = request.getfixturevalue("service")
        made = service.new_database()
        init_store(made)
        yield made
        service.clean()


def append(url: str, *records: Record) -> None:
    """By the collector's way."""
    store = open_store(url, "writer")
    try:
        store.append(records)
    finally:
        store.close()


def insert(url: str, *rows: Row) -> None:
    """By whoever has the writer's credentials, past the collector."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as file:
            file.executemany(f"INSERT INTO records ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", rows)
    else:
        with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("SET ROLE auditlib_writer")
            cursor.executemany(f"INSERT INTO auditlib.records ({COLUMNS}) VALUES (%s, %s, %s, %s, %s, %s)", rows)


def drained(trail: simulator.Trail, url: str, max_events: int = 1000) -> Round:
    """One round of the real sealer, opened for it."""
    store = open_store(url, "sealer")
    options = {"now": trail.clock, "every": 300, "max_events": max_events}
    try:
        with open_drain(store, trail.vault, simulator.KEY, trail.state, **options) as drain:
            return drain.round(300)
    finally:
        store.close()


def sealed(trail: simulator.Trail, action: str = "") -> list[Record]:
    """Every sealed record, in order, or those of one action; but for the heartbeats."""
    found: list[Record] = []
    for entry in read_history(trail.vault, [simulator.KEY.verifier]).seals:
        table = parse_batch(trail.vault.get(entry.seal.batch.object, MAX_BATCH_BYTES)).table
        found += [record_at(table, row) for row in range(table.num_rows)]
    return [record for record in found if record.event.action in ({action} if action else ACTIONS)]


ACTIONS = {"role.grant", "user.login", "invoice.pay", "audit.refused", "audit.conflict"}


def forget(trail: simulator.Trail) -> None:
    """The store is read again from its beginning, as after a restored backup."""
    (trail.state.folder / "position").unlink()


def assert_clean(trail: simulator.Trail) -> None:
    report = trail.verify(deep=True)
    assert report.ok, report.errors


def invoice(number: int, **context: Any) -> Record:
    return simulator.record(number, action="invoice.pay", context={"amount": number} | context)


# --- a catalogue that grew stricter -------------------------------------------------------------------------------


def grow_stricter(trail: simulator.Trail) -> None:
    """From here on an invoice that was paid without saying who approved it is refused."""
    change_catalog(trail.vault, simulator.KEY, STRICTER, trail.state, who="ada", now=trail.clock)


def test_a_record_that_was_sealed_before_the_catalogue_grew_stricter_is_a_repeat(tmp_path: Path, url: str) -> None:
    """Read again under a catalogue that would refuse it, it is not said to have been refused: it stands in the vault.
    One that was not sealed before is refused, and told of once."""
    trail = simulator.Trail(tmp_path).create()
    before = [invoice(number) for number in range(1, 6)]
    append(url, *before)
    assert drained(trail, url).added.new == 5
    grow_stricter(trail)
    forget(trail)
    late = [invoice(6), invoice(7, approved_by="u_1"), invoice(8)]
    append(url, *late)
    found = drained(trail, url)
    assert (found.added.new, found.added.repeats, found.added.conflicts, found.refused) == (1, 5, 0, 2)
    forget(trail)
    again = drained(trail, url)
    assert (again.added.new, again.added.repeats, again.refused) == (0, 6, 2)
    assert sealed(trail, "invoice.pay") == [*before, late[1]]
    told = {record.event.context["event_id"]: record.event.context for record in sealed(trail, "audit.refused")}
    assert list(told) == [late[0].event.event_id, late[2].event.event_id]
    assert [told[one.event.event_id]["refused"] for one in (late[0], late[2])] == [
        event_bytes(one.event).decode() for one in (late[0], late[2])
    ]
    assert sealed(trail, "audit.conflict") == []
    assert_clean(trail)


def test_another_body_under_a_sealed_id_is_still_refused_by_a_stricter_catalogue(tmp_path: Path, url: str) -> None:
    """Only the very event that is sealed counts as a repeat."""
    trail = simulator.Trail(tmp_path).create()
    append(url, invoice(1))
    drained(trail, url)
    grow_stricter(trail)
    append(url, invoice(1, more="x"))
    assert drained(trail, url).refused == 1
    (told,) = sealed(trail, "audit.refused")
    assert told.event.context["refused"] == event_bytes(invoice(1, more="x").event).decode()


# --- rows that are no records -------------------------------------------------------------------------------------


def stored(number: int, **changes: Any) -> Row:
    """The row of a record, with columns replaced; the digest fits its bytes unless it is replaced too."""
    row = row_of(simulator.record(number))._replace(**changes)
    return row if "sha256" in changes else row._replace(sha256=sha256(row.event).digest())


GOOD = row_of(simulator.record(1))
STRANGE = {
    "spaces": stored(1, event=GOOD.event.replace(b":", b": ", 1)),
    "a key twice": stored(1, event=GOOD.event.replace(b'{"action"', b'{"action":"role.grant","action"')),
    "a key twice in the context": stored(1, event=GOOD.event.replace(b'{"n":1}', b'{"n":1,"n":1}')),
    "keys in another order": stored(1, event=GOOD.event.replace(b'{"n":1}', b'{"z":1,"n":1}')),
    "a float that is none": stored(1, event=GOOD.event.replace(b'{"n":1}', b'{"n":1.0}')),
    "a time in another spelling": stored(1, event=GOOD.event.replace(b'Z","outcome"', b'.000000Z","outcome"')),
    "an unknown field": stored(1, event=GOOD.event.replace(b'{"action"', b'{"aaa":1,"action"')),
    "an unknown actor type": stored(1, event=GOOD.event.replace(b'"type":"user"},"context"', b'"type":"x"},"context"')),
    "nested without end": stored(1, event=b"[" * 5000),
    "no JSON": stored(1, event=b"\0\xff\xfe"),
    "nothing": stored(1, event=b""),
    "no UTF-8": stored(1, event=GOOD.event.replace(b"s_1f9c", b"\xff")),
    "no UTF-8 in the context": stored(1, event=GOOD.event.replace(b'{"n":1}', b'{"n":"\xff"}')),
    "a lone surrogate": stored(1, event=GOOD.event.replace(b"s_1f9c", b"\\ud800")),
    "as long as can be": stored(1, event=b'"' + b"x" * (MAX_EVENT_BYTES - 2) + b'"'),
    "another id": stored(1, event_id="another"),
    "an id of many characters": stored(1, event_id="\u2028é" * 5000),
    "an empty id": stored(1, event_id=""),
    "another digest": stored(1, sha256=bytes(32)),
    "no source": stored(1, source="No Source\n"),
    "a number past 2^53": stored(1, source_seq=2**62),
    "the last time there is, in another event": stored(1, recorded_at=LATEST, event=b"{}"),
}


@pytest.mark.parametrize("fault", STRANGE)
def test_a_row_that_is_no_record_is_told_of_once_and_holds_nobody_up(tmp_path: Path, url: str, fault: str) -> None:
    """It becomes audit.refused with its digest and the reason; what stands before and after it is sealed as ever."""
    trail = simulator.Trail(tmp_path).create()
    strange = STRANGE[fault]
    append(url, simulator.record(0))
    insert(url, strange)
    append(url, simulator.record(2))
    insert(url, strange._replace(event_id="last", source="x", source_seq=None))
    found = drained(trail, url)
    assert (found.added.new, found.refused) == (2, 2)
    told = sealed(trail, "audit.refused")
    assert [record.event.context["sha256"] for record in told] == [sha256(strange.event).hexdigest()] * 2
    assert [record.event.context["position"] for record in told] == [2, 4]
    assert all("the stored row is no valid record" in record.event.context["reason"] for record in told)
    assert [parse_canonical_time(record.receipt.recorded_at) for record in told] == [strange.recorded_at] * 2
    assert sealed(trail, "role.grant") + sealed(trail, "user.login") == [simulator.record(0), simulator.record(2)]
    # It is neither met again at the remembered position nor, read again, told of again; and it stays in the store.
    assert drained(trail, url).refused == 0
    forget(trail)
    assert drained(trail, url).added.repeats == 2
    assert len(sealed(trail)) == 4
    store = open_store(url, "reader")
    assert [entry.event for entry in store.read(0, 10)][1::2] == [strange.event] * 2
    store.close()
    assert_clean(trail)


def test_pruning_and_status_pass_a_row_that_is_no_record(tmp_path: Path, url: str) -> None:
    """What was sealed around it is pruned, it stays for whoever looks into it, and nothing is said to wait."""
    trail = simulator.Trail(tmp_path).create()
    append(url, simulator.record(0))
    insert(url, stored(1, event=b"{}"))
    append(url, simulator.record(2))
    drained(trail, url)
    store = open_store(url, "keeper")
    assert prune(store, trail.vault, [simulator.KEY.verifier], before=LATEST) == Pruned(1, 1)  # never the newest
    assert [entry.position for entry in store.read(0, 10)] == [2, 3]
    store.close()
    store = open_store(url, "reader")
    assert waiting(store, [], None, lambda _: set()).read == [simulator.record(2)]
    store.close()


def test_many_rows_that_are_no_records_hold_nobody_up(tmp_path: Path, url: str) -> None:
    """Valid, refused by the catalogue, and strange rows in turns, over several batches: each is dealt with as alone."""
    trail = simulator.Trail(tmp_path).create()
    for start in range(0, 120, 4):
        append(url, simulator.record(start), simulator.record(start + 1))
        insert(url, stored(start + 2, event=b"{}", event_id=f"strange-{start}"))
        append(url, simulator.record(start + 3, action="role.grant", context={}))
    found = drained(trail, url, max_events=50)
    assert (found.added.new, found.added.conflicts, found.refused) == (60, 0, 60)
    told = sealed(trail, "audit.refused")
    assert sum("position" in record.event.context for record in told) == 30
    assert sum("granted_role" in record.event.context["reason"] for record in told) == 30
    assert_clean(trail)


RESPELLED = [  # parts of a canonical event, and what stands in their place
    *((b":", b": "), (b",", b" ,"), (b'":"', b'":"\\u0041'), (b'Z"', b'.000000Z"'), (b'Z"', b'+00:00"'), (b"Z", b"z")),
    *((b'{"action"', b'{"action":"a.b","action"'), (b',"type"', b',"type":"user","type"'), (b"null", b'""')),
    *(
        (b'"context":{', b'"context":{"a":1,"a":1'),
        (b'"context":{', b'"context":{ '),
        (b'"context":{}', b'"context":[]'),
    ),
    *(
        (b'"context":{', b'"context":{"":1.0'),
        (b'"context":{', b'"context":{"\\u0000":0'),
        (b'"target"', b'"x":1,"target"'),
    ),
    *(
        (b"}", b""),
        (b'"id":"', b'"id":"\xff'),
        (b'"id":"', b'"id":"\0'),
        (b"success", b"Success"),
        (b"9", b"\xef\xbb\xbf"),
    ),
]


@st.composite
def stored_rows(draw: st.DrawFn) -> Row:
    """A record's row, its event perhaps respelled or damaged, its id and digest perhaps another's."""
    row = row_of(draw(st.one_of(strategies.records, st.integers(0, 9).map(simulator.record))))
    raw = row.event
    for part, other in draw(st.lists(st.sampled_from(RESPELLED), max_size=1)):
        raw = raw.replace(part, other, 1)
    return row._replace(
        event=raw,
        event_id=draw(st.sampled_from([row.event_id] * 5 + ["another"])),
        sha256=draw(st.sampled_from([sha256(raw).digest()] * 5 + [bytes(32)])),
    )


@settings(max_examples=400, deadline=None)
@given(st.lists(stored_rows(), min_size=1, max_size=3))
def test_rows_are_judged_in_columns_as_one_by_one(rows: list[Row]) -> None:
    """What the sealer takes in columns is what Entry.record and the catalogue take, byte for byte, and nothing else."""
    entries = [Entry(position, *row) for position, row in enumerate(rows, 1)]
    slow = [slowly(entry) for entry in entries]
    try:
        table = _laid_out(entries)
    except (MalformedError, MismatchError):
        assert None in [unlisted(entry) for entry in entries]
        return
    wrong = dict(faults(table, simulator.CATALOG))
    assert set(wrong) == {row for row, text in enumerate(slow) if text is None}
    texts = record_texts(table).to_pylist()
    assert [text for row, text in enumerate(texts) if row not in wrong] == [text for text in slow if text is not None]


def unlisted(entry: Entry) -> bytes | None:
    """The record that a row holds, read one by one; None where it holds none."""
    try:
        return record_bytes(entry.record)
    except MismatchError:
        return None


def slowly(entry: Entry) -> bytes | None:
    """The same; None also where the catalogue refuses it."""
    try:
        text = unlisted(entry)
        if text is not None:
            simulator.CATALOG.check(entry.record.event)
        return text
    except MalformedError:
        return None
