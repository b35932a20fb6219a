"""A small trail in a moment, and every way to cheat with it.

    trail = Trail(tmp_path); trail.create(); trail.seal(8)      the honest sealer
    Tamper(trail.vault.root).flip(key, offset)                  whoever can write to the storage
    Tamper(trail.vault.root).resign(3)                          whoever holds the key as well

Nothing here reads a clock or draws randomness: the same calls give the same bytes.
"""

# ruff: noqa: A002 - a step of a case.toml names its `object`
from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from auditlib import sealer as sealing
from auditlib.errors import MismatchError, MissingError
from auditlib.findings import Report
from auditlib.formats import layout, merkle
from auditlib.formats.batch import (
    BLIND_NAME,
    NODES_NAME,
    EncodedBatch,
    encode_batch,
    parse_batch,
)
from auditlib.formats.catalog import Catalog, parse_catalog
from auditlib.formats.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from auditlib.formats.columns import SCHEMA, SLICE
from auditlib.formats.document import Document, Retention, document_bytes, document_hash
from auditlib.formats.event import Actor, Event, Receipt, Record, Target
from auditlib.formats.keys import SigningKey
from auditlib.formats.seal import NO_PREVIOUS, Seal, parse_seal, seal_bytes, seal_hash, sign_seal
from auditlib.formats.times import DAY, SECOND, format_time, parse_canonical_time, parse_time
from auditlib.state import SealerState
from auditlib.vault import MAX_DOCUMENT_BYTES, ExistsError, Lock, Stored, Vault
from auditlib.vault.local import LocalVault
from auditlib.verify import verify

ORIGIN = "acme.example/audit"
KEY = SigningKey(ORIGIN, bytes(range(32)))  # the sealer's
EVIL_KEY = SigningKey(ORIGIN, bytes(range(32, 64)))  # an intruder's, under the same name
KEYS = {"own": KEY, "evil": EVIL_KEY}
START = parse_time("2026-03-01T22:00:00Z")  # the first record; the trail crosses a midnight
NOW = START + 2 * DAY  # when verification happens
STEP = 120 * SECOND  # between two records
RETENTION = Retention(2557, "COMPLIANCE")
CATALOG = parse_catalog((Path(sealing.__file__).parent / "catalog.toml").read_bytes())
APP, IDP, CLOUD = "billing-api/7f3a", "idp/a1", "import:cloudtrail:42"


# --- records -----------------------------------------------------------------------------------------------------


