"""`python -m benchmarks.tables`: write the measured figures into docs/performance.md, between its markers.

    <!-- measured: results -->
    ...                             written by this module, from benchmarks/*.json
    <!-- end -->

No figure of those sections is typed by hand; a test holds the page and the results together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks import estimate
from benchmarks.large import RESULTS as LARGE
from benchmarks.machine import Machine, machine_path
from benchmarks.measure import Row
from benchmarks.profiles import PROFILES, Profile

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
RESULTS = Path(__file__).with_name("results.json")
BEFORE = Path(__file__).with_name("results-before.json")
PROFILES_BEFORE = Path(__file__).with_name("profiles-before.json")
PEER = "peer: "
_SECTION = re.compile(r"(<!-- measured: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.S)
# "Aim: 1.2", "aim 3", "Aims: 1.2, and ...": a ratio. "Aim: 0.35 of it": a share of the limit's rate.
_AIM = re.compile(r"[Aa]ims?:? (?P<number>[0-9]+(?:\.[0-9]+)?)(?P<share> of it)?")


def renewed(page: str) -> str:
    """The page with each marked section written anew."""
    return _SECTION.sub(lambda found: f"{found[1]}{SECTIONS[found['name']]()}\n{found[3]}", page)


def aim(row: Row) -> float | None:
    """The ratio that the row's note aims at; None where it names none."""
    if found := _AIM.search(row.note):
        number = float(found["number"])
        return 1 / number if found["share"] else number
    return 1.0 if re.search(r"[Ll]imit: the aim", row.note) else None


def _rows(path: Path) -> list[Row]:
    return msgspec.json.decode(path.read_bytes(), type=list[Row]) if path.exists() else []


def _machine(path: Path) -> Machine | None:
    place = machine_path(path)
    return msgspec.json.decode(place.read_bytes(), type=Machine) if place.exists() else None


def _own(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row.name.startswith(PEER)]


def _results() -> str:
    return _measured(RESULTS, "make bench")


def _large() -> str:
    return _measured(LARGE, "make bench-large")


def _measured(path: Path, command: str) -> str:
    rows = _own(_rows(path))
    if not rows:
        return f"Not measured yet: `{command}` writes this table."
    table = [
        (row.name, _number(row.ours), _number(row.limit), row.unit, f"{row.ratio:.2f}", _aim_text(row), row.note)
        for row in rows
    ]
    header = ("what", "ours", "limit", "unit", "ratio", "aim", "how")
    return f"{_on(path)}\n\n{_markdown(header, table)}"


def _on(path: Path) -> str:
    machine = _machine(path)
    if machine is None:
        return "The machine of this run was not written down."
    libraries = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    instructions = "with" if machine.sha_instructions else "without"
    return (
        f"{machine.date}, {machine.events:,} events: {machine.processor} ({instructions} SHA instructions), "
        f"{machine.cores} cores, {machine.memory_gib} GiB, {machine.system}; Python {machine.python}, "
        f"{machine.openssl}, {libraries}."
    )


def _missed() -> str:
    """Every row whose ratio is past its aim, of both runs."""
    table = [
        (row.name, run, f"{row.ratio:.2f}", _aim_text(row))
        for path, run in ((RESULTS, "make bench"), (LARGE, "make bench-large"))
        for row in _own(_rows(path))
        if (goal := aim(row)) and row.ratio > goal
    ]
    return _markdown(("what", "run", "ratio", "aim"), table) if table else "No row of the tables is past its aim."


def _peers() -> str:
    both = ([row for row in _rows(path) if row.name.startswith(PEER)] for path in (RESULTS, LARGE))
    rows = next(filter(None, both), [])  # the same events in both runs
    if not rows:
        return "Not measured yet: `make bench-peers` installs the peers, `make bench` runs them."
    table = [
        (row.name.removeprefix(PEER), _number(row.ours), _number(row.limit), row.unit, _times(row.ratio), row.note)
        for row in rows
    ]
    return _markdown(("peer", "ours", "theirs", "unit", "ours is", "how"), table)


def _before() -> str:
    after = {row.name: row for row in _rows(RESULTS)}
    table = [
        (row.name, f"{row.ratio:.2f}", f"{after[row.name].ratio:.2f}", _aim_text(after[row.name]))
        for row in _rows(BEFORE)
        if row.name in after
    ]
    return _markdown(("what", "ratio before", "ratio now", "aim"), table)


def _profiled() -> str:
    before = {each.work: each for each in _profiles(PROFILES_BEFORE)}
    parts = []
    for now in _profiles(PROFILES):
        was = before.get(now.work)
        shares = dict(was.places) if was else {}
        names = [name for name, _ in now.places] + [name for name in shares if name not in dict(now.places)]
        table = [(f"`{name}`", _share(dict(now.places).get(name)), _share(shares.get(name))) for name in names]
        parts.append(f"**{now.work}**: {_number(now.seconds)} s\n\n{_markdown(('where', 'now', 'before'), table)}")
    return "\n\n".join(parts) or "Not measured yet: `python -m benchmarks.profiles` writes these tables."


def _profiles(path: Path) -> list[Profile]:
    return msgspec.json.decode(path.read_bytes(), type=list[Profile]) if path.exists() else []


def _estimated() -> str:
    rows = {row.name: row for path in (RESULTS, LARGE) for row in _rows(path)}
    chain = None
    for path in (RESULTS, LARGE):  # the longer run says more: its fixed costs are a smaller part
        machine, found = _machine(path), {row.name: row for row in _rows(path)}.get(estimate.CHAIN)
        if machine and found:
            chain = estimate.Chain(found, machine.events, machine.cores)
    header = ("what", "formula", *(f"b = {batch:,}" for batch in estimate.BATCHES))
    return _markdown(header, list(estimate.lines(rows, chain)))


SECTIONS: dict[str, Callable[[], str]] = {
    "results": _results,
    "large": _large,
    "missed": _missed,
    "peers": _peers,
    "before": _before,
    "profiles": _profiled,
    "estimate": _estimated,
}


def _aim_text(row: Row) -> str:
    goal = aim(row)
    return "" if goal is None else f"{goal:.3g}"


def _times(ratio: float) -> str:
    if not ratio:
        return ""
    return f"{1 / ratio:,.1f} times faster" if ratio < 1 else f"{ratio:,.1f} times slower"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _markdown(header: Sequence[str], table: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def all_lines() -> Iterator[str]:
        yield line(header)
        yield line(["---"] * len(header))
        yield from map(line, table)

    return "\n".join(all_lines())


def main() -> None:
    PAGE.write_text(renewed(PAGE.read_text()))
    print(f"Written: {PAGE}")


if __name__ == "__main__":
    main()
