"""Sign-in: over real HTTP and websockets against a real Bokeh server, and a certified OpenID provider on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import os
import pty
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import pytest
import urllib3
from argon2 import PasswordHasher
from browser import CHROMIUM, Browser
from command_line import command
from dashboards import until
from npm_packages import npm_packages
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from auditlib.dashboard.accounts import Accounts, read_accounts, remove_account, set_password
from auditlib.dashboard.attempts import BURST
from auditlib.dashboard.guesses import ACCOUNT_FREE, ADDRESS_FREE, LONGEST_LOCK, MAX_KEPT, Locks, network
from auditlib.dashboard.headers import Site
from auditlib.dashboard.signin_pages import Door
from auditlib.dashboard.signins import IDLE, LIFETIME, MAX_EACH, SignIn, SignIns
from auditlib.errors import MalformedError, UnavailableError

HERE = Path(__file__).parent
NOW = 1_767_882_727_000_000
SECOND = 1_000_000
INES, OMAR, PASSWORD = "ines@auditor.example", "omar", "correct horse battery staple"
HEAD = 'format = "auditlib/accounts/v1"\n'
ENTRY = '[[accounts]]\nname = "{}"\nhash = "{}"\nset_at = "{}"\n'
CHEAP = {"time_cost": 1, "memory_cost": 1024, "parallelism": 1}  # of Argon2: what is tested is how often, not how hard
WRONG = "That name and password do not fit, or the account is locked for a while."
DAYS = 2 * 86_400  # seconds; after them no failure is remembered and nobody is signed in


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


# ------------------------------------------------------------------------------------------------ over HTTP


def put(path: Path, text: str) -> None:
    """Write a file at once, for a server that may read it meanwhile."""
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


class Server:
    """A sign-in server in a process of its own; `folder` is how the test reaches in."""

    def __init__(self, folder: Path, url: str, link: str, prefix: str) -> None:
        self.folder, self.url, self.link, self.prefix = folder, url, link, prefix
        self.http = urllib3.PoolManager(maxsize=64, retries=False, timeout=urllib3.Timeout(30))

    def later(self, seconds: int) -> None:
        """The server's clock goes on."""
        put(self.folder / "clock", str(int((self.folder / "clock").read_text()) + seconds))

    @property
    def records(self) -> list[dict[str, Any]]:
        """What people did; that sign-ins ended by themselves is recorded beside it, whenever it is noticed."""
        return [told for told in self._recorded() if told.get("why", "asked for") == "asked for"]

    def why_ended(self, session: str) -> list[str]:
        """Why the sign-in ended by itself, once it has."""
        found = until(lambda: [told for told in self._recorded() if told["session"] == session and "why" in told])
        return [told["why"] for told in found]

    def _recorded(self) -> list[dict[str, Any]]:
        path = self.folder / "records"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def hashes(self) -> str:
        return (self.folder / "hashes").read_text()

    def admit(self, *identities: str) -> None:
        put(self.folder / "admitted", "\n".join([INES, OMAR, "solo", *identities]))


class Person:
    """A browser without a page: it keeps cookies, says its Origin with each POST, and follows nothing by itself."""

    def __init__(self, server: Server, **headers: str) -> None:
        self.server, self.cookies, self.headers = server, {}, headers
        self.set_cookies: list[str] = []

    def ask(self, method: str, path: str, fields: dict[str, str] | None = None, **headers: str | None) -> Any:
        sent: dict[str, str | None] = {"Cookie": self.cookie_header(), **self.headers}
        if fields is not None:
            sent |= {"Origin": self.server.url, "Content-Type": "application/x-www-form-urlencoded"}
        sent |= headers
        answer = self.server.http.request(
            method,
            urljoin(self.server.url, path),
            body=None if fields is None else urlencode(fields),
            headers={name: text for name, text in sent.items() if text},
            redirect=False,
        )
        self.set_cookies = answer.headers.getlist("Set-Cookie")
        for line in self.set_cookies:
            for name, morsel in SimpleCookie(line).items():
                if morsel.value:
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)
        return answer

    def cookie_header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def get(self, path: str, **headers: str) -> Any:
        return self.ask("GET", self.server.prefix + path, **headers)

    def form(self, path: str = "/signin") -> dict[str, str]:
        """The hidden fields of the form."""
        page = self.get(path).data.decode()
        fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page)
        return {name: html.unescape(value) for name, value in fields}

    def sign_in(self, name: str = INES, password: str = PASSWORD, path: str = "/signin", **headers: str | None) -> Any:
        fields = self.form(path) | {"name": name, "password": password}
        return self.ask("POST", self.server.prefix + "/signin", fields, **headers)

    def signed_in(self) -> bool:
        return bool(self.get("/page").status == 200)

    def socket(self, token: str, origin: str | None = None, cookie: str | None = None) -> int:
        """Open a page's websocket: 101, and Bokeh's greeting came, or the status that refused it."""

        async def connect() -> int:
            address = f"ws{self.server.url.removeprefix('http')}{self.server.prefix}/page/ws"
            headers = {
                "Origin": self.server.url if origin is None else origin,
                "Cookie": self.cookie_header() if cookie is None else cookie,
            }
            try:
                opened = await websocket_connect(HTTPRequest(address, headers=headers), subprotocols=["bokeh", token])
            except HTTPClientError as error:
                return error.code
            greeting = await opened.read_message()
            opened.close()
            while await opened.read_message() is not None:
                pass
            return 101 if greeting is not None else 0

        return asyncio.run(connect())

    def token(self) -> str:
        """The token in a page, by which its websocket is opened."""
        found = re.search(r'"token":"([^"]+)"', self.get("/page").data.decode())
        assert found
        return found[1]


