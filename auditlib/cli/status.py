"""The command that watches: how the pipeline is now, and how it was over the last days."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditlib.cli.common import JsonOption, KeysOption, VaultArgument, now, show_json
from auditlib.errors import MalformedError

if TYPE_CHECKING:
    from rich.table import Table

    from auditlib.monitor import Status

app = typer.Typer()


@app.command()
def status(
    vault: VaultArgument,
    store: Annotated[
        str | None, typer.Option("--store", envvar="AUDITLIB_STORE", help="The store before it, if there is one.")
    ] = None,
    keys: KeysOption = None,
    monitor: Annotated[
        Path | None, typer.Option("--monitor", envvar="AUDITLIB_MONITOR", help="monitor.toml: thresholds, sources.")
    ] = None,
    since: Annotated[str, typer.Option(help="How far back: 7d, 12h, or a time like 2026-03-01T00:00:00Z.")] = "7d",
    metrics: Annotated[bool, typer.Option("--openmetrics", help="OpenMetrics, for Prometheus.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how the pipeline is: its seals, heartbeats, sources and clocks. Code 1 where a threshold is broken."""
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.monitor import Settings, read_settings, take_status
    from auditlib.state import default_state
    from auditlib.vault import open_vault

    if metrics and as_json:
        raise MalformedError("--json and --openmetrics exclude each other.")
    at = now()
    settings = read_settings(monitor) if monitor else Settings()
    begin = _since(since, at)
    opened = None
    if store:
        from auditlib.store import open_store

        opened = open_store(store, "reader")
    try:
        found = take_status(
            open_vault(vault),
            keys=load_verifier_keys(keys),
            settings=settings,
            since=begin,
            now=at,
            store=opened,
            states=default_state(),
        )
    finally:
        if opened:
            opened.close()
    if as_json:
        show_json(found.as_json())
    elif metrics:
        from auditlib.monitor.openmetrics import openmetrics

        sys.stdout.write(openmetrics(found).decode())
    else:
        _show(found)
    if not found.ok:
        raise typer.Exit(1)


def _since(text: str, at: int) -> int:
    from auditlib.formats.times import parse_time
    from auditlib.monitor import parse_length

    try:
        return max(0, parse_time(text) if "T" in text else at - parse_length(text, "--since"))
    except MalformedError as error:
        raise error if error.where else error.at("--since") from None


def _show(status: Status) -> None:
    from rich.text import Text

    from auditlib.display import OUT, plain, show_pairs

    broken = len(status.broken)
    headline = "nothing is past its threshold" if status.ok else f"{broken} past a threshold"
    OUT.print(Text(f"{status.origin or status.vault}: {headline}.", style="bold green" if status.ok else "bold red"))
    OUT.print()
    show_pairs(_pairs(status))
    _show_sources(status)
    _show_clocks(status)
    for alarm in sorted(status.alarms, key=lambda alarm: not alarm.broken):
        sign, style = ("✗", "bold red") if alarm.broken else ("i", "cyan")
        OUT.print(Text.assemble((f"\n{sign} {alarm.judged.replace('_', ' ')}  ", style), plain(alarm.where)))
        OUT.print(Text("  ").append_text(plain(alarm.message)), soft_wrap=True)


def _pairs(status: Status) -> list[tuple[str, str]]:
    from auditlib.findings import duration, moment

    def aged(time: int) -> str:
        return f"{duration(status.at - time)} ago, at {moment(time)}"

    sealed = "nothing yet" if status.sealed_at is None else f"the last {aged(status.sealed_at)}"
    checkpoint = (
        "none" if status.checkpoint_at is None else f"size {status.checkpoint_size}, {aged(status.checkpoint_at)}"
    )
    heartbeat = "none is sealed"
    if status.heartbeat_at is not None:
        heartbeat = f"{aged(status.heartbeat_at)}, of {status.heartbeat_source}"
    pairs = [
        ("sealed", f"{status.events:,} events, {status.seals:,} seals; {sealed}"),
        ("checkpoint", checkpoint),
        ("heartbeat", heartbeat),
    ]
    if status.unsealed is not None:
        oldest = "" if status.oldest_unsealed is None else f"; the oldest {aged(status.oldest_unsealed)}"
        pairs.append(("waiting", f"{status.unsealed:,} records{oldest} (by {status.unsealed_basis})"))
    if status.retention_end is not None:
        left = status.retention_end - status.at
        ends = f"ends in {duration(left)}" if left > 0 else "has ended"
        pairs.append(("retention", f"the first {ends}, at {moment(status.retention_end)}"))
    own = ", ".join(f"{action} {count:,}" for action, count in status.own_events.items() if action != "audit.heartbeat")
    return [*pairs, ("its own", own)] if own else pairs


def _show_sources(status: Status) -> None:
    from auditlib.display import OUT, plain
    from auditlib.findings import duration, moment

    table = _table(f"Sources since {moment(status.since)}")
    for name in ("source", "last record", "records", "heartbeats", "silences", "lost", "late"):
        table.add_column(name, justify="left" if name in ("source", "last record") else "right", overflow="fold")
    for source in status.sources:
        lost = sum(lost.count for lost in source.lost)
        counts = (source.records, source.heartbeats, len(source.silences), lost, source.late)
        shown = (f"{count:,}" if count else "-" for count in counts)
        table.add_row(plain(source.name), f"{duration(source.silent)} ago", *shown)
    if status.sources:
        OUT.print(table)


def _show_clocks(status: Status) -> None:
    from auditlib.display import OUT, plain
    from auditlib.formats.times import SECOND

    table = _table("Clocks, in seconds ahead of the collector's")
    for name in ("source", "median", "p99", "most", "past the threshold", "seen by"):
        table.add_column(name, justify="right" if name in ("median", "p99", "most") else "left", overflow="fold")
    for clock in status.clocks:
        when = "-" if clock.since is None else f"since {_minute(clock.since)}"
        if clock.since is not None and clock.until is not None:
            when = f"{_minute(clock.since)} to {_minute(clock.until)}"
        seconds = (f"{value / SECOND:+.1f}" if value else "-" for value in (clock.median, clock.p99, clock.most))
        table.add_row(plain(clock.source), *seconds, when, "collector" if clock.basis == "measured" else "records")
    if status.clocks:
        OUT.print(table)


def _table(title: str) -> Table:
    from rich.table import Table

    look = {"box": None, "padding": (0, 2, 0, 0), "title_justify": "left", "title_style": "bold"}
    return Table(title=f"\n{title}", header_style="bold", **look)  # type: ignore[arg-type]


def _minute(micros: int) -> str:
    from auditlib.findings import moment

    return moment(micros)[:16].replace("T", " ")
