"""The Access page: an administrator sees who looked, an analyst that somebody did, an auditor what is theirs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import panel as pn
import pytest
from simulator import CATALOG, KEY, START
from simulator import Trail as Simulated

import auditlib
from auditlib.client import Client
from auditlib.dashboard.journal import Entry
from auditlib.dashboard.markup import render
from auditlib.dashboard.pages.access import ACTS, SEALED, access, moment, open_for, page, state_of
from auditlib.dashboard.recorder import Recorder
from auditlib.engagements import Engagement, check_engagement
from auditlib.errors import UnavailableError
from auditlib.formats.event import Receipt, Record, parse_event
from auditlib.formats.times import DAY, format_time
from auditlib.scoped import RefusedError, ScopedTrail
from auditlib.trail import Trail

NOW = START + 5 * DAY
EVIL = "<script>window.owned=1</script>\u202e"
SESSION = "9b1d000000000000"


def engagement(role: str, **changes: Any) -> Engagement:
    fields: dict[str, Any] = {
        **{"id": f"{role}-2026", "identity": f"{role}@acme.example", "role": role, "vaults": (KEY.verifier.name,)},
        **{"valid_from": format_time(START), "valid_until": format_time(START + 30 * DAY)},
        **{"set_by": "maria", "set_at": format_time(START)},
    }
    return check_engagement(Engagement(**{**fields, **changes}))


AUDITOR, ANALYST, ADMIN = (engagement(role) for role in ("auditor", "analyst", "admin"))
OTHER = engagement("auditor", id="other-2026", identity="other@auditor.example")


class Desk:
    """A visit's surroundings: a real recorder, and a trail into which what it recorded is sealed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = Client(
            "http://127.0.0.1:1",
            "auditlib_x",
            spool=folder / "spool",
            durability="disk",
            problems=lambda _: None,
            now=lambda: NOW,
        )
        self.all = [AUDITOR, ANALYST, ADMIN, OTHER]
        self.recorder = Recorder(self.client, folder, lambda _: True)
        self.trail: Trail | None = None

    def seal(self) -> None:
        """Seal all that was recorded so far, as a collector and a sealer would."""
        files = sorted((self.folder / "spool").glob("*/*.log"))
        texts = [line.split(b" ", 2)[2] for file in files for line in file.read_bytes().splitlines()]
        simulated = Simulated(self.folder / "sealed").create()
        receipt = Receipt(format_time(NOW), "dashboard/7f3a9c01", None)
        with simulated.sealer() as sealer:
            sealer.add([Record(parse_event(text), receipt) for text in texts])
            sealer.flush()
        self.trail = auditlib.open(simulated.vault.url, keys=KEY.verifier)

    def visit(self, engagement: Engagement) -> Any:
        """A visit of this engagement's identity, as it stands in `all` now."""

        def current() -> Engagement:
            found = next((one for one in self.all if one.id == engagement.id and one.revoked_at is None), None)
            if found is None:
                raise RefusedError("You have no access here now.")
            return found

        def trail() -> ScopedTrail:
            assert self.trail is not None
            return ScopedTrail(self.trail, current, lambda: NOW)

        async def run(work: Callable[[], Any]) -> Any:
            return work()

        engagements = SimpleNamespace(all=lambda: tuple(self.all))
        desk = SimpleNamespace(recorder=self.recorder, engagements=engagements, now=lambda: NOW)
        shared = SimpleNamespace(desk=desk, run=run, trail=trail, engagement=current, vault=lambda: "main")
        return SimpleNamespace(**vars(shared), identity=engagement.identity, signin=SESSION)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.recorder.signed_in(AUDITOR.identity, "success", "password", session=SESSION)
    made.recorder.searched(AUDITOR.identity, SESSION, AUDITOR, "main", {"actor": EVIL, "kind": "needle"}, 37)
    made.recorder.searched(ANALYST.identity, SESSION, ANALYST, "main", {"kind": "grant"}, 4321)
    made.recorder.searched(OTHER.identity, SESSION, OTHER, "main", {"kind": "revoke"}, 5)
    yield made
    made.client.close(0)
    if made.trail is not None:
        made.trail.close()


def shown(desk: Desk, engagement: Engagement) -> str:
    """The page as HTML, its widgets left out."""
    panes = asyncio.run(page(desk.visit(engagement)))
    return "".join(str(each.object) for each in panes if isinstance(each, pn.pane.HTML))


def test_an_administrator_sees_every_engagement_and_act_and_no_search(desk: Desk) -> None:
    """Who, how often, when last; what was searched is not on the page until it is asked for."""
    html = shown(desk, ADMIN)
    for one in desk.all:
        assert one.id in html
        assert one.identity in html
    assert "4,321 rows" in html
    assert "needle" not in html
    assert "37 rows" not in html


def test_an_analyst_sees_that_it_happened_and_neither_scope_nor_rows_of_others(desk: Desk) -> None:
    """Who, when and which act; of engagements and results their own alone; and no button."""
    html = shown(desk, ANALYST)
    assert html.count(AUDITOR.identity) >= 2
    for hidden in (AUDITOR.id, OTHER.id, ADMIN.id, "needle", "vault:main", "<button"):
        assert hidden not in html
    assert [type(each) for each in asyncio.run(page(desk.visit(ANALYST)))] == [pn.pane.HTML]


