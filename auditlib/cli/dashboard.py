"""The auditor's view: start it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditlib.cli.common import KeysOption, account, now, say
from auditlib.errors import MalformedError, UnavailableError

if TYPE_CHECKING:
    from auditlib.client import Client
    from auditlib.dashboard.oidc import Oidc
    from auditlib.requests.model import RequestList
    from auditlib.requests.places import Source

app = typer.Typer()
MAX_SECRET_BYTES = 4_096  # bytes of a file with a secret


@app.command()
def dashboard(
    vault: Annotated[
        list[str],
        typer.Option(
            envvar="AUDITLIB_VAULT",
            help="A vault to show, or NAME=VAULT to call it something; several times for several.",
        ),
    ],
    key: KeysOption = None,
    engagements: Annotated[
        Path | None,
        typer.Option(
            envvar="AUDITLIB_ENGAGEMENTS",
            help="Who may see what. Without it, this machine alone is served, to who starts it.",
        ),
    ] = None,
    accounts: Annotated[
        Path | None, typer.Option(envvar="AUDITLIB_ACCOUNTS", help="Local accounts (auditlib account add).")
    ] = None,
    oidc_issuer: Annotated[
        str | None, typer.Option(envvar="AUDITLIB_OIDC_ISSUER", help="An OpenID provider to sign in by.")
    ] = None,
    oidc_client: Annotated[
        str | None, typer.Option(envvar="AUDITLIB_OIDC_CLIENT", help="The client id it knows this server by.")
    ] = None,
    oidc_secret: Annotated[
        Path | None, typer.Option(envvar="AUDITLIB_OIDC_SECRET", help="A file (0600) with the client's secret.")
    ] = None,
    oidc_claim: Annotated[
        str,
        typer.Option(envvar="AUDITLIB_OIDC_CLAIM", help="The claim that names a person; an email is to be verified."),
    ] = "email",
    collector: Annotated[
        str | None,
        typer.Option(
            envvar="AUDITLIB_COLLECTOR",
            help="The collector that records what is looked at. Without it, one of its own, in the state folder.",
        ),
    ] = None,
    token: Annotated[
        Path | None, typer.Option(envvar="AUDITLIB_TOKEN_FILE", help="A file (0600) with the collector's token.")
    ] = None,
    requests: Annotated[
        Path | None, typer.Option(envvar="AUDITLIB_REQUESTS", help="The request list that may be run from the page.")
    ] = None,
    packets: Annotated[
        Path | None, typer.Option(envvar="AUDITLIB_PACKETS", help="The folder of packets that were built already.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(envvar="AUDITLIB_STATE", help="Its own folder (0700); by default dashboard/ in the user's state."),
    ] = None,
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on.")] = "127.0.0.1:5006",
    origin: Annotated[
        list[str] | None,
        typer.Option(help="How browsers name it: https://audit.example.org. By default http:// and --listen."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="The path that a proxy serves it under: /audit.")] = "",
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Believe the proxy's X-Forwarded-For.")
    ] = False,
) -> None:
    """Serve the auditor's view: scoped, read-only, every look recorded before it is shown."""
    from auditlib.dashboard.headers import Site
    from auditlib.dashboard.opening import Alone, open_desk
    from auditlib.dashboard.server import serve
    from auditlib.dashboard.signin_pages import OneTime

    host, port = _address(listen)
    site = Site(tuple(origin or [f"http://{listen}", f"http://localhost:{port}"]), prefix, behind_proxy=behind_proxy)
    sources = dict(_named(text, key) for text in vault)
    provider = _oidc(oidc_issuer, oidc_client, oidc_secret, oidc_claim, site)
    alone = engagements is None
    if alone and (provider or accounts or host not in ("127.0.0.1", "localhost", "::1")):
        raise MalformedError(
            "without engagements it serves this machine alone.",
            where="--engagements",
            remedy="Name the file of engagements: auditlib engagement add ID --engagements FILE ...",
        )
    if not alone and not (provider or accounts):
        raise MalformedError("nobody can sign in.", remedy="Give --accounts FILE, or --oidc-issuer URL.")
    if not alone and not site.https and host not in ("127.0.0.1", "localhost", "::1"):
        raise MalformedError(
            "passwords and cookies would cross the network unencrypted.",
            where="--origin",
            remedy="Put a proxy with TLS before it and name it: --origin https://audit.example.org --behind-proxy",
        )
    once = OneTime(account()) if alone else None
    with open_desk(
        site,
        sources,
        state or _state(),
        engagements=Alone(account(), list(sources), now) if alone else _engagements(engagements),
        now=now,
        problems=say,
        accounts=_accounts(accounts),
        oidc=provider,
        once=once,
        client=_client(collector, token),
        listed=_listed(requests),
        packets=packets,
    ) as desk:
        try:
            server = serve(desk, host, port)
        except OSError as error:
            raise UnavailableError(f"it cannot listen ({error.strerror}).", where=listen) from None
        server.start()
        if once is None:
            say(f"auditlib: open {site.origins[0]}{site.home}")
        else:
            say(f"auditlib: open {once.issue(site)}\nThe link signs you in once, on this machine. Stop with Ctrl-C.")
        server.io_loop.start()
        server.stop()


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise MalformedError(f"{listen!r} is no HOST:PORT.", where="--listen")
    return host.strip("[]"), int(port)


def _named(text: str, keys: list[str] | None) -> tuple[str, Source]:
    """NAME=VAULT, or a vault that is called by its last part."""
    from auditlib.requests.places import source_of

    name, equals, vault = text.partition("=")
    if not equals or "/" in name or ":" in name:
        name, vault = Path(text.removeprefix("s3://").rstrip("/")).name, text
    return name, source_of(vault, keys)


def _engagements(path: Path | None) -> Any:
    from auditlib.engagements import Engagements

    return None if path is None else Engagements(path)


def _accounts(path: Path | None) -> Any:
    from auditlib.dashboard.accounts import Accounts

    return None if path is None else Accounts(path)


def _listed(path: Path | None) -> RequestList | None:
    from auditlib.requests.model import read_requests

    return None if path is None else read_requests(path.absolute())


def _oidc(issuer: str | None, client: str | None, secret: Path | None, claim: str, site: Any) -> Oidc | None:
    from auditlib.dashboard.oidc import Oidc

    if issuer is None:
        return None
    if client is None:
        raise MalformedError("the provider knows this server by a client id.", where="--oidc-client")
    redirect = f"{site.origins[0]}{site.home}signin/oidc/callback"
    return Oidc(issuer, client, "" if secret is None else _secret(secret), redirect, claim=claim)


def _client(url: str | None, token: Path | None) -> Any:
    from auditlib.client import Client

    if url is None:
        return None
    if token is None:
        raise MalformedError("the collector wants a token.", where="--token", remedy="auditlib token add dashboard ...")
    given = _secret(token)

    def make(spool: Path) -> Client:
        return Client(url, given, spool=spool, durability="disk", problems=say)

    return make


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_SECRET_BYTES).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError("the file with the secret cannot be read.", where=str(path)) from error


def _state() -> Path:
    import os

    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "auditlib" / "dashboard"
