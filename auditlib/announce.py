"""What the trail records of itself: keys changed, locks lengthened, imports, probes. Made here, and found again here.

    {"action":"key.rotate","actor":{"id":"ada","session":null,"type":"user"},
     "context":{"new_key":"acme.example/audit+...","old_key":"acme.example/audit+..."},...,
     "target":{"id":"acme.example/audit","type":"trail"}}

Those that verification looks for stand in batches of their own: the seals' counts tell where, without reading all.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import sha256
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from ulid import ULID

from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.formats.batch import parse_batch
from auditlib.formats.columns import record_at
from auditlib.formats.event import Actor, Event, Receipt, Record, Target, check_record
from auditlib.formats.seal import MAX_BATCH_BYTES, Seal
from auditlib.formats.times import format_time, parse_time
from auditlib.history import History

OWN_SOURCE = "auditlib:sealer"  # the source of events that the sealer records itself
_MINDED = ("key.retire", "trail.continue", "vault.extend")


class Announced(msgspec.Struct):
    """What the trail says of itself that verification must mind; times in microseconds since 1970 UTC.

    `extended`: (sequence of its seal, time to which every batch before was locked). `continues`: (origin, size, root)
    of the trail that this one says it goes on from. `compromised`: (key, time since which it is not believed).
    """

    extended: list[tuple[int, int]] = msgspec.field(default_factory=list)
    continues: list[tuple[str, str, str]] = msgspec.field(default_factory=list)
    compromised: list[tuple[str, int]] = msgspec.field(default_factory=list)


def own_record(
    action: str,
    actor: Actor,
    target: Target,
    context: dict[str, Any],
    now: int,
    *,
    source: str = OWN_SOURCE,
    outcome: str = "success",
) -> Record:
    """A new record about the trail itself, recorded when it occurred (`now`, microseconds since 1970 UTC).

    MalformedError where a field is not as DESIGN 4.1 has it, like a person's name of 2,000 bytes.
    """
    moment = format_time(now)
    event_id = str(ULID.from_timestamp(now / 1_000_000))
    event = Event(action, actor, context, event_id, moment, outcome, target)
    return check_record(Record(event, Receipt(moment, source, None)))


def announced(history: History) -> Announced:
    """What is announced in the batches whose seals count one of these actions.

    A batch that is gone, or is not what its seal states, is passed over: checks 5 and 6 tell of it. So is a context of
    another shape than `own_record` was given; it announces nothing that could be understood.
    """
    found = Announced()
    for seal in history.seals.chosen(history.seals.actions.having(_MINDED.__contains__)):
        table = _table(history, seal)
        for row in _rows(table) if table is not None else ():
            event = record_at(table, row).event
            with suppress(KeyError, MalformedError, TypeError):
                _mind(found, seal.sequence, event)
    return found


def _mind(found: Announced, sequence: int, event: Event) -> None:
    context = event.context
    if event.action == "vault.extend" and context["batches"] is True:
        found.extended.append((sequence, parse_time(context["until"])))
    elif event.action == "key.retire" and "compromised_since" in context:
        found.compromised.append((str(context["key"]), parse_time(context["compromised_since"])))
    elif event.action == "trail.continue":
        found.continues.append((str(context["origin"]), str(context["size"]), str(context["root"])))


def _table(history: History, seal: Seal) -> pa.Table | None:
    for version in history.versions_of(seal.batch.object):
        try:
            data = history.vault.get(seal.batch.object, MAX_BATCH_BYTES, version)
            if sha256(data).hexdigest() == seal.batch.sha256:
                return parse_batch(data).table
        except AuditlibError as error:
            if type(error) is UnavailableError:
                raise
    return None


def _rows(table: pa.Table) -> list[int]:
    chosen = pc.is_in(table.column("action"), value_set=pa.array(_MINDED, pa.string()))
    rows: list[int] = pc.indices_nonzero(pc.and_(chosen, pc.equal(table.column("source"), OWN_SOURCE))).to_pylist()
    return rows  # what another source says of the trail is that source's own word
