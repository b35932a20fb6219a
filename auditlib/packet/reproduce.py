"""Make a packet again: its own notebook, at its checkpoint, with its parameters; then compare byte for byte.

    comparison = reproduce_packet(Path("packet.zip"), "s3://bucket/vault", keys="acme.vkey")

A packet is hostile, and its notebook is code. In order:

    1  the packet checks; a packet with faults is not made again, unless its faults are taken into account
    2  the notebook's hash is that of packet.json; one of this library's own runs from here, not from the packet;
       another runs only where the caller permits it, told whose word it is; what was attached has its hashes too
    3  the vault's checkpoint of that size has the packet's root: the same history; of several trails, each of them
    4  the packet is made again, in a folder of its own, and compared
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from auditlib.attachments import FILES, FOLDER, Attached, Attachment, parse
from auditlib.attachments.declaration import check_name
from auditlib.attachments.files import check_file_name
from auditlib.errors import MalformedError, MismatchError
from auditlib.evidence.across import Trails
from auditlib.evidence.scope import Scope, parse_scope
from auditlib.findings import Finding
from auditlib.formats.checkpoint import Checkpoint
from auditlib.keyfiles import load_verifier_keys
from auditlib.packet.bag import Bag, open_bag
from auditlib.packet.build import SCOPE, Asked, make_packet
from auditlib.packet.check import check_packet
from auditlib.packet.diff import MAX_NOTEBOOK_BYTES, NOTEBOOK, PACKET, Comparison, compare
from auditlib.packet.nb import nbformat
from auditlib.packet.notebook import INJECTED, code_hash, find_notebook, request_names
from auditlib.packet.parameters import declared, read_typed
from auditlib.packet.vaults import Vault, open_vaults, trails_of
from auditlib.trail import Keys, Trail

MIN_PREFIX = 16  # hex digits: 64 bits, more than anyone finds a second notebook for
_NAME = re.compile(r"^([A-Za-z_]\w*) = ", re.MULTILINE)  # an assignment as `notebook` writes it
_FILE = re.compile(r"[^\x00-\x1f\x7f/\\.][^\x00-\x1f\x7f/\\]*")  # no path, and no hidden file
MAX_NAME_BYTES = 249  # bytes: with its ending 255, what a file's name may have
_STEERING = {"raises-exception", "skip-execution"}  # nbclient obeys these tags, and no hash covers them (decision 9)
# What nbformat raises for what is no notebook.
_NO_NOTEBOOK = (ValueError, TypeError, LookupError, AttributeError, RecursionError, nbformat.ValidationError)


class Foreign(msgspec.Struct, frozen=True):
    """A packet's notebook that is none of this library's own, as it is shown to who must permit it."""

    name: str
    sha256: str
    packet: str
    own: str | None  # the hash of this library's notebook of that name

    def words(self) -> list[str]:
        """What somebody should know before letting it run."""
        same_name = f" This library has another of that name (SHA-256 {self.own})." if self.own else ""
        return [
            f"{self.packet} was answered by the notebook {self.name!r}, none of this library's own.{same_name}",
            f"SHA-256 of its cells: {self.sha256}",
            "To make the packet again, its code is run with your rights, on the word of whoever made the packet: "
            "the checkpoint's signature speaks for the records, not for the notebook.",
            "Read data/notebook.ipynb in the packet before you permit it.",
        ]


def reproduce_packet(
    path: Path,
    vault: str | Sequence[Vault],
    *,
    keys: Keys = None,
    permit: Callable[[Foreign], bool] = lambda foreign: False,
    despite_faults: bool = False,
    out: Path | None = None,
) -> Comparison:
    """Make a packet again from its vault, and compare; `out` keeps what was made.

    `vault` is one, read with `keys`, or those of all the packet's trails in any order, each with keys of its own.
    `permit` decides over a notebook that is not this library's own. Raises MalformedError where it may not run, or
    where the packet cannot be made again by this version; MismatchError where the packet has faults (unless
    `despite_faults`: then they stand in the comparison), or the vault is of another history.
    """
    if out and out.exists():
        raise MalformedError("exists already and is not overwritten.", where=str(out), remedy="Choose another -o.")
    vaults = [Vault(vault, load_verifier_keys(keys))] if isinstance(vault, str) else list(vault)
    report = check_packet(path, [key for one in vaults for key in load_verifier_keys(one.keys)])
    faults = [finding for finding in report.findings if finding.severity == "error"]
    if faults and not despite_faults:
        raise _at_fault(path, faults)
    if not report.checkpoints:
        raise MalformedError("a packet without a checkpoint is not made again.", where=str(path))
    checkpoints = sorted(report.checkpoints, key=lambda checkpoint: checkpoint.origin)  # as `Trails` has them
    found = _found(vaults, checkpoints)
    with tempfile.TemporaryDirectory() as scratch, open_bag(path) as then:
        notebook, names = _notebook(then, report.packet, Path(scratch), permit, str(path))
        asked = msgspec.structs.replace(
            _asked(report.packet, names, notebook),
            attached=_attached(then, report.packet),
            scope=_scope(then, report.packet),
        )
        made = Path(scratch) / "made" if out is None else out
        with _same_history(found, checkpoints) as trail:
            make_packet(trail, notebook, asked, made)
        with open_bag(made) as now:
            findings = {"then": faults, "now": []}
            return compare(then, now, names=(str(path), "made again" if out is None else str(out)), findings=findings)


def permitted(prefixes: Sequence[str]) -> Callable[[Foreign], bool]:
    """A permission by the first hex digits of a hash, at least MIN_PREFIX of them; MalformedError for fewer."""
    for prefix in prefixes:
        if not re.fullmatch(rf"[0-9a-f]{{{MIN_PREFIX},64}}", prefix):
            raise MalformedError(f"{prefix!r} is not {MIN_PREFIX} to 64 hex digits of a SHA-256.")
    return lambda foreign: any(foreign.sha256.startswith(prefix) for prefix in prefixes)


def _at_fault(path: Path, faults: Sequence[Finding]) -> MismatchError:
    worst = faults[0]
    return MismatchError(
        f"check {worst.check}: {worst.object}: {worst.message} ({len(faults)} fault(s) in all; nothing was run)",
        where=str(path),
        remedy="`auditlib packet verify` shows all of them; --despite-faults makes it again all the same.",
        expected=worst.expected,
        found=worst.found,
    )


# --- the notebook ------------------------------------------------------------------------------------------------


def _notebook(
    bag: Bag, packet: dict[str, Any], scratch: Path, permit: Callable[[Foreign], bool], where: str
) -> tuple[Path, list[str]]:
    """The notebook to run, and the names of the parameters that were put into it."""
    stated = packet.get("notebook")
    name, digest = (stated.get(key) if isinstance(stated, dict) else None for key in ("name", "sha256"))
    if not isinstance(name, str) or not _FILE.fullmatch(name) or len(name.encode()) > MAX_NAME_BYTES:
        raise MalformedError("packet.json names no notebook that can be run.", where=where)
    file = scratch / f"{name}.ipynb"
    names, steering = _without_parameters(bag.read(NOTEBOOK, MAX_NOTEBOOK_BYTES), file)
    found = code_hash(file)
    if found != digest:
        message = "the packet's notebook is not the one that packet.json names; nothing was run."
        raise MismatchError(message, where=NOTEBOOK, expected=digest, found=found)
    own = find_notebook(name) if name in request_names() else None
    own_digest = code_hash(own) if own else None
    if own and own_digest == found:
        return own, names
    if steering:
        message = f"its cells carry tags that change what is run, and no hash covers them ({', '.join(steering)})."
        raise MalformedError(message, where=NOTEBOOK)
    foreign = Foreign(name, found, where, own_digest)
    if not permit(foreign):
        raise MalformedError(
            f"its notebook {name!r} (SHA-256 {found}) is none of this library's own; nothing was run.",
            where=where,
            remedy=f"Read {NOTEBOOK}; to run its code with your rights: --allow-notebook {found[:MIN_PREFIX]}",
        )
    return file, names


def _without_parameters(data: bytes, file: Path) -> tuple[list[str], list[str]]:
    """Write an executed notebook as it was before; the names of its parameters, and the tags that steer a run."""
    try:
        cells = nbformat.reads(data.decode(), as_version=4).cells  # type: ignore[no-untyped-call]
        tags = [set(map(str, cell.metadata.get("tags", ()))) for cell in cells]
        kept = [
            {
                "cell_type": cell.cell_type,
                "id": f"cell-{number}",
                "metadata": {"tags": sorted(own)},
                "source": cell.source,
            }
            | ({"execution_count": None, "outputs": []} if cell.cell_type == "code" else {})
            | ({"attachments": cell.attachments} if "attachments" in cell else {})
            for number, (cell, own) in enumerate(zip(cells, tags, strict=True))
            if INJECTED not in own
        ]
        metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
        plain = nbformat.from_dict(  # type: ignore[no-untyped-call]
            {"cells": kept, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
        )
        nbformat.validate(plain)
        nbformat.write(plain, file)  # type: ignore[no-untyped-call]
    except _NO_NOTEBOOK as error:
        raise MalformedError(f"is no notebook: {str(error).partition(chr(10))[0][:200]}", where=NOTEBOOK) from None
    injected = [cell.source for cell, own in zip(cells, tags, strict=True) if INJECTED in own]
    names = [name for source in injected for name in _NAME.findall(source)]
    return names, sorted(_STEERING.intersection(*[set().union(*tags)]))


def _asked(packet: dict[str, Any], names: Sequence[str], notebook: Path) -> Asked:
    """What was asked: the values are packet.json's; a name that the notebook does not declare never becomes code."""
    stated = packet.get("parameters")
    known = declared(notebook)
    unknown = [name for name in names if name not in known or not isinstance(stated, dict) or name not in stated]
    if unknown or not isinstance(stated, dict):
        message = "a parameter is not declared by the notebook, or packet.json does not state it:"
        raise MalformedError(f"{message} {', '.join(unknown[:5])}.", where=NOTEBOOK)
    redacted = packet.get("redacted")
    fields = redacted.get("fields") if isinstance(redacted, dict) else []
    if not isinstance(fields, list):
        raise MalformedError("packet.json does not name the fields that were left out.", where=PACKET)
    return Asked(read_typed(known, {name: stated[name] for name in names}), tuple(map(str, fields)))


