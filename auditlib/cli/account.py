"""Local accounts of the auditor's view: who may sign in with a password."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from auditlib.cli.common import JsonOption, now, show_json
from auditlib.errors import MalformedError

app = typer.Typer(no_args_is_help=True, help="Who may sign in with a password: add, password, list, remove.")

FileOption = Annotated[
    Path, typer.Option("--accounts", envvar="AUDITLIB_ACCOUNTS", help="The file of accounts (0600).")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name, as an engagement's identity names it.")]


@app.command()
def add(name: NameArgument, accounts: FileOption) -> None:
    """Make an account; its password is asked for twice, or read from a pipe (one line)."""
    from auditlib.dashboard.accounts import set_password

    set_password(accounts, name, _ask(name), new=True, now=now)
    print(f"{name} may sign in where an engagement names them.")


@app.command()
def password(name: NameArgument, accounts: FileOption) -> None:
    """Set another password; who is signed in with the old one is signed out."""
    from auditlib.dashboard.accounts import set_password

    set_password(accounts, name, _ask(name), new=False, now=now)
    print(f"{name} has another password; sign-ins with the old one have ended.")


@app.command("list")
def list_accounts(accounts: FileOption, as_json: JsonOption = False) -> None:
    """Show the accounts, and when the password of each was set."""
    from auditlib.dashboard.accounts import read_accounts

    known = read_accounts(accounts)
    if as_json:
        show_json([{"name": account.name, "set_at": account.set_at} for account in known])
        return
    from auditlib.display import OUT, plain

    for account in known:
        OUT.print(plain(f"{account.name}: its password was set at {account.set_at}."), soft_wrap=True)


@app.command()
def remove(name: NameArgument, accounts: FileOption) -> None:
    """Take an account away; who is signed in with it is signed out with the next click."""
    from auditlib.dashboard.accounts import remove_account

    remove_account(accounts, name)
    print(f"{name} is removed.")


def _ask(name: str) -> str:
    """The password, which nobody sees; it is checked before it is asked for again."""
    from auditlib.dashboard.accounts import MAX_PASSWORD_CHARS, check_password

    if not sys.stdin.isatty():
        given = sys.stdin.readline(MAX_PASSWORD_CHARS + 2).removesuffix("\n").removesuffix("\r")
        check_password(name, given)
        return given
    given = getpass.getpass("Password: ")
    check_password(name, given)
    if getpass.getpass("The same again: ") != given:
        raise MalformedError("the two are not the same.", remedy="Nothing was written; begin again.")
    return given
