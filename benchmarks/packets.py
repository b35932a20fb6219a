"""Packets: building one against running nothing, its size against the bare evidence, checking it with plain Python.

What a packet costs must grow with the evidence in it, not with the history before it: so one of a day and one of
everything, from the same trail.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from auditlib.packet.build import build_packet
from auditlib.packet.check import check_packet
from auditlib.trail import open as open_trail
from benchmarks import measure
from benchmarks.data import Lab
from benchmarks.measure import Row, row

BUILD_AIM = 3  # times an empty notebook's run, and the raw query besides
EMPTY = {
    "cells": [],
    "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}
ASKED = {"admin": {"entitlement": "admin"}, "every role": {"entitlement": "none"}}


def rows(lab: Lab) -> Iterator[Row]:
    period = {"since": "2026-01-01", "until": "2027-01-01"}
    with TemporaryDirectory(prefix="auditlib-bench-packets-") as folder:
        place = Path(folder)
        empty = seconds_of_nothing(place)
        for name, asked in list(ASKED.items())[: measure.most_rounds]:
            out = place / name.replace(" ", "-")
            start = time.perf_counter()
            build_packet("role-grants", lab.vault, {**period, **asked}, out, keys=lab.key)
            took = time.perf_counter() - start
            query = _raw_query(lab)
            evidence = (out / "data" / "events.jsonl").read_bytes()
            records = evidence.count(b"\n")
            what = f"role-grants, {name}: {records:,} records of {lab.events:,} events"
            note = f"limit: papermill on an empty notebook, aim {BUILD_AIM}; left out: the raw query, {query:.2f} s"
            yield row(f"packet built ({name})", took - query, empty, "s", f"{what}; {note}")
            size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
            bare = len(gzip.compress(evidence, 6))
            note = "limit: its records, gzip -6; reports, tables, spreadsheet and proofs are the rest"
            yield row(f"packet size ({name})", size / 1024, bare / 1024, "KiB", f"{what}; {note}")
            start = time.perf_counter()
            check_packet(out, [lab.key])
            ours = time.perf_counter() - start
            plain = _seconds_of_verifier(out, str(lab.key))
            yield row(
                f"verify.py ({name})", plain, ours, "s", f"{what}; limit: auditlib packet verify, in this process"
            )


def seconds_of_nothing(place: Path) -> float:
    """The papermill command on a notebook without a cell, in seconds; the better of two."""
    source = place / "empty.ipynb"
    source.write_text(json.dumps(EMPTY))
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", source, place / "out.ipynb"]
    times = []
    for _ in range(min(2, measure.most_rounds)):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def _seconds_of_verifier(packet: Path, key: str) -> float:
    start = time.perf_counter()
    verifier = packet / "data" / "verify.py"
    subprocess.run([sys.executable, "-I", verifier, packet, "--key", key], check=True, capture_output=True)
    return time.perf_counter() - start


def _raw_query(lab: Lab) -> float:
    """The grants of the year, asked of the open trail."""
    with open_trail(lab.vault, keys=lab.key) as trail:
        start = time.perf_counter()
        trail.events(kind="grant", since="2026-01-01", until="2027-01-01").arrow()
        return time.perf_counter() - start
