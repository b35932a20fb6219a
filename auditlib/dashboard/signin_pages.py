"""The pages for signing in and out. For the server:

    site = Site(("https://audit.example.org",), "/audit", behind_proxy=True)
    signins = SignIns(now, stands=lambda one: one.how != "password" or accounts.stands(one.identity, one.since))
    door = Door(site, signins, recorder, admits, now, guesses=Guesses(accounts, now), oidc=Oidc(...), once=OneTime(who))
    server = get_server(pages, auth_provider=provider(door), extra_patterns=sign_in_patterns(door), prefix=site.prefix,
                        transforms=[hardened(site)], ...)

`admits(identity)` says whether somebody may open the dashboard at all: whether any engagement of theirs holds. The
pages get the `SignIn` as `current_user`. `door.sign_out_token(signin)` is the hidden field `csrf` of a form that POSTs
to `signout`. The form needs no JavaScript. It is kept from other sites by the browser's Origin and by a token in cookie
and form; its answer and its work are the same for every way in which a name and a password can fail to fit.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from http import HTTPStatus
from secrets import compare_digest, token_urlsafe
from typing import Any
from urllib.parse import quote, urlsplit

from panel.io.resources import COMPONENT_PATH
from tornado.web import HTTPError, RequestHandler

from auditlib.dashboard.door import SIGNED, Door, OneTime, provider
from auditlib.dashboard.markup import render
from auditlib.dashboard.oidc import MAX_TICKET_CHARS, TICKET_SECONDS, Oidc
from auditlib.dashboard.signins import ASKED, REPLACED, SignIn
from auditlib.errors import AuditlibError, MismatchError

__all__ = ["SIGNED", "Door", "OneTime", "provider", "sign_in_patterns"]

FORM, TICKET = "auditlib-form", "auditlib-oidc"  # cookies
FORM_BYTES = 24  # random bytes of the form's cookie, 32 characters
MAX_NEXT_CHARS = 2_000  # characters of where to go after the sign-in
WRONG = "That name and password do not fit, or the account is locked for a while."
STALE = "This form is out of date. Try again."
NO_PROVIDER = "The identity provider did not confirm who you are. Try again."
NO_ACCESS = "You are known, but no engagement in your name holds now. Ask who set it."
NO_LINK = "This link does not hold any more. The server prints a new one when it is started again."
CLOSED = "Nobody can be signed in at this moment. Try again in a minute."
OUT = "You are signed out."
_log = logging.getLogger("auditlib.dashboard")


def sign_in_patterns(door: Door) -> list[tuple[str, type[RequestHandler], dict[str, Any]]]:
    """The handlers, for Bokeh's `extra_patterns`, which puts the prefix before them."""
    given = {"door": door}
    return [
        (r"/signin", _SignIn, given),
        (r"/signout", _SignOut, given),
        (r"/signin/oidc", _Begin, given),
        (r"/signin/oidc/callback", _Finish, given),
        (rf"/{COMPONENT_PATH}.*", _Nothing, given),
    ]


class _Page(RequestHandler):
    """What the pages here have in common."""

    def initialize(self, door: Door) -> None:
        self.door, self.site = door, door.site

    def prepare(self) -> None:
        if not self.site.serves(self.request):
            raise HTTPError(HTTPStatus.MISDIRECTED_REQUEST)

    def show(self, status: int, sentence: str = "", *, go_to: str = "") -> None:
        """The sign-in page, with a sentence."""
        self.set_status(status)
        self.finish(
            render(
                "signin.html",
                sentence=sentence,
                trouble=status >= 400,
                home=self.site.home,
                form=self.door.guesses is not None,
                oidc=self.door.oidc is not None,
                csrf=self._form_token(),
                go_to=go_to,
                query=f"?next={quote(go_to, safe='')}" if go_to else "",
            )
        )

    def write_error(self, status_code: int, **_: Any) -> None:
        self.show(status_code, CLOSED if status_code >= 500 else f"{HTTPStatus(status_code).phrase}.")

    def local(self, address: str) -> str:
        """Where to go after the sign-in: a path of this site, or nothing."""
        parts = urlsplit(address if len(address) <= MAX_NEXT_CHARS and "[" not in address else "")
        strange = "\\" in address or not address.isascii() or not address.isprintable() or " " in address
        lies_here = parts.path.startswith(self.site.home) and "//" not in parts.path and ".." not in parts.path
        return "" if strange or parts.scheme or parts.netloc or not lies_here else address

    async def guarded(self, work: Awaitable[None]) -> None:
        """Do it; where something does not answer, nobody is let in and the log says why."""
        try:
            await work
        except AuditlibError as error:
            _log.error("a sign-in could not be finished: %s", error)
            self.show(HTTPStatus.SERVICE_UNAVAILABLE, CLOSED)

    async def enter(self, identity: str, how: str, go_to: str) -> None:
        """Let somebody in who has shown who they are: recorded first, under an id that did not exist before."""
        if not self.door.admits(identity):
            await self.door.attempts.denied(identity, how, "no engagement holds")
            self.show(HTTPStatus.FORBIDDEN, NO_ACCESS)
            return
        cookie, signin = self.door.signins.make(identity, how)
        await self.door.attempts.signed_in(signin)
        earlier = self.signin()
        if earlier is not None:
            self.door.signins.end(earlier, REPLACED)
        self.door.signins.open(signin)
        self.put(SIGNED, cookie)
        self.redirect(self.local(go_to) or self.site.home, status=HTTPStatus.SEE_OTHER)

    def provider(self) -> Oidc:
        """The provider; HTTPError 404 where there is none."""
        if self.door.oidc is None:
            raise HTTPError(HTTPStatus.NOT_FOUND)
        return self.door.oidc

    def signin(self) -> SignIn | None:
        """Who is signed in by this browser."""
        return self.door.signins.find(self.get_cookie(self.site.cookie(SIGNED)))

    def put(self, name: str, value: str, *, same_site: str = "Lax", seconds: int | None = None) -> None:
        """Set a cookie that no script reads, for this site's own path alone."""
        self.set_cookie(
            self.site.cookie(name),
            value,
            path=self.site.prefix or "/",
            httponly=True,
            secure=self.site.https,
            samesite=same_site,
            max_age=seconds,
        )

    def drop(self, name: str) -> None:
        """Take a cookie back."""
        self.clear_cookie(
            self.site.cookie(name),
            path=self.site.prefix or "/",
            httponly=True,
            secure=self.site.https,
            samesite="Lax",
        )

    def form_fits(self) -> bool:
        """Whether our own page sent this form, from the browser that it was made for."""
        cookie = self.get_cookie(self.site.cookie(FORM), "")
        expected = self.door.token("sign in", cookie or "")
        given = self.get_body_argument("csrf", "")
        return bool(cookie) and self.site.own_page(self.request) and _same(given, expected)

    def _form_token(self) -> str:
        cookie = self.get_cookie(self.site.cookie(FORM))
        if cookie is None or len(cookie) != FORM_BYTES * 4 // 3:
            cookie = token_urlsafe(FORM_BYTES)
            self.put(FORM, cookie, same_site="Strict")
        return self.door.token("sign in", cookie)


