"""Files handed over once: each for one sign-in, within ten minutes, under an address that nobody can guess.

    path = handed.new_path(".csv")                      write the file there
    href = handed.offer(signin, path, "events.csv")     handed/3q2-7w...; relative to the pages

    state/handed/    0700, emptied at start; each file goes when it was sent, or when its time is up

The browser names a token and nothing else; there is no path in an address. What is offered, to whom, is in memory.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from auditlib.dashboard.signins import SignIn
from auditlib.errors import AuditlibError, UnavailableError
from auditlib.formats.times import SECOND

SECONDS = 10 * 60  # in which it must be fetched
TOKEN_BYTES = 32  # random bytes, 256 bits
MAX_OFFERED = 1_000  # at once; the oldest goes first
MAX_EACH = 20  # of one person, so that nobody's files push another's out
MADE_SECONDS = 60 * 60  # in which a file is made and offered; what was not is of somebody who is gone
MAX_NAME_CHARS = 100
CHUNK_BYTES = 256 * 1024  # bytes read and sent at a time
# A report runs its own script and reads what is dropped onto it; it is kept from this site and from every other.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline' blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:; connect-src 'none'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_TYPES = {
    **{".csv": "text/csv; charset=utf-8", ".jsonl": "application/jsonl", ".html": "text/html; charset=utf-8"},
    **{".parquet": "application/vnd.apache.parquet", ".zip": "application/zip"},
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


class Offer(msgspec.Struct, frozen=True):
    """One file that may be fetched; `until` in microseconds since 1970 UTC. `shown`: opened, not saved."""

    signin: SignIn
    path: Path
    name: str
    until: int
    shown: bool
    still: Callable[[], bool]


class Handed:
    """What is offered. `holds`: whether a sign-in still stands."""

    def __init__(self, folder: Path, holds: Callable[[SignIn], bool], now: Callable[[], int]) -> None:
        """One server a folder: what is in it is deleted. UnavailableError where it cannot be used."""
        self._folder, self._holds, self._now = folder, holds, now
        self._lock = threading.Lock()
        self._offers: dict[str, Offer] = {}
        self._made: dict[Path, int] = {}  # paths that were given out, and when
        self._clean()

    def new_path(self, ending: str = "") -> Path:
        """A path in the folder where nothing stands yet."""
        path = self._folder / f"{secrets.token_hex(16)}{ending}"
        with self._lock:
            self._made[path] = self._now()
        return path

    def linked(self, path: Path, ending: str = "") -> Path:
        """The same file under a path of the folder, so that it stays there when `path` goes.

        UnavailableError where it is not there any more.
        """
        new = self.new_path(ending)
        try:
            os.link(path, new)
        except OSError:
            message = "it is not kept any longer."
            raise UnavailableError(message, remedy="Run it again.") from None
        return new

    def offer(
        self,
        signin: SignIn,
        path: Path,
        name: str,
        *,
        shown: bool = False,
        still: Callable[[], bool] = lambda: True,
    ) -> str:
        """Offer a file of the folder; it is taken over, and goes when it was fetched. Gives the relative address.

        `name` is what it is saved as. `shown`: opened in a tab of its own, as REPORT_POLICY lets it. `still`: whether
        what it was made under still holds, asked when it is fetched; where that is refused, it does not.
        """
        token = secrets.token_urlsafe(TOKEN_BYTES)
        offer = Offer(signin, path, safe_name(name), self._now() + SECONDS * SECOND, shown, still)
        with self._lock:
            self._made.pop(path, None)
            self._sweep()
            mine = [token for token, other in self._offers.items() if other.signin.identity == signin.identity]
            for oldest in mine[: max(0, len(mine) - MAX_EACH + 1)]:
                self._drop(oldest)
            while len(self._offers) >= MAX_OFFERED:
                self._drop(next(iter(self._offers)))
            self._offers[token] = offer
        return f"handed/{token}"

    def take(self, token: str, signin: SignIn | None) -> Offer | None:
        """What is offered, once; None where it is not, is no longer, or is for another sign-in."""
        if signin is None or not self._stands(signin):
            return None
        with self._lock:
            self._sweep()
            found = self._offers.get(token)
            if found is None or found.signin is not signin:
                return None
            if not _holds(found.still):
                self._drop(token)
                return None
            return self._offers.pop(token)

    def sweep(self) -> None:
        """Delete what nobody fetched in time, or whose sign-in has ended."""
        with self._lock:
            self._sweep()

    def close(self) -> None:
        """Delete everything."""
        with self._lock:
            self._offers.clear()
            self._made.clear()
        self._clean()

    def _sweep(self) -> None:
        now = self._now()
        for token in [token for token, offer in self._offers.items() if now >= offer.until]:
            self._drop(token)
        for token in [token for token, offer in self._offers.items() if not self._stands(offer.signin)]:
            self._drop(token)
        for path in [path for path, made in self._made.items() if now >= made + MADE_SECONDS * SECOND]:
            del self._made[path]
            path.unlink(missing_ok=True)

    def _stands(self, signin: SignIn) -> bool:
        """Not, where that cannot be told: one person's account must not be in the way of another's file."""
        return _holds(partial(self._holds, signin))

    def _drop(self, token: str) -> None:
        self._offers.pop(token).path.unlink(missing_ok=True)

    def _clean(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            for path in self._folder.iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as error:
            raise UnavailableError(f"cannot be emptied ({error.strerror}).", where=str(self._folder)) from None


class HandedHandler(RequestHandler):
    """GET handed/TOKEN: the file, a piece at a time, as fast as it is taken. 404 for whatever is not for this sign-in.

    The pattern is (f"{prefix}/handed/(.*)", HandedHandler, {"handed": ..., "find": ...}).
    """

    def initialize(self, handed: Handed, find: Callable[[RequestHandler], SignIn | None]) -> None:
        """`find`: whose request it is, by its cookie."""
        self._handed, self._find = handed, find

    async def get(self, token: str) -> None:
        """See the class."""
        if self.request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise HTTPError(404)  # another site's link would use it up
        offer = self._handed.take(token, self._find(self))
        if offer is None:
            raise HTTPError(404)
        try:
            await self._send(offer)
        finally:
            offer.path.unlink(missing_ok=True)

    async def _send(self, offer: Offer) -> None:
        loop = asyncio.get_running_loop()
        try:
            stream: BinaryIO = await loop.run_in_executor(None, offer.path.open, "rb")
        except OSError:
            raise HTTPError(404) from None
        with stream:
            how = "inline" if offer.shown else "attachment"
            self.set_header("Content-Type", _TYPES.get(Path(offer.name).suffix, "application/octet-stream"))
            self.set_header("Content-Length", str(os.fstat(stream.fileno()).st_size))
            self.set_header("Content-Disposition", f'{how}; filename="{offer.name}"')
            self.set_header("X-Content-Type-Options", "nosniff")
            self.set_header("Cache-Control", "no-store")
            self.set_header("Content-Security-Policy", REPORT_POLICY if offer.shown else "sandbox; default-src 'none'")
            try:
                while piece := await loop.run_in_executor(None, stream.read, CHUNK_BYTES):
                    self.write(piece)
                    await self.flush()  # waits until the other side has taken it
            except StreamClosedError:
                return

    def compute_etag(self) -> str | None:
        """None: what is sent once is not compared."""
        return None

    def write_error(self, status_code: int, **_: Any) -> None:
        """The same words whatever was wrong."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(
            "There is nothing here. A download can be fetched once, within ten minutes, by whom it was made for.\n"
        )


def _holds(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except AuditlibError:
        return False


def safe_name(name: str) -> str:
    """ASCII letters, digits, dots, dashes and underscores, so that no header and no system reads more into it."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-MAX_NAME_CHARS:].strip(".-")
    return plain or "file"
