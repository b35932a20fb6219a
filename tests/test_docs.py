"""What the documents say is what the code does: commands run, examples are real, bounds and names are the code's.

Every ```sh, ```console and ```python block of README.md and docs/*.md runs, those of a page in order in one copy of
the samples. Not run: a block after `<!-- not run -->`, a line that ends with `# not run`, and `make` (it would run this
again). Every request at once is what `make reproduce` builds with the same words; here it is one of them, unless
AUDITLIB_TESTS_LONG=1 is set.
"""

import base64
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import typer.main
from packets import sample
from s3_service import s3_service
from strength import LONG

from auditlib.cli import app
from auditlib.formats import layout, merkle
from auditlib.formats.catalog import parse_catalog
from auditlib.formats.checkpoint import parse_checkpoint
from auditlib.formats.consistency import check_extension
from auditlib.formats.document import document_hash, parse_document
from auditlib.formats.event import event_bytes, parse_event, parse_record
from auditlib.formats.keys import parse_verifier_key
from auditlib.formats.seal import check_signature, parse_seal
from auditlib.packet.bag import write_bag
from auditlib.packet.proofs import check_inclusion

ROOT = Path(__file__).parent.parent
DOCS = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("format", "threats", "operations", "auditors", "analysts")),
]
PAGES = [*DOCS, *sorted((ROOT / "docs" / "decisions").glob("*.md"))]
FORMAT, OPERATIONS = (ROOT / "docs" / f"{name}.md" for name in ("format", "operations"))
SAMPLES = ROOT / "data-samples"
ALL, ONE = "auditlib requests build --all ", "auditlib requests build AC-03 "
BLOCK = re.compile(r"^(?:<!-- (?P<mark>.+?) -->\n)?^(?P<indent> *)```(?P<kind>\w+)\n(?P<body>.*?)^ *```$", re.M | re.S)
LOG = {
    **{"eventVersion": "1.08", "eventTime": "2026-05-01T12:00:00Z", "eventSource": "iam.amazonaws.com"},
    **{"eventName": "AttachUserPolicy", "awsRegion": "us-east-1", "sourceIPAddress": "203.0.113.9"},
    **{"eventID": "e-1", "eventType": "AwsApiCall", "recipientAccountId": "123456789012"},
    "userIdentity": {"type": "IAMUser", "accountId": "123456789012", "userName": "alice"},
    "requestParameters": {"userName": "bob", "policyArn": "arn:aws:iam::aws:policy/AdministratorAccess"},
}


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """(marker, kind, text) of each fenced block."""
    for match in BLOCK.finditer(page.read_text()):
        indent, body = match["indent"], match["body"]
        text = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
        yield match["mark"] or "", match["kind"], text


def real(name: str) -> str:
    """The block of docs/format.md that claims to be this real thing."""
    (text,) = (text for mark, _, text in blocks(FORMAT) if mark == f"real: {name}")
    return text


def joined(name: str) -> bytes:
    """A wrapped JSON block as the bytes it stands for."""
    return real(name).replace("\n", "").encode()


