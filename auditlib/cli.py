"""The command line: arguments, exit codes, wiring. Imported by nothing.

Exit codes: 0 fine, 1 the evidence is wrong, 2 the input is malformed or the usage wrong, 3 storage unavailable.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
import warnings
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import typer

from auditlib import __version__
from auditlib.errors import AuditlibError, MalformedError, UnavailableError

PARALLEL_EVENTS = 200_000  # events from which starting processes pays (each takes about half a second)
SHOWN_ROWS = 50  # rows of a table for people

app = typer.Typer(
    name="auditlib",
    no_args_is_help=True,
    add_completion=False,
    help="An audit trail as evidence that an auditor accepts.",
    pretty_exceptions_enable=False,
)
packet_app = typer.Typer(no_args_is_help=True, help="Evidence packets: build, verify.")
app.add_typer(packet_app, name="packet")

VaultArgument = Annotated[str, typer.Argument(envvar="AUDITLIB_VAULT", help="The vault: a path or file:// URL.")]
VaultOption = Annotated[str, typer.Option("--vault", envvar="AUDITLIB_VAULT", help="The vault: a path or file:// URL.")]
KeysOption = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        envvar="AUDITLIB_KEY",
        help="A verifier key you trust, or a file of them; without it the vault's own is used, unconfirmed.",
    ),
]
SigningOption = Annotated[Path, typer.Option("--key", envvar="AUDITLIB_SIGNING_KEY", help="The sealer's .key file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs, with stable keys.")]


def main() -> None:
    """The console script: run, and turn errors into sentences and exit codes."""
    warnings.showwarning = _show_warning
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except AuditlibError as error:
        _show_error(error)
        code = error.exit_code
    except typer.TyperException as error:
        if str(error):  # without any command there is only the help
            _show_error(MalformedError(str(error), remedy="Try --help."))
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        _say("stopped; what was sealed stays sealed.")
        code = 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - the reader has gone; nothing may be flushed to it
        code = 0
    except OSError as error:
        _show_error(UnavailableError(f"{error.strerror or error}.", where=str(error.filename or "output")))
        code = 3
    except SystemExit as stop:
        code = 0 if isinstance(stop.__context__, BrokenPipeError) else stop.code  # typer makes an exit 1 of it
    sys.exit(code if isinstance(code, int) else 0)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False) -> None:
    if version:
        print(f"auditlib {__version__}")
        raise typer.Exit


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
    _say(f"secret key  {secret}   (keep it with the sealer, and nowhere else)")
    _say(f"verifier    {public}   (give it to auditors by another way than the vault)")
    print(key.verifier)


@app.command()
def init(
    vault: VaultArgument,
    key: SigningOption,
    origin: Annotated[str | None, typer.Option(help="The trail's name; it must be the key's.")] = None,
    retention: Annotated[str, typer.Option(help="How long every object is kept: 7y, 2557d.")] = "7y",
    mode: Annotated[str, typer.Option(help="COMPLIANCE or GOVERNANCE.")] = "COMPLIANCE",
    catalog: Annotated[Path | None, typer.Option(help="Your own actions, added to the built-in catalogue.")] = None,
) -> None:
    """Make a new trail in a vault."""
    from auditlib.formats.document import Retention, check_retention
    from auditlib.keyfiles import load_signing_key
    from auditlib.sealer import create_trail
    from auditlib.vault import open_vault

    signing = load_signing_key(key)
    if origin is not None and origin != signing.name:
        raise MalformedError(f"the key is of {signing.name}, not of {origin}.", where="--origin")
    kept = check_retention(Retention(_days(retention), mode))
    actions = _catalog(catalog)
    store = open_vault(vault, create=True)
    create_trail(store, signing, kept, actions, now=_now())
    _say(f"{signing.name}: a new trail in {vault}, kept for {kept.days:,} days ({kept.mode}).")
    if not store.lock_enforced:
        _say(
            "This is a local directory: the lock is recorded, not enforced. Changes will show; they are not prevented."
        )
    print(signing.verifier)


@app.command("import")
def import_(
    log_format: Annotated[str, typer.Argument(metavar="FORMAT", help="cloudtrail")],
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files and folders.")],
    vault: VaultOption,
    key: SigningOption,
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
    from auditlib.keyfiles import load_signing_key
    from auditlib.sealer import open_sealer
    from auditlib.state import SealerState, default_state
    from auditlib.vault import open_vault

    signing = load_signing_key(key)
    state = SealerState(default_state(), signing.verifier)
    with (
        open_sealer(open_vault(vault), signing, state, now=_now, max_events=max_events) as sealer,
        progress_bar("importing", quiet=as_json) as progress,
    ):
        done = import_files(
            log_format,
            paths,
            sealer,
            rejects=rejects,
            who=actor or _account(),
            key=signing.verifier,
            now=_now,
            progress=progress,
        )
        seals = sealer.size
    if as_json:
        _json(
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
            f"{len(done.files):,} files, {seals:,} seals."
        )
    for file in done.files:
        if file.note and not as_json:
            _say(plain(f"{file.name}: {file.note}").plain)
    if done.rejects:
        kept = f"They stand in {rejects}." if rejects else "Give --rejects FILE to keep them apart."
        _say(plain(f"{done.rejects:,} records could not become events, the first: {done.first_reject} {kept}").plain)
        raise typer.Exit(2)


@app.command()
def verify(
    vault: VaultArgument,
    key: KeysOption = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every record (check 6) and the pipeline (check 9).")
    ] = False,
    against: Annotated[list[str] | None, typer.Option(help="An older checkpoint, or a packet that holds one.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one a core where it pays.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make every numbered check and report every fault."""
    from auditlib.display import progress_bar, show_report
    from auditlib.history import read_history
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.vault import open_vault
    from auditlib.verify import sentence
    from auditlib.verify import verify as verify_vault

    keys = load_verifier_keys(key)
    store = open_vault(vault)
    anchors = _anchors(against or [], keys or list(read_history(store).trusted))
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar("verifying", quiet=as_json))
        executor = _executor(stack, store, workers) if deep else None
        report = verify_vault(
            store, keys=keys, deep=deep, against=anchors, now=_now(), executor=executor, progress=progress
        )
    if as_json:
        _json(report.as_json())
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
            now=_now(),
            progress=progress,
        )
    if as_json:
        _json({"put": copied.put, "there": copied.there, **copied.report.as_json()})
    else:
        print(f"{copied.put:,} objects copied, {copied.there:,} were there already.")
        show_report(copied.report, sentence(copied.report))
    raise typer.Exit(0 if copied.report.ok else 1)


