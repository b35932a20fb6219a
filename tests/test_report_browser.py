"""report.html in a real browser: nothing a record says runs, nothing can be fetched, and it can be read and printed."""

from __future__ import annotations

import base64
import html
import json
import re
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, FLAGS, Browser
from packets import sample
from test_evidence import MARK, hostile_packet

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian package `chromium`)")


def browse(page: Path, tmp_path: Path, *flags: str) -> bytes:
    """Open a page from file:// and do what the flags say."""
    assert CHROMIUM
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for the tests of a module."""
    driven = Browser(tmp_path_factory.mktemp("profile"))
    yield driven
    driven.close()


def page_of(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_bytes(data)
    return path


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_nothing_a_record_says_runs(tmp_path: Path) -> None:
    """The title is the template's own, and no element was made by a record."""
    dom = browse(page_of(hostile_packet()["data/report.html"], tmp_path), tmp_path, "--dump-dom").decode()
    assert "<title>Role grants and their approvals</title>" in dom
    assert not re.search(r"<(img|iframe|object|embed|link)\b", re.sub(r"(?s)<script>.*?</script>", "", dom))
    assert "&lt;script&gt;" + MARK in dom
    own = sample()["data/report.html"].decode()
    for tag in (r"<h1\b", r"<style\b", r"<svg\b", r"<meta\b", r"<script\b"):
        assert len(re.findall(tag, dom)) == len(re.findall(tag, own)), tag
    assert dom.rstrip().endswith("</html>") and "</footer>" in dom


def test_the_policy_lets_nothing_run_or_be_fetched(tmp_path: Path, listener: tuple[str, list[str]]) -> None:
    """Even elements put into the page by somebody else neither run nor ask the network for anything.

    The same elements in a page without the policy do both: the test would see it."""
    url, asked = listener
    injected = (
        f'<script>document.title="ran"</script><img src="{url}/img" onerror="this.alt=1">'
        f'<script src="{url}/script"></script><link rel="stylesheet" href="{url}/css">'
        f'<iframe src="{url}/frame"></iframe><object data="{url}/object"></object>'
        f'<style>body{{background:url({url}/background)}}@import "{url}/import";</style>'
        f'<video src="{url}/video" autoplay></video><svg><image href="{url}/svg"/></svg>'
        f'<link rel="prefetch" href="{url}/pre">'
    )
    report = sample()["data/report.html"].decode()
    for name, page, seen in (
        ("without", f"<!doctype html><title>x</title>{injected}", True),
        ("with", report.replace("<main>", f"<main>{injected}"), False),
    ):
        asked.clear()
        path = tmp_path / f"{name}.html"
        path.write_text(page)
        dom = browse(path, tmp_path, "--dump-dom", "--timeout=3000").decode()
        assert ("<title>ran</title>" in dom) is seen, name
        assert bool(asked) is seen, asked


