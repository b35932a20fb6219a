"""Somebody with a valid narrow engagement, a browser of their own making, and time.

Each test is an attack, over raw HTTP and Bokeh's websocket protocol (wire.py), and ends with what it must not have won.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openpyxl
import pyarrow.parquet as pq
import pytest
from bokeh.document import Document
from bokeh.models import Button, TextInput
from dashboards import Dashboard, engagement, until
from happenings import happened
from simulator import KEY, ORIGIN
from simulator import Trail as Simulated
from websocket import WebSocketException
from wire import DOCUMENT_READY, Knocker, Socket, token_of

import auditlib
from auditlib.dashboard import gate
from auditlib.dashboard.gate import ClosedError, Gate
from auditlib.dashboard.handed import MADE_SECONDS, MAX_EACH, Handed
from auditlib.dashboard.markup import refusal
from auditlib.dashboard.server import MAX_PAGES
from auditlib.dashboard.signins import SignIns
from auditlib.dashboard.visit import Visit
from auditlib.engagements import revoke_engagement
from auditlib.errors import UnavailableError
from auditlib.formats.event import record_bytes
from auditlib.formats.times import DAY, SECOND, parse_time
from auditlib.scoped import Question
from auditlib.scoped.scope import Scope

MARCH = parse_time("2026-03-01T00:00:00Z")
INSIDE, OUTSIDE = 60, 137
HOSTILE = {
    "script": "<script>window.owned=1</script><img src=x onerror=window.owned=1>",
    "attribute": '" onmouseover="window.owned=1" x=\'',
    "ended": "</template></textarea></style></title></select><svg onload=window.owned=1>",
    "template": "{{ 7*7 }}{% raw %}",
    "turned": "admin\u202egro.live@nimda\u2066",
    "formula": '=HYPERLINK("http://evil.example/","x")',
    "long": "\u0416" * 450,
}
LONG_CONTEXT = "x" * 15_000 + HOSTILE["script"]
ADDRESS = "198.51.100.77"  # in a field that is left out
SECRETS = ("OUTSIDE", "u_hidden", "secret-source", "hidden.action", "u_april", ADDRESS)
NARROW = engagement(
    "narrow",
    "omar@auditor.example",
    kinds=("login",),
    since="2026-03-01",
    until="2026-04-01",
    redact=("context.ip",),
    rows_per_export=50,
)
BRIEF = engagement("brief", "lea@auditor.example", kinds=("login",))
WHOLE = engagement("whole-of-it", "ines@auditor.example", requests=("*",))
PATHS = re.compile(r"Traceback|site-packages|\.py\b|/(?:tmp|home|root|work)/")


def trail(folder: Path) -> Path:
    """A vault with what is Omar's, what is not, and what somebody hostile had recorded about themselves."""
    inside = [
        happened(
            f"INSIDE{n:06}", MARCH + n * 3600 * SECOND, actor=f"user:u_{n % 5}", target="system:app", ip=ADDRESS, n=n
        )
        for n in range(INSIDE - len(HOSTILE))
    ]
    for n, (name, text) in enumerate(HOSTILE.items()):
        many = {"ip": ADDRESS, "note": text, "long": LONG_CONTEXT} if n == 0 else {"ip": ADDRESS, "note": text}
        at = MARCH + 10 * DAY + n * SECOND
        inside.append(
            happened(f"HOSTILE-{name}", at, actor=f"user:{text}", target=f"system:{text}", session=text, **many)
        )
    outside = [
        happened(
            f"OUTSIDE{n:06}",
            MARCH + n * 600 * SECOND,
            "role.grant" if n % 2 else "hidden.action",
            "success",
            actor="user:u_hidden",
            target="user:u_hidden",
            source="secret-source/x1",
            granted_role="OUTSIDE",
        )
        for n in range(OUTSIDE - 20)
    ]
    later = [happened(f"OUTSIDE-April{n}", MARCH + 40 * DAY + n * SECOND, actor="user:u_april") for n in range(20)]
    folder.mkdir(exist_ok=True)
    made = Simulated(folder).create()
    with made.sealer() as sealer:
        for part in (outside[:60], inside, outside[60:], later):
            sealer.add(part)
            sealer.flush()
    return folder / "vault"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """One dashboard for the attacks of this module."""
    folder = tmp_path_factory.mktemp("attacked")
    key = folder / "key.vkey"
    key.write_text(f"{KEY.verifier}\n")
    running = Dashboard(folder, [NARROW, BRIEF, WHOLE], vault=trail(folder / "sealed"), key=key)
    yield running
    alive = running.process.poll() is None
    running.stop()
    assert alive, "it fell over"


