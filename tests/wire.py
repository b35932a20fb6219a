"""The dashboard as somebody hostile reaches it: HTTP and Bokeh's websocket protocol by hand, without a browser."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import urllib3
import websocket
from dashboards import PASSWORD, Dashboard

SECONDS = 40  # in which an answer must come, on a loaded machine


class Knocker:
    """Somebody who signed in over HTTP alone."""

    def __init__(self, served: Dashboard, identity: str, password: str = PASSWORD) -> None:
        self.served, self.identity = served, identity
        self.origin = served.url.rstrip("/")
        self._http = urllib3.PoolManager(maxsize=32, retries=False)
        form = self._http.request("GET", served.url + "signin")
        self.form_cookie = form.headers["Set-Cookie"].partition(";")[0]
        csrf = _found(r'name="csrf" value="([0-9a-f]+)"', form.data.decode())
        self.signed = self._http.request(
            "POST",
            served.url + "signin",
            headers={
                "Cookie": self.form_cookie,
                "Origin": self.origin,
                "Content-Type": "application/x-www-form-urlencoded",
            },
            body=urlencode({"csrf": csrf, "next": "", "name": identity, "password": password}),
            redirect=False,
        )
        self.cookie = (self.signed.headers.get("Set-Cookie") or "").partition(";")[0]

    def get(self, address: str, method: str = "GET", **headers: str) -> urllib3.BaseHTTPResponse:
        """An address of the dashboard, with this person's cookie."""
        return self._http.request(
            method, self.served.url + address, headers={"Cookie": self.cookie, **headers}, redirect=False
        )

    def close(self) -> None:
        self._http.clear()

    def sign_out(self) -> urllib3.BaseHTTPResponse:
        """As the button does it."""
        csrf = _found(r'name="csrf" value="([0-9a-f]+)"', self.get("overview").data.decode())
        headers = {"Cookie": self.cookie, "Origin": self.origin, "Content-Type": "application/x-www-form-urlencoded"}
        return self._http.request(
            "POST", self.served.url + "signout", headers=headers, body=urlencode({"csrf": csrf}), redirect=False
        )

    def token(self, address: str) -> str:
        """What a page gives its browser to open its websocket with."""
        answer = self.get(address)
        assert answer.status == 200, (address, answer.status)
        return token_of(answer.data.decode())

    def page(self, address: str, **options: Any) -> Socket:
        """A page, opened; what its address asks for has not been asked for yet."""
        token = self.token(address)
        return Socket(self, address.partition("?")[0], token, **options)

    @contextlib.contextmanager
    def shown(self, address: str) -> Iterator[Socket]:
        """A page that has answered its address."""
        page = self.page(address)
        try:
            page.ready()
            page.wait()
            yield page
        finally:
            page.close()

    def text(self, address: str) -> str:
        """All that a page sends after it was opened."""
        with self.shown(address) as page:
            return page.everything()


