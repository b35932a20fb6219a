"""What every store promises, whichever database keeps it: one suite, run over both (see `auditlib.store`)."""

import contextlib
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import records as any_records

from auditlib.errors import MalformedError, MismatchError, UnavailableError
from auditlib.formats.event import Receipt, Record, event_bytes, parse_event, record_bytes
from auditlib.formats.times import SECOND, format_time
from auditlib.store import Backlog, Clock, Refusal, init_store, open_store

NOW = 1_767_882_728 * SECOND  # 2026-01-08T14:32:08Z
COLUMNS = "recorded_at, source, source_seq, event_id, sha256, event"


def record(number, source="billing-api/7f3a", at=NOW, **context):
    """A record; the number makes its id."""
    event = {
        "action": "role.grant",
        "actor": {"id": "u_8842", "session": None, "type": "user"},
        "context": {"granted_role": "admin"} | context,
        "event_id": f"01JH2K{number:020d}",
        "occurred_at": "2026-01-08T14:32:07Z",
        "outcome": "success",
        "target": {"id": "u_9013", "type": "user"},
    }
    return Record(parse_event(event), Receipt(format_time(at), source, number + 1))


def statuses(outcomes):
    return [outcome.status for outcome in outcomes]


def together(work, arguments):
    """Call work(argument) in one thread each, all let go at once; results or exceptions, in order."""
    gate = threading.Barrier(len(arguments))

    def run(argument):
        gate.wait()
        try:
            return work(argument)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(arguments)) as pool:
        return list(pool.map(run, arguments))