def record(number: int, **changes: Any) -> Record:
    """The record of that number, 0 upwards, always the same; `changes` replaces fields of event or receipt."""
    granting = number % 3 == 0
    at = format_time(START + number * STEP)
    context = {"granted_role": "admin", "ip": f"203.0.113.{number % 250}"} if granting else {"n": number}
    source, seq = ((APP, number // 3 + 1), (IDP, number // 3 + 1), (CLOUD, None))[number % 3]
    event = Event(
        action=changes.get("action", "role.grant" if granting else "user.login"),
        actor=Actor(changes.get("actor_id", f"u_{1000 + number % 7}"), changes.get("session", "s_1f9c"), "user"),
        context=changes.get("context", context),
        event_id=changes.get("event_id", f"01JH2K8Q9R{number:06}"),
        occurred_at=changes.get("occurred_at", at),
        outcome=changes.get("outcome", "success" if number % 5 else "denied"),
        target=Target(f"u_{2000 + number % 11}", "user"),
    )
    receipt = Receipt(changes.get("recorded_at", at), changes.get("source", source), changes.get("source_seq", seq))
    return Record(event, receipt)


def records(count: int, first: int = 0) -> list[Record]:
    """`count` records from number `first` on."""
    return [record(number) for number in range(first, first + count)]


class Clock:
    """A clock that stands until it is told to tick; a second a reading if `ticking`."""

    def __init__(self, at: int = START + DAY, ticking: bool = False) -> None:
        self.at, self.ticking = at, ticking

    def __call__(self) -> int:
        self.at += SECOND * self.ticking
        return self.at


class Randomness:
    """Bytes that look random and are not: SHA-256 over a seed and a counter."""

    def __init__(self, seed: str = "seed") -> None:
        self.seed, self.count = seed, 0

    def __call__(self, size: int) -> bytes:
        self.count += 1
        return hashlib.shake_256(f"{self.seed}/{self.count}".encode()).digest(size)


# --- vaults ------------------------------------------------------------------------------------------------------


class MemoryVault:
    """A vault in a dictionary; see `auditlib.vault.Vault` for the contract."""

    lock_enforced = False

    def __init__(self, url: str = "memory") -> None:
        self.url = url
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes, lock: Lock | None = None) -> None:
        """See Vault.put."""
        if layout.check_key(key) in self.objects:
            raise ExistsError("an object stands here already.", where=f"{self.url}: {key}")
        self.objects[key] = bytes(data)

    def get(self, key: str, limit: int = MAX_DOCUMENT_BYTES, version: str = "") -> bytes:
        """See Vault.get."""
        data = self.objects.get(layout.check_key(key))
        if data is None:
            raise MissingError("there is no such object.", where=f"{self.url}: {key}")
        if len(data) > limit:
            raise MismatchError("the object is larger than it may be.", where=f"{self.url}: {key}")
        return data

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """See Vault.list."""
        if prefix:
            layout.check_key(prefix.rstrip("/"))
        for key in sorted(self.objects):
            if not prefix or key.startswith(prefix.rstrip("/") + "/"):
                yield Stored(key, len(self.objects[key]))


class Crash(BaseException):
    """The process dies here: nothing of the library may catch it."""


class CrashingVault:
    """Passes everything on, and dies before or after the put of that number (1 upwards)."""

    def __init__(self, vault: Vault, at: int, *, after: bool, error: BaseException | None = None) -> None:
        self.vault, self.at, self.after, self.error = vault, at, after, error or Crash()
        self.url, self.lock_enforced = vault.url, vault.lock_enforced
        self.puts = 0

    def put(self, key: str, data: bytes, lock: Lock | None = None) -> None:
        """See Vault.put."""
        self.puts += 1
        if self.puts == self.at and not self.after:
            raise self.error
        self.vault.put(key, data, lock)
        if self.puts == self.at:
            raise self.error

    def get(self, key: str, limit: int = MAX_DOCUMENT_BYTES, version: str = "") -> bytes:
        """See Vault.get."""
        return self.vault.get(key, limit, version)

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """See Vault.list."""
        return self.vault.list(prefix)


def snapshot(vault: Vault) -> dict[str, str]:
    """Every object and the SHA-256 of its bytes: nothing was written if two are alike."""
    if isinstance(vault, MemoryVault):
        return {key: hashlib.sha256(data).hexdigest() for key, data in vault.objects.items()}
    if not isinstance(vault, LocalVault):
        return {f"{entry.key} {entry.version}": f"{entry.size} {entry.marker}" for entry in vault.list()}
    root = Path(vault.url)
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "other"
        for path in sorted(root.rglob("*"))
        if not path.is_dir() or path.is_symlink()
    }


# --- the honest sealer -------------------------------------------------------------------------------------------


class Trail:
    """A vault, a sealer's memory beside it, and what was sealed."""

    def __init__(self, folder: Path | None, vault: Vault | None = None, state: Path | None = None) -> None:
        self.vault: Any = vault or LocalVault(folder / "vault", create=True)  # type: ignore[operator]
        self.state_root = state or folder / "state"  # type: ignore[operator]
        self.clock, self.random = Clock(), Randomness()

    def create(self, catalog: Catalog = CATALOG, retention: Retention = RETENTION) -> Trail:
        """Lay the trail down."""
        sealing.create_trail(self.vault, KEY, retention, catalog, now=self.clock())
        return self

    @property
    def state(self) -> SealerState:
        """The sealer's memory."""
        return SealerState(self.state_root, KEY.verifier)

    @contextmanager
    def sealer(self, key: SigningKey = KEY, vault: Vault | None = None, **options: Any) -> Iterator[Any]:
        """An open sealer."""
        state = SealerState(self.state_root, key.verifier)
        options = {"now": self.clock, "random": self.random, **options}
        with sealing.open_sealer(vault or self.vault, key, state, **options) as sealer:
            yield sealer

    def seal(self, batches: int, size: int = 12, first: int = 0) -> Trail:
        """Seal `batches` batches of `size` records each, from record number `first` on."""
        with self.sealer() as sealer:
            for number in range(batches):
                sealer.add(records(size, first + number * size))
                sealer.flush()
        return self

    def verify(self, *, keys: tuple[SigningKey, ...] = (KEY,), now: int = NOW, **options: Any) -> Report:
        """The report on this vault."""
        return verify(self.vault, keys=[key.verifier for key in keys], now=now, **options)


def ids_in(vault: Vault) -> list[tuple[str, str]]:
    """(source, event_id) of every record under a seal object, in order."""
    found = []
    for stored in vault.list("seals/"):
        seal = parse_seal(vault.get(stored.key))
        table = parse_batch(vault.get(seal.batch.object, 2**29)).table
        found += zip(table.column("source").to_pylist(), table.column("event_id").to_pylist(), strict=True)
    return found


