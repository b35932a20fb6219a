"""Commands that hand a packet over: sign, deliver, withdraw, list, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auditlib.cli.common import (
    JsonOption,
    KeysOption,
    SigningOption,
    VaultOption,
    account,
    now,
    show_json,
)
from auditlib.errors import MalformedError, MismatchError, UnavailableError

app = typer.Typer()
export_app = typer.Typer(no_args_is_help=True, help="A packet in other tools' formats: oscal.")
app.add_typer(export_app, name="export")

PacketArgument = Annotated[Path, typer.Argument(metavar="PACKET", help="The packet: a folder or a .zip.")]
ActorOption = Annotated[
    str | None, typer.Option(envvar="AUDITLIB_ACTOR", help="Who does this; default: the account's name.")
]


@app.command("sign")
def packet_sign(
    path: PacketArgument,
    key: Annotated[
        Path,
        typer.Option(
            "--key",
            envvar="AUDITLIB_PREPARER_KEY",
            help="Your own .key file, made by `auditlib keygen NAME`; not the sealer's.",
        ),
    ],
    preparer: Annotated[str | None, typer.Option(help="Who prepared the packet; the first to sign says it.")] = None,
    reviewer: Annotated[str | None, typer.Option(help="Who reviewed it.")] = None,
    supersedes: Annotated[str | None, typer.Option(metavar="DIGEST", help="The packet that it corrects.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it takes that packet's place.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a packet as its preparer; run again with another key, add the reviewer's signature."""
    from msgspec import to_builtins

    from auditlib.display import show_pairs
    from auditlib.keyfiles import load_signing_key
    from auditlib.packet.transmittal import Supersedes, sign_packet

    if (supersedes is None) != (reason is None):
        raise MalformedError("a packet supersedes another one for a reason: give --supersedes and --reason.")
    instead = None if supersedes is None or reason is None else Supersedes(supersedes, reason)
    signing = load_signing_key(key)
    _refuse_faults(path, None)
    told = sign_packet(path, signing, now=now(), preparer=preparer, reviewer=reviewer, supersedes=instead)
    if as_json:
        show_json(to_builtins(told) | {"ok": True, "signed_by": str(signing.verifier)})
        return
    show_pairs(
        [
            ("packet", path),
            ("packet digest", told.packet_digest),
            ("prepared by", told.preparer.name),
            ("reviewed by", told.reviewer or "nobody is named"),
            ("stated at", told.signed_at),
            ("signed by", signing.verifier),
        ]
    )


@app.command("deliver")
def packet_deliver(
    path: PacketArgument, vault: VaultOption, key: SigningOption, actor: ActorOption = None, as_json: JsonOption = False
) -> None:
    """Lock a signed packet in the vault it was drawn from, and seal that it was delivered."""
    from msgspec import to_builtins

    from auditlib.formats.layout import packet_key
    from auditlib.keyfiles import load_signing_key
    from auditlib.packet.delivery import deliver
    from auditlib.state import SealerState, default_state

    signing = load_signing_key(key)
    state = SealerState(default_state(), signing.verifier)
    told = deliver(path, vault, signing, state, actor=actor or account(), now=now)
    if as_json:
        show_json(to_builtins(told) | {"ok": True})
    else:
        print(f"packet {told.packet_digest} is delivered, and stands in the vault as {packet_key(told.packet_digest)}.")


@app.command("withdraw")
def packet_withdraw(
    digest: Annotated[str, typer.Argument(help="The packet digest, or its first characters.")],
    vault: VaultOption,
    key: SigningOption,
    reason: Annotated[str, typer.Option(help="Why it no longer stands; it is sealed with the event.")],
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Seal that a delivered packet no longer stands; it stays in the vault."""
    from msgspec import to_builtins

    from auditlib.keyfiles import load_signing_key
    from auditlib.packet.delivery import withdraw
    from auditlib.state import SealerState, default_state

    signing = load_signing_key(key)
    state = SealerState(default_state(), signing.verifier)
    told = withdraw(digest, vault, signing, state, reason=reason, actor=actor or account(), now=now)
    if as_json:
        show_json(to_builtins(told) | {"ok": True})
    else:
        print(f"packet {told.packet_digest} is withdrawn: {told.reason}")


@app.command("list")
def packet_list(vault: VaultOption, key: KeysOption = None, as_json: JsonOption = False) -> None:
    """The delivered packets: current, superseded, withdrawn, and the late events that have come since."""
    from msgspec import to_builtins
    from rich.table import Table

    from auditlib.display import OUT, plain
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.packet.delivery import list_packets
    from auditlib.trail import open as open_trail

    with open_trail(vault, keys=load_verifier_keys(key)) as trail:
        listed = list_packets(trail)
    ok = all(one.stored == "as sealed" for one in listed)
    if as_json:
        show_json({"ok": ok, "vault": vault, "packets": [to_builtins(one) for one in listed]})
        raise typer.Exit(0 if ok else 1)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("packet", "request", "period (UTC)", "seals", "delivered (UTC)", "status", "late events since"):
        table.add_column(heading, overflow="fold")
    for one in listed:
        period = f"{_day(one.period.since, 'the beginning')} to {_day(one.period.until, 'the checkpoint')}"
        status = one.status if one.superseded_by is None else f"{one.status}; by {one.superseded_by[:12]}"
        late = "not counted" if one.late_events is None else f"{one.late_events:,}"
        table.add_row(
            one.packet_digest[:12],
            plain(one.request),
            plain(period),
            f"{one.checkpoint:,}",
            one.delivered_at[:16].replace("T", " "),
            plain(f"{status} ({one.why})" if one.why else status),
            late if one.stored == "as sealed" else f"the stored packet is {one.stored}",
        )
    if listed:
        OUT.print(table)
    print(f"{len(listed):,} packet{'' if len(listed) == 1 else 's'} delivered.")
    raise typer.Exit(0 if ok else 1)


@export_app.command("oscal")
def export_oscal(
    path: PacketArgument,
    output: Annotated[Path, typer.Option("-o", help="A new .json file.")],
    key: KeysOption = None,
) -> None:
    """Write NIST OSCAL assessment-results: observations, evidence by hash, no opinion."""
    from auditlib.packet.bag import open_bag
    from auditlib.packet.oscal import oscal_results

    _refuse_faults(path, key)
    with open_bag(path) as bag:
        data = oscal_results(bag)
    try:
        with output.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise MalformedError(
            "exists already and is not overwritten.", where=str(output), remedy="Choose another -o."
        ) from None
    except OSError as error:
        raise UnavailableError(f"cannot be written ({error.strerror}).", where=str(output)) from None
    print(f"{output}: OSCAL assessment-results, {len(data):,} bytes.")


def _refuse_faults(path: Path, keys: list[str] | None) -> None:
    """MismatchError with the first fault of a packet that does not check."""
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.packet.check import check_packet

    for finding in check_packet(path, load_verifier_keys(keys)).findings:
        if finding.severity == "error":
            raise MismatchError(
                f"the packet does not check: {finding.message} (check {finding.check})",
                where=f"{path}: {finding.object}",
                remedy="Nothing was written. Run `auditlib packet verify` on it.",
            )


def _day(time: str | None, otherwise: str) -> str:
    return otherwise if time is None else time.removesuffix("T00:00:00Z")
