"""How often somebody may guess: a lock that doubles, for each account and for each address, and the check under it.

An attempt is counted before its password is looked at and taken back when it was right, so that a hundred at once
count as a hundred. While a lock lasts, attempts are refused and not counted: it ends by itself, at most 15 minutes
later, also while somebody goes on knocking. Somebody who knows a name can so keep its owner out for 15 minutes at a
time; that is the price of a bound on guesses that does not rest on addresses, which an attacker has many of.

Unknown names, wrong passwords and locked accounts cost the same one verification and get the same answer. A locked
address is refused before any of it, whatever the name: there is nothing to learn, and no memory to exhaust.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from auditlib.dashboard.accounts import Accounts
from auditlib.errors import UnavailableError

SECOND = 1_000_000  # microseconds
ACCOUNT_FREE = 5  # failures of an account before its first lock
ADDRESS_FREE = 20  # the same of an address, behind which a whole office may sit
LONGEST_LOCK = 900  # seconds; 96 guesses a day and account, below the 100 in a row of NIST SP 800-63B-4, 3.2.2
FORGOTTEN = 86_400  # seconds without a failure after which earlier ones are forgotten
MAX_KEPT = 10_000  # accounts or addresses with failures that are remembered; the one that failed longest ago goes first
AT_ONCE = 2  # verifications at the same time, 64 MiB each (RFC 9106, second recommended option)
MAX_WAITING = 32  # attempts that wait for one; more are told to come back


class Locks:
    """Failures and locks by key. `begin` counts, `good` takes back. For one thread, as an event loop is."""

    def __init__(self, free: int, now: Callable[[], int]) -> None:
        self._free, self._now = free, now
        self._kept: OrderedDict[str, tuple[int, int]] = OrderedDict()  # failures, and the time of the last

    def begin(self, key: str) -> bool:
        """Whether an attempt may go on; then it counts as a failure until `good` says otherwise."""
        now = self._now()
        failures, last = self._kept.get(key, (0, 0))
        if now - last >= FORGOTTEN * SECOND:
            failures = 0
        if failures and now - last < self._lock(failures) * SECOND:
            return False
        self._kept[key] = failures + 1, now
        self._kept.move_to_end(key)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return True

    def good(self, key: str, *, all_of_them: bool) -> None:
        """The attempt was right: forget it, or every failure before it too."""
        failures, last = self._kept.get(key, (0, 0))
        if all_of_them or failures <= 1:
            self._kept.pop(key, None)
        else:
            self._kept[key] = failures - 1, last

    def _lock(self, failures: int) -> int:
        """Seconds from the last failure: 1, 2, 4 and so on from the last free one."""
        over = failures - self._free
        return 0 if over < 0 else min(LONGEST_LOCK, 2 ** min(over, 16))


class Attempt(NamedTuple):
    """What became of an attempt; `reason` is for the record alone, the person is told the same for each."""

    right: bool
    account: str | None  # where there is one of this name; a text that is none may be a mistyped password
    reason: str = ""


class Guesses:
    """Names and passwords under their locks, two verifications at a time in threads of their own."""

    def __init__(self, accounts: Accounts, now: Callable[[], int]) -> None:
        self.accounts = accounts
        self._by_account, self._by_address = Locks(ACCOUNT_FREE, now), Locks(ADDRESS_FREE, now)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0

    async def check(self, name: str, password: str, address: str) -> Attempt:
        """Whether name and password fit and neither account nor address is locked.

        Raises UnavailableError where too many wait, and what `Accounts.verify` raises.
        """
        known = name if self.accounts.known(name) else None
        if self._waiting >= MAX_WAITING:
            raise UnavailableError("Too many people sign in at this moment.", remedy="Try again in a minute.")
        place = network(address)
        if not self._by_address.begin(place):
            return Attempt(False, known, "the address is locked")
        open_ = known is None or self._by_account.begin(known)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            fits = await loop.run_in_executor(self._threads, self.accounts.verify, name, password)
        finally:
            self._waiting -= 1
        if known is None:
            return Attempt(False, None, "no such account")
        if not open_:
            return Attempt(False, known, "the account is locked")
        if not fits:
            return Attempt(False, known, "wrong password")
        await loop.run_in_executor(self._threads, self.accounts.renew, known, password)
        self._by_account.good(known, all_of_them=True)
        self._by_address.good(place, all_of_them=False)  # an own account does not wash away guesses at others
        return Attempt(True, known)


def network(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that an IPv6 host has to itself (RFC 4291 2.5.4)."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)
