"""Accounts as persons: whose account it was, in which source, at a time.

    known = persons(identities.frame)
    known.of("BMiller", at, "okta/1")            "E-1042", where `source` okta has the case rule "fold"
    known.named(events["actor_id"], events["occurred_at"], events["source"])

A row holds from `valid_from` (inclusive) until `valid_until` (exclusive); missing: always. Its `source` is the name of
a source before the slash, or empty for every source. Who held an account twice at once cannot be told, and is refused.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from auditlib.errors import MalformedError

_EVER, _NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max  # a start, an end that is not stated
_ANY = "*"  # every source: no source has this name


class Span(NamedTuple):
    """A row: whose account it is from `start` to before `end`, microseconds since 1970 UTC."""

    start: int
    end: int
    account: str
    source: str
    fold: bool
    person: str
    line: int


class Persons:
    """Who held an account, by source and time."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans: dict[tuple[str, bool, str], list[Span]] = defaultdict(list)
        for span in sorted(spans):
            self._spans[span.source, span.fold, _key(span.account, fold=span.fold)].append(span)

    def of(self, account: str, at: int, source: str = "") -> str | None:
        """The person who held the account in a source at a time; None where nobody says."""
        for where in {source, source.partition("/")[0], ""}:
            for fold in (False, True):
                spans = self._spans.get((where, fold, _key(account, fold=fold)), [])
                place = bisect_right(spans, at, key=lambda span: span.start) - 1
                if place >= 0 and at < spans[place].end:
                    return spans[place].person
        return None

    def named(self, accounts: pd.Series[Any], times: pd.Series[Any], sources: pd.Series[Any]) -> pd.Series[Any]:
        """The same for a column of each; an account that nobody says anything of stands for itself."""
        rows = zip(accounts.fillna(""), _micros(times, _EVER), sources.fillna(""), strict=True)
        found = [self.of(account, at, source) for account, at, source in rows]
        persons = pd.Series(found, index=accounts.index, dtype="str")
        return persons.fillna(accounts)


def persons(frame: pd.DataFrame) -> Persons:
    """The frame of the list `identities` -> Persons. MalformedError where a row is none, or two overlap."""
    starts, ends = _micros(frame["valid_from"], _EVER), _micros(frame["valid_until"], _NEVER)
    sources = frame["source"].fillna("").map(lambda source: source.partition("/")[0])
    fold = frame["case_rule"] == "fold"
    columns = (frame["account"], sources, fold, frame["person_id"], frame["line"])
    spans = [Span(*row) for row in zip(starts, ends, *(column.tolist() for column in columns), strict=True)]
    _refuse_mixed(spans)
    _refuse_overlaps(spans)
    return Persons(spans)


def for_matching(frame: pd.DataFrame, accounts: Iterable[str]) -> pd.DataFrame:
    """`identities` as `match_approvals` takes them: account, person, valid_from, valid_until.

    It compares accounts letter by letter and knows no sources: each of `accounts` that a row of case rule "fold" means
    is added in its own spelling, and rows of every source stand side by side.
    """
    known = frame.rename(columns={"person_id": "person"})
    folded = known[known["case_rule"] == "fold"]
    spelled = pd.DataFrame({"spelling": pd.Series(sorted(set(accounts)), dtype="str")})
    spelled = spelled.assign(key=spelled["spelling"].map(str.casefold).astype("str"))
    meant = folded.assign(key=folded["account"].map(str.casefold).astype("str")).merge(spelled, on="key")
    meant = meant.assign(account=meant["spelling"])
    columns = ["account", "person", "valid_from", "valid_until"]
    return pd.concat([known[columns], meant[columns]]).drop_duplicates(ignore_index=True)


def _refuse_mixed(spans: Iterable[Span]) -> None:
    """One case rule a source: an account must not be compared in two ways."""
    rules: dict[str, Span] = {}
    for span in spans:
        other = rules.setdefault(span.source, span)
        if span.end <= span.start:
            raise MalformedError(f"line {span.line}: it ends before it begins.", where="identities")
        if other.fold != span.fold:
            raise MalformedError(
                f"lines {other.line} and {span.line}: the source {span.source[:80]!r} has two case rules.",
                where="identities",
            )


def _refuse_overlaps(spans: Iterable[Span]) -> None:
    """Two rows collide that hold at once, in one source or one of them in all, and mean one account.

    In the order of their starts, each is held against the row that lasts longest among those it could collide with.
    """
    longest: dict[tuple[str, str, bool, str], Span] = {}  # (source or _ANY, folded account, fold, exact account or "")
    for span in sorted(spans):
        folded = span.account.casefold()
        # A folded row means every spelling; an exact one its own, and that of folded rows.
        meant = [(True, ""), (False, "")] if span.fold else [(True, ""), (False, span.account)]
        for source in (span.source, "") if span.source else (_ANY,):
            for fold, exact in meant:
                other = longest.get((source, folded, fold, exact))
                if other is not None and other.end > span.start:
                    raise MalformedError(
                        f"lines {other.line} and {span.line}: {span.account[:80]!r} has two holders at once.",
                        where="identities",
                        remedy="State for each row from when until when it holds.",
                    )
        for source in (span.source, _ANY):
            for exact in ("",) if span.fold else ("", span.account):
                key = (source, folded, span.fold, exact)
                if key not in longest or longest[key].end < span.end:
                    longest[key] = span


def _key(account: str, *, fold: bool) -> str:
    return account.casefold() if fold else account


def _micros(times: pd.Series[Any], missing: int) -> list[int]:
    values = times.astype("datetime64[us, UTC]")
    found: list[int] = np.where(values.isna(), missing, values.astype("int64")).tolist()
    return found