@contextmanager
def serving(folder: Path, *, accounts: bool = True, **options: Any) -> Iterator[Server]:
    folder.mkdir(exist_ok=True)
    put(folder / "clock", str(NOW // SECOND))
    if accounts:
        options.setdefault("argon2", CHEAP)
        made, at = PasswordHasher(**options["argon2"]).hash(PASSWORD), "2026-01-01T00:00:00Z"
        put(folder / "accounts.toml", HEAD + "".join(ENTRY.format(name, made, at) for name in (INES, OMAR)))
    prefix = options.get("prefix", "")
    program = [sys.executable, HERE / "dashboard_programs" / "signin_server.py", folder, json.dumps(options)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    child = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    try:
        assert child.stdout is not None
        words = child.stdout.readline().split()
        assert words, child.communicate(timeout=30)[1]
        server = Server(folder, words[0], words[1] if len(words) > 1 else "", prefix)
        server.admit()
        yield server
        server.http.clear()
    finally:
        child.kill()
        child.communicate(timeout=30)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("signin"), prefix="/audit", behind_proxy=True) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Server:
    """The shared server as after a long night: nobody is signed in, no failure is remembered."""
    shared.later(DAYS)
    shared.admit()
    return shared


@pytest.fixture
def ines(server: Server) -> Person:
    return Person(server)


def test_who_signs_in_gets_the_page_they_asked_for(server: Server, ines: Person) -> None:
    """A page leads to the sign-in, the sign-in back to the page, and the trail knows before the page is shown."""
    before = len(server.records)
    sent = ines.get("/page?kind=grant")
    target = urljoin(server.url + "/audit/page", sent.headers["Location"])
    assert (sent.status, urlsplit(target).path) == (302, "/audit/signin")
    answer = ines.sign_in(path=target.removeprefix(server.url + "/audit"))
    assert (answer.status, answer.headers["Location"]) == (303, "/audit/page?kind=grant")
    told = ines.get("/told").json()
    assert server.records[before:] == [
        {"what": "in", "identity": INES, "outcome": "success", "how": "password", "reason": None}
        | {"session": told["session"]}
    ]
    assert told["session"] not in ines.cookies["auditlib"]
    page = ines.get("/page")
    assert page.status == 200
    assert ines.cookies["auditlib"] not in page.data.decode()  # Bokeh's own token in the page holds no cookie


def test_every_depth_of_path_leads_to_the_sign_in(server: Server, ines: Person) -> None:
    """A relative redirect that is one level off would lead out of the prefix."""
    for path in ("/page", "/page/"):
        sent = ines.get(path)
        assert urlsplit(urljoin(server.url + "/audit" + path, sent.headers["Location"])).path == "/audit/signin"


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian package `chromium`)")
def test_a_real_browser_signs_in_by_the_form(server: Server, tmp_path: Path) -> None:
    """Under our own policy: what it sends as Origin fits, the cookie comes back, and it complains of nothing."""
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(f"{server.url}/audit/signin?next=/audit/told")
        assert browser.complaints() == []
        browser.events.clear()
        browser.js(
            f"(() => {{ const form = document.forms[0]; form.elements.name.value = '{INES}';"
            f" form.elements.password.value = '{PASSWORD}'; setTimeout(() => form.requestSubmit()); }})()"
        )
        while not any(event.get("method") == "Page.loadEventFired" for event in browser.events):
            browser.events.append(browser._next())
        assert json.loads(browser.js("document.body.innerText"))["identity"] == INES
        assert browser.js("document.cookie") == ""
    finally:
        browser.close()


def test_the_cookie_is_kept_from_scripts_and_other_sites(ines: Person) -> None:
    """HttpOnly, SameSite, the prefix as its path; 256 random bits that differ each time."""
    ines.sign_in()
    (line,) = [line for line in ines.set_cookies if line.startswith("auditlib=")]
    assert re.fullmatch(r"auditlib=[\w-]{43}; HttpOnly; Path=/audit; SameSite=Lax", line)


@pytest.mark.parametrize(("prefix", "name", "path"), [("", "__Host-auditlib", "/"), ("/a", "__Secure-auditlib", "/a")])
def test_over_https_the_cookie_can_be_set_by_this_site_alone(tmp_path: Path, prefix: str, name: str, path: str) -> None:
    """Secure, under the name by which browsers refuse it from plain HTTP and, without a prefix, from other hosts."""
    with serving(tmp_path / "s", prefix=prefix, origins=["https://audit.example.org"], argon2={}) as server:
        person = Person(server, Host="audit.example.org")
        answer = person.sign_in(Origin="https://audit.example.org")
        assert answer.status == 303
        assert answer.headers["Strict-Transport-Security"] == "max-age=63072000"
        assert any(
            re.fullmatch(rf"{name}=[\w-]{{43}}; HttpOnly; Path={path}; SameSite=Lax; Secure", line)
            for line in person.set_cookies
        )
        assert all("; Secure" in line for line in person.set_cookies)
        assert person.signed_in()


def test_no_answer_goes_without_the_headers(server: Server, ines: Person) -> None:
    """Pages, refusals, redirects, files that are not there: all under one policy, with a nonce of their own."""
    ines.sign_in()
    answers = [
        *(ines.get(path) for path in ("/signin", "/page", "/page", "/nowhere", "/static/js/nothing.js", "/signout")),
        Person(server).get("/page"),
        Person(server).get("/page/ws"),
        Person(server).ask("POST", "/audit/signin", {}),
    ]
    nonces = []
    for answer in answers:
        headers = answer.headers
        policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert "unsafe" not in policy["script-src"]
        nonces += re.findall(r"'nonce-([\w-]{24})'", policy["script-src"])
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "camera=()" in headers["Permissions-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers
        assert not [name for name in headers if name.startswith("Access-Control-")]
        assert "Strict-Transport-Security" not in headers  # over plain HTTP it means nothing
    assert len(set(nonces)) == len(answers)


def test_files_that_are_the_same_for_everybody_may_be_kept(ines: Person) -> None:
    """Bokeh's scripts are a megabyte; no page is."""
    answer = ines.get("/static/js/bokeh.min.js?v=1")
    assert answer.status == 200
    assert "no-store" not in answer.headers.get("Cache-Control", "")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# ------------------------------------------------------------------------------------------------ guessing


def refused(person: Person, name: str, password: str) -> tuple[int, bytes, list[str], str]:
    """The answer to an attempt, and the Argon2 work it took."""
    before = len(person.server.hashes)
    answer = person.sign_in(name, password)
    names = [name for name in answer.headers if name != "Date"]
    body = re.sub(rb'name="csrf" value="\w+"', b"", answer.data)
    return answer.status, body, names, person.server.hashes[before:]


def test_nothing_tells_whether_a_name_exists(server: Server, ines: Person) -> None:
    """Unknown name, wrong password, locked account with the right one, absurd lengths: same bytes, same work."""
    answers = [refused(ines, OMAR, "wrong password"), refused(ines, "nobody at all", "wrong password")]
    for _ in range(ACCOUNT_FREE):
        ines.sign_in(OMAR, "wrong password")
    answers += [refused(ines, OMAR, PASSWORD), refused(ines, "n" * 5_000, "p" * 50_000), refused(ines, "", "")]
    answers += [refused(ines, "\u202e\x01é", PASSWORD)]
    assert len({answer[:2] for answer in answers}) == 1
    assert answers[0][0] == 403
    assert WRONG.encode() in answers[0][1]
    assert [answer[2] for answer in answers] == [answers[0][2]] * len(answers)
    assert [answer[3] for answer in answers] == ["v"] * len(answers)
    assert "auditlib" not in ines.cookies


def test_guessing_at_an_account_locks_it_for_longer_and_longer(server: Server, ines: Person) -> None:
    """After five wrong passwords the right one waits a second, then two, four: fifteen minutes at most."""
    for _ in range(ACCOUNT_FREE):
        ines.sign_in(INES, "wrong password")
    assert ines.sign_in().status == 403
    assert server.records[-1]["reason"] == "the account is locked"
    server.later(30)
    assert ines.sign_in(INES, "wrong password").status == 403
    assert ines.sign_in().status == 403
    server.later(LONGEST_LOCK)
    assert ines.sign_in().status == 303
    assert ines.signed_in()


def test_a_locked_account_locks_nobody_else(server: Server, ines: Person) -> None:
    """One person's failures are not another's."""
    for _ in range(ACCOUNT_FREE):
        ines.sign_in(INES, "wrong password")
    assert Person(server).sign_in(OMAR).status == 303


def test_a_locked_address_costs_no_hash_and_other_addresses_nothing(server: Server) -> None:
    """Twenty failures from one place, whatever the names: the next costs nothing, with the same answer."""
    attacker = Person(server, **{"X-Forwarded-For": "203.0.113.9"})
    for number in range(ADDRESS_FREE):
        assert attacker.sign_in(f"name {number}", "wrong password").status == 403
    attacker.headers |= {"X-Forwarded-For": "198.51.100.7, 203.0.113.9", "X-Real-Ip": "198.51.100.8"}
    status, body, _, work = refused(attacker, OMAR, PASSWORD)
    assert (status, work) == (403, "")
    assert WRONG.encode() in body
    assert Person(server, **{"X-Forwarded-For": "203.0.113.10"}).sign_in(OMAR).status == 303


def test_an_address_that_a_stranger_claims_is_believed_only_behind_a_proxy(tmp_path: Path) -> None:
    """Without a proxy in front, X-Forwarded-For is whatever the sender likes: it hides no guessing."""
    with serving(tmp_path / "s") as server:
        for number in range(ADDRESS_FREE):
            Person(server, **{"X-Forwarded-For": f"203.0.113.{number}"}).sign_in("nobody", "wrong password")
        assert refused(Person(server, **{"X-Forwarded-For": "198.51.100.1"}), OMAR, PASSWORD)[3] == ""


def test_a_hundred_attempts_at_once_cost_no_more_than_the_free_ones(server: Server) -> None:
    """Sent together, before any is answered: twenty are looked at, two at a time, and the rest are refused."""
    attacker = Person(server, **{"X-Forwarded-For": "203.0.113.9"})
    fields = attacker.form() | {"name": OMAR, "password": "wrong password"}
    cookie, work = attacker.cookie_header(), len(server.hashes)

    def attempt(_: int) -> int:
        headers = {"Cookie": cookie, "Origin": server.url, "Content-Type": "application/x-www-form-urlencoded"}
        headers |= attacker.headers
        return server.http.request("POST", server.url + "/audit/signin", body=urlencode(fields), headers=headers).status

    with ThreadPoolExecutor(50) as threads:
        assert set(threads.map(attempt, range(100))) == {403}
    assert len(server.hashes) - work == ADDRESS_FREE


def test_a_hundred_attempts_at_once_count_as_a_hundred() -> None:
    """An attempt counts before its password is looked at: racing past the lock gains nothing."""
    clock = Clock()
    locks = Locks(5, clock)
    assert [locks.begin("ines") for _ in range(100)].count(True) == 5
    clock.now += SECOND
    assert [locks.begin("ines") for _ in range(100)].count(True) == 1
    clock.now += SECOND
    assert not locks.begin("ines")
    clock.now += SECOND
    assert locks.begin("ines")


def test_a_lock_is_bounded_ends_and_is_forgotten() -> None:
    """Fifteen minutes at most; a day without a failure forgets; an own sign-in takes back one failure of an address."""
    clock = Clock()
    locks = Locks(2, clock)
    for _ in range(50):
        assert locks.begin("a")
        clock.now += LONGEST_LOCK * SECOND
    assert locks.begin("a")
    clock.now += LONGEST_LOCK * SECOND - 1
    assert not locks.begin("a")
    clock.now += DAYS * SECOND
    assert [locks.begin("a") for _ in range(3)] == [True, True, False]
    locks.good("a", all_of_them=False)
    assert [locks.begin("a") for _ in range(2)] == [True, False]
    locks.good("a", all_of_them=True)
    assert [locks.begin("a") for _ in range(3)] == [True, True, False]


def test_a_million_addresses_do_not_fill_the_memory() -> None:
    """The table is bounded; what failed longest ago is forgotten first."""
    locks = Locks(2, Clock())
    assert [locks.begin("first") for _ in range(3)] == [True, True, False]
    for number in range(MAX_KEPT - 1):
        locks.begin(str(number))
    assert not locks.begin("first")
    locks.begin("one too many")
    assert len(locks._kept) == MAX_KEPT
    assert locks.begin("first")


def test_an_ipv6_host_is_its_whole_network() -> None:
    """A /64 has 2^64 addresses and one owner."""
    assert network("2001:db8:1:2:3::4") == network("2001:db8:1:2:ffff::9") != network("2001:db8:1:3::4")
    assert network("::ffff:203.0.113.9") == network("203.0.113.9") == "203.0.113.9"
    assert network("fe80::1%eth0") == network("fe80::2")
    assert len(network("x" * 10_000)) <= 64


# ------------------------------------------------------------------------------------------------ the record


def test_a_flood_of_failures_does_not_flood_the_trail(server: Server) -> None:
    """Twenty are recorded one by one, and the next event says how many were not."""
    before = len(server.records)
    people = [Person(server, **{"X-Forwarded-For": f"203.0.113.{number}"}) for number in range(40)]
    for person in people:
        assert person.sign_in("nobody", "wrong password").status == 403
    kept = len(server.records) - before
    assert kept == 20
    assert Person(server).sign_in().status == 303
    told = server.records[-1]
    assert (told["identity"], told["outcome"]) == (INES, "success")
    assert told["reason"] == f"{40 - kept} failed attempts before it were not recorded one by one"
    assert Person(server).sign_in().status == 303
    assert server.records[-1]["reason"] is None


def test_a_password_typed_into_the_wrong_field_is_not_kept(server: Server, ines: Person) -> None:
    """The trail is kept for years: a name that is no account's does not get into it."""
    assert ines.sign_in(PASSWORD, INES).status == 403
    assert server.records[-1] == {
        "what": "in",
        "identity": "unknown",
        "outcome": "denied",
        "how": "password",
        "reason": "no such account",
        "session": None,
    }
    assert PASSWORD not in (server.folder / "records").read_text()


def test_what_cannot_be_recorded_lets_nobody_in(server: Server, ines: Person) -> None:
    """503 and no session, for a right password and a wrong one alike: the answer would tell them apart."""
    down = server.folder / "down"
    down.touch()
    try:
        answers = [ines.sign_in(), ines.sign_in(INES, "wrong password"), ines.sign_in("nobody", "wrong password")]
        for number in range(BURST):  # more than are recorded one by one
            other = Person(server, **{"X-Forwarded-For": f"203.0.113.{number}"})
            answers += [other.sign_in("nobody", "wrong password")]
        assert {answer.status for answer in answers} == {503}
        assert len({re.sub(rb'name="csrf" value="\w+"', b"", answer.data) for answer in answers}) == 1
        assert "auditlib" not in ines.cookies
    finally:
        down.unlink()
    assert ines.sign_in().status == 303


def test_who_has_no_engagement_is_told_so_and_not_let_in(server: Server, ines: Person) -> None:
    """A right password alone opens nothing."""
    (server.folder / "admitted").write_text(OMAR)
    answer = ines.sign_in()
    assert answer.status == 403
    assert b"no engagement in your name holds" in answer.data
    assert server.records[-1]["outcome"] == "denied"
    assert "auditlib" not in ines.cookies


# ------------------------------------------------------------------------------------------------ tricks


def test_a_session_cannot_be_planted(server: Server, ines: Person) -> None:
    """The id is made at the sign-in, whatever was sent before; the one that was in use holds no more."""
    ines.cookies["auditlib"] = "planted" * 6
    ines.sign_in()
    first = ines.cookies["auditlib"]
    assert first != "planted" * 6
    old = Person(server)
    old.cookies["auditlib"] = first
    fields = Person(server).form()
    ines.cookies.pop("auditlib")
    again = Person(server)
    fields = again.form() | {"name": INES, "password": PASSWORD}
    again.cookies["auditlib"] = first
    assert again.ask("POST", "/audit/signin", fields).status == 303
    assert again.cookies["auditlib"] != first
    assert again.signed_in()
    assert not old.signed_in()


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example/audit/",
        "/\\evil.example",
        "/audit//evil.example/..",
        "/audit/../../evil",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/elsewhere",
        "/auditors",
        "http:///evil.example",
        "/audit/\r\nSet-Cookie: a=b",
        "/audit/\tx",
        "/audit/" + "a" * 3_000,
        "/audit/page@[::",
        "/audit/é",
    ],
)
def test_the_sign_in_leads_nowhere_else(server: Server, ines: Person, address: str) -> None:
    """`next` is a path of this site or it is nothing, before and after the sign-in."""
    fields = ines.form("/signin?" + urlencode({"next": address}))
    assert fields["next"] == ""
    fields |= {"name": INES, "password": PASSWORD, "next": address}
    assert ines.ask("POST", "/audit/signin", fields).headers["Location"] == "/audit/"
    assert ines.get("/signin?" + urlencode({"next": address})).headers["Location"] == "/audit/"


