"""The auditor's request list: show what stands, answer all of it, add to it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditlib.cli.common import JsonOption, KeysOption, say, show_json
from auditlib.errors import AuditlibError, MalformedError

if TYPE_CHECKING:
    from auditlib.evidence.scope import Scope
    from auditlib.requests.asking import Span
    from auditlib.requests.building import Outcome
    from auditlib.requests.places import Opened, Source
    from auditlib.requests.standing import Standing

MAX_JOBS = 64  # processes
app = typer.Typer(help="The auditor's request list: what stands of it, build, new.")

ListOption = Annotated[
    Path, typer.Option("--requests", envvar="AUDITLIB_REQUESTS", help="The request list; by default the one here.")
]
MaybeVault = Annotated[
    str | None, typer.Option("--vault", envvar="AUDITLIB_VAULT", help="The vault, for requests that name no trail.")
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MAX_JOBS,
        help="Packets made at a time, each in a process that takes the memory of one. By default 2 where there are "
        "two cores and two requests or more, else 1.",
    ),
]
LIST, SCOPE = Path("requests.toml"), "scope.toml"


@app.callback(invoke_without_command=True)
def requests_show(
    context: typer.Context,
    requests: ListOption = LIST,
    folder: Annotated[
        Path, typer.Option("--dir", envvar="AUDITLIB_PACKETS", help="The folder of packets, as `build -o` made it.")
    ] = Path("packets"),
    vault: MaybeVault = None,
    key: KeysOption = None,
    reproduce: Annotated[bool, typer.Option("--reproduce", help="Make every packet again and compare.")] = False,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the list and what stands: never built, built at which checkpoint, reproduces or not."""
    if context.invoked_subcommand is not None:
        return
    from auditlib.requests import standing
    from auditlib.requests.model import read_requests
    from auditlib.requests.places import open_places

    listed = read_requests(requests)
    found = open_places(listed, listed.requests, _source(vault, key))
    failed = {trail: error for trail, error in found.items() if isinstance(error, AuditlibError)}
    places = {trail: place for trail, place in found.items() if not isinstance(place, AuditlibError)}
    lines = standing.standings(listed, folder, {trail: (place.origin, place.size) for trail, place in places.items()})
    if reproduce:
        from auditlib.display import progress_bar
        from auditlib.requests.remaking import remake_all

        asked = [(one, _all_of(one, places)) for one in lines]
        count = jobs or _jobs(sum(one.packet is not None for one in lines))
        with progress_bar("making again", quiet=as_json) as progress:
            lines = remake_all(asked, listed.folder, jobs=count, progress=progress)
    bad = any(one.unreadable or one.reproduces is False for one in lines)
    if as_json:
        errors = [str(error) for error in failed.values()]
        show_json({"ok": not bad and not failed, "requests": [_stated(one) for one in lines], "errors": errors})
    else:
        _show(lines, folder)
        for error in failed.values():
            say(f"auditlib: {error}")
    if bad or failed:
        raise typer.Exit(1 if bad else max(error.exit_code for error in failed.values()))


