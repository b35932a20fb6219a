"""report.html checks the packet it came with: in a real browser, from file://, with the files a person would give it.

The differential test runs the page's own checks over forged packets and compares the numbers of the checks that fail
with those of `auditlib.packet.check`.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any

import packets
import pytest
import simulator
import test_packet as forgeries
import verifier_mutations as mutations
from packets import PROOF, SAMPLE_KEY, Packet, check, fired, sample
from strength import LONG
from test_evidence import MARK, hostile_packet
from test_report_browser import CHROMIUM, Browser, browser, page_of
from test_standalone_verifier import HOSTILE, small

from auditlib.formats.canonical import canonical
from auditlib.formats.keys import VerifierKey
from auditlib.packet.bag import write_bag
from auditlib.packet.check import PACKET_CHECKS

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian package `chromium`)")
__all__ = ["browser", "small"]  # fixtures
Files = Mapping[str, bytes]
THIRD = 1 if LONG else 3  # one in so many; the ways of forging take turns by twos and fives, so each of them comes

OUTCOME = """new Promise((go) => {
  const look = () => {
    const line = document.getElementById('verdict');
    if (!line) return setTimeout(look, 10);
    const rows = [...document.querySelectorAll('.checks tbody tr')];
    go({state: line.className.replace('verdict ', ''), text: line.textContent,
      top: document.getElementById('standing').textContent,
      checks: rows.map((row) => [row.cells[0].textContent, row.className, row.innerText]),
      named: [...document.querySelectorAll('.faults code')].map((n) => n.textContent),
      all: document.getElementById('outcome').innerText});
  };
  look();
})"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page_of(sample()["data/report.html"], tmp_path_factory.mktemp("page"))


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.open(page)
    return browser


def give_key(browser: Browser, key: VerifierKey | str | None) -> None:
    browser.js(f"document.getElementById('key').value = {json.dumps(str(key or ''))}")


def outcome(browser: Browser) -> dict[str, Any]:
    """What the page shows, once it shows it; then the page forgets it."""
    told: dict[str, Any] = browser.js(OUTCOME)
    browser.js("document.getElementById('outcome').replaceChildren()")
    return told


def checked(browser: Browser, files: Files, folder: Path, key: VerifierKey | None = SAMPLE_KEY) -> dict[str, Any]:
    """What the page says of a packet that is chosen as a .zip."""
    path = folder / "packet.zip"
    path.unlink(missing_ok=True)
    write_bag(files, path)
    give_key(browser, key)
    browser.choose("#zip", [path])
    return outcome(browser)


# --- what passes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["zip chosen", "zip dropped", "folder chosen", "folder dropped", "folder zipped again"])
def test_an_untouched_packet_passes_every_check(way: str, opened: Browser, tmp_path: Path) -> None:
    """By keyboard or by mouse, a folder or a zip, deflated or not: six checks passed, no network, no complaint."""
    write_bag(sample(), tmp_path / "packet")
    write_bag(sample(), tmp_path / "packet.zip")
    give_key(opened, SAMPLE_KEY)
    if way == "zip chosen":
        opened.choose("#zip", [tmp_path / "packet.zip"])
    elif way == "folder chosen":
        opened.choose("#folder", [tmp_path / "packet"])
    elif way == "folder zipped again":
        again = shutil.make_archive(str(tmp_path / "again"), "zip", tmp_path, "packet")
        opened.choose("#zip", [Path(again)])
    else:
        opened.drop(tmp_path / ("packet.zip" if way == "zip dropped" else "packet"))
    told = outcome(opened)
    assert told["state"] == "pass", told
    assert "Every check passed" in told["text"] and "Every check passed" in told["top"]
    assert [row[:2] for row in told["checks"]] == [[str(number), "pass"] for number in PACKET_CHECKS]
    for (_, _, row), sentence in zip(told["checks"], PACKET_CHECKS.values(), strict=True):
        assert sentence in row and "✓" in row
    records = sample()["data/events.jsonl"].count(b"\n")
    assert f"{records} of {records} records lead to the roots" in told["all"]
    assert str(SAMPLE_KEY) in told["all"] and "(Web Crypto) agrees" in told["all"]
    assert "is the one that this page speaks of" in told["all"]
    assert opened.asked() == [] and opened.complaints() == []


