"""What a page is to the server: panes that are there from the start, filled whenever another address is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import panel as pn
from bokeh.document import Document
from panel.viewable import Viewable

from auditlib.dashboard.visit import Visit


@contextmanager
def in_one_piece(document: Document | None) -> Iterator[None]:
    """What is changed meanwhile is sent by Bokeh, whole and in order, under its lock.

    Panel would send each change itself, and loses one that falls into the writing of another
    (panel.io.document._dispatch_msgs).
    """
    if document is None:  # nobody looks
        yield
        return
    document.hold("collect")
    try:
        yield
    finally:
        document.unhold()


class View(Protocol):
    """An open page."""

    @property
    def panes(self) -> Sequence[Viewable]:
        """What stands on the page from the start."""

    async def show(self) -> None:
        """Fill the panes with what the visit's address asks for. Raises AuditlibError, which is shown instead."""

    def clear(self) -> None:
        """Show nothing of what was shown before."""


class Page(NamedTuple):
    """A page: the last part of its address, its title, how it is opened, whether it stands in the navigation."""

    name: str
    title: str
    open: Callable[[Visit], View]
    listed: bool = True


class Whole:
    """A view that is made anew for each address, by a function that gives its panes."""

    def __init__(self, visit: Visit, make: Callable[[Visit], Awaitable[Sequence[Viewable]]]) -> None:
        self._visit, self._make = visit, make
        self._column = pn.Column(sizing_mode="stretch_width", margin=0)
        self.panes: Sequence[Viewable] = [self._column]

    async def show(self) -> None:
        """See View."""
        self._column.objects = list(await self._make(self._visit))

    def clear(self) -> None:
        """See View."""
        self._column.objects = []
