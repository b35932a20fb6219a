"""How the command line shows things to people: tables, colours, progress. What a record says stays text."""

from __future__ import annotations

import sys
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from auditlib.findings import CHECKS, Finding, Report, Stretch, duration, moment
from auditlib.formats.times import from_datetime

if TYPE_CHECKING:
    from auditlib.packet.diff import Comparison, Place

OUT = Console(highlight=False, soft_wrap=False)
ERR = Console(stderr=True, highlight=False)
_SIGNS = {"error": ("✗", "bold red"), "warning": ("!", "yellow"), "info": ("i", "cyan")}
_STRETCHES_SHOWN = 10  # of batches read at different times
_COLUMNS = {"occurred (UTC)": 19, "actor": 0, "action": 0, "target": 0, "outcome": 7, "recorded after": 0}  # widths


def plain(value: Any) -> Text:
    """A value as text that no terminal takes for a command: control and formatting characters are shown escaped."""
    text = "" if value is None else str(value)
    return Text("".join(c if unicodedata.category(c)[0] != "C" else c.encode("unicode_escape").decode() for c in text))


@contextmanager
def progress_bar(what: str, *, quiet: bool, after: float = 0) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error while it is a terminal; the function takes (done, total).

    With `after` it appears when it is told something so many seconds later, and goes when all is done.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=ERR, transient=True)
    task = bar.add_task(what, total=None)
    begin = time.monotonic()

    def tell(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)
        if after and done >= total:
            bar.stop()
        elif time.monotonic() - begin >= after:
            bar.start()

    if not after:
        bar.start()
    try:
        yield tell
    finally:
        bar.stop()


def show_report(report: Report, headline: str) -> None:
    """A verification: the sentence, the checks, the findings, what was not checked."""
    OUT.print(Text(headline, style="bold green" if report.ok else "bold red"))
    OUT.print()
    checks = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for number, says in CHECKS.items():
        sign, style = _state(number, report)
        checks.add_row(
            Text(sign, style=style), Text(str(number)), Text(says), Text(_count(number, report), style=style)
        )
    OUT.print(checks)
    if report.checkpoint:
        key = report.checkpoint.signers[0] if report.checkpoint.signers else "?"
        confirmed = "confirmed by you" if report.key_confirmed else "found in the vault, not confirmed"
        root = report.checkpoint.root.hex()
        OUT.print()
        show_pairs([("checkpoint", report.checkpoint.size), ("root", root), ("key", f"{key} ({confirmed})")])
    show_findings(report.findings)
    if report.checked:
        _show_checked(report.checked)
    show_unchecked(report.unchecked)


def _show_checked(stretches: Sequence[Stretch]) -> None:
    """Which records were read today, and which when."""
    OUT.print(Text("\nRecords read", style="bold"))
    for stretch in stretches[:_STRETCHES_SHOWN]:
        named = f"batches {stretch.first:,} to {stretch.last:,}" if stretch.last > stretch.first else ""
        OUT.print(Text(f"  {stretch.checked_at}  {named or f'batch {stretch.first:,}'}"))
    if len(stretches) > _STRETCHES_SHOWN:
        OUT.print(Text(f"  and {len(stretches) - _STRETCHES_SHOWN:,} more stretches; --json names all", style="dim"))


def show_findings(findings: Iterable[Finding]) -> None:
    """Each finding: where, what, expected and found."""
    for finding in findings:
        sign, style = _SIGNS[finding.severity]
        line = Text.assemble((f"\n{sign} check {finding.check}  ", style), plain(finding.object))
        OUT.print(line)
        OUT.print(Text("  ").append_text(plain(finding.message)))
        for name, value in (("expected", finding.expected), ("found", finding.found)):
            if value:
                OUT.print(Text(f"  {name:<9}", style="dim").append_text(plain(value)))


def show_unchecked(unchecked: Iterable[str]) -> None:
    """What was not checked, and why."""
    OUT.print(Text("\nNot checked", style="bold"))
    for sentence in unchecked:
        OUT.print(Text("  - ").append_text(plain(sentence)))


