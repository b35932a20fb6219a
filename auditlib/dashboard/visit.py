"""One open page of one signed-in person, and what all of them share.

Everything that decides what may be seen lives here, in Python on the server: the browser can write every property of
every model that it was sent, so none of them is ever asked who somebody is, what their scope is, or how many rows
they may have. A page asks its Visit, and the Visit asks again each time: is the sign-in still good, does the
engagement still hold.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import parse_qsl, urlencode
from weakref import WeakValueDictionary

from auditlib.dashboard.vaults import Vaults
from auditlib.dashboard.work import check
from auditlib.engagements import Engagement, current
from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.formats.catalog import Catalog
from auditlib.scoped import RefusedError, ScopedTrail
from auditlib.trail import Trail

if TYPE_CHECKING:
    from auditlib.dashboard.handed import Handed
    from auditlib.dashboard.recorder import Recorder
    from auditlib.dashboard.signin_pages import Door
    from auditlib.dashboard.signins import SignIn
    from auditlib.dashboard.work import Works
    from auditlib.monitor.settings import Settings

MAX_ARGUMENTS = 64  # fields of an address
MAX_ARGUMENT_CHARS = 2_000  # characters of each
MAX_ADDRESS_CHARS = 16_384  # characters of all of them
_log = logging.getLogger("auditlib.dashboard")
AT_ONCE = 2  # of one person's clicks; the pool has threads for four such people
_turns: WeakValueDictionary[tuple[int, str], asyncio.Semaphore] = WeakValueDictionary()  # by pool and identity
_Result = TypeVar("_Result")


class Listed(Protocol):
    """Where engagements come from: a file that is read again when it has changed, or the one of who started it."""

    def all(self) -> Sequence[Engagement]:
        """Every engagement, those that do not hold too."""


class Desk:
    """What all visits share: the opened vaults, who is signed in, who may see what, and what records it."""

    def __init__(
        self,
        *,
        vaults: Vaults,
        engagements: Listed,
        door: Door,
        recorder: Recorder,
        works: Works,
        handed: Handed,
        pool: ThreadPoolExecutor,
        now: Callable[[], int],
        settings: Settings,
    ) -> None:
        self.vaults, self.engagements, self.door = vaults, engagements, door
        self.signins = door.signins
        self.recorder, self.works, self.handed = recorder, works, handed
        self.pool, self.now = pool, now
        self.settings = settings  # what is expected of the pipeline


class Visit:
    """One open page. `arguments` are those of its address: hostile."""

    def __init__(self, desk: Desk, signin: SignIn, page: str) -> None:
        self.desk, self.signin, self.page = desk, signin, page
        self.arguments: dict[str, str] = {}
        self.opened = False  # whether its browser is, or was, there
        self._scoped: tuple[Trail, str, ScopedTrail] | None = None

    @property
    def identity(self) -> str:
        """Who signed in."""
        return self.signin.identity

    def go(self, query: str) -> None:
        """Another address of the same page. MalformedError for one that is too long."""
        self.arguments = parse_query(query)

    def engagement(self) -> Engagement:
        """The engagement in use as it stands now.

        RefusedError where the sign-in has ended, and where there is none: expired, revoked and never given look alike.
        """
        if not _told(lambda: self.desk.signins.holds(self.signin)):
            raise RefusedError("You are signed out.", remedy="Sign in again.")
        held = self.engagements()
        asked = self.arguments.get("engagement")
        found = next((one for one in held if asked in (None, one.id)), None)
        if found is None:
            raise RefusedError("You have no access here now.", remedy="Ask who runs this page.")
        return found

    def engagements(self) -> list[Engagement]:
        """All that this person may use now."""
        return current(_told(self.desk.engagements.all), self.identity, self.desk.now())

    def trail(self) -> ScopedTrail:
        """The vault in use, as the engagement lets it be seen. RefusedError as `engagement`, and for another vault."""
        engagement = self.engagement()
        name, trail = self.desk.vaults.find(engagement, self.arguments.get("vault"))
        if self._scoped is None or self._scoped[0] is not trail or self._scoped[1] != engagement.id:
            find = partial(self._still, engagement.id)
            self._scoped = trail, engagement.id, ScopedTrail(trail, find, self.desk.now, name)
        return self._scoped[2]

    def catalog(self) -> Catalog | None:
        """The words that this vault's actions are grouped by; the same for everybody."""
        return self.desk.vaults.find(self.engagement(), self.arguments.get("vault"))[1].catalog

    def vault(self) -> str:
        """What the server calls the vault in use."""
        return self.desk.vaults.find(self.engagement(), self.arguments.get("vault"))[0]

    def vaults(self) -> list[str]:
        """The names of all that the engagement in use is for."""
        return self.desk.vaults.allowed(self.engagement())

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """What `work` gives, made in a thread of the pool; AT_ONCE of one person, so that nobody else waits for it."""
        context, key = contextvars.copy_context(), (id(self.desk.pool), self.identity)
        async with _turns.setdefault(key, asyncio.Semaphore(AT_ONCE)):
            return await asyncio.get_running_loop().run_in_executor(self.desk.pool, context.run, work)

    def link(self, page: str, **arguments: str) -> str:
        """The relative address of a page, under the same engagement and vault where one was chosen."""
        return address(page, {**self.kept(), **arguments})

    def kept(self) -> dict[str, str]:
        """The part of the address that every page goes on with."""
        return {name: value for name, value in self.arguments.items() if name in ("engagement", "vault")}

    def still(self, engagement: Engagement) -> Callable[[], bool]:
        """Whether this person may still use this very engagement, asked later: when a file is fetched."""
        return lambda: engagement in self.engagements()

    def _still(self, engagement_id: str) -> Engagement | None:
        """The engagement, if this person may still use it; asked at each step of long work, which may be cancelled."""
        check()
        if not _told(lambda: self.desk.signins.holds(self.signin)):
            return None
        return next((one for one in self.engagements() if one.id == engagement_id), None)


def _told(ask: Callable[[], _Result]) -> _Result:
    """What the files of engagements and accounts say. What is wrong with them names places, and other people."""
    try:
        return ask()
    except AuditlibError as error:
        _log.error("who may see what cannot be told: %s", error)
        message = "Who may see what cannot be told at this moment."
        raise UnavailableError(message, remedy="Tell who runs this page; the server's log says why.") from None


def parse_query(query: str) -> dict[str, str]:
    """`a=1&b=2` as names and values, of a name that stands twice the last; MalformedError for what is too long."""
    if len(query) > MAX_ADDRESS_CHARS:
        raise MalformedError(f"more than {MAX_ADDRESS_CHARS:,} characters of an address are not read.", where="address")
    try:
        found = dict(parse_qsl(query.removeprefix("?"), max_num_fields=MAX_ARGUMENTS))
    except ValueError:
        raise MalformedError(f"more than {MAX_ARGUMENTS} fields are not read.", where="address") from None
    for name, value in found.items():
        if len(value) > MAX_ARGUMENT_CHARS:
            raise MalformedError(f"more than {MAX_ARGUMENT_CHARS:,} characters are not read.", where=name[:40])
    return found


def address(page: str, arguments: Mapping[str, Any]) -> str:
    """`page?a=1`, without what is empty."""
    told = urlencode({name: value for name, value in arguments.items() if value not in (None, "")})
    return f"{page}?{told}" if told else page
