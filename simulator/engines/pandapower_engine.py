"""The reference engine: pandapower on the balanced equivalent."""

from __future__ import annotations

import math
import warnings
from collections import deque

import numpy as np
import pandapower as pp

from heron.errors import ConfigError, ConfigProblem, PowerFlowDiverged
from heron.powergrid.networks import Grid
from simulator.engines.base import (
    ComplexArray,
    FloatArray,
    GridState,
    Injections,
    IntArray,
    Solution,
)
from simulator.engines.inputs import BEYOND, MAX_PASSES, input_fault
from simulator.engines.pandapower_net import pandapower_net
from simulator.engines.positive_sequence import (
    Bank,
    BankTaps,
    banks_of,
    source_voltage,
)

TOLERANCE_MVA = 1e-7
"""Nearly ideal switches and regulators leave a rounding error of about 1e-8."""
MAX_ITERATIONS = 100
"""Its Newton-Raphson leaves out how loads follow their voltage, which slows it down, and fails far
below the collapse where most loads do (at 1.5 of 2.4 times the published load on IEEE 34)."""

_SHARES = tuple(f"const_{kind}_{part}_percent" for kind in "iz" for part in "pq")
"""Columns of a load that say which part of its power follows the voltage, and how."""

BELOW_ONE = 1.0 - 1e-12
"""Keeps rounded shares from adding up to more than 100 %, which pandapower refuses."""


