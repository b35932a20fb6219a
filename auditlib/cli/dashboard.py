"""The auditor's view: start it."""

from __future__ import annotations

import shlex
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditlib.cli.common import account, now, say
from auditlib.errors import MalformedError, UnavailableError

if TYPE_CHECKING:
    from auditlib.client import Client
    from auditlib.dashboard.accounts import Accounts
    from auditlib.dashboard.oidc import Oidc
    from auditlib.dashboard.visit import Listed
    from auditlib.engagements import Engagements
    from auditlib.evidence.scope import Scope
    from auditlib.monitor.settings import Settings
    from auditlib.requests.model import RequestList
    from auditlib.requests.places import Source

app = typer.Typer()
MAX_SECRET_BYTES = 4_096  # bytes of a file with a secret
SCOPE = "scope.toml"  # beside the request list
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SHOWN, _WHO, _RECORDED, _REACHED = "What is shown", "Who may look", "What is recorded", "How browsers reach it"


@app.command()
def dashboard(
    vault: Annotated[
        list[str],
        typer.Option(
            envvar="AUDITLIB_VAULT",
            help="A vault to show, or NAME=VAULT to call it something; several times for several.",
            rich_help_panel=_SHOWN,
        ),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            envvar="AUDITLIB_KEY",
            help="A verifier key you trust, or a file of them; without it the vault's own is used, unconfirmed.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_REQUESTS",
            help="The request list; an engagement says which of it may be run.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    packets: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_PACKETS",
            help="The folder of packets that were built for it already.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    scope: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_SCOPE",
            help="The systems in scope, for the packets that are made here; else scope.toml beside the list, if it is "
            "there.",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    monitor: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_MONITOR",
            help="monitor.toml: what is expected of the pipeline (auditlib status).",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    engagements: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_ENGAGEMENTS",
            help="Who may see what (auditlib engagement add). Without it, this machine alone is served, to whoever "
            "starts it.",
            rich_help_panel=_WHO,
        ),
    ] = None,
    accounts: Annotated[
        Path | None,
        typer.Option(envvar="AUDITLIB_ACCOUNTS", help="Local accounts (auditlib account add).", rich_help_panel=_WHO),
    ] = None,
    oidc_issuer: Annotated[
        str | None,
        typer.Option(
            envvar="AUDITLIB_OIDC_ISSUER", help="The https:// URL of an OpenID provider.", rich_help_panel=_WHO
        ),
    ] = None,
    oidc_client: Annotated[
        str | None,
        typer.Option(
            envvar="AUDITLIB_OIDC_CLIENT", help="The client id it knows this server by.", rich_help_panel=_WHO
        ),
    ] = None,
    oidc_secret: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_OIDC_SECRET", help="A file (0600) with the client's secret.", rich_help_panel=_WHO
        ),
    ] = None,
    oidc_claim: Annotated[
        str,
        typer.Option(
            envvar="AUDITLIB_OIDC_CLAIM",
            help="The claim that names a person; an email counts only where the provider verified it.",
            rich_help_panel=_WHO,
        ),
    ] = "email",
    collector: Annotated[
        str | None,
        typer.Option(
            envvar="AUDITLIB_COLLECTOR",
            help="The URL of the collector that records every look. Without it, one of its own in the state folder.",
            rich_help_panel=_RECORDED,
        ),
    ] = None,
    token: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_TOKEN_FILE",
            help="A file (0600) with the token for that collector (auditlib token add).",
            rich_help_panel=_RECORDED,
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_STATE",
            help="Its own folder (0700), for one dashboard; by default auditlib/dashboard in the user's state.",
            rich_help_panel=_RECORDED,
        ),
    ] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on.", rich_help_panel=_REACHED)] = "127.0.0.1:5006",
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="What stands in the browser's address line, without a path: https://audit.example.org. By default "
            "http:// and --listen.",
            rich_help_panel=_REACHED,
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="The path that a proxy serves it under: /audit.", rich_help_panel=_REACHED)
    ] = "",
    behind_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-proxy",
            help="Believe the proxy's X-Forwarded-For; only where nobody reaches it but through the proxy.",
            rich_help_panel=_REACHED,
        ),
    ] = False,
) -> None:
    """Serve the auditor's view: scoped, read-only, every look recorded before it is shown.

    With a vault alone it serves whoever starts it; with engagements and a way to sign in, those whom they name.
    """
    from auditlib.dashboard.headers import Site
    from auditlib.dashboard.opening import Alone, open_desk
    from auditlib.dashboard.server import serve
    from auditlib.dashboard.signin_pages import OneTime

    # Until the event loop knows it: as Ctrl-C, so that what was opened is closed, the processes beside this one too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    host, port = _address(listen)
    site = Site(tuple(origin or [f"http://{listen}", f"http://localhost:{port}"]), prefix, behind_proxy=behind_proxy)
    sources = _sources(vault, key)
    provider = _oidc(oidc_issuer, oidc_client, oidc_secret, oidc_claim, site)
    alone = engagements is None
    if alone and (provider or accounts or behind_proxy or host not in LOOPBACK):
        raise MalformedError(
            "without engagements it serves this machine alone.",
            where="--engagements",
            remedy="Name the file of engagements: auditlib engagement add ID --engagements FILE ...",
        )
    if not alone and not (provider or accounts):
        raise MalformedError("nobody can sign in.", remedy="Give --accounts FILE, or --oidc-issuer URL.")
    if not alone and not site.https and host not in LOOPBACK:
        raise MalformedError(
            "passwords and cookies would cross the network unencrypted.",
            where="--origin",
            remedy="Put a proxy with TLS before it and name it: --origin https://audit.example.org --behind-proxy",
        )
    granted = Alone(account(), list(sources), now) if engagements is None else _engagements(engagements)
    known = _accounts(accounts)
    if engagements is not None and known is not None and provider is None:
        _tell_who(granted, known)
    once = OneTime(account()) if alone else None
    with open_desk(
        site,
        sources,
        state or _state(),
        engagements=granted,
        now=now,
        problems=say,
        accounts=known,
        oidc=provider,
        once=once,
        client=_client(collector, token),
        listed=_listed(requests),
        packets=packets,
        scope=_scope(scope, requests),
        settings=_settings(monitor),
    ) as desk:
        try:
            server = serve(desk, host, port)
        except OSError as error:
            remedy = "Stop what listens there, or choose another --listen HOST:PORT."
            raise UnavailableError(f"it cannot listen ({error.strerror}).", where=listen, remedy=remedy) from None
        server.io_loop.asyncio_loop.add_signal_handler(signal.SIGTERM, server.io_loop.stop)
        server.start()
        if once is None:
            say(f"auditlib: open {site.origins[0]}{site.home}")
        else:
            say(f"auditlib: open {once.issue(site)}\nThe link signs you in once, on this machine. Stop with Ctrl-C.")
        server.io_loop.start()
        server.stop()


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65_536:
        raise MalformedError(f"{listen[:200]!r} is no HOST:PORT.", where="--listen", remedy="Write 127.0.0.1:5006.")
    return host.strip("[]"), int(port)