def test_the_policy_stands_before_everything_else() -> None:
    """default-src 'none', one script and one style sheet by their hashes, and no second thoughts."""
    page = sample()["data/report.html"].decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy and policy.start() < page.index("<style")
    told = dict(part.strip().split(" ", 1) for part in policy[1].split(";"))
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        texts = re.findall(rf"(?s)<{tag}>(.*?)</{tag}>", page)
        assert len(texts) == page.count(f"<{tag}") == page.count(f"</{tag}") == 1
        assert told.pop(name) == f"'sha256-{base64.b64encode(sha256(texts[0].encode()).digest()).decode()}'"
    none = dict.fromkeys(("default-src", "base-uri", "form-action"), "'none'")
    assert told == none | {"img-src": "data:", "worker-src": "blob:"}
    markup = re.sub(r"(?s)<script>.*?</script>", "", page)
    assert not re.search(r"<link|<iframe|<img|@import|url\((?!#)|\sstyle=|\son[a-z]+=|javascript:", markup)
    assert "<!--" not in page and "\r" not in page  # a browser hashes what it parsed
    assert set(re.findall(r"https?://[^\s\"'<)]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }  # names, never fetched: the policy test sees to that


def test_the_pictures_keep_their_colours_without_styles(browser: Browser, tmp_path: Path) -> None:
    """What was a style is an attribute: the policy refuses nothing, marks are drawn, and each chart has a name."""
    browser.open(page_of(sample()["data/report.html"], tmp_path))
    assert browser.complaints() == []
    fills = browser.js("[...document.querySelectorAll('svg use')].map(n => getComputedStyle(n).fill)")
    assert {"rgb(0, 114, 178)", "rgb(213, 94, 0)"} <= set(fills)
    names = browser.js("[...document.querySelectorAll('svg[role=img]')].map(n => n.getAttribute('aria-label'))")
    assert len(names) == sample()["data/report.html"].count(b"<svg") and all(names)


def test_it_can_be_read_by_those_who_do_not_see_it(browser: Browser, tmp_path: Path) -> None:
    """One main, one h1, headings in order, captions and scopes, a name on every field, links that lead somewhere."""
    browser.open(page_of(sample()["data/report.html"], tmp_path))
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in tree if not node["ignored"]]
    assert roles.count("main") == roles.count("banner") == roles.count("contentinfo") == roles.count("navigation") == 1
    unnamed = [
        node["role"]["value"]
        for node in tree
        if not node["ignored"]
        and node["role"]["value"] in ("textbox", "button", "link", "image", "progressbar")
        and not node.get("name", {}).get("value")
    ]
    assert unnamed == []
    levels = browser.js("[...document.querySelectorAll('h1,h2,h3')].map(n => Number(n.tagName[1]))")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    bare = "[...document.querySelectorAll('.scroll > table')].filter(n => !n.closest('dd') && !n.caption).length"
    assert browser.js(bare) == 0
    assert browser.js("document.querySelectorAll('th:not([scope])').length") == 0
    links = "[...document.links].filter(n => !document.querySelector(n.getAttribute('href'))).length"
    assert browser.js(links) == 0
    assert browser.js("new Set([...document.querySelectorAll('[id]')].map(n => n.id)).size") == browser.js(
        "document.querySelectorAll('[id]').length"
    )


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_their_ground(dark: bool, browser: Browser, tmp_path: Path) -> None:
    """A contrast of 4.5 at least (WCAG 2.2, 1.4.3) for every text, in the light and in the dark."""
    browser.open(page_of(sample()["data/report.html"], tmp_path))
    browser.window(1200, dark=dark)
    assert browser.js(CONTRAST) == []
    browser.window(1200)


CONTRAST = """(() => {
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = c.map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const read = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (n) => { for (; n; n = n.parentElement) { const c = read(getComputedStyle(n).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  const poor = new Set();
  for (const n of document.querySelectorAll('body *')) {
    const says = [...n.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    if (n.closest('svg, script, [hidden], input') || !says) continue;
    const [a, b] = [light(read(getComputedStyle(n).color).slice(0, 3)), light(ground(n).slice(0, 3))];
    if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) poor.add(n.tagName + '.' + n.className);
  }
  return [...poor];
})()"""


MEASURE = """<script>addEventListener('load',()=>{const e=document.documentElement;
const wide=[...document.querySelectorAll('main *')].filter(n=>!n.closest('.scroll,figure,pre')
 && n.getBoundingClientRect().right>e.clientWidth+1).map(n=>n.tagName+'.'+n.className);
parent.postMessage(JSON.stringify({page:e.scrollWidth,view:e.clientWidth,wide:wide.slice(0,9),
 boxes:[...document.querySelectorAll('.scroll')].map(n=>[n.scrollWidth,n.clientWidth])}),'*')})</script>"""


def measured(page: str, width: int, tmp_path: Path) -> dict[str, Any]:
    """What MEASURE found, in a frame of this width: a headless window is at least 500 wide."""
    (tmp_path / "inner.html").write_text(page)
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<!doctype html><title>x</title><script>addEventListener('message',e=>document.title=e.data)</script>"
        f"<iframe src=inner.html style='border:0;width:{width}px;height:800px'></iframe>"
    )
    flags = ("--dump-dom", "--window-size=2700,900", "--timeout=5000", "--allow-file-access-from-files")
    title = re.search(r"<title>(.*?)</title>", browse(frame, tmp_path, *flags).decode())
    assert title
    told: dict[str, Any] = json.loads(html.unescape(title[1]))
    return told