@pytest.fixture(scope="module")
def omar(served: Dashboard) -> Iterator[Knocker]:
    """Whose engagement is narrow."""
    with closing(Knocker(served, "omar@auditor.example")) as knocker:
        yield knocker


@pytest.fixture(scope="module")
def ines(served: Dashboard) -> Iterator[Knocker]:
    """Who sees the whole trail."""
    with closing(Knocker(served, "ines@auditor.example")) as knocker:
        yield knocker


@pytest.fixture
def lea(served: Dashboard) -> Iterator[Knocker]:
    """Whose engagement ends while she looks."""
    with closing(Knocker(served, "lea@auditor.example")) as knocker:
        yield knocker


def opens(who: Knocker, page: str, token: str, cookie: str | None = None) -> bool:
    """Whether a websocket is let in."""
    try:
        Socket(who, page, token, cookie=cookie).close()
    except (ConnectionError, OSError, WebSocketException):
        return False
    return True


def learned(text: str, *but: str) -> list[str]:
    """What of the secrets stands in a text, and whether it names a place of this machine."""
    return [secret for secret in SECRETS if secret in text and secret not in but] + PATHS.findall(text)


# --- what lies outside the scope -----------------------------------------------------------------------------

SURROGATE = "\ud800"
ADDRESSES: tuple[dict[str, str], ...] = (
    {},
    {"kind": "grant"},
    {"action": "hidden.action"},
    {"action": "*"},
    {"source": "secret-source/*"},
    {"since": "2026-04-01", "until": "2026-05-01"},
    {"since": "0001-01-01", "through": "9999-12-31"},
    {"actor": "u_hidden"},
    {"actor": "?_*d*e*n"},
    {"target": "user:u_hidden' OR 1=1 --"},
    {"actor": "*" * 9},
    {"actor": "a" * 1_900},
    {"actor": "\0"},
    {"actor": SURROGATE},
    {"outcome": "success"},
    {"tz": "../../../../etc/passwd"},
    {"tz": "/etc/passwd", "since": "2026-03-01"},
    {"tz": "Europe", "since": "2026-03-01"},
    {"after": "A" * 71},
    {"after": "\u0661" * 71},
    {"export": "exe"},
    {"export": "csv"},
    {"engagement": "whole-of-it"},
    {"engagement": "narrow", "vault": "../vault"},
    *(
        {"where": f"{path}={ADDRESS}"}
        for path in ("ip", "context.ip", " ip ", "ip.*", "*", '"ip"', "$.ip", "\\ip", "..ip")
    ),
    {"where": "n"},
    {"where": "a." * 900 + "b=1"},
    {"where": "granted_role=OUTSIDE"},
)


def test_no_question_over_the_websocket_tells_of_what_lies_outside(omar: Knocker) -> None:
    """Hostile filters, zones, cursors, exports: every one is answered, and none with a secret or a place."""
    with omar.shown("search") as page:
        for number, asked in enumerate(ADDRESSES, 1):
            query = "&".join(
                f"{name}={urllib.parse.quote(value, errors='surrogatepass')}" for name, value in asked.items()
            )
            query = f"?actor={SURROGATE}" if asked.get("actor") == SURROGATE else f"?{query}"
            told = page.answer(number, query)
            but = [secret for secret in SECRETS if any(secret in value for value in asked.values())]
            assert learned(told, *but) == [], asked
            assert not re.search(rf"\b({OUTSIDE}|{INSIDE + OUTSIDE})\b", told), asked
            if but and "actor" in asked:
                assert "<td" not in told
        told = page.answer(len(ADDRESSES) + 1, "?" + "&".join(f"x{n}=1" for n in range(100)))
        assert "More than" in told or "more than" in told


