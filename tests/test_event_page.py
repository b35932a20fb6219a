"""The Event page and its proof: what is shown stays text, and what is proven is proven by whoever looks."""

from __future__ import annotations

import asyncio
import html
import json
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import reference
from browser import CHROMIUM, Browser
from simulator import EVIL_KEY, KEY, START, record
from simulator import Trail as Simulated

import auditlib
from auditlib.dashboard.markup import theme
from auditlib.dashboard.pages import event as event_page
from auditlib.dashboard.pages.event import SCRIPTS, look, markup, page
from auditlib.dashboard.sentence import sentence
from auditlib.dashboard.visit import address
from auditlib.engagements import Engagement, check_engagement, in_words, read_engagements
from auditlib.errors import AuditlibError, MismatchError, UnavailableError
from auditlib.formats.batch import encode_batch, parse_batch
from auditlib.formats.columns import SLICE, table_of
from auditlib.formats.event import Actor, Record, Target, record_bytes
from auditlib.formats.times import DAY, format_time
from auditlib.scoped import RefusedError, ScopedTrail
from auditlib.scoped.proof import Proof, Step, check_proof, in_batch
from auditlib.trail import Trail

ROOT = Path(__file__).parent.parent
GRANT = "01KF3FANZ0W72C1S30C3PFK50S"  # a role.grant of the sample trail
BATCHES = [1, 300, 2, 600, 5, 257, 64]  # records; odd shapes around the stored subtrees of 256
HOSTILE = {
    "script": "<script>window.owned=1</script><img src=x onerror='window.owned=1'>",
    "template": "</template></textarea></style></pre><b data-check-proof>x</b>{{ 7*7 }}",
    "turned": "admin\u202egro.live@nimda\u2066",
    "long": "\u0416" * 4_000 + "unbroken" * 900,
    "hebrew": "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "quote": "\"'`\\ \x7f\u200b\u2028",
}
POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-x'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def hostile(number: int) -> Record:
    """A record whose every free text is an attack."""
    texts = list(HOSTILE.values())
    made = record(number, context={**HOSTILE, "granted_role": HOSTILE["script"], texts[1]: texts[0]})
    actor = Actor(texts[0] + texts[2], texts[1], "user")
    event = msgspec.structs.replace(made.event, action="role.grant", actor=actor, target=Target(texts[2], "user"))
    return msgspec.structs.replace(made, event=event)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Trail, list[list[Record]]]]:
    """A trail of batches of uneven size, and their records; the last record of the fifth is hostile."""
    simulated = Simulated(tmp_path_factory.mktemp("event")).create()
    batches, start = [], 0
    with simulated.sealer() as sealer:
        for size in BATCHES:
            batches.append([record(number) for number in range(start, start + size)])
            if size == 5:
                batches[-1][-1] = hostile(start + 4)
            sealer.add(batches[-1])
            sealer.flush()
            start += size
    with auditlib.open(simulated.vault.url, keys=KEY.verifier) as trail:
        yield trail, batches


@pytest.fixture(scope="module")
def sample() -> Iterator[Trail]:
    """The sample trail, with its key."""
    folder = ROOT / "data-samples"
    with auditlib.open(folder / "vault", keys=folder / "sample.vkey") as trail:
        yield trail


def engagement(trail: Trail, **changes: Any) -> Engagement:
    given = {
        "id": "e1",
        "identity": "ines@auditor.example",
        "role": "auditor",
        "vaults": (trail.origin,),
        "valid_from": format_time(START),
        "valid_until": format_time(START + 30 * DAY),
        "set_by": "maria",
        "set_at": format_time(START),
    }
    return check_engagement(Engagement(**{**given, **changes}))


def scoped(trail: Trail, **changes: Any) -> ScopedTrail:
    held = engagement(trail, **changes)
    return ScopedTrail(trail, lambda: held, lambda: START + 5 * DAY)


def link(page: str, **arguments: str) -> str:
    return address(page, arguments)


def shown(trail: Trail, event_id: str, **changes: Any) -> str:
    """The page of an event under such an engagement."""
    seen = look(scoped(trail, **changes), event_id, None, changes.get("redact", ()))
    assert seen is not None
    return str(markup(seen, trail.catalog, link))


