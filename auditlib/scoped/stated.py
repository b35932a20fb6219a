"""A question as a packet must state it: with what it leaves open taken from the scope, so that nothing is cut silently.

A search that asks for more than the scope is answered within it, and the page says so. A packet states what was asked
and is read elsewhere, by who does not see that sentence: so its parameters are the scope's own words where the
question says nothing, and a question that names something else than the scope is refused.
"""

from __future__ import annotations

from typing import Any

import msgspec

from auditlib.formats.times import format_time
from auditlib.scoped.question import Question
from auditlib.scoped.scope import RefusedError, Scope, instances


def stated(scope: Scope, question: Question) -> Question:
    """The question within the scope. RefusedError where what it names is not."""
    engagement = scope.engagement
    sources = [each for stream in engagement.streams for each in instances(stream)]
    open_ones: dict[str, Any] = {
        **{"kind": engagement.kinds, "action": engagement.actions},
        **{"target": engagement.targets, "source": sources},
    }
    filled = {name: tuple(limits) for name, limits in open_ones.items() if limits and getattr(question, name) is None}
    within = msgspec.structs.replace(question, **filled, **_period(scope, question))
    outside = scope.outside(within)
    if outside:
        message = "This asks for more than your engagement, and a packet states what was asked."
        raise RefusedError(message, remedy=f"Ask for what lies within it. {' '.join(outside)}")
    return within


def _period(scope: Scope, question: Question) -> dict[str, Any]:
    """The ends of the scope's period where the question's lie outside it, as exact times."""
    asked, (since, until) = scope.filter(question), scope.period
    ends: dict[str, Any] = {}
    if since is not None and (asked.since is None or asked.since < since):
        ends["since"] = format_time(since)
    if until is not None and (asked.until is None or asked.until > until):
        ends |= {"until": format_time(until), "through": None}
    return ends
