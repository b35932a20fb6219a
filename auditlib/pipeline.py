"""The pipeline seen through its own records (check 9): silences, clocks ahead, late arrivals, lost numbers.

Each batch is observed alone (`observe`), then the observations are joined in the order of the seals (`join`) and
judged, so that the work can be spread and little is kept.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditlib.findings import Finding, duration, moment
from auditlib.formats.event import source_name
from auditlib.formats.seal import Seal
from auditlib.formats.times import DAY, SECOND, parse_canonical_time

SILENCE = 4 * 3600 * SECOND  # microseconds without a record of a source before it is called silent
AHEAD = 60 * SECOND  # microseconds by which occurred_at may pass recorded_at before a clock is called ahead
LATE = DAY  # microseconds from occurred_at to recorded_at before an arrival is called late
HEARTBEAT = "audit.heartbeat"
OWN = "auditlib:"  # sources of the pipeline itself
UNPACED = ("import:", OWN)  # without a rhythm of their own, unless they send heartbeats as the sealer does
REFUSING = ("audit.conflict", "audit.refused")  # their context names the source and number of what was refused
_SHOWN = 5  # silences, numbers and ids named in one sentence

Runs = list[tuple[int, int]]


class _Refused(msgspec.Struct):
    source: str
    source_seq: int | None = None


_refused = msgspec.json.Decoder(_Refused)


class SourcePulse(msgspec.Struct):
    """What one batch shows of one source instance; times in microseconds."""

    first: int
    last: int
    silences: Runs
    heartbeats: int
    numbers: Runs  # runs [first, last] of source_seq
    repeated: int  # source_seq that stand more than once
    ahead: int  # records with occurred_at past recorded_at by more than AHEAD
    ahead_most: int
    ahead_span: tuple[int, int] | None
    late: int
    late_most: int
    late_ids: list[str]
    refused: Runs = []  # numbers that arrived and were refused


Pulse = dict[str, SourcePulse]


def observe(table: pa.Table) -> Pulse:
    """One batch -> what it shows of each source instance, and of each source's name (for silence)."""
    recorded = np.asarray(table.column("recorded_at").cast(pa.int64()))
    occurred = np.asarray(table.column("occurred_at").cast(pa.int64()))
    numbers = table.column("source_seq")
    numbered = np.asarray(numbers.is_valid())
    sequence = np.asarray(numbers.fill_null(0))
    sources = table.column("source").combine_chunks().dictionary_encode()
    codes = np.asarray(sources.indices)
    beats = np.asarray(pc.equal(table.column("action"), HEARTBEAT))
    found: Pulse = {}
    instances: dict[str, list[Any]] = {}  # by the source's name: the rows of each instance
    for code, source in enumerate(sources.dictionary.to_pylist()):
        rows = np.flatnonzero(codes == code)
        if len(rows):
            pulse = _observe_source(table, rows, recorded[rows], occurred[rows], source)
            pulse.heartbeats = int(np.count_nonzero(beats[rows]))
            held = _sorted(sequence[rows[numbered[rows]]])
            fresh = np.ones(len(held), bool)
            fresh[1:] = held[1:] != held[:-1]
            pulse.numbers, pulse.repeated = _runs(held[fresh]), len(held) - int(np.count_nonzero(fresh))
            found[source] = pulse
            instances.setdefault(source_name(source), []).append(rows)
    for name, parts in sorted(instances.items()):
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        times = _sorted(recorded[rows])
        joined = found.get(name)
        if joined is None:
            joined = found[name] = _empty()
            joined.heartbeats = int(np.count_nonzero(beats[rows]))
        joined.first, joined.last = int(times[0]), int(times[-1])
        joined.silences = _silences(times)
    _add_refused(found, table, recorded)
    return found


def _add_refused(found: Pulse, table: pa.Table, recorded: Any) -> None:
    """Numbers of records that arrived and were refused: they are not lost, and their source was alive."""
    rows = pc.indices_nonzero(pc.is_in(table.column("action"), value_set=pa.array(REFUSING))).to_pylist()
    for row in rows:
        if not table.column("source")[row].as_py().startswith(OWN):
            continue
        with suppress(msgspec.MsgspecError):
            refused = _refused.decode(table.column("context")[row].as_py())
            moment = int(recorded[row])
            pulse = found.setdefault(refused.source, _empty(moment))
            pulse.first, pulse.last = min(pulse.first, moment), max(pulse.last, moment)
            if refused.source_seq is not None:
                pulse.refused.append((refused.source_seq, refused.source_seq))


def stated(seal: Seal) -> Pulse:
    """What a seal alone says of a batch that is gone or cannot be read, so that its numbers are not called lost."""
    found: Pulse = {}
    for name, source in seal.sources.items():
        for key in {name, source_name(name)}:
            pulse = found.setdefault(key, _empty())
            pulse.first, pulse.last = map(parse_canonical_time, seal.recorded)
        if source.first_seq is not None and source.last_seq is not None:
            found[name].numbers = [(source.first_seq, source.last_seq)]
    return found


def _observe_source(table: pa.Table, rows: Any, recorded: Any, occurred: Any, source: str) -> SourcePulse:
    pulse = _empty()
    pulse.first, pulse.last = int(recorded.min()), int(recorded.max())
    skew = occurred - recorded
    ahead = np.flatnonzero(skew > AHEAD)
    if len(ahead):
        pulse.ahead, pulse.ahead_most = len(ahead), int(skew[ahead].max())
        pulse.ahead_span = int(recorded[ahead].min()), int(recorded[ahead].max())
    late = np.flatnonzero(-skew > LATE) if not source.startswith(UNPACED) else np.empty(0, np.int64)
    if len(late):
        pulse.late, pulse.late_most = len(late), int(-skew[late].min())
        pulse.late_ids = table.column("event_id").take(rows[late[:_SHOWN]]).to_pylist()
    return pulse


