"""The whole writing side as processes: applications, a collector, a sealer; what kills them, and what must hold then.

    with forks(tmp_path_factory) as server:
        world = World(tmp_path, "sqlite:///...", server)
        world.start("sealer"); world.start("collector"); world.start("billing-api")
        world.kill("collector"); world.start("collector")
        world.finish(); world.check()

The processes come from writing_programs/forkserver.py. Conditions are waited for; nothing here waits for a time.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import auditlib
from auditlib.announce import OWN_SOURCE
from auditlib.errors import UnavailableError
from auditlib.formats import layout, merkle
from auditlib.formats.batch import parse_batch
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.checkpoint import MAX_NOTE_BYTES, parse_checkpoint
from auditlib.formats.columns import record_at
from auditlib.formats.document import Retention
from auditlib.formats.event import record_bytes
from auditlib.formats.keys import SigningKey
from auditlib.formats.seal import MAX_BATCH_BYTES, MAX_SEAL_BYTES
from auditlib.history import read_history
from auditlib.keyfiles import write_key_files
from auditlib.sealer import create_trail
from auditlib.state import SealerState
from auditlib.store import init_store, open_store
from auditlib.tokens import add_token
from auditlib.vault import open_vault
from auditlib.verify import verify

PROGRAMS = Path(__file__).parent / "writing_programs"
CONDITION = 120  # seconds after which a condition that is waited for counts as failed
ORIGIN = "acme.example/audit"
KEY = SigningKey(ORIGIN, bytes(range(32)))
CATALOG = parse_catalog((Path(auditlib.__file__).parent / "catalog.toml").read_bytes())
RETENTION = Retention(2557, "COMPLIANCE")
KILLED = -signal.SIGKILL
APPLICATIONS = ("billing-api", "idp")


def now():
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def until(condition):
    """What the condition returns once it is true."""
    end, pause = time.monotonic() + CONDITION, 0.002  # seconds
    while not (found := condition()):
        assert time.monotonic() < end, "the condition that was waited for did not come true"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.03)  # who asks all the time takes the processor from those it waits for
    return found


class ForkServer:
    """Starts processes; see its program."""

    def __init__(self):
        command = [sys.executable, "-W", "error::ResourceWarning", str(PROGRAMS / "forkserver.py")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, said):
        """Give an order, and return the answer."""
        self._process.stdin.write(json.dumps(said) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        """End it, and with it all that it started."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Program:
    """A running process: its pid, the file of what it says, and how much stood there when it was started."""

    def __init__(self, server, name, program, arguments, out, environment=None, **faults):
        self._server, self.name, self.out = server, name, out
        self._said = out.stat().st_size if out.exists() else 0
        order = {"program": program, "arguments": [str(text) for text in arguments], "out": str(out)}
        self.pid = server.ask(order | {"environment": environment or {}, "faults": faults})
        self.code = None

    def running(self):
        """Whether it has not ended yet."""
        if self.code is None:
            self.code = self._server.ask(self.pid)
        return self.code is None

    def said(self):
        """What this process said, not those before it."""
        if not self.out.exists():
            return ""
        with self.out.open(errors="replace") as file:
            file.seek(self._said)
            return file.read()

    def until_said(self, text):
        """Wait until it has said this; it must not end before."""

        def heard():
            if text in self.said():
                return True
            assert self.running(), f"{self.name} ended with {self.code}: {self.said()}"
            return False

        until(heard)

    def signal(self, number):
        """Send it a signal."""
        os.kill(self.pid, number)

    def end(self):
        """Wait until it has ended by itself; its exit code."""
        until(lambda: not self.running())
        return self.code

    def kill(self):
        """SIGKILL; it must have been running until then."""
        assert self.running(), f"{self.name} ended by itself with {self.code}: {self.said()}"
        self.signal(signal.SIGKILL)
        assert self.end() == KILLED, self.said()

    def stop(self):
        """SIGTERM, heeded with exit code 0 and no traceback."""
        assert self.running(), f"{self.name} ended by itself with {self.code}: {self.said()}"
        self.signal(signal.SIGTERM)
        assert self.end() == 0, self.said()

    def memory(self):
        """The most memory it ever held, in bytes; a part of it was there before the fork."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024


class World:
    """Applications, a collector, a sealer, around one store and one vault; `url` names the store."""

    def __init__(
        self,
        folder,
        url,
        server,
        *,
        applications=APPLICATIONS,
        vault=None,
        retention=RETENTION,
        catalog=CATALOG,
        pause=0.02,
        faults=None,
    ):
        self.folder, self.url, self._server = folder, url, server
        self.vault_url = vault or str(folder / "vault")
        self.applications, self.pause, self.faults = applications, pause, faults or {}
        self.port = free_port()
        self.collector_url = f"http://127.0.0.1:{self.port}"
        self.state = folder / "state"
        self.environment = {"AUDITLIB_STATE": str(self.state)}
        self.programs = {}
        init_store(url)
        create_trail(open_vault(self.vault_url, create=True), KEY, retention, catalog, now=now())
        self.key, _ = write_key_files(KEY, folder)
        self.tokens = {name: add_token(folder / "tokens", name, now=now) for name in applications}
        for name in applications:
            self.journal(name).touch()

    # ------------------------------------------------------------------------------------------- processes

    def start(self, name, **options):
        """Start the collector, the sealer, or an application by its name."""
        assert name not in self.programs, f"{name} runs already"
        make = {"collector": self._collector, "sealer": self._sealer}.get(name)
        self.programs[name] = program = make(**options) if make else self._application(name, **options)
        return program

    def cli(self, name, *arguments, environment=None, **faults):
        """A command of auditlib."""
        environment = self.environment | (environment or {})
        return self.program(name, "cli", arguments, environment, **faults)

    def program(self, name, program, arguments, environment=None, **faults):
        """A process that writes to the file of its name."""
        faults = self.faults | faults
        return Program(self._server, name, program, arguments, self.out(name), environment, **faults)

    def _collector(self, **faults):
        arguments = ["--store", self.url, "--tokens", self.folder / "tokens", "--listen", f"127.0.0.1:{self.port}"]
        return self.cli("collector", "collect", *arguments, **faults)

    def _sealer(self, *, every="1s", max_events=500, environment=None, **faults):
        arguments = ["--watch", "--every", every, "--max-events", max_events]
        return self.cli("sealer", "seal", *self.sealing(), *arguments, environment=environment, **faults)

    def sealing(self):
        """Which store, which vault, which key."""
        return ["--store", self.url, "--vault", self.vault_url, "--key", self.key]

    def _application(self, name, *, threads=2, events=0, **faults):
        place = [self.folder / f"spool-{name}", self.journal(name)]
        arguments = [self.collector_url, self.tokens[name], *place, threads, events, self.pause]
        return self.program(name, "application", arguments, **faults)

    def kill(self, *names):
        """All of them at one moment."""
        for name in names:
            assert self.programs[name].running(), f"{name} ended: {self.programs[name].said()}"
            self.programs[name].signal(signal.SIGKILL)
        for name in names:
            program = self.programs.pop(name)
            assert program.end() == KILLED, program.said()

    def stop(self, *names):
        """SIGTERM, one after the other."""
        for name in names:
            program = self.programs.pop(name)
            program.until_said({"collector": "listening on", "sealer": " seals."}.get(name, "ready"))
            program.stop()

    def close(self):
        """Let nothing run on."""
        for program in self.programs.values():
            if program.running():
                program.signal(signal.SIGCONT)
                program.signal(signal.SIGKILL)
                program.end()
        self.programs.clear()

    # ------------------------------------------------------------------------------------------- what is there

    def out(self, name):
        return self.folder / f"{name}.out"

    def journal(self, name):
        return self.folder / f"{name}.journal"

    def acknowledged(self, name):
        """The ids that record() returned; a line that a kill cut off is none."""
        return self.journal(name).read_text().split("\n")[:-1]

    def recorded(self, name):
        """How many bytes of ids; cheaper."""
        return self.journal(name).stat().st_size

    def stored(self):
        """Every record of the store."""
        store = open_store(self.url, "reader")
        try:
            found, after = [], 0
            while entries := store.read(after, 5000):
                found += [entry.record for entry in entries]
                after = entries[-1].position
            return found
        finally:
            store.close()

    def count(self, after=0):
        """How many records the store holds; None while it is away."""
        with contextlib.suppress(UnavailableError):
            store = open_store(self.url, "reader")
            try:
                return store.backlog(after).records
            finally:
                store.close()
        return None

    def objects(self):
        """How many objects the vault holds."""
        return sum(len(files) for _, _, files in os.walk(self.vault_url))

    def sealed(self):
        """Every record in the vault's batches, in order."""
        vault = open_vault(self.vault_url)
        found = []
        for entry in read_history(vault, [KEY.verifier]).seals:
            table = parse_batch(vault.get(entry.seal.batch.object, MAX_BATCH_BYTES)).table
            found += [record_at(table, row) for row in range(table.num_rows)]
        return found

    # ------------------------------------------------------------------------------------------- the end

    def flush(self):
        """End the applications; send what they and those before them have left."""
        for name in self.applications:
            if name in self.programs:
                self.stop(name)
            self.start(name, threads=0)
            assert self.programs[name].end() == 0, self.programs[name].said()
            said = self.programs.pop(name).said()
            assert "waiting 0 " in said, said

    def sealing_once(self, max_events=50_000, environment=None, **faults):
        """`auditlib seal` without --watch, as it runs."""
        arguments = [*self.sealing(), "--max-events", max_events]
        return self.cli("sealing", "seal", *arguments, environment=environment, **faults)

    def seal(self):
        """Seal what is left, once."""
        sealing = self.sealing_once()
        assert sealing.end() == 0, sealing.said()
        return sealing.said()

    def finish(self):
        """Flush, stop, seal the rest."""
        self.flush()
        for name in ("collector", "sealer"):
            if name in self.programs:
                self.stop(name)
        self.seal()

    def check(self, unwritten=0):
        """What the issue promises: each acknowledged event sealed exactly once, no fork, clean verification, no 500.

        `unwritten` bounds the events that are sealed and stand in no journal: their record() was interrupted.
        """
        report = self.check_trail()
        sealed = self.sealed()
        assert sorted(map(record_bytes, self.stored())) == sorted(map(record_bytes, not_of_the_sealer(sealed)))
        for record in sealed:
            assert record.event.action not in ("audit.conflict", "audit.refused"), record
        self.check_acknowledged(sealed, unwritten)
        return report

    def check_trail(self):
        """Deep verification finds no error, no lost and no repeated number; one history; no traceback, no 500."""
        report = verify(open_vault(self.vault_url), keys=[KEY.verifier], deep=True, now=now())
        assert report.ok, report.errors
        numbers = ("never arrived", "more than once")
        assert not [found for found in report.findings if any(text in found.message for text in numbers)]
        self._check_one_history()
        self._check_said()
        return report

    def check_acknowledged(self, sealed, unwritten=0):
        """Each event whose record() returned is sealed exactly once, and each instance's numbers have no gap."""
        ids = Counter((record.receipt.source, record.event.event_id) for record in sealed)
        assert set(ids.values()) == {1}
        extra = 0
        for name in self.applications:
            ours = [record for record in sealed if record.receipt.source.partition("/")[0] == name]
            journal = self.acknowledged(name)
            missing = set(journal) - {record.event.event_id for record in ours}
            assert not missing, f"{len(missing)} acknowledged events of {name} are not sealed: {sorted(missing)[:3]}"
            assert len(set(journal)) == len(journal)
            extra += len(ours) - len(journal)
            self._check_numbers(ours)
        assert 0 <= extra <= unwritten

    def _check_numbers(self, records):
        """Each instance's numbers, 1 to the last, once each."""
        numbers = {}
        for record in records:
            numbers.setdefault(record.receipt.source, []).append(record.receipt.source_seq)
        for source, found in numbers.items():
            assert sorted(found) == list(range(1, len(found) + 1)), source

    def _check_one_history(self):
        """Every checkpoint ever signed is a prefix of the one tree, and each seal stands once and is under the last."""
        vault = open_vault(self.vault_url)
        keys = [entry.key for entry in vault.list()]
        seals = sorted(key for key in keys if key.startswith(layout.SEALS))
        leaves = [merkle.leaf_hash(vault.get(key, MAX_SEAL_BYTES)) for key in seals]
        checkpoints = [key for key in keys if key.startswith(layout.CHECKPOINTS)]
        notes = [parse_checkpoint(vault.get(key, MAX_NOTE_BYTES), [KEY.verifier]) for key in checkpoints]
        for note in [*notes, SealerState(self.state, KEY.verifier).last()]:
            assert note.root == merkle.root(leaves[: note.size])
        assert max(note.size for note in notes) == len(seals)

    def _check_said(self):
        """No process met a traceback, and no client a 500."""
        for file in self.folder.glob("*.out"):
            text = file.read_text(errors="replace")
            assert "Traceback" not in text, f"{file.name}: {text[text.index('Traceback') :][:3000]}"
            assert "HTTP 500" not in text, file.name


def not_of_the_sealer(records):
    """Without what the sealer records of itself."""
    return [record for record in records if record.receipt.source != OWN_SOURCE]


def free_port():
    """Below the range that the kernel hands to outgoing connections, so that it stays free while nobody listens."""
    for port in range(20000 + os.getpid() % 8000, 32000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


@contextlib.contextmanager
def forks():
    """A ForkServer that ends with the block."""
    server = ForkServer()
    try:
        yield server
    finally:
        server.close()
