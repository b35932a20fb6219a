"""Kernels forked from one process: each starts with nothing of another's, and none outlives the one that asked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from auditlib.errors import AuditlibError
from auditlib.packet import kernels
from auditlib.packet.notebook import execute

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux alone")


def notebook(folder: Path, *cells: str) -> Path:
    path = folder / f"n{len(list(folder.iterdir()))}.ipynb"
    blank: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    told = [{**blank, "id": f"c{number}", "source": source} for number, source in enumerate(cells)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    path.write_text(json.dumps({"cells": told, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    return path


def run(folder: Path, *cells: str, **environment: str) -> list[str]:
    """What the cells print."""
    copy = json.loads(execute(notebook(folder, *cells), {}, environment, folder).copy)
    return ["".join(output.get("text", "")) for cell in copy["cells"] for output in cell["outputs"]]


def test_a_kernel_knows_nothing_of_another(tmp_path: Path) -> None:
    """Names, modules changed, variables and folders of one notebook are not there in the next."""
    first = run(
        tmp_path,
        "import os, pandas\nleft = 1\npandas.left = 1\nos.environ['LEFT'] = '1'\nopen('left', 'w').close()\n"
        "print(os.environ['GIVEN'], os.getpid())",
        GIVEN="one",
    )
    second = run(
        tmp_path,
        "import os, pandas\nprint(os.environ['GIVEN'], os.getpid(), 'left' in globals(), hasattr(pandas, 'left'), "
        "'LEFT' in os.environ, os.path.exists('left'))",
        GIVEN="two",
    )
    assert first[0].split()[0] == "one"
    given, pid, *left = second[0].split()
    assert (given, left) == ("two", ["False"] * 4)
    assert pid not in (first[0].split()[1], str(os.getpid()))


def test_a_table_looks_as_in_a_kernel_that_imported_pandas_itself(tmp_path: Path) -> None:
    """What pandas and matplotlib read from their surroundings when they are imported is what a kernel has."""
    code = "import pandas, matplotlib\nprint(pandas.get_option('display.max_columns'), matplotlib.get_backend())"
    assert [text.split() for text in run(tmp_path, code)] == [["20", "module://matplotlib_inline.backend_inline"]]


def test_a_kernel_that_is_killed_is_an_error_and_the_next_one_runs(tmp_path: Path) -> None:
    """A notebook that kills its kernel is refused as such; nothing hangs, and nothing else is hurt."""
    with pytest.raises(AuditlibError):
        execute(notebook(tmp_path, "import os\nos.kill(os.getpid(), 9)"), {}, {}, tmp_path)
    assert run(tmp_path, "print('still here')") == ["still here\n"]


def test_where_the_process_that_forks_is_killed_another_takes_its_place(tmp_path: Path) -> None:
    """The next request starts a new one."""
    before = kernels._the_server()
    os.kill(before._process.pid, signal.SIGKILL)
    assert before._process.wait() == -signal.SIGKILL
    assert run(tmp_path, "print('again')") == ["again\n"]
    assert kernels._the_server() is not before


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    """When the process that asked ends, so does the one that forks."""
    code = "from auditlib.packet import kernels; print(kernels._the_server()._process.pid)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
