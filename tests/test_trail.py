"""The trail: opened only where the history is sound, asked only over bytes that were hashed, and the jail."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import threading
import time
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from simulator import CATALOG, EVIL_KEY, KEY, Clock, Tamper, record
from simulator import Trail as Simulated

import auditlib
from auditlib import files, jail, trail
from auditlib.errors import MalformedError, MismatchError, UnavailableError
from auditlib.findings import Finding, Report
from auditlib.history import read_history
from auditlib.vault.local import LocalVault

SEALS, SIZE = 4, 12


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    return Simulated(tmp_path_factory.mktemp("trail")).create().seal(SEALS, SIZE)


@pytest.fixture
def vault(sound, tmp_path):
    """A copy to tamper with: its path."""
    return Path(shutil.copytree(sound.vault.root, tmp_path / "vault"))


@pytest.fixture
def opened(vault):
    with auditlib.open(vault, keys=KEY.verifier) as found:
        yield found


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


# --- opening -----------------------------------------------------------------------------------------------------


def test_a_sound_vault_opens_by_path_url_and_key_in_every_form(vault, tmp_path):
    """Keys as a line, a file, a list, an object."""
    line, file = str(KEY.verifier), tmp_path / "k.vkey"
    file.write_text(f"# ours\n{line}\n")
    for place, keys in ((vault, line), (str(vault), str(file)), (f"file://{vault}", [file]), (vault, KEY.verifier)):
        with auditlib.open(place, keys=keys) as found:
            assert found.origin == KEY.name and found.count == SEALS * SIZE
            assert found.history.key_confirmed
            assert found.verify(deep=True).ok


def test_without_keys_the_vaults_own_is_used_and_stays_unconfirmed(vault):
    """Trust comes from outside."""
    with auditlib.open(vault) as found:
        assert not found.history.key_confirmed
        assert not found.verify().key_confirmed
        assert found.events().count() == SEALS * SIZE


def test_a_strangers_key_opens_nothing(vault):
    """Nothing that it signed is there."""
    with pytest.raises(MismatchError, match="check 0"):
        auditlib.open(vault, keys=EVIL_KEY.verifier)


FAULTS = {
    "checkpoint-byte-flipped": ("check 0", lambda t: t.flip("checkpoints/*/*4", 40)),
    "seal-removed": ("check 2", lambda t: t.remove("seals/*/*1.json")),
    "seals-swapped-in": ("check [234]", lambda t: t.write(t.find("seals/*/*1.json"), t.read("seals/*/*2.json"))),
    "document-removed": ("check [24]", lambda t: t.remove("trail/000000.json")),
    "catalogue-altered": ("check 4", lambda t: t.write(t.find("catalogs/*"), t.read("catalogs/*") + b"\n")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_history_is_not_opened(vault, fault):
    """The number of the check and the object stand in the error."""
    says, do = FAULTS[fault]
    do(Tamper(vault))
    with pytest.raises(MismatchError, match=says) as caught:
        auditlib.open(vault, keys=KEY.verifier)
    assert "Run `auditlib verify`" in str(caught.value)


def test_a_place_without_a_trail_is_malformed(tmp_path, vault):
    """No folder, an empty one, one without any seal, a catalogue that is not there."""
    with pytest.raises(MalformedError):
        auditlib.open(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises((MalformedError, MismatchError)):
        auditlib.open(tmp_path / "empty")
    fresh = Simulated(tmp_path / "fresh").create()
    with pytest.raises(MalformedError, match="nothing has been sealed"):
        auditlib.open(fresh.vault.root)
    with pytest.raises(MalformedError, match="cannot be read"):
        auditlib.open(vault, catalog=tmp_path / "no.toml")
    with pytest.raises(MalformedError, match="cannot be read"):
        auditlib.open(vault, keys="x" * 300 + "/no.vkey")
    with pytest.raises(MalformedError):
        auditlib.open(vault, keys="a+" + "b" * 5000)


def test_an_older_checkpoint_shows_the_trail_as_it_was(vault):
    """at= reads no seal past it; a size nobody signed is refused."""
    for size in range(1, SEALS + 1):
        with auditlib.open(vault, keys=KEY.verifier, at=size) as found:
            assert found.checkpoint.size == size == len(found.seals)
            assert found.events().count() == size * SIZE
            assert found.sql("SELECT max(sequence) AS n FROM events").arrow().to_pylist() == [{"n": size - 1}]
    for size in (0, -1, SEALS + 1):
        with pytest.raises(MalformedError, match=f"no checkpoint of size {size}"):
            auditlib.open(vault, at=size)


# --- the bytes that are queried are the bytes that were hashed ----------------------------------------------------


def test_a_batch_altered_after_opening_is_found_when_cold_and_has_no_effect_when_warm(vault, opened):
    """Check 5 for what this process has not hashed yet; what it has hashed is out of reach."""
    before = opened.events().arrow()
    for seal in opened.seals:
        Tamper(vault).write(seal.batch.object, b"PAR1 not what was sealed PAR1")
    assert opened.events().arrow() == before
    assert opened.sql("SELECT count(*) AS n FROM events").arrow().to_pylist() == [{"n": SEALS * SIZE}]
    with auditlib.open(vault, keys=KEY.verifier) as cold:
        for ask in (cold.events().count, cold.events().df, lambda: cold.sql("SELECT 1 FROM events")):
            with pytest.raises(MismatchError, match="check 5") as caught:
                ask()
            assert caught.value.expected == cold.seals[0].batch.sha256
            assert caught.value.found and caught.value.found != caught.value.expected
            assert caught.value.where == cold.seals[0].batch.object


def test_only_the_batches_that_are_asked_for_need_to_be_sound(vault):
    """A fault elsewhere does not keep evidence from being read; it is verify that reports it."""
    with auditlib.open(vault, keys=KEY.verifier) as found:
        Tamper(vault).write(found.seals[0].batch.object, b"x")
        assert found.events(since=found.seals[-1].occurred[0]).count() == SIZE
        assert not found.verify().ok


def test_a_file_swapped_between_hashing_and_querying_is_not_read(vault, monkeypatch):
    """Time of check is time of use: the object is read once, and never by name again."""
    reads: list[str] = []

    def then_swap(read):
        def read_then_swap(self, key, *rest):
            data = read(self, key, *rest)
            if key.startswith("batches/"):
                reads.append(key)
                Tamper(vault).write(key, b"swapped the moment it was read")
            return data

        return read_then_swap

    monkeypatch.setattr(LocalVault, "get", then_swap(LocalVault.get))
    monkeypatch.setattr(LocalVault, "copy", then_swap(LocalVault.copy))
    with auditlib.open(vault, keys=KEY.verifier) as found:
        assert found.events().count() == SEALS * SIZE
        assert found.events(kind="grant").arrow().num_rows == SEALS * SIZE // 3
        assert len(list(found.events().batches())) >= 1
        assert len(reads) == len(set(reads)) == SEALS


@pytest.mark.parametrize(("name", "limit"), [("MAX_MEMORY_FILES", 2), ("MAX_MEMORY_BYTES", 1), ("_SEALS", 0)])
def test_past_the_budget_verified_copies_lie_in_private_files(vault, monkeypatch, tmp_path, name, limit):
    """0600 in a 0700 folder, gone with close(); the answers are the same."""
    monkeypatch.setattr(files, name, limit)
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())
    with auditlib.open(vault, keys=KEY.verifier) as found:
        paths = found.files.paths(found.seals)
        private = [Path(path) for path in paths if not path.startswith("/proc/")]
        assert len(private) == (SEALS - 2 if name == "MAX_MEMORY_FILES" else SEALS)
        for path in private:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert path.parent.parent == tmp_path
        assert found.events().arrow().column("sequence").to_pylist() == [i // SIZE for i in range(SEALS * SIZE)]
        assert [found.files.read(seal) for seal in found.seals] == [
            (vault / seal.batch.object).read_bytes() for seal in found.seals
        ]
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(not files._SEALS, reason="sealed memfds are Linux's")
def test_a_memfd_cannot_be_written_any_more(opened):
    """Not even by this process."""
    path = opened.files.paths(opened.seals)[0]
    with pytest.raises(PermissionError), Path(path).open("r+b") as file:
        file.write(b"x")
        file.flush()
    with pytest.raises(PermissionError):
        os.truncate(path, 0)


def test_closing_frees_descriptors_and_a_closed_trail_can_be_asked_again(vault):
    """Nothing is left behind, with close(), with `with`, or when nobody holds the trail any more."""
    auditlib.open(vault).close()  # what is imported on the way stays open
    before = descriptors()
    for _ in range(3):
        found = auditlib.open(vault)
        assert found.events().count() == SEALS * SIZE
        assert descriptors() >= before + SEALS
        found.close()
        found.close()
        assert descriptors() == before
        assert found.events().count() == SEALS * SIZE
        del found
        assert descriptors() == before


def test_no_room_for_the_verified_copy_is_a_sentence(vault, monkeypatch):
    """Too many open files, a full disk: unavailable, not a fault of the evidence."""

    def full(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(files.os, "memfd_create", full)
    with auditlib.open(vault) as found, pytest.raises(UnavailableError, match="Too many open files"):
        found.events().count()


def test_a_batch_with_statistics_is_refused_when_querying_too(vault):
    """An engine would believe lying ones and hide rows, even if the key holder sealed them."""
    tamper = Tamper(vault)
    tamper.lie(1)
    tamper.resign(0)
    with auditlib.open(vault, keys=KEY.verifier) as found:
        with pytest.raises((MalformedError, MismatchError), match="statistics"):
            found.events(source="billing-api/*").count()
        with pytest.raises((MalformedError, MismatchError), match="statistics"):
            found.sql("SELECT 1 FROM events")


# --- the jail ----------------------------------------------------------------------------------------------------

SECRET = "the-secret-outside"
outside_table = pa.table({"a": [SECRET]})  # a replacement scan would find it


@pytest.fixture(params=["memfd", "private"])
def jailed(request, vault, monkeypatch, tmp_path):
    """A trail, and a folder to be kept out of; the working directory holds what an engine might write to."""
    if request.param == "private":
        monkeypatch.setattr(files, "MAX_MEMORY_FILES", 0)
    work = tmp_path / "work"
    (work / ".tmp").mkdir(parents=True)
    (work / "secret.csv").write_text(f"a\n{SECRET}\n")
    monkeypatch.chdir(work)
    monkeypatch.setenv("AUDITLIB_TEST_SECRET", SECRET)
    with auditlib.open(vault, keys=KEY.verifier) as found:
        yield found


ATTACKS = """
COPY events TO 'out.csv'
COPY (SELECT 1) TO '.tmp/out.csv'
WITH x AS (COPY (SELECT 1 AS a) TO '.tmp/out.csv') SELECT * FROM x
WITH x AS MATERIALIZED (COPY (SELECT 1 AS a) TO '.tmp/out.csv') SELECT * FROM x
WITH x AS MATERIALIZED (COPY (SELECT 1 AS a) TO '{own}' (FORMAT parquet, USE_TMP_FILE false)) SELECT * FROM x
SELECT * FROM (WITH x AS MATERIALIZED (COPY (SELECT 1 AS a) TO '{own}') SELECT * FROM x)
SELECT (WITH x AS MATERIALIZED (COPY (SELECT 1 AS a) TO '{own}') SELECT count(*) FROM x)
SELECT * FROM query('WITH x AS MATERIALIZED (COPY (SELECT 1 AS a) TO ''{own}'') SELECT * FROM x')
FROM json_execute_serialized_sql(json_serialize_sql('WITH x AS (COPY (SELECT 1) TO ''{own}'') FROM x'))
WITH x AS (INSERT INTO events VALUES (1) RETURNING *) SELECT * FROM x
WITH x AS (DELETE FROM events RETURNING *) SELECT * FROM x
ATTACH 'x.db'
ATTACH '/proc/self/fd/0' AS x
INSTALL httpfs
LOAD httpfs
PRAGMA database_list
PRAGMA memory_limit='1TB'
SET memory_limit='1TB'
SET enable_external_access=true
RESET lock_configuration
CREATE TABLE t AS SELECT 1
CREATE OR REPLACE VIEW events AS SELECT 1
CREATE MACRO m() AS 1
DROP VIEW events
INSERT INTO events SELECT * FROM events
UPDATE events SET actor_id = 'x'
CALL pragma_version()
EXPLAIN ANALYZE SELECT 1
EXPORT DATABASE 'x'
CHECKPOINT
BEGIN
SELECT 1; SELECT 2
SELECT 1; COPY (SELECT 1) TO 'out.csv'
SELECT 1 /* ; */ ; DROP VIEW events --
SELECT 1 /* unfinished
SELECT 'unfinished
SELECT * FROM 'secret.csv'
SELECT * FROM "secret.csv"
SELECT * FROM './secret.csv'
SELECT * FROM '*.csv'
SELECT * FROM '{own}'
SELECT * FROM read_csv('secret.csv')
SELECT * FROM read_csv_auto('secret.csv')
SELECT * FROM sniff_csv('secret.csv')
SELECT * FROM read_text('secret.csv')
SELECT * FROM read_text('{own}')
SELECT * FROM read_blob('{own}/../../../secret.csv')
SELECT * FROM read_json('secret.csv')
SELECT * FROM read_parquet('{other}')
SELECT * FROM parquet_metadata('{other}')
SELECT * FROM parquet_kv_metadata('{own}')
SELECT * FROM read_text('/proc/self/environ')
SELECT * FROM read_text('/proc/self/cmdline')
SELECT * FROM read_text('/proc/self/fd/0')
SELECT * FROM read_text('/proc/self/fd/../environ')
SELECT * FROM read_text('/proc/self/root/etc/passwd')
SELECT * FROM glob('*')
SELECT * FROM glob('/proc/self/fd/*')
SELECT * FROM 'https://example.com/x.parquet'
SELECT * FROM read_parquet('s3://bucket/x')
SELECT * FROM sqlite_scan('x', 'y')
SELECT * FROM outside_table
SELECT * FROM query_table('outside_table')
SELECT * FROM query_table(['secret.csv'])
SELECT * FROM query('SELECT * FROM read_text(''secret.csv'')')
SELECT * FROM arrow_scan(1, 2, 3)
SELECT * FROM python_map_function(1)
WITH x AS (SELECT * FROM read_text('secret.csv')) SELECT * FROM x
WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT a FROM 'secret.csv') SELECT * FROM x
SELECT (SELECT content FROM read_text('secret.csv'))
SELECT * FROM events WHERE actor_id IN (FROM read_text('secret.csv') SELECT content)
SELECT 1 UNION ALL FROM read_text('secret.csv') SELECT content
SELECT * FROM events ORDER BY (SELECT content FROM read_text('secret.csv'))
DESCRIBE SELECT * FROM read_csv('secret.csv')
SUMMARIZE 'secret.csv'
PIVOT events ON outcome USING count(*)
SELECT * FROM (PIVOT 'secret.csv' ON a IN ('x') USING count(*))
SELECT * FROM enable_logging(storage='file', storage_config={'path': '.tmp'})
SELECT * FROM enable_profiling('json', save_location='.tmp/p')
SELECT * FROM duckdb_secrets()
SELECT * FROM duckdb_settings()
SELECT * FROM duckdb_extensions()
SELECT * FROM information_schema.tables
SELECT * FROM checkpoint()
SELECT getenv('AUDITLIB_TEST_SECRET')
SELECT getvariable('x') FROM nowhere
SELECT ST_Point(1, 2)
SELECT ?
SELECT $x
SELECT
SELECT nope FROM events
SELECT * FROM memory.secret.events
""".strip().splitlines()


def test_nothing_but_events_is_reachable(jailed, vault):
    """Reading, writing, settings, extensions, Python variables: each is a sentence, and leaves everything as it was."""
    local = pa.table({"a": [SECRET]})
    own = jailed.files.paths(jailed.seals)[0]
    names = {"own": own, "other": str(next(vault.glob("batches/*/*")))}
    before = [Path(path).read_bytes() for path in jailed.files.paths(jailed.seals)]
    work = sorted(Path.cwd().rglob("*"))
    attacks = [
        *ATTACKS,
        "SELECT * FROM local",
        "",
        ";",
        "SELECT 1\0",
        "\0",
        "\ud800",
        "SELECT '\ud800'",
        "-- only this",
    ]
    attacks += ["SELECT " + "(" * 5000 + "1" + ")" * 5000, "SELECT " + "[" * 900 + "1" + "]" * 900 + " FROM nowhere"]
    for attack in attacks:
        statement = attack
        for name, path in names.items():
            statement = statement.replace("{" + name + "}", path)
        with pytest.raises(MalformedError) as caught:
            pytest.fail(f"{attack}: {jailed.sql(statement).arrow().to_pylist()}")
        assert caught.value.where == "sql", attack
        assert len(caught.value.message) > 10 and "\n" not in caught.value.message, attack
        assert SECRET not in str(caught.value), attack
    assert [Path(path).read_bytes() for path in jailed.files.paths(jailed.seals)] == before
    assert sorted(Path.cwd().rglob("*")) == work
    assert jailed.sql("SELECT count(*) AS n FROM events").arrow().to_pylist() == [{"n": SEALS * SIZE}]
    assert local.num_rows == 1


