"""One packet, made or fetched in a process of its own, and judged before anybody is told of it.

    stdin    {"call": ..., "vault": ..., "engagement": ..., "out": ".../packet.zip", ...}   one line; then held open
    stdout   {"cells":[3,17]}   {"stage":"..."}   {"answer":{...}} | {"withheld":true} | {"error":"..."}

What is not within the engagement is deleted here, and nothing of it is said. When stdin ends, whoever asked is gone:
this process ends its notebook, takes its scratch folder away, and itself.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from auditlib.attachments import gather
from auditlib.dashboard.answered import EVENTS, PACKET, Answered, read_answer
from auditlib.dashboard.asked import Call
from auditlib.dashboard.ending import MARK, SCRATCH, end_all
from auditlib.engagements import Engagement
from auditlib.errors import AuditlibError, MalformedError
from auditlib.evidence.scope import parse_scope
from auditlib.formats.canonical import parse_json
from auditlib.keyfiles import load_verifier_keys
from auditlib.packet.bag import Bag, check_manifests, open_bag, write_bag
from auditlib.packet.build import Asked, make_packet
from auditlib.packet.check import MAX_PACKET_JSON_BYTES
from auditlib.packet.notebook import find_notebook
from auditlib.packet.parameters import declared, read
from auditlib.packet.transmittal import BagFiles
from auditlib.scoped.scope import Scope
from auditlib.scoped.within import asks_within, holds
from auditlib.trail import Trail
from auditlib.trail import open as open_trail

# Bytes of the line on stdin: 100 values of 2,000 characters, escaped, paths, and a scope.toml of 1 MiB in base64.
MAX_JOB_BYTES = 4 * 1024 * 1024
_NICE = 10  # so that clicks of others come first
EXECUTING, PACKING, FETCHING, JUDGING = "Running the notebook", "Packing", "Reading the packet", "Checking the scope"


class Job(msgspec.Struct, frozen=True):
    """What to make: `call` is run on the vault at checkpoint `size`, or the packet `standing` is taken as it is."""

    vault: str
    keys: tuple[str, ...]
    name: str  # what the server calls the vault
    size: int
    engagement: Engagement
    out: str
    scope: bytes | None = None  # the systems in scope, as they were written down
    call: Call | None = None
    standing: str | None = None


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line on stdout."""

    cells: tuple[int, int] | None = None
    stage: str | None = None
    answer: Answered | None = None
    withheld: bool = False
    error: str | None = None


class Channel:
    """The lines that the server reads; whatever else is printed goes nowhere."""

    def __init__(self) -> None:
        self._stream: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)

    def say(self, **told: Any) -> None:
        """One line, a Word with these parts."""
        self._stream.write(msgspec.json.encode(Word(**told)) + b"\n")


def main() -> None:
    """Do what stands on stdin."""
    channel = Channel()
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold evidence
    job = msgspec.json.decode(sys.stdin.buffer.readline(MAX_JOB_BYTES), type=Job)
    threading.Thread(target=_watch, daemon=True).start()
    try:
        answer = _answer(job, channel)
    except AuditlibError as error:
        channel.say(error=str(error))
    except Exception as error:  # a notebook's answer can break what packs it in ways nobody has thought of
        channel.say(error=f"it failed in a way that was not foreseen ({type(error).__name__}: {str(error)[:300]}).")
    else:
        channel.say(answer=answer) if answer else channel.say(withheld=True)


def _answer(job: Job, channel: Channel) -> Answered | None:
    """The packet's answer, and the packet at `out`; None, and no packet, where it is not within the engagement."""
    out = Path(job.out)
    with open_trail(job.vault, keys=load_verifier_keys(job.keys), at=job.size) as trail:
        if job.call is not None:
            _build(trail, job, job.call, out, channel)
        else:
            channel.say(stage=FETCHING)
            with open_bag(Path(job.standing or "")) as bag:
                write_bag(BagFiles(bag, {}), out)
        channel.say(stage=JUDGING)
        with open_bag(out) as bag:
            if _within(bag, trail, job):
                return read_answer(bag)
    out.unlink()
    return None


def _build(trail: Trail, job: Job, call: Call, out: Path, channel: Channel) -> None:
    _follow(channel)
    notebook = find_notebook(call.notebook)
    values = read(declared(notebook), call.given)
    attached = gather({kind: Path(path) for kind, path in call.lists.items()}, Path(call.files) if call.files else None)
    systems = None if job.scope is None else parse_scope(job.scope)
    make_packet(trail, notebook, Asked(values, job.engagement.redact, attached, systems), out)


def _within(bag: Bag, trail: Trail, job: Job) -> bool:
    for error in check_manifests(bag):
        raise error
    packet = parse_json(bag.read(PACKET, MAX_PACKET_JSON_BYTES))
    origins = [one["origin"] for one in packet["checkpoints"]]
    if origins != [trail.origin]:
        raise MalformedError("the packet is of another trail.")
    if not asks_within(job.engagement, trail.catalog, packet):
        return False
    return holds(Scope(trail, job.engagement, job.name), bag.read(EVENTS).splitlines())


def _follow(channel: Channel) -> None:
    """Tell each cell that is done. Papermill's own engine runs them; this one only looks on."""
    from papermill.engines import NBClientEngine, papermill_engines

    class Following(NBClientEngine):  # type: ignore[misc]
        """Papermill's engine, looked at."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            """As papermill does it."""
            cells, complete = len(nb_man.nb.cells), nb_man.cell_complete

            def completed(cell: Any, cell_index: int | None = None, **more: Any) -> None:
                complete(cell, cell_index, **more)
                channel.say(cells=(min(cells, (cell_index or 0) + 1), cells))

            nb_man.cell_complete = completed
            channel.say(stage=EXECUTING, cells=(0, cells))
            done = super().execute_managed_notebook(nb_man, kernel_name, **options)
            channel.say(stage=PACKING, cells=(cells, cells))
            return done

    papermill_engines.register(None, Following)


def _watch() -> None:
    """Wait until stdin ends."""
    sys.stdin.buffer.read()
    if mark := os.environ.get(MARK):
        end_all(mark, spare=os.getpid())
    scratch = Path(tempfile.gettempdir())
    if scratch.name.startswith(SCRATCH):  # its own, and not everybody's
        shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