class Socket:
    """One open page: what it was sent, and whatever its browser may send."""

    def __init__(self, who: Knocker, page: str, token: str, *, cookie: str | None = None) -> None:
        url = "ws" + who.served.url.removeprefix("http") + page + "/ws"
        self._socket = websocket.WebSocket()
        self._socket.settimeout(SECONDS)
        self.said: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self._number = 0
        self.models: dict[str, str] = {}  # name -> id
        try:
            self._socket.connect(
                url,
                origin=who.origin,
                subprotocols=["bokeh", token],
                cookie=who.cookie if cookie is None else cookie,
                host=urlsplit(who.origin).netloc,
            )
            assert self.read()["msgtype"] == "ACK"
        except BaseException:
            self.close()
            raise

    def read(self) -> dict[str, Any]:
        """The next whole message: its header, with the content under `content`."""
        header = json.loads(self._receive())
        self._receive()
        content = self._receive()
        for _ in range(2 * header.get("num_buffers", 0)):
            self._socket.recv()
        self._texts.append(content)
        self.said.append({**header, "content": json.loads(content)})
        return self.said[-1]

    def _receive(self) -> str:
        got = self._socket.recv()
        if got == "" or isinstance(got, bytes):
            raise ConnectionError("closed")
        return got

    def send(self, kind: str, content: Any, **header: Any) -> str:
        """A message of Bokeh's protocol; its id."""
        self._number += 1
        number = f"m{self._number}"
        self.raw(json.dumps({"msgid": number, "msgtype": kind, **header}))
        self.raw("{}")
        self.raw(content if isinstance(content, str) else json.dumps(content))
        return number

    def raw(self, data: str | bytes) -> None:
        """One frame."""
        self._socket.send(data, websocket.ABNF.OPCODE_BINARY if isinstance(data, bytes) else websocket.ABNF.OPCODE_TEXT)

    def reply(self, number: str) -> dict[str, Any]:
        """The message that answers this one."""
        while True:
            message = self.read()
            if message.get("reqid") == number:
                return message

    def ready(self) -> None:
        """What a browser does when the page is there."""
        pulled = self.reply(self.send("PULL-DOC-REQ", {}))["content"]
        self.models = dict(_named(pulled))
        self.patch({"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": DOCUMENT_READY})

    def patch(self, *events: dict[str, Any]) -> str:
        """Changes to the document; the message's id."""
        return self.send("PATCH-DOC", {"events": list(events)})

    def change(self, model: str, attribute: str, value: Any) -> str:
        """One property of one model."""
        return self.patch({"kind": "ModelChanged", "model": {"id": model}, "attr": attribute, "new": value})

    def ask(self, number: int, query: str) -> str:
        """As app.js does it."""
        return self.change(self.models["ask"], "value", f"{number} {query}")

    def wait(self, number: int = 0) -> None:
        """Until the page says that it has answered this question or a later one."""
        answered = self.models["answered"]
        while True:
            message = self.read()
            if message["msgtype"] != "PATCH-DOC":
                continue
            for event in message["content"]["events"]:
                told = event.get("attr") == "value" and event["model"]["id"] == answered
                if told and event["new"].isdecimal() and int(event["new"]) >= number:
                    return

    def answer(self, number: int, query: str) -> str:
        """Ask, wait, and what was sent meanwhile."""
        seen = len(self._texts)
        self.ask(number, query)
        self.wait(number)
        return _plain("\n".join(self._texts[seen:]))

    def everything(self) -> str:
        """All that was ever sent, unescaped."""
        return _plain("\n".join(self._texts))

    def rest(self, seconds: float) -> str:
        """What comes until nothing came for so long, or the other side closed."""
        seen = len(self._texts)
        self._socket.settimeout(seconds)
        with contextlib.suppress(Exception):
            while True:
                self.read()
        self._socket.settimeout(SECONDS)
        return _plain("\n".join(self._texts[seen:]))

    def closed(self) -> bool:
        """Whether the server closed it, now or soon."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                self.read()
            except websocket.WebSocketTimeoutException:
                return False
            except (ConnectionError, OSError, websocket.WebSocketException, ValueError):
                return True
        return False

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._socket.close(timeout=1)
        self._socket.shutdown()


DOCUMENT_READY = {
    "type": "event",
    "name": "document_ready",
    "values": {"type": "map", "entries": []},
}


def token_of(page: str) -> str:
    return _found(r'"token":"([^"]+)"', page)


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, text[:2000]
    return found.group(1)


def _named(value: Any) -> Iterator[tuple[str, str]]:
    """Names and ids of models, wherever they stand in a document."""
    if isinstance(value, dict):
        attributes = value.get("attributes")
        if isinstance(attributes, dict) and isinstance(attributes.get("name"), str):
            yield attributes["name"], value["id"]
        for each in value.values():
            yield from _named(each)
    elif isinstance(value, list):
        for each in value:
            yield from _named(each)


def _plain(text: str) -> str:
    """JSON and HTML in it undone once each, so that a text is found as it was."""
    import html

    return html.unescape(text.encode().decode("unicode_escape", errors="replace") if "\\u" in text else text)