class StoreSuite:
    """Subclasses give a fixture `place`: an initialised store.

    `place.url`; `place.open(role)`, closed at the end; `place.sql(statement, *values, role=None)`, straight to the
    database in a role or as its owner, giving rows; `place.roles`; `place.errors`, what the driver raises;
    `place.schema()`, everything that init makes; `place.copy()`, another place with a backup of the data.
    """

    @pytest.fixture
    def writer(self, place):
        return place.open("writer")

    @pytest.fixture
    def sealer(self, place):
        return place.open("sealer")

    @pytest.fixture
    def keeper(self, place):
        return place.open("keeper")

    # ------------------------------------------------------------------------------------- append and read

    def test_what_was_appended_is_read_in_its_order(self, place, writer, sealer):
        """Records come back as they went in, in the order of the calls, also from a store that is opened later."""
        kept = [record(number) for number in (3, 1, 2, 0)]
        assert statuses(writer.append(kept[:3])) == ["recorded"] * 3
        assert statuses(writer.append(kept[3:])) == ["recorded"]
        writer.close()
        found = sealer.read(0, 10)
        assert [entry.record for entry in found] == kept
        assert [entry.record for entry in place.open("reader").read(0, 10)] == kept
        assert sealer.read(found[1].position, 1) == found[2:3]
        assert sealer.read(found[-1].position, 10) == []

    def test_any_record_survives_byte_for_byte(self, writer, sealer):
        """Whatever DESIGN 4.1 accepts is stored and read without losing a byte."""

        @settings(max_examples=40, deadline=None)
        @given(st.lists(any_records, max_size=4))
        def check(kept):
            last = max((entry.position for entry in sealer.read(0, 10_000)), default=0)
            outcomes = writer.append(kept)
            fresh = [one for one, outcome in zip(kept, outcomes, strict=True) if outcome.status != "repeated"]
            assert [record_bytes(entry.record) for entry in sealer.read(last, 100)] == list(map(record_bytes, fresh))

        check()

    def test_the_same_body_again_is_acknowledged_and_kept_once(self, writer, sealer):
        """A retry, in a later call or in the same one, gets the first receipt and adds nothing."""
        first = writer.append([record(1)])[0]
        again = writer.append([record(1, at=NOW + SECOND), record(2), record(2, at=NOW + SECOND)])
        assert statuses(again) == ["repeated", "recorded", "repeated"]
        assert again[0].receipt == first.receipt == record(1).receipt
        assert again[2].receipt == record(2).receipt
        assert [entry.record for entry in sealer.read(0, 10)] == [record(1), record(2)]

    def test_another_body_under_one_id_is_a_conflict_and_neither_is_lost(self, writer, sealer):
        """Both bodies reach the sealer; the same id from another source is no conflict."""
        writer.append([record(1)])
        found = writer.append([record(1, role="x"), record(1, role="x"), record(1, source="other")])
        assert statuses(found) == ["conflict", "repeated", "recorded"]
        kept = [record(1), record(1, role="x"), record(1, source="other")]
        assert [entry.record for entry in sealer.read(0, 10)] == kept
        at_once = writer.append([record(2), record(2, role="x"), record(2), record(2, role="x"), record(2, role="y")])
        assert statuses(at_once) == ["recorded", "conflict", "repeated", "repeated", "conflict"]

    def test_two_bodies_sent_at_once_cannot_both_be_the_first(self, place, sealer):
        """Two collectors that receive two bodies under one id at the same moment: one records, one sees the conflict;
        and the same body at the same moment is kept once."""
        stores = [place.open("writer"), place.open("writer")]
        for number in range(20):
            bodies = zip(stores, [record(number, role="a"), record(number, role="b")], strict=True)
            found = together(lambda pair: pair[0].append([pair[1]])[0].status, list(bodies))
            assert sorted(found) == ["conflict", "recorded"]
            bodies = zip(stores, [record(1000 + number)] * 2, strict=True)
            found = together(lambda pair: pair[0].append([pair[1]])[0].status, list(bodies))
            assert sorted(found) == ["recorded", "repeated"]
        assert len(sealer.read(0, 1000)) == 60

    def test_a_call_is_kept_whole_or_not_at_all(self, writer, sealer):
        """One record, refusal or clock that could not be read back refuses the whole call, before anything is kept."""
        good = Refusal("billing-api", 1, NOW, "ab" * 32, "no actor", "{}")
        long_source = Record(record(2).event, Receipt(format_time(NOW), "s" * 129, None))
        bad_time = Record(record(2).event, Receipt("2026-01-08 14:32:08", "billing-api", None))
        bad_number = Record(record(2).event, Receipt(format_time(NOW), "billing-api", 2**63))
        for bad in (long_source, bad_time, bad_number):
            with pytest.raises(MalformedError):
                writer.append([record(1), bad], refusals=[good])
        with pytest.raises(MalformedError):
            writer.append([record(1)], refusals=[good, Refusal("A B", None, NOW, "", "", "")])
        with pytest.raises(MalformedError):
            writer.append([record(1)], refusals=[Refusal("a", None, NOW, "", "", "x" * 2_000_000)])
        with pytest.raises(MalformedError):
            writer.append([record(1)], clock=Clock("a", NOW, 2**62))
        assert sealer.read(0, 10) == []
        assert sealer.refusals(0) == []
        assert sealer.clocks(0) == []

    def test_a_value_is_never_read_as_sql(self, writer, sealer):
        """Quotes, placeholders and commands in a record are data."""
        nasty = ["'); DROP TABLE records; --", "%s %(x)s ? :x {}", '{"a":\\"}', "\\x00", "NULL", ""]
        kept = [record(number, text=text) for number, text in enumerate(nasty)]
        kept.append(Record(parse_event(event_bytes(record(1).event).replace(b"01JH2K", b"';--,{}")), record(1).receipt))
        assert statuses(writer.append(kept)) == ["recorded"] * len(kept)
        assert [entry.record for entry in sealer.read(0, 100)] == kept
        assert statuses(writer.append(kept)) == ["repeated"] * len(kept)

    def test_refusals_and_clocks_are_kept_with_the_records(self, writer, sealer):
        """What was refused comes back to the letter, even what no text column holds; one clock a source and minute."""
        refused = [
            Refusal("billing-api/7f3a", 7, NOW, "ab" * 32, "no \ud800 actor", 'a\0b \ud800 é "'),
            Refusal("a", None, NOW + 1, "", "", ""),
        ]
        writer.append([record(1)], refusals=refused, clock=Clock("billing-api/7f3a", NOW, -3))
        writer.append([], clock=Clock("billing-api/7f3a", NOW + 1, 5))
        writer.append([], clock=Clock("billing-api/7f3a", NOW + 60 * SECOND, 9))
        assert sealer.refusals(0) == refused
        assert sealer.refusals(NOW + 1) == refused[1:]
        assert sealer.clocks(0) == [
            Clock("billing-api/7f3a", NOW, -3),
            Clock("billing-api/7f3a", NOW + 60 * SECOND, 9),
        ]
        assert sealer.clocks(NOW + 1) == sealer.clocks(0)[1:]

    def test_the_backlog_counts_what_waits(self, writer, sealer):
        """Records past a position, and the oldest of them."""
        assert sealer.backlog(0) == Backlog(0, None)
        writer.append([record(1, at=NOW + 5), record(2, at=NOW), record(3, at=NOW + 9)])
        assert sealer.backlog(0) == Backlog(3, NOW)
        last_two = sealer.read(0, 10)[1].position
        assert sealer.backlog(last_two) == Backlog(1, NOW + 9)

    def test_no_record_is_ever_skipped_under_many_writers(self, place, sealer):
        """A reader that follows many writers, of two stores, sees every acknowledged record once, in order."""
        stores = [place.open("writer"), place.open("writer")]
        ended = threading.Event()

        def write(thread):
            for call in range(12):
                numbers = range(call * 3, call * 3 + 1 + (thread + call) % 3)
                stores[thread % 2].append([record(number, source=f"source-{thread}") for number in numbers])

        def follow():
            found, last = [], 0
            while True:
                over = ended.is_set()  # asked before reading: what came before it is then read
                if entries := sealer.read(last, 7):
                    found += entries
                    last = entries[-1].position
                elif over:
                    return found

        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(follow)
            try:
                assert together(write, range(12)) == [None] * 12
            finally:
                ended.set()
            found = following.result()
        positions = [entry.position for entry in found]
        assert positions == sorted(set(positions))
        assert len(found) == sum(1 + (thread + call) % 3 for thread in range(12) for call in range(12))
        assert len({record_bytes(entry.record) for entry in found}) == len(found)

    # ------------------------------------------------------------------------------------- nobody changes it

    @pytest.mark.parametrize(
        "attack",
        [
            "UPDATE records SET event = event",
            "UPDATE refusals SET body = body",
            "UPDATE identity SET id = 'x'",
            "DELETE FROM records",
            "DELETE FROM records WHERE position = 1",
            "DELETE FROM refusals",
            "DELETE FROM identity",
            "TRUNCATE records",
            "TRUNCATE refusals",
            "TRUNCATE identity",
            f"INSERT INTO records (position, {COLUMNS}) SELECT 0, {COLUMNS} FROM records LIMIT 1",
            f"INSERT INTO records (position, {COLUMNS}) SELECT 1, recorded_at, source, 9, event_id, sha256, event"
            " FROM records LIMIT 1",
            f"INSERT INTO records ({COLUMNS}) SELECT {COLUMNS} FROM records LIMIT 1",
            "INSERT INTO identity (one, id, format) VALUES (1, 'x', 'y')",
        ],
    )
    def test_nobody_changes_what_was_recorded(self, place, writer, attack):
        """Every role and the owner are refused, straight at the database, and nothing has changed."""
        writer.append([record(1), record(2)], refusals=[Refusal("a", None, NOW, "", "", "")])
        before = place.contents()
        for role in place.roles:
            with pytest.raises(place.errors):
                place.sql(attack, role=role)
            assert place.contents() == before, role

    def test_each_store_does_only_what_its_role_is_for(self, place):
        """A reader cannot write, a writer cannot read, only a sealer leases, only a keeper prunes."""
        calls = {
            "append": (lambda store: store.append([record(1)]), {"writer"}),
            "lease": (lambda store: store.lease("a", 10, NOW), {"sealer"}),
            "prune": (lambda store: store.prune([1], NOW), {"keeper"}),
            "read": (lambda store: store.read(0, 1), {"sealer", "keeper", "reader"}),
            "digest_at": (lambda store: store.digest_at(1), {"sealer", "keeper", "reader"}),
            "backlog": (lambda store: store.backlog(0), {"sealer", "keeper", "reader"}),
            "refusals": (lambda store: store.refusals(0), {"sealer", "keeper", "reader"}),
            "clocks": (lambda store: store.clocks(0), {"sealer", "keeper", "reader"}),
        }
        before = place.contents()
        for role in ("writer", "sealer", "keeper", "reader"):
            store = place.open(role)
            for call, allowed in calls.values():
                if role not in allowed:
                    with pytest.raises(MalformedError, match="may not"):
                        call(store)
        assert place.contents() == before
        with pytest.raises(MalformedError):
            open_store(place.url, "owner")

    # ------------------------------------------------------------------------------------- init and identity

    def test_init_again_changes_nothing(self, place, writer):
        """Tables, triggers, rights, data and identity are the same after a second init, also while it is in use."""
        writer.append([record(1)])
        before = place.schema(), place.contents()
        for _ in range(2):
            init_store(place.url)
        assert (place.schema(), place.contents()) == before
        assert statuses(writer.append([record(1)])) == ["repeated"]

    def test_two_inits_at_once_make_one_store(self, empty_place):
        """Both succeed, and there is one identity."""
        assert together(init_store, [empty_place.url] * 4) == [None] * 4
        assert len(empty_place.sql("SELECT id FROM identity")) == 1

    def test_what_is_no_store_is_said_to_be_none(self, empty_place):
        """A database that init_store has not made is refused in words, and nothing is made of it."""
        with pytest.raises(UnavailableError):
            open_store(empty_place.url)
        with pytest.raises(empty_place.errors):
            empty_place.sql("SELECT * FROM records")

    def test_a_store_has_an_identity_of_its_own(self, place, empty_place):
        """Two stores differ; each role reads the same."""
        init_store(empty_place.url)
        found = {place.open(role).identity for role in ("writer", "sealer", "keeper", "reader")}
        assert len(found) == 1
        assert {empty_place.open("sealer").identity}.isdisjoint(found)

    def test_a_restored_backup_shows_at_the_remembered_position(self, place, writer, sealer):
        """A store set back to an older state has the same identity, and not the record that the sealer remembers."""
        writer.append([record(1)])
        with contextlib.closing(place.copy()) as old:
            writer.append([record(2), record(3)])
            remembered = sealer.read(0, 10)[-1]
            digest = sealer.digest_at(remembered.position)
            assert digest == hashlib.sha256(record_bytes(remembered.record)).hexdigest()
            restored = old.open("sealer")
            assert restored.identity == sealer.identity
            assert restored.digest_at(remembered.position) is None
            old.open("writer").append([record(2), record(4), record(5)])
            assert restored.digest_at(remembered.position) not in {None, digest}

    # ------------------------------------------------------------------------------------- distrust

    @pytest.mark.parametrize("fault", ["spaces", "twice", "float", "json", "utf8", "id", "digest", "source", "unknown"])
    def test_a_row_that_is_no_record_is_refused_by_its_position(self, place, writer, sealer, fault):
        """Whoever writes to the table past the collector cannot slip in what is no canonical, valid record: it is read
        as a row, so that the sealer may go on past it, and no record is ever made of it."""
        writer.append([record(1)])
        good = event_bytes(record(2).event)
        data = {
            "spaces": good.replace(b":", b": ", 1),
            "twice": good.replace(b'{"action"', b'{"action":"role.grant","action"'),
            "float": good.replace(b'"admin"', b"1.0"),
            "json": b"[" * 5000,
            "utf8": good.replace(b"admin", b"\xff"),
            "unknown": good.replace(b'{"action"', b'{"aaa":1,"action"'),
        }.get(fault, good)
        digest = hashlib.sha256(data).digest() if fault != "digest" else bytes(32)
        event_id = record(2).event.event_id if fault != "id" else "another"
        source = "billing-api" if fault != "source" else "No Source"
        place.sql(f"INSERT INTO records ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", NOW, source, 2, event_id, digest, data)
        writer.append([record(3)])
        position = place.sql("SELECT position FROM records ORDER BY position")[1][0]
        entries = sealer.read(0, 10)
        assert [entries[0].record, entries[2].record] == [record(1), record(3)]
        for _ in range(2):
            with pytest.raises(MismatchError) as caught:
                _ = entries[1].record
            assert f"position {position}" in str(caught.value)
        assert (entries[1].position, entries[1].event) == (position, data)
        assert len({sealer.digest_at(entry.position) for entry in entries}) == 3
        assert [entry.record for entry in sealer.read(position, 10)] == [record(3)]

    # ------------------------------------------------------------------------------------- the lease

    def test_two_sealers_never_hold_one_lease(self, place):
        """Of many that ask at once one gets it; the others hear who has it and until when."""
        stores = [place.open("sealer") for _ in range(4)]
        for turn in range(5):
            now = NOW + turn * 60 * SECOND
            found = together(lambda i, now=now: stores[i].lease(f"sealer-{i}", 60, now), range(4))
            won = [one for one in found if not isinstance(one, Exception)]
            assert [lease.number for lease in won] == [turn + 1]
            for error in found:
                if isinstance(error, Exception):
                    assert isinstance(error, UnavailableError)
                    assert won[0].holder in str(error)

    def test_an_expired_lease_passes_on_and_its_old_holder_is_fenced_off(self, place):
        """Its number grows; the old holder can neither renew it nor release it for the new one."""
        one, two = place.open("sealer"), place.open("sealer")
        old = one.lease("one", 10, NOW)
        with pytest.raises(UnavailableError):
            two.lease("two", 10, NOW + 10 * SECOND - 1)
        renewed = one.renew(old, NOW + 5 * SECOND)
        assert (renewed.number, renewed.until) == (old.number, NOW + 15 * SECOND)
        new = two.lease("two", 10, NOW + 15 * SECOND)
        assert new.number > old.number
        with pytest.raises(UnavailableError):
            one.renew(renewed, NOW + 16 * SECOND)
        one.release(renewed)
        with pytest.raises(UnavailableError):
            one.lease("one", 10, NOW + 16 * SECOND)
        assert two.renew(new, NOW + 16 * SECOND).number == new.number

    def test_a_killed_sealer_takes_its_own_lease_over_at_once(self, place):
        """Under a greater number, whatever the clock says meanwhile; what it was before is fenced off."""
        one, again = place.open("sealer"), place.open("sealer")
        old = one.lease("one", 1000, NOW)
        for now in (NOW + SECOND, NOW - 10**6 * SECOND):
            new = again.lease("one", 1000, now)
            assert (new.number, new.until) == (old.number + 1, now + 1000 * SECOND)
            with pytest.raises(UnavailableError):
                one.renew(old, NOW + SECOND)
            one.release(old)
            with pytest.raises(UnavailableError):
                place.open("sealer").lease("two", 10, now)
            old = new

    def test_a_released_lease_is_free_at_once_and_cannot_be_renewed(self, sealer):
        """Release ends it; a forgotten copy of it is worth nothing."""
        old = sealer.lease("one", 1000, NOW)
        sealer.release(old)
        with pytest.raises(UnavailableError):
            sealer.renew(old, NOW)
        assert sealer.lease("two", 10, NOW).number == old.number + 1

    # ------------------------------------------------------------------------------------- the keeper

    def test_prune_takes_only_what_it_was_told_and_never_the_newest(self, place, writer, sealer, keeper):
        """Only those positions, only what was recorded before the time; and no position is given a second time."""
        writer.append([record(number, at=NOW + number) for number in range(6)], clock=Clock("a", NOW, 1))
        positions = [entry.position for entry in sealer.read(0, 10)]
        assert keeper.prune([], NOW + 100) == 0
        assert keeper.prune([positions[0], positions[2], positions[3]], NOW + 3) == 2
        assert [entry.position for entry in sealer.read(0, 10)] == [positions[i] for i in (1, 3, 4, 5)]
        assert keeper.prune([*positions, 10**12], NOW + 100) == 3
        assert [entry.record for entry in sealer.read(0, 10)] == [record(5, at=NOW + 5)]
        assert sealer.clocks(0) == []
        assert sealer.digest_at(positions[0]) is None
        keeper.close()
        writer.append([record(7)])
        assert sealer.read(0, 10)[1].position > positions[-1]

    def test_after_a_prune_the_gate_is_shut_again(self, place, writer, keeper):
        """The keeper's own connections delete nothing outside of prune."""
        writer.append([record(number) for number in range(4)])
        assert keeper.prune([place.sql("SELECT min(position) FROM records")[0][0]], NOW + 1) == 1
        before = place.contents()
        with pytest.raises(UnavailableError), keeper._database.begin(write=True) as connection:
            connection.exec_driver_sql("DELETE FROM records")
        assert place.contents() == before

    # ------------------------------------------------------------------------------------- many at once

    def test_many_threads_share_one_store(self, writer, sealer):
        """Each call gets its own outcomes, also where one of them fails."""

        def work(number):
            source = "A bad source" if number == 5 else "billing-api"
            with contextlib.suppress(MalformedError):
                return statuses(writer.append([record(number, source=source), record(number, source=source)]))

        found = together(work, range(16))
        assert found == [None if number == 5 else ["recorded", "repeated"] for number in range(16)]
        assert len(sealer.read(0, 100)) == 15