def test_what_takes_time_tells_nothing_of_what_lies_outside(tmp_path: Path) -> None:
    """A narrow scope reads the same batches for what is there outside it and for what is not there at all."""
    with auditlib.open(trail(tmp_path), keys=[KEY.verifier]) as opened:
        narrow, whole = Scope(opened, NARROW, ORIGIN), Scope(opened, WHOLE, ORIGIN)
        for there, nowhere in (
            ({"action": "hidden.action"}, {"action": "no.such"}),
            ({"source": "secret-source/x1"}, {"source": "no/such"}),
            ({"since": "2026-03-01", "until": "2026-03-02"}, {"since": "2026-03-20", "until": "2026-03-21"}),
        ):
            told, nothing = (narrow.ask(Question(**asked)).batches for asked in (there, nowhere))
            assert told == nothing == narrow.batches != []
            assert whole.ask(Question(**there)).batches != whole.ask(Question(**nowhere)).batches


def test_the_same_questions_do_tell_somebody_whose_scope_is_all(ines: Knocker) -> None:
    """What the tests here look for can be found where it may be seen."""
    assert set(learned(ines.text("search"))) >= {"OUTSIDE", "u_april"}
    assert set(learned(ines.text("search?source=secret-source/*"))) >= {"u_hidden", "secret-source", "hidden.action"}
    assert learned(ines.text("event?id=INSIDE000001")) == [ADDRESS]


def test_a_field_that_is_left_out_is_on_no_page_and_in_no_file(omar: Knocker) -> None:
    """Neither shown, nor exported, nor to be asked about: the same refusal whether the guess is right or wrong."""
    right, wrong = (omar.text(f"search?where=ip%3D{guess}") for guess in (ADDRESS, "203.0.113.1"))
    said = [re.findall(r"<strong>.*?</strong>", text) for text in (right, wrong)]
    assert said[0] == said[1] and "left out" in "".join(said[0])
    assert learned(omar.text("event?id=INSIDE000001&source=identity/a1")) == []


@pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx", "parquet"])
def test_a_file_holds_the_scope_and_what_is_hostile_in_it_stays_text(omar: Knocker, form: str) -> None:
    """Nothing from outside, no field that is left out, no formula; and it is had once, by whom it was made for."""
    with omar.shown(f"search?actor=user:*&since=2026-03-11&until=2026-03-12&export={form}") as page:
        href = re.findall(r"handed/[A-Za-z0-9_-]+", page.everything())[-1]
    got = omar.get(href)
    assert got.status == 200 and omar.get(href).status == 404
    if form == "csv":
        rows = list(csv.reader(io.StringIO(got.data.decode("utf-8-sig"))))
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@"))]
        text = json.dumps(rows, ensure_ascii=False)
    elif form == "xlsx":
        book = openpyxl.load_workbook(io.BytesIO(got.data))
        cells = [cell for row in book.worksheets[0].iter_rows() for cell in row]
        assert not [cell for cell in cells if cell.data_type == "f" or cell.hyperlink]
        text = json.dumps([str(cell.value) for cell in cells], ensure_ascii=False)
    elif form == "parquet":
        text = json.dumps(pq.read_table(io.BytesIO(got.data)).to_pylist(), default=str, ensure_ascii=False)
    else:
        text = got.data.decode()
        assert len(text.splitlines()) == len(HOSTILE)
    assert "HOSTILE-formula" in text and learned(text) == []


def test_more_than_may_be_exported_is_not_exported_in_part(omar: Knocker) -> None:
    """60 events answer, 50 are allowed: there is no file, and nothing is left of one."""
    before = sorted((omar.served.state / "handed").iterdir())
    told = omar.text("search?export=csv")
    assert "handed/" not in told and "Ask for less" in told
    assert sorted((omar.served.state / "handed").iterdir()) == before


def test_an_event_outside_looks_like_one_that_does_not_exist(omar: Knocker) -> None:
    """By its id, by its id and source, by a source that is there and by one that is not."""
    answers = []
    for name, source in (("OUTSIDE000001", "secret-source/x1"), ("NOTHING000001", "secret-source/x1")):
        for query in (f"id={name}", f"id={name}&source={source}", f"id={name}&source=none/x1"):
            markup = shown_markup(omar, f"event?{query}")
            assert learned(markup, "OUTSIDE", "secret-source") == []
            answers.append(markup.replace(name, "").replace(source, ""))
    assert answers[:3] == answers[3:]