def test_without_a_key_nothing_is_said_to_be_proven(opened: Browser, tmp_path: Path) -> None:
    """The key that the packet names is used and does not count: the verdict stays open, and one can add the key."""
    told = checked(opened, sample(), tmp_path, None)
    assert told["state"] == "open" and "proves nothing alone" in told["text"]
    assert [row[1] for row in told["checks"]] == ["pass", "pass", "open", "pass", "pass", "pass"]
    give_key(opened, SAMPLE_KEY)
    opened.js("document.getElementById('again').click()")
    assert outcome(opened)["state"] == "pass"


def test_a_key_can_be_dropped_as_a_file(opened: Browser, tmp_path: Path) -> None:
    """The .vkey that `auditlib keygen` wrote."""
    opened.drop(packets.SAMPLES / "sample.vkey")
    write_bag(sample(), tmp_path / "packet.zip")
    taken = "document.getElementById('key').value"
    opened.js(f"new Promise((go) => {{ const look = () => {taken} ? go() : setTimeout(look, 9); look(); }})")
    opened.choose("#zip", [tmp_path / "packet.zip"])
    assert outcome(opened)["state"] == "pass"


def test_another_packet_is_not_taken_for_this_one(opened: Browser, small: Files, tmp_path: Path) -> None:
    """A sound packet that the page does not speak of: said so."""
    told = checked(opened, small, tmp_path, simulator.KEY.verifier)
    assert told["state"] == "pass" and "is NOT the one that this page speaks of" in told["all"]


# --- what does not -------------------------------------------------------------------------------------------


def test_a_wrong_key_fails_check_3(opened: Browser, tmp_path: Path) -> None:
    """A stranger's key is not confused with the company's."""
    told = checked(opened, sample(), tmp_path, simulator.EVIL_KEY.verifier)
    assert told["state"] == "fault" and "no signature by a trusted key" in told["all"]
    assert ["3", "fault"] in [row[:2] for row in told["checks"]]


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("nonsense", "no verifier key"),
        (str(SAMPLE_KEY)[:-2] + "zz", "not that of its name and key"),
        (str(SAMPLE_KEY).replace("acme", "acne"), "not that of its name and key"),
        ("PRIVATE+KEY+acme.example/audit+a7478514+AAAA", "secret key"),
    ],
)
def test_a_key_with_a_wrong_character_is_refused(key: str, sentence: str, opened: Browser, tmp_path: Path) -> None:
    """Nothing is checked with it, and nothing passes."""
    write_bag(sample(), tmp_path / "packet.zip")
    give_key(opened, key)
    opened.choose("#zip", [tmp_path / "packet.zip"])
    told = outcome(opened)
    assert told["state"] == "fault" and sentence in told["text"] and told["checks"] == []


@pytest.mark.parametrize("name", sorted(sample()) if CHROMIUM else [])
def test_a_changed_byte_turns_it_red_and_names_the_file(name: str, opened: Browser, tmp_path: Path) -> None:
    """In the middle of every file of the packet."""
    data = sample()[name]
    at = len(data) // 2
    told = checked(opened, {**sample(), name: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]}, tmp_path)
    assert told["state"] == "fault" and "✗" in told["text"]
    assert any(named.split(" ")[0] == name for named in told["named"]), told["named"]


def test_a_missing_and_an_added_file_are_named(opened: Browser, tmp_path: Path) -> None:
    """Also where the added one is a tag file that others would obey."""
    for files, name in (
        ({n: d for n, d in sample().items() if n != "data/events.jsonl"}, "data/events.jsonl"),
        ({**sample(), "data/added.txt": b"x"}, "data/added.txt"),
        ({**sample(), "fetch.txt": b"x"}, "fetch.txt"),
    ):
        told = checked(opened, files, tmp_path)
        assert told["state"] == "fault" and name in told["named"]


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_zip_is_refused(fault: str, opened: Browser, tmp_path: Path) -> None:
    """As the other two verifiers refuse it, with a sentence and before anything in it is unpacked."""
    opened.choose("#zip", [forgeries.zipped(sample(), tmp_path / "packet.zip", HOSTILE[fault])])
    told = outcome(opened)
    assert told["state"] == "fault" and "Nothing was checked." in told["text"]


