"""Commands on a trail: make one, import into it, verify, query, copy."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from auditlib.cli.common import (
    SHOWN_ROWS,
    JsonOption,
    KeysOption,
    SchedulerOption,
    SigningOption,
    VaultArgument,
    account,
    actions_of,
    now,
    older_notes,
    pair,
    say,
    show_json,
)
from auditlib.errors import AuditlibError, MalformedError, UnavailableError

if TYPE_CHECKING:
    from auditlib.vault.s3 import S3Vault

app = typer.Typer()
BAR_SECONDS = 2  # a question that is answered sooner shows no bar
PARALLEL_EVENTS = 200_000  # events from which starting processes pays (each takes about half a second)


@app.command()
def keygen(
    origin: Annotated[str, typer.Argument(help="The trail's name, like acme.example/audit.")],
    output: Annotated[Path, typer.Option("-o", help="The folder for the two files.")] = Path(),
) -> None:
    """Make a key pair: ORIGIN.key (secret, 0600) and ORIGIN.vkey; prints the verifier key."""
    from auditlib.formats.keys import SigningKey, check_name
    from auditlib.keyfiles import write_key_files

    key = SigningKey(check_name(origin), os.urandom(32))
    secret, public = write_key_files(key, output)
    say(f"secret key  {secret}   (keep it with the sealer, and nowhere else)")
    say(f"verifier    {public}   (give it to auditors by another way than the vault)")
    print(key.verifier)


@app.command()
def init(
    vault: VaultArgument,
    key: SigningOption,
    origin: Annotated[str | None, typer.Option(help="The trail's name; it must be the key's.")] = None,
    retention: Annotated[str, typer.Option(help="How long every object is kept: 7y, 2557d.")] = "7y",
    mode: Annotated[str, typer.Option(help="COMPLIANCE or GOVERNANCE.")] = "COMPLIANCE",
    catalog: Annotated[Path | None, typer.Option(help="Your own actions, added to the built-in catalogue.")] = None,
    continues: Annotated[
        str | None, typer.Option(help="The vault of a trail whose key was lost: this one goes on from it.")
    ] = None,
    events_per_day: Annotated[int, typer.Option(min=1, help="For the rough cost that is shown.")] = 1_000_000,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; the lock cannot be undone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new trail in a vault; in object storage the bucket too, under a lock that nobody can lift."""
    from auditlib.announce import own_record
    from auditlib.formats.document import Retention, check_retention
    from auditlib.formats.event import Actor, Target
    from auditlib.keyfiles import load_signing_key
    from auditlib.sealer import create_trail, open_sealer
    from auditlib.state import SealerState, default_state
    from auditlib.vault import open_vault
    from auditlib.vault.outlook import outlook
    from auditlib.vault.roles import policies

    signing = load_signing_key(key)
    if origin is not None and origin != signing.name:
        raise MalformedError(f"the key is of {signing.name}, not of {origin}.", where="--origin")
    kept = check_retention(Retention(_days(retention), mode))
    actions = actions_of(catalog)
    store = open_vault(vault, create=True)
    locked = vault.startswith("s3://")
    before = None if continues is None else _last_checkpoint(continues)
    if locked:
        _agree(outlook(kept, events_per_day, now()), f"Lock everything sealed in {vault} like this?", yes)
        say(cast("S3Vault", store).prepare(kept.mode, kept.days))
    create_trail(store, signing, kept, actions, now=now())
    if before is not None:
        context = {
            "key": str(before.signers[0]),
            "origin": before.origin,
            "root": before.root.hex(),
            "size": before.size,
        }
        record = own_record(
            "trail.continue", Actor(account(), None, "user"), Target(signing.name, "trail"), context, now()
        )
        with open_sealer(store, signing, SealerState(default_state(), signing.verifier), now=now) as sealer:
            sealer.add([record])
            sealer.flush()
        say(f"It goes on from {before.origin} at checkpoint {before.size}; verification will call that unproven.")
    say(f"{signing.name}: a new trail in {vault}, kept for {kept.days:,} days ({kept.mode}).")
    if not locked:
        say("This is a local directory: the lock is recorded, not enforced. Changes will show; they are not prevented.")
    if as_json:
        roles = policies(vault) if locked else {}
        show_json({"key": str(signing.verifier), "origin": signing.name, "policies": roles, "vault": vault})
        return
    if locked:
        say("The least that each role needs (again: auditlib vault policies; explained in docs/operations.md):")
        show_json(policies(vault))
    print(signing.verifier)