@pytest.mark.parametrize("page", ["overview", "integrity", "requests", "access", "event", "requests?id=AC-01&do=run"])
def test_no_page_tells_of_what_lies_outside(omar: Knocker, page: str) -> None:
    """Neither a name nor a count of it."""
    told = omar.text(page)
    assert learned(told) == []
    assert not re.search(rf"\b({OUTSIDE}|{INSIDE + OUTSIDE})\b events", told)
    assert "ines@" not in told and "whole-of-it" not in told


class Tags(HTMLParser):
    """The elements and attributes of a markup."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


def markups(page: Socket) -> Iterator[str]:
    """The HTML of every pane that was sent; Panel sends it escaped once."""

    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if value.get("attr") == "text" and isinstance(value.get("new"), str):
                yield value["new"]
            for name, each in value.items():
                if name == "text" and isinstance(each, str):
                    yield each
                yield from texts(each)
        elif isinstance(value, list):
            for each in value:
                yield from texts(each)

    for message in page.said:
        yield from (unescape(text) for text in texts(message["content"]))


def shown_markup(who: Knocker, address: str) -> str:
    with who.shown(address) as page:
        return "\n".join(markups(page))


@pytest.mark.parametrize("name", [None, *HOSTILE])
def test_what_an_event_says_is_never_markup(omar: Knocker, name: str | None) -> None:
    """Search and event page: no element and no attribute of an event's making, and no sign that turns a text."""
    address = "search?since=2026-03-11&until=2026-03-12" if name is None else f"event?id=HOSTILE-{name}"
    shown = shown_markup(omar, address)
    tags = Tags()
    tags.feed(shown)
    assert len(tags.found) > 20
    assert not {tag for tag, _ in tags.found} & {
        "script",
        "img",
        "iframe",
        "object",
        "link",
        "style",
        "base",
        "meta",
    } - {"style" if name else ""}
    assert not [(tag, name) for tag, names in tags.found for name in names if name.startswith("on") or "owned" in name]
    visible = re.sub(r"<template data-record>.*?</template>", "", shown, flags=re.S)
    assert (
        "49" not in re.findall(r"(?<=note</dt>).{0,40}", visible)
        and "\u202e" not in visible
        and "\u2066" not in visible
    )


# --- acting as somebody else -------------------------------------------------------------------------------


def test_another_persons_page_is_not_loaded_by_its_token(omar: Knocker, ines: Knocker) -> None:
    """Bokeh shows a page that is there already to whoever names it; here nobody can name one."""
    token = ines.token("search")
    session = json.loads(_payload(token))["session_id"]
    for address, headers in (
        (f"search?bokeh-token={token}", {}),
        (f"search?bokeh-session-id={session}", {}),
        ("search", {"Bokeh-Session-Id": session}),
    ):
        got = omar.get(address, **headers)
        assert got.status == 404 and b"ines" not in got.data and b"csrf" not in got.data


def test_a_page_opens_one_websocket_of_its_own_sign_in_and_address(omar: Knocker, ines: Knocker) -> None:
    """Not with another cookie, without one, at another page, changed, or a second time."""
    token = ines.token("search")
    assert not opens(omar, "search", token)
    assert not opens(ines, "search", token, cookie="")
    assert not opens(ines, "access", token)
    assert not opens(ines, "search", token[:-2] + ("AA" if token[-2:] != "AA" else "BB"))
    assert not opens(ines, "search", "x")
    assert opens(ines, "search", token)
    assert not opens(ines, "search", token)


def test_a_sign_in_that_ended_is_over_everywhere(lea: Knocker) -> None:
    """The open page, the cookie, a download that was offered: after signing out none gives anything."""
    with lea.shown("search?since=2026-03-11&until=2026-03-12&export=csv") as page:
        href = re.findall(r"handed/[A-Za-z0-9_-]+", page.everything())[-1]
        assert lea.sign_out().status == 303
        told = page.answer(1, "?kind=login")
        assert "You are signed out." in told and "INSIDE" not in told
    assert lea.get("search").status == 302
    assert lea.get(href).status == 404
    assert not opens(lea, "search", "x")


