"""The pages, each a module: opened for a visit, it shows what the visit's address asks for.

overview.py   is the trail sound, how far does it reach, what is open
search.py     who did what, when: filters, counts, a page at a time
event.py      one event in full, with its proof
requests.py   the auditor's request list: run, read, take away
integrity.py  the chain, the checks, the pipeline
access.py     who may look, and what was looked at
"""

from __future__ import annotations

from functools import partial

from auditlib.dashboard.pages import access, event
from auditlib.dashboard.pages.integrity import Integrity
from auditlib.dashboard.pages.overview import Overview
from auditlib.dashboard.pages.requests import Requests
from auditlib.dashboard.pages.search import Search
from auditlib.dashboard.pages.view import Page, Whole

PAGES = (
    Page("overview", "Overview", Overview),
    Page("search", "Search", Search),
    Page("event", "Event", event.open, listed=False),
    Page("requests", "Requests", Requests),
    Page("integrity", "Integrity", Integrity),
    Page("access", "Access", partial(Whole, make=access.page)),
)
