"""The auditor's view in a real browser, over real HTTP and websockets: what people do, and what hostile ones may."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM
from dashboards import FIND, IDLE, KEY, ROOT, VAULT, Dashboard, Person, engagement, until
from npm_packages import npm_packages

import auditlib
from auditlib.engagements import revoke_engagement
from auditlib.packet.bag import open_bag

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian package `chromium`)")

WHOLE = engagement("whole", "ines@auditor.example", requests=("*",), proofs=True)
NARROW = engagement(
    "narrow",
    "omar@auditor.example",
    kinds=("grant",),
    since="2026-03-01",
    until="2026-04-01",
    redact=("context.ip",),
    rows_per_export=100,
)
ADMIN = engagement("admin", "maria@acme.example", role="admin", requests=("*",), proofs=True)
SOON_GONE = engagement("gone", "lea@auditor.example")


PROOF = "search?actor=u_1028&outcome=denied&since=2026-05-12&until=2026-05-13&export=proof"  # made by one test


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """One dashboard over the sample trail for the tests of this module."""
    folder = tmp_path_factory.mktemp("dashboard")
    requests = ROOT / "data-samples" / "requests.toml"
    running = Dashboard(folder, [WHOLE, NARROW, ADMIN, SOON_GONE], "--requests", str(requests))
    yield running
    running.stop()


def person(served: Dashboard, tmp_path_factory: pytest.TempPathFactory, identity: str) -> Iterator[Person]:
    somebody = Person(served, tmp_path_factory.mktemp("profile"), identity)
    somebody.sign_in()
    yield somebody
    somebody.close()


@pytest.fixture(scope="module")
def ines(served: Dashboard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Sees the whole trail."""
    yield from person(served, tmp_path_factory, "ines@auditor.example")


