"""A real browser for the tests: headless Chromium (Debian package `chromium`), driven over its debugging pipe."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
]

# The debugging pipe is the child's file descriptors 3 (it reads) and 4 (it writes).
PIPES = "import os,sys;os.dup2(int(sys.argv[1]),3);os.dup2(int(sys.argv[2]),4);os.execv(sys.argv[3],sys.argv[3:])"
PATIENCE = 60  # seconds in which a browser must say something


class Browser:
    """A headless Chromium with one tab, driven over its debugging pipe (Chrome DevTools Protocol)."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM
        (theirs, self._out), (self._in, theirs_out) = self._pipe(), self._pipe()
        flags = [*FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", PIPES, str(theirs), str(theirs_out), CHROMIUM, *flags],
            pass_fds=(theirs, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(theirs_out)
        self._read, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []  # since the last open()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
            self.call(f"{domain}.enable")

    @staticmethod
    def _pipe() -> tuple[int, int]:
        """A pipe whose ends are past 3 and 4, so that the child can put them there."""
        ends = os.pipe()
        high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends]
        for end in ends:
            os.close(end)
        return high[0], high[1]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer["error"]
        return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select.select([self._in], [], [], PATIENCE)[0], "the browser is silent"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser is gone"
            self._read += data
        message, self._read = self._read.split(b"\0", 1)
        return dict(json.loads(message))

    def open(self, page: Path | str) -> None:
        """Open a page from file://, or at an address, until it was loaded."""
        self.events.clear()
        self.call("Page.navigate", url=page if isinstance(page, str) else page.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is waited for."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Wait until an expression in the page is true, whatever page it is by then, and return its value."""
        end = time.monotonic() + seconds
        while True:
            told = self._evaluate(f"(() => {{ try {{ return {expression} }} catch {{ return null }} }})()")
            value = told.get("result", {}).get("value")
            if value:
                return value
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)

    def _evaluate(self, expression: str) -> dict[str, Any]:
        """Nothing where the page was left meanwhile."""
        try:
            return self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        except AssertionError as error:
            if "navigated" in str(error) or "context" in str(error):
                return {}
            raise

    def choose(self, selector: str, paths: Sequence[Path]) -> None:
        """Choose files in a file input, also the same again."""
        self.js(f"void (document.querySelector({json.dumps(selector)}).value = '')")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)

    def drop(self, path: Path) -> None:
        """Drop a file or a folder somewhere onto the page."""
        for kind in ("dragEnter", "dragOver", "drop"):
            data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
            self.call("Input.dispatchDragEvent", type=kind, x=200, y=300, data=data)

    def window(self, width: int, *, dark: bool = False) -> None:
        """Make the window so wide, in the light or in the dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def asked(self) -> list[str]:
        """Every address that was asked for since the page was opened, the page and what it made itself aside."""
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent if not one["request"]["url"].startswith(("blob:", "file:"))]

    def complaints(self) -> list[Any]:
        """What the console says: refusals by the policy, and exceptions."""
        return [e["params"] for e in self.events if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]

    def close(self) -> None:
        """End it."""
        self._session = ""
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._in)
        os.close(self._out)