def rows(page: Path, heading: str) -> list[list[str]]:
    """The rows of the first table whose header begins with these words, without the two that make it one."""
    table = page.read_text().partition(f"| {heading} |")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def script(kind: str, text: str) -> list[str]:
    """What runs of a block."""
    if kind == "python":
        return [sys.executable, "-c", text]
    lines = [line for line in text.splitlines() if not re.search(r"# not run$|^(\$ )?make (?!s3)", line)]
    lines = [line.replace("make s3 && ", "") for line in lines]
    if not LONG:
        lines = [line.replace(ALL, ONE) for line in lines]
    if kind == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Like a clone beside the public logs, with what the pages take for granted."""
    place = tmp_path / "main"
    shutil.copytree(SAMPLES, place / "data-samples", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("logs", "../shared/data/cloudtrail-lab/CloudTrail"):
        (place / name).mkdir(parents=True)
        (place / name / "log.json").write_text(json.dumps({"Records": [LOG]}))
    (place / ".venv").mkdir()
    (place / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (place / "build").mkdir()
    shutil.copy(SAMPLES / "sample.vkey", place)
    return place


def write_s3_env(path: Path) -> bool:
    """What `make s3` leaves, for the server of the tests; whether there is one."""
    try:
        service = s3_service()
    except pytest.skip.Exception:
        return False
    owner = service.identities["owner"]
    path.write_text(
        f"export AWS_ENDPOINT_URL={service.endpoint} AWS_DEFAULT_REGION={service.region}\n"
        f"export AWS_ACCESS_KEY_ID={owner.key} AWS_SECRET_ACCESS_KEY={owner.secret}\n"
    )
    return True


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_every_command_and_script_in_the_docs_runs(page: Path, place: Path) -> None:
    """Whoever copies the blocks of a page into a shell gets what the page promises."""
    given = [(kind, text) for mark, kind, text in blocks(page) if mark != "not run"]
    locked = any("s3.env" in text for _, text in given) and write_s3_env(place / "build" / "s3.env")
    if page.name == "auditors.md":
        write_bag(sample(), place / "packet.zip")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AUDITLIB_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "XDG_STATE_HOME": str(place.parent / "state")}
    failed = []
    for kind, text in given:
        if kind in ("sh", "console", "python") and (locked or "s3.env" not in text):
            run = subprocess.run(script(kind, text), cwd=place, env=env, capture_output=True, check=False, text=True)
            if run.returncode:
                failed.append(f"{page.name}: exit {run.returncode}\n{text}\n{run.stderr[-800:]}{run.stdout[-800:]}")
    assert not failed, "\n\n".join(failed)


def test_what_readme_builds_for_every_request_is_what_make_reproduce_builds() -> None:
    """Each line of a page that builds every request stands in the Makefile, word for word, and so is run there."""
    recipe = (ROOT / "Makefile").read_text().partition("\nreproduce: $(VENV)")[2].partition("\n\n")[0]
    steps = " ".join(recipe.replace("\\\n", " ").split())
    lines = [line for page in DOCS for _, _, text in blocks(page) for line in text.splitlines() if line.startswith(ALL)]
    assert lines
    for line in lines:
        assert f"$(BIN)/{line}" in steps


def test_every_command_that_is_named_exists() -> None:
    """No page speaks of a command that this version does not have."""
    top: Any = typer.main.get_command(app)
    groups = {name: command.commands for name, command in top.commands.items() if hasattr(command, "commands")}
    known = {(name,) for name in top.commands} | {(group, name) for group in groups for name in groups[group]}
    for page in PAGES:
        for words in re.findall(rf"(?:`|^ *)auditlib ((?:(?:{'|'.join(groups)}) )?[a-z]+)", page.read_text(), re.M):
            assert tuple(words.split()) in known, f"{page.name}: {words}"


def test_the_list_of_commands_in_the_readme_is_that_of_help() -> None:
    """If README.md shows `auditlib --help`, it shows today's."""
    top: Any = typer.main.get_command(app)
    for _, _, text in blocks(DOCS[0]):
        if "Usage: auditlib [OPTIONS] COMMAND" in text:
            shown = re.findall(r"^[│ ]+([a-z]+)  +[A-Z]", text.partition("Commands")[2], re.M)
            assert shown == list(top.commands)


def test_links_lead_somewhere() -> None:
    """Every relative link of a page is a file."""
    for page in PAGES:
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", prose):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_example_event_and_record_are_canonical() -> None:
    """They parse, re-encode to themselves, and the one stands in the other."""
    event, record = joined("event"), joined("record")
    assert event_bytes(parse_event(event)) == event
    assert parse_record(record).event == parse_event(event)
    assert event in record


def test_the_example_leads_from_the_record_to_the_checkpoint() -> None:
    """Record, blind, leaf, proof, seal, seals' proof, checkpoint: by the algorithm on the page, and by the library."""
    page = FORMAT.read_text()
    (code,) = (text for _, kind, text in blocks(FORMAT) if kind == "python" and "def root(" in text)
    names: dict[str, Any] = {}
    exec(code, names)
    inclusion, seals = json.loads(joined("inclusion")), json.loads(joined("seals-proof"))
    seal = parse_seal(joined("seal"))
    leaf = merkle.leaf_hash(bytes.fromhex(inclusion["blinds"][0]) + joined("record"))
    assert inclusion["blinds"][0] in page
    assert leaf.hex() in page

    def by_page(proof: dict[str, Any], entry: bytes) -> bytes:
        shown = dict(zip(proof["leaf_indexes"], [entry], strict=True))
        found: bytes = names["root"](proof["tree_size"], shown, iter(map(bytes.fromhex, proof["hashes"])))
        return found

    assert by_page(inclusion, leaf).hex() == seal.batch.root
    check_inclusion(joined("inclusion"), {seal.sequence: seal}, [joined("record")])
    key = parse_verifier_key((SAMPLES / "sample.vkey").read_text())
    assert check_signature(seal, [key]) == key
    checkpoint = parse_checkpoint((SAMPLES / "vault" / layout.checkpoint_key(seals["tree_size"])).read_bytes(), [key])
    assert by_page(seals, merkle.leaf_hash(joined("seal"))) == checkpoint.root


