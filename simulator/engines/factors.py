"""Elimination order and fill pattern of the factors: computed once per topology."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from simulator.engines.base import IntArray

_Node = TypeVar("_Node", int, str)

ROW = 3
"""What a row of the factors costs beside its entries, in entries."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Rows of the factors in elimination order.

    Attributes:
        upper: Per row, the columns right of the diagonal, ascending.
        lower: Per row, the columns left of the diagonal, ascending.
        parent: Per row, the next row that depends on it; -1 for none.
    """

    upper: list[list[int]]
    lower: list[list[int]]
    parent: list[int]

    def dependants(self, rows: Iterable[int]) -> list[int]:
        """Return the rows whose factors change when these rows of the matrix change."""
        found: set[int] = set()
        for start in rows:
            row = start
            while row >= 0 and row not in found:
                found.add(row)
                row = self.parent[row]
        return sorted(found)


def silent_order(near: Mapping[int, set[int]], groups: Iterable[Sequence[int]]) -> list[int]:
    """Return the nodes to be eliminated before all others, because what is left gets smaller.

    Args:
        near: Neighbours of each node; left as they are once those nodes are eliminated.
        groups: Nodes that may be eliminated, each group at once or not at all.
    """
    graph = {k: set(others) for k, others in near.items()}
    waiting = {k: list(group) for k, group in enumerate(groups) if group}
    order: list[int] = []
    gained = True
    while gained:
        gained = False
        for k, group in list(waiting.items()):
            gone = set(group)
            around = sorted(set().union(*(graph[x] for x in group)) - gone)
            entries = sum(len(graph[x] - gone) for x in group) + len(group) * (len(group) - 1) // 2
            fill = sum(
                len(around) - m - 1 - len(graph[x] & set(around[m + 1 :]))
                for m, x in enumerate(around)
            )
            if fill > entries + ROW * len(group):
                continue
            for x in group:
                eliminated(graph, x)
            order += group
            del waiting[k]
            gained = True
    return order


def elimination_order(
    near: Mapping[str, set[str]], depth: Mapping[str, int], last: Collection[str] = ()
) -> list[str]:
    """Return the buses by least degree, the deepest first among equals.

    On a radial network this creates no fill, and what lies near the source comes last.

    Args:
        near: Neighbours of each bus.
        depth: Each bus's distance from the source.
        last: Buses that come after all others.
    """
    graph = {bus: set(others) for bus, others in near.items()}
    rank = {bus: k for k, bus in enumerate(graph)}

    def turn(bus: str) -> tuple[bool, int, int, int, str]:
        return bus in last, len(graph[bus]), -depth[bus], rank[bus], bus

    heap = [turn(bus) for bus in graph]
    heapq.heapify(heap)
    order: list[str] = []
    while heap:
        _, degree, _, _, bus = heapq.heappop(heap)
        if bus not in graph or len(graph[bus]) != degree:
            continue
        order.append(bus)
        for other in eliminated(graph, bus):
            heapq.heappush(heap, turn(other))
    return order


def eliminated(graph: dict[_Node, set[_Node]], node: _Node) -> set[_Node]:
    """Take a node out of a graph, joining its neighbours, which are returned."""
    others = graph.pop(node)
    for other in others:
        graph[other] |= others
        graph[other] -= {other, node}
    return others


def fill_pattern(n: int, entries: Iterable[tuple[int, int]]) -> Pattern:
    """Return the pattern of the factors of a structurally symmetric matrix."""
    above: list[set[int]] = [set() for _ in range(n)]
    for i, j in entries:
        if i != j:
            above[min(i, j)].add(max(i, j))
    parent = [-1] * n
    for k in range(n):
        if above[k]:
            parent[k] = min(above[k])
            above[parent[k]] |= above[k] - {parent[k]}
    lower: list[list[int]] = [[] for _ in range(n)]
    for k in range(n):
        for j in above[k]:
            lower[j].append(k)
    return Pattern([sorted(x) for x in above], lower, parent)


def csr(rows: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
    """Return pointers and columns of a pattern."""
    pointers = np.zeros(len(rows) + 1, np.int64)
    pointers[1:] = np.cumsum([len(r) for r in rows])
    columns = np.fromiter((c for r in rows for c in r), np.int64, int(pointers[-1]))
    return pointers, columns
