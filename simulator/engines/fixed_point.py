"""The fixed-point engines: three-phase, and the balanced equivalent on the same code."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np

from heron.errors import PowerFlowDiverged
from heron.powergrid.networks import Grid
from simulator.engines import kernels
from simulator.engines.base import (
    ComplexArray,
    FloatArray,
    GridState,
    Injections,
    IntArray,
    Solution,
)
from simulator.engines.factors import csr, elimination_order, fill_pattern
from simulator.engines.inputs import BEYOND, MAX_PASSES, input_fault
from simulator.engines.nodal import GROUND, NodalModel, Terminal
from simulator.engines.positive_sequence import (
    balanced_model,
    bank_positions,
    banks_of,
    member_taps,
)

DEFAULT_TOLERANCE_PU = 1e-8
"""Largest change of any voltage in the last iteration. It shrinks about tenfold in each."""


class FixedPointEngine:
    """Solves a nodal model; see `simulator.engines.kernels` for the method.

    The time of a solve is that of the iterations: the first of a topology factors the matrix,
    a tap change factors only the rows between the regulator and the source.
    """

    def __init__(
        self,
        name: str,
        grid: Grid,
        model: NodalModel,
        tolerance_pu: float = DEFAULT_TOLERANCE_PU,
    ) -> None:
        self._name = name
        self._grid = grid
        self._nodes = model.nodes
        self._tolerance = tolerance_pu
        self._dead = ", ".join(grid.dead_consumers)
        self._network, self._work = assemble(model)
        self._taps = np.array([r.tap for r in grid.regulators], dtype=np.int64)
        self._passes = MAX_PASSES if len(self._network.control) else 0
        n_slots = len(self._work.b)
        self._flat = np.full(n_slots, complex(math.nan))
        n_pcc, n_devices = len(grid.microgrids), len(grid.devices)
        self._pcc_end = 7 + 5 * n_pcc
        self._device_end = self._pcc_end + 3 * n_devices
        self._n_out = self._device_end + len(model.branch_terminals)
        self._shape = (len(grid.loads), n_devices)
        kernels.update_matrix(self._network, self._work, self._positions(self._taps))
        kernels.factor(self._network, self._work)

    @property
    def name(self) -> str:
        """Name in configurations."""
        return self._name

    @property
    def grid(self) -> Grid:
        """The network that it was built for."""
        return self._grid

    @property
    def nodes(self) -> tuple[tuple[str, str], ...]:
        """(bus, phase) of each entry of ``Solution.v_pu``."""
        return self._nodes

    def initial_state(self) -> GridState:
        """Return the state for a flat start with the grid's own tap positions."""
        return GridState(self._taps.copy(), np.empty(0, np.complex128))

    def solve(
        self, injections: Injections, state: GridState, *, move_taps: bool = True
    ) -> Solution:
        """Solve one instant, letting regulators move unless ``move_taps`` is False.

        Raises:
            PowerFlowDiverged: No solution; also for NaN or infinite inputs, and for dead buses
                that carry load.
        """
        if self._dead:
            raise PowerFlowDiverged(f"no supply for {self._dead}")
        v = (state.v if len(state.v) else self._flat).copy()
        before = self._positions(state.taps)
        positions = before.copy()
        v_pu = np.empty(len(self._nodes), np.complex128)
        out = np.empty(self._n_out)
        iterations = kernels.solve(
            self._network,
            self._work,
            injections.load_scale,
            injections.p_mw,
            injections.q_mvar,
            positions,
            v,
            self._passes if move_taps else 0,
            self._tolerance,
            v_pu,
            out,
        )
        if iterations < 0:
            raise PowerFlowDiverged(input_fault(self._grid, injections) or BEYOND)
        n_pcc, n_devices = len(self._grid.microgrids), len(self._grid.devices)
        pcc = out[7 : self._pcc_end].reshape(n_pcc, 5)
        return Solution(
            v_pu=v_pu,
            source_p_mw=float(out[1]),
            source_q_mvar=float(out[2]),
            losses_mw=float(out[3]),
            device_v_pu=out[self._pcc_end : self._device_end].reshape(n_devices, 3),
            pcc_p_mw=pcc[:, 0],
            pcc_q_mvar=pcc[:, 1],
            pcc_v_pu=pcc[:, 2:],
            head_v_pu=out[4:7],
            loading_pct=out[self._device_end :],
            iterations=iterations,
            tap_moves=int(out[0]),
            state=GridState(self._taps_after(state.taps, before, positions), v),
        )

    def _positions(self, taps: IntArray) -> IntArray:
        return taps

    def _taps_after(self, taps: IntArray, before: IntArray, after: IntArray) -> IntArray:
        return after


class BalancedEngine(FixedPointEngine):
    """The fixed point on the positive sequence: one node a bus, one position a bank."""

    def __init__(self, grid: Grid, tolerance_pu: float = DEFAULT_TOLERANCE_PU) -> None:
        self._banks = banks_of(grid)
        super().__init__("balanced", grid, balanced_model(grid), tolerance_pu)

    def _positions(self, taps: IntArray) -> IntArray:
        return bank_positions(self._banks, taps)

    def _taps_after(self, taps: IntArray, before: IntArray, after: IntArray) -> IntArray:
        return member_taps(self._banks, before, after, taps)