# --- the proof -----------------------------------------------------------------------------------------------------


def test_a_proof_is_the_slow_references_audit_path(sealed: tuple[Trail, list[list[Record]]]) -> None:
    """For records at the edges of every batch and some between: RFC 6962's path, root and leaf, slowly."""
    trail, batches = sealed
    draw, view = random.Random(11), scoped(trail)
    seals = [entry.data for entry in trail.history.seals]
    for sequence, records in enumerate(batches):
        blind = parse_batch(trail.files.read(trail.seals[sequence])).blind
        entries = [reference.entry(blind, row, reference.canonical_record(each)) for row, each in enumerate(records)]
        for row in {0, len(records) - 1, *draw.sample(range(len(records)), min(4, len(records)))}:
            proof = view.proof(records[row].event.event_id)
            assert proof is not None and proof.record is not None and proof.blind is not None
            assert bytes.fromhex(proof.blind) + proof.record.encode() == entries[row]
            assert proof.leaf == reference.sha256(b"\x00" + entries[row]).hex()
            assert [step.hash for step in proof.path] == [node.hex() for node in reference.path(row, entries)]
            assert proof.root == reference.mth(entries).hex()
            assert proof.seal.encode() == seals[sequence]
            assert [step.hash for step in proof.seal_path] == [node.hex() for node in reference.path(sequence, seals)]
            assert proof.checkpoint_root == reference.mth(seals).hex()
            assert proof.checkpoint.encode() == trail.history.checkpoint_data and proof.confirmed
            check_proof(proof, [KEY.verifier])


def test_a_proof_in_a_batch_of_several_row_groups() -> None:
    """Reading one row group and 256 leaves gives what reading all of the batch gives, on both sides of every edge."""
    encoded = encode_batch(table_of([record(number) for number in range(SLICE + 400)]), 0, bytes(range(32)))
    whole = parse_batch(encoded.data)
    for row in (0, 255, 256, SLICE - 1, SLICE, SLICE + 255, SLICE + 256, SLICE + 399):
        text, blind, hashes = in_batch(encoded.data, row)
        assert ([text], [blind]) == (whole.texts([row]), whole.blinds([row]))
        assert hashes == whole.proof([row], encoded.batch.root)


def test_a_proof_of_another_event_fails(sealed: tuple[Trail, list[list[Record]]]) -> None:
    """Every part of one proof put into another: the neighbour in the batch, and an event of another batch."""
    trail, batches = sealed
    view, taken = scoped(trail), [batches[1][7], batches[1][8], batches[3][599]]
    proofs = [view.proof(each.event.event_id) for each in taken]
    for one in proofs:
        for other in proofs:
            for name in ("record", "blind", "leaf", "path", "root", "seal", "seal_leaf", "seal_path"):
                assert one is not None and other is not None
                if getattr(one, name) != getattr(other, name):
                    with pytest.raises(AuditlibError):
                        check_proof(msgspec.structs.replace(one, **{name: getattr(other, name)}), [KEY.verifier])


def flipped(proof: Proof, draw: random.Random) -> Iterator[tuple[str, Proof]]:
    """The proof with one byte of one part changed, for every part and hash of it."""
    for name in ("record", "blind", "leaf", "root", "seal", "seal_leaf", "checkpoint_root", "checkpoint"):
        text = getattr(proof, name)
        at = draw.randrange(len(text))
        new = next(c for c in "0123456789abcdef" if c != text[at])
        yield name, msgspec.structs.replace(proof, **{name: text[:at] + new + text[at + 1 :]})
    for name in ("path", "seal_path"):
        for number, step in enumerate(getattr(proof, name)):
            other = Step("left" if step.side == "right" else "right", step.hash)
            byte = Step(step.side, ("1" if step.hash[0] != "1" else "2") + step.hash[1:])
            for new_step in (other, byte):
                steps = [*getattr(proof, name)]
                steps[number] = new_step
                yield name, msgspec.structs.replace(proof, **{name: tuple(steps)})
            yield name, msgspec.structs.replace(proof, **{name: getattr(proof, name)[:number]})


