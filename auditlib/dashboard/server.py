"""The dashboard as a server: Panel pages behind a sign-in, under one policy for what a browser may run.

A page is made in two steps. GET answers at once with the frame (navigation, scope in words) and an empty place; what is
shown is asked in a thread once the websocket is open, and sent over it: nobody waits for somebody else's question.
The websocket opens once, only for the sign-in that loaded the page, and never makes a page of its own; what may come
over it stands in gate.py. A page goes with its websocket, or after a minute in which none was opened.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import panel as pn
from bokeh.document import Document
from bokeh.events import DocumentReady
from bokeh.models import TextInput
from bokeh.protocol.exceptions import ProtocolError
from bokeh.server.urls import per_app_patterns
from bokeh.util.token import get_session_id
from panel.io.server import DocHandler, Server, WSHandler, get_server
from panel.io.state import set_curdoc
from tornado.web import HTTPError, RequestHandler, StaticFileHandler

from auditlib.dashboard.gate import MAX_FRAME_BYTES, MAX_UNTAKEN_BYTES, ClosedError, Gate
from auditlib.dashboard.handed import HandedHandler
from auditlib.dashboard.headers import hardened
from auditlib.dashboard.markup import FOLDER, pane, refusal, templates
from auditlib.dashboard.pages import PAGES
from auditlib.dashboard.pages.view import Page, in_one_piece
from auditlib.dashboard.signin_pages import SIGNED, provider, sign_in_patterns
from auditlib.dashboard.signins import SignIn
from auditlib.dashboard.visit import Desk, Visit, address
from auditlib.engagements import in_a_line, in_words
from auditlib.errors import AuditlibError, UnavailableError

MAX_ASKED_CHARS = 20_000  # characters that a page may send at once
BODY_BYTES = 64 * 1024  # bytes of a request's body; a sign-in form has some hundred
UNUSED_MS = 60_000  # milliseconds after which a page that nobody opened is forgotten
SWEEP_MS = 5_000  # milliseconds between looks for those, and for pages that were closed
MAX_PAGES = 64  # of one person at once, a quarter of a MiB each
IDLE_SECONDS = 30  # in which a request's headers must be here, or the next request on a connection
_OTHERS = ("bokeh-session-id", "bokeh-token")  # by which Bokeh would show a page that is there already, whosever it is
# Of what Bokeh and Panel would load, as much as these pages use; all of it comes from this server.
SCRIPTS = (
    "static/js/bokeh.min.js",
    "static/js/bokeh-widgets.min.js",
    "static/js/bokeh-tables.min.js",
    "static/extensions/panel/panel.min.js",
    "assets/event.js",
    "assets/app.js",
)
CHECKS = FOLDER.parent / "packet" / "templates"  # with what the report checks itself in a browser
_log = logging.getLogger("auditlib.dashboard")


def serve(desk: Desk, host: str, port: int) -> Server:
    """A server that listens on this address (0: a port of its choice); the caller runs its event loop."""
    site, visits = desk.door.site, dict[str, Visit]()
    per_app_patterns[:] = _handlers(visits)

    def find(handler: RequestHandler) -> SignIn | None:
        return desk.signins.find(handler.get_cookie(site.cookie(SIGNED)))

    assets = [
        (r"/assets/((?:primitives|checks)\.js)", StaticFileHandler, {"path": CHECKS}),
        (r"/assets/(.*)", StaticFileHandler, {"path": FOLDER / "static"}),
        (r"/handed/([A-Za-z0-9_-]+)", HandedHandler, {"handed": desk.handed, "find": find}),
        (r"/?", _Home, {"home": site.home + "overview"}),
    ]
    pn.config.reconnect = False
    server = get_server(
        {f"/{page.name}": _application(desk, page, visits) for page in PAGES},
        port=port,
        address=host,
        prefix=site.prefix,
        websocket_origin=[urlsplit(origin).netloc for origin in site.origins],
        auth_provider=provider(desk.door),
        extra_patterns=[*sign_in_patterns(desk.door), *assets],
        transforms=[hardened(site)],
        use_index=False,
        location=False,
        include_cookies=[],
        include_headers=[],
        sign_sessions=True,
        secret_key=secrets.token_urlsafe(32),
        session_token_expiration=120,
        unused_session_lifetime=UNUSED_MS,
        check_unused_sessions=SWEEP_MS,
        websocket_max_message_size=MAX_FRAME_BYTES,
        http_server_kwargs={
            "max_body_size": BODY_BYTES,
            "body_timeout": IDLE_SECONDS,
            "idle_connection_timeout": IDLE_SECONDS,
        },
    )
    server._tornado.settings["log_function"] = _log_request
    return server


def _handlers(visits: dict[str, Visit]) -> list[tuple[str, type]]:
    """Bokeh's own handlers, which know whose page it is."""

    class Document(DocHandler):  # type: ignore[misc]
        async def get(self, *args: Any, **kwargs: Any) -> None:
            """A new page of who is signed in, unless they have too many."""
            if any(self.get_arguments(name) for name in _OTHERS) or "Bokeh-Session-Id" in self.request.headers:
                raise HTTPError(404)
            signin = self.current_user
            if signin and sum(visit.identity == signin.identity for visit in visits.values()) >= MAX_PAGES:
                raise HTTPError(429)
            self.request.signin = signin
            answer = super().get(*args, **kwargs)
            if answer is not None:  # who is not signed in was sent to where that is done
                await answer

        def log_exception(self, *what: Any) -> None:
            """Without the address, as `_log_request`."""
            if not isinstance(what[1], HTTPError):
                _log.error("a page could not be loaded", exc_info=what)

    class Socket(WSHandler):  # type: ignore[misc]
        gate: Gate | None = None
        untaken = 0  # bytes that wait to be sent

        def open(self, *args: Any, **kwargs: Any) -> Any:
            """Refuse a page that another sign-in loaded, one that is not there any more, and one that is open."""
            visit = visits.get(_session_of(self._token))
            mine = visit is not None and self.current_user is not None and visit.signin is self.current_user
            if visit is None or not mine or visit.opened or self.request.path.split("/")[-2] != visit.page:
                self.close(4403, "not this sign-in's page")
                return None
            self.gate = Gate(time.monotonic)
            try:
                super().open(*args, **kwargs)
            except ProtocolError:  # the token is not as it was signed, or is too old: Bokeh has closed it
                return None
            visit.opened = True
            return None

        async def on_message(self, frame: str | bytes) -> None:
            """What gate.py lets through; while it makes the browser wait, Tornado reads no further."""
            if self.gate is None or self.connection is None:
                self.close(4400, "not opened")
                return
            if (wait := self.gate.price(len(frame))) > 0:
                await asyncio.sleep(wait)
            session = self.connection.session
            try:
                taken = self.gate.take(frame, None if session.destroyed else session.document)
            except ClosedError:
                self.close(4400, "no page of this server says this")
                return
            await super().on_message(taken)

        async def send_message(self, message: Any) -> None:
            """A traceback names places here: it stays here. A browser that takes nothing is let go."""
            if message.msgtype == "ERROR":
                message.content.update(text="This could not be done.", traceback=None)
            size = len(message.content_json)
            if self.untaken + size > MAX_UNTAKEN_BYTES:
                if self.ws_connection is not None:
                    self.ws_connection._abort()
                return
            self.untaken += size
            try:
                await super().send_message(message)
            finally:
                self.untaken -= size

        def on_close(self) -> None:
            """A page opens once: when its browser is gone, so is the page."""
            session = None if self.connection is None else self.connection.session
            super().on_close()
            if session is not None and not session.destroyed:
                session.request_expiration()

    return [(r"/ws", Socket), (r"/?", Document)]