@app.command("build")
def requests_build(
    output: Annotated[Path, typer.Option("-o", help="The folder of packets; made where there is none.")],
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Requests of the list, or --all.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every request of the list.")] = False,
    period: Annotated[
        str | None,
        typer.Option(
            metavar="SINCE/UNTIL", help="2026-03-01/2026-06-01, for requests that fix no period of their own."
        ),
    ] = None,
    requests: ListOption = LIST,
    scope: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_SCOPE", help="The systems in scope; else scope.toml beside the list, if it is there."
        ),
    ] = None,
    vault: MaybeVault = None,
    key: KeysOption = None,
    zipped: Annotated[bool, typer.Option("--zip", help="Each packet as a .zip.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Put new packets in the place of older ones.")] = False,
    jobs: JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer requests, a packet each, with an index page and one digest. One that fails stops no other."""
    from auditlib.display import progress_bar
    from auditlib.evidence.scope import read_scope
    from auditlib.requests import building
    from auditlib.requests.asking import parse_span
    from auditlib.requests.index_page import check_index_place, make_index, write_index
    from auditlib.requests.model import read_requests
    from auditlib.requests.places import open_places
    from auditlib.requests.standing import standings

    if everything == bool(ids):
        raise MalformedError("name the requests to answer, or give --all.")
    listed = read_requests(requests)
    chosen = listed.requests if everything else listed.chosen(ids or [])
    if not chosen:
        raise MalformedError(
            "the list holds no request.", where=str(requests), remedy="Add one: auditlib requests new."
        )
    span = None if period is None else parse_span(period)
    place = scope or requests.parent / SCOPE
    systems = read_scope(place) if scope or place.exists() else None
    check_index_place(output)
    places = open_places(listed, chosen, _source(vault, key))
    work = building.plan(listed, chosen, places, span, output, zipped=zipped, replace=replace, scope=systems)
    ready = sum(one.error is None for one in work)
    count = jobs or _jobs(ready)
    with progress_bar("building", quiet=as_json) as progress:
        outcomes = building.build_all(work, jobs=count, progress=progress)
    code = building.exit_code(outcomes)
    digest: str | None = None
    rows: list[dict[str, Any]] = []
    told: list[str] = []
    if any(outcome.built for outcome in outcomes):
        found = [place for place in places.values() if not isinstance(place, AuditlibError)]
        rows, told = _scoped(systems, found, span)
        index = make_index(standings(listed, output), rows, told)
        write_index(index, output)
        digest = index.digest
    if as_json:
        show_json({"ok": code == 0, "index_digest": digest, "packets": list(map(_became, outcomes)), "scope": rows})
    else:
        _show_built(outcomes, told, output, digest)
    if code:
        raise typer.Exit(code)


@app.command("new")
def requests_new(
    name: Annotated[str, typer.Argument(help="The id of the request, and the name of its notebook.")],
    notebook: Annotated[
        str | None,
        typer.Option(help="A notebook that is there already: one of the library's, or a file beside the list."),
    ] = None,
    requests: ListOption = LIST,
    as_json: JsonOption = False,
) -> None:
    """Lay down a request of your own: a notebook that runs as it is, and its lines in the list."""
    from auditlib.display import show_pairs
    from auditlib.requests.laying import lay_down

    laid = lay_down(name, requests, notebook)
    if as_json:
        made = None if laid.notebook is None else str(laid.notebook)
        show_json({"ok": True, "requests": str(laid.requests), "notebook": made, "lines": laid.lines})
        return
    show_pairs(
        [
            ("list", f"{laid.requests}, {'started' if laid.started else 'with these lines added'}"),
            ("notebook", laid.notebook or notebook),
            ("next", f"edit both, then: auditlib requests build {name} --period SINCE/UNTIL -o DIR"),
        ]
    )
    print(f"\n{laid.lines}", end="")


def _jobs(ready: int) -> int:
    return min(2, os.cpu_count() or 1) if ready > 1 else 1


def _source(vault: str | None, keys: list[str] | None) -> Source | None:
    from auditlib.requests.places import source_of

    return None if vault is None else source_of(vault, keys)


def _scoped(
    systems: Scope | None, places: Sequence[Opened], span: Span | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of the systems in scope over all trails that answered requests, and what they say."""
    from auditlib.evidence.answer import period_of
    from auditlib.evidence.scope import scope_over, scope_sentences, scope_table

    if systems is None:
        return [], []
    if not places:
        return [], ["The systems in scope were not looked at: no trail was given, or none opened."]
    period = period_of(span.since if span else None, span.until if span else None, None, "UTC")
    tables = {}
    for place in sorted(places, key=lambda place: place.origin):
        if place.origin not in tables:
            with place.source.open(place.size) as trail:
                tables[place.origin] = scope_table(trail, systems, period)
    table = scope_over(tables)
    return table.to_dict("records"), scope_sentences(table)  # type: ignore[return-value]