def test_one_changed_byte_fails(sealed: tuple[Trail, list[list[Record]]]) -> None:
    """Whatever byte of a proof is changed, whatever side of a path: it is found, with this key or another."""
    trail, batches = sealed
    proof, draw = scoped(trail).proof(batches[3][599].event.event_id), random.Random(3)
    assert proof is not None
    tried = [change for _ in range(12) for change in flipped(proof, draw)]
    assert len(tried) > 300
    for _, changed in tried:
        with pytest.raises(AuditlibError):
            check_proof(changed, [KEY.verifier])
    with pytest.raises(MismatchError, match="trusted key"):
        check_proof(proof, [EVIL_KEY.verifier])


NARROW: list[dict[str, Any]] = [
    {"kinds": ("grant",)},
    {"actions": ("role.*",)},
    {"targets": ("user:*",)},
    {"streams": ("billing-api",)},
    {"since": "2026-03-01"},
    {"until": "2026-12-01"},
    {"redact": ("context.ip",)},
]


@pytest.mark.parametrize("limits", NARROW, ids=lambda limits: next(iter(limits)))
def test_a_narrow_engagement_gets_no_proof_unless_it_says_so(
    sealed: tuple[Trail, list[list[Record]]], limits: dict[str, Any]
) -> None:
    """A seal counts what lies outside; the refusal is the same for an event that is there and for one that is not."""
    trail, batches = sealed
    there = batches[1][2].event.event_id  # a grant of the billing API
    view, told = scoped(trail, **limits), set()
    for event_id in (there, "nobody", "no id\n"):
        with pytest.raises(RefusedError, match="counts all its events") as refused:
            view.proof(event_id)
        told.add(str(refused.value))
    assert len(told) == 1 and "maria" in told.pop()
    assert view.checked(there) is not None and view.checked("nobody") is None
    allowed = scoped(trail, proofs=True, **limits)
    assert allowed.proof(there) is not None and allowed.proof("nobody") is None
    words = " ".join(in_words(engagement(trail, proofs=True, **limits)))
    assert "Proofs may be seen: they show the seal of a batch, which counts all its events." in words
    assert "Proofs" not in " ".join(in_words(engagement(trail, **limits)))


def test_the_command_writes_it_down_and_says_it(tmp_path: Path) -> None:
    """`engagement add --proofs`: in the file, in words, and off unless it was asked for."""
    path = tmp_path / "engagements.toml"
    given = ["--identity", "ines", "--vault", "main", "--engagements", str(path)]
    given += ["--valid-from", "2026-01-01T00:00:00Z", "--valid-until", "2999-01-01T00:00:00Z"]
    said = []
    for name, more in (("e1", ["--proofs"]), ("e2", []), ("e3", ["--no-proofs"])):
        command = [sys.executable, "-m", "auditlib.cli", "engagement", "add", name, *given, *more]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [each.proofs for each in read_engagements(path)] == [True, False, False]
    assert ["Proofs may be seen" in each for each in said] == [True, False, False]


def test_the_servers_own_check_tells_no_number(sealed: tuple[Trail, list[list[Record]]]) -> None:
    """What everybody is told of two events of one scope differs in nothing, wherever in the trail they stand."""
    trail, batches = sealed
    view = scoped(trail, kinds=("grant",))
    told = {view.checked(batches[n][row].event.event_id) for n, row in ((1, 2), (3, 3), (5, 1))}
    assert len(told) == 1
    (checked,) = told
    assert checked is not None and checked.confirmed and not checked.redacted and checked.keys == (str(KEY.verifier),)
    assert view.checked(batches[1][3].event.event_id) is None  # a login


def test_a_record_with_fields_left_out_discloses_neither_text_nor_blind(
    sealed: tuple[Trail, list[list[Record]]],
) -> None:
    """Its place is proven by the leaf alone, from which without the blind nothing can be guessed."""
    trail, batches = sealed
    grant, login = batches[1][2].event, batches[1][3].event
    view = scoped(trail, redact=("context.ip",), proofs=True)
    proof = view.proof(grant.event_id)
    assert proof is not None and proof.record is None and proof.blind is None
    check_proof(proof, [KEY.verifier])
    page = shown(trail, grant.event_id, redact=("context.ip",), proofs=True)
    whole = scoped(trail).proof(grant.event_id)
    assert whole is not None and whole.blind is not None
    assert whole.blind not in page and grant.context["ip"] not in page
    assert "no proof of what this record says" in page
    other = view.proof(login.event_id)
    assert other is not None and other.record is not None  # it has no such field: it is whole
    check_proof(other, [KEY.verifier])


