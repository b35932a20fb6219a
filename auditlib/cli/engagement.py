"""Who may look, at what, and for how long: add, list and revoke engagements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditlib.cli.common import JsonOption, account, actions_of, now, show_json
from auditlib.errors import MalformedError

if TYPE_CHECKING:
    from auditlib.engagements import Engagement

app = typer.Typer(no_args_is_help=True, help="Who may look, at what, and for how long: add, list, revoke.")

FileOption = Annotated[
    Path, typer.Option("--engagements", envvar="AUDITLIB_ENGAGEMENTS", help="The file of engagements (0600).")
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The engagement's id.")]
_Texts = list[str] | None


@app.command()
def add(
    engagement_id: IdArgument,
    engagements: FileOption,
    identity: Annotated[str, typer.Option(help="Who signs in, exactly as the sign-in names them.")],
    vault: Annotated[list[str], typer.Option(help="A vault's origin, name, path or URL; several times for several.")],
    valid_from: Annotated[str, typer.Option(help="From when it holds: 2026-07-01T00:00:00Z.")],
    valid_until: Annotated[str, typer.Option(help="Until when it holds; that moment no more.")],
    role: Annotated[str, typer.Option(help="auditor, analyst or admin.")] = "auditor",
    since: Annotated[str | None, typer.Option(help="Events from this day or time on (UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Events before this day or time (UTC).")] = None,
    kind: Annotated[_Texts, typer.Option(help="Only this kind of action; several times for several.")] = None,
    action: Annotated[_Texts, typer.Option(help="Only this action: role.grant, or a glob like role.*.")] = None,
    target: Annotated[_Texts, typer.Option(help="Only this target: id or type:id (a glob).")] = None,
    stream: Annotated[_Texts, typer.Option(help="Only this source, with or without its instance (a glob).")] = None,
    redact: Annotated[_Texts, typer.Option(help="A field left out: context.SOMETHING or actor.session.")] = None,
    request: Annotated[_Texts, typer.Option(help="An evidence request that may be run (a glob); none without.")] = None,
    proofs: Annotated[
        bool, typer.Option("--proofs/--no-proofs", help="Events' proofs too: they show seals, which count all events.")
    ] = False,
    rows_per_export: Annotated[int, typer.Option(help="Events an export may have; 0 for no export.")] = 10_000,
    catalog: Annotated[
        Path | None, typer.Option(envvar="AUDITLIB_CATALOG", help="Your own actions, where a kind is one of theirs.")
    ] = None,
) -> None:
    """Let somebody look, within limits; a dashboard that runs knows it with the next click.

    What is not limited is open: without --since every time, without --kind every kind of action.
    """
    from auditlib.engagements import ROLES, Engagement, add_engagement, check_engagement
    from auditlib.formats.times import format_time
    from auditlib.tomlfiles import to_struct

    if role not in ROLES:
        raise MalformedError(f"{role[:80]!r} is no role; choose one of {', '.join(ROLES)}.", where="--role")
    given = {
        "id": engagement_id,
        "identity": identity,
        "role": role,
        "vaults": vault,
        "since": since,
        "until": until,
        "actions": action or [],
        "kinds": kind or [],
        "targets": target or [],
        "streams": stream or [],
        "redact": redact or [],
        "requests": request or [],
        "proofs": proofs,
        "rows_per_export": rows_per_export,
        "valid_from": _time(valid_from, "--valid-from"),
        "valid_until": _time(valid_until, "--valid-until"),
        "set_by": account(),
        "set_at": format_time(now()),
    }
    engagement = to_struct(
        {name: value for name, value in given.items() if value is not None}, Engagement, engagement_id
    )
    check_engagement(engagement, actions_of(catalog))
    add_engagement(engagements, engagement)
    _tell(engagement)


@app.command("list")
def list_engagements(engagements: FileOption, as_json: JsonOption = False) -> None:
    """Show the engagements in plain words, those that hold no more too."""
    from auditlib.engagements import read_engagements

    known = read_engagements(engagements)
    if as_json:
        show_json([_stable(engagement) for engagement in known])
        return
    for number, engagement in enumerate(known):
        if number:
            print()
        _tell(engagement)


@app.command()
def revoke(
    engagement_id: IdArgument,
    engagements: FileOption,
    reason: Annotated[str, typer.Option(help="Why; who looked reads it.")] = "",
) -> None:
    """Take an engagement back; it takes effect with the next click, without a restart."""
    from auditlib.engagements import revoke_engagement

    revoke_engagement(engagements, engagement_id, by=account(), reason=reason, now=now)
    print(f"{engagement_id} is revoked.")


def _time(text: str, where: str) -> str:
    from auditlib.formats.times import canonical_time

    try:
        return canonical_time(text)
    except MalformedError as error:
        raise error.at(where) from None


def _tell(engagement: Engagement) -> None:
    """Its words, and why it cannot be used now; a revocation stands in its words already."""
    from auditlib.display import OUT, plain
    from auditlib.engagements import in_words, why_not

    reason = why_not(engagement, now())
    for sentence in [*in_words(engagement), *([reason] if reason and engagement.revoked_at is None else [])]:
        OUT.print(plain(sentence), soft_wrap=True)


def _stable(engagement: Engagement) -> dict[str, Any]:
    """Every field, those at their defaults too, and the words."""
    import msgspec

    from auditlib.engagements import in_words

    return {**msgspec.structs.asdict(engagement), "holds": engagement.holds(now()), "in_words": in_words(engagement)}
