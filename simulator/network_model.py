"""The engines as an operator's model of the network; see `heron.powergrid.network_model`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from heron.powergrid.network_model import Flow
from heron.powergrid.networks import Grid
from simulator.engines.base import Engine, GridState, Injections, Solution
from simulator.engines.registry import make_engine

FloatArray = npt.NDArray[np.float64]

SETTLING_SOLVES = 20
"""Solves that a start allows for regulators to come to rest, as the plant's reset does."""


class EngineModel:
    """One engine under the interface of a `NetworkModel`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        buses = engine.grid.bus_by_name
        self._watched = np.array([buses[bus].monitored for bus, _ in engine.nodes])

    @property
    def nodes(self) -> tuple[tuple[str, str], ...]:
        """(bus, phase) of each node."""
        return self._engine.nodes

    @property
    def watched(self) -> npt.NDArray[np.bool_]:
        """(n_nodes,) whether the voltage band counts there."""
        return self._watched

    def settle(self, load_scale: FloatArray, p_mw: FloatArray, q_mvar: FloatArray) -> Flow:
        """Return the flow with all controls come to rest.

        Raises:
            PowerFlowDiverged: No solution.
        """
        injections = Injections(load_scale, p_mw, q_mvar)
        solution = self._engine.solve(injections, self._engine.initial_state())
        for _ in range(SETTLING_SOLVES):
            if solution.tap_moves == 0 and solution.capacitor_switchings == 0:
                break
            solution = self._engine.solve(injections, solution.state)
        return _flow(solution)

    def solve(
        self,
        load_scale: FloatArray,
        p_mw: FloatArray,
        q_mvar: FloatArray,
        state: GridState,
        *,
        move_taps: bool,
        dt_s: float,
    ) -> Flow:
        """Return the flow of one step.

        Raises:
            PowerFlowDiverged: No solution.
        """
        injections = Injections(load_scale, p_mw, q_mvar)
        return _flow(self._engine.solve(injections, state, move_taps=move_taps, dt_s=dt_s))


def _flow(solution: Solution) -> Flow:
    return Flow(
        np.abs(solution.v_pu),
        np.nanmean(solution.device_v_pu, axis=1),
        np.nan_to_num(solution.loading_pct) / 100.0,
        solution.source_p_mw,
        solution.state,
    )


def threephase(grid: Grid) -> EngineModel:
    """Return the model on every phase."""
    return EngineModel(make_engine("threephase", grid))


def balanced(grid: Grid) -> EngineModel:
    """Return the model of the balanced equivalent."""
    return EngineModel(make_engine("balanced", grid))