def test_a_batch_that_leads_nowhere_is_told_without_its_place(tmp_path: Path) -> None:
    """A record that the seal's root does not cover: a fault on the page, and no number of the batch or the row."""
    simulated = Simulated(tmp_path).create()
    with simulated.sealer() as sealer:
        sealer.add([record(number) for number in range(40)])
        sealer.flush()
    with auditlib.open(simulated.vault.url, keys=KEY.verifier) as trail:
        view, event_id = scoped(trail, kinds=("grant",)), record(3).event.event_id
        seal = trail.seals[0]
        altered = msgspec.structs.replace(seal, batch=msgspec.structs.replace(seal.batch, root="0" * 64))
        trail.seals = [altered, *trail.seals[1:]]
        with pytest.raises(MismatchError, match="does not lead to the checkpoint") as fault:
            view.checked(event_id)
        assert not re.search(r"rows|batches/|\d{2,}", str(fault.value))
        seen = look(view, event_id, None)
        assert seen is not None and seen.fault is not None
        assert "✗" in str(markup(seen, trail.catalog, link))


# --- what is said ---------------------------------------------------------------------------------------------------


def said(trail: Trail, **event: Any) -> str:
    base = {
        "action": "role.grant",
        "actor": {"id": "u_8842", "session": None, "type": "user"},
        "context": {"granted_role": "admin"},
        "event_id": "x",
        "occurred_at": "2026-01-08T14:32:07.250000Z",
        "outcome": "success",
        "target": {"id": "u_9013", "type": "user"},
    }
    return " ".join(part.text for part in sentence({**base, **event}, trail.catalog))


def test_the_sentence_says_what_the_catalogue_says_and_no_more(sample: Trail) -> None:
    """Grants, approvals, what was tried in vain, what the catalogue does not know, and what it cannot read."""
    start = "On 8 January 2026 at 14:32:07 UTC user u_8842"
    assert said(sample) == f"{start} granted admin to user u_9013 (outcome: success)."
    denied = f"{start} tried to grant admin to user u_9013 (outcome: denied)."
    assert said(sample, outcome="denied") == denied
    several = said(sample, context={"granted_role": ["a", "b", {"c": 1}]})
    assert several == f"{start} granted a and b to user u_9013 (outcome: success)."
    many = said(sample, context={"granted_role": list("abcdefgh")})
    assert "granted a and b and c and d and e and 3 more to" in many
    assert "did role.grant on user u_9013" in said(sample, context={})
    request = {"entitlements": ["admin"], "subjects": ["u_7"], "request_id": "R", "requester": "u_7"}
    assert "asked for admin for u_7 (" in said(sample, action="access.request", context=request)
    target = {"id": "R", "type": "access-request"}
    approved = said(sample, action="access.approve", context=request, target=target)
    assert "approved access-request R for admin to u_7 (" in approved
    assert "tried to make the change config.change on user" in said(sample, action="config.change", outcome="failure")
    assert "signed in (" in said(sample, action="user.login", target={"id": "u_8842", "type": "user"})
    assert "signed in as user u_9013" in said(sample, action="user.login")
    assert "tried to do unlisted.verb on user u_9013 (outcome: failure)" in said(
        sample, action="unlisted.verb", outcome="failure"
    )


def test_every_action_of_the_sample_is_a_sentence(sample: Trail) -> None:
    """No action of the trail, and none of the catalogue, fails."""
    frame = sample.events().df().drop_duplicates(["action", "outcome"])
    view = scoped(sample)
    for event_id in frame.event_id:
        found = view.event(event_id)
        assert found is not None
        parts = sentence(msgspec.json.decode(found.record)["event"], sample.catalog)
        assert all(part.text for part in parts) and parts[-1].text.startswith("(outcome")
    assert sample.catalog is not None
    for action in sample.catalog.actions:
        assert said(sample, action=action, context={"subjects": {"odd": [None]}}).startswith("On 8 January")


