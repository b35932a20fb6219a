"""The dedicated store: the common suite over SQLite and PostgreSQL, and what each alone can suffer."""

import contextlib
import hashlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pg_service as services
import pytest
from sqlalchemy import event
from store_suite import COLUMNS, NOW, StoreSuite, record, statuses

from auditlib.errors import MalformedError, UnavailableError
from auditlib.store import init_store, open_store
from auditlib.store.postgres import INSERTING, ROLES
from auditlib.store.rows import Refusal, row_of

SECRET = "correct-horse/battery@staple"
QUOTED = "correct-horse%2Fbattery%40staple"


class Place:
    """A store of the suite; see there."""

    def __init__(self, url):
        self.url = url
        self._stores = []

    def open(self, role):
        self._stores.append(open_store(self.url, role))
        return self._stores[-1]

    def contents(self):
        tables = ("records", "refusals", "clocks", "lease", "identity")
        return {table: sorted(self.sql(f"SELECT * FROM {table}"), key=repr) for table in tables}

    def close(self):
        for store in self._stores:
            store.close()


# ----------------------------------------------------------------------------------------------------------- SQLite


class SQLitePlace(Place):
    """A file, and anybody's own connection to it."""

    roles = (None,)
    errors = sqlite3.Error

    def __init__(self, path):
        super().__init__(f"sqlite:///{path}")
        self.path = path

    def sql(self, statement, *values, role=None):
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement, values).fetchall()

    def schema(self):
        return self.sql("SELECT type, name, sql FROM sqlite_master ORDER BY name")

    def copy(self):
        self.close()  # the last to close leaves all in the one file
        copy = self.path.with_name("copy.db")
        shutil.copy(self.path, copy)
        return SQLitePlace(copy)


@pytest.fixture
def sqlite_place(tmp_path):
    place = SQLitePlace(tmp_path / "store.db")
    init_store(place.url)
    yield place
    place.close()