class PandapowerEngine:
    """Newton-Raphson by ``pandapower.runpp``; the reference for the balanced engines."""

    def __init__(self, grid: Grid) -> None:
        """Build the net.

        Raises:
            ConfigError: The grid has controls that only the fast engines follow.
        """
        problems = [
            ConfigProblem(f"capacitor {c.name}", c.control, "switched: use threephase or balanced")
            for c in grid.capacitors
            if c.control is not None
        ]
        problems += [
            ConfigProblem(
                f"regulator {r.name}.delay_s",
                r.control.delay_s,
                "this engine has no delays: use threephase or balanced",
            )
            for r in grid.regulators
            if r.control is not None and r.control.delay_s > 0.0
        ]
        if problems:
            raise ConfigError(problems)
        self._grid = grid
        self._net = pandapower_net(grid)
        self._banks = banks_of(grid)
        self._bank_taps = BankTaps(self._banks)
        self._nodes = tuple((b.name, "1") for b in grid.buses)
        self._index = {b.name: k for k, b in enumerate(grid.buses)}
        self._base_p = self._net.load.p_mw.to_numpy().copy()
        self._base_q = self._net.load.q_mvar.to_numpy().copy()
        self._load_bus = self._net.load.bus.to_numpy().copy()
        self._shares = {name: self._net.load[name].to_numpy().copy() for name in _SHARES}
        self._n_transformers = len(grid.transformers)
        self._heads = [
            next(k for k, t in enumerate(grid.transformers) if t.name == m.transformer)
            for m in grid.microgrids
        ]
        rated = {x.name for x in grid.rated_lines}
        self._rated_lines = [k for k, x in enumerate(grid.lines) if x.name in rated]
        # a lateral carries on its phases what the balanced net spreads over three
        self._line_ka = np.array(
            [(x.ampacity_a or 0.0) * len(x.phases) / 3e3 for x in grid.rated_lines]
        )
        self._dead = ", ".join(grid.dead_consumers)

    @property
    def name(self) -> str:
        """Name in configurations."""
        return "pandapower"

    @property
    def grid(self) -> Grid:
        """The network that it was built for."""
        return self._grid

    @property
    def nodes(self) -> tuple[tuple[str, str], ...]:
        """(bus, "1") of each entry of ``Solution.v_pu``: the positive sequence."""
        return self._nodes

    def initial_state(self) -> GridState:
        """Return the state for a flat start with the grid's own tap positions."""
        taps = np.array([r.tap for r in self._grid.regulators], np.int64)
        return GridState(taps, np.empty(0, np.complex128))

    def solve(
        self,
        injections: Injections,
        state: GridState,
        *,
        move_taps: bool = True,
        dt_s: float = math.inf,
    ) -> Solution:
        """Solve one instant; see `simulator.engines.base.Engine.solve`.

        Raises:
            PowerFlowDiverged: No solution; also for NaN or infinite inputs, and for dead buses
                that carry load.
        """
        if self._dead:
            raise PowerFlowDiverged(f"no supply for {self._dead}")
        fault = input_fault(self._grid, injections)
        if fault:
            raise PowerFlowDiverged(fault)
        net = self._net
        self._set_loads(injections.load_scale)
        net.sgen["p_mw"] = injections.p_mw
        net.sgen["q_mvar"] = injections.q_mvar
        before = self._bank_taps.positions(state.taps)
        positions = before.copy()
        v = state.v
        moves = 0
        for turn in range(MAX_PASSES + 1):
            v = self._run(positions, v)
            if not move_taps or turn == MAX_PASSES:
                break
            moved = self._regulate(positions, v)
            moves += moved
            if moved == 0:
                break
        return self._solution(
            v, moves, self._bank_taps.taps(state.taps, before, positions), injections
        )

    def _set_loads(self, scale: FloatArray) -> None:
        """Set the loads, and on each bus what part of them follows its voltage.

        pandapower takes the plain mean of the shares of a bus's loads, however large each is;
        with the same share for all of them it comes out right.
        """
        net, bus = self._net, self._load_bus
        power = {"p": self._base_p * scale, "q": self._base_q * scale}
        net.load["p_mw"], net.load["q_mvar"] = power["p"], power["q"]
        for name, own in self._shares.items():
            weight = power[name.split("_")[2]]
            total, part = np.bincount(bus, weight), np.bincount(bus, weight * own)
            share = np.divide(part, total, out=np.zeros(len(total)), where=total != 0.0)
            net.load[name] = share[bus] * BELOW_ONE

    def _run(self, positions: IntArray, v: ComplexArray) -> ComplexArray:
        net = self._net
        net.trafo.loc[net.trafo.index[self._n_transformers :], "tap_pos"] = positions.astype(float)
        starts = [v, self._carried(positions)] if len(v) else [self._carried(positions)]
        for start in starts:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    pp.runpp(
                        net,
                        init_vm_pu=np.abs(start),
                        init_va_degree=np.degrees(np.angle(start)),
                        max_iteration=MAX_ITERATIONS,
                        tolerance_mva=TOLERANCE_MVA,
                        lightsim2grid=False,
                        numba=True,
                    )
            except pp.LoadflowNotConverged:
                continue
            angle = np.radians(net.res_bus.va_degree.to_numpy())
            v_pu = net.res_bus.vm_pu.to_numpy() * np.exp(1j * angle)
            result: ComplexArray = np.where(np.isnan(v_pu), 0.0, v_pu)
            return result
        raise PowerFlowDiverged(BEYOND)

    def _carried(self, positions: IntArray) -> ComplexArray:
        """Return a start with the tap ratios carried down from the source.

        From 1 pu everywhere Newton-Raphson diverges on regulators, which are nearly ideal.
        """
        near: dict[int, list[tuple[int, float]]] = {k: [] for k in range(len(self._nodes))}

        def connect(a: str, b: str, ratio: float) -> None:
            near[self._index[a]].append((self._index[b], ratio))
            near[self._index[b]].append((self._index[a], 1.0 / ratio))

        for line in self._grid.lines:
            if line.closed:
                connect(line.from_bus, line.to_bus, 1.0)
        for t in self._grid.transformers:
            connect(t.from_bus, t.to_bus, t.tap)
        for bank, position in zip(self._banks, positions, strict=True):
            connect(bank.from_bus, bank.to_bus, bank.ratio(int(position)))
        start = np.zeros(len(self._nodes), np.complex128)
        source = self._index[self._grid.source_bus]
        start[source] = source_voltage(self._grid)
        frontier = deque([source])
        while frontier:
            k = frontier.popleft()
            for other, ratio in near[k]:
                if start[other] == 0.0:
                    start[other] = start[k] * ratio
                    frontier.append(other)
        start[start == 0.0] = 1.0
        return start

    def _regulate(self, positions: IntArray, v: ComplexArray) -> int:
        moved = 0
        for k, bank in enumerate(self._banks):
            if bank.control is None:
                continue
            steps = self._wanted_steps(bank, v, int(positions[k]))
            moved += abs(steps) * len(bank.members)
            positions[k] += steps
        return moved

    def _wanted_steps(self, bank: Bank, v: ComplexArray, position: int) -> int:
        """Return how far the line-drop compensator moves a bank, at most four steps."""
        c = bank.control
        assert c is not None
        v_base = self._grid.bus_by_name[bank.to_bus].kv_ln * 1e3
        ratio = bank.ratio(position)
        out = v[self._index[bank.to_bus]] * v_base
        ohm = complex(bank.r_pct, bank.x_pct) / 100.0 * bank.kv_ln**2 * 1e3 / bank.phase_kva
        current = (ratio * v[self._index[bank.from_bus]] * v_base - out) / (ohm * ratio**2)
        seen = abs(out / c.pt_ratio - complex(c.r_v, c.x_v) * current / c.ct_primary_a)
        excess = abs(c.v_set - seen) - c.bandwidth_v / 2.0
        if excess <= 0.0:
            return 0
        steps = min(max(math.ceil(excess / 0.75), 1), 4)
        wanted = position + (steps if c.v_set > seen else -steps)
        limited: int = min(max(wanted, -bank.max_tap), bank.max_tap)
        return limited - position

    def _solution(
        self, v: ComplexArray, moves: int, taps: IntArray, injections: Injections
    ) -> Solution:
        net, grid = self._net, self._grid
        trafo = net.res_trafo.iloc[: self._n_transformers]
        heads = trafo.iloc[self._heads]
        source_p = float(net.res_ext_grid.p_mw.sum())
        return Solution(
            v_pu=v,
            source_p_mw=source_p,
            source_q_mvar=float(net.res_ext_grid.q_mvar.sum()),
            losses_mw=source_p + float(injections.p_mw.sum()) - float(net.res_load.p_mw.sum()),
            device_v_pu=np.array(
                [
                    [abs(v[self._index[d.bus]]) if p in d.phases else math.nan for p in "abc"]
                    for d in grid.devices
                ]
            ).reshape(len(grid.devices), 3),
            pcc_p_mw=-heads.p_hv_mw.to_numpy(),
            pcc_q_mvar=-heads.q_hv_mvar.to_numpy(),
            pcc_v_pu=np.array(
                [[abs(v[self._index[m.connection_bus]])] * 3 for m in grid.microgrids]
            ).reshape(len(grid.microgrids), 3),
            head_v_pu=np.full(3, abs(v[self._index[grid.source_bus]])),
            loading_pct=self._loading(v),
            iterations=int(net._ppc["iterations"]),
            tap_moves=moves,
            state=GridState(taps, v),
        )

    def _loading(self, v: ComplexArray) -> FloatArray:
        """Return the loading by current, on the nominal (not tapped) rating."""
        trafo = self._net.res_trafo.iloc[: self._n_transformers]
        rated = [
            (t.kva / 1e3 / math.sqrt(3) / t.kv_from, t.kva / 1e3 / math.sqrt(3) / t.kv_to)
            for t in self._grid.transformers
        ]
        i_rated = np.array(rated).reshape(len(rated), 2)
        i = np.stack([trafo.i_hv_ka.to_numpy(), trafo.i_lv_ka.to_numpy()], axis=1)
        units = 100.0 * np.max(i / i_rated, axis=1, initial=0.0)
        line_ka = self._net.res_line.i_ka.to_numpy()[self._rated_lines]
        loading: FloatArray = np.concatenate([units, 100.0 * line_ka / self._line_ka])
        return loading
