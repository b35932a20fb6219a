"""What protects a trail from being changed, and who tried: locks, results of probes, shadows, as tables and sentences.

Remaining time is counted from the evidence date, the last `sealed_at`, never from now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import isnan

import msgspec
import pandas as pd

from auditlib.evidence.answer import Period, listed, many
from auditlib.evidence.asof import AsOf, LockedAsOf
from auditlib.evidence.charts import Picture, histograms
from auditlib.findings import duration
from auditlib.formats import layout
from auditlib.formats.canonical import parse_json
from auditlib.formats.document import Retention
from auditlib.formats.seal import Seal
from auditlib.formats.times import DAY, format_time, to_datetime
from auditlib.history import History
from auditlib.locks import CONNECTIONS
from auditlib.query import build_filter
from auditlib.scan import in_utc
from auditlib.trail import Trail

PROBE = "vault.probe"  # the action under which the results of `auditlib probe` are recorded
SOUND = ("held", "noted")  # results of a probe that leave the lock whole; any other is `broken`
PROBED = ["attempt", "answer", "result", "occurred_at", "run", "event_id", "source", "recorded_at", "sequence", "row"]
YEAR = 365.25  # days; for remaining times in words and pictures

_KINDS = ("trail", "catalog", "batch", "seal", "checkpoint", "page")
_UTC = "datetime64[us, UTC]"


class LockRow(msgspec.Struct, frozen=True):
    """One object and its lock as the storage says: mode '' and until None where there is none."""

    key: str
    kind: str
    mode: str
    until: int | None  # microseconds since 1970 UTC
    hold: bool


def lock_rows(history: History, vault: LockedAsOf) -> list[LockRow]:
    """The lock of every object that belongs to the checkpoint, by key; CONNECTIONS objects are asked about at once."""
    stored = [entry for key, entry in sorted(history.stored.items()) if not entry.odd and vault.shows(key)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        locks = list(pool.map(lambda entry: vault.lock_of(entry.key, history.version_of(entry.key)), stored))
    rows = []
    for entry, lock in zip(stored, locks, strict=True):
        kind = next((kind for kind in _KINDS if layout.number_of(kind, entry.key) is not None), "other")
        mode = lock.mode if lock else ""
        rows.append(LockRow(entry.key, kind, mode, lock.until if lock and mode else None, bool(lock and lock.hold)))
    return rows


def lock_frame(rows: list[LockRow], evidence_date: int) -> pd.DataFrame:
    """The locks as a table, with what remains of each at the evidence date, in days."""
    told = [
        {
            **msgspec.to_builtins(row),
            "until": None if row.until is None else to_datetime(row.until),
            "remaining_days": None if row.until is None else round((row.until - evidence_date) / DAY, 3),
        }
        for row in rows
    ]
    frame = pd.DataFrame(told, columns=["key", "kind", "mode", "until", "hold", "remaining_days"])
    return frame.astype({"until": _UTC, "remaining_days": "float64"})


def lock_kinds(frame: pd.DataFrame) -> pd.DataFrame:
    """The locks by kind of object and mode: how many, which ends first and last, and what remains of the first."""
    rows = []
    for (kind, mode), part in frame.groupby(["kind", "mode"], sort=True):
        rows.append(
            {
                "kind": kind,
                "mode": str(mode) or "no lock",
                "objects": len(part),
                "holds": int(part["hold"].sum()),
                "ends_first": part["until"].min(),
                "ends_last": part["until"].max(),
                "remains": _remains(part["remaining_days"].min()),
            }
        )
    columns = ["kind", "mode", "objects", "holds", "ends_first", "ends_last", "remains"]
    return pd.DataFrame(rows, columns=columns).astype({"ends_first": _UTC, "ends_last": _UTC})


def lock_picture(frame: pd.DataFrame, evidence_date: int) -> Picture | None:
    """What remains of each lock, by kind of object; None where nothing is locked."""
    frame = frame.dropna(subset=["remaining_days"])
    if frame.empty:
        return None
    unit, scale = ("years", YEAR) if frame["remaining_days"].max() >= 2 * YEAR else ("days", 1.0)
    lanes = []
    for kind, part in frame.groupby("kind", sort=True):
        modes = part.groupby("mode", sort=True)["remaining_days"]
        lanes.append((f"{kind}  ({len(part):,})", [(str(mode), (days / scale).tolist()) for mode, days in modes]))
    title = "What remains of each lock at the last seal, by kind of object"
    return histograms(lanes, title=title, label=f"{unit} from {format_time(evidence_date)}, the last seal")


def lock_sentences(vault: AsOf, retention: Retention | None, frame: pd.DataFrame, evidence_date: int) -> list[str]:
    """What the trail promises, and what the storage keeps of it."""
    promise = f"{retention.mode} for {retention.days:,} days" if retention else "a lock"
    if not isinstance(vault, LockedAsOf):
        return [
            f"The vault is a local directory. The trail promises {promise}; a local directory records locks and cannot "
            "enforce them: who owns it can change every file. A change shows, and nothing prevents it."
        ]
    modes = [f"{number:,} under {mode or 'no lock'}" for mode, number in sorted(Counter(frame["mode"]).items())]
    told = [
        f"The trail promises {promise}. The storage was asked about {many(len(frame), 'object')}, one by one: "
        f"{listed(modes)}."
    ]
    if frame["until"].notna().any():
        told.append(
            f"The lock that ends first ends {_remains(frame['remaining_days'].min())} after the last seal. What "
            f"remains is counted from the last seal ({format_time(evidence_date)}) and not from today, so that the "
            "same trail gives the same evidence."
        )
    if not vault.lock_enforced:
        told.append("The storage says that it keeps no versions or enforces no locks.")
    return told


def probe_frame(trail: Trail, seals: Sequence[Seal], period: Period) -> pd.DataFrame:
    """Every probe event of the period, columns PROBED; `seals` are those whose batches can be read."""
    chosen = msgspec.structs.replace(build_filter(None, action=PROBE), since=period.since, until=period.until)
    condition, values = chosen.sql()
    columns = "event_id, source, occurred_at, recorded_at, sequence, row, context"
    held = [seal for seal in seals if chosen.may_hold(seal)]
    found = in_utc(trail.scan(held, columns, condition, values).to_arrow_table())
    rows = []
    for fact in found.to_pylist():
        context = parse_json(fact.pop("context").encode())
        said = {name: str(context.get(name, "")) for name in ("attempt", "answer", "verdict", "canary")}
        rows.append(fact | said | {"result": said["verdict"], "run": said["canary"]})
    return pd.DataFrame(rows, columns=PROBED)


def newest_run(probes: pd.DataFrame) -> pd.DataFrame:
    """The results of the newest run, one an attempt; a run is told by its canary."""
    ordered = probes.sort_values(["occurred_at", "sequence", "row"], kind="stable")
    newest = ordered[ordered["run"].isin(ordered["run"].tail(1))]
    return newest.drop_duplicates("attempt", keep="last", ignore_index=True)


def probe_sentences(probes: pd.DataFrame, newest: pd.DataFrame) -> list[str]:
    """What the probes of the period say, or how to have some."""
    if probes.empty:
        return [
            "No result of a probe is sealed in the trail for this period. auditlib probe VAULT --key FILE tries, as "
            "the identity that runs it, everything that a lock must refuse, on an object of its own, and seals what "
            f"came of it as {PROBE} events: then its results stand here."
        ]
    counted = sorted(Counter(newest["result"]).items())
    broken = int((~probes["result"].isin(SOUND)).sum())
    told = [
        f"{many(len(probes), 'probe result')} sealed in the period. In the newest run: "
        f"{listed(f'{number:,} {result}' for result, number in counted)}."
    ]
    return [*told, f"In all the period, {many(broken, 'attempt')} broke the lock."] if broken else told


def shadow_frame(history: History, vault: AsOf) -> pd.DataFrame:
    """What was put over the trail's objects (check 8): the storage's word on when and by whom."""
    rows = [
        {
            "key": shadow.key,
            "what": "delete marker" if shadow.marker else "newer version",
            "put_at": to_datetime(shadow.modified) if shadow.modified else None,
            "by": shadow.owner,
            "size": shadow.size,
            "version": shadow.version,
        }
        for shadow in history.shadows
        if vault.shows(shadow.key)
    ]
    return pd.DataFrame(rows, columns=["key", "what", "put_at", "by", "size", "version"]).astype({"put_at": _UTC})


def shadow_sentences(vault: AsOf, frame: pd.DataFrame) -> list[str]:
    """What they say."""
    if not frame.empty:
        what = many(len(frame), "newer version or delete marker", "newer versions or delete markers")
        return [f"{what} over objects of the trail: the version that was sealed was still there, and was read."]
    if not isinstance(vault, LockedAsOf):
        return ["A directory keeps no versions: an object that was overwritten shows as altered, not as shadowed."]
    return ["No newer version and no delete marker stands over any object of the trail."]


def _remains(days: float) -> str:
    """Remaining days in words: years where there are two of them."""
    if isnan(days):
        return "none"
    return f"{days / YEAR:.2f} years" if days >= 2 * YEAR else f"{'-' if days < 0 else ''}{duration(round(days * DAY))}"