def assemble(model: NodalModel) -> tuple[kernels.Network, kernels.Work]:
    """Order the nodes, lay out the pattern, and put everything into arrays."""
    slot, n = _slots(model)
    n_source = len(model.source)
    regs = [(r, slot[r.i], slot[r.j]) for r in model.regulators if slot[r.i] != slot[r.j]]
    entries = [(slot[i], slot[j], y) for i, j, y in model.triplets]
    pairs = {(i, j) for i, j, _ in entries if i < n and j < n}
    pairs |= {(x, y) for _, i, j in regs for x in (i, j) for y in (i, j) if x < n and y < n}
    pairs |= {(j, i) for i, j in pairs} | {(i, i) for i in range(n)}
    pattern = fill_pattern(n, pairs)
    rows: list[list[int]] = [[] for _ in range(n)]
    for i, j in sorted(pairs):
        rows[i].append(j)
    a_ptr, a_idx = csr(rows)
    place = {(i, j): k for k, (i, j) in enumerate(sorted(pairs))}
    a = np.zeros(len(a_idx), np.complex128)
    rhs = np.zeros(n, np.complex128)
    source_rows: list[list[tuple[int, complex]]] = [[] for _ in range(n_source)]
    for i, j, y in entries:
        if i < n and j < n:
            a[place[i, j]] += y
        elif i < n <= j < n + n_source:
            rhs[i] -= y * model.source_v[j - n]
        elif n <= i < n + n_source:
            source_rows[i - n].append((j, y))
    l_ptr, l_idx = csr(pattern.lower)
    u_ptr, u_idx = csr(pattern.upper)
    reg_rows_ptr, reg_rows = csr(
        [pattern.dependants(x for x in (i, j) if x < n) for _, i, j in regs]
    )
    reg = [
        [r.owner, i, j, *(place.get(pair, -1) for pair in ((i, i), (i, j), (j, i), (j, j)))]
        for r, i, j in regs
    ]
    control, settings = _controls(model, [r.owner for r, _, _ in regs])
    shunts = [*model.loads, *model.devices]
    terminals = [
        *(Terminal(node, row) for node, row in zip(model.source, source_rows, strict=True)),
        *(_in_slots(t, slot) for side in model.pcc_terminals for t in side),
        *(_in_slots(t, slot) for ends in model.branch_terminals for t in ends),
    ]
    terminal_ptr = np.cumsum([0, *(len(t.row) for t in terminals)])
    terminal_nodes = [slot[t.node] for t in terminals]
    ends = len(model.branch_terminals[0]) if model.branch_terminals else 0
    network = kernels.Network(
        a_ptr=a_ptr,
        a_idx=a_idx,
        a_static=a,
        l_ptr=l_ptr,
        l_idx=l_idx,
        u_ptr=u_ptr,
        u_idx=u_idx,
        rhs=rhs,
        v_source=np.ascontiguousarray(model.source_v, np.complex128),
        reg=np.array(reg, np.int64).reshape(len(reg), 7),
        reg_y=np.array([r.y for r, _, _ in regs], np.complex128),
        reg_rows_ptr=reg_rows_ptr,
        reg_rows=reg_rows,
        control=control,
        settings=settings,
        shunt=_table([(slot[s.i], slot[s.j], s.model, s.owner) for s in shunts], 4),
        shunt_s=np.array([s.s_mva for s in shunts], np.complex128),
        shunt_inv_v=np.array([s.inv_v for s in shunts], np.float64),
        n_load_shunts=len(model.loads),
        terminal=np.stack([np.array([*terminal_nodes, -1], np.int64), terminal_ptr], axis=1),
        terminal_idx=np.array([k for t in terminals for k, _ in t.row], np.int64),
        terminal_y=np.array([y for t in terminals for _, y in t.row], np.complex128),
        terminal_rated=np.array([t.inv_rated for t in terminals], np.float64),
        counts=np.array([n_source, ends, model.multiplicity], np.int64),
        node_slot=np.array([slot[k] for k in range(len(model.nodes))], np.int64),
        device_slot=_table([[slot.get(k, -1) for k in x] for x in model.device_nodes], 3),
        pcc_slot=_table([[slot[k] for k in x] for x in model.pcc_nodes], 3),
    )
    work = kernels.Work(
        taps=np.full(len(model.controls), kernels.NEVER, np.int64),
        dirty=np.ones(n, np.int64),
        a=a.copy(),
        l=np.zeros(len(l_idx), np.complex128),
        u=np.zeros(len(u_idx), np.complex128),
        inv_d=np.zeros(n, np.complex128),
        rhs=rhs.copy(),
        b=np.zeros(n + n_source + 1, np.complex128),
        row=np.zeros(n, np.complex128),
        s=np.zeros(len(shunts), np.complex128),
    )
    return network, work


def _table(rows: list[tuple[int, ...]] | list[list[int]], width: int) -> IntArray:
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
    depth = {k: 0 for k in model.source}
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
    for owner, (c, v_base) in enumerate(model.controls):
        if c is None or owner not in owners:
            continue
        per_current = 1e6 / v_base / c.ct_primary_a
        control.append([owner, owners.index(owner)])
        settings.append(
            [
                c.v_set,
                c.bandwidth_v / 2.0,
                v_base / c.pt_ratio,
                c.r_v * per_current,
                c.x_v * per_current,
            ]
        )
    return _table(control, 2), np.array(settings, np.float64).reshape(len(settings), 5)
