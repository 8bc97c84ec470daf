"""From the nodal model to the arrays of the kernels."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simulator.engines.arrays import Network, Work
from simulator.engines.base import FloatArray, IntArray
from simulator.engines.factors import Pattern, csr, elimination_order, fill_pattern
from simulator.engines.kernels import eliminate_fixed
from simulator.engines.nodal import (
    GROUND,
    CapacitorMeasure,
    NodalModel,
    RegulatorPhase,
    Terminal,
)

NEVER = -(10**6)
"""A tap position that no factors have: makes them new."""


def assemble(model: NodalModel) -> tuple[Network, Work]:
    """Order the nodes, lay out the pattern, and put everything into arrays."""
    slot, n = _slots(model)
    slot, n_fixed = _fixed_first(model, slot, n)
    n_source = len(model.source)
    regs = _regulated(model, slot)
    entries = [(slot[i], slot[j], y) for i, j, y in model.triplets]
    pattern = fill_pattern(n, _pairs(model, slot, n))
    l_ptr, l_idx = csr(pattern.lower)
    u_ptr, u_idx = csr(pattern.upper)
    place = _places(pattern)
    a = np.zeros(len(place), np.complex128)
    rhs = np.zeros(n, np.complex128)
    source_rows: list[list[tuple[int, complex]]] = [[] for _ in range(n_source)]
    for i, j, y in entries:
        if i < n and j < n:
            a[place[i, j]] += y
        elif i < n <= j < n + n_source:
            rhs[i] -= y * model.source_v[j - n]
        elif n <= i < n + n_source:
            source_rows[i - n].append((j, y))
    l_split = l_ptr[:-1] + np.array(
        [bisect_left(row, n_fixed) for row in pattern.lower], np.int64
    ).reshape(n)
    eliminate_fixed(n_fixed, l_ptr, l_split, l_idx, u_ptr, u_idx, a)
    reg_rows_ptr, reg_rows = csr(
        [pattern.dependants(x for x in (i, j) if x < n) for _, i, j in regs]
    )
    reg = [
        [r.owner, i, j, *(place.get(pair, -1) for pair in ((i, i), (i, j), (j, i), (j, j)))]
        for r, i, j in regs
    ]
    control, settings = _controls(model, [r.owner for r, _, _ in regs])
    shunts = [*model.loads, *model.devices, *model.capacitors]
    terminals = [
        *(Terminal(node, row) for node, row in zip(model.source, source_rows, strict=True)),
        *(_in_slots(t, slot) for side in model.pcc_terminals for t in side),
        *(_in_slots(t, slot) for ends in model.branch_terminals for t in ends),
    ]
    terminal_ptr = np.cumsum([0, *(len(t.row) for t in terminals)])
    terminal_nodes = [slot[t.node] for t in terminals]
    ends = len(model.branch_terminals[0]) if model.branch_terminals else 0
    network = Network(
        n_fixed=n_fixed,
        l_ptr=l_ptr,
        l_split=l_split,
        l_idx=l_idx,
        u_ptr=u_ptr,
        u_idx=u_idx,
        base=a,
        rhs=rhs,
        v_source=np.ascontiguousarray(model.source_v, np.complex128),
        reg=np.array(reg, np.int64).reshape(len(reg), 7),
        reg_y=np.array([r.y for r, _, _ in regs], np.complex128),
        reg_step=np.array([r.step_pu for r, _, _ in regs], np.float64),
        reg_rows_ptr=reg_rows_ptr,
        reg_rows=reg_rows,
        control=control,
        settings=settings,
        cap=_table([[slot[k] for k in c.measured] for c in model.capacitor_controls], 3),
        cap_settings=np.array(
            [_capacitor_settings(c) for c in model.capacitor_controls], np.float64
        ).reshape(len(model.capacitor_controls), 4),
        shunt=_table([(slot[s.i], slot[s.j], s.model, s.owner) for s in shunts], 4),
        shunt_s=np.array([s.s_mva for s in shunts], np.complex128),
        shunt_inv_v=np.array([s.inv_v for s in shunts], np.float64),
        terminal=np.stack([np.array([*terminal_nodes, -1], np.int64), terminal_ptr], axis=1),
        terminal_idx=np.array([k for t in terminals for k, _ in t.row], np.int64),
        terminal_y=np.array([y for t in terminals for _, y in t.row], np.complex128),
        terminal_rated=np.array([t.inv_rated for t in terminals], np.float64),
        counts=np.array(
            [
                len(model.loads),
                len(model.loads) + len(model.devices),
                n_source,
                ends,
                model.multiplicity,
            ],
            np.int64,
        ),
        node_slot=np.array([slot[k] for k in range(len(model.nodes))], np.int64),
        device_slot=_table(
            [[-1 if k == GROUND else slot[k] for k in x] for x in model.device_nodes], 3
        ),
        pcc_slot=_table([[slot[k] for k in x] for x in model.pcc_nodes], 3),
    )
    work = Work(
        taps=np.full(len(model.regulator_controls), NEVER, np.int64),
        dirty=np.array([k >= n_fixed for k in range(n)], np.int64),
        a=a.copy(),
        l=a[: len(l_idx)].copy(),
        u=a[len(l_idx) : len(l_idx) + len(u_idx)].copy(),
        inv_d=a[len(a) - n :].copy(),
        rhs=rhs.copy(),
        b=np.zeros(n + n_source + 1, np.complex128),
        row=np.zeros(n, np.complex128),
        s=np.zeros(len(shunts), np.complex128),
        switched=np.zeros(len(model.capacitor_controls), np.int64),
    )
    return network, work


def _regulated(model: NodalModel, slot: dict[int, int]) -> list[tuple[RegulatorPhase, int, int]]:
    """Return each phase of a regulator with its slots; without those that nothing supplies."""
    return [(r, slot[r.i], slot[r.j]) for r in model.regulators if slot[r.i] != slot[r.j]]


def _pairs(model: NodalModel, slot: dict[int, int], n: int) -> set[tuple[int, int]]:
    """Return the places of the admittance matrix of the free nodes that are not zero."""
    pairs = {(slot[i], slot[j]) for i, j, _ in model.triplets}
    for _, i, j in _regulated(model, slot):
        pairs |= {(x, y) for x in (i, j) for y in (i, j)}
    return {(x, y) for i, j in pairs if i < n and j < n for x, y in ((i, j), (j, i))}


def _fixed_first(model: NodalModel, slot: dict[int, int], n: int) -> tuple[dict[int, int], int]:
    """Move the rows that regulators touch behind all others; return how many others there are.

    What depends on a row comes after it, so this changes neither the fill nor the factors.
    """
    pattern = fill_pattern(n, _pairs(model, slot, n))
    ends = [x for _, i, j in _regulated(model, slot) for x in (i, j) if x < n]
    touched = pattern.dependants(ends)
    behind = set(touched)
    order = [k for k in range(n) if k not in behind] + touched
    moved = dict(zip(order, range(n), strict=True))
    return {k: moved.get(at, at) for k, at in slot.items()}, n - len(touched)


def _places(pattern: Pattern) -> dict[tuple[int, int], int]:
    """Return where each entry stands: first the lower part, then the upper, then the diagonal."""
    lower = [(i, j) for i, row in enumerate(pattern.lower) for j in row]
    upper = [(i, j) for i, row in enumerate(pattern.upper) for j in row]
    diagonal = [(i, i) for i in range(len(pattern.upper))]
    return {ij: k for k, ij in enumerate([*lower, *upper, *diagonal])}


def _table(rows: Sequence[Sequence[int]], width: int) -> IntArray:
    return np.array(rows, np.int64).reshape(len(rows), width)


def _in_slots(terminal: Terminal, slot: dict[int, int]) -> Terminal:
    return replace(terminal, row=[(slot[k], y) for k, y in terminal.row])


def _slots(model: NodalModel) -> tuple[dict[int, int], int]:
    """Return each node's place in elimination order, and the number of free nodes.

    Source nodes come after the free ones, and nodes without supply share the ground's place.
    """
    near: dict[int, set[int]] = {k: set() for k in range(len(model.nodes))}
    for i, j, _ in model.triplets:
        if i != j:
            near[i].add(j)
    for r in model.regulators:
        near[r.i].add(r.j)
        near[r.j].add(r.i)
    depth = dict.fromkeys(model.source, 0)
    frontier = deque(model.source)
    while frontier:
        k = frontier.popleft()
        for other in near[k]:
            if other not in depth:
                depth[other] = depth[k] + 1
                frontier.append(other)
    source = set(model.source)
    free = [k for k in depth if k not in source]
    bus_of = {k: model.nodes[k][0] for k in free}
    buses: dict[str, set[str]] = {bus: set() for bus in bus_of.values()}
    members: dict[str, list[int]] = {bus: [] for bus in buses}
    bus_depth: dict[str, int] = {}
    for k in sorted(free):
        members[bus_of[k]].append(k)
        bus_depth[bus_of[k]] = min(depth[k], bus_depth.get(bus_of[k], depth[k]))
        buses[bus_of[k]] |= {bus_of[x] for x in near[k] if x in bus_of} - {bus_of[k]}
    slot: dict[int, int] = {}
    for bus in elimination_order(buses, bus_depth):
        for k in members[bus]:
            slot[k] = len(slot)
    n = len(slot)
    for k in model.source:
        slot[k] = len(slot)
    ground = len(slot)
    slot[GROUND] = ground
    for k in range(len(model.nodes)):
        slot.setdefault(k, ground)
    return slot, n


def _controls(model: NodalModel, owners: list[int]) -> tuple[IntArray, FloatArray]:
    control: list[list[int]] = []
    settings: list[list[float]] = []
    for owner, r in enumerate(model.regulator_controls):
        c = r.control
        if c is None or owner not in owners:
            continue
        per_current = 1e6 / r.v_base / c.ct_primary_a
        control.append([owner, owners.index(owner), r.members, r.max_tap])
        settings.append(
            [
                c.v_set,
                c.bandwidth_v / 2.0,
                r.v_base / c.pt_ratio,
                c.r_v * per_current,
                c.x_v * per_current,
                c.delay_s,
            ]
        )
    return _table(control, 4), np.array(settings, np.float64).reshape(len(settings), 6)


def _capacitor_settings(c: CapacitorMeasure) -> list[float]:
    if c.control is None:
        return [math.nan, math.nan, 0.0, 0.0]
    return [c.control.on_v, c.control.off_v, c.v_base / c.control.pt_ratio, c.control.delay_s]
