"""Commands on evidence packets: build, parameters, verify, reproduce, diff."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditlib.cli.common import SHOWN_ROWS, JsonOption, KeysOption, VaultsOption, pair, say, show_json, vaults_of
from auditlib.errors import MalformedError

if TYPE_CHECKING:
    from auditlib.attachments import Attached
    from auditlib.packet.diff import Comparison

PacketArgument = Annotated[Path, typer.Argument(help="The packet: a folder or a .zip.")]

app = typer.Typer(no_args_is_help=True, help="Evidence packets: build, parameters, verify, reproduce, diff.")


@app.command("build")
def packet_build(
    request: Annotated[str, typer.Argument(help="role-grants, or the path of a notebook.")],
    vault: VaultsOption,
    output: Annotated[Path, typer.Option("-o", help="A new folder, or a new .zip.")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="A parameter; `packet parameters` shows them.")
    ] = None,
    redact: Annotated[list[str] | None, typer.Option(help="A field to leave out: context.ip, actor.session.")] = None,
    attach: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="A list from outside, with FILE.toml beside it: approvals=tickets.csv."),
    ] = None,
    attach_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="A flat folder of PDFs, screenshots.")] = None,
    scope: Annotated[
        Path | None,
        typer.Option(envvar="AUDITLIB_SCOPE", help="A scope.toml: the systems in scope stand in the packet."),
    ] = None,
    key: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer an evidence request: run its notebook and pack the answer with its proof.

    Several vaults are answered by one packet over all of their trails, in which every item names its trail.
    """
    from auditlib.display import show_pairs
    from auditlib.evidence.scope import read_scope
    from auditlib.packet.build import build_packet
    from auditlib.packet.vaults import Vault

    if output.exists():
        raise MalformedError("exists already and is not overwritten.", where=str(output), remedy="Choose another -o.")
    if not as_json and sys.stderr.isatty():
        say(f"running {request} ...")
    attached = _gathered(attach or [], attach_dir, as_json)
    systems = None if scope is None else read_scope(scope)
    vaults = [Vault(place, key) for place in vaults_of(vault)]
    built = build_packet(
        request, vaults, _given(parameter or []), output, redact=redact or [], attached=attached, scope=systems
    )
    if as_json:
        from msgspec import to_builtins

        show_json(to_builtins(built, str_keys=True, builtin_types=()) | {"ok": True})
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