class TestSQLite(StoreSuite):
    """One file."""

    @pytest.fixture
    def place(self, sqlite_place):
        return sqlite_place

    @pytest.fixture
    def empty_place(self, tmp_path):
        place = SQLitePlace(tmp_path / "empty.db")
        place.path.touch()
        yield place
        place.close()

    @pytest.mark.parametrize(
        "attack",
        [
            f"INSERT OR REPLACE INTO records ({COLUMNS}) SELECT recorded_at + 1, source, source_seq, event_id, sha256,"
            " event FROM records",
            f"INSERT OR REPLACE INTO records (position, {COLUMNS}) SELECT position, recorded_at, source, source_seq,"
            " 'x', sha256, event FROM records",
            f"REPLACE INTO records (position, {COLUMNS}) SELECT max(position), recorded_at, source, source_seq, 'x',"
            " sha256, event FROM records",
            f"INSERT OR IGNORE INTO records (position, {COLUMNS}) SELECT -5, recorded_at, source, source_seq, 'x',"
            " sha256, event FROM records LIMIT 1",
            "UPDATE OR REPLACE records SET position = 2 WHERE position = 1",
            "INSERT OR REPLACE INTO refusals SELECT position, 'x', 1, 1, x'00', x'00', x'00' FROM refusals",
            "INSERT OR REPLACE INTO identity VALUES (1, 'x', 'y')",
        ],
    )
    def test_replacing_is_no_way_around_the_triggers(self, place, writer, attack):
        """OR REPLACE deletes without a DELETE trigger, and is refused all the same."""
        writer.append([record(1), record(2)], refusals=[Refusal("a", None, NOW, "", "", "")])
        before = place.contents()
        with pytest.raises(sqlite3.Error):
            place.sql(attack)
        assert place.contents() == before

    def test_calls_that_wait_are_committed_together(self, place, sealer):
        """While another process writes, ten calls wait; then one or two commits take them all."""
        store, commits = open_store(place.url), []

        def count(connection, _):
            connection.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)

        event.listen(store._database.engine, "connect", count)
        store.close()
        with contextlib.closing(sqlite3.connect(place.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with ThreadPoolExecutor(10) as pool:
                found = [pool.submit(store.append, [record(0)])]
                while store._appender._thread is None or store._appender._queue:
                    assert not found[0].done()  # it is in the writer's hands, who waits for the other process
                found += [pool.submit(store.append, [record(number)]) for number in range(1, 10)]
                while len(store._appender._queue) < 9:
                    assert not any(future.done() for future in found)
                other.execute("ROLLBACK")
        assert [future.result()[0].status for future in found] == ["recorded"] * 10
        assert 1 <= len(commits) <= 2
        assert len(sealer.read(0, 100)) == 10
        store.close()

    def test_every_acknowledged_record_survives_kill_9(self, place, sealer):
        """A collector killed in the middle of its work has told nobody of a record that is not there."""
        script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from concurrent.futures import ThreadPoolExecutor
from store_suite import record
from auditlib.store import open_store
store = open_store({place.url!r})
def work(thread):
    for number in range(100_000):
        store.append([record(number, source=f"source-{{thread}}")])
        sys.stdout.write(f"source-{{thread}} {{number}}\\n")
        sys.stdout.flush()
with ThreadPoolExecutor(4) as pool:
    list(pool.map(work, range(4)))
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
            said = [process.stdout.readline() for _ in range(200)]
            process.kill()
            said += process.stdout.read().splitlines(keepends=True)
        assert process.returncode == -signal.SIGKILL
        acknowledged = {tuple(line.split()) for line in said if line.endswith("\n")}
        found = [(entry.record.receipt.source, str(entry.record.receipt.source_seq - 1)) for entry in read_all(sealer)]
        assert len(found) == len(set(found))
        assert acknowledged <= set(found)
        assert len(found) <= len(acknowledged) + 4

    def test_a_full_disk_is_an_error_and_no_half_written_call(self, place, sealer):
        """SQLITE_FULL: the call is refused whole; with room again the same store goes on."""
        limits = ["PRAGMA max_page_count = 64"]
        store = open_store(place.url)
        event.listen(store._database.engine, "connect", lambda connection, _: connection.execute(limits[0]))
        store.close()
        fills_the_disk(store, sealer)
        limits[0] = "PRAGMA max_page_count = 100000"
        store.close()
        assert statuses(store.append([record(10**6)])) == ["recorded"]
        store.close()

    def test_a_disk_without_room_is_an_error_and_no_half_written_call(self, tmp_path):
        """ENOSPC from a real, small file system; once it has room the same store goes on."""
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
        if os.getuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("only root may mount a small file system")
        place = SQLitePlace(disk / "store.db")
        try:
            init_store(place.url)
            store = place.open("writer")
            fills_the_disk(store, place.open("sealer"))
            subprocess.run([*mount[:-3], "remount,size=50m", *mount[-2:]], check=True)
            assert statuses(store.append([record(10**6)])) == ["recorded"]
        finally:
            place.close()
            subprocess.run(["umount", str(disk)], check=True)

    def test_a_file_that_was_moved_away_takes_no_records(self, place, writer):
        """An open file without its name would swallow records; the call fails, and works when the file is back."""
        writer.append([record(1)])
        away = place.path.with_name("away")
        away.mkdir()
        for file in list(place.path.parent.glob("store.db*")):
            file.rename(away / file.name)
        for _ in range(2):
            with pytest.raises(UnavailableError):
                writer.append([record(2)])
            assert not place.path.exists()
        for file in list(away.iterdir()):
            file.rename(place.path.with_name(file.name))
        assert writer.append([record(3)])[0].status == "recorded"

    def test_a_store_that_is_missing_is_not_made_by_opening_it(self, tmp_path):
        """A mistyped path is an error, not a new and empty store."""
        with pytest.raises(UnavailableError) as caught:
            open_store(f"sqlite:///{tmp_path}/typo.db")
        assert "init_store" in str(caught.value)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(UnavailableError):
            init_store(f"sqlite:///{tmp_path}/no/folder/store.db")

    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, tmp_path):
        """Init and open refuse it in words."""
        path = tmp_path / "notes.txt"
        path.write_text("These are notes, and no database at all.\n" * 50)
        for call in (init_store, open_store):
            with pytest.raises(UnavailableError):
                call(f"sqlite:///{path}")
        assert path.read_text().startswith("These are notes")

    def test_the_file_is_for_its_owner_alone(self, place, writer):
        """Neither the database nor its log can be read by others."""
        writer.append([record(1)])
        for file in place.path.parent.glob("store.db*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file

    def test_every_commit_is_synced(self, place, writer):
        """WAL, synchronous=FULL, on the connections that are used."""
        with writer._database.begin() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2

    def test_an_acknowledgement_looks_up_and_never_scans(self, place):
        """The lookup of repeats goes by the index, whatever the size of the table."""
        plan = place.sql(
            "EXPLAIN QUERY PLAN SELECT recorded_at FROM records"
            " WHERE source = 'a' AND event_id IN (SELECT value FROM json_each('[1]'))"
        )
        assert "source=? AND event_id=?" in str(plan)

    def test_a_reader_cannot_write_even_by_sql(self, place):
        """Its connections are for queries only."""
        reader = place.open("reader")
        with pytest.raises(UnavailableError), reader._database.begin() as connection:
            connection.exec_driver_sql("UPDATE lease SET until = 1")


def read_all(store):
    found = []
    while entries := store.read(found[-1].position if found else 0, 5000):
        found += entries
    return found


def fills_the_disk(store, sealer):
    """Append until the database has no room; what was acknowledged is there, and nothing of the refused call."""
    acknowledged = 0
    with pytest.raises(UnavailableError) as caught:
        for call in range(1000):
            store.append([record(100 * call + number, text="x" * 500) for number in range(100)])
            acknowledged += 100
    assert "room" in str(caught.value)
    assert len(read_all(sealer)) == acknowledged


# ------------------------------------------------------------------------------------------------------- PostgreSQL


class PostgresPlace(Place):
    """A database, its owner's connection, and the group roles."""

    roles = (None, *(f"auditlib_{role}" for role in ROLES))

    def __init__(self, service, url):
        super().__init__(url)
        import psycopg

        self.service = service
        self.errors = psycopg.Error

    def sql(self, statement, *values, role=None):
        with self.service.connect(self.url) as connection:
            connection.execute("SET search_path = auditlib")
            if role:
                connection.execute(f"SET ROLE {role}")
            cursor = connection.execute(statement.replace("?", "%s") if values else statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def schema(self):
        """Everything pg_dump would write: tables, triggers, functions, rights; by catalogue."""
        ours = "FROM pg_class WHERE relnamespace = 'auditlib'::regnamespace"
        found = {
            "class": f"SELECT relname, relkind, relowner, relacl::text {ours}",
            "columns": "SELECT attrelid, attname, atttypid, attnotnull, attacl::text FROM pg_attribute"
            f" WHERE attrelid IN (SELECT oid {ours})",
            "triggers": "SELECT tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
            "functions": "SELECT oid, pg_get_functiondef(oid) FROM pg_proc"
            " WHERE pronamespace = 'auditlib'::regnamespace",
            "roles": "SELECT rolname, rolsuper, rolcanlogin FROM pg_roles WHERE rolname LIKE 'auditlib\\_%er'",
        }
        return {name: sorted(self.sql(query), key=repr) for name, query in found.items()}

    def copy(self):
        self.close()
        copy = PostgresPlace(self.service, self.service.new_database())
        name = copy.url.rsplit("/", 1)[1]
        with self.service.connect() as connection:
            connection.execute(f"DROP DATABASE {name}")
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {self.url.rsplit('/', 1)[1]}")
        return copy

    def waiting(self):
        """How many sessions of this database wait for a lock."""
        return self.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )[0][0]


@pytest.fixture(scope="module")
def service():
    yield services.pg_service()
    services.leave_pg_service()


@pytest.fixture
def pg_place(service):
    place = PostgresPlace(service, service.new_database())
    init_store(place.url)
    yield place
    place.close()
    service.clean()


INSERT = f"INSERT INTO auditlib.records ({COLUMNS}) VALUES (1, 'raw', %s, %s, sha256('x'), 'x')"


class TestPostgres(StoreSuite):
    """One database of a server."""

    @pytest.fixture
    def place(self, pg_place):
        return pg_place

    @pytest.fixture
    def empty_place(self, service):
        place = PostgresPlace(service, service.new_database())
        yield place
        place.close()
        service.clean()

    # ------------------------------------------------------------------------------------- order

    def test_a_lower_position_that_commits_later_is_not_skipped(self, place, writer, sealer):
        """Two transactions, the first still open: who just looks reads the second and would skip the first; the store
        waits for it."""
        with place.service.connect(place.url) as early:
            early.execute("BEGIN")
            early.execute(INSERT.replace("sha256('x'), 'x'", "%s, %s"), (1, *late_row()))
            writer.append([record(2)])
            naive = [position for (position,) in place.sql("SELECT position FROM records")]
            assert naive == [2]  # from here a naive reader goes on past 2, and never sees 1
            with ThreadPoolExecutor(1) as pool:
                reading = pool.submit(sealer.read, 0, 10)
                while not place.waiting():
                    assert not reading.done()
                early.execute("COMMIT")
                found = reading.result()
        assert [entry.position for entry in found] == [1, 2]
        assert [row[0] for row in place.sql("SELECT position FROM records WHERE position > 2")] == []

    def test_a_transaction_that_rolls_back_leaves_a_gap_and_no_wait(self, place, writer, sealer):
        """A position that was given and never used is passed over."""
        with place.service.connect(place.url) as early:
            early.execute("BEGIN")
            early.execute(INSERT, (1, "a"))
            early.execute("ROLLBACK")
        writer.append([record(2)])
        assert [entry.position for entry in sealer.read(0, 10)] == [2]

    @pytest.mark.parametrize(
        "insert",
        [
            "INSERT INTO auditlib.records ({}) VALUES (1, 'raw', 1, 'a', sha256('x'), 'x')",
            "INSERT INTO auditlib.records ({}) SELECT 1, 'raw', 1, i::text, sha256('x'), 'x'"
            " FROM generate_series(1, 9) i",
            "WITH w AS (INSERT INTO auditlib.records ({}) VALUES (1, 'raw', 1, 'a', sha256('x'), 'x')"
            " RETURNING position) SELECT * FROM w",
            "COPY auditlib.records ({}) FROM STDIN",
        ],
    )
    def test_no_position_is_given_before_the_lock_is_held(self, place, insert):
        """Whoever inserts, in whatever way, waits for the reader before a position is given, not after."""
        last = "SELECT last_value, is_called FROM records_position_seq"
        before = place.sql(last)
        with place.service.connect(place.url) as reader, place.service.connect(place.url) as inserter:
            reader.execute("BEGIN")
            reader.execute(f"SELECT pg_advisory_xact_lock({INSERTING})")

            def run():
                with inserter.cursor() as cursor:
                    if insert.startswith("COPY"):
                        with cursor.copy(insert.format(COLUMNS)) as copy:
                            copy.write_row((1, "raw", 1, "a", bytes(32), b"x"))
                    else:
                        cursor.execute(insert.format(COLUMNS))

            with ThreadPoolExecutor(1) as pool:
                inserting = pool.submit(run)
                while not place.waiting():
                    assert not inserting.done()
                assert place.sql(last) == before
                reader.execute("COMMIT")
                inserting.result()
        assert place.sql(last) != before

    def test_the_sessions_isolation_cannot_hide_a_record(self, place, writer):
        """A database whose default is SERIALIZABLE, where a snapshot is older than the lock, skips nothing either."""
        name = place.url.rsplit("/", 1)[1]
        place.sql(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        with place.open("sealer")._database.begin() as connection:
            assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"

    def test_a_writer_that_never_ends_does_not_hang_the_reader(self, place, sealer):
        """The reader gives up in words, and reads when the transaction is over."""
        with place.service.connect(place.url) as early:
            early.execute("BEGIN")
            early.execute(INSERT, (1, "a"))
            with pytest.raises(UnavailableError) as caught:
                sealer.read(0, 10)
            assert "lock timeout" in str(caught.value)
            early.execute("ROLLBACK")
        assert sealer.read(0, 10) == []

    def test_naive_reading_would_skip_under_load_and_ours_does_not(self, place, sealer):
        """Raw transactions that commit out of order, as fast as they go: every row is read, once, in order."""
        ended = threading.Event()

        def insert(thread):
            with place.service.connect(place.url) as connection:
                for number in range(40):
                    with connection.transaction():
                        event_id, *rest = late_row(f"{thread}-{number}")
                        connection.execute(INSERT.replace("sha256('x'), 'x'", "%s, %s"), (number + 1, event_id, *rest))
                        if (thread + number) % 3 == 0:
                            connection.execute("SELECT pg_sleep(0.003)")

        def follow():
            found, last = [], 0
            while True:
                over = ended.is_set()
                if entries := sealer.read(last, 50):
                    found += [entry.position for entry in entries]
                    last = found[-1]
                elif over:
                    return found

        with ThreadPoolExecutor(9) as pool:
            following = pool.submit(follow)
            try:
                list(pool.map(insert, range(8)))
            finally:
                ended.set()
            found = following.result()
        assert found == sorted(set(found))
        assert len(found) == 8 * 40

    # ------------------------------------------------------------------------------------- roles

    def test_each_role_may_do_just_this(self, place):
        """The rights, column by column, are these and no others."""
        ours = "table_schema = 'auditlib' AND grantee LIKE 'auditlib\\_%'"
        granted = place.sql(
            "SELECT grantee, table_name, column_name, privilege_type FROM information_schema.column_privileges"
            f" WHERE {ours} AND privilege_type <> 'SELECT'"
            " UNION SELECT grantee, table_name, '', privilege_type FROM information_schema.table_privileges"
            f" WHERE {ours} AND privilege_type NOT IN ('SELECT', 'INSERT')"
        )
        writes = {"records": COLUMNS, "refusals": "source, source_seq, received_at, sha256, reason, body"}
        writes["clocks"] = "source, minute, at, offset"
        expected = {
            ("auditlib_writer", table, column, "INSERT") for table in writes for column in writes[table].split(", ")
        }
        expected |= {("auditlib_sealer", "lease", column, "UPDATE") for column in ("number", "holder", "until")}
        expected |= {("auditlib_keeper", table, "", "DELETE") for table in ("records", "clocks")}
        assert set(granted) == expected
        readable = place.sql(
            "SELECT table_name, column_name FROM information_schema.column_privileges"
            " WHERE table_schema = 'auditlib' AND grantee = 'auditlib_writer' AND privilege_type = 'SELECT'"
        )
        receipt = {("records", column) for column in COLUMNS.split(", ")[:-1]}
        assert set(readable) == receipt | {("identity", column) for column in ("one", "id", "format")}

    @pytest.mark.parametrize(
        ("role", "attack"),
        [
            ("writer", "SELECT event FROM records"),
            ("writer", "SELECT body FROM refusals"),
            ("writer", "SELECT nextval('records_position_seq')"),
            ("writer", f"INSERT INTO records (position, {COLUMNS}) OVERRIDING SYSTEM VALUE"
                       " VALUES (1, 1, 'a', 1, 'x', sha256('x'), 'x')"),
            ("writer", "UPDATE lease SET until = 0"),
            ("sealer", "UPDATE lease SET one = 1"),
            ("sealer", "DELETE FROM lease"),
            ("sealer", f"INSERT INTO records ({COLUMNS}) VALUES (1, 'a', 1, 'x', sha256('x'), 'x')"),
            ("reader", "UPDATE lease SET until = 0"),
            ("keeper", "DELETE FROM records WHERE position = 1"),
            ("keeper", "UPDATE records SET recorded_at = 1 WHERE position < 0"),
            ("reader", "CREATE TABLE auditlib.mine (a int)"),
            ("writer", "ALTER TABLE records DISABLE TRIGGER ALL"),
            ("keeper", "DROP TRIGGER records_delete ON records"),
            ("keeper", "CREATE OR REPLACE FUNCTION auditlib.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'"),
            (None, "UPDATE records SET recorded_at = 1 WHERE position < 0"),
        ],
    )  # fmt: skip
    def test_a_login_gets_no_further_than_its_role(self, place, writer, role, attack):
        """A login of its own, member of one group role, straight at the database: refused, and nothing has changed."""
        writer.append([record(1), record(2)])
        before = place.contents(), place.schema()
        url = place.url
        if role:
            url = place.service.url_of(url.rsplit("/", 1)[1], *place.service.new_login(f"auditlib_{role}"))
        with place.service.connect(url) as connection, pytest.raises(place.errors):
            connection.execute("SET search_path = auditlib")
            connection.execute(attack)
        assert (place.contents(), place.schema()) == before

    def test_a_keepers_login_deletes_only_by_set_role_and_below_its_bound(self, place, writer):
        """Membership alone deletes nothing; the role without a bound neither; the newest row never."""
        writer.append([record(number) for number in range(3)])
        before = place.contents()
        url = place.service.url_of(place.url.rsplit("/", 1)[1], *place.service.new_login("auditlib_keeper"))
        bound = "SELECT set_config('auditlib.prune_through', '2', false)"
        for steps in ([], [bound], ["SET ROLE auditlib_keeper"], ["SET ROLE auditlib_keeper", bound]):
            with place.service.connect(url) as connection:
                for step in steps:
                    connection.execute(step)
                with pytest.raises(place.errors):
                    connection.execute("DELETE FROM auditlib.records")
            assert place.contents() == before
        with place.service.connect(place.url) as owner:
            owner.execute("SET session_replication_role = replica")
            owner.execute(bound)
            with pytest.raises(place.errors):
                owner.execute("DELETE FROM auditlib.records WHERE position = 1")
        assert place.contents() == before

    def test_a_store_acts_in_its_role_whatever_its_login_may_do(self, place):
        """Opened by the superuser, it is still only the writer, and a member's login is enough for each role."""
        for role in ROLES:
            login = place.service.url_of(place.url.rsplit("/", 1)[1], *place.service.new_login(f"auditlib_{role}"))
            for url in (place.url, login):
                store = open_store(url, role)
                with store._database.begin() as connection:
                    assert connection.exec_driver_sql("SELECT current_user").scalar() == f"auditlib_{role}"
                store.close()
            for other in set(ROLES) - {role}:
                with pytest.raises(UnavailableError):
                    open_store(login, other)

    # ------------------------------------------------------------------------------------- failures

    def test_no_password_is_ever_shown(self, place):
        """Neither a store's repr nor any error holds it, in any spelling, with or without its traceback."""
        from psycopg import sql

        name, _ = place.service.new_login("auditlib_writer")
        with place.service.connect() as connection:
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), SECRET))
        good = place.service.url_of(place.url.rsplit("/", 1)[1], name, QUOTED)
        store = open_store(good)
        shown = [repr(store), str(store), repr(store._database.engine)]
        place.sql("REVOKE auditlib_writer FROM " + name)
        bad = [
            good,  # no longer a member
            good.replace(name, "nobody"),
            good.replace("postgresql:", "mysql:"),
            good.replace("postgresql:", "postgresql+nodriver:"),
            good.replace(":", ":x", 3),
            good.replace("@", f"@127.0.0.1:1/x?password={QUOTED}&port=x#", 1),
            good + f"?password={QUOTED}&sslmode={QUOTED}",
            good + f"?connect_timeout={QUOTED}",
            f"postgresql://{name}:{QUOTED}@127.0.0.1:1/x",
            f"postgresql://{name}:{QUOTED}@nowhere.invalid/x",
            f"sqlite://{QUOTED}",
            QUOTED,
        ]
        for url in bad:
            with pytest.raises((UnavailableError, MalformedError)) as caught:
                open_store(url)
            shown += [str(caught.value), repr(caught.value), repr(caught.value.args)]
            shown += traceback.format_exception(caught.value)
        store.close()
        assert not [text for text in shown if SECRET in text or QUOTED in text]

    def test_a_lost_connection_costs_one_call_at_most(self, place, writer, sealer):
        """After the server has cut every connection the same store goes on."""
        writer.append([record(1)])
        place.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with contextlib.suppress(UnavailableError):
            writer.append([record(2)])
        assert statuses(writer.append([record(2)])) in (["recorded"], ["repeated"])
        assert [entry.record for entry in sealer.read(0, 10)] == [record(1), record(2)]

    def test_a_full_disk_is_an_error_and_no_half_written_call(self, place):
        """A real, small file system under the database; once it has room the same store goes on."""
        folder = place.service.folder
        if folder is None or os.getuid():
            pytest.skip("only root may mount a small file system, under a server of its own")
        disk = folder / "small"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=14m", "none", str(disk)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            disk.rmdir()
            pytest.skip("no file system may be mounted here")
        owner = (folder / "data").stat()
        name, space = place.url.rsplit("/", 1)[1], f"small_{os.getpid()}"
        try:
            os.chown(disk, owner.st_uid, owner.st_gid)
            with place.service.connect() as connection:
                connection.execute(f"CREATE TABLESPACE {space} LOCATION '{disk}'")
                connection.execute(f"ALTER DATABASE {name} SET TABLESPACE {space}")
            store = place.open("writer")
            fills_the_disk(store, place.open("sealer"))
            subprocess.run([*mount[:-3], "remount,size=100m", *mount[-2:]], check=True)
            assert statuses(store.append([record(10**6)])) == ["recorded"]
        finally:
            place.close()
            with place.service.connect() as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
                connection.execute(f"DROP TABLESPACE IF EXISTS {space}")
            subprocess.run(["umount", str(disk)], check=True)
            disk.rmdir()


