"""Rings: A approves for B, B for C, and C for A.

    find_rings({("A", "B"): 3, ("B", "A"): 2, ("A", "C"): 9}, longest=4)       [("A", "B")]

A ring is written from its least member on; each member approves for the next, the last for the first.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping

MAX_EDGES = 20_000  # pairs of approver and approved among which rings longer than two are searched: some seconds

Edge = tuple[str, str]  # approver, for whom
Ring = tuple[str, ...]


def find_rings(edges: Iterable[Edge], longest: int) -> list[Ring]:
    """Of every edge that lies on a ring of at most `longest` members a shortest one; by length, then by members.

    So every edge on a ring is on one that is named, and their number is bounded. Past MAX_EDGES only pairs are found.
    """
    known = _inner(set(edges))
    rings = {_from_least(edge) for edge in known if edge[::-1] in known}
    if len(known) <= MAX_EDGES:
        following: dict[str, list[str]] = defaultdict(list)
        preceding: dict[str, list[str]] = defaultdict(list)
        for one, other in sorted(known):
            following[one].append(other)
            preceding[other].append(one)
        for start in sorted(preceding):
            ways = _ways(start, following, longest)
            rings |= {_from_least(ways[end]) for end in preceding[start] if end in ways and (start, end) not in known}
    return sorted(rings, key=lambda ring: (len(ring), ring))


def edges_of(ring: Ring) -> list[Edge]:
    """The edges of a ring."""
    return list(zip(ring, (*ring[1:], ring[0]), strict=True))


def _inner(edges: set[Edge]) -> set[Edge]:
    """The edges without those that begin or end with somebody who only approves, or is only approved for."""
    both = {one for one, _ in edges} & {other for _, other in edges}
    return {(one, other) for one, other in edges if one != other and one in both and other in both}


def _ways(start: str, following: Mapping[str, list[str]], most: int) -> dict[str, Ring]:
    """A shortest way from `start` to each who can be reached over at most `most` members."""
    ways: dict[str, Ring] = {start: (start,)}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        if len(ways[here]) == most:
            continue
        for there in following.get(here, ()):
            if there not in ways:
                ways[there] = (*ways[here], there)
                waiting.append(there)
    return ways


def _from_least(ring: Ring) -> Ring:
    at = ring.index(min(ring))
    return ring[at:] + ring[:at]
