"""Approval matching: every grant beside the approval that serves it best, attribute by attribute (DESIGN 3).

    verdicts = match_approvals(grants, approvals, revokes, policy=Policy(), observed_until=sealed_at)
    verdicts.exceptions     # item, approval, approver, nine attributes, verdict, reason

DataFrames in, DataFrames out: no clock, no files, no queries. The rules, in the order in which they bite:

1. Link. A grant with a request id is served by approvals of that request alone; a grant without one by the
   approvals of its (grantee, entitlement), whatever request they answer. A grant with neither cannot be
   tested. An empty text counts as missing.
2. Refusals. The latest decision at or before the grant counts: a denial or withdrawal voids every approval
   before it, so that only a newer approval serves; one after the grant voids nothing. It answers the
   request it names (all of it, or the subject and entitlement it states), or, naming none, the pair it
   states. A refused grant stays refused when the approval comes after the grant. Where only void approvals
   name the subject and entitlement, approval_exists fails.
3. Choice, among the approvals left: those of this subject and entitlement (or stating none) before those of
   others; then the fewest failures; then the fewest not-testable; then the failure that comes last in
   ATTRIBUTES; then the latest at or before the grant, else the earliest after it; then (sequence, row).
4. Before. Decided by `occurred_at` alone; equal counts as before. A later approval is late, not missing; it
   passes where the grant is an emergency and the policy's hours are not over.
5. Uses. Counted per approval, subject and entitlement, over the items in the order (occurred_at, sequence,
   row, item number). An item uses an approval up that is not for others, not late and within its validity,
   whoever gave it; for any other item within_uses is n/a. An item prefers an approval with a use left. The
   same pair twice in one event counts once. An approval that states no subject or no entitlement covers
   `uses` items in all.
6. Persons. The approver may be neither subject, granter nor requester: the requester that the approval
   states and whoever filed the request. A left approver (a leave before the approval, no join since) is not
   authorised. Accounts are compared as persons where `identities` are given: as of the approval for
   approver, requester and the grant for subject and granter.
7. Removal. Due at the earlier of the grant's and the approval's `valid_until`; met by the first revoke of
   the same grantee and entitlement after the grant, at or before that end. An end after `observed_until` is
   not yet due: n/a.
8. Standing. An entitlement that the policy approves in advance needs no event: approval_exists passes,
   `approval` is STANDING, and what only an event could show is n/a.

Where so many grants meet so many approvals that comparing them is past MAX_PAIRS or MAX_TURNS, their items
are not-testable and say so: a flood of events can hide nothing and stop nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import translate
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from auditlib.errors import MalformedError
from auditlib.formats.times import DAY, SECOND, format_time, from_datetime

ATTRIBUTES = {
    "approval_exists": "an approval answers the grant and stands: it was not denied or withdrawn by then",
    "approved_before_grant": "it was given at or before the grant, or in time after an emergency",
    "same_subject": "it names the person who got the access",
    "same_entitlement": "it names the access that was granted",
    "independent_approver": "the approver is neither subject, requester nor granter",
    "approver_authorised": "the approver held an authority that the policy names, and had not left",
    "within_validity": "the grant lies within the time for which the approval holds",
    "within_uses": "the approval was not used more often than it allows",
    "removed_in_time": "access granted for a time was revoked by the end of it",
}
STANDING = "standing policy"  # in `approval`; holds a space, so no event_id can be it (DESIGN 4.1)
NOT_TESTABLE = "not-testable"
MAX_PAIRS = 400_000_000  # grant-approval comparisons in all; about 15 million a second
MAX_TURNS = 20_000  # grants of one pair that compete for several approvals of limited use, one after another

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PASS, NA, NT, FAIL = 0, 1, 2, 3  # two bits an attribute; greater is worse
_LABELS = ("pass", "n/a", NOT_TESTABLE, "fail")
_NEVER = np.iinfo(np.int64).max  # an end that is not stated
_ALWAYS = np.iinfo(np.int64).min  # a start that is not stated; also NaT as int64
_UNLIMITED = 1 << 62
_NOTHING = np.iinfo(np.int64).max  # no candidate
_CHUNK = 1 << 17  # pairs compared at once: the arrays of one chunk stay in the cache
_LEADING = ("event_id", "occurred_at", "sequence", "row")
_COLUMNS = {
    "grants": (
        *_LEADING,
        "item",
        "actor_id",
        "action",
        "grantee",
        "entitlement",
        "request",
        "valid_until",
        "emergency",
    ),
    "approvals": (
        *(*_LEADING, "actor_id", "decision", "grantee", "entitlement", "request", "requester"),
        *("valid_from", "valid_until", "uses", "authority"),
    ),
    "revokes": ("occurred_at", "sequence", "row", "grantee", "entitlement"),
    "requests": ("occurred_at", "request", "requester"),
    "leaves": ("occurred_at", "grantee"),
    "joins": ("occurred_at", "grantee"),
    "identities": ("account", "person"),
}


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the company says an approval must be. Raises MalformedError for a number that cannot be meant."""

    lookback_days: int = 90  # days before the period in which the caller searches for approvals
    emergency_hours: int | None = None  # hours after an emergency grant; None: no emergency policy
    standing: tuple[str, ...] = ()  # entitlements approved in advance; `*`, `?` and `[...]` as in file names
    time_bound_required: bool = False  # True: a grant without an end fails removed_in_time
    authorities: tuple[str, ...] = ()  # who may approve; (): not tested
    default_uses: int | None = None  # grants an approval covers that does not say; None: any number
    max_age_days: int | None = None  # an approval older than this at the grant no longer holds

    def __post_init__(self) -> None:
        """Refuses numbers below zero, and an approval that covers nothing by default."""
        least = {"lookback_days": 0, "emergency_hours": 0, "default_uses": 1, "max_age_days": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= 1_000_000:
                raise MalformedError(f"{value} is refused; it is {low} to 1,000,000.", where=f"policy.{name}")

    def sentences(self) -> list[str]:
        """The policy in plain words, for the report."""
        told = [f"Approvals were searched for up to {self.lookback_days} days before the period."]
        if self.emergency_hours is None:
            told.append("No emergency policy: an approval after the grant is late.")
        else:
            told.append(f"An emergency grant may be approved within {self.emergency_hours} hours after it.")
        if self.standing:
            told.append(f"Approved in advance by standing policy: {', '.join(self.standing)}.")
        if self.authorities:
            told.append(f"Approvers must hold one of these authorities: {', '.join(self.authorities)}.")
        else:
            told.append("The policy names no authorities: whether approvers were entitled to approve was not tested.")
        uses = "any number of grants" if self.default_uses is None else f"{self.default_uses} grant(s) of each access"
        told.append(f"An approval that states no number of uses covers {uses}.")
        if self.max_age_days is not None:
            told.append(f"An approval holds for {self.max_age_days} days.")
        if self.time_bound_required:
            told.append("Every grant must have an end.")
        return told


@dataclass(frozen=True)
class Verdicts:
    """The outcome: `items`, one row per grant item by sequence, row, item number; and what was asked.

    Columns of `items`: item, occurred_at, action, actor_id, grantee, entitlement, request, approval (its
    event_id, STANDING or missing), approver, approved_at, the nine ATTRIBUTES (pass, fail, n/a, not-testable),
    verdict (pass, the first failing attribute, or not-testable) and reason (a sentence; empty where a plain
    pass needs none).
    """

    items: pd.DataFrame
    policy: Policy
    observed_until: datetime
    by_person: bool  # identities were given
    leavers_known: bool  # leaves were given

    @property
    def exceptions(self) -> pd.DataFrame:
        """The potential exceptions: the rows of which an attribute failed."""
        return self.items[self.items["verdict"].isin(list(ATTRIBUTES))].reset_index(drop=True)

    def counts(self) -> dict[str, int]:
        """Items by verdict: pass, each attribute in declared order, not-testable; zeros included."""
        found = self.items["verdict"].value_counts()
        return {name: int(found.get(name, 0)) for name in ("pass", *ATTRIBUTES, NOT_TESTABLE)}

    def summary_sentences(self) -> list[str]:
        """The outcome and its limits in plain words."""
        counts = self.counts()
        failed = {name: counts[name] for name in ATTRIBUTES if counts[name]}
        parts = "; ".join(f"{name} {number:,}" for name, number in failed.items())
        tested = f"{len(self.items):,} item(s) were tested on {len(ATTRIBUTES)} attributes"
        told = [
            f"{tested}; {counts['pass']:,} passed.",
            f"{sum(failed.values()):,} potential exception(s){': ' + parts if parts else ''}.",
        ]
        if counts[NOT_TESTABLE]:
            told.append(f"{counts[NOT_TESTABLE]:,} item(s) could not be tested fully; the reason stands beside each.")
        if self.by_person:
            told.append("Self-approval was tested by person, with the identities given.")
        else:
            told.append("Self-approval was tested by account only: one person with two accounts would not show.")
        if not self.leavers_known:
            told.append("No leavers were given: whether an approver had left was not tested.")
        until = format_time(from_datetime(self.observed_until))
        told.append(f"Removals were observed until {until}; an end after that is not yet due.")
        return told

    def _repr_html_(self) -> str:
        """Counts and the first potential exceptions; every text escaped: event contents are hostile."""
        counts = pd.DataFrame({"verdict": list(self.counts()), "items": list(self.counts().values())})
        shown = self.exceptions.head(20)
        title = f"<p>{len(self.items):,} items, {len(self.exceptions):,} potential exceptions</p>"
        tables = (frame.to_html(escape=True, index=False, na_rep="", border=0) for frame in (counts, shown))
        return title + "".join(tables)


def match_approvals(
    grants: pd.DataFrame,
    approvals: pd.DataFrame,
    revokes: pd.DataFrame | None = None,
    *,
    policy: Policy,
    observed_until: datetime,
    requests: pd.DataFrame | None = None,
    leaves: pd.DataFrame | None = None,
    joins: pd.DataFrame | None = None,
    identities: pd.DataFrame | None = None,
) -> Verdicts:
    """Grants and decisions -> Verdicts, by the rules in the module's docstring. No frame is changed.

    `grants`: one row per item. `approvals`: one row per decision event, subject and entitlement, refusals
    included. `revokes`: successful ones. `requests`: occurred_at, request, requester. `leaves`, `joins`:
    occurred_at, grantee. `identities`: account, person, and if need be valid_from, valid_until.
    `observed_until`: aware, to where the trail reaches. Raises MalformedError that names the frame, for a
    missing column or time and for an unknown decision.
    """
    until = from_datetime(observed_until)
    grants = _frame("grants", grants)
    decisions = _frame("approvals", approvals)
    people = _People(None if identities is None else _frame("identities", identities))
    grants = grants.assign(number=_item_number(grants)).sort_values(
        ["occurred_at", "sequence", "row", "number"], kind="stable", ignore_index=True
    )
    decisions = decisions.sort_values(["occurred_at", "sequence", "row"], kind="stable", ignore_index=True)
    strange = ~decisions["decision"].isin(["approved", "denied", "withdrawn"])
    if strange.any():
        raise MalformedError(
            f"{str(decisions.loc[strange, 'decision'].iloc[0])[:80]!r} is no decision; "
            "it is approved, denied or withdrawn.",
            where="approvals.decision",
        )
    pool = _encode(
        grants,
        decisions,
        _frame("revokes", revokes),
        _frame("requests", requests),
        _frame("leaves", leaves),
        _frame("joins", joins),
        people,
        policy,
        until,
    )
    items = _table(grants, decisions, pool, policy)
    return Verdicts(items, policy, observed_until, identities is not None, leaves is not None)


# --- the frames, checked ------------------------------------------------------------------------------------


def _frame(name: str, frame: pd.DataFrame | None) -> pd.DataFrame:
    """The columns that matter, texts as `str` with empty as missing, times as aware microseconds."""
    wanted = _COLUMNS[name]
    if frame is None:
        frame = pd.DataFrame({column: [] for column in wanted})
    lacking = [column for column in wanted if column not in frame.columns]
    if lacking:
        raise MalformedError(f"has no column {', '.join(lacking)}.", where=name, remedy="Build it with population.")
    found: dict[str, Any] = {}
    spans = [end for end in ("valid_from", "valid_until") if name == "identities" and end in frame]
    for column in (*wanted, *spans):
        values = frame[column].reset_index(drop=True)
        if column in {"occurred_at", "valid_from", "valid_until"}:
            found[column] = pd.to_datetime(values, utc=True).astype("datetime64[us, UTC]")
        elif column in {"sequence", "row"}:
            found[column] = values.astype("int64")
        elif column == "uses":
            found[column] = values.astype("Int64")
        elif column == "emergency":
            found[column] = values.astype("boolean").fillna(False).astype(bool)
        else:
            found[column] = values.astype("str").mask(values.astype("str") == "")
    if "occurred_at" in found and found["occurred_at"].isna().any():
        raise MalformedError("a row has no time.", where=f"{name}.occurred_at")
    return pd.DataFrame(found)


def _item_number(grants: pd.DataFrame) -> pd.Series[int]:
    """`event_id#n` -> n; an item that is its event's only one -> 0."""
    number = pd.Series(0, index=grants.index, dtype="int64")
    several = grants["item"] != grants["event_id"]
    if several.any():
        tail = grants.loc[several, "item"].str.extract(r"#([0-9]{1,9})$")[0]
        number[several] = tail.fillna("0").astype("int64")
    return number


def _micros(times: pd.Series[Any], missing: int = _ALWAYS) -> Ints:
    """Times -> microseconds since 1970 UTC, NaT -> `missing`."""
    values: Ints = np.array(times.astype("int64"), dtype=np.int64)
    values[times.isna().to_numpy()] = missing
    return values


def _codes(*columns: pd.Series[Any]) -> list[Ints]:
    """Texts -> numbers, equal where the texts are; missing -> -1."""
    codes = pd.factorize(pd.concat(columns, ignore_index=True).astype("str"))[0].astype(np.int64)
    return np.split(codes, np.cumsum([len(column) for column in columns])[:-1])


def _dense(*blocks: Sequence[Ints]) -> list[Ints]:
    """Rows of numbers -> one number a row, below the number of rows, equal where the rows are."""
    code = np.zeros(sum(len(block[0]) for block in blocks), dtype=np.int64)
    for column in zip(*blocks, strict=True):
        part = np.concatenate(column) + 1
        code = pd.factorize(code * (part.max(initial=0) + 1) + part)[0].astype(np.int64)
    return np.split(code, np.cumsum([len(block[0]) for block in blocks])[:-1])


def _pairs(*blocks: Sequence[Ints]) -> list[Ints]:
    """(subject, entitlement) -> one number, -1 where either is missing."""
    joined = _dense(*blocks)
    return [np.where((a < 0) | (b < 0), -1, code) for code, (a, b) in zip(joined, blocks, strict=True)]


def _asof(row_code: Ints, row_rank: Ints, code: Ints, rank: Ints) -> Ints:
    """For each (code, rank) the row of that code with the greatest rank at or below it, else -1."""
    if not len(row_code):
        return np.full(len(code), -1)
    ranks = np.sort(row_rank)
    width = len(ranks) + 1
    keys = row_code * width + np.searchsorted(ranks, row_rank) + 1
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    at = np.searchsorted(keys, code * width + np.searchsorted(ranks, rank, side="right"), side="right") - 1
    return np.where((at >= 0) & (code >= 0) & (keys[at] // width == code), order[at], -1)


class _People:
    """Accounts -> persons as of a time; the account itself where nobody says whose it is."""

    def __init__(self, identities: pd.DataFrame | None) -> None:
        self.identities = identities
        if identities is None:
            return
        start = _micros(identities["valid_from"]) if "valid_from" in identities else np.full(len(identities), _ALWAYS)
        end = np.full(len(identities), _NEVER)
        if "valid_until" in identities:
            end = _micros(identities["valid_until"], _NEVER)
        known = identities[["account", "person"]].assign(at=start, end=end).dropna()
        known = known.drop_duplicates().sort_values(["at", "account"], kind="stable")
        if known.duplicated(["account", "at"]).any():
            twice = known.loc[known.duplicated(["account", "at"]), "account"].iloc[0]
            raise MalformedError(
                f"{twice[:80]!r} belongs to two persons at once.",
                where="identities",
                remedy="Give each row its valid_from and valid_until.",
            )
        self.identities = known

    def of(self, accounts: pd.Series[Any], at: Ints) -> pd.Series[Any]:
        """The person behind each account then; where spans overlap, the one that began last."""
        if self.identities is None:
            return accounts
        row_code, code = _codes(self.identities["account"], accounts)
        found = _asof(row_code, self.identities["at"].to_numpy(), code, at)
        valid = (found >= 0) & (at < self.identities["end"].to_numpy()[found]) if len(row_code) else found >= 0
        persons = self.identities["person"].iloc[np.where(valid, found, 0)] if len(row_code) else accounts
        return accounts.where(~valid, persons.set_axis(accounts.index))


# --- the frames, as numbers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Candidates:
    """For each item the approvals that may serve it: rows[start : start + count]."""

    rows: Ints
    start: Ints
    count: Ints

    @staticmethod
    def by(row_code: Ints, rows: Ints, code: Ints, wanted: Bools) -> _Candidates:
        """The `rows` of the same code, for the items `wanted`; codes below 0 match nothing."""
        rows = rows[row_code[rows] >= 0]
        rows = rows[np.argsort(row_code[rows], kind="stable")]
        size = int(max(row_code.max(initial=0), code.max(initial=0))) + 1
        number = np.bincount(row_code[rows], minlength=size)
        start = np.cumsum(number) - number
        some = wanted & (code >= 0)
        return _Candidates(rows, np.where(some, start[code], 0), np.where(some, number[code], 0))

    def plus(self, other: _Candidates) -> _Candidates:
        """Both, for items of which each has candidates in one of them at most."""
        start = np.where(other.count > 0, other.start + len(self.rows), self.start)
        return _Candidates(np.concatenate([self.rows, other.rows]), start, self.count + other.count)


@dataclass(frozen=True)
class _Pool:
    """Items and approvals as arrays: items in grant order, a pair once an event; approvals by time."""

    # items
    twin: Ints  # grant row -> item
    time: Ints
    latest: Ints  # an approval after this is late
    until: Ints
    request: Ints
    subject: Ints
    entitlement: Ints
    pair: Ints
    subject_person: Ints
    granter: Ints
    refused_at: Ints  # order of the latest refusal at or before the grant, -1
    refused: Bools  # no approval came between that refusal and the grant
    removed: Ints
    standing: Bools
    # approvals
    decision: Ints  # approval -> row of the sorted decisions
    a_time: Ints
    a_subject: Ints
    a_entitlement: Ints
    a_pair: Ints
    approver: Ints
    asked: Bools  # the approver asked for it
    asker_known: Bools
    authority: npt.NDArray[np.int8]
    left: Bools  # the approver had left
    a_from: Ints
    a_until: Ints
    a_last: Ints  # the last moment that max_age allows
    uses: Ints
    newest: Ints  # approvals by time descending, then sequence, row
    newest_rank: Ints
    # both
    exact: _Candidates  # of this subject and entitlement
    loose: _Candidates  # of the request, stating no subject or no entitlement
    whole: _Candidates  # of the request
    observed: int
    end_required: bool


def _encode(
    grants: pd.DataFrame,
    decisions: pd.DataFrame,
    revokes: pd.DataFrame,
    requests: pd.DataFrame,
    leaves: pd.DataFrame,
    joins: pd.DataFrame,
    people: _People,
    policy: Policy,
    observed: int,
) -> _Pool:
    g_request, d_request, q_request = _codes(grants["request"], decisions["request"], requests["request"])
    g_subject, d_subject, r_subject = _codes(grants["grantee"], decisions["grantee"], revokes["grantee"])
    g_entitled, d_entitled, r_entitled = _codes(*(f["entitlement"] for f in (grants, decisions, revokes)))
    g_pair, d_pair, r_pair = _pairs((g_subject, g_entitled), (d_subject, d_entitled), (r_subject, r_entitled))
    # An event that names the same pair twice grants, or approves, it once.
    place = [_dense((f["sequence"].to_numpy(), f["row"].to_numpy()))[0] for f in (grants, decisions)]
    twin = _dense((place[0], g_request, g_subject, g_entitled))[0]
    first = np.unique(twin, return_index=True)[1]
    again = _dense((place[1], d_subject, d_entitled))[0]
    once = np.zeros(len(decisions), dtype=bool)
    once[np.unique(again, return_index=True)[1]] = True
    approved = (decisions["decision"] == "approved").to_numpy() & once

    time, d_time = _micros(grants["occurred_at"])[first], _micros(decisions["occurred_at"])
    request, subject, entitled, pair = g_request[first], g_subject[first], g_entitled[first], g_pair[first]
    kept = grants.iloc[first]
    a = np.flatnonzero(approved)
    a_time = d_time[a]
    given = decisions.iloc[a]

    refused_at, refused = _refusals(
        (time, request, subject, entitled, pair),
        (d_time, d_request, d_subject, d_entitled, d_pair),
        np.flatnonzero((decisions["decision"] != "approved").to_numpy()),
        a,
    )
    # Who: everybody as a person, as of the time that matters for them.
    leave_time, join_time = _micros(leaves["occurred_at"]), _micros(joins["occurred_at"])
    asked_time = _micros(requests["occurred_at"])
    approver, requester, subject_person, granter, filer, leaver, joiner = _codes(
        people.of(given["actor_id"].reset_index(drop=True), a_time),
        people.of(given["requester"].reset_index(drop=True), a_time),
        people.of(kept["grantee"].reset_index(drop=True), time),
        people.of(kept["actor_id"].reset_index(drop=True), time),
        people.of(requests["requester"], asked_time),
        people.of(leaves["grantee"], leave_time),
        people.of(joins["grantee"], join_time),
    )
    filed = (q_request >= 0) & (filer >= 0)
    mine, theirs = _dense((d_request[a], approver), (q_request[filed], filer[filed]))
    asked = (approver == requester) | np.isin(mine, theirs)
    asker_known = (requester >= 0) | np.isin(d_request[a], q_request[filed])
    leave = _asof(leaver, leave_time, approver, a_time - 1)  # a leave at the very moment is not before it
    join = _asof(joiner, join_time, approver, a_time)
    left_at = np.where(leave >= 0, np.append(leave_time, 0)[leave], _NEVER)
    left = (leave >= 0) & ~((join >= 0) & (np.append(join_time, 0)[join] > left_at))
    authority = np.full(len(a), NA, dtype=np.int8)
    if policy.authorities:
        held = given["authority"].isin(policy.authorities).to_numpy()
        authority = np.where(given["authority"].isna().to_numpy(), NT, np.where(held, PASS, FAIL)).astype(np.int8)
    authority[left] = FAIL

    uses = given["uses"].fillna(_UNLIMITED if policy.default_uses is None else policy.default_uses)
    max_age = None if policy.max_age_days is None else policy.max_age_days * DAY
    newest = np.lexsort((np.arange(len(a)), -a_time))
    newest_rank = np.empty(len(a), dtype=np.int64)
    newest_rank[newest] = np.arange(len(a))

    # Revokes: the first one of the pair that comes after the grant, in the order of the trail.
    rank = np.empty(len(first) + len(revokes), dtype=np.int64)
    trail = [np.concatenate([kept[c].to_numpy(), revokes[c].to_numpy()]) for c in ("row", "sequence")]
    revoke_time = _micros(revokes["occurred_at"])
    rank[np.lexsort((*trail, np.concatenate([time, revoke_time])))] = np.arange(len(rank))
    next_revoke = _asof(r_pair, -rank[len(first) :], pair, -rank[: len(first)])
    grace = 0 if policy.emergency_hours is None else policy.emergency_hours * 3600 * SECOND

    all_rows, stated = np.arange(len(a)), d_pair[a] >= 0
    row_exact, code_exact = _dense((d_request[a], d_pair[a]), (request, pair))
    by_request = _Candidates.by(row_exact, all_rows[stated], code_exact, (request >= 0) & (pair >= 0))
    by_pair = _Candidates.by(d_pair[a], all_rows, pair, request < 0)
    return _Pool(
        twin=twin,  # factorize numbers in order of appearance
        time=time,
        latest=time + np.where(kept["emergency"].to_numpy(), grace, 0),
        until=_micros(kept["valid_until"], _NEVER),
        request=request,
        subject=subject,
        entitlement=entitled,
        pair=pair,
        subject_person=subject_person,
        granter=granter,
        refused_at=refused_at,
        refused=refused,
        removed=np.where(next_revoke >= 0, np.append(revoke_time, 0)[next_revoke], _NEVER),
        standing=_standing(kept["entitlement"], policy.standing),
        decision=a,
        a_time=a_time,
        a_subject=d_subject[a],
        a_entitlement=d_entitled[a],
        a_pair=d_pair[a],
        approver=np.where(approver < 0, -2, approver),
        asked=asked & (approver >= 0),
        asker_known=asker_known,
        authority=authority,
        left=left,
        a_from=_micros(given["valid_from"]),
        a_until=_micros(given["valid_until"], _NEVER),
        a_last=np.full(len(a), _NEVER) if max_age is None else a_time + max_age,
        uses=uses.to_numpy(dtype=np.int64),
        newest=newest,
        newest_rank=newest_rank,
        exact=by_request.plus(by_pair),
        loose=_Candidates.by(d_request[a], all_rows[~stated], request, pair >= 0),
        whole=_Candidates.by(d_request[a], all_rows, request, request >= 0),
        observed=observed,
        end_required=policy.time_bound_required,
    )


def _refusals(items: Sequence[Ints], rows: Sequence[Ints], refusing: Ints, approving: Ints) -> tuple[Ints, Bools]:
    """For each item the latest refusal at or before it, and whether no approval came between (rule 2)."""
    last = _latest(items, rows, refusing, np.arange(len(items[0])), loose_pairs=True)
    refused = last >= 0
    touched = np.flatnonzero(refused)
    refused[touched] = _latest(items, rows, approving, touched, loose_pairs=False) < last[touched]
    return last, refused


def _latest(items: Sequence[Ints], rows: Sequence[Ints], which: Ints, some: Ints, *, loose_pairs: bool) -> Ints:
    """The position of the latest of the decisions `which` that answers each item of `some` by its time."""
    time, request, subject, entitled, pair = (column[some] for column in items)
    d_time, d_request, d_subject, d_entitled, d_pair = rows
    bound = np.searchsorted(d_time, time, side="right") - 1
    found = np.full(len(some), -1)

    def look(row_code: Ints, at: Ints, code: Ints, who: Ints) -> None:
        best = _asof(row_code, at, code, bound[who])
        found[who] = np.maximum(found[who], np.where(best >= 0, np.append(at, -1)[best], -1))

    named = which[d_request[which] >= 0]
    who = np.flatnonzero((request >= 0) & np.isin(request, d_request[named]))
    for any_subject in (False, True):
        for any_entitled in (False, True):
            subjects = np.full(len(who), -1) if any_subject else subject[who]
            entitlements = np.full(len(who), -1) if any_entitled else entitled[who]
            row_code, code = _dense(
                (d_request[named], d_subject[named], d_entitled[named]),
                (request[who], subjects, entitlements),
            )
            look(row_code, named, code, who)
    paired = which[d_pair[which] >= 0]
    who = np.flatnonzero((request < 0) & (pair >= 0))
    look(d_pair[paired], paired, pair[who], who)
    if loose_pairs:  # a refusal that names no request answers the pair it states, whatever request a grant names
        paired = paired[d_request[paired] < 0]
        who = np.flatnonzero((request >= 0) & (pair >= 0))
        look(d_pair[paired], paired, pair[who], who)
    return found


def _standing(entitlements: pd.Series[Any], globs: tuple[str, ...]) -> Bools:
    """Which entitlements the policy approves in advance."""
    codes, names = pd.factorize(entitlements)
    known = pd.Series(names, dtype=object)
    hit = np.zeros(len(known) + 1, dtype=bool)
    for glob in globs:
        hit[:-1] |= known.str.fullmatch(translate(glob)).to_numpy(dtype=bool)
    found: Bools = hit[codes]
    return found


# --- the choice: one number a pair, the least is the best ---------------------------------------------------
# From the greatest bits: for others (1), void (1), subject (2), entitlement (2), failures (3), not-testable
# (3), before (2), approver (2), authority (2), validity (2), uses (2), order (32), removed (2; decides nothing,
# no two orders are equal).

_FIELDS = {
    "removed": 0,
    "order": 2,
    "uses": 34,
    "valid": 36,
    "authorised": 38,
    "independent": 40,
    "before": 42,
}
_FIELDS |= {"not_testable": 44, "failures": 47, "entitlement": 50, "subject": 52, "void": 54, "others": 55}
_FIVE = np.arange(1 << 12)  # before, approver, authority, validity, uses, removed: two bits each
_TALLY = sum(
    ((_FIVE >> shift & 3) == FAIL).astype(np.int64) * 8 + ((_FIVE >> shift & 3) == NT) for shift in range(0, 12, 2)
)


def _field(keys: Ints, name: str) -> Ints:
    """One attribute's code in each key."""
    width = {"order": 32, "others": 1, "void": 1, "failures": 3, "not_testable": 3}.get(name, 2)
    value: Ints = keys >> _FIELDS[name] & ((1 << width) - 1)
    return value


def _judge(pool: _Pool, i: Ints, a: Ints, left: Ints) -> Ints:
    """Item i against approval a, with `left` uses of each approval left -> the key of each pair."""
    p, time, given = pool, pool.time[i], pool.a_time[a]
    before = given <= time
    late = given > p.latest[i]
    no_pair = p.pair[i] < 0
    subject = _compare(p.subject[i], p.a_subject[a])
    entitlement = _compare(p.entitlement[i], p.a_entitlement[a])
    others = (subject == FAIL) | (entitlement == FAIL)
    void = np.where(before, p.decision[a] < p.refused_at[i], p.refused[i])
    approver, person = p.approver[a], p.subject_person[i]
    own = p.asked[a] | (approver == person) | (approver == p.granter[i])
    unknown = (approver < 0) | (person < 0) | (p.granter[i] < 0) | ~p.asker_known[a]
    independent = np.where(own, FAIL, np.where(unknown, NT, PASS))
    outside = (time < p.a_from[a]) | (time >= p.a_until[a]) | (time > p.a_last[a])
    spent = np.where(left[a] > 0, PASS, FAIL)
    spent[no_pair & (left[a] < _UNLIMITED)] = NT
    spent[others | late | outside] = NA
    end = np.minimum(p.until[i], p.a_until[a])
    removed = np.where(p.removed[i] <= end, PASS, np.where(no_pair, NT, FAIL))
    removed[end > p.observed] = NA  # not yet due, unless it was removed already
    removed[(p.removed[i] <= end) & ~no_pair] = PASS
    removed[end == _NEVER] = FAIL if p.end_required else NA
    six = late * (FAIL << 10) | independent << 8 | p.authority[a].astype(np.int64) << 6
    six |= outside * (FAIL << 4) | spent << 2 | removed
    order = np.where(before, p.newest_rank[a], len(p.a_time) + a)
    key = others.astype(np.int64) << 1 | void
    key = (key << 2 | subject) << 2 | entitlement
    key = (key << 6 | _TALLY[six]) << 10 | six >> 2
    result: Ints = (key << 32 | order) << 2 | six & 3
    return result


def _compare(mine: Ints, theirs: Ints) -> Ints:
    return np.where((mine < 0) | (theirs < 0), NT, np.where(mine == theirs, PASS, FAIL))


def _approval(pool: _Pool, keys: Ints) -> Ints:
    """The approval behind each key; any number where there is none."""
    order, size = _field(keys, "order"), len(pool.a_time)
    if not size:
        return np.zeros(len(keys), dtype=np.int64)
    return np.where(order < size, pool.newest[np.minimum(order, size - 1)], np.clip(order - size, 0, size - 1))


def _best(pool: _Pool, items: Ints, sources: Sequence[_Candidates], left: Ints) -> Ints:
    """The least key of each item over its candidates, _NOTHING where it has none; _CHUNK pairs at a time."""
    best = np.full(len(items), _NOTHING)
    for source in sources:
        count = source.count[items]
        some = np.flatnonzero(count)
        for part in _parts(count[some]):
            who = some[part]
            number = count[who]
            start = np.cumsum(number) - number
            rows = source.rows[np.arange(number.sum()) + np.repeat(source.start[items[who]] - start, number)]
            keys = _judge(pool, np.repeat(items[who], number), rows, left)
            best[who] = np.minimum(best[who], np.minimum.reduceat(keys, start))
    return best


def _parts(count: Ints) -> Iterator[slice]:
    """Slices of at most _CHUNK pairs, or of one item that has more."""
    ends, at = np.cumsum(count), 0
    while at < len(count):
        reach = (ends[at - 1] if at else 0) + _CHUNK
        to = max(int(np.searchsorted(ends, reach, side="right")), at + 1)
        yield slice(at, to)
        at = to


def _choose(pool: _Pool) -> tuple[Ints, Bools]:
    """The key of each item's best approval, _NOTHING where there is none; and what was not compared."""
    number = len(pool.time)
    best, crowded = np.full(number, _NOTHING), np.zeros(number, dtype=bool)
    limited = pool.a_pair >= 0  # the others are counted after the choice
    left = np.where(limited, pool.uses, _UNLIMITED)
    sources = (pool.exact, pool.loose)
    paired = np.flatnonzero((pool.pair >= 0) & ~pool.standing)
    cost = pool.exact.count[paired] + pool.loose.count[paired]
    paired, crowd, spare = _affordable(paired, pool.pair, cost, MAX_PAIRS)
    crowded[crowd] = True
    best[paired] = _best(pool, paired, sources, left)

    # Where each took the best and some approval was taken too often, the pair's items take turns.
    over = _beyond(pool, paired, best[paired], limited)
    most = np.zeros(int(pool.pair.max(initial=0)) + 1, dtype=np.int64)
    np.maximum.at(most, pool.pair[paired], pool.exact.count[paired] + pool.loose.count[paired])
    contested = np.zeros(len(most), dtype=bool)
    contested[pool.pair[over]] = True
    alone = over[most[pool.pair[over]] == 1]  # no other approval to turn to
    best[alone] = _judge(pool, alone, _approval(pool, best[alone]), np.zeros_like(left))
    rivals = paired[contested[pool.pair[paired]] & (most[pool.pair[paired]] > 1)]
    many = np.bincount(pool.pair[rivals], minlength=len(most)) > MAX_TURNS
    crowded[rivals[many[pool.pair[rivals]]]] = True
    rivals = rivals[~many[pool.pair[rivals]]]
    if len(rivals):
        best[rivals] = _turns(pool, rivals, sources, left)

    over = _beyond(pool, paired, best[paired], ~limited)
    best[over] = _judge(pool, over, _approval(pool, best[over]), np.zeros_like(left))
    # Nothing of this subject and entitlement: the closest of the request's other approvals.
    poor = ~crowded & ~pool.standing & (pool.request >= 0) & (_field(best, "others") == 1)
    others = np.flatnonzero(poor)
    others, crowd, _ = _affordable(others, pool.request, pool.whole.count[others], spare)
    crowded[crowd] = True
    best[others] = _best(pool, others, (pool.whole,), pool.uses)
    return best, crowded


def _affordable(items: Ints, code: Ints, cost: Ints, budget: int) -> tuple[Ints, Ints, int]:
    """The items whose groups fit the budget, cheapest first; those of the others; what is left of it."""
    total = np.bincount(code[items], weights=cost, minlength=1)
    cheapest = np.argsort(total, kind="stable")
    spent = np.empty(len(total))
    spent[cheapest] = np.cumsum(total[cheapest])
    fits = (spent <= budget) | (total == 0)
    kept = fits[code[items]]
    return items[kept], items[~kept], budget - int(total[fits].sum())


def _beyond(pool: _Pool, items: Ints, keys: Ints, counted: Bools) -> Ints:
    """The items, in grant order, that took an approval of those `counted` beyond its uses."""
    taken = _approval(pool, keys)
    used = (keys != _NOTHING) & (_field(keys, "uses") == PASS) & (_field(keys, "void") == 0)
    if not len(pool.a_time):
        return items[:0]
    used &= counted[taken] & (pool.uses[taken] < _UNLIMITED)
    items, taken = items[used], taken[used]
    order = np.argsort(taken, kind="stable")
    start = np.flatnonzero(np.diff(taken[order], prepend=-1))
    turn = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
    return np.sort(items[order[turn >= pool.uses[taken[order]]]])


def _turns(pool: _Pool, items: Ints, sources: Sequence[_Candidates], left: Ints) -> Ints:
    """One after another, each of a pair's items takes the best approval that still has a use (rule 5).

    The loop runs over turns, not items: at each turn the next item of every pair chooses. A pair leaves it as
    soon as none of its approvals can still run out.
    """
    best = np.full(len(items), _NOTHING)
    left = left.copy()
    by_pair = np.argsort(pool.pair[items], kind="stable")
    pairs, head, size = np.unique(pool.pair[items[by_pair]], return_index=True, return_counts=True)
    tail = head + size
    stock = _Candidates.by(pool.a_pair, np.arange(len(left)), pairs, np.ones(len(pairs), dtype=bool))
    group = np.arange(len(pairs))
    rest = np.zeros(len(items), dtype=bool)
    while len(group):
        who = by_pair[head[group]]
        keys = best[who] = _best(pool, items[who], sources, left)
        taken = _approval(pool, keys)
        used = (keys != _NOTHING) & (_field(keys, "uses") == PASS) & (_field(keys, "void") == 0)
        used &= left[taken] < _UNLIMITED
        left[taken[used]] -= 1  # one item a pair and turn: no approval twice
        head[group] += 1
        waiting = tail[group] - head[group]
        number = stock.count[group]
        start = np.cumsum(number) - number
        rows = stock.rows[np.arange(number.sum()) + np.repeat(stock.start[group] - start, number)]
        scarce = (left[rows] > 0) & (left[rows] < np.repeat(waiting, number))
        going = np.logical_or.reduceat(scarce, start)
        settled = group[~going]
        many = tail[settled] - head[settled]
        first = np.cumsum(many) - many
        rest[by_pair[np.arange(many.sum()) + np.repeat(head[settled] - first, many)]] = True
        group = group[going]
    best[rest] = _best(pool, items[rest], sources, left)
    return best


# --- the answer ---------------------------------------------------------------------------------------------

_SENTENCES = (
    "",
    "Approved in advance by standing policy.",
    "Approved after the grant, within the time that the emergency policy allows.",
    "Its end lies past what was observed: the removal is not yet due.",
    "No approval answers the grant.",
    "It was denied or withdrawn by the time of the grant.",
    "The grant names no request and not both subject and entitlement: no approval can be linked.",
    "Too many grants and approvals share one request or one subject and entitlement: they were not compared.",
    "The approval came after the grant.",
    "The approval came after the emergency grant, later than the policy allows.",
    "The approval names another subject.",
    "The approval names another entitlement.",
    "The approver is the subject.",
    "The approver is the granter.",
    "The approver is the requester.",
    "The approver had left before approving.",
    "The approver's authority is none of those that the policy names.",
    "The grant lies before the time for which the approval holds.",
    "The grant lies after the time for which the approval holds.",
    "The approval was older than the policy allows.",
    "The approval was used up by earlier grants.",
    "The access was not revoked by its end.",
    "The policy requires an end and none was set.",
    "The grant does not say who got the access.",
    "The approval does not say whose access it approves.",
    "The grant does not say which access was granted.",
    "The approval does not say which access it approves.",
    "Who asked for the access is not recorded.",
    "By which authority it was approved is not recorded.",
    "Without subject and entitlement the uses cannot be counted.",
    "Without subject and entitlement no revoke can be found.",
)


def _table(grants: pd.DataFrame, decisions: pd.DataFrame, pool: _Pool, policy: Policy) -> pd.DataFrame:
    """One row per grant item, in trail order."""
    keys, crowded = _choose(pool)
    linked = (pool.request >= 0) | (pool.pair >= 0)
    chosen = (keys != _NOTHING) & (_field(keys, "void") == 0) & ~crowded & ~pool.standing
    codes = np.full((len(keys), len(ATTRIBUTES)), NA, dtype=np.int8)
    codes[:, 0] = np.where(chosen | pool.standing, PASS, np.where(crowded | ~linked, NT, FAIL))
    names = ("before", "subject", "entitlement", "independent", "authorised", "valid", "uses", "removed")
    for column, name in enumerate(names, start=1):
        codes[chosen, column] = _field(keys[chosen], name)
    alone = pool.standing  # no approval: the grant's own end is what counts
    codes[alone, 8] = _removed_alone(pool)[alone]

    failed, open_ = codes == FAIL, codes == NT
    first = np.where(failed.any(axis=1), failed.argmax(axis=1), open_.argmax(axis=1))
    verdict = np.where(failed.any(axis=1), first + 1, np.where(open_.any(axis=1), len(ATTRIBUTES) + 1, 0))
    approval = np.where(chosen, _approval(pool, keys), -1)
    reason = _reasons(pool, codes, verdict, np.where(verdict > 0, first, -1), approval, crowded, linked, keys)

    order = np.lexsort([grants[name].to_numpy() for name in ("number", "row", "sequence")])
    item = pool.twin[order]
    told = grants.iloc[order][["item", "occurred_at", "action", "actor_id", "grantee", "entitlement", "request"]]
    told = told.reset_index(drop=True)
    row = np.append(pool.decision, -1)[approval[item]]
    given = decisions[["event_id", "actor_id", "occurred_at"]].reindex(row).reset_index(drop=True)
    told["approval"] = given["event_id"].mask(pd.Series(pool.standing[item]), STANDING)
    told["approver"], told["approved_at"] = given["actor_id"], given["occurred_at"]
    labels = pd.array(list(_LABELS), dtype="str")
    for column, name in enumerate(ATTRIBUTES):
        told[name] = labels.take(codes[item, column])
    told["verdict"] = pd.array(["pass", *ATTRIBUTES, NOT_TESTABLE], dtype="str").take(verdict[item])
    told["reason"] = pd.array(list(_SENTENCES), dtype="str").take(reason[item])
    return told


def _removed_alone(pool: _Pool) -> Ints:
    """removed_in_time by the grant's own end, for standing approvals."""
    end = pool.until
    removed = np.where((pool.removed <= end) & (pool.pair >= 0), PASS, np.where(end > pool.observed, NA, FAIL))
    removed[(removed == FAIL) & (pool.pair < 0)] = NT
    return np.where(end == _NEVER, FAIL if pool.end_required else NA, removed)


def _reasons(
    pool: _Pool,
    codes: npt.NDArray[np.int8],
    verdict: Ints,
    first: Ints,
    approval: Ints,
    crowded: Bools,
    linked: Bools,
    keys: Ints,
) -> Ints:
    """The number of the sentence that tells each item's verdict."""
    if not len(pool.a_time):
        pool_time = np.full(len(keys), _ALWAYS)
        approver, a_from, a_last, left, until = (pool_time,) * 5
    else:
        pool_time, approver = pool.a_time[approval], pool.approver[approval]
        a_from, a_last, until = pool.a_from[approval], pool.a_last[approval], pool.a_until[approval]
        left = pool.left[approval].astype(np.int64)
    end = np.where(approval >= 0, np.minimum(pool.until, until), pool.until)
    failing = verdict <= len(ATTRIBUTES)
    at = {name: first == column for column, name in enumerate(ATTRIBUTES)}
    emergency = pool.latest > pool.time
    fails = {name: hit & failing for name, hit in at.items()}
    opens = {name: hit & ~failing for name, hit in at.items()}
    told: list[tuple[Bools, int | Ints]] = [
        (fails["approval_exists"], np.where(keys == _NOTHING, 4, 5)),
        (opens["approval_exists"], np.where(crowded, 7, 6)),
        (fails["approved_before_grant"], np.where(emergency, 9, 8)),
        (fails["same_subject"], 10),
        (opens["same_subject"], np.where(pool.subject < 0, 23, 24)),
        (fails["same_entitlement"], 11),
        (opens["same_entitlement"], np.where(pool.entitlement < 0, 25, 26)),
        (
            fails["independent_approver"],
            np.where(approver == pool.subject_person, 12, np.where(approver == pool.granter, 13, 14)),
        ),
        (opens["independent_approver"], 27),
        (fails["approver_authorised"], np.where(left > 0, 15, 16)),
        (opens["approver_authorised"], 28),
        (fails["within_validity"], np.where(pool.time < a_from, 17, np.where(pool.time > a_last, 19, 18))),
        (fails["within_uses"], 20),
        (opens["within_uses"], 29),
        (fails["removed_in_time"], np.where(end == _NEVER, 22, 21)),
        (opens["removed_in_time"], 30),
        (pool.standing & (verdict == 0), 1),
        ((verdict == 0) & (approval >= 0) & (pool_time > pool.time), 2),
        ((verdict == 0) & (end != _NEVER) & (codes[:, 8] == NA), 3),
    ]
    reason: Ints = np.select([hit for hit, _ in told], [np.asarray(number) for _, number in told], 0)
    return reason
