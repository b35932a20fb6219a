"""What runs in the peers' own environment (build/peers), by its interpreter: nothing of auditlib is imported here.

python peer_side.py PEER EVENTS LOG     writes PEER's own log of the records in EVENTS (JSON lines) to LOG,
                                        verifies it, and prints {"wrote", "verified", "peak"}: seconds, seconds, MiB
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any


def auditchain(events: str, log: str) -> tuple[float, float]:
    """auditchain 0.3: JSON lines, each with SHA-256 over the one before and itself; no key, its fastest way."""
    from auditchain import AuditLog, JsonlBackend

    async def work() -> tuple[float, float]:
        start = time.perf_counter()
        async with AuditLog(JsonlBackend(log)) as trail:
            for group in _grouped(_records(events)):
                await trail.append_many([_entry(record) for record in group])
        wrote = time.perf_counter() - start
        start = time.perf_counter()
        report = await AuditLog(JsonlBackend(log)).verify()
        assert report.ok, report
        return wrote, time.perf_counter() - start

    return asyncio.run(work())


def _entry(record: dict[str, Any]) -> tuple[Any, ...]:
    event = record["event"]
    rest = {"event": {key: event[key] for key in event if key not in ("actor", "action", "target")}, **record}
    rest["event"] |= {"actor": event["actor"], "target": event["target"]}
    return event["actor"]["id"], event["action"], event["target"]["id"], rest


def rust_py_audit(events: str, log: str) -> tuple[float, float]:
    """rust-py-audit 0.4: the same idea, in Rust."""
    from rust_py_audit import AuditLogger

    start = time.perf_counter()
    trail = AuditLogger(app_name="bench", file_path=log)
    for record in _records(events):
        event = record["event"]
        trail.log(
            actor_id=event["actor"]["id"],
            action=event["action"],
            resource=event["target"]["type"],
            resource_id=event["target"]["id"],
            metadata={
                "actor": event["actor"],
                "context": event["context"],
                "event_id": event["event_id"],
                "occurred_at": event["occurred_at"],
                "outcome": event["outcome"],
                "receipt": record["receipt"],
            },
        )
    wrote = time.perf_counter() - start
    start = time.perf_counter()
    result = AuditLogger(app_name="bench", file_path=log).verify()
    assert result["valid"], result
    return wrote, time.perf_counter() - start


def _grouped(records: Iterator[Any]) -> Iterator[list[Any]]:
    while group := list(islice(records, 10_000)):
        yield group


def _records(events: str) -> Iterator[Any]:
    with Path(events).open("rb") as file:
        for line in file:
            yield json.loads(line)


if __name__ == "__main__":
    peer, events, log = sys.argv[1:]
    wrote, verified = {"auditchain": auditchain, "rust-py-audit": rust_py_audit}[peer](events, log)
    # Not getrusage: what started this process would be counted too.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    peak = int(line.split()[1]) / 1024  # KiB there
    print(json.dumps({"wrote": wrote, "verified": verified, "peak": peak}))
