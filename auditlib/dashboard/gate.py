"""What a page's browser may say over its websocket: that it is there, another question, a choice, a click. No more.

    PULL-DOC-REQ   once                                             the page as it stands
    PATCH-DOC      ModelChanged `value` of a text or a choice       a text of at most MAX_TEXT_CHARS
                   MessageSent  document_ready, button_click

Bokeh's own server lets a browser replace the whole document, make models of every class it knows, send buffers without
end, and answers what it cannot read with a traceback. Here a message is read before Bokeh reads it: of a patch that
which is allowed is written anew and passed on, the rest is dropped; any other message closes the page. A browser that
says more than a person can is read later: a frame is only taken when the one before it was paid for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from bokeh.document import Document
from bokeh.models import AbstractButton, Select, TextInput

MAX_TEXT_CHARS = 40_000  # characters of a value; of a question half of them are read
MAX_FRAME_BYTES = 256 * 1024  # bytes of a frame; such a value in UTF-8, and what stands around it
MAX_EVENTS = 50  # of one patch that are looked at; a click makes one or two
MAX_UNTAKEN_BYTES = 8 * 1024 * 1024  # bytes that wait for a browser to take them; the longest page has one million
BURST = 2_000.0  # of what is paid with: a frame takes one, and one more for each KiB
A_SECOND = 200.0  # of it that come back in a second; a click takes three or four
READY, CLICK = "document_ready", "button_click"
_FRAMES = ("header", "metadata", "content")


class ClosedError(Exception):
    """The browser said what no page of ours says."""


class Gate:
    """The frames of one page's browser, in their order."""

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` in seconds, of a clock that never goes back."""
        self._now, self._since = now, now()
        self._left = BURST
        self._place = 0
        self._kind = ""
        self._pulled = self._ready = False

    def price(self, size: int) -> float:
        """Seconds to wait before a frame of `size` bytes is read."""
        now = self._now()
        self._left = min(BURST, self._left + (now - self._since) * A_SECOND) - 1 - size / 1024
        self._since = now
        return max(0.0, -self._left / A_SECOND)

    def take(self, frame: str | bytes, document: Document | None) -> str:
        """The frame as Bokeh may read it. ClosedError for what no page of ours sends."""
        if not isinstance(frame, str) or document is None:
            raise ClosedError
        name = _FRAMES[self._place]
        self._place = (self._place + 1) % len(_FRAMES)
        if name == "metadata":
            return "{}"
        told = _object(frame)
        if name == "header":
            return self._header(told)
        if self._kind == "PULL-DOC-REQ":
            return "{}"
        events = told.get("events")
        given = events[:MAX_EVENTS] if isinstance(events, list) else []
        return json.dumps({"events": [kept for event in given for kept in self._allowed(event, document)]})

    def _header(self, told: dict[str, Any]) -> str:
        number, self._kind = told.get("msgid"), told.get("msgtype", "")
        if not isinstance(number, str) or len(number) > 64 or told.get("num_buffers"):
            raise ClosedError
        if self._kind not in ("PULL-DOC-REQ", "PATCH-DOC") or (self._kind == "PULL-DOC-REQ" and self._pulled):
            raise ClosedError
        self._pulled = self._pulled or self._kind == "PULL-DOC-REQ"
        return json.dumps({"msgid": number, "msgtype": self._kind})

    def _allowed(self, event: Any, document: Document) -> Iterator[dict[str, Any]]:
        """The event written anew, or nothing."""
        if not isinstance(event, dict):
            return
        if event.get("kind") == "ModelChanged":
            model, value = _model(event.get("model"), document), event.get("new")
            ours = isinstance(model, Select) or (isinstance(model, TextInput) and model.name == "ask")
            if ours and event.get("attr") == "value" and isinstance(value, str) and len(value) <= MAX_TEXT_CHARS:
                yield {"kind": "ModelChanged", "model": {"id": model.id}, "attr": "value", "new": value}
            return
        told = event.get("msg_data")
        if event.get("kind") != "MessageSent" or event.get("msg_type") != "bokeh_event" or not isinstance(told, dict):
            return
        if told.get("name") == READY and not self._ready:
            self._ready = True
            yield _sent(READY, [])
        elif told.get("name") == CLICK:
            model = _model(_entry(told.get("values"), "model"), document)
            if isinstance(model, AbstractButton):
                yield _sent(CLICK, [["model", {"id": model.id}]])


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ClosedError from None
    if not isinstance(found, dict):
        raise ClosedError
    return found


def _model(reference: Any, document: Document) -> Any:
    name = reference.get("id") if isinstance(reference, dict) else None
    return document.get_model_by_id(name) if isinstance(name, str) else None


def _entry(values: Any, name: str) -> Any:
    """What stands under a name in Bokeh's own form of a map, a list of pairs."""
    pairs = values.get("entries") if isinstance(values, dict) else None
    return next((pair[1] for pair in pairs or () if isinstance(pair, list) and pair[:1] == [name] and pair[1:]), None)


def _sent(name: str, entries: list[Any]) -> dict[str, Any]:
    told = {"type": "event", "name": name, "values": {"type": "map", "entries": entries}}
    return {"kind": "MessageSent", "msg_type": "bokeh_event", "msg_data": told}
