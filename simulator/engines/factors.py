"""Elimination order and fill pattern of the factors: computed once per topology."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simulator.engines.base import IntArray


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


def elimination_order(near: Mapping[str, set[str]], depth: Mapping[str, int]) -> list[str]:
    """Return the buses by least degree, the deepest first among equals.

    On a radial network this creates no fill, and what lies near the source, such as the
    regulators, comes last, so that few rows depend on it.
    """
    graph = {bus: set(others) for bus, others in near.items()}
    heap = [(len(others), -depth[bus], k, bus) for k, (bus, others) in enumerate(graph.items())]
    rank = {bus: k for k, bus in enumerate(graph)}
    heapq.heapify(heap)
    order: list[str] = []
    while heap:
        degree, _, _, bus = heapq.heappop(heap)
        if bus not in graph or len(graph[bus]) != degree:
            continue
        others = graph.pop(bus)
        order.append(bus)
        for other in others:
            graph[other] |= others
            graph[other] -= {other, bus}
            heapq.heappush(heap, (len(graph[other]), -depth[other], rank[other], other))
    return order


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