@pytest.mark.parametrize(
    ("statement", "rows"),
    [
        ("SELECT count(*) FROM events", 1),
        ("FROM events", SEALS * SIZE),
        ("TABLE Events;", SEALS * SIZE),
        ("SELECT e.row FROM events e JOIN main.events f USING (sequence, row) -- a comment; and more", SEALS * SIZE),
        ("/* ; */ SELECT outcome, count(*) FROM events GROUP BY ALL HAVING count(*) > 0 ORDER BY 1", 2),
        ("WITH Grants AS (SELECT * FROM events WHERE action = 'role.grant') SELECT * FROM grants", SEALS * SIZE // 3),
        ("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n", 5),
        ("SELECT * FROM events WHERE context->>'$.granted_role' = 'admin'", SEALS * SIZE // 3),
        ("SELECT key, value FROM events, json_each(context) LIMIT 3", 3),
        ("SELECT unnest(range(4))", 4),
        ("SELECT *, row_number() OVER (PARTITION BY action ORDER BY row) AS n FROM events QUALIFY n = 1", 2),
        ("SELECT 1 UNION ALL SELECT 2 ORDER BY 1", 2),
        ("DESCRIBE events", 15),
        ("SELECT * FROM events WHERE false", 0),
        ("VALUES (1), (2)", 2),
        ("SELECT 1 AS a, 2 AS a", 1),
        ("SELECT 'infinity'::TIMESTAMPTZ, [1], {'a': NULL}, 1::HUGEINT, '\\xAA'::BLOB", 1),
    ],
)
def test_one_select_over_events_is_answered(opened, statement, rows):
    """Whatever a SELECT is made of; a semicolon at the end does no harm."""
    answer = opened.sql(statement)
    assert answer.arrow().num_rows == rows == len(answer.df())
    assert "<table>" in answer._repr_html_()


def test_a_statement_that_runs_too_long_is_stopped(opened, monkeypatch):
    """And the trail answers the next one."""
    monkeypatch.setattr(jail, "SQL_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(UnavailableError, match=r"ran past 0\.3 s"):
        opened.sql("SELECT sum(a.i * b.i) FROM range(1000000000) a(i), range(1000000000) b(i)")
    assert time.monotonic() - start < 10
    assert opened.sql("SELECT 1").arrow().num_rows == 1
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM range(1000000000000)",
        "SELECT list(i) FROM range(10000000000) t(i)",
        "SELECT count(DISTINCT i || 'x') FROM range(1000000000) t(i)",
        "SELECT a.* FROM events a, events b, range(100000) ORDER BY a.context || b.context || range",
    ],
)
def test_a_statement_that_wants_too_much_memory_is_refused(opened, monkeypatch, statement, tmp_path):
    """The limit counts for the work and for the answer; nothing is spilled to disk."""
    monkeypatch.setattr(jail, "SQL_MEMORY", "100MB")
    monkeypatch.setattr(jail, "SQL_RESULT_BYTES", 2**20)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".tmp").mkdir()
    with pytest.raises(MalformedError, match=r"Out of Memory|larger than 1 MiB"):
        opened.sql(statement)
    assert list((tmp_path / ".tmp").iterdir()) == []


