"""The choice: the best approval of each item, with uses handed out in turn and floods left aside (rules 3, 5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from auditlib.approvals.codes import Bools, Ints, runs, starts
from auditlib.approvals.keys import NOTHING, approval_of, field, judge, uses_up
from auditlib.approvals.pool import UNLIMITED, Candidates, Pool

MAX_PAIRS = 400_000_000  # grant-approval comparisons in all; about 15 million a second
MAX_TURNS = 20_000  # grants of one pair that compete for several approvals of limited use, one after another
CHUNK = 1 << 17  # pairs compared at once: the arrays of one chunk stay in the cache


def choose(pool: Pool) -> tuple[Ints, Bools]:
    """The key of each item's best approval, NOTHING where there is none; and what was not compared."""
    items = pool.items
    best, crowded = np.full(len(items.time), NOTHING), np.zeros(len(items.time), dtype=bool)
    limited = pool.approvals.pair >= 0  # the others are counted after the choice
    left = np.where(limited, pool.approvals.uses, UNLIMITED)
    sources = (pool.exact, pool.loose)
    count = pool.exact.count + pool.loose.count
    paired = np.flatnonzero((items.pair >= 0) & ~items.standing)
    paired, crowd, spare = _affordable(paired, items.pair, count[paired], MAX_PAIRS)
    crowded[crowd] = True
    best[paired] = _best(pool, paired, sources, left)

    # Where each took the best and some approval was taken too often, the pair's items take turns.
    over = _beyond(pool, paired, best[paired], limited)
    most = np.zeros(int(items.pair.max(initial=0)) + 1, dtype=np.int64)
    np.maximum.at(most, items.pair[paired], count[paired])
    contested = np.zeros(len(most), dtype=bool)
    contested[items.pair[over]] = True
    alone = over[most[items.pair[over]] == 1]  # no other approval to turn to
    best[alone] = _used_up(pool, alone, best[alone])
    rivals = paired[contested[items.pair[paired]] & (most[items.pair[paired]] > 1)]
    many = np.bincount(items.pair[rivals], minlength=len(most)) > MAX_TURNS
    crowded[rivals[many[items.pair[rivals]]]] = True
    rivals = rivals[~many[items.pair[rivals]]]
    if len(rivals):
        best[rivals] = _turns(pool, rivals, sources, left)

    over = _beyond(pool, paired, best[paired], ~limited)
    best[over] = _used_up(pool, over, best[over])
    # Nothing of this subject and entitlement: the closest of the request's other approvals.
    poor = ~crowded & ~items.standing & (items.request >= 0) & (field(best, "others") == 1)
    others = np.flatnonzero(poor)
    others, crowd, _ = _affordable(others, items.request, pool.whole.count[others], spare)
    crowded[crowd] = True
    best[others] = _best(pool, others, (pool.whole,), pool.approvals.uses)
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


def _best(pool: Pool, items: Ints, sources: Sequence[Candidates], left: Ints) -> Ints:
    """The least key of each item over its candidates, NOTHING where it has none; CHUNK pairs at a time."""
    best = np.full(len(items), NOTHING)
    for source in sources:
        count = source.count[items]
        some = np.flatnonzero(count)
        for part in _parts(count[some]):
            who = some[part]
            keys = judge(pool, np.repeat(items[who], count[who]), source.of(items[who]), left)
            best[who] = np.minimum(best[who], np.minimum.reduceat(keys, starts(count[who])))
    return best


def _parts(count: Ints) -> Iterator[slice]:
    """Slices of at most CHUNK pairs, or of one item that has more."""
    ends, at = np.cumsum(count), 0
    while at < len(count):
        reach = (ends[at - 1] if at else 0) + CHUNK
        to = max(int(np.searchsorted(ends, reach, side="right")), at + 1)
        yield slice(at, to)
        at = to


def _beyond(pool: Pool, items: Ints, keys: Ints, counted: Bools) -> Ints:
    """The items, in grant order, that took an approval of those `counted` beyond its uses."""
    used = uses_up(keys)
    taken = approval_of(pool, keys[used])
    uses = pool.approvals.uses[taken]
    scarce = counted[taken] & (uses < UNLIMITED)
    items, taken, uses = items[used][scarce], taken[scarce], uses[scarce]
    order = np.argsort(taken, kind="stable")
    start = np.flatnonzero(np.diff(taken[order], prepend=-1))
    turn = np.arange(len(order)) - np.repeat(start, np.diff(np.append(start, len(order))))
    return np.sort(items[order[turn >= uses[order]]])


def _used_up(pool: Pool, items: Ints, keys: Ints) -> Ints:
    """The same approvals with no use left."""
    return judge(pool, items, approval_of(pool, keys), np.zeros_like(pool.approvals.uses))


def _turns(pool: Pool, items: Ints, sources: Sequence[Candidates], left: Ints) -> Ints:
    """One after another, each of a pair's items takes the best approval that still has a use (rule 5).

    The loop runs over turns, not items: at each turn the next item of every pair chooses. A pair leaves it as
    soon as none of its approvals can still run out.
    """
    best = np.full(len(items), NOTHING)
    left = left.copy()
    by_pair = np.argsort(pool.items.pair[items], kind="stable")
    pairs, head, size = np.unique(pool.items.pair[items[by_pair]], return_index=True, return_counts=True)
    tail = head + size
    stock = Candidates.by(pool.approvals.pair, np.arange(len(left)), pairs, np.ones(len(pairs), dtype=bool))
    group = np.arange(len(pairs))
    rest = np.zeros(len(items), dtype=bool)
    while len(group):
        who = by_pair[head[group]]
        keys = best[who] = _best(pool, items[who], sources, left)
        taken = approval_of(pool, keys[uses_up(keys)])
        left[taken[left[taken] < UNLIMITED]] -= 1  # one item a pair and turn: no approval twice
        head[group] += 1
        number = stock.count[group]
        uses = left[stock.of(group)]
        scarce = (uses > 0) & (uses < np.repeat(tail[group] - head[group], number))
        going = np.logical_or.reduceat(scarce, starts(number))
        settled = group[~going]
        rest[by_pair[runs(head[settled], tail[settled] - head[settled])]] = True
        group = group[going]
    best[rest] = _best(pool, items[rest], sources, left)
    return best
