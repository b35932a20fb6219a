"""Notebooks: find, put values in, execute, and make the executed copy the same every time."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from auditlib import errors
from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.evidence.answer import HANDOVER
from auditlib.formats.canonical import canonical
from auditlib.packet.nb import nbformat

INJECTED = "injected-parameters"  # papermill's tag of the cell that holds the values
_PLACES = (Path(__file__).parent.parent / "notebooks", Path(__file__).parent.parent.parent / "notebooks")
_KERNEL = "python3"
_CONFIG: dict[str, Any] = {"KernelManager": {"transport": "ipc"}}  # sockets in a private folder, not on TCP
if sys.platform == "linux":  # elsewhere the systems' own libraries do not bear a fork
    _CONFIG["NotebookClient"] = {"kernel_manager_class": "auditlib.packet.kernels.WarmKernels"}
_KEPT = ("tags",)  # of a cell's metadata; the rest says when and how long


class Executed(msgspec.Struct, frozen=True):
    """A notebook after its run: what hash its code has, and the executed copy without anything volatile."""

    name: str
    sha256: str
    copy: bytes


def find_notebook(request: str) -> Path:
    """A request's name, or a path ending in .ipynb -> the notebook. MalformedError lists the names that are known."""
    if request.endswith(".ipynb") and Path(request).is_file():
        return Path(request)
    names = request_names()
    if request not in names:
        near = get_close_matches(request, names, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise MalformedError(f"there is no request {request!r}. {hint}Known are: {', '.join(names) or 'none'}.")
    return next(path for place in _PLACES if (path := place / f"{request}.ipynb").is_file())


def request_names() -> list[str]:
    """The requests that have a notebook, sorted."""
    return sorted({path.stem for place in _PLACES for path in place.glob("*.ipynb")})


def execute(notebook: Path, parameters: Mapping[str, Any], environment: Mapping[str, str], handover: Path) -> Executed:
    """Run a notebook in a kernel of its own; what it submits lands in `handover`.

    Raises the notebook's own error where a cell fails, in its own family.
    """
    code = code_hash(notebook)
    with tempfile.TemporaryDirectory() as folder:
        own = {  # the user's own IPython profile, start-up files and line widths stay out of the evidence
            **environment,
            HANDOVER: str(handover),
            "COLUMNS": "80",
            "IPYTHONDIR": f"{folder}/ipython",
            "PYTHONSTARTUP": "",
            "TZ": "UTC",
        }
        with _environment(own):
            return _run(notebook, parameters, code, folder)


def _run(notebook: Path, parameters: Mapping[str, Any], code: str, folder: str) -> Executed:
    try:
        executed = papermill.execute_notebook(
            _with_values(notebook, parameters),
            None,
            kernel_name=_KERNEL,
            progress_bar=False,
            log_output=False,
            cwd=folder,
            config=Config(_CONFIG),
            extra_arguments=["--log-level=CRITICAL"],  # its word on being stopped is no news
        )
    except PapermillExecutionError as error:
        raise _own_error(error) from None
    except (RuntimeError, OSError) as error:  # the kernel did not start, or died
        raise UnavailableError(f"the notebook could not be run ({error}).", where=notebook.name) from None
    return Executed(notebook.stem, code, clean(executed))


def _with_values(notebook: Path, parameters: Mapping[str, Any]) -> Any:
    """The notebook with a cell that sets the values, after the one that declares them, or as the first.

    Papermill would write them in the order given, and format the cell with `black` where that happens to be installed.
    """
    plain = nbformat.v4.upgrade(nbformat.read(notebook, as_version=4))  # type: ignore[no-untyped-call]
    tags = [cell.metadata.get("tags", ()) for cell in plain.cells]
    if any(INJECTED in own for own in tags):
        message = f"it was run before, with values of its own in a cell tagged {INJECTED}."
        raise MalformedError(message, where=str(notebook), remedy="Remove that cell, or give the notebook without it.")
    if parameters:
        lines = [f"{name} = {_literal(name, parameters[name])}\n" for name in sorted(parameters)]
        cell = nbformat.v4.new_code_cell("# Parameters\n" + "".join(lines), metadata={"tags": [INJECTED]})  # type: ignore[no-untyped-call]
        plain.cells.insert(next((n for n, own in enumerate(tags, 1) if "parameters" in own), 0), cell)
    return plain


def _literal(name: str, value: Any) -> str:
    """A value as Python writes it, in ASCII: whatever it holds, it stays one value on one line."""
    if isinstance(value, list):
        return f"[{', '.join(_literal(name, item) for item in value)}]"
    if value is None or type(value) in (bool, int, float, str):
        return ascii(value)
    raise MalformedError(f"a {type(value).__name__} is no value of a parameter.", where=name)


def code_hash(notebook: Path) -> str:
    """SHA-256 of the canonical list of [cell type, source]: what a notebook does, whatever outputs are stored in it."""
    try:
        cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise MalformedError(f"this is no notebook ({error}).", where=str(notebook)) from None
    return sha256(canonical([[cell.cell_type, cell.source] for cell in cells])).hexdigest()


def clean(notebook: Any) -> bytes:
    """A notebook's bytes without times, durations, paths, random ids or what was written to stderr."""
    cells = []
    for number, cell in enumerate(notebook.cells, 1):
        cell.metadata = {name: cell.metadata[name] for name in _KEPT if name in cell.metadata}
        cell.id = f"cell-{number:02}"
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                if "metadata" in output:
                    output.metadata = {}
        cells.append(cell)
    notebook.cells = cells
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": _KERNEL},
        "language_info": {"name": "python"},
    }
    text: str = nbformat.writes(notebook, version=nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]
    return text.encode() + b"\n"


def _own_error(error: PapermillExecutionError) -> AuditlibError:
    """A failing cell's error, raised again as what it was."""
    family = getattr(errors, error.ename, None)
    kind = family if isinstance(family, type) and issubclass(family, AuditlibError) else MalformedError
    message = error.evalue if kind is family else f"{error.ename}: {error.evalue}"
    return kind(message, where=f"notebook cell {error.exec_count}")


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
