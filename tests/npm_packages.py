"""Packages of npm that tests need, installed as their lock says into build/, once for all workers."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def npm_packages(name: str, node: int = 0) -> Path:
    """The folder where what tests/services/<name>/package-lock.json pins is installed.

    Skips where there is no npm, and fails there in CI. Skips, with its reason, where Node.js is older than it must be:
    Debian 12 itself has 18.
    """
    made, folder = HERE / "services" / name, HERE.parent / "build" / name
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("node and npm are not here")
        pytest.skip("node and npm are not here (Debian packages `nodejs` and `npm`)")
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(told.lstrip("v").partition(".")[0]) < node:
        pytest.skip(f"Node.js {told.strip()} is here, and {name} needs {node} or newer")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (made / "package-lock.json").read_text()
        stamp = folder / "installed"
        for path in made.iterdir():
            shutil.copyfile(path, folder / path.name)
        if not stamp.exists() or stamp.read_text() != wanted:
            command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            stamp.write_text(wanted)
    return folder
