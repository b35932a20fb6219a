"""The auditor's view: a click on the server against the same SQL alone, in a browser, over the wire, among twenty.

The server and the browser are those of the tests (tests/dashboards.py, browser.py, wire.py).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

import auditlib
from auditlib.dashboard.pages.search import BARS, FACET_ROWS, FACETS, ROWS
from auditlib.formats.seal import Seal
from auditlib.scoped import Question, ScopedTrail
from auditlib.trail import Trail
from benchmarks import measure
from benchmarks.data import NOW, Lab
from benchmarks.measure import Row, race, row

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from browser import CHROMIUM
from dashboards import FIND, IDLE, Dashboard, Person, engagement, until
from wire import Knocker, Socket

QUESTIONS = {
    "everything": Question(),
    "kind=check": Question(kind="check"),
    "outcome=denied": Question(outcome="denied"),
    "actor=user:u_42": Question(actor="user:u_42"),
    "one month": Question(since="2026-03-01", until="2026-04-01"),
}
PEOPLE = [f"auditor{number}@auditor.example" for number in range(5)]
SESSIONS = PEOPLE * 4  # twenty, each signed in for itself
CLICKS = ["kind=check", "outcome=denied", "actor=user:u_42", "since=2026-01-03", ""]  # of each of them, in turn
SCOPE = {"vaults": ("bench.example/audit",), "rows_per_export": 1_048_575}
FEW_BYTES = 256 * 1024  # of a page of 50 events; an aim of ours
PAINTED, CLICKED = 1.8, 0.2  # seconds; web.dev: a good First Contentful Paint, and a good Interaction to Next Paint

_Asked = tuple[list[Seal], str, list[Any]]


def rows(lab: Lab) -> Iterator[Row]:
    yield from _server(lab)
    if CHROMIUM:
        yield from _browser()
    yield from _among_twenty(lab)


def _server(lab: Lab) -> Iterator[Row]:
    """What pages/search.py asks for one click, and the very statements that this comes to, in bare DuckDB."""
    held = engagement("bench", "ines@auditor.example", **SCOPE)
    files = {int(path.name.partition("-")[0]): str(path) for path in lab.files}
    with auditlib.open(lab.vault, keys=lab.key) as trail, duckdb.connect() as raw:
        raw.execute("SET TimeZone = 'UTC'")
        raw.execute("SET parquet_metadata_cache = true")
        scoped = ScopedTrail(trail, lambda: held, lambda: NOW)

        def click(question: Question) -> int:
            scoped.search(question, limit=ROWS)
            return scoped.summary(question, tuple(FACETS), FACET_ROWS, BARS).events

        for name, question in QUESTIONS.items():
            asked, events = _listen(trail, lambda question=question: click(question))
            plain = [(_over(files, seals, statement), values) for seals, statement, values in asked]

            def bare(plain: Sequence[tuple[str, list[Any]]] = plain) -> None:
                for statement, values in plain:
                    raw.sql(statement, params=values).to_arrow_table()

            ours, limit = race(lambda question=question: click(question), bare, rounds=5)
            note = (
                f"{lab.events:,} events, {events:,} answer; page, count, histogram and {len(FACETS)} facets, as the "
                f"library gives them; limit: the same {len(plain)} statements in bare DuckDB. Aims: 1.2, and 500 ms "
                "at 10,000,000 events on two cores"
            )
            yield row(f"dashboard, a click on the server: {name}", ours * 1e3, limit * 1e3, "ms", note)


def _listen(trail: Trail, work: Any) -> tuple[list[_Asked], Any]:
    """What `work` asks of the trail, and what it gives."""
    asked: list[_Asked] = []
    run = trail.run

    def told(seals: list[Seal], statement: str, values: list[Any]) -> duckdb.DuckDBPyRelation:
        asked.append((seals, statement, values))
        return run(seals, statement, values)

    trail.run = told  # type: ignore[method-assign]
    try:
        return asked, work()
    finally:
        del trail.run


def _over(files: dict[int, str], seals: list[Seal], statement: str) -> str:
    """The statement over plain files, unchecked."""
    numbers = [seal.sequence for seal in seals]
    columns = f"{numbers or [0]}[(file_index + 1)::BIGINT]::BIGINT AS sequence, file_row_number::BIGINT AS row, *"
    paths = [files[number] for number in numbers] or [files[0]]
    source = f"SELECT {columns} FROM read_parquet({paths}, hive_partitioning = false) WHERE {bool(numbers)}"
    return f"WITH batches AS ({source}) {statement}"


def _browser() -> Iterator[Row]:
    """The sample trail in Chromium, by the clock of this process: with what the browser itself takes."""
    with TemporaryDirectory(prefix="auditlib-bench-dashboard-") as folder:
        served = Dashboard(Path(folder), [engagement("whole", "ines@auditor.example")])
        ines = Person(served, Path(folder) / "profile", "ines@auditor.example")
        try:
            ines.sign_in()
            opened, painted, clicked, sent = [], [], [], []
            for _ in range(min(5, measure.most_rounds)):
                start = time.perf_counter()
                ines.go("search")
                opened.append(time.perf_counter() - start)
                painted.append(ines.browser.js("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                ines.browser.events.clear()
                start = time.perf_counter()
                ines.browser.js(f"void {FIND}('.facets a').find((node) => node.textContent === 'success').click()")
                ines.browser.wait(IDLE)
                clicked.append(time.perf_counter() - start)
                frames = [
                    e["params"] for e in ines.browser.events if e.get("method") == "Network.webSocketFrameReceived"
                ]
                sent.append(sum(len(frame["response"]["payloadData"].encode()) for frame in frames))
        finally:
            ines.close()
            served.stop()
    what = "the sample trail in headless Chromium, search page"
    good = "limit: what web.dev calls good"
    yield row("dashboard, first contentful paint", min(painted) / 1e3, PAINTED, "s", f"{what}; {good}")
    yield row("dashboard, page with its answer", min(opened), PAINTED, "s", f"{what}, from the address on; {good}")
    yield row("dashboard, a filter click", min(clicked), CLICKED, "s", f"{what}, until the answer stands; {good}")
    note = f"{what}: {ROWS} events, bars and facets after a filter click, websocket payload before compression"
    yield row("dashboard, bytes of an answer", max(sent) / 1024, FEW_BYTES / 1024, "KiB", f"{note}; limit: the aim")


def _among_twenty(lab: Lab) -> Iterator[Row]:
    """Twenty sign-ins click, each again once it was answered: without and then beside a workbook of three months."""
    with TemporaryDirectory(prefix="auditlib-bench-dashboard-") as folder:
        key = Path(folder) / "bench.vkey"
        key.write_text(f"{lab.key}\n")
        people = [engagement(f"e{number}", who, **SCOPE) for number, who in enumerate([*PEOPLE, "export@x.example"])]
        served = Dashboard(Path(folder), people, vault=Path(lab.vault), key=key)
        try:
            pages = [_page(Knocker(served, who)) for who in SESSIONS[: 20 if measure.most_rounds > 1 else 1]]
            one, alone = _clicks(pages[:1], 0), _clicks(pages, 1)
            exporting = Knocker(served, people[-1].identity)
            page = _page(exporting)
            page.ask(1, "export=xlsx&until=2026-04-01")
            handed = served.state / "handed"
            until(lambda: list(handed.iterdir()))
            beside = _clicks(pages, 2)
            unfinished = not any(path.suffix == ".xlsx" for path in handed.iterdir())
            exporting.sign_out()
            for each in [*pages, page]:
                each.close()
        finally:
            served.stop()
    what = (
        f"{lab.events:,} events; {len(pages)} sessions click without a pause, {len(beside)} clicks, each timed from "
        f"question to answer over the websocket; a workbook of three months {'being' if unfinished else 'was'} made"
    )
    note = f"{what}; limit: the same without the workbook. One session alone: {statistics.median(one) * 1e3:,.0f} ms"
    figures = statistics.median(beside), statistics.median(alone)
    yield row("dashboard, twenty sessions, median click", figures[0] * 1e3, figures[1] * 1e3, "ms", note)
    yield row("dashboard, twenty sessions, worst click", max(beside) * 1e3, max(alone) * 1e3, "ms", note)


def _page(who: Knocker) -> Socket:
    page = who.page("search")
    page.ready()
    page.wait()
    return page


def _clicks(pages: Sequence[Socket], turn: int) -> list[float]:
    """How long each click took, of all pages at once; each page begins with another question."""

    def clicks(page: Socket, place: int) -> list[float]:
        taken = []
        for number in range(len(CLICKS)):
            start = time.perf_counter()
            page.answer(1 + turn * len(CLICKS) + number, CLICKS[(place + number) % len(CLICKS)])
            taken.append(time.perf_counter() - start)
        return taken

    with ThreadPoolExecutor(len(pages)) as pool:
        return [one for taken in pool.map(clicks, pages, range(len(pages))) for one in taken]
