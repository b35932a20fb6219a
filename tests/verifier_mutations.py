"""Packets that were changed, for the differential test of the two packet verifiers: each is (what was done, files).

"put right" means: the hashes in packet.json, bag-info and the manifests agree with the change, so that only the deeper
checks can see it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

import test_packet as forgeries
from packets import ORIGIN, PROOF, Packet, simulator

from auditlib.formats.canonical import canonical
from auditlib.formats.checkpoint import sign_checkpoint
from auditlib.formats.keys import SigningKey

Files = Mapping[str, bytes]
Case = tuple[str, Files]

EVENTS, PACKET = "data/events.jsonl", "data/packet.json"
PROOFS = [f"{PROOF}/{name}" for name in ("checkpoint", "seals.jsonl", "seals-proof.json", "inclusion.jsonl")]
TAGS = ["bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 41, 2**53 - 1, 2**53, 10**400, 0.5, 1e21, 1e-7, "", "x", "0", "no such file"),
    *("\ud7ff\U0001f600", "a\x00b", "2026-03-01T00:00:00Z", "2026-03-01T00:00:00+01:00", "9" * 64, [], [1], ["x"]),
    *([None], {}, {"a": 1}, {"": None}, [[]], [{}], {"\u20ac": 1, "\U0001f600": 2, "\ufb33": 3}),
]


def put_right(files: Files, name: str = "") -> Files:
    """The same with every hash put right that anyone can put right."""
    packet = Packet(files)
    return (packet.bag() if name == PACKET else forgeries._fix(packet)).files


def changed_bytes(files: Files, names: list[str], many: int, seed: int) -> Iterator[Case]:
    """Bytes changed, put in and taken out at `many` places a file, as they are and put right."""
    draw = random.Random(seed)
    for name in names:
        data = files[name]
        for number in range(many):
            at = draw.randrange(len(data))
            other = bytes([draw.choice([data[at] ^ 1 << draw.randrange(8), draw.randrange(256), *b'0"\\,{[]}: \n\r'])])
            changed = {
                0: data[:at] + other + data[at + 1 :],
                1: data[:at] + data[at + 1 :],
                2: data[:at] + other + data[at:],
                3: data[:at],
                4: data[:at] + data[at:][: draw.randrange(40)] + data[at:],
            }[draw.choice([0, 0, 0, 0, 1, 2, 3, 4])]
            forged = {**files, name: changed}
            if number % 4 == 0:
                yield f"{name} at {at}", forged
            if name not in TAGS:
                yield f"{name} at {at}, put right", put_right(forged, name)


def moved_files(files: Files) -> Iterator[Case]:
    """Each file removed, renamed, swapped with another, emptied; others added; as they are and put right."""
    names = list(files)
    for place, name in enumerate(names):
        less = {n: d for n, d in files.items() if n != name}
        other = names[place - 1]
        for what, forged in (
            ("removed", less),
            ("renamed", {**less, name + ".bak": files[name]}),
            ("swapped", {**files, name: files[other], other: files[name]}),
            ("emptied", {**files, name: b""}),
        ):
            yield f"{name} {what}", forged
            yield f"{name} {what}, put right", put_right(forged)
    for added in (
        "data/x.txt",
        "fetch.txt",
        "manifest-md5.txt",
        f"{PROOF}/x",
        "data/proof/evil/checkpoint",
        "data/x/y",
    ):
        for forged in ({**files, added: b"x"}, put_right({**files, added: b"x"})):
            yield f"{added} added", forged
    for added in ("transmittal.json", "data/report.pdf", "data/tables/x.csv", "data/evidence.xlsx"):
        yield f"{added} added, put right", put_right({**files, added: b"event_id,x\r\nnobody,1\r\n"})


def forged_packets(files: Files) -> Iterator[Case]:
    """Every forgery of tests/test_packet.py."""
    for name, (_, change) in forgeries.FORGERIES.items():
        packet = change(Packet(files))
        yield f"{name}, put right", put_right(packet.files, PACKET if "packet.json" in name else "")
    for name, data in forgeries.JUNK.items():
        if len(data) < 200_000:
            for file in (EVENTS, PACKET, *PROOFS, forgeries.GRANTS):
                yield f"{name} in {file}", put_right({**files, file: data}, file)


def forged_values(files: Files, name: str, line: int | None, every: int) -> Iterator[Case]:
    """Each value anywhere in a JSON file (or in one line of it) replaced by something else, and each key removed."""
    data = files[name]
    lines = data.splitlines() if line is not None else [data]
    whole, turn = json.loads(lines[line or 0]), 0
    for path in paths(whole):
        for value in [*VALUES, "removed"]:
            turn += 1
            if turn % every:
                continue
            forged = json.loads(lines[line or 0])
            holder = forged
            for step in path[:-1]:
                holder = holder[step]
            if value == "removed":
                del holder[path[-1]]
            else:
                holder[path[-1]] = value
            written = spelled(forged)
            if line is not None:
                written = b"".join(each + b"\n" for each in [*lines[:line], written, *lines[line + 1 :]])
            yield f"{name} {path} = {value!r:.40}", put_right({**files, name: written}, name)


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every inner value of a JSON value lies."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        yield (*above, step)
        yield from paths(inner, (*above, step))


def spelled(value: Any) -> bytes:
    """Canonical where there is a canonical spelling; else as Python writes it."""
    try:
        return canonical(value)
    except Exception:  # whatever has no canonical spelling is a case as well
        return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode(errors="replace")


def checkpoints(files: Files, other: Files) -> Iterator[Case]:
    """Checkpoints of another trail, older ones, with more signatures, and with base64 spelled otherwise."""
    note = files[PROOFS[0]]
    text, _, lines = note.decode().rpartition("\n\n")
    evil = SigningKey("evil.example", bytes(32))
    stands = json.loads(files[PACKET])["checkpoints"][0]
    for name, forged in {
        "another trail's": other[PROOFS[0]],
        "older": sign_checkpoint(ORIGIN, stands["size"] - 1, bytes(32), [simulator.KEY]),
        "older, by a stranger": sign_checkpoint(ORIGIN, stands["size"] - 1, bytes(32), [evil]),
        "a stranger's line more": note + f"— evil.example {'A' * 92}\n".encode(),
        "a stranger's line of another length": note + "— evil.example AAAA\n".encode(),
        "a stranger's line that is no base64": note + "— evil.example AAA\n".encode(),
        "the line twice": f"{text}\n\n{lines}{lines}".encode(),
        "the line 40 times": f"{text}\n\n{lines * 40}".encode(),
        "an empty line more": f"{text}\n\n\n{lines}".encode(),
        "text twice": f"{text}\n\n{text}\n\n{lines}".encode(),
        "spare bits set": f"{text}\n\n{lines[:-3]}{chr(ord(lines[-3]) + 1)}=\n".encode(),
        "no padding": note.replace(b"=", b""),
        "URL alphabet": note.replace(b"+", b"-").replace(b"/", b"_"),
        "a space at the end": note[:-1] + b" \n",
        "nothing but the text": f"{text}\n".encode(),
    }.items():
        yield f"checkpoint: {name}", {**files, PROOFS[0]: forged}
        yield f"checkpoint: {name}, put right", put_right({**files, PROOFS[0]: forged})


def proof_parts(files: Files) -> Iterator[Case]:
    """Hashes more, fewer, swapped, doubled, in each of the proofs; lines swapped and doubled."""
    for name in (PROOFS[2], PROOFS[3]):
        lines = files[name].splitlines()
        for number, line in enumerate(lines[:6]):
            for field in json.loads(line):
                for what in ("one more", "one fewer", "reversed", "first twice", "plus one"):
                    proof = json.loads(line)
                    value = proof[field]
                    if isinstance(value, int):
                        proof[field] = value + 1
                    elif what == "one more":
                        value.append("0" * 64 if field == "hashes" else "0" * 32 if field == "blinds" else 10**6)
                    elif what == "one fewer":
                        del value[-1:]
                    elif what == "reversed":
                        value.reverse()
                    elif what == "first twice":
                        value[:0] = value[:1]
                    elif value and isinstance(value[0], int):
                        value[-1] += 1
                    written = b"\n".join([*lines[:number], canonical(proof), *lines[number + 1 :]])
                    ending = b"\n" if files[name].endswith(b"\n") else b""
                    yield f"{name} {number} {field} {what}", put_right({**files, name: written + ending})
    for name in (EVENTS, PROOFS[1], PROOFS[3], forgeries.GRANTS, forgeries.EXCEPTIONS):
        lines = files[name].splitlines(keepends=True)
        for at in range(1, min(len(lines), 8)):
            for what, forged in (
                ("swapped", [*lines[: at - 1], lines[at], lines[at - 1], *lines[at + 1 :]]),
                ("doubled", [*lines[:at], lines[at], *lines[at:]]),
                ("dropped", [*lines[:at], *lines[at + 1 :]]),
                ("cut", [*lines[:at], lines[at].rstrip(), *lines[at + 1 :]]),
            ):
                yield f"{name} line {at} {what}", put_right({**files, name: b"".join(forged)})


def cells(files: Files, every: int) -> Iterator[Case]:
    """Cells of the tables."""
    for name in (forgeries.GRANTS, forgeries.EXCEPTIONS):
        lines = files[name].decode("utf-8-sig").split("\r\n")
        for number, line in enumerate(lines[:-1]):
            row = line.split(",")
            for column in range(len(row)):
                if (number * len(row) + column) % every == 0:
                    for value in ("", "x", "'" + row[column], row[column] + "\x00", '"' + row[column] + '"'):
                        changed = ",".join([*row[:column], value, *row[column + 1 :]])
                        table = "\ufeff" + "\r\n".join([*lines[:number], changed, *lines[number + 1 :]])
                        yield (
                            f"{name} row {number} column {column} {value!r}",
                            put_right({**files, name: table.encode()}),
                        )
