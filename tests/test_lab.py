"""`auditlib lab`: a real JupyterLab on the analyst's own copies of the notebooks."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from packets import ROOT

from auditlib.errors import MalformedError
from auditlib.lab import lay_notebooks
from auditlib.packet.notebook import request_names

SAMPLE = ROOT / "data-samples"


def test_copies_are_laid_and_changes_of_the_analyst_stay(tmp_path):
    """A second start adds what is missing and touches nothing else."""
    assert [path.stem for path in lay_notebooks(tmp_path / "own")] == request_names()
    changed, gone = (tmp_path / "own" / f"{name}.ipynb" for name in request_names()[:2])
    changed.write_text("mine")
    gone.unlink()
    assert lay_notebooks(tmp_path / "own") == [gone]
    assert changed.read_text() == "mine"


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    """A sentence, and the file stays."""
    (tmp_path / "x").write_text("x")
    with pytest.raises(MalformedError, match="no folder"):
        lay_notebooks(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "x"


def until_answered(port):
    """It says its address before it listens there."""
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < end, "nobody listens"
            time.sleep(0.05)


@contextmanager
def running(folder, home):
    """The lab in a process of its own -> its address and token."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "auditlib.cli", "lab", folder, "--vault", SAMPLE / "vault"]
    command += ["--key", SAMPLE / "sample.vkey", "--port", str(port), "--no-browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "HOME": str(home)}) as process:
        try:
            for line in process.stderr:
                if found := re.search(r"(http://127\.0\.0\.1:\d+/)lab\S*\?token=(\w+)", line):
                    until_answered(port)
                    yield found[1], found[2]
                    break
            else:
                pytest.fail("it ended without an address")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def ask(address, token, path, data=None):
    request = urllib.request.Request(f"{address}{path}", data=data, headers={"Authorization": f"token {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.slow
def test_the_lab_serves_the_notebooks_with_this_interpreters_kernel(tmp_path):
    """On loopback, behind a token; a kernel is started there and finds the vault."""
    with running(tmp_path / "own", tmp_path) as (address, token):
        names = {entry["name"] for entry in ask(address, token, "api/contents")["content"]}
        assert names == {f"{name}.ipynb" for name in request_names()}
        specs = ask(address, token, "api/kernelspecs")
        assert specs["default"] == "python3"
        started = ask(address, token, "api/kernels", json.dumps({"name": "python3"}).encode())
        assert started["name"] == "python3"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            ask(address, "wrong", "api/contents")