def test_a_revoked_engagement_gives_no_file_any_more(served: Dashboard, lea: Knocker) -> None:
    """A download that was offered under it is gone with it, and a page that is open shows a refusal."""
    with lea.shown("search?since=2026-03-11&until=2026-03-12&export=csv") as page:
        href = re.findall(r"handed/[A-Za-z0-9_-]+", page.everything())[-1]
        revoke_engagement(served.engagements, "brief", by="maria", reason="over", now=lambda: MARCH + 200 * DAY)
        assert "You have no access here now." in page.answer(1, "?kind=login")
    assert lea.get(href).status == 404
    assert "HOSTILE" not in lea.text("overview")


def test_a_broken_file_of_engagements_names_nobody(served: Dashboard, omar: Knocker) -> None:
    """What is wrong with it, and with whose engagement, is for the log alone; nobody is shown anything meanwhile."""
    good = served.engagements.read_bytes()
    with omar.shown("search") as page:
        served.engagements.write_bytes(good.replace(b'role = "auditor"', b'role = "king"'))
        try:
            told = page.answer(1, "?kind=login")
        finally:
            served.engagements.write_bytes(good)
        assert "INSIDE" not in told and "engagements" not in told and learned(told) == []
        assert "whole-of-it" not in told
        assert "INSIDE" in page.answer(2, "?kind=login")


def test_no_refusal_names_a_place_of_this_machine() -> None:
    """An error that says where a file lies is shown without that."""
    told = refusal(UnavailableError("cannot be written.", where="/var/lib/auditlib/disclosed/x.jsonl"))
    assert "/var" not in told and "cannot be written" in told
    assert "since" in refusal(UnavailableError("x", where="since"))


# --- what a browser may say ----------------------------------------------------------------------------------

