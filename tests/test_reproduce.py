"""A packet is made again from its vault, byte for byte; else file, table, row, column and both values are named."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simulator
from packets import ROOT, SAMPLE_KEY, DictBag, Packet, approval, check, event, sample, sample_vault, vault_of

from auditlib.errors import MalformedError, MismatchError
from auditlib.formats.times import parse_time
from auditlib.packet import bag as bags
from auditlib.packet import diff as diffs
from auditlib.packet.build import build_packet
from auditlib.packet.diff import MAX_SHOWN, Comparison, compare, compare_tables, diff_packets
from auditlib.packet.notebook import code_hash
from auditlib.packet.reproduce import Foreign, permitted, reproduce_packet

KEYS = (
    *("ok", "identical", "meaning_differs", "headline", "then", "now", "compared"),
    *("files", "tables", "versions", "findings"),
)
PACKET, NOTEBOOK = "data/packet.json", "data/notebook.ipynb"


def write(files: Mapping[str, bytes], path: Path) -> Path:
    bags.write_bag(files, path)
    return path


def against(files: Mapping[str, bytes], others: Mapping[str, bytes] | None = None) -> Comparison:
    """Compared with the sample's packet, as if that had been made again."""
    now = sample() if others is None else others
    return compare(DictBag(files), DictBag(now), names=("a", "b"), findings={"then": [], "now": []})


def meanings(comparison: Comparison) -> dict[str, str]:
    return {file.name: file.meaning for file in comparison.files}