@app.command()
def probe(vault: VaultArgument, as_json: JsonOption = False) -> None:
    """Show that the retention lock holds: try, as this identity, everything that must be refused."""
    from msgspec import to_builtins
    from ulid import ULID

    from auditlib.display import show_attempts
    from auditlib.vault import open_vault
    from auditlib.vault.probe import probe as probe_vault
    from auditlib.vault.s3 import S3Vault

    store = open_vault(vault)
    if not isinstance(store, S3Vault):
        raise MalformedError("a local directory has no lock that could be probed.", where=vault, remedy="Give s3://...")
    attempts = probe_vault(store, str(ULID()), _now())
    broken = [attempt for attempt in attempts if attempt.verdict == "broken"]
    if as_json:
        _json({"ok": not broken, "vault": vault, "attempts": [to_builtins(attempt) for attempt in attempts]})
    else:
        show_attempts(attempts)
        print(
            f"The lock held against every attempt on {vault}." if not broken else f"{len(broken)} attempt(s) broke it."
        )
    raise typer.Exit(1 if broken else 0)


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
    count: Annotated[bool, typer.Option("--count", help="Print how many events answer.")] = False,
    output_format: Annotated[str | None, typer.Option("--format", help="table, csv, jsonl, parquet, xlsx.")] = None,
    output: Annotated[Path | None, typer.Option("-o", help="A new file; its ending chooses the format.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Choose events from a verified trail."""
    from auditlib import display, export
    from auditlib.trail import open as open_trail

    with open_trail(vault, keys=key, at=at) as trail:
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
            with display.progress_bar("writing", quiet=as_json):
                rows = chosen.export(output, output_format)
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


@packet_app.command("build")
def packet_build(
    request: Annotated[str, typer.Argument(help="role-grants, or the path of a notebook.")],
    vault: VaultOption,
    output: Annotated[Path, typer.Option("-o", help="A new folder, or a new .zip.")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="A parameter of the notebook.")
    ] = None,
    key: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer an evidence request: run its notebook and pack the answer with its proof."""
    from auditlib.display import show_pairs
    from auditlib.packet.build import build_packet

    if output.exists():
        raise MalformedError("exists already and is not overwritten.", where=str(output), remedy="Choose another -o.")
    if not as_json and sys.stderr.isatty():
        _say(f"running {request} ...")
    built = build_packet(request, vault, dict(map(_pair, parameter or [])), output, keys=key)
    if as_json:
        from msgspec import to_builtins

        _json(to_builtins(built, str_keys=True, builtin_types=()) | {"ok": True})
        return
    print(f"{built.headline}")
    _show_exceptions(built.exceptions)
    page = output / "data" / "report.html" if output.suffix != ".zip" else "data/report.html inside it"
    show_pairs(
        [
            ("packet", built.path),
            ("packet digest", built.packet_digest),
            ("evidence digest", built.evidence_digest),
            ("open", page),
        ]
    )


@packet_app.command("verify")
def packet_verify(
    path: Annotated[Path, typer.Argument(help="The packet: a folder or a .zip.")],
    key: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a packet against its own proofs, offline."""
    from auditlib import display
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.packet.check import PACKET_CHECKS, check_packet

    report = check_packet(path, load_verifier_keys(key))
    if as_json:
        _json(report.as_json())
    else:
        bad = {finding.check for finding in report.findings}
        state = "every check passed" if report.ok else f"{len(report.findings)} fault(s) were found"
        display.OUT.print(
            display.plain(f"{path}: {state}; {report.records:,} records."),
            style="bold green" if report.ok else "bold red",
        )
        display.show_pairs(
            (f"{'✗' if number in bad else '✓'} {number}", says) for number, says in PACKET_CHECKS.items()
        )
        display.show_pairs(
            [
                ("packet digest", report.digest),
                ("evidence digest", report.evidence_digest),
                ("it says", report.packet.get("headline")),
            ]
        )
        display.show_findings(report.findings)
        display.show_unchecked(report.unchecked)
    raise typer.Exit(0 if report.ok else 1)


def _account() -> str:
    """Who runs this: the account's name, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"


def _now() -> int:
    return time.time_ns() // 1000


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _show_error(error: AuditlibError) -> None:
    if "--json" in sys.argv:
        _json({"ok": False, "error": {"message": error.message, "where": error.where, "remedy": error.remedy}})
    from auditlib.display import ERR, plain

    ERR.print("auditlib:", plain(error), soft_wrap=True)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, UserWarning):
        _say(f"auditlib: {message}")


def _days(text: str) -> int:
    """`7y`, `2557d` or `365` -> whole days; a year has 365.25 days, rounded up (7y = 2,557)."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("y", "d") else (text, "d")
    if not (number.isascii() and number.isdigit()) or not 0 < int(number) < 1_000_000:
        raise MalformedError(f"{text!r} is no retention; write 7y or 2557d.", where="--retention")
    return -(-int(number) * 1461 // 4) if unit == "y" else int(number)


def _catalog(extension: Path | None) -> Any:
    from auditlib.formats.catalog import extend_catalog, parse_catalog

    base = parse_catalog(Path(__file__).with_name("catalog.toml").read_bytes())
    if extension is None:
        return base
    try:
        return extend_catalog(base, extension.read_bytes())
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror}).", where=str(extension)) from None
    except MalformedError as error:
        raise error.at(str(extension)) from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise MalformedError(f"{text!r} is not NAME=VALUE.")
    return name, value


def _where(pairs: list[str]) -> dict[str | tuple[str, ...], Any]:
    found: dict[str | tuple[str, ...], Any] = {}
    for name, value in map(_pair, pairs):
        found.setdefault(name, []).append(value)
    return found


def _anchors(against: list[str], keys: list[Any]) -> list[tuple[str, Any]]:
    """Older checkpoints from files or packets, each signed by a key that is trusted here."""
    from auditlib.formats.checkpoint import MAX_NOTE_BYTES, parse_checkpoint
    from auditlib.packet.check import read_checkpoints

    anchors = []
    for text in against:
        path = Path(text)
        try:
            whole = path.is_dir() or path.suffix == ".zip"
            notes = read_checkpoints(path) if whole else [(text, path.open("rb").read(MAX_NOTE_BYTES + 1))]
        except OSError as error:
            raise MalformedError(f"cannot be read ({error.strerror}).", where=text) from None
        for name, data in notes:
            try:
                anchors.append((name, parse_checkpoint(data, keys)))
            except AuditlibError as error:
                raise error.at(name) from None
    return anchors


def _executor(stack: ExitStack, store: Any, workers: int) -> Executor | None:
    """Processes, where there is enough to do."""
    cores = workers or len(os.sched_getaffinity(0))
    size = sum(entry.size for entry in store.list("batches/"))
    if cores < 2 or (not workers and size < PARALLEL_EVENTS * 30):
        return None
    try:
        return stack.enter_context(ProcessPoolExecutor(cores, mp_context=get_context("forkserver")))
    except OSError as error:
        raise UnavailableError(f"no worker processes can be started ({error}).") from None


def _show_exceptions(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    from rich.table import Table

    from auditlib.display import OUT, plain

    table = Table(
        box=None, padding=(0, 2, 0, 0), header_style="bold", title="potential exceptions", title_justify="left"
    )
    for name in ("occurred", "granted to", "what", "attribute", "noted"):
        table.add_column(name, overflow="fold")
    for row in rows[:SHOWN_ROWS]:
        occurred = f"{row['occurred_at']:%Y-%m-%d %H:%M}"
        table.add_row(occurred, *(plain(row[name]) for name in ("grantee", "entitlement", "verdict", "reason")))
    OUT.print(table)
    if len(rows) > SHOWN_ROWS:
        OUT.print(f"... and {len(rows) - SHOWN_ROWS:,} more in data/tables/exceptions.csv")


if __name__ == "__main__":
    main()
