"""Commands on locked storage and keys: probe, extend, hold, release, policies, catalogue, rotate, retire."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from auditlib.cli.common import (
    JsonOption,
    SigningOption,
    VaultArgument,
    account,
    actions_of,
    now,
    say,
    show_json,
)
from auditlib.errors import MalformedError

app = typer.Typer()
vault_app = typer.Typer(no_args_is_help=True, help="Locked storage: longer locks, legal holds, policies, catalogue.")
key_app = typer.Typer(no_args_is_help=True, help="The trail's signing keys: rotate, retire.")

ActorOption = Annotated[
    str | None, typer.Option(envvar="AUDITLIB_ACTOR", help="Who does this; default: the account's name.")
]
ReasonOption = Annotated[str, typer.Option(help="Why: a case number, a letter; it is sealed with the event.")]


@app.command()
def probe(
    vault: VaultArgument,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", envvar="AUDITLIB_SIGNING_KEY", help="The sealer's .key file: each attempt is sealed as an event."
        ),
    ] = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show that the retention lock holds: try, as this identity, everything that must be refused."""
    from msgspec import to_builtins
    from ulid import ULID

    from auditlib.display import show_attempts
    from auditlib.keyfiles import load_signing_key
    from auditlib.vault import open_vault
    from auditlib.vault.probe import probe as probe_vault
    from auditlib.vault.s3 import S3Vault

    store = open_vault(vault)
    if not isinstance(store, S3Vault):
        raise MalformedError("a local directory has no lock that could be probed.", where=vault, remedy="Give s3://...")
    signing = load_signing_key(key) if key else None
    name = str(ULID())
    attempts = probe_vault(store, name, now())
    broken = [attempt for attempt in attempts if attempt.verdict == "broken"]
    if signing:
        outcomes = {"held": "denied", "broken": "success", "noted": "success"}
        _seal_own(
            vault,
            signing,
            actor,
            [
                ("vault.probe", {**to_builtins(attempt), "canary": name}, outcomes[attempt.verdict])
                for attempt in attempts
            ],
        )
    if as_json:
        show_json({"ok": not broken, "vault": vault, "attempts": [to_builtins(attempt) for attempt in attempts]})
    else:
        show_attempts(attempts)
        print(
            f"The lock held against every attempt on {vault}." if not broken else f"{len(broken)} attempt(s) broke it."
        )
        if signing:
            say(f"{len(attempts)} attempts were sealed as vault.probe events.")
    raise typer.Exit(1 if broken else 0)