def test_another_site_cannot_sign_anybody_in(server: Server, ines: Person) -> None:
    """Without our form, from another origin, without one, or with another browser's token: nothing happens."""
    good = ines.form() | {"name": INES, "password": PASSWORD}
    before, work = len(server.records), server.hashes
    other = Person(server)
    other.form()
    attempts = [
        ines.ask("POST", "/audit/signin", good | {"csrf": "0" * 64}),
        ines.ask("POST", "/audit/signin", {"name": INES, "password": PASSWORD}),
        ines.ask("POST", "/audit/signin", good, Origin="https://evil.example"),
        ines.ask("POST", "/audit/signin", good, Origin="null"),
        ines.ask("POST", "/audit/signin", good, Origin=None),
        Person(server).ask("POST", "/audit/signin", good),
        other.ask("POST", "/audit/signin", good),
    ]
    assert [answer.status for answer in attempts] == [403] * len(attempts)
    assert (len(server.records), server.hashes) == (before, work)
    assert "auditlib" not in ines.cookies
    assert ines.ask("POST", "/audit/signin", good).status == 303


def sign_out_token(person: Person) -> str:
    """What a page's own form would carry."""
    return str(person.get("/told").json()["csrf"])


def test_another_site_cannot_sign_anybody_out(server: Server, ines: Person) -> None:
    """Signing out takes our own form, and then the cookie opens nothing any more."""
    ines.sign_in()
    token, cookie = sign_out_token(ines), ines.cookies["auditlib"]
    session = ines.get("/told").json()["session"]
    for fields, origin in [
        ({}, server.url),
        ({"csrf": "0" * 64}, server.url),
        ({"csrf": token}, "https://evil.example"),
    ]:
        assert ines.ask("POST", "/audit/signout", fields, Origin=origin).status == 403
    assert ines.get("/signout").status == 405
    assert ines.signed_in()
    answer = ines.ask("POST", "/audit/signout", {"csrf": token})
    assert (answer.status, answer.headers["Location"]) == (303, "/audit/signin?out=1")
    assert "auditlib" not in ines.cookies
    ines.cookies["auditlib"] = cookie
    assert not ines.signed_in()
    assert server.records[-1] == {"what": "out", "identity": INES, "why": "asked for", "session": session}


