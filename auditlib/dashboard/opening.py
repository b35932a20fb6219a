"""Everything a dashboard stands on, opened and closed in order: state folder, pipeline, vaults, work, sign-in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from auditlib.client import Client
from auditlib.dashboard.accounts import Accounts
from auditlib.dashboard.guesses import Guesses
from auditlib.dashboard.handed import Handed
from auditlib.dashboard.headers import Site
from auditlib.dashboard.oidc import Oidc
from auditlib.dashboard.pipeline import own_collector, state_folder
from auditlib.dashboard.recorder import Recorder
from auditlib.dashboard.signin_pages import Door, OneTime
from auditlib.dashboard.signins import SignIn, SignIns
from auditlib.dashboard.vaults import Vaults
from auditlib.dashboard.visit import Desk, Listed
from auditlib.dashboard.work import Works
from auditlib.engagements import Engagement, current
from auditlib.evidence.scope import Scope
from auditlib.formats.times import DAY, format_time
from auditlib.monitor.settings import Settings
from auditlib.requests.model import RequestList
from auditlib.requests.places import Source

CLICKS = 8  # threads in which pages ask; the engine itself takes as many cores as there are
SOLO = "solo"  # the engagement of who serves this machine alone
SOLO_ROWS = 1_000_000  # of one export
DEFAULTS = Settings()
REFRESH = 60.0  # seconds between looks for a newer checkpoint


class Alone:
    """The engagement of the person who started it, on their own machine, over everything that is served."""

    def __init__(self, identity: str, vaults: Sequence[str], now: Callable[[], int]) -> None:
        began = now()
        self._all = (
            Engagement(
                id=SOLO,
                identity=identity,
                role="admin",
                vaults=tuple(vaults),
                requests=("*",),
                proofs=True,
                rows_per_export=SOLO_ROWS,
                valid_from=format_time(began - DAY),
                valid_until=format_time(began + 30 * DAY),
                set_by=identity,
                set_at=format_time(began),
            ),
        )

    def all(self) -> Sequence[Engagement]:
        """The one."""
        return self._all


@contextmanager
def open_desk(
    site: Site,
    sources: Mapping[str, Source],
    state: Path,
    *,
    engagements: Listed,
    now: Callable[[], int],
    problems: Callable[[str], None],
    accounts: Accounts | None = None,
    oidc: Oidc | None = None,
    once: OneTime | None = None,
    client: Callable[[Path], Client] | None = None,
    listed: RequestList | None = None,
    packets: Path | None = None,
    scope: Scope | None = None,
    settings: Settings = DEFAULTS,
) -> Iterator[Desk]:
    """What the server works with. `client` makes one over a spool folder; without it a collector of its own is started.

    `scope`: the systems that packets tell of; `settings`: what is expected of the pipeline.
    `problems` gets sentences, from other threads. Raises what opening a part raises; what was opened is closed.
    """
    sources = {name: Source(_wherever(source.vault), source.keys) for name, source in sources.items()}
    with ExitStack() as stack:
        stack.enter_context(state_folder(state))
        if client is None:
            recording = stack.enter_context(own_collector(state, now=now, problems=problems))
        else:
            recording = stack.enter_context(client(state / "spool"))

        def known(identity: str) -> bool:
            named = accounts is not None and accounts.known(identity)
            return named or any(one.identity == identity for one in engagements.all())

        def stands(signin: SignIn) -> bool:
            return signin.how != "password" or (accounts is not None and accounts.stands(signin.identity, signin.since))

        def admits(identity: str) -> bool:
            return bool(current(engagements.all(), identity, now()))

        recorder = Recorder(recording, state, known)
        vaults = Vaults(sources, state / "seen")
        stack.callback(vaults.close)
        signins = SignIns(now, stands=stands)
        guesses = None if accounts is None else Guesses(accounts, now)
        door = Door(site, signins, recorder, admits, now, guesses=guesses, oidc=oidc, once=once)
        stack.callback(door.close)
        answers = None if packets is None else packets.absolute()
        works = Works(state.absolute() / "work", sources, listed, answers, scope=scope)
        stack.callback(works.close)
        handed = Handed(state / "handed", lambda one: signins.holds(one) and admits(one.identity), now)
        stack.callback(handed.close)
        pool = stack.enter_context(ThreadPoolExecutor(CLICKS, thread_name_prefix="click"))
        over = threading.Event()
        stack.callback(over.set)
        threading.Thread(
            target=_refresh, args=(vaults, door, handed, over, problems), daemon=True, name="refresh"
        ).start()
        yield Desk(
            vaults=vaults,
            engagements=engagements,
            door=door,
            recorder=recorder,
            works=works,
            handed=handed,
            pool=pool,
            now=now,
            settings=settings,
        )


def _wherever(vault: str) -> str:
    """The same vault for a process that works in another folder."""
    return vault if "://" in vault else str(Path(vault).absolute())


def _refresh(
    vaults: Vaults, door: Door, handed: Handed, over: threading.Event, problems: Callable[[str], None]
) -> None:
    """Look for newer checkpoints until it is over; a vault that does not answer is told once, until it answers.

    Sign-ins and downloads whose time is up are ended here, whether anybody asks for them or not.
    """
    told: set[str] = set()
    while not over.wait(REFRESH):
        door.signins.sweep()
        handed.sweep()
        failed = vaults.refresh()
        for name in failed.keys() - told:
            problems(f"{name} could not be read again: {failed[name]} Pages show it as it was.")
        told = set(failed)
