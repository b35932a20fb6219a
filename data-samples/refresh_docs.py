"""Renew what docs/format.md shows of the sample vault: the record of its example event, and all that leads from there.

    python data-samples/refresh_docs.py     after generate.py; rewrites docs/format.md where something changed

The example is found by the event_id in the page's block `real: event`; blocks of other real things stay as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

from auditlib.formats import layout, merkle
from auditlib.formats.batch import ParsedBatch, parse_batch
from auditlib.formats.canonical import canonical
from auditlib.formats.consistency import consistency_bytes
from auditlib.history import History, read_history
from auditlib.vault import open_vault

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "format.md"
VAULT = HERE / "vault"
WIDTH = 118  # characters of a wrapped line


def wrapped(text: str) -> str:
    """JSON broken after commas; joined again it is the same bytes."""
    lines = [""]
    for part in re.findall(r"[^,]*,|[^,]+$", text):
        if len(lines[-1]) + len(part) > WIDTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def example(history: History, event_id: str) -> tuple[int, int, ParsedBatch]:
    """Where the example event lies: the seal's sequence, the row, and the batch."""
    for seal in history.seals:
        batch = parse_batch((VAULT / seal.seal.batch.object).read_bytes())
        ids = batch.table.column("event_id").to_pylist()
        if event_id in ids:
            return seal.seal.sequence, ids.index(event_id), batch
    raise SystemExit(f"event {event_id} of docs/format.md is not in the sample; show another there.")


def facts(history: History, event: str) -> tuple[dict[str, str], dict[str, str]]:
    """The blocks of the page that are real, by name; and the prose about them, by the pattern it is found by."""
    (event_id,) = re.findall(r'"event_id":"([^"]+)"', event)
    sequence, row, batch = example(history, event_id)
    sealed = history.seals[sequence]
    (record,), (blind,) = batch.texts([row]), batch.blinds([row])
    inclusion = {
        "blinds": [blind.hex()],
        "hashes": [node.hex() for node in batch.proof([row], sealed.seal.batch.root)],
        "leaf_indexes": [row],
        "lines": [0],
        "sequence": sequence,
        "tree_size": batch.table.num_rows,
    }
    seals = {
        "hashes": [node.hex() for node in merkle.holes(history.leaves, [sequence])],
        "leaf_indexes": [sequence],
        "tree_size": len(history.leaves),
    }
    blocks = {
        "document": wrapped((VAULT / layout.trail_key(0)).read_text()),
        "inclusion": wrapped(canonical(inclusion).decode()),
        "record": wrapped(record.decode()),
        "seal": wrapped(sealed.data.decode()),
        "seals-proof": wrapped(canonical(seals).decode()),
    }
    prose = {
        r"row \d+ of batch \d+": f"row {row} of batch {sequence}",
        r"(?<=blind `)[0-9a-f]{32}(?=`)": blind.hex(),
        r"(?<=\nleaf `)[0-9a-f]{64}(?=`)": merkle.leaf_hash(blind + record).hex(),
        r"(?<=\n    )batches/recorded_date=\S+\.parquet": sealed.seal.batch.object,
    }
    return blocks, prose


def extension(history: History) -> str:
    """The proof that the newest checkpoint extends the one of three seals before."""
    older = len(history.seals) - 3
    path = merkle.consistency_proof(history.seals.leaves, older)
    return consistency_bytes(older, path, history.checkpoint_data).decode().rstrip("\n")


def main() -> None:
    """Rewrite the page."""
    page = PAGE.read_text(encoding="utf-8")
    history = read_history(open_vault(str(VAULT)))
    (event,) = re.findall(r"<!-- real: event -->\n```json\n(.*?)```", page, re.S)
    blocks, prose = facts(history, event.replace("\n", ""))
    blocks["consistency"] = extension(history)
    patterns = {
        rf"(?<=<!-- real: {name} -->\n```{'text' if name == 'consistency' else 'json'}\n).*?(?=\n```)": fact
        for name, fact in blocks.items()
    }
    for pattern, fact in (patterns | prose).items():
        page, found = re.subn(pattern, fact.replace("\\", r"\\"), page, flags=re.S)
        if not found:
            raise SystemExit(f"docs/format.md shows nothing that fits {pattern}")
    objects = [path.name for path in sorted(VAULT.rglob("*")) if path.suffix in (".toml", ".parquet")]
    for name in objects:  # in the drawn trees: the same catalogue, and the batch of the same number
        kind = r"[0-9a-f]{64}\.toml" if name.endswith(".toml") else rf"{name[:12]}-[0-9a-f]{{16}}\.parquet"
        page = re.sub(rf"(?<=── ){kind}", name, page)
    PAGE.write_text(page, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
