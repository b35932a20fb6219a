"""Twenty sign-ins at once: each is answered, nobody waits for another's export, and the server does not swell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from dashboards import Dashboard, engagement, until
from wire import Knocker, Socket

from benchmarks import data

PEOPLE = [f"auditor{number}@auditor.example" for number in range(7)]
SESSIONS = (PEOPLE * 3)[:20]  # each is signed in three times: so many exports of one person may wait
EVENTS = 200_000  # so many that a workbook of all takes far longer than a click
ROUNDS = 3
CLICKS = 2  # of each session in a round
MEMORY = 256 * 2**20  # bytes by which twenty people's clicks may let the server grow once each has clicked
ASKED = ["", "kind=grant", "outcome=denied", "actor=user:u_7", "kind=check&since=2026-01-03", "action=data.*"]
_Result = TypeVar("_Result")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard over a trail of some size, for twenty people who may each export all of it."""
    folder = tmp_path_factory.mktemp("load")
    with data.lab(EVENTS) as lab:
        key = folder / "bench.vkey"
        key.write_text(f"{lab.key}\n")
        limits = {"vaults": ("bench.example/audit",), "rows_per_export": EVENTS}
        people = [engagement(f"e{number}", who, **limits) for number, who in enumerate(PEOPLE)]
        running = Dashboard(folder, people, vault=Path(lab.vault), key=key)
        yield running
        running.stop()


@pytest.fixture(scope="module")
def people(served: Dashboard) -> list[Knocker]:
    """All of them, signed in."""
    return at_once([lambda who=who: Knocker(served, who) for who in SESSIONS])


@pytest.fixture
def pages(people: list[Knocker]) -> Iterator[list[Socket]]:
    """The search page of each, open and answered."""

    def opened(who: Knocker) -> Socket:
        page = who.page("search")
        page.ready()
        page.wait()
        return page

    found = at_once([lambda who=who: opened(who) for who in people])
    yield found
    for page in found:
        page.close()


def at_once(works: list[Callable[[], _Result]]) -> list[_Result]:
    """What each gives, all of them in threads of their own."""
    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]


def memory(served: Dashboard) -> int:
    """Bytes of the server that lie in memory: VmRSS of proc(5)."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{served.process.pid}/status").read_text(), re.MULTILINE)
    assert found
    return 1024 * int(found.group(1))


def handed(served: Dashboard) -> list[Path]:
    """Files that are being made for somebody, or offered."""
    return list((served.state / "handed").iterdir())


def test_twenty_people_search_at_once_and_each_is_answered(served: Dashboard, pages: list[Socket]) -> None:
    """Different questions, answered as they are when asked alone; the server does not grow with the clicks."""

    def click(page: Socket, place: int) -> str:
        return headline(page.answer(place + 1, ASKED[place % len(ASKED)]))

    alone = [click(pages[0], place) for place in range(len(ASKED))]
    assert len(set(alone)) == len(ASKED) and f"{EVENTS:,}" in alone[0]
    grown = []
    for first in range(len(ASKED), len(ASKED) + ROUNDS * CLICKS, CLICKS):
        places = [[first + n + more for more in range(CLICKS)] for n in range(len(pages))]
        works = [
            lambda page=page, mine=mine: [click(page, place) for place in mine]
            for page, mine in zip(pages, places, strict=True)
        ]
        assert at_once(works) == [[alone[place % len(ASKED)] for place in mine] for mine in places]
        grown.append(memory(served))
    assert max(grown[1:]) - grown[0] < MEMORY, grown


def test_twenty_people_export_at_once_and_each_gets_their_file(served: Dashboard, people: list[Knocker]) -> None:
    """They wait for their turn, none is refused, every file is fetched once and then gone."""

    def export(who: Knocker) -> bytes:
        with who.shown("search?kind=grant&export=csv") as page:
            found = re.search(r'href="(handed/[A-Za-z0-9_-]+)"', page.everything().replace("\\", ""))
            assert found, page.everything()[-2000:]
            got = who.get(found.group(1))
            assert got.status == 200
            return got.data

    files = at_once([lambda who=who: export(who) for who in people])
    assert len(set(files)) == 1 and files[0].count(b"\r\n") > 500
    until(lambda: not handed(served))
    assert [act["action"] for act in served.acts()].count("evidence.export") == len(people)


def test_a_long_export_keeps_nobody_waiting_and_ends_with_its_sign_in(
    served: Dashboard, people: list[Knocker], pages: list[Socket]
) -> None:
    """All others' clicks are answered while a workbook is being made; who signs out leaves nothing of it behind."""
    exporting, others = pages[0], pages[1:]
    exporting.ask(1, "export=xlsx")
    until(lambda: handed(served))
    asked = ["outcome=failure", "kind=grant"]
    told = at_once([lambda page=page: [page.answer(n, query) for n, query in enumerate(asked, 1)] for page in others])
    assert all("answer this" in headline(answer) for answers in told for answer in answers)
    assert not any(path.suffix == ".xlsx" for path in handed(served)), "the workbook was done: give it more events"
    assert handed(served)
    assert people[0].sign_out().status == 303
    until(lambda: not handed(served))
    assert served.process.poll() is None


def headline(answer: str) -> str:
    """How many events answer, in the page's words."""
    found = re.search(r'class=\\?"headline\\?".*?</p>', answer)
    assert found, answer[-2000:]
    return re.sub(r"<[^>]*>", "", found.group())