def join(joined: Pulse, pulse: Pulse) -> None:
    """Add the next batch's observation, in the order of the seals, to what those before it show together."""
    for source, part in pulse.items():
        before = joined.get(source)
        joined[source] = part if before is None else _join(before, part)


def judge(joined: Pulse) -> list[Finding]:
    """What all batches show together -> the findings of check 9."""
    findings: list[Finding] = []
    paced = {source for source, seen in joined.items() if seen.heartbeats > 1 or not source.startswith(UNPACED)}
    for source, seen in sorted(joined.items()):
        if source in paced and source == source_name(source) and seen.silences:
            findings.append(_silent(source, seen))
        if seen.numbers or seen.refused:
            findings.extend(_lost(source, seen))
        if seen.ahead and seen.ahead_span:
            first, last = map(moment, seen.ahead_span)
            findings.append(
                Finding(
                    9,
                    "warning",
                    source,
                    f"the clock of {source} ran ahead: {seen.ahead:,} record(s) say they occurred up to "
                    f"{duration(seen.ahead_most)} after they were recorded, from {first} to {last}.",
                    f"at most {duration(AHEAD)}",
                    duration(seen.ahead_most),
                )
            )
        if seen.late:
            findings.append(
                Finding(
                    9,
                    "warning",
                    source,
                    f"{seen.late:,} record(s) of {source} arrived up to {duration(seen.late_most)} late: "
                    f"{', '.join(seen.late_ids)}{' ...' if seen.late > len(seen.late_ids) else ''}.",
                    f"within {duration(LATE)}",
                    duration(seen.late_most),
                )
            )
    return findings


def _silent(source: str, pulse: SourcePulse) -> Finding:
    shown = "; ".join(f"{moment(a)} to {moment(b)} ({duration(b - a)})" for a, b in pulse.silences[:_SHOWN])
    more = f" and {len(pulse.silences) - _SHOWN} more" if len(pulse.silences) > _SHOWN else ""
    proof = "" if pulse.heartbeats else " It sends no heartbeat, so that quiet and broken look alike."
    return Finding(
        9,
        "warning" if pulse.heartbeats else "info",
        source,
        f"no record of {source} for {len(pulse.silences)} span(s) of more than {duration(SILENCE)}: "
        f"{shown}{more}.{proof}",
        f"a record within {duration(SILENCE)}",
        f"{len(pulse.silences)} silence(s)",
    )


def _lost(source: str, pulse: SourcePulse) -> list[Finding]:
    arrived, _ = _merge_runs([*pulse.numbers, *pulse.refused])
    gaps = [(low + 1, high - 1) for (_, low), (high, _) in zip([(0, 0), *arrived[:-1]], arrived, strict=True)]
    gaps = [(first, last) for first, last in gaps if last >= first]
    findings = []
    if gaps:
        count = sum(last - first + 1 for first, last in gaps)
        shown = ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in gaps[:_SHOWN])
        findings.append(
            Finding(
                9,
                "warning",
                source,
                f"{count:,} sequence number(s) of {source} never arrived: "
                f"{shown}{' ...' if len(gaps) > _SHOWN else ''}.",
                "numbers without gaps from 1",
                f"{count} missing",
            )
        )
    if pulse.repeated:
        message = f"{pulse.repeated:,} sequence number(s) of {source} stand more than once."
        findings.append(Finding(9, "warning", source, message, "each number once", f"{pulse.repeated} repeated"))
    return findings


def _join(one: SourcePulse, two: SourcePulse) -> SourcePulse:
    between: Runs = [(one.last, two.first)] if two.first - one.last > SILENCE else []
    spans = [span for span in (one.ahead_span, two.ahead_span) if span]
    numbers, overlap = _merge_runs([*one.numbers, *two.numbers])
    return SourcePulse(
        first=min(one.first, two.first),
        last=max(one.last, two.last),
        silences=[*one.silences, *between, *two.silences],
        heartbeats=one.heartbeats + two.heartbeats,
        numbers=numbers,
        repeated=one.repeated + two.repeated + overlap,
        ahead=one.ahead + two.ahead,
        ahead_most=max(one.ahead_most, two.ahead_most),
        ahead_span=(min(a for a, _ in spans), max(b for _, b in spans)) if spans else None,
        late=one.late + two.late,
        late_most=max(one.late_most, two.late_most),
        late_ids=[*one.late_ids, *two.late_ids][:_SHOWN],
        refused=_merge_runs([*one.refused, *two.refused])[0],
    )


def _merge_runs(runs: Runs) -> tuple[Runs, int]:
    """Sorted, joined runs, and how many numbers stood in two of them."""
    merged: Runs = []
    overlap = 0
    for first, last in sorted(runs):
        if merged and first <= merged[-1][1] + 1:
            overlap += max(0, min(merged[-1][1], last) - first + 1)
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged, overlap


def _sorted(values: Any) -> Any:
    """The values in order; nearly always they are, and to see that costs a tenth of sorting."""
    return values if (values[1:] >= values[:-1]).all() else np.sort(values)


def _runs(numbers: Any) -> Runs:
    if not len(numbers):
        return []
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    firsts = numbers[np.concatenate(([0], breaks + 1))]
    lasts = numbers[np.concatenate((breaks, [len(numbers) - 1]))]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _silences(times: Any) -> Runs:
    long = np.flatnonzero(np.diff(times) > SILENCE)
    return list(zip(times[long].tolist(), times[long + 1].tolist(), strict=True))


def _empty(moment: int = 0) -> SourcePulse:
    return SourcePulse(moment, moment, [], 0, [], 0, 0, 0, None, 0, 0, [])