def late_row(event_id="early"):
    """event_id, digest and bytes of a valid event, for a raw INSERT."""
    kept = row_of(record(1))
    data = kept.event.replace(kept.event_id.encode(), event_id.encode())
    return event_id, hashlib.sha256(data).digest(), data


@pytest.fixture(scope="module")
def own(service):
    """A server that these tests may crash."""
    with services.own_pg_service() as own:
        yield own


def test_every_acknowledged_record_survives_kill_9_of_postgresql(own):
    """The server dies under concurrent appends: what was acknowledged is there after recovery, once; the same stores
    raise while it is away, and go on when it is back, without a restart."""
    url = own.new_database()
    init_store(url)
    stores = [open_store(url), open_store(url)]
    sealer = open_store(url, "sealer")
    acknowledged, killed = [[] for _ in range(6)], threading.Event()

    def write(thread):
        number = 0
        while True:
            batch = [record(number + i, source=f"source-{thread}") for i in range(5)]
            try:
                stores[thread % 2].append(batch)
            except UnavailableError:
                assert killed.is_set()
                return number
            acknowledged[thread] += [one.receipt for one in batch]
            number += 5

    for _ in range(3):
        killed.clear()
        started = [len(known) for known in acknowledged]
        with ThreadPoolExecutor(6) as pool:
            writing = [pool.submit(write, thread) for thread in range(6)]
            while any(len(known) <= was for known, was in zip(acknowledged, started, strict=True)):
                assert not any(future.done() for future in writing)
            killed.set()
            own.kill9()
            for future in writing:
                future.result()
        for call in (lambda: stores[0].append([record(1)]), lambda: sealer.read(0, 1), lambda: sealer.identity):
            with pytest.raises(UnavailableError):
                call()
        own.restart()
        found = [entry.record.receipt for entry in read_all(sealer)]
        assert len(found) == len(set(found))
        assert {receipt for known in acknowledged for receipt in known} <= set(found)
        for thread, store in enumerate([*stores, *stores, *stores]):
            count = sum(receipt.source == f"source-{thread}" for receipt in found)
            assert count % 5 == 0  # whole calls
            assert store.append([record(0, source=f"source-{thread}")])[0].status == "repeated"
        for known in acknowledged:
            known.clear()  # the next round starts from number 0: repeats, and then new ones
    for store in (*stores, sealer):
        store.close()


