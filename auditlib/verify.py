"""The numbered checks over a vault (DESIGN 5). It distrusts whoever wrote the vault, and shares no code with it
but the formats.

Every check is made and every fault reported, not only the first; what could not be checked is named in `unchecked`.

    0 to 4  history     the chain      5, 6  batches, contents     the records
    7       locks       retention      4, 8  leftovers             what nothing names        9  pipeline
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor

from auditlib.announce import Announced, announced
from auditlib.batches import check_batches
from auditlib.findings import NO_ANCHOR, Report, duration, sorted_findings
from auditlib.formats import layout
from auditlib.formats.checkpoint import Checkpoint
from auditlib.formats.keys import VerifierKey
from auditlib.formats.times import format_time, parse_time
from auditlib.history import History, check_extends, read_history
from auditlib.leftovers import check_counted_numbers, check_leftovers, check_listed, check_shadows
from auditlib.locks import EXPIRING, check_locks
from auditlib.vault import Vault


def verify(
    vault: Vault,
    *,
    keys: Iterable[VerifierKey] = (),
    deep: bool = False,
    against: Sequence[tuple[str, Checkpoint]] = (),
    now: int,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
    lock_progress: Callable[[int, int], None] | None = None,
    expiring: int = EXPIRING,
) -> Report:
    """Make every check that can be made and report every fault.

    `keys` are the verifier keys the user trusts; without any, the vault's own are used and said to be unconfirmed.
    `against` are older checkpoints (name, checkpoint) from outside. `deep` reads every record. `now` is microseconds
    since 1970 UTC. `progress(done, total)` counts bytes of batches, `lock_progress` objects whose lock was asked for.
    Locks that end within `expiring` microseconds are named. Raises UnavailableError alone.
    """
    history = read_history(vault, keys, thorough=True)
    for name, older in against:
        check_extends(history, older, name)
    said = announced(history)
    check_batches(history, said, deep, executor, progress, now)
    _check_compromised(history, said)
    if not deep:
        check_counted_numbers(history)
    check_listed(history)
    check_leftovers(history)
    check_shadows(history)
    if deep:
        check_locks(history, now, expiring, lock_progress)
    last = history.seals[-1].seal.sealed_at if history.seals else None
    return Report(
        vault=vault.url,
        origin=history.origin,
        events=sum(entry.seal.batch.events for entry in history.seals),
        seals=len(history.seals),
        checkpoint=history.checkpoint,
        key_confirmed=history.key_confirmed and history.checkpoint is not None,
        last_sealed_at=last,
        verified_at=format_time(now),
        deep=deep,
        findings=sorted_findings(history.findings),
        unchecked=tuple(_unchecked(history, said, deep, against)),
    )


def _check_compromised(history: History, said: Announced) -> None:
    """Check 0: checkpoints signed by a key after the time from which the trail itself says it was not safe."""
    times = [parse_time(entry.seal.sealed_at) for entry in history.seals]
    for name, since in said.compromised:
        sizes = sorted(
            checkpoint.size
            for _, checkpoint in history.checkpoints
            if name in map(str, checkpoint.signers) and 0 < checkpoint.size <= len(times)
            if times[checkpoint.size - 1] >= since
        )
        if sizes:
            named = f"{sizes[0]:,} to {sizes[-1]:,}" if len(sizes) > 1 else f"{sizes[0]:,}"
            message = (
                f"{len(sizes):,} checkpoint(s), of sizes {named}, were signed by the key {name} after "
                f"{format_time(since)}, since when it is stated to be compromised: "
                "what they cover needs an anchor from elsewhere."
            )
            history.add(0, layout.checkpoint_key(sizes[0]), message, "", name, "warning")


def _unchecked(
    history: History, said: Announced, deep: bool, against: Sequence[tuple[str, Checkpoint]]
) -> Iterator[str]:
    if against:
        size = max(older.size for _, older in against)
        yield f"the outside anchor covers the first {size:,} seals: past it, {NO_ANCHOR.partition(': ')[2]}"
    else:
        yield NO_ANCHOR
    if not history.key_confirmed:
        for key in history.checkpoint.signers if history.checkpoint else history.trusted:
            if key in history.introduced:
                yield (
                    f"the key {key} was introduced by a key you gave, with checkpoint {history.introduced[key]:,}; it "
                    "is not confirmed: compare it with what the company gave you by another way (--key)"
                )
                continue
            yield (
                f"the key {key} was found in the vault and is not confirmed: compare it with what the "
                "company gave you by another way (--key)"
            )
    for origin, older, root in said.continues:
        yield (
            f"unproven continuity: this trail says that it goes on from {origin} at checkpoint {older}, root {root}; "
            "hold that against the other trail"
        )
    if not deep:
        yield "6: the records inside the batches; use --deep"
        yield "9: silences, clock skew and late arrivals; use --deep"
    else:
        unread = {finding.object for finding in history.errors if finding.check == 5}
        if unread:
            yield f"6 and 9: the records of {len(unread):,} batch(es) that are not, or not there, as they were sealed"
    if history.vault.lock_enforced and not deep:
        yield "7: the retention lock of every object; use --deep"
    elif not history.vault.lock_enforced:
        yield "7: retention locks; a local directory cannot enforce one, and its owner can change every file"
    yield "what was never recorded cannot be seen here"


def sentence(report: Report) -> str:
    """The report in one sentence of facts."""
    if not report.ok:
        return f"{len(report.errors)} fault(s) were found in {report.origin or report.vault}."
    if report.checkpoint is None:
        return f"Nothing has been sealed in {report.origin or report.vault} yet."
    age = report.age_seconds or 0
    when = "before" if age >= 0 else "AFTER: a clock is wrong,"
    return (
        f"{report.events:,} events in {report.seals:,} sealed batches of {report.origin}: no gap or alteration was "
        f"detected in what was recorded. Last sealed {report.last_sealed_at}, "
        f"{duration(age * 1_000_000)} {when} this check."
    )