@vault_app.command("extend")
def vault_extend(
    vault: VaultArgument,
    key: SigningOption,
    until: Annotated[
        str | None,
        typer.Option(help="A date for every lock; without it all but batches follow the newest."),
    ] = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lengthen retention locks, and seal that it was done."""
    from auditlib.display import progress_bar
    from auditlib.formats.times import format_time, parse_time
    from auditlib.keyfiles import load_signing_key
    from auditlib.retention import extend
    from auditlib.vault import open_vault

    signing = load_signing_key(key)
    try:
        end = None if until is None else parse_time(until if "T" in until else f"{until}T00:00:00Z")
    except MalformedError as error:
        raise error.at("--until") from None
    with progress_bar("lengthening locks", quiet=as_json) as progress:
        done = extend(open_vault(vault), end, now(), progress)
    context = {
        "batches": end is not None,
        "changed": done.changed,
        "objects": done.objects,
        "until": format_time(done.until),
    }
    _seal_own(vault, signing, actor, [("vault.extend", context, "success")])
    if as_json:
        show_json(context)
    else:
        which = "every object" if end is not None else "every object but the batches"
        print(f"{done.changed:,} of {done.objects:,} locks lengthened: {which} to {context['until']} at least.")


@vault_app.command("hold")
def vault_hold(
    vault: VaultArgument,
    key: SigningOption,
    reason: ReasonOption,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set a legal hold on every object there is now: nobody deletes it until it is released."""
    _switch_holds("vault.hold", vault, key, reason, actor, as_json)


@vault_app.command("release")
def vault_release(
    vault: VaultArgument,
    key: SigningOption,
    reason: ReasonOption,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lift the legal hold of every object; retention locks stay as they are."""
    _switch_holds("vault.release", vault, key, reason, actor, as_json)


@vault_app.command("policies")
def vault_policies(vault: VaultArgument) -> None:
    """Print the least-privilege policies of the four roles as JSON (docs/operations.md explains them)."""
    from auditlib.vault.roles import policies

    show_json(policies(vault))


@vault_app.command("catalog")
def vault_catalog(
    vault: VaultArgument,
    key: SigningOption,
    catalog: Annotated[Path | None, typer.Option(help="Your own actions, added to the built-in catalogue.")] = None,
    actor: ActorOption = None,
) -> None:
    """Put another action catalogue in force: the built-in one of this version, with your own actions."""
    from auditlib.amendments import change_catalog
    from auditlib.keyfiles import load_signing_key
    from auditlib.state import SealerState, default_state
    from auditlib.vault import open_vault

    signing, actions = load_signing_key(key), actions_of(catalog)
    state = SealerState(default_state(), signing.verifier)
    document = change_catalog(open_vault(vault), signing, actions, state, who=actor or account(), now=now)
    print(f"catalogue {actions.sha256} is in force by trail document {document.n}.")


@key_app.command("rotate")
def key_rotate(
    vault: VaultArgument,
    key: SigningOption,
    new: Annotated[Path, typer.Option(help="The new .key file, made by `auditlib keygen` for the same origin.")],
    actor: ActorOption = None,
) -> None:
    """Bring a new signing key into force; one checkpoint carries both signatures."""
    from auditlib.amendments import rotate_key
    from auditlib.keyfiles import load_signing_key
    from auditlib.state import default_state
    from auditlib.vault import open_vault

    old_key, new_key = load_signing_key(key), load_signing_key(new)
    document = rotate_key(open_vault(vault), old_key, new_key, default_state(), who=actor or account(), now=now)
    say(f"trail document {document.n} is in force; give auditors the new verifier key by another way than the vault.")
    say(f"When every sealer signs with it: auditlib key retire {vault} --key {new} --retired '{old_key.verifier}'")
    print(new_key.verifier)


@key_app.command("retire")
def key_retire(
    vault: VaultArgument,
    key: SigningOption,
    retired: Annotated[str, typer.Option(help="The verifier key that signs no more, or a file with it.")],
    compromised_since: Annotated[
        str | None, typer.Option(help="It was stolen: the time from which its signatures prove nothing.")
    ] = None,
    actor: ActorOption = None,
) -> None:
    """Take a key out of force; `verify` names what a compromised one signed after the stated time."""
    from auditlib.amendments import retire_key
    from auditlib.formats.times import parse_time
    from auditlib.keyfiles import load_signing_key, load_verifier_keys
    from auditlib.state import SealerState, default_state
    from auditlib.vault import open_vault

    signing = load_signing_key(key)
    (gone,) = load_verifier_keys(retired)
    try:
        since = None if compromised_since is None else parse_time(compromised_since)
    except MalformedError as error:
        raise error.at("--compromised-since") from None
    state = SealerState(default_state(), signing.verifier)
    document = retire_key(
        open_vault(vault), signing, gone, state, who=actor or account(), now=now, compromised_since=since
    )
    print(f"{gone} signs no more; in force by trail document {document.n}: {', '.join(document.keys)}")


def _switch_holds(action: str, vault: str, key: Path, reason: str, actor: str | None, as_json: bool) -> None:
    from auditlib.display import progress_bar
    from auditlib.keyfiles import load_signing_key
    from auditlib.retention import set_holds
    from auditlib.vault import open_vault

    signing, on = load_signing_key(key), action == "vault.hold"
    if not reason.strip():
        raise MalformedError("a legal hold is set and lifted for a reason.", where="--reason")
    with progress_bar("setting holds" if on else "lifting holds", quiet=as_json) as progress:
        done = set_holds(open_vault(vault), on, progress)
    context = {"changed": done.changed, "objects": done.objects, "reason": reason}
    _seal_own(vault, signing, actor, [(action, context, "success")])
    if as_json:
        show_json(context)
    else:
        print(f"{done.changed:,} of {done.objects:,} legal holds {'set' if on else 'lifted'}.")


def _seal_own(vault: str, signing: Any, actor: str | None, events: list[tuple[str, dict[str, Any], str]]) -> None:
    """Seal what was done in a batch of its own, so that the seals' counts tell where to look for it."""
    from auditlib.announce import own_record
    from auditlib.formats.event import Actor, Target
    from auditlib.sealer import open_sealer
    from auditlib.state import SealerState, default_state
    from auditlib.vault import open_vault

    who, target = Actor(actor or account(), None, "user"), Target(signing.name, "trail")
    records = [own_record(name, who, target, context, now(), outcome=outcome) for name, context, outcome in events]
    with ExitStack() as stack:
        state = SealerState(default_state(), signing.verifier)
        sealer = stack.enter_context(open_sealer(open_vault(vault), signing, state, now=now))
        sealer.add(records)
        sealer.flush()