def _sources(vaults: list[str], keys: list[str] | None) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for text in vaults:
        name, source = _named(text, keys)
        if name in found:
            remedy = f"Call one something else: --vault OTHER={source.vault}"
            raise MalformedError(f"two vaults are called {name[:80]!r}.", where="--vault", remedy=remedy)
        found[name] = source
    return found


def _named(text: str, keys: list[str] | None) -> tuple[str, Source]:
    """NAME=VAULT, or a vault that is called by its last part."""
    from auditlib.requests.places import source_of

    name, equals, vault = text.partition("=")
    if not equals or "/" in name or ":" in name:
        name, vault = Path(text.removeprefix("s3://").rstrip("/")).name, text
    return name, source_of(vault, keys)


def _engagements(path: Path) -> Engagements:
    from auditlib.engagements import Engagements

    _private(path, stat.S_IWGRP | stat.S_IWOTH, "others can write the file that says who may see what.")
    return Engagements(path)


def _accounts(path: Path | None) -> Accounts | None:
    from auditlib.dashboard.accounts import Accounts

    if path is None:
        return None
    _private(path, stat.S_IRWXG | stat.S_IRWXO, "others can get at the file of accounts.")
    return Accounts(path)


def _tell_who(engagements: Listed, accounts: Accounts) -> None:
    """A sentence where nobody could sign in as things stand; both files may change while it runs."""
    granted = {one.identity for one in engagements.all() if one.holds(now())}
    if not any(map(accounts.known, granted)):
        say("auditlib: nobody can sign in yet: no engagement that holds now names one of the accounts.")


def _private(path: Path, refused: int, message: str) -> None:
    """MalformedError where the file's mode has one of these bits; that it is not there is said by who reads it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & refused:
        raise MalformedError(message, where=str(path), remedy=f"chmod 600 {shlex.quote(str(path))}")


def _listed(path: Path | None) -> RequestList | None:
    from auditlib.requests.model import read_requests

    return None if path is None else read_requests(path.absolute())


def _scope(path: Path | None, requests: Path | None) -> Scope | None:
    """As `requests build` finds it."""
    from auditlib.evidence.scope import read_scope

    beside = None if requests is None else requests.parent / SCOPE
    place = path or (beside if beside is not None and beside.exists() else None)
    return None if place is None else read_scope(place)


def _settings(path: Path | None) -> Settings:
    from auditlib.monitor.settings import Settings, read_settings

    return Settings() if path is None else read_settings(path)


def _oidc(issuer: str | None, client: str | None, secret: Path | None, claim: str, site: Any) -> Oidc | None:
    from auditlib.dashboard.oidc import Oidc

    if issuer is None:
        return None
    if client is None:
        remedy = "Give the one that it was registered under: --oidc-client ID"
        raise MalformedError("the provider knows this server by a client id.", where="--oidc-client", remedy=remedy)
    redirect = f"{site.origins[0]}{site.home}signin/oidc/callback"
    return Oidc(issuer, client, "" if secret is None else _secret(secret), redirect, claim=claim)


def _client(url: str | None, token: Path | None) -> Any:
    from auditlib.client import Client

    if url is None:
        return None
    if token is None:
        remedy = "Make one with `auditlib token add dashboard --tokens FILE`, and name the file that it stands in."
        raise MalformedError("the collector wants a token.", where="--token", remedy=remedy)
    given = _secret(token)

    def make(spool: Path) -> Client:
        return Client(url, given, spool=spool, durability="disk", problems=say)

    return make


def _secret(path: Path) -> str:
    """What stands in the file. Its group may read it: systemd's LoadCredential gives it such a mode."""
    _private(path, stat.S_IRWXO, "others can get at the secret.")
    try:
        with path.open("rb") as file:
            secret = file.read(MAX_SECRET_BYTES).decode().strip()
    except OSError as error:
        raise UnavailableError(f"the secret cannot be read ({error.strerror}).", where=str(path)) from None
    except UnicodeDecodeError:
        raise MalformedError("the secret is no text (UTF-8).", where=str(path)) from None
    if not secret:
        raise MalformedError("the file with the secret is empty.", where=str(path))
    return secret


def _state() -> Path:
    import os

    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "auditlib" / "dashboard"
