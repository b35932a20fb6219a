"""Texts, times and rows as numbers, so that millions of them are compared at once.

codes(["bob", None, "eve"], ["eve"])    [0, -1, 1], [1]    equal where the texts are; -1 is missing
asof(...)                               the last row of the same code at or before a moment
PASS, NA, NT, FAIL                      the outcomes of an attribute
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.extensions import ExtensionArray

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

PASS, NA, NT, FAIL = 0, 1, 2, 3  # two bits an attribute; greater is worse
NEVER = np.iinfo(np.int64).max  # an end that is not stated
ALWAYS = np.iinfo(np.int64).min  # a start that is not stated; also NaT as int64


def micros(times: pd.Series[Any], missing: int = ALWAYS) -> Ints:
    """Times -> microseconds since 1970 UTC, NaT -> `missing`."""
    values: Ints = np.array(times.astype("int64"), dtype=np.int64)
    values[times.isna().to_numpy()] = missing
    return values


def codes(*columns: pd.Series[Any]) -> list[Ints]:
    """Texts -> numbers, equal where the texts are; missing -> -1."""
    code = pd.factorize(pd.concat(columns, ignore_index=True).astype("str"))[0].astype(np.int64)
    return np.split(code, np.cumsum([len(column) for column in columns])[:-1])


def texts(labels: Sequence[str], code: npt.NDArray[np.integer[Any]]) -> ExtensionArray:
    """Numbers -> the texts that they count from 0."""
    return pd.array(list(labels), dtype="str").take(code)


def dense(*blocks: Sequence[Ints]) -> list[Ints]:
    """Rows of numbers -> one number a row, in order of appearance, equal where the rows are."""
    code = np.zeros(sum(len(block[0]) for block in blocks), dtype=np.int64)
    for column in zip(*blocks, strict=True):
        part = np.concatenate(column) + 1
        code = pd.factorize(code * (part.max(initial=0) + 1) + part)[0].astype(np.int64)
    return np.split(code, np.cumsum([len(block[0]) for block in blocks])[:-1])


def pairs(*blocks: Sequence[Ints]) -> list[Ints]:
    """(subject, entitlement) -> one number, -1 where either is missing."""
    joined = dense(*blocks)
    return [np.where((a < 0) | (b < 0), -1, code) for code, (a, b) in zip(joined, blocks, strict=True)]


def pick(column: npt.NDArray[Any], at: Ints, missing: int) -> Ints:
    """`column[at]`, and `missing` where `at` is -1."""
    found: Ints = np.append(column, missing)[at]
    return found


def inverse(order: Ints) -> Ints:
    """The place of each row in an order of rows."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank


def starts(count: Ints) -> Ints:
    """Where each run begins, when runs of these lengths stand one after another."""
    found: Ints = np.cumsum(count) - count
    return found


def runs(start: Ints, count: Ints) -> Ints:
    """start, start + 1, ... start + count - 1 of each, one after another."""
    found: Ints = np.arange(count.sum()) + np.repeat(start - starts(count), count)
    return found


def asof(row_code: Ints, row_rank: Ints, code: Ints, rank: Ints) -> Ints:
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
