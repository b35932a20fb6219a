"""On paper: what 100 billion events would take, computed from what was measured here. Nothing of it was run.

Prices are list prices in USD for AWS us-east-1, and they are assumptions: yours differ, and change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from auditlib.formats.layout import PAGE
from auditlib.sealer import DEFAULT_MAX_EVENTS
from auditlib.vault.outlook import USD_PER_1000_PUTS, USD_PER_GB_MONTH
from benchmarks.measure import Row

EVENTS = 100_000_000_000
YEARS = 7  # that these events came in, evenly
BATCHES = (DEFAULT_MAX_EVENTS, 1_000_000)  # events a batch: the default, and about the most
USD_PER_1000_GETS = 0.0004  # S3 Standard, us-east-1, 2026
USD_PER_CORE_HOUR = 0.0816 / 2  # EC2 m7g.large on demand, two vCPU, us-east-1, June 2026
OBJECTS = 3  # of a batch: itself, its seal, its checkpoint
LISTED = 1000  # keys a listing, S3
SEAL_BYTES = 900  # of a seal's JSON, as in benchmarks/history.py
DIGEST_BYTES = 8  # of an event id, DESIGN 5
SIZE, INDEX = "size beside gzip'd JSON lines", "size of the sealer's index of ids"
CHAIN, DEEP, SEALED = "chain verification", "deep verification, 1 process", "sealing from the store, PostgreSQL"


class Chain(NamedTuple):
    """The row of chain verification, with the events and the cores of its run."""

    row: Row
    events: int
    cores: int


class Line(NamedTuple):
    """What, by which formula (N events, b a batch), and the figure for each of BATCHES."""

    what: str
    formula: str
    small: str
    large: str


def lines(rows: Mapping[str, Row], chain: Chain | None) -> Iterator[Line]:
    """Each line that the measured rows allow."""
    yield from _storage(rows)
    if chain:
        yield _cores("chain verification", chain.row.ours * 1e3 * chain.cores / chain.events)
    if DEEP in rows:
        yield _cores("deep verification", rows[DEEP].ours)
    seals = [f"{EVENTS / batch * SEAL_BYTES / 1e9:,.2f} GB" for batch in BATCHES]
    yield Line("seals, read whole", f"N/b x {SEAL_BYTES} bytes", *seals)
    yield _same("ids held against one another (check 6)", f"N x {DIGEST_BYTES} bytes", f"{EVENTS * 8 / 1e9:,.0f} GB")
    if INDEX in rows:
        size = rows[INDEX].ours
        yield _same("the sealer's index of ids", f"N x {size} bytes", f"{EVENTS * size / 1e12:.2f} TB")
    arriving = EVENTS / (YEARS * 365.25 * 86400)
    yield _same("arriving", f"N / {YEARS} years", f"{arriving:,.0f} events/s")
    if SEALED in rows:
        rate = rows[SEALED].ours
        days = EVENTS / rate / 86400
        yield _same("one sealer", f"N / {rate:,.0f} events/s", f"{days:,.0f} days, {rate / arriving:,.0f} x arriving")


def _storage(rows: Mapping[str, Row]) -> Iterator[Line]:
    if SIZE in rows:
        kept = EVENTS * rows[SIZE].ours
        price = f"{kept / 1e12:.2f} TB, {kept / 1e9 * USD_PER_GB_MONTH:,.0f} USD a month"
        yield _same("bytes kept", f"N x {rows[SIZE].ours} bytes", price)
    objects = f"{OBJECTS} N/b + N/b/{PAGE:,}"
    yield _requests("putting every object", objects, OBJECTS + 1 / PAGE, USD_PER_1000_PUTS)
    yield _requests("listing them", f"({objects}) / {LISTED:,}", (OBJECTS + 1 / PAGE) / LISTED, USD_PER_1000_PUTS)
    yield _requests("reading for checks 0 to 5", f"N/b + N/b/{PAGE:,}", 1 + 1 / PAGE, USD_PER_1000_GETS)
    yield _requests("asking for every lock (check 7)", objects, OBJECTS + 1 / PAGE, USD_PER_1000_GETS)


def _requests(what: str, formula: str, each: float, price: float) -> Line:
    """`each`: requests a batch; `price`: USD a thousand."""
    counts = [EVENTS / batch * each for batch in BATCHES]
    return Line(what, formula, *(f"{count:,.0f} requests, {count / 1000 * price:,.2f} USD" for count in counts))


def _cores(what: str, micros: float) -> Line:
    hours = EVENTS * micros / 3.6e9
    return _same(what, f"N x {micros:.3g} us a core", f"{hours:,.1f} core hours, {hours * USD_PER_CORE_HOUR:,.2f} USD")


def _same(what: str, formula: str, figure: str) -> Line:
    """What does not depend on the size of a batch, as far as was measured."""
    return Line(what, formula, figure, figure)
