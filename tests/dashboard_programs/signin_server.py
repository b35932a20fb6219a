"""A Panel app of one sentence behind the real sign-in, for tests/test_signin.py; a process of its own.

    python signin_server.py FOLDER '{"prefix": "/audit", "origins": [...], "password": true, "oidc": {...}}'

Prints its address. The folder lets a test reach in: `clock` (seconds since 1970; it stands still by itself), `down`
(while it is there nothing can be recorded), `admitted` (who has an engagement, one a line); and out: `records` (JSON
lines), `hashes` (a letter for each Argon2 verification or hash).
"""

import json
import logging
import socket
import sys
from pathlib import Path
from typing import Any

import panel as pn
from argon2 import PasswordHasher, extract_parameters
from bokeh.server.views.auth_request_handler import AuthRequestHandler
from panel.io.server import get_server
from tornado.ioloop import IOLoop
from tornado.web import StaticFileHandler, authenticated

import auditlib
from auditlib.dashboard.accounts import Accounts
from auditlib.dashboard.door import Door, OneTime, provider
from auditlib.dashboard.guesses import Guesses
from auditlib.dashboard.headers import Site, hardened
from auditlib.dashboard.oidc import Oidc
from auditlib.dashboard.signin_pages import sign_in_patterns
from auditlib.dashboard.signins import SignIn, SignIns
from auditlib.errors import UnavailableError

ASSETS = {"path": Path(auditlib.__file__).parent / "dashboard" / "static"}
folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])


def now() -> int:
    return int((folder / "clock").read_text()) * 1_000_000


class Records:
    def signed_in(
        self, identity: str, outcome: str, how: str, reason: str | None = None, *, session: SignIn | None = None
    ) -> None:
        self._keep(session, what="in", identity=identity, outcome=outcome, how=how, reason=reason)

    def signed_out(self, identity: str, why: str, *, session: SignIn | None = None) -> None:
        self._keep(session, what="out", identity=identity, why=why)

    def _keep(self, session: SignIn | None, **told: Any) -> None:
        if (folder / "down").exists():
            raise UnavailableError("nothing can be recorded.")
        with (folder / "records").open("a") as file:
            file.write(json.dumps(told | {"session": session and session.session}) + "\n")


class Counted(PasswordHasher):
    def verify(self, hashed: Any, password: Any) -> Any:
        extract_parameters(hashed)  # what is no hash costs nothing, and is not counted
        self._count("v")
        return super().verify(hashed, password)

    def hash(self, *given: Any, **more: Any) -> str:
        self._count("h")
        return super().hash(*given, **more)

    def _count(self, letter: str) -> None:
        with (folder / "hashes").open("a") as file:
            file.write(letter)


def page() -> pn.pane.Str:
    return pn.pane.Str("a page")


class Told(AuthRequestHandler):
    """Who is signed in, and what a form that signs out must carry."""

    @authenticated
    def get(self) -> None:
        who = self.current_user
        told = {"identity": who.identity, "how": who.how, "session": who.session}
        self.write(told | {"csrf": door.sign_out_token(who)})


logging.disable(logging.CRITICAL)  # refused websockets, on purpose
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
address = f"http://127.0.0.1:{port}"
prefix = options.get("prefix", "")
site = Site(tuple(options.get("origins", [address])), prefix, behind_proxy=bool(options.get("behind_proxy")))
accounts = (
    Accounts(folder / "accounts.toml", hasher=Counted(**options.get("argon2", {})))
    if (folder / "accounts.toml").exists()
    else None
)
signins = SignIns(
    now,
    stands=lambda one: one.how != "password" or accounts is None or accounts.stands(one.identity, one.since),
)
once = OneTime("solo") if options.get("once") else None
oidc = None
if "oidc" in options:
    told = options["oidc"]
    back = f"{site.origins[0]}{site.home}signin/oidc/callback"
    oidc = Oidc(told["issuer"], told["client"], told["secret"], back, claim=told.get("claim", "email"))
door = Door(
    site,
    signins,
    Records(),
    lambda identity: identity in (folder / "admitted").read_text().splitlines(),
    now,
    guesses=Guesses(accounts, now) if accounts else None,
    oidc=oidc,
    once=once,
)
server = get_server(
    {"/page": page},
    port=port,
    address="127.0.0.1",
    prefix=prefix,
    websocket_origin=[origin.partition("://")[2] for origin in site.origins],
    auth_provider=provider(door),
    extra_patterns=[*sign_in_patterns(door), ("/told", Told), ("/assets/(.*)", StaticFileHandler, ASSETS)],
    transforms=[hardened(site)],
    include_cookies=[],
    include_headers=[],
    sign_sessions=True,
    secret_key=b"x" * 32,
    use_index=False,
)
server.start()
print(address, once.issue(site) if once else "", flush=True)
IOLoop.current().start()
