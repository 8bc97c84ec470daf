"""Many scenarios of one grid in one call, on one set of factors.

Each scenario has its own injections, taps, capacitors and start, and runs through the same
compiled code as a single solve. Results carry a leading scenario axis (N, ...).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from heron.errors import ConfigError, ConfigProblem, PowerFlowDiverged
from heron.powergrid.networks import Grid
from simulator.engines import lanes
from simulator.engines.arrays import Case
from simulator.engines.base import (
    BatchState,
    BoolArray,
    ComplexArray,
    FloatArray,
    GridState,
    IntArray,
)
from simulator.engines.fixed_point import BalancedEngine, FixedPointEngine, ThreePhaseEngine
from simulator.engines.inputs import MAX_PASSES
from simulator.engines.kernels import BAD_INPUT, OK
from simulator.engines.lane_arrays import make_lanes

__all__ = ["BatchEngine", "BatchSolution", "BatchState", "make_batch_engine"]


@dataclass(frozen=True, slots=True)
class BatchSolution:
    """N solved power flows; each field is that of `Solution` with a leading scenario axis.

    Attributes:
        converged: (N,) False for a scenario that failed: its figures are NaN, and its state is
            the one that was given.
    """

    converged: BoolArray
    v_pu: ComplexArray
    source_p_mw: FloatArray
    source_q_mvar: FloatArray
    losses_mw: FloatArray
    device_v_pu: FloatArray
    pcc_p_mw: FloatArray
    pcc_q_mvar: FloatArray
    pcc_v_pu: FloatArray
    head_v_pu: FloatArray
    loading_pct: FloatArray
    iterations: IntArray
    tap_moves: IntArray
    capacitor_switchings: IntArray
    state: BatchState


class BatchEngine:
    """Solves N scenarios at once. Not safe to share between threads or processes."""

    def __init__(self, engine: FixedPointEngine) -> None:
        """Share the factors of an engine, which must have no other user meanwhile."""
        self._engine = engine
        self._lanes = make_lanes(engine.network, engine.work, engine.layout.size)
        self._still = np.unique(engine.network.reg[: engine.network.n_still, 0])
        first = engine.positions(engine.initial_state().taps)
        lanes.prepare(engine.network, engine.work, self._lanes, first)

    @property
    def grid(self) -> Grid:
        """The network that it was built for."""
        return self._engine.grid

    @property
    def nodes(self) -> tuple[tuple[str, str], ...]:
        """(bus, phase) of each column of ``BatchSolution.v_pu``."""
        return self._engine.nodes

    def initial_state(self, n: int) -> BatchState:
        """Return N states for a flat start with the grid's own tap positions."""
        return self.state_of([self._engine.initial_state()] * n)

    def state_of(self, states: list[GridState]) -> BatchState:
        """Return the batch of some single states."""
        full = [self._engine.filled(s) for s in states]
        return BatchState(
            np.stack([s.taps for s in full]),
            np.stack([s.v for s in full]),
            np.stack([s.capacitors for s in full]),
            np.stack([s.waited_s for s in full]),
        )

    def solve(
        self,
        load_scale: FloatArray,
        p_mw: FloatArray,
        q_mvar: FloatArray,
        state: BatchState,
        *,
        move_taps: bool = True,
        dt_s: float = math.inf,
    ) -> BatchSolution:
        """Solve one instant of every scenario.

        Args:
            load_scale: (N, n_loads) multipliers.
            p_mw: (N, n_devices) positive = injects.
            q_mvar: (N, n_devices) positive = injects.
            state: N states.
            move_taps: Let the controls of regulators and capacitors act.
            dt_s: Length of the step, against which the controls' delays count.

        Raises:
            ValueError: Shapes that do not fit.
            PowerFlowDiverged: The grid has an island with load, so that no scenario can solve.
        """
        engine = self._engine
        if engine.dead:
            raise PowerFlowDiverged(f"no supply for {engine.dead}")
        n = len(state.taps)
        load_scale = np.ascontiguousarray(load_scale, np.float64)
        p_mw = np.ascontiguousarray(p_mw, np.float64)
        q_mvar = np.ascontiguousarray(q_mvar, np.float64)
        engine.check_shapes((load_scale, p_mw, q_mvar), state)
        before = engine.positions(np.asarray(state.taps, np.int64))
        cases = Case(
            load_scale,
            p_mw,
            q_mvar,
            before.copy(),
            state.capacitors.copy(),
            state.waited_s.copy(),
            state.v.copy(),
            np.empty((n, len(engine.nodes)), np.complex128),
            np.empty((n, engine.layout.size)),
        )
        given = (load_scale, p_mw, q_mvar)
        sound = np.logical_and.reduce([np.isfinite(x).all(axis=1) for x in given])
        codes = np.where(sound, OK, BAD_INPUT)
        passes = MAX_PASSES if move_taps and engine.controlled else 0
        self._run(cases, passes, float(dt_s), codes)
        converged = codes > 0
        if not converged.all():
            bad = ~converged
            cases.v_pu[bad] = math.nan
            cases.out[bad] = math.nan
            cases.out[bad, :2] = 0.0
            cases.taps[bad] = before[bad]
            cases.v[bad] = state.v[bad]
            cases.capacitors[bad] = state.capacitors[bad]
            cases.waited_s[bad] = state.waited_s[bad]
        out, layout = cases.out, engine.layout
        pcc = out[:, layout.pcc].reshape(n, -1, 5)
        return BatchSolution(
            converged=converged,
            v_pu=cases.v_pu,
            source_p_mw=out[:, 2],
            source_q_mvar=out[:, 3],
            losses_mw=out[:, 4],
            device_v_pu=out[:, layout.devices].reshape(n, -1, 3),
            pcc_p_mw=pcc[:, :, 0],
            pcc_q_mvar=pcc[:, :, 1],
            pcc_v_pu=pcc[:, :, 2:],
            head_v_pu=out[:, 5:8],
            loading_pct=out[:, layout.branches],
            iterations=codes,
            tap_moves=out[:, 0].astype(np.int64),
            capacitor_switchings=out[:, 1].astype(np.int64),
            state=BatchState(
                engine.taps_after(state.taps, before, cases.taps),
                cases.v,
                cases.capacitors,
                cases.waited_s,
            ),
        )

    def _run(self, cases: Case, passes: int, dt_s: float, codes: IntArray) -> None:
        """Solve all scenarios in place, those together whose still regulators stand alike."""
        if len(codes) == 0:
            return
        still = cases.taps[:, self._still]
        if (still == still[0]).all():
            self._run_alike(cases, passes, dt_s, codes)
            return
        _, kinds = np.unique(still, axis=0, return_inverse=True)
        for kind in range(int(kinds.max()) + 1):
            rows = np.flatnonzero(kinds == kind)
            part = Case._make(a[rows] for a in cases)
            part_codes = codes[rows]
            self._run_alike(part, passes, dt_s, part_codes)
            codes[rows] = part_codes
            for whole, piece in zip(cases, part, strict=True):
                whole[rows] = piece

    def _run_alike(self, cases: Case, passes: int, dt_s: float, codes: IntArray) -> None:
        engine = self._engine
        net, work = engine.network, engine.work
        if not np.array_equal(cases.taps[0, self._still], work.taps[self._still]):
            lanes.prepare(net, work, self._lanes, cases.taps[0])
        lanes.solve_batch(net, self._lanes, cases, passes, dt_s, engine.tolerance_pu, codes)


def make_batch_engine(name: str, grid: Grid) -> BatchEngine:
    """Build a batch engine: ``threephase`` or ``balanced``.

    Raises:
        ConfigError: No batch engine has this name.
    """
    if name == "threephase":
        return BatchEngine(ThreePhaseEngine(grid))
    if name == "balanced":
        return BatchEngine(BalancedEngine(grid))
    expected = "expected threephase or balanced; the others solve one scenario at a time"
    raise ConfigError([ConfigProblem("engine", name, expected)])