def test_signing_out_works_when_nothing_can_be_recorded(server: Server, ines: Person) -> None:
    """A full disk keeps nobody signed in."""
    ines.sign_in()
    token, cookie = sign_out_token(ines), ines.cookies["auditlib"]
    down = server.folder / "down"
    down.touch()
    try:
        ines.ask("POST", "/audit/signout", {"csrf": token})
    finally:
        down.unlink()
    ines.cookies["auditlib"] = cookie
    assert not ines.signed_in()


def test_a_name_that_is_rebound_to_this_address_gets_nothing(server: Server, ines: Person) -> None:
    """A page of another name that resolves to this server is not served, signed in or not."""
    ines.sign_in()
    for path in ("/signin", "/page", "/page/ws"):
        assert ines.get(path, Host="evil.example").status == 421
    assert ines.sign_in(Host="evil.example", Origin="http://evil.example").status == 421


def test_a_stranger_cannot_make_the_server_import_a_module(server: Server, ines: Person) -> None:
    """Panel's own handler for components imports whatever is named before it looks further."""
    ines.sign_in()
    for person in (ines, Person(server)):
        assert person.get("/components/antigravity/x/__css__/a.css").status == 404


# ------------------------------------------------------------------------------------------------ websockets


def test_a_websocket_opens_for_who_is_signed_in(server: Server, ines: Person) -> None:
    """And for nobody else: without a sign-in, from another origin, after signing out."""
    ines.sign_in()
    token = ines.token()
    assert ines.socket(token) == 101
    token = ines.token()
    assert ines.socket(token, cookie="") == 403
    assert ines.socket(token, cookie="auditlib=" + "x" * 43) == 403
    assert ines.socket(token, origin="https://evil.example") == 403
    assert ines.socket(token, origin="null") == 403
    sign_out, kept = sign_out_token(ines), ines.cookie_header()
    ines.ask("POST", "/audit/signout", {"csrf": sign_out})
    assert ines.socket(token, cookie=kept) == 403