def _all_of(one: Standing, places: Mapping[str | None, Opened]) -> list[Opened] | None:
    """The trails of a request; None where one of them is not open."""
    found = [places[trail] for trail in one.request.asked_of if trail in places]
    return found if len(found) == len(one.request.asked_of) else None


def _stated(one: Standing) -> dict[str, Any]:
    """The stable keys of `requests --json`; what is of one trail is null where there are several."""
    request, packet = one.request, one.packet
    sizes = packet.sizes if packet else {}
    return {
        "id": request.id,
        "trail": request.trails[0] if len(request.trails) == 1 else None,
        "trails": request.trails,
        "question": request.question,
        "control": request.control.id,
        "criteria": request.criteria,
        "due": request.due,
        "state": one.state,
        "checkpoint": next(iter(sizes.values())) if len(sizes) == 1 else None,
        "checkpoints": sizes,
        "now": next(iter(one.now.values())) if len(one.now) == 1 else None,
        "seals_since": one.since,
        "reproduces": one.reproduces,
        "exceptions": packet and packet.told.exceptions,
        "headline": packet and packet.told.headline,
        "packet": packet and str(packet.path),
        "packet_digest": packet and packet.packet_digest,
        "notes": list(one.notes),
    }


def _show(lines: Sequence[Standing], folder: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from auditlib.display import OUT, plain

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("request", "question", "due", "what stands", "exceptions", "packet"):
        table.add_column(name, overflow="fold", justify="right" if name == "exceptions" else "left")
    for one in lines:
        packet = one.packet
        words = plain(one.words())
        if packet is None or one.reproduces is False:
            words.stylize("red" if one.unreadable or one.reproduces is False else "yellow")
        table.add_row(
            plain(one.name),
            plain(one.request.question),
            plain(one.request.due or "-"),
            words,
            f"{packet.told.exceptions:,}" if packet else "-",
            plain(packet.path.name if packet else "-"),
        )
    if lines:
        OUT.print(table)
        OUT.print(Text("\npackets in ", style="dim").append_text(plain(folder)), soft_wrap=True)
    else:
        OUT.print("the list holds no request; add one: auditlib requests new NAME")
    for one in lines:
        for note in one.notes:
            OUT.print(Text.assemble((f"! {one.name}  ", "yellow"), plain(note)), soft_wrap=True)


def _became(outcome: Outcome) -> dict[str, Any]:
    """The stable keys of one packet in `requests build --json`."""
    built, error = outcome.built, outcome.error
    return {
        "name": outcome.name,
        "id": outcome.request,
        "ok": error is None,
        "path": built and built.path,
        "packet_digest": built and built.packet_digest,
        "evidence_digest": built and built.evidence_digest,
        "headline": built and built.headline,
        "exceptions": built and len(built.exceptions),
        "error": error and {"message": error.message, "where": error.where, "remedy": error.remedy},
        "exit_code": error.exit_code if error else 0,
    }


def _show_built(outcomes: Sequence[Outcome], told: Sequence[str], folder: Path, digest: str | None) -> None:
    from rich.text import Text

    from auditlib.display import ERR, OUT, plain, show_pairs

    for outcome in outcomes:
        if outcome.built:
            OUT.print(
                Text.assemble(("✓ ", "green"), plain(f"{outcome.name}: {outcome.built.headline}")), soft_wrap=True
            )
        else:
            ERR.print(Text.assemble(("✗ ", "bold red"), plain(outcome.error)), soft_wrap=True)
    for sentence in told:
        OUT.print(plain(sentence), soft_wrap=True)
    built = sum(outcome.built is not None for outcome in outcomes)
    pairs = [("packets", f"{built} of {len(outcomes)} built")]
    if digest:
        pairs += [("index digest", digest), ("open", str(folder / "index.html"))]
    show_pairs(pairs)
