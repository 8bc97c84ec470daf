"""An optional engine: lightsim2grid's Newton-Raphson on the balanced equivalent.

lightsim2grid knows constant power only, so loads and capacitors are set to what they draw at the
last voltages until these stand still. Controls and measurements are those of `BalancedEngine`.
lightsim2grid keeps its old values when it is given NaN: inputs are checked before it sees them.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandapower as pp
from lightsim2grid.network import init_from_pandapower

from heron.powergrid.networks import Grid
from simulator.engines import control, kernels, matrix
from simulator.engines.arrays import Case, Network, Work
from simulator.engines.base import BoolArray, ComplexArray, IntArray
from simulator.engines.fixed_point import BalancedEngine
from simulator.engines.jit import kernel
from simulator.engines.pandapower_net import pandapower_net
from simulator.engines.positive_sequence import banks_of

OUTER_TOLERANCE_PU = 1e-9
MAX_OUTER = 300
MAX_NEWTON = 30
NEWTON_TOLERANCE_MVA = 1e-7


class LightsimEngine(BalancedEngine):
    """The balanced equivalent solved by lightsim2grid."""

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self._name = "lightsim2grid"
        live = {bus for bus, _ in grid.live_nodes}
        self._live = np.array([bus in live for bus, _ in self.nodes])
        self._slots = self.network.node_slot
        node_at = np.full(len(self.work.b), -1, np.int64)
        node_at[self._slots[self._live]] = np.flatnonzero(self._live)
        self._shunt_node = node_at[self.network.shunt[:, 0]]
        self._model = lightsim_model(grid, self._live)
        self._r = np.array([t.r_pu for t in self._model.get_trafos()])
        self._x = np.array([t.x_pu for t in self._model.get_trafos()])
        self._set = np.zeros(len(self.work.taps), np.int64)
        self._step = np.array([b.step_pu for b in banks_of(grid)])

    def run(self, case: Case, passes: int, dt_s: float) -> int:
        """Solve a scenario in place; return its Newton iterations, or a negative code."""
        net, work = self.network, self.work
        code = begin(net, work, case)
        if code != kernels.OK:
            return code
        moves = switchings = 0
        for turn in range(passes + 1):
            code = self._settle(case)
            if code < 0 or turn == passes:
                break
            moved, switched = controls(net, work, case, dt_s)
            moves += moved
            switchings += switched
            if not (moved or switched):
                break
        if code < 0:
            return code
        end(net, work, case, dt_s if passes else 0.0, moves, switchings)
        return code

    def _settle(self, case: Case) -> int:
        net, work = self.network, self.work
        first = net.counts[1]
        work.s[first:] = net.shunt_s[first:] * case.capacitors[net.shunt[first:, 3]]
        self._set_ratios(case.taps)
        for warm in (True, False):
            if warm and not np.isfinite(case.v[0]):
                continue
            if not warm:
                unloaded(net, work, case)
            code = self._solve(case)
            if code > 0:
                return code
        return kernels.NOT_CONVERGED

    def _solve(self, case: Case) -> int:
        v: ComplexArray = np.where(self._live, case.v[self._slots], 1.0)
        for turn in range(1, MAX_OUTER + 1):
            power = 3.0 * self._drawn(v)
            for bus, s in zip(np.flatnonzero(self._live).tolist(), power[self._live], strict=True):
                self._model.change_p_load(bus, s.real)
                self._model.change_q_load(bus, s.imag)
            solved = self._model.ac_pf(v.copy(), MAX_NEWTON, NEWTON_TOLERANCE_MVA)
            if len(solved) == 0:
                return kernels.NOT_CONVERGED
            change = float(np.max(np.abs(solved - v)[self._live]))
            v = np.where(self._live, solved, 1.0)
            if change <= OUTER_TOLERANCE_PU:
                case.v[self._slots[self._live]] = v[self._live]
                return turn
        return kernels.NOT_CONVERGED

    def _drawn(self, v: ComplexArray) -> ComplexArray:
        """Return what each bus draws per phase, MVA, with its shunts at the voltages ``v``."""
        across = np.abs(v[self._shunt_node]) * self.network.shunt_inv_v
        model = self.network.shunt[:, 2]
        s = self.work.s
        exponent_p = np.choose(model, (0, 1, 2, 1))
        exponent_q = np.choose(model, (0, 1, 2, 2))
        p = s.real * across**exponent_p
        q = s.imag * across**exponent_q
        n = len(v)
        total_p = np.bincount(self._shunt_node, p, n)
        total_q = np.bincount(self._shunt_node, q, n)
        result: ComplexArray = total_p + 1j * total_q
        return result

    def _set_ratios(self, positions: IntArray) -> None:
        """Bring the regulators to their positions; their impedance is on the output's side."""
        if np.array_equal(positions, self._set):
            return
        ratios = np.ones(len(self._r))
        first = len(self.grid.transformers)
        ratios[first:] = 1.0 + self._step * positions
        for k in range(first, len(ratios)):
            self._model.change_ratio_trafo(k, ratios[k])
        none = np.zeros(len(ratios), np.complex128)
        self._model.update_trafos_parameters(self._r * ratios**2, self._x * ratios**2, none)
        self._set = positions.copy()


@kernel
def begin(net: Network, w: Work, case: Case) -> int:
    """Take the inputs; return `kernels.OK` or what is wrong with them."""
    for k in range(len(w.switched)):
        w.switched[k] = 0
    return kernels.take(net, w, case)


@kernel
def unloaded(net: Network, w: Work, case: Case) -> None:
    """Set the voltages to those without any load."""
    matrix.update_matrix(net, w, case.taps)
    matrix.factor(net, w)
    kernels.no_load(net, w, case.v)


@kernel
def controls(net: Network, w: Work, case: Case, dt_s: float) -> tuple[int, int]:
    """Let regulators and capacitors act."""
    return control.controls(net, w, case, dt_s)


@kernel
def end(  # noqa: PLR0917 - compiled code takes positions
    net: Network, w: Work, case: Case, dt_s: float, moves: int, switchings: int
) -> None:
    """Count on the controls' waiting over ``dt_s``, unless it is 0, and fill the results.

    One substitution makes the voltages consistent first: what the solver leaves, 1e-9 pu, is
    kilowatts across a nearly ideal switch or regulator.
    """
    if dt_s > 0.0:
        control.wait(net, case, dt_s)
    matrix.update_matrix(net, w, case.taps)
    matrix.factor(net, w)
    n = len(w.inv_d)
    for i in range(n):
        w.b[i] = w.rhs[i]
    kernels.draw(net, w, case.v)
    matrix.substitute(net, w)
    for i in range(net.n_silent, n):
        case.v[i] = w.b[i]
    kernels.finish(net, w, case, moves, switchings)


def lightsim_model(grid: Grid, live: BoolArray) -> Any:
    """Return the network with regulators at neutral and one load a bus, which draws nothing."""
    net = pandapower_net(replace(grid, loads=(), capacitors=(), devices=()))
    net.bus["in_service"] = live
    for bus in range(len(live)):
        pp.create_load(net, bus, p_mw=0.0, in_service=bool(live[bus]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return init_from_pandapower(net)