def show_events(table: pa.Table, total: int, lag: str) -> None:
    """Events as a table that fits, and what was left out."""
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, width in _COLUMNS.items():
        right = "right" if name == "recorded after" else "left"
        shown.add_column(name, overflow="fold", justify=right, no_wrap=bool(width), min_width=width)  # type: ignore[arg-type]
    for row in table.to_pylist():
        occurred, recorded = from_datetime(row["occurred_at"]), from_datetime(row["recorded_at"])
        shown.add_row(
            moment(occurred).replace("T", " ").removesuffix("Z"),
            plain(f"{row['actor_type']}:{row['actor_id']}"),
            plain(row["action"]),
            plain(f"{row['target_type']}:{row['target_id']}"),
            Text(row["outcome"], style="" if row["outcome"] == "success" else "yellow"),
            f"{'-' if occurred > recorded else ''}{duration(recorded - occurred)}",
        )
    if total:
        OUT.print(shown)
    more = f", the first {table.num_rows} shown; use --format csv or -o FILE for all" if total > table.num_rows else ""
    OUT.print(Text(f"{total:,} event{'' if total == 1 else 's'}{more}. {lag}", style="dim"))


def show_attempts(attempts: Iterable[Any]) -> None:
    """A probe: what was tried, what the server answered, what that means."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("attempt", "the server's answer", "verdict"):
        table.add_column(name, overflow="fold")
    styles = {"held": "green", "broken": "bold red", "noted": "cyan"}
    for each in attempts:
        table.add_row(plain(each.attempt), plain(each.answer), Text(each.verdict, style=styles[each.verdict]))
    OUT.print(table)


def show_comparison(comparison: Comparison) -> None:
    """Two packets compared: the sentence, the faults, each file that differs, and where."""
    OUT.print(plain(comparison.headline()), style="bold green" if comparison.identical else "bold red")
    show_pairs([("then", comparison.then), ("now", comparison.now)])
    for name, version in comparison.versions.items():
        OUT.print(plain(f"{name}: version {version['then']} then, {version['now']} now"), soft_wrap=True)
    for findings in comparison.findings.values():
        show_findings(findings)
    tables = {table.name: table for table in comparison.tables}
    signs = {"same": ("=", "dim"), "unknown": ("?", "yellow"), "differs": ("✗", "bold red")}
    for file in comparison.files:
        sign, style = signs[file.meaning]
        OUT.print(Text.assemble((f"\n{sign} ", style), plain(file.name), ": ", plain(file.says)), soft_wrap=True)
        _show_places(file.places, "  ")
        for row in tables[file.name].rows if file.name in tables else ():
            numbers = [f"row {n} {when}" for when, n in (("then", row.then), ("now", row.now)) if n is not None]
            key = ", ".join(f"{name} {value}" for name, value in row.key.items())
            OUT.print(Text("  ").append_text(plain(f"{row.state}: {', '.join(numbers)}; {key}")), soft_wrap=True)
            if row.state == "changed":
                _show_places(row.columns, "    ")


def _show_places(places: Iterable[Place], indent: str) -> None:
    for place in places:
        OUT.print(Text(indent).append_text(plain(place.name)), soft_wrap=True)
        for when, value in (("then", place.then), ("now", place.now)):
            shown = Text("nothing", style="dim") if value is None else plain(value)
            OUT.print(Text(f"{indent}  {when:<5}", style="dim").append_text(shown), soft_wrap=True)


def show_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line; a value is never folded, so that a digest can be copied."""
    rows = [(name, value) for name, value in pairs]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        OUT.print(Text.assemble((f"{name:<{width}}  ", "dim"), plain(value)), soft_wrap=True)


def _state(number: int, report: Report) -> tuple[str, str]:
    severities = {finding.severity for finding in report.findings if finding.check == number}
    for severity in ("error", "warning"):
        if severity in severities:
            return _SIGNS[severity]
    if any(text.startswith(f"{number}:") for text in report.unchecked):
        return "-", "dim"
    return "✓", "green"


def _count(number: int, report: Report) -> str:
    count = sum(finding.check == number for finding in report.findings)
    if number == 0 and not count and not report.key_confirmed:
        return "the key is not confirmed"
    return f"{count} finding{'' if count == 1 else 's'}" if count else ""
