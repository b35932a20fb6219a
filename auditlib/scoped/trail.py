"""ScopedTrail: every way to the data, and on each the same two questions: may it be seen, and is that still so?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from auditlib import export as exports
from auditlib.engagements import Engagement
from auditlib.errors import MalformedError
from auditlib.formats.columns import SCHEMA, record_texts
from auditlib.formats.event import MAX_EVENT_ID_CHARS, NAME
from auditlib.formats.seal import Seal
from auditlib.formats.times import SECOND, parse_time
from auditlib.scoped.answers import Activity, Bars, Exported, Facets, Found, Page, Standing, Stream, Summary
from auditlib.scoped.cursors import make_cursor, read_cursor
from auditlib.scoped.proof import Checked, Proof, check_may_prove, checked, draw_proof
from auditlib.scoped.question import Question
from auditlib.scoped.reading import fetch, newest, rows_at, stream
from auditlib.scoped.redact import without
from auditlib.scoped.related import relations
from auditlib.scoped.scope import Asked, RefusedError, Scope, check_now
from auditlib.scoped.stated import stated
from auditlib.scoped.summing import FACETS, by_kind, fitting, statement, summary
from auditlib.trail import Trail

MAX_ROWS = 200  # of one page, and values of one facet
MAX_BARS = 400  # of one histogram; more are narrower than a pixel or two
RELATED_ROWS = 20  # of each relation
_EMPTY = pa.RecordBatch.from_pylist([], SCHEMA)


class ScopedTrail:
    """A trail as one engagement may see it. Safe for several threads where the Trail is.

    `find` gives the engagement as it stands now (None: it is gone) and is asked at every call, so that expiry,
    revocation and a narrower scope take effect at the next; `now` is in microseconds since 1970 UTC; `name` is what
    the server calls this vault, besides its origin and its address.

    Every method raises RefusedError where the engagement does not hold now, and for what it does not allow;
    MalformedError for what cannot be asked; MismatchError where a batch is not what was sealed; UnavailableError.
    """

    def __init__(
        self, trail: Trail, find: Callable[[], Engagement | None], now: Callable[[], int], name: str = ""
    ) -> None:
        self._trail, self._find, self._now, self._name = trail, find, now, name
        self._known: Scope | None = None
        self._scope()

    def __repr__(self) -> str:
        return f"ScopedTrail({self._trail.origin!r})"

    def words(self) -> tuple[str, ...]:
        """The scope in sentences, with who set it and when."""
        return self._scope().words

    def search(self, question: Question, *, after: str | None = None, limit: int = 50) -> Page:
        """The newest events that answer, at most 200 whatever `limit` says; `after`: the `next` of the page before."""
        scope = self._scope()
        asked = scope.ask(question)
        start = None if after is None else read_cursor(after, asked.about)
        rows = _bounded(limit, MAX_ROWS, "limit")
        found = newest(self._trail, asked.batches, asked.condition, asked.values, rows + 1, start)
        more = make_cursor(found[rows - 1], asked.about) if len(found) > rows else None
        table = rows_at(self._trail, asked.batches, found[:rows])
        return Page(without(table, scope.fields), more, asked.narrowed)

    def count(self, question: Question) -> int:
        """How many events within the scope answer."""
        return self._count(self._scope().ask(question))

    def histogram(self, question: Question, bins: int = 100) -> Bars:
        """The events that answer over time, in at most `bins` bars (1 to 400) of a round width."""
        asked = self._scope().ask(question)
        start, width, places = self._bars(asked, bins)
        counted = dict(self._rows(asked, "epoch_us(occurred_at) // ? AS bar, count(*)", [width], "GROUP BY bar"))
        return Bars(start * width, width, tuple(counted.get(start + n, 0) for n in range(places)))

    def activity(self, question: Question, bins: int = 100) -> Activity:
        """The events that answer over time, for each source without its instance, in bars as `histogram` has them."""
        asked = self._scope().ask(question)
        start, width, places = self._bars(asked, bins)
        select = "split_part(source, '/', 1) AS name, epoch_us(occurred_at) // ? AS bar, count(*)"
        counted: dict[str, dict[int, int]] = {}
        for name, bar, events in self._rows(asked, select, [width], "GROUP BY name, bar ORDER BY name, bar"):
            counted.setdefault(name, {})[bar] = events
        streams = ((name, tuple(bars.get(start + n, 0) for n in range(places))) for name, bars in counted.items())
        return Activity(start * width, width, tuple(streams))

    def facets(self, question: Question, column: str, limit: int = 20) -> Facets:
        """The values of one of FACETS' columns among the events that answer, most first; at most 200."""
        asked = self._scope().ask(question)
        _check_column(column)
        most = _bounded(limit, MAX_ROWS, "limit")
        if column == "kind":
            return self._kinds(asked, most)
        select = f"{FACETS[column]} AS value, count(*) AS events, sum(count(*)) OVER (), count(*) OVER ()"
        rows = self._rows(asked, select, rest=f"GROUP BY value ORDER BY events DESC, value LIMIT {most}")
        total, distinct = (int(rows[0][2]), int(rows[0][3])) if rows else (0, 0)
        values = tuple((value, events) for value, events, *_ in rows)
        return Facets(values, distinct, total - sum(events for _, events in values))

    def summary(self, question: Question, columns: Sequence[str], limit: int = 20, bins: int = 100) -> Summary:
        """`count`, `histogram` and the `facets` of several columns: the same answers, from one reading as a rule."""
        asked = self._scope().ask(question)
        for column in columns:
            _check_column(column)
        columns = tuple(dict.fromkeys(columns))
        values, bars, seals = _bounded(limit, MAX_ROWS, "limit"), _bounded(bins, MAX_BARS, "bins"), _seals(asked)
        catalog = self._trail.catalog
        ends = (
            min((parse_time(seal.occurred[0]) for seal in seals), default=0),
            max((parse_time(seal.occurred[1]) for seal in seals), default=0),
        )
        made = statement(asked, columns, values, bars, ends, catalog)
        rows = fetch(self._trail, seals, made.sql, made.values, lambda relation: relation.fetchall())
        return summary(rows, made.width, columns, values, lambda: self.histogram(question, bars), bars, catalog)

    def event(self, event_id: str, source: str | None = None) -> Found | None:
        """The event with this id within the scope, of several sources' the newest; None where there is none.

        None is all that is said of an id outside the scope, of one that does not exist, and of what is no id.
        """
        scope = self._scope()
        if not _is_id(event_id) or not (source is None or _is_name(source)):
            return None
        asked = scope.within("event_id = ?", [event_id])
        if source is not None:
            asked = scope.within("event_id = ? AND source = ?", [event_id, source], lambda seal: source in seal.sources)
        found = newest(self._trail, asked.batches, asked.condition, asked.values, 1)
        if not found:
            return None
        whole = rows_at(self._trail, asked.batches, found)
        rows = without(whole, scope.fields)
        record = record_texts(rows)[0].as_py()
        return Found(record, record != record_texts(whole)[0].as_py(), rows, found[0].sequence, found[0].row)

    def proof(self, event_id: str, source: str | None = None) -> Proof | None:
        """What proves an event, from its record to the checkpoint, checked before it is given; None as in `event`.

        RefusedError, whether there is such an event or not, where the engagement shows no proofs.
        """
        check_may_prove(self._scope().engagement)
        found = self.event(event_id, source)
        return None if found is None else draw_proof(self._trail, found)

    def checked(self, event_id: str, source: str | None = None) -> Checked | None:
        """That an event was found under the checkpoint just now, by the server, told to everybody; None as in `event`.

        MismatchError where it was not.
        """
        found = self.event(event_id, source)
        return None if found is None else checked(self._trail, found)

    def related(self, event_id: str, source: str | None = None) -> dict[str, pa.Table]:
        """What is tied to an event within the scope, the newest 20 of each: by `request`, `session`, `target`.

        A relation without any event is not there; by a field that is left out, nothing is related.
        """
        found, scope = self.event(event_id, source), self._scope()
        if found is None:
            return {}
        (row,) = found.rows.to_pylist()  # without the fields left out, so that nothing is related by them
        answer = {}
        for name, (condition, values) in relations(row, self._trail.catalog).items():
            others = "NOT (event_id = ? AND source = ?)"
            each = scope.within(f"({condition}) AND {others}", [*values, row["event_id"], row["source"]])
            positions = newest(self._trail, each.batches, each.condition, each.values, RELATED_ROWS)
            if positions:
                answer[name] = without(rows_at(self._trail, each.batches, positions), scope.fields)
        return answer

    def export(self, question: Question, path: Path, format: str) -> Exported:
        """Write the events that answer to a new file as csv, jsonl, parquet or xlsx, in the order they were sealed.

        RefusedError, and nothing written, where there are more than the engagement allows: a file that was cut off
        would be taken for the answer. Whether the engagement still holds is asked again after some thousand rows.
        """
        scope = self._scope()
        asked = scope.ask(question)
        if format not in exports.FORMATS:
            raise MalformedError(f"choose one of {', '.join(exports.FORMATS)}.", where="format")
        self._exportable(scope, asked)

        def batches() -> Iterator[pa.RecordBatch]:
            for table in stream(self._trail, _seals(asked), asked.condition, asked.values):
                if self._scope().engagement != scope.engagement:
                    raise RefusedError("the scope was changed meanwhile.", remedy="Export again.")
                yield from without(table, scope.fields).combine_chunks().to_batches() or [_EMPTY]

        rows = exports.export(batches(), path, format, sheet="events")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Exported(rows, digest, scope.words, asked.narrowed)

    def stated(self, question: Question) -> tuple[Question, int]:
        """The question as a packet of its events must state it (see `stated`), and how many answer.

        RefusedError for a question past the scope, and where more answer than may be exported.
        """
        scope = self._scope()
        within = stated(scope, question)
        return within, self._exportable(scope, scope.ask(within))

    def coverage(self, question: Question) -> tuple[Stream, ...]:
        """Each source (without its instance) among the events that answer: how many, from when to when; by name."""
        asked = self._scope().ask(question)
        times = "epoch_us(min(occurred_at)), epoch_us(max(occurred_at))"
        select = f"split_part(source, '/', 1) AS name, count(*), {times}"
        rows = self._rows(asked, select, rest="GROUP BY name ORDER BY name")
        return tuple(Stream(*row) for row in rows)

    def standing(self) -> Standing:
        """What was verified when the trail was opened, without a count of events; see Standing for what is told."""
        self._scope()
        trail = self._trail
        signers = tuple(map(str, trail.checkpoint.signers))
        root = trail.checkpoint.root.hex()
        return Standing(trail.origin, trail.checkpoint.size, root, signers, trail.seals[-1].sealed_at)

    def _scope(self) -> Scope:
        """The scope as it stands now. A new one is made only where the engagement was changed."""
        engagement = check_now(self._find(), self._now())
        known = self._known
        if known is None or known.engagement != engagement:
            self._known = known = Scope(self._trail, engagement, self._name)
        return known

    def _bars(self, asked: Asked, bins: int) -> tuple[int, int, int]:
        """The number of the first bar, the width of all (microseconds), how many there are."""
        most = _bounded(bins, MAX_BARS, "bins")
        ((first, last),) = self._rows(asked, "min(epoch_us(occurred_at)), max(epoch_us(occurred_at))")
        if first is None:
            return 0, SECOND, 0
        width = fitting(first, last, most)
        return first // width, width, last // width - first // width + 1

    def _exportable(self, scope: Scope, asked: Asked) -> int:
        """How many events answer. RefusedError where the engagement does not allow so many in one file."""
        most, events = scope.engagement.rows_per_export, self._count(asked)
        if events > most:
            allowed = f"at most {most:,} may be exported at once" if most else "nothing may be exported"
            raise RefusedError(f"{events:,} events answer; {allowed}.", remedy="Ask for less.")
        return events

    def _count(self, asked: Asked) -> int:
        ((events,),) = self._rows(asked, "count(*)")
        return int(events)

    def _rows(self, asked: Asked, select: str, before: list[Any] | None = None, rest: str = "") -> list[Any]:
        statement = f"SELECT {select} FROM batches WHERE {asked.condition} {rest}"  # noqa: S608 - values are bound
        values = [*(before or ()), *asked.values]
        return fetch(self._trail, _seals(asked), statement, values, lambda relation: relation.fetchall())

    def _kinds(self, asked: Asked, most: int) -> Facets:
        actions = self._rows(asked, "action, count(*)", rest="GROUP BY action")
        return by_kind(actions, sum(events for _, events in actions), most, self._trail.catalog)


def _check_column(column: Any) -> None:
    if column not in tuple(FACETS):  # whatever the browser sends, hashable or not
        raise MalformedError(f"choose one of {', '.join(FACETS)}.", where="column")


def _bounded(given: Any, most: int, where: str) -> int:
    """What the browser says is taken within what the server allows."""
    if not isinstance(given, int) or isinstance(given, bool):
        raise MalformedError("give a whole number.", where=where)
    return min(max(given, 1), most)


def _is_id(text: Any) -> bool:
    return isinstance(text, str) and 0 < len(text) <= MAX_EVENT_ID_CHARS and text.isascii() and text.isprintable()


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and NAME.fullmatch(text) is not None


def _seals(asked: Asked) -> list[Seal]:
    """In the order they were sealed."""
    return sorted((dated.seal for dated in asked.batches), key=lambda seal: seal.sequence)