def _attached(bag: Bag, packet: dict[str, Any]) -> Attached:
    """The packet's own evidence from outside, with the hashes that packet.json states: no fault lets others in."""
    lists: list[Attachment] = []
    files: dict[str, bytes] = {}
    try:
        for one in packet.get("attachments", []):
            place = f"data/{FOLDER}{check_name(str(one['name']))}.csv"
            data = _stated(bag, place, one["sha256"])
            lists.append(parse(one["name"], data, _stated(bag, f"{place}.toml", one["declaration_sha256"])))
        for name, digest in packet.get("attached_files", {}).items():
            files[name] = _stated(bag, f"data/{FILES}{check_file_name(name)}", digest)
    except (TypeError, LookupError, AttributeError):
        raise MalformedError("packet.json does not list what was attached as it must.", where=PACKET) from None
    return Attached(tuple(lists), files)


def _scope(bag: Bag, packet: dict[str, Any]) -> Scope | None:
    if packet.get("systems") is None:
        return None
    digest = packet["files"].get(SCOPE) if isinstance(packet.get("files"), dict) else None
    return parse_scope(_stated(bag, f"data/{SCOPE}", digest))


def _stated(bag: Bag, name: str, digest: object) -> bytes:
    data = bag.read(name)
    if sha256(data).hexdigest() != digest:
        message = "this is not what was attached; nothing was run."
        raise MismatchError(message, where=name, expected=digest, found=sha256(data).hexdigest())
    return data


