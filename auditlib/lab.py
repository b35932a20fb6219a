"""JupyterLab in a folder of one's own with the library's notebooks, on the vault and the key that were named."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from auditlib.errors import MalformedError, UnavailableError
from auditlib.packet.notebook import find_notebook, request_names


def lay_notebooks(folder: Path) -> list[Path]:
    """Copy each of the library's notebooks that is not there yet, and touch nothing else. The new ones, sorted."""
    if folder.exists() and not folder.is_dir():
        raise MalformedError("is no folder.", where=str(folder), remedy="Name a folder for the notebooks.")
    laid = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in request_names():
            place = folder / f"{name}.ipynb"
            if not place.exists():
                shutil.copyfile(find_notebook(name), place)
                laid.append(place)
    except OSError as error:
        raise UnavailableError(f"the notebooks cannot be laid there ({error.strerror}).", where=str(folder)) from None
    return laid


def lab_command(folder: Path, port: int | None, *, browser: bool) -> list[str]:
    """The command that serves the folder on loopback; its kernel `python3` is this interpreter.

    Nothing asks the network for news or updates.
    """
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}"]
    command += ["--allow-root"] if os.geteuid() == 0 else []  # who is root already has decided so
    command += ["--ServerApp.ip=127.0.0.1"]
    command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"] if port else []
    return command if browser else [*command, "--no-browser"]


def lab_environment(own: Mapping[str, str], vaults: Sequence[str], keys: list[str] | None) -> dict[str, str]:
    """The environment in which `evidence.open()` finds the vault, or several, and the keys."""
    places = [vault if "://" in vault else str(Path(vault).resolve()) for vault in vaults]
    given = {"AUDITLIB_VAULT": "\n".join(places)} | ({"AUDITLIB_KEY": "\n".join(map(_whole, keys))} if keys else {})
    return {**own, **given}


def _whole(key: str) -> str:
    """A key file's path from wherever the notebook runs; a key stays as it is."""
    return str(Path(key).resolve()) if Path(key).is_file() else key
