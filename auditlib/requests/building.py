"""Answer many requests: a packet each, one folder, in one process or several. One that fails stops no other.

    work = plan(requests, places, span, out)          refused here: wrong names, types and periods; nothing has run
    outcomes = build_all(work, jobs=2)                 in the list's order, each a packet or an error

The commit point of a packet is the renaming of its finished folder (`packet.bag.write_bag`): before it nothing stands
under its name, after it all of it does. Where a packet takes the place of another, the older one is first put aside
under a name that begins with a dot; a crash between the two leaves both, under such names.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

from auditlib.attachments import gather
from auditlib.errors import AuditlibError, MalformedError, UnavailableError
from auditlib.evidence.scope import Scope
from auditlib.packet.build import Built, build_packet
from auditlib.requests.asking import Span, as_texts, ask
from auditlib.requests.model import Request, RequestList
from auditlib.requests.places import Opened, Places
from auditlib.requests.standing import find_packet, read_packet

WORST_FIRST = (1, 3, 2)  # exit codes: evidence that is wrong, storage that is away, a request that cannot be read


class Work(msgspec.Struct, frozen=True):
    """One packet to build, or why it cannot be."""

    name: str
    request: str
    notebook: str = ""
    places: tuple[Opened, ...] = ()
    given: dict[str, str] = {}
    lists: dict[str, str] = {}
    files: str | None = None
    scope: Scope | None = None
    out: str = ""
    replace: bool = False
    error: AuditlibError | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of one packet; exactly one of the two is there."""

    name: str
    request: str
    built: Built | None = None
    error: AuditlibError | None = None


def plan(
    listed: RequestList,
    chosen: Sequence[Request],
    places: Places,
    span: Span | None,
    folder: Path,
    *,
    zipped: bool = False,
    replace: bool = False,
    scope: Scope | None = None,
) -> list[Work]:
    """One Work a packet, in the list's order; what cannot be built carries its error. Nothing runs."""
    return [
        msgspec.structs.replace(
            _plan(
                request,
                [places.get(trail) for trail in request.asked_of],
                listed.folder,
                span,
                folder / (f"{request.id}.zip" if zipped else request.id),
                replace,
            ),
            scope=scope,
        )
        for request in chosen
    ]


def build_all(
    work: Sequence[Work], *, jobs: int = 1, progress: Callable[[int, int], None] | None = None
) -> list[Outcome]:
    """Build them, `jobs` at a time, each in a process of its own where there are several; in the same order."""
    ready = [each for each in work if each.error is None]
    done: dict[str, Outcome] = {
        each.name: Outcome(each.name, each.request, error=each.error) for each in work if each.error
    }

    def note(outcome: Outcome) -> None:
        done[outcome.name] = outcome
        if progress:
            progress(len(done), len(work))

    if progress:
        progress(len(done), len(work))
    if jobs > 1 and len(ready) > 1:
        _in_processes(ready, min(jobs, len(ready)), note)
    else:
        for each in ready:
            note(build_one(each))
    return [done[each.name] for each in work]


def build_one(work: Work) -> Outcome:
    """One packet, or the error as a sentence; whatever happens in a notebook stops no other request."""
    try:
        if not work.places:
            raise MalformedError("nothing was planned for it.", where=work.name)
        return Outcome(work.name, work.request, built=_build(work, Path(work.out)))
    except AuditlibError as error:
        return Outcome(work.name, work.request, error=error.at(work.name))
    except Exception as error:  # a notebook's answer can break what packs it in ways nobody has thought of
        message = f"it failed in a way that was not foreseen ({type(error).__name__}: {str(error)[:300]})."
        return Outcome(work.name, work.request, error=UnavailableError(message, where=work.name))


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """The worst of all: 1 where evidence is wrong, else 3 where storage is away, else 2, else 0."""
    codes = {outcome.error.exit_code for outcome in outcomes if outcome.error}
    return next((code for code in WORST_FIRST if code in codes), 0)