def test_the_example_trail_document_is_the_one_its_seal_names() -> None:
    """The document, its key, and the seal beside it belong together."""
    document = parse_document(joined("document"))
    assert document_hash(joined("document")) == parse_seal(joined("seal")).trail
    assert (SAMPLES / "vault" / layout.catalog_key(document.catalog)).exists()


def test_the_checkpoint_vector_verifies() -> None:
    """DESIGN 4.5's example is signed by the key beside it."""
    key = parse_verifier_key(real("key"))
    checkpoint = parse_checkpoint(real("checkpoint").encode(), [key])
    assert (checkpoint.origin, checkpoint.size, checkpoint.signers) == ("acme.example/audit", 43, (key,))
    assert base64.b64encode(checkpoint.root).decode() in real("checkpoint")


def test_the_example_consistency_proof_holds_for_the_sample() -> None:
    """It leads from the sample's checkpoint of that size to its newest one."""
    key = parse_verifier_key((SAMPLES / "sample.vkey").read_text())
    size = int(real("consistency").split()[1])
    older = parse_checkpoint((SAMPLES / "vault" / layout.checkpoint_key(size)).read_bytes(), [key])
    newer = check_extension(real("consistency").encode(), older, [key])
    newest = sorted((SAMPLES / "vault" / "checkpoints").rglob("0*"))[-1]
    assert parse_checkpoint(newest.read_bytes(), [key]) == newer


def drawn(tree: str) -> set[str]:
    """The files of a `tree`, as paths below its first line."""
    paths: list[str] = []
    above: list[str] = []
    for line in tree.splitlines()[1:]:
        indent, _, name = line.partition("── ")
        above[len(indent) // 4 :] = [name]
        paths.append("/".join(above))
    whole = {path for path in paths if "..." not in path}
    return {path for path in whole if not any(other.startswith(path + "/") for other in whole)}


def shape(paths: set[str]) -> set[str]:
    """The same with hashes and numbers made alike."""
    return {re.sub(r"\d", "9", re.sub(r"[0-9a-f]{64}|(?<=-)[0-9a-f]{16}(?=\.)", "<hash>", path)) for path in paths}


def test_the_tree_is_the_layout_of_the_sample_vault() -> None:
    """Every kind of object that is there is drawn, and no other."""
    vault = SAMPLES / "vault"
    there = {path.relative_to(vault).as_posix() for path in vault.rglob("*") if path.is_file()}
    assert shape(drawn(real("tree"))) == shape(there)


def test_the_packet_is_as_the_page_says() -> None:
    """Its files, and packet.json's keys, are those of a packet built now."""
    files = sample()
    assert shape(drawn(real("packet tree"))) == shape(set(files))
    assert sha256(files["data/packet.json"]).hexdigest() in files["bag-info.txt"].decode()
    keys = {key for first, *_ in rows(FORMAT, "key | value") for key in re.findall(r"`(\w+)`", first)}
    assert keys == set(json.loads(files["data/packet.json"]))


def test_bounds_are_those_of_the_code() -> None:
    """Every number in the table of bounds."""
    table = rows(FORMAT, "what | at most | in the code")
    assert len(table) > 20
    for what, stated, place in table:
        module, _, name = place.strip("`").rpartition(".")
        found = getattr(importlib.import_module(f"auditlib.{module}"), name)
        assert found == int(stated.replace(",", "")), what


def test_catalogue_fields_and_kinds_are_those_of_the_code() -> None:
    """No kind of the built-in catalogue is unexplained, no field either."""
    catalog = parse_catalog((ROOT / "auditlib" / "catalog.toml").read_bytes())
    kinds = {kind for first, _ in rows(FORMAT, "kind | meaning") for kind in re.findall(r"`([a-z-]+)`", first)}
    assert kinds == set(catalog.kinds)
    table = FORMAT.read_text().partition("## Catalogue")[2]
    stated = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.+?) \|", table.partition("## ")[0], re.M))))
    fields = set(next(iter(catalog.actions.values())).__struct_fields__)
    assert fields <= stated


def test_refusals_and_variables_are_those_of_the_code() -> None:
    """Every sentence that operations.md explains is one the code says; every variable it reads is explained."""
    source = "\n".join(path.read_text() for path in sorted((ROOT / "auditlib").rglob("*.py")))
    spoken = re.sub(r'"\s*\n\s*f?"', "", source)
    for sentence, *_ in rows(OPERATIONS, "it says | code | what to do"):
        assert sentence in spoken, sentence
    stated = [name.strip("`") for name, _ in rows(OPERATIONS, "variable | stands for")]
    assert set(stated) == set(re.findall(r"\bAUDITLIB_[A-Z_]+", source))