# --- the page as HTML -----------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_every_field_its_proof_and_what_is_related(sample: Trail) -> None:
    """A grant of the sample: words first, exact times with their zone, the hashes in full, links that can be shared."""
    page = shown(sample, GRANT)
    text = re.sub(r"\s+", " ", Elements(page).text)
    assert "On 16 January 2026 at 13:18:46 UTC user u_1008 granted admin to user u_1011 (outcome: success)." in text
    assert "2026-01-16 13:18:46.240000 UTC" in text and "2026-01-16 13:18:46.447000 UTC" in text
    proof = scoped(sample).proof(GRANT)
    assert proof is not None and proof.record is not None
    for told in (proof.leaf, proof.root, proof.checkpoint_root, proof.blind, *(step.hash for step in proof.path)):
        assert str(told) in text
    assert html.escape(proof.record, quote=False).replace('"', "&#34;") in page
    assert "The same request" in text and "access.approve" in text and "The same session" in text
    hrefs = [str(attrs["href"]) for tag, attrs in Elements(page).found if tag == "a"]
    assert hrefs and all(re.fullmatch(r"event\?id=\w+&source=[\w.%-]+", href) for href in hrefs)


def test_what_the_page_holds_back_under_a_narrow_engagement(sample: Trail) -> None:
    """Neither path nor seal nor blind: the server's word, and why there is no more."""
    page = shown(sample, GRANT, kinds=("grant",), redact=("actor.session",))
    proof = scoped(sample).proof(GRANT)
    assert proof is not None and proof.blind is not None
    for told in (proof.blind, proof.leaf, proof.root, proof.seal_leaf, "s_e1631a", "sealed_at", "data-check-proof"):
        assert told not in page
    assert proof.checkpoint_root in page and "counts all its events" in page and "Ask maria" in page
    assert "access.approve" not in page  # outside the scope: not even as a related event


def test_hostile_contents_stay_text_on_the_page(sealed: tuple[Trail, list[list[Record]]]) -> None:
    """No element, attribute or link is made by a record, and nothing in it turns the line around."""
    trail, batches = sealed
    bad = batches[4][-1]
    page, plain = shown(trail, bad.event.event_id), shown(trail, batches[1][2].event.event_id)
    found = Elements(page).found
    assert {tag for tag, _ in found} <= {tag for tag, _ in Elements(plain).found}
    assert not any(
        name.startswith("on") or "owned" in str(value) for _, attrs in found for name, value in attrs.items()
    )
    assert "{{ 7*7 }}" in page  # and not 49
    visible = re.sub(r"<template.*?</template>", "", page, flags=re.DOTALL)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\u2028]", visible)
    (exact,) = re.findall(r"<template data-record>(.*?)</template>", page, flags=re.DOTALL)
    assert html.unescape(exact).encode() == record_bytes(bad)


# --- the page of a visit -------------------------------------------------------------------------------------------


