"""Every packet made again from its trail, several at a time, and compared byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import msgspec

from auditlib.errors import AuditlibError, UnavailableError
from auditlib.packet.notebook import code_hash
from auditlib.packet.reproduce import reproduce_packet
from auditlib.requests.asking import notebook_of
from auditlib.requests.places import Opened
from auditlib.requests.standing import Standing

NOT_OPENED = "its vault was not given or did not open: it was not made again"


def remake_all(
    lines: Sequence[tuple[Standing, Sequence[Opened] | None]],
    folder: Path,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Standing]:
    """Each line with whether its packet reproduces, in the same order; one without a packet stays as it is.

    Beside each line stand its trails; None where one of them did not open. `folder` is the request list's. Raises
    UnavailableError where storage or a service is away: then nothing is known.
    """
    done: dict[int, Standing] = {}
    ready: list[tuple[int, Standing, Sequence[Opened]]] = []
    for number, (one, places) in enumerate(lines):
        if one.packet is None:
            done[number] = one
        elif places is None:
            done[number] = msgspec.structs.replace(one, notes=(*one.notes, NOT_OPENED))
        else:
            ready.append((number, one, places))

    def note(number: int, one: Standing) -> None:
        done[number] = one
        if progress:
            progress(len(done), len(lines))

    if jobs == 1 or len(ready) < 2:
        for number, one, places in ready:
            note(number, remake(one, folder, places))
    else:
        # Not forked: threads of DuckDB and Arrow do not survive that. Each process imports the libraries once.
        with ProcessPoolExecutor(min(jobs, len(ready)), mp_context=get_context("spawn")) as pool:
            waiting: dict[Future[Standing], int] = {
                pool.submit(remake, one, folder, places): number for number, one, places in ready
            }
            try:
                while waiting:
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        note(waiting.pop(future), future.result())
            except BrokenProcessPool:
                message = "a process that made a packet again was ended from outside (out of memory?)."
                raise UnavailableError(message, remedy="Run it again with --jobs 1.") from None
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return [done[number] for number in range(len(lines))]


def remake(one: Standing, folder: Path, places: Sequence[Opened]) -> Standing:
    """Make one packet again from its trails and compare it.

    The request's own notebook may run: whoever keeps the list would run it with `requests build` too. Raises
    UnavailableError where storage or a service is away.
    """
    if one.packet is None:
        return one
    try:
        own = code_hash(notebook_of(one.request, folder))
        vaults = [place.vault for place in places]
        found = reproduce_packet(one.packet.path, vaults, permit=lambda foreign: foreign.sha256 == own)
    except UnavailableError as error:
        raise error.at(one.name) from None
    except AuditlibError as error:
        return msgspec.structs.replace(one, reproduces=False, refused=True, notes=(*one.notes, str(error)))
    notes = one.notes if found.ok else (*one.notes, found.headline())
    return msgspec.structs.replace(one, reproduces=found.ok, notes=notes)