CLOSING: dict[str, list[str | bytes]] = {
    "replacing the document": ['{"msgid":"1","msgtype":"PUSH-DOC"}'],
    "asking for the version": ['{"msgid":"1","msgtype":"SERVER-INFO-REQ"}'],
    "buffers without end": ['{"msgid":"1","msgtype":"PATCH-DOC","num_buffers":1000000}'],
    "no JSON": ["x"],
    "no object": ["[]"],
    "an id without end": ['{"msgid":"' + "1" * 100_000 + '","msgtype":"PATCH-DOC"}'],
    "JSON without end": [
        '{"msgid":"1","msgtype":"PATCH-DOC"}',
        "{}",
        '{"events":' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    "bytes": [b"{}"],
    "a frame too long": ["x" * 300_000],
}


@pytest.mark.parametrize("frames", CLOSING.values(), ids=CLOSING)
def test_what_no_page_says_closes_the_page(omar: Knocker, frames: list[str | bytes]) -> None:
    """And tells nothing."""
    with closing(omar.page("search")) as page:
        for frame in frames:
            page.raw(frame)
        assert page.closed()
    assert learned(page.everything()) == []
    assert "Traceback" not in omar.served.log.read_text()


def test_a_browser_adds_no_models_and_sets_none_but_the_question(omar: Knocker) -> None:
    """Changes of every kind that Bokeh knows are dropped; the page answers its next question as before."""
    with omar.shown("search") as page:
        ask, answered = page.models["ask"], page.models["answered"]
        lost = {"type": "event", "name": "connection_lost"}
        made = {"type": "object", "name": "CustomJS", "id": "evil", "attributes": {"code": "window.owned=1"}}
        array = {"type": "ndarray", "array": {"type": "bytes", "data": "AAAA"}, "shape": [2**40], "dtype": "float64"}
        reply = page.reply(
            page.patch(
                {"kind": "RootAdded", "model": made},
                {"kind": "RootRemoved", "model": {"id": answered}},
                {"kind": "TitleChanged", "title": "<script>"},
                {"kind": "ModelChanged", "model": {"id": ask}, "attr": "js_property_callbacks", "new": made},
                {"kind": "ModelChanged", "model": {"id": ask}, "attr": "value", "new": made},
                {"kind": "ModelChanged", "model": {"id": ask}, "attr": "value", "new": array},
                {"kind": "ModelChanged", "model": {"id": ask}, "attr": "value", "new": "9" * 100_000},
                {"kind": "ModelChanged", "model": {"id": answered}, "attr": "value", "new": "999999"},
                {"kind": "ModelChanged", "model": {"id": ["x"]}, "attr": "value", "new": "1"},
                {"kind": "ModelChanged", "model": {"id": "nothing"}, "attr": "value", "new": "1"},
                {"kind": "ColumnsStreamed", "model": {"id": ask}, "attr": "data", "data": {}, "rollover": None},
                {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": DOCUMENT_READY},
                {
                    "kind": "MessageSent",
                    "msg_type": "bokeh_event",
                    "msg_data": lost,
                },
                {"kind": "MessageSent", "msg_type": "other", "msg_data": made},
            )
        )
        assert reply["msgtype"] == "OK"
        told = page.answer(5, "?kind=login")
        assert "INSIDE" in told and "999999" not in told
    assert "Traceback" not in omar.served.log.read_text()


def test_only_buttons_are_clicked_and_a_page_is_ready_once() -> None:
    """The gate by itself: what it writes anew, and what it drops."""
    document, ask, other, button = Document(), TextInput(name="ask"), TextInput(name="x"), Button()
    for each in (ask, other, button):
        document.add_root(each)
    judge = Gate(lambda: 0.0)

    def sent(*events: Any) -> list[Any]:
        for frame in ('{"msgid":"1","msgtype":"PATCH-DOC"}', "nonsense"):
            judge.take(frame, document)
        kept: list[Any] = json.loads(judge.take(json.dumps({"events": events}), document))["events"]
        return kept

    def event(name: str, *entries: Any) -> dict[str, Any]:
        told = {"type": "event", "name": name, "values": {"type": "map", "entries": list(entries)}}
        return {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": told}

    assert len(sent(event("document_ready"), event("document_ready"))) == 1
    assert sent(event("button_click", ["model", {"id": button.id}, "more"])) == [
        event("button_click", ["model", {"id": button.id}])
    ]
    assert (
        sent(event("button_click", ["model", {"id": ask.id}]), event("button_click"), event("button_click", "x")) == []
    )
    value = {"kind": "ModelChanged", "attr": "value", "new": "1 ?"}
    assert sent({**value, "model": {"id": other.id}}) == []
    assert sent(*[{**value, "model": {"id": ask.id}}] * 1_000) == [{**value, "model": {"id": ask.id}}] * gate.MAX_EVENTS
    with pytest.raises(ClosedError):
        judge.take('{"msgid":"1","msgtype":"OK"}', document)


def test_a_browser_that_says_too_much_is_read_later() -> None:
    """A person's clicks cost no wait; a flood waits for each frame as long as that takes to be paid for."""
    clock = [0.0]
    judge = Gate(lambda: clock[0])
    assert [judge.price(200) for _ in range(300)] == [0.0] * 300
    waits = [judge.price(200_000) for _ in range(100)]
    assert waits[-1] > 50 and waits == sorted(waits)
    clock[0] += 3600
    assert judge.price(200) == 0.0


# --- making it fall over -------------------------------------------------------------------------------------


def test_a_flood_of_questions_is_one_question(omar: Knocker, ines: Knocker) -> None:
    """Of those that wait only the newest is answered; somebody else is answered meanwhile."""
    with omar.shown("search") as page:
        ask = page.models["ask"]
        for patch in range(40):
            numbers = range(50 * patch, 50 * patch + 50)
            page.patch(
                *(
                    {"kind": "ModelChanged", "model": {"id": ask}, "attr": "value", "new": f"{n} ?kind=login"}
                    for n in numbers
                )
            )
        assert "HOSTILE" in ines.text("search?since=2026-03-11&until=2026-03-12")
        page.wait(1_999)
        answers = [
            event
            for message in page.said
            if message["msgtype"] == "PATCH-DOC"
            for event in message["content"]["events"]
            if event.get("attr") == "value" and event["model"]["id"] == page.models["answered"]
        ]
        assert len(answers) <= 100


def test_pages_that_nobody_opens_are_bounded_for_each_person(omar: Knocker, ines: Knocker) -> None:
    """Half-open pages of one person: no more than MAX_PAGES; others load theirs, and a closed one makes room."""
    answers = [omar.get("search") for _ in range(MAX_PAGES + 5)]
    assert [answer.status for answer in answers][-5:] == [429] * 5
    assert ines.get("search").status == 200
    for token in [token_of(answer.data.decode()) for answer in answers if answer.status == 200][:10]:
        assert opens(omar, "search", token)
    until(lambda: omar.get("requests").status == 200)


def test_one_persons_clicks_leave_threads_for_others() -> None:
    """Forty long questions of one person take two of three threads."""
    release, pool = threading.Event(), ThreadPoolExecutor(3)
    desk: Any = SimpleNamespace(pool=pool)
    signins = SignIns(lambda: MARCH)
    greedy, other = (Visit(desk, signins.start(name, "link")[1], "search") for name in ("greedy", "other"))
    again = Visit(desk, signins.start("greedy", "link")[1], "search")

    async def attack() -> None:
        waiting = [asyncio.create_task((greedy, again)[n % 2].run(release.wait)) for n in range(40)]
        await asyncio.sleep(0)
        assert await asyncio.wait_for(other.run(lambda: "answered"), 30) == "answered"
        release.set()
        assert all(await asyncio.gather(*waiting))

    try:
        asyncio.run(attack())
    finally:
        release.set()
        pool.shutdown()


def test_one_persons_files_push_out_nobody_elses_and_none_stays(tmp_path: Path) -> None:
    """Each person has so many files; one that was made and never offered goes by itself."""
    clock = [MARCH]
    signins = SignIns(lambda: MARCH)
    handed = Handed(tmp_path / "handed", lambda _: True, lambda: clock[0])
    (_, greedy), (_, other) = signins.start("greedy", "link"), signins.start("other", "link")

    def offer(signin: Any) -> str:
        path = handed.new_path(".csv")
        path.write_text("x")
        return handed.offer(signin, path, "x.csv").removeprefix("handed/")

    theirs = offer(other)
    mine = [offer(greedy) for _ in range(MAX_EACH + 30)]
    assert len(list((tmp_path / "handed").iterdir())) == MAX_EACH + 1
    assert handed.take(theirs, other) and handed.take(mine[-1], greedy) and not handed.take(mine[0], greedy)
    lost = handed.new_path(".csv")
    lost.write_text("never offered: it could not be recorded")
    clock[0] += MADE_SECONDS * SECOND
    handed.sweep()
    assert not lost.exists()


def test_a_file_is_not_handed_over_once_its_engagement_does_not_hold(tmp_path: Path) -> None:
    """Asked when it is fetched; where it cannot be told, neither."""
    signins = SignIns(lambda: MARCH)
    handed = Handed(tmp_path / "handed", lambda _: True, lambda: MARCH)
    _, ines = signins.start("ines", "link")

    def broken() -> bool:
        raise UnavailableError("the file of engagements cannot be read.")

    for still, given in ((lambda: True, True), (lambda: False, False), (broken, False)):
        path = handed.new_path(".zip")
        path.write_text("x")
        token = handed.offer(ines, path, "x.zip", still=still).removeprefix("handed/")
        assert (handed.take(token, ines) is not None) is given
        assert path.exists() is given


def test_hostile_http_does_not_fell_it(omar: Knocker, ines: Knocker) -> None:
    """Methods, addresses and headers that no browser sends: an answer of the 400s, and no word of how it is made."""
    for method, address in (
        *((method, "search") for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "HEAD")),
        ("GET", "search?" + "a=1&" * 4_000),
        ("GET", "search?actor=" + "%ff" * 3_000),
        ("GET", "search/ws"),
        ("GET", "search/ws?bokeh-token=x"),
        ("GET", "%2e%2e/%2e%2e/etc/passwd"),
        ("GET", "assets/..%2f..%2fserver.py"),
        ("GET", "handed/" + "A" * 5_000),
    ):
        got = omar.get(address, method)
        assert got.status < 500, (method, address, got.status)
        assert not PATHS.findall(got.data.decode(errors="replace").replace('.py"', "")), (method, address)
    assert "HOSTILE" in ines.text("search?since=2026-03-11&until=2026-03-12")


def _payload(token: str) -> str:
    import base64

    part = token.partition(".")[0]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()


def test_the_attacked_trail_is_what_the_attacks_take_it_for(tmp_path: Path) -> None:
    """What is called outside is outside, and the long event is as long as one may be."""
    assert len(record_bytes(happened("x", MARCH, **{"long": LONG_CONTEXT}))) > 15_000
    assert trail(tmp_path).is_dir()
