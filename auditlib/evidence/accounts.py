"""A person's accounts, as events name them: from the list `identities`, each for the time in which it was theirs.

    known = Accounts(identities.frame)
    known.person("u_1143", at, "identity/a1")       "P-1043"; None where nobody says
    known.of("P-1043", "u_1043")                    [Account("u_1043", ...), Account("u_1143", ...)]

Rows of every source stand side by side, because people sign in to one system and act in another; but a name that is
somebody else's in a source is not theirs there. An account stays with its last holder until somebody else gets it: what
is done with it after it was closed is still to be answered for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from auditlib.attachments import persons
from auditlib.formats.event import source_name

EVER, NEVER = np.iinfo(np.int64).min, np.iinfo(np.int64).max  # microseconds: a beginning, an end that is not stated


class Account(NamedTuple):
    """A name that means a person from `since` (inclusive) to `until` (exclusive), microseconds since 1970 UTC."""

    name: str
    fold: bool = False  # whether capitals do not matter
    since: int = EVER
    until: int = NEVER
    elsewhere: tuple[str, ...] = ()  # the sources in which this name is somebody else's

    def means(self, name: str, at: int, source: str) -> bool:
        """Whether a name in a record of that source and time means this account."""
        return self.spells(name) and self.since <= at < self.until and source_name(source) not in self.elsewhere

    def spells(self, name: str) -> bool:
        """Whether a name is this account's, by its case rule."""
        return name == self.name or (self.fold and name.casefold() == self.name.casefold())


class _Row(NamedTuple):
    since: int
    account: str
    source: str
    fold: bool
    person: str


class Accounts:
    """Who holds which account, by a frame of the list `identities`; without one every account is its own person."""

    def __init__(self, identities: pd.DataFrame | None) -> None:
        self._by_person: dict[str, list[_Row]] = defaultdict(list)
        self._by_name: dict[str, list[_Row]] = defaultdict(list)
        if identities is None or identities.empty:
            return
        persons(identities)  # refuses an account with two holders at once
        columns = [identities["account"], identities["source"].fillna("").map(source_name)]
        columns += [identities["case_rule"] == "fold", identities["person_id"]]
        for row in zip(micros(identities["valid_from"], EVER), *(column.tolist() for column in columns), strict=True):
            self._by_person[row[4]].append(_Row(*row))
            self._by_name[row[1].casefold()].append(_Row(*row))

    def person(self, account: str, at: int, source: str) -> str | None:
        """Who held an account last by that time, rather by the word of that source; None where nobody says."""
        rows = [
            row
            for row in self._by_name.get(account.casefold(), ())
            if row.since <= at and (row.fold or row.account == account)
        ]
        return (
            max(rows, key=lambda row: (row.source == source_name(source), row.since, row.person)).person
            if rows
            else None
        )

    def of(self, person: str | None, *names: str) -> list[Account]:
        """The accounts of a person, and these names where none of those means them."""
        found = [self._account(row) for row in sorted(set(self._by_person.get(person, ())))] if person else []
        return found + [Account(name) for name in dict.fromkeys(names) if not any(one.spells(name) for one in found)]

    def _account(self, row: _Row) -> Account:
        others = [
            other
            for other in self._by_name[row.account.casefold()]
            if other.person != row.person and (row.fold or other.fold or other.account == row.account)
        ]
        later = [other.since for other in others if other.since > row.since and _meet(other, row)]
        elsewhere = {other.source for other in others if row.source and other.source and not _meet(other, row)}
        return Account(row.account, row.fold, row.since, min(later, default=NEVER), tuple(sorted(elsewhere)))


def _meet(one: _Row, other: _Row) -> bool:
    """Whether two rows speak of a source in common."""
    return one.source == other.source or not one.source or not other.source


def among(frame: pd.DataFrame, column: str, accounts: Iterable[Account]) -> pd.DataFrame:
    """The rows of a drawn population whose `column` could mean one of the accounts."""
    names = {account.name.casefold() for account in accounts}
    keys = frame[column].fillna("").map(str.casefold)
    return frame[keys.isin(names).astype(bool)]


def meant(accounts: Sequence[Account], name: Any, at: int, source: str) -> Account | None:
    """The account that a name in a record means, if any."""
    if not isinstance(name, str):
        return None
    return next((account for account in accounts if account.means(name, at, source)), None)


def micros(times: pd.Series[Any], missing: int) -> list[int]:
    """Times -> microseconds since 1970 UTC, NaT -> `missing`."""
    values = times.astype("datetime64[us, UTC]")
    found: list[int] = np.where(values.isna(), missing, values.astype("int64")).tolist()
    return found