def _plan(
    request: Request,
    asked_of: Sequence[Opened | AuditlibError | None],
    own: Path,
    span: Span | None,
    out: Path,
    replace: bool,
) -> Work:
    name = request.id
    try:
        places = []
        for place in asked_of:
            if isinstance(place, AuditlibError):
                raise type(place)(place.message, where=place.where, remedy=place.remedy)  # a copy: `at` changes it
            if place is None:
                raise MalformedError("no vault is given.", remedy="Give --vault, or name trails in the request.")
            places.append(place)
        notebook, values = ask(request, own, span, places[0].size if len(places) == 1 else None)
        _check_together(places, values)
        _check_place(out, replace)
    except AuditlibError as error:
        return Work(name, request.id, error=error.at(name))
    return Work(
        name=name,
        request=request.id,
        notebook=str(notebook) if request.notebook.endswith(".ipynb") else request.notebook,
        places=tuple(places),
        given=as_texts(values),
        lists={kind: str(own / path) for kind, path in request.attach.items()},
        files=None if request.attach_dir is None else str(own / request.attach_dir),
        out=str(out),
        replace=replace,
    )


def _check_together(places: Sequence[Opened], values: Mapping[str, Any]) -> None:
    """What several trails in one packet may not be."""
    origins = [place.origin for place in places]
    if len(set(origins)) != len(origins):
        raise MalformedError(
            f"two of its trails are one ({', '.join(sorted(origins))}).", where="trails", remedy="Name each once."
        )
    if len(places) > 1 and values.get("at") is not None:
        raise MalformedError(
            "a checkpoint's size says nothing of several trails.", where="at", remedy="Leave it out of its parameters."
        )


def _check_place(out: Path, replace: bool) -> None:
    """What stands there already may be replaced if it is a packet, and if that was asked for."""
    there = find_packet(out.parent, out.name.removesuffix(".zip"))
    if there is None and not out.exists() and not out.is_symlink():
        return
    if there != out:
        other = out if there is None else there
        raise MalformedError("something else stands there already.", where=str(other), remedy="Choose another -o.")
    if not replace:
        raise MalformedError("exists already and is not overwritten.", where=str(out), remedy="Give --replace.")
    try:
        read_packet(out)
    except AuditlibError:
        raise MalformedError(
            "is no packet, and is not replaced.", where=str(out), remedy="Choose another -o."
        ) from None


def _build(work: Work, out: Path) -> Built:
    exists = work.replace and out.exists()
    fresh = out.with_name(f".new.{secrets.token_hex(4)}.{out.name}") if exists else out
    attached = gather({name: Path(path) for name, path in work.lists.items()}, Path(work.files) if work.files else None)
    vaults = [place.vault for place in work.places]
    built = build_packet(work.notebook, vaults, work.given, fresh, attached=attached, scope=work.scope)
    if exists:
        aside = out.with_name(f".old.{secrets.token_hex(4)}.{out.name}")
        try:
            out.rename(aside)
            fresh.rename(out)
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
        except OSError as error:
            raise UnavailableError(
                f"the older packet could not be replaced ({error.strerror}).", where=str(out)
            ) from None
    return msgspec.structs.replace(built, path=str(out))


def _in_processes(ready: Sequence[Work], jobs: int, note: Callable[[Outcome], None]) -> None:
    # Not forked: threads of DuckDB and Arrow do not survive that. Each process imports the libraries once.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting: dict[Future[Outcome], Work] = {pool.submit(build_one, each): each for each in ready}
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    note(_outcome(future, waiting.pop(future)))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _outcome(future: Future[Outcome], work: Work) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool:
        message = "the process that answered it, or another beside it, was ended from outside (out of memory?)."
        error = UnavailableError(message, where=work.name, remedy="Run it again with --jobs 1.")
        return Outcome(work.name, work.request, error=error)