# --- the vault ---------------------------------------------------------------------------------------------------


def _found(vaults: Sequence[Vault], checkpoints: Sequence[Checkpoint]) -> list[Vault]:
    """The vaults in the order of the packet's checkpoints, each to be opened at its own."""
    if len(vaults) != len(checkpoints):
        told = ", ".join(checkpoint.origin for checkpoint in checkpoints)
        raise MalformedError(
            f"the packet is over {len(checkpoints)} trail(s) ({told}), and {len(vaults)} vault(s) were given.",
            remedy="Give the vault of each of them with --vault.",
        )
    if len(vaults) == 1:
        return [vaults[0]._replace(at=checkpoints[0].size)]
    there: dict[str, Vault] = {}
    for vault in vaults:
        with open_vaults([vault._replace(at=None)]) as trail:
            there |= dict.fromkeys((one.origin for one in trails_of(trail)), vault)
    if missing := [one.origin for one in checkpoints if one.origin not in there]:
        raise MismatchError(
            "check 1: none of the vaults holds a trail of the packet.",
            where=", ".join(vault.place for vault in vaults),
            remedy="Give the vault of each trail that the packet names.",
            expected=", ".join(missing),
            found=", ".join(there),
        )
    return [there[one.origin]._replace(at=one.size) for one in checkpoints]


@contextmanager
def _same_history(vaults: Sequence[Vault], checkpoints: Sequence[Checkpoint]) -> Iterator[Trail | Trails]:
    """The vaults at the packet's checkpoints. MismatchError, check 1, where one holds another history, or less."""
    expected = [(one.origin, one.size, one.root.hex()) for one in checkpoints]
    with ExitStack() as stack:
        try:
            trail = stack.enter_context(open_vaults(vaults))
        except MalformedError:
            for vault, stated in zip(vaults, expected, strict=True):
                # There is a vault, with a checkpoint that these keys signed.
                with open_vaults([vault._replace(at=None)]) as newest:
                    found = _at(*trails_of(newest))
                if len(vaults) == 1 or found[1] < stated[1]:
                    raise _other_history(vault.place, stated, found) from None
            raise
        for vault, stated, one in zip(vaults, expected, trails_of(trail), strict=True):
            if _at(one) != stated:
                raise _other_history(vault.place, stated, _at(one))
        yield trail


def _at(trail: Trail) -> tuple[str, int, str]:
    return trail.checkpoint.origin, trail.checkpoint.size, trail.checkpoint.root.hex()


def _other_history(vault: str, expected: tuple[str, int, str], found: tuple[str, int, str]) -> MismatchError:
    told, there = ("{}, {:,} seals, root {}".format(*facts) for facts in (expected, found))
    return MismatchError(
        f"check 1: the vault holds {there}, not the packet's checkpoint, {told}: another history, or a cut one.",
        where=vault,
        remedy="Give the vault that the packet was made from; if this is the one, `auditlib verify --against PACKET`.",
        expected=told,
        found=there,
    )