class _Nothing(_Page):
    """In the place of Panel's handler for components, which imports whatever module a stranger names."""

    def get(self) -> None:
        raise HTTPError(HTTPStatus.NOT_FOUND)


class _SignIn(_Page):
    async def get(self) -> None:
        await self.guarded(self._get())

    async def _get(self) -> None:
        secret = self.get_query_argument("once", None)
        go_to = self.local(self.get_query_argument("next", ""))
        if secret is not None:
            await self._by_link(secret)
        elif self.signin() is not None:
            self.redirect(go_to or self.site.home, status=HTTPStatus.SEE_OTHER)
        else:
            self.show(HTTPStatus.OK, OUT if self.get_query_argument("out", None) else "", go_to=go_to)

    async def _by_link(self, secret: str) -> None:
        once = self.door.once
        identity = None if once is None else once.take(secret)
        if once is None or identity is None:
            await self.door.attempts.denied(None, "link", "the link does not hold")
            self.show(HTTPStatus.FORBIDDEN, NO_LINK)
            return
        try:
            await self.enter(identity, "link", "")
        except AuditlibError:
            once.give_back(secret)
            raise

    async def post(self) -> None:
        await self.guarded(self._post())

    async def _post(self) -> None:
        if self.door.guesses is None:
            raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED)
        go_to = self.local(self.get_body_argument("next", ""))
        if not self.form_fits():
            self.show(HTTPStatus.FORBIDDEN, STALE, go_to=go_to)
            return
        name = self.get_body_argument("name", "").strip()
        password = self.get_body_argument("password", "", strip=False)
        attempt = await self.door.guesses.check(name, password, self.site.address(self.request))
        if attempt.right:
            await self.enter(name, "password", go_to)
        else:
            await self.door.attempts.denied(attempt.account, "password", attempt.reason)
            self.show(HTTPStatus.FORBIDDEN, WRONG, go_to=go_to)


class _SignOut(_Page):
    async def post(self) -> None:
        await self.guarded(self._post())

    async def _post(self) -> None:
        signin = self.signin()
        if signin is not None:
            fits = _same(self.get_body_argument("csrf", ""), self.door.sign_out_token(signin))
            if not fits or not self.site.own_page(self.request):
                self.show(HTTPStatus.FORBIDDEN, STALE)
                return
            ended = self.door.signins.end(signin, None)  # first: that nothing can be recorded keeps nobody signed in
            self.drop(SIGNED)
            if ended:
                await self.door.attempts.signed_out(signin, ASKED)
        self.redirect(f"{self.site.home}signin?out=1", status=HTTPStatus.SEE_OTHER)


class _Begin(_Page):
    async def get(self) -> None:
        await self.guarded(self._get())

    async def _get(self) -> None:
        oidc = self.provider()
        go_to = self.local(self.get_query_argument("next", ""))
        url, ticket = await self.door.ask(oidc.begin, go_to, self.door.now())
        self.put(TICKET, ticket, seconds=TICKET_SECONDS)
        self.redirect(url, status=HTTPStatus.SEE_OTHER)


class _Finish(_Page):
    async def get(self) -> None:
        await self.guarded(self._get())

    async def _get(self) -> None:
        oidc = self.provider()
        ticket = self.get_cookie(self.site.cookie(TICKET), "") or ""
        self.drop(TICKET)
        names = [name for name in ("state", "code", "iss") if name in self.request.query_arguments]
        told = {name: self.get_query_argument(name)[: MAX_TICKET_CHARS + 1] for name in names}
        try:
            identity, go_to = await self.door.ask(oidc.finish, told, ticket, self.door.now())
        except MismatchError as error:
            await self.door.attempts.denied(None, "oidc", error.message)
            self.show(HTTPStatus.FORBIDDEN, NO_PROVIDER)
            return
        await self.enter(identity, "oidc", go_to)


def _same(given: str, expected: str) -> bool:
    return compare_digest(given.encode(errors="replace"), expected.encode())
