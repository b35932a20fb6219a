"""The trail as one engagement may see it: the only thing that the pages hold.

    scoped = ScopedTrail(trail, lambda: engagements.find("soc2-2026"), now)
    page = scoped.search(Question(kind="grant", since="2026-03-01"), limit=50)
    page.rows, page.next, page.narrowed

question.py  what a hostile browser may ask: bounded, then a Filter
scope.py     an engagement as SQL and in words; refuses what it does not allow
stated.py    a question as a packet must state it
cursors.py   a position in the answer, as a text that only this process can make or read
reading.py   newest first, a page at a time, from as few batches as will do
summing.py   count, bars and facets from one reading
redact.py    fields taken out of what was read
answers.py   what comes back
trail.py     ScopedTrail: every way to the data, each asking anew whether it is still allowed
"""

from auditlib.scoped.answers import Bars, Exported, Facets, Found, Page, Standing, Stream, Summary
from auditlib.scoped.question import Question
from auditlib.scoped.scope import RefusedError
from auditlib.scoped.trail import ScopedTrail

__all__ = [
    "Bars",
    "Exported",
    "Facets",
    "Found",
    "Page",
    "Question",
    "RefusedError",
    "ScopedTrail",
    "Standing",
    "Stream",
    "Summary",
]
