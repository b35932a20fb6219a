"""A million events of an imaginary company in one temporary vault: same seed, same events.

The columns are drawn whole and sealed in batches of 50,000 by the sealer itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import auditlib
from auditlib.formats.catalog import Catalog, parse_catalog
from auditlib.formats.columns import SCHEMA
from auditlib.formats.document import Retention
from auditlib.formats.keys import SigningKey, VerifierKey
from auditlib.formats.times import DAY, SECOND, parse_time
from auditlib.sealer import DEFAULT_MAX_EVENTS, create_trail, open_sealer
from auditlib.state import SealerState
from auditlib.vault import open_vault

SEED = 2026
SINCE = parse_time("2026-01-01T00:00:00Z")
KEY = SigningKey("bench.example/audit", bytes(range(32)))
CATALOG = parse_catalog(Path(auditlib.__file__).with_name("catalog.toml").read_bytes())
NOW = parse_time("2027-01-01T00:00:00Z")

_SOURCES = ["web/1a2b", "web/3c4d", "billing-api/7f3a", "billing-api/9e21", "admin/0d4c", "jobs/5b6a"]
_ACTIONS = {
    "permission.check": 0.74,
    "user.login": 0.12,
    "user.logout": 0.07,
    "data.export": 0.03,
    "config.change": 0.02,
    "support.impersonate": 0.01,
    "role.grant": 0.006,
    "role.revoke": 0.004,
}
_TARGETS = {"permission.check": "resource", "data.export": "dataset", "config.change": "setting"}
_ROLES = ["admin", "auditor", "billing", "developer", "support", "viewer"]
_AGENTS = [f"Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox" for version in range(120, 145)]
_BASE32 = np.frombuffer(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", np.uint8)  # ULIDs, github.com/ulid/spec
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


class Lab(msgspec.Struct):
    """The sealed vault, how many events are in it, the first of them as a table, and the batch files in order."""

    vault: str
    key: VerifierKey
    catalog: Catalog
    events: int
    table: pa.Table
    files: list[Path]


@contextmanager
def lab(events: int) -> Iterator[Lab]:
    """Generate and seal; gone afterwards."""
    with TemporaryDirectory(prefix="auditlib-bench-") as folder:
        table = generate(events)
        vault = open_vault(str(Path(folder) / "vault"), create=True)
        create_trail(vault, KEY, Retention(2557, "COMPLIANCE"), CATALOG, now=0)
        state = SealerState(Path(folder) / "state", KEY.verifier)
        draw = np.random.default_rng(SEED + 1)
        with open_sealer(vault, KEY, state, now=lambda: NOW, random=draw.bytes) as sealer:
            for start in range(0, events, DEFAULT_MAX_EVENTS):
                # What `add` does once the records are checked and no repeats: making a million Records takes longer.
                sealer._seal(table.slice(start, DEFAULT_MAX_EVENTS).combine_chunks())
        files = sorted((Path(folder) / "vault" / "batches").glob("*/*.parquet"), key=lambda path: path.name)
        yield Lab(vault.url, KEY.verifier, CATALOG, events, table, files)


def generate(events: int) -> pa.Table:
    """Events in the order recorded, one every twelve seconds: a middling company."""
    draw = np.random.default_rng(SEED)
    recorded = SINCE + np.cumsum(draw.exponential(12 * SECOND, events)).astype(np.int64)
    occurred = recorded - draw.exponential(SECOND / 4, events).astype(np.int64)
    actions = draw.choice(len(_ACTIONS), events, p=list(_ACTIONS.values()))
    sources = draw.choice(len(_SOURCES), events, p=[0.3, 0.3, 0.15, 0.15, 0.05, 0.05])
    people = (draw.pareto(1.2, events) * 40).astype(np.int64) % 3000
    robot = draw.random(events) < 0.15
    actor_type = np.where(robot, 1, 0)
    columns: dict[str, Any] = {
        "event_id": ulids(occurred // 1000, draw),
        "occurred_at": pa.array(occurred, pa.timestamp("us", "UTC")),
        "actor_type": _coded(["user", "service"], actor_type),
        "actor_id": pc.if_else(robot, _named("svc_", people % 20), _named("u_", people)),
        "actor_session": pc.if_else(robot, pa.scalar(None, pa.string()), _sessions(people, recorded)),
        "action": _coded(list(_ACTIONS), actions),
        "target_type": _coded([_TARGETS.get(action, "user") for action in _ACTIONS], actions),
        "target_id": _named("r_", draw.integers(0, 40_000, events)),
        "outcome": _coded(["success", "denied", "failure"], draw.choice(3, events, p=[0.95, 0.035, 0.015])),
        "context": _contexts(actions, draw),
        "recorded_at": pa.array(recorded, pa.timestamp("us", "UTC")),
        "source": _coded(_SOURCES, sources),
        "source_seq": _numbers(sources),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _contexts(actions: Any, draw: Any) -> pa.Array:
    """Canonical JSON by action: flat, nested, with a list, with numbers, with text beyond ASCII."""
    makers = {
        "permission.check": _check,
        "user.login": _login,
        "data.export": _export,
        "config.change": _change,
        "support.impersonate": _case,
        "role.grant": lambda n, draw: _role(n, draw, "granted_role"),
        "role.revoke": lambda n, draw: _role(n, draw, "revoked_role"),
    }
    parts, rows = [], []
    for code, action in enumerate(_ACTIONS):
        mine = np.flatnonzero(actions == code)
        parts.append(makers.get(action, _address)(len(mine), draw))
        rows.append(mine)
    order = np.argsort(np.concatenate(rows), kind="stable")
    return pa.concat_arrays(parts).take(pa.array(order))


def _check(n: int, draw: Any) -> pa.Array:
    permission = _coded(["invoice.read", "invoice.write", "payment.read", "report.read"], draw.integers(0, 4, n))
    return _object(
        ip=_quoted(_ips(n, draw)),
        permission=_quoted(permission),
        policy=_quoted(_named("p-", draw.integers(0, 90, n))),
        request=_quoted(_hex(draw, n, 16)),
    )


def _login(n: int, draw: Any) -> pa.Array:
    agent = _coded(_AGENTS, draw.integers(0, len(_AGENTS), n))
    mfa = _coded(["true", "false"], draw.choice(2, n, p=[0.9, 0.1]))
    return _object(agent=_quoted(agent), ip=_quoted(_ips(n, draw)), mfa=mfa)


def _export(n: int, draw: Any) -> pa.Array:
    tables = _text('["invoices","', _named("shard_", draw.integers(0, 64, n)), '"]')
    return _object(ip=_quoted(_ips(n, draw)), rows=_named("", draw.integers(1, 9_000_000, n)), tables=tables)


def _change(n: int, draw: Any) -> pa.Array:
    change = _object(after=_quoted(_hex(draw, n, 8)), before=_quoted(_hex(draw, n, 8)))
    return _object(change=change, ip=_quoted(_ips(n, draw)), note='"Größe geändert"')


def _case(n: int, draw: Any) -> pa.Array:
    return _object(case_id=_quoted(_named("CASE-", draw.integers(0, 9999, n))), ip=_quoted(_ips(n, draw)))


def _role(n: int, draw: Any, key: str) -> pa.Array:
    role = _coded(_ROLES, draw.choice(len(_ROLES), n, p=[0.05, 0.1, 0.15, 0.3, 0.2, 0.2]))
    request = _named("REQ-", draw.integers(0, 99_999, n))
    return _object(**{key: _quoted(role)}, ip=_quoted(_ips(n, draw)), request_id=_quoted(request))


def _address(n: int, draw: Any) -> pa.Array:
    return _object(ip=_quoted(_ips(n, draw)))


def _object(**members: Any) -> pa.Array:
    """JSON texts by key -> an object of them a row, keys sorted."""
    parts: list[Any] = []
    for key, value in sorted(members.items()):
        parts += [f'{"," if parts else "{"}"{key}":', value]
    return _text(*parts, "}")


def _quoted(text: pa.Array) -> pa.Array:
    return _text('"', text, '"')


def _ips(n: int, draw: Any) -> pa.Array:
    return _text("203.0.", _named("", draw.integers(0, 8, n)), ".", _named("", draw.integers(1, 255, n)))


def _sessions(people: Any, recorded: Any) -> pa.Array:
    """One a person and day."""
    mixed = (people + 1) * 2654435761 + recorded // DAY * 40503 & 0xFFFFFFFF  # Knuth's multiplicative hash
    return _text("s_", _fixed(_HEX[(mixed[:, None] >> np.arange(28, -1, -4)) & 15]))


def _numbers(sources: Any) -> pa.Array:
    numbers = np.empty(len(sources), np.int64)
    for code in range(len(_SOURCES)):
        mine = sources == code
        numbers[mine] = np.arange(1, mine.sum() + 1)
    return pa.array(numbers)


def ulids(millis: Any, draw: Any) -> pa.Array:
    shifts = np.arange(45, -1, -5)
    digits = np.empty((len(millis), 26), np.uint8)
    digits[:, :10] = _BASE32[(millis[:, None] >> shifts) & 31]
    digits[:, 10:] = _BASE32[draw.integers(0, 32, (len(millis), 16), np.uint8)]
    return _fixed(digits)


def _hex(draw: Any, n: int, width: int) -> pa.Array:
    return _fixed(_HEX[draw.integers(0, 16, (n, width), np.uint8)])


def _fixed(digits: Any) -> pa.Array:
    data = np.ascontiguousarray(digits)
    offsets = np.arange(len(data) + 1, dtype=np.int32) * data.shape[1]
    return pa.Array.from_buffers(pa.string(), len(data), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _named(before: str, numbers: Any) -> pa.Array:
    return _text(before, pa.array(numbers).cast(pa.string()))


def _coded(values: list[str], codes: Any) -> pa.Array:
    return pa.array(values).take(pa.array(codes))


def _text(*parts: Any) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")
