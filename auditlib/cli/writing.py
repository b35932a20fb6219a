"""Commands of the writing side: token, store, collect, seal."""

from __future__ import annotations

import signal
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditlib.cli.common import (
    JsonOption,
    KeysOption,
    SigningOption,
    VaultOption,
    actions_of,
    now,
    say,
    seconds_of,
    show_json,
)
from auditlib.errors import MalformedError, UnavailableError

if TYPE_CHECKING:
    from auditlib.drain import Drain, Round

app = typer.Typer()
token_app = typer.Typer(no_args_is_help=True, help="Tokens of sources: add, revoke.")
store_app = typer.Typer(no_args_is_help=True, help="The dedicated store: make it, prune what is sealed.")

StoreOption = Annotated[
    str, typer.Option("--store", envvar="AUDITLIB_STORE", help="The store: sqlite:///path or postgresql://...")
]
TokensOption = Annotated[
    Path, typer.Option("--tokens", envvar="AUDITLIB_TOKENS", help="The file of token hashes, made if need be.")
]
CatalogOption = Annotated[
    Path | None,
    typer.Option(envvar="AUDITLIB_CATALOG", help="Your own actions, added to the built-in catalogue."),
]


@token_app.command("add")
def token_add(
    source: Annotated[str, typer.Argument(help="The source it stands for, like billing-api.")], tokens: TokensOption
) -> None:
    """Make a token for a source; it is printed once, alone on the last line, and kept nowhere."""
    from auditlib.tokens import add_token

    token = add_token(tokens, source, now=now)
    say(f"a token for {source}; only its hash is kept, in {tokens}:")
    print(token)


@token_app.command("revoke")
def token_revoke(
    source: Annotated[str, typer.Argument(help="The source whose tokens are refused from now on.")],
    tokens: TokensOption,
) -> None:
    """Revoke every token of a source; a running collector refuses them from its next request on."""
    from auditlib.tokens import revoke_tokens

    count = revoke_tokens(tokens, source)
    if not count:
        raise MalformedError(f"there is no token of {source}.", where=str(tokens))
    print(f"{count} token(s) of {source} revoked.")


@store_app.command("init")
def store_init(
    store: Annotated[str, typer.Argument(envvar="AUDITLIB_STORE", help="sqlite:///path or postgresql://...")],
) -> None:
    """Make the store: tables, triggers that refuse changes, and on PostgreSQL the roles."""
    from auditlib.store import init_store, open_store

    init_store(store)
    opened = open_store(store, "reader")
    try:
        print(f"store {opened.identity} is ready.")
    finally:
        opened.close()


@store_app.command("prune")
def store_prune(
    store: StoreOption,
    vault: VaultOption,
    key: KeysOption = None,
    older_than: Annotated[str, typer.Option(help="Keep what was recorded within this time: 30d, 12h.")] = "30d",
    as_json: JsonOption = False,
) -> None:
    """Delete records that were read back from the vault, verified, and are older than a chosen age."""
    from auditlib.display import progress_bar
    from auditlib.keeping import prune
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.store import open_store
    from auditlib.vault import open_vault

    before = now() - seconds_of(older_than, "--older-than") * 1_000_000
    opened = open_store(store, "keeper")
    try:
        with progress_bar("pruning", quiet=as_json) as progress:
            done = prune(opened, open_vault(vault), load_verifier_keys(key), before=before, progress=progress)
    finally:
        opened.close()
    if as_json:
        show_json({"kept": done.kept, "pruned": done.pruned})
    else:
        print(f"{done.pruned:,} sealed records pruned; {done.kept:,} of that age are not in the vault, and were kept.")


@app.command()
def collect(
    store: StoreOption,
    tokens: TokensOption,
    listen: Annotated[
        str, typer.Option(envvar="AUDITLIB_LISTEN", help="HOST:PORT (0: a free one) or unix:/path.")
    ] = "127.0.0.1:8321",
    catalog: CatalogOption = None,
    tls_cert: Annotated[Path | None, typer.Option(envvar="AUDITLIB_TLS_CERT", help="PEM certificate.")] = None,
    tls_key: Annotated[Path | None, typer.Option(envvar="AUDITLIB_TLS_KEY", help="PEM key.")] = None,
) -> None:
    """Take events over HTTP into the store, until stopped; nothing can be read or changed through it."""
    from auditlib.collector import serve
    from auditlib.store import open_store
    from auditlib.tokens import Tokens

    opened = open_store(store, "writer")
    try:
        serve(
            opened,
            Tokens(tokens),
            actions_of(catalog),
            now=now,
            listen=listen,
            tls_cert=tls_cert,
            tls_key=tls_key,
            announce=lambda address: print(f"listening on {address}", flush=True),
        )
    finally:
        opened.close()


@app.command()
def seal(
    store: StoreOption,
    vault: VaultOption,
    key: SigningOption,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until stopped.")] = False,
    every: Annotated[str, typer.Option(help="Between two batches: 5m, 30s.")] = "5m",
    max_events: Annotated[int, typer.Option(min=1, max=1_048_576, help="Events a batch.")] = 50_000,
    metrics: Annotated[
        str | None, typer.Option(envvar="AUDITLIB_METRICS", help="HOST:PORT for Prometheus, while watching.")
    ] = None,
) -> None:
    """Seal what the store holds into the vault, with a heartbeat; with --watch again and again."""
    from auditlib.drain import open_drain
    from auditlib.drain import watch as watch_store
    from auditlib.keyfiles import load_signing_key
    from auditlib.meter import metering
    from auditlib.state import SealerState, default_state
    from auditlib.store import open_store
    from auditlib.vault import open_vault

    signing, interval = load_signing_key(key), seconds_of(every, "--every")
    state = SealerState(default_state(), signing.verifier)
    opened = open_store(store, "sealer")

    def open_one() -> AbstractContextManager[Drain]:
        return open_drain(opened, open_vault(vault), signing, state, now=now, every=interval, max_events=max_events)

    try:
        if not watch:
            with open_one() as drain:
                _tell(drain.round(interval))
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        with metering(metrics) as meter:

            def tell(done: Round) -> None:
                _tell(done)
                meter.sealed(done, now())

            def complain(error: UnavailableError, delay: float) -> None:
                say(f"auditlib: {error} Trying again in {delay:.0f} s.")
                meter.failed()

            watch_store(open_one, every=interval, max_events=max_events, wait=stop.wait, tell=tell, complain=complain)
        say("stopped; what was sealed stays sealed.")
    finally:
        opened.close()


def _tell(done: Round) -> None:
    refused = f", {done.refused:,} refused" if done.refused else ""
    say(
        f"{done.added.new:,} events sealed, {done.added.repeats:,} were there already, "
        f"{done.added.conflicts:,} conflicts{refused}; {done.seals:,} seals."
    )
