"""Two packets held against one another: which files differ, which tables, which rows, and whether the meaning does.

    comparison = diff_packets(Path("a.zip"), Path("b"))
    print(comparison.headline())

`then` is the first packet, `now` the second, or the one that was made again. Rows are counted as a spreadsheet counts
them: the first below the headings is row 2. Both packets are hostile: nothing in them is run, and what is shown of
them is bounded while all of it is counted. `transmittal.json` is no part of the evidence and is left aside.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from hashlib import sha256
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from auditlib.errors import AuditlibError, MalformedError
from auditlib.findings import Finding
from auditlib.formats.canonical import canonical, parse_json
from auditlib.formats.keys import VerifierKey
from auditlib.packet.bag import DECLARATION, INFO, MANIFEST, TAGMANIFEST, TRANSMITTAL, Bag, open_bag
from auditlib.packet.check import MAX_PACKET_JSON_BYTES, check_packet
from auditlib.packet.tables import FOLDER, MAX_ROWS, read_table

MAX_SHOWN = 20  # rows of a table, and places of a file, that are shown; all are counted
MAX_VALUE_CHARS = 400  # characters shown of a value
MAX_TABLE_BYTES = 1024 * 1024 * 1024  # bytes of a Parquet table, unpacked, as its footer states them
PACKET, NOTEBOOK, VERIFIER, WORKBOOK = (
    f"data/{name}" for name in ("packet.json", "notebook.ipynb", "verify.py", "evidence.xlsx")
)
REPORTS = ("data/report.html", "data/report.pdf")  # made from packet.json and what it names by hash
MAX_COLUMNS = 100  # columns of a row, and versions, that are shown; tables have 8 to 30, packet.json 11
MAX_NOTEBOOK_BYTES = 64 * 1024 * 1024  # bytes; a notebook shows at most 200 rows of a table
_LEAD = 40  # characters shown before the first that differs
_IS_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
# What tells the rows of a table apart (DESIGN 3 and 4.1); of several trails, within one of them.
_ALONE = (("source", "item"), ("source", "event_id"))
_KEYS = (*(("trail", *key) for key in _ALONE), *_ALONE)
# What a value of another shape than expected raises where it is used.
_STRANGE = (
    *(TypeError, ValueError, AttributeError, LookupError, ArithmeticError),
    *(RecursionError, msgspec.MsgspecError),
)

State = Literal["added", "removed", "changed"]
Meaning = Literal["same", "differs", "unknown"]


class Place(msgspec.Struct, frozen=True):
    """A column of a row, a field, a cell or a line, and what stands there in each; None where nothing does."""

    name: str
    then: str | None
    now: str | None


class RowDifference(msgspec.Struct, frozen=True):
    """A row that stands in one of them alone, or has other values; `then` and `now` are row numbers."""

    state: State
    key: dict[str, str | None]
    then: int | None
    now: int | None
    columns: list[Place]


class TableDifference(msgspec.Struct, frozen=True):
    """How a table differs: all rows counted, up to MAX_SHOWN of them shown."""

    name: str
    same_meaning: bool
    says: str
    added: int
    removed: int
    changed: int
    columns_added: list[str]
    columns_removed: list[str]
    rows: list[RowDifference]


class FileDifference(msgspec.Struct, frozen=True):
    """A file whose bytes differ, whether its meaning does, and up to MAX_SHOWN of the places where."""

    name: str
    state: State
    meaning: Meaning
    says: str
    then: str | None  # SHA-256
    now: str | None
    places: list[Place]


class Comparison(msgspec.Struct, frozen=True):
    """Two packets compared; `findings` holds the faults that the packet checks found in each."""

    then: str
    now: str
    compared: int  # files
    files: list[FileDifference]
    tables: list[TableDifference]
    versions: dict[str, dict[str, str | None]]
    findings: dict[str, list[Finding]]

    @property
    def identical(self) -> bool:
        """Whether every file is the same, byte for byte."""
        return not self.files

    @property
    def meaning_differs(self) -> bool:
        """Whether a file is known to say something else."""
        return any(file.meaning == "differs" for file in self.files)

    @property
    def ok(self) -> bool:
        """Identical, and no packet check found a fault."""
        return self.identical and not any(self.findings.values())

    def headline(self) -> str:
        """The outcome in a sentence or two."""
        if self.identical:
            return f"Identical: {self.compared} files, byte for byte."
        differing = [file.name for file in self.files if file.meaning == "differs"]
        if differing:
            more = f" and {len(differing) - 5:,} more" if len(differing) > 5 else ""
            return f"The meaning differs, in {', '.join(differing[:5])}{more}."
        told = "Same meaning, other bytes: the same rows and values stand in both, in files that are not the same."
        if unknown := [file.name for file in self.files if file.meaning == "unknown"]:
            told += f" Not compared: {', '.join(unknown[:5])}{' and others' if len(unknown) > 5 else ''}."
        return f"{told} Software versions differ, which may explain it." if self.versions else told

    def as_json(self) -> dict[str, Any]:
        """The stable keys of `packet reproduce --json` and `packet diff --json`."""
        said = {"ok": self.ok, "identical": self.identical, "meaning_differs": self.meaning_differs}
        every: dict[str, Any] = msgspec.to_builtins(self)
        return said | {"headline": self.headline()} | every


def diff_packets(a: Path, b: Path, keys: Sequence[VerifierKey] = ()) -> Comparison:
    """Check two packets and compare them. MalformedError where one of them is no packet that could be read."""
    findings = {name: faults(path, keys) for name, path in (("then", a), ("now", b))}
    with open_bag(a) as then, open_bag(b) as now:
        return compare(then, now, names=(str(a), str(b)), findings=findings)


def faults(path: Path, keys: Sequence[VerifierKey]) -> list[Finding]:
    """What the packet checks hold against a packet."""
    return [finding for finding in check_packet(path, keys).findings if finding.severity == "error"]


def compare(then: Bag, now: Bag, *, names: tuple[str, str], findings: dict[str, list[Finding]]) -> Comparison:
    """Compare two opened packets file by file: first the evidence, then what is made from it."""
    work = _Work(then, now)
    every = sorted((set(then.sizes) | set(now.sizes)) - {TRANSMITTAL}, key=lambda name: (_rank(name), name))
    for name in every:
        work.file(name)
    return Comparison(names[0], names[1], len(every), list(work.files.values()), work.tables, work.versions, findings)


def _rank(name: str) -> int:
    """What is made from other files comes after them."""
    if name.endswith("/seals-proof.json"):
        return 1
    derived = (WORKBOOK, PACKET, *REPORTS, DECLARATION, INFO, MANIFEST, TAGMANIFEST)
    return derived.index(name) + 2 if name in derived else 0


class _Said(NamedTuple):
    """What is said of a file; the places, as many as there are, are shown up to MAX_SHOWN."""

    meaning: Meaning
    says: str
    places: Sequence[Place] = ()


class _Work:
    def __init__(self, then: Bag, now: Bag) -> None:
        self.bags = (then, now)
        self.files: dict[str, FileDifference] = {}
        self.tables: list[TableDifference] = []
        self.versions, self.fields = _stated(*(_facts(bag) for bag in self.bags))

    def file(self, name: str) -> None:
        """Compare one file; nothing is noted where the bytes are the same."""
        then, now = (bag.read(name) if name in bag.sizes else None for bag in self.bags)
        if then == now:
            return
        state: State = "added" if then is None else "removed" if now is None else "changed"
        if then is None or now is None:
            meaning: Meaning = "unknown" if name in (WORKBOOK, *REPORTS) else "differs"
            said = _Said(meaning, f"the file stands in the {'second' if then is None else 'first'} alone.")
        else:
            try:
                said = self._changed(name, then, now)
            except (AuditlibError, pa.ArrowException, OSError, *_STRANGE) as error:
                reason = error.message if isinstance(error, AuditlibError) else type(error).__name__
                said = _Said(
                    "differs", f"the bytes differ, and one of them cannot be read ({reason[:MAX_VALUE_CHARS]})."
                )
        before, after = (None if data is None else sha256(data).hexdigest() for data in (then, now))
        places = list(said.places[:MAX_SHOWN])
        self.files[name] = FileDifference(name, state, said.meaning, said.says, before, after, places)

    def _changed(self, name: str, then: bytes, now: bytes) -> _Said:
        if name.startswith(FOLDER) and name.endswith((".csv", ".parquet")):
            table = compare_tables(name, then, now)
            self.tables.append(table)
            return _Said("same" if table.same_meaning else "differs", table.says)
        if name == PACKET:
            return self._packet()
        if name == NOTEBOOK:
            return self._notebook(then, now)
        if name == VERIFIER:
            return self._by_software("it is another program.")
        if name.startswith("data/proof/") and name.endswith("/checkpoint"):
            return _checkpoint(then, now)
        if name.endswith("/inclusion.jsonl") and _proven(then) == _proven(now):
            return _Said("same", "it proves the same records, in other bytes.")
        if name.endswith(".jsonl"):
            return _lines(then, now)
        return self._made(name) or _Said("differs", "the bytes differ.")

    def _packet(self) -> _Said:
        if not self.fields:
            told = "it differs in software versions and in the hashes of other files alone."
            return _Said("same", told)
        return _Said("differs", f"{_many(len(self.fields), 'field')} differ.", self.fields)

    def _notebook(self, then: bytes, now: bytes) -> _Said:
        sources, outputs = [], []
        pairs = zip_longest(*(_cells(data) for data in (then, now)), fillvalue=(None, None))
        for number, ((source, output), (other, shown)) in enumerate(pairs, 1):
            if source != other:
                sources.append(_place(f"cell {number}", source, other))
            elif output != shown:
                outputs.append(_place(f"output of cell {number}", output, shown))
        if sources:
            return _Said(
                "differs", f"the code or the text of {_many(len(sources), 'cell')} differs.", sources + outputs
            )
        if outputs:
            told = f"the output of {_many(len(outputs), 'cell')} differs."
            return self._by_software(told, outputs)
        return _Said("same", "the cells and what they put out are the same, in other bytes.")

    def _by_software(self, told: str, places: Sequence[Place] = ()) -> _Said:
        """What other software may have made otherwise, and nothing else."""
        if self.versions:
            return _Said("unknown", f"{told} Software versions differ, which may explain it.", places)
        return _Said("differs", f"{told} No version is stated otherwise that would explain it.", places)

    def _made(self, name: str) -> _Said | None:
        """What is made from other files: differing where those do not, it was changed by itself."""
        tables = any(file.startswith(FOLDER) for file in self.files)
        sources = {
            WORKBOOK: tables or bool(self.fields or self.versions),
            **dict.fromkeys(REPORTS, PACKET in self.files),
            INFO: PACKET in self.files,
            MANIFEST: any(file.startswith("data/") for file in self.files),
            TAGMANIFEST: not {INFO, MANIFEST, DECLARATION}.isdisjoint(self.files),
        }
        if name.startswith("data/proof/") and name.endswith("/seals-proof.json"):
            folder = name.removesuffix("seals-proof.json")
            sources[name] = not {f"{folder}seals.jsonl", f"{folder}checkpoint"}.isdisjoint(self.files)
        if name not in sources:
            return None
        if not sources[name]:
            return _Said("differs", "it differs although nothing that it is made from does: it was changed by itself.")
        meaning: Meaning = "unknown" if name in (WORKBOOK, *REPORTS) else "same"
        return _Said(
            meaning, "it differs as what stands above does, from which it is made; it was not compared itself."
        )


# --- tables ------------------------------------------------------------------------------------------------------

_Row = dict[str, str | None]


def compare_tables(name: str, then: bytes, now: bytes) -> TableDifference:
    """Two tables, CSV or Parquet by the name's ending, row by row. MalformedError where one is none.

    Rows are held together by `source` and `item`, else `source` and `event_id`, of several trails within each of them;
    else by the first column where no value stands twice in it; else equal rows by their values, and the others by
    their order.
    """
    (old, types), (new, others) = (_read(name, data) for data in (then, now))
    common = [column for column in types if column in others]
    added, removed = ([c for c in one if c not in other] for one, other in ((others, types), (types, others)))
    key = _key(common, old, new)
    pairs = _pairs(old, new, key, common)
    counts = Counter(_state(*pair) for pair in pairs)
    same = not (pairs or added or removed)
    told = [f"{_many(counts[state], 'row')} {state}" for state in ("added", "removed", "changed") if counts[state]]
    told += [f"the column {c[:MAX_VALUE_CHARS]} was {how}" for c, how in _hows(added, removed)]
    told += [] if told else ["the same rows and values in other bytes"]
    told += ["the rows stand in another order"] if same and old != new else []
    told += [
        f"the column {column[:MAX_VALUE_CHARS]} is {others[column]}, was {types[column]}"
        for column in common
        if types[column] != others[column]
    ][:MAX_SHOWN]
    shown = [_row(old, new, pair, key) for pair in pairs[:MAX_SHOWN]]
    columns = (added[:MAX_COLUMNS], removed[:MAX_COLUMNS])
    numbers = (counts["added"], counts["removed"], counts["changed"])
    return TableDifference(name, same, "; ".join(told) + ".", *numbers, *columns, shown)


def _read(name: str, data: bytes) -> tuple[list[_Row], dict[str, str]]:
    """The rows as texts, and the columns with their types."""
    if name.endswith(".csv"):
        rows: list[_Row] = [dict(row) for row in read_table(data)]
        return rows, dict.fromkeys(next(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))), "text")
    plain = pq.ParquetFile(pa.BufferReader(data))
    # A text is kept once however many rows refer to it: some hundred bytes could spell terabytes otherwise.
    texts = [field.name for field in plain.schema_arrow if any(is_(field.type) for is_ in _IS_TEXT)]
    file = pq.ParquetFile(pa.BufferReader(data), read_dictionary=texts)
    footer = file.metadata
    size = sum(footer.row_group(number).total_byte_size for number in range(footer.num_row_groups))
    if footer.num_rows > MAX_ROWS or size > MAX_TABLE_BYTES:
        raise MalformedError(f"more than {MAX_ROWS:,} rows or {MAX_TABLE_BYTES:,} bytes of a table are not read.")
    table = file.read()
    if table.nbytes > MAX_TABLE_BYTES:  # the footer is the word of whoever made the file
        raise MalformedError(f"more than {MAX_TABLE_BYTES:,} bytes of a table are not read.")
    names = table.column_names
    if len(set(names)) != len(names):
        raise MalformedError("a column stands twice.")
    columns = [_texts(column) for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)], {
        field.name: str(field.type) for field in plain.schema_arrow
    }


def _texts(column: pa.ChunkedArray | pa.Array) -> list[str | None]:
    if pa.types.is_dictionary(column.type):
        found: list[str | None] = []
        for chunk in column.chunks:
            known = _texts(chunk.dictionary)
            found += [None if place is None else known[place] for place in chunk.indices.to_pylist()]
        return found
    times = pa.types.is_timestamp(column.type)  # Python's own have no nanoseconds
    return [None if cell is None else str(cell) for cell in (column.cast(pa.string()) if times else column).to_pylist()]


def _key(common: Sequence[str], *tables: Sequence[_Row]) -> tuple[str, ...]:
    for key in _KEYS:
        if set(key) <= set(common):
            return key
    first = tuple(common[:1])
    return first if all(len({row[c] for row in rows}) == len(rows) for c in first for rows in tables) else ()


def _pairs(
    old: Sequence[_Row], new: Sequence[_Row], key: Sequence[str], common: Sequence[str]
) -> list[tuple[int | None, int | None]]:
    """The rows that differ, as (place then, place now); of a key that stands several times, equal rows go first."""
    ours: dict[tuple[str | None, ...], list[int]] = defaultdict(list)
    theirs: dict[tuple[str | None, ...], list[int]] = defaultdict(list)
    for rows, found in ((old, ours), (new, theirs)):
        for place, row in enumerate(rows):
            found[tuple(row[column] for column in key)].append(place)
    pairs: list[tuple[int | None, int | None]] = []
    for value, places in ours.items():
        equal: dict[tuple[str | None, ...], deque[int]] = defaultdict(deque)
        left = dict.fromkeys(theirs.pop(value, ()))
        for place in left:
            equal[tuple(new[place][column] for column in common)].append(place)
        gone = []
        for place in places:
            same = equal.get(tuple(old[place][column] for column in common))
            if same:
                del left[same.popleft()]
            else:
                gone.append(place)
        pairs += zip_longest(gone, left)
    return pairs + [(None, place) for places in theirs.values() for place in places]


def _row(
    old: Sequence[_Row], new: Sequence[_Row], pair: tuple[int | None, int | None], key: Sequence[str]
) -> RowDifference:
    then, now = ({} if place is None else rows[place] for rows, place in zip((old, new), pair, strict=True))
    columns = [_place(c, then.get(c), now.get(c)) for c in dict.fromkeys((*then, *now)) if then.get(c) != now.get(c)]
    known = {c: _place(c, (then or now)[c], None).then for c in key}
    before, after = (None if place is None else place + 2 for place in pair)
    return RowDifference(_state(*pair), known, before, after, columns[:MAX_COLUMNS])


def _state(then: int | None, now: int | None) -> State:
    return "added" if then is None else "removed" if now is None else "changed"


def _hows(added: Sequence[str], removed: Sequence[str]) -> list[tuple[str, str]]:
    return [*((c, "added") for c in added[:MAX_SHOWN]), *((c, "removed") for c in removed[:MAX_SHOWN])]


# --- other files -------------------------------------------------------------------------------------------------


def _facts(bag: Bag) -> dict[str, Any]:
    """What packet.json says; where that cannot be read, its hash, so that two such are told apart."""
    raw = b""
    try:
        raw = bag.read(PACKET)
        facts = parse_json(raw) if len(raw) <= MAX_PACKET_JSON_BYTES else None
        if isinstance(facts, dict):
            return facts
    except (AuditlibError, RecursionError):
        pass
    return {"packet.json": f"unreadable, SHA-256 {sha256(raw).hexdigest()}"}


def _stated(then: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, dict[str, str | None]], list[Place]]:
    """The software versions that differ, and every other field that does, but the hashes of files."""
    try:
        versions = islice(_fields(then.pop("software", {}), now.pop("software", {})), MAX_COLUMNS)
        stated = {place.name: {"then": place.then, "now": place.now} for place in versions}
        for facts in (then, now):
            facts.pop("files", None)  # what the hashes stand for is compared itself
        return stated, list(_fields(then, now))
    except RecursionError:
        return {}, [Place("packet.json", "nested too deeply", "nested too deeply")]


def _fields(then: Any, now: Any, path: str = "") -> Iterator[Place]:
    """Every leaf of two JSON values that differs, by its path: `population.verdicts.pass`, `conclusion[3]`."""
    path = path[:MAX_VALUE_CHARS]  # no more of it is shown, and it is copied for every leaf below
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted({*then, *now}):
            yield from _fields(then.get(name, _NOTHING), now.get(name, _NOTHING), f"{path}.{name}" if path else name)
    elif isinstance(then, list) and isinstance(now, list):
        for number, (one, other) in enumerate(zip_longest(then, now, fillvalue=_NOTHING)):
            yield from _fields(one, other, f"{path}[{number}]")
    else:
        texts = [None if value is _NOTHING else canonical(value).decode() for value in (then, now)]
        if texts[0] != texts[1]:
            yield _place(path, *((then, now) if isinstance(then, str) and isinstance(now, str) else texts))


_NOTHING = object()


def _cells(data: bytes) -> Iterator[tuple[str, str]]:
    """Of each cell of a notebook its type, tags and source, and what it put out."""
    if len(data) > MAX_NOTEBOOK_BYTES:
        raise MalformedError(f"notebooks of more than {MAX_NOTEBOOK_BYTES:,} bytes are not read.")
    for cell in msgspec.json.decode(data)["cells"]:
        tags = ", ".join(map(str, cell["metadata"].get("tags", ())))
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        output = msgspec.json.encode(cell.get("outputs", []), order="sorted").decode()
        yield f"{cell['cell_type']}{f' ({tags})' if tags else ''}: {source}", output


def _checkpoint(then: bytes, now: bytes) -> _Said:
    notes = [data.rpartition(b"\n\n")[0] for data in (then, now)]  # DESIGN 4.5
    if notes[0] and notes[0] == notes[1]:
        return _Said("same", "it is the same checkpoint under other signatures.")
    texts = [note.decode(errors="replace") for note in notes]
    return _Said("differs", "it is another checkpoint.", [_place("checkpoint", *texts)])


def _proven(data: bytes) -> set[tuple[int, int]]:
    """The (sequence, row) of every record that inclusion.jsonl proves."""
    proofs = [msgspec.json.decode(line) for line in data.splitlines()]
    return {(proof["sequence"], row) for proof in proofs for row in proof["leaf_indexes"]}


def _lines(then: bytes, now: bytes) -> _Said:
    old, new = then.split(b"\n"), now.split(b"\n")
    gone, come = Counter(old) - Counter(new), Counter(new) - Counter(old)
    if not gone and not come:
        return _Said("same", "the same lines stand in another order.")
    told = f"{_many(gone.total(), 'line')} of the first alone, {come.total():,} of the second alone."
    return _Said("differs", told, list(islice(_line_places(old, new, gone, come), MAX_SHOWN)))


def _line_places(old: list[bytes], new: list[bytes], gone: Counter[bytes], come: Counter[bytes]) -> Iterator[Place]:
    """Lines are counted from 0 (decision 3)."""
    for number, (one, other) in enumerate(zip_longest(old, new)):
        texts = [
            line.decode(errors="replace") if line in lines else None for line, lines in ((one, gone), (other, come))
        ]
        if texts != [None, None]:
            yield _place(f"line {number}", *texts)


def _place(name: str, then: str | None, now: str | None) -> Place:
    """Cut to what can be shown, with the first character that differs in it."""
    start = 0
    if then is not None and now is not None and max(len(then), len(now)) > MAX_VALUE_CHARS:
        differing = (place for place, (one, other) in enumerate(zip_longest(then, now)) if one != other)
        start = max(0, next(differing, 0) - _LEAD)
    shown = (None if text is None else _cut(text, start) for text in (then, now))
    return Place(name[:MAX_VALUE_CHARS], *shown)


def _cut(text: str, start: int) -> str:
    end = start + MAX_VALUE_CHARS
    return f"{'...' if start else ''}{text[start:end]}{'...' if len(text) > end else ''}"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