def _session_of(token: str | None) -> str:
    try:
        return str(get_session_id(token or ""))
    except Exception:
        return ""


def _log_request(handler: RequestHandler) -> None:
    """Without the query: it holds what an auditor searched."""
    path, milliseconds = handler.request.path, 1000 * handler.request.request_time()
    _log.info("%d %s %s %.0f ms", handler.get_status(), handler.request.method, path, milliseconds)


class _Home(RequestHandler):
    """The bare address leads to the first page."""

    def initialize(self, home: str) -> None:
        self._home = home

    def get(self) -> None:
        self.redirect(self._home)


def _application(desk: Desk, page: Page, visits: dict[str, Visit]) -> Callable[[], pn.Column]:
    def make() -> pn.Column:
        document = pn.state.curdoc
        context = document.session_context
        visit = Visit(desk, context.request.signin, page.name)
        visits[context.id] = visit
        pn.state.on_session_destroyed(lambda gone: visits.pop(gone.id, None))
        shown = _Shown(visit, page, context.request.query, document)
        document.template = templates().get_template("page.html")
        document.template_variables.update(_frame(visit, page, context.request))
        document.on_event(DocumentReady, shown.first)
        return shown.root

    return make


class _Shown:
    """What one open page shows: asked by the browser through a channel, answered into panes."""

    def __init__(self, visit: Visit, page: Page, query: str, document: Document) -> None:
        self._visit, self._document = visit, document
        self._query: str | None = query
        self._view = page.open(visit)
        self._wanted: tuple[int, str] | None = None
        self._turn = asyncio.Lock()
        self._asked = TextInput(name="ask", value="", visible=False)
        self._answered = TextInput(name="answered", value="", visible=False)
        self._asked.on_change("value", self._ask)
        self._trouble = pane()
        channels = [pn.pane.Bokeh(each, visible=False) for each in (self._asked, self._answered)]
        self.root = pn.Column(self._trouble, *self._view.panes, *channels, sizing_mode="stretch_width", margin=0)

    def first(self, _event: Any) -> None:
        """Answer the address that the page was loaded with, once the browser is there to hear it.

        Before that Panel schedules what changes, and some of it was seen to reach nobody.
        """
        if self._query is not None:
            query, self._query = self._query, None
            self._want(0, query)

    def _ask(self, _attribute: str, _old: Any, new: Any) -> None:
        number, _, query = str(new)[:MAX_ASKED_CHARS].partition(" ")
        self._visit.desk.signins.touch(self._visit.signin)
        self._want(int(number) if number.isdecimal() and len(number) < 10 else 0, query)

    def _want(self, number: int, query: str) -> None:
        """One question at a time; of those that come meanwhile only the newest is answered."""
        scheduled, self._wanted = self._wanted is not None, (number, query)
        if not scheduled:
            self._document.add_next_tick_callback(self._answer)

    async def _answer(self) -> None:
        # Panel sends changes of this page to its browser alone where it is told, over every await, whose page it is.
        with set_curdoc(self._document):
            async with self._turn:
                if self._wanted is None:
                    return
                (number, query), self._wanted = self._wanted, None
                with in_one_piece(self._document):
                    await self._show(query)
                    self._answered.value = str(number)

    async def _show(self, query: str) -> None:
        try:
            self._visit.go(query)
            await self._view.show()
            self._trouble.object = ""
            return
        except AuditlibError as error:
            trouble = error
        except Exception:
            _log.exception("a page could not be made")
            trouble = UnavailableError("This could not be answered.", remedy="The server's log says why.")
        self._trouble.object = refusal(trouble)
        self._view.clear()


def _frame(visit: Visit, page: Page, request: Any) -> dict[str, Any]:
    """What the template of a page needs: the scope in words, or nothing of it where there is no access."""
    told: dict[str, Any] = {"scope": (), "scope_summary": "", "choices": [], "role": "", "vault": "no access"}
    try:
        visit.go(request.query)
        engagement, held = visit.engagement(), [one.id for one in visit.engagements()]
        told |= {
            "role": engagement.role,
            "scope": in_words(engagement),
            "scope_summary": in_a_line(engagement),
            "vault": visit.vault(),
            "choices": [
                *((address(page.name, {"engagement": other}), other) for other in held if other != engagement.id),
                *((visit.link(page.name, vault=name), name) for name in visit.vaults() if name != visit.vault()),
            ],
        }
    except AuditlibError:
        pass  # the page itself says why
    return told | {
        "heading": page.title,
        "current": page.name,
        "pages": [(each.name, each.title) for each in PAGES if each.listed],
        "links": {each.name: visit.link(each.name) for each in PAGES} | {"overview": visit.link("overview")},
        "identity": visit.identity,
        "csrf": visit.desk.door.sign_out_token(visit.signin),
        "nonce": request.csp_nonce,
        "scripts": SCRIPTS,
    }
