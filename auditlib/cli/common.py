"""What every command shares: its options, and how it speaks."""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from auditlib.errors import MalformedError

SHOWN_ROWS = 50  # rows of a table for people

VaultArgument = Annotated[
    str, typer.Argument(envvar="AUDITLIB_VAULT", help="The vault: a path, file:// or s3://bucket/prefix.")
]
VaultOption = Annotated[
    str, typer.Option("--vault", envvar="AUDITLIB_VAULT", help="The vault: a path, file:// or s3://bucket/prefix.")
]
VaultsOption = Annotated[
    list[str],
    typer.Option(
        "--vault",
        envvar="AUDITLIB_VAULT",
        help="The vault: a path, file:// or s3://bucket/prefix; again for each further trail.",
    ),
]
KeysOption = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        envvar="AUDITLIB_KEY",
        help="A verifier key you trust, or a file of them; without it the vault's own is used, unconfirmed.",
    ),
]
SigningOption = Annotated[Path, typer.Option("--key", envvar="AUDITLIB_SIGNING_KEY", help="The sealer's .key file.")]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        metavar="tcp://HOST:PORT",
        envvar="AUDITLIB_SCHEDULER",
        help="Read batches on a dask cluster whose workers reach the vault under the same name.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON for programs, with stable keys.")]


def vaults_of(given: list[str]) -> list[str]:
    """The vaults of a VaultsOption; in AUDITLIB_VAULT they stand one a line, and a path there may hold spaces."""
    variable = os.environ.get("AUDITLIB_VAULT", "")
    return [line for line in variable.split("\n") if line] if given == variable.split() else given


def account() -> str:
    """Who runs this: the account's name, or its number where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid:{os.getuid()}"


def now() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def say(text: str) -> None:
    """A sentence for people, on standard error."""
    print(text, file=sys.stderr)


def show_json(value: Any) -> None:
    """JSON for programs, on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE -> the two."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise MalformedError(f"{text!r} is not NAME=VALUE.")
    return name, value


def older_notes(given: str) -> list[tuple[str, bytes]]:
    """(name, bytes) of the checkpoint in a file, or of every one in a packet; nothing of them is verified yet."""
    from auditlib.formats.checkpoint import MAX_NOTE_BYTES
    from auditlib.packet.check import read_checkpoints

    path = Path(given)
    try:
        whole = path.is_dir() or path.suffix == ".zip"
        return read_checkpoints(path) if whole else [(given, path.open("rb").read(MAX_NOTE_BYTES + 1))]
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror}).", where=given) from None


def actions_of(extension: Path | None) -> Any:
    """The built-in catalogue, with the user's own file of actions added."""
    from auditlib.formats.catalog import extend_catalog, parse_catalog

    base = parse_catalog(Path(__file__).parents[1].joinpath("catalog.toml").read_bytes())
    if extension is None:
        return base
    try:
        return extend_catalog(base, extension.read_bytes())
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror}).", where=str(extension)) from None
    except MalformedError as error:
        raise error.at(str(extension)) from None


def seconds_of(text: str, where: str) -> int:
    """`30s`, `5m`, `12h`, `30d` -> whole seconds, at least one."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not (number.isascii() and number.isdigit()) or not 0 < int(number) < 1_000_000:
        raise MalformedError(f"{text!r} is no length of time; write 30s, 5m, 12h or 30d.", where=where)
    return int(number) * units[unit]
