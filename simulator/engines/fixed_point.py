"""The fixed-point engines: three-phase, and the balanced equivalent on the same code."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from heron.errors import PowerFlowDiverged
from heron.powergrid.networks import Grid
from simulator.engines import kernels
from simulator.engines.arrays import Case
from simulator.engines.assembly import assemble
from simulator.engines.base import (
    BatchState,
    FloatArray,
    GridState,
    Injections,
    IntArray,
    Solution,
)
from simulator.engines.inputs import BEYOND, MAX_PASSES, input_fault
from simulator.engines.nodal import NodalModel, threephase_model
from simulator.engines.positive_sequence import BankTaps, balanced_model, banks_of

DEFAULT_TOLERANCE_PU = 1e-8
"""Largest change of any voltage in the last iteration. It shrinks about tenfold in each."""


_INPUTS = ("load_scale", "p_mw", "q_mvar", "taps", "v", "capacitors", "waited_s")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the kernels leave their figures.

    Attributes:
        pcc: Per microgrid P, Q and three voltages.
        devices: Per device three voltages.
        branches: Per branch its loading.
        size: Length of the whole.
    """

    pcc: slice
    devices: slice
    branches: slice
    size: int

    @classmethod
    def of(cls, n_microgrids: int, n_devices: int, n_branches: int) -> Layout:
        """Return the layout for a grid; eight figures of the whole come first."""
        devices = 8 + 5 * n_microgrids
        branches = devices + 3 * n_devices
        size = branches + n_branches
        return cls(slice(8, devices), slice(devices, branches), slice(branches, size), size)


class FixedPointEngine:
    """Solves a nodal model; see `simulator.engines.kernels` for the method.

    The time of a solve is that of the iterations: the matrix of a topology is factored once, and
    a tap change factors again only the rows between the regulator and the source.
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
        self.tolerance_pu = float(tolerance_pu)
        self.dead = ", ".join(grid.dead_consumers)
        self.network, self.work = assemble(model)
        self._arrays = tuple(self.network), tuple(self.work)
        self.layout = Layout.of(len(grid.microgrids), len(grid.devices), len(grid.branches))
        self.controlled = len(self.network.control) > 0 or any(c.control for c in grid.capacitors)
        self._initial = GridState(
            np.array([r.tap for r in grid.regulators], np.int64),
            np.full(len(self.work.b), complex(math.nan)),
            np.array([c.closed for c in grid.capacitors], np.int64),
            np.zeros(len(self.network.control) + len(grid.capacitors)),
        )
        n_devices, first = len(grid.devices), self._initial
        states = (first.taps, first.v, first.capacitors, first.waited_s)
        self._widths = (len(grid.loads), n_devices, n_devices, *map(len, states))
        self._shapes = [(n,) for n in self._widths]

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
        return self.filled(GridState(self._initial.taps.copy(), np.empty(0, np.complex128)))

    def filled(self, state: GridState) -> GridState:
        """Return a state with everything that it leaves open."""
        first = self._initial
        return GridState(
            state.taps,
            state.v if len(state.v) else first.v.copy(),
            state.capacitors if len(state.capacitors) else first.capacitors.copy(),
            state.waited_s if len(state.waited_s) else first.waited_s.copy(),
        )

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
        if self.dead:
            raise PowerFlowDiverged(f"no supply for {self.dead}")
        start = state if len(state.v) else self.filled(state)
        # compiled code neither checks lengths nor converts: what does not fit must not get there
        load_scale = np.ascontiguousarray(injections.load_scale, np.float64)
        p_mw = np.ascontiguousarray(injections.p_mw, np.float64)
        q_mvar = np.ascontiguousarray(injections.q_mvar, np.float64)
        self.check_shapes((load_scale, p_mw, q_mvar), start)
        before = self.positions(np.asarray(start.taps, np.int64))
        out = np.empty(self.layout.size)
        case = Case(
            load_scale,
            p_mw,
            q_mvar,
            before.copy(),
            start.capacitors.copy(),
            start.waited_s.copy(),
            start.v.copy(),
            np.empty(len(self._nodes), np.complex128),
            out,
        )
        passes = MAX_PASSES if move_taps and self.controlled else 0
        iterations = self.run(case, passes, float(dt_s))
        if iterations < 0:
            raise PowerFlowDiverged(input_fault(self._grid, injections) or BEYOND)
        tap_moves, switchings, source_p_mw, source_q_mvar, losses_mw = out[:5].tolist()
        pcc = out[self.layout.pcc].reshape(-1, 5)
        return Solution(
            case.v_pu,
            source_p_mw,
            source_q_mvar,
            losses_mw,
            out[self.layout.devices].reshape(-1, 3),
            pcc[:, 0],
            pcc[:, 1],
            pcc[:, 2:],
            out[5:8],
            out[self.layout.branches],
            iterations,
            int(tap_moves),
            GridState(
                self.taps_after(start.taps, before, case.taps),
                case.v,
                case.capacitors,
                case.waited_s,
            ),
            int(switchings),
        )

    def run(self, case: Case, passes: int, dt_s: float) -> int:
        """Solve a scenario in place; return its iterations, or a negative code."""
        network, work = self._arrays
        code: int = kernels.solve(network, work, tuple(case), passes, dt_s, self.tolerance_pu)
        return code

    def check_shapes(
        self, injections: tuple[FloatArray, ...], state: GridState | BatchState
    ) -> None:
        """Refuse arrays whose last axis does not fit this grid, such as another engine's state.

        Raises:
            ValueError: Something does not fit.
        """
        given = (*injections, state.taps, state.v, state.capacitors, state.waited_s)
        shapes = [array.shape for array in given]
        if shapes == self._shapes:
            return
        lead = state.taps.shape[:-1]
        if shapes == [(*lead, n) for n in self._widths]:
            return
        for name, array, n in zip(_INPUTS, given, self._widths, strict=True):
            if array.shape != (*lead, n):
                raise ValueError(
                    f"{name} has the shape {array.shape}; {self._grid.name} on {self._name}"
                    f" takes {(*lead, n)}"
                )

    def positions(self, taps: IntArray) -> IntArray:
        """Return what the model's regulators stand at, from (..., n_regulators) taps."""
        return taps

    def taps_after(self, taps: IntArray, before: IntArray, after: IntArray) -> IntArray:
        """Return the taps once the model's regulators went from ``before`` to ``after``."""
        return after


class ThreePhaseEngine(FixedPointEngine):
    """The fixed point on every phase; agrees with OpenDSS."""

    def __init__(self, grid: Grid, tolerance_pu: float = DEFAULT_TOLERANCE_PU) -> None:
        super().__init__("threephase", grid, threephase_model(grid), tolerance_pu)


class BalancedEngine(FixedPointEngine):
    """The fixed point on the positive sequence: one node a bus, one position a bank."""

    def __init__(self, grid: Grid, tolerance_pu: float = DEFAULT_TOLERANCE_PU) -> None:
        self._bank_taps = BankTaps(banks_of(grid))
        super().__init__("balanced", grid, balanced_model(grid), tolerance_pu)

    def positions(self, taps: IntArray) -> IntArray:
        """Return the positions of the banks, from (..., n_regulators) taps."""
        return self._bank_taps.positions(taps)

    def taps_after(self, taps: IntArray, before: IntArray, after: IntArray) -> IntArray:
        """Return the taps once the banks went from ``before`` to ``after``."""
        return self._bank_taps.taps(taps, before, after)