# ------------------------------------------------------------------------------------------------ how long it holds


def test_a_sign_in_ends_when_nothing_is_done_and_at_the_end_of_the_day(server: Server, ines: Person) -> None:
    """Half an hour without a page, eight hours whatever is done."""
    ines.sign_in()
    session = ines.get("/told").json()["session"]
    for _ in range(LIFETIME // (IDLE - 60)):
        assert ines.signed_in()
        server.later(IDLE - 60)
    assert ines.signed_in()
    server.later(IDLE - 60)
    assert not ines.signed_in()
    assert server.why_ended(session) == ["expired"]
    ines.sign_in()
    session = ines.get("/told").json()["session"]
    server.later(IDLE)
    assert not ines.signed_in()
    assert not ines.signed_in()
    assert server.why_ended(session) == ["idle"]


def test_taking_an_account_away_ends_its_sign_ins(tmp_path: Path) -> None:
    """So does another password; without a restart."""
    with serving(tmp_path / "s") as server:
        ines, omar = Person(server), Person(server)
        assert (ines.sign_in(INES).status, omar.sign_in(OMAR).status) == (303, 303)
        path = server.folder / "accounts.toml"
        remove_account(path, INES)
        assert (ines.signed_in(), omar.signed_in()) == (False, True)
        assert ines.sign_in().status == 403
        set_password(path, OMAR, "another long password", new=False, now=lambda: NOW + SECOND)
        assert not omar.signed_in()
        server.later(2)
        assert omar.sign_in(OMAR).status == 403
        assert omar.sign_in(OMAR, "another long password").status == 303
        path.write_text("no TOML")
        assert omar.get("/page").status == 503
        assert omar.sign_in(OMAR, "another long password").status == 503


def test_the_link_for_one_person_signs_in_once(tmp_path: Path) -> None:
    """On one's own machine: the link that the server prints, and no form."""
    with serving(tmp_path / "s", accounts=False, once=True) as server:
        person = Person(server)
        link = urlsplit(server.link)
        assert "printed when it was started" in person.get("/signin").data.decode()
        assert person.ask("POST", "/signin", person.form()).status == 405
        assert person.get("/signin?once=" + "x" * 43).status == 403
        (server.folder / "down").touch()
        assert person.ask("GET", f"{link.path}?{link.query}").status == 503
        (server.folder / "down").unlink()
        assert person.ask("GET", f"{link.path}?{link.query}").status == 303
        assert person.signed_in()
        assert Person(server).ask("GET", f"{link.path}?{link.query}").status == 403
        assert [(told["identity"], told["outcome"], told["how"]) for told in server.records] == [
            ("unknown", "denied", "link"),
            ("solo", "success", "link"),
            ("unknown", "denied", "link"),
        ]


# ------------------------------------------------------------------------------------------------ the parts


def test_the_table_knows_no_cookie_and_is_bounded() -> None:
    """A copy of the memory opens nothing; the oldest of one person's sign-ins makes room."""
    clock = Clock()
    table = SignIns(clock)
    cookie, signin = table.make(INES, "password")
    assert table.find(cookie) is None
    table.open(signin)
    assert table.find(cookie) is signin
    assert cookie not in repr(table._table) + repr(signin) + signin.session
    assert table.find(signin.session) is table.find(signin.digest.hex()) is table.find("") is table.find(None) is None
    assert table.find("x" * 1_000_000) is table.find("\ud800") is None
    for _ in range(MAX_EACH):
        clock.now += 1
        table.start(INES, "password")
    assert table.find(cookie) is None
    assert len(table._table) == MAX_EACH
    other, _ = table.start(OMAR, "password")
    assert table.find(other) is not None


def test_a_sign_in_holds_for_its_time_and_no_longer() -> None:
    """To the microsecond; a touch moves the idle limit and not the end; a clock set back ends it."""
    clock = Clock()
    table = SignIns(clock, lifetime=100, idle=30)
    _, signin = table.start(INES, "oidc")
    clock.now += 30 * SECOND - 1
    assert table.holds(signin)
    table.touch(signin)
    clock.now += 1
    assert table.holds(signin)
    for _ in range(3):
        clock.now += 20 * SECOND
        table.touch(signin)
    clock.now = NOW + 100 * SECOND - 1
    assert table.holds(signin)
    clock.now += 1
    table.touch(signin)
    assert not table.holds(signin)
    clock.now = NOW
    assert not table.holds(signin)  # ended is ended
    _, another = table.start(INES, "oidc")
    clock.now -= 3_600 * SECOND
    assert not table.holds(another)


def test_every_end_of_a_sign_in_is_told_once_with_its_reason() -> None:
    """Idle, expired, a changed account, a clock set back, too many, the server's own end; signing out is told there."""
    clock, told, gone = Clock(), list[tuple[SignIn, str]](), set[SignIn]()
    table = SignIns(clock, stands=lambda one: one not in gone, lifetime=100, idle=30)
    table.over = lambda signin, why: told.append((signin, why))
    _, idle = table.start(INES, "oidc")
    _, used = table.start(OMAR, "oidc")
    clock.now += 20 * SECOND
    table.touch(used)
    clock.now += 10 * SECOND
    table.sweep()  # nobody asks for them
    assert told == [(idle, "idle")]
    for _ in range(4):
        table.touch(used)
        clock.now += 20 * SECOND
    assert not table.holds(used) and not table.holds(used)
    assert told[1:] == [(used, "expired")]
    _, removed = table.start(INES, "password")
    gone.add(removed)
    assert not table.holds(removed) and not table.holds(removed)
    _, early = table.start(INES, "oidc")
    clock.now -= 3_600 * SECOND
    assert not table.holds(early)
    mine = [table.start(INES, "oidc")[1] for _ in range(MAX_EACH + 1)]
    assert not table.holds(mine[0])
    assert table.end(mine[1], None) and not table.end(mine[1], None)
    table.close()
    table.close()
    assert told[2:] == [
        *((removed, "account changed"), (early, "the clock was set back"), (mine[0], "too many sign-ins")),
        *((one, "server ended") for one in mine[2:]),
    ]


def test_the_end_of_sign_ins_waits_for_nobody_and_is_recorded_before_the_server_is_gone() -> None:
    """A recorder that hangs blocks no click; at the end what is told is waited for; what fails stops nothing."""
    begun, let, kept = threading.Event(), threading.Event(), list[str]()

    class Slow:
        def signed_in(self, *told: Any, **more: Any) -> None: ...

        def signed_out(self, identity: str, why: str, *, session: SignIn | None = None) -> None:
            begun.set()
            let.wait()
            if identity == OMAR:
                raise UnavailableError("the disk is full.")
            kept.append(why)

    clock = Clock()
    signins = SignIns(clock)
    door = Door(Site(("http://127.0.0.1:1",)), signins, Slow(), lambda _: True, clock)
    _, omar = signins.start(OMAR, "oidc")
    clock.now += IDLE * SECOND
    assert not signins.holds(omar)
    begun.wait()
    _, ines = signins.start(INES, "oidc")
    assert signins.holds(ines) and kept == []  # while the recorder hangs
    let.set()
    door.close()
    assert kept == ["server ended"] and not signins.holds(ines)


@pytest.mark.parametrize("origin", ["audit.example.org", "https://a.example/path", "ftp://a.example", "https://", ""])
def test_a_site_that_cannot_be_is_refused(origin: str) -> None:
    """A wrong origin would let another site in, or nobody."""
    with pytest.raises(MalformedError):
        Site((origin,))


def test_http_and_https_at_once_are_refused() -> None:
    """A cookie that is Secure for some would be plain for others."""
    with pytest.raises(MalformedError):
        Site(("https://a.example", "http://a.example"))
    for prefix in ("audit", "/audit/", "/"):
        with pytest.raises(MalformedError):
            Site(("https://a.example",), prefix)


def account(*words: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    return command("account", *words, given=given)


def test_accounts_are_made_listed_and_taken_away(tmp_path: Path) -> None:
    """Only hashes stand in the file, which only its owner reads; what cannot be changes nothing."""
    path = tmp_path / "accounts.toml"
    done = account("add", INES, "--accounts", path, given=PASSWORD + "\n")
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written = path.read_text()
    assert PASSWORD not in written
    assert "$argon2id$v=19$m=65536,t=3,p=4$" in written  # RFC 9106, second recommended option
    for words, given in [
        (["add", INES], PASSWORD),
        (["add", "new"], "elevenchars"),
        (["add", "new"], "x" * 257),
        (["add", "new"], "a\tb" * 10),
        (["add", "new\nname"], PASSWORD),
        (["add", "long name"], "my long name 12"),
        (["password", "nobody"], PASSWORD),
        (["remove", "nobody"], ""),
    ]:
        refused_ = account(*words, "--accounts", path, given=given + "\n")
        assert (refused_.returncode, refused_.stdout) == (2, ""), words
        assert PASSWORD not in refused_.stderr
        assert path.read_text() == written
    assert json.loads(account("list", "--accounts", path, "--json").stdout)[0]["name"] == INES
    assert account("password", INES, "--accounts", path, given="another long password\n").returncode == 0
    assert Accounts(path).verify(INES, "another long password")
    assert account("remove", INES, "--accounts", path).returncode == 0
    assert read_accounts(path) == []


def test_a_person_types_a_password_twice_and_nobody_sees_it(tmp_path: Path) -> None:
    """At a terminal: asked for twice, not shown; two that differ make no account."""
    path = tmp_path / "accounts.toml"
    for second, code in (("something else entirely", 2), (PASSWORD, 0)):
        child, terminal = pty.fork()
        if child == 0:
            line = ["-m", "auditlib.cli", "account", "add", INES, "--accounts", str(path)]
            os.execv(sys.executable, [sys.executable, *line])
        shown = b""
        for prompt, given in ((b"Password: ", PASSWORD), (b"The same again: ", second)):
            while not shown.endswith(prompt):
                shown += os.read(terminal, 1024)
            os.write(terminal, given.encode() + b"\n")
        with contextlib.suppress(OSError):  # Linux: EIO once the other end is closed
            while more := os.read(terminal, 1024):
                shown += more
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
        os.close(terminal)
        assert PASSWORD.encode() not in shown
        assert path.exists() == (code == 0)


def test_a_password_is_the_same_from_every_keyboard(tmp_path: Path) -> None:
    """An é is one character or two, as the keyboard will have it."""
    path = tmp_path / "accounts.toml"
    set_password(path, "a", "caf\u00e9 au lait, encore", new=True, now=Clock())
    assert Accounts(path).verify("a", "cafe\u0301 au lait, encore")


def test_a_hash_with_older_parameters_is_renewed(tmp_path: Path) -> None:
    """After a right password, and only then; the password's age stays."""
    path = tmp_path / "accounts.toml"
    set_password(path, INES, PASSWORD, new=True, now=Clock())
    (made,) = read_accounts(path)
    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    path.write_text(path.read_text().replace(made.hash, old))
    accounts = Accounts(path)
    assert not accounts.verify(INES, "wrong password")
    assert accounts.verify(INES, PASSWORD)
    accounts.renew(INES, PASSWORD)
    (renewed,) = read_accounts(path)
    assert renewed.hash.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert renewed.set_at == made.set_at
    assert accounts.verify(INES, PASSWORD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'format = "auditlib/accounts/v2"',
        'format = "auditlib/accounts/v1"\naccounts = 1',
        HEAD + ENTRY.format("a", "hunter2hunter2", "2026-01-01T00:00:00Z"),
        HEAD + ENTRY.format("a", "$argon2id$x", "yesterday"),
        HEAD + ENTRY.format("a", "$argon2id$x", "2026-01-01T00:00:00Z") * 2,
    ],
)
def test_a_file_that_is_no_file_of_accounts_lets_nobody_in(tmp_path: Path, text: str) -> None:
    """And its error does not show what may be a password."""
    path = tmp_path / "accounts.toml"
    path.write_text(text)
    with pytest.raises(MalformedError) as caught:
        Accounts(path)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UnavailableError):
        Accounts(tmp_path / "none")


