"""A real dashboard in a process of its own, and what a person does with it in a real browser."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from browser import Browser

from auditlib.dashboard.accounts import set_password
from auditlib.engagements import Engagement, add_engagement

ROOT = Path(__file__).parent.parent
VAULT, KEY = ROOT / "data-samples" / "vault", ROOT / "data-samples" / "sample.vkey"
PASSWORD = "a long enough passphrase"
PATIENCE = 50  # seconds in which a dashboard starts or a page answers, on a loaded machine; a browser waits 60
IDLE = (
    "document.documentElement.dataset.open === 'yes' && document.getElementById('bar').hidden"
    " && Bokeh.documents[0].is_idle"
)
# Panes have roots of their own: this looks into all of them.
FIND = (
    "((want) => { const out = []; const walk = (root) => root.querySelectorAll('*').forEach((node) => {"
    " if (node.matches(want)) out.push(node); if (node.shadowRoot) walk(node.shadowRoot) });"
    " walk(document); return out })"
)


def engagement(name: str, identity: str, **limits: Any) -> Engagement:
    given = {
        "role": "auditor",
        "vaults": ("acme.example/audit",),
        "valid_from": "2026-01-01T00:00:00Z",
        "valid_until": "2099-01-01T00:00:00Z",
        "set_by": "maria",
        "set_at": "2026-06-28T09:12:00Z",
    }
    return Engagement(id=name, identity=identity, **{**given, **limits})


class Dashboard:
    """`auditlib dashboard` over a vault, with accounts whose password is PASSWORD."""

    def __init__(
        self, folder: Path, engagements: list[Engagement], *more: str, vault: Path = VAULT, key: Any = KEY
    ) -> None:
        self.engagements, accounts = folder / "engagements.toml", folder / "accounts.toml"
        self.state = folder / "state"
        for each in engagements:
            add_engagement(self.engagements, each)
        for identity in {each.identity for each in engagements}:
            set_password(accounts, identity, PASSWORD, new=True, now=lambda: time.time_ns() // 1000 - 10_000_000)
        self.port = free_port()
        prefix = more[more.index("--prefix") + 1] if "--prefix" in more else ""
        self.url = f"http://127.0.0.1:{self.port}{prefix}/"
        self._log = (folder / "log").open("w")
        self.log = folder / "log"
        command = [
            *(
                sys.executable,
                "-m",
                "auditlib.cli",
                "dashboard",
                "--vault",
                f"acme={os.path.relpath(vault, ROOT)}",
                "--key",
                str(key),
            ),
            *("--engagements", str(self.engagements), "--accounts", str(accounts), "--state", str(self.state)),
            *("--listen", f"127.0.0.1:{self.port}", *more),
        ]
        env = {name: value for name, value in os.environ.items() if not name.startswith("AUDITLIB_")}
        self.process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, env=env, cwd=ROOT)
        until(lambda: "auditlib: open" in self.log.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()

    def stop(self) -> None:
        """As Ctrl-C does."""
        self.process.terminate()
        self.process.wait(PATIENCE)
        self._log.close()

    def acts(self) -> list[dict[str, Any]]:
        """What was recorded, as the recorder's own journal has it."""
        path = self.state / "journal.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Person:
    """Somebody in a browser of their own."""

    def __init__(self, served: Dashboard, profile: Path, identity: str) -> None:
        self.served, self.identity = served, identity
        self.browser = Browser(profile)
        self.browser.window(1200)

    def sign_in(self, password: str = PASSWORD) -> None:
        """By the form, as a person does."""
        self.browser.open(self.served.url + "signin")
        self.browser.js(
            f"(() => {{ const form = document.querySelector('form');"
            f" form.elements.name.value = {json.dumps(self.identity)};"
            f" form.elements.password.value = {json.dumps(password)}; form.requestSubmit(); }})()"
        )
        self.browser.wait("!location.pathname.endsWith('/signin')", PATIENCE)
        self.browser.wait(IDLE, PATIENCE)

    def go(self, page: str, **query: str) -> str:
        """Open an address and read the page when it has answered."""
        self.browser.open(self.served.url + page + (f"?{urlencode(query)}" if query else ""))
        self.browser.wait(IDLE, PATIENCE)
        return self.text()

    def text(self) -> str:
        """All that can be read, whatever root it stands in."""
        return str(
            self.browser.js(
                "(() => { const out = [document.querySelector('h1').innerText]; const walk = (root) =>"
                " root.querySelectorAll('*').forEach((node) => { if (!node.shadowRoot) return;"
                " for (const part of node.shadowRoot.children) if (!/STYLE|LINK/.test(part.tagName))"
                " out.push(part.innerText); walk(node.shadowRoot) }); walk(document); return out.join('\\n') })()"
            )
        )

    def markup(self) -> str:
        """Everything the page holds, visible or not."""
        return str(
            self.browser.js(
                "(() => { let out = document.documentElement.outerHTML; const walk = (root) =>"
                " root.querySelectorAll('*').forEach((node) => { if (node.shadowRoot) {"
                " out += node.shadowRoot.innerHTML; walk(node.shadowRoot) } }); walk(document); return out })()"
            )
        )

    def counted(self) -> int:
        """The first number of the answer's headline."""
        return number(str(self.attribute(".headline", "innerText")))

    def click(self, selector: str, containing: str = "") -> None:
        """Click the first that fits, and wait for the answer."""
        found = f"{FIND}({json.dumps(selector)}).find((node) => node.textContent.includes({json.dumps(containing)}))"
        self.browser.wait(found + " && true", PATIENCE)
        self.browser.js(f"void {found}.click()")
        self.browser.wait(IDLE, PATIENCE)

    def attribute(self, selector: str, name: str) -> Any:
        return self.browser.js(f"{FIND}({json.dumps(selector)})[0]?.{name}")

    def cookies(self) -> str:
        """As the browser would send them."""
        told = self.browser.call("Network.getCookies", urls=[self.served.url])["cookies"]
        return "; ".join(f"{each['name']}={each['value']}" for each in told)

    def fetch(self, address: str) -> urllib3.BaseHTTPResponse:
        """What a download gives, with this person's cookies."""
        return urllib3.request("GET", self.served.url + address, headers={"Cookie": self.cookies()}, redirect=False)

    def close(self) -> None:
        self.browser.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
    return value


def number(text: str) -> int:
    """The first number in a sentence: 12,345."""
    found = re.search(r"\d[\d,]*", text)
    assert found, text
    return int(found.group().replace(",", ""))
