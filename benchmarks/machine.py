"""What the figures were measured on: written beside them, since a result is a list of rows and nothing else."""

from __future__ import annotations

import os
import platform
import ssl
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from benchmarks.measure import CORES

LIBRARIES = ("duckdb", "pyarrow", "pandas", "numpy", "msgspec", "cryptography")


class Machine(msgspec.Struct, frozen=True):
    """One run: when, on what, with how many events."""

    date: str
    events: int
    processor: str
    sha_instructions: bool
    cores: int
    memory_gib: int
    system: str
    python: str
    openssl: str
    libraries: dict[str, str]


def record_machine(results: Path, events: int) -> None:
    """Write `<results>.machine.json` for results just measured."""
    here = Machine(
        date=datetime.now(UTC).date().isoformat(),
        events=events,
        processor=_cpuinfo("model name") or platform.processor() or platform.machine(),
        sha_instructions=bool({"sha_ni", "sha2"} & set((_cpuinfo("flags") or _cpuinfo("Features")).split())),
        cores=CORES,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        openssl=ssl.OPENSSL_VERSION,
        libraries={name: version(name) for name in LIBRARIES},
    )
    machine_path(results).write_bytes(msgspec.json.format(msgspec.json.encode(here), indent=1) + b"\n")


def machine_path(results: Path) -> Path:
    return results.with_suffix(".machine.json")


def _cpuinfo(name: str) -> str:
    """The first processor's line of this name; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == name), "")