def test_two_starts_at_once_make_one_server_and_stopping_leaves_nothing(service):
    """Both starts print the same server; it is started again on its port after a stop that keeps; then all is gone."""
    folder = Path(f"{services.default_folder()}-two-{os.getpid()}")
    script = [services.SERVICES / "postgres-start", folder]
    try:
        running = [subprocess.Popen(script, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [start.communicate(timeout=services.START_SECONDS)[0] for start in running]
        assert [start.returncode for start in running] == [0, 0]
        assert said[0] == said[1] == (folder / "pg.env").read_text()
        assert stat.S_IMODE((folder / "pg.env").stat().st_mode) == 0o600
        own = services.PgService(services.variables_of(said[0]))
        with own.connect() as connection:
            shown = [connection.execute(f"SHOW {name}").fetchone()[0] for name in ("fsync", "listen_addresses")]
        assert shown == ["on", "127.0.0.1"]
        subprocess.run([services.SERVICES / "postgres-stop", "--keep", folder], check=True)
        assert own.pids() == []
        own.restart()
        with own.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        services.stop(folder)
    services.stop(folder)  # a second stop finds nothing to do
    assert not folder.exists()
    assert own.pids() == []


@pytest.mark.parametrize("url", ["", "x", "sqlite://", "sqlite:///:memory:", "mysql://a/b", "postgresql", "file:///x"])
def test_what_is_no_stores_url_is_refused(url):
    """A sentence says how one is written."""
    for call in (init_store, open_store):
        with pytest.raises(MalformedError, match="sqlite:///path"):
            call(url)
