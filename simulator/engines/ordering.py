"""The order in which the nodes of a model are eliminated: computed once per topology."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from simulator.engines.factors import (
    Pattern,
    eliminated,
    elimination_order,
    fill_pattern,
    silent_order,
)
from simulator.engines.nodal import GROUND, NodalModel


@dataclass(frozen=True, slots=True)
class Order:
    """Where each node stands, and what comes of that.

    Attributes:
        slot: Place of each node. Source nodes come after the free ones, then the ground, whose
            place nodes without supply share.
        n: Free nodes.
        n_silent: The first ones of them, on which nothing draws and which no control looks at:
            no iteration needs their voltages.
        n_fixed: The first ones of them, whose rows of the factors no moving regulator touches.
        pattern: Pattern of the factors.
    """

    slot: dict[int, int]
    n: int
    n_silent: int
    n_fixed: int
    pattern: Pattern

    @property
    def effort(self) -> int:
        """What the factors cost: an iteration reads them, a tap change computes the last ones."""
        lengths = [len(row) for row in self.pattern.upper]
        return sum(lengths[self.n_silent :]) + sum(x * x for x in lengths[self.n_fixed :])


def order_nodes(model: NodalModel) -> Order:
    """Return the better one of two orders.

    With the ends of the moving regulators last, a tap change touches nothing but them, and it
    costs fill between the regulators around each part of the network: little for a few of them.
    Otherwise it touches all rows between the regulator and the source.
    """
    return min((_ordered(model, apart) for apart in (True, False)), key=lambda x: x.effort)


def _ordered(model: NodalModel, apart: bool) -> Order:
    near = _neighbours(model)
    depth = _depths(model, near)
    source = set(model.source)
    members: dict[str, list[int]] = {}
    for k in sorted(depth, key=lambda x: (-depth[x], x)):
        if k not in source:
            members.setdefault(model.nodes[k][0], []).append(k)
    ends = {x for r in model.regulators if r.moves for x in (r.i, r.j)}
    shunts = (*model.loads, *model.devices, *model.capacitors)
    heard = ends | {x for s in shunts for x in (s.i, s.j)}
    heard |= {x for c in model.capacitor_controls for x in c.measured}
    heard |= {x for k in source for x in near[k]}
    graph = {k: near[k] - source for k in depth if k not in source}
    silent = silent_order(
        graph, [[k for k in group if k not in heard] for group in members.values()]
    )
    for k in silent:
        eliminated(graph, k)
    buses = {
        bus: {model.nodes[x][0] for k in group if k in graph for x in graph[k]} - {bus}
        for bus, group in members.items()
        if not graph.keys().isdisjoint(group)
    }
    bus_depth = {bus: min(depth[k] for k in members[bus]) for bus in buses}
    last = {bus for bus in buses if not ends.isdisjoint(members[bus])} if apart else set()
    order = silent + [
        k
        for bus in elimination_order(buses, bus_depth, last)
        for k in sorted(members[bus])
        if k in graph
    ]
    slot = _slots(model, order)
    n = len(order)
    pattern = fill_pattern(n, _pairs(model, slot, n))
    touched = pattern.dependants(slot[k] for k in ends if slot[k] < n)
    behind = set(touched)
    # what depends on a row comes after it, so that this changes neither the fill nor the factors
    moved = [order[k] for k in range(n) if k not in behind] + [order[k] for k in touched]
    slot = _slots(model, moved)
    return Order(slot, n, len(silent), n - len(touched), fill_pattern(n, _pairs(model, slot, n)))


def _neighbours(model: NodalModel) -> dict[int, set[int]]:
    near: dict[int, set[int]] = {k: set() for k in range(len(model.nodes))}
    for i, j, _ in model.triplets:
        if i != j:
            near[i].add(j)
    for r in model.regulators:
        near[r.i].add(r.j)
        near[r.j].add(r.i)
    return near


def _depths(model: NodalModel, near: dict[int, set[int]]) -> dict[int, int]:
    """Return how far each supplied node is from the source."""
    depth = dict.fromkeys(model.source, 0)
    frontier = deque(model.source)
    while frontier:
        k = frontier.popleft()
        for other in near[k]:
            if other not in depth:
                depth[other] = depth[k] + 1
                frontier.append(other)
    return depth


def _slots(model: NodalModel, order: list[int]) -> dict[int, int]:
    slot = {k: at for at, k in enumerate([*order, *model.source])}
    ground = len(slot)
    return {GROUND: ground} | {k: slot.get(k, ground) for k in range(len(model.nodes))}


def _pairs(model: NodalModel, slot: dict[int, int], n: int) -> set[tuple[int, int]]:
    """Return the places of the admittance matrix of the free nodes that are not zero."""
    pairs = {(slot[i], slot[j]) for i, j, _ in model.triplets}
    pairs |= {(slot[x], slot[y]) for r in model.regulators for x in (r.i, r.j) for y in (r.i, r.j)}
    return {(x, y) for i, j in pairs if i < n and j < n for x, y in ((i, j), (j, i))}