def test_a_damaged_hash_fits_no_password(tmp_path: Path) -> None:
    """It is refused as a wrong password is."""
    path = tmp_path / "accounts.toml"
    path.write_text(HEAD + ENTRY.format("a", "$argon2id$x", "2026-01-01T00:00:00Z"))
    assert not Accounts(path).verify("a", PASSWORD)


# ------------------------------------------------------------------------------------------------ OpenID


class Provider:
    """The provider as a process of its own, with the redirect address of one server."""

    def __init__(self, folder: Path, back: str) -> None:
        told = {"client": "auditlib", "secret": "s" * 40, "redirects": [back]}
        self.child = subprocess.Popen(
            ["node", "provider.mjs", json.dumps(told)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.child.stdout is not None
        self.issuer = self.child.stdout.readline().strip()
        assert self.issuer.startswith("http://127.0.0.1:")

    def forge(self, fault: str) -> None:
        assert urllib3.request("POST", f"{self.issuer}/forge", body=fault).status == 200

    def stop(self) -> None:
        self.child.kill()
        self.child.communicate(timeout=30)


HOST = "audit.example.org"
BACK = f"https://{HOST}/audit/signin/oidc/callback"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    running = Provider(npm_packages("oidc", node=20), BACK)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def behind_provider(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    told = {"issuer": provider.issuer, "client": "auditlib", "secret": "s" * 40}
    options = {"prefix": "/audit", "origins": [f"https://{HOST}"], "oidc": told}
    with serving(tmp_path_factory.mktemp("oidc"), accounts=False, **options) as server:
        yield server


@pytest.fixture
def visitor(behind_provider: Server, provider: Provider) -> Person:
    """A browser that reaches the server by the name of its proxy."""
    behind_provider.later(DAYS)
    behind_provider.admit()
    provider.forge("")
    return Person(behind_provider, Host=HOST)


def at_provider(person: Person, login: str, path: str = "/signin/oidc") -> str:
    """Go to the provider, sign in there by its own form, agree; the path that it sends the browser back to."""
    provider = urllib3.PoolManager(retries=False)
    cookies: dict[str, str] = {}
    answer = person.get(path)
    assert answer.status == 303, answer.data
    assert "no-store" in answer.headers["Cache-Control"]
    address = answer.headers["Location"]
    for _ in range(12):
        fields = None
        if "/interaction/" in address:
            fields = {"prompt": "login" if "login" not in cookies.get("asked", "") else "consent"}
            fields |= {"login": login, "password": "any"} if fields["prompt"] == "login" else {}
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items() if name != "asked")}
        if fields is not None:
            cookies["asked"] = "login"
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        body = None if fields is None else urlencode(fields)
        answer = provider.request("POST" if fields else "GET", address, headers=sent, body=body, redirect=False)
        for line in answer.headers.getlist("Set-Cookie"):
            cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        address = urljoin(address, answer.headers["Location"])
        if address.startswith(BACK):
            parts = urlsplit(address)
            return f"{parts.path}?{parts.query}"
    raise AssertionError(address)


def test_an_openid_provider_says_who_somebody_is(visitor: Person) -> None:
    """The whole flow, with PKCE, ending in our own session; no token of the provider is kept anywhere."""
    answer = visitor.get("/signin/oidc?next=/audit/page?a=1")
    asked = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert asked["response_type"] == ["code"]
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [BACK]
    assert asked["state"] != asked["nonce"]
    (line,) = visitor.set_cookies
    assert re.fullmatch(r"__Secure-auditlib-oidc=\S+; HttpOnly; Max-Age=600; Path=/audit; SameSite=Lax; Secure", line)
    back = at_provider(visitor, INES, "/signin/oidc?next=/audit/page?a=1")
    answer = visitor.ask("GET", back)
    assert (answer.status, answer.headers["Location"]) == (303, "/audit/page?a=1")
    assert set(visitor.cookies) == {"__Secure-auditlib"}
    assert (visitor.get("/told").json()["identity"], visitor.get("/told").json()["how"]) == (INES, "oidc")
    told = visitor.server.records[-1]
    assert (told["identity"], told["outcome"], told["how"]) == (INES, "success", "oidc")
    kept = visitor.cookies.copy()
    visitor.ask("POST", "/audit/signout", {"csrf": sign_out_token(visitor)}, Origin=f"https://{HOST}")
    visitor.cookies = kept
    assert not visitor.signed_in()


def denied(person: Person, answer: Any, reason: str) -> None:
    """Not signed in, told nothing of why, and the record says it."""
    assert answer.status == 403
    assert b"The identity provider did not confirm who you are" in answer.data
    assert "__Secure-auditlib" not in person.cookies
    told = person.server.records[-1]
    assert (told["identity"], told["outcome"], told["how"]) == ("unknown", "denied", "oidc")
    assert reason in told["reason"]


FAULTS = {
    "another claim": "InvalidSignatureError",
    "another key": "InvalidSignatureError",
    "no key": "does not hold",
    "no key, a known name": "does not hold",
    "the public key as a password": "does not hold",
    "another audience": "InvalidAudienceError",
    "another party": "for another client",
    "another issuer": "InvalidIssuerError",
    "expired": "ExpiredSignatureError",
    "no expiry": "MissingRequiredClaimError",
    "another nonce": "of another sign-in",
    "no nonce": "MissingRequiredClaimError",
    "another subject": "somebody else",
    "none": "no ID token",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_forged_token_signs_nobody_in(visitor: Person, provider: Provider, fault: str) -> None:
    """Whatever is wrong with the ID token that comes back, nobody is signed in by it."""
    back = at_provider(visitor, INES)
    provider.forge(fault)
    denied(visitor, visitor.ask("GET", back), FAULTS[fault])


def test_an_address_that_is_not_verified_is_nobody(visitor: Person) -> None:
    """Anybody can write any address into a profile."""
    visitor.server.admit("unverified@auditor.example")
    back = at_provider(visitor, "unverified@auditor.example")
    denied(visitor, visitor.ask("GET", back), "does not vouch")


def test_a_state_of_another_browser_signs_nobody_in(visitor: Person) -> None:
    """An attacker's own answer, sent to a victim, does not sign the victim in as the attacker."""
    attacker = Person(visitor.server, Host=HOST)
    back = at_provider(attacker, OMAR)
    denied(visitor, visitor.ask("GET", back), "no sign-in was begun")
    visitor.get("/signin/oidc")
    denied(visitor, visitor.ask("GET", back), "state is not the one")
    assert attacker.ask("GET", back).status == 303


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda query: query | {"state": "x" * 43}, "state is not the one"),
        (lambda query: {name: value for name, value in query.items() if name != "state"}, "state is not the one"),
        (lambda query: query | {"state": "é"}, "state is not the one"),
        (lambda query: query | {"code": "x" * 43}, "refused it (400)"),
        (lambda query: query | {"iss": "https://id.example.org"}, "another provider"),
        (lambda query: {name: value for name, value in query.items() if name != "iss"}, "another provider"),
        (lambda query: {name: value for name, value in query.items() if name != "code"}, "no code"),
    ],
)
def test_an_answer_that_was_changed_on_its_way_signs_nobody_in(visitor: Person, change: Any, reason: str) -> None:
    """State, code and issuer are what the provider sent, to this browser."""
    path, _, query = at_provider(visitor, INES).partition("?")
    changed = change({name: values[0] for name, values in parse_qs(query).items()})
    denied(visitor, visitor.ask("GET", f"{path}?{urlencode(changed)}"), reason)


