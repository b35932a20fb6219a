"""`auditlib lab` and `auditlib notebook`: the notebooks in JupyterLab, and one's own."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from auditlib.cli.common import KeysOption, VaultsOption, say, vaults_of
from auditlib.errors import UnavailableError

app = typer.Typer()
notebook_app = typer.Typer(no_args_is_help=True, help="Notebooks of your own.")


@notebook_app.command("new")
def notebook_new(path: Annotated[Path, typer.Argument(help="A new file that ends with .ipynb.")]) -> None:
    """Start a notebook of your own from one that runs as it is; `packet build PATH` answers with it."""
    from auditlib.requests.laying import lay_notebook

    lay_notebook(path)
    say(f"{path}: edit its question and its selection, then: auditlib packet build {path} -o build/answer")


@app.command("lab")
def lab(
    vault: VaultsOption,
    folder: Annotated[Path, typer.Argument(help="Where your copies of the notebooks are, or will be.")] = Path(
        "audit-notebooks"
    ),
    key: KeysOption = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of 127.0.0.1; else the next free one.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Open JupyterLab in your own copies of the notebooks, on this vault and this key."""
    from auditlib.lab import lab_command, lab_environment, lay_notebooks

    if find_spec("jupyterlab") is None:
        raise UnavailableError("JupyterLab is not installed.", remedy="pip install 'auditlib[analyst]'.")
    laid = lay_notebooks(folder)
    say(f"{folder}: {len(laid)} notebooks laid; your own changes stay." if laid else f"{folder}: your notebooks.")
    command = lab_command(folder, port, browser=browser)
    os.execve(command[0], command, lab_environment(os.environ, vaults_of(vault), key))  # noqa: S606 - this interpreter itself
