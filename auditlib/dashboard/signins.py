"""Who is signed in: a table in the server's memory behind a random cookie. A restart signs everybody out.

The browser holds 256 random bits and the table only their SHA-256, so that a copy of the memory or of a log opens
nothing. A sign-in ends by itself after its lifetime or when nothing was done for a while; by signing out; when its
account is removed or its password set anew (`stands`). Pages ask `holds` at each click, over open websockets too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from secrets import token_urlsafe

SECOND = 1_000_000  # microseconds
COOKIE_BYTES = 32  # random bytes, 256 bits
MAX_COOKIE_CHARS = 100  # characters of a cookie that is looked at; ours have 43
LIFETIME = 8 * 3600  # seconds that a sign-in lasts, whatever is done: a working day
IDLE = 30 * 60  # seconds without a click after which it ends; OWASP Session Management: 15 to 30 minutes
CLOCK_STEP = 60  # seconds that a clock may be set back; further, and nobody can tell how long a sign-in has lasted
MAX_SIGN_INS = 5_000  # at once; the one idle longest goes first
MAX_EACH = 20  # at once for one identity
# Why a sign-in ended, as it is recorded.
ASKED, REPLACED, EXPIRED, IDLED = "asked for", "signed in anew", "expired", "idle"
CLOCK, ACCOUNT, CROWDED, SERVER = "the clock was set back", "account changed", "too many sign-ins", "server ended"


@dataclass(frozen=True, eq=False)
class SignIn:
    """One sign-in; `since` and `until` in microseconds since 1970 UTC, `how`: password, oidc or link.

    `session` names it in records: it cannot be turned into the cookie, nor into what the table keeps.
    """

    identity: str
    how: str
    since: int
    until: int
    digest: bytes = field(repr=False)

    @property
    def session(self) -> str:
        """16 hexadecimal digits."""
        return sha256(b"auditlib/session\n" + self.digest).hexdigest()[:16]


class SignIns:
    """The table. Safe to call from several threads."""

    def __init__(
        self,
        now: Callable[[], int],
        *,
        stands: Callable[[SignIn], bool] = lambda _: True,
        lifetime: int = LIFETIME,
        idle: int = IDLE,
    ) -> None:
        """`now` in microseconds; `stands`: whether what a sign-in rests on is still there; the others in seconds.

        `over` is told of each sign-in that has ended, once, and why; it must not wait, for it is called from anywhere.
        """
        self.over: Callable[[SignIn, str], object] = lambda signin, why: None
        self._now, self._stands = now, stands
        self._lifetime, self._idle = lifetime * SECOND, idle * SECOND
        self._lock = threading.Lock()
        self._table: dict[bytes, tuple[SignIn, int]] = {}  # with when it was last used

    def make(self, identity: str, how: str) -> tuple[str, SignIn]:
        """A sign-in that does not hold yet, so that it can be recorded before; its cookie is shown only here."""
        cookie = token_urlsafe(COOKIE_BYTES)
        now = self._now()
        return cookie, SignIn(identity, how, now, now + self._lifetime, _digest(cookie))

    def open(self, signin: SignIn) -> None:
        """From here on it holds."""
        self.sweep()
        now = self._now()
        with self._lock:
            mine = [key for key, (other, _) in self._table.items() if other.identity == signin.identity]
            gone = self._crowded(mine, MAX_EACH)
            gone += self._crowded(list(self._table), MAX_SIGN_INS)
            self._table[signin.digest] = signin, now
        for each in gone:
            self.over(each, CROWDED)

    def start(self, identity: str, how: str) -> tuple[str, SignIn]:
        """Both at once, where nothing comes between."""
        cookie, signin = self.make(identity, how)
        self.open(signin)
        return cookie, signin

    def find(self, cookie: str | None) -> SignIn | None:
        """The sign-in that this cookie stands for, the same object each time, if it holds now."""
        if not cookie or len(cookie) > MAX_COOKIE_CHARS:
            return None
        with self._lock:
            found = self._table.get(_digest(cookie))
        return found[0] if found is not None and self.holds(found[0]) else None

    def holds(self, signin: SignIn) -> bool:
        """Whether it still holds; one that does not is ended for good.

        Raises what `stands` raises where that cannot be told, and then it holds for nobody.
        """
        now = self._now()
        with self._lock:
            found = self._table.get(signin.digest)
            if found is None or found[0] is not signin:
                return False
            why = self._why_not(found, now)
            if why:
                del self._table[signin.digest]
        if why:
            self.over(signin, why)
            return False
        if self._stands(signin):
            return True
        self.end(signin, ACCOUNT)
        return False

    def touch(self, signin: SignIn) -> None:
        """Something was done: it is idle from now."""
        now = self._now()
        with self._lock:
            found = self._table.get(signin.digest)
            if found is not None and found[0] is signin and not self._why_not(found, now):
                self._table[signin.digest] = signin, now

    def end(self, signin: SignIn, why: str | None) -> bool:
        """End it at once; whether it was there. None: the caller tells why, `over` is not told."""
        with self._lock:
            there = self._table.pop(signin.digest, None) is not None
        if there and why is not None:
            self.over(signin, why)
        return there

    def sweep(self) -> None:
        """End those whose time is up, whether anybody asks for them or not."""
        now = self._now()
        with self._lock:
            ended = [(entry[0], why) for entry in self._table.values() if (why := self._why_not(entry, now))]
            for signin, _ in ended:
                del self._table[signin.digest]
        for signin, why in ended:
            self.over(signin, why)

    def close(self) -> None:
        """End all: the server ends."""
        self.sweep()
        with self._lock:
            ended = [signin for signin, _ in self._table.values()]
            self._table.clear()
        for signin in ended:
            self.over(signin, SERVER)

    def _why_not(self, entry: tuple[SignIn, int], now: int) -> str:
        """Why it does not last any more; nothing where it does."""
        signin, used = entry
        if now < signin.since - CLOCK_STEP * SECOND:
            return CLOCK
        if now >= signin.until:
            return EXPIRED
        return IDLED if now - used >= self._idle else ""

    def _crowded(self, keys: list[bytes], most: int) -> list[SignIn]:
        """Take out those used longest ago, until there is room for one more."""
        oldest = sorted(keys, key=lambda key: self._table[key][1])[: max(0, len(keys) - most + 1)]
        return [self._table.pop(key)[0] for key in oldest]


def _digest(cookie: str) -> bytes:
    return sha256(cookie.encode(errors="surrogatepass")).digest()
