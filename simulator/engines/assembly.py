"""From the nodal model to the arrays of the kernels."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from simulator.engines.arrays import Network, Work
from simulator.engines.base import FloatArray, IntArray
from simulator.engines.factors import Pattern, csr
from simulator.engines.matrix import eliminate
from simulator.engines.nodal import (
    GROUND,
    CapacitorMeasure,
    NodalModel,
    RegulatorPhase,
    Terminal,
)
from simulator.engines.ordering import order_nodes

NEVER = -(10**6)
"""A tap position that no factors have: makes them new."""


def assemble(model: NodalModel) -> tuple[Network, Work]:
    """Order the nodes, lay out the pattern, and put everything into arrays."""
    order = order_nodes(model)
    slot, n, pattern = order.slot, order.n, order.pattern
    n_source = len(model.source)
    regs = _regulated(model, slot)
    entries = [(slot[i], slot[j], y) for i, j, y in model.triplets]
    l_ptr, l_idx = csr(pattern.lower)
    u_ptr, u_idx = csr(pattern.upper)
    place = _places(pattern)
    a = np.zeros(len(place), np.complex128)
    rhs = np.zeros(n, np.complex128)
    driven = {x for _, i, j in regs if max(i, j) >= n for x in (i, j) if x < n}
    source_rows: list[list[tuple[int, complex]]] = [[] for _ in range(n_source)]
    for i, j, y in entries:
        if i < n and j < n:
            a[place[i, j]] += y
        elif i < n <= j < n + n_source:
            rhs[i] -= y * model.source_v[j - n]
            driven.add(i)
        elif n <= i < n + n_source:
            source_rows[i - n].append((j, y))
    reg_rows_ptr, reg_rows = csr(
        [pattern.dependants(x for x in (i, j) if x < n) if r.moves else [] for r, i, j in regs]
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
        n_silent=order.n_silent,
        n_fixed=order.n_fixed,
        l_ptr=l_ptr,
        l_first=_places_from(pattern, l_ptr, order.n_silent),
        l_split=_places_from(pattern, l_ptr, order.n_fixed),
        l_idx=l_idx,
        u_ptr=u_ptr,
        u_idx=u_idx,
        matrix=a,
        rhs=rhs,
        driven=np.array(sorted(driven), np.int64),
        v_source=np.ascontiguousarray(model.source_v, np.complex128),
        n_still=sum(not r.moves for r, _, _ in regs),
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
        dirty=np.zeros(n, np.int64),
        base=a.copy(),
        base_rhs=rhs.copy(),
        a=a.copy(),
        l=np.zeros(len(l_idx), np.complex128),
        u=np.zeros(len(u_idx), np.complex128),
        inv_d=np.zeros(n, np.complex128),
        rhs=rhs.copy(),
        b=np.zeros(n + n_source + 1, np.complex128),
        row=np.zeros(n, np.complex128),
        s=np.zeros(len(shunts), np.complex128),
        switched=np.zeros(len(model.capacitor_controls), np.int64),
        errors=np.zeros(len(control)),
    )
    eliminate(network, work, np.zeros_like(work.taps))
    return network, work


def _regulated(model: NodalModel, slot: dict[int, int]) -> list[tuple[RegulatorPhase, int, int]]:
    """Return each phase of a regulator with its slots, those first that stand still.

    Those that nothing supplies are left out.
    """
    supplied = [(r, slot[r.i], slot[r.j]) for r in model.regulators if slot[r.i] != slot[r.j]]
    return sorted(supplied, key=lambda x: x[0].moves)


def _places(pattern: Pattern) -> dict[tuple[int, int], int]:
    """Return where each entry stands: first the lower part, then the upper, then the diagonal."""
    lower = [(i, j) for i, row in enumerate(pattern.lower) for j in row]
    upper = [(i, j) for i, row in enumerate(pattern.upper) for j in row]
    diagonal = [(i, i) for i in range(len(pattern.upper))]
    return {ij: k for k, ij in enumerate([*lower, *upper, *diagonal])}


def _places_from(pattern: Pattern, l_ptr: IntArray, column: int) -> IntArray:
    """Return where the columns from ``column`` on begin in each row of the lower factor."""
    return l_ptr[:-1] + np.array([bisect_left(row, column) for row in pattern.lower], np.int64)


def _table(rows: Sequence[Sequence[int]], width: int) -> IntArray:
    return np.array(rows, np.int64).reshape(len(rows), width)


def _in_slots(terminal: Terminal, slot: dict[int, int]) -> Terminal:
    return replace(terminal, row=[(slot[k], y) for k, y in terminal.row])


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