@pytest.mark.parametrize("width", [320, 390, 1200, 2560])
@pytest.mark.parametrize("which", ["sample", "hostile"])
def test_the_page_fits_its_window(which: str, width: int, tmp_path: Path) -> None:
    """Nothing sticks out but what scrolls in its own box, long ids and ARNs included."""
    data = (sample() if which == "sample" else hostile_packet())["data/report.html"].decode()
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', MEASURE, data)  # to measure, let a script in
    told = measured(page, width, tmp_path)
    assert told["view"] == width
    assert told["page"] <= told["view"], told
    assert told["wide"] == []


def test_it_is_drawn_in_the_light_and_in_the_dark(tmp_path: Path) -> None:
    """Screenshots that are not one colour, and of another ground in the dark."""
    page = page_of(sample()["data/report.html"], tmp_path)
    grounds = []
    for flags in (("--window-size=1200,1400",), ("--window-size=1200,1400", "--force-dark-mode")):
        shot = tmp_path / "shot.png"
        browse(page, tmp_path, *flags, f"--screenshot={shot}")
        rows = pixels(shot.read_bytes())
        assert len({row[:3000] for row in rows}) > 50
        grounds.append(sum(rows[5][:3]))
    light, dark = grounds
    assert light > 700 and dark < 200


def test_it_prints(tmp_path: Path) -> None:
    """A PDF of some pages, with text, of A4."""
    out = tmp_path / "report.pdf"
    browse(page_of(sample()["data/report.html"], tmp_path), tmp_path, f"--print-to-pdf={out}", "--no-pdf-header-footer")
    data = out.read_bytes()
    assert data.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page\b", data))
    assert 2 <= pages <= 14
    boxes = {tuple(float(n) for n in box.split()) for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", data)}
    for _, _, width, height in boxes:
        assert abs(width - 595) < 2 and abs(height - 842) < 2


@pytest.mark.parametrize("which", ["sample", "hostile"])
def test_print_loses_no_column(which: str, tmp_path: Path) -> None:
    """On paper nothing scrolls: every table must fit the width of an A4 page."""
    data = (sample() if which == "sample" else hostile_packet())["data/report.html"].decode()
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', MEASURE, data)
    page = page.replace("@media print", "@media all").replace("!n.closest('.scroll,figure,pre')", "true")
    paper = round((210 - 28) / 25.4 * 96)  # CSS pixels between the margins
    told = measured(page, paper, tmp_path)
    assert told["wide"] == [] and told["page"] <= told["view"], told


def pixels(png: bytes) -> list[bytes]:
    """The rows of an 8-bit RGB or RGBA image, as RGB (PNG specification 9.2: filters)."""
    width, height, _, kind = struct.unpack(">IIBB", png[16:26])
    step = {2: 3, 6: 4}[kind]
    at, packed = 8, b""
    while at < len(png):
        size, name = struct.unpack(">I4s", png[at : at + 8])
        packed += png[at + 8 : at + 8 + size] if name == b"IDAT" else b""
        at += size + 12
    raw = zlib.decompress(packed)
    rows, above = [], bytes(width * step)
    for number in range(min(height, 400)):
        start = number * (width * step + 1)
        rule, line = raw[start], bytearray(raw[start + 1 : start + 1 + width * step])
        for place in range(len(line)):
            left = line[place - step] if place >= step else 0
            up, corner = above[place], above[place - step] if place >= step else 0
            if rule == 4:
                near = (
                    (abs(up - corner), 0, left),
                    (abs(left - corner), 1, up),
                    (abs(left + up - 2 * corner), 2, corner),
                )
                line[place] = line[place] + min(near)[2] & 255
            else:
                line[place] = line[place] + (0, left, up, (left + up) // 2)[rule] & 255
        above = bytes(line)
        rows.append(b"".join(above[p : p + 3] for p in range(0, len(above), step)))
    return rows