def test_an_auditor_sees_their_own_acts_and_who_read_them(desk: Desk) -> None:
    """Not the other auditor, not the analyst; but that an administrator read their searches."""
    desk.recorder.disclosures(ADMIN.identity, SESSION, ADMIN, AUDITOR)
    desk.recorder.disclosures(ADMIN.identity, SESSION, ADMIN, OTHER)
    html = shown(desk, AUDITOR)
    assert "searches of an auditor read" in html
    assert html.count(f"engagement:{AUDITOR.id}") == 1
    for hidden in (OTHER.identity, OTHER.id, ANALYST.identity, ANALYST.id, ADMIN.id + "<"):
        assert hidden not in html.replace(f'data-label="Engagement">{ADMIN.id}<', "")


def test_the_page_itself_is_recorded_before_it_is_shown(desk: Desk) -> None:
    """Where that fails nothing is shown."""
    shown(desk, ANALYST)
    last = desk.recorder.journal.entries()[0]
    assert (last.action, last.identity) == ("evidence.view", ANALYST.identity)
    desk.client.close(0)
    with pytest.raises(UnavailableError):
        shown(desk, ADMIN)


def test_what_was_searched_is_shown_with_what_the_sealed_event_says_of_it(desk: Desk) -> None:
    """Sealed and unchanged; not sealed yet; changed in the file: three different signs, and text stays text."""
    desk.seal()
    path = desk.folder / "disclosed" / f"{AUDITOR.id}.jsonl"
    desk.recorder.searched(AUDITOR.identity, SESSION, AUDITOR, "main", {"kind": "later"}, 1)
    rows = open_for(desk.visit(ADMIN), AUDITOR.id)["rows"]
    assert [sealed for _, _, sealed in rows] == [SEALED[None], SEALED[True]]
    path.write_bytes(path.read_bytes().replace(b"needle", b"noodle"))
    assert [sealed for _, _, sealed in open_for(desk.visit(ADMIN), AUDITOR.id)["rows"]] == [SEALED[None], SEALED[False]]


def test_a_scope_that_leaves_the_commitment_out_is_not_called_a_forgery(desk: Desk) -> None:
    """What the reader may not see cannot be compared."""
    desk.seal()
    desk.all[2] = engagement("admin", redact=("context.withheld_sha256",))
    assert [sealed for _, _, sealed in open_for(desk.visit(ADMIN), AUDITOR.id)["rows"]] == [SEALED[None]]


def test_the_button_shows_hostile_text_as_text_and_records_the_reading(desk: Desk) -> None:
    """Through the widgets, as a browser does it."""
    desk.seal()
    panes = asyncio.run(page(desk.visit(ADMIN)))
    choice, button, answer = panes[2], panes[3], panes[4]
    assert isinstance(choice, pn.widgets.Select)
    assert isinstance(button, pn.widgets.Button)
    assert choice.options == [AUDITOR.id, OTHER.id]
    before = len(desk.recorder.journal.entries())
    click(button)
    html = str(answer.object)
    assert "needle" in html
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\u202e" not in html
    assert len(desk.recorder.journal.entries()) == before + 1


def click(button: Any) -> None:
    """What a click does on the server."""
    watchers = button.param.watchers["clicks"]["value"]
    (ours,) = [watcher.fn for watcher in watchers if asyncio.iscoroutinefunction(watcher.fn)]
    asyncio.run(ours(None))


@pytest.mark.parametrize("asked", ["no-such", "", None, 17, ["auditor-2026"], "other-2026", "admin-2026", "../journal"])
def test_whatever_the_browser_asks_for_only_what_is_theirs_is_opened(desk: Desk, asked: object) -> None:
    """An auditor who writes another's engagement into the widget learns and leaves nothing; nor does an analyst."""
    entries = desk.recorder.journal.entries()
    for reader in (AUDITOR, ANALYST):
        with pytest.raises(RefusedError, match=r"^There is nothing here that you may read\.$"):
            open_for(desk.visit(reader), asked)
    assert desk.recorder.journal.entries() == entries


def test_revoked_in_between_takes_effect_at_the_click(desk: Desk) -> None:
    """The page is open, the engagement is gone: the reading is refused and not recorded."""
    visit = desk.visit(ADMIN)
    panes = asyncio.run(page(visit))
    entries = desk.recorder.journal.entries()
    desk.all[2] = msgspec.structs.replace(ADMIN, revoked_at=format_time(NOW))
    click(panes[3])
    assert "You have no access here now." in str(panes[4].object)
    assert desk.recorder.journal.entries() == entries


def test_the_state_of_an_engagement_is_said_in_a_word() -> None:
    """Revoked is revoked whatever its time; the edges are those of `holds`."""
    start, end = AUDITOR.validity
    assert [state_of(AUDITOR, at) for at in (start - 1, start, end - 1, end)] == [
        *("not yet", "holds", "holds", "expired"),
    ]
    assert state_of(msgspec.structs.replace(AUDITOR, revoked_at=format_time(end)), start) == "revoked"


def test_hostile_names_stay_text_and_many_acts_are_cut_with_a_word() -> None:
    """Markup and direction controls in an identity or a target are shown as what they are."""
    act = Entry("evidence.view", EVIL, EVIL, EVIL, EVIL, EVIL, "admin", 1, EVIL)
    evil = msgspec.structs.replace(AUDITOR, identity=EVIL, set_by=EVIL, vaults=(EVIL,), actions=(EVIL,))
    html = str(render("access.html", told=access(ADMIN, [evil], [act] * 300, NOW, 3), acts=ACTS, moment=moment))
    assert "<script" not in html
    assert "\u202e" not in html
    assert "The newest 200 are listed" in html
    assert html.count("<tr>") == 3 + 1 + 1 + 200
    assert not re.search(r"\son\w+=", html)


def test_every_act_that_the_recorder_knows_has_words() -> None:
    """No action is shown by its name alone."""
    listed = {name for name in CATALOG.actions if name.startswith("evidence.")}
    assert listed <= set(ACTS)
