"""Commands on checkpoints for who keeps old ones: a proof that a newer one extends them, checked without the vault."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from auditlib.cli.common import JsonOption, KeysOption, VaultArgument, older_notes, say, show_json
from auditlib.errors import AuditlibError, MalformedError, MismatchError

app = typer.Typer(no_args_is_help=True, help="Checkpoints: prove that one extends another, and check it offline.")

OlderArgument = Annotated[str, typer.Argument(metavar="OLDER", help="The checkpoint you kept, or a packet with one.")]


@app.command()
def prove(
    vault: VaultArgument,
    older: OlderArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="The proof, a new file.")],
    at: Annotated[int | None, typer.Option(help="Up to the checkpoint of this size; default: the newest.")] = None,
    key: KeysOption = None,
) -> None:
    """Write the proof, some hundred bytes, that the trail of now begins with the seals of an older checkpoint."""
    from auditlib.formats.consistency import consistency_bytes
    from auditlib.formats.merkle import consistency_proof
    from auditlib.history import check_extends, read_history
    from auditlib.keyfiles import load_verifier_keys
    from auditlib.vault import open_vault

    history = read_history(open_vault(vault), load_verifier_keys(key), at=at)
    if history.checkpoint is None:
        raise MalformedError("nothing has been sealed in this vault yet.", where=vault)
    known = [*history.trusted, *(key for document in history.documents for key in document.verifiers)]
    name, kept = _kept(older, known, history.origin.encode())
    check_extends(history, kept, name)
    if history.errors:
        worst = history.errors[0]
        raise MismatchError(worst.message, where=worst.object, remedy="Run `auditlib verify` with --against.")
    path = consistency_proof(history.seals.leaves, kept.size) if kept.size else []
    data = consistency_bytes(kept.size, path, history.checkpoint_data)
    try:
        with out.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise MalformedError("exists already and is not overwritten.", where=str(out)) from None
    say(f"{out}: from {kept.size:,} to {history.checkpoint.size:,} seals by {len(path)} hashes.")


@app.command()
def check(
    proof: Annotated[Path, typer.Argument(metavar="PROOF", help="What `checkpoint prove` wrote.")],
    older: OlderArgument,
    key: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check such a proof against the checkpoint that you kept, with the key you were given; no vault is needed."""
    from auditlib.formats.consistency import MAX_PROOF_BYTES, check_extension
    from auditlib.keyfiles import load_verifier_keys

    keys = load_verifier_keys(key)
    if not keys:
        raise MalformedError("a proof says nothing without a key.", remedy="Give the key you were given (--key).")
    try:
        data = proof.open("rb").read(MAX_PROOF_BYTES + 1)
    except OSError as error:
        raise MalformedError(f"cannot be read ({error.strerror}).", where=str(proof)) from None
    _, kept = _kept(older, keys, data.partition(b"\n\n")[2].partition(b"\n")[0])
    try:
        newer = check_extension(data, kept, keys)
    except AuditlibError as error:
        raise error.at(str(proof)) from None
    if as_json:
        told = {"origin": newer.origin, "older": kept.size, "newer": newer.size, "root": newer.root.hex()}
        show_json({"ok": True, **told, "signed_by": [str(signer) for signer in newer.signers]})
    else:
        print(
            f"The checkpoint of {newer.size:,} seals of {newer.origin} extends yours of {kept.size:,}: what yours "
            "covers was not altered since, and nothing was left out of it or put in between. "
            f"Its root is {newer.root.hex()}."
        )


def _kept(given: str, keys: list[Any], origin: bytes) -> tuple[str, Any]:
    """The checkpoint in a file or a packet; of a packet over several trails, the one of `origin`."""
    from auditlib.formats.checkpoint import parse_checkpoint

    notes = older_notes(given)
    found = [note for note in notes if note[1].startswith(origin + b"\n")] or notes
    if len(found) != 1:
        raise MalformedError(
            f"it holds {len(found)} checkpoints, none of them of this trail.",
            where=given,
            remedy="Give one of its own.",
        )
    ((name, data),) = found
    try:
        return name, parse_checkpoint(data, keys)
    except AuditlibError as error:
        raise error.at(name) from None
