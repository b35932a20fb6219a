"""The command line: arguments, exit codes, wiring. Imported by nothing.

Exit codes: 0 fine, 1 the evidence is wrong, 2 the input is malformed or the usage wrong, 3 storage unavailable.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from auditlib import __version__
from auditlib.cli import (
    account,
    checkpoint,
    dashboard,
    engagement,
    handover,
    lab,
    packet,
    requests,
    status,
    trail,
    vault,
    writing,
)
from auditlib.cli.common import say, show_json
from auditlib.errors import AuditlibError, MalformedError, UnavailableError

app = typer.Typer(
    name="auditlib",
    no_args_is_help=True,
    add_completion=False,
    help="An audit trail as evidence that an auditor accepts.",
    pretty_exceptions_enable=False,
)
app.add_typer(trail.app)
packet.app.add_typer(handover.app)
app.add_typer(packet.app, name="packet")
app.add_typer(requests.app, name="requests")
app.add_typer(engagement.app, name="engagement")
app.add_typer(account.app, name="account")
app.add_typer(dashboard.app)
app.add_typer(lab.app)
app.add_typer(lab.notebook_app, name="notebook")
app.add_typer(writing.app)
app.add_typer(status.app)
app.add_typer(writing.token_app, name="token")
app.add_typer(writing.store_app, name="store")
app.add_typer(vault.app)
app.add_typer(vault.vault_app, name="vault")
app.add_typer(vault.key_app, name="key")
app.add_typer(checkpoint.app, name="checkpoint")


def main() -> None:
    """The console script: run, and turn errors into sentences and exit codes."""
    warnings.showwarning = _show_warning
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except AuditlibError as error:
        _show_error(error)
        code = error.exit_code
    except typer.TyperException as error:
        if str(error):  # without any command there is only the help
            _show_error(MalformedError(str(error), remedy="Try --help."))
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        say("stopped; what was sealed stays sealed.")
        code = 130
    except BrokenPipeError:
        _drop_output()
        code = 0
    except OSError as error:
        _drop_output()
        _show_error(UnavailableError(f"{error.strerror or error}.", where=str(error.filename or "output")))
        code = 3
    except SystemExit as stop:
        code = 0 if isinstance(stop.__context__, BrokenPipeError) else stop.code  # typer makes an exit 1 of it
    sys.exit(code if isinstance(code, int) else 0)


def _drop_output() -> None:
    """Nothing more is written to standard output: Python's own flush at the end would fail again, and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False) -> None:
    if version:
        print(f"auditlib {__version__}")
        raise typer.Exit


def _show_error(error: AuditlibError) -> None:
    if "--json" in sys.argv:
        show_json({"ok": False, "error": {"message": error.message, "where": error.where, "remedy": error.remedy}})
    from auditlib.display import ERR, plain

    ERR.print("auditlib:", plain(error), soft_wrap=True)


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, UserWarning):
        say(f"auditlib: {message}")
