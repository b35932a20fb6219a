"""Commands on evidence packets: build, verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from auditlib.cli.common import SHOWN_ROWS, JsonOption, KeysOption, VaultOption, pair, say, show_json
from auditlib.errors import MalformedError

app = typer.Typer(no_args_is_help=True, help="Evidence packets: build, verify.")


@app.command("build")
def packet_build(
    request: Annotated[str, typer.Argument(help="role-grants, or the path of a notebook.")],
    vault: VaultOption,
    output: Annotated[Path, typer.Option("-o", help="A new folder, or a new .zip.")],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="A parameter of the notebook.")
    ] = None,
    redact: Annotated[
        list[str] | None, typer.Option(help="A field to leave out: context.ip, actor.session.")
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
        say(f"running {request} ...")
    built = build_packet(request, vault, dict(map(pair, parameter or [])), output, keys=key, redact=redact or [])
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

    report = check_packet(path, load_verifier_keys(key))
    if as_json:
        show_json(report.as_json())
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


def _show_exceptions(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    from rich.table import Table

    from auditlib.display import OUT, plain

    table = Table(
        box=None, padding=(0, 2, 0, 0), header_style="bold", title="potential exceptions", title_justify="left"
    )
    headings = {
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
        occurred = f"{row['occurred_at']:%Y-%m-%d %H:%M}"
        table.add_row(occurred, *(plain(row[name]) for name in names))
    OUT.print(table)
    if len(rows) > SHOWN_ROWS:
        OUT.print(f"... and {len(rows) - SHOWN_ROWS:,} more in data/tables/exceptions.csv")
