"""The project's own files agree with one another and name no machine."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {
    "prometheus_client": "prometheus-client",
    "psycopg": "psycopg[binary]",
    "python-duckdb": "duckdb",
    "python-tzdata": "tzdata",
}  # conda-forge: PyPI
NOT_OURS = {".git", ".venv", "build", "dist", ".hypothesis", ".import_linter_cache", "__pycache__"}
REGISTRY = re.compile(r"--(?:extra-)?index-url|--find-links|(?:pypi|pythonhosted)[.]org")
MACHINE_PATH = re.compile(r"(?<![\w.$-])/(?:root|work|farm|home/[a-z]\w*)/")


def direct_dependencies() -> dict[str, str]:
    """Name -> bound, over the core and every extra."""
    extras = PROJECT["optional-dependencies"].values()
    lines = [line for group in [PROJECT["dependencies"], *extras] for line in group]
    pairs = (line.split(">=") for line in lines if not line.startswith("auditlib["))
    return dict(pairs)


def our_files() -> list[Path]:
    """What git tracks or would track; without git, what is not obviously made by a tool."""
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(git, cwd=ROOT, capture_output=True, check=True, text=True).stdout
        files = [ROOT / name for name in listing.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = [path for path in ROOT.rglob("*") if not NOT_OURS & set(path.relative_to(ROOT).parts)]
    return [path for path in files if path.is_file()]


def test_environment_yml_agrees_with_pyproject() -> None:
    """An analyst on conda gets what an analyst on pip gets."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    lines = [line for line in environment["dependencies"] if isinstance(line, str) and line != "pip"]
    (pip,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    conda = dict(line.split(" >=") for line in lines) | dict(line.split(">=") for line in pip if ">=" in line)
    assert environment["name"] == PROJECT["name"]
    assert ">=" + conda.pop("python") == PROJECT["requires-python"]
    assert {CONDA_NAMES.get(name, name): bound for name, bound in conda.items()} == direct_dependencies()


def test_the_lock_pins_every_direct_dependency_by_hash() -> None:
    """Evidence is reproducible only with the versions, and the bytes, that made it."""
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    pins = {entry.partition("==")[0]: entry for entry in entries}
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)
    assert {name.partition("[")[0] for name in direct_dependencies()} <= pins.keys()


@pytest.mark.parametrize("pattern", [REGISTRY, MACHINE_PATH], ids=["registry", "machine path"])
def test_no_file_names_a_registry_or_a_machine(pattern: re.Pattern[str]) -> None:
    """A clone works anywhere, and tells nothing about where it was made."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in our_files()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert found == []


def test_imports_run_downward_only() -> None:
    """The contracts in pyproject.toml (DESIGN 6) hold."""
    lint_imports = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, check=False, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


EXPECTED = "LICENSE README.md CHANGELOG.md .ci/run auditlib/catalog.toml auditlib/py.typed"
LINTED = "auditlib/formats/__init__.py auditlib/history.py auditlib/verify.py"  # named in the contracts


@pytest.mark.parametrize("name", [*EXPECTED.split(), *LINTED.split()])
def test_what_others_rely_on_is_there(name: str) -> None:
    """A licence, a way in, a history, the check; and no contract about a module that moved away."""
    assert (ROOT / name).is_file()