@pytest.fixture(scope="module")
def omar(served: Dashboard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Sees the grants of one month, without addresses."""
    yield from person(served, tmp_path_factory, "omar@auditor.example")


@pytest.fixture(scope="module")
def grants() -> list[dict[str, Any]]:
    """What Omar may see, by the library and not by the page."""
    with auditlib.open(VAULT, keys=[KEY]) as trail:
        rows: list[dict[str, Any]] = (
            trail.events(kind="grant", since="2026-03-01", until="2026-04-01").arrow().to_pylist()
        )
        return rows


# --- what a person does --------------------------------------------------------------------------------------


def test_an_auditor_searches_opens_an_event_and_checks_its_proof(ines: Person, grants: list[dict[str, Any]]) -> None:
    """Sign in, search, narrow, open, check in the browser itself: each step leads on from the last."""
    ines.go("search")
    ines.click(".facets a", "check")
    ines.click("a", "Clear")
    ines.browser.js(
        f"(() => {{ const form = {FIND}('form.filters')[0]; form.elements.kind.value = 'grant';"
        " form.elements.since.value = '2026-03-01'; form.elements.until.value = '2026-04-01';"
        " form.elements.since.focus(); form.requestSubmit(); })()"
    )
    until(lambda: "kind=grant" in ines.browser.js("location.search"))
    ines.browser.wait(IDLE)
    assert ines.counted() == len(grants)
    ines.click("td.id a")
    until(lambda: "/event" in ines.browser.js("location.pathname"))
    ines.browser.wait(IDLE)
    until(lambda: ines.browser.js(f"{FIND}('[data-check-proof]').length") == 1)
    ines.browser.js(f"void {FIND}('[data-check-proof]')[0].click()")
    until(lambda: "✓" in ines.text() and "Checking" not in ines.text())
    assert "✗" not in ines.text()


def test_an_address_that_was_kept_shows_the_same_answer(ines: Person, grants: list[dict[str, Any]]) -> None:
    """What is asked stands in the address, so that it can be kept and shared; back and forward work."""
    ines.go("search", kind="grant", since="2026-03-01", until="2026-04-01", actor=grants[0]["actor_id"])
    mine = sum(row["actor_id"] == grants[0]["actor_id"] for row in grants)
    assert ines.counted() == mine
    ines.click(".facets a", "success")
    ines.browser.js("history.back()")
    until(lambda: "outcome" not in ines.browser.js("location.search"))
    ines.browser.wait(IDLE)
    assert ines.counted() == mine


def test_pages_follow_one_another_without_gap_or_repeat(omar: Person, grants: list[dict[str, Any]]) -> None:
    """Every grant of the month comes once, newest recorded first."""
    omar.go("search")
    seen: list[str] = []
    while True:
        seen += omar.browser.js(f"{FIND}('td.id a').map((node) => node.textContent)")
        if not omar.browser.js(f"{FIND}('a[rel=next]').length"):
            break
        here = omar.browser.js("location.search")
        omar.click("a[rel=next]")
        until(lambda here=here: omar.browser.js("location.search") != here)
        omar.browser.wait(IDLE)
    assert len(seen) == len(grants) and set(seen) == {row["event_id"] for row in grants}


@pytest.mark.parametrize("form", ["CSV", "XLSX", "PARQUET", "JSONL"])
def test_an_export_is_the_answer_and_its_hash_was_recorded_before(ines: Person, form: str) -> None:
    """The file holds every row that was counted; what was recorded names its hash; the link works once."""
    ines.go("search", kind="grant", since="2026-03-01", until="2026-04-01")
    rows = ines.counted()
    ines.click(".exports a", form)
    until(lambda: ines.browser.js(f"{FIND}('a[download]').length"))
    href = ines.browser.js(f"{FIND}('a[download]')[0].getAttribute('href')")
    got = ines.fetch(href)
    assert got.status == 200 and "attachment" in got.headers["Content-Disposition"]
    assert sha256(got.data).hexdigest() in ines.text()
    if form == "CSV":
        assert len(list(csv.DictReader(io.StringIO(got.data.decode("utf-8-sig"))))) == rows
    assert "evidence.export" in [act["action"] for act in ines.served.acts()]
    assert ines.fetch(href).status == 404


def test_a_request_is_run_and_its_packet_verifies_anywhere(ines: Person, tmp_path: Path) -> None:
    """From the list to a packet that the command line, on its own, finds nothing wrong with."""
    ines.go("requests", id="AC-03")
    ines.click("button", "Run")
    until(lambda: ines.browser.js(f"{FIND}('a, button').some((node) => /packet/i.test(node.textContent))"), 240)
    ines.click("a, button", "packet")
    href = until(lambda: ines.browser.js(f"{FIND}('a[href^=\"handed/\"]')[0]?.getAttribute('href')"))
    packet = tmp_path / "packet.zip"
    packet.write_bytes(ines.fetch(href).data)
    command = [sys.executable, "-m", "auditlib.cli", "packet", "verify", str(packet), "--key", str(KEY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_a_search_found_is_taken_away_with_proof_that_holds_anywhere(ines: Person, tmp_path: Path) -> None:
    """Search, with proof, made, downloaded: the command line and the verifier that needs nothing find it right."""
    ines.go("search", actor="u_1028", outcome="denied", since="2026-05-12", until="2026-05-13")
    found = ines.counted()
    ines.click(".exports a", "with proof")
    until(lambda: ines.browser.js(f"{FIND}('button').some((node) => /Make the packet/.test(node.textContent))"))
    assert ines.counted() == found and "The seals of the batches in which its events stand" in ines.markup()
    ines.click("button", "Make the packet")
    until(lambda: ines.browser.js(f"{FIND}('button').some((node) => /Download/.test(node.textContent))"), 240)
    ines.click("button", "Download the packet")
    href = until(lambda: ines.browser.js(f"{FIND}('a[href^=\"handed/\"]')[0]?.getAttribute('href')"))
    packet = tmp_path / "packet.zip"
    packet.write_bytes(ines.fetch(href).data)
    assert ines.fetch(href).status == 404
    key = KEY.read_text().strip()
    verifier = ROOT / "auditlib" / "packet" / "templates" / "verify.py"
    for command in (["-m", "auditlib.cli", "packet", "verify", str(packet)], [verifier, packet]):
        done = subprocess.run([sys.executable, *command, "--key", key], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    with open_bag(packet) as bag:
        told = json.loads(bag.read("data/packet.json"))
    assert told["records"] == found == 60 and told["systems"] and told["request"] == "events"
    acts = [act["action"] for act in ines.served.acts()]
    assert acts.index("evidence.request") < len(acts) - 1 - acts[::-1].index("evidence.export")


def test_revoked_in_the_middle_nothing_more_is_shown(served: Dashboard, tmp_path: Path) -> None:
    """The next click is refused, without a restart and without a page load."""
    lea = Person(served, tmp_path / "profile", "lea@auditor.example")
    try:
        lea.sign_in()
        lea.go("search")
        assert lea.browser.js(f"{FIND}('td.id a').length") > 0
        revoke_engagement(served.engagements, "gone", by="maria", reason="over", now=lambda: 1_800_000_000_000_000)
        lea.click(".facets a")
        until(lambda: lea.browser.js(f"{FIND}('.refusal').length"))
        assert lea.browser.js(f"{FIND}('td.id a').length") == 0
        assert "You have no access here now" in lea.text()
    finally:
        lea.close()


def test_what_cannot_be_recorded_is_not_shown(ines: Person) -> None:
    """While what was asked cannot be kept, a search shows a refusal and no event; afterwards it answers again."""
    kept = ines.served.state / "disclosed"
    aside = kept.rename(kept.with_name("disclosed-aside"))
    kept.write_text("no folder any more")
    try:
        told = ines.go("search")
        assert ines.browser.js(f"{FIND}('td.id a').length") == 0
        assert "events within your scope" not in told
    finally:
        kept.unlink()
        aside.rename(kept)
    assert "events within your scope" in ines.go("search")


# --- what a hostile person tries -----------------------------------------------------------------------------


@cache
def outside() -> tuple[list[str], dict[str, Any]]:
    """Texts that stand in events outside Omar's scope and in none within it, and one such event."""
    with auditlib.open(VAULT, keys=[KEY]) as trail:
        inside = trail.events(kind="grant", since="2026-03-01", until="2026-04-01").arrow().to_pylist()
        others = trail.events(kind="login", since="2026-03-01", until="2026-03-08").arrow().to_pylist()
    mine = json.dumps(inside, default=str)
    ids = [row["event_id"] for row in others[:200]]
    sources = {row["source"] for row in others} - {row["source"] for row in inside}
    return [text for text in [*ids, *sorted(sources)] if text not in mine], others[0]


HOSTILE = (
    {"kind": "login"},
    {"action": "user.login"},
    {"action": "*"},
    {"since": "1970-01-01", "until": "9999-12-31"},
    {"since": "2026-03-02", "until": "2026-03-03", "kind": "login", "source": "*"},
    {"actor": "*", "target": "*", "source": "identity/*"},
    {"where": "ip=203.0.113.40"},
    {"where": "granted_role') OR 1=1 --=x"},
    {"kind": "nothing-of-the-kind"},
    {"after": "AAAA"},
    {"limit": "100000", "rows": "100000", "page_size": "100000"},
    {"engagement": "whole"},
    {"engagement": "narrow", "vault": "../../etc"},
    {"export": "csv", "kind": "login"},
    {"export": "proof"},
    {"export": "proof", "kind": "login", "do": "run"},
    {"tz": "../../etc/passwd"},
    {"outcome": "denied"},
)


@pytest.mark.parametrize("query", HOSTILE, ids="&".join)
def test_no_address_shows_what_lies_outside_the_scope(omar: Person, query: dict[str, str]) -> None:
    """Whatever is asked: not one event id, source or count of what is not his."""
    secrets, _ = outside()
    omar.go("search", **query)
    shown = omar.markup()
    assert [secret for secret in secrets if secret in shown] == []
    assert "62,3" not in shown


@pytest.mark.parametrize("page", ["event", "overview", "integrity", "requests", "access"])
def test_no_page_shows_what_lies_outside_the_scope(omar: Person, page: str) -> None:
    """An event that is not his looks like one that does not exist; no page counts what he may not see."""
    secrets, other = outside()
    omar.go(page, id=other["event_id"], source=other["source"])
    theirs = omar.markup()
    asked = {other["event_id"], other["source"]}
    assert [secret for secret in secrets if secret in theirs and secret not in asked] == []
    assert other["actor_id"] not in theirs or page != "event"
    if page == "event":
        told = omar.text()
        omar.go(page, id="01" + "A" * 24, source=other["source"])
        assert omar.text().replace("01" + "A" * 24, other["event_id"]) == told


def test_every_property_of_every_model_may_be_written_and_shows_nothing_more(omar: Person) -> None:
    """The browser owns its models: each number, text and truth value is set to what might open something."""
    secrets, _ = outside()
    for page in ("search", "requests", "access", "event"):
        omar.go(page)
        omar.browser.js(
            "(() => { const values = { number: [0, -1, 1e9], boolean: [true, false], string: ['login', '9999', '*'] };"
            " for (const open of Bokeh.documents) for (const model of open._all_models.values())"
            " for (const property of model) { const kind = typeof property.get_value();"
            " for (const value of values[kind] || []) try { property.set_value(value) } catch {} } })()"
        )
        omar.browser.js(
            "(() => { const ask = Bokeh.documents[0].get_model_by_name('ask');"
            " for (const text of ['1 ?kind=login', '-5 ?kind=login', 'x', '7 ' + 'a'.repeat(30000),"
            " '8 ?engagement=whole', '99999999999999 ?kind=login&after=x']) if (ask) ask.value = text; })()"
        )
        omar.browser.js("new Promise((done) => setTimeout(done, 1500))")
        shown = omar.markup()
        assert [secret for secret in secrets if secret in shown] == []
    assert omar.served.process.poll() is None


def test_two_auditors_at_once_see_each_their_own(ines: Person, omar: Person) -> None:
    """The same address, asked by both in turn, answers each within their scope."""
    for _ in range(3):
        hers, his = ines.go("search", kind="grant"), omar.go("search", kind="grant")
        assert ines.counted() > omar.counted()
    assert "Narrower than the request" in his and "Narrower than the request" not in hers


def test_a_websocket_opens_only_the_page_of_its_own_sign_in(ines: Person, omar: Person) -> None:
    """Omar has Ines's page token: his sign-in does not open her page."""
    ines.go("search")
    token = ines.browser.js(
        "Object.values(Bokeh.index)[0]?.model.document?.session?._connection?.token ?? Bokeh.documents.length"
    )
    page = ines.fetch("search").data.decode()
    token = page.partition('"token":"')[2].partition('"')[0]
    assert len(token) > 100
    opens = (
        "new Promise((done) => { const socket = new WebSocket(location.origin.replace('http', 'ws') + '/search/ws',"
        f" ['bokeh', {json.dumps(token)}]); socket.onmessage = () => done('opened');"
        " socket.onclose = () => done('closed'); socket.onerror = () => done('closed') })"
    )
    omar.go("search")
    assert omar.browser.js(opens) == "closed"
    assert ines.browser.js(opens) == "opened"


def test_files_are_not_reached_by_their_paths(omar: Person) -> None:
    """Whatever path is asked for: no file of the state folder, of the library or of the machine."""
    for path in (
        *("assets/../server.py", "assets/%2e%2e/server.py", "assets/..%2f..%2fcatalog.toml", "handed/../journal.jsonl"),
        *("handed/x", "static/../../../../etc/passwd", "components/auditlib.dashboard.server/x", "assets/"),
        *("search/autoload.js", "search/metadata", "rest/session_info", "admin", "liveness"),
    ):
        got = omar.fetch(path)
        assert got.status in (301, 302, 400, 403, 404, 405), (path, got.status)
        assert b"root:" not in got.data and b"import " not in got.data


# --- how it looks and reads ----------------------------------------------------------------------------------

PAGES = ("overview", "search", "requests", "integrity", "access")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("width", [390, 600, 2560])
def test_no_page_is_wider_than_its_window(ines: Person, page: str, width: int) -> None:
    """From a telephone to a wall: nothing has to be scrolled sideways. 600 pixels is 1,200 at 200 %."""
    ines.go(page)
    ines.browser.window(width)
    try:
        wide = ines.browser.js("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0
    finally:
        ines.browser.window(1200)


@pytest.mark.parametrize("page", PAGES)
def test_the_policy_of_a_page_is_kept_by_the_page_itself(ines: Person, page: str) -> None:
    """Nothing is blocked, nothing fails, and nothing is asked of another server."""
    ines.go(page)
    complaints = [each for each in ines.browser.complaints() if "WebGL" not in json.dumps(each)]
    assert complaints == []
    assert [address for address in ines.browser.asked() if not address.startswith(ines.served.url)] == []


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's script."""
    return (npm_packages("axe") / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_keeps_anybody_from_reading_a_page(ines: Person, axe: str, dark: bool) -> None:
    """axe-core finds no serious barrier on any page: contrast, labels, names, order."""
    ines.go("search", kind="grant")
    event = ines.browser.js(f"{FIND}('td.id a')[0].getAttribute('href')")
    ines.browser.window(1200, dark=dark)
    try:
        found = {}
        others = ("requests?id=AC-03", "search?kind=login&outcome=failure", "event?id=nothing", PROOF)
        for page in (*PAGES, event, *others):
            ines.browser.open(ines.served.url + page)
            ines.browser.wait(IDLE)
            ines.browser.js(axe + "; void 0")
            told = ines.browser.js(
                "axe.run(document, {resultTypes: ['violations']}).then((r) => JSON.stringify(r.violations))"
            )
            found[page] = [
                (
                    one["id"],
                    one["impact"],
                    [(node["html"][:160], node["failureSummary"][:300]) for node in one["nodes"][:2]],
                )
                for one in json.loads(told)
                if one["impact"] in ("serious", "critical")
            ]
        assert {page: barriers for page, barriers in found.items() if barriers} == {}
    finally:
        ines.browser.window(1200)


def test_everything_works_under_a_path_of_its_own(tmp_path: Path) -> None:
    """As behind a proxy that serves it under /audit: sign-in, pages, scripts, websocket, a download."""
    served = Dashboard(tmp_path, [WHOLE], "--prefix", "/audit")
    ines = Person(served, tmp_path / "profile", "ines@auditor.example")
    try:
        ines.sign_in()
        ines.go("search", kind="grant")
        assert ines.counted() > 0
        assert [address for address in ines.browser.asked() if not address.startswith(served.url)] == []
        ines.click(".exports a", "CSV")
        href = until(lambda: ines.browser.js(f"{FIND}('a[download]')[0]?.getAttribute('href')"))
        assert ines.fetch(href).status == 200
        ines.browser.js("document.querySelector('.who form').requestSubmit()")
        ines.browser.wait("location.pathname === '/audit/signin'")
    finally:
        ines.close()
        served.stop()


def test_a_span_drawn_over_the_histogram_becomes_the_period(ines: Person) -> None:
    """From the left edge to the middle: the first half of the time, counted as the library counts it."""
    ines.go("search", kind="grant")
    everything = ines.counted()
    told = f"(({{x, y, width, height}}) => [x, y, width, height])({FIND}('svg[data-brush]')[0].getBoundingClientRect())"
    left, top, width, height = ines.browser.js(told)
    at = {"y": top + height / 2, "button": "left", "buttons": 1, "clickCount": 1}
    ines.browser.call("Input.dispatchMouseEvent", type="mousePressed", x=left + 1, **at)
    for share in (0.2, 0.4, 0.5):
        ines.browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=left + width * share, **at)
    ines.browser.call("Input.dispatchMouseEvent", type="mouseReleased", x=left + width * 0.5, **at)
    ines.browser.wait("location.search.includes('since=') && location.search.includes('until=')")
    ines.browser.wait(IDLE)
    since, until_ = ines.browser.js("['since', 'until'].map((name) => new URLSearchParams(location.search).get(name))")
    with auditlib.open(VAULT, keys=[KEY]) as trail:
        expected = trail.events(kind="grant", since=since, until=until_).count()
    assert 0 < ines.counted() == expected < everything