# --- notebooks ---------------------------------------------------------------------------------------------------


def test_what_a_record_says_is_never_markup(tmp_path):
    """A notebook shows hostile contents as text."""
    evil = '<script>alert(1)</script><img src=x onerror="x">&amp;'
    simulated = Simulated(tmp_path).create()
    with simulated.sealer() as sealer:
        sealer.add([record(0, actor_id=evil, session=evil, context={"granted_role": evil}), record(1)])
        sealer.flush()
    with trail.Trail(read_history(simulated.vault, [KEY.verifier]), CATALOG) as found:
        shown = [
            found.events()._repr_html_(),
            found.sql("SELECT * FROM events")._repr_html_(),
            found.sql('SELECT actor_id AS "<script>alert(1)</script>" FROM events')._repr_html_(),
            found._repr_html_(),
            found.events(actor=evil)._repr_html_(),
        ]
    for html in shown:
        assert "<script" not in html and "<img" not in html and 'onerror="' not in html
    assert "&lt;script&gt;" in shown[0] and "2 events" in shown[0]


def test_a_selection_says_what_it_left_out(tmp_path):
    """The preview names the whole number and the lag."""
    simulated = Simulated(tmp_path).create()
    simulated.clock = Clock()
    simulated.seal(1, 30)
    with auditlib.open(simulated.vault.root) as found:
        html = found.events()._repr_html_()
        assert "30 events, the first 20 shown" in html and html.count("<tr>") == 21
        assert "No event answers" in found.events(action="no.thing")._repr_html_()
        assert found.events().count_by("action").to_pylist()[0] == {"action": "user.login", "events": 20}
        with pytest.raises(MalformedError, match="no column"):
            found.events().count_by("action; DROP TABLE x")


def test_a_report_shows_itself_in_a_notebook_as_text_alone():
    """What a finding says is text; a report without faults says so, and what was not checked stands there too."""
    bad = Finding(5, "error", "<script>x</script>", "<b>gone</b>", None, None)
    sealed, now = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    report = Report("v", "a/b", 3, 1, None, False, sealed, now, False, (bad,), ("<i>",))
    html = report._repr_html_()
    assert "1 fault was found" in html
    assert "&lt;script&gt;" in html and "&lt;b&gt;gone" in html and "&lt;i&gt;" in html and "<script" not in html
    clean = msgspec.structs.replace(report, findings=(), unchecked=())._repr_html_()
    assert "No fault was found" in clean and "<table" not in clean and "<ul>" not in clean
