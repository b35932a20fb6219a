"""The vaults that are shown: opened and verified once for everybody, and again when there is a newer checkpoint.

What this server saw last of each trail is remembered in its own folder, outside the vault: a trail that was rolled back
or rewritten while it was not looked at is found out (check 1).

    seen/<SHA-256 of the origin>    the text of the checkpoint: origin, number of seals, root in base64
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from base64 import b64decode
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from auditlib.engagements import Engagement
from auditlib.errors import AuditlibError, UnavailableError
from auditlib.findings import Report
from auditlib.formats.checkpoint import Checkpoint
from auditlib.requests.places import Source
from auditlib.scoped import RefusedError
from auditlib.scoped.scope import same_vault
from auditlib.trail import Trail
from auditlib.verify import verify

Anchors = list[tuple[str, Checkpoint]]


class _Opened(NamedTuple):
    trail: Trail
    chain: Report  # of all checks that need no record read, made when the trail was opened
    deep: Future[Report]  # of every record and every lock, made in a process of its own


class Vaults:
    """Named vaults. Each stands at one checkpoint until `refresh`; a page goes on with the trail that it began with."""

    def __init__(self, sources: Mapping[str, Source], seen: Path) -> None:
        """`sources`: what the server calls each vault -> where it is; `seen`: the folder of what was seen last.

        Raises what the first vault that cannot be opened raises.
        """
        self._sources, self._seen = dict(sources), seen
        seen.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        spawn = multiprocessing.get_context("spawn")
        self._readers = ProcessPoolExecutor(1, mp_context=spawn, initializer=_end_with_parent)
        self._opened = {name: self._open(source) for name, source in self._sources.items()}
        self._failed: dict[str, AuditlibError] = {}

    def names(self) -> list[str]:
        """Every vault's name."""
        return list(self._opened)

    def source(self, name: str) -> Source:
        """Where a vault is, for another process; its place is told to nobody."""
        return self._sources[name]

    def find(self, engagement: Engagement, asked: str | None) -> tuple[str, Trail]:
        """The vault asked for by name, else the first that the engagement is for.

        RefusedError in the same words for a vault that is not there and for one that the engagement is not for.
        """
        for name in self.allowed(engagement):
            if asked in (None, name):
                return name, self._opened[name].trail
        raise RefusedError("This engagement is not for this vault.")

    def allowed(self, engagement: Engagement) -> list[str]:
        """The names of those that the engagement is for."""
        return [
            name
            for name, opened in self._opened.items()
            if any(
                same_vault(vault, (opened.trail.origin, name, opened.trail.history.vault.url))
                for vault in engagement.vaults
            )
        ]

    def report(self, name: str) -> Report:
        """The newest verification of this checkpoint: of every record where it is done, else of the chain.

        Made once for each checkpoint, whoever asks.
        """
        opened = self._opened[name]
        if opened.deep.done() and not opened.deep.cancelled() and opened.deep.exception() is None:
            return opened.deep.result()
        return opened.chain

    def reading(self, name: str) -> bool:
        """Whether every record is being read at present."""
        return not self._opened[name].deep.done()

    def refresh(self) -> dict[str, AuditlibError]:
        """Open each vault that has a newer checkpoint; what fails is left as it is, and told by name."""
        failed: dict[str, AuditlibError] = {}
        for name, source in self._sources.items():
            try:
                trail = source.open()
                if trail.checkpoint.size == self._opened[name].trail.checkpoint.size:
                    trail.close()
                    continue
                opened = self._verified(trail, source)
            except AuditlibError as error:
                failed[name] = error
                continue
            with self._lock:
                self._opened[name] = opened  # pages that are open keep the older one, and with it its files
        self._failed = failed
        return failed

    def trouble(self, name: str) -> str | None:
        """Why this vault could not be opened again when that was last tried, in a sentence that names nothing in it."""
        error = self._failed.get(name)
        if error is None:
            return None
        if isinstance(error, UnavailableError):
            return "The vault does not answer at present. What is shown is its state when it was last verified."
        return (
            "The vault as it stands now does not pass its checks: it was altered after what is shown here was "
            "verified. Verify it yourself, and ask who runs it."
        )

    def close(self) -> None:
        """Stop reading and give all verified copies back."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        for opened in self._opened.values():
            opened.trail.close()

    def _open(self, source: Source) -> _Opened:
        return self._verified(source.open(), source)

    def _verified(self, trail: Trail, source: Source) -> _Opened:
        path = self._seen / sha256(trail.origin.encode()).hexdigest()
        anchors = _remembered(path)
        chain = _check(trail, anchors, deep=False)
        if not any(finding.check == 1 for finding in chain.errors):
            _remember(path, trail.checkpoint)
        return _Opened(trail, chain, self._readers.submit(_deep, source, trail.checkpoint.size, anchors))


def _end_with_parent() -> None:
    """A reader whose server was killed ends too."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _deep(source: Source, size: int, anchors: Anchors) -> Report:
    """In the process of its own: every record read, every lock asked for."""
    with source.open(size) as trail:
        return _check(trail, anchors, deep=True)


def _check(trail: Trail, anchors: Anchors, *, deep: bool) -> Report:
    now = time.time_ns() // 1000
    return verify(trail.history.vault, keys=trail.history.given, deep=deep, against=anchors, now=now)


def _remembered(path: Path) -> Anchors:
    """What was seen last; nothing the first time, or where the file cannot be read as that."""
    try:
        origin, size, root = path.read_text(encoding="utf-8").splitlines()
        return [("the checkpoint that this server saw last", Checkpoint(origin, int(size), b64decode(root)))]
    except (OSError, ValueError):
        return []


def _remember(path: Path, checkpoint: Checkpoint) -> None:
    """After a rollback the older, longer one stays, so that it is found again at each start."""
    known = _remembered(path)
    if not known or known[0][1].size < checkpoint.size:
        fresh = path.with_suffix(".new")
        fresh.write_text(checkpoint.text(), encoding="utf-8")
        fresh.replace(path)