def evil_parquet(table: pa.Table, blind: bytes, nodes: str, **options: Any) -> bytes:
    """A batch file as a liar would write it: with column statistics unless told otherwise."""
    sink = pa.BufferOutputStream()
    group = options.pop("row_group_size", SLICE)
    with pq.ParquetWriter(sink, table.schema, **{"compression": "zstd", "store_schema": False, **options}) as writer:
        writer.write_table(table, row_group_size=group)
        writer.add_key_value_metadata({BLIND_NAME.decode(): blind.hex(), NODES_NAME.decode(): nodes})
    data: bytes = sink.getvalue().to_pybytes()
    return data


# --- the intruder ------------------------------------------------------------------------------------------------


class Tamper:
    """Every way to change a local vault behind the library's back. Public methods are the steps of a case.toml."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # with nothing but access to the storage

    def find(self, pattern: str) -> str:
        """The one object that fits the glob."""
        keys = [path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()]
        (key,) = [key for key in keys if fnmatch.fnmatchcase(key, pattern) and not key.startswith(".")]
        return key

    def read(self, pattern: str) -> bytes:
        """An object's bytes."""
        return (self.root / self.find(pattern)).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        """Write an object, over another if need be."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.chmod(0o644)
        path.write_bytes(data)

    def plant(self, key: str, text: str) -> None:
        """Write a new object with this text."""
        assert not (self.root / key).exists()
        self.write(key, text.encode())

    def remove(self, object: str) -> None:
        """Delete an object."""
        (self.root / self.find(object)).unlink()

    def move(self, object: str, to: str) -> None:
        """Rename an object."""
        data = self.read(object)
        self.remove(object)
        self.write(to, data)

    def copy(self, object: str, to: str) -> None:
        """Put an object's bytes under another name."""
        self.write(to, self.read(object))

    def swap(self, object: str, other: str) -> None:
        """Exchange the bytes of two objects."""
        one, two = self.find(object), self.find(other)
        first, second = self.read(one), self.read(two)
        self.write(one, second)
        self.write(two, first)

    def flip(self, object: str, offset: int = 0, after: str = "") -> None:
        """Change one byte: `offset` bytes after the first place where `after` ends."""
        data = bytearray(self.read(object))
        at = (data.index(after.encode()) + len(after) if after else 0) + offset
        data[at] = {ord("0"): ord("1")}.get(data[at], ord("0"))
        self.write(self.find(object), bytes(data))

    def replace(self, object: str, old: str, new: str) -> None:
        """Replace some text in an object."""
        data = self.read(object)
        assert old.encode() in data
        self.write(self.find(object), data.replace(old.encode(), new.encode(), 1))

    def truncate(self, object: str, keep: int) -> None:
        """Keep only the first bytes."""
        self.write(self.find(object), self.read(object)[:keep])

    def symlink(self, object: str) -> None:
        """Move an object out of the vault and leave a symbolic link to it."""
        key = self.find(object)
        outside = self.root.parent / "outside"
        outside.write_bytes(self.read(key))
        self.remove(key)
        (self.root / key).symlink_to(outside)

    def symlink_loop(self, folder: str) -> None:
        """Put a symbolic link to itself in a folder's place."""
        path = self.root / folder
        path.rename(self.root.parent / "moved")
        path.symlink_to(path)

    def file_for_folder(self, folder: str) -> None:
        """Put a plain file in a folder's place."""
        path = self.root / folder
        path.rename(self.root.parent / "moved")
        path.write_bytes(b"")

    def cut(self, size: int) -> None:
        """Cut the tail: no checkpoint, seal or batch from number `size` on."""
        for path in sorted(self.root.rglob("*")):
            key = path.relative_to(self.root).as_posix()
            for kind, least in (("checkpoint", size + 1), ("seal", size), ("batch", size)):
                number = layout.number_of(kind, key)
                if number is not None and number >= least:
                    path.unlink()

    def respell(self, object: str) -> None:
        """Spell the last signature's base64 otherwise: other spare bits before the `==`, the same bytes."""
        text = self.read(object).decode()
        at = text.rindex("=")
        while text[at - 1] == "=":
            at -= 1
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        other = alphabet[alphabet.index(text[at - 1]) ^ 1]
        self.write(self.find(object), (text[: at - 1] + other + text[at:]).encode())

    def plant_document(self, key: str = "evil") -> None:
        """Put a trail document after the last that lets another key sign as well."""
        data = self.read("trail/000000.json")
        document = msgspec.json.decode(data, type=Document)
        keys = (*document.keys, str(KEYS[key].verifier))
        later = msgspec.structs.replace(document, keys=keys, n=1, previous=document_hash(data))
        self.write(layout.trail_key(1), document_bytes(later))

    def plant_seal(self, key: str = "", document: int = 0, first: int = 5000) -> None:
        """Put a seal and its batch after the last, signed by a key or by none."""
        seals = self.seals()
        encoded = encode_batch(sealing.table_of(records(3, first)), len(seals), bytes(32))
        seal = msgspec.structs.replace(
            self._described(seals[-1], encoded),
            previous=seal_hash(seal_bytes(seals[-1])),
            sequence=len(seals),
            signature="",
            trail=document_hash(self.read(layout.trail_key(document))),
        )
        seal = sign_seal(seal, KEYS[key]) if key else seal
        self.write(encoded.batch.object, encoded.data)
        self.write(layout.seal_key(len(seals)), seal_bytes(seal))

    # with the key as well

    def seals(self) -> list[Seal]:
        """Every seal, in order."""
        return [parse_seal(path.read_bytes()) for path in sorted((self.root / "seals").rglob("*.json"))]

    def table(self, batch: int) -> pa.Table:
        """The records of one batch."""
        return parse_batch(self._data(batch)).table

    def resign(self, start: int = 0, key: str = "own", checkpoints: str = "all", **changes: Any) -> None:
        """The key holder chains and signs everything again from seal `start` on; `changes` goes into that seal.

        `checkpoints` are all, or only the last one. A change is a field, or `batch.root` and the like.
        """
        seals = self.seals()
        signer = KEYS[key]
        previous = seal_hash(seal_bytes(seals[start - 1])) if start else NO_PREVIOUS
        for number in range(start, len(seals)):
            seal = seals[number]
            if number == start:
                for field, value in changes.items():
                    seal = _changed(seal, field, value)
            seal = sign_seal(msgspec.structs.replace(seal, previous=previous), signer)
            self.write(layout.seal_key(number), seal_bytes(seal))
            previous, seals[number] = seal_hash(seal_bytes(seal)), seal
        self.sign(start + 1 if checkpoints == "all" else len(seals), key)

    def sign(self, start: int, key: str = "own", claim: int = 0, origin: str = ORIGIN) -> None:
        """The key holder signs the checkpoints from size `start` on again; or one over `claim` seals."""
        leaves = [merkle.leaf_hash(seal_bytes(seal)) for seal in self.seals()]
        for size in (claim,) if claim else range(start, len(leaves) + 1):
            note = sign_checkpoint(origin, size, merkle.root(leaves[:size]), [KEYS[key]])
            self.write(layout.checkpoint_key(size), note)

    def fork(self, size: int, key: str = "own") -> None:
        """The key holder signs, at one size, another root than the trail's."""
        self.write(layout.checkpoint_key(size), sign_checkpoint(ORIGIN, size, bytes(32), [KEYS[key]]))

    def edit(self, batch: int, fix: list[str], row: int = 0, **edit: Any) -> None:
        """Write a batch again with other rows; `fix` says what of its seal is put right: file, root, counts.

        edit: `column` and `value`; or `rows`, the list of old rows that stand there now; or `from_batch`, whose
        first row is added. Without any `fix` the file is written over in place.
        """
        table = self.table(batch)
        if "column" in edit:
            table = with_cell(table, row, edit["column"], edit["value"])
        if "rows" in edit:
            table = table.take(pa.array(edit["rows"], pa.int64()))
        if "from_batch" in edit:
            table = pa.concat_tables([table, self.table(edit["from_batch"]).slice(0, 1)]).combine_chunks()
        self._store(batch, encode_batch(table, batch, parse_batch(self._data(batch)).blind), fix)

    def lie(self, batch: int, **options: Any) -> None:
        """Write a batch again with column statistics that hide its first source; all of its seal is put right."""
        parsed = parse_batch(self._data(batch))
        encoded = encode_batch(parsed.table, batch, parsed.blind)
        footer = pq.ParquetFile(pa.BufferReader(encoded.data)).metadata.metadata
        data = evil_parquet(parsed.table, parsed.blind, footer[NODES_NAME].decode(), **options)
        size = int.from_bytes(data[-8:-4], "little")
        body, foot = data[: -8 - size], data[-8 - size :]
        assert b"billing-api" in foot or options
        self._store(batch, _with_data(encoded, body + foot.replace(b"billing-api", b"zzzzzzz-api"), batch), ["all"])

    def wreck(self, batch: int, column: str, value: Any, kind: str = "text") -> None:
        """Write a batch with a cell that no honest writer can make: bytes that are no text, a time past all years."""
        parsed = parse_batch(self._data(batch))
        encoded = encode_batch(parsed.table, batch, parsed.blind)
        footer = pq.ParquetFile(pa.BufferReader(encoded.data)).metadata.metadata
        table = wrecked(parsed.table, column, value, kind)
        data = evil_parquet(table, parsed.blind, footer[NODES_NAME].decode(), write_statistics=False)
        self._store(batch, _with_data(encoded, data, batch), ["all"])

    def replay(self, batch: int) -> None:
        """The key holder seals the records of a batch a second time, as the newest batch."""
        seals = self.seals()
        encoded = encode_batch(self.table(batch), len(seals), bytes(32))
        seal = msgspec.structs.replace(self._described(seals[-1], encoded), sequence=len(seals))
        self.write(encoded.batch.object, encoded.data)
        self.write(layout.seal_key(len(seals)), seal_bytes(seal))
        self.resign(len(seals))

    def _data(self, batch: int) -> bytes:
        return (self.root / self.seals()[batch].batch.object).read_bytes()

    def _store(self, batch: int, encoded: EncodedBatch, fix: list[str]) -> None:
        seal = self.seals()[batch]
        if not fix:
            self.write(seal.batch.object, encoded.data)
            return
        (self.root / seal.batch.object).unlink()
        right = self._described(seal, encoded)
        if "all" not in fix:
            stands = right.batch
            kept = {} if "root" in fix else {"root": seal.batch.root}
            kept |= {} if "counts" in fix else {"events": seal.batch.events}
            right = msgspec.structs.replace(right, batch=msgspec.structs.replace(stands, **kept))
            if "counts" not in fix:
                names = ("counts", "sources", "occurred", "recorded")
                right = msgspec.structs.replace(right, **{name: getattr(seal, name) for name in names})
        self.write(right.batch.object, encoded.data)
        self.write(layout.seal_key(batch), seal_bytes(right))

    def _described(self, seal: Seal, encoded: EncodedBatch) -> Seal:
        names = ("batch", "counts", "sources", "occurred", "recorded")
        return msgspec.structs.replace(seal, **{name: getattr(encoded, name) for name in names})


