"""What the sign-in pages share, the one-time link, and how Bokeh learns who is signed in.

door = Door(site, signins, recorder, admits, now, guesses=Guesses(accounts, now), oidc=Oidc(...), once=OneTime(who))
server = get_server(pages, auth_provider=provider(door), ...)
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from http import HTTPStatus
from secrets import compare_digest, token_bytes, token_urlsafe
from typing import Any, TypeVar

from bokeh.server.auth_provider import AuthProvider
from tornado.web import HTTPError, RequestHandler

from auditlib.dashboard.attempts import Attempts, Records
from auditlib.dashboard.guesses import Guesses
from auditlib.dashboard.headers import Site
from auditlib.dashboard.oidc import Oidc
from auditlib.dashboard.signins import SignIn, SignIns
from auditlib.errors import AuditlibError, UnavailableError

SIGNED = "auditlib"  # the cookie of who is signed in
MAX_ASKING = 32  # sign-ins that wait for the provider at once
_log = logging.getLogger("auditlib.dashboard")
_Result = TypeVar("_Result")


class OneTime:
    """A link by which one person, on the machine itself, signs in once."""

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._digest: bytes | None = None

    def issue(self, site: Site) -> str:
        """A new link; the one before it holds no more."""
        secret = token_urlsafe(32)
        self._digest = _hashed(secret)
        return f"{site.origins[0]}{site.home}signin?once={secret}"

    def take(self, secret: str) -> str | None:
        """Who this secret signs in, and never again."""
        if self._digest is None or not compare_digest(self._digest, _hashed(secret)):
            return None
        self._digest = None
        return self._identity

    def give_back(self, secret: str) -> None:
        """It signed nobody in: it may be used again, unless there is a newer one."""
        if self._digest is None:
            self._digest = _hashed(secret)


class Door:
    """What the sign-in pages share."""

    def __init__(
        self,
        site: Site,
        signins: SignIns,
        records: Records,
        admits: Callable[[str], bool],
        now: Callable[[], int],
        *,
        guesses: Guesses | None = None,
        oidc: Oidc | None = None,
        once: OneTime | None = None,
    ) -> None:
        self.site, self.signins, self.admits, self.now = site, signins, admits, now
        self.guesses, self.oidc, self.once = guesses, oidc, once
        self.attempts = Attempts(records, now)
        signins.over = self.attempts.ended
        self._key = token_bytes(32)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="oidc")
        self._asking = 0

    def close(self) -> None:
        """The server ends, and with it every sign-in; returns once that is recorded."""
        self.signins.close()
        self.attempts.close()

    def sign_out_token(self, signin: SignIn) -> str:
        """What a form that signs out must carry."""
        return self.token("sign out", signin.session)

    def token(self, what: str, of: str) -> str:
        """A MAC, 64 hexadecimal digits."""
        return hmac.digest(self._key, f"{what}\n{of}".encode(errors="replace"), "sha256").hex()

    async def ask(self, work: Callable[..., _Result], *arguments: Any) -> _Result:
        """What a question to the provider gives, asked in a thread."""
        if self._asking >= MAX_ASKING:
            raise UnavailableError("Too many people sign in at this moment.", remedy="Try again in a minute.")
        self._asking += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._asking -= 1


def provider(door: Door) -> AuthProvider:
    """Who is signed in, for Bokeh's `auth_provider`: a page leads to the sign-in, a websocket is refused."""
    return _Provider(door)


class _Provider(AuthProvider):  # type: ignore[misc]
    def __init__(self, door: Door) -> None:
        self._door = door
        super().__init__()

    @property
    def get_user_async(self) -> Callable[[RequestHandler], Awaitable[SignIn | None]]:
        return self._user

    @property
    def get_login_url(self) -> Callable[[RequestHandler], str]:
        return self._login_url

    async def _user(self, handler: RequestHandler) -> SignIn | None:
        door = self._door
        if not door.site.serves(handler.request):
            raise HTTPError(HTTPStatus.MISDIRECTED_REQUEST)
        try:
            signin = door.signins.find(handler.get_cookie(door.site.cookie(SIGNED)))
        except AuditlibError as error:
            _log.error("who is signed in cannot be told: %s", error)
            raise HTTPError(HTTPStatus.SERVICE_UNAVAILABLE) from None
        if signin is not None:
            door.signins.touch(signin)
        return signin

    def _login_url(self, handler: RequestHandler) -> str:
        """From the root, in a form that means the same after a dot, which some of Panel's handlers put before it."""
        up = "../" * (handler.request.path.count("/") - 1)
        return f"/{up}{self._door.site.home[1:]}signin"


def _hashed(secret: str) -> bytes:
    return sha256(secret.encode(errors="surrogatepass")).digest()