def command(*arguments: object, cwd: Path | None = None, **environment: str) -> tuple[int, Any]:
    """`auditlib packet ... --json` in a process of its own -> the exit code and the answer."""
    ran = subprocess.run(
        [sys.executable, "-m", "auditlib.cli", "packet", *map(str, arguments), "--json"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode >= 0 and "Traceback" not in ran.stderr.decode(), (ran.returncode, ran.stderr.decode())
    return ran.returncode, json.loads(ran.stdout)


# --- made again ----------------------------------------------------------------------------------------------


def test_a_packet_is_made_again_byte_for_byte_anywhere(tmp_path: Path) -> None:
    """From a zip, by the command, with another folder, zone, locale, hash seed and width; nothing is left behind."""
    packet = write(sample(), tmp_path / "packet.zip")
    home = tmp_path / "home"
    home.mkdir()
    code, answer = command(
        *("reproduce", packet, "--vault", sample_vault(), "--key", SAMPLE_KEY),
        cwd=home,
        **{"HOME": str(home), "TZ": "Asia/Kathmandu", "LC_ALL": "C.utf8", "PYTHONHASHSEED": "4711", "COLUMNS": "37"},
    )
    assert tuple(answer) == KEYS
    assert (code, answer["ok"], answer["identical"], answer["meaning_differs"]) == (0, True, True, False)
    assert (answer["files"], answer["tables"], answer["versions"]) == ([], [], {})
    assert answer["compared"] == len(sample())
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["packet.zip"]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A packet at checkpoint 1, with parameters of each type and a field left out, and its vault, grown to 2 since."""
    folder = tmp_path_factory.mktemp("grown")
    trail = simulator.Trail(folder)
    trail.create(simulator.CATALOG)
    given = {"lookback_days": "30", "authorities": "manager,u-5", "standing": "none", "emergency_hours": "none"}
    batches = [
        [
            approval("a-1", "2026-03-09T12:00:00Z", ["u_1"], ["admin"]),
            event("g-1", at="2026-03-10T12:00:00Z", context={"granted_role": "admin", "ip": "203.0.113.40"}),
        ],
        [event("g-2", at="2026-03-11T12:00:00Z", target="u_2")],
    ]
    for number, batch in enumerate(batches, 1):
        trail.clock = simulator.Clock(parse_time(batch[-1].receipt.recorded_at) + 60_000_000)
        with trail.sealer() as sealer:
            sealer.add(batch)
            sealer.flush()
        where = ("role-grants", str(folder / "vault"), given | {"time_bound_required": "true"})
        build_packet(*where, folder / f"packet-{number}", keys=simulator.KEY.verifier, redact=["context.ip"])
    yield folder / "packet-1", folder / "vault"
    shutil.rmtree(folder)


def test_a_packet_at_an_older_checkpoint_is_made_again_after_the_trail_has_grown(
    grown: tuple[Path, Path], tmp_path: Path
) -> None:
    """The packet's checkpoint is read, not the newest; parameters keep their types; `out` keeps a packet of its own."""
    packet, vault = grown
    told = json.loads((packet / PACKET).read_text())
    assert told["checkpoints"][0]["size"] == 1 and told["redacted"] == {"fields": ["context.ip"], "lines": [1]}
    out = tmp_path / "again.zip"
    comparison = reproduce_packet(packet, str(vault), keys=simulator.KEY.verifier, out=out)
    assert comparison.ok and comparison.identical, comparison.as_json()
    assert comparison.now == str(out)
    assert diff_packets(packet, out, [simulator.KEY.verifier]).ok
    before = out.read_bytes()
    with pytest.raises(MalformedError, match="exists already"):
        reproduce_packet(packet, str(vault), keys=simulator.KEY.verifier, out=out)
    assert out.read_bytes() == before


# --- differing -----------------------------------------------------------------------------------------------


def csv_cells(data: bytes) -> list[list[str]]:
    import csv

    return list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def csv_bytes(rows: list[list[str]]) -> bytes:
    import csv

    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\r\n").writerows(rows)
    return b"\xef\xbb\xbf" + stream.getvalue().encode()


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def whitewashed() -> tuple[Packet, str, str]:
    """The sample's packet with its first exception made a pass everywhere, so that no packet check sees it."""
    packet = Packet(sample())
    rows = csv_cells(packet.files["data/tables/exceptions.csv"])
    headings, victim = rows[0], dict(zip(*rows[:2], strict=True))
    changes = {"verdict": "pass", "approval_exists": "pass", "reason": ""}

    def forge(data: bytes) -> bytes:
        cells = csv_cells(data)
        for row in cells[1:]:
            if row[headings.index("item")] == victim["item"]:
                for column, value in changes.items():
                    row[headings.index(column)] = value
        return csv_bytes(cells)

    packet.edit("data/tables/grants.csv", forge)
    packet.edit("data/tables/exceptions.csv", lambda data: csv_bytes([headings, *rows[2:]]))

    def recount(told: dict[str, Any]) -> None:
        told["exceptions"] -= 1
        verdicts = told["population"]["verdicts"]
        verdicts["pass"] += 1
        verdicts[victim["verdict"]] -= 1

    packet.json(PACKET, recount)
    return packet.fix(), victim["item"], victim["verdict"]


def test_a_verdict_that_was_altered_is_shown_with_row_column_and_both_values(tmp_path: Path) -> None:
    """Every packet check passes: its maker put counts, hashes and manifests right. Making it again tells."""
    packet, item, verdict = whitewashed()
    assert check(packet.files).ok
    path = write(packet.files, tmp_path / "packet")
    code, answer = command("reproduce", path, "--vault", sample_vault(), "--key", SAMPLE_KEY)
    assert (code, answer["ok"], answer["identical"], answer["meaning_differs"]) == (1, False, False, True)
    tables = {table["name"]: table for table in answer["tables"]}
    assert set(tables) == {"data/tables/grants.csv", "data/tables/exceptions.csv"}
    grants = tables["data/tables/grants.csv"]
    assert (grants["added"], grants["removed"], grants["changed"], grants["same_meaning"]) == (0, 0, 1, False)
    (row,) = grants["rows"]
    place = [cells[0] for cells in csv_cells(sample()["data/tables/grants.csv"])].index(item) + 1
    assert (row["state"], row["key"]["item"], row["then"], row["now"]) == ("changed", item, place, place)
    assert {"name": "verdict", "then": "pass", "now": verdict} in row["columns"]
    (gone,) = tables["data/tables/exceptions.csv"]["rows"]
    assert (gone["state"], gone["key"]["item"], gone["then"], gone["now"]) == ("added", item, None, 2)
    files = {file["name"]: file for file in answer["files"]}
    assert {"name": "exceptions", "then": "18", "now": "19"} in files[PACKET]["places"]
    assert answer["versions"] == {}


def test_a_packet_with_faults_is_not_made_again_unless_they_are_accepted(
    grown: tuple[Path, Path], tmp_path: Path
) -> None:
    """A fault is named and nothing runs; with --despite-faults the difference and the faults are shown, exit 1."""
    packet, vault = grown
    shutil.copytree(packet, tmp_path / "packet")
    report = tmp_path / "packet" / "data" / "report.html"
    report.write_bytes(report.read_bytes().replace(b"admin", b"guest", 1))
    asked = ("reproduce", tmp_path / "packet", "--vault", vault, "--key", simulator.KEY.verifier)
    code, answer = command(*asked, "-o", tmp_path / "again")
    assert code == 1 and "data/report.html" in answer["error"]["message"]
    assert "--despite-faults" in answer["error"]["remedy"]
    assert not (tmp_path / "again").exists()
    code, answer = command(*asked, "--despite-faults")
    assert (code, [file["name"] for file in answer["files"]]) == (1, ["data/report.html"])
    assert answer["meaning_differs"] and answer["findings"]["then"] and not answer["findings"]["now"]


def test_software_versions_that_are_not_those_are_named() -> None:
    """Faked or not: which, then and now; the rows are the same, and the sentence says that the bytes are not."""
    packet = Packet(sample()).json(PACKET, lambda told: told["software"].update(pyarrow="1.0", duckdb="0.1")).fix()
    packet.edit("data/report.html", lambda data: data + b"\n").bag()
    comparison = against(packet.files)
    now = json.loads(sample()[PACKET])["software"]
    assert comparison.versions == {
        "duckdb": {"then": "0.1", "now": now["duckdb"]},
        "pyarrow": {"then": "1.0", "now": now["pyarrow"]},
    }
    assert (comparison.identical, comparison.meaning_differs, comparison.ok) == (False, False, False)
    assert comparison.headline().startswith("Same meaning, other bytes") and "versions" in comparison.headline()
    assert "Not compared: data/report.html." in comparison.headline()
    tags = dict.fromkeys(("bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"), "same")
    assert meanings(comparison) == {PACKET: "same", "data/report.html": "unknown", **tags}


@pytest.mark.parametrize(
    ("name", "old"), [("data/report.html", b"admin"), ("data/verify.py", b"import"), (NOTEBOOK, b"<td")]
)
def test_a_page_or_a_program_that_was_changed_by_itself_is_no_same_meaning(name: str, old: bytes) -> None:
    """What people read or run, changed under hashes put right, and nothing that would explain it."""
    packet = Packet(sample()).edit(name, lambda data: data.replace(old, old[::-1], 1)).fix()
    comparison = against(packet.files)
    assert comparison.meaning_differs
    assert meanings(comparison)[name] == "differs"


def test_a_changed_record_or_proof_is_named() -> None:
    """A record by its line and the place in it; a proof by whether it proves the same records."""
    lines = sample()["data/events.jsonl"].splitlines()
    packet = Packet(sample()).lines("data/events.jsonl", lambda all_: [all_[0].replace(b'"u_', b'"x_', 1), *all_[1:]])
    packet.proof(0, lambda proof: proof["hashes"].reverse())
    comparison = against(packet.fix().files)
    found = {file.name: file for file in comparison.files}
    (place,) = found["data/events.jsonl"].places
    assert place.name == "line 0" and place.then and place.now and "x_" in place.then and "x_" not in place.now
    assert len(lines[0]) < 400 or place.then != place.now
    proof = found[next(name for name in found if name.endswith("inclusion.jsonl"))]
    assert proof.meaning == "same" and "same records" in proof.says
    comparison = against(Packet(sample()).proof(0, lambda proof: proof["leaf_indexes"].pop()).fix().files)
    assert next(f.meaning for f in comparison.files if f.name.endswith("inclusion.jsonl")) == "differs"


# --- foreign code --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, Path, str]]:
    """A packet answered by somebody's own notebook, its vault, the file that the notebook writes, and its hash."""
    folder = tmp_path_factory.mktemp("foreign")
    vault = vault_of(folder, [event("g-1", at="2026-03-10T12:00:00Z")])
    marker = folder / "it-ran"
    notebook = nbformat.read(ROOT / "notebooks" / "role-grants.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(f"open({str(marker)!r}, 'w').close()"))
    nbformat.write(notebook, folder / "role-grants.ipynb")
    build_packet(str(folder / "role-grants.ipynb"), str(vault), {}, folder / "packet", keys=simulator.KEY.verifier)
    assert marker.exists()
    marker.unlink()
    yield folder / "packet", vault, marker, code_hash(folder / "role-grants.ipynb")
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("grants (Q1) + more, 50%", "none of this library's own"),
        ("\u5b57" * 80, "none of this library's own"),
        ("\u5b57" * 100, "names no notebook"),
        ("a" * 250, "names no notebook"),
        ("../a", "names no notebook"),
        (".a", "names no notebook"),
        ("a\nb", "names no notebook"),
        ("", "names no notebook"),
    ],
)
def test_any_name_of_a_file_names_a_notebook_and_no_path_does(name: str, said: str, tmp_path: Path) -> None:
    """Whatever a notebook may be called where a packet is built, its packet can be made again."""
    packet = Packet(sample()).json(PACKET, lambda told: told["notebook"].update(name=name)).fix()
    write(packet.files, tmp_path / "packet")
    with pytest.raises(MalformedError, match=said):
        reproduce_packet(tmp_path / "packet", str(sample_vault()), keys=SAMPLE_KEY)


def test_a_foreign_notebook_does_not_run_without_permission(foreign: tuple[Path, Path, Path, str]) -> None:
    """Under a name of ours and with a passing packet: its hash decides. Whoever permits it is told whose word it is."""
    packet, vault, marker, digest = foreign
    assert check({p.relative_to(packet).as_posix(): p.read_bytes() for p in packet.rglob("*") if p.is_file()}, ()).ok
    asked = ("reproduce", packet, "--vault", vault, "--key", simulator.KEY.verifier)
    for permission in ((), ("--allow-notebook", "0" * 16)):
        code, answer = command(*asked, *permission)
        assert (code, answer["ok"]) == (2, False)
        assert digest in answer["error"]["message"] and digest[:16] in answer["error"]["remedy"]
        assert not marker.exists()
    told: list[Foreign] = []
    with pytest.raises(MalformedError, match="nothing was run"):
        reproduce_packet(packet, str(vault), permit=lambda each: bool(told.append(each)))
    assert not marker.exists()
    words = " ".join(told[0].words())
    assert digest in words and "'role-grants'" in words and "word of whoever made the packet" in words
    for short in (digest[:15], "", digest.upper()[:16], "*" * 16):
        with pytest.raises(MalformedError, match="hex digits"):
            permitted([short])


def test_a_permitted_notebook_runs_from_the_packet_and_gives_the_same_bytes(
    foreign: tuple[Path, Path, Path, str],
) -> None:
    """The executed copy, without its parameters' cell and outputs, is the notebook that was hashed."""
    packet, vault, marker, digest = foreign
    code, answer = command(
        *("reproduce", packet, "--vault", vault, "--key", simulator.KEY.verifier, "--allow-notebook", digest[:16])
    )
    assert (code, answer["identical"]) == (0, True), answer
    assert marker.exists()
    marker.unlink()


def cells(change: Callable[[list[Any]], None]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        notebook = json.loads(data)
        change(notebook["cells"])
        return json.dumps(notebook, indent=1).encode() + b"\n"

    return changed


RUNS = "open('it-ran', 'w').close()\n"
SWAPS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "other code under the same hash": (cells(lambda all_: all_[4]["source"].append(RUNS)), "not the one that packet"),
    "a cell more, said to be the parameters": (
        cells(lambda all_: all_.append(all_[2] | {"id": "cell-99", "source": [RUNS]})),
        "identical",
    ),
    "a parameter that is a program": (
        cells(lambda all_: all_[2]["source"].append("os = 1\n")),
        "not declared by the notebook",
    ),
    "no notebook": (lambda data: b"[]", "is no notebook"),
    "no JSON": (lambda data: b"\xff{", "is no notebook"),
}


@pytest.mark.parametrize("swap", SWAPS)
def test_code_slipped_into_a_packet_never_runs(
    swap: str, grown: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an own notebook the library's file runs; what the packet holds beside is refused, or only compared."""
    change, says = SWAPS[swap]
    packet, vault = grown
    files = {p.relative_to(packet).as_posix(): p.read_bytes() for p in packet.rglob("*") if p.is_file()}
    path = write(Packet(files).edit(NOTEBOOK, change).fix().files, tmp_path / "packet")
    monkeypatch.chdir(tmp_path)
    if says == "identical":
        comparison = reproduce_packet(path, str(vault), keys=simulator.KEY.verifier)
        assert meanings(comparison)[NOTEBOOK] == "differs"
    else:
        with pytest.raises((MalformedError, MismatchError), match=says):
            reproduce_packet(path, str(vault), keys=simulator.KEY.verifier, out=tmp_path / "again")
        assert not (tmp_path / "again").exists()
    assert not list(tmp_path.rglob("it-ran"))


def test_tags_that_steer_a_foreign_run_are_refused(foreign: tuple[Path, Path, Path, str], tmp_path: Path) -> None:
    """No hash covers a cell's tags: a permission for a notebook is none for skipping a part of it."""
    packet, vault, marker, digest = foreign
    files = {p.relative_to(packet).as_posix(): p.read_bytes() for p in packet.rglob("*") if p.is_file()}
    skip = cells(lambda all_: all_[4]["metadata"].update(tags=["skip-execution"]))
    path = write(Packet(files).edit(NOTEBOOK, skip).fix().files, tmp_path / "packet")
    with pytest.raises(MalformedError, match="skip-execution"):
        reproduce_packet(path, str(vault), keys=simulator.KEY.verifier, permit=permitted([digest]))
    assert not marker.exists()


def test_a_vault_of_another_history_is_refused(grown: tuple[Path, Path], tmp_path: Path) -> None:
    """The same origin, key and size over other records, and a vault that was cut: check 1, exit 1, nothing made."""
    packet, vault = grown
    other = vault_of(tmp_path / "other", [event("g-9", at="2026-03-10T12:00:00Z")])
    code, answer = command(
        *("reproduce", packet, "--vault", other, "--key", simulator.KEY.verifier, "-o", tmp_path / "again")
    )
    assert code == 1 and "check 1" in answer["error"]["message"]
    with pytest.raises(MismatchError, match="check 1"):
        reproduce_packet(vault.parent / "packet-2", str(other), keys=simulator.KEY.verifier, out=tmp_path / "again")
    code, answer = command("reproduce", packet, "--vault", tmp_path / "nowhere", "-o", tmp_path / "again")
    assert code == 2
    assert not (tmp_path / "again").exists()


# --- diff ----------------------------------------------------------------------------------------------------


def test_a_packet_does_not_differ_from_itself(tmp_path: Path) -> None:
    """Folder and zip: exit 0."""
    a = write(sample(), tmp_path / "a")
    b = write(sample(), tmp_path / "b.zip")
    code, answer = command("diff", a, b, "--key", SAMPLE_KEY)
    assert (code, answer["identical"], answer["files"]) == (0, True, [])


def test_two_packets_of_a_growing_trail_differ_by_the_rows_that_came(grown: tuple[Path, Path]) -> None:
    """Rows added are shown with their values; the fields of packet.json by path; the checkpoint as another."""
    _, vault = grown
    code, answer = command(
        "diff", vault.parent / "packet-1", vault.parent / "packet-2", "--key", simulator.KEY.verifier
    )
    assert (code, answer["meaning_differs"]) == (1, True)
    tables = {table["name"]: table for table in answer["tables"]}
    for name in ("data/tables/grants.csv", "data/tables/grants.parquet"):
        assert (tables[name]["added"], tables[name]["removed"], tables[name]["changed"]) == (1, 0, 0)
        (row,) = tables[name]["rows"]
        assert (row["state"], row["key"]["item"], row["then"], row["now"]) == ("added", "g-2", None, 3)
        assert {"name": "grantee", "then": None, "now": "u_2"} in row["columns"]
    files = {file["name"]: file for file in answer["files"]}
    assert {"name": "population.items", "then": "1", "now": "2"} in files[PACKET]["places"]
    assert {"name": "parameters.at", "then": "1", "now": "2"} in files[PACKET]["places"]
    assert files["data/proof/acme.example/audit/checkpoint"]["meaning"] == "differs"


def test_two_periods_differ_in_meaning(grown: tuple[Path, Path], tmp_path: Path) -> None:
    """Another period is another answer: the period by its fields, the rows that are gone."""
    packet, vault = grown
    given = {"since": "2026-04-01", "until": "2026-05-01"}
    build_packet("role-grants", str(vault), given, tmp_path / "april", keys=simulator.KEY.verifier)
    comparison = diff_packets(packet, tmp_path / "april")
    places = {place.name: place for file in comparison.files if file.name == PACKET for place in file.places}
    assert comparison.meaning_differs and not any(comparison.findings.values())
    (grants,) = (table for table in comparison.tables if table.name == "data/tables/grants.csv")
    assert (grants.added, grants.removed) == (0, 1)
    assert any(name.startswith(("period.utc", "checkpoints[0]", "parameters")) for name in places)


JUNK = [
    b"",
    b"\x00",
    b"[]",
    b'{"cells":[1]}',
    b"{" * 20_000,
    b"PAR1" + b"\xff" * 40 + b"PAR1",
    b"a,a\r\n1,2\r\n",
    b"\xff\n",
]


def test_junk_in_any_file_is_a_difference_and_never_a_crash() -> None:
    """On either side, or on both with other bytes: it differs, and no two kinds of junk pass for the same."""
    for name in sample():
        for number, junk in enumerate(JUNK):
            for files, others in (
                ({**sample(), name: junk}, sample()),
                (sample(), {**sample(), name: junk}),
                ({**sample(), name: junk}, {**sample(), name: JUNK[number - 1]}),
            ):
                comparison = against(files, others)
                assert meanings(comparison)[name] in ("differs", "unknown"), (name, junk[:10])
                assert comparison.meaning_differs, (name, junk[:10])


def test_two_statements_too_large_to_be_read_do_not_pass_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet.json past the limit is told apart by its hash, whatever it says."""
    monkeypatch.setattr(diffs, "MAX_PACKET_JSON_BYTES", 100)
    other = {**sample(), PACKET: sample()[PACKET].replace(b"admin", b"nimda", 1)}
    comparison = against(other)
    assert meanings(comparison)[PACKET] == "differs" and comparison.meaning_differs


def test_two_checkpoints_that_are_no_text_are_no_same_checkpoint() -> None:
    """Bytes that are no UTF-8 look alike where they are shown, and are not."""
    name = next(name for name in sample() if name.endswith("/checkpoint"))
    comparison = against({**sample(), name: b"a\xff\n\nb"}, {**sample(), name: b"a\xfe\n\nb"})
    assert meanings(comparison)[name] == "differs"


# --- tables --------------------------------------------------------------------------------------------------


def table(*rows: tuple[str, ...], headings: str = "source,item,verdict") -> bytes:
    return csv_bytes([headings.split(","), *map(list, rows)])


A, B, C = ("s", "1", "pass"), ("s", "2", "fail"), ("t", "1", "pass")
SAME: dict[str, tuple[bytes, bytes]] = {
    "line ends": (table(A, B), table(A, B).replace(b"\r\n", b"\n")),
    "quotes": (table(A, B), table(A, B).replace(b"pass", b'"pass"')),
    "order": (table(A, B, C), table(C, A, B)),
    "twice": (table(A, A, B), table(B, A, A)),
    "order of columns": (table(A), table(("pass", "s", "1"), headings="verdict,source,item")),
}
ROWS: dict[str, tuple[bytes, bytes, tuple[int, int, int]]] = {
    "changed": (table(A, B), table(A, ("s", "2", "pass")), (0, 0, 1)),
    "source tells apart": (table(A, C), table(A, ("u", "1", "pass")), (1, 1, 0)),
    "one of two alike gone": (table(A, A, B), table(A, B), (0, 1, 0)),
    "one of two alike changed": (table(A, A), table(("s", "1", "fail"), A), (0, 0, 1)),
    "inserted before all": (table(B, C), table(A, B, C), (1, 0, 0)),
    "by the first column": (
        table(("x", "1"), ("y", "2"), headings="name,n"),
        table(("w", "0"), ("x", "1"), ("y", "3"), headings="name,n"),
        (1, 0, 1),
    ),
    "by their order": (
        table(("x", "1"), ("x", "2"), headings="name,n"),
        table(("x", "1"), ("x", "3"), ("x", "4"), headings="name,n"),
        (1, 0, 1),
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_rows_in_other_bytes_have_the_same_meaning(case: str) -> None:
    """Nothing is shown as changed; that the bytes or the order differ is said."""
    found = compare_tables("t.csv", *SAME[case])
    assert found.same_meaning and found.rows == []
    assert "same rows and values" in found.says
    assert ("another order" in found.says) is (case in ("order", "twice"))


@pytest.mark.parametrize("case", ROWS)
def test_rows_are_held_together_by_what_tells_them_apart(case: str) -> None:
    """(added, removed, changed), and never a cascade of changes after one row more."""
    then, now, counts = ROWS[case]
    found = compare_tables("t.csv", then, now)
    assert (found.added, found.removed, found.changed) == counts
    back = compare_tables("t.csv", now, then)
    assert (back.removed, back.added, back.changed) == counts
    assert len(found.rows) == sum(counts)


def test_all_rows_are_counted_and_twenty_shown() -> None:
    """Also columns that came and went, and a long value by the place where it differs."""
    rows = [("s", str(number), "x" * 500 + "pass") for number in range(300)]
    other = [(source, item, "x" * 500 + "fail") for source, item, _ in rows]
    found = compare_tables("t.csv", table(*rows), table(*other))
    assert (found.changed, len(found.rows)) == (300, MAX_SHOWN)
    (place,) = found.rows[0].columns
    assert place.then and place.now and place.then.endswith("pass") and place.now.endswith("fail")
    assert (len(place.then) < 100, found.rows[0].then) == (True, 2)
    found = compare_tables("t.csv", table(A), table(("s", "1", "y"), headings="source,item,other"))
    assert (found.columns_added, found.columns_removed, found.same_meaning) == (["other"], ["verdict"], False)


def test_parquet_is_compared_by_values_and_types_are_named() -> None:
    """Another compression is no difference in meaning; null is not the empty text; times to the nanosecond."""
    source = pa.table({"item": ["1", None], "source": ["s", "s"], "n": [1, 2]})
    again = compare_tables("t.parquet", parquet_bytes(source), parquet_bytes(source, compression="gzip"))
    assert again.same_meaning
    wider = source.set_column(2, "n", source["n"].cast(pa.int32()))
    typed = compare_tables("t.parquet", parquet_bytes(source), parquet_bytes(wider))
    assert typed.same_meaning and "is int32, was int64" in typed.says
    empty = source.set_column(0, "item", pa.array(["1", ""]))
    assert not compare_tables("t.parquet", parquet_bytes(source), parquet_bytes(empty)).same_meaning
    times = [pa.table({"at": pa.array([nano], pa.timestamp("ns", "UTC"))}) for nano in (1, 2)]
    assert compare_tables("t.parquet", *map(parquet_bytes, times)).rows


@pytest.mark.parametrize(
    "kind", [pa.date32(), pa.duration("s"), pa.timestamp("us", "UTC"), pa.time64("us"), pa.decimal128(38, 2)], ids=str
)
def test_a_value_past_what_python_holds_is_a_difference_and_no_crash(kind: pa.DataType) -> None:
    """A hostile table states days, spans and times that no calendar has."""
    name = next(name for name in sample() if name.endswith(".parquet"))
    width = pa.int32() if kind == pa.date32() else pa.int64()
    tables = [pa.table({"x": pa.array([number], width).cast(kind, safe=False)}) for number in (2**31 - 1, 2**31 - 2)]
    comparison = against(*({**sample(), name: parquet_bytes(each)} for each in tables))
    assert meanings(comparison)[name] == "differs"


def test_a_text_that_many_rows_refer_to_is_kept_once() -> None:
    """Some kilobytes of Parquet that spell 200 MB do not take them."""

    def bomb(letter: str) -> bytes:
        return parquet_bytes(pa.table({"x": [letter * 100_000] * 2_000, "n": range(2_000)}), compression="zstd")

    files = [bomb(letter) for letter in "ab"]
    tracemalloc.start()
    try:
        found = compare_tables("t.parquet", *files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(map(len, files)) < 50_000 and found.changed == 2_000
    assert peak < 50 * 1024 * 1024
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diffs, "MAX_TABLE_BYTES", 10_000)
        with pytest.raises(MalformedError, match="10,000 bytes"):
            compare_tables("t.parquet", *files)