def with_cell(table: pa.Table, row: int, column: str, value: Any) -> pa.Table:
    """The same table with one cell changed; a time is given as text."""
    index = SCHEMA.get_field_index(column)
    cells = table.column(column).to_pylist()
    if pa.types.is_timestamp(SCHEMA.field(index).type):
        cells = table.column(column).cast(pa.int64()).to_pylist()
        value = parse_time(value)
    cells[row] = value
    return table.set_column(index, SCHEMA.field(index), pa.array(cells, SCHEMA.field(index).type))


def wrecked(table: pa.Table, column: str, value: Any, kind: str) -> pa.Table:
    """The same table with the first cell made into what Arrow itself would refuse."""
    index = SCHEMA.get_field_index(column)
    if kind == "time":
        cells = [value, *table.column(column).cast(pa.int64()).to_pylist()[1:]]
        return table.set_column(index, SCHEMA.field(index), pa.array(cells, pa.int64()).cast(SCHEMA.field(index).type))
    if kind == "nested":
        value = '{"a":' * value + "1" + "}" * value
    raw = [value.encode("latin-1"), *(text.encode() for text in table.column(column).to_pylist()[1:])]
    array = pa.array(raw, pa.binary())
    text = pa.Array.from_buffers(pa.string(), len(array), array.buffers())
    return table.set_column(index, SCHEMA.field(index), text)


def _with_data(encoded: EncodedBatch, data: bytes, sequence: int) -> EncodedBatch:
    digest = hashlib.sha256(data).hexdigest()
    key = layout.batch_key(sequence, parse_canonical_time(encoded.recorded[0]), digest)
    batch = msgspec.structs.replace(encoded.batch, object=key, sha256=digest, size=len(data))
    return msgspec.structs.replace(encoded, data=data, batch=batch)


def _changed(seal: Seal, field: str, value: Any) -> Seal:
    if isinstance(value, list):
        value = tuple(value)
    outer, _, inner = field.partition(".")
    if inner:
        value = msgspec.structs.replace(getattr(seal, outer), **{inner: value})
    return msgspec.structs.replace(seal, **{outer: value})


def checkpoint_of(vault: Vault, size: int, key: SigningKey = KEY) -> Checkpoint:
    """A checkpoint that an auditor kept."""
    return parse_checkpoint(vault.get(layout.checkpoint_key(size)), [key.verifier])