def test_an_answer_is_good_once_and_not_for_long(visitor: Person) -> None:
    """Replayed with its cookie, or after ten minutes, it is worth nothing."""
    back = at_provider(visitor, INES)
    ticket = visitor.cookies["__Secure-auditlib-oidc"]
    assert visitor.ask("GET", back).status == 303
    again = Person(visitor.server, Host=HOST)
    again.cookies["__Secure-auditlib-oidc"] = ticket
    denied(again, again.ask("GET", back), "refused it (400)")
    late = Person(visitor.server, Host=HOST)
    back = at_provider(late, INES)
    visitor.server.later(601)
    denied(late, late.ask("GET", back), "took too long")


def test_junk_in_the_place_of_a_ticket_is_refused(visitor: Person) -> None:
    """The cookie is the browser's to write."""
    for junk in ("", "..", "a.b.c", "a.1.b.c", "x" * 5_000):
        visitor.cookies["__Secure-auditlib-oidc"] = junk
        answer = visitor.ask("GET", "/audit/signin/oidc/callback?state=x&code=y")
        assert answer.status == 403, junk


def test_a_provider_that_is_gone_lets_nobody_in(tmp_path: Path) -> None:
    """It is said, and the page still answers."""
    told = {"issuer": "http://127.0.0.1:9", "client": "auditlib", "secret": "s"}
    with serving(tmp_path / "s", accounts=False, oidc=told) as server:
        person = Person(server)
        assert person.get("/signin/oidc").status == 503
        assert person.get("/signin").status == 200
        assert not person.signed_in()