def test_a_zip_that_is_none_or_lies_is_refused(opened: Browser, tmp_path: Path) -> None:
    """Empty, a text, cut off, bytes before or after it, an encrypted member, another name in the local header."""
    path = tmp_path / "packet.zip"
    write_bag(sample(), path)
    whole = path.read_bytes()
    start = directory(whole)
    lies = whole[:30] + b"B" + whole[31:]
    locked = whole[: start + 8] + b"\x01" + whole[start + 9 :]
    for data in (b"", b"hello", whole[: len(whole) // 2], b"x" + whole, whole + b"x", lies, locked, whole[start:]):
        path.write_bytes(data)
        opened.choose("#zip", [path])
        told = outcome(opened)
        assert told["state"] == "fault" and "Nothing was checked." in told["text"]


def test_what_a_packet_says_stays_text_in_the_outcome(opened: Browser, tmp_path: Path) -> None:
    """Hostile records, and hostile names of files in the manifest: no element, no direction turned round."""
    hostile = {name: data for name, data in hostile_packet().items() if isinstance(data, bytes)}
    evil = f"data/<img src=x onerror={MARK}>\u202e".encode()
    line = b"0" * 64 + b"  " + evil + b"\n"
    before = opened.js("document.querySelectorAll('img, script, iframe').length")
    told = checked(opened, hostile | {"manifest-sha256.txt": hostile["manifest-sha256.txt"] + line}, tmp_path)
    assert told["state"] == "fault"
    assert any("<img src=x" in name and "\\u{202e}" in name for name in told["named"])
    assert opened.js("document.title") == "Role grants and their approvals"
    assert opened.js("document.querySelectorAll('img, script, iframe').length") == before == 1
    assert checked(opened, hostile, tmp_path, simulator.KEY.verifier)["state"] == "pass"


def test_a_record_forged_as_one_with_fields_left_out_does_not_pass(opened: Browser, tmp_path: Path) -> None:
    """Anyone can put a leaf's hash in the place of its blind and write another record there: the verdict stays open."""
    packet = Packet(sample())
    proof = json.loads(packet.files[f"{PROOF}/inclusion.jsonl"].split(b"\n")[0])
    line, blind = proof["lines"][0], bytes.fromhex(proof["blinds"][0])
    record = packet.files["data/events.jsonl"].split(b"\n")[line]
    leaf = sha256(b"\0" + blind + record).hexdigest()
    forged = json.loads(record)
    forged["event"]["context"]["note"] = "written by a forger"
    packet.proof(0, lambda value: value["blinds"].__setitem__(0, leaf))
    packet.lines("data/events.jsonl", lambda lines: [*lines[:line], canonical(forged), *lines[line + 1 :]])
    packet.json("data/packet.json", lambda value: value.update(redacted={"fields": ["context.ip"], "lines": [line]}))
    told = checked(opened, packet.fix().files, tmp_path)
    assert told["state"] == "open" and "fields were left out of 1 records" in told["text"]
    assert [row[1] for row in told["checks"]] == ["pass", "pass", "pass", "pass", "open", "pass"]


# --- the same as the other verifiers -------------------------------------------------------------------------

RUN = """(async (cases, key) => {
  const bytes = (text) => new Blob([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))]);
  const out = [];
  for (const changes of cases) {
    const files = new Map(window.base);
    for (const [name, data] of Object.entries(changes)) {
      if (data === null) files.delete(name); else files.set(name, bytes(data));
    }
    try {
      const checker = await new Checker(await openPacket([...files]), parseKeys(key)).run();
      out.push(Object.keys(checker.seen).map(Number));
    } catch (error) { out.push(String(error.message)); }
  }
  return out;
})"""


def ran(browser: Browser, base: Files, cases: list[Files], keys: tuple[VerifierKey, ...]) -> list[Any]:
    """The numbers of the checks that fail in the page, for each packet."""

    def text(data: bytes) -> str:
        return base64.b64encode(data).decode()

    whole = json.dumps({name: text(data) for name, data in base.items()})
    browser.js(
        f"void (window.base = Object.entries({whole}).map(([name, data]) =>"
        " [name, new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))])]))"
    )
    told: list[Any] = []
    for at in range(0, len(cases), 20):
        changes = [
            {name: text(data) for name, data in files.items() if base.get(name) != data}
            | dict.fromkeys(base.keys() - files.keys())
            for files in cases[at : at + 20]
        ]
        key = json.dumps("\n".join(map(str, keys)))
        told += browser.js(f"({RUN})({json.dumps(changes)}, {key})")
    return told


def differences(
    browser: Browser,
    base: Files,
    cases: Iterable[mutations.Case],
    keys: tuple[VerifierKey, ...],
) -> list[Any]:
    """The packets on which the page and `auditlib.packet.check` disagree."""
    named = list(cases)
    assert len(named) > 20
    found = ran(browser, base, [files for _, files in named], keys)
    pairs = [
        (name, sorted(fired(check(files, keys)) - {7}), ours) for (name, files), ours in zip(named, found, strict=True)
    ]
    assert sum(bool(theirs) for _, theirs, _ in pairs) > len(named) / 2
    return [pair for pair in pairs if pair[1] != pair[2] and not stricter(*pair)]


def stricter(name: str, theirs: list[int], ours: Any) -> bool:
    """Where packet.json has a value of another type (a list for a number), the page may find more, never nothing."""
    places = ("data/packet.json ('population', 'verdicts'", "data/packet.json ('population', 'actions'")
    return bool(theirs) or name.startswith(places) if name.startswith("data/packet.json (") and ours else False


def test_the_page_agrees_on_every_forgery(opened: Browser) -> None:
    """Every forgery of tests/test_packet.py and a third of its junk files, with every hash put right."""
    cases = mutations.forged_packets(sample())
    forged = list(islice(cases, len(forgeries.FORGERIES)))
    assert differences(opened, sample(), chain(forged, islice(cases, 0, None, THIRD)), (SAMPLE_KEY,)) == []


def test_the_page_agrees_on_moved_files_and_proofs(opened: Browser, small: Files) -> None:
    """Files removed, renamed, swapped, added; checkpoints of others; proofs too long or too short. The checkpoints all,
    of the rest a third."""
    keys = (simulator.KEY.verifier,)
    rest = islice(chain(mutations.moved_files(small), mutations.proof_parts(small)), 0, None, THIRD)
    assert differences(opened, small, chain(mutations.checkpoints(small, sample()), rest), keys) == []
    assert differences(opened, small, mutations.checkpoints(small, sample()), ()) == []


def changed(small: Files, every: int) -> Iterator[mutations.Case]:
    """Changed bytes and values, every so many of them."""
    names = [*mutations.PROOFS, *mutations.TAGS, mutations.EVENTS, mutations.PACKET]
    names += [forgeries.GRANTS, forgeries.EXCEPTIONS]
    cases = chain(
        mutations.changed_bytes(small, names, 130, 5),
        mutations.forged_values(small, mutations.PACKET, None, 17),
        mutations.forged_values(small, mutations.EVENTS, 1, 11),
        mutations.forged_values(small, mutations.PROOFS[1], 1, 11),
        mutations.forged_values(small, mutations.PROOFS[2], None, 3),
        mutations.forged_values(small, mutations.PROOFS[3], 0, 5),
        mutations.cells(small, 3),
    )
    return islice(cases, 0, None, every)


def test_the_page_agrees_on_changed_bytes_and_values(opened: Browser, small: Files) -> None:
    """Some of the changes on which the stand-alone verifier is compared."""
    assert differences(opened, small, changed(small, 10 if LONG else 20), (simulator.KEY.verifier,)) == []


# --- its parts -----------------------------------------------------------------------------------------------


def test_the_published_vectors_pass_and_a_broken_step_fails_them(opened: Browser) -> None:
    """RFC 8032, FIPS 180-4, RFC 6962; the constants are those of FIPS 180-4."""
    assert opened.js("selfTest()") is True
    assert opened.js("[(K_256[0] >>> 0).toString(16), (START_256[7] >>> 0).toString(16)]") == ["428a2f98", "5be0cd19"]
    assert opened.js("(CUBE_ROOTS[79]).toString(16)") == "6c44198c4a475817"
    assert opened.js("hex(sha512(utf8.encode('abc'))).slice(0, 16)") == "ddaf35a193617aba"
    assert opened.js("(() => { K_256[7] ^= 1; const told = selfTest(); K_256[7] ^= 1; return told; })()") is False


def test_hashes_are_those_of_web_crypto(opened: Browser) -> None:
    """Every length to 300 bytes, in one piece and in two."""
    script = """(async () => {
      const data = crypto.getRandomValues(new Uint8Array(300)), wrong = [];
      for (let n = 0; n <= 300; n++) {
        const part = data.subarray(0, n), native = hex(new Uint8Array(await crypto.subtle.digest('SHA-256', part)));
        const cut = Math.floor(n / 3);
        const pieces = sha256(part.subarray(0, cut), part.subarray(cut));
        if (hex(sha256(part)) !== native || hex(pieces) !== native) wrong.push(n);
        const other = hex(new Uint8Array(await crypto.subtle.digest('SHA-512', part)));
        if (hex(sha512(part)) !== other) wrong.push(-n);
      }
      return wrong;
    })()"""
    assert opened.js(script) == []


def test_signatures_are_those_of_web_crypto(opened: Browser) -> None:
    """Good ones, and each with one bit changed in the key, the signature or the message."""
    script = """(async () => {
      const pair = await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify']), wrong = [];
      const key = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
      for (let n = 0; n < 40; n++) {
        const parts = [key.slice(), null, crypto.getRandomValues(new Uint8Array(n + 1))];
        parts[1] = new Uint8Array(await crypto.subtle.sign('Ed25519', pair.privateKey, parts[2]));
        if (n % 4) { const part = parts[n % 4 - 1]; part[n % part.length] ^= 1 << (n % 8); }
        const native = await secondOpinion({key: {public: parts[0]}, signature: parts[1], message: parts[2]});
        if ((native ?? false) !== ed25519(...parts) || ed25519(...parts) !== (n % 4 === 0)) wrong.push(n);
      }
      return wrong;
    })()"""
    assert opened.js(script) == []


def test_it_works_where_there_is_no_worker_and_no_web_crypto(opened: Browser, tmp_path: Path) -> None:
    """Then it checks in the page, with its own Ed25519 alone, and says so."""
    opened.js("void (window.Worker = class { constructor() { throw new Error(); } })")
    opened.js("void Object.defineProperty(crypto, 'subtle', {value: undefined})")
    told = checked(opened, sample(), tmp_path)
    assert told["state"] == "pass" and "Web Crypto has no Ed25519" in told["all"]
    forged = Packet(sample()).edit(f"{PROOF}/checkpoint", lambda note: note[:-5] + b"AAA=\n")
    assert checked(opened, forged.files, tmp_path)["state"] == "fault"


def test_a_million_hashes_are_made_while_somebody_waits(opened: Browser) -> None:
    """A batch of 2^20 rows, whole: every leaf and node is hashed in the page, and the root is Python's."""
    script = """(() => {
      const size = 2 ** 20, entry = new Uint8Array(4), indexes = [], leaves = [];
      for (let n = 0; n < size; n++) {
        new DataView(entry.buffer).setUint32(0, n);
        indexes.push(n);
        leaves.push(leafHash(entry));
      }
      return hex(merkleRoot(size, indexes, leaves, []));
    })()"""
    from auditlib.formats.merkle import leaf_hash, root

    assert opened.js(script) == root([leaf_hash(number.to_bytes(4, "big")) for number in range(2**20)]).hex()


CSV_TEXTS = [
    *(
        "a,b\r\n1,2\r\n",
        "a\n\n",
        "a,b\n1,\n",
        ",\n,\n",
        '"a ""b""",c\n',
        '"a\r\nb",c',
        'a"b,c\n',
        '"a"b\n',
        '"a',
        "",
        "\n",
    ),
    *("a\rb\r", "\ufeffa,b\n", "a,b", '"",""\n', "a,\u2028b\n", ",", '"a",\r\n', "a\n\r\n"),
]


def test_tables_are_read_as_python_reads_them(opened: Browser) -> None:
    """Quotes, empty cells, every end of line, and what is no table."""
    import csv
    import io

    def theirs(text: str) -> Any:
        try:
            return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))
        except csv.Error:
            return None

    script = "(texts) => texts.map((text) => { try { return readCsv(utf8.encode(text)); } catch { return null; } })"
    assert opened.js(f"({script})({json.dumps(CSV_TEXTS)})") == [theirs(text) for text in CSV_TEXTS]