class Kept:
    """A recorder that keeps what it is told, or cannot."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.told = fails, list[tuple[Any, ...]]()

    def viewed(self, *told: Any) -> str:
        if self.fails:
            raise UnavailableError("the event could not be kept.")
        self.told.append(told)
        return "id"


def visiting(trail: Trail, arguments: dict[str, str], recorder: Kept, **changes: Any) -> Any:
    """A visit that holds a real ScopedTrail."""
    pool = ThreadPoolExecutor(1)

    async def run(work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, work)

    held = engagement(trail, **changes)
    return SimpleNamespace(
        identity="ines",
        signin="s_1",
        arguments=arguments,
        desk=SimpleNamespace(recorder=recorder),
        engagement=lambda: held,
        trail=lambda: scoped(trail, **changes),
        catalog=lambda: trail.catalog,
        vault=lambda: "main",
        run=run,
        link=link,
    )


def test_a_view_is_recorded_before_it_is_shown_and_not_shown_otherwise(sample: Trail) -> None:
    """Who, what, under which engagement; and where that cannot be kept, nothing."""
    kept = Kept()
    visit = visiting(sample, {"id": GRANT}, kept)
    (pane,) = asyncio.run(page(visit))
    assert "granted" in pane.object
    assert kept.told == [("ines", "s_1", visit.engagement(), "main", "event", GRANT)]
    with pytest.raises(UnavailableError):
        asyncio.run(page(visiting(sample, {"id": GRANT}, Kept(fails=True))))
    view = event_page.open(visit)
    asyncio.run(view.show())
    view.clear()


def test_outside_the_scope_and_not_there_are_the_same_page(sample: Trail) -> None:
    """Only the id that was asked for differs; both are recorded."""
    told = []
    for event_id in (GRANT, "01KF3FANZ0W72C1S30C3PFK50T", "x" * 1900, "<script>"):
        kept = Kept()
        (pane,) = asyncio.run(page(visiting(sample, {"id": event_id}, kept, kinds=("login",))))
        told.append(str(pane.object).replace(html.escape(event_id), "ID"))
        assert len(kept.told) == 1
    assert len(set(told)) == 1 and "the same of both" in told[0]
    kept = Kept()
    (pane,) = asyncio.run(page(visiting(sample, {"vault": "<b>"}, kept)))
    assert "Choose an event" in pane.object and not kept.told and "<b>" not in pane.object


# --- in a browser --------------------------------------------------------------------------------------------------

FRAME = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Event</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"><link rel="stylesheet" href="assets/theme.css">
<script src="assets/event.js" defer></script><script src="assets/harness.js" defer></script></head><body>
<main id="page"><h1>Event</h1><div id="root"></div></main>"""
HARNESS = """"use strict"; // as Panel does it: a pane inside the shadow root of a column's shadow root
(async () => {
  const outer = document.getElementById("root").attachShadow({ mode: "open" });
  outer.innerHTML = "<div id='pane'></div>";
  const inner = outer.getElementById("pane").attachShadow({ mode: "open" });
  inner.innerHTML = `<style>${await (await fetch("assets/theme.css")).text()}</style><div id="html"></div>`;
  inner.getElementById("html").innerHTML = await (await fetch("pane" + location.search)).text();
  window.pane = inner;
})();"""


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[str, dict[str, str]]]:
    """A server on this machine with the page's policy, and the panes that it shows by name."""
    panes: dict[str, str] = {}
    static = Path(event_page.__file__).parent.parent / "static"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            name = path.rpartition("/")[2]
            files = {**SCRIPTS, **{each: static / each for each in ("event.js", "event_check.js")}}
            kind = "text/javascript" if name.endswith(".js") else "text/css" if name.endswith(".css") else "text/html"
            told = {"page": FRAME, "harness.js": HARNESS, "theme.css": theme(), "pane": panes.get(query)}.get(name)
            body = files[name].read_text() if name in files else told
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/page", panes
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for the tests of a module."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian package `chromium`)")
    driven = Browser(tmp_path_factory.mktemp("profile"))
    driven.window(1200)
    yield driven
    driven.close()


def visit_pane(browser: Browser, site: tuple[str, dict[str, str]], name: str, markup: str) -> None:
    address, panes = site
    panes[name] = markup
    browser.open(f"{address}?{name}")
    browser.wait("window.pane && pane.querySelector('[data-event]') !== null")


def press(browser: Browser, key: str = "") -> tuple[str, list[tuple[str, str]], str]:
    """Press the button -> the state, each step's (number, state), and all that is said."""
    browser.js(
        f"pane.querySelector('[data-key]').value = {json.dumps(key)}; pane.querySelector('[data-check-proof]').click()"
    )
    state = browser.wait("(s => s && s !== 'busy' ? s : null)(pane.querySelector('[data-outcome]').dataset.state)")
    steps = browser.js("[...pane.querySelectorAll('.steps > li')].map((li) => li.className)")
    text = browser.js("pane.querySelector('[data-outcome]').innerText")
    browser.js("delete pane.querySelector('[data-outcome]').dataset.state")
    return str(state), [(str(number), each) for number, each in enumerate(steps, 1)], str(text)


def change(browser: Browser, name: str, text: str) -> None:
    browser.js(f"pane.querySelector('template[{name}]').content.textContent = {json.dumps(text)}")


