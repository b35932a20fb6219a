"""The numbered checks over a vault (DESIGN 5). It distrusts whoever wrote the vault, and shares no code with it
but the formats.

Every check is made and every fault reported, not only the first; what could not be checked is named in `unchecked`.

    0 to 4  history     the chain      5, 6  batches, contents     the records               checked  which when
    7       locks       retention      4, 8  leftovers             what nothing names        9        pipeline
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path

from auditlib.announce import Announced, announced
from auditlib.batches import DOUBTED, Turn, check_batches
from auditlib.checked import RECHECK_EVENTS, Checked, read_checked, stretches_after, turn_of, write_checked
from auditlib.cluster import Cluster
from auditlib.errors import AuditlibError, MalformedError
from auditlib.findings import NO_ANCHOR, Report, duration, sorted_findings
from auditlib.formats import layout
from auditlib.formats.checkpoint import Checkpoint, parse_checkpoint
from auditlib.formats.keys import VerifierKey
from auditlib.formats.times import format_time
from auditlib.history import History, check_extends, read_history
from auditlib.leftovers import check_counted_numbers, check_equivocation, check_leftovers, check_listed, check_shadows
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
    state: Path | None = None,
    recheck: int = RECHECK_EVENTS,
) -> Report:
    """Make every check that can be made and report every fault.

    `keys` are the verifier keys the user trusts; without any, the vault's own are used and said to be unconfirmed.
    `against` are older checkpoints (name, checkpoint) from outside. `deep` reads every record. `now` is microseconds
    since 1970 UTC. `progress(done, total)` counts bytes of batches, `lock_progress` objects whose lock was asked for.
    Locks that end within `expiring` microseconds are named.

    `state` is a file that keeps, from one deep verification to the next, which batches were read when: then those that
    are new are read, and of the others as many as hold `recheck` events, in turn. It is written where no error was
    found. Raises UnavailableError, and MalformedError for a state that is not one's own or of another vault.
    """
    if state is not None and not deep:
        raise MalformedError("a state tells which records were read, so that it goes with a deep verification alone.")
    before = read_checked(state, vault) if state is not None else None
    history = read_history(vault, keys, thorough=True)
    anchors = [*against, *_anchor(history, before, str(state))]
    for name, older in anchors:
        check_extends(history, older, name)
    check_equivocation(history)
    said = announced(history)
    if history.errors:
        before = None  # what was read was another history: all of this one is to be read
    turn, next_ = turn_of(before, history.seals.events.tolist(), recheck)
    pulse = check_batches(history, said, deep, executor, progress, now, turn)
    _check_compromised(history, said)
    if not deep:
        check_counted_numbers(history)
    check_listed(history)
    check_leftovers(history)
    check_shadows(history)
    if deep:
        check_locks(history, now, expiring, lock_progress)
    last = history.seals[-1].seal.sealed_at if history.seals else None
    checked = stretches_after(before.batches if before else (), turn, now) if deep else []
    if state is not None and history.checkpoint is not None and checked and not history.errors:
        write_checked(state, vault, checked, history.checkpoint_data, next_, pulse)
    return Report(
        vault=vault.url,
        origin=history.origin,
        events=int(history.seals.events.sum()),
        seals=len(history.seals),
        checkpoint=history.checkpoint,
        key_confirmed=history.key_confirmed and history.checkpoint is not None,
        last_sealed_at=last,
        verified_at=format_time(now),
        deep=deep,
        findings=sorted_findings(history.findings),
        unchecked=(*_unchecked(history, said, deep, anchors, turn), *_believed(deep, executor)),
        checked=tuple(checked),
    )


def _anchor(history: History, before: Checked | None, where: str) -> list[tuple[str, Checkpoint]]:
    """The checkpoint that the state was left at: what was read then was read under it."""
    if before is None:
        return []
    keys = [*history.trusted, *(key for document in history.documents for key in document.verifiers)]
    try:
        return [(where, parse_checkpoint(before.checkpoint.encode(), keys))]
    except AuditlibError as error:
        history.add_error(1, where, error)
        return []


def _check_compromised(history: History, said: Announced) -> None:
    """Check 0: checkpoints signed by a key after the time from which the trail itself says it was not safe."""
    times = history.seals.sealed_at
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
    history: History, said: Announced, deep: bool, against: Sequence[tuple[str, Checkpoint]], turn: Turn
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
        yield from _read_before(turn)
        unread = {finding.object for finding in history.errors if finding.check == 5}
        if unread:
            yield f"6 and 9: the records of {len(unread):,} batch(es) that are not, or not there, as they were sealed"
    if history.vault.lock_enforced and not deep:
        yield "7: the retention lock of every object; use --deep"
    elif not history.vault.lock_enforced:
        yield "7: retention locks; a local directory cannot enforce one, and its owner can change every file"
    yield "what was never recorded cannot be seen here"


def _believed(deep: bool, executor: Executor | None) -> Iterator[str]:
    if deep and isinstance(executor, Cluster):
        yield (
            "6: whether the cluster's workers read what they say: their roots were held against the seals, and about "
            f"one batch in {DOUBTED}, by chance, was read again by this process"
        )


def _read_before(turn: Turn) -> Iterator[str]:
    again = sum(len(each) for each in turn.ranges if each.start < turn.known)
    if again < turn.known:
        yield (
            f"5 and 6: the bytes and records of {turn.known - again:,} batch(es) that were read before and not today "
            "(`checked` says when): today the listing was asked whether they are there, with their sizes"
        )
        yield "6: whether an event id in the batches read today was sealed in another batch too; without a state it is"
    if turn.known and turn.pulse is None:
        yield "9: silences, clock skew and late arrivals: too many to be kept in the state; without a state they are"


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