def _last_checkpoint(url: str) -> Any:
    from auditlib.history import read_history
    from auditlib.vault import open_vault

    history = read_history(open_vault(url))
    if history.checkpoint is None or history.errors:
        found = history.errors[0].message if history.errors else "nothing was sealed there."
        raise MalformedError(f"this is no trail to go on from: {found}", where="--continues")
    return history.checkpoint


def _agree(sentences: Iterable[str], question: str, yes: bool) -> None:
    """Show what cannot be undone, and go on only if the person says so."""
    for sentence in sentences:
        say(f"- {sentence}")
    if yes:
        return
    if not sys.stdin.isatty():
        raise MalformedError(
            "nobody is there to be asked, and a lock cannot be undone.", where=question, remedy="Give --yes."
        )
    if not typer.confirm(question, err=True):
        raise typer.Abort


@app.command("import")
def import_(
    log_format: Annotated[str, typer.Argument(metavar="FORMAT", help="cloudtrail")],
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files and folders.")],
    vault: Annotated[str | None, typer.Option(envvar="AUDITLIB_VAULT", help="The vault, to seal directly.")] = None,
    key: Annotated[
        Path | None, typer.Option("--key", envvar="AUDITLIB_SIGNING_KEY", help="The sealer's .key file, with --vault.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="The collector's URL instead: through the store, without a signing key.")
    ] = None,
    token: Annotated[
        Path | None,
        typer.Option(envvar="AUDITLIB_TOKEN_FILE", help="A file with import:FORMAT's token, for --store."),
    ] = None,
    rejects: Annotated[
        Path | None, typer.Option(help="A new file for what could not become an event, verbatim.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option(envvar="AUDITLIB_ACTOR", help="Who imports; default: the account's name.")
    ] = None,
    max_events: Annotated[int, typer.Option(min=1, max=1_048_576, help="Events a batch.")] = 50_000,
    as_json: JsonOption = False,
) -> None:
    """Import another system's logs: nothing lost, nothing twice."""
    from auditlib.display import plain, progress_bar
    from auditlib.imports import import_files

    with (
        _intake(log_format, vault, key, store, token, max_events) as intake,
        progress_bar("importing", quiet=as_json) as progress,
    ):
        done = import_files(log_format, paths, intake, rejects=rejects, who=actor or account(), progress=progress)
        seals = intake.seals
    if as_json:
        show_json(
            {
                "added": done.added.new,
                "repeats": done.added.repeats,
                "conflicts": done.added.conflicts,
                "rejects": done.rejects,
                "files": len(done.files),
                "seals": seals,
            }
        )
    else:
        print(
            f"{done.added.new:,} events added, {done.added.repeats:,} were there already, "
            f"{done.added.conflicts:,} conflicts, {done.rejects:,} rejected; "
            f"{len(done.files):,} files{'' if seals is None else f', {seals:,} seals'}."
        )
    for file in done.files:
        if file.note and not as_json:
            say(plain(f"{file.name}: {file.note}").plain)
    if done.rejects:
        kept = f"They stand in {rejects}." if rejects else "Give --rejects FILE to keep them apart."
        say(plain(f"{done.rejects:,} records could not become events, the first: {done.first_reject} {kept}").plain)
        raise typer.Exit(2)


@contextmanager
def _intake(
    log_format: str, vault: str | None, key: Path | None, store: str | None, token: Path | None, max_events: int
) -> Iterator[Any]:
    """The sealer itself, or the collector."""
    from auditlib.client.exchange import Collector
    from auditlib.client.settings import check_token, endpoint
    from auditlib.intakes import Direct, ThroughCollector
    from auditlib.keyfiles import load_signing_key, load_token
    from auditlib.sealer import open_sealer
    from auditlib.state import SealerState, default_state
    from auditlib.vault import open_vault

    if store is not None:
        if token is None:
            raise MalformedError(
                "the collector takes events with a token.", remedy=f"Give --token FILE (of import:{log_format})."
            )
        collector = Collector(endpoint(store, False), check_token(load_token(token)), now)
        try:
            yield ThroughCollector(collector, log_format, now)
        finally:
            collector.close()
        return
    if vault is None or key is None:
        raise MalformedError("nowhere to import to.", remedy="Give --vault and --key, or --store and --token.")
    signing = load_signing_key(key)
    state = SealerState(default_state(), signing.verifier)
    with open_sealer(open_vault(vault), signing, state, now=now, max_events=max_events) as sealer:
        yield Direct(sealer, signing.verifier, now)


@app.command()
def verify(
    vault: VaultArgument,
    key: KeysOption = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every record (check 6) and the pipeline (check 9).")
    ] = False,
    against: Annotated[list[str] | None, typer.Option(help="An older checkpoint, or a packet that holds one.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one a core where it pays.")] = 0,
    expiring: Annotated[int, typer.Option(min=0, help="Name locks that end within this many days (with --deep).")] = 30,
    state: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_VERIFY_STATE",
            help="A file that keeps which records were read when, so that the next --deep reads what is new.",
        ),
    ] = None,
    recheck: Annotated[
        int,
        typer.Option(
            min=0, envvar="AUDITLIB_VERIFY_RECHECK", help="Events of old batches read again each time, with --state."
        ),
    ] = 1_000_000,
    scheduler: SchedulerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make every numbered check and report every fault."""
    from auditlib.cluster import connect
    from auditlib.display import progress_bar, show_report
    from auditlib.formats.times import DAY
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.vault import open_vault
    from auditlib.verify import sentence
    from auditlib.verify import verify as verify_vault

    if state is not None and not deep:
        say("The state is kept by --deep alone: it was neither read nor written.")
    if scheduler is not None and not deep:
        say("The cluster reads records, which --deep alone asks for: it was not used.")
    keys = load_verifier_keys(key)
    store = open_vault(vault)
    anchors = _anchors(against, keys, store) if against else []
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar("verifying", quiet=as_json))
        executor: Executor | None = None
        if deep:
            executor = stack.enter_context(connect(scheduler)) if scheduler else _executor(stack, store, workers)
        report = verify_vault(
            store,
            keys=keys,
            deep=deep,
            against=anchors,
            now=now(),
            executor=executor,
            progress=progress,
            lock_progress=progress,
            expiring=expiring * DAY,
            state=state if deep else None,
            recheck=recheck,
        )
    if as_json:
        show_json(report.as_json())
    else:
        show_report(report, sentence(report))
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The vault to copy.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="A new directory, or s3://bucket/prefix.")],
    key: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a vault to another place, verified on both sides; run it again to go on."""
    from auditlib.copying import copy_vault
    from auditlib.display import progress_bar, show_report
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.vault import open_vault
    from auditlib.verify import sentence

    with progress_bar("copying", quiet=as_json) as progress:
        copied = copy_vault(
            open_vault(source),
            open_vault(target, create=True),
            keys=load_verifier_keys(key),
            now=now(),
            progress=progress,
        )
    if as_json:
        show_json({"put": copied.put, "there": copied.there, **copied.report.as_json()})
    else:
        print(f"{copied.put:,} objects copied, {copied.there:,} were there already.")
        show_report(copied.report, sentence(copied.report))
    raise typer.Exit(0 if copied.report.ok else 1)