def test_the_browser_goes_the_way_again(sample: Trail, browser: Browser, site: tuple[str, dict[str, str]]) -> None:
    """With the auditor's key every step holds; without one the last stays open and says whose key was used."""
    visit_pane(browser, site, "grant", shown(sample, GRANT))
    key, proof = (ROOT / "data-samples" / "sample.vkey").read_text(), scoped(sample).proof(GRANT)
    state, steps, text = press(browser, key)
    assert (state, [each for _, each in steps]) == ("pass", ["pass"] * 6)
    assert proof is not None
    for told in (proof.leaf, proof.root, proof.seal_leaf, proof.checkpoint_root):
        assert text.count(told) >= 2  # computed, and stated
    assert browser.js("pane.activeElement.className") == "verdict pass"
    state, steps, text = press(browser)
    assert (state, steps[5][1]) == ("open", "open") and "this server names" in text and key.strip() in text
    state, _, text = press(browser, str(EVIL_KEY.verifier))
    assert state == "fault" and "no signature by a trusted key" in text
    state, steps, text = press(browser, "nonsense")
    assert state == "fault" and not steps and "The key cannot be used" in text
    assert not browser.complaints()
    assert all("127.0.0.1" in asked for asked in browser.asked())


def test_any_changed_byte_turns_its_step_red(sample: Trail, browser: Browser, site: tuple[str, dict[str, str]]) -> None:
    """Each part in turn: the step that it belongs to is the first that is named."""
    visit_pane(browser, site, "flip", shown(sample, GRANT))
    key, proof = (ROOT / "data-samples" / "sample.vkey").read_text(), scoped(sample).proof(GRANT)
    assert proof is not None and proof.record is not None
    first = {"record": 1, "blind": 1, "leaf": 1, "path": 2, "root": 2, "seal": 3, "seal_leaf": 4, "seal_path": 5}
    first |= {"checkpoint_root": 5, "checkpoint": 6}
    for name, changed in flipped(proof, random.Random(5)):
        change(browser, "data-record", changed.record or "")
        change(browser, "data-proof", msgspec.json.encode(msgspec.structs.replace(changed, record=None)).decode())
        state, steps, text = press(browser, key)
        red = [int(number) for number, each in steps if each == "fault"]
        expected = {first[name], 4} if name == "seal" else {first[name]}  # what is no seal any more, or says the same
        assert state == "fault" and red[0] in expected, (name, text)
        assert f"Step {red[0]} does not hold" in text
    change(browser, "data-proof", "{")
    assert press(browser, key)[0] == "fault"
    change(browser, "data-proof", '{"path": 1}')
    assert press(browser, key)[0] == "fault"
    assert not browser.complaints()


def test_a_record_with_fields_left_out_is_never_said_to_hold(
    sample: Trail, browser: Browser, site: tuple[str, dict[str, str]]
) -> None:
    """Its first step stays open and says why, also with the auditor's key."""
    visit_pane(browser, site, "cut", shown(sample, GRANT, redact=("actor.session",), proofs=True))
    state, steps, text = press(browser, (ROOT / "data-samples" / "sample.vkey").read_text())
    assert (state, [each for _, each in steps]) == ("open", ["open", *["pass"] * 5])
    assert "what it says cannot" in text


def test_a_hostile_record_is_checked_and_runs_nothing(
    sealed: tuple[Trail, list[list[Record]]], browser: Browser, site: tuple[str, dict[str, str]]
) -> None:
    """It proves as any other, keeps within the page at 390 px, and what is copied is its exact bytes."""
    trail, batches = sealed
    bad = batches[4][-1]
    visit_pane(browser, site, "hostile", shown(trail, bad.event.event_id))
    state, steps, _ = press(browser, str(KEY.verifier))
    assert (state, [each for _, each in steps]) == ("pass", ["pass"] * 6)
    assert browser.js("window.owned === undefined && pane.querySelectorAll('img, script').length === 0")
    assert browser.js("pane.querySelectorAll('[data-check-proof]').length") == 1
    browser.js("navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); }")
    browser.js("pane.querySelector('[data-copy-record]').click()")
    assert str(browser.wait("window.copied")).encode() == record_bytes(bad)
    browser.js("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    browser.js("pane.querySelector('[data-copy-record]').click()")
    assert browser.wait("pane.querySelector('textarea.exact')?.value") == record_bytes(bad).decode()
    for width in (390, 1200):
        browser.window(width)
        browser.js("pane.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert browser.js("document.documentElement.scrollWidth") <= width
    browser.window(1200)
    assert not browser.complaints()