def test_the_outcome_can_be_printed(opened: Browser, tmp_path: Path) -> None:
    """A4 with the numbers of its pages; the outcome is on paper, the buttons are not."""
    checked(opened, sample(), tmp_path)
    opened.choose("#zip", [tmp_path / "packet.zip"])
    opened.js(OUTCOME)
    opened.call("Emulation.setEmulatedMedia", media="print")
    shown = opened.js("[...document.querySelectorAll('#verdict, #tool, nav')].map(n => getComputedStyle(n).display)")
    opened.call("Emulation.setEmulatedMedia", media="")
    assert sorted(shown) == ["block", "none", "none"]
    pdf = base64.b64decode(opened.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
    assert pdf.startswith(b"%PDF") and 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 16


def test_it_is_worked_by_keyboard(opened: Browser) -> None:
    """Tab leads to the key, its file, the zip, the folder and the button, each with a ring that can be seen."""
    opened.js("document.getElementById('key').focus()")
    seen = []
    for _ in range(5):
        seen.append(opened.js("document.activeElement.id"))
        assert opened.js("getComputedStyle(document.activeElement).outlineStyle") != "none"
        for kind in ("keyDown", "keyUp"):
            opened.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert seen == ["key", "keyfile", "zip", "folder", "again"]


def test_the_code_of_the_page_can_neither_send_nor_run_what_it_reads() -> None:
    """No way to the network, none from text to code or HTML, in any of its three files."""
    folder = packets.ROOT / "auditlib" / "packet" / "templates"
    code = "".join((folder / name).read_text() for name in ("primitives.js", "checks.js", "page.js"))
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|sendBeacon|eval|importScripts|import|Function)\s*\(", code)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|setAttribute|localStorage|cookie", code)
    assert "</script" not in code and "<!--" not in code and code.isascii()


def directory(archive: bytes) -> int:
    """Where the central directory of a zip without a comment begins (APPNOTE 4.3.16)."""
    return int.from_bytes(archive[-6:-2], "little")


def test_a_zip_damaged_in_its_headers_never_passes_as_another_packet(opened: Browser, tmp_path: Path) -> None:
    """A bit of the directory, of the end and of the first headers: refused, red, or the same packet all the same."""
    path = tmp_path / "packet.zip"
    write_bag(sample(), path)
    whole = path.read_bytes()
    digest = sha256(sample()["tagmanifest-sha256.txt"]).hexdigest()
    give_key(opened, SAMPLE_KEY)
    states = []
    for at in [*range(directory(whole), len(whole), 131), *range(0, 60, 7), *range(len(whole) - 22, len(whole), 3)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        opened.choose("#zip", [path])
        told = outcome(opened)
        states.append(told["state"])
        assert told["state"] == "fault" or digest in told["all"], at
    assert states.count("fault") > len(states) / 2