@app.command()
def query(
    vault: VaultArgument,
    key: KeysOption = None,
    kind: Annotated[
        list[str] | None, typer.Option(help="Kind of action: grant, login, ... (see the catalogue).")
    ] = None,
    action: Annotated[list[str] | None, typer.Option(help="An action or a glob like role.*")] = None,
    actor: Annotated[list[str] | None, typer.Option(help="id or type:id, or a glob.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="id or type:id, or a glob.")] = None,
    outcome: Annotated[list[str] | None, typer.Option(help="success, failure, denied.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="The source that recorded it, or a glob.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A value in the context; dotted keys.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Date or time, inclusive.")] = None,
    until: Annotated[str | None, typer.Option(help="Date or time, exclusive.")] = None,
    through: Annotated[str | None, typer.Option(help="Last day, inclusive.")] = None,
    tz: Annotated[str, typer.Option(help="The time zone in which days begin.")] = "UTC",
    at: Annotated[int | None, typer.Option(help="Read at the checkpoint of this size.")] = None,
    scheduler: SchedulerOption = None,
    count: Annotated[bool, typer.Option("--count", help="Print how many events answer.")] = False,
    output_format: Annotated[str | None, typer.Option("--format", help="table, csv, jsonl, parquet, xlsx.")] = None,
    output: Annotated[Path | None, typer.Option("-o", help="A new file; its ending chooses the format.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Choose events from a verified trail."""
    from auditlib import display, export
    from auditlib.cluster import connect
    from auditlib.trail import open as open_trail

    with (
        connect(scheduler) if scheduler else nullcontext() as executor,
        open_trail(vault, keys=key, at=at, executor=executor) as trail,
        display.progress_bar("reading batches", quiet=as_json, after=BAR_SECONDS) as trail.files.progress,
    ):
        chosen = trail.events(
            kind=kind,
            action=action,
            actor=actor,
            target=target,
            outcome=outcome,
            source=source,
            since=since,
            until=until,
            through=through,
            where=_where(where or []),
            tz=tz,
        )
        if count:
            number = chosen.count()
            print(json.dumps({"count": number}) if as_json else number)
        elif output:
            with display.progress_bar("writing", quiet=as_json, after=BAR_SECONDS) as progress:
                rows = chosen.export(output, output_format, progress)
            print(
                json.dumps({"events": rows, "file": str(output)}) if as_json else f"{rows:,} events written to {output}"
            )
        elif output_format == "jsonl" or (as_json and output_format is None):
            export.write_jsonl(chosen.batches(), sys.stdout.buffer)
        elif output_format == "csv":
            sys.stdout.reconfigure(newline="", encoding="utf-8")  # type: ignore[union-attr]
            export.write_csv(chosen.batches(), sys.stdout)
        elif output_format in ("parquet", "xlsx"):
            raise MalformedError(f"{output_format} goes into a file.", where="--format", remedy="Give -o FILE.")
        elif output_format in (None, "table"):
            display.show_events(chosen.head(SHOWN_ROWS), chosen.count(), chosen.lag())
        else:
            raise MalformedError(
                f"{output_format!r} is no format; use table, {', '.join(export.FORMATS)}.", where="--format"
            )


def _days(text: str) -> int:
    """`7y`, `2557d` or `365` -> whole days; a year has 365.25 days, rounded up (7y = 2,557)."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("y", "d") else (text, "d")
    if not (number.isascii() and number.isdigit()) or not 0 < int(number) < 1_000_000:
        raise MalformedError(f"{text!r} is no retention; write 7y or 2557d.", where="--retention")
    return -(-int(number) * 1461 // 4) if unit == "y" else int(number)


def _where(pairs: list[str]) -> dict[str | tuple[str, ...], Any]:
    found: dict[str | tuple[str, ...], Any] = {}
    for name, value in map(pair, pairs):
        found.setdefault(name, []).append(value)
    return found


def _anchors(against: list[str], given: list[Any], store: Any) -> list[tuple[str, Any]]:
    """Older checkpoints from files or packets, each signed by a key trusted here, or by one this trail had before."""
    from auditlib.formats.checkpoint import parse_checkpoint
    from auditlib.history import read_history

    history = read_history(store, given)
    keys = [*history.trusted, *(key for document in history.documents for key in document.verifiers)]
    anchors = []
    for text in against:
        notes = older_notes(text)
        # A packet over several trails holds a checkpoint of each; where none is this trail's, that is found below.
        own = [note for note in notes if note[1].startswith(f"{history.origin}\n".encode())]
        for name, data in own or notes:
            try:
                anchors.append((name, parse_checkpoint(data, keys)))
            except AuditlibError as error:
                raise error.at(name) from None
    return anchors


def _executor(stack: ExitStack, store: Any, workers: int) -> Executor | None:
    """Processes, where there is enough to do."""
    from concurrent.futures import ProcessPoolExecutor

    cores = workers or len(os.sched_getaffinity(0))
    size = sum(entry.size for entry in store.list("batches/"))
    if cores < 2 or (not workers and size < PARALLEL_EVENTS * 30):
        return None
    try:
        return stack.enter_context(ProcessPoolExecutor(cores, mp_context=get_context("forkserver")))
    except OSError as error:
        raise UnavailableError(f"no worker processes can be started ({error}).") from None