@app.command("parameters")
def packet_parameters(
    request: Annotated[str, typer.Argument(help="role-grants, or the path of a notebook.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a request's notebook can be asked: each parameter, its type, its default."""
    from auditlib.packet.notebook import find_notebook
    from auditlib.packet.parameters import declared

    known = declared(find_notebook(request)).values()
    if as_json:
        from msgspec import to_builtins

        rows = [to_builtins(each) | {"example": each.example, "type": each.type_words()} for each in known]
        show_json({"ok": True, "request": request, "parameters": rows})
        return
    from rich.table import Table

    from auditlib.display import OUT, plain

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("name", no_wrap=True)
    for heading in ("type", "default", "what it means"):
        table.add_column(heading, overflow="fold")
    for each in known:
        table.add_row(*map(plain, (each.name, each.type_words(), each.example, each.help)))
    OUT.print(table if known else f"{request} takes no parameters.")


@app.command("verify")
def packet_verify(
    path: Annotated[Path, typer.Argument(help="The packet: a folder or a .zip.")],
    key: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a packet against its own proofs, offline."""
    from auditlib import display
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.packet.check import PACKET_CHECKS, check_packet
    from auditlib.packet.transmittal import TRANSMITTAL_CHECK, TRANSMITTAL_SAYS

    report = check_packet(path, load_verifier_keys(key))
    if as_json:
        show_json(report.as_json())
    else:
        checks = PACKET_CHECKS | ({TRANSMITTAL_CHECK: TRANSMITTAL_SAYS} if report.transmittal else {})
        bad = {finding.check for finding in report.findings}
        state = "every check passed" if report.ok else f"{len(report.findings)} fault(s) were found"
        display.OUT.print(
            display.plain(f"{path}: {state}; {report.records:,} records{_unproven(report.redacted)}."),
            style="bold red" if not report.ok else "bold yellow" if report.redacted else "bold green",
        )
        display.show_pairs((f"{'✗' if number in bad else '✓'} {number}", says) for number, says in checks.items())
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


@app.command("reproduce")
def packet_reproduce(
    path: PacketArgument,
    vault: VaultsOption,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow-notebook", metavar="SHA256", help="Run this notebook, though it is not the library's."),
    ] = None,
    despite_faults: Annotated[
        bool, typer.Option("--despite-faults", help="Go on where the packet checks find faults.")
    ] = False,
    output: Annotated[Path | None, typer.Option("-o", help="Keep what was made, in a new folder or .zip.")] = None,
    key: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a packet's notebook again at its checkpoint, and compare byte for byte."""
    from auditlib.packet.reproduce import Foreign, permitted, reproduce_packet
    from auditlib.packet.vaults import Vault

    named = permitted(allow or [])

    def permit(foreign: Foreign) -> bool:
        if named(foreign):
            return True
        if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        from auditlib.display import ERR, plain

        for sentence in foreign.words():
            ERR.print(plain(sentence), soft_wrap=True)
        return typer.confirm("Run it?", default=False, err=True)

    if not as_json and sys.stderr.isatty():
        say(f"making {path} again ...")
    vaults = [Vault(place, key) for place in vaults_of(vault)]
    _end(reproduce_packet(path, vaults, permit=permit, despite_faults=despite_faults, out=output), as_json)


@app.command("diff")
def packet_diff(a: PacketArgument, b: PacketArgument, key: KeysOption = None, as_json: JsonOption = False) -> None:
    """Compare two packets: files, tables, rows, and whether the meaning differs."""
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.packet.diff import diff_packets

    _end(diff_packets(a, b, load_verifier_keys(key)), as_json)


def _given(pairs: list[str]) -> dict[str, str]:
    """NAME=VALUE, each name once: of two values, neither is what was meant."""
    given: dict[str, str] = {}
    for name, value in map(pair, pairs):
        if name in given:
            raise MalformedError(f"is given twice, as {given[name][:60]!r} and as {value[:60]!r}.", where=name)
        given[name] = value
    return given


def _gathered(attach: list[str], folder: Path | None, as_json: bool) -> Attached:
    """What was attached; of what cannot be, every fault, or the declaration to write, stands on a line of its own."""
    from auditlib.attachments import gather

    try:
        return gather({name: Path(file) for name, file in _given(attach).items()}, folder)
    except MalformedError as error:
        if as_json:
            raise
        from auditlib.display import ERR, plain

        message, *faults = error.message.split("\n")
        remedy, *template = error.remedy.split("\n")
        for line in (*faults, *template):
            ERR.print(plain(line), soft_wrap=True)
        raise MalformedError(message, where=error.where, remedy=remedy) from None


def _end(comparison: Comparison, as_json: bool) -> None:
    if as_json:
        show_json(comparison.as_json())
    else:
        from auditlib.display import show_comparison

        show_comparison(comparison)
    raise typer.Exit(0 if comparison.ok else 1)


def _unproven(redacted: int) -> str:
    return f", of {redacted:,} of which the contents are NOT proven, because fields were left out" if redacted else ""


def _show_exceptions(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    from rich.table import Table

    from auditlib.display import OUT, plain

    table = Table(
        box=None, padding=(0, 2, 0, 0), header_style="bold", title="potential exceptions", title_justify="left"
    )
    headings = {
        "trail": "trail",
        "grantee": "granted to",
        "entitlement": "what",
        "judged": "source",
        "verdict": "attribute",
        "reason": "noted",
    }
    names = [name for name in headings if name in rows[0]]
    for heading in ("occurred", *(headings[name] for name in names)):
        table.add_column(heading, overflow="fold")
    for row in rows[:SHOWN_ROWS]:
        occurred = "" if row["occurred_at"] is None else f"{row['occurred_at']:%Y-%m-%d %H:%M}"
        table.add_row(occurred, *(plain(row[name]) for name in names))
    OUT.print(table)
    if len(rows) > SHOWN_ROWS:
        OUT.print(f"... and {len(rows) - SHOWN_ROWS:,} more in data/tables/exceptions.csv")
